"""ONNX models that the tests write, imported and held against onnxruntime: float ones whole, quantised ones
layer by layer, each given the runtime's own inputs. What is refused is named.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from pymodel.compiler.compile import compile_fitted
from pymodel.machine.config import CONFIGS
from pymodel.machine.errors import TatamiError
from pymodel.network.float import FloatConv, evaluate_float
from pymodel.network.from_onnx import from_onnx
from pymodel.network.integer import INPUT
from pymodel.network.load_model import load_model
from pymodel.network.model_file import FloatFile, ModelFile
from pymodel.network.quantise import calibrate, quantise
from pymodel.network.runtime import layer_differences, run_file, run_onnxruntime
from pymodel.network.scale import Scale
from tests.network.onnx_models import RNG, cnn, drawn, written
from tests.network.tflite_models import small_network
from tests.support import assert_agrees


def floats(path: Path) -> FloatFile:
    model = from_onnx(path, "m")
    assert isinstance(model, FloatFile)
    return model


OTHERS = np.random.default_rng(8)
NORM = {"s": drawn(5) + 1, "o": drawn(5), "m": drawn(5), "v": np.abs(drawn(5)) + 0.5}
OPERATORS: dict[str, tuple[str, dict[str, Any]]] = {
    "conv": ("y = Conv<pads=[1,0,1,2], strides=[2,1]>(x, w, b)", {"w": drawn(5, 4, 3, 3), "b": drawn(5)}),
    "conv, SAME_UPPER": ('y = Conv<auto_pad="SAME_UPPER", strides=[2,2]>(x, w)', {"w": drawn(5, 4, 2, 3)}),
    "conv, SAME_LOWER": ('y = Conv<auto_pad="SAME_LOWER", strides=[2,2]>(x, w)', {"w": drawn(5, 4, 2, 3)}),
    "conv, groups and dilation": ("y = Conv<group=2, dilations=[2,1]>(x, w)", {"w": drawn(6, 2, 3, 3)}),
    "batch norm": (
        "a = Conv(x, w) b = BatchNormalization<epsilon=0.01>(a, s, o, m, v) y = Relu(b)",
        {"w": drawn(5, 4, 1, 1), **NORM},
    ),
    "batch norm that stands alone": (
        "a = Relu(x) y = BatchNormalization(a, s, o, m, v)",
        {name: value[:4] for name, value in NORM.items()},
    ),
    "factors and offsets behind a convolution": (
        "a = Conv(x, w) b = Mul(a, f) c = Sub(o, b) d = Div(c, two) y = Add(d, g)",
        {"w": drawn(5, 4, 1, 1), "f": drawn(5, 1, 1), "o": drawn(1), "two": np.float32(2),
         "g": drawn(1, 5, 1, 1)},
    ),
    "a residual": (
        "a = Conv<pads=[1,1,1,1]>(x, w) b = Add(x, a) c = Relu(b) y = Conv(c, u)",
        {"w": drawn(4, 4, 3, 3), "u": drawn(3, 4, 1, 1)},
    ),
    "a residual that others read too": (
        "a = Conv(x, w) b = Add(a, x) c = Add(b, a) y = Sum(b, c, x)",
        {"w": drawn(4, 4, 1, 1)},
    ),
    "sub": ("a = Conv(x, w) y = Sub(x, a)", {"w": drawn(4, 4, 1, 1)}),
    "clip, by constants": ("y = Clip(x, low, high)", {"low": np.float32(-0.5), "high": np.float32(0.7)}),
    "clamps behind each other": (
        "a = Conv(x, w) b = Relu(a) y = Clip(b, low, high)",
        {"w": drawn(4, 4, 1, 1), "low": np.float32(-0.5), "high": np.float32(0.7)},
    ),
    "curves": (
        "a = LeakyRelu<alpha=0.2>(x) b = Elu(a) c = Tanh(b) d = HardSigmoid(c) e = Softplus(d)"
        " y = PRelu(e, p)",
        {"p": np.full((4, 1, 1), 0.25, np.float32)},
    ),
    "silu": ("a = Conv(x, w) s = Sigmoid(a) y = Mul(a, s)", {"w": drawn(4, 4, 1, 1)}),
    "hard swish": (
        "a = Conv(x, w) s = HardSigmoid<alpha=0.16666667>(a) y = Mul(s, a)",
        {"w": drawn(4, 4, 1, 1)},
    ),
    "max pool": ("y = MaxPool<kernel_shape=[3,2], strides=[2,2], pads=[1,0,1,1]>(x)", {}),
    "max pool, ceil_mode": ("y = MaxPool<kernel_shape=[3,3], strides=[2,2], ceil_mode=1>(x)", {}),
    "max pool, ceil_mode without a window behind the end": (
        "y = MaxPool<kernel_shape=[1,1], strides=[3,3], ceil_mode=1>(x)",
        {},
    ),
    "max pool, dilation": ("y = MaxPool<kernel_shape=[2,2], dilations=[2,3]>(x)", {}),
    "global max": ("y = GlobalMaxPool(x)", {}),
    "average pool": ("y = AveragePool<kernel_shape=[2,4], strides=[2,4]>(x)", {}),
    "average pool of a single window": (
        "a = Conv(x, w) y = AveragePool<kernel_shape=[7,9], pads=[0,1,1,0]>(a)",
        {"w": np.ones((2, 4, 1, 1), np.float32)},
    ),
    "average pool that counts its padding": (
        "y = AveragePool<kernel_shape=[3,3], pads=[1,1,1,1], count_include_pad=1>(x)",
        {},
    ),
    "average pool that does not": (
        "y = AveragePool<kernel_shape=[3,3], strides=[1,2], pads=[1,1,1,1]>(x)", {},
    ),
    "average pool, ceil_mode": ("y = AveragePool<kernel_shape=[3,3], strides=[2,2], ceil_mode=1>(x)", {}),
    "average pool of a padded map": (
        "a = Pad(x, n) y = AveragePool<kernel_shape=[2,2], pads=[0,0,1,1]>(a)",
        {"n": np.array([0, 0, 1, 0, 0, 0, 0, 1])},
    ),
    "global average": ("a = GlobalAveragePool(x) b = Flatten(a) y = MatMul(b, w)", {"w": drawn(4, 3)}),
    "mean of rows and columns": (
        "a = ReduceMean<axes=[-1,2], keepdims=0>(x) y = MatMul(a, w)", {"w": drawn(4, 3)}
    ),
    "transposed convolution": (
        "a = ConvTranspose<strides=[3,2], pads=[1,0,1,2], output_padding=[1,1]>(x, w, b) y = Relu(a)",
        {"w": drawn(4, 3, 4, 3, rng=OTHERS), "b": drawn(3, rng=OTHERS)},
    ),
    "transposed convolution, groups, stride 1": (
        "y = ConvTranspose<group=2, pads=[1,1,0,1]>(x, w)", {"w": drawn(4, 3, 3, 2, rng=OTHERS)},
    ),
    "transposed convolution that keeps all": (
        "y = ConvTranspose<group=4, strides=[2,2]>(x, w)", {"w": drawn(4, 1, 2, 2, rng=OTHERS)},
    ),
    "transposed convolution, pixels behind its last filter": (
        "y = ConvTranspose<strides=[4,3], output_padding=[3,1]>(x, w)", {"w": drawn(4, 2, 1, 3, rng=OTHERS)},
    ),
    "rows times a matrix": ("a = MatMul(x, w) y = Relu(a)", {"w": drawn(8, 3, rng=OTHERS)}),
    "rows times a matrix for each channel": (
        "a = MatMul(x, w) y = Relu(a)", {"w": drawn(1, 4, 8, 2, rng=OTHERS)},
    ),
    "rows times a list": ("a = MatMul(x, w) y = Relu(a)", {"w": drawn(8, rng=OTHERS)}),
    "gemm": (
        "a = Flatten(x) y = Gemm<transB=1, alpha=0.5, beta=2.0>(a, w, b)",
        {"w": drawn(3, 192), "b": drawn(3)},
    ),
    "matmul and bias": ("a = Flatten(x) b = MatMul(a, w) y = Add(b, o)", {"w": drawn(192, 3), "o": drawn(3)}),
    "flatten in the order of TensorFlow": (
        "a = Transpose<perm=[0,2,3,1]>(x) b = Reshape(a, n) y = MatMul(b, w)",
        {"w": drawn(192, 3), "n": np.array([1, -1])},
    ),
    "reshape by the tensor's own shape": (
        "s = Shape(x) k = Gather(s, zero) n = Concat<axis=0>(k, rest)"
        " a = Reshape(x, n) y = MatMul(a, w)",
        {"w": drawn(192, 3), "zero": np.array([0]), "rest": np.array([-1])},
    ),
    "concat, split and slice": (
        "a, b = Split<axis=1>(x, parts) c = Slice(x, one, three, one) d = Conv(x, w)"
        " e = Concat<axis=1>(b, d, c, a) y = Relu(e)",
        {"parts": np.array([1, 3]), "one": np.array([1]), "three": np.array([3]), "w": drawn(2, 4, 1, 1)},
    ),
    "channels by number": ("a = Gather<axis=1>(x, n) y = Relu(a)", {"n": np.array([3, 0, 0])}),
    "channel shuffle": (
        "a = Reshape(x, five) b = Transpose<perm=[0,2,1,3,4]>(a) c = Reshape(b, four) y = Relu(c)",
        {"five": np.array([1, 2, 2, 6, 8]), "four": np.array([0, -1, 6, 8])},
    ),
    "pixel shuffle, of reshapes": (
        "a = Reshape(x, six) b = Transpose<perm=[0,1,4,2,5,3]>(a) c = Reshape(b, four) y = Relu(c)",
        {"six": np.array([1, 1, 2, 2, 6, 8]), "four": np.array([1, 1, 12, 16])},
    ),
    "depth to space": ("a = DepthToSpace<blocksize=2>(x) y = Relu(a)", {}),
    "depth to space, CRD": ('a = DepthToSpace<blocksize=2, mode="CRD">(x) y = Relu(a)', {}),
    "space to depth": ("a = SpaceToDepth<blocksize=2>(x) y = Relu(a)", {}),
    "pad, into a convolution": (
        "a = Pad(x, n) y = Conv<strides=[2,2]>(a, w)",
        {"n": np.array([0, 0, 1, 0, 0, 0, 0, 2]), "w": drawn(3, 4, 3, 3)},
    ),
    "pad alone, channels too": ("y = Pad(x, n)", {"n": np.array([0, 1, 1, 0, 0, 2, 0, 2])}),
    "resize": (
        'y = Resize<mode="nearest", nearest_mode="floor",'
        ' coordinate_transformation_mode="asymmetric">(x, , f)',
        {"f": np.array([1, 1, 2, 3], np.float32)},
    ),
    "resize to a size": ('y = Resize<mode="nearest">(x, , , n)', {"n": np.array([1, 4, 12, 16])}),
    "pad with a number": (
        "a = Pad(x, n, v) y = Conv(a, w)",
        {"n": np.array([0, 0, 1, 0, 0, 0, 0, 2]), "v": np.float32(1.5), "w": drawn(3, 4, 3, 3, rng=OTHERS)},
    ),
    "negative, selu": ("a = Neg(x) y = Selu(a)", {}),
    "a list of values, one by one": (
        "a = Flatten(x) b = Tanh(a) c = Mul(b, two) d = Add(c, a) y = MatMul(d, w)",
        {"w": drawn(192, 3, rng=OTHERS), "two": np.float32(2)},
    ),
    "nothing but names": ("a = Identity(x) b, mask = Dropout(a) y = Relu(b)", {}),
    "constants that are computed": (
        "t = Transpose<perm=[1,0,2,3]>(w) u = Mul(t, two) y = Conv(x, u)",
        {"w": drawn(4, 5, 1, 1), "two": np.float32(2)},
    ),
}  # fmt: skip


def assert_same(path: Path) -> FloatFile:
    """Every tensor that both have, on random images."""
    model = floats(path)
    images = np.random.default_rng(3).normal(0, 1, (3, *model.network.input_shape))
    theirs, _ = run_onnxruntime(path, model.origin, images)
    ours = evaluate_float(model.network, images)
    for name, values in theirs.items():
        gap = np.abs(values.reshape(ours[name].shape) - ours[name]).max()
        assert gap <= 1e-4 * np.abs(values).max(), name
    assert model.network.layers[-1].name in theirs
    return model


@pytest.mark.parametrize("name", OPERATORS)
def test_an_operator(name: str, tmp_path: Path) -> None:
    body, constants = OPERATORS[name]
    assert_same(written(tmp_path / "one.onnx", body, **constants))


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("batch norm", 1),
        ("factors and offsets behind a convolution", 1),
        ("a residual", 2),
        ("silu", 1),
        ("hard swish", 1),
        ("clamps behind each other", 1),
        ("pad, into a convolution", 1),
        ("channel shuffle", 2),
        ("depth to space", 2),
        ("pixel shuffle, of reshapes", 2),
    ],
)
def test_what_takes_no_layer(name: str, count: int, tmp_path: Path) -> None:
    body, constants = OPERATORS[name]
    assert len(floats(written(tmp_path / "one.onnx", body, **constants)).network.layers) == count


TWICE, W3 = np.array([1, 1, 2, 2], np.float32), drawn(2, 4, 3, 3)


@pytest.mark.parametrize(
    ("opset", "body", "constants"),
    [
        (9, "a = Clip<min=0.0, max=6.0>(x) b = Slice<starts=[1], ends=[3], axes=[1]>(a) y = Relu(b)", {}),
        (9, "s, t = Split<axis=1, split=[1,3]>(x) u = Upsample(t, f) y = Relu(u)", {"f": TWICE}),
        (10, "u = Resize(x, f) p = Pad<pads=[0,0,1,1,0,0,1,1]>(u) y = Conv(p, w)", {"f": TWICE, "w": W3}),
        (12, "p = GlobalAveragePool(x) a = Squeeze<axes=[2,3]>(p) y = MatMul(a, w)", {"w": drawn(4, 2)}),
        (18, "a = ReduceMean(x, n) y = Conv(a, w)", {"n": np.array([2, 3]), "w": drawn(2, 4, 1, 1)}),
        (18, 'y = Resize<mode="nearest", axes=[3,2]>(x, , f)', {"f": np.array([3, 2], np.float32)}),
        (
            18,
            'y = Resize<mode="nearest", axes=[2,3], keep_aspect_ratio_policy="not_larger">(x, , , n)',
            {"n": np.array([12, 24])},
        ),
        (
            18,
            "a = Pad(x, n, , m) y = Conv(a, w)",
            {"n": np.array([1, 2, 0, 1]), "m": np.array([3, 2]), "w": W3},
        ),
        (19, "y = AveragePool<kernel_shape=[2,3], dilations=[2,3], strides=[1,2]>(x)", {}),
        (23, "a, b = Split<axis=1, num_outputs=2>(x) y = Add(a, b)", {}),
    ],
)  # fmt: skip
def test_opsets(opset: int, body: str, constants: dict[str, Any], tmp_path: Path) -> None:
    """Attributes that became inputs."""
    assert_same(written(tmp_path / "old.onnx", body, opset, **constants))


def test_three_dimensions(tmp_path: Path) -> None:
    """A list of values by channel."""
    body = "a = Mul(x, f) b = Relu(a) y = Concat<axis=1>(b, x)"
    model = assert_same(written(tmp_path / "x.onnx", body, given="float[1,4,6] x", f=drawn(4, 1)))
    assert model.network.input_shape == (4, 6, 1)


def test_space_to_depth_by_channel(tmp_path: Path) -> None:
    """Mode CRD, opset 28: blocks of a channel stay together."""
    body = 'a = SpaceToDepth<blocksize=2, mode="CRD">(x) y = Relu(a)'
    network = floats(written(tmp_path / "x.onnx", body, 28)).network
    images = np.arange(192.0).reshape(1, 4, 6, 8)
    found = evaluate_float(network, images)["y"]
    for channel in range(16):
        block = images[:, channel // 4, channel // 2 % 2 :: 2, channel % 2 :: 2]
        np.testing.assert_array_equal(found[:, channel], block)


def test_channels_last(tmp_path: Path) -> None:
    """As exporters of TensorFlow write it: the image is turned first."""
    body = "a = Transpose<perm=[0,3,1,2]>(x) b = Conv(a, w) c = Flatten(b) y = Softmax(c)"
    path = written(tmp_path / "nhwc.onnx", body, given="float[1,6,8,3] x", w=drawn(5, 3, 3, 3))
    model = assert_same(path)
    assert model.network.input_shape == (3, 6, 8)
    assert model.notes == (
        "rows, columns, channels become channels, rows, columns at the input",
        "left to the host: Softmax",
    )


def test_a_shape_that_is_left_open(tmp_path: Path) -> None:
    body = "b = Relu(x) y = GlobalAveragePool(b)"
    path = written(tmp_path / "open.onnx", body, given="float[N,3,H,W] x")
    with pytest.raises(
        TatamiError, match=r"input 'x' has a shape that is left open \(\?, 3, \?, \?\); give it: SHAPE="
    ):
        from_onnx(path, "m")
    assert from_onnx(path, "m", (3, 7, 9)).network.shapes["b"] == (3, 7, 9)


# Quantised models


class Reader(CalibrationDataReader):
    def __init__(self) -> None:
        rng = np.random.default_rng(4)
        self.images = iter([{"x": rng.normal(0, 1, (1, 4, 6, 8)).astype(np.float32)} for _ in range(8)])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.images, None)


def held(path: Path, count: int = 20) -> tuple[ModelFile, dict[str, dict[int, int]]]:
    model = from_onnx(path, "m")
    assert isinstance(model, ModelFile)
    images = np.random.default_rng(5).integers(-128, 128, (count, *model.network.input_shape)).astype(np.int8)
    return model, layer_differences(model.network, run_file(model, images).tensors)


def assert_close(found: dict[str, dict[int, int]], share: float = 0.01) -> None:
    assert found
    for name, steps in found.items():
        assert set(steps) <= {-1, 0, 1}, (name, steps)
        assert sum(n for step, n in steps.items() if step) <= share * sum(steps.values()), (name, steps)


@pytest.mark.parametrize("kind", [QuantType.QUInt8, QuantType.QInt8])
@pytest.mark.parametrize("by_channel", [False, True])
@pytest.mark.parametrize("form", [QuantFormat.QDQ, QuantFormat.QOperator])
def test_a_network_that_onnxruntime_quantised(
    form: QuantFormat, by_channel: bool, kind: QuantType, tmp_path: Path
) -> None:
    out = tmp_path / "q.onnx"
    quantize_static(
        cnn(tmp_path / "f.onnx"), out, Reader(), quant_format=form, per_channel=by_channel,
        activation_type=kind, weight_type=QuantType.QInt8,
    )  # fmt: skip
    model, found = held(out)
    assert_close(found)
    assert len(found) >= 7
    assert model.network.layers[-1].name in found
    config = CONFIGS["4x2"]
    images = np.random.default_rng(6).integers(-128, 128, (1, 4, 6, 8)).astype(np.int8)
    assert_agrees(model.network, compile_fitted(model.network, config), images)


QUANTISED: dict[str, str] = {
    "curve on a tensor": """u = Tanh(xd) y8 = QuantizeLinear(u, s2, z2)
        y = DequantizeLinear(y8, s2, z2)""",
    "factor by channel": """u = Mul(xd, f) v = Relu(u) y8 = QuantizeLinear(v, s3, z0)
        y = DequantizeLinear(y8, s3, z0)""",
    "difference": """p = MaxPool<kernel_shape=[1,1]>(xd) u = Sub(p, cd) y8 = QuantizeLinear(u, s3, z0)
        y = DequantizeLinear(y8, s3, z0)""",
    "another scale": """u = QuantizeLinear(xd, s3, z0) v = DequantizeLinear(u, s3, z0) w_ = Relu(v)
        y8 = QuantizeLinear(w_, s3, z0) y = DequantizeLinear(y8, s3, z0)""",
    "padding": """u = Pad(xd, pads) v = Conv(u, wd) y8 = QuantizeLinear(v, s3, z0)
        y = DequantizeLinear(y8, s3, z0)""",
    "mean": """u = GlobalAveragePool(xd) y8 = QuantizeLinear(u, s1, z1) y = DequantizeLinear(y8, s1, z1)""",
    "transposed weights": """u = Flatten(xd) t = Transpose<perm=[1,0]>(md) v = MatMul(u, t) b = Add(v, bias)
        y8 = QuantizeLinear(b, s3, z0) y = DequantizeLinear(y8, s3, z0)""",
    "zeros behind channels": """u = Slice(xd, one, three, one) c_ = Conv(u, wd2) v = Relu(c_)
        y8 = QuantizeLinear(v, s3, z0) y = DequantizeLinear(y8, s3, z0)""",
}  # fmt: skip
QUANTISED_CONSTANTS: dict[str, Any] = {
    "s1": np.float32(0.02), "z1": np.int8(-7), "s2": np.float32(1 / 256), "z2": np.int8(-128),
    "s3": np.float32(0.03), "z0": np.int8(5), "f": drawn(1, 4, 1, 1),
    "pads": np.array([0, 0, 2, 1, 0, 0, 0, 2]),
    "w8": RNG.integers(-127, 128, (3, 4, 2, 2)).astype(np.int8), "ws": np.float32(0.004), "wz": np.int8(0),
    "w2": RNG.integers(-127, 128, (3, 2, 1, 1)).astype(np.int8),
    "m8": RNG.integers(-127, 128, (3, 192)).astype(np.int8),
    "ms": np.array([0.001, 0.002, 0.003], np.float32), "mz": np.zeros(3, np.int8),
    "bias": drawn(3), "one": np.array([1]), "three": np.array([3]),
}  # fmt: skip


@pytest.mark.parametrize("name", QUANTISED)
def test_a_quantised_operator(name: str, tmp_path: Path) -> None:
    before = """x8 = QuantizeLinear(x, s1, z1) xd = DequantizeLinear(x8, s1, z1)
        wd = DequantizeLinear(w8, ws, wz) wd2 = DequantizeLinear(w2, ws, wz)
        md = DequantizeLinear<axis=0>(m8, ms, mz)
        wfd = DequantizeLinear(wf, ws, wz) c0 = Conv<pads=[1,1,0,0]>(xd, wfd)
        c8 = QuantizeLinear(c0, s3, z0) cd = DequantizeLinear(c8, s3, z0) """
    four = np.concatenate([QUANTISED_CONSTANTS["w8"], QUANTISED_CONSTANTS["w8"][:1]])
    body = before + QUANTISED[name]
    path = written(tmp_path / "q.onnx", body, wf=four, **QUANTISED_CONSTANTS)
    model, found = held(path)
    assert_close(found, 0.05 if name == "mean" else 0.01)  # halves of 24 pixels: ONNX rounds them to even
    assert model.scales[INPUT] == Scale(float(np.float32(0.02)), -7)
    assert model.input_type == "FLOAT"


def test_an_integer_input(tmp_path: Path) -> None:
    constants = {**QUANTISED_CONSTANTS, "zu": np.uint8(100)}
    body = """xd = DequantizeLinear(x, s1, zu) wd = DequantizeLinear(w8, ws, wz) v = Conv(xd, wd)
        y8 = QuantizeLinear(v, s3, z0) y = DequantizeLinear(y8, s3, z0)"""
    model, found = held(written(tmp_path / "u.onnx", body, given="uint8[1,4,6,8] x", **constants))
    assert_close(found)
    assert (model.scales[INPUT].zero, model.input_type) == (-28, "UINT8")


def test_a_float_network_is_quantised_as_one_of_torch(tmp_path: Path) -> None:
    body, constants = OPERATORS["a residual"]
    network = floats(written(tmp_path / "f.onnx", body, **constants)).network
    assert isinstance(network.layers[0], FloatConv)
    assert network.layers[0].residual is not None
    images = np.random.default_rng(1).normal(0, 1, (4, *network.input_shape))
    made = quantise(network, calibrate(network, images))
    pixels = np.random.default_rng(2).integers(-128, 128, (1, *network.input_shape)).astype(np.int8)
    assert_agrees(made, compile_fitted(made, CONFIGS["4x2"]), pixels)


# What is refused


def refused(path: Path) -> str:
    with pytest.raises(TatamiError) as caught:
        from_onnx(path, "m")
    said = str(caught.value)
    assert said.startswith(f"{path}: ")
    assert len(said.splitlines()) == 1
    return said.removeprefix(f"{path}: ")


def test_everything_that_is_refused_is_said_at_once(tmp_path: Path) -> None:
    body = """a = LRN<size=3>(x) b = Relu(a) c = Mul(x, x)
        d = AveragePool<kernel_shape=[3,3], pads=[1,1,1,1], dilations=[2,2]>(x)
        e = Transpose<perm=[0,1,3,2]>(x) f = Relu(e) h = LRN<size=5>(c) i = Conv(x, x)
        k = MaxPool<kernel_shape=[3,13]>(x) y = Add(b, f)"""
    said = refused(written(tmp_path / "bad.onnx", body))
    assert said.startswith("LRN 'a', LRN 'h': not supported; ")
    assert "; supported: Add, ArgMax, AveragePool, " in said
    for part in (
        "Mul 'c': of two tensors is not supported; one must be constant",
        "AveragePool 'd': dilation, and padding that it does not count: not supported together",
        "Relu 'f': its input has values in an order other than channels",
        "Conv 'i': weight 'x' is not constant",
        "MaxPool 'k': kernel is 3 x 13, must be in 1..11",
    ):
        assert part in said
    assert "'b'" not in said  # nothing can be said of what reads a refused result


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"given": "float[1,4,6,8] x, float[1,4,6,8] z"}, "it has 2 inputs ('x', 'z'), must have 1"),
        ({"given": "float[1,4,6,8,1] x"}, "input 'x' has 5 dimensions, must have 4"),
        ({"given": "int32[1,4,6,8] x"}, "input 'x' is of type 6, must be float, int8 or uint8"),
        ({"opset": 8}, "opset is 8, must be in 9.."),
        ({"body": "y = Conv(x, w)", "w": drawn(4, 3, 1, 1)}, "Conv 'y': weight has shape (4, 3, 1, 1)"),
        ({"body": "y = Conv(x, w)", "w": drawn(4, 4)}, "Conv 'y': weight has shape (4, 4), must be"),
        ({"body": "y = Softmax(x) z = Relu(y)"}, "Softmax 'y': only at the end, where it is left to"),
        (
            {"body": 'y = Pad<mode="reflect">(x, n)', "n": np.zeros(8, int)},
            "Pad 'y': mode is reflect, must be",
        ),
        ({"body": 'y = Resize<mode="linear">(x, , n)', "n": TWICE}, "Resize 'y': mode is linear"),
        ({"body": "y = Reshape(x, n)", "n": np.array([4, 48])}, "Reshape 'y': its result has shape (4, 48)"),
        ({"body": "y = Reshape(x, n)", "n": np.array([5, -1])}, "Reshape 'y': from (1, 4, 6, 8) to (5, -1)"),
        (
            {"body": "y = Conv(x, w)", "w": np.full((4, 4, 1, 1), np.nan)},
            "tensor 'w' holds a value that is no",
        ),
        ({"given": "float[1,4,60000,60000] x"}, "4 x 60000 x 60000 has more than 65536 channels or"),
        (
            {"body": "a = ConstantOfShape(n) y = Add(x, a)", "n": np.full(4, 9999)},
            "has more than 134217728 values",
        ),
        ({"body": "y = BatchNormalization(x, n, n, n)", "n": drawn(4)}, "variance is missing"),
    ],
)
def test_what_is_refused(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    given: dict[str, Any] = {"body": "y = Relu(x)", **change}
    assert message in refused(written(tmp_path / "bad.onnx", given.pop("body"), **given))


@pytest.mark.parametrize(
    "body",
    [
        "y = Transpose<perm=[1,0,2,3]>(x)",
        "y = Reshape(x, n)",
        "y = Slice(x, zero, one, zero)",
        "y = Gather<axis=0>(x, zero)",
        "y = Unsqueeze(x, zero)",
        "a = Relu(x) y = Concat<axis=0>(a, a)",
    ],
)
def test_images_stay_apart(body: str, tmp_path: Path) -> None:
    """With one channel, each would have the shape of a result that keeps them apart."""
    constants: dict[str, Any] = {"n": np.array([1, -1]), "zero": np.array([0]), "one": np.array([1])}
    said = refused(written(tmp_path / "x.onnx", body, given="float[2,1,6,8] x", **constants))
    assert "it mixes the 2 images of its input" in said


def test_a_map_of_another_shape_is_no_map_of_its_values(tmp_path: Path) -> None:
    """As many values, in the same order, but other rows and columns."""
    body = "a = Reshape(x, n) y = MaxPool<kernel_shape=[2,2]>(a)"
    said = refused(written(tmp_path / "x.onnx", body, n=np.array([1, 4, 8, 6])))
    assert "MaxPool 'y': its input has values in an order other than channels" in said


def test_a_part_that_is_not_quantised(tmp_path: Path) -> None:
    body = """x8 = QuantizeLinear(x, s1, z1) xd = DequantizeLinear(x8, s1, z1)
        wd = DequantizeLinear(w8, ws, wz) a = Conv(xd, wd) b = Relu(a) y = GlobalAveragePool(b)"""
    said = refused(written(tmp_path / "half.onnx", body, **QUANTISED_CONSTANTS))
    assert said == "'b', 'y': its result is not quantised; all results must be"


def test_what_is_skipped(tmp_path: Path) -> None:
    body = "a = Conv(x, w) b = LRN<size=3>(a) y = Relu(b)"
    path = written(tmp_path / "x.onnx", body, w=drawn(3, 4, 1, 1, rng=OTHERS))
    assert "LRN 'b': not supported" in refused(path)
    model = from_onnx(path, "m", skip="LRN")
    assert model.notes == ("skipped: LRN 'b'",)
    assert len(model.network.layers) == 1
    with pytest.raises(TatamiError, match="SKIP is only for"):
        load_model(small_network(tmp_path / "x.tflite"), skip="LRN")


def test_data_beside_the_file(tmp_path: Path) -> None:
    path = written(tmp_path / "big.onnx", "y = Conv(x, w)", w=drawn(4, 4, 3, 3))
    model = onnx.load(path)
    onnx.save(model, path, save_as_external_data=True, location="big.data", size_threshold=0)
    assert_same(path)
    (tmp_path / "big.data").unlink()
    assert refused(path) == f"data of 'w' lie in {tmp_path / 'big.data'}: no such file"
    model = onnx.load(path, load_external_data=False)
    model.graph.initializer[0].external_data[0].value = "../secret"
    path.write_bytes(model.SerializeToString())
    assert refused(path) == "data of 'w' lie in '../secret', must lie beside the file"


@pytest.mark.parametrize("content", [b"", b"no model", b"\x08\x07\x12\x04abcd"])
def test_what_is_no_such_file(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.onnx"
    path.write_bytes(content)
    assert "is no ONNX file, or damaged" in (said := refused(path)) or "it has no graph" in said
