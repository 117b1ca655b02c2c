"""An ONNX file as it is walked: its constants, what its tensors are in the network, and what depends on
constants alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from pymodel.machine.errors import TatamiError
from pymodel.network.float import (
    FloatArray,
    FloatLayer,
)
from pymodel.network.integer import (
    NOTHING,
    IntArray,
    MaxPool,
    Shape,
    Sides,
    View,
)
from pymodel.network.model_file import Refusals
from pymodel.network.quantised import MOST_CHANNELS, MOST_PIXELS
from pymodel.network.scale import Scale

Array = npt.NDArray[Any]

# Operators whose result may be far larger than what they are given, and how large it may be: weights of the
# first fully connected layer of VGG are 103 million. A stored constant is as large as the bytes there are.
MOST_GROWN = 1 << 27
GROWING = ("ConstantOfShape", "Expand", "Tile", "Range", "Resize", "Pad", "OneHot", "EyeLike", "RandomNormal")
HOST_ENDS = ("Softmax", "LogSoftmax", "QLinearSoftmax", "ArgMax")  # left to the host at the end


@dataclass(frozen=True)
class Constant:
    """`ints` with `steps` and `zeros` along `axis` are what `value` is quantised as, if it is."""

    value: Array
    ints: Array | None = None
    steps: FloatArray | None = None
    zeros: Array | None = None
    axis: int = 0


@dataclass(frozen=True)
class Value:
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


class SkipNode(Exception):  # noqa: N818
    """A node reads the result of a refused one, so nothing can be said about it."""


def parse_model(raw: bytes, path: Path) -> Any:
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
class Graph:
    """The state of an import. `layers` are those of the network so far, `shapes` those of its tensors;
    `scales` of tensors that the file quantises, `weights` the values and steps of layers whose weights it
    quantises. `origin`: the file's name of a tensor, by ours.
    """

    path: Path
    model: Any
    name: str
    given: Shape | None
    skip: str | None = None
    constants: dict[str, Constant] = field(default_factory=dict)
    values: dict[str, Value] = field(default_factory=dict)
    layers: dict[str, FloatLayer] = field(default_factory=dict)
    shapes: dict[str, Shape] = field(default_factory=dict)
    scales: dict[str, Scale] = field(default_factory=dict)
    weights: dict[str, tuple[IntArray, FloatArray]] = field(default_factory=dict)
    origin: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    refusals: Refusals = field(init=False)
    readers: dict[str, list[Any]] = field(default_factory=dict)  # None: the graph's output
    batch: int = 1
    input: str = ""
    input_type: str = ""

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

    def _scale_of(self, name: str) -> Scale | None:
        """A tensor's scale, of a layer that only moves pixels that of its source."""
        while name not in self.scales:
            layer = self.layers.get(name)
            if not isinstance(layer, MaxPool | View):
                return None
            name = layer.reads()[0]
        return self.scales[name]

    # Constants

    def _folded(self, node: Any) -> bool:
        """Computes a node that depends on constants alone, or on the shape of a tensor."""
        names = [name for name in node.input if name]
        if node.op_type == "Shape" and names and names[0] in self.values:
            attributes, shape = self._attributes(node), self.values[names[0]].shape
            part = shape[attributes.get("start", 0) : attributes.get("end", len(shape))]
            self.constants[node.output[0]] = Constant(np.array(part, np.int64))
            return True
        if any(name not in self.constants for name in names) or node.op_type in HOST_ENDS:
            return False
        if any(one.HasField("g") or one.graphs for one in node.attribute):
            raise TatamiError("control flow is not supported")
        given = {name: self.constants[name] for name in names}
        if node.op_type == "DequantizeLinear":
            self.constants[node.output[0]] = self._dequantised(node)
            return True
        if node.op_type in GROWING and any(product_of(one.value) > MOST_GROWN for one in given.values()):
            raise TatamiError(f"its result has more than {MOST_GROWN} values")
        try:
            run = ReferenceEvaluator(one_node(node, given, self.model))
            results = run.run(None, {name: one.value for name, one in given.items()})
        except Exception as error:  # whatever the package's evaluator raises
            raise TatamiError(
                f"it cannot be computed of its constants ({' '.join(str(error).split())[:120]})"
            ) from None
        first = given[names[0]] if names else None
        for name, result in zip(node.output, results, strict=False):
            found = Constant(np.asarray(result))
            if node.op_type == "Transpose" and first is not None and first.ints is not None:
                perm = list(self._attributes(node).get("perm") or range(first.value.ndim)[::-1])
                found = replace(
                    first, value=found.value, ints=first.ints.transpose(perm), axis=perm.index(first.axis)
                )
            elif node.op_type == "Identity" and first is not None:
                found = first
            self.constants[name] = found
        return True

    def _dequantised(self, node: Any) -> Constant:
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
        return Constant(value, ints, np.asarray(steps, np.float64).reshape(-1), zeros.reshape(-1), axis)


def one_node(node: Any, given: Mapping[str, Constant], model: Any) -> Any:
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


def array_of(tensor: Any) -> Array:
    if any(n < 0 for n in tensor.dims):
        raise TatamiError(f"tensor '{tensor.name}' has shape {list(tensor.dims)}, must not be negative")
    try:
        found = np.asarray(numpy_helper.to_array(tensor))
    except Exception as error:  # whatever the package raises for a type or bytes that do not fit
        said = " ".join(str(error).split())[:120]
        raise TatamiError(f"tensor '{tensor.name}' cannot be read ({said})") from None
    if found.dtype.kind == "f" and np.isnan(found).any():
        raise TatamiError(f"tensor '{tensor.name}' holds a value that is no number")
    return found


def product_of(value: Array) -> float:
    """Of a constant that may be a shape."""
    if value.dtype.kind not in "iu" or value.size > 8:
        return float(value.size)
    return float(np.prod(np.abs(value.astype(np.float64))))
