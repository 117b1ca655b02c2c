"""The contents of the memories, as layers are added to them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from pymodel.compiler.layout import IntArray
from pymodel.compiler.lower import Matrix, Tap
from pymodel.machine.config import HALO, ArrayConfig
from pymodel.machine.gaps import set_gaps
from pymodel.machine.image import Dump
from pymodel.machine.memory import Section, Words
from pymodel.machine.planes import Placement, ceil_div
from pymodel.machine.program import MAXIMUM, SUM, End, Legal, Out, encode_all
from pymodel.machine.program import Layer as LayerRecord
from pymodel.machine.slot_rows import encode_tile, spread
from pymodel.network.integer import Requant
from pymodel.packing.pack import PackedMatrix, Tile


def outs(dumps: Iterable[Dump]) -> list[Legal]:
    """A program's end: an OUT for each packet, and END."""
    return [*_outs(dumps), End()]


def layers_with_outs(
    given: Iterable[Dump], layers: Iterable[tuple[LayerRecord, Iterable[Dump]]]
) -> list[Legal]:
    """A program: an OUT for each packet that is `given`, then each LAYER with an OUT for each of its packets,
    and END.
    """
    program: list[Legal] = [*_outs(given)]
    for record, dumps in layers:
        program += [record, *_outs(dumps)]
    return [*program, End()]


def _outs(dumps: Iterable[Dump]) -> list[Out]:
    return [Out(dump.bank, dump.base, dump.words) for dump in dumps]


