"""Tests of the whole machine in its pyuvm environment.

The scoreboard predicts everything from the pins; a test here only says what to do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cocotb
import numpy as np
import numpy.typing as npt
from cocotb.triggers import ReadOnly, RisingEdge

from pymodel.compiler.compile import CapacityError, clip_weights, compile_network
from pymodel.machine.errors import TatamiError
from pymodel.machine.image import Image
from pymodel.machine.memory import Section
from pymodel.machine.model import Machine
from pymodel.machine.program import MAXIMUM, SUM, Jump, Wait, encode_all
from pymodel.network.integer import Conv, Network
from pymodel.network.network_file import accuracy
from pymodel.zoo import digits
from pymodel.zoo.random_network import REUSED, random_images, random_network, random_program
from tb.common import settings
from tb.common.inside import sequencer
from tb.coverage.observe import STATES
from tb.coverage.sample import StateTimeline
from tb.env import faults, metamorphic
from tb.env.base_test import BaseTest, run
from tb.env.config import BACKPRESSURE, STREAMS, EnvConfig, RegisterKnobs
from tb.env.corners import conv, corner_networks
from tb.env.live import LiveProgram, LiveRuns
from tb.env.predictor import Subscriber
from tb.env.register_model import SEQUENCES, ClearedByOnes
from tb.env.resets import ResetStates
from tb.env.sequences import (
    BackToBack,
    BadPackets,
    BadPrograms,
    BarePrograms,
    EveryStatus,
    Inference,
    MachineSequence,
    PacketBehindAnError,
    ResetsElsewhere,
    ResetSweep,
    Unwritten,
    WhileBusy,
)
from tb.env.spoil import bad_packets, bad_programs
from tb.plain.check import Expected, Outcome, compare_tensor, expect
from tb.psa_top.handmade import HandMade, endless
from tb.psa_top.test_digits import SEED, flip_slot

Int8Array = npt.NDArray[np.int8]

LANES = 40  # of a small program, in passes


class Recorder(Subscriber):
    """Keeps the whole packets of the out stream."""

    def __init__(self) -> None:
        self.packets: list[bytes] = []

    def sent(self, packet: bytes, whole: bool) -> None:
        if whole:
            self.packets.append(packet)


def small_program(rng: np.random.Generator, config: EnvConfig, pixels: int = 2500) -> tuple[Network, Image]:
    """A random program of at least two convolutions with real weights. All its tensors together have fewer
    than `pixels` pixels.

    It is small enough to be run a hundred times.
    """
    while True:
        network = random_network(rng, config.array)
        convs = [
            layer
            for layer in network.layers
            if isinstance(layer, Conv) and np.count_nonzero(layer.weight) > 8
        ]
        if len(convs) < 2 or sum(int(np.prod(s)) for s in network.shapes.values()) >= pixels:
            continue
        try:
            image = compile_network(
                network,
                config.array,
                seed=int(rng.integers(2**31)),
                chunk_words=int(rng.integers(2, 9)),
                reuse=False,  # some tests run it again without its input
            )
        except CapacityError:
            continue
        if len(image.section("LANE").words) <= LANES * config.array.size:
            return network, image


class RandomTest(BaseTest):
    """Random legal programs, each loaded over the one before. Streams and register delays are drawn from the
    seed.
    """

    PROGRAMS = 3

    async def stimulus(self) -> None:
        if self.config.fault == faults.UNWRITTEN:
            await Unwritten().run(self.env)
        rng = self.config.rng("programs")
        programs = [random_program(rng, self.config.array, reused=REUSED) for _ in range(self.PROGRAMS)]
        await BackToBack(programs).run(self.env)


class CornerTest(BaseTest):
    """Programs at the limits of the machine, and programs with almost no content."""

    async def stimulus(self) -> None:
        await BarePrograms().run(self.env)
        programs = []
        for name, drawn in corner_networks(self.config.rng("corners"), self.config.array):
            network = clip_weights(drawn, self.config.array)
            self.logger.info("corner: %s", name)
            programs.append((network, compile_network(network, self.config.array, seed=1)))
        await BackToBack(programs).run(self.env)


class StreamTest(BaseTest):
    """The same program under a storm of backpressure and with a starved in stream, with the profile changed
    at every image, and with a slow host.
    """

    def configure(self, config: EnvConfig) -> None:
        config.in_stream, config.out_stream = STREAMS["starved"], BACKPRESSURE["storm"]
        config.registers = RegisterKnobs(burst=(1, 3), idle=(0, 20), answers=BACKPRESSURE["trickle"])

    async def stimulus(self) -> None:
        network, image = small_program(self.config.rng("programs"), self.config)
        first = True
        for profile in ("storm", "trickle", "half", "storm", "ready"):
            self.env.stream_out.ready.use(BACKPRESSURE[profile])
            await Inference(image, random_images(self.config.rng(profile), network, 1), fresh=first).run(
                self.env
            )
            first = False


class BusyTest(BaseTest):
    """The actions of a host while a program runs; masked interrupts."""

    def configure(self, config: EnvConfig) -> None:
        """The host lets answers wait, but not for long, and it does not pause. A run is no longer than some
        fifty accesses.
        """
        super().configure(config)
        config.registers = replace(config.registers, idle=(0, 0), answers=BACKPRESSURE["half"])

    async def stimulus(self) -> None:
        await WhileBusy(*small_program(self.config.rng("programs"), self.config)).run(self.env)


class PacketTest(BaseTest):
    """Every bad packet."""

    async def stimulus(self) -> None:
        rng = self.config.rng("errors")
        network, image = small_program(rng, self.config, 500)
        packets = bad_packets(rng, self.config.array)
        await BadPackets(image, random_images(rng, network, 1)[0], packets).run(self.env)
        await PacketBehindAnError(packets[0][1]).run(self.env)


class ProgramTest(BaseTest):
    """Every bad program."""

    async def stimulus(self) -> None:
        rng = self.config.rng("errors")
        network, image = small_program(rng, self.config, 500)
        await BadPrograms(image, random_images(rng, network, 1)[0], bad_programs(rng, image)).run(self.env)


class ResetTest(BaseTest):
    """A soft reset in every cycle of a short program, and resets of both kinds everywhere else. Soft resets
    must have met every state of the sequencer.

    In the sweep, host and out stream have no delays, so that resets are a cycle apart. The first few cycles
    of a program are over before a host can end it, but a second layer goes through the same states.
    """

    LEAD = 3  # cycles from START to a soft reset that follows at once
    STEP = 5  # on the larger arrays, only every fifth cycle is used while a state of the sequencer lasts

    async def stimulus(self) -> None:
        rng = self.config.rng("resets")
        t = self.config.array.size
        layers = (
            conv("c", "input", rng.integers(-128, 128, (t + 1, 1, 1, 1))),
            conv("d", "c", rng.integers(-128, 128, (1, t + 1, 1, 1))),
        )
        network = clip_weights(Network("short", (1, 2, t + 1), layers), self.config.array)
        image = compile_network(network, self.config.array, seed=1)
        tensor = rng.integers(-128, 128, (1, 2, t + 1)).astype(np.int8)
        machine = Machine(self.config.array)
        machine.load(image.sections)
        run = machine.run(image.run_start)
        length = run.cycles + 10
        landed = ResetStates()
        self.env.checker.subscribers.append(landed)
        if self.config.four_state:
            cocotb.start_soon(self.look_inside())
        self.env.registers.use(RegisterKnobs())
        self.env.stream_out.ready.use(BACKPRESSURE["ready"])
        await ResetSweep(
            image, tensor, self.delays(StateTimeline.of(machine, image.run_start, run), length)
        ).run(self.env)
        self.env.registers.use(self.config.registers)
        self.env.stream_out.ready.use(self.config.out_stream)
        await ResetsElsewhere(image, tensor, length).run(self.env)
        await self.env.settle()
        landed.check(self.inside if self.config.four_state else None)

    def delays(self, timeline: StateTimeline, length: int) -> list[int]:
        """Cycles from the answer to START to a soft reset."""
        step = 1 if self.config.array.size == 4 else self.STEP
        phase = int(self.config.rng("delays").integers(step))
        around = [{timeline.at(delay + self.LEAD + i) for i in (-1, 0, 1)} for delay in range(length)]
        return [delay for delay, states in enumerate(around) if len(states) > 1 or delay % step == phase]

    async def look_inside(self) -> None:
        """The sequencer's own state at every soft reset. Only Icarus shows it."""
        self.inside: list[str] = []
        machine = self.config.dut.dut
        while True:
            await RisingEdge(machine.soft_reset)
            await ReadOnly()
            self.inside.append(STATES[int(sequencer(self.config.dut).state_reg.value)])


