"""Rows of slots as the SLOT memory of a machine with an XOR decoder holds them: docs/formats.md, "Rows of
slots".

The rows of a tile lie end to end. The length of an encoded row depends on its number of patches. A row that
would need too many patches is stored as it is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from pymodel.machine.config import XOR_COUNT_BITS, XOR_PATCHES, ArrayConfig
from pymodel.machine.errors import ErrorCode, TatamiError
from pymodel.machine.image import Image
from pymodel.machine.memory import Words, columns, slot_row
from pymodel.machine.xor_network import XorNetwork, solve_slices

Bits = npt.NDArray[np.uint8]
IntArray = npt.NDArray[np.int64]

# of `with_decoder`: steps of the word's width, and the history that goes with it
STEP, TRIED_WINDOW, MAX_HISTORY = 8, 384, 7
FORMATS = ("plain", "xor")  # of rows of slots, as `--format` and FORMAT name them
RAW = (1 << XOR_COUNT_BITS) - 1  # the count of a row that is stored as it is


@dataclass(frozen=True)
class RowFault:
    """What is wrong with a stored row. `word` is counted from the first word of the tile."""

    code: ErrorCode
    row: int
    word: int
    what: str


@dataclass(frozen=True)
class Rows:
    """The decoded rows of a tile: int64 [rows, T, fields], zero from the faulty row on.

    `patches` int64 [rows] is RAW if a row is stored as it is. `ends` int64 [rows]: bits from the beginning of
    the tile.
    """

    rows: IntArray
    patches: IntArray
    ends: IntArray
    fault: RowFault | None


@lru_cache(64)
def network(config: ArrayConfig) -> XorNetwork:
    """The XOR gates of the decoder."""
    return XorNetwork(config.xor_inputs, config.row_bits, config.xor_seed, config.xor_history)


def row_length(config: ArrayConfig, patches: int) -> int:
    """Bits of a stored row with `patches` patches; `patches` may be RAW."""
    if patches == RAW:
        return config.slot_word_bits
    return XOR_COUNT_BITS + config.size + config.xor_inputs + patches * config.patch_bits


def spread(config: ArrayConfig, rows: IntArray) -> IntArray:
    """An order of rows int64 [rows, T, fields] in which few rows need a patch. Fuller rows come after emptier
    rows, because the words of the emptier rows have bits to spare.
    """
    cares = np.count_nonzero(columns("SLOT", rows).weight, axis=1) * config.slot_bits
    left = sorted(range(len(cares)), key=lambda r: (cares[r], r))
    order, spare = [], 0
    for _ in range(len(cares)):
        spare += config.xor_inputs
        at = int(np.searchsorted(cares[left], spare, side="right")) - 1
        order.append(left.pop(max(0, at)))
        spare = min(max(0, spare - int(cares[order[-1]])), config.xor_history * config.xor_inputs)
    return np.array(order, np.int64)


def encode_tile(config: ArrayConfig, rows: IntArray) -> Words:
    """Rows of slots int64 [rows, T, fields] of one tile -> SLOT words int64 [words, bits, 1].

    Slots whose weight is 0 come back as zeros.
    """
    used = columns("SLOT", rows).weight != 0
    bits = _to_bits(config, rows)
    care = np.repeat(used, config.slot_bits, axis=1).astype(np.uint8)
    words, positions, skipped = solve_slices(bits, care, network(config), XOR_PATCHES)
    stored: list[Bits] = []
    number = 0
    for r in range(len(rows)):
        if skipped[r]:
            stored += [_number(RAW, XOR_COUNT_BITS), bits[r]]
            continue
        patches = (
            positions[(positions >= r * config.row_bits) & (positions < (r + 1) * config.row_bits)]
            - r * config.row_bits
        )
        stored += [
            _number(len(patches), XOR_COUNT_BITS),
            used[r].astype(np.uint8),
            words[number],
            *(_number(int(p), config.patch_bits) for p in patches),
        ]
        number += 1
    flat = np.concatenate(stored)
    width = config.slot_word_bits
    return np.pad(flat, (0, -len(flat) % width)).reshape(-1, width, 1).astype(np.int64)


def decode_tile(config: ArrayConfig, words: Words, rows: int) -> Rows:
    """Decodes `rows` rows from the first of `words` [words, bits, 1] on. The words reach to the end of the
    memory.
    """
    width, row_bits = config.slot_word_bits, config.row_bits
    longest = min(len(words), rows)  # a row is never longer than a word
    flat = words[:longest].astype(np.uint8).reshape(-1)
    stored = np.concatenate([flat, np.zeros(2 * width, np.uint8)])
    counts, begins, ends = [], [], []
    position, fault = 0, None
    for r in range(rows):
        count = int(stored[position]) | int(stored[position + 1]) << 1 | int(stored[position + 2]) << 2
        end = position + row_length(config, count if count == RAW else min(count, XOR_PATCHES))
        if end > len(flat):
            fault = RowFault(
                ErrorCode.SLOT_RANGE, r, (end - 1) // width, f"row {r} of slots ends beyond the memory"
            )
            break
        counts.append(count)
        begins.append(position)
        ends.append(end)
        position = end
    count_of, begin = np.array(counts, np.int64), np.array(begins, np.int64)
    decoded = np.zeros((rows, row_bits), np.uint8)
    raw = np.flatnonzero(count_of == RAW)
    decoded[raw] = stored[begin[raw, None] + XOR_COUNT_BITS + np.arange(row_bits)]
    coded = np.flatnonzero(count_of != RAW)
    valid = stored[begin[coded, None] + XOR_COUNT_BITS + np.arange(config.size)]
    inputs = stored[begin[coded, None] + XOR_COUNT_BITS + config.size + np.arange(config.xor_inputs)]
    past = np.concatenate([np.zeros((config.xor_history, config.xor_inputs), np.uint8), inputs])
    window = np.concatenate(
        [past[config.xor_history - h : len(past) - h] for h in range(config.xor_history + 1)], axis=1
    )
    expanded = (window.astype(np.float32) @ network(config).matrix.T.astype(np.float32)).astype(np.int64) & 1
    for r, row in zip(coded.tolist(), expanded, strict=True):
        wrong = _patch(config, row, counts[r], stored[begins[r] + row_length(config, 0) :])
        if wrong is not None and (fault is None or r < fault.row):
            fault = RowFault(ErrorCode.SLOT_CODE, r, (ends[r] - 1) // width, f"row {r} of slots: {wrong}")
    decoded[coded] = expanded & np.repeat(valid, config.slot_bits, axis=1)
    if fault is not None:
        decoded[fault.row :] = 0
    return Rows(_from_bits(config, decoded), count_of, np.array(ends, np.int64), fault)


def tile_rows(config: ArrayConfig, slot: Words, tile: IntArray) -> Rows:
    """The rows of slots of a TILE word [fields], from the SLOT memory or section `slot`."""
    lane_base, passes, _, slot_base = (int(v) for v in tile)
    rows = passes * config.size
    if config.xor_inputs:
        return decode_tile(config, slot[slot_base:], rows)
    found = slot[lane_base : lane_base + rows]
    return Rows(found, np.full(rows, RAW), np.arange(1, rows + 1) * config.row_bits, None)


def image_rows(image: Image) -> IntArray:
    """The rows of slots of an image, int64 [lanes, T, fields]; zero for a lane that no tile has."""
    slot = image.section("SLOT").words
    if not image.config.xor_inputs:
        return slot
    rows = slot_row(image.config).zeros(len(image.section("LANE").words))
    for tile in image.section("TILE").words[:, 0]:
        found = tile_rows(image.config, slot, tile).rows
        rows[tile[0] : tile[0] + len(found)] = found
    return rows


def slot_words(config: ArrayConfig, rows: IntArray) -> Words:
    """The SLOT words of one tile's rows int64 [rows, T, fields]. Without a decoder, these are the rows."""
    return encode_tile(config, rows) if config.xor_inputs else rows


