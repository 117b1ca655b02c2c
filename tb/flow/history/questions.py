"""What the history answers: failures in buckets and since when, runs that are not the same each time, slow
tests, coverage over time.

Each question is a few statements over the indices of `schema`: aggregates are made by the database, and only
what is shown comes out of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import median
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, and_, case, desc, distinct, func, or_, select

from tb.flow.history.schema import (
    bucket,
    coverage,
    coverpoint,
    detail,
    machine,
    regression,
    revision,
    run,
    setup,
)

MAIN = "main"  # the branch that others are compared with
LAST = 10  # regressions whose median a time is compared with
EXAMPLES = 5  # seeds of a bucket
STATES = ("new", "known", "not run", "fixed")  # the worst first


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
    wall_s: float | None


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


@dataclass(frozen=True)
class Failure:
    """Failures that look alike, in the whole history. `id`: of the bucket.

    `state`: in the last regression on a simulator and in the one on main before it, `known`; only in the
    last, `new`; only in the one on main, `fixed` if every test and configuration that failed there has run
    again, else `not run`; empty for what is in neither. Of several simulators the worst counts. `seeds` are
    the lowest of `seed_count`. `replay` and `message` are of a run in the regression that had it last.
    """

    id: int
    signature: str
    state: str
    count: int
    regressions: int
    tests: tuple[str, ...]
    seeds: tuple[int, ...]
    seed_count: int
    first: str
    first_seen: datetime
    last: str
    last_seen: datetime
    message: str
    replay: str


@dataclass(frozen=True)
class SetupRow:
    """The runs of a test in a configuration, of a regression or of a bucket. `cycles` and `seconds` are those
    of all of them.
    """

    test: str
    sim: str
    config: str
    runs: int
    failed: int
    cycles: int
    seconds: float


@dataclass(frozen=True)
class BucketRow:
    """The failures of a regression that look alike, and how many there are."""

    id: int
    signature: str
    count: int


@dataclass(frozen=True)
class RunRow:
    """A run. `bucket` is None for one that passed. `failure`: its failure folder, empty if it has none."""

    regression: int
    git: str
    test: str
    sim: str
    config: str
    seed: int
    bucket: int | None
    signature: str
    wall_s: float
    cycles: int | None
    replay: str
    failure: str


@dataclass(frozen=True)
class Comparison:
    """The last regression on a simulator, and the one on main that it is compared with, if there is one.
    `states`: those of `Failure`, by bucket.
    """

    current: Regression
    base: Regression | None
    states: dict[int, str]


@dataclass(frozen=True)
class Failures:
    """`comparisons`: one for each simulator that has a regression."""

    comparisons: list[Comparison]
    buckets: list[Failure]


@dataclass(frozen=True)
class Flaky:
    """Runs of the same revision, test, simulator, configuration and seed that came out differently."""

    git: str
    test: str
    sim: str
    config: str
    seed: int
    runs: int
    failed: int
    differs: str


@dataclass(frozen=True)
class Slow:
    """Seconds of a run of a test in the last regression, the mean over its seeds. `median`: of `of` such
    means, of regressions before it on the same kind of machine, ten at most; None if there are none.
    """

    test: str
    config: str
    runs: int
    seconds: float
    median: float | None
    of: int

    @property
    def ratio(self) -> float | None:
        return self.seconds / self.median if self.median else None


@dataclass(frozen=True)
class Coverage:
    """A run of `make coverage`. `figures`, in percent: functional, line, branch and toggle coverage."""

    started: datetime
    git: str
    branch: str
    whole: bool
    runs: int
    failed: int
    figures: tuple[float, float, float, float]


@dataclass(frozen=True)
class PointChange:
    """A coverpoint that has another number of bins, or of bins hit, than in the coverage before."""

    name: str
    before: str
    after: str


def totals(connection: Connection) -> Totals:
    def count(column: Any) -> int:
        return connection.execute(select(func.count(column))).scalar_one()

    return Totals(count(regression.c.id), count(run.c.id), count(coverage.c.id))


def _regressions() -> Select[Any]:
    names = ("id", "name", "started", "branch", "sim", "finished", "wall_s")
    return (
        select(*(regression.c[name] for name in names), revision.c.git, machine.c.kind)
        .join(revision, revision.c.id == regression.c.revision_id)
        .join(machine, machine.c.id == regression.c.machine_id)
        .order_by(regression.c.started.desc(), regression.c.id.desc())
    )


def _regression(row: Row[Any]) -> Regression:
    return Regression(**row._mapping)


def last_regressions(connection: Connection, count: int) -> list[RegressionRow]:
    """The last ones, the newest first."""
    return counted(connection, [_regression(row) for row in connection.execute(_regressions().limit(count))])


def counted(connection: Connection, rows: Sequence[Regression]) -> list[RegressionRow]:
    """Regressions with the number of their runs."""
    query = (
        select(run.c.regression_id, func.count(), func.count(run.c.bucket_id))
        .where(run.c.regression_id.in_([row.id for row in rows]))
        .group_by(run.c.regression_id)
    )
    counts = {one: (runs, failed) for one, runs, failed in connection.execute(query)}
    return [RegressionRow(row, *counts.get(row.id, (0, 0))) for row in rows]


def setups(connection: Connection, of: Regression) -> list[SetupRow]:
    """The tests of a regression in each configuration, those with failures first."""
    return _setups(connection, run.c.regression_id == of.id)


def buckets(connection: Connection, of: Regression) -> list[BucketRow]:
    """The failures of a regression, the most frequent first."""
    query = (
        select(bucket.c.id, bucket.c.signature, func.count().label("count"))
        .join(run, run.c.bucket_id == bucket.c.id)
        .where(run.c.regression_id == of.id)
        .group_by(bucket.c.id, bucket.c.signature)
        .order_by(desc("count"), bucket.c.signature)
    )
    return [BucketRow(**row._mapping) for row in connection.execute(query)]


def setups_of_bucket(connection: Connection, bucket_id: int) -> list[SetupRow]:
    """The tests and configurations that a bucket has failures of, the most frequent first."""
    return sorted(_setups(connection, run.c.bucket_id == bucket_id), key=lambda row: -row.runs)


def _setups(connection: Connection, chosen: ColumnElement[bool]) -> list[SetupRow]:
    query = (
        select(
            *(setup.c[name] for name in ("test", "sim", "config")),
            func.count().label("runs"),
            func.count(run.c.bucket_id).label("failed"),
            func.coalesce(func.sum(run.c.cycles), 0).label("cycles"),
            func.sum(run.c.wall_s).label("seconds"),
        )
        .join(run, run.c.setup_id == setup.c.id)
        .where(chosen)
        .group_by(setup.c.id, setup.c.test, setup.c.sim, setup.c.config)
        .order_by(desc("failed"), setup.c.test, setup.c.config)
    )
    rows = (row._mapping for row in connection.execute(query))
    return [SetupRow(**{**row, "cycles": int(row["cycles"])}) for row in rows]


def runs(connection: Connection, of: Regression, count: int) -> list[RunRow]:
    """The runs of a regression, those that failed first, then the slowest; `count` of them."""
    first = case((run.c.bucket_id.isnot(None), 0), else_=1)
    return _run_rows(connection, run.c.regression_id == of.id, count, first, run.c.wall_s.desc(), run.c.id)


def runs_of_bucket(connection: Connection, bucket_id: int, count: int) -> list[RunRow]:
    """The last failures of a bucket, the newest first."""
    return _run_rows(connection, run.c.bucket_id == bucket_id, count, run.c.id.desc())


def _run_rows(connection: Connection, chosen: ColumnElement[bool], count: int, *order: Any) -> list[RunRow]:
    query = (
        select(
            run.c.regression_id.label("regression"),
            revision.c.git,
            *(setup.c[name] for name in ("test", "sim", "config")),
            run.c.seed,
            run.c.bucket_id.label("bucket"),
            func.coalesce(bucket.c.signature, "").label("signature"),
            *(run.c[name] for name in ("wall_s", "cycles")),
            *(detail.c[name] for name in ("replay", "failure")),
        )
        .select_from(run)
        .join(revision, revision.c.id == run.c.revision_id)
        .join(setup, setup.c.id == run.c.setup_id)
        .join(detail, detail.c.run_id == run.c.id)
        .outerjoin(bucket, bucket.c.id == run.c.bucket_id)
        .where(chosen)
        .order_by(*order)
        .limit(count)
    )
    return [RunRow(**row._mapping) for row in connection.execute(query)]


def counts_of_bucket(connection: Connection, bucket_id: int) -> dict[int, int]:
    """How often a bucket has failed in each regression that it has failed in."""
    query = (
        select(run.c.regression_id, func.count().label("runs"))
        .where(run.c.bucket_id == bucket_id)
        .group_by(run.c.regression_id)
    )
    return {row.regression_id: row.runs for row in connection.execute(query)}


def simulators(connection: Connection) -> list[str]:
    """Those that have a regression."""
    query = select(regression.c.sim).distinct().order_by(regression.c.sim)
    return list(connection.execute(query).scalars())


def compared(connection: Connection, sim: str | None = None) -> tuple[Regression | None, Regression | None]:
    """The last regression (on a simulator, if it is given), and the last before it that ran a commit of main
    to its end, on the same simulator.
    """
    last = _regressions() if sim is None else _regressions().where(regression.c.sim == sim)
    row = connection.execute(last.limit(1)).first()
    if row is None:
        return None, None
    current = _regression(row)
    on_main = _regressions().where(
        regression.c.branch == MAIN,
        regression.c.sim == current.sim,
        regression.c.finished.is_(True),
        ~revision.c.git.like("%+"),
        or_(
            regression.c.started < current.started,
            and_(regression.c.started == current.started, regression.c.id < current.id),
        ),
    )
    base = connection.execute(on_main.limit(1)).first()
    return current, None if base is None else _regression(base)


def comparisons(connection: Connection) -> list[Comparison]:
    """One for each simulator that has a regression."""
    found = []
    for sim in simulators(connection):
        current, base = compared(connection, sim)
        if current is not None:
            found.append(Comparison(current, base, _states(connection, current, base)))
    return found


def failures(connection: Connection, count: int) -> Failures:
    """The buckets with failures: those of the last regression on each simulator and of the ones on main that
    they are compared with first, then those seen last; `count` of them.
    """
    found = comparisons(connection)
    states: dict[int, str] = {}
    for one in found:
        for which, state in one.states.items():
            states[which] = min(states.get(which, state), state, key=STATES.index)
    seen = _seen().order_by(case((bucket.c.id.in_(list(states)), 0), else_=1), desc("last_seen"), bucket.c.id)
    rows = connection.execute(seen.limit(count)).all()
    return Failures(found, [_failure(connection, row, states.get(row.id, "")) for row in rows])


def _failing(connection: Connection, of: Regression | None) -> dict[int, set[int]]:
    """The buckets of a regression's failures, with the setups that failed."""
    if of is None:
        return {}
    query = (
        select(run.c.bucket_id, run.c.setup_id)
        .where(run.c.regression_id == of.id, run.c.bucket_id.isnot(None))
        .distinct()
    )
    found: dict[int, set[int]] = {}
    for one, where in connection.execute(query):
        found.setdefault(one, set()).add(where)
    return found


