"""The records of a program. Each is one word of the PROGRAM memory; docs/formats.md has the bits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass, fields
from typing import TypeVar

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
Index = TypeVar("Index", int, IntArray)

OPCODE_LAYER, OPCODE_OUT, OPCODE_END, OPCODE_WAIT, OPCODE_JUMP = 1, 2, 3, 4, 5
SUM, MAXIMUM = 0, 1  # the mode of a LAYER


@dataclass(frozen=True)
class Layer:
    """Runs one layer: `words` words of each of `phases` output planes, in chunks of `chunk_words`, over
    `tiles` tiles from word `tile_base` of TILE.

    Phase p of the output takes its edges from word `edge_base + p * edge_stride` of EDGE on, and its taps
    from row `tap_base + p * tap_stride` of TAP on. `gap`: cycles from the last lane to the next record; 0:
    the next record waits until every result is in memory. `pad`: the value of a pixel over an edge of the
    plane. `mode`: what the layer takes of its products, SUM or MAXIMUM (docs/machine.md, "Maxima").
    """

    words: int
    phases: int
    chunk_words: int
    edge_base: int
    edge_stride: int
    tap_base: int
    tap_stride: int
    tile_base: int
    tiles: int
    gap: int = 0
    pad: int = 0
    mode: int = SUM

    @property
    def total(self) -> int:
        """Words of all phases of the output."""
        return self.words * self.phases

    @property
    def tile_range(self) -> slice:
        """Its words of TILE."""
        return slice(self.tile_base, self.tile_base + self.tiles)

    def chunks(self) -> Iterator[range]:
        """The words of each chunk; the last may be shorter."""
        for first in range(0, self.total, self.chunk_words):
            yield range(first, min(self.total, first + self.chunk_words))

    def edge_word(self, word: Index) -> Index:
        """The word of EDGE for a word of the output, or for each of an array of them."""
        return self.edge_base + word // self.words * self.edge_stride + word % self.words

    def tap_row(self, word: Index) -> Index:
        """The first word of TAP for a word of the output, or for each of an array of them."""
        return self.tap_base + word // self.words * self.tap_stride

    def encode(self) -> IntArray:
        return _row(OPCODE_LAYER, *astuple(self))


@dataclass(frozen=True)
class Out:
    """Sends `words` words of feature bank `bank` from word `base` on, as one packet."""

    bank: int
    base: int
    words: int

    def encode(self) -> IntArray:
        return _row(OPCODE_OUT, *astuple(self))


@dataclass(frozen=True)
class End:
    """Ends the program."""

    def encode(self) -> IntArray:
        return _row(OPCODE_END)


@dataclass(frozen=True)
class Wait:
    """Goes on when `packets` live packets have come, more than earlier WAITs have taken."""

    packets: int

    def encode(self) -> IntArray:
        return _row(OPCODE_WAIT, self.packets)


@dataclass(frozen=True)
class Jump:
    """Goes on at word `target` of PROGRAM."""

    target: int

    def encode(self) -> IntArray:
        return _row(OPCODE_JUMP, self.target)


@dataclass(frozen=True)
class Unknown:
    """A word whose opcode is not legal. The machine stops there with PROGRAM_OPCODE."""

    opcode: int


Legal = Layer | Out | End | Wait | Jump
Record = Legal | Unknown

# of the PROGRAM memory, named as LAYER reads them; the other records have theirs in those after the opcode
PROGRAM_FIELDS = ("opcode", *(f.name for f in fields(Layer)))

# by record, the field of LAYER whose place in the word each of its fields takes
PLACES = {
    record: dict(zip((f.name for f in fields(record)), PROGRAM_FIELDS[1:], strict=False))
    for record in (Out, Wait, Jump)
}
OUT_FIELDS = PLACES[Out]
OPCODES = {
    Layer: OPCODE_LAYER,
    Out: OPCODE_OUT,
    End: OPCODE_END,
    Wait: OPCODE_WAIT,
    Jump: OPCODE_JUMP,
}


def decode(row: Sequence[int] | IntArray) -> Record:
    """The record in a word [fields] of PROGRAM."""
    opcode, *values = (int(v) for v in row)
    if opcode == OPCODE_LAYER:
        return Layer(*values)
    if opcode == OPCODE_OUT:
        return Out(*values[: len(fields(Out))])
    if opcode == OPCODE_WAIT:
        return Wait(values[0])
    if opcode == OPCODE_JUMP:
        return Jump(values[0])
    return End() if opcode == OPCODE_END else Unknown(opcode)


def decode_all(words: IntArray) -> list[Record]:
    """The records in words [words, 1, fields] of PROGRAM."""
    return [decode(row) for row in words[:, 0].tolist()]


def encode_all(records: Iterable[Legal]) -> IntArray:
    """The words [records, 1, fields] of PROGRAM that hold these records."""
    return np.stack([record.encode() for record in records])[:, None, :]


def _row(opcode: int, *values: int) -> IntArray:
    row = np.zeros(len(PROGRAM_FIELDS), dtype=np.int64)
    row[: 1 + len(values)] = (opcode, *values)
    return row
