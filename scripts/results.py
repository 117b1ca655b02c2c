"""Compress every network by every scheme at every ratio, from every seed, of scripts/results.yaml, and render
docs/results.md: `make results`. Ends with one line `RESULTS {json}`.

The report of each run is kept beside the page's pictures, as docs/results/NETWORK-SCHEME-RATIO-SEED.json, and
committed with the page. A run that has a report of the same budget is not done again, on any machine. A run
that was stopped continues from build/results/, so the command may be stopped at any time. Exit status 1 if a
run failed for another reason than a ratio that its scheme cannot reach, 2 for bad input.
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
from pymodel.report.record import read_report
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
    Kind,
    command,
    console,
    need,
    option,
    variable,
    without_variables,
)
from scripts.command import jobs as workers

RUNS = ROOT / "scripts" / "results.yaml"
WORK = BUILD / "results"
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
@variable("EPOCHS", NUMBER, what="of each training, instead of those in scripts/results.yaml")
@variable("PAGE", SWITCH, False, "1: no runs, only the page of those that are done")
@workers(1, "runs at a time, each on its share of the cores")
@option("--out", WRITTEN, ROOT / "docs" / "results.md", "page to write")
def main(
    weights: dict[str, Path] | None, data: Path | None, epochs: float | None, page: bool, jobs: int, out: Path
) -> int:
    need("jinja2", "matplotlib")
    from pymodel.report import console_table, read_reports, render

    if epochs is not None:
        Budget(epochs=epochs)  # refuses what no training can have
    runs, left_out = plan(read_runs(RUNS), weights or {}, data, epochs, python_headers().is_file())
    for network in left_out:
        print(f"{network}: left out, it needs WEIGHTS={network}=path and DATA=path")
    folder = out.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    waiting = [run for run in runs if not run.done(folder)]
    begin = time.perf_counter()
    failed = carry_out(waiting, jobs, folder, len(runs)) if waiting and not page else []
    for one in failed:
        print(f"{one.run.name}: {one.said}")
    render(folder, out, command="make results")
    console(WIDTH).print(console_table(read_reports(folder)))
    figures = {
        "runs": len(runs),
        "done": sum(run.done(folder) for run in runs),
        "failed": len(failed),
        "wall_s": round(time.perf_counter() - begin, 1),
    }
    print("RESULTS", json.dumps(figures))
    return 0 if all(one.unreachable for one in failed) else 1


@dataclass(frozen=True)
class Failed:
    """A run that failed, and its last line. `unreachable`: its scheme cannot reach the ratio."""

    run: CompressionRun
    said: str
    unreachable: bool


def carry_out(waiting: list[CompressionRun], jobs: int, folder: Path, runs: int) -> list[Failed]:
    """Does the runs that wait, of `runs` in total, with a progress bar. Returns those that failed."""
    need("torch", "sklearn")
    failed = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console(stderr=True)) as progress, ThreadPoolExecutor(jobs) as pool:
        bar = progress.add_task("compressing", total=runs, completed=runs - len(waiting))
        threads = max(1, JOBS // jobs)
        running = {pool.submit(compressed, run, threads, folder): run for run in waiting}
        for future in as_completed(running):
            wrong = future.result()
            if wrong:
                failed.append(wrong)
            progress.update(bar, advance=1, description=f"done: {running[future].name}")
    return failed


def compressed(run: CompressionRun, threads: int, folder: Path) -> Failed | None:
    """Does a run and keeps its report in `folder`, and its picture if the page shows it. Returns the failure,
    if there was one.

    The run's output is kept in a folder of its own, with checkpoint and image.
    """
    from pymodel.report.page import picture_name

    work = WORK / run.name
    work.mkdir(parents=True, exist_ok=True)
    start = WORK / f"{run.network}-start.json"
    call = [sys.executable, "-m", "scripts.compress", *run.options]
    done = subprocess.run(
        [*call, f"--threads={threads}", f"--out={work}", f"--start={start}"],
        cwd=ROOT,
        env=without_variables(os.environ, (main, compress.main)),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    (work / "log.txt").write_text(done.stdout)
    if done.returncode:
        said = (done.stdout.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        return Failed(run, said, done.returncode == RatioError.status)
    picture = work / "matrix.png"
    if run.ratio == PICTURED and run.seed == 1 and picture.is_file():
        shutil.copyfile(picture, folder / picture_name(run.network, run.scheme, f"at-{run.ratio:g}x"))
    read_report(work / "report.json").without_layers().save(run.report(folder))
    return None


if __name__ == "__main__":
    main.run()
