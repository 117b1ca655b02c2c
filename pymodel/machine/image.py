"""The image file: the contents of all memories of the machine for a network. Layout: docs/formats.md."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import Field

from pymodel.machine.config import DEFAULTS, ArrayConfig
from pymodel.machine.errors import TatamiError
from pymodel.machine.files import Fields, checked, parse_json
from pymodel.machine.memory import MAX_PACKET_WORDS, Packet, Section, Words, check_section, memories, packet
from pymodel.machine.names import check_name
from pymodel.machine.planes import Placement
from pymodel.machine.program import Out, decode_all

Positive = Annotated[int, Field(ge=1, lt=1 << 32)]
Address = Annotated[int, Field(ge=0, lt=1 << 32)]


@dataclass(frozen=True)
class Dump:
    """One packet that the dump program sends: `words` words of `bank` from word `base`, all of one tensor."""

    tensor: str
    bank: int
    base: int
    words: int


class SectionHeader(Fields):
    """A section in the header of the file: its words follow in `bytes` bytes."""

    memory: str
    bank: int = Field(ge=0)
    address: int = Field(ge=0)
    words: int = Field(ge=0)
    width: int = Field(ge=1)
    bytes: int = Field(ge=0)
    crc32: int = Field(ge=0, lt=1 << 32)


class PlacementHeader(Fields):
    """A `Placement` in the header of the file."""

    name: str
    shape: tuple[Positive, Positive, Positive]
    size: Positive
    phase: tuple[Positive, Positive]
    rows: Positive
    pitch: Positive
    bank: tuple[Address, ...]
    base: tuple[Address, ...]


class DumpHeader(Fields):
    """A `Dump` in the header of the file."""

    tensor: str
    bank: Address
    base: Address
    words: Address


class NetworkHeader(Fields):
    """The names, planes and programs of the network, which the host needs to use the memories."""

    name: str
    scheme: str
    placements: tuple[PlacementHeader, ...]
    layers: tuple[str, ...]
    output: str
    run_start: Address
    dump_start: Address
    dumps: tuple[DumpHeader, ...]
    reuse: bool = False  # in the file only where it is true: files from before it stay as they are
    stats: dict[str, Any]


class Header(Fields):
    """The JSON at the beginning of the file (docs/formats.md). `config` is compared field by field."""

    config: dict[str, Any]
    sections: tuple[SectionHeader, ...]
    network: NetworkHeader


@dataclass(frozen=True)
class Image:
    """Contents of the machine's memories for one network, and what the host needs to use them.

    `layers` names the LAYER records in order. `run_start` and `dump_start` are program addresses. At
    `run_start` is the network, which sends the `output` tensor. At `dump_start` is a program that sends every
    tensor, in the order of `dumps`. It runs after the network. With `reuse` tensors share words, so that
    after a run most of them are gone; the program at `dump_start` then runs the layers again, needs the input
    again, and sends each tensor behind its layer.
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
    reuse: bool = False
    stats: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_name("image: the network's name", self.network)
        check_name(f"image of '{self.network}': the scheme's name", self.scheme)
        for name in (*self.layers, *self.placements, self.output):
            check_name(f"image of '{self.network}': a tensor's name", name)
        specs = memories(self.config)
        for s in self.sections:
            check_section(self.config, specs[s.memory], s, f"image of '{self.network}': ")

    def with_words(self, **memory: Words) -> Image:
        """The image with the contents of some memories replaced."""
        return replace(
            self,
            sections=tuple(
                Section(s.memory, 0, memory[s.memory]) if s.memory in memory else s for s in self.sections
            ),
        )

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
        return [
            packet(memory, Section("FEATURE", place.base[c], words[c][:, :, None], place.bank[c]))
            for c in range(place.shape[0])
        ]

    def dump_packets(self, name: str, tensor: npt.NDArray[np.int8]) -> list[Packet]:
        """Load packets that the program at `dump_start` needs behind a run of the network: the input `name`
        again, if it is gone.
        """
        return self.tensor_packets(name, tensor) if self.reuse else []

    def dumped(self, packets: Sequence[npt.NDArray[np.int8]]) -> dict[str, npt.NDArray[np.int8]]:
        """The tensors in the packets [..., words, T] of the program at `dump_start`: of each the words
        [..., C, channel_words, T], in the form of `Placement.to_words`.
        """
        sent = {(d.tensor, d.bank): (d.base, words) for d, words in zip(self.dumps, packets, strict=True)}
        found = {}
        for name, place in self.placements.items():
            planes = []
            for bank, base in zip(place.bank, place.base, strict=True):
                first, words = sent[name, bank]
                planes.append(words[..., base - first : base - first + place.channel_words, :])
            found[name] = np.stack(planes, axis=-3)
        return found

    def sent_by(self, record: int) -> str | None:
        """The tensor that the OUT at a program word sends; None if there is no such OUT."""
        program = decode_all(self.section("PROGRAM").words[: record + 1])
        if record >= len(program) or not isinstance(program[record], Out):
            return None
        if record < self.dump_start:
            return self.output
        return self.dumps[sum(isinstance(one, Out) for one in program[self.dump_start : record])].tensor

    def bits(self) -> dict[str, int]:
        """The number of stored bits of each memory, with words as wide as the memory."""
        specs = memories(self.config)
        return {s.memory: len(s.words) * specs[s.memory].width for s in self.sections}

    # file

    def save(self, path: Path) -> None:
        specs = memories(self.config)
        blobs = [specs[s.memory].encode(s.words).tobytes() for s in self.sections]
        header = {
            "config": {"name": self.config.name, **self.config.stored()},
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
                **({"reuse": True} if self.reuse else {}),
                "stats": self.stats,
            },
        }
        text = json.dumps(header).encode()
        head = MAGIC + struct.pack("<BII", VERSION, len(text), zlib.crc32(text))
        path.write_bytes(head + text + b"".join(blobs))

    @staticmethod
    def load(path: Path, config: ArrayConfig) -> Image:
        """Reads an image file made for `config`. For any other file, raises a `TatamiError` that names the
        file and the field.
        """

        def refuse(what: str) -> TatamiError:
            return TatamiError(f"image file '{path}': {what}")

        try:
            raw = path.read_bytes()
        except OSError as error:
            raise refuse(f"cannot be read: {error.strerror}") from None
        if len(raw) < 16 or raw[:7] != MAGIC:
            raise refuse(f"magic is {raw[:7]!r}, must be {MAGIC!r}")
        if raw[7] != VERSION:
            raise refuse(f"format version is {raw[7]}, must be {VERSION}: compile the network again")
        length, crc = struct.unpack("<II", raw[8:16])
        text = raw[16 : 16 + length]
        if len(text) < length:
            raise refuse(f"header is cut short: {len(text)} of {length} bytes")
        if zlib.crc32(text) != crc:
            raise refuse("header checksum (crc32) is wrong")
        where = f"image file '{path}': header"
        header = checked(Header, parse_json(text, where), where)
        found = {**DEFAULTS, **header.config}  # of parameters that came later than the file
        for name, value in config.fingerprint().items():
            if found.get(name) != value:
                raise refuse(
                    f"config field {name} is {found.get(name)!r}, the machine '{config.name}' has {value}"
                )
        specs = memories(config)
        sections = []
        position = 16 + length
        for entry in header.sections:
            where = f"section {entry.memory}"
            memory = specs.get(entry.memory)
            if memory is None:
                raise refuse(f"section {entry.memory!r}: there is no such memory")
            blob = raw[position : position + entry.bytes]
            position += entry.bytes
            if len(blob) < entry.bytes:
                raise refuse(f"{where} is cut short: {len(blob)} of {entry.bytes} bytes")
            if zlib.crc32(blob) != entry.crc32:
                raise refuse(f"{where} checksum (crc32) is wrong")
            row = -(-memory.width // 8)
            if entry.width != memory.width or entry.bytes != entry.words * row:
                raise refuse(
                    f"{where}: {entry.words} words of {entry.width} bits in {entry.bytes} bytes, a"
                    f" word has {memory.width}"
                )
            words = memory.decode(np.frombuffer(blob, dtype=np.uint8).reshape(-1, row))
            section = Section(entry.memory, entry.address, words, entry.bank)
            check_section(config, memory, section, f"image file '{path}': ")
            sections.append(section)
        if position != len(raw):
            raise refuse(f"{len(raw) - position} bytes follow the last section")
        network = header.network
        return Image(
            config=config,
            network=network.name,
            scheme=network.scheme,
            sections=tuple(sections),
            placements={p.name: Placement.from_json(p.model_dump()) for p in network.placements},
            layers=network.layers,
            output=network.output,
            run_start=network.run_start,
            dump_start=network.dump_start,
            dumps=tuple(Dump(**d.model_dump()) for d in network.dumps),
            reuse=network.reuse,
            stats=network.stats,
        )


MAGIC = b"TATAMI\0"
VERSION = 2  # of the format; memory words had other fields in 1
