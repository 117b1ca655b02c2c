"""Tests of one block, `psa_accumulator`."""
