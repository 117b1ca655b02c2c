"""psa_axil_share: a host, the DMA's own accesses, the registers of the DMA and a machine, each in its own
time.

Model: an access of the host or of the DMA arrives once where its address says, in the order of the host's own
accesses, and its answer is what was answered there. The machine of this test takes and answers accesses as
slowly as it likes, and one at a time comes.

Corners: address before data and data before address; answers that nobody takes for a long time; the host and
the DMA asking again and again: neither waits for more than one access of the other; SLVERR from both sides;
every register of both, by address; a write and a read of the host at once; a reset with accesses under way.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

import cocotb
import numpy as np

from tb.common.block import Bench, chance, edgy
from tb.common.seeding import numpy_rng

OKAY, SLVERR = 0, 2
PATIENCE = 2000
HOST_BITS, OWN_BITS = 9, 8  # of an address
HOST = (
    *("s_axil_awaddr", "s_axil_awvalid", "s_axil_wdata", "s_axil_wstrb", "s_axil_wvalid", "s_axil_bready"),
    *("s_axil_araddr", "s_axil_arvalid", "s_axil_rready"),
)
OWN = ("own_valid", "own_write", "own_address", "own_wdata")
REGISTERS = ("reg_rdata", "reg_ok")
MACHINE = (
    *("m_axil_awready", "m_axil_wready", "m_axil_bresp", "m_axil_bvalid"),
    *("m_axil_arready", "m_axil_rdata", "m_axil_rresp", "m_axil_rvalid"),
)
MASK = 2**32 - 1


@dataclass
class Asked:
    """An access, and what is answered to it where it goes. `data` is None for a read."""

    address: int
    data: int | None
    strobe: int
    answer: int
    refused: bool


class Share:
    """All pins of the block, cycle by cycle. Each access that somebody asks for is in one of the queues until
    it has arrived, then in another until its answer has come.
    """

    def __init__(self, dut: Any, rng: np.random.Generator) -> None:
        self.dut = dut
        self.rng = rng
        self.bench = Bench(dut, "rst", *HOST, *OWN, *REGISTERS, *MACHINE)
        self.begin()

    def begin(self) -> None:
        self.writes: deque[Asked] = deque()  # of the host, as they must arrive
        self.reads: deque[Asked] = deque()
        self.write_answers: deque[Asked] = deque()
        self.read_answers: deque[Asked] = deque()
        self.sent = {"aw": False, "w": False, "ar": False}
        self.own: Asked | None = None
        self.own_arrived = False
        self.machine: Asked | None = None  # the access that the machine has
        self.got: dict[str, int] = {}
        self.answering: str | None = None
        self.rates = dict.fromkeys(("ask", "own", "take", "machine", "answer"), 1.0)
        self.counts = dict.fromkeys(("host", "own", "registers", "refused", "kept_waiting", "together"), 0)
        self.since_own = self.since_host = 0  # accesses of the other since one is asked for

    async def reset(self) -> None:
        quiet = dict.fromkeys(
            (
                *("s_axil_awvalid", "s_axil_wvalid", "s_axil_bready", "s_axil_arvalid", "s_axil_rready"),
                *("own_valid", "m_axil_awready", "m_axil_wready", "m_axil_bvalid"),
                *("m_axil_arready", "m_axil_rvalid"),
            ),
            0,
        )
        await self.bench.reset(**quiet)
        self.begin()

    def draw(self, bits: int, write: bool) -> Asked:
        rng = self.rng
        data = edgy(rng, 0, MASK) if write else None
        address = edgy(rng, 0, (1 << bits) - 1)
        # the parity of an address within the machine says whose access it is
        address ^= (address & 0xFF).bit_count() % 2 != (bits == OWN_BITS)
        return Asked(
            address,
            data,
            int(rng.integers(16)),
            edgy(rng, 0, MASK),
            chance(rng, 0.3),
        )

    def at(self, rate: str) -> bool:
        return chance(self.rng, self.rates[rate])

    def compare(self, what: str, seen: int, expected: int) -> None:
        bench = self.bench
        bench.compared += 1
        assert seen == expected, f"cycle {bench.number}: {what}: expected {expected:#x}, seen {seen:#x}"

    async def cycle(self, *, more: bool = True) -> None:
        """One cycle. With `more`, the host and the DMA ask for new accesses."""
        if more and not self.writes and self.at("ask"):
            self.writes.append(self.draw(HOST_BITS, True))
            self.sent |= {"aw": False, "w": False}
        if more and not self.reads and self.at("ask"):
            self.reads.append(self.draw(HOST_BITS, False))
            self.sent["ar"] = False
        if more and self.own is None and self.at("own"):
            self.own, self.own_arrived = self.draw(OWN_BITS, chance(self.rng, 0.5)), False
        pins = self.host_pins() | self.own_pins() | self.machine_pins()
        pins |= {"reg_rdata": edgy(self.rng, 0, MASK), "reg_ok": int(chance(self.rng, 0.7))}
        await self.bench.cycle(rst=0, **pins)
        self.registers(pins)
        self.to_machine(pins)
        self.host(pins)
        self.own_done()

    # what is driven

    def host_pins(self) -> dict[str, int]:
        pins = dict.fromkeys(("s_axil_awvalid", "s_axil_wvalid", "s_axil_arvalid"), 0)
        if self.writes:
            one = self.writes[0]
            assert one.data is not None
            if not self.sent["aw"] and self.offers("aw"):
                pins |= {"s_axil_awvalid": 1, "s_axil_awaddr": one.address}
            if not self.sent["w"] and self.offers("w"):
                pins |= {"s_axil_wvalid": 1, "s_axil_wdata": one.data, "s_axil_wstrb": one.strobe}
        if self.reads and not self.sent["ar"]:
            pins |= {"s_axil_arvalid": 1, "s_axil_araddr": self.reads[0].address}
        return pins | {"s_axil_bready": self.at("take"), "s_axil_rready": self.at("take")}

    def offers(self, channel: str) -> bool:
        """Whether a part of a write is offered: once it is, it stays. One may come long before the other."""
        name = f"offered_{channel}"
        if not self.sent.get(name):
            self.sent[name] = self.at("ask")
        return self.sent[name]

    def own_pins(self) -> dict[str, int]:
        if self.own is None:
            return {"own_valid": 0}
        pins = {"own_valid": 1, "own_write": int(self.own.data is not None), "own_address": self.own.address}
        return pins | ({"own_wdata": self.own.data} if self.own.data is not None else {})

    def machine_pins(self) -> dict[str, int]:
        free = self.machine is None
        pins = {
            "m_axil_awready": int(free and "aw" not in self.got and self.at("machine")),
            "m_axil_wready": int(free and "w" not in self.got and self.at("machine")),
            "m_axil_arready": int(free and self.at("machine")),
            "m_axil_bvalid": 0,
            "m_axil_rvalid": 0,
        }
        if self.machine is not None and (self.answering or self.at("answer")):
            response = SLVERR if self.machine.refused else OKAY
            self.answering = "b" if self.machine.data is not None else "r"
            pins |= {f"m_axil_{self.answering}valid": 1, f"m_axil_{self.answering}resp": response}
            if self.answering == "r":
                pins["m_axil_rdata"] = self.machine.answer
        return pins

    # what is seen

    def registers(self, pins: dict[str, int]) -> None:
        """An access to a register of the DMA, which is answered in its cycle."""
        dut = self.dut
        writes, reads = int(dut.reg_write.value), int(dut.reg_read.value)
        self.compare("both_at_once", writes & reads, 0)
        if not writes | reads:
            return
        queue = self.writes if writes else self.reads
        assert queue, f"cycle {self.bench.number}: reg_write: expected nothing, seen {writes}"
        one = queue.popleft()
        self.compare("address_of_a_register", one.address >> 8, 1)
        self.bench.expect(reg_address=one.address & 0xFF)
        if one.data is not None:
            self.bench.expect(reg_wdata=one.data, reg_wstrb=one.strobe)
        one.answer, one.refused = pins["reg_rdata"], not pins["reg_ok"]
        (self.write_answers if writes else self.read_answers).append(one)
        self.counts["registers"] += 1
        self.host_served()

    def host_served(self) -> None:
        self.since_host = 0
        if self.own is not None and not self.own_arrived:
            self.since_own += 1
            self.compare("accesses_before_the_dma", int(self.since_own <= 2), 1)

    def to_machine(self, pins: dict[str, int]) -> None:
        dut = self.dut
        if pins["m_axil_bvalid"] and dut.m_axil_bready.value == 1:
            self.machine = self.answering = None
        if pins["m_axil_rvalid"] and dut.m_axil_rready.value == 1:
            self.machine = self.answering = None
        if pins["m_axil_awready"] and dut.m_axil_awvalid.value == 1:
            self.got["aw"] = int(dut.m_axil_awaddr.value)
        if pins["m_axil_wready"] and dut.m_axil_wvalid.value == 1:
            self.got["w"], self.got["strobe"] = int(dut.m_axil_wdata.value), int(dut.m_axil_wstrb.value)
        if "aw" in self.got and "w" in self.got:
            self.arrive(self.got["aw"], self.got["w"], self.got["strobe"])
            self.got.clear()
        if pins["m_axil_arready"] and dut.m_axil_arvalid.value == 1:
            self.arrive(int(dut.m_axil_araddr.value), None, 0)

    def arrive(self, address: int, data: int | None, strobe: int) -> None:
        """An access is at the machine: the DMA's own or the next of the host."""
        self.compare("one_at_a_time", int(self.machine is None), 1)
        own, queue = self.own, self.writes if data is not None else self.reads
        if address.bit_count() % 2:
            assert own is not None, f"cycle {self.bench.number}: own: expected none, seen {address:#x}"
            self.compare("own_address", address, own.address)
            self.compare("own_write", int(data is not None), int(own.data is not None))
            self.compare("arrived_twice", int(self.own_arrived), 0)
            if data is not None:
                self.compare("own_data", data, own.data or 0)
                self.compare("strobe", strobe, 15)
            self.machine, self.own_arrived = own, True
            self.since_own = 0
            self.counts["own"] += 1
            writes = self.writes and self.sent["aw"] and self.sent["w"] and not self.write_answers
            reads = self.reads and self.sent["ar"] and not self.read_answers
            self.since_host = self.since_host + 1 if writes or reads else 0
            self.compare("accesses_before_the_host", int(self.since_host <= 2), 1)
            return
        assert queue, f"cycle {self.bench.number}: address: expected none, seen {address:#x}"
        one = queue.popleft()
        self.compare("address", address, one.address)
        if data is not None:
            self.compare("data", data, one.data or 0)
            self.compare("strobe", strobe, one.strobe)
        self.machine = one
        (self.write_answers if data is not None else self.read_answers).append(one)
        self.counts["host"] += 1
        self.host_served()

    def host(self, pins: dict[str, int]) -> None:
        dut = self.dut
        for channel in ("aw", "w", "ar"):
            if pins[f"s_axil_{channel}valid"] and getattr(dut, f"s_axil_{channel}ready").value == 1:
                self.sent[channel] = True
                self.sent[f"offered_{channel}"] = False
        self.counts["together"] += bool(self.writes and self.reads)
        for channel, queue in (("b", self.write_answers), ("r", self.read_answers)):
            if getattr(dut, f"s_axil_{channel}valid").value != 1:
                continue
            assert queue, f"cycle {self.bench.number}: s_axil_{channel}valid: expected 0x0, seen 0x1"
            one = queue[0]
            self.bench.expect(**{f"s_axil_{channel}resp": SLVERR if one.refused else OKAY})
            if channel == "r":
                self.bench.expect(s_axil_rdata=one.answer)
            if pins[f"s_axil_{channel}ready"]:
                queue.popleft()
                self.counts["refused"] += one.refused
            else:
                self.counts["kept_waiting"] += 1

    def own_done(self) -> None:
        if self.dut.own_done.value != 1:
            return
        own = self.own
        self.compare("own_done", 1, int(self.own_arrived))
        assert own is not None
        self.bench.expect(own_refused=int(own.refused))
        if own.data is None:
            self.bench.expect(own_rdata=own.answer)
        self.own, self.own_arrived = None, False

    async def settle(self) -> None:
        for _ in range(PATIENCE):
            await self.cycle(more=False)
            if not (self.writes or self.reads or self.write_answers or self.read_answers or self.own):
                return
        raise AssertionError(f"cycle {self.bench.number}: end_of_the_accesses: expected 0x1, seen 0x0")


