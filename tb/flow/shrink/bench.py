"""`make bench BENCH=shrink`: how small the failures of planted bugs become."""

from __future__ import annotations

from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from pymodel.machine.config import get_config
from pymodel.machine.errors import TatamiError
from tb.flow import failure as kept
from tb.flow import hunt, runner
from tb.flow.shrink import search
from tb.flow.testlist import TESTS

OF_NETWORKS = ("digits", "random")  # tests that run networks
LEAST, MEDIAN = 5.0, 20.0  # how many times fewer cycles the smallest failure takes: each, and the median


def run(console: Console) -> dict[str, Any]:
    """A row for each bug of tb/bugs.yaml that a test of a network finds. `passed` if every failure takes
    `LEAST` times fewer cycles in the end, and half of them `MEDIAN` times.
    """
    rows: list[dict[str, Any]] = []
    for bug in (bug for bug in hunt.known_bugs() if bug.test in OF_NETWORKS):
        row = {"bug": bug.name, "config": bug.config, **_shrunk(bug)}
        console.print(f"[dim]{bug.name}: {row['ratio']} times fewer cycles, {row['runs']} runs")
        rows.append(row)
    shown = Table(title=f"Failures of planted bugs, at most {search.MOST_RUNS} simulations each")
    for heading in ("bug", "config", "cycles", "smallest", "ratio", "layers", "weights", "runs", ""):
        shown.add_column(heading, justify="left" if heading in ("bug", "config", "") else "right")
    for row in rows:
        shown.add_row(*(f"{value:,}" if isinstance(value, int) else str(value) for value in row.values()))
    console.print(shown)
    ratios = [row["ratio"] for row in rows]
    passed = min(ratios) >= LEAST and median(ratios) >= MEDIAN
    return {"bench": "shrink", "passed": passed, "median": median(ratios), "least": min(ratios), "rows": rows}


def _shrunk(bug: hunt.Bug) -> dict[str, Any]:
    sources = hunt.planted(bug)
    seed, outcome = hunt.first_failure(bug, sources)
    config, sim = get_config(bug.config), hunt.simulator(bug)
    failed = kept.keep(
        outcome, TESTS[bug.test], sim, config, seed, options=hunt.options(bug), sources=sources
    )
    try:
        found = search.shrink(failed, search.MOST_RUNS, runner.no_progress)
    except TatamiError as error:
        nothing = dict.fromkeys(("cycles", "smallest", "ratio", "layers", "weights", "runs"), 0)
        return nothing | {"ratio": 1.0, "said": str(error).splitlines()[0]}
    return {
        "cycles": found.before.cycles,
        "smallest": found.after.cycles,
        "ratio": round(found.before.cycles / found.after.cycles, 1),
        "layers": found.after.layers,
        "weights": found.after.weights,
        "runs": found.runs,
        "said": "",
    }
