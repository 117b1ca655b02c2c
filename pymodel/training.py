"""Training under a compression scheme: pruned step by step to the ratio asked for, permuted anew at every step, then retrained.

The compression ratio rises along the cubic schedule of Zhu and Gupta (arXiv 1710.01878) over the first part of the steps; at each rise the
scheme is asked for a new plan. Between the plans a pruned weight is zero in the network, but a dense copy of it goes on learning from the
gradient that it has there, so that a later plan may take it back (dynamic network surgery; Guo et al., arXiv 1608.04493). In the mean over a
filter it learns no faster than the weights that stay (`held_back`). Every scheme is trained by the same steps on the same images in the same
order, given the same seed.
"""

from __future__ import annotations

import copy
import math
import sysconfig
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from pymodel.compile import input_banks, output_words, residual_banks
from pymodel.config import ArrayConfig
from pymodel.errors import TatamiError
from pymodel.networks.from_torch import Imported, import_torch
from pymodel.prune import cubic_sparsity
from pymodel.quantise import FloatArray
from pymodel.schemes import LayerPlan, LayerWeights, Scheme, saliency_kept
from pymodel.schemes.penni import Penni
from pymodel.schemes.tight_subword import TightSubword
from pymodel.tasks import Task

SALIENCIES = ("magnitude", "taylor")
PRECISIONS = ("float32", "bfloat16")
SMOOTHING = 0.9  # of the squared products of weight and gradient, from step to step
EVALUATED = 500  # images at a time
SAVED_EVERY = 30.0  # seconds


