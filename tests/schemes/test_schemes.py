"""What every scheme promises: the ratio is reached, the mask is what has slots, the packing is legal, and the
machine computes the same.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from pymodel.compiler.agreement import loaded
from pymodel.compiler.compile import compile_fitted, compile_network
from pymodel.compiler.planes import input_banks, output_words, residual_banks
from pymodel.cost.counts import image_cost
from pymodel.machine.config import CONFIGS, ArrayConfig
from pymodel.machine.errors import TatamiError
from pymodel.machine.image import Image
from pymodel.network.integer import (
    INPUT,
    Conv,
    GlobalPool,
    Linear,
    Network,
    Requant,
    Residual,
    around,
)
from pymodel.network.reference import evaluate
from pymodel.packing.pack import append, check, pack, refill, unpack
from pymodel.packing.permute import natural
from pymodel.packing.plan import slot_budget
from pymodel.schemes import (
    SCHEMES,
    LayerPlan,
    LayerWeights,
    array_for,
    compression,
    get_scheme,
    occupancy,
    saliency_kept,
    tight_joint,
)
from pymodel.schemes.search import hand_out_lanes, usable_lanes
from pymodel.schemes.tight_joint import TightJoint, best_of_filters, lane_limit, sort_into_tiles
from pymodel.schemes.tight_subword import project
from pymodel.schemes.unstructured import most_salient

Array = np.ndarray[Any, np.dtype[Any]]
SMALL = CONFIGS["8x4"]
# Those that prune a layer as it is; penni's come in two stages (test_penni.py).
PRUNING = [name for name in SCHEMES if name not in ("dense", "penni")]
ON_ARRAY = [name for name in PRUNING if name != "unstructured"]
IN_PASSES = ["tight_pass", "tight_cycle", "tetris_pass", "cycle_subword"]


def small_for(name: str) -> ArrayConfig:
    """The small array with slots as the scheme needs them."""
    return array_for(get_scheme(name), SMALL)


def left(plan: LayerPlan, weight: Array) -> Array:
    """What of a layer's integers [F, K] the plan leaves: whole weights, or digits."""
    digits = plan.packed is not None and plan.packed.digits
    return (
        project(plan.packed, weight) if digits and plan.packed is not None else np.where(plan.mask, weight, 0)
    )


def layer(seed: int, filters: int, inputs: int, config: ArrayConfig, name: str = "conv") -> LayerWeights:
    rng = np.random.default_rng(seed)
    weight = rng.standard_t(4, (filters, inputs)) * rng.lognormal(0, 0.6, (filters, 1))
    return LayerWeights.by_magnitude(name, weight, rng.integers(0, config.group, inputs))


def two_layers(seed: int, config: ArrayConfig = SMALL) -> list[LayerWeights]:
    return [
        layer(seed, 2 * config.size + 1, 45, config, "first"),
        layer(seed + 1, config.size, 70, config, "second"),
    ]


def test_an_array_for_digits_keeps_as_much_of_its_decoder_as_there_is_room_for() -> None:
    config = array_for(get_scheme("tight_subword"), CONFIGS["8x4x"])
    assert (config.name, config.weight_bits, config.xor_inputs, config.xor_history) == (
        "8x4xw4",
        4,
        config.most_xor_inputs,
        2,
    )
    none = array_for(get_scheme("tight_subword"), replace(CONFIGS["4x2"], xor_inputs=8, xor_history=1))
    assert (none.most_xor_inputs, none.xor_inputs, none.xor_history) == (0, 0, 0)


@pytest.mark.parametrize("name", PRUNING)
@pytest.mark.parametrize("ratio", [2.0, 5.0])
def test_a_plan_reaches_its_ratio_and_keeps_what_has_slots(name: str, ratio: float) -> None:
    layers, config = two_layers(1), small_for(name)
    plans = get_scheme(name).plan(layers, ratio, config, np.random.default_rng(0))
    assert list(plans) == [one.name for one in layers]
    assert ratio <= compression(plans) < ratio * 1.5
    assert 0 < saliency_kept(layers, plans) < 1
    assert 0 < occupancy(plans) <= 1
    for one in layers:
        plan = plans[one.name]
        assert plan.mask.shape == one.weight.shape
        if name == "unstructured":
            assert plan.packed is None
            continue
        assert plan.packed is not None
        check(plan.packed, config.size, config.group, one.bank, config.weight_bits)
        assert np.array_equal(unpack(plan.packed, *one.weight.shape) != 0, plan.mask)
        assert plan.slots >= plan.mask.sum()