class LiveTest(BaseTest):
    """Hand-made programs that are loaded while they run: input after input, with a HOLD before each, and all
    tables behind a WAIT.
    """

    wanted = (*BaseTest.wanted, "live", "waited")

    async def stimulus(self) -> None:
        rng, array = self.config.rng("live"), self.config.array
        programs = []
        # Icarus takes minutes for the second, which is there for what it does beside sums
        for modes in ((SUM, MAXIMUM),) if self.config.four_state else ((SUM, MAXIMUM), (MAXIMUM,)):
            made = HandMade(array, rng, modes)
            shape = array.group, made.end, array.size
            inputs = [rng.integers(-128, 128, shape).astype(np.int8) for _ in range(3)]
            tables = made.sections(inputs[0])
            sections, stream = endless(made, inputs, holds=True)
            programs.append(LiveProgram("input after input", [*tables, *sections], stream, made.start - 2))
            behind = Section("PROGRAM", made.start - 2, encode_all([Wait(len(tables)), Jump(made.start)]))
            order = [tables[i] for i in rng.permutation(len(tables))]
            programs.append(LiveProgram("all memories", [behind], order, behind.address))
        await LiveRuns(programs).run(self.env)


class RegisterTest(BaseTest):
    """The register sequences: reset values, access policies, bit bash, reserved bits, strobes, addresses
    without a register, bits cleared by ones.
    """

    wanted = ("answers",)

    async def stimulus(self) -> None:
        await PowerUp().run(self.env)
        self.checks = 0
        model = self.env.model
        for sequence in (
            *(kind(model) for kind in SEQUENCES),
            ClearedByOnes(model, lambda: EveryStatus().run(self.env)),
        ):
            await sequence.start(self.env.registers.sequencer)
            assert sequence.checks, f"{sequence.get_name()} checked nothing"
            self.checks += sequence.checks

    def results(self) -> dict[str, Any]:
        return {"checks": self.checks}