def _states(connection: Connection, current: Regression, base: Regression | None) -> dict[int, str]:
    """Of each bucket that has failed in one of the two."""
    now, before = _failing(connection, current), _failing(connection, base)
    ran = set(
        connection.execute(
            select(run.c.setup_id).where(run.c.regression_id == current.id).distinct()
        ).scalars()
    )
    gone = {one: "fixed" if where <= ran else "not run" for one, where in before.items() if one not in now}
    return {one: "known" if one in before else "new" for one in now} | gone


def _seen() -> Select[Any]:
    """Of each bucket: how often, in how many regressions, with how many seeds, from when to when."""
    # by regression first: that takes the index alone, and leaves few rows
    each = (
        select(run.c.bucket_id, run.c.regression_id, func.count().label("runs"))
        .where(run.c.bucket_id.isnot(None))
        .group_by(run.c.bucket_id, run.c.regression_id)
        .subquery()
    )
    return (
        select(
            bucket.c.id,
            bucket.c.signature,
            func.sum(each.c.runs).label("runs"),
            func.count().label("regressions"),
            func.min(regression.c.started).label("first_seen"),
            func.max(regression.c.started).label("last_seen"),
        )
        .join(each, each.c.bucket_id == bucket.c.id)
        .join(regression, regression.c.id == each.c.regression_id)
        .group_by(bucket.c.id, bucket.c.signature)
    )


