"""What is kept of a failure, for the page of its bucket: first divergence, waves around it, the command that
replays it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from pymodel.machine.errors import TatamiError
from pymodel.machine.files import Fields, checked, read_json
from tb.debug.divergence import STAGES, Divergence
from tb.flow import failure, replay
from tb.flow.pages import excerpt, wave

WAVES = ("waves.vcd", "waves.fst")
RESULTS = "results.xml"  # of the run that failed


class Found(Fields):
    """divergence.json."""

    divergence: Divergence | None


@dataclass(frozen=True)
class Evidence:
    """`looked`: whether a replay has compared the inside of the machine with the model. `divergence` is empty
    if it found nothing there; `place` is the blocks in question. `problem` says what could not be read.
    """

    folder: str
    command: str
    looked: bool
    divergence: str
    place: str
    waves: Markup
    problem: str


def best(folders: Iterable[str], message: str) -> Evidence | None:
    """Of the first of the folders that has waves, else of the first that is there. They are looked for by
    their names below build/failures/: records may be of another machine.
    """
    names = [Path(folder).name for folder in folders]
    there = [failure.FAILURES / name for name in names if name not in ("", "..")]
    there = [path for path in there if path.is_dir()]
    if not there:
        return None
    return of(next((path for path in there if _waves(path)), there[0]), message)


def of(folder: Path, message: str) -> Evidence:
    """Of a folder, and the message of the failure. What is damaged in it is said, and left out."""
    looked, found, place, waves, problem = False, None, "", Markup(""), ""
    try:
        path = folder / replay.DIVERGENCE
        if path.is_file():
            found = checked(Found, {"divergence": read_json(path)}, path).divergence
            looked = True
            place = STAGES[found.stage] if found else replay.outside(message)
        file = _waves(folder)
        if file:
            when = replay.time_of(message, folder / RESULTS) or None
            waves = wave.drawn(excerpt.read(file, found, when))
    except TatamiError as error:
        problem = str(error)
    return Evidence(
        folder=failure.shown(folder),
        command=f"make replay FAILURE={failure.shown(folder)}",
        looked=looked,
        divergence=found.line() if found else "",
        place=place,
        waves=waves,
        problem=problem,
    )


def _waves(folder: Path) -> Path | None:
    return next((folder / name for name in WAVES if (folder / name).is_file()), None)
