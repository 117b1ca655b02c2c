"""Pruning of a float network in one step: by magnitude, without training."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pymodel.compiler.planes import input_banks, output_words, residual_banks
from pymodel.machine.config import ArrayConfig
from pymodel.network.float import FloatArray, FloatNetwork, FloatWeighted
from pymodel.schemes import LayerPlan, LayerWeights, Scheme


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
    skeleton = network.skeleton
    banks, residuals, words = (
        input_banks(skeleton, config),
        residual_banks(skeleton, config),
        output_words(skeleton, config),
    )
    pruned_ones = [
        layer for layer in network.layers if isinstance(layer, FloatWeighted) and layer.name not in keep
    ]
    matrices: dict[str, FloatArray] = {
        layer.name: layer.weight.reshape(len(layer.weight), -1) for layer in pruned_ones
    }
    layers = [
        LayerWeights(name, weight, banks[name], np.square(weight), residuals.get(name), words[name])
        for name, weight in matrices.items()
    ]
    plans = scheme.plan(layers, ratio, config, rng)
    pruned = tuple(
        replace(layer, weight=layer.weight * plans[layer.name].mask.reshape(layer.weight.shape))
        if isinstance(layer, FloatWeighted) and layer.name in plans
        else layer
        for layer in network.layers
    )
    return FloatNetwork(network.name, network.input_shape, pruned), plans
