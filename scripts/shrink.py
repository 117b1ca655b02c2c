"""Make a failure small: `make shrink FAILURE=build/failures/...`. Its network runs alone and is made smaller
for as long as it fails in the same way.

Ends with one line `SHRINK {json}`; exit status 0 if a smaller one was found, 1 if not, 2 for bad input.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from rich.table import Table

from pymodel.machine.errors import TatamiError
from scripts.command import Integer, command, console, variable, working
from tb.flow import failure as kept
from tb.flow import simulators
from tb.flow.shrink import search

MOST = 10_000


@command("shrink")
@variable("FAILURE", what="the folder of a failure")
@variable("N", Integer(1, MOST), search.MOST_RUNS, "the most simulations")
def main(failure: str | None, n: int) -> int:
    if not failure:
        raise TatamiError(f"FAILURE is not given: the folder of a failure below {kept.shown(kept.FAILURES)}")
    failed = kept.load(Path(failure))
    simulators.check_simulator(failed.sim)
    out = console()
    with working(out) as progress:
        found = search.shrink(failed, n, progress)
    shown = Table(title=f"simulations: {found.runs}; steps: {', '.join(found.steps) or 'none'}")
    for heading in ("", "before", "after"):
        shown.add_column(heading, justify="right" if heading else "left")
    for name, before in asdict(found.before).items():
        shown.add_row(name, f"{before:,}", f"{getattr(found.after, name):,}")
    out.print(shown)
    print(*found.failure.message.splitlines()[:3], sep="\n")
    print(f"replay: {found.failure.command}")
    print("a test of it: " + kept.shown(next(found.failure.folder.glob("test_*.py"))))
    result = {
        "failure": kept.shown(failed.folder),
        "smallest": kept.shown(found.failure.folder),
        "before": asdict(found.before),
        "after": asdict(found.after),
        "ratio": round(found.before.cycles / found.after.cycles, 2),
        "runs": found.runs,
    }
    print("SHRINK", json.dumps(result))
    return 0 if found.after < found.before else 1


if __name__ == "__main__":
    main.run()
