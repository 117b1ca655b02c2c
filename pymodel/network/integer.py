"""An integer network as the machine computes it: the input of the reference and of the compiler.

All tensors are int8 maps `[channel, row, column]`; weights are int8, biases int32. Every layer ends in the
requantisation `clamp((sum + bias) * multiplier + 2**(shift-1) >> shift)` with one multiplier and shift per
filter (TensorFlow Lite, single rounding; Jacob et al., arXiv 1712.05877); ReLU raises the lower clamp from
-128 to 0.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from pymodel.machine.errors import TatamiError
from pymodel.machine.names import check_name

IntArray = npt.NDArray[np.integer]
Shape = tuple[int, int, int]

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

    `channel` int [F], -1 for none. `weight` int [F]: the integer that brings the source to the scale of the
    sum (above 127 it takes several slots). `stride`: every stride-th pixel of the source in both directions
    is used.
    """

    source: str
    channel: IntArray
    weight: IntArray
    stride: int = 1


class LayerType(ABC):
    """The interface of every type of layer: docs/how-to/add-a-layer-type.md."""

    @abstractmethod
    def output_shape(self, where: str, shapes: Mapping[str, Shape]) -> Shape:
        """The output's (channels, rows, columns). `shapes` has the shapes of earlier tensors, the source
        among them. Raises `TatamiError`, which begins with `where`, for a layer that does not fit them.
        """

    def strides(self) -> tuple[tuple[str, int], ...]:
        """The tensors whose planes it moves over, each with the stride. They must have the same layout as its
        output. None for a layer that reads pixels one by one.
        """
        return ()


@dataclass(frozen=True)
class Conv(LayerType):
    """Two-dimensional convolution, weights int8 [F, C, k, k], zero padding on all four sides."""

    name: str
    source: str
    weight: IntArray
    requant: Requant
    stride: int = 1
    padding: int = 0
    residual: Residual | None = None

    def output_shape(self, where: str, shapes: Mapping[str, Shape]) -> Shape:
        channels, rows, columns = shapes[self.source]
        _check_weight(where, self.weight, 4, channels)
        k = self.weight.shape[2]
        if self.weight.shape[3] != k or k not in (1, 3, 5):
            raise TatamiError(f"{where}: kernel is {self.weight.shape[2:]}, must be square of 1, 3 or 5")
        if self.stride not in (1, 2):
            raise TatamiError(f"{where}: stride is {self.stride}, must be 1 or 2")
        if not 0 <= self.padding < k:
            raise TatamiError(f"{where}: padding is {self.padding}, must be in 0..{k - 1}")
        out_rows, out_columns = ((n + 2 * self.padding - k) // self.stride + 1 for n in (rows, columns))
        if out_rows < 1 or out_columns < 1:
            raise TatamiError(
                f"{where}: input {rows} x {columns} with padding {self.padding} is smaller than"
                f" the kernel {k}"
            )
        out = (len(self.weight), out_rows, out_columns)
        if self.residual is not None:
            _check_residual(where, self.residual, out, shapes)
        return out

    def strides(self) -> tuple[tuple[str, int], ...]:
        moves = ((self.source, self.stride),)
        if self.residual is None:
            return moves
        return (*moves, (self.residual.source, self.residual.stride))


@dataclass(frozen=True)
class GlobalPool(LayerType):
    """Sum over all pixels of a channel, requantised (the multiplier holds 1 / pixels): [C, H, W] -> [C, 1,
    1].
    """

    name: str
    source: str
    requant: Requant

    def output_shape(self, where: str, shapes: Mapping[str, Shape]) -> Shape:  # noqa: ARG002
        return (shapes[self.source][0], 1, 1)


@dataclass(frozen=True)
class Linear(LayerType):
    """Fully connected, weights int8 [F, C * H * W] in the channel-major order of `torch.flatten`: -> [F, 1,
    1].
    """

    name: str
    source: str
    weight: IntArray
    requant: Requant

    def output_shape(self, where: str, shapes: Mapping[str, Shape]) -> Shape:
        channels, rows, columns = shapes[self.source]
        _check_weight(where, self.weight, 2, channels * rows * columns)
        return (len(self.weight), 1, 1)


Layer = Conv | GlobalPool | Linear
Weighted = Conv | Linear  # layers with weights: those that a scheme may plan


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
            where = f"network '{self.name}', layer '{layer.name}'"
            if layer.source not in shapes:
                raise TatamiError(f"{where}: source '{layer.source}' is not an earlier tensor")
            shape = layer.output_shape(where, shapes)
            _check_requant(where, layer.requant, shape[0])
            shapes[layer.name] = shape
        object.__setattr__(self, "shapes", shapes)


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


def _check_residual(where: str, residual: Residual, out: Shape, shapes: Mapping[str, Shape]) -> None:
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
