"""What the history answers, held against counts in plain Python over the same records."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np
import pytest

from scripts import history as command
from tb.flow.history import bench, intake, questions
from tb.flow.history.database import Database
from tb.flow.pages.verification import ask
from tests.flow.test_history import failed, folder, line, postgresql, summary, url

__all__ = ["postgresql", "url"]  # fixtures

A, B, C = (letter * 40 for letter in "abc")


def history(at: str, parent: Path, regressions: list[list[dict[str, Any]]]) -> Database:
    """Each regression as the lines of its records, the oldest first. They come in the other way round: what
    was first does not follow from the order of the rows.
    """
    opened = Database(at)
    folders = [
        folder(parent, lines, name=f"20260101-0000{n:02}-000000") for n, lines in enumerate(regressions)
    ]
    for one in reversed(folders):
        intake.take_in(opened, one)
    return opened


def made_up(rng: np.random.Generator) -> list[list[dict[str, Any]]]:
    """Regressions of a few tests, whose seeds come again on the same commits."""
    found = []
    for n in range(24):
        git, tools = (A, B, C, f"{C}+")[n // 6], {"cpu": f"{n % 2} x cpu"}
        lines = []
        for _ in range(int(rng.integers(5, 30))):
            test, config = f"t{rng.integers(3)}", ("4x2", "8x4")[rng.integers(2)]
            origin = {"git": git, "tools": tools, "branch": ("main", "work")[n % 3 == 0]}
            seconds = float(rng.integers(1, 9))
            common = {
                **origin,
                "test": test,
                "config": config,
                "seed": int(rng.integers(12)),
                "wall_s": seconds,
            }
            fails = rng.random() < 0.2
            cycles = 700 + int(rng.random() < 0.05)
            lines.append(
                failed(f"bucket {rng.integers(6)}", **common) if fails else line(**common, cycles=cycles)
            )
        found.append(lines)
    return found


def test_failures_since_when_and_how_often(url: str, tmp_path: Path) -> None:
    regressions = made_up(np.random.default_rng(5))
    opened = history(url, tmp_path, regressions)
    with opened.reading() as connection:
        found = questions.failures(connection, 100)
    by_bucket: dict[str, list[tuple[int, dict[str, Any]]]] = defaultdict(list)
    for n, lines in enumerate(regressions):
        for row in lines:
            if row["result"] == "fail":
                by_bucket[row["signature"]].append((n, row))
    assert {one.signature for one in found.buckets} == by_bucket.keys()
    for one in found.buckets:
        runs = by_bucket[one.signature]
        seeds = sorted({r["seed"] for _, r in runs})
        assert one.count == len(runs)
        assert one.regressions == len({n for n, _ in runs})
        assert (one.first, one.last) == (runs[0][1]["git"], runs[-1][1]["git"])
        assert (one.first_seen.second, one.last_seen.second) == (runs[0][0], runs[-1][0])
        assert (one.seeds, one.seed_count) == (tuple(seeds[: questions.EXAMPLES]), len(seeds))
        assert one.tests == tuple(sorted({r["test"] for _, r in runs}))
        assert one.message == f"8 of 9: {one.signature}"
    (compared,) = found.comparisons
    assert compared.current.started.second == 23
    assert compared.base is not None
    assert compared.base.started.second == 17  # the last of main without changed files


def test_new_known_and_fixed_against_the_last_regression_on_main(url: str, tmp_path: Path) -> None:
    """A bucket is fixed only if all that failed in it has run again."""
    on_main = [
        failed("known"),
        failed("fixed", test="t"),
        failed("half", test="t"),
        failed("half", test="u"),
    ]
    later = [failed("not on main", git=B, branch="work")]
    now = [failed("known", git=C), line(test="t", git=C), failed("new", git=C), failed("not on main", git=C)]
    opened = history(
        url, tmp_path, [[failed("old")], on_main, later, [{**one, "branch": "work"} for one in now]]
    )
    with opened.reading() as connection:
        found = questions.failures(connection, 100)
        first = questions.failures(connection, 3)
    assert {one.signature: one.state for one in found.buckets} == {
        **{"known": "known", "fixed": "fixed", "half": "not run", "new": "new", "not on main": "new"},
        "old": "",
    }
    assert found.buckets[-1].signature == "old"
    assert [one.signature for one in first.buckets] == ["known", "new", "not on main"]


def test_a_base_is_on_main_on_the_same_simulator_clean_and_finished(tmp_path: Path) -> None:
    opened = Database(f"sqlite:///{tmp_path}/history.db")
    others = {"sim": "icarus", "branch": "work", "git": f"{A}+"}
    lines = [line(), *(line(**{name: value}) for name, value in others.items()), line(), line(branch="work")]
    for n, one in enumerate(lines):
        finished = n != 4
        intake.take_in(opened, folder(tmp_path, [one], finished, name=f"20260101-0000{n:02}-000000"))
    with opened.reading() as connection:
        current, base = questions.compared(connection)
    assert current is not None
    assert base is not None
    assert (current.started.second, base.started.second) == (5, 0)


def test_what_comes_out_differently_on_one_commit_is_found(url: str, tmp_path: Path) -> None:
    regressions = made_up(np.random.default_rng(6))
    opened = history(url, tmp_path, regressions)
    outcomes: dict[tuple[Any, ...], list[tuple[Any, ...]]] = defaultdict(list)
    for row in (row for lines in regressions for row in lines if not row["git"].endswith("+")):
        key = tuple(row[name] for name in ("git", "test", "sim", "config", "seed"))
        outcomes[key].append((row["signature"], row["cycles"]))
    wanted = {key: runs for key, runs in outcomes.items() if len(set(runs)) > 1}
    with opened.reading() as connection:
        found = questions.flaky(connection, 1000)
    assert len(wanted) > 10
    assert {(one.git, one.test, one.sim, one.config, one.seed) for one in found} == wanted.keys()
    for one in found:
        runs = wanted[one.git, one.test, one.sim, one.config, one.seed]
        assert (one.runs, one.failed) == (len(runs), sum(bool(signature) for signature, _ in runs))
        what = [name for name, i in (("result", 0), ("cycles", 1)) if len({run[i] for run in runs}) > 1]
        assert one.differs == ", ".join(what)


def test_times_are_compared_with_the_last_ten_on_the_same_kind_of_machine(url: str, tmp_path: Path) -> None:
    regressions = made_up(np.random.default_rng(7))
    opened = history(url, tmp_path, regressions)
    with opened.reading() as connection:
        current, found = questions.slow(connection)
    assert current is not None
    assert current.kind == "1 x cpu"

    def times(lines: list[dict[str, Any]], test: str, config: str) -> list[float]:
        return [one["wall_s"] for one in lines if (one["test"], one["config"]) == (test, config)]

    assert {(one.test, one.config) for one in found} == {(r["test"], r["config"]) for r in regressions[-1]}
    assert [one.seconds for one in found] == sorted((one.seconds for one in found), reverse=True)
    for one in found:
        now = times(regressions[-1], one.test, one.config)
        before = [
            mean(seen)
            for lines in regressions[-3::-2]  # of every other machine
            if (seen := times(lines, one.test, one.config))
        ][:10]
        assert (one.runs, one.of) == (len(now), len(before))
        assert one.seconds == pytest.approx(mean(now))
        assert one.median == pytest.approx(median(before))


def test_coverage_over_time_and_the_points_that_changed(url: str, tmp_path: Path) -> None:
    opened = Database(url)
    path = summary(tmp_path, 90.0)
    rows = [json.loads(path.read_text()) for _ in range(4)]
    for day, (row, hit, whole) in enumerate(
        zip(rows, (1, 2, 3, 0), (True, True, True, False), strict=True), 1
    ):
        row.update(when=f"2026-01-0{day}T00:00:00", whole=whole)
        row["points"] = {"a.cp_x": {"hit": hit, "bins": 4}, "a.cp_y": {"hit": 1, "bins": 1}}
    rows[2]["points"]["a.cp_z"] = {"hit": 0, "bins": 2}
    path.write_text("".join(json.dumps(row) + "\n" for row in rows[::-1]))
    intake.take_in(opened, path)
    with opened.reading() as connection:
        assert [one.started.day for one in questions.coverages(connection, 3)] == [4, 3, 2]
        assert questions.coverages(connection, 1)[0].figures == (90.0,) * 4
        changed = questions.changed_points(connection)
    assert [(one.name, one.before, one.after) for one in changed] == [
        ("a.cp_x", "2 of 4", "3 of 4"),
        ("a.cp_z", "none", "0 of 2"),
    ]


def test_the_bench_finds_what_it_has_planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And notices an answer that is wrong."""
    monkeypatch.setattr(bench, "RUNS", 40_000)
    monkeypatch.setattr(bench, "COVERAGES", 20)
    opened = Database(f"sqlite:///{tmp_path}/history.db")
    planted = bench.make_up(opened, bench.RUNS, np.random.default_rng(1))
    with opened.reading() as connection:
        assert {name: ask() for name, ask in bench.asked(connection, planted)} == dict.fromkeys(
            ("failures", "flaky", "slow", "coverage", "overview"), True
        )
    with opened.writing() as connection:
        connection.exec_driver_sql("UPDATE run SET cycles = 0, wall_s = 1, bucket_id = NULL WHERE line < 65")
        connection.exec_driver_sql("UPDATE coverpoint SET hit = 0")
        connection.exec_driver_sql("DELETE FROM regression WHERE id > 10")
    with opened.reading() as connection:
        assert not any(ask() for _, ask in bench.asked(connection, planted))


