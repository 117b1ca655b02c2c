"""The timing of the machine: how many cycles its parts take, and in which stage a bound is checked."""

from __future__ import annotations

from pymodel.machine.config import ArrayConfig
from pymodel.machine.errors import ErrorCode

# Cycles of the sequencer outside STATE_RUN (rtl/psa_sequencer.v). A record takes FETCH and DECODE. A layer
# also reads its first tile. At its end it waits for `gap` cycles or, if that is 0, for the pipeline: 2T + 14
# cycles from the last lane issued to its last word written, or one more with activation tables, less
# DRAIN_AHEAD: the record behind it does nothing with the banks in its first two cycles.
RECORD_CYCLES = 2
TILE_CYCLES = 2
OUT_LATENCY = 3
DRAIN_AHEAD = 2
# A WAIT takes one cycle more than its record when its packets have come. LOAD_WAIT_CYCLES counts the others.
WAIT_CYCLES = 1
# Cycles in which a live packet is offered before its header is taken, if a program runs (rtl/psa_load.v).
OFFER_CYCLES = 1
# GROUP_STAGE, TAP_STAGE, OUTSIDE_STAGE: cycles from the issue of a lane until it is told that its group, one
# of its taps or one of the pixels that it reads does not exist (rtl/psa_fetch.v). WRITE_STAGE: from the issue
# of a word's first lane until that is told of column 0's write, without the T cycles down the array
# (rtl/psa_writeback.v). SLOT_STAGE: from the issue of a lane until it is told that its row of slots does not
# exist, or that its code is not legal (rtl/psa_slots.v).
GROUP_STAGE, TAP_STAGE, OUTSIDE_STAGE, WRITE_STAGE = 3, 6, 8, 12
SLOT_STAGE = {ErrorCode.SLOT_RANGE: 6, ErrorCode.SLOT_CODE: 7}
# From the issue of a lane to the cycle in which it reads the banks. It sees the words that were written
# before that cycle.
READ_STAGE = 7
# The sequencer finds these and stops at once. For all other errors it stops a cycle later.
FOUND_BY_SEQUENCER = (
    ErrorCode.PROGRAM_RANGE,
    ErrorCode.PROGRAM_OPCODE,
    ErrorCode.PROGRAM_FIELD,
    ErrorCode.TILE_FIELD,
    ErrorCode.DEADLOCK,
)


def drain_cycles(config: ArrayConfig, gap: int = 0) -> int:
    """Cycles from the last lane of a layer with a gap to the next record."""
    return gap or word_stage(config) - DRAIN_AHEAD


def word_stage(config: ArrayConfig) -> int:
    """Cycles from the issue of a word's first lane to the write of column 0. The other columns follow, one in
    each cycle. A look-up in an activation table takes one; where there are tables, every word takes it.
    """
    return 2 * config.size + 14 + (config.tables > 0)
