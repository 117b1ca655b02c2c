"""psa_load: what a packet writes and which error it causes, as a function of the packet, beat by beat.

Model: `judge` reads the whole packet. A word is written in the cycle after the beat that completes it. An
error comes with its beat. Nothing else is ever written or reported. Ready is high, unless there is a soft
reset, or `hold` is high at the start of a packet.

Corners:

- every destination; one word, many; the first and last address
- each error alone, and the first of two (destination, range, short, long)
- the first destination that does not exist (activation tables are one more), and 255; a bank beyond the
  group, and a bank for a memory without banks
- no words; one word past the end; an address of more than 16 bits, and one that wraps in 32
- a header with tlast, payloads cut at any beat, one beat too long and many
- random bits above a word's own bits
- gaps, with garbage in them
- hold at the start of a packet (it waits) and inside (it continues)
- soft reset between packets, in a payload, after a whole word, in a packet that is dropped, twice
- hard reset inside a packet
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import cocotb
import numpy as np

from pymodel.machine.errors import ErrorCode
from pymodel.machine.memory import BEAT_BITS, header_beat, memories
from tb.common import settings
from tb.common.block import Bench, chance, edgy, landmarks
from tb.common.seeding import numpy_rng
from tb.common.words import config_of

HEADER_BEATS = 1
KINDS = (
    "good",
    "good",
    "good",
    "destination",
    "bank",
    "no_words",
    "past_the_end",
    "high_address",
    "wrap",
    "header_only",
    "short",
    "long",
    "several",
)


@dataclass(frozen=True)
class Target:
    """A memory as the load stream sees it."""

    destination: int
    depth: int
    beats: int
    banks: int


@dataclass(frozen=True)
class Write:
    destination: int
    bank: int
    address: int
    data: int


@dataclass
class PacketVerdict:
    """The effects of a packet, by the number of the beat that causes them."""

    destination: int = 0
    writes: dict[int, Write] = field(default_factory=dict)
    error: tuple[int, ErrorCode] | None = None


def targets() -> dict[int, Target]:
    parameters = settings.parameters()
    specs = memories(config_of(parameters)).values()
    return {
        m.destination: Target(m.destination, m.depth, parameters.get(f"{m.name}_BEATS", 1), m.banks)
        for m in specs
    }


def judge(beats: Sequence[int], known: dict[int, Target]) -> PacketVerdict:
    """The packet as docs/formats.md describes it. `beats` end with tlast."""
    destination, bank, words, address = (
        beats[0] & 0xFF,
        beats[0] >> 8 & 0xFF,
        beats[0] >> 16 & 0xFFFF,
        beats[0] >> 32,
    )
    target = known.get(destination)
    if target is None or bank >= target.banks:
        return PacketVerdict(destination, error=(0, ErrorCode.LOAD_DESTINATION))
    if words == 0 or address + words > target.depth:
        return PacketVerdict(destination, error=(0, ErrorCode.LOAD_RANGE))
    payload = beats[HEADER_BEATS:]
    whole = min(words, len(payload) // target.beats)
    verdict = PacketVerdict(destination)
    for n in range(whole):
        data = sum(
            beat << BEAT_BITS * i for i, beat in enumerate(payload[n * target.beats : (n + 1) * target.beats])
        )
        verdict.writes[(n + 1) * target.beats] = Write(destination, bank, address + n, data)
    if len(payload) < words * target.beats:
        verdict.error = (len(beats) - 1, ErrorCode.LOAD_SHORT)
    elif len(payload) > words * target.beats:
        verdict.error = (words * target.beats, ErrorCode.LOAD_LONG)
    return verdict


def random_packet(rng: np.random.Generator, known: dict[int, Target], kind: str) -> list[int]:
    """A packet with the fault that `kind` names."""
    target = known[int(rng.choice(list(known)))]
    destination, bank = target.destination, edgy(rng, 0, target.banks - 1)
    words = edgy(rng, 1, min(4, target.depth))
    address = edgy(rng, 0, target.depth - words, 0.5)
    length = words * target.beats
    if kind in ("destination", "several"):
        destination = edgy(rng, len(known), 255, 0.5)
    elif kind == "bank":
        bank = edgy(rng, target.banks, 255, 0.5)
    if kind in ("no_words", "several"):
        words = 0
    elif kind == "past_the_end":
        address = target.depth - words + 1
    elif kind == "high_address":
        address |= 1 << int(rng.integers(16, 32))
    elif kind == "wrap":
        address = 2**32 - words
    if kind == "header_only" or (kind == "several" and chance(rng, 0.5)):
        length = 0
    elif kind == "short":
        length = int(rng.integers(length))
    elif kind == "long":
        length += int(rng.choice([1, 1, target.beats, 2 * target.beats + 1]))
    payload = rng.integers(0, 2**64 - 1, size=length, dtype=np.uint64, endpoint=True).tolist()
    return [header_beat(destination, bank, words, address), *payload]


class LoaderBench:
    """The block, and the expected place in the packet."""

    def __init__(self, dut: Any) -> None:
        self.bench = Bench(dut, "rst", "soft_reset", "s_axis_tdata", "s_axis_tvalid", "s_axis_tlast", "hold")
        self.targets = targets()
        self.verdict = PacketVerdict()
        self.place = 0  # the next beat's, in its packet
        self.due: Write | None = None
        self.errors: dict[str, int] = {code.name: 0 for code in ErrorCode if code.name.startswith("LOAD_")}
        self.destinations: set[int] = set()
        self.ends: set[int] = set()  # destinations whose last word was written

    @property
    def inside(self) -> bool:
        """Some beats of a packet were taken, and more must come."""
        return self.place > 0

    async def reset(self) -> None:
        await self.bench.reset(soft_reset=0, s_axis_tvalid=0, hold=0)
        self.place, self.due = 0, None

    async def cycle(
        self, packet: Sequence[int] | None = None, *, soft_reset: bool = False, hold: bool = False
    ) -> bool:
        """One cycle that offers the next beat of `packet`, if there is one. True if the beat was taken."""
        ready = not soft_reset and (self.inside or not hold)
        taken = ready and packet is not None
        place = self.place
        if taken and packet is not None and place == 0:
            self.verdict = judge(packet, self.targets)
        pins = (
            {}
            if packet is None
            else {"s_axis_tdata": packet[place], "s_axis_tlast": int(place == len(packet) - 1)}
        )
        await self.bench.cycle(
            rst=0, soft_reset=int(soft_reset), hold=int(hold), s_axis_tvalid=int(packet is not None), **pins
        )
        self.check(ready, taken)
        if taken and packet is not None:
            self.due = self.verdict.writes.get(place)
            self.place = (place + 1) % len(packet)
        if soft_reset:
            self.verdict = PacketVerdict()
        return taken

    def check(self, ready: bool, taken: bool) -> None:
        bench = self.bench
        bench.expect(
            s_axis_tready=int(ready), loading=int(self.inside or taken), ld_valid=int(self.due is not None)
        )
        if self.due is not None:
            target = self.targets[self.due.destination]
            bench.expect(ld_dest=self.due.destination, ld_bank=self.due.bank, ld_addr=self.due.address)
            bench.expect_parts("ld_data", target.beats * BEAT_BITS, {0: self.due.data})
            self.destinations.add(target.destination)
            if self.due.address == target.depth - 1:
                self.ends.add(target.destination)
            self.due = None
        error = self.verdict.error
        if taken and error is not None and self.place == error[0]:
            bench.expect(err_valid=1, err_code=error[1], err_info=self.verdict.destination)
            self.errors[error[1].name] += 1
        else:
            bench.expect(err_valid=0)

    async def send(
        self, packet: Sequence[int], beats: int | None = None, *, rng: np.random.Generator | None = None
    ) -> None:
        """Sends a packet, or its next `beats` beats. With `rng`, gaps and holds come at random."""
        left = len(packet) - self.place if beats is None else beats
        while left:
            gap = rng is not None and chance(rng, 0.3)
            hold = rng is not None and chance(rng, 0.3)
            left -= await self.cycle(None if gap else packet, hold=hold)


@cocotb.test()
async def packets_of_every_kind(dut: Any) -> None:
    rng = numpy_rng("packets")
    loader = LoaderBench(dut)
    await loader.reset()
    for index in range(150):
        kind = KINDS[index % len(KINDS)]
        await loader.send(random_packet(rng, loader.targets, kind), rng=rng if index % 3 else None)
    for target in loader.targets.values():
        words = min(2, target.depth)
        header = header_beat(target.destination, target.banks - 1, words, target.depth - words)
        payload = rng.integers(0, 2**64 - 1, size=words * target.beats, dtype=np.uint64).tolist()
        await loader.send([header, *payload])
    await loader.cycle()
    assert loader.destinations == loader.ends == set(loader.targets)
    loader.bench.done(**loader.errors)


@cocotb.test()
async def soft_and_hard_reset_in_every_state(dut: Any) -> None:
    rng = numpy_rng("resets")
    loader = LoaderBench(dut)
    await loader.reset()
    cut = 0
    for kind in KINDS * 4:
        await loader.cycle(soft_reset=True)  # between packets: nothing to drop
        good = random_packet(rng, loader.targets, "good")
        await loader.cycle(good, soft_reset=True)  # the header waits
        await loader.send(good)
        packet = random_packet(rng, loader.targets, kind)
        # the second and third come while a packet is being dropped
        for _ in range(int(rng.integers(1, 3, endpoint=True))):
            part = int(rng.integers(len(packet) - loader.place))
            await loader.send(packet, part, rng=rng)
            await loader.cycle(packet if chance(rng, 0.5) else None, soft_reset=True, hold=chance(rng, 0.5))
            cut += loader.inside
        if chance(rng, 0.3) and loader.inside:
            await loader.reset()
        else:
            await loader.send(packet, rng=rng)
    await loader.cycle()
    loader.bench.done(resets_in_a_packet=cut)


@cocotb.test()
async def hold_stops_packets_only_at_their_start(dut: Any) -> None:
    rng = numpy_rng("hold")
    loader = LoaderBench(dut)
    await loader.reset()
    packet = random_packet(rng, loader.targets, "long")
    for _ in range(20):
        assert not await loader.cycle(packet, hold=True)
    assert await loader.cycle(packet)
    for _ in packet[HEADER_BEATS:]:
        assert await loader.cycle(packet, hold=True)
    for _ in range(20):
        assert not await loader.cycle(packet, hold=True)
    loader.bench.done(**{"LOAD_LONG": loader.errors["LOAD_LONG"]})


@cocotb.test()
async def counts_and_addresses_past_every_power_of_two(dut: Any) -> None:
    """Words of each memory next to every power of two, and packets of 2**k + 1 words that are begun and cut
    off. With a bit too few, they would end with their first word.
    """
    rng = numpy_rng("landmarks")
    loader = LoaderBench(dut)
    await loader.reset()
    for target in loader.targets.values():
        for address in landmarks(target.depth - 1):
            header = header_beat(target.destination, target.banks - 1, 1, address)
            payload = rng.integers(0, 2**64 - 1, size=target.beats, dtype=np.uint64).tolist()
            await loader.send([header, *payload])
    await loader.cycle()
    begun = 0
    target = next(target for target in loader.targets.values() if target.beats == 1 and target.banks == 1)
    most = min(target.depth, 65535)
    for words in sorted({min(most, (1 << power) + 1) for power in range(1, 17)}):
        packet = [header_beat(target.destination, 0, words, target.depth - words), *[0] * words]
        await loader.send(packet, min(4, len(packet)))
        begun += loader.inside
        await loader.reset()
    loader.bench.done(begun=begun)