# The command


def asked(
    capsys: pytest.CaptureFixture[str], at: str, ask: str, status: int = 0
) -> tuple[dict[str, Any], str]:
    assert command.main([f"--history={at}", f"--ask={ask}"]) == status
    out = capsys.readouterr().out
    return json.loads(out.splitlines()[-1].removeprefix("HISTORY ")), out


def test_each_question_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    at = f"sqlite:///{tmp_path}/history.db"
    opened = history(
        at, tmp_path, [[line(wall_s=2.0), failed("a [b]")], [line(wall_s=5.0), failed("c", git=B)]]
    )
    intake.take_in(opened, summary(tmp_path))
    figures, out = asked(capsys, at, "failures")
    assert figures == {
        **{"ask": "failures", "buckets": 2, "new": 1, "known": 0, "fixed": 1, "not run": 0},
    }
    assert "before it on main: 20260101-000000-000000, verilator, 01234567 of main" in out
    assert "a [b]" in out
    assert "new: c\n  | 8 of 9: c\n  make sim TEST=random SEED=1" in out
    figures, out = asked(capsys, at, "slow")
    assert (figures["tests"], figures["slower"]) == (1, 1)
    assert "1.86" in out  # the means of 5.0 and 1.5, and of 2.0 and 1.5
    figures, out = asked(capsys, at, "coverage")
    assert figures["coverages"] == 1
    assert "90.00" in out


