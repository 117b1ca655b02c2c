"""The feature bank, compared with a row of pixels, each of which comes at its place in its word.

Corners:

- every shift from an even and from an odd word
- the last pixels of the bank
- a word written while it is read, as the first or the second of the two words of a read (its pixels may be
  anything, those of the other word not), and read in the next cycle (the new pixels come)
- reads in every cycle
- garbage on addresses without an enable
- a bank of four words
- a depth that is not a power of two
"""

from __future__ import annotations

from typing import Any

import cocotb

from tb.common import settings
from tb.common.block import Bench, chance, edgy, landmarks, pack
from tb.common.seeding import numpy_rng

CYCLES = 2000


@cocotb.test(skip=settings.parameters()["DEPTH"] > 1 << 12)  # too many to read what is written
async def any_pixel_address(dut: Any) -> None:
    t, depth = settings.parameters()["T"], settings.parameters()["DEPTH"]
    rng = numpy_rng()
    bench = Bench(dut, "wr_en", "wr_word", "wr_data", "rd_en", "rd_word", "rd_shift")
    pixels: list[int | None] = [None] * (depth * t)
    expected: dict[int, int] = {}
    kinds = set()  # (odd word, shift) of the reads that were compared
    collisions = 0
    for _ in range(CYCLES):
        write, read = chance(rng, 0.4), chance(rng, 0.9)
        first = edgy(rng, 0, (depth - 1) * t)
        near = first // t + int(rng.integers(2))
        word = near if chance(rng, 0.3) and near < depth else int(rng.integers(depth))
        new = [edgy(rng, -128, 127) for _ in range(t)]
        inputs = {"wr_en": int(write), "rd_en": int(read)}
        if write:
            inputs |= {"wr_word": word, "wr_data": pack(new, 8)}
        if read:
            inputs |= {"rd_word": first // t, "rd_shift": first % t}
        await bench.cycle(**inputs)
        bench.expect_parts("rd_data", 8, expected)

        expected = {}
        for place, pixel in enumerate(pixels[first : first + t]):
            if read and pixel is not None and not (write and (first + place) // t == word):
                expected[(first + place) % t] = pixel
        if len(expected) == t:
            kinds.add((first // t % 2, first % t))
        collisions += bool(expected) and write and first - t < word * t < first + t
        if write:
            pixels[word * t : (word + 1) * t] = new
    assert len(kinds) == 2 * t, f"{len(kinds)} of {2 * t} kinds of read"
    bench.done(collisions=collisions)


@cocotb.test()
async def every_word_is_its_own(dut: Any) -> None:
    """Words next to every power of two, read alone and with the word after. With an address bit too few, some
    would be the same.
    """
    parameters = settings.parameters()
    t, depth = parameters["T"], parameters["DEPTH"]
    rng = numpy_rng("landmarks")
    bench = Bench(dut, "wr_en", "wr_word", "wr_data", "rd_en", "rd_word", "rd_shift")
    words = {word: rng.integers(-128, 128, t).tolist() for word in landmarks(depth - 1)}
    for word, pixels in words.items():
        await bench.cycle(wr_en=1, rd_en=0, wr_word=word, wr_data=pack(pixels, 8))
    straddling = 0
    for word, pixels in words.items():
        shift = int(rng.integers(1, t)) if word + 1 in words else 0
        straddling += shift > 0
        for at in {0, shift}:
            await bench.cycle(wr_en=0, rd_en=1, rd_word=word, rd_shift=at)
            await bench.cycle(wr_en=0, rd_en=0)
            bench.expect(rd_data=pack([*words.get(word + 1, [])[:at], *pixels[at:]], 8))
    bench.done(words=len(words), straddling=straddling)
