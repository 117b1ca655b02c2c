"""The environment: agents, scoreboard, register model, clock and reset."""

from __future__ import annotations

from collections.abc import Iterable

from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, FallingEdge, RisingEdge
from pyuvm import uvm_env

from tb.common.clock import PERIOD_NS
from tb.common.edges import risen
from tb.env import coverage as coverage
from tb.env import faults
from tb.env.agents import PinAgent, RegisterAgent, StreamInAgent, StreamOutAgent
from tb.env.config import EnvConfig
from tb.env.events import Event
from tb.env.register_model import RegisterAdapter, RegisterBlock
from tb.env.scoreboard import Checker, Scoreboard
from tb.plain.stream import StreamRuleError

RESET_CYCLES = 4
SETTLE_CYCLES = 20  # after the last stimulus, so that everything has ended


class Faulty(Scoreboard):
    """The scoreboard, with a fault inserted before it."""

    def build_phase(self) -> None:
        super().build_phase()
        config: EnvConfig = self.cdb_get("config")
        self.fault = faults.find(config.fault)
        post = self.timeline.post
        if self.fault is not None:
            spoil = self.fault

            def spoiled(event: Event) -> None:
                changed: Iterable[Event] = spoil(event)
                for each in changed:
                    post(each)

            self.inlet.post = spoiled


class Environment(uvm_env):
    """The environment of the machine.

    Tests reach it as `self.env`, sequences as the `env` that they are started with.
    """

    def build_phase(self) -> None:
        self.config: EnvConfig = self.cdb_get("config")
        self.dut = self.config.dut
        self.registers = RegisterAgent("registers", self)
        self.stream_in = StreamInAgent("stream_in", self)
        self.stream_out = StreamOutAgent("stream_out", self)
        self.pins = PinAgent("pins", self)
        self.scoreboard = Scoreboard.create("scoreboard", self)
        self.model = RegisterBlock(self.config.array)

    def connect_phase(self) -> None:
        monitors = (agent.monitor for agent in (self.registers, self.stream_in, self.stream_out, self.pins))
        for monitor in (*monitors, self.pins.reset, self.pins.unknown):
            monitor.port.connect(self.scoreboard.export)
        self.model.map.set_sequencer(self.registers.sequencer, RegisterAdapter())
        self.model.map.set_auto_predict(True)

    def start_of_simulation_phase(self) -> None:
        self.dut.rst.value = 1
        faults.disturb(self.config.fault, self.dut)
        coverage.attach(self.dut, PERIOD_NS, self.checker.subscribers)
        Clock(self.dut.clk, PERIOD_NS, "ns", impl="gpi").start()

    @property
    def checker(self) -> Checker:
        return self.scoreboard.checker

    async def cycles(self, count: int) -> None:
        if count > 0:
            await ClockCycles(self.dut.clk, count)

    async def reset(self, cycles: int = RESET_CYCLES) -> None:
        """Resets by the pin.

        A packet that the in stream was sending is dropped. No register access may be in progress.
        """
        self.stream_in.driver.source.stop()
        self.dut.rst.value = 1
        if self.config.fault == faults.SHORT_RESET:
            await FallingEdge(self.dut.clk)
        else:
            await self.cycles(cycles)
        self.dut.rst.value = 0
        await RisingEdge(self.dut.clk)
        self.model.reset()

    async def interrupt(self, timeout_cycles: int) -> None:
        """Sleeps until the interrupt pin is high."""
        if self.dut.irq.value == 1:
            return
        if not await risen(self.dut.irq, timeout_cycles):
            raise StreamRuleError(f"no interrupt within {timeout_cycles} cycles")
        await RisingEdge(self.dut.clk)

    async def settle(self) -> None:
        await self.cycles(SETTLE_CYCLES)
