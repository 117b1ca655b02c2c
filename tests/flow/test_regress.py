"""Regressions: which runs there are, what is recorded of each, how failures are gathered, and the exit
status.
"""

from __future__ import annotations

import errno
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pymodel.machine.config import CONFIGS
from pymodel.machine.errors import TatamiError
from scripts import regress as command
from tb.common import settings
from tb.flow import build, failure, regress, runner
from tb.flow.testlist import BLOCK_TESTS, TESTS, TestSpec
from tests.support import assert_refused, gone, state_of

CONFIG = CONFIGS["4x2"]
BLOCK = BLOCK_TESTS["block_delay"]  # builds and runs in seconds

COMPARES_NOTHING = """
import cocotb

@cocotb.test()
async def looks_at_nothing(dut):
    pass
"""
FAILS = """
import cocotb
from tb.common import settings

@cocotb.test()
async def finds_a_difference(dut):
    settings.report({"compared_bytes": 4, "cycles": 7})
    seed = cocotb.RANDOM_SEED
    raise AssertionError(f"image 0, layer c{seed % 7}: expected 3, seen -4, in /tmp/some/file.{seed}")
"""


def job(test: TestSpec = BLOCK, seed: int = 1) -> regress.PlannedRun:
    return regress.PlannedRun(test, "verilator", CONFIG, seed)


def outcome(message: str = "", **result: int) -> runner.RunResult:
    return runner.RunResult(
        passed=not message, message=message, log=Path("run.log"), result=dict(result), wall_s=1.5, waves=None
    )


# The plan


def test_configurations_take_turns_and_shares_are_kept() -> None:
    tests = [
        replace(TESTS["random"], name="all", regress=1.0, icarus_regress=1.0),
        replace(TESTS["errors"], name="some", regress=0.25, icarus_regress=0.0),
    ]
    configs = [CONFIGS["4x2"], CONFIGS["8x4"]]
    jobs = regress.plan(tests, "verilator", configs, range(5, 15))
    assert [(j.test.name, j.seed) for j in jobs[:4]] == [("some", 5), ("some", 6), ("some", 7), ("all", 5)]
    for name in ("some", "all"):
        names = [j.config.name for j in jobs if j.test.name == name]
        assert all({first, second} == {"4x2", "8x4"} for first, second in itertools.pairwise(names))
    assert [j.seed for j in jobs if j.test.name == "all"] == list(range(5, 15))
    on_icarus = regress.plan(tests, "icarus", configs[::-1], range(5, 15))
    assert {j.test.name for j in on_icarus} == {"all"}
    assert [j.config.name for j in on_icarus[:3]] == ["4x2", "8x4", "4x2"]


def test_every_test_runs_at_least_once_unless_it_says_never() -> None:
    jobs = regress.plan(TESTS.values(), "verilator", list(CONFIGS.values()), range(1, 2))
    assert {j.test.name for j in jobs} == {name for name, test in TESTS.items() if test.regress}


def test_a_glob_chooses_and_one_that_matches_nothing_lists_the_names() -> None:
    assert [t.name for t in regress.choose(TESTS, "digits*,errors", "verilator")] == [
        "digits",
        "digits_dense",
        "digits_dma",
        "errors",
    ]
    with pytest.raises(
        TatamiError, match="TESTS 'nonsense' matches no test.*digits, digits_dense, digits_dma, dma_"
    ):
        regress.choose(TESTS, "nonsense", "verilator")


def test_runs_of_one_design_share_its_build() -> None:
    assert job(seed=1).design == job(seed=2).design
    assert job(BLOCK_TESTS["block_delay_2"]).design != job().design


# One record


def test_a_run_that_compared_nothing_has_failed() -> None:
    assert regress.record(job(), outcome(compared_bytes=8)).passed
    assert regress.record(job(), outcome(compared=8)).passed
    assert regress.record(job(), outcome(compared_bytes=0, answers=3)).compared_bytes == 3
    for nothing in (outcome(compared_bytes=0, answers=0, cycles=9), outcome()):
        record = regress.record(job(), nothing)
        assert not record.passed
        assert record.signature == "nothing was compared"


