"""Networks that together have every operation with every kind of window: kernels, strides, dilations and
paddings of each side by themselves, every value of padding, and every reader of a tensor that only names
pixels. Random networks meet many of these rarely.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from typing import Literal

import numpy as np
import numpy.typing as npt

from pymodel.machine.config import ArrayConfig
from pymodel.network.integer import (
    INPUT,
    MAX_KERNEL,
    Add,
    AveragePool,
    Conv,
    DepthToSpace,
    Gather,
    GlobalPool,
    Layer,
    Linear,
    MaxPool,
    Network,
    Pair,
    Requant,
    Residual,
    Sides,
    SpaceToDepth,
    Upsample,
    View,
    Window,
)

Of = Literal["convolution", "depthwise", "groups", "mean", "maximum"]

CHANNELS = 4
SHAPE = (CHANNELS, 11, 12)
SMALL = (4, 5)  # pixels where windows do not matter
STRIDES: tuple[Pair, ...] = ((1, 1), (2, 2), (3, 3), (4, 4), (1, 2), (3, 1))
# of each kind of window. At each stride three kinds or more have a square kernel of 2, 3, 4 to 7 and 8 to 11.
SIZES: dict[Of, tuple[Pair, ...]] = {
    "convolution": ((1, 1), (2, 2), (5, 5), (MAX_KERNEL, MAX_KERNEL), (10, 4)),
    "depthwise": ((1, 1), (4, 4), (3, 3), (MAX_KERNEL, MAX_KERNEL), (1, 3)),
    "groups": ((1, 1), (2, 2), (7, 7), (MAX_KERNEL, MAX_KERNEL), (3, 2)),
    "mean": ((1, 1), (6, 6), (3, 3), (MAX_KERNEL, MAX_KERNEL), (2, 5)),
    "maximum": ((1, 1), (2, 2), (3, 3), (MAX_KERNEL, MAX_KERNEL), (8, 1)),
}
APART: tuple[Pair, ...] = ((1, 1), (1, 2), (2, 1), (2, 2))  # dilations
PADS = (0, -128, 127, -5, 77)


def requant(rng: np.random.Generator, filters: int, inputs: int) -> Requant:
    """Brings sums of so many products near the range of a pixel; any zero point and clamps."""
    shift = 10 + int(np.log2(inputs) / 2)
    low, high = sorted(int(v) for v in rng.integers(-128, 128, 2))
    zero = int(rng.integers(-128, 128))
    clamps = ((0, 0, 127), (zero, zero, 127), (zero, -128, 127), (0, low, high))
    return Requant(
        rng.integers(-2000, 2000, filters),
        rng.integers(1, 40, filters),
        np.full(filters, shift),
        *clamps[int(rng.integers(len(clamps)))],
    )


def weights(rng: np.random.Generator, *shape: int) -> npt.NDArray[np.int64]:
    return np.where(rng.random(shape) < 0.5, rng.integers(-128, 128, shape), 0)


def windowed(rng: np.random.Generator, of: Of, name: str, window: Window, pad: int) -> Layer:
    """A layer over the input, with as many channels. A mean has no dilation, and a maximum no `pad`."""
    size, places = window.size, window.size[0] * window.size[1]
    if of == "maximum":
        return MaxPool(name, INPUT, size, window.stride, window.padding, window.dilation)
    if of == "mean":
        return AveragePool(
            name, INPUT, requant(rng, CHANNELS, places), size, window.stride, window.padding, pad
        )
    groups = {"convolution": 1, "depthwise": CHANNELS, "groups": 2}[of]
    weight = weights(rng, CHANNELS, CHANNELS // groups, *size)
    return Conv(
        name,
        INPUT,
        weight,
        requant(rng, CHANNELS, weight[0].size),
        window.stride,
        window.padding,
        dilation=window.dilation,
        groups=groups,
        pad=pad,
    )


def windows(rng: np.random.Generator) -> Iterator[tuple[str, Network]]:
    """Every kind of window, in every shape, at every stride; a network for each kind and stride."""
    for number, stride in enumerate(STRIDES):
        turns = dict.fromkeys(range(MAX_KERNEL + 1), number)
        for of, sizes in SIZES.items():
            layers: list[Layer] = []
            for size in sizes:
                alike = min(size[0], 4) if size[0] < 8 else MAX_KERNEL  # kernels that take turns
                turn = turns[alike] % 3
                turns[alike] += size[0] == size[1]
                apart = dilation(of, size, turn, number)
                window = Window(size, stride, padding(Window(size, dilation=apart), turn), apart)
                pad = PADS[(number + len(layers)) % len(PADS)]
                layers.append(windowed(rng, of, f"layer{len(layers)}", window, pad))
            yield f"{of}, stride {stride}", Network("windows", SHAPE, tuple(layers))


def dilation(of: Of, size: Pair, turn: int, number: int) -> Pair:
    """Kernels of 2 are dilated where `padding` takes some of their reach, which would else be 1."""
    if size == (2, 2):
        return (APART[3 * (number > 2)], APART[1], APART[2])[turn]
    return APART[number % 4] if size == (3, 3) and of != "mean" else APART[0]


def padding(window: Window, turn: int) -> Sides:
    """None, some or all of the reach at each side: in three turns each of them at every side. Two opposite
    sides never take more than the reach together, so that no place of the window leaves the source at both.
    """

    def sides(most: int, turn: int) -> Pair:
        return ((0, most), (most, 0), (most // 2, most // 2))[turn % 3]

    rows, columns = (reach - 1 for reach in window.reach)
    (top, bottom), (left, right) = sides(rows, turn), sides(columns, turn + 1)
    return (top, left, bottom, right)


def phases(rng: np.random.Generator) -> Iterator[tuple[str, Network]]:
    """Planes of every number of phases, written by a layer of one and more passes that reads over all of its
    edges.
    """
    behind: tuple[tuple[Pair, ...], ...] = (
        ((1, 2),),
        ((3, 1),),
        ((2, 2),),
        ((4, 4),),
        ((2, 3), (3, 2)),
    )
    for strides, (k, m) in product(behind, ((1, 1), (2, 3), (3, 3), (5, 5))):
        # of one channel, so that it takes a lane for each place however it is packed
        weight = rng.integers(1, 128, (CHANNELS, 1, k, m))
        around = (k // 2, m // 2, k // 2, m // 2)
        layers: list[Layer] = [Conv("first", INPUT, weight, requant(rng, CHANNELS, k * m), padding=around)]
        for stride in strides:
            layers.append(MaxPool(f"stride{len(layers)}", layers[-1].name, (1, 1), stride))
        yield f"{k} x {m}, then stride {strides}", Network("phases", (1, *SHAPE[1:]), tuple(layers))


def sizes(rng: np.random.Generator, config: ArrayConfig) -> Iterator[tuple[str, Network]]:
    """Filters, pixels and lanes below, at and above T, each with each, and no lane."""
    counts = (1, config.size - 1, config.size, config.size + 1, 2 * config.size)
    for pixels in counts:
        layers: list[Layer] = [
            Conv(f"{filters}filters", INPUT, weights(rng, filters, 1, 1, 1), requant(rng, filters, 1))
            for filters in counts
        ]
        for filters, lanes in product(counts, (0, pixels)):
            # only the first filter has weights, so that they are in one tile
            weight = np.zeros((filters, pixels), np.int64)
            weight[0] = 99 * (lanes > 0)
            layers.append(Linear(f"{filters}by{lanes}", INPUT, weight, requant(rng, filters, pixels)))
        yield f"{pixels} pixels", Network("sizes", (1, 1, pixels), tuple(layers))


def tiles(rng: np.random.Generator, config: ArrayConfig) -> Iterator[tuple[str, Network]]:
    """Each operation in one, two and more tiles, with and without ReLU."""
    for channels, relu in product((1, config.size + 1, 2 * config.size + 1), (False, True)):

        def scale(inputs: int, channels: int = channels, relu: bool = relu) -> Requant:
            drawn = requant(rng, channels, inputs)
            return replace(drawn, low=drawn.zero if relu else -128, high=127)

        yield (
            f"{channels} channels",
            Network(
                "tiles",
                (channels, *SMALL),
                (
                    AveragePool("mean", INPUT, scale(4), (2, 2), (1, 1), (1, 1, 0, 0)),
                    MaxPool("maximum", "mean", (2, 2), (1, 1), (1, 1, 0, 0)),
                    Conv("conv", INPUT, weights(rng, channels, channels, 1, 1), scale(channels)),
                    Add(
                        "sum", (INPUT, "maximum", "conv"), rng.integers(-300, 301, (3, channels)), scale(300)
                    ),
                    GlobalPool("all", "sum", scale(20)),
                    Linear("linear", "all", weights(rng, channels, channels), scale(channels)),
                ),
            ),
        )


def residuals(rng: np.random.Generator) -> Iterator[tuple[str, Network]]:
    for stride in ((1, 1), (2, 2), (1, 2), (2, 1), (3, 1)):
        added = Residual(INPUT, rng.integers(-1, CHANNELS, 5), rng.integers(-300, 301, 5), stride)
        conv = Conv(
            "conv", INPUT, weights(rng, 5, CHANNELS, 1, 1), requant(rng, 5, 40), stride, residual=added
        )
        yield f"residual, stride {stride}", Network("residual", SHAPE, (conv,))


def views(rng: np.random.Generator) -> Iterator[tuple[str, Network]]:
    """Every layer that only names pixels, before every kind of reader; gathers of one to three tensors, with
    zeros and without.
    """
    first = Conv("first", INPUT, weights(rng, CHANNELS, CHANNELS, 3, 3), requant(rng, CHANNELS, 36))
    second = Conv("second", INPUT, weights(rng, CHANNELS, CHANNELS, 3, 3), requant(rng, CHANNELS, 36))
    found: list[tuple[tuple[Layer, ...], View]] = [
        ((first,), Upsample("view", "first", (2, 3))),
        ((first,), DepthToSpace("view", "first", (2, 2))),
        ((), SpaceToDepth("view", INPUT, (2, 2))),
        ((first, second), Gather.concat("view", ("first", "second"), (CHANNELS, CHANNELS))),
    ]
    third = MaxPool("third", "first", (1, 1))
    for count, zeros in product((1, 2, 3), (False, True)):
        sources = ("first", "second", "third")[:count]
        origin, channel = np.arange(7) % count, rng.integers(0, CHANNELS, 7)
        if zeros:
            channel[-1] = -1
        found.append(((first, second, third), Gather("view", sources, origin, channel)))
    for before, view in found:
        rows, columns = (8, 10) if isinstance(view, SpaceToDepth) else (6, 7)
        network = Network("view", (CHANNELS, rows, columns), (*before, view))
        channels, height, width = network.shapes["view"]
        pixels = channels * height * width
        yield (
            type(view).__name__,
            replace(
                network,
                layers=(
                    *network.layers,
                    Conv("window", "view", weights(rng, 5, channels, 3, 3), requant(rng, 5, 70)),
                    Linear("pixels", "view", weights(rng, 2, pixels), requant(rng, 2, pixels)),
                    Add(
                        "sum",
                        ("view", "view"),
                        rng.integers(-9, 10, (2, channels)),
                        requant(rng, channels, 9),
                    ),
                    Gather("again", ("view",), np.zeros(2, int), np.array([channels - 1, 0])),
                    Conv("last", "again", weights(rng, 2, 2, 1, 1), requant(rng, 2, 2)),
                ),
            ),
        )


def means(rng: np.random.Generator) -> Iterator[tuple[str, Network]]:
    """Means of the pixels inside only, over every edge, in planes of several phases too."""
    for size, stride, sides in (
        ((3, 3), (1, 1), (1, 1, 1, 1)),
        ((3, 3), (2, 2), (1, 1, 1, 1)),
        ((2, 2), (1, 1), (0, 0, 1, 1)),
        ((3, 2), (1, 3), (2, 1, 1, 0)),
    ):
        window = Window(size, stride, sides)
        whole = window.whole("mean", *SHAPE[1:])
        mean = AveragePool("mean", INPUT, requant(rng, CHANNELS, whole), size, stride, sides, whole=whole)
        behind = MaxPool("maximum", "mean", (2, 2), (2, 1))
        yield f"mean of the pixels inside, {size}", Network("means", SHAPE, (mean, behind))


def networks(rng: np.random.Generator, config: ArrayConfig) -> Iterator[tuple[str, Network, str]]:
    """All of them, each with a note that says what is special about it, and how it is packed."""
    for note, network in sizes(rng, config):
        yield note, network, "tight"  # no lanes for weights that are zero
    for found in (windows(rng), phases(rng), tiles(rng, config), residuals(rng), views(rng), means(rng)):
        for note, network in found:
            yield note, network, str(rng.choice(["tight", "dense"]))
