"""The testplan names what there is, everything that there is, and is rendered as it stands; and each of its
checks can fail.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from pymodel.machine.errors import TatamiError
from scripts import testplan as command
from tb.flow import regress
from tb.flow.testplan import last_results
from tb.flow.testplan import plan as testplan
from tb.flow.testplan.last_results import LastResults, PointResult, TestResult
from tb.flow.testplan.plan import Registry, Testpoint

THERE = Registry(
    tests=["random", "errors", "block_pe", "block_pe_2"],
    blocks=["block_pe"],
    cocotb=["errors::bad_packets"],
    pytests=["tests/packing/test_pack.py", "tests/packing/test_pack.py::test_round_trip"],
    coverpoints=["cp_words", "cp_words_x_passes"],
)
PLAN = [
    Testpoint("Networks", "networks", "V1", "They run.", ("random", "block_pe"), ("cp_words*",)),
    Testpoint(
        "Networks",
        "errors",
        "V2",
        "They are caught.",
        ("errors::bad_packets", "tests/packing/test_pack.py::test_round_trip"),
    ),
]
WHEN = "2026-11-25T03:00:00"


def last(*results: TestResult | PointResult) -> LastResults:
    """Both coverpoints sampled, and what is given."""
    kept = LastResults()
    for result in (
        covered("cp_words", 2, 3),
        covered("cp_words_x_passes", 4, 9),
        *results,
    ):
        kept.add(result)
    return kept


def ran(
    test: str,
    sim: str,
    passed: int,
    runs: int,
    *,
    seeds: int | None = None,
    when: str = WHEN,
    git: str = "c0ffee",
) -> TestResult:
    seeds = runs if seeds is None else seeds
    return TestResult(test=test, sim=sim, passed=passed, runs=runs, seeds=seeds, when=when, git=git)


def covered(coverpoint: str, hit: int, bins: int) -> PointResult:
    return PointResult(coverpoint=coverpoint, hit=hit, bins=bins, when=WHEN, git="c0ffee")


def test_the_project_s_plan_fits_its_tests_and_coverpoints() -> None:
    """With the results that are kept: every coverpoint was sampled."""
    assert (
        testplan.problems(
            testplan.load_plan(testplan.PLAN), testplan.registry(), last_results.read(last_results.FILE)
        )
        == []
    )


def test_the_page_is_the_plan_with_the_results() -> None:
    """`make testplan` writes it."""
    rendered = testplan.render(
        testplan.load_plan(testplan.PLAN), testplan.registry(), last_results.read(last_results.FILE)
    )
    assert testplan.RENDERED.read_text() == rendered, (
        "docs/testplan.md differs from the plan and docs/testplan.jsonl: run make testplan"
    )


def test_a_sound_plan_has_no_problems() -> None:
    assert testplan.problems(PLAN, THERE, last(ran("random", "icarus", 1, 1))) == []


Change = Callable[[], tuple[list[Testpoint], Registry, LastResults]]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda: ([replace(PLAN[0], tests=()), *PLAN], THERE, last()), "testpoint 'networks': has no test"),
        (
            lambda: ([replace(PLAN[0], tests=("random", "block_pe", "gone")), PLAN[1]], THERE, last()),
            "testpoint 'networks': test 'gone' does not exist",
        ),
        (
            lambda: ([PLAN[0], replace(PLAN[1], tests=(*PLAN[1].tests, "errors::gone"))], THERE, last()),
            "testpoint 'errors': test 'errors::gone' does not exist",
        ),
        (
            lambda: ([PLAN[0], replace(PLAN[1], name="networks")], THERE, last()),
            "testpoint 'networks': the name is taken twice",
        ),
        (
            lambda: ([replace(PLAN[0], stage="V9"), PLAN[1]], THERE, last()),
            "testpoint 'networks': stage 'V9' is none of V1, V2, V3",
        ),
        (lambda: (PLAN[:1], THERE, last()), "test 'errors' is in no testpoint"),
        (lambda: (PLAN[:1], THERE, last()), "test 'tests/packing/test_pack.py' is in no testpoint"),
        (
            lambda: ([replace(PLAN[0], tests=("random",)), PLAN[1]], THERE, last()),
            "test 'block_pe' is in no testpoint",
        ),
        (
            lambda: ([replace(PLAN[0], coverpoints=("cp_gone",)), PLAN[1]], THERE, last()),
            "testpoint 'networks': coverpoint 'cp_gone' does not exist",
        ),
        (
            lambda: ([replace(PLAN[0], coverpoints=("cp_words",)), PLAN[1]], THERE, last()),
            "coverpoint 'cp_words_x_passes' is in no testpoint",
        ),
        (
            lambda: (PLAN, THERE, LastResults()),
            "coverpoint 'cp_words' was never sampled; run `make coverage`",
        ),
        (
            lambda: (PLAN, THERE, last(covered("cp_words", 0, 3))),
            "coverpoint 'cp_words' was never sampled; run `make coverage`",
        ),
        (
            lambda: (PLAN, THERE, last(ran("gone", "icarus", 1, 1))),
            "testplan.jsonl has results of test 'gone', which does not exist; take the line out",
        ),
        (
            lambda: (PLAN, THERE, last(covered("cp_gone", 1, 3))),
            "testplan.jsonl has results of coverpoint 'cp_gone', which does not exist; take the line out",
        ),
    ],
)
def test_each_problem_is_found(change: Change, problem: str) -> None:
    assert problem in testplan.problems(*change())


# Results


RECORD = {"config": "4x2", "wall_s": 1.0, "cycles": None, "compared_bytes": 1, "measured": {}}
RECORD |= dict.fromkeys(("signature", "message", "log", "replay", "failure"), "")
RECORD |= {"git": "c0ffee+", "tools": {"python": "3.11"}}


def regression(
    parent: Path, folder: str, rows: Iterable[tuple[str, str, int, str]], *, ended: bool = True
) -> None:
    """The folder of a regression: test, simulator, seed and result of each run."""
    path = parent / folder
    path.mkdir(parents=True)
    lines = [
        json.dumps({**RECORD, "test": test, "sim": sim, "seed": seed, "result": result})
        for test, sim, seed, result in rows
    ]
    (path / regress.RUNS).write_text("\n".join(lines))
    if ended:
        (path / regress.SUMMARY).write_text("{}")


def coverage(path: Path, when: str, points: dict[str, tuple[int, int]], *, whole: bool = True) -> Path:
    """A merged coverage: bins hit and bins of each point."""
    found = {name: {"hit": hit, "bins": bins} for name, (hit, bins) in points.items()}
    path.write_text(
        json.dumps({"when": when, "git": "c0ffee", "whole": whole, "figures": {}, "points": found})
    )
    return path


def test_a_test_has_the_result_of_the_last_regression_that_ran_it(tmp_path: Path) -> None:
    kept = LastResults()
    kept.add(ran("errors", "icarus", 7, 7, when="2026-11-25T05:00:00", git="newer"))
    kept.add(ran("block_pe", "verilator", 9, 9, when="2026-11-20T05:00:00", git="older"))
    regression(
        tmp_path,
        "20261125-010000-000000",
        [("random", "verilator", 1, "fail"), ("random", "icarus", 1, "pass")],
    )
    regression(
        tmp_path,
        "20261125-020000-000000",
        [
            ("random", "verilator", 5, "pass"),
            ("random", "verilator", 6, "fail"),
            ("random", "verilator", 6, "pass"),
            ("gone", "verilator", 1, "pass"),
        ],
    )
    regression(tmp_path, "20261125-030000-000000", [("errors", "icarus", 1, "fail")])
    regression(tmp_path, "20261125-040000-000000", [("random", "verilator", 1, "pass")], ended=False)
    kept.fold(THERE.tests, THERE.coverpoints, tmp_path, tmp_path / "none")
    assert kept.tests == {
        ("errors", "icarus"): ran("errors", "icarus", 7, 7, when="2026-11-25T05:00:00", git="newer"),
        ("block_pe", "verilator"): ran(
            "block_pe", "verilator", 9, 9, when="2026-11-20T05:00:00", git="older"
        ),
        ("random", "verilator"): ran(
            "random", "verilator", 2, 3, seeds=2, when="2026-11-25T02:00:00", git="c0ffee+"
        ),
        ("random", "icarus"): ran("random", "icarus", 1, 1, when="2026-11-25T01:00:00", git="c0ffee+"),
    }


def test_a_whole_coverage_replaces_and_a_part_adds(tmp_path: Path) -> None:
    kept = last()

    def fold(when: str, points: dict[str, tuple[int, int]], *, whole: bool = True) -> tuple[int, int]:
        kept.fold(
            THERE.tests,
            THERE.coverpoints,
            tmp_path / "none",
            coverage(tmp_path / "points.json", when, points, whole=whole),
        )
        return kept.points["cp_words"].hit, kept.points["cp_words"].bins

    assert fold("2026-11-25T02:00:00", {"layer.cp_words": (3, 3)}) == (2, 3), "it is older"
    assert fold("2026-11-25T04:00:00", {"layer.cp_words": (1, 3), "layer.cp_gone": (1, 1)}, whole=False) == (
        2,
        3,
    )
    assert fold("2026-11-25T04:00:00", {"layer.cp_words": (3, 3)}, whole=False) == (3, 3)
    # groups and builds of a point are one
    assert fold("2026-11-25T05:00:00", {"slot.cp_words.on_4x2": (0, 2), "slot.cp_words.on_8x4": (1, 4)}) == (
        1,
        6,
    )
    assert fold("2026-11-25T06:00:00", {"layer.cp_words": (0, 3)}) == (0, 3)
    assert not kept.sampled("cp_words")
    assert set(kept.points) == {"cp_words", "cp_words_x_passes"}


def test_results_survive_their_file(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    assert last_results.read(path) == LastResults()
    kept = last(ran("random", "verilator", 9, 10), ran("block_pe", "icarus", 1, 1))
    kept.write(path)
    assert last_results.read(path) == kept
    text = path.read_text()
    last_results.read(path).write(path)
    assert path.read_text() == text


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"test": "random", "sim": "verilator", "passed": 9', "is no JSON"),
        ("[]", "is []: input should be an object"),
        ("3", "is 3: input should be an object"),
        ('{"test": "random"}', "field 'sim' is missing"),
        (json.dumps({**dict(ran("random", "verilator", 1, 1)), "more": 1}), "field 'more' is unknown"),
        (json.dumps({**dict(ran("random", "verilator", 1, 1)), "passed": "1"}), "field 'passed' is '1'"),
        (json.dumps({**dict(ran("random", "verilator", 1, 1)), "sim": "vcs"}), "field 'sim' is 'vcs'"),
        (json.dumps({**dict(covered("cp_words", 1, 1)), "when": None}), "field 'when' is None"),
    ],
)
def test_a_line_that_is_no_result_is_refused(line: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    last().write(path)
    with path.open("a") as file:
        file.write(f"{line}\n")
    with pytest.raises(TatamiError) as refused:
        last_results.read(path)
    assert str(refused.value).startswith(f"{path}, line 3: {message}")
    assert str(refused.value).endswith("; take the line out, and `make testplan` again")


def test_records_that_are_none_are_refused(tmp_path: Path) -> None:
    regression(tmp_path / "a", "20261125-010000-000000", [])
    (tmp_path / "a" / "20261125-010000-000000" / regress.RUNS).write_text('{"test": "random"}')
    regression(tmp_path / "b", "yesterday", [("random", "verilator", 1, "pass")])
    (tmp_path / "points.json").write_text('{"points": {"layer.cp_words": 3}}')
    for regressions, points, message in (
        ("a", "none", "20261125-010000-000000/runs.jsonl, line 1: field 'sim' is missing; remove "),
        ("b", "none", "yesterday: its name is no time of a regression"),
        ("none", "points.json", "points.json: field 'when' is missing; remove it, or run `make coverage`"),
    ):
        with pytest.raises(TatamiError, match=message):
            LastResults().fold(THERE.tests, THERE.coverpoints, tmp_path / regressions, tmp_path / points)


# Page and command


def test_the_page_has_the_results() -> None:
    results = last(
        ran("random", "verilator", 9, 10),
        ran("block_pe", "verilator", 1, 1),
        ran("block_pe_2", "verilator", 1, 1),
        ran("random", "icarus", 2, 2),
    )
    assert [testplan.results_of(point, THERE, results) for point in PLAN] == [
        ["11/12", "2/2", "6/12"],
        ["-", "-", "-"],
    ]
    page = testplan.render(PLAN, THERE, results)
    assert "`cp_words*` | 11/12 | 2/2 | 6/12 |" in page
    assert f"| `random` | verilator | 9/10 | 10 | {WHEN} | c0ffee |" in page
    assert f"| `cp_words` | 2/3 | {WHEN} | c0ffee |" in page
    assert testplan.revision("0123456789abcdef+") == "0123456789+"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The command on a plan and results of its own, with nothing new below build/."""
    monkeypatch.setattr(testplan, "registry", lambda: THERE)
    monkeypatch.setattr(testplan, "PLAN", tmp_path / "testplan.yaml")
    monkeypatch.setattr(testplan, "RENDERED", tmp_path / "testplan.md")
    monkeypatch.setattr(last_results, "FILE", tmp_path / "testplan.jsonl")
    monkeypatch.setattr(last_results, "REGRESSIONS", tmp_path / "regress")
    monkeypatch.setattr(last_results, "COVERAGE", tmp_path / "points.json")
    testplan.PLAN.write_text("""- feature: Networks
  points:
    - {name: networks, stage: V1, intent: They run., tests: [random, block_pe],
       coverpoints: [cp_words, cp_words_x_passes]}
    - {name: errors, stage: V2, intent: They are caught., tests: [errors, tests/packing/test_pack.py]}
""")
    last().write(last_results.FILE)
    return tmp_path


