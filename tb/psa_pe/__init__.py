"""Tests of one block, `psa_pe`."""
