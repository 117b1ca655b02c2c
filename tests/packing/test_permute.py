"""Permutations: valid, never worse than none, never better than the bound, and the same from the
same seed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pymodel.machine.errors import TatamiError
from pymodel.packing.permute import Permutation, Table, lane_bound, lane_count, natural, permute

Array = np.ndarray[Any, np.dtype[Any]]
MOVES = 100


def layer(
    rng: np.random.Generator, filters: int, inputs: int, density: float, group: int
) -> tuple[Array, Array]:
    """A random sparse int8 matrix [F, K] and a random bank of each input."""
    weight = np.where(
        rng.random((filters, inputs)) < density, rng.integers(-128, 128, (filters, inputs)), 0
    ).astype(np.int8)
    return weight, rng.integers(0, group, inputs)


@st.composite
def layers(draw: st.DrawFn) -> tuple[Array, Array, int, int, np.random.Generator]:
    """weight, bank, size, group and a generator."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    size, group = draw(st.sampled_from([4, 8, 16])), draw(st.sampled_from([1, 2, 4, 8, 16]))
    weight, bank = layer(
        rng,
        draw(st.integers(1, 40)),
        draw(st.integers(1, 60)),
        draw(st.sampled_from([0.0, 0.02, 0.1, 0.3, 1.0])),
        group,
    )
    return weight, bank, size, group, rng


def assert_valid(permutation: Permutation, weight: Array, bank: Array, size: int) -> None:
    filters, inputs = weight.shape
    assert all(1 <= len(tile) <= size for tile in permutation.tiles)
    assert np.array_equal(np.sort(np.concatenate(permutation.tiles)), np.arange(filters))
    for index, tile in enumerate(permutation.tiles):
        table = permutation.table(index)
        for b, column in enumerate(table.T):
            assert np.all(bank[column[column >= 0]] == b)
        times = np.bincount(table[table >= 0], minlength=inputs)
        assert times.max(initial=0) <= 1
        assert np.all(times[(weight[tile] != 0).any(axis=0)] == 1)


@pytest.mark.parametrize("table", ["layer", "tile"])
@settings(max_examples=60, deadline=None)
@given(case=layers())
def test_valid_and_between_bound_and_natural(
    table: Table, case: tuple[Array, Array, int, int, np.random.Generator]
) -> None:
    weight, bank, size, group, rng = case
    plain = natural(weight, bank, size, group)
    found = permute(weight, bank, size, group, table=table, rng=rng, moves=MOVES)
    assert len(found.groups) == (1 if table == "layer" else len(found.tiles))
    for permutation in (plain, found):
        assert_valid(permutation, weight, bank, size)
        assert lane_count(weight, permutation) >= lane_bound(weight, bank, permutation.tiles, group).sum()
    assert lane_count(weight, found) <= lane_count(weight, plain)


def test_natural_order_is_kept_when_the_search_finds_nothing_better() -> None:
    """Sorted by count, the two filters that share inputs part, and without moves nothing makes up for it."""
    weight = np.zeros((4, 32), np.int8)
    weight[0, :16] = weight[1, :8] = 1
    weight[2, 16:] = weight[3, 16:24] = 1
    bank = np.arange(32) % 16
    cases: tuple[tuple[Table, int], ...] = (("layer", 1), ("tile", 2))
    for table, tables in cases:
        found = permute(weight, bank, 2, 16, table=table, rng=np.random.default_rng(0), moves=0)
        assert [tile.tolist() for tile in found.tiles] == [[0, 1], [2, 3]]
        assert len(found.groups) == tables
        assert lane_count(weight, found) == 32


@pytest.mark.parametrize("table", ["layer", "tile"])
def test_same_seed_same_permutation(table: Table) -> None:
    weight, bank = layer(np.random.default_rng(1), 40, 90, 0.1, 8)
    a, b = (
        permute(weight, bank, 16, 8, table=table, rng=np.random.default_rng(7), moves=MOVES) for _ in range(2)
    )
    assert all(np.array_equal(x, y) for x, y in zip(a.tiles + a.groups, b.tiles + b.groups, strict=True))


