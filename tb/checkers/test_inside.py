"""Runs a machine with faults (mutants.py), one fault after another, and reports when each was enabled. pytest
compares the log with this report.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles
from cocotb.utils import get_sim_time
from cocotb_bus.drivers.amba import AXI4LiteMaster

from pymodel.compiler.compile import compile_network
from pymodel.machine.config import ArrayConfig
from pymodel.machine.image import Image
from pymodel.machine.memory import (
    Beats,
    Hold,
    Section,
    columns,
    header_beat,
    hold_packet,
    memories,
    packet,
    to_beats,
)
from pymodel.machine.registers import REGISTERS
from pymodel.network.integer import (
    Conv,
    GlobalPool,
    Network,
    Requant,
    around,
)
from tb.checkers.mutants import HELD_PACKETS, MUTANTS, Spoil, Stimulus
from tb.common import settings
from tb.common.clock import PERIOD_NS
from tb.common.edges import risen
from tb.common.seeding import numpy_rng
from tb.plain.stream import StreamSource, StreamStalledError

RUN_CYCLES = 6000  # longer than any run that ends
START = 1


class AnyPins:
    """The pins of the machine, for use that is not legal. It does not check the answers."""

    def __init__(
        self, dut: Any, config: ArrayConfig, image: Image, pixels: np.ndarray[Any, np.dtype[np.int8]]
    ) -> None:
        self.dut, self.config = dut, config
        self.take(image, pixels)
        self.axil = AXI4LiteMaster(dut, "s_axil", dut.clk)
        self.source = StreamSource(
            dut,
            "s_axis",
            dut.clk,
            numpy_rng("source"),
            four_state=settings.simulator() == "icarus",
            patience=200,
        )
        dut.m_axis_tready.value = 0
        Clock(dut.clk, PERIOD_NS, "ns", impl="gpi").start()
        cocotb.start_soon(self._take_now_and_then())

    def take(self, image: Image, pixels: np.ndarray[Any, np.dtype[np.int8]]) -> None:
        """The network and its input that are loaded from now on."""
        self.image, self.inputs = image, image.tensor_packets("input", pixels)

    async def _take_now_and_then(self) -> None:
        while True:
            for ready, cycles in ((0, 7), (1, 1)):
                self.dut.m_axis_tready.value = ready
                await ClockCycles(self.dut.clk, cycles)

    async def reset(self, mutant: int) -> None:
        """Resets by the pin, with the mutant enabled."""
        self.dut.rst.value = 1
        self.dut.mutant.value = mutant
        await ClockCycles(self.dut.clk, 4)
        self.dut.rst.value = 0

    async def send(self, *packets: Beats) -> None:
        await self.source.send(*packets)
        await ClockCycles(self.dut.clk, 4)

    def one_word(self, destination: int, bank: int, address: int) -> Beats:
        """A packet of one word, zero."""
        beats = [m.beats for m in memories(self.config).values()]
        payload = [0] * beats[min(destination, len(beats) - 1)]
        return to_beats([header_beat(destination, bank, 1, address), *payload], self.config.stream_bits)

    def zeros(self, bank: int, words: int, *, live: bool = False) -> Beats:
        """A packet of zeros into words of a bank that the network does not use."""
        spec = memories(self.config)["FEATURE"]
        section = Section("FEATURE", self.config.feature_depth - words, spec.zeros(words), bank)
        return packet(spec, section, live=live).beats

    def meanwhile(self, use: str) -> list[Beats]:
        """The packets that are sent while the program runs."""
        words, banks = self.config.feature_depth // 2, range(self.config.group)
        if use == "load while busy":
            return [self.zeros(1, words)]
        if use == "live while busy":
            return [self.zeros(bank, words, live=True) for bank in banks]
        if use == "live behind HOLDs":
            hold = hold_packet(self.config, Hold(1)).beats
            return [beats for _ in range(HELD_PACKETS) for beats in (hold, self.zeros(0, 4, live=True))]
        return []

    async def load(self, spoils: Sequence[Spoil]) -> None:
        await self.send(
            *(p.beats for p in spoiled(self.image, spoils).packets()), *(p.beats for p in self.inputs)
        )

    async def start(self, address: int) -> None:
        await self.axil.write(REGISTERS["IRQ_ENABLE"].address, 3)
        await self.axil.write(REGISTERS["PROGRAM_START"].address, address)
        await self.axil.write(REGISTERS["CONTROL"].address, START)

    async def ended(self) -> None:
        """Waits for the interrupt, if one comes, and until everything has ended."""
        if not await risen(self.dut.irq, RUN_CYCLES):
            cocotb.log.info("no interrupt")
        await ClockCycles(self.dut.clk, 40)

    async def use(self, stimulus: Stimulus) -> None:
        """Uses the machine in one of the ways that a stimulus may name."""
        use = stimulus.use
        if use == "nothing":
            await ClockCycles(self.dut.clk, 10)
        elif use == "withdraw a beat":
            try:
                await self.send(self.one_word(0, 0, 0))
            except StreamStalledError:
                await ClockCycles(self.dut.clk, 4)
        else:
            await self.load(stimulus.spoils)
            await self.start(
                {
                    "start past the program": self.config.program_depth,
                    "start at the last word": self.config.program_depth - 1,
                }.get(use, self.image.run_start)
            )
            await self.source.send(*self.meanwhile(use), patience=RUN_CYCLES)
            await self.ended()


def spoiled(image: Image, spoils: Sequence[Spoil]) -> Image:
    """The image with field values that it should not have."""
    specs = memories(image.config)

    def words_of(section: Section) -> Section:
        words = section.words.copy()
        for s in spoils:
            if s.memory == section.memory:
                where = slice(None) if s.word is None else s.word, s.repeat, specs[s.memory].index(s.field)
                words[where] = words[where] + s.value if s.added else s.value
        return replace(section, words=words)

    return replace(image, sections=tuple(words_of(section) for section in image.sections))


def small_network(rng: np.random.Generator) -> Network:
    """Two layers: a convolution with taps in all directions and more filters than columns, and a pool."""

    def requant(filters: int) -> Requant:
        return Requant(
            np.zeros(filters, dtype=np.int64),
            np.full(filters, 256, dtype=np.int64),
            np.full(filters, 16, dtype=np.int64),
        )

    convolution = Conv("conv", "input", rng.integers(1, 100, (5, 3, 3, 3)), requant(5), padding=around(1))
    return Network("small", (3, 5, 5), (convolution, GlobalPool("pool", "conv", requant(5))))


def tight_network(rng: np.random.Generator) -> Network:
    """Two layers with planes of a word: the second reads what the first has just begun."""

    def conv(name: str, source: str, filters: int, inputs: int) -> Conv:
        zeros = np.zeros(filters, dtype=np.int64)
        requant = Requant(zeros, zeros + 256, zeros + 16)
        return Conv(name, source, rng.integers(1, 100, (filters, inputs, 1, 1)), requant)

    return Network("tight", (1, 2, 2), (conv("a", "input", 2, 1), conv("b", "a", 1, 2)))


@cocotb.test()
async def every_mutant(dut: Any) -> None:
    config = settings.config()
    rng = numpy_rng("network")
    network = small_network(rng)
    found = []
    for drawn in (network, tight_network(rng)):
        pixels = rng.integers(-128, 128, drawn.input_shape).astype(np.int8)
        found.append((compile_network(drawn, config, seed=1), pixels))
    assert columns("PROGRAM", found[True][0].section("PROGRAM").words).gap[0, 0] > 1
    pins = AnyPins(dut, config, *found[False])
    asked = settings.get().cases
    played = []
    for number, mutant in enumerate(MUTANTS):
        if asked and mutant.name not in asked:
            continue
        if mutant.bug and mutant.bug.sim not in ("", settings.simulator()):
            continue
        pins.take(*found[mutant.stimulus.tight])
        await pins.reset(number)
        begin = get_sim_time("ns")
        await pins.send(*(pins.one_word(*p) for p in mutant.stimulus.packets))
        await pins.use(mutant.stimulus)
        played.append(
            {
                "case": mutant.name,
                "begin": begin,
                "end": get_sim_time("ns"),
                "provokes": list(mutant.provokes),
            }
        )
    settings.report({"cases": played})