def store_rows(config: ArrayConfig, tiles: IntArray, rows: IntArray) -> tuple[Words, Words]:
    """The inverse of `image_rows`.

    `tiles` are TILE words [tiles, 1, fields], and `rows` their rows of slots by lane. Returns the TILE words
    with their `slot_base`, and the SLOT words.
    """
    if not config.xor_inputs:
        return tiles, rows
    tiles = tiles.copy()
    slot: list[Words] = []
    for tile in tiles[:, 0]:
        tile[3] = sum(map(len, slot))
        slot.append(encode_tile(config, rows[tile[0] : tile[0] + tile[1] * config.size]))
    return tiles, np.concatenate(slot)


def stored_bits(config: ArrayConfig, tiles: list[IntArray]) -> int:
    """Bits that the rows of slots of `tiles`, each int64 [rows, T, fields], take in the SLOT memory, in whole
    words and in the order of `spread`.
    """
    words = sum(len(slot_words(config, rows[spread(config, rows)])) for rows in tiles)
    return words * config.slot_word_bits


def check_room(config: ArrayConfig) -> None:
    """Raises `TatamiError` if the rows of this array are too short for any XOR decoder."""
    if not config.most_xor_inputs:
        raise TatamiError(
            f"config '{config.name}': rows of {config.row_bits} bits leave no room for patches: no XOR"
            " decoder fits"
        )


