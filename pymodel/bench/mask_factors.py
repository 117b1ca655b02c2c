"""The index of a pruned matrix, which says which weights exist, as a boolean product of small binary
matrices.

An index of independent entries takes its entropy: 0.44 bit a weight at 91% pruned. The index is smaller if
pruning uses a mask that is cheap to store. The matrix is cut into tiles. The mask of a tile is the boolean
product of a column of bits [m, rank] and a row of bits [rank, n]. The factors are chosen to keep as much
saliency as possible (Lee et al., "Network Pruning for Low-Rank Binary Indexing", arXiv 1905.05686). The
stored mask is the mask that is used, so it keeps less saliency than exact magnitude pruning. Every figure
therefore needs its `saliency_kept`.

Method. For a given price of a weight, the best rectangle of a tile maximises the sum of (saliency - price) in
it. With few rows it can be found exactly: for each set of rows, the best columns are those whose sum is
positive. With rank > 1 the rectangles are improved in turn, each over what the others leave uncovered. The
price that meets the sparsity is found by bisection.

Many small tiles of rank 1 keep more than few large tiles of high rank at the same bits per weight. For
Gaussian weights, 91% pruned, saliency kept relative to exact magnitude pruning: 8 x 16 of rank 1 (0.188 bit a
weight) 0.67, 32 x 32 of rank 3 0.62, 256 x 256 of rank 24 0.50 (the larger ones by alternating search). No
index of that size can keep more than 0.82.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pymodel.machine.errors import TatamiError
from pymodel.machine.hot import hot
from pymodel.packing.prune import kept_count

Array = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]

TILE = (8, 16)  # rows and columns; 24 bits for 128 weights
MAX_TILE_ROWS = 12  # all sets of rows are tried
MAX_TILE_COLUMNS = 64
MAX_RANK = 8
SWEEPS = 4  # times that each rectangle is improved where there are several
TOLERANCE = 1e-3  # share of the weights to keep that may be missing
SAMPLE_TILES = 4096
# The search uses integer saliencies, so that it gives the same mask on every machine. The price of exact
# pruning is 2**14.
_UNIT, _MOST = 1 << 14, 1 << 20

_HEADER = struct.Struct("<IIBBBx")


@dataclass(frozen=True)
class MaskFactors:
    """A mask [rows, columns] as factors of tiles.

    `factors` uint8 [bytes]: tile by tile, in rows of tiles. Each rectangle of a tile has `tile_rows` bits
    (its rows), then `tile_columns` bits (its columns). Bit 0 is first, and there is no padding. Bits beyond
    the edge of the matrix are 0.
    """

    rows: int
    columns: int
    tile_rows: int
    tile_columns: int
    rank: int
    factors: npt.NDArray[np.uint8]

    def mask(self, where: str = "index") -> Mask:
        """Bool [rows, columns].

        Raises `TatamiError`, naming `where`, for factors of the wrong size or bits beyond the edge.
        """
        down, across = -(-self.rows // self.tile_rows), -(-self.columns // self.tile_columns)
        side = self.tile_rows + self.tile_columns
        count = down * across * self.rank * side
        if self.factors.size != -(-count // 8):
            raise TatamiError(
                f"{where}: factors are {self.factors.size} bytes, must be {-(-count // 8)} ({down * across}"
                f" tiles of rank {self.rank})"
            )
        bits = np.unpackbits(self.factors, count=count, bitorder="little").reshape(
            down, across, self.rank, side
        )
        rows = (
            bits[..., : self.tile_rows]
            .transpose(0, 3, 1, 2)
            .reshape(down * self.tile_rows, across, self.rank)
        )
        columns = (
            bits[..., self.tile_rows :]
            .transpose(1, 3, 0, 2)
            .reshape(across * self.tile_columns, down, self.rank)
        )
        for name, side_bits, limit in (("row", rows, self.rows), ("column", columns, self.columns)):
            outside = side_bits[limit:].any(axis=(1, 2))
            if outside.any():
                raise TatamiError(
                    f"{where}: a rectangle has {name} {limit + int(outside.argmax())}, must be in"
                    f" 0..{limit - 1}"
                )
        mask = np.empty((self.rows, self.columns), np.bool_)
        _product(rows, columns, self.tile_rows, self.tile_columns, mask)
        return mask

    def to_bytes(self) -> bytes:
        """Header (12 bytes), factors."""
        return (
            _HEADER.pack(self.rows, self.columns, self.tile_rows, self.tile_columns, self.rank)
            + self.factors.tobytes()
        )


def factors_from_bytes(data: bytes, where: str = "index") -> MaskFactors:
    """The inverse of `MaskFactors.to_bytes`.

    Raises `TatamiError`, naming `where` and the field, if the data are not valid.
    """
    if len(data) < _HEADER.size:
        raise TatamiError(f"{where}: {len(data)} bytes, must be at least {_HEADER.size} (header)")
    rows, columns, tile_rows, tile_columns, rank = _HEADER.unpack_from(data)
    _check_sizes(where, tile_rows, tile_columns, rank)
    size = -(-(-(-rows // tile_rows) * -(-columns // tile_columns) * rank * (tile_rows + tile_columns)) // 8)
    if len(data) != _HEADER.size + size:
        raise TatamiError(
            f"{where}: {len(data)} bytes, must be {_HEADER.size + size} ({rows} x {columns} in tiles of"
            f" {tile_rows} x {tile_columns})"
        )
    return MaskFactors(
        rows, columns, tile_rows, tile_columns, rank, np.frombuffer(data, np.uint8, offset=_HEADER.size)
    )


def factorise(weight: Array, sparsity: float, tile: tuple[int, int] = TILE, rank: int = 1) -> MaskFactors:
    """The mask for pruning `weight` [M, N]: of the masks with such factors, one that keeps a large sum of
    squares.

    Never keeps more than `kept_count` weights. Keeps at least (1 - TOLERANCE) of them if there are enough
    tiles. `tile`: rows 1..12 and columns 1..64. If the sizes of the matrix are not multiples of these, tiles
    are cut off. Time grows with 2**rows / rows for each weight. Raises `TatamiError` for a weight that is not
    a finite matrix or a size out of range.
    """
    tile_rows, tile_columns = tile
    _check_sizes("index", tile_rows, tile_columns, rank)
    if weight.ndim != 2 or 0 in weight.shape:
        raise TatamiError(
            f"index: weight has shape {weight.shape}, must be [rows, columns], neither of them 0"
        )
    if not np.isfinite(weight).all():
        raise TatamiError("index: weight holds a number that is not finite")
    keep = kept_count(weight.size, sparsity)
    magnitude = np.abs(weight).astype(np.float32)
    # The unit is the saliency at which exact pruning would stop, or the largest weight if that is 0.
    unit = float(np.partition(magnitude.ravel(), weight.size - keep)[weight.size - keep]) if keep else 0.0
    unit = unit or float(magnitude.max()) or 1.0
    down, across = -(-weight.shape[0] // tile_rows), -(-weight.shape[1] // tile_columns)
    saliency = np.zeros((down * tile_rows, across * tile_columns), np.int32)
    saliency[: weight.shape[0], : weight.shape[1]] = np.minimum(
        np.square(magnitude / np.float32(unit)) * np.float32(_UNIT), np.float32(_MOST)
    )
    tiles = np.ascontiguousarray(
        saliency.reshape(down, tile_rows, across, tile_columns).transpose(0, 2, 1, 3)
    ).reshape(-1, tile_rows, tile_columns)
    del saliency, magnitude

    # at price `low` too many weights are kept, or all; at price `high` none are kept
    low, high = -1, _MOST
    if len(tiles) > 4 * SAMPLE_TILES:  # a guess from some of the tiles
        sample = tiles[np.linspace(0, len(tiles) - 1, SAMPLE_TILES).astype(np.int64)]
        share = keep * SAMPLE_TILES / len(tiles)
        guess, above = -1, _MOST
        while above - guess > _UNIT // 256:
            middle = (guess + above) // 2
            guess, above = (middle, above) if _search(sample, rank, middle)[1] > share else (guess, middle)
    else:
        guess = (low + high) // 2
    best: Array | None = None
    step = _UNIT // 64
    while best is None or high - low > 1:
        found, kept = _search(tiles, rank, guess)
        if kept > keep:
            low = max(low, guess)
        else:
            high = min(high, guess)
            best = found
            if kept >= (1 - TOLERANCE) * keep:
                break
        # First near the guess from the sample. The step doubles until the answer is between low and high.
        if len(tiles) > 4 * SAMPLE_TILES and (low == -1 or high == _MOST) and high - low > 1:
            guess = min(high - 1, guess + step) if high == _MOST else max(low + 1, guess - step)
            step *= 2
        else:
            guess = (low + high) // 2
    return MaskFactors(
        weight.shape[0], weight.shape[1], tile_rows, tile_columns, rank, np.packbits(best, bitorder="little")
    )


def saliency_kept(weight: Array, mask: Mask) -> float:
    """Sum of squares that `mask` keeps, over the sum of squares of the same number of largest weights (1 if
    that is 0).
    """
    square = np.square(np.abs(weight).astype(np.float64)).ravel()
    kept = int(np.count_nonzero(mask))
    most = float(np.partition(square, square.size - kept)[square.size - kept :].sum()) if kept else 0.0
    return float(square[mask.ravel()].sum()) / most if most else 1.0


def bitmap(mask: Mask) -> npt.NDArray[np.uint8]:
    """The exact index, one bit a weight: uint8 [ceil(weights / 8)], C order, bit 0 first."""
    return np.packbits(mask.ravel(), bitorder="little")


def entropy_bits(mask: Mask) -> float:
    """The least size of an exact index of independent entries with this density, in bits for the whole
    mask.
    """
    density = np.count_nonzero(mask) / mask.size if mask.size else 0.0
    return sum(-mask.size * p * float(np.log2(p)) for p in (density, 1 - density) if p)


def _check_sizes(where: str, tile_rows: int, tile_columns: int, rank: int) -> None:
    for field, value, high in (
        ("tile rows", tile_rows, MAX_TILE_ROWS),
        ("tile columns", tile_columns, MAX_TILE_COLUMNS),
        ("rank", rank, MAX_RANK),
    ):
        if not 1 <= value <= high:
            raise TatamiError(f"{where}: {field} is {value}, must be in 1..{high}")


def _search(tiles: Array, rank: int, price: int) -> tuple[Array, int]:
    """Factors uint8 [tiles, rank, m + n] for a given price of a weight, and the number of weights that they
    keep.
    """
    count, tile_rows, tile_columns = tiles.shape
    bits = np.zeros((count, rank, tile_rows + tile_columns), np.uint8)
    return bits, int(_search_tiles(tiles, np.int32(price), SWEEPS if rank > 1 else 1, bits))


@hot
def _search_tiles(tiles: Array, price: Any, sweeps: int, bits: Array) -> int:
    """Fills `bits`.

    The sets of rows are tried in the order of a Gray code, so one row is added or removed at a time, and the
    sums of the columns are updated.
    """
    count, m, n = tiles.shape
    rank = bits.shape[1]
    gain = np.empty((m, n), np.int32)
    total = np.empty(n, np.int32)
    covered = np.zeros((m, n), np.int32)
    kept = 0
    for tile in range(count):
        covered[:] = 0
        for turn in range(sweeps * rank):
            k = turn % rank
            rows, columns = bits[tile, k, :m], bits[tile, k, m:]
            for i in range(m):
                for j in range(n):
                    covered[i, j] -= np.int32(rows[i] & columns[j])
                    gain[i, j] = np.int32(0) if covered[i, j] else tiles[tile, i, j] - price
            best, best_set = np.int32(0), 0
            total[:] = 0
            for code in range(1, 1 << m):
                low, row = code, 0
                while not low & 1:
                    low >>= 1
                    row += 1
                chosen = code ^ (code >> 1)
                value = np.int32(0)
                if chosen >> row & 1:
                    for j in range(n):
                        total[j] += gain[row, j]
                        value += max(total[j], np.int32(0))
                else:
                    for j in range(n):
                        total[j] -= gain[row, j]
                        value += max(total[j], np.int32(0))
                if value > best:
                    best, best_set = value, chosen
            for i in range(m):
                rows[i] = best_set >> i & 1
            for j in range(n):
                value = np.int32(0)
                for i in range(m):
                    if rows[i]:
                        value += gain[i, j]
                columns[j] = value > 0
                for i in range(m):
                    covered[i, j] += np.int32(rows[i] & columns[j])
        for i in range(m):
            for j in range(n):
                kept += covered[i, j] > 0
    return kept


@hot
def _product(rows: Array, columns: Array, tile_rows: int, tile_columns: int, mask: Array) -> None:
    for i in range(mask.shape[0]):
        for j in range(mask.shape[1]):
            found = False
            for k in range(rows.shape[2]):
                found |= (rows[i, j // tile_columns, k] & columns[j, i // tile_rows, k]) != 0
            mask[i, j] = found
