"""psa_load: what a packet writes and which error it causes, as a function of the packet, beat by beat.

Model: `judge` reads the whole packet. A word is written in the cycle after the beat that completes it. An
error comes with its beat. Nothing else is ever written or reported. Ready is high, unless there is a soft
reset, or the packet may not begin, or the beat would complete a word of a bank that the array writes too. A
packet may not begin while `hold` is high and, while a program runs, without `live`; a HOLD may not before
`hold_go` is high. While a program runs, it begins in the cycle after one in which it was offered and might.

Corners:

- every destination; one word, many; the first and last address
- each error alone, and the first of two (destination, range, short, long)
- the first destination that does not exist (activation tables are one more), and 255; a bank beyond the
  group, and a bank for a memory without banks
- no words; one word past the end; an address of more than 16 bits, and one that wraps in 32
- a header with tlast, payloads cut at any beat, one beat too long and many
- random bits above a word's own bits, and above a header's where the stream is wider than 64 bits
- gaps, with garbage in them
- hold at the start of a packet (it waits) and inside (it continues)
- live packets and others, with `busy` from their first beat to their last, at the start alone (it counts),
  inside alone (it does not); ready while `busy` and nothing is offered
- HOLDs of one layer and of the most, while busy and while not, with `hold_go` at once, late, and only while
  `hold` is high; with a bank, an address or no layers (refused at once, though `hold_go` is low), and without
  tlast
- the array's word in each beat of a packet: of the same bank and another, in the last beat of a word (it
  waits) and in others, of FEATURE and another memory, in a packet that is dropped
- the last word of packets that are right and too long, live and not: when it is written, and counted once
- soft reset between packets, in a payload, after a whole word, in a packet that is dropped, twice; the rest
  of a cut packet as long as its header says, shorter and longer, and of one that had an error before; a reset
  of both sides anywhere in a packet
- hard reset inside a packet
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import cocotb
import numpy as np

from pymodel.machine.errors import ErrorCode
from pymodel.machine.memory import HOLD, LIVE, UNIT_BITS, header_beat, memories
from tb.common import settings
from tb.common.block import Bench, chance, edgy, landmarks
from tb.common.seeding import numpy_rng
from tb.common.words import config_of, random_beats

HEADER_BEATS = 1
FEATURE = 0
MOST_LAYERS = 65535
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
    "hold",
    "hold_bank",
    "hold_address",
    "hold_no_layers",
    "hold_long",
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
    """The effects of a packet, by the number of the beat that causes them; `last`: the one that completes its
    last word. `layers`: of a HOLD. `length`: the beats that a legal header promises.
    """

    destination: int = 0
    live: bool = False
    layers: int = 0
    writes: dict[int, Write] = field(default_factory=dict)
    last: int | None = None
    length: int | None = None
    error: tuple[int, ErrorCode] | None = None

    def writes_feature(self, place: int) -> Write | None:
        """The word of FEATURE, if any, that this beat completes."""
        write = self.writes.get(place)
        return write if write is not None and write.destination == FEATURE else None


def targets() -> dict[int, Target]:
    parameters = settings.parameters()
    specs = memories(config_of(parameters)).values()
    return {
        m.destination: Target(m.destination, m.depth, parameters.get(f"{m.name}_BEATS", 1), m.banks)
        for m in specs
    }


def stream_bits() -> int:
    return settings.parameters()["STREAM_BITS"]


def payload_of(rng: np.random.Generator, beats: int) -> list[int]:
    return random_beats(rng, beats, stream_bits())


def header(rng: np.random.Generator, destination: int, bank: int, words: int, address: int) -> int:
    """The first beat of a packet, with random bits above the header."""
    above = payload_of(rng, 1)[0] >> UNIT_BITS << UNIT_BITS
    return above | header_beat(destination, bank, words, address)


def judge(beats: Sequence[int], known: dict[int, Target]) -> PacketVerdict:
    """The packet as docs/formats.md describes it. `beats` end with tlast."""
    destination, bank, words, address = (
        beats[0] & 0xFF,
        beats[0] >> 8 & 0xFF,
        beats[0] >> 16 & 0xFFFF,
        beats[0] >> 32 & 0xFFFFFFFF,
    )
    live = bool(destination & LIVE)
    if destination == HOLD:
        if bank:
            return PacketVerdict(destination, live, error=(0, ErrorCode.LOAD_DESTINATION))
        if words == 0 or address:
            return PacketVerdict(destination, live, error=(0, ErrorCode.LOAD_RANGE))
        error = (0, ErrorCode.LOAD_LONG) if len(beats) > HEADER_BEATS else None
        return PacketVerdict(destination, live, layers=words, error=error)
    target = known.get(destination & ~LIVE)
    if target is None or bank >= target.banks:
        return PacketVerdict(destination, live, error=(0, ErrorCode.LOAD_DESTINATION))
    if words == 0 or address + words > target.depth:
        return PacketVerdict(destination, live, error=(0, ErrorCode.LOAD_RANGE))
    payload = beats[HEADER_BEATS:]
    whole = min(words, len(payload) // target.beats)
    length = HEADER_BEATS + words * target.beats
    verdict = PacketVerdict(
        destination, live, last=words * target.beats if whole == words else None, length=length
    )
    for n in range(whole):
        data = sum(
            beat << stream_bits() * i
            for i, beat in enumerate(payload[n * target.beats : (n + 1) * target.beats])
        )
        verdict.writes[(n + 1) * target.beats] = Write(target.destination, bank, address + n, data)
    if len(payload) < words * target.beats:
        verdict.error = (len(beats) - 1, ErrorCode.LOAD_SHORT)
    elif len(payload) > words * target.beats:
        verdict.error = (words * target.beats, ErrorCode.LOAD_LONG)
    return verdict


def judge_rest(verdict: PacketVerdict, place: int, beats: int) -> PacketVerdict:
    """What a soft reset leaves of a packet of so many beats, of which the one at `place` is next: nothing is
    written, and an error if the rest has not the length that was promised. After an error, none is known.
    """
    promised = verdict.length if verdict.error is None or verdict.error[0] >= place else None
    end = beats if promised is None else min(beats, promised)
    error = None if promised == beats else (end - 1, ErrorCode.LOAD_CUT)
    return PacketVerdict(verdict.destination & (LIVE | 0xF), verdict.live, length=promised, error=error)


def random_packet(
    rng: np.random.Generator, known: dict[int, Target], kind: str, *, live: bool | None = None
) -> list[int]:
    """A packet with the fault that `kind` names. `live` or not at random, if it does not say; a HOLD always
    is.
    """
    if kind.startswith("hold"):
        layers = 0 if kind == "hold_no_layers" else edgy(rng, 1, MOST_LAYERS, 0.5)
        bank = edgy(rng, 1, 255, 0.5) if kind == "hold_bank" else 0
        address = 1 << int(rng.integers(32)) if kind == "hold_address" else 0
        tail = int(rng.integers(1, 3)) if kind == "hold_long" or (chance(rng, 0.2) and kind != "hold") else 0
        return [header(rng, HOLD, bank, layers, address), *payload_of(rng, tail)]
    target = known[FEATURE if chance(rng, 0.2) else int(rng.choice(list(known)))]
    destination, bank = target.destination, edgy(rng, 0, target.banks - 1)
    words = edgy(rng, 1, min(4, target.depth))
    address = edgy(rng, 0, target.depth - words, 0.5)
    length = words * target.beats
    if kind in ("destination", "several"):
        destination = edgy(rng, len(known), LIVE - 1, 0.5)
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
    payload = payload_of(rng, length)
    for place in np.flatnonzero(rng.random(length) < 0.1).tolist():
        payload[place] = header(rng, HOLD, 0, int(rng.integers(1, 4)), 0)  # as a HOLD looks, but is none
    if live or (live is None and chance(rng, 0.6)):
        destination |= LIVE
    return [header(rng, destination, bank, words, address), *payload]


class LoaderBench:
    """The block, and the expected place in the packet."""

    def __init__(self, dut: Any) -> None:
        stream = ("s_axis_tdata", "s_axis_tvalid", "s_axis_tlast")
        machine = ("hold", "busy", "soon_valid", "soon_bank", "hold_go")
        self.bench = Bench(dut, "rst", "soft_reset", "load_reset", *stream, *machine)
        self.targets = targets()
        self.verdict = PacketVerdict()
        self.beats = 0  # of the packet
        self.place = 0  # the next beat's, in its packet
        self.counts = False  # the packet began while a program ran
        self.seen_anew = 0  # packets that were cut off by a reset of both sides
        self.go = False  # the packet that was offered in the cycle before may begin, though a program runs
        self.due: Write | None = None
        self.done = False  # the word that is due is the last of a packet that counts
        self.errors: dict[str, int] = {code.name: 0 for code in ErrorCode if code.name.startswith("LOAD_")}
        self.destinations: set[int] = set()
        self.ends: set[int] = set()  # destinations whose last word was written
        self.seen = dict.fromkeys(
            (
                "began_while_busy",
                "waited_for_the_end",
                "busy_without_a_beat",
                "waited_a_cycle",
                "hold_waited",
                "hold_taken",
                "hold_while_idle",
                "bad_hold_while_busy",
                "collisions",
                "no_collision_of_another_bank",
                *(("no_collision_inside_a_word",) if self.targets[FEATURE].beats > 1 else ()),
                "no_collision_of_another_memory",
                "no_collision_of_a_rest",
                "counted",
                "not_counted",
                "counted_though_too_long",
                "program_ended_inside",
                "program_began_inside",
            ),
            0,
        )

    @property
    def inside(self) -> bool:
        """Some beats of a packet were taken, and more must come."""
        return self.place > 0

    async def reset(self) -> None:
        await self.bench.reset(soft_reset=0, s_axis_tvalid=0, hold=0, busy=0, soon_valid=0)
        self.place, self.due, self.done, self.go = 0, None, False, False

    async def cycle(
        self,
        packet: Sequence[int] | None = None,
        *,
        rst: bool = False,
        soft_reset: bool = False,
        load_reset: bool = False,
        hold: bool = False,
        busy: bool = False,
        soon: int | None = None,
        go: bool = False,
    ) -> bool:
        """One cycle that offers the next beat of `packet`, if there is one. `soon`: the bank that the array
        writes in the next cycle. True if the beat was taken.
        """
        place, offered = self.place, packet is not None
        if packet is not None and place == 0:
            self.verdict, self.beats = judge(packet, self.targets), len(packet)
        verdict = self.verdict
        held = offered and not self.inside and busy and verdict.layers > 0
        may_go = offered and not self.inside and verdict.live and (go or not held)
        if self.inside:
            write = verdict.writes_feature(place)
            ready = write is None or write.bank != soon
            self.count_collision(write, soon, ready)
        else:
            ready = not hold and (not busy or self.go)
            self.seen["waited_a_cycle"] += busy and may_go and not hold and not ready
            self.seen["waited_for_the_end"] += busy and offered and not verdict.live
            self.seen["busy_without_a_beat"] += busy and not offered
            self.seen["hold_waited"] += held and not go
        blocked = offered and not self.inside and (hold or (busy and not may_go))
        ready = ready and not soft_reset
        taken = ready and offered
        self.go = busy and may_go and not hold and not soft_reset and not taken
        pins: dict[str, int] = {}
        if packet is not None:
            pins |= {"s_axis_tdata": packet[place], "s_axis_tlast": int(place == len(packet) - 1)}
        if soon is not None:
            pins |= {"soon_bank": soon}
        if held:
            pins |= {"hold_go": int(go)}
        controls = {"rst": rst, "soft_reset": soft_reset, "hold": hold, "busy": busy}
        controls |= {"load_reset": load_reset} if soft_reset else {}  # garbage without it
        controls |= {"soon_valid": soon is not None, "s_axis_tvalid": offered}
        await self.bench.cycle(**{name: int(on) for name, on in controls.items()}, **pins)
        self.bench.expect(hold_taken=int(held and taken), blocked=int(blocked))
        if held:
            self.bench.expect(hold_layers=verdict.layers)
        self.check(ready, taken)
        if taken and packet is not None:
            if place == 0:
                self.began(busy)
            self.due = verdict.writes.get(place)
            self.done = self.counts and place == verdict.last
            self.ended(busy, place)
            self.place = (place + 1) % len(packet)
        if soft_reset and load_reset:
            self.seen_anew += self.inside
            self.place = 0
        elif soft_reset and self.inside:
            self.verdict = judge_rest(self.verdict, self.place, self.beats)
        if rst:
            self.place, self.due, self.done, self.go = 0, None, False, False
        return taken

    def began(self, busy: bool) -> None:
        self.counts = busy
        seen, verdict = self.seen, self.verdict
        seen["began_while_busy"] += busy
        if verdict.destination == HOLD and verdict.error is None:
            seen["hold_taken" if busy else "hold_while_idle"] += 1
        elif verdict.destination == HOLD and not verdict.layers:
            seen["bad_hold_while_busy"] += busy

    def ended(self, busy: bool, place: int) -> None:
        if place != self.verdict.last:
            return
        seen = self.seen
        seen["counted" if self.counts else "not_counted"] += 1
        seen["counted_though_too_long"] += self.counts and self.verdict.error is not None
        seen["program_ended_inside"] += self.counts and not busy
        seen["program_began_inside"] += busy and not self.counts

    def count_collision(self, write: Write | None, soon: int | None, ready: bool) -> None:
        if soon is None:
            return
        verdict, seen = self.verdict, self.seen
        later = [w for at, w in verdict.writes.items() if at >= self.place]
        seen["collisions"] += not ready
        seen["no_collision_of_another_bank"] += write is not None and ready
        if not later:
            seen["no_collision_of_a_rest"] += 1
        elif later[0].destination != FEATURE:
            seen["no_collision_of_another_memory"] += self.place in verdict.writes
        elif write is None and later[0].bank == soon:
            seen["no_collision_inside_a_word"] += 1

    def check(self, ready: bool, taken: bool) -> None:
        bench = self.bench
        bench.expect(
            s_axis_tready=int(ready), loading=int(self.inside or taken), ld_valid=int(self.due is not None)
        )
        bench.expect(packet_done=int(self.done))
        self.done = False
        if self.due is not None:
            target = self.targets[self.due.destination]
            bench.expect(ld_dest=self.due.destination, ld_bank=self.due.bank, ld_addr=self.due.address)
            bench.expect_parts("ld_data", target.beats * stream_bits(), {0: self.due.data})
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
        """Sends a packet, or its next `beats` beats. With `rng`, all that may stop it comes at random."""
        left = len(packet) - self.place if beats is None else beats
        busy = rng is not None and chance(rng, 0.5)
        while left:
            offered: Sequence[int] | None = packet
            pins: dict[str, bool] = {}
            soon = None
            if rng is not None:
                busy ^= chance(rng, 0.1)
                pins = {"hold": chance(rng, 0.3), "busy": busy, "go": chance(rng, 0.3)}
                offered = None if chance(rng, 0.3) else packet
                soon = self.soon(rng) if busy and chance(rng, 0.5) else None
            left -= await self.cycle(offered, **pins, soon=soon)

    def soon(self, rng: np.random.Generator) -> int:
        """The bank of a word that the array writes: often the packet's."""
        banks = [write.bank for write in self.verdict.writes.values() if write.destination == FEATURE]
        return banks[0] if banks and chance(rng, 0.5) else int(rng.integers(self.targets[FEATURE].banks))


