"""The results of a program run: its packets, its counts and, if requested, a trace of the array."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from pymodel.machine.program import Legal

Int8Array = npt.NDArray[np.int8]
Int64Array = npt.NDArray[np.int64]


@dataclass
class LayerRun:
    """Counts of one LAYER record.

    `passes` counts all chunks and tiles. `cycles` is for the whole record. `clipped_...` are pixels clipped
    at either end of the range. `observed`: what the machine's observer made of the layer.
    """

    index: int
    words: int
    phases: int
    chunks: int
    tiles: int
    passes: int
    run_cycles: int
    cycles: int
    written: int
    partial_sums: list[PassTrace] = field(default_factory=list)
    writes: list[WriteTrace] = field(default_factory=list)
    clipped_low: int = 0
    clipped_high: int = 0
    observed: Any = field(default=None, compare=False, repr=False)


@dataclass
class PassTrace:
    """The sums that one pass put into the accumulators: `rows` int64 [rows, B, C, N] is the sum after each
    array row, for its N pixels. With `maximum`, these are maxima.

    `bundles` int8 [B, rows, G, N] are the bundles that went into the rows. The pixels are those of `words` of
    the output. Only the pixels that `keep` [N] marks count.
    """

    chunk: int
    tile: int
    number: int
    rows: Int64Array
    bundles: Int8Array
    words: range
    keep: Int64Array
    first_lane: int
    first_filter: int
    maximum: bool


@dataclass
class WriteTrace:
    """The pixels int8 [B, N] that one column of a tile wrote to the words of `bank` from `base` on."""

    chunk: int
    tile: int
    column: int
    bank: int
    base: int
    pixels: Int8Array


@dataclass(frozen=True)
class Ran:
    """A record that ran: its word of PROGRAM, and its first cycle of the run."""

    pc: int
    record: Legal
    cycle: int


@dataclass
class ProgramRun:
    """Result of a program. `packets` are the packets of the out stream, int8 [B, words, T] each. `records`
    are all that ran, in their order. The last may have been refused, or be a WAIT that still waits.
    """

    cycles: int = 0
    busy_cycles: int = 0
    slot_rows: int = 0
    words: int = 0
    packets: list[Int8Array] = field(default_factory=list)
    layers: list[LayerRun] = field(default_factory=list)
    records: list[Ran] = field(default_factory=list)
