"""The last results of tests and coverpoints: docs/testplan.jsonl, a line for each, which is kept in the
repository.

`fold` takes in what has come since: the regressions of `make regress` below build/regress/, and the merged
coverage of `make coverage` in build/coverage/. Whatever they did not run keeps the result that it has.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from pydantic import Field

from pymodel.machine.errors import TatamiError
from pymodel.machine.files import Fields, checked, parse_json, read_json, read_text, write_text
from tb.flow import regress, runner, simulators
from tb.flow.coverage.report import POINTS_FILE, PointsFile

FILE = runner.ROOT / "docs" / "testplan.jsonl"
REGRESSIONS = regress.RECORDS
COVERAGE = runner.BUILD / "coverage" / POINTS_FILE


class TestResult(Fields):
    """The runs of a test in the last regression on a simulator that had it: how many, over how many seeds."""

    __test__ = False  # not for pytest to collect

    test: str
    sim: simulators.Simulator
    passed: int = Field(ge=0)
    runs: int = Field(ge=0)
    seeds: int = Field(ge=0)
    when: str
    git: str


class PointResult(Fields):
    """The bins of a coverpoint, without those excluded, that the last coverage has hit; in all groups and
    builds together.
    """

    coverpoint: str
    hit: int = Field(ge=0)
    bins: int = Field(ge=0)
    when: str
    git: str


@dataclass
class LastResults:
    """By test and simulator, and by coverpoint."""

    tests: dict[tuple[str, str], TestResult] = field(default_factory=dict)
    points: dict[str, PointResult] = field(default_factory=dict)

    def add(self, result: TestResult | PointResult) -> None:
        """Replaces an earlier one."""
        if isinstance(result, TestResult):
            self.tests[result.test, result.sim] = result
        else:
            self.points[result.coverpoint] = result

    def sampled(self, coverpoint: str) -> bool:
        return coverpoint in self.points and self.points[coverpoint].hit > 0

    def fold(
        self, tests: Collection[str], coverpoints: Collection[str], regressions: Path, coverage: Path
    ) -> None:
        """Takes in newer results.

        Of names other than those given, which a build folder may hold from another version, it takes none.
        """
        # a regression that goes on still has none
        for summary in sorted(regressions.glob(f"*/{regress.SUMMARY}")):
            for result in results_of_regression(summary.parent):
                known = self.tests.get((result.test, result.sim))
                if result.test in tests and (known is None or result.when >= known.when):
                    self.add(result)
        if coverage.is_file():
            whole, points = results_of_coverage(coverage)
            for point in points:
                before = self.points.get(point.coverpoint)
                newer = before is None or point.when >= before.when
                # part of the runs may add to what is known of a point, but says nothing of what it does not
                # reach
                if (
                    point.coverpoint in coverpoints
                    and newer
                    and (whole or before is None or point.hit > before.hit)
                ):
                    self.add(point)

    def write(self, path: Path) -> None:
        results: list[TestResult | PointResult] = [
            *(self.tests[key] for key in sorted(self.tests)),
            *(self.points[name] for name in sorted(self.points)),
        ]
        write_text(path, "".join(json.dumps(result.model_dump()) + "\n" for result in results))


def read(path: Path) -> LastResults:
    """Raises `TatamiError` with the number of a line that is no result. No file: no results yet."""
    results = LastResults()
    lines = read_text(path).splitlines() if path.is_file() else []
    for number, line in enumerate(lines, 1):
        try:
            results.add(parse(line, f"{path}, line {number}"))
        except TatamiError as error:
            raise TatamiError(f"{error}; take the line out, and `make testplan` again") from None
    return results


def parse(line: str, where: str) -> TestResult | PointResult:
    """Raises `TatamiError` that begins with `where` for what is neither."""
    row = parse_json(line, where)
    if isinstance(row, dict) and "test" in row:
        return checked(TestResult, row, where)
    return checked(PointResult, row, where)


def results_of_regression(folder: Path) -> list[TestResult]:
    """One for each test and simulator of a regression, whose folder is named by its time."""
    try:
        when = datetime.strptime(folder.name, regress.FOLDER_TIME).isoformat(timespec="seconds")
    except ValueError:
        raise TatamiError(f"{folder}: its name is no time of a regression; remove it") from None
    rows: dict[tuple[str, str], list[regress.RecordLine]] = defaultdict(list)
    try:
        for row in regress.read_records(folder):
            rows[row.test, row.sim].append(row)
    except TatamiError as error:
        raise TatamiError(f"{error}; remove {folder}") from None
    return [
        TestResult(
            test=test,
            sim=runs[0].sim,
            passed=sum(r.passed for r in runs),
            runs=len(runs),
            seeds=len({r.seed for r in runs}),
            when=when,
            git=runs[0].git or "",
        )
        for (test, _), runs in rows.items()
    ]


def results_of_coverage(path: Path) -> tuple[bool, list[PointResult]]:
    """Whether it is of all runs of tb/coverage/runs.yaml, and one result for each coverpoint."""
    try:
        merged = checked(PointsFile, read_json(path), path)
    except TatamiError as error:
        raise TatamiError(f"{error}; remove it, or run `make coverage`") from None
    counts: dict[str, tuple[int, int]] = {}
    for name, point in merged.points.items():
        short = next(part for part in name.split(".") if part.startswith("cp_"))
        hit, bins = counts.get(short, (0, 0))
        counts[short] = (hit + point.hit, bins + point.bins)
    return merged.whole, [
        PointResult(coverpoint=name, hit=hit, bins=bins, when=merged.when, git=merged.git or "")
        for name, (hit, bins) in counts.items()
    ]
