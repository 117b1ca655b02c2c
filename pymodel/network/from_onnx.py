"""Reads an ONNX model: a float network, or one that is quantised to 8 bits (QuantizeLinear and
DequantizeLinear, or the operators QLinear...).

A float network becomes a `FloatNetwork`. It is quantised afterwards, as one of torch is. A quantised one
becomes an integer network with the file's own scales, zero points and weights; nothing is quantised again.

The graph is walked once. Whatever depends on constants alone is computed by the package's own reference
evaluator. Operators that only move values (reshape, transpose, slice, ...) move numbers of values; where a
layer reads the result, these must be channels of a tensor in some order, or blocks of pixels as channels.
Batch norms, factors and clamps become part of the layer before. QuantizeLinear gives a layer its scale, and
DequantizeLinear is nothing at all. Softmax at the end is left to the host.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

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
    FloatNetwork,
    FloatPool,
    FloatResidual,
    blank_layer,
)
from pymodel.network.integer import (
    INPUT,
    MAX_STRIDE,
    NOTHING,
    DepthToSpace,
    Gather,
    IntArray,
    MaxPool,
    Pair,
    Shape,
    Sides,
    SpaceToDepth,
    Upsample,
    View,
    Window,
)
from pymodel.network.model_file import (
    NOT_SUPPORTED,
    FloatFile,
    ModelFile,
    Refusals,
    RefusedError,
    legal_name,
    parsed,
)
from pymodel.network.quantised import FREE, MOST_CHANNELS, MOST_PIXELS, Draft, Scale

Array = npt.NDArray[Any]

OLDEST = 9  # opset
DOMAINS = ("", "ai.onnx", "com.microsoft")
FLOATS = (np.dtype(np.float32), np.dtype(np.float16), np.dtype(np.float64))
# Operators whose result may be far larger than what they are given.
GROWING = ("ConstantOfShape", "Expand", "Tile", "Range", "Resize", "Pad", "OneHot", "EyeLike", "RandomNormal")


@dataclass(frozen=True)
class _Constant:
    """`ints` with `steps` and `zeros` along `axis` are what `value` is quantised as, if it is."""

    value: Array
    ints: Array | None = None
    steps: FloatArray | None = None
    zeros: Array | None = None
    axis: int = 0


@dataclass(frozen=True)
class _Value:
    """What a tensor of the file is here: values of the tensor `name` of the network.

    `shape` is the file's, for one image. `order` has the number of each value in [channel, row, column], if
    it is not 0, 1, 2, ... `pending`: zeros around it that the next window takes. `host`: what the host has to
    do to get it.
    """

    name: str
    shape: tuple[int, ...]
    order: IntArray | None = None
    pending: Sides = NOTHING
    host: str = ""

    def numbers(self) -> IntArray:
        if self.order is not None:
            return self.order
        return np.arange(math.prod(self.shape), dtype=np.int32).reshape(self.shape)


class _Skip(Exception):  # noqa: N818
    """A node reads the result of a refused one, so nothing can be said about it."""


def from_onnx(path: Path, name: str, shape: Shape | None = None) -> FloatFile | ModelFile:
    """The network of a file. `shape` (channels, rows, columns) replaces that of its input, for a file that
    leaves it open.

    Raises `TatamiError`, one line that begins with the path, for a file that is damaged and for everything in
    it that is not supported, all at once, each with its node.
    """
    model = parsed(path, "ONNX", lambda raw: _parse(raw, path))
    return _Importer(path, model, name, shape).run()


def _parse(raw: bytes, path: Path) -> Any:
    model = onnx.load_model_from_string(raw)
    if not model.HasField("graph") or not model.graph.node:
        raise TatamiError("it has no graph, or one without nodes")
    stored = list(model.graph.initializer)
    for node in model.graph.node:
        stored += [attribute.t for attribute in node.attribute if attribute.HasField("t")]
    for tensor in stored:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            place = {entry.key: entry.value for entry in tensor.external_data}.get("location", "")
            file = path.parent / place
            if not place or Path(place).is_absolute() or ".." in Path(place).parts:
                raise TatamiError(f"data of '{tensor.name}' lie in {place!r}, must lie beside the file")
            if not file.is_file():
                raise TatamiError(f"data of '{tensor.name}' lie in {file}: no such file")
            onnx.external_data_helper.load_external_data_for_tensor(tensor, str(path.parent))
    return model


@dataclass
class _Importer:
    path: Path
    model: Any
    name: str
    given: Shape | None
    constants: dict[str, _Constant] = field(default_factory=dict)
    values: dict[str, _Value] = field(default_factory=dict)
    layers: dict[str, FloatLayer] = field(default_factory=dict)
    shapes: dict[str, Shape] = field(default_factory=dict)
    scales: dict[str, Scale] = field(default_factory=dict)  # of tensors that the file quantises
    weights: dict[str, tuple[IntArray, FloatArray]] = field(
        default_factory=dict
    )  # values and steps, by layer
    origin: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def run(self) -> FloatFile | ModelFile:
        self.refusals = Refusals(self.path, SUPPORTED)
        graph = self.model.graph
        self.opset = {one.domain: one.version for one in self.model.opset_import}
        version = self.opset.get("", self.opset.get("ai.onnx", 0))
        newest = onnx.defs.onnx_opset_version()
        if not OLDEST <= version <= newest:
            raise TatamiError(f"{self.path}: opset is {version}, must be in {OLDEST}..{newest}")
        try:
            for tensor in graph.initializer:
                self.constants[tensor.name] = _Constant(_array(tensor))
            if graph.sparse_initializer:
                raise TatamiError(f"tensor '{graph.sparse_initializer[0].values.name}' is stored sparse")
            self.readers: dict[str, list[Any]] = {}
            for node in graph.node:
                for name in node.input:
                    self.readers.setdefault(name, []).append(node)
            for one in graph.output:
                self.readers.setdefault(one.name, []).append(None)
            self._begin()
        except TatamiError as error:
            raise TatamiError(f"{self.path}: {error}") from None
        for node in graph.node:
            self._step(node)
        self.refusals.check()
        if len(graph.output) != 1:
            named = ", ".join(f"'{one.name}'" for one in graph.output)
            raise TatamiError(f"{self.path}: it has {len(graph.output)} outputs ({named}), must have 1")
        if graph.output[0].name not in self.values:
            raise TatamiError(f"{self.path}: no node computes '{graph.output[0].name}' from the input")
        try:
            return self._finish(self.values[graph.output[0].name])
        except RefusedError:
            raise
        except TatamiError as error:
            raise TatamiError(f"{self.path}: {' '.join(str(error).split())}") from None

    def _begin(self) -> None:
        """The network's input."""
        inputs = [one for one in self.model.graph.input if one.name not in self.constants]
        if len(inputs) != 1:
            named = ", ".join(f"'{one.name}'" for one in inputs)
            raise TatamiError(f"it has {len(inputs)} inputs ({named}), must have 1")
        name, kind = inputs[0].name, inputs[0].type.tensor_type
        dims = [d.dim_value if d.HasField("dim_value") else 0 for d in kind.shape.dim]
        label = f"input '{name}'"
        if len(dims) not in (2, 4):
            raise TatamiError(
                f"{label} has {len(dims)} dimensions, must have 4: (batch, channels, rows, columns), or 2"
            )
        # TensorFlow's exporters turn the image first
        turned = [
            self._attributes(node).get("perm") for node in self.readers.get(name, []) if node is not None
        ]
        last = len(dims) == 4 and turned and all(perm == [0, 3, 1, 2] for perm in turned)
        order = (3, 1, 2) if last else (1, 2, 3)
        known = [*(dims[n] for n in order if n < len(dims)), 1, 1]
        shape = self.given or (known[0], known[1], known[2])
        if min(shape) < 1:
            raise TatamiError(
                f"{label} has a shape that is left open ({', '.join(str(d or '?') for d in dims)}); give it:"
                " SHAPE=channels,rows,columns"
            )
        self.batch, self.input = dims[0], name
        self.input_type = _INPUTS.get(kind.elem_type, "")
        if not self.input_type:
            raise TatamiError(f"{label} is of type {kind.elem_type}, must be float, int8 or uint8")
        found = _Value(INPUT, (1, *shape[: len(dims) - 1]))
        if last:
            self.notes.append("rows, columns, channels become channels, rows, columns at the input")
            numbers = np.arange(math.prod(shape), dtype=np.int32).reshape(1, *shape)
            found = _Value(INPUT, (1, shape[1], shape[2], shape[0]), numbers.transpose(0, 2, 3, 1))
        self._note(INPUT, shape)
        self.values[name] = found
        self.origin[INPUT] = name

    def _note(self, name: str, shape: Shape) -> None:
        if shape[0] > MOST_CHANNELS or math.prod(shape) > MOST_PIXELS:
            raise TatamiError(
                f"a tensor of {' x '.join(map(str, shape))} has more than {MOST_CHANNELS} channels or"
                f" {MOST_PIXELS} values"
            )
        self.shapes[name] = shape

    def _attributes(self, node: Any) -> dict[str, Any]:
        found = {one.name: helper.get_attribute_value(one) for one in node.attribute}
        return {
            name: value.decode(errors="replace") if isinstance(value, bytes) else value
            for name, value in found.items()
        }

    def _step(self, node: Any) -> None:
        label = f"{node.op_type} '{node.name or (node.output[0] if node.output else '')}'"
        try:
            if not node.output:
                raise TatamiError("it has no result")
            if node.domain not in DOMAINS:
                raise TatamiError(f"domain '{node.domain}' is not supported")
            if self._folded(node):
                return
            handler = _HANDLERS.get(node.op_type)
            if handler is None:
                raise TatamiError(NOT_SUPPORTED)
            handler(self, node, self._attributes(node))
        except _Skip:
            return
        except TatamiError as error:
            self.refusals.add(str(error), label)
        except (ValueError, TypeError, IndexError, KeyError, OverflowError) as error:
            # attributes and constants of a wrong type or shape
            said = " ".join(str(error).split())[:120]
            self.refusals.add(f"its attributes or constants do not fit ({said})", label)

    # Constants

    def _folded(self, node: Any) -> bool:
        """Computes a node that depends on constants alone, or on the shape of a tensor."""
        names = [name for name in node.input if name]
        if node.op_type == "Shape" and names and names[0] in self.values:
            attributes, shape = self._attributes(node), self.values[names[0]].shape
            part = shape[attributes.get("start", 0) : attributes.get("end", len(shape))]
            self.constants[node.output[0]] = _Constant(np.array(part, np.int64))
            return True
        if any(name not in self.constants for name in names) or node.op_type in _HOST_ENDS:
            return False
        if any(one.HasField("g") or one.graphs for one in node.attribute):
            raise TatamiError("control flow is not supported")
        given = {name: self.constants[name] for name in names}
        if node.op_type == "DequantizeLinear":
            self.constants[node.output[0]] = self._dequantised(node)
            return True
        if node.op_type in GROWING and any(_product(one.value) > MOST_PIXELS for one in given.values()):
            raise TatamiError(f"its result has more than {MOST_PIXELS} values")
        try:
            run = ReferenceEvaluator(_alone(node, given, self.model))
            results = run.run(None, {name: one.value for name, one in given.items()})
        except Exception as error:  # whatever the package's evaluator raises
            raise TatamiError(
                f"it cannot be computed of its constants ({' '.join(str(error).split())[:120]})"
            ) from None
        first = given[names[0]] if names else None
        for name, result in zip(node.output, results, strict=False):
            found = _Constant(np.asarray(result))
            if node.op_type == "Transpose" and first is not None and first.ints is not None:
                perm = list(self._attributes(node).get("perm") or range(first.value.ndim)[::-1])
                found = replace(
                    first, value=found.value, ints=first.ints.transpose(perm), axis=perm.index(first.axis)
                )
            elif node.op_type == "Identity" and first is not None:
                found = first
            self.constants[name] = found
        return True

    def _dequantised(self, node: Any) -> _Constant:
        ints, steps = self.constants[node.input[0]].value, self.constants[node.input[1]].value
        zeros = (
            self.constants[node.input[2]].value
            if len(node.input) > 2 and node.input[2]
            else np.zeros(steps.shape, ints.dtype)
        )
        attributes = self._attributes(node)
        if attributes.get("block_size"):
            raise TatamiError("scales by block are not supported")
        if ints.dtype not in (np.int8, np.uint8, np.int32):
            raise TatamiError(f"its constant is {ints.dtype}, must be int8, uint8 or int32")
        axis = attributes.get("axis", 1) % max(1, ints.ndim)
        shape = [1] * ints.ndim
        if steps.size > 1:
            shape[axis] = steps.size
        step = np.asarray(steps, np.float64).reshape(shape if steps.size > 1 else [1] * ints.ndim)
        zero = np.asarray(zeros, np.int64).reshape(step.shape)
        value = step * (ints.astype(np.float64) - zero)
        return _Constant(value, ints, np.asarray(steps, np.float64).reshape(-1), zeros.reshape(-1), axis)

    # What handlers use

    def _value(self, node: Any, place: int = 0, pending: bool = False) -> _Value:
        """Input number `place`, which is computed. `pending`: the node takes zeros around it."""
        if place >= len(node.input) or not node.input[place]:
            raise TatamiError(f"input {place} is missing")
        name = node.input[place]
        if name in self.constants:
            raise TatamiError(f"input {place}, '{name}', is constant; must be computed")
        if name not in self.values:
            raise _Skip
        value = self.values[name]
        if value.host and node.op_type not in (*_HOST, *_HOST_ENDS):
            raise TatamiError(f"it reads the result of {value.host}, which the host computes")
        if value.pending != NOTHING and not pending:
            value = self._padded(value)
        return value

    def _constant(self, node: Any, place: int, what: str) -> _Constant | None:
        """Input number `place`, if it is given."""
        if place >= len(node.input) or not node.input[place]:
            return None
        if node.input[place] not in self.constants:
            if node.input[place] not in self.values:
                raise _Skip
            raise TatamiError(f"{what} '{node.input[place]}' is not constant")
        return self.constants[node.input[place]]

    def _needed(self, node: Any, place: int, what: str) -> _Constant:
        found = self._constant(node, place, what)
        if found is None:
            raise TatamiError(f"{what} is missing")
        return found

    def _numbers(self, node: Any, place: int, what: str) -> list[int] | None:
        found = self._constant(node, place, what)
        return None if found is None else [int(one) for one in found.value.reshape(-1)]

    def _fresh(self, node: Any, default: str = "") -> str:
        name = legal_name(default or node.name or node.output[0], node.op_type.lower())
        number, found = 1, name
        while found in self.shapes:
            number += 1
            found = f"{name}_{number}"
        return found

    def _add(self, layer: FloatLayer) -> str:
        try:
            shape = blank_layer(layer, self.shapes).output_shape("", self.shapes)
        except TatamiError as error:
            raise TatamiError(str(error).removeprefix(": ")) from None
        self._note(layer.name, shape)
        self.layers[layer.name] = layer
        return layer.name

    def _done(self, node: Any, name: str, dims: int = 4, place: int = 0) -> None:
        """A result is the tensor `name` of the network."""
        shape = self.shapes[name]
        self.values[node.output[place]] = _Value(name, (1, *shape[: dims - 1]))
        if name in self.scales:
            self.origin.setdefault(name, node.output[place])
        else:
            self.origin[name] = node.output[place]

    def _alone(self, node: Any, place: int = 0) -> bool:
        """Whether nothing else reads this input of a node."""
        return len(self.readers.get(node.input[place], [])) == 1

    def _plane(self, node: Any, value: _Value) -> str:
        """The tensor that has the values, in the file's order, as [channel, row, column]."""
        if value.order is None:
            return value.name
        shape = (*value.shape[1:], 1, 1)[:3]
        order = value.order.reshape(shape)
        c, h, w = self.shapes[value.name]
        own = np.arange(c * h * w, dtype=np.int32).reshape(c, h, w)
        if order.shape == own.shape and np.array_equal(order, own):
            return value.name
        if shape[1:] == (h, w):
            picked = order[:, 0, 0] // (h * w)
            if np.array_equal(order, own[picked]):
                return self._add(
                    Gather(
                        self._fresh(node, f"{value.name}.order"), (value.name,), np.zeros_like(picked), picked
                    )
                )
        for down in range(1, MAX_STRIDE + 1):
            for across in range(1, MAX_STRIDE + 1):
                found = self._blocks(node, value.name, order, (down, across))
                if found:
                    return found
        raise TatamiError(
            "its input has values in an order other than channels of one tensor, or blocks of pixels as"
            " channels"
        )

    def _blocks(self, node: Any, source: str, order: IntArray, block: Pair) -> str:
        """The tensor with blocks of pixels as channels, or channels as blocks, in the given order, or ''."""
        c, h, w = self.shapes[source]
        down, across = block
        own = np.arange(c * h * w, dtype=np.int32).reshape(c, h, w)
        if order.shape[1:] == (h * down, w * across) and c % (down * across) == 0:
            # the channels whose pixels lie in the first block of each channel of the result
            picked = order[:, :down, :across].reshape(-1) // (h * w)
            mixed = own[picked].reshape(-1, down, across, h, w).transpose(0, 3, 1, 4, 2)
            if np.array_equal(mixed.reshape(order.shape), order):
                name = self._picked(node, source, picked)
                return self._add(DepthToSpace(self._fresh(node, f"{source}.blocks"), name, block))
        if order.shape[1:] == (h // down, w // across) and h % down == 0 and w % across == 0:
            split = own.reshape(c, h // down, down, w // across, across).transpose(0, 2, 4, 1, 3)
            split = split.reshape(-1, h // down, w // across)
            place = {int(n): i for i, n in enumerate(split[:, 0, 0])}
            found = [place.get(int(n), -1) for n in order[:, 0, 0]]
            if -1 not in found and np.array_equal(split[found], order):
                name = self._add(SpaceToDepth(self._fresh(node, f"{source}.blocks"), source, block))
                return self._picked(node, name, np.array(found))
        return ""

    def _picked(self, node: Any, source: str, channel: IntArray) -> str:
        """Some channels of a tensor; the tensor itself if it is all of them in order."""
        if np.array_equal(channel, np.arange(self.shapes[source][0])):
            return source
        return self._add(
            Gather(self._fresh(node, f"{source}.order"), (source,), np.zeros(len(channel), np.int64), channel)
        )

    def _padded(self, value: _Value) -> _Value:
        """Zeros around a tensor as a layer: a window with a single weight."""
        channels, (top, left, bottom, right) = self.shapes[value.name][0], value.pending
        weight = np.zeros((channels, 1, top + bottom + 1, left + right + 1))
        weight[:, 0, bottom, right] = 1
        name = legal_name(f"{value.name}.pad", "pad")
        number = 1
        while name in self.shapes:
            number += 1
            name = legal_name(f"{value.name}.pad_{number}", "pad")
        sides = (top + bottom, left + right) * 2
        layer = FloatConv(name, value.name, weight, np.zeros(channels), (1, 1), sides, groups=channels)
        self.weights[name] = (weight.astype(np.int8), np.ones(channels))
        self._add(layer)
        scale = self._scale_of(value.name)
        if scale is not None:
            self.scales[name] = scale
        return _Value(name, (1, *self.shapes[name]))

    def _window(
        self, attributes: Mapping[str, Any], size: Sequence[int], value: _Value
    ) -> tuple[Window, tuple[int, int]]:
        """The node's window, and the rows and columns more at the bottom and at the right that `ceil_mode`
        adds.
        """
        if len(size) != 2:
            raise TatamiError(f"kernel has {len(size)} dimensions, must have 2")
        stride = attributes.get("strides") or [1, 1]
        dilation = attributes.get("dilations") or [1, 1]
        pads = attributes.get("pads") or [0, 0, 0, 0]
        if not len(stride) == len(dilation) == 2 or len(pads) != 4:
            raise TatamiError("strides, dilations or pads are not those of two dimensions")
        if min(*size, *stride, *dilation) < 1:
            raise TatamiError(f"kernel {size}, strides {stride} and dilations {dilation} must be positive")
        window = Window(_two(size), _two(stride), NOTHING, _two(dilation))
        source, reach = self.shapes[value.name][1:], window.reach
        before, behind = list(pads[:2]), list(pads[2:])
        mode = attributes.get("auto_pad", "NOTSET")
        if mode in ("SAME_UPPER", "SAME_LOWER"):
            for axis in (0, 1):
                out = -(-source[axis] // stride[axis])
                total = max(0, (out - 1) * stride[axis] + reach[axis] - source[axis])
                less, more = total // 2, total - total // 2
                before[axis], behind[axis] = (less, more) if mode == "SAME_UPPER" else (more, less)
        elif mode == "VALID":
            before, behind = [0, 0], [0, 0]
        elif mode != "NOTSET":
            raise TatamiError(f"auto_pad is '{mode}', must be NOTSET, VALID, SAME_UPPER or SAME_LOWER")
        extra = [0, 0]
        if attributes.get("ceil_mode"):
            for axis in (0, 1):
                whole = source[axis] + before[axis] + behind[axis]
                out = -(-(whole - reach[axis]) // stride[axis]) + 1
                if (out - 1) * stride[axis] >= source[axis] + before[axis]:
                    out -= 1  # a window that begins behind the source is none
                extra[axis] = max(0, (out - 1) * stride[axis] + reach[axis] - whole)
        top, left, bottom, right = value.pending
        sides = (
            top + before[0],
            left + before[1],
            bottom + behind[0] + extra[0],
            right + behind[1] + extra[1],
        )
        return replace(window, padding=sides), (extra[0], extra[1])

    # Layers with weights

    def _weight(self, constant: _Constant, axis: int, name: str) -> FloatArray:
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

    def _bias(self, constant: _Constant | None, filters: int) -> FloatArray:
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
        self, node: Any, attributes: dict[str, Any], value: _Value, weight: _Constant, bias: _Constant | None
    ) -> None:
        name, groups = self._fresh(node), int(attributes.get("group", 1))
        real = self._weight(weight, 0, name)
        if real.ndim != 4 or not real.size:
            raise TatamiError(f"weight has shape {real.shape}, must be (filters, channels, rows, columns)")
        kernel = attributes.get("kernel_shape") or list(real.shape[2:])
        if list(kernel) != list(real.shape[2:]):
            raise TatamiError(f"kernel_shape is {kernel}, the weight has {list(real.shape[2:])}")
        source = self._plane(node, value)
        value = _Value(source, value.shape, pending=value.pending)
        window, _ = self._window(attributes, kernel, value)
        if not _fits(window):
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

    def gemm(self, node: Any, attributes: dict[str, Any]) -> None:
        if attributes.get("transA"):
            raise TatamiError("transA is 1, must be 0")
        alpha, beta = float(attributes.get("alpha", 1.0)), float(attributes.get("beta", 1.0))
        weight = self._needed(node, 1, "weight")
        self._linear(
            node, weight, 0 if attributes.get("transB") else 1, self._constant(node, 2, "bias"), alpha, beta
        )

    def matmul(self, node: Any, attributes: dict[str, Any]) -> None:  # noqa: ARG002
        self._linear(node, self._needed(node, 1, "second factor"), 1, None)

    def _linear(
        self,
        node: Any,
        weight: _Constant,
        axis: int,
        bias: _Constant | None,
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
        self, node: Any, value: _Value, factor: FloatArray, offset: FloatArray, place: int = 0
    ) -> None:
        """Each channel times `factor` and `offset` added: part of the layer before where it can be."""
        source, dims = self._plane(node, value), len(value.shape)
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
            self._done(node, source, dims)
            return
        name = self._fresh(node)
        self._done(node, self._add(FloatAdd(name, (source,), factor[None], offset)), dims)

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

    def _by_channel(self, value: _Value, number: Array) -> FloatArray:
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
        sources = [self._plane(node, value) for value in values]
        if len({self.shapes[one] for one in sources}) > 1:
            raise TatamiError(
                "tensors have shapes " + ", ".join(str(value.shape) for value in values) + ", must be equal"
            )
        channels = self.shapes[sources[0]][0]
        weight = np.ones((len(sources), channels))
        if kind == "Sub":
            weight[1] = -1
        layer = FloatAdd(self._fresh(node), tuple(sources), weight, np.zeros(channels))
        self._done(node, self._add(layer), len(values[0].shape))

    def _gated(self, node: Any) -> None:
        """x * sigmoid(x) and x * hard_sigmoid(x) are curves of x."""
        for place in (0, 1) if node.op_type == "Mul" else ():
            value, gate = self._value(node, place), self._value(node, 1 - place)
            layer = self.layers.get(gate.name)
            if not isinstance(layer, FloatAdd) or layer.sources != (value.name,) or gate.order is not None:
                continue
            if not _copies(layer):
                continue
            curve = {"sigmoid": activations.SILU, "hard_sigmoid": activations.HARD_SWISH}.get(
                getattr(layer.activation, "name", "")
            )
            if curve is not None:
                only = len(self.readers[node.input[place]]) == 2 and self._alone(node, 1 - place)
                self._activate(node, value, curve, only)
                return
        raise TatamiError("of two tensors is not supported; one must be constant")

    def _activate(self, node: Any, value: _Value, activation: Activation, only: bool) -> None:
        """The activation becomes part of the layer before, if nothing else reads that."""
        dims = len(value.shape)
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
                self._done(node, value.name, dims)
                return
        source = self._plane(node, value)
        channels = self.shapes[source][0]
        found = FloatAdd(self._fresh(node), (source,), np.ones((1, channels)), np.zeros(channels), activation)
        self._done(node, self._add(found), dims)

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
        value = _Value(self._plane(node, value), value.shape)
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
        value = _Value(self._plane(node, value), value.shape, pending=value.pending)
        kernel = attributes.get("kernel_shape") or []
        around = value.pending
        window, extra = self._window(attributes, kernel, value)
        outside = tuple(a - b for a, b in zip(window.padding, around, strict=True))
        if window.dilation != (1, 1):
            raise TatamiError(f"dilations are {window.dilation}, must be 1")
        if any(extra) or (any(outside) and not attributes.get("count_include_pad")):
            raise TatamiError(
                "padding that it does not count (count_include_pad is 0, or ceil_mode adds pixels): the"
                " divisor is not the same everywhere"
            )
        if not _fits(window):
            value = self._padded(value)
            window, _ = self._window(attributes, kernel, value)
        shape = self.shapes[value.name]
        if window.size == shape[1:] and window.padding == NOTHING:
            layer: FloatLayer = FloatPool(self._fresh(node), value.name)
        else:
            layer = FloatAveragePool(
                self._fresh(node), value.name, window.size, window.stride, window.padding
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

    # Operators that move values

    def _moved(self, node: Any, value: _Value, order: IntArray, place: int = 0) -> None:
        """A result has the values of `value` of these numbers."""
        if not order.size:
            raise TatamiError("its result has no values")
        if order.size > MOST_PIXELS or order.shape[0] != 1:
            raise TatamiError(f"its result has shape {order.shape}: images must stay apart")
        whole = math.prod(self.shapes[value.name])
        plain = order.size == whole and np.array_equal(order.reshape(-1), np.arange(whole))
        self.values[node.output[place]] = _Value(
            value.name, order.shape, None if plain else order, host=value.host
        )

    def same(self, node: Any, attributes: dict[str, Any]) -> None:  # noqa: ARG002
        self.values[node.output[0]] = self._value(node, pending=True)

    def reshape(self, node: Any, attributes: dict[str, Any]) -> None:
        value = self._value(node)
        wanted = attributes.get("shape") or self._numbers(node, 1, "shape") or []
        size, shape = math.prod(value.shape), list(wanted)
        for axis, n in enumerate(shape):
            if n == 0 and not attributes.get("allowzero") and axis < len(value.shape):
                shape[axis] = value.shape[axis]
        if shape and shape[0] == self.batch and self.batch > 1:
            shape[0] = 1
        known = math.prod(n for n in shape if n != -1)
        if shape.count(-1) == 1 and known > 0 and size % known == 0:
            shape[shape.index(-1)] = size // known
        if math.prod(shape) != size or not shape or min(shape) < 1:
            raise TatamiError(f"from {value.shape} to {tuple(wanted)}: not as many values")
        self._moved(node, value, value.numbers().reshape(shape))

    def flatten(self, node: Any, attributes: dict[str, Any]) -> None:
        value = self._value(node)
        axis = int(attributes.get("axis", 1))
        if axis % max(1, len(value.shape)) != 1:
            raise TatamiError(f"axis is {axis}, must be 1")
        self._moved(node, value, value.numbers().reshape(1, -1))

    def squeeze(self, node: Any, attributes: dict[str, Any]) -> None:
        value = self._value(node)
        axes = attributes.get("axes") or self._numbers(node, 1, "axes")
        numbers = value.numbers()
        if node.op_type == "Unsqueeze":
            self._moved(node, value, np.expand_dims(numbers, tuple(axes or ())))
        else:
            ones = tuple(n for n in range(1, numbers.ndim) if numbers.shape[n] == 1)
            self._moved(node, value, np.squeeze(numbers, tuple(axes) if axes else ones))

    def transpose(self, node: Any, attributes: dict[str, Any]) -> None:
        value = self._value(node)
        numbers = value.numbers()
        self._moved(node, value, numbers.transpose(attributes.get("perm") or range(numbers.ndim)[::-1]))

    def slice(self, node: Any, attributes: dict[str, Any]) -> None:
        value = self._value(node)
        starts = attributes.get("starts") or self._numbers(node, 1, "starts") or []
        ends = attributes.get("ends") or self._numbers(node, 2, "ends") or []
        axes = attributes.get("axes") or self._numbers(node, 3, "axes") or list(range(len(starts)))
        steps = self._numbers(node, 4, "steps") or [1] * len(starts)
        numbers = value.numbers()
        picked = [slice(None)] * numbers.ndim
        for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
            n = numbers.shape[axis]
            # as ONNX clamps them; behind the first value, going down, is before it
            last = None if step < 0 and end < -n else end
            picked[axis % numbers.ndim] = slice(start, last, step)
        self._moved(node, value, numbers[tuple(picked)])

    def gather(self, node: Any, attributes: dict[str, Any]) -> None:
        value = self._value(node)
        index = self._needed(node, 1, "indices").value
        axis = int(attributes.get("axis", 0))
        self._moved(node, value, value.numbers().take(index.astype(np.int64), axis=axis))

    def split(self, node: Any, attributes: dict[str, Any]) -> None:
        value = self._value(node)
        numbers, axis = value.numbers(), int(attributes.get("axis", 0))
        sizes = attributes.get("split") or self._numbers(node, 1, "split")
        whole, parts = numbers.shape[axis], len(node.output)
        if not sizes:
            each = -(-whole // parts)
            sizes = [min(each, whole - part * each) for part in range(parts)]
        if sum(sizes) != whole or min(sizes) < 1 or len(sizes) != parts:
            raise TatamiError(f"parts of {sizes} are not all of {whole}")
        for part, order in enumerate(np.split(numbers, np.cumsum(sizes)[:-1], axis)):
            self._moved(node, value, order, part)

    def concat(self, node: Any, attributes: dict[str, Any]) -> None:
        values = [self._value(node, place) for place in range(len(node.input))]
        dims = len(values[0].shape)
        axis = int(attributes.get("axis", 1)) % max(1, dims)
        if len({value.name for value in values}) == 1:
            self._moved(node, values[0], np.concatenate([value.numbers() for value in values], axis))
            return
        sources = [self._plane(node, value) for value in values]
        shapes = [self.shapes[source] for source in sources]
        if axis != 1 or dims not in (2, 4) or (dims == 2 and any(shape[1:] != (1, 1) for shape in shapes)):
            raise TatamiError(f"along axis {axis} of {dims}: only channels can be put together")
        counts = tuple(shape[0] for shape in shapes)
        self._done(node, self._add(Gather.concat(self._fresh(node), tuple(sources), counts)), dims)

    def pad(self, node: Any, attributes: dict[str, Any]) -> None:
        value = self._value(node, pending=True)
        pads = attributes.get("pads") or self._numbers(node, 1, "pads") or []
        axes = self._numbers(node, 3, "axes")
        dims = len(value.shape)
        if axes is not None:
            whole = [0] * (2 * dims)
            for n, axis in enumerate(axes):
                whole[axis % dims], whole[axis % dims + dims] = pads[n], pads[n + len(axes)]
            pads = whole
        fill = self._constant(node, 2, "value")
        number = attributes.get("value", 0.0) if fill is None else float(fill.value.reshape(-1)[0])
        if attributes.get("mode", "constant") != "constant" or number != 0:
            raise TatamiError(
                f"mode {attributes.get('mode', 'constant')} with {number:g}: only zeros can be put around"
            )
        if len(pads) != 2 * dims:
            raise TatamiError(f"pads are {pads}, must be {2 * dims} numbers")
        if not any(pads):
            self.values[node.output[0]] = value
            return
        if dims != 4 or min(pads) < 0 or pads[0] or pads[4]:
            raise TatamiError(f"pads are {pads}: only zeros around channels, rows and columns")
        source = self._plane(node, value)
        if pads[1] or pads[5]:
            count = self.shapes[source][0]
            channel = np.concatenate([np.full(pads[1], -1), np.arange(count), np.full(pads[5], -1)])
            source = self._picked(node, source, channel)
        sides = (pads[2], pads[3], pads[6], pads[7])
        top, left, bottom, right = (a + b for a, b in zip(value.pending, sides, strict=True))
        _, rows, columns = self.shapes[source]
        shape = (1, self.shapes[source][0], rows + top + bottom, columns + left + right)
        self.values[node.output[0]] = _Value(source, shape, pending=(top, left, bottom, right))

    def resize(self, node: Any, attributes: dict[str, Any]) -> None:
        value = self._value(node)
        source = self._plane(node, value)
        if attributes.get("mode", "nearest") != "nearest":
            raise TatamiError(f"mode is {attributes.get('mode')}, must be nearest")
        place = 1 if node.op_type == "Upsample" or len(node.input) == 2 else 2
        factors = attributes.get("scales")
        if (
            factors is None
            and (found := self._constant(node, place, "scales")) is not None
            and found.value.size
        ):
            factors = [float(one) for one in found.value]
        sizes = self._numbers(node, 3, "sizes")
        if factors is None and sizes:
            factors = [size / n for size, n in zip(sizes, value.shape, strict=True)]
        if attributes.get("axes"):
            raise TatamiError("axes are not supported")
        found_ = factors or []
        if (
            len(found_) != 4
            or any(one != int(one) for one in found_)
            or found_[:2] != [1, 1]
            or min(found_) < 1
        ):
            raise TatamiError(f"factors are {found_}, must be 1, 1 and two whole numbers")
        down, across = int(found_[2]), int(found_[3])
        self._check_nearest(attributes, node.op_type, self.shapes[source][1:], (down, across))
        self._done(node, self._add(Upsample(self._fresh(node), source, (down, across))))

    def _check_nearest(self, attributes: Mapping[str, Any], kind: str, size: Pair, scale: Pair) -> None:
        """Raises `TatamiError` if a pixel of the result is not the one that lies under it."""
        mode = attributes.get("coordinate_transformation_mode", "half_pixel")
        nearest = attributes.get("nearest_mode", "round_prefer_floor")
        if kind == "Upsample":
            mode, nearest = "asymmetric", "floor"
        for pixels, factor in zip(size, scale, strict=True):
            x = np.arange(pixels * factor)
            places = {
                "half_pixel": (x + 0.5) / factor - 0.5,
                "half_pixel_symmetric": (x + 0.5) / factor - 0.5,
                "pytorch_half_pixel": (x + 0.5) / factor - 0.5 if pixels * factor > 1 else 0.0 * x,
                "asymmetric": x / factor,
                "align_corners": x * (pixels - 1) / max(1, pixels * factor - 1),
            }.get(mode)
            if places is None:
                raise TatamiError(f"coordinate_transformation_mode '{mode}' is not supported")
            found = {
                "round_prefer_floor": np.ceil(places - 0.5),
                "round_prefer_ceil": np.floor(places + 0.5),
                "floor": np.floor(places),
                "ceil": np.ceil(places),
            }.get(nearest)
            if found is None or not np.array_equal(found.clip(0, pixels - 1), x // factor):
                raise TatamiError(f"with {mode} and {nearest}, pixels are not those that lie under them")

    def depth_to_space(self, node: Any, attributes: dict[str, Any]) -> None:
        value, block = self._value(node), int(attributes.get("blocksize", 0))
        numbers = value.numbers()
        if numbers.ndim != 4 or block < 1 or numbers.shape[1] % (block * block):
            raise TatamiError(f"blocksize is {block}, its square must divide the channels")
        _, c, h, w = numbers.shape
        if attributes.get("mode", "DCR") == "DCR":
            split = numbers.reshape(1, block, block, c // block**2, h, w).transpose(0, 3, 4, 1, 5, 2)
        else:
            split = numbers.reshape(1, c // block**2, block, block, h, w).transpose(0, 1, 4, 2, 5, 3)
        self._moved(node, value, split.reshape(1, c // block**2, h * block, w * block))

    def space_to_depth(self, node: Any, attributes: dict[str, Any]) -> None:
        value, block = self._value(node), int(attributes.get("blocksize", 0))
        numbers = value.numbers()
        if numbers.ndim != 4 or block < 1 or numbers.shape[2] % block or numbers.shape[3] % block:
            raise TatamiError(f"blocksize is {block}, must divide rows and columns")
        _, c, h, w = numbers.shape
        split = numbers.reshape(1, c, h // block, block, w // block, block).transpose(0, 3, 5, 1, 2, 4)
        self._moved(node, value, split.reshape(1, c * block**2, h // block, w // block))

    # What is left to the host

    def _ends(self, node: Any) -> bool:
        """Whether nothing but what the host does reads a node's result."""
        return all(
            one is None or (one.op_type in (*_HOST, *_HOST_ENDS) and self._ends(one))
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

    def _quantize(self, node: Any, value: _Value, scale: Scale, alone: bool) -> None:
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
        source = self._plane(node, value)
        channels = self.shapes[source][0]
        copy = self._add(FloatAdd(self._fresh(node), (source,), np.ones((1, channels)), np.zeros(channels)))
        self.scales[copy] = scale
        self._done(node, copy, len(value.shape))

    def dequantize(self, node: Any, attributes: dict[str, Any]) -> None:  # noqa: ARG002
        value = self._value(node, pending=True)
        self._given(node, value, self._scale(node, 1, 2))
        self.values[node.output[0]] = value

    def _given(self, node: Any, value: _Value, scale: Scale) -> None:
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

    def _scale_of(self, name: str) -> Scale | None:
        """A tensor's scale, of a layer that only moves pixels that of its source."""
        while name not in self.scales:
            layer = self.layers.get(name)
            if not isinstance(layer, MaxPool | View):
                return None
            name = layer.reads()[0]
        return self.scales[name]

    def _as(self, node: Any, place: int) -> _Value:
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

    def _quantised_constant(self, node: Any, place: int, axis: int) -> _Constant:
        ints = self._needed(node, place, "weight").value
        steps = np.asarray(self._needed(node, place + 1, "weight scale").value, np.float64).reshape(-1)
        zeros = self._needed(node, place + 2, "weight zero point").value.reshape(-1).astype(np.int64)
        if ints.dtype not in (np.int8, np.uint8):
            raise TatamiError(f"weights are {ints.dtype}, must be int8 or uint8")
        shape = [1] * ints.ndim
        shape[axis] = -1
        real = steps.reshape(shape) * (ints.astype(np.float64) - zeros.reshape(shape))
        return _Constant(real, ints, steps, zeros, axis)

    def qlinear_conv(self, node: Any, attributes: dict[str, Any]) -> None:
        value = self._as(node, 0)
        weight = self._quantised_constant(node, 3, 0)
        bias = self._constant(node, 8, "bias")
        if bias is not None and weight.steps is not None:
            step = self.scales[value.name].step if value.name in self.scales else self._scale(node, 1, 2).step
            bias = _Constant(bias.value.astype(np.float64) * step * weight.steps)
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
            bias = _Constant(bias.value.astype(np.float64) * step.step * weight.steps)
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

    # The network

    def _finish(self, value: _Value) -> FloatFile | ModelFile:
        if value.host:
            self.notes.append(f"left to the host: {value.host}")
        node = self.model.graph.node[-1]
        if value.pending != NOTHING:
            value = self._padded(value)
            self.origin[value.name] = self.model.graph.output[0].name
        output = value.name
        if value.order is not None and value.order.size == math.prod(self.shapes[output]):
            self.notes.append("left to the host: the order of the output's values")
        elif value.order is not None:
            output = self._plane(node, value)
        quantised = bool(self.scales)
        if not quantised and self.input_type != "FLOAT":
            raise TatamiError(f"its input is {self.input_type} and nothing in it is quantised")
        if output == INPUT or isinstance(self.layers[output], View):
            channels = self.shapes[output][0]
            copy = FloatAdd(
                self._fresh(node, "output"), (output,), np.ones((1, channels)), np.zeros(channels)
            )
            scale = self._scale_of(output)
            output = self._add(copy)
            if not quantised:
                self.origin[output] = self.model.graph.output[0].name
            if scale is not None:
                self.scales[output] = scale
        if quantised:
            return self._integers(output)
        layers, renamed = _attached(self._kept(output))
        self.origin |= {layer: self.origin[added] for added, layer in renamed.items()}
        names = {INPUT, *(layer.name for layer in layers)}
        origin = {name: one for name, one in self.origin.items() if name in names}
        network = FloatNetwork(self.name, self.shapes[INPUT], tuple(layers))
        return FloatFile(self.path, network, origin, tuple(self.notes))

    def _kept(self, output: str) -> list[FloatLayer]:
        """The layers that the output depends on, in order."""
        needed, kept = {output}, []
        for name, layer in reversed(self.layers.items()):
            if name in needed:
                needed.update(blank_layer(layer, self.shapes).reads())
                kept.append(layer)
        return kept[::-1]

    def _integers(self, output: str) -> ModelFile:
        if INPUT not in self.scales:
            raise TatamiError("its input is not quantised, other tensors are: all must be")
        draft = Draft(self.name, self.shapes[INPUT], self.scales[INPUT])
        names = {INPUT: INPUT}  # of tensors, in the network
        layers = self._kept(output)
        self._reads = Counter(one for layer in layers for one in _reads(layer))
        for layer in layers:
            where = f"'{self.origin.get(layer.name, layer.name)}'"
            if isinstance(layer, FloatComputed) and layer.name not in self.scales:
                self.refusals.add("its result is not quantised; all results must be", where)
            if isinstance(layer, FloatConv | FloatLinear) and layer.name not in self.weights:
                self.refusals.add("its weights are not quantised", where)
        self.refusals.check()
        for layer in layers:
            try:
                names[layer.name] = self._integer(draft, layer, names)
            except TatamiError as error:
                raise TatamiError(f"'{self.origin.get(layer.name, layer.name)}': {error}") from None
        network = draft.network(names[output])
        found = {names[name]: tensor for name, tensor in self.origin.items() if name in names}
        kept = {INPUT, *(layer.name for layer in network.layers)}
        return ModelFile(
            self.path,
            network,
            {name: draft.scales[name] for name in (INPUT, *(layer.name for layer in network.layers))},
            {name: tensor for name, tensor in found.items() if name in kept},
            tuple(self.notes),
            self.input_type,
        )

    def _integer(self, draft: Draft, layer: FloatLayer, names: Mapping[str, str]) -> str:
        """The layer in the network's own scales."""
        name, scale = layer.name, self.scales.get(layer.name)
        if isinstance(layer, MaxPool):
            found = draft.maximum(name, names[layer.source], layer.window)
        elif isinstance(layer, Gather) and len(layer.sources) > 1:
            sources = [names[one] for one in layer.sources]
            every = {draft.scales[one] for one in sources}
            if scale is None and len(every) > 1:
                raise TatamiError("tensors of different scales are put together, and the result has none")
            return draft.concat(name, sources, scale or every.pop())
        elif isinstance(layer, Gather):
            found = draft.channels(name, names[layer.sources[0]], layer.channel)
        elif isinstance(layer, View):
            source = names[layer.source]
            found = draft.add(replace(layer, source=source), draft.scales[source])
        else:
            return self._computed(draft, layer, names)
        if scale is None or scale == draft.scales[found]:
            return found
        return draft.rescaled(draft.fresh(f"{name}.scale"), found, scale)

    def _computed(self, draft: Draft, layer: FloatComputed, names: Mapping[str, str]) -> str:
        name, scale, clamp = layer.name, self.scales[layer.name], layer.activation or FREE
        if isinstance(clamp, Curve):
            if not isinstance(layer, FloatAdd) or not _copies(layer):
                raise TatamiError(f"{clamp.name} is taken of sums that are not quantised")
            source = names[layer.sources[0]]
            alone = self._reads[layer.sources[0]] == 1
            return draft.looked_up(name, source, clamp, scale, own=alone)
        if isinstance(layer, FloatPool):
            return draft.mean(name, names[layer.source], scale, clamp)
        if isinstance(layer, FloatAveragePool):
            return draft.average(name, names[layer.source], layer.window, scale, clamp)
        if isinstance(layer, FloatAdd):
            sources = [names[one] for one in layer.sources]
            if _copies(layer):
                return draft.rescaled(name, sources[0], scale, clamp)
            if len(sources) == 1:
                return draft.scaled(name, sources[0], layer.weight[0], layer.bias, scale, clamp)
            signs = layer.weight[:, 0].astype(int)
            if layer.bias.any() or not np.all(np.abs(layer.weight) == 1):
                raise TatamiError("a sum of tensors with factors or a bias is not supported")
            return draft.sum(name, sources, scale, clamp, [int(one) for one in signs])
        weight, steps = self.weights[name]
        source = names[layer.source]
        bias = np.rint(layer.bias / (draft.scales[source].step * np.where(steps == 0, 1, steps))).astype(
            np.int64
        )
        if isinstance(layer, FloatLinear):
            return draft.linear(name, source, weight, steps, bias, scale, clamp)
        return draft.conv(
            name, source, weight, steps, bias, scale, clamp,
            layer.stride, layer.padding, layer.dilation, layer.groups,
        )  # fmt: skip


def _reads(layer: FloatLayer) -> tuple[str, ...]:
    """The tensors that a layer without a residual reads."""
    return layer.sources if isinstance(layer, FloatAdd | Gather) else (layer.source,)


def _attached(layers: Sequence[FloatLayer]) -> tuple[list[FloatLayer], dict[str, str]]:
    """Sums of two tensors become residuals of the convolution that gives one of them, if nothing else reads
    it: they then take no layer of their own. Returns the layers, and which one a sum became.
    """
    found = {layer.name: layer for layer in layers}
    readers = Counter(one for layer in layers for one in _reads(layer))
    number = {layer.name: n for n, layer in enumerate(layers)}
    renamed: dict[str, str] = {}
    for layer in layers:
        if not isinstance(layer, FloatAdd) or len(set(layer.sources)) != 2 or not np.all(layer.weight == 1):
            continue
        # of two, the one that runs later: the other is there by then
        last, other = sorted(
            (renamed.get(one, one) for one in layer.sources), key=lambda one: number.get(one, -1)
        )[::-1]
        conv = found.get(last)
        if (
            not isinstance(conv, FloatConv)
            or conv.residual is not None
            or conv.activation is not None
            or readers[last] != 1
        ):
            continue
        residual = FloatResidual(other, np.arange(len(conv.bias)))
        found[last] = replace(
            conv, residual=residual, bias=conv.bias + layer.bias, activation=layer.activation
        )
        renamed[layer.name] = last
        readers[last] = readers[layer.name]
        del found[layer.name]
    return [_reading(layer, renamed) for layer in found.values()], renamed


def _reading(layer: FloatLayer, renamed: Mapping[str, str]) -> FloatLayer:
    """The layer, with other names of the tensors that it reads."""
    if isinstance(layer, FloatAdd | Gather):
        return replace(layer, sources=tuple(renamed.get(one, one) for one in layer.sources))
    changed = replace(layer, source=renamed.get(layer.source, layer.source))
    if isinstance(changed, FloatConv) and changed.residual is not None:
        other = changed.residual.source
        return replace(changed, residual=replace(changed.residual, source=renamed.get(other, other)))
    return changed


def _copies(layer: FloatAdd) -> bool:
    """Whether its sums are the pixels of its one source."""
    return len(layer.sources) == 1 and bool(np.all(layer.weight == 1)) and not layer.bias.any()


def _joined(first: Activation | None, second: Activation) -> Activation | None:
    """Both as one, or None."""
    if first is None:
        return second
    if isinstance(first, Clamp) and isinstance(second, Clamp):
        return first.then(second)
    return None


def _alone(node: Any, given: Mapping[str, _Constant], model: Any) -> Any:
    """A model of one node, for the package's evaluator."""
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(one.value.dtype), one.value.shape)
        for name, one in given.items()
    ]
    outputs = [helper.make_empty_tensor_value_info(name) for name in node.output if name]
    graph = helper.make_graph([node], "one", inputs, outputs)
    return helper.make_model(
        graph, opset_imports=model.opset_import, ir_version=min(model.ir_version, 10) or 8
    )


def _array(tensor: Any) -> Array:
    if math.prod(tensor.dims) > MOST_PIXELS or any(n < 0 for n in tensor.dims):
        raise TatamiError(
            f"tensor '{tensor.name}' has shape {list(tensor.dims)}: more than {MOST_PIXELS} values"
        )
    try:
        found = np.asarray(numpy_helper.to_array(tensor))
    except Exception as error:  # whatever the package raises for a type or bytes that do not fit
        said = " ".join(str(error).split())[:120]
        raise TatamiError(f"tensor '{tensor.name}' cannot be read ({said})") from None
    if found.dtype.kind == "f" and np.isnan(found).any():
        raise TatamiError(f"tensor '{tensor.name}' holds a value that is no number")
    return found


def _product(value: Array) -> float:
    """Of a constant that may be a shape."""
    if value.dtype.kind not in "iu" or value.size > 8:
        return float(value.size)
    return float(np.prod(np.abs(value.astype(np.float64))))


def _two(numbers: Sequence[int]) -> Pair:
    return (int(numbers[0]), int(numbers[1]))


def _fits(window: Window) -> bool:
    """Whether the padding is less than the window reaches."""
    reach = window.reach
    return all(pixels < most for pixels, most in zip(window.padding, (*reach, *reach), strict=True))


def _hard_sigmoid(attributes: Mapping[str, Any]) -> Curve:
    alpha, beta = attributes.get("alpha", 0.2), attributes.get("beta", 0.5)
    if math.isclose(alpha, 1 / 6, rel_tol=1e-5) and beta == 0.5:
        return activations.HARD_SIGMOID
    return Curve(f"hard_sigmoid({alpha:g},{beta:g})", lambda x: (alpha * x + beta).clip(0, 1))


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
    "Softplus": lambda _: activations.softplus(),
    "Gelu": _gelu,
    "Mish": lambda _: activations.MISH,
}
_INPUTS = {
    onnx.TensorProto.FLOAT: "FLOAT",
    onnx.TensorProto.DOUBLE: "FLOAT",
    onnx.TensorProto.FLOAT16: "FLOAT",
    onnx.TensorProto.INT8: "INT8",
    onnx.TensorProto.UINT8: "UINT8",
}
_HOST_ENDS = ("Softmax", "LogSoftmax", "QLinearSoftmax", "ArgMax")
_HOST = (
    "Sigmoid",
    "Identity",
    "Flatten",
    "Reshape",
    "Squeeze",
    "Unsqueeze",
    "QuantizeLinear",
    "DequantizeLinear",
    "Cast",
)
_Handler = Callable[[_Importer, Any, dict[str, Any]], None]
_HANDLERS: dict[str, _Handler] = {
    "Conv": _Importer.conv,
    "Gemm": _Importer.gemm,
    "MatMul": _Importer.matmul,
    "BatchNormalization": _Importer.batch_norm,
    **dict.fromkeys(("Add", "Sub", "Mul", "Div", "Sum"), _Importer.arithmetic),
    **dict.fromkeys(_CURVES, _Importer.activation),
    "Clip": _Importer.clip,
    "PRelu": _Importer.prelu,
    "MaxPool": _Importer.max_pool,
    "GlobalMaxPool": _Importer.max_pool,
    "AveragePool": _Importer.average_pool,
    "GlobalAveragePool": _Importer.global_average,
    "ReduceMean": _Importer.reduce_mean,
    **dict.fromkeys(("Identity", "Dropout", "Cast"), _Importer.same),
    "Reshape": _Importer.reshape,
    "Flatten": _Importer.flatten,
    **dict.fromkeys(("Squeeze", "Unsqueeze"), _Importer.squeeze),
    "Transpose": _Importer.transpose,
    "Slice": _Importer.slice,
    "Gather": _Importer.gather,
    "Split": _Importer.split,
    "Concat": _Importer.concat,
    "Pad": _Importer.pad,
    **dict.fromkeys(("Resize", "Upsample"), _Importer.resize),
    "DepthToSpace": _Importer.depth_to_space,
    "SpaceToDepth": _Importer.space_to_depth,
    **dict.fromkeys(_HOST_ENDS, _Importer.host),
    "QuantizeLinear": _Importer.quantize,
    "DequantizeLinear": _Importer.dequantize,
    "QLinearConv": _Importer.qlinear_conv,
    "QLinearMatMul": _Importer.qlinear_matmul,
    "QGemm": _Importer.qgemm,
    "QLinearAdd": _Importer.qlinear_add,
    **dict.fromkeys(("QLinearAveragePool", "QLinearGlobalAveragePool"), _Importer.qlinear_pool),
    "QLinearConcat": _Importer.qlinear_concat,
    **dict.fromkeys(("QLinearSigmoid", "QLinearLeakyRelu"), _Importer.qlinear_curve),
}
SUPPORTED = ", ".join(sorted(_HANDLERS))
