"""The image: everything that the machine holds for a network, and the one definition of its bit layout.

Layout of memory words, load packets and the file: docs/formats.md.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pymodel.config import ArrayConfig
from pymodel.errors import TatamiError
from pymodel.planes import Placement

Words = npt.NDArray[np.int64]

OPCODE_LAYER, OPCODE_OUT, OPCODE_END = 1, 2, 3
BEAT_BITS = 64
MAX_PACKET_WORDS = 65535


@dataclass(frozen=True)
class Field:
    name: str
    bits: int
    signed: bool = False

    @property
    def low(self) -> int:
        return -(1 << (self.bits - 1)) if self.signed else 0

    @property
    def high(self) -> int:
        return (1 << (self.bits - int(self.signed))) - 1


@dataclass(frozen=True)
class Memory:
    """One of the machine's memories: a word is `repeat` times the same fields, the first in the lowest bits.

    Contents are int64 [words, repeat, fields].
    """

    name: str
    destination: int
    depth: int
    repeat: int
    fields: tuple[Field, ...]
    banks: int = 1

    @property
    def width(self) -> int:
        """Bits of a word."""
        return self.repeat * sum(f.bits for f in self.fields)

    def index(self, field_name: str) -> int:
        return [f.name for f in self.fields].index(field_name)

    def zeros(self, words: int) -> Words:
        return np.zeros((words, self.repeat, len(self.fields)), dtype=np.int64)

    def encode(self, words: Words, where: str = "") -> npt.NDArray[np.uint8]:
        """Contents -> bytes [words, ceil(width / 8)]; a value that its field cannot hold is an error, never cut."""
        bits = []
        for i, f in enumerate(self.fields):
            value = words[:, :, i]
            bad = np.argwhere((value < f.low) | (value > f.high))
            if len(bad):
                w, r = bad[0]
                raise TatamiError(f"{where}memory {self.name}, word {w}: {f.name} is {value[w, r]}, must be in {f.low}..{f.high}")
            bits.append((value[:, :, None] >> np.arange(f.bits)) & 1)
        flat = np.concatenate(bits, axis=2).reshape(len(words), self.width).astype(np.uint8)
        return np.packbits(flat, axis=1, bitorder="little")

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


PROGRAM_FIELDS = (
    "opcode",
    "words",
    "phases",
    "chunk_words",
    "edge_base",
    "edge_stride",
    "tap_base",
    "tap_stride",
    "tile_base",
    "tiles",
    "gap",
)


def memories(config: ArrayConfig) -> dict[str, Memory]:
    """The machine's memories by name."""
    t, g = config.size, config.group
    table = (
        Memory("FEATURE", 0, config.feature_depth, t, (Field("pixel", 8, signed=True),), banks=g),
        Memory("PROGRAM", 1, config.program_depth, 1, tuple(Field(name, 8 if name == "gap" else 16) for name in PROGRAM_FIELDS)),
        Memory(
            "TILE",
            2,
            config.tile_depth,
            1,
            (Field("lane_base", 16), Field("passes", 16), Field("filter_base", 16), Field("slot_base", 16)),
        ),
        Memory("LANE", 3, config.lane_depth, 1, (Field("group", config.group_id_bits),)),
        _slot_memory(config),
        Memory("GROUP", 5, config.group_depth, g, (Field("valid", 1), Field("base", config.base_bits), Field("tap", 5))),
        Memory(
            "TAP",
            6,
            config.tap_depth,
            1,
            (Field("offset", config.offset_bits, signed=True), Field("dy", 4, signed=True), Field("dx", 4, signed=True)),
        ),
        Memory("EDGE", 7, config.edge_depth, t, (Field("valid", 1), Field("left", 3), Field("right", 3), Field("top", 3), Field("bottom", 3))),
        Memory(
            "FILTER",
            8,
            config.filter_depth,
            1,
            (
                Field("bias", 32, signed=True),
                Field("multiplier", 16),
                Field("shift", 6),
                Field("relu", 1),
                Field("write", 1),
                Field("bank", 4),
                Field("base", config.base_bits),
            ),
        ),
    )
    return {m.name: m for m in table}


def slot_row(config: ArrayConfig) -> Memory:
    """A row of slots as the array takes it; the SLOT memory itself, unless there is an XOR decoder behind it."""
    return Memory("SLOT", 4, config.lane_depth, config.size, _slot_fields(config))


