"""AXI4-Lite: a master for one access at a time, which wakes only where a signal that it waits for may have
changed.
"""

from __future__ import annotations

from typing import Any

from cocotb.handle import LogicArrayObject, LogicObject
from cocotb.triggers import RisingEdge
from cocotb_bus.drivers import BusDriver
from cocotb_bus.drivers.amba import AXIProtocolError, AXIxRESP

from tb.plain.stream import HIGH

ALL_BYTES = 0b1111


class AxilMaster(BusDriver):
    """Drives the five channels of `<name>_*`. It is always ready for an answer.

    Its errors are those of cocotb-bus's own master, which takes ten events of the simulator for an access.
    """

    _signals = tuple(
        f"{channel}{signal}"
        for channel, payload in (
            ("AW", ("ADDR",)),
            ("W", ("DATA", "STRB")),
            ("B", ("RESP",)),
            ("AR", ("ADDR",)),
            ("R", ("DATA", "RESP")),
        )
        for signal in (*payload, "VALID", "READY")
    )

    def __init__(self, dut: Any, name: str, clock: Any) -> None:
        super().__init__(dut, name, clock)
        self.edge = RisingEdge(clock)
        for valid in (self.bus.AWVALID, self.bus.WVALID, self.bus.ARVALID):
            valid.value = 0
        self.bus.BREADY.value = self.bus.RREADY.value = 1

    async def write(self, address: int, value: int) -> None:
        """Writes a register of 32 bits. Raises `AXIProtocolError` if the answer is not OKAY."""
        bus = self.bus
        bus.AWADDR.value, bus.WDATA.value, bus.WSTRB.value = address, value, ALL_BYTES
        bus.AWVALID.value = bus.WVALID.value = 1
        open_channels = [(bus.AWVALID, bus.AWREADY), (bus.WVALID, bus.WREADY)]
        while open_channels:
            await self.edge
            for channel in list(open_channels):
                valid, ready = channel
                if ready.value is HIGH:
                    valid.value = 0
                    open_channels.remove(channel)
        await self._answered(bus.BVALID, bus.BRESP, f"write of {value:#x} to address {address:#04x}")

    async def read(self, address: int) -> int:
        """Reads a register of 32 bits. Raises `AXIProtocolError` if the answer is not OKAY."""
        bus = self.bus
        bus.ARADDR.value, bus.ARVALID.value = address, 1
        await self.edge
        while bus.ARREADY.value is not HIGH:
            await self.edge
        bus.ARVALID.value = 0
        await self._answered(bus.RVALID, bus.RRESP, f"read of address {address:#04x}")
        return int(bus.RDATA.value)

    async def _answered(self, valid: LogicObject, response: LogicArrayObject, what: str) -> None:
        await self.edge
        while valid.value is not HIGH:
            await self.edge
        found = AXIxRESP(int(response.value))
        if found is not AXIxRESP.OKAY:
            raise AXIProtocolError(f"{what}: {found.name}", found)
