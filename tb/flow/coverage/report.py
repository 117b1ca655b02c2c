"""Shows coverage: tables for the terminal with every hole named, and a file with what the pages show
of it, the source annotated."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from pydantic import Field
from rich import box
from rich.console import Console
from rich.table import Table

from pymodel.machine.files import Fields, write_json, write_text
from tb.flow import provenance
from tb.flow.coverage import exclusions
from tb.flow.coverage.code import Place
from tb.flow.coverage.merge import FIGURES, MergedCoverage

TARGETS = {"functional": 98.0, "line": 95.0, "branch": 95.0, "toggle": 90.0}
POINTS_FILE, SUMMARIES_FILE, SHOWN_FILE = "points.json", "summaries.jsonl", "shown.json"
BIT = re.compile(r"(.*)\[(\d+)\]:(0->1|1->0)")


def figures(coverage: MergedCoverage) -> dict[str, float]:
    """The four figures that have a target, in percent, rounded down so that 100 means all."""
    exact = {"functional": coverage.functional_percent()} | {
        kind: coverage.code_percent(kind) for kind in FIGURES
    }
    return {name: int(exact[name] * 100) / 100 for name in TARGETS}


def missed(values: dict[str, float]) -> list[str]:
    """The targets that are not reached, in words."""
    return [
        f"{name} coverage is {values[name]:.2f}%, the target is {target:g}%"
        for name, target in TARGETS.items()
        if values[name] < target
    ]


def holes(coverage: MergedCoverage) -> list[str]:
    """Every hole in a line: a bin, a source line, a side of a branch, a signal with its bits."""
    lines = [
        f"functional  {p.name}: {'; '.join(p.holes) if p.sampled else 'never sampled'}"
        for p in coverage.points.values()
        if p.holes
    ]
    for kind in TARGETS:
        if kind != "functional":
            lines += [f"{kind:<10}  {name}" for name in names(coverage, coverage.holes(kind))]
    return lines


def names(coverage: MergedCoverage, found: Iterable[Place]) -> list[str]:
    """Names of places, as an exclusion names them but for the line; the bits of a signal in one direction are
    gathered to ranges.
    """
    bits: dict[tuple[str, int, str, str], list[int]] = defaultdict(list)
    lines = []
    for place in found:
        match = BIT.fullmatch(place.what) if place.kind == "toggle" else None
        if match:
            bits[place.file, place.line, match[1], match[3]].append(int(match[2]))
        else:
            side = f" => {place.what}" if place.kind == "branch" else ""
            lines.append(((place.file, place.line), exclusions.name_of(place, coverage.source) + side))
    lines += [
        ((file, line), f"{file}: {signal}[{ranges(b)}]:{way}")
        for (file, line, signal, way), b in bits.items()
    ]
    return [name.replace(f"{file}:", f"{file}:{line}:", 1) for (file, line), name in sorted(lines)]


def ranges(numbers: Sequence[int]) -> str:
    """[0, 1, 2, 5] -> "2:0,5"."""
    parts: list[list[int]] = []
    for n in sorted(numbers):
        if parts and parts[-1][1] == n - 1:
            parts[-1][1] = n
        else:
            parts.append([n, n])
    return ",".join(f"{high}:{low}" if high > low else str(low) for low, high in parts)


def show(coverage: MergedCoverage, console: Console) -> None:
    """Both tables and the list of holes."""
    table = Table(title="functional coverage", title_justify="left", box=box.SIMPLE_HEAD)
    for name, side in (
        ("point", "left"),
        ("bins", "right"),
        ("hit", "right"),
        ("excluded", "right"),
        ("percent", "right"),
    ):
        table.add_column(name, justify="right" if side == "right" else "left")
    for p in sorted(coverage.points.values(), key=lambda p: p.name):
        row = (len(p.hits), len(p.counted) - len(p.holes), len(p.excluded))
        table.add_row(p.name, *map(str, row), f"{p.percent:.1f}" if p.sampled else "never sampled")
    console.print(table)

    table = Table(title="code coverage, percent", title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("file")
    for kind in FIGURES:
        table.add_column(kind, justify="right")
    for file in files(coverage):
        table.add_row(file, *(f"{coverage.code_percent(kind, file):.1f}" for kind in FIGURES))
    console.print(table)

    found = holes(coverage)
    print(f"{len(found)} holes" + (":" if found else ""))
    print(*(f"  {line}" for line in found), sep="\n", end="\n" if found else "")


def files(coverage: MergedCoverage) -> list[str]:
    return sorted({p.file for kind in FIGURES for p in coverage.places[kind]})


class SourceLine(Fields):
    """A line of an annotated file. `state` is its colour; `notes` what was not reached in it, or excluded."""

    number: int
    text: str
    hits: int | None
    state: str
    notes: tuple[str, ...]


def annotate(coverage: MergedCoverage, source: Path) -> list[SourceLine]:
    """The lines of a file with their hits and holes."""
    found: dict[int, dict[str, list[Place]]] = defaultdict(lambda: defaultdict(list))
    for kind in FIGURES:
        for place in coverage.places[kind]:
            if place.file == source.name:
                found[place.line][kind].append(place)
    lines = []
    for number, text in enumerate(source.read_text().split("\n"), 1):
        here = found.get(number, {})
        every = [p for list_ in here.values() for p in list_]
        open_, excluded = (
            [p for p in every if not p.covered and not p.excluded],
            [p for p in every if p.excluded],
        )
        notes = [
            f"{kind}: {', '.join(p.what for p in open_ if p.kind == kind) or 'not executed'}"
            for kind in FIGURES
            if kind in {p.kind for p in open_}
        ]
        notes += sorted({f"excluded, {p.excluded}" for p in excluded})
        line = here["line"][0] if "line" in here else None
        state = (
            ""
            if not every
            else "hole"
            if line and line in open_
            else "partial"
            if open_
            else "excluded"
            if excluded
            else "covered"
        )
        hits = line.hits if line else None
        lines.append(SourceLine(number=number, text=text, hits=hits, state=state, notes=tuple(notes)))
    return lines


class PointCount(Fields):
    """Of a coverpoint: the bins that count, and those of them that were hit."""

    hit: int = Field(ge=0)
    bins: int = Field(ge=0)


class PointsFile(Fields):
    """points.json. `whole`: of all runs that there are; `points` by their full name, `<group>.cp_...`."""

    when: str
    git: str | None
    whole: bool
    figures: dict[str, float]
    points: dict[Annotated[str, Field(pattern=r"^(.+\.)?cp_")], PointCount]


class SummaryLine(PointsFile):
    """A line of summaries.jsonl: the points of a `make coverage`, what it took and what it came from."""

    branch: str | None
    tools: dict[str, str]
    runs: int = Field(ge=0)
    failed: int = Field(ge=0)
    wall_s: float = Field(ge=0)


def add_summary(folder: Path, points: PointsFile, runs: int, failed: int, wall_s: float) -> Path:
    """Adds a line to summaries.jsonl, for the history; returns its path."""
    origin = provenance.origin()
    line = SummaryLine(**{**points.model_dump(), **origin}, runs=runs, failed=failed, wall_s=round(wall_s, 1))
    with (folder / SUMMARIES_FILE).open("a") as lines:
        lines.write(line.model_dump_json() + "\n")
    return folder / SUMMARIES_FILE


def write_points(coverage: MergedCoverage, folder: Path, whole: bool) -> PointsFile:
    """Writes points.json: of each functional point the bins that count and those hit, for the testplan.

    `whole`: of all runs that there are.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = PointsFile(
        when=datetime.now(UTC).isoformat(timespec="seconds").removesuffix("+00:00"),
        git=provenance.git_revision(),
        whole=whole,
        figures=figures(coverage),
        points={
            p.name: PointCount(hit=len(p.counted) - len(p.holes), bins=len(p.counted))
            for p in coverage.points.values()
        },
    )
    write_json(folder / POINTS_FILE, written.model_dump())
    return written


