"""`ArrayConfig`: the only source of the machine's parameters.

RTL generics, the model, the tests and the image file all take their sizes from here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any

from pymodel.machine.errors import TatamiError
from pymodel.machine.sizes import Size, address_bits, clog2, named, where

SIZES = (4, 8, 16)
GROUPS = (1, 2, 4, 8, 16)
STREAMS = (64, 128, 256)
HOPS = (1, 2, 4, 8, 16)
MIN_DEPTH = 4  # words of any memory
MAX_DEPTH = 65536  # program fields that point into a memory have 16 bits
XOR_COUNT_BITS = 3  # a stored row of slots begins with the number of its patches
XOR_PATCHES = 4  # in a row of slots, at most
MAX_XOR_WINDOW = 1024  # stored bits that a bit of a slot may be made from
REACH_BITS = 4  # of a pixel's distance from an edge of its plane; a tap's reach has a sign, too
HALO = (1 << REACH_BITS) - 1  # a pixel's distance from an edge is at most this; a farther one is no less
DEPENDENT = ("xor_inputs", "xor_history")  # how large they may be depends on other parameters

# Widths, in bits, of fields of memory words. rtl/psa_words.vh has the same expressions.

BASE_BITS = address_bits(named("FEATURE_DEPTH"))
GROUP_ID_BITS = address_bits(named("GROUP_DEPTH"))
OFFSET_BITS = address_bits(named("FEATURE_DEPTH") * named("T")) + Size(1)
POSITION_BITS = where("WEIGHT_BITS", 8, Size(0), Size(1))
SELECT_BITS = where("GROUP", 1, Size(1), address_bits(named("GROUP")))
SLOT_BITS = named("WEIGHT_BITS") + POSITION_BITS + SELECT_BITS
ROW_BITS = named("COLS") * SLOT_BITS
COUNT_BITS = where("XOR_INPUTS", 0, Size(0), Size(XOR_COUNT_BITS))  # what a word has more than a row of slots


@dataclass(frozen=True)
class Legal:
    """What a parameter may be: one of `values`, or `low` to `high`. `verilog`: its names in rtl/psa_top.v.

    `what` is its row in docs/parameters.md. `later`: it came after files of images did. It is not in the file
    where it has its default, so that these files stay as they are. `in_image`: an image is for one value of
    it.
    """

    what: str
    verilog: tuple[str, ...]
    values: tuple[int, ...] = ()
    low: int = 0
    high: int = 0
    later: bool = False
    in_image: bool = True

    def __contains__(self, value: int) -> bool:
        return value in self.values if self.values else self.low <= value <= self.high

    def __str__(self) -> str:
        if self.values:
            return f"one of {', '.join(map(str, self.values))}"
        return f"in {self.low}..{self.high}"


def parameter(default: int, legal: Legal) -> Any:
    """A field of `ArrayConfig` that is a parameter of the machine."""
    return field(default=default, metadata={"legal": legal})


def _depth(name: str, default: int, what: str) -> Any:
    return parameter(default, Legal(what, (name,), low=MIN_DEPTH, high=MAX_DEPTH))


@dataclass(frozen=True)
class ArrayConfig:
    """Sizes of one build of the machine.

    `size` is ROWS = COLS = T: PE rows, PE columns and pixels per memory word. `group` is G: feature banks,
    and inputs per bundle. docs/parameters.md has a row for each field.
    """

    name: str
    size: int = parameter(16, Legal("PE rows, PE columns, pixels of a word: T", ("ROWS", "COLS"), SIZES))
    group: int = parameter(8, Legal("feature banks, inputs of a bundle: G", ("GROUP",), GROUPS))
    feature_depth: int = _depth("FEATURE_DEPTH", 512, "words of a feature bank; even")
    acc_words: int = _depth(
        "ACC_WORDS", 16, "T-pixel words of the accumulators of a column: the longest chunk"
    )
    program_depth: int = _depth("PROGRAM_DEPTH", 256, "words of PROGRAM")
    tile_depth: int = _depth("TILE_DEPTH", 128, "words of TILE")
    lane_depth: int = _depth("LANE_DEPTH", 4096, "words of LANE and of SLOT; at least ROWS")
    group_depth: int = _depth("GROUP_DEPTH", 2048, "words of GROUP")
    tap_depth: int = _depth("TAP_DEPTH", 1024, "words of TAP")
    edge_depth: int = _depth("EDGE_DEPTH", 128, "words of EDGE")
    filter_depth: int = _depth("FILTER_DEPTH", 512, "words of FILTER; at least 2 COLS")
    weight_bits: int = parameter(
        8, Legal("bits of a slot's weight; 4: a slot holds a digit of one", ("WEIGHT_BITS",), (4, 8))
    )
    xor_inputs: int = parameter(
        0,
        Legal(
            "bits of a word that the XOR decoder expands into a row of slots, 0 without decoder; four patches"
            " must have room in a row",
            ("XOR_INPUTS",),
            high=MAX_XOR_WINDOW,
        ),
    )
    xor_history: int = parameter(
        0,
        Legal(
            "rows before that take part in it; inputs x (history + 1) is at most 1024",
            ("XOR_HISTORY",),
            high=MAX_XOR_WINDOW - 1,
        ),
    )
    xor_seed: int = parameter(
        1, Legal("what the decoder's network is drawn from", ("XOR_SEED",), low=1, high=(1 << 31) - 1)
    )
    tables: int = parameter(
        0,
        Legal(
            "activation tables of 256 values; with any, a word takes one cycle more",
            ("TABLES",),
            high=15,
            later=True,
        ),
    )
    stream_bits: int = parameter(
        64, Legal("bits of a beat of the load stream", ("STREAM_BITS",), STREAMS, in_image=False)
    )
    hop: int = parameter(
        1,
        Legal(
            "columns of the array that see a bundle in the same cycle; at most COLS: more take fewer"
            " registers, and longer wires",
            ("HOP",),
            HOPS,
            in_image=False,
        ),
    )

    def __post_init__(self) -> None:
        for name, legal in PARAMETERS.items():
            value = getattr(self, name)
            if name not in DEPENDENT and value not in legal:
                raise TatamiError(f"config '{self.name}': {name} is {value}, must be {legal}")
        if self.feature_depth % 2:
            raise TatamiError(
                f"config '{self.name}': feature_depth is {self.feature_depth}, must be even (two half banks)"
            )
        for name, least in (("lane_depth", self.size), ("filter_depth", 2 * self.size)):
            if getattr(self, name) < least:
                raise TatamiError(
                    f"config '{self.name}': {name} is {getattr(self, name)}, must be in {least}..{MAX_DEPTH}"
                )
        if self.hop > self.size:
            raise TatamiError(
                f"config '{self.name}': hop is {self.hop}, must be at most {self.size}, the columns"
            )
        deepest = MAX_XOR_WINDOW // self.xor_inputs - 1 if self.xor_inputs > 0 else 0
        for name, most in (("xor_inputs", self.most_xor_inputs), ("xor_history", deepest)):
            if not 0 <= getattr(self, name) <= most:
                raise TatamiError(
                    f"config '{self.name}': {name} is {getattr(self, name)}, must be in 0..{most}"
                )

    def value(self, size: Size) -> int:
        """What a size that follows from the parameters is here."""
        return size.of(self.rtl_parameters() | {"T": self.size})

    @cached_property
    def select_bits(self) -> int:
        return self.value(SELECT_BITS)

    @cached_property
    def slot_bits(self) -> int:
        return self.value(SLOT_BITS)

    @cached_property
    def position_bits(self) -> int:
        """Which digit of its weight a slot holds: nothing where it holds the whole."""
        return self.value(POSITION_BITS)

    @cached_property
    def row_bits(self) -> int:
        """A row of slots."""
        return self.value(ROW_BITS)

    @cached_property
    def slot_word_bits(self) -> int:
        """A word of the SLOT memory: with an XOR decoder, the longest row as it is stored."""
        return self.value(ROW_BITS + COUNT_BITS)

    @cached_property
    def patch_bits(self) -> int:
        """A position in a row of slots."""
        return clog2(self.row_bits)

    @cached_property
    def most_xor_inputs(self) -> int:
        """The widest stored word with which an encoded row, all its patches included, is no longer than a row
        that is not encoded.
        """
        return max(0, self.row_bits - self.size - XOR_PATCHES * self.patch_bits)

    @cached_property
    def base_bits(self) -> int:
        """A word address in a feature bank."""
        return self.value(BASE_BITS)

    @cached_property
    def group_id_bits(self) -> int:
        return self.value(GROUP_ID_BITS)

    @cached_property
    def offset_bits(self) -> int:
        """A signed pixel offset that can reach any pixel of a bank from any other."""
        return self.value(OFFSET_BITS)

    @cached_property
    def psum_bits(self) -> int:
        """A column's sum of `size` products of two signed bytes."""
        return 16 + clog2(self.size)

    def rtl_parameters(self) -> dict[str, int]:
        """Verilog parameters of `psa_top`."""
        return {
            verilog: getattr(self, name) for name, legal in PARAMETERS.items() for verilog in legal.verilog
        }

    def fingerprint(self) -> dict[str, int]:
        """What an image must share with the machine it is loaded into."""
        return {name: getattr(self, name) for name, legal in PARAMETERS.items() if legal.in_image}

    def stored(self) -> dict[str, int]:
        """`fingerprint` as files have it: without a later parameter that has its default."""
        return {
            name: value
            for name, value in self.fingerprint().items()
            if not (PARAMETERS[name].later and value == DEFAULTS[name])
        }


