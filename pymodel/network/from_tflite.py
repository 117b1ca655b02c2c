"""Reads a TensorFlow Lite model (LiteRT) that is quantised to int8, as an integer network.

Scales, zero points and weights stay as they are in the file; nothing is quantised again. The file's tensors
are `[1, rows, columns, channels]`; here they are `[channel, row, column]`, so weights are transposed and
channels that a fully connected layer reads are put into another order. See
https://ai.google.dev/edge/litert/models/quantization_spec for what the operators mean.

What only the host can do is left to it where it stands at the end: softmax, and back to real numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tflite

from pymodel.machine.errors import TatamiError
from pymodel.network.activations import (
    HARD_SWISH,
    RELU,
    SIGMOID,
    TANH,
    Clamp,
    Curve,
    elu,
    leaky_relu,
)
from pymodel.network.integer import (
    INPUT,
    NOTHING,
    DepthToSpace,
    IntArray,
    Pair,
    Shape,
    Sides,
    SpaceToDepth,
    Upsample,
    Window,
)
from pymodel.network.model_file import NOT_SUPPORTED, ModelFile, Refusals, legal_name, parsed
from pymodel.network.quantised import FREE, RELU6, Draft, FloatArray
from pymodel.network.scale import Scale

KIND = "TensorFlow Lite"
IDENTIFIER = b"TFL3"  # bytes 4 to 7 of a file
MOST_TENSORS = 1 << 16


def _names(enumeration: type) -> dict[int, str]:
    return {value: name for name, value in vars(enumeration).items() if isinstance(value, int)}


OPERATORS = _names(tflite.BuiltinOperator)
TYPES = _names(tflite.TensorType)
DTYPES = {"INT8": np.int8, "INT32": np.int32, "INT64": np.int64, "FLOAT32": np.float32}
ACTIVATIONS = _names(tflite.ActivationFunctionType)
CLAMPS = {"NONE": FREE, "RELU": RELU, "RELU6": RELU6, "RELU_N1_TO_1": Clamp(-1.0, 1.0)}
SAME = tflite.Padding.SAME

# The fields of an operator's options that are read, by the table of the schema that has them.
OPTIONS: dict[str, tuple[Any, tuple[str, ...]]] = {
    "CONV_2D": (
        tflite.Conv2DOptions,
        (
            "Padding",
            "StrideH",
            "StrideW",
            "DilationHFactor",
            "DilationWFactor",
            "FusedActivationFunction",
        ),
    ),
    "DEPTHWISE_CONV_2D": (
        tflite.DepthwiseConv2DOptions,
        (
            "Padding",
            "StrideH",
            "StrideW",
            "DilationHFactor",
            "DilationWFactor",
            "FusedActivationFunction",
        ),
    ),
    **dict.fromkeys(
        ("AVERAGE_POOL_2D", "MAX_POOL_2D"),
        (
            tflite.Pool2DOptions,
            ("Padding", "StrideH", "StrideW", "FilterHeight", "FilterWidth", "FusedActivationFunction"),
        ),
    ),
    "FULLY_CONNECTED": (tflite.FullyConnectedOptions, ("FusedActivationFunction", "WeightsFormat")),
    "ADD": (tflite.AddOptions, ("FusedActivationFunction",)),
    "SUB": (tflite.SubOptions, ("FusedActivationFunction",)),
    "MUL": (tflite.MulOptions, ("FusedActivationFunction",)),
    "CONCATENATION": (tflite.ConcatenationOptions, ("Axis", "FusedActivationFunction")),
    "LEAKY_RELU": (tflite.LeakyReluOptions, ("Alpha",)),
    "RESIZE_NEAREST_NEIGHBOR": (tflite.ResizeNearestNeighborOptions, ("AlignCorners",)),
    "DEPTH_TO_SPACE": (tflite.DepthToSpaceOptions, ("BlockSize",)),
    "SPACE_TO_DEPTH": (tflite.SpaceToDepthOptions, ("BlockSize",)),
    "SPLIT": (tflite.SplitOptions, ("NumSplits",)),
    "STRIDED_SLICE": (
        tflite.StridedSliceOptions,
        ("BeginMask", "EndMask", "EllipsisMask", "NewAxisMask", "ShrinkAxisMask"),
    ),
}


@dataclass(frozen=True)
class _Tensor:
    """A tensor of the file. `data` if it is constant; `steps` and `zeros` if it is quantised."""

    number: int
    name: str
    shape: tuple[int, ...]
    dynamic: bool
    type: str
    data: npt.NDArray[Any] | None
    steps: FloatArray
    zeros: npt.NDArray[np.int64]
    axis: int
    sparse: bool

    @property
    def label(self) -> str:
        return f"'{self.name.split(';')[0]}'" if self.name else f"tensor {self.number}"

    @property
    def scale(self) -> Scale:
        """Of an activation."""
        if self.type != "INT8":
            raise TatamiError(f"tensor {self.label} is {self.type}, must be INT8")
        if len(self.steps) != 1 or len(self.zeros) != 1:
            raise TatamiError(f"tensor {self.label} has {len(self.steps)} scales, must have one")
        return Scale(float(self.steps[0]), int(self.zeros[0]))


@dataclass(frozen=True)
class _Operator:
    kind: str
    inputs: tuple[int, ...]  # -1: not given
    outputs: tuple[int, ...]
    options: Mapping[str, int | float]


@dataclass(frozen=True)
class _Graph:
    tensors: tuple[_Tensor, ...]
    operators: tuple[_Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def from_tflite(path: Path, name: str, shape: Shape | None = None) -> ModelFile:
    """The network of a file. `shape` (channels, rows, columns) replaces that of its input, for a file that
    leaves it open.

    Raises `TatamiError`, one line that begins with the path, for a file that is damaged and for everything in
    it that is not supported, all at once, each with its node.
    """
    graph = parsed(path, KIND, _parse)
    return _Importer(path, graph, name, shape).run()


def _parse(raw: bytes) -> _Graph:
    if raw[4:8] != IDENTIFIER:
        raise TatamiError(f"is no {KIND} file: bytes 4 to 7 are {raw[4:8]!r}, must be {IDENTIFIER!r}")
    model = tflite.Model.GetRootAs(raw, 0)
    if model.SubgraphsLength() < 1:
        raise TatamiError("it has no subgraph")
    graph = model.Subgraphs(0)
    for what, count in (("tensors", graph.TensorsLength()), ("operators", graph.OperatorsLength())):
        if count > MOST_TENSORS:
            raise TatamiError(f"it has {count} {what}, must have at most {MOST_TENSORS}")
    tensors = tuple(_parse_tensor(model, graph.Tensors(n), n) for n in range(graph.TensorsLength()))
    operators = tuple(_parse_operator(model, graph.Operators(n)) for n in range(graph.OperatorsLength()))
    found = _Graph(tensors, operators, _whole(graph.InputsAsNumpy()), _whole(graph.OutputsAsNumpy()))
    for each in (*operators, _Operator("the graph", found.inputs, found.outputs, {})):
        for number in (*each.inputs, *each.outputs):
            if not -1 <= number < len(tensors):
                raise TatamiError(f"{each.kind} names tensor {number}, there are {len(tensors)}")
    return found


def _whole(values: Any) -> tuple[int, ...]:
    """Of a vector that may be missing, for which flatbuffers gives 0."""
    return () if isinstance(values, int) else tuple(int(one) for one in values)


def _parse_tensor(model: Any, tensor: Any, number: int) -> _Tensor:
    kind = TYPES.get(tensor.Type(), f"type {tensor.Type()}")
    shape = _whole(tensor.ShapeAsNumpy())
    signature = _whole(tensor.ShapeSignatureAsNumpy())
    name = (tensor.Name() or b"").decode(errors="replace")
    where = f"tensor '{name}'"
    if any(n < 0 for n in shape):
        raise TatamiError(f"{where} has shape {shape}")
    buffer = model.Buffers(tensor.Buffer())
    data = None
    if buffer is not None and buffer.DataLength():
        raw = buffer.DataAsNumpy()
        if kind in DTYPES:
            dtype = np.dtype(DTYPES[kind])
            if len(raw) != math.prod(shape) * dtype.itemsize:
                raise TatamiError(f"{where} has {len(raw)} bytes of {kind}, its shape {shape} needs others")
            data = np.frombuffer(raw.tobytes(), dtype.newbyteorder("<")).astype(dtype).reshape(shape)
        else:
            data = raw
    elif buffer is not None and buffer.Size() > 1:
        raise TatamiError(f"{where} lies outside of the flatbuffer, which is not supported")
    quantisation = tensor.Quantization()
    steps, zeros, axis = np.zeros(0), np.zeros(0, np.int64), 0
    if quantisation is not None and quantisation.ScaleLength():
        steps = quantisation.ScaleAsNumpy().astype(np.float64)
        zeros = np.zeros(len(steps), np.int64)
        if quantisation.ZeroPointLength():
            zeros = quantisation.ZeroPointAsNumpy().astype(np.int64)
        axis = quantisation.QuantizedDimension()
    sparse = tensor.Sparsity() is not None
    return _Tensor(number, name, shape, -1 in signature[1:], kind, data, steps, zeros, axis, sparse)


def _parse_operator(model: Any, operator: Any) -> _Operator:
    code = model.OperatorCodes(operator.OpcodeIndex())
    number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
    kind = OPERATORS.get(number, f"operator {number}")
    if kind == "CUSTOM":
        kind = f"CUSTOM {(code.CustomCode() or b'').decode(errors='replace')}"
    options: dict[str, int | float] = {}
    if kind in OPTIONS and operator.BuiltinOptions() is not None:
        table, names = OPTIONS[kind]
        read = table()
        found = operator.BuiltinOptions()
        read.Init(found.Bytes, found.Pos)
        options = {name: getattr(read, name)() for name in names}
    return _Operator(kind, _whole(operator.InputsAsNumpy()), _whole(operator.OutputsAsNumpy()), options)


@dataclass(frozen=True)
class _Value:
    """What a tensor of the file is here: a tensor of the network, of which the file has row, column and
    channel as `shape`. `pending`: zero points around it that the next window takes. `host`: what the host has
    to do to get it.
    """

    name: str
    shape: tuple[int, ...]
    pending: Sides = NOTHING
    host: str = ""


class _Skip(Exception):  # noqa: N818
    """An operator reads the result of a refused one, so nothing can be said about it."""


@dataclass
class _Importer:
    path: Path
    graph: _Graph
    name: str
    given: Shape | None
    refusals: Refusals = field(init=False)
    values: dict[int, _Value] = field(default_factory=dict)
    origin: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.refusals = Refusals(self.path, SUPPORTED)
        self.readers: dict[int, list[_Operator]] = {}
        for operator in self.graph.operators:
            for number in operator.inputs:
                self.readers.setdefault(number, []).append(operator)
        for number in self.graph.outputs:
            self.readers.setdefault(number, []).append(_Operator("the graph", (), (), {}))

    def run(self) -> ModelFile:
        for what, numbers in (("input", self.graph.inputs), ("output", self.graph.outputs)):
            if len(numbers) != 1:
                named = ", ".join(self.graph.tensors[n].label for n in numbers[:9] if n >= 0)
                raise TatamiError(f"{self.path}: it has {len(numbers)} {what}s ({named}), must have 1")
        try:
            self.draft = self._begin()
        except TatamiError as error:
            raise TatamiError(f"{self.path}: {error}") from None
        for operator in self.graph.operators:
            self._step(operator)
        self.refusals.check()
        output = self.graph.outputs[0]
        if output not in self.values:
            raise TatamiError(f"{self.path}: no operator computes {self.graph.tensors[output].label}")
        found = self._settled(self.values[output])
        try:
            network = self.draft.network(found.name)
        except TatamiError as error:
            raise TatamiError(f"{self.path}: {error}") from None
        left = [layer.name for layer in network.layers]
        if found.host:
            self.notes.append(f"left to the host: {found.host}")
        return ModelFile(
            self.path,
            network,
            {name: self.draft.scales[name] for name in (INPUT, *left)},
            {name: self.origin[name] for name in left if name in self.origin},
            tuple(self.notes),
            self.graph.tensors[self.graph.inputs[0]].type.removesuffix("32"),
        )

    def _begin(self) -> Draft:
        """The network's input: the file's, behind the operators that only give it another shape or type."""
        number = self.graph.inputs[0]
        tensor = self.graph.tensors[number]
        while len(readers := self.readers.get(number, [])) == 1 and readers[0].outputs:
            now = self.graph.tensors[number]
            typed = readers[0].kind == "QUANTIZE" and now.type != "INT8"
            if not typed and (readers[0].kind not in _RESHAPES or len(now.shape) == 4):
                break
            number = readers[0].outputs[0]
            if number in self.values or number in self.graph.inputs or number < 0:
                break
            self.values[number] = _Value(INPUT, ())
        first = self.graph.tensors[number]
        if self.given is None and (tensor.dynamic or first.dynamic):
            raise TatamiError(
                f"input {tensor.label} has a shape that is left open; give it: SHAPE=channels,rows,columns"
            )
        shape = self.given or _channels_first(first)
        scale = first.scale
        if tensor.type != "INT8":
            self.notes.append(
                f"the file's input is {tensor.type}; the network's is INT8, real = {scale.step:g} *"
                f" (value {-scale.zero:+d})"
            )
        if min(shape) < 1:
            raise TatamiError(f"input {tensor.label} has shape {first.shape}")
        draft = Draft(self.name, shape, scale)
        value = _Value(INPUT, (1, *shape[1:], shape[0]))
        self.values = dict.fromkeys((self.graph.inputs[0], *self.values, number), value)
        self.origin[INPUT] = str(number)
        return draft

    def _step(self, operator: _Operator) -> None:
        outputs = [self.graph.tensors[n] for n in operator.outputs if n >= 0]
        label = outputs[0].label if outputs else "without a result"
        node = f"{operator.kind} {label}"
        if outputs and all(tensor.number in self.values for tensor in outputs):
            return  # in front of the network's input
        handler = _HANDLERS.get(operator.kind)
        try:
            if handler is None:
                self.refusals.add(NOT_SUPPORTED, node)
                return
            if len(outputs) != len(operator.outputs) or not outputs:
                raise TatamiError("it has no result")
            handler(self, operator)
        except _Skip:
            return
        except TatamiError as error:
            self.refusals.add(str(error), node)
            return
        for tensor in outputs:
            if tensor.number in self.values:
                self._check_shape(tensor, node)

    def _check_shape(self, tensor: _Tensor, node: str) -> None:
        value = self.values[tensor.number]
        if self.given is not None or value.pending != NOTHING:
            return
        here = self.draft.shapes[value.name]
        if math.prod(tensor.shape) != math.prod(here) or tensor.shape[:1] != (1,):
            channels, rows, columns = here
            self.refusals.add(
                f"its result has shape {tensor.shape} in the file, must be (1, {rows}, {columns},"
                f" {channels}) or that many values in two dimensions",
                node,
            )

    # What handlers use

    def _tensor(self, operator: _Operator, place: int) -> _Tensor | None:
        """Input number `place`, if it is given."""
        if place >= len(operator.inputs) or operator.inputs[place] < 0:
            return None
        return self.graph.tensors[operator.inputs[place]]

    def _value(self, operator: _Operator, place: int = 0, pending: bool = False) -> _Value:
        """Input number `place`, which is computed. `pending`: the operator takes zero points around it."""
        tensor = self._tensor(operator, place)
        if tensor is None:
            raise TatamiError(f"input {place} is missing")
        if tensor.data is not None:
            raise TatamiError(f"input {place}, {tensor.label}, is constant; must be computed")
        if tensor.number not in self.values:
            raise _Skip
        value = self.values[tensor.number]
        if value.host and operator.kind not in _HOST:
            raise TatamiError(f"it reads the result of {value.host}, which the host computes")
        return value if pending else self._settled(value)

    def _settled(self, value: _Value) -> _Value:
        """The tensor, with zero points that are still to come around it."""
        if value.pending == NOTHING:
            return value
        name = self.draft.padded(self.draft.fresh(f"{value.name}.pad"), value.name, value.pending)
        return _Value(name, ())

    def _constant(self, operator: _Operator, place: int, kinds: Iterable[str]) -> _Tensor:
        tensor = self._tensor(operator, place)
        if tensor is None:
            raise TatamiError(f"input {place} is missing")
        if tensor.sparse:
            raise TatamiError(f"{tensor.label} is stored sparse")
        if tensor.data is None:
            raise TatamiError(f"input {place}, {tensor.label}, is not constant")
        if tensor.type not in kinds:
            raise TatamiError(f"{tensor.label} is {tensor.type}, must be {' or '.join(kinds)}")
        return tensor

    def _numbers(self, operator: _Operator, place: int) -> list[int]:
        """A constant vector of whole numbers."""
        data = self._constant(operator, place, ("INT32", "INT64")).data
        assert data is not None
        return [int(one) for one in data.reshape(-1)]

    def _out(self, operator: _Operator, place: int = 0) -> tuple[_Tensor, str, Scale]:
        tensor = self.graph.tensors[operator.outputs[place]]
        name = self.draft.fresh(legal_name(tensor.name, f"{operator.kind.lower()}_{tensor.number}"))
        return tensor, name, tensor.scale

    def _done(self, operator: _Operator, name: str, place: int = 0) -> None:
        """The operator's result is the tensor `name` of the network."""
        tensor = self.graph.tensors[operator.outputs[place]]
        self.values[tensor.number] = _Value(name, tensor.shape)
        if name != INPUT:
            self.origin[name] = str(tensor.number)

    def _same_scale(self, operator: _Operator, value: _Value) -> None:
        """Of operators that move pixels."""
        scale = self.graph.tensors[operator.outputs[0]].scale
        if scale != self.draft.scales[value.name]:
            raise TatamiError(
                f"its result has scale {scale.step:g} and zero point {scale.zero}, its input others; must be"
                " equal"
            )

    def _clamp(self, operator: _Operator) -> Clamp:
        kind = ACTIVATIONS.get(int(operator.options.get("FusedActivationFunction", 0)), "of unknown kind")
        if kind not in CLAMPS:
            raise TatamiError(f"activation {kind} is not supported; supported: {', '.join(CLAMPS)}")
        return CLAMPS[kind]

    def _window(self, operator: _Operator, size: Pair, value: _Value) -> tuple[Window, bool]:
        """The operator's window, and whether SAME makes it reach outside of its source."""
        option = operator.options
        stride = int(option.get("StrideH", 1)), int(option.get("StrideW", 1))
        dilation = int(option.get("DilationHFactor", 1)), int(option.get("DilationWFactor", 1))
        free = Window(size, stride, NOTHING, dilation)
        if min(*size, *stride, *dilation) < 1:
            raise TatamiError(f"kernel {size}, stride {stride} and dilation {dilation} must be positive")
        top, left, bottom, right = value.pending
        rows, columns = self.draft.shapes[value.name][1:]
        if option.get("Padding", SAME) != SAME:
            return Window(size, stride, value.pending, dilation), False
        sides = [
            _same_padding(source, reach, step)
            for source, reach, step in zip(
                (rows + top + bottom, columns + left + right), free.reach, stride, strict=True
            )
        ]
        (above, below), (before, behind) = sides
        padding = (top + above, left + before, bottom + below, right + behind)
        return Window(size, stride, padding, dilation), any(above + below for above, below in sides)

    def _filters(
        self, operator: _Operator, value: _Value, axis: int
    ) -> tuple[IntArray, FloatArray, IntArray]:
        """Weights, their step by filter, and the bias. `axis` of the weights counts the filters."""
        weight = self._constant(operator, 1, ("INT8",))
        data = weight.data
        assert data is not None
        filters = data.shape[axis] if data.ndim > axis else 0
        if not filters or not data.size:
            raise TatamiError(f"weight {weight.label} has shape {data.shape}")
        if not len(weight.steps) or weight.zeros.any():
            raise TatamiError(f"weight {weight.label} has zero points or no scale; must be symmetric")
        if len(weight.steps) == 1:
            steps = np.full(filters, weight.steps[0])
        elif len(weight.steps) == filters and weight.axis == axis:
            steps = weight.steps
        else:
            raise TatamiError(
                f"weight {weight.label} has {len(weight.steps)} scales along axis {weight.axis}, must have"
                f" {filters} along axis {axis}"
            )
        bias = np.zeros(filters, np.int64)
        if self._tensor(operator, 2) is not None:
            tensor = self._constant(operator, 2, ("INT32",))
            assert tensor.data is not None
            if tensor.data.shape != (filters,):
                raise TatamiError(f"bias {tensor.label} has shape {tensor.data.shape}, must be ({filters},)")
            own, needed = tensor.steps, self.draft.scales[value.name].step * steps
            if len(own) not in (0, 1, filters) or not np.allclose(
                own, needed if len(own) > 1 else needed[:1], 1e-3
            ):
                raise TatamiError(f"bias {tensor.label} is not in steps of input and weights")
            bias = tensor.data.astype(np.int64)
        return data, steps, bias

    # The operators

    def conv(self, operator: _Operator) -> None:
        value = self._value(operator, pending=True)
        weight, steps, bias = self._filters(operator, value, 0)
        if weight.ndim != 4:
            raise TatamiError(f"weight has shape {weight.shape}, must have four dimensions")
        channels = self.draft.shapes[value.name][0]
        groups, odd = divmod(channels, weight.shape[3])
        if odd:
            raise TatamiError(f"weight is for {weight.shape[3]} channels, the input has {channels}")
        self._convolve(operator, value, weight.transpose(0, 3, 1, 2), steps, bias, groups)

    def depthwise(self, operator: _Operator) -> None:
        value = self._value(operator, pending=True)
        weight, steps, bias = self._filters(operator, value, 3)
        if weight.ndim != 4 or weight.shape[0] != 1:
            raise TatamiError(f"weight has shape {weight.shape}, must be (1, rows, columns, filters)")
        channels = self.draft.shapes[value.name][0]
        self._convolve(operator, value, weight.transpose(3, 0, 1, 2), steps, bias, channels)

    def _convolve(
        self,
        operator: _Operator,
        value: _Value,
        weight: IntArray,
        steps: FloatArray,
        bias: IntArray,
        groups: int,
    ) -> None:
        _, name, scale = self._out(operator)
        window, _ = self._window(operator, (weight.shape[2], weight.shape[3]), value)
        if not _fits(window):
            value = self._settled(value)
            window, _ = self._window(operator, window.size, value)
        found = self.draft.conv(
            name,
            value.name,
            np.ascontiguousarray(weight),
            steps,
            bias,
            scale,
            self._clamp(operator),
            window.stride,
            window.padding,
            window.dilation,
            groups,
        )
        self._done(operator, found)

    def fully_connected(self, operator: _Operator) -> None:
        value = self._value(operator)
        if operator.options.get("WeightsFormat", 0) != 0:
            raise TatamiError(
                f"its weights are in format {operator.options['WeightsFormat']}, must be DEFAULT"
            )
        weight, steps, bias = self._filters(operator, value, 0)
        channels, rows, columns = self.draft.shapes[value.name]
        if weight.ndim != 2 or weight.shape[1] != channels * rows * columns:
            raise TatamiError(
                f"weight has shape {weight.shape}, must be (filters, {channels * rows * columns}): as many"
                " inputs as the image has values"
            )
        _, name, scale = self._out(operator)
        ours = weight.reshape(-1, rows, columns, channels).transpose(0, 3, 1, 2).reshape(len(weight), -1)
        clamp = self._clamp(operator)
        self._done(
            operator,
            self.draft.linear(name, value.name, np.ascontiguousarray(ours), steps, bias, scale, clamp),
        )

    def pool(self, operator: _Operator) -> None:
        largest = operator.kind == "MAX_POOL_2D"
        value = self._value(operator, pending=True)
        given = self.draft.scales[value.name]
        self._same_scale(operator, value)
        size = int(operator.options.get("FilterHeight", 0)), int(operator.options.get("FilterWidth", 0))
        window, outside = self._window(operator, size, value)
        # a zero point around a maximum counts, as a pixel outside does not, unless it is the least there is
        if value.pending != NOTHING and (outside or not _fits(window) or (largest and given.zero != -128)):
            value = self._settled(value)
            window, outside = self._window(operator, size, value)
        _, name, scale = self._out(operator)
        if largest:
            found = self.draft.maximum(name, value.name, window, self._clamp(operator))
        else:
            found = self.draft.average(name, value.name, window, scale, self._clamp(operator), outside)
        self._done(operator, found)

    def mean(self, operator: _Operator) -> None:
        value = self._value(operator)
        axes = sorted(axis % 4 for axis in self._numbers(operator, 1))
        if len(value.shape or (0,) * 4) != 4 or axes != [1, 2]:
            raise TatamiError(f"its axes are {axes}, must be 1 and 2: rows and columns")
        _, name, scale = self._out(operator)
        self._done(operator, self.draft.mean(name, value.name, scale))

    def sum(self, operator: _Operator) -> None:
        constant = [place for place in (0, 1) if (t := self._tensor(operator, place)) and t.data is not None]
        if constant:
            self._by_channel(operator, constant[0])
            return
        if operator.kind == "MUL":
            raise TatamiError("of two tensors is not supported; one must be constant")
        values = [self._value(operator, place) for place in (0, 1)]
        _, name, scale = self._out(operator)
        sources = [value.name for value in values]
        signs = (1, 1 if operator.kind == "ADD" else -1)
        self._done(operator, self.draft.sum(name, sources, scale, self._clamp(operator), signs))

    def _by_channel(self, operator: _Operator, place: int) -> None:
        """A tensor and a constant for each channel, or one for all."""
        value = self._value(operator, 1 - place)
        constant = self._constant(operator, place, ("INT8",))
        channels = self.draft.shapes[value.name][0]
        data, scale = constant.data, constant.scale
        assert data is not None
        if data.size not in (1, channels) or data.size != (data.shape or (1,))[-1]:
            raise TatamiError(
                f"constant {constant.label} has shape {data.shape}, must be one value or {channels}, one a"
                " channel"
            )
        real = scale.step * np.broadcast_to(data.reshape(-1).astype(np.float64) - scale.zero, channels)
        _, name, out = self._out(operator)
        ones, zeros, clamp = np.ones(channels), np.zeros(channels), self._clamp(operator)
        if operator.kind == "SUB":
            sign = 1 if place == 1 else -1
            found = self.draft.scaled(name, value.name, sign * ones, -sign * real, out, clamp)
        elif operator.kind == "ADD":
            found = self.draft.scaled(name, value.name, ones, real, out, clamp)
        else:
            found = self.draft.scaled(name, value.name, real, zeros, out, clamp)
        self._done(operator, found)

    def concat(self, operator: _Operator) -> None:
        values = [self._value(operator, place) for place in range(len(operator.inputs))]
        shape = self.graph.tensors[operator.outputs[0]].shape
        axis = int(operator.options.get("Axis", 0)) % max(1, len(shape))
        flat = len(shape) == 2 and all(self.draft.shapes[one.name][1:] == (1, 1) for one in values)
        if not values or axis != len(shape) - 1 or not (len(shape) == 4 or flat):
            raise TatamiError(f"along axis {axis} of {len(shape)}: only channels can be put together")
        _, name, scale = self._out(operator)
        sources = [value.name for value in values]
        self._done(
            operator, self.draft.clamped(self.draft.concat(name, sources, scale), self._clamp(operator))
        )

    def pad(self, operator: _Operator) -> None:
        value = self._value(operator, pending=True)
        self._same_scale(operator, value)
        numbers = self._numbers(operator, 1)
        pairs = [(numbers[n], numbers[n + 1]) for n in range(0, len(numbers) - 1, 2)]
        if len(pairs) != 4 or any(numbers[:2]) or min(numbers) < 0:
            raise TatamiError(f"padding is {numbers}, must be four pairs, none of images")
        if operator.kind == "PADV2":
            data = self._constant(operator, 2, ("INT8",)).data
            zero = self.draft.scales[value.name].zero
            if data is None or (data != zero).any():
                raise TatamiError(f"it pads with a value other than the zero point, {zero}")
        name = value.name
        if any(pairs[3]):
            name = self._settled(value).name
            value = _Value(name, ())
            count = self.draft.shapes[name][0]
            channel = np.concatenate([np.full(pairs[3][0], -1), np.arange(count), np.full(pairs[3][1], -1)])
            name = self.draft.channels(self.draft.fresh(f"{name}.pad"), name, channel)
        (top, bottom), (left, right) = pairs[1:3]
        sides = (top, left, bottom, right)
        whole = tuple(a + b for a, b in zip(value.pending, sides, strict=True))
        output = self.graph.tensors[operator.outputs[0]]
        self.values[output.number] = _Value(name, output.shape, (whole[0], whole[1], whole[2], whole[3]))

    def reshape(self, operator: _Operator) -> None:
        value = self._value(operator)
        self._same_scale(operator, value)
        output = self.graph.tensors[operator.outputs[0]]
        channels, rows, columns = self.draft.shapes[value.name]
        # as the file has it: all values in one row, or the same tensor with other dimensions of one
        flat = len(output.shape) == 2 and output.shape == (1, channels * rows * columns)
        ones = [n for n in output.shape if n != 1]
        same = len(output.shape) == 4 and output.shape == (1, rows, columns, channels)
        if not (self.given and len(output.shape) in (2, 4)) and not (
            flat or same or (rows == columns == 1 and ones in ([channels], []))
        ):
            raise TatamiError(
                f"from (1, {rows}, {columns}, {channels}) to {output.shape}: only to one row of all values"
            )
        self.values[output.number] = _Value(value.name, output.shape, host=value.host)

    def host(self, operator: _Operator) -> None:
        value = self._value(operator)
        output = self.graph.tensors[operator.outputs[0]]
        if operator.kind == "DEQUANTIZE" or self._ends(output):
            step = "" if operator.kind == "DEQUANTIZE" else operator.kind
            said = ", ".join(one for one in (value.host, step) if one) or "DEQUANTIZE"
            self.values[output.number] = _Value(value.name, output.shape, host=said)
        elif operator.kind == "LOGISTIC":
            self.function(operator)
        else:
            raise TatamiError("only at the end, where it is left to the host")

    def _ends(self, tensor: _Tensor) -> bool:
        """Whether nothing but the host's operators read it."""
        return all(
            one.kind == "the graph" or (one.kind in _HOST and all(map(self._ends, self._outputs(one))))
            for one in self.readers.get(tensor.number, [])
        )

    def _outputs(self, operator: _Operator) -> Sequence[_Tensor]:
        return [self.graph.tensors[n] for n in operator.outputs if n >= 0 and n not in operator.inputs]

    def quantise(self, operator: _Operator) -> None:
        value = self._value(operator)
        _, name, scale = self._out(operator)
        same = scale == self.draft.scales[value.name]
        self._done(operator, value.name if same else self.draft.rescaled(name, value.name, scale))

    def function(self, operator: _Operator) -> None:
        value = self._value(operator)
        _, name, scale = self._out(operator)
        own = len(self.readers[operator.inputs[0]]) == 1
        if operator.kind in CLAMPS:
            self._done(operator, self.draft.rescaled(name, value.name, scale, CLAMPS[operator.kind]))
            return
        function = _FUNCTIONS[operator.kind](operator.options)
        found = self.draft.looked_up(name, value.name, function, scale, own)
        self._done(operator, found)

    def upsample(self, operator: _Operator) -> None:
        value = self._value(operator)
        self._same_scale(operator, value)
        size = self._numbers(operator, 1)
        here = self.draft.shapes[value.name][1:]
        if (
            len(size) != 2
            or operator.options.get("AlignCorners", 0)
            or any(new % old for new, old in zip(size, here, strict=True))
        ):
            raise TatamiError(
                f"from {here} to {tuple(size)} pixels: only whole factors, without align_corners"
            )
        _, name, scale = self._out(operator)
        scales = (size[0] // here[0], size[1] // here[1])
        self._done(operator, self.draft.add(Upsample(name, value.name, scales), scale))

    def depth_to_space(self, operator: _Operator) -> None:
        value = self._value(operator)
        self._same_scale(operator, value)
        block = int(operator.options.get("BlockSize", 0))
        channels = self.draft.shapes[value.name][0]
        if block < 1 or channels % (block * block):
            raise TatamiError(f"block is {block}, its square must divide the {channels} channels")
        _, name, scale = self._out(operator)
        # the file has the channels of a block behind each other, here a block's are together
        order = np.arange(channels).reshape(block * block, -1).T.reshape(-1)
        mixed = self.draft.channels(self.draft.fresh(f"{name}.order"), value.name, order)
        self._done(operator, self.draft.add(DepthToSpace(name, mixed, (block, block)), scale))

    def space_to_depth(self, operator: _Operator) -> None:
        value = self._value(operator)
        self._same_scale(operator, value)
        block = int(operator.options.get("BlockSize", 0))
        _, name, scale = self._out(operator)
        split = self.draft.add(
            SpaceToDepth(self.draft.fresh(f"{name}.blocks"), value.name, (block, block)), scale
        )
        order = np.arange(self.draft.shapes[split][0]).reshape(-1, block * block).T.reshape(-1)
        self._done(operator, self.draft.channels(name, split, order))

    def split(self, operator: _Operator) -> None:
        value = self._value(operator, 1)
        axis, parts = self._numbers(operator, 0), len(operator.outputs)
        channels = self.draft.shapes[value.name][0]
        if axis not in ([3], [-1]) or channels % parts:
            raise TatamiError(f"along axis {axis} into {parts}: only channels can be split, into equal parts")
        for part in range(parts):
            _, name, _ = self._out(operator, part)
            each = channels // parts
            found = self.draft.channels(name, value.name, np.arange(part * each, (part + 1) * each))
            self._done(operator, found, part)

    def strided_slice(self, operator: _Operator) -> None:
        value = self._value(operator)
        self._same_scale(operator, value)
        begin, end, step = (self._numbers(operator, place) for place in (1, 2, 3))
        masks = [int(operator.options.get(name, 0)) for name in OPTIONS["STRIDED_SLICE"][1]]
        channels, rows, columns = self.draft.shapes[value.name]
        if any(masks[2:]) or not len(begin) == len(end) == len(step) == 4 or 0 in step:
            raise TatamiError("only along four dimensions that all stay")
        picked = []
        for axis, size in enumerate((1, rows, columns, channels)):
            first = None if masks[0] >> axis & 1 else begin[axis]
            last = None if masks[1] >> axis & 1 else end[axis]
            picked.append(np.arange(size)[first : last : step[axis]])
        if any(len(picked[axis]) != size for axis, size in ((0, 1), (1, rows), (2, columns))) or any(
            step[axis] != 1 for axis in range(3)
        ):
            raise TatamiError("only channels can be left out")
        _, name, _ = self._out(operator)
        self._done(operator, self.draft.channels(name, value.name, picked[3]))


def _channels_first(tensor: _Tensor) -> Shape:
    """The shape (channels, rows, columns) of an activation of the file."""
    shape = tensor.shape
    if len(shape) == 2 and shape[0] == 1:
        return (shape[1], 1, 1)
    if len(shape) == 4 and shape[0] == 1:
        return (shape[3], shape[1], shape[2])
    raise TatamiError(
        f"tensor {tensor.label} has shape {shape}, must be (1, rows, columns, channels) or (1, values)"
    )


def _same_padding(source: int, reach: int, stride: int) -> Pair:
    """Pixels before and behind, of TensorFlow's SAME."""
    out = -(-source // stride)
    total = max(0, (out - 1) * stride + reach - source)
    return total // 2, total - total // 2


def _fits(window: Window) -> bool:
    """Whether the padding is less than the window reaches."""
    reach = window.reach
    return all(pixels < most for pixels, most in zip(window.padding, (*reach, *reach), strict=True))


_FUNCTIONS: dict[str, Callable[[Mapping[str, int | float]], Curve]] = {
    "LEAKY_RELU": lambda options: leaky_relu(float(options.get("Alpha", 0.0))),
    "HARD_SWISH": lambda _: HARD_SWISH,
    "LOGISTIC": lambda _: SIGMOID,
    "TANH": lambda _: TANH,
    "ELU": lambda _: elu(),
}
_RESHAPES = ("RESHAPE", "SQUEEZE", "EXPAND_DIMS")
_HOST = ("SOFTMAX", "LOG_SOFTMAX", "LOGISTIC", "DEQUANTIZE", "ARG_MAX", *_RESHAPES)
_HANDLERS: dict[str, Callable[[_Importer, _Operator], None]] = {
    "CONV_2D": _Importer.conv,
    "DEPTHWISE_CONV_2D": _Importer.depthwise,
    "FULLY_CONNECTED": _Importer.fully_connected,
    "AVERAGE_POOL_2D": _Importer.pool,
    "MAX_POOL_2D": _Importer.pool,
    "MEAN": _Importer.mean,
    "ADD": _Importer.sum,
    "SUB": _Importer.sum,
    "MUL": _Importer.sum,
    "CONCATENATION": _Importer.concat,
    "PAD": _Importer.pad,
    "PADV2": _Importer.pad,
    **dict.fromkeys(_RESHAPES, _Importer.reshape),
    "SOFTMAX": _Importer.host,
    "LOG_SOFTMAX": _Importer.host,
    "LOGISTIC": _Importer.host,
    "ARG_MAX": _Importer.host,
    "DEQUANTIZE": _Importer.host,
    "QUANTIZE": _Importer.quantise,
    **dict.fromkeys(("RELU", "RELU6", "RELU_N1_TO_1"), _Importer.function),
    **dict.fromkeys((one for one in _FUNCTIONS if one != "LOGISTIC"), _Importer.function),
    "RESIZE_NEAREST_NEIGHBOR": _Importer.upsample,
    "DEPTH_TO_SPACE": _Importer.depth_to_space,
    "SPACE_TO_DEPTH": _Importer.space_to_depth,
    "SPLIT": _Importer.split,
    "STRIDED_SLICE": _Importer.strided_slice,
}
SUPPORTED = ", ".join(sorted(_HANDLERS))
