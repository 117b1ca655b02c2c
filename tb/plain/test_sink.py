"""The sink of the plain harness and its wait for an edge, alone: this test drives the stream, at the pins of
a checker that is off.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, RisingEdge
from cocotb.types import LogicArray
from cocotb.utils import get_sim_time

from tb.common import settings
from tb.common.clock import PERIOD_NS
from tb.common.edges import risen
from tb.common.seeding import numpy_rng
from tb.plain.stream import StreamRuleError, StreamSink

WORDS = 6  # of a packet, a byte each


class Stream:
    """A sink, and what drives it."""

    def __init__(self, dut: Any) -> None:
        self.dut = dut
        for handle in (dut.active, dut.cut, dut.packet_start, dut.packet_beats, dut.tvalid, dut.tlast):
            handle.value = 0
        dut.rst.value = 0
        pins = {f"m_{name}": getattr(dut, name) for name in ("tdata", "tvalid", "tready", "tlast")}
        self.edge = RisingEdge(dut.clk)
        self.sink = StreamSink(SimpleNamespace(**pins), "m", dut.clk, numpy_rng())
        Clock(dut.clk, PERIOD_NS, "ns", impl="gpi").start()

    async def send(self, words: bytes, *, gaps: bool = False, last: bool = True) -> None:
        """Words one behind the other, or with a cycle without a word behind each."""
        for number, word in enumerate(words):
            self.dut.tvalid.value = 1
            self.dut.tdata.value = word
            self.dut.tlast.value = int(last and number == len(words) - 1)
            await self.edge
            while self.dut.tready.value != 1:
                await self.edge
            if gaps:
                self.dut.tvalid.value = 0
                await self.edge
        self.dut.tvalid.value = 0
        await self.edge


@cocotb.test()
async def packets(dut: Any) -> None:
    """Back to back and with gaps, taken at once, at random, and at once again."""
    stream, rng, compared = Stream(dut), np.random.default_rng(cocotb.RANDOM_SEED), 0
    await ClockCycles(dut.clk, 2)
    for rate in (1.0, 0.5, 0.0, 1.0):
        stream.sink.rate = rate or 0.01
        for gaps in (False, True):
            sent = [rng.bytes(WORDS), rng.bytes(1), rng.bytes(WORDS)]
            for words in sent:
                await stream.send(words, gaps=gaps)
            taken = stream.sink.take()
            assert taken == sent, f"rate {rate}, gaps {gaps}: expected {sent}, seen {taken}"
            compared += sum(map(len, sent))
    cycles = await cycles_of(stream, rng.bytes(WORDS))
    assert cycles == WORDS + 1, f"a packet of {WORDS} words took {cycles} cycles"
    settings.report({"compared": compared})


async def cycles_of(stream: Stream, words: bytes) -> int:
    begin = get_sim_time("ns")
    await stream.send(words)
    return round((get_sim_time("ns") - begin) / PERIOD_NS)


@cocotb.test()
async def a_rise_that_may_not_come(dut: Any) -> None:
    """`risen`, which waits for the machine's interrupt, ends with the rise or with its time."""
    Stream(dut)
    begin = get_sim_time("ns")
    assert not await risen(dut.tvalid, 7)
    assert get_sim_time("ns") - begin == 7 * PERIOD_NS

    async def rise() -> None:
        await ClockCycles(dut.clk, 3)
        dut.tvalid.value = 1

    cocotb.start_soon(rise())
    begin = get_sim_time("ns")
    assert await risen(dut.tvalid, 7)
    assert get_sim_time("ns") - begin < 4 * PERIOD_NS
    # nothing of the first two comes back
    assert not await risen(dut.tlast, 20)
    waits = cocotb.start_soon(risen(dut.tlast, 20))
    await ClockCycles(dut.clk, 1)
    waits.cancel()
    await ClockCycles(dut.clk, 30)


@cocotb.test(expect_error=StreamRuleError)
async def an_unknown_word(dut: Any) -> None:
    """In the middle of a packet."""
    stream = Stream(dut)
    await ClockCycles(dut.clk, 2)
    await stream.send(bytes(2), last=False)
    dut.tvalid.value, dut.tdata.value = 1, LogicArray("X0000000")
    await ClockCycles(dut.clk, 2)
    await stream.send(bytes(2))


@cocotb.test(expect_error=StreamRuleError)
async def a_word_that_changes(dut: Any) -> None:
    """While it waits."""
    stream = Stream(dut)
    await ClockCycles(dut.clk, 2)
    stream.sink.rate = 1e-6
    dut.tvalid.value = 1
    for word in range(5):
        dut.tdata.value = word
        await stream.edge
