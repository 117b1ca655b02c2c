"""Calls that the tests of farms have done. It is imported where they are done, so it imports little."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pymodel.training.runs import CompressionRun
    from tb.flow.campaign import Ended, Way
    from tb.flow.coverage.runs import CoverageRun, Ran


def add(a: int, b: int) -> int:
    return a + b


def fail() -> None:
    raise ValueError("no")


def process() -> tuple[int, int]:
    """Of the hand, and of who started it."""
    return os.getpid(), os.getppid()


def kill(which: str, times: int, notes: Path) -> int:
    """Kills who does it, so many times; then it is the number of tries that it took."""
    with notes.open("a") as lines:
        lines.write("x")
    tries = len(notes.read_text())
    if tries <= times:
        os.kill({"process": os.getpid(), "worker": os.getppid()}[which], signal.SIGKILL)
        time.sleep(60)
    return tries


def leave_files(names: list[str]) -> list[Ran]:
    """A folder with a file for each name, below the BUILD of whoever does it."""
    from pymodel.machine.places import BUILD
    from tb.flow.coverage.runs import Ran

    made = []
    for name in names:
        (folder := BUILD / "run" / name).mkdir(parents=True)
        (folder / "said").write_text(f"by {name}")
        made.append(Ran(folder, 1.0, f"see {folder}/said"))
    return made


def cover(job: CoverageRun) -> Ran:
    """In place of a run with coverage: `process` for one that kills its process."""
    if job.test == "process":
        os.kill(os.getpid(), signal.SIGKILL)
    return replace(leave_files([job.test])[0], message="")


def fail_to_train(status: int, run: CompressionRun, way: Way) -> Ended:  # noqa: ARG001
    from tb.flow.campaign import Ended

    return Ended(Path(), f"ratio is damaged, nice {way.nice}, threads {way.threads}", status)


def train(run: CompressionRun, way: Way) -> Ended:
    """In place of a training: a report of the project's own. A ratio above 8 is not reached."""
    from pymodel.machine.errors import RatioError
    from pymodel.machine.places import BUILD, ROOT
    from tb.flow.campaign import CHECKPOINT, LOG, Ended

    (folder := BUILD / way.work / run.name).mkdir(parents=True)
    report = (ROOT / "docs" / "results" / "digits-tight_joint-8-1.json").read_bytes()
    for name, content in {LOG: b"", CHECKPOINT: b"", "image.bin": b"", "report.json": report}.items():
        (folder / name).write_bytes(content)
    return Ended(folder, f"ratio is {run.ratio:g}", RatioError.status if run.ratio > 8 else 0)


def train_for_ever(note: Path, run: CompressionRun, way: Way) -> None:  # noqa: ARG001
    sleep(note)


JOB = ("SLURM_JOB_ID", "LSB_JOBID", "PBS_JOBID", "JOB_ID")  # as a job knows its number


def sleep(note: Path) -> None:
    """With a child, as a simulator would be; the note names it, and the job that it is in."""
    job = next((os.environ[name] for name in JOB if name in os.environ), "")
    with subprocess.Popen(["sleep", "600"]) as child:
        note.with_suffix(".new").write_text(f"{child.pid} {job}")
        note.with_suffix(".new").rename(note)
        child.wait()
