"""Networks larger than the memories: the words that have no room come over the load stream while the network
runs (docs/machine.md, "Networks larger than the memories").

The tables of the whole network are made as if the memories had no end. Each LAYER is then cut into segments,
LAYER records over some of its tiles. The words of a segment get a place in the real memories, mostly where
those lie that no segment has used for the longest time, and what points to them is changed. In front of each
segment the program has a WAIT for its packets. In front of the packets the stream has a HOLD for the segments
that still use the words that are overwritten.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pymodel.compiler.layout import IntArray
from pymodel.machine.config import STREAMS, ArrayConfig
from pymodel.machine.errors import TatamiError
from pymodel.machine.gaps import set_gaps
from pymodel.machine.load_clock import Clocked, clocked
from pymodel.machine.memory import (
    MAX_PACKET_WORDS,
    TABLE_WORDS,
    Hold,
    Live,
    Section,
    Words,
    beats_of,
    columns,
    memories,
    tables_of,
)
from pymodel.machine.program import Jump, Layer, Legal, Wait, encode_all
from pymodel.machine.progress import tracked
from pymodel.machine.timing import (
    RECORD_CYCLES,
    TILE_CYCLES,
    WAIT_CYCLES,
    drain_cycles,
)

SHARE = 3  # segments that a memory should hold: one that runs, one that comes, and some room for the ends
BLOCKS = ("TILE", "LANE", "SLOT", "TAP", "EDGE", "FILTER")  # the words of a segment lie one behind the other
PAGES = 4  # parts of PROGRAM: the beginnings of both programs, and two between which the rest changes


@dataclass(frozen=True)
class Linked:
    """A network in memories that are too small for it.

    `layers`: the layer of each LAYER record of a run. `starts` and `streams`: of the program of the network,
    and of the one that sends its tensors; `again`: that one runs the layers again. `stats` has `bytes`,
    `load_wait` and `load_waits`, those in front of each layer, for each width of the load stream.
    """

    sections: tuple[Section, ...]
    layers: tuple[str, ...]
    starts: tuple[int, int]
    streams: tuple[tuple[Live, ...], tuple[Live, ...]]
    again: bool
    stats: dict[str, Any]


@dataclass(frozen=True)
class _Load:
    """Words that may come as soon as `needs` LAYER records have passed."""

    needs: int
    section: Section


@dataclass(frozen=True)
class _Step:
    """A record of a program: a WAIT with what it waits for, a LAYER with its cycles but for the gap."""

    record: Legal
    loads: tuple[_Load, ...] = ()
    cycles: int = 0


@dataclass(frozen=True)
class _Segment:
    """Some tiles of a layer. `part` is its LAYER record in the tables that have no end, `record` in the real
    memories. `loads` must have come before it runs.
    """

    part: Layer
    record: Layer
    cycles: int
    loads: tuple[_Load, ...]


# The words of a memory that may be used: of its name, the fewest with which the network runs, and as many as
# the network has.
Limit = Callable[[str, int, int], int]


def room_of(
    config: ArrayConfig,
    contents: Mapping[str, Words],
    layers: Mapping[str, Layer],
    programs: Sequence[Sequence[Legal]],
    limit: Limit | None = None,
) -> dict[str, int]:
    """The words of each memory but FEATURE, and of them no more than `limit` says. `programs`: the first and,
    of those that may follow it, the first and the last.
    """
    room = {name: spec.depth for name, spec in memories(config).items() if name != "FEATURE"}
    if limit is not None:
        least = _least(config, contents, layers)
        least["PROGRAM"] = max(map(_least_program, (programs[0], programs[-1])))
        need = {"PROGRAM": sum(map(len, programs[:2]))} | {
            name: len(words) for name, words in contents.items()
        }
        room |= {name: min(room[name], limit(name, least[name], need[name])) for name in need}
    if not config.xor_inputs:  # a lane and its row of slots have the same address
        room["LANE"] = room["SLOT"] = min(room["LANE"], room["SLOT"])
    return room


def _least(config: ArrayConfig, contents: Mapping[str, Words], layers: Mapping[str, Layer]) -> dict[str, int]:
    """The words of each memory but FEATURE and PROGRAM without which some tile has no room."""
    least = dict.fromkeys(contents, 0)
    for record in layers.values():
        tiles = range(record.tile_base, record.tile_base + record.tiles)
        for words in (_layer_words(record), *(_tile_words(config, contents, tile).all() for tile in tiles)):
            least |= {name: max(least[name], count) for name, count in words.items() if name in least}
    return least


def link(
    config: ArrayConfig,
    contents: Mapping[str, Words],
    layers: Mapping[str, Layer],
    run: Sequence[Legal],
    dumps: Sequence[Sequence[Legal]],
    room: Mapping[str, int],
) -> Linked:
    """Cuts a network so that it runs in `room` words of each memory.

    `contents` are the tables as if the memories had no end. `run` is the program of the network. `dumps` are
    programs that send its tensors; of these the first is taken for which there is room, or else the last,
    which must run the layers again. Raises `TatamiError` if a single tile has no room.
    """
    small = {name for name, words in contents.items() if len(words) > room[name]}
    cut = {
        name: _cut(config, contents, name, record, {one: room[one] for one in small})
        for name, record in layers.items()
    }
    placing = _Placing(config, contents, small, room)
    every = [part for parts in cut.values() for part in parts]
    segments = [placing.segment(part) for part in tracked(every, "placing segments", [1] * len(every))]
    parts = {layers[name]: parts for name, parts in cut.items()}
    first, *others = (_steps(config, contents, program, parts, segments) for program in (run, *dumps))
    second = next((one for one in others if len(first) + len(one) <= room["PROGRAM"]), others[-1])
    programs, sections, starts = _paged((first, second), room["PROGRAM"], placing.sections())
    run_stream, dump_stream = (tuple(_stream(steps)) for steps in programs)
    widths = {str(bits): replace(config, stream_bits=bits) for bits in STREAMS}
    clocks = {bits: _clocked(c, programs[0], run_stream) for bits, c in widths.items()}
    names = tuple(name for name, parts in cut.items() for _ in parts)
    return Linked(
        sections=sections,
        layers=names,
        starts=starts,
        streams=(run_stream, dump_stream),
        again=any(isinstance(step.record, Layer) for step in second),
        stats={
            "segments": len(segments),
            "bytes": {bits: beats_of(c, run_stream) * c.stream_bits // 8 for bits, c in widths.items()},
            "load_wait": {bits: clock.waited for bits, clock in clocks.items()},
            "load_waits": {bits: _by_layer(names, clock.layers) for bits, clock in clocks.items()},
        },
    )


# segments


@dataclass(frozen=True)
class _TileWords:
    """The words that a tile needs of each memory; of GROUP and ACTIVATION, which are shared, their
    numbers.
    """

    own: dict[str, int]
    shared: dict[str, frozenset[int]]

    def joined(self, other: _TileWords) -> _TileWords:
        return _TileWords(
            {name: count + other.own[name] for name, count in self.own.items()},
            {name: units | other.shared[name] for name, units in self.shared.items()},
        )

    def all(self) -> dict[str, int]:
        """The words of each memory."""
        words = self.own | {"GROUP": 1 + len(self.shared["GROUP"])}  # and the empty group
        if "ACTIVATION" in self.shared:
            words["ACTIVATION"] = TABLE_WORDS * len(self.shared["ACTIVATION"])
        return words


def _cut(
    config: ArrayConfig, contents: Mapping[str, Words], name: str, record: Layer, room: Mapping[str, int]
) -> list[Layer]:
    """The LAYER cut into segments, so that `SHARE` of them have room in each memory. `room` has the memories
    that are too small for the network.
    """
    _check_room(f"layer '{name}'", _layer_words(record), room)
    cuts, held = [record.tile_base], None
    for tile in range(record.tile_base, record.tile_base + record.tiles):
        alone = _tile_words(config, contents, tile)
        _check_room(f"layer '{name}', tile {tile - record.tile_base}", alone.all(), room)
        if held is None:
            held = alone
            continue
        before, held = held.all(), held.joined(alone)
        if any(
            count > max(room[memory] // SHARE, before[memory])
            for memory, count in held.all().items()
            if memory in room
        ):
            cuts.append(tile)
            held = alone
    ends = [*cuts[1:], record.tile_base + record.tiles]
    return [
        replace(record, tile_base=begin, tiles=end - begin) for begin, end in zip(cuts, ends, strict=True)
    ]


def _check_room(where: str, words: Mapping[str, int], room: Mapping[str, int]) -> None:
    for memory, count in words.items():
        if count > room.get(memory, count):
            raise TatamiError(f"{where}: {memory} needs {count} words, there are {room[memory]}")


def _layer_words(record: Layer) -> dict[str, int]:
    """The words that all tiles of a layer need."""
    return {"TAP": _tap_rows(record), "EDGE": _edge_words(record)}


def _tile_words(config: ArrayConfig, contents: Mapping[str, Words], number: int) -> _TileWords:
    lanes, slots, filters = _tile_ranges(config, contents, number, number + 1)
    own = {"TILE": 1, "LANE": len(lanes), "SLOT": len(slots), "FILTER": len(filters)}
    groups = np.unique(columns("LANE", contents["LANE"][lanes, 0]).group)
    shared = {"GROUP": frozenset(groups[groups > 0].tolist())}
    if config.tables:
        shared["ACTIVATION"] = frozenset(tables_of(contents["FILTER"][filters][:, 0]).tolist())
    return _TileWords(own, shared)


def _tile_ranges(
    config: ArrayConfig, contents: Mapping[str, Words], begin: int, end: int
) -> tuple[range, range, range]:
    """The words of LANE, of SLOT and of FILTER of some tiles: they lie in the order of the tiles."""
    tile = columns("TILE", contents["TILE"][:, 0])
    last = end - 1
    lanes = range(
        int(tile.lane_base[begin]), int(tile.lane_base[last]) + int(tile.passes[last]) * config.size
    )
    slots = lanes
    if config.xor_inputs:
        behind = int(tile.slot_base[end]) if end < len(tile.slot_base) else len(contents["SLOT"])
        slots = range(int(tile.slot_base[begin]), behind)
    return lanes, slots, range(int(tile.filter_base[begin]), int(tile.filter_base[last]) + config.size)


def _tap_rows(record: Layer) -> int:
    return record.phases * record.tap_stride


def _edge_words(record: Layer) -> int:
    return (record.phases - 1) * record.edge_stride + record.words


# places in the memories


class _Blocks:
    """Blocks of words in a memory, and the segment that uses each word last, -1 for none."""

    def __init__(self, words: int) -> None:
        self.last = np.full(words, -1)
        self.next = 0
        self.held: dict[range, range] = {}  # words of the table and of the memory

    def place(self, block: range, segment: int) -> tuple[int, int | None]:
        """Where the block lies from this segment on, and how many layers must have passed before it comes;
        None if it is there.

        The place is the one that has not been used for the longest time, and of those the next in a ring.
        """
        if block in self.held:
            begin, needs = self.held[block].start, None
        else:
            begin = min(self._starts(len(block)), key=lambda start: self._age(start, len(block)))
            needs = 1 + int(self.last[begin : begin + len(block)].max(initial=-1))
            here = range(begin, begin + len(block))
            self.held = {
                one: at for one, at in self.held.items() if at.stop <= here.start or here.stop <= at.start
            }
            self.held[block], self.next = here, here.stop
        self.last[begin : begin + len(block)] = segment
        return begin, needs

    def _starts(self, count: int) -> list[int]:
        """Places worth a look: a better one could be moved until it meets where the last segment changes."""
        changes = np.flatnonzero(np.diff(self.last)) + 1
        near = np.concatenate([[0, len(self.last) - count, self.next], changes, changes - count])
        return np.unique(near[(near >= 0) & (near <= len(self.last) - count)]).tolist()

    def _age(self, start: int, count: int) -> tuple[int, int]:
        return int(self.last[start : start + count].max(initial=-1)), (start - self.next) % len(self.last)


class _Units:
    """As `_Blocks`, for things that may lie anywhere: groups, activation tables. The first `kept` stay."""

    def __init__(self, places: int, units: int, kept: int = 0) -> None:
        self.last = np.full(places, -1)
        self.last[:kept] = np.iinfo(np.int64).max
        self.next = kept
        self.inside = np.full(places, -1)
        self.inside[:kept] = np.arange(kept)
        self.at = np.full(units, -1)
        self.at[:kept] = np.arange(kept)

    def place(self, units: IntArray, segment: int) -> tuple[IntArray, IntArray, IntArray]:
        """Keeps the units for this segment and finds a place for those that have none. Returns these, their
        places in ascending order, and how many layers must have passed before each comes.
        """
        at = self.at[units]
        self.last[at[at >= 0]] = segment
        new = units[at < 0]
        order = np.lexsort(((np.arange(len(self.last)) - self.next) % len(self.last), self.last))
        places = np.sort(order[: len(new)])
        needs = self.last[places] + 1
        gone = self.inside[places]
        self.at[gone[gone >= 0]] = -1
        self.inside[places], self.at[new], self.last[places] = new, places, segment
        if len(new):
            self.next = int(places[-1]) + 1
        return new, places, needs


class _Placing:
    """Gives the words of one segment after the other their places. `small` memories are too small for all."""

    def __init__(
        self,
        config: ArrayConfig,
        contents: Mapping[str, Words],
        small: set[str],
        room: Mapping[str, int],
    ) -> None:
        self.config, self.small = config, small
        self.given = contents
        self.words = {name: words.copy() for name, words in contents.items() if name != "PROGRAM"}
        self.blocks = {name: _Blocks(room[name]) for name in small if name in BLOCKS}
        self.groups = _Units(room["GROUP"], len(contents["GROUP"]), kept=1)
        self.tables = _Units(room.get("ACTIVATION", 0) // TABLE_WORDS, len(contents.get("ACTIVATION", ())))
        self.number = 0  # of the next segment
        self.needs = 0  # of all loads so far: the stream keeps its order

    def sections(self) -> tuple[Section, ...]:
        """What is loaded before START, other than PROGRAM."""
        kept = {name: words for name, words in self.words.items() if name not in self.small}
        if "GROUP" in self.small:
            kept["GROUP"] = self.words["GROUP"][:1]
        return tuple(Section(name, 0, kept[name]) for name in self.words if name in kept)

    def segment(self, part: Layer) -> _Segment:
        """Places the next segment."""
        cfg, words = self.config, self.words
        begin, end = part.tile_base, part.tile_base + part.tiles
        lanes, slots, filters = _tile_ranges(cfg, self.given, begin, end)
        loads = [*self._place_groups(lanes), *self._place_tables(filters)]
        bases = {}
        for memory, block, *others in (
            ("TAP", range(part.tap_base, part.tap_base + _tap_rows(part))),
            ("EDGE", range(part.edge_base, part.edge_base + _edge_words(part))),
            ("LANE", lanes) if cfg.xor_inputs else ("LANE", lanes, "SLOT"),
            *([("SLOT", slots)] if cfg.xor_inputs else ()),
            ("FILTER", filters),
        ):
            bases[memory], more = self._place_block(memory, block, *others)
            loads += more
        tile = columns("TILE", words["TILE"][begin:end, 0])
        tile.lane_base[:] += bases["LANE"] - lanes.start
        tile.filter_base[:] += bases["FILTER"] - filters.start
        if cfg.xor_inputs:
            tile.slot_base[:] += bases["SLOT"] - slots.start
        bases["TILE"], more = self._place_block("TILE", range(begin, end))
        loads += more
        loads.sort(key=lambda load: load.needs)
        self.needs = max([self.needs, *(load.needs for load in loads)])
        self.number += 1
        record = replace(part, tile_base=bases["TILE"], edge_base=bases["EDGE"], tap_base=bases["TAP"])
        cycles = RECORD_CYCLES + TILE_CYCLES + part.total * int(tile.passes.sum()) * cfg.size
        return _Segment(part, record, cycles, tuple(loads))

    def _place_block(self, memory: str, block: range, *others: str) -> tuple[int, list[_Load]]:
        """Where the words of a block lie, in `memory` and at the same address in `others`, and what must come
        for that.
        """
        if memory not in self.small or not block:
            return block.start, []
        begin, needs = self.blocks[memory].place(block, self.number)
        if needs is None:
            return begin, []
        return begin, [
            load
            for name in (memory, *others)
            for load in self._loads(needs, name, begin, self.words[name][block.start : block.stop])
        ]

    def _place_groups(self, lanes: range) -> Iterator[_Load]:
        if "GROUP" not in self.small:
            return
        group = columns("LANE", self.words["LANE"][lanes.start : lanes.stop, 0]).group
        used = np.unique(group)
        new, places, needs = self.groups.place(used[used > 0], self.number)
        group[:] = self.groups.at[group]
        for run in self._runs(places, needs):
            yield from self._loads(
                int(needs[run].max()), "GROUP", int(places[run.start]), self.given["GROUP"][new[run]]
            )

    def _place_tables(self, filters: range) -> Iterator[_Load]:
        if "ACTIVATION" not in self.small:
            return
        entries = columns("FILTER", self.words["FILTER"][filters.start : filters.stop, 0])
        new, places, needs = self.tables.place(tables_of(self.given["FILTER"][filters][:, 0]), self.number)
        looked_up = (entries.write == 1) & (entries.table > 0)
        entries.table[looked_up] = self.tables.at[entries.table[looked_up] - 1] + 1
        for table, place, need in zip(new.tolist(), places.tolist(), needs.tolist(), strict=True):
            words = self.given["ACTIVATION"][table * TABLE_WORDS : (table + 1) * TABLE_WORDS]
            yield from self._loads(need, "ACTIVATION", place * TABLE_WORDS, words)

    def _runs(self, places: IntArray, needs: IntArray) -> Iterator[slice]:
        """Places behind each other that may come at the same time."""
        needs = np.maximum(needs, self.needs)
        cuts = np.flatnonzero((np.diff(places) != 1) | (np.diff(needs) != 0)) + 1
        for begin, end in zip([0, *cuts.tolist()], [*cuts.tolist(), len(places)], strict=True):
            if begin < end:
                yield slice(begin, end)

    def _loads(self, needs: int, memory: str, address: int, words: Words) -> list[_Load]:
        return [
            _Load(needs, Section(memory, address + n, words[n : n + MAX_PACKET_WORDS]))
            for n in range(0, len(words), MAX_PACKET_WORDS)
        ]


# programs and streams


def _steps(
    config: ArrayConfig,
    contents: Mapping[str, Words],
    program: Sequence[Legal],
    parts: Mapping[Layer, Sequence[Layer]],
    segments: Sequence[_Segment],
) -> list[_Step]:
    """A program with each LAYER in its segments, which come in the order of `segments`."""
    cut = [part for record in program for part in (parts[record] if isinstance(record, Layer) else (record,))]
    gaps = columns("PROGRAM", set_gaps(config, {**contents, "PROGRAM": encode_all(cut)})).gap[:, 0].tolist()
    steps, following = [], iter(segments)
    for record, gap in zip(cut, gaps, strict=True):
        if not isinstance(record, Layer):
            steps.append(_Step(record))
            continue
        segment = next(following)
        assert segment.part == record
        if segment.loads:
            steps.append(_Step(Wait(len(segment.loads)), segment.loads))
        steps.append(_Step(replace(segment.record, gap=gap), cycles=segment.cycles))
    return steps


def _paged(
    programs: tuple[list[_Step], list[_Step]], room: int, others: tuple[Section, ...]
) -> tuple[tuple[list[_Step], list[_Step]], tuple[Section, ...], tuple[int, int]]:
    """The programs with their places in PROGRAM, the sections with PROGRAM in front, and the programs' first
    words.

    Without room for both, the first page of each stays there, and the others come over the stream, into two
    places in turn. At the end of a page the program waits for the next and jumps to it.
    """
    if sum(map(len, programs)) <= room:
        run, dump = (_shrunk(steps) for steps in programs)
        whole = Section("PROGRAM", 0, encode_all(step.record for step in (*run, *dump)))
        return (run, dump), (whole, *others), (0, len(run))
    least = max(_least_program(step.record for step in steps) for steps in programs)
    if room < least:
        raise TatamiError(f"PROGRAM needs {least} words to come piece by piece, there are {room}")
    size = room // PAGES
    found, heads = [], []
    for number, steps in enumerate(programs):
        pages = _pages(steps, size, number * size)
        heads.append(Section("PROGRAM", number * size, encode_all(step.record for step in pages[0])))
        found.append([step for page in pages for step in page])
    return (found[0], found[1]), (*heads, *others), (0, size)


def _least_program(program: Iterable[Legal]) -> int:
    """The words of PROGRAM with which a program can come page by page. Each page has a LAYER: only that says
    when the page before it is free.
    """
    longest = length = 0
    for record in program:
        if not isinstance(record, Wait):
            length = 0 if isinstance(record, Layer) else length + 1
        longest = max(longest, length)
    # the WAIT of a segment, the LAYER, and what leads to the next page
    return PAGES * (longest + 4)


def _pages(steps: list[_Step], size: int, head: int) -> list[list[_Step]]:
    """The steps in pages of at most `size` records, the first at word `head` of PROGRAM, with what leads from
    one to the next.
    """
    cut = []
    while len(steps) > size:
        cut.append(steps[: size - 2])
        steps = steps[size - 2 :]
    places = [head, *(size * (2 + number % 2) for number in range(len(cut)))]
    flat = _shrunk(
        [
            step
            for page, place in zip(cut, places[1:], strict=True)
            for step in (*page, _Step(Wait(1)), _Step(Jump(place)))
        ]
        + steps
    )
    pages = [flat[number * size : (number + 1) * size] for number in range(len(places))]
    passed = 0  # layers of the pages before
    for number, page in enumerate(pages[:-1]):
        layers = [isinstance(step.record, Layer) for step in page]
        # the page that is overwritten has been left when the first layer of this one has passed
        needs = passed + 1 if number >= 2 else 0
        passed += sum(layers)
        words = encode_all(step.record for step in pages[number + 1])
        page[-2] = _Step(Wait(1), (_Load(needs, Section("PROGRAM", places[number + 1], words)),))
    return pages


def _shrunk(steps: Sequence[_Step]) -> list[_Step]:
    """The steps, with each gap less the cycles of what comes before the next LAYER."""
    found = list(steps)
    for number, step in enumerate(steps):
        if isinstance(step.record, Layer) and step.record.gap:
            between = 0
            for other in steps[number + 1 :]:
                if isinstance(other.record, Layer):
                    break
                between += RECORD_CYCLES + WAIT_CYCLES * isinstance(other.record, Wait)
            found[number] = replace(step, record=replace(step.record, gap=max(1, step.record.gap - between)))
    return found


def _stream(steps: Iterable[_Step]) -> Iterator[Live]:
    """What the load stream brings, in the order of the WAITs."""
    passed = 0
    for step in steps:
        for load in step.loads:
            if load.needs > passed:
                yield Hold(load.needs - passed)
                passed = load.needs
            yield load.section


def _clocked(config: ArrayConfig, steps: Iterable[_Step], stream: Iterable[Live]) -> Clocked:
    """A program where the stream brings a beat in every cycle."""
    records = [
        (
            step.record,
            step.cycles + drain_cycles(config, step.record.gap) if isinstance(step.record, Layer) else 0,
        )
        for step in steps
    ]
    return clocked(config, records, stream)


def _by_layer(names: Iterable[str], waits: Iterable[int]) -> dict[str, int]:
    """The waits in front of all segments of each layer."""
    found: dict[str, int] = {}
    for name, cycles in zip(names, waits, strict=True):
        found[name] = found.get(name, 0) + cycles
    return found
