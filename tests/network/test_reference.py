"""The reference against torch in float64 (exact for these sizes) and against big-integer Python."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pymodel.machine.errors import TatamiError
from pymodel.network.integer import (
    INPUT,
    MAX_MULTIPLIER,
    MAX_SHIFT,
    Conv,
    GlobalPool,
    Linear,
    Network,
    Requant,
    Residual,
    around,
)
from pymodel.network.reference import evaluate, evaluate_sums, requantise

KERNELS = [(k, stride, padding) for k in (1, 3, 5) for stride in (1, 2) for padding in range(k)]


def random_int8(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Full range of int8, both ends made likely."""
    values = rng.integers(-128, 128, shape)
    return np.where(rng.random(shape) < 0.2, rng.choice([-128, 127], shape), values).astype(np.int8)


def random_requant(rng: np.random.Generator, filters: int, relu: bool = False) -> Requant:
    return Requant(
        bias=rng.integers(-5000, 5000, filters),
        multiplier=rng.integers(2**15, 2**16, filters),
        shift=rng.integers(18, 26, filters),
        low=0 if relu else -128,
    )


def in_torch(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(values.astype(np.float64))


def python_requantise(total: int, bias: int, multiplier: int, shift: int, relu: bool) -> int:
    """Round half up of the exact quotient by floor division of unbounded integers."""
    numerator = (total + bias) * multiplier
    rounded = numerator if shift == 0 else (2 * numerator + 2**shift) // 2 ** (shift + 1)
    return max(0 if relu else -128, min(127, rounded))


@pytest.mark.parametrize(("k", "stride", "padding"), KERNELS)
def test_conv_equals_torch(k: int, stride: int, padding: int) -> None:
    rng = np.random.default_rng([k, stride, padding])
    smallest = max(1, k - 2 * padding)
    for rows, columns in [(smallest, smallest), (smallest, 7), (8, smallest), (9, 6)]:
        batch, channels, filters = (int(n) for n in rng.integers(1, 6, 3))
        weight = random_int8(rng, filters, channels, k, k)
        network = Network(
            "t",
            (channels, rows, columns),
            (Conv("c", INPUT, weight, random_requant(rng, filters), (stride, stride), around(padding)),),
        )
        images = random_int8(rng, batch, channels, rows, columns)
        tensors, sums = evaluate_sums(network, images)
        expected = torch.nn.functional.conv2d(
            in_torch(images), in_torch(weight), stride=stride, padding=padding
        )
        np.testing.assert_array_equal(sums["c"], expected.numpy())
        assert tensors["c"].dtype == np.int8
        assert tensors["c"].shape[1:] == network.shapes["c"]


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [(1, 1), (7, 4), (8, 8)])
def test_residual_equals_torch(stride: int, size: tuple[int, int]) -> None:
    rng = np.random.default_rng([stride, *size])
    channel = np.array([2, -1, 0, 0, 1])
    residual = Residual(INPUT, channel, weight=np.array([1, 99, -300, 127, 2032]), stride=(stride, stride))
    weight = random_int8(rng, 5, 3, 3, 3)
    network = Network(
        "t",
        (3, *size),
        (Conv("c", INPUT, weight, random_requant(rng, 5), (stride, stride), around(1), residual),),
    )
    images = random_int8(rng, 4, 3, *size)
    expected = torch.nn.functional.conv2d(in_torch(images), in_torch(weight), stride=stride, padding=1)
    for f in range(5):
        if channel[f] >= 0:
            expected[:, f] += float(residual.weight[f]) * in_torch(images)[:, channel[f], ::stride, ::stride]
    np.testing.assert_array_equal(evaluate_sums(network, images)[1]["c"], expected.numpy())