@pytest.mark.parametrize("name", PRUNING)
def test_no_array_keeps_more_than_unstructured_pruning(name: str) -> None:
    layers = two_layers(3)
    plans = get_scheme(name).plan(layers, 4.0, small_for(name), np.random.default_rng(0))
    free = get_scheme("unstructured").plan(layers, compression(plans), SMALL, np.random.default_rng(0))
    assert saliency_kept(layers, plans) <= saliency_kept(layers, free) + 1e-9


@pytest.mark.parametrize("name", PRUNING)
def test_equal_arguments_give_equal_plans_and_files_keep_them(name: str) -> None:
    layers = two_layers(5)
    first, second = (
        get_scheme(name).plan(layers, 3.0, small_for(name), np.random.default_rng(7)) for _ in range(2)
    )
    for one in layers:
        again = LayerPlan.from_arrays(first[one.name].to_arrays())
        for other in (second[one.name], again):
            assert np.array_equal(first[one.name].mask, other.mask)
            assert first[one.name].slots == other.slots


@pytest.mark.parametrize("name", ON_ARRAY)
@settings(max_examples=10, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    filters=st.integers(1, 20),
    inputs=st.integers(1, 40),
    ratio=st.floats(1, 4),
)
@example(seed=0, filters=1, inputs=1, ratio=1.0)
@example(seed=0, filters=9, inputs=1, ratio=1.0)
def test_unpacking_gives_the_pruned_weights(
    name: str, seed: int, filters: int, inputs: int, ratio: float
) -> None:
    one = layer(seed, filters, inputs, SMALL)
    # a lane for each tile is the least that there can be, or a pass
    ratio = min(
        ratio, one.weight.size / (one.tiles(SMALL) * SMALL.size * (SMALL.size if name in IN_PASSES else 1))
    )
    assume(ratio >= 1)
    plan = get_scheme(name).plan([one], ratio, small_for(name), np.random.default_rng(seed))["conv"]
    assert plan.packed is not None
    weight = left(plan, np.random.default_rng(seed).integers(-119, 120, one.weight.shape))
    filled = refill(plan.packed, weight)
    check(filled, SMALL.size, SMALL.group, one.bank, small_for(name).weight_bits)
    assert np.array_equal(unpack(filled, filters, inputs), weight)
    # no filter has more weights than its tile has lanes
    for tile in plan.packed.tiles:
        assert plan.mask[tile.filters].sum(axis=1).max() <= len(tile.lanes)


@pytest.mark.parametrize("name", PRUNING)
def test_a_layer_of_zeros_is_planned(name: str) -> None:
    empty = LayerWeights.by_magnitude("empty", np.zeros((10, 12)), np.arange(12) % SMALL.group)
    plans = get_scheme(name).plan(
        [empty, layer(1, 16, 40, SMALL)], 2.0, small_for(name), np.random.default_rng(0)
    )
    assert compression(plans) >= 2.0


@pytest.mark.parametrize("name", SCHEMES)
@pytest.mark.parametrize("ratio", [0.5, np.nan, np.inf, 1e9])
def test_a_ratio_that_cannot_be_reached_is_refused(name: str, ratio: float) -> None:
    with pytest.raises(TatamiError, match="ratio is"):
        get_scheme(name).plan(two_layers(1), ratio, small_for(name), np.random.default_rng(0))