class PowerUp(MachineSequence):
    async def body(self) -> None:
        await self.power_up(interrupts=0)


Derive = Callable[[Image, np.random.Generator], Image]
ORACLES: dict[str, Derive] = {
    "permuted banks": metamorphic.permuted_banks,
    "permuted channels and groups": metamorphic.permuted_channels,
    "more passes": metamorphic.split_passes,
    "split tiles, permuted filters": metamorphic.split_tiles,
}


class MetamorphicTest(BaseTest):
    """Images that must give the same planes: channels and groups permuted, dense with zeros filled in, lanes
    distributed over more passes, tiles split, words used again by later layers.
    """

    async def stimulus(self) -> None:
        rng = self.config.rng("metamorphic")
        network, images = self.draw(rng)
        self.env.checker.subscribers.append(recorder := Recorder())
        inputs = random_images(rng, network, 1)
        planes: dict[str, dict[str, Int8Array]] = {}
        self.compared = 0
        for name, image in images.items():
            await Inference(image, inputs, fresh=not planes).run(self.env)
            await self.env.settle()
            planes[name] = metamorphic.planes(image, recorder.packets[-len(image.dumps) :])
            self.compare(planes["plain"], planes[name], name)

    def draw(self, rng: np.random.Generator) -> tuple[Network, dict[str, Image]]:
        """A program whose second images all fit into the machine, and these images."""
        while True:
            network, image = small_program(rng, self.config)
            try:
                return network, {
                    "plain": image,
                    "dense, zeros filled in": compile_network(
                        network, self.config.array, packing="dense", seed=1
                    ),
                    "words used again": compile_network(network, self.config.array, seed=1, reuse=True),
                    **{name: derive(image, rng) for name, derive in ORACLES.items()},
                }
            except TatamiError:
                continue

    def compare(self, first: dict[str, Int8Array], second: dict[str, Int8Array], name: str) -> None:
        for tensor, plane in first.items():
            wrong = np.argwhere(plane != second[tensor])
            self.compared += plane.size
            assert not len(wrong), (
                f"{name}: tensor {tensor} differs at (filter, row, column) {wrong[0].tolist()}, one of"
                f" {len(wrong)}"
            )

    def results(self) -> dict[str, Any]:
        return {"planes_compared": self.compared}