ALIKE = [
    "8 of 320 bytes differ\nimage 0, layer conv1, filter 3, pixel (0, 1): expected -3, seen 14",
    (
        "1280 of 3200 bytes differ\nimage 1, layer conv0, filter 12, pixel (10, 7): expected 3, seen"
        " -1\nimage 1, layer conv0, filter 13"
    ),
]
OTHERS = [
    "1 of 320 bytes differ\nimage 0: words is 3, predicted 4",
    "Traceback (most recent call last):\n  File \"/a/b.py\", line 3, in run\nKeyError: 'x'",
    "LOAD_SHORT: ERROR.CODE is 1, expected 3",
    "LOAD_LONG: ERROR.CODE is 1, expected 4",
    "m_axis_tdata = 01XX10, while valid",
]


def test_signatures_are_alike_where_the_cause_is() -> None:
    assert len({regress.signature(m) for m in ALIKE}) == 1
    assert len({regress.signature(m) for m in ALIKE + OTHERS}) == 1 + len(OTHERS)
    assert (
        regress.signature(ALIKE[0])
        == "N of N bytes differ | image N, layer convN, filter N, pixel (N): expected N, seen N"
    )
    assert (
        regress.signature("no such file /work/here/x-1.log")
        == regress.signature("no such file /elsewhere/y.log")
        == "no such file <path>"
    )
    assert regress.signature(OTHERS[1]) == "KeyError: 'x'"
    assert regress.signature(OTHERS[4]) == "m_axis_tdata = N, while valid"


def test_buckets_count_and_show_the_quickest() -> None:
    slow = regress.record(job(seed=1), outcome(ALIKE[0]))
    quick = regress.record(job(seed=2), outcome(ALIKE[1])).model_copy(update={"wall_s": 0.5})
    other, good = (
        regress.record(job(seed=3), outcome("else")),
        regress.record(job(seed=4), outcome(compared=1)),
    )
    found = regress.buckets([other, slow, good, quick])
    assert [(b.count, b.example.seed) for b in found] == [(2, 2), (1, 3)]


# All of it


@pytest.fixture
def records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder and a history of its own for the records, and a module folder that the simulations find."""
    monkeypatch.setattr(regress, "RECORDS", tmp_path / "regress")
    monkeypatch.setenv("HISTORY", f"sqlite:///{tmp_path}/history.db")
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for journal in (tmp_path / "regress").iterdir():
        for row in regress.read_records(journal):
            if row.failure:
                shutil.rmtree(runner.ROOT / row.failure)


def spec(tmp_path: Path, name: str, text: str) -> TestSpec:
    (tmp_path / f"{name}.py").write_text(text)
    return replace(BLOCK, name=name, module=name, regress=1.0)


def run(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tests: list[TestSpec],
    *arguments: str,
) -> tuple[int, dict[str, object], str]:
    monkeypatch.setattr(command, "TESTS", {t.name: t for t in tests})
    monkeypatch.setattr(command, "BLOCK_TESTS", {})
    status = command.main(["--config=4x2", "--jobs=2", *arguments])
    text = capsys.readouterr().out
    last = text.splitlines()[-1]
    assert last.startswith("REGRESS ")
    return status, json.loads(last.removeprefix("REGRESS ")), text


def test_the_order_of_parameters_makes_no_second_build() -> None:
    """A regression builds by sorted parameters, a run by those of its test."""
    assert build.digest({"ROWS": 4, "GROUP": 2}) == build.digest({"GROUP": 2, "ROWS": 4})


def test_a_good_regression_is_recorded_whole(
    records: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    status, summary, _ = run(monkeypatch, capsys, [replace(BLOCK, regress=1.0)], "--n=2")
    assert status == 0
    assert (summary["runs"], summary["passed"], summary["failed"], summary["finished"]) == (2, 2, 0, True)
    assert float(str(summary["wall_s"])) > 0
    folder = Path(str(summary["record"]))
    assert folder.parent == records / "regress"
    rows = regress.read_records(folder)
    assert sorted(row.seed for row in rows) == [1, 2]
    for row in rows:
        assert row.result == "pass"
        assert row.compared_bytes > 0
        assert row.cycles
        assert row.wall_s > 0
        assert Path(row.log).is_file()
        assert {"python", "cocotb", "verilator", "numpy", "g++"} <= set(row.tools)
        assert row.git is None or re.fullmatch(r"[0-9a-f]{40}\+?", row.git)
    kept = json.loads((folder / regress.SUMMARY).read_text())
    assert kept["runs"] == 2
    assert kept["buckets"] == []
    suite = ET.parse(folder / regress.JUNIT).getroot().find("testsuite")
    assert suite is not None
    assert (suite.get("tests"), suite.get("failures")) == ("2", "0")


def test_failures_are_gathered_and_the_status_is_1(
    records: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tests = [
        spec(records, "fails", FAILS),
        spec(records, "compares_nothing", COMPARES_NOTHING),
        replace(BLOCK, regress=0.1),
    ]
    status, summary, text = run(monkeypatch, capsys, tests, "--n=2")
    assert status == 1
    assert (summary["runs"], summary["passed"], summary["failed"]) == (5, 1, 4)
    assert "FAILED 2 x nothing was compared" in text
    assert (
        "FAILED 2 x finds_a_difference: AssertionError: image N, layer cN: expected N, seen N, in <path>"
        in text
    )
    folder = Path(str(summary["record"]))
    for row in regress.read_records(folder):
        assert bool(row.failure) == (row.test == "fails")  # the others can only be run again
        alone = f"make sim TEST={row.test} SIM=verilator CONFIG=4x2 SEED={row.seed}"
        assert row.replay == (f"make replay FAILURE={row.failure}" if row.failure else alone)
        if row.failure:
            kept = failure.load(runner.ROOT / row.failure)
            assert (kept.seed, kept.message) == (row.seed, row.message)
            assert (kept.folder / "run.log").is_file()
    example = re.search(r"waves around it: (\S+)\n  make replay FAILURE=(\S+)", text)
    assert example is not None
    assert (runner.ROOT / example[1]).is_relative_to(runner.ROOT / example[2])
    assert (runner.ROOT / example[1]).is_file()
    cases = list(ET.parse(folder / regress.JUNIT).getroot().iter("testcase"))
    assert sum(case.find("failure") is not None for case in cases) == 4


@pytest.mark.usefixtures("records")
def test_a_difference_is_followed_inside_the_machine(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(settings.VARIABLE, '{"flip": true}')  # a bit of a slot, for the machine alone
    status, _, text = run(monkeypatch, capsys, [replace(TESTS["digits"], images=1)], "--n=1", "--seed=7")
    assert status == 1
    assert re.search(
        r"first divergence: layer c\d, chunk \d+, tile \d+, pass \d+, lane \d+, .*: partial sum: ", text
    )


# Processes

STARTS_A_SLEEP = """
import subprocess, sys
from tb.flow.processes import processes

