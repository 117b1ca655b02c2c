"""The pages of the history: overview, regressions, failures in buckets, slow and flaky tests."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from tb.flow.coverage.report import TARGETS
from tb.flow.history import questions
from tb.flow.history.questions import (
    Comparison,
    Coverage,
    Failure,
    Flaky,
    PointChange,
    Regression,
    RegressionRow,
    Slow,
    Totals,
)
from tb.flow.pages import evidence
from tb.flow.pages.site import INDEX, Site, commit, when
from tb.flow.pages.trend import Line, Trend

FAILURES, TESTS = "failures.html", "tests.html"
POINTS = 60  # regressions and coverages of a trend line
BUCKETS = 200  # that have a page
ROWS = 1000  # runs on the page of a regression
KINDS = 500  # kinds of failure on it
MESSAGE = 20_000  # characters
BUCKET_ROWS = 50  # runs on the page of a bucket
FLAKY = 500
SLOWER = 1.2  # times the median of before
RANK = (*questions.STATES, "")  # the worst first


@dataclass(frozen=True)
class Answers:
    """All that overview and summary show. `regressions` are the last ones, the newest first; `failures`, the
    last `BUCKETS`, those that concern the last regressions first.
    """

    totals: Totals
    regressions: list[RegressionRow]
    comparisons: list[Comparison]
    failures: list[Failure]
    flaky: list[Flaky]
    slow: list[tuple[Regression, list[Slow]]]
    coverages: list[Coverage]
    changed: list[PointChange]

    @property
    def ended(self) -> list[tuple[Comparison, RegressionRow]]:
        """The last regression on each simulator, compared and counted."""
        rows = {row.regression.id: row for row in self.regressions}
        return [(one, rows[one.current.id]) for one in self.comparisons]

    def of(self, *states: str) -> list[Failure]:
        return [one for one in self.failures if one.state in states]

    @property
    def slower(self) -> list[tuple[Regression, Slow]]:
        """The tests that take longer than before, the worst first."""
        found = [(of, one) for of, tests in self.slow for one in tests if (one.ratio or 0) >= SLOWER]
        return sorted(found, key=lambda pair: -(pair[1].ratio or 0))


def ask(connection: Connection, count: int) -> Answers:
    """Everything but what the pages of single regressions and buckets show; `count` regressions."""
    found = questions.failures(connection, BUCKETS)
    comparisons = found.comparisons
    regressions = questions.last_regressions(connection, max(count, POINTS))
    known = {row.regression.id for row in regressions}
    missing = [one.current for one in comparisons if one.current.id not in known]
    regressions += questions.counted(connection, missing)
    return Answers(
        totals=questions.totals(connection),
        regressions=regressions,
        comparisons=comparisons,
        failures=sorted(found.buckets, key=lambda one: (RANK.index(one.state), -one.last_seen.timestamp())),
        flaky=questions.flaky(connection, FLAKY),
        slow=[(one.current, questions.slow(connection, one.current.sim)[1]) for one in comparisons],
        coverages=questions.coverages(connection, POINTS),
        changed=questions.changed_points(connection),
    )


@dataclass(frozen=True)
class Linked:
    """Which regressions and buckets have a page."""

    regressions: frozenset[int]
    buckets: frozenset[int]

    def regression(self, which: int) -> str:
        return f"regression-{which}.html" if which in self.regressions else ""

    def bucket(self, which: int | None) -> str:
        return f"bucket-{which}.html" if which in self.buckets else ""


def write(site: Site, connection: Connection, answers: Answers, count: int) -> None:
    """All of them; the last `count` regressions have a page each, and the last of each simulator."""
    shown = answers.regressions[:count] + [row for _, row in answers.ended]
    linked = Linked(
        frozenset(row.regression.id for row in shown), frozenset(one.id for one in answers.failures)
    )
    site.write(
        INDEX,
        "overview.html",
        answers=answers,
        targets=TARGETS,
        linked=linked,
        trends=(*trends_of_regressions(answers.regressions), *trends_of_coverage(answers.coverages)),
    )
    site.write(FAILURES, "failures.html", answers=answers, linked=linked)
    site.write(TESTS, "tests.html", answers=answers, slower=SLOWER, most=FLAKY)
    for row in {row.regression.id: row for row in shown}.values():
        write_regression(site, connection, row, linked)
    names = {row.regression.id: row.regression for row in answers.regressions}
    for one in answers.failures:
        write_bucket(site, connection, one, names, linked)


def write_regression(site: Site, connection: Connection, row: RegressionRow, linked: Linked) -> None:
    which = row.regression
    site.write(
        linked.regression(which.id),
        "regression.html",
        section=INDEX,
        row=row,
        linked=linked,
        kinds=KINDS,
        buckets=questions.buckets(connection, which),
        setups=questions.setups(connection, which),
        runs=questions.runs(connection, which, ROWS),
    )


def write_bucket(
    site: Site, connection: Connection, one: Failure, names: dict[int, Regression], linked: Linked
) -> None:
    runs = questions.runs_of_bucket(connection, one.id, BUCKET_ROWS)
    counts = questions.counts_of_bucket(connection, one.id)
    last = sorted(names.values(), key=lambda r: (r.started, r.id))[-POINTS:]
    site.write(
        linked.bucket(one.id),
        "bucket.html",
        section=FAILURES,
        one=one,
        message=one.message[:MESSAGE],
        setups=questions.setups_of_bucket(connection, one.id),
        runs=runs,
        names=names,
        linked=linked,
        kept=evidence.best([run.failure for run in runs], one.message),
        trend=Trend(
            f"failures in each of the last {len(last)} regressions",
            [Line("failures", [float(counts.get(r.id, 0)) for r in last])],
            [place(r) for r in last],
            low=0,
            high=1,
        ),
    )


def place(one: Regression) -> str:
    return f"{when(one.started)} {commit(one.git)}"


def trends_of_regressions(rows: Sequence[RegressionRow]) -> list[Trend]:
    """A line for each simulator, over the last regressions of all."""
    last = sorted(rows, key=lambda row: (row.regression.started, row.regression.id))[-POINTS:]
    sims = sorted({row.regression.sim for row in last})
    places = [f"{place(row.regression)} {row.regression.branch}" for row in last]

    def lines(value: dict[int, float | None]) -> list[Line]:
        return [
            Line(sim, [value[r.regression.id] if r.regression.sim == sim else None for r in last])
            for sim in sims
        ]

    passed = {
        row.regression.id: 100 * (row.runs - row.failed) / row.runs if row.runs else None for row in last
    }
    minutes = {
        row.regression.id: None if row.regression.wall_s is None else row.regression.wall_s / 60
        for row in last
    }
    return [
        Trend("runs passed, percent", lines(passed), places, "%", high=100),
        Trend("time of a regression, minutes", lines(minutes), places, " min", low=0),
    ]


def trends_of_coverage(rows: Sequence[Coverage]) -> list[Trend]:
    """Of those that were of all runs."""
    last = [row for row in reversed(rows) if row.whole]
    lines = [Line(name, [row.figures[index] for row in last]) for index, name in enumerate(TARGETS)]
    places = [f"{when(row.started)} {commit(row.git)}" for row in last]
    return [Trend("coverage, percent", lines, places, "%", high=100)]


def cell(text: str) -> str:
    """Text in a table of Markdown, none of it Markdown or HTML itself."""
    plain = " ".join(text.split())
    return re.sub(r"([\\`*_{}\[\]<>#|~&@])", r"\\\1", plain)
