"""psa_dma_read against a memory that answers when it likes, and a list of what must come of each list.

Model: a list gives beats of the stream and starts of programs, in its order. The memory of this test gives
the beats of both ids in any order among them, as AXI4 allows, and has only what the list names: an address
beyond that fails the test.

Corners: descriptors of one beat, of more than a burst, of more than FIFO beats; data and lists that begin
just below 4 KiB and end at a multiple of it, and at the end of the addresses; packets of several descriptors;
every error of a descriptor, at the first, the last and in between; SLVERR and DECERR for a descriptor and for
data; a START and the end of a list inside a packet; a stream that takes a beat now and then; a reset in any
cycle of a list; the rate with a latency of 50 cycles.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import cocotb
import numpy as np

from pymodel.machine.dma import DESCRIPTOR_BYTES, Descriptor, Load, Start, descriptor_bytes, encode
from pymodel.machine.errors import DmaErrorCode
from tb.common import settings
from tb.common.block import Bench, chance
from tb.common.seeding import numpy_rng

PAGE = 4096
PATIENCE = 20_000
LATENCY = 50
OKAY, SLVERR, DECERR = 0, 2, 3
INPUTS = ("rst", "start", "list_address", "list_count", "stop", "flush", "run_ready")
MEMORY = (
    *("m_axi_arready", "m_axi_rid", "m_axi_rdata", "m_axi_rresp", "m_axi_rlast", "m_axi_rvalid"),
    "m_axis_tready",
)
Event = tuple[int, bool] | str  # a beat and whether it is the last of its packet, or a start


def shown(event: Event) -> str:
    """In one word."""
    if isinstance(event, str):
        return event.replace(" ", "_")
    word, last = event
    return f"{word:#x}{'_last' * last}"


@dataclass
class Case:
    """A list, the bytes that it names, and what comes of it."""

    address: int
    count: int
    regions: dict[int, bytes] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)  # of the events of each descriptor, all before included


class Reads:
    """The pins of the block, cycle by cycle, and the memory at them."""

    def __init__(self, dut: Any, rng: np.random.Generator) -> None:
        parameters = settings.parameters()
        self.dut = dut
        self.rng = rng
        self.bench = Bench(dut, *INPUTS, *MEMORY)
        self.bits = parameters["STREAM_BITS"]
        self.beat = self.bits // 8
        self.burst, self.fifo = parameters["BURST"], parameters["FIFO"]
        self.begin()

    def begin(self) -> None:
        self.regions: dict[int, bytes] = {}
        self.away: tuple[deque[list[Any]], deque[list[Any]]] = (deque(), deque())  # beats, for each id
        self.events: list[Event] = []
        self.errors: list[tuple[int, int]] = []
        self.bad: dict[int, int] = {}  # responses by address
        self.rates = (1.0, 1.0, 1.0)
        self.latency = 0
        self.offered: tuple[int, int] | None = None
        self.asked = self.sent = self.bursts = self.mixed = 0
        self.stop = self.flush = 0

    async def reset(self) -> None:
        quiet = dict.fromkeys(("start", "stop", "flush", "run_ready", "m_axi_arready", "m_axi_rvalid"), 0)
        await self.bench.reset(**quiet, m_axis_tready=0)
        self.begin()

    async def cycle(self, **values: int) -> None:
        """One cycle of the memory, of the stream and of a control that takes every START."""
        dut, rng = self.dut, self.rng
        ask, answer, take = (chance(rng, rate) for rate in self.rates)
        idle = {"rst": 0, "start": 0, "stop": self.stop, "flush": self.flush}
        pins = {"m_axi_arready": ask, "m_axi_rvalid": 0, "m_axis_tready": take}
        now = self.bench.number
        ready = [number for number in (0, 1) if self.away[number] and self.away[number][0][0] <= now]
        chosen = int(rng.choice(ready)) if ready and answer else None
        if chosen is not None:
            _, data, response, last = self.away[chosen].popleft()
            self.mixed += len(ready) == 2
            pins |= {
                "m_axi_rvalid": 1,
                "m_axi_rid": chosen,
                "m_axi_rdata": data,
                "m_axi_rresp": response,
                "m_axi_rlast": last,
            }
        starts = chance(rng, 0.3)
        await self.bench.cycle(**(idle | pins | {"run_ready": starts} | values))
        self.bench.expect(m_axi_rready=1)
        if dut.err_valid.value == 1:
            self.errors.append((int(dut.err_code.value), int(dut.err_info.value)))
        if dut.m_axi_arvalid.value == 1 and ask:
            self.ask()
        if starts and dut.run_valid.value == 1:
            self.events.append(f"start {int(dut.run_program.value)}")
        self.stream(take)

    def ask(self) -> None:
        """A burst is asked for."""
        dut = self.dut
        number, address, beats = (
            int(pin.value) for pin in (dut.m_axi_arid, dut.m_axi_araddr, dut.m_axi_arlen)
        )
        beats += 1
        self.bench.expect(m_axi_arsize=self.beat.bit_length() - 1, m_axi_arburst=1)
        self.compare("burst_alignment", address % self.beat, 0)
        self.compare("burst_in_a_page", int(address % PAGE + beats * self.beat <= PAGE), 1)
        if number == 0:
            self.compare("burst_beats", int(beats <= self.burst), 1)
            self.asked += beats
            # a word that is offered has left the queue, and so has one that the queue offers
            self.compare("beats_read_ahead", int(self.asked - self.sent <= self.fifo + 2), 1)
        self.bursts += 1
        for n in range(beats):
            at = address + n * self.beat
            data = self.at(at)
            due = self.bench.number + self.latency
            self.away[number].append([due, data, self.bad.get(at, OKAY), int(n == beats - 1)])

    def at(self, address: int) -> int:
        for base, data in self.regions.items():
            if base <= address < base + len(data):
                return int.from_bytes(data[address - base : address - base + self.beat], "little")
        raise AssertionError(f"cycle {self.bench.number}: address: expected none, seen {address:#x}")

    def stream(self, take: bool) -> None:
        dut = self.dut
        offered = None
        if dut.m_axis_tvalid.value == 1:
            offered = int(dut.m_axis_tdata.value), int(dut.m_axis_tlast.value)
        if self.offered is not None:
            self.compare("stream_stays", int(offered == self.offered), 1)
        self.offered = offered
        if offered is not None and take:
            self.events.append((offered[0], bool(offered[1])))
            self.sent += 1
            self.offered = None

    def compare(self, what: str, seen: int, expected: int) -> None:
        bench = self.bench
        bench.compared += 1
        assert seen == expected, f"cycle {bench.number}: {what}: expected {expected:#x}, seen {seen:#x}"

    def compare_events(self, expected: Sequence[Event]) -> None:
        for number, (seen, wanted) in enumerate(zip(self.events, expected, strict=False)):
            self.bench.compared += 1
            assert seen == wanted, (
                f"cycle {self.bench.number}: event_{number}: expected {shown(wanted)}, seen {shown(seen)}"
            )
        self.compare("events", len(self.events), len(expected))

    async def start(self, case: Case) -> None:
        self.regions = case.regions
        await self.cycle(start=1, list_address=case.address, list_count=case.count)

    async def until(self, *, error: bool = False) -> None:
        """Runs until the list is done, or its error has come."""
        for _ in range(PATIENCE):
            await self.cycle()
            if (self.errors if error else self.dut.done.value == 1) or self.errors:
                return
        raise AssertionError(f"cycle {self.bench.number}: end_of_the_list: expected 0x1, seen 0x0")

    async def halt(self, events: int) -> bool:
        """Stops and flushes. Compares what comes: the beat that was offered, and an end if a packet is open.
        Returns whether it was.
        """
        self.stop = 1
        await self.cycle()
        at_once = self.offered is not None or len(self.events) > events
        for _ in range(int(self.rng.integers(0, 30))):
            await self.cycle()
        self.compare("beats_after_a_stop", int(len(self.events) <= events + at_once), 1)
        self.flush = 1
        for _ in range(PATIENCE):
            await self.cycle()
            if self.dut.quiet.value == 1:
                break
        else:
            raise AssertionError(f"cycle {self.bench.number}: quiet: expected 0x1, seen 0x0")
        self.compare("under_way", len(self.away[0]) + len(self.away[1]), 0)
        self.compare("run_valid", int(self.dut.run_valid.value), 0)
        beats = [event for event in self.events if not isinstance(event, str)]
        self.compare("packets_with_an_end", int(not beats or beats[-1][1]), 1)
        await self.cycle(rst=1)
        seen = list(self.events)
        self.begin()
        self.events = seen
        return at_once


def place(rng: np.random.Generator, length: int, unit: int, taken: dict[int, bytes]) -> int:
    """An address of `length` bytes that nobody has: often just below 4 KiB, sometimes the last ones."""
    while True:
        page = int(rng.integers(1, 2**20)) * PAGE
        kind = int(rng.integers(4))
        address = [
            page,
            page - unit * int(rng.integers(1, 5)),
            page + unit * int(rng.integers(PAGE // unit)),
            2**32 - -(-length // unit) * unit,
        ][kind]
        if 0 <= address <= 2**32 - length and not any(
            base < address + length + PAGE and address < base + len(data) + PAGE
            for base, data in taken.items()
        ):
            return address


def draw(
    reads: Reads, rng: np.random.Generator, most: int = 12, *, open_end: str = "", long: bool = False
) -> tuple[Case, list[Descriptor]]:
    """A list of up to `most` descriptors. `open_end`: with a packet that a "start" or the "end" breaks off.
    `long`: the first has more beats than are read ahead.
    """
    beat, descriptors = reads.beat, list[Descriptor]()
    case = Case(0, 0)
    inside = False
    count = int(rng.integers(1, most + 1))
    for number in range(count):
        if not inside and chance(rng, 0.2) and not (long and number == 0):
            program = int(rng.integers(2**16))
            descriptors.append(Start(program))
            case.events.append(f"start {program}")
        else:
            beats = int(rng.choice([1, 2, int(rng.integers(1, 20)), int(rng.integers(1, 40))]))
            if long and number == 0:
                beats = reads.fifo + int(rng.integers(1, 40))
            last = number == count - 1 or chance(rng, 0.7)
            data = rng.bytes(beats * beat)
            address = place(rng, len(data), beat, case.regions)
            case.regions[address] = data
            descriptors.append(Load(address, len(data), last))
            words = [int.from_bytes(data[at : at + beat], "little") for at in range(0, len(data), beat)]
            case.events += [(word, last and n == beats - 1) for n, word in enumerate(words)]
            inside = not last
        case.counts.append(len(case.events))
    if open_end:
        data = rng.bytes(beat)
        address = place(rng, beat, beat, case.regions)
        case.regions[address] = data
        descriptors.append(Load(address, beat, False))
        case.events.append((int.from_bytes(data, "little"), False))
        case.counts.append(len(case.events))
        if open_end == "start":
            descriptors += [Start(1), Start(2)]
    listed(reads, rng, case, encode(descriptors, reads.bits), len(descriptors))
    return case, descriptors


def listed(reads: Reads, rng: np.random.Generator, case: Case, data: bytes, count: int) -> None:
    unit = descriptor_bytes(reads.bits)
    case.address = place(rng, len(data), unit, case.regions)
    case.regions[case.address] = data
    case.count = count


def some_rates(rng: np.random.Generator) -> tuple[float, float, float]:
    ask, answer, take = (float(rng.choice([1.0, 0.5, 0.2])) for _ in range(3))
    return ask, answer, take


@cocotb.test()
async def lists(dut: Any) -> None:
    rng = numpy_rng("lists")
    reads = Reads(dut, rng)
    await reads.reset()
    seen = dict.fromkeys(("lists", "beats", "starts", "bursts", "mixed_ids", "longer_than_ahead"), 0)
    for number in range(30):
        reads.begin()
        case, descriptors = draw(reads, rng, 40 if number % 8 == 0 else 12, long=number % 8 == 1)
        reads.rates, reads.latency = some_rates(rng), int(rng.choice([0, 1, 17]))
        await reads.start(case)
        await reads.until()
        reads.compare_events(case.events)
        reads.compare("errors", len(reads.errors), 0)
        await reads.cycle()
        reads.bench.expect(done=1, quiet=1, run_valid=0, m_axis_tvalid=0)
        seen["lists"] += 1
        seen["beats"] += sum(not isinstance(event, str) for event in case.events)
        seen["starts"] += sum(isinstance(event, str) for event in case.events)
        seen["bursts"] += reads.bursts
        seen["mixed_ids"] += reads.mixed
        seen["longer_than_ahead"] += any(
            isinstance(one, Load) and one.length > reads.fifo * reads.beat for one in descriptors
        )
    reads.bench.done(**seen)


@cocotb.test()
async def a_beat_a_cycle_whatever_the_latency(dut: Any) -> None:
    rng = numpy_rng("rate")
    reads = Reads(dut, rng)
    await reads.reset()
    beats = 600 if reads.burst >= 16 else 60
    descriptors, case = list[Descriptor](), Case(0, 0)
    for _ in range(4):
        data = rng.bytes(beats * reads.beat)
        address = place(rng, len(data), PAGE, case.regions)
        case.regions[address] = data
        descriptors.append(Load(address, len(data)))
    listed(reads, rng, case, encode(descriptors, reads.bits), len(descriptors))
    reads.latency = LATENCY
    await reads.start(case)
    begin = reads.bench.number
    await reads.until()
    took = reads.bench.number - begin
    list_beats = len(descriptors) * descriptor_bytes(reads.bits) // reads.beat
    if reads.fifo >= 2 * (LATENCY + reads.burst):  # else they do not cover it
        most = 4 * beats + list_beats + 2 * reads.latency + 30
        reads.compare("cycles_at_most", int(took <= most), 1)
    reads.compare("beats", reads.sent, 4 * beats)
    reads.bench.done(cycles_of_a_list=took)


BAD = {
    "address": (DmaErrorCode.LIST_ADDRESS, lambda beat: (beat // 2, beat, 1, 0)),
    "high_address": (DmaErrorCode.LIST_ADDRESS, lambda beat: (beat, beat, 1, 1)),
    "program": (DmaErrorCode.LIST_ADDRESS, lambda _: (1 << 16, 0, 2, 0)),
    "no_length": (DmaErrorCode.LIST_LENGTH, lambda beat: (beat, 0, 1, 0)),
    "part_of_a_beat": (DmaErrorCode.LIST_LENGTH, lambda beat: (beat, beat + beat // 2, 1, 0)),
    "past_the_addresses": (DmaErrorCode.LIST_LENGTH, lambda beat: (2**32 - beat, 2 * beat, 1, 0)),
    "start_with_a_length": (DmaErrorCode.LIST_LENGTH, lambda beat: (1, beat, 2, 0)),
    "flag": (DmaErrorCode.LIST_FLAGS, lambda beat: (beat, beat, 4, 0)),
    "high_flag": (DmaErrorCode.LIST_FLAGS, lambda beat: (beat, beat, 1 << 31 | 1, 0)),
    "start_and_last": (DmaErrorCode.LIST_FLAGS, lambda _: (1, 0, 3, 0)),
}


@cocotb.test()
async def bad_descriptors(dut: Any) -> None:
    rng = numpy_rng("bad")
    reads = Reads(dut, rng)
    await reads.reset()
    seen = dict.fromkeys((*BAD, "inside_a_packet"), 0)
    for name, (code, fields) in BAD.items():
        for where in ("first", "inside", "last"):
            reads.begin()
            case, descriptors = draw(reads, rng, 6)
            reads.rates = some_rates(rng)
            at = {"first": 0, "inside": len(descriptors) // 2, "last": len(descriptors) - 1}[where]
            unit = descriptor_bytes(reads.bits)
            data = bytearray(case.regions[case.address])
            values = (value.to_bytes(4, "little") for value in fields(reads.beat))
            data[at * unit : at * unit + 16] = b"".join(values)
            case.regions[case.address] = bytes(data)
            await reads.start(case)
            await reads.until(error=True)
            before = case.counts[at - 1] if at else 0
            await stopped(reads, case.events[:before], (code, at))
            seen["inside_a_packet"] += at > 0 and not getattr(descriptors[at - 1], "last", True)
            seen[name] += 1
            await goes_on(reads, rng)
    reads.bench.done(**seen)


async def stopped(reads: Reads, expected: Sequence[Event], error: tuple[int, int]) -> None:
    """The error has come, and before it what is expected. Then a reset, which ends an open packet."""
    reads.compare("code", reads.errors[0][0], error[0])
    reads.compare("info", reads.errors[0][1], error[1])
    await reads.halt(len(reads.events))
    beats = [event for event in expected if not isinstance(event, str)]
    is_open = bool(expected) and bool(beats) and expected[-1] == beats[-1] and not beats[-1][1]
    reads.compare_events([*expected, *([(0, True)] if is_open else [])])


async def goes_on(reads: Reads, rng: np.random.Generator) -> None:
    """A list after a reset."""
    reads.begin()
    case, _ = draw(reads, rng, 3)
    await reads.start(case)
    await reads.until()
    reads.compare_events(case.events)


@cocotb.test()
async def packets_that_are_broken_off(dut: Any) -> None:
    rng = numpy_rng("open")
    reads = Reads(dut, rng)
    await reads.reset()
    seen = dict.fromkeys(("start", "end"), 0)
    for kind in ("start", "end") * 5:
        reads.begin()
        case, _ = draw(reads, rng, 6, open_end=kind)
        reads.rates = some_rates(rng)
        await reads.start(case)
        await reads.until(error=True)
        if not reads.errors:  # done in the same cycle
            await reads.cycle()
        await stopped(reads, case.events, (DmaErrorCode.LIST_PACKET, len(case.counts) - (kind == "end")))
        seen[kind] += 1
        await goes_on(reads, rng)
    reads.bench.done(**seen)


@cocotb.test()
async def errors_of_the_memory(dut: Any) -> None:
    rng = numpy_rng("errors")
    reads = Reads(dut, rng)
    await reads.reset()
    seen = dict.fromkeys(("of_a_list", "of_data", "inside_a_packet"), 0)
    for number in range(20):
        reads.begin()
        case, descriptors = draw(reads, rng, 8)
        reads.rates = some_rates(rng)
        response = int(rng.choice([SLVERR, DECERR]))
        loads = [at for at, one in enumerate(descriptors) if isinstance(one, Load)]
        unit = descriptor_bytes(reads.bits)
        if number % 2 or not loads:
            at = int(rng.integers(len(descriptors)))
            part = int(rng.integers(DESCRIPTOR_BYTES // reads.beat or 1))
            reads.bad[case.address + at * unit + part * reads.beat] = response
            error, events = (DmaErrorCode.LIST_READ, at), case.counts[at - 1] if at else 0
            seen["of_a_list"] += 1
        else:
            at = int(rng.choice(loads))
            one = descriptors[at]
            assert isinstance(one, Load)
            beat = int(rng.integers(one.length // reads.beat))
            reads.bad[one.address + beat * reads.beat] = response
            error, events = (DmaErrorCode.DATA_READ, at), (case.counts[at - 1] if at else 0) + beat
            seen["of_data"] += 1
            seen["inside_a_packet"] += beat > 0
        await reads.start(case)
        await reads.until(error=True)
        await stopped(reads, case.events[:events], error)
        await goes_on(reads, rng)
    reads.bench.done(**seen)


@cocotb.test()
async def a_reset_in_any_cycle(dut: Any) -> None:
    rng = numpy_rng("resets")
    reads = Reads(dut, rng)
    await reads.reset()
    seen = dict.fromkeys(("resets", "ended_packets", "beats_offered", "under_way"), 0)
    for _ in range(40):
        reads.begin()
        case, _ = draw(reads, rng, 6)
        reads.rates, reads.latency = some_rates(rng), int(rng.choice([0, 3, 40]))
        await reads.start(case)
        for _ in range(int(rng.integers(0, 120))):
            await reads.cycle()
        seen["under_way"] += bool(reads.away[0] or reads.away[1])
        seen["beats_offered"] += await reads.halt(len(reads.events))
        ended = reads.events[len(case.events) :] or (
            reads.events[-1:] if reads.events and reads.events[-1] not in case.events else []
        )
        whole = reads.events[: len(reads.events) - len(ended)]
        seen["ended_packets"] += bool(ended)
        reads.compare("ends", int(ended in ([], [(0, True)])), 1)
        reads.events = whole
        reads.compare_events(case.events[: len(whole)])
        seen["resets"] += 1
        await goes_on(reads, rng)
    reads.bench.done(**seen)
