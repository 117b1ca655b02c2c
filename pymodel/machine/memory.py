"""The machine's memories, the one definition of their bit layout, and the load packets that fill them.

Layout of memory words and load packets: docs/formats.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pymodel.machine.config import (
    BASE_BITS,
    GROUP_ID_BITS,
    OFFSET_BITS,
    POSITION_BITS,
    REACH_BITS,
    SELECT_BITS,
    ArrayConfig,
)
from pymodel.machine.errors import TatamiError
from pymodel.machine.program import PROGRAM_FIELDS
from pymodel.machine.sizes import Size, named, where

Words = npt.NDArray[np.int64]
Beats = npt.NDArray[np.uint64]  # [beats, stream_bits / 64], the lowest bits of a beat first
UNIT_BITS = 64  # a header, and the part of a beat that a number of `Beats` holds
MAX_PACKET_WORDS = 65535
LIVE = 0x80  # in the destination of a header: may be taken while a program runs
HOLD = 0x8F  # the destination of a HOLD
TABLE_WORDS = 256  # of an activation table
NARROW = ("gap", "pad", "mode")  # fields of PROGRAM with 8 bits


@dataclass(frozen=True)
class WordField:
    name: str
    bits: int
    signed: bool = False

    @property
    def low(self) -> int:
        return -(1 << (self.bits - 1)) if self.signed else 0

    @property
    def high(self) -> int:
        return (1 << (self.bits - int(self.signed))) - 1


def pack(fields: Sequence[WordField], *values: int) -> int:
    """The word that has these values in its fields, the first in the lowest bits. Raises `TatamiError` for a
    value that does not fit.
    """
    word = at = 0
    for field, value in zip(fields, values, strict=True):
        if not 0 <= value <= field.high:
            raise TatamiError(f"{field.name} is {value}, must be in 0..{field.high}")
        word |= value << at
        at += field.bits
    return word


# of the load stream
HEADER = (WordField("destination", 8), WordField("bank", 8), WordField("words", 16), WordField("address", 32))


class Header(NamedTuple):
    """What the header of a packet says."""

    destination: int
    bank: int
    words: int
    address: int


def read_header(beat: int) -> Header:
    """The header in the lowest bits of a beat."""
    values = []
    for field in HEADER:
        values.append(beat & field.high)
        beat >>= field.bits
    return Header(*values)


class Columns:
    """Fields of memory words by name. `columns("TILE", words).passes` is a view [...] of words [..., fields];
    it may be written to.
    """

    def __init__(self, names: tuple[str, ...], words: Words) -> None:
        self._names, self._words = names, words  # no field has such a name

    def __getattr__(self, name: str) -> Words:
        try:
            column: Words = self._words[..., self._names.index(name)]
        except ValueError:
            raise AttributeError(f"no field '{name}', there are {', '.join(self._names)}") from None
        return column

    def at(self, index: int) -> Columns:
        """The fields of words [index, ...] alone."""
        return Columns(self._names, self._words[index])


@dataclass(frozen=True)
class Memory:
    """One of the machine's memories. A word has the same fields `repeat` times, the first in the lowest bits.
    `stream_bits` is the width of the load stream.

    Contents are int64 [words, repeat, fields].
    """

    name: str
    destination: int
    depth: int
    repeat: int
    fields: tuple[WordField, ...]
    banks: int = 1
    stream_bits: int = UNIT_BITS

    @property
    def width(self) -> int:
        """Bits of a word."""
        return self.repeat * sum(f.bits for f in self.fields)

    @property
    def beats(self) -> int:
        """Beats of the load stream that a word takes."""
        return -(-self.width // self.stream_bits)

    def index(self, field_name: str) -> int:
        return [f.name for f in self.fields].index(field_name)

    def zeros(self, words: int) -> Words:
        return np.zeros((words, self.repeat, len(self.fields)), dtype=np.int64)

    def encode(self, words: Words, where: str = "") -> npt.NDArray[np.uint8]:
        """Contents -> bytes [words, ceil(width / 8)]. A value that does not fit its field is an error; it is
        never cut.
        """
        parts: list[npt.NDArray[Any]] = []
        whole = not any(f.bits % 8 for f in self.fields)  # bytes as they are, which is quicker
        for i, f in enumerate(self.fields):
            value = words[:, :, i]
            bad = np.argwhere((value < f.low) | (value > f.high))
            if len(bad):
                w, r = bad[0]
                raise TatamiError(
                    f"{where}memory {self.name}, word {w}: {f.name} is {value[w, r]}, must be in"
                    f" {f.low}..{f.high}"
                )
            if whole:
                parts.append(value.astype("<i8")[:, :, None].view(np.uint8)[:, :, : f.bits // 8])
            else:
                parts.append((value[:, :, None] >> np.arange(f.bits)) & 1)
        flat = np.concatenate(parts, axis=2).reshape(len(words), -1).astype(np.uint8)
        return flat if whole else np.packbits(flat, axis=1, bitorder="little")

    def decode(self, data: npt.NDArray[np.uint8]) -> Words:
        """Bytes [words, ceil(width / 8)] -> contents."""
        bits = np.unpackbits(data, axis=1, bitorder="little")[:, : self.width]
        bits = bits.reshape(len(data), self.repeat, -1).astype(np.int64)
        words = self.zeros(len(data))
        start = 0
        for i, f in enumerate(self.fields):
            value = bits[:, :, start : start + f.bits] @ (1 << np.arange(f.bits, dtype=np.int64))
            words[:, :, i] = np.where(value > f.high, value - (1 << f.bits), value) if f.signed else value
            start += f.bits
        return words


@dataclass(frozen=True)
class Field:
    """A field of a memory's word in every configuration. One of no bits is not there."""

    name: str
    bits: Size
    signed: bool = False

    def of(self, config: ArrayConfig) -> WordField:
        return WordField(self.name, config.value(self.bits), self.signed)