def _failure(connection: Connection, row: Row[Any], state: str) -> Failure:
    of = run.c.bucket_id == row.id
    tests = select(setup.c.test).where(setup.c.id.in_(select(run.c.setup_id).where(of).distinct()))
    runs = (
        select(revision.c.git, detail.c.message, detail.c.replay)
        .select_from(run)
        .join(revision, revision.c.id == run.c.revision_id)
        .join(detail, detail.c.run_id == run.c.id)
        .where(of)
        .order_by(run.c.id)
        .limit(1)
    )
    first, last = (
        connection.execute(
            runs.where(run.c.regression_id.in_(select(regression.c.id).where(regression.c.started == when)))
        ).one()
        for when in (row.first_seen, row.last_seen)
    )
    seeds = select(run.c.seed).where(of).distinct().order_by(run.c.seed).limit(EXAMPLES)
    return Failure(
        id=row.id,
        signature=row.signature,
        state=state,
        count=int(row.runs),
        regressions=row.regressions,
        tests=tuple(connection.execute(tests.distinct().order_by(setup.c.test)).scalars()),
        seeds=tuple(connection.execute(seeds).scalars()),
        seed_count=connection.execute(select(func.count(distinct(run.c.seed))).where(of)).scalar_one(),
        first=first.git,
        first_seen=row.first_seen,
        last=last.git,
        last_seen=row.last_seen,
        message=last.message,
        replay=last.replay,
    )


