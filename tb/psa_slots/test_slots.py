"""psa_slots: a row of slots comes out eight cycles after the first issue of its lane, and for no other issue.

Model: a dictionary of rows, and a cycle number for each row that must come. With an XOR decoder the rows are
those that the encoder was given.

Corners:

- rows in every cycle and with gaps
- issues that are not the first of a pass
- lane 0 and the last lane; a lane overwritten
- reset with rows in the pipeline, and in the cycle of an issue
- garbage on lane and row when no row is read
- with a decoder: tiles with hardly any slot in use, with all, and with some; a tile that ends with the
  memory, one that continues beyond it, one whose code is broken; both at once, of which the code is reported
"""

from __future__ import annotations

from typing import Any

import cocotb
import numpy as np
import numpy.typing as npt

from pymodel.machine.config import XOR_PATCHES, ArrayConfig
from pymodel.machine.errors import ErrorCode
from pymodel.machine.memory import slot_row
from pymodel.machine.slot_rows import RAW, encode_tile, row_length
from tb.common import settings
from tb.common.block import Bench, chance, edgy, landmarks
from tb.common.seeding import numpy_rng
from tb.common.sizes import XOR, XOR_DEEP, XOR_DIGITS, machine_parameters

IntArray = npt.NDArray[np.int64]

LATENCY = 8
CYCLES = 400
INPUTS = (
    "rst",
    "issue_valid",
    "issue_first",
    "issue_tile_first",
    "issue_row",
    "issue_lane",
    "issue_slot_base",
    "ld_slot",
    "ld_addr",
    "ld_data",
)


PARAMETERS = settings.parameters()
MANY = PARAMETERS["LANE_DEPTH"] > 1 << 12  # rows: too many to fill


