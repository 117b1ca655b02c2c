"""Drivers and monitors at the pins, on cocotb-bus. A monitor sees only the pins and knows nothing about the
drivers.

All act on a rising clock edge: they read what this edge sees, and drive what the next one will see. All sleep
while no signal changes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import repeat
from typing import Any

import cocotb
import numpy as np
from cocotb.simtime import get_sim_time
from cocotb.triggers import Event as Signal
from cocotb.triggers import FallingEdge, ReadOnly, RisingEdge, ValueChange
from cocotb_bus.drivers import BusDriver
from cocotb_bus.monitors import BusMonitor

from pymodel.machine.memory import Beats
from tb.common.clock import PERIOD_NS
from tb.common.edges import FALLS, RISES, FirstEdge, Next, WhileEdges
from tb.common.pins import ONE, ZERO, bits, joined, known
from tb.env.config import Backpressure, StreamKnobs
from tb.env.events import Access, Answer, Beat, Broken, Level, Offer, Opened, Reset, Stall, Words
from tb.plain.stream import HIGH, LOW, StreamSource

OKAY = 0
PATIENCE = 50_000  # cycles that a beat may wait for tready; after that the machine hangs


def this_cycle() -> int:
    """The number of the current clock edge."""
    return int(get_sim_time("step")) // PERIOD_NS  # a step is 1 ns


def next_cycle() -> int:
    """The first edge that sees a value which has just changed."""
    return this_cycle() + 1


class MachineMonitor(BusMonitor):
    """A monitor that reports nothing during reset. A reset discards what it has only partly received."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        self.quiet = True  # whether the edge sees reset, or a reset pin that has not been driven yet
        super().__init__(*arguments, **named)
        cocotb.start_soon(self.follow_reset())

    async def follow_reset(self) -> None:
        changes = ValueChange(self._reset)
        while True:
            await changes
            self.quiet = self._reset.value != LOW
            if self.quiet:
                self.forget()

    def forget(self) -> None:
        """Called when the reset pin rises."""

    def number(self, handle: Any) -> int:
        """The value of a signal. An X is reported, and read as 0."""
        word = bits(handle)()
        try:
            return int(word, 2)
        except ValueError:
            self._recv(Broken(this_cycle(), f"{handle._name} = {word} while it is valid"))
            return 0

    async def handshakes(self, valid: Any, ready: Any, taken: Callable[[int, int], None]) -> None:
        """For every transfer of a channel, calls `taken` with its cycle and the number of cycles that it
        waited. Never returns.
        """
        edge, rises = RisingEdge(self.clock), RisingEdge(valid)
        is_valid, is_ready = bits(valid), bits(ready)
        waited = 0
        while True:
            await edge
            if is_valid() != ONE:
                waited = 0
                await rises
            elif self.quiet:
                waited = 0
            elif is_ready() == ONE:
                taken(this_cycle(), waited)
                waited = 0
            else:
                waited += 1


class ResetMonitor(BusMonitor):
    """The reset pin, as `Reset` events."""

    _signals = ("rst",)

    async def _monitor_recv(self) -> None:
        changes = ValueChange(self.bus.rst)
        while True:
            await changes
            self._recv(Reset(next_cycle(), self.bus.rst.value != LOW))


class IrqMonitor(MachineMonitor):
    """The interrupt pin, as `Level` events."""

    _signals = ("irq",)

    async def _monitor_recv(self) -> None:
        changes = ValueChange(self.bus.irq)
        level: bool | None = None
        while True:
            await changes
            # if a register is assigned several times in one instant, the last counts; Icarus shows them all
            await ReadOnly()
            now = self.bus.irq.value != LOW
            if now is not level:
                level = now
                self._recv(Level(next_cycle(), level))


class LoadMonitor(MachineMonitor):
    """The in stream, as `Beat` and `Offer` events."""

    _signals = ("tdata", "tvalid", "tready", "tlast")

    async def _monitor_recv(self) -> None:
        edge, rises = RisingEdge(self.clock), RisingEdge(self.bus.tvalid)
        moves = FirstEdge((self.bus.tready, RISES), (self.bus.tvalid, FALLS))
        valid, ready, last = bits(self.bus.tvalid), bits(self.bus.tready), bits(self.bus.tlast)
        while True:
            await edge
            if valid() != ONE:
                await rises
            elif ready() != ONE:
                self._recv(Offer(this_cycle(), self.number(self.bus.tdata)))
                await moves
                self._recv(Offer(next_cycle(), None))
            elif not self.quiet:
                self._recv(Beat(this_cycle(), self.number(self.bus.tdata), last() == ONE))


