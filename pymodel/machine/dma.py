"""Descriptors: what the DMA beside the machine is to do, as it lies in memory (docs/formats.md,
"Descriptors").
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass

DESCRIPTOR_BYTES = 16
LAST, START = 1, 2  # bits of the flags


@dataclass(frozen=True)
class Load:
    """Sends `length` bytes from `address` on to the load stream, both those of whole beats. `last`: a packet
    ends with them.
    """

    address: int
    length: int
    last: bool = True

    def fields(self) -> tuple[int, int, int]:
        return self.address, self.length, LAST * self.last


@dataclass(frozen=True)
class Start:
    """Waits until no program runs, and starts the one at this word."""

    program: int

    def fields(self) -> tuple[int, int, int]:
        return self.program, 0, START


Descriptor = Load | Start


def beat_bytes(stream_bits: int) -> int:
    return stream_bits // 8


def descriptor_bytes(stream_bits: int) -> int:
    """From one descriptor to the next: each begins at a beat."""
    return max(DESCRIPTOR_BYTES, beat_bytes(stream_bits))


def encode(descriptors: Iterable[Descriptor], stream_bits: int) -> bytes:
    """A list as it lies in memory."""
    size = descriptor_bytes(stream_bits)
    return b"".join(struct.pack("<4I", *one.fields(), 0).ljust(size, b"\0") for one in descriptors)
