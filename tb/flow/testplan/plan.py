"""The testplan: `testplan.yaml`, checked against the tests and coverpoints that there are, and rendered with
the last results to docs/testplan.md. Page and check depend on nothing but files of the repository.
"""

from __future__ import annotations

import ast
import fnmatch
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from pymodel.machine.errors import TatamiError
from pymodel.machine.files import Fields, checked_list, read_yaml
from tb.coverage.points import POINTS
from tb.flow import runner, simulators
from tb.flow.blocks import BLOCKS
from tb.flow.testlist import BLOCK_TESTS, TESTS
from tb.flow.testplan.last_results import FILE as LAST_RESULTS
from tb.flow.testplan.last_results import LastResults

PLAN = runner.ROOT / "tb" / "testplan.yaml"
RENDERED = runner.ROOT / "docs" / "testplan.md"
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


class PointEntry(Fields):
    """A testpoint of testplan.yaml."""

    name: str
    stage: str
    intent: str
    tests: tuple[str, ...] = ()
    coverpoints: tuple[str, ...] = ()


class FeatureEntry(Fields):
    """A feature of testplan.yaml."""

    feature: str
    points: tuple[PointEntry, ...]


@dataclass(frozen=True)
class Registry:
    """The names that a plan may use.

    `pytests` are files and `file::function`; `cocotb` are `test::function`.
    """

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


def load_plan(path: Path) -> list[Testpoint]:
    """All testpoints, in order. Raises `TatamiError` for a file that is no plan."""
    features = checked_list(FeatureEntry, read_yaml(path), path)
    return [Testpoint(one.feature, **dict(point)) for one in features for point in one.points]


def registry() -> Registry:
    """What there is: the tests of `make sim`, their cocotb functions, blocks, pytest's files and functions,
    coverpoints.
    """
    return Registry(
        tests=list(TESTS) + list(BLOCK_TESTS),
        blocks=[f"block_{name}" for name in BLOCKS],
        cocotb=[
            f"{name}::{function}"
            for name, test in TESTS.items()
            for function in functions(module_file(test.module), cocotb_only=True)
        ],
        pytests=pytest_names(runner.ROOT / "tests"),
        coverpoints=[point.name for point in POINTS],
    )


def pytest_names(folder: Path) -> list[str]:
    names = []
    for path in sorted(folder.rglob("test_*.py")):
        file = f"{folder.name}/{path.relative_to(folder)}"
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


def problems(plan: Sequence[Testpoint], there: Registry, last: LastResults) -> list[str]:
    """Everything that is wrong with a plan and the results kept for it, a line each."""
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
            if not there.matching(pattern):
                found.append(f"{where}: coverpoint '{pattern}' does not exist")
    planned = {test for point in plan for test in point.tests}
    wholes = planned | {test.partition("::")[0] for test in planned}
    owners = (
        [name for name in there.tests if not name.startswith("block_")]
        + list(there.blocks)
        + there.pytest_files
    )
    found += [f"test '{name}' is in no testpoint" for name in owners if name not in wholes]
    asked = {name for point in plan for pattern in point.coverpoints for name in there.matching(pattern)}
    found += [f"coverpoint '{name}' is in no testpoint" for name in there.coverpoints if name not in asked]
    found += [
        f"coverpoint '{name}' was never sampled; run `make coverage`"
        for name in there.coverpoints
        if not last.sampled(name)
    ]
    gone = [
        f"test '{name}'" for name in dict.fromkeys(test for test, _ in last.tests) if name not in there.tests
    ]
    gone += [f"coverpoint '{name}'" for name in last.points if name not in there.coverpoints]
    found += [
        f"{LAST_RESULTS.name} has results of {name}, which does not exist; take the line out" for name in gone
    ]
    return found


def size_of(test: str, block: str) -> bool:
    """Whether a test is that of a block in another size: `block_pe_2` of `block_pe`."""
    return test.startswith(f"{block}_") and test.removeprefix(f"{block}_").isdigit()


