"""The interface of a compression scheme. Its input is weights. Its output says which of them stay and which
slots hold them.

A scheme sees every layer as the array does: a matrix W [F filters, K inputs] whose inputs lie in G feature
banks. It is given one number for all layers, the matrix compression: dense slots over packed slots. It
returns a plan for each layer. Training multiplies the weights by the plan's mask, and may ask for a new plan
at any time. The compiler puts the trained integers into the plan's slots.

To add a scheme, write a module in `pymodel/schemes/` with a class like `Tight`, and name it in
`pymodel/schemes/__init__.py` (docs/how-to/add-a-scheme.md).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from pymodel.machine.config import ArrayConfig
from pymodel.machine.errors import RatioError, TatamiError
from pymodel.machine.planes import ceil_div
from pymodel.packing.pack import WEIGHT_BITS, PackedMatrix, Tile, unpack_own
from pymodel.packing.permute import Array

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Part:
    """Which filters of which layer a block of a convolution in groups has."""

    layer: str
    filters: Array


@dataclass(frozen=True)
class LayerWeights:
    """One layer as a scheme sees it, or a block of a convolution in groups.

    `weight` [F, K], float or integer. `bank` int64 [K]: the feature bank of each input. `saliency` float [F,
    K], at least 0: what is lost without the weight. It is the square of the weight (magnitude), or the square
    of weight times gradient (first-order Taylor; Molchanov et al., arXiv 1906.10771). `residual` int64 [F],
    if a residual is added to the layer's sums: the bank that each filter adds from, -1 for none. It takes a
    slot of the filter. `words`: words of the layer's output; a lane takes a cycle for each word. Raises
    `TatamiError`, naming the layer, for shapes that do not match and for values that are not finite.

    `own` bool [F, K], for a block of a convolution in groups: the inputs of each filter's own group. All
    other places hold no weight, only a zero without saliency. A ratio counts the weights that exist, over the
    slots. `part` says which block it is.
    """

    name: str
    weight: npt.NDArray[Any]
    bank: Array
    saliency: npt.NDArray[np.floating]
    residual: Array | None = None
    words: int = 1
    own: Mask | None = None
    part: Part | None = None

    def __post_init__(self) -> None:
        if self.weight.ndim != 2 or 0 in self.weight.shape:
            raise TatamiError(
                f"layer '{self.name}': weight has shape {self.weight.shape}, must be [filters, inputs],"
                " neither of them 0"
            )
        if self.bank.shape != self.weight.shape[1:]:
            raise TatamiError(
                f"layer '{self.name}': bank has shape {self.bank.shape}, must be ({self.weight.shape[1]},)"
            )
        if self.residual is not None and self.residual.shape != self.weight.shape[:1]:
            raise TatamiError(
                f"layer '{self.name}': residual has shape {self.residual.shape}, must be"
                f" ({self.weight.shape[0]},)"
            )
        if self.saliency.shape != self.weight.shape:
            raise TatamiError(
                f"layer '{self.name}': saliency has shape {self.saliency.shape}, must be {self.weight.shape}"
            )
        for field, value in (("weight", self.weight), ("saliency", self.saliency)):
            if not np.isfinite(value).all():
                f, k = np.argwhere(~np.isfinite(value))[0]
                raise TatamiError(
                    f"layer '{self.name}': {field} [{f}, {k}] is {value[f, k]}, must be a finite number"
                )
        if self.words < 1:
            raise TatamiError(f"layer '{self.name}': words is {self.words}, must be at least 1")
        if self.saliency.min() < 0:
            raise TatamiError(f"layer '{self.name}': saliency is {self.saliency.min()}, must be at least 0")

    @staticmethod
    def by_magnitude(name: str, weight: npt.NDArray[Any], bank: Array) -> LayerWeights:
        """With the squared weights as saliency."""
        return LayerWeights(name, weight, bank, np.square(weight, dtype=np.float64))

    @property
    def layer(self) -> str:
        """The name of the layer that it is, or is a part of."""
        return self.name if self.part is None else self.part.layer

    @property
    def weights(self) -> int:
        """Weights that the layer has: what a ratio counts against its slots."""
        return self.weight.size if self.own is None else int(self.own.sum())

    @property
    def filters(self) -> int:
        return int(self.weight.shape[0])

    def residual_lanes(self, filters: Array) -> int:
        """Lanes that the residuals of a tile of `filters` need if nothing else uses them. It is the largest
        number of residuals in one bank.
        """
        banks = np.array([], np.int64) if self.residual is None else self.residual[filters]
        return int(np.bincount(banks[banks >= 0], minlength=1).max())

    @property
    def inputs(self) -> int:
        return int(self.weight.shape[1])

    def tiles(self, config: ArrayConfig) -> int:
        return ceil_div(self.filters, config.size)


@dataclass(frozen=True)
class LayerPlan:
    """`mask` bool [F, K]: the weights that stay. `packed`: the slots that hold them, each with the
    placeholder weight 1.

    Of a convolution in groups the mask is [F, K of a group], and `packed` has the inputs of all groups.
    `packed` is None if the plan is not for the array (unstructured pruning, the bound). The compiler then
    packs the remaining weights without loss.
    """

    mask: Mask
    packed: PackedMatrix | None

    @staticmethod
    def of(packed: PackedMatrix, groups: int = 1) -> LayerPlan:
        """The plan that keeps the weights which have a slot. With `groups`, the mask has the inputs of each
        filter's own group alone: [F, K / groups]. Raises `TatamiError` if a slot holds another.
        """
        return LayerPlan(unpack_own(packed, groups) != 0, packed)

    def within(self, own: Mask) -> LayerPlan:
        """The plan without slots in places that hold no weight: `own` as in `LayerWeights`. Its lanes
        stay.
        """
        if self.packed is None:
            return LayerPlan(self.mask & own, None)
        tiles = []
        for tile in self.packed.tiles:
            member = self.packed.groups[tile.lanes[:, None], tile.select]
            stays = (tile.weight != 0) & own[tile.filters[None, :], member]
            position = None if tile.position is None else np.where(stays, tile.position, 0)
            select, weight = np.where(stays, tile.select, 0), np.where(stays, tile.weight, 0)
            tiles.append(replace(tile, select=select, weight=weight.astype(np.int8), position=position))
        return LayerPlan.of(replace(self.packed, tiles=tuple(tiles)))

    def to_arrays(self) -> dict[str, Any]:
        """The plan as numbers and arrays in dicts, for a file. `from_arrays` is the inverse."""
        if self.packed is None:
            return {"mask": self.mask}
        # a tile of whole weights has no positions
        tiles = {
            str(i): {name: value for name, value in vars(t).items() if value is not None}
            for i, t in enumerate(self.packed.tiles)
        }
        return {
            "groups": self.packed.groups,
            "size": self.packed.size,
            "inputs": self.packed.inputs,
            "tiles": tiles,
        }

    @staticmethod
    def from_arrays(arrays: Mapping[str, Any], groups: int = 1) -> LayerPlan:
        """The plan of a layer of so many groups."""
        if "mask" in arrays:
            return LayerPlan(arrays["mask"], None)
        tiles = tuple(Tile(**tile) for tile in arrays["tiles"].values())
        return LayerPlan.of(PackedMatrix(arrays["groups"], tiles, arrays["size"], arrays["inputs"]), groups)

    @property
    def slots(self) -> int:
        """All slots, used and empty. Without `packed`, only the used ones."""
        return self.packed.slots if self.packed else int(self.mask.sum())

    @property
    def filled(self) -> int:
        """Used slots. A weight in digits has one for each digit."""
        return (
            sum(int(np.count_nonzero(tile.weight)) for tile in self.packed.tiles)
            if self.packed
            else int(self.mask.sum())
        )


Plans = Mapping[str, LayerPlan]


class Scheme(ABC):
    """A way to compress.

    `name` is its name in SCHEME, and `summary` a line that says what it is and where it comes from.
    `slot_bits`: the width of its slots, 8 for a weight, 4 for a digit. `trainer`: the class that trains under
    it, as `module:class`; it needs torch. `prunes`: whether it prunes anything. `stages`: the layers that it
    makes from a convolution.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    slot_bits: ClassVar[int] = WEIGHT_BITS
    trainer: ClassVar[str] = "pymodel.training.trainer:Trainer"
    prunes: ClassVar[bool] = True
    stages: ClassVar[int] = 1

    @abstractmethod
    def plan(
        self, layers: Sequence[LayerWeights], ratio: float, config: ArrayConfig, rng: np.random.Generator
    ) -> dict[str, LayerPlan]:
        """A plan for every layer, such that all together reach the matrix compression `ratio` (`compression`
        of the result, or a little more).

        Equal arguments and generator state give equal plans. Raises `TatamiError` for a ratio that cannot be
        reached.
        """