@cocotb.test(skip=bool(PARAMETERS["XOR_INPUTS"]) or MANY)
async def a_row_five_cycles_after_its_issue(dut: Any) -> None:
    size = settings.parameters()
    rng = numpy_rng("slots")
    bench = Bench(dut, *INPUTS)
    await bench.reset(issue_valid=0, ld_slot=0)
    memory: dict[int, int] = {}
    rows = resets = other_passes = overwritten = 0
    for rate in (1.0, 0.5, 0.9):
        for lane in range(size["LANE_DEPTH"]):
            if lane in memory and chance(rng, 0.5):
                continue
            overwritten += lane in memory
            memory[lane] = int.from_bytes(rng.bytes(size["ROW_WIDTH"] // 8 + 1), "little") & bench.mask(
                "ld_data"
            )
            await bench.cycle(rst=0, issue_valid=0, ld_slot=1, ld_addr=lane, ld_data=memory[lane])
        due: dict[int, tuple[int, int]] = {}
        for n in range(CYCLES):
            issue = n < CYCLES - LATENCY and chance(rng, rate)
            first = issue and chance(rng, 0.8)
            reset = chance(rng, 0.02)
            lane, row = edgy(rng, 0, size["LANE_DEPTH"] - 1), edgy(rng, 0, size["ROWS"] - 1)
            pins = {"issue_first": int(first)} if issue else {}
            pins |= {"issue_lane": lane, "issue_row": row} if first else {}
            await bench.cycle(rst=int(reset), issue_valid=int(issue), ld_slot=0, **pins)
            bench.expect(err_valid=0)
            if bench.number in due:
                row_index, row_slots = due.pop(bench.number)
                bench.expect(row_valid=1, row_index=row_index, row_slots=row_slots)
                rows += 1
            else:
                bench.expect(row_valid=0)
            if reset:
                resets += len(due) > 0
                due.clear()
            elif first:
                due[bench.number + LATENCY] = (row, memory[lane])
            other_passes += issue and not first
        assert not due
    bench.done(
        rows=rows,
        resets_with_rows_in_flight=resets,
        issues_of_later_words=other_passes,
        lanes_overwritten=overwritten,
    )


@cocotb.test(skip=bool(PARAMETERS["XOR_INPUTS"]))
async def every_lane_has_a_row_of_its_own(dut: Any) -> None:
    """Lanes next to every power of two, up to the last. With a bit too few, some would be the same."""
    rng = numpy_rng("landmarks")
    bench = Bench(dut, *INPUTS)
    await bench.reset(issue_valid=0, ld_slot=0)
    rows = {
        lane: int.from_bytes(rng.bytes(PARAMETERS["ROW_WIDTH"] // 8 + 1), "little") & bench.mask("ld_data")
        for lane in landmarks(PARAMETERS["LANE_DEPTH"] - 1)
    }
    for lane, row in rows.items():
        await bench.cycle(rst=0, issue_valid=0, ld_slot=1, ld_addr=lane, ld_data=row)
    for lane, row in rows.items():
        pins = {"issue_first": 1, "issue_lane": lane, "issue_row": 0}
        await bench.cycle(rst=0, issue_valid=1, ld_slot=0, **pins)
        for _ in range(LATENCY):
            await bench.cycle(rst=0, issue_valid=0, ld_slot=0)
        bench.expect(row_valid=1, row_index=0, row_slots=row)
    bench.done(lanes=len(rows))


def random_rows(rng: np.random.Generator, config: ArrayConfig) -> IntArray:
    """The rows of a tile of up to three passes."""
    rows = slot_row(config).zeros(config.size * int(rng.integers(1, 4)))
    used = rng.random(rows.shape[:2]) < rng.choice([0.05, 0.4, 0.5, 0.6, 1.0])
    low = -(1 << config.weight_bits - 1)
    weight = rng.integers(low, -low, used.shape)
    for place, field in enumerate(slot_row(config).fields):
        rows[:, :, place] = weight if field.signed else rng.integers(0, field.high, used.shape, endpoint=True)
    rows[~used | (weight == 0)] = 0
    return rows


def first_outside(config: ArrayConfig, words: IntArray, rows: int, there: int) -> int:
    """The first row that does not end in the first `there` words of a tile."""
    bits = words.reshape(-1)
    end = 0
    for row in range(rows):
        count = int(bits[end : end + 3] @ (1, 2, 4))
        end += row_length(config, count if count == RAW else min(count, XOR_PATCHES))
        if end > there * words.shape[1]:
            return row
    return rows


@cocotb.test(skip=not PARAMETERS["XOR_INPUTS"])
async def encoded_tiles(dut: Any) -> None:
    parameters = settings.parameters()
    config = next(
        c for c in (XOR, XOR_DIGITS, XOR_DEEP) if machine_parameters(c).items() >= parameters.items()
    )
    row_spec = slot_row(config)
    depth, t = config.lane_depth, config.size
    rng = numpy_rng("tiles")
    bench = Bench(dut, *INPUTS)
    await bench.reset(issue_valid=0, ld_slot=0)
    due: dict[int, tuple[int, int]] = {}
    seen = dict.fromkeys(
        (
            "rows",
            "tiles_without_a_gap",
            "at_the_end",
            "beyond_the_memory",
            "broken",
            "broken_at_the_end",
            "other_words",
        ),
        0,
    )
    error: tuple[int, int, int] | None = None  # cycle, code, info

    async def cycle(**pins: int) -> None:
        await bench.cycle(rst=0, **({"issue_valid": 0, "ld_slot": 0} | pins))
        if error is not None and bench.number == error[0]:
            bench.expect(err_valid=1, err_code=error[1], err_info=error[2])
        else:
            bench.expect(err_valid=0)
        here = due.pop(bench.number, None)
        bench.expect(row_valid=int(here is not None))
        if here is not None:
            bench.expect(row_index=here[0], row_slots=here[1])
            seen["rows"] += 1

    for kind in rng.permutation(
        6 * ["right"] + 5 * ["at_the_end", "beyond_the_memory", "broken", "broken_at_the_end"]
    ):
        # two tiles in the memory, one after the other in the program
        tiles = []
        base = 0
        for _ in range(2):
            rows = random_rows(rng, config)
            words = encode_tile(config, rows)
            if base + len(words) > depth:
                break
            tiles.append((base, rows, words[..., 0]))  # a word of SLOT is bits
            base += len(words)
        start, rows, words = tiles[-1]
        if kind in ("at_the_end", "beyond_the_memory"):
            start = depth - len(words) + (kind == "beyond_the_memory")
            tiles[-1] = (start, rows, words)
            if len(tiles) > 1 and start < len(tiles[0][2]):
                del tiles[0]
        if kind == "broken_at_the_end":  # and the next row is beyond the memory: both are found in one cycle
            start, tiles = depth - 1, tiles[-1:]
        if kind.startswith("broken"):
            words = words.copy()
            words[0, :3] = [(XOR_PATCHES + 1) >> n & 1 for n in range(3)]
            tiles[-1] = (start, rows, words)
        for start, _, words in tiles:
            for n, word in enumerate(words[: depth - start]):
                await cycle(
                    ld_slot=1, ld_addr=start + n, ld_data=sum(int(bit) << at for at, bit in enumerate(word))
                )
        outside = (
            first_outside(config, words, len(rows), depth - start) if kind == "beyond_the_memory" else -1
        )
        stopped = False
        for number, (start, rows, _) in enumerate(tiles):
            wrong = number == len(tiles) - 1
            for r, row in enumerate(rows):
                if error is not None and not (kind == "broken_at_the_end" and r == 1):
                    stopped = True
                    break
                row_slots = int.from_bytes(row_spec.encode(row[None]).tobytes(), "little")
                if r % t == 0 and r:
                    for _ in range(int(rng.choice([0, 0, t, 2 * t]))):  # later words of the pass
                        await cycle(issue_valid=1, issue_first=0)
                        seen["other_words"] += 1
                now = bench.number + 1
                seen["tiles_without_a_gap"] += number > 0 and r == 0
                if wrong and kind.startswith("broken") and r <= 1:
                    if r == 0:
                        error = (now + 7, ErrorCode.SLOT_CODE, start)
                elif wrong and kind == "beyond_the_memory" and r == outside:
                    error = (now + 6, ErrorCode.SLOT_RANGE, depth)
                else:
                    due[now + LATENCY] = (r % t, row_slots)
                pins = {"issue_tile_first": int(r == 0), "issue_row": r % t, "issue_slot_base": start}
                await cycle(issue_valid=1, issue_first=1, **pins)
            if stopped:
                break
        if error is not None:
            while bench.number < error[0]:
                # rows after it may come or not, because the machine stops
                await bench.cycle(rst=0, issue_valid=0, ld_slot=0)
            bench.expect(err_valid=1, err_code=error[1], err_info=error[2])
            error = None
            due.clear()
            await bench.reset(issue_valid=0, ld_slot=0)
        else:
            for _ in range(LATENCY):
                await cycle()
            assert not due
        seen[kind] = seen.get(kind, 0) + 1
    bench.done(**seen)
