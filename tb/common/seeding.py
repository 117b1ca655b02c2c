"""Random numbers of a test, all drawn from its seed. cocotb seeds only Python's `random`, and draws a
separate seed for each test of a module.
"""

from __future__ import annotations

import hashlib
import zlib

import cocotb
import numpy as np


def seed_in_run(seed: int, test: str) -> int:
    """The seed that cocotb gives to a test of a run with `seed`; `test`: the name of its module and its own,
    with a dot between.
    """
    return seed + int(hashlib.sha1(test.encode()).hexdigest(), 16)


def seed_of_test() -> int:
    """The seed of this test, which cocotb has drawn from that of the run."""
    return cocotb.RANDOM_SEED


def generator(seed: int, stream: str = "") -> np.random.Generator:
    """A generator for a seed. Different `stream` names give independent generators, so that changing one knob
    does not affect the others.
    """
    return np.random.default_rng([seed, zlib.crc32(stream.encode())])


def numpy_rng(stream: str = "") -> np.random.Generator:
    """A generator for this test."""
    return generator(seed_of_test(), stream)
