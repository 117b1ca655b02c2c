"""Programs that are loaded while they run, for the environment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cocotb
from cocotb.task import Task

from pymodel.machine.memory import Hold, Live, Packet, Section, hold_packet, live_packets, memories, packet
from pymodel.machine.program import End, Wait, encode_all
from pymodel.machine.registers import COUNTERS
from tb.env.sequences import TIMEOUT_CYCLES, MachineSequence
from tb.env.spoil import bad_packets


@dataclass(frozen=True)
class LiveProgram:
    """A program: what must be in the memories when it is started at word `start`, and what its live stream
    brings.
    """

    name: str
    before: Sequence[Section]
    stream: Sequence[Live]
    start: int


class LiveRuns(MachineSequence):
    """Programs that are loaded while they run: to their end, into a deadlock, into a bad packet, and cut off
    by resets of both kinds. What resets and errors leave in the stream comes when no program runs.
    """

    def __init__(self, programs: Sequence[LiveProgram]) -> None:
        super().__init__()
        self.programs = programs

    async def body(self) -> None:
        await self.power_up()
        await self.blank("FEATURE")
        for program in self.programs:
            self.env.logger.info("live program: %s", program.name)
            await self.load_before(program)
            await self.to_the_end(program)
            await self.dump_banks()
            for hard in (False, True):
                await self.load_before(program)
                await self.cut_off(program, hard)
                await self.dump_banks()
        for offered in (hold_packet(self.config, Hold(1)), self.spare(live=False)):
            await self.stuck(offered)
        bad = bad_packets(self.rng, self.config)
        for index in self.rng.permutation(len(bad))[:6].tolist():
            await self.stopped_by(Packet(bad[index][1]))
        await self.dump_banks()

    def spare(self, *, live: bool) -> Packet:
        """The last words of a bank."""
        words = self.rng.integers(-128, 128, (3, self.config.size, 1))
        bank = int(self.rng.integers(self.config.group))
        section = Section("FEATURE", self.config.feature_depth - 3, words, bank)
        return packet(memories(self.config)["FEATURE"], section, live=live)

    async def load_before(self, program: LiveProgram) -> None:
        await self.load(packet(memories(self.config)[s.memory], s) for s in program.before)

    def send_meanwhile(self, packets: Sequence[Packet]) -> Task[None]:
        return cocotb.start_soon(self.send([p.beats for p in packets]))

    async def to_the_end(self, program: LiveProgram) -> None:
        """The counters are read while it runs, too."""
        await self.begin(program.start)
        sending = self.send_meanwhile(live_packets(self.config, program.stream))
        while not sending.done():
            await self.read(str(self.rng.choice(["STATUS", *COUNTERS])))
            await self.env.cycles(int(self.rng.integers(60)))
        await sending
        await self.env.interrupt(TIMEOUT_CYCLES)
        await self.write("IRQ_STATUS", await self.read("IRQ_STATUS"))
        await self.counters()

    async def cut_off(self, program: LiveProgram, hard: bool) -> None:
        """By a reset somewhere in the stream."""
        packets = live_packets(self.config, program.stream)
        beats = sum(len(p.beats) for p in packets)
        await self.begin(program.start)
        sending = self.send_meanwhile(packets)
        await self.env.cycles(int(self.rng.integers(2 * beats)))
        if hard:
            await self.power_up()
            await self.look()
        else:
            await self.soft_reset()
            await self.look()
        await sending
        await self.env.settle()

    async def wait_in_vain(self) -> None:
        """A program that waits for two packets begins."""
        spec, address = memories(self.config)["PROGRAM"], self.config.program_depth - 2
        await self.load([packet(spec, Section("PROGRAM", address, encode_all([Wait(2), End()])))])
        await self.begin(address)

    async def stuck(self, offered: Packet) -> None:
        """A deadlock: the stream waits for the program."""
        await self.wait_in_vain()
        sending = self.send_meanwhile([self.spare(live=True), offered, self.spare(live=True)])
        await self.wait()
        await self.look()
        await self.counters()
        await self.soft_reset()
        await sending
        await self.look_after_soft_reset()

    async def stopped_by(self, bad: Packet) -> None:
        """A bad packet while a program waits. If it is not live, the program is stuck before."""
        await self.wait_in_vain()
        sending = self.send_meanwhile([self.spare(live=True), bad])
        await self.wait()
        await self.look()
        await self.counters()
        await self.soft_reset()
        await sending
        await self.env.settle()
        if (await self.status())["ERROR"]:  # the bad packet came behind the reset
            await self.look()
            await self.soft_reset()
            await self.env.settle()