if __name__ == "__main__":
    with processes(1) as pool:
        pool.submit(subprocess.run, ["sh", "-c", "echo $$; exec sleep 600"])
        if sys.argv[1] == "stop":
            sys.stdin.readline()
            raise KeyboardInterrupt
        pool.submit(int).result()
"""


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_runs_end_with_whoever_started_them(end: str, tmp_path: Path) -> None:
    """Stopped by an exception, or killed outright: the simulator under way does not go on alone."""
    script = tmp_path / "starts.py"
    script.write_text(STARTS_A_SLEEP)
    env = os.environ | {"PYTHONPATH": str(runner.ROOT)}
    with subprocess.Popen(
        [sys.executable, script, end],
        env=env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdin is not None
        sleep = int(parent.stdout.readline())
        assert state_of(sleep) not in ("", "Z")
        parent.kill() if end == "kill" else parent.stdin.write(b"\n")
        parent.stdin.close()
        assert gone(sleep)


STARTS_SLOWLY = """
import signal, sys, time
if "--multiprocessing-fork" in sys.orig_argv:
    print("starts", flush=True)
    time.sleep(1)
"""


def test_ctrl_c_while_workers_start_says_nothing_of_them(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(STARTS_SLOWLY)
    script = tmp_path / "starts.py"
    script.write_text(STARTS_A_SLEEP)
    with subprocess.Popen(
        [sys.executable, script, "kill"],
        env=os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{runner.ROOT}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "starts\n"
        os.killpg(parent.pid, signal.SIGINT)
        try:
            _, err = parent.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            os.killpg(parent.pid, signal.SIGKILL)
            pytest.fail("it goes on after ctrl-C")
    assert err.count("Traceback") == 1  # of the script, which catches nothing
    assert err.splitlines()[-1] == "KeyboardInterrupt"


INTERRUPTED_START = """
import os, signal
from multiprocessing import popen_spawn_posix

class Interrupted(popen_spawn_posix.Popen):
    def _launch(self, process):
        super()._launch(process)
        os.kill(os.getpid(), signal.SIGINT)