def test_a_sound_plan_is_exit_status_0_and_takes_in_what_is_new(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    regression(project / "regress", "20261125-040000-000000", [("random", "icarus", 1, "pass")])
    coverage(project / "points.json", "2026-11-25T04:00:00", {"layer.cp_words": (3, 3)})
    assert command.main([]) == 0
    assert "2 testpoints, 0 problems" in capsys.readouterr().out
    kept = last_results.read(last_results.FILE)
    assert (kept.tests["random", "icarus"].runs, kept.points["cp_words"].hit) == (1, 3)
    page = testplan.RENDERED.read_text()
    assert page == testplan.render(testplan.load_plan(testplan.PLAN), THERE, kept)
    assert command.main([]) == 0
    assert testplan.RENDERED.read_text() == page, "nothing is new"


@pytest.mark.parametrize(
    ("file", "old", "new", "problem"),
    [
        (
            "testplan.yaml",
            "tests: [errors, tests/packing/test_pack.py]",
            "tests: []",
            "PROBLEM testpoint 'errors': has no test",
        ),
        ("testplan.yaml", "[errors, ", "[", "PROBLEM test 'errors' is in no testpoint"),
        (
            "testplan.yaml",
            ", cp_words_x_passes",
            "",
            "PROBLEM coverpoint 'cp_words_x_passes' is in no testpoint",
        ),
        (
            "testplan.jsonl",
            '"cp_words", "hit": 2',
            '"cp_words", "hit": 0',
            "PROBLEM coverpoint 'cp_words' was never sampled; run `make coverage`",
        ),
    ],
)
def test_each_kind_of_problem_is_exit_status_1(
    file: str, old: str, new: str, problem: str, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (project / file).read_text()
    assert text.count(old) == 1
    (project / file).write_text(text.replace(old, new))
    assert command.main([]) == 1
    assert problem in capsys.readouterr().out.splitlines()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "while parsing"),
        ("just text", "testplan.yaml: is 'just text': must be a list"),
        ("- feature: A", "testplan.yaml, entry 1: field 'points' is missing"),
        (
            "- {feature: A, points: [{name: a, stage: V1, intent: b, test: [c]}]}",
            "testplan.yaml, entry 1: field 'points.0.test' is unknown",
        ),
        (
            "- {feature: A, points: [{name: a, stage: V1, intent: b, tests: c}]}",
            "testplan.yaml, entry 1: field 'points.0.tests' is 'c': input should be a valid array",
        ),
    ],
)
def test_a_file_that_is_no_plan_is_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "testplan.yaml"
    path.write_text(text)
    with pytest.raises(TatamiError, match=message):
        testplan.load_plan(path)
