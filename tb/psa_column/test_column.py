"""One column: the word that comes of each pixel's sum over the passes, in its cycle. `psa_accumulator` and
`psa_requant` have the ends of all ranges in tests of their own; this one is about what is between them.

Corners:

- tiles of one pass and of several, of one word and of several, of sums and of maxima
- pixels that the plane does not have, beside pixels that it has
- words without a gap between them, so that a parameter of the next comes while the last pixels of this one
  are in the pipeline
- gaps with garbage
"""

from __future__ import annotations

from itertools import product
from typing import Any

import cocotb

from tb.common import settings
from tb.common.block import Bench, chance, pack
from tb.common.seeding import numpy_rng

TILES = 60
AHEAD = 2  # cycles from the read of a pixel to its sum
LATENCY = 4  # from the sum of the last pass to the pixel in the word
SHIFT = 16
# the load of each parameter, in the cycle before a word's first sum and in those behind it
LOADS = ("bias_load", "multiplier_load", "shift_load", "clamp_load")


@cocotb.test()
async def words_of_tiles(dut: Any) -> None:
    parameters = settings.parameters()
    t, words = parameters["T"], parameters["ACC_DEPTH"] // parameters["T"]
    top = (1 << (parameters["PSUM_BITS"] - 1)) - 1
    rng = numpy_rng()
    pixel = ("valid", "index", "first", "last", "maximum", "keep")
    buses = ("bias", "multiplier", "shift", "zero", "low", "high")
    bench = Bench(
        dut,
        "rst",
        *("read_valid", "read_index", "psum"),
        *(f"pixel_{name}" for name in pixel),
        *LOADS,
        *buses,
    )
    idle = {"rst": 0, "read_valid": 0, "pixel_valid": 0} | dict.fromkeys(LOADS, 0)

    # cycle by cycle: the inputs, and the pixel that they add to the word
    plan: list[dict[str, int]] = []
    shifted: dict[int, tuple[int, bool]] = {}
    seen = dict.fromkeys(("one_pass", "passes", "one_word", "words", "sums", "maxima", "left_out", "gaps"), 0)

    def at(cycle: int, **values: int) -> None:
        plan.extend(dict(idle) for _ in range(cycle + 1 - len(plan)))
        plan[cycle] |= values

    now = AHEAD
    for _ in range(TILES):
        passes, count = int(rng.integers(1, 4)), int(rng.integers(1, min(words, 3) + 1))
        maximum = chance(rng, 0.4)
        places = [int(place) for place in rng.choice(words, count, replace=False)]
        totals: dict[int, int] = {}
        seen["maxima" if maximum else "sums"] += 1
        seen["one_pass" if passes == 1 else "passes"] += 1
        seen["one_word" if count == 1 else "words"] += 1
        for number, place in product(range(passes), places):
            first, last = number == 0, number == passes - 1
            if chance(rng, 0.2):
                now += int(rng.integers(1, 2 * t))
                seen["gaps"] += 1
            bias, zero = int(rng.integers(-5000, 5000)), int(rng.integers(-20, 20))
            multiplier, low, high = (
                int(rng.integers(1, 200)),
                int(rng.integers(-128, 0)),
                int(rng.integers(128)),
            )
            if last:
                at(now - 1, bias_load=1, bias=bias)
                at(now, multiplier_load=1, multiplier=multiplier)
                at(now + 1, shift_load=1, shift=SHIFT)
                at(now + 2, clamp_load=1, zero=zero, low=low, high=high)
            for i in range(t):
                index, psum = place * t + i, int(rng.integers(-top, top))
                psum = max(-128, min(127, psum >> 9)) if maximum else psum
                keep = chance(rng, 0.8)
                if first:
                    totals[index] = psum
                else:
                    at(now - AHEAD, read_valid=1, read_index=index)
                    so_far = totals[index]
                    totals[index] = max(so_far, psum) if maximum else so_far + psum
                at(now, pixel_valid=1, pixel_index=index, pixel_first=first, pixel_last=last)
                at(now, pixel_maximum=maximum, pixel_keep=keep, psum=psum)
                if last:
                    rounded = ((totals[index] + bias) * multiplier + (1 << (SHIFT - 1))) >> SHIFT
                    value = min(max(rounded + zero, low), high)
                    shifted[now + LATENCY] = value if keep else 0, keep
                    seen["left_out"] += not keep
                now += 1
    at(now + LATENCY)

    await bench.reset(**{name: 0 for name in idle if name != "rst"})
    word: list[tuple[int, bool] | None] = [None] * t
    for n, values in enumerate(plan):
        await bench.cycle(**values)
        if n in shifted:
            word = [*word[1:], shifted[n]]
        if None not in word:
            pixels = [one for one in word if one is not None]
            bench.expect(word=pack((p for p, _ in pixels), 8), word_keep=pack((k for _, k in pixels), 1))
    bench.done(**seen)