class OutMonitor(MachineMonitor):
    """The out stream, as `Opened`, `Words` and `Stall` events. A waiting word must not change or go away."""

    _signals = ("tdata", "tvalid", "tready", "tlast")
    open = False  # a packet

    async def _monitor_recv(self) -> None:
        rises = RisingEdge(self.bus.tvalid)
        moves = FirstEdge((self.bus.tready, RISES), (self.bus.tvalid, FALLS))
        valid, ready = bits(self.bus.tvalid), bits(self.bus.tready)
        data, last = bits(self.bus.tdata), bits(self.bus.tlast)
        self.taken: list[str] = []
        waiting: tuple[str, str] | None = None

        def ordinary() -> Next:
            """Takes a word in the middle of a packet that does not wait."""
            if not self.open or self.quiet or waiting is not None or valid() != ONE or ready() != ONE:
                return Next.WAKE
            word = data()
            if last() != ZERO or not known(word):
                return Next.WAKE
            self.taken.append(word)
            return Next.EDGE

        edge = WhileEdges(self.clock, ordinary)
        while True:
            await edge
            if valid() != ONE:
                self.flush(this_cycle() - 1)
                if waiting is not None and not self.quiet and self.open:
                    self._recv(Broken(this_cycle(), f"{self.bus.tvalid._name} fell while a word waited"))
                waiting = None
                await rises
                continue
            if self.quiet:
                continue
            if not self.open:
                self.open = True
                self._recv(Opened(this_cycle()))
            word = data(), last()
            if not known(word[0] + word[1]):
                word = self.broken(*word)
            if waiting is not None and word != waiting:
                self._recv(Broken(this_cycle(), f"{self.bus.tdata._name} changed while it waited"))
            waiting = None
            if ready() == ONE:
                self.taken.append(word[0])
                if word[1] == ONE:
                    self.open = False
                    self.flush(this_cycle(), True)
            else:
                self.flush(this_cycle() - 1)
                waiting = word
                self._recv(Stall(this_cycle(), True))
                await moves
                self._recv(Stall(next_cycle(), False))

    def forget(self) -> None:
        self.open = False

    def flush(self, cycle: int, last: bool = False) -> None:
        """Passes on the words that were taken without a gap, up to and including `cycle`."""
        if self.taken:
            self._recv(Words(cycle, joined(self.taken), last))
            self.taken.clear()

    def broken(self, data: str, last: str) -> tuple[str, str]:
        """Reports a word with an X, which is then read as 0."""
        names = self.bus.tdata._name, self.bus.tlast._name
        self._recv(Broken(this_cycle(), f"{names[0]} = {data}, {names[1]} = {last} while valid"))
        return ZERO * len(data), last


class RegisterMonitor(MachineMonitor):
    """The register bus, as `Access` and `Answer` events.

    Address and data of a write may come in any order.
    """

    _signals = tuple(
        f"{c}{s}"
        for c, names in {
            "aw": ("addr", "valid", "ready"),
            "w": ("data", "strb", "valid", "ready"),
            "b": ("resp", "valid", "ready"),
            "ar": ("addr", "valid", "ready"),
            "r": ("data", "resp", "valid", "ready"),
        }.items()
        for s in names
    )

    def __init__(self, *arguments: Any, **named: Any) -> None:
        self.addresses: deque[int] = deque()
        self.data: deque[tuple[int, int]] = deque()
        super().__init__(*arguments, **named)

    async def _monitor_recv(self) -> None:
        bus = self.bus
        for channel, taken in (
            ("aw", self.address),
            ("w", self.payload),
            ("b", self.written),
            ("ar", self.asked),
        ):
            cocotb.start_soon(
                self.handshakes(getattr(bus, f"{channel}valid"), getattr(bus, f"{channel}ready"), taken)
            )
        await self.handshakes(bus.rvalid, bus.rready, self.read)

    def forget(self) -> None:
        """After a reset, half a write is discarded."""
        self.addresses.clear()
        self.data.clear()

    def address(self, cycle: int, _: int) -> None:
        self.addresses.append(self.number(self.bus.awaddr))
        self.join(cycle)

    def payload(self, cycle: int, _: int) -> None:
        self.data.append((self.number(self.bus.wdata), self.number(self.bus.wstrb)))
        self.join(cycle)

    def join(self, cycle: int) -> None:
        """A write is complete when both its address and its data have come."""
        if self.addresses and self.data:
            self._recv(Access(cycle, True, self.addresses.popleft(), *self.data.popleft()))

    def asked(self, cycle: int, _: int) -> None:
        self._recv(Access(cycle, False, self.number(self.bus.araddr)))

    def written(self, cycle: int, waited: int) -> None:
        self._recv(Answer(cycle, True, self.number(self.bus.bresp) == OKAY, waited=waited))

    def read(self, cycle: int, waited: int) -> None:
        okay = self.number(self.bus.rresp) == OKAY
        self._recv(Answer(cycle, False, okay, self.number(self.bus.rdata), waited))


