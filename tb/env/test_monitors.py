"""The register monitor alone, with pins that this test drives, and the seeds of an environment.

The machine takes address and data of a write together. The monitor must not depend on that, so its test has
no machine, only the pins of a checker.
"""

from __future__ import annotations

import random
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles

from pymodel.machine.config import CONFIGS
from tb.common import settings
from tb.common.clock import PERIOD_NS
from tb.env.bus import RegisterMonitor
from tb.env.config import EnvConfig
from tb.env.events import Access, Answer, Event


class Pins:
    """A host and a machine in one. `channel` makes a handshake in which the receiver is ready after some
    cycles.
    """

    def __init__(self, dut: Any) -> None:
        self.dut = dut
        for handle in (
            dut.active,
            *(getattr(dut, f"{c}{s}") for c in ("aw", "w", "b", "ar", "r") for s in ("valid", "ready")),
        ):
            handle.value = 0
        dut.rst.value = 1
        Clock(dut.clk, PERIOD_NS, "ns", impl="gpi").start()
        self.seen: list[Event] = []
        RegisterMonitor(dut, None, dut.clk, reset=dut.rst).add_callback(self.seen.append)

    async def reset(self) -> None:
        self.dut.rst.value = 1
        await ClockCycles(self.dut.clk, 2)
        self.dut.rst.value = 0
        await ClockCycles(self.dut.clk, 2)

    async def channel(self, name: str, late: int = 0, **payload: int) -> None:
        valid, ready = (getattr(self.dut, f"{name}{s}") for s in ("valid", "ready"))
        for signal, value in payload.items():
            getattr(self.dut, f"{name}{signal}").value = value
        valid.value = 1
        await ClockCycles(self.dut.clk, late)
        ready.value = 1
        await ClockCycles(self.dut.clk, 1)
        valid.value = ready.value = 0
        await ClockCycles(self.dut.clk, 1)


@cocotb.test()
async def halves_of_a_write(dut: Any) -> None:
    """Address and data come in either order. If a reset comes between them, the first half is discarded. Only
    the reset pin tells the monitor.
    """
    pins = Pins(dut)
    await pins.reset()
    for first, second in (("aw", "w"), ("w", "aw")):
        payload = {"aw": {"addr": 0x34}, "w": {"data": 7, "strb": 3}}
        await pins.channel(first, **payload[first])
        await pins.channel(second, **payload[second])
        await pins.channel(first, **dict.fromkeys(payload[first], 1))
        await pins.reset()
    seen = [(event.address, event.data, event.strobe) for event in pins.seen if isinstance(event, Access)]
    assert seen == 2 * [(0x34, 7, 3)]
    settings.report({"compared": len(seen)})


@cocotb.test()
async def answers_that_wait(dut: Any) -> None:
    """An answer says how long the host was not ready for it. An answer that is seen during reset is
    ignored.
    """
    pins = Pins(dut)
    await pins.reset()
    waits = (0, 3, 1, 0)
    for late in waits:
        await pins.channel("b", late, resp=0)
        await pins.channel("r", late, resp=2, data=late)
    dut.rst.value = 1
    await pins.channel("r", 4, resp=0, data=8)
    await pins.reset()
    await pins.channel("r", 1, resp=0, data=9)
    seen = [
        (event.write, event.okay, event.data, event.waited)
        for event in pins.seen
        if isinstance(event, Answer)
    ]
    assert seen == [
        answer for late in waits for answer in ((True, True, 0, late), (False, False, late, late))
    ] + [(False, True, 9, 1)]
    settings.report({"compared": len(seen)})


@cocotb.test()
async def seeds(dut: Any) -> None:
    """The numbers that an environment draws from numpy and from Python's own generator, for the test of the
    seed.
    """
    config = EnvConfig(dut, CONFIGS["4x2"], four_state=False)
    config.seed_random()
    settings.report({"numpy": int(config.rng("knobs").integers(2**32)), "random": random.getrandbits(32)})
