"""One training under a scheme, from start or checkpoint to the trained module: `train`."""

from __future__ import annotations

import importlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from pymodel.machine.config import ArrayConfig
from pymodel.machine.errors import TatamiError
from pymodel.network.float import FloatArray
from pymodel.schemes import LayerPlan, Scheme
from pymodel.training.schedule import Budget
from pymodel.training.tasks import Task
from pymodel.training.toolchain import python_headers
from pymodel.training.trainer import Trainer

SAVED_EVERY = 30.0  # seconds


@dataclass(frozen=True)
class StepDone:
    """After a step: the number of steps done and of all steps, the loss, and the compression ratio of the
    current plan.
    """

    step: int
    steps: int
    loss: float
    ratio: float


@dataclass(frozen=True)
class Trained:
    """`module` is the network as the machine runs it. `plans` by layer name. `weights`: the number of weights
    in these layers before compression.

    `seconds`: the time of training, plans included. `saliency_kept`: of the last plan, when it was made.
    `figures`: additional figures of the scheme's own trainer. `weight_steps`: for the quantiser, see there.
    """

    module: nn.Module
    plans: dict[str, LayerPlan]
    weights: int
    saliency_kept: float
    steps: int
    seconds: float
    figures: dict[str, float]
    weight_steps: dict[str, FloatArray]


def train(
    task: Task,
    scheme: Scheme,
    ratio: float,
    config: ArrayConfig,
    budget: Budget,
    seed: int,
    checkpoint: Path | None = None,
    report: Callable[[StepDone], None] = lambda _: None,
    compiled: bool = False,
    fresh: bool = False,
) -> Trained:
    """Prunes and retrains a copy of `task.module`. With `compiled` it uses `torch.compile`, which is faster
    if training takes minutes or more.

    With a `checkpoint` file, the state is written there about every half minute. A run that finds a
    checkpoint of the same arguments continues from it. With `fresh` the checkpoint is removed and the
    training starts anew. Raises `TatamiError` for a ratio that the scheme cannot reach, a checkpoint of other
    arguments, a loss that is not finite, and if nothing can be compiled.
    """
    if not 1 <= ratio < math.inf:  # also refuses NaN
        raise TatamiError(f"ratio is {ratio:g}, must be at least 1")
    if compiled and not python_headers().is_file():
        raise TatamiError(
            f"compiled training needs Python's headers, {python_headers()} (Debian: apt install python3-dev)"
        )
    trainer = trainer_of(scheme)(task, scheme, ratio, config, budget, seed, compiled)
    if checkpoint and fresh:
        checkpoint.unlink(missing_ok=True)
    if checkpoint and checkpoint.exists():
        trainer.load(checkpoint)
    before, begin = trainer.seconds, time.perf_counter()
    saved = begin
    ratios = budget.ratios(ratio, trainer.steps)
    trainer.module.train()
    while trainer.step < trainer.steps:
        if trainer.step in ratios and trainer.ratio != ratios[trainer.step]:
            trainer.plan(ratios[trainer.step])
        loss = trainer.learn()
        now = time.perf_counter()
        trainer.seconds = before + now - begin
        report(StepDone(trainer.step, trainer.steps, loss, trainer.ratio))
        if checkpoint and (now - saved > SAVED_EVERY or trainer.step == trainer.steps):
            trainer.save(checkpoint)
            saved = time.perf_counter()
    if not trainer.plans:  # no steps
        trainer.plan(ratio)
    module = trainer.runnable().eval()
    return Trained(
        module,
        trainer.plans,
        trainer.weights,
        trainer.kept,
        trainer.steps,
        trainer.seconds,
        trainer.figures(),
        trainer.weight_steps(),
    )


def trainer_of(scheme: Scheme) -> type[Trainer]:
    """The class that trains under a scheme."""
    module, _, name = scheme.trainer.partition(":")
    found: type[Trainer] = getattr(importlib.import_module(module), name)
    return found