def test_an_unknown_scheme_lists_those_there_are() -> None:
    with pytest.raises(TatamiError, match=r"scheme 'magic' is unknown; valid: dense, .*tight_joint"):
        get_scheme("magic")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight": np.full((2, 3), np.nan)}, r"layer 'x': weight \[0, 0\] is nan, must be a finite number"),
        ({"saliency": np.full((2, 3), -1.0)}, r"layer 'x': saliency is -1.0, must be at least 0"),
        ({"saliency": np.zeros((2, 2))}, r"layer 'x': saliency has shape \(2, 2\), must be \(2, 3\)"),
        ({"words": 0}, "layer 'x': words is 0, must be at least 1"),
        ({"bank": np.zeros(2, np.int64)}, r"layer 'x': bank has shape \(2,\), must be \(3,\)"),
        ({"weight": np.zeros(3)}, r"layer 'x': weight has shape \(3,\), must be \[filters, inputs\]"),
    ],
)
def test_bad_layers_are_refused(change: dict[str, Any], message: str) -> None:
    good: dict[str, Any] = {
        "weight": np.ones((2, 3)),
        "bank": np.zeros(3, np.int64),
        "saliency": np.ones((2, 3)),
    }
    with pytest.raises(TatamiError, match=message):
        LayerWeights("x", **(good | change))


@pytest.mark.parametrize("keep", [0, 1, 5, 11, 12, 13])
def test_the_most_salient_weights_stay_and_of_equals_the_first(keep: int) -> None:
    rng = np.random.default_rng(keep)
    layers = [
        LayerWeights.by_magnitude(name, rng.integers(-2, 3, shape), np.zeros(shape[1], np.int64))
        for name, shape in (("a", (2, 3)), ("b", (3, 2)))
    ]
    worth = [*layers[0].saliency.ravel().tolist(), *layers[1].saliency.ravel().tolist()]
    best = sorted(range(12), key=lambda n: (-worth[n], n))[:keep]
    masks = most_salient(layers, keep)
    found = [*masks["a"].ravel().tolist(), *masks["b"].ravel().tolist()]
    assert [n for n in range(12) if found[n]] == sorted(best)


# tight_joint


def test_a_large_network_shares_the_moves_that_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    config = CONFIGS["16x16"]
    rng = np.random.default_rng(1)
    layers = [
        LayerWeights.by_magnitude(name, rng.standard_t(4, (32, inputs)), np.arange(inputs) % 16)
        for name, inputs in (("a", 160), ("b", 320))
    ]

    def masks(moves: int) -> list[Array]:
        plans = TightJoint(moves=moves).plan(layers, 10.0, config, np.random.default_rng(2))
        return [plan.mask for plan in plans.values()]

    ten, hundred = masks(10), masks(100)
    assert any((a != b).any() for a, b in zip(ten, hundred, strict=True))
    monkeypatch.setattr(tight_joint, "MOST_MOVES", 10 * 2 * (160 + 320))  # two tiles each
    np.testing.assert_equal(masks(100), ten)
    monkeypatch.setattr(tight_joint, "MOST_MOVES", 100 * 2 * (160 + 320))
    np.testing.assert_equal(masks(100), hundred)


def test_joint_fills_every_slot_and_comes_close_to_its_bound() -> None:
    config = CONFIGS["16x16"]
    rng = np.random.default_rng(1)
    layers = [
        LayerWeights.by_magnitude("conv", rng.standard_t(4, (32, 288)), np.repeat(np.arange(32) % 16, 9))
    ]
    lanes = slot_budget(layers, 10.0, config)
    tiles = {"conv": sort_into_tiles(most_salient(layers, lanes * 16)["conv"].sum(axis=1), 16)}
    best = best_of_filters(layers, tiles)
    limit = lane_limit(best, hand_out_lanes(best, lanes))
    plans = get_scheme("tight_joint").plan(layers, 10.0, config, rng)
    kept = saliency_kept(layers, plans) * layers[0].saliency.sum()
    assert occupancy(plans) == 1
    assert 0.97 * limit < kept <= limit * (1 + 1e-9)
    # the search is worth its time, and lossless packing to the same size keeps less
    assert (
        kept
        > 1.05
        * saliency_kept(layers, TightJoint(moves=0).plan(layers, 10.0, config, rng))
        * layers[0].saliency.sum()
    )
    assert (
        kept
        > 1.05
        * saliency_kept(layers, get_scheme("tight_tile").plan(layers, 10.0, config, rng))
        * layers[0].saliency.sum()
    )


