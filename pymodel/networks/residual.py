"""ResNets for CIFAR-10 without torch: the layers of `resnet.py` with weights drawn at random; and pruning of a float network in one shot."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pymodel.compile import input_banks, output_words, residual_banks
from pymodel.config import ArrayConfig
from pymodel.network import INPUT
from pymodel.quantise import FloatArray, FloatConv, FloatLayer, FloatLinear, FloatNetwork, FloatPool, FloatResidual
from pymodel.schemes import LayerPlan, LayerWeights, Scheme

SHAPE = (3, 32, 32)
WIDTHS = (16, 32, 64)
CLASSES = 10


def random_resnet(blocks: int, rng: np.random.Generator) -> FloatNetwork:
    """6 `blocks` + 2 layers with the names and shapes that `from_torch` finds in `resnet.ResNet(blocks)`; weights as He et al. begin."""

    def conv(name: str, source: str, inputs: int, width: int, stride: int = 1, residual: FloatResidual | None = None) -> FloatConv:
        weight = rng.normal(0, np.sqrt(2 / (9 * inputs)), (width, inputs, 3, 3))
        return FloatConv(name, source, weight, rng.normal(0, 0.1, width), stride, 1, True, residual)

    layers: list[FloatLayer] = [conv("conv1", INPUT, SHAPE[0], WIDTHS[0])]
    inputs, source = WIDTHS[0], "conv1"
    for stage, width in enumerate(WIDTHS, 1):
        for block in range(blocks):
            stride = 2 if stage > 1 and block == 0 else 1
            channel = np.arange(width) - (width - inputs) // 2  # option A: zero channels around those of the input
            channel = np.where((channel >= 0) & (channel < inputs), channel, -1)
            first, second = f"layer{stage}.{block}.conv1", f"layer{stage}.{block}.conv2"
            layers.append(conv(first, source, inputs, width, stride))
            layers.append(conv(second, first, width, width, 1, FloatResidual(source, channel, stride)))
            inputs, source = width, second
    layers.append(FloatPool("pool", source))
    layers.append(FloatLinear("linear", "pool", rng.normal(0, np.sqrt(1 / inputs), (CLASSES, inputs)), np.zeros(CLASSES)))
    return FloatNetwork(f"resnet{6 * blocks + 2}", SHAPE, tuple(layers))


def prune_once(
    network: FloatNetwork, scheme: Scheme, ratio: float, config: ArrayConfig, rng: np.random.Generator, keep: tuple[str, ...] = ("conv1",)
) -> tuple[FloatNetwork, dict[str, LayerPlan]]:
    """The network without the weights that a scheme prunes by magnitude, and the plans; nothing is trained. `keep`: layers left whole."""
    skeleton = network.skeleton
    banks, residuals, words = input_banks(skeleton, config), residual_banks(skeleton, config), output_words(skeleton, config)
    pruned_ones = [layer for layer in network.layers if not isinstance(layer, FloatPool) and layer.name not in keep]
    matrices: dict[str, FloatArray] = {layer.name: layer.weight.reshape(len(layer.weight), -1) for layer in pruned_ones}
    layers = [LayerWeights(name, weight, banks[name], np.square(weight), residuals.get(name), words[name]) for name, weight in matrices.items()]
    plans = scheme.plan(layers, ratio, config, rng)
    pruned = tuple(
        layer
        if isinstance(layer, FloatPool) or layer.name not in plans
        else replace(layer, weight=layer.weight * plans[layer.name].mask.reshape(layer.weight.shape))
        for layer in network.layers
    )
    return FloatNetwork(network.name, network.input_shape, pruned), plans
