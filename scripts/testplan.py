"""Check tb/testplan.yaml and write docs/testplan.md: `make testplan`. Exit status 0 if the plan is sound, 1 if not, 2 for a file that is no plan."""

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
    console.print(table(plan, there, sampled, last))
    print("results:", ", ".join(last.records) or "no regression has been recorded: make regress")
    print("coverage:", "not checked, no merged coverage: make coverage" if sampled is None else testplan.SAMPLED.relative_to(testplan.runner.ROOT))
    free = testplan.unplanned(plan, there)
    if free:
        print(f"coverpoints that no testpoint asks for: {', '.join(free)}")
    found = testplan.problems(plan, there, sampled)
    for problem in found:
        print(f"PROBLEM {problem}")
    testplan.RENDERED.write_text(testplan.render(plan))
    print(f"{len(plan)} testpoints, {len(found)} problems; written: {testplan.RENDERED.relative_to(testplan.runner.ROOT)}")
    return 1 if found else 0


def table(plan: list[testplan.Testpoint], there: testplan.Registry, sampled: dict[str, int] | None, last: testplan.LastRuns) -> Table:
    """A row a testpoint: runs that passed in the last regressions, coverpoints that were sampled."""
    rows = Table(box=box.SIMPLE_HEAD)
    for name in ("feature", "testpoint", "stage", "runs passed", "covered"):
        rows.add_column(name)
    for point in plan:
        counts = [count for count in map(last.of, dict.fromkeys(t.partition("::")[0] for t in point.tests)) if count]
        passed, runs = (sum(c[i] for c in counts) for i in (0, 1))
        names = {name for pattern in point.coverpoints for name in there.matching(pattern)}
        hit = "?" if sampled is None else str(sum(bool(sampled.get(name)) for name in names))
        result, covered = f"{passed}/{runs}" if runs else "-", f"{hit}/{len(names)}" if names else "-"
        rows.add_row(point.feature, point.name, point.stage, result, covered, style="red" if passed < runs else None)
    return rows


if __name__ == "__main__":
    try:
        sys.exit(main())
    except TatamiError as error:
        print(f"{Path(__file__).stem}: {error}", file=sys.stderr)
        sys.exit(2)
