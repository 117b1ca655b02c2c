"""Compress every network by every scheme at every ratio, from every seed, of scripts/results.yaml, and render
docs/results.md: `make results`. Ends with one line `RESULTS {json}`.

The report of each run is kept beside the page's pictures, as docs/results/NETWORK-SCHEME-RATIO-SEED.json, and
committed with the page. A run that has a report of the same budget is not done again, on any machine. A run
that was stopped continues from build/results/ of the machine that did it, so the command may be stopped at
any time. Exit status 1 if a run failed for another reason than a ratio that its scheme cannot reach, 2 for
bad input and for a farm that was lost.

With CAMPAIGN=long all is the same with scripts/results-long.yaml, docs/results-long.md and
build/results-long/: few schemes with much training, for days in the background.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from pymodel.machine.errors import TatamiError
from pymodel.machine.places import ROOT
from pymodel.report.record import Report, read_report
from pymodel.training.runs import CompressionRun, plan, read_runs
from pymodel.training.schedule import Budget
from scripts import compress
from scripts.command import (
    JOBS,
    NUMBER,
    SWITCH,
    THERE,
    WRITTEN,
    Choice,
    Kind,
    command,
    console,
    need,
    option,
    variable,
    variables_of,
)
from scripts.command import jobs as workers
from scripts.farm import chosen_farm, farm_variables, hands
from tb.flow.campaign import Ended, Way, came_of, compressed
from tb.flow.farm.choice import Farm, crew
from tb.flow.farm.crew import FarmError, ended

NAMES = {"short": "results", "long": "results-long"}  # of the files of each campaign
SCRIPTS, PAGES = ROOT / "scripts", ROOT / "docs"
WORK = Path()  # below BUILD of the machine that does a run
PICTURED = 8.0  # the ratio whose runs of seed 1 have their matrices on the page
WIDTH = 180


def state_dicts(name: str, text: str) -> dict[str, Path]:
    """The files by network, from a text of NETWORK=path with commas between them."""
    found = {}
    for part in filter(None, text.split(",")):
        network, equals, path = part.partition("=")
        if not equals or not Path(path).is_file():
            raise TatamiError(
                f"{name} '{part}' must be network=path of a state_dict, such as resnet20=resnet20.th"
            )
        found[network] = Path(path).resolve()
    return found


@command("results")
@variable(
    "WEIGHTS", Kind("network=path,...", state_dicts), what="the state_dict of each network that needs one"
)
@variable("DATA", THERE, what="folder cifar-10-batches-py, or the one that holds it")
@variable("CAMPAIGN", Choice(NAMES), "short", what="which runs: scripts/results.yaml or results-long.yaml")
@variable("EPOCHS", NUMBER, what="of each training, instead of those in the campaign's file")
@variable("PAGE", SWITCH, False, "1: no runs, only the page of those that are done")
@workers(1, "runs at a time, each on its share of the cores")
@farm_variables()
@option("--out", WRITTEN, what="page to write (default: docs/results.md, or docs/results-long.md)")
def main(
    weights: dict[str, Path] | None,
    data: Path | None,
    campaign: str,
    epochs: float | None,
    page: bool,
    jobs: int,
    farm: str,
    farm_options: dict[str, Any],
    out: Path | None,
) -> int:
    need("jinja2", "matplotlib")
    from pymodel.report import console_table, read_reports

    where = chosen_farm(farm, farm_options)

    if epochs is not None:
        Budget(epochs=epochs)  # refuses what no training can have
    file = read_runs(SCRIPTS / f"{NAMES[campaign]}.yaml")
    runs, left_out = plan(file.runs, weights or {}, data, epochs)
    out = out or PAGES / f"{NAMES[campaign]}.md"
    for network in left_out:
        print(f"{network}: left out, it needs WEIGHTS={network}=path and DATA=path")
    folder = out.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    waiting = [run for run in runs if not run.done(folder)]
    begin = time.perf_counter()
    # a worker of a farm has one core
    share = max(1, JOBS // jobs) if where.local else 1
    hidden = frozenset(variables_of((main, compress.main)))
    way = Way(WORK / NAMES[campaign], file.threads or share, file.nice, hidden)
    failed, lost = list[Failed](), ""
    if waiting and not page:
        try:
            carry_out(waiting, where, hands(where, jobs), folder, len(runs), way, failed)
        except FarmError as why:
            lost = str(why)
    for one in failed:
        print(f"{one.run.name}: {one.ended.said}")
    write_page(campaign, folder, out)
    if any(folder.glob("*.json")):
        console(WIDTH).print(console_table(read_reports(folder)))
    figures = {
        "runs": len(runs),
        "done": sum(run.done(folder) for run in runs),
        "failed": len(failed),
        "wall_s": round(time.perf_counter() - begin, 1),
    }
    if lost:
        print(f"results: {lost}; the same command does the rest", file=sys.stderr)
    print("RESULTS", json.dumps(figures))
    if lost:
        return FarmError.status
    return 0 if all(one.ended.unreachable for one in failed) else 1


def write_page(campaign: str, folder: Path, out: Path) -> None:
    """Renders the reports in `folder`, and says which runs of the campaign have none."""
    from pymodel.report import render

    made_by = "make results" + (f" CAMPAIGN={campaign}" if campaign != "short" else "")
    runs = read_runs(SCRIPTS / f"{NAMES[campaign]}.yaml").names(folder)
    render(folder, out, command=made_by, missing=[name for name, done in runs.items() if not done])


@dataclass(frozen=True)
class Failed:
    """A run that failed."""

    run: CompressionRun
    ended: Ended


def carry_out(
    waiting: list[CompressionRun],
    where: Farm,
    count: int | None,
    folder: Path,
    runs: int,
    way: Way,
    failed: list[Failed],
) -> None:
    """Has the farm do the runs that wait, of `runs` in total, with a progress bar and a line for each that
    ends. Adds those that failed to `failed`.
    """
    if where.local:
        need("torch", "sklearn")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with (
        Progress(*columns, console=console(stderr=True)) as progress,
        crew(where, count) as pool,
    ):
        bar = progress.add_task("compressing", total=runs, completed=runs - len(waiting))
        running = {pool.submit(compressed, run, way): run for run in waiting}
        for call in ended(running):
            run, found = running[call], came_of(call)
            for lost in call.lost:
                print(f"LOST {run.name}: {lost}", flush=True)
            progress.update(bar, advance=1, description=f"done: {run.name}")
            if found.status:
                failed.append(Failed(run, found))
                continue
            keep(run, found.folder, folder)
            print(f"{run.name}: {_told(read_report(run.report(folder)))}", flush=True)


def _told(report: Report) -> str:
    spent = report.budget
    each = f", {spent.seconds / spent.epochs:.0f} s an epoch" if spent.epochs else ""
    accuracy = report.accuracy
    return f"float {accuracy.float:.2%}, int8 {accuracy.int8:.2%}, {report.cycles:,} cycles{each}"


def keep(run: CompressionRun, work: Path, folder: Path) -> None:
    """Keeps the report of a run in `folder`, and its picture if the page shows it."""
    from pymodel.report.page import picture_name

    picture = work / "matrix.png"
    if run.ratio == PICTURED and run.seed == 1 and picture.is_file():
        shutil.copyfile(picture, folder / picture_name(run.network, run.scheme, f"at-{run.ratio:g}x"))
    read_report(work / "report.json").without_layers().save(run.report(folder))


if __name__ == "__main__":
    main.run()
