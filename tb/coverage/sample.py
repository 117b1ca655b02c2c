"""Derives observations from the model's state: what a program made the machine do, and in which cycles the
sequencer was in which state.

Everything is derived from the memories of a `Machine` and the counts of a `ProgramRun`, once for each program
and not for each pixel. A test or a scoreboard calls `sample_program`. It does nothing unless coverage was
requested.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from pymodel.machine.errors import ErrorCode
from pymodel.machine.faults import ProgramError
from pymodel.machine.memory import beyond, columns
from pymodel.machine.model import Machine
from pymodel.machine.program import MAXIMUM, End, Jump, Layer, Out, Record, Unknown, Wait, decode
from pymodel.machine.runs import LayerRun, ProgramRun
from pymodel.machine.slot_rows import RAW
from pymodel.machine.timing import OUT_LATENCY, RECORD_CYCLES, WAIT_CYCLES, drain_cycles
from tb.common.run_clock import NEVER, Mark
from tb.coverage import collect
from tb.coverage.observe import (
    ColumnSeen,
    EventSeen,
    HandoverSeen,
    LaneSeen,
    LayerSeen,
    Observation,
    ProgramSeen,
    ReadSeen,
    RequantSeen,
    RowSeen,
    SlotSeen,
    TapSeen,
)
from tb.coverage.points import BIAS, BYTE, DIGIT, LENGTHS, MULTIPLIER, SHIFT, WEIGHT

IntArray = npt.NDArray[np.int64]

OPCODE_NAMES: dict[type[Record], str] = {
    Layer: "LAYER",
    Out: "OUT",
    End: "END",
    Wait: "WAIT",
    Jump: "JUMP",
}
HANDOVER = ("FETCH", "DECODE", "TILE", "TILE_WAIT")

# The programs that were sampled last, by their start.
PROGRAMS: dict[int, StateTimeline] = {}


def observe(machine: Machine) -> Machine:
    """The machine, whose layers are observed as they run. Needed for a program with a live stream, which may
    have written other tables over those of a layer when the program is sampled.
    """
    if collect.enabled():
        machine.observer = layer_observations
    return machine


def sample_program(machine: Machine, start: int, run_or_error: ProgramRun | ProgramError) -> None:
    """Counts what a program reached that ran from word `start` of `machine`'s memories.

    It ran to its end (`ProgramRun`) or into an error (`ProgramError`).

    Call it before or while the RTL runs the same program, so that events on the pins in the meantime are
    counted in the right state.
    """
    if not collect.enabled():
        return
    database = collect.database(machine.config)
    timeline = StateTimeline.of(machine, start, run_or_error)
    if isinstance(run_or_error, ProgramError):
        state = timeline.at(run_or_error.cycle + 1)
        if state in HANDOVER and run_or_error.code >= ErrorCode.GROUP_RANGE:
            state = "HANDOVER"  # an error of the layer before
        database.add([ProgramSeen(start, 0, 0, None, (run_or_error.code.name, state))])
    else:
        database.add(observations(machine, start, run_or_error))
    PROGRAMS[start] = timeline


def follow_program(machine: Machine, start: int, run: ProgramRun) -> None:
    """Notes how far a program has been predicted, for the events on the pins until its end is known."""
    if collect.enabled():
        PROGRAMS[start] = StateTimeline.of(machine, start, run)


def sample_event(kind: str, *, state: str = "", where: str = "") -> None:
    """Counts an event: a reset, an error or a stall, in a state of the sequencer or at a place in a
    packet.
    """
    if collect.enabled():
        collect.database().add([EventSeen(kind, state, where)])


@dataclass(frozen=True)
class Passes:
    """How the cycles of a layer in RUN are divided. Each chunk of its words is run `passes` times, and a word
    takes `size` cycles.
    """

    words: int
    chunk_words: int
    passes: int
    size: int

    @property
    def cycles(self) -> int:
        return self.words * self.passes * self.size

    def place(self, cycle: int) -> str:
        """The place of a cycle in its pass.

        Only the last chunk may be shorter, so all chunks before it take the same time.
        """
        chunk, into_chunk = divmod(cycle, self.passes * self.chunk_words * self.size)
        length = min(self.chunk_words, self.words - chunk * self.chunk_words) * self.size
        into_pass = into_chunk % length
        return (
            "first cycle" if into_pass == 0 else "last cycle" if into_pass == length - 1 else "middle cycle"
        )


@dataclass(frozen=True)
class StateTimeline:
    """States of the sequencer from the write of START on.

    `ends[i]` is the first cycle after `states[i]`. `layers[i]` belongs to a RUN. `marks` are the WAITs,
    and `around` the records before and after each, "" if there is none. If the program has been predicted up
    to a WAIT for packets, that is the last state.
    """

    states: tuple[str, ...]
    ends: IntArray
    layers: Mapping[int, Passes]
    marks: tuple[Mark, ...] = ()
    around: tuple[tuple[str, str], ...] = ()

    @staticmethod
    def of(machine: Machine, start: int, run_or_error: ProgramRun | ProgramError) -> StateTimeline:
        """For a program that stops with an error, the last state is ERROR."""
        parts: list[tuple[str, int]] = [("IDLE", 1)]
        layers: dict[int, Passes] = {}
        marks: list[Mark] = []
        needed = 0
        run = run_or_error.run if isinstance(run_or_error, ProgramError) else run_or_error
        done = iter(run.layers)
        for record in _records(machine, start, run_or_error):
            parts += [("FETCH", 1), ("DECODE", RECORD_CYCLES - 1)]
            if isinstance(record, Layer):
                ran = next(done, None)
                passes = _passes(machine, record) if ran is None else ran.passes // ran.chunks
                layer = Passes(record.total, record.chunk_words, passes, machine.config.size)
                layers[len(parts) + 2] = layer
                parts += [
                    ("TILE", 1),
                    ("TILE_WAIT", 1),
                    ("RUN", layer.cycles),
                    ("DRAIN", drain_cycles(machine.config, record.gap)),
                ]
            elif isinstance(record, Out):
                parts.append(("OUT", record.words + OUT_LATENCY))
            elif isinstance(record, Wait):
                needed += record.packets
                marks.append(Mark(sum(cycles for _, cycles in parts), needed))
                parts.append(("WAIT", WAIT_CYCLES))
        if isinstance(run_or_error, ProgramRun) and parts[-1][0] == "WAIT":
            parts[-1] = ("WAIT", NEVER)
        ends = np.cumsum([cycles for _, cycles in parts])
        states = [state for state, _ in parts]
        if isinstance(run_or_error, ProgramError):
            # its last cycle; cycle 0 of the run is one after that of START
            stopped = max(run_or_error.cycles, run_or_error.cycle + 1)
            last = int(np.searchsorted(ends, stopped, side="right"))
            states, ends = [*states[: last + 1], "ERROR"], np.append(ends[:last], [stopped + 1, NEVER])
        return StateTimeline(tuple(states), ends, layers, tuple(marks), _around(run))

    def at(self, cycle: int) -> str:
        """The state `cycle` cycles after START was taken. Cycles in which a word of the out stream waited are
        not counted.
        """
        index = self._index(cycle)
        return self.states[index] if index < len(self.states) else "IDLE"

    def place(self, cycle: int) -> str:
        """The place of such a cycle in a pass, or that it is between the passes of two layers. Empty before
        the first and after the last pass.
        """
        index = self._index(cycle)
        if self.states[index : index + 1] == ("RUN",):
            return self.layers[index].place(cycle - int(self.ends[index - 1]))
        return "between layers" if "RUN" in self.states[:index] and "RUN" in self.states[index:] else ""

    def _index(self, cycle: int) -> int:
        return int(np.searchsorted(self.ends, cycle, side="right"))


def _records(machine: Machine, start: int, run_or_error: ProgramRun | ProgramError) -> Iterator[Record]:
    """The records of a program that ran. If it ran into an error, also those that may have begun when the
    error was found, up to END; if it runs past its memory, one more.
    """
    run = run_or_error.run if isinstance(run_or_error, ProgramError) else run_or_error
    yield from (ran.record for ran in run.records)
    if not isinstance(run_or_error, ProgramError):
        return
    pc = start
    if run.records:
        last = run.records[-1]
        pc = last.record.target if isinstance(last.record, Jump) else last.pc + 1
    for each in range(pc, machine.config.program_depth):
        record = decode(machine.memory["PROGRAM"][each, 0])
        yield record
        if isinstance(record, End):
            return
    yield Unknown(0)


def _around(run: ProgramRun) -> tuple[tuple[str, str], ...]:
    """The records before and after each WAIT that ran."""
    names = ["START", *(OPCODE_NAMES[type(ran.record)] for ran in run.records), ""]
    return tuple(
        (before, after)
        for before, this, after in zip(names, names[1:], names[2:], strict=False)
        if this == "WAIT"
    )


def _passes(machine: Machine, record: Layer) -> int:
    """The passes of all tiles of a layer. Each runs over all words of the layer."""
    return int(columns("TILE", machine.memory["TILE"][record.tile_range]).passes.sum())


def observations(machine: Machine, start: int, run: ProgramRun) -> set[Observation]:
    """All observations of a program that reached its end."""
    seen: set[Observation] = set()
    names = ["START", *(OPCODE_NAMES[type(ran.record)] for ran in run.records)]
    seen |= {ProgramSeen(start, names.count("LAYER"), names.count("OUT"), pair) for pair in pairwise(names)}
    before: Layer | None = None
    layers = [ran.record for ran in run.records if isinstance(ran.record, Layer)]
    for record, layer in zip(layers, run.layers, strict=True):
        if before is not None and before.gap:
            seen.add(HandoverSeen(mode_name(before), mode_name(record)))
        before = record
        if layer.observed is None:
            layer.observed = layer_observations(machine, record, layer)
        seen |= layer.observed
    return seen


def layer_observations(machine: Machine, record: Layer, run: LayerRun) -> set[Observation]:
    """Of one layer, whose tables are in the memories."""
    return LayerSampler(machine, record, run).observations()


def mode_name(record: Layer) -> str:
    return "maximum" if record.mode == MAXIMUM else "sum"


class LayerSampler:
    """One LAYER record that ran, and the parts of the memories that it used."""

    def __init__(self, machine: Machine, record: Layer, run: LayerRun) -> None:
        self.config = machine.config
        self.memory = machine.memory
        self.record = record
        self.run = run
        t = self.config.size
        self.tiles = columns("TILE", self.memory["TILE"][record.tile_range, 0])  # [tiles]
        named = np.concatenate(
            [
                columns("LANE", self.memory["LANE"][base : base + passes * t, 0]).group
                for base, passes in zip(self.tiles.lane_base, self.tiles.passes, strict=True)
            ]
        )
        self.groups, self.group_of_lane, self.lanes_of_group = np.unique(
            named, return_inverse=True, return_counts=True
        )
        members = self.memory["GROUP"][self.groups]
        self.members = columns("GROUP", members)  # [groups, G]
        tiles = range(record.tile_base, record.tile_base + record.tiles)
        self.stored = [machine.rows(tile) for tile in tiles]
        self.slots = columns("SLOT", np.concatenate([rows.rows for rows in self.stored]))  # [lanes, C]
        self.filters = columns(  # [tiles, C]
            "FILTER", np.stack([self.memory["FILTER"][base : base + t, 0] for base in self.tiles.filter_base])
        )
        words = np.arange(record.total).reshape(record.phases, record.words)
        self.edges = columns("EDGE", self.memory["EDGE"][record.edge_word(words)])  # [P, words, T]
        self.reads = columns("GROUP", np.unique(members[self.members.valid == 1], axis=0))  # [reads]
        rows = record.tap_row(words[:, :1])
        self.taps = columns("TAP", self.memory["TAP"][rows + self.reads.tap, 0])  # [P, reads]

    def observations(self) -> set[Observation]:
        return {
            self.layer(),
            *self.slot_set(),
            *self.row_set(),
            *self.lane_set(),
            *self.column_set(),
            *self.requant_set(),
            *self.tap_set(),
            *self.read_set(),
        }

    def layer(self) -> LayerSeen:
        r, run = self.record, self.run
        writes = self.filters.write == 1
        total, chunk = r.total, r.chunk_words
        rest = total - (run.chunks - 1) * chunk
        edges = (
            ""
            if run.chunks == 1 or r.phases == 1
            else "at a phase edge"
            if chunk % r.words == 0
            else "inside a phase"
        )
        # the last chunk is the shortest; a pass takes T cycles for each word, and loading its slots takes T
        t = reload = self.config.size
        return LayerSeen(
            size=t,
            filters=int(writes.sum()),
            pixels=int(self.edges.valid.sum()),
            lanes=int(np.count_nonzero(self.members.valid.sum(axis=1)[self.group_of_lane])),
            words=r.words,
            phases=r.phases,
            chunks=run.chunks,
            tiles=run.tiles,
            passes=int(self.tiles.passes.max()),
            pass_length=LENGTHS[1 + int(np.sign(rest * t - reload))],
            last_chunk="whole" if rest == chunk else "one word" if rest == 1 else "shorter",
            chunk_edge=edges,
            gap=r.gap,
            mode=mode_name(r),
            pad=int(ends(np.array(r.pad), *BYTE)),
            relu=bool((self.filters.low == self.filters.zero)[writes].any()),
            clipped_low=run.clipped_low > 0,
            clipped_high=run.clipped_high > 0,
        )

    def slot_set(self) -> set[SlotSeen]:
        lane, column = np.nonzero(self.slots.weight)
        weight, select = self.slots.weight[lane, column], self.slots.select[lane, column]
        row = lane % self.config.size
        if self.config.weight_bits == 8:
            return {SlotSeen(r, s, w) for r, s, w in distinct(row, select, ends(weight, *WEIGHT))}
        position = self.slots.position[lane, column]
        return {
            SlotSeen(r, s, w, ("low", "high")[above])
            for r, s, w, above in distinct(row, select, ends(weight, *DIGIT), position)
        }

    def row_set(self) -> set[RowSeen]:
        if not self.config.xor_inputs:
            return set()
        seen = set()
        for stored in self.stored:
            words = (stored.ends - 1) // self.config.slot_word_bits
            before = np.concatenate([[0], stored.ends[:-1] - 1]) // self.config.slot_word_bits
            for number, patches in enumerate(stored.patches.tolist()):
                place = (
                    "first of its tile"
                    if number == 0
                    else "inside a word"
                    if words[number] == before[number]
                    else "into a new word"
                )
                seen.add(RowSeen("as it is" if patches == RAW else patches, place))
        return seen

    def lane_set(self) -> set[LaneSeen]:
        used = self.slots.weight != 0
        members = self.members.valid.sum(axis=1)
        selects = (
            (used[:, :, None] & (self.slots.select[:, :, None] == np.arange(self.config.group)))
            .any(axis=1)
            .sum(axis=1)
        )
        sharing = np.where(members > 0, self.lanes_of_group, 0)
        rows = distinct(used.sum(axis=1), members[self.group_of_lane], selects, sharing[self.group_of_lane])
        return {LaneSeen(self.config.size, self.config.group, *row) for row in rows}

    def column_set(self) -> set[ColumnSeen]:
        seen = set()
        for index, stored in enumerate(self.stored):
            weights = np.count_nonzero(columns("SLOT", stored.rows).weight, axis=0)
            passes = np.full_like(weights, self.tiles.passes[index])
            rows = distinct(weights, passes, self.filters.write[index])
            seen |= {ColumnSeen(w, number, bool(write)) for w, number, write in rows}
        return seen

    def requant_set(self) -> set[RequantSeen]:
        f = self.filters
        limits = [(f.bias, BIAS), (f.multiplier, MULTIPLIER), (f.shift, SHIFT)]
        limits += [(f.zero, BYTE), (f.low, BYTE), (f.high, BYTE)]
        numbers = [ends(column[f.write == 1], *limit) for column, limit in limits]
        tables = f.table[f.write == 1] if self.config.tables else np.full(len(numbers[0]), -1)
        rows = distinct(*numbers, tables)
        return {RequantSeen(b, m, s, z, lo, hi, self.table_name(n)) for b, m, s, z, lo, hi, n in rows}

    def table_name(self, table: int) -> str:
        """The place of a filter's activation table among all."""
        names = {self.config.tables: "last", 1: "first", 0: "none", -1: ""}
        return names.get(table, "another")

    def tap_set(self) -> set[TapSeen]:
        seen: set[TapSeen] = set()
        phases = self.record.phases
        for phase in range(phases):
            reached = np.stack([self.taps.dy[phase], self.taps.dx[phase]])
            dy, dx = np.unique(reached, axis=1)[:, :, None, None]
            edges = self.edges.at(phase)
            valid = edges.valid == 1
            over = beyond(edges, dy, dx)  # [taps, words, T] each
            reaches = {"left": -dx, "right": dx, "top": -dy, "bottom": dy}
            masks = {edge: (over[edge] & valid, reach[:, 0, 0]) for edge, reach in reaches.items()}
            across, along = masks["left"][0] | masks["right"][0], masks["top"][0] | masks["bottom"][0]
            masks["corner"] = (across & along, np.maximum(np.abs(dx), np.abs(dy))[:, 0, 0])
            for edge, (mask, reach) in masks.items():
                tap, word = np.nonzero(mask.any(axis=2))
                whole = (mask == valid).all(axis=2)[tap, word]
                seen |= {
                    TapSeen(edge, r, "all pixels" if w else "some pixels", phases)
                    for r, w in distinct(reach[tap], whole)
                }
        return seen

    def read_set(self) -> set[ReadSeen]:
        t = self.config.size
        first = (self.reads.base * t + self.taps.offset)[..., None] + np.arange(min(2, self.record.words)) * t
        return {
            ReadSeen(bool(a), bool(odd))
            for a, odd in distinct(first.ravel() % t == 0, first.ravel() // t % 2)
        }


def ends(values: IntArray, low: int, high: int) -> IntArray:
    """Values reduced to what `points.limits` needs: the ends of the range stay, and of all other values only
    the sign stays.
    """
    inner = np.clip(values, low + 1, high - 1)
    middle = np.clip(inner, max(low + 1, -1), 1)
    return np.where(values == low, low, np.where(values == high, high, middle))


def distinct(*columns: npt.NDArray[np.generic]) -> list[list[int]]:
    """The distinct rows of equally long columns, as Python integers."""
    if not len(columns[0]):
        return []
    rows: list[list[int]] = np.unique(
        np.stack([c.astype(np.int64) for c in columns], axis=1), axis=0
    ).tolist()
    return rows
