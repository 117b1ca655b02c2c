"""Tensors whose pixels are known one by one, as layers that only name pixels.

Code that reshapes, transposes, cuts and joins tensors only moves pixels. Run on tensors of pixel numbers, it
says by itself where each pixel comes from. `recognise` finds the layers that move them in the same way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil

import numpy as np
import numpy.typing as npt

from pymodel.network.integer import (
    MAX_STRIDE,
    NOTHING,
    DepthToSpace,
    Gather,
    IntArray,
    MaxPool,
    Pair,
    Shape,
    Sides,
    SpaceToDepth,
    Upsample,
    View,
)

Step = View | MaxPool
Pixels = npt.NDArray[np.int64]

# What a step does: nothing, `Upsample`, `DepthToSpace`, `SpaceToDepth`, or it takes pixels at a stride.
SAME, REPEATED, BLOCKS, CHANNELS, STRIDED = "same", "repeated", "blocks", "channels", "strided"


@dataclass(frozen=True)
class Source:
    """What a channel is taken from: a whole tensor, or what one step makes of it, by `factor` rows and
    columns. `order`: the channels of the tensor that the step gets, if not all in order.
    """

    tensor: str
    kind: str = SAME
    factor: Pair = (1, 1)
    order: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Move:
    """Output channel c is channel `channel[c]` of `sources[origin[c]]`, both int [C]; -1 as channel: zeros.
    Around all channels lies `padding`, which is zero too.
    """

    sources: tuple[Source, ...]
    origin: IntArray
    channel: IntArray
    padding: Sides

    def shortcut(self) -> tuple[str, IntArray, Pair] | None:
        """The tensor, its channels and the stride, if a residual can read it without any layer."""
        if len(self.sources) != 1 or self.padding != NOTHING:
            return None
        (source,) = self.sources
        each = source.factor[0] * source.factor[1] if source.kind == CHANNELS else 1
        taken = self.channel >= 0
        if source.kind not in (SAME, CHANNELS, STRIDED) or (self.channel[taken] % each).any():
            return None
        channel = np.where(taken, self.channel // each, -1).astype(np.int16)
        return source.tensor, channel, source.factor

    def layers(self, name: str, shapes: Mapping[str, Shape], made: dict[Source, str]) -> list[Step]:
        """The layers that give the tensor `name` without its padding; none if it is a tensor that there is
        already. `made`: the tensors that hold sources, to which those that are new are added.
        """
        found: list[Step] = []
        gathers = self.gathers(shapes)
        for number, source in enumerate(self.sources):
            if source.kind == SAME or source in made:
                continue
            last = f"{name}.{number}" if gathers else name
            below = source.tensor
            if source.order is not None:
                below, order = f"{last}.order", np.array(source.order)
                found.append(Gather(below, (source.tensor,), np.zeros(len(order), np.int64), order))
            found.append(_step(last, below, source))
            made[source] = last
        if gathers:
            names = tuple(made.get(source, source.tensor) for source in self.sources)
            found.append(Gather(name, names, self.origin, self.channel))
        return found

    def gathers(self, shapes: Mapping[str, Shape]) -> bool:
        """Whether the channels are not all those of one source, in order."""
        if len(self.sources) != 1:
            return True
        (source,) = self.sources
        channels = len(source.order) if source.order is not None else shapes[source.tensor][0]
        each = source.factor[0] * source.factor[1]
        if source.kind == BLOCKS:
            channels //= each
        elif source.kind == CHANNELS:
            channels *= each
        return not np.array_equal(self.channel, np.arange(channels))


def _step(name: str, below: str, source: Source) -> Step:
    if source.kind == REPEATED:
        return Upsample(name, below, source.factor)
    if source.kind == BLOCKS:
        return DepthToSpace(name, below, source.factor)
    if source.kind == CHANNELS:
        return SpaceToDepth(name, below, source.factor)
    return MaxPool(name, below, (1, 1), source.factor)  # a window of one pixel


def recognise(pixels: Pixels, first: Mapping[str, int], shapes: Mapping[str, Shape]) -> Move | str:
    """The layers behind `pixels` int64 [C, H, W]: 0 for a zero, or the number of a pixel. Those of tensor t,
    in its order, have the numbers from `first[t]` on. If there are no such layers: what is wrong, as the end
    of a sentence.
    """
    padding, inner = _without_padding(pixels)
    if inner is None:
        return "zeros that are neither whole channels nor around them"
    names = sorted(first, key=lambda name: first[name])
    starts = np.array([first[name] for name in names])
    sources: dict[tuple[str, str, Pair], int] = {}
    origins, channels = [], []
    for plane in inner:
        if not plane[0, 0]:
            origins.append(0)
            channels.append(np.full(1, -1))
            continue
        name = names[int(np.searchsorted(starts, plane[0, 0], side="right")) - 1]
        found = _plane(plane - first[name], shapes[name])
        if found is None:
            return f"pixels of '{name}' that no layer of the machine moves there"
        kind, factor, taken = found
        origins.append(sources.setdefault((name, kind, factor), len(sources)))
        channels.append(taken)
    if not sources:
        return "zeros alone"
    origin = np.array(origins)
    listed = []
    channel = np.array([one[0] for one in channels])
    for number, (name, kind, factor) in enumerate(sources):
        order = None
        mine = [n for n in range(len(origin)) if origin[n] == number and channel[n] >= 0]
        if kind == BLOCKS:
            each = factor[0] * factor[1]
            wanted = np.concatenate([channels[n] for n in mine])
            in_order = all((channels[n] == channels[n][0] + np.arange(each)).all() for n in mine)
            if in_order and not (channel[mine] % each).any() and shapes[name][0] % each == 0:
                channel[mine] //= each
            else:
                order = tuple(int(one) for one in wanted)
                channel[mine] = np.arange(len(mine))
        listed.append(Source(name, kind, factor, order))
    return Move(tuple(listed), origin, channel, padding)


def _without_padding(pixels: Pixels) -> tuple[Sides, Pixels | None]:
    """The zeros around all channels, and what lies within."""
    there = pixels != 0
    if not there.any():
        return NOTHING, pixels
    rows, columns = (np.flatnonzero(there.any(axis=axes)) for axes in ((0, 2), (0, 1)))
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    inner = pixels[:, top:bottom, left:right]
    count = (inner != 0).sum(axis=(1, 2))
    if not np.isin(count, (0, inner[0].size)).all():
        return NOTHING, None
    sides = (int(top), int(left), pixels.shape[1] - int(bottom), pixels.shape[2] - int(right))
    return sides, inner


def _plane(place: Pixels, shape: Shape) -> tuple[str, Pair, IntArray] | None:
    """How a plane [h, w] takes its pixels from places in a tensor [C, H, W]: the kind of step, its factor,
    and channels of the step's output, or for `BLOCKS` those of the tensor that make the block.
    """
    if place.min() < 0 or place.max() >= np.prod(shape):
        return None
    channel, rest = np.divmod(place, shape[1] * shape[2])
    row, column = np.divmod(rest, shape[2])
    down, across = _axis(row[:, 0], shape[1]), _axis(column[0], shape[2])
    if down is None or across is None or (row != row[:, :1]).any() or (column != column[:1]).any():
        return None
    (up0, down0, at0), (up1, down1, at1) = down, across
    if max(up0, up1) > 1 and max(down0, down1) > 1:
        return None
    if max(up0, up1) > 1:
        block = channel[:up0, :up1]
        if (channel != np.tile(block, (place.shape[0] // up0, place.shape[1] // up1))).any():
            return None
        if (block == block[0, 0]).all():
            return REPEATED, (up0, up1), block.reshape(-1)[:1]
        return BLOCKS, (up0, up1), block.reshape(-1)
    if (channel != channel[0, 0]).any():
        return None
    factor = (down0, down1)
    if factor == (1, 1):
        return SAME, factor, channel[0, :1]
    if shape[1] % down0 == 0 and shape[2] % down1 == 0:
        return CHANNELS, factor, (channel[0, :1] * down0 + at0) * down1 + at1
    return (STRIDED, factor, channel[0, :1]) if at0 == at1 == 0 else None


def _axis(places: IntArray, size: int) -> tuple[int, int, int] | None:
    """(up, down, at) of rows or columns: each of `size` is taken `up` times, or of every `down` the one that
    is number `at`.
    """
    count = len(places)
    if count > size:
        up, rest = divmod(count, size)
        fits = not rest and up <= MAX_STRIDE and (places == np.arange(count) // up).all()
        return (up, 1, 0) if fits else None
    for down in range(1, MAX_STRIDE + 1):
        at = int(places[0])
        if ceil(size / down) == count and at < down and (places == np.arange(count) * down + at).all():
            return 1, down, at
    return None
