"""Training under the schemes of digits: the network uses every weight rounded to a value that the digit
slots of its plan can hold.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from pymodel.network.float import FloatArray, FloatWeighted
from pymodel.network.from_torch import import_torch
from pymodel.network.integer import groups_of
from pymodel.packing.pack import DIGIT_BITS, MAX_DIGITS, unpack_own
from pymodel.schemes import LayerWeights, Plans
from pymodel.schemes.tight_subword import digit_saliency_kept
from pymodel.training.trainer import Trainer

# of a digit of either sign: -8 is not used, because a batch norm of negative gain inverts all signs
LARGEST = 7


class SubwordTrainer(Trainer):
    """The dense copy of each weight continues to learn. The module has the nearest value that the weight's
    digits can hold, in steps of its filter.

    A filter's step is its largest kept weight over 119. The quantiser uses the same steps, so that no weight
    is rounded twice.
    """

    def saliency_kept(self, layers: list[LayerWeights], plans: Plans) -> float:
        return digit_saliency_kept(layers, plans)

    def load(self, path: Path) -> None:
        super().load(path)
        self.apply()

    def apply(self) -> None:
        with torch.no_grad():
            for name, weight in self.seen.items():
                low, high = self.slots(name)
                step = self.step_of(name)
                whole = self.dense[name] / step
                both = whole.round().clamp(-MAX_DIGITS, MAX_DIGITS)
                sixteens = (whole / 16).round().clamp(-LARGEST, LARGEST) * 16
                ones = whole.round().clamp(-LARGEST, LARGEST)
                nearest = torch.where(
                    low & high, both, torch.where(high, sixteens, torch.where(low, ones, torch.zeros(())))
                )
                weight.copy_(nearest * step)

    def slots(self, name: str) -> tuple[torch.Tensor, torch.Tensor]:
        """For each weight of a layer, whether its low and its high digit have a slot."""
        if name not in self.plans:  # before the first plan all have
            every = torch.ones_like(self.dense[name], dtype=torch.bool)
            return every, every
        packed = self.plans[name].packed
        assert packed is not None
        own = unpack_own(packed, groups_of(self.skeleton)[name])
        ones = torch.from_numpy(own).reshape(self.dense[name].shape)
        return ones & 1 == 1, ones >> DIGIT_BITS == 1

    def step_of(self, name: str) -> torch.Tensor:
        """The value of one step of each filter: [F, 1, ...]."""
        peak = (self.dense[name].detach() * self.masks[name]).abs().flatten(1).amax(dim=1)
        return torch.where(peak > 0, peak / MAX_DIGITS, torch.ones(())).reshape(
            -1, *[1] * (self.dense[name].ndim - 1)
        )

    def weight_steps(self) -> dict[str, FloatArray]:
        """The steps of the layers with the batch norm folded in. If nothing is pruned, the step that makes
        the largest weight of a filter 119.
        """
        imported = import_torch(self.runnable(), self.task.input_shape, self.task.name)
        found = {}
        for layer in imported.network.layers:
            if layer.name in self.plans:
                found[layer.name] = (
                    np.abs(imported.factors[layer.name]) * self.step_of(layer.name).flatten().double().numpy()
                )
            elif isinstance(layer, FloatWeighted):
                found[layer.name] = (
                    np.abs(layer.weight.reshape(len(layer.weight), -1)).max(axis=1) / MAX_DIGITS
                )
        return found
