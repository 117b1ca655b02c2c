"""Tests of one block, `psa_writeback`."""