def _field(name: str, width: int | Size, *, signed: bool = False) -> Field:
    return Field(name, Size(width) if isinstance(width, int) else width, signed)


ONE = Size(1)


@dataclass(frozen=True)
class Layout:
    """A memory in every configuration, as `Memory` is it in one. One of no words is not there.

    rtl/psa_words.vh is rendered from the layouts, so the RTL has the fields where they are here.
    """

    name: str
    destination: int
    depth: Size
    fields: tuple[Field, ...]
    repeat: Size = ONE
    banks: Size = ONE

    def of(self, config: ArrayConfig) -> Memory:
        return Memory(
            self.name,
            self.destination,
            config.value(self.depth),
            config.value(self.repeat),
            tuple(field for field in (f.of(config) for f in self.fields) if field.bits),
            config.value(self.banks),
            config.stream_bits,
        )


LAYOUTS = {
    layout.name: layout
    for layout in (
        Layout(
            "FEATURE",
            0,
            named("FEATURE_DEPTH"),
            (_field("pixel", 8, signed=True),),
            repeat=named("T"),
            banks=named("GROUP"),
        ),
        Layout(
            "PROGRAM",
            1,
            named("PROGRAM_DEPTH"),
            tuple(_field(name, 8 if name in NARROW else 16, signed=name == "pad") for name in PROGRAM_FIELDS),
        ),
        Layout(
            "TILE",
            2,
            named("TILE_DEPTH"),
            (
                _field("lane_base", 16),
                _field("passes", 16),
                _field("filter_base", 16),
                _field("slot_base", 16),
            ),
        ),
        Layout("LANE", 3, named("LANE_DEPTH"), (_field("group", GROUP_ID_BITS),)),
        # a row of slots as the array takes it: see `slot_memory`
        Layout(
            "SLOT",
            4,
            named("LANE_DEPTH"),
            (
                _field("weight", named("WEIGHT_BITS"), signed=True),
                _field("position", POSITION_BITS),
                _field("select", SELECT_BITS),
            ),
            repeat=named("COLS"),
        ),
        Layout(
            "GROUP",
            5,
            named("GROUP_DEPTH"),
            (_field("valid", 1), _field("base", BASE_BITS), _field("tap", 8)),
            repeat=named("GROUP"),
        ),
        Layout(
            "TAP",
            6,
            named("TAP_DEPTH"),
            (
                _field("offset", OFFSET_BITS, signed=True),
                _field("dy", REACH_BITS + 1, signed=True),
                _field("dx", REACH_BITS + 1, signed=True),
            ),
        ),
        Layout(
            "EDGE",
            7,
            named("EDGE_DEPTH"),
            (
                _field("valid", 1),
                _field("left", REACH_BITS),
                _field("right", REACH_BITS),
                _field("top", REACH_BITS),
                _field("bottom", REACH_BITS),
            ),
            repeat=named("T"),
        ),
        Layout(
            "FILTER",
            8,
            named("FILTER_DEPTH"),
            (
                _field("bias", 32, signed=True),
                _field("multiplier", 16),
                _field("shift", 6),
                _field("zero", 8, signed=True),
                _field("low", 8, signed=True),
                _field("high", 8, signed=True),
                _field("write", 1),
                _field("bank", 4),
                _field("base", BASE_BITS),
                _field("table", where("TABLES", 0, Size(0), Size(4))),
            ),
        ),
        # the activation tables one behind the other: of each, the results for 0..127, then for -128..-1
        Layout("ACTIVATION", 9, Size(TABLE_WORDS) * named("TABLES"), (_field("value", 8, signed=True),)),
    )
}


