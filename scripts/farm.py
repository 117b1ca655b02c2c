"""FARM and FARM_OPTIONS of the commands that do many runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click
from click.core import ParameterSource

from scripts.command import Kind, need, variable
from tb.flow.farm.choice import BATCH, LOCAL, Farm, chosen, read_farm, read_options

NEEDED = ("dask_jobqueue", "distributed")


def farm_variables() -> Callable[[Any], Any]:
    """FARM and FARM_OPTIONS, as `farm` and `farm_options`; `chosen_farm` makes one of them."""

    def add(function: Any) -> Any:
        names = "|".join((LOCAL, *BATCH, "tcp://host:port"))
        given = variable("FARM", Kind(names, read_farm), LOCAL, "who does the runs")
        options = variable("FARM_OPTIONS", Kind("name=value ...", read_options), {}, "of the farm")
        return given(options(function))

    return add


def chosen_farm(name: str, options: dict[str, Any]) -> Farm:
    """Raises `TatamiError` for one that cannot be used from here, or not so."""
    if name != LOCAL:
        need(*NEEDED, group="farm")
    return chosen(name, options)


def hands(chosen: Farm, jobs: int) -> int | None:
    """How many: JOBS. A scheduler that is there has as many as it has, if JOBS is not given."""
    return None if chosen.name.startswith("tcp:") and not was_given("jobs") else jobs


def was_given(*names: str) -> bool:
    """Whether a user has given one of the command's variables."""
    sources = [click.get_current_context().get_parameter_source(name) for name in names]
    return any(source in (ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT) for source in sources)