def runs_of(point: Testpoint, sim: str, last: LastResults) -> tuple[int, int]:
    """Passed and all runs on a simulator of the tests of a testpoint; those of a block in all its sizes."""
    names = {test.partition("::")[0] for test in point.tests}
    rows = [
        result
        for (test, on), result in last.tests.items()
        if on == sim
        and (test in names or any(name.startswith("block_") and size_of(test, name) for name in names))
    ]
    return sum(r.passed for r in rows), sum(r.runs for r in rows)


def bins_of(point: Testpoint, there: Registry, last: LastResults) -> tuple[int, int]:
    """Bins hit and all bins of the coverpoints of a testpoint, as far as there are results of them."""
    names = {name for pattern in point.coverpoints for name in there.matching(pattern)}
    rows = [last.points[name] for name in names if name in last.points]
    return sum(r.hit for r in rows), sum(r.bins for r in rows)


def results_of(point: Testpoint, there: Registry, last: LastResults) -> list[str]:
    """Runs passed on each simulator, and bins hit: `passed/runs`, and `-` where there is nothing to show."""
    pairs = [*(runs_of(point, sim, last) for sim in simulators.SIMULATORS), bins_of(point, there, last)]
    return [f"{part}/{whole}" if whole else "-" for part, whole in pairs]


RESULT_COLUMNS = (*(f"passed, {sim}" for sim in simulators.SIMULATORS), "bins hit")

HEAD = """# Testplan

Rendered by `make testplan` from `tb/testplan.yaml`, which is the file to change, and
from the last results in [testplan.jsonl](testplan.jsonl), into which the command takes what `make regress`
and `make coverage` have left below `build/`. It fails on a testpoint without a test, a test without a
testpoint, a coverpoint without a testpoint, a coverpoint that was never sampled, and a name that does not
exist.

Stages: V1, it works at all; V2, every feature and every corner; V3, under stress, and that the checks
themselves would notice.

`passed` counts the runs in the last regression on a simulator that had the test, `bins hit` the bins of the
coverpoints in the last coverage, both [below](#last-results) one by one. Tests of pytest leave no results
here: `make test` runs them all.
"""


def render(plan: Sequence[Testpoint], there: Registry, last: LastResults) -> str:
    """The plan as Markdown with the result of each testpoint, then the results of each test and
    coverpoint.
    """
    lines = [HEAD]
    for feature in dict.fromkeys(point.feature for point in plan):
        rows = []
        for point in plan:
            if point.feature == feature:
                tests, covers = (
                    ", ".join(f"`{name}`" for name in names) for names in (point.tests, point.coverpoints)
                )
                rows.append(
                    [point.name, point.stage, point.intent, tests, covers, *results_of(point, there, last)]
                )
        lines += [
            f"## {feature}",
            "",
            *markdown(("testpoint", "stage", "intent", "tests", "coverpoints", *RESULT_COLUMNS), rows),
            "",
        ]
    of_tests = [
        [f"`{r.test}`", r.sim, f"{r.passed}/{r.runs}", str(r.seeds), r.when, revision(r.git)]
        for _, r in sorted(last.tests.items())
    ]
    of_points = [
        [f"`{r.coverpoint}`", f"{r.hit}/{r.bins}", r.when, revision(r.git)]
        for _, r in sorted(last.points.items())
    ]
    lines += ["## Last results", "", "Times are UTC; `+` behind a revision: with changed files.", ""]
    lines += [*markdown(("test", "simulator", "passed", "seeds", "when", "revision"), of_tests), ""]
    lines += [*markdown(("coverpoint", "bins hit", "when", "revision"), of_points), ""]
    return "\n".join(lines)


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table."""
    return [
        f"| {' | '.join(columns)} |",
        "|" + "---|" * len(columns),
        *(f"| {' | '.join(row)} |" for row in rows),
    ]


def revision(git: str) -> str:
    """A commit, shortened."""
    return git[:10] + ("+" if git.endswith("+") else "")
