"""psa_sequencer: every cycle of a program, compared with a list that nested loops compute beforehand.

Model: `timeline` runs the program as docs/formats.md, "Program words" describes it, and gives the outputs of
the block in each cycle from START to END or to the first error. The bench decides how many cycles packets,
layers without a gap and WAITs take, and ends them when the timeline says.

Corners:

- chunks of one word, chunks that divide the layer, that leave a rest, that are longer than the layer, as long
  as the accumulators; a chunk across phases
- one phase and several; strides of zero
- one tile and several; tiles of one pass and of many
- the last word, tap row and edge of each memory, the last tile, lane and filter
- gaps of 1, of the largest value and between; a `layer_done` in a gap, which must not count
- layers of sums and of maxima, with any value over the edges, behind each other with and without a gap
- layers, packets, WAITs and JUMPs in any order; a program in pieces that lie anywhere, with JUMPs in both
  directions
- WAITs that go on in their first cycle and later; a WAIT, a JUMP and both between a layer with a gap and the
  next layer, and before a record that must not follow a gap
- the cycle in which a layer is left, with a gap and without
- a WAIT that ends in a deadlock, at once and late; JUMPs past the last word
- a program that begins anywhere, and one that ends in the last word
- every bad value of every field, alone, after a good record; tiles as the first and as a later one of their
  layer
- an error elsewhere in any cycle, END and WAIT included; reset in any cycle
- START after an error, which must do nothing
- in memories of 65,536 words: every field past every power of two, counters past 32,768 (passes as far as
  there are lanes), the error at program word 65,536
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby, islice, pairwise, repeat
from typing import Any

import cocotb
import numpy as np

from pymodel.machine.config import ArrayConfig
from pymodel.machine.errors import ErrorCode
from pymodel.machine.memory import memories
from pymodel.machine.program import (
    OPCODE_END,
    OPCODE_JUMP,
    OPCODE_LAYER,
    OPCODE_OUT,
    OPCODE_WAIT,
    PROGRAM_FIELDS,
)
from tb.common import settings
from tb.common.block import Bench, chance, edgy, landmarks
from tb.common.seeding import numpy_rng
from tb.common.words import config_of, word

QUIET = {
    "busy": 1,
    "issue_valid": 0,
    "out_start": 0,
    "done": 0,
    "layer_passed": 0,
    "wait_valid": 0,
    "err_valid": 0,
}
STOPPED = QUIET | {"busy": 0}
MAX_16 = 65535
MAX_GAP = 255
DEEP = settings.parameters()["LANE_DEPTH"] > 1 << 12  # too many tiles to load them all


@dataclass(frozen=True)
class TileWord:
    lane_base: int
    passes: int
    filter_base: int
    slot_base: int = 0


@dataclass(frozen=True)
class RecordWord:
    """A program word, with the names of a LAYER. The other records have their fields in the same places."""

    opcode: int
    words: int = 0
    phases: int = 0
    chunk_words: int = 0
    edge_base: int = 0
    edge_stride: int = 0
    tap_base: int = 0
    tap_stride: int = 0
    tile_base: int = 0
    tiles: int = 0
    gap: int = 0
    pad: int = 0
    mode: int = 0


def out_record(bank: int, base: int, words: int) -> RecordWord:
    return RecordWord(OPCODE_OUT, bank, base, words)


def wait_record(packets: int) -> RecordWord:
    return RecordWord(OPCODE_WAIT, packets)


def jump_record(target: int) -> RecordWord:
    return RecordWord(OPCODE_JUMP, target)


@dataclass(frozen=True)
class Program:
    """`stuck`: the words of WAITs for packets that never come."""

    records: Mapping[int, RecordWord]
    tiles: Mapping[int, TileWord]
    start: int
    stuck: frozenset[int] = frozenset()

    def path(self) -> Iterator[tuple[int, RecordWord]]:
        """The records of a program that ends, in the order in which they run, and where they are."""
        pc = self.start
        while True:
            record = self.records[pc]
            yield pc, record
            if record.opcode == OPCODE_END:
                return
            pc = record.words if record.opcode == OPCODE_JUMP else pc + 1


@dataclass(frozen=True)
class Step:
    """One cycle: the outputs of the block, and the inputs from the rest of the machine. Or as many as
    `unwatched`, if it is not 0: each issues some lane, which is not compared.
    """

    outputs: dict[str, int] = field(default_factory=lambda: QUIET)
    inputs: dict[str, int] = field(default_factory=dict)
    unwatched: int = 0

    def also(self, **outputs: int) -> Step:
        return Step({**self.outputs, **outputs}, self.inputs)


def error(code: ErrorCode, info: int) -> dict[str, int]:
    return {"err_valid": 1, "err_code": code, "err_info": info}


# Whether the outputs of a lane are compared; its word in the layer, its pass and its tile are given.
Watch = Callable[[int, int, int], bool]


def timeline(
    program: Program, config: ArrayConfig, rng: np.random.Generator, watch: Watch = lambda *_: True
) -> Iterator[Step]:
    """From the cycle after START. The last step is that of END or of an error. Lanes for which `watch` is
    false are `unwatched`.
    """
    pc, followed = program.start, False
    while True:
        if pc >= config.program_depth:
            yield Step().also(**error(ErrorCode.PROGRAM_RANGE, pc))
            return
        yield Step()
        record = program.records[pc]
        if followed and record.opcode in (OPCODE_OUT, OPCODE_END):
            yield Step().also(**error(ErrorCode.PROGRAM_FIELD, pc))
            return
        if record.opcode == OPCODE_END:
            yield Step().also(done=1)
            return
        if record.opcode == OPCODE_JUMP:
            yield Step()
            pc = record.words
            continue
        if record.opcode == OPCODE_LAYER:
            steps = layer(record, pc, program.tiles, config, rng, watch)
        elif record.opcode == OPCODE_OUT:
            steps = packet(record, pc, config, rng)
        elif record.opcode == OPCODE_WAIT:
            steps = wait(record, pc, pc in program.stuck, rng)
        else:
            yield Step().also(**error(ErrorCode.PROGRAM_OPCODE, pc))
            return
        for step in steps:
            yield step
            if step.outputs["err_valid"]:
                return
        if record.opcode != OPCODE_WAIT:
            followed = record.opcode == OPCODE_LAYER and record.gap > 0
        pc += 1


def wait(record: RecordWord, pc: int, stuck: bool, rng: np.random.Generator) -> Iterator[Step]:
    if record.words == 0:
        yield Step().also(**error(ErrorCode.PROGRAM_FIELD, pc))
        return
    yield Step()
    waiting = Step(inputs={"wait_go": 0, "deadlock": 0}).also(wait_valid=1, wait_packets=record.words)
    yield from repeat(waiting, int(rng.choice([0, 0, 1, 2, 7])))
    if stuck:
        dead = waiting.also(**error(ErrorCode.DEADLOCK, pc))
        yield replace(dead, inputs={"wait_go": 0, "deadlock": 1})
    else:
        yield replace(waiting, inputs={"wait_go": 1, "deadlock": 0})


def packet(record: RecordWord, pc: int, config: ArrayConfig, rng: np.random.Generator) -> Iterator[Step]:
    bank, base, words = record.words, record.phases, record.chunk_words
    if bank >= config.group or words == 0 or base + words > config.feature_depth:
        yield Step().also(**error(ErrorCode.PROGRAM_FIELD, pc))
        return
    yield Step()
    yield Step().also(out_start=1, out_bank=bank, out_base=base, out_words=words)
    for _ in range(int(rng.integers(6))):
        yield Step()
    yield Step(inputs={"out_done": 1})


def layer(
    record: RecordWord,
    pc: int,
    tiles: Mapping[int, TileWord],
    config: ArrayConfig,
    rng: np.random.Generator,
    watch: Watch,
) -> Iterator[Step]:
    field_error = error(ErrorCode.PROGRAM_FIELD, pc)
    total, t = record.words * record.phases, config.size
    if (
        not total
        or not record.tiles
        or not 0 < record.chunk_words <= config.acc_words
        or record.tile_base + record.tiles > config.tile_depth
        or record.mode > 1
    ):
        yield Step().also(**field_error)
        return
    yield Step()
    yield Step()
    # in the order in which they run; the first is checked before its first cycle, each other one in the last
    # cycle of the one before
    order = [(chunk, tile) for chunk in range(0, total, record.chunk_words) for tile in range(record.tiles)]
    bad = tile_error(record, 0, tiles, config)
    yield Step().also(**bad)
    unwatched = 0
    for place, (chunk, number) in enumerate(order):
        tile = tiles[record.tile_base + number]
        chunk_words = range(chunk, min(chunk + record.chunk_words, total))
        for index in range(tile.passes):
            for at in chunk_words:
                phase, inner = divmod(at, record.words)
                edge, tap_row = (
                    record.edge_base + phase * record.edge_stride + inner,
                    record.tap_base + phase * record.tap_stride,
                )
                legal = edge < config.edge_depth and tap_row < config.tap_depth and at < config.feature_depth
                if legal and not watch(at, index, number):
                    unwatched += t
                    continue
                if unwatched:
                    yield Step(unwatched=unwatched)
                    unwatched = 0
                if not legal:
                    yield Step().also(**field_error)
                    return
                last_word = at == chunk_words[-1] and index == tile.passes - 1
                for row in range(t):
                    step = Step().also(
                        issue_valid=1,
                        issue_row=row,
                        issue_lane=tile.lane_base + index * t + row,
                        issue_first=int(at == chunk),
                        issue_word=inner,
                        issue_tap_row=tap_row,
                        issue_edge=edge,
                        issue_pad=record.pad,
                        issue_maximum=record.mode,
                        issue_acc_word=at - chunk,
                        issue_acc_first=int(index == 0),
                        issue_acc_last=int(index == tile.passes - 1),
                        issue_out_word=at,
                        issue_filter_base=tile.filter_base,
                        issue_slot_base=tile.slot_base,
                        issue_layer_last=int(last_word and place == len(order) - 1 and record.gap == 0),
                    )
                    if last_word and row == t - 1 and place < len(order) - 1:
                        step = step.also(**tile_error(record, order[place + 1][1], tiles, config))
                    yield step
    if unwatched:
        yield Step(unwatched=unwatched)
    if record.gap:
        for left in reversed(range(record.gap)):
            step = Step(inputs={"layer_done": int(rng.random() < 0.2)})
            yield step.also(layer_passed=int(left == 0))
        return
    for _ in range(int(rng.integers(12))):
        yield Step()
    yield Step(inputs={"layer_done": 1}).also(layer_passed=1)


def tile_error(
    record: RecordWord, number: int, tiles: Mapping[int, TileWord], config: ArrayConfig
) -> dict[str, int]:
    """The error, if any, in the layer's tile of this number."""
    tile = tiles[record.tile_base + number]
    lanes_end, filters_end = tile.lane_base + tile.passes * config.size, tile.filter_base + config.size
    if tile.passes and lanes_end <= config.lane_depth and filters_end <= config.filter_depth:
        return {}
    return error(ErrorCode.TILE_FIELD, record.tile_base + number)


