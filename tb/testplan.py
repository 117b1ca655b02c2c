"""The testplan: `testplan.yaml`, checked against the tests and coverpoints that there are, and rendered to docs/testplan.md.

The page under docs/ depends on the plan alone; that with the last results is made below build/.
"""

from __future__ import annotations

import ast
import fnmatch
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import yaml

from pymodel.errors import TatamiError
from tb import regress, runner
from tb.blocks import BLOCKS
from tb.coverage.points import POINTS
from tb.testlist import BLOCK_TESTS, TESTS

PLAN = runner.ROOT / "tb" / "testplan.yaml"
RENDERED = runner.ROOT / "docs" / "testplan.md"
WITH_RESULTS = runner.BUILD / "testplan.md"
SAMPLED = runner.BUILD / "coverage" / "points.json"
STAGES = ("V1", "V2", "V3")


@dataclass(frozen=True)
class Testpoint:
    """One thing to verify; the head of testplan.yaml says what the fields mean."""

    __test__ = False  # not for pytest to collect

    feature: str
    name: str
    stage: str
    intent: str
    tests: tuple[str, ...]
    coverpoints: tuple[str, ...] = ()


@dataclass(frozen=True)
class Registry:
    """The names that a plan may use. `pytests` are files and `file::function`; `cocotb` are `test::function`."""

    tests: Collection[str]
    blocks: Collection[str]
    cocotb: Collection[str]
    pytests: Collection[str]
    coverpoints: Collection[str]

    @property
    def pytest_files(self) -> list[str]:
        return [name for name in self.pytests if "::" not in name]

    def known(self, test: str) -> bool:
        return any(test in names for names in (self.tests, self.blocks, self.cocotb, self.pytests))

    def matching(self, pattern: str) -> list[str]:
        """The coverpoints of a name, which may hold `*`."""
        return [name for name in self.coverpoints if fnmatch.fnmatchcase(name, pattern)]


def load_plan(path: Path = PLAN) -> list[Testpoint]:
    """All testpoints, in order. Raises `TatamiError` for a file that is no plan."""
    try:
        features = yaml.safe_load(path.read_text())
        return [parse_point(str(feature["feature"]), row) for feature in features for row in feature["points"]]
    except yaml.YAMLError as error:
        raise TatamiError(f"{path}: {' '.join(str(error).split())}") from None
    except (KeyError, TypeError) as error:
        raise TatamiError(f"{path}: not a list of features with testpoints: {error}") from None


def parse_point(feature: str, row: Mapping[str, object]) -> Testpoint:
    def names(key: str) -> tuple[str, ...]:
        value = row.get(key) or []
        if not isinstance(value, list):
            raise TatamiError(f"testpoint '{row.get('name')}': {key} is not a list")
        return tuple(map(str, value))

    wrong = set(row) - {"name", "stage", "intent", "tests", "coverpoints"}
    if wrong:
        raise TatamiError(f"testpoint '{row.get('name')}': unknown field '{min(wrong)}'")
    return Testpoint(feature, str(row["name"]), str(row["stage"]), str(row["intent"]), names("tests"), names("coverpoints"))


def registry() -> Registry:
    """What there is: the tests of `make sim`, their cocotb functions, blocks, pytest's files and functions, coverpoints."""
    return Registry(
        tests=list(TESTS) + list(BLOCK_TESTS),
        blocks=[f"block_{name}" for name in BLOCKS],
        cocotb=[f"{name}::{function}" for name, test in TESTS.items() for function in functions(module_file(test.module), cocotb_only=True)],
        pytests=pytest_names(runner.ROOT / "tests"),
        coverpoints=[point.name for point in POINTS],
    )


def pytest_names(folder: Path) -> list[str]:
    names = []
    for path in sorted(folder.glob("test_*.py")):
        file = f"{folder.name}/{path.name}"
        names += [file, *(f"{file}::{function}" for function in functions(path))]
    return names


def module_file(module: str) -> Path:
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        raise TatamiError(f"{module}: no such module")
    return Path(spec.origin)


@cache
def functions(path: Path, cocotb_only: bool = False) -> tuple[str, ...]:
    """Tests of a file, read without running it: functions `test_...`, or those that cocotb runs."""
    found = []
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            marked = any(ast.unparse(d).startswith("cocotb.") for d in node.decorator_list)
            if marked if cocotb_only else node.name.startswith("test_"):
                found.append(node.name)
    return tuple(found)


def problems(plan: Sequence[Testpoint], there: Registry, sampled: Mapping[str, int] | None) -> list[str]:
    """Everything that is wrong with a plan, a line each. `sampled`: how often each coverpoint was hit, None if that is not known."""
    found = []
    names = [point.name for point in plan]
    for point in plan:
        where = f"testpoint '{point.name}'"
        if names.count(point.name) > 1:
            found.append(f"{where}: the name is taken twice")
        if point.stage not in STAGES:
            found.append(f"{where}: stage '{point.stage}' is none of {', '.join(STAGES)}")
        if not point.tests:
            found.append(f"{where}: has no test")
        found += [f"{where}: test '{test}' does not exist" for test in point.tests if not there.known(test)]
        for pattern in point.coverpoints:
            matching = there.matching(pattern)
            if not matching:
                found.append(f"{where}: coverpoint '{pattern}' does not exist")
            if sampled is not None:
                found += [f"{where}: coverpoint '{name}' was never sampled" for name in matching if not sampled.get(name)]
    planned = {test for point in plan for test in point.tests}
    wholes = planned | {test.partition("::")[0] for test in planned}
    owners = [name for name in there.tests if not name.startswith("block_")] + list(there.blocks) + there.pytest_files
    found += [f"test '{name}' is in no testpoint" for name in owners if name not in wholes]
    return found


