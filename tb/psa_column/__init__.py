"""Tests of one block, `psa_column`."""
