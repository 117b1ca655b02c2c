"""Tests of one block, `psa_load`."""