def test_lanes_go_to_where_they_add_most() -> None:
    weight = np.zeros((8, 6))
    weight[:4] = [9, 8, 7, 0, 0, 0]  # three lanes are worth much here
    weight[4:] = [5, 1, 1, 1, 1, 1]
    layers = [LayerWeights.by_magnitude("conv", weight, np.arange(6) % 2)]
    tiles = {"conv": [np.arange(4), np.arange(4, 8)]}
    best = best_of_filters(layers, tiles)
    assert hand_out_lanes(best, 2)["conv"].tolist() == [1, 1]
    assert hand_out_lanes(best, 4)["conv"].tolist() == [3, 1]
    assert hand_out_lanes(best, 6)["conv"].tolist() == [3, 3]
    assert hand_out_lanes(best, 6, step=2)["conv"].tolist() == [4, 2]
    both = {"conv": best["conv"], "late": best["conv"]}
    assert {name: share.tolist() for name, share in hand_out_lanes(both, 8).items()} == {
        "conv": [3, 1],
        "late": [3, 1],
    }
    # a lane that holds 4 x 64 is less than one that holds 4 in a hundredth of the time
    cheap = hand_out_lanes(both, 8, cost={"conv": 100, "late": 1})
    assert {name: share.tolist() for name, share in cheap.items()} == {"conv": [1, 1], "late": [3, 3]}
    assert lane_limit(best, {"conv": np.array([3, 1])}) == 4 * (81 + 64 + 49) + 4 * 25
    with pytest.raises(TatamiError, match="3 lanes are too few: 2 tiles of filters need 2 each"):
        hand_out_lanes(best, 3, step=2)


def test_a_tile_gets_no_more_lanes_than_it_can_use() -> None:
    """Nine of a depthwise, whatever a pass has; those that are left go where they hold something."""
    worth = {"depthwise": [np.array([9.0] * 9 + [0.0] * 63)], "whole": [np.arange(40.0, 0, -1)]}
    most = {"depthwise": np.array([9])}

    def shares(lanes: int, step: int, spare: int = 0) -> dict[str, list[int]]:
        others = {"depthwise": np.array([spare]), "whole": np.array([0])}
        found = hand_out_lanes(worth, lanes, step, others, most=most)
        return {name: share.tolist() for name, share in found.items()}

    assert shares(25, 16) == {"depthwise": [9], "whole": [16]}
    assert shares(41, 16) == {"depthwise": [9], "whole": [32]}
    assert shares(48, 8) == {"depthwise": [8], "whole": [40]}  # a pass of eight holds more
    assert shares(49, 8) == {"depthwise": [9], "whole": [40]}
    assert shares(24, 8) == {"depthwise": [8], "whole": [16]}
    assert shares(28, 16, spare=3) == {"depthwise": [9], "whole": [16]}
    with pytest.raises(TatamiError, match="24 lanes are too few: 2 tiles of filters need 25, 16 each or all"):
        shares(24, 16)


@pytest.mark.parametrize(("group", "lanes"), [(8, 9), (4, 18), (2, 36)])
def test_a_depthwise_tile_takes_an_input_of_each_bank(group: int, lanes: int) -> None:
    """Eight channels of nine weights: a lane holds as many of them as there are banks."""
    rng = np.random.default_rng(group)
    own = np.repeat(np.eye(8, dtype=bool), 9, axis=1)
    weight = np.where(own, rng.uniform(1, 2, own.shape), 0)
    bank = np.repeat(np.arange(8) % group, 9)
    layer = LayerWeights("d", weight, bank, np.square(weight), own=own)
    tiles = {"d": [np.arange(8)]}
    assert usable_lanes([layer], tiles, shared=False)["d"].tolist() == [lanes]
    assert usable_lanes([layer], tiles, shared=True)["d"].tolist() == [72]
    (best,) = best_of_filters([layer], tiles)["d"]
    assert (best[:lanes] > 0).all()
    np.testing.assert_allclose(best[lanes:], 0, atol=1e-9)
    assert (np.diff(best) <= 1e-9).all(), "each further lane holds less"
    assert best.sum() == pytest.approx(layer.saliency.sum())
    for count in range(1, lanes + 1):
        # all weights that n lanes can hold: n of each bank, the largest
        held = sum(np.sort(layer.saliency.sum(axis=0)[bank == b])[::-1][:count].sum() for b in range(group))
        assert best[:count].sum() <= held * (1 + 1e-9)


