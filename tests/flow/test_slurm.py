"""A regression on a real Slurm of one machine, which this file starts and ends: munged, slurmctld and slurmd.

Skipped where Debian's slurmctld, slurmd, slurm-client and munge are not installed: that takes a minute, too
long for each `make test`.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tb.flow.farm import servers
from tb.flow.farm.choice import Farm, crew
from tb.flow.farm.crew import FarmError
from tests.flow.batch_checks import (
    a_cancelled_job_has_its_call_done_elsewhere,
    records_are_those_of,
    regression,
)

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
    assert slurm.is_dir()
    records_are_those_of(regression(tmp_path / "here"), "slurm", tmp_path / "jobs", jobs)


def test_a_job_that_is_cancelled_has_its_call_done_elsewhere_and_ctrl_c_ends_all(
    slurm: Path, tmp_path: Path
) -> None:
    assert slurm.is_dir()
    a_cancelled_job_has_its_call_done_elsewhere("slurm", tmp_path / "note", jobs, "scancel")


def test_a_queue_that_there_is_not_is_said(slurm: Path) -> None:
    assert slurm.is_dir()
    with (
        pytest.raises(FarmError, match="FARM slurm: no job can be started: sbatch: error: .*partition"),
        crew(Farm("slurm", {**servers.OPTIONS, "queue": "nonsense"}), 1),
    ):
        pass
