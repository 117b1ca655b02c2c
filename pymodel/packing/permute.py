"""Permutation: which filters share a tile, and which inputs share a group.

A layer is a matrix W [F filters, K inputs]. A zero is a pruned weight. The machine computes a *tile* of at
most T filters at a time and feeds it *lanes*. A lane names a *group*, which is at most one input from each of
the G feature banks. The lane gives every filter of the tile one *slot*: a weight, and the select of the
member that it multiplies. A filter with n non-zeros in a group needs n lanes that name the group. So for each
group, a tile needs the largest such n among its filters. The permutation makes the total number of lanes
small. If slots hold 4-bit digits, a weight may need two of them, and n counts digits (`slots` in the
functions here).

The problem is that of Tight Compression (Chen et al., arXiv 2104.01303). Column combining (Kung et al., arXiv
1811.04770) is the special case in which at most one lane names a group and conflicts are pruned.

Method. Filters are put into tiles in order of their non-zero count. A tile needs at least as many lanes as
its fullest filter has non-zeros, and this order makes the sum of these row bounds over the tiles least.
(Swapping filters between tiles during the annealing was tried and gave worse results: a swap loses in the
bound what it gains in a group.) Inputs are put into groups by simulated annealing. A move exchanges two
inputs of the same bank between two groups, or moves one input to an empty place. The energy of a move is the
change in lanes, plus a small multiple of the change in the sum of squared counts. Many arrangements have the
same number of lanes, and the second term distinguishes them. The search stops at the lower bound.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from pymodel.machine.config import GROUPS
from pymodel.machine.errors import TatamiError
from pymodel.machine.hot import hot

Array = npt.NDArray[Any]
Table = Literal["layer", "tile"]

MAX_GROUP = max(GROUPS)  # the annealing counts in bytes and relies on it
MAX_SLOTS = 2  # of a weight: two digits

# Tuned on a public ResNet-20 (CIFAR-10) at 90% and 95% global magnitude sparsity, G = T = 16; energies are in
# lanes.
HOT, COLD = 0.3, 0.05  # temperatures of the first and the last move
SQUARES = 0.2  # weight of the sum of squared counts, divided by the square root of the number of tiles
MOVES = 3000  # per input; three times as many gain about 1%


@dataclass(frozen=True)
class Permutation:
    """Which filters share a tile, and which inputs share a group.

    `tiles`: the filters of each tile, int64 arrays of at most T; every filter is in one tile. `groups`: one
    table for all tiles, or one for each tile; int64 [N, G], the input that bank b gives to group n, -1 for
    none. An input occurs at most once in a table. An input that no filter uses may be missing.
    """

    tiles: tuple[Array, ...]
    groups: tuple[Array, ...]

    def table(self, tile: int) -> Array:
        """The group table [N, G] that tile number `tile` uses."""
        return self.groups[0 if len(self.groups) == 1 else tile]


def check_matrix(weight: Array, bank: Array, size: int, group: int) -> None:
    """Raises `TatamiError` unless `weight` is a matrix [F, K] of numbers, `bank` [K] holds 0..G-1, T >= 1, G
    in 1..16.
    """
    if size < 1:
        raise TatamiError(f"permute: size is {size}, must be at least 1")
    if not 1 <= group <= MAX_GROUP:
        raise TatamiError(f"permute: group is {group}, must be in 1..{MAX_GROUP}")
    if weight.ndim != 2 or 0 in weight.shape:
        raise TatamiError(
            f"permute: weight has shape {weight.shape}, must be [filters, inputs], neither of them 0"
        )
    if np.isnan(weight).any():
        raise TatamiError("permute: weight holds NaN")
    if bank.shape != weight.shape[1:] or not np.issubdtype(bank.dtype, np.integer):
        raise TatamiError(
            f"permute: bank must hold one integer for each of {weight.shape[1]} inputs, has shape"
            f" {bank.shape}"
        )
    if bank.min() < 0 or bank.max() >= group:
        raise TatamiError(f"permute: bank holds {bank.min()}..{bank.max()}, must be in 0..{group - 1}")


def lane_bound(
    weight: Array, bank: Array, tiles: Sequence[Array], group: int, slots: Array | None = None
) -> Array:
    """The least number of lanes that each tile needs, int64 [tiles], whatever its groups.

    The larger of two bounds. The first is the number of slots that the fullest filter needs, one in each
    lane. The second is the largest number of inputs of one bank that the tile uses, one in each group. An
    input counts as often as one of its weights has slots. (The second bound includes used inputs / G, rounded
    up.)
    """
    bounds = np.zeros(len(tiles), np.int64)
    for index, filters in enumerate(tiles):
        used = _slots(weight, slots)[filters].astype(np.int64)
        by_bank = np.bincount(bank, weights=used.max(axis=0), minlength=group)
        bounds[index] = max(used.sum(axis=1).max(initial=0), by_bank.max())
    return bounds


def lane_count(weight: Array, permutation: Permutation, slots: Array | None = None) -> int:
    """Lanes that `weight` [F, K] takes under a permutation, in all tiles together. `slots` as in
    `permute`.
    """
    total = 0
    for index, filters in enumerate(permutation.tiles):
        table = permutation.table(index)
        used = np.where(table >= 0, _slots(weight, slots)[filters][:, table], 0)
        total += int(used.sum(axis=2).max(axis=0).sum())
    return total


def _slots(weight: Array, slots: Array | None) -> Array:
    """The number of slots that each weight needs. Without `slots`: one, or none for a zero."""
    return weight != 0 if slots is None else slots


def natural(weight: Array, bank: Array, size: int, group: int) -> Permutation:
    """No search: filters in order, T to a tile; group n holds the n-th input of every bank.

    `weight` [F, K], `bank` int [K]. Raises `TatamiError` for shapes or banks out of range.
    """
    check_matrix(weight, bank, size, group)
    return Permutation(
        _split(np.arange(len(weight)), size), (_in_order(np.arange(weight.shape[1]), bank, group),)
    )


def permute(
    weight: Array,
    bank: Array,
    size: int,
    group: int,
    *,
    table: Table = "layer",
    rng: np.random.Generator,
    moves: int = MOVES,
    slots: Array | None = None,
) -> Permutation:
    """A permutation with few lanes, never more than `natural` has.

    `weight` [F, K]: it only matters which weights are zero. `bank` int [K]: the feature bank of each input.
    `size` is T and `group` is G. `table` "layer": all tiles share one table of groups; "tile": each tile has
    its own. `moves`: proposals of the annealing for each input and each table. `slots` int [F, K], 0..2: how
    many slots each weight needs; by default one for every weight that is not zero. Equal arguments and
    generator state give equal results. The search releases the interpreter lock, so several layers can be
    permuted in threads. Raises `TatamiError` for shapes, banks, `table`, `moves` or `slots` out of range.
    """
    check_matrix(weight, bank, size, group)
    if slots is not None and (slots.shape != weight.shape or slots.min() < 0 or slots.max() > MAX_SLOTS):
        raise TatamiError(
            f"permute: slots must hold 0..{MAX_SLOTS} for each of {weight.shape} weights, has shape"
            f" {slots.shape}"
        )
    if table not in ("layer", "tile"):
        raise TatamiError(f"permute: table is '{table}', must be 'layer' or 'tile'")
    if moves < 0:
        raise TatamiError(f"permute: moves is {moves}, must be at least 0")
    need = _slots(weight, slots).astype(np.uint8)
    fullest_first = np.argsort(-need.sum(axis=1, dtype=np.int64), kind="stable")
    tiles = _split(fullest_first, size)
    shared = [tiles] if table == "layer" else [(filters,) for filters in tiles]
    found = Permutation(tiles, tuple(_anneal_table(need, bank, t, group, moves, rng) for t in shared))
    plain = natural(weight, bank, size, group)
    if lane_count(weight, plain, need) < lane_count(weight, found, need):
        return Permutation(plain.tiles, plain.groups * len(shared))
    return found


def _split(filters: Array, size: int) -> tuple[Array, ...]:
    return tuple(filters[i : i + size] for i in range(0, len(filters), size))


def _in_order(inputs: Array, bank: Array, group: int) -> Array:
    """The table [N, G] that puts the n-th of `inputs` of each bank into group n."""
    members = [inputs[bank[inputs] == b] for b in range(group)]
    table = np.full((max(map(len, members)), group), -1, np.int64)
    for b, column in enumerate(members):
        table[: len(column), b] = column
    return table


def _anneal_table(
    need: Array, bank: Array, tiles: Sequence[Array], group: int, moves: int, rng: np.random.Generator
) -> Array:
    """The best table [N, G] found for `tiles`, with the inputs that they use. `need` uint8 [F, K]: the slots
    of each weight.

    It has as many groups as its fullest bank has used inputs. With more groups (1.1 times and up) the search
    ended with more lanes.
    """
    # always drawn, so that a layer's result does not depend on the weights of other layers
    seed = rng.integers(1, 2**63, dtype=np.uint64)
    used = np.flatnonzero(need[np.concatenate(tiles)].any(axis=0))
    table = _in_order(used, bank, group)
    if len(table) < 2:
        return table
    # One byte for each filter, eight filters in a word, whole words for each tile: see `_anneal`.
    words = -(-max(map(len, tiles)) // 8)
    bits = np.zeros((need.shape[1] + 1, len(tiles), words * 8), np.uint8)
    for index, filters in enumerate(tiles):
        bits[:-1, index, : len(filters)] = need[filters].T
    column = bits.reshape(len(bits), -1).view(np.uint64)
    count = column[table].sum(axis=1)  # the place of none, -1, is the row of zeros
    lanes = count.view(np.uint8).reshape(len(table), len(tiles), -1).max(axis=2).astype(np.int64)
    bound = int(lane_bound(need, bank, tiles, group, need).sum())
    squares = SQUARES / len(tiles) ** 0.5
    group_of = np.zeros(len(column), np.int64)
    group_of[table] = np.arange(len(table))[:, None]  # the same place takes the entry that means none
    best = table.copy()
    new = np.empty((2, len(tiles)), np.int64)
    twos = bool((need > 1).any())
    _anneal(
        column,
        bank.astype(np.int64),
        used,
        group_of,
        table,
        best,
        count,
        lanes,
        new,
        twos,
        moves * len(used),
        bound,
        squares,
        seed,
    )
    return best


# For every group and tile, the annealing keeps how many slots each filter needs in the group. Counts are
# bytes (at most 2 G = 32), eight in a 64-bit word. All arithmetic is on words, so a move takes tens of
# nanoseconds.
_ONES = np.uint64(0x0101010101010101)
_TOPS = np.uint64(0x8080808080808080)
_BYTE = np.uint64(0xFF)
_LOW = np.uint64(0xFFFFFFFF)
_EVEN = np.uint64(0x00FF00FF00FF00FF)  # bytes 0, 2, 4, 6
_S1, _S7, _S8, _S11, _S13, _S16, _S17, _S32, _S48, _S56 = (
    np.uint64(s) for s in (1, 7, 8, 11, 13, 16, 17, 32, 48, 56)
)


@hot
def _byte_max(x: Any, y: Any) -> Any:
    """The larger of each pair of bytes (all below 128)."""
    keep = ((x | _TOPS) - y) & _TOPS
    keep = (keep - (keep >> _S7)) | keep
    return (x & keep) | (y & ~keep)


@hot
def _byte_sum(x: Any) -> Any:
    """The sum of eight bytes."""
    pairs = (x & _EVEN) + ((x >> _S8) & _EVEN)
    return np.int64((pairs * np.uint64(0x0001000100010001)) >> _S48)


@hot
def _squares_of_twos(bits_a: Any, bits_b: Any, count_p: Any, count_q: Any) -> Any:
    """Half the growth of the squared counts of eight filters, if group p gives the slots of input a to group
    q and takes those of input b. Each filter needs 0..2 slots.

    A filter that moves d slots from p to q adds 2 (d (q - p) + d d). The first part is summed for d >= 1, and
    again for d = 2. With an offset of 2 G = 32 its bytes stay in 0..62 (p >= 1, q <= 2 (G - 1)), eight of
    which do not sum to a byte.
    """
    one_a, one_b = bits_a & ~(bits_a >> _S1) & _ONES, bits_b & ~(bits_b >> _S1) & _ONES
    two_a, two_b = (bits_a >> _S1) & _ONES, (bits_b >> _S1) & _ONES
    none_a, none_b = _ONES ^ one_a ^ two_a, _ONES ^ one_b ^ two_b
    both_a, both_b = two_a & none_b, two_b & none_a  # d = 2
    # d >= 1
    some_a, some_b = both_a | (two_a & one_b) | (one_a & none_b), both_b | (two_b & one_a) | (one_b & none_a)
    offset = _ONES << np.uint64(5)
    to_q, to_p = count_q + offset - count_p, count_p + offset - count_q
    change = _byte_sum((to_q & (some_a * _BYTE)) | (to_p & (some_b * _BYTE)))
    change += _byte_sum((to_q & (both_a * _BYTE)) | (to_p & (both_b * _BYTE)))
    once, twice = _byte_sum(some_a | some_b), _byte_sum(both_a | both_b)
    return change - 32 * (once + twice) + once + 3 * twice


@hot
def _anneal(
    column: Array,
    bank: Array,
    used: Array,
    group_of: Array,
    table: Array,
    best_table: Array,
    count: Array,
    lanes: Array,
    new: Array,
    twos: bool,
    moves: int,
    bound: int,
    squares: float,
    state: Any,
) -> None:
    """Simulated annealing of one group table [N, G]. Leaves the table with the fewest lanes in `best_table`.

    `column` uint64 [K + 1, words]: byte f is how many slots filter f needs for the input, 2 only if `twos`.
    Row K is zero and stands for an empty place. `used` int64: the inputs to place. `group_of` int64 [K + 1]:
    the group of each input. `count` uint64 [N, words]: byte f is filter f's slots in the group. `lanes` int64
    [N, tiles]: each tile's largest count. `new` int64 [2, tiles] is working memory, and `state` uint64 the
    random state. All but `column`, `bank` and `used` change in place (numba compiles plain loops over given
    arrays several times faster than array expressions). Stops when the lanes reach `bound`.
    """
    groups, tiles = lanes.shape
    words = count.shape[1] // tiles
    none = column.shape[0] - 1
    total = np.int64(0)
    for g in range(groups):
        for t in range(tiles):
            total += lanes[g, t]
    best = total
    cooling = (COLD / HOT) ** (256.0 / max(moves, 256))
    temperature = HOT
    for move in range(moves):
        if best <= bound:
            break
        if move % 256 == 255:
            temperature *= cooling
        # xorshift64 (Marsaglia 2003); its halves choose an input and another group
        state ^= state << _S13
        state ^= state >> _S7
        state ^= state << _S17
        a = used[np.int64(((state >> _S32) * np.uint64(len(used))) >> _S32)]
        q = np.int64(((state & _LOW) * np.uint64(groups)) >> _S32)
        p = group_of[a]
        if p == q:
            continue
        b = table[q, bank[a]]
        row_b = b if b >= 0 else none
        more, spread, moved = np.int64(0), np.int64(0), np.int64(0)
        for t in range(tiles):
            max_p, max_q = np.uint64(0), np.uint64(0)
            for w in range(t * words, (t + 1) * words):
                bits_a, bits_b = column[a, w], column[row_b, w]
                count_p, count_q = count[p, w], count[q, w]
                if twos:
                    spread += _squares_of_twos(bits_a, bits_b, count_p, count_q)
                    max_p = _byte_max(max_p, count_p - bits_a + bits_b)
                    max_q = _byte_max(max_q, count_q - bits_b + bits_a)
                    continue
                only_a, only_b = bits_a & ~bits_b, bits_b & ~bits_a
                # A filter in only_a takes one from p to q, which adds 2 (q - p + 1) to the squares; in
                # only_b, 2 (p - q + 1). Offset by G = 16 the bytes stay in 0..30 (p >= 1, q <= G - 1 in
                # only_a), so eight of them sum to a byte.
                offset = _ONES << np.uint64(4)
                change = ((count_q + offset - count_p) & (only_a * _BYTE)) | (
                    (count_p + offset - count_q) & (only_b * _BYTE)
                )
                spread += np.int64((change * _ONES) >> _S56)
                moved += np.int64(((only_a | only_b) * _ONES) >> _S56)
                max_p = _byte_max(max_p, count_p - bits_a + bits_b)
                max_q = _byte_max(max_q, count_q - bits_b + bits_a)
            max_p = _byte_max(max_p, max_p >> _S32)
            max_q = _byte_max(max_q, max_q >> _S32)
            max_p = _byte_max(max_p, max_p >> _S16)
            max_q = _byte_max(max_q, max_q >> _S16)
            new[0, t] = np.int64(_byte_max(max_p, max_p >> _S8) & _BYTE)
            new[1, t] = np.int64(_byte_max(max_q, max_q >> _S8) & _BYTE)
            more += new[0, t] + new[1, t] - lanes[p, t] - lanes[q, t]
        energy = more + squares * 2 * (spread - 15 * moved)
        if energy > 0:
            state ^= state << _S13
            state ^= state >> _S7
            state ^= state << _S17
            if np.float64(state >> _S11) * 2.0**-53 >= np.exp(-energy / temperature):
                continue
        for w in range(count.shape[1]):
            count[p, w] += column[row_b, w] - column[a, w]
            count[q, w] += column[a, w] - column[row_b, w]
        for t in range(tiles):
            lanes[p, t], lanes[q, t] = new[0, t], new[1, t]
        table[p, bank[a]], table[q, bank[a]] = b, a
        group_of[a] = q
        if b >= 0:
            group_of[b] = p
        total += more
        if total < best:
            best = total
            for g in range(groups):
                for bk in range(table.shape[1]):
                    best_table[g, bk] = table[g, bk]
