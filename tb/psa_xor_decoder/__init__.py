"""Tests of one block, `psa_xor_decoder`."""