@pytest.mark.parametrize("name", IN_PASSES)
def test_schemes_in_passes_hand_out_whole_ones(name: str) -> None:
    scheme, config = get_scheme(name), small_for(name)
    slots = 8 // config.weight_bits  # that a residual takes
    layers = two_layers(1)
    bank = np.where(np.arange(17) % 5 < slots, -1, np.arange(17) % SMALL.group)
    plans = scheme.plan([replace(layers[0], residual=bank), layers[1]], 2.0, config, np.random.default_rng(0))
    for plan in plans.values():
        assert plan.packed is not None
    first, second = (plan.packed.tiles for plan in plans.values() if plan.packed is not None)
    assert all(len(tile.lanes) % SMALL.size == 0 for tile in second)
    assert any(len(tile.lanes) % SMALL.size for tile in first)
    for tile in first:
        # with the lanes of the residuals, of which those of one bank cannot share one
        others = slots * max(int((bank[tile.filters] == b).sum()) for b in range(SMALL.group))
        assert (len(tile.lanes) + others) % SMALL.size == 0
    with pytest.raises(
        TatamiError,
        match="layer 'first': its residuals need 8 lanes of a tile's first 8: none is left for weights",
    ):
        scheme.plan([replace(layers[0], residual=np.zeros(17, int))], 2.0, config, np.random.default_rng(0))


