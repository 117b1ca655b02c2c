"""The compression schemes by name. Each is a subclass of `pymodel.packing.plan.Scheme`."""

from __future__ import annotations

from dataclasses import replace

from pymodel.machine.config import ArrayConfig
from pymodel.machine.errors import TatamiError
from pymodel.packing.plan import LayerPlan, LayerWeights, Plans, Scheme, compression, occupancy, saliency_kept
from pymodel.schemes.column_combining import ColumnCombining
from pymodel.schemes.dense import Dense
from pymodel.schemes.joint_subword import CycleSubword, JointSubword
from pymodel.schemes.penni import Penni
from pymodel.schemes.tetris import Tetris, TetrisPass
from pymodel.schemes.tight import Tight, TightTile
from pymodel.schemes.tight_joint import TightCycle, TightJoint, TightPass
from pymodel.schemes.tight_subword import TightSubword
from pymodel.schemes.unstructured import Unstructured

__all__ = [
    "SCHEMES",
    "LayerPlan",
    "LayerWeights",
    "Plans",
    "Scheme",
    "array_for",
    "array_of_slots",
    "compression",
    "get_scheme",
    "occupancy",
    "saliency_kept",
]

_OTHERS: tuple[Scheme, ...] = (Dense(), Unstructured(), ColumnCombining(), Tetris(), TetrisPass(), Penni())
_TIGHT: tuple[Scheme, ...] = (Tight(), TightTile(), TightSubword(), TightJoint(), TightPass(), TightCycle())
_DIGITS: tuple[Scheme, ...] = (JointSubword(), CycleSubword())
SCHEMES: dict[str, Scheme] = {s.name: s for s in (*_OTHERS, *_TIGHT, *_DIGITS)}


def get_scheme(name: str) -> Scheme:
    """The named scheme. For an unknown name, raises a `TatamiError` that lists the known names."""
    if name not in SCHEMES:
        raise TatamiError(f"scheme '{name}' is unknown; valid: {', '.join(SCHEMES)}")
    return SCHEMES[name]


def array_for(scheme: Scheme, config: ArrayConfig) -> ArrayConfig:
    """`config` with slots as wide as the scheme's."""
    return array_of_slots(config, scheme.slot_bits)


def array_of_slots(config: ArrayConfig, bits: int) -> ArrayConfig:
    """`config` with slots of weights or digits of so many bits."""
    if config.weight_bits == bits:
        return config
    array = replace(config, name=f"{config.name}w{bits}", weight_bits=bits, xor_inputs=0, xor_history=0)
    # a row with fewer bits has room for fewer XOR inputs
    return replace(
        array,
        xor_inputs=min(config.xor_inputs, array.most_xor_inputs),
        xor_history=config.xor_history if array.most_xor_inputs else 0,
    )
