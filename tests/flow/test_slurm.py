"""A regression on a real Slurm of one machine, which this file starts and ends: munged, slurmctld and slurmd.

Skipped where Debian's slurmctld, slurmd, slurm-client and munge are not installed: that takes a minute, too
long for each `make test`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pymodel.machine.places import ROOT
from tb.flow import regress
from tb.flow.farm import servers
from tb.flow.farm.choice import Farm, crew
from tb.flow.farm.crew import FarmError
from tb.flow.processes import within
from tests.flow.calls import sleep
from tests.flow.test_farm import RUNS, compared
from tests.support import gone, state_of

MISSING = servers.no_slurm()
pytestmark = pytest.mark.skipif(bool(MISSING), reason=MISSING)


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a Slurm that runs and answers to the commands of this process."""
    folder = tmp_path_factory.mktemp("slurm")
    with servers.slurm(folder) as reach, pytest.MonkeyPatch.context() as patch:
        for name, value in reach.items():
            patch.setenv(name, value)
        yield folder


def asked(*command: str) -> list[str]:
    """What one of Slurm's commands says; nothing while nobody answers."""
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()


def jobs() -> list[str]:
    return asked("squeue", "-h", "-o", "%i")


@pytest.mark.icarus
def test_the_records_on_slurm_are_those_of_this_machine(slurm: Path, tmp_path: Path) -> None:
    """Jobs write where the command does, and end with it."""
    folders: list[Path] = []
    for farm in ([], ["--farm=slurm", "--farm_options=interface=lo memory=400MB queue=tests"]):
        build = tmp_path / str(len(folders))
        done = subprocess.run(
            [sys.executable, "-m", "scripts.regress", *RUNS, "--jobs=2", *farm],
            cwd=ROOT,
            env={**os.environ, "BUILD": str(build)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr + (slurm / "log").read_text()
        (folder,) = (build / "regress").iterdir()
        folders.append(folder)
    assert compared(folders[0]) == compared(folders[1])
    for row in regress.read_records(folders[1]):
        assert Path(row.log).is_file()
        assert row.lost == []
    assert any((tmp_path / "1" / "farm" / "jobs").iterdir())
    assert within(lambda: not jobs())


def test_a_job_that_is_cancelled_has_its_call_done_elsewhere_and_ctrl_c_ends_all(
    slurm: Path, tmp_path: Path
) -> None:
    assert slurm.is_dir()
    note = tmp_path / "note"
    with pytest.raises(KeyboardInterrupt), crew(Farm("slurm", servers.OPTIONS), 2) as pool:  # noqa: PT012
        assert within(lambda: len(jobs()) == 2)
        call = pool.submit(sleep, note)
        assert within(note.is_file)
        first, job = note.read_text().split()
        note.unlink()
        subprocess.run(["scancel", job], check=True)
        assert within(note.is_file)
        second, other = note.read_text().split()
        assert other != job
        assert len(call.lost) == 1
        assert "was lost" in call.lost[0]
        assert gone(int(first))
        assert state_of(int(second)) not in ("", "Z")
        raise KeyboardInterrupt
    assert gone(int(second))
    assert within(lambda: not jobs())


def test_a_queue_that_there_is_not_is_said(slurm: Path) -> None:
    assert slurm.is_dir()
    with (
        pytest.raises(FarmError, match="FARM slurm: no job can be started: sbatch: error: .*partition"),
        crew(Farm("slurm", {**servers.OPTIONS, "queue": "nonsense"}), 1),
    ):
        pass
