"""Tests of one block, `psa_fifo`."""
