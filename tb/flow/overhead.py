"""What a farm costs: one regression on this machine, on a Slurm of it and on a Dask scheduler by its address:
`make bench BENCH=farm`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from pymodel.machine.errors import TatamiError
from pymodel.machine.places import ROOT
from tb.flow import regress, runner
from tb.flow.farm import servers
from tb.flow.farm.choice import LOCAL

SEEDS = 60
TESTS = "random"  # a seed is a run
# runs of some seconds, of a design that is built at once
SIM, CONFIG = "icarus", "8x4"
WORKERS = 2
TARGET = 1.1  # wall time on a farm, that on this machine being 1
LEAST_S = 2.0  # of a run, for which the target is
# variables of the environment that are this command's, or would change the regression
HIDDEN = ("MAKE_GIVEN", "FARM", "FARM_OPTIONS", "RESUME", "SEED")
# what differs from place to place and from time to time
TIMES = frozenset({"wall_s", "log", "host", "failure", "replay", "tools"})


@dataclass(frozen=True)
class Done:
    """A regression: seconds from its call to its end, and its records."""

    wall_s: float
    records: list[regress.RecordLine]


def alike(records: list[regress.RecordLine]) -> list[dict[str, Any]]:
    """Records without times and places, in an order of their own."""
    return [one.model_dump(exclude=set(TIMES)) for one in sorted(records, key=lambda one: one.key)]


def run(console: Console, n: int = SEEDS, tests: str = TESTS) -> dict[str, Any]:
    """A row for each farm; this machine is measured before and after the others. `passed` if all records are
    alike, no run was lost, and no farm takes more than `TARGET` times as long.
    """
    runner.BUILD.mkdir(parents=True, exist_ok=True)
    walls: dict[str, list[float]] = {}
    first: list[dict[str, Any]] = []
    seconds: list[float] = []
    different: list[str] = []
    why = servers.no_slurm()
    if why:
        print(f"slurm is left out: {why}")
    with tempfile.TemporaryDirectory(prefix="farm-", dir=runner.BUILD) as place:
        for name in (LOCAL, *(() if why else ("slurm",)), "scheduler", LOCAL):
            console.print(f"[dim]{name}: {tests}, seeds: {n}")
            with _farm(name, Path(place)) as (arguments, env):
                if name not in walls:
                    _regression(Path(place), 1, tests, arguments, env)  # builds
                done = _regression(Path(place), n, tests, arguments, env)
            walls.setdefault(name, []).append(done.wall_s)
            found = alike(done.records)
            first = first or found
            if found != first:
                different.append(name)
            if name == LOCAL:
                seconds += [one.wall_s for one in done.records]
    local = mean(walls[LOCAL])
    ratios = {name: mean(each) / local for name, each in walls.items()}
    console.print(table(walls, ratios, len(first)))
    for name in different:
        print(f"{name}: the records are not those of {LOCAL}")
    if median(seconds) < LEAST_S:
        print(f"half of the runs take {median(seconds):.1f} s or less: the target is for {LEAST_S:g} or more")
    return {
        "bench": "farm",
        "passed": not different and max(ratios.values()) <= TARGET,
        "runs": len(first),
        "same_records": not different,
        "left_out": {"slurm": why} if why else {},
        "run_s": round(median(seconds), 2),
        "wall_s": {name: [round(each, 1) for each in found] for name, found in walls.items()},
        "ratio": {name: round(ratio, 3) for name, ratio in ratios.items() if name != LOCAL},
        "local_spread": round(max(walls[LOCAL]) / min(walls[LOCAL]) - 1, 3),
        "workers": WORKERS,
        "tests": tests,
        "sim": SIM,
        "config": CONFIG,
    }


def table(walls: dict[str, list[float]], ratios: dict[str, float], runs: int) -> Table:
    rows = Table(
        title=f"{runs} runs by {WORKERS} workers, target {TARGET:g}",
        title_justify="left",
        box=box.SIMPLE_HEAD,
    )
    for name in ("farm", "seconds", "ratio to local"):
        rows.add_column(name, justify="left" if name == "farm" else "right")
    for name, each in walls.items():
        rows.add_row(name, ", ".join(f"{one:.1f}" for one in each), f"{ratios[name]:.3f}")
    return rows


@contextmanager
def _farm(name: str, place: Path) -> Iterator[tuple[list[str], dict[str, str]]]:
    """Options of `make regress`, and variables of its environment. The workers of the scheduler write to a
    disk of their own and send back what they wrote.
    """
    if name == LOCAL:
        yield [], {}
        return
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=f"{name}-")))
        if name == "slurm":
            env = stack.enter_context(servers.slurm(folder))
            options = " ".join(f"{key}={value}" for key, value in servers.OPTIONS.items())
            yield ["--farm=slurm", f"--farm_options={options}"], env
        else:
            there = stack.enter_context(servers.scheduler(folder, place / "workers", WORKERS))
            yield [f"--farm={there.name}"], {}


def _regression(build: Path, seeds: int, tests: str, farm: list[str], env: dict[str, str]) -> Done:
    """`make regress` in a process of its own. Raises `TatamiError` if it does not come to its end."""
    chosen = [f"--n={seeds}", f"--tests={tests}", f"--sim={SIM}", f"--config={CONFIG}"]
    told = {"BUILD": str(build), "HISTORY": f"sqlite:///{build}/history.db"}
    begin = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "scripts.regress", *chosen, f"--jobs={WORKERS}", *farm],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name not in HIDDEN} | told | env,
        capture_output=True,
        text=True,
        check=False,
    )
    wall_s = time.monotonic() - begin
    last = (done.stdout.splitlines() or [""])[-1]
    if done.returncode > 1 or not last.startswith("REGRESS "):
        said = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise TatamiError(f"make regress: {said}")
    return Done(wall_s, regress.read_records(Path(json.loads(last.removeprefix("REGRESS "))["record"])))
