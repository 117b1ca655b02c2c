"""The delay line, compared with a queue.

Corners: one stage and several; resets at any time, which drop all valid bits in the line and those that enter
during the reset; data without a valid bit (the machine has delay lines only for data); garbage data in
between.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import cocotb

from tb.common import settings
from tb.common.block import Bench, chance, edgy
from tb.common.seeding import numpy_rng

CYCLES = 2000


@cocotb.test()
async def everything_comes_out_in_time(dut: Any) -> None:
    width, stages = settings.parameters()["WIDTH"], settings.parameters()["STAGES"]
    rng = numpy_rng()
    bench = Bench(dut, "rst", "in_valid", "in_data")
    await bench.reset()
    valid = deque([False] * stages, maxlen=stages)
    data: deque[int | None] = deque([None] * stages, maxlen=stages)
    dropped = bare = 0
    for _ in range(CYCLES):
        rst, given = chance(rng, 0.02), chance(rng, 0.5)
        number = edgy(rng, 0, (1 << width) - 1) if given or chance(rng, 0.5) else None
        await bench.cycle(rst=rst, in_valid=given, **({} if number is None else {"in_data": number}))
        bench.expect(out_valid=valid[0])
        if data[0] is not None:
            bench.expect(out_data=data[0])
            bare += not valid[0]
        valid.append(given)
        data.append(number)
        if rst:
            dropped += sum(valid)
            valid.extend([False] * stages)
    bench.done(dropped=dropped, bare=bare)