class Tables:
    """The growing contents of the memories."""

    def __init__(self, config: ArrayConfig, chunk_words: int) -> None:
        self.config = config
        self.chunk_words = chunk_words
        self.tile: list[list[int]] = []
        self.lane: list[int] = []
        self.slot: list[IntArray] = []
        self.group: list[IntArray] = [np.zeros((1, config.group, 3), dtype=np.int64)]
        self.tap: list[list[int]] = []
        self.edge: list[IntArray] = []
        self.filter: list[list[int]] = []
        self.activation: list[IntArray] = []
        self._edges_seen: dict[bytes, int] = {}
        self._taps_seen: dict[tuple[tuple[int, ...], ...], int] = {}

    def add_layer(
        self, requant: Requant, matrix: Matrix, packed: PackedMatrix, out: Placement
    ) -> LayerRecord:
        """Appends a layer: its groups, edges, taps, tiles and filters. Returns its LAYER record."""
        groups = self._add_groups(matrix, packed)
        edge_base, edge_stride = self._add_edges(matrix, out)
        tap_base, tap_stride = self._add_taps(matrix.taps)
        tile_base = len(self.tile)
        for tile in packed.tiles:
            self._add_tile(tile, groups)
            self._add_filters(tile, requant, out)
        total = out.words * out.phases
        chunks = ceil_div(total, self.chunk_words)
        return LayerRecord(
            words=out.words,
            phases=out.phases,
            chunk_words=ceil_div(total, chunks),
            edge_base=edge_base,
            edge_stride=edge_stride,
            tap_base=tap_base,
            tap_stride=tap_stride,
            tile_base=tile_base,
            tiles=len(packed.tiles),
            pad=matrix.pad,
            mode=MAXIMUM if matrix.maximum else SUM,
        )

    def _add_tile(self, tile: Tile, groups: int) -> None:
        """Appends a tile, its lanes and its rows of slots; `groups` is the number of the layer's first
        group.
        """
        t = self.config.size
        passes = max(1, ceil_div(len(tile.lanes), t))
        lanes = np.zeros(passes * t, np.int64)  # group 0 is empty: it feeds the lanes that fill up a pass
        lanes[: len(tile.lanes)] = groups + tile.lanes
        position = () if tile.position is None else (tile.position,)
        slot = np.stack((tile.weight, *position, tile.select), axis=2)
        slots = np.zeros((passes * t, t, slot.shape[2]), dtype=np.int64)
        slots[: len(tile.lanes), : len(tile.filters)] = slot
        slot_base = 0
        if self.config.xor_inputs:
            slot_base = sum(map(len, self.slot))
            order = spread(self.config, slots)
            lanes, slots = lanes[order], encode_tile(self.config, slots[order])
        self.tile.append([len(self.lane), passes, len(self.filter), slot_base])
        self.lane += lanes.tolist()
        self.slot.append(slots)

    def _add_filters(self, tile: Tile, requant: Requant, out: Placement) -> None:
        """Appends the T words of FILTER of a tile; columns without a filter write nothing."""
        table = [self._add_activation(requant.table)] if self.config.tables else []
        for f in tile.filters:
            numbers = [int(requant.bias[f]), int(requant.multiplier[f]), int(requant.shift[f])]
            limits = [requant.zero, requant.low, requant.high]
            self.filter.append([*numbers, *limits, 1, out.bank[f], out.base[f], *table])
        self.filter += [[0] * len(self.filter[0])] * (self.config.size - len(tile.filters))

    def _add_activation(self, table: npt.NDArray[np.integer] | None) -> int:
        """The number of an activation table, which is appended unless it is there already; 0 for none."""
        if table is None:
            return 0
        values = np.roll(table.astype(np.int64), -128)  # the memory has those for 0 first
        for number, known in enumerate(self.activation, 1):
            if (known == values).all():
                return number
        self.activation.append(values)
        return len(self.activation)

    def _add_groups(self, matrix: Matrix, packed: PackedMatrix) -> int:
        """Appends the layer's groups; returns the number of the first."""
        first = sum(map(len, self.group))
        input_ = np.maximum(packed.groups, 0)
        words = np.stack([np.ones_like(input_), matrix.base[input_], matrix.tap[input_]], axis=2)
        self.group.append(np.where(packed.groups[:, :, None] >= 0, words, 0))
        return first

    def _add_taps(self, taps: list[list[Tap]]) -> tuple[int, int]:
        """Appends the tap rows unless they are there already; returns (base, stride)."""
        rows = [[t.offset, t.dy, t.dx] for phase in taps for t in phase]
        key = tuple(tuple(row) for row in rows)
        if key not in self._taps_seen:
            self._taps_seen[key] = len(self.tap)
            self.tap += rows
        return self._taps_seen[key], len(taps[0])

    def _add_edges(self, matrix: Matrix, out: Placement) -> tuple[int, int]:
        """Appends the edge words of the output's phases unless they are there already; returns (base,
        stride).
        """
        _, height, width = out.shape
        n = np.arange(out.words * out.size)
        y, x = n // out.pitch, n % out.pitch
        last, runs = matrix.last, matrix.runs
        near = [np.clip(v, 0, HALO) for v in (x, last[1] - x, y, last[0] - y)]
        phases = []
        for qy in range(out.phase[0]):
            for qx in range(out.phase[1]):
                valid = (y < ceil_div(height - qy, out.phase[0])) & (x < ceil_div(width - qx, out.phase[1]))
                if runs is not None:
                    down = runs[0][np.minimum(y * out.phase[0] + qy, height - 1)]
                    across = runs[1][np.minimum(x * out.phase[1] + qx, width - 1)]
                    near = [across, runs[1][-1] - across, down, runs[0][-1] - down]
                phases.append(
                    np.stack([valid.astype(np.int64), *near], axis=1).reshape(out.words, out.size, 5)
                )
        stride = out.words
        if all((p == phases[0]).all() for p in phases):
            phases, stride = phases[:1], 0
        block = np.concatenate(phases)
        key = block.tobytes()
        if key not in self._edges_seen:
            self._edges_seen[key] = sum(len(e) for e in self.edge)
            self.edge.append(block)
        return self._edges_seen[key], stride

    def contents(self) -> dict[str, Words]:
        """The words of each memory but FEATURE and PROGRAM, as if none had an end."""

        def flat(rows: list[list[int]]) -> Words:
            return np.array(rows, dtype=np.int64)[:, None, :]

        contents = {
            "TILE": flat(self.tile),
            "LANE": flat([[g] for g in self.lane]),
            "SLOT": np.concatenate(self.slot),
            "GROUP": np.concatenate(self.group),
            "TAP": flat(self.tap),
            "EDGE": np.concatenate(self.edge),
            "FILTER": flat(self.filter),
        }
        if self.activation:
            contents["ACTIVATION"] = np.concatenate(self.activation)[:, None, None]
        return contents


def sections(
    config: ArrayConfig, contents: Mapping[str, Words], program: Sequence[Legal]
) -> tuple[Section, ...]:
    """What is loaded to run a program, which has its gaps set."""
    words = {"PROGRAM": encode_all(program), **contents}
    words["PROGRAM"] = set_gaps(config, words)
    return tuple(Section(name, 0, part) for name, part in words.items())
