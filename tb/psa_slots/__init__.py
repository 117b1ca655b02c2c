"""Tests of one block, `psa_slots`."""