# by field of `ArrayConfig`
PARAMETERS: dict[str, Legal] = {
    part.name: part.metadata["legal"] for part in fields(ArrayConfig) if "legal" in part.metadata
}
DEFAULTS: dict[str, int] = {name: getattr(ArrayConfig, name) for name in PARAMETERS}
DEPTHS = tuple(name for name in PARAMETERS if name.endswith(("_depth", "_words")))

CONFIGS = {
    c.name: c
    for c in (
        ArrayConfig("16x8"),
        ArrayConfig("16x16", group=16, feature_depth=256),
        ArrayConfig(
            "8x4", size=8, group=4, feature_depth=1024, acc_words=32, lane_depth=8192, tile_depth=256
        ),
        ArrayConfig(
            "4x2", size=4, group=2, feature_depth=2048, acc_words=64, lane_depth=16384, tile_depth=512
        ),
        ArrayConfig(
            "8x4w4",
            size=8,
            group=4,
            feature_depth=1024,
            acc_words=32,
            lane_depth=16384,
            tile_depth=256,
            weight_bits=4,
        ),
        ArrayConfig(
            "8x4x",
            size=8,
            group=4,
            feature_depth=1024,
            acc_words=32,
            lane_depth=8192,
            tile_depth=256,
            xor_inputs=36,
            xor_history=2,
            xor_seed=7,
            hop=8,
        ),
        ArrayConfig(
            "4x2t",
            size=4,
            group=2,
            feature_depth=2048,
            acc_words=64,
            lane_depth=16384,
            tile_depth=512,
            tables=3,
            hop=2,
        ),
        ArrayConfig(
            "8x4s128",
            size=8,
            group=4,
            feature_depth=1024,
            acc_words=32,
            lane_depth=8192,
            tile_depth=256,
            stream_bits=128,
        ),
    )
}
DEFAULT_CONFIG = "16x8"
VARIANT = re.compile(
    rf"([^sh]+)(?:s({'|'.join(map(str, STREAMS[1:]))}))?(?:h({'|'.join(map(str, HOPS[1:]))}))?"
)


def get_config(name: str) -> ArrayConfig:
    """The named configuration, or a `TatamiError` that lists the names there are. `s128` or `s256` behind the
    name of one gives it a load stream of that width, and `h2` to `h16` hops of so many columns.
    """
    if name in CONFIGS:
        return CONFIGS[name]
    found = VARIANT.fullmatch(name)
    if found and found[1] in CONFIGS:
        known = CONFIGS[found[1]]
        stream, hop = int(found[2] or known.stream_bits), int(found[3] or known.hop)
        return replace(known, name=name, stream_bits=stream, hop=hop)
    raise TatamiError(
        f"CONFIG {name!r} is unknown; valid: {', '.join(CONFIGS)}; s128 or s256 behind a name: with a load"
        " stream of that width; h2, h4, h8 or h16 behind that: with hops of so many columns"
    )
