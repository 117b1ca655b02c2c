"""psa_xor_decoder: stored rows go in, slots come out a cycle later, and rows that break the format are
reported at once.

Model: one bit at a time, as docs/formats.md, "Rows of slots" describes it: the taps of a bit, the words of
the rows before, then the patches.

Corners:

- rows in every cycle and with gaps
- rows that are not encoded between others, also as the first of a tile
- no patch, the largest number of patches, patches at the first bit and at the last
- words of zeros and of ones
- slots all valid and none valid
- the first row of a tile, after any history
- every illegal count
- a position beyond the row, one that comes twice, two in the wrong order
- reset with a row in the pipeline
- garbage after a row's end
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cocotb
import numpy as np

from tb.common import settings
from tb.common.block import Bench, chance, edgy, pack
from tb.common.seeding import numpy_rng

COUNT_BITS, PATCHES, RAW = 3, 4, 7
TAPS, NEAR = 7, 2
MASK = 0xFFFFFFFF
CYCLES = 1500


@dataclass(frozen=True)
class Row:
    """The stored row. `count` is the stored field. A row that is not encoded has only the slots."""

    count: int
    valid: Sequence[int] = ()
    word: int = 0
    positions: Sequence[int] = ()
    slots: int = 0


def taps(size: dict[str, int], output: int) -> list[int]:
    """The window bits whose XOR is an output. A bit that occurs twice cancels out."""
    found = []
    for number in range(TAPS):
        x = (size["SEED"] + output * TAPS + number) & MASK
        x = (x ^ x >> 16) * 0x7FEB352D & MASK
        x = (x ^ x >> 15) * 0x846CA68B & MASK
        x ^= x >> 16
        found.append(x * (size["INPUTS"] * (1 if number < NEAR else size["HISTORY"] + 1)) >> 32)
    return found


class Decoder:
    """The model. `words` are those of the rows before, the newest first."""

    def __init__(self, size: dict[str, int]) -> None:
        self.size = size
        self.taps = [taps(size, output) for output in range(size["COLS"] * size["SLOT_BITS"])]
        self.words: deque[int] = deque(maxlen=size["HISTORY"] + 1)

    def row(self, first: bool, row: Row) -> tuple[int, bool]:
        """The slots, and whether the row is legal."""
        if first:
            self.words.clear()
        if row.count == RAW:
            return row.slots, True
        self.words.appendleft(row.word)
        inputs, slot_bits = self.size["INPUTS"], self.size["SLOT_BITS"]
        bits = []
        for drawn in self.taps:
            parity = 0
            for tap in drawn:
                ago, bit = divmod(tap, inputs)
                parity ^= self.words[ago] >> bit & 1 if ago < len(self.words) else 0
            bits.append(parity)
        taken = list(row.positions[: min(row.count, PATCHES)])
        legal = row.count <= PATCHES and all(p < len(bits) for p in taken) and sorted(set(taken)) == taken
        for position in taken if legal else ():
            bits[position] ^= 1
        return pack((bit & row.valid[number // slot_bits] for number, bit in enumerate(bits)), 1), legal


def random_row(rng: np.random.Generator, size: dict[str, int], bad: bool) -> Row:
    row_bits = size["COLS"] * size["SLOT_BITS"]
    if not bad and chance(rng, 0.2):
        return Row(RAW, slots=int.from_bytes(rng.bytes(row_bits // 8 + 1), "little") & ((1 << row_bits) - 1))
    ones = (1 << size["INPUTS"]) - 1
    word = (
        int(rng.choice([0, 1])) * ones
        if chance(rng, 0.2)
        else int.from_bytes(rng.bytes(size["INPUTS"] // 8 + 1), "little") & ones
    )
    valid = [int(v) for v in rng.random(size["COLS"]) < rng.choice([0.0, 0.5, 0.9, 1.0])]
    count = int(rng.integers(PATCHES, endpoint=True))
    positions = sorted({edgy(rng, 0, row_bits - 1, 0.3) for _ in range(count)})
    if not bad:
        return Row(len(positions), valid, word, positions)
    kind = int(rng.integers(4))
    spread = sorted(int(p) for p in rng.choice(row_bits, PATCHES, replace=False))
    last = (1 << size["POSITION"]) - 1
    if kind == 0 or (kind == 1 and row_bits > last):
        return Row(int(rng.integers(PATCHES + 1, RAW)), valid, word, spread)
    if kind == 1:
        return Row(
            count + 1 if count < PATCHES else count,
            valid,
            word,
            [*spread[: max(0, count + (count < PATCHES) - 1)], edgy(rng, row_bits, last)],
        )
    if kind == 2:
        return Row(2, valid, word, [spread[0], spread[0]])
    return Row(2, valid, word, [spread[1], spread[0]])


def stored(row: Row, size: dict[str, int], rng: np.random.Generator) -> int:
    """The row's bits, and garbage after them."""
    parts = [(row.count, COUNT_BITS)]
    if row.count == RAW:
        parts.append((row.slots, size["COLS"] * size["SLOT_BITS"]))
    else:
        parts += [
            *((v, 1) for v in row.valid),
            (row.word, size["INPUTS"]),
            *((p, size["POSITION"]) for p in row.positions),
        ]
    bits = length = 0
    for value, width in parts:
        bits |= value << length
        length += width
    garbage = int.from_bytes(rng.bytes(size["WIDTH"] // 8 + 1), "little")
    return (bits | garbage << length) & ((1 << size["WIDTH"]) - 1)


@cocotb.test()
async def rows_and_what_is_wrong_with_them(dut: Any) -> None:
    size = settings.parameters()
    rng = numpy_rng("rows")
    bench = Bench(dut, "rst", "in_valid", "in_first", "in_row")
    model = Decoder(size)
    await bench.reset(in_valid=0)
    first = True
    due: int | None = None  # the slots that must come in this cycle
    seen = dict.fromkeys(
        (
            "rows",
            "raw",
            "raw_first",
            "patched",
            "full_patches",
            "first_rows",
            "back_to_back",
            "bad",
            "resets",
        ),
        0,
    )
    for _ in range(CYCLES):
        valid, reset = chance(rng, 0.7), chance(rng, 0.02)
        pins: dict[str, int] = {}
        row, legal, slots = Row(0), True, 0
        if valid:
            first = first or chance(rng, 0.15)
            row = random_row(rng, size, bad=chance(rng, 0.1))
            slots, legal = model.row(first, row)
            pins = {"in_first": int(first), "in_row": stored(row, size, rng)}
        await bench.cycle(rst=int(reset), in_valid=int(valid), **pins)
        bench.expect(err_valid=int(not legal), out_valid=int(due is not None))
        if due is not None:
            bench.expect(out_slots=due)
            seen["back_to_back"] += valid
        if valid:
            seen["rows"] += 1
            seen["raw"] += row.count == RAW
            seen["raw_first"] += first and row.count == RAW
            seen["patched"] += legal and 0 < row.count < PATCHES
            seen["full_patches"] += legal and row.count == PATCHES
            seen["first_rows"] += first
            seen["bad"] += not legal
        seen["resets"] += reset and valid
        # after a row that breaks the format the machine stops; a reset follows, and another tile
        due = slots if valid and legal and not reset else None
        if valid:
            first = not legal
        if not legal:
            await bench.reset(in_valid=0)
            due = None
        first = first or reset
    bench.done(**seen)
