"""Functional and code coverage of the tests in tb/coverage/runs.yaml: `make coverage`. Ends with one line
`COVERAGE {json}`.

Exit status 0 if all targets are reached, 1 if not or if a run failed, 2 for bad input.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from scripts.command import THERE, Kind, command, console, variable, working
from scripts.command import jobs as workers
from scripts.farm import chosen_farm, farm_variables, hands
from scripts.keep import check, history_database, keep
from tb.flow import provenance, runner
from tb.flow.coverage import exclusions, rank, report
from tb.flow.coverage.merge import merge as merge_all
from tb.flow.coverage.runs import Done, load, read_ran, write_ran
from tb.flow.coverage.runs import run_all as carry_out
from tb.flow.farm.choice import crew
from tb.flow.pages import coverage as coverage_pages
from tb.flow.sources import rtl_sources


def folders_there(name: str, text: str) -> list[Path]:
    """Folders with commas between them."""
    return [THERE.read(name, part) for part in text.split(",")]


@command("coverage")
@workers()
@variable(
    "RUNS",
    default="*",
    what="only the runs whose name matches, like 'random 4x2 *'; globs with commas, or a file of them",
)
@variable(
    "MERGE",
    Kind("path,...", folders_there),
    (),
    "build/ of other `make coverage`: their runs count, too, and are not done again",
)
@farm_variables()
@history_database()
@click.argument("made", nargs=-1, metavar="[FOLDER]...")
def main(
    jobs: int,
    runs: str,
    merge: Sequence[Path],
    farm: str,
    farm_options: dict[str, Any],
    history: str | None,
    made: tuple[str, ...],
) -> int:
    out = console()
    check(history)
    where = chosen_farm(farm, farm_options)
    excluded = exclusions.load()
    provenance.origin()  # as it is now; files may change while the runs go on
    started = time.monotonic()
    folders, failed = [Path(folder) for folder in made], list[str]()
    there = {str(one.run): one for built in merge for one in read_ran(built)}
    done: list[Done] = list(there.values())
    waiting = [] if made else [run for run in load(chosen=runs) if str(run) not in there]
    if waiting:
        with working(out) as progress:
            progress("building")
            with crew(where, hands(where, jobs)) as pool:
                here, failed = carry_out(waiting, pool, progress)
        done += here
    folders += [one.folder for one in done]
    wall_s = time.monotonic() - started

    for message in failed:
        print(f"FAILED {message}")
    built, sources = runner.BUILD / "coverage", rtl_sources()
    if done:
        built.mkdir(parents=True, exist_ok=True)
        rank.write(done, built / rank.FILE, [path.name for path in sources])
        write_ran(done)
    coverage = merge_all(folders, excluded, sources)
    report.show(coverage, out)
    figures = report.figures(coverage)
    whole = not (made or failed) and len(done) == len(load())
    points = report.write_points(coverage, built, whole=whole)
    summaries = report.add_summary(built, points, len(folders), len(failed), wall_s)
    shown = report.write_shown(coverage, sources, built, points, len(failed))
    index = coverage_pages.alone(shown, rank.read(built / rank.FILE) if done else [], built)
    print(f"{len(folders)} runs in {wall_s:.0f} s, report: {index}")
    missed = report.missed(figures)
    print(*missed, sep="\n", end="\n" if missed else "")
    keep(history, summaries, "coverage")
    print("COVERAGE", json.dumps(figures))
    return 1 if failed or missed else 0


if __name__ == "__main__":
    main.run()