@pytest.mark.parametrize("size", [(1, 1), (5, 3), (8, 8)])
def test_pool_and_linear_equal_torch(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(size)
    weight = random_int8(rng, 4, 3 * size[0] * size[1])
    network = Network(
        "t",
        (3, *size),
        (
            GlobalPool("pool", INPUT, random_requant(rng, 3)),
            Linear("fc", INPUT, weight, random_requant(rng, 4)),
        ),
    )
    images = random_int8(rng, 6, 3, *size)
    _, sums = evaluate_sums(network, images)
    np.testing.assert_array_equal(sums["pool"], in_torch(images).sum(dim=(2, 3), keepdim=True).numpy())
    flat = torch.nn.functional.linear(torch.flatten(in_torch(images), 1), in_torch(weight))
    np.testing.assert_array_equal(sums["fc"][:, :, 0, 0], flat.numpy())


def test_layers_are_chained_by_name() -> None:
    rng = np.random.default_rng(3)
    first = Conv(
        "a", INPUT, random_int8(rng, 2, 1, 3, 3), random_requant(rng, 2, relu=True), padding=around(1)
    )
    second = Conv(
        "b",
        "a",
        random_int8(rng, 2, 2, 1, 1),
        random_requant(rng, 2),
        residual=Residual("a", np.array([0, 1]), np.array([3, -7])),
    )
    third = Linear("c", "a", random_int8(rng, 3, 2 * 4 * 4), random_requant(rng, 3))
    images = random_int8(rng, 5, 1, 4, 4)
    tensors = evaluate(Network("t", (1, 4, 4), (first, second, third)), images)
    assert list(tensors) == [INPUT, "a", "b", "c"]
    assert tensors["a"].min() == 0
    again = evaluate(Network("t", (2, 4, 4), (replace(third, source=INPUT),)), tensors["a"])
    np.testing.assert_array_equal(tensors["c"], again["c"])


INT32 = st.one_of(st.sampled_from([-(2**31), -1, 0, 1, 2**31 - 1]), st.integers(-(2**31), 2**31 - 1))


@given(INT32, INT32, st.integers(0, MAX_MULTIPLIER), st.integers(0, MAX_SHIFT), st.booleans())
def test_requantise_equals_big_integers(
    total: int, bias: int, multiplier: int, shift: int, relu: bool
) -> None:
    requant = Requant(np.array([bias]), np.array([multiplier]), np.array([shift]), low=0 if relu else -128)
    got = requantise(np.full((1, 1, 1, 1), total, dtype=np.int64), requant)
    assert int(got[0, 0, 0, 0]) == python_requantise(total, bias, multiplier, shift, relu)


@pytest.mark.parametrize(
    ("total", "multiplier", "shift", "expected"),
    [
        (3, 1, 1, 2),
        (-3, 1, 1, -1),
        (-1, 1, 1, 0),
        (-5, 1, 1, -2),
        (5, 2, 2, 3),
        (-7, 1, 2, -2),
        (-6, 1, 2, -1),
        (90, 1, 0, 90),
        (-129, 1, 0, -128),
    ],
)
def test_requantise_rounds_half_up(total: int, multiplier: int, shift: int, expected: int) -> None:
    requant = Requant(np.zeros(1, dtype=np.int32), np.array([multiplier]), np.array([shift]))
    assert int(requantise(np.full((1, 1, 1, 1), total, dtype=np.int64), requant)[0, 0, 0, 0]) == expected


def test_requantise_extremes() -> None:
    for total in (-(2**31), 2**31 - 1):
        for multiplier in (0, 1, 2**15, MAX_MULTIPLIER):
            for shift in (0, 1, 46, MAX_SHIFT):
                requant = Requant(np.array([total]), np.array([multiplier]), np.array([shift]))
                got = int(requantise(np.full((1, 1, 1, 1), total, dtype=np.int64), requant)[0, 0, 0, 0])
                assert got == python_requantise(total, total, multiplier, shift, False)


def test_bad_images_are_refused() -> None:
    network = Network("t", (2, 4, 4), (GlobalPool("p", INPUT, random_requant(np.random.default_rng(0), 2)),))
    with pytest.raises(TatamiError, match="int64, must be int8"):
        evaluate(network, np.zeros((1, 2, 4, 4), dtype=np.int64))
    with pytest.raises(TatamiError, match=r"shape \(2, 4, 4\), must be \(batch, 2, 4, 4\)"):
        evaluate(network, np.zeros((2, 4, 4), dtype=np.int8))
    with pytest.raises(TatamiError, match=r"shape \(1, 3, 4, 4\)"):
        evaluate(network, np.zeros((1, 3, 4, 4), dtype=np.int8))


def test_sum_beyond_the_accumulator_is_refused() -> None:
    inputs = 2**17  # one more than 2**31 - 1 holds of (-128)**2
    network = Network(
        "t",
        (inputs, 1, 1),
        (Linear("fc", INPUT, np.full((1, inputs), -128), random_requant(np.random.default_rng(0), 1)),),
    )
    with pytest.raises(TatamiError, match="layer 'fc': sum 2147483648 leaves the int32 accumulator"):
        evaluate(network, np.full((1, inputs, 1, 1), -128, dtype=np.int8))
