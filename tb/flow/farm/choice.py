"""FARM and FARM_OPTIONS: which machines do the runs."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from pymodel.machine.errors import TatamiError
from tb.flow.farm.crew import Crew
from tb.flow.farm.local import LocalCrew

LOCAL = "local"
BATCH = ("slurm", "lsf", "pbs", "sge")
ADDRESS = re.compile(r"tcp://[^\s:/]+:\d{1,5}")
WAIT = "wait"
WAIT_S = 60  # for the first worker of a scheduler given by its address


@dataclass(frozen=True)
class Farm:
    """`name` is what FARM says. `options` of the batch system are those of its class in dask-jobqueue."""

    name: str = LOCAL
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def local(self) -> bool:
        return self.name == LOCAL

    @property
    def wait_s(self) -> float | None:
        """How long to wait for a worker; None is for ever: a batch system may have others before us."""
        return self.options.get(WAIT, None if self.name in BATCH else WAIT_S)


def read_farm(name: str, text: str) -> str:
    """The value of variable FARM."""
    if text == LOCAL or text in BATCH or ADDRESS.fullmatch(text):
        return text
    raise TatamiError(f"{name} '{text}' is unknown; valid: {LOCAL}, {', '.join(BATCH)}, tcp://host:port")


def read_options(name: str, text: str) -> dict[str, Any]:
    """The value of variable FARM_OPTIONS: name=value with spaces between, quoted as in a shell. A value that
    begins with a bracket is JSON, and a number is one.
    """
    found: dict[str, Any] = {}
    try:
        parts = shlex.split(text)
    except ValueError as error:
        raise TatamiError(f"{name} '{text}': {error}") from None
    for part in parts:
        key, equals, value = part.partition("=")
        if not equals or not key.isidentifier():
            raise TatamiError(f"{name} '{part}' must be name=value, such as queue=short")
        if key in found:
            raise TatamiError(f"{name}: '{key}' is given twice")
        found[key] = _value(name, part, value)
    return found


def _value(name: str, part: str, value: str) -> Any:
    if not value.startswith(("[", "{")):
        return int(value) if re.fullmatch(r"\d{1,9}", value) else value
    try:
        return json.loads(value)
    except ValueError as error:
        raise TatamiError(f"{name} '{part}' is not JSON: {error}") from None


def chosen(name: str, options: dict[str, Any]) -> Farm:
    """Raises `TatamiError` for options that the farm does not have."""
    farm = Farm(name, options)
    wait = farm.options.get(WAIT, WAIT_S)
    if not isinstance(wait, int):
        raise TatamiError(f"FARM_OPTIONS: '{WAIT}' must be a number of seconds, not '{wait}'")
    if farm.name in BATCH:
        from tb.flow.farm.clusters import check

        check(farm.name, farm.options)
        return farm
    known = () if farm.local else (WAIT,)
    for key in farm.options:
        if key not in known:
            takes = f"it takes {', '.join(known)}" if known else "it takes none"
            raise TatamiError(f"FARM_OPTIONS: '{key}' is no option of FARM {farm.name}: {takes}")
    return farm


@contextmanager
def crew(farm: Farm, count: int | None) -> Iterator[Crew]:
    """Who does calls there: `count` at a time, or all that there are. A block left by an exception does not
    wait for what is under way: it is ended. Raises `TatamiError` if the farm is not to be had.
    """
    if farm.local:
        made: Crew = LocalCrew(count or 1)
    else:
        from tb.flow.farm.dask_hands import DaskCrew

        made = DaskCrew(farm.name, farm.options, count, farm.wait_s)
    made.start()
    try:
        yield made
    except BaseException:
        made.abandon()
        raise
    made.shutdown(wait=True, cancel_futures=True)