def test_search_reaches_the_bound_of_a_perfect_packing() -> None:
    """Every filter has one non-zero in each of nine groups, which a shuffle of the inputs then hides."""
    rng = np.random.default_rng(2)
    weight, bank = np.zeros((4, 72), np.int8), np.tile(np.arange(8), 9)
    for f in range(4):
        weight[f, np.arange(9) * 8 + rng.integers(0, 8, 9)] = 1
    order = rng.permutation(72)
    weight, bank = weight[:, order], bank[order]
    found = permute(weight, bank, 4, 8, rng=rng)
    assert lane_count(weight, natural(weight, bank, 4, 8)) > 9
    assert lane_count(weight, found) == lane_bound(weight, bank, found.tiles, 8).sum() == 9


def test_search_beats_natural_order_and_own_tables_beat_a_shared_one() -> None:
    weight, bank = layer(np.random.default_rng(3), 64, 288, 0.05, 16)
    lanes = [lane_count(weight, natural(weight, bank, 16, 16))]
    tables: tuple[Table, ...] = ("layer", "tile")
    for table in tables:
        lanes.append(
            lane_count(
                weight, permute(weight, bank, 16, 16, table=table, rng=np.random.default_rng(0), moves=1000)
            )
        )
    assert lanes[0] > 1.8 * lanes[1]
    assert lanes[1] > 1.1 * lanes[2]


@pytest.mark.parametrize("table", ["layer", "tile"])
def test_order_of_filters_and_inputs_matters_little(table: Table) -> None:
    rng = np.random.default_rng(4)
    weight, bank = layer(rng, 32, 144, 0.1, 8)
    f, k = rng.permutation(32), rng.permutation(144)
    lanes = [
        lane_count(w, permute(w, b, 16, 8, table=table, rng=rng, moves=1000))
        for w, b in ((weight, bank), (weight[f][:, k], bank[k]))
    ]
    assert abs(lanes[0] - lanes[1]) <= 0.04 * lanes[0]


def test_bound_takes_the_fullest_filter_or_the_fullest_bank() -> None:
    weight = np.array([[1, 1, 1, 0], [0, 0, 1, 0], [0, 0, 0, 1], [0, 0, 0, 0]])
    tiles = [np.array([0, 1]), np.array([1, 2]), np.array([3])]
    assert lane_bound(weight, np.array([0, 1, 2, 3]), tiles, 4).tolist() == [3, 1, 0]
    assert lane_bound(weight, np.array([0, 1, 2, 2]), tiles, 4).tolist() == [3, 2, 0]


def test_counts_up_to_sixteen_in_one_group() -> None:
    """Bytes of the packed counts at their limit: dense filters, all sixteen banks, beside empty ones."""
    weight = np.ones((16, 64), np.int8)
    weight[8:] = 0
    found = permute(weight, np.arange(64) % 16, 16, 16, rng=np.random.default_rng(5), moves=MOVES)
    assert lane_count(weight, found) == 64


def test_numbers_and_masks_give_the_same_permutation() -> None:
    weight, bank = layer(np.random.default_rng(6), 20, 50, 0.2, 4)
    found = [
        permute(w, bank, 8, 4, rng=np.random.default_rng(0), moves=MOVES)
        for w in (weight, weight / 3.0, weight != 0)
    ]
    assert all(np.array_equal(found[0].groups[0], other.groups[0]) for other in found[1:])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight": np.zeros((0, 4))}, "weight has shape"),
        ({"weight": np.zeros(4)}, "weight has shape"),
        ({"weight": np.full((2, 4), np.nan)}, "weight holds NaN"),
        ({"bank": np.zeros(3, int)}, "bank must hold one integer for each of 4 inputs"),
        ({"bank": np.zeros(4)}, "bank must hold one integer"),
        ({"bank": np.array([0, 1, 2, 0])}, r"bank holds 0\.\.2, must be in 0\.\.1"),
        ({"bank": np.array([0, 1, -1, 0])}, r"bank holds -1\.\.1, must be in 0\.\.1"),
        ({"size": 0}, "size is 0, must be at least 1"),
        ({"group": 0}, r"group is 0, must be in 1\.\.16"),
        ({"group": 17}, r"group is 17, must be in 1\.\.16"),
        ({"table": "column"}, "table is 'column', must be 'layer' or 'tile'"),
        ({"moves": -1}, "moves is -1, must be at least 0"),
    ],
)
def test_bad_arguments_are_named(change: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {
        "weight": np.ones((2, 4)),
        "bank": np.arange(4) % 2,
        "size": 4,
        "group": 2,
    } | change
    with pytest.raises(TatamiError, match=message):
        permute(**arguments, rng=np.random.default_rng(0))
