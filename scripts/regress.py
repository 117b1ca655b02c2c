"""Run many seeds of many tests: `make regress`. Ends with one line `REGRESS {json}`.

Exit status 0 if all passed, 1 if not, 2 for bad input and for a farm that was lost, 130 for one that was
interrupted.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from pathlib import Path
from typing import Any

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
from scripts.command import THERE, Choice, Integer, command, console, integer, simulator, variable
from scripts.command import jobs as workers
from scripts.farm import chosen_farm, farm_variables, hands, was_given
from scripts.keep import check, history_database, keep
from scripts.supervise import INTERRUPTED
from tb.flow import provenance, regress, runner, simulators
from tb.flow.farm.choice import crew
from tb.flow.farm.crew import Crew, FarmError
from tb.flow.testlist import BLOCK_TESTS, TESTS

DEFAULT_SEEDS = 20
MAX_SEEDS = 1_000_000
MESSAGE_LINES = 5


@command("regress")
@variable("N", Integer(1, MAX_SEEDS), DEFAULT_SEEDS, "number of seeds")
@variable("TESTS", default="*", what="globs of the tests, with commas between them")
@variable("SIM", Choice(simulators.SIMULATORS), simulators.SIMULATORS[0], "the simulator")
@variable("CONFIG", what="one configuration (default: all of them in turn)")
@variable("SEED", what="the first seed (default 1)")
@variable("RESUME", THERE, what="the folder of a regression that was stopped: do the runs that it lacks")
@workers()
@farm_variables()
@history_database()
def main(
    n: int,
    tests: str,
    sim: str,
    config: str | None,
    seed: str | None,
    resume: Path | None,
    jobs: int,
    farm: str,
    farm_options: dict[str, Any],
    history: str | None,
) -> int:
    out = console()
    check(history)
    where = chosen_farm(farm, farm_options)
    if resume is None:
        first = integer("SEED", seed or "1", 0, runner.MAX_SEED - n)
        git = provenance.git_revision()
        plan = regress.Plan(tests=tests, sim=sim, config=config, first=first, seeds=n, git=git)
    elif was_given("n", "tests", "sim", "config", "seed"):
        raise TatamiError("RESUME takes N, TESTS, SIM, CONFIG and SEED from its folder; give none of them")
    else:
        plan = regress.read_plan(resume)
    runs = planned(plan)
    if where.local:
        simulator(plan.sim)
    started = time.monotonic()
    journal: regress.Journal | None = None
    stopped, status = "", 0
    try:
        with crew(where, hands(where, jobs)) as pool:
            journal = regress.Journal.resumed(resume) if resume else regress.Journal.begun(plan)
            done = {record.key for record in journal.records}
            carry_out([run for run in runs if run.key not in done], pool, journal, out)
    except regress.DiskFullError as error:
        assert journal is not None
        raise TatamiError(f"{error}; {rest(journal, runs)}") from None
    except KeyboardInterrupt:
        stopped, status = "interrupted", INTERRUPTED
    except FarmError as error:
        stopped, status = str(error), error.status
    if journal is None:
        raise KeyboardInterrupt if status == INTERRUPTED else FarmError(stopped)
    failed = sum(not r.passed for r in journal.records)
    summary = {
        "runs": len(journal.records),
        "passed": len(journal.records) - failed,
        "failed": failed,
        "wall_s": round(time.monotonic() - started, 1),
        "finished": not stopped,
        "sim": plan.sim,
        "seeds": plan.seeds,
        "jobs": jobs,
        "farm": where.name,
        "cycles": sum(r.cycles or 0 for r in journal.records),
        "compared_bytes": sum(r.compared_bytes for r in journal.records),
        "record": str(journal.folder),
    }
    journal.close(summary)
    keep(history, journal.folder, "regress")
    out.print(tests_table(journal.records))
    show_failures(regress.buckets(journal.records), jobs, not stopped, out)
    if stopped:
        print(f"regress: {stopped}; {rest(journal, runs)}", file=sys.stderr)
    print("REGRESS", json.dumps(summary))
    return status or (1 if failed else 0)


def rest(journal: regress.Journal, runs: list[regress.PlannedRun]) -> str:
    """What is there of a regression that was stopped, and what to do."""
    again = f"`make regress RESUME={journal.folder}` does the rest"
    return f"{len(journal.records)} of {len(runs)} runs are recorded, {again}"


def planned(plan: regress.Plan) -> list[regress.PlannedRun]:
    """Its runs. Raises `TatamiError` for what there is not."""
    configs = [get_config(plan.config)] if plan.config else list(CONFIGS.values())
    chosen = regress.choose(TESTS | BLOCK_TESTS, plan.tests, plan.sim)
    return regress.plan(chosen, plan.sim, configs, range(plan.first, plan.first + plan.seeds))


def show_failures(found: list[regress.Bucket], workers: int, finished: bool, console: Console) -> None:
    """Each group of failures with its quickest failure, and the place where that failure began inside the
    machine.
    """
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


def carry_out(jobs: list[regress.PlannedRun], pool: Crew, journal: regress.Journal, console: Console) -> None:
    """Does all runs, with a bar on a terminal and a line for each tenth elsewhere."""
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
        failed, before = 0, len(journal.records)
        for item in regress.execute(jobs, pool):
            if isinstance(item, regress.Design):
                bar.advance(designs)
                continue
            journal.add(item)
            bar.advance(runs)
            if not item.passed:
                failed += 1
                bar.update(runs, description=f"run, [red]{failed} failed[/]")
                bar.console.print(f"FAILED {item.replay}", markup=False)
            for lost in item.lost:
                bar.console.print(f"LOST {item.test} {item.config} seed {item.seed}: {lost}", markup=False)
            done = len(journal.records) - before
            if not console.is_terminal and done * 10 // len(jobs) > (done - 1) * 10 // len(jobs):
                print(f"{done} of {len(jobs)} runs, {failed} failed", flush=True)


def tests_table(records: list[regress.RunRecord]) -> Table:
    """A row for each test."""
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
    # a regression that is stopped keeps its record
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    main.run()
