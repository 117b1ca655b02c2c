"""How long the history takes to answer, over a million made-up records: `make bench BENCH=history`.

What is asked for has been planted, so that an answer that is quick and wrong fails, too.
"""

from __future__ import annotations

import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table
from sqlalchemy import Connection, insert
from sqlalchemy import Table as SqlTable

from tb.flow import runner
from tb.flow.history import questions, schema
from tb.flow.history.database import Database

RUNS = 1_000_000
PER_REGRESSION = 320
SETUPS = 64  # a test in a configuration
BUCKETS = 60
MACHINES = 3
FLAKY = 37
SLOWER = 3.0  # times as long: the first setup in the last regression
POINTS = 180
COVERAGES = 1000
TARGET_S = 2.0
START = datetime(2020, 1, 1)


@dataclass(frozen=True)
class Planted:
    """How many there are in the whole history."""

    failures: int
    buckets: int
    flaky: int


def make_up(database: Database, runs: int, rng: np.random.Generator) -> Planted:
    """Fills an empty database with `runs` records: regressions of `PER_REGRESSION` runs, two for each commit,
    two thirds of them on main. A bucket fails for a tenth of the time that the history goes over.
    """
    regressions = -(-runs // PER_REGRESSION)
    with database.writing() as connection:
        names: dict[SqlTable, list[dict[str, str]]] = {
            schema.revision: [{"git": f"{n:040x}"} for n in range(regressions)],
            schema.machine: [{"kind": f"{n} x some processor"} for n in range(MACHINES)],
            schema.setup: [
                {"test": f"test_{n // 8}", "sim": "verilator", "config": f"config_{n % 8}"}
                for n in range(SETUPS)
            ],
            schema.bucket: [{"signature": f"N of N bytes differ in layer {n}"} for n in range(BUCKETS)],
        }
        for table, named in names.items():
            connection.execute(insert(table), named)
        failures, seen = 0, set[int]()
        for index in range(regressions):
            rows, details = _regression(
                index, regressions, min(PER_REGRESSION, runs - index * PER_REGRESSION), rng
            )
            _insert_regression(connection, index)
            connection.execute(insert(schema.run), rows)
            connection.execute(insert(schema.detail), details)
            failed = [row["bucket_id"] for row in rows if row["bucket_id"]]
            failures += len(failed)
            seen |= set(failed)
        for index in range(COVERAGES):
            _insert_coverage(connection, index)
    return Planted(failures, len(seen), FLAKY)


def _insert_regression(connection: Connection, index: int) -> None:
    row = {
        "id": index + 1,
        "digest": f"{index:064x}",
        "name": f"regression {index}",
        "started": START + timedelta(hours=index),
        "sim": "verilator",
        "branch": "main" if index % 3 else "work",
        "revision_id": index // 2 + 1,
        "machine_id": index % MACHINES + 1,
        "finished": True,
        "wall_s": 100.0,
    }
    connection.execute(insert(schema.regression), [row])


def _regression(
    index: int, of: int, count: int, rng: np.random.Generator
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The runs of a regression, and their details. Every other regression repeats the seeds of the one
    before, of the same commit; in the first of these, one run takes another number of cycles then.
    """
    alive = [b for b in range(BUCKETS) if b / BUCKETS <= index / of < b / BUCKETS + 0.1]
    broken = index % 2 == 1 and index < 2 * FLAKY
    last = index == of - 1
    seconds = rng.lognormal(1.0, 0.1, count)
    fixed = np.random.default_rng(index // 2)  # what the seed decides
    fails, kinds = fixed.random(count) < 0.05, fixed.integers(0, len(alive) or 1, count)
    rows, details = [], []
    for line in range(1, count + 1):
        failed = bool(alive and index % 2 == 0 and fails[line - 1] and line > 1)
        number = index * PER_REGRESSION + line
        first = (line - 1) % SETUPS == 0
        rows.append(
            {
                "id": number,
                "regression_id": index + 1,
                "line": line,
                "revision_id": index // 2 + 1,
                "machine_id": index % MACHINES + 1,
                "setup_id": (line - 1) % SETUPS + 1,
                # a seed that failed is not repeated: only what is planted is flaky
                "seed": index // 2 * PER_REGRESSION + line + (10**9 if failed else 0),
                "bucket_id": alive[kinds[line - 1]] + 1 if failed else None,
                "wall_s": float(seconds[line - 1]) * (SLOWER if last and first else 1),
                "cycles": 1000 + line + (1 if broken and line == 1 else 0),
                "compared_bytes": 64,
            }
        )
        details.append(
            {
                "run_id": number,
                "message": "8 of 320 bytes differ\nimage 0, layer conv1" if failed else "",
                "log": f"/work/build/run/test-{number}/run.log",
                "replay": f"make sim SEED={number}",
                "failure": "",
                "measured": '{"cycles": 1000, "images": 1}',
            }
        )
    return rows, details


def _insert_coverage(connection: Connection, index: int) -> None:
    row = {
        "id": index + 1,
        "digest": f"{index:064x}",
        "started": START + timedelta(hours=index),
        "branch": "main",
        "revision_id": index + 1,
        "machine_id": 1,
        "whole": True,
        "runs": 130,
        "failed": 0,
        "wall_s": 900.0,
        **{f"{name}_percent": 90.0 for name in ("functional", "line", "branch", "toggle")},
    }
    connection.execute(insert(schema.coverage), [row])
    last = index == COVERAGES - 1
    points = [
        {"coverage_id": index + 1, "name": f"g.cp_{n}", "hit": 9 if last and n == 0 else 8, "bins": 10}
        for n in range(POINTS)
    ]
    connection.execute(insert(schema.coverpoint), points)


def asked(connection: Connection, planted: Planted) -> Iterator[tuple[str, Callable[[], bool]]]:
    """The questions by name. Each is asked as `make history` asks it, and says if the answer is right."""

    def failures() -> bool:
        found = questions.failures(connection, 10_000)
        counted = sum(one.count for one in found.buckets)
        return (counted, len(found.buckets)) == (planted.failures, planted.buckets)

    def flaky() -> bool:
        return len(questions.flaky(connection, 10_000)) == planted.flaky

    def slow() -> bool:
        _, found = questions.slow(connection)
        slower = [one for one in found if one.ratio and one.ratio > 2]
        return len(found) == SETUPS and [one.test for one in slower] == ["test_0"]

    def coverage() -> bool:
        changed = [one.name for one in questions.changed_points(connection)]
        return len(questions.coverages(connection, 10_000)) == COVERAGES and changed == ["g.cp_0"]

    def overview() -> bool:
        shown = questions.last_regressions(connection, 20)
        return questions.totals(connection).runs == RUNS and len(shown) == 20

    yield from {
        "failures": failures,
        "flaky": flaky,
        "slow": slow,
        "coverage": coverage,
        "overview": overview,
    }.items()


def cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def run(console: Console) -> dict[str, Any]:
    """Seconds by the clock and of CPU of each question, asked once of a database that was just opened."""
    runner.BUILD.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="history-", dir=runner.BUILD) as place:
        file = Path(place) / "history.db"
        console.print(f"[dim]makes up {RUNS:,} records, a minute")
        planted = make_up(Database(f"sqlite:///{file}"), RUNS, np.random.default_rng(1))
        megabytes = file.stat().st_size / 1e6
        rows = Table(
            title=f"{RUNS:,} records in SQLite, {megabytes:,.0f} MB",
            title_justify="left",
            box=box.SIMPLE_HEAD,
        )
        for name in ("question", "seconds", "of CPU", "right"):
            rows.add_column(name, justify="right" if name != "question" else "left")
        seconds, right = {}, True
        with Database(f"sqlite:///{file}").reading() as connection:
            for name, ask in asked(connection, planted):
                began, used = time.monotonic(), cpu_s()
                good = ask()
                seconds[name] = round(time.monotonic() - began, 2)
                right = right and good
                rows.add_row(name, f"{seconds[name]:.2f}", f"{cpu_s() - used:.2f}", "yes" if good else "NO")
        console.print(rows)
    slowest = max(seconds.values())
    if slowest > TARGET_S:
        print(f"the slowest question took {slowest:.2f} s, the target is {TARGET_S:g}")
    return {
        "bench": "history",
        "passed": right and slowest <= TARGET_S,
        "right": right,
        "records": RUNS,
        "megabytes": round(megabytes),
        "seconds": seconds,
    }