def test_each_simulator_is_asked_about(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Not only the one of the last regression."""
    at = f"sqlite:///{tmp_path}/history.db"
    history(at, tmp_path, [[failed("v")], [line(sim="icarus", test="t")]])
    figures, out = asked(capsys, at, "failures")
    assert (figures["buckets"], figures["new"]) == (1, 1)
    assert out.count("the last regression: ") == 2
    figures, out = asked(capsys, at, "slow")
    assert figures["tests"] == 2
    assert out.count("the last regression: ") == 2


def test_flaky_runs_are_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    at = f"sqlite:///{tmp_path}/history.db"
    opened = history(at, tmp_path, [[line(seed=1), line(seed=2)]])
    figures, out = asked(capsys, at, "flaky")
    assert figures["flaky"] == 0
    assert "came out the same" in out
    intake.take_in(opened, folder(tmp_path, [failed("now", seed=2), line(seed=1, config="8x4", cycles=1)]))
    figures, out = asked(capsys, at, "flaky", status=1)
    assert figures["flaky"] == 1
    assert "result, cycles" not in out
    assert "result" in out


# What pages ask


def test_a_regression_is_taken_apart(url: str, tmp_path: Path) -> None:
    regressions = made_up(np.random.default_rng(6))
    opened = history(url, tmp_path, regressions)
    with opened.reading() as connection:
        for n, row in enumerate(reversed(questions.last_regressions(connection, 100))):
            lines = regressions[n]
            by_setup: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
            for one in lines:
                by_setup[one["test"], one["config"]].append(one)
            found = questions.setups(connection, row.regression)
            assert {
                (one.test, one.config): (one.runs, one.failed, one.cycles, one.seconds) for one in found
            } == {
                name: (
                    len(ones),
                    sum(one["result"] == "fail" for one in ones),
                    sum(one["cycles"] for one in ones),
                    sum(one["wall_s"] for one in ones),
                )
                for name, ones in by_setup.items()
            }
            fails = [one.failed > 0 for one in found]
            assert fails == sorted(fails, reverse=True)
            signatures = [one["signature"] for one in lines if one["result"] == "fail"]
            kinds = questions.buckets(connection, row.regression)
            assert {one.signature: one.count for one in kinds} == {
                name: signatures.count(name) for name in signatures
            }
            runs = questions.runs(connection, row.regression, 8)
            order = sorted(lines, key=lambda one: (one["result"] == "pass", -one["wall_s"]))
            assert [(one.seed, one.signature, one.replay, one.wall_s) for one in runs] == [
                tuple(one[name] for name in ("seed", "signature", "replay", "wall_s")) for one in order[:8]
            ]
            assert all((one.bucket is None) == (one.signature == "") for one in runs)


def test_a_bucket_is_taken_apart(url: str, tmp_path: Path) -> None:
    regressions = made_up(np.random.default_rng(7))
    opened = history(url, tmp_path, regressions)
    with opened.reading() as connection:
        numbers = {row.regression.id: row.regression for row in questions.last_regressions(connection, 100)}
        for bucket in questions.failures(connection, 100).buckets:
            of = [[one for one in lines if one["signature"] == bucket.signature] for lines in regressions]
            counts = questions.counts_of_bucket(connection, bucket.id)
            assert {numbers[one].started.second: count for one, count in counts.items()} == {
                n: len(ones) for n, ones in enumerate(of) if ones
            }
            setups = questions.setups_of_bucket(connection, bucket.id)
            assert sum(one.failed for one in setups) == bucket.count
            assert [one.runs for one in setups] == sorted((one.runs for one in setups), reverse=True)
            runs = questions.runs_of_bucket(connection, bucket.id, 3)
            assert len(runs) == min(3, bucket.count)
            assert {one.signature for one in runs} == {bucket.signature}
            assert {one.failure for one in runs} == {"build/failures/x"}


def test_each_simulator_is_compared_with_itself(url: str, tmp_path: Path) -> None:
    regressions = [
        [failed("v")],
        [failed("i", sim="icarus")],
        [failed("v", git=B), failed("both", git=B)],
        [line(sim="icarus", git=B), failed("both", sim="icarus", git=B)],
    ]
    opened = history(url, tmp_path, regressions)
    with opened.reading() as connection:
        names = {one.id: one.signature for one in questions.failures(connection, 100).buckets}
        found = {one.current.sim: one for one in questions.comparisons(connection)}
        states = {one.signature: one.state for one in questions.failures(connection, 100).buckets}
        on_pages = {one.signature: one.state for one in ask(connection, 10).failures}
        assert questions.slow(connection, "verilator")[0] == found["verilator"].current
    assert {
        sim: {names[which]: state for which, state in one.states.items()} for sim, one in found.items()
    } == {"verilator": {"v": "known", "both": "new"}, "icarus": {"i": "fixed", "both": "new"}}
    # of both, whichever regression is the last
    assert states == on_pages == {"v": "known", "both": "new", "i": "fixed"}
    assert {sim: one.base.started.second for sim, one in found.items() if one.base} == {
        "verilator": 0,
        "icarus": 1,
    }