@cocotb.test()
async def packets_of_every_kind(dut: Any) -> None:
    rng = numpy_rng("packets")
    loader = LoaderBench(dut)
    await loader.reset()
    for index in range(20 * len(KINDS)):
        kind = KINDS[index % len(KINDS)]
        await loader.send(random_packet(rng, loader.targets, kind), rng=rng if index % 3 else None)
    for target in loader.targets.values():
        words = min(2, target.depth)
        first = header(rng, target.destination, target.banks - 1, words, target.depth - words)
        await loader.send([first, *payload_of(rng, words * target.beats)])
    await loader.cycle()
    assert loader.destinations == loader.ends == set(loader.targets)
    errors = {name: number for name, number in loader.errors.items() if name != "LOAD_CUT"}
    loader.bench.done(**errors, **loader.seen)


@cocotb.test()
async def soft_and_hard_reset_in_every_state(dut: Any) -> None:
    rng = numpy_rng("resets")
    loader = LoaderBench(dut)
    await loader.reset()
    cut = live = right = 0
    for kind in KINDS * 8:
        await loader.cycle(soft_reset=True)  # between packets: nothing to drop
        good = random_packet(rng, loader.targets, "good")
        await loader.cycle(good, soft_reset=True)  # the header waits
        await loader.send(good)
        hold = random_packet(rng, loader.targets, "hold")
        await loader.cycle(hold, soft_reset=True, busy=True, go=chance(rng, 0.5))
        assert await loader.cycle(hold)  # no program runs any more
        packet = random_packet(rng, loader.targets, kind)
        # the second and third come while a packet is being dropped
        for _ in range(int(rng.integers(1, 3, endpoint=True))):
            part = int(rng.integers(len(packet) - loader.place))
            await loader.send(packet, part, rng=rng)
            live += loader.inside and loader.counts and loader.verdict.error is None
            busy = chance(rng, 0.5)
            offered = packet if chance(rng, 0.5) else None
            await loader.cycle(
                offered, soft_reset=True, hold=chance(rng, 0.5), busy=busy, go=chance(rng, 0.5)
            )
            cut += loader.inside
            right += loader.inside and loader.verdict.error is None
        if chance(rng, 0.3):
            await loader.cycle(
                packet if chance(rng, 0.5) else None, soft_reset=True, load_reset=True, busy=chance(rng, 0.5)
            )
        elif chance(rng, 0.3) and loader.inside:
            await loader.cycle(packet, rst=True, busy=chance(rng, 0.5))
            await loader.reset()
            # in the very cycle of the last beat
            whole = random_packet(rng, loader.targets, "good", live=True)
            for _ in whole:
                await loader.cycle(whole, busy=True)
            assert await loader.cycle(whole, rst=True, busy=True)
            await loader.cycle()
        else:
            await loader.send(packet, rng=rng)
    await loader.cycle()
    loader.bench.done(
        resets_in_a_packet=cut,
        resets_in_a_packet_that_counts=live,
        cut_and_continued=right,
        cut_and_not_continued=loader.errors["LOAD_CUT"],
        begun_anew=loader.seen_anew,
    )


