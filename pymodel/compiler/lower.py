"""A layer as one matrix over inputs (channel, tap), and where each input's pixels lie."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from pymodel.compiler.layout import IntArray, Layout
from pymodel.compiler.planes import Planes
from pymodel.machine.config import HALO, ArrayConfig
from pymodel.machine.errors import TatamiError
from pymodel.machine.memory import memories
from pymodel.machine.planes import ceil_div
from pymodel.network.integer import (
    LOWEST,
    Add,
    AveragePool,
    Computed,
    Conv,
    GlobalPool,
    Linear,
    MaxPool,
    Pair,
    Window,
)
from pymodel.packing.pack import Block

WHOLE = 1 << 20  # a matrix of so many elements is one block
# of a layer: GROUP has so many bits for the number of one
MAX_TAPS = 1 << next(f.bits for f in memories(ArrayConfig("any"))["GROUP"].fields if f.name == "tap")


@dataclass(frozen=True)
class Tap:
    """Where an input's pixels lie, relative to its plane, for one phase of the output: see TAP in
    docs/formats.md.
    """

    offset: int
    dy: int
    dx: int


@dataclass(frozen=True)
class Matrix:
    """A layer as the array sees it: a matrix of `filters` x K, of which only the `blocks` are held; all other
    weights are zero. Every filter is in one block.

    An input [K] is T pixels from (bank, base, tap). `taps[phase][tap]` for every phase of the output. `last`
    is the row and the column from which EDGE counts the distances to the bottom and to the right. `pad`: the
    value of a pixel outside. `maximum`: a filter is the largest of the inputs that have a weight, not a sum.
    `runs`: numbers of the output's rows [H'] and columns [W'] that EDGE has in place of distances, if any.
    """

    filters: int
    blocks: tuple[Block, ...]
    bank: IntArray
    base: IntArray
    tap: IntArray
    taps: list[list[Tap]]
    last: Pair = (0, 0)
    pad: int = 0
    maximum: bool = False
    runs: tuple[IntArray, IntArray] | None = None

    @property
    def nonzero(self) -> int:
        """Weights that are not zero."""
        return sum(int(np.count_nonzero(block.weight)) for block in self.blocks)

    def columns(self, first: int, last: int) -> IntArray:
        """Columns `first` to `last`, without it, of the matrix: int64 [filters, last - first]."""
        found = np.zeros((self.filters, last - first), dtype=np.int64)
        for block in self.blocks:
            inside = (block.inputs >= first) & (block.inputs < last)
            found[block.filters[:, None], block.inputs[inside] - first] = block.weight[:, inside]
        return found


def lower(layer: Computed, planes: Mapping[str, Planes], out: Layout, limit: int) -> Matrix:
    """The layer's matrix. `planes`: of the tensors that it reads. `out`: how its own lies. `limit`: the
    largest weight that a slot holds.
    """
    match layer:
        case Conv():
            inputs = _Inputs(layer.name, out)
            inputs.add_window(planes[layer.source], layer.window, zeros=layer.pad == 0)
            count = len(layer.weight)
            weight = layer.weight.astype(np.int64).reshape(layer.groups, count // layer.groups, -1)
            blocks = list(diagonal(weight, out.size))
            if layer.residual is not None:
                r = layer.residual
                factor = np.where(r.channel < 0, 0, r.weight)
                channel = np.where(r.channel < 0, 0, r.channel)
                extra = inputs.add_scaled(planes[r.source], channel, factor, r.stride, limit)
                blocks = [_extended(block, extra) for block in blocks]
            return inputs.matrix(count, blocks, layer.pad)
        case AveragePool() if layer.whole:
            return _mean_inside(layer, planes[layer.source], out)
        case AveragePool():
            return _pool(layer, planes[layer.source], out, layer.pad, maximum=False)
        case MaxPool():
            return _pool(layer, planes[layer.source], out, LOWEST, maximum=True)
        case Linear():
            count, width = layer.weight.shape
            whole = Block(np.arange(count), np.arange(width), layer.weight.astype(np.int64))
            return _pixels(planes[layer.source], count, [whole])
        case GlobalPool():
            # each filter sums the pixels of its own channel
            channels, height, width = planes[layer.source].layout.shape
            ones = np.ones((channels, 1, height * width), dtype=np.int64)
            # where it is small, filters may be put together in other tiles, and the next layer begins earlier
            together = channels if channels * ones.size <= WHOLE else out.size
            return _pixels(planes[layer.source], channels, list(diagonal(ones, together)))
        case Add():
            inputs = _Inputs(layer.name, out)
            channels = out.shape[0]
            blocks = [
                Block(tile, np.zeros(0, np.int64), np.zeros((len(tile), 0), np.int64))
                for tile in _tiles(channels, out.size)
            ]
            for source, weight in zip(layer.sources, layer.weight, strict=True):
                extra = inputs.add_scaled(planes[source], np.arange(channels), weight, (1, 1), limit)
                blocks = [_extended(block, extra) for block in blocks]
            return inputs.matrix(channels, blocks)


def _pool(layer: AveragePool | MaxPool, source: Planes, out: Layout, pad: int, maximum: bool) -> Matrix:
    """A window of each channel. A maximum has the weight -1: see docs/machine.md."""
    inputs = _Inputs(layer.name, out)
    inputs.add_window(source, layer.window, zeros=not maximum and pad == 0)
    channels, places = out.shape[0], layer.size[0] * layer.size[1]
    weight = np.full((channels, 1, places), -1 if maximum else 1, dtype=np.int64)
    return inputs.matrix(channels, list(diagonal(weight, out.size)), pad, maximum)


def _mean_inside(layer: AveragePool, source: Planes, out: Layout) -> Matrix:
    """A window of each channel whose pixels weigh more where fewer of them are inside.

    Rows of the output for which the window lies alike are a run, numbered from the top. What a place of the
    window weighs in a run is a sum of steps, one at each run in which it changes. A step is an input of its
    own: the same pixel, masked before that run. EDGE has the numbers of runs in place of distances, from both
    ends, since a place that leaves the source at the bottom is stepped through from there. Columns likewise.
    """
    inputs = _Inputs(layer.name, out)
    axes = [
        _Steps.of(layer.name, there) for there in layer.window.there(layer.name, *source.layout.shape[1:])
    ]
    terms = [(y, x) for y in axes[0].terms for x in axes[1].terms]
    weight = np.array([y.weight * x.weight for y, x in terms], dtype=np.int64)
    masks = [((y.place, x.place), (y.mask, x.mask)) for y, x in terms]
    inputs.add_masked(source, layer.window, masks)
    channels = out.shape[0]
    blocks = diagonal(np.broadcast_to(weight, (channels, 1, len(weight))), out.size)
    return replace(inputs.matrix(channels, blocks), runs=(axes[0].run, axes[1].run))


@dataclass(frozen=True)
class _Step:
    """What a place of a window weighs more from some run on; `mask` as TAP has it."""

    place: int
    weight: int
    mask: int


@dataclass(frozen=True)
class _Steps:
    """`run` [H']: the run of each row (or column) of the output."""

    run: IntArray
    terms: list[_Step]

    @staticmethod
    def of(name: str, there: npt.NDArray[np.bool_]) -> _Steps:
        """Along one axis; `there` [places, outputs] as `Window.there` has it."""
        counts = there.sum(axis=0)
        weight = np.where(there, np.lcm.reduce(counts) // counts, 0)
        run = np.concatenate([[0], np.cumsum((np.diff(weight, axis=1) != 0).any(axis=0))])
        last = int(run[-1])
        if last > HALO:
            raise TatamiError(
                f"layer '{name}': its windows lie in {last + 1} different ways at the edges, must be at"
                f" most {HALO + 1}"
            )
        by_run = weight[:, np.searchsorted(run, np.arange(last + 1))]
        terms = []
        for place, weights in enumerate(by_run):
            if not weights.any():
                continue
            if weights[0] == 0 and weights[-1] == 0:
                # a step back at the far end would be of pixels that are not there
                raise TatamiError(
                    f"layer '{name}': place {place} of its window leaves the source on both sides; this"
                    " needs pixels outside that count"
                )
            behind = bool(weights[-1] == 0)
            steps = np.diff(weights[::-1] if behind else weights, prepend=0)
            terms += [
                _Step(place, int(step), number if behind else -number)
                for number, step in enumerate(steps)
                if step
            ]
        return _Steps(run, terms)


def _tiles(filters: int, size: int) -> Iterator[IntArray]:
    """Filters in order, `size` at a time."""
    for first in range(0, filters, size):
        yield np.arange(first, min(first + size, filters))


def diagonal(weight: npt.NDArray[Any], size: int) -> Iterator[Block]:
    """Blocks of a matrix that consists of weights [groups, f, k] along its diagonal: whole groups, up to
    `size` filters together, or one group if it has more.
    """
    groups, filters, inputs = weight.shape
    for some in _tiles(groups, max(1, size // filters)):
        part = np.zeros((len(some), filters, len(some), inputs), dtype=weight.dtype)
        part[np.arange(len(some)), :, np.arange(len(some))] = weight[some]
        yield Block(
            np.arange(some[0] * filters, (some[-1] + 1) * filters),
            np.arange(some[0] * inputs, (some[-1] + 1) * inputs),
            part.reshape(len(some) * filters, len(some) * inputs),
        )


def _extended(block: Block, extra: _Extra) -> Block:
    """The block with those of the inputs `extra` that its filters have."""
    rows = extra.filter_weights(block.filters)
    used = (rows != 0).any(axis=0)
    return Block(
        block.filters,
        np.concatenate([block.inputs, extra.first + np.flatnonzero(used)]),
        np.concatenate([block.weight, rows[:, used]], axis=1),
    )


@dataclass(frozen=True)
class _Extra:
    """Inputs from number `first` on that are one pixel each: input i is a piece of the weights of channel
    `channel[i]`, no more of them than `limit`. `wanted` [F]: each filter's channel; `weight` [F].
    """

    first: int
    channel: IntArray
    piece: IntArray
    wanted: IntArray
    weight: IntArray
    limit: int

    def filter_weights(self, filters: IntArray) -> IntArray:
        """What these filters have of each input, [filters, inputs]."""
        weight = self.weight[filters, None]
        rest = np.sign(weight) * np.clip(np.abs(weight) - self.piece * self.limit, 0, self.limit)
        return np.where(self.wanted[filters, None] == self.channel, rest, 0)


class _Inputs:
    """The inputs of a layer as they are added: banks, words and taps."""

    def __init__(self, name: str, out: Layout) -> None:
        self.name = name
        self.out = out
        self.bank: list[IntArray] = []
        self.base: list[IntArray] = []
        self.tap: list[IntArray] = []
        self.zero: list[npt.NDArray[np.bool_]] = []
        self.taps: list[list[Tap]] = [[] for _ in range(out.phase[0] * out.phase[1])]
        self.last: Pair = (0, 0)

    @property
    def count(self) -> int:
        return sum(map(len, self.bank))

    def _add(self, source: Planes, channel: IntArray, place: IntArray, places: int) -> None:
        """Inputs that read channels [K] at places [K] of a window, whose taps are added next."""
        self.bank.append(source.bank[channel])
        self.base.append(source.base[channel])
        self.zero.append(source.zero[channel])
        self.tap.append(len(self.taps[0]) + source.kind[channel] * places + place)

    def add_window(self, source: Planes, window: Window, zeros: bool) -> None:
        """All channels at all places of a window. `zeros`: a pixel outside counts as 0."""
        places = window.size[0] * window.size[1]
        channels = len(source.bank)
        if not zeros and source.zero.any():
            # a channel of zeros is not read at all, so neither is what lies around it
            raise TatamiError(
                f"layer '{self.name}': channel {source.zero.argmax()} of '{source.name}' is of zeros, which"
                " needs a padding of zeros"
            )
        self._add(
            source, np.repeat(np.arange(channels), places), np.tile(np.arange(places), channels), places
        )
        have, want = source.layout.sub_plane_size(0, 0), self.out.sub_plane_size(0, 0)
        self.last = max(have[0], want[0]) - 1, max(have[1], want[1]) - 1
        for kind in range(len(source.offsets)):
            for y in range(window.size[0]):
                for x in range(window.size[1]):
                    shift = (
                        y * window.dilation[0] - window.padding[0],
                        x * window.dilation[1] - window.padding[1],
                    )
                    self._add_tap(source, kind, window.stride, shift, zeros)

    def add_masked(self, source: Planes, window: Window, masks: Sequence[tuple[Pair, Pair]]) -> None:
        """All channels at some places of a window, each with its masks (dy, dx)."""
        channels = len(source.bank)
        self._add(
            source,
            np.repeat(np.arange(channels), len(masks)),
            np.tile(np.arange(len(masks)), channels),
            len(masks),
        )
        for kind in range(len(source.offsets)):
            for place, (dy, dx) in masks:
                shift = place[0] - window.padding[0], place[1] - window.padding[1]
                for phase, taps in enumerate(self.taps):
                    pixel = self._pixel(phase, window.stride, shift)
                    taps.append(Tap(source.address(kind, *pixel), dy, dx))

    def _pixel(self, phase: int, stride: Pair, shift: Pair) -> Pair:
        """The pixel of the source at `shift` from the window of the first output of a phase."""
        q = divmod(phase, self.out.phase[1])
        return stride[0] * q[0] + shift[0], stride[1] * q[1] + shift[1]

    def add_scaled(
        self, source: Planes, channel: IntArray, weight: IntArray, stride: Pair, limit: int
    ) -> _Extra:
        """One pixel of channel `channel[f]` for each filter [F] whose `weight` is not zero, as many times as
        slots of at most `limit` are needed to hold it.
        """
        used = np.unique(channel[weight != 0])
        pieces = ceil_div(int(np.abs(weight).max(initial=0)), limit)
        extra = _Extra(
            first=self.count,
            channel=np.tile(used, pieces),
            piece=np.repeat(np.arange(pieces), len(used)),
            wanted=channel.astype(np.int64),
            weight=weight.astype(np.int64),
            limit=limit,
        )
        self._add(source, extra.channel, np.zeros(len(extra.channel), np.int64), 1)
        for kind in range(len(source.offsets)):
            self._add_tap(source, kind, stride, (0, 0), zeros=True)
        return extra

    def _add_tap(self, source: Planes, kind: int, stride: Pair, shift: Pair, zeros: bool) -> None:
        """One more tap, `shift` from the first pixel of a window."""
        for phase, taps in enumerate(self.taps):
            q, pixel = divmod(phase, self.out.phase[1]), self._pixel(phase, stride, shift)
            dy, dx = (self._mask(axis, pixel[axis], source.layout, q[axis], zeros) for axis in (0, 1))
            taps.append(Tap(source.address(kind, *pixel), dy, dx))

    def _mask(self, axis: int, pixel: int, source: Layout, phase: int, zeros: bool) -> int:
        """How far a tap reaches over an edge as TAP has it, against the distances in EDGE. The tap reads row
        or column `pixel` of the source for the first one of the output's `phase`.
        """
        step, part = divmod(pixel, source.phase[axis])
        have = ceil_div(source.shape[1 + axis] - part, source.phase[axis])
        want = ceil_div(self.out.shape[1 + axis] - phase, self.out.phase[axis])
        behind = want > 0 and want - 1 + step >= have
        if want <= 0 or (step >= 0 and not behind):
            return 0
        if step < 0 and behind and not zeros:
            # EDGE and TAP can mask one side only; on the other it reads the zeros behind the map
            raise TatamiError(
                f"layer '{self.name}': its padding makes the output so much larger than the source that a tap"
                " leaves it on both sides; this needs a padding of zeros"
            )
        reach = step if step < 0 else step + self.last[axis] + 1 - have
        if not -HALO <= reach <= HALO:
            raise TatamiError(
                f"layer '{self.name}': a tap reaches {abs(reach)} pixels of a plane over its edge, must be at"
                f" most {HALO}"
            )
        return reach

    def matrix(self, filters: int, blocks: Iterable[Block], pad: int = 0, maximum: bool = False) -> Matrix:
        """The matrix of all inputs that were added. Inputs that are zero have no weight."""
        if len(self.taps[0]) > MAX_TAPS:
            raise TatamiError(
                f"layer '{self.name}': it has {len(self.taps[0])} taps, must be at most {MAX_TAPS}"
            )
        zero = np.concatenate(self.zero)
        if zero.any():
            blocks = [replace(b, weight=np.where(zero[b.inputs], 0, b.weight)) for b in blocks]
        return Matrix(
            filters,
            tuple(blocks),
            np.concatenate(self.bank),
            np.concatenate(self.base),
            np.concatenate(self.tap),
            self.taps,
            self.last,
            pad,
            maximum,
        )


def _pixels(source: Planes, filters: int, blocks: Sequence[Block]) -> Matrix:
    """A matrix over single pixels of the source, in the order of `torch.flatten`: an input has one pixel, the
    first of T.
    """
    channels, height, width = source.layout.shape
    t = source.layout.size
    pixels = np.array(
        [
            [source.address(kind, y, x) for y in range(height) for x in range(width)]
            for kind in range(len(source.offsets))
        ],
        dtype=np.int64,
    )[source.kind]
    zero = np.repeat(source.zero, height * width)
    if zero.any():
        blocks = [replace(b, weight=np.where(zero[b.inputs], 0, b.weight)) for b in blocks]
    return Matrix(
        filters,
        tuple(blocks),
        np.repeat(source.bank, height * width),
        (source.base[:, None] + pixels // t).reshape(channels * height * width),
        (pixels % t).reshape(-1),
        [[Tap(j, 0, 0) for j in range(t)]],
    )
