"""How far a run has come in any of its cycles: the counts of BUSY_CYCLES, SLOT_ROWS and WORDS, from
docs/machine.md ("Timing", "Sequencer").

The array model has these only for whole records. A host may read them while a program runs, or after an error
in the middle of a layer.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pymodel.machine.memory import columns
from pymodel.machine.model import Machine
from pymodel.machine.program import Layer, Out, decode
from pymodel.machine.timing import OUT_LATENCY, RECORD_CYCLES, TILE_CYCLES, drain_cycles, word_stage

SLOTS_STAGE = 5  # cycles from the issue of a lane to its slots at the PEs


class Progress:
    """The progress of the program at `start`, which stops after `end` cycles. Cycles in which a word waits to
    be sent are not counted. After an error no word is written: `written` is the first cycle without writes.
    """

    def __init__(self, machine: Machine, start: int, end: int, written: int) -> None:
        self.machine = machine
        self.end = end
        self.lanes: list[tuple[int, int]] = []  # first cycle of the lanes of a pass, and how many
        self.rows: list[tuple[int, int]] = []  # the same for its rows of slots
        self.words: list[int] = []  # cycles in which a word is written
        begin = 0
        for record in self.records(start):
            if begin >= end:
                break
            begin += RECORD_CYCLES
            if isinstance(record, Layer):
                begin = self.layer(record, begin + TILE_CYCLES) + drain_cycles(machine.config, record.gap)
            else:
                begin += record.words + OUT_LATENCY
        self.words = [cycle for cycle in self.words if cycle < written]

    def records(self, start: int) -> Iterator[Layer | Out]:
        """The records that take time, up to END or to a word that is not a record."""
        for values in self.machine.memory["PROGRAM"][start:, 0].tolist():
            record = decode(values)
            if not isinstance(record, Layer | Out):
                return
            yield record

    def layer(self, layer: Layer, cycle: int) -> int:
        """A layer whose first lane is issued in `cycle`. Returns the cycle after its last cycle, or after the
        end of the run.
        """
        t = self.machine.config.size
        tiles = self.machine.memory["TILE"][layer.tile_range, 0].tolist()
        if cycle >= self.end:  # a refused layer runs nothing, and its chunks may have no words
            return cycle
        for words in layer.chunks():
            if cycle >= self.end:
                break
            for _, passes, filter_base, _ in tiles:
                for number in range(passes):
                    if cycle >= self.end:
                        return cycle
                    self.lanes.append((cycle, self.legal(layer, words) * t))
                    self.rows.append((cycle + SLOTS_STAGE, t))
                    if number == passes - 1:
                        self.write(words, filter_base, cycle)
                    cycle += len(words) * t
        return cycle

    def legal(self, layer: Layer, words: range) -> int:
        """How many of the words come before the first whose place in EDGE, TAP or a bank does not exist. From
        there on no lane is issued.
        """
        config = self.machine.config
        word = np.array(words)
        bad = layer.edge_word(word) >= config.edge_depth
        bad |= layer.tap_row(word) >= config.tap_depth
        bad |= word >= config.feature_depth
        return int(np.argmax(bad)) if bad.any() else len(words)

    def write(self, words: range, filter_base: int, cycle: int) -> None:
        """The results of a tile whose last pass begins in `cycle`, for the words that exist."""
        config = self.machine.config
        filters = columns("FILTER", self.machine.memory["FILTER"][filter_base : filter_base + config.size, 0])
        entries = zip(filters.write.tolist(), filters.bank.tolist(), filters.base.tolist(), strict=True)
        for column, (write, bank, base) in enumerate(entries):
            if write and bank < config.group:
                fit = range(min(len(words), config.feature_depth - base - words[0]))
                self.words += [cycle + i * config.size + word_stage(config) + column for i in fit]

    def counts(self, cycle: int) -> dict[str, int]:
        """The counters in `cycle`. They include everything before it."""
        cycle = min(cycle, self.end)

        def of(spans: list[tuple[int, int]]) -> int:
            return sum(min(max(cycle - begin, 0), number) for begin, number in spans)

        return {
            "BUSY_CYCLES": of(self.lanes),
            "SLOT_ROWS": of(self.rows),
            "WORDS": sum(each < cycle for each in self.words),
        }
