"""Adds up the coverage of runs: each folder of a run holds `coverage.xml` (functional), `coverage.dat` (code)
or both.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from pymodel.machine.errors import TatamiError
from tb.coverage import collect
from tb.flow.coverage import code, exclusions, functional

CODE_FILE = "coverage.dat"
FIGURES = ("line", "branch", "toggle", "expr")


@dataclass
class MergedCoverage:
    """What all runs have reached together.

    `places` are those of each kind, `text` the lines of each source file.
    """

    points: functional.Points = field(default_factory=dict)
    hits: code.Hits = field(default_factory=dict)
    places: dict[str, list[code.Place]] = field(default_factory=dict)
    text: dict[str, list[str]] = field(default_factory=dict)
    runs: int = 0

    def source(self, file: str, line: int) -> str:
        return self.text[file][line - 1]

    def functional_percent(self) -> float:
        return functional.percent(self.points)

    def code_percent(self, kind: str, file: str | None = None) -> float:
        counted = [p for p in self.places[kind] if not p.excluded and file in (None, p.file)]
        return 100 * sum(p.covered for p in counted) / len(counted) if counted else 100.0

    def holes(self, kind: str) -> list[code.Place]:
        return [p for p in self.places[kind] if not p.excluded and not p.covered]


def merge(
    folders: Iterable[Path], excluded: Iterable[exclusions.Exclusion], sources: Iterable[Path]
) -> MergedCoverage:
    """Coverage of the runs in `folders`, of the RTL files `sources`, less what is excluded."""
    total = MergedCoverage()
    for folder in folders:
        found = 0
        if (path := folder / collect.FILE).is_file():
            functional.add(total.points, functional.read(path))
            found += 1
        if (path := folder / CODE_FILE).is_file():
            code.add(total.hits, code.read(path))
            found += 1
        if not found:
            raise TatamiError(f"{folder}: no coverage in it, neither {collect.FILE} nor {CODE_FILE}")
        total.runs += 1
    total.text = {path.name: path.read_text().split("\n") for path in sources}
    total.places = {kind: code.places(total.hits, kind, total.text) for kind in FIGURES}
    built = {place.file for found in total.places.values() for place in found}
    exclusions.apply(excluded, total.points, total.places, total.source, total.text.keys() - built)
    return total
