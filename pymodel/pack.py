"""Packing: a sparse weight matrix under a permutation becomes a list of lanes, without loss.

Every non-zero of a filter gets exactly one slot, in a lane that names the group of its input; the select is the bank of
that input (Chen et al., arXiv 2104.01303; lanes, groups and slots are explained in `pymodel.permute`). `unpack` is the
inverse, `check` the list of what the machine and the compiler rely on.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pymodel.errors import TatamiError
from pymodel.permute import Array, Permutation, check_matrix, lane_bound

__all__ = ["PackedMatrix", "Tile", "append", "check", "lane_bound", "pack", "pack_dense", "refill", "unpack"]


@dataclass(frozen=True)
class Tile:
    """The lanes of up to T filters.

    `filters` int64 [C]: column c computes filter `filters[c]`. `lanes` int64 [L]: the group that feeds each lane.
    `select` int64 [L, C]: the bank that a slot takes its input from, 0 where empty. `weight` int8 [L, C], 0 = empty slot.
    """

    filters: Array
    lanes: Array
    select: Array
    weight: Array


@dataclass(frozen=True)
class PackedMatrix:
    """A weight matrix [F, K] as tiles of lanes over one table of groups.

    `groups` int64 [N, G]: the input that each bank gives to the group, -1 for none. `size`: T. `inputs`: K.
    """

    groups: Array
    tiles: tuple[Tile, ...]
    size: int
    inputs: int

    @property
    def filters(self) -> int:
        """F."""
        return sum(len(tile.filters) for tile in self.tiles)

    @property
    def lanes(self) -> int:
        """Lanes of all tiles."""
        return sum(len(tile.lanes) for tile in self.tiles)

    @property
    def slots(self) -> int:
        """Slots, used or empty: T to a lane, also where a tile has fewer than T filters."""
        return self.lanes * self.size

    @property
    def passes(self) -> int:
        """Passes of T lanes, the last one of each tile filled up."""
        return sum(-(-len(tile.lanes) // self.size) for tile in self.tiles)

    @property
    def nonzeros(self) -> int:
        """Slots that hold a weight."""
        return sum(int(np.count_nonzero(tile.weight)) for tile in self.tiles)

    @property
    def occupancy(self) -> float:
        """Share of the slots that hold a weight (1 for no slots)."""
        return self.nonzeros / self.slots if self.slots else 1.0

    @property
    def compression(self) -> float:
        """Weights of the dense matrix per slot (infinite for no slots)."""
        return self.filters * self.inputs / self.slots if self.slots else float("inf")


def pack(weight: Array, bank: Array, permutation: Permutation, size: int, group: int) -> PackedMatrix:
    """`weight` [F, K], integers in -128..127, packed under a permutation; lossless.

    `bank` int [K]: each input's feature bank. Keeps the groups that a lane names, renumbered, and of those the members
    that a filter uses. Raises `TatamiError` if the permutation does not fit the matrix.
    """
    _check_weight(weight, bank, size, group)
    _check_permutation(weight, bank, permutation, size, group)
    tiles: list[Tile] = []
    tables: list[Array] = []
    used = np.zeros((0, group), bool)
    first = 0  # group 0 of this tile's table in the numbering of all tables
    for index, filters in enumerate(permutation.tiles):
        if index == 0 or len(permutation.groups) > 1:
            first += len(tables[-1]) if tables else 0
            tables.append(permutation.table(index))
            used = np.concatenate([used, np.zeros(tables[-1].shape, bool)])
        value = np.where(tables[-1] >= 0, weight[filters][:, tables[-1]], 0)  # [C, N, G]
        used[first:] |= (value != 0).any(axis=0)
        tiles.append(_pack_tile(filters, value, first))
    kept = used.any(axis=1)
    number = np.cumsum(kept) - 1
    groups = np.where(used, np.concatenate(tables), -1)[kept]
    tiles = [Tile(tile.filters, number[tile.lanes], tile.select, tile.weight) for tile in tiles]
    return PackedMatrix(groups, tuple(tiles), size, weight.shape[1])


def pack_dense(weight: Array, bank: Array, size: int, group: int) -> PackedMatrix:
    """The baseline: nothing is skipped. Filters in order, one group and, in every tile, one lane for every input.

    `weight` [F, K], integers in -128..127; a zero becomes an empty slot. Raises `TatamiError` like `pack`.
    """
    _check_weight(weight, bank, size, group)
    filters, inputs = weight.shape
    groups = np.full((inputs, group), -1, np.int64)
    groups[np.arange(inputs), bank] = np.arange(inputs)
    tiles = []
    for start in range(0, filters, size):
        columns = np.arange(start, min(start + size, filters))
        value = weight[columns].T.astype(np.int8)
        tiles.append(Tile(columns, np.arange(inputs), np.where(value != 0, bank[:, None], 0).astype(np.int64), value))
    return PackedMatrix(groups, tuple(tiles), size, inputs)


def refill(packed: PackedMatrix, weight: Array) -> PackedMatrix:
    """`weight` [F, K], integers in -128..127, in the slots that `packed` has for its own weights: a plan of 1s gets its numbers.

    A weight that is zero leaves its slot empty. Raises `TatamiError` if the shape differs, or a weight that is not zero has no slot.
    """
    if weight.shape != (packed.filters, packed.inputs):
        raise TatamiError(f"refill: weight has shape {weight.shape}, must be ({packed.filters}, {packed.inputs})")
    tiles = []
    for tile in packed.tiles:
        member = packed.groups[tile.lanes[:, None], tile.select]
        value = np.where(tile.weight != 0, weight[tile.filters[None, :], member], 0).astype(np.int8)
        tiles.append(Tile(tile.filters, tile.lanes, np.where(value != 0, tile.select, 0), value))
    filled = PackedMatrix(packed.groups, tuple(tiles), packed.size, packed.inputs)
    lost = unpack(filled, *weight.shape) != weight
    if lost.any():
        f, k = np.argwhere(lost)[0]
        raise TatamiError(f"refill: filter {f}, input {k} is {weight[f, k]}, but has no slot")
    return filled


def append(packed: PackedMatrix, weight: Array, bank: Array) -> PackedMatrix:
    """`packed` [F, K] with the columns of `weight` int8 [F, M] behind its own, as inputs K..K+M-1: a residual beside a convolution.

    `bank` int [M]: their feature banks. Each weight takes the first empty slot of its filter in a lane whose group has the input or room
    for it; where there is none, its tile gets a lane more, with a group of its own.
    """
    groups = list(packed.groups.copy())
    tiles = []
    for tile in packed.tiles:
        lanes, select, value = list(tile.lanes), list(tile.select.copy()), list(tile.weight.copy())
        for column, f in enumerate(tile.filters):
            for m in np.flatnonzero(weight[f]):
                k, b = packed.inputs + int(m), int(bank[m])
                free = [i for i, g in enumerate(lanes) if value[i][column] == 0 and groups[g][b] in (-1, k)]
                if free:
                    i = next((i for i in free if groups[lanes[i]][b] == k), free[0])
                else:
                    i = len(lanes)
                    lanes.append(len(groups))
                    groups.append(np.full(packed.groups.shape[1], -1, np.int64))
                    select.append(np.zeros(len(tile.filters), np.int64))
                    value.append(np.zeros(len(tile.filters), np.int8))
                groups[lanes[i]][b] = k
                select[i][column], value[i][column] = b, weight[f, m]
        shape = (len(lanes), len(tile.filters))
        slots = np.array(select, np.int64).reshape(shape), np.array(value, np.int8).reshape(shape)
        tiles.append(Tile(tile.filters, np.array(lanes, np.int64), *slots))
    table = np.array(groups, np.int64).reshape(-1, packed.groups.shape[1])
    return PackedMatrix(table, tuple(tiles), packed.size, packed.inputs + weight.shape[1])


def unpack(packed: PackedMatrix, filters: int, inputs: int) -> Array:
    """The int8 matrix [filters, inputs] that was packed.

    Raises `TatamiError` if two slots give the same weight, or a slot lies outside the matrix or selects no input.
    """
    weight = np.zeros((filters, inputs), np.int8)
    for index, tile in enumerate(packed.tiles):
        lane, column = np.nonzero(tile.weight)
        row = tile.filters[column]
        member = packed.groups[tile.lanes[lane], tile.select[lane, column]]
        for name, value, limit in (("filter", row, filters), ("input", member, inputs)):
            wrong = (value < 0) | (value >= limit)
            if wrong.any():
                raise TatamiError(f"packed tile {index}: a slot of lane {lane[wrong][0]} has {name} {value[wrong][0]}, must be in 0..{limit - 1}")
        cell, slots = np.unique(row * inputs + member, return_counts=True)
        doubled = (slots > 1) | (weight.reshape(-1)[cell] != 0)
        if doubled.any():
            f, k = divmod(int(cell[doubled][0]), inputs)
            raise TatamiError(f"packed tile {index}: filter {f} has two slots for input {k}")
        weight[row, member] = tile.weight[lane, column]
    return weight


def check(packed: PackedMatrix, size: int, group: int, bank: Array) -> None:
    """Raises `TatamiError`, naming the field, unless `packed` is something that the machine can run.

    `bank` int [K]: the bank that each input lies in. Checked: shapes and types; every member of a group lies in the bank
    of its place; a tile has 1..T filters and every filter is in one tile; lanes name groups; an empty slot selects 0,
    a full one a member of its group; no weight has two slots; no group is there for nothing.
    """
    inputs = len(bank)
    if packed.size != size:
        raise TatamiError(f"packed size is {packed.size}, must be {size}")
    if packed.inputs != inputs:
        raise TatamiError(f"packed inputs is {packed.inputs}, must be {inputs}")
    _check_groups("packed groups", packed.groups, group, bank)
    _check_tiles("packed", [tile.filters for tile in packed.tiles], size, packed.filters)
    named = np.zeros(len(packed.groups), bool)
    for index, tile in enumerate(packed.tiles):
        where = f"packed tile {index}"
        _check_range(f"{where}: lanes", tile.lanes, (len(tile.lanes),), len(packed.groups))
        shape = (len(tile.lanes), len(tile.filters))
        if tile.weight.shape != shape or tile.weight.dtype != np.int8:
            raise TatamiError(f"{where}: weight is {tile.weight.dtype} {tile.weight.shape}, must be int8 {shape}")
        _check_range(f"{where}: select", tile.select, shape, group)
        if tile.select[tile.weight == 0].any():
            raise TatamiError(f"{where}: select of an empty slot must be 0")
        named[tile.lanes] = True
    if not named.all():
        raise TatamiError(f"packed groups: group {np.flatnonzero(~named)[0]} is named by no lane")
    unpack(packed, packed.filters, inputs)


def _pack_tile(filters: Array, value: Array, first: int) -> Tile:
    """Slots for `value` [C, N, G]; lanes are in order of their groups, which are numbered from `first`."""
    full = value != 0
    per_group = full.sum(axis=2).max(axis=0, initial=0)
    start = np.cumsum(per_group) - per_group
    column, n, b = np.nonzero(full)
    rank = (np.cumsum(full, axis=2) - 1)[column, n, b]  # the filter's non-zeros in this group, counted off
    lanes = np.repeat(np.arange(len(per_group)), per_group)
    select = np.zeros((len(lanes), len(filters)), np.int64)
    weight = np.zeros((len(lanes), len(filters)), np.int8)
    select[start[n] + rank, column] = b
    weight[start[n] + rank, column] = value[column, n, b]
    return Tile(filters, lanes + first, select, weight)


def _check_weight(weight: Array, bank: Array, size: int, group: int) -> None:
    check_matrix(weight, bank, size, group)
    if not np.issubdtype(weight.dtype, np.integer) or weight.min() < -128 or weight.max() > 127:
        raise TatamiError("pack: weight must hold integers in -128..127")


def _check_permutation(weight: Array, bank: Array, permutation: Permutation, size: int, group: int) -> None:
    _check_tiles("permutation", permutation.tiles, size, len(weight))
    if len(permutation.groups) not in (1, len(permutation.tiles)):
        raise TatamiError(f"permutation groups: {len(permutation.groups)} tables for {len(permutation.tiles)} tiles, must be one or one per tile")
    for index, table in enumerate(permutation.groups):
        where = f"permutation groups, table {index}"
        _check_groups(where, table, group, bank)
        times = np.bincount(table[table >= 0], minlength=len(bank))
        if times.max() > 1:
            raise TatamiError(f"{where}: input {times.argmax()} is in {times.max()} groups, must be in one")
        filters = np.concatenate(permutation.tiles) if len(permutation.groups) == 1 else permutation.tiles[index]
        missing = (weight[filters] != 0).any(axis=0) & (times == 0)
        if missing.any():
            raise TatamiError(f"{where}: input {missing.argmax()} has non-zero weights but is in no group")


def _check_groups(where: str, groups: Array, group: int, bank: Array) -> None:
    if groups.ndim != 2 or groups.shape[1] != group or not np.issubdtype(groups.dtype, np.integer):
        raise TatamiError(f"{where}: {groups.dtype} {groups.shape}, must be integers [groups, {group}]")
    if groups.size and (groups.min() < -1 or groups.max() >= len(bank)):
        raise TatamiError(f"{where}: holds inputs {groups.min()}..{groups.max()}, must be in -1..{len(bank) - 1}")
    wrong = (groups >= 0) & (bank[groups] != np.arange(group))
    if wrong.any():
        n, b = np.argwhere(wrong)[0]
        raise TatamiError(f"{where}: group {n} takes input {groups[n, b]} from bank {b}, but it lies in bank {bank[groups[n, b]]}")


def _check_tiles(where: str, tiles: list[Array] | tuple[Array, ...], size: int, filters: int) -> None:
    for index, tile in enumerate(tiles):
        if not 1 <= len(tile) <= size:
            raise TatamiError(f"{where} tile {index}: filters has {len(tile)} entries, must have 1..{size}")
        _check_range(f"{where} tile {index}: filters", tile, (len(tile),), filters)
    times = np.bincount(np.concatenate(tiles), minlength=filters) if tiles else np.zeros(filters, np.int64)
    if (times != 1).any():
        raise TatamiError(f"{where} tiles: filter {(times != 1).argmax()} is in {times[(times != 1).argmax()]} tiles, must be in one")


def _check_range(where: str, value: Array, shape: tuple[int, ...], limit: int) -> None:
    if value.shape != shape or not np.issubdtype(value.dtype, np.integer):
        raise TatamiError(f"{where}: {value.dtype} {value.shape}, must be integers {shape}")
    if value.size and (value.min() < 0 or value.max() >= limit):
        raise TatamiError(f"{where}: holds {value.min()}..{value.max()}, must be in 0..{limit - 1}")
