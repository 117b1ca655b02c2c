"""ResNets for CIFAR-10 without torch: the layers of `resnet.py` with weights drawn at random."""

from __future__ import annotations

import numpy as np

from pymodel.network.activations import RELU
from pymodel.network.float import FloatConv, FloatLayer, FloatLinear, FloatNetwork, FloatPool, FloatResidual
from pymodel.network.integer import INPUT, around

SHAPE = (3, 32, 32)
WIDTHS = (16, 32, 64)
CLASSES = 10


def random_resnet(blocks: int, rng: np.random.Generator) -> FloatNetwork:
    """6 `blocks` + 2 layers with the names and shapes that `from_torch` finds in `resnet.ResNet(blocks)`.
    Weights are initialised as by He et al.
    """

    def conv(
        name: str,
        source: str,
        inputs: int,
        width: int,
        stride: int = 1,
        residual: FloatResidual | None = None,
    ) -> FloatConv:
        weight = rng.normal(0, np.sqrt(2 / (9 * inputs)), (width, inputs, 3, 3))
        return FloatConv(
            name,
            source,
            weight,
            rng.normal(0, 0.1, width),
            (stride, stride),
            around(1),
            residual,
            activation=RELU,
        )

    layers: list[FloatLayer] = [conv("conv1", INPUT, SHAPE[0], WIDTHS[0])]
    inputs, source = WIDTHS[0], "conv1"
    for stage, width in enumerate(WIDTHS, 1):
        for block in range(blocks):
            stride = 2 if stage > 1 and block == 0 else 1
            # option A: zero channels around those of the input
            channel = np.arange(width) - (width - inputs) // 2
            channel = np.where((channel >= 0) & (channel < inputs), channel, -1)
            first, second = f"layer{stage}.{block}.conv1", f"layer{stage}.{block}.conv2"
            layers.append(conv(first, source, inputs, width, stride))
            layers.append(
                conv(second, first, width, width, 1, FloatResidual(source, channel, (stride, stride)))
            )
            inputs, source = width, second
    layers.append(FloatPool("pool", source))
    layers.append(
        FloatLinear(
            "linear", "pool", rng.normal(0, np.sqrt(1 / inputs), (CLASSES, inputs)), np.zeros(CLASSES)
        )
    )
    return FloatNetwork(f"resnet{6 * blocks + 2}", SHAPE, tuple(layers))
