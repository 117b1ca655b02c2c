"""`Host`: operates the machine as software would, through its pins alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, RisingEdge
from cocotb_bus.drivers.amba import AXIProtocolError

from pymodel.machine.config import ArrayConfig
from pymodel.machine.errors import ErrorCode
from pymodel.machine.memory import Beats
from pymodel.machine.registers import COUNTERS, REGISTERS, Register
from tb.common import settings
from tb.common.clock import PERIOD_NS
from tb.common.edges import risen
from tb.coverage.watch import watch
from tb.plain.axil import AxilMaster
from tb.plain.stream import StreamSink, StreamSource, StreamStalledError

SEND_POLLS = 200  # the rest of a packet that was cut is a few words
LOAD_POLLS = 20  # the last word of a packet is written a few cycles after its last beat
DONE, ERROR = 1, 2  # bits of IRQ_ENABLE and IRQ_STATUS
START, SOFT_RESET, LOAD_RESET = 1, 2, 4  # bits of CONTROL


class HasBeats(Protocol):
    """A load packet: the beats of header and payload."""

    @property
    def beats(self) -> Beats: ...


class RegisterError(Exception):
    """The register bus answered with an error."""


class MachineStoppedError(Exception):
    """The machine stopped with an error code."""

    def __init__(self, code: int, info: int) -> None:
        self.code, self.info = code, info
        name = ErrorCode(code).name if code in set(ErrorCode) else "unknown"
        super().__init__(f"error {code} ({name}), info {info}")


class MachineTimeoutError(Exception):
    """The machine did not finish in time."""


@dataclass(frozen=True)
class Counters:
    """The performance counters of one run, in cycles, rows and words."""

    cycles: int
    busy_cycles: int
    stall_cycles: int
    slot_rows: int
    words: int
    load_wait_cycles: int


@dataclass(frozen=True)
class HostRun:
    """The results of one run: its counters, and the packets of the out stream as int8 pixels."""

    counters: Counters
    packets: list[np.ndarray[Any, np.dtype[np.int8]]]


class RegisterPort:
    """The registers behind an AXI4-Lite master, by the names of a table."""

    def __init__(self, axil: AxilMaster, table: Mapping[str, Register]) -> None:
        self.axil = axil
        self._table = table

    async def read(self, register: str) -> int:
        """The word in the named register. Raises `RegisterError` on SLVERR."""
        try:
            return await self.axil.read(self._table[register].address)
        except AXIProtocolError as error:
            raise RegisterError(f"read of {register}: {error.xresp.name}") from None

    async def write(self, register: str, value: int) -> None:
        """Write the named register. Raises `RegisterError` on SLVERR."""
        try:
            await self.axil.write(self._table[register].address, value)
        except AXIProtocolError as error:
            raise RegisterError(f"write of {register}: {error.xresp.name}") from None

    async def counters(self) -> Counters:
        return Counters(*[await self.read(name) for name in COUNTERS])


class Host(RegisterPort):
    """Clock, reset, registers and both streams of `psa_top`.

    `in_rate` is the probability that the in stream carries a beat in a cycle. `out_rate` is the probability
    that the out stream is ready in a cycle. `axil`, `source` and `sink` are for tests that need the buses
    themselves.
    """

    def __init__(
        self,
        dut: Any,
        config: ArrayConfig,
        rng: np.random.Generator,
        *,
        in_rate: float = 1.0,
        out_rate: float = 1.0,
    ) -> None:
        self.dut = dut
        self.config = config
        four_state = settings.simulator() == "icarus"
        source_rng, sink_rng = rng.spawn(2)
        dut.rst.value = 1
        super().__init__(AxilMaster(dut, "s_axil", dut.clk), REGISTERS)
        self.source = StreamSource(dut, "s_axis", dut.clk, source_rng, four_state=four_state, rate=in_rate)
        self.sink = StreamSink(dut, "m_axis", dut.clk, sink_rng, rate=out_rate)
        Clock(dut.clk, PERIOD_NS, "ns", impl="gpi").start()
        watch(dut, PERIOD_NS)

    async def reset(self, cycles: int = 4) -> None:
        """Resets by the pin and enables both interrupts."""
        self.sink.watch = False
        self.dut.rst.value = 1
        await ClockCycles(self.dut.clk, cycles)
        self.dut.rst.value = 0
        self.sink.clear()
        await RisingEdge(self.dut.clk)
        await self.write("IRQ_ENABLE", DONE | ERROR)

    async def soft_reset(self, *, anew: bool = False) -> list[np.ndarray[Any, np.dtype[np.int8]]]:
        """Ends whatever runs. Memories, IRQ_ENABLE and PROGRAM_START stay. `anew`: the host begins its load
        stream anew, so the machine expects no rest of a packet.

        Returns the packets that came since `sink` was asked last; one that was cut is the last and too short.
        """
        await self.write("CONTROL", SOFT_RESET | LOAD_RESET if anew else SOFT_RESET)
        for _ in range(SEND_POLLS):
            if not REGISTERS["STATUS"].decode(await self.read("STATUS"))["SENDING"]:
                return [np.frombuffer(packet, np.int8) for packet in self.sink.take()]
        raise MachineTimeoutError(f"STATUS.SENDING still set after {SEND_POLLS} reads")

    async def check_error(self) -> None:
        """Raise `MachineStoppedError` if the machine has stopped with an error."""
        word = await self.read("ERROR")
        if word and (fields := REGISTERS["ERROR"].decode(word))["CODE"]:
            raise MachineStoppedError(fields["CODE"], fields["INFO"])

    async def load(self, packets: Iterable[HasBeats]) -> None:
        """Send load packets and wait until they are written.

        Raises `MachineStoppedError` if the machine refuses one.
        """
        try:
            await self.source.send(*(packet.beats for packet in packets))
        except StreamStalledError:
            await self.check_error()
            raise
        await self._loaded()

    async def _loaded(self) -> None:
        """Waits until the packets that were sent are written. Raises as `load` does."""
        for _ in range(LOAD_POLLS):
            if not REGISTERS["STATUS"].decode(await self.read("STATUS"))["LOADING"]:
                break
        else:
            raise MachineTimeoutError(
                f"STATUS.LOADING still set after {LOAD_POLLS} reads: a packet without tlast?"
            )
        await self.check_error()

    async def start(self, program_address: int = 0) -> None:
        """Start the program at a word of the program memory.

        Raises `MachineStoppedError` if an error stands, `RegisterError` if it is busy.
        """
        await self.write("PROGRAM_START", program_address)
        try:
            await self.write("CONTROL", START)
        except RegisterError:
            await self.check_error()
            raise

    async def wait_done(self, timeout_cycles: int = 1_000_000) -> None:
        """Sleeps until the interrupt, and acknowledges it.

        Raises `MachineStoppedError` if it reports an error, `MachineTimeoutError` if none comes.
        """
        if self.dut.irq.value != 1:
            if not await risen(self.dut.irq, timeout_cycles):
                status = REGISTERS["STATUS"].decode(await self.read("STATUS"))
                raise MachineTimeoutError(
                    f"no interrupt within {timeout_cycles} cycles: {status}, CYCLES"
                    f" {await self.read('CYCLES')}"
                )
            await RisingEdge(self.dut.clk)
        await self.check_error()
        await self.write("IRQ_STATUS", DONE)

    async def run(
        self,
        packets: Iterable[HasBeats] = (),
        program_address: int = 0,
        timeout_cycles: int = 1_000_000,
        live: Iterable[HasBeats] = (),
    ) -> HostRun:
        """Loads, runs a program to its end, and collects the packets that it sent.

        `live` packets are sent while the program runs. The run is over when they have come, too. If the
        machine stops with an error, the packet that has begun is sent to its end, and no other.
        """
        await self.load(packets)
        await self.start(program_address)
        beats = [packet.beats for packet in live]
        if beats:
            patience = timeout_cycles + self.source.patience
            sending = cocotb.start_soon(self.source.send(*beats, patience=patience))
            try:
                await self.wait_done(timeout_cycles)
            except (MachineStoppedError, MachineTimeoutError):
                self.source.end()
                await sending
                raise
            await sending
            await self._loaded()
        else:
            await self.wait_done(timeout_cycles)
        await self.sink.drained()
        counters = await self.counters()
        return HostRun(counters, [np.frombuffer(packet, np.int8) for packet in self.sink.take()])
