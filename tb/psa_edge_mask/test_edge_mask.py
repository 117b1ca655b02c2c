"""The edge mask, compared with the rule of docs/formats.md: outside if `-dx > left`, `dx > right`,
`-dy > top` or `dy > bottom`.

Corners: each of the 32 reaches in each direction, with pixels at every distance 0..15 from each edge; a tap
that reaches over two edges at once; the tap (0, 0), which never does; a reach of -16, which is outside at any
distance; words in which all pixels, or none, are at an edge.
"""

from __future__ import annotations

import itertools
from typing import Any

import cocotb

from pymodel.machine.config import HALO
from tb.common import settings
from tb.common.block import Bench, chance, pack
from tb.common.seeding import numpy_rng

ROUNDS = 2
EDGES = ("left", "right", "top", "bottom")


@cocotb.test()
async def every_tap(dut: Any) -> None:
    t = settings.parameters()["T"]
    rng = numpy_rng()
    bench = Bench(dut, "distances", "dx", "dy")
    corner = farthest = just_inside = just_outside = 0
    for dx, dy in [*itertools.product(range(-HALO - 1, HALO + 1), repeat=2)] * ROUNDS:
        distance = {edge: rng.integers(HALO + 1, size=t) for edge in EDGES}
        for reach, edge in zip((-dx, dx, -dy, dy), EDGES, strict=True):
            if 0 <= reach <= HALO and chance(rng, 0.5):
                distance[edge] = (reach - rng.integers(2, size=t)).clip(0)
        if chance(rng, 0.2):
            distance[str(rng.choice(EDGES))][:] = rng.choice([0, HALO])
        pixels = [d for i in range(t) for d in (int(distance[edge][i]) for edge in EDGES)]
        await bench.cycle(dx=dx, dy=dy, distances=pack(pixels, HALO.bit_length()))
        over_x = (-dx > distance["left"]) | (dx > distance["right"])
        over_y = (-dy > distance["top"]) | (dy > distance["bottom"])
        bench.expect(outside=pack(over_x | over_y, 1))
        corner += int((over_x & over_y).sum())
        farthest += dx < -HALO or dy < -HALO
        just_inside += int(((dx == distance["right"]) & ~over_y).sum())
        just_outside += int(((-dx == distance["left"] + 1) & ~over_y).sum())
    bench.done(corner=corner, farthest=farthest, just_inside=just_inside, just_outside=just_outside)
