"""The trainings of `make results`, each a call of scripts/compress.py on whichever machine does it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import BrokenExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from pymodel.machine.errors import RatioError
from pymodel.machine.places import BUILD, ROOT
from pymodel.training.runs import CompressionRun
from pymodel.training.toolchain import python_headers
from tb.flow.farm.crew import Call
from tb.flow.farm.worker import Place

CHECKPOINT, LOG = "checkpoint.pt", "log.txt"


@dataclass(frozen=True)
class Way:
    """How runs are done: the folder for their checkpoints, images and logs, below BUILD of the machine that
    does them; the threads of torch; the priority (`nice`); the variables of the environment that are not for
    them.
    """

    work: Path
    threads: int
    nice: int
    hidden: frozenset[str]


@dataclass(frozen=True)
class Ended:
    """What came of a run: the folder of its files, its last line and its exit status."""

    folder: Path
    said: str
    status: int

    @property
    def unreachable(self) -> bool:
        """Its scheme cannot reach the ratio."""
        return self.status == RatioError.status

    def files(self) -> Iterable[Path]:
        """All but the checkpoint, which is of use where the training goes on."""
        return [path for path in sorted(self.folder.iterdir()) if path.name != CHECKPOINT]

    def moved(self, place: Place) -> Ended:
        """The same of one that was made in another place, with the paths here."""
        return Ended(Path(place.here(str(self.folder))), place.here(self.said), self.status)


def compressed(run: CompressionRun, way: Way) -> Ended:
    """Does a run, or goes on with one that was stopped here. In a process of a farm's.

    Its output goes to log.txt in a folder of its own, with checkpoint, image, network and report.
    """
    work = BUILD / way.work
    folder, start = work / run.name, work / f"{run.network}-start.json"
    folder.mkdir(parents=True, exist_ok=True)
    able = replace(run, compiled=run.compiled and python_headers().is_file())
    call = ["nice", f"-n{way.nice}", sys.executable, "-m", "scripts.compress", *able.options]
    log = folder / LOG
    with log.open("w") as file:
        done = subprocess.run(
            [*call, f"--threads={way.threads}", f"--out={folder}", f"--start={start}"],
            cwd=ROOT,
            env={name: value for name, value in os.environ.items() if name not in way.hidden},
            stdout=file,
            stderr=subprocess.STDOUT,
            check=False,
        )
    said = (log.read_text().strip().splitlines() or [f"exit status {done.returncode}"])[-1]
    return Ended(folder, said, done.returncode)


def came_of(call: Call) -> Ended:
    """Of a run that a crew has done. Raises `FarmError` if the farm is lost."""
    try:
        found: Ended = call.result()
    except BrokenExecutor as why:
        return Ended(Path(), f"it was given up: {why}", 1)
    return found
