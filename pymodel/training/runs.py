"""The runs of `make results`: the entries of a campaign's file (scripts/results.yaml), the calls of
scripts/compress.py that they mean, and which of these are done.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from pymodel.machine.errors import TatamiError
from pymodel.machine.files import Fields, checked, read_yaml
from pymodel.report.record import Name, read_report
from pymodel.schemes import SCHEMES
from pymodel.training.schedule import Budget


class PlannedBudget(Fields):
    """The fields of `Budget` that an entry may set. A field that is None has the default of `Budget`."""

    epochs: float | None = None
    batch: int | None = None
    learning_rate: float | None = None
    replans: int | None = None
    saliency: str | None = None
    precision: str | None = None
    distillation: float | None = None

    @model_validator(mode="after")
    def _legal(self) -> PlannedBudget:
        try:
            Budget(**self.given())
        except TatamiError as error:
            raise PydanticCustomError("budget", "{what}", {"what": str(error)}) from None
        return self

    def given(self) -> dict[str, Any]:
        return self.model_dump(exclude_none=True)


def _known(scheme: str) -> str:
    if scheme not in SCHEMES:
        raise PydanticCustomError("scheme", "must be one of {known}", {"known": ", ".join(SCHEMES)})
    return scheme


class PlannedRuns(Fields):
    """An entry of the file: every scheme at every ratio from each of `seeds`, with the same budget.

    An entry that `needs` files is left out if they are not given. With `compile` the training uses
    `torch.compile` if Python's headers are installed.
    """

    network: Name
    needs: tuple[Literal["weights", "data"], ...] = ()
    schemes: Annotated[tuple[Annotated[str, AfterValidator(_known)], ...], Field(min_length=1)]
    ratios: Annotated[tuple[Annotated[float, Field(ge=1)], ...], Field(min_length=1)]
    seeds: Annotated[tuple[Annotated[int, Field(ge=0, lt=2**31)], ...], Field(min_length=1)] = (1,)
    compile: bool = False
    budget: PlannedBudget = PlannedBudget()


class RunsFile(Fields):
    """The content of a campaign's file. Its runs are done in order, at the priority `nice`, each on so many
    `threads`, if not on its share of the cores.
    """

    nice: Annotated[int, Field(ge=0, le=19)] = 0
    threads: Annotated[int, Field(ge=1, le=1024)] | None = None
    runs: tuple[PlannedRuns, ...]

    def names(self, folder: Path) -> dict[str, bool]:
        """All its runs by name, whether or not their files are given here, and which have a report there."""
        networks = {entry.network: Path() for entry in self.runs if "weights" in entry.needs}
        runs, _ = plan(self.runs, networks, Path(), None)
        return {run.name: run.done(folder) for run in runs}


@dataclass(frozen=True)
class CompressionRun:
    """One call of scripts/compress.py. `weights` and `data` are None for networks that do not need them."""

    network: str
    scheme: str
    ratio: float
    seed: int
    budget: PlannedBudget
    weights: Path | None = None
    data: Path | None = None
    compiled: bool = False

    @property
    def name(self) -> str:
        return f"{self.network}-{self.scheme}-{self.ratio:g}-{self.seed}"

    @property
    def options(self) -> list[str]:
        """The options of the call that say what is compressed and how, but not where it is written."""
        given = {
            "network": self.network,
            "scheme": self.scheme,
            "ratio": f"{self.ratio:g}",
            "seed": self.seed,
            **self.budget.given(),
            "weights": self.weights,
            "data": self.data,
        }
        options = [
            f"--{name.replace('_', '-')}={value}" for name, value in given.items() if value is not None
        ]
        return [*options, "--compile"] if self.compiled else options

    def report(self, folder: Path) -> Path:
        """The file of its report in the folder of the page."""
        return folder / f"{self.name}.json"

    def done(self, folder: Path) -> bool:
        """Whether `folder` has its report, of the same budget. Raises `TatamiError` for a damaged report."""
        path = self.report(folder)
        if not path.exists():
            return False
        try:
            spent = read_report(path).budget
        except TatamiError as error:
            raise TatamiError(f"{error}; remove the file to do its run again") from None
        return all(getattr(spent, name) == value for name, value in self.budget.given().items())


def read_runs(path: Path) -> RunsFile:
    """A campaign's file. Raises `TatamiError` naming file, field and limit."""
    return checked(RunsFile, read_yaml(path), path)


def plan(
    entries: tuple[PlannedRuns, ...],
    weights: Mapping[str, Path],
    data: Path | None,
    epochs: float | None,
) -> tuple[list[CompressionRun], list[str]]:
    """The runs, and the networks that are left out because their files are not given.

    `weights`: a state_dict for each network; one that needs none is refused. `epochs`: replaces the number in
    the entries, if given.
    """
    wanted = list(dict.fromkeys(entry.network for entry in entries if "weights" in entry.needs))
    for network in weights:
        if network not in wanted:
            raise TatamiError(f"WEIGHTS: '{network}' takes none; those that do: {', '.join(wanted)}")
    runs, left_out = [], []
    for entry in entries:
        files = {"weights": weights.get(entry.network), "data": data}
        needed = {name: files[name] for name in entry.needs}
        if None in needed.values():
            left_out.append(entry.network)
            continue
        budget = entry.budget if epochs is None else entry.budget.model_copy(update={"epochs": epochs})
        for seed, ratio, scheme in itertools.product(entry.seeds, entry.ratios, entry.schemes):
            runs.append(
                CompressionRun(
                    entry.network,
                    scheme,
                    ratio,
                    seed,
                    budget,
                    needed.get("weights"),
                    needed.get("data"),
                    entry.compile,
                )
            )
    return runs, list(dict.fromkeys(left_out))
