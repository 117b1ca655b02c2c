"""Dense: every weight has a slot, and every input has its own lane. All speed-ups are measured against it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from pymodel.machine.config import ArrayConfig
from pymodel.machine.errors import RatioError
from pymodel.packing.pack import pack_dense
from pymodel.packing.plan import LayerPlan, LayerWeights, Scheme


class Dense(Scheme):
    name: ClassVar[str] = "dense"
    summary: ClassVar[str] = "nothing pruned, a lane for every input"
    prunes: ClassVar[bool] = False

    def plan(
        self, layers: Sequence[LayerWeights], ratio: float, config: ArrayConfig, rng: np.random.Generator
    ) -> dict[str, LayerPlan]:
        """Keeps everything; `ratio` must be 1."""
        if ratio != 1:
            raise RatioError(f"ratio is {ratio:g}, must be 1: scheme 'dense' prunes nothing")
        ones = {layer.name: np.ones(layer.weight.shape, np.int8) for layer in layers}
        return {
            layer.name: LayerPlan.of(pack_dense(ones[layer.name], layer.bank, config.size, config.group))
            for layer in layers
        }
