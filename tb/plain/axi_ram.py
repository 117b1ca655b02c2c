"""A memory behind AXI4: cocotbext-axi's `AxiRam`, with latency and with places that answer with an error."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

from cocotb.utils import get_sim_time
from cocotbext.axi import AxiBus, AxiRam
from cocotbext.axi.stream import StreamSource

from tb.common.clock import PERIOD_NS


def delay(channel: StreamSource, cycles: int) -> None:
    """What is put into `channel` comes out so many cycles later than without, at the full rate."""
    due: deque[float] = deque()
    put = channel.send

    async def send(item: Any) -> None:
        due.append(get_sim_time("ns") + cycles * PERIOD_NS)
        await put(item)

    def waits() -> Iterator[bool]:
        """Whether the next is not to come yet, once in each cycle."""
        while True:
            while len(due) > channel.count():
                due.popleft()
            yield bool(due) and get_sim_time("ns") < due[0]

    channel.send = send
    channel.queue_occupancy_limit = -1
    channel.set_pause_generator(waits())


class Memory:
    """`size` bytes at the pins `m_axi_*`. A read is answered `latency` cycles later than by `AxiRam` itself,
    and so is a write; any number may be under way.

    A beat in one of `bad` is answered with SLVERR.
    """

    def __init__(self, dut: Any, size: int, latency: int) -> None:
        self.ram = AxiRam(AxiBus.from_prefix(dut, "m_axi"), dut.clk, dut.rst, size=size)
        for port in (self.ram.read_if, self.ram.write_if):
            port.log.setLevel("WARNING")  # it tells of every burst
        delay(self.ram.read_if.r_channel, latency)
        delay(self.ram.write_if.b_channel, latency)
        self.bad: list[range] = []
        read, write = self.ram.read_if._read, self.ram.write_if._write

        async def checked_read(address: int, length: int) -> bytes:
            self._refuse(address)
            return bytes(await read(address, length))

        async def checked_write(address: int, data: bytes) -> None:
            self._refuse(address)
            await write(address, data)

        self.ram.read_if._read, self.ram.write_if._write = checked_read, checked_write

    def _refuse(self, address: int) -> None:
        if any(address in part for part in self.bad):
            raise ValueError(f"no memory at {address:#x}")

    def write(self, address: int, data: bytes) -> None:
        self.ram.write(address, data)

    def read(self, address: int, length: int) -> bytes:
        return bytes(self.ram.read(address, length))
