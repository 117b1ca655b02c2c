"""Packing: a sparse weight matrix becomes a list of lanes, under a permutation and without loss.

Every non-zero of a filter gets exactly one slot, in a lane that names the group of its input. The select is
the bank of that input (Chen et al., arXiv 2104.01303). `pymodel.packing.permute` explains lanes, groups and
slots. `unpack` is the inverse of `pack`. `check` tests all properties that the machine and the compiler rely
on.

Slots of 4 bits hold digits. A weight is `low + 16 * high`, both in -8..7, and takes a slot for each of its
digits that is not zero (Chen et al., section on subword pruning). Two digits hold -136..119, so an int8
weight must be in -128..119.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from pymodel.machine.errors import TatamiError
from pymodel.packing.permute import Array, Permutation, check_matrix, lane_bound

__all__ = [
    "Block",
    "PackedMatrix",
    "Tile",
    "append",
    "check",
    "digit_count",
    "join",
    "lane_bound",
    "no_lanes",
    "pack",
    "pack_dense",
    "refill",
    "refill_blocks",
    "split_digits",
    "unpack",
    "unpack_own",
]

WEIGHT_BITS = 8
DIGIT_BITS = 4
MAX_DIGITS = 119  # the largest weight of two digits


@dataclass(frozen=True)
class Tile:
    """The lanes of up to T filters.

    `filters` int64 [C]: column c computes filter `filters[c]`. `lanes` int64 [L]: the group that feeds each
    lane. `select` int64 [L, C]: the bank from which a slot takes its input, 0 for an empty slot. `weight`
    int8 [L, C], 0 for an empty slot. `position` int64 [L, C]: None if slots hold whole weights. Else `weight`
    is a digit; position 1 means that the digit counts 16 times, and an empty slot has 0.
    """

    filters: Array
    lanes: Array
    select: Array
    weight: Array
    position: Array | None = None


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
        """All slots, used and empty: T for each lane, even if a tile has fewer than T filters."""
        return self.lanes * self.size

    @property
    def digits(self) -> bool:
        """Whether slots hold digits."""
        return any(tile.position is not None for tile in self.tiles)

    @property
    def passes(self) -> int:
        """Passes of T lanes. The last pass of a tile may be partly empty."""
        return sum(-(-len(tile.lanes) // self.size) for tile in self.tiles)

    @property
    def nonzeros(self) -> int:
        """Slots that hold a weight or a digit."""
        return sum(int(np.count_nonzero(tile.weight)) for tile in self.tiles)

    @property
    def occupancy(self) -> float:
        """Share of the slots that hold a weight (1 for no slots)."""
        return self.nonzeros / self.slots if self.slots else 1.0

    @property
    def compression(self) -> float:
        """Weights of the dense matrix per slot (infinite for no slots)."""
        return self.filters * self.inputs / self.slots if self.slots else float("inf")


@dataclass(frozen=True)
class Block:
    """Filters int64 [f] and all inputs int64 [k], ascending, that they have, with the weights between them,
    [f, k].
    """

    filters: Array
    inputs: Array
    weight: Array

    def before(self, last: int) -> Block:
        """The block without inputs from number `last` on."""
        count = int(np.searchsorted(self.inputs, last))
        return Block(self.filters, self.inputs[:count], self.weight[:, :count])


def split_digits(weight: Array) -> Array:
    """Splits integers [...] in -128..119 into digits int8 [..., 2], low before high.

    `weight = low + 16 * high`. Raises `TatamiError` for other integers.
    """
    if weight.size and (weight.min() < -128 or weight.max() > MAX_DIGITS):
        raise TatamiError(
            f"weight holds {weight.min()}..{weight.max()}, must be in -128..{MAX_DIGITS}: two digits of"
            f" {DIGIT_BITS} bits hold no more"
        )
    value = weight.astype(np.int16)
    low = (value + 8) % 16 - 8
    return np.stack([low, (value - low) >> DIGIT_BITS], axis=-1).astype(np.int8)


def digit_count(weight: Array) -> Array:
    """For each weight, the number of its digits that are not zero: uint8 in 0..2. These are the `slots` of
    `permute`.
    """
    return np.count_nonzero(split_digits(weight), axis=-1).astype(np.uint8)


def pack(
    weight: Array, bank: Array, permutation: Permutation, size: int, group: int, weight_bits: int = 8
) -> PackedMatrix:
    """Packs `weight` [F, K], integers in -128..127, under a permutation and without loss. With `weight_bits`
    4 it packs digits, and the range is -128..119.

    `bank` int [K]: the feature bank of each input. Only groups that a lane names are kept, with new numbers,
    and only members that a filter uses. Raises `TatamiError` if the permutation does not fit the matrix.
    """
    _check_weight(weight, bank, size, group)
    parts = _parts(weight, weight_bits)
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
        value = np.where(tables[-1][:, :, None] >= 0, parts[filters][:, tables[-1]], 0)  # [C, N, G, parts]
        used[first:] |= (value != 0).any(axis=(0, 3))
        tiles.append(_pack_tile(filters, value, first))
    kept = used.any(axis=1)
    number = np.cumsum(kept) - 1
    groups = np.where(used, np.concatenate(tables), -1)[kept]
    tiles = [replace(tile, lanes=number[tile.lanes]) for tile in tiles]
    return PackedMatrix(groups, tuple(tiles), size, weight.shape[1])


def pack_dense(weight: Array, bank: Array, size: int, group: int, weight_bits: int = 8) -> PackedMatrix:
    """The baseline, which skips nothing. Filters are in order. There is one group for each input and, in
    every tile, one lane for each input, or one for each digit of it if slots have 4 bits.

    `weight` [F, K], integers in -128..127; a zero becomes an empty slot. Raises `TatamiError` as `pack` does.
    """
    _check_weight(weight, bank, size, group)
    parts = _parts(weight, weight_bits)
    count = parts.shape[2]
    filters, inputs = weight.shape
    groups = np.full((inputs, group), -1, np.int64)
    groups[np.arange(inputs), bank] = np.arange(inputs)
    tiles = []
    for start in range(0, filters, size):
        columns = np.arange(start, min(start + size, filters))
        value = parts[columns].transpose(1, 2, 0).reshape(inputs * count, -1)
        select = np.where(value != 0, np.repeat(bank, count)[:, None], 0).astype(np.int64)
        position = np.where(value != 0, np.tile(np.arange(count), inputs)[:, None], 0) if count > 1 else None
        tiles.append(Tile(columns, np.repeat(np.arange(inputs), count), select, value, position))
    return PackedMatrix(groups, tuple(tiles), size, inputs)


def refill(packed: PackedMatrix, weight: Array) -> PackedMatrix:
    """Puts `weight` [F, K], integers in -128..127, into the slots that `packed` has for its own weights. So a
    plan, whose weights are all 1, gets its real weights.

    A weight or digit that is zero leaves its slot empty. Raises `TatamiError` if the shape differs, or if a
    weight that is not zero has no slot.
    """
    if weight.shape != (packed.filters, packed.inputs):
        raise TatamiError(
            f"refill: weight has shape {weight.shape}, must be ({packed.filters}, {packed.inputs})"
        )
    return refill_blocks(packed, [Block(np.arange(packed.filters), np.arange(packed.inputs), weight)])


def refill_blocks(packed: PackedMatrix, blocks: Sequence[Block]) -> PackedMatrix:
    """As `refill`, with a matrix of which only the blocks are held. Every filter is in one block.

    A slot for an input that is not in its filter's block stays empty.
    """
    of_filter = np.zeros(packed.filters, np.int64)
    row = np.zeros(packed.filters, np.int64)
    for number, block in enumerate(blocks):
        of_filter[block.filters], row[block.filters] = number, np.arange(len(block.filters))
    tiles = []
    for tile in packed.tiles:
        member = packed.groups[tile.lanes[:, None], tile.select]
        value = np.zeros(tile.weight.shape, np.int8)
        for number in np.unique(of_filter[tile.filters]):
            block, mine = blocks[number], np.flatnonzero(of_filter[tile.filters] == number)
            column = np.searchsorted(block.inputs, member[:, mine]).clip(0, max(0, len(block.inputs) - 1))
            full = (tile.weight[:, mine] != 0) & (block.inputs[column] == member[:, mine])
            position = 0 if tile.position is None else tile.position[:, mine]
            rows = block.weight[row[tile.filters[mine]]]
            parts = _parts(rows, 8 if tile.position is None else DIGIT_BITS)
            value[:, mine] = np.where(full, parts[np.arange(len(mine))[None, :], column, position], 0)
        kept = None if tile.position is None else np.where(value != 0, tile.position, 0)
        tiles.append(Tile(tile.filters, tile.lanes, np.where(value != 0, tile.select, 0), value, kept))
    filled = PackedMatrix(packed.groups, tuple(tiles), packed.size, packed.inputs)
    place, held = _weights(filled, packed.filters, packed.inputs)
    for block in blocks:
        rows, columns = np.nonzero(block.weight)
        wanted = block.filters[rows] * packed.inputs + block.inputs[columns]
        found = np.searchsorted(place, wanted).clip(0, max(0, len(place) - 1))
        there = place[found] == wanted if len(place) else np.zeros(len(wanted), bool)
        lost = np.flatnonzero(~there)
        if not len(lost):
            lost = np.flatnonzero(held[found] != block.weight[rows, columns])
        if len(lost):
            f, k = block.filters[rows[lost[0]]], block.inputs[columns[lost[0]]]
            slot = "slot for each of its digits" if packed.digits else "slot"
            value = block.weight[rows[lost[0]], columns[lost[0]]]
            raise TatamiError(f"refill: filter {f}, input {k} is {value}, but has no {slot}")
    return filled


def no_lanes(filters: int, size: int, group: int, weight_bits: int = 8) -> PackedMatrix:
    """A matrix of so many filters, at most `size`, and no input."""
    empty = np.zeros((0, filters), np.int64)
    position = None if weight_bits == WEIGHT_BITS else empty
    tile = Tile(np.arange(filters), np.zeros(0, np.int64), empty, empty.astype(np.int8), position)
    return PackedMatrix(np.zeros((0, group), np.int64), (tile,), size, 0)


def join(
    parts: Sequence[PackedMatrix], filters: Sequence[Array], inputs: Sequence[Array], count: int
) -> PackedMatrix:
    """One matrix of `count` inputs from parts of it that share no filter: filter f of part i is
    `filters[i][f]` of the whole, its input k is `inputs[i][k]`.
    """
    tiles: list[Tile] = []
    groups = []
    first = 0
    for part, rows, columns in zip(parts, filters, inputs, strict=True):
        tiles += [replace(t, filters=rows[t.filters], lanes=t.lanes + first) for t in part.tiles]
        groups.append(np.where(part.groups >= 0, columns[np.maximum(part.groups, 0)], -1))
        first += len(part.groups)
    return PackedMatrix(np.concatenate(groups), tuple(tiles), parts[0].size, count)


def append(packed: PackedMatrix, weight: Array, bank: Array) -> PackedMatrix:
    """`packed` [F, K] with the columns of `weight` int8 [F, M] added as inputs K..K+M-1. This adds a residual
    to a convolution.

    `bank` int [M]: the feature banks of the new inputs. Each weight takes the first empty slot of its filter
    in a lane whose group has the input or has room for it. If there is no such slot, its tile gets another
    lane, with a group of its own.
    """
    groups = list(packed.groups.copy())
    parts = _parts(weight, DIGIT_BITS if packed.digits else 8)
    tiles = []
    for tile in packed.tiles:
        lanes, select, value = list(tile.lanes), list(tile.select.copy()), list(tile.weight.copy())
        position = list(np.zeros_like(tile.select) if tile.position is None else tile.position.copy())
        for column, f in enumerate(tile.filters):
            for m, part in np.argwhere(parts[f]):
                k, b = packed.inputs + int(m), int(bank[m])
                free = [i for i, g in enumerate(lanes) if value[i][column] == 0 and groups[g][b] in (-1, k)]
                if free:
                    i = next((i for i in free if groups[lanes[i]][b] == k), free[0])
                else:
                    i = len(lanes)
                    lanes.append(len(groups))
                    groups.append(np.full(packed.groups.shape[1], -1, np.int64))
                    for field in (select, position):
                        field.append(np.zeros(len(tile.filters), np.int64))
                    value.append(np.zeros(len(tile.filters), np.int8))
                groups[lanes[i]][b] = k
                select[i][column], value[i][column], position[i][column] = b, parts[f, m, part], part
        shape = (len(lanes), len(tile.filters))
        slots = np.array(select, np.int64).reshape(shape), np.array(value, np.int8).reshape(shape)
        places = None if tile.position is None else np.array(position, np.int64).reshape(shape)
        tiles.append(Tile(tile.filters, np.array(lanes, np.int64), *slots, places))
    table = np.array(groups, np.int64).reshape(-1, packed.groups.shape[1])
    return PackedMatrix(table, tuple(tiles), packed.size, packed.inputs + weight.shape[1])


def unpack(packed: PackedMatrix, filters: int, inputs: int) -> Array:
    """The int8 matrix [filters, inputs] that was packed.

    Raises `TatamiError` if two slots hold the same weight, or if a slot lies outside the matrix or selects no
    input.
    """
    weight = np.zeros(filters * inputs, np.int8)
    cell, value = _weights(packed, filters, inputs)
    weight[cell] = value
    return weight.reshape(filters, inputs)


def unpack_own(packed: PackedMatrix, groups: int = 1) -> Array:
    """As `unpack`, but with the inputs of each filter's own of so many `groups` alone: int8 [F, K / groups].

    Also raises `TatamiError` if the groups do not divide the matrix, or if a slot holds the weight of another
    group.
    """
    filters, inputs = packed.filters, packed.inputs
    if filters % groups or inputs % groups:
        raise TatamiError(f"plan: {groups} groups do not divide {filters} filters and {inputs} inputs")
    own = inputs // groups
    cell, value = _weights(packed, filters, inputs)
    row, column = np.divmod(cell, inputs)
    place = column - row // (filters // groups) * own
    for n in np.flatnonzero((place < 0) | (place >= own))[:1]:
        raise TatamiError(f"plan: filter {row[n]} has a slot for input {column[n]} of another group")
    weight = np.zeros((filters, own), np.int8)
    weight[row, place] = value
    return weight


def _weights(packed: PackedMatrix, filters: int, inputs: int) -> tuple[Array, Array]:
    """The weights that slots hold, as places `filter * inputs + input` in the matrix, ascending, and values.
    Errors as in `unpack`.
    """
    cells, values = [np.zeros(0, np.int64)], [np.zeros(0, np.int16)]
    for index, tile in enumerate(packed.tiles):
        lane, column = np.nonzero(tile.weight)
        row = tile.filters[column]
        member = packed.groups[tile.lanes[lane], tile.select[lane, column]]
        part = np.zeros_like(member) if tile.position is None else tile.position[lane, column]
        for name, value, limit in (
            ("filter", row, filters),
            ("input", member, inputs),
            ("position", part, 2),
        ):
            wrong = (value < 0) | (value >= limit)
            if wrong.any():
                raise TatamiError(
                    f"packed tile {index}: a slot of lane {lane[wrong][0]} has {name} {value[wrong][0]}, must"
                    f" be in 0..{limit - 1}"
                )
        cells.append((row * inputs + member) * 2 + part)
        values.append(tile.weight[lane, column].astype(np.int16) << DIGIT_BITS * part)
    cell, held = np.concatenate(cells), np.concatenate(values)
    order = np.argsort(cell, kind="stable")
    cell, held = cell[order], held[order]
    twice = np.flatnonzero(cell[1:] == cell[:-1])
    if len(twice):
        f, k = divmod(int(cell[twice[0]]) // 2, inputs)
        index = max(i for i, mine in enumerate(cells[1:]) if (mine == cell[twice[0]]).any())
        raise TatamiError(f"packed tile {index}: filter {f} has two slots for input {k}")
    # the digits of a weight lie next to each other
    place, first = np.unique(cell // 2, return_index=True)
    whole = np.add.reduceat(held, first) if len(held) else held
    if whole.size and whole.min() < -128:
        f, k = divmod(int(place[whole < -128][0]), inputs)
        raise TatamiError(
            f"packed: the digits of filter {f}, input {k} are those of {whole[whole < -128][0]}, must be at"
            " least -128"
        )
    return place, whole.astype(np.int8)


def check(packed: PackedMatrix, size: int, group: int, bank: Array, weight_bits: int = 8) -> None:
    """Raises `TatamiError`, naming the field, unless the machine can run `packed`.

    `bank` int [K]: the bank of each input. Checked: shapes and types; every member of a group lies in the
    bank of its place; a tile has 1..T filters and every filter is in one tile; lanes name groups; an empty
    slot selects 0, a full slot a member of its group; no weight or digit has two slots; every group is named
    by a lane. With `weight_bits` 4, also that slots hold digits.
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
            raise TatamiError(
                f"{where}: weight is {tile.weight.dtype} {tile.weight.shape}, must be int8 {shape}"
            )
        _check_range(f"{where}: select", tile.select, shape, group)
        if tile.select[tile.weight == 0].any():
            raise TatamiError(f"{where}: select of an empty slot must be 0")
        _check_digits(where, tile, shape, weight_bits)
        named[tile.lanes] = True
    if not named.all():
        raise TatamiError(f"packed groups: group {np.flatnonzero(~named)[0]} is named by no lane")
    _weights(packed, packed.filters, inputs)


