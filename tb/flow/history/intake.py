"""What comes into the history: the runs of regressions (`runs.jsonl`) and the summaries of coverage
(`summaries.jsonl`).

What is there already is left alone, so the same file may come again, from any place and also while it grows.
A line that is cut short at the end of a file is one that is being written, or that a full disk has cut: it
is left out.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import Field
from sqlalchemy import Connection, Table, func, insert, select, update

from pymodel.machine.errors import TatamiError
from pymodel.machine.files import Fields, Model, checked, parse_json, read_json, read_text
from tb.flow import regress
from tb.flow.coverage.report import SUMMARIES_FILE, TARGETS, SummaryLine
from tb.flow.history import schema
from tb.flow.history.database import Database

LARGEST = 2**63 - 1  # a number in a database
CHUNK = 2000  # rows in a statement


@dataclass(frozen=True)
class Taken:
    """What has come in. `cut`: files whose last line is not complete."""

    runs: int = 0
    summaries: int = 0
    cut: tuple[Path, ...] = ()

    def __add__(self, other: Taken) -> Taken:
        return Taken(self.runs + other.runs, self.summaries + other.summaries, self.cut + other.cut)


class Ending(Fields, extra="ignore"):
    """What is of interest in the summary.json of a regression."""

    finished: bool
    wall_s: float = Field(ge=0)


def sources(folder: Path) -> list[Path]:
    """The files below a folder that `take_in` takes, the oldest first. `TatamiError` if there is none."""
    found = [path for name in (regress.RUNS, SUMMARIES_FILE) for path in sorted(folder.rglob(name))]
    if not found:
        raise TatamiError(f"IMPORT '{folder}': holds no {regress.RUNS} and no {SUMMARIES_FILE}")
    return found


def take_in(database: Database, path: Path) -> Taken:
    """Takes in a file that `sources` names, or the folder of a regression: all of it, or nothing.

    Raises `TatamiError` for a line that is none, and for a database that is not to be had.
    """
    path = path / regress.RUNS if path.is_dir() else path
    return _summaries(database, path) if path.name == SUMMARIES_FILE else _runs(database, path)


def _lines(model: type[Model], path: Path) -> tuple[list[tuple[str, Model]], tuple[Path, ...]]:
    """The complete lines of a file, as text and as `model`; the path, if its last line is cut short."""
    *whole, rest = read_text(path).split("\n")
    rows = [
        (line, checked(model, parse_json(line, where), where))
        for line, where in ((line, f"{path}, line {number}") for number, line in enumerate(whole, 1))
    ]
    return rows, (path,) if rest else ()


def _digest(*parts: str) -> str:
    """Says which regression or summary it is, wherever it lies."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _clean(text: str | None) -> str:
    """Without control characters, which not every database can hold."""
    return regress.printable(text or "")


def _name(text: str | None) -> str:
    return _clean(text)[: schema.NAME]


def machine_kind(tools: Mapping[str, str]) -> str:
    """Records of earlier versions do not name the processor."""
    return _name(tools.get("cpu") or tools.get("platform"))


def _runs(database: Database, path: Path) -> Taken:
    rows, cut = _lines(regress.RecordLine, path)
    if not rows:
        return Taken(cut=cut)
    name = path.parent.name
    try:
        started = datetime.strptime(name, regress.FOLDER_TIME)
    except ValueError:
        raise TatamiError(f"{path.parent}: its name is no time of a regression") from None
    for number, (_, row) in enumerate(rows, 1):
        for field in ("seed", "cycles", "compared_bytes"):
            if (getattr(row, field) or 0) > LARGEST:
                raise TatamiError(f"{path}, line {number}: field '{field}' is above {LARGEST}")
    end = path.with_name(regress.SUMMARY)
    ending = checked(Ending, read_json(end), end) if end.is_file() else None
    text, first = rows[0]
    digest = _digest(name, text)
    with database.writing() as connection:
        (revision,) = _ids(connection, schema.revision, [(_name(first.git)[: schema.GIT],)])
        (machine,) = _ids(connection, schema.machine, [(machine_kind(first.tools),)])
        table = schema.regression
        known = connection.execute(select(table.c.id).where(table.c.digest == digest)).scalar()
        if known is None:
            made = connection.execute(
                insert(table).values(
                    digest=digest,
                    name=name,
                    started=started,
                    sim=first.sim,
                    branch=_name(first.branch),
                    revision_id=revision,
                    machine_id=machine,
                )
            ).inserted_primary_key
            assert made is not None
            known = made[0]
        if ending:
            connection.execute(
                update(table)
                .where(table.c.id == known)
                .values(finished=ending.finished, wall_s=ending.wall_s)
            )
        # lines are only ever added to the file
        last = select(func.max(schema.run.c.line)).where(schema.run.c.regression_id == known)
        before = connection.execute(last).scalar() or 0
        new = [(number, row) for number, (_, row) in enumerate(rows, 1) if number > before]
        origin = {"regression_id": known, "revision_id": revision, "machine_id": machine}
        for at in range(0, len(new), CHUNK):
            _insert_runs(connection, new[at : at + CHUNK], origin)
    return Taken(runs=len(new), cut=cut)


