"""psa_regs: compared with a dictionary of registers with access policies (`pymodel/machine/registers.py`),
and the events that change it.

Model: `Registers` is told which accesses the bus has done and which events there were in a cycle. It says
what every output must be in the next cycle. An access is done in the cycle in which the block takes it and
answered in the next. The answer stays until it is taken.

Corners:

- AW before W, W before AW, both at once; the next access offered before the answer to the last is taken; half
  a write before a reset
- bready and rready low for a long time, and high before there is an answer
- a read and a write in one cycle, also of one register (the read gets the old value)
- every byte strobe; every one of the 256 addresses read and written
- START refused while busy, loading, sending, in error, or together with SOFT_RESET or LOAD_RESET, each alone;
  without its strobe no START
- LOAD_RESET with SOFT_RESET, and refused without; SENDING while busy, which STATUS does not show
- BUSY from the cycle of START on
- the interrupt's event in the cycle of its clear (the event stays), masked, enabled later
- errors of each source alone, of every two in one cycle (the lower one is reported), and of all at once; a
  second error (the first stays); an error in the cycle of a soft reset (which clears it)
- counters cleared by START and SOFT_RESET, stopped while not busy, each by its own event, past every power of
  two

Counters stop at 2^32 - 1. No test can reach that by counting, so the tests of the counters write a value into
the block's own counter registers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import cocotb
import numpy as np

from pymodel.machine.registers import COUNTERS, REGISTERS, build_values
from tb.common import settings
from tb.common.block import Bench, chance, edgy, pack
from tb.common.seeding import numpy_rng
from tb.common.words import config_of

OKAY, SLVERR = 0, 2
START, SOFT_RESET, LOAD_RESET = 1, 2, 4
CONTROLS = (
    *(START, START, SOFT_RESET, START | SOFT_RESET, 0),
    *(LOAD_RESET, LOAD_RESET | SOFT_RESET, LOAD_RESET | START),
)
DONE, ERROR = 1, 2
MAX_COUNT = 2**32 - 1
PATIENCE = 50  # cycles that an access may take beyond its own delays
BY_ADDRESS = {register.address: register for register in REGISTERS.values()}
COUNT_EVENTS = {
    "BUSY_CYCLES": "count_group",
    "STALL_CYCLES": "count_stall",
    "SLOT_ROWS": "count_slot_row",
    "WORDS": "count_word",
    "LOAD_WAIT_CYCLES": "count_load_wait",
}
EVENTS = ("busy", "loading", "sending", "done", *COUNT_EVENTS.values())


@dataclass
class BusAccess:
    """A read or write, and when its channels move.

    Delays are in cycles: of the address, of the write data, and of taking the answer.
    """

    address: int
    data: int | None = None  # None: a read
    strobe: int = 0b1111
    address_delay: int = 0
    data_delay: int = 0
    answer_delay: int = 0
    early: bool = False  # ready for the answer before there is one
    sent: set[str] = field(default_factory=set)  # channels that the block has taken
    answer: tuple[int, int] | None = None  # response, data

    @property
    def channels(self) -> dict[str, int]:
        """The channels of the request, and the cycles until each is offered."""
        return (
            {"ar": self.address_delay}
            if self.data is None
            else {
                "aw": self.address_delay,
                "w": self.data_delay,
            }
        )

    @property
    def taken(self) -> bool:
        """The block has all of the request."""
        return self.sent == set(self.channels)

    def offers(self, channel: str) -> bool:
        return self.channels[channel] <= 0 and channel not in self.sent

    def answered(self) -> bool:
        """A cycle with the answer has ended. Returns whether the answer was taken."""
        self.answer_delay -= 1
        return self.answer_delay < 0


def offered(queue: Sequence[BusAccess]) -> BusAccess | None:
    """The access whose address may be on the bus."""
    return next((access for access in queue if not access.taken), None)


def answers_welcome(queue: Sequence[BusAccess]) -> int:
    """Whether the host is ready for an answer."""
    return int(bool(queue) and queue[0].answer_delay <= 0 and (queue[0].taken or queue[0].early))


class Registers:
    """The register file as docs/machine.md describes it."""

    def __init__(self, parameters: Mapping[str, int]) -> None:
        self.values = {r.name: r.reset or 0 for r in REGISTERS.values()} | build_values(config_of(parameters))
        self.start = self.soft_reset = self.load_reset = self.irq = False
        self.events = 0  # of the cycle before, for IRQ_STATUS

    @property
    def error(self) -> bool:
        return bool(self.values["ERROR"])

    def read(self, address: int, events: Mapping[str, int]) -> tuple[int, int]:
        register = BY_ADDRESS.get(address & ~3)
        if register is None:
            return SLVERR, 0
        if register.name == "STATUS":
            busy = events["busy"] or self.start
            sending = events["sending"] and not events["busy"]
            shown = busy, events["loading"], self.error, sending
            fields = register.fields.values()
            return OKAY, sum(part.put(int(on)) for part, on in zip(fields, shown, strict=True))
        return OKAY, self.values[register.name]

    def cycle(
        self, write: BusAccess | None, events: Mapping[str, int], errors: Mapping[int, tuple[int, int]]
    ) -> int:
        """One cycle with its write, events and errors (source -> code, info). Returns the response to the
        write.
        """
        values, was_error = self.values, self.error
        irq = bool(values["IRQ_STATUS"] & values["IRQ_ENABLE"])
        start = soft_reset = load_reset = False
        response = OKAY
        register = None if write is None else BY_ADDRESS.get(write.address & ~3)
        data = 0 if write is None or write.data is None else write.data
        strobes = (
            0 if write is None else sum(0xFF << 8 * byte for byte in range(4) if write.strobe >> byte & 1)
        )
        if write is not None and (register is None or not register.writable):
            response = SLVERR
        elif register is not None and register.name == "CONTROL":
            start, soft_reset = bool(data & strobes & START), bool(data & strobes & SOFT_RESET)
            load_reset = bool(data & strobes & LOAD_RESET)
            held = any(events[name] for name in ("busy", "loading", "sending"))
            if (start and (soft_reset or load_reset or held or self.error)) or (
                load_reset and not soft_reset
            ):
                response, start, soft_reset, load_reset = SLVERR, False, False, False
        elif register is not None and register.access == "W1C":
            values[register.name] &= ~(data & strobes)
        elif register is not None:
            fields = sum(part.mask for part in register.fields.values())
            values[register.name] = (values[register.name] & ~strobes | data & strobes) & fields
        for name in COUNTERS:
            happens = name == "CYCLES" or events[COUNT_EVENTS[name]]
            values[name] = (
                0 if self.start else min(values[name] + bool(events["busy"] and happens), MAX_COUNT)
            )
        values["IRQ_STATUS"] |= self.events
        self.events = DONE if events["done"] else 0
        if errors and not was_error:
            code, info = errors[min(errors)]
            values["ERROR"] = info << 8 | code
            self.events |= ERROR
        if self.soft_reset:
            values |= dict.fromkeys(("ERROR", "IRQ_STATUS", *COUNTERS), 0)
            self.events, irq = 0, False
        self.start, self.soft_reset, self.load_reset, self.irq = start, soft_reset, load_reset, irq
        return response


class Bus:
    """The block, the model, and the reads and writes in progress. The first has been taken or is offered, and
    the next is offered after it.
    """

    def __init__(self, dut: Any) -> None:
        self.dut = dut
        self.sources = range(len(dut.err_valid))
        write = (
            "s_axil_awaddr",
            "s_axil_awvalid",
            "s_axil_wdata",
            "s_axil_wstrb",
            "s_axil_wvalid",
            "s_axil_bready",
        )
        read = ("s_axil_araddr", "s_axil_arvalid", "s_axil_rready")
        self.bench = Bench(dut, "rst", *write, *read, *EVENTS, "err_valid", "err_code", "err_info")
        self.model = Registers(settings.parameters())
        self.quiet = dict.fromkeys(EVENTS, 0)
        self.writes: list[BusAccess] = []
        self.reads: list[BusAccess] = []
        self.taken_together = 0

    async def reset(self) -> None:
        valids = dict.fromkeys(
            (
                "s_axil_awvalid",
                "s_axil_wvalid",
                "s_axil_bready",
                "s_axil_arvalid",
                "s_axil_rready",
                "err_valid",
            ),
            0,
        )
        await self.bench.reset(**valids, **self.quiet)
        self.model = Registers(settings.parameters())
        self.writes, self.reads = [], []

    async def cycle(self, errors: Mapping[int, tuple[int, int]] | None = None, /, **events: int) -> None:
        """One cycle of the accesses in progress, with these events. All outputs are compared."""
        happens, errors = self.quiet | events, errors or {}
        await self.bench.cycle(
            rst=0, **happens, **self._error_pins(errors), **self._write_pins(), **self._read_pins()
        )
        self._check()
        write = self._take(self.writes, "aw", "w")
        read = self._take(self.reads, "ar")
        self.taken_together += write is not None and read is not None
        if read is not None:
            read.answer = self.model.read(read.address, happens)
        response = self.model.cycle(write, happens, errors)
        if write is not None:
            write.answer = (response, 0)

    def _error_pins(self, errors: Mapping[int, tuple[int, int]]) -> dict[str, int]:
        pins = {"err_valid": sum(1 << source for source in errors)}
        if errors:
            pins["err_code"] = pack((errors.get(source, (0, 0))[0] for source in self.sources), 8)
            pins["err_info"] = pack((errors.get(source, (0, 0))[1] for source in self.sources), 24)
        return pins

    def _write_pins(self) -> dict[str, int]:
        pins = {"s_axil_awvalid": 0, "s_axil_wvalid": 0, "s_axil_bready": answers_welcome(self.writes)}
        access = offered(self.writes)
        if access is not None and access.offers("aw"):
            pins |= {"s_axil_awvalid": 1, "s_axil_awaddr": access.address}
        if access is not None and access.offers("w"):
            pins |= {"s_axil_wvalid": 1, "s_axil_wdata": access.data or 0, "s_axil_wstrb": access.strobe}
        return pins

    def _read_pins(self) -> dict[str, int]:
        pins = {"s_axil_arvalid": 0, "s_axil_rready": answers_welcome(self.reads)}
        access = offered(self.reads)
        if access is not None and access.offers("ar"):
            pins |= {"s_axil_arvalid": 1, "s_axil_araddr": access.address}
        return pins

    def _check(self) -> None:
        model, expect = self.model, self.bench.expect
        expect(
            start=int(model.start),
            soft_reset=int(model.soft_reset),
            load_reset=int(model.load_reset),
            irq=int(model.irq),
            error=int(model.error),
        )
        expect(program_start=model.values["PROGRAM_START"])
        for queue, valid, response, data in (
            (self.writes, "s_axil_bvalid", "s_axil_bresp", None),
            (self.reads, "s_axil_rvalid", "s_axil_rresp", "s_axil_rdata"),
        ):
            answer = queue[0].answer if queue else None
            expect(**{valid: int(answer is not None)})
            if answer is not None:
                expect(**{response: answer[0]})
                if data is not None and answer[0] == OKAY:
                    expect(**{data: answer[1]})

    def _take(self, queue: list[BusAccess], *channels: str) -> BusAccess | None:
        """The access of which the block has taken the last part in this cycle, if any. Delays and answers are
        updated.
        """
        access = offered(queue)
        waiting = bool(queue) and queue[0].taken  # one at a time: the next waits until the answer is taken
        taken = None
        for channel in channels:
            ready = not waiting and (access is None or channel not in access.sent)
            self.bench.expect(**{f"s_axil_{channel}ready": int(ready)})
            if ready and access is not None and access.offers(channel):
                access.sent.add(channel)
                taken = access if access.taken else None
        if waiting and queue[0].answered():
            queue.pop(0)
        if access is not None and taken is None:
            access.address_delay -= 1
            access.data_delay -= 1
        return taken

    async def finish(self, *accesses: BusAccess, **events: int) -> None:
        """Runs these accesses, and those in progress, to their ends, with `events` in every cycle until they
        are taken.
        """
        for access in accesses:
            (self.reads if access.data is None else self.writes).append(access)
        for _ in range(PATIENCE + sum(a.address_delay + a.data_delay + a.answer_delay for a in accesses)):
            await self.cycle(**({} if all(a.taken for a in accesses) else events))
            if not self.reads and not self.writes:
                return
        raise AssertionError(f"cycle {self.bench.number}: the bus is stuck in {accesses}")

    async def write(self, name: str, data: int, strobe: int = 0b1111, **events: int) -> int:
        """Writes a register. Returns the response."""
        access = BusAccess(REGISTERS[name].address, data, strobe)
        await self.finish(access, **events)
        assert access.answer is not None
        return access.answer[0]

    async def read(self, name: str) -> int:
        access = BusAccess(REGISTERS[name].address)
        await self.finish(access)
        assert access.answer is not None
        return access.answer[1]

    def compare(self, what: str, seen: int, expected: int) -> None:
        """Compares the value of the model with the value that the test expects."""
        self.bench.compared += 1
        assert seen == expected, f"{what}: {seen:#x}, expected {expected:#x}"


def random_errors(rng: np.random.Generator, sources: Sequence[int]) -> dict[int, tuple[int, int]]:
    return {
        source: (int(rng.integers(1, 256)), int(rng.integers(1 << 24)))
        for source in sources
        if chance(rng, 0.5)
    }


@cocotb.test()
async def reset_values_and_every_address(dut: Any) -> None:
    rng = numpy_rng("addresses")
    bus = Bus(dut)
    await bus.reset()
    refused = 0
    for address in rng.permutation(256).tolist():
        read = BusAccess(address)
        await bus.finish(read)
        write = BusAccess(address, edgy(rng, 0, 2**32 - 1) & ~(START | LOAD_RESET))
        await bus.finish(write)
        assert read.answer is not None
        assert write.answer is not None
        refused += (read.answer[0] == SLVERR) + (write.answer[0] == SLVERR)
    for register in REGISTERS.values():  # in the model, a refused write changes nothing
        await bus.read(register.name)
    granted = len(REGISTERS) + sum(r.writable for r in REGISTERS.values())
    bus.compare("refused accesses", refused, 2 * 256 - 4 * granted)
    await bus.reset()
    for register in REGISTERS.values():
        seen = await bus.read(register.name)
        if register.reset is not None:
            bus.compare(f"{register.name} after reset", seen, register.reset)
    bus.bench.done(refused=refused)


@cocotb.test()
async def orders_of_the_channels(dut: Any) -> None:
    rng = numpy_rng("orders")
    bus = Bus(dut)
    await bus.reset()
    orders = [
        (a, d, b, early) for a in (0, 1, 5) for d in (0, 1, 5) for b in (0, 1, 7) for early in (False, True)
    ]
    for address_delay, data_delay, answer_delay, early in orders:
        value = int(rng.integers(65536))
        write = BusAccess(
            REGISTERS["PROGRAM_START"].address, value, 0b1111, address_delay, data_delay, answer_delay, early
        )
        read = BusAccess(
            REGISTERS["PROGRAM_START"].address,
            None,
            0,
            max(address_delay, data_delay),
            0,
            answer_delay,
            early,
        )
        before = bus.model.values["PROGRAM_START"]
        await bus.finish(write, read)
        assert read.answer is not None
        bus.compare("a read in the cycle of a write", read.answer[1], before)
        bus.compare("a read after it", await bus.read("PROGRAM_START"), value)
    bus.bench.done(orders=len(orders), taken_together=bus.taken_together)


@cocotb.test()
async def half_a_write_does_not_outlive_a_reset(dut: Any) -> None:
    """Neither its address nor its data."""
    bus = Bus(dut)
    for address_delay, data_delay in ((9, 0), (0, 9)):
        await bus.reset()
        await bus.write("IRQ_ENABLE", DONE)
        bus.writes.append(
            BusAccess(
                REGISTERS["PROGRAM_START"].address, 0x1234, address_delay=address_delay, data_delay=data_delay
            )
        )
        for _ in range(3):
            await bus.cycle()
        assert len(bus.writes[0].sent) == 1
        await bus.reset()
        for _ in range(3):
            await bus.cycle()
        await bus.write("IRQ_ENABLE", ERROR)
        for name in ("PROGRAM_START", "IRQ_ENABLE"):
            await bus.read(name)
    bus.bench.done()


@cocotb.test()
async def byte_strobes(dut: Any) -> None:
    rng = numpy_rng("strobes")
    bus = Bus(dut)
    await bus.reset()
    for name in ("PROGRAM_START", "IRQ_ENABLE", "IRQ_STATUS", "CONTROL"):
        for strobe in range(16):
            await bus.cycle(done=1)
            data = START if name == "CONTROL" else int(rng.integers(2**32))
            response = await bus.write(name, data, strobe)
            bus.compare(f"{name}, strobe {strobe:04b}", response, OKAY)
            await bus.read(name)
    bus.bench.done()


@cocotb.test()
async def start_and_its_refusals(dut: Any) -> None:
    bus = Bus(dut)
    await bus.reset()

    async def start(expected: int, data: int = START, **events: int) -> None:
        bus.compare(f"response to {data} in {events}", await bus.write("CONTROL", data, **events), expected)

    await start(OKAY)
    status = BusAccess(REGISTERS["STATUS"].address, address_delay=1)  # read while `start` is high
    await bus.finish(BusAccess(REGISTERS["CONTROL"].address, START), status)
    assert status.answer is not None
    bus.compare("STATUS in the cycle of START", status.answer[1], REGISTERS["STATUS"].fields["BUSY"].mask)
    await start(SLVERR, busy=1)
    await start(SLVERR, loading=1)
    await start(SLVERR, sending=1)
    await start(SLVERR, START | LOAD_RESET)
    await start(SLVERR, START | SOFT_RESET | LOAD_RESET)
    await start(SLVERR, LOAD_RESET)
    await start(OKAY, SOFT_RESET | LOAD_RESET, sending=1)
    await start(SLVERR, START | SOFT_RESET)
    await start(OKAY, SOFT_RESET, busy=1)
    await start(OKAY, SOFT_RESET, loading=1)
    await start(OKAY, 0, busy=1)
    await bus.cycle({2: (7, 9)})
    await start(SLVERR)
    bus.compare("ERROR", await bus.read("ERROR"), 9 << 8 | 7)
    await start(SLVERR, START | SOFT_RESET)
    await start(OKAY, SOFT_RESET)
    bus.compare("ERROR after a soft reset", await bus.read("ERROR"), 0)
    await start(OKAY)
    bus.bench.done()


@cocotb.test()
async def interrupts_and_their_races(dut: Any) -> None:
    bus = Bus(dut)
    await bus.reset()

    async def irq(expected: int) -> None:
        for _ in range(2):
            await bus.cycle()
        bus.compare("irq", int(dut.irq.value), expected)

    await bus.cycle(done=1)
    await irq(0)
    await bus.write("IRQ_ENABLE", ERROR)
    await irq(0)
    await bus.write("IRQ_ENABLE", DONE)
    await irq(1)
    await bus.write("IRQ_STATUS", ERROR)
    await irq(1)
    await bus.write("IRQ_STATUS", DONE, done=1)  # set again in the cycle of its clear
    await irq(1)
    await bus.write("IRQ_STATUS", DONE)
    await irq(0)
    await bus.cycle({0: (1, 1), 3: (2, 2)})
    await bus.cycle({1: (5, 5)})
    await irq(0)
    bus.compare("ERROR", await bus.read("ERROR"), 1 << 8 | 1)
    bus.compare("IRQ_STATUS", await bus.read("IRQ_STATUS"), ERROR)
    await bus.write("IRQ_ENABLE", DONE | ERROR)
    await irq(1)
    await bus.write("IRQ_STATUS", ERROR)
    await irq(0)
    await bus.cycle({1: (5, 5)})  # not the first: no new interrupt
    await irq(0)
    # an error in the cycle in which the soft reset takes effect
    bus.writes.append(BusAccess(REGISTERS["CONTROL"].address, SOFT_RESET))
    await bus.cycle(done=1)
    assert bus.model.soft_reset
    await bus.cycle({0: (3, 3)}, done=1)
    await irq(0)
    bus.compare("ERROR after a soft reset", await bus.read("ERROR"), 0)
    bus.compare("IRQ_STATUS after a soft reset", await bus.read("IRQ_STATUS"), 0)
    bus.bench.done()


@cocotb.test()
async def every_error_and_every_two_in_one_cycle(dut: Any) -> None:
    rng = numpy_rng("pairs")
    bus = Bus(dut)
    await bus.reset()
    together = [*combinations(bus.sources, 1), *combinations(bus.sources, 2)]
    for meeting in together:
        errors = {source: (source + 1, int(rng.integers(1 << 24))) for source in meeting}
        await bus.cycle(errors)
        code, info = errors[meeting[0]]
        bus.compare(f"ERROR of sources {meeting}", await bus.read("ERROR"), info << 8 | code)
        await bus.write("CONTROL", SOFT_RESET)
    bus.bench.done(meetings=len(together))


async def put_counters(bus: Bus, value: int) -> None:
    """All counters at `value`, in the block and in the model."""
    for index in range(len(COUNTERS)):
        bus.dut.count_reg[index].value = value
    await bus.cycle()
    bus.model.values |= dict.fromkeys(COUNTERS, value)


@cocotb.test()
async def counters_go_past_every_power_of_two(dut: Any) -> None:
    """Each by its own event. A counter with fewer bits, or one that stops too early, would fail."""
    bus = Bus(dut)
    await bus.reset()
    for power in range(1, 32):
        for name in COUNTERS:
            await put_counters(bus, (1 << power) - 1)
            await bus.cycle(busy=1, **({COUNT_EVENTS[name]: 1} if name in COUNT_EVENTS else {}))
            for other in COUNTERS:
                counted = other in (name, "CYCLES")
                bus.compare(other, await bus.read(other), (1 << power) - 1 + counted)
    bus.bench.done()


@cocotb.test()
async def counters_stop_at_their_largest(dut: Any) -> None:
    bus = Bus(dut)
    await bus.reset()
    close = MAX_COUNT - 3
    await put_counters(bus, close)
    for name in COUNTERS:
        bus.compare(name, await bus.read(name), close)
    for _ in range(6):
        await bus.cycle(busy=1, **dict.fromkeys(COUNT_EVENTS.values(), 1))
    for name in COUNTERS:
        bus.compare(name, await bus.read(name), MAX_COUNT)
    await bus.write("CONTROL", START)
    for name in COUNTERS:
        bus.compare(name, await bus.read(name), 0)
    bus.bench.done()


@cocotb.test()
async def everything_at_once(dut: Any) -> None:
    rng = numpy_rng("traffic")
    bus = Bus(dut)
    await bus.reset()
    names = (
        "IRQ_STATUS",
        "IRQ_ENABLE",
        "PROGRAM_START",
        "STATUS",
        "ERROR",
        "CYCLES",
        "WORDS",
        *["CONTROL"] * 5,
    )
    interesting = [REGISTERS[name].address for name in names]
    seen = dict.fromkeys(("starts", "soft_resets", "load_resets", "interrupts", "errors"), 0)
    busy = False

    def access(write: bool) -> BusAccess:
        address = int(rng.choice(interesting)) if chance(rng, 0.7) else edgy(rng, 0, max(BY_ADDRESS) + 4)
        address_delay, data_delay, answer_delay = rng.choice([0, 0, 0, 1, 2, 6], 3).tolist()
        data = edgy(rng, 0, 2**32 - 1) if chance(rng, 0.3) else int(rng.choice(CONTROLS))
        strobe = 0b1111 if chance(rng, 0.8) else int(rng.integers(16))
        return BusAccess(
            address,
            data if write else None,
            strobe,
            address_delay,
            data_delay,
            answer_delay,
            chance(rng, 0.5),
        )

    for _ in range(2500):
        if len(bus.writes) < 2 and chance(rng, 0.3):
            bus.writes.append(access(write=True))
        if len(bus.reads) < 2 and chance(rng, 0.3):
            bus.reads.append(access(write=False))
        busy ^= chance(rng, 0.2 if busy else 0.05)
        counts = {name: int(chance(rng, 0.5)) for name in COUNT_EVENTS.values()}
        errors = random_errors(rng, bus.sources) if chance(rng, 0.005) else {}
        await bus.cycle(
            errors,
            busy=int(busy),
            loading=int(chance(rng, 0.2)),
            sending=int(chance(rng, 0.2)),
            done=int(chance(rng, 0.1)),
            **counts,
        )
        seen["starts"] += bus.model.start
        seen["soft_resets"] += bus.model.soft_reset
        seen["load_resets"] += bus.model.load_reset
        seen["interrupts"] += bus.model.irq
        seen["errors"] += bus.model.error
    await bus.finish()
    for register in REGISTERS.values():
        await bus.read(register.name)
    bus.bench.done(**seen, taken_together=bus.taken_together)
