"""The cost of a network's dense program, counted without laying the program out.

The baseline skips nothing. So it may need more lanes than a machine has or than fields can number, even if
the network itself fits. Its cost follows from its shapes: every layer has a lane for each input in every
tile. There is one exception. The cycle in which a layer may begin (`pymodel.machine.gaps`) depends on which
words are read first and written last. So a shortened program is compiled that has only the lanes that matter
for this cycle. Then all counts are scaled to those of the whole program.
"""

from __future__ import annotations

from collections import deque
from dataclasses import astuple, dataclass, replace
from typing import Any

import numpy as np

from pymodel.compiler.compile import CapacityError, compile_fitted
from pymodel.compiler.layout import IntArray
from pymodel.cost.counts import ImageCost, LayerCost, image_cost, section_bytes
from pymodel.machine.config import MAX_DEPTH, ArrayConfig, clog2
from pymodel.machine.image import Image
from pymodel.machine.memory import memories
from pymodel.machine.planes import ceil_div
from pymodel.machine.timing import word_stage
from pymodel.network.integer import Network, View, Weighted
from pymodel.packing.pack import DIGIT_BITS, PackedMatrix, Tile, split_digits


@dataclass(frozen=True)
class DenseCost:
    """`cost` of the dense program, as `image_cost` gives for its image. `layers`: a row of name, weights,
    nonzero, lanes and cycles for each layer.

    Memories are as deep as the program needs, but at most `MAX_DEPTH`. If it needs more, the energies are
    those of memories of `MAX_DEPTH`.
    """

    cost: ImageCost
    layers: list[dict[str, Any]]

    @property
    def lanes(self) -> int:
        """Lanes of the layers that have weights."""
        return sum(row["lanes"] for row in self.layers if row["weights"])


def dense_cost(network: Network, config: ArrayConfig, images: int = 1) -> DenseCost:
    """The cost of the dense program for an array of `config`, with its load shared by `images` inputs.

    The size of encoded rows of slots depends on the weights, not only on shapes. So with an XOR decoder the
    program is laid out if possible; otherwise it is counted as if there were no decoder. Raises
    `CapacityError` if the network's tensors or filters do not fit.
    """
    counted, lane_words = _counted(network, replace(config, xor_inputs=0, xor_history=0), images)
    # encoding takes long: not for a program that is refused for its lanes in the end
    if not config.xor_inputs or lane_words > MAX_DEPTH:
        return counted
    try:
        image = compile_fitted(network, config, packing="dense")
    except CapacityError:
        return counted
    cost = image_cost(image, images)
    return DenseCost(cost, _rows(image, cost.layers, [layer.lanes for layer in cost.layers]))


def _counted(network: Network, config: ArrayConfig, images: int) -> tuple[DenseCost, int]:
    """The cost for an array without an XOR decoder, and the words of LANE."""
    shortened = _Shortened(config)
    image = compile_fitted(network, config, packing=shortened, scheme="dense")
    short = image_cost(image, images)
    parts = deque(shortened.parts)
    layers, more_lanes, more_groups = [], 0, 0
    computed = [layer for layer in network.layers if not isinstance(layer, View)]
    for layer, counted in zip(computed, short.layers, strict=True):
        if not isinstance(layer, Weighted):  # whole: it packs the same in every program
            layers.append(counted)
            continue
        part = parts.popleft()
        while part.filters < len(layer.weight):  # a grouped convolution is packed in several blocks
            part = part.with_block(parts.popleft())
        layers.append(_whole(counted, part, config.size))
        more_lanes += part.passes * config.size - part.short_lanes
        more_groups += part.inputs - part.short_groups
    words = {s.memory: len(s.words) for s in image.sections}
    for memory, more in (("LANE", more_lanes), ("SLOT", more_lanes), ("GROUP", more_groups)):
        words[memory] += more
    fitted = replace(
        image.config,
        lane_depth=_deep(config.lane_depth, words["LANE"]),
        group_depth=_deep(config.group_depth, words["GROUP"]),
    )
    specs = memories(fitted)
    cost = replace(
        short,
        config=fitted,
        layers=tuple(layers),
        cycles=short.cycles + sum(layer.cycles for layer in layers) - short.total("cycles"),
        record_cycles=tuple(layer.cycles for layer in layers),
        load_bytes=sum(section_bytes(count, specs[name]) for name, count in words.items()),
        stored_bits={name: count * specs[name].width for name, count in words.items()},
    )
    found = DenseCost(cost, _rows(image, cost.layers, [layer.lanes for layer in layers]))
    return found, words["LANE"]


