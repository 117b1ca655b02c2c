"""Farms: the same records wherever runs are done, and none lost or counted twice when a hand, a scheduler or
the command itself is killed.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from distributed import Client

from pymodel.machine.config import CONFIGS
from pymodel.machine.errors import TatamiError
from pymodel.machine.places import BUILD, ROOT
from pymodel.report.record import read_report
from scripts import regress as command
from scripts import results
from tb.flow import failure, provenance, regress
from tb.flow.coverage import runs
from tb.flow.farm import choice, servers, worker
from tb.flow.farm.choice import Farm, crew
from tb.flow.farm.crew import FarmError
from tb.flow.farm.servers import Scheduler
from tb.flow.overhead import alike
from tb.flow.processes import within
from tb.flow.testlist import BLOCK_TESTS
from tests.flow.calls import add, cover, fail, kill, leave_files, process, sleep, train, train_for_ever
from tests.support import assert_refused, gone, state_of

BLOCK = BLOCK_TESTS["block_delay"]  # builds and runs in a second on Icarus
RUNS = ("--sim=icarus", "--tests=block_delay*", "--n=40", "--config=4x2")  # six of them

# Farms


@contextmanager
def scheduler(folder: Path, build: Path, workers: int = 2) -> Iterator[Scheduler]:
    """Whose workers find the code in `folder`, too."""
    with servers.scheduler(folder, build, workers, path=folder) as made:
        yield made


@pytest.fixture(scope="module")
def away(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scheduler]:
    """Workers that do not see the folder that the coordinator writes to."""
    folder = tmp_path_factory.mktemp("away")
    with scheduler(folder, folder / "build") as made:
        yield made


@pytest.fixture(params=["local", "away"])
def farm(request: pytest.FixtureRequest) -> Farm:
    """Each kind of farm."""
    return Farm() if request.param == "local" else Farm(request.getfixturevalue("away").name)


def test_calls_come_back_and_so_does_what_they_raise(farm: Farm) -> None:
    with crew(farm, 2) as pool:
        calls = [pool.submit(add, n, 1) for n in range(20)]
        bad = pool.submit(fail)
        assert [call.result(60) for call in calls] == list(range(1, 21))
        with pytest.raises(ValueError, match="^no$"):
            bad.result(60)
        assert all(call.lost == [] for call in calls)


def test_each_hand_does_one_call_at_a_time_in_a_process_of_its_own(farm: Farm) -> None:
    with crew(farm, 2) as pool:
        seen = {pool.submit(process).result(60) for _ in range(4)}
        assert os.getpid() not in {pid for pid, _ in seen}


@pytest.mark.parametrize("which", ["process", "worker"])
def test_a_call_that_loses_its_hand_is_done_again(which: str, away: Scheduler, tmp_path: Path) -> None:
    with crew(Farm(away.name), 2) as pool:
        killed = pool.submit(kill, which, 1, tmp_path / "tries")
        others = [pool.submit(add, n, 1) for n in range(20)]
        assert killed.result(60) == 2
        assert len(killed.lost) == 1
        assert {"process": "its process on ", "worker": "was lost"}[which] in killed.lost[0]
        assert [call.result(60) for call in others] == list(range(1, 21))
        assert all(call.lost == [] for call in others)


def test_a_call_that_loses_its_process_here_is_done_again(tmp_path: Path) -> None:
    with crew(Farm(), 1) as pool:
        killed, other = pool.submit(kill, "process", 1, tmp_path / "tries"), pool.submit(add, 1, 1)
        assert (killed.result(60), other.result(60)) == (2, 2)
        assert (len(killed.lost), other.lost) == (1, [])


def test_a_call_that_kills_twice_is_to_blame_and_the_others_are_not(farm: Farm, tmp_path: Path) -> None:
    with crew(farm, 2) as pool:
        killer = pool.submit(kill, "process", 9, tmp_path / "tries")
        others = [pool.submit(add, n, 1) for n in range(20)]
        with pytest.raises(BrokenExecutor, match=r"was killed; its process on \S+ was killed"):
            killer.result(60)
        assert len(killer.lost) == 2
        assert [call.result(60) for call in others] == list(range(1, 21))
    assert (tmp_path / "tries").read_text() == "xx"


def test_an_interrupted_crew_leaves_nothing_under_way(farm: Farm, tmp_path: Path) -> None:
    note = tmp_path / "pid"
    with pytest.raises(KeyboardInterrupt), crew(farm, 1) as pool:  # noqa: PT012
        call = pool.submit(sleep, note)
        assert within(note.is_file)
        asleep = int(note.read_text())
        assert state_of(asleep) not in ("", "Z")
        raise KeyboardInterrupt
    assert gone(asleep)
    assert call.done()


def test_files_come_back_below_the_folder_here(away: Scheduler) -> None:
    names = [f"farm-{uuid.uuid4()}" for _ in range(2)]
    with crew(Farm(away.name), 1) as pool:
        made = pool.submit(leave_files, names).result(60)
    for name, ran in zip(names, made, strict=True):
        assert ran.folder == BUILD / "run" / name
        assert ran.message == f"see {BUILD}/run/{name}/said"
        assert (ran.folder / "said").read_text() == f"by {name}"
        assert (away.build / "run" / name / "said").is_file()
        shutil.rmtree(ran.folder)


def test_coverage_is_of_the_runs_that_came_about(away: Scheduler, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "_run", cover)
    good, bad = (runs.CoverageRun(name, CONFIGS["4x2"], 1) for name in (f"farm-{uuid.uuid4()}", "process"))
    with crew(Farm(away.name), 2) as pool:
        done, failed = runs.run_all([bad, good], pool, lambda _: None)
    assert [(one.run, one.folder) for one in done] == [(good, BUILD / "run" / good.test)]
    assert done[0].folder.is_dir()
    shutil.rmtree(done[0].folder)
    (said,) = failed
    assert said.startswith("process 4x2 seed 1: it was given up: its process on ")


# Regressions


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder and a history of its own for the records."""
    monkeypatch.setattr(regress, "RECORDS", tmp_path / "regress")
    monkeypatch.setenv("HISTORY", f"sqlite:///{tmp_path}/history.db")
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any], str]:
    status = command.main(["--jobs=2", *arguments])
    said = capsys.readouterr()
    last = said.out.splitlines()[-1]
    assert last.startswith("REGRESS ")
    return status, json.loads(last.removeprefix("REGRESS ")), said.out + said.err


