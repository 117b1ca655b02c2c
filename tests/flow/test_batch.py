"""Farms on LSF, PBS and SGE, by dask-jobqueue. The commands of these are those of tests/flow/batch_system.py,
which reads the scripts of jobs as they do. A real Slurm is in test_slurm.py.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tb.flow.farm.choice import Farm, crew
from tb.flow.farm.crew import FarmError
from tb.flow.farm.servers import OPTIONS
from tests.flow.batch_checks import (
    a_cancelled_job_has_its_call_done_elsewhere,
    records_are_those_of,
    regression,
)
from tests.flow.batch_system import REFUSED
from tests.support import state_of

KINDS = ("lsf", "pbs", "sge")


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


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The regression on this machine."""
    return regression(tmp_path_factory.mktemp("here"))


@pytest.mark.icarus
@pytest.mark.parametrize("kind", KINDS)
def test_the_records_of_jobs_are_those_of_this_machine(
    kind: str, batch: Path, here: Path, tmp_path: Path
) -> None:
    records_are_those_of(here, kind, tmp_path / "build", lambda: jobs(batch))
    assert len(list(batch.glob("*.sh"))) >= 2


@pytest.mark.parametrize("kind", KINDS)
def test_a_job_that_is_cancelled_has_its_call_done_elsewhere_and_ctrl_c_ends_all(
    kind: str, batch: Path, tmp_path: Path
) -> None:
    cancel = "bkill" if kind == "lsf" else "qdel"
    a_cancelled_job_has_its_call_done_elsewhere(kind, tmp_path / "note", lambda: jobs(batch), cancel)


@pytest.mark.parametrize("kind", KINDS)
def test_a_queue_that_there_is_not_is_said(kind: str, batch: Path) -> None:
    assert batch.is_dir()
    said = re.escape(f"FARM {kind}: no job can be started: {REFUSED[kind]}")
    with (
        pytest.raises(FarmError, match=f"^{said}$"),
        crew(Farm(kind, {**OPTIONS, "queue": "nonsense"}), 1),
    ):
        pass