def compression(plans: Plans) -> float:
    """Matrix compression of all layers together: weights over slots (infinite for no slots)."""
    slots = sum(plan.slots for plan in plans.values())
    return sum(plan.mask.size for plan in plans.values()) / slots if slots else math.inf


def saliency_kept(layers: Sequence[LayerWeights], plans: Plans) -> float:
    """Share of the saliency of all layers that the masks keep (1 if there is none)."""
    total = sum(float(layer.saliency.sum()) for layer in layers)
    return (
        sum(float(layer.saliency[plans[layer.name].mask].sum()) for layer in layers) / total if total else 1.0
    )


def occupancy(plans: Plans) -> float:
    """Share of the slots that hold a weight (1 for no slots)."""
    slots = sum(plan.slots for plan in plans.values())
    return sum(plan.filled for plan in plans.values()) / slots if slots else 1.0


def slot_budget(layers: Sequence[LayerWeights], ratio: float, config: ArrayConfig) -> int:
    """Lanes that all layers together may take at a matrix compression `ratio`. Rounded down, so that the
    ratio is reached.

    Raises `TatamiError` for a ratio below 1, and for a ratio that leaves less than a lane for each tile.
    """
    if not 1 <= ratio < math.inf:  # also refuses NaN
        raise RatioError(f"ratio is {ratio}, must be at least 1")
    weights = sum(layer.weights for layer in layers)
    lanes = math.floor(weights / (ratio * config.size) + 1e-9)
    tiles = sum(layer.tiles(config) for layer in layers)
    if lanes < tiles:
        limit = weights / (tiles * config.size)
        raise RatioError(
            f"ratio is {ratio:g}, must be at most {limit:.4g}: {tiles} tiles of filters need a lane each,"
            f" {lanes} lanes are left"
        )
    return lanes