@cocotb.test()
async def accesses_of_both(dut: Any) -> None:
    rng = numpy_rng("accesses")
    share = Share(dut, rng)
    total = dict.fromkeys(share.counts, 0)
    for _ in range(40):
        await share.reset()
        share.rates = {name: float(rng.choice([1.0, 0.5, 0.1])) for name in share.rates}
        for _ in range(150):
            await share.cycle()
        share.rates |= dict.fromkeys(("ask", "take", "machine", "answer"), 1.0)
        await share.settle()
        total = {name: value + share.counts[name] for name, value in total.items()}
    share.bench.done(**total)


@cocotb.test()
async def answers_that_nobody_takes(dut: Any) -> None:
    """The DMA goes on meanwhile."""
    rng = numpy_rng("untaken")
    share = Share(dut, rng)
    await share.reset()
    share.rates["take"] = 0.0
    for _ in range(60):
        await share.cycle()
    own = share.counts["own"]
    for _ in range(60):
        await share.cycle()
    share.compare("accesses_of_the_dma", int(share.counts["own"] > own + 5), 1)
    share.rates["take"] = 1.0
    await share.settle()
    share.bench.done(own_untaken=own, untaken=share.counts["kept_waiting"])


@cocotb.test()
async def a_reset_forgets_accesses(dut: Any) -> None:
    rng = numpy_rng("resets")
    share = Share(dut, rng)
    seen = dict.fromkeys(("resets", "under_way", "half_a_write"), 0)
    for _ in range(60):
        await share.reset()
        share.rates = {name: float(rng.choice([1.0, 0.3])) for name in share.rates}
        for _ in range(int(rng.integers(1, 40))):
            await share.cycle()
        seen["resets"] += 1
        seen["under_way"] += share.machine is not None
        seen["half_a_write"] += share.sent["aw"] != share.sent["w"] and bool(share.writes)
    await share.reset()
    await share.cycle(more=False)
    share.bench.expect(s_axil_bvalid=0, s_axil_rvalid=0, m_axil_awvalid=0, m_axil_wvalid=0, m_axil_arvalid=0)
    share.bench.done(**seen)
