"""Scales with zero points: those that a network had before, and those of images."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from pymodel.machine.errors import TatamiError
from pymodel.network.float import (
    FloatAveragePool,
    FloatConv,
    FloatLayer,
    FloatLinear,
    FloatNetwork,
    evaluate_float,
)
from pymodel.network.integer import INPUT, Gather, MaxPool, around
from pymodel.network.quantise import calibrate, quantise
from pymodel.network.ranges import held_scales
from pymodel.network.reference import evaluate
from pymodel.network.scale import Scale
from tests.network.test_quantise import mixed_network, small_network

SAME = FloatConv("same", INPUT, np.eye(2)[:, :, None, None], np.zeros(2))  # changes nothing


def net(*layers: FloatLayer) -> FloatNetwork:
    return FloatNetwork("t", (2, 4, 4), layers)


def errors(network: FloatNetwork, images: np.ndarray, scales: dict[str, Scale]) -> dict[str, float]:
    """Of the integer network, tensor by tensor, in steps on average."""
    steps = {name: one.step for name, one in scales.items()}
    zeros = {name: one.zero for name, one in scales.items()}
    made = quantise(network, calibrate(network, images) | steps, zeros=zeros)
    got = evaluate(made, scales[INPUT].values(images))
    return {
        name: float(np.abs(scales[name].real(got[name]) - values).mean()) / scales[name].step
        for name, values in evaluate_float(network, images).items()
    }


@pytest.mark.parametrize("make", [small_network, mixed_network])
@pytest.mark.parametrize("seed", range(3))
def test_values_of_any_range_are_near_the_real_ones(
    make: Callable[[np.random.Generator], FloatNetwork], seed: int
) -> None:
    """Every kind of layer reads and writes tensors with zero points; one behind a ReLU has no value below."""
    rng = np.random.default_rng(seed)
    network = make(rng)
    images = rng.normal(1, 1, (24, *network.input_shape))
    scales = held_scales(network, images, {})
    assert len({one.zero for one in scales.values()}) > 2
    assert scales["s1" if make is small_network else "norm"].zero == -128
    assert max(errors(network, images, scales).values()) < 5


@pytest.mark.parametrize("inside", [False, True])
def test_a_mean_at_the_edge_has_no_part_of_a_zero_point(inside: bool) -> None:
    images = np.random.default_rng(1).normal(3, 1, (8, 2, 4, 4))
    network = net(FloatAveragePool("mean", INPUT, (3, 3), (1, 1), around(1), inside=inside))
    scales = held_scales(network, images, {})
    assert scales[INPUT].zero < -100
    assert errors(network, images, scales)["mean"] < 0.5


def test_a_scale_is_kept_where_values_need_it() -> None:
    images = np.random.default_rng(1).uniform(0, 1, (40, 2, 4, 4))
    images[1, 0, 0, 0] = 9  # seldom seen, and not in every other image
    wide = {INPUT: Scale(0.1, 5), "same": Scale(9 / 255, -128)}
    assert held_scales(net(SAME), images, wide) == wide
    images[1, 0, 0, 0] = 1
    found = held_scales(net(SAME), images, wide)
    assert found["same"] == Scale(float(images.max()) / 255, -128)
    assert found[INPUT] == Scale(0.1, 5)  # what a host sends
    narrow = {"same": Scale(0.001, -128)}
    assert held_scales(net(SAME), images, narrow)["same"].step > 0.003
    assert held_scales(net(SAME), 0 * images, {})["same"] == Scale(1.0)


def test_tensors_with_pixels_in_common_share_a_scale() -> None:
    images = np.random.default_rng(1).uniform(0, 1, (8, 2, 4, 4))
    images[1, 0, 0, 0] = 9
    pool = MaxPool("most", "same", (2, 2))
    given = {"same": Scale(0.01, -128), "most": Scale(9 / 255, -128)}
    found = held_scales(net(SAME, pool), images, given)
    assert found["same"] == found["most"] == Scale(9 / 255, -128)
    with pytest.raises(TatamiError, match=r"zero point of tensor 'same' is 3, must be that of 'most', 0"):
        quantise(net(SAME, pool), dict.fromkeys((INPUT, "same", "most"), 0.1), zeros={"same": 3})


def test_a_channel_of_zeros_is_the_value_zero() -> None:
    images = np.random.default_rng(1).uniform(0, 1, (8, 2, 4, 4))
    padded = net(SAME, Gather("more", ("same",), np.zeros(3, int), np.array([0, -1, 1])))
    found = held_scales(padded, images, {"same": Scale(1 / 255, -128)})
    assert found["same"] == found["more"] == Scale(float(images.max()) / 127)
    assert errors(padded, images, found)["more"] < 0.5
    with pytest.raises(TatamiError, match=r"'more': channels of zeros, with zero point -128: must be 0"):
        quantise(padded, dict.fromkeys(found, 0.01), zeros=dict.fromkeys(found, -128))


def test_a_bias_that_a_zero_point_takes_out_of_its_range_is_refused() -> None:
    """It would become a number of the other sign. Here 67,000 weights of the largest size read a tensor whose
    zero point is the lowest, and the bias is half the largest already.
    """
    inputs = 67_000
    layer = FloatLinear("fc", INPUT, np.ones((1, inputs)), np.array([2.0**30 / 127]))
    network = FloatNetwork("t", (inputs, 1, 1), (layer,))
    steps = {INPUT: 1.0, "fc": 1000.0}
    assert quantise(network, steps).layers
    with pytest.raises(TatamiError, match=r"network 't', layer 'fc': bias 2\d{9} of filter 0 is outside"):
        quantise(network, steps, zeros={INPUT: -128})
