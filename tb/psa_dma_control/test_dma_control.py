"""psa_dma_control against the register table, and against what a list, an error and a reset must do to a
machine.

Model: the registers of `DMA_REGISTERS`; a machine of this test that answers accesses to its STATUS, ERROR,
CONTROL and PROGRAM_START when it likes and notes those that write; and both ends of the streams as levels
that the test sets.

Corners: every address, every strobe, values of whole beats and others; registers under a list and under an
error; a list that is over when the machine rests, all is read and all is written, each last once; several
starts in a list, each only while the machine rests; errors of every source, two at once, after another, and
outside of a list; a machine that refuses a start, or has an error; a reset in every state, also twice.
"""

from __future__ import annotations

from typing import Any

import cocotb
import numpy as np

from pymodel.machine.dma import descriptor_bytes
from pymodel.machine.errors import DmaErrorCode
from pymodel.machine.registers import DMA_BASE, DMA_REGISTERS, REGISTERS
from tb.common import settings
from tb.common.block import Bench, chance, edgy
from tb.common.seeding import numpy_rng

PATIENCE = 300
DONE, ERROR = 1, 2
BUSY, SENDING, BROKEN = 1, 8, 4  # bits of the machine's STATUS
LOADING = 2
START, SOFT_RESET, ANEW = 1, 2, 6  # values of its CONTROL
MASK = 2**32 - 1
CORE = {register.address: name for name, register in REGISTERS.items()}
INPUTS = (
    *("rst", "reg_write", "reg_address", "reg_wdata", "reg_wstrb", "own_done", "own_rdata", "own_refused"),
    *("out_used", "read_done", "read_quiet", "write_quiet", "run_valid", "run_program"),
    *("read_err_valid", "read_err_code", "read_err_info"),
    *("write_err_valid", "write_err_code", "write_err_info"),
)


