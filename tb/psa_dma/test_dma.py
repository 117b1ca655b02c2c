"""psa_dma between cocotbext-axi's `AxiRam` and a machine that this test plays: what its parts do together.

Model: the list. Its beats must come on the load stream in their order, its starts at the machine's registers
in between, and what the machine sends must be in the buffer. The machine is slow to take and to answer, and
its program sends packets of random words.

Corners: lists of one descriptor and of many; several starts in a list; memories with and without latency; a
host that reads registers of both while a list lasts; SLVERR for a descriptor, for data and for what is
written; an error of the machine; resets in any cycle of a list, each followed by a list that is right.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import RisingEdge
from cocotb.utils import get_sim_time

from pymodel.machine.dma import Descriptor, Load, Start, encode
from pymodel.machine.errors import DmaErrorCode
from pymodel.machine.registers import DMA_REGISTERS, REGISTERS
from tb.common import settings
from tb.common.block import chance
from tb.common.clock import PERIOD_NS
from tb.common.seeding import numpy_rng
from tb.plain.axi_ram import Memory
from tb.plain.axil import AxilMaster

PATIENCE = 40_000
SIZE = 1 << 20
OUT, LIST, DATA = 0x1000, 0x40000, 0x80FC0  # where the list, its data and the buffer are
DONE, ERROR = 1, 2
BUSY, BROKEN, SENDING = 1, 4, 8
ADDRESS = {name: one.address for name, one in (REGISTERS | DMA_REGISTERS).items()}
EVENT_BEAT, EVENT_START = 0, 1


class Machine:
    """Registers and streams of a machine, from cycle to cycle."""

    def __init__(self, dut: Any, rng: np.random.Generator, rate: float) -> None:
        self.dut = dut
        self.rng = rng
        self.rate = rate
        self.events: list[tuple[int, int, int]] = []  # kind; data and last, or program
        self.packets: deque[list[int]] = deque()  # that the next programs send
        self.sending: deque[tuple[int, int]] = deque()
        self.status = self.error = self.program = 0
        self.resets: list[int] = []
        for name in ("m_axil_bvalid", "m_axil_rvalid", "s_axis_tvalid", "m_axis_tready"):
            getattr(dut, name).value = 0
        for name in ("m_axil_awready", "m_axil_wready", "m_axil_arready"):
            getattr(dut, name).value = 1
        cocotb.start_soon(self.run())

    async def run(self) -> None:
        edge = RisingEdge(self.dut.clk)
        address = data = None
        while True:
            await edge
            dut = self.dut
            if dut.rst.value == 1:  # what the block asks for before its reset is noise
                continue
            one = {
                name: getattr(dut, name).value == 1
                for name in (
                    *("m_axil_awvalid", "m_axil_awready", "m_axil_wvalid", "m_axil_wready"),
                    *("m_axil_bvalid", "m_axil_bready", "m_axil_arvalid", "m_axil_arready"),
                    *("m_axil_rvalid", "m_axil_rready", "m_axis_tvalid", "m_axis_tready"),
                    *("s_axis_tvalid", "s_axis_tready"),
                )
            }
            if one["m_axil_bvalid"] and one["m_axil_bready"]:
                dut.m_axil_bvalid.value = 0
            if one["m_axil_rvalid"] and one["m_axil_rready"]:
                dut.m_axil_rvalid.value = 0
            if one["m_axil_awvalid"] and one["m_axil_awready"]:
                address = int(dut.m_axil_awaddr.value)
            if one["m_axil_wvalid"] and one["m_axil_wready"]:
                data = int(dut.m_axil_wdata.value)
            if address is not None and data is not None:
                dut.m_axil_bvalid.value = 1
                dut.m_axil_bresp.value = self.written(address, data)
                address = data = None
            if one["m_axil_arvalid"] and one["m_axil_arready"]:
                dut.m_axil_rvalid.value, dut.m_axil_rresp.value = 1, 0
                dut.m_axil_rdata.value = self.read(int(dut.m_axil_araddr.value))
            if one["m_axis_tvalid"] and one["m_axis_tready"]:
                self.events.append((EVENT_BEAT, int(dut.m_axis_tdata.value), int(dut.m_axis_tlast.value)))
            dut.m_axis_tready.value = int(chance(self.rng, self.rate))
            self.send(one["s_axis_tvalid"], one["s_axis_tready"])

    def written(self, address: int, data: int) -> int:
        if address == ADDRESS["PROGRAM_START"]:
            self.program = data
        elif address == ADDRESS["CONTROL"] and data == 1:
            self.events.append((EVENT_START, self.program, 0))
            self.status |= BUSY
            packets = [self.packets.popleft()] if self.packets else []
            self.sending += [(word, int(n == len(p) - 1)) for p in packets for n, word in enumerate(p)]
        elif address == ADDRESS["CONTROL"]:
            self.resets.append(data)
            self.status &= ~BROKEN & ~BUSY
            if self.sending:  # a packet that is cut has an end
                self.sending = deque([(self.sending[0][0], 1)])
        return 0

    def read(self, address: int) -> int:
        if address == ADDRESS["STATUS"]:
            return self.status | (SENDING if self.sending and not self.status & BUSY else 0)
        return self.error if address == ADDRESS["ERROR"] else address

    def send(self, valid: bool, ready: bool) -> None:
        dut = self.dut
        if valid and ready:
            self.sending.popleft()
        if not self.sending:
            dut.s_axis_tvalid.value = 0
            if self.status & BUSY and chance(self.rng, 0.1):
                self.status &= ~BUSY
        elif (valid and not ready) or chance(self.rng, self.rate):
            dut.s_axis_tvalid.value = 1
            dut.s_axis_tdata.value, dut.s_axis_tlast.value = self.sending[0]
        else:
            dut.s_axis_tvalid.value = 0


class Dma:
    """The block with its memory, its host and a machine."""

    def __init__(self, dut: Any, rng: np.random.Generator) -> None:
        parameters = settings.parameters()
        self.dut = dut
        self.rng = rng
        self.beat, self.word = parameters["STREAM_BITS"] // 8, parameters["WORD_BITS"] // 8
        self.bits = parameters["STREAM_BITS"]
        self.compared = 0
        dut.rst.value = 1
        Clock(dut.clk, PERIOD_NS, "ns", impl="gpi").start(start_high=False)
        self.memory = Memory(dut, SIZE, int(rng.choice([0, 5, 50])))
        self.host = AxilMaster(dut, "s_axil", dut.clk)
        self.machine = Machine(dut, rng, float(rng.choice([1.0, 0.5])))

    async def cycles(self, count: int) -> None:
        for _ in range(count):
            await RisingEdge(self.dut.clk)

    async def reset(self) -> None:
        await self.cycles(3)
        self.dut.rst.value = 0
        await self.cycles(2)
        await self.host.write(ADDRESS["DMA_IRQ_ENABLE"], DONE | ERROR)

    def compare(self, what: str, seen: int, expected: int) -> None:
        self.compared += 1
        cycle = int(get_sim_time("ns")) // PERIOD_NS
        assert seen == expected, f"cycle {cycle}: {what}: expected {expected:#x}, seen {seen:#x}"

    def draw(self) -> tuple[list[Descriptor], list[tuple[int, int, int]]]:
        """A list with its data in memory, and what must come of it."""
        rng, descriptors, events = self.rng, list[Descriptor](), list[tuple[int, int, int]]()
        address = DATA
        for _ in range(int(rng.integers(1, 12))):
            if chance(rng, 0.3):
                program = int(rng.integers(1 << 16))
                descriptors.append(Start(program))
                events.append((EVENT_START, program, 0))
                continue
            beats = int(rng.integers(1, 60))
            data = rng.bytes(beats * self.beat)
            self.memory.write(address, data)
            descriptors.append(Load(address, len(data)))
            words = [
                int.from_bytes(data[at : at + self.beat], "little") for at in range(0, len(data), self.beat)
            ]
            events += [(EVENT_BEAT, word, n == beats - 1) for n, word in enumerate(words)]
            address += len(data) + int(rng.integers(0, 3)) * self.beat
        self.memory.write(LIST, encode(descriptors, self.bits))
        return descriptors, events

    def packets(self, starts: int) -> list[bytes]:
        """A packet for each start."""
        packets = [self.rng.bytes(self.word * int(self.rng.integers(1, 30))) for _ in range(starts)]
        self.machine.packets = deque(
            [int.from_bytes(p[n : n + self.word], "little") for n in range(0, len(p), self.word)]
            for p in packets
        )
        return packets

    async def go(self, count: int, size: int = 1 << 16) -> None:
        await self.host.write(ADDRESS["DMA_OUT_SIZE"], size)
        await self.host.write(ADDRESS["DMA_LIST"], LIST)
        await self.host.write(ADDRESS["DMA_OUT"], OUT)
        await self.host.write(ADDRESS["DMA_GO"], count)

    async def ended(self) -> int:
        """Waits for the interrupt, and reads registers of both meanwhile. Returns the error."""
        for _ in range(PATIENCE):
            await RisingEdge(self.dut.clk)
            if self.dut.irq.value == 1:
                break
            if chance(self.rng, 0.02):
                name = str(self.rng.choice(["WORDS", "DEPTH0", "DMA_ID"]))
                wanted = DMA_REGISTERS["DMA_ID"].reset if name == "DMA_ID" else ADDRESS[name]
                self.compare(name, await self.host.read(ADDRESS[name]), wanted or 0)
        else:
            raise AssertionError("cycle 0: irq: expected 0x1, seen 0x0")
        return await self.host.read(ADDRESS["DMA_ERROR"])

    async def whole_list(self) -> tuple[int, int]:
        """A list that is right, from its start to its end. Returns its beats and its starts."""
        descriptors, events = self.draw()
        self.machine.events.clear()
        starts = sum(isinstance(one, Start) for one in descriptors)
        packets = self.packets(starts)
        await self.go(len(descriptors))
        self.compare("DMA_ERROR", await self.ended(), 0)
        await self.host.write(ADDRESS["DMA_IRQ_STATUS"], DONE)
        for seen, wanted in zip(self.machine.events, events, strict=False):
            self.compare("event", hash(seen), hash(wanted))
        self.compare("events", len(self.machine.events), len(events))
        at = OUT
        for packet in packets:
            self.compare("packet", int(self.memory.read(at, len(packet)) == packet), 1)
            at += -(-len(packet) // self.beat) * self.beat
        self.compare("DMA_OUT_USED", await self.host.read(ADDRESS["DMA_OUT_USED"]), at - OUT)
        return len(events) - starts, starts

    async def dma_reset(self) -> None:
        self.memory.bad.clear()
        self.machine.resets.clear()
        await self.host.write(ADDRESS["DMA_CONTROL"], 1)
        for _ in range(500):
            if await self.host.read(ADDRESS["DMA_STATUS"]) == 0:
                break
        else:
            raise AssertionError("cycle 0: DMA_STATUS: expected 0x0, seen 0x1")
        self.compare("resets", int(self.machine.resets == [2, 6]), 1)
        beats = [event for event in self.machine.events if event[0] == EVENT_BEAT]
        self.compare("end_of_the_last_packet", int(not beats or beats[-1][2]), 1)


@cocotb.test()
async def lists(dut: Any) -> None:
    dma = Dma(dut, numpy_rng("lists"))
    await dma.reset()
    beats = starts = 0
    for _ in range(12):
        found = await dma.whole_list()
        beats, starts = beats + found[0], starts + found[1]
    assert beats
    assert starts
    settings.report({"compared": dma.compared, "beats": beats, "starts": starts})


@cocotb.test()
async def errors_and_resets(dut: Any) -> None:
    rng = numpy_rng("errors")
    dma = Dma(dut, rng)
    await dma.reset()
    kinds = ("LIST_READ", "DATA_READ", "OUT_WRITE", "OUT_SIZE", "MACHINE", "reset")
    for kind in kinds * 4:
        dma.machine.events.clear()
        descriptors, _ = dma.draw()
        descriptors = [*descriptors, Start(3)]
        dma.memory.write(LIST, encode(descriptors, dma.bits))
        dma.packets(len(descriptors))
        if kind in ("LIST_READ", "OUT_WRITE"):
            dma.memory.bad = [range(LIST, LIST + 64) if kind == "LIST_READ" else range(OUT, OUT + 64)]
        elif kind == "DATA_READ":
            dma.memory.bad = [range(DATA, DATA + dma.beat)]
            descriptors = [Load(DATA, dma.beat), *descriptors]
            dma.memory.write(LIST, encode(descriptors, dma.bits))
        elif kind == "MACHINE":
            dma.machine.status, dma.machine.error = BROKEN, 7 << 8 | 5
        await dma.go(len(descriptors), 0 if kind == "OUT_SIZE" else 1 << 16)
        if kind == "reset":
            await dma.cycles(int(rng.integers(0, 300)))
        else:
            word = await dma.ended()
            dma.compare("code", word & 0xFF, DmaErrorCode[kind])
            dma.compare("info", word >> 8, 5 if kind == "MACHINE" else word >> 8)
        await dma.dma_reset()
        await dma.whole_list()
    settings.report({"compared": dma.compared, "errors": len(kinds) * 4})
