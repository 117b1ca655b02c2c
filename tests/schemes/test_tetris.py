"""TETRIS: whole blocks, a lane with one member, the ratio reached, filters that share a tile where that keeps
more, and an image that computes.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pymodel.compiler.compile import compile_network
from pymodel.cost.counts import image_cost
from pymodel.machine.config import CONFIGS, ArrayConfig
from pymodel.machine.errors import TatamiError
from pymodel.network.integer import (
    INPUT,
    Conv,
    Network,
    Requant,
    around,
)
from pymodel.packing.pack import check
from pymodel.packing.plan import LayerWeights, compression, saliency_kept
from pymodel.schemes.tetris import Tetris, TetrisPass, _exchange, most_salient_blocks
from tests.support import check_images, planned_image

SMALL = CONFIGS["4x2"]
ONE_BANK = replace(SMALL, name="4x1", group=1)


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[LayerWeights], float, ArrayConfig, int]:
    config = draw(st.sampled_from([*CONFIGS.values(), ONE_BANK]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    layers = []
    for name in draw(st.sampled_from(["a", "ab"])):
        filters = draw(
            st.sampled_from([1, 2, config.size - 1, config.size, config.size + 1, 3 * config.size])
        )
        inputs = draw(st.sampled_from([1, 2, 9, 40]))
        weight = rng.normal(size=(filters, inputs)) * (
            rng.random((filters, inputs)) < draw(st.sampled_from([0.0, 0.3, 1.0]))
        )
        layers.append(LayerWeights.by_magnitude(name, weight, rng.integers(0, config.group, inputs)))
    layers.append(
        LayerWeights.by_magnitude("c", rng.normal(size=(config.size, 80)), rng.integers(0, config.group, 80))
    )
    tiles = sum(one.tiles(config) for one in layers)
    limit = sum(one.weight.size for one in layers) / (tiles * config.size)
    return (
        layers,
        draw(st.sampled_from([1.0, min(3.0, limit), limit])),
        config,
        draw(st.sampled_from([1, 2, 3, 100])),
    )


@given(cases())
@settings(max_examples=60, deadline=None)
def test_plan_keeps_whole_blocks(case: tuple[list[LayerWeights], float, ArrayConfig, int]) -> None:
    layers, ratio, config, block = case
    plans = Tetris(block).plan(layers, ratio, config, np.random.default_rng(0))
    assert compression(plans) >= ratio * (1 - 1e-9)
    for one in layers:
        plan = plans[one.name]
        packed = plan.packed
        assert packed is not None
        check(packed, config.size, config.group, one.bank)
        assert ((packed.groups >= 0).sum(axis=1) == 1).all()
        kept = []
        for tile in packed.tiles:
            assert len(set(tile.lanes.tolist())) == len(tile.lanes)
            mine = plan.mask[tile.filters]
            assert (mine == mine[0]).all()
            assert mine[0].sum() == len(tile.lanes)
            kept.append(mine[0])
        if one.inputs % block == 0:  # inputs that are kept in the same tiles come in whole blocks
            _, times = np.unique(np.array(kept), axis=1, return_counts=True)
            assert (times % block == 0).all()
        sizes = sorted(len(tile.filters) for tile in packed.tiles)
        full, rest = divmod(one.filters, config.size)
        assert sizes == sorted([*[config.size] * full, *([rest] if rest else [])])


def two_kinds(order: np.ndarray, inputs: np.ndarray) -> LayerWeights:
    """Eight filters: four use inputs 0..3 only, the others 4..7; rows and columns in the order given."""
    weight = np.kron(np.eye(2), np.ones((4, 4)))[order][:, inputs]
    return LayerWeights.by_magnitude("a", weight, np.arange(8) % 2)


@pytest.mark.parametrize("seed", range(5))
def test_filters_of_a_kind_come_to_share_a_tile(seed: int) -> None:
    """At 2x nothing need be lost; without reordering half would be."""
    layer = two_kinds(np.array([0, 1, 2, 4, 3, 5, 6, 7]), np.random.default_rng(seed).permutation(8))
    plans = Tetris().plan([layer], 2.0, SMALL, np.random.default_rng(0))
    assert saliency_kept([layer], plans) == 1
    np.testing.assert_array_equal(plans["a"].mask, layer.weight != 0)
    packed = plans["a"].packed
    assert packed is not None
    assert {frozenset(tile.filters.tolist()) for tile in packed.tiles} == {
        frozenset({0, 1, 2, 4}),
        frozenset({3, 5, 6, 7}),
    }


def test_inputs_of_a_kind_come_to_share_a_block() -> None:
    layer = two_kinds(np.arange(8), np.array([0, 1, 2, 4, 3, 5, 6, 7]))
    plans = Tetris(block=4).plan([layer], 2.0, SMALL, np.random.default_rng(0))
    np.testing.assert_array_equal(plans["a"].mask, layer.weight != 0)


def test_reordering_keeps_more() -> None:
    """Filters of four kinds under noise, mixed: what the first order keeps is exceeded by far."""
    rng = np.random.default_rng(3)
    weight = np.kron(np.eye(4), np.ones((4, 15))) + 0.3 * rng.normal(size=(16, 60))
    layer = LayerWeights.by_magnitude("a", weight[rng.permutation(16)], rng.integers(0, 2, 60))
    blocks = layer.saliency.reshape(4, 4, 60).sum(axis=1)
    natural = np.sort(blocks.ravel())[-60:].sum() / blocks.sum()
    assert saliency_kept([layer], Tetris().plan([layer], 4.0, SMALL, rng)) > natural * 1.2


def residual_layer(seed: int, alike: bool) -> LayerWeights:
    """64 filters that each add one of four banks to their sums.

    `alike`: those of a bank use the same inputs; no tile has room for eight such.
    """
    rng = np.random.default_rng(seed)
    bank = np.arange(64) % 4
    weight = rng.standard_t(4, (64, 144)) * np.where(
        np.kron(np.eye(4), np.ones((1, 36)))[bank] > 0, 1, 0.1 if alike else 1
    )
    return replace(LayerWeights.by_magnitude("a", weight, np.arange(144) % 4), residual=bank)


@pytest.mark.parametrize("alike", [False, True])
def test_the_best_of_all_rounds_is_the_plan(alike: bool) -> None:
    """Exchanges change how many lanes the residuals of a tile need: a later round may keep less, or find no
    room for them.
    """
    config, seen, refused = CONFIGS["8x4"], [0.0], []

    class Watched(TetrisPass):
        def choose(self, orders: Any, saliency: Any, lanes: int) -> Any:
            try:
                kept = super().choose(orders, saliency, lanes)
            except TatamiError as error:
                refused.append(str(error))
                raise
            seen.append(sum(float(every[one].sum()) for every, one in zip(saliency, kept, strict=True)))
            return kept

    fell = False
    for seed in range(8):
        layer = residual_layer(seed, alike)
        seen.clear()
        plans = Watched().plan([layer], 4.0, config, np.random.default_rng(0))
        assert saliency_kept([layer], plans) * layer.saliency.sum() == pytest.approx(max(seen))
        fell |= seen[-1] < max(seen) * (1 - 1e-6)
        packed = plans["a"].packed
        assert packed is not None
        # whole passes with the residuals of the filters that it has now, and no input left out that is better
        for tile in packed.tiles:
            assert (len(tile.lanes) + np.bincount(tile.filters % 4).max()) % config.size == 0
            worth = layer.saliency[tile.filters].sum(axis=0)
            mine = plans["a"].mask[tile.filters[0]]
            assert worth[mine].min() > worth[~mine].max()
    assert fell or alike
    assert bool(refused) == alike


def test_passes_go_by_the_inputs_that_would_fill_them() -> None:
    """The best inputs of a tile fill its first pass, wherever they are; a second one is worth what the next
    best hold.
    """
    weight = np.array([np.repeat([1, 2, 10], 8), np.repeat(5, 24)])
    layers = [
        LayerWeights.by_magnitude(name, np.tile(row, (8, 1)), np.arange(24) % 4)
        for name, row in zip("ab", weight, strict=True)
    ]
    plans = TetrisPass().plan(layers, 1.5, CONFIGS["8x4"], np.random.default_rng(0))
    assert [int(plans[name].mask[0].sum()) for name in "ab"] == [8, 24]


def test_exchanges_go_on_until_none_gains() -> None:
    worth = np.random.default_rng(1).random((12, 3))
    place = np.arange(12) // 4
    _exchange(worth, place, 1e-12)
    assert np.bincount(place).tolist() == [4, 4, 4]
    assert np.count_nonzero(place != np.arange(12) // 4) > 2  # more than one exchange
    for i, j in itertools.combinations(range(12), 2):
        assert worth[i, place[j]] + worth[j, place[i]] <= worth[i, place[i]] + worth[j, place[j]] + 1e-12


def test_an_input_that_holds_nothing_has_no_lane() -> None:
    weight = np.random.default_rng(1).normal(size=(8, 24))
    weight[:, 5:] = 0
    plans = TetrisPass().plan(
        [LayerWeights.by_magnitude("a", weight, np.arange(24) % 4)],
        1.0,
        CONFIGS["8x4"],
        np.random.default_rng(0),
    )
    assert plans["a"].mask.sum() == 8 * 5
    assert plans["a"].slots == 8 * 5


def test_blocks_are_chosen_over_all_layers() -> None:
    kept = most_salient_blocks(
        [np.array([[1.0, 5.0], [0.0, 2.0]]), np.array([[4.0, 3.0]])],
        [np.ones((2, 2), int), np.ones((1, 2), int)],
        3,
    )
    np.testing.assert_array_equal(kept[0], [[False, True], [False, False]])
    np.testing.assert_array_equal(kept[1], [[True, True]])
    # by what a lane holds; what does not fit any more is passed over; nothing is no reason for a lane
    kept = most_salient_blocks([np.array([[9.0, 8.0, 3.0, 0.0]])], [np.array([[2, 2, 1, 1]])], 3)
    np.testing.assert_array_equal(kept[0], [[True, False, True, False]])
    kept = most_salient_blocks([np.array([[6.0, 5.0, 4.0]])], [np.array([[2, 1, 1]])], 2)
    np.testing.assert_array_equal(kept[0], [[False, True, True]])
    kept = most_salient_blocks([np.array([[6.0, 5.0, 0.0]])], [np.array([[2, 1, 1]])], 9)
    np.testing.assert_array_equal(kept[0], [[True, True, False]])


def test_bad_parameters_are_refused() -> None:
    with pytest.raises(TatamiError, match="tetris: block is 0, must be at least 1"):
        Tetris(block=0)
    layer = two_kinds(np.arange(8), np.arange(8))
    with pytest.raises(
        TatamiError,
        match="ratio is 9, must be at most 8: 2 tiles of filters need a lane each, 1 lanes are left",
    ):
        Tetris().plan([layer], 9, SMALL, np.random.default_rng(0))


@pytest.mark.parametrize("block", [1, 3])
def test_images_agree_with_the_reference(block: int) -> None:
    check_images(CONFIGS["8x4"], Tetris(block), 2.0)


@pytest.mark.parametrize("ratio", [1.5, 3.0, 9.0])
def test_cycles_in_passes_are_proportional_to_density(ratio: float) -> None:
    """To the cycle, in every layer, at every ratio; where blocks are single lanes, passes that are not filled
    up take some more.
    """
    config = CONFIGS["8x4"]
    rng = np.random.default_rng(1)

    def conv(name: str, source: str, filters: int, channels: int) -> Conv:
        weight = (
            rng.integers(-127, 128, (filters, channels, 3, 3)) * (rng.random((filters, 1, 1, 1)) < 0.5) + 1
        )
        return Conv(
            name,
            source,
            np.clip(weight, 1, 127),
            Requant(np.zeros(filters, int), np.full(filters, 40_000), np.full(filters, 24)),
            padding=around(1),
        )

    whole = Network("two", (8, 10, 10), (conv("a", INPUT, 16, 8), conv("b", "a", 24, 16)))
    dense = image_cost(compile_network(whole, config, packing="dense"))
    excess = {}
    for scheme in (TetrisPass(), Tetris()):
        planned = planned_image(whole, config, scheme, ratio, rng)
        assert planned is not None
        network, image = planned
        counts = [
            (np.count_nonzero(one.weight), one.weight.size) for one in network.layers if isinstance(one, Conv)
        ]
        assert sum(size for _, size in counts) >= ratio * sum(kept for kept, _ in counts)
        proportional = [
            kept * layer.pass_cycles / size for (kept, size), layer in zip(counts, dense.layers, strict=True)
        ]
        excess[scheme.name] = [
            layer.pass_cycles - cycles
            for layer, cycles in zip(image_cost(image).layers, proportional, strict=True)
        ]
    assert excess["tetris_pass"] == [0, 0]
    assert min(excess["tetris"]) >= 0
    assert max(excess["tetris"]) > 0
