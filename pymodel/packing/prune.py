"""Magnitude pruning: which weights stay, for each layer or over a whole network.

A mask is bool, of its weight's shape, and True where the weight is kept. The number kept is exact: a sparsity
of n weights prunes ceil(sparsity * n) of them, those with the smallest magnitudes. Of equal magnitudes the
earlier is kept (in the order of the layers, then C order), so the same weights always give the same mask.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from pymodel.machine.errors import TatamiError

Weight = npt.NDArray[np.floating]
Mask = npt.NDArray[np.bool_]


def kept_count(weights: int, sparsity: float) -> int:
    """How many of `weights` weights stay at a sparsity in [0, 1).

    Raises TatamiError for a sparsity outside that range.
    """
    if not 0 <= sparsity < 1:  # also refuses NaN
        raise TatamiError(f"sparsity is {sparsity}, must be in [0, 1)")
    # Rounded first: 0.07 * 100 is 7.000000000000001, which must prune 7 weights.
    return weights - math.ceil(round(sparsity * weights, 6))


def layer_masks(weights: Mapping[str, Weight], sparsity: float | Mapping[str, float]) -> dict[str, Mask]:
    """Prunes every layer to its own sparsity: one number for all layers, or one for each layer name.

    Raises TatamiError for a weight that is not finite, a sparsity outside [0, 1) or a layer without a
    sparsity.
    """
    masks = {}
    for name, weight in weights.items():
        if isinstance(sparsity, Mapping) and name not in sparsity:
            raise TatamiError(f"layer '{name}' has no sparsity; given: {', '.join(sparsity)}")
        masks[name] = _largest(
            _magnitude(name, weight), sparsity[name] if isinstance(sparsity, Mapping) else sparsity
        ).reshape(weight.shape)
    return masks


def global_masks(weights: Mapping[str, Weight], sparsity: float) -> dict[str, Mask]:
    """Prunes the smallest weights of all layers, so that all layers together reach the sparsity. A layer may
    lose all of its weights.

    Raises TatamiError for a weight that is not finite or a sparsity outside [0, 1).
    """
    magnitudes = [_magnitude(name, weight) for name, weight in weights.items()]
    kept = _largest(np.concatenate([np.zeros(0), *magnitudes]), sparsity)
    masks, start = {}, 0
    for name, weight in weights.items():
        masks[name] = kept[start : start + weight.size].reshape(weight.shape)
        start += weight.size
    return masks


def sparsity_of(weights: Mapping[str, npt.NDArray[np.generic]]) -> float:
    """Share of the weights (or mask entries) that are zero, over all layers; 0 if there is no weight."""
    total = sum(weight.size for weight in weights.values())
    return 1 - sum(np.count_nonzero(weight) for weight in weights.values()) / total if total else 0.0


def _magnitude(name: str, weight: Weight) -> npt.NDArray[np.floating]:
    magnitude: Weight = np.abs(weight).ravel()
    if not np.isfinite(magnitude).all():
        raise TatamiError(
            f"layer '{name}': weight {int(np.flatnonzero(~np.isfinite(magnitude))[0])} is not a finite number"
        )
    return magnitude


def _largest(magnitude: npt.NDArray[np.floating], sparsity: float) -> Mask:
    mask = np.zeros(len(magnitude), dtype=bool)
    mask[np.argsort(-magnitude, kind="stable")[: kept_count(len(magnitude), sparsity)]] = True
    return mask