@given(seed=st.integers(0, 2**32 - 1), costs=st.booleans())
@settings(max_examples=150, deadline=None)
def test_no_other_hand_out_of_lanes_keeps_more(seed: int, costs: bool) -> None:
    """By trying all of them: with as many lanes, or where lanes have costs in as little."""
    rng = np.random.default_rng(seed)
    step = int(rng.integers(1, 4))
    worth: dict[str, list[Array]] = {}
    spare: dict[str, Array] = {}
    for name in "ab"[: rng.integers(1, 3)]:
        worth[name] = [
            np.sort(rng.integers(0, 9, rng.integers(1, 7)).astype(float))[::-1]
            for _ in range(rng.integers(1, 3))
        ]
        spare[name] = rng.integers(0, step, len(worth[name]))
    cost = {name: int(rng.integers(1, 6)) for name in worth} if costs else None
    tiles = [(name, index) for name, mine in worth.items() for index in range(len(mine))]
    lanes = int(rng.integers(len(tiles) * step, len(tiles) * step * 5))
    found = hand_out_lanes(worth, lanes, step, spare, cost)

    def judged(passes: Sequence[int]) -> tuple[float, int]:
        kept = sum(
            float(worth[n][i][: count * step - spare[n][i]].sum())
            for (n, i), count in zip(tiles, passes, strict=True)
        )
        return kept, sum(
            count * (1 if cost is None else cost[n]) for (n, _), count in zip(tiles, passes, strict=True)
        )

    mine = [int(found[n][i] + spare[n][i]) // step for n, i in tiles]
    assert sum(mine) * step <= lanes
    kept, spent = judged(mine)
    for others in itertools.product(range(1, 7), repeat=len(tiles)):
        if sum(others) * step <= lanes and (cost is None or judged(others)[1] <= spent):
            assert judged(others)[0] <= kept


def test_passes_go_to_where_they_cost_little() -> None:
    """The same weights in two layers, one of which takes 1000 times the cycles for a lane: the other gets all
    but one pass.
    """
    weight = np.random.default_rng(1).standard_t(4, (SMALL.size, 80))
    bank = np.arange(80) % SMALL.group
    layers = [
        replace(LayerWeights.by_magnitude(name, weight, bank), words=words)
        for name, words in (("large", 1000), ("small", 1))
    ]
    passes = {}
    for name in ("tight_pass", "tight_cycle"):
        plans = get_scheme(name).plan(layers, 2.0, SMALL, np.random.default_rng(0))
        passes[name] = [plan.packed.lanes // SMALL.size for plan in plans.values() if plan.packed is not None]
    assert passes == {"tight_pass": [5, 5], "tight_cycle": [1, 9]}


def test_the_words_of_a_layer_are_what_a_lane_takes() -> None:
    """In cycles: as the machine's own count has it, also where planes are split by phase and words have spare
    pixels.
    """
    whole = network(1, SMALL)
    words = output_words(whole, SMALL)
    assert list(words) == ["c1", "c2", "c3", "fc"]
    for cost in image_cost(compile_fitted(whole, SMALL, packing="dense")).layers:
        if cost.name in words:
            assert cost.pass_cycles * cost.chunks == cost.passes * SMALL.size * words[cost.name]


@pytest.mark.parametrize("name", IN_PASSES)
def test_residuals_go_into_the_lanes_that_were_left_for_them(name: str) -> None:
    """A whole network with a residual: the passes are whole with it, too."""
    config = small_for(name)
    whole = network(1, config)
    residuals = residual_banks(whole, config)
    assert list(residuals) == ["c3"]
    layers = [replace(one, residual=residuals.get(one.name)) for one in layers_of(whole, config)]
    plans = get_scheme(name).plan(layers, 2.0, config, np.random.default_rng(0))
    net = pruned(whole, plans)
    image = compile_fitted(net, config, plans=plans)
    images = np.random.default_rng(2).integers(-128, 128, (1, *net.input_shape)).astype(np.int8)
    assert_machine_agrees(net, image, images)
    lanes = {stats["name"]: stats["lanes"] for stats in image.stats["layers"]}
    assert [lanes[name] % SMALL.size for name in ("c2", "c3", "fc")] == [0, 0, 0]


# Into the machine


def network(seed: int, config: ArrayConfig) -> Network:
    """Convolutions with a stride and a residual, a pool and a linear layer, dense random weights."""
    rng = np.random.default_rng(seed)
    t = config.size

    residual = Residual("c2", np.arange(t + 3), np.full(t + 3, 90))

    def requant(filters: int, inputs: int) -> Requant:
        return Requant(
            rng.integers(-1000, 1000, filters),
            np.full(filters, 40_000),
            np.full(filters, 22 + int(np.log2(inputs) / 2)),
            low=0,
        )

    def weight(*shape: int) -> Array:
        return rng.integers(-119, 120, shape)  # what two digits hold, too

    return Network(
        "small",
        (3, 6, 7),
        (
            Conv("c1", INPUT, weight(t, 3, 3, 3), requant(t, 27), padding=around(1)),
            Conv("c2", "c1", weight(t + 3, t, 3, 3), requant(t + 3, 9 * t), stride=(2, 2), padding=around(1)),
            Conv(
                "c3",
                "c2",
                weight(t + 3, t + 3, 3, 3),
                requant(t + 3, 9 * t),
                padding=around(1),
                residual=residual,
            ),
            GlobalPool(
                "pool", "c3", Requant(np.zeros(t + 3, int), np.full(t + 3, 40_000), np.full(t + 3, 18))
            ),
            Linear("fc", "pool", weight(10, t + 3), requant(10, t + 3)),
        ),
    )


def layers_of(
    net: Network, config: ArrayConfig, names: Sequence[str] = ("c2", "c3", "fc")
) -> list[LayerWeights]:
    banks = input_banks(net, config)
    by_name = {one.name: one for one in net.layers if isinstance(one, Conv | Linear)}
    return [
        LayerWeights.by_magnitude(
            name, by_name[name].weight.reshape(len(by_name[name].weight), -1), banks[name]
        )
        for name in names
    ]


def pruned(net: Network, plans: dict[str, LayerPlan]) -> Network:
    layers = []
    for one in net.layers:
        if isinstance(one, Conv | Linear) and one.name in plans:
            kept = left(plans[one.name], one.weight.reshape(len(one.weight), -1))
            one = replace(one, weight=kept.reshape(one.weight.shape))
        layers.append(one)
    return Network(net.name, net.input_shape, tuple(layers))


def assert_machine_agrees(net: Network, image: Image, images: Array) -> int:
    """Every byte of every tensor as the reference has it; returns the cycles without those between layers."""
    machine = loaded(image, images)
    run = machine.run(image.run_start)
    for name, tensor in evaluate(net, images).items():
        place = image.placements[name]
        np.testing.assert_array_equal(
            machine.read_tensor(place), place.to_words(tensor), err_msg=f"tensor {name}"
        )
    return run.busy_cycles


@pytest.mark.parametrize("name", [*ON_ARRAY, "unstructured"])
@pytest.mark.parametrize("config", [CONFIGS["8x4"], CONFIGS["16x16"]], ids=lambda c: c.name)
def test_the_machine_computes_what_the_scheme_left(name: str, config: ArrayConfig) -> None:
    config = array_for(get_scheme(name), config)
    whole = network(1, config)
    plans = get_scheme(name).plan(layers_of(whole, config), 3.0, config, np.random.default_rng(0))
    net = pruned(whole, plans)
    image = compile_fitted(net, config, plans=plans, scheme=name)
    assert image.scheme == name
    images = np.random.default_rng(2).integers(-128, 128, (2, *net.input_shape)).astype(np.int8)
    cycles = assert_machine_agrees(net, image, images)
    lanes = {stats["name"]: stats["lanes"] for stats in image.stats["layers"]}
    if name != "unstructured":
        for planned, plan in plans.items():
            assert plan.packed is not None
            # a residual has a slot a filter, in lanes of its own at worst
            assert (
                plan.packed.lanes
                <= lanes[planned]
                <= plan.packed.lanes + (config.size * len(plan.packed.tiles) if planned == "c3" else 0)
            )
    dense = compile_fitted(net, config, packing="dense")
    assert cycles < assert_machine_agrees(net, dense, images)


@pytest.mark.parametrize("name", ON_ARRAY)
def test_permuted_channels_and_groups_change_nothing(name: str) -> None:
    """Metamorphic: channels that lie in one bank change places, the plan's groups name them by their new
    numbers, and the result is the same.
    """
    config = small_for(name)
    whole = network(4, config)
    plan = get_scheme(name).plan(layers_of(whole, config, ("c2",)), 2.0, config, np.random.default_rng(0))[
        "c2"
    ]
    assert plan.packed is not None
    net = pruned(whole, {"c2": plan})
    first, second = net.layers[0], net.layers[1]
    assert isinstance(first, Conv)
    assert isinstance(second, Conv)
    order = np.roll(np.arange(len(first.weight)), SMALL.group)  # channel c comes from order[c]
    q = first.requant
    moved_first = replace(
        first,
        weight=first.weight[order],
        requant=Requant(q.bias[order], q.multiplier[order], q.shift[order], q.zero, q.low, q.high),
    )
    moved = Network(
        "moved",
        net.input_shape,
        (moved_first, replace(second, weight=second.weight[:, order]), *net.layers[2:]),
    )
    channel, tap = np.divmod(plan.packed.groups, 9)
    groups = np.where(plan.packed.groups < 0, -1, np.argsort(order)[channel] * 9 + tap)
    moved_plan = LayerPlan.of(replace(plan.packed, groups=groups))
    assert not np.array_equal(moved_plan.mask, plan.mask)
    images = np.random.default_rng(5).integers(-128, 128, (1, *net.input_shape)).astype(np.int8)
    cycles = [
        assert_machine_agrees(n, compile_fitted(n, config, plans={"c2": p}), images)
        for n, p in ((net, plan), (moved, moved_plan))
    ]
    assert cycles[0] == cycles[1]
    for tensor in ("c2", "c3", "fc"):
        assert np.array_equal(evaluate(net, images)[tensor], evaluate(moved, images)[tensor])
        assert evaluate(net, images)[tensor].any()


@pytest.mark.parametrize("name", ON_ARRAY)
def test_a_split_of_the_inputs_adds_up(name: str) -> None:
    """Metamorphic: the inputs of a layer in two halves, each planned alone; the machine's sums of both make
    that of the layer with all of them.
    """
    config = small_for(name)
    rng = np.random.default_rng(6)
    filters, channels = config.size + 3, 7
    whole = rng.integers(-1, 2, (filters, channels * 9))
    # the sum itself
    same = Requant(np.zeros(filters, int), np.full(filters, 2**15), np.full(filters, 15))
    images = rng.integers(-1, 2, (2, channels, 5, 6)).astype(np.int8)

    def outputs(weight: Array, plans: dict[str, LayerPlan] | None) -> Array:
        net = Network(
            "one",
            (channels, 5, 6),
            (Conv("conv", INPUT, weight.reshape(filters, channels, 3, 3), same, padding=around(1)),),
        )
        assert_machine_agrees(net, compile_fitted(net, config, plans=plans), images)
        found: Array = evaluate(net, images)["conv"].astype(int)
        return found

    blank = Network(
        "one",
        (channels, 5, 6),
        (Conv("conv", INPUT, whole.reshape(filters, channels, 3, 3), same, padding=around(1)),),
    )
    bank = input_banks(blank, config)["conv"]
    sums, kept = [], np.zeros_like(whole)
    for half in (np.arange(whole.shape[1]) < 30, np.arange(whole.shape[1]) >= 30):
        plan = get_scheme(name).plan(
            [LayerWeights.by_magnitude("conv", whole * half, bank)], 2.0, config, rng
        )["conv"]
        weight = left(plan, whole * half)
        kept += weight
        sums.append(outputs(weight, {"conv": plan}))
    assert all(one.any() for one in sums)
    np.testing.assert_array_equal(sums[0] + sums[1], outputs(kept, None))


def test_a_plan_that_does_not_fit_the_weights_is_refused() -> None:
    net = network(1, SMALL)
    plans = get_scheme("tight_joint").plan(layers_of(net, SMALL), 3.0, SMALL, np.random.default_rng(0))
    with pytest.raises(
        TatamiError,
        match=r"layer 'c2': the plan does not fit: refill: filter \d+, input \d+ is -?\d+, but has no slot",
    ):
        compile_fitted(net, SMALL, plans=plans)


def test_memories_are_fitted_to_the_network() -> None:
    net = network(1, SMALL)
    shallow = replace(
        SMALL, feature_depth=4, program_depth=4, group_depth=4, tap_depth=4, edge_depth=4, tile_depth=4
    )
    image = compile_fitted(net, shallow)
    for field in ("feature_depth", "program_depth", "group_depth", "tap_depth"):
        depth = getattr(image.config, field)
        assert depth & (depth - 1) == 0
        assert depth > 4
    assert image.config.acc_words == SMALL.acc_words
    images = np.random.default_rng(2).integers(-128, 128, (1, *net.input_shape)).astype(np.int8)
    assert_machine_agrees(net, image, images)
    with pytest.raises(TatamiError, match="does not fit"):
        compile_network(net, replace(image.config, feature_depth=image.config.feature_depth // 2))


# refill and append


def test_append_uses_empty_slots_before_new_lanes() -> None:
    weight = np.array([[1, 0], [0, 2]])
    packed = pack(weight, np.array([0, 1]), natural(weight, np.array([0, 1]), 4, 4), 4, 4)
    assert packed.lanes == 1
    # banks 2 and 3 are free in the one group; both filters have their slot in its lane, so a second lane is
    # needed once
    extra = np.array([[3, 0], [0, 4]])
    bank = np.array([2, 3])
    grown = append(packed, extra, bank)
    check(grown, 4, 4, np.array([0, 1, 2, 3]))
    assert np.array_equal(unpack(grown, 2, 4), np.concatenate([weight, extra], axis=1))
    assert grown.lanes == 2
    # a filter whose slot is empty takes no new lane
    assert append(packed, np.array([[0], [0]]), np.array([2])).lanes == 1
    sparse = np.array([[1, 0], [0, 0]])
    one = pack(sparse, np.array([0, 1]), natural(sparse, np.array([0, 1]), 4, 4), 4, 4)
    assert append(one, np.array([[0], [5]]), np.array([2])).lanes == 1
    # the bank of the input is taken by another input of the group: a group of its own
    assert append(one, np.array([[0], [5]]), np.array([0])).lanes == 2


def test_refill_refuses_another_shape() -> None:
    one = layer(1, 4, 6, SMALL)
    packed = get_scheme("tight_joint").plan([one], 1.0, SMALL, np.random.default_rng(0))["conv"].packed
    assert packed is not None
    with pytest.raises(TatamiError, match=r"refill: weight has shape \(4, 5\), must be \(4, 6\)"):
        refill(packed, np.zeros((4, 5), np.int64))
