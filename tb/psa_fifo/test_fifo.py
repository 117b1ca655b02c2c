"""psa_fifo against a queue.

Model: a list of the words of the memory, and the word that is offered. A word of the memory is offered in the
cycle after the one that finds it there and the place free.

Corners: full, and full while a word leaves; empty, and empty while one comes; words that come and leave in
every cycle; every word of the memory several times; a reset with words inside.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import cocotb

from tb.common import settings
from tb.common.block import Bench, chance
from tb.common.seeding import numpy_rng

CYCLES = 400  # of each pair of rates
RATES = ((1.0, 1.0), (0.9, 0.2), (0.2, 0.9), (0.5, 0.5), (1.0, 0.0), (0.0, 1.0), (1.0, 0.9))
ROUNDS = 3


@cocotb.test()
async def words_in_their_order(dut: Any) -> None:
    parameters = settings.parameters()
    width, depth = parameters["WIDTH"], parameters["DEPTH"]
    rng = numpy_rng("words")
    bench = Bench(dut, "rst", "in_valid", "in_data", "out_ready")
    kept: deque[int] = deque()
    offered: int | None = None
    seen = dict.fromkeys(("words", "full", "empty", "both", "resets", "waits"), 0)
    for _ in range(ROUNDS):
        await bench.reset(in_valid=0, out_ready=0)
        seen["resets"] += bool(kept)
        kept.clear()
        offered = None
        for in_rate, out_rate in RATES:
            for _ in range(max(CYCLES, 3 * depth)):
                comes, leaves = chance(rng, in_rate), chance(rng, out_rate)
                word = int.from_bytes(rng.bytes(width // 8 + 1), "little") & ((1 << width) - 1)
                await bench.cycle(
                    rst=0, in_valid=comes, out_ready=leaves, **({"in_data": word} if comes else {})
                )
                bench.expect(in_ready=len(kept) < depth, out_valid=offered is not None)
                if offered is not None:
                    bench.expect(out_data=offered)
                room, seen_before = len(kept) < depth, bool(kept)
                seen["full"] += comes and not room
                seen["empty"] += not kept and offered is None
                seen["both"] += comes and leaves and offered is not None
                seen["waits"] += offered is not None and not leaves
                if offered is not None and leaves:
                    offered = None
                    seen["words"] += 1
                if offered is None and seen_before:
                    offered = kept.popleft()
                if comes and room:
                    kept.append(word)
        # left with words inside, for the next reset
        while len(kept) < depth:
            await bench.cycle(rst=0, in_valid=1, in_data=1, out_ready=0)
            if offered is None and kept:
                offered = kept.popleft()
            kept.append(1)
    bench.done(**seen)
