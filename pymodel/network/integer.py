"""An integer network as the machine computes it: the input of the reference and of the compiler.

All tensors are int8 maps `[channel, row, column]`; weights are int8, biases int32. A layer that computes
ends in the requantisation `clamp(((sum + bias) * multiplier + 2**(shift-1) >> shift) + zero, low, high)` with
one multiplier and shift per filter (TensorFlow Lite, single rounding; Jacob et al., arXiv 1712.05877). With
ReLU `low` is `zero`. Any other activation is a table of what each value becomes.

The other layers only name pixels that are there already, in another order: their tensors take no cycle and
no memory.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import get_args

import numpy as np
import numpy.typing as npt

from pymodel.machine.errors import TatamiError
from pymodel.machine.names import check_name

IntArray = npt.NDArray[np.integer]
Shape = tuple[int, int, int]
Pair = tuple[int, int]  # of rows, of columns
Sides = tuple[int, int, int, int]  # top, left, bottom, right
Ratio = tuple[Fraction, Fraction]

INPUT = "input"  # name of the tensor that the host loads
MAX_MULTIPLIER = 65535
MAX_SHIFT = 47
MAX_RESIDUAL = 16 * 127  # of an integer weight: it takes slots of 127 at most


LOWEST, HIGHEST = -128, 127  # of a pixel
MAX_KERNEL, MAX_STRIDE = 11, 4
TABLE = 256  # values of a pixel
NOTHING: Sides = (0, 0, 0, 0)


def around(pixels: int) -> Sides:
    """The same padding on all four sides."""
    return (pixels,) * 4


@dataclass(frozen=True)
class Requant:
    """Per-filter requantisation. `bias` int32 [F], `multiplier` 0..65535 [F], `shift` 0..47 [F].

    `zero` is added behind the shift, and `low` and `high` are the clamps, all in -128..127. `table` int
    [256], if given, is an activation: value v becomes `table[v + 128]`.
    """

    bias: IntArray
    multiplier: IntArray
    shift: IntArray
    zero: int = 0
    low: int = LOWEST
    high: int = HIGHEST
    table: IntArray | None = None

    @staticmethod
    def none(filters: int) -> Requant:
        """Changes no pixel."""
        same = np.zeros(filters, dtype=np.int32)
        return Requant(same, same + 1, same)


@dataclass(frozen=True)
class Window:
    """The pixels that an output pixel is computed from: `size` rows and columns of pixels that are `dilation`
    apart, moved by `stride`. All are pairs (rows, columns); `padding` is (top, left, bottom, right).
    """

    size: Pair
    stride: Pair = (1, 1)
    padding: Sides = NOTHING
    dilation: Pair = (1, 1)

    @property
    def reach(self) -> Pair:
        """Rows and columns from its first pixel to its last, both included."""
        return (
            (self.size[0] - 1) * self.dilation[0] + 1,
            (self.size[1] - 1) * self.dilation[1] + 1,
        )

    def output(self, where: str, rows: int, columns: int) -> Pair:
        """Rows and columns of the output for a source of `rows` x `columns`. Raises `TatamiError`, which
        begins with `where`, for a window that the machine cannot have or that does not fit the source.
        """
        for name, value, low, high in (
            ("kernel", self.size, 1, MAX_KERNEL),
            ("stride", self.stride, 1, MAX_STRIDE),
            ("dilation", self.dilation, 1, MAX_KERNEL),
        ):
            if not low <= min(value) <= max(value) <= high:
                raise TatamiError(f"{where}: {name} is {_pair(value)}, must be in {low}..{high}")
        reach = self.reach
        for side, pixels, most in zip(
            ("top", "left", "bottom", "right"), self.padding, (*reach, *reach), strict=True
        ):
            if not 0 <= pixels < most:
                raise TatamiError(f"{where}: padding at the {side} is {pixels}, must be in 0..{most - 1}")
        top, left, bottom, right = self.padding
        out = (
            (rows + top + bottom - reach[0]) // self.stride[0] + 1,
            (columns + left + right - reach[1]) // self.stride[1] + 1,
        )
        if min(out) < 1:
            raise TatamiError(
                f"{where}: input {rows} x {columns} with padding {self.padding} is smaller than the kernel,"
                f" {_pair(reach)}"
            )
        return out

    def there(self, where: str, rows: int, columns: int) -> tuple[npt.NDArray[np.bool_], ...]:
        """Which rows of the window lie inside a source of `rows` x `columns`, for each row of the output, and
        which columns for each column: bool [places, H'], bool [places, W'].
        """
        out = self.output(where, rows, columns)
        found = []
        for axis, pixels in enumerate((rows, columns)):
            first = np.arange(out[axis]) * self.stride[axis] - self.padding[axis]
            read = first + np.arange(self.size[axis])[:, None] * self.dilation[axis]
            found.append((read >= 0) & (read < pixels))
        return tuple(found)

    def inside(self, where: str, rows: int, columns: int) -> tuple[IntArray, ...]:
        """How many of them there are: int [H'], int [W']."""
        return tuple(places.sum(axis=0) for places in self.there(where, rows, columns))

    def whole(self, where: str, rows: int, columns: int) -> int:
        """The least number that the product of any two of these counts divides."""
        down, across = self.inside(where, rows, columns)
        return int(np.lcm.reduce(down)) * int(np.lcm.reduce(across))


def _pair(value: Pair) -> str:
    return f"{value[0]} x {value[1]}"


def _counted(counts: IntArray) -> str:
    return ", ".join(map(str, np.unique(counts)))


@dataclass(frozen=True)
class Residual:
    """`weight[f] * source[channel[f]]` added to filter f's sum before requantisation.

    `channel` int [F], -1 for none. `weight` int [F]: the integer that brings the source to the scale of the
    sum (above 127 it takes several slots). `stride`: of every so many rows and columns of the source, the
    first is used.
    """

    source: str
    channel: IntArray
    weight: IntArray
    stride: Pair = (1, 1)


class LayerType(ABC):
    """The interface of every type of layer: docs/how-to/add-a-layer-type.md."""

    @abstractmethod
    def reads(self) -> tuple[str, ...]:
        """The tensors that it reads."""

    @abstractmethod
    def output_shape(self, where: str, shapes: Mapping[str, Shape]) -> Shape:
        """The output's (channels, rows, columns). `shapes` has the shapes of earlier tensors, those that it
        reads among them. Raises `TatamiError`, which begins with `where`, for a layer that does not fit them.
        """

    def ratios(self) -> tuple[tuple[str, Ratio], ...]:
        """The tensors whose planes it moves over, each with its rows and columns for one of the output. They
        must have the same layout as its output. None for a layer that reads pixels one by one.
        """
        return ()


class OneSource(LayerType):
    """A layer that reads one tensor."""

    source: str

    def reads(self) -> tuple[str, ...]:
        return (self.source,)


def _ratio(value: Pair) -> Ratio:
    return (Fraction(value[0]), Fraction(value[1]))


@dataclass(frozen=True)
class Conv(LayerType):
    """Two-dimensional convolution, weights int8 [F, C / groups, rows, columns]. Filters and channels are
    divided into `groups` that have nothing to do with each other. A pixel outside the source counts as
    `pad`.
    """

    name: str
    source: str
    weight: IntArray
    requant: Requant
    stride: Pair = (1, 1)
    padding: Sides = NOTHING
    residual: Residual | None = None
    dilation: Pair = (1, 1)
    groups: int = 1
    pad: int = 0

    @property
    def depthwise(self) -> bool:
        """Whether each filter has a single channel, of several."""
        return self.groups > 1 and self.weight.shape[1] == 1

    @property
    def window(self) -> Window:
        rows, columns = self.weight.shape[2:]
        return Window((rows, columns), self.stride, self.padding, self.dilation)

    def reads(self) -> tuple[str, ...]:
        return (self.source,) if self.residual is None else (self.source, self.residual.source)

    def output_shape(self, where: str, shapes: Mapping[str, Shape]) -> Shape:
        channels, rows, columns = shapes[self.source]
        if self.groups < 1 or channels % self.groups or len(self.weight) % self.groups:
            raise TatamiError(
                f"{where}: groups is {self.groups}, must divide its {len(self.weight)} filters and the"
                f" {channels} channels of '{self.source}'"
            )
        _check_weight(where, self.weight, 4, channels // self.groups)
        _check_pixel(where, "pad", self.pad)
        out = (len(self.weight), *self.window.output(where, rows, columns))
        if self.residual is not None:
            _check_residual(where, self.residual, out, shapes)
        return out

    def ratios(self) -> tuple[tuple[str, Ratio], ...]:
        moves = ((self.source, _ratio(self.stride)),)
        if self.residual is None:
            return moves
        return (*moves, (self.residual.source, _ratio(self.residual.stride)))


@dataclass(frozen=True)
class AveragePool(OneSource):
    """Sum over a window of each channel, requantised (the multiplier holds 1 / pixels). A pixel outside the
    source counts as `pad`.

    With `whole` it does not count: where n pixels of a window are inside, each of them has the weight
    `whole` / n, so the multiplier holds 1 / `whole`. It is the window's own `Window.whole`.
    """

    name: str
    source: str
    requant: Requant
    size: Pair
    stride: Pair = (1, 1)
    padding: Sides = NOTHING
    pad: int = 0
    whole: int = 0

    @property
    def window(self) -> Window:
        return Window(self.size, self.stride, self.padding)

    def output_shape(self, where: str, shapes: Mapping[str, Shape]) -> Shape:
        channels, rows, columns = shapes[self.source]
        _check_pixel(where, "pad", self.pad)
        out = self.window.output(where, rows, columns)
        if self.whole:
            self._check_whole(where, rows, columns)
        return (channels, *out)

    def _check_whole(self, where: str, rows: int, columns: int) -> None:
        down, across = self.window.inside(where, rows, columns)
        least = int(down.min()) * int(across.min())  # one or more: padding is less than the window
        needed = self.window.whole(where, rows, columns)
        if self.whole != needed or self.pad:
            raise TatamiError(
                f"{where}: whole is {self.whole} and pad is {self.pad}, must be {needed} and 0 for pixels"
                " outside that do not count"
            )
        if needed // least > HIGHEST:
            raise TatamiError(
                f"{where}: its windows have {_counted(down)} rows and {_counted(across)} columns inside: the"
                f" mean needs weights up to {needed // least}, must be at most {HIGHEST}"
            )

    def ratios(self) -> tuple[tuple[str, Ratio], ...]:
        return ((self.source, _ratio(self.stride)),)


@dataclass(frozen=True)
class MaxPool(OneSource):
    """The largest pixel of a window of each channel. Pixels outside the source do not count."""

    name: str
    source: str
    size: Pair
    stride: Pair = (1, 1)
    padding: Sides = NOTHING
    dilation: Pair = (1, 1)

    @property
    def window(self) -> Window:
        return Window(self.size, self.stride, self.padding, self.dilation)

    def output_shape(self, where: str, shapes: Mapping[str, Shape]) -> Shape:
        channels, rows, columns = shapes[self.source]
        return (channels, *self.window.output(where, rows, columns))

    def ratios(self) -> tuple[tuple[str, Ratio], ...]:
        return ((self.source, _ratio(self.stride)),)


@dataclass(frozen=True)
class GlobalPool(OneSource):
    """Sum over all pixels of a channel, requantised (the multiplier holds 1 / pixels): [C, H, W] -> [C, 1,
    1].
    """

    name: str
    source: str
    requant: Requant

    def output_shape(self, where: str, shapes: Mapping[str, Shape]) -> Shape:  # noqa: ARG002
        return (shapes[self.source][0], 1, 1)


@dataclass(frozen=True)
class Linear(OneSource):
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


@dataclass(frozen=True)
class Add(LayerType):
    """Tensors of one shape, added pixel by pixel: channel c of `sources[s]` times `weight[s, c]`, int [S, C].
    With one source it scales each channel.
    """

    name: str
    sources: tuple[str, ...]
    weight: IntArray
    requant: Requant

    def reads(self) -> tuple[str, ...]:
        return self.sources

    def output_shape(self, where: str, shapes: Mapping[str, Shape]) -> Shape:
        if not self.sources:
            raise TatamiError(f"{where}: it has no source")
        out = shapes[self.sources[0]]
        for source in self.sources:
            if shapes[source] != out:
                raise TatamiError(
                    f"{where}: '{source}' is {shapes[source]}, '{self.sources[0]}' is {out}: only equal"
                    " shapes can be added"
                )
        if self.weight.shape != (len(self.sources), out[0]):
            raise TatamiError(
                f"{where}: weight has shape {self.weight.shape}, must be ({len(self.sources)}, {out[0]})"
            )
        _check_factor(where, "weight", self.weight)
        return out

    def ratios(self) -> tuple[tuple[str, Ratio], ...]:
        return tuple((source, _ratio((1, 1))) for source in self.sources)


@dataclass(frozen=True)
class Gather(LayerType):
    """Channels of tensors of one map size, in any order: concat, split, slice, shuffle. Output channel c is
    channel `channel[c]` of `sources[origin[c]]`, both int [C]; -1 as channel: zeros.
    """

    name: str
    sources: tuple[str, ...]
    origin: IntArray
    channel: IntArray

    def reads(self) -> tuple[str, ...]:
        return self.sources

    @staticmethod
    def concat(name: str, sources: tuple[str, ...], channels: tuple[int, ...]) -> Gather:
        """All channels of `sources`, which have so many `channels`, behind each other."""
        origin = np.repeat(np.arange(len(sources)), channels)
        return Gather(name, sources, origin, np.concatenate([np.arange(count) for count in channels]))

    def output_shape(self, where: str, shapes: Mapping[str, Shape]) -> Shape:
        if not self.sources:
            raise TatamiError(f"{where}: it has no source")
        size = shapes[self.sources[0]][1:]
        for source in self.sources:
            if shapes[source][1:] != size:
                raise TatamiError(
                    f"{where}: '{source}' has {_pair(shapes[source][1:])} pixels, '{self.sources[0]}' has"
                    f" {_pair(size)}"
                )
        for name, value in (("origin", self.origin), ("channel", self.channel)):
            if value.ndim != 1 or not len(value) or not np.issubdtype(value.dtype, np.integer):
                raise TatamiError(f"{where}: {name} must hold integers [C], has shape {value.shape}")
        if self.origin.shape != self.channel.shape:
            raise TatamiError(
                f"{where}: origin has {len(self.origin)} channels, channel has {len(self.channel)}"
            )
        if self.origin.min() < 0 or self.origin.max() >= len(self.sources):
            raise TatamiError(f"{where}: origin must be in 0..{len(self.sources) - 1}")
        there = np.array([shapes[source][0] for source in self.sources])[self.origin]
        for c in np.flatnonzero((self.channel < -1) | (self.channel >= there))[:1]:
            raise TatamiError(
                f"{where}: channel {c} is channel {self.channel[c]} of '{self.sources[self.origin[c]]}', must"
                f" be in -1..{there[c] - 1}"
            )
        if self.channel.max() < 0:
            raise TatamiError(f"{where}: it takes no channel of its sources")
        return (len(self.channel), *size)

    def ratios(self) -> tuple[tuple[str, Ratio], ...]:
        return tuple((source, _ratio((1, 1))) for source in self.sources)


@dataclass(frozen=True)
class Upsample(OneSource):
    """Every pixel `scale[0]` x `scale[1]` times (nearest neighbour)."""

    name: str
    source: str
    scale: Pair

    def output_shape(self, where: str, shapes: Mapping[str, Shape]) -> Shape:
        _check_factors(where, "scale", self.scale)
        channels, rows, columns = shapes[self.source]
        return (channels, rows * self.scale[0], columns * self.scale[1])

    def ratios(self) -> tuple[tuple[str, Ratio], ...]:
        return ((self.source, (Fraction(1, self.scale[0]), Fraction(1, self.scale[1]))),)


@dataclass(frozen=True)
class DepthToSpace(OneSource):
    """Channel c * b0 * b1 + i * b1 + j becomes the pixels (i, j) of the blocks of channel c: torch's
    PixelShuffle, for blocks of `block` = (b0, b1) pixels.
    """

    name: str
    source: str
    block: Pair

    def output_shape(self, where: str, shapes: Mapping[str, Shape]) -> Shape:
        _check_factors(where, "block", self.block)
        channels, rows, columns = shapes[self.source]
        if channels % (self.block[0] * self.block[1]):
            raise TatamiError(
                f"{where}: '{self.source}' has {channels} channels, must be a multiple of"
                f" {self.block[0] * self.block[1]}"
            )
        return (
            channels // (self.block[0] * self.block[1]),
            rows * self.block[0],
            columns * self.block[1],
        )

    def ratios(self) -> tuple[tuple[str, Ratio], ...]:
        return ((self.source, (Fraction(1, self.block[0]), Fraction(1, self.block[1]))),)


@dataclass(frozen=True)
class SpaceToDepth(OneSource):
    """The inverse of `DepthToSpace`."""

    name: str
    source: str
    block: Pair

    def output_shape(self, where: str, shapes: Mapping[str, Shape]) -> Shape:
        _check_factors(where, "block", self.block)
        channels, rows, columns = shapes[self.source]
        if rows % self.block[0] or columns % self.block[1]:
            raise TatamiError(
                f"{where}: '{self.source}' has {rows} x {columns} pixels, must be whole blocks of"
                f" {_pair(self.block)}"
            )
        return (
            channels * self.block[0] * self.block[1],
            rows // self.block[0],
            columns // self.block[1],
        )

    def ratios(self) -> tuple[tuple[str, Ratio], ...]:
        return ((self.source, _ratio(self.block)),)


Weighted = Conv | Linear  # layers with weights: those that a scheme may plan
Computed = Conv | Linear | GlobalPool | AveragePool | MaxPool | Add  # layers that the array runs
Requantised = Conv | Linear | GlobalPool | AveragePool | Add
Windowed = Conv | AveragePool | MaxPool  # layers that move a window over their first source
View = Gather | Upsample | DepthToSpace | SpaceToDepth  # layers that take no cycle
Layer = Computed | View
KINDS: tuple[type[Layer], ...] = get_args(Layer)


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
            for source in layer.reads():
                if source not in shapes:
                    kind = "residual source" if source is not layer.reads()[0] else "source"
                    raise TatamiError(f"{where}: {kind} '{source}' is not an earlier tensor")
            shape = layer.output_shape(where, shapes)
            if isinstance(layer, Requantised):
                _check_requant(where, layer.requant, shape[0])
            shapes[layer.name] = shape
        object.__setattr__(self, "shapes", shapes)


def macs_of(network: Network) -> dict[str, int]:
    """Multiplications of each layer with weights for one image, zeros included."""
    return {
        layer.name: layer.weight.size * network.shapes[layer.name][1] * network.shapes[layer.name][2]
        for layer in network.layers
        if isinstance(layer, Weighted)
    }


def groups_of(network: Network) -> dict[str, int]:
    """The groups of each layer with weights: 1 but for convolutions."""
    weighted = [layer for layer in network.layers if isinstance(layer, Weighted)]
    return {layer.name: layer.groups if isinstance(layer, Conv) else 1 for layer in weighted}


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
    for name in ("zero", "low", "high"):
        _check_pixel(where, f"requant {name}", getattr(requant, name))
    table = requant.table
    if table is not None:
        if table.shape != (TABLE,) or not np.issubdtype(table.dtype, np.integer):
            raise TatamiError(
                f"{where}: requant table is {table.dtype} {table.shape}, must be integers ({TABLE},)"
            )
        if table.min() < LOWEST or table.max() > HIGHEST:
            raise TatamiError(f"{where}: requant table must hold integers in {LOWEST}..{HIGHEST}")
    if requant.low > requant.high:
        raise TatamiError(f"{where}: requant low is {requant.low}, must be at most high, {requant.high}")


def _check_pixel(where: str, name: str, value: int) -> None:
    if not LOWEST <= value <= HIGHEST:
        raise TatamiError(f"{where}: {name} is {value}, must be in {LOWEST}..{HIGHEST}")


def _check_factors(where: str, name: str, value: Pair) -> None:
    if not 1 <= min(value) <= max(value) <= MAX_STRIDE:
        raise TatamiError(f"{where}: {name} is {_pair(value)}, must be in 1..{MAX_STRIDE}")


def _check_factor(where: str, name: str, value: IntArray) -> None:
    if not np.issubdtype(value.dtype, np.integer) or np.abs(value.astype(np.int64)).max() > MAX_RESIDUAL:
        raise TatamiError(
            f"{where}: {name} must hold integers in -{MAX_RESIDUAL}..{MAX_RESIDUAL} (sixteen slots)"
        )


def _check_residual(where: str, residual: Residual, out: Shape, shapes: Mapping[str, Shape]) -> None:
    channels, *size = shapes[residual.source]
    if not 1 <= min(residual.stride) <= max(residual.stride) <= MAX_STRIDE:
        raise TatamiError(f"{where}: residual stride is {_pair(residual.stride)}, must be in 1..{MAX_STRIDE}")
    strided = tuple((n - 1) // step + 1 for n, step in zip(size, residual.stride, strict=True))
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
    _check_factor(where, "residual weight", residual.weight)
