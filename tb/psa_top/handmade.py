"""Programs that no compiler writes: layers of sums and of maxima directly behind each other, with any pad,
zero point, clamps, taps and distances from the edges, and what they compute.

`HandMade.planes` knows the tables and the rules of docs/formats.md and docs/machine.md, and nothing of lanes
that run, cycles or faults: it is the independent computation with which model and machine are compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pymodel.machine.config import HALO, ArrayConfig
from pymodel.machine.memory import TABLE_WORDS, Hold, Live, Section, Words, columns, memories
from pymodel.machine.program import MAXIMUM, SUM, End, Jump, Layer, Out, Wait, encode_all
from pymodel.machine.slot_rows import encode_tile
from tb.common.block import chance, edgy

Int64Array = npt.NDArray[np.int64]

SOURCE = 24  # words of every bank that the layers read; behind them lie the planes that they write
GROUPS, TAPS, EDGES = 12, 9, 8


@dataclass(frozen=True)
class HandTile:
    """A tile: for each of its lanes a group and a row of slots [C, fields], and its filters [C, fields]."""

    groups: Int64Array
    slots: Words
    filters: Words


class HandMade:
    """A program of layers, one after the other with a gap of one cycle, that read the first words of all
    banks and write behind them. Everything lies at the ends of the memories.
    """

    def __init__(self, config: ArrayConfig, rng: np.random.Generator, modes: tuple[int, ...]) -> None:
        self.config, self.rng, self.specs = config, rng, memories(config)
        self.members = self._groups()
        self.taps, self.edges = self._taps(), self._edges()
        self.results = rng.integers(-128, 128, TABLE_WORDS * config.tables)  # of the activation tables
        self.tiles: list[list[HandTile]] = []
        self.records: list[Layer] = []
        self.end = SOURCE  # the first word behind all planes
        tiles = 0
        for number, mode in enumerate(modes):
            words, phases = int(rng.integers(1, 4)), int(rng.choice([1, 1, 2]))
            self.tiles.append([self._tile(mode, words * phases) for _ in range(int(rng.integers(1, 3)))])
            self.records.append(
                Layer(
                    words,
                    phases,
                    chunk_words=edgy(rng, 1, min(words * phases, config.acc_words), 0.5),
                    edge_base=self._at("EDGE", EDGES) + int(rng.integers(2)),
                    edge_stride=int(rng.integers(2)),
                    tap_base=self._at("TAP", TAPS),
                    tap_stride=int(rng.integers(2)),
                    tile_base=tiles,
                    tiles=len(self.tiles[-1]),
                    gap=1 if number < len(modes) - 1 else 0,
                    pad=edgy(rng, -128, 127, 0.6),
                    mode=mode,
                )
            )
            tiles += len(self.tiles[-1])

    def _at(self, memory: str, words: int) -> int:
        return self.specs[memory].depth - words

    def _groups(self) -> Words:
        """Members [groups, G, (valid, base, tap)]."""
        words = self.specs["GROUP"].zeros(GROUPS)
        fields = columns("GROUP", words)
        fields.valid[:] = self.rng.random(fields.valid.shape) < 0.85
        fields.base[:] = self.rng.integers(8, SOURCE - 8, fields.base.shape)
        fields.tap[:] = self.rng.integers(0, TAPS - 1, fields.tap.shape)
        return words

    def _taps(self) -> Words:
        t, words = self.config.size, self.specs["TAP"].zeros(TAPS)
        for n in range(TAPS):
            reach = [0, 0] if n % 3 == 0 else [edgy(self.rng, -HALO - 1, HALO) for _ in range(2)]
            words[n, 0] = (int(self.rng.integers(-3 * t, 3 * t + 1)), *reach)
        return words

    def _edges(self) -> Words:
        words = self.specs["EDGE"].zeros(EDGES)
        fields = columns("EDGE", words)
        fields.valid[:] = self.rng.random(fields.valid.shape) < 0.9
        for name in ("left", "right", "top", "bottom"):
            getattr(fields, name)[:] = self.rng.integers(0, HALO + 1, fields.valid.shape)
        return words

    def _tile(self, mode: int, words: int) -> HandTile:
        rng, config = self.rng, self.config
        lanes = config.size * int(rng.integers(1, 4))
        slots = np.zeros((lanes, config.size, 3 if config.position_bits else 2), np.int64)
        fields = columns("SLOT", slots)
        end = 1 << config.weight_bits - 1
        kept = rng.random(fields.weight.shape) < rng.choice([0.05, 0.5, 0.9])
        fields.weight[:] = rng.integers(-end, end, fields.weight.shape) * kept
        if config.position_bits:
            fields.position[:] = rng.integers(2, size=fields.weight.shape) * (fields.weight != 0)
        if mode == MAXIMUM and chance(rng, 0.7):  # what a compiler writes
            fields.weight[:] = -kept.astype(np.int64)
            if config.position_bits:
                fields.position[:] = 0
        fields.select[:] = rng.integers(config.group, size=fields.weight.shape)
        groups = rng.integers(GROUPS, size=lanes)
        # no weight selects what its group does not have: tb/checkers/psa_check_slots.v
        slots[:, :, :-1] *= self.members[groups[:, None], fields.select, :1]
        order = np.argsort(np.count_nonzero(fields.weight, axis=1))  # as `encode_tile` likes them
        return HandTile(groups[order], slots[order], self._filters(mode, words))

    def _filters(self, mode: int, words: int) -> Words:
        rng, t = self.rng, self.config.size
        filters = self.specs["FILTER"].zeros(t)
        for c in range(t):
            entry = columns("FILTER", filters[c, 0])
            scale = (0, 1, 0) if mode == MAXIMUM and chance(rng, 0.5) else None
            usual = (int(rng.integers(-2000, 2000)), int(rng.integers(1 << 15, 1 << 16)), 22)
            entry.bias[...], entry.multiplier[...], entry.shift[...] = scale or usual
            entry.zero[...] = edgy(rng, -128, 127) if chance(rng, 0.5) else 0
            if self.config.tables:
                entry.table[...] = int(rng.integers(self.config.tables + 1))
            clamps = [edgy(rng, -128, 127, 0.4) for _ in range(2)] if chance(rng, 0.4) else (-128, 127)
            entry.low[...], entry.high[...] = clamps
            entry.write[...] = chance(rng, 0.9)
            entry.bank[...], entry.base[...] = (
                c % self.config.group,
                self.end + c // self.config.group * words,
            )
        self.end += -(-t // self.config.group) * words
        return filters

    @property
    def start(self) -> int:
        """The first word of PROGRAM."""
        return self._at("PROGRAM", len(self.program()))

    def program(self) -> Words:
        outs = [Out(bank, SOURCE, self.end - SOURCE) for bank in range(self.config.group)]
        base = self._at("TILE", sum(map(len, self.tiles)))
        layers = [Layer(**{**vars(r), "tile_base": base + r.tile_base}) for r in self.records]
        return encode_all([*layers, *outs, End()])

    def sections(self, features: npt.NDArray[np.int8]) -> list[Section]:
        """All memory words; `features` [G, words, T] are those of the banks, from word 0 on."""
        t, every = self.config.size, [tile for tiles in self.tiles for tile in tiles]
        lanes, slots = self._at("LANE", sum(len(tile.groups) for tile in every)), []
        filters, tiles = self._at("FILTER", len(every) * t), self.specs["TILE"].zeros(len(every))
        stored = [encode_tile(self.config, e.slots) if self.config.xor_inputs else e.slots for e in every]
        row = base = self._at("SLOT", sum(map(len, stored)))
        lane = lanes
        for number, (tile, words) in enumerate(zip(every, stored, strict=True)):
            slot_base = row if self.config.xor_inputs else 0
            tiles[number, 0] = (lane, len(tile.groups) // t, filters + number * t, slot_base)
            lane, row = lane + len(tile.groups), row + len(words)
            slots.append(words)
        groups = np.concatenate([tile.groups for tile in every]) + self._at("GROUP", GROUPS)
        return [
            Section("PROGRAM", self.start, self.program()),
            Section("TILE", self._at("TILE", len(every)), tiles),
            Section("LANE", lanes, groups[:, None, None]),
            Section("SLOT", base, np.concatenate(slots)),
            Section("GROUP", self._at("GROUP", GROUPS), self.members),
            Section("TAP", self._at("TAP", TAPS), self.taps),
            Section("EDGE", self._at("EDGE", EDGES), self.edges),
            Section("FILTER", filters, np.concatenate([tile.filters for tile in every])),
            *((Section("ACTIVATION", 0, self.results[:, None, None]),) if self.config.tables else ()),
            *(
                Section("FEATURE", 0, words[:, :, None].astype(np.int64), bank)
                for bank, words in enumerate(features)
            ),
        ]

    def planes(self, features: npt.NDArray[np.int8]) -> npt.NDArray[np.int8]:
        """The banks [G, words, T] after the program."""
        after = features.copy()
        for record, tiles in zip(self.records, self.tiles, strict=True):
            for word in range(record.words * record.phases):
                phase, inner = divmod(word, record.words)
                edge = record.edge_base - self._at("EDGE", EDGES) + phase * record.edge_stride + inner
                taps = self.taps[phase * record.tap_stride :, 0]
                inputs = self._inputs(features, record, self.edges[edge], taps, inner)
                for tile in tiles:
                    for c in np.flatnonzero(columns("FILTER", tile.filters[:, 0]).write):
                        entry = columns("FILTER", tile.filters[c, 0])
                        total = self._total(record.mode, tile, int(c), inputs)
                        value = result(entry, total)
                        if self.config.tables and entry.table:
                            value = self.results.reshape(-1, TABLE_WORDS)[entry.table - 1, value]
                        after[entry.bank, entry.base + word] = value * self.edges[edge, :, 0]
        return after

    def _inputs(
        self, features: npt.NDArray[np.int8], record: Layer, edge: Words, taps: Words, inner: int
    ) -> Int64Array:
        """Pixels [groups, G, T] of a word of the output."""
        t = self.config.size
        found = np.zeros((GROUPS, self.config.group, t), np.int64)
        for group, bank in np.argwhere(self.members[:, :, 0] == 1):
            _, base, tap = self.members[group, bank]
            offset, dy, dx = taps[tap]
            first = (base + inner) * t + offset
            pixels = features[bank].reshape(-1)[first : first + t].astype(np.int64)
            over = (-dx > edge[:, 1]) | (dx > edge[:, 2]) | (-dy > edge[:, 3]) | (dy > edge[:, 4])
            found[group, bank] = np.where(over, record.pad, pixels)
        return found

    def _total(self, mode: int, tile: HandTile, column: int, inputs: Int64Array) -> Int64Array:
        """The sum or the maximum [T] of a column over all lanes of a tile."""
        slot = columns("SLOT", tile.slots[:, column])
        weight = slot.weight * (16**slot.position if self.config.position_bits else 1)
        x = inputs[tile.groups, slot.select]  # [lanes, T]
        if mode == SUM:
            return np.asarray((weight[:, None] * x).sum(axis=0))
        best = np.full(self.config.size, -128)
        for begin in range(0, len(x), self.config.size):  # each pass begins anew
            value = np.full(self.config.size, -128)
            for w, pixels in zip(weight[begin:], x[begin : begin + self.config.size], strict=False):
                if w == -1:
                    value = np.maximum(value, pixels)
                elif w < -1:
                    value = np.where(value + w * pixels < 0, pixels, value)
            best = np.maximum(best, value)
        return best


def result(entry: Any, total: Int64Array) -> Int64Array:
    """A filter's pixels [T] of these sums."""
    rounded = ((total + entry.bias) * entry.multiplier + (1 << entry.shift) // 2) >> entry.shift
    value = rounded + entry.zero
    return np.where(value > entry.high, entry.high, np.where(value < entry.low, entry.low, value))


def endless(
    made: HandMade, inputs: Sequence[npt.NDArray[np.int8]], *, holds: bool
) -> tuple[list[Section], list[Live]]:
    """A program that runs a hand-made one again and again, and its stream: the banks of every run, and a
    word of PROGRAM that says whether there is one. With `holds`, the banks wait until the layers that read
    the ones before have passed.
    """
    body = made.start
    first = body - 2
    records = made.program()
    records[-1] = encode_all([Jump(first)])[0]
    banks = inputs[0].shape[0]
    sections = [Section("PROGRAM", first, encode_all([Wait(banks + 1)])), Section("PROGRAM", body, records)]
    stream: list[Live] = []
    for number, features in enumerate([*inputs, inputs[-1]]):
        if number and holds:
            stream.append(Hold(len(made.records)))
        stream += [
            Section("FEATURE", 0, words[:, :, None].astype(np.int64), bank)
            for bank, words in enumerate(features[:, :SOURCE])
        ]
        following = Jump(body) if number < len(inputs) else End()
        stream.append(Section("PROGRAM", first + 1, encode_all([following])))
    return sections, stream
