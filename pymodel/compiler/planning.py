"""The weights of a network as schemes see them, and the plans that they make.

A scheme sees a convolution in groups block by block. A block has whole groups: as few as fill whole tiles,
and no zeros but those between its own groups.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pymodel.compiler.lower import diagonal
from pymodel.compiler.planes import input_banks, output_words, residual_banks
from pymodel.machine.config import ArrayConfig
from pymodel.network.integer import Conv, Network, Weighted
from pymodel.packing.pack import Block, join
from pymodel.packing.plan import LayerPlan, LayerWeights, Part, Plans, Scheme


@dataclass(frozen=True)
class Parts:
    """A layer's weights, one `LayerWeights` for each block of its matrix. Only a convolution in groups has
    more than one.
    """

    blocks: tuple[Block, ...]
    weights: tuple[LayerWeights, ...]
    inputs: int
    groups: int

    def plan(self, plans: Plans) -> LayerPlan:
        """The layer's plan, of plans that have those of its parts."""
        if self.groups == 1:
            return plans[self.weights[0].name]
        packed = [plans[one.name].packed for one in self.weights]
        found = [one for one in packed if one is not None]
        if len(found) < len(packed):  # not for the array: the masks alone
            return LayerPlan(self._own([plans[one.name].mask for one in self.weights]), None)
        blocks = self.blocks
        whole = join(found, [b.filters for b in blocks], [b.inputs for b in blocks], self.inputs)
        return LayerPlan.of(whole, self.groups)

    def _own(self, masks: list[npt.NDArray[np.bool_]]) -> npt.NDArray[np.bool_]:
        """The masks of all blocks, [F, inputs of a group]."""
        each = self.inputs // self.groups
        rows = []
        for mask in masks:
            some = mask.shape[1] // each
            parts = mask.reshape(some, -1, some, each)
            rows.append(parts[np.arange(some), :, np.arange(some)].reshape(-1, each))
        return np.concatenate(rows)


def parts_of(
    network: Network,
    config: ArrayConfig,
    weights: Mapping[str, npt.NDArray[Any]],
    saliency: Mapping[str, npt.NDArray[np.floating]] | None = None,
    whole_tiles: bool = True,
) -> dict[str, Parts]:
    """The layers of a network whose `weights` are given, integers or not, [F, inputs of a group] in any shape
    by layer. `saliency` has the same shapes; by default it is their squares.

    Without `whole_tiles`, a block has no more groups than fit into one tile, as those of the compiler. Then
    some columns of its last tile are empty, but no tile has the inputs of more groups than it must.
    """
    banks, residuals = input_banks(network, config), residual_banks(network, config)
    words = output_words(network, config)
    found = {}
    for layer in network.layers:
        if not isinstance(layer, Weighted) or layer.name not in weights:
            continue
        name, groups = layer.name, layer.groups if isinstance(layer, Conv) else 1
        matrix = weights[name].reshape(len(layer.weight), -1)
        worth = (
            np.square(matrix, dtype=np.float64) if saliency is None else saliency[name].reshape(matrix.shape)
        )
        residual = residuals.get(name)
        if groups == 1:
            every = Block(np.arange(len(matrix)), np.arange(matrix.shape[1]), matrix)
            whole = LayerWeights(name, matrix, banks[name], worth, residual, words[name])
            found[name] = Parts((every,), (whole,), matrix.shape[1], 1)
            continue
        filters = len(matrix) // groups
        together = math.lcm(filters, config.size) if whole_tiles else config.size
        blocks = list(diagonal(matrix.reshape(groups, filters, -1), together))
        parts = []
        for number, block in enumerate(blocks):
            own = _own(filters, matrix.shape[1], block)
            spread = np.zeros(own.shape)
            spread[own] = worth[block.filters].reshape(-1)
            parts.append(
                LayerWeights(
                    f"{name}, block {number}",
                    block.weight,
                    banks[name][block.inputs],
                    spread,
                    None if residual is None else residual[block.filters],
                    words[name],
                    own,
                    Part(name, block.filters),
                )
            )
        found[name] = Parts(tuple(blocks), tuple(parts), matrix.shape[1] * groups, groups)
    return found


def _own(filters: int, inputs: int, block: Block) -> npt.NDArray[np.bool_]:
    """Where weights of a block are, [f, k]: groups have so many filters and inputs."""
    same: npt.NDArray[np.bool_] = block.filters[:, None] // filters == block.inputs // inputs
    return same


def weights_of(network: Network, keep: Collection[str] = ()) -> dict[str, npt.NDArray[np.integer]]:
    """The weights of all layers that have any but those in `keep`."""
    layers = [layer for layer in network.layers if isinstance(layer, Weighted)]
    return {layer.name: layer.weight for layer in layers if layer.name not in keep}


def plan_network(
    network: Network,
    weights: Mapping[str, npt.NDArray[Any]],
    scheme: Scheme,
    ratio: float,
    config: ArrayConfig,
    rng: np.random.Generator,
) -> dict[str, LayerPlan]:
    """Plans by magnitude for the layers of a network whose `weights` are given, as in `parts_of`."""
    parts = parts_of(network, config, weights, whole_tiles=scheme.prunes)
    plans = plan_parts(parts, scheme, ratio, config, rng)
    return {name: part.plan(plans) for name, part in parts.items()}


def plan_parts(
    parts: Mapping[str, Parts], scheme: Scheme, ratio: float, config: ArrayConfig, rng: np.random.Generator
) -> dict[str, LayerPlan]:
    """The plans of all parts, by their names. None has a slot where there is no weight."""
    layers = [one for part in parts.values() for one in part.weights]
    plans = scheme.plan(layers, ratio, config, rng)
    return {
        one.name: plans[one.name] if one.own is None else plans[one.name].within(one.own) for one in layers
    }
