"""Random numbers of a test, all drawn from its seed. cocotb seeds only Python's `random`, and draws a seed of its own for each test of a module."""

from __future__ import annotations

import zlib

import cocotb
import numpy as np


def numpy_rng(stream: str = "") -> np.random.Generator:
    """A generator for this test; different `stream` names give independent ones, so that one knob does not disturb another."""
    return np.random.default_rng([cocotb.RANDOM_SEED, zlib.crc32(stream.encode())])
