"""Which runs earn their time: what each run of `make coverage` has hit of the functional points and of the
source, and the smallest set of runs that hits the same.

`make coverage` writes reach.jsonl, a line for each run, and toggles.json, the names of what toggles.
"""

from __future__ import annotations

import fnmatch
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from pymodel.machine.errors import TatamiError
from pymodel.machine.files import Fields, checked, checked_lines, read_json, write_json, write_text
from tb.coverage import collect
from tb.flow.coverage import code, functional
from tb.flow.coverage.merge import CODE_FILE
from tb.flow.coverage.runs import Done

FILE = "reach.jsonl"
TOGGLES = "toggles.json"  # of each source file, what toggles: line, bit and direction
LIST, LONGER_LIST = "ranked.txt", "ranked_toggles.txt"  # for RUNS of `make coverage`


class Reach(Fields):
    """What a run has hit: of each point the names of the bins, of each source file the lines, as "1-5,8",
    the sides of branches, as "8 if", and what toggled, as "0-3,9", the places in toggles.json. `run` is its
    name in RUNS.
    """

    run: str
    test: str
    wall_s: float = Field(ge=0)
    bins: dict[str, list[str]]
    lines: dict[str, str] = Field(default_factory=dict)
    branches: dict[str, list[str]] = Field(default_factory=dict)
    toggles: dict[str, str] = Field(default_factory=dict)

    def toggled(self) -> set[tuple[str, int]]:
        """Files and places in toggles.json."""
        return {(file, n) for file, spans in self.toggles.items() for n in code.spanned(spans)}

    def hits(self) -> Iterator[str]:
        """`<point>: <bin>`, as an exclusion names a bin, `<file>: <line>` and `<file>: <line> <side>`."""
        yield from (f"{point}: {name}" for point, names in self.bins.items() for name in names)
        yield from (f"{file}: {line}" for file, spans in self.lines.items() for line in code.spanned(spans))
        yield from (f"{file}: {side}" for file, sides in self.branches.items() for side in sides)


@dataclass(frozen=True)
class Step:
    """A run of the smallest set: the bins that none before it has hit, and how many are hit then."""

    run: Reach
    new: int
    total: int


@dataclass(frozen=True)
class Ranking:
    """`bins`: all that were hit, lines and sides of branches among them. `alone`: those that a single run
    hits, by its name. `idle`: the tests all of whose bins other tests hit, too. `toggles`: all that toggled;
    `more`: the runs that it takes besides, for all of these.
    """

    runs: int
    bins: int
    steps: tuple[Step, ...]
    alone: dict[str, tuple[str, ...]]
    idle: tuple[str, ...]
    toggles: int
    more: tuple[Step, ...]


class Toggles(Fields):
    """The content of toggles.json."""

    files: dict[str, list[str]]


def write(done: Iterable[Done], path: Path, sources: Collection[str]) -> None:
    """Writes what each run has hit, and the names of what toggles beside it; `sources`: the files whose lines
    count.
    """
    lines = []
    numbers: dict[str, dict[str, int]] = {}
    for one in done:
        points = functional.read(one.folder / collect.FILE) if (one.folder / collect.FILE).is_file() else {}
        bins = {name: [b for b, hits in point.hits.items() if hits] for name, point in points.items()}
        hits = code.read(one.folder / CODE_FILE) if (one.folder / CODE_FILE).is_file() else {}
        lines_hit, branches = _of_source(hits, sources)
        reach = Reach(
            run=str(one.run),
            test=one.run.test,
            wall_s=round(one.wall_s, 2),
            bins=bins,
            lines=lines_hit,
            branches=branches,
            toggles=_toggles(hits, sources, numbers),
        )
        lines.append(reach.model_dump_json() + "\n")
    write_text(path, "".join(lines))
    write_json(path.with_name(TOGGLES), {"files": {file: list(names) for file, names in numbers.items()}})


def _of_source(hits: code.Hits, sources: Collection[str]) -> tuple[dict[str, str], dict[str, list[str]]]:
    """The lines and the sides of branches of a run."""
    lines, branches = defaultdict[str, list[int]](list), defaultdict[str, list[str]](list)
    for place in code.places(hits, "line", sources):
        if place.covered:
            lines[place.file].append(place.line)
    for place in code.places(hits, "branch", sources):
        if place.covered:
            branches[place.file].append(f"{place.line} {place.what}")
    return (
        {file: code.spans(numbers) for file, numbers in lines.items()},
        {file: list(dict.fromkeys(sides)) for file, sides in branches.items()},
    )


def _toggles(hits: code.Hits, sources: Collection[str], numbers: dict[str, dict[str, int]]) -> dict[str, str]:
    """What toggled in a run, by its numbers in each file; names that have none yet get one."""
    found = defaultdict[str, set[int]](set)
    for place in code.places(hits, "toggle", sources):
        known = numbers.setdefault(place.file, {})
        number = known.setdefault(f"{place.line} {place.what}", len(known))
        if place.covered:
            found[place.file].add(number)
    return {file: code.spans(sorted(some)) for file, some in found.items()}


