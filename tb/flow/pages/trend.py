"""Trend lines as SVG: values over regressions or over measurements of coverage, the oldest at the left."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

WIDTH, HEIGHT = 640, 180
LEFT, RIGHT, TOP, BOTTOM = 52, 10, 10, 22
TICKS = 4
COLOURS = 4  # of lines, in the style sheet


@dataclass(frozen=True)
class Line:
    """`values`: one for each position, None where there is none."""

    name: str
    values: Sequence[float | None]


@dataclass(frozen=True)
class Trend:
    """Lines over the same positions. `places` are their names; of those at the ends the first word is shown,
    the others at the points. The axis goes from `low` at most to `high` at least.
    """

    title: str
    lines: Sequence[Line]
    places: Sequence[str]
    unit: str = ""
    low: float | None = None
    high: float | None = None


def steps(low: float, high: float) -> list[float]:
    """Round values at equal distances that reach from `low` or below to `high` or above."""
    span = (high - low) or abs(high) or 1.0
    rough = span / TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * 0.999)
    first = math.floor(low / step + 1e-9)
    last = max(math.ceil(high / step - 1e-9), first + 1)
    return [round(n * step, 10) for n in range(first, last + 1)]


def drawn(trend: Trend) -> Markup:
    """The SVG; nothing if there is no value."""
    values = [value for line in trend.lines for value in line.values if value is not None]
    if not values:
        return Markup("")
    low = min(values) if trend.low is None else min(trend.low, *values)
    high = max(values) if trend.high is None else max(trend.high, *values)
    ticks = steps(low, high)
    bottom, top = ticks[0], ticks[-1]
    count = len(trend.places)

    def x(at: int) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (at / (count - 1) if count > 1 else 0.5)

    def y(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (top - value) / (top - bottom)

    parts = [
        f'<svg class="trend" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(trend.title)}">'
    ]
    for tick in ticks:
        parts.append(f'<path class="grid" d="M{LEFT} {y(tick):.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text class="end" x="{LEFT - 6}" y="{y(tick) + 4:.1f}">{tick:,.6g}</text>')
    for at, anchor in {0: "", count - 1: "end"}.items() if count > 1 else {0: "mid"}.items():
        parts.append(
            f'<text class="{anchor}" x="{x(at):.1f}" y="{HEIGHT - 4}">'
            f"{escape(trend.places[at].split()[0])}</text>"
        )
    for index, line in enumerate(trend.lines):
        there = [(at, value) for at, value in enumerate(line.values) if value is not None]
        path = "L".join(f"{x(at):.1f} {y(value):.1f}" for at, value in there)
        colour = f"line{index % COLOURS}"
        parts.append(f'<path class="{colour}" d="M{path}"/>')
        for at, value in there:
            said = f"{line.name}, {trend.places[at]}: {value:,.6g}{trend.unit}"
            parts.append(
                f'<circle class="{colour}" cx="{x(at):.1f}" cy="{y(value):.1f}" r="2.5">'
                f"<title>{escape(said)}</title></circle>"
            )
    parts.append("</svg>")
    return Markup("".join(parts))
