"""Watches the pins of `psa_top` for resets, errors, refused starts, loads, gaps and stalls, beside any driver, and samples them with the state
in which the model has the sequencer at that moment.

Observes only: it drives nothing and sleeps while nothing moves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cocotb
from cocotb.triggers import ReadOnly, RisingEdge
from cocotb.utils import get_sim_time

from pymodel.errors import ErrorCode
from tb.common.registers import REGISTERS
from tb.coverage import collect
from tb.coverage.points import WORDS
from tb.coverage.sample import sample_event

START, SOFT_RESET = 1, 2  # bits of CONTROL
OKAY = 0
PLACES = dict(zip(((True, False), (False, False), (False, True), (True, True)), WORDS, strict=True))  # by (first, last)
LOAD_CODES = {int(code): code.name for code in ErrorCode if code.name.startswith("LOAD")}


def watch(dut: Any, period_ns: int) -> None:
    """Watch `dut` until the test ends, if coverage is collected."""
    if collect.enabled():
        _Watch(dut, period_ns)


@dataclass
class Started:
    """A program whose START was taken in `cycle`; `stalled` are the cycles since then in which a word waited to be sent."""

    program: int
    cycle: int
    stalled: int = 0

    def state(self, cycle: int) -> str | None:
        """The state of the sequencer in a cycle; None for a program that the model has not run."""
        timeline = collect.PROGRAMS.get(self.program)
        return timeline.at(cycle - self.cycle - self.stalled) if timeline else None


class _Watch:
    def __init__(self, dut: Any, period_ns: int) -> None:
        self.dut = dut
        self.period_ns = period_ns
        self.program_start = 0
        self.started: Started | None = None
        self.known = False  # what an earlier test left running is not known before the first reset
        for part in (self.writes(), self.reads(), self.resets(), self.in_stream(), self.out_stream()):
            cocotb.start_soon(part)

    def cycle(self) -> int:
        return int(get_sim_time("ns")) // self.period_ns

    def state(self) -> str | None:
        """The state of the sequencer now; None where it is not known."""
        if self.started is None:
            return "IDLE" if self.known else None
        return self.started.state(self.cycle())

    def sample(self, kind: str, **what: str) -> None:
        state = self.state()
        if state is not None:
            sample_event(kind, state=state, **what)

    async def writes(self) -> None:
        """A write is answered in the cycle after it was taken; both reset and START act one cycle later still."""
        dut = self.dut
        while True:
            await RisingEdge(dut.s_axil_bvalid)
            await ReadOnly()  # bresp follows
            # the master changes address and data on the next clock edge at the earliest
            address, data, refused = int(dut.s_axil_awaddr.value), int(dut.s_axil_wdata.value), int(dut.s_axil_bresp.value) != OKAY
            if address == REGISTERS["PROGRAM_START"].address and not refused:
                self.program_start = data & 0xFFFF
            elif address == REGISTERS["CONTROL"].address and data == START:
                if refused:
                    self.sample("start_refused")
                else:
                    self.started = Started(self.program_start, self.cycle())
            elif address == REGISTERS["CONTROL"].address and data == SOFT_RESET:
                self.reset("soft_reset")

    async def resets(self) -> None:
        while True:
            await RisingEdge(self.dut.rst)
            self.reset("hard_reset")

    def reset(self, kind: str) -> None:
        self.sample(kind)
        self.started = None
        self.known = True

    async def reads(self) -> None:
        """A load error shows in ERROR; a packet is never taken while a program runs, so its state is no question."""
        dut = self.dut
        while True:
            await RisingEdge(dut.s_axil_rvalid)
            await ReadOnly()
            if int(dut.s_axil_araddr.value) == REGISTERS["ERROR"].address:
                code = REGISTERS["ERROR"].decode(int(dut.s_axil_rdata.value))["CODE"]
                if code in LOAD_CODES:
                    sample_event(LOAD_CODES[code])

    async def in_stream(self) -> None:
        """Packets as they are offered, and cycles without a beat inside and between them."""
        dut, clock = self.dut, RisingEdge(self.dut.clk)
        inside = False
        while True:
            await RisingEdge(dut.s_axis_tvalid)
            if not inside:
                self.sample("packet")
            while True:
                await clock
                if dut.s_axis_tvalid.value != 1:
                    break
                if dut.s_axis_tready.value == 1:
                    inside = dut.s_axis_tlast.value != 1
            sample_event("gap", where="inside a packet" if inside else "between packets")

    async def out_stream(self) -> None:
        """Words that wait for the stream to be ready, by their place in the packet."""
        dut, clock = self.dut, RisingEdge(self.dut.clk)
        first = True
        while True:
            if dut.m_axis_tvalid.value != 1:
                await RisingEdge(dut.m_axis_tvalid)
            await clock
            if dut.m_axis_tvalid.value != 1:
                continue
            last = dut.m_axis_tlast.value == 1
            if dut.m_axis_tready.value == 1:
                first = last
            else:
                if self.started is not None:
                    self.started.stalled += 1
                sample_event("stall", where=PLACES[first, last])
