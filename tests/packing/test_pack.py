"""Packing: nothing is lost, nothing is doubled, and `check` finds what the machine could not run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pymodel.machine.errors import TatamiError
from pymodel.packing import pack as pack_module
from pymodel.packing.pack import PackedMatrix, Tile, check, lane_bound, pack, pack_dense, refill, unpack
from pymodel.packing.permute import Permutation, Table, lane_count, natural, permute

Array = np.ndarray[Any, np.dtype[Any]]
MOVES = 50


def layer(seed: int, filters: int, inputs: int, density: float, group: int) -> tuple[Array, Array]:
    """A random sparse int8 matrix [F, K] over the full range and a random bank of each input."""
    rng = np.random.default_rng(seed)
    weight = np.where(
        rng.random((filters, inputs)) < density, rng.integers(-128, 128, (filters, inputs)), 0
    ).astype(np.int8)
    return weight, rng.integers(0, group, inputs)


def assert_round_trip(
    weight: Array, bank: Array, permutation: Permutation, size: int, group: int
) -> PackedMatrix:
    packed = pack(weight, bank, permutation, size, group)
    check(packed, size, group, bank)
    assert np.array_equal(unpack(packed, *weight.shape), weight)
    assert packed.nonzeros == np.count_nonzero(weight)
    assert packed.lanes == lane_count(weight, permutation)
    assert all(
        len(t.lanes) >= n
        for t, n in zip(packed.tiles, lane_bound(weight, bank, permutation.tiles, group), strict=True)
    )
    members = packed.groups[packed.groups >= 0]
    assert np.array_equal(np.unique(members), np.flatnonzero(weight.any(axis=0)))
    return packed


@pytest.mark.parametrize("table", ["natural", "layer", "tile"])
@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    filters=st.integers(1, 40),
    inputs=st.integers(1, 60),
    density=st.sampled_from([0.0, 0.02, 0.1, 0.3, 1.0]),
    size=st.sampled_from([4, 8, 16]),
    group=st.sampled_from([1, 2, 4, 8, 16]),
)
@example(seed=0, filters=1, inputs=1, density=1.0, size=4, group=1)
@example(seed=0, filters=1, inputs=1, density=0.0, size=4, group=16)
@example(seed=0, filters=17, inputs=1, density=1.0, size=16, group=16)
@example(seed=0, filters=9, inputs=33, density=0.05, size=8, group=1)
@example(seed=0, filters=1, inputs=60, density=0.3, size=16, group=8)
def test_round_trip(
    table: str, seed: int, filters: int, inputs: int, density: float, size: int, group: int
) -> None:
    weight, bank = layer(seed, filters, inputs, density, group)
    if table == "natural":
        permutation = natural(weight, bank, size, group)
    else:
        kind: Table = "layer" if table == "layer" else "tile"
        permutation = permute(
            weight, bank, size, group, table=kind, rng=np.random.default_rng(seed), moves=MOVES
        )
    assert_round_trip(weight, bank, permutation, size, group)


@pytest.mark.parametrize("table", ["layer", "tile"])
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_permuted_matrix_packs_the_same(table: Table, seed: int) -> None:
    """Renaming filters and inputs (with their banks) in a permutation changes the names in the packing, not
    its lanes.
    """
    rng = np.random.default_rng(seed)
    weight, bank = layer(seed, 20, 40, 0.15, 8)
    permutation = permute(weight, bank, 8, 8, table=table, rng=rng, moves=MOVES)
    f, k = rng.permutation(20), rng.permutation(40)
    to_f, to_k = np.argsort(f), np.append(np.argsort(k), -1)  # the last entry is what -1 becomes
    renamed = Permutation(
        tuple(to_f[t] for t in permutation.tiles), tuple(to_k[g] for g in permutation.groups)
    )
    a = pack(weight, bank, permutation, 8, 8)
    b = assert_round_trip(weight[f][:, k], bank[k], renamed, 8, 8)
    assert np.array_equal(to_k[a.groups], b.groups)
    for x, y in zip(a.tiles, b.tiles, strict=True):
        assert np.array_equal(to_f[x.filters], y.filters)
        assert all(
            np.array_equal(getattr(x, name), getattr(y, name)) for name in ("lanes", "select", "weight")
        )


@pytest.mark.parametrize("size", [4, 8, 16])
def test_zero_filters_and_zero_tiles_take_no_lane(size: int) -> None:
    weight, bank = layer(1, 3 * size, 30, 0.3, 4)
    weight[1] = 0
    weight[size : 2 * size] = 0
    packed = assert_round_trip(weight, bank, natural(weight, bank, size, 4), size, 4)
    assert len(packed.tiles[1].lanes) == 0
    assert packed.tiles[1].weight.shape == (0, size)
    empty = assert_round_trip(weight * 0, bank, natural(weight, bank, size, 4), size, 4)
    assert (empty.lanes, empty.groups.shape, empty.occupancy, empty.compression) == (
        0,
        (0, 4),
        1.0,
        float("inf"),
    )


def test_a_group_is_named_as_often_as_its_fullest_filter_needs() -> None:
    """Worked by hand: three inputs in a group of three banks, one filter uses all of them, one the last, one
    none.
    """
    weight = np.array([[3, -4, 5], [0, 0, 7], [0, 0, 0]], np.int8)
    packed = pack(weight, np.array([0, 1, 2]), Permutation((np.arange(3),), (np.array([[0, 1, 2]]),)), 4, 3)
    (tile,) = packed.tiles
    assert tile.lanes.tolist() == [0, 0, 0]
    assert tile.weight.tolist() == [[3, 7, 0], [-4, 0, 0], [5, 0, 0]]
    assert tile.select.tolist() == [[0, 2, 0], [1, 0, 0], [2, 0, 0]]
    assert (packed.lanes, packed.slots, packed.passes, packed.nonzeros) == (3, 12, 1, 4)
    assert packed.occupancy == 4 / 12
    assert packed.compression == 9 / 12


def test_groups_and_members_without_use_are_dropped() -> None:
    weight = np.array([[0, 1, 0, 0, 2, 0]], np.int8)
    bank = np.array([0, 1, 0, 1, 0, 1])
    packed = assert_round_trip(weight, bank, natural(weight, bank, 4, 2), 4, 2)
    assert packed.groups.tolist() == [[-1, 1], [4, -1]]
    assert packed.tiles[0].lanes.tolist() == [0, 1]


def test_each_tile_numbers_its_own_groups() -> None:
    weight = np.array([[1, 2, 0], [0, 3, 4]], np.int8)
    tables = (np.array([[0, 1], [2, -1]]), np.array([[0, -1], [2, 1]]))
    packed = assert_round_trip(
        weight, np.array([0, 1, 0]), Permutation((np.array([0]), np.array([1])), tables), 4, 2
    )
    assert packed.groups.tolist() == [[0, 1], [2, 1]]
    assert [tile.lanes.tolist() for tile in packed.tiles] == [[0, 0], [1, 1]]


@pytest.mark.parametrize(
    ("filters", "inputs", "size", "group"), [(1, 1, 4, 1), (5, 7, 4, 2), (16, 9, 16, 16), (33, 20, 8, 4)]
)
def test_dense_baseline_keeps_every_input(filters: int, inputs: int, size: int, group: int) -> None:
    weight, bank = layer(3, filters, inputs, 0.2, group)
    packed = pack_dense(weight, bank, size, group)
    check(packed, size, group, bank)
    assert np.array_equal(unpack(packed, filters, inputs), weight)
    assert packed.lanes == inputs * -(-filters // size)
    assert packed.compression == filters / (size * -(-filters // size))
    assert [tile.filters[0] for tile in packed.tiles] == list(range(0, filters, size))


def test_pack_refuses_what_does_not_fit() -> None:
    weight, bank = layer(4, 6, 12, 0.5, 4)
    good = natural(weight, bank, 4, 4)
    (table,) = good.groups
    twice = np.vstack([table, table[:1]])
    gone = np.where(table == np.flatnonzero(weight.any(axis=0))[0], -1, table)
    for permutation, message in (
        (replace(good, groups=(twice,)), "is in 2 groups, must be in one"),
        (replace(good, groups=(gone,)), "has non-zero weights but is in no group"),
        (replace(good, groups=(table, table, table)), "3 tables for 2 tiles"),
        (replace(good, groups=(np.roll(table, 1, axis=1),)), "but it lies in bank"),
        (replace(good, groups=(table[:, :3],)), r"must be integers \[groups, 4\]"),
        (replace(good, groups=(np.where(table == 11, 12, table),)), r"must be in -1\.\.11"),
        (replace(good, tiles=good.tiles[:1]), "filter 4 is in 0 tiles"),
        (replace(good, tiles=(*good.tiles, np.array([2]))), "filter 2 is in 2 tiles"),
        (replace(good, tiles=(np.arange(6),)), r"filters has 6 entries, must have 1\.\.4"),
        (replace(good, tiles=(*good.tiles, np.array([6]))), r"must be in 0\.\.5"),
    ):
        with pytest.raises(TatamiError, match=message):
            pack(weight, bank, permutation, 4, 4)
    for wrong in (weight / 2, weight.astype(int) * 2):
        with pytest.raises(TatamiError, match=r"integers in -128\.\.127"):
            pack(wrong, bank, good, 4, 4)
        with pytest.raises(TatamiError, match=r"integers in -128\.\.127"):
            pack_dense(wrong, bank, 4, 4)


BANK = np.array([0, 1, 2, 0, 1])


def good_packing() -> PackedMatrix:
    """Five filters of five inputs over three banks, in tiles of four."""
    weight = np.array(
        [[1, 2, 0, 0, 0], [0, 0, 3, 4, 0], [0, 0, 0, 0, 5], [0, 0, 0, 0, 0], [0, 6, 0, 0, 7]], np.int8
    )
    packed = pack(weight, BANK, natural(weight, BANK, 4, 3), 4, 3)
    check(packed, 4, 3, BANK)
    return packed


def put(value: Array, place: tuple[int, ...], entry: int) -> Array:
    value = value.copy()
    value[place] = entry
    return value


def with_tile(packed: PackedMatrix, **change: Any) -> PackedMatrix:
    return replace(packed, tiles=(replace(packed.tiles[0], **change), *packed.tiles[1:]))


def test_the_packing_to_be_broken_is_as_expected() -> None:
    packed = good_packing()
    assert packed.groups.tolist() == [[0, 1, 2], [3, 4, -1]]
    assert packed.tiles[0].lanes.tolist() == [0, 0, 1]
    assert packed.tiles[0].weight.tolist() == [[1, 3, 0, 0], [2, 0, 0, 0], [0, 4, 5, 0]]
    assert packed.tiles[0].select.tolist() == [[0, 2, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0]]


def _two_slots(packed: PackedMatrix) -> PackedMatrix:
    tile = packed.tiles[0]
    return with_tile(packed, weight=put(tile.weight, (1, 1), 9), select=put(tile.select, (1, 1), 2))


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (lambda p: replace(p, size=8), "packed size is 8, must be 4"),
        (lambda p: replace(p, inputs=6), "packed inputs is 6, must be 5"),
        (lambda p: replace(p, groups=p.groups[:, :2]), r"packed groups: .* must be integers \[groups, 3\]"),
        (lambda p: replace(p, groups=p.groups / 1), "packed groups: float64"),
        (
            lambda p: replace(p, groups=put(p.groups, (0, 2), 5)),
            r"packed groups: holds inputs -1\.\.5, must be in -1\.\.4",
        ),
        (lambda p: replace(p, groups=put(p.groups, (1, 2), -2)), "packed groups: holds inputs -2"),
        (
            lambda p: replace(p, groups=put(p.groups, (1, 2), 4)),
            "group 1 takes input 4 from bank 2, but it lies in bank 1",
        ),
        (lambda p: replace(p, groups=np.vstack([p.groups, [[0, -1, -1]]])), "group 2 is named by no lane"),
        (lambda p: replace(p, tiles=(*p.tiles, p.tiles[0])), "filters: holds|filter 0 is in 2 tiles"),
        (lambda p: with_tile(p, filters=np.array([0, 1, 1, 3])), "filter 1 is in 2 tiles"),
        (
            lambda p: with_tile(p, filters=np.array([0, 1, 2, 5])),
            r"packed tile 0: filters: holds 0\.\.5, must be in 0\.\.4",
        ),
        (
            lambda p: with_tile(p, filters=np.array([], int)),
            r"packed tile 0: filters has 0 entries, must have 1\.\.4",
        ),
        (
            lambda p: with_tile(p, filters=np.arange(5)),
            r"packed tile 0: filters has 5 entries, must have 1\.\.4",
        ),
        (
            lambda p: with_tile(p, lanes=np.array([0, 0, 2])),
            r"packed tile 0: lanes: holds 0\.\.2, must be in 0\.\.1",
        ),
        (lambda p: with_tile(p, lanes=np.array([0, -1, 1])), r"packed tile 0: lanes: holds -1\.\.1"),
        (
            lambda p: with_tile(p, lanes=np.array([0, 1])),
            r"packed tile 0: weight is int8 \(3, 4\), must be int8 \(2, 4\)",
        ),
        (lambda p: with_tile(p, weight=p.tiles[0].weight.astype(int)), "packed tile 0: weight is int64"),
        (lambda p: with_tile(p, select=p.tiles[0].select[:2]), "packed tile 0: select: int64"),
        (
            lambda p: with_tile(p, select=put(p.tiles[0].select, (0, 0), 3)),
            r"packed tile 0: select: holds 0\.\.3, must be in 0\.\.2",
        ),
        (
            lambda p: with_tile(p, select=put(p.tiles[0].select, (0, 3), 1)),
            "packed tile 0: select of an empty slot must be 0",
        ),
        (lambda p: with_tile(p, select=put(p.tiles[0].select, (2, 2), 2)), "a slot of lane 2 has input -1"),
        (_two_slots, "filter 1 has two slots for input 2"),
    ],
)
def test_check_names_the_broken_field(broken: Callable[[PackedMatrix], PackedMatrix], message: str) -> None:
    with pytest.raises(TatamiError, match=message):
        check(broken(good_packing()), 4, 3, BANK)


def test_unpack_refuses_slots_outside_the_matrix_and_doubles_between_tiles() -> None:
    packed = good_packing()
    with pytest.raises(TatamiError, match=r"has filter 4, must be in 0\.\.3"):
        unpack(packed, 4, 5)
    with pytest.raises(TatamiError, match=r"has input 4, must be in 0\.\.3"):
        unpack(packed, 5, 4)
    with pytest.raises(TatamiError, match="packed tile 2: filter 0 has two slots for input 0"):
        unpack(replace(packed, tiles=(*packed.tiles, packed.tiles[0])), 5, 5)


def test_no_tiles_is_an_empty_matrix() -> None:
    packed = PackedMatrix(np.zeros((0, 2), np.int64), (), 4, 3)
    check(packed, 4, 2, np.array([0, 1, 0]))
    assert unpack(packed, 0, 3).shape == (0, 3)
    tile = Tile(np.array([0]), np.zeros(0, np.int64), np.zeros((0, 1), np.int64), np.zeros((0, 1), np.int8))
    check(replace(packed, tiles=(tile,)), 4, 2, np.array([0, 1, 0]))


def test_slots_are_filled_from_the_filters_of_their_tile_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each weight is looked at once. A copy of the matrix for every tile is quadratic in the filters."""
    weight, bank = layer(1, 40, 20, 0.5, 4)
    packed = pack_dense(weight, bank, 4, 4)
    parts, seen = pack_module._parts, []

    def counted(part: Array, weight_bits: int) -> Array:
        seen.append(part.size)
        return parts(part, weight_bits)

    monkeypatch.setattr(pack_module, "_parts", counted)
    np.testing.assert_array_equal(unpack(refill(packed, weight), 40, 20), weight)
    assert sum(seen) == weight.size
