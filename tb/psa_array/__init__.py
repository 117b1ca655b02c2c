"""Tests of one block, `psa_array`."""
