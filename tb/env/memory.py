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
from pymodel.machine.errors import ErrorCode
from pymodel.machine.faults import ProgramError
from pymodel.machine.live import LiveStream
from pymodel.machine.memory import Section, Words, columns
from pymodel.machine.model import Machine, Waiting
from pymodel.machine.program import Layer, Out
from pymodel.machine.runs import ProgramRun
from tb.coverage.sample import observe

Int8Array = npt.NDArray[np.int8]
Mask = npt.NDArray[np.bool_]


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
class CutPacket:
    """A packet whose OUT record was cut off, and what was known of its words then (see `Memories`)."""

    expected: ExpectedPacket
    written: Mask
    either: Mask
    vague: Mask
    other: Int8Array

    def seen(self, words: Int8Array) -> tuple[Mask, Mask]:
        """Compares its first words, as `Memories.seen` does."""
        count = len(words)
        right: Mask = np.asarray(words == self.expected.words[:count])
        known = self.written[:count] | self.vague[:count]
        right[self.either[:count] & (words == self.other[:count]).all(axis=1)] = True
        right[self.vague[:count]] = True
        right[~known] = False
        return right, known


@dataclass
class LayersRun:
    """A program with layers, and the contents of the memories when it was started in cycle `begin`.

    It ended in cycle `end`, if it has ended. `live`: packets came while it ran.
    """

    start: int
    features: Int8Array
    tables: dict[str, Words]
    begin: int
    end: int | None = None
    live: bool = False

    def machine(self, config: ArrayConfig) -> Machine:
        """A separate model with these memories."""
        machine = Machine(config)
        machine.features = self.features.copy()
        machine.memory = {name: table.copy() for name, table in self.tables.items()}
        return machine


class Memories:
    """Loads sections, runs programs, and keeps track of what is certain."""

    def __init__(self, config: ArrayConfig) -> None:
        self.config = config
        self.machine = observe(Machine(config))
        shape = (config.group, config.feature_depth)
        self.written: Mask = np.zeros(shape, dtype=bool)  # by the host or a program, since power-up
        self.either: Mask = np.zeros(shape, dtype=bool)
        self.vague: Mask = np.zeros(shape, dtype=bool)
        self.other: Int8Array = self.words().copy()
        # as they were when the last run was started
        self.before: Int8Array = self.words().copy()
        self.written_before: Mask = self.written.copy()
        self.open_before: Mask = self.written.copy()
        self.times: npt.NDArray[np.int64] = np.zeros(shape, dtype=np.int64)  # that layers of it write a word
        self.tables_before: dict[str, Words] = {}
        self.last: LayersRun | None = None
        self.execution: Execution | None = None

    def words(self) -> Int8Array:
        """The feature memory as [G, depth, T], a view."""
        return self.machine.features[0].reshape(
            self.config.group, self.config.feature_depth, self.config.size
        )

    def load(self, section: Section, *, live: bool = False) -> None:
        """Puts a section into the memories. `live`: it is a whole live packet, and a WAIT may take it."""
        tables, name = self.machine.memory, section.memory
        if name in tables and self.last is not None and tables[name] is self.last.tables[name]:
            tables[name] = tables[name].copy()  # the last run keeps what it ran with
        if live and self.last is not None:
            self.last.live = True
        if live and self.execution is not None and self.execution.waiting is not None:
            self.execution.live.items.append(section)
        else:
            self.machine.load([section])
        if name == "FEATURE":
            where = section.bank, slice(section.address, section.address + len(section.words))
            # whatever becomes of the run, the words have come
            self.before[where] = columns("FEATURE", section.words).pixel.astype(np.int8)
            self.written_before[where], self.open_before[where] = True, False
            self.certain(where)

    def certain(self, where: Mask | tuple[int, slice]) -> None:
        """Marks these words as written; they hold what the model holds."""
        self.written[where] = True
        self.either[where] = False
        self.vague[where] = False

    def start(self, start: int, cycle: int) -> Execution:
        """The program at `start`, begun in a cycle, run up to its end or to the first WAIT for packets."""
        self.before = self.words().copy()
        self.written_before = self.written.copy()
        self.open_before = self.either | self.vague
        self.times[:] = 0
        self.tables_before = dict(self.machine.memory)
        self.execution = Execution(self, start, cycle)
        self.execution.go_on()
        return self.execution

    def ran_layers(self, start: int, cycle: int) -> None:
        """The program that was started last has layers."""
        features = self.before.reshape(self.machine.features.shape).copy()
        self.last = LayersRun(start, features, self.tables_before, cycle)

    def abort(self) -> None:
        """The last run was cut off. Each word that it would have changed may or may not have changed, and one
        that it writes several times may hold anything in between.
        """
        if self.execution is not None:
            self.execution.stop()
        changed = (self.words() != self.before).any(axis=2)
        closed = self.open_before & ~(self.either | self.vague)
        self.vague |= closed | (self.written & ~self.written_before) | (self.times > 1)
        self.written = self.written_before.copy()
        self.either |= changed & self.written & ~self.vague
        self.other[changed] = self.before[changed]

    def cut(self, packet: ExpectedPacket) -> CutPacket:
        """What is known of the words of a packet that is cut off now. Later they may be loaded anew."""
        where = packet.bank, slice(packet.base, packet.base + len(packet.words))
        written, either, vague = (mask[where].copy() for mask in (self.written, self.either, self.vague))
        return CutPacket(packet, written, either, vague, self.other[where].copy())

    def seen(self, packet: ExpectedPacket, words: Int8Array) -> tuple[Mask, Mask]:
        """Compares the first words of a packet. Returns bool [words, T], true where a byte is right, and bool
        [words], true where a word was ever written.

        A word that may be either value must be one of the two as a whole. A word that was never written must
        not be sent. After this, the words are certain.
        """
        where = packet.bank, slice(packet.base, packet.base + len(words))
        right: Mask = np.asarray(words == packet.words[: len(words)])
        either, vague, known = self.either[where], self.vague[where], self.written[where]
        if known.all() and not either.any() and not vague.any():
            return right, known
        known = known | vague
        right[either & (words == self.other[where]).all(axis=1)] = True
        right[vague] = True
        right[~known] = False
        settled = either | vague
        self.words()[where][settled] = words[settled]
        self.written[where] |= vague
        self.either[where] = self.vague[where] = False
        return right, known


