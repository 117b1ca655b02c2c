"""The testplan names what there is, everything that there is, and is rendered as it stands; and each of its checks can fail."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pymodel.errors import TatamiError
from scripts import testplan as command
from tb import regress, testplan
from tb.testplan import LastRuns, Registry, Testpoint

THERE = Registry(
    tests=["random", "errors", "block_pe", "block_pe_2"],
    blocks=["block_pe"],
    cocotb=["errors::bad_packets"],
    pytests=["tests/test_pack.py", "tests/test_pack.py::test_round_trip"],
    coverpoints=["cp_words", "cp_words_x_passes"],
)
PLAN = [
    Testpoint("Networks", "networks", "V1", "They run.", ("random", "block_pe"), ("cp_words*",)),
    Testpoint("Networks", "errors", "V2", "They are caught.", ("errors::bad_packets", "tests/test_pack.py::test_round_trip")),
]
SAMPLED = {"cp_words": 3, "cp_words_x_passes": 1}


def test_the_project_s_plan_fits_its_tests_and_coverpoints() -> None:
    assert testplan.problems(testplan.load_plan(), testplan.registry(), None) == []


def test_the_rendered_plan_is_the_plan() -> None:
    """`make testplan` writes it."""
    assert testplan.RENDERED.read_text() == testplan.render(testplan.load_plan())


def test_a_sound_plan_has_no_problems() -> None:
    assert testplan.problems(PLAN, THERE, SAMPLED) == []
    assert testplan.unplanned(PLAN, THERE) == []


Change = Callable[[], tuple[list[Testpoint], Registry, dict[str, int] | None]]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda: ([replace(PLAN[0], tests=()), *PLAN], THERE, None), "testpoint 'networks': has no test"),
        (
            lambda: ([replace(PLAN[0], tests=("random", "block_pe", "gone")), PLAN[1]], THERE, None),
            "testpoint 'networks': test 'gone' does not exist",
        ),
        (
            lambda: ([PLAN[0], replace(PLAN[1], tests=(*PLAN[1].tests, "errors::gone"))], THERE, None),
            "testpoint 'errors': test 'errors::gone' does not exist",
        ),
        (lambda: ([PLAN[0], replace(PLAN[1], name="networks")], THERE, None), "testpoint 'networks': the name is taken twice"),
        (lambda: ([replace(PLAN[0], stage="V9"), PLAN[1]], THERE, None), "testpoint 'networks': stage 'V9' is none of V1, V2, V3"),
        (lambda: (PLAN[:1], THERE, None), "test 'errors' is in no testpoint"),
        (lambda: (PLAN[:1], THERE, None), "test 'tests/test_pack.py' is in no testpoint"),
        (lambda: ([replace(PLAN[0], tests=("random",)), PLAN[1]], THERE, None), "test 'block_pe' is in no testpoint"),
        (lambda: ([replace(PLAN[0], coverpoints=("cp_gone",)), PLAN[1]], THERE, None), "testpoint 'networks': coverpoint 'cp_gone' does not exist"),
        (lambda: (PLAN, THERE, {"cp_words": 3}), "testpoint 'networks': coverpoint 'cp_words_x_passes' was never sampled"),
    ],
)
def test_each_problem_is_found(change: Change, problem: str) -> None:
    assert problem in testplan.problems(*change())


def test_coverpoints_that_nobody_asks_for_are_named() -> None:
    assert testplan.unplanned(PLAN[1:], THERE) == ["cp_words", "cp_words_x_passes"]


def test_sampled_points_are_added_up_by_name(tmp_path: Path) -> None:
    path = tmp_path / "points.json"
    assert testplan.read_sampled(path) is None
    path.write_text(json.dumps({"points": {"slot.cp_select_x_row.on_4x2": 2, "slot.cp_select_x_row.on_8x4": 3, "layer.cp_words": 0}}))
    assert testplan.read_sampled(path) == {"cp_select_x_row": 5, "cp_words": 0}


def test_results_are_those_of_the_newest_regression_of_each_simulator(tmp_path: Path) -> None:
    for stamp, sim, rows in (
        ("1", "verilator", [("random", "fail")]),
        ("2", "verilator", [("random", "pass"), ("random", "fail"), ("block_pe", "pass"), ("block_pe_2", "pass"), ("block_pe_array", "pass")]),
        ("3", "icarus", [("random", "pass")]),
    ):
        folder = tmp_path / stamp
        folder.mkdir()
        (folder / regress.SUMMARY).write_text(json.dumps({"sim": sim}))
        (folder / regress.RUNS).write_text("\n".join(json.dumps({"test": test, "result": result}) for test, result in rows))
    (tmp_path / "4").mkdir()  # goes on still
    last = testplan.read_last_runs(tmp_path)
    assert last.records == ("icarus 3", "verilator 2")
    assert last.of("random") == (2, 3)
    assert last.of("block_pe") == (2, 2)
    assert last.of("errors") is None


def test_the_plan_with_results() -> None:
    last = LastRuns(("verilator 1",), {"random": (9, 10), "block_pe": (1, 1), "block_pe_2": (1, 1)})
    results = [testplan.result_of(point, THERE, {"cp_words": 3}, last) for point in PLAN]
    assert [result.texts() for result in results] == [("11/12", "1/2"), ("-", "-")]
    assert testplan.result_of(PLAN[0], THERE, None, last).texts() == ("11/12", "?/2")
    page = testplan.render(PLAN, results)
    assert "| coverpoints | runs passed | covered |" in page
    assert "`cp_words*` | 11/12 | 1/2 |" in page


def test_a_problem_is_exit_status_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    plan = [*PLAN, replace(PLAN[0], name="more", tests=("gone",))]
    monkeypatch.setattr(testplan, "RENDERED", testplan.runner.ROOT / "build" / f"testplan-{tmp_path.name}.md")
    monkeypatch.setattr(testplan, "WITH_RESULTS", testplan.runner.ROOT / "build" / f"testplan-{tmp_path.name}-results.md")
    monkeypatch.setattr(testplan, "load_plan", lambda: plan)
    monkeypatch.setattr(testplan, "registry", lambda: THERE)
    monkeypatch.setattr(testplan, "read_sampled", lambda: None)
    monkeypatch.setattr(testplan, "read_last_runs", lambda: LastRuns((), {}))
    assert command.main() == 1
    text = capsys.readouterr().out
    assert "PROBLEM testpoint 'more': test 'gone' does not exist" in text
    assert "coverage: not checked" in text
    plan.pop()
    assert command.main() == 0
    assert "2 testpoints, 0 problems" in capsys.readouterr().out
    assert "runs passed" in testplan.WITH_RESULTS.read_text()
    for path in (testplan.RENDERED, testplan.WITH_RESULTS):
        path.unlink()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "while parsing"),
        ("just text", "not a list of features"),
        ("- feature: A", "not a list of features with testpoints: 'points'"),
        ("- {feature: A, points: [{name: a, stage: V1, intent: b, test: [c]}]}", "testpoint 'a': unknown field 'test'"),
        ("- {feature: A, points: [{name: a, stage: V1, intent: b, tests: c}]}", "testpoint 'a': tests is not a list"),
    ],
)
def test_a_file_that_is_no_plan_is_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "testplan.yaml"
    path.write_text(text)
    with pytest.raises(TatamiError, match=message):
        testplan.load_plan(path)
