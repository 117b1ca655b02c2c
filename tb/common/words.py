"""Memory words as single numbers, for tests that drive a block's load port themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from pymodel.machine.config import DEPTHS, SIZES, ArrayConfig
from pymodel.machine.memory import Memory


def word(memory: Memory, *entries: Sequence[int]) -> int:
    """One word: an entry for each repeat of the memory's fields, with the values in the order of the
    fields.
    """
    contents = np.array(entries, dtype=np.int64)[None]
    assert contents.shape == (1, memory.repeat, len(memory.fields)), (
        f"memory {memory.name}: shape {contents.shape}"
    )
    return int.from_bytes(memory.encode(contents)[0].tobytes(), "little")


def config_of(parameters: Mapping[str, int]) -> ArrayConfig:
    """The configuration that a block's Verilog parameters belong to. Depths that they do not give are the
    default's. Without a T it is the smallest, which goes with any depth.
    """
    depths = {name: parameters[name.upper()] for name in DEPTHS if name.upper() in parameters}
    size = parameters.get("ROWS") or parameters.get("T") or SIZES[0]
    group, tables = parameters.get("GROUP", ArrayConfig.group), parameters.get("TABLES", 0)
    return ArrayConfig("block", size=size, group=group, tables=tables, **depths)
