"""The measurements of a network before compression. They are made once and kept in a file, which also says
what was measured.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from pymodel.cost.dense import dense_cost
from pymodel.cost.energy import LOADED_FOR, energy, load_energy
from pymodel.machine.config import DEPTHS, MAX_DEPTH, ArrayConfig
from pymodel.machine.errors import TatamiError
from pymodel.machine.files import Fields, checked, read_json, write_json
from pymodel.network.float import FloatWeighted
from pymodel.network.from_torch import import_torch
from pymodel.training.identity import MEASURING, identity
from pymodel.training.integers import int8_accuracy, quantised
from pymodel.training.tasks import Task
from pymodel.training.trainer import accuracy

ANEW = "FRESH=1 measures again"


class Start(Fields):
    """The network before compression: accuracies on the test images, and of the dense program the cycles and
    nJ for one image and the lanes of layers with weights.

    `of` says what was measured (`pymodel.training.identity`) and for which array. `depths` are the depths of
    the memories that the dense program needs, or `MAX_DEPTH` if it needs more. `dense_weights` is the number
    of weights in all layers.
    """

    of: dict[str, str]
    accuracy_float: Annotated[float, Field(ge=0, le=1)]
    accuracy_int8: Annotated[float, Field(ge=0, le=1)]
    cycles: Annotated[int, Field(gt=0)]
    energy_nj: Annotated[float, Field(gt=0)]
    depths: dict[str, Annotated[int, Field(ge=4, le=MAX_DEPTH)]]
    lanes: Annotated[int, Field(gt=0)]
    dense_weights: Annotated[int, Field(gt=0)]

    @field_validator("depths")
    @classmethod
    def _of_memories(cls, depths: dict[str, int]) -> dict[str, int]:
        if not set(depths) <= set(DEPTHS):
            raise PydanticCustomError("depths", "may name {known}", {"known": ", ".join(DEPTHS)})
        return depths

    def machine(self, config: ArrayConfig) -> ArrayConfig:
        """`config` with memories that are deep enough for the dense program too, because energies are
        compared on one machine.
        """
        depths: dict[str, Any] = {
            name: max(getattr(config, name), depth) for name, depth in self.depths.items()
        }
        return replace(config, **depths)

    def save(self, path: Path) -> None:
        """Several runs may write the file at once. Raises `TatamiError` if it cannot be written."""
        write_json(path, self.model_dump())


def measure_start(task: Task, config: ArrayConfig) -> Start:
    """Measures `task.module` as it is, dense."""
    network, scales = quantised(task, task.module)
    dense = dense_cost(network, config, LOADED_FOR)
    return Start(
        of=measured_of(task, config),
        accuracy_float=accuracy(task, task.module),
        accuracy_int8=int8_accuracy(task, network, scales),
        cycles=dense.cost.cycles,
        energy_nj=energy(dense.cost, load_energy()).total,
        depths={name: getattr(dense.cost.config, name) for name in DEPTHS},
        lanes=dense.lanes,
        dense_weights=_weights(task),
    )


def load_start(path: Path, task: Task, config: ArrayConfig) -> Start:
    """Reads a start. Raises `TatamiError` for a damaged file, and for a file of another network, of other
    weights, data or code, or for another array.
    """
    try:
        start = checked(Start, read_json(path), path)
    except TatamiError as error:
        raise TatamiError(f"{error}; {ANEW}") from None
    for name, value in measured_of(task, config).items():
        if start.of.get(name) != value:
            there = start.of.get(name, "not said")
            raise TatamiError(f"{path}: {name} is '{there}' there and '{value}' here; {ANEW}")
    return start


def known_start(
    path: Path | None,
    task: Task,
    config: ArrayConfig,
    fresh: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> Start:
    """The start in the file `path`. If the file does not exist, or if `fresh`, the start is measured and
    written there. Without a path it is only measured. Raises `TatamiError` as `load_start` does.
    """
    if path and path.exists() and not fresh:
        return load_start(path, task, config)
    say("measuring the network as it is")
    start = measure_start(task, config)
    if path:
        start.save(path)
    return start


def measured_of(task: Task, config: ArrayConfig) -> dict[str, str]:
    """The identity of a start: that of the measurement, and the array."""
    return {**identity(task, MEASURING), "config": config.name}


def _weights(task: Task) -> int:
    """Number of weights in all layers."""
    imported = import_torch(task.module, task.input_shape, task.name)
    return sum(layer.weight.size for layer in imported.network.layers if isinstance(layer, FloatWeighted))
