"""The memory, compared with a list.

Corners: a word read in the cycle that writes it, which may give anything, and in the next; read data held
while `rd_en` is low and the address is garbage; `wr_en` low with garbage on the other pins; first and last
word of a depth that is not a power of two; a memory of two words of one bit.
"""

from __future__ import annotations

from typing import Any

import cocotb

from tb.common import settings
from tb.common.block import Bench, chance, edgy
from tb.common.seeding import numpy_rng

CYCLES = 2000


@cocotb.test()
async def words_come_back(dut: Any) -> None:
    width, depth = settings.parameters()["WIDTH"], settings.parameters()["DEPTH"]
    rng = numpy_rng()
    bench = Bench(dut, "wr_en", "wr_addr", "wr_data", "rd_en", "rd_addr")
    words: list[int | None] = [None] * depth
    held: int | None = None
    collisions = holds = 0
    for _ in range(CYCLES):
        write, read = chance(rng, 0.5), chance(rng, 0.6)
        wr_addr, wr_data = edgy(rng, 0, depth - 1), edgy(rng, 0, (1 << width) - 1)
        rd_addr = wr_addr if chance(rng, 0.3) else edgy(rng, 0, depth - 1)
        writing = {"wr_addr": wr_addr, "wr_data": wr_data} if write else {}
        reading = {"rd_addr": rd_addr} if read else {}
        await bench.cycle(wr_en=write, rd_en=read, **writing, **reading)
        if held is not None:
            bench.expect(rd_data=held)
            holds += not read
        if read:
            collides = write and wr_addr == rd_addr
            held = None if collides else words[rd_addr]
            collisions += collides
        if write:
            words[wr_addr] = wr_data
    bench.done(collisions=collisions, holds=holds)