def _parts(weight: Array, weight_bits: int) -> Array:
    """What the slots hold of each weight, int8 [F, K, parts]: the weight, or its two digits."""
    return weight.astype(np.int8)[:, :, None] if weight_bits == 8 else split_digits(weight)


def _pack_tile(filters: Array, value: Array, first: int) -> Tile:
    """Slots for `value` [C, N, G, parts]. Lanes are in the order of their groups, which are numbered from
    `first`.
    """
    count, groups, members, parts = value.shape
    value = value.reshape(count, groups, members * parts)
    full = value != 0
    per_group = full.sum(axis=2).max(axis=0, initial=0)
    start = np.cumsum(per_group) - per_group
    column, n, b = np.nonzero(full)
    rank = (np.cumsum(full, axis=2) - 1)[column, n, b]  # the filter's non-zeros in this group, counted off
    lanes = np.repeat(np.arange(len(per_group)), per_group)
    select, position = np.zeros((2, len(lanes), len(filters)), np.int64)
    weight = np.zeros((len(lanes), len(filters)), np.int8)
    select[start[n] + rank, column], position[start[n] + rank, column] = b // parts, b % parts
    weight[start[n] + rank, column] = value[column, n, b]
    return Tile(filters, lanes + first, select, weight, position if parts > 1 else None)


