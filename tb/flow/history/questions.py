"""What the history answers.

Each question is a few statements over the indices of `schema`: aggregates are made by the database, and only
what is shown comes out of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, func, select

from tb.flow.history.schema import coverage, machine, regression, revision, run


@dataclass(frozen=True)
class Regression:
    """`git` has a `+` behind it if files differed from the commit."""

    id: int
    name: str
    started: datetime
    git: str
    branch: str
    sim: str
    kind: str
    finished: bool | None


@dataclass(frozen=True)
class Totals:
    """What there is."""

    regressions: int
    runs: int
    coverages: int


@dataclass(frozen=True)
class RegressionRow:
    """A regression with its runs."""

    regression: Regression
    runs: int
    failed: int


def totals(connection: Connection) -> Totals:
    def count(column: Any) -> int:
        return connection.execute(select(func.count(column))).scalar_one()

    return Totals(count(regression.c.id), count(run.c.id), count(coverage.c.id))


def _regressions() -> Select[Any]:
    columns = (regression.c[name] for name in ("id", "name", "started", "branch", "sim", "finished"))
    return (
        select(*columns, revision.c.git, machine.c.kind)
        .join(revision, revision.c.id == regression.c.revision_id)
        .join(machine, machine.c.id == regression.c.machine_id)
        .order_by(regression.c.started.desc(), regression.c.id.desc())
    )


def _regression(row: Row[Any]) -> Regression:
    return Regression(**row._mapping)


def last_regressions(connection: Connection, count: int) -> list[RegressionRow]:
    """The last ones, the newest first."""
    rows = [_regression(row) for row in connection.execute(_regressions().limit(count))]
    counted = (
        select(run.c.regression_id, func.count(), func.count(run.c.bucket_id))
        .where(run.c.regression_id.in_([row.id for row in rows]))
        .group_by(run.c.regression_id)
    )
    counts = {one: (runs, failed) for one, runs, failed in connection.execute(counted)}
    return [RegressionRow(row, *counts.get(row.id, (0, 0))) for row in rows]
