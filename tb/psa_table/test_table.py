"""The activation tables, compared with a list of their contents.

Corners:

- every value in every table, in every pixel of a word; no table
- words in every cycle and with gaps, with garbage in them
- pixels that the plane does not have, with a table and without
- the last word of a layer
- tables loaded anew, in a cycle in which none is looked up
- resets with a word on its way
"""

from __future__ import annotations

from typing import Any

import cocotb

from tb.common import settings
from tb.common.block import Bench, chance, edgy, pack
from tb.common.seeding import numpy_rng

LOADS = 3


@cocotb.test()
async def every_value_of_every_table(dut: Any) -> None:
    parameters = settings.parameters()
    t, tables, last_word = parameters["T"], parameters["TABLES"], (1 << parameters["FEATURE_ADDR"]) - 1
    rng = numpy_rng()
    fields = ("in_bank", "in_word", "in_data", "in_keep", "in_table")
    load = ("ld_activation", "ld_addr", "ld_data")
    bench = Bench(dut, "rst", "in_valid", *fields, "in_layer_done", *load)
    quiet = {"out_valid": 0, "out_layer_done": 0}
    idle = {"rst": 0, "in_valid": 0, "in_layer_done": 0, "ld_activation": 0}
    await bench.reset(in_valid=0, in_layer_done=0, ld_activation=0)
    met: set[tuple[int, int, int]] = set()  # table, pixel, value
    seen = dict.fromkeys(("looked_up", "as_they_are", "not_kept", "layers", "resets"), 0)
    for _ in range(LOADS):
        found = rng.integers(-128, 128, 256 * tables).tolist()
        for address, value in enumerate(found):
            await bench.cycle(**(idle | {"ld_activation": 1, "ld_addr": address, "ld_data": value}))
        # every value in every pixel: the values of a word are neighbours
        words = [(n, first) for n in range(tables + 1) for first in range(-128, 128)]
        expected = dict(quiet)
        for place in rng.permutation(len(words)).tolist():
            for _ in range(int(rng.choice([0, 0, 1, 3]))):
                await bench.cycle(**idle)
                bench.expect(**expected)
                expected = dict(quiet)
            number, first = words[place]
            pixels = [(first + 128 + 37 * p) % 256 - 128 for p in range(t)]
            keep = [chance(rng, 0.9) for _ in range(t)]
            pixels = [value if kept else 0 for value, kept in zip(pixels, keep, strict=True)]
            results = [
                (found[256 * (number - 1) + value % 256] if number else value) if kept else 0
                for value, kept in zip(pixels, keep, strict=True)
            ]
            reset, done = chance(rng, 0.01), int(chance(rng, 0.2))
            bank, word = int(rng.integers(16)), edgy(rng, 0, last_word)
            await bench.cycle(
                **(idle | {"rst": int(reset), "in_valid": 1, "in_layer_done": done}),
                in_bank=bank,
                in_word=word,
                in_data=pack(pixels, 8),
                in_keep=pack(keep, 1),
                in_table=number,
            )
            bench.expect(**expected)
            met |= {(number, p, value) for p, value in enumerate(pixels) if keep[p]}
            seen["looked_up"] += number > 0
            seen["as_they_are"] += number == 0
            seen["not_kept"] += number > 0 and not all(keep)
            seen["layers"] += done
            seen["resets"] += reset
            expected = dict(quiet)
            if not reset:
                expected = {"out_valid": 1, "out_bank": bank, "out_word": word, "out_layer_done": done}
                expected["out_data"] = pack(results, 8)
        await bench.cycle(**idle)
        bench.expect(**expected)
    assert len({(n, value) for n, _, value in met}) == (tables + 1) * 256
    bench.done(**seen)
