"""The machines whose blocks are tested alone, with odd and small ones among them, and the parameters of their
blocks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from pymodel.machine.config import ArrayConfig, clog2
from pymodel.machine.memory import memories

Parameters = Mapping[str, int]


# Blocks that address memories: depths that are not powers of two, so that an address can lie past the end;
# depths that are powers of two; the largest depths.
ODD = ArrayConfig(
    "odd",
    size=4,
    group=2,
    feature_depth=10,
    acc_words=5,
    program_depth=13,
    tile_depth=11,
    lane_depth=50,
    group_depth=7,
    tap_depth=21,
    edge_depth=11,
    filter_depth=19,
)
EVEN = ArrayConfig(
    "even",
    size=8,
    group=4,
    feature_depth=64,
    acc_words=4,
    program_depth=16,
    tile_depth=16,
    lane_depth=128,
    group_depth=16,
    tap_depth=32,
    edge_depth=32,
    filter_depth=32,
)
LARGEST = ArrayConfig(
    "largest",
    tables=15,
    group=16,
    feature_depth=65536,
    acc_words=65536,
    program_depth=65536,
    tile_depth=65536,
    lane_depth=65536,
    group_depth=65536,
    tap_depth=65536,
    edge_depth=65536,
    filter_depth=65536,
)

# Such deep memories that every field of a record can be near its end; a test loads only the words it needs.
DEEP = replace(LARGEST, name="deep", size=4, group=2, group_depth=65535, tables=0)

# Machines with activation tables: as many as their address has room for, one, and as many as can be.
TABLED = replace(ODD, name="tabled", tables=3)
ONE_TABLE = replace(EVEN, name="one_table", tables=1)
MOST_TABLES = replace(EVEN, name="most_tables", tables=15)


# Machines with a wider load stream: words of one to four beats, and of one and two.
LARGEST_128 = replace(LARGEST, name="largest_128", stream_bits=128)
LARGEST_256 = replace(LARGEST, name="largest_256", stream_bits=256)

# Machines with an XOR decoder: with history, without, and with digits in its slots.
XOR = replace(EVEN, name="xor", lane_depth=50, xor_inputs=36, xor_history=2, xor_seed=5)
XOR_SHORT = replace(ODD, name="xor_short", xor_inputs=8)
XOR_DEEP = replace(XOR, name="xor_deep", lane_depth=65536)
XOR_DIGITS = replace(EVEN, name="xor_digits", group=16, weight_bits=4, xor_inputs=30, xor_history=1)


def machine_parameters(config: ArrayConfig) -> Parameters:
    """The parameters that `psa_top` passes to its blocks, by the names that they have there."""
    beats = {f"{m.name}_BEATS": m.beats for m in memories(config).values()}
    return {
        **config.rtl_parameters(),
        "T": config.size,
        "ACC_DEPTH": config.acc_words * config.size,
        "PSUM_BITS": config.psum_bits,
        "FEATURE_ADDR": config.base_bits,
        "FILTER_ADDR": clog2(config.filter_depth),
        "ROW_WIDTH": config.row_bits,
        "WORD_WIDTH": config.slot_word_bits,
        "SLOT_BITS": config.slot_bits,
        **beats,
        "MAX_BEATS": max(beats.values()),
    }
