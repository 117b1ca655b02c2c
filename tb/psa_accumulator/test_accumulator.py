"""The accumulators, compared with a table of sums and maxima. A pixel is read two cycles before its sum
comes.

Corners:

- the same pixel again after exactly four cycles
- a tile of one pass (first and last at once)
- first and last pass of different pixels in neighbouring cycles
- partial sums at both ends of their range
- gaps with garbage
- the first and the last pixel of a depth that is not a power of two
- a tile that begins anew over old sums
- a sum that is given out is not stored, and only it has the bias; a bias that changes with every sum
- bias and sum both at one end (33 bits)
- resets, which keep the sums of the pixels that have gone through
- tiles of maxima, of pixels, between tiles of sums; their first pass stores what comes; a later pass that is
  above, below and equal
"""

from __future__ import annotations

from typing import Any

import cocotb

from tb.common import settings
from tb.common.block import Bench, chance, edgy, landmarks
from tb.common.seeding import numpy_rng

CYCLES = 3000
AGAIN = 4  # least number of cycles until the same pixel comes again: T is never less
LATENCY = 1
AHEAD = 2  # cycles from the read of a pixel to its sum
PIXEL = ("pixel_valid", "pixel_index", "pixel_first", "pixel_last", "pixel_maximum")
BIAS = ("bias_load", "bias")
READ = ("read_valid", "read_index")


class Pins:
    """Gives each cycle's pixel and sum to the block, what is to be read of it two cycles before, and the bias
    of a last pass a cycle before.
    """

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.waiting: list[tuple[dict[str, int], int | None]] = []

    async def cycle(self, pins: dict[str, int], bias: int | None = None) -> None:
        """The cycle of the pixel that was given two cycles ago; `pins` is read in it."""
        reads = bool(pins.get("pixel_valid")) and not pins["pixel_first"]
        read = {"read_valid": int(reads)} | ({"read_index": pins["pixel_index"]} if reads else {})
        self.waiting.append((pins, bias))
        now: dict[str, int] = {"pixel_valid": 0}
        if len(self.waiting) > AHEAD:
            now, _ = self.waiting.pop(0)
        soon = self.waiting[-AHEAD][1] if len(self.waiting) >= AHEAD else None
        load = {"bias_load": int(soon is not None)} | ({} if soon is None else {"bias": soon})
        await self.bench.cycle(**{"rst": 0} | now, **read, **load)


@cocotb.test()
async def sums_over_the_passes(dut: Any) -> None:
    depth, psum_bits = settings.parameters()["DEPTH"], settings.parameters()["PSUM_BITS"]
    rng = numpy_rng()
    bench = Bench(dut, "rst", *READ, *PIXEL, *BIAS, "psum")
    pins = Pins(bench)
    await bench.reset(pixel_valid=0, read_valid=0, bias_load=0)
    sums: dict[int, int] = {}
    maxima: dict[int, bool] = {}  # whether what is stored of a pixel is a maximum
    seen: dict[int, int] = {}  # the cycle of each pixel's last visit
    finished: dict[int, int] = {}  # by the cycle in which it comes out
    soonest = single = given = resets = larger = smaller = equal = 0
    for n in range(CYCLES):
        rst, valid = chance(rng, 0.005), chance(rng, 0.9)
        again = [index for index, cycle in seen.items() if cycle == n - AGAIN]
        index = again[0] if again and chance(rng, 0.5) else edgy(rng, 0, depth - 1)
        valid &= n - seen.get(index, -AGAIN) >= AGAIN
        first = index not in sums or chance(rng, 0.2)
        last = chance(rng, 0.3)
        psum = edgy(rng, -(1 << (psum_bits - 1)), (1 << (psum_bits - 1)) - 1)
        inputs: dict[str, int] = {"rst": rst, "pixel_valid": valid}
        if valid:
            maximum = chance(rng, 0.4) if first else maxima[index]
            if maximum:
                near = not first and chance(rng, 0.4)
                psum = sums[index] + int(rng.integers(-1, 2)) if near else edgy(rng, -128, 127)
                psum = min(max(psum, -128), 127)
            inputs |= {"pixel_index": index, "pixel_first": first, "pixel_last": last, "psum": psum}
            inputs["pixel_maximum"] = maximum
        bias = edgy(rng, -(1 << 31), (1 << 31) - 1) if valid and last else None
        await pins.cycle(inputs, bias)
        bench.expect(sum_valid=n in finished)
        if n in finished:
            bench.expect(sum=finished[n])
            given += 1

        if valid:
            soonest += index in again and not first
            single += first and last
            seen[index] = n
            if first:
                total = psum
            elif maximum:
                total = max(psum, sums[index])
                larger, smaller = larger + (psum > sums[index]), smaller + (psum < sums[index])
                equal += psum == sums[index]
            else:
                total = psum + sums[index]
            if bias is not None:
                finished[n + AHEAD + LATENCY] = total + bias
            else:
                sums[index], maxima[index] = total, maximum
        if rst:
            resets += 1
            # the sums in the pipeline do not come out; whether they are stored is not specified
            finished = {cycle: total for cycle, total in finished.items() if cycle <= n + AHEAD}
            for index, cycle in seen.items():
                if cycle > n - LATENCY:
                    sums.pop(index, None)
    against = {"larger": larger, "smaller": smaller, "equal": equal}
    bench.done(soonest=soonest, single=single, given=given, resets=resets, **against)


@cocotb.test()
async def every_pixel_has_a_sum_of_its_own(dut: Any) -> None:
    """Pixels next to every power of two. With an address bit too few, some of them would share their sum."""
    parameters = settings.parameters()
    rng = numpy_rng("landmarks")
    bench = Bench(dut, "rst", *READ, *PIXEL, *BIAS, "psum")
    pins = Pins(bench)
    await bench.reset(pixel_valid=0, read_valid=0, bias_load=0)
    high = (1 << (parameters["PSUM_BITS"] - 1)) - 1
    indices = landmarks(parameters["DEPTH"] - 1)
    sums = dict.fromkeys(indices, 0)
    finished: dict[int, int] = {}
    for turn in range(3):
        for index in [*indices, *[None] * AGAIN]:
            inputs = {"pixel_valid": int(index is not None)}
            if index is not None:
                psum = int(rng.integers(-high, high))
                inputs |= {"pixel_index": index, "pixel_first": int(turn == 0), "pixel_last": int(turn == 2)}
                inputs |= {"psum": psum, "pixel_maximum": 0}
                sums[index] += psum
                if turn == 2:
                    finished[bench.number + 1 + AHEAD + LATENCY] = sums[index]
            await pins.cycle(inputs, 0 if turn == 2 and index is not None else None)
            bench.expect(sum_valid=bench.number in finished)
            if bench.number in finished:
                bench.expect(sum=finished[bench.number])
    bench.done(pixels=len(indices))
