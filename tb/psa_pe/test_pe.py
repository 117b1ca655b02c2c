"""The processing element against a sum of products.

Corners: a slot that arrives with the `first` of the pass before, one cycle after it, every cycle, and long before its own; a pass of one
pixel; gaps, with garbage in them, before any pixel; every select; weight and pixel at both ends; a zero weight; the largest sums
that a column can have; resets in the middle of a pass, which keep the slots.
"""

from __future__ import annotations

from typing import Any

import cocotb

from tb.common import settings
from tb.common.block import Bench, chance, edgy, pack
from tb.common.seeding import numpy_rng

CYCLES = 2500
WEIGHT_BITS = 8


@cocotb.test()
async def sums_and_slots(dut: Any) -> None:
    p = settings.parameters()
    group, psum_bits = p["GROUP"], p["PSUM_BITS"]
    rng = numpy_rng()
    bench = Bench(dut, "rst", "slot_load", "slot_data", "x_valid", "x_first", "x_bundle", "psum")
    await bench.reset(slot_load=0)
    shadow: tuple[int, int] | None = None
    active: tuple[int, int] | None = None
    expected: dict[str, int] = {"x_out_valid": 0}
    busy = 0.9  # of the cycles carry a pixel; changes now and then
    with_first = resets = 0
    selects = set()
    for _ in range(CYCLES):
        if chance(rng, 0.02):
            busy = float(rng.choice([1.0, 0.9, 0.3]))
        rst, load = chance(rng, 0.01), chance(rng, 0.2)
        slot = edgy(rng, -128, 127), int(rng.integers(group))
        # a pass begins only with a slot, goes on only with one in use
        first = shadow is not None and (active is None or chance(rng, 0.2))
        valid = (first or active is not None) and chance(rng, busy)
        bundle = [edgy(rng, -128, 127) for _ in range(group)]
        limit = (1 << (psum_bits - 1)) - (1 << 14)  # what a last product may still be added to
        psum = edgy(rng, -limit, limit - 1)
        inputs: dict[str, int] = {"rst": rst, "slot_load": load, "x_valid": valid}
        if load:
            inputs["slot_data"] = pack([slot[0]], WEIGHT_BITS) | slot[1] << WEIGHT_BITS
        if valid:
            inputs |= {"x_first": first, "x_bundle": pack(bundle, 8), "psum": psum}
        await bench.cycle(**inputs)
        bench.expect(**expected)

        expected = {"x_out_valid": valid and not rst}
        if valid:
            active = shadow if first else active
            assert active is not None
            weight, select = active
            if not rst:
                expected |= {"x_out_first": first, "x_out_bundle": pack(bundle, 8), "psum_out": psum + weight * bundle[select]}
                selects.add(select)
                with_first += first and load
            resets += rst
        if load:
            shadow = slot
    assert selects == set(range(group))
    bench.done(with_first=with_first, resets=resets)
