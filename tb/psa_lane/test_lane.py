"""The lane serialiser, compared with a list of pixels.

Corners: the next load in the earliest cycle, one later, and much later; words that begin a pass and words
that do not; words of maxima between words of sums; resets in the middle of a word, after which no more of it
comes, and a load directly after; garbage on the load pins in between; banks whose first pixel lies in any
place of their word.
"""

from __future__ import annotations

from typing import Any

import cocotb

from tb.common import settings
from tb.common.block import Bench, chance, edgy, pack
from tb.common.seeding import numpy_rng

CYCLES = 1500


@cocotb.test()
async def pixels_one_by_one(dut: Any) -> None:
    t, group = settings.parameters()["T"], settings.parameters()["GROUP"]
    rng = numpy_rng()
    bench = Bench(dut, "rst", "load", "load_first", "load_maximum", "load_shift", "load_data", "load_pixel")
    await bench.reset(load=0)
    left: list[dict[str, int]] = []  # the expected outputs of this cycle and the next
    back_to_back = cut = firsts = maxima = 0
    rate = 1.0
    running = False  # a pixel left in the cycle before
    for _ in range(CYCLES):
        if chance(rng, 0.02):
            rate = float(rng.choice([1.0, 0.5, 0.1]))
        rst = chance(rng, 0.01)
        load = not left and chance(rng, rate)
        inputs = {"rst": int(rst), "load": int(load)}
        pixels = [[edgy(rng, -128, 127) for _ in range(group)] for _ in range(t)]
        shifts = [edgy(rng, 0, t - 1) for _ in range(group)]
        first, maximum = chance(rng, 0.4), chance(rng, 0.4)
        if load:
            inputs |= {"load_first": int(first), "load_maximum": int(maximum)}
            inputs |= {"load_shift": pack(shifts, t.bit_length() - 1)}
            places = [pixels[(p - shifts[g]) % t][g] for p in range(t) for g in range(group)]
            inputs |= {"load_data": pack(places, 8), "load_pixel": pack(pixels[0], 8)}
            back_to_back += running
            left = [
                {
                    "pixel_valid": 1,
                    "pixel_first": int(first and n == 0),
                    "pixel_maximum": int(maximum),
                    "pixel_bundle": pack(pixel, 8),
                }
                for n, pixel in enumerate(pixels)
            ]
            firsts += first
            maxima += maximum
        await bench.cycle(**inputs)
        bench.expect(**(left[0] if left else {"pixel_valid": 0}))

        running, left = bool(left), left[1:]
        if rst:
            cut += bool(left)
            left = []
    bench.done(back_to_back=back_to_back, cut=cut, firsts=firsts, maxima=maxima)
