"""Tests of one block, `psa_requant`."""
