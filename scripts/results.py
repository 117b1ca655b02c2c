"""Compress every network by every scheme at every ratio, from every seed, of scripts/results.yaml, and render
docs/results.md: `make results`.

The report of each run is kept beside the page's pictures, as docs/results/NETWORK-SCHEME-RATIO-SEED.json, and
committed with the page: a run that has one of the same budget is not done again, on whatever machine. One
that was broken off is taken up from build/results/: the command may be stopped at any time. Exit status 1 if
a run failed for another reason than a ratio that its scheme cannot reach, 2 for bad input.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from pymodel.machine.errors import RATIO_STATUS, TatamiError
from pymodel.machine.files import read_json, read_yaml, write_json
from pymodel.machine.places import BUILD, ROOT
from scripts.command import console as make_console
from scripts.command import integer, said

RUNS = ROOT / "scripts" / "results.yaml"
WORK = BUILD / "results"
PICTURED = 8.0  # the ratio whose runs of seed 1 have their matrices on the page
BUDGET = ("epochs", "batch", "learning_rate", "replans", "saliency", "precision")


@dataclass(frozen=True)
class Run:
    """One call of compress.py.

    `budget` are the fields of `pymodel.training.trainer.Budget` that are set; `arguments` the rest of its
    options.
    """

    network: str
    scheme: str
    ratio: float
    seed: int
    budget: dict[str, Any]
    arguments: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.network}-{self.scheme}-{self.ratio:g}-{self.seed}"

    @property
    def folder(self) -> Path:
        return WORK / self.name

    @property
    def options(self) -> tuple[str, ...]:
        return (
            *(f"--{name.replace('_', '-')}={value}" for name, value in self.budget.items()),
            *self.arguments,
        )

    def done(self, folder: Path) -> bool:
        """Whether its report is in `folder`, and of the same budget."""
        try:
            found = json.loads((folder / f"{self.name}.json").read_text())["budget"]
            return all(found.get(name) == value for name, value in self.budget.items())
        except FileNotFoundError:
            return False
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            raise TatamiError(
                f"{folder / self.name}.json: not a report, or damaged; remove it to do its run again"
            ) from None


def plan(
    entries: list[dict[str, Any]], weights: dict[str, Path], data: Path | None, epochs: float | None
) -> tuple[list[Run], list[str]]:
    """The runs, and the networks that are left out for want of files."""
    from pymodel.training.loop import python_headers

    runs, left_out = [], []
    for entry in entries:
        network = entry["network"]
        given = {"weights": weights.get(network), "data": data}
        if any(given[need] is None for need in entry.get("needs", ())):
            left_out.append(network)
            continue
        budget = {name: entry[name] for name in BUDGET if name in entry} | (
            {"epochs": epochs} if epochs is not None else {}
        )
        options = [f"--{name}={given[name]}" for name in entry.get("needs", ())]
        options += ["--compile"] * bool(entry.get("compile") and python_headers().is_file())
        for seed, ratio in itertools.product(entry.get("seeds", [1]), entry["ratios"]):
            runs += [
                Run(network, scheme, float(ratio), seed, budget, tuple(options))
                for scheme in entry["schemes"]
            ]
    return runs, left_out


@dataclass(frozen=True)
class Failed:
    """What a run said last that failed, and whether it is that its scheme cannot reach the ratio."""

    said: str
    unreachable: bool


def carry_out(run: Run, threads: int, page: Path) -> Failed | None:
    """Does a run, and keeps its report, and its picture if it is to be shown, in `page`; returns what went
    wrong if it failed.

    What it prints is kept in its own folder, with checkpoint and image.
    """
    from pymodel.report.page import picture_name

    run.folder.mkdir(parents=True, exist_ok=True)
    command = [
        sys.executable,
        "-m",
        "scripts.compress",
        run.network,
        f"--scheme={run.scheme}",
        f"--ratio={run.ratio:g}",
        f"--seed={run.seed}",
    ]
    command += [
        *run.options,
        f"--threads={threads}",
        f"--out={run.folder}",
        f"--start={WORK / f'{run.network}-start.json'}",
    ]
    done = subprocess.run(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    (run.folder / "log.txt").write_text(done.stdout)
    if done.returncode:
        said = (done.stdout.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        return Failed(said, unreachable=done.returncode == RATIO_STATUS)
    picture = run.folder / "matrix.png"
    if run.ratio == PICTURED and run.seed == 1 and picture.is_file():
        shutil.copyfile(picture, page / picture_name(run.network, run.scheme, f"at-{run.ratio:g}x"))
    report = read_json(run.folder / "report.json")
    report.pop("layers")  # by far the most of it, and not on the page
    write_json(page / f"{run.name}.json", report)
    return None


def files(weights: str, data: str) -> tuple[dict[str, Path], Path | None]:
    """`weights` is NETWORK=path, several of them with commas between."""
    found = {}
    for part in filter(None, weights.split(",")):
        network, equals, path = part.partition("=")
        if not equals or not Path(path).is_file():
            raise TatamiError(
                f"WEIGHTS: '{part}' must be network=path of a state_dict, such as resnet20=resnet20.th"
            )
        found[network] = Path(path).resolve()
    if data and not Path(data).is_dir():
        raise TatamiError(f"DATA is '{data}': no such folder")
    return found, Path(data).resolve() if data else None


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--weights", default="", help="network=path of its state_dict, several with commas between"
    )
    parser.add_argument("--data", default="", help="folder cifar-10-batches-py, or the one that holds it")
    parser.add_argument(
        "--epochs", default="", help="of each training, instead of those in scripts/results.yaml"
    )
    parser.add_argument(
        "--jobs", default="", help="runs at a time (default 1), each on its share of the cores"
    )
    parser.add_argument("--page", default="", help="1: no runs, only the page of those that are done")
    parser.add_argument(
        "--out",
        type=Path,
        default=ROOT / "docs" / "results.md",
        help="page to write (default docs/results.md)",
    )
    given = parser.parse_args(arguments)
    try:
        from pymodel.report import console_table, read_reports, render
        from pymodel.training.schedule import Budget
    except ModuleNotFoundError as error:
        raise TatamiError(f"this needs the package '{error.name}'; `make .venv/.train` installs it") from None

    weights, data = files(given.weights, given.data)
    jobs = integer("JOBS", given.jobs or "1", 1, 1024)
    page_only = bool(integer("PAGE", given.page or "0", 0, 1))
    try:
        epochs = float(given.epochs) if given.epochs else None
    except ValueError:
        raise TatamiError(f"EPOCHS '{given.epochs}' is not a number") from None
    if epochs is not None:
        Budget(epochs=epochs)  # refuses what no training can have
    runs, left_out = plan(read_yaml(RUNS), weights, data, epochs)
    console = make_console(180)
    for network in dict.fromkeys(left_out):
        print(f"{network}: left out, it needs WEIGHTS={network}=path and DATA=path")
    page = given.out.with_suffix("")
    try:
        page.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TatamiError(f"--out: {page} cannot be made: {error.strerror}") from None
    waiting = [run for run in runs if not run.done(page)]
    failed = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    begin = time.perf_counter()
    with Progress(*columns, console=make_console(stderr=True)) as progress, ThreadPoolExecutor(jobs) as pool:
        bar = progress.add_task("compressing", total=len(runs), completed=len(runs) - len(waiting))
        threads = max(1, (os.cpu_count() or 1) // jobs)
        running = {pool.submit(carry_out, run, threads, page): run for run in ([] if page_only else waiting)}
        for future in as_completed(running):
            run, wrong = running[future], future.result()
            if wrong:
                failed.append((run, wrong))
            progress.update(bar, advance=1, description=f"done: {run.name}")
    for run, wrong in failed:
        print(f"{run.name}: {wrong.said}")
    try:
        render(page, given.out, command="make results")
    except OSError as error:
        raise TatamiError(f"--out: {given.out} cannot be written: {error.strerror}") from None
    console.print(console_table(read_reports(page)))
    done = sum(run.done(page) for run in runs)
    print(
        "RESULTS",
        json.dumps(
            {
                "runs": len(runs),
                "done": done,
                "failed": len(failed),
                "wall_s": round(time.perf_counter() - begin, 1),
            }
        ),
    )
    return 0 if all(wrong.unreachable for _, wrong in failed) else 1


if __name__ == "__main__":
    sys.exit(said("results", lambda: main(sys.argv[1:])))
