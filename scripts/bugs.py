"""Plant the bugs of tb/bugs.yaml in copies of the RTL and see that their hunters catch them: `make bugs`.

Ends with one line `BUGS {json}`; exit status 0 if all are caught with the right message, 1 if not, 2 for bad
input.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import sys
import time
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from pymodel.machine.errors import TatamiError
from scripts.sim import integer
from tb.flow import hunt, runner
from tb.flow.processes import processes


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bug", default="", help="a glob: only the bugs of this name")
    parser.add_argument("--jobs", default="")
    options = parser.parse_args(arguments)
    console = Console(width=None if sys.stdout.isatty() else 140, highlight=False)
    workers = integer("JOBS", options.jobs or str(os.cpu_count() or 1), 1, 1024)
    known = hunt.known_bugs()
    chosen = [bug for bug in known if fnmatch.fnmatchcase(bug.name, options.bug or "*")]
    if not chosen:
        raise TatamiError(
            f"BUG '{options.bug}' matches no bug; there are: {', '.join(bug.name for bug in known)}"
        )
    for sim in {hunt.simulator(bug) for bug in chosen}:
        runner.check_simulator(sim)

    started = time.monotonic()
    verdicts: list[hunt.Verdict] = []
    with processes(workers) as pool:
        under_way = {pool.submit(hunt.hunt, group): group for group in hunt.hunts(chosen)}
        with console.status("") as status:
            for done in as_completed(under_way):
                try:
                    verdicts += done.result()
                except BrokenProcessPool:
                    killed = "the process that tried it, or one beside it, was killed"
                    verdicts += [hunt.Verdict(bug, False, 0, killed) for bug in under_way[done]]
                status.update(f"{len(verdicts)} of {len(chosen)} bugs tried")
    verdicts.sort(key=lambda verdict: chosen.index(verdict.bug))

    console.print(table(verdicts))
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
    """A row a bug, with the line by which its hunter named it."""
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
    try:
        sys.exit(main(sys.argv[1:]))
    except TatamiError as error:
        print(f"{Path(__file__).stem}: {error}", file=sys.stderr)
        sys.exit(2)