@cache
def memories(config: ArrayConfig) -> Mapping[str, Memory]:
    """The machine's memories by name."""
    found = {name: layout.of(config) for name, layout in LAYOUTS.items()}
    found["SLOT"] = slot_memory(config)
    return {name: memory for name, memory in found.items() if memory.depth}


def slot_row(config: ArrayConfig) -> Memory:
    """A row of slots as the array takes it. Without an XOR decoder, this is a word of the SLOT memory."""
    return LAYOUTS["SLOT"].of(config)


def slot_memory(config: ArrayConfig) -> Memory:
    row = slot_row(config)
    if not config.xor_inputs:
        return row
    return replace(row, repeat=config.slot_word_bits, fields=(WordField("bit", 1),))


# the names are the same in every configuration, except that a slot of an array of digits has one more; FILTER
# has `table` only where there are activation tables
_NAMES = {name: tuple(f.name for f in m.fields) for name, m in memories(ArrayConfig("any", tables=1)).items()}
_DIGIT_SLOT = tuple(f.name for f in slot_row(ArrayConfig("digits", weight_bits=4)).fields)


def columns(memory: str, words: Words) -> Columns:
    """The fields of words [..., fields] of a memory by name. For SLOT, the words are rows as the array takes
    them.
    """
    digits = memory == "SLOT" and words.shape[-1] == len(_DIGIT_SLOT)
    return Columns(_DIGIT_SLOT if digits else _NAMES[memory], words)


def tables_of(filters: Words) -> Words:
    """The activation tables that words [filters, fields] of FILTER look up, the first is 0. A column that
    writes nothing looks nothing up.
    """
    entry = columns("FILTER", filters)
    return np.unique(entry.table[(entry.write == 1) & (entry.table > 0)]) - 1


def beyond(edges: Columns, dy: Words, dx: Words) -> dict[str, npt.NDArray[np.bool_]]:
    """For each edge, whether the pixel that a tap reads lies beyond that edge of the input plane. A pixel
    beyond any edge counts as 0.

    `edges` are fields of EDGE; `dy` and `dx` are fields of TAP. All shapes broadcast.
    """
    return {
        "left": -dx > edges.left,
        "right": dx > edges.right,
        "top": -dy > edges.top,
        "bottom": dy > edges.bottom,
    }


def outside(edges: Columns, dy: Words, dx: Words) -> npt.NDArray[np.bool_]:
    """Whether the pixel that a tap reads lies beyond any edge of the input plane. As in `beyond`."""
    left, right, top, bottom = beyond(edges, dy, dx).values()
    return left | right | top | bottom


@dataclass(frozen=True)
class Section:
    """Consecutive words of one memory. `words` is int64 [words, repeat, fields]."""

    memory: str
    address: int
    words: Words
    bank: int = 0


@dataclass(frozen=True)
class Hold:
    """In a live stream: nothing more is taken until `layers` LAYERs have passed, more than earlier HOLDs have
    taken.
    """

    layers: int


Live = Section | Hold  # what a stream has that is loaded while a program runs


