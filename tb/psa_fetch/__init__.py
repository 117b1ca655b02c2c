"""Tests of one block, `psa_fetch`."""
