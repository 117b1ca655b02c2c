"""Tests of one block, `psa_credits`."""
