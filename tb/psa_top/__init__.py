"""Tests of the whole accelerator, `psa_top`."""
