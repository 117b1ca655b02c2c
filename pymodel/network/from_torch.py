"""Converts a torch module to a `FloatNetwork`: traced by torch.fx in eval mode, batch norms folded, additions
attached to their convolution. It knows these operations:

- Conv2d, with any strides, dilations, groups and zero padding: FloatConv. Linear: FloatLinear.
- BatchNorm: folded into the layer before it, or a FloatAdd of its own.
- ReLU, ReLU6 and other clamps, LeakyReLU, Sigmoid, Hardswish and other curves: part of the layer before them,
  or a FloatAdd of its own.
- a + b, a - b: FloatResidual of the convolution whose output is added (of two, the one that runs later), else
  FloatAdd. A tensor plus, minus, times or over a number: as a batch norm.
- Max and average pools, means over the plane: MaxPool, FloatAveragePool, FloatPool.
- What only moves pixels: concat, split, slices, shuffles, transposed and reshaped tensors, nearest
  upsampling, pixel shuffle, zero channels and zeros around planes. They become the layers that
  `pymodel.network.moves` recognises, or part of what reads them: the padding of a window, the channels and
  stride of a shortcut (option A: He et al., arXiv 1512.03385, section 3.3).
- Dropout, Identity: nothing.

A layer's name is the path of its module ("layer1.0.conv1"). One without a module has the name of its
function, a pool over the plane "pool". All other operations are refused, in one message of one line. Weights
that are computed (masks, norms) or shared by two layers are first made plain (`plain_module`). Torch.fx does
not see everything: it misses hooks, and that `a += b` changes other names of a. So the result is compared
with the output of the module on random images.

It is torch.fx and not torch.export because modules are traced again and again while they are trained: fx
takes milliseconds and export seconds. fx also keeps the modules, so that a layer has the path of its own, and
leaves the batch open. A program that torch.export has written is a module again in `from_export`.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
import torch
from torch import fx, nn
from torch.nn import functional

from pymodel.machine.errors import TatamiError
from pymodel.machine.names import check_name
from pymodel.network.activations import Activation, Clamp, leaky_relu
from pymodel.network.float import (
    FloatAdd,
    FloatAveragePool,
    FloatComputed,
    FloatConv,
    FloatLayer,
    FloatLinear,
    FloatNetwork,
    FloatPool,
    FloatResidual,
    FloatWeighted,
    blank_layer,
    evaluate_float,
    fold_batch_norm,
)
from pymodel.network.integer import INPUT, NOTHING, IntArray, MaxPool, Pair, Shape, Sides, View, Window
from pymodel.network.moves import Move, Source, recognise
from pymodel.network.plain_module import first_line, plain_module
from pymodel.network.torch_activations import FUNCTIONS, MODULES

FloatArray = npt.NDArray[np.float64]

SUPPORTED = (
    "Conv2d, Linear, batch norms, max and average pools, means over the plane, additions, numbers times"
    " tensors, ReLU and other activations, what only moves pixels (concat, split, shuffle, flatten, nearest"
    " upsampling, pixel shuffle, zero padding), Dropout, Identity"
)
MAX_POOL = ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
AVERAGE_POOL = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override")

# Functions and methods that only move pixels.
_JOIN = ("cat", "concat", "concatenate", "stack")
_CUT = ("chunk", "split", "tensor_split", "unbind", "narrow", "index_select", "select")
_SHAPE = ("reshape", "view", "flatten", "unflatten", "squeeze", "unsqueeze", "contiguous")
_ORDER = ("permute", "transpose", "swapaxes", "movedim", "flip", "roll", "channel_shuffle")
_MOVES = (*_JOIN, *_CUT, *_SHAPE, *_ORDER, "expand", "repeat", "tile", "repeat_interleave")
MOVES = (
    operator.getitem,
    *_MOVES,
    *(getattr(torch, name) for name in _MOVES if hasattr(torch, name)),
)
IMAGE = 2.0**40  # the numbers of an image's pixels begin so much above those of the one before
BATCH = 2  # of the images that the module is traced with: not 1, so that a reshape that mixes images is found
TOLERANCE = 1e-3  # of the largest output: the module may compute in float32


@dataclass(frozen=True)
class Imported:
    """A network and the origin of its weights, by layer name, for layers that have weights.

    `weights` is the path of the weight in `module.named_parameters()`. The layer's weight is that parameter
    [F, C / groups, k, k] times `factors` float64 [F] (from the folded batch norm; ones without it).
    """

    network: FloatNetwork
    weights: dict[str, str]
    factors: dict[str, FloatArray]


def from_torch(module: nn.Module, input_shape: Shape, name: str) -> FloatNetwork:
    """The module as a network. The module maps [B, *input_shape] to one tensor. `import_torch` also returns
    where its weights come from.

    The module keeps its mode and its parameters. Raises TatamiError, naming the module or function, for
    anything that is not supported.
    """
    return import_torch(module, input_shape, name).network


def checked_shape(shape: Any, name: str) -> Shape:
    """Three positive whole numbers, given as any sequence, as a tuple."""
    try:
        found = tuple(shape)
        whole = tuple(operator.index(n) for n in found)
    except TypeError:
        found, whole = (shape if isinstance(shape, tuple) else (shape,)), ()
    if len(whole) != 3 or min(whole) < 1:
        raise TatamiError(
            f"network '{name}': input shape is {found}, must be three positive numbers"
            " (channels, rows, columns)"
        )
    return whole


def import_torch(module: nn.Module, input_shape: Shape, name: str) -> Imported:
    """As `from_torch`, with the path of every weight and the factor of every filter."""
    check_name("a network's name", name)
    input_shape = checked_shape(input_shape, name)
    module = plain_module(module, name)
    training = {part: part.training for part in module.modules()}
    module.eval()
    try:
        with torch.no_grad():
            return _Importer(module, input_shape, name).run()
    finally:
        for part, mode in training.items():
            part.training = mode


class _RefusedError(Exception):
    """A node is refused. `kind`: the operation that is not supported. `where`: its place."""

    def __init__(self, text: str, kind: str = "", where: str = "") -> None:
        super().__init__(text)
        self.kind, self.where = kind, where


class _UnknownError(Exception):
    """A node reads the result of a refused node, so nothing can be said about it."""


@dataclass(frozen=True)
class _Value:
    """The result of a node: a layer's `tensor`, in its planes or flat, or `pixels` of tensors, float64
    [BATCH, ...], by their numbers (`_Importer.first`); they become layers when something reads them.

    `open` says that nothing else reads the tensor, so that the next operation may still become part of its
    layer.
    """

    tensor: str = ""
    open: bool = False
    pixels: torch.Tensor | None = None
    unknown: bool = False


class _Recorder(fx.Interpreter):
    """Runs the traced module and keeps the result of every node."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.results: dict[fx.Node, Any] = {}
        self.at: fx.Node | None = None

    def run_node(self, n: fx.Node) -> Any:
        self.at = n
        self.results[n] = super().run_node(n)
        return self.results[n]


