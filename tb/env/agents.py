"""The agents: a sequencer and a driver for each side that the host drives, and a monitor for each
interface.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cocotb.triggers import ClockCycles
from cocotb_bus.drivers.amba import AXIProtocolError
from cocotb_bus.monitors import BusMonitor
from pyuvm import (
    uvm_agent,
    uvm_analysis_port,
    uvm_component,
    uvm_driver,
    uvm_monitor,
    uvm_sequence_item,
    uvm_sequencer,
)

from pymodel.machine.memory import Beats
from tb.env.bus import (
    IrqMonitor,
    LoadMonitor,
    LoadSource,
    OutMonitor,
    ReadyDriver,
    RegisterMonitor,
    ResetMonitor,
    Transfer,
    UnknownMonitor,
)
from tb.env.config import EnvConfig, RegisterKnobs
from tb.plain.axil import AxilMaster
from tb.plain.stream import StreamStalledError


class RegisterItem(uvm_sequence_item):
    """One register access. `data` is the value to write, or the value that was read. `okay`: it was answered
    with OKAY. `error` is set if no answer came.
    """

    def __init__(self, write: bool, address: int, data: int = 0, strobe: int = 0xF) -> None:
        super().__init__("register")
        self.write = write
        self.address = address
        self.data = data
        self.strobe = strobe
        self.okay = True
        self.error: StreamStalledError | None = None

    def check(self) -> None:
        """Raises the error, if the answer did not come."""
        if self.error is not None:
            raise self.error


class LoadItem(uvm_sequence_item):
    """Packets for the in stream, back to back. `error` is set if the machine did not take them."""

    def __init__(self, packets: Sequence[Beats], last: bool = True) -> None:
        super().__init__("load")
        self.transfer = Transfer(tuple(packets), last)
        self.error: StreamStalledError | None = None


class PinMonitor(uvm_monitor):
    """Passes on what one of the monitors of tb/env/bus.py sees."""

    def __init__(self, name: str, parent: uvm_component) -> None:
        super().__init__(name, parent)
        self.port = uvm_analysis_port("port", self)
        self.bus: Any = None  # the monitor at the pins, once there is one

    def watch(self, bus: BusMonitor) -> None:
        self.bus = bus
        bus.add_callback(self.port.write)


class Agent(uvm_agent):
    """The part that all agents share: the configuration, and a monitor."""

    def build_phase(self) -> None:
        super().build_phase()
        self.config: EnvConfig = self.cdb_get("config")
        self.monitor = PinMonitor("monitor", self)

    def pins(self, kind: type[BusMonitor], name: str | None) -> BusMonitor:
        """A monitor of tb/env/bus.py on the pins of that name."""
        dut = self.config.dut
        return kind(dut, name, dut.clk, reset=dut.rst)


class RegisterDriver(uvm_driver):
    """Register accesses, one at a time. Other code drives the ready of B and R."""

    def start_of_simulation_phase(self) -> None:
        config: EnvConfig = self.cdb_get("config")
        self.clock = config.dut.clk
        self.bus = AxilMaster(config.dut, "s_axil", self.clock, takes=False)
        self.rng = config.rng("registers")
        self.knobs = config.registers
        self.left = 0  # accesses of the burst

    async def run_phase(self) -> None:
        while True:
            item = await self.seq_item_port.get_next_item()
            await self.pause()
            try:
                await self.access(item)
            except StreamStalledError as error:
                item.error = error
            self.seq_item_port.item_done()

    async def access(self, item: RegisterItem) -> None:
        try:
            if item.write:
                await self.bus.write(item.address, item.data, item.strobe, self.delays())
            else:
                item.data = await self.bus.read(item.address)
        except AXIProtocolError:
            item.okay = False

    async def pause(self) -> None:
        """Waits between two bursts of accesses."""
        if self.left == 0:
            self.left = int(self.rng.integers(*self.knobs.burst, endpoint=True))
            idle = int(self.rng.integers(*self.knobs.idle, endpoint=True))
            if idle:
                await ClockCycles(self.clock, idle)
        self.left -= 1

    def delays(self) -> tuple[int, int]:
        """The delays of the address and of the data of a write."""
        knobs = self.knobs
        if knobs.address_delay == knobs.data_delay == 0:
            return 0, 0
        return int(self.rng.integers(knobs.address_delay + 1)), int(self.rng.integers(knobs.data_delay + 1))


class RegisterAgent(Agent):
    """AXI4-Lite. It takes accesses and gives `Access` and `Answer`."""

    def build_phase(self) -> None:
        super().build_phase()
        self.sequencer = uvm_sequencer("sequencer", self)
        self.driver = RegisterDriver("driver", self)

    def connect_phase(self) -> None:
        self.driver.seq_item_port.connect(self.sequencer.seq_item_export)

    def start_of_simulation_phase(self) -> None:
        self.monitor.watch(self.pins(RegisterMonitor, "s_axil"))
        config, dut = self.config, self.config.dut
        self.answers = [
            ReadyDriver(
                dut,
                f"s_axil_{channel}",
                dut.clk,
                config.rng(f"ready of {channel}"),
                profile=config.registers.answers,
            )
            for channel in "br"
        ]

    def use(self, knobs: RegisterKnobs) -> None:
        """Sets the knobs, from the next access on."""
        self.driver.knobs = knobs
        for ready in self.answers:
            ready.use(knobs.answers)


class StreamInDriver(uvm_driver):
    """Drives packets of sequence items onto the pins."""

    def start_of_simulation_phase(self) -> None:
        config: EnvConfig = self.cdb_get("config")
        self.source = LoadSource(
            config.dut,
            "s_axis",
            config.dut.clk,
            config.rng("in stream"),
            four_state=config.four_state,
            knobs=config.in_stream,
        )

    async def run_phase(self) -> None:
        while True:
            item = await self.seq_item_port.get_next_item()
            try:
                await self.source.send(*item.transfer.packets, last=item.transfer.last)
            except StreamStalledError as error:
                item.error = error
            self.seq_item_port.item_done()


class StreamInAgent(Agent):
    """The load stream. It takes packets and gives `Beat`."""

    def build_phase(self) -> None:
        super().build_phase()
        self.sequencer = uvm_sequencer("sequencer", self)
        self.driver = StreamInDriver("driver", self)

    def connect_phase(self) -> None:
        self.driver.seq_item_port.connect(self.sequencer.seq_item_export)

    def start_of_simulation_phase(self) -> None:
        self.monitor.watch(self.pins(LoadMonitor, "s_axis"))


class StreamOutAgent(Agent):
    """The out stream. It takes a backpressure profile and gives `Words` and `Stall`."""

    def start_of_simulation_phase(self) -> None:
        config = self.config
        self.ready = ReadyDriver(
            config.dut, "m_axis_t", config.dut.clk, config.rng("out stream"), profile=config.out_stream
        )
        self.monitor.watch(self.pins(OutMonitor, "m_axis"))


class PinAgent(Agent):
    """Pins that are watched here and not driven.

    It gives `Level`, `Reset` and, if the simulator knows X, `Broken`.
    """

    def build_phase(self) -> None:
        super().build_phase()
        self.reset = PinMonitor("reset", self)
        self.unknown = PinMonitor("unknown", self)

    def start_of_simulation_phase(self) -> None:
        self.monitor.watch(self.pins(IrqMonitor, None))
        self.reset.watch(self.pins(ResetMonitor, None))
        if self.config.four_state:
            self.unknown.watch(self.pins(UnknownMonitor, None))
