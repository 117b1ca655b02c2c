"""Draws waves as SVG."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, groupby, pairwise

from markupsafe import Markup, escape

from tb.flow.pages.excerpt import Excerpt

ROW, HIGH, LOW = 26, 6, 20  # pixels of a row, and where in it a signal is high and low
CYCLE = 52
CHARACTER = 6.8
SLANT = 3
HEAD, FOOT = 8, 20

Spans = list[tuple[float, float, str | None]]


def drawn(excerpt: Excerpt) -> Markup:
    """Names at the left, those of a scope below it, and a cycle every `CYCLE` pixels. The cycle that it is
    about is marked.
    """
    left = round(CHARACTER * max(len(signal.name) for signal in excerpt.signals)) + 24
    width = round(left + CYCLE * (excerpt.end - excerpt.begin) / excerpt.period) + 8
    scopes = [list(found) for _, found in groupby(excerpt.signals, key=lambda signal: signal.scope)]
    bottom = HEAD + ROW * (len(excerpt.signals) + len(scopes))

    def x(time: float) -> float:
        return round(left + CYCLE * (time - excerpt.begin) / excerpt.period, 1)

    parts = [
        f'<svg class="wave" width="{width}" height="{bottom + FOOT}" role="img" aria-label="waves from'
        f' {excerpt.begin:g} to {excerpt.end:g} ns">'
    ]
    if excerpt.mark is not None:
        before = x(max(excerpt.begin, excerpt.mark - excerpt.period))  # what its edge has seen
        parts += [
            f'<rect class="here" x="{before}" width="{x(excerpt.mark) - before:.1f}" height="{bottom}"/>',
            f'<path class="mark" d="M{x(excerpt.mark)} 0V{bottom}"/>',
        ]
    cycles = round((excerpt.end - excerpt.begin) / excerpt.period)
    for cycle in range(0, cycles + 1, 4):
        time = excerpt.begin + cycle * excerpt.period
        parts.append(f'<path class="grid" d="M{x(time)} {HEAD}V{bottom}"/>')
        end = ' class="end"' if cycle == cycles else ""
        parts.append(f'<text{end} x="{x(time)}" y="{bottom + 14}">{time:g} ns</text>')
    top = HEAD
    for scope in scopes:
        parts.append(f'<text x="4" y="{top + 17}">{escape(scope[0].scope)}</text>')
        for signal in scope:
            top += ROW
            parts.append(f'<text class="name" x="12" y="{top + 17}">{escape(signal.name)}</text>')
            ends = chain((x(time) for time, _ in signal.changes), [x(excerpt.end)])
            spans = [(a, b, value) for (a, b), (_, value) in zip(pairwise(ends), signal.changes, strict=True)]
            parts += bit(spans, top) if signal.bits == 1 else word(spans, top)
        top += ROW
    parts.append("</svg>")
    return Markup("".join(parts))


def bit(spans: Spans, top: int) -> Iterator[str]:
    """A line that is high or low, boxes where it is unknown."""
    path = ""
    for a, b, value in spans:
        if value is None:
            size = f'width="{b - a:.1f}" height="{LOW - HIGH}"'
            yield f'<rect class="unknown" x="{a}" y="{top + HIGH}" {size}/>'
            path += f"M{b} {top + LOW}"
        else:
            path += f"{'L' if path else 'M'}{a} {top + (LOW if value == '0' else HIGH)}H{b}"
    yield f'<path class="wire" d="{path}"/>'


def word(spans: Spans, top: int) -> Iterator[str]:
    """Boxes with the value in them, as far as it fits; all of it is the box's title."""
    middle = (HIGH + LOW) / 2
    for a, b, value in spans:
        slant = min(SLANT, (b - a) / 2)
        box = (
            f"M{a} {top + middle}L{a + slant:.1f} {top + HIGH}H{b - slant:.1f}L{b} {top + middle}"
            f"L{b - slant:.1f} {top + LOW}H{a + slant:.1f}Z"
        )
        text, room = "X" if value is None else value, int((b - a - 2 * SLANT) / CHARACTER)
        inside = text if len(text) <= room else f"{text[: room - 1]}…" if room > 1 else ""
        kind = "unknown" if value is None else "wire"
        yield f'<path class="{kind}" d="{box}"><title>{escape(text)}</title></path>'
        if inside:
            yield f'<text class="value mid" x="{(a + b) / 2:.1f}" y="{top + 17}">{escape(inside)}</text>'
