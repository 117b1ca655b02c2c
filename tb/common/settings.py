"""What a simulation is told and what it tells back: one object in one variable.

The runner writes `Settings` as JSON into `VARIABLE` of the simulation's environment; `get` reads them there.
A user may set the variable to some of the `Options`, which the runner then adds to every run:
`{"fault": "flipped_byte"}`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from pymodel.machine.config import ArrayConfig
from pymodel.machine.errors import TatamiError

VARIABLE = "TATAMI_SETTINGS"
NETWORK_FILE, IMAGE_FILE = "network.npz", "image.tatami"  # in the folder of a prepared network


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a run is asked for beyond its test, configuration and seed.

    `images`: how many to run. `network`: the folder of a prepared network. `dense`: every weight in a slot of
    its own. `only`: a regular expression of the names of cocotb tests, the others are left out. `coverage`:
    functional coverage is collected. Faults on purpose: `fault` names one of tb/env/faults.py; with `flip`
    one bit of a slot is wrong in the image that the machine gets.
    """

    images: int | None = None
    network: str = ""
    dense: bool = False
    only: str = ""
    coverage: bool = False
    fault: str = ""
    flip: bool = False

    def given(self) -> dict[str, Any]:
        """The fields that are not as they are by default."""
        return {f.name: getattr(self, f.name) for f in fields(Options) if getattr(self, f.name) != f.default}

    def __or__(self, other: Options) -> Options:
        """These, and what `other` gives, which wins."""
        return Options(**{**self.given(), **other.given()})


@dataclass(frozen=True, kw_only=True)
class Settings(Options):
    """All that a simulation is told: `parameters` are the Verilog parameters of its top, `sim` is `verilator`
    or `icarus`, `result` the file that `report` writes.
    """

    config: ArrayConfig
    parameters: dict[str, int]
    sim: str
    result: str

    def to_json(self) -> str:
        return json.dumps(asdict(self))


def get() -> Settings:
    """The settings of this simulation."""
    told = json.loads(os.environ[VARIABLE])
    return Settings(**{**told, "config": ArrayConfig(**told["config"])})


def from_user() -> Options:
    """What the user set `VARIABLE` to, nothing by default. Raises `TatamiError` for what is no option."""
    text = os.environ.get(VARIABLE)
    if not text:
        return Options()
    try:
        told = json.loads(text)
    except ValueError as error:
        raise TatamiError(f"{VARIABLE} is no JSON: {error}") from None
    return options(told, VARIABLE)


def options(told: Any, where: str) -> Options:
    """The options in what was read from `where`. Raises `TatamiError` naming the field that is wrong."""
    if not isinstance(told, dict):
        raise TatamiError(f"{where} must be an object with some of {', '.join(_kinds())}")
    for name, value in told.items():
        kind = _kinds().get(name)
        if kind is None:
            raise TatamiError(f"{where}: field '{name}' is unknown; valid: {', '.join(_kinds())}")
        if type(value) is not kind and not (name == "images" and value is None):
            raise TatamiError(f"{where}: field '{name}' is {value!r}, must be {_NAMES[kind]}")
    if told.get("images") is not None and told["images"] < 1:
        raise TatamiError(f"{where}: field 'images' is {told['images']}, must be at least 1")
    return Options(**told)


_NAMES = {bool: "true or false", int: "an integer", str: "text"}


def _kinds() -> dict[str, type]:
    """The type of each option: that of its default, an integer where there is none."""
    return {f.name: int if f.default is None else type(f.default) for f in fields(Options)}


def config() -> ArrayConfig:
    """The configuration that the design under test was built with."""
    return get().config


def parameters() -> dict[str, int]:
    """The Verilog parameters that the top was built with."""
    return get().parameters


def simulator() -> str:
    """`verilator` or `icarus`."""
    return get().sim


def images() -> int:
    """How many images to run, for tests that take images."""
    count = get().images
    assert count is not None
    return count


def coverage() -> bool:
    """Whether functional coverage is collected; never outside of a simulation."""
    return bool(json.loads(os.environ.get(VARIABLE, "{}")).get("coverage", False))


def report(result: Mapping[str, Any]) -> None:
    """Hand `result` to the runner: flat values for the RESULT line, lists of flat dicts for tables.

    A later call adds to an earlier one.
    """
    path = Path(get().result)
    earlier = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps({**earlier, **result}, default=_plain))


def _plain(value: Any) -> Any:
    """A numpy number as Python's own."""
    return value.item()