def compared(folder: Path) -> list[dict[str, Any]]:
    """The records of a regression without its times and places, in an order of their own."""
    records = regress.read_records(folder)
    assert len({row.key for row in records}) == len(records)
    return alike(records)


FAILS = """
import os
import cocotb
from tb.common import settings

@cocotb.test()
async def finds_a_difference(dut):
    settings.report({"compared_bytes": 4, "cycles": 7})
    assert os.environ["COCOTB_RANDOM_SEED"] != "2", "expected 3, seen 4"
"""


@pytest.mark.icarus
@pytest.mark.usefixtures("here")
def test_the_records_of_a_farm_are_those_of_this_machine(
    away: Scheduler, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a failure among them: its log and its folder are here, and it is replayed here."""
    (away.build.parent / "fails_at_2.py").write_text(FAILS)  # where its workers find code
    monkeypatch.syspath_prepend(away.build.parent)
    fails = replace(BLOCK, name="fails", module="fails_at_2", icarus_regress=1.0)
    monkeypatch.setattr(command, "TESTS", {"fails": fails})
    given = ("--sim=icarus", "--tests=fails,block_delay_2", "--n=3", "--config=4x2")
    status, summary, _ = run(capsys, *given)
    there_status, there, said = run(capsys, *given, f"--farm={away.name}")
    try:
        assert (status, there_status) == (1, 1)
        assert (summary["farm"], there["farm"]) == ("local", away.name)
        assert compared(Path(there["record"])) == compared(Path(summary["record"]))
        for row in regress.read_records(Path(there["record"])):
            log = Path(row.log)
            assert (away.build / log.relative_to(BUILD)).read_bytes() == log.read_bytes()
            assert row.host
            assert bool(row.failure) == (row.key[0] == "fails" and row.seed == 2)
            if row.failure:
                assert failure.load(ROOT / row.failure).seed == 2
                assert f"make replay FAILURE={row.failure}" in said
                assert "\n  so look at " in said
    finally:
        for each in (summary, there):
            for row in regress.read_records(Path(each["record"])):
                if row.failure:
                    shutil.rmtree(ROOT / row.failure)


@pytest.mark.icarus
def test_a_run_that_kills_its_process_twice_is_a_failure_of_its_own(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(regress, "run_job", deadly)
    status, summary, said = run(capsys, "--sim=icarus", "--tests=block_delay_2", "--n=60", "--config=4x2")
    assert (status, summary["runs"], summary["failed"]) == (1, 3, 1)
    assert "FAILED 1 x it has killed the process that did it N times" in said
    for row in regress.read_records(Path(summary["record"])):
        killer = (row.test, row.seed) == ("block_delay_2", 2)
        assert (row.result, len(row.lost)) == (("fail", 2) if killer else ("pass", 0))
    assert here in Path(summary["record"]).parents


def deadly(job: regress.PlannedRun) -> regress.RunRecord:
    if (job.test.name, job.seed) == ("block_delay_2", 2):
        os.kill(os.getpid(), signal.SIGKILL)
    return regress.run_job(job)


@contextmanager
def begun(build: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """`make regress` in a process of its own that has done two runs or more, and its folder."""
    env = {**os.environ, "BUILD": str(build)}
    call = [sys.executable, "-m", "scripts.regress", *RUNS, *arguments]
    with subprocess.Popen(
        call, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as made:
        try:
            runs = "regress/*/runs.jsonl"
            assert within(lambda: any(p.read_text().count("\n") > 1 for p in build.glob(runs)), 120)
            (folder,) = (build / "regress").iterdir()
            yield made, folder
        finally:
            made.kill()


def resumed(folder: Path, build: Path, *arguments: str) -> dict[str, Any]:
    """What `make regress RESUME` says; each run is in the records once."""
    before = (folder / regress.RUNS).read_text().count("\n")
    done = subprocess.run(
        [sys.executable, "-m", "scripts.regress", f"--resume={folder}", *arguments],
        cwd=ROOT,
        env={**os.environ, "BUILD": str(build)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    summary: dict[str, Any] = json.loads(done.stdout.splitlines()[-1].removeprefix("REGRESS "))
    keys = [row.key for row in regress.read_records(folder)]
    assert len(keys) == len(set(keys)) == summary["runs"] == 6 > before
    assert summary["record"] == str(folder)
    assert summary["finished"]
    return summary


@pytest.mark.icarus
def test_a_command_that_is_killed_is_resumed(away: Scheduler, tmp_path: Path) -> None:
    """On another farm, too, and with a line that was cut short."""
    with begun(tmp_path, "--jobs=1") as (made, folder):
        made.kill()
        made.wait()
    assert within(lambda: free(folder / regress.RUNS))  # the one that was called is gone before the other
    with (folder / regress.RUNS).open("a") as lines:
        lines.write('{"test": "block_de')
    resumed(folder, tmp_path, f"--farm={away.name}")


def free(path: Path) -> bool:
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


@pytest.mark.icarus
def test_a_regression_whose_worker_is_killed_has_each_run_once(tmp_path: Path) -> None:
    """One worker is left for the rest, until the one that was killed is there again."""
    with (
        scheduler(tmp_path, tmp_path) as made,
        begun(tmp_path, f"--farm={made.name}") as (running, folder),
    ):
        with Client(made.name, set_as_default=False) as client:
            workers = client.run(os.getpid)
        os.kill(min(workers.values()), signal.SIGKILL)
        out, err = running.communicate(timeout=120)
    assert running.returncode == 0, err
    assert json.loads(out.splitlines()[-1].removeprefix("REGRESS "))["finished"]
    rows = regress.read_records(folder)
    assert len({row.key for row in rows}) == len(rows) == 6
    for row in rows:
        assert all("was lost" in one for one in row.lost)
        assert (f"LOST {row.test} {row.config} seed {row.seed}: " in out) == bool(row.lost)


@pytest.mark.icarus
def test_a_scheduler_that_is_killed_is_one_line_and_the_rest_is_done_later(tmp_path: Path) -> None:
    with (
        scheduler(tmp_path, tmp_path, workers=1) as made,
        begun(tmp_path, f"--farm={made.name}") as (
            running,
            folder,
        ),
    ):
        made.process.kill()
        out, err = running.communicate(timeout=120)
    assert running.returncode == 2
    lines = [line for line in err.splitlines() if not line.startswith("FARM")]
    assert len(lines) == 1
    assert f"FARM {made.name}: the scheduler is gone; " in lines[0]
    assert f"`make regress RESUME={folder}` does the rest" in lines[0]
    assert json.loads(out.splitlines()[-1].removeprefix("REGRESS "))["finished"] is False
    resumed(folder, tmp_path)


# Trainings


@pytest.fixture
def campaign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The page of a campaign of two runs, at ratios 8 and a million, which cannot be reached."""
    entry = {"network": "digits", "schemes": ["tight_joint"], "ratios": [8, 1e6]}
    (tmp_path / "results.yaml").write_text(yaml.safe_dump({"runs": [entry]}))
    monkeypatch.setattr(results, "SCRIPTS", tmp_path)
    page = tmp_path / "page.md"
    page.with_suffix("").mkdir()
    return page


def test_trainings_are_done_elsewhere_and_their_reports_are_here(
    away: Scheduler, campaign: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    work = f"farm-{uuid.uuid4()}"
    monkeypatch.setattr(results, "WORK", Path(work))
    monkeypatch.setattr(results, "compressed", train)
    given = [f"--out={campaign}", f"--farm={away.name}"]
    assert results.main(given) == 0
    said = capsys.readouterr().out
    assert "\ndigits-tight_joint-1e+06-1: ratio is 1e+06\n" in said
    assert json.loads(said.splitlines()[-1].removeprefix("RESULTS "))["done"] == 1
    name = "results/digits-tight_joint-8-1"
    here, there = BUILD / work / name, away.build / work / name
    sent = {path.name for path in here.iterdir()}
    assert sent == {"log.txt", "report.json", "image.bin"}
    assert {path.name for path in there.iterdir()} == {*sent, "checkpoint.pt"}
    report = campaign.with_suffix("") / "digits-tight_joint-8-1.json"
    assert read_report(report) == read_report(there / "report.json").without_layers()
    assert "tight_joint" in campaign.read_text()
    # what has a report is not done again
    shutil.rmtree(away.build / work)
    assert results.main(given) == 0
    assert not there.exists()
    shutil.rmtree(BUILD / work)


def test_trainings_that_lost_their_farm_are_one_line(
    campaign: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = next((ROOT / "docs" / "results").glob("digits-*.json"))  # a page is rendered of one or more
    shutil.copy(kept, campaign.with_suffix(""))
    note = tmp_path / "note"
    monkeypatch.setattr(results, "compressed", partial(train_for_ever, note))
    with scheduler(tmp_path, tmp_path, workers=1) as made, ThreadPoolExecutor(1) as aside:
        aside.submit(lambda: made.process.kill() if within(note.is_file) else None)
        assert results.main([f"--out={campaign}", f"--farm={made.name}"]) == 2
    line = f"results: FARM {made.name}: the scheduler is gone; the same command does the rest\n"
    said = capsys.readouterr()
    assert said.err.endswith(line)
    assert json.loads(said.out.splitlines()[-1].removeprefix("RESULTS "))["done"] == 0


# What is refused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--farm=cloud"], "FARM 'cloud' is unknown; valid: local, slurm, lsf, pbs, sge, tcp://host:port"),
        (["--farm=tcp://here"], "FARM 'tcp://here' is unknown"),
        (["--farm_options=queue=x"], "FARM_OPTIONS: 'queue' is no option of FARM local: it takes none"),
        (
            ["--farm=tcp://127.0.0.1:9", "--farm_options=wait=x"],
            "'wait' must be a number of seconds, not 'x'",
        ),
        (["--farm_options=queue"], "FARM_OPTIONS 'queue' must be name=value"),
        (["--farm_options=a=1 a=2"], "FARM_OPTIONS: 'a' is given twice"),
        (["--farm_options=a='x"], "FARM_OPTIONS 'a='x': No closing quotation"),
        (["--farm_options=a=[1"], "FARM_OPTIONS 'a=[1' is not JSON"),
        (["--resume=docs"], "has no plan.json and runs.jsonl: not the folder of a regression"),
        (["--resume=docs", "--n=3"], "RESUME takes N, TESTS, SIM, CONFIG and SEED from its folder"),
    ],
)
def test_what_is_wrong_is_said(options: list[str], message: str) -> None:
    with pytest.raises(TatamiError, match=re.escape(message)):
        command.main(options)


def test_a_scheduler_that_is_not_there_is_one_line(here: Path) -> None:
    line = "FARM tcp://127.0.0.1:9: no Dask scheduler answers there"
    assert_refused("regress", ["--farm=tcp://127.0.0.1:9"], line)
    assert not (here / "regress").exists()


def test_a_batch_system_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(TatamiError, match="FARM lsf: the command 'bsub' is not found"):
        choice.chosen("lsf", {})
    with pytest.raises(TatamiError, match="'queu' is no option of FARM sge; there are: .*queue"):
        choice.chosen("sge", {"queu": "x"})
    with pytest.raises(TatamiError, match="'cores' must be a number above 0, not 'many'"):
        choice.chosen("pbs", {"cores": "many"})


def test_a_worker_with_other_files_is_not_used(
    away: Scheduler, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with crew(Farm(away.name), 1):  # now there is one
        pass
    monkeypatch.setattr(worker, "checkout", lambda: "another")
    farm = Farm(away.name, {"wait": 0})
    with pytest.raises(FarmError, match="no worker for 0 s: worker .* has other files"), crew(farm, None):
        pass
    assert f"on {os.uname().nodename} has other files in {ROOT}" in capsys.readouterr().err


def test_a_regression_is_written_by_one_command_at_a_time_and_resumed_at_its_commit(here: Path) -> None:
    git = provenance.git_revision()
    plan = regress.Plan(tests="*", sim="icarus", config=None, first=1, seeds=2, git=git)
    with regress.Journal.begun(plan) as journal:
        assert regress.read_plan(journal.folder) == plan
        with pytest.raises(TatamiError, match="runs.jsonl: another make regress writes it"):
            regress.Journal.resumed(journal.folder)
    other = regress.Journal.begun(plan.model_copy(update={"git": "0" * 40}))
    with pytest.raises(TatamiError, match="is of commit 0000.*, and the checkout is at"):
        regress.read_plan(other.folder)
    assert here in other.folder.parents


def test_this_machine_alone_needs_no_dask() -> None:
    code = "import sys, scripts.regress, scripts.coverage, scripts.bugs, scripts.results\n"
    code += "print([name for name in sys.modules if name.startswith(('dask', 'distributed'))])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
