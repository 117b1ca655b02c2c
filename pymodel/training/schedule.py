"""The budget of a training, and its schedule of ratios and learning rates."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pymodel.machine.errors import TatamiError

SALIENCIES = ("magnitude", "taylor")
PRECISIONS = ("float32", "bfloat16")


@dataclass(frozen=True)
class Budget:
    """The budget of a training. It is the same for all schemes that are compared.

    `epochs` may be a fraction. `replans` plans are made over the first `pruning` of the steps.
    `learning_rate` rises over the first twentieth of the steps and then falls to 0 along a cosine. The
    optimiser is SGD with Nesterov's momentum. `precision` is that of the convolutions and products, forward
    and backward. Weights, their updates and all measurements are float32. `distillation`: the part of the
    loss that is the distance from what the start network says of the same images (`Trainer.loss`), in place
    of the labels.
    """

    epochs: float = 6.0
    batch: int = 128
    learning_rate: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 1e-4
    replans: int = 8
    pruning: float = 0.5
    saliency: str = "magnitude"
    precision: str = "float32"
    distillation: float = 0.0

    def __post_init__(self) -> None:
        for name, value, low, high in (
            ("epochs", self.epochs, 0, 10_000),
            ("batch", self.batch, 1, 2**20),
            ("learning_rate", self.learning_rate, 0, 100),
            ("momentum", self.momentum, 0, 1),
            ("weight_decay", self.weight_decay, 0, 1),
            ("replans", self.replans, 1, 10_000),
            ("pruning", self.pruning, 0, 1),
            ("distillation", self.distillation, 0, 1),
        ):
            if not low <= value <= high:  # also refuses NaN
                raise TatamiError(f"budget: {name} is {value}, must be in {low}..{high}")
        for name, word, known in (
            ("saliency", self.saliency, SALIENCIES),
            ("precision", self.precision, PRECISIONS),
        ):
            if word not in known:
                raise TatamiError(f"budget: {name} is '{word}', must be one of {', '.join(known)}")

    def steps(self, images: int) -> int:
        return round(self.epochs * math.ceil(images / self.batch))

    def rate(self, step: int, steps: int) -> float:
        """The part of `learning_rate` that a step uses."""
        warm = max(1, steps // 20)
        return min(
            (step + 1) / warm, 0.5 * (1 + math.cos(math.pi * max(0, step - warm) / max(1, steps - warm)))
        )

    def ratios(self, ratio: float, steps: int) -> dict[int, float]:
        """The step before which each plan is made, and its compression ratio. The last plan has `ratio`
        itself.
        """
        found = {}
        for number in range(1, self.replans + 1):
            rising = 1 / (1 - cubic_sparsity(number, 0, self.replans, 1 - 1 / ratio))
            found[round((number - 1) / self.replans * self.pruning * steps)] = (
                ratio if number == self.replans else rising
            )
        return found


def cubic_sparsity(step: int, begin: int, end: int, final: float, initial: float = 0.0) -> float:
    """The sparsity to prune to at `step`: from `initial` at `begin` to `final` at `end`, fast at first, and
    slower when less is left.

    `final + (initial - final) * (1 - (step - begin) / (end - begin))**3`, constant outside of begin..end (Zhu
    & Gupta, arXiv 1710.01878, equation 1). Raises TatamiError unless begin < end and 0 <= initial <= final <
    1.
    """
    if begin >= end:
        raise TatamiError(f"schedule begins at step {begin}, must be before its end at {end}")
    if not 0 <= initial <= final < 1:
        raise TatamiError(f"schedule goes from sparsity {initial} to {final}, must rise within [0, 1)")
    progress = min(1.0, max(0.0, (step - begin) / (end - begin)))
    return final + (initial - final) * (1 - progress) ** 3