def flaky(connection: Connection, count: int) -> list[Flaky]:
    """At most `count`. Runs with files that differ from their commit are left out: those files may have been
    others each time.
    """
    key = (run.c.revision_id, run.c.setup_id, run.c.seed)
    result = func.coalesce(run.c.bucket_id, 0)
    cycles = func.coalesce(run.c.cycles, -1)
    different = {
        "result": func.min(result) != func.max(result),
        "cycles": func.min(cycles) != func.max(cycles),
        "compared bytes": func.min(run.c.compared_bytes) != func.max(run.c.compared_bytes),
    }
    clean = select(revision.c.id).where(revision.c.git != "", ~revision.c.git.like("%+"))
    found = (
        select(
            *key,
            func.count().label("runs"),
            func.count(run.c.bucket_id).label("failed"),
            *(case((differs, 1), else_=0).label(name) for name, differs in different.items()),
        )
        .where(run.c.revision_id.in_(clean))
        .group_by(*key)
        .having(or_(*different.values()))
        .limit(count)
        .subquery()
    )
    query = (
        select(revision.c.git, setup.c.test, setup.c.sim, setup.c.config, *found.c)
        .join(found, found.c.revision_id == revision.c.id)
        .join(setup, setup.c.id == found.c.setup_id)
        .order_by(revision.c.id.desc(), setup.c.test, found.c.seed)
    )
    return [
        Flaky(
            **{
                name: row._mapping[name]
                for name in ("git", "test", "sim", "config", "seed", "runs", "failed")
            },
            differs=", ".join(name for name in different if row._mapping[name]),
        )
        for row in connection.execute(query)
    ]


def slow(connection: Connection, sim: str | None = None) -> tuple[Regression | None, list[Slow]]:
    """The last regression (on a simulator, if it is given), and its tests in each configuration, the slowest
    first.
    """
    current, _ = compared(connection, sim)
    if current is None:
        return None, []
    kind = select(regression.c.machine_id).where(regression.c.id == current.id).scalar_subquery()
    times = (
        select(setup.c.id, setup.c.test, setup.c.config, func.count().label("runs"), func.avg(run.c.wall_s))
        .join(run, run.c.setup_id == setup.c.id)
        .where(run.c.regression_id == current.id)
        .group_by(setup.c.id, setup.c.test, setup.c.config)
    )
    found = []
    for which, test, config, runs, seconds in connection.execute(times):
        before = (
            select(func.avg(run.c.wall_s))
            .join(regression, regression.c.id == run.c.regression_id)
            .where(
                run.c.machine_id == kind,
                run.c.setup_id == which,
                regression.c.started < current.started,
            )
            .group_by(regression.c.id, regression.c.started)
            .order_by(regression.c.started.desc())
            .limit(LAST)
        )
        earlier = list(connection.execute(before).scalars())
        typical = median(earlier) if earlier else None
        found.append(Slow(test, config, runs, seconds, typical, len(earlier)))
    return current, sorted(found, key=lambda one: -one.seconds)


def coverages(connection: Connection, count: int) -> list[Coverage]:
    """The last ones, the newest first."""
    query = (
        select(coverage, revision.c.git)
        .join(revision, revision.c.id == coverage.c.revision_id)
        .order_by(coverage.c.started.desc(), coverage.c.id.desc())
        .limit(count)
    )
    return [
        Coverage(
            **{name: getattr(row, name) for name in ("started", "git", "branch", "whole", "runs", "failed")},
            figures=(row.functional_percent, row.line_percent, row.branch_percent, row.toggle_percent),
        )
        for row in connection.execute(query)
    ]


def changed_points(connection: Connection) -> list[PointChange]:
    """Between the last two whole coverages."""
    query = (
        select(coverage.c.id)
        .where(coverage.c.whole)
        .order_by(coverage.c.started.desc(), coverage.c.id.desc())
        .limit(2)
    )
    ids = list(connection.execute(query).scalars())
    if len(ids) < 2:
        return []
    rows: dict[str, dict[int, str]] = {}
    for one, name, hit, bins in connection.execute(
        select(coverpoint).where(coverpoint.c.coverage_id.in_(ids)).order_by(coverpoint.c.name)
    ):
        rows.setdefault(name, {})[one] = f"{hit} of {bins}"
    return [
        PointChange(name, seen.get(ids[1], "none"), seen.get(ids[0], "none"))
        for name, seen in rows.items()
        if seen.get(ids[0]) != seen.get(ids[1])
    ]
