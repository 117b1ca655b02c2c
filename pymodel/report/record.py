"""The report of a compression run, one JSON file per network, scheme, ratio and seed. `make compress` writes
it, `make results` keeps it, and the page is rendered from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from pymodel.machine.errors import TatamiError
from pymodel.machine.files import Fields, Line, checked, read_json, write_json
from pymodel.machine.names import LONGEST, NAME

Name = Annotated[str, Field(pattern=f"^{NAME.pattern}$", max_length=LONGEST)]
Share = Annotated[float, Field(ge=0, le=1)]
Amount = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]


class Before(Fields):
    """The network before compression: the origin of its weights, and the accuracies of the float network and
    of the integer network.
    """

    weights: Line
    accuracy_float: Share
    accuracy_int8: Share


class Data(Fields):
    """The origin of the images, the number of training images, and the number of test images."""

    name: Line
    train: Count
    test: Positive


class Spent(Fields):
    """The budget of the training (`pymodel.training.schedule.Budget`), and the `steps` and `seconds` that the
    training took on `device`.

    `precision` and `distillation` are None in old reports, from before there was a choice. Their training was
    in float32, and without distillation.
    """

    epochs: Amount
    batch: Positive
    learning_rate: Amount
    momentum: Share
    weight_decay: Share
    replans: Positive
    pruning: Share
    saliency: Line
    precision: Line | None = None
    distillation: Share | None = None
    steps: Count
    seconds: Amount
    device: Line

    def text(self) -> str:
        """All that makes trainings comparable, without the seconds, which differ from run to run."""
        words = [
            f"{self.epochs:g} epoch" if self.epochs == 1 else f"{self.epochs:g} epochs",
            f"{self.steps} steps",
            f"{self.batch} images a step",
            f"learning rate {self.learning_rate:g}",
            f"{self.replans} plans",
        ]
        words += [self.precision] if self.precision is not None else []
        words += [f"distilled by {self.distillation:g}"] if self.distillation else []
        return ", ".join([*words, f"on {self.device}"])


class Accuracy(Fields):
    """The accuracies of the float network and of the integer network that the machine runs."""

    float: Share
    int8: Share


class LayerReport(Fields):
    """A layer of the image: the `weights` of its dense matrix, the `nonzero` weights in the image, its
    `lanes`, `passes` and `cycles`. `kept` weights and `slots` are those of its plan, None without a plan.
    """

    name: Line
    weights: Count
    nonzero: Count
    lanes: Count
    kept: Count | None = None
    slots: Count | None = None
    passes: Count
    cycles: Count


class Report(Fields):
    """One run. Cycles and energies are for one image. The energy has a share of the load of the memories.
    `dense_...` is of the dense network on the same array.

    `ratio` is the requested matrix compression, `matrix_compression` the result. `weight_bits` are the bits
    of the weight or digit in a slot. `density` is the share of the weights that stays, `occupancy` the share
    of the slots in use. `stored_bits` of the image by memory; `bits_per_weight` is their sum over the weights
    of the dense network. `mismatches`: bytes in which the array model differed from the reference.

    Only scheme penni has `parameters_pruned` and `flops_pruned` (`pymodel.schemes.penni.penni_counts`). Only
    a run with FORMAT=xor has `xor_bits_per_weight`. Only the network of a quantised file has `scales_kept`,
    the number of tensors whose scale and zero point are still the file's. The reports in docs/results/ have
    no `layers`. A report of a call from Python has no `revision` and no `tools`, and outside a repository
    there is no `revision`.
    """

    network: Name
    scheme: Name
    ratio: Annotated[float, Field(ge=1)]
    seed: Count
    config: Name
    size: Positive
    group: Positive
    weight_bits: Annotated[int, Field(ge=1, le=8)]
    start: Before
    data: Data
    budget: Spent
    accuracy: Accuracy
    # a scheme may need more slots than the dense matrix has weights, but not without limit
    matrix_compression: Annotated[float, Field(ge=0.01)]
    density: Share
    occupancy: Share
    saliency_kept: Share
    parameters_pruned: Share | None = None
    flops_pruned: Share | None = None
    bits_per_weight: Amount
    image_kbytes: Amount
    stored_bits: dict[Line, Count]
    cycles: Positive
    dense_cycles: Positive
    bound_cycles: Count
    energy_nj: Annotated[float, Field(gt=0)]
    dense_energy_nj: Annotated[float, Field(gt=0)]
    mismatches: Count
    layers: tuple[LayerReport, ...] | None = None
    xor_bits_per_weight: Amount | None = None
    scales_kept: Count | None = None
    revision: Line | None = None
    tools: dict[Line, Line] | None = None

    @property
    def speedup(self) -> float:
        """Cycles of the dense network over those of this one."""
        return self.dense_cycles / self.cycles

    @property
    def weight_bits_compression(self) -> float:
        """Bits of 8-bit weights over bits of the slots' weights or digits: twice the matrix compression where
        a slot is a digit of 4 bits.
        """
        return self.matrix_compression * 8 / self.weight_bits

    @property
    def energy_gain(self) -> float:
        """Energy of the dense network over that of this one."""
        return self.dense_energy_nj / self.energy_nj

    @property
    def tools_text(self) -> str | None:
        if self.tools is None:
            return None
        return ", ".join(f"{name} {version}" for name, version in sorted(self.tools.items()))

    def made_with(self, revision: str | None, tools: dict[str, str]) -> Report:
        """The report with the git revision and the versions of the tools."""
        return self.model_copy(update={"revision": revision, "tools": tools})

    def without_layers(self) -> Report:
        """The report without its layers, which are most of it and not on the page."""
        return self.model_copy(update={"layers": None})

    def to_json(self) -> dict[str, Any]:
        """The content of the file. Fields that are None are left out."""
        return self.model_dump(exclude_none=True)

    def save(self, path: Path) -> None:
        """Raises `TatamiError` if the file cannot be written."""
        write_json(path, self.to_json())


def read_report(path: Path) -> Report:
    """Reads a report. Raises `TatamiError` with file, field and limit for a damaged or incomplete file."""
    where = f"report '{path}'"
    return checked(Report, read_json(path, where), where)


def read_reports(path: Path) -> list[Report]:
    """All `*.json` of a folder, or the one file; in order of network, configuration, scheme, ratio and seed.

    Raises `TatamiError` as `read_report`, for two reports of the same run, and for reports of one network and
    configuration that start from different weights or have different data: they cannot be compared.
    """
    if path.is_dir():
        files = sorted(path.glob("*.json"))
        if not files:
            raise TatamiError(f"folder '{path}' holds no report (*.json)")
    else:
        files = [path]
    found = [(file, read_report(file)) for file in files]
    found.sort(key=lambda one: _run(one[1]))
    _check_together(found)
    return [report for _, report in found]


def _run(r: Report) -> tuple[str, str, str, float, int]:
    return r.network, r.config, r.scheme, r.ratio, r.seed


def _check_together(found: Sequence[tuple[Path, Report]]) -> None:
    runs: dict[tuple[Any, ...], Path] = {}
    firsts: dict[tuple[str, str], tuple[Path, Report]] = {}
    for file, r in found:
        twin = runs.setdefault(_run(r), file)
        if twin is not file:
            raise TatamiError(f"report '{file}': same network, config, scheme, ratio and seed as '{twin}'")
        first_file, first = firsts.setdefault((r.network, r.config), (file, r))
        for part, mine, others in (("start", r.start, first.start), ("data", r.data, first.data)):
            for (name, value), (_, other) in zip(mine, others, strict=True):
                if value != other:
                    raise TatamiError(
                        f"report '{file}': {part}.{name} is {value}, but {other} in '{first_file}': they"
                        " cannot be compared"
                    )


def by_network(reports: Sequence[Report]) -> dict[tuple[str, str], list[Report]]:
    """Reports that may be compared: those of each (network, config)."""
    found: dict[tuple[str, str], list[Report]] = {}
    for r in reports:
        found.setdefault((r.network, r.config), []).append(r)
    return found


def by_scheme(reports: Sequence[Report]) -> dict[str, list[Report]]:
    found: dict[str, list[Report]] = {}
    for r in reports:
        found.setdefault(r.scheme, []).append(r)
    return found


def by_point(reports: Sequence[Report]) -> list[list[Report]]:
    """Runs that differ by nothing but the seed, together; in the order of the reports."""
    found: dict[tuple[Any, ...], list[Report]] = {}
    for r in reports:
        found.setdefault((r.network, r.config, r.scheme, r.ratio), []).append(r)
    return list(found.values())