# programs


def place(rng: np.random.Generator, highest: int, at_the_end: bool = False) -> int:
    """A start for something that fits up to `highest`."""
    return highest if at_the_end else edgy(rng, 0, highest, 0.4)


def random_tile(rng: np.random.Generator, config: ArrayConfig) -> TileWord:
    passes = int(rng.choice([1, 1, 2, 3]))
    lane_base, filter_base = (
        place(rng, config.lane_depth - passes * config.size),
        place(rng, config.filter_depth - config.size),
    )
    return TileWord(lane_base, passes, filter_base, int(rng.integers(MAX_16, endpoint=True)))


def random_layer(rng: np.random.Generator, config: ArrayConfig, at_the_end: bool = False) -> RecordWord:
    """`at_the_end`: the layer uses the last word of every memory that the record points into, and its chunks
    are not aligned to phases and do not divide it.
    """
    phases = 2 if at_the_end else int(rng.choice([1, 1, 2, 4]))
    words = 3 if at_the_end else edgy(rng, 1, min(5, config.feature_depth // phases, config.edge_depth))
    tiles = int(rng.integers(1, 4))
    edge_stride = int(rng.choice([0, min(words, (config.edge_depth - words) // phases)]))
    tap_stride = int(rng.integers(0, min(5, (config.tap_depth - 1) // phases), endpoint=True))
    return RecordWord(
        OPCODE_LAYER,
        words,
        phases,
        chunk_words=4 if at_the_end else edgy(rng, 1, config.acc_words, 0.5),
        edge_base=place(rng, config.edge_depth - (phases - 1) * edge_stride - words, at_the_end),
        edge_stride=edge_stride,
        tap_base=place(rng, config.tap_depth - (phases - 1) * tap_stride - 1, at_the_end),
        tap_stride=tap_stride,
        tile_base=place(rng, config.tile_depth - tiles, at_the_end),
        tiles=tiles,
        pad=edgy(rng, -128, 127),
        mode=int(rng.integers(2)),
    )


def random_out(rng: np.random.Generator, config: ArrayConfig) -> RecordWord:
    words = edgy(rng, 1, config.feature_depth)
    return out_record(edgy(rng, 0, config.group - 1), edgy(rng, 0, config.feature_depth - words, 0.5), words)


def random_program(
    rng: np.random.Generator, config: ArrayConfig, at_the_end: bool = False, gap: int | None = None
) -> Program:
    """With a `gap`, it begins with two layers with that gap between them. Unless it is `at_the_end` of the
    memory, it lies there in pieces.
    """
    body = [
        random_layer(rng, config) if chance(rng, 0.7) else random_out(rng, config)
        for _ in range(int(rng.integers(1, 4)))
    ]
    if at_the_end:
        body[-1] = random_layer(rng, config, at_the_end)
    for number, (record, following) in enumerate(pairwise(body)):
        if record.opcode == following.opcode == OPCODE_LAYER and chance(rng, 0.7):
            body[number] = replace(
                record, gap=edgy(rng, 1, MAX_GAP, 0.4) if chance(rng, 0.5) else int(rng.integers(1, 20))
            )
    if gap is not None:
        body = [replace(random_layer(rng, config), gap=gap), random_layer(rng, config), *body]
    for _ in range(int(rng.integers(4))):
        body.insert(int(rng.integers(len(body), endpoint=True)), wait_record(edgy(rng, 1, MAX_16)))
    table = [*body, RecordWord(OPCODE_END)]
    cuts = 0 if at_the_end else int(rng.integers(min(3, config.program_depth - len(table)), endpoint=True))
    records, start = scattered(rng, table, cuts, config.program_depth, at_the_end)
    return Program(records, {n: random_tile(rng, config) for n in range(config.tile_depth)}, start)


def scattered(
    rng: np.random.Generator, table: Sequence[RecordWord], cuts: int, depth: int, at_the_end: bool
) -> tuple[dict[int, RecordWord], int]:
    """The records of a program in pieces, each with a JUMP to the next, in any order and anywhere in a memory
    of `depth` words; and where the first begins.
    """
    ends = [0, *sorted(rng.integers(len(table), size=cuts).tolist()), len(table)]
    pieces = [list(table[a:b]) for a, b in pairwise(ends)]
    for piece in pieces[:-1]:
        piece.append(jump_record(0))
    left = depth - sum(map(len, pieces))
    firsts, at = [0] * len(pieces), 0
    for number in rng.permutation(len(pieces)).tolist():
        free = place(rng, left, at_the_end)
        firsts[number], left = at + free, left - free
        at += free + len(pieces[number])
    records: dict[int, RecordWord] = {}
    for piece, first, following in zip(pieces, firsts, [*firsts[1:], 0], strict=True):
        jumps = [jump_record(following) if r.opcode == OPCODE_JUMP else r for r in piece]
        records |= {first + n: record for n, record in enumerate(jumps)}
    return records, firsts[0]


def bad_programs(rng: np.random.Generator, config: ArrayConfig) -> Iterator[tuple[str, Program]]:
    """Each bad value alone, after a good record."""
    good = random_program(rng, config)

    def with_record(record: RecordWord, tiles: Mapping[int, TileWord] = good.tiles) -> Program:
        start = int(rng.integers(config.program_depth - 2))
        return Program(
            {start: random_out(rng, config), start + 1: record, start + 2: RecordWord(OPCODE_END)},
            tiles,
            start,
        )

    for opcode in (0, 6, 7, 8 + OPCODE_WAIT, 255, 256 + OPCODE_LAYER, 256 + OPCODE_JUMP, MAX_16):
        yield f"opcode {opcode}", with_record(replace(random_layer(rng, config), opcode=opcode))
    fields: tuple[dict[str, int], ...] = (
        {"words": 0},
        {"phases": 0},
        {"chunk_words": 0},
        {"chunk_words": config.acc_words + 1},
        {"chunk_words": MAX_16},
        {"tiles": 0},
        {"tiles": MAX_16},
        {"mode": 2},
        {"mode": 255},
        {"tile_base": MAX_16},
        {"tiles": 2, "tile_base": config.tile_depth - 1},
        {"edge_base": config.edge_depth},
        {"edge_base": MAX_16},
        {"words": 2, "edge_base": config.edge_depth - 1},
        {"words": 2, "phases": 2, "edge_base": 0, "edge_stride": config.edge_depth - 1},
        {"words": 1, "phases": 3, "edge_base": 0, "edge_stride": MAX_16},
        {"tap_base": config.tap_depth},
        {"tap_base": MAX_16},
        {"phases": 2, "edge_base": 0, "edge_stride": 0, "tap_base": 1, "tap_stride": config.tap_depth - 1},
        {"phases": 2, "edge_base": 0, "edge_stride": 0, "tap_base": 1, "tap_stride": MAX_16},
        {
            "words": 1,
            "phases": config.feature_depth + 1,
            "edge_stride": 0,
            "tap_stride": 0,
            "tiles": 1,
            "chunk_words": config.acc_words,
        },
    )
    for values in fields:
        yield f"layer {values}", with_record(RecordWord(**(vars(random_layer(rng, config)) | values)))
    for out in (
        out_record(config.group, 0, 1),
        out_record(MAX_16, 0, 1),
        out_record(0, 0, 0),
        out_record(0, 0, config.feature_depth + 1),
        out_record(0, config.feature_depth, 1),
        out_record(0, MAX_16, MAX_16),
    ):
        yield f"{out}", with_record(out)
    between = (
        (),
        (wait_record(1),),
        (jump_record(2),),
        (wait_record(MAX_16), jump_record(3), wait_record(2)),
    )
    for following in (random_out(rng, config), RecordWord(OPCODE_END)):
        for records in between:
            first = replace(random_layer(rng, config), gap=edgy(rng, 1, MAX_GAP))
            table = dict(enumerate((first, *records, following)))
            yield f"a gap before {records} and {following}", Program(table, good.tiles, 0)
    yield "a wait for nothing", with_record(wait_record(0))
    for target in (config.program_depth, config.program_depth + 1, MAX_16):
        yield f"a jump to {target}", with_record(jump_record(target))
    for packets in (1, MAX_16):
        for _ in range(3):
            program = with_record(wait_record(packets))
            yield "a wait for ever", replace(program, stuck=frozenset([program.start + 1]))
    lanes, filters = config.lane_depth - config.size, config.filter_depth - config.size
    bad_lanes = (
        TileWord(0, 0, 0),
        TileWord(lanes + 1, 1, 0),
        TileWord(lanes, 2, 0),
        TileWord(0, MAX_16, 0),
        TileWord(MAX_16, 1, 0),
    )
    for tile in (*bad_lanes, TileWord(0, 1, filters + 1), TileWord(0, 1, MAX_16)):
        for number in (0, 1):
            tiles = {**good.tiles, 2 + number: tile}
            yield (
                f"{number}: {tile}",
                with_record(replace(random_layer(rng, config), tile_base=2, tiles=2), tiles),
            )
    last = config.program_depth - 1
    for start in (last, config.program_depth, MAX_16):  # no END
        yield f"start {start}", Program({last: random_out(rng, config)}, good.tiles, start)
    yield "a wait at the end", Program({last: wait_record(1)}, good.tiles, last)
    yield "a jump to the end", Program({0: jump_record(last), last: random_out(rng, config)}, good.tiles, 0)


class Sequencer:
    """The block and its host."""

    def __init__(self, dut: Any) -> None:
        self.config = config_of(settings.parameters())
        self.memories = memories(self.config)
        inputs = (
            "rst",
            "start",
            "program_start",
            "error",
            "ld_program",
            "ld_tile",
            "ld_addr",
            "ld_data",
            "layer_done",
            "out_done",
            "wait_go",
            "deadlock",
        )
        self.bench = Bench(dut, *inputs)
        self.idle = dict.fromkeys(
            ("rst", "start", "error", "ld_program", "ld_tile", "layer_done", "out_done"), 0
        )
        self.rng = numpy_rng("programs")

    async def cycle(self, outputs: Mapping[str, int], **inputs: int) -> None:
        await self.bench.cycle(**(self.idle | inputs))
        self.bench.expect(**outputs)

    async def reset(self) -> None:
        await self.bench.reset(**{name: 0 for name in self.idle if name != "rst"})

    async def load(self, program: Program) -> None:
        for tile, alike in groupby(sorted(program.tiles), key=lambda address: program.tiles[address]):
            first, *others = alike
            entry = (tile.lane_base, tile.passes, tile.filter_base, tile.slot_base)
            await self.cycle(STOPPED, ld_tile=1, ld_addr=first, ld_data=word(self.memories["TILE"], entry))
            await self.bench.sweep("ld_addr", others)
        for address, record in program.records.items():
            values = tuple(getattr(record, name) for name in PROGRAM_FIELDS)
            await self.cycle(
                STOPPED, ld_program=1, ld_addr=address, ld_data=word(self.memories["PROGRAM"], values)
            )

    async def start(self, program: Program) -> None:
        await self.cycle(STOPPED, start=1, program_start=program.start)

    async def run(self, program: Program) -> Step:
        """Runs from start to end, checks every cycle, and returns the last step."""
        await self.load(program)
        await self.start(program)
        step = Step()
        for step in timeline(program, self.config, self.rng):
            await self.cycle(step.outputs, **step.inputs)
        await self.cycle(STOPPED)
        return step

    async def stays_stopped(self) -> None:
        """After an error, only a reset starts it again."""
        await self.cycle(STOPPED)
        await self.cycle(STOPPED, start=1, program_start=0)
        for _ in range(4):
            await self.cycle(STOPPED)


@cocotb.test(skip=DEEP)
async def programs(dut: Any) -> None:
    sequencer = Sequencer(dut)
    config = sequencer.config
    await sequencer.reset()
    kinds = (
        "maxima",
        "mode_changes",
        "layers",
        "packets",
        "with_a_rest",
        "one_chunk",
        "phases",
        "across_phases",
        "gaps",
        "least_gap",
        "largest_gap",
        "waits",
        "jumps",
        "jumps_back",
        "waits_behind_a_gap",
        "jumps_behind_a_gap",
    )
    seen = dict.fromkeys((*kinds, "last_edge", "last_tap", "last_tile", "last_word"), 0)
    for number in range(20):
        program = random_program(
            sequencer.rng, config, at_the_end=number % 4 == 0, gap={1: 1, 2: MAX_GAP}.get(number % 4)
        )
        last = await sequencer.run(program)
        assert last.outputs["done"]
        path = list(program.path())
        behind_a_gap = False
        for place_in_path, (address, record) in enumerate(path):
            is_wait, is_jump = record.opcode == OPCODE_WAIT, record.opcode == OPCODE_JUMP
            seen["waits"] += is_wait
            seen["jumps"] += is_jump
            seen["jumps_back"] += is_jump and record.words < address
            seen["waits_behind_a_gap"] += is_wait and behind_a_gap
            seen["jumps_behind_a_gap"] += is_jump and behind_a_gap
            if is_wait or is_jump:
                continue
            behind_a_gap = record.gap > 0
            total = record.words * record.phases
            is_layer = record.opcode == OPCODE_LAYER
            seen["layers"] += is_layer
            seen["packets"] += record.opcode == OPCODE_OUT
            seen["last_word"] += address == config.program_depth - 1
            if is_layer:
                seen["with_a_rest"] += total % record.chunk_words != 0
                seen["one_chunk"] += total <= record.chunk_words
                rest = (r for _, r in path[place_in_path + 1 :])
                following = next(r for r in rest if r.opcode not in (OPCODE_WAIT, OPCODE_JUMP))
                seen["maxima"] += record.mode
                seen["mode_changes"] += record.gap > 0 and following.mode != record.mode
                seen["gaps"] += record.gap > 0
                seen["least_gap"] += record.gap == 1
                seen["largest_gap"] += record.gap == MAX_GAP
                seen["phases"] += record.phases > 1
                seen["across_phases"] += record.phases > 1 and record.words % record.chunk_words != 0
                seen["last_edge"] += (
                    record.edge_base + (record.phases - 1) * record.edge_stride + record.words
                    == config.edge_depth
                )
                seen["last_tap"] += (
                    record.tap_base + (record.phases - 1) * record.tap_stride == config.tap_depth - 1
                )
                seen["last_tile"] += record.tile_base + record.tiles == config.tile_depth
    sequencer.bench.done(**seen)


@cocotb.test(skip=DEEP)
async def every_bad_field(dut: Any) -> None:
    sequencer = Sequencer(dut)
    codes: dict[str, int] = {}
    for name, program in bad_programs(sequencer.rng, sequencer.config):
        await sequencer.reset()
        last = await sequencer.run(program)
        assert last.outputs["err_valid"], f"{name}: is legal"
        code = ErrorCode(last.outputs["err_code"]).name
        codes[code] = codes.get(code, 0) + 1
        await sequencer.stays_stopped()
    assert set(codes) == {"PROGRAM_RANGE", "PROGRAM_OPCODE", "PROGRAM_FIELD", "TILE_FIELD", "DEADLOCK"}
    sequencer.bench.done(**codes)


@cocotb.test(skip=DEEP)
async def errors_elsewhere_and_resets_in_any_cycle(dut: Any) -> None:
    sequencer = Sequencer(dut)
    rng = sequencer.rng
    await sequencer.reset()
    kinds = ("errors", "errors_at_end", "errors_in_wait", "errors_as_a_layer_is_left")
    seen = dict.fromkeys((*kinds, "resets", "resets_in_wait", "while_issuing", "while_waiting"), 0)
    for number in range(60):
        gap = edgy(rng, 1, MAX_GAP, 0.4) if number % 3 == 0 else None
        program = random_program(rng, sequencer.config, gap=gap)
        steps = list(timeline(program, sequencer.config, rng))
        issuing = [n for n, step in enumerate(steps) if step.outputs["issue_valid"]]
        waiting = [n for n, step in enumerate(steps) if not step.outputs["issue_valid"]]
        in_wait = [n for n in waiting if steps[n].outputs["wait_valid"]]
        left = [n for n in waiting if steps[n].outputs["layer_passed"]]
        choices = (waiting, issuing or waiting, in_wait or waiting, left or waiting, [len(steps) - 1])
        cut = int(rng.choice(choices[number % len(choices)]))
        stop = steps[cut]
        await sequencer.load(program)
        await sequencer.start(program)
        for step in steps[:cut]:
            await sequencer.cycle(step.outputs, **step.inputs)
        seen["while_issuing" if stop.outputs["issue_valid"] else "while_waiting"] += 1
        if number // len(choices) % 2:
            await sequencer.cycle(
                stop.outputs | {"done": 0, "layer_passed": 0, "out_start": 0}, **stop.inputs, error=1
            )
            await sequencer.cycle(STOPPED, error=1)
            await sequencer.stays_stopped()
            seen["errors"] += 1
            seen["errors_at_end"] += stop.outputs["done"]
            seen["errors_in_wait"] += stop.outputs["wait_valid"]
            seen["errors_as_a_layer_is_left"] += stop.outputs["layer_passed"]
            await sequencer.reset()
        else:
            await sequencer.cycle(stop.outputs, **stop.inputs, rst=1)
            seen["resets"] += 1
            seen["resets_in_wait"] += stop.outputs["wait_valid"]
        await sequencer.cycle(STOPPED)
        last = await sequencer.run(outs(sequencer.config, 0, 0, 1))  # no gap is left from the layer before
        assert last.outputs["done"]
    sequencer.bench.done(**seen)


# deep memories

SHOWN = 40  # cycles of a program that is begun and cut off
AROUND = 2  # words, passes or tiles that are compared before and after a counter passes a power of two


def one_layer(start: int = 0, tile: TileWord | None = None, tiles: int = 1, **fields: int) -> Program:
    """A layer of one tile, with these `fields`, and END."""
    plain = {"words": 1, "phases": 1, "chunk_words": 1, "tiles": tiles}
    record = RecordWord(OPCODE_LAYER, **{**plain, **fields})
    base = record.tile_base
    # those after the first few are never reached
    table = {base + n: tile or TileWord(4 * n, 1, n) for n in range(min(tiles, 12))}
    return Program({start: record, start + 1: RecordWord(OPCODE_END)}, table, start)


def deep_programs(config: ArrayConfig) -> Iterator[tuple[str, Program]]:
    """Each field at a power of two and a little more. With a bit too few, it would be almost 0."""
    for mark in (value + 2 for value in landmarks(MAX_16 - 2)[1:]):
        yield "words", one_layer(words=mark, chunk_words=2)
        yield "phases", one_layer(phases=mark, chunk_words=2)
        yield "chunk_words", one_layer(words=config.edge_depth - 1, chunk_words=mark)
        yield "edge_base", one_layer(edge_base=mark)
        yield "edge_stride", one_layer(phases=2, edge_stride=mark, chunk_words=2)
        yield "tap_base", one_layer(tap_base=mark)
        yield "tap_stride", one_layer(phases=2, tap_stride=mark, chunk_words=2)
        yield "tile_base", one_layer(tile_base=mark, tile=TileWord(8, 2, 9, 10))
        yield "tiles", one_layer(tiles=mark)
        yield "slot_base", one_layer(tile=TileWord(0, 1, 0, mark))
        if mark <= config.lane_depth - config.size:
            yield "lane_base", one_layer(tile=TileWord(mark, 1, 0))
            yield "filter_base", one_layer(tile=TileWord(0, 1, mark))
        if mark * config.size <= config.lane_depth:
            yield "passes", one_layer(tile=TileWord(0, mark, 0))
        if mark < config.program_depth - 1:
            yield "start", one_layer(mark, words=2)
        yield "start", one_layer(mark - 2, phases=2) if mark < MAX_16 else one_layer(MAX_16 - 1)
        yield "out_words", outs(config, 1, 0, min(mark, config.feature_depth))
        # an address of 17 bits, which is that of another word in 16
        yield "beyond", one_layer(phases=2, edge_base=MAX_16, edge_stride=mark)
        yield "beyond", one_layer(phases=2, tap_base=MAX_16, tap_stride=mark)
        for packets in (mark - 2, mark):
            yield "packets", Program({0: wait_record(packets), 1: RecordWord(OPCODE_END)}, {}, 0)
        yield "target", Program({0: jump_record(mark), mark: RecordWord(OPCODE_END)}, {}, 0)
        base = min(mark, config.feature_depth - 1)
        yield "out_base", outs(config, 0, base, config.feature_depth - base)
    yield "beyond", one_layer(words=2, edge_base=MAX_16)
    # an end of 18 bits, which is one of the first lanes in 17
    yield "beyond", one_layer(tile=TileWord(MAX_16, (MAX_16 + 1) // config.size + 1, 0))
    for mark in (1 << power for power in range(7)):
        yield "gap", one_layer(gap=min(MAX_GAP, mark + 2))


def outs(config: ArrayConfig, bank: int, base: int, words: int) -> Program:
    last = config.program_depth - 2
    return Program({last: out_record(bank, base, words), last + 1: RecordWord(OPCODE_END)}, {}, last)


@cocotb.test(skip=not DEEP)
async def every_field_past_every_power_of_two(dut: Any) -> None:
    sequencer = Sequencer(dut)
    begun: dict[str, int] = {}
    for name, program in deep_programs(sequencer.config):
        await sequencer.reset()
        await sequencer.load(program)
        await sequencer.start(program)
        for step in islice(timeline(program, sequencer.config, sequencer.rng), SHOWN):
            await sequencer.cycle(step.outputs, **step.inputs)
        begun[name] = begun.get(name, 0) + 1
    sequencer.bench.done(**begun)


@cocotb.test(skip=not DEEP)
async def the_end_of_a_full_program_memory(dut: Any) -> None:
    """The program word that is reported has 17 bits."""
    sequencer = Sequencer(dut)
    start = sequencer.config.program_depth - 1
    await sequencer.reset()
    last = await sequencer.run(Program({start: out_record(0, 0, 1)}, {}, start))
    assert last.outputs["err_info"] == 65536
    await sequencer.stays_stopped()
    sequencer.bench.done()


NEAR = {mark + k for mark in landmarks(MAX_16) for k in range(-AROUND, AROUND + 1)}


def watch_word(at: int, _index: int, _number: int) -> bool:
    return at in NEAR


def watch_pass(_at: int, index: int, _number: int) -> bool:
    return index in NEAR


def watch_tile(_at: int, _index: int, number: int) -> bool:
    return number in NEAR


def long_programs(config: ArrayConfig) -> Iterator[tuple[str, Program, Watch]]:
    """For each counter a program that runs it past 2^15. In one of two passes, the second returns to the
    beginning of each chunk.
    """
    two, long = TileWord(0, 2, 0), (1 << 15) + AROUND
    yield "chunk_words", one_layer(words=long, chunk_words=long), watch_word
    # ends in an error, at the first word that a bank of 65,536 does not have
    yield "words", one_layer(words=MAX_16, phases=2, chunk_words=3, tile=two), watch_word
    phases = {"phases": long, "chunk_words": 3, "tap_stride": 1, "edge_stride": 1}
    yield "phases", one_layer(**phases, tile=two), watch_word
    # all lanes that a memory can have are 2^14 passes
    yield "passes", one_layer(tile=TileWord(0, config.lane_depth // config.size, 0)), watch_pass
    tiles = {n: TileWord(n, 1, n) if n in NEAR else TileWord(0, 1, 0) for n in range(long)}
    record = RecordWord(OPCODE_LAYER, 1, 1, 1, tiles=len(tiles))
    yield "tiles", Program({0: record, 1: RecordWord(OPCODE_END)}, tiles, 0), watch_tile


@cocotb.test(skip=not DEEP)
async def counters_past_every_power_of_two(dut: Any) -> None:
    """Words, phases, passes and tiles, one after the other. Those around each power of two are compared."""
    sequencer = Sequencer(dut)
    counted = {}
    for name, program, watch in long_programs(sequencer.config):
        await sequencer.reset()
        await sequencer.load(program)
        await sequencer.start(program)
        for step in timeline(program, sequencer.config, sequencer.rng, watch):
            if step.unwatched:
                await sequencer.cycle(QUIET | {"issue_valid": 1})
                await sequencer.bench.skip(step.unwatched - 1)
            else:
                await sequencer.cycle(step.outputs, **step.inputs)
        await sequencer.cycle(STOPPED)
        counted[name] = 1
    sequencer.bench.done(**counted)
