"""Programs in which the machine finds two errors in one cycle: every two kinds of errors that can meet.

All are spoilt versions of one program, a layer of two tiles of one pass each. Most kinds of errors can be
brought about in many of its cycles, in any lane, word or column, so two kinds meet in the cycles that both
have.

What cannot meet: an error of the load stream meets no other, since a packet begins only while nothing runs,
and nothing starts inside a packet. Two of the sequencer's do not meet, since it looks at one thing at a time:
at a word of PROGRAM, at the first lane of a word, and at a tile in the last cycle of the one before. `APART`
has the rest.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations

import numpy as np

from pymodel.machine.config import XOR_COUNT_BITS, XOR_PATCHES, ArrayConfig
from pymodel.machine.errors import ErrorCode
from pymodel.machine.memory import Section, columns, memories
from pymodel.machine.program import End, IntArray, Layer, Out
from pymodel.machine.slot_rows import RAW
from pymodel.machine.timing import GROUP_STAGE, OUTSIDE_STAGE, SLOT_STAGE, TAP_STAGE, WRITE_STAGE

WORDS = range(1, 7)  # of the layer
GAPS = range(1, 25)  # behind it
TILES = 2
STRAIGHT, SHIFTED = 0, 1  # taps: a word itself, and the pixels one farther


class Tables:
    """The memory words of the program, each at the end of its memory: what is beyond is an error.

    `words` are int64 [words, repeat, fields] by memory. Lane n of both tiles has group, row of slots and
    filter n. All members are used; all weights are zero, and no filter is written.
    """

    def __init__(self, config: ArrayConfig, words: int) -> None:
        t, specs = config.size, memories(config)
        sizes = {"TILE": TILES, "TAP": 2, "EDGE": config.edge_depth}
        sizes |= dict.fromkeys(("LANE", "SLOT", "GROUP", "FILTER"), TILES * t)
        self.config = config
        self.address = {name: specs[name].depth - size for name, size in sizes.items()}
        self.words = {name: specs[name].zeros(size) for name, size in sizes.items()}
        tap, tile = self.address["TAP"], self.address["TILE"]
        self.layer = Layer(words, 1, words, 0, 0, tap, 0, tile, TILES)
        self.behind = [End().encode()]  # the words of PROGRAM after the layer's
        for number in range(TILES):
            lane, filters = self.address["LANE"] + number * t, self.address["FILTER"] + number * t
            self.words["TILE"][number, 0] = (lane, 1, filters, lane)
        columns("LANE", self.words["LANE"]).group[:, 0] = self.address["GROUP"] + np.arange(TILES * t)
        columns("GROUP", self.words["GROUP"]).valid[:] = 1
        columns("TAP", self.words["TAP"]).offset[SHIFTED] = 1
        columns("EDGE", self.words["EDGE"]).valid[:] = 1
        if config.xor_inputs:
            self.words["SLOT"][:, :XOR_COUNT_BITS] = 1  # not encoded

    @property
    def start(self) -> int:
        """The layer's word of PROGRAM."""
        return self.config.program_depth - 1 - len(self.behind)

    def sections(self) -> list[Section]:
        program = np.stack([self.layer.encode(), *self.behind])[:, None]
        return [
            Section("PROGRAM", self.start, program),
            *(Section(name, self.address[name], words) for name, words in self.words.items()),
        ]

    def follow(self, gap: int, *behind: IntArray) -> None:
        """Other words of PROGRAM behind the layer, `gap` cycles after it."""
        self.layer, self.behind = replace(self.layer, gap=gap), list(behind)

    def move_edges(self, base: int) -> None:
        self.layer = replace(self.layer, edge_base=base)

    def change(self, memory: str, word: int, repeat: int = 0, **values: int) -> None:
        """Fields of a word."""
        for name, value in values.items():
            getattr(columns(memory, self.words[memory]), name)[word, repeat] = value

    def break_row(self, tile: int, row: int, count: int) -> None:
        """Gives a row of slots, wherever its tile's rows begin, so many patches."""
        begin = int(columns("TILE", self.words["TILE"]).slot_base[tile, 0])
        stored = self.words["SLOT"][begin + row - self.address["SLOT"], :, 0]
        stored[:] = 1
        stored[:XOR_COUNT_BITS] = count >> np.arange(XOR_COUNT_BITS) & 1


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong with the program: `spoil` makes it so.

    The hardware finds it in `cycle`, counted from the issue of the first lane.
    """

    code: ErrorCode
    cycle: int
    spoil: Callable[[Tables], None]


@dataclass(frozen=True)
class Shape:
    """A layer of so many words, and where its faults are found."""

    config: ArrayConfig
    words: int

    @property
    def end(self) -> int:
        """The cycle after the last lane."""
        return TILES * self.words * self.config.size

    def places(self, words: range) -> Iterator[tuple[int, int, int, int]]:
        """Cycle of its issue, tile, word and row of each lane of these words."""
        t = self.config.size
        for tile in range(TILES):
            for word in words:
                for row in range(t):
                    yield (tile * self.words + word) * t + row, tile, word, row


def program_range(shape: Shape, _rng: np.random.Generator) -> Iterator[Fault]:
    """Nothing is behind the layer."""
    for gap in GAPS:
        yield Fault(ErrorCode.PROGRAM_RANGE, shape.end + gap, partial(Tables.follow, gap=gap))


def program_opcode(shape: Shape, rng: np.random.Generator) -> Iterator[Fault]:
    for gap in GAPS:
        unknown = np.zeros_like(End().encode())
        unknown[0] = rng.choice([0, int(rng.integers(4, 1 << 16))])
        cycle = shape.end + gap + 1
        yield Fault(ErrorCode.PROGRAM_OPCODE, cycle, partial(behind, gap=gap, record=unknown))


def behind(tables: Tables, gap: int, record: IntArray) -> None:
    tables.follow(gap, record)


def record_field(shape: Shape, rng: np.random.Generator) -> Iterator[Fault]:
    """Something else than a layer is behind a gap."""
    for gap in GAPS:
        record = (End(), Out(0, 0, 1))[int(rng.integers(2))].encode()
        yield Fault(ErrorCode.PROGRAM_FIELD, shape.end + gap + 1, partial(behind, gap=gap, record=record))


def word_field(shape: Shape, _rng: np.random.Generator) -> Iterator[Fault]:
    """EDGE ends before a word of the layer."""
    for word in range(1, shape.words):
        base = shape.config.edge_depth - word
        yield Fault(ErrorCode.PROGRAM_FIELD, word * shape.config.size, partial(Tables.move_edges, base=base))


def tile_field(shape: Shape, _rng: np.random.Generator) -> Iterator[Fault]:
    """The second tile has no passes: it is taken in the last cycle of the first."""
    spoil = partial(Tables.change, memory="TILE", word=1, passes=0)
    yield Fault(ErrorCode.TILE_FIELD, shape.words * shape.config.size - 1, spoil)


def group_range(shape: Shape, _rng: np.random.Generator) -> Iterator[Fault]:
    """Where not all numbers of groups are those of words."""
    config = shape.config
    if config.group_depth == 1 << config.group_id_bits:
        return
    for cycle, tile, _, row in shape.places(range(1)):
        lane = tile * config.size + row
        spoil = partial(Tables.change, memory="LANE", word=lane, group=config.group_depth)
        yield Fault(ErrorCode.GROUP_RANGE, cycle + GROUP_STAGE, spoil)


def tap_range(shape: Shape, rng: np.random.Generator) -> Iterator[Fault]:
    for cycle, tile, _, row in shape.places(range(1)):
        member, tap = int(rng.integers(shape.config.group)), int(rng.integers(SHIFTED + 1, 32))
        word = tile * shape.config.size + row
        spoil = partial(Tables.change, memory="GROUP", word=word, repeat=member, tap=tap)
        yield Fault(ErrorCode.TAP_RANGE, cycle + TAP_STAGE, spoil)


def feature_read(shape: Shape, rng: np.random.Generator) -> Iterator[Fault]:
    """A bank ends before a word of a member's plane, or inside its first. No layer writes to these banks."""
    config = shape.config
    for cycle, tile, word, row in shape.places(range(shape.words)):
        base, tap = (config.feature_depth - word, STRAIGHT) if word else (config.feature_depth - 1, SHIFTED)
        spoil = partial(
            Tables.change,
            memory="GROUP",
            word=tile * config.size + row,
            repeat=int(rng.integers(max(1, config.group // 2))),
            base=base,
            tap=tap,
        )
        yield Fault(ErrorCode.FEATURE_READ, cycle + OUTSIDE_STAGE, spoil)


def feature_write(shape: Shape, rng: np.random.Generator) -> Iterator[Fault]:
    """A bank ends before a word of a filter's plane. A column comes as many cycles after column 0 as a lane
    after lane 0.
    """
    config = shape.config
    for cycle, tile, word, column in shape.places(range(1, shape.words)):
        spoil = partial(
            Tables.change,
            memory="FILTER",
            word=tile * config.size + column,
            write=1,
            bank=int(rng.integers(config.group // 2, config.group)),
            base=config.feature_depth - word,
        )
        yield Fault(ErrorCode.FEATURE_WRITE, cycle + config.size + WRITE_STAGE, spoil)


def table_range(shape: Shape, rng: np.random.Generator) -> Iterator[Fault]:
    """A filter names an activation table that is none, where there are any. Its first word finds it."""
    config = shape.config
    for cycle, tile, _, column in shape.places(range(1 if config.tables else 0)):
        spoil = partial(
            Tables.change,
            memory="FILTER",
            word=tile * config.size + column,
            write=1,
            bank=int(rng.integers(config.group)),
            base=config.feature_depth // 2,  # no lane reads there
            table=int(rng.integers(config.tables + 1, 16)),
        )
        yield Fault(ErrorCode.TABLE_RANGE, cycle + config.size + WRITE_STAGE, spoil)


def slot_range(shape: Shape, _rng: np.random.Generator) -> Iterator[Fault]:
    """The memory ends before a row of a tile."""
    config = shape.config
    for cycle, tile, _, row in shape.places(range(1 if config.xor_inputs else 0)):
        spoil = partial(Tables.change, memory="TILE", word=tile, slot_base=config.lane_depth - row)
        yield Fault(ErrorCode.SLOT_RANGE, cycle + SLOT_STAGE[ErrorCode.SLOT_RANGE], spoil)


def slot_code(shape: Shape, rng: np.random.Generator) -> Iterator[Fault]:
    """A row has more patches than there can be."""
    for cycle, tile, _, row in shape.places(range(1 if shape.config.xor_inputs else 0)):
        spoil = partial(Tables.break_row, tile=tile, row=row, count=int(rng.integers(XOR_PATCHES + 1, RAW)))
        yield Fault(ErrorCode.SLOT_CODE, cycle + SLOT_STAGE[ErrorCode.SLOT_CODE], spoil)


# from the one that is told last to the one that is told first
KINDS: dict[str, Callable[[Shape, np.random.Generator], Iterator[Fault]]] = {
    "PROGRAM_RANGE": program_range,
    "PROGRAM_OPCODE": program_opcode,
    "PROGRAM_FIELD of a record": record_field,
    "PROGRAM_FIELD of a word": word_field,
    "TILE_FIELD": tile_field,
    "GROUP_RANGE": group_range,
    "TAP_RANGE": tap_range,
    "FEATURE_READ": feature_read,
    "FEATURE_WRITE": feature_write,
    "SLOT_RANGE": slot_range,
    "SLOT_CODE": slot_code,
    "TABLE_RANGE": table_range,
}
Pair = tuple[str, str]

OF_SEQUENCER = tuple(KINDS)[: 1 + list(KINDS).index("TILE_FIELD")]
# Pairs of different blocks that never meet. A filter's table is looked at with the first word of a chunk, and
# these words are in their bank.
APART: frozenset[Pair] = frozenset({("FEATURE_WRITE", "TABLE_RANGE")})


@dataclass(frozen=True)
class Collision:
    """Two faults that are found in the same cycle, that of the lower code first."""

    shape: Shape
    faults: tuple[Fault, Fault]

    def tables(self, *faults: Fault) -> Tables:
        """The program with some of the faults."""
        tables = Tables(self.shape.config, self.shape.words)
        for fault in faults:
            fault.spoil(tables)
        return tables


def collisions(config: ArrayConfig, rng: np.random.Generator) -> dict[Pair, list[Collision]]:
    """Every way in which faults of two kinds meet, by pair; none for a pair of `APART`.

    The kinds are those that this machine has, and not both the sequencer's.
    """
    found: dict[Pair, list[Collision]] = {}
    for words in WORDS:
        shape = Shape(config, words)
        at: dict[str, dict[int, list[Fault]]] = {name: defaultdict(list) for name in KINDS}
        for name, kind in KINDS.items():
            for fault in kind(shape, rng):
                at[name][fault.cycle].append(fault)
        for one, other in combinations((name for name in KINDS if at[name]), 2):
            if other in OF_SEQUENCER:
                continue
            found.setdefault((one, other), []).extend(
                Collision(shape, (first, second))
                for cycle in at[one].keys() & at[other].keys()
                for first in at[one][cycle]
                for second in at[other][cycle]
            )
    return found
