"""Tests of one block, `psa_sequencer`."""
