"""Pruning of a float network in one step: by magnitude, without training."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pymodel.compiler.planning import plan_network
from pymodel.machine.config import ArrayConfig
from pymodel.network.float import FloatNetwork, FloatWeighted
from pymodel.schemes import LayerPlan, Scheme


def prune_once(
    network: FloatNetwork,
    scheme: Scheme,
    ratio: float,
    config: ArrayConfig,
    rng: np.random.Generator,
    keep: tuple[str, ...] = ("conv1",),
) -> tuple[FloatNetwork, dict[str, LayerPlan]]:
    """The network without the weights that a scheme prunes by magnitude, and the plans. Nothing is trained.

    `keep`: layers that are not pruned.
    """
    weights = {
        layer.name: layer.weight
        for layer in network.layers
        if isinstance(layer, FloatWeighted) and layer.name not in keep
    }
    plans = plan_network(network.skeleton, weights, scheme, ratio, config, rng)
    pruned = tuple(
        replace(layer, weight=layer.weight * plans[layer.name].mask.reshape(layer.weight.shape))
        if isinstance(layer, FloatWeighted) and layer.name in plans
        else layer
        for layer in network.layers
    )
    return FloatNetwork(network.name, network.input_shape, pruned), plans
