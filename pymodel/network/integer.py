"""An integer network as the machine computes it: the input of the reference and of the compiler.

All tensors are int8 maps `[channel, row, column]`; weights are int8, biases int32. Every layer ends in the
requantisation `clamp((sum + bias) * multiplier + 2**(shift-1) >> shift)` with one multiplier and shift per
filter (TensorFlow Lite, single rounding; Jacob et al., arXiv 1712.05877); ReLU raises the lower clamp from
-128 to 0.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from pymodel.machine.errors import TatamiError
from pymodel.machine.names import check_name

IntArray = npt.NDArray[np.integer]

INPUT = "input"  # name of the tensor that the host loads
MAX_MULTIPLIER = 65535
MAX_SHIFT = 47
MAX_RESIDUAL = 16 * 127  # of an integer weight: it takes slots of 127 at most


@dataclass(frozen=True)
class Requant:
    """Per-filter requantisation. `bias` int32 [F], `multiplier` 0..65535 [F], `shift` 0..47 [F]."""

    bias: IntArray
    multiplier: IntArray
    shift: IntArray
    relu: bool = False


@dataclass(frozen=True)
class Residual:
    """`weight[f] * source[channel[f]]` added to filter f's sum before requantisation.

    `channel` int [F], -1 for none; `weight` int [F], the integer that brings the source to the scale of the
    sum (above 127 it takes several slots); `stride` picks every stride-th pixel of the source in both
    directions.
    """

    source: str
    channel: IntArray
    weight: IntArray
    stride: int = 1


@dataclass(frozen=True)
class Conv:
    """Two-dimensional convolution, weights int8 [F, C, k, k], zero padding on all four sides."""

    name: str
    source: str
    weight: IntArray
    requant: Requant
    stride: int = 1
    padding: int = 0
    residual: Residual | None = None


@dataclass(frozen=True)
class GlobalPool:
    """Sum over all pixels of a channel, requantised (the multiplier holds 1 / pixels): [C, H, W] -> [C, 1,
    1].
    """

    name: str
    source: str
    requant: Requant


@dataclass(frozen=True)
class Linear:
    """Fully connected, weights int8 [F, C * H * W] in the channel-major order of `torch.flatten`: -> [F, 1,
    1].
    """

    name: str
    source: str
    weight: IntArray
    requant: Requant


Layer = Conv | GlobalPool | Linear
Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Network:
    """Layers in order of execution; each reads earlier tensors by name and writes one of its own name."""

    name: str
    input_shape: Shape
    layers: tuple[Layer, ...]
    shapes: dict[str, Shape] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        check_name("a network's name", self.name)
        shapes = {INPUT: self.input_shape}
        for layer in self.layers:
            check_name(f"network '{self.name}': a layer's name", layer.name)
            if layer.name in shapes:
                raise TatamiError(f"network '{self.name}': two tensors are named '{layer.name}'")
            shapes[layer.name] = _output_shape(f"network '{self.name}', layer '{layer.name}'", layer, shapes)
        object.__setattr__(self, "shapes", shapes)


def _output_shape(where: str, layer: Layer, shapes: dict[str, Shape]) -> Shape:
    """Checks a layer against the tensors it reads; returns its output's (channels, rows, columns)."""
    if layer.source not in shapes:
        raise TatamiError(f"{where}: source '{layer.source}' is not an earlier tensor")
    channels, rows, columns = shapes[layer.source]
    if isinstance(layer, GlobalPool):
        out = (channels, 1, 1)
    elif isinstance(layer, Linear):
        _check_weight(where, layer.weight, 2, channels * rows * columns)
        out = (len(layer.weight), 1, 1)
    else:
        _check_weight(where, layer.weight, 4, channels)
        k = layer.weight.shape[2]
        if layer.weight.shape[3] != k or k not in (1, 3, 5):
            raise TatamiError(f"{where}: kernel is {layer.weight.shape[2:]}, must be square of 1, 3 or 5")
        if layer.stride not in (1, 2):
            raise TatamiError(f"{where}: stride is {layer.stride}, must be 1 or 2")
        if not 0 <= layer.padding < k:
            raise TatamiError(f"{where}: padding is {layer.padding}, must be in 0..{k - 1}")
        out_rows, out_columns = ((n + 2 * layer.padding - k) // layer.stride + 1 for n in (rows, columns))
        if out_rows < 1 or out_columns < 1:
            raise TatamiError(
                f"{where}: input {rows} x {columns} with padding {layer.padding} is smaller than the"
                f" kernel {k}"
            )
        out = (len(layer.weight), out_rows, out_columns)
        if layer.residual is not None:
            _check_residual(where, layer.residual, out, shapes)
    _check_requant(where, layer.requant, out[0])
    return out


def _check_weight(where: str, weight: IntArray, dims: int, inputs: int) -> None:
    if weight.ndim != dims or weight.shape[0] < 1 or weight.shape[1] != inputs:
        raise TatamiError(
            f"{where}: weight has shape {weight.shape}, needs {dims} dimensions and {inputs} inputs"
        )
    if not np.issubdtype(weight.dtype, np.integer) or weight.min() < -128 or weight.max() > 127:
        raise TatamiError(f"{where}: weight must hold integers in -128..127")


def _check_requant(where: str, requant: Requant, filters: int) -> None:
    for name, low, high in (
        ("bias", -(2**31), 2**31 - 1),
        ("multiplier", 0, MAX_MULTIPLIER),
        ("shift", 0, MAX_SHIFT),
    ):
        value = getattr(requant, name)
        if value.shape != (filters,):
            raise TatamiError(f"{where}: requant {name} has shape {value.shape}, needs ({filters},)")
        if not np.issubdtype(value.dtype, np.integer) or value.min() < low or value.max() > high:
            raise TatamiError(f"{where}: requant {name} must hold integers in {low}..{high}")


def _check_residual(where: str, residual: Residual, out: Shape, shapes: dict[str, Shape]) -> None:
    if residual.source not in shapes:
        raise TatamiError(f"{where}: residual source '{residual.source}' is not an earlier tensor")
    channels, rows, columns = shapes[residual.source]
    if residual.stride not in (1, 2):
        raise TatamiError(f"{where}: residual stride is {residual.stride}, must be 1 or 2")
    strided = tuple((n - 1) // residual.stride + 1 for n in (rows, columns))
    if strided != out[1:]:
        raise TatamiError(
            f"{where}: residual '{residual.source}' gives {strided} pixels, the layer's output has {out[1:]}"
        )
    for name, value in (("channel", residual.channel), ("weight", residual.weight)):
        if value.shape != (out[0],) or not np.issubdtype(value.dtype, np.integer):
            raise TatamiError(
                f"{where}: residual {name} must hold {out[0]} integers, has shape {value.shape}"
            )
    if residual.channel.min() < -1 or residual.channel.max() >= channels:
        raise TatamiError(f"{where}: residual channel must be in -1..{channels - 1}")
    if np.abs(residual.weight).max() > MAX_RESIDUAL:
        raise TatamiError(
            f"{where}: residual weight must be in -{MAX_RESIDUAL}..{MAX_RESIDUAL} (sixteen slots)"
        )
