"""The digits network, kept as a file: a small CNN for scikit-learn's 8 x 8 handwritten digits, pruned and
quantised, with its held-out images.
"""

from __future__ import annotations

from pathlib import Path

from pymodel.machine.errors import TatamiError
from pymodel.network import network_file
from pymodel.network.network_file import StoredNetwork

DATA = Path(__file__).resolve().parent / "data" / "digits.npz"


def load(path: Path = DATA) -> StoredNetwork:
    """As `kept.load`."""
    if not path.is_file():
        raise TatamiError(f"{path}: no such file; `make train NET=digits` writes it")
    return network_file.load(path)
