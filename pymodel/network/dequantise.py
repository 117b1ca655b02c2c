"""From the integers of a quantised file back to real numbers: what is trained, and then quantised anew."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from pymodel.machine.errors import TatamiError
from pymodel.network.activations import Clamp
from pymodel.network.float import (
    FloatAdd,
    FloatArray,
    FloatAveragePool,
    FloatConv,
    FloatLayer,
    FloatLinear,
    FloatNetwork,
    FloatPool,
)
from pymodel.network.integer import (
    HIGHEST,
    LOWEST,
    Add,
    AveragePool,
    Conv,
    GlobalPool,
    Layer,
    Linear,
    Requant,
    Requantised,
)
from pymodel.network.model_file import ModelFile
from pymodel.network.scale import Scale

# Whole weights of a sum are only about in the ratio of its scales; so near to 1, they are meant to be 1.
NEAR = 2.0**-7


def dequantised(file: ModelFile) -> FloatNetwork:
    """The network that the integers of a file stand for: weights and biases times their steps, clamps as real
    numbers. Values saturate at the ends of an integer range; that is kept as a clamp only where the range
    begins at zero, which is a ReLU.

    Raises `TatamiError`, naming the tensor, for an activation that is a table.
    """
    layers = []
    for layer in file.network.layers:
        try:
            layers.append(_real(layer, file.scales))
        except TatamiError as error:
            where = file.origin.get(layer.name, layer.name)
            raise TatamiError(f"{file.path}: '{where}': {error}") from None
    return FloatNetwork(file.network.name, file.network.input_shape, tuple(layers))


def _real(layer: Layer, scales: Mapping[str, Scale]) -> FloatLayer:
    if not isinstance(layer, Requantised):
        return layer
    requant, out = layer.requant, scales[layer.name]
    if requant.table is not None:
        raise TatamiError("its activation is a table, of which nothing but 256 values is known")
    step = requant.multiplier / np.exp2(requant.shift) * out.step  # of the sums
    own = (requant.zero - out.zero) * out.step
    clamp = _clamp(requant, out)
    match layer:
        case Conv() | Linear():
            given = scales[layer.source]
            if isinstance(layer, Conv) and (layer.pad != given.zero or layer.residual is not None):
                raise TatamiError("what lies around its input is not zero, or it has a residual")
            by_filter = (step / given.step).reshape(-1, *[1] * (layer.weight.ndim - 1))
            sums = layer.weight.reshape(len(layer.weight), -1).sum(axis=1, dtype=np.int64)
            bias = (requant.bias + given.zero * sums) * step + own
            weight: FloatArray = layer.weight * by_filter
            if isinstance(layer, Linear):
                return FloatLinear(layer.name, layer.source, weight, bias, clamp)
            return FloatConv(
                layer.name, layer.source, weight, bias, layer.stride, layer.padding,
                dilation=layer.dilation, groups=layer.groups, activation=clamp,
            )  # fmt: skip
        case GlobalPool():
            return FloatPool(layer.name, layer.source, clamp if requant.low > LOWEST else None)
        case AveragePool():
            return FloatAveragePool(
                layer.name, layer.source, layer.size, layer.stride, layer.padding,
                clamp if requant.low > LOWEST else None, inside=bool(layer.whole),
            )  # fmt: skip
        case Add():
            steps = np.array([scales[source].step for source in layer.sources])
            zeros = np.array([scales[source].zero for source in layer.sources])
            real = layer.weight * step / steps[:, None]
            real = np.where(np.abs(np.abs(real) - 1) < NEAR, np.sign(real), real)
            bias = (requant.bias + zeros @ layer.weight) * step + own
            bias = np.where(np.abs(bias) < out.step / 2, 0, bias)
            return FloatAdd(layer.name, layer.sources, real, bias, clamp)


def _clamp(requant: Requant, out: Scale) -> Clamp | None:
    low = (requant.low - out.zero) * out.step
    high = math.inf if requant.high == HIGHEST else (requant.high - out.zero) * out.step
    if requant.low == LOWEST and out.zero != LOWEST:
        low = -math.inf
    return None if math.isinf(low) and math.isinf(high) else Clamp(low, high)