class UnknownMonitor(MachineMonitor):
    """X or Z on an output that must never show it, from the end of the first reset on, as `Broken` events.

    Only for a simulator that knows X.
    """

    _signals = (
        "irq",
        "s_axil_awready",
        "s_axil_wready",
        "s_axil_bvalid",
        "s_axil_arready",
        "s_axil_rvalid",
        "s_axis_tready",
        "m_axis_tvalid",
    )

    async def _monitor_recv(self) -> None:
        while self._reset.value != HIGH:
            await ValueChange(self._reset)
        await FallingEdge(self._reset)
        for name in self._signals:
            cocotb.start_soon(self.watch(getattr(self.bus, name)))

    async def watch(self, handle: Any) -> None:
        edge, changes = RisingEdge(self.clock), ValueChange(handle)
        while True:
            await edge
            if not handle.value.is_resolvable:
                self._recv(Broken(this_cycle(), f"{handle._name} is {handle.value}"))
            await changes


@dataclass
class Transfer:
    """Packets to be sent back to back. `last=False` leaves out tlast: they are pieces of one packet that
    continues.
    """

    packets: tuple[Beats, ...]
    last: bool = True


class LoadSource(StreamSource):
    """A source of bursts with idle cycles between and inside them."""

    def __init__(
        self,
        dut: Any,
        name: str,
        clock: Any,
        rng: np.random.Generator,
        *,
        four_state: bool,
        knobs: StreamKnobs,
    ) -> None:
        super().__init__(dut, name, clock, rng, four_state=four_state, patience=PATIENCE)
        self.knobs = knobs
        self.left = 0  # beats of the burst

    def gaps(self) -> Iterator[None]:
        knobs = self.knobs
        cycles = 0
        if self.left == 0:
            self.left = int(self.rng.integers(*knobs.burst, endpoint=True))
            cycles = int(self.rng.integers(*knobs.idle, endpoint=True))
        self.left -= 1
        yield from repeat(None, cycles + (int(self.rng.geometric(knobs.rate)) - 1 if knobs.rate < 1 else 0))


class ReadyDriver(BusDriver):
    """Drives the ready of a channel by a backpressure profile, which may be changed at any time.

    `name` is the prefix of `valid` and `ready`.
    """

    _signals = ("valid", "ready")

    def __init__(
        self, entity: Any, name: str, clock: Any, rng: np.random.Generator, *, profile: Backpressure
    ) -> None:
        super().__init__(entity, name, clock, bus_separator="")
        self.rng = rng
        self.profile = profile
        self.changed = Signal()
        self.valid = bits(self.bus.valid)
        self.offered = WhileEdges(self.clock, self.look, self.bus.valid)
        self.left = 0  # cycles to be waited for
        self.bus.ready.value = 0
        cocotb.start_soon(self.drive())

    def use(self, profile: Backpressure) -> None:
        self.profile = profile
        self.changed.set()

    async def drive(self) -> None:
        while True:
            if self.profile.always:
                self.bus.ready.value = 1
                self.changed.clear()
                await self.changed.wait()
                continue
            self.bus.ready.value = 0
            await self.wait(int(self.rng.integers(*self.profile.off, endpoint=True)))
            self.bus.ready.value = 1
            await self.wait(int(self.rng.integers(*self.profile.on, endpoint=True)))

    async def wait(self, cycles: int) -> None:
        """Waits for `cycles` cycles in which a transfer is offered."""
        self.left = cycles
        if cycles:
            await self.offered

    def look(self) -> Next:
        """At an edge; without a transfer the cycle does not count."""
        if self.valid() != ONE:
            return Next.SLEEP
        self.left -= 1
        return Next.EDGE if self.left else Next.WAKE
