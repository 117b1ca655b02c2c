"""Tests of one block, `psa_dma_control`."""
