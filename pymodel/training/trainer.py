"""Training under a compression scheme. The network is pruned step by step to the requested ratio, permuted
anew at every step, then retrained.

The compression ratio rises along the cubic schedule of Zhu and Gupta (arXiv 1710.01878) over the first part
of the steps. At each rise the scheme makes a new plan. Between the plans a pruned weight is zero in the
network. A dense copy of it continues to learn from the gradient at that place, so that a later plan may take
it back (dynamic network surgery; Guo et al., arXiv 1608.04493). Within a filter, pruned weights learn no
faster on average than the weights that stay (`held_back`). With the same seed, every scheme is trained by the
same steps on the same images in the same order.
"""

from __future__ import annotations

import copy
import hashlib
import io
import math
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from pymodel.compiler.planning import Parts, parts_of, plan_parts
from pymodel.machine.config import ArrayConfig
from pymodel.machine.errors import TatamiError
from pymodel.machine.files import write_bytes
from pymodel.network.float import FloatArray
from pymodel.network.from_torch import Imported, import_torch
from pymodel.network.integer import groups_of
from pymodel.schemes import LayerPlan, LayerWeights, Plans, Scheme, saliency_kept
from pymodel.training.identity import TRAINING, identity
from pymodel.training.schedule import Budget
from pymodel.training.tasks import Task, told

TEMPERATURE = 4.0  # of both networks' logits in distillation, of the range that Hinton et al. use
SMOOTHING = 0.9  # of the squared products of weight and gradient, from step to step
EVALUATED = 500  # images at a time


