"""Reads Verilator's `coverage.dat`: what was executed, line by line, branch by branch and signal bit by
signal bit.

The file has a line for each point, `C '<key>' <count>`; the key is a list of \\1name\\2value: `page` the kind
of point, `f` file, `l` line, `n` column, `o` what it is (a branch's side, a signal's bit and direction), `S`
the source lines that it stands for, `h` the instance. Instances and configurations of a module are one here:
a point is covered when any of them has covered it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

from pymodel.machine.errors import TatamiError

HEADER = "# SystemC::Coverage-3"
KINDS = ("line", "branch", "toggle", "expr")


class CodePoint(NamedTuple):
    """A place in the source.

    `what` is the side of a branch, or the bit and direction of a toggle; `spans` the lines it stands for.
    """

    kind: str
    file: str
    line: int
    column: int
    what: str
    spans: str


Hits = dict[CodePoint, int]


def read(path: Path) -> Hits:
    """The points of a file, with how often each was hit.

    Raises `TatamiError` for a file that is none, or is cut short.
    """
    try:
        text = path.read_text(encoding="latin-1")
    except OSError as error:
        raise TatamiError(f"{path}: {error.strerror}") from None
    lines = text.split("\n")
    if lines[0] != HEADER:
        raise TatamiError(f"{path}: not a coverage file of Verilator: it does not begin with '{HEADER}'")
    hits: Hits = {}
    for number, line in enumerate(lines[1:], 2):
        if not line:
            continue
        key, _, count = line.rpartition("' ")
        try:
            point, more = _point(key), int(count)
        except (KeyError, ValueError):
            raise TatamiError(f"{path}, line {number}: not a coverage point") from None
        if point is not None:
            hits[point] = hits.get(point, 0) + more
    return hits


@cache
def _point(key: str) -> CodePoint | None:
    """The point of a key;

    None for a kind that does not count here. Runs have their keys in common: each is taken apart once.
    """
    if not key.startswith("C '"):
        raise ValueError(key)
    fields = dict(part.split("\2", 1) for part in key[3:].split("\1") if part)
    kind = fields["page"].partition("/")[0].removeprefix("v_")
    place = (Path(fields["f"]).name, int(fields["l"]), int(fields["n"]), fields["o"], fields.get("S", ""))
    return CodePoint(kind, *place) if kind in KINDS else None


def add(total: Hits, more: Hits) -> None:
    """Adds the hits of a run to those of others."""
    for point, count in more.items():
        total[point] = total.get(point, 0) + count


def spanned(spans: str) -> Iterator[int]:
    """The line numbers of "52-58,61"."""
    for span in filter(None, spans.split(",")):
        first, _, last = span.partition("-")
        yield from range(int(first), int(last or first) + 1)


def spans(numbers: Iterable[int]) -> str:
    """The text of ascending line numbers that `spanned` reads."""
    found: list[list[int]] = []
    for number in numbers:
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in found)


@dataclass
class Place:
    """Something that counts in a figure of code coverage: a source line, a side of a branch, a bit of a
    signal in one direction.
    """

    kind: str
    file: str
    line: int
    what: str
    hits: int
    excluded: str = ""

    @property
    def covered(self) -> bool:
        return self.hits > 0


def places(hits: Hits, kind: str, files: Iterable[str] | None = None) -> list[Place]:
    """The places of a kind in the order of the source.

    A line that several points stand for has the hits of the least of them.
    """
    wanted = None if files is None else set(files)
    chosen = [(p, count) for p, count in hits.items() if wanted is None or p.file in wanted]
    if kind == "line":
        lines: dict[tuple[str, int], int] = {}
        for point, count in chosen:
            if point.kind in ("line", "branch"):
                for number in spanned(point.spans):
                    lines[point.file, number] = min(count, lines.get((point.file, number), count))
        return [Place(kind, file, number, "", count) for (file, number), count in sorted(lines.items())]
    found = [(p, count) for p, count in chosen if p.kind == kind]
    return [Place(kind, p.file, p.line, p.what, count) for p, count in sorted(found)]
