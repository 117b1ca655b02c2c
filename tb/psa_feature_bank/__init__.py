"""Tests of one block, `psa_feature_bank`."""
