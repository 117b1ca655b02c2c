"""Stimulus for the whole machine. A sequence says what happens at the pins, and never what the result must
be. The scoreboard decides that.

`MachineSequence` has the operations of a host. The sequences below use them. `corners.py`, `spoil.py` and
`metamorphic.py` have the images and packets that they send.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence

import cocotb
import numpy as np
from pyuvm import uvm_sequence

from pymodel.machine.image import Image
from pymodel.machine.memory import Beats, Packet, Section, memories, packet, to_beats
from pymodel.machine.program import End, Out, encode_all
from pymodel.machine.registers import COUNTERS, REGISTERS
from pymodel.network.integer import Network
from pymodel.zoo.random_network import random_images
from tb.coverage.operations import sample_network
from tb.env.agents import LoadItem, RegisterItem
from tb.env.corners import bare_programs
from tb.env.env import Environment
from tb.env.register_model import SoftResetValues
from tb.env.spoil import Spoiled
from tb.plain.host import DONE, ERROR, LOAD_RESET, SEND_POLLS, SOFT_RESET, START

TIMEOUT_CYCLES = 200_000
LOAD_POLLS = 20


class MachineSequence(uvm_sequence):
    """The operations of a host. Start it with `await sequence.run(env)`."""

    def __init__(self) -> None:
        super().__init__(type(self).__name__)

    async def run(self, env: Environment) -> None:
        self.env = env
        self.config = env.config.array
        self.rng = env.config.rng(self.get_name())
        self.held: dict[str, int] = {}  # what this sequence has written to the registers that keep it
        await self.start(None)

    # registers

    async def access(self, write: bool, address: int, data: int = 0, strobe: int = 0xF) -> RegisterItem:
        item = RegisterItem(write, address, data, strobe)
        sequencer = self.env.registers.sequencer
        await sequencer.start_item(item)
        await sequencer.finish_item(item)
        item.check()
        return item

    async def read(self, name: str) -> int:
        return (await self.access(False, REGISTERS[name].address)).data

    async def write(self, name: str, value: int) -> bool:
        """Returns whether the write was granted."""
        if REGISTERS[name].access == "RW":
            self.held[name] = value
        return (await self.access(True, REGISTERS[name].address, value)).okay

    async def status(self) -> dict[str, int]:
        return REGISTERS["STATUS"].decode(await self.read("STATUS"))

    async def counters(self) -> None:
        for name in COUNTERS:
            await self.read(name)

    async def look(self) -> None:
        """Reads the registers that an error or a reset has changed."""
        for name in ("STATUS", "ERROR", "IRQ_STATUS"):
            await self.read(name)

    # loading

    async def send(self, packets: Iterable[Beats], last: bool = True) -> None:
        """Sends packets back to back, and returns when the last beat was taken."""
        item = LoadItem(tuple(packets), last)
        sequencer = self.env.stream_in.sequencer
        await sequencer.start_item(item)
        await sequencer.finish_item(item)
        if item.error is not None:
            raise item.error

    async def load(self, packets: Iterable[Packet]) -> None:
        """Sends packets, and waits until they are written."""
        await self.send(p.beats for p in packets)
        for _ in range(LOAD_POLLS):
            if not (await self.status())["LOADING"]:
                return
        raise AssertionError(f"STATUS.LOADING is still set after {LOAD_POLLS} reads")

    async def load_image(self, image: Image) -> None:
        self.env.checker.image = image
        await self.load(image.packets())

    async def blank(self, *names: str) -> None:
        """Writes zeros to all words of some memories, for programs that use words which nothing else
        writes.
        """
        for spec in (memories(self.config)[name] for name in names):
            await self.load(
                packet(spec, Section(spec.name, 0, spec.zeros(spec.depth), bank))
                for bank in range(spec.banks)
            )

    async def bad_packet(self) -> None:
        """A packet with a destination that does not exist."""
        await self.send([to_beats([0xFF, 1, 2], self.config.stream_bits)])

    # running

    async def begin(self, address: int) -> bool:
        """START at a program word. Returns whether it was granted."""
        if self.held.get("PROGRAM_START") != address:
            await self.write("PROGRAM_START", address)
        return await self.write("CONTROL", START)

    async def wait(self) -> None:
        """Waits for the interrupt, and acknowledges it."""
        await self.env.interrupt(TIMEOUT_CYCLES)
        await self.write("IRQ_STATUS", await self.read("IRQ_STATUS"))

    async def execute(self, address: int) -> None:
        """Runs a program to its end, or to its error, and reads all counters."""
        if await self.begin(address):
            await self.wait()
            await self.counters()

    async def infer(self, image: Image, tensor: np.ndarray) -> None:
        """Loads an input, runs the network, and then the program that sends every tensor."""
        await self.load(image.tensor_packets("input", tensor))
        await self.execute(image.run_start)
        await self.load(image.dump_packets("input", tensor))
        await self.execute(image.dump_start)

    async def dump_banks(self) -> None:
        """Sends every word of every bank, with a program at the end of the program memory."""
        spec = memories(self.config)["PROGRAM"]
        banks = range(self.config.group)
        words = encode_all([*(Out(bank, 0, self.config.feature_depth) for bank in banks), End()])
        address = self.config.program_depth - len(words)
        await self.load([packet(spec, Section("PROGRAM", address, words))])
        await self.execute(address)

    async def soft_reset(self, *, anew: bool = False) -> None:
        """Also waits for the end of a packet that it has cut. `anew`: begins the load stream anew."""
        await self.write("CONTROL", SOFT_RESET | LOAD_RESET if anew else SOFT_RESET)
        for _ in range(SEND_POLLS):
            if not (await self.status())["SENDING"]:
                return
        raise AssertionError(f"STATUS.SENDING is still set after {SEND_POLLS} reads")

    async def look_after_soft_reset(self) -> None:
        """Reads every register. They must show nothing from before the reset."""
        await SoftResetValues(self.env.model, self.held).start(self.env.registers.sequencer)

    async def power_up(self, interrupts: int = DONE | ERROR) -> None:
        """Resets by the pin, and enables interrupts."""
        await self.env.reset()
        self.held.clear()
        await self.write("IRQ_ENABLE", interrupts)


class Inference(MachineSequence):
    """Loads an image and runs it on inputs int8 [B, C, H, W]. After each input it sends every tensor."""

    def __init__(self, image: Image, inputs: np.ndarray, *, fresh: bool = True) -> None:
        super().__init__()
        self.image = image
        self.inputs = inputs
        self.fresh = fresh

    async def body(self) -> None:
        if self.fresh:
            await self.power_up()
        await self.load_image(self.image)
        for tensor in self.inputs:
            await self.infer(self.image, tensor)


class BackToBack(MachineSequence):
    """Programs loaded over each other without a reset, with whatever the programs before have left in
    memory.
    """

    def __init__(self, programs: Sequence[tuple[Network, Image]]) -> None:
        super().__init__()
        self.programs = programs

    async def body(self) -> None:
        await self.power_up()
        for network, image in self.programs:
            sample_network(network, image)
            await self.load_image(image)
            for tensor in random_images(self.rng, network, 1):
                await self.infer(image, tensor)


class EveryStatus(MachineSequence):
    """Makes the machine set every bit of IRQ_STATUS: a run that ends, then a bad packet.

    Before that, a soft reset ends an earlier error.
    """

    async def body(self) -> None:
        await self.soft_reset()
        _, packets, start = next(bare_programs(self.config))
        await self.load(packets)
        await self.begin(start)
        await self.env.settle()
        await self.bad_packet()
        await self.env.settle()


class BarePrograms(MachineSequence):
    """Programs without a layer."""

    async def body(self) -> None:
        await self.power_up()
        await self.blank("FEATURE")
        for name, packets, start in bare_programs(self.config):
            self.env.logger.info("bare program: %s", name)
            await self.load(packets)
            await self.execute(start)


class Unwritten(MachineSequence):
    """A program sends a word that was never written. This is a fault of the stimulus, and the scoreboard must
    name it.
    """

    async def body(self) -> None:
        await self.power_up()
        for _, packets, start in bare_programs(self.config):
            await self.load(packets)
            await self.execute(start)


class WhileBusy(MachineSequence):
    """What a host must not do, or need not do, while a program runs.

    START, every register read and written, a packet, a masked interrupt.
    """

    def __init__(self, network: Network, image: Image) -> None:
        super().__init__()
        self.network = network
        self.image = image

    async def body(self) -> None:
        await self.power_up()
        await self.load_image(self.image)
        inputs = self.image.tensor_packets("input", random_images(self.rng, self.network, 1)[0])
        await self.load(inputs)
        await self.registers_while_busy()
        await self.packet_while_busy(inputs)
        await self.masked()
        await self.unmasked_late()

    async def registers_while_busy(self) -> None:
        """Every register is read while the program runs, STARTs are refused, and a new PROGRAM_START must not
        affect the run.
        """
        await self.begin(self.image.run_start)
        await self.write("CONTROL", START)
        for name in self.rng.permutation(list(REGISTERS)):
            await self.read(str(name))
            if self.rng.random() < 0.2:
                await self.write("CONTROL", START)
            if self.rng.random() < 0.2:
                await self.write("CONTROL", START | SOFT_RESET)
        for name, register in REGISTERS.items():
            if register.access == "RO":
                await self.write(name, 0xFFFFFFFF)
        await self.write("PROGRAM_START", self.image.dump_start)
        await self.wait()
        await self.counters()
        await self.execute(self.image.dump_start)

    async def packet_while_busy(self, inputs: list[Packet]) -> None:
        """A packet that arrives while a program runs has to wait."""
        await self.begin(self.image.run_start)
        await self.send(p.beats for p in inputs)
        await self.wait()
        await self.execute(self.image.dump_start)

    async def masked(self) -> None:
        """Without its enable bit the interrupt does not rise. It rises when it is enabled. Clearing the other
        bit does not change it.
        """
        for enable in (0, ERROR):
            await self.write("IRQ_ENABLE", enable)
            await self.begin(self.image.run_start)
            while (await self.status())["BUSY"]:
                await self.env.cycles(20)
            await self.read("IRQ_STATUS")
            await self.env.settle()
        await self.write("IRQ_STATUS", ERROR)
        await self.write("IRQ_ENABLE", DONE)
        await self.wait()
        await self.write("IRQ_ENABLE", DONE | ERROR)

    async def unmasked_late(self) -> None:
        """The enable bit is set and cleared while DONE is set."""
        await self.begin(self.image.run_start)
        await self.env.interrupt(TIMEOUT_CYCLES)
        for enable in (0, DONE, ERROR, DONE | ERROR):
            await self.write("IRQ_ENABLE", enable)
        await self.write("IRQ_STATUS", DONE)


class ResetSweep(MachineSequence):
    """Soft resets, each a given number of cycles after START was answered, and one when DONE is set; a reset
    by the pin in the middle. There is one run for each, and then a run that must give the full result.
    """

    def __init__(self, image: Image, tensor: np.ndarray, delays: Sequence[int]) -> None:
        super().__init__()
        self.image = image
        self.tensor = tensor
        self.delays = delays

    async def body(self) -> None:
        await self.power_up()
        await self.load_image(self.image)
        await self.load(self.image.tensor_packets("input", self.tensor))
        await self.execute(self.image.run_start)
        for delay in self.delays:
            await self.begin(self.image.run_start)
            await self.env.cycles(delay)
            await self.healthy_after_reset()
        await self.begin(self.image.run_start)
        await self.env.interrupt(TIMEOUT_CYCLES)
        await self.healthy_after_reset()
        await self.begin(self.image.run_start)
        await self.env.cycles(self.delays[len(self.delays) // 2])
        await self.power_up()
        await self.execute(self.image.run_start)
        await self.execute(self.image.dump_start)

    async def healthy_after_reset(self) -> None:
        await self.soft_reset()
        await self.look_after_soft_reset()
        await self.execute(self.image.run_start)


class ResetsElsewhere(MachineSequence):
    """Both kinds of reset: in an idle machine, inside a packet, in an error, anywhere in a run or a dump."""

    def __init__(self, image: Image, tensor: np.ndarray, length: int) -> None:
        super().__init__()
        self.image = image
        self.tensor = tensor
        self.length = length

    async def body(self) -> None:
        await self.power_up()
        await self.load_image(self.image)
        for hard in (False, True):
            for _ in range(4):
                await self.reset(hard)
                await self.healthy()
            for _ in range(6):
                await self.inside_packet(hard)
                await self.healthy()
            for fail in (self.bad_packet, self.bad_start):
                await self.in_error(fail, hard)
                await self.healthy()
            starts = self.rng.choice([self.image.run_start, self.image.dump_start, self.image.dump_start], 8)
            delays = self.rng.integers(self.length, size=8)
            for start, delay in zip(starts.tolist(), delays.tolist(), strict=True):
                await self.in_run(hard, start, delay)
                await self.healthy()

    async def reset(self, hard: bool) -> None:
        if hard:
            await self.power_up()
            await self.look()
        else:
            await self.soft_reset()
            await self.look_after_soft_reset()

    async def healthy(self) -> None:
        await self.infer(self.image, self.tensor)

    async def inside_packet(self, hard: bool) -> None:
        """The packet is cut after any of its beats.

        After a soft reset the rest is sent, and dropped, or another packet, which is reported. After a reset
        by the pin, or of both sides, it is not expected any more.
        """
        spec = memories(self.config)["FEATURE"]
        pixels = self.rng.integers(-128, 128, (6, self.config.size, 1))
        bank = int(self.rng.integers(self.config.group))
        beats = packet(
            spec, Section("FEATURE", int(self.rng.integers(self.config.feature_depth - 6)), pixels, bank)
        ).beats
        cut = int(self.rng.integers(1, len(beats)))
        await self.send([beats[:cut]], last=False)
        await self.status()
        await self.begin(self.image.run_start)  # refused
        if hard:
            await self.reset(hard)
            return
        another = packet(spec, Section("FEATURE", 0, pixels[:2], bank)).beats
        how = str(self.rng.choice(["the rest follows", "another follows", "anew"]))
        await self.soft_reset(anew=how == "anew")
        await self.look()  # LOADING, if the packet continues
        await self.send([beats[cut:] if how == "the rest follows" else another])
        await self.env.cycles(4)
        await self.look()
        if how == "another follows":
            await self.soft_reset()
        await self.look_after_soft_reset()

    async def bad_start(self) -> None:
        """A program that is not legal. Beside a packet, this is the other way to cause an error."""
        await self.begin(self.config.program_depth)

    async def in_error(self, fail: Callable[[], Awaitable[object]], hard: bool) -> None:
        await fail()
        await self.env.interrupt(TIMEOUT_CYCLES)
        await self.look()
        await self.reset(hard)

    async def in_run(self, hard: bool, start: int, delay: int) -> None:
        """In a run or a dump. In a dump a word may be waiting."""
        await self.begin(start)
        await self.env.cycles(delay)
        if not hard:
            await self.write("CONTROL", SOFT_RESET)
            await self.begin(start)  # refused while words of a packet wait
        await self.reset(hard)


class BadPackets(MachineSequence):
    """Packets that break a rule, one after the other. After each: the registers, what is refused in the
    meantime, a soft reset.

    At the end: all of memory, and a run.
    """

    def __init__(self, image: Image, tensor: np.ndarray, cases: Sequence[tuple[str, Beats]]) -> None:
        super().__init__()
        self.image = image
        self.tensor = tensor
        self.cases = cases

    async def body(self) -> None:
        await self.power_up()
        await self.blank("FEATURE")
        await self.load_image(self.image)
        for name, beats in self.cases:
            self.env.logger.info("bad packet: %s", name)
            await self.send([beats])
            await self.env.interrupt(TIMEOUT_CYCLES)
            await self.look()
            await self.write("CONTROL", START)
            await self.write("IRQ_STATUS", ERROR)
            await self.look()
            await self.soft_reset()
            await self.look()
        await self.dump_banks()
        await self.infer(self.image, self.tensor)


class PacketBehindAnError(MachineSequence):
    """A good packet after a bad one waits, and is taken after the soft reset."""

    def __init__(self, bad: Beats) -> None:
        super().__init__()
        self.bad = bad

    async def body(self) -> None:
        spec = memories(self.config)["FEATURE"]
        good = packet(
            spec, Section("FEATURE", 1, self.rng.integers(-128, 128, (2, self.config.size, 1)))
        ).beats
        sending = cocotb.start_soon(self.send([self.bad, good]))
        await self.env.interrupt(TIMEOUT_CYCLES)
        await self.env.cycles(100)
        await self.look()
        await self.soft_reset()
        await sending
        await self.look()
        await self.dump_banks()


class BadPrograms(MachineSequence):
    """Programs that break a bound. For each: the packets that spoil the image, a run, the registers, a soft
    reset, the packets that repair it, a run.

    Every tensor is sent after every fifth program.
    """

    def __init__(self, image: Image, tensor: np.ndarray, cases: Iterable[Spoiled]) -> None:
        super().__init__()
        self.image = image
        self.tensor = tensor
        self.cases = cases

    async def body(self) -> None:
        await self.power_up()
        await self.blank("FEATURE", "TAP", "EDGE")
        await self.load_image(self.image)
        await self.infer(self.image, self.tensor)
        for number, case in enumerate(self.cases):
            self.env.logger.info("bad program: %s", case.name)
            await self.load(case.spoil)
            await self.execute(case.start)
            await self.look()
            await self.write("CONTROL", START)
            await self.soft_reset()
            await self.look()
            await self.load(case.mend)
            await self.execute(self.image.run_start)
            if number % 5 == 4:
                await self.execute(self.image.dump_start)
        await self.infer(self.image, self.tensor)
