"""psa_dma_write against a memory that keeps what its pins write.

Model: the bytes of each packet lie in the buffer from the next beat on, and no other byte is written; bursts
as long as they can be. The memory of this test takes addresses, data and answers at any time, data before
their address, too, and checks each burst.

Corners: packets of one word, and longer than a burst; packets that end in every place of a beat; a buffer
that ends at the end of a packet, and one beat before; one that begins just below 4 KiB; an answer with
SLVERR, and one with DECERR, of the first and of a later burst; `drop` in and between packets, with bursts
under way.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import cocotb
import numpy as np

from pymodel.machine.errors import DmaErrorCode
from tb.common import settings
from tb.common.block import Bench, chance
from tb.common.seeding import numpy_rng

LISTS = 40
PATIENCE = 20_000
OKAY, SLVERR, DECERR = 0, 2, 3
INPUTS = ("rst", "start", "address", "size", "drop")
STREAM = ("s_axis_tdata", "s_axis_tvalid", "s_axis_tlast")
MEMORY = ("m_axi_awready", "m_axi_wready", "m_axi_bresp", "m_axi_bvalid")


class Writes:
    """The pins of the block, cycle by cycle, and the memory at them."""

    def __init__(self, dut: Any, rng: np.random.Generator) -> None:
        parameters = settings.parameters()
        self.dut = dut
        self.rng = rng
        self.bench = Bench(dut, *INPUTS, *STREAM, *MEMORY)
        self.beat = parameters["STREAM_BITS"] // 8
        self.word = parameters["WORD_BITS"] // 8
        self.burst = parameters["BURST"]
        self.bytes: dict[int, int] = {}
        self.addresses: deque[tuple[int, int]] = deque()  # bursts by address and beats, not yet with data
        self.data: deque[list[tuple[int, int]]] = deque([[]])  # bursts of data and strobes; the last is open
        self.answers: deque[int] = deque()
        self.bursts: list[tuple[int, int]] = []
        self.responses: dict[int, int] = {}  # of a burst by its number
        self.rates = (1.0, 1.0, 1.0)
        self.errors: list[tuple[int, int]] = []
        self.data_first = False

    def clear(self) -> None:
        self.bytes.clear()
        self.bursts.clear()
        self.errors.clear()
        self.responses.clear()
        self.data_first = False

    async def cycle(self, **values: int) -> bool:
        """One cycle. Returns whether the word that `values` offers is taken."""
        dut, rng = self.dut, self.rng
        idle = {"rst": 0, "start": 0, "drop": 0, "s_axis_tvalid": 0}
        aw, w, b = (chance(rng, rate) for rate in self.rates)
        # a memory may want the data first
        aw = aw and not (self.data_first and len(self.data) == 1)
        pins = {"m_axi_awready": aw, "m_axi_wready": w, "m_axi_bvalid": 0}
        if self.answers and b:
            pins |= {"m_axi_bvalid": 1, "m_axi_bresp": self.answers[0]}
        await self.bench.cycle(**(idle | pins | values))
        self.bench.expect(m_axi_bready=1)
        if dut.err_valid.value == 1:
            self.errors.append((int(dut.err_code.value), int(dut.err_info.value)))
        if pins["m_axi_bvalid"]:
            self.answers.popleft()
        if pins["m_axi_awready"] and dut.m_axi_awvalid.value == 1:
            self.bench.expect(m_axi_awsize=self.beat.bit_length() - 1, m_axi_awburst=1)
            self.take_address(int(dut.m_axi_awaddr.value), int(dut.m_axi_awlen.value) + 1)
        if w and dut.m_axi_wvalid.value == 1:
            self.data[-1].append((int(dut.m_axi_wdata.value), int(dut.m_axi_wstrb.value)))
            if dut.m_axi_wlast.value == 1:
                self.data.append([])
        while self.addresses and len(self.data) > 1:
            self.write()
        return bool(values.get("s_axis_tvalid")) and dut.s_axis_tready.value == 1

    def take_address(self, address: int, beats: int) -> None:
        same = self.compare
        same("burst_beats", beats <= self.burst, True)
        same("burst_in_a_page", address % 4096 + beats * self.beat <= 4096, True)
        same("burst_alignment", address % self.beat, 0)
        self.addresses.append((address, beats))
        self.bursts.append((address, beats))

    def write(self) -> None:
        (address, beats), data = self.addresses.popleft(), self.data.popleft()
        self.compare("data_beats", len(data), beats)
        for number, (value, strobes) in enumerate(data):
            for byte in range(self.beat):
                if strobes >> byte & 1:
                    at = address + number * self.beat + byte
                    self.compare("written_twice", int(at in self.bytes), 0)
                    self.bytes[at] = value >> 8 * byte & 0xFF
        self.answers.append(self.responses.get(len(self.bursts) - len(self.addresses) - 1, OKAY))

    def compare(self, what: str, seen: int, expected: int) -> None:
        bench = self.bench
        bench.compared += 1
        assert seen == expected, f"cycle {bench.number}: {what}: expected {expected:#x}, seen {seen:#x}"

    async def start(self, address: int, size: int) -> None:
        await self.cycle(start=1, address=address, size=size)

    async def packet(self, data: bytes, rate: float = 1.0, *, end: bool = True, drop: int = 0) -> None:
        """Sends a packet of whole words. Without `end`, none of them is the last."""
        words = [data[at : at + self.word] for at in range(0, len(data), self.word)]
        for number, word in enumerate(words):
            while not chance(self.rng, rate):
                await self.cycle(drop=drop)
            offered = {
                "s_axis_tvalid": 1,
                "s_axis_tdata": int.from_bytes(word, "little"),
                "s_axis_tlast": int(end and number == len(words) - 1),
                "drop": drop,
            }
            for _ in range(PATIENCE):
                if await self.cycle(**offered):
                    break
            else:
                raise AssertionError(f"cycle {self.bench.number}: s_axis_tready: expected 0x1, seen 0x0")

    async def settle(self, drop: int = 0) -> None:
        """Waits until the block says that nothing is under way, which must be so."""
        for _ in range(PATIENCE):
            await self.cycle(drop=drop)
            if self.dut.quiet.value == 1:
                self.compare("under_way", len(self.addresses) + len(self.answers) + len(self.data[-1]), 0)
                return
        raise AssertionError(f"cycle {self.bench.number}: quiet: expected 0x1, seen 0x0")

    async def forget(self) -> None:
        await self.cycle(rst=1)
        self.data[-1].clear()
        self.clear()


def expected_bursts(writes: Writes, address: int, packets: list[bytes], size: int) -> list[tuple[int, int]]:
    """The bursts of packets in a buffer of `size` bytes: each as long as it can be."""
    bursts: list[tuple[int, int]] = []
    end = address + size
    for data in packets:
        left = -(-len(data) // writes.beat)
        while left and address < end:
            room = min(4096 - address % 4096, end - address) // writes.beat
            beats = min(left, writes.burst, room)
            bursts.append((address, beats))
            address += beats * writes.beat
            left -= beats
    return bursts


def placed(writes: Writes, address: int, packets: list[bytes]) -> dict[int, int]:
    """The bytes of packets in a buffer."""
    found: dict[int, int] = {}
    for data in packets:
        found |= {address + n: byte for n, byte in enumerate(data)}
        address += -(-len(data) // writes.beat) * writes.beat
    return found


def draw(writes: Writes, rng: np.random.Generator, *, long: bool = False) -> tuple[int, list[bytes]]:
    """A buffer's address, often just below 4 KiB, and packets for it. `long`: one is longer
    than two bursts, so that one of them can be as long as can be."""
    below = int(rng.integers(0, 4)) * writes.beat
    address = int(rng.integers(1, 2**19)) * 4096 + (4096 - below if chance(rng, 0.5) else below)
    lengths = [
        int(rng.choice([1, 2, int(rng.integers(1, 20)), int(rng.integers(1, 60))]))
        for _ in range(int(rng.integers(1, 5)))
    ]
    if long:
        lengths.append(2 * writes.burst * writes.beat // writes.word + int(rng.integers(1, 60)))
    return address, [rng.bytes(length * writes.word) for length in lengths]


def room_of(writes: Writes, packets: list[bytes]) -> int:
    return sum(-(-len(data) // writes.beat) * writes.beat for data in packets)


@cocotb.test()
async def packets_in_a_buffer(dut: Any) -> None:
    rng = numpy_rng("packets")
    writes = Writes(dut, rng)
    await writes.bench.reset(
        start=0, drop=0, s_axis_tvalid=0, m_axi_bvalid=0, m_axi_awready=0, m_axi_wready=0
    )
    seen = dict.fromkeys(("packets", "part_beats", "bursts", "long", "pages", "too_long", "data_first"), 0)
    for number in range(LISTS):
        writes.clear()
        address, packets = draw(writes, rng, long=number % 8 == 2)
        room = room_of(writes, packets)
        short = number % 4 == 3
        size = room - writes.beat if short else room + int(rng.integers(0, 3)) * writes.beat
        writes.rates = tuple(float(rng.choice([1.0, 0.5, 0.2])) for _ in range(3))  # type: ignore[assignment]
        writes.data_first = chance(rng, 0.3)
        await writes.start(address, size)
        rate = float(rng.choice([1.0, 0.3]))
        for data in packets:
            await writes.packet(data, rate)
        await writes.settle()
        bytes_ = {at: byte for at, byte in placed(writes, address, packets).items() if at < address + size}
        writes.compare("bytes", int(writes.bytes == bytes_), 1)
        writes.compare("bursts", int(writes.bursts == expected_bursts(writes, address, packets, size)), 1)
        writes.bench.expect(used=min(room, size))
        errors = [(DmaErrorCode.OUT_SIZE, len(packets) - 1)] if short else []
        writes.compare("errors", int(writes.errors == errors), 1)
        seen["data_first"] += writes.data_first
        seen["packets"] += len(packets)
        seen["part_beats"] += sum(len(data) % writes.beat != 0 for data in packets)
        seen["bursts"] += len(writes.bursts)
        seen["long"] += any(beats == writes.burst for _, beats in writes.bursts)
        seen["pages"] += any((at + n * writes.beat) % 4096 == 0 for at, n in writes.bursts)
        seen["too_long"] += short
        if short:
            # what comes behind the error is dropped, until it is forgotten
            before = len(writes.bursts)
            await writes.packet(rng.bytes(5 * writes.word))
            await writes.settle()
            writes.compare("bursts_after_an_error", len(writes.bursts), before)
            await writes.forget()
    if writes.word >= writes.beat:
        seen.pop("part_beats")
    writes.bench.done(**seen)


@cocotb.test()
async def errors_of_the_memory(dut: Any) -> None:
    rng = numpy_rng("errors")
    writes = Writes(dut, rng)
    await writes.bench.reset(
        start=0, drop=0, s_axis_tvalid=0, m_axi_bvalid=0, m_axi_awready=0, m_axi_wready=0
    )
    seen = {"errors": 0}
    for response in (SLVERR, DECERR) * 6:
        address, packets = draw(writes, rng)
        packets = [*packets, rng.bytes(writes.word)]
        bursts = expected_bursts(writes, address, packets, 1 << 20)
        wrong = int(rng.integers(len(bursts)))
        writes.responses = {wrong: response}
        await writes.start(address, 1 << 20)
        for data in packets:
            await writes.packet(data)
        await writes.settle()
        codes = [code for code, _ in writes.errors]
        writes.compare("errors", int(codes == [DmaErrorCode.OUT_WRITE]), 1)
        writes.compare("bursts", int(writes.bursts == bursts[: len(writes.bursts)]), 1)
        before = len(writes.bursts)
        await writes.packet(rng.bytes(3 * writes.word))
        await writes.settle()
        writes.compare("bursts_after_an_error", len(writes.bursts), before)
        seen["errors"] += 1
        await writes.forget()
        # and it goes on
        await writes.start(address, 1 << 20)
        await writes.packet(packets[0])
        await writes.settle()
        writes.compare("bytes", int(writes.bytes == placed(writes, address, packets[:1])), 1)
        await writes.forget()
    writes.bench.done(**seen)


@cocotb.test()
async def a_reset_drops_what_comes(dut: Any) -> None:
    rng = numpy_rng("drops")
    writes = Writes(dut, rng)
    await writes.bench.reset(
        start=0, drop=0, s_axis_tvalid=0, m_axi_bvalid=0, m_axi_awready=0, m_axi_wready=0
    )
    seen = dict.fromkeys(("inside", "between", "at_rest", "under_way"), 0)
    for number in range(30):
        writes.clear()
        inside = number % 2
        address, packets = draw(writes, rng)
        writes.rates = (1.0, 1.0, float(rng.choice([1.0, 0.05])))
        await writes.start(address, 1 << 20)
        for data in packets:
            await writes.packet(data)
        if inside:
            # may be less than a beat, of which nothing is seen
            packets.append(rng.bytes(writes.word * int(rng.integers(1, 4))))
            await writes.packet(packets[-1], end=False)
            await writes.cycle()
            writes.bench.expect(quiet=0)
        elif chance(rng, 0.5):
            await writes.settle()
            seen["at_rest"] += 1
        seen["under_way"] += bool(writes.answers)
        await writes.packet(rng.bytes(4 * writes.word), drop=1)
        await writes.settle(drop=1)
        bursts = expected_bursts(writes, address, packets, 1 << 20)
        done = bursts[: len(writes.bursts)]
        writes.compare("bursts", int(writes.bursts == done), 1)
        end = done[-1][0] + done[-1][1] * writes.beat if done else address
        whole = {at: byte for at, byte in placed(writes, address, packets).items() if at < end}
        writes.compare("bytes", int(writes.bytes == whole), 1)
        seen["inside" if inside else "between"] += 1
        await writes.forget()
        await writes.start(address, 1 << 20)
        await writes.packet(packets[0])
        await writes.settle()
        writes.compare("bytes", int(writes.bytes == placed(writes, address, packets[:1])), 1)
        await writes.forget()
    writes.bench.done(**seen)
