"""Compress every network by every scheme at every ratio, from every seed, of scripts/results.yaml, and render
docs/results.md: `make results`. Ends with one line `RESULTS {json}`.

The report of each run is kept beside the page's pictures, as docs/results/NETWORK-SCHEME-RATIO-SEED.json, and
committed with the page. A run that has a report of the same budget is not done again, on any machine. A run
that was stopped continues from build/results/, so the command may be stopped at any time. Exit status 1
if a run failed for another reason than a ratio that its scheme cannot reach, 2 for bad input.

With CAMPAIGN=long all is the same with scripts/results-long.yaml, docs/results-long.md and
build/results-long/: few schemes with much training, for days in the background.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from pymodel.machine.errors import RatioError, TatamiError
from pymodel.machine.places import BUILD, ROOT
from pymodel.report.record import Report, read_report
from pymodel.training.runs import CompressionRun, plan, read_runs
from pymodel.training.schedule import Budget
from pymodel.training.toolchain import python_headers
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
    without_variables,
)
from scripts.command import jobs as workers

NAMES = {"short": "results", "long": "results-long"}  # of the files of each campaign
SCRIPTS, PAGES, WORK = ROOT / "scripts", ROOT / "docs", BUILD
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
@option("--out", WRITTEN, what="page to write (default: docs/results.md, or docs/results-long.md)")
def main(
    weights: dict[str, Path] | None,
    data: Path | None,
    campaign: str,
    epochs: float | None,
    page: bool,
    jobs: int,
    out: Path | None,
) -> int:
    need("jinja2", "matplotlib")
    from pymodel.report import console_table, read_reports

    if epochs is not None:
        Budget(epochs=epochs)  # refuses what no training can have
    file = read_runs(SCRIPTS / f"{NAMES[campaign]}.yaml")
    runs, left_out = plan(file.runs, weights or {}, data, epochs, python_headers().is_file())
    out = out or PAGES / f"{NAMES[campaign]}.md"
    for network in left_out:
        print(f"{network}: left out, it needs WEIGHTS={network}=path and DATA=path")
    folder = out.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    waiting = [run for run in runs if not run.done(folder)]
    begin = time.perf_counter()
    way = Way(WORK / NAMES[campaign], file.threads or max(1, JOBS // jobs), file.nice)
    failed = carry_out(waiting, jobs, folder, len(runs), way) if waiting and not page else []
    for one in failed:
        print(f"{one.run.name}: {one.said}")
    write_page(campaign, folder, out)
    if any(folder.glob("*.json")):
        console(WIDTH).print(console_table(read_reports(folder)))
    figures = {
        "runs": len(runs),
        "done": sum(run.done(folder) for run in runs),
        "failed": len(failed),
        "wall_s": round(time.perf_counter() - begin, 1),
    }
    print("RESULTS", json.dumps(figures))
    return 0 if all(one.unreachable for one in failed) else 1


def write_page(campaign: str, folder: Path, out: Path) -> None:
    """Renders the reports in `folder`, and says which runs of the campaign have none."""
    from pymodel.report import render

    made_by = "make results" + (f" CAMPAIGN={campaign}" if campaign != "short" else "")
    runs = read_runs(SCRIPTS / f"{NAMES[campaign]}.yaml").names(folder)
    render(folder, out, command=made_by, missing=[name for name, done in runs.items() if not done])


@dataclass(frozen=True)
class Way:
    """How runs are done: the folder for their checkpoints, images and logs, the threads of torch, and the
    priority (`nice`).
    """

    work: Path
    threads: int
    nice: int


@dataclass(frozen=True)
class Failed:
    """A run that failed, and its last line. `unreachable`: its scheme cannot reach the ratio."""

    run: CompressionRun
    said: str
    unreachable: bool


def carry_out(waiting: list[CompressionRun], jobs: int, folder: Path, runs: int, way: Way) -> list[Failed]:
    """Does the runs that wait, of `runs` in total, with a progress bar and a line for each that ends. Returns
    those that failed.
    """
    need("torch", "sklearn")
    failed = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console(stderr=True)) as progress, ThreadPoolExecutor(jobs) as pool:
        bar = progress.add_task("compressing", total=runs, completed=runs - len(waiting))
        running = {pool.submit(compressed, run, folder, way): run for run in waiting}
        for future in as_completed(running):
            wrong = future.result()
            if wrong:
                failed.append(wrong)
            name = running[future].name
            progress.update(bar, advance=1, description=f"done: {name}")
            if not wrong:
                print(f"{name}: {_told(read_report(running[future].report(folder)))}", flush=True)
    return failed


def _told(report: Report) -> str:
    spent = report.budget
    each = f", {spent.seconds / spent.epochs:.0f} s an epoch" if spent.epochs else ""
    accuracy = report.accuracy
    return f"float {accuracy.float:.2%}, int8 {accuracy.int8:.2%}, {report.cycles:,} cycles{each}"


def compressed(run: CompressionRun, folder: Path, way: Way) -> Failed | None:
    """Does a run and keeps its report in `folder`, and its picture if the page shows it. Returns the failure,
    if there was one.

    The run's output goes to log.txt in a folder of its own, with checkpoint and image.
    """
    from pymodel.report.page import picture_name

    work = way.work / run.name
    work.mkdir(parents=True, exist_ok=True)
    start = way.work / f"{run.network}-start.json"
    call = ["nice", f"-n{way.nice}", sys.executable, "-m", "scripts.compress", *run.options]
    log = work / "log.txt"
    with log.open("w") as file:
        done = subprocess.run(
            [*call, f"--threads={way.threads}", f"--out={work}", f"--start={start}"],
            cwd=ROOT,
            env=without_variables(os.environ, (main, compress.main)),
            stdout=file,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if done.returncode:
        said = (log.read_text().strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        return Failed(run, said, done.returncode == RatioError.status)
    picture = work / "matrix.png"
    if run.ratio == PICTURED and run.seed == 1 and picture.is_file():
        shutil.copyfile(picture, folder / picture_name(run.network, run.scheme, f"at-{run.ratio:g}x"))
    read_report(work / "report.json").without_layers().save(run.report(folder))
    return None


if __name__ == "__main__":
    main.run()
