"""Tests of one block, `psa_delay`."""
