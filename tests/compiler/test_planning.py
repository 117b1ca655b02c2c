"""Convolutions in groups as schemes see them: their own inputs only, block by block."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pymodel.compiler.compile import clip_weights, compile_fitted
from pymodel.compiler.planning import parts_of, plan_network, weights_of
from pymodel.machine.config import CONFIGS
from pymodel.machine.errors import TatamiError
from pymodel.network import network_file
from pymodel.network.integer import (
    INPUT,
    Conv,
    Gather,
    Layer,
    Linear,
    Network,
    Requant,
    Residual,
    around,
)
from pymodel.packing.pack import Block, pack_dense, refill_blocks, unpack
from pymodel.packing.plan import LayerPlan
from pymodel.schemes import SCHEMES, array_for, get_scheme
from pymodel.schemes.tight_subword import project
from tests.support import assert_agrees

SMALL = CONFIGS["8x4"]
GROUPED = tuple(name for name, scheme in SCHEMES.items() if scheme.stages == 1)


def network(rng: np.random.Generator) -> Network:
    """Depthwise, groups smaller and larger than a tile, one with a residual, behind a concat."""

    def weight(*shape: int) -> np.ndarray:
        return rng.integers(-127, 128, shape)

    def requant(filters: int) -> Requant:
        return Requant(np.zeros(filters, int), np.full(filters, 20_000), np.full(filters, 23))

    return Network(
        "grouped",
        (12, 6, 5),
        (
            Conv("depthwise", INPUT, weight(12, 1, 3, 3), requant(12), padding=around(1), groups=12),
            Gather.concat("both", ("depthwise", INPUT), (12, 12)),
            Conv("small", "both", weight(16, 6, 3, 3), requant(16), padding=around(1), groups=4),
            Conv(
                "large",
                "small",
                weight(36, 8, 3, 3),
                requant(36),
                padding=around(1),
                groups=2,
                residual=Residual(INPUT, np.arange(36) % 13 - 1, np.full(36, 50)),
            ),
            Conv("whole", "large", weight(9, 36, 1, 1), requant(9)),
            Linear("fc", "whole", weight(5, 270), requant(5)),
        ),
    )


@pytest.mark.parametrize("name", GROUPED)
def test_every_scheme_plans_groups_and_the_machine_agrees(name: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    scheme = get_scheme(name)
    config = array_for(scheme, SMALL)
    whole = clip_weights(network(rng), config)
    ratio = 2.0 if scheme.prunes else 1.0
    plans = plan_network(whole, weights_of(whole, keep=("fc",)), scheme, ratio, config, rng)
    assert set(plans) == {"depthwise", "small", "large", "whole"}
    layers: list[Layer] = []
    for layer in whole.layers:
        if isinstance(layer, Conv):
            plan, matrix = plans[layer.name], layer.weight.reshape(len(layer.weight), -1)
            assert plan.mask.shape == matrix.shape
            kept = matrix * plan.mask
            if plan.packed is not None and plan.packed.digits:
                kept = project(plan.packed, matrix)
            layers.append(replace(layer, weight=kept.reshape(layer.weight.shape).astype(np.int8)))
        else:
            layers.append(layer)
    pruned = Network("grouped", whole.input_shape, tuple(layers))
    images = rng.integers(-128, 128, (2, *whole.input_shape)).astype(np.int8)
    file = tmp_path / "network.npz"
    network_file.save(network_file.StoredNetwork(pruned, images, np.zeros(0, np.uint8), {}, plans), file)
    again = network_file.load(file)
    for layer_name, plan in plans.items():
        np.testing.assert_array_equal(again.plans[layer_name].mask, plan.mask)
    assert_agrees(again.network, compile_fitted(again.network, config, plans=again.plans), images)


def test_slots_for_inputs_of_another_group_are_refused_or_stay_empty() -> None:
    """Two groups of two filters and three inputs; a slot of filter 0 is for an input of the other group."""
    bank = np.arange(6) % 4
    weight = np.ones((4, 6), np.int64)
    weight[1:2, 3:], weight[2:, :3], weight[0, 4:] = 0, 0, 0
    packed = pack_dense(weight, bank, 4, 4)
    with pytest.raises(TatamiError, match="plan: filter 0 has a slot for input 3 of another group"):
        LayerPlan.of(packed, 2)
    with pytest.raises(TatamiError, match="plan: 3 groups do not divide 4 filters and 6 inputs"):
        LayerPlan.of(packed, 3)
    whole = [Block(np.arange(4), np.arange(0, 6, 2), np.full((4, 3), 7))]
    with pytest.raises(TatamiError, match=r"refill: filter 0, input 4 is 7, but has no slot"):
        refill_blocks(packed, whole)
    whole[0].weight[0, 2] = whole[0].weight[1, 2] = 0
    whole[0].weight[2:, :2] = 0
    filled = unpack(refill_blocks(packed, whole), 4, 6)
    assert not filled[:, 1::2].any(), "a slot took the weight of another input"
    halves = [Block(np.arange(n, n + 2), np.arange(6), weight[n : n + 2]) for n in (0, 2)]
    np.testing.assert_array_equal(unpack(refill_blocks(packed, halves), 4, 6), weight)


def test_a_part_has_the_inputs_of_its_groups_alone() -> None:
    whole = network(np.random.default_rng(4))
    parts = parts_of(whole, SMALL, weights_of(whole, keep=("fc",)))
    shapes = {name: [one.weight.shape for one in part.weights] for name, part in parts.items()}
    assert shapes == {
        "depthwise": [(8, 72), (4, 36)],
        "small": [(8, 108), (8, 108)],
        "large": [(36, 144)],
        "whole": [(9, 36)],
    }
    for name, part in parts.items():
        layer = next(one for one in whole.layers if one.name == name)
        assert isinstance(layer, Conv)
        assert sum(one.weights for one in part.weights) == layer.weight.size
    alone = parts_of(whole, SMALL, weights_of(whole, keep=("fc",)), whole_tiles=False)["large"]
    assert [one.weight.shape for one in alone.weights] == [(18, 72), (18, 72)]
    assert [one.part.filters.tolist() for one in alone.weights if one.part] == [
        list(range(18)),
        list(range(18, 36)),
    ]
    assert {one.layer for one in alone.weights} == {"large"}
    assert parts["large"].weights[0].residual is not None
    for part in parts.values():
        for one in part.weights:
            np.testing.assert_array_equal(one.saliency, np.square(one.weight))


def test_without_slots_the_largest_weights_stay_in_groups_too() -> None:
    rng = np.random.default_rng(6)
    whole = network(rng)
    weights = weights_of(whole)
    plans = plan_network(whole, weights, get_scheme("unstructured"), 3.0, SMALL, rng)
    kept, dropped = [], []
    for name, weight in weights.items():
        size = np.abs(weight.reshape(len(weight), -1))
        kept.append(size[plans[name].mask])
        dropped.append(size[~plans[name].mask])
    assert np.concatenate(kept).min() >= np.concatenate(dropped).max() > 0


def test_a_plan_without_the_slot_of_a_weight_is_refused() -> None:
    rng = np.random.default_rng(5)
    whole = network(rng)
    plans = plan_network(whole, weights_of(whole), get_scheme("tight_joint"), 2.0, SMALL, rng)
    with pytest.raises(TatamiError, match=r"layer 'depthwise': the plan does not fit: refill: filter \d+"):
        compile_fitted(whole, SMALL, plans=plans)
