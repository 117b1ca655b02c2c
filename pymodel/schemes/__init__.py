"""The compression schemes by name. Each is a file of its own with a class that answers `base.Scheme`."""

from __future__ import annotations

from pymodel.errors import TatamiError
from pymodel.schemes.base import LayerPlan, LayerWeights, Plans, Scheme, compression, occupancy, saliency_kept
from pymodel.schemes.column_combining import ColumnCombining
from pymodel.schemes.dense import Dense
from pymodel.schemes.penni import Penni
from pymodel.schemes.tetris import Tetris
from pymodel.schemes.tight import Tight, TightTile
from pymodel.schemes.tight_joint import TightJoint
from pymodel.schemes.unstructured import Unstructured

__all__ = ["SCHEMES", "LayerPlan", "LayerWeights", "Plans", "Scheme", "compression", "get_scheme", "occupancy", "saliency_kept"]

SCHEMES: dict[str, Scheme] = {s.name: s for s in (Dense(), Unstructured(), ColumnCombining(), Tetris(), Penni(), Tight(), TightTile(), TightJoint())}


def get_scheme(name: str) -> Scheme:
    """The named scheme, or a `TatamiError` that lists the names there are."""
    if name not in SCHEMES:
        raise TatamiError(f"scheme '{name}' is unknown; valid: {', '.join(SCHEMES)}")
    return SCHEMES[name]