class Control:
    """The pins of the block, cycle by cycle, and the machine behind it."""

    def __init__(self, dut: Any, rng: np.random.Generator) -> None:
        self.dut = dut
        self.rng = rng
        self.bench = Bench(dut, *INPUTS)
        self.begin()

    def begin(self) -> None:
        self.status = self.error = 0  # of the machine
        self.refuse = False
        self.slow = chance(self.rng, 0.5)
        self.writes: list[tuple[str, int]] = []
        self.reads: list[str] = []
        self.level = {"read_done": 0, "read_quiet": 1, "write_quiet": 1, "run_valid": 0, "run_program": 0}
        self.used = 0
        self.starts = self.clears = self.runs = 0
        self.stopped = self.flushed = False
        self.asked: tuple[int, int, int] | None = None

    async def reset(self) -> None:
        await self.bench.reset(reg_write=0, own_done=0, read_err_valid=0, write_err_valid=0)
        self.begin()

    async def cycle(self, **values: int) -> None:
        """One cycle, in which the machine may answer."""
        dut = self.dut
        pins = {"rst": 0, "reg_write": 0, "own_done": 0, "read_err_valid": 0, "write_err_valid": 0}
        pins |= self.level | {"out_used": self.used}
        if self.asked is not None and not (self.slow and chance(self.rng, 0.7)):
            pins |= self.answer(*self.asked)
            self.asked = None
        await self.bench.cycle(**(pins | values))
        if pins["own_done"]:
            self.asked = None
        elif dut.own_valid.value == 1:
            write = int(dut.own_write.value)
            asked = int(dut.own_address.value), write, int(dut.own_wdata.value) if write else 0
            if self.asked is not None:
                self.compare("access_stays", int(asked == self.asked), 1)
            self.asked = asked
        self.starts += int(dut.start.value)
        self.clears += int(dut.clear.value)
        self.runs += int(dut.run_ready.value)
        self.stopped, self.flushed = dut.stop.value == 1, dut.flush.value == 1

    def answer(self, address: int, write: int, data: int) -> dict[str, int]:
        """What the machine answers."""
        name = CORE[address]
        refused = False
        if write:
            self.writes.append((name, data))
            if name == "CONTROL":
                refused = data == START and self.refuse
                if data != START:
                    self.status &= ~(BUSY | BROKEN)
        else:
            self.reads.append(name)
        word = {"STATUS": self.status, "ERROR": self.error}.get(name, 0)
        # what is above the code of an error, and above the bits of STATUS, is of no interest
        word |= int(self.rng.integers(2**24)) << 8
        return {"own_done": 1, "own_rdata": word, "own_refused": int(refused)}

    def compare(self, what: str, seen: int, expected: int) -> None:
        bench = self.bench
        bench.compared += 1
        assert seen == expected, f"cycle {bench.number}: {what}: expected {expected:#x}, seen {seen:#x}"

    async def write(self, name: str, value: int, strobe: int = 15) -> bool:
        """Writes a register. Returns whether it is answered with OKAY."""
        address = DMA_REGISTERS[name].address - DMA_BASE + int(self.rng.integers(4))
        await self.cycle(reg_write=1, reg_address=address, reg_wdata=value, reg_wstrb=strobe)
        return bool(self.dut.reg_ok.value == 1)

    async def accepts(self, name: str, value: int, wanted: bool = True, strobe: int = 15) -> None:
        self.compare(f"reg_ok_{name}", int(await self.write(name, value, strobe)), int(wanted))

    async def holds(self, name: str, value: int) -> None:
        """Compares a register."""
        await self.cycle(reg_address=DMA_REGISTERS[name].address - DMA_BASE)
        self.bench.expect(reg_ok=1, reg_rdata=value)

    async def until(self, name: str, value: int) -> None:
        """Runs until an output has this value."""
        for _ in range(PATIENCE):
            if int(getattr(self.dut, name).value) == value:
                return
            await self.cycle()
        self.bench.expect(**{name: value})

    async def looks(self, count: int = 3) -> None:
        """Runs until the machine's STATUS has been read some more times."""
        wanted = self.reads.count("STATUS") + count
        for _ in range(PATIENCE):
            if self.reads.count("STATUS") >= wanted:
                return
            await self.cycle()
        self.compare("reads_of_STATUS", self.reads.count("STATUS"), wanted)

    async def go(self, count: int = 1) -> None:
        """Begins a list."""
        await self.accepts("DMA_IRQ_ENABLE", DONE | ERROR)
        await self.accepts("DMA_GO", count)
        await self.cycle()
        self.bench.expect(start=1, list_count=count)

    async def is_over(self, status: int) -> None:
        """The interrupt has come: IRQ_STATUS is `status`."""
        await self.until("irq", 1)
        await self.holds("DMA_IRQ_STATUS", status)

    async def dma_reset(self) -> None:
        """Resets, and compares what that does to the machine."""
        self.level["read_quiet"] = 0
        before = len(self.writes)
        clears = self.clears
        await self.accepts("DMA_CONTROL", 1)
        await self.cycle()
        self.bench.expect(stop=1)
        await self.holds("DMA_STATUS", self.error_bit() | BUSY)
        await self.accepts("DMA_GO", 1, False)
        await self.until("flush", 1)
        for _ in range(40):
            await self.cycle()
        self.compare("resets_while_not_quiet", int(("CONTROL", ANEW) in self.writes[before:]), 0)
        self.level |= {"read_quiet": 1, "write_quiet": 0}
        for _ in range(10):
            await self.cycle()
        self.compare("resets_while_not_quiet", int(("CONTROL", ANEW) in self.writes[before:]), 0)
        self.status |= SENDING
        self.level["write_quiet"] = 1
        await self.looks()
        self.compare("end_while_sending", self.clears, clears)
        self.bench.expect(flush=1)
        self.status = 0
        await self.until("flush", 0)
        wanted = [("CONTROL", SOFT_RESET), ("CONTROL", ANEW)]
        controls = [one for one in self.writes[before:] if one != ("CONTROL", START)]
        self.compare("resets_of_the_machine", int(controls[-2:] == wanted), 1)
        self.compare("clears", self.clears, clears + 1)
        self.bench.expect(stop=0, irq=0)
        for name in ("DMA_STATUS", "DMA_ERROR", "DMA_IRQ_STATUS"):
            await self.holds(name, 0)

    def error_bit(self) -> int:
        return ERROR if self.failed else 0

    failed = False


