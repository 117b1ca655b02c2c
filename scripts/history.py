"""Ask the history of all runs, or take records into it: `make history`. Ends with one line `HISTORY {json}`.

Exit status 0, 1 if runs of one revision and seed came out differently, 2 for bad input.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from sqlalchemy import Connection

from pymodel.machine.errors import TatamiError
from scripts.command import THERE, Choice, Integer, command, console, variable, working
from scripts.keep import history_database
from tb.flow.history import intake, questions
from tb.flow.history.database import Database

SHOWN = 20  # rows by default
MOST = 10_000
LINES = 3  # of a message
NAMES = 3  # of tests
GIT = 8  # characters of a commit
SLOWER = 1.2  # times the median of before: what is shown as slower


def take_in(database: Database, folder: Path, out: Console) -> dict[str, Any]:
    """Each file by itself: one that is damaged does not keep the others out. If the database is not to be
    had, none comes in, and that is said once.
    """
    files, taken, refused = intake.sources(folder), intake.Taken(), 0
    with database.writing():
        pass
    with working(out) as progress:
        for path in files:
            progress(f"taking in {path}")
            try:
                taken += intake.take_in(database, path)
            except TatamiError as error:
                print(f"history: {error}", file=sys.stderr)
                refused += 1
    for path in taken.cut:
        print(f"{path}: the last line is not complete, and is left out")
    print(f"{taken.runs:,} runs and {taken.summaries:,} coverage summaries are new, from {len(files)} files")
    return {"runs": taken.runs, "summaries": taken.summaries, "files": len(files), "refused": refused}


def table(out: Console, title: str, columns: str, rows: list[tuple[object, ...]]) -> None:
    """`columns`: the names, with spaces between; those with numbers end in #."""
    shown = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for name in columns.split():
        number = name.endswith("#")
        shown.add_column(
            name.rstrip("#").replace("_", " "), justify="right" if number else "left", no_wrap=number
        )
    for row in rows:
        shown.add_row(*("" if value is None else escape(str(value)) for value in row))
    out.print(shown)


def commit(git: str) -> str:
    """As short as one types it."""
    return git[:GIT] + ("+" if git.endswith("+") else "") if git else "none"


def overview(connection: Connection, count: int, out: Console) -> dict[str, Any]:
    found = questions.totals(connection)
    table(
        out,
        "the last regressions",
        "regression commit branch sim runs# failed# finished",
        [
            (
                r.regression.name,
                commit(r.regression.git),
                r.regression.branch,
                r.regression.sim,
                f"{r.runs:,}",
                f"{r.failed:,}",
                {True: "yes", False: "no", None: "not yet"}[r.regression.finished],
            )
            for r in questions.last_regressions(connection, count)
        ],
    )
    return vars(found)


def failures(connection: Connection, count: int, out: Console) -> dict[str, Any]:
    found = questions.failures(connection, count)
    if not found.comparisons:
        print("there is no regression yet")
        return {"buckets": 0}
    for compared in found.comparisons:
        print(f"the last regression: {said(compared.current)}")
        print(f"before it on {questions.MAIN}: {said(compared.base) if compared.base else 'none'}")
    table(
        out,
        "failures, all so far",
        "state times# first last seeds tests signature",
        [
            (
                one.state,
                f"{one.count:,}",
                f"{one.first_seen:%Y-%m-%d} {commit(one.first)}",
                f"{one.last_seen:%Y-%m-%d} {commit(one.last)}",
                shortened(one.seeds, one.seed_count),
                shortened(one.tests[:NAMES], len(one.tests)),
                one.signature,
            )
            for one in found.buckets
        ],
    )
    for one in found.buckets:
        if one.state in ("new", "known"):
            print(f"{one.state}: {one.signature}")
            print(*(f"  | {line}" for line in one.message.splitlines()[:LINES]), f"  {one.replay}", sep="\n")
    states = [one.state for one in found.buckets]
    return {"buckets": len(states), **{name: states.count(name) for name in questions.STATES}}


