"""Tests of one block, `psa_axil_share`."""
