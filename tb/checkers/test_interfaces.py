"""Traffic that keeps the rules of AXI4-Stream, AXI4-Lite and AXI4, and traffic that breaks each rule once.

The checker is the design under test, and this test drives every port of it. A case is a list of cycles. The
report has the time of each case and the messages that it must cause. pytest compares the log with the report.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge
from cocotb.types import Logic, LogicArray
from cocotb.utils import get_sim_time

from tb.common import settings
from tb.common.clock import PERIOD_NS

X = -1  # an unknown value, where the simulator has one

Cycle = Mapping[str, int]


@dataclass(frozen=True)
class Case:
    """Cycles, each with the inputs that it changes, and the broken rules that they must report; none for
    legal traffic.
    """

    name: str
    cycles: Sequence[Cycle]
    provokes: Sequence[str] = ()

    @property
    def four_state(self) -> bool:
        """Whether it needs X."""
        return any(value == X for cycle in self.cycles for value in cycle.values())


def announced(beats: int, *cycles: Cycle) -> list[Cycle]:
    """Cycles of a packet on a stream; the packet is announced before them."""
    return [{"packet_start": 1, "packet_beats": beats}, {"packet_start": 0}, *cycles]


STREAM = (
    Case(
        "a packet with gaps and stalls",
        announced(
            3,
            {"tvalid": 1, "tdata": 1},
            {"tready": 0, "tdata": 2},
            {},
            {"tready": 1},
            {"tvalid": 0, "tdata": 9},
            {"tvalid": 1, "tlast": 1},
            {"tvalid": 0},
        ),
    ),
    Case(
        "a packet is cut before its first beat",
        [*announced(3, {"cut": 1}, {"cut": 0}), *announced(1, {"tvalid": 1, "tlast": 1}, {"tvalid": 0})],
    ),
    Case(
        "a packet is cut while a beat waits",
        announced(
            9,
            {"tvalid": 1, "tready": 0},
            {"cut": 1},
            {"cut": 0},
            {"tready": 1},
            {"tdata": 3},
            {"tlast": 1},
            {"tvalid": 0},
        ),
    ),
    Case(
        "a packet is cut when its last beat is taken",
        announced(1, {"tvalid": 1, "tlast": 1, "cut": 1}, {"cut": 0, "tvalid": 0}),
    ),
    Case(
        "a word goes away when its packet is cut",
        announced(9, {"tvalid": 1, "tready": 0}, {"cut": 1}, {"cut": 0, "tvalid": 0}),
        ["valid fell before ready came", "a packet that was cut has no end"],
    ),
    Case(
        "a packet goes on though it was cut",
        announced(9, {"tvalid": 1, "cut": 1}, {"cut": 0}, {}, {}, {}),
        ["tlast must mark the last beat of a packet and no other", "a beat outside a packet"],
    ),
    Case(
        "a word goes away",
        announced(2, {"tvalid": 1, "tready": 0}, {"tvalid": 0}),
        ["valid fell before ready came"],
    ),
    Case(
        "a word changes",
        announced(2, {"tvalid": 1, "tready": 0}, {"tdata": 5}),
        ["payload changed before ready came"],
    ),
    Case(
        "a waiting word becomes the last",
        announced(2, {"tvalid": 1, "tready": 0, "tlast": 0}, {"tready": 1, "tlast": 1}, {"tlast": 1}),
        [
            "payload changed before ready came",
            "tlast must mark the last beat of a packet and no other",
        ],
    ),
    Case(
        "valid in the cycle after a reset",
        [{"rst": 1}, {"tvalid": 1}, {"rst": 0}],
        ["valid in the cycle after reset", "a beat outside a packet"],
    ),
    Case(
        "a beat that no packet has room for",
        announced(1, {"tvalid": 1, "tlast": 1}, {}),
        ["a beat outside a packet"],
    ),
    Case(
        "the last beat is not marked",
        announced(1, {"tvalid": 1, "tlast": 0}),
        ["tlast must mark the last beat of a packet and no other"],
    ),
    Case(
        "a packet in a packet",
        [*announced(2, {"tvalid": 1}), *announced(1, {"tvalid": 0})],
        ["a packet begins inside another"],
    ),
    Case("valid is X", announced(1, {"tvalid": X}), ["valid is X"]),
    Case("ready is X", announced(1, {"tvalid": 1, "tlast": 1, "tready": X}), ["ready is X while valid"]),
    Case("data hold X", announced(1, {"tvalid": 1, "tlast": 1, "tdata": X}), ["payload holds X while valid"]),
    Case(
        "data hold X where no word is",
        announced(1, {"tdata": X, "tlast": X}, {}, {"tdata": 1, "tlast": 1, "tvalid": 1}),
    ),
)

WRITE = ({"awvalid": 1, "wvalid": 1}, {"awvalid": 0, "wvalid": 0, "bvalid": 1}, {"bvalid": 0})
READ = ({"arvalid": 1}, {"arvalid": 0, "rvalid": 1}, {"rvalid": 0})
CHANNELS = {
    "AW": ("aw", "awaddr"),
    "W": ("w", "wstrb"),
    "B": ("b", "bresp"),
    "AR": ("ar", "araddr"),
    "R": ("r", "rdata"),
}


def broken_channel(
    name: str, prefix: str, payload: str, write: Sequence[Cycle] = WRITE[:1], read: Sequence[Cycle] = READ[:1]
) -> list[Case]:
    """The rules of one channel, each broken once. If it is a response channel, a request comes before each
    case: `write` or `read`.
    """
    valid, ready = f"{prefix}valid", f"{prefix}ready"
    asked = {"B": write, "R": read}.get(name, ())
    quiet = {"awvalid": 0, "wvalid": 0, "arvalid": 0}
    waiting = [*asked, {**quiet, valid: 1, ready: 0}]
    return [
        Case(f"{name} goes away", [*waiting, {valid: 0}], [f"{name}: valid fell before ready came"]),
        Case(f"{name} changes", [*waiting, {payload: 2}], [f"{name}: payload changed before ready came"]),
        Case(f"{name} valid is X", [*asked, {**quiet, valid: X}], [f"{name}: valid is X"]),
        Case(
            f"{name} ready is X", [*asked, {**quiet, valid: 1, ready: X}], [f"{name}: ready is X while valid"]
        ),
        Case(
            f"{name} payload is X",
            [*waiting, {payload: X, ready: 1}],
            [f"{name}: payload holds X while valid"],
        ),
    ]


LITE = (
    Case("writes and reads", [*WRITE, *WRITE, *READ, *READ]),
    Case(
        "data before the address",
        [{"wvalid": 1}, {"wvalid": 0, "awvalid": 1}, {"awvalid": 0, "bvalid": 1, "bresp": 2}, {"bvalid": 0}],
    ),
    Case("an answer to no write", [{"bvalid": 1}, {"bvalid": 0}], ["B: answers no write"]),
    Case("an answer to half a write", [{"awvalid": 1}, {"awvalid": 0, "bvalid": 1}], ["B: answers no write"]),
    Case("two answers to one write", [*WRITE, {"bvalid": 1}], ["B: answers no write"]),
    Case("an answer to no read", [{"rvalid": 1}], ["R: answers no read"]),
    Case(
        "a write answered with DECERR",
        [WRITE[0], {**WRITE[1], "bresp": 3}],
        ["B: response is neither OKAY nor SLVERR"],
    ),
    Case(
        "a read answered with EXOKAY",
        [READ[0], {**READ[1], "rresp": 1}],
        ["R: response is neither OKAY nor SLVERR"],
    ),
    Case(
        "B valid after a reset",
        [{"rst": 1}, {"bvalid": 1}, {"rst": 0}],
        ["B: valid in the cycle after reset", "B: answers no write"],
    ),
    Case(
        "R valid after a reset",
        [{"rst": 1}, {"rvalid": 1}, {"rst": 0}],
        ["R: valid in the cycle after reset", "R: answers no read"],
    ),
    Case(
        "requests in a reset, which is not the host's",
        [{"rst": 1}, {"arvalid": 1}, {"rst": 0}, {"arvalid": 0, "rvalid": 1}, {"rvalid": 0}],
    ),
    *(case for name, pins in CHANNELS.items() for case in broken_channel(name, *pins)),
)


BURST_WRITE = ({"awvalid": 1, "wvalid": 1, "wlast": 1}, {"awvalid": 0, "wvalid": 0, "wlast": 0})
BURST_READ = ({"arvalid": 1}, {"arvalid": 0})
BURST_CHANNELS = {**CHANNELS, "W": ("w", "wdata")}
PAGE = 4096


def burst(channel: str, **values: int) -> list[Cycle]:
    """An address with these values, and 0 for the others that count."""
    named = {f"{channel}{name}": value for name, value in ({"id": 0, "addr": 0, "len": 0} | values).items()}
    return [{f"{channel}valid": 1, **named}, {f"{channel}valid": 0}]


BURSTS = (
    Case(
        "a burst of four beats is read, of each id",
        [
            *burst("ar", len=3),
            *burst("ar", id=1, addr=PAGE - 8),
            {"rvalid": 1},
            {"rid": 1, "rlast": 1},
            {"rid": 0, "rlast": 0},
            {},
            {"rlast": 1},
            {"rvalid": 0},
        ],
    ),
    Case(
        "bursts are written, one with its address behind its data, two before",
        [
            {"wvalid": 1},
            {"wlast": 1},
            {"wvalid": 0, "wlast": 0},
            *burst("aw", len=1, addr=PAGE - 16),
            *burst("aw", len=0),
            {"wvalid": 1, "wlast": 1, "bvalid": 1},
            {"wvalid": 0},
            {"bvalid": 0},
        ],
    ),
    Case(
        "256 beats in a burst",
        [*burst("aw", len=255), {"wvalid": 1}, *[{}] * 254, {"wlast": 1}, {"wvalid": 0}],
    ),
    *(
        Case(
            f"{channel} is one beat beyond 4 KiB",
            burst(channel, addr=PAGE - 8 * beats, len=beats),
            [f"{channel.upper()}: a burst crosses 4 KiB"],
        )
        for channel, beats in (("ar", 1), ("aw", 1), ("ar", 255), ("aw", 255))
    ),
    *(
        Case(
            f"{channel} with {name} {value}",
            burst(channel, **{name: value}),
            [f"{channel.upper()}: a burst does not count up by whole beats"],
        )
        for channel in ("ar", "aw")
        for name, value in (("burst", 0), ("burst", 2), ("size", 2), ("addr", 4))
    ),
    Case(
        "data end too early",
        [*burst("aw", len=1), *BURST_WRITE[:1], {"awvalid": 0, "wvalid": 0}, {}],
        ["W: the data of a burst are not as long as its address says"],
    ),
    Case(
        "data of the second burst end too late",
        [*BURST_WRITE, *burst("aw", len=0), {"wvalid": 1}, {"wlast": 1}, {"wvalid": 0}, {}],
        ["W: the data of a burst are not as long as its address says"],
    ),
    Case("data without an end", [{"wvalid": 1}, *[{}] * 256], ["W: a burst has no end"]),
    Case("an answer to no write", [{"bvalid": 1}, {"bvalid": 0}], ["B: answers no write"]),
    Case(
        "an answer before the last beat",
        [*burst("aw", len=1), {"wvalid": 1}, {"wvalid": 0, "bvalid": 1}],
        ["B: answers no write"],
    ),
    Case(
        "an answer before the address",
        [{"wvalid": 1, "wlast": 1}, {"wvalid": 0, "bvalid": 1}],
        ["B: answers no write"],
    ),
    Case("two answers to one write", [*BURST_WRITE, {"bvalid": 1}, {}], ["B: answers no write"]),
    Case("an answer to no read", [{"rvalid": 1}], ["R: answers no read"]),
    Case("an answer to a read of the other id", [*burst("ar", id=1), {"rvalid": 1}], ["R: answers no read"]),
    Case("a beat too many", [*BURST_READ, {"rvalid": 1}, {}], ["R: answers no read"]),
    *(
        Case(
            f"{name} valid after a reset",
            [{"rst": 1}, {f"{prefix}valid": 1}, {"rst": 0}],
            [f"{name}: valid in the cycle after reset"],
        )
        for name, (prefix, _) in BURST_CHANNELS.items()
    ),
    *(
        case
        for name, pins in BURST_CHANNELS.items()
        for case in broken_channel(name, *pins, BURST_WRITE, BURST_READ)
    ),
)


async def play(dut: Any, cases: Sequence[Case], idle: Cycle) -> None:
    """Plays every case that the simulator can run, each after a separate reset, and reports when."""
    Clock(dut.clk, PERIOD_NS, "ns", impl="gpi").start(start_high=False)
    edge = FallingEdge(dut.clk)

    def drive(cycle: Cycle) -> None:
        for name, value in cycle.items():
            pin = getattr(dut, name)
            pin.value = value if value != X else LogicArray("X" * len(pin)) if len(pin) > 1 else Logic("X")

    played = []
    for case in cases:
        if case.four_state and settings.simulator() != "icarus":
            continue
        drive({**idle, "rst": 1, "active": 0})
        await edge
        await edge
        begin = get_sim_time("ns")
        drive({"active": 1})
        await edge
        drive({"rst": 0})
        for cycle in case.cycles:
            await edge
            drive(cycle)
        await edge
        drive({"active": 0})
        played.append(
            {"case": case.name, "begin": begin, "end": get_sim_time("ns"), "provokes": list(case.provokes)}
        )
    settings.report({"cases": played})


@cocotb.test()
async def stream(dut: Any) -> None:
    names = ("cut", "tdata", "tvalid", "tlast", "packet_start", "packet_beats")
    await play(dut, STREAM, {**dict.fromkeys(names, 0), "tready": 1})


@cocotb.test()
async def lite(dut: Any) -> None:
    idle = {name: 0 for prefix, payload in CHANNELS.values() for name in (f"{prefix}valid", payload)}
    idle |= {f"{prefix}ready": 1 for prefix, _ in CHANNELS.values()}
    await play(dut, LITE, {**idle, "wdata": 0, "rresp": 0})


@cocotb.test()
async def bursts(dut: Any) -> None:
    idle = {f"{prefix}valid": 0 for prefix, _ in CHANNELS.values()}
    idle |= {f"{prefix}ready": 1 for prefix, _ in CHANNELS.values()}
    for channel in ("ar", "aw"):
        idle |= {f"{channel}{name}": 0 for name in ("id", "addr", "len")}
        idle |= {f"{channel}size": 3, f"{channel}burst": 1}
    names = ("rid", "rdata", "rresp", "rlast", "wdata", "wstrb", "wlast", "bid", "bresp")
    await play(dut, BURSTS, {**idle, **dict.fromkeys(names, 0)})
