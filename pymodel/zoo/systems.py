"""The digits network under each published system, kept as files. `make sim TEST=systems` runs them on the
RTL.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pymodel.machine.errors import TatamiError
from pymodel.network import network_file
from pymodel.network.network_file import StoredNetwork

FOLDER = Path(__file__).resolve().parent / "data" / "systems"
CONFIG = "16x16"  # whose array the networks are planned for


@dataclass(frozen=True)
class System:
    """A scheme of `pymodel.schemes`, the requested matrix compression, and whether its rows of slots are
    stored XOR-encoded.
    """

    scheme: str
    ratio: float
    xor: bool = False


SYSTEMS = {
    "dense": System("dense", 1),
    "column_combining": System("column_combining", 8),
    "tight": System("tight_pass", 8),
    "tetris": System("tetris", 4),  # at 8 this small network loses a layer
    "penni": System("penni", 4),
    "subword": System("tight_subword", 4),  # slots of half the bits
    "xor": System("tight", 5, xor=True),  # unstructured pruning leaves empty slots, which need no bits
}


def load(name: str, folder: Path = FOLDER) -> StoredNetwork:
    """The network of a system. Raises `TatamiError` if it is missing or damaged."""
    path = folder / f"{name}.npz"
    if not path.is_file():
        raise TatamiError(f"{path}: no such file; `make train NET=systems` writes it")
    return network_file.load(path)
