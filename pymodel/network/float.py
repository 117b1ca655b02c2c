"""A network in float with its batch norms folded in. A trained network is converted to this before it is
quantised.

Layers that compute no numbers of their own (`MaxPool`, and `View`: concat, shuffle, upsampling) are those of
`pymodel.network.integer`. Their pixels are those of their sources, so all have one scale.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from pymodel.machine.errors import TatamiError
from pymodel.network.activations import Activation, Curve, apply
from pymodel.network.integer import (
    INPUT,
    NOTHING,
    Add,
    AveragePool,
    Conv,
    GlobalPool,
    IntArray,
    Layer,
    Linear,
    MaxPool,
    Network,
    Pair,
    Requant,
    Residual,
    Shape,
    Sides,
    View,
    Window,
)
from pymodel.network.reference import correlate, inside, rearranged, window_taps

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class FloatResidual:
    """`source[channel[f]]` added to filter f before its activation: channel int [F], -1 for none (a zero
    channel of an option-A shortcut). `stride`: of every so many rows and columns, the first.
    """

    source: str
    channel: IntArray
    stride: Pair = (1, 1)


@dataclass(frozen=True)
class FloatConv:
    """Convolution with batch norm folded in: weight [F, C / groups, rows, columns], bias [F], in real units.
    The other fields are those of `Conv`.
    """

    name: str
    source: str
    weight: FloatArray
    bias: FloatArray
    stride: Pair = (1, 1)
    padding: Sides = NOTHING
    residual: FloatResidual | None = None
    dilation: Pair = (1, 1)
    groups: int = 1
    activation: Activation | None = None

    @property
    def depthwise(self) -> bool:
        """Whether each filter has a single channel, of several."""
        return self.groups > 1 and self.weight.shape[1] == 1

    @property
    def window(self) -> Window:
        rows, columns = self.weight.shape[2:]
        return Window((rows, columns), self.stride, self.padding, self.dilation)


@dataclass(frozen=True)
class FloatLinear:
    """Fully connected: weight [F, C * H * W] in the order of `torch.flatten`, bias [F], in real units."""

    name: str
    source: str
    weight: FloatArray
    bias: FloatArray
    activation: Activation | None = None


@dataclass(frozen=True)
class FloatPool:
    """Mean over all pixels of a channel."""

    name: str
    source: str
    activation: Activation | None = None

    def pixels(self, source: Shape) -> int:
        """The number of pixels in the mean of one output, given the shape of the source."""
        return source[1] * source[2]


@dataclass(frozen=True)
class FloatAveragePool:
    """Mean over a window of each channel. A pixel outside the source counts as a zero, or with `inside` not
    at all.
    """

    name: str
    source: str
    size: Pair
    stride: Pair = (1, 1)
    padding: Sides = NOTHING
    activation: Activation | None = None
    inside: bool = False

    @property
    def window(self) -> Window:
        return Window(self.size, self.stride, self.padding)

    def pixels(self, source: Shape) -> int:
        """What the sum of an output is divided by in integers: its pixels, or `AveragePool.whole`."""
        if self.inside:
            return self.window.whole(f"layer '{self.name}'", *source[1:])
        return self.size[0] * self.size[1]


@dataclass(frozen=True)
class FloatAdd:
    """Tensors of one shape, added pixel by pixel: channel c of `sources[s]` times `weight[s, c]`, float [S,
    C], plus `bias` [C]. With one source it is a batch norm, or an activation, that stands alone.
    """

    name: str
    sources: tuple[str, ...]
    weight: FloatArray
    bias: FloatArray
    activation: Activation | None = None


FloatWeighted = FloatConv | FloatLinear
FloatMean = FloatPool | FloatAveragePool  # an output is the mean of some pixels of its channel
FloatComputed = FloatWeighted | FloatMean | FloatAdd  # layers whose pixels have a scale of their own
FloatLayer = FloatComputed | MaxPool | View


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
        shapes = {INPUT: self.input_shape}
        blanks: list[Layer] = []
        for layer in self.layers:
            where = f"network '{self.name}', layer '{layer.name}'"
            if isinstance(layer, FloatWeighted | FloatAdd):
                for part, value in (("weight", layer.weight), ("bias", layer.bias)):
                    if not np.isfinite(value).all():
                        raise TatamiError(f"{where}: {part} holds a value that is not finite")
            blanks.append(blank := blank_layer(layer, shapes))
            if all(source in shapes for source in blank.reads()):  # else `Network` says which is not
                shapes[layer.name] = blank.output_shape(where, shapes)
        checked = Network(self.name, self.input_shape, tuple(blanks))
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


def sums_of(name: str) -> str:
    """What the sums of a layer with a curve are named, where tensors are named: no tensor has such a name."""
    return f"{name}:sums"


def evaluate_float(network: FloatNetwork, images: FloatArray, sums: bool = False) -> dict[str, FloatArray]:
    """All tensors of a float network, name -> [B, C, H, W], for images [B, C, H, W]. With `sums` also the
    sums that each `Curve` is taken of, under the name `sums_of` gives.

    Raises TatamiError for another shape.
    """
    if images.ndim != 4 or images.shape[1:] != network.input_shape:
        raise TatamiError(
            f"network '{network.name}': images have shape {images.shape}, must be (batch,"
            f" {', '.join(map(str, network.input_shape))})"
        )
    tensors = {INPUT: images.astype(np.float64)}
    for layer in network.layers:
        if isinstance(layer, View):
            tensors[layer.name] = rearranged(layer, tensors)
        elif isinstance(layer, MaxPool):
            taps = window_taps(tensors[layer.source], layer.window, -np.inf)
            tensors[layer.name] = np.maximum.reduce(list(taps))
        else:
            total = _sum(layer, tensors, network.shapes)
            if sums and isinstance(layer.activation, Curve):
                tensors[sums_of(layer.name)] = total
            tensors[layer.name] = apply(layer.activation, total)
    return tensors


def _sum(layer: FloatComputed, tensors: Mapping[str, FloatArray], shapes: Mapping[str, Shape]) -> FloatArray:
    match layer:
        case FloatConv():
            total = correlate(tensors[layer.source], layer.weight, layer.window, layer.groups)
            total += layer.bias[:, None, None]
            if layer.residual is not None:
                total += _picked(tensors[layer.residual.source], layer.residual)
            return total
        case FloatLinear():
            source = tensors[layer.source]
            flat = source.reshape(len(source), -1, 1, 1)
            total = correlate(flat, layer.weight[:, :, None, None], Window((1, 1)))
            return total + layer.bias[:, None, None]
        case FloatPool():
            return tensors[layer.source].mean(axis=(2, 3), keepdims=True)
        case FloatAveragePool():
            taps = list(window_taps(tensors[layer.source], layer.window, 0))
            whole: FloatArray = np.add.reduce(taps)
            if layer.inside:
                return whole / inside(tensors[layer.source], layer.window)
            return whole / layer.pixels(shapes[layer.source])
        case FloatAdd():
            parts = [
                tensors[source] * weight[:, None, None]
                for source, weight in zip(layer.sources, layer.weight, strict=True)
            ]
            added: FloatArray = np.add.reduce(parts)
            return added + layer.bias[:, None, None]


def _picked(source: FloatArray, residual: FloatResidual) -> FloatArray:
    """The values that a residual adds to each filter: [B, F, H', W']."""
    down, across = residual.stride
    pixels = source[:, residual.channel, ::down, ::across]
    return np.where(residual.channel[:, None, None] < 0, 0, pixels)


def blank_layer(layer: FloatLayer, shapes: Mapping[str, Shape]) -> Layer:
    """The integer layer with all numbers zero, given the shapes of the tensors that it reads. `Network` needs
    it to check names and shapes.
    """
    match layer:
        case FloatConv():
            return Conv(
                layer.name,
                layer.source,
                np.zeros(layer.weight.shape, dtype=np.int8),
                _blank_requant(len(layer.bias)),
                layer.stride,
                layer.padding,
                _blank_residual(layer.residual),
                layer.dilation,
                layer.groups,
            )
        case FloatLinear():
            weight = np.zeros(layer.weight.shape, dtype=np.int8)
            return Linear(layer.name, layer.source, weight, _blank_requant(len(layer.bias)))
        case FloatPool():
            return GlobalPool(layer.name, layer.source, _blank_requant(_channels(layer.source, shapes)))
        case FloatAveragePool():
            requant = _blank_requant(_channels(layer.source, shapes))
            whole = layer.pixels(shapes[layer.source]) if layer.inside and layer.source in shapes else 0
            return AveragePool(
                layer.name, layer.source, requant, layer.size, layer.stride, layer.padding, whole=whole
            )
        case FloatAdd():
            weight = np.zeros(layer.weight.shape, dtype=np.int8)
            return Add(layer.name, layer.sources, weight, _blank_requant(len(layer.bias)))
        case _:  # it has no numbers
            return layer


def _channels(source: str, shapes: Mapping[str, Shape]) -> int:
    """If there is no such source, `Network` reports it."""
    return shapes.get(source, (1, 1, 1))[0]


def _blank_requant(filters: int) -> Requant:
    return Requant(*(np.zeros(filters, dtype=np.int32),) * 3)


def _blank_residual(residual: FloatResidual | None) -> Residual | None:
    if residual is None:
        return None
    zeros = np.zeros(len(residual.channel), dtype=np.int8)
    return Residual(residual.source, residual.channel, zeros, residual.stride)
