"""Tight Compression (Chen et al., arXiv 2104.01303): prune without structure, then permute and pack without loss.

Filters go to tiles and inputs to groups by `pymodel.permute`. Which weights stay is decided before, over all layers at once, by saliency
alone; how many may stay so that the packed matrix has the size that was asked for is found by bisection.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from pymodel.config import ArrayConfig
from pymodel.pack import pack
from pymodel.permute import MOVES, Permutation, Table, lane_count
from pymodel.schemes.base import LayerPlan, LayerWeights, Mask, slot_budget
from pymodel.schemes.parallel import permute_all
from pymodel.schemes.unstructured import most_salient

TRIAL_MOVES = 100  # of the searches that only measure how well a mask packs
TRIALS = 7
# The full search packs tighter than the trials: so often it is run again with as many more, or fewer, weights as its lanes leave room for.
REFINEMENTS = 3


class Tight:
    """One table of groups for a layer, which all its tiles share."""

    name: ClassVar[str] = "tight"
    summary: ClassVar[str] = "unstructured mask, permuted and packed without loss; one group table a layer (arXiv 2104.01303)"
    table: ClassVar[Table] = "layer"

    def plan(self, layers: Sequence[LayerWeights], ratio: float, config: ArrayConfig, rng: np.random.Generator) -> dict[str, LayerPlan]:
        budget = slot_budget(layers, ratio, config)
        seed = int(rng.integers(2**32))
        low, high = 0, budget * config.size  # weights kept: at most one a slot
        for _ in range(TRIALS):
            middle = (low + high) // 2
            if self._lanes(layers, most_salient(layers, middle), config, TRIAL_MOVES, seed)[0] <= budget:
                low = middle
            else:
                high = middle
        keep = low
        best: tuple[int, dict[str, Mask], dict[str, Permutation]] | None = None
        for trial in itertools.count():
            masks = most_salient(layers, keep)
            lanes, found = self._lanes(layers, masks, config, MOVES, seed)
            if lanes <= budget and (best is None or keep > best[0]):
                best = keep, masks, found
            if best is not None and trial >= REFINEMENTS:
                _, masks, found = best
                return {
                    layer.name: LayerPlan.of(pack(masks[layer.name].astype(np.int8), layer.bank, found[layer.name], config.size, config.group))
                    for layer in layers
                }
            keep = math.floor(keep * budget / max(lanes, 1)) - (lanes > budget)  # comes to 0 in the end, which fits
        raise AssertionError("unreachable")

    def _lanes(
        self, layers: Sequence[LayerWeights], masks: dict[str, Mask], config: ArrayConfig, moves: int, seed: int
    ) -> tuple[int, dict[str, Permutation]]:
        """Lanes of all layers, and their permutations."""
        matrices = [(masks[layer.name], layer.bank) for layer in layers]
        found = permute_all(matrices, config.size, config.group, self.table, moves, seed)
        lanes = sum(lane_count(mask, permutation) for (mask, _), permutation in zip(matrices, found, strict=True))
        return lanes, {layer.name: permutation for layer, permutation in zip(layers, found, strict=True)}


class TightTile(Tight):
    """A table of groups for each tile: fewer lanes, more groups to store."""

    name: ClassVar[str] = "tight_tile"
    summary: ClassVar[str] = "as tight, with a group table for each tile"
    table: ClassVar[Table] = "tile"