class ShownFile(Fields):
    """A source file: its code coverage in percent by kind, and its lines."""

    percent: dict[str, float]
    lines: tuple[SourceLine, ...]


class ShownPoint(Fields):
    """A coverpoint: how many observations each bin has seen, and why a bin need not have any."""

    hits: dict[str, int]
    excluded: dict[str, str]


class Shown(Fields):
    """shown.json: all that pages show of a `make coverage`. `whole`: of all runs that there are."""

    when: str
    git: str | None
    whole: bool
    runs: int
    failed: int
    figures: dict[str, float]
    files: dict[str, ShownFile]
    points: dict[str, ShownPoint]
    holes: tuple[str, ...]


def write_shown(
    coverage: MergedCoverage, sources: Iterable[Path], folder: Path, points: PointsFile, failed: int
) -> Shown:
    """Writes shown.json; `points` are those that were written of the same coverage."""
    known = files(coverage)
    shown = Shown(
        when=points.when,
        git=points.git,
        whole=points.whole,
        runs=coverage.runs,
        failed=failed,
        figures=points.figures,
        files={
            source.name: ShownFile(
                percent={kind: coverage.code_percent(kind, source.name) for kind in FIGURES},
                lines=tuple(annotate(coverage, source)),
            )
            for source in sources
            if source.name in known
        },
        points={
            p.name: ShownPoint(hits=p.hits, excluded=p.excluded)
            for p in sorted(coverage.points.values(), key=lambda p: p.name)
        },
        holes=tuple(holes(coverage)),
    )
    write_text(folder / SHOWN_FILE, shown.model_dump_json() + "\n")
    return shown
