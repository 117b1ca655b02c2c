"""The pages of coverage: figures, modules with their annotated source, coverpoints with their bins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pymodel.machine.files import checked, read_json
from tb.flow.coverage import code, rank
from tb.flow.coverage.merge import FIGURES
from tb.flow.coverage.rank import Reach
from tb.flow.coverage.report import SHOWN_FILE, TARGETS, Shown, ShownPoint
from tb.flow.pages.site import INDEX, Section, Site
from tb.flow.pages.trend import Trend

COVERAGE, POINTS = "coverage.html", "coverpoints.html"
NAMED = 3  # runs of a bin or a line


@dataclass(frozen=True)
class PointRow:
    """A coverpoint: bins hit of those that count, and those excluded."""

    name: str
    hit: int
    bins: int
    excluded: int


@dataclass(frozen=True)
class BinRow:
    """A bin. `state`: hit, hole or excluded. `runs`: how many runs have hit it; `by` names some."""

    point: str
    name: str
    state: str
    observations: int
    why: str
    runs: int
    by: str


def load(folder: Path) -> tuple[Shown, list[Reach]] | None:
    """What `make coverage` has left; None if there is none."""
    path = folder / SHOWN_FILE
    if not path.is_file():
        return None
    shown = checked(Shown, read_json(path), path)
    return shown, rank.read(folder / rank.FILE) if (folder / rank.FILE).is_file() else []


def alone(shown: Shown, reach: Sequence[Reach], folder: Path) -> Path:
    """The pages of one `make coverage` by themselves; returns the first."""
    site = Site(folder, (Section(INDEX, "Coverage"), Section(POINTS, "Coverpoints")))
    write(site, shown, reach, (), INDEX)
    return folder / INDEX


def write_all(site: Site, found: tuple[Shown, list[Reach]] | None, trends: Sequence[Trend]) -> None:
    """All pages of coverage; without any here, the trends alone."""
    if found:
        write(site, *found, trends)
    else:
        site.write(COVERAGE, "coverage.html", shown=None, trends=trends)


def write(
    site: Site, shown: Shown, reach: Sequence[Reach], trends: Sequence[Trend], first: str = COVERAGE
) -> None:
    """The page `first`, one of coverpoints, and one for each source file."""
    points, bins = rows(shown, reach)
    site.write(
        first,
        "coverage.html",
        shown=shown,
        targets=TARGETS,
        kinds=FIGURES,
        trends=trends,
        points=POINTS,
        source_page=source_page,
    )
    site.write(POINTS, "coverpoints.html", points=points, bins=bins, reach=len(reach))
    for name, file in shown.files.items():
        site.write(
            source_page(name),
            "source.html",
            section=first,
            name=name,
            source=file,
            runs=executed(reach, name),
            named=NAMED,
        )


def source_page(name: str) -> str:
    return f"source-{name}.html"


def executed(reach: Sequence[Reach], file: str) -> dict[int, list[str]]:
    """The runs that have executed each line of a file."""
    runs: dict[int, list[str]] = {}
    for one in reach:
        for number in code.spanned(one.lines.get(file, "")):
            runs.setdefault(number, []).append(one.run)
    return runs


def rows(shown: Shown, reach: Sequence[Reach]) -> tuple[list[PointRow], list[BinRow]]:
    """Points and bins, with the runs that have hit each bin."""
    runs: dict[tuple[str, str], list[str]] = {}
    for run in reach:
        for point, names in run.bins.items():
            for name in names:
                runs.setdefault((point, name), []).append(run.run)
    points, bins = [], []
    for point, seen in shown.points.items():
        states = [_state(seen, name) for name in seen.hits]
        excluded = states.count("excluded")
        points.append(PointRow(point, states.count("hit"), len(states) - excluded, excluded))
        for (name, hits), state in zip(seen.hits.items(), states, strict=True):
            by = runs.get((point, name), [])
            some = ", ".join(by[:NAMED]) + (" ..." if len(by) > NAMED else "")
            bins.append(BinRow(point, name, state, hits, seen.excluded.get(name, ""), len(by), some))
    return points, bins


def _state(point: ShownPoint, name: str) -> str:
    if name in point.excluded:
        return "excluded"
    return "hit" if point.hits[name] else "hole"
