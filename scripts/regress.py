"""Run many seeds of many tests:

`make regress`. Ends with one line `REGRESS {json}`; exit status 0 if all passed, 1 if not, 2 for bad input.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from rich import box
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from pymodel.machine.config import CONFIGS, get_config
from pymodel.machine.errors import TatamiError
from scripts.sim import integer
from tb.flow import regress, runner
from tb.flow.testlist import BLOCK_TESTS, TESTS

DEFAULT_SEEDS = "20"
MAX_SEEDS = 1_000_000
MESSAGE_LINES = 5


def main(arguments: list[str]) -> int:
    options = parse(arguments)
    console = Console(width=None if sys.stdout.isatty() else 140, highlight=False)
    sim = options.sim or runner.SIMULATORS[0]
    count = integer("N", options.n or DEFAULT_SEEDS, 1, MAX_SEEDS)
    first = integer("SEED", options.seed or "1", 0, runner.MAX_SEED - count)
    workers = integer("JOBS", options.jobs or str(os.cpu_count() or 1), 1, 1024)
    configs = [get_config(options.config)] if options.config else list(CONFIGS.values())
    if sim == "icarus":
        subprocess.run([runner.ROOT / "scripts" / "install_icarus.sh"], check=False)
    runner.check_simulator(sim)
    tests = regress.choose(TESTS | BLOCK_TESTS, options.tests or "*", sim)

    started = time.monotonic()
    journal = regress.Journal()
    jobs = regress.plan(tests, sim, configs, range(first, first + count))
    finished = carry_out(jobs, workers, journal, console)
    failed = sum(not r.passed for r in journal.records)
    summary = {
        "runs": len(journal.records),
        "passed": len(journal.records) - failed,
        "failed": failed,
        "wall_s": round(time.monotonic() - started, 1),
        "finished": finished,
        "sim": sim,
        "seeds": count,
        "jobs": workers,
        "cycles": sum(r.cycles or 0 for r in journal.records),
        "compared_bytes": sum(r.compared_bytes for r in journal.records),
        "record": str(journal.folder),
    }
    journal.close(summary)
    console.print(tests_table(journal.records))
    show_failures(regress.buckets(journal.records), workers, finished, console)
    print("REGRESS", json.dumps(summary))
    return 0 if finished and not failed else 1


def show_failures(found: list[regress.Bucket], workers: int, finished: bool, console: Console) -> None:
    """Each bucket with its quickest failure, and where that one began inside the machine."""
    inside: dict[str, list[str]] = {}
    if finished and found:
        with console.status("replaying a failure of each kind"):
            inside = {bucket.signature: lines for bucket, lines in regress.look_inside(found, workers)}
    for bucket in found:
        print(f"FAILED {bucket.count} x {bucket.signature}")
        print(f"  in {', '.join(bucket.tests)}; for example")
        print(*(f"  | {line}" for line in bucket.example.message.splitlines()[:MESSAGE_LINES]), sep="\n")
        print(
            *(f"  {line}" for line in inside.get(bucket.signature, [])),
            f"  {bucket.example.replay}",
            f"  log: {bucket.example.log}",
            sep="\n",
        )


def parse(arguments: list[str]) -> argparse.Namespace:
    """Every option is text, empty for its default: the checks in `main` name the variable of `make regress`
    that is wrong.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("n", "jobs", "tests", "sim", "config", "seed"):
        parser.add_argument(f"--{name}", default="")
    return parser.parse_args(arguments)


def carry_out(jobs: list[regress.Job], workers: int, journal: regress.Journal, console: Console) -> bool:
    """All runs, with a bar on a terminal and a line for each tenth elsewhere.

    False if they were stopped, by the keyboard or a SIGTERM.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        designs = bar.add_task("build", total=len({job.design for job in jobs}))
        runs = bar.add_task("run", total=len(jobs))
        failed = 0
        try:
            for item in regress.execute(jobs, workers):
                if isinstance(item, regress.Design):
                    bar.advance(designs)
                    continue
                journal.add(item)
                bar.advance(runs)
                if not item.passed:
                    failed += 1
                    bar.update(runs, description=f"run, [red]{failed} failed[/]")
                    bar.console.print(f"FAILED {item.replay}", markup=False)
                done = len(journal.records)
                if not console.is_terminal and done * 10 // len(jobs) > (done - 1) * 10 // len(jobs):
                    print(f"{done} of {len(jobs)} runs, {failed} failed", flush=True)
        except KeyboardInterrupt:
            return False
    return True


def tests_table(records: list[regress.Record]) -> Table:
    """A row a test."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("test")
    for name in ("runs", "passed", "cycles", "compared", "seconds"):
        table.add_column(name, justify="right")
    for test in dict.fromkeys(sorted(r.test for r in records)):
        rows = [r for r in records if r.test == test]
        numbers = (
            len(rows),
            sum(r.passed for r in rows),
            sum(r.cycles or 0 for r in rows),
            sum(r.compared_bytes for r in rows),
        )
        table.add_row(test, *(f"{n:,}" for n in numbers), f"{sum(r.wall_s for r in rows):,.1f}")
    return table


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a regression that is ended keeps its record
    try:
        sys.exit(main(sys.argv[1:]))
    except TatamiError as error:
        print(f"{Path(__file__).stem}: {error}", file=sys.stderr)
        sys.exit(2)
