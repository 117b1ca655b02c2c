"""TensorFlow Lite models that the tests write, imported and held against LiteRT: each layer given LiteRT's
own inputs, and whole networks on the array model. What is refused is named.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pymodel.compiler.compile import compile_fitted
from pymodel.machine.config import CONFIGS
from pymodel.machine.errors import TatamiError
from pymodel.network.from_tflite import from_tflite
from pymodel.network.integer import INPUT, Add, Conv, Gather, GlobalPool, Linear, MaxPool, Upsample
from pymodel.network.model_file import ModelFile
from pymodel.network.quantised import Draft, mean_multiplier, sum_weights
from pymodel.network.reference import evaluate
from pymodel.network.runtime import layer_differences, run_litert
from pymodel.network.scale import Scale
from tests.network.tflite_models import Maker, small_network
from tests.support import assert_agrees

IMAGES = 40


def drawn(model: ModelFile, count: int = IMAGES) -> np.ndarray:
    rng = np.random.default_rng(5)
    return rng.integers(-128, 128, (count, *model.network.input_shape)).astype(np.int8)


def held(path: Path, kernels: str = "default") -> tuple[ModelFile, dict[str, dict[int, int]]]:
    """The model, and how far each layer is from LiteRT's, which has all of the network's tensors but those
    that were added.
    """
    model = from_tflite(path, "m")
    answer = run_litert(model, drawn(model), kernels)
    found = layer_differences(model.network, answer.tensors)
    assert found
    return model, found


def assert_close(found: dict[str, dict[int, int]], share: float = 0.01) -> None:
    for name, steps in found.items():
        off = sum(count for step, count in steps.items() if step)
        assert set(steps) <= {-1, 0, 1}, (name, steps)
        assert off <= share * sum(steps.values()), (name, steps)


def test_a_network(tmp_path: Path) -> None:
    model, found = held(small_network(tmp_path / "small.tflite"), "default")
    assert list(found) == ["net.a.Relu", "net.b", "net.add", "t8", "logits"]
    assert_close(found)
    assert model.notes == ("left to the host: SOFTMAX",)
    assert model.scales[INPUT] == Scale(float(np.float32(0.05)), -3)
    assert model.network.input_shape == (3, 8, 10)
    first = model.network.layers[0]
    assert isinstance(first, Conv)
    assert (first.padding, first.pad, first.requant.low) == ((0, 0, 1, 1), -3, -128)
    config = CONFIGS["4x2"]
    assert_agrees(model.network, compile_fitted(model.network, config), drawn(model, 2))


def test_the_files_own_output_is_that_of_its_runtime(tmp_path: Path) -> None:
    """Whole, where differences add up: the class is the same for nearly every image."""
    path = small_network(tmp_path / "small.tflite")
    model = from_tflite(path, "m")
    images = drawn(model, 200)
    theirs = run_litert(model, images, keep=False).output
    ours = evaluate(model.network, images)["logits"].reshape(200, -1)
    assert (ours.argmax(axis=1) == theirs.argmax(axis=1)).mean() >= 0.97


Build = Callable[[Maker, int], int]
X, STEP, ZERO = (1, 6, 6, 8), 0.06, -5


def a(m: Maker, *shape: int, step: float = 0.4, zero: int = 9) -> int:
    return m.tensor(shape, step, zero)


def same(m: Maker, *shape: int) -> int:
    return m.tensor(shape, STEP, ZERO)


OPERATORS: dict[str, Build] = {
    "conv, one scale": lambda m, x: m.conv(x, a(m, 1, 6, 6, 5), 5, per_channel=False),
    "conv, VALID": lambda m, x: m.conv(x, a(m, 1, 2, 4, 5), 5, (5, 3), same=False),
    "conv, SAME at stride 2": lambda m, x: m.conv(x, a(m, 1, 3, 3, 5), 5, (3, 3), (2, 2)),
    "conv, SAME of an even kernel": lambda m, x: m.conv(x, a(m, 1, 6, 3, 5), 5, (2, 4), (1, 2)),
    "conv, dilation": lambda m, x: m.conv(x, a(m, 1, 6, 6, 5), 5, dilation=(2, 2)),
    "conv, RELU6": lambda m, x: m.conv(x, a(m, 1, 6, 6, 5, step=0.05, zero=-128), 5, activation=3),
    "depthwise": lambda m, x: m.conv(x, a(m, 1, 6, 6, 8, step=0.2), 8, depthwise=True),
    "depthwise, two filters a channel": lambda m, x: m.conv(
        x, a(m, 1, 6, 6, 16, step=0.2), 16, depthwise=True
    ),
    "fully connected, of a map": lambda m, x: m.linear(x, a(m, 1, 7, step=0.9), 288, 7),
    "average pool": lambda m, x: m.pool("AVERAGE_POOL_2D", x, same(m, 1, 3, 3, 8), 2, 2),
    "average pool of a whole map": lambda m, x: m.pool("AVERAGE_POOL_2D", x, same(m, 1, 1, 1, 8), 6, 1),
    "average pool, SAME that fits": lambda m, x: m.pool(
        "AVERAGE_POOL_2D", x, same(m, 1, 2, 2, 8), 3, 3, True
    ),
    "average pool, SAME": lambda m, x: m.pool("AVERAGE_POOL_2D", x, same(m, 1, 6, 6, 8), 3, 1, True),
    "average pool, SAME at stride 2": lambda m, x: m.pool(
        "AVERAGE_POOL_2D", x, same(m, 1, 3, 3, 8), 3, 2, True
    ),
    "max pool": lambda m, x: m.pool("MAX_POOL_2D", x, same(m, 1, 3, 3, 8), 2, 2),
    "max pool, SAME": lambda m, x: m.pool("MAX_POOL_2D", x, same(m, 1, 3, 3, 8), 3, 2, True),
    "mean": lambda m, x: m.op(
        "MEAN", [x, m.whole(1, 2)], [a(m, 1, 1, 1, 8, step=0.05)], table="ReducerOptions", keepDims=True
    ),
    "add": lambda m, x: m.op(
        "ADD", [x, m.conv(x, a(m, *X), 8)], [a(m, *X, step=0.33, zero=2)], table="AddOptions"
    ),
    "sub": lambda m, x: m.op(
        "SUB", [x, m.conv(x, a(m, *X), 8)], [a(m, *X, step=0.33, zero=2)], table="SubOptions"
    ),
    "sub from a constant": lambda m, x: m.op(
        "SUB", [m.tensor([], 0.02, 3, data=44), x], [a(m, *X, step=0.09)], table="SubOptions"
    ),
    "add of a constant": lambda m, x: m.op(
        "ADD",
        [x, m.tensor([8], 0.02, 3, data=m.rng.integers(-128, 128, 8))],
        [a(m, *X, step=0.09)],
        table="AddOptions",
    ),
    "sub of a constant": lambda m, x: m.op(
        "SUB", [x, m.tensor([], 0.02, 3, data=44)], [a(m, *X, step=0.09)], table="SubOptions"
    ),
    "mul by a constant": lambda m, x: m.op(
        "MUL",
        [m.tensor([1, 1, 1, 8], 0.02, 3, data=m.rng.integers(-128, 128, (1, 1, 1, 8))), x],
        [a(m, *X, step=0.09)],
        table="MulOptions",
    ),
    "concatenation": lambda m, x: m.op(
        "CONCATENATION",
        [x, m.conv(x, same(m, 1, 6, 6, 3), 3), x],
        [same(m, 1, 6, 6, 19)],
        table="ConcatenationOptions",
        axis=-1,
    ),
    "pad, into a convolution": lambda m, x: m.conv(
        m.op("PAD", [x, m.pairs(0, 0, 0, 1, 1, 1, 0, 0)], [same(m, 1, 7, 8, 8)]),
        a(m, 1, 3, 3, 5),
        5,
        (3, 3),
        (2, 2),
        same=False,
    ),
    "pad, wider than the window": lambda m, x: m.conv(
        m.op("PAD", [x, m.pairs(0, 0, 2, 1, 0, 3, 0, 0)], [same(m, 1, 9, 9, 8)]),
        a(m, 1, 9, 9, 5),
        5,
        (1, 1),
    ),
    "pad, into a pool": lambda m, x: m.pool(
        "MAX_POOL_2D",
        m.op("PAD", [x, m.pairs(0, 0, 1, 1, 1, 1, 0, 0)], [same(m, 1, 8, 8, 8)]),
        same(m, 1, 4, 4, 8),
        2,
        2,
    ),
    "pad alone": lambda m, x: m.op("PAD", [x, m.pairs(0, 0, 1, 0, 2, 1, 0, 0)], [same(m, 1, 7, 9, 8)]),
    "leaky relu": lambda m, x: m.op(
        "LEAKY_RELU", [x], [a(m, *X, step=0.05)], table="LeakyReluOptions", alpha=0.23
    ),
    "hard swish behind a convolution": lambda m, x: m.op(
        "HARD_SWISH", [m.conv(x, a(m, *X, step=0.05), 8)], [a(m, *X, step=0.03)], table="HardSwishOptions"
    ),
    "logistic in the middle": lambda m, x: m.conv(
        m.op("LOGISTIC", [m.conv(x, a(m, *X, step=0.015), 8)], [m.tensor(X, 1 / 256, -128)]),
        a(m, *X, step=0.05),
        8,
    ),
    "tanh": lambda m, x: m.op("TANH", [x], [m.tensor(X, 1 / 128, 0)]),
    "relu alone": lambda m, x: m.op("RELU", [x], [a(m, *X, step=0.03, zero=-128)]),
    "quantize": lambda m, x: m.op("QUANTIZE", [x], [a(m, *X, step=0.09)]),
    "resize": lambda m, x: m.op(
        "RESIZE_NEAREST_NEIGHBOR",
        [x, m.whole(12, 18)],
        [same(m, 1, 12, 18, 8)],
        table="ResizeNearestNeighborOptions",
    ),
    "depth to space": lambda m, x: m.op(
        "DEPTH_TO_SPACE", [x], [same(m, 1, 12, 12, 2)], table="DepthToSpaceOptions", blockSize=2
    ),
    "space to depth": lambda m, x: m.op(
        "SPACE_TO_DEPTH", [x], [same(m, 1, 3, 3, 32)], table="SpaceToDepthOptions", blockSize=2
    ),
    "split": lambda m, x: m.op(
        "SPLIT",
        [m.tensor([], kind="int32", data=3), x],
        [same(m, 1, 6, 6, 4), same(m, 1, 6, 6, 4)],
        table="SplitOptions",
        numSplits=2,
    ),
    "slice": lambda m, x: m.op(
        "STRIDED_SLICE",
        [x, m.whole(0, 0, 0, 7), m.whole(0, 0, 0, 1), m.whole(1, 1, 1, -2)],
        [same(m, 1, 6, 6, 3)],
        table="StridedSliceOptions",
        beginMask=7,
        endMask=7,
    ),
}


# LiteRT's default kernels have multipliers of eight bits for it.
COARSE = {"leaky relu": 0.06}


@pytest.mark.parametrize("name", OPERATORS)
def test_an_operator(name: str, tmp_path: Path) -> None:
    """Behind a copy of the input, so that operators which only name pixels have something to name."""
    m = Maker(seed=len(name))
    x = m.tensor(X, STEP, ZERO)
    y = m.pool("MAX_POOL_2D", x, same(m, *X), 1, 1)
    out = OPERATORS[name](m, y)
    _, found = held(m.write(tmp_path / "one.tflite", [x], [out]))
    assert_close(found, COARSE.get(name, 0.02))


@pytest.mark.parametrize(("kind", "step", "zero"), [("uint8", 0.06, 123), ("float32", None, 0)])
def test_an_input_of_another_type(kind: str, step: float | None, zero: int, tmp_path: Path) -> None:
    m = Maker()
    x = m.tensor(X, step, zero, kind=kind)
    y = m.op("QUANTIZE", [x], [same(m, *X)])
    z = m.conv(y, a(m, 1, 6, 6, 4), 4)
    out = m.op("DEQUANTIZE", [z], [m.tensor([1, 6, 6, 4], kind="float32")])
    path = m.write(tmp_path / "typed.tflite", [x], [out])
    model = from_tflite(path, "m")
    assert model.notes == (
        f"the file's input is {kind.upper()}; the network's is INT8, real = 0.06 * (value +5)",
        "left to the host: DEQUANTIZE",
    )
    answer = run_litert(model, drawn(model), "reference")
    assert_close(layer_differences(model.network, answer.tensors))


def test_an_image_that_the_file_holds_in_one_row(tmp_path: Path) -> None:
    """The shape of the input is that behind the reshape."""
    m = Maker()
    x = m.tensor([1, 288], STEP, ZERO)
    y = m.op("RESHAPE", [x, m.whole(*X)], [same(m, *X)])
    path = m.write(tmp_path / "row.tflite", [x], [m.conv(y, a(m, 1, 6, 6, 4), 4)])
    model, found = held(path)
    assert model.network.input_shape == (8, 6, 6)
    assert_close(found)


def test_what_the_output_does_not_need_is_left_out(tmp_path: Path) -> None:
    m = Maker()
    x = m.tensor(X, STEP, ZERO)
    y = m.conv(x, a(m, 1, 6, 6, 4), 4)
    m.conv(x, a(m, 1, 6, 6, 3), 3)
    model = from_tflite(m.write(tmp_path / "dead.tflite", [x], [y]), "m")
    assert [type(layer) for layer in model.network.layers] == [Conv]


@pytest.mark.parametrize(
    ("build", "kinds"),
    [
        (OPERATORS["average pool of a whole map"], [MaxPool, GlobalPool]),
        (OPERATORS["pad, into a convolution"], [MaxPool, Conv]),
        (OPERATORS["hard swish behind a convolution"], [MaxPool, Conv]),
        (OPERATORS["fully connected, of a map"], [MaxPool, Linear]),
        (OPERATORS["resize"], [MaxPool, Upsample, Add]),  # a network ends in a layer that computes
        (OPERATORS["concatenation"], [MaxPool, Conv, Gather, Add]),
    ],
)
def test_layers_that_it_becomes(build: Build, kinds: list[type], tmp_path: Path) -> None:
    m = Maker()
    x = m.tensor(X, STEP, ZERO)
    out = build(m, m.pool("MAX_POOL_2D", x, same(m, *X), 1, 1))
    model = from_tflite(m.write(tmp_path / "one.tflite", [x], [out]), "m")
    assert [type(layer) for layer in model.network.layers] == kinds


def test_a_multiplier_too_small_for_the_shift() -> None:
    """As in MLPerf Tiny's MobileNet, whose dead filters have scales of 1e-9."""
    draft = Draft("m", (1, 1, 1), Scale(0.02, -128))
    weight, steps = np.ones((3, 1, 1, 1), np.int8), np.array([1e-12, 1e-9, 0.5])
    bias = np.array([2**30, 2**29, 0])
    name = draft.conv("c", INPUT, weight, steps, bias, Scale(0.02, 5))
    pixels = np.full((1, 1, 1, 1), 2, np.int8)
    out = evaluate(draft.network(name), pixels)["c"].reshape(-1)
    assert out.tolist() == [5, 5 + 1, 5 + 65]


