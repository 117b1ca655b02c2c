"""The register tables of the machine and of its DMA. They are the only ones.

The register model is built from the machine's, and scripts/registers.py renders docs/registers.md from both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from pymodel.machine.config import STREAMS, ArrayConfig, clog2


@dataclass(frozen=True)
class RegisterField:
    """Bits `msb` down to `lsb` of a register."""

    msb: int
    lsb: int

    @property
    def mask(self) -> int:
        return ((1 << (self.msb - self.lsb + 1)) - 1) << self.lsb

    def get(self, word: int) -> int:
        return (word & self.mask) >> self.lsb

    def put(self, value: int) -> int:
        return (value << self.lsb) & self.mask


@dataclass(frozen=True)
class Register:
    """`access` is RO, RW, WO or W1C.

    `reset` is None if the build decides the value; see `build_values`. `content` is for docs/registers.md.
    """

    name: str
    address: int
    access: str
    reset: int | None
    content: str
    fields: Mapping[str, RegisterField] = field(default_factory=lambda: MappingProxyType({}))

    def decode(self, word: int) -> dict[str, int]:
        return {name: part.get(word) for name, part in self.fields.items()}

    @property
    def writable(self) -> bool:
        return self.access != "RO"


def _register(
    name: str, address: int, access: str, reset: int | None, content: str, **fields: tuple[int, int]
) -> Register:
    return Register(
        name,
        address,
        access,
        reset,
        content,
        MappingProxyType({key: RegisterField(*bits) for key, bits in fields.items()}),
    )


REGISTERS = {
    r.name: r
    for r in (
        _register("ID", 0x00, "RO", 0x5441544D, '"TATM"'),
        _register("VERSION", 0x04, "RO", 0x00010001, "of the register map", MAJOR=(31, 16), MINOR=(15, 0)),
        _register(
            "SHAPE",
            0x08,
            "RO",
            None,
            "rows and columns of the array, feature banks, bits of a weight",
            ROWS=(7, 0),
            COLS=(15, 8),
            GROUP=(23, 16),
            WEIGHT_BITS=(31, 24),
        ),
        _register(
            "DEPTH0",
            0x0C,
            "RO",
            None,
            "words of a feature bank less 1, words of the accumulators less 1",
            FEATURE_DEPTH=(15, 0),
            ACC_WORDS=(31, 16),
        ),
        _register(
            "DEPTH1",
            0x10,
            "RO",
            None,
            "words of PROGRAM and of TILE, each less 1",
            PROGRAM_DEPTH=(15, 0),
            TILE_DEPTH=(31, 16),
        ),
        _register(
            "DEPTH2",
            0x14,
            "RO",
            None,
            "words of LANE and of GROUP, each less 1",
            LANE_DEPTH=(15, 0),
            GROUP_DEPTH=(31, 16),
        ),
        _register(
            "DEPTH3",
            0x18,
            "RO",
            None,
            "words of TAP and of EDGE, each less 1",
            TAP_DEPTH=(15, 0),
            EDGE_DEPTH=(31, 16),
        ),
        _register(
            "DEPTH4",
            0x1C,
            "RO",
            None,
            "words of FILTER less 1; activation tables; the load stream is 64 << STREAM bits wide",
            FILTER_DEPTH=(15, 0),
            TABLES=(19, 16),
            STREAM=(21, 20),
        ),
        _register(
            "CONTROL",
            0x20,
            "WO",
            0,
            "START begins the program at PROGRAM_START; SOFT_RESET ends whatever runs; not both at once;"
            " LOAD_RESET, only with SOFT_RESET: the host begins its load stream anew; reads as 0",
            START=(0, 0),
            SOFT_RESET=(1, 1),
            LOAD_RESET=(2, 2),
        ),
        _register(
            "STATUS",
            0x24,
            "RO",
            0,
            "BUSY: a program runs; LOADING: inside a packet; ERROR: an error stands; SENDING: no program"
            " runs, but a packet of the out stream has not ended",
            BUSY=(0, 0),
            LOADING=(1, 1),
            ERROR=(2, 2),
            SENDING=(3, 3),
        ),
        _register(
            "ERROR",
            0x28,
            "RO",
            0,
            'the present error: its code, and the info of that code (machine.md, "Errors")',
            CODE=(7, 0),
            INFO=(31, 8),
        ),
        _register(
            "IRQ_ENABLE", 0x2C, "RW", 0, "the events that raise the interrupt", DONE=(0, 0), ERROR=(1, 1)
        ),
        _register(
            "IRQ_STATUS",
            0x30,
            "W1C",
            0,
            "DONE: a program reached END; ERROR: an error stopped the machine; a one clears",
            DONE=(0, 0),
            ERROR=(1, 1),
        ),
        _register("PROGRAM_START", 0x34, "RW", 0, "the program word at which START begins", ADDRESS=(15, 0)),
        _register(
            "XOR",
            0x38,
            "RO",
            None,
            "XOR decoder: bits of a stored word (0: no decoder), words of history",
            XOR_INPUTS=(15, 0),
            XOR_HISTORY=(31, 16),
        ),
        _register(
            "XOR_SEED",
            0x3C,
            "RO",
            None,
            "the seed of the XOR decoder's network",
            XOR_SEED=(31, 0),
        ),
        _register("CYCLES", 0x40, "RO", 0, "clock cycles of the last run, START to END"),
        _register(
            "BUSY_CYCLES", 0x44, "RO", 0, "of these, cycles in which a group was fetched for the array"
        ),
        _register(
            "STALL_CYCLES",
            0x48,
            "RO",
            0,
            "of these, cycles in which the out stream was not ready for a valid word",
        ),
        _register("SLOT_ROWS", 0x4C, "RO", 0, "rows of slots loaded into the array"),
        _register("WORDS", 0x50, "RO", 0, "feature words written back"),
        _register(
            "LOAD_WAIT_CYCLES",
            0x54,
            "RO",
            0,
            "of CYCLES, those in which a WAIT found that its packets had not come",
        ),
    )
}
# Of psa_dma, in one address space with those of the machine.
DMA_BASE = 0x100
DMA_REGISTERS = {
    r.name: r
    for r in (
        _register("DMA_ID", 0x100, "RO", 0x54444D41, '"TDMA"'),
        _register(
            "DMA_VERSION", 0x104, "RO", 0x00010000, "of these registers", MAJOR=(31, 16), MINOR=(15, 0)
        ),
        _register(
            "DMA_SHAPE",
            0x108,
            "RO",
            None,
            "bytes of a beat of the memory, bytes of a word of the out stream",
            BEAT=(7, 0),
            WORD=(15, 8),
        ),
        _register(
            "DMA_CONTROL",
            0x120,
            "WO",
            0,
            "RESET ends the list and resets DMA and machine; reads as 0",
            RESET=(0, 0),
        ),
        _register(
            "DMA_STATUS",
            0x124,
            "RO",
            0,
            "BUSY: a list or a reset lasts; ERROR: an error stands",
            BUSY=(0, 0),
            ERROR=(1, 1),
        ),
        _register(
            "DMA_ERROR",
            0x128,
            "RO",
            0,
            'the present error: its code, and the info of that code (dma.md, "Errors")',
            CODE=(7, 0),
            INFO=(23, 8),
        ),
        _register(
            "DMA_IRQ_ENABLE", 0x12C, "RW", 0, "the events that raise the interrupt", DONE=(0, 0), ERROR=(1, 1)
        ),
        _register(
            "DMA_IRQ_STATUS",
            0x130,
            "W1C",
            0,
            "DONE: a list is over; ERROR: an error ended it; a one clears",
            DONE=(0, 0),
            ERROR=(1, 1),
        ),
        _register("DMA_OUT_SIZE", 0x134, "RW", 0, "bytes of the buffer for packets of the out stream"),
        _register("DMA_LIST", 0x138, "RW", 0, "address of the first descriptor"),
        _register("DMA_OUT", 0x13C, "RW", 0, "address of that buffer"),
        _register(
            "DMA_GO",
            0x140,
            "WO",
            0,
            "descriptors of the list, 1..65535; begins it; reads as 0",
            COUNT=(15, 0),
        ),
        _register("DMA_OUT_USED", 0x144, "RO", 0, "bytes of the buffer that packets have taken"),
    )
}
COUNTERS = ("CYCLES", "BUSY_CYCLES", "STALL_CYCLES", "SLOT_ROWS", "WORDS", "LOAD_WAIT_CYCLES")


def build_values(config: ArrayConfig) -> dict[str, int]:
    """The values of the registers that describe the build. A depth is stored as depth - 1."""
    sizes = {
        name: value - (name.endswith("_DEPTH") or name == "ACC_WORDS")
        for name, value in config.rtl_parameters().items()
    }
    sizes["STREAM"] = clog2(config.stream_bits // STREAMS[0])
    return {
        r.name: sum(part.put(sizes[name]) for name, part in r.fields.items())
        for r in REGISTERS.values()
        if r.reset is None
    }
