"""Small TensorFlow Lite models, written by tests: quantised to int8, with weights drawn at random."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

TYPES = {"int8": 9, "int32": 2, "uint8": 3, "float32": 0, "int16": 7}


class Maker:
    """A model as its operators are added. Tensors are numbers; a step and a zero point are those of an
    activation.
    """

    def __init__(self, seed: int = 1) -> None:
        self.rng = np.random.default_rng(seed)
        self.model = schema.ModelT()
        self.model.version = 3
        self.model.buffers = [schema.BufferT()]
        self.model.operatorCodes = []
        self.graph = schema.SubGraphT()
        self.graph.tensors, self.graph.operators = [], []
        self.model.subgraphs = [self.graph]

    def tensor(
        self,
        shape: Sequence[int],
        step: float | Sequence[float] | None = None,
        zero: int = 0,
        kind: str = "int8",
        data: Any = None,
        axis: int = 0,
        name: str = "",
    ) -> int:
        made = schema.TensorT()
        made.shape, made.type = np.array(shape, np.int32), TYPES[kind]
        made.name = name or f"t{len(self.graph.tensors)}"
        made.buffer = 0
        if data is not None:
            made.buffer = len(self.model.buffers)
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(data, kind).tobytes(), np.uint8)
            self.model.buffers.append(buffer)
        if step is not None:
            steps = np.atleast_1d(np.array(step, np.float32))
            made.quantization = schema.QuantizationParametersT()
            made.quantization.scale = steps
            made.quantization.zeroPoint = np.full(len(steps), zero, np.int64)
            made.quantization.quantizedDimension = axis
        self.graph.tensors.append(made)
        return len(self.graph.tensors) - 1

    def weights(self, shape: Sequence[int], axis: int, per_channel: bool = True) -> int:
        steps = self.rng.uniform(0.002, 0.02, shape[axis] if per_channel else 1)
        return self.tensor(shape, list(steps), data=self.rng.integers(-127, 128, shape), axis=axis)

    def bias(self, weight: int, source: int) -> int:
        steps = self.graph.tensors[weight].quantization.scale * self.graph.tensors[source].quantization.scale
        axis = self.graph.tensors[weight].quantization.quantizedDimension
        count = int(self.graph.tensors[weight].shape[axis])
        return self.tensor([count], list(steps), kind="int32", data=self.rng.integers(-999, 999, count))

    def whole(self, *values: int) -> int:
        """A constant vector."""
        return self.tensor([len(values)], kind="int32", data=values)

    def pairs(self, *values: int) -> int:
        """Constant pairs, of a padding."""
        return self.tensor([len(values) // 2, 2], kind="int32", data=values)

    def op(self, kind: str, inputs: Sequence[int], outputs: Sequence[int], **options: Any) -> int:
        """Options by the names of the schema; their table is that of the operator. Returns the last
        output.
        """
        code = schema.OperatorCodeT()
        number = getattr(schema.BuiltinOperator, kind)
        code.builtinCode, code.deprecatedBuiltinCode = number, min(number, 127)
        code.version = 1 if kind in ("RESHAPE", "HARD_SWISH", "DEPTH_TO_SPACE") else 2
        self.model.operatorCodes.append(code)
        made = schema.OperatorT()
        made.opcodeIndex = len(self.model.operatorCodes) - 1
        made.inputs, made.outputs = np.array(inputs, np.int32), np.array(outputs, np.int32)
        table = options.pop("table", None)
        if table:
            made.builtinOptionsType = getattr(schema.BuiltinOptions, table)
            made.builtinOptions = getattr(schema, f"{table}T")()
            for name, value in options.items():
                assert hasattr(made.builtinOptions, name), name
                setattr(made.builtinOptions, name, value)
        self.graph.operators.append(made)
        return outputs[-1]

    def conv(
        self,
        source: int,
        out: int,
        filters: int,
        size: tuple[int, int] = (3, 3),
        stride: tuple[int, int] = (1, 1),
        same: bool = True,
        dilation: tuple[int, int] = (1, 1),
        activation: int = 0,
        depthwise: bool = False,
        per_channel: bool = True,
    ) -> int:
        channels = int(self.graph.tensors[source].shape[3])
        if depthwise:
            weight = self.weights((1, *size, filters), 3, per_channel)
        else:
            weight = self.weights((filters, *size, channels), 0, per_channel)
        options: dict[str, Any] = {"depthMultiplier": filters // channels} if depthwise else {}
        return self.op(
            "DEPTHWISE_CONV_2D" if depthwise else "CONV_2D",
            [source, weight, self.bias(weight, source)],
            [out],
            table="DepthwiseConv2DOptions" if depthwise else "Conv2DOptions",
            padding=0 if same else 1,
            strideH=stride[0],
            strideW=stride[1],
            dilationHFactor=dilation[0],
            dilationWFactor=dilation[1],
            fusedActivationFunction=activation,
            **options,
        )

    def linear(self, source: int, out: int, inputs: int, filters: int) -> int:
        weight = self.weights((filters, inputs), 0, per_channel=False)
        return self.op(
            "FULLY_CONNECTED",
            [source, weight, self.bias(weight, source)],
            [out],
            table="FullyConnectedOptions",
        )

    def pool(self, kind: str, source: int, out: int, size: int, stride: int, same: bool = False) -> int:
        return self.op(
            kind,
            [source],
            [out],
            table="Pool2DOptions",
            padding=0 if same else 1,
            strideH=stride,
            strideW=stride,
            filterHeight=size,
            filterWidth=size,
            fusedActivationFunction=0,
        )

    def write(self, path: Path, inputs: Sequence[int], outputs: Sequence[int]) -> Path:
        self.graph.inputs, self.graph.outputs = np.array(inputs, np.int32), np.array(outputs, np.int32)
        builder = flatbuffers.Builder(1024)
        builder.Finish(self.model.Pack(builder), b"TFL3")
        path.write_bytes(bytes(builder.Output()))
        return path


def small_network(path: Path) -> Path:
    """SAME at stride 2 over an even map, a depthwise layer, an addition of two scales, pools, a fully
    connected layer that reads a map, and softmax.
    """
    m = Maker()
    x = m.tensor([1, 8, 10, 3], 0.05, -3, name="image")
    a = m.conv(
        x, m.tensor([1, 4, 5, 6], 0.11, -128, name="net/a/Relu;net/a/Conv"), 6, (3, 3), (2, 2), activation=1
    )
    b = m.conv(a, m.tensor([1, 4, 5, 6], 0.4, 7, name="net/b"), 6, depthwise=True)
    c = m.tensor([1, 4, 5, 6], 0.31, -128, name="net/add")
    m.op("ADD", [a, b], [c], table="AddOptions", fusedActivationFunction=1)
    d = m.pool("MAX_POOL_2D", c, m.tensor([1, 2, 3, 6], 0.31, -128), 2, 2, same=True)
    e = m.op("RESHAPE", [d, m.whole(1, 36)], [m.tensor([1, 36], 0.31, -128)])
    f = m.linear(e, m.tensor([1, 5], 0.9, 11, name="logits"), 36, 5)
    out = m.op("SOFTMAX", [f], [m.tensor([1, 5], 1 / 256, -128)], table="SoftmaxOptions", beta=1.0)
    return m.write(path, [x], [out])
