"""The knobs of the environment, with types. All random choices derive from one of them, the seed."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pymodel.machine.config import ArrayConfig
from tb.common import settings
from tb.common.seeding import generator, seed_of_test

Range = tuple[int, int]  # both ends included


@dataclass(frozen=True)
class StreamKnobs:
    """How the in stream is driven. After `burst` beats it pauses for `idle` cycles. Inside a burst, `rate` is
    the probability that a cycle carries a beat.
    """

    rate: float = 1.0
    burst: Range = (1, 64)
    idle: Range = (0, 0)


@dataclass(frozen=True)
class Backpressure:
    """When the receiver of a channel is ready: for `on` cycles, then not for `off` cycles. Only cycles in
    which a transfer is offered count. If `off` is 0, it is always ready.
    """

    on: Range = (1, 1)
    off: Range = (0, 0)

    @property
    def always(self) -> bool:
        return self.off[1] == 0


STREAMS = {
    "full": StreamKnobs(),
    "gaps": StreamKnobs(rate=0.6),
    "bursts": StreamKnobs(burst=(1, 12), idle=(1, 9)),
    "starved": StreamKnobs(rate=0.5, burst=(1, 2), idle=(10, 40)),
}
BACKPRESSURE = {
    "ready": Backpressure(),
    "half": Backpressure(on=(1, 3), off=(1, 3)),
    "trickle": Backpressure(on=(1, 1), off=(3, 12)),
    "storm": Backpressure(on=(1, 8), off=(20, 60)),
}


@dataclass(frozen=True)
class RegisterKnobs:
    """How registers are accessed. `address_delay` and `data_delay` are the largest delays, in cycles, of a
    write's address and of its data. A delay is drawn for every write. After `burst` accesses there are no
    accesses for `idle` cycles. `answers`: when the host takes the answers on B and R.
    """

    address_delay: int = 0
    data_delay: int = 0
    burst: Range = (1, 64)
    idle: Range = (0, 0)
    answers: Backpressure = field(default_factory=Backpressure)


@dataclass
class EnvConfig:
    """The configuration of an environment. `seed` is the test's own unless a test changes it. `fault` names a
    fault of tb/env/faults.py; it is empty for none.
    """

    dut: Any
    array: ArrayConfig
    four_state: bool
    in_stream: StreamKnobs = field(default_factory=StreamKnobs)
    out_stream: Backpressure = field(default_factory=Backpressure)
    registers: RegisterKnobs = field(default_factory=RegisterKnobs)
    fault: str = ""
    seed: int = field(default_factory=seed_of_test)

    def rng(self, stream: str) -> np.random.Generator:
        """A numpy generator for the seed. Each `stream` name gives a separate generator."""
        return generator(self.seed, stream)

    def seed_random(self) -> None:
        """Seeds Python's own generator, for code that uses it."""
        random.seed(self.seed)


def from_settings(dut: Any) -> EnvConfig:
    """The configuration that the runner requests: build, simulator, and fault."""
    told = settings.get()
    return EnvConfig(dut, told.config, told.sim == "icarus", fault=told.fault)


def random_knobs(config: EnvConfig, rng: np.random.Generator) -> tuple[str, str, str]:
    """Draws streams and register knobs for a test. Returns the names of the profiles: in stream, out stream,
    answers to register accesses.
    """
    stream = str(rng.choice(["full", "gaps", "bursts", "starved"], p=[0.45, 0.25, 0.25, 0.05]))
    pressure, answers = map(str, rng.choice(["ready", "half", "trickle", "storm"], 2, p=[0.4, 0.3, 0.2, 0.1]))
    config.in_stream, config.out_stream = STREAMS[stream], BACKPRESSURE[pressure]
    address_delay, data_delay, idle = map(int, rng.integers(0, 4, 3))
    config.registers = RegisterKnobs(
        address_delay, data_delay, burst=(1, 8), idle=(0, 5 * idle), answers=BACKPRESSURE[answers]
    )
    return stream, pressure, answers
