"""Tests of the machine with its DMA, `psa_system`."""
