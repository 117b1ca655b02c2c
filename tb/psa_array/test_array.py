"""The array, compared with a matrix product: column c of a pixel is the sum over the rows of weight x
selected input.

Corners:

- passes of exactly T pixels, so that the reload is as long as the pass; longer passes
- a row of slots that arrives in the last possible cycle, in the first, and in between
- slots directly after those of the pass before
- gaps before any pixel, with garbage in them
- weights and pixels all at one end of their range (the largest possible sums)
- empty slots
- every select in every row
- a reset in the middle of a pass
- passes of maxima directly before and behind passes of sums; columns of no slots at all, which give -128, and
  maxima of pixels that are all -128 or all 127
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cocotb
import numpy as np

from tb.common import settings
from tb.common.block import Bench, chance, pack
from tb.common.seeding import numpy_rng

RUNS = 4  # each ends with a reset
PASSES = 8


@dataclass
class Cycle:
    """The values of the input pins, and the sums that leave the columns."""

    slots: tuple[int, int] | None
    pixels: dict[int, tuple[bool, bool, int]]
    sums: dict[int, int]


class Plan:
    """A run of passes, cycle by cycle. Pixel n enters row r in its own cycle + r, and its sum leaves column c
    ROWS + 2 + c cycles after it entered row 0, whatever the hops.
    """

    def __init__(
        self, rng: np.random.Generator, size: int, group: int, hop: int, weight_bits: int, slot_bits: int
    ) -> None:
        self.rng, self.size, self.group, self.hop = rng, size, group, hop
        self.weight_bits, self.slot_bits = weight_bits, slot_bits
        self.positions = 8 // weight_bits  # of a digit in its weight
        self.cycles: list[Cycle] = []
        self.selects: set[tuple[int, int]] = set()
        self.earliest = self.latest = 0
        self.maxima = self.mode_changes = self.nothing = 0
        self.maximum = False  # of the pass before
        self.previous: int | None = None  # the cycle in which the pass before entered row 0
        self.loaded = 0  # the cycle from which its slots are all in their PEs
        self.now = 1

    def at(self, cycle: int) -> Cycle:
        self.cycles.extend(Cycle(None, {}, {}) for _ in range(cycle + 1 - len(self.cycles)))
        return self.cycles[cycle]

    def numbers(self, bits: int, *shape: int) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Signed numbers: all of them at one end, or any values with many zeros."""
        end = 1 << bits - 1
        if chance(self.rng, 0.2):
            return np.full(shape, self.rng.choice([-end, end - 1]))
        return self.rng.integers(-end, end, size=shape) * (self.rng.random(shape) < 0.8)

    def add_pass(self) -> None:
        rng, size = self.rng, self.size
        pixels = size * int(rng.choice([1, 1, 2, 3]))
        weight, select = (
            self.numbers(self.weight_bits, size, size),
            rng.integers(self.group, size=(size, size)),
        )
        position = rng.integers(self.positions, size=(size, size))
        maximum = chance(rng, 0.4)
        self.mode_changes += maximum != self.maximum
        self.maximum = maximum
        if maximum:
            weight = -(rng.random((size, size)) < rng.choice([0.1, 0.5, 1.0])).astype(np.int64)
            position[:] = 0
            self.maxima += 1
            self.nothing += int((weight == 0).all(axis=0).any())
        bundles = self.numbers(8, pixels, size, self.group)
        gaps = rng.integers(0, 3, size=pixels) if chance(rng, 0.3) else np.zeros(pixels, dtype=np.int64)
        entry = self.now + np.cumsum(gaps) + np.arange(pixels)
        self.selects |= {(row, int(s)) for row in range(size) for s in select[row]}

        # from the `first` of the pass before in the last hop, and behind its slots, to the cycle before the
        # pass's own `first` in the first
        last = (size - 1) // self.hop
        slack = int(entry[0]) - 1 - max(self.previous + last if self.previous is not None else 0, self.loaded)
        early = int(rng.choice([0, slack, int(rng.integers(slack + 1))]))
        self.latest += early == 0
        self.earliest += early == slack > 0
        self.loaded = int(entry[0]) - 1 - early + size
        for row in range(size):
            above = (select[row] * self.positions + position[row]).tolist()
            slots = [
                pack([w], self.weight_bits) | a << self.weight_bits
                for w, a in zip(weight[row].tolist(), above, strict=True)
            ]
            self.at(int(entry[0]) - 1 - early + row).slots = row, pack(slots, self.slot_bits)

        for n, cycle in enumerate(entry.tolist()):
            for row in range(size):
                self.at(cycle + row).pixels[row] = n == 0, maximum, pack(bundles[n, row], 8)
            chosen = bundles[n, np.arange(size)[:, None], select]
            sums = (weight * 16**position * chosen).sum(axis=0)
            largest = np.where(weight == -1, chosen, -128).max(axis=0)
            for column, value in enumerate((largest if maximum else sums).tolist()):
                self.at(cycle + size + 2 + column).sums[column] = value
        self.previous = int(entry[0])
        self.now = int(entry[-1]) + 1 + (int(rng.integers(1, 3 * size)) if chance(rng, 0.3) else 0)


@cocotb.test()
async def columns_are_sums_of_products(dut: Any) -> None:
    p = settings.parameters()
    size, group, psum_bits = p["ROWS"], p["GROUP"], p["PSUM_BITS"]
    rng = numpy_rng()
    from_left = ("x_valid", "x_first", "x_maximum", "x_bundle")
    bench = Bench(dut, "rst", "row_valid", "row_index", "row_slots", *from_left)
    latest = earliest = sums = maxima = mode_changes = nothing = 0
    selects: set[tuple[int, int]] = set()
    for _ in range(RUNS):
        await bench.reset(row_valid=0, x_valid=0)
        plan = Plan(rng, size, group, p["HOP"], p["WEIGHT_BITS"], p["SLOT_BITS"])
        for _ in range(PASSES):
            plan.add_pass()
        stop = int(rng.integers(len(plan.cycles) // 2, len(plan.cycles) + 1))
        for cycle in plan.cycles[:stop]:
            await drive(bench, cycle, size, group)
            bench.expect_parts("psum", psum_bits, cycle.sums)
            sums += len(cycle.sums)
        latest, earliest, selects = latest + plan.latest, earliest + plan.earliest, selects | plan.selects
        maxima, mode_changes = maxima + plan.maxima, mode_changes + plan.mode_changes
        nothing += plan.nothing
    assert len(selects) == size * group, f"{len(selects)} of {size * group} pairs of row and select"
    modes = {"maxima": maxima, "mode_changes": mode_changes, "nothing": nothing}
    bench.done(sums=sums, latest=latest, earliest=earliest, **modes)


async def drive(bench: Bench, cycle: Cycle, size: int, group: int) -> None:
    inputs = {
        "rst": 0,
        "row_valid": int(cycle.slots is not None),
        "x_valid": sum(1 << row for row in cycle.pixels),
    }
    if cycle.slots is not None:
        inputs["row_index"], inputs["row_slots"] = cycle.slots
    if cycle.pixels:
        # rows without a pixel keep random bits
        bits = int.from_bytes(bench.rng.bytes(size * group), "little")
        first = of_maxima = 0
        for row, (begins, maximum, bundle) in cycle.pixels.items():
            place = row * group * 8
            bits = bits & ~(((1 << group * 8) - 1) << place) | bundle << place
            first |= begins << row
            of_maxima |= maximum << row
        inputs |= {"x_first": first, "x_maximum": of_maxima, "x_bundle": bits}
    await bench.cycle(**inputs)
