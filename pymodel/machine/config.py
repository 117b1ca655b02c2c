"""`ArrayConfig`: the only source of the machine's parameters.

RTL generics, the model, the tests and the image file all take their sizes from here.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property

from pymodel.machine.errors import TatamiError

SIZES = (4, 8, 16)
GROUPS = (1, 2, 4, 8, 16)
MAX_DEPTH = 65536  # program fields that point into a memory have 16 bits
XOR_COUNT_BITS = 3  # a stored row of slots begins with the number of its patches
XOR_PATCHES = 4  # in a row of slots, at most
MAX_XOR_WINDOW = 1024  # stored bits that a bit of a slot may be made from
HALO = 4  # a tap may reach this many pixels past an edge of a plane


def clog2(value: int) -> int:
    """Bits needed to count `value` things (0 for one thing), as Verilog's `$clog2`."""
    return max(0, (value - 1).bit_length())


@dataclass(frozen=True)
class ArrayConfig:
    """Sizes of one build of the machine.

    `size` is ROWS = COLS = T: PE rows, PE columns and pixels per memory word. `group` is G: feature banks,
    and inputs per bundle. The depths count words of each memory; `feature_depth` is per bank, `acc_words` is
    the longest chunk in T-pixel words. `weight_bits` 8: a slot holds a weight; 4: a digit of one.
    `xor_inputs`: bits of the word that the XOR decoder expands into a row of slots, 0 for a machine without
    one; `xor_history` rows before take part in it, `xor_seed` draws its wires.
    """

    name: str
    size: int = 16
    group: int = 8
    feature_depth: int = 512
    acc_words: int = 16
    program_depth: int = 256
    tile_depth: int = 128
    lane_depth: int = 4096
    group_depth: int = 2048
    tap_depth: int = 1024
    edge_depth: int = 128
    filter_depth: int = 512
    weight_bits: int = 8
    xor_inputs: int = 0
    xor_history: int = 0
    xor_seed: int = 1

    def __post_init__(self) -> None:
        for field, value, legal in (
            ("size", self.size, SIZES),
            ("group", self.group, GROUPS),
            ("weight_bits", self.weight_bits, (4, 8)),
        ):
            if value not in legal:
                raise TatamiError(
                    f"config '{self.name}': {field} is {value}, must be one of {', '.join(map(str, legal))}"
                )
        for field in DEPTHS:
            value = getattr(self, field)
            if not 4 <= value <= MAX_DEPTH:
                raise TatamiError(f"config '{self.name}': {field} is {value}, must be in 4..{MAX_DEPTH}")
        if self.feature_depth % 2:
            raise TatamiError(
                f"config '{self.name}': feature_depth is {self.feature_depth}, must be even (two half banks)"
            )
        most = self.most_xor_inputs
        if not 0 <= self.xor_inputs <= most:
            raise TatamiError(f"config '{self.name}': xor_inputs is {self.xor_inputs}, must be in 0..{most}")
        deepest = MAX_XOR_WINDOW // self.xor_inputs - 1 if self.xor_inputs else 0
        if not 0 <= self.xor_history <= deepest:
            raise TatamiError(
                f"config '{self.name}': xor_history is {self.xor_history}, must be in 0..{deepest}"
            )
        if not 1 <= self.xor_seed < 1 << 31:
            raise TatamiError(
                f"config '{self.name}': xor_seed is {self.xor_seed}, must be in 1..{(1 << 31) - 1}"
            )

    # Widths, in bits, of the fields of a memory word. rtl/psa_top.v computes the same from its parameters.

    @cached_property
    def select_bits(self) -> int:
        return max(1, clog2(self.group))

    @cached_property
    def slot_bits(self) -> int:
        return self.weight_bits + self.position_bits + self.select_bits

    @cached_property
    def position_bits(self) -> int:
        """Which digit of its weight a slot holds: nothing where it holds the whole."""
        return int(self.weight_bits < 8)

    @cached_property
    def row_bits(self) -> int:
        """A row of slots."""
        return self.size * self.slot_bits

    @cached_property
    def slot_word_bits(self) -> int:
        """A word of the SLOT memory: with an XOR decoder, the longest row as it is stored."""
        return self.row_bits + (XOR_COUNT_BITS if self.xor_inputs else 0)

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
        return clog2(self.feature_depth)

    @cached_property
    def group_id_bits(self) -> int:
        return clog2(self.group_depth)

    @cached_property
    def offset_bits(self) -> int:
        """A signed pixel offset that can reach any pixel of a bank from any other."""
        return clog2(self.feature_depth * self.size) + 1

    @cached_property
    def psum_bits(self) -> int:
        """A column's sum of `size` products of two signed bytes."""
        return 16 + clog2(self.size)

    def rtl_parameters(self) -> dict[str, int]:
        """Verilog parameters of `psa_top`."""
        xor = {"XOR_INPUTS": self.xor_inputs, "XOR_HISTORY": self.xor_history, "XOR_SEED": self.xor_seed}
        depths = {field.upper(): getattr(self, field) for field in DEPTHS}
        return {
            "ROWS": self.size,
            "COLS": self.size,
            "GROUP": self.group,
            **depths,
            "WEIGHT_BITS": self.weight_bits,
            **xor,
        }

    def fingerprint(self) -> dict[str, int]:
        """What an image must share with the machine it is loaded into (everything but the name)."""
        return {k: v for k, v in asdict(self).items() if k != "name"}


DEPTHS = (
    "feature_depth",
    "acc_words",
    "program_depth",
    "tile_depth",
    "lane_depth",
    "group_depth",
    "tap_depth",
    "edge_depth",
    "filter_depth",
)

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
        ),
    )
}
DEFAULT_CONFIG = "16x8"


def get_config(name: str) -> ArrayConfig:
    """The named configuration, or a `TatamiError` that lists the names there are."""
    if name not in CONFIGS:
        raise TatamiError(f"CONFIG {name!r} is unknown; valid: {', '.join(CONFIGS)}")
    return CONFIGS[name]
