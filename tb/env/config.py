"""Knobs of the environment, typed. All random choices derive from the seed of the test (tb/common/seeding.py)."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pymodel.config import ArrayConfig
from tb.common import settings
from tb.common.seeding import numpy_rng

Range = tuple[int, int]  # both ends included


@dataclass(frozen=True)
class StreamKnobs:
    """How the in stream is driven. After `burst` beats it pauses for `idle` cycles; inside a burst, `rate` is the probability that a cycle
    carries a beat."""

    rate: float = 1.0
    burst: Range = (1, 64)
    idle: Range = (0, 0)


@dataclass(frozen=True)
class Backpressure:
    """When the out stream is ready: for `on` cycles, then not for `off`, counting the cycles in which a word is there. No `off`: always."""

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
    """The largest delays, in cycles, of a write's address and of its data, each drawn for every write."""

    address_delay: int = 0
    data_delay: int = 0


@dataclass
class EnvConfig:
    """What an environment is built from. `fault` names an injection of tb/env/faults.py, empty for none."""

    dut: Any
    array: ArrayConfig
    four_state: bool
    in_stream: StreamKnobs = field(default_factory=StreamKnobs)
    out_stream: Backpressure = field(default_factory=Backpressure)
    registers: RegisterKnobs = field(default_factory=RegisterKnobs)
    fault: str = ""

    def rng(self, stream: str) -> np.random.Generator:
        """A numpy generator of this test; each `stream` name gives one of its own."""
        return numpy_rng(stream)


def from_settings(dut: Any) -> EnvConfig:
    """The configuration that the runner asks for: build, simulator, and the fault named by TATAMI_FAULT."""
    return EnvConfig(dut, settings.config(), settings.simulator() == "icarus", fault=os.environ.get("TATAMI_FAULT", ""))


def random_knobs(config: EnvConfig, rng: np.random.Generator) -> tuple[str, str]:
    """Draws streams and register delays for a test; returns the names of the stream profiles."""
    stream = str(rng.choice(["full", "full", "gaps", "bursts"]))
    pressure = str(rng.choice(["ready", "half", "trickle", "storm"], p=[0.4, 0.3, 0.2, 0.1]))
    config.in_stream, config.out_stream = STREAMS[stream], BACKPRESSURE[pressure]
    config.registers = RegisterKnobs(*(int(n) for n in rng.integers(0, 4, 2)))
    return stream, pressure