class DigitsTest(BaseTest):
    """The trained network. Besides the scoreboard, the reference checks every plane. The reference does not
    use the image.

    With the option `flip` the image that the machine gets has a wrong bit. The scoreboard sees the same image
    and finds no difference; the reference must find it.
    """

    def configure(self, config: EnvConfig) -> None:
        """Streams without gaps, as in the plain test."""

    async def stimulus(self) -> None:
        data = digits.load()
        network = clip_weights(data.network, self.config.array)
        image = compile_network(network, self.config.array, packing="tight", seed=SEED)
        image.save(Path("digits.tatami"))
        rng = self.config.rng("images")
        count = settings.images()
        chosen = np.sort(rng.permutation(len(data.images))[:count])
        expected = expect(image, network, data.images[chosen])
        self.outcome = Outcome()
        self.accuracy = 0.0
        loaded, self.flipped = flip_slot(image, rng) if settings.get().flip else (image, {})
        self.env.checker.subscribers.append(recorder := Recorder())
        await Inference(loaded, data.images[chosen]).run(self.env)
        await self.env.settle()
        self.hold_against(image, recorder.packets, expected, count)
        output = image.placements[image.output]
        logits = [self.planes[index][output.name].reshape(-1) for index in range(count)]
        self.accuracy = accuracy(np.stack(logits), data.labels[chosen])

    def hold_against(self, image: Image, packets: list[bytes], expected: Expected, count: int) -> None:
        """Compares the tensors in the dumps with the reference."""
        each = 1 + len(image.dumps)  # the network's own packet, then the dump's
        assert len(packets) == each * count, f"{len(packets)} packets came, expected {each * count}"
        self.planes = []
        for index in range(count):
            dump = packets[index * each + 1 : (index + 1) * each]
            self.planes.append(metamorphic.planes(image, dump))
            for name in image.placements:
                parts = [
                    (d.bank, np.frombuffer(p, np.int8))
                    for d, p in zip(image.dumps, dump, strict=True)
                    if d.tensor == name
                ]
                compare_tensor(
                    image, name, [p for _, p in parts], expected, index, self.outcome, [b for b, _ in parts]
                )
            self.outcome.images += 1

    def results(self) -> dict[str, Any]:
        return {
            "images": self.outcome.images,
            "accuracy": self.accuracy,
            "mismatches": self.outcome.mismatches,
            **self.flipped,
        }

    def check_phase(self) -> None:
        self.outcome.check()


@cocotb.test()
async def env_random(_: Any) -> None:
    await run(RandomTest)


@cocotb.test()
async def env_corners(_: Any) -> None:
    await run(CornerTest)


@cocotb.test()
async def env_streams(_: Any) -> None:
    await run(StreamTest)


@cocotb.test()
async def env_busy(_: Any) -> None:
    await run(BusyTest)


@cocotb.test()
async def env_packets(_: Any) -> None:
    await run(PacketTest)


@cocotb.test()
async def env_programs(_: Any) -> None:
    await run(ProgramTest)


@cocotb.test()
async def env_resets(_: Any) -> None:
    await run(ResetTest)


@cocotb.test()
async def env_live(_: Any) -> None:
    await run(LiveTest)


@cocotb.test()
async def env_registers(_: Any) -> None:
    await run(RegisterTest)


@cocotb.test()
async def env_metamorphic(_: Any) -> None:
    await run(MetamorphicTest)


@cocotb.test()
async def env_digits(_: Any) -> None:
    await run(DigitsTest)