def _check_digits(where: str, tile: Tile, shape: tuple[int, int], weight_bits: int) -> None:
    if (tile.position is None) != (weight_bits == 8):
        raise TatamiError(
            f"{where}: position is {'missing' if tile.position is None else 'there'}, slots have"
            f" {weight_bits} bits"
        )
    if tile.position is None:
        return
    _check_range(f"{where}: position", tile.position, shape, 2)
    if tile.position[tile.weight == 0].any():
        raise TatamiError(f"{where}: position of an empty slot must be 0")
    if tile.weight.size and (tile.weight.min() < -8 or tile.weight.max() > 7):
        raise TatamiError(
            f"{where}: weight holds {tile.weight.min()}..{tile.weight.max()}, a digit must be in -8..7"
        )


def _check_weight(weight: Array, bank: Array, size: int, group: int) -> None:
    check_matrix(weight, bank, size, group)
    if not np.issubdtype(weight.dtype, np.integer) or weight.min() < -128 or weight.max() > 127:
        raise TatamiError("pack: weight must hold integers in -128..127")


def _check_permutation(weight: Array, bank: Array, permutation: Permutation, size: int, group: int) -> None:
    _check_tiles("permutation", permutation.tiles, size, len(weight))
    if len(permutation.groups) not in (1, len(permutation.tiles)):
        raise TatamiError(
            f"permutation groups: {len(permutation.groups)} tables for {len(permutation.tiles)} tiles, must"
            " be one or one per tile"
        )
    for index, table in enumerate(permutation.groups):
        where = f"permutation groups, table {index}"
        _check_groups(where, table, group, bank)
        times = np.bincount(table[table >= 0], minlength=len(bank))
        if times.max() > 1:
            raise TatamiError(f"{where}: input {times.argmax()} is in {times.max()} groups, must be in one")
        filters = (
            np.concatenate(permutation.tiles) if len(permutation.groups) == 1 else permutation.tiles[index]
        )
        missing = (weight[filters] != 0).any(axis=0) & (times == 0)
        if missing.any():
            raise TatamiError(f"{where}: input {missing.argmax()} has non-zero weights but is in no group")


