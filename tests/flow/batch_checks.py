"""What must hold of the jobs of any batch system: for Slurm itself (test_slurm.py) and for the stand-ins for
LSF, PBS and SGE (test_batch.py).
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Collection
from pathlib import Path

import pytest

from pymodel.machine.places import ROOT
from tb.flow import regress
from tb.flow.farm.choice import Farm, crew
from tb.flow.farm.servers import OPTIONS
from tb.flow.processes import within
from tests.flow.calls import sleep
from tests.flow.test_farm import compared
from tests.support import gone, state_of

RUNS = ("--sim=icarus", "--tests=block_delay,block_delay_2", "--n=40", "--config=4x2")  # four of them
Jobs = Callable[[], Collection[object]]  # those that have not ended


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


def records_are_those_of(here: Path, kind: str, build: Path, jobs: Jobs) -> None:
    """Jobs write where the command does, and end with it. `here`: the same regression on this machine."""
    options = " ".join(f"{name}={value}" for name, value in OPTIONS.items())
    folder = regression(build, f"--farm={kind}", f"--farm_options={options}")
    assert compared(folder) == compared(here)
    for row in regress.read_records(folder):
        assert Path(row.log).is_file()
        assert row.lost == []
    assert any((build / "farm" / "jobs").iterdir())
    assert within(lambda: not jobs())


def a_cancelled_job_has_its_call_done_elsewhere(kind: str, note: Path, jobs: Jobs, cancel: str) -> None:
    """And ctrl-C ends all."""
    with pytest.raises(KeyboardInterrupt), crew(Farm(kind, OPTIONS), 2) as pool:  # noqa: PT012
        assert within(lambda: len(jobs()) == 2)
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
    assert within(lambda: not jobs())
