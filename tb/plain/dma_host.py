"""`DmaHost`: operates the machine with its DMA as software would: lists in memory, three registers a list."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, RisingEdge

from pymodel.machine.config import ArrayConfig
from pymodel.machine.dma import Descriptor, Load, beat_bytes, descriptor_bytes, encode
from pymodel.machine.errors import DmaErrorCode
from pymodel.machine.registers import DMA_REGISTERS, REGISTERS
from tb.common.clock import PERIOD_NS
from tb.common.edges import risen
from tb.plain.axi_ram import Memory
from tb.plain.axil import AxilMaster
from tb.plain.host import HasBeats, MachineTimeoutError, RegisterPort

DONE, ERROR = 1, 2  # bits of DMA_IRQ_ENABLE and DMA_IRQ_STATUS
BUSY = 1  # bit of DMA_STATUS
RESET = 1  # bit of DMA_CONTROL
RESET_POLLS = 200


class DmaError(Exception):
    """A list ended with an error."""

    def __init__(self, word: int) -> None:
        fields = DMA_REGISTERS["DMA_ERROR"].decode(word)
        self.code, self.info = DmaErrorCode(fields["CODE"]), fields["INFO"]
        super().__init__(f"DMA error {self.code.name}, info {self.info}")


class DmaHost(RegisterPort):
    """Clock, reset, registers and memory of `psa_system`.

    The memory holds what is put there from its beginning on, and buffers for packets.
    """

    def __init__(self, dut: Any, config: ArrayConfig, size: int = 1 << 24, latency: int = 0) -> None:
        self.dut = dut
        self.config = config
        self.beat = beat_bytes(config.stream_bits)
        dut.rst.value = 1
        self.size = size
        self.memory = Memory(dut, size, latency)
        super().__init__(AxilMaster(dut, "s_axil", dut.clk), REGISTERS | DMA_REGISTERS)
        self.used = 0
        self.out_size = 0
        # starts low: an edge at time 0 would come before the first values of the memory's pins
        Clock(dut.clk, PERIOD_NS, "ns", impl="gpi").start(start_high=False)

    async def reset(self, cycles: int = 4) -> None:
        """Resets by the pin, and enables both interrupts of the DMA."""
        self.dut.rst.value = 1
        await ClockCycles(self.dut.clk, cycles)
        self.dut.rst.value = 0
        await RisingEdge(self.dut.clk)
        await self.write("DMA_IRQ_ENABLE", DONE | ERROR)

    def put(self, data: bytes) -> int:
        """Puts data behind what is in the memory already. Returns the address, that of a descriptor."""
        unit = descriptor_bytes(self.config.stream_bits)
        address = self.room(len(data))
        assert address % unit == 0
        self.memory.write(address, data)
        return address

    def room(self, length: int) -> int:
        """Keeps so many bytes free. Returns their address."""
        unit = descriptor_bytes(self.config.stream_bits)
        address, self.used = self.used, self.used + -(-length // unit) * unit
        assert self.used <= self.size, f"{self.used} bytes of memory, there are {self.size}"
        return address

    def loads(self, packets: Iterable[HasBeats]) -> list[Load]:
        """Puts packets into memory; a descriptor for each."""
        data = [packet.beats.tobytes() for packet in packets]
        return [Load(self.put(one), len(one)) for one in data]

    def put_list(self, descriptors: Sequence[Descriptor]) -> int:
        return self.put(encode(descriptors, self.config.stream_bits))

    async def buffer(self, length: int) -> int:
        """A buffer of whole beats for the packets of a list. Its size is written only where it changes."""
        size = -(-length // self.beat) * self.beat
        if size != self.out_size:
            await self.write("DMA_OUT_SIZE", size)
            self.out_size = size
        return self.room(size)

    async def go(self, descriptors: int, count: int, out: int) -> None:
        """The three registers of a list."""
        await self.write("DMA_LIST", descriptors)
        await self.write("DMA_OUT", out)
        await self.write("DMA_GO", count)

    async def wait(self, timeout_cycles: int = 1_000_000) -> None:
        """Sleeps until the interrupt, and acknowledges it. Raises `DmaError` if it reports one,
        `MachineTimeoutError` if none comes.
        """
        if self.dut.irq.value != 1:
            if not await risen(self.dut.irq, timeout_cycles):
                status = DMA_REGISTERS["DMA_STATUS"].decode(await self.read("DMA_STATUS"))
                core = REGISTERS["STATUS"].decode(await self.read("STATUS"))
                raise MachineTimeoutError(
                    f"no interrupt within {timeout_cycles} cycles: DMA {status}, machine {core}"
                )
            await RisingEdge(self.dut.clk)
        if await self.read("DMA_STATUS") & ERROR:
            raise DmaError(await self.read("DMA_ERROR"))
        await self.write("DMA_IRQ_STATUS", DONE)

    async def run(
        self, descriptors: Sequence[Descriptor], out_length: int, timeout_cycles: int = 1_000_000
    ) -> bytes:
        """Runs a list, with a buffer of so many bytes. Returns what is in the buffer."""
        out = await self.buffer(out_length)
        await self.go(self.put_list(descriptors), len(descriptors), out)
        await self.wait(timeout_cycles)
        assert await self.read("DMA_OUT_USED") <= out_length + self.beat
        return self.memory.read(out, out_length)

    async def dma_reset(self) -> None:
        """Resets DMA and machine."""
        await self.write("DMA_CONTROL", RESET)
        for _ in range(RESET_POLLS):
            if not await self.read("DMA_STATUS") & BUSY:
                return
        raise MachineTimeoutError(f"DMA_STATUS.BUSY still set after {RESET_POLLS} reads")


def packet_lengths(sizes: Iterable[int], beat: int) -> list[int]:
    """The bytes that packets of these sizes take in a buffer: each begins at a beat."""
    return [-(-size // beat) * beat for size in sizes]


def split(data: bytes, sizes: Sequence[int], beat: int) -> list[np.ndarray[Any, np.dtype[np.int8]]]:
    """The packets of a buffer, of which the sizes are known."""
    packets, at = [], 0
    for size, length in zip(sizes, packet_lengths(sizes, beat), strict=True):
        packets.append(np.frombuffer(data, np.int8, size, at))
        at += length
    return packets
