"""One JSON report per network, scheme, ratio and seed, as scripts/compress.py writes them: its fields,
checked.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pymodel.machine.errors import TatamiError
from pymodel.machine.files import read_json

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")  # names become parts of file names


@dataclass(frozen=True)
class Budget:
    """What the training of one report was given; what is None was not said."""

    epochs: float
    device: str
    seconds: float
    steps: float | None
    batch: float | None
    learning_rate: float | None
    replans: float | None
    precision: str | None

    def text(self) -> str:
        """All but the seconds, which differ from run to run."""
        words = [f"{self.epochs:g} epoch{'s' if self.epochs != 1 else ''}"]
        words += [f"{self.steps:g} steps"] if self.steps is not None else []
        words += [f"{self.batch:g} images a step"] if self.batch is not None else []
        words += [f"learning rate {self.learning_rate:g}"] if self.learning_rate is not None else []
        words += [f"{self.replans:g} plans"] if self.replans is not None else []
        words += [self.precision] if self.precision is not None else []
        return ", ".join([*words, f"on {self.device}"])


@dataclass(frozen=True)
class Report:
    """One run. Accuracies, occupancy and saliency are shares in 0..1; energies nJ and cycles for one image,
    with the load of the memories in the energy; None where the file has none.

    `float` and `int8` accuracies are of the float network and of the integer network that the machine runs;
    `start_...` before compression. `ratio` is the matrix compression that was asked for, `matrix_compression`
    the one that came out. `weight_bits` of a slot. `parameters_pruned` and `flops_pruned` as
    `pymodel.schemes.penni.penni_counts` has them. `density` is the share of the weights that stays.
    """

    file: str
    network: str
    scheme: str
    ratio: float
    seed: int
    config: str
    start_weights: str
    start_float: float
    start_int8: float
    data: str
    train: int
    test: int
    budget: Budget
    accuracy_float: float
    accuracy_int8: float
    matrix_compression: float
    weight_bits: int = 8
    parameters_pruned: float | None = None
    flops_pruned: float | None = None
    density: float | None = None
    occupancy: float | None = None
    saliency_kept: float | None = None
    bits_per_weight: float | None = None
    xor_bits_per_weight: float | None = None
    image_kbytes: float | None = None
    cycles: float | None = None
    dense_cycles: float | None = None
    bound_cycles: float | None = None
    energy_nj: float | None = None
    dense_energy_nj: float | None = None
    revision: str | None = None
    tools: str | None = None

    @property
    def speedup(self) -> float | None:
        """Cycles of the dense network over those of this one."""
        return _over(self.dense_cycles, self.cycles)

    @property
    def weight_bits_compression(self) -> float:
        """Bits of 8-bit weights over bits of the slots' weights or digits: twice the matrix compression where
        a slot is a digit of 4 bits.
        """
        return self.matrix_compression * 8 / self.weight_bits

    @property
    def energy_gain(self) -> float | None:
        """Energy of the dense network over that of this one."""
        return _over(self.dense_energy_nj, self.energy_nj)

    @staticmethod
    def of(content: Any, file: str) -> Report:
        """From the JSON of a file that is named `file`; raises `TatamiError` naming file and field."""
        f = _Fields(file, content)
        return Report(
            file=file,
            network=f.name("network"),
            scheme=f.name("scheme"),
            ratio=f.number("ratio", 1),
            seed=int(f.number("seed", 0)),
            config=f.name("config"),
            start_weights=f.text("start.weights"),
            start_float=f.number("start.accuracy_float", 0, 1),
            start_int8=f.number("start.accuracy_int8", 0, 1),
            data=f.text("data.name"),
            train=int(f.number("data.train", 0)),
            test=int(f.number("data.test", 1)),
            budget=Budget(
                epochs=f.number("budget.epochs", 0),
                device=f.text("budget.device"),
                seconds=f.number("budget.seconds", 0),
                steps=f.optional("budget.steps", 0),
                batch=f.optional("budget.batch", 1),
                learning_rate=f.optional("budget.learning_rate", 0),
                replans=f.optional("budget.replans", 0),
                precision=f.text("budget.precision") if f.has("budget.precision") else None,
            ),
            accuracy_float=f.number("accuracy.float", 0, 1),
            accuracy_int8=f.number("accuracy.int8", 0, 1),
            # a scheme may need more slots than the dense matrix has weights, but not without limit
            matrix_compression=f.number("matrix_compression", 0.01),
            weight_bits=int(f.number("weight_bits", 1, 8)) if f.has("weight_bits") else 8,
            parameters_pruned=f.optional("parameters_pruned", 0, 1),
            flops_pruned=f.optional("flops_pruned", 0, 1),
            density=f.optional("density", 0, 1),
            occupancy=f.optional("occupancy", 0, 1),
            saliency_kept=f.optional("saliency_kept", 0, 1),
            bits_per_weight=f.optional("bits_per_weight", 0),
            xor_bits_per_weight=f.optional("xor_bits_per_weight", 0),
            image_kbytes=f.optional("image_kbytes", 0),
            cycles=f.optional("cycles", 1),
            dense_cycles=f.optional("dense_cycles", 1),
            bound_cycles=f.optional("bound_cycles", 0),
            energy_nj=f.optional("energy_nj", 0),
            dense_energy_nj=f.optional("dense_energy_nj", 0),
            revision=f.text("revision") if f.has("revision") else None,
            tools=f.tools(),
        )


def _over(a: float | None, b: float | None) -> float | None:
    return a / b if a and b else None


class _Fields:
    """Fields of one file by dotted path."""

    def __init__(self, file: str, content: Any) -> None:
        self.file = file
        self.content = content
        if not isinstance(content, dict):
            raise self.refuse("must hold a JSON object")

    def refuse(self, what: str) -> TatamiError:
        return TatamiError(f"report '{self.file}': {what}")

    def get(self, path: str) -> Any:
        """None where it is missing, or null."""
        value = self.content
        for index, key in enumerate(parts := path.split(".")):
            if not isinstance(value, dict):
                raise self.refuse(f"{'.'.join(parts[:index])} must be an object")
            value = value.get(key)
            if value is None:
                return None
        return value

    def has(self, path: str) -> bool:
        return self.get(path) is not None

    def required(self, path: str) -> Any:
        if not self.has(path):
            raise self.refuse(f"{path} is missing")
        return self.get(path)

    def text(self, path: str) -> str:
        value = self.required(path)
        if not isinstance(value, str) or not value.strip() or "\n" in value:
            raise self.refuse(f"{path} is {value!r}, must be a line of text")
        return value

    def name(self, path: str) -> str:
        value = self.text(path)
        if not NAME.fullmatch(value):
            raise self.refuse(f"{path} is {value!r}, must be of letters, digits and _ . -")
        return value

    def number(self, path: str, low: float, high: float = math.inf) -> float:
        value = self.required(path)
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not math.isfinite(value)
            or not low <= value <= high
        ):
            limit = f"at least {low:g}" if high == math.inf else f"in {low:g}..{high:g}"
            raise self.refuse(f"{path} is {value!r}, must be a number {limit}")
        return float(value)

    def optional(self, path: str, low: float, high: float = math.inf) -> float | None:
        return self.number(path, low, high) if self.has(path) else None

    def tools(self) -> str | None:
        if not self.has("tools"):
            return None
        value = self.get("tools")
        if not isinstance(value, dict):
            raise self.refuse(f"tools is {value!r}, must be an object of versions")
        return ", ".join(f"{name} {version}" for name, version in sorted(value.items()) if version)


def read_reports(path: Path) -> list[Report]:
    """All `*.json` of a folder, or the one file; in order of network, configuration, scheme, ratio and seed.

    Raises `TatamiError` naming file and field for a file that is damaged or incomplete, for two reports of
    the same run, and for reports of one network and configuration that start from different weights or have
    different data: they cannot be compared.
    """
    if path.is_dir():
        files = sorted(path.glob("*.json"))
        if not files:
            raise TatamiError(f"folder '{path}' holds no report (*.json)")
    else:
        files = [path]
    reports = []
    for file in files:
        reports.append(Report.of(read_json(file, f"report '{file}'"), str(file)))
    reports.sort(key=lambda r: (r.network, r.config, r.scheme, r.ratio, r.seed))
    _check_together(reports)
    return reports


def _check_together(reports: Sequence[Report]) -> None:
    runs: dict[tuple[Any, ...], Report] = {}
    firsts: dict[tuple[str, str], Report] = {}
    for r in reports:
        twin = runs.setdefault((r.network, r.config, r.scheme, r.ratio, r.seed), r)
        if twin is not r:
            raise TatamiError(
                f"report '{r.file}': same network, config, scheme, ratio and seed as '{twin.file}'"
            )
        first = firsts.setdefault((r.network, r.config), r)
        for field, mine, other in (
            ("start.weights", r.start_weights, first.start_weights),
            ("start.accuracy_float", r.start_float, first.start_float),
            ("start.accuracy_int8", r.start_int8, first.start_int8),
            ("data", (r.data, r.train, r.test), (first.data, first.train, first.test)),
        ):
            if mine != other:
                raise TatamiError(
                    f"report '{r.file}': {field} is {mine}, but {other} in '{first.file}': they cannot be"
                    " compared"
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
