"""Requantisation, compared with the formula of docs/formats.md in exact fractions, and the word register,
compared with a list of pixels.

Corners:

- a shift of 0 (no rounding term), 1 and 63; those past every bit of a product
- ties, positive and negative
- the zero point at both ends, and sums whose pixel it brings into the range or out of it
- saturation at both ends, of values that are too large by any one bit, and values just inside them; ReLU;
  clamps anywhere, also a low one above the high
- a pixel that the plane does not have
- sums at both ends of 33 bits; multiplier 0 and 65535
- words back to back, where each parameter of the next word arrives while the last pixels of this word are in
  the pipeline
- gaps within a word; garbage on the parameters in every other cycle
- a reset in the middle of a word, after which no more of it arrives
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import cocotb
import numpy as np

from tb.common import settings
from tb.common.block import Bench, chance, edgy, pack
from tb.common.seeding import numpy_rng

WORDS = 400
LATENCY = 3
MAX_SHIFT = 63
INT33 = -(1 << 32), (1 << 32) - 1


@dataclass(frozen=True)
class Filter:
    """Parameters of a column for a word."""

    multiplier: int
    shift: int
    zero: int
    low: int
    high: int

    def pixel(self, total: int, keep: bool) -> int:
        """What is above the high clamp becomes that, whatever the low one is."""
        value = self.rounded(total) + self.zero
        clamped = self.high if value > self.high else max(value, self.low)
        return clamped if keep else 0

    def rounded(self, total: int) -> int:
        """Half up. For a shift of 0 this changes nothing."""
        exact = Fraction(total * self.multiplier, 1 << self.shift)
        return math.floor(exact + Fraction(1, 2))

    def is_tie(self, total: int) -> bool:
        return Fraction(total * self.multiplier, 1 << self.shift) % 1 == Fraction(1, 2)


def any_filter(rng: np.random.Generator) -> Filter:
    shift = (
        int(rng.choice([0, 1, 50, 51, 52, MAX_SHIFT]))
        if chance(rng, 0.2)
        else int(rng.integers(rng.choice([8, MAX_SHIFT + 1])))
    )
    multiplier = 1 << int(rng.integers(16)) if chance(rng, 0.4) else edgy(rng, 0, 65535)
    zero = edgy(rng, -128, 127) if chance(rng, 0.5) else 0
    low, high = (edgy(rng, -128, 127) for _ in range(2)) if chance(rng, 0.3) else (-128, 127)
    return Filter(multiplier, shift, zero, 0 if chance(rng, 0.3) else low, high)


def any_sum(rng: np.random.Generator, f: Filter) -> int:
    """Mostly a sum whose pixel is near or within -128..127; otherwise any, or one too large by a bit."""
    if chance(rng, 0.15):
        return edgy(rng, *INT33, probability=0.5)
    halves = (
        int(rng.choice([-257, -256, -255, 253, 254, 255]))
        if chance(rng, 0.3)
        else int(rng.integers(-300, 300))
    )
    largest = 32 + max(f.multiplier, 1).bit_length() - f.shift
    if largest > 9 and chance(rng, 0.4):  # too large by one bit, without which it would be in the range
        halves += int(rng.choice([-2, 2])) << int(rng.integers(9, largest))
    exact = Fraction((halves - 2 * f.zero) << f.shift, 2 * max(f.multiplier, 1))
    return min(max(math.floor(exact) + int(rng.integers(-1, 2)), INT33[0]), INT33[1])


@cocotb.test()
async def every_pixel_of_every_word(dut: Any) -> None:
    t = settings.parameters()["T"]
    rng = numpy_rng()
    names = ("multiplier", "shift")
    clamps = ("zero", "low", "high")
    loads = tuple(f"{name}_load" for name in (*names, "clamp"))
    bench = Bench(dut, "rst", "sum_valid", "sum", "sum_keep", *loads, *names, *clamps)
    idle = {"rst": 0, "sum_valid": 0} | dict.fromkeys(loads, 0)

    # cycle by cycle: the inputs, and the pixel that they add to the word register
    plan: list[dict[str, int]] = []
    shifted: dict[int, tuple[int, bool]] = {}  # pixel, and whether the plane has it
    ties = low = high = brought_in = crossed = resets = 0

    def at(cycle: int, **values: int) -> None:
        plan.extend(dict(idle) for _ in range(cycle + 1 - len(plan)))
        plan[cycle] |= values

    start = 0
    for _ in range(WORDS):
        f = any_filter(rng)
        at(start, multiplier_load=1, multiplier=f.multiplier)
        at(start + 1, shift_load=1, shift=f.shift)
        at(start + 2, clamp_load=1, **{name: getattr(f, name) for name in clamps})
        cycle = start + 1
        gaps = chance(rng, 0.2)
        count = int(rng.integers(1, t)) if chance(rng, 0.1) else t
        for _ in range(count):
            total, keep = any_sum(rng, f), chance(rng, 0.9)
            at(cycle, sum_valid=1, sum=total, sum_keep=keep)
            pixel = f.pixel(total, keep)
            shifted[cycle + LATENCY] = pixel, keep
            ties += keep and f.low < pixel < f.high and f.is_tie(total)
            brought_in += keep and f.low < pixel < f.high and not -128 <= f.rounded(total) <= 127
            crossed += keep and f.high < f.low and pixel in (f.low, f.high)
            low, high = low + (pixel == -128), high + (pixel == 127)
            cycle += int(rng.integers(1, 4)) if gaps else 1
        start = max(cycle - 1, start + 2) + (int(rng.integers(1, 8)) if chance(rng, 0.3) else 0)
        if count < t:
            at(start, rst=1)
            resets += 1
            # the pixel directly before the register is taken, earlier stages are lost
            shifted = {n: pixel for n, pixel in shifted.items() if n <= start + 1}
            start += 1
    at(len(plan) + LATENCY)

    await bench.reset(**{name: 0 for name in idle if name != "rst"})
    word: list[tuple[int, bool] | None] = [None] * t
    whole = 0
    for n, values in enumerate(plan):
        await bench.cycle(**values)
        if n in shifted:
            word = [*word[1:], shifted[n]]
        if None not in word:
            pixels = [one for one in word if one is not None]
            bench.expect(word=pack((p for p, _ in pixels), 8), word_keep=pack((k for _, k in pixels), 1))
            whole += 1
    bench.done(
        whole=whole, ties=ties, low=low, high=high, brought_in=brought_in, crossed=crossed, resets=resets
    )
