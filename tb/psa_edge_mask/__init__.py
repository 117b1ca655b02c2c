"""Tests of one block, `psa_edge_mask`."""
