"""How the nodes of an ONNX file reach tensors of the network, and the operators that only move values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from pymodel.machine.errors import TatamiError
from pymodel.network.float import (
    FloatAdd,
    FloatConv,
    FloatLayer,
    blank_layer,
)
from pymodel.network.integer import (
    MAX_STRIDE,
    NOTHING,
    DepthToSpace,
    Gather,
    IntArray,
    Pair,
    Sides,
    SpaceToDepth,
    Upsample,
    Window,
)
from pymodel.network.model_file import (
    legal_name,
)
from pymodel.network.onnx_graph import HOST_ENDS, Constant, Graph, SkipNode, Value
from pymodel.network.quantised import MOST_PIXELS


class Moves(Graph):
    """What the methods of operators use, and those of operators that move values."""

    # What handlers use

    def _value(self, node: Any, place: int = 0, pending: bool = False) -> Value:
        """Input number `place`, which is computed. `pending`: the node takes zeros around it."""
        if place >= len(node.input) or not node.input[place]:
            raise TatamiError(f"input {place} is missing")
        name = node.input[place]
        if name in self.constants:
            raise TatamiError(f"input {place}, '{name}', is constant; must be computed")
        if name not in self.values:
            raise SkipNode
        value = self.values[name]
        if value.host and node.op_type not in (*HOST, *HOST_ENDS):
            raise TatamiError(f"it reads the result of {value.host}, which the host computes")
        if value.pending != NOTHING and not pending:
            value = self._padded(value)
        return value

    def _constant(self, node: Any, place: int, what: str) -> Constant | None:
        """Input number `place`, if it is given."""
        if place >= len(node.input) or not node.input[place]:
            return None
        if node.input[place] not in self.constants:
            if node.input[place] not in self.values:
                raise SkipNode
            raise TatamiError(f"{what} '{node.input[place]}' is not constant")
        return self.constants[node.input[place]]

    def _needed(self, node: Any, place: int, what: str) -> Constant:
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

    def _done(self, node: Any, name: str, dims: int = 4, place: int = 0, shape: tuple[int, ...] = ()) -> None:
        """A result is the tensor `name` of the network; `shape` is the file's, if it is not the tensor's."""
        self.values[node.output[place]] = Value(name, shape or (1, *self.shapes[name][: dims - 1]))
        if name in self.scales:
            self.origin.setdefault(name, node.output[place])
        else:
            self.origin[name] = node.output[place]

    def _alone(self, node: Any, place: int = 0) -> bool:
        """Whether nothing else reads this input of a node."""
        return len(self.readers.get(node.input[place], [])) == 1

    def _plane(self, node: Any, value: Value) -> str:
        """The tensor that has the values, in the file's order, as [channel, row, column]. A list of values
        may be a tensor of any shape.
        """
        top, left, bottom, right = value.pending
        channels, rows, columns = (*value.shape[1:], 1, 1)[:3]
        shape = (channels, rows - top - bottom, columns - left - right)
        if value.order is None and (len(value.shape) == 2 or shape == self.shapes[value.name]):
            return value.name
        order = value.numbers().reshape(shape)
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

    def _padded(self, value: Value) -> Value:
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
        return Value(name, (1, *self.shapes[name]))

    def _window(
        self, attributes: Mapping[str, Any], size: Sequence[int], value: Value
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

    # Operators that move values

    def _apart(self, apart: bool) -> None:
        """Raises `TatamiError` if a node mixes images: if not `apart`, and if there are several."""
        if self.batch > 1 and not apart:
            raise TatamiError(f"it mixes the {self.batch} images of its input: they must stay apart")

    def _moved(self, node: Any, value: Value, order: IntArray, place: int = 0) -> None:
        """A result has the values of `value` of these numbers."""
        if not order.size:
            raise TatamiError("its result has no values")
        if order.size > MOST_PIXELS or order.shape[0] != 1:
            raise TatamiError(f"its result has shape {order.shape}: images must stay apart")
        whole = math.prod(self.shapes[value.name])
        plain = order.size == whole and np.array_equal(order.reshape(-1), np.arange(whole))
        self.values[node.output[place]] = Value(
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
        self._apart(bool(wanted) and wanted[0] in (self.batch, 0, -1))
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
        self._apart(0 not in (axes or ()))
        if node.op_type == "Unsqueeze":
            self._moved(node, value, np.expand_dims(numbers, tuple(axes or ())))
        else:
            ones = tuple(n for n in range(1, numbers.ndim) if numbers.shape[n] == 1)
            self._moved(node, value, np.squeeze(numbers, tuple(axes) if axes else ones))

    def transpose(self, node: Any, attributes: dict[str, Any]) -> None:
        value = self._value(node)
        numbers = value.numbers()
        perm = list(attributes.get("perm") or range(numbers.ndim)[::-1])
        self._apart(perm[0] == 0)
        self._moved(node, value, numbers.transpose(perm))

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
            self._apart(axis % numbers.ndim != 0 or (start == 0 and step == 1 and end >= self.batch))
            # as ONNX clamps them; behind the first value, going down, is before it
            last = None if step < 0 and end < -n else end
            picked[axis % numbers.ndim] = slice(start, last, step)
        self._moved(node, value, numbers[tuple(picked)])

    def gather(self, node: Any, attributes: dict[str, Any]) -> None:
        value = self._value(node)
        index = self._needed(node, 1, "indices").value
        axis = int(attributes.get("axis", 0))
        self._apart(axis % len(value.shape) != 0)
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
            self._apart(axis != 0)
            self._moved(node, values[0], np.concatenate([value.numbers() for value in values], axis))
            return
        sources = [self._plane(node, value) for value in values]
        shapes = [self.shapes[source] for source in sources]
        if axis != 1 or dims < 2 or (dims == 2 and any(shape[1:] != (1, 1) for shape in shapes)):
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
        mode = attributes.get("mode", "constant")
        if mode != "constant":
            raise TatamiError(f"mode is {mode}, must be constant")
        if len(pads) != 2 * dims:
            raise TatamiError(f"pads are {pads}, must be {2 * dims} numbers")
        if not any(pads):
            self.values[node.output[0]] = value
            return
        if dims != 4 or min(pads) < 0 or pads[0] or pads[4]:
            raise TatamiError(f"pads are {pads}: only zeros around channels, rows and columns")
        if number:
            self._surrounded(node, value, number, pads)
            return
        source = self._plane(node, value)
        if pads[1] or pads[5]:
            count = self.shapes[source][0]
            channel = np.concatenate([np.full(pads[1], -1), np.arange(count), np.full(pads[5], -1)])
            source = self._picked(node, source, channel)
        top, left, bottom, right = (a + b for a, b in zip(value.pending, _sides(pads), strict=True))
        _, rows, columns = self.shapes[source]
        shape = (1, self.shapes[source][0], rows + top + bottom, columns + left + right)
        self.values[node.output[0]] = Value(source, shape, pending=(top, left, bottom, right))

    def _surrounded(self, node: Any, value: Value, number: float, pads: Sequence[int]) -> None:
        """Another number than zero put around a tensor: zeros around the values less that number, and the
        number added behind.
        """
        if value.pending != NOTHING:
            value = self._padded(value)
        source = self._plane(node, value)
        if pads[1] or pads[5]:
            raise TatamiError(f"pads are {pads}: channels of {number:g} cannot be put around, only of zeros")
        if self.scales:
            raise TatamiError(f"value is {number:g}, must be 0 in a quantised network")
        channels = self.shapes[source][0]
        less = FloatAdd(
            self._fresh(node, f"{source}.less"), (source,), np.ones((1, channels)), np.full(channels, -number)
        )
        inner = self._padded(Value(self._add(less), value.shape, pending=_sides(pads)))
        layer = self.layers[inner.name]
        assert isinstance(layer, FloatConv)  # what puts zeros around
        self.layers[inner.name] = replace(layer, bias=np.full(channels, number))
        self._done(node, inner.name)

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
        axes = [axis % len(value.shape) for axis in attributes.get("axes") or range(len(value.shape))]
        sizes = self._numbers(node, 3, "sizes")
        if factors is None and sizes:
            factors = [size / value.shape[axis] for size, axis in zip(sizes, axes, strict=True)]
            policy = attributes.get("keep_aspect_ratio_policy", "stretch")
            if policy != "stretch":
                factors = [(min if policy == "not_larger" else max)(factors)] * len(factors)
        if factors is not None:
            by_axis = dict(zip(axes, factors, strict=True))
            factors = [by_axis.get(axis, 1.0) for axis in range(len(value.shape))]
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
        mode = attributes.get("mode", "DCR")
        split = numbers.reshape(1, c, h // block, block, w // block, block)
        split = split.transpose((0, 3, 5, 1, 2, 4) if mode == "DCR" else (0, 1, 3, 5, 2, 4))
        self._moved(node, value, split.reshape(1, c * block**2, h // block, w // block))


def _two(numbers: Sequence[int]) -> Pair:
    return (int(numbers[0]), int(numbers[1]))


def _sides(pads: Sequence[int]) -> Sides:
    """Of eight pads of ONNX, those of rows and columns."""
    return (pads[2], pads[3], pads[6], pads[7])


def fits(window: Window) -> bool:
    """Whether the padding is less than the window reaches."""
    reach = window.reach
    return all(pixels < most for pixels, most in zip(window.padding, (*reach, *reach), strict=True))


HOST = (
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
