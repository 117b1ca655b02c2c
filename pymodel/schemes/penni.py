"""PENNI (Li et al., ICML 2020, arXiv 2005.07133): every k x k kernel of a layer is a sum of a few basis
kernels, which the whole layer shares.

    weight[f, c] = sum over j of coefficients[f, c, j] * basis[j]

The basis and the coefficients come from a singular value decomposition of the kernels. Then they are trained
in turns, the coefficients under an l1 penalty, and the small coefficients are pruned.
`pymodel.training.decomposed` has the module for it. `pymodel.training.penni` lists the differences from the
training of the paper.

On the array, a layer becomes two layers. `x.basis` convolves each channel with every basis kernel and gives C
* d planes. As a matrix [C * d, C * k * k] it is block-diagonal. Because a lane brings one input from each
bank, the k * k lanes of each tile are full. `x.coefficients` is the 1 x 1 convolution [F, C * d] that adds
the planes up. Plane c * d + j is channel c under kernel j.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from pymodel.machine.config import ArrayConfig
from pymodel.machine.errors import RatioError, TatamiError
from pymodel.packing.pack import pack
from pymodel.packing.permute import Permutation, lane_count
from pymodel.packing.plan import LayerPlan, LayerWeights, Mask, Plans, Scheme
from pymodel.schemes.search import most_that_fit, permute_all
from pymodel.schemes.unstructured import most_salient

FloatArray = npt.NDArray[np.float64]

BASIS, COEFFICIENTS = ".basis", ".coefficients"  # the ends of the names of the two layers
KERNELS = 5  # d, as in the paper's experiments


class Penni(Scheme):
    """Prunes the coefficients by saliency, over all layers, and packs both stages as `tight_tile` does.

    A layer belongs to the first stage if its name ends in ".basis". It keeps all its non-zeros, except for
    planes that have no coefficient left. (The paper's model shrinking drops whole channels and kernels, and
    also shrinks the layers before and after.) Everything else is pruned: ".coefficients", and also layers
    that are not decomposed.

    The ratio counts the slots of both stages against the weights of the layer before it was decomposed, F * C
    * k * k: the filters of `x.coefficients` times the inputs of `x.basis` (`original_weights`). So the ratio
    has the same meaning as for all other schemes. `base.compression` of the result counts against the two
    stages as they are, and is mostly larger. Report `original_compression`.
    """

    name: ClassVar[str] = "penni"
    summary: ClassVar[str] = (
        "shared basis kernels and sparse coefficients, two layers for each; for decomposed networks (arXiv"
        " 2005.07133)"
    )
    trainer: ClassVar[str] = "pymodel.training.penni:PenniTrainer"
    stages: ClassVar[int] = 2

    def plan(
        self, layers: Sequence[LayerWeights], ratio: float, config: ArrayConfig, rng: np.random.Generator
    ) -> dict[str, LayerPlan]:
        budget = self._budget(layers, ratio, config)
        seed = int(rng.integers(2**32))

        def try_out(keep: int, moves: int) -> tuple[int, tuple[dict[str, Mask], list[Permutation]]]:
            masks = _masks(layers, keep)
            matrices = [(masks[layer.name], layer.bank) for layer in layers]
            found = permute_all(matrices, config.size, config.group, "tile", moves, seed)
            lanes = sum(
                lane_count(mask, permutation) for (mask, _), permutation in zip(matrices, found, strict=True)
            )
            return lanes, (masks, found)

        # at most one weight in a slot
        masks, permutations = most_that_fit(try_out, budget, budget * config.size)
        if any(layer.saliency.any() for layer in layers) and not any(mask.any() for mask in masks.values()):
            raise RatioError(
                f"ratio is {ratio:g}, is too high: {budget} lanes hold no coefficient with the basis kernel"
                " that it needs"
            )
        return {
            layer.name: LayerPlan.of(
                pack(masks[layer.name].astype(np.int8), layer.bank, permutation, config.size, config.group)
            )
            for layer, permutation in zip(layers, permutations, strict=True)
        }

    def _budget(self, layers: Sequence[LayerWeights], ratio: float, config: ArrayConfig) -> int:
        """Lanes of all layers together, as `base.slot_budget`, but the ratio counts against the original
        weights.
        """
        if not 1 <= ratio < math.inf:  # also refuses NaN
            raise RatioError(f"ratio is {ratio}, must be at least 1")
        weights = original_weights(layers)
        lanes = math.floor(weights / (ratio * config.size) + 1e-9)
        if lanes < 1:
            raise RatioError(
                f"ratio is {ratio:g}, must be at most {weights / config.size:.4g}: no lane is left"
            )
        return lanes


def original_weights(layers: Sequence[LayerWeights]) -> int:
    """Weights of the layers before they were decomposed. A layer that is not a stage counts as it is.

    Raises `TatamiError` for a basis without its coefficients, and for shapes that do not belong together.
    """
    by_name = {layer.layer: layer for layer in layers}
    planes: dict[str, int] = {}
    total = 0
    for layer in layers:
        name = layer.layer
        if not name.endswith(BASIS):
            decomposed = name.endswith(COEFFICIENTS) and _stem(name) + BASIS in by_name
            total += 0 if decomposed else layer.weights
            continue
        partner = by_name.get(_stem(name) + COEFFICIENTS)
        if partner is None:
            raise TatamiError(f"layer '{name}': there is no layer '{_stem(name) + COEFFICIENTS}' beside it")
        planes[name] = planes.get(name, 0) + layer.filters  # a basis comes in blocks of its groups
        total += partner.filters * layer.inputs
    for name, count in planes.items():
        partner = by_name[_stem(name) + COEFFICIENTS]
        if partner.inputs != count:
            raise TatamiError(
                f"layer '{name}': has {count} planes, but '{partner.name}' reads {partner.inputs}"
            )
    return total


def original_compression(layers: Sequence[LayerWeights], plans: Plans) -> float:
    """Matrix compression of a plan against the layers before they were decomposed (infinite for no slots)."""
    slots = sum(plans[layer.name].slots for layer in layers)
    return original_weights(layers) / slots if slots else math.inf


def _stem(name: str) -> str:
    """The name of the layer that this stage belongs to."""
    return name.removesuffix(BASIS).removesuffix(COEFFICIENTS)


def _masks(layers: Sequence[LayerWeights], keep: int) -> dict[str, Mask]:
    """The `keep` most salient weights of all layers except the basis ones, and the planes of the basis ones
    that these weights need.
    """
    pruned = [layer for layer in layers if not layer.layer.endswith(BASIS)]
    kept = most_salient(pruned, keep) if pruned else {}
    masks = {layer.name: kept[layer.name] & (layer.saliency > 0) for layer in pruned}
    for layer in layers:
        if layer.layer.endswith(BASIS):
            needed: Mask = np.any(masks[_stem(layer.layer) + COEFFICIENTS], axis=0)
            mine = needed if layer.part is None else needed[layer.part.filters]
            masks[layer.name] = (layer.weight != 0) & mine[:, None]
    return masks


def decompose(weight: npt.NDArray[np.floating], kernels: int = KERNELS) -> tuple[FloatArray, FloatArray]:
    """Basis [d, k, k], orthonormal, and coefficients [F, C, d] of `weight` [F, C, k, k]: the sum of d =
    `kernels` kernels with the least squared error.

    Exact for d = k * k. Raises `TatamiError` for another shape, for values that are not finite and for d
    outside of 1..k * k.
    """
    if weight.ndim != 4 or weight.shape[2] != weight.shape[3] or 0 in weight.shape:
        raise TatamiError(
            f"penni: weight has shape {weight.shape}, must be [filters, channels, k, k], none of them 0"
        )
    filters, channels, k, _ = weight.shape
    if not 1 <= kernels <= k * k:
        raise TatamiError(f"penni: kernels is {kernels}, must be in 1..{k * k}")
    if not np.isfinite(weight).all():
        raise TatamiError("penni: weight holds a value that is not finite")
    flat = weight.reshape(-1, k * k).astype(np.float64)
    # the right singular vectors: k * k of them, even if the layer has fewer kernels
    basis = np.linalg.svd(flat, full_matrices=len(flat) < k * k)[2][:kernels]
    return basis.reshape(kernels, k, k), (flat @ basis.T).reshape(filters, channels, kernels)


@dataclass(frozen=True)
class Counts:
    """`parameters` and `flops` of a decomposed layer and of the layer that it replaces. A multiplication with
    its addition counts as one operation.
    """

    parameters: int
    flops: int
    original_parameters: int
    original_flops: int


def penni_counts(coefficients: npt.NDArray[np.floating], k: int, pixels: int) -> Counts:
    """Parameters and operations of `coefficients` [F, C, d] over kernels of `k` x `k` and an output plane of
    `pixels`.

    Parameters: the shared basis, d * k * k (the authors leave it out), and the non-zero coefficients.
    Operations are counted as in the authors' published counter (github.com/timlee0212/PENNI,
    `count_decomp_convNd`, after shrinking): the basis convolution of every channel with every kernel, and the
    non-zero coefficients. A channel or a kernel is left out if the whole layer has no coefficient of it. The
    array also skips single planes.
    """
    if coefficients.ndim != 3:
        raise TatamiError(
            f"penni: coefficients have shape {coefficients.shape}, must be [filters, channels, kernels]"
        )
    filters, channels, kernels = coefficients.shape
    nonzero = int(np.count_nonzero(coefficients))
    planes = int((coefficients != 0).any(axis=(0, 2)).sum()) * int((coefficients != 0).any(axis=(0, 1)).sum())
    original = filters * channels * k * k
    return Counts(kernels * k * k + nonzero, (planes * k * k + nonzero) * pixels, original, original * pixels)
