"""Small ONNX models, written by tests, with weights drawn at random."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from onnx import numpy_helper, parser

RNG = np.random.default_rng(7)


def drawn(*shape: int, rng: np.random.Generator = RNG) -> np.ndarray:
    return rng.normal(0, 0.3, shape).astype(np.float32)


def written(
    path: Path, body: str, opset: int = 17, given: str = "float[1,4,6,8] x", **constants: Any
) -> Path:
    """A model whose graph is `body`, in ONNX's own text, of x to y; constants are numpy arrays."""
    text = f"""<ir_version: 8, opset_import: ["" : {opset}, "com.microsoft" : 1]>
        g ({given}) => (float[N] y) {{ {body} }}"""
    model = parser.parse_model(text)
    for name, value in constants.items():
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    path.write_bytes(model.SerializeToString())
    return path


CNN = """a = Conv<strides=[2,2], pads=[1,1,1,1]>(x, w1, b1) c = Relu(a)
    d = Conv<pads=[1,1,1,1], group=8>(c, w2) e = Add(d, c) f = Clip(e, low, high)
    p = Conv(f, w4) q = Concat<axis=1>(p, f) g2 = MaxPool<kernel_shape=[2,2]>(q)
    k = AveragePool<kernel_shape=[1,3]>(g2) h = Flatten(k) z = Gemm<transB=1>(h, w3, b3) y = Softmax(z)"""


def cnn(path: Path) -> Path:
    """A small network of many operators, with the same weights whenever it is called."""
    rng = np.random.default_rng(11)
    shapes = {
        "w1": (8, 4, 3, 3),
        "b1": (8,),
        "w2": (8, 1, 3, 3),
        "w4": (4, 8, 1, 1),
        "w3": (5, 24),
        "b3": (5,),
    }
    constants: dict[str, Any] = {name: drawn(*shape, rng=rng) for name, shape in shapes.items()}
    constants |= {"low": np.float32(0), "high": np.float32(4)}
    return written(path, CNN, **constants)


OPERATORS = """a = ConvTranspose<strides=[2,3], pads=[1,0,1,1]>(x, w1, b1) c = Selu(a) d = Pad(c, pads, half)
    e = AveragePool<kernel_shape=[2,2], dilations=[2,2], strides=[2,3]>(d) f = MatMul(e, w2) g2 = Neg(f)
    h = Flatten(g2) y = Gemm(h, w3)"""


def operators(path: Path) -> Path:
    """A small network of operators that take more than one layer, or another one."""
    rng = np.random.default_rng(12)
    shapes = {"w1": (4, 3, 4, 3), "b1": (3,), "w2": (1, 3, 8, 2), "w3": (36, 5)}
    constants: dict[str, Any] = {name: drawn(*shape, rng=rng) for name, shape in shapes.items()}
    constants |= {"half": np.float32(0.5), "pads": np.array([0, 0, 1, 0, 0, 0, 1, 2])}
    return written(path, OPERATORS, 19, **constants)