popen_spawn_posix.Popen = Interrupted
"""


def test_ctrl_c_inside_of_the_start_of_a_worker_leaves_none(tmp_path: Path) -> None:
    """It runs already, and nobody has noted that it does."""
    (tmp_path / "sitecustomize.py").write_text(INTERRUPTED_START)
    script = tmp_path / "starts.py"
    script.write_text(STARTS_A_SLEEP)
    done = subprocess.run(
        [sys.executable, script, "kill"],
        env=os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{runner.ROOT}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stderr.splitlines()[-1] == "KeyboardInterrupt"


def test_a_regression_that_is_interrupted_keeps_its_record_and_says_so(
    records: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(*_: object) -> Iterator[regress.RunRecord]:
        yield regress.record(job(), outcome(compared=3))
        raise KeyboardInterrupt

    monkeypatch.setattr(regress, "execute", stopped)
    status, summary, _ = run(monkeypatch, capsys, [replace(BLOCK, regress=1.0)], "--n=2")
    assert (status, summary["runs"], summary["finished"]) == (130, 1, False)
    assert [row.seed for row in regress.read_records(Path(str(summary["record"])))] == [1]
    assert Path(str(summary["record"])).is_relative_to(records)


def test_a_full_disk_is_one_line_and_the_rest_is_done_later(
    records: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    begun = regress.Journal.begun
    journals: list[regress.Journal] = []

    def noted(plan: regress.Plan) -> regress.Journal:
        journals.append(begun(plan))
        return journals[0]

    def filling(*_: object) -> Iterator[regress.RunRecord]:
        yield regress.record(job(), outcome(compared=3))
        with Path("/dev/full").open("w") as full:
            os.dup2(full.fileno(), journals[0]._lines.fileno())
        yield regress.record(job(seed=2), outcome(compared=3))

    monkeypatch.setattr(regress.Journal, "begun", noted)
    monkeypatch.setattr(regress, "execute", filling)
    where = re.escape(str(records / "regress"))
    said = rf"^({where}/\S+) on \S+: no space left on device; 1 of 2 runs are recorded, .* RESUME=\1` does"
    with pytest.raises(TatamiError, match=said):
        run(monkeypatch, capsys, [replace(BLOCK, regress=1.0)], "--n=2")
    capsys.readouterr()
    assert [row.seed for row in regress.read_records(journals[0].folder)] == [1]


def test_what_fails_on_a_full_disk_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> runner.RunResult:
        raise OSError(errno.ENOSPC, "No space left on device")

    def fails(*_: object, **__: object) -> runner.RunResult:
        raise TatamiError("the simulator says nothing")

    monkeypatch.setattr(runner, "BUILD", tmp_path)
    monkeypatch.setattr(runner, "run", full)
    with pytest.raises(regress.DiskFullError, match=f"^{tmp_path} on .*: no space left on device$"):
        regress.run_job(job())
    monkeypatch.setattr(runner, "run", fails)
    monkeypatch.setattr(build, "build", fails)
    assert (
        regress.run_job(job()).message == regress.build_design(job().design) == "the simulator says nothing"
    )
    room = os.statvfs(tmp_path)
    monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result((*room[:4], 3, *room[5:])))
    with pytest.raises(regress.DiskFullError):
        regress.run_job(job())
    with pytest.raises(regress.DiskFullError):
        regress.build_design(job().design)


def test_a_design_that_does_not_build_fails_its_runs(
    records: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    test = replace(BLOCK, regress=1.0, parameters={"WIDTH": 8, "NONSENSE": 1})
    status, summary, text = run(monkeypatch, capsys, [test], "--n=2")
    assert (status, summary["failed"]) == (1, 2)
    assert "does not build" in text
    assert list((records / "regress").iterdir()) == [Path(str(summary["record"]))]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--n=0"], "N 0 is outside 1"),
        (["--n=many"], "N 'many' is not an integer"),
        (["--jobs=-1"], "JOBS -1 is outside 1"),
        (["--sim=vcs"], "SIM 'vcs' is unknown; valid: verilator, icarus"),
        (["--config=3x3"], "CONFIG '3x3' is unknown; valid: 16x8"),
        (["--tests=nonsense"], "TESTS 'nonsense' matches no test"),
        (["--seed=-1"], "SEED -1 is outside 0"),
    ],
)
def test_a_bad_variable_is_one_line_and_status_2(options: list[str], message: str) -> None:
    assert_refused("regress", options, message)
