"""Tests of one block, `psa_regs`."""