@cocotb.test()
async def what_a_program_that_runs_lets_begin(dut: Any) -> None:
    """Packets in turn, each offered for some cycles in which it may not begin."""
    rng = numpy_rng("busy")
    loader = LoaderBench(dut)
    await loader.reset()
    for _ in range(10):
        for _ in range(5):
            assert not await loader.cycle(busy=True)  # ready must not look at what is not there
        plain = random_packet(rng, loader.targets, "good", live=False)
        for _ in range(5):
            assert not await loader.cycle(plain, busy=True, go=True)
        await loader.send(plain)
        assert not loader.counts
        live = random_packet(rng, loader.targets, "good", live=True)
        assert not await loader.cycle(live, busy=True, hold=True)
        assert not await loader.cycle(live, busy=True)
        for _ in live:
            assert await loader.cycle(live, busy=True)
        hold = random_packet(rng, loader.targets, "hold")
        for _ in range(5):
            assert not await loader.cycle(hold, busy=True)
        assert not await loader.cycle(hold, busy=True, go=True, hold=True)
        assert not await loader.cycle(hold, busy=True, go=True)
        assert await loader.cycle(hold, busy=True, go=True)
        assert await loader.cycle(hold)
    await loader.cycle()
    counted = {name: loader.seen[name] for name in ("waited_for_the_end", "hold_waited", "counted")}
    loader.bench.done(**counted)


