"""Every operation of the reference against torch in float64, which is exact for these sizes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch.nn import functional

from pymodel.machine.errors import TatamiError
from pymodel.network.integer import (
    INPUT,
    Add,
    AveragePool,
    Conv,
    DepthToSpace,
    Gather,
    Layer,
    MaxPool,
    Network,
    Requant,
    SpaceToDepth,
    Upsample,
    Window,
    around,
)
from pymodel.network.reference import evaluate, evaluate_sums

SHAPE = (6, 13, 14)
WINDOWS = {
    "3 x 3": Window((3, 3), padding=around(1)),
    "11 x 11, stride 4": Window((11, 11), (4, 4), (2, 3, 2, 3)),
    "7 x 7, stride 2, as TensorFlow pads": Window((7, 7), (2, 2), (2, 3, 3, 3)),
    "10 x 4, strides 2 and 1": Window((10, 4), (2, 1), (4, 1, 5, 2)),
    "1 x 5, stride 3": Window((1, 5), (1, 3), (0, 4, 0, 1)),
    "even": Window((2, 4), (2, 2)),
    "dilated": Window((3, 2), (1, 2), (2, 0, 4, 3), (2, 3)),
}


def random_int8(rng: np.random.Generator, *shape: int) -> npt.NDArray[np.int8]:
    values = rng.integers(-128, 128, shape)
    return np.where(rng.random(shape) < 0.2, rng.choice([-128, 127], shape), values).astype(np.int8)


def tensor(values: npt.NDArray[np.int8]) -> torch.Tensor:
    return torch.from_numpy(values.astype(np.float64))


def padded(values: npt.NDArray[np.int8], window: Window, pad: float) -> torch.Tensor:
    top, left, bottom, right = window.padding
    return functional.pad(tensor(values), (left, right, top, bottom), value=pad)


def sums(layer: Layer, images: npt.NDArray[np.int8]) -> npt.NDArray[np.int64]:
    return evaluate_sums(Network("one", images.shape[1:], (layer,)), images)[1][layer.name]


def output(layer: Layer, images: npt.NDArray[np.int8]) -> npt.NDArray[np.int8]:
    return evaluate(Network("one", images.shape[1:], (layer,)), images)[layer.name]


@pytest.mark.parametrize("pad", [0, -128, 77])
@pytest.mark.parametrize("groups", [1, 2, 6])
@pytest.mark.parametrize("window", WINDOWS.values(), ids=WINDOWS)
def test_convolution(window: Window, groups: int, pad: int) -> None:
    rng = np.random.default_rng([groups, pad + 128])
    images = random_int8(rng, 2, *SHAPE)
    weight = random_int8(rng, 12, 6 // groups, *window.size)
    layer = Conv(
        "c",
        INPUT,
        weight,
        Requant.none(12),
        window.stride,
        window.padding,
        None,
        window.dilation,
        groups,
        pad,
    )
    expected = functional.conv2d(
        padded(images, window, pad),
        tensor(weight),
        stride=window.stride,
        dilation=window.dilation,
        groups=groups,
    )
    np.testing.assert_array_equal(sums(layer, images), expected.numpy())


@pytest.mark.parametrize("window", WINDOWS.values(), ids=WINDOWS)
def test_maximum(window: Window) -> None:
    images = random_int8(np.random.default_rng(3), 2, *SHAPE)
    layer = MaxPool("m", INPUT, window.size, window.stride, window.padding, window.dilation)
    expected = functional.max_pool2d(
        padded(images, window, -1e9), window.size, window.stride, dilation=window.dilation
    )
    np.testing.assert_array_equal(output(layer, images), expected.numpy())


@pytest.mark.parametrize("pad", [0, -5])
@pytest.mark.parametrize("window", [w for w in WINDOWS.values() if w.dilation == (1, 1)])
def test_average(window: Window, pad: int) -> None:
    images = random_int8(np.random.default_rng(4), 2, *SHAPE)
    layer = AveragePool("a", INPUT, Requant.none(6), window.size, window.stride, window.padding, pad)
    expected = functional.avg_pool2d(
        padded(images, window, pad), window.size, window.stride, divisor_override=1
    )
    np.testing.assert_array_equal(sums(layer, images), expected.numpy())


@pytest.mark.parametrize("window", [w for w in WINDOWS.values() if max(w.reach) < 5])
def test_average_of_the_pixels_inside(window: Window) -> None:
    images = random_int8(np.random.default_rng(8), 2, *SHAPE)
    whole = window.whole("w", *SHAPE[1:])
    layer = AveragePool("a", INPUT, Requant.none(6), window.size, window.stride, window.padding, whole=whole)
    added, counted = (
        functional.avg_pool2d(padded(pixels, window, 0), window.size, window.stride, divisor_override=1)
        for pixels in (images, np.ones_like(images))
    )
    np.testing.assert_array_equal(sums(layer, images), (added * whole / counted).round().numpy())


def test_addition_weighs_every_channel_of_every_tensor() -> None:
    rng = np.random.default_rng(5)
    images = random_int8(rng, 2, *SHAPE)
    other = Upsample("same", INPUT, (1, 1))
    weight = rng.integers(-2032, 2033, (3, 6))
    layer = Add("sum", (INPUT, "same", INPUT), weight, Requant.none(6))
    network = Network("t", SHAPE, (other, layer))
    expected = tensor(images) * torch.from_numpy(weight.sum(axis=0)[:, None, None])
    np.testing.assert_array_equal(evaluate_sums(network, images)[1]["sum"], expected.numpy())


def test_gather_concatenates_splits_and_shuffles() -> None:
    images = random_int8(np.random.default_rng(6), 2, *SHAPE)
    whole = Gather.concat("g", (INPUT, INPUT), (6, 6))
    np.testing.assert_array_equal(output(whole, images), np.concatenate([images, images], axis=1))
    some = Gather("g", (INPUT,), np.zeros(4, int), np.array([5, -1, 0, 5]))
    np.testing.assert_array_equal(output(some, images)[:, [0, 2, 3]], images[:, [5, 0, 5]])
    assert not output(some, images)[:, 1].any()
    shuffled = Gather("g", (INPUT,), np.zeros(6, int), np.arange(6).reshape(2, 3).T.reshape(-1))
    expected = functional.channel_shuffle(tensor(images), 2)
    np.testing.assert_array_equal(output(shuffled, images), expected.numpy())


def test_upsampling() -> None:
    images = random_int8(np.random.default_rng(7), 2, *SHAPE)
    expected = functional.interpolate(tensor(images), scale_factor=(3.0, 2.0), mode="nearest")
    np.testing.assert_array_equal(output(Upsample("u", INPUT, (3, 2)), images), expected.numpy())


def test_depth_to_space_and_back() -> None:
    images = random_int8(np.random.default_rng(8), 2, 12, 5, 3)
    expected = functional.pixel_shuffle(tensor(images), 2)
    moved = output(DepthToSpace("d", INPUT, (2, 2)), images)
    np.testing.assert_array_equal(moved, expected.numpy())
    np.testing.assert_array_equal(output(SpaceToDepth("s", INPUT, (2, 2)), moved), images)
    uneven = output(DepthToSpace("d", INPUT, (3, 1)), images)
    np.testing.assert_array_equal(uneven[:, 2, 3 * 4 + 1, 2], images[:, 2 * 3 + 1, 4, 2])
    np.testing.assert_array_equal(output(SpaceToDepth("s", INPUT, (3, 1)), uneven), images)


def test_zero_is_added_behind_the_shift_and_both_clamps_hold() -> None:
    images = np.arange(-128, 128, dtype=np.int64).astype(np.int8).reshape(1, 1, 16, 16)
    requant = Requant(np.array([1]), np.array([3]), np.array([2]), zero=-20, low=-90, high=55)
    seen = output(Add("a", (INPUT,), np.array([[1]]), requant), images)
    expected = [max(-90, min(55, ((x + 1) * 3 + 2) // 4 - 20)) for x in range(-128, 128)]
    assert seen.reshape(-1).tolist() == expected


def test_a_table_comes_behind_the_clamps() -> None:
    images = np.arange(-128, 128, dtype=np.int64).astype(np.int8).reshape(1, 1, 16, 16)
    table = np.random.default_rng(9).integers(-128, 128, 256)
    requant = replace(Requant.none(1), low=-100, high=90, table=table)
    seen = output(Add("a", (INPUT,), np.array([[1]]), requant), images)
    assert seen.reshape(-1).tolist() == [table[max(-100, min(90, x)) + 128] for x in range(-128, 128)]


ONE = np.ones((6, 6, 3, 3), np.int8)
REFUSED: dict[str, tuple[Layer, str]] = {
    "kernel 13": (
        Conv("x", INPUT, np.ones((1, 6, 13, 1), np.int8), Requant.none(1)),
        r"kernel is 13 x 1, must be in 1..11",
    ),
    "stride 5": (
        Conv("x", INPUT, ONE, Requant.none(6), stride=(1, 5)),
        "stride is 1 x 5, must be in 1..4",
    ),
    "dilation 0": (MaxPool("x", INPUT, (2, 2), dilation=(0, 1)), r"dilation is 0 x 1, must be in 1..11"),
    "smaller than the window": (
        MaxPool("x", INPUT, (11, 3), dilation=(2, 1)),
        "input 13 x 14 with padding .* is smaller than the kernel, 21 x 3",
    ),
    "padding": (
        MaxPool("x", INPUT, (3, 2), padding=(0, 0, 3, 0)),
        r"padding at the bottom is 3, must be in 0..2",
    ),
    "groups": (
        Conv("x", INPUT, ONE, Requant.none(6), groups=4),
        "groups is 4, must divide its 6 filters and the 6 channels of 'input'",
    ),
    "channels of a group": (Conv("x", INPUT, ONE, Requant.none(6), groups=2), "weight has shape"),
    "pad": (Conv("x", INPUT, ONE, Requant.none(6), pad=128), "pad is 128, must be in -128..127"),
    "sum of other shapes": (Add("x", (INPUT,), np.ones((2, 6), int), Requant.none(6)), r"must be \(1, 6\)"),
    "weight of a sum": (
        Add("x", (INPUT,), np.full((1, 6), 2033), Requant.none(6)),
        r"weight must hold integers in -2032..2032",
    ),
    "channel": (
        Gather("x", (INPUT,), np.zeros(2, int), np.array([0, 6])),
        "channel 1 is channel 6 of 'input', must be in -1..5",
    ),
    "origin": (Gather("x", (INPUT,), np.ones(1, int), np.zeros(1, int)), r"origin must be in 0..0"),
    "only zeros": (Gather("x", (INPUT,), np.zeros(1, int), -np.ones(1, int)), "takes no channel"),
    "block": (DepthToSpace("x", INPUT, (2, 2)), "has 6 channels, must be a multiple of 4"),
    "blocks": (SpaceToDepth("x", INPUT, (2, 2)), "13 x 14 pixels, must be whole blocks of 2 x 2"),
    "scale": (Upsample("x", INPUT, (5, 1)), r"scale is 5 x 1, must be in 1..4"),
    "zero": (
        Add("x", (INPUT,), np.ones((1, 6), int), Requant(*(np.ones(6, int),) * 3, zero=200)),
        r"requant zero is 200, must be in -128..127",
    ),
    "clamps": (
        Add("x", (INPUT,), np.ones((1, 6), int), Requant(*(np.ones(6, int),) * 3, low=5, high=4)),
        "requant low is 5, must be at most high, 4",
    ),
    "table": (
        Add("x", (INPUT,), np.ones((1, 6), int), replace(Requant.none(6), table=np.arange(255))),
        r"requant table is int64 \(255,\), must be integers \(256,\)",
    ),
    "values of a table": (
        Add("x", (INPUT,), np.ones((1, 6), int), replace(Requant.none(6), table=np.arange(256))),
        r"requant table must hold integers in -128..127",
    ),
    "source": (MaxPool("x", "nowhere", (1, 1)), "source 'nowhere' is not an earlier tensor"),
}


@pytest.mark.parametrize(("layer", "said"), REFUSED.values(), ids=REFUSED)
def test_what_no_machine_runs_is_refused(layer: Layer, said: str) -> None:
    with pytest.raises(TatamiError, match=f"network 't', layer 'x': .*{said}"):
        Network("t", SHAPE, (layer,))
