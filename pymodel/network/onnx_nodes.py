"""What each operator of ONNX becomes in a network."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import onnx

from pymodel.machine.errors import TatamiError
from pymodel.network import activations
from pymodel.network.activations import Activation, Clamp, Curve
from pymodel.network.float import (
    FloatAdd,
    FloatArray,
    FloatAveragePool,
    FloatComputed,
    FloatConv,
    FloatLayer,
    FloatLinear,
    FloatPool,
)
from pymodel.network.integer import (
    INPUT,
    NOTHING,
    DepthToSpace,
    Gather,
    MaxPool,
    Window,
)
from pymodel.network.model_file import NOT_SUPPORTED, SKIPPED
from pymodel.network.onnx_graph import HOST_ENDS, Array, Constant, SkipNode, Value
from pymodel.network.onnx_moves import HOST, Moves, fits
from pymodel.network.scale import Scale

DOMAINS = ("", "ai.onnx", "com.microsoft")
FLOATS = (np.dtype(np.float32), np.dtype(np.float16), np.dtype(np.float64))


class Nodes(Moves):
    """A method for each operator: it reads the node's inputs, adds layers, and says what its results are."""

    def step(self, node: Any) -> None:
        label = f"{node.op_type} '{node.name or (node.output[0] if node.output else '')}'"
        try:
            if not node.output:
                raise TatamiError("it has no result")
            if node.domain not in DOMAINS:
                raise TatamiError(f"domain '{node.domain}' is not supported")
            if self._folded(node):
                return
            if node.op_type == self.skip:
                self.same(node, {})
                self.notes.append(f"{SKIPPED}: {label}")
                return
            handler = _HANDLERS.get(node.op_type)
            if handler is None:
                raise TatamiError(NOT_SUPPORTED)
            handler(self, node, self._attributes(node))
        except SkipNode:
            return
        except TatamiError as error:
            self.refusals.add(str(error), label)
        except (ValueError, TypeError, IndexError, KeyError, OverflowError) as error:
            # attributes and constants of a wrong type or shape
            said = " ".join(str(error).split())[:120]
            self.refusals.add(f"its attributes or constants do not fit ({said})", label)

    # Layers with weights

    def _weight(self, constant: Constant, axis: int, name: str) -> FloatArray:
        """The real weights with `axis` first; what they are quantised as is kept for layer `name`."""
        real = np.moveaxis(np.asarray(constant.value, np.float64), axis, 0)
        if constant.value.dtype not in FLOATS and constant.ints is None:
            raise TatamiError(f"weights are {constant.value.dtype}, must be float or quantised")
        if constant.ints is not None and constant.steps is not None and constant.zeros is not None:
            count = len(real)
            if constant.steps.size not in (1, count) or (constant.steps.size > 1 and constant.axis != axis):
                raise TatamiError(
                    f"weights have {constant.steps.size} scales along axis {constant.axis}, must have one, or"
                    f" {count} along axis {axis}"
                )
            zeros = np.broadcast_to(constant.zeros.astype(np.int64), count)
            ints = np.moveaxis(constant.ints, axis, 0).astype(np.int64)
            ints = ints - zeros.reshape(-1, *[1] * (ints.ndim - 1))
            if ints.size and (ints.min() < -128 or ints.max() > 127):
                raise TatamiError("weights less their zero point leave -128..127; must be symmetric")
            self.weights[name] = (ints.astype(np.int8), np.broadcast_to(constant.steps, count).copy())
        return real

    def _bias(self, constant: Constant | None, filters: int) -> FloatArray:
        if constant is None:
            return np.zeros(filters)
        found = np.asarray(constant.value, np.float64).reshape(-1)
        if found.size not in (1, filters):
            raise TatamiError(f"bias has {found.size} values, must have {filters}")
        return np.broadcast_to(found, filters).copy()

    def conv(self, node: Any, attributes: dict[str, Any]) -> None:
        value = self._value(node, pending=True)
        weight = self._needed(node, 1, "weight")
        self._conv(node, attributes, value, weight, self._constant(node, 2, "bias"))

    def _conv(
        self, node: Any, attributes: dict[str, Any], value: Value, weight: Constant, bias: Constant | None
    ) -> None:
        name, groups = self._fresh(node), int(attributes.get("group", 1))
        real = self._weight(weight, 0, name)
        if real.ndim != 4 or not real.size:
            raise TatamiError(f"weight has shape {real.shape}, must be (filters, channels, rows, columns)")
        kernel = attributes.get("kernel_shape") or list(real.shape[2:])
        if list(kernel) != list(real.shape[2:]):
            raise TatamiError(f"kernel_shape is {kernel}, the weight has {list(real.shape[2:])}")
        source = self._plane(node, value)
        value = Value(source, value.shape, pending=value.pending)
        window, _ = self._window(attributes, kernel, value)
        if not fits(window):
            value = self._padded(value)
            window, _ = self._window(attributes, kernel, value)
        layer = FloatConv(
            name,
            value.name,
            real,
            self._bias(bias, len(real)),
            window.stride,
            window.padding,
            dilation=window.dilation,
            groups=groups,
        )
        self._done(node, self._add(layer))

    def conv_transpose(self, node: Any, attributes: dict[str, Any]) -> None:
        """A filter for each place within a stride, whose results become blocks of pixels; what is more than
        the output is cut off by a window with a single weight.
        """
        value = self._value(node)
        source, weight = self._plane(node, value), self._needed(node, 1, "weight")
        real, groups = np.asarray(weight.value, np.float64), int(attributes.get("group", 1))
        channels, *size = self.shapes[source]
        if real.ndim != 4 or len(real) != channels or groups < 1 or channels % groups:
            raise TatamiError(
                f"weight has shape {real.shape}, must be ({channels}, filters, rows, columns) in {groups}"
                " groups"
            )
        down, across = attributes.get("strides") or (1, 1)
        pads = attributes.get("pads") or [0, 0, 0, 0]
        more = attributes.get("output_padding") or [0, 0]
        if attributes.get("auto_pad", "NOTSET") != "NOTSET" or attributes.get("output_shape"):
            raise TatamiError("auto_pad and output_shape are not supported, pads are")
        if any(one != 1 for one in attributes.get("dilations") or ()):
            raise TatamiError(f"dilations are {attributes['dilations']}, must be 1")
        steps = (int(down), int(across))
        taps = [-(-k // step) for k, step in zip(real.shape[2:], steps, strict=True)]
        wanted = [
            step * (n - 1) + k + extra - before - behind
            for step, n, k, extra, before, behind in zip(
                steps, size, real.shape[2:], more, pads[:2], pads[2:], strict=True
            )
        ]
        if min(wanted) < 1 or min(pads) < 0:
            raise TatamiError(f"pads are {pads}: the output would have {wanted[0]} x {wanted[1]} pixels")
        # filters first, and their rows and columns as (tap, place within the stride)
        by_group = real.reshape(groups, channels // groups, *real.shape[1:]).transpose(0, 2, 1, 3, 4)
        by_filter = by_group.reshape(-1, channels // groups, *real.shape[2:])
        edge = [taps[axis] * steps[axis] - real.shape[2 + axis] for axis in (0, 1)]
        whole = np.pad(by_filter, ((0, 0), (0, 0), (0, edge[0]), (0, edge[1])))
        split = whole.reshape(*whole.shape[:2], taps[0], steps[0], taps[1], steps[1])
        kernels = split.transpose(0, 3, 5, 1, 2, 4)[..., ::-1, ::-1]
        kernels = kernels.reshape(-1, channels // groups, *taps)
        bias = self._bias(self._constant(node, 2, "bias"), len(by_filter))
        rows, columns = (
            max(size[axis] + taps[axis] - 1, -(-(pads[axis] + wanted[axis]) // steps[axis]))
            for axis in (0, 1)
        )
        padding = (taps[0] - 1, taps[1] - 1, rows - size[0], columns - size[1])
        if not fits(Window((taps[0], taps[1]), padding=padding)):
            source, padding = self._padded(Value(source, value.shape, pending=padding)).name, NOTHING
        name = self._add(
            FloatConv(
                self._fresh(node),
                source,
                kernels,
                np.repeat(bias, down * across),
                padding=padding,
                groups=groups,
            )
        )
        if steps != (1, 1):
            name = self._add(DepthToSpace(self._fresh(node), name, steps))
        _, rows, columns = self.shapes[name]
        if [rows, columns] != wanted:
            one = np.zeros((len(by_filter), 1, rows - wanted[0] + 1, columns - wanted[1] + 1))
            one[:, 0, pads[0], pads[1]] = 1
            none = np.zeros(len(by_filter))
            name = self._add(FloatConv(self._fresh(node), name, one, none, groups=len(by_filter)))
        self._done(node, name)

    def gemm(self, node: Any, attributes: dict[str, Any]) -> None:
        if attributes.get("transA"):
            raise TatamiError("transA is 1, must be 0")
        alpha, beta = float(attributes.get("alpha", 1.0)), float(attributes.get("beta", 1.0))
        weight = self._needed(node, 1, "weight")
        self._linear(
            node, weight, 0 if attributes.get("transB") else 1, self._constant(node, 2, "bias"), alpha, beta
        )

    def matmul(self, node: Any, attributes: dict[str, Any]) -> None:  # noqa: ARG002
        factor = self._needed(node, 1, "second factor")
        if node.input[0] in self.values and len(self.values[node.input[0]].shape) == 4:
            self._rows_times(node, factor)
        else:
            self._linear(node, factor, 1, None)

    def _rows_times(self, node: Any, factor: Constant) -> None:
        """The rows of a map times a matrix, one for all channels or one for each: windows as wide as a row.
        Columns of the result are channels first.
        """
        value, matrix = self._value(node), np.asarray(factor.value, np.float64)
        source = self._plane(node, value)
        channels, rows, columns = self.shapes[source]
        single = matrix.ndim == 1
        if single:
            matrix = matrix[:, None]
        if matrix.ndim == 4 and len(matrix) == 1:
            matrix = matrix[0]
        if matrix.ndim not in (2, 3) or matrix.shape[-2] != columns:
            raise TatamiError(f"second factor has shape {factor.value.shape}, its input has {value.shape}")
        matrix = matrix.reshape(-1, *matrix.shape[-2:])
        many = max(channels, len(matrix))
        if len(matrix) not in (1, many) or channels not in (1, many):
            raise TatamiError(f"it has {len(matrix)} matrices for {channels} channels")
        results = matrix.shape[2]
        by_filter = np.broadcast_to(matrix.transpose(0, 2, 1), (many, results, columns))
        weight = by_filter.reshape(many * results, 1, 1, columns)
        layer = FloatConv(self._fresh(node), source, weight, np.zeros(len(weight)), groups=channels)
        name = self._add(layer)
        if results == 1:
            self.origin[name] = node.output[0]
        numbers = np.arange(many * results * rows, dtype=np.int32).reshape(1, many, results, rows)
        order = numbers.transpose(0, 1, 3, 2)
        self._moved(node, Value(name, (1, *self.shapes[name])), order[..., 0] if single else order)

    def _linear(
        self,
        node: Any,
        weight: Constant,
        axis: int,
        bias: Constant | None,
        alpha: float = 1.0,
        beta: float = 1.0,
    ) -> None:
        value = self._value(node)
        name = self._fresh(node)
        if weight.value.ndim != 2 or not weight.value.size:
            raise TatamiError(f"weight has shape {weight.value.shape}, must have two dimensions")
        if len(value.shape) != 2:
            raise TatamiError(f"its input has shape {value.shape}, must be (1, values)")
        real = self._weight(weight, axis, name)
        count = math.prod(self.shapes[value.name])
        if real.shape[1] != math.prod(value.shape):
            raise TatamiError(f"weight is for {real.shape[1]} values, its input has {math.prod(value.shape)}")
        if value.order is not None:  # the layer reads all of the tensor, in its own order
            flat = value.order.reshape(-1)
            if len(np.unique(flat)) < flat.size:
                raise TatamiError("it reads a value twice")
            columns = np.zeros((len(real), count))
            columns[:, flat] = real
            real = columns
            if name in self.weights:
                ints, steps = self.weights[name]
                spread = np.zeros((len(ints), count), np.int8)
                spread[:, flat] = ints
                self.weights[name] = (spread, steps)
        if alpha != 1:
            self.weights.pop(name, None)
            real = alpha * real
        layer = FloatLinear(name, value.name, real, beta * self._bias(bias, len(real)))
        self._done(node, self._add(layer), 2)

    # Numbers by channel, activations and sums

    def _scaled(
        self, node: Any, value: Value, factor: FloatArray, offset: FloatArray, place: int = 0
    ) -> None:
        """Each channel times `factor` and `offset` added: part of the layer before where it can be."""
        source = self._every(node, value, factor, offset)
        channels = self.shapes[source][0]
        factor, offset = (np.broadcast_to(one, channels).astype(np.float64) for one in (factor, offset))
        layer = self.layers.get(source)
        joins = self._alone(node, place) and value.order is None and source not in self.scales
        if (
            joins
            and isinstance(layer, FloatConv | FloatLinear | FloatAdd)
            and layer.activation is None
            and not (isinstance(layer, FloatConv) and layer.residual)
        ):
            if isinstance(layer, FloatAdd):
                changed: FloatLayer = replace(
                    layer, weight=layer.weight * factor, bias=layer.bias * factor + offset
                )
            else:
                by_filter = factor.reshape(-1, *[1] * (layer.weight.ndim - 1))
                changed = replace(layer, weight=layer.weight * by_filter, bias=layer.bias * factor + offset)
                if source in self.weights:
                    ints, steps = self.weights[source]
                    signs = np.where(factor < 0, -1, 1).reshape(by_filter.shape)
                    self.weights[source] = (ints.astype(np.int64) * signs, steps * np.abs(factor))
            self.layers[source] = changed
            self._done(node, source, shape=value.shape)
            return
        name = self._fresh(node)
        self._done(node, self._add(FloatAdd(name, (source,), factor[None], offset)), shape=value.shape)

    def _every(self, node: Any, value: Value, *numbers: FloatArray) -> str:
        """The tensor of values that are treated one by one: of any shape, if `numbers` are the same for all
        channels.
        """
        if value.order is None and all(one.size == 1 for one in numbers):
            return value.name
        return self._plane(node, value)

    def batch_norm(self, node: Any, attributes: dict[str, Any]) -> None:
        if attributes.get("training_mode"):
            raise TatamiError("training_mode is 1, must be 0")
        value = self._value(node)
        gamma, beta, mean, variance = (
            np.asarray(self._needed(node, place, what).value, np.float64)
            for place, what in ((1, "scale"), (2, "bias"), (3, "mean"), (4, "variance"))
        )
        factor = gamma / np.sqrt(variance + attributes.get("epsilon", 1e-5))
        self._scaled(node, value, factor, beta - mean * factor)

    def arithmetic(self, node: Any, attributes: dict[str, Any]) -> None:  # noqa: ARG002
        kind = node.op_type
        known = [place for place in range(len(node.input)) if node.input[place] in self.constants]
        if kind == "Sum" and len(node.input) == 1:
            self.same(node, {})
        elif not known:
            self._tensors(node)
        elif len(node.input) != 2:
            raise TatamiError("of more than two, with constants, is not supported")
        else:
            place = known[0]
            value = self._value(node, 1 - place)
            number = self._by_channel(value, self.constants[node.input[place]].value)
            zeros, ones = np.zeros_like(number), np.ones_like(number)
            if kind in ("Add", "Sum"):
                factor, offset = ones, number
            elif kind == "Sub":
                factor, offset = (ones, -number) if place == 1 else (-ones, number)
            elif kind == "Mul":
                factor, offset = number, zeros
            elif place == 1 and np.all(number != 0):
                factor, offset = 1 / number, zeros
            else:
                raise TatamiError("by a tensor, or by zero, is not supported")
            self._scaled(node, value, factor, offset, 1 - place)

    def negative(self, node: Any, attributes: dict[str, Any]) -> None:  # noqa: ARG002
        self._scaled(node, self._value(node), -np.ones(1), np.zeros(1))

    def _by_channel(self, value: Value, number: Array) -> FloatArray:
        """A constant that has one value for each channel, or for all."""
        number = np.asarray(number, np.float64)
        if number.size == 1:
            return number.reshape(1)
        dims = len(value.shape)
        aligned = (1,) * (dims - number.ndim) + number.shape
        if number.ndim > dims or any(n != 1 for axis, n in enumerate(aligned) if axis != 1):
            raise TatamiError(f"a constant of shape {number.shape} is not one value for each channel")
        if aligned[1] != value.shape[1] or (dims == 2 and self.shapes[value.name][0] != value.shape[1]):
            raise TatamiError(f"a constant has {number.size} values, there are {value.shape[1]} channels")
        return number.reshape(-1)

    def _tensors(self, node: Any) -> None:
        kind = node.op_type
        if kind in ("Mul", "Div"):
            self._gated(node)
            return
        values = [self._value(node, place) for place in range(len(node.input))]
        one_by_one = len({(value.shape, self.shapes[value.name]) for value in values}) == 1
        sources = [self._every(node, value) if one_by_one else self._plane(node, value) for value in values]
        if len({self.shapes[one] for one in sources}) > 1:
            raise TatamiError(
                "tensors have shapes " + ", ".join(str(value.shape) for value in values) + ", must be equal"
            )
        channels = self.shapes[sources[0]][0]
        weight = np.ones((len(sources), channels))
        if kind == "Sub":
            weight[1] = -1
        layer = FloatAdd(self._fresh(node), tuple(sources), weight, np.zeros(channels))
        self._done(node, self._add(layer), shape=values[0].shape)

    def _gated(self, node: Any) -> None:
        """x * sigmoid(x) and x * hard_sigmoid(x) are curves of x."""
        for place in (0, 1) if node.op_type == "Mul" else ():
            value, gate = self._value(node, place), self._value(node, 1 - place)
            layer = self.layers.get(gate.name)
            if not isinstance(layer, FloatAdd) or layer.sources != (value.name,) or gate.order is not None:
                continue
            if not copies(layer):
                continue
            curve = {"sigmoid": activations.SILU, "hard_sigmoid": activations.HARD_SWISH}.get(
                getattr(layer.activation, "name", "")
            )
            if curve is not None:
                only = len(self.readers[node.input[place]]) == 2 and self._alone(node, 1 - place)
                self._activate(node, value, curve, only)
                return
        raise TatamiError("of two tensors is not supported; one must be constant")

    def _activate(self, node: Any, value: Value, activation: Activation, only: bool) -> None:
        """The activation becomes part of the layer before, if nothing else reads that."""
        layer = self.layers.get(value.name)
        if (
            only
            and value.order is None
            and isinstance(layer, FloatComputed)
            and value.name not in self.scales
        ):
            joined = _joined(layer.activation, activation)
            if joined is not None:
                self.layers[value.name] = replace(layer, activation=joined)
                self._done(node, value.name, shape=value.shape)
                return
        source = self._every(node, value)
        channels = self.shapes[source][0]
        found = FloatAdd(self._fresh(node), (source,), np.ones((1, channels)), np.zeros(channels), activation)
        self._done(node, self._add(found), shape=value.shape)

    def activation(self, node: Any, attributes: dict[str, Any]) -> None:
        value = self._value(node)
        if node.op_type == "Sigmoid" and self._ends(node):
            self.host(node, attributes)
            return
        self._activate(node, value, _CURVES[node.op_type](attributes), self._alone(node))

    def clip(self, node: Any, attributes: dict[str, Any]) -> None:
        bounds = [attributes.get("min", -math.inf), attributes.get("max", math.inf)]
        for place in (1, 2):
            found = self._constant(node, place, "bound")
            if found is not None:
                bounds[place - 1] = float(found.value.reshape(-1)[0])
        low, high = (
            (-math.inf if bounds[0] < -1e30 else bounds[0]),
            (math.inf if bounds[1] > 1e30 else bounds[1]),
        )
        if not low <= high:
            raise TatamiError(f"min is {low:g}, must be at most max, {high:g}")
        self._activate(node, self._value(node), Clamp(low, high), self._alone(node))

    def prelu(self, node: Any, attributes: dict[str, Any]) -> None:  # noqa: ARG002
        slope = np.unique(self._needed(node, 1, "slope").value)
        if slope.size != 1:
            raise TatamiError(f"it has {slope.size} different slopes, must have one for all channels")
        self._activate(node, self._value(node), activations.leaky_relu(float(slope[0])), self._alone(node))

    # Pools

    def max_pool(self, node: Any, attributes: dict[str, Any]) -> None:
        if len(node.output) > 1 and node.output[1]:
            raise TatamiError("its places of the maxima are not supported")
        value = self._value(node)
        value = Value(self._plane(node, value), value.shape)
        kernel = attributes.get("kernel_shape")
        if kernel is None:
            kernel = list(self.shapes[value.name][1:])  # GlobalMaxPool
        window, _ = self._window(attributes, kernel, value)
        self._done(
            node,
            self._add(
                MaxPool(
                    self._fresh(node), value.name, window.size, window.stride, window.padding, window.dilation
                )
            ),
        )

    def average_pool(self, node: Any, attributes: dict[str, Any]) -> None:
        value = self._value(node, pending=True)
        value = Value(self._plane(node, value), value.shape, pending=value.pending)
        kernel = attributes.get("kernel_shape") or []
        around = value.pending
        window, extra = self._window(attributes, kernel, value)
        own = tuple(
            a - b - c for a, b, c in zip(window.padding, around, (0, 0, *extra), strict=True)
        )  # its padding
        counted = bool(attributes.get("count_include_pad")) and any(own)
        if any(extra) or (any(own) and not counted):
            if counted:
                raise TatamiError("its padding counts, and pixels that ceil_mode adds do not: not supported")
            self._average_inside(node, value, window)
            return
        if not fits(window):
            value = self._padded(value)
            window, _ = self._window(attributes, kernel, value)
        shape = self.shapes[value.name]
        if window.dilation != (1, 1):  # equal weights
            name, pixels = self._fresh(node), math.prod(window.size)
            ones = np.ones((shape[0], 1, *window.size))
            self.weights[name] = (ones.astype(np.int8), np.full(shape[0], 1 / pixels))
            layer: FloatLayer = FloatConv(
                name, value.name, ones / pixels, np.zeros(shape[0]), window.stride, window.padding,
                dilation=window.dilation, groups=shape[0],
            )  # fmt: skip
        elif window.size == shape[1:] and window.padding == NOTHING:
            layer = FloatPool(self._fresh(node), value.name)
        else:
            layer = FloatAveragePool(
                self._fresh(node), value.name, window.size, window.stride, window.padding
            )
        self._done(node, self._add(layer))

    def _average_inside(self, node: Any, value: Value, window: Window) -> None:
        """A mean of the pixels inside of the input only."""
        if window.dilation != (1, 1):
            raise TatamiError("dilation, and padding that it does not count: not supported together")
        if value.pending != NOTHING:  # those pixels do count
            top, left, bottom, right = (a - b for a, b in zip(window.padding, value.pending, strict=True))
            value = self._padded(value)
            window = replace(window, padding=(top, left, bottom, right))
        _, rows, columns = self.shapes[value.name]
        down, across = window.inside("its window", rows, columns)
        if (down.tolist(), across.tolist()) == ([rows], [columns]):  # a single window, which has all pixels
            layer: FloatLayer = FloatPool(self._fresh(node), value.name)
        else:
            layer = FloatAveragePool(
                self._fresh(node), value.name, window.size, window.stride, window.padding, inside=True
            )
        self._done(node, self._add(layer))

    def global_average(self, node: Any, attributes: dict[str, Any]) -> None:  # noqa: ARG002
        value = self._value(node)
        self._done(node, self._add(FloatPool(self._fresh(node), self._plane(node, value))))

    def reduce_mean(self, node: Any, attributes: dict[str, Any]) -> None:
        value = self._value(node)
        axes = attributes.get("axes") or self._numbers(node, 1, "axes") or []
        if len(value.shape) != 4 or sorted(axis % 4 for axis in axes) != [2, 3]:
            raise TatamiError(f"its axes are {axes}, must be 2 and 3: rows and columns")
        name = self._add(FloatPool(self._fresh(node), self._plane(node, value)))
        self._done(node, name, 4 if attributes.get("keepdims", 1) else 2)

    # What is left to the host

    def _ends(self, node: Any) -> bool:
        """Whether nothing but what the host does reads a node's result."""
        return all(
            one is None or (one.op_type in (*HOST, *HOST_ENDS) and self._ends(one))
            for one in self.readers.get(node.output[0], [])
        )

    def host(self, node: Any, attributes: dict[str, Any]) -> None:  # noqa: ARG002
        value = self._value(node)
        if not self._ends(node):
            raise TatamiError("only at the end, where it is left to the host")
        said = ", ".join(one for one in (value.host, node.op_type) if one)
        self.values[node.output[0]] = replace(value, host=said)

    # Quantised operators

    def _scale(self, node: Any, step: int, zero: int) -> Scale:
        """The scale of an activation, of the constant inputs `step` and `zero` of a node."""
        steps, zeros = self._needed(node, step, "scale").value, self._constant(node, zero, "zero point")
        if steps.size != 1 or (zeros is not None and zeros.value.size != 1):
            raise TatamiError(f"it has {steps.size} scales, an activation must have one")
        kind = np.dtype(np.uint8) if zeros is None else zeros.value.dtype
        if kind not in (np.uint8, np.int8):
            raise TatamiError(f"values are {kind}, must be uint8 or int8")
        number = 0 if zeros is None else int(zeros.value.reshape(-1)[0])
        return Scale(float(steps.reshape(-1)[0]), number - 128 if kind == np.uint8 else number)

    def quantize(self, node: Any, attributes: dict[str, Any]) -> None:
        if attributes.get("output_dtype") not in (None, 0, onnx.TensorProto.INT8, onnx.TensorProto.UINT8):
            raise TatamiError("output_dtype must be int8 or uint8")
        value = self._value(node)
        self._quantize(node, value, self._scale(node, 1, 2), self._alone(node))

    def _quantize(self, node: Any, value: Value, scale: Scale, alone: bool) -> None:
        """The value as a tensor of this scale: the layer's own, or a layer more."""
        name, host = value.name, value.host
        if host:
            self.values[node.output[0]] = replace(value, host=host)
            return
        before = self.scales.get(name)
        if before is None and (alone or name == INPUT):
            self.scales[name] = scale
            self.values[node.output[0]] = value
            if value.order is None:
                self.origin[name] = node.output[0]
            return
        if before == scale:
            self.values[node.output[0]] = value
            return
        if node.input[0] == self.input:
            raise TatamiError("the input is quantised in two ways")
        source = self._every(node, value)
        channels = self.shapes[source][0]
        copy = self._add(FloatAdd(self._fresh(node), (source,), np.ones((1, channels)), np.zeros(channels)))
        self.scales[copy] = scale
        self._done(node, copy, shape=value.shape)

    def dequantize(self, node: Any, attributes: dict[str, Any]) -> None:  # noqa: ARG002
        value = self._value(node, pending=True)
        self._given(node, value, self._scale(node, 1, 2))
        self.values[node.output[0]] = value

    def _given(self, node: Any, value: Value, scale: Scale) -> None:
        """A node takes a tensor as of this scale."""
        if value.host:
            return
        if value.name not in self.scales and value.name == INPUT:
            self.scales[INPUT] = scale
        known = self._scale_of(value.name)
        if known is not None and known != scale:
            raise TatamiError(
                f"it takes '{node.input[0]}' as of scale {scale.step:g} and zero point {scale.zero}, it has"
                f" {known.step:g} and {known.zero}"
            )

    def _as(self, node: Any, place: int) -> Value:
        """Input `place` of an operator QLinear..., with its scale and zero point behind it."""
        value = self._value(node, place, pending=True)
        self._given(node, value, self._scale(node, place + 1, place + 2))
        return value

    def _finished(self, node: Any, step: int, zero: int) -> None:
        """The result of an operator QLinear... in its scale."""
        value = self.values[node.output[0]]
        scale = self._scale(node, step, zero)
        self.scales[value.name] = scale
        self.origin[value.name] = node.output[0]

    def _quantised_constant(self, node: Any, place: int, axis: int) -> Constant:
        ints = self._needed(node, place, "weight").value
        steps = np.asarray(self._needed(node, place + 1, "weight scale").value, np.float64).reshape(-1)
        zeros = self._needed(node, place + 2, "weight zero point").value.reshape(-1).astype(np.int64)
        if ints.dtype not in (np.int8, np.uint8):
            raise TatamiError(f"weights are {ints.dtype}, must be int8 or uint8")
        shape = [1] * ints.ndim
        shape[axis] = -1
        real = steps.reshape(shape) * (ints.astype(np.float64) - zeros.reshape(shape))
        return Constant(real, ints, steps, zeros, axis)

    def qlinear_conv(self, node: Any, attributes: dict[str, Any]) -> None:
        value = self._as(node, 0)
        weight = self._quantised_constant(node, 3, 0)
        bias = self._constant(node, 8, "bias")
        if bias is not None and weight.steps is not None:
            step = self.scales[value.name].step if value.name in self.scales else self._scale(node, 1, 2).step
            bias = Constant(bias.value.astype(np.float64) * step * weight.steps)
        self._conv(node, attributes, value, weight, bias)
        self._finished(node, 6, 7)

    def qlinear_matmul(self, node: Any, attributes: dict[str, Any]) -> None:  # noqa: ARG002
        self._as(node, 0)
        self._linear(node, self._quantised_constant(node, 3, 1), 1, None)
        self._finished(node, 6, 7)

    def qgemm(self, node: Any, attributes: dict[str, Any]) -> None:
        value = self._as(node, 0)
        axis = 0 if attributes.get("transB") else 1
        weight = self._quantised_constant(node, 3, axis)
        bias = self._constant(node, 6, "bias")
        if bias is not None and weight.steps is not None:
            step = self._scale_of(value.name) or self._scale(node, 1, 2)
            bias = Constant(bias.value.astype(np.float64) * step.step * weight.steps)
        self._linear(node, weight, axis, bias)
        self._finished(node, 7, 8)

    def qlinear_add(self, node: Any, attributes: dict[str, Any]) -> None:  # noqa: ARG002
        values = [self._as(node, place) for place in (0, 3)]
        sources = tuple(self._plane(node, value) for value in values)
        channels = self.shapes[sources[0]][0]
        layer = FloatAdd(self._fresh(node), sources, np.ones((2, channels)), np.zeros(channels))
        self._done(node, self._add(layer), len(values[0].shape))
        self._finished(node, 6, 7)

    def qlinear_pool(self, node: Any, attributes: dict[str, Any]) -> None:
        if attributes.get("channels_last"):
            raise TatamiError("channels_last is 1, must be 0")
        self._as(node, 0)
        if node.op_type == "QLinearGlobalAveragePool":
            self.global_average(node, attributes)
        else:
            self.average_pool(node, attributes)
        self._finished(node, 3, 4)

    def qlinear_concat(self, node: Any, attributes: dict[str, Any]) -> None:
        places = range(2, len(node.input), 3)
        values = [self._as(node, place) for place in places]
        dims = len(values[0].shape)
        sources = tuple(self._plane(node, value) for value in values)
        if int(attributes.get("axis", 1)) % max(1, dims) != 1:
            raise TatamiError(f"axis is {attributes.get('axis')}: only channels can be put together")
        counts = tuple(self.shapes[one][0] for one in sources)
        self._done(node, self._add(Gather.concat(self._fresh(node), sources, counts)), dims)
        self._finished(node, 0, 1)

    def qlinear_curve(self, node: Any, attributes: dict[str, Any]) -> None:
        value = self._as(node, 0)
        kind = node.op_type.removeprefix("QLinear")
        self._activate(node, value, _CURVES[kind](attributes), False)
        self._finished(node, 3, 4)


def copies(layer: FloatAdd) -> bool:
    """Whether its sums are the pixels of its one source."""
    return len(layer.sources) == 1 and bool(np.all(layer.weight == 1)) and not layer.bias.any()


def _joined(first: Activation | None, second: Activation) -> Activation | None:
    """Both as one, or None."""
    if first is None:
        return second
    if isinstance(first, Clamp) and isinstance(second, Clamp):
        return first.then(second)
    return None


def _hard_sigmoid(attributes: Mapping[str, Any]) -> Curve:
    alpha, beta = attributes.get("alpha", 0.2), attributes.get("beta", 0.5)
    if math.isclose(alpha, 1 / 6, rel_tol=1e-5) and beta == 0.5:
        return activations.HARD_SIGMOID
    return Curve(f"hard_sigmoid({alpha:g},{beta:g})", lambda x: (alpha * x + beta).clip(0, 1))


def _selu(attributes: Mapping[str, Any]) -> Curve:
    alpha, gamma = attributes.get("alpha", 1.6732632), attributes.get("gamma", 1.050701)
    curve = activations.elu(alpha)
    return Curve(f"selu({alpha:g},{gamma:g})", lambda x: gamma * curve(x))


def _gelu(attributes: Mapping[str, Any]) -> Curve:
    return activations.GELU_TANH if attributes.get("approximate") == "tanh" else activations.GELU


_CURVES: dict[str, Callable[[Mapping[str, Any]], Activation]] = {
    "Relu": lambda _: activations.RELU,
    "LeakyRelu": lambda a: activations.leaky_relu(float(a.get("alpha", 0.01))),
    "Sigmoid": lambda _: activations.SIGMOID,
    "Tanh": lambda _: activations.TANH,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": lambda _: activations.HARD_SWISH,
    "Elu": lambda a: activations.elu(float(a.get("alpha", 1.0))),
    "Selu": _selu,
    "Softplus": lambda _: activations.softplus(),
    "Gelu": _gelu,
    "Mish": lambda _: activations.MISH,
}
_Handler = Callable[[Nodes, Any, dict[str, Any]], None]
_HANDLERS: dict[str, _Handler] = {
    "Conv": Nodes.conv,
    "ConvTranspose": Nodes.conv_transpose,
    "Gemm": Nodes.gemm,
    "MatMul": Nodes.matmul,
    "BatchNormalization": Nodes.batch_norm,
    **dict.fromkeys(("Add", "Sub", "Mul", "Div", "Sum"), Nodes.arithmetic),
    "Neg": Nodes.negative,
    **dict.fromkeys(_CURVES, Nodes.activation),
    "Clip": Nodes.clip,
    "PRelu": Nodes.prelu,
    "MaxPool": Nodes.max_pool,
    "GlobalMaxPool": Nodes.max_pool,
    "AveragePool": Nodes.average_pool,
    "GlobalAveragePool": Nodes.global_average,
    "ReduceMean": Nodes.reduce_mean,
    **dict.fromkeys(("Identity", "Dropout", "Cast"), Nodes.same),
    "Reshape": Nodes.reshape,
    "Flatten": Nodes.flatten,
    **dict.fromkeys(("Squeeze", "Unsqueeze"), Nodes.squeeze),
    "Transpose": Nodes.transpose,
    "Slice": Nodes.slice,
    "Gather": Nodes.gather,
    "Split": Nodes.split,
    "Concat": Nodes.concat,
    "Pad": Nodes.pad,
    **dict.fromkeys(("Resize", "Upsample"), Nodes.resize),
    "DepthToSpace": Nodes.depth_to_space,
    "SpaceToDepth": Nodes.space_to_depth,
    **dict.fromkeys(HOST_ENDS, Nodes.host),
    "QuantizeLinear": Nodes.quantize,
    "DequantizeLinear": Nodes.dequantize,
    "QLinearConv": Nodes.qlinear_conv,
    "QLinearMatMul": Nodes.qlinear_matmul,
    "QGemm": Nodes.qgemm,
    "QLinearAdd": Nodes.qlinear_add,
    **dict.fromkeys(("QLinearAveragePool", "QLinearGlobalAveragePool"), Nodes.qlinear_pool),
    "QLinearConcat": Nodes.qlinear_concat,
    **dict.fromkeys(("QLinearSigmoid", "QLinearLeakyRelu"), Nodes.qlinear_curve),
}
SUPPORTED = ", ".join(sorted(_HANDLERS))
