"""Quantisation: multipliers, scales, exact residual weights, and a quantised network close to its
float one.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pymodel.machine.errors import TatamiError
from pymodel.network.accuracy import tensors_int8
from pymodel.network.activations import (
    GELU,
    HARD_SWISH,
    RELU,
    SIGMOID,
    TANH,
    Activation,
    Clamp,
    leaky_relu,
    softplus,
)
from pymodel.network.float import (
    FloatAdd,
    FloatAveragePool,
    FloatConv,
    FloatLinear,
    FloatNetwork,
    FloatPool,
    FloatResidual,
    evaluate_float,
    fold_batch_norm,
)
from pymodel.network.integer import (
    INPUT,
    Conv,
    DepthToSpace,
    Gather,
    GlobalPool,
    Linear,
    MaxPool,
    Network,
    SpaceToDepth,
    Upsample,
    around,
)
from pymodel.network.quantise import (
    CALIBRATED_AT_A_TIME,
    calibrate,
    channel_peaks,
    quantise,
    quantise_multiplier,
    quantise_tensor,
)
from pymodel.network.reference import evaluate
from pymodel.packing.pack import split_digits

FloatArray = npt.NDArray[np.float64]


def small_network(rng: np.random.Generator, density: float = 1.0) -> FloatNetwork:
    """Every kind of layer; s2 has a shortcut of option A (stride-2 slice, zero channels:

    He et al., arXiv 1512.03385).
    """

    def weight(*shape: int) -> FloatArray:
        values = rng.normal(size=shape) / np.sqrt(np.prod(shape[1:]) * density)
        return np.where(rng.random(shape) < density, values, 0)

    bias = rng.normal(size=16) * 0.1
    option_a = np.array([-1, -1, *range(4), -1, -1])
    return FloatNetwork(
        "small",
        (2, 8, 8),
        (
            FloatConv("s1", INPUT, weight(4, 2, 3, 3), bias[:4], padding=around(1), activation=RELU),
            FloatConv(
                "s2",
                "s1",
                weight(8, 4, 3, 3),
                bias[:8],
                stride=(2, 2),
                padding=around(1),
                residual=FloatResidual("s1", option_a, stride=(2, 2)),
                activation=RELU,
            ),
            FloatConv(
                "s3",
                "s2",
                weight(8, 8, 1, 1),
                bias[:8],
                residual=FloatResidual("s2", np.arange(8)),
            ),
            FloatPool("pool", "s3"),
            FloatLinear("fc", "pool", weight(5, 8), bias[:5]),
        ),
    )


@given(st.floats(2.0**-31, 65535.0))
def test_multiplier_is_near_and_normalised(real: float) -> None:
    multiplier, shift = quantise_multiplier(real)
    assert 2**15 <= multiplier < 2**16
    assert 0 <= shift <= 47
    assert abs(multiplier / 2**shift / real - 1) <= 2.0**-16


@pytest.mark.parametrize(
    ("real", "expected"),
    [
        (1.0, (32768, 15)),
        (0.5, (32768, 16)),
        (65535.0, (65535, 0)),
        (2.0**-32, (32768, 47)),
        (1 - 2.0**-30, (32768, 15)),
    ],
)
def test_multiplier_at_its_limits(real: float, expected: tuple[int, int]) -> None:
    assert quantise_multiplier(real) == expected


@pytest.mark.parametrize("real", [0.0, -1.0, float("nan"), float("inf")])
def test_multiplier_must_be_positive(real: float) -> None:
    with pytest.raises(TatamiError, match="must be a positive number"):
        quantise_multiplier(real)


@pytest.mark.parametrize("real", [65535.6, 1e9, 2.0**-33, 1e-300])
def test_multiplier_out_of_range(real: float) -> None:
    with pytest.raises(TatamiError, match=r"needs a shift of -?\d+, must be in 0\.\.47"):
        quantise_multiplier(real)


def test_tensor_is_rounded_and_saturated() -> None:
    got = quantise_tensor(np.array([0.0, 0.26, -0.26, 1e9, -1e9, 63.5]), 0.5)
    assert got.dtype == np.int8
    assert got.tolist() == [0, 1, -1, 127, -128, 127]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("density", [1.0, 0.2])
def test_quantised_network_is_close_to_float(seed: int, density: float) -> None:
    rng = np.random.default_rng(seed)
    network = small_network(rng, density)
    images = rng.normal(size=(64, 2, 8, 8))
    scales = calibrate(network, images)
    exact = evaluate_float(network, images)
    got = evaluate(quantise(network, scales), quantise_tensor(images, scales[INPUT]))
    for name, values in exact.items():
        error = np.abs(got[name] * scales[name] - values)
        assert error.max() <= 10 * scales[name], name
        assert error.mean() <= 1.5 * scales[name], name


def mixed_network(rng: np.random.Generator) -> FloatNetwork:
    """Every kind of layer that `small_network` has not, and every kind of activation."""

    def conv(name: str, source: str, filters: int, inputs: int, side: int, **options: Any) -> FloatConv:
        weight = rng.normal(size=(filters, inputs, side, side)) / np.sqrt(inputs * side * side)
        return FloatConv(name, source, weight, rng.normal(size=filters) * 0.1, **options)

    def add(name: str, *sources: str, activation: Activation | None = None) -> FloatAdd:
        weight = rng.normal(size=(len(sources), 8)) * 2
        return FloatAdd(name, sources, weight, rng.normal(size=8) * 0.1, activation)

    shuffled = np.arange(8).reshape(2, 4).T.reshape(-1)
    return FloatNetwork(
        "mixed",
        (4, 8, 8),
        (
            conv("stem", INPUT, 8, 4, 3, padding=(2, 1, 0, 3), dilation=(1, 2), activation=Clamp(0, 1)),
            conv("depthwise", "stem", 8, 1, 3, padding=around(1), groups=8, activation=HARD_SWISH),
            conv("grouped", "depthwise", 8, 4, 1, groups=2, activation=leaky_relu(0.1)),
            FloatAdd("norm", ("grouped",), rng.normal(size=(1, 8)), rng.normal(size=8), RELU),
            FloatAdd("sum", ("norm", "stem", "norm"), rng.normal(size=(3, 8)), np.zeros(8), SIGMOID),
            Gather("shuffled", ("sum",), np.zeros(8, int), shuffled),
            FloatAveragePool("mean", "shuffled", (2, 2), (2, 2), activation=TANH),
            MaxPool("most", "grouped", (3, 3), (2, 2), around(1)),
            Gather.concat("both", ("mean", "most"), (8, 8)),
            DepthToSpace("blocks", "both", (2, 2)),
            SpaceToDepth("channels", "blocks", (2, 2)),
            conv("last", "channels", 8, 16, 1),
            Upsample("larger", "last", (2, 2)),
            add("end", "larger", "norm", activation=softplus()),
            FloatPool("pool", "end", activation=GELU),
        ),
    )


@pytest.mark.parametrize("seed", range(3))
def test_every_kind_of_layer_is_close_to_float(seed: int) -> None:
    rng = np.random.default_rng(seed)
    network = mixed_network(rng)
    images = rng.normal(size=(24, 4, 8, 8))
    scales = calibrate(network, images)
    exact = evaluate_float(network, images)
    quantised = quantise(network, scales)
    got = evaluate(quantised, quantise_tensor(images, scales[INPUT]))
    fast = tensors_int8(quantised, quantise_tensor(images, scales[INPUT]))
    for name, values in exact.items():
        error = np.abs(got[name] * scales[name] - values)
        assert error.mean() <= 3 * scales[name], name
        assert error.mean() <= 0.15 * max(values.std(), scales[name]), name
        np.testing.assert_array_equal(fast[name], got[name])


def test_tensors_that_share_pixels_share_a_scale() -> None:
    rng = np.random.default_rng(1)
    network = mixed_network(rng)
    scales = calibrate(network, rng.normal(size=(8, 4, 8, 8)))
    shared = {"sum": "shuffled", "last": "larger", "channels": "grouped", "blocks": "mean", "both": "most"}
    for one, other in shared.items():
        assert scales[one] == scales[other]
    assert len({scales[name] for name in ("stem", "depthwise", "grouped", "sum", "last")}) == 5
    message = "scale of tensor 'last' is [0-9.]+, must be that of 'larger', 2: they have pixels in common"
    with pytest.raises(TatamiError, match=message):
        quantise(network, scales | {"larger": 2.0})
    with pytest.raises(TatamiError, match="scale of tensor 'sum:sums' is None"):
        quantise(network, {name: scale for name, scale in scales.items() if name != "sum:sums"})


def test_additions_of_equal_scales_are_exact() -> None:
    """Weights of 1, -2 and 0.5 have whole multiples, and the sum of pixels is that of the real numbers."""
    weight = np.array([[1.0, 3.0], [-2.0, 1.0], [0.5, 0.0]])
    layer = FloatAdd("a", (INPUT, "p", INPUT), weight, np.array([0.25, -1.0]))
    pool = FloatAdd("p", (INPUT,), np.array([[-1.0, 1.0]]), np.zeros(2))
    network = quantise(FloatNetwork("t", (2, 3, 3), (pool, layer)), {INPUT: 0.25, "p": 0.25, "a": 0.125})
    images = np.random.default_rng(0).integers(-4, 5, (6, 2, 3, 3)).astype(np.int8)
    exact = 2 * (images * 3.5 + np.array([1, -4])[:, None, None])
    exact[:, 1] = 2 * (images[:, 1] * 4 - 4)
    np.testing.assert_array_equal(evaluate(network, images)["a"], exact)


@pytest.mark.parametrize("largest", [0, -1])
def test_calibration_reaches_the_full_range(largest: int) -> None:
    """Wherever among the images the largest values are."""
    rng = np.random.default_rng(1)
    network = small_network(rng)
    images = rng.normal(size=(3 * CALIBRATED_AT_A_TIME + 1, 2, 8, 8))
    images[largest] *= 5
    scales = calibrate(network, images)
    for name, values in evaluate_float(network, images).items():
        assert np.abs(quantise_tensor(values, scales[name])).max() == 127


def test_residual_is_exact() -> None:
    """The integer residual weight times the filter's step is the source's step, to the rounding of
    a float64.
    """
    rng = np.random.default_rng(2)
    network = small_network(rng)
    scales = calibrate(network, rng.normal(size=(16, 2, 8, 8)))
    for limit in (1, 127, 1000):
        quantised = quantise(network, scales, residual_limit=limit)
        for index, source in ((1, "s1"), (2, "s2")):
            layer, floats = quantised.layers[index], network.layers[index]
            assert isinstance(layer, Conv)
            assert isinstance(floats, FloatConv)
            assert layer.residual is not None
            has = layer.residual.channel >= 0
            assert (layer.residual.weight[~has] == 0).all()
            assert layer.residual.weight[has].min() >= 1
            assert layer.residual.weight[has].max() <= limit
            step = scales[source] / layer.residual.weight[has]
            np.testing.assert_allclose(
                step / scales[layer.name],
                layer.requant.multiplier[has] / 2.0 ** layer.requant.shift[has],
                rtol=2.0**-15,
            )
            restored = layer.weight[has] * (step / scales[layer.source])[:, None, None, None]
            assert (
                np.abs(restored - floats.weight[has])
                <= 0.5001 * (step / scales[layer.source])[:, None, None, None]
            ).all()


def test_steps_that_are_given_are_taken() -> None:
    """Weights that are whole numbers of steps become these numbers, and the residual the nearest to its own,
    however large.
    """
    rng = np.random.default_rng(3)
    whole, step = rng.integers(-119, 120, (4, 2, 3, 3)), np.array([0.01, 0.02, 0.0005, 0.3])
    weight = whole * step[:, None, None, None]
    residual = FloatResidual(INPUT, np.array([0, 1, 1, -1]))
    network = FloatNetwork(
        "t", (2, 5, 5), (FloatConv("c", INPUT, weight, np.ones(4), padding=around(1), residual=residual),)
    )
    quantised = quantise(network, {INPUT: 0.1, "c": 0.4}, steps={"c": step}).layers[0]
    assert isinstance(quantised, Conv)
    assert quantised.residual is not None
    np.testing.assert_array_equal(quantised.weight, whole)
    np.testing.assert_array_equal(quantised.residual.weight, [100, 50, 2000, 0])
    np.testing.assert_array_equal(quantised.requant.bias, np.rint(1 / (0.1 * step)))


def test_a_filter_without_weights_keeps_no_step() -> None:
    """A batch norm divides by the variation of its filter, which is nothing without weights: the step of such
    a filter in a training is hundreds of steps of the output. Its bias and its residual are as exact as any.
    """
    weight = np.array([50.0, 0.0, 0.0])[:, None, None, None]
    residual = FloatResidual(INPUT, np.array([0, 0, -1]))
    layer = FloatConv("c", INPUT, weight, np.array([0.3, 1.2, -0.7]), residual=residual)
    network = FloatNetwork("t", (1, 8, 8), (layer,))
    images = np.random.default_rng(0).normal(size=(4, 1, 8, 8))
    scales = {INPUT: 0.03, "c": 0.02}
    quantised = quantise(network, scales, steps={"c": np.array([10.0, 300.0, 300.0])})
    (found,) = quantised.layers
    assert isinstance(found, Conv)
    assert found.residual is not None
    assert split_digits(found.residual.weight[1:2])[0].tolist() == [0, 7]  # one slot
    read = quantise_tensor(images, scales[INPUT])
    exact = evaluate_float(network, read.astype(np.float64) * scales[INPUT])["c"] / scales["c"]
    steps = evaluate(quantised, read)["c"]
    assert np.abs(exact.clip(-128, 127) - steps)[:, 1:].max() <= 0.51


def test_residual_of_an_identity_is_kept_bit_for_bit() -> None:
    """No weights at all, a residual, no change of scale: the output is the input."""
    layer = FloatConv(
        "c",
        INPUT,
        np.zeros((2, 2, 1, 1)),
        np.zeros(2),
        residual=FloatResidual(INPUT, np.arange(2)),
    )
    network = quantise(FloatNetwork("t", (2, 3, 3), (layer,)), {INPUT: 0.01, "c": 0.01})
    images = np.random.default_rng(0).integers(-128, 128, (4, 2, 3, 3)).astype(np.int8)
    np.testing.assert_array_equal(evaluate(network, images)["c"], images)


def test_a_filter_too_large_for_its_residual_takes_the_nearest() -> None:
    """Steps of 127 weights each: 0.1 of a tensor is 0.8, 0.4 and 1.6 of them, of which the last makes the
    step finer instead.
    """
    weight = 127 * np.array([1.25, 2.5, 0.625])[:, None, None, None]
    layer = FloatConv(
        "c", INPUT, weight, np.zeros(3), residual=FloatResidual(INPUT, np.zeros(3, dtype=np.int64))
    )
    quantised = quantise(FloatNetwork("t", (1, 2, 2), (layer,)), {INPUT: 0.1, "c": 100.0}).layers[0]
    assert isinstance(quantised, Conv)
    assert quantised.residual is not None
    np.testing.assert_array_equal(quantised.residual.weight, [1, 0, 1])
    np.testing.assert_array_equal(quantised.weight.reshape(3), [127, 127, 79])


def test_a_large_weight_that_reads_next_to_nothing_leaves_the_residual() -> None:
    """A batch norm enlarges the one weight that a filter has left, of a channel that is nearly always zero.
    Of a channel that is not, the weight counts more than the residual, as without the peaks.
    """
    rng = np.random.default_rng(0)
    images = rng.normal(size=(8, 2, 8, 8)) * np.array([1.0, 1e-5])[:, None, None]
    weight = np.zeros((2, 2, 1, 1))
    weight[0, 1] = weight[1, 0] = 900.0
    layer = FloatConv("c", INPUT, weight, np.zeros(2), residual=FloatResidual(INPUT, np.zeros(2, np.int64)))
    network = FloatNetwork("t", (2, 8, 8), (layer,))
    peaks = channel_peaks(network, images)
    scales = calibrate(network, images) | {"c": 0.05}
    exact = evaluate_float(network, images)["c"][:, 0]
    kept = []
    for known in ({}, peaks):
        found = quantise(network, scales, peaks=known)
        (conv,) = found.layers
        assert isinstance(conv, Conv)
        assert conv.residual is not None
        kept.append(conv.residual.weight.tolist())
        error = evaluate(found, quantise_tensor(images, scales[INPUT]))["c"][:, 0] * scales["c"] - exact
    assert kept[0] == [0, 0]
    assert kept[1][0] > 0 == kept[1][1]
    assert np.abs(error).max() < 0.1 < np.abs(exact).max() / 10


@pytest.mark.parametrize("relu", [False, True])
def test_empty_filters_give_their_bias(relu: bool) -> None:
    bias = np.array([0.0, 0.5, -0.5, 100.0, 1e-9, 0.25])
    weight = np.zeros((6, 3, 3, 3))
    weight[5, 0, 0, 0] = 1e-12  # as good as empty
    network = FloatNetwork(
        "t",
        (3, 4, 4),
        (
            FloatConv("c", INPUT, weight, bias, padding=around(1), activation=RELU if relu else None),
            FloatLinear("fc", "c", np.zeros((2, 96)), np.zeros(2)),
        ),
    )
    images = np.random.default_rng(0).normal(size=(3, 3, 4, 4))
    scales = calibrate(network, images) | {"c": 0.01}
    got = evaluate(quantise(network, scales), quantise_tensor(images, scales[INPUT]))
    expected = [0, 50, 0 if relu else -50, 127, 0, 25]
    np.testing.assert_array_equal(got["c"], np.broadcast_to(np.array(expected)[:, None, None], (3, 6, 4, 4)))
    assert not got["fc"].any()


def test_pool_holds_the_mean() -> None:
    network = quantise(FloatNetwork("t", (2, 3, 5), (FloatPool("p", INPUT),)), {INPUT: 0.02, "p": 0.01})
    assert isinstance(network.layers[0], GlobalPool)
    images = np.random.default_rng(0).integers(-60, 60, (50, 2, 3, 5)).astype(np.int8)
    expected = images.mean(axis=(2, 3), keepdims=True) * 2
    assert np.abs(evaluate(network, images)["p"] - expected).max() <= 0.51


def test_linear_uses_the_full_range_of_each_filter() -> None:
    weight = np.random.default_rng(0).normal(size=(4, 6)) * np.array([[1e-3], [1], [10], [1000]])
    network = quantise(
        FloatNetwork("t", (6, 1, 1), (FloatLinear("fc", INPUT, weight, np.zeros(4)),)),
        {INPUT: 0.1, "fc": 1.0},
    )
    assert isinstance(network.layers[0], Linear)
    assert (np.abs(network.layers[0].weight.astype(int)).max(axis=1) == 127).all()


def test_batch_norm_is_folded_exactly() -> None:
    torch.manual_seed(0)
    conv, norm = torch.nn.Conv2d(3, 4, 3, bias=False).double(), torch.nn.BatchNorm2d(4).double()
    for part in (norm.weight, norm.bias, norm.running_mean):
        torch.nn.init.normal_(part)
    torch.nn.init.uniform_(norm.running_var, 0.1, 2)
    norm.eval()
    images = torch.randn(2, 3, 5, 5).double()
    weight, mean, variance, gamma, beta = (
        part.detach().numpy()
        for part in (conv.weight, norm.running_mean, norm.running_var, norm.weight, norm.bias)
    )
    folded = FloatConv("c", INPUT, *fold_batch_norm(weight, mean, variance, gamma, beta, norm.eps))
    got = evaluate_float(FloatNetwork("t", (3, 5, 5), (folded,)), images.numpy())["c"]
    np.testing.assert_allclose(got, norm(conv(images)).detach().numpy(), atol=1e-12)


def test_evaluate_float_equals_torch() -> None:
    rng = np.random.default_rng(5)
    network = small_network(rng)
    images = rng.normal(size=(3, 2, 8, 8))
    got = evaluate_float(network, images)
    s1, s2 = network.layers[:2]
    assert isinstance(s1, FloatConv)
    assert isinstance(s2, FloatConv)
    conv = torch.nn.functional.conv2d
    first = conv(
        torch.from_numpy(images), torch.from_numpy(s1.weight), torch.from_numpy(s1.bias), padding=1
    ).relu()
    np.testing.assert_allclose(got["s1"], first.numpy(), atol=1e-12)
    second = conv(first, torch.from_numpy(s2.weight), torch.from_numpy(s2.bias), stride=2, padding=1)
    second[:, 2:6] += first[:, :, ::2, ::2]
    np.testing.assert_allclose(got["s2"], second.relu().numpy(), atol=1e-12)


def test_bad_float_networks_are_refused() -> None:
    good = FloatConv("c", INPUT, np.zeros((2, 1, 3, 3)), np.zeros(2))
    for bad, message in [
        (replace(good, source="x"), "source 'x' is not an earlier tensor"),
        (replace(good, padding=around(3)), "padding at the top is 3, must be in 0..2"),
        (replace(good, bias=np.zeros(3)), r"bias has shape \(3,\), needs \(2,\)"),
        (replace(good, weight=np.zeros((2, 2, 3, 3))), "needs 4 dimensions and 1 inputs"),
        (replace(good, weight=np.full((2, 1, 3, 3), np.nan)), "weight holds a value that is not finite"),
        (replace(good, bias=np.array([0, np.inf])), "bias holds a value that is not finite"),
        (replace(good, residual=FloatResidual(INPUT, np.array([0, 1]))), "gives"),
    ]:
        with pytest.raises(TatamiError, match=f"network 't', layer 'c': .*{message}"):
            FloatNetwork("t", (1, 4, 4), (bad,))
    with pytest.raises(TatamiError, match=r"images have shape \(1, 4, 4\), must be \(batch, 1, 4, 4\)"):
        evaluate_float(FloatNetwork("t", (1, 4, 4), (good,)), np.zeros((1, 4, 4)))


@pytest.mark.parametrize("scale", [None, 0.0, -1.0, float("nan"), float("inf")])
def test_bad_scales_are_refused(scale: float | None) -> None:
    network = FloatNetwork("t", (1, 4, 4), (FloatPool("p", INPUT),))
    scales = {INPUT: 1.0} | ({} if scale is None else {"p": scale})
    with pytest.raises(TatamiError, match="scale of tensor 'p' is"):
        quantise(network, scales)


def test_a_multiplier_that_does_not_fit_names_its_layer() -> None:
    with pytest.raises(TatamiError, match="network 't', layer 'p': requantisation multiplier is"):
        quantise(FloatNetwork("t", (1, 4, 4), (FloatPool("p", INPUT),)), {INPUT: 1.0, "p": 1e-9})


def test_result_is_a_checked_network() -> None:
    network = small_network(np.random.default_rng(0))
    quantised = quantise(network, dict.fromkeys(network.shapes, 0.05))
    assert isinstance(quantised, Network)
    assert quantised.shapes == network.shapes
