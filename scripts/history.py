"""The history of all runs, and records that are taken into it: `make history`. Ends with one line
`HISTORY {json}`.

Exit status 0, 2 for bad input.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from sqlalchemy import Connection

from pymodel.machine.errors import TatamiError
from scripts.command import THERE, Integer, command, console, variable, working
from scripts.keep import history_database
from tb.flow.history import intake, questions
from tb.flow.history.database import Database

SHOWN = 20  # rows by default
MOST = 100_000
GIT = 8  # characters of a commit


@command("history")
@variable("IMPORT", THERE, what="a folder whose records are taken in first")
@variable("N", Integer(1, MOST), SHOWN, "rows to show")
@history_database()
def main(n: int, history: str | None, **more: Any) -> int:
    out, database = console(), Database(history)
    if folder := more["import"]:
        figures = take_in(database, folder, out)
        print("HISTORY", json.dumps(figures))
        return 2 if figures["refused"] else 0
    with database.reading() as connection:
        print("HISTORY", json.dumps(overview(connection, n, out)))
    return 0


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
        shown.add_row(*("" if value is None else str(value) for value in row))
    out.print(shown)


def commit(git: str) -> str:
    """As short as one types it."""
    return git[:GIT] + ("+" if git.endswith("+") else "") if git else "none"


def overview(connection: Connection, count: int, out: Console) -> dict[str, Any]:
    found = questions.totals(connection)
    rows = questions.last_regressions(connection, count)
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
            for r in rows
        ],
    )
    return vars(found)


if __name__ == "__main__":
    main.run()
