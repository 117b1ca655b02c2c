"""Tests of one block, `psa_slot_stream`."""