def with_decoder(config: ArrayConfig, tiles: list[IntArray]) -> ArrayConfig:
    """`config` with the XOR decoder for which `tiles`, each int64 [rows, T, fields], take the fewest bits.
    The width of the word is tried in steps.

    Raises `TatamiError` as `check_room` does.
    """
    check_room(config)

    def build(inputs: int) -> ArrayConfig:
        history = min(MAX_HISTORY, max(0, TRIED_WINDOW // inputs - 1))
        return replace(config, name=f"{config.name}x{inputs}", xor_inputs=inputs, xor_history=history)

    def best(widths: range) -> ArrayConfig:
        return min(map(build, widths), key=lambda found: stored_bits(found, tiles))

    most = config.most_xor_inputs
    about = best(range(min(STEP, most), most + 1, STEP)).xor_inputs
    return best(range(max(1, about - STEP + 1), min(most, about + STEP - 1) + 1))


def image_tiles(image: Image) -> list[IntArray]:
    """The rows of slots of every tile of an image, int64 [rows, T, fields] each."""
    slot = image.section("SLOT").words
    return [tile_rows(image.config, slot, tile).rows for tile in image.section("TILE").words[:, 0]]


def _patch(config: ArrayConfig, row: IntArray, count: int, stored: Bits) -> str | None:
    """Flips the bits of a row that its patches name. Returns what is wrong with the patches, if anything."""
    if count > XOR_PATCHES:
        return f"{count} patches, must be at most {XOR_PATCHES} or {RAW}"
    before = -1
    for p in range(count):
        bits = stored[p * config.patch_bits : (p + 1) * config.patch_bits]
        position = int(bits @ (1 << np.arange(config.patch_bits)))
        if not before < position < config.row_bits:
            return f"patch {p} is at {position}, must be in {before + 1}..{config.row_bits - 1}"
        row[position] ^= 1
        before = position
    return None


def _number(value: int, bits: int) -> Bits:
    return (value >> np.arange(bits) & 1).astype(np.uint8)


def _to_bits(config: ArrayConfig, rows: IntArray) -> Bits:
    return np.unpackbits(slot_row(config).encode(rows), axis=1, bitorder="little")[:, : config.row_bits]


def _from_bits(config: ArrayConfig, bits: Bits) -> Any:
    return slot_row(config).decode(np.packbits(bits, axis=1, bitorder="little"))
