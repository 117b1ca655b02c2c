"""How far a run has come in any of its cycles: the counts of BUSY_CYCLES, SLOT_ROWS and WORDS, from
docs/machine.md ("Timing", "Sequencer").

The array model has these only for whole records. A host may read them while a program runs, or after an error
in the middle of a layer.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pymodel.machine.memory import columns
from pymodel.machine.model import Machine
from pymodel.machine.program import Layer, decode
from pymodel.machine.runs import Ran
from pymodel.machine.timing import RECORD_CYCLES, TILE_CYCLES, drain_cycles, word_stage
from tb.common.run_clock import NEVER

SLOTS_STAGE = 8  # cycles from the issue of a lane to its slots at the PEs


class Progress:
    """The progress of a run. Cycles in which a word of the out stream or a WAIT waits are not counted.

    `follow` must be called before the tables change that the records use which have run.
    """

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.end = self.written = NEVER
        self.followed = 0  # records
        self.lanes: list[tuple[int, int]] = []  # first cycle of the lanes of a pass, and how many
        self.rows: list[tuple[int, int]] = []  # the same for its rows of slots
        self.words: list[int] = []  # cycles in which a word is written

    def follow(self, records: Sequence[Ran], end: int = NEVER, written: int = NEVER) -> None:
        """Takes the records that have run since the last time. The run stops after `end` cycles; `written` is
        the first cycle in which no word is written any more, because of an error.
        """
        self.end, self.written = end, written
        for ran in records[self.followed :]:
            begin = ran.cycle
            pc = ran.pc
            record = ran.record
            while isinstance(record, Layer) and begin < end:
                begin = self.layer(record, begin + RECORD_CYCLES + TILE_CYCLES)
                begin += drain_cycles(self.machine.config, record.gap)
                pc += 1
                if end == NEVER or ran is not records[-1] or pc >= self.machine.config.program_depth:
                    break
                # when the error of the last record was found, layers behind it may have begun
                following = decode(self.machine.memory["PROGRAM"][pc, 0])
                if not isinstance(following, Layer):
                    break
                record = following
        self.followed = len(records)

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
            "WORDS": sum(each < min(cycle, self.written) for each in self.words),
        }
