"""The input and output of a simulation: one object in one environment variable, and one report.

The runner writes `Settings` as JSON into `VARIABLE` of the simulation's environment, and `get` reads them
there. A user may set the variable to some of the `Options`. The runner then adds them to every run:
`{"fault": "flipped_byte"}`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from pymodel.machine.config import CONFIGS, ArrayConfig
from pymodel.machine.files import Fields, checked, parse_json, read_json, write_text

VARIABLE = "TATAMI_SETTINGS"
ELSEWHERE = "4x2"  # the configuration of `sim` in tatami.core
NETWORK_FILE, IMAGE_FILE = "network.npz", "image.tatami"  # in the folder of a prepared network


Parameter = Annotated[str, Field(pattern=r"^[A-Za-z_]\w*$")]
Value = str | int | float | bool | None


class Options(Fields):
    """Requests to a run beyond its test, configuration and seed.

    `images`: how many to run. `network`: the folder of a prepared network, which runs while the streams have
    the rates `in_rate` and `out_rate` (`tb.plain.host`). `dense`: every weight has its own slot. `only`: a
    regular expression of the names of cocotb tests; the others are left out. `coverage`: functional coverage
    is collected. Two options insert faults: `fault` names one of tb/env/faults.py; with `flip` one bit of a
    slot is wrong in the image that the machine gets. `knobs`: what the program of the test `random` has more
    of (`pymodel.zoo.knobs`). `brief`: of a block test, nothing runs behind the first cocotb test that fails.
    `cases`: of the faults that show the checkers (tb/checkers/mutants.py), those to run, if not all.
    """

    images: int | None = Field(default=None, ge=1)
    network: str = ""
    in_rate: float = Field(default=1.0, gt=0, le=1)
    out_rate: float = Field(default=1.0, gt=0, le=1)
    dense: bool = False
    only: str = ""
    coverage: bool = False
    fault: str = ""
    flip: bool = False
    brief: bool = False
    knobs: str = ""
    cases: tuple[str, ...] = ()

    def given(self) -> dict[str, Any]:
        """The fields that do not have their default value."""
        return self.model_dump(include=set(Options.model_fields), exclude_defaults=True)

    def __or__(self, other: Options) -> Options:
        """These options, combined with `other`. Where both give a value, `other` wins."""
        return Options(**{**self.given(), **other.given()})


class Settings(Options):
    """Everything that a simulation is told. `parameters` are the Verilog parameters of its top, `sim` is
    `verilator` or `icarus`, and `result` is the file that `report` writes.
    """

    config: ArrayConfig
    parameters: dict[Parameter, int]
    sim: str
    result: str

    def to_json(self) -> str:
        return self.model_dump_json()


class Reported(Fields):
    """What a simulation reports: flat values for the RESULT line, and lists of dicts for tables. An entry
    of a dict is a flat value or a list of texts.
    """

    result: dict[str, Value | list[dict[str, Value | list[str]]]]


def get() -> Settings:
    """The settings of this simulation. One that another program has started, such as FuseSoC, has those of
    the configuration `ELSEWHERE`.
    """
    if VARIABLE not in os.environ:
        from cocotb import SIM_NAME  # inside a simulation only

        config = CONFIGS[ELSEWHERE]
        return Settings(
            config=config,
            parameters=config.rtl_parameters(),
            sim=SIM_NAME.split()[0].lower(),
            result="result.json",
        )
    return _told(os.environ[VARIABLE])


@cache
def _told(text: str) -> Settings:
    """Kept: some tests ask for every beat."""
    return checked(Settings, parse_json(text, VARIABLE), VARIABLE)


def from_user() -> Options:
    """The options that the user set `VARIABLE` to, none by default. Raises `TatamiError` for anything that is
    not an option.
    """
    return checked(Options, parse_json(os.environ.get(VARIABLE) or "{}", VARIABLE), VARIABLE)


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
    told = parse_json(os.environ.get(VARIABLE) or "{}", VARIABLE)
    return isinstance(told, dict) and told.get("coverage") is True


def report(result: Mapping[str, Any]) -> None:
    """Passes `result`, as described in `Reported`, to the runner. A later call adds to an earlier one."""
    path = Path(get().result)
    earlier = reported(path) if path.is_file() else {}
    write_text(path, json.dumps({**earlier, **result}, default=_plain))


def reported(path: Path) -> dict[str, Any]:
    """The report in a file. Raises `TatamiError` in one line if it is damaged."""
    return checked(Reported, {"result": read_json(path)}, path).result


def _plain(value: Any) -> Any:
    """A numpy number as a Python number."""
    return value.item()
