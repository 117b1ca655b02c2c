"""The edge mask, compared with the rule of docs/formats.md: outside if `-dx > left`, `dx > right`,
`-dy > top` or `dy > bottom`.

Corners: each of the 81 taps, with pixels at every distance 0..4 from each edge; a tap that reaches over two
edges at once; the tap (0, 0), which never does; words in which all pixels, or none, are at an edge.
"""

from __future__ import annotations

import itertools
from typing import Any

import cocotb

from tb.common import settings
from tb.common.block import Bench, chance, pack
from tb.common.seeding import numpy_rng

ROUNDS = 8
REACH = 4
EDGES = ("left", "right", "top", "bottom")


@cocotb.test()
async def every_tap(dut: Any) -> None:
    t = settings.parameters()["T"]
    rng = numpy_rng()
    bench = Bench(dut, *(f"{edge}_under" for edge in EDGES), "dx", "dy")
    corner = 0
    for dx, dy in [*itertools.product(range(-REACH, REACH + 1), repeat=2)] * ROUNDS:
        distance = {edge: rng.integers(REACH + 1, size=t) for edge in EDGES}
        if chance(rng, 0.2):
            distance[str(rng.choice(EDGES))][:] = rng.choice([0, REACH])
        under = {
            f"{edge}_under": pack([d <= n for n in range(REACH) for d in distance[edge]], 1) for edge in EDGES
        }
        await bench.cycle(dx=dx, dy=dy, **under)
        over_x = (-dx > distance["left"]) | (dx > distance["right"])
        over_y = (-dy > distance["top"]) | (dy > distance["bottom"])
        bench.expect(outside=pack(over_x | over_y, 1))
        corner += int((over_x & over_y).sum())
    bench.done(corner=corner)
