"""Biases that bring the mean of every channel back to that of the float network."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
import pytest

from pymodel.network import bias_correction
from pymodel.network.activations import HARD_SWISH, RELU, Activation
from pymodel.network.bias_correction import corrected
from pymodel.network.float import FloatConv, FloatLinear, FloatNetwork, FloatPool, evaluate_float
from pymodel.network.integer import INPUT, Network, Requantised, around
from pymodel.network.quantise import calibrate, quantise
from pymodel.network.ranges import held_scales
from pymodel.network.reference import evaluate
from pymodel.network.scale import Scale
from tests.network.test_quantise import mixed_network, small_network

FloatArray = npt.NDArray[np.float64]


def integers(network: FloatNetwork, images: FloatArray) -> tuple[Network, dict[str, Scale]]:
    """As a training quantises them, without correction."""
    scales = {name: Scale(step) for name, step in calibrate(network, images).items()}
    scales |= held_scales(network, images, {})
    steps = {name: one.step for name, one in scales.items()}
    return quantise(network, steps, zeros={name: one.zero for name, one in scales.items()}), scales


def shifts(
    network: FloatNetwork, made: Network, scales: Mapping[str, Scale], images: FloatArray
) -> dict[str, FloatArray]:
    """By how many steps the mean of each channel is off, tensor by tensor."""
    got = evaluate(made, scales[INPUT].values(images))
    return {
        name: (scales[name].real(got[name]) - values).mean(axis=(0, 2, 3)) / scales[name].step
        for name, values in evaluate_float(network, images).items()
    }


def coarse(activation: Activation | None) -> FloatNetwork:
    """Each filter has one large weight, so that all others are rounded, by up to half a step: of the first
    filter all down, of the second all up. Filter 3 is below a ReLU for every image.
    """
    weight = np.full((4, 16, 3, 3), 0.45) * np.array([1, 1.2, -1, 1])[:, None, None, None] / 127
    weight[:, 0, 1, 1] = 1
    bias = np.array([0, 0, 3, -100.0 if activation is RELU else 0])
    return FloatNetwork(
        "coarse",
        (16, 6, 6),
        (
            FloatConv("c", INPUT, weight, bias, padding=around(1), activation=activation),
            FloatPool("pool", "c"),
            FloatLinear("fc", "pool", np.array([[1.0, -1, 1, 0], [1, 1, -1, 0]]), np.zeros(2)),
        ),
    )


@pytest.mark.parametrize("activation", [None, RELU, HARD_SWISH])
def test_a_filter_whose_weights_are_all_rounded_one_way(activation: Activation | None) -> None:
    network = coarse(activation)
    rng = np.random.default_rng(1)
    images, others = rng.uniform(0, 1, (2, 40, *network.input_shape))
    made, scales = integers(network, images)
    before = shifts(network, made, scales, others)
    assert np.abs(before["c"]).max() > 2
    after = shifts(network, corrected(network, made, scales, images), scales, others)
    for name in ("c", "pool", "fc"):
        assert np.abs(after[name]).max() < 0.3 * np.abs(before[name]).max(), name


@pytest.mark.parametrize("make", [small_network, mixed_network])
@pytest.mark.parametrize("seed", range(3))
def test_no_kind_of_layer_gets_worse(make: Callable[[np.random.Generator], FloatNetwork], seed: int) -> None:
    """Residuals, groups, curves, pools and layers that only move pixels are gone through in their order."""
    rng = np.random.default_rng(seed)
    network = make(rng)
    images = rng.normal(1, 1, (24, *network.input_shape))
    made, scales = integers(network, images)
    better = corrected(network, made, scales, images)
    before = shifts(network, made, scales, images)
    after = shifts(network, better, scales, images)
    off = {name: np.abs(after[name]).mean() - np.abs(before[name]).mean() for name in after}
    assert sum(off.values()) < 0
    assert max(off.values()) < 0.1
    for one, other in zip(made.layers, better.layers, strict=True):
        if isinstance(one, Requantised):
            assert isinstance(other, Requantised)
            assert other.requant.bias.dtype == np.int32
            np.testing.assert_array_equal(one.requant.multiplier, other.requant.multiplier)


def test_a_filter_that_no_pixel_comes_through_keeps_its_bias() -> None:
    """A bias cannot change its mean, and one that reaches the clamp would make pixels of nothing."""
    network = coarse(RELU)
    images = np.random.default_rng(1).uniform(0, 1, (8, *network.input_shape))
    made, scales = integers(network, images)
    (before, *_), (after, *_) = made.layers, corrected(network, made, scales, images).layers
    assert isinstance(before, Requantised)
    assert isinstance(after, Requantised)
    same = before.requant.bias == after.requant.bias
    assert same.tolist() == [False, False, False, True]


def test_large_tensors_are_seen_on_fewer_images(monkeypatch: pytest.MonkeyPatch) -> None:
    network = coarse(RELU)
    images = np.random.default_rng(1).uniform(0, 1, (8, *network.input_shape))
    made, scales = integers(network, images)
    seen: list[int] = []
    means = bias_correction._means

    def counted(network: FloatNetwork, images: FloatArray) -> dict[str, FloatArray]:
        seen.append(len(images))
        return means(network, images)

    monkeypatch.setattr(bias_correction, "_means", counted)
    for most in (10**9, 3 * (20 * 36 + 4 + 2), 1):
        monkeypatch.setattr(bias_correction, "MOST_VALUES", most)
        corrected(network, made, scales, images)
    assert seen == [8, 3, 1]
