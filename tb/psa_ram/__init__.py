"""Tests of one block, `psa_ram`."""