@cocotb.test()
async def registers(dut: Any) -> None:
    rng = numpy_rng("registers")
    control = Control(dut, rng)
    bits, word = settings.parameters()["STREAM_BITS"], settings.parameters()["WORD_BITS"]
    shape = word // 8 << 8 | bits // 8
    await control.reset()
    seen = dict.fromkeys(("addresses", "refused", "kept"), 0)
    for name, register in DMA_REGISTERS.items():
        await control.holds(name, shape if register.reset is None else register.reset)
    by_address = {register.address - DMA_BASE: register for register in DMA_REGISTERS.values()}
    for address in rng.permutation(256).tolist():
        found = by_address.get(address & ~3)
        await control.cycle(reg_address=address)
        control.bench.expect(reg_ok=int(found is not None))
        if found is None or not found.writable:
            await control.cycle(reg_write=1, reg_address=address, reg_wdata=MASK, reg_wstrb=15)
            control.bench.expect(reg_ok=0)
            seen["refused"] += 1
        seen["addresses"] += 1
    beat, unit = bits // 8, descriptor_bytes(bits)
    for name, step in (("DMA_OUT_SIZE", beat), ("DMA_OUT", beat), ("DMA_LIST", unit)):
        kept = 0
        values = [1 << power for power in range(32)] + [edgy(rng, 0, MASK) for _ in range(20)]
        for value in values:
            strobe = 15 if chance(rng, 0.8) else int(rng.integers(15))
            right = value % step == 0 and strobe == 15
            await control.accepts(name, value, right, strobe)
            kept = value if right else kept
            await control.holds(name, kept)
            seen["kept"] += right
    for value in (0, 1, 2, 3):
        for strobe in range(16):
            await control.accepts("DMA_IRQ_ENABLE", 3 - value, True)
            await control.accepts("DMA_IRQ_ENABLE", value | 0xFFFFFF00, True, strobe)
            await control.holds("DMA_IRQ_ENABLE", value if strobe & 1 else 3 - value)
    for count, strobe in ((0, 15), (1 << 16, 15), (1 << 31 | 1, 15), (1, 7), (1, 14)):
        await control.accepts("DMA_GO", count, False, strobe)
    for power in range(16):
        await control.accepts("DMA_CONTROL", 1, True, 14)  # without its strobe nothing
        control.used = 1 << 2 * power
        await control.holds("DMA_OUT_USED", control.used)
    control.compare("starts", control.starts + control.clears, 0)
    control.compare("accesses", len(control.writes) + len(control.reads), 0)
    control.bench.done(**seen)


@cocotb.test()
async def the_course_of_a_list(dut: Any) -> None:
    rng = numpy_rng("lists")
    control = Control(dut, rng)
    seen = dict.fromkeys(("lists", "starts", "waits"), 0)
    for number in range(24):
        await control.reset()
        beat = settings.parameters()["STREAM_BITS"] // 8
        values = {name: int(rng.integers(1 << 24)) * 32 for name in ("DMA_LIST", "DMA_OUT")}
        size = int(rng.integers(1 << 20)) * beat
        for name, value in (*values.items(), ("DMA_OUT_SIZE", size)):
            await control.accepts(name, value)
        control.level["read_done"] = 0
        await control.go(1 + edgy(rng, 0, 65534))
        control.bench.expect(list_address=values["DMA_LIST"], out_address=values["DMA_OUT"], out_size=size)
        await control.holds("DMA_STATUS", BUSY)
        for name in ("DMA_LIST", "DMA_OUT", "DMA_OUT_SIZE", "DMA_GO"):
            await control.accepts(name, 32, False)
        for _ in range(int(rng.integers(3))):
            program = int(rng.integers(1 << 16))
            control.status = int(rng.choice([BUSY, SENDING, BUSY | SENDING | LOADING]))
            control.level |= {"run_valid": 1, "run_program": program}
            before = len(control.writes)
            await control.looks()
            control.compare("starts_of_a_busy_machine", len(control.writes), before)
            seen["waits"] += 1
            runs = control.runs
            control.status = 0
            await control.until("run_ready", 1)
            control.level["run_valid"] = 0
            control.status = BUSY
            wanted = [("PROGRAM_START", program), ("CONTROL", START)]
            control.compare("writes_of_a_start", int(control.writes[before:] == wanted), 1)
            await control.looks()
            control.compare("runs", control.runs, runs + 1)
            control.compare("writes", len(control.writes), before + 2)
            seen["starts"] += 1
        # the last of three things to come ends the list
        last = number % 3
        control.level |= {"read_done": int(last != 0), "write_quiet": int(last != 1)}
        control.status = (BUSY if number % 2 else SENDING) if last == 2 else 0
        await control.looks(5)
        control.bench.expect(irq=0)
        await control.holds("DMA_STATUS", BUSY)
        control.level |= {"read_done": 1, "write_quiet": 1}
        control.status = 0
        await control.is_over(DONE)
        await control.holds("DMA_STATUS", 0)
        control.bench.expect(stop=0, flush=0)
        accesses = len(control.reads)
        await control.accepts("DMA_IRQ_STATUS", ERROR)
        await control.holds("DMA_IRQ_STATUS", DONE)
        await control.accepts("DMA_IRQ_STATUS", DONE)
        await control.until("irq", 0)
        for _ in range(20):
            await control.cycle()
        control.compare("accesses_without_a_list", len(control.reads), accesses)
        control.compare("lists", control.starts, 1)
        seen["lists"] += 1
    control.bench.done(**seen)