def _insert_runs(
    connection: Connection, rows: list[tuple[int, regress.RecordLine]], origin: Mapping[str, Any]
) -> None:
    setups = [(_name(r.test), r.sim, _name(r.config)) for _, r in rows]
    setup_ids = dict(zip(setups, _ids(connection, schema.setup, setups), strict=True))
    signatures = [(_name(r.signature) or "no message",) for _, r in rows if not r.passed]
    bucket_ids = iter(_ids(connection, schema.bucket, signatures))
    values = [
        {
            **origin,
            "line": number,
            "setup_id": setup_ids[setup],
            "seed": row.seed,
            "bucket_id": None if row.passed else next(bucket_ids),
            "wall_s": row.wall_s,
            "cycles": row.cycles,
            "compared_bytes": row.compared_bytes,
        }
        for (number, row), setup in zip(rows, setups, strict=True)
    ]
    connection.execute(insert(schema.run), values)
    ran = select(schema.run.c.line, schema.run.c.id).where(
        schema.run.c.regression_id == origin["regression_id"],
        schema.run.c.line.between(rows[0][0], rows[-1][0]),
    )
    ids = {row.line: row.id for row in connection.execute(ran)}
    details = [
        {
            "run_id": ids[number],
            **{field: _clean(getattr(row, field)) for field in ("message", "log", "replay", "failure")},
            "measured": json.dumps(row.measured),
        }
        for number, row in rows
    ]
    connection.execute(insert(schema.detail), details)


def _ids(connection: Connection, table: Table, names: Iterable[tuple[str, ...]]) -> list[int]:
    """The ids of rows by all their other columns, in the order given; rows that are not there are made.

    Nobody else makes any at this time: writers come one after the other.
    """
    wanted = list(names)
    columns = [column for column in table.columns if not column.primary_key]
    known: dict[tuple[str, ...], int] = {}
    for name in dict.fromkeys(wanted):
        same = [column == value for column, value in zip(columns, name, strict=True)]
        found = connection.execute(select(table.c.id).where(*same)).scalar()
        if found is None:
            row = {column.name: value for column, value in zip(columns, name, strict=True)}
            made = connection.execute(insert(table).values(row)).inserted_primary_key
            assert made is not None
            found = made[0]
        known[name] = found
    return [known[name] for name in wanted]


def _summaries(database: Database, path: Path) -> Taken:
    rows, cut = _lines(SummaryLine, path)
    started = []
    for number, (_, row) in enumerate(rows, 1):
        try:
            started.append(datetime.fromisoformat(row.when))
        except ValueError:
            raise TatamiError(
                f"{path}, line {number}: field 'when' is {row.when!r}: must be a time"
            ) from None
        for name in TARGETS:
            if name not in row.figures:
                raise TatamiError(f"{path}, line {number}: field 'figures.{name}' is missing")
    if not rows:
        return Taken(cut=cut)
    new = 0
    with database.writing() as connection:
        for when, (text, row) in zip(started, rows, strict=True):
            new += _insert_summary(connection, _digest(text), when, row)
    return Taken(summaries=new, cut=cut)


def _insert_summary(connection: Connection, digest: str, started: datetime, row: SummaryLine) -> bool:
    """Whether it was not there yet."""
    table = schema.coverage
    if connection.execute(select(table.c.id).where(table.c.digest == digest)).scalar() is not None:
        return False
    (revision,) = _ids(connection, schema.revision, [(_name(row.git)[: schema.GIT],)])
    (machine,) = _ids(connection, schema.machine, [(machine_kind(row.tools),)])
    made = connection.execute(
        insert(table).values(
            digest=digest,
            started=started.astimezone(UTC).replace(tzinfo=None) if started.tzinfo else started,
            branch=_name(row.branch),
            revision_id=revision,
            machine_id=machine,
            whole=row.whole,
            runs=row.runs,
            failed=row.failed,
            wall_s=row.wall_s,
            **{f"{name}_percent": row.figures[name] for name in TARGETS},
        )
    ).inserted_primary_key
    assert made is not None
    points = [
        {"coverage_id": made[0], "name": _name(name), "hit": point.hit, "bins": point.bins}
        for name, point in row.points.items()
    ]
    if points:
        connection.execute(insert(schema.coverpoint), points)
    return True