class Execution:
    """A program in the model, run as far as the packets go that have come.

    `outcome` is None while it waits for more of them: then `waiting` says for how many. `packets` are those
    that it sends, as far as it is known.
    """

    def __init__(self, memories: Memories, start: int, cycle: int) -> None:
        self.memories, self.begin, self.cycle = memories, start, cycle
        self.run = ProgramRun()
        self.live = LiveStream(memories.machine)
        self.steps = memories.machine.steps(start, self.run, self.live)
        self.waiting: Waiting | None = None
        self.outcome: ProgramRun | ProgramError | None = None
        self.packets: list[ExpectedPacket] = []
        self.noted = 0  # LAYERs and OUTs whose results are known

    def go_on(self) -> None:
        """Runs on, if the packets have come that it waits for."""
        try:
            self.waiting = next(self.steps, None)
            if self.waiting is None:
                self.outcome = self.run
        except ProgramError as error:
            self.waiting, self.outcome = None, error
            self.live.rest()
        self.note()

    def deadlock(self) -> ProgramError:
        """It can never go on."""
        assert self.waiting is not None
        what = "WAIT for packets that the stream cannot bring"
        error = ProgramError(ErrorCode.DEADLOCK, self.waiting.pc, what, self.waiting.cycle)
        error.run = self.run
        self.stop()
        self.outcome = error
        return error

    def stop(self) -> None:
        """It does not go on. What has come is in the memories all the same."""
        self.waiting = None
        self.live.rest()

    def note(self) -> None:
        """Notes what the records have done that ran since the last time."""
        memories = self.memories
        every = [ran for ran in self.run.records if isinstance(ran.record, Layer | Out)]
        done = self.finished() if isinstance(self.outcome, ProgramError) else len(every)
        for number, ran in enumerate(every):
            new = number >= self.noted
            if isinstance(ran.record, Out):
                if new and number < done:
                    sent = self.run.packets[len(self.packets)][0]
                    self.packets.append(ExpectedPacket(ran.pc, ran.record.bank, ran.record.base, sent))
            elif isinstance(ran.record, Layer):
                if memories.last is None or memories.last.begin != self.cycle:
                    memories.ran_layers(self.begin, self.cycle)
                writes = memories.machine.writes(ran.record)
                memories.times[writes] += new
                if number >= done:
                    memories.vague |= writes
                elif new:
                    memories.certain(writes)
        self.noted = len(every)

    def finished(self) -> int:
        """The number of LAYERs and OUTs that were complete, with their results, when the program ended in an
        error.
        """
        layers = [ran.record for ran in self.run.records if isinstance(ran.record, Layer)]
        layers = layers[: len(self.run.layers)]
        while layers and layers[-1].gap > 0:
            layers.pop()
        return len(layers) + len(self.run.packets)