def _rows(image: Image, costs: tuple[LayerCost, ...], lanes: list[int]) -> list[dict[str, Any]]:
    return [
        {**stats, "lanes": count, "cycles": cost.cycles}
        for stats, cost, count in zip(image.stats["layers"], costs, lanes, strict=True)
    ]


def _deep(least: int, words: int) -> int:
    """A depth as `compile_fitted` makes it, but not more than a memory can have."""
    return min(MAX_DEPTH, max(least, 1 << clog2(words)))


@dataclass(frozen=True)
class _Part:
    """One layer, or some of its filters. For the whole program: inputs, lanes, slots that hold a weight, and
    passes of all tiles. For the shortened program: lanes, including those that fill up a pass, and groups.
    """

    filters: int
    inputs: int
    tiles: int
    lanes: int
    slots: int
    passes: int
    short_lanes: int
    short_groups: int

    def with_block(self, other: _Part) -> _Part:
        """Both together."""
        return _Part(*(mine + its for mine, its in zip(astuple(self), astuple(other), strict=True)))


class _Shortened:
    """Packs as `pack_dense`, but leaves out passes that do not matter for when a layer may begin. These come
    after all reads that occur while the layer before still writes, and before all writes that occur after the
    last lane was issued. A tile in between has one pass.
    """

    def __init__(self, config: ArrayConfig) -> None:
        self.parts: list[_Part] = []
        # a pass takes T cycles or more
        self.most = ceil_div(word_stage(config) + config.size, config.size)

    def __call__(
        self, weight: IntArray, bank: IntArray, config: ArrayConfig, rng: np.random.Generator
    ) -> PackedMatrix:
        del rng
        size, (filters, inputs) = config.size, weight.shape
        digits = config.weight_bits == DIGIT_BITS
        each = 2 if digits else 1  # lanes of an input
        lanes, tiles = inputs * each, ceil_div(filters, size)
        whole = max(1, ceil_div(lanes, size))
        passes = [
            min(whole, self.most) if min(index, tiles - 1 - index) * whole < self.most else 1
            for index in range(tiles)
        ]
        groups = np.full((ceil_div(min(lanes, passes[0] * size), each), config.group), -1, np.int64)
        groups[np.arange(len(groups)), bank[: len(groups)]] = np.arange(len(groups))
        packed = []
        for index, count in enumerate(passes):
            mine = np.arange(min(lanes, count * size)) // each
            columns = np.arange(index * size, min((index + 1) * size, filters))
            empty = np.zeros((len(mine), len(columns)), np.int64)
            packed.append(Tile(columns, mine, empty, empty.astype(np.int8), empty if digits else None))
        self.parts.append(
            _Part(
                filters=filters,
                inputs=inputs,
                tiles=tiles,
                lanes=lanes * tiles,
                slots=int(np.count_nonzero(split_digits(weight) if digits else weight)),
                passes=whole * tiles,
                short_lanes=sum(passes) * size,
                short_groups=len(groups),
            )
        )
        return PackedMatrix(groups, tuple(packed), size, inputs)


def _whole(short: LayerCost, part: _Part, size: int) -> LayerCost:
    """The counts of a layer of the whole program, each lane of which has one input."""
    words = short.positions // size
    pass_cycles = part.passes * words * size
    cycles = short.cycles - short.pass_cycles + pass_cycles
    return replace(
        short,
        lanes=part.lanes,
        slots=part.slots,
        passes=part.passes * short.chunks,
        cycles=cycles,
        pass_cycles=pass_cycles,
        bound_cycles=ceil_div(part.lanes * short.pixels, size),
        macs=part.slots * short.positions,
        steps=pass_cycles * size * size,
        slot_rows=part.passes * short.chunks * size,
        slots_loaded=part.passes * short.chunks * size * size,
        bank_reads=2 * part.lanes * words,
        accumulator_reads=(part.passes - part.tiles) * short.positions * size,
        accumulator_writes=(part.passes - part.tiles) * short.positions * size,
        lane_reads=pass_cycles,
        group_reads=pass_cycles,
        tap_reads=part.lanes * words,
        edge_reads=pass_cycles,
        tile_reads=cycles,
    )