def _slot_memory(config: ArrayConfig) -> Memory:
    if not config.xor_inputs:
        return slot_row(config)
    return Memory("SLOT", 4, config.lane_depth, config.slot_word_bits, (Field("bit", 1),))


def _slot_fields(config: ArrayConfig) -> tuple[Field, ...]:
    position = (Field("position", config.position_bits),) if config.position_bits else ()
    return (Field("weight", config.weight_bits, signed=True), *position, Field("select", config.select_bits))


@dataclass(frozen=True)
class Section:
    """Consecutive words of one memory. `words` is int64 [words, repeat, fields]."""

    memory: str
    address: int
    words: Words
    bank: int = 0


@dataclass(frozen=True)
class Packet:
    """One packet of the load stream; `beats` are uint64, the header first."""

    beats: npt.NDArray[np.uint64]


def header_beat(destination: int, bank: int, words: int, address: int) -> int:
    return destination | bank << 8 | words << 16 | address << 32


def packet(memory: Memory, section: Section, where: str = "") -> Packet:
    """The load packet of a section of at most 65535 words."""
    data = memory.encode(section.words, where)
    beats = -(-memory.width // BEAT_BITS)
    padded = np.zeros((len(data), beats * BEAT_BITS // 8), dtype=np.uint8)
    padded[:, : data.shape[1]] = data
    header = header_beat(memory.destination, section.bank, len(data), section.address)
    return Packet(np.concatenate([np.array([header], dtype=np.uint64), padded.reshape(-1).view("<u8")]))


def parse_packet(config: ArrayConfig, beats: npt.NDArray[np.uint64]) -> Section:
    """A whole, legal packet -> its section (the inverse of `packet`)."""
    header = int(beats[0])
    destination, bank, words, address = header & 0xFF, header >> 8 & 0xFF, header >> 16 & 0xFFFF, header >> 32
    memory = next(m for m in memories(config).values() if m.destination == destination)
    data = np.ascontiguousarray(beats[1:]).view(np.uint8).reshape(words, -1)[:, : -(-memory.width // 8)]
    return Section(memory.name, address, memory.decode(data), bank)


@dataclass(frozen=True)
class Dump:
    """One packet that the dump program sends: `words` words of `bank` from word `base`, all of one tensor."""

    tensor: str
    bank: int
    base: int
    words: int


@dataclass(frozen=True)
class Image:
    """Contents of the machine's memories for one network, and what the host needs to use them.

    `layers` names the LAYER records in order. `run_start` and `dump_start` are program addresses: the network itself, which sends
    the `output` tensor, and a program that sends every tensor as `dumps` lists.
    """

    config: ArrayConfig
    network: str
    scheme: str
    sections: tuple[Section, ...]
    placements: dict[str, Placement]
    layers: tuple[str, ...]
    output: str
    run_start: int
    dump_start: int
    dumps: tuple[Dump, ...]
    stats: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        specs = memories(self.config)
        for s in self.sections:
            check_section(self.config, specs[s.memory], s, f"image of '{self.network}': ")

    def with_words(self, **memory: Words) -> Image:
        """The image with the contents of some memories replaced."""
        return replace(self, sections=tuple(Section(s.memory, 0, memory[s.memory]) if s.memory in memory else s for s in self.sections))

    def section(self, memory: str) -> Section:
        return next(s for s in self.sections if s.memory == memory)

    def packets(self) -> Iterator[Packet]:
        """Load packets of all sections."""
        specs = memories(self.config)
        for s in self.sections:
            for start in range(0, len(s.words), MAX_PACKET_WORDS):
                part = Section(s.memory, s.address + start, s.words[start : start + MAX_PACKET_WORDS], s.bank)
                yield packet(specs[s.memory], part)

    def tensor_packets(self, name: str, tensor: npt.NDArray[np.int8]) -> list[Packet]:
        """Load packets that put an int8 map [C, H, W] where the network expects it."""
        place = self.placements[name]
        memory = memories(self.config)["FEATURE"]
        words = place.to_words(tensor).astype(np.int64)
        return [packet(memory, Section("FEATURE", place.base[c], words[c][:, :, None], place.bank[c])) for c in range(place.shape[0])]

    def bits(self) -> dict[str, int]:
        """Stored bits by memory, words as wide as the memory is."""
        specs = memories(self.config)
        return {s.memory: len(s.words) * specs[s.memory].width for s in self.sections}

    # file

    def save(self, path: Path) -> None:
        specs = memories(self.config)
        blobs = [specs[s.memory].encode(s.words).tobytes() for s in self.sections]
        header = {
            "config": {"name": self.config.name, **self.config.fingerprint()},
            "sections": [
                {
                    "memory": s.memory,
                    "bank": s.bank,
                    "address": s.address,
                    "words": len(s.words),
                    "width": specs[s.memory].width,
                    "bytes": len(blob),
                    "crc32": zlib.crc32(blob),
                }
                for s, blob in zip(self.sections, blobs, strict=True)
            ],
            "network": {
                "name": self.network,
                "scheme": self.scheme,
                "placements": [p.to_json() for p in self.placements.values()],
                "layers": list(self.layers),
                "output": self.output,
                "run_start": self.run_start,
                "dump_start": self.dump_start,
                "dumps": [vars(d) for d in self.dumps],
                "stats": self.stats,
            },
        }
        text = json.dumps(header).encode()
        path.write_bytes(MAGIC + struct.pack("<II", len(text), zlib.crc32(text)) + text + b"".join(blobs))

    @staticmethod
    def load(path: Path, config: ArrayConfig) -> Image:
        """Reads an image file made for `config`; raises `TatamiError` naming file and field for any other."""

        def refuse(what: str) -> TatamiError:
            return TatamiError(f"image file '{path}': {what}")

        try:
            raw = path.read_bytes()
        except OSError as error:
            raise refuse(f"cannot be read: {error.strerror}") from None
        if len(raw) < 16 or raw[:8] != MAGIC:
            raise refuse(f"magic is {raw[:8]!r}, must be {MAGIC!r}")
        length, crc = struct.unpack("<II", raw[8:16])
        text = raw[16 : 16 + length]
        if len(text) < length:
            raise refuse(f"header is cut short: {len(text)} of {length} bytes")
        if zlib.crc32(text) != crc:
            raise refuse("header checksum (crc32) is wrong")
        header = json.loads(text)
        found = {"xor_inputs": 0, "xor_history": 0, "xor_seed": 1, **header["config"]}  # files from before there was a decoder
        for name, value in config.fingerprint().items():
            if found.get(name) != value:
                raise refuse(f"config field {name} is {found.get(name)}, the machine '{config.name}' has {value}")
        specs = memories(config)
        sections = []
        position = 16 + length
        for entry in header["sections"]:
            where = f"section {entry['memory']}"
            blob = raw[position : position + entry["bytes"]]
            position += entry["bytes"]
            if len(blob) < entry["bytes"]:
                raise refuse(f"{where} is cut short: {len(blob)} of {entry['bytes']} bytes")
            if zlib.crc32(blob) != entry["crc32"]:
                raise refuse(f"{where} checksum (crc32) is wrong")
            memory = specs.get(entry["memory"])
            if memory is None:
                raise refuse(f"{where}: there is no such memory")
            row = -(-memory.width // 8)
            if entry["width"] != memory.width or entry["bytes"] != entry["words"] * row:
                raise refuse(f"{where}: {entry['words']} words of {entry['width']} bits in {entry['bytes']} bytes, a word has {memory.width}")
            words = memory.decode(np.frombuffer(blob, dtype=np.uint8).reshape(-1, row))
            section = Section(entry["memory"], entry["address"], words, entry["bank"])
            check_section(config, memory, section, f"image file '{path}': ")
            sections.append(section)
        if position != len(raw):
            raise refuse(f"{len(raw) - position} bytes follow the last section")
        network = header["network"]
        return Image(
            config=config,
            network=network["name"],
            scheme=network["scheme"],
            sections=tuple(sections),
            placements={p["name"]: Placement.from_json(p) for p in network["placements"]},
            layers=tuple(network["layers"]),
            output=network["output"],
            run_start=network["run_start"],
            dump_start=network["dump_start"],
            dumps=tuple(Dump(**d) for d in network["dumps"]),
            stats=network["stats"],
        )


MAGIC = b"TATAMI\0\x01"


def check_section(config: ArrayConfig, memory: Memory, section: Section, where: str) -> None:
    """A section must lie inside its memory."""
    end = section.address + len(section.words)
    if not 0 <= section.address or end > memory.depth:
        raise TatamiError(f"{where}{memory.name} needs {end} words, config '{config.name}' has {memory.depth}")
    if not 0 <= section.bank < memory.banks:
        raise TatamiError(f"{where}{memory.name} bank is {section.bank}, must be in 0..{memory.banks - 1}")
