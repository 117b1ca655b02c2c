"""Column combining: the limits of a group, one lane a group a tile, conflicts pruned, the ratio reached, and
an image that computes the layer.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pymodel.machine.config import CONFIGS, ArrayConfig
from pymodel.machine.errors import TatamiError
from pymodel.packing.pack import check
from pymodel.packing.plan import LayerWeights, compression
from pymodel.schemes.column_combining import ColumnCombining, group_columns
from tests.support import check_images

SMALL = CONFIGS["4x2"]
ONE_BANK = replace(SMALL, name="4x1", group=1)


def layer(shape: tuple[int, int], group: int, seed: int, name: str = "a") -> LayerWeights:
    rng = np.random.default_rng(seed)
    return LayerWeights.by_magnitude(name, rng.normal(size=shape), rng.integers(0, group, shape[1]))


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[LayerWeights], float, ArrayConfig, int, float]:
    """Layers with corners among their sizes, some weights zero; a ratio that leaves a lane a tile; alpha and
    gamma.
    """
    config = draw(st.sampled_from([*CONFIGS.values(), ONE_BANK]))
    size = st.sampled_from([1, 2, config.size - 1, config.size, config.size + 1, 2 * config.size + 1])
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    layers = []
    for name in draw(st.sampled_from(["a", "ab"])):
        filters, inputs = draw(size), draw(st.sampled_from([1, 2, 9, 40]))
        weight = rng.normal(size=(filters, inputs)) * (
            rng.random((filters, inputs)) < draw(st.sampled_from([0.0, 0.3, 1.0]))
        )
        layers.append(LayerWeights.by_magnitude(name, weight, rng.integers(0, config.group, inputs)))
    tiles = sum(one.tiles(config) for one in layers)
    limit = sum(one.weight.size for one in layers) / (tiles * config.size)
    layers = layers if limit >= 1 else [layer((config.size, 40), config.group, 0)]
    limit = limit if limit >= 1 else 40.0
    ratio = draw(st.sampled_from([1.0, min(2.0, limit), limit]))
    return layers, ratio, config, draw(st.sampled_from([1, 2, 8])), draw(st.sampled_from([0.0, 0.5, 2.0]))


@given(cases())
@settings(max_examples=60, deadline=None)
def test_plan_keeps_the_limits(case: tuple[list[LayerWeights], float, ArrayConfig, int, float]) -> None:
    layers, ratio, config, alpha, gamma = case
    plans = ColumnCombining(alpha, gamma).plan(layers, ratio, config, np.random.default_rng(0))
    assert compression(plans) >= ratio * (1 - 1e-9)
    for one in layers:
        plan = plans[one.name]
        packed = plan.packed
        assert packed is not None
        check(packed, config.size, config.group, one.bank)
        assert not plan.mask[one.weight == 0].any()
        assert ((packed.groups >= 0).sum(axis=1) <= alpha).all()
        members = packed.groups[packed.groups >= 0]
        assert len(members) == len(set(members.tolist()))
        for tile in packed.tiles:
            assert tile.lanes.tolist() == list(range(len(packed.groups)))
        for group in packed.groups:
            assert (plan.mask[:, group[group >= 0]].sum(axis=1) <= 1).all()


def test_the_largest_weight_of_a_conflict_stays() -> None:
    """Two columns whose filters 0 and 1 conflict; gamma = 0.5 allows the two conflicts of four filters, no
    more.
    """
    weight = np.array([[3.0, -4.0], [2.0, 1.0], [0.0, 5.0], [6.0, 0.0]])
    plan = ColumnCombining().plan(
        [LayerWeights.by_magnitude("a", weight, np.array([0, 1]))], 2.0, SMALL, np.random.default_rng(0)
    )["a"]
    assert plan.packed is not None
    assert plan.packed.lanes == 1
    np.testing.assert_array_equal(plan.mask, [[False, True], [True, False], [False, True], [True, False]])
    strict = ColumnCombining(gamma=0.25).plan(
        [LayerWeights.by_magnitude("a", weight, np.array([0, 1]))], 2.0, SMALL, np.random.default_rng(0)
    )["a"]
    assert strict.mask.sum() == 4  # two more pruned before, until the columns have one conflict
    assert strict.mask[[0, 2, 3], [1, 1, 0]].all()


def groups_of(mask: list[str], bank: list[int], alpha: int, gamma: float) -> set[frozenset[int]]:
    """Groups as sets of columns; `mask` has a text of 0 and 1 for each filter."""
    table = group_columns(
        np.array([[c == "1" for c in row] for row in mask]), np.array(bank), alpha, gamma, 4
    )
    return {frozenset(int(k) for k in row if k >= 0) for row in table}


def test_grouping_takes_the_densest_pair_within_the_limits() -> None:
    # column 0 fills three filters, 1 fills the fourth, 2 fills two of those of 0, 3 has no weights
    mask = ["1010", "1010", "1000", "0100"]
    assert groups_of(mask, [0, 1, 2, 3], 8, 0.0) == {frozenset({0, 1}), frozenset({2})}
    assert groups_of(mask, [0, 1, 2, 3], 8, 0.5) == {frozenset({0, 1, 2})}
    assert groups_of(mask, [0, 1, 2, 3], 2, 0.5) == {frozenset({0, 1}), frozenset({2})}
    # 0 and 1 share a bank
    assert groups_of(mask, [0, 0, 1, 1], 8, 0.0) == {frozenset({0}), frozenset({1, 2})}
    assert groups_of(mask, [0, 1, 2, 3], 1, 0.5) == {frozenset({0}), frozenset({1}), frozenset({2})}


def slow_groups(
    mask: npt.NDArray[np.bool_], bank: npt.NDArray[np.int64], alpha: int, conflicts: float
) -> set[frozenset[int]]:
    """The grouping without any bookkeeping: every pair looked at anew."""
    groups = [[int(k)] for k in np.flatnonzero(mask.any(axis=0))]
    while True:
        best, pair = 0, None
        for i in range(len(groups)):
            for j in range(i + 1, len(groups)):
                both = groups[i] + groups[j]
                filled = int(mask[:, both].any(axis=1).sum())
                fits = (
                    len(both) <= alpha
                    and len(set(bank[both])) == len(both)
                    and mask[:, both].sum() - filled <= conflicts
                )
                if fits and filled > best:
                    best, pair = filled, (i, j)
        if pair is None:
            return {frozenset(group) for group in groups}
        groups[pair[0]] += groups.pop(pair[1])


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=100, deadline=None)
def test_grouping_equals_a_plain_search(seed: int) -> None:
    rng = np.random.default_rng(seed)
    filters, inputs = int(rng.choice([1, 9, 64, 70])), int(rng.integers(1, 30))
    mask = rng.random((filters, inputs)) < rng.choice([0.1, 0.4])
    bank = rng.integers(0, 4, inputs)
    alpha, gamma = int(rng.integers(1, 5)), float(rng.choice([0, 0.25, 0.5]))
    table = group_columns(mask, bank, alpha, gamma, 4)
    assert {frozenset(int(k) for k in row if k >= 0) for row in table} == slow_groups(
        mask, bank, alpha, gamma * filters
    )


def test_equal_calls_give_equal_plans() -> None:
    layers = [layer((20, 30), 2, seed=1)]
    first, second = (
        ColumnCombining().plan(layers, 3.0, SMALL, np.random.default_rng(0))["a"].mask for _ in range(2)
    )
    np.testing.assert_array_equal(first, second)


def test_an_empty_layer_takes_no_lane() -> None:
    layers = [
        LayerWeights.by_magnitude("a", np.zeros((5, 6)), np.zeros(6, np.int64)),
        layer((4, 6), 2, seed=0, name="b"),
    ]
    plans = ColumnCombining().plan(layers, 1.5, SMALL, np.random.default_rng(0))
    assert plans["a"].slots == 0
    assert plans["b"].mask.any()


def test_bad_parameters_are_refused() -> None:
    with pytest.raises(TatamiError, match="column_combining: alpha is 0, must be at least 1"):
        ColumnCombining(alpha=0)
    for gamma in (-0.5, float("nan"), float("inf")):
        with pytest.raises(
            TatamiError, match="column_combining: gamma is .*, must be a number of at least 0"
        ):
            ColumnCombining(gamma=gamma)
    with pytest.raises(
        TatamiError,
        match="ratio is 31, must be at most 30: 5 tiles of filters need a lane each, 4 lanes are left",
    ):
        ColumnCombining().plan([layer((20, 30), 2, seed=1)], 31, SMALL, np.random.default_rng(0))


@pytest.mark.parametrize("config", [CONFIGS["4x2"], CONFIGS["16x8"]], ids=lambda c: c.name)
def test_images_agree_with_the_reference(config: ArrayConfig) -> None:
    check_images(config, ColumnCombining(), 2.0)