@pytest.mark.parametrize("pixels", [2, 3, 4, 9, 25, 49, 64, 100, 125, 256])
def test_means_are_rounded_as_tensorflow_lite_does(pixels: int) -> None:
    multiplier, shift = mean_multiplier(pixels)
    sums = np.arange(-128 * pixels, 127 * pixels + 1)
    ours = (sums * multiplier + (1 << shift >> 1)) >> shift
    away = np.sign(sums) * ((2 * np.abs(sums) + pixels) // (2 * pixels))
    np.testing.assert_array_equal(ours, away)


@pytest.mark.parametrize(
    ("steps", "slots"), [((0.1, 0.1), 1), ((0.1, 0.05), 1), ((0.1, 0.0337), 2), ((0.1, 0.00009), 9)]
)
def test_weights_of_a_sum(steps: tuple[float, float], slots: int) -> None:
    whole, unit = sum_weights(steps, 0.11)
    assert -(-int(whole.max()) // 127) == slots
    assert np.abs(np.array(steps) - whole * unit).max() * 255 / 0.11 <= 2**-8


def refused(m: Maker, inputs: list[int], outputs: list[int], tmp_path: Path) -> str:
    path = m.write(tmp_path / "bad.tflite", inputs, outputs)
    with pytest.raises(TatamiError) as caught:
        from_tflite(path, "m")
    said = str(caught.value)
    assert said.startswith(f"{path}: ")
    assert len(said.splitlines()) == 1
    return said.removeprefix(f"{path}: ")


def test_everything_that_is_refused_is_said_at_once(tmp_path: Path) -> None:
    m = Maker()
    x = m.tensor(X, STEP, ZERO, name="x")
    y = m.op("TRANSPOSE", [x, m.whole(0, 2, 1, 3)], [m.tensor(X, STEP, ZERO, name="turned")])
    z = m.conv(y, a(m, *X), 8)  # of which nothing can be said
    m.op("MUL", [x, x], [m.tensor(X, STEP, ZERO, name="square")], table="MulOptions")
    m.op("L2_NORMALIZATION", [x], [m.tensor(X, STEP, ZERO, name="norm")])
    m.pool("AVERAGE_POOL_2D", x, m.tensor(X, STEP, ZERO, name="mean"), 5, 1, same=True)
    m.conv(x, m.tensor([1, 6, 6, 4], kind="int16", step=0.1, name="wide"), 4)
    said = refused(m, [x], [z], tmp_path)
    assert said.startswith("TRANSPOSE 'turned', L2_NORMALIZATION 'norm': not supported; ")
    assert "; supported: ADD, ARG_MAX, AVERAGE_POOL_2D, " in said
    assert "MUL 'square': of two tensors is not supported; one must be constant" in said
    assert "AVERAGE_POOL_2D 'mean': its windows have 3, 4, 5 rows and 3, 4, 5 columns inside: " in said
    assert "CONV_2D 'wide': tensor 'wide' is INT16, must be INT8" in said
    assert "CONV_2D 't" not in said


def big_kernel(m: Maker, x: int) -> int:
    return m.conv(x, a(m, 1, 6, 6, 2), 2, (13, 3))


def weight_computed(m: Maker, x: int) -> int:
    weight = m.conv(x, m.tensor([4, 3, 3, 8], 0.1, 0, name="weight"), 8)
    return m.op("CONV_2D", [x, weight], [a(m, 1, 6, 6, 4)], table="Conv2DOptions", strideH=1, strideW=1)


def turned(m: Maker, x: int) -> int:
    return m.op("RESHAPE", [x, m.whole(1, 9, 4, 8)], [same(m, 1, 9, 4, 8)])


def two_scales(m: Maker, x: int) -> int:
    return m.op("RESHAPE", [x, m.whole(1, 288)], [a(m, 1, 288)])


def wrong_shape(m: Maker, x: int) -> int:
    return m.conv(x, a(m, 1, 5, 5, 4), 4)


def softmax_first(m: Maker, x: int) -> int:
    return m.conv(m.op("SOFTMAX", [x], [same(m, *X)], table="SoftmaxOptions", beta=1.0), a(m, 1, 6, 6, 4), 4)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (big_kernel, "CONV_2D 't1': kernel is 13 x 3, must be in 1..11"),
        (weight_computed, "CONV_2D 't4': input 1, 'weight', is not constant"),
        (turned, r"RESHAPE 't2': from (1, 6, 6, 8) to (1, 9, 4, 8): only to one row of all values"),
        (two_scales, "RESHAPE 't2': its result has scale 0.4 and zero point 9, its input others"),
        (wrong_shape, "CONV_2D 't1': its result has shape (1, 5, 5, 4) in the file, must be (1, 6, 6, 4)"),
        (softmax_first, "SOFTMAX 't1': only at the end, where it is left to the host"),
    ],
)
def test_what_is_refused(build: Build, message: str, tmp_path: Path) -> None:
    m = Maker()
    x = m.tensor(X, STEP, ZERO)
    said = refused(m, [x], [build(m, x)], tmp_path)
    assert message in said


