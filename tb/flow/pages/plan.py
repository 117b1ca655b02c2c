"""The page of the testplan, with the last results."""

from __future__ import annotations

from dataclasses import dataclass

from tb.flow import simulators
from tb.flow.pages.site import Site
from tb.flow.testplan import last_results, plan
from tb.flow.testplan.plan import Testpoint

TESTPLAN = "testplan.html"


@dataclass(frozen=True)
class Row:
    """A testpoint: passed and all runs on each simulator, bins hit and all bins, as text."""

    point: Testpoint
    results: list[str]
    failed: bool


def write(site: Site) -> None:
    """With what regressions and coverage have left since in this build folder; the kept results stay as they
    are.
    """
    there, last = plan.registry(), last_results.read(last_results.FILE)
    last.fold(there.tests, there.coverpoints, last_results.REGRESSIONS, last_results.COVERAGE)
    points = plan.load_plan(plan.PLAN)
    rows = []
    for point in points:
        runs = [plan.runs_of(point, sim, last) for sim in simulators.SIMULATORS]
        rows.append(
            Row(point, plan.results_of(point, there, last), any(passed < whole for passed, whole in runs))
        )
    site.write(
        TESTPLAN,
        "testplan.html",
        rows=rows,
        columns=plan.RESULT_COLUMNS,
        problems=plan.problems(points, there, last),
    )
