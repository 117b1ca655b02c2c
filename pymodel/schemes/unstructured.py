"""Unstructured pruning: the weights with the largest saliency stay, wherever they are.

An array cannot run it without packing, which takes more slots. It is the upper bound for all schemes that an
array can run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from pymodel.machine.config import ArrayConfig
from pymodel.machine.errors import RatioError
from pymodel.packing.plan import LayerPlan, LayerWeights, Mask, Scheme


def most_salient(layers: Sequence[LayerWeights], keep: int) -> dict[str, Mask]:
    """Masks of the `keep` weights of all layers with the largest saliency. Of equal weights the earlier
    stays.
    """
    saliency = np.concatenate([layer.saliency.ravel() for layer in layers])
    if keep >= len(saliency):
        kept = np.ones(len(saliency), bool)
    else:
        # without sorting: those above the largest that goes, and the first of those that equal it
        least = np.partition(saliency, len(saliency) - keep - 1)[len(saliency) - keep - 1]
        kept = saliency > least
        kept[np.flatnonzero(saliency == least)[: keep - np.count_nonzero(kept)]] = True
    ends = np.cumsum([layer.saliency.size for layer in layers])
    return {
        layer.name: part.reshape(layer.weight.shape)
        for layer, part in zip(layers, np.split(kept, ends[:-1]), strict=True)
    }


class Unstructured(Scheme):
    name: ClassVar[str] = "unstructured"
    summary: ClassVar[str] = "global pruning without packing: an upper bound, not a scheme for the array"

    def plan(
        self, layers: Sequence[LayerWeights], ratio: float, config: ArrayConfig, rng: np.random.Generator
    ) -> dict[str, LayerPlan]:
        """Keeps 1 / `ratio` of the weights, counting one slot for each."""
        weights = sum(layer.weights for layer in layers)
        if not 1 <= ratio <= weights:
            raise RatioError(f"ratio is {ratio:g}, must be in 1..{weights}")
        masks = most_salient(layers, math.floor(weights / ratio + 1e-9))
        return {name: LayerPlan(mask, None) for name, mask in masks.items()}
