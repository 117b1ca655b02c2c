"""Farms on LSF, PBS and SGE, by dask-jobqueue. The commands of these are those of tests/flow/batch_system.py,
which reads the scripts of jobs as they do. A real Slurm is in test_slurm.py.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pymodel.machine.places import ROOT
from tb.flow import regress
from tb.flow.farm.choice import Farm, crew
from tb.flow.farm.crew import FarmError
from tb.flow.processes import within
from tests.flow.batch_system import REFUSED
from tests.flow.calls import sleep
from tests.flow.test_farm import RUNS, compared
from tests.support import gone, state_of

KINDS = ("lsf", "pbs", "sge")
OPTIONS = {"interface": "lo", "memory": "400MB", "queue": "tests"}


@pytest.fixture
def batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of its jobs."""
    commands, folder = tmp_path / "bin", tmp_path / "batch"
    commands.mkdir()
    folder.mkdir()
    for name in ("bsub", "bkill", "qsub", "qdel"):
        (commands / name).symlink_to(Path(__file__).with_name("batch_system.py"))
    monkeypatch.setenv("PATH", f"{commands}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("BATCH_SYSTEM", str(folder))
    return folder


def jobs(batch: Path) -> list[int]:
    """The first process of each job that has not ended."""
    begun = [int(path.read_text()) for path in batch.glob("*.pid")]
    return [pid for pid in begun if state_of(pid) not in ("", "Z")]


def regression(build: Path, *farm: str) -> Path:
    """The folder of one, by `make regress` in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "scripts.regress", *RUNS, "--jobs=2", *farm],
        cwd=ROOT,
        env={**os.environ, "BUILD": str(build)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    (folder,) = (build / "regress").iterdir()
    return folder


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The regression on this machine."""
    return regression(tmp_path_factory.mktemp("here"))


@pytest.mark.icarus
@pytest.mark.parametrize("kind", KINDS)
def test_the_records_of_jobs_are_those_of_this_machine(
    kind: str, batch: Path, here: Path, tmp_path: Path
) -> None:
    """Jobs write where the command does, and end with it."""
    build = tmp_path / "build"
    options = " ".join(f"{name}={value}" for name, value in OPTIONS.items())
    folder = regression(build, f"--farm={kind}", f"--farm_options={options}")
    assert compared(folder) == compared(here)
    for row in regress.read_records(folder):
        assert Path(row.log).is_file()
        assert row.lost == []
    assert len(list(batch.glob("*.sh"))) >= 2
    assert any((build / "farm" / "jobs").iterdir())
    assert within(lambda: not jobs(batch))


@pytest.mark.parametrize("kind", KINDS)
def test_a_job_that_is_cancelled_has_its_call_done_elsewhere_and_ctrl_c_ends_all(
    kind: str, batch: Path, tmp_path: Path
) -> None:
    cancel = {"lsf": "bkill"}.get(kind, "qdel")
    note = tmp_path / "note"
    with pytest.raises(KeyboardInterrupt), crew(Farm(kind, OPTIONS), 2) as pool:  # noqa: PT012
        assert within(lambda: len(jobs(batch)) == 2)
        call = pool.submit(sleep, note)
        assert within(note.is_file)
        first, job = note.read_text().split()
        note.unlink()
        subprocess.run([cancel, job], check=True)
        assert within(note.is_file)
        second, other = note.read_text().split()
        assert other != job
        assert len(call.lost) == 1
        assert "was lost" in call.lost[0]
        assert gone(int(first))
        assert state_of(int(second)) not in ("", "Z")
        raise KeyboardInterrupt
    assert gone(int(second))
    assert within(lambda: not jobs(batch))


@pytest.mark.parametrize("kind", KINDS)
def test_a_queue_that_there_is_not_is_said(kind: str, batch: Path) -> None:
    assert batch.is_dir()
    said = re.escape(f"FARM {kind}: no job can be started: {REFUSED[kind]}")
    with (
        pytest.raises(FarmError, match=f"^{said}$"),
        crew(Farm(kind, {**OPTIONS, "queue": "nonsense"}), 1),
    ):
        pass