@cocotb.test()
async def words_of_a_bank_that_the_array_writes(dut: Any) -> None:
    """Every packet meets a word of every bank in every one of its beats. The last beat of each of its words
    waits for as long as its bank is written; the others do not.
    """
    rng = numpy_rng("collisions")
    loader = LoaderBench(dut)
    await loader.reset()
    for kind in ("good", "short", "long"):
        for target in loader.targets.values():
            for bank in range(target.banks):
                words = min(2, target.depth)
                length = words * target.beats + {"good": 0, "short": -1, "long": 2}[kind]
                first = header(rng, target.destination | LIVE, bank, words, 0)
                packet = [first, *payload_of(rng, length)]
                assert not await loader.cycle(packet, busy=True)
                for _ in packet:
                    stopped = target.destination == FEATURE and loader.place in loader.verdict.writes
                    for soon in range(loader.targets[FEATURE].banks):
                        if loader.inside and stopped and soon == bank:
                            for _ in range(3):
                                assert not await loader.cycle(packet, busy=True, soon=soon)
                    other = (bank + 1) % loader.targets[FEATURE].banks
                    assert await loader.cycle(packet, busy=True, soon=other if stopped else bank)
    await loader.cycle()
    names = [name for name in loader.seen if "collision" in name]
    loader.bench.done(**{name: loader.seen[name] for name in names})


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
            first = header(rng, target.destination, target.banks - 1, 1, address)
            await loader.send([first, *payload_of(rng, target.beats)])
    await loader.cycle()
    begun = 0
    target = next(target for target in loader.targets.values() if target.beats == 1 and target.banks == 1)
    most = min(target.depth, 65535)
    for words in sorted({min(most, (1 << power) + 1) for power in range(1, 17)}):
        packet = [header(rng, target.destination, 0, words, target.depth - words), *[0] * words]
        await loader.send(packet, min(4, len(packet)))
        begun += loader.inside
        await loader.reset()
    loader.bench.done(begun=begun)
