"""A random network of `architectures` as a test runs it: pruned by a scheme in one step, its sums fitted."""

from __future__ import annotations

import numpy as np

from pymodel.compiler.planning import plan_network, weights_of
from pymodel.machine.config import ArrayConfig
from pymodel.network.integer import (
    Conv,
    Network,
)
from pymodel.network.network_file import StoredNetwork
from pymodel.schemes import get_scheme
from pymodel.zoo.architectures import ARCHITECTURES, architecture, fitted
from pymodel.zoo.random_network import pruned

FITTED_ON = 2  # images
ZOO = "zoo_"  # a test's name begins with it, an architecture follows


def random_architecture(
    name: str, scheme: str, ratio: float, config: ArrayConfig, images: int, seed: int
) -> StoredNetwork:
    """The named network with random weights and random images, pruned to the matrix compression `ratio`. The
    first layer and depthwise convolutions keep all their weights.
    """
    rng = np.random.default_rng(seed)
    drawn = rng.normal(0, 40, (max(images, FITTED_ON), *ARCHITECTURES[name].shape))
    pixels = np.rint(drawn).clip(-128, 127).astype(np.int8)
    network = architecture(name, rng)
    keep = {
        network.layers[0].name,
        *(layer.name for layer in network.layers if isinstance(layer, Conv) and layer.depthwise),
    }
    plans = plan_network(network, weights_of(network, keep), get_scheme(scheme), ratio, config, rng)
    layers = tuple(pruned(layer, plans.get(layer.name)) for layer in network.layers)
    network = fitted(Network(name, network.input_shape, layers), pixels[:FITTED_ON], rng)
    meta = {
        "scheme": scheme,
        "ratio": ratio,
        "start": f"random, seed {seed}",
        "size": config.size,
        "group": config.group,
        "weight_bits": config.weight_bits,
    }
    return StoredNetwork(network, pixels[:images], np.zeros(0, np.uint8), meta, plans)
