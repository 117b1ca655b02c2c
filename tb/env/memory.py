"""The scoreboard's own memories: those of the array model, and which words of the feature banks are certain.

A run that is ended by a reset or an error has written some of its words and not others. Such a word may still
hold its old value (`either`). If the model stops inside a layer, it may hold any value (`vague`). The first
packet that shows the word decides which.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pymodel.machine.config import ArrayConfig
from pymodel.machine.faults import ProgramError
from pymodel.machine.memory import Section, Words
from pymodel.machine.model import Machine
from pymodel.machine.program import Layer, Out, decode
from pymodel.machine.runs import ProgramRun

Int8Array = npt.NDArray[np.int8]
Mask = npt.NDArray[np.bool_]

PLANNED = ("PROGRAM", "TILE", "FILTER")  # the memories that decide which words a program sends and writes


@dataclass
class ExpectedPacket:
    """A packet that the machine has to send: int8 [words, T], from word `base` of `bank`, by the OUT record
    at program word `record`.
    """

    record: int
    bank: int
    base: int
    words: Int8Array


@dataclass
class LayersRun:
    """A program with layers, and the contents of the memories when it was started in cycle `begin`.

    It ended in cycle `end`, if it has ended.
    """

    start: int
    features: Int8Array
    tables: dict[str, Words]
    begin: int
    end: int | None = None

    def machine(self, config: ArrayConfig) -> Machine:
        """A separate model with these memories."""
        machine = Machine(config)
        machine.features = self.features.copy()
        machine.memory = {name: table.copy() for name, table in self.tables.items()}
        return machine


@dataclass(frozen=True)
class PlannedRecord:
    """A record of a program. For a LAYER, also the words [G, depth] that it writes."""

    address: int
    record: Layer | Out
    writes: Mask | None


class Memories:
    """Loads sections, runs programs, and keeps track of what is certain."""

    def __init__(self, config: ArrayConfig) -> None:
        self.config = config
        self.machine = Machine(config)
        shape = (config.group, config.feature_depth)
        self.written: Mask = np.zeros(shape, dtype=bool)  # by the host or a program, since power-up
        self.either: Mask = np.zeros(shape, dtype=bool)
        self.vague: Mask = np.zeros(shape, dtype=bool)
        self.other: Int8Array = self.words().copy()
        # as they were when the last run was started
        self.before: Int8Array = self.words().copy()
        self.written_before: Mask = self.written.copy()
        self.open_before: Mask = self.written.copy()
        self.plans: dict[int, list[PlannedRecord]] = {}
        self.last: LayersRun | None = None

    def words(self) -> Int8Array:
        """The feature memory as [G, depth, T], a view."""
        return self.machine.features[0].reshape(
            self.config.group, self.config.feature_depth, self.config.size
        )

    def load(self, section: Section) -> None:
        tables, name = self.machine.memory, section.memory
        if name in tables and self.last is not None and tables[name] is self.last.tables[name]:
            tables[name] = tables[name].copy()  # the last run keeps what it ran with
        self.machine.load([section])
        if section.memory in PLANNED:
            self.plans.clear()
        if section.memory == "FEATURE":
            self.certain((section.bank, slice(section.address, section.address + len(section.words))))

    def certain(self, where: Mask | tuple[int, slice]) -> None:
        """Marks these words as written; they hold what the model holds."""
        self.written[where] = True
        self.either[where] = False
        self.vague[where] = False

    def run(self, start: int, cycle: int) -> tuple[ProgramRun | ProgramError, list[ExpectedPacket]]:
        """Runs the program at `start`, begun in a cycle, in the model. Returns its result and the packets
        that it sends.
        """
        self.before = self.words().copy()
        self.written_before = self.written.copy()
        self.open_before = self.either | self.vague
        outcome: ProgramRun | ProgramError
        try:
            outcome = self.machine.run(start)
            sent = outcome.packets
        except ProgramError as error:
            outcome = error
            sent = error.run.packets
        packets: list[ExpectedPacket] = []
        for planned in self.plan(start):
            if isinstance(outcome, ProgramError) and planned.address >= start + self.finished(outcome):
                if planned.writes is not None:
                    self.vague |= planned.writes
                if not self.machine.followed(planned.address):
                    break
                continue
            if planned.writes is not None:
                self.certain(planned.writes)
            if isinstance(planned.record, Out):
                out = planned.record
                packets.append(ExpectedPacket(planned.address, out.bank, out.base, sent[len(packets)][0]))
        if any(planned.writes is not None for planned in self.plan(start)):
            self.last = LayersRun(
                start, self.before.reshape(self.machine.features.shape), dict(self.machine.memory), cycle
            )
        return outcome, packets

    def finished(self, error: ProgramError) -> int:
        """The number of records that were complete, with their results, when a program ended in an error."""
        layers = list(error.run.layers)
        while layers and self.machine.followed(layers[-1].index):
            layers.pop()
        return len(layers) + len(error.run.packets)

    def plan(self, start: int) -> list[PlannedRecord]:
        """The records from `start` on, up to END or to a word that is not a record."""
        if start not in self.plans:
            records = []
            for address in range(start, self.config.program_depth):
                record = decode(self.machine.memory["PROGRAM"][address, 0])
                if not isinstance(record, Layer | Out):
                    break
                writes = self.machine.writes(record) if isinstance(record, Layer) else None
                records.append(PlannedRecord(address, record, writes))
            self.plans[start] = records
        return self.plans[start]

    def abort(self) -> None:
        """The last run was cut off. Each word that it would have changed may or may not have changed."""
        changed = (self.words() != self.before).any(axis=2)
        closed = self.open_before & ~(self.either | self.vague)
        self.vague |= closed | (self.written & ~self.written_before)
        self.written = self.written_before.copy()
        self.either |= changed & self.written & ~self.vague
        self.other[changed] = self.before[changed]

    def seen(self, packet: ExpectedPacket, words: Int8Array) -> tuple[Mask, Mask]:
        """Compares the first words of a packet. Returns bool [words, T], true where a byte is right, and bool
        [words], true where a word was ever written.

        A word that may be either value must be one of the two as a whole. A word that was never written must
        not be sent. After this, the words are certain.
        """
        where = packet.bank, slice(packet.base, packet.base + len(words))
        either, vague, known = self.either[where], self.vague[where], self.written[where] | self.vague[where]
        right: Mask = np.asarray(words == packet.words[: len(words)])
        right[either & (words == self.other[where]).all(axis=1)] = True
        right[vague] = True
        right[~known] = False
        settled = either | vague
        self.words()[where][settled] = words[settled]
        self.written[where] |= vague
        self.either[where] = self.vague[where] = False
        return right, known
