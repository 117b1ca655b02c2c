"""psa_slot_stream: rows of different lengths, cut out of the words in which they lie end to end. Each comes
four cycles after it was requested, its error three.

Model: the bits of a tile as one long number. Each row is the next slice of it.

Corners:

- rows of every length, the shortest and the longest in sequence and alternating
- a row that ends with its word, and one that begins with it; rows whose count lies in two words
- requests in every cycle and with gaps
- a tile after another without a gap; tiles of one row and of many
- a tile that begins in the last word; a tile that ends with the memory, and rows that end beyond it
- reset with rows in the pipeline
- garbage when nothing is requested
"""

from __future__ import annotations

from itertools import combinations_with_replacement
from typing import Any

import cocotb
import numpy as np

from tb.common import settings
from tb.common.block import Bench, chance
from tb.common.seeding import numpy_rng

PATCHES, RAW = 4, 7
COUNT_BITS = 3
LATENCY, ERROR_LATENCY = 4, 3
TILES = 120
MAX_BASE = (1 << 16) - 1  # as TILE holds it


def length(count: int, size: dict[str, int]) -> int:
    """Bits of a row whose first three bits are `count`."""
    return size["WIDTH"] if count == RAW else size["ENCODED"] + min(count, PATCHES) * size["POSITION"]


def counts_that_leave(left: int, size: dict[str, int]) -> list[int]:
    """Counts of encoded rows that end so many bits before the end of a word; none if no such rows do."""
    some = (c for n in range(1, 9) for c in combinations_with_replacement(range(PATCHES + 1), n))
    found = (c for c in some if -sum(length(count, size) for count in c) % size["WIDTH"] == left)
    return list(next(found, ()))


def random_tile(rng: np.random.Generator, size: dict[str, int]) -> list[int]:
    """Rows as numbers, each with the length that its count says."""
    kinds = ([0], [RAW], [0, RAW], [0, 1, 2, 3, 4, 5, 6, RAW])
    if chance(rng, 0.1):
        counts = rng.permutation(counts_that_leave(0, size)).tolist()
    elif chance(rng, 0.1):  # where there are such rows, the counts of those behind lie in two words
        left = int(rng.integers(1, COUNT_BITS))
        counts = [*rng.permutation(counts_that_leave(left, size)).astype(int).tolist(), RAW, RAW, RAW]
    else:
        counts = rng.choice(kinds[int(rng.integers(4))], int(rng.choice([1, 2, 5, 16]))).tolist()
    rows = []
    for count in counts:
        bits = length(int(count), size)
        rows.append(
            (int.from_bytes(rng.bytes(bits // 8 + 1), "little") & ((1 << bits) - 1)) >> 3 << 3 | int(count)
        )
    return rows


class Stream:
    """The block with its memory, which answers a cycle after it is read."""

    def __init__(self, dut: Any) -> None:
        self.dut = dut
        self.bench = Bench(dut, "rst", "ask_valid", "ask_first", "ask_base", "rd_data")
        self.memory: dict[int, int] = {}
        self.data: dict[str, int] = {}

    async def cycle(self, **values: int) -> None:
        await self.bench.cycle(**values, **self.data)
        read = int(self.dut.rd_addr.value) if int(self.dut.rd_en.value) else None
        if read is not None:  # otherwise the memory holds what it gave last
            self.data = {"rd_data": self.memory[read]} if read in self.memory else {}


@cocotb.test()
async def rows_out_of_words(dut: Any) -> None:
    size = settings.parameters()
    width, depth = size["WIDTH"], size["DEPTH"]
    rng = numpy_rng("rows")
    stream = Stream(dut)
    bench = stream.bench
    await bench.reset(ask_valid=0)
    seen = dict.fromkeys(
        (
            "rows",
            "whole_words",
            "words_skipped",
            "back_to_back_tiles",
            "last_word",
            "beyond",
            "resets",
            "shortest",
            "longest",
        ),
        0,
    )
    if any(counts_that_leave(left, size) for left in range(1, COUNT_BITS)):
        seen["counts_in_two_words"] = 0
    due: dict[int, tuple[bool, int, int, int]] = {}
    beyond: dict[int, int] = {}

    async def step(asked: bool, reset: bool = False, **pins: int) -> None:
        await stream.cycle(rst=int(reset), ask_valid=int(asked), **pins)
        bench.expect(err_valid=int(bench.number in beyond), out_valid=int(bench.number in due))
        if bench.number in beyond:
            bench.expect(err_word=beyond[bench.number])
        if bench.number in due:
            first, row, bits, word = due.pop(bench.number)
            bench.expect(out_first=int(first), out_word=word)
            text = str(dut.out_row.value)
            assert text[len(text) - bits :] == f"{row:0{bits}b}", (
                f"cycle {bench.number}: out_row: expected {row:#x}, seen {text}"
            )
            seen["rows"] += 1

    for _ in range(TILES):
        rows = random_tile(rng, size)
        bits = stored = 0
        for row in rows:
            stored |= row << bits
            bits += length(row & 7, size)
        words = -(-bits // width)
        # anywhere, at the end of the memory, or so that the last rows are beyond it
        place = int(rng.integers(4))
        base = (
            depth - words
            if place == 0
            else max(0, depth - words + 1)
            if place == 1
            else int(rng.integers(max(1, depth - words)))
        )
        base = min(max(0, base), MAX_BASE)
        for n in range(words):
            if base + n < depth:
                stream.memory[base + n] = stored >> n * width & ((1 << width) - 1)
        seen["back_to_back_tiles"] += bool(due)
        at = 0
        for number, row in enumerate(rows):
            while chance(rng, 0.3):
                await step(False)
            reset = chance(rng, 0.01)
            row_bits = length(row & 7, size)
            at += row_bits
            word = base + (at - 1) // width
            now = bench.number + 1
            if word >= depth:
                # only the part of the row's count that lies in the memory is known: its error is that it
                # reaches beyond the memory
                beyond[now + ERROR_LATENCY] = depth
            else:
                due[now + LATENCY] = (number == 0, row, row_bits, word)
            seen["whole_words"] += at % width == 0 and row & 7 != RAW
            if "counts_in_two_words" in seen:
                seen["counts_in_two_words"] += 0 < -(at - row_bits) % width < COUNT_BITS
            seen["words_skipped"] += (at - row_bits) // width == (at - 1) // width and at > row_bits
            seen["last_word"] += word == depth - 1
            seen["shortest"] += row & 7 == 0
            seen["longest"] += row & 7 == RAW
            pins = {"ask_first": 1, "ask_base": base} if number == 0 else {"ask_first": 0}
            await step(True, reset, **pins)
            if reset or beyond:
                seen["resets"] += reset
                if beyond and not reset:
                    for _ in range(ERROR_LATENCY):
                        await step(False)
                    seen["beyond"] += 1
                due.clear()
                beyond.clear()
                await bench.reset(ask_valid=0)
                stream.data = {}
                break
    for _ in range(LATENCY):
        await step(False)
    assert not due
    bench.done(**seen)
