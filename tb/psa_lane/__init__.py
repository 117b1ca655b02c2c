"""Tests of one block, `psa_lane`."""