def unplanned(plan: Iterable[Testpoint], there: Registry) -> list[str]:
    """Coverpoints that no testpoint asks for."""
    asked = {name for point in plan for pattern in point.coverpoints for name in there.matching(pattern)}
    return [name for name in there.coverpoints if name not in asked]


def read_sampled(path: Path = SAMPLED) -> dict[str, int] | None:
    """How often each coverpoint was hit in the last `make coverage`; None if there was none. Groups and builds of a point are added up."""
    if not path.is_file():
        return None
    counts: dict[str, int] = {}
    for name, hits in json.loads(path.read_text())["points"].items():
        short = next(part for part in name.split(".") if part.startswith("cp_"))
        counts[short] = counts.get(short, 0) + hits
    return counts


@dataclass(frozen=True)
class LastRuns:
    """Runs of the newest regression on each simulator: passed and all, by test."""

    records: tuple[str, ...]
    counts: Mapping[str, tuple[int, int]]

    def of(self, test: str) -> tuple[int, int] | None:
        """Passed and all runs of a test, or of a block in all its sizes; None if the regressions did not run it."""
        name = test.partition("::")[0]
        rows = [count for known, count in self.counts.items() if known == name or (name.startswith("block_") and size_of(known, name))]
        return (sum(r[0] for r in rows), sum(r[1] for r in rows)) if rows else None


def size_of(test: str, block: str) -> bool:
    """Whether a test is that of a block in another size: `block_pe_2` of `block_pe`."""
    return test.startswith(f"{block}_") and test.removeprefix(f"{block}_").isdigit()


def read_last_runs(folder: Path = regress.RECORDS) -> LastRuns:
    """Newest first; a regression that has not ended has no summary and does not count."""
    taken: dict[str, str] = {}
    counts: dict[str, tuple[int, int]] = {}
    for record in sorted((p.parent for p in folder.glob(f"*/{regress.SUMMARY}")), reverse=True):
        sim = json.loads((record / regress.SUMMARY).read_text())["sim"]
        if sim not in taken:
            taken[sim] = record.name
            for row in regress.read_records(record):
                passed, runs = counts.get(row["test"], (0, 0))
                counts[row["test"]] = (passed + (row["result"] == "pass"), runs + 1)
    return LastRuns(tuple(f"{sim} {name}" for sim, name in sorted(taken.items())), counts)


@dataclass(frozen=True)
class Result:
    """What is known of a testpoint: runs of the last regressions, coverpoints, and how many of these were sampled (None: not known)."""

    passed: int
    runs: int
    coverpoints: int
    sampled: int | None

    def texts(self) -> tuple[str, str]:
        """`passed/runs` and `sampled/coverpoints`; `-` where there is nothing to show."""
        hit = "?" if self.sampled is None else self.sampled
        return f"{self.passed}/{self.runs}" if self.runs else "-", f"{hit}/{self.coverpoints}" if self.coverpoints else "-"


def result_of(point: Testpoint, there: Registry, sampled: Mapping[str, int] | None, last: LastRuns) -> Result:
    counts = [count for count in map(last.of, dict.fromkeys(t.partition("::")[0] for t in point.tests)) if count]
    names = {name for pattern in point.coverpoints for name in there.matching(pattern)}
    hit = None if sampled is None else sum(bool(sampled.get(name)) for name in names)
    return Result(sum(c[0] for c in counts), sum(c[1] for c in counts), len(names), hit)


HEAD = """# Testplan

Rendered by `make testplan` from [tb/testplan.yaml](../tb/testplan.yaml), which is the file to change. The command also checks that every test and
coverpoint named here exists, that every test has a testpoint, and that every coverpoint was sampled in the last `make coverage`; it
shows each testpoint with the results of the last regressions, and writes this page with them to `build/testplan.md`.

Stages: V1, it works at all; V2, every feature and every corner; V3, under stress, and that the checks themselves would notice.
"""


def render(plan: Sequence[Testpoint], results: Sequence[Result] | None = None) -> str:
    """The plan as Markdown, with the result of each testpoint if they are given."""
    columns = ["testpoint", "stage", "intent", "tests", "coverpoints", *(("runs passed", "covered") if results else ())]
    lines = [HEAD]
    for feature in dict.fromkeys(point.feature for point in plan):
        lines += [f"## {feature}", "", f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
        for index, point in enumerate(plan):
            if point.feature == feature:
                tests, covers = (", ".join(f"`{name}`" for name in names) for names in (point.tests, point.coverpoints))
                cells = [point.name, point.stage, point.intent, tests, covers, *(results[index].texts() if results else ())]
                lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)
