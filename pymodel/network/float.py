"""A network in float with its batch norms folded in. A trained module is converted to this before it is
quantised.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from pymodel.machine.errors import TatamiError
from pymodel.network.integer import (
    INPUT,
    Conv,
    GlobalPool,
    IntArray,
    Layer,
    Linear,
    Network,
    Requant,
    Residual,
    Shape,
    Window,
    around,
)
from pymodel.network.reference import correlate

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class FloatResidual:
    """`source[channel[f]]` added to filter f before its ReLU: channel int [F], -1 for none (a zero channel of
    an option-A shortcut).
    """

    source: str
    channel: IntArray
    stride: int = 1


@dataclass(frozen=True)
class FloatConv:
    """Convolution with batch norm folded in: weight [F, C, k, k], bias [F], in real units."""

    name: str
    source: str
    weight: FloatArray
    bias: FloatArray
    stride: int = 1
    padding: int = 0
    relu: bool = True
    residual: FloatResidual | None = None

    @property
    def window(self) -> Window:
        rows, columns = self.weight.shape[2:]
        return Window((rows, columns), (self.stride, self.stride), around(self.padding))


@dataclass(frozen=True)
class FloatPool:
    """Mean over all pixels of a channel."""

    name: str
    source: str

    def pixels(self, source: Shape) -> int:
        """The number of pixels in the mean of one output, given the shape of the source."""
        return source[1] * source[2]


@dataclass(frozen=True)
class FloatLinear:
    """Fully connected: weight [F, C * H * W] in the order of `torch.flatten`, bias [F], in real units."""

    name: str
    source: str
    weight: FloatArray
    bias: FloatArray
    relu: bool = False


FloatWeighted = FloatConv | FloatLinear
FloatMean = FloatPool  # layers without weights: an output is the mean of some pixels of its channel
FloatLayer = FloatWeighted | FloatMean


@dataclass(frozen=True)
class FloatNetwork:
    """As `pymodel.network.integer.Network`, in real numbers. It is checked by the same rules and with the
    same messages.

    `skeleton` is the integer network of the same layers with all numbers zero. It gives the shapes and the
    layout in the machine.
    """

    name: str
    input_shape: Shape
    layers: tuple[FloatLayer, ...]
    shapes: dict[str, Shape] = field(init=False, compare=False)
    skeleton: Network = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        checked = Network(self.name, self.input_shape, ())
        for layer in self.layers:
            if isinstance(layer, FloatWeighted):
                for part, value in (("weight", layer.weight), ("bias", layer.bias)):
                    if not np.isfinite(value).all():
                        raise TatamiError(
                            f"network '{self.name}', layer '{layer.name}': {part} holds a value that is not"
                            " finite"
                        )
            checked = Network(self.name, self.input_shape, (*checked.layers, _blank(layer, checked.shapes)))
        object.__setattr__(self, "shapes", checked.shapes)
        object.__setattr__(self, "skeleton", checked)


def fold_batch_norm(
    weight: FloatArray,
    mean: FloatArray,
    variance: FloatArray,
    gamma: FloatArray,
    beta: FloatArray,
    epsilon: float,
) -> tuple[FloatArray, FloatArray]:
    """Weight [F, ...] and bias [F] of a layer with the batch norm after it folded in. The norm's four
    parameters are [F].
    """
    factor = gamma / np.sqrt(variance + epsilon)
    return weight * factor.reshape(-1, *[1] * (weight.ndim - 1)), beta - mean * factor


def evaluate_float(network: FloatNetwork, images: FloatArray) -> dict[str, FloatArray]:
    """All tensors of a float network, name -> [B, C, H, W], for images [B, C, H, W].

    Raises TatamiError for another shape.
    """
    if images.ndim != 4 or images.shape[1:] != network.input_shape:
        raise TatamiError(
            f"network '{network.name}': images have shape {images.shape}, must be (batch,"
            f" {', '.join(map(str, network.input_shape))})"
        )
    tensors = {INPUT: images.astype(np.float64)}
    for layer in network.layers:
        tensors[layer.name] = _evaluate_layer(layer, tensors)
    return tensors


def _evaluate_layer(layer: FloatLayer, tensors: Mapping[str, FloatArray]) -> FloatArray:
    source = tensors[layer.source]
    match layer:
        case FloatPool():
            return source.mean(axis=(2, 3), keepdims=True)
        case FloatConv():
            total = correlate(source, layer.weight, layer.window) + layer.bias[:, None, None]
            if layer.residual is not None:
                total += _picked(tensors[layer.residual.source], layer.residual)
        case FloatLinear():
            flat = source.reshape(len(source), -1, 1, 1)
            total = correlate(flat, layer.weight[:, :, None, None], Window((1, 1)))
            total += layer.bias[:, None, None]
    return np.maximum(total, 0) if layer.relu else total


def _picked(source: FloatArray, residual: FloatResidual) -> FloatArray:
    """The values that a residual adds to each filter: [B, F, H', W']."""
    pixels = source[:, residual.channel, :: residual.stride, :: residual.stride]
    return np.where(residual.channel[:, None, None] < 0, 0, pixels)


def _blank(layer: FloatLayer, shapes: Mapping[str, Shape]) -> Layer:
    """The layer with all numbers zero. `Network` needs it to check names and shapes."""
    if isinstance(layer, FloatWeighted):
        filters, weight = len(layer.bias), np.zeros(layer.weight.shape, dtype=np.int8)
    else:  # as many as the source has channels; if there is no such source, `Network` reports it
        filters = shapes.get(layer.source, (1, 1, 1))[0]
    requant = Requant(*(np.zeros(filters, dtype=np.int32),) * 3)
    match layer:
        case FloatPool():
            return GlobalPool(layer.name, layer.source, requant)
        case FloatLinear():
            return Linear(layer.name, layer.source, weight, requant)
        case FloatConv():
            residual = _blank_residual(layer.residual)
            stride = (layer.stride, layer.stride)
            return Conv(layer.name, layer.source, weight, requant, stride, around(layer.padding), residual)


def _blank_residual(residual: FloatResidual | None) -> Residual | None:
    if residual is None:
        return None
    zeros = np.zeros(len(residual.channel), dtype=np.int8)
    return Residual(residual.source, residual.channel, zeros, (residual.stride, residual.stride))