SOURCES = ("read", "write", "both", "machine", "refused", "late")


async def fail(control: Control, source: str, rng: np.random.Generator) -> tuple[int, int]:
    """Lets a list fail. Returns code and info that DMA_ERROR must have."""
    code, info = int(rng.integers(1, 256)), int(rng.integers(1, 1 << 16))
    other = {"code": int(rng.integers(1, 256)), "info": int(rng.integers(1 << 16))}
    if source in ("read", "write", "both"):
        first = "read" if source == "read" else "write"
        pins = {f"{first}_err_valid": 1, f"{first}_err_code": code, f"{first}_err_info": info}
        if source == "both":
            pins |= {
                "read_err_valid": 1,
                "read_err_code": other["code"],
                "read_err_info": other["info"],
            }
        await control.cycle(**pins)
        return code, info
    if source == "machine":
        control.status = BROKEN | int(rng.integers(4))
        control.error = int(rng.integers(1, 18))
        await control.until("stop", 1)
        return DmaErrorCode.MACHINE, control.error
    # the machine refuses a START: another runs, or an error has come since it was asked for its STATUS
    control.refuse = True
    control.error = int(rng.integers(1, 18)) if source == "late" else 0
    control.level["run_valid"] = 1
    for _ in range(PATIENCE):
        # what psa_dma_read says in every cycle: the descriptor that it is at
        await control.cycle(read_err_info=info, read_err_code=0)
        if control.stopped:
            break
    control.bench.expect(stop=1)
    return (DmaErrorCode.MACHINE, control.error) if control.error else (DmaErrorCode.REFUSED, info)


@cocotb.test()
async def errors(dut: Any) -> None:
    rng = numpy_rng("errors")
    control = Control(dut, rng)
    seen = dict.fromkeys((*SOURCES, "outside", "later"), 0)
    for number in range(5 * len(SOURCES)):
        source = SOURCES[number % len(SOURCES)]
        await control.reset()
        # no list: no error
        await control.cycle(read_err_valid=1, read_err_code=1, write_err_valid=1, write_err_code=2)
        await control.cycle()
        control.bench.expect(stop=0)
        seen["outside"] += 1
        await control.go()
        await control.looks(1)
        control.bench.expect(stop=0)
        code, info = await fail(control, source, rng)
        await control.cycle()
        control.bench.expect(stop=1, flush=0)
        control.compare("runs", control.runs, 0)
        await control.is_over(ERROR)
        word = info << 8 | code
        await control.holds("DMA_ERROR", word)
        await control.cycle(read_err_valid=1, read_err_code=99, read_err_info=98)
        seen["later"] += 1
        control.level |= {"read_done": 1, "run_valid": 1}
        for _ in range(40):
            await control.cycle()
        await control.holds("DMA_ERROR", word)
        await control.holds("DMA_STATUS", ERROR)
        await control.holds("DMA_IRQ_STATUS", ERROR)
        for name in ("DMA_LIST", "DMA_OUT", "DMA_OUT_SIZE", "DMA_GO"):
            await control.accepts(name, 32, False)
        control.level["run_valid"] = 0
        control.failed = True
        await control.dma_reset()
        control.failed = False
        await control.go()
        control.level["read_done"] = 1
        await control.is_over(DONE)
        seen[source] += 1
    control.bench.done(**seen)


@cocotb.test()
async def resets(dut: Any) -> None:
    rng = numpy_rng("resets")
    control = Control(dut, rng)
    seen = dict.fromkeys(("at_rest", "in_a_list", "in_a_start", "twice", "late_errors"), 0)
    for number in range(60):
        await control.reset()
        if number % 3 == 0:
            await control.dma_reset()
            seen["at_rest"] += 1
        else:
            await control.go()
            control.level |= {"run_valid": int(number % 3 == 2), "run_program": 7}
            for _ in range(int(rng.integers(0, 25))):
                await control.cycle()
            seen["in_a_start" if number % 3 == 2 else "in_a_list"] += 1
            if chance(rng, 0.3):
                await control.accepts("DMA_CONTROL", 1)
                await control.cycle(write_err_valid=1, write_err_code=8)
                seen["twice"] += 1
                seen["late_errors"] += 1
                control.level["read_quiet"] = 0
            control.level["run_valid"] = 0
            await control.dma_reset()
        control.level["read_done"] = 1
        await control.go()
        await control.is_over(DONE)
    control.bench.done(**seen)
