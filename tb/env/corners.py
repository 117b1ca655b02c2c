"""Small networks at the limits of the machine, and programs with almost no content."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from pymodel.machine.config import ArrayConfig
from pymodel.machine.memory import Packet, Section, memories, packet
from pymodel.machine.program import End, Out, encode_all
from pymodel.network.integer import (
    Conv,
    GlobalPool,
    Linear,
    Network,
    Requant,
    Residual,
    around,
)

Weights = npt.NDArray[np.int64]


def requant(
    filters: int, *, multiplier: int = 1, shift: int = 0, bias: int = 0, relu: bool = False
) -> Requant:
    """The same requantisation for every filter."""
    return Requant(
        np.full(filters, bias), np.full(filters, multiplier), np.full(filters, shift), low=0 if relu else -128
    )


def conv(
    name: str, source: str, weight: Weights, scale: Requant | None = None, stride: int = 1, padding: int = 0
) -> Conv:
    return Conv(
        name,
        source,
        weight,
        scale or requant(len(weight), multiplier=3, shift=9),
        (stride, stride),
        around(padding),
    )


def corner_networks(rng: np.random.Generator, config: ArrayConfig) -> Iterator[tuple[str, Network]]:
    """Networks, each with a note that says what is special about it. T and G are those of the build."""
    t, g = config.size, config.group

    def some(*shape: int, keep: float = 1.0) -> Weights:
        return np.where(rng.random(shape) < keep, rng.integers(-128, 128, shape), 0)

    yield "one pixel, one weight", Network("one", (1, 1, 1), (conv("c", "input", some(1, 1, 1, 1)),))
    yield (
        "all filters empty",
        Network("empty", (2, 3, 3), (conv("c", "input", np.zeros((t + 1, 2, 3, 3), np.int64), padding=1),)),
    )
    yield "one row", Network("row", (1, 1, 2 * t + 1), (conv("c", "input", some(2, 1, 3, 3), padding=1),))
    yield (
        "one column",
        Network("column", (1, 2 * t + 1, 1), (conv("c", "input", some(2, 1, 5, 5), padding=2),)),
    )
    yield (
        "one input, T + 1 filters",
        Network("narrow", (1, 2, 3), (conv("c", "input", some(t + 1, 1, 1, 1)),)),
    )
    low = np.full((g, g, 3, 3), -128)
    yield (
        "lowest weights, no scale",
        Network(
            "low",
            (g, 3, 3),
            (conv("c", "input", low, requant(g, bias=-(2**31)), padding=1), conv("d", "c", low)),
        ),
    )
    yield (
        "highest multiplier",
        Network(
            "high", (1, 2, 2), (conv("c", "input", some(t, 1, 1, 1), requant(t, multiplier=65535, shift=47)),)
        ),
    )
    yield (
        "every select in every row",
        Network("selects", (g, 2, 2), (conv("c", "input", some(t, g, 3, 3), padding=1),)),
    )
    yield (
        "one lane more than a pass",
        Network("lanes", (t + 1, 1, 2), (conv("c", "input", some(1, t + 1, 1, 1)),)),
    )
    side = int(np.ceil(np.sqrt(config.acc_words * t))) + 1
    yield (
        "several chunks",
        Network("chunks", (1, side, side), (conv("c", "input", some(2, 1, 3, 3, keep=0.4), padding=1),)),
    )
    half = conv("c", "input", some(3, 2, 3, 3), stride=2, padding=1)
    both = Conv(
        "d",
        "c",
        some(3, 3, 1, 1),
        requant(3, multiplier=1, shift=8),
        residual=Residual("input", np.array([0, -1, 1]), np.array([300, 5, -128]), (2, 2)),
    )
    yield "odd size, stride, residual", Network("stride", (2, 5, 7), (half, both))
    yield (
        "pool of one pixel, then a row of weights",
        Network(
            "pool",
            (t + 1, 1, 1),
            (
                GlobalPool("p", "input", requant(t + 1)),
                Linear("fc", "p", some(3, t + 1), requant(3, shift=4, multiplier=1, relu=True)),
            ),
        ),
    )


def bare_programs(config: ArrayConfig) -> Iterator[tuple[str, list[Packet], int]]:
    """Programs without a layer: END alone, OUT of one word, OUT of a whole bank, and a program at the end of
    the memory.
    """
    spec = memories(config)["PROGRAM"]

    def program(address: int, *outs: tuple[int, int, int]) -> list[Packet]:
        words = encode_all([*(Out(*out) for out in outs), End()])
        return [packet(spec, Section("PROGRAM", address, words))]

    last, depth = config.group - 1, config.feature_depth
    yield "END alone", program(0), 0
    yield "END in the last word", program(config.program_depth - 1), config.program_depth - 1
    yield "one word", program(3, (0, 0, 1)), 3
    yield "the last word", program(1, (last, depth - 1, 1)), 1
    yield "one word, twice", program(0, (0, 1, 1), (last, 1, 1)), 0
    yield "a whole bank", program(2, (last, 0, depth)), 2
