"""The data that a simulation leaves in its folder when a run of the machine went wrong. With them the model
can repeat the run.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt
from pydantic import Field

from pymodel.machine.config import ArrayConfig
from pymodel.machine.errors import TatamiError
from pymodel.machine.files import Fields, checked, read_json, write_json
from pymodel.machine.image import Image
from pymodel.machine.model import Machine
from pymodel.network import network_file
from pymodel.network.integer import Network
from pymodel.network.network_file import StoredNetwork

FOLDER = "suspect"
RECORD, STATE, IMAGE, NETWORK = "suspect.json", "state.npz", "image.tatami", "network.npz"

Int8Array = npt.NDArray[np.int8]


@dataclass(frozen=True)
class Ran:
    """A network that ran on `inputs`, int8 [C, H, W], while the streams had these rates (`tb.plain.host`)."""

    network: Network
    inputs: Int8Array
    in_rate: float = 1.0
    out_rate: float = 1.0


@dataclass(frozen=True)
class Suspect:
    """A run in which something was wrong: the model with the correct contents of the memories before the run,
    the program word at which it was started, and its time in ns. `image` names layers and filters, if the
    memories came from an image; `ran`: the network that was compiled into it.
    """

    machine: Machine
    start: int
    begin: int
    end: int
    image: Image | None = None
    ran: Ran | None = None


class Noted(Fields):
    """suspect.json: the program word of the start, the run's time in ns, and the rates of the streams."""

    start: int = Field(ge=0)
    begin: int
    end: int
    in_rate: float = Field(default=1.0, gt=0, le=1)
    out_rate: float = Field(default=1.0, gt=0, le=1)


class Attempt:
    """Watches one run of the machine, and notes it if it goes wrong.

        with Attempt(model, image.run_start, image, ran) as attempt:
            run = await host.run(...)
            attempt.ended()
            ... compare ...
            attempt.differs = ...

    `model` returns the model with the memories as they are before the run. It is called only if the run is
    noted. An exception counts as a difference. Only the first run of a simulation that goes wrong is noted.
    """

    def __init__(
        self,
        model: Callable[[], Machine],
        start: int,
        image: Image | None = None,
        ran: Ran | None = None,
    ) -> None:
        self.model, self.start, self.image, self.ran = model, start, image, ran
        self.differs = False
        self.end: int | None = None

    def __enter__(self) -> Attempt:
        self.begin = now_ns()
        return self

    def ended(self) -> None:
        """The run has ended. What follows is not part of it."""
        self.end = now_ns()

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None or self.differs:
            end = now_ns() if self.end is None else self.end
            note(Suspect(self.model(), self.start, self.begin, end, self.image, self.ran))


def now_ns() -> int:
    """Simulated time."""
    from cocotb.utils import get_sim_time  # only inside a simulation

    return round(get_sim_time("ns"))


def copy_of(machine: Machine) -> Machine:
    """A separate model with the same memories, so that the first may continue."""
    return deepcopy(machine)


def note(suspect: Suspect, folder: Path = Path()) -> None:
    """Writes a suspect below `folder` (by default that of the simulation), unless there is one already.

    Its model holds one image.
    """
    place = folder / FOLDER
    if place.exists():
        return
    place.mkdir(parents=True)
    np.savez_compressed(place / STATE, features=suspect.machine.features, **suspect.machine.memory)  # type: ignore[arg-type]
    if suspect.image is not None:
        suspect.image.save(place / IMAGE)
    record: dict[str, int | float] = {"start": suspect.start, "begin": suspect.begin, "end": suspect.end}
    if suspect.ran is not None:
        ran = suspect.ran
        stored = StoredNetwork(ran.network, ran.inputs[None], np.zeros(0, np.uint8), {})
        network_file.save(stored, place / NETWORK)
        record |= {"in_rate": ran.in_rate, "out_rate": ran.out_rate}
    write_json(place / RECORD, record)


def load(folder: Path, config: ArrayConfig) -> Suspect | None:
    """The suspect that `note` wrote below `folder`.

    None if it wrote nothing. Raises `TatamiError` naming the file if it is damaged.
    """
    place = folder / FOLDER
    if not place.is_dir():
        return None
    record = checked(Noted, read_json(place / RECORD), place / RECORD)
    machine = Machine(config)
    try:
        with np.load(place / STATE) as state:
            contents = {name: state[name] for name in ("features", *machine.memory)}
    except Exception as error:  # zip and numpy have a dozen for a damaged file
        raise TatamiError(f"{place / STATE}: {type(error).__name__}: {error}") from None
    machine.features = contents.pop("features")
    machine.memory = contents
    image = Image.load(place / IMAGE, config) if (place / IMAGE).is_file() else None
    ran = None
    if (place / NETWORK).is_file():
        stored = network_file.load(place / NETWORK)
        ran = Ran(stored.network, stored.images[0], record.in_rate, record.out_rate)
    return Suspect(machine, record.start, record.begin, record.end, image, ran)
