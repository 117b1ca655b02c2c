"""Functional and code coverage of the tests in tb/coverage/runs.yaml: `make coverage`. Ends with one line
`COVERAGE {json}`.

Exit status 0 if all targets are reached, 1 if not or if a run failed, 2 for bad input.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import click

from scripts.command import command, console, variable, working
from scripts.command import jobs as workers
from scripts.farm import chosen_farm, farm_variables, hands
from scripts.keep import check, history_database, keep
from tb.flow import provenance, runner
from tb.flow.coverage import exclusions, rank, report
from tb.flow.coverage.merge import merge
from tb.flow.coverage.runs import Done, load
from tb.flow.coverage.runs import run_all as carry_out
from tb.flow.farm.choice import crew
from tb.flow.pages import coverage as coverage_pages
from tb.flow.sources import rtl_sources


@command("coverage")
@workers()
@variable(
    "RUNS",
    default="*",
    what="only the runs whose name matches, like 'random 4x2 *'; globs with commas, or a file of them",
)
@farm_variables()
@history_database()
@click.argument("made", nargs=-1, metavar="[FOLDER]...")
def main(
    jobs: int,
    runs: str,
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
    folders, done, failed = [Path(folder) for folder in made], list[Done](), list[str]()
    if not folders:
        with working(out) as progress:
            progress("building")
            with crew(where, hands(where, jobs)) as pool:
                done, failed = carry_out(load(chosen=runs), pool, progress)
        folders = [one.folder for one in done]
    wall_s = time.monotonic() - started

    for message in failed:
        print(f"FAILED {message}")
    built, sources = runner.BUILD / "coverage", rtl_sources()
    if done:
        built.mkdir(parents=True, exist_ok=True)
        rank.write(done, built / rank.FILE, [path.name for path in sources])
    coverage = merge(folders, excluded, sources)
    report.show(coverage, out)
    figures = report.figures(coverage)
    points = report.write_points(coverage, built, whole=not (made or runs != "*" or failed))
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
