"""psa_fetch: T pixels of each input of a lane's group, exactly nine cycles after its issue.

There are two models. `planes_with_padding` uses only coordinates: taps of a map, `pad` where they reach over
its edge. `tables` looks up lane, group, tap, edge and word in dictionaries of random contents, and knows the
bounds.

Corners:

- an issue in every cycle, and gaps
- taps without reach, with a reach of one pixel and of any up to 16, over each edge and corner, also beyond
  the whole map
- a `pad` of its own for every lane that is issued; members that are not valid read zero all the same
- members with taps up to 255
- reads that begin in any pixel of a word, in even and odd words, in the first and the last
- members that are not valid; groups without a member
- pixels that the output plane does not have
- banks that were never written, where only padding is read (no X may come through)
- a group, a tap or a word beyond its memory, by one and by far
- two errors in one lane, and of two lanes in one cycle (the older one is reported)
- a result written while its bank is read; a word loaded while its bank is read; both in one cycle, in
  different banks
- reset with lanes in the pipeline
- reads of the out stream
- in memories of 65,536 words: lanes, groups, taps, edges and words next to every power of two, to the ends of
  every field, and the farthest words that a read can ask for
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import cocotb
import numpy as np

from pymodel.machine.config import HALO, ArrayConfig
from pymodel.machine.errors import ErrorCode
from pymodel.machine.memory import memories
from tb.common import settings
from tb.common.block import Bench, chance, edgy, landmarks, pack
from tb.common.seeding import numpy_rng
from tb.common.words import config_of, word

LATENCY = 9
DEEP = settings.parameters()["LANE_DEPTH"] > 1 << 12  # too many words to fill
MAX_TAP = 255  # of a member: 8 bits
AROUND = 6  # pixels around a map that taps of maps may reach, so that these still fit the bank
REACHES = (*range(-AROUND, AROUND + 1), -HALO - 1, HALO)  # of taps of maps, in either direction
GROUP_STAGE, TAP_STAGE, OUTSIDE_STAGE = 3, 6, 8  # cycles from the issue to the error of each bound
READ_STAGE = 7  # from the issue to the read of the banks

Member = tuple[int, int, int]  # valid, base, tap
Tap = tuple[int, int, int]  # offset, dy, dx
Edge = tuple[int, int, int, int, int]  # valid, left, right, top, bottom of a pixel


class Fetch:
    """The block, and the actions of its host on it."""

    def __init__(self, dut: Any) -> None:
        issue = ("issue_valid", "issue_lane", "issue_word", "issue_tap_row", "issue_edge", "issue_pad")
        out = ("out_rd_en", "out_rd_bank", "out_rd_word")
        write = ("wr_valid", "wr_bank", "wr_word", "wr_data")
        self.loads = ("ld_feature", "ld_lane", "ld_group", "ld_tap", "ld_edge")
        data = (f"{name}_data" for name in self.loads)
        self.bench = Bench(dut, "rst", *issue, *out, *write, *self.loads, "ld_addr", "ld_bank", *data)
        self.config: ArrayConfig = config_of(settings.parameters())
        self.memories = memories(self.config)
        self.idle = dict.fromkeys(("rst", "issue_valid", "out_rd_en", "wr_valid", *self.loads), 0)
        self.lanes: dict[int, int] = {}
        self.groups: dict[int, Sequence[Member]] = {}
        self.taps: dict[int, Tap] = {}
        self.edges: dict[int, Sequence[Edge]] = {}
        self.words: dict[tuple[int, int], list[int]] = {}  # bank, word -> pixels

    async def reset(self) -> None:
        await self.bench.reset(**{name: 0 for name in self.idle if name != "rst"})

    async def cycle(self, **pins: int) -> None:
        await self.bench.cycle(**(self.idle | pins))

    async def load(self, memory: str, address: int, *entries: Sequence[int]) -> None:
        port = f"ld_{memory.lower()}"
        await self.cycle(
            **{port: 1, "ld_addr": address, f"{port}_data": word(self.memories[memory], *entries)}
        )

    async def load_tables(self) -> None:
        for address, group in self.lanes.items():
            await self.load("LANE", address, (group,))
        for address, members in self.groups.items():
            await self.load("GROUP", address, *members)
        for address, tap in self.taps.items():
            await self.load("TAP", address, tap)
        for address, pixels in self.edges.items():
            await self.load("EDGE", address, *pixels)

    async def write(self, bank: int, address: int, pixels: Sequence[int]) -> None:
        """Through the port of the results and, for every other word, through that of the loads."""
        self.words[bank, address] = list(pixels)
        data = pack(pixels, 8)
        if self.bench.number % 2:
            await self.cycle(wr_valid=1, wr_bank=bank, wr_word=address, wr_data=data)
        else:
            await self.cycle(ld_feature=1, ld_bank=bank, ld_addr=address, ld_feature_data=data)

    def expect_soon(self, edge: Sequence[Edge] | None) -> None:
        """Of the bundle that comes in the next cycle; None: none comes."""
        self.bench.expect(soon_valid=int(edge is not None))
        if edge is not None:
            self.bench.expect(soon_keep=pack((pixel[0] for pixel in edge), 1))

    def expect_bundle(self, pixels: dict[tuple[int, int], int], places: Mapping[int, int]) -> None:
        """`pixels`: (pixel of the word, bank) -> value. Other pixels may have any value. `places`: bank ->
        the place of its first pixel in its word; a bank that is not used has zeros in all places.
        """
        t, group = self.config.size, self.config.group
        self.bench.expect(bundle_valid=1)
        self.bench.expect_parts("bundle_shift", t.bit_length() - 1, dict(places))
        self.bench.expect_parts(
            "bundle_data",
            8,
            {
                (pixel + places.get(bank, 0)) % t * group + bank: value & 0xFF
                for (pixel, bank), value in pixels.items()
            },
        )
        first = {
            bank: value & 0xFF for (pixel, bank), value in pixels.items() if pixel == 0 and bank in places
        }
        self.bench.expect_parts("bundle_first", 8, first)


# a map, its taps and its padding


@dataclass(frozen=True)
class Plane:
    """A map of one bank: int8 [height, width], from word `base`."""

    base: int
    pixels: np.ndarray[Any, np.dtype[np.int64]]

    def at(self, y: int, x: int, pad: int) -> int:
        height, width = self.pixels.shape
        return int(self.pixels[y, x]) if 0 <= y < height and 0 <= x < width else pad


def edge_of(pixel: int, height: int, width: int) -> Edge:
    """docs/formats.md, "Edge words"."""
    y, x = divmod(pixel, width)
    if y >= height:
        return (0, 0, 0, 0, 0)
    return (1, min(x, HALO), min(width - 1 - x, HALO), min(y, HALO), min(height - 1 - y, HALO))


def random_reach(rng: np.random.Generator) -> int:
    """Up to which a tap reaches in one direction: mostly near, where it decides."""
    return edgy(rng, -HALO - 1, HALO) if chance(rng, 0.4) else edgy(rng, -4, 4)


def random_tap(rng: np.random.Generator, taps: Sequence[Tap]) -> Tap:
    return taps[int(rng.integers(len(taps)))]


@cocotb.test(skip=DEEP)
async def planes_with_padding(dut: Any) -> None:
    rng = numpy_rng("planes")
    fetch = Fetch(dut)
    config, t = fetch.config, fetch.config.size
    await fetch.reset()
    seen = {"padded": 0, "inside": 0, "not_in_the_plane": 0}
    for _ in range(12):
        # T * (rows + reach) must fit the bank, so that every tap can be tested
        room = config.feature_depth * t
        width = int(rng.integers(1, min(9, room // 8), endpoint=True))
        height = int(rng.integers(1, min(9, room // (2 * width)), endpoint=True))
        words = -(-height * width // t)
        reach = -(-(AROUND * width + AROUND) // t) + 1
        low, high = min(reach, (config.feature_depth - words) // 2), config.feature_depth - words
        bases = rng.integers(low, max(low, high - low), config.group, endpoint=True).tolist()
        planes = [Plane(base, rng.integers(-128, 128, (height, width))) for base in bases]
        for bank, plane in enumerate(planes):
            flat = np.zeros(words * t, dtype=np.int64)
            flat[: height * width] = plane.pixels.reshape(-1)
            for w, pixels in enumerate(flat.reshape(words, t)):
                await fetch.write(bank, plane.base + w, pixels.tolist())
        fetch.edges = {
            w: [edge_of(w * t + i, height, width) for i in range(t)]
            for w in range(min(words, config.edge_depth))
        }
        # taps that stay in the bank whatever the word
        steps = [(dy, dx) for dy in REACHES for dx in REACHES]
        legal = []
        for dy, dx in steps:
            offset = dy * width + dx
            if all(0 <= p.base * t + offset and (p.base + words) * t + offset <= room for p in planes):
                legal.append((offset, dy, dx))
        near = [tap for tap in legal if abs(tap[1]) <= 1 and abs(tap[2]) <= 1]
        chosen = [
            random_tap(rng, near if chance(rng, 0.5) else legal) for _ in range(min(config.tap_depth, 32))
        ]
        fetch.taps = dict(enumerate(chosen))
        fetch.groups = {0: [(1, p.base, 0) for p in planes]}
        for address in range(1, config.group_depth):
            fetch.groups[address] = [(1, p.base, int(rng.integers(len(chosen)))) for p in planes]
        fetch.lanes = {n: n for n in range(config.group_depth)}
        await fetch.load_tables()
        due: dict[int, tuple[int, int, int]] = {}  # cycle -> lane, word, pad
        issues = [(n, w) for n in fetch.lanes for w in fetch.edges]
        for n, w in [*issues, *[(-1, -1)] * LATENCY]:
            pad = edgy(rng, -128, 127)
            values = {"issue_valid": 1, "issue_lane": n, "issue_word": w, "issue_tap_row": 0, "issue_edge": w}
            values = values | {"issue_pad": pad} if n >= 0 else {}
            await fetch.cycle(**values)
            fetch.bench.expect(err_valid=0)
            if n >= 0:
                due[fetch.bench.number + LATENCY] = (n, w, pad)
            soon = due.get(fetch.bench.number + 1)
            fetch.expect_soon(None if soon is None else fetch.edges[soon[1]])
            if fetch.bench.number not in due:
                fetch.bench.expect(bundle_valid=0)
                continue
            lane, at, pad = due.pop(fetch.bench.number)
            expected = {}
            for i in range(t):
                y, x = divmod(at * t + i, width)
                if y >= height:
                    seen["not_in_the_plane"] += 1
                    continue
                for bank, plane in enumerate(planes):
                    _, dy, dx = chosen[fetch.groups[lane][bank][2]]
                    expected[i, bank] = plane.at(y + dy, x + dx, pad)
                    seen["inside" if 0 <= y + dy < height and 0 <= x + dx < width else "padded"] += 1
            places = {bank: chosen[fetch.groups[lane][bank][2]][0] % t for bank in range(config.group)}
            fetch.expect_bundle(expected, places)
    fetch.bench.done(**seen)


# random tables


@dataclass(frozen=True)
class Lookup:
    """The expected result of an issue: for each bank the pixel address and tap reach or None, the errors by
    stage, and the pixels that are kept.
    """

    edge: Sequence[Edge]
    pad: int
    reads: dict[int, tuple[int, int, int]] = field(default_factory=dict)  # bank -> pixel address, dy, dx
    errors: dict[int, tuple[ErrorCode, int]] = field(default_factory=dict)  # stage -> code, info

    def places(self, t: int) -> dict[int, int]:
        """By bank that is used, the place of its first pixel in its word."""
        return {bank: pixel % t for bank, (pixel, _, _) in self.reads.items()}

    def words(self, t: int) -> list[tuple[int, int]]:
        """The words that it reads, as bank and address."""
        return [
            (bank, at)
            for bank, (pixel, _, _) in self.reads.items()
            for at in (pixel // t, (pixel + t - 1) // t)
        ]


def look_up(
    fetch: Fetch, issue_lane: int, issue_word: int, issue_tap_row: int, issue_edge: int, issue_pad: int
) -> Lookup:
    config, t = fetch.config, fetch.config.size
    group = fetch.lanes[issue_lane]
    result = Lookup(fetch.edges[issue_edge], issue_pad)
    if group >= config.group_depth:
        result.errors[GROUP_STAGE] = (ErrorCode.GROUP_RANGE, group)
        return result
    for bank, (valid, base, tap) in enumerate(fetch.groups[group]):
        if not valid:
            continue
        if issue_tap_row + tap >= config.tap_depth:
            result.errors.setdefault(TAP_STAGE, (ErrorCode.TAP_RANGE, issue_tap_row + tap))
            continue
        offset, dy, dx = fetch.taps[issue_tap_row + tap]
        pixel = (base + issue_word) * t + offset
        if pixel < 0 or pixel + t > config.feature_depth * t:
            result.errors.setdefault(OUTSIDE_STAGE, (ErrorCode.FEATURE_READ, bank))
            continue
        result.reads[bank] = (pixel, dy, dx)
    return result


def read(fetch: Fetch, found: Lookup, written: Sequence[tuple[int, int]] = ()) -> dict[tuple[int, int], int]:
    """The bundle, from the present contents of the banks. Pixels of words that are `written` in this cycle
    may be anything, unless they are padded.
    """
    t, result = fetch.config.size, {}
    for bank in range(fetch.config.group):
        pixel, dy, dx = found.reads.get(bank, (0, 0, 0))
        for i, (_, left, right, top, bottom) in enumerate(found.edge):
            if bank not in found.reads:
                result[i, bank] = 0
            elif -dx > left or dx > right or -dy > top or dy > bottom:
                result[i, bank] = found.pad
            else:
                word_at, place = divmod(pixel + i, t)
                if (bank, word_at) not in written:
                    result[i, bank] = fetch.words[bank, word_at][place]
    return result


def random_tables(fetch: Fetch, rng: np.random.Generator, beyond: bool) -> None:
    """Table contents that are mostly legal; lanes may name groups `beyond` the last."""
    config = fetch.config
    pixels = config.feature_depth * config.size
    last_group = (1 << config.group_id_bits) - 1 if beyond else config.group_depth - 1
    fetch.lanes = {n: edgy(rng, 0, last_group) for n in range(config.lane_depth)}
    for address in range(config.group_depth):
        members = []
        for _ in range(config.group):
            base = edgy(rng, 0, (1 << config.base_bits) - 1 if chance(rng, 0.1) else config.feature_depth - 1)
            tap = int(rng.integers(4))
            if chance(rng, 0.1):  # far away, or near but for one of its upper bits
                tap = edgy(rng, 0, MAX_TAP) if chance(rng, 0.5) else tap | 1 << int(rng.integers(5, 8))
            members.append((int(chance(rng, 0.85)), base, tap))
        fetch.groups[address] = members
    for address in range(config.tap_depth):
        far = chance(rng, 0.05)
        offset = edgy(rng, -pixels, pixels - 1) if far else edgy(rng, -2 * config.size, 2 * config.size)
        fetch.taps[address] = (offset, random_reach(rng), random_reach(rng))
    for address in range(config.edge_depth):
        fetch.edges[address] = [
            (int(chance(rng, 0.8)), *[edgy(rng, 0, HALO) for _ in range(4)])  # type: ignore[misc]
            for _ in range(config.size)
        ]


def random_issue(rng: np.random.Generator, config: ArrayConfig) -> dict[str, int]:
    return {
        "issue_lane": edgy(rng, 0, config.lane_depth - 1),
        "issue_word": edgy(rng, 0, 65535 if chance(rng, 0.02) else 3),
        "issue_tap_row": edgy(rng, 0, config.tap_depth - 1 if chance(rng, 0.2) else 3),
        "issue_edge": edgy(rng, 0, config.edge_depth - 1),
        "issue_pad": edgy(rng, -128, 127),
    }


def random_write(
    rng: np.random.Generator, config: ArrayConfig, reading: Lookup | None, banks: Sequence[int]
) -> tuple[int, int, list[int]]:
    """One of the banks, a word and its pixels; often a word that is read in the same cycle."""
    words = reading.words(config.size) if reading is not None and chance(rng, 0.5) else []
    words = [where for where in words if where[0] in banks]
    words = words or [(int(rng.choice(banks)), edgy(rng, 0, config.feature_depth - 1))]
    return (*words[int(rng.integers(len(words)))], rng.integers(-128, 128, config.size).tolist())


def expect_error(fetch: Fetch, flight: Mapping[int, Lookup]) -> list[tuple[ErrorCode, int]]:
    """Compares the error of this cycle with that of the oldest lane that has one now. Returns those of all,
    the oldest first. `flight`: the lanes on their way, by the cycles of their issues.
    """
    now = fetch.bench.number
    errors = [flight[then].errors[now - then] for then in sorted(flight) if now - then in flight[then].errors]
    if errors:
        fetch.bench.expect(err_valid=1, err_code=errors[0][0], err_info=errors[0][1])
    else:
        fetch.bench.expect(err_valid=0)
    return errors


@cocotb.test(skip=DEEP)
async def errors_of_two_lanes(dut: Any) -> None:
    """Each kind of error in a lane, and each in the lanes behind it, so that some are found in one cycle."""
    fetch = Fetch(dut)
    config = fetch.config
    await fetch.reset()
    last = config.feature_depth - 1
    for bank in range(config.group):
        await fetch.write(bank, last, [0] * config.size)
    fetch.edges = {0: [(1, 0, 0, 0, 0)] * config.size}
    fetch.taps = {0: (0, 0, 0), 1: (config.size, 0, 0)}
    fetch.groups = {group: [(1, last, tap)] * config.group for group, tap in enumerate((0, MAX_TAP, 1))}
    lanes = {"good": 0, "tap": 1, "read": 2}
    if config.group_depth < 1 << config.group_id_bits:
        lanes["group"] = config.group_depth
    fetch.lanes = dict(enumerate(lanes.values()))
    await fetch.load_tables()
    together = 0
    for first in fetch.lanes:
        for second in fetch.lanes:
            for distance in range(1, LATENCY):
                flight: dict[int, Lookup] = {}
                for n in range(distance + LATENCY + 1):
                    lane = {0: first, distance: second}.get(n)
                    issue = {"issue_word": 0, "issue_tap_row": 0, "issue_edge": 0, "issue_pad": 0}
                    if lane is None:
                        await fetch.cycle()
                    else:
                        await fetch.cycle(issue_valid=1, issue_lane=lane, **issue)
                        flight[fetch.bench.number] = look_up(fetch, lane, *issue.values())
                    together += len(expect_error(fetch, flight)) > 1
    fetch.bench.done(together=together)


@cocotb.test(skip=DEEP)
async def tables(dut: Any) -> None:
    rng = numpy_rng("tables")
    fetch = Fetch(dut)
    config, t = fetch.config, fetch.config.size
    await fetch.reset()
    codes = [ErrorCode.TAP_RANGE, ErrorCode.FEATURE_READ]
    if config.group_depth < 1 << config.group_id_bits:
        codes.append(ErrorCode.GROUP_RANGE)
    kinds = ("bundles", "resets", "two_errors_in_a_cycle", "written_while_read", "loaded_while_read")
    meetings = ("loaded_with_a_result", "same_word_of_two_banks")
    seen = dict.fromkeys((*(code.name for code in codes), *kinds, *meetings), 0)
    for bank in range(config.group):
        for address in range(config.feature_depth):
            await fetch.write(bank, address, rng.integers(-128, 128, t).tolist())
    for number, rate in enumerate((1.0, 0.6, 1.0)):
        random_tables(fetch, rng, beyond=number < 2)
        await fetch.load_tables()
        flight: dict[int, Lookup] = {}  # cycle of the issue -> its expected result
        bundles: dict[int, dict[tuple[int, int], int]] = {}  # cycle -> bundle
        for n in range(300):
            issue = random_issue(rng, config) if n < 300 - LATENCY and chance(rng, rate) else None
            reset, reading = chance(rng, 0.01), flight.get(fetch.bench.number + 1 - READ_STAGE)
            banks = rng.permutation(config.group).tolist()
            share = int(rng.integers(len(banks), endpoint=True))  # those in which a result may be written
            write = load = None
            if share > 0 and chance(rng, 0.4):
                write = random_write(rng, config, reading, banks[:share])
            if share < len(banks) and chance(rng, 0.4):
                load = random_write(rng, config, reading, banks[share:])
                if write is not None and chance(rng, 0.3):
                    load = (load[0], write[1], load[2])
            pins = {} if issue is None else {"issue_valid": 1, **issue}
            if write is not None:
                pins |= {
                    "wr_valid": 1,
                    "wr_bank": write[0],
                    "wr_word": write[1],
                    "wr_data": pack(write[2], 8),
                }
            if load is not None:
                pins |= {"ld_feature": 1, "ld_bank": load[0], "ld_addr": load[1]}
                pins |= {"ld_feature_data": pack(load[2], 8)}
            await fetch.cycle(rst=int(reset), **pins)
            now = fetch.bench.number
            if issue is not None:
                flight[now] = look_up(fetch, **issue)

            errors = expect_error(fetch, flight)
            if errors:
                seen[errors[0][0].name] += 1
                seen["two_errors_in_a_cycle"] += len(errors) > 1
            done = flight.get(now - LATENCY)
            if now in bundles:
                assert done is not None
                fetch.expect_bundle(bundles.pop(now), done.places(t))
                seen["bundles"] += 1
            elif done is None:
                fetch.bench.expect(bundle_valid=0)
            # a lane with an error stops the machine, so its bundle does not matter
            soon = flight.get(now + 1 - LATENCY)
            if soon is None or not soon.errors:
                fetch.expect_soon(None if soon is None else soon.edge)
            if reading is not None and not reading.errors:
                changes = [change[:2] for change in (write, load) if change is not None]
                bundles[now + LATENCY - READ_STAGE] = read(fetch, reading, changes)
                seen["written_while_read"] += write is not None and write[:2] in reading.words(t)
                seen["loaded_while_read"] += load is not None and load[:2] in reading.words(t)
            if load is not None and write is not None:
                seen["loaded_with_a_result"] += 1
                seen["same_word_of_two_banks"] += load[1] == write[1]
            for change in (write, load):
                if change is not None:
                    fetch.words[change[:2]] = change[2]
            flight.pop(now - LATENCY, None)
            if reset:
                seen["resets"] += bool(flight)
                flight.clear()
                bundles.clear()
        assert not flight
    fetch.bench.done(**seen)


@cocotb.test()
async def reads_of_the_out_stream(dut: Any) -> None:
    rng = numpy_rng("out")
    fetch = Fetch(dut)
    config = fetch.config
    last = config.feature_depth - 1
    addresses = landmarks(last) if DEEP else list(range(last + 1))
    await fetch.reset()
    for bank in range(config.group):
        for address in addresses:
            await fetch.write(bank, address, rng.integers(-128, 128, config.size).tolist())
    asked: list[list[int] | None] = [None, None]  # of the last two cycles
    reads = 0
    for _ in range(200):
        bank, address = edgy(rng, 0, config.group - 1), addresses[edgy(rng, 0, len(addresses) - 1)]
        ask = chance(rng, 0.7)
        await fetch.cycle(**({"out_rd_en": 1, "out_rd_bank": bank, "out_rd_word": address} if ask else {}))
        due, *asked = *asked, fetch.words[bank, address] if ask else None
        if due is not None:
            fetch.bench.expect(out_rd_data=pack(due, 8))
            reads += 1
    fetch.bench.done(reads=reads)


# deep memories

MAX_WORD = 65535  # of a sub-plane of the output


def spread(rng: np.random.Generator, marks: Sequence[int], count: int) -> list[int]:
    """`count` of the marks in any order, each as rarely as possible."""
    turns = -(-count // len(marks))
    return np.concatenate([rng.permutation(marks) for _ in range(turns)])[:count].tolist()


@cocotb.test(skip=not DEEP)
async def every_word_of_every_memory_is_its_own(dut: Any) -> None:
    """Lanes, groups, taps and edges next to every power of two, each with different contents. They read words
    next to every power of two of a bank, for words next to every power of two of a sub-plane.
    """
    rng = numpy_rng("landmarks")
    fetch = Fetch(dut)
    config, t = fetch.config, fetch.config.size
    last_word = config.feature_depth - 1
    await fetch.reset()
    for bank in range(config.group):
        for address in landmarks(last_word):
            await fetch.write(bank, address, rng.integers(-128, 128, t).tolist())
    ends = ("last_lane", "last_group", "last_tap", "last_edge", "last_word", "last_read", "last_base")
    seen = dict.fromkeys(
        (*ends, "last_member_tap", "bundles", "beyond_the_groups", "beyond_the_taps", "outside"), 0
    )
    for _ in range(3):
        lanes, taps = landmarks(config.lane_depth - 1), landmarks(config.tap_depth - 1)
        count = len(lanes)
        taps = spread(rng, taps, count)
        groups = spread(rng, landmarks(config.group_depth - 1), count)
        edges = spread(rng, landmarks(config.edge_depth - 1), count)
        words = spread(rng, landmarks(MAX_WORD), count)
        fetch.edges = {
            edge: [(int(chance(rng, 0.8)), *[edgy(rng, 0, HALO) for _ in range(4)]) for _ in range(t)]  # type: ignore[misc]
            for edge in edges
        }
        fetch.lanes, fetch.groups, fetch.taps = {}, {}, {}
        issues = []
        # a word far beyond the bank's last is legal if base and offset are as far before it
        for lane, group, tap, edge, at in zip(lanes, groups, taps, edges, words, strict=True):
            if group in fetch.groups or tap in fetch.taps:
                continue
            bases = [base for base in landmarks(last_word) if base + at <= last_word + config.feature_depth]
            base = int(rng.choice([bases[-1], *bases]))
            least = max(0, base + at - config.feature_depth)
            reads = [read for read in landmarks(last_word) if read >= least]
            first = int(rng.choice([reads[-1], *reads]))
            shift = int(rng.integers(t)) if first < last_word and first + 1 in landmarks(last_word) else 0
            fetch.lanes[lane] = group
            last = min(tap, MAX_TAP)
            member = int(rng.choice([last, int(rng.integers(last, endpoint=True))]))
            fetch.groups[group] = [
                (int(chance(rng, 0.8) or n == 0), base, member) for n in range(config.group)
            ]
            offset = (first - base - at) * t + shift
            fetch.taps[tap] = (offset, random_reach(rng), random_reach(rng))
            issue = {"issue_lane": lane, "issue_word": at, "issue_tap_row": tap - member, "issue_edge": edge}
            issue["issue_pad"] = edgy(rng, -128, 127)
            seen["last_member_tap"] += member == MAX_TAP
            issues.append(issue)
            for name, value, end in zip(
                ends,
                (lane, group, tap, edge, at, first, base),
                (config.lane_depth, config.group_depth, config.tap_depth, config.edge_depth, MAX_WORD + 1)
                + (config.feature_depth,) * 2,
                strict=True,
            ):
                seen[name] += value == end - 1
        await fetch.load_tables()
        # and four that stop the machine: a group, a tap and words past the last
        free = next(lane for lane in range(config.lane_depth) if lane not in fetch.lanes)
        last_group, last_tap = config.group_depth - 1, config.tap_depth - 1
        spoilt: list[tuple[str, dict[str, int]]] = [
            ("beyond_the_groups", {"issue_word": 0, "issue_tap_row": 0}),
            ("beyond_the_taps", {"issue_word": 0, "issue_tap_row": last_tap}),
            ("outside", {"issue_word": MAX_WORD, "issue_tap_row": 0}),
            # twice the depth less one, in a pixel that is not the word's first
            ("outside", {"issue_word": MAX_WORD, "issue_tap_row": 1}),
        ]
        for n in rng.permutation(len(issues)).tolist():
            await check_issue(fetch, issues[n], rng)
            seen["bundles"] += 1
        fetch.lanes = {free: config.group_depth, free + 1: last_group}
        fetch.groups = {last_group: [(1, last_word, 1)] * config.group}
        fetch.taps = {1: (t - 1, 0, 0), 2: (t + 1, 0, 0)}
        await fetch.load_tables()
        for name, pins in spoilt:
            lane = free if name == "beyond_the_groups" else free + 1
            issue = {"issue_lane": lane, "issue_edge": edges[0], "issue_pad": 0, **pins}
            await check_issue(fetch, issue, rng)
            seen[name] += 1
    fetch.bench.done(**seen)


async def check_issue(fetch: Fetch, issue: dict[str, int], rng: np.random.Generator) -> None:
    """One lane from its issue to its bundle, or to the error that it causes."""
    found = look_up(fetch, **issue)
    for bank, at in found.words(fetch.config.size):
        if (bank, at) not in fetch.words:
            await fetch.write(bank, at, rng.integers(-128, 128, fetch.config.size).tolist())
    await fetch.cycle(issue_valid=1, **issue)
    for stage in range(1, LATENCY + 1):
        await fetch.cycle()
        error = found.errors.get(stage)
        if error is None:
            fetch.bench.expect(err_valid=0)
        else:
            fetch.bench.expect(err_valid=1, err_code=error[0], err_info=error[1])
            return
        if stage == LATENCY - 1:
            fetch.expect_soon(found.edge)
    fetch.expect_bundle(read(fetch, found), found.places(fetch.config.size))