@dataclass(frozen=True)
class Packet:
    """One packet of the load stream; the header is the first of its `beats`."""

    beats: Beats


def header_beat(destination: int, bank: int, words: int, address: int) -> int:
    return pack(HEADER, destination, bank, words, address)


def to_beats(values: Iterable[int], stream_bits: int) -> Beats:
    """Beats with these numbers."""
    data = b"".join(value.to_bytes(stream_bits // 8, "little") for value in values)
    return np.frombuffer(data, dtype="<u8").reshape(-1, stream_bits // UNIT_BITS).copy()


def from_beats(beats: Beats) -> list[int]:
    """The number that each beat is."""
    found: list[int] = beats[:, 0].tolist()
    for place in range(1, beats.shape[1]):
        high: list[int] = beats[:, place].tolist()
        found = [low | unit << place * UNIT_BITS for low, unit in zip(found, high, strict=True)]
    return found


def hold_packet(config: ArrayConfig, hold: Hold) -> Packet:
    """The packet of a HOLD: a header alone. Raises `TatamiError` for no layers, or for more than its field
    holds.
    """
    if not 1 <= hold.layers <= MAX_PACKET_WORDS:
        raise TatamiError(f"HOLD: layers is {hold.layers}, must be in 1..{MAX_PACKET_WORDS}")
    return Packet(to_beats([header_beat(HOLD, 0, hold.layers, 0)], config.stream_bits))


def packet(memory: Memory, section: Section, where: str = "", *, live: bool = False) -> Packet:
    """The load packet of a section of at most 65535 words; `live`: it may be taken while a program runs."""
    data = memory.encode(section.words, where)
    padded = np.zeros((len(data), memory.beats * memory.stream_bits // 8), dtype=np.uint8)
    padded[:, : data.shape[1]] = data
    header = header_beat(memory.destination | LIVE * live, section.bank, len(data), section.address)
    first = to_beats([header], memory.stream_bits)
    return Packet(np.concatenate([first, padded.reshape(-1).view("<u8").reshape(-1, first.shape[1])]))


def live_packets(config: ArrayConfig, stream: Iterable[Live]) -> list[Packet]:
    """The packets of a live stream. A section of more words than a packet can have is refused: it would be
    several, and a WAIT counts packets.
    """
    specs, packets = memories(config), []
    for item in stream:
        if isinstance(item, Section) and len(item.words) > MAX_PACKET_WORDS:
            raise TatamiError(
                f"live packet of {item.memory}: words is {len(item.words)}, must be at most"
                f" {MAX_PACKET_WORDS}"
            )
        packets.append(
            hold_packet(config, item)
            if isinstance(item, Hold)
            else packet(specs[item.memory], item, live=True)
        )
    return packets


def beats_of(config: ArrayConfig, items: Iterable[Live]) -> int:
    """The beats of a packet for each of these items, headers included."""
    specs = memories(config)
    return sum(packet_beats(specs, item) for item in items)


def packet_beats(specs: Mapping[str, Memory], item: Live) -> int:
    return 1 + (len(item.words) * specs[item.memory].beats if isinstance(item, Section) else 0)


def parse_packet(config: ArrayConfig, beats: Beats) -> Section:
    """A complete, legal packet other than a HOLD -> its section (the inverse of `packet`)."""
    destination, bank, words, address = read_header(int(beats[0, 0]))
    memory = next(m for m in memories(config).values() if m.destination == destination & ~LIVE)
    data = np.ascontiguousarray(beats[1:]).view(np.uint8).reshape(words, -1)[:, : -(-memory.width // 8)]
    return Section(memory.name, address, memory.decode(data), bank)


def check_section(config: ArrayConfig, memory: Memory, section: Section, where: str) -> None:
    """Raises `TatamiError` if a section does not lie inside its memory."""
    end = section.address + len(section.words)
    if not 0 <= section.address or end > memory.depth:
        raise TatamiError(
            f"{where}{memory.name} needs {end} words, config '{config.name}' has {memory.depth}"
        )
    if not 0 <= section.bank < memory.banks:
        raise TatamiError(f"{where}{memory.name} bank is {section.bank}, must be in 0..{memory.banks - 1}")
