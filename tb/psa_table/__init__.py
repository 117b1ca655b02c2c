"""Tests of one block, `psa_table`."""
