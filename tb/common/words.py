"""Memory words and beats as single numbers, for tests that drive a load port themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from pymodel.machine.config import DEPTHS, SIZES, ArrayConfig
from pymodel.machine.memory import UNIT_BITS, Memory, from_beats


def word(memory: Memory, *entries: Sequence[int]) -> int:
    """One word: an entry for each repeat of the memory's fields, with the values in the order of the
    fields.
    """
    contents = np.array(entries, dtype=np.int64)[None]
    assert contents.shape == (1, memory.repeat, len(memory.fields)), (
        f"memory {memory.name}: shape {contents.shape}"
    )
    return int.from_bytes(memory.encode(contents)[0].tobytes(), "little")


def random_beats(rng: np.random.Generator, count: int, stream_bits: int) -> list[int]:
    """Beats of the load stream, all bits random."""
    shape = count, stream_bits // UNIT_BITS
    return from_beats(rng.integers(0, 2**64 - 1, shape, dtype=np.uint64, endpoint=True))


def config_of(parameters: Mapping[str, int]) -> ArrayConfig:
    """The configuration that a block's Verilog parameters belong to. Depths that they do not give are the
    default's. Without a T it is the smallest, which goes with any depth.
    """
    depths = {name: parameters[name.upper()] for name in DEPTHS if name.upper() in parameters}
    size = parameters.get("ROWS") or parameters.get("T") or SIZES[0]
    group, tables = parameters.get("GROUP", ArrayConfig.group), parameters.get("TABLES", 0)
    stream_bits = parameters.get("STREAM_BITS", ArrayConfig.stream_bits)
    return ArrayConfig("block", size=size, group=group, tables=tables, stream_bits=stream_bits, **depths)
