"""The image file: the contents of all memories of the machine for a network. Layout: docs/formats.md."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import Field

from pymodel.machine.config import DEFAULTS, ArrayConfig
from pymodel.machine.errors import TatamiError
from pymodel.machine.files import Fields, checked, parse_json
from pymodel.machine.memory import (
    MAX_PACKET_WORDS,
    Hold,
    Live,
    Packet,
    Section,
    Words,
    check_section,
    memories,
    packet,
)
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


class HoldHeader(Fields):
    """A `Hold` of a live stream in the header of the file."""

    hold: int = Field(ge=1, le=MAX_PACKET_WORDS)


LiveHeader = SectionHeader | HoldHeader


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
    # in the file only where they are not empty
    run_stream: tuple[LiveHeader, ...] = ()
    dump_stream: tuple[LiveHeader, ...] = ()
    network: NetworkHeader


@dataclass(frozen=True)
class Image:
    """Contents of the machine's memories for one network, and what the host needs to use them.

    `layers` has the layer of each LAYER record of the network's program, in order: once for each, or several
    times if the network is streamed. `run_start` and `dump_start` are program addresses. At `run_start` is
    the network, which sends the `output` tensor. At `dump_start` is a program that sends every tensor, in the
    order of `dumps`. It runs after the network. With `reuse` it runs the layers again, needs the input again,
    and sends each tensor behind its layer; tensors then share words, so that after a run most of them are
    gone, or the programs come over the stream.

    `run_stream` and `dump_stream` must be loaded while each of the two programs runs: they are empty unless
    the network is larger than the memories.
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
    run_stream: tuple[Live, ...] = ()
    dump_stream: tuple[Live, ...] = ()
    stats: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_name("image: the network's name", self.network)
        check_name(f"image of '{self.network}': the scheme's name", self.scheme)
        for name in (*self.layers, *self.placements, self.output):
            check_name(f"image of '{self.network}': a tensor's name", name)
        specs = memories(self.config)
        for s in self.sections:
            check_section(self.config, specs[s.memory], s, f"image of '{self.network}': ")
        for item in (*self.run_stream, *self.dump_stream):
            if isinstance(item, Section):
                check_section(self.config, specs[item.memory], item, f"image of '{self.network}': stream: ")

    @property
    def streamed(self) -> bool:
        """Whether the network is larger than the memories: what it needs comes while it runs."""
        return bool(self.run_stream or self.dump_stream)

    def stream_of(self, start: int) -> tuple[Live, ...]:
        """What must be loaded while the program at `start` runs."""
        return {self.run_start: self.run_stream, self.dump_start: self.dump_stream}.get(start, ())

    @property
    def layer_names(self) -> tuple[str, ...]:
        """The layers in order, each once."""
        return tuple(dict.fromkeys(self.layers))

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

    def tensor_sections(self, name: str, tensor: npt.NDArray[np.int8]) -> list[Section]:
        """The planes of an int8 map [C, H, W], where the network expects them."""
        place = self.placements[name]
        words = place.to_words(tensor).astype(np.int64)
        return [
            Section("FEATURE", place.base[c], words[c][:, :, None], place.bank[c])
            for c in range(place.shape[0])
        ]

    def tensor_packets(self, name: str, tensor: npt.NDArray[np.int8]) -> list[Packet]:
        """Load packets that put an int8 map [C, H, W] where the network expects it."""
        memory = memories(self.config)["FEATURE"]
        return [packet(memory, section) for section in self.tensor_sections(name, tensor)]

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
        """The number of stored bits of each memory, with words as wide as the memory: what is loaded before
        the network runs, and what is loaded meanwhile.
        """
        bits: dict[str, int] = {}
        live = [item for item in self.run_stream if isinstance(item, Section)]
        for name, spec in memories(self.config).items():
            words = [len(s.words) for s in (*self.sections, *live) if s.memory == name]
            if words:
                bits[name] = sum(words) * spec.width
        return bits

    # file

    def save(self, path: Path) -> None:
        specs = memories(self.config)
        blobs: list[bytes] = []

        def listed(items: Iterable[Live]) -> list[dict[str, int | str]]:
            """The items in the header; their words go into `blobs`."""
            found: list[dict[str, int | str]] = []
            for s in items:
                if isinstance(s, Hold):
                    found.append({"hold": s.layers})
                    continue
                blob = specs[s.memory].encode(s.words).tobytes()
                blobs.append(blob)
                found.append(
                    {
                        "memory": s.memory,
                        "bank": s.bank,
                        "address": s.address,
                        "words": len(s.words),
                        "width": specs[s.memory].width,
                        "bytes": len(blob),
                        "crc32": zlib.crc32(blob),
                    }
                )
            return found

        streams = {"run_stream": self.run_stream, "dump_stream": self.dump_stream}
        header: dict[str, Any] = {
            "config": {"name": self.config.name, **self.config.stored()},
            "sections": listed(self.sections),
            **{name: listed(stream) for name, stream in streams.items() if stream},
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
        position = 16 + length

        def section(entry: SectionHeader, place: str) -> Section:
            """The section whose words come next; `place` says where in the header it is."""
            nonlocal position
            where = f"{place}section {entry.memory}"
            memory = specs.get(entry.memory)
            if memory is None:
                raise refuse(f"{place}section {entry.memory!r}: there is no such memory")
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
            found = Section(entry.memory, entry.address, words, entry.bank)
            check_section(config, memory, found, f"image file '{path}': ")
            return found

        def stream(name: str, items: Iterable[LiveHeader]) -> Iterator[Live]:
            for number, item in enumerate(items):
                if isinstance(item, HoldHeader):
                    yield Hold(item.hold)
                    continue
                place = f"{name}, item {number}: "
                if not 1 <= item.words <= MAX_PACKET_WORDS:
                    raise refuse(f"{place}words is {item.words}, must be in 1..{MAX_PACKET_WORDS}")
                yield section(item, place)

        sections = tuple(section(entry, "") for entry in header.sections)
        run_stream = tuple(stream("run_stream", header.run_stream))
        dump_stream = tuple(stream("dump_stream", header.dump_stream))
        if position != len(raw):
            raise refuse(f"{len(raw) - position} bytes follow the last section")
        network = header.network
        return Image(
            config=config,
            network=network.name,
            scheme=network.scheme,
            sections=sections,
            placements={p.name: Placement.from_json(p.model_dump()) for p in network.placements},
            layers=network.layers,
            output=network.output,
            run_start=network.run_start,
            dump_start=network.dump_start,
            dumps=tuple(Dump(**d.model_dump()) for d in network.dumps),
            reuse=network.reuse,
            run_stream=run_stream,
            dump_stream=dump_stream,
            stats=network.stats,
        )


MAGIC = b"TATAMI\0"
VERSION = 2  # of the format; memory words had other fields in 1
