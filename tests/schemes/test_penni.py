"""PENNI: the decomposition, its torch module and the two plain layers of it, the counts, and plans whose
images compute both stages.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from pymodel.compiler.agreement import loaded
from pymodel.machine.config import CONFIGS, ArrayConfig
from pymodel.machine.errors import TatamiError
from pymodel.network.float import FloatConv, evaluate_float
from pymodel.network.from_torch import import_torch
from pymodel.network.integer import (
    Conv,
    Network,
    Requant,
    around,
)
from pymodel.network.reference import evaluate
from pymodel.packing.pack import check
from pymodel.packing.plan import LayerWeights
from pymodel.schemes.penni import (
    Counts,
    Penni,
    decompose,
    original_compression,
    original_weights,
    penni_counts,
)
from pymodel.training.decomposed import Decomposed, decompose_module, l1, plain, train_part
from pymodel.zoo.random_network import random_images
from tests.support import check_images, plane_words, planned_image

SMALL = CONFIGS["4x2"]


def stages(
    filters: int, channels: int, kernels: int, k: int, group: int, rng: np.random.Generator, name: str = "a"
) -> list[LayerWeights]:
    """Both stages of a random decomposed layer."""
    basis, coefficients = decompose(rng.normal(size=(filters, channels, k, k)), kernels)
    first = block_diagonal(basis, channels)
    return [
        LayerWeights.by_magnitude(
            f"{name}.basis", first.reshape(len(first), -1), np.repeat(np.arange(channels) % group, k * k)
        ),
        LayerWeights.by_magnitude(
            f"{name}.coefficients", coefficients.reshape(filters, -1), np.arange(channels * kernels) % group
        ),
    ]


def block_diagonal(basis: npt.NDArray[Any], channels: int) -> npt.NDArray[Any]:
    """[d, k, k] -> [C * d, C, k, k]: plane c * d + j is channel c under kernel j."""
    kernels = len(basis)
    weight = np.zeros((channels * kernels, channels, *basis.shape[1:]), basis.dtype)
    for c in range(channels):
        weight[c * kernels : (c + 1) * kernels, c] = basis
    return weight


@given(st.integers(0, 2**32 - 1), st.sampled_from([(1, 1), (1, 3), (5, 1), (8, 4)]), st.sampled_from([2, 3]))
@settings(max_examples=30, deadline=None)
def test_decomposition_is_exact_at_full_rank_and_best_below(
    seed: int, shape: tuple[int, int], k: int
) -> None:
    weight = np.random.default_rng(seed).normal(size=(*shape, k, k))
    errors = []
    for kernels in range(1, k * k + 1):
        basis, coefficients = decompose(weight, kernels)
        assert basis.shape == (kernels, k, k)
        assert coefficients.shape == (*shape, kernels)
        flat = basis.reshape(kernels, -1)
        np.testing.assert_allclose(flat @ flat.T, np.eye(kernels), atol=1e-9)
        errors.append(float(((np.einsum("fcj,jyx->fcyx", coefficients, basis) - weight) ** 2).sum()))
    values = np.linalg.svd(weight.reshape(-1, k * k), compute_uv=False) ** 2
    best = [float(values[kernels:].sum()) for kernels in range(1, k * k + 1)]
    np.testing.assert_allclose(errors, best, atol=1e-9)
    assert errors[-1] < 1e-18 * max(1.0, values.sum()) + 1e-20


def test_bad_weights_are_refused() -> None:
    with pytest.raises(
        TatamiError, match=r"penni: weight has shape \(2, 3, 3, 2\), must be \[filters, channels, k, k\]"
    ):
        decompose(np.zeros((2, 3, 3, 2)), 1)
    for kernels in (0, 10):
        with pytest.raises(TatamiError, match=rf"penni: kernels is {kernels}, must be in 1..9"):
            decompose(np.zeros((2, 3, 3, 3)), kernels)
    with pytest.raises(TatamiError, match="penni: weight holds a value that is not finite"):
        decompose(np.full((2, 3, 3, 3), np.nan), 1)


def test_counts() -> None:
    coefficients = np.zeros((4, 3, 2))
    # two planes, of two channels and two kernels
    coefficients[0, 0, 0] = coefficients[1, 0, 0] = coefficients[3, 2, 1] = 0.5
    assert penni_counts(coefficients, 3, 10) == Counts(
        2 * 9 + 3, (2 * 2 * 9 + 3) * 10, 4 * 3 * 9, 4 * 3 * 9 * 10
    )
    coefficients[3, 2] = [0.5, 0]  # the second kernel is gone from the layer
    assert penni_counts(coefficients, 3, 10) == Counts(2 * 9 + 3, (2 * 9 + 3) * 10, 4 * 3 * 9, 4 * 3 * 9 * 10)
    full = penni_counts(np.ones((4, 3, 2)), 3, 10)
    assert (full.parameters, full.flops) == (2 * 9 + 24, (3 * 2 * 9 + 24) * 10)
    with pytest.raises(TatamiError, match=r"penni: coefficients have shape \(4, 3\)"):
        penni_counts(np.ones((4, 3)), 3, 10)


# Plans


@pytest.mark.parametrize(
    ("config", "filters", "channels", "kernels", "k", "ratio"),
    [
        (SMALL, 9, 4, 2, 3, 2.0),
        (SMALL, 1, 1, 1, 3, 1.0),
        (CONFIGS["16x16"], 33, 16, 5, 3, 2.5),
        (CONFIGS["16x8"], 16, 16, 5, 3, 1.5),
        (CONFIGS["8x4"], 8, 5, 3, 5, 4.0),
    ],
)
def test_plan_reaches_the_ratio_of_the_original(
    config: ArrayConfig, filters: int, channels: int, kernels: int, k: int, ratio: float
) -> None:
    rng = np.random.default_rng(0)
    layers = stages(filters, channels, kernels, k, config.group, rng)
    layers.append(
        LayerWeights.by_magnitude("fc", rng.normal(size=(config.size, 60)), np.arange(60) % config.group)
    )
    assert original_weights(layers) == filters * channels * k * k + config.size * 60
    plans = Penni().plan(layers, ratio, config, np.random.default_rng(0))
    assert original_compression(layers, plans) >= ratio * (1 - 1e-9)
    assert sum(plan.slots for plan in plans.values()) * ratio <= original_weights(layers) * (1 + 1e-9)
    for layer in layers:
        packed = plans[layer.name].packed
        assert packed is not None
        check(packed, config.size, config.group, layer.bank)
    basis, coefficients = plans["a.basis"].mask, plans["a.coefficients"].mask
    needed = np.flatnonzero(coefficients.any(axis=0))
    np.testing.assert_array_equal(np.flatnonzero(basis.any(axis=1)), needed)
    np.testing.assert_array_equal(basis[needed], layers[0].weight[needed] != 0)
    pruned = np.concatenate([layer.saliency[~plans[layer.name].mask] for layer in layers[1:]])
    kept = np.concatenate([layer.saliency[plans[layer.name].mask] for layer in layers[1:]])
    assert pruned.max(initial=0) <= kept.min()


def test_basis_layer_fills_its_lanes() -> None:
    """Sixteen channels in sixteen banks: nine lanes for each sixteen planes, every slot full."""
    layers = stages(64, 16, 5, 3, 16, np.random.default_rng(0))
    plans = Penni().plan(layers, 1.0, CONFIGS["16x16"], np.random.default_rng(0))
    packed = plans["a.basis"].packed
    assert packed is not None
    assert packed.lanes == 5 * 9
    assert packed.occupancy == 1


def test_bad_layers_and_ratios_are_refused() -> None:
    rng = np.random.default_rng(0)
    basis, coefficients = stages(8, 4, 2, 3, 2, rng)
    other = stages(8, 4, 3, 3, 2, rng)[1]
    for layers, ratio, text in (
        ([basis], 1.0, "layer 'a.basis': there is no layer 'a.coefficients' beside it"),
        ([basis, other], 1.0, "layer 'a.basis': has 8 planes, but 'a.coefficients' reads 12"),
        ([basis, coefficients], 0.5, "ratio is 0.5, must be at least 1"),
        ([basis, coefficients], float("nan"), "ratio is nan, must be at least 1"),
        ([basis, coefficients], 73, "ratio is 73, must be at most 72: no lane is left"),
        (
            [basis, coefficients],
            20,
            "ratio is 20, is too high: 3 lanes hold no coefficient with the basis kernel that it needs",
        ),
    ):
        with pytest.raises(TatamiError, match=text):
            Penni().plan(layers, ratio, SMALL, np.random.default_rng(0))


def test_an_empty_layer_takes_no_lane() -> None:
    layers = [LayerWeights.by_magnitude("a", np.zeros((5, 6)), np.zeros(6, np.int64))]
    assert Penni().plan(layers, 2.0, SMALL, np.random.default_rng(0))["a"].slots == 0


def requant(filters: int, rng: np.random.Generator) -> Requant:
    return Requant(rng.integers(-50, 50, filters), rng.integers(2**15, 2**16, filters), np.full(filters, 24))


@pytest.mark.parametrize("config", [CONFIGS["16x16"], CONFIGS["8x4"]], ids=lambda c: c.name)
@pytest.mark.parametrize(("ratio", "stride"), [(1.0, 1), (4.0, 2)])
def test_image_of_both_stages_agrees_with_the_reference(
    config: ArrayConfig, ratio: float, stride: int
) -> None:
    rng = np.random.default_rng(5)
    basis = rng.integers(-127, 128, (5, 3, 3)).astype(np.int8)
    coefficients = rng.integers(-127, 128, (20, 35, 1, 1)).astype(np.int8)
    first = Conv(
        "a.basis",
        "input",
        block_diagonal(basis, 7).astype(np.int8),
        requant(35, rng),
        (stride, stride),
        around(1),
    )
    network = Network(
        "penni", (7, 6, 5), (first, Conv("a.coefficients", "a.basis", coefficients, requant(20, rng)))
    )
    planned = planned_image(network, config, Penni(), ratio, rng)
    assert planned is not None
    pruned, image = planned
    images = random_images(rng, pruned, 2)
    machine = loaded(image, images)
    machine.run(image.run_start)
    for name, tensor in evaluate(pruned, images).items():
        assert tensor.any()
        np.testing.assert_array_equal(
            plane_words(machine, image, name), image.placements[name].to_words(tensor), err_msg=name
        )


def test_images_without_stages_agree_with_the_reference() -> None:
    check_images(SMALL, Penni(), 2.0)


# The torch side


def small_net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Sequential(nn.Conv2d(8, 12, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(12, 4, 1)),
    ).eval()


def test_module_equals_its_convolution_at_full_rank() -> None:
    net, images = small_net(), torch.randn(2, 3, 9, 8)
    full = decompose_module(net, 8)  # one kernel fewer than full rank: close, not equal
    exact = Decomposed.of(net.get_submodule("3.0"), 9)
    middle = net[:3](images)
    torch.testing.assert_close(exact(middle), net.get_submodule("3.0")(middle), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(exact.to_plain()(middle), exact(middle), rtol=1e-4, atol=1e-5)
    assert (full(images) - net(images)).abs().max() > 1e-4


def test_decompose_module_replaces_what_is_eligible() -> None:
    net = small_net()
    after = decompose_module(net, 5, skip=["0"])
    assert [type(after.get_submodule(path)) for path in ("0", "3.0", "3.2")] == [
        nn.Conv2d,
        Decomposed,
        nn.Conv2d,
    ]
    assert isinstance(net.get_submodule("3.0"), nn.Conv2d)  # the original is left alone
    assert [type(part) for part in decompose_module(net, 9).modules()] == [
        type(part) for part in net.modules()
    ]
    with pytest.raises(TatamiError, match="penni: the network has no module '7' to skip"):
        decompose_module(net, 5, skip=["7"])
    with pytest.raises(TatamiError, match="penni: cannot decompose Conv2d"):
        Decomposed.of(nn.Conv2d(4, 4, 3, groups=2))
    for other in (
        nn.Conv2d(4, 4, 1),
        nn.Conv2d(4, 4, (3, 1)),
        nn.Conv2d(4, 4, 3, dilation=2),
        nn.Conv2d(4, 4, 3, padding_mode="circular"),
    ):
        assert isinstance(decompose_module(nn.Sequential(other), 2)[0], nn.Conv2d)


def test_parts_train_in_turns() -> None:
    net = decompose_module(small_net(), 5)
    for part, other in (("basis", "coefficients"), ("coefficients", "basis")):
        train_part(net, part)  # type: ignore[arg-type]
        net.zero_grad()
        (net(torch.randn(2, 3, 6, 6)).square().sum() + l1(net)).backward()
        one = net.get_submodule("3.0")
        assert getattr(one, part).grad is not None
        assert getattr(one, part).grad.abs().sum() > 0
        assert getattr(one, other).grad is None
    expected = sum(
        float(value.detach().abs().sum())
        for name, value in net.named_parameters()
        if name.endswith("coefficients")
    )
    assert l1(net).item() == pytest.approx(expected, rel=1e-5)


def test_plain_network_is_imported_as_two_layers() -> None:
    net = decompose_module(small_net(), 5).eval()
    images = torch.randn(2, 3, 9, 8)
    torch.testing.assert_close(plain(net)(images), net(images), rtol=1e-4, atol=1e-5)
    network = import_torch(plain(net), (3, 9, 8), "penni").network
    assert [layer.name for layer in network.layers] == [
        "0.basis",
        "0.coefficients",
        "3.0.basis",
        "3.0.coefficients",
        "3.2",
    ]
    basis = network.layers[2]
    assert isinstance(basis, FloatConv)
    kernels = net.get_submodule("3.0").basis.detach().numpy()
    assert basis.groups == 8
    np.testing.assert_allclose(basis.weight, np.tile(kernels, (8, 1, 1))[:, None], rtol=1e-6)
    expected = net(images).detach().numpy()
    np.testing.assert_allclose(
        evaluate_float(network, images.numpy().astype(np.float64))["3.2"], expected, rtol=1e-3, atol=1e-4
    )


def test_a_plane_that_nothing_reads_has_no_weights() -> None:
    """A plan has no slots for it, so the integers must have none either; the function stays the same."""
    part = Decomposed.of(nn.Conv2d(3, 4, 3, padding=1, bias=False))
    with torch.no_grad():
        part.coefficients[:, 1, 2] = 0
    layers = part.to_plain()
    weight = layers.basis.weight.detach()
    assert [bool(plane.any()) for plane in weight] == [plane != 1 * 5 + 2 for plane in range(15)]
    assert part.to_plain(whole=True).basis.weight.detach().flatten(1).any(dim=1).all()
    images = torch.randn(2, 3, 5, 5)
    torch.testing.assert_close(layers(images), part(images))
