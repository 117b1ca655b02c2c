"""Watches the pins of `psa_top` for resets, refused starts, packets, their errors, gaps and stalls,
independently of the driver. It counts them with the state that the sequencer has in the model at that moment.

It only observes: it drives nothing, and it sleeps while no signal changes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cocotb
from cocotb.triggers import ReadOnly, RisingEdge
from cocotb.utils import get_sim_time

from pymodel.machine.memory import HOLD, read_header
from pymodel.machine.registers import REGISTERS
from tb.common import settings
from tb.common.loader import Loader
from tb.common.run_clock import RunClock
from tb.coverage import collect
from tb.coverage.points import WORDS
from tb.coverage.sample import PROGRAMS, StateTimeline, sample_event

START, SOFT_RESET, LOAD_RESET = 1, 2, 4  # bits of CONTROL
OKAY = 0
# by (first, last)
PLACES = dict(zip(((True, False), (False, False), (False, True), (True, True)), WORDS, strict=True))


def watch(dut: Any, period_ns: int, *, programs_follow: bool = False) -> None:
    """Watches `dut` until the test ends, if coverage is collected. `programs_follow`: the program is sampled
    some time after each START, not before. Events that need its states and come earlier are not counted.
    """
    if collect.enabled():
        _Watch(dut, period_ns, programs_follow)


@dataclass
class Started:
    """A program whose START was taken in `cycle`, the `begin` of its `clock`."""

    program: int
    clock: RunClock

    @property
    def timeline(self) -> StateTimeline | None:
        """None for a program that the model has not run."""
        return PROGRAMS.get(self.program)

    def state(self, cycle: int) -> str | None:
        """The state of the sequencer in a cycle, if it is known."""
        return self.timeline.at(self.since(cycle)) if self.timeline else None

    def place(self, cycle: int) -> str:
        """The place of a cycle in a pass. Empty if it is in none, or not known."""
        return self.timeline.place(self.since(cycle)) if self.timeline else ""

    def since(self, cycle: int) -> int:
        """Cycles as the timeline counts them."""
        self.follow(cycle)
        return self.clock.model(cycle)

    def follow(self, cycle: int) -> None:
        """Counts the WAITs that have gone on by a cycle, and whether they had to wait."""
        if self.timeline is None:
            return
        known = len(self.clock.reached)
        self.clock.marks = list(self.timeline.marks)
        self.clock.follow(cycle)
        for late, around in list(zip(self.clock.late, self.timeline.around, strict=False))[known:]:
            sample_event("WAIT waited" if late else "WAIT went on", state=around[0], where=around[1])


class _Watch:
    def __init__(self, dut: Any, period_ns: int, programs_follow: bool) -> None:
        self.dut = dut
        self.period_ns = period_ns
        self.programs_follow = programs_follow
        self.program_start = 0
        self.started: Started | None = None
        self.known = False  # what an earlier test left running is unknown before the first reset
        self.loader = Loader(settings.config())
        self.live = False  # the packet that is being loaded is live, and began while a program ran
        for part in (self.writes(), self.resets(), self.in_stream(), self.out_stream()):
            cocotb.start_soon(part)

    def cycle(self) -> int:
        return int(get_sim_time("ns")) // self.period_ns

    def sample(self, kind: str, where: str = "", before: int = 0) -> None:
        """Counts an event of `before` cycles ago in the state of that cycle, if the state is known. A clock
        edge shows the values of the cycle that it ends.
        """
        state = self.started.state(self.cycle() - before) if self.started else "IDLE" if self.known else None
        if state is not None:
            sample_event(kind, state=state, where=where)

    async def writes(self) -> None:
        """A write is answered in the cycle after it was taken. Reset and START act one cycle later."""
        dut = self.dut
        while True:
            await RisingEdge(dut.s_axil_bvalid)
            await ReadOnly()  # bresp follows
            # the master changes address and data on the next clock edge at the earliest
            address, data, refused = (
                int(dut.s_axil_awaddr.value),
                int(dut.s_axil_wdata.value),
                int(dut.s_axil_bresp.value) != OKAY,
            )
            if address == REGISTERS["PROGRAM_START"].address and not refused:
                self.program_start = data & 0xFFFF
            elif address == REGISTERS["CONTROL"].address and data == START:
                if refused:
                    self.sample("start_refused")
                else:
                    self.started = Started(self.program_start, RunClock(self.cycle()))
                    if self.programs_follow:
                        PROGRAMS.pop(self.program_start, None)  # of an earlier run
            elif address == REGISTERS["CONTROL"].address and data & ~LOAD_RESET == SOFT_RESET:
                self.reset("soft_reset")
                self.live = False
                if data & LOAD_RESET:
                    self.loader.start_anew()
                else:
                    self.loader.soft_reset()

    async def resets(self) -> None:
        while True:
            await RisingEdge(self.dut.rst)
            self.reset("hard_reset")
            self.loader.start_anew()

    def reset(self, kind: str) -> None:
        self.sample(kind)
        self.started = None
        self.known = True

    async def in_stream(self) -> None:
        """Packets as they are offered, their errors, cycles in which they wait, and cycles without a beat
        inside or between them.
        """
        dut, clock = self.dut, RisingEdge(self.dut.clk)
        while True:
            await RisingEdge(dut.s_axis_tvalid)
            if not self.loader.inside:
                self.sample("packet")
            waited = 0
            await clock
            while dut.s_axis_tvalid.value == 1 or self.loader.inside:
                if dut.s_axis_tvalid.value != 1:
                    sample_event("gap", where="inside a packet")
                    self.stall("packet starves")
                elif dut.s_axis_tready.value == 1 and dut.rst.value != 1:
                    self.beat(waited)
                    waited = 0
                else:
                    self.stall("packet waits")
                    self.held()
                    waited += 1
                await clock
            sample_event("gap", where="between packets")

    def beat(self, waited: int) -> None:
        """A beat that was taken at this clock edge, after so many cycles. While a program runs, each header
        is looked at for one.

        The header alone determines how the packet must continue. No other data are used.
        """
        dut, loader = self.dut, self.loader
        begins = not loader.inside
        behind = "CUT" if loader.cut else "DROP" if loader.dropping else "PAYLOAD"
        place = behind if loader.inside else "HEADER"
        error = loader.beat(0 if loader.inside else int(dut.s_axis_tdata.value), dut.s_axis_tlast.value == 1)
        if error:
            self.sample(error.name, before=1, where=place)
        elif begins and self.running() and loader.hold:
            sample_event("HOLD", where="blocked" if waited > 1 else "at once")
        elif begins and self.running() and loader.live and loader.memory is not None:
            self.live = True
            state = "waits" if self.state() == "WAIT" else "runs"
            sample_event("live packet", state=state, where=loader.memory.name)
        if loader.packet is not None:
            if self.live and not loader.packet.code and self.started is not None:
                self.started.follow(self.cycle() - 1)
                self.started.clock.packet(self.cycle() - 1)
            self.live = False

    def state(self) -> str | None:
        """The state of the sequencer in the cycle that this clock edge ends, if it is known."""
        return self.started.state(self.cycle() - 1) if self.started else None

    def running(self) -> bool:
        return self.state() not in (None, "IDLE", "ERROR")

    def held(self) -> None:
        """A beat that was not taken at this clock edge, while a program runs."""
        loader, data = self.loader, int(self.dut.s_axis_tdata.value)
        if not self.running():
            return
        if loader.inside:
            sample_event("beat held", where="beside a result")
        elif self.state() == "WAIT":
            held = read_header(data).destination == HOLD
            sample_event("held in a WAIT", where="HOLD" if held else "not live")

    def stall(self, kind: str) -> None:
        """A cycle, ended by this clock edge, in which something waited. It counts if it was in a pass or
        between two layers of a program.
        """
        place = self.started.place(self.cycle() - 1) if self.started else ""
        if place:
            sample_event(kind, where=place)

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
                self.stall("word waits")
                if self.started is not None:
                    self.started.follow(self.cycle() - 1)
                    self.started.clock.stall(self.cycle() - 1, True)
                    self.started.clock.stall(self.cycle(), False)
                sample_event("stall", where=PLACES[first, last])
