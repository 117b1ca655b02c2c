"""Joint pruning and packing of digits: the number of lanes is set first, and every filter keeps its best
4-bit digits in them, with hardly a slot empty.

The digits and their saliencies are those of `tight_subword`; tiles, lanes and groups are found as in
`tight_joint`, of digits in place of weights. The select of a slot picks an input and its position bit a
digit, so a lane offers either digit of every input that it holds. A weight that keeps both needs two slots of
its filter, so its input must be in two lanes.

1. *Search.* An input may be in a lane for the better digit of each filter's weight, and in another lane for
   the worse one. The search sees these as two inputs of one bank, so they are never in the same lane.
2. *Digits.* When the groups are found, an input that is in two lanes offers both digits in either. Each
   filter then takes the digits of most saliency that can have a lane each. This is a matching of digits to
   lanes, and taking the digits from the best on, moving others to their second lane where that makes room, is
   optimal (the sets of digits that can be matched are a matroid).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from pymodel.machine.config import ArrayConfig
from pymodel.machine.hot import hot
from pymodel.packing.pack import DIGIT_BITS, Tile
from pymodel.packing.permute import Array
from pymodel.packing.plan import LayerPlan, LayerWeights
from pymodel.schemes.tight_joint import TightCycle, TightJoint, TileJob, search_groups, used_members
from pymodel.schemes.tight_subword import by_digit, check_slots


class JointSubword(TightJoint):
    """Needs a configuration whose slots are 4 bits wide."""

    name: ClassVar[str] = "joint_subword"
    summary: ClassVar[str] = "as tight_joint, of 4-bit digits; for slots of 4 bits"
    slot_bits: ClassVar[int] = DIGIT_BITS
    trainer: ClassVar[str] = "pymodel.training.subword:SubwordTrainer"

    def plan(
        self, layers: Sequence[LayerWeights], ratio: float, config: ArrayConfig, rng: np.random.Generator
    ) -> dict[str, LayerPlan]:
        check_slots(self.name, config)
        return super().plan(layers, ratio, config, rng)

    def offers(self, layer: LayerWeights) -> LayerWeights:
        """Its digits, low and high side by side."""
        return by_digit(layer)

    def fill(self, job: TileJob) -> tuple[Array, Tile]:
        digits = job.offer.saliency[job.filters]  # [C, 2 K]
        ranked = -np.sort(
            -digits.reshape(len(digits), -1, 2), axis=2
        )  # the better digit of each weight first
        table = search_groups(ranked.reshape(digits.shape), job.offer.bank, job) // 2  # -1 stays -1
        taken = _take(digits, table)  # [lanes, C]
        full = taken >= 0
        select = np.where(full, job.offer.bank[taken], 0)
        return used_members(table, select, full), Tile(
            job.filters, np.arange(job.lanes), select, full.astype(np.int8), np.where(full, taken % 2, 0)
        )


class CycleSubword(JointSubword, TightCycle):
    """Whole passes of digits, where a cycle keeps most saliency."""

    name: ClassVar[str] = "cycle_subword"
    summary: ClassVar[str] = "as joint_subword, but whole passes go where a cycle keeps most saliency"

    def spare(self, residuals: dict[str, Array], config: ArrayConfig) -> dict[str, Array]:
        """Two slots for each residual, or one where no lane would be left for weights."""
        return {
            name: np.minimum(2 * lanes, np.maximum(lanes, config.size - 1))
            for name, lanes in residuals.items()
        }


def _take(digits: Array, table: Array) -> Array:
    """The digit that each slot takes, int64 [lanes, C], -1 for none, so that every filter keeps the most
    saliency. `digits` [C, 2 K]: the saliency of each filter's digits; `table` int64 [lanes, G] of inputs.
    """
    inputs = digits.shape[1] // 2
    lanes_of = np.full((inputs, 2), -1, np.int64)
    lane, bank = np.nonzero(table >= 0)
    for where, k in zip(lane, table[lane, bank], strict=True):
        lanes_of[k, int(lanes_of[k, 0] >= 0)] = where
    some = np.flatnonzero(lanes_of[:, 0] >= 0)
    offered = (2 * some[:, None] + np.arange(2)).ravel()
    taken = np.full((len(digits), len(table)), -1, np.int64)
    for f, saliency in enumerate(digits):
        order = offered[np.argsort(-saliency[offered], kind="stable")]
        _match(order[saliency[order] > 0], lanes_of, taken[f])
    return taken.T


@hot
def _match(order: Array, lanes_of: Array, taken: Array) -> Any:
    """Gives each digit of `order` a lane if there is one for it and for those before it. `lanes_of` int64 [K,
    2]: the lanes of each input, -1 for none; `taken` int64 [lanes]: the digit of each lane, in place.
    """
    for digit in order:
        for first in lanes_of[digit // 2]:
            # whoever holds the lane moves to its other lane, and so on, until one is free
            lane, steps = first, 0
            while lane >= 0 and taken[lane] >= 0 and steps <= len(taken):
                pair = lanes_of[taken[lane] // 2]
                lane, steps = pair[1] if pair[0] == lane else pair[0], steps + 1
            if lane < 0 or taken[lane] >= 0:
                continue
            lane, moving = first, digit
            while moving >= 0:
                held = taken[lane]
                taken[lane] = moving
                if held >= 0:
                    pair = lanes_of[held // 2]
                    lane = pair[1] if pair[0] == lane else pair[0]
                moving = held
            break