class Trainer:
    """The state of a training: the module, and for each planned weight a dense copy that learns and the mask
    that the module applies to it.
    """

    def __init__(
        self,
        task: Task,
        scheme: Scheme,
        ratio: float,
        config: ArrayConfig,
        budget: Budget,
        seed: int,
        compiled: bool = False,
    ) -> None:
        self.task, self.scheme, self.config, self.budget, self.seed = task, scheme, config, budget, seed
        self.module = self.prepared().to(memory_format=torch.channels_last)  # faster on a CPU
        self.forward: Callable[[torch.Tensor], torch.Tensor] = (
            torch.compile(self.module) if compiled else self.module
        )
        self.teacher: Callable[[torch.Tensor], torch.Tensor] | None = None
        if budget.distillation:
            start = copy.deepcopy(task.module).to(memory_format=torch.channels_last).eval()
            self.teacher = torch.compile(start) if compiled else start
        imported = import_torch(self.runnable(), task.input_shape, task.name)
        parameters = dict(self.module.named_parameters())
        self.seen = {
            name: parameters[path] for name, path in self.paths(imported).items() if name not in task.keep
        }
        self.dense = {name: weight.detach().clone().requires_grad_() for name, weight in self.seen.items()}
        self.masks = {name: torch.ones_like(weight) for name, weight in self.seen.items()}
        self.score: dict[str, torch.Tensor] = {}
        self.skeleton = imported.network.skeleton
        self.steps = budget.steps(len(task.train_images))
        self.step, self.ratio, self.kept, self.seconds = 0, 1.0, 1.0, 0.0
        self.plans: dict[str, LayerPlan] = {}
        others = [p for p in parameters.values() if not any(p is weight for weight in self.seen.values())]
        nesterov = {
            "momentum": budget.momentum,
            "nesterov": budget.momentum > 0,
            "weight_decay": budget.weight_decay,
        }
        self.optimizer = torch.optim.SGD([*self.dense.values(), *others], budget.learning_rate, **nesterov)
        # what must be equal in a checkpoint of this training
        self.arguments = {
            **identity(task, TRAINING),
            "scheme": scheme.name,
            "ratio": ratio,
            "config": config.name,
            "size": config.size,
            "group": config.group,
            "weight_bits": config.weight_bits,
            "seed": seed,
            **asdict(budget),
        }

    # The methods that a scheme with its own training replaces (`pymodel.training.penni`).

    def prepared(self) -> nn.Module:
        """The module to train, a copy."""
        return copy.deepcopy(self.task.module)

    def runnable(self) -> nn.Module:
        """The module in layers that the machine runs, with its present weights."""
        return self.module

    def paths(self, imported: Imported) -> dict[str, str]:
        """The parameter of each layer's pruned weight, by layer name."""
        return imported.weights

    def loss(self, inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Cross entropy. `Budget.distillation` is the part of it that the divergence from the start network
        takes, of both at a temperature, times its square (Hinton et al., arXiv 1503.02531, section 2).
        """
        logits, part = self.logits(inputs), self.budget.distillation
        plain = functional.cross_entropy(logits, labels)
        if self.teacher is None:
            return plain
        with torch.no_grad():
            said = functional.log_softmax(self.logits(inputs, self.teacher) / TEMPERATURE, dim=1)
        mine = functional.log_softmax(logits / TEMPERATURE, dim=1)
        apart = functional.kl_div(mine, said, reduction="batchmean", log_target=True)
        return (1 - part) * plain + part * TEMPERATURE**2 * apart

    def logits(
        self, inputs: torch.Tensor, forward: Callable[[torch.Tensor], torch.Tensor] | None = None
    ) -> torch.Tensor:
        """Of the network that learns, or of another."""
        with torch.autocast("cpu", torch.bfloat16, enabled=self.budget.precision == "bfloat16"):
            return (forward or self.forward)(inputs).float()

    @property
    def weights(self) -> int:
        """Weights that the planned layers had before compression."""
        return sum(weight.numel() for weight in self.seen.values())

    def figures(self) -> dict[str, float]:
        """Additional figures of the result."""
        return {}

    def weight_steps(self) -> dict[str, FloatArray]:
        """The real value of one integer step of each filter [F], by layer, if the quantiser must not choose
        it.
        """
        return {}

    def matrices(self) -> tuple[dict[str, FloatArray], dict[str, FloatArray]]:
        """The weights and the saliencies of the layers that the scheme has to plan, [F, inputs of a group].

        Taylor saliencies count from the second plan on, because before the first step there is no gradient.
        """
        weights, saliencies = {}, {}
        for name, weight in self.dense.items():
            weights[name] = _matrix(weight)
            saliencies[name] = _matrix(self.score.get(name, weight.detach().square()))
        return weights, saliencies

    def parts(self) -> dict[str, Parts]:
        """The layers that the scheme has to plan, convolutions in groups block by block."""
        return parts_of(self.skeleton, self.config, *self.matrices(), whole_tiles=self.scheme.prunes)

    def saliency_kept(self, layers: list[LayerWeights], plans: Plans) -> float:
        """The share of the saliency that the plans keep."""
        return saliency_kept(layers, plans)

    def plan(self, ratio: float) -> None:
        """Asks the scheme for a new plan and prunes."""
        parts = self.parts()
        # the same arrangement for the same weights, at whatever step the run was continued
        rng = np.random.default_rng([self.seed, self.step])
        plans = plan_parts(parts, self.scheme, ratio, self.config, rng)
        self.plans = {name: part.plan(plans) for name, part in parts.items()}
        self.ratio = ratio
        self.kept = self.saliency_kept([one for part in parts.values() for one in part.weights], plans)
        for name, weight in self.dense.items():
            mask = torch.from_numpy(np.ascontiguousarray(self.plans[name].mask))
            self.masks[name] = mask.reshape(weight.shape).to(weight.dtype)
        self.apply()

    def apply(self) -> None:
        with torch.no_grad():
            for name, weight in self.seen.items():
                torch.mul(self.dense[name], self.masks[name], out=weight)

    def learn(self) -> float:
        """One step. Returns the loss."""
        images, budget = len(self.task.train_images), self.budget
        per_epoch = math.ceil(images / budget.batch)
        epoch, number = divmod(self.step, per_epoch)
        order = torch.randperm(images, generator=_generator(self.seed, 0, epoch))
        batch = order[number * budget.batch : (number + 1) * budget.batch]
        if len(batch) == 1 < budget.batch and images > 1:
            batch = order[-2:]  # a batch norm cannot tell one image from the mean of its batch
        inputs = self.task.prepare(self.task.train_images[batch], _generator(self.seed, 1, self.step))
        try:
            loss = self.loss(inputs, self.task.train_labels[batch])
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise TatamiError(
                f"network '{self.task.name}': a batch norm needs more than one value for each channel, one"
                " image gives one; budget: batch must be at least 2, and so many images to train on"
            ) from None
        if not torch.isfinite(loss):
            where = f"network '{self.task.name}', step {self.step}"
            raise TatamiError(
                f"{where}: loss is {loss.item()}; learning_rate {budget.learning_rate} is too large for it"
            )
        for weight in self.module.parameters():
            weight.grad = None
        loss.backward()
        for name, weight in self.seen.items():
            # also for weights whose mask is zero
            self.dense[name].grad = None if weight.grad is None else held_back(weight.grad, self.masks[name])
            if budget.saliency == "taylor" and weight.grad is not None:
                square = (self.dense[name].detach() * weight.grad).square()
                self.score[name] = (
                    self.score[name].lerp(square, 1 - SMOOTHING) if name in self.score else square
                )
        for group in self.optimizer.param_groups:
            group["lr"] = budget.learning_rate * budget.rate(self.step, self.steps)
        self.optimizer.step()
        self.apply()
        self.step += 1
        return float(loss.item())

    def save(self, path: Path) -> None:
        """Writes the file completely or not at all."""
        state = {
            "arguments": self.arguments,
            "run": {name: getattr(self, name) for name in RUN},
            "plans": {name: plan.to_arrays() for name, plan in self.plans.items()},
            "tensors": {name: getattr(self, name) for name in ("dense", "masks", "score")},
            "module": self.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        content = io.BytesIO()
        torch.save(_to_tensors(state), content)
        whole = content.getvalue()
        write_bytes(path, whole + hashlib.sha256(whole).digest())

    def load(self, path: Path) -> None:
        """Continues a saved training, completely or not at all. Raises `TatamiError` for a damaged file and
        for one of other arguments.
        """
        state = _read(path)
        try:
            arguments = state["arguments"]
            for name, value in self.arguments.items():
                if name not in arguments or arguments[name] != value:
                    there = arguments.get(name, "not said")
                    raise TatamiError(f"{path}: {name} is {there} there and {value} here; {ANEW}")
            run = {name: state["run"][name] for name in RUN}
            groups = groups_of(self.skeleton)
            plans = {
                name: LayerPlan.from_arrays(_to_arrays(plan), groups[name])
                for name, plan in state["plans"].items()
            }
            with torch.no_grad():
                for name, weight in state["tensors"]["dense"].items():
                    self.dense[name].copy_(weight)
            masks, score = state["tensors"]["masks"], state["tensors"]["score"]
            self.module.load_state_dict(state["module"])
            self.optimizer.load_state_dict(state["optimizer"])
        except TatamiError:
            raise
        except Exception as error:  # what torch raises is not documented
            raise TatamiError(f"{path}: not a checkpoint ({told(error)}); {ANEW}") from None
        for name, value in run.items():
            setattr(self, name, value)
        self.plans, self.masks, self.score = plans, masks, score


ANEW = "FRESH=1 starts anew"


def _read(path: Path) -> Any:
    """The content of a checkpoint, which is a file of torch with its SHA-256 at the end."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise TatamiError(f"{path}: cannot be read: {error.strerror}; {ANEW}") from None
    whole, digest = raw[:-DIGEST_BYTES], raw[-DIGEST_BYTES:]
    if hashlib.sha256(whole).digest() != digest:
        raise TatamiError(f"{path}: not a checkpoint, or damaged (its checksum is wrong); {ANEW}")
    try:
        return torch.load(io.BytesIO(whole), weights_only=True)
    except Exception as error:  # what a file of something else makes torch raise is not documented
        raise TatamiError(f"{path}: not a checkpoint, or damaged ({told(error)}); {ANEW}") from None


DIGEST_BYTES = hashlib.sha256().digest_size
# What a checkpoint holds of a trainer besides tensors and plans.
RUN = ("step", "ratio", "kept", "seconds")


def held_back(gradient: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """A gradient [F, ...] whose pruned part has at most the root mean square of the part that stays, filter
    by filter. `mask` is 1 for what stays.

    The output of a filter with few weights left, or none, varies little from image to image, and the batch
    norm after it divides by that variation. The gradient of its pruned weights is then up to 300 times that
    of a living filter. Without this limit they grow until a global ranking keeps only them.
    """
    flat, stays = gradient.flatten(1), mask.flatten(1)
    pruned = 1 - stays
    square = flat.square()
    most, mine = ((square * part).sum(1) / part.sum(1).clamp(min=1) for part in (stays, pruned))
    factor = torch.where(mine > most, most / mine, 1.0).sqrt()
    return torch.where(stays > 0, flat, flat * factor[:, None]).reshape(gradient.shape)


def accuracy(task: Task, module: nn.Module) -> float:
    """Share of the task's test images that a module, as it is, classifies correctly."""
    module.eval()
    right = 0
    with torch.no_grad():
        for images, labels in zip(
            task.test_images.split(EVALUATED), task.test_labels.split(EVALUATED), strict=True
        ):
            right += int((module(task.prepare(images, None)).argmax(dim=1) == labels).sum())
    return right / len(task.test_labels)


def _matrix(weight: torch.Tensor) -> FloatArray:
    """[F, ...] as float64 [F, K]."""
    matrix: FloatArray = weight.detach().reshape(len(weight), -1).double().numpy()
    return matrix


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
