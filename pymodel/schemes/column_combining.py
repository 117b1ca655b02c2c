"""Column combining (Kung, McDanel and Zhang, ASPLOS 2019, arXiv 1811.04770): the baseline for packed systolic
arrays.

The inputs of a layer are the columns of its filter matrix. They are combined into groups of at most `alpha`.
A group is one column of the packed matrix and is the same for all filters, so every tile has one lane for
each group. If several weights of a filter meet in a group (a *conflict*), the largest stays and the others
are pruned. One iteration of the paper's algorithm, for all layers together:

1. Prune the smallest weights of the network.
2. Group the columns of each layer, dense columns first. At first each column is a group. Of all pairs of
   groups, combine the two that make the densest column, provided that it has at most `alpha` columns and at
   most `gamma` conflicts for each filter on average. Repeat until there is no such pair. Columns without
   weights are left out.
3. Prune the conflicts.

The second step is that of the authors' published code (github.com/BradMcDanel/column-combine, packing.py).
Another method was tried: it adds the columns one by one, each to the group that it makes densest. It kept
less saliency on a public ResNet-20.

The number of weights that the first step leaves is found by bisection, so that the packed matrices have the
requested size. The caller does the retraining, and with it the iteration: it asks for plans at rising ratios.

This machine adds one condition: the columns of a group lie in different feature banks, so that one bundle can
hold them all. With G banks no group has more than G columns.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from pymodel.machine.config import ArrayConfig
from pymodel.machine.errors import TatamiError
from pymodel.machine.hot import hot
from pymodel.packing.pack import PackedMatrix, Tile
from pymodel.packing.permute import Array
from pymodel.packing.plan import LayerPlan, LayerWeights, Mask, Scheme, slot_budget
from pymodel.schemes.unstructured import most_salient

# The paper's typical values are 8 and 0.5 (section 3). With 8 columns in a group, the packed matrix can get
# smaller than an eighth only if whole columns are dropped, and a network pruned to 14x is dead. So ALPHA is
# the width of the widest bundle here, which keeps more at every ratio from 4x on.
ALPHA, GAMMA = 16, 0.5


class ColumnCombining(Scheme):
    """`alpha`: the most columns of a group, at least 1.

    `gamma`: conflicts that a group may have for each filter, on average; 0 for none.
    """

    name: ClassVar[str] = "column_combining"
    summary: ClassVar[str] = (
        "columns combined into groups, one lane per group in every tile, conflicts pruned (arXiv 1811.04770)"
    )

    def __init__(self, alpha: int = ALPHA, gamma: float = GAMMA) -> None:
        if alpha < 1:
            raise TatamiError(f"column_combining: alpha is {alpha}, must be at least 1")
        if not 0 <= gamma < math.inf:  # also refuses NaN
            raise TatamiError(f"column_combining: gamma is {gamma}, must be a number of at least 0")
        self.alpha, self.gamma = alpha, gamma

    def plan(
        self, layers: Sequence[LayerWeights], ratio: float, config: ArrayConfig, rng: np.random.Generator
    ) -> dict[str, LayerPlan]:
        """As `Scheme.plan`. It draws nothing from `rng`.

        Of the prunings that were tried and fit, it takes the one that keeps the most saliency.
        """
        budget = slot_budget(layers, ratio, config)
        best: tuple[float, dict[str, LayerPlan]] | None = None
        # Weights kept: low fits (no weights take no lane). high + 1 does not fit, because no lane holds more
        # than T (1 + gamma) of them.
        low, high = (
            0,
            min(
                sum(layer.weights for layer in layers),
                math.floor(budget * config.size * (1 + self.gamma)),
            ),
        )
        while low < high:
            middle = (low + high + 1) // 2
            plans = self._combine(layers, most_salient(layers, middle), config)
            if sum(plan.slots for plan in plans.values()) > budget * config.size:
                high = middle - 1
                continue
            low = middle
            kept = sum(float(layer.saliency[plans[layer.name].mask].sum()) for layer in layers)
            if best is None or kept >= best[0]:
                best = kept, plans
        if best is None:
            raise AssertionError(
                "unreachable: one weight takes a lane in each tile of its layer, and slot_budget leaves at"
                " least those"
            )
        return best[1]

    def _combine(
        self, layers: Sequence[LayerWeights], masks: dict[str, Mask], config: ArrayConfig
    ) -> dict[str, LayerPlan]:
        """Steps 2 and 3 for every layer."""
        plans = {}
        for layer in layers:
            mask = masks[layer.name] & (layer.saliency > 0)  # a weight that is zero already is none
            groups = group_columns(mask, layer.bank, self.alpha, self.gamma, config.group)
            plans[layer.name] = _prune_conflicts(layer, mask, groups, config)
        return plans


def group_columns(mask: Mask, bank: Array, alpha: int, gamma: float, group: int) -> Array:
    """Groups int64 [N, G] of the columns of `mask` bool [F, K] that have weights, -1 for no member;

    `bank` int [K] is each column's bank.
    """
    columns = np.flatnonzero(mask.any(axis=0))
    groups = np.full((len(columns), group), -1, np.int64)
    groups[np.arange(len(columns)), bank[columns]] = columns
    words = np.zeros((len(columns), -(-len(mask) // 64) * 8), np.uint8)
    packed = np.packbits(mask[:, columns].T, axis=1)
    words[:, : packed.shape[1]] = packed
    alive = _merge(words.view(np.uint64), groups, alpha, math.floor(gamma * len(mask) + 1e-9))
    return groups[alive]


@hot
def _ones(word: Any) -> Any:
    """How many bits of a 64-bit word are 1."""
    word -= (word >> np.uint64(1)) & np.uint64(0x5555555555555555)
    word = (word & np.uint64(0x3333333333333333)) + ((word >> np.uint64(2)) & np.uint64(0x3333333333333333))
    word = (word + (word >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.int64((word * np.uint64(0x0101010101010101)) >> np.uint64(56))


@hot
def _density(
    filled: Array, weights: Array, groups: Array, size: Array, i: int, j: int, alpha: int, conflicts: int
) -> Any:
    """Filters that have a weight in the union of groups i and j; -1 if they may not be combined."""
    if size[i] + size[j] > alpha:
        return np.int64(-1)
    for b in range(groups.shape[1]):
        if groups[i, b] >= 0 and groups[j, b] >= 0:
            return np.int64(-1)
    density = np.int64(0)
    for w in range(filled.shape[1]):
        density += _ones(filled[i, w] | filled[j, w])
    return density if weights[i] + weights[j] - density <= conflicts else np.int64(-1)


@hot
def _best(density: Array, i: int) -> Any:
    """The group after group i with which it is densest (the first of equal ones), or -1 for none."""
    best, mate = 0, -1
    for j in range(i + 1, len(density)):
        if density[i, j] > best:
            best, mate = density[i, j], j
    return mate


@hot
def _merge(filled: Array, groups: Array, alpha: int, conflicts: int) -> Array:
    """Merges `groups` int64 [N, G], of one column each, two at a time. Returns which of them remain, bool
    [N].

    `filled` uint64 [N, words]: a bit for each filter that has a weight in the group. A group of n weights
    that fills d filters has n - d conflicts.
    """
    count = len(groups)
    alive = np.ones(count, np.bool_)
    size = np.ones(count, np.int64)
    weights = np.zeros(count, np.int64)
    for i in range(count):
        for w in range(filled.shape[1]):
            weights[i] += _ones(filled[i, w])
    density = np.full((count, count), -1, np.int32)  # of the union of two groups, the second after the first
    mate = np.full(count, -1, np.int64)  # for a group, the one after it with which it is densest
    for i in range(count):
        for j in range(i + 1, count):
            density[i, j] = _density(filled, weights, groups, size, i, j, alpha, conflicts)
        mate[i] = _best(density, i)
    while True:
        first, most = -1, 0
        for i in range(count):
            if mate[i] >= 0 and density[i, mate[i]] > most:
                first, most = i, density[i, mate[i]]
        if first < 0:
            return alive
        second = mate[first]
        alive[second] = False
        size[first] += size[second]
        weights[first] += weights[second]
        for w in range(filled.shape[1]):
            filled[first, w] |= filled[second, w]
        for b in range(groups.shape[1]):
            groups[first, b] = max(groups[first, b], groups[second, b])
        mate[second] = -1
        for j in range(second + 1, count):
            density[second, j] = -1
        for i in range(second):
            was = density[i, mate[i]] if mate[i] >= 0 else 0
            density[i, second] = -1
            if i < first and alive[i]:
                now = _density(filled, weights, groups, size, i, first, alpha, conflicts)
                density[i, first] = now
                if now > was or (now == was and mate[i] >= first):  # no group before this one is as dense
                    mate[i] = first
            if mate[i] == second or (mate[i] == first and density[i, first] < was):
                mate[i] = _best(density, i)
        for j in range(first + 1, count):
            if alive[j]:
                density[first, j] = _density(filled, weights, groups, size, first, j, alpha, conflicts)
        mate[first] = _best(density, first)


def _prune_conflicts(layer: LayerWeights, mask: Mask, groups: Array, config: ArrayConfig) -> LayerPlan:
    """A lane for every group in every tile, with filters in their own order. In each group, a filter keeps
    the weight with the largest saliency.
    """
    value = np.where((groups >= 0) & mask[:, groups], layer.saliency[:, groups], 0)  # [F, N, G]
    select = value.argmax(axis=2)
    full = value.max(axis=2, initial=0) > 0
    used = (full[:, :, None] & (select[:, :, None] == np.arange(config.group))).any(axis=0)
    tiles = []
    for start in range(0, layer.filters, config.size):
        filters = np.arange(start, min(start + config.size, layer.filters))
        slots = full[filters].T
        tiles.append(
            Tile(
                filters, np.arange(len(groups)), np.where(slots, select[filters].T, 0), slots.astype(np.int8)
            )
        )
    return LayerPlan.of(PackedMatrix(np.where(used, groups, -1), tuple(tiles), config.size, layer.inputs))
