"""Compares schemes from single runs: the compression that each reaches at an accuracy, and the ratio of two
schemes there.

Method. The points of a scheme are its runs; runs with different seeds at the same requested ratio are
averaged. The curve is the monotone envelope: a compression gets the best accuracy of any point at that or a
larger compression. Between two points, accuracy is linear in the logarithm of the compression. Speed-up,
energy gain, cycles, bits and density are powers of the compression (density, without empty slots, is its
inverse). Values outside the measured range are not extrapolated: the end of the range is given, marked `>` or
`<`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean

from pymodel.report.record import Report, by_point

DROPS = (0.01, 0.02, 0.05, 0.10)  # of the accuracy, below the start
DROP_NAMES = tuple(f"−{100 * drop:g} point{'s' if drop > 0.01 else ''}" for drop in DROPS)
TOLERANCE = 1e-9  # accuracies are shares of a count; this is for what subtracting them leaves


@dataclass(frozen=True)
class CurvePoint:
    """One compression of a scheme: the mean over its `runs`. `accuracy`: int8."""

    compression: float
    accuracy: float
    speedup: float
    energy_gain: float
    cycles: float
    bits_per_weight: float
    density: float
    runs: int


@dataclass(frozen=True)
class Reading:
    """A value read from a curve. `mark` is '>' or '<' if the true value lies beyond the measured range."""

    value: float
    mark: str = ""

    def __str__(self) -> str:
        return f"{self.mark}{self.value:.2f}"


def points(reports: Sequence[Report], field: str = "matrix_compression") -> list[CurvePoint]:
    """The points of one scheme, in order of compression: of the matrix, or by `weight_bits_compression`."""
    found = []
    for runs in by_point(reports):
        found.append(
            CurvePoint(
                math.exp(fmean(math.log(getattr(r, field)) for r in runs)),
                fmean(r.accuracy.int8 for r in runs),
                fmean(r.speedup for r in runs),
                fmean(r.energy_gain for r in runs),
                fmean(r.cycles for r in runs),
                fmean(r.bits_per_weight for r in runs),
                fmean(r.density for r in runs),
                len(runs),
            )
        )
    return sorted(found, key=lambda p: (p.compression, -p.accuracy))


def envelope(curve: Sequence[CurvePoint]) -> list[float]:
    """The accuracy of each point of `curve` on the envelope: the best at this or a larger compression."""
    best = [p.accuracy for p in curve]
    for i in range(len(best) - 2, -1, -1):
        best[i] = max(best[i], best[i + 1])
    return best


def held(curve: Sequence[CurvePoint], accuracy: float) -> Reading | None:
    """The largest compression at which `curve`, in order of compression, has the accuracy.

    None for no points.
    """
    if not curve:
        return None
    best = envelope(curve)
    if best[0] < accuracy - TOLERANCE:
        return Reading(curve[0].compression, "<")
    last = max(i for i, a in enumerate(best) if a >= accuracy - TOLERANCE)
    if last == len(curve) - 1:
        return Reading(curve[-1].compression, ">" if best[-1] > accuracy + TOLERANCE else "")
    share = max(0.0, best[last] - accuracy) / (best[last] - best[last + 1])
    low, high = math.log(curve[last].compression), math.log(curve[last + 1].compression)
    return Reading(math.exp(low + share * (high - low)))


def read_at(curve: Sequence[CurvePoint], where: Reading | None, field: str) -> Reading | None:
    """A field of the curve's points at a compression within it. None if it is 0 at one of the two points
    beside it.

    Keeps the mark of `where`.
    """
    if where is None:
        return None
    for p in curve:
        if math.isclose(p.compression, where.value):
            return Reading(getattr(p, field), where.mark)
    for a, b in pairwise(curve):
        if a.compression < where.value < b.compression:
            left, right = getattr(a, field), getattr(b, field)
            if not left or not right:
                return None
            share = math.log(where.value / a.compression) / math.log(b.compression / a.compression)
            return Reading(left ** (1 - share) * right**share, where.mark)
    return None


def ratio(a: Reading | None, b: Reading | None) -> Reading | None:
    """a / b.

    None if either is missing, or if both lie beyond the range in directions that leave the ratio
    undetermined.
    """
    if a is None or b is None:
        return None
    marks = {a.mark, {">": "<", "<": ">", "": ""}[b.mark]} - {""}
    return Reading(a.value / b.value, "".join(marks)) if len(marks) < 2 else None
