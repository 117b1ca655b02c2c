"""From the model's state to observations: what a program made the machine do, and when the sequencer was in
which state.

Everything is found from the memories of a `Machine` and the counts of a `Run`, once a program, not once a
pixel. `sample_program` is what a test or a scoreboard calls; unless coverage is asked for, it does nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from pymodel.machine.errors import ErrorCode
from pymodel.machine.image import OPCODE_END, OPCODE_LAYER, OPCODE_OUT
from pymodel.machine.memory import PROGRAM_FIELDS
from pymodel.machine.model import (
    OUT_LATENCY,
    RECORD_CYCLES,
    LayerRun,
    Machine,
    MachineError,
    Run,
    drain_cycles,
)
from pymodel.machine.slot_rows import RAW
from tb.coverage import collect
from tb.coverage.observe import (
    ColumnSeen,
    EventSeen,
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
from tb.coverage.points import BIAS, DIGIT, LENGTHS, MULTIPLIER, SHIFT, WEIGHT

IntArray = npt.NDArray[np.int64]
Record = dict[str, int]

OPCODE_NAMES = {OPCODE_LAYER: "LAYER", OPCODE_OUT: "OUT", OPCODE_END: "END"}
NEVER = 2**62
HANDOVER = ("FETCH", "DECODE", "TILE", "TILE_WAIT")
KERNELS = {1: 1, 9: 3, 25: 5}  # taps of a phase -> side of the kernel

# The programs that were sampled last, by their start.
PROGRAMS: dict[int, Timeline] = {}


def sample_program(machine: Machine, start: int, run_or_error: Run | MachineError) -> None:
    """Count what a program reached that ran from word `start` of `machine`'s memories: to its end (`Run`) or
    into an error.

    Call it before or while the RTL runs the same, so that events on the pins meanwhile are seen in the right
    state.
    """
    if not collect.enabled():
        return
    database = collect.database(machine.config)
    timeline = Timeline.of(machine, start, run_or_error)
    if isinstance(run_or_error, MachineError):
        state = timeline.at(run_or_error.cycle + 1)
        if state in HANDOVER and run_or_error.code >= ErrorCode.GROUP_RANGE:
            state = "HANDOVER"  # an error of the layer before
        database.add([ProgramSeen(start, 0, 0, None, (run_or_error.code.name, state))])
    else:
        database.add(observations(machine, start, run_or_error))
    PROGRAMS[start] = timeline


def sample_event(kind: str, *, state: str = "", where: str = "") -> None:
    """Count an event: a reset, an error, a stall, in a state of the sequencer or at a place in a packet."""
    if collect.enabled():
        collect.database().add([EventSeen(kind, state, where)])


@dataclass(frozen=True)
class Passes:
    """How a layer's cycles in RUN are cut: each chunk of its words is gone over `passes` times, a word in
    `size` cycles.
    """

    words: int
    chunk_words: int
    passes: int
    size: int

    @property
    def cycles(self) -> int:
        return self.words * self.passes * self.size

    def place(self, cycle: int) -> str:
        """Where in its pass a cycle is.

        Only the last chunk may be shorter, so all before it take the same time.
        """
        chunk, into_chunk = divmod(cycle, self.passes * self.chunk_words * self.size)
        length = min(self.chunk_words, self.words - chunk * self.chunk_words) * self.size
        into_pass = into_chunk % length
        return (
            "first cycle" if into_pass == 0 else "last cycle" if into_pass == length - 1 else "middle cycle"
        )


@dataclass(frozen=True)
class Timeline:
    """States of the sequencer from the write of START on:

    `ends[i]` is the first cycle after `states[i]`; `layers[i]` goes with a RUN.
    """

    states: tuple[str, ...]
    ends: IntArray
    layers: Mapping[int, Passes]

    @staticmethod
    def of(machine: Machine, start: int, run_or_error: Run | MachineError) -> Timeline:
        """For a program that stops with an error, the last state is ERROR."""
        parts: list[tuple[str, int]] = [("IDLE", 1)]
        layers: dict[int, Passes] = {}
        for _, record in records(machine, start):
            parts += [("FETCH", 1), ("DECODE", RECORD_CYCLES - 1)]
            if record["opcode"] == OPCODE_LAYER:
                layer = Passes(
                    record["words"] * record["phases"],
                    record["chunk_words"],
                    _passes(machine, record),
                    machine.config.size,
                )
                layers[len(parts) + 2] = layer
                parts += [
                    ("TILE", 1),
                    ("TILE_WAIT", 1),
                    ("RUN", layer.cycles),
                    ("DRAIN", drain_cycles(machine.config.size, record["gap"])),
                ]
            elif record["opcode"] == OPCODE_OUT:
                parts.append(("OUT", record["chunk_words"] + OUT_LATENCY))
        ends = np.cumsum([cycles for _, cycles in parts])
        states = [state for state, _ in parts]
        if isinstance(run_or_error, MachineError):
            stopped = run_or_error.cycles  # its last: a cycle of the run is one after that of START
            last = int(np.searchsorted(ends, stopped, side="right"))
            states, ends = [*states[: last + 1], "ERROR"], np.append(ends[:last], [stopped + 1, NEVER])
        return Timeline(tuple(states), ends, layers)

    def at(self, cycle: int) -> str:
        """The state `cycle` cycles after START was taken, those not counted in which a word of the out stream
        waited.
        """
        index = self._index(cycle)
        return self.states[index] if index < len(self.states) else "IDLE"

    def place(self, cycle: int) -> str:
        """Where such a cycle is in a pass, or that it is between the passes of two layers; empty before the
        first and after the last pass.
        """
        index = self._index(cycle)
        if self.states[index : index + 1] == ("RUN",):
            return self.layers[index].place(cycle - int(self.ends[index - 1]))
        return "between layers" if "RUN" in self.states[:index] and "RUN" in self.states[index:] else ""

    def _index(self, cycle: int) -> int:
        return int(np.searchsorted(self.ends, cycle, side="right"))


def records(machine: Machine, start: int) -> Iterator[tuple[int, Record]]:
    """The records of a program up to END, with their addresses; one more where the program runs past its
    memory.
    """
    for pc in range(start, machine.config.program_depth):
        record = dict(zip(PROGRAM_FIELDS, machine.memory["PROGRAM"][pc, 0].tolist(), strict=True))
        yield pc, record
        if record["opcode"] == OPCODE_END:
            return
    yield machine.config.program_depth, dict.fromkeys(PROGRAM_FIELDS, 0)


def _passes(machine: Machine, record: Record) -> int:
    """The passes of all tiles of a layer, each of which goes over all its words."""
    return int(
        machine.memory["TILE"][record["tile_base"] : record["tile_base"] + record["tiles"], 0, 1].sum()
    )


def observations(machine: Machine, start: int, run: Run) -> set[Observation]:
    """Everything there is to see in a program that came to its end."""
    seen: set[Observation] = set()
    names = ["START", *(OPCODE_NAMES[r["opcode"]] for _, r in records(machine, start))]
    seen |= {ProgramSeen(start, names.count("LAYER"), names.count("OUT"), pair) for pair in pairwise(names)}
    program = dict(records(machine, start))
    for layer in run.layers:
        seen |= _Layer(machine, program[layer.index], layer).observations()
    return seen


class _Layer:
    """One LAYER record that ran, and the parts of the memories that it used."""

    def __init__(self, machine: Machine, record: Record, run: LayerRun) -> None:
        self.config = machine.config
        self.memory = machine.memory
        self.record = record
        self.run = run
        t = self.config.size
        # [tiles, fields]
        self.tiles = self.memory["TILE"][record["tile_base"] : record["tile_base"] + record["tiles"], 0]
        self.lanes = [slice(base, base + passes * t) for base, passes in self.tiles[:, :2].tolist()]
        named = np.concatenate([self.memory["LANE"][lanes, 0, 0] for lanes in self.lanes])
        self.groups, self.group_of_lane, self.lanes_of_group = np.unique(
            named, return_inverse=True, return_counts=True
        )
        self.members = self.memory["GROUP"][self.groups]  # [groups, G, fields]
        self.stored = [
            machine.rows(tile) for tile in range(record["tile_base"], record["tile_base"] + record["tiles"])
        ]
        self.slots = np.concatenate([rows.rows for rows in self.stored])  # [lanes, C, fields]
        # [tiles, C, fields]
        self.filters = np.stack(
            [self.memory["FILTER"][base : base + t, 0] for base in self.tiles[:, 2].tolist()]
        )
        phases = np.arange(record["phases"])[:, None]
        # [P, words, T, fields]
        self.edges = self.memory["EDGE"][
            record["edge_base"] + phases * record["edge_stride"] + np.arange(record["words"])
        ]
        valid = self.members[:, :, 0] == 1
        self.reads = np.unique(self.members[valid][:, 1:], axis=0)  # [reads, (base, tap)]
        rows = record["tap_base"] + phases * record["tap_stride"]
        self.taps = self.memory["TAP"][rows + self.reads[:, 1], 0]  # [P, reads, fields]

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
        writes = self.filters[:, :, 4] == 1
        total, chunk = r["words"] * r["phases"], r["chunk_words"]
        rest = total - (run.chunks - 1) * chunk
        edges = (
            ""
            if run.chunks == 1 or r["phases"] == 1
            else "at a phase edge"
            if chunk % r["words"] == 0
            else "inside a phase"
        )
        # the last chunk is the shortest; a pass takes T cycles a word, to fill the array with slots T in all
        t = reload = self.config.size
        return LayerSeen(
            size=t,
            filters=int(writes.sum()),
            pixels=int(self.edges[..., 0].sum()),
            lanes=int((self.members[:, :, 0].any(axis=1))[self.group_of_lane].sum()),
            words=r["words"],
            phases=r["phases"],
            chunks=run.chunks,
            tiles=run.tiles,
            passes=int(self.tiles[:, 1].max()),
            pass_length=LENGTHS[1 + int(np.sign(rest * t - reload))],
            last_chunk="whole" if rest == chunk else "one word" if rest == 1 else "shorter",
            chunk_edge=edges,
            gap=r["gap"],
            kind=self.kind(),
            stride=self.stride(),
            relu=bool(self.filters[writes][:, 3].any()),
            clipped_low=run.clipped_low > 0,
            clipped_high=run.clipped_high > 0,
        )

    def kind(self) -> str:
        """What the layer was in the network, as far as its tables tell: a residual is one tap more than its
        kernel has.
        """
        taps = self.record["tap_stride"]
        if taps in KERNELS:
            return f"conv {KERNELS[taps]}"
        if taps - 1 in KERNELS:
            return "residual"
        weight = self.slots[:, :, 0]
        return "pool" if set(np.unique(weight).tolist()) <= {0, 1} else "linear"

    def stride(self) -> int:
        """With stride 2 the k rows of a kernel lie in two sub-planes, so their `dy` are fewer than k. 0 where
        that does not show.
        """
        taps, phases = self.record["tap_stride"], self.record["phases"]
        side = KERNELS.get(taps, KERNELS.get(taps - 1, 1))
        if side == 1 or phases > 1:
            return 0
        dy = self.memory["TAP"][self.record["tap_base"] : self.record["tap_base"] + side * side, 0, 1]
        return 1 if len(np.unique(dy)) == side else 2

    def slot_set(self) -> set[SlotSeen]:
        lane, column = np.nonzero(self.slots[:, :, 0])
        weight, above, select = self.slots[lane, column][:, [0, 1, -1]].T
        row = lane % self.config.size
        if self.config.weight_bits == 8:
            return {SlotSeen(r, s, w) for r, s, w in distinct(row, select, ends(weight, *WEIGHT))}
        return {
            SlotSeen(r, s, w, ("low", "high")[position])
            for r, s, w, position in distinct(row, select, ends(weight, *DIGIT), above)
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
        used = self.slots[:, :, 0] != 0
        members = self.members[:, :, 0].sum(axis=1)
        selects = (
            (used[:, :, None] & (self.slots[:, :, -1, None] == np.arange(self.config.group)))
            .any(axis=1)
            .sum(axis=1)
        )
        sharing = np.where(members > 0, self.lanes_of_group, 0)
        rows = distinct(used.sum(axis=1), members[self.group_of_lane], selects, sharing[self.group_of_lane])
        return {LaneSeen(self.config.size, self.config.group, *row) for row in rows}

    def column_set(self) -> set[ColumnSeen]:
        seen = set()
        for index, stored in enumerate(self.stored):
            weights = np.count_nonzero(stored.rows[:, :, 0], axis=0)
            rows = distinct(weights, np.full_like(weights, self.tiles[index, 1]), self.filters[index, :, 4])
            seen |= {ColumnSeen(w, passes, bool(write)) for w, passes, write in rows}
        return seen

    def requant_set(self) -> set[RequantSeen]:
        written = self.filters[self.filters[:, :, 4] == 1]
        return {
            RequantSeen(*row)
            for row in distinct(
                *(ends(written[:, i], *limits) for i, limits in enumerate((BIAS, MULTIPLIER, SHIFT)))
            )
        }

    def tap_set(self) -> set[TapSeen]:
        seen: set[TapSeen] = set()
        phases = self.record["phases"]
        for phase in range(phases):
            _, dy, dx = np.unique(self.taps[phase] * (0, 1, 1), axis=0).T[:, :, None, None]
            valid, left, right, top, bottom = np.moveaxis(self.edges[phase], 2, 0)
            valid = valid == 1
            over = {
                "left": (-dx > left, -dx),
                "right": (dx > right, dx),
                "top": (-dy > top, -dy),
                "bottom": (dy > bottom, dy),
            }
            # [taps, words, T]
            masks = {edge: (mask & valid, reach[:, 0, 0]) for edge, (mask, reach) in over.items()}
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
        first = (self.reads[:, 0] * t + self.taps[:, :, 0])[..., None] + np.arange(
            min(2, self.record["words"])
        ) * t
        return {
            ReadSeen(bool(a), bool(odd))
            for a, odd in distinct(first.ravel() % t == 0, first.ravel() // t % 2)
        }


def ends(values: IntArray, low: int, high: int) -> IntArray:
    """Values as they matter to `points.limits`: the ends of the range as they are, of all others the sign,
    away from both ends.
    """
    inner = np.clip(values, low + 1, high - 1)
    middle = np.clip(inner, max(low + 1, -1), 1)
    return np.where(values == low, low, np.where(values == high, high, middle))


def distinct(*columns: npt.NDArray[np.generic]) -> list[list[int]]:
    """The distinct rows of equally long columns, as Python's own integers."""
    if not len(columns[0]):
        return []
    rows: list[list[int]] = np.unique(
        np.stack([c.astype(np.int64) for c in columns], axis=1), axis=0
    ).tolist()
    return rows
