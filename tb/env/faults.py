"""Faults that must make the scoreboard fail. The option `fault` names one. Only the tests of the environment
use them.

Each is inserted between the monitors and the scoreboard and changes once what the scoreboard sees. To the
scoreboard it looks as if the machine were wrong.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import Any

import cocotb
from cocotb.handle import Force, Release
from cocotb.triggers import ClockCycles, RisingEdge

from pymodel.machine.errors import TatamiError
from pymodel.machine.memory import header_beat, read_header
from pymodel.machine.registers import REGISTERS
from tb.env.events import Access, Answer, Beat, Event, Level, Stall, Words
from tb.plain.host import SOFT_RESET, START

Change = Callable[[Event], Iterable[Event]]


class Fault:
    """Applies `change` to the first event of a kind that `when` accepts, or to all of them if not `once`."""

    def __init__(
        self, kind: Any, change: Change, when: Callable[[Event], bool] = lambda _: True, once: bool = True
    ) -> None:
        self.kind = kind
        self.change = change
        self.when = when
        self.once = once
        self.spent = False

    def __call__(self, event: Event) -> Iterable[Event]:
        if self.spent or not isinstance(event, self.kind) or not self.when(event):
            return (event,)
        self.spent = self.once
        return self.change(event)


class ReadFault(Fault):
    """Changes the answer to the first read of a register."""

    def __init__(self, register: str, change: Change) -> None:
        super().__init__(Answer, change)
        self.address = REGISTERS[register].address
        self.reads: deque[int] = deque()

    def __call__(self, event: Event) -> Iterable[Event]:
        if isinstance(event, Access) and not event.write:
            self.reads.append(event.address)
        if isinstance(event, Answer) and not event.write and self.reads.popleft() == self.address:
            return super().__call__(event)
        return (event,)


class PacketFault(Fault):
    """Changes the first payload beat of a packet for a feature bank."""

    def __init__(self, change: Change) -> None:
        super().__init__(Beat, change)
        self.header = True
        self.feature = False

    def __call__(self, event: Event) -> Iterable[Event]:
        if not isinstance(event, Beat):
            return (event,)
        header, self.header = self.header, event.last
        if header:
            self.feature = read_header(event.data).destination == 0
            return (event,)
        return super().__call__(event) if self.feature else (event,)


class LostPacket(Fault):
    """Removes the first packet of the out stream."""

    def __init__(self) -> None:
        super().__init__(Words, lambda _: (), once=False)

    def __call__(self, event: Event) -> Iterable[Event]:
        kept = super().__call__(event)
        if isinstance(event, Words) and event.last:
            self.spent = True
        return kept


def drop(_: Event) -> Iterable[Event]:
    return ()


def is_last(event: Event) -> bool:
    return isinstance(event, Words | Beat) and event.last


def flipped(event: Event) -> Iterable[Event]:
    """Flips one bit of the data of an event."""
    if isinstance(event, Words):
        return (replace(event, data=bytes([event.data[0] ^ 1]) + event.data[1:]),)
    assert isinstance(event, Beat | Answer)
    return (replace(event, data=event.data ^ 1),)


def refused(event: Event) -> Iterable[Event]:
    assert isinstance(event, Answer)
    return (replace(event, okay=not event.okay),)


def endless(event: Event) -> Iterable[Event]:
    assert isinstance(event, Words)
    return (replace(event, last=False),)


def short(event: Event) -> Iterable[Event]:
    assert isinstance(event, Words)
    return (replace(event, data=event.data[:-1]),)


def glitch(event: Event) -> Iterable[Event]:
    assert isinstance(event, Level)
    return (event, replace(event, cycle=event.cycle + 1, high=not event.high))


def late(event: Event) -> Iterable[Event]:
    return (replace(event, cycle=event.cycle + 1),)


def twice(event: Event) -> Iterable[Event]:
    return (event, event)


def writes_control(event: Event, bits: int) -> bool:
    return (
        isinstance(event, Access)
        and event.write
        and event.address == REGISTERS["CONTROL"].address
        and event.data == bits
    )


def beat_after(event: Event, cycles: int) -> Iterable[Event]:
    """A packet of one beat that the machine must not take at that time."""
    return (event, Beat(event.cycle + cycles, header_beat(9, 0, 1, 0), True))


def is_write(event: Event) -> bool:
    return isinstance(event, Access | Answer) and event.write


FAULTS: dict[str, Callable[[], Fault]] = {
    "silence": lambda: Fault(Words | Level | Beat | Stall | Access | Answer, drop, once=False),
    "lost_packet": LostPacket,
    "extra_packet": lambda: Fault(Words, twice, is_last),
    "flipped_byte": lambda: Fault(Words, flipped),
    "flipped_part": lambda: Fault(Words, flipped, lambda e: not is_last(e)),
    "short_packet": lambda: Fault(Words, short),
    "endless_packet": lambda: Fault(Words, endless, is_last, once=False),
    "flipped_beat": lambda: PacketFault(flipped),
    "lost_beat": lambda: Fault(Beat, drop, is_last),
    "beat_while_busy": lambda: Fault(
        Access, partial(beat_after, cycles=3), partial(writes_control, bits=START)
    ),
    "beat_in_reset": lambda: Fault(
        Access, partial(beat_after, cycles=1), partial(writes_control, bits=SOFT_RESET)
    ),
    "lost_stall": lambda: Fault(Stall, drop, once=False),
    "lost_irq": lambda: Fault(Level, drop),
    "late_irq": lambda: Fault(Level, late),
    "extra_irq": lambda: Fault(Level, glitch),
    "refused_write": lambda: Fault(Answer, refused, is_write),
    "lost_access": lambda: Fault(Access, drop, is_write),
    "lost_answer": lambda: Fault(Answer, drop, is_write),
    **{f"read_{name}": partial(ReadFault, name, flipped) for name in REGISTERS},
}

# Faults of the stimulus. The reset pin goes up and down between two clock edges, so that the machine is never
# reset. A program sends a word that was never written. A word changes while it waits to be taken (if the
# simulator can force a port).
SHORT_RESET, UNWRITTEN, RESTLESS = "short_reset", "unwritten", "restless_word"
STIMULUS = (SHORT_RESET, UNWRITTEN, RESTLESS)


def disturb(name: str, dut: Any) -> None:
    """Starts a fault at the pins, if `name` is one."""
    if name == RESTLESS:
        cocotb.start_soon(restless_word(dut))


async def restless_word(dut: Any) -> None:
    """Changes the first word that waits, in its second cycle of waiting, until it has been taken."""
    waited = 0
    while waited < 2:
        await RisingEdge(dut.clk)
        waited = waited + 1 if dut.m_axis_tvalid.value == 1 and dut.m_axis_tready.value == 0 else 0
    dut.m_axis_tdata.value = Force(0x5A)
    await RisingEdge(dut.m_axis_tready)
    await ClockCycles(dut.clk, 2)
    dut.m_axis_tdata.value = Release()


def find(name: str) -> Fault | None:
    """The fault of that name between monitors and scoreboard. None for an empty name or a fault of the
    stimulus.
    """
    if not name or name in STIMULUS:
        return None
    if name not in FAULTS:
        raise TatamiError(f"option 'fault': '{name}' is unknown; valid: {', '.join((*FAULTS, *STIMULUS))}")
    return FAULTS[name]()