def _check_groups(where: str, groups: Array, group: int, bank: Array) -> None:
    if groups.ndim != 2 or groups.shape[1] != group or not np.issubdtype(groups.dtype, np.integer):
        raise TatamiError(f"{where}: {groups.dtype} {groups.shape}, must be integers [groups, {group}]")
    if groups.size and (groups.min() < -1 or groups.max() >= len(bank)):
        raise TatamiError(
            f"{where}: holds inputs {groups.min()}..{groups.max()}, must be in -1..{len(bank) - 1}"
        )
    wrong = (groups >= 0) & (bank[groups] != np.arange(group))
    if wrong.any():
        n, b = np.argwhere(wrong)[0]
        raise TatamiError(
            f"{where}: group {n} takes input {groups[n, b]} from bank {b}, but it lies in bank"
            f" {bank[groups[n, b]]}"
        )


def _check_tiles(where: str, tiles: list[Array] | tuple[Array, ...], size: int, filters: int) -> None:
    for index, tile in enumerate(tiles):
        if not 1 <= len(tile) <= size:
            raise TatamiError(f"{where} tile {index}: filters has {len(tile)} entries, must have 1..{size}")
        _check_range(f"{where} tile {index}: filters", tile, (len(tile),), filters)
    times = np.bincount(np.concatenate(tiles), minlength=filters) if tiles else np.zeros(filters, np.int64)
    if (times != 1).any():
        raise TatamiError(
            f"{where} tiles: filter {(times != 1).argmax()} is in {times[(times != 1).argmax()]} tiles, must"
            " be in one"
        )


def _check_range(where: str, value: Array, shape: tuple[int, ...], limit: int) -> None:
    if value.shape != shape or not np.issubdtype(value.dtype, np.integer):
        raise TatamiError(f"{where}: {value.dtype} {value.shape}, must be integers {shape}")
    if value.size and (value.min() < 0 or value.max() >= limit):
        raise TatamiError(f"{where}: holds {value.min()}..{value.max()}, must be in 0..{limit - 1}")