class _Importer:
    def __init__(self, module: nn.Module, input_shape: Shape, name: str) -> None:
        self.module, self.input_shape, self.name = module, input_shape, name
        self.layers: dict[str, FloatLayer] = {}  # in order of execution
        self.shapes: dict[str, Shape] = {INPUT: input_shape}
        self.first: dict[str, int] = {INPUT: 1}  # the number of the first pixel of each tensor
        self.pixels = 1 + math.prod(input_shape)  # the number after the last
        self.made: dict[Source, str] = {}  # tensors that only move pixels
        self.below: dict[str, str] = {}  # layers that only a maximum reads, by its name
        self.weights: dict[str, str] = {}
        self.factors: dict[str, FloatArray] = {}
        self.values: dict[fx.Node, Any] = {}  # a `_Value`, or a tuple of them
        self.results: dict[fx.Node, Any] = {}
        self.overwritten: dict[str, fx.Node] = {}  # tensors that an operation in place has changed

    def run(self) -> Imported:
        place = next((p for p in self.module.parameters()), torch.zeros(0))
        images = torch.randn(BATCH, *self.input_shape, generator=torch.Generator().manual_seed(0)).to(
            place.device, place.dtype
        )
        graph = self._trace()
        recorder = _Recorder(fx.GraphModule(self.module, graph))
        self.results = recorder.results
        try:
            recorder.run(images.clone())
        except Exception as error:  # whatever the module's own code raises
            where = self._label(recorder.at) if recorder.at is not None else "the module"
            raise TatamiError(
                f"network '{self.name}': {where} fails on images of shape {self.input_shape}:"
                f" {first_line(error)}"
            ) from None
        refused: list[_RefusedError] = []
        for node in graph.nodes:
            if node.op == "output":
                continue
            try:
                self._step(node)
            except _RefusedError as error:
                refused.append(error)
                self.values[node] = _UNKNOWN
            except _UnknownError:
                self.values[node] = _UNKNOWN
        if refused:
            raise TatamiError(f"network '{self.name}': {_in_one_line(refused)}")
        try:
            output = self._output(next(node for node in graph.nodes if node.op == "output"))
        except _RefusedError as error:
            raise TatamiError(f"network '{self.name}': {error}") from None
        network = FloatNetwork(self.name, self.input_shape, tuple(self.layers.values()))
        self._compare(network, output, images)
        return Imported(network, self.weights, self.factors)

    def _trace(self) -> fx.Graph:
        try:
            graph = fx.Tracer().trace(self.module)
        except Exception as error:  # TraceError, and whatever the module's own code does with a proxy
            raise TatamiError(
                f"network '{self.name}': torch.fx cannot trace the module: {first_line(error)}"
            ) from None
        inputs = [node.name for node in graph.nodes if node.op == "placeholder" and not node.args]
        if len(inputs) != 1:
            raise TatamiError(
                f"network '{self.name}': forward takes {len(inputs)} inputs ({', '.join(inputs)}), must"
                " take 1"
            )
        return graph

    def _step(self, node: fx.Node) -> None:
        result = self.results[node]
        if not _holds_tensor(result):
            return  # a size, or arithmetic with sizes: its value is in the results
        if node.op == "placeholder":
            self.values[node] = _Value(INPUT)
            return
        if node.op == "get_attr" and isinstance(result, torch.Tensor) and not result.is_floating_point():
            return  # it may be an index
        handler: Callable[[fx.Node], Any] | None = None
        if node.op == "call_module":
            called = self.module.get_submodule(node.target)
            handler = next(
                (handler for kind, handler in self._modules().items() if isinstance(called, kind)), None
            )
        elif node.op in ("call_function", "call_method"):
            handler = self._functions().get(node.target)
        if handler is None:
            self._refuse(node)
        value = handler(node)
        if isinstance(value, _Value):
            if not node.users and value.pixels is None:
                self._fail(node, "has a result that nothing reads")
            value = replace(value, open=value.open and len(node.users) == 1)
        self.values[node] = value

    def _modules(self) -> dict[type, Callable[[fx.Node], Any]]:
        return {
            nn.Conv2d: self._conv,
            nn.BatchNorm2d: self._batch_norm,
            nn.BatchNorm1d: self._batch_norm,
            nn.MaxPool2d: lambda node: self._max_pool(node, **_said(self._module(node), MAX_POOL)),
            nn.AvgPool2d: lambda node: self._average_pool(node, **_said(self._module(node), AVERAGE_POOL)),
            nn.AdaptiveAvgPool2d: lambda node: self._adaptive_pool(node, self._module(node).output_size),
            nn.Linear: self._linear,
            nn.Upsample: self._upsample,
            nn.ZeroPad2d: self._pad,
            nn.ConstantPad2d: self._pad,
            nn.PReLU: self._prelu,
            **dict.fromkeys(MODULES, self._activation_module),
            **dict.fromkeys((nn.Dropout, nn.Dropout2d, nn.Identity), self._same),
            **dict.fromkeys((nn.PixelShuffle, nn.PixelUnshuffle), self._moved_at_once),
            **dict.fromkeys((nn.Flatten, nn.Unflatten, nn.ChannelShuffle), self._moved),
        }

    def _functions(self) -> dict[Any, Callable[[fx.Node], Any]]:
        def add_(node: fx.Node) -> _Value:
            return self._add(node, in_place=True)

        def adaptive(node: fx.Node) -> _Value:
            return self._adaptive_pool(node, self._arguments(node, "input", "output_size")["output_size"])

        def subtract(node: fx.Node) -> _Value:
            return self._add(node, sign=-1)

        def maximum(node: fx.Node) -> _Value:
            return self._max_pool(node, **_without_input(self._arguments(node, "input", *MAX_POOL)))

        def average(node: fx.Node) -> _Value:
            return self._average_pool(node, **_without_input(self._arguments(node, "input", *AVERAGE_POOL)))

        return {
            **dict.fromkeys(FUNCTIONS, self._activation_function),
            **dict.fromkeys(MOVES, self._moved),
            **dict.fromkeys((torch.pixel_shuffle, torch.pixel_unshuffle), self._moved_at_once),
            **dict.fromkeys((operator.add, torch.add, "add"), self._add),
            **dict.fromkeys((operator.iadd, "add_"), add_),
            **dict.fromkeys((operator.sub, torch.sub, "sub"), subtract),
            **dict.fromkeys((operator.mul, torch.mul, "mul"), self._multiply),
            **dict.fromkeys((operator.truediv, torch.div, "div"), self._divide),
            **dict.fromkeys((torch.mean, "mean"), self._mean),
            **dict.fromkeys((functional.max_pool2d, torch.max_pool2d), maximum),
            functional.avg_pool2d: average,
            functional.adaptive_avg_pool2d: adaptive,
            functional.dropout: self._dropout,
            functional.pad: self._pad,
            functional.interpolate: self._upsample,
        }

    # --- operations: each takes a node, adds to the layers, returns what the node computes
    # -----------------------------------------

    def _conv(self, node: fx.Node) -> _Value:
        conv = self._module(node)
        if conv.padding_mode != "zeros":
            self._fail(node, f"has padding mode '{conv.padding_mode}', must be 'zeros'")
        kernel, dilation = tuple(conv.kernel_size), tuple(conv.dilation)
        if conv.padding == "same":
            whole = [step * (side - 1) for side, step in zip(kernel, dilation, strict=True)]
            before = [pixels // 2 for pixels in whole]
            padding = (*before, *(pixels - half for pixels, half in zip(whole, before, strict=True)))
        else:
            padding = (0, 0, 0, 0) if conv.padding == "valid" else tuple(conv.padding) * 2
        window = Window(kernel, tuple(conv.stride), padding, dilation)
        source, window = self._windowed(node, window)
        weight = self._numbers(node, conv, "weight")
        bias = self._numbers(node, conv, "bias") if conv.bias is not None else np.zeros(len(weight))
        layer = FloatConv(
            self._new_name(node, once=True),
            source,
            weight,
            bias,
            window.stride,
            window.padding,
            dilation=window.dilation,
            groups=conv.groups,
        )
        return self._weighted(node, layer)

    def _windowed(self, node: fx.Node, window: Window, zeros: bool = True) -> tuple[str, Window]:
        """The tensor that a window moves over, and the window with the padding that was put around the tensor
        before. `zeros`: its own pixels outside count as zeros too.
        """
        self._check_window(node, window)  # whatever it reads: all refusals come at once
        source, padding = self._padded(node, _operand(node))
        if padding == NOTHING:
            return source, window
        if not zeros:
            self._fail(node, f"reads a copy of '{source}' with zeros around it, must read the tensor itself")
        top, left, bottom, right = (mine + more for mine, more in zip(window.padding, padding, strict=True))
        window = replace(window, padding=(top, left, bottom, right))
        rows, columns = self.shapes[source][1:]
        self._checked(node, lambda where: window.output(where, rows, columns))
        return source, window

    def _check_window(self, node: fx.Node, window: Window) -> None:
        rows, columns = self.results[_operand(node)].shape[-2:]
        self._checked(node, lambda where: window.output(where, rows, columns))

    def _checked(self, node: fx.Node, check: Callable[[str], Any]) -> Any:
        """What `check` gives. A `TatamiError` becomes the refusal of the node."""
        try:
            return check(self._label(node))
        except TatamiError as error:
            raise _RefusedError(str(error)) from None

    def _linear(self, node: fx.Node) -> _Value:
        linear = self._module(node)
        if self.results[_operand(node)].ndim != 2:
            named = self._named(node)
            self._fail(
                node, f"reads '{named}', which must be flattened to [batch, {linear.in_features}] before it"
            )
        source = self._tensor(node)
        weight = self._numbers(node, linear, "weight")
        bias = self._numbers(node, linear, "bias") if linear.bias is not None else np.zeros(len(weight))
        return self._weighted(node, FloatLinear(self._new_name(node, once=True), source, weight, bias))

    def _weighted(self, node: fx.Node, layer: FloatConv | FloatLinear) -> _Value:
        value = self._append(node, layer)
        self.weights[layer.name] = f"{node.target}.weight"
        self.factors[layer.name] = np.ones(len(layer.weight))
        return value

    def _append(self, node: fx.Node, layer: FloatLayer) -> _Value:
        """Adds a layer, checked by the rules of the machine."""

        def shape(where: str) -> Shape:
            return blank_layer(layer, self.shapes).output_shape(where, self.shapes)

        self.shapes[layer.name] = self._checked(node, shape)
        self.first[layer.name] = self.pixels
        self.pixels += math.prod(self.shapes[layer.name])
        self.layers[layer.name] = layer
        return _Value(layer.name, open=True)

    def _batch_norm(self, node: fx.Node) -> _Value:
        norm = self._module(node)
        if norm.running_mean is None:
            self._fail(node, "has no running statistics (track_running_stats is False), must have them")
        mean, variance = (self._numbers(node, norm, part) for part in ("running_mean", "running_var"))
        gamma, beta = (
            (self._numbers(node, norm, part) for part in ("weight", "bias"))
            if norm.affine
            else (np.ones_like(mean), np.zeros_like(mean))
        )
        if (variance + norm.eps <= 0).any():
            self._fail(node, f"has a running_var of {variance.min():g}, must not be negative")
        factor, shift = fold_batch_norm(np.ones(len(mean)), mean, variance, gamma, beta, norm.eps)
        return self._scaled(node, _operand(node), factor, shift)

    def _scaled(self, node: fx.Node, operand: Any, factor: FloatArray, shift: FloatArray) -> _Value:
        """Each channel times a factor plus a shift, [C] both: in the layer before, or a layer of its own."""
        value = self._value(node, operand)
        layer = self.layers.get(value.tensor)
        if value.open and isinstance(layer, FloatWeighted | FloatAdd) and layer.activation is None:
            bias = layer.bias * factor + shift
            if isinstance(layer, FloatAdd):
                self.layers[layer.name] = replace(layer, weight=layer.weight * factor, bias=bias)
                return value
            if isinstance(layer, FloatLinear) or layer.residual is None:
                weight = layer.weight * factor.reshape(-1, *[1] * (layer.weight.ndim - 1))
                self.layers[layer.name] = replace(layer, weight=weight, bias=bias)
                self.factors[layer.name] = self.factors[layer.name] * factor
                return value
        source = self._tensor(node, operand)
        return self._append(node, FloatAdd(self._new_name(node), (source,), factor[None], shift))

    def _activation_module(self, node: fx.Node) -> _Value:
        module = self._module(node)
        make = next(make for kind, make in MODULES.items() if isinstance(module, kind))
        return self._activate(node, make(module), bool(getattr(module, "inplace", False)))

    def _activation_function(self, node: fx.Node) -> _Value:
        names, make = FUNCTIONS[node.target]
        given = self._arguments(node, "input", *names, "inplace")
        in_place = bool(given.pop("inplace", False)) or _name_of(node.target).endswith("_")
        del given["input"]
        return self._activate(node, make(**given), in_place)

    def _prelu(self, node: fx.Node) -> _Value:
        slope = self._numbers(node, self._module(node), "weight")
        if (slope != slope[0]).any():
            self._fail(node, f"has {len(slope)} slopes, must have one for all channels")
        return self._activate(node, leaky_relu(float(slope[0])), in_place=False)

    def _activate(self, node: fx.Node, activation: Activation, in_place: bool) -> _Value:
        value = self._value(node, _operand(node))
        if in_place and len(_operand(node).users) > 1:
            self._fail(
                node,
                f"reads '{self._named(node)}', which others read too; it is in place, so they read its"
                " result",
            )
        layer = self.layers.get(value.tensor)
        if value.open and isinstance(layer, MaxPool) and layer.name in self.below:
            # the largest of clamped pixels is the clamped largest
            layer = self.layers[self.below[layer.name]] if isinstance(activation, Clamp) else layer
        if isinstance(layer, FloatComputed):
            before = layer.activation
            if isinstance(before, Clamp) and isinstance(activation, Clamp):
                activation = before.then(activation)
                if activation == before:
                    return value  # no value changes
                before = None
            if value.open and before is None:
                self.layers[layer.name] = replace(layer, activation=activation)
                return value
        source = self._tensor(node)
        channels = self.shapes[source][0]
        ones, zeros = np.ones((1, channels)), np.zeros(channels)
        return self._append(node, FloatAdd(self._new_name(node), (source,), ones, zeros, activation))

    def _add(self, node: fx.Node, in_place: bool = False, sign: int = 1) -> _Value:
        given = self._arguments(node, "input", "other", "alpha")
        factor = sign * given.get("alpha", 1)
        first, second = given["input"], given["other"]
        if not isinstance(factor, int | float):
            self._fail(node, f"has alpha {factor}, must be a number")
        if not isinstance(second, fx.Node):
            return self._shifted(node, first, 1, factor * self._number(node, second))
        if not isinstance(first, fx.Node):
            return self._shifted(node, second, factor, self._number(node, first))
        shapes = [tuple(self.results[part].shape[1:]) for part in (first, second)]
        if shapes[0] != shapes[1]:
            self._fail(node, f"adds tensors of shapes {shapes[0]} and {shapes[1]}, must be equal")
        values = self._value(node, first), self._value(node, second)
        if factor == 1:
            found = self._residual(node, (first, second), values)
            if found is not None:
                if in_place and found != values[0].tensor:
                    self.overwritten[values[0].tensor] = node
                return _Value(found, open=True)
        weights: dict[str, float] = {}
        for operand, one in ((first, 1.0), (second, float(factor))):
            source = self._tensor(node, operand)
            weights[source] = weights.get(source, 0.0) + one
        channels = self.shapes[next(iter(weights))][0]
        weight = np.repeat(np.array(list(weights.values()))[:, None], channels, axis=1)
        layer = FloatAdd(self._new_name(node), tuple(weights), weight, np.zeros(channels))
        value = self._append(node, layer)
        if in_place and values[0].tensor:
            self.overwritten[values[0].tensor] = node
        return value

    def _number(self, node: fx.Node, value: Any) -> float:
        if not isinstance(value, int | float):
            self._fail(node, f"computes with {value}, must have two tensors, or a tensor and a number")
        return float(value)

    def _shifted(self, node: fx.Node, operand: fx.Node, factor: float, shift: float) -> _Value:
        channels = self.results[operand].shape[1]
        return self._scaled(node, operand, np.full(channels, float(factor)), np.full(channels, shift))

    def _multiply(self, node: fx.Node) -> _Value:
        given = self._arguments(node, "input", "other")
        first, second = given["input"], given["other"]
        if isinstance(first, fx.Node) and isinstance(second, fx.Node):
            self._fail(node, "multiplies two tensors, must multiply by a number")
        operand, number = (first, second) if isinstance(first, fx.Node) else (second, first)
        return self._shifted(node, operand, self._number(node, number), 0.0)

    def _divide(self, node: fx.Node) -> _Value:
        given = self._arguments(node, "input", "other")
        if not isinstance(given["input"], fx.Node) or isinstance(given["other"], fx.Node):
            self._fail(node, "divides by a tensor, must divide by a number")
        return self._shifted(node, given["input"], 1 / self._number(node, given["other"]), 0.0)

    def _residual(
        self, node: fx.Node, operands: tuple[fx.Node, fx.Node], values: tuple[_Value, _Value]
    ) -> str | None:
        """Makes one operand the residual of the convolution that the other is, if it is one whose sums are
        still open: of two, the one that runs later. Returns the name of the convolution.
        """
        hosts = [number for number in (0, 1) if self._takes_residual(values[number])]
        if not hosts or self.results[operands[0]].ndim != 4:
            return None
        order = list(self.layers)
        host = max(hosts, key=lambda number: order.index(values[number].tensor))
        name, other = values[host].tensor, values[1 - host]
        if other.tensor == name:
            return None
        short = self._shortcut(node, operands[1 - host], other)
        layer = self.layers[name]
        assert isinstance(layer, FloatConv)
        order = list(self.layers)
        if short[0] in order[order.index(name) :]:
            del self.layers[name]  # it runs last now; nothing has read it yet
        self.layers[name] = replace(layer, residual=FloatResidual(*short))
        return name

    def _shortcut(self, node: fx.Node, operand: fx.Node, value: _Value) -> tuple[str, IntArray, Pair]:
        """The tensor, channels and stride that a residual reads."""
        if value.pixels is not None:
            short = self._recognised(operand, value.pixels).shortcut()
            if short is not None:
                self._check_whole(node, short[0])
                return short
        source = self._tensor(node, operand)
        return source, np.arange(self.shapes[source][0], dtype=np.int16), (1, 1)

    def _takes_residual(self, value: _Value) -> bool:
        layer = self.layers.get(value.tensor)
        return (
            value.open
            and isinstance(layer, FloatConv)
            and layer.activation is None
            and layer.residual is None
        )

    def _mean(self, node: fx.Node) -> _Value:
        given = self._arguments(node, "input", "dim", "keepdim", "dtype")
        dims = given.get("dim")
        if not isinstance(dims, tuple | list) or sorted(d % 4 for d in dims) != [2, 3]:
            self._fail(node, f"is over dimension {dims}, must be over (2, 3)")
        return self._pool(node)

    def _adaptive_pool(self, node: fx.Node, size: Any) -> _Value:
        plane = tuple(self.results[_operand(node)].shape[-2:])
        sizes = (size, size) if size is None else _pair(size)
        wanted = tuple(p if n is None else n for p, n in zip(plane, sizes, strict=True))
        if wanted == (1, 1):
            return self._pool(node)
        if any(p % n for p, n in zip(plane, wanted, strict=True)):
            self._fail(
                node, f"has output size {_sides(size)}, must divide its plane of {_sides(plane)} or be 1"
            )
        window = plane[0] // wanted[0], plane[1] // wanted[1]
        return self._average_pool(node, window)

    def _average_pool(
        self,
        node: fx.Node,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: Any = None,
    ) -> _Value:
        if divisor_override is not None:
            self._fail(node, f"has a divisor_override of {divisor_override}, must have none")
        plane, size = tuple(self.results[_operand(node)].shape[-2:]), _pair(kernel_size)
        if size == plane and _pair(padding) == (0, 0):
            return self._pool(node)
        window = self._pool_window(node, size, stride, padding)
        more = ceil_mode and window.padding != _pair(padding) * 2
        inside = any(window.padding) and (not count_include_pad or not any(_pair(padding)))
        if more and not inside:
            self._fail(
                node,
                "has ceil_mode, padding that counts, and windows that reach over it, must have two of these",
            )
        source, window = self._windowed(node, window, zeros=not inside)
        pool = FloatAveragePool(
            self._new_name(node), source, window.size, window.stride, window.padding, inside=inside
        )
        return self._append(node, pool)

    def _max_pool(
        self,
        node: fx.Node,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: bool = False,
        return_indices: bool = False,
    ) -> _Value:
        del ceil_mode  # the shape of the result has it
        if return_indices:
            self._fail(node, "has return_indices = True, must be False")
        window = self._pool_window(node, kernel_size, stride, padding, dilation)
        source, window = self._windowed(node, window, zeros=False)
        below, name = self._value(node, _operand(node)), self._new_name(node)
        if below.open:
            self.below[name] = source
        return self._append(
            node, MaxPool(name, source, window.size, window.stride, window.padding, window.dilation)
        )

    def _pool_window(self, node: fx.Node, size: Any, stride: Any, padding: Any, dilation: Any = 1) -> Window:
        """The window of a pool. Where the result has a row or a column more (ceil_mode), the padding at the
        bottom or at the right is larger.
        """
        found = Window(
            _pair(size), _pair(size if stride in (None, []) else stride), _pair(padding) * 2, _pair(dilation)
        )
        ends = []
        for axis in (0, 1):
            have, got = (self.results[one].shape[axis - 2] for one in (_operand(node), node))
            reach = (got - 1) * found.stride[axis] + found.reach[axis]
            ends.append(max(found.padding[axis], reach - have - found.padding[axis]))
        return replace(found, padding=(*found.padding[:2], *ends))

    def _pool(self, node: fx.Node) -> _Value:
        name = self._new_name(node, "pool")
        return self._append(node, FloatPool(name, self._plane(node)))

    def _pad(self, node: fx.Node) -> _Value:
        if node.op == "call_module":
            mode, filler = "constant", getattr(self._module(node), "value", 0)
        else:
            given = self._arguments(node, "input", "pad", "mode", "value")
            mode, filler = given.get("mode", "constant"), given.get("value")
        if mode != "constant" or filler not in (None, 0):
            self._fail(node, f"pads by mode '{mode}' and value {filler}, must be 'constant' and 0")
        return self._moved(node)

    def _upsample(self, node: fx.Node) -> _Value:
        if node.op == "call_module":
            mode = self._module(node).mode
        else:
            names = ("input", "size", "scale_factor", "mode", "align_corners", "recompute_scale_factor")
            mode = self._arguments(node, *names, "antialias").get("mode", "nearest")
        if mode not in ("nearest", "nearest-exact"):
            self._fail(node, f"has mode '{mode}', must be 'nearest'")
        return self._moved_at_once(node)

    def _moved(self, node: fx.Node) -> Any:
        """What only moves pixels, run on their numbers."""

        def given(operand: fx.Node) -> Any:
            if operand not in self.values:
                return self.results[operand]
            return self._numbered(operand, self.values[operand])

        args, kwargs = fx.node.map_arg((node.args, node.kwargs), given)
        if node.op == "call_module":
            found = self._module(node)(*args, **kwargs)
        elif node.op == "call_method":
            found = getattr(args[0], node.target)(*args[1:], **kwargs)
        else:
            found = node.target(*args, **kwargs)
        opened = [one for one in node.all_input_nodes if one in self.values]
        before = self.values[opened[0]] if len(opened) == 1 else None
        return self._located(node, found, before)

    def _numbered(self, node: fx.Node, value: Any) -> Any:
        """A value as numbers of pixels."""
        if not isinstance(value, _Value):
            parts = zip(self.results[node], value, strict=True)
            return tuple(self._of_shape(self._known(node, one), tuple(part.shape)) for part, one in parts)
        return self._of_shape(self._known(node, value), tuple(self.results[node].shape))

    def _of_shape(self, value: _Value, shape: tuple[int, ...]) -> torch.Tensor:
        if value.pixels is not None:
            return value.pixels
        start, count = self.first[value.tensor], math.prod(self.shapes[value.tensor])
        one = torch.arange(start, start + count, dtype=torch.float64)
        return torch.stack([one + IMAGE * image for image in range(BATCH)]).reshape(shape)

    def _located(self, node: fx.Node, found: Any, before: Any) -> Any:
        """Numbers of pixels as a value: a tensor's own, if they are these, and open if it was."""
        if isinstance(found, tuple | list):
            return tuple(self._located(node, one, None) for one in found)
        if isinstance(before, _Value) and before.pixels is not None and found.ndim == 2:
            was = before.pixels
            if was.ndim == 4 and torch.equal(was.flatten(1), found):  # flattened: its planes come first
                operand = next(one for one in node.all_input_nodes if one in self.values)
                return _Value(self._tensor(node, operand))
        number = int(found.flatten()[0]) if found.numel() else 0
        name = next((n for n, first in self.first.items() if first == number), None)
        if name is not None:
            shape, count = self.shapes[name], math.prod(self.shapes[name])
            if tuple(found.shape) in ((BATCH, *shape), (BATCH, count)):
                whole = _Value(name)
                if torch.equal(found, self._of_shape(whole, tuple(found.shape))):
                    was_open = isinstance(before, _Value) and before.open and before.tensor == name
                    return replace(whole, open=was_open)
        return _Value(pixels=found)

    def _moved_at_once(self, node: fx.Node) -> _Value:
        """As `_moved`, but its layers are made here, and have its name."""
        value = self._moved(node)
        if value.pixels is None:
            return replace(value, open=False)
        self.values[node] = value
        return _Value(self._tensor(node, node), open=True)

    def _dropout(self, node: fx.Node) -> _Value:
        if self._arguments(node, "input", "p", "training", "inplace").get("training", True):
            self._fail(node, "has training = True, must be False in eval mode (training=self.training)")
        return self._same(node)

    def _same(self, node: fx.Node) -> _Value:
        return self._value(node, _operand(node))

    # --- reading, naming, refusing
    # ---------------------------------------------------------------------------------------------------

    def _known(self, node: fx.Node, value: _Value | None) -> _Value:
        """A value that is known; refuses a tensor that was overwritten since."""
        if value is None:
            self._fail(node, "reads a parameter directly, must read what a layer computes")
        if value.unknown:
            raise _UnknownError
        if value.tensor:
            self._check_whole(node, value.tensor)
        return value

    def _value(self, node: fx.Node, source: Any) -> _Value:
        """What an operand computes."""
        value = self.values.get(source)
        if isinstance(value, tuple):
            self._fail(node, "reads several tensors, must read one")
        return self._known(node, value)

    def _check_whole(self, node: fx.Node, tensor: str) -> None:
        if tensor in self.overwritten:
            self._fail(
                node,
                f"reads '{tensor}', which {self._label(self.overwritten[tensor])} has"
                " overwritten; write a = a + b there",
            )

    def _named(self, node: fx.Node) -> str:
        """The tensor that a node reads, for messages."""
        value = self._value(node, _operand(node))
        return value.tensor or re.sub(r"_[0-9]+$", "", _operand(node).name)

    def _tensor(self, node: fx.Node, operand: Any = None) -> str:
        """The tensor that an operand is, the first one by default; layers that move its pixels are added."""
        name, padding = self._padded(node, _operand(node) if operand is None else operand)
        if padding != NOTHING:
            self._fail(
                node, f"reads a copy of '{name}' with zeros around it, which only windows over planes may"
            )
        return name

    def _padded(self, node: fx.Node, operand: fx.Node) -> tuple[str, Sides]:
        """As `_tensor`, and the zeros that lie around its planes."""
        value = self._value(node, operand)
        if value.pixels is None:
            return value.tensor, NOTHING
        found = self._recognised(operand, value.pixels)
        for source in found.sources:
            self._check_whole(node, source.tensor)
        name = self._new_name(operand)
        layers = found.layers(name, self.shapes, self.made)
        for layer in layers:
            self._append(node, layer)
        last = layers[-1].name if layers else self.made.get(found.sources[0], found.sources[0].tensor)
        if found.padding == NOTHING:
            self.values[operand] = _Value(last)  # so that it is made once
        return last, found.padding

    def _recognised(self, node: fx.Node, pixels: torch.Tensor) -> Move:
        """The layers behind a node whose result is these pixels. If there are none, the node is refused, and
        what reads it too.
        """
        shape = tuple(pixels.shape)
        first, *others = pixels.unbind(0) if shape[0] == BATCH else (pixels,)
        alone = shape[0] == BATCH and all(
            torch.equal(other, torch.where(first > 0, first + IMAGE * image, first))
            for image, other in enumerate(others, 1)
        )
        if not alone or len(shape) not in (2, 4):
            self.values[node] = _UNKNOWN
            needed = "[batch, C, H, W] or [batch, C * H * W]"
            self._fail(node, f"gives shape {shape} for a batch of {BATCH}, must be {needed}, images apart")
        planes = first.reshape(-1, 1, 1) if first.ndim == 1 else first
        found = recognise(planes.numpy().astype(np.int64), self.first, self.shapes)
        if isinstance(found, str):
            self.values[node] = _UNKNOWN
            self._fail(node, f"gives {found}")
        return found

    def _plane(self, node: fx.Node) -> str:
        """The first operand, which must be a tensor with planes."""
        if self.results[_operand(node)].ndim != 4:
            self._fail(node, f"reads '{self._named(node)}' after it was flattened, needs [batch, C, H, W]")
        return self._tensor(node)

    def _arguments(self, node: fx.Node, *names: str) -> dict[str, Any]:
        """Arguments by name, sizes computed, tensors as nodes."""
        plain = fx.node.map_arg(
            (node.args, node.kwargs),
            lambda n: n if isinstance(self.results[n], torch.Tensor) else self.results[n],
        )
        for name in node.kwargs:
            if name not in names:
                self._fail(
                    node, f"has an argument '{name}', which is not supported; supported: {', '.join(names)}"
                )
        return dict(zip(names, plain[0], strict=False)) | dict(plain[1])

    def _module(self, node: fx.Node) -> Any:
        return self.module.get_submodule(node.target)

    def _numbers(self, node: fx.Node, module: nn.Module, part: str) -> FloatArray:
        """A parameter or buffer as float64. Values that are not finite are refused."""
        values: FloatArray = getattr(module, part).detach().cpu().numpy().astype(np.float64)
        bad = np.argwhere(~np.isfinite(values))
        if len(bad):
            self._fail(node, f"has a {part} that is not finite: {values[tuple(bad[0])]} at {bad[0].tolist()}")
        return values

    def _new_name(self, node: fx.Node, name: str = "", once: bool = False) -> str:
        """The module's path. For a function `name`, by default its own. With a number from the second one
        on, unless it must be the only one: `once`.
        """
        taken = {path for path, _ in self.module.named_modules()} | set(self.layers)
        if node.op == "call_module":
            name = str(node.target)
            if name not in self.layers:
                return name
            if once:
                self._fail(node, "is called twice, must be called once: a layer has weights of its own")
        name = name or re.sub(r"_[0-9]+$", "", node.name)
        return next(n for n in (name, *(f"{name}_{i}" for i in range(1, len(taken) + 2))) if n not in taken)

    def _output(self, node: fx.Node) -> str:
        """The name of the tensor that the module returns. If the machine would not compute it last, a layer
        that does is added.
        """
        returned = node.args[0]
        if not isinstance(returned, fx.Node) or not isinstance(self.values.get(returned), _Value):
            raise TatamiError(
                f"network '{self.name}': forward returns {type(self.results[node]).__name__}, must return one"
                " tensor"
            )
        if not self.layers:
            raise TatamiError(f"network '{self.name}': forward computes nothing of its input")
        name = self._tensor(node, returned)
        if name == next(reversed(self.layers)) and not isinstance(self.layers[name], View):
            return name
        channels = self.shapes[name][0]
        ones, zeros = np.ones((1, channels)), np.zeros(channels)
        return self._append(node, FloatAdd(self._new_name(node), (name,), ones, zeros)).tensor

    def _compare(self, network: FloatNetwork, output: str, images: torch.Tensor) -> None:
        expected = self.module(images.clone()).detach().cpu().numpy().astype(np.float64).reshape(BATCH, -1)
        tensors = evaluate_float(network, images.cpu().numpy().astype(np.float64))
        difference = np.abs(tensors[output].reshape(BATCH, -1) - expected).max()
        # If large terms cancel in an output, it is only as exact as the terms.
        limit = TOLERANCE * max(
            np.abs(expected).max(), 0.01 * max(np.abs(tensor).max() for tensor in tensors.values())
        )
        if not difference <= limit:
            raise TatamiError(
                f"network '{self.name}': the module's output differs by {difference:g} from its traced"
                f" layers', must be within {limit:g}: torch.fx does not see hooks, code that depends on"
                " values, and additions in place to what is read again"
            )

    def _label(self, node: fx.Node) -> str:
        if node.op == "call_module":
            return f"module '{node.target}' ({type(self._module(node)).__name__})"
        stack = list(node.meta.get("nn_module_stack") or ())
        where = f" in module '{stack[-1]}'" if stack and stack[-1] else ""
        if node.op == "get_attr":
            return f"parameter '{node.target}', used directly{where},"
        return (
            f"{'method' if node.op == 'call_method' else 'function'}"
            f" '{re.sub(r'_[0-9]+$', '', node.name)}'{where}"
        )

    def _fail(self, node: fx.Node, text: str) -> NoReturn:
        raise _RefusedError(f"{self._label(node)} {text}")

    def _refuse(self, node: fx.Node) -> NoReturn:
        label = self._label(node)
        kind = type(self._module(node)).__name__ if node.op == "call_module" else ""
        raise _RefusedError(f"{label} is not supported", kind or label, str(node.target) if kind else "")


_UNKNOWN = _Value("", unknown=True)
NAMED = 3  # modules of one kind that a refusal names


def _in_one_line(refused: Sequence[_RefusedError]) -> str:
    """All refusals in one line. Operations that are not supported come last, grouped by kind."""
    kinds: dict[str, list[_RefusedError]] = {}
    for error in refused:
        if error.kind:
            kinds.setdefault(error.kind, []).append(error)
    texts = []
    for kind, errors in kinds.items():
        if len(errors) == 1 or not errors[0].where:
            texts.append(str(errors[0]))
            continue
        named = ", ".join(f"'{error.where}'" for error in errors[:NAMED])
        more = f" and {len(errors) - NAMED} more" if len(errors) > NAMED else ""
        texts.append(f"modules {named}{more} ({kind}) are not supported")
    if texts:
        texts[-1] += f"; supported: {SUPPORTED}"
    return "; ".join([*(str(error) for error in refused if not error.kind), *texts])


def _holds_tensor(value: Any) -> bool:
    return isinstance(value, torch.Tensor) or (
        isinstance(value, tuple | list) and any(_holds_tensor(part) for part in value)
    )


def _operand(node: fx.Node) -> fx.Node:
    """The tensor that a call works on."""
    return node.args[0] if node.args else node.kwargs["input"]


def _pair(value: Any) -> Pair:
    """One number for both directions, or one for each; torch takes a list of one, too."""
    return (value, value) if isinstance(value, int) else (value[0], value[-1])


def _said(module: nn.Module, names: Sequence[str]) -> dict[str, Any]:
    """The options of a module that it has."""
    return {name: getattr(module, name) for name in names if hasattr(module, name)}


def _without_input(given: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if name != "input"}


def _name_of(target: Any) -> str:
    return target if isinstance(target, str) else str(target.__name__)


def _sides(value: Any) -> str:
    """3 as "3", (3, 3) as "3 x 3"."""
    return (
        " x ".join(map(str, value))
        if isinstance(value, Sequence) and not isinstance(value, str)
        else str(value)
    )