def read(path: Path) -> list[Reach]:
    """Raises `TatamiError` if there is none, and for a damaged line."""
    if not path.is_file():
        raise TatamiError(f"{path}: there is no such file; `make coverage` writes it")
    rows = checked_lines(Reach, path)
    if not rows:
        raise TatamiError(f"{path}: holds no run")
    names = [row.run for row in rows]
    for number, name in enumerate(names, 1):
        if name in names[: number - 1]:
            raise TatamiError(
                f"{path}, line {number}: field 'run' is '{name}', which an earlier line has, too"
            )
    return rows


def rank(rows: Sequence[Reach]) -> Ranking:
    """Greedy set cover: first the runs that hit something alone, then always the one that adds most. What the
    others have made superfluous is taken out again.
    """
    numbers: dict[str, int] = {}
    hit = {row.run: {numbers.setdefault(name, len(numbers)) for name in row.hits()} for row in rows}
    owners: dict[int, list[Reach]] = {}
    for row in rows:
        for number in hit[row.run]:
            owners.setdefault(number, []).append(row)
    names = list(numbers)
    alone: dict[str, list[str]] = {}
    for number, runs in sorted(owners.items()):
        if len(runs) == 1:
            alone.setdefault(runs[0].run, []).append(names[number])
    needed = [row for row in rows if row.run in alone]
    chosen = [step.run for step in _greedy(rows, hit, needed)]
    for row in reversed(chosen):
        others = set[int]().union(*(hit[one.run] for one in chosen if one is not row))
        if hit[row.run] <= others:
            chosen.remove(row)
    steps = tuple(_greedy(chosen, hit, []))
    ids: dict[tuple[str, int], int] = {}
    toggled = {row.run: {ids.setdefault(one, len(ids)) for one in row.toggled()} for row in rows}
    more = tuple(_greedy(rows, toggled, chosen))[len(chosen) :]
    tests = {row.test for row in rows}
    earns = {next(iter(found)) for runs in owners.values() if len(found := {row.test for row in runs}) == 1}
    return Ranking(
        runs=len(rows),
        bins=len(numbers),
        steps=steps,
        alone={run: tuple(found) for run, found in alone.items()},
        idle=tuple(sorted(tests - earns)),
        toggles=len(ids),
        more=more,
    )


def _greedy(rows: Sequence[Reach], hit: dict[str, set[int]], first: Iterable[Reach]) -> Iterator[Step]:
    """Those of `first`, then always the run that adds most, of equal ones the quickest, until none adds."""
    seen = set[int]()
    for row in first:
        new = hit[row.run] - seen
        seen |= new
        yield Step(row, len(new), len(seen))
    rest = list(rows)
    while True:
        # what a run adds only ever becomes less
        rest = [row for row in rest if hit[row.run] - seen]
        if not rest:
            return
        row = min(rest, key=lambda one: (-len(hit[one.run] - seen), one.wall_s, one.run))
        new = hit[row.run] - seen
        seen |= new
        yield Step(row, len(new), len(seen))


def write_lists(ranking: Ranking, folder: Path) -> tuple[Path, Path]:
    """The names of the runs, a line each: of the set, and with those that it takes for all toggles."""
    short, longer = folder / LIST, folder / LONGER_LIST
    write_text(short, "".join(f"{step.run.run}\n" for step in ranking.steps))
    write_text(longer, "".join(f"{step.run.run}\n" for step in (*ranking.steps, *ranking.more)))
    return short, longer


def read_toggles(path: Path) -> dict[str, list[str]]:
    """The names of what toggles; none if an earlier version has written none."""
    return checked(Toggles, read_json(path), path).files if path.is_file() else {}


def reaching(
    rows: Sequence[Reach], pattern: str, toggles: dict[str, list[str]] | None = None
) -> dict[str, list[str]]:
    """Of each bin whose name matches a glob, the runs that hit it. Raises `TatamiError` if none matches."""
    found: dict[str, list[str]] = {}
    matching = {
        (file, number): f"{file}: {name}"
        for file, names in (toggles or {}).items()
        for number, name in enumerate(names)
        if fnmatch.fnmatchcase(f"{file}: {name}", pattern)
    }
    for row in rows:
        for name in row.hits():
            if fnmatch.fnmatchcase(name, pattern):
                found.setdefault(name, []).append(row.run)
        for one in sorted(row.toggled() & matching.keys()) if matching else ():
            found.setdefault(matching[one], []).append(row.run)
    if not found:
        example = next((name for row in rows for name in row.hits()), "none at all")
        raise TatamiError(f"BIN '{pattern}' matches no bin that a run has hit, like '{example}'")
    return found