def flaky(connection: Connection, count: int, out: Console) -> dict[str, Any]:
    found = questions.flaky(connection, count)
    if not found:
        print("every run of one revision, test, configuration and seed came out the same")
        return {"flaky": 0}
    table(
        out,
        "came out differently each time",
        "commit test sim config seed# runs# failed# differs",
        [
            (commit(one.git), one.test, one.sim, one.config, one.seed, one.runs, one.failed, one.differs)
            for one in found
        ],
    )
    return {"flaky": len(found)}


def slow(connection: Connection, count: int, out: Console) -> dict[str, Any]:
    tests = worse = 0
    for sim in questions.simulators(connection):
        current, found = questions.slow(connection, sim)
        if current is None:
            continue
        print(f"the last regression: {said(current)}, on {current.kind}")
        slower = [one for one in found if (one.ratio or 0) >= SLOWER]
        slower.sort(key=lambda one: -(one.ratio or 0))
        for title, rows in (
            ("the slowest", found),
            (f"slower than before, {SLOWER:g} times or more", slower),
        ):
            table(
                out,
                title,
                "test config runs# seconds# median_before# of# ratio#",
                [
                    (
                        *(one.test, one.config, f"{one.runs:,}", f"{one.seconds:.2f}"),
                        *(f"{one.median:.2f}" if one.median is not None else "", one.of),
                        f"{one.ratio:.2f}" if one.ratio is not None else "",
                    )
                    for one in rows[:count]
                ],
            )
        tests, worse = tests + len(found), worse + len(slower)
    if not tests:
        print("there is no regression yet")
    return {"tests": tests, "slower": worse}


def coverage(connection: Connection, count: int, out: Console) -> dict[str, Any]:
    found = questions.coverages(connection, count)
    table(
        out,
        "coverage, percent",
        "when commit branch runs functional# line# branch# toggle#",
        [
            (
                f"{one.started:%Y-%m-%d %H:%M}",
                commit(one.git),
                one.branch,
                f"{one.runs}{'' if one.whole else ', not all'}",
                *(f"{value:.2f}" for value in one.figures),
            )
            for one in found
        ],
    )
    changed = questions.changed_points(connection)
    if changed:
        table(
            out,
            "bins hit, between the last two whole ones",
            "point before after",
            [(one.name, one.before, one.after) for one in changed],
        )
    return {"coverages": len(found), "changed_points": len(changed)}


def said(one: questions.Regression) -> str:
    """A regression, in words."""
    return f"{one.name}, {one.sim}, {commit(one.git)}{f' of {one.branch}' if one.branch else ''}"


def shortened(some: Sequence[object], whole: int) -> str:
    """`some` of so many."""
    return " ".join(map(str, some)) + (f" and {whole - len(some):,} more" if whole > len(some) else "")


ASKED: dict[str, Callable[[Connection, int, Console], dict[str, Any]]] = {
    "failures": failures,
    "flaky": flaky,
    "slow": slow,
    "coverage": coverage,
}
OVERVIEW = "overview"


@command("history")
@variable("ASK", Choice(ASKED), what="the question (default: an overview)")
@variable("IMPORT", THERE, what="a folder whose records are taken in first")
@variable("N", Integer(1, MOST), SHOWN, "rows to show")
@history_database()
def main(ask: str | None, n: int, history: str | None, **more: Any) -> int:
    out, database, figures = console(), Database(history), dict[str, Any]()
    if folder := more["import"]:
        figures = take_in(database, folder, out)
    if ask or not folder:
        with database.reading() as connection:
            found = ASKED[ask](connection, n, out) if ask else overview(connection, n, out)
        figures = {"ask": ask or OVERVIEW, **figures, **found}
    print("HISTORY", json.dumps(figures))
    if figures.get("refused"):
        return 2
    return 1 if figures.get("flaky") else 0


if __name__ == "__main__":
    main.run()
