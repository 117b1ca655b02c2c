"""AXI4-Lite: a master for one access at a time, which wakes only where a signal that it waits for may have
changed.
"""

from __future__ import annotations

from typing import Any

from cocotb.triggers import RisingEdge
from cocotb_bus.drivers import BusDriver
from cocotb_bus.drivers.amba import AXIProtocolError, AXIxRESP

from tb.common.pins import ONE, bits
from tb.plain.stream import StreamStalledError

ALL_BYTES = 0b1111
OKAY = "00"  # as a signal has it
# cycles that a step of an access may take: the machine takes a few, and a host that is not ready for the
# answer some dozens
PATIENCE = 2000


class AxilMaster(BusDriver):
    """Drives the five channels of `<name>_*`. With `takes` it is always ready for an answer; without, other
    code drives the ready of B and R.

    Its errors are those of cocotb-bus's own master, which takes ten events of the simulator for an access. An
    access that is not answered raises `StreamStalledError`.
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

    def __init__(self, dut: Any, name: str, clock: Any, *, takes: bool = True) -> None:
        super().__init__(dut, name, clock)
        bus = self.bus
        self.edge = RisingEdge(clock)
        self.takes = takes
        self._bits = {signal: bits(getattr(bus, signal)) for signal in self._signals}
        for valid in (bus.AWVALID, bus.WVALID, bus.ARVALID):
            valid.value = 0
        if takes:
            bus.BREADY.value = bus.RREADY.value = 1

    async def write(
        self, address: int, value: int, strobe: int = ALL_BYTES, delays: tuple[int, int] = (0, 0)
    ) -> None:
        """Writes a register of 32 bits. Address and data come after these delays, in cycles. Raises
        `AXIProtocolError` if the answer is not OKAY.
        """
        bus = self.bus
        wait = dict(zip(("AW", "W"), delays, strict=True))
        payload = {"AW": ((bus.AWADDR, address),), "W": ((bus.WDATA, value), (bus.WSTRB, strobe))}
        valid = {"AW": bus.AWVALID, "W": bus.WVALID}
        for cycle in range(PATIENCE):
            for channel, delay in wait.items():
                if cycle == delay:
                    for signal, what in payload[channel]:
                        signal.value = what
                    valid[channel].value = 1
            await self.edge
            for channel in [c for c, delay in wait.items() if cycle >= delay]:
                if self._bits[f"{channel}READY"]() == ONE:
                    valid[channel].value = 0
                    del wait[channel]
            if not wait:
                break
        else:
            raise self._stalled(address)
        await self._answered("B", f"write of {value:#x} to", address)

    async def read(self, address: int) -> int:
        """Reads a register of 32 bits. Raises `AXIProtocolError` if the answer is not OKAY."""
        bus = self.bus
        bus.ARADDR.value, bus.ARVALID.value = address, 1
        ready = self._bits["ARREADY"]
        for _ in range(PATIENCE):
            await self.edge
            if ready() == ONE:
                break
        else:
            raise self._stalled(address)
        bus.ARVALID.value = 0
        await self._answered("R", "read of", address)
        return int(self._bits["RDATA"](), 2)

    async def _answered(self, channel: str, what: str, address: int) -> None:
        """Waits for the answer."""
        valid, ready = self._bits[f"{channel}VALID"], self._bits[f"{channel}READY"]
        for _ in range(PATIENCE):
            await self.edge
            if valid() == ONE and (self.takes or ready() == ONE):
                break
        else:
            raise self._stalled(address)
        response = self._bits[f"{channel}RESP"]()
        if response != OKAY:
            found = AXIxRESP(int(response, 2))
            raise AXIProtocolError(f"{what} address {address:#04x}: {found.name}", found)

    @staticmethod
    def _stalled(address: int) -> StreamStalledError:
        return StreamStalledError(
            f"no answer to an access of register {address:#04x} within {PATIENCE} cycles"
        )
