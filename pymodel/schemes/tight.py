"""Tight Compression (Chen et al., arXiv 2104.01303): unstructured pruning, then permuting and packing without
loss.

`pymodel.packing.permute` puts filters into tiles and inputs into groups. Before that, the weights that stay
are chosen by saliency alone, over all layers at once. The number of weights that may stay is found by
bisection, so that the packed matrix has the requested size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from pymodel.machine.config import ArrayConfig
from pymodel.packing.pack import pack
from pymodel.packing.permute import Permutation, Table, lane_count
from pymodel.packing.plan import LayerPlan, LayerWeights, Mask, Scheme, slot_budget
from pymodel.schemes.search import most_that_fit, permute_all
from pymodel.schemes.unstructured import most_salient


class Tight(Scheme):
    """One table of groups for each layer, which all its tiles share."""

    name: ClassVar[str] = "tight"
    summary: ClassVar[str] = (
        "unstructured mask, permuted and packed without loss; one group table per layer (arXiv 2104.01303)"
    )
    table: ClassVar[Table] = "layer"

    def plan(
        self, layers: Sequence[LayerWeights], ratio: float, config: ArrayConfig, rng: np.random.Generator
    ) -> dict[str, LayerPlan]:
        budget = slot_budget(layers, ratio, config)
        seed = int(rng.integers(2**32))

        def try_out(keep: int, moves: int) -> tuple[int, tuple[dict[str, Mask], list[Permutation]]]:
            masks = most_salient(layers, keep)
            found = permute_all(
                [(masks[layer.name], layer.bank) for layer in layers],
                config.size,
                config.group,
                self.table,
                moves,
                seed,
            )
            lanes = sum(
                lane_count(masks[layer.name], permutation)
                for layer, permutation in zip(layers, found, strict=True)
            )
            return lanes, (masks, found)

        masks, found = most_that_fit(try_out, budget, budget * config.size)  # at most one weight a slot
        return {
            layer.name: LayerPlan.of(
                pack(masks[layer.name].astype(np.int8), layer.bank, permutation, config.size, config.group)
            )
            for layer, permutation in zip(layers, found, strict=True)
        }


class TightTile(Tight):
    """A table of groups for each tile: fewer lanes, more groups to store."""

    name: ClassVar[str] = "tight_tile"
    summary: ClassVar[str] = "as tight, with a group table for each tile"
    table: ClassVar[Table] = "tile"
