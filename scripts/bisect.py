"""Find the commit that made a failure: `make bisect FAILURE=build/failures/...`. It repeats the failure's run
at one commit after the other, in a working tree of its own below build/.

Ends with one line `BISECT {json}`; exit status 0 if one commit was found, 1 if several are left because those
between fail in another way or do not run, 2 for bad input.
"""

from __future__ import annotations

import json
from pathlib import Path

from rich.table import Table

from pymodel.machine.errors import TatamiError
from scripts.command import command, console, variable, working
from tb.flow import bisect, simulators
from tb.flow import failure as kept


@command("bisect")
@variable("FAILURE", what="the folder of a failure")
@variable("GOOD", what="a commit at which the run passes (default: goes back until one is found)")
def main(failure: str | None, good: str | None) -> int:
    if not failure:
        raise TatamiError(f"FAILURE is not given: the folder of a failure below {kept.shown(kept.FAILURES)}")
    failed = kept.load(Path(failure))
    simulators.check_simulator(failed.sim)
    out = console()
    with working(out) as progress:
        found = bisect.bisect(failed, good, progress)
    shown = Table(title=f"{failed.test.name}, {failed.config.name}, {failed.sim}, seed {failed.seed}")
    for heading in ("commit", "", "what the run did", "said"):
        shown.add_column(heading)
    for step in found.steps:
        shown.add_row(step.revision[:10], step.subject, step.verdict, step.said)
    out.print(shown)
    print(*bisect.lines(found), sep="\n")
    result = {
        "failure": kept.shown(failed.folder),
        "suspects": found.suspects,
        "steps": [step.model_dump() for step in found.steps],
    }
    print("BISECT", json.dumps(result))
    return 0 if len(found.suspects) == 1 else 1


if __name__ == "__main__":
    main.run()
