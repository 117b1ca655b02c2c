"""An idle machine: what its clock costs alone, and what a coroutine does that wakes in each cycle
(`make bench BENCH=sim`).
"""

from __future__ import annotations

from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, RisingEdge, Timer

from tb.common import settings
from tb.common.clock import PERIOD_NS
from tb.common.pins import ONE, bits

CYCLES = 1000  # for each image


async def started(dut: Any) -> None:
    dut.rst.value = 1
    for valid in (dut.s_axis_tvalid, dut.s_axil_awvalid, dut.s_axil_wvalid, dut.s_axil_arvalid):
        valid.value = 0
    Clock(dut.clk, PERIOD_NS, "ns", impl="gpi").start()
    await ClockCycles(dut.clk, 4)
    dut.rst.value = 0


@cocotb.test()
async def clock(dut: Any) -> None:
    await started(dut)
    await Timer(settings.images() * CYCLES * PERIOD_NS, "ns")


@cocotb.test()
async def wakes(dut: Any) -> None:
    await started(dut)
    edge, valid = RisingEdge(dut.clk), bits(dut.m_axis_tvalid)
    for _ in range(settings.images() * CYCLES):
        await edge
        assert valid() != ONE
