"""Tests of one block, `psa_out`."""
