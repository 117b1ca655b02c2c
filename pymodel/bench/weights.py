"""The weights that a benchmark uses: those of a file, or made-up ones in the shapes of a ResNet-20."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pymodel.machine.errors import TatamiError
from pymodel.schemes import LayerWeights

# Filters and channels of the 3 x 3 convolutions after the first.
RESNET20 = ((16, 16),) * 6 + ((32, 16),) + ((32, 32),) * 5 + ((64, 32),) + ((64, 64),) * 5


def bench_layers(weights: Path | None, group: int) -> tuple[str, list[LayerWeights]]:
    """A description of the weights, and the layers: the convolutions of a `state_dict` except the first, or
    made-up ones.

    Channel c lies in bank c mod `group`, as the compiler places it. Raises `TatamiError` for a file that is
    missing, damaged or without convolutions.
    """
    if weights is None:
        rng = np.random.default_rng(0)
        found = {f"conv{i}": made_up(rng, *shape) for i, shape in enumerate(RESNET20, 2)}
        return "made-up weights in the shapes of a ResNet-20 (WEIGHTS=path for real ones)", layers_of(
            found, group
        )
    from pymodel.zoo.resnet import read_state  # needs torch

    state = {
        key: value.numpy() for key, value in read_state(weights).items() if getattr(value, "ndim", 0) == 4
    }
    if len(state) < 2:
        raise TatamiError(
            f"{weights}: holds {len(state)} convolution weights, must hold at least 2 (the first is left out)"
        )
    first = next(iter(state))
    return f"{weights.name}, all convolutions but '{first}'", layers_of(
        {key: value for key, value in state.items() if key != first}, group
    )


def layers_of(weights: Mapping[str, npt.NDArray[Any]], group: int) -> list[LayerWeights]:
    """Convolution weights [F, C, k, k] as layers with magnitude saliency."""
    return [
        LayerWeights.by_magnitude(
            name,
            w.reshape(len(w), -1).astype(np.float64),
            np.repeat(np.arange(w.shape[1]) % group, w.shape[2] * w.shape[3]),
        )
        for name, w in weights.items()
    ]


def made_up(
    rng: np.random.Generator, filters: int, channels: int, kernel: int = 3
) -> npt.NDArray[np.float64]:
    """Weights [F, C, k, k] whose filters and channels differ in size, as in trained weights."""
    scale = rng.lognormal(0, 0.5, (filters, 1, 1, 1)) * rng.lognormal(0, 0.5, (1, channels, 1, 1))
    return rng.standard_t(5, (filters, channels, kernel, kernel)) * scale / np.sqrt(channels * kernel**2)
