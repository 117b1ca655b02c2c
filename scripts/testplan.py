"""Check the testplan and write it: `make testplan`. To docs/testplan.md, and with the last results to build/testplan.md.

Exit status 0 if the plan is sound, 1 if not, 2 for a file that is no plan.
"""

from __future__ import annotations

import sys
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from pymodel.errors import TatamiError
from tb import testplan


def main() -> int:
    console = Console(width=None if sys.stdout.isatty() else 140, highlight=False)
    plan, there, sampled, last = testplan.load_plan(), testplan.registry(), testplan.read_sampled(), testplan.read_last_runs()
    results = [testplan.result_of(point, there, sampled, last) for point in plan]
    console.print(table(plan, results))
    print("results:", ", ".join(last.records) or "no regression has been recorded: make regress")
    print("coverage:", "not checked, no merged coverage: make coverage" if sampled is None else testplan.SAMPLED.relative_to(testplan.runner.ROOT))
    free = testplan.unplanned(plan, there)
    if free:
        print(f"coverpoints that no testpoint asks for: {', '.join(free)}")
    found = testplan.problems(plan, there, sampled)
    for problem in found:
        print(f"PROBLEM {problem}")
    testplan.RENDERED.write_text(testplan.render(plan))
    testplan.WITH_RESULTS.parent.mkdir(exist_ok=True)
    testplan.WITH_RESULTS.write_text(testplan.render(plan, results))
    written = (path.relative_to(testplan.runner.ROOT) for path in (testplan.RENDERED, testplan.WITH_RESULTS))
    print(f"{len(plan)} testpoints, {len(found)} problems; written: {', and with results '.join(map(str, written))}")
    return 1 if found else 0


def table(plan: list[testplan.Testpoint], results: list[testplan.Result]) -> Table:
    """A row a testpoint: runs that passed in the last regressions, coverpoints that were sampled."""
    rows = Table(box=box.SIMPLE_HEAD)
    for name in ("feature", "testpoint", "stage", "runs passed", "covered"):
        rows.add_column(name)
    for point, result in zip(plan, results, strict=True):
        rows.add_row(point.feature, point.name, point.stage, *result.texts(), style="red" if result.passed < result.runs else None)
    return rows


if __name__ == "__main__":
    try:
        sys.exit(main())
    except TatamiError as error:
        print(f"{Path(__file__).stem}: {error}", file=sys.stderr)
        sys.exit(2)
