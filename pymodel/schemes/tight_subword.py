"""Tight Compression with subword pruning (Chen et al., arXiv 2104.01303): digits of weights are pruned,
permuted and packed one by one.

An 8-bit weight is `low + 16 * high`, two signed digits of 4 bits (`pymodel.packing.pack.split_digits`). Each
digit takes its own slot, which is half as wide. One bit of the slot says which of the two digits it is. A
weight that keeps both digits takes two slots. A small weight, or a multiple of 16, takes only one. The
machine must have slots of digits (`ArrayConfig.weight_bits` 4).

Real weights become integers, scaled by the peak of their filter. The saliency of a digit is how much it
brings the weight nearer (`by_digit`). Which digits stay is decided over all layers at once. The rest is as in
`tight_tile`. The ratio counts slots of any width against weights. Counted against the two digits of every
weight, it is twice as high.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from pymodel.machine.config import ArrayConfig
from pymodel.machine.errors import TatamiError
from pymodel.packing.pack import DIGIT_BITS, MAX_DIGITS, PackedMatrix, pack, split_digits, unpack_own
from pymodel.packing.permute import Array, Permutation, lane_count
from pymodel.packing.plan import LayerPlan, LayerWeights, Mask, Plans, Scheme, slot_budget
from pymodel.schemes.search import most_that_fit, permute_all
from pymodel.schemes.unstructured import most_salient

HIGH_FIRST = 1e-9  # if both digits get half, the high digit's share is larger by this factor


class TightSubword(Scheme):
    """Needs a configuration whose slots are 4 bits wide.

    `project` rounds trained weights to values that the slots of a plan can hold.
    """

    name: ClassVar[str] = "tight_subword"
    summary: ClassVar[str] = (
        "4-bit digits pruned one by one, packed as tight_tile; for slots of 4 bits (arXiv 2104.01303)"
    )
    slot_bits: ClassVar[int] = DIGIT_BITS
    trainer: ClassVar[str] = "pymodel.training.subword:SubwordTrainer"

    def plan(
        self, layers: Sequence[LayerWeights], ratio: float, config: ArrayConfig, rng: np.random.Generator
    ) -> dict[str, LayerPlan]:
        check_slots(self.name, config)
        budget = slot_budget(layers, ratio, config)
        digits = [by_digit(layer) for layer in layers]
        seed = int(rng.integers(2**32))

        def try_out(keep: int, moves: int) -> tuple[int, tuple[dict[str, Mask], list[Permutation]]]:
            masks = most_salient(digits, keep)
            for layer, each in zip(layers, digits, strict=True):
                masks[layer.name] = (masks[layer.name] & (each.saliency > 0)).reshape(*layer.weight.shape, 2)
            slots = [masks[layer.name].sum(axis=2) for layer in layers]
            matrices = [(count, layer.bank) for count, layer in zip(slots, layers, strict=True)]
            found = permute_all(matrices, config.size, config.group, "tile", moves, seed, slots)
            return sum(
                lane_count(count, permutation, count) for count, permutation in zip(slots, found, strict=True)
            ), (masks, found)

        masks, permutations = most_that_fit(try_out, budget, budget * config.size)
        plans = {}
        for layer, permutation in zip(layers, permutations, strict=True):
            ones = masks[layer.name] @ np.array([1, 1 << DIGIT_BITS])
            plans[layer.name] = LayerPlan.of(
                pack(ones, layer.bank, permutation, config.size, config.group, DIGIT_BITS)
            )
        return plans


def check_slots(scheme: str, config: ArrayConfig) -> None:
    """Raises `TatamiError` if the slots of the array are not as wide as a digit."""
    if config.weight_bits != DIGIT_BITS:
        raise TatamiError(
            f"{scheme}: config '{config.name}' has slots of {config.weight_bits} bits, must be {DIGIT_BITS}"
        )


def integers(weight: npt.NDArray[np.generic]) -> Array:
    """`weight` [F, K] in int64 steps. Integers are returned as they are. Otherwise the largest weight of each
    filter becomes 119, the largest value of two digits.
    """
    if np.issubdtype(weight.dtype, np.integer):
        return weight.astype(np.int64)
    real = weight.astype(np.float64)
    peak = np.abs(real).max(axis=1, keepdims=True)
    return np.rint(real / np.where(peak > 0, peak / MAX_DIGITS, 1)).astype(np.int64)


def by_digit(layer: LayerWeights) -> LayerWeights:
    """The layer with its digits as inputs, low and high side by side: [F, 2 K].

    The saliency of a weight w is shared between its digits in proportion to the squared error that each
    removes. Of w^2, the high digit removes w^2 - low^2, because low is the error that it leaves. The low
    digit then removes low^2. If this would rank the low digit first, where it is useless without the high
    digit, both get half.
    """
    whole = integers(layer.weight)
    try:
        digits = split_digits(whole).astype(np.int64)
    except TatamiError as error:
        raise TatamiError(f"layer '{layer.name}': {error}") from None
    square, low = np.square(whole), np.square(digits[:, :, 0])
    high = np.where(digits[:, :, 1] != 0, square - low, 0)
    wrong_way = (digits[:, :, 1] != 0) & (high < low)
    share = np.stack(
        [np.where(wrong_way, square / 2, low), np.where(wrong_way, square / 2 * (1 + HIGH_FIRST), high)],
        axis=-1,
    )
    saliency = layer.saliency[:, :, None] * share / np.where(whole == 0, 1, square)[:, :, None]
    return replace(
        layer,
        weight=digits.reshape(len(whole), -1),
        bank=np.repeat(layer.bank, 2),
        saliency=saliency.reshape(len(whole), -1),
        own=None if layer.own is None else np.repeat(layer.own, 2, axis=1),
    )


def project(packed: PackedMatrix, weight: Array) -> Array:
    """The nearest int8 weights to `weight`, integers [F, ...], that have digits only where `packed` (a plan
    with placeholders) has slots for them. Of a convolution in groups, the weights of each filter's own group.
    """
    groups = packed.inputs // max(1, weight[0].size)
    slots = unpack_own(packed, groups).reshape(weight.shape)
    low, high = slots & 1 == 1, slots >> DIGIT_BITS == 1
    sixteens = np.clip(np.rint(weight / 16), -8, 7) * 16
    nearest = np.select(
        [low & high, high, low], [np.clip(weight, -128, MAX_DIGITS), sixteens, np.clip(weight, -8, 7)], 0
    )
    return nearest.astype(np.int8)


def digit_saliency_kept(layers: Sequence[LayerWeights], plans: Plans) -> float:
    """Share of the squared weights, in the steps of `integers`, that remains if every weight is rounded to
    what its slots can hold.

    The rest is the squared error. (`base.saliency_kept` counts a weight as kept if one of its digits is
    kept.)
    """
    error = total = 0.0
    for layer in layers:
        packed = plans[layer.name].packed
        if packed is None:
            raise TatamiError(f"layer '{layer.name}': the plan has no slots")
        whole = integers(layer.weight)
        scale = layer.saliency / np.square(np.where(whole == 0, 1, whole))
        error += float((scale * np.square(project(packed, whole) - whole)).sum())
        total += float((scale * np.square(whole)).sum())
    return 1 - error / total if total else 1.0
