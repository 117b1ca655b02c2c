"""The clock of a program and its stream, against one that was run by hand."""

from __future__ import annotations

import numpy as np

from pymodel.machine.config import CONFIGS
from pymodel.machine.load_clock import clocked
from pymodel.machine.memory import Hold, Live, Section
from pymodel.machine.program import End, Layer, Legal, Out, Wait

CONFIG = CONFIGS["4x2"]
LAYER = Layer(1, 1, 1, 0, 0, 0, 1, 0, 1)
RECORDS: list[tuple[Legal, int]] = [
    (Wait(1), 0),
    (LAYER, 100),
    (Wait(1), 0),
    (LAYER, 50),
    (Out(0, 0, 4), 0),
    (End(), 0),
]


def packet(words: int) -> Section:
    """Words of TILE have one beat."""
    return Section("TILE", 0, np.zeros((words, 1, 4), np.int64))


def test_a_program_waits_for_what_a_hold_keeps_back() -> None:
    found = clocked(CONFIG, RECORDS, [packet(5), Hold(1), packet(40)])
    # Each of the three waits for a cycle before it is taken. The first packet comes in cycle 7, where the
    # WAIT is over in 3. The layer ends in 107 and has passed 22 cycles later. The HOLD takes two, the packet
    # 42; the WAIT would be over in 110.
    assert (found.waited, found.cycles) == (4 + 63, 172 + 50 + 9 + 3)
    assert found.layers == (4, 63)


def test_what_comes_while_a_layer_runs_takes_no_cycle() -> None:
    stream: list[Live] = [packet(1), packet(90)]
    found = clocked(CONFIG, RECORDS, stream)
    assert (found.waited, found.cycles) == (0, 3 + 100 + 3 + 50 + 9 + 2)
    assert found.layers == (0, 0)
