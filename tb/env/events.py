"""The events that the monitors report. Nothing else reaches the scoreboard.

A `cycle` is the number of a rising clock edge, and stands for the values that this edge sees.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True, frozen=True)
class Reset:
    """The reset pin has the level `high` from this cycle on."""

    cycle: int
    high: bool


@dataclass(slots=True, frozen=True)
class Level:
    """The interrupt pin has the level `high` from this cycle on."""

    cycle: int
    high: bool


@dataclass(slots=True, frozen=True)
class Beat:
    """The machine took a beat of the in stream."""

    cycle: int
    data: int
    last: bool


@dataclass(slots=True, frozen=True)
class Offer:
    """From this cycle on, a beat of the in stream waits to be taken, with these data. None: none waits any
    more.
    """

    cycle: int
    data: int | None


@dataclass(slots=True, frozen=True)
class Stall:
    """From this cycle on, a word of the out stream waits (`waiting`), or no word waits any more."""

    cycle: int
    waiting: bool


@dataclass(slots=True, frozen=True)
class Opened:
    """In this cycle, the first word of a packet of the out stream is offered."""

    cycle: int


@dataclass(slots=True, frozen=True)
class Words:
    """The receiver took words of the out stream, one in each cycle, the last of them in this cycle: their
    bytes, first pixel first.
    """

    cycle: int
    data: bytes
    last: bool


@dataclass(slots=True, frozen=True)
class Access:
    """The machine took a register access. `data` and `strobe` are those of a write."""

    cycle: int
    write: bool
    address: int
    data: int = 0
    strobe: int = 0


@dataclass(slots=True, frozen=True)
class Answer:
    """The machine answered the oldest access of its kind.

    `data` is the value of a read. `waited`: the number of cycles in which the host was not ready for the
    answer.
    """

    cycle: int
    write: bool
    okay: bool
    data: int = 0
    waited: int = 0


@dataclass(slots=True, frozen=True)
class Broken:
    """The machine broke a rule of a bus, or showed X. `what` says where."""

    cycle: int
    what: str


Event = Reset | Level | Offer | Beat | Stall | Opened | Words | Access | Answer | Broken

# Events of one cycle in the order in which the scoreboard takes them: a register read sees the beat of its
# own cycle, and an answer belongs to an earlier access.
ORDER: dict[type, int] = {
    kind: order
    for order, kind in enumerate((Reset, Level, Stall, Opened, Words, Offer, Beat, Access, Answer, Broken))
}
