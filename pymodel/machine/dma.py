"""Descriptors: what the DMA beside the machine is to do, as it lies in memory (docs/formats.md,
"Descriptors").
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pymodel.machine.memory import WordField, pack

DESCRIPTOR = (
    WordField("address", 32),
    WordField("length", 32),
    WordField("last", 1),
    WordField("start", 1),
    WordField("unused", 30),
    WordField("address_high", 32),  # of an address of 64 bits: 0
)
DESCRIPTOR_BYTES = sum(field.bits for field in DESCRIPTOR) // 8


@dataclass(frozen=True)
class Load:
    """Sends `length` bytes from `address` on to the load stream, both those of whole beats. `last`: a packet
    ends with them.
    """

    address: int
    length: int
    last: bool = True

    def encode(self) -> int:
        return pack(DESCRIPTOR, self.address, self.length, int(self.last), 0, 0, 0)


@dataclass(frozen=True)
class Start:
    """Waits until no program runs, and starts the one at this word."""

    program: int

    def encode(self) -> int:
        return pack(DESCRIPTOR, self.program, 0, 0, 1, 0, 0)


Descriptor = Load | Start


def beat_bytes(stream_bits: int) -> int:
    return stream_bits // 8


def descriptor_bytes(stream_bits: int) -> int:
    """From one descriptor to the next: each begins at a beat."""
    return max(DESCRIPTOR_BYTES, beat_bytes(stream_bits))


def encode(descriptors: Iterable[Descriptor], stream_bits: int) -> bytes:
    """A list as it lies in memory."""
    size = descriptor_bytes(stream_bits)
    return b"".join(one.encode().to_bytes(size, "little") for one in descriptors)
