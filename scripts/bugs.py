"""Plant the bugs of tb/bugs.yaml in copies of the RTL and check that the tests catch them: `make bugs`.

Ends with one line `BUGS {json}`; exit status 0 if all are caught with the right message, 1 if not, 2 for bad
input.
"""

from __future__ import annotations

import fnmatch
import json
import time
from concurrent.futures import BrokenExecutor
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from pymodel.machine.errors import TatamiError
from scripts.command import command, console, variable, working
from scripts.command import jobs as workers
from scripts.farm import chosen_farm, farm_variables, hands
from tb.flow import hunt, simulators
from tb.flow.farm.choice import crew
from tb.flow.farm.crew import ended


@command("bugs")
@variable("BUG", default="*", what="a glob: only bugs whose name matches")
@workers()
@farm_variables()
def main(bug: str, jobs: int, farm: str, farm_options: dict[str, Any]) -> int:
    out = console()
    where = chosen_farm(farm, farm_options)
    known = hunt.known_bugs()
    chosen = [one for one in known if fnmatch.fnmatchcase(one.name, bug)]
    if not chosen:
        raise TatamiError(f"BUG '{bug}' matches no bug; there are: {', '.join(one.name for one in known)}")
    for sim in {hunt.simulator(one) for one in chosen} if where.local else ():
        simulators.check_simulator(sim)

    started = time.monotonic()
    verdicts: list[hunt.Verdict] = []
    with crew(where, hands(where, jobs)) as pool:
        under_way = {pool.submit(hunt.hunt, group): group for group in hunt.hunts(chosen)}
        with working(out) as progress:
            for done in ended(under_way):
                try:
                    verdicts += done.result()
                except BrokenExecutor as why:
                    killed = f"the process that tried it was killed: {why}"
                    verdicts += [hunt.Verdict(bug, False, 0, killed) for bug in under_way[done]]
                progress(f"{len(verdicts)} of {len(chosen)} bugs tried")
    verdicts.sort(key=lambda verdict: chosen.index(verdict.bug))

    out.print(table(verdicts))
    for verdict in verdicts:
        if not verdict.caught:
            print(
                f"NOT CAUGHT {verdict.bug.name}: {verdict.bug.what}\n  {verdict.seen}\n  log: {verdict.log}"
            )
    caught = sum(v.caught for v in verdicts)
    print(
        "BUGS",
        json.dumps(
            {"caught": caught, "total": len(verdicts), "wall_s": round(time.monotonic() - started, 1)}
        ),
    )
    return 0 if caught == len(verdicts) else 1


def table(verdicts: list[hunt.Verdict]) -> Table:
    """A row for each bug, with the line in which its hunter named it."""
    rows = Table(box=box.SIMPLE_HEAD)
    for name in ("bug", "file", "hunter", "seed", "caught", "named by"):
        rows.add_column(name)
    for v in verdicts:
        seen = v.seen.splitlines()[0] if v.seen else ""
        rows.add_row(
            v.bug.name,
            Path(v.bug.file).stem,
            v.bug.hunter,
            str(v.seed),
            "yes" if v.caught else "NO",
            seen,
            style=None if v.caught else "red",
        )
    return rows


if __name__ == "__main__":
    main.run()
