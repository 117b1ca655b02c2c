"""`Bench`: the pins of one block, one cycle at a time. Every block test in `tb/psa_*/` uses it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import RisingEdge, Timer

from tb.common import pins, settings
from tb.common.clock import PERIOD_NS
from tb.common.seeding import numpy_rng

RESET_CYCLES = 3


def pack(values: Iterable[int], bits: int) -> int:
    """Numbers of `bits` bits each, signed ones in two's complement, as one vector: the first in its lowest
    bits.
    """
    return sum((int(value) & ((1 << bits) - 1)) << (place * bits) for place, value in enumerate(values))


class Noise:
    """Random bits. Many are drawn at once, because that is quicker."""

    BYTES = 4096

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.drawn, self.used = "", 0

    def bits(self, count: int) -> str:
        """So many of them."""
        end = self.used + count
        if end > len(self.drawn):
            size = self.BYTES + count // 8
            self.drawn = f"{int.from_bytes(self.rng.bytes(size), 'little'):0{8 * size}b}"
            self.used, end = 0, count
        found = self.drawn[self.used : end]
        self.used = end
        return found


class Input:
    """An input of a block. A value that it has already is not driven again, because that takes time, too."""

    def __init__(self, handle: Any) -> None:
        self.width = len(handle)
        self.mask = (1 << self.width) - 1
        self.form = f"0{self.width}b"
        self.unknown = "X" * self.width
        self.drives = pins.drives(handle)
        self.has = ""

    def set(self, value: int) -> None:
        """Its lowest bits count."""
        self.put(format(value & self.mask, self.form))

    def put(self, text: str) -> None:
        if text != self.has:
            self.drives(text)
            self.has = text


class Bench:
    """Drives `inputs` and checks outputs of a block, with its clock `clk` if it has one.

    An input that a cycle does not name carries garbage in that cycle: a random value, or X if the simulator
    knows X. The outputs of a cycle are those that the clock edge at its end sees. So a register that is
    written in one cycle is visible in the next.
    """

    running = False  # a cocotb test has begun and not come to its end

    def __init__(self, dut: Any, *inputs: str) -> None:
        if Bench.running and settings.get().brief:
            cocotb.pass_test("a test before has failed")
        Bench.running = True
        self.dut = dut
        self.rng: np.random.Generator = numpy_rng("garbage")
        self.noise = Noise(self.rng)
        self.inputs = {name: Input(getattr(dut, name)) for name in inputs}
        self.outputs: dict[str, tuple[Callable[[], str], int]] = {}
        self.four_state = settings.simulator() == "icarus"
        self.clock = getattr(dut, "clk", None)
        self.number = 0  # of the cycle
        self.compared = 0
        if self.clock is not None:
            # starts low: an edge at time 0 would come before the first inputs
            Clock(self.clock, PERIOD_NS, "ns", impl="gpi").start(start_high=False)
            self.edge = RisingEdge(self.clock)

    async def reset(self, **values: int) -> None:
        """Holds `rst` high for a few cycles, with `values` on the inputs that must not be garbage during a
        reset.
        """
        for _ in range(RESET_CYCLES):
            await self.cycle(rst=1, **values)

    async def cycle(self, **values: int) -> None:
        """One cycle with `values` on the inputs. For a block without a clock, the time in which it
        settles.
        """
        for name, pin in self.inputs.items():
            if name in values:
                pin.set(values[name])
            else:
                self.garbage(pin)
        await (self.edge if self.clock is not None else Timer(PERIOD_NS, "ns"))
        self.number += 1

    async def skip(self, cycles: int) -> None:
        """Runs `cycles` cycles with the inputs of the last one, and compares nothing. Use it where comparing
        would take too long.
        """
        if cycles:
            await Timer((2 * cycles - 1) * PERIOD_NS // 2, "ns")
            await self.edge
            self.number += cycles

    async def sweep(self, name: str, values: Iterable[int]) -> None:
        """A cycle for each of these values of an input, with the others as in the last one, and nothing
        compared: to fill a memory.
        """
        pin = self.inputs[name]
        for value in values:
            pin.set(value)
            await self.edge
            self.number += 1

    def expect(self, **values: int) -> None:
        """Compares outputs of the cycle that has just ended. An X is always wrong."""
        for name, value in values.items():
            if name not in self.outputs:
                handle = getattr(self.dut, name)
                self.outputs[name] = pins.bits(handle), (1 << len(handle)) - 1
            reads, mask = self.outputs[name]
            value &= mask
            seen = reads()
            self.compared += 1
            try:
                number = int(seen, 2)
            except ValueError:
                raise AssertionError(
                    f"cycle {self.number}: {name}: expected {value:#x}, seen {seen}"
                ) from None
            assert number == value, f"cycle {self.number}: {name}: expected {value:#x}, seen {number:#x}"

    def expect_parts(self, name: str, bits: int, parts: Mapping[int, int]) -> None:
        """Compares some of the numbers, `bits` bits each, that an output consists of. The others may be X."""
        text = pins.bits(getattr(self.dut, name))()  # most significant bit first
        for place, value in parts.items():
            seen, want = text[len(text) - (place + 1) * bits : len(text) - place * bits], pack([value], bits)
            self.compared += 1
            assert seen == f"{want:0{bits}b}", (
                f"cycle {self.number}: {name}: expected {want:#x}, seen {seen} in part {place}"
            )

    def done(self, **counts: int) -> None:
        """Ends a test and reports `counts`. These are the events that the test is about; each must have
        occurred.
        """
        missing = [name for name, count in {"compared": self.compared, **counts}.items() if not count]
        assert not missing, f"nothing to count: {', '.join(missing)}"
        Bench.running = False
        settings.report({"block_cycles": self.number, "compared": self.compared, **counts})

    def mask(self, name: str) -> int:
        """All bits of an input."""
        return self.inputs[name].mask

    def garbage(self, pin: Input) -> None:
        # an enable that is X may look like one that is low; a number cannot
        unknown = self.four_state and self.noise.bits(1) == pins.ONE
        pin.put(pin.unknown if unknown else self.noise.bits(pin.width))


def chance(rng: np.random.Generator, probability: float) -> bool:
    """True with this `probability`."""
    return bool(rng.random() < probability)


def edgy(rng: np.random.Generator, low: int, high: int, probability: float = 0.2) -> int:
    """A number in low..high, both included. It is often one of the two ends, zero, or next to zero."""
    if chance(rng, probability):
        return int(rng.choice([value for value in (low, high, 0, 1, -1) if low <= value <= high]))
    return int(rng.integers(low, high, endpoint=True))


def landmarks(last: int) -> list[int]:
    """Of the numbers 0..last: the ends, every power of two and the number before it. If an address or count
    has a bit too few, two of them are confused.
    """
    powers = (1 << bit for bit in range(last.bit_length()))
    return sorted({0, last} | {value for power in powers for value in (power - 1, power)})