@dataclass(frozen=True)
class Budget:
    """How long and how to train: the same for all schemes that are compared.

    `epochs` may be a part of one. `replans` plans are made over the first `pruning` of the steps. `learning_rate` rises over the first
    twentieth of the steps and then falls to 0 along a cosine; SGD with Nesterov's momentum. `precision` is that of the convolutions and products,
    forward and backward: weights, their updates and whatever is measured are float32.
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

    def __post_init__(self) -> None:
        for name, value, low, high in (
            ("epochs", self.epochs, 0, 10_000),
            ("batch", self.batch, 1, 2**20),
            ("learning_rate", self.learning_rate, 0, 100),
            ("momentum", self.momentum, 0, 1),
            ("weight_decay", self.weight_decay, 0, 1),
            ("replans", self.replans, 1, 10_000),
            ("pruning", self.pruning, 0, 1),
        ):
            if not low <= value <= high:  # also refuses NaN
                raise TatamiError(f"budget: {name} is {value}, must be in {low}..{high}")
        for name, word, known in (("saliency", self.saliency, SALIENCIES), ("precision", self.precision, PRECISIONS)):
            if word not in known:
                raise TatamiError(f"budget: {name} is '{word}', must be one of {', '.join(known)}")

    def steps(self, images: int) -> int:
        return round(self.epochs * math.ceil(images / self.batch))

    def rate(self, step: int, steps: int) -> float:
        """The part of `learning_rate` that a step takes."""
        warm = max(1, steps // 20)
        return min((step + 1) / warm, 0.5 * (1 + math.cos(math.pi * max(0, step - warm) / max(1, steps - warm))))

    def ratios(self, ratio: float, steps: int) -> dict[int, float]:
        """The step before which each plan is made, and its compression ratio; the last has `ratio` itself."""
        found = {}
        for number in range(1, self.replans + 1):
            rising = 1 / (1 - cubic_sparsity(number, 0, self.replans, 1 - 1 / ratio))
            found[round((number - 1) / self.replans * self.pruning * steps)] = ratio if number == self.replans else rising
        return found


@dataclass(frozen=True)
class Progressed:
    """After a step: how many are done, of how many, the loss, and the compression ratio of the plan in force."""

    step: int
    steps: int
    loss: float
    ratio: float


@dataclass(frozen=True)
class Trained:
    """`module`, as the machine runs it; `plans` by layer name, and how many `weights` these layers had before.

    `seconds` that training took, plans included; `saliency_kept` of the last plan, when it was made; `figures`, what the scheme's own trainer adds;
    `weight_steps` for the quantiser, see there.
    """

    module: nn.Module
    plans: dict[str, LayerPlan]
    weights: int
    saliency_kept: float
    steps: int
    seconds: float
    figures: dict[str, float]
    weight_steps: dict[str, FloatArray]


class Trainer:
    """The state of a training: the module, and of each planned weight a dense copy that learns and the mask that the module sees it through."""

    def __init__(self, task: Task, scheme: Scheme, ratio: float, config: ArrayConfig, budget: Budget, seed: int, compiled: bool = False) -> None:
        self.task, self.scheme, self.config, self.budget, self.seed = task, scheme, config, budget, seed
        self.module = self.prepared().to(memory_format=torch.channels_last)  # faster on a CPU
        self.forward: Callable[[torch.Tensor], torch.Tensor] = torch.compile(self.module) if compiled else self.module
        imported = import_torch(self.runnable(), task.input_shape, task.name)
        parameters = dict(self.module.named_parameters())
        self.seen = {name: parameters[path] for name, path in self.paths(imported).items() if name not in task.keep}
        self.dense = {name: weight.detach().clone().requires_grad_() for name, weight in self.seen.items()}
        self.masks = {name: torch.ones_like(weight) for name, weight in self.seen.items()}
        self.score: dict[str, torch.Tensor] = {}
        self.skeleton = imported.network.skeleton
        self.banks, self.residuals = input_banks(self.skeleton, config), residual_banks(self.skeleton, config)
        self.words = output_words(self.skeleton, config)
        self.steps = budget.steps(len(task.train_images))
        self.step, self.ratio, self.kept, self.seconds = 0, 1.0, 1.0, 0.0
        self.plans: dict[str, LayerPlan] = {}
        others = [p for p in parameters.values() if not any(p is weight for weight in self.seen.values())]
        nesterov = {"momentum": budget.momentum, "nesterov": budget.momentum > 0, "weight_decay": budget.weight_decay}
        self.optimizer = torch.optim.SGD([*self.dense.values(), *others], budget.learning_rate, **nesterov)
        # what must agree for a checkpoint to be of this training
        self.arguments = {
            "network": task.name,
            "start": task.start,
            "data": task.data,
            "scheme": scheme.name,
            "ratio": ratio,
            "config": config.name,
            "seed": seed,
            **asdict(budget),
        }

    # What a scheme that trains in a way of its own replaces (`pymodel.penni_training`).

    def prepared(self) -> nn.Module:
        """The module to train, a copy."""
        return copy.deepcopy(self.task.module)

    def runnable(self) -> nn.Module:
        """The module in layers that the machine runs, with the weights that it has now."""
        return self.module

    def paths(self, imported: Imported) -> dict[str, str]:
        """The parameter behind each layer's weight that is pruned, by layer name."""
        return imported.weights

    def loss(self, inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(self.logits(inputs), labels)

    def logits(self, inputs: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=self.budget.precision == "bfloat16"):
            return self.forward(inputs).float()

    @property
    def weights(self) -> int:
        """Weights that the planned layers had before compression."""
        return sum(weight.numel() for weight in self.seen.values())

    def figures(self) -> dict[str, float]:
        """What else is to be said of the result."""
        return {}

    def weight_steps(self) -> dict[str, FloatArray]:
        """The real value of one integer step of each filter [F], by layer, where the quantiser is not free to choose it."""
        return {}

    def layers(self) -> list[LayerWeights]:
        """What the scheme is asked about. Taylor saliencies count from the second plan on: before the first step there is no gradient."""
        layers = []
        for name, weight in self.dense.items():
            matrix = weight.detach().reshape(len(weight), -1).double().numpy()
            saliency = self.score.get(name, weight.detach().square()).reshape(matrix.shape).double().numpy()
            layers.append(LayerWeights(name, matrix, self.banks[name], saliency, self.residuals.get(name), self.words[name]))
        return layers

    def plan(self, ratio: float) -> None:
        """Asks the scheme anew and prunes."""
        layers = self.layers()
        # the same arrangement for the same weights, wherever the run was taken up
        self.plans = self.scheme.plan(layers, ratio, self.config, np.random.default_rng([self.seed, self.step]))
        self.ratio, self.kept = ratio, saliency_kept(layers, self.plans)
        for name in self.seen:
            self.masks[name] = torch.from_numpy(self.plans[name].mask).reshape(self.dense[name].shape).to(self.dense[name].dtype)
        self.apply()

    def apply(self) -> None:
        with torch.no_grad():
            for name, weight in self.seen.items():
                torch.mul(self.dense[name], self.masks[name], out=weight)

    def learn(self) -> float:
        """One step; returns the loss."""
        images, budget = len(self.task.train_images), self.budget
        per_epoch = math.ceil(images / budget.batch)
        epoch, number = divmod(self.step, per_epoch)
        order = torch.randperm(images, generator=_generator(self.seed, 0, epoch))
        batch = order[number * budget.batch : (number + 1) * budget.batch]
        inputs = self.task.prepare(self.task.train_images[batch], _generator(self.seed, 1, self.step))
        loss = self.loss(inputs, self.task.train_labels[batch])
        if not torch.isfinite(loss):
            where = f"network '{self.task.name}', step {self.step}"
            raise TatamiError(f"{where}: loss is {loss.item()}; learning_rate {budget.learning_rate} is too large for it")
        for weight in self.module.parameters():
            weight.grad = None
        loss.backward()
        for name, weight in self.seen.items():
            # also where the mask is zero
            self.dense[name].grad = None if weight.grad is None else held_back(weight.grad, self.masks[name])
            if budget.saliency == "taylor" and weight.grad is not None:
                square = (self.dense[name].detach() * weight.grad).square()
                self.score[name] = self.score[name].lerp(square, 1 - SMOOTHING) if name in self.score else square
        for group in self.optimizer.param_groups:
            group["lr"] = budget.learning_rate * budget.rate(self.step, self.steps)
        self.optimizer.step()
        self.apply()
        self.step += 1
        return float(loss.item())

    def save(self, path: Path) -> None:
        """Whole or not at all."""
        state = {
            "arguments": self.arguments,
            "run": {name: getattr(self, name) for name in RUN},
            "plans": {name: plan.to_arrays() for name, plan in self.plans.items()},
            "tensors": {name: getattr(self, name) for name in ("dense", "masks", "score")},
            "module": self.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        draft = path.with_suffix(".part")
        torch.save(_to_tensors(state), draft)
        draft.replace(path)

    def load(self, path: Path) -> None:
        """Takes up a saved training. Raises `TatamiError` for a damaged file and one of other arguments."""
        try:
            state = torch.load(path, weights_only=True)
            arguments = state["arguments"]
        except Exception as error:  # what a damaged file makes torch raise is not documented
            raise TatamiError(f"{path}: not a checkpoint, or damaged ({str(error).splitlines()[0]}); remove it to begin anew") from None
        for name, value in self.arguments.items():
            if arguments.get(name) != value:
                raise TatamiError(f"{path}: {name} is {arguments.get(name)} there and {value} here; remove the file to begin anew")
        for name in RUN:
            setattr(self, name, state["run"][name])
        self.plans = {name: LayerPlan.from_arrays(_to_arrays(plan)) for name, plan in state["plans"].items()}
        with torch.no_grad():
            for name, weight in state["tensors"]["dense"].items():
                self.dense[name].copy_(weight)
        self.masks, self.score = state["tensors"]["masks"], state["tensors"]["score"]
        self.module.load_state_dict(state["module"])
        self.optimizer.load_state_dict(state["optimizer"])


# What a checkpoint holds of a trainer besides tensors and plans.
RUN = ("step", "ratio", "kept", "seconds")


def train(
    task: Task,
    scheme: Scheme,
    ratio: float,
    config: ArrayConfig,
    budget: Budget,
    seed: int,
    checkpoint: Path | None = None,
    report: Callable[[Progressed], None] = lambda _: None,
    compiled: bool = False,
) -> Trained:
    """Prunes and retrains a copy of `task.module`; `compiled` by `torch.compile`, which pays from minutes of training on.

    With a `checkpoint` file, the state is written there about every half minute, and a run that finds one of the same arguments goes on
    from it. Raises `TatamiError` for a ratio that the scheme cannot reach, a checkpoint of other arguments, a loss that is not finite, and where
    nothing can be compiled.
    """
    if compiled and not python_headers().is_file():
        raise TatamiError(f"compiled training needs Python's headers, {python_headers()} (Debian: apt install python3-dev)")
    trainer = trainer_of(scheme)(task, scheme, ratio, config, budget, seed, compiled)
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
        report(Progressed(trainer.step, trainer.steps, loss, trainer.ratio))
        if checkpoint and (now - saved > SAVED_EVERY or trainer.step == trainer.steps):
            trainer.save(checkpoint)
            saved = time.perf_counter()
    if not trainer.plans:  # no steps
        trainer.plan(ratio)
    module = trainer.runnable().eval()
    return Trained(module, trainer.plans, trainer.weights, trainer.kept, trainer.steps, trainer.seconds, trainer.figures(), trainer.weight_steps())


def python_headers() -> Path:
    """What `torch.compile` cannot do without; not there where Python was installed without its headers."""
    return Path(sysconfig.get_path("include")) / "Python.h"


def trainer_of(scheme: Scheme) -> type[Trainer]:
    """How a scheme is trained: by masks alone, unless it has a trainer of its own."""
    if scheme.name == Penni.name:
        from pymodel.penni_training import PenniTrainer  # builds on this module

        return PenniTrainer
    if scheme.name == TightSubword.name:
        from pymodel.subword_training import SubwordTrainer  # likewise

        return SubwordTrainer
    return Trainer


def held_back(gradient: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """A gradient [F, ...] whose pruned part has at most the root mean square of the part that stays, filter by filter; `mask` 1 for what stays.

    What a filter with few weights left, or none, gives varies little from image to image, and a batch norm behind it divides by that: the gradient of
    its pruned weights is then up to 300 times that of a living filter's. Left alone they grow until a global ranking keeps only them.
    """
    flat, stays = gradient.flatten(1), mask.flatten(1)
    pruned = 1 - stays
    square = flat.square()
    most, mine = ((square * part).sum(1) / part.sum(1).clamp(min=1) for part in (stays, pruned))
    factor = torch.where(mine > most, most / mine, 1.0).sqrt()
    return torch.where(stays > 0, flat, flat * factor[:, None]).reshape(gradient.shape)


def accuracy(task: Task, module: nn.Module) -> float:
    """Share of the task's test images that a module, as it is, names rightly."""
    module.eval()
    right = 0
    with torch.no_grad():
        for images, labels in zip(task.test_images.split(EVALUATED), task.test_labels.split(EVALUATED), strict=True):
            right += int((module(task.prepare(images, None)).argmax(dim=1) == labels).sum())
    return right / len(task.test_labels)


def _generator(*seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(int(np.random.default_rng(seed).integers(2**63)))


def _to_tensors(value: Any) -> Any:
    """Arrays as tensors, which `torch.load` reads without unpickling code."""
    if isinstance(value, dict):
        return {name: _to_tensors(part) for name, part in value.items()}
    return torch.from_numpy(value) if isinstance(value, np.ndarray) else value


def _to_arrays(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _to_arrays(part) for name, part in value.items()}
    return value.numpy() if isinstance(value, torch.Tensor) else value