def test_inputs_and_outputs_are_counted(tmp_path: Path) -> None:
    m = Maker()
    x, y = m.tensor(X, STEP, ZERO, name="left"), m.tensor(X, STEP, ZERO, name="right")
    z = m.op("ADD", [x, y], [a(m, *X)], table="AddOptions")
    assert refused(m, [x, y], [z], tmp_path) == "it has 2 inputs ('left', 'right'), must have 1"
    assert refused(m, [x], [z, y], tmp_path).startswith("it has 2 outputs")


def test_a_shape_that_is_left_open(tmp_path: Path) -> None:
    m = Maker()
    x = m.tensor([1, 1, 1, 8], STEP, ZERO, name="any")
    m.graph.tensors[x].shapeSignature = np.array([1, -1, -1, 8], np.int32)
    y = m.conv(x, a(m, 1, 1, 1, 4), 4)
    path = m.write(tmp_path / "open.tflite", [x], [y])
    with pytest.raises(TatamiError, match="input 'any' has a shape that is left open; give it: SHAPE="):
        from_tflite(path, "m")
    assert from_tflite(path, "m", (8, 12, 5)).network.shapes[f"t{y}"] == (4, 12, 5)


def test_a_tensor_that_is_too_large(tmp_path: Path) -> None:
    """Before anything of its size is made."""
    m = Maker()
    x = m.tensor([1, 60000, 60000, 3], STEP, ZERO)
    y = m.conv(x, a(m, 1, 60000, 60000, 4), 4)
    assert refused(m, [x], [y], tmp_path).startswith(
        "a tensor of 3 x 60000 x 60000 has more than 65536 channels"
    )


def test_a_float_model_is_refused(tmp_path: Path) -> None:
    m = Maker()
    x = m.tensor(X, kind="float32", name="x")
    y = m.op("RELU", [x], [m.tensor(X, kind="float32")])
    assert refused(m, [x], [y], tmp_path) == "tensor 'x' is FLOAT32, must be INT8"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"", r"is no TensorFlow Lite file: bytes 4 to 7 are b'', must be b'TFL3'"),
        (b"PK\3\4 a zip", "is no TensorFlow Lite file"),
        (b"\0\0\0\0TFL3", "it has no subgraph"),
        (b"\xff\xff\xff\0TFL3", "is no TensorFlow Lite file, or damaged"),
    ],
)
def test_what_is_no_such_file(content: bytes | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "x.tflite"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(TatamiError, match=message):
        from_tflite(path, "m")
