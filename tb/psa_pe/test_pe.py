"""The processing element, compared with a sum of products, or with a maximum. What comes from above comes two
cycles after the bundle; the sum is there three cycles after it.

Corners:

- a slot that arrives with the `first` of the pass before, one cycle after it, every cycle, and long before
  its own `first`
- a pass of one pixel
- gaps before any pixel, with garbage in them
- every select
- weight (or digit in either position) and pixel at both ends of their ranges; a zero weight
- the largest sums that a column can have
- resets in the middle of a pass, which keep the slots; only `valid` is cleared
- maxima between sums: of a weight of -1 and every other, of an empty slot, of a pixel that is above, below or
  equal to what comes from above, or one away from it
"""

from __future__ import annotations

from typing import Any

import cocotb

from tb.common import settings
from tb.common.block import Bench, chance, edgy, pack
from tb.common.seeding import numpy_rng

CYCLES = 2500


@cocotb.test()
async def sums_and_slots(dut: Any) -> None:
    p = settings.parameters()
    group, psum_bits, weight_bits = p["GROUP"], p["PSUM_BITS"], p["WEIGHT_BITS"]
    positions = 8 // weight_bits  # of a digit in its weight
    largest = (1 << weight_bits - 1) - 1
    rng = numpy_rng()
    from_left = ("x_valid", "x_first", "x_maximum", "x_bundle")
    bench = Bench(dut, "rst", "slot_load", "slot_data", *from_left, "psum")
    await bench.reset(slot_load=0)
    shadow: tuple[int, int, int] | None = None
    active: tuple[int, int, int] | None = None
    late = bool(p["HOP_END"])  # what it passes on comes a cycle later
    passed: dict[str, int] = {"x_out_valid": 0}
    # what comes from above in this cycle and in the next; the sums of this cycle and of the two behind it
    above: list[dict[str, int]] = [{}, {}]
    given: list[dict[str, int]] = [{}, {}, {}]
    busy = 0.9  # share of the cycles that carry a pixel; changes sometimes
    with_first = resets = 0
    maxima = dict.fromkeys(("taken", "kept", "equal", "empty", "positive", "below_minus_one"), 0)
    selects, places = set(), set()
    for _ in range(CYCLES):
        if chance(rng, 0.02):
            busy = float(rng.choice([1.0, 0.9, 0.3]))
        rst, load = chance(rng, 0.01), chance(rng, 0.2)
        slot = edgy(rng, -largest - 1, largest), int(rng.integers(positions)), int(rng.integers(group))
        slot = (-1, 0, slot[2]) if chance(rng, 0.3) else slot
        # a pass begins only if a slot has arrived, and continues only if a slot is in use
        first = shadow is not None and (active is None or chance(rng, 0.2))
        valid = (first or active is not None) and chance(rng, busy)
        bundle = [edgy(rng, -128, 127) for _ in range(group)]
        limit = (1 << (psum_bits - 1)) - (1 << 14)  # a last product may still be added to this
        psum = edgy(rng, -limit, limit - 1)
        maximum = chance(rng, 0.4)
        if maximum and valid:
            chosen = bundle[(shadow if first else active or slot)[2]]  # type: ignore[index]
            near = min(127, max(-128, chosen + int(rng.integers(-1, 2))))
            psum = near if chance(rng, 0.5) else edgy(rng, -128, 127)
        inputs: dict[str, int] = {"rst": rst, "slot_load": load, "x_valid": valid}
        if load:
            inputs["slot_data"] = (
                pack([slot[0]], weight_bits) | (slot[2] * positions + slot[1]) << weight_bits
            )
        if valid:
            inputs |= {"x_first": first, "x_maximum": maximum, "x_bundle": pack(bundle, 8)}
        await bench.cycle(**inputs, **above[0])
        before, passed = passed, {"x_out_valid": valid and not (rst and late)}
        if valid and not (rst and late):
            passed |= {"x_out_first": first, "x_out_maximum": maximum, "x_out_bundle": pack(bundle, 8)}
        bench.expect(**(before if late else passed), **given[0])

        given = [*given[1:], {}]
        above = [above[1], {"psum": psum} if valid else {}]
        if valid:
            active = shadow if first else active
            assert active is not None
            weight, position, select = active
            x, total = bundle[select], psum + weight * 16**position * bundle[select]
            given[2] = {"psum_out": total}
            selects.add(select)
            places.add(position)
            with_first += first and load
            if maximum:
                # a weight of -1: the larger; other negative ones where the sum is negative; else nothing
                at_minus_one = max(psum, x) if weight * 16**position == -1 else psum
                given[2]["psum_out"] = x if weight < 0 and total < 0 else at_minus_one
                maxima["taken"] += weight == -1 and x > psum
                maxima["kept"] += weight == -1 and x < psum
                maxima["equal"] += weight == -1 and x == psum
                maxima["empty"] += weight == 0
                maxima["positive"] += weight > 0
                maxima["below_minus_one"] += weight * 16**position < -1
            resets += rst
        if load:
            shadow = slot
    assert selects == set(range(group))
    assert places == set(range(positions))
    bench.done(with_first=with_first, resets=resets, **maxima)
