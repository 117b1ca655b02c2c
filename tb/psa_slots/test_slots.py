"""psa_slots: a row of slots comes out five cycles after the first issue of its lane, and for no other issue.

Model: a dictionary of rows, and a cycle number for each row that must come.

Corners: rows in every cycle and with gaps; issues that are not the first of a pass; lane 0 and the last lane; a lane overwritten; reset
with rows on their way, and in the cycle of an issue; garbage on lane and row where no row is read.
"""

from __future__ import annotations

from typing import Any

import cocotb

from tb.common import settings
from tb.common.block import Bench, chance, edgy
from tb.common.seeding import numpy_rng

LATENCY = 5
CYCLES = 400


@cocotb.test()
async def a_row_five_cycles_after_its_issue(dut: Any) -> None:
    size = settings.parameters()
    rng = numpy_rng("slots")
    bench = Bench(dut, "rst", "issue_valid", "issue_first", "issue_row", "issue_lane", "ld_slot", "ld_addr", "ld_data")
    await bench.reset(issue_valid=0, ld_slot=0)
    memory: dict[int, int] = {}
    rows = resets = other_passes = overwritten = 0
    for rate in (1.0, 0.5, 0.9):
        for lane in range(size["LANE_DEPTH"]):
            if lane in memory and chance(rng, 0.5):
                continue
            overwritten += lane in memory
            memory[lane] = int.from_bytes(rng.bytes(size["ROW_WIDTH"] // 8 + 1), "little") & bench.mask("ld_data")
            await bench.cycle(rst=0, issue_valid=0, ld_slot=1, ld_addr=lane, ld_data=memory[lane])
        due: dict[int, tuple[int, int]] = {}
        for n in range(CYCLES):
            issue = n < CYCLES - LATENCY and chance(rng, rate)
            first = issue and chance(rng, 0.8)
            reset = chance(rng, 0.02)
            lane, row = edgy(rng, 0, size["LANE_DEPTH"] - 1), edgy(rng, 0, size["ROWS"] - 1)
            pins = {"issue_first": int(first)} if issue else {}
            pins |= {"issue_lane": lane, "issue_row": row} if first else {}
            await bench.cycle(rst=int(reset), issue_valid=int(issue), ld_slot=0, **pins)
            if bench.number in due:
                row_index, row_slots = due.pop(bench.number)
                bench.expect(row_valid=1, row_index=row_index, row_slots=row_slots)
                rows += 1
            else:
                bench.expect(row_valid=0)
            if reset:
                resets += len(due) > 0
                due.clear()
            elif first:
                due[bench.number + LATENCY] = (row, memory[lane])
            other_passes += issue and not first
        assert not due
    bench.done(rows=rows, resets_with_rows_in_flight=resets, issues_of_later_words=other_passes, lanes_overwritten=overwritten)
