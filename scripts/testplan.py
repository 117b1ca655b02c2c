"""Check the testplan, read the last results, and write docs/testplan.md: `make testplan`.

Exit status 0 if the plan is sound, 1 if not, 2 for a file that is not a plan or has no results.
"""

from __future__ import annotations

from rich import box
from rich.table import Table

from scripts.command import command, console
from tb.flow.simulators import SIMULATORS
from tb.flow.testplan import last_results
from tb.flow.testplan import plan as testplan


@command("testplan")
def main() -> int:
    plan, there, last = (
        testplan.load_plan(testplan.PLAN),
        testplan.registry(),
        last_results.read(last_results.FILE),
    )
    last.fold(there.tests, there.coverpoints, last_results.REGRESSIONS, last_results.COVERAGE)
    console().print(table(plan, there, last))
    found = testplan.problems(plan, there, last)
    for problem in found:
        print(f"PROBLEM {problem}")
    last.write(last_results.FILE)
    testplan.RENDERED.write_text(testplan.render(plan, there, last))
    print(
        f"{len(plan)} testpoints, {len(found)} problems; written: {testplan.RENDERED} and {last_results.FILE}"
    )
    return 1 if found else 0


def table(plan: list[testplan.Testpoint], there: testplan.Registry, last: last_results.LastResults) -> Table:
    """A row for each testpoint, red if a run failed."""
    rows = Table(box=box.SIMPLE_HEAD)
    for name in ("feature", "testpoint", "stage", *testplan.RESULT_COLUMNS):
        rows.add_column(name)
    for point in plan:
        failed = any(
            passed < runs for passed, runs in (testplan.runs_of(point, sim, last) for sim in SIMULATORS)
        )
        rows.add_row(
            point.feature,
            point.name,
            point.stage,
            *testplan.results_of(point, there, last),
            style="red" if failed else None,
        )
    return rows


if __name__ == "__main__":
    main.run()
