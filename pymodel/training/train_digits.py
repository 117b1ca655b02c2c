"""Trains the digits network: torch, gradual magnitude pruning, int8. `make train NET=digits` runs it.

The data are scikit-learn's 1797 digits of 8 x 8 pixels (UCI optical recognition of handwritten digits, test
part). A fixed stratified split keeps 450 of them for measuring; nothing is chosen by them, neither weights
nor scales nor the epoch.

    input 1x8x8 - c1 16x8x8 - c2 stride 2, 32x4x4 - c3 32x4x4 - c4 32x4x4, + c2 - pool 32x1x1 - fc 10x1x1

Each convolution is 3 x 3 with batch norm (folded afterwards) and ReLU, c4's ReLU after the sum. Two phases of
one cosine each: dense, then pruned along the cubic schedule over the first part and retrained over the rest.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.nn import functional

from pymodel.machine.errors import TatamiError
from pymodel.network.float import FloatNetwork, evaluate_float
from pymodel.network.from_torch import from_torch
from pymodel.network.integer import INPUT, Conv, Linear, Network
from pymodel.network.network_file import StoredNetwork, accuracy, save
from pymodel.network.quantise import calibrate, quantise, quantise_tensor
from pymodel.network.reference import evaluate
from pymodel.packing.prune import global_masks, sparsity_of
from pymodel.training.schedule import cubic_sparsity
from pymodel.zoo.digits import DATA

FloatArray = npt.NDArray[np.float64]
Labels = npt.NDArray[np.uint8]

HELD_OUT = 450
SPLIT_SEED = 0  # of the split alone: the same images are held out whatever the seed of the training
PIXEL_PEAK = 16  # scikit-learn's grey levels are 0..16


@dataclass(frozen=True)
class DigitsTraining:
    """How to train.

    Sparsity is of all weights together; the schedule reaches it `retrain_epochs` before the end.
    """

    dense_epochs: int = 40
    prune_epochs: int = 80
    retrain_epochs: int = 100
    sparsity: float = 0.94
    batch: int = 32
    learning_rate: float = 4e-3
    weight_decay: float = 1e-4
    label_smoothing: float = 0.05
    rotation: float = 6.0  # degrees, either way, as the next two
    scaling: float = 0.05
    shift: float = 0.4  # pixels


@dataclass(frozen=True)
class EpochDone:
    """After an epoch: its number (from 1), mean loss, sparsity of the weights, accuracy on the images that it
    was trained on.
    """

    epoch: int
    loss: float
    sparsity: float
    accuracy: float


class DigitsNet(nn.Module):
    """The network of this module's docstring: float32 [B, 1, 8, 8] in 0..1 -> logits [B, 10]."""

    def __init__(self) -> None:
        super().__init__()
        self.c1 = nn.Conv2d(1, 16, 3, padding=1, bias=False)
        self.c2 = nn.Conv2d(16, 32, 3, padding=1, stride=2, bias=False)
        self.c3 = nn.Conv2d(32, 32, 3, padding=1, bias=False)
        self.c4 = nn.Conv2d(32, 32, 3, padding=1, bias=False)
        self.fc = nn.Linear(32, 10)
        self.n1, self.n2, self.n3, self.n4 = (
            nn.BatchNorm2d(16),
            nn.BatchNorm2d(32),
            nn.BatchNorm2d(32),
            nn.BatchNorm2d(32),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        first = functional.relu(self.n1(self.c1(images)))
        trunk = functional.relu(self.n2(self.c2(first)))
        branch = functional.relu(self.n3(self.c3(trunk)))
        joined = functional.relu(self.n4(self.c4(branch)) + trunk)
        logits: torch.Tensor = self.fc(joined.mean(dim=(2, 3)))
        return logits

    def weights(self) -> dict[str, nn.Parameter]:
        """The weights that are pruned, by layer name."""
        return {name: getattr(self, name).weight for name in ("c1", "c2", "c3", "c4", "fc")}


def split_digits() -> tuple[FloatArray, Labels, FloatArray, Labels]:
    """Images [N, 1, 8, 8] in 0..1 and labels [N]: those to train on, then the 450 that are held out,
    stratified by label.
    """
    bunch = load_digits()
    images = (bunch.images / PIXEL_PEAK)[:, None]
    train, held, train_labels, held_labels = train_test_split(
        images,
        bunch.target.astype(np.uint8),
        test_size=HELD_OUT,
        stratify=bunch.target,
        random_state=SPLIT_SEED,
    )
    return train, train_labels, held, held_labels


def train(
    images: FloatArray,
    labels: Labels,
    settings: DigitsTraining,
    generator: torch.Generator,
    report: Callable[[EpochDone], None],
) -> tuple[DigitsNet, FloatNetwork]:
    """Trains on images [N, 1, 8, 8] in 0..1 and labels [N]. Returns the pruned network, and the folded
    network before pruning.

    All random numbers come from `generator` (the first weights too). `report` is called after every epoch.
    """
    net = train_dense(images, labels, settings, generator, report)
    inputs, targets = torch.from_numpy(images).float(), torch.from_numpy(labels).long()
    pruned_epochs = settings.prune_epochs + settings.retrain_epochs
    dense = fold(net)
    _train_phase(net, inputs, targets, settings, generator, pruned_epochs, settings.dense_epochs, report)
    return net, dense


def train_dense(
    images: FloatArray,
    labels: Labels,
    settings: DigitsTraining,
    generator: torch.Generator,
    report: Callable[[EpochDone], None] = lambda _: None,
) -> DigitsNet:
    """The first phase of `train`: nothing is pruned."""
    # torch draws initial weights from its global generator only.
    with torch.random.fork_rng():
        torch.manual_seed(generator.initial_seed())
        net = DigitsNet()
    inputs, targets = torch.from_numpy(images).float(), torch.from_numpy(labels).long()
    _train_phase(net, inputs, targets, settings, generator, settings.dense_epochs, None, report)
    return net


def _train_phase(
    net: DigitsNet,
    inputs: torch.Tensor,
    targets: torch.Tensor,
    settings: DigitsTraining,
    generator: torch.Generator,
    epochs: int,
    pruning_after: int | None,
    report: Callable[[EpochDone], None],
) -> None:
    """One cosine of learning rate over `epochs`. With `pruning_after` (epochs done before) the network is
    pruned during the phase.
    """
    batches = math.ceil(len(inputs) / settings.batch)
    optimizer = torch.optim.AdamW(
        net.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=max(1, epochs * batches))
    masks: dict[str, torch.Tensor] = {}
    net.train()
    for epoch in range(epochs):
        loss_sum, right = 0.0, 0
        if pruning_after is not None:
            sparsity = cubic_sparsity(epoch + 1, 0, max(1, settings.prune_epochs), settings.sparsity)
            found = global_masks(
                {name: weight.detach().numpy() for name, weight in net.weights().items()}, sparsity
            )
            masks = {name: torch.from_numpy(mask) for name, mask in found.items()}
            _apply(net, masks)
        for batch in torch.randperm(len(inputs), generator=generator).split(settings.batch):
            logits = net(distort(inputs[batch], settings, generator))
            loss = functional.cross_entropy(logits, targets[batch], label_smoothing=settings.label_smoothing)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            cosine.step()
            _apply(net, masks)
            loss_sum += loss.item() * len(batch)
            right += int((logits.argmax(dim=1) == targets[batch]).sum())
        sparsity = sparsity_of({name: weight.detach().numpy() for name, weight in net.weights().items()})
        report(
            EpochDone((pruning_after or 0) + epoch + 1, loss_sum / len(inputs), sparsity, right / len(inputs))
        )
    net.eval()


def _apply(net: DigitsNet, masks: dict[str, torch.Tensor]) -> None:
    with torch.no_grad():
        for name, mask in masks.items():
            net.weights()[name].mul_(mask)


def distort(images: torch.Tensor, settings: DigitsTraining, generator: torch.Generator) -> torch.Tensor:
    """Each image [B, 1, 8, 8] rotated, scaled and shifted a little at random, with zeros from outside."""

    def either_way(limit: float) -> torch.Tensor:
        return (2 * torch.rand(len(images), generator=generator) - 1) * limit

    angle, scale = either_way(math.radians(settings.rotation)), 1 + either_way(settings.scaling)
    # affine_grid counts from -1 to 1
    across, down = (either_way(settings.shift * 2 / images.shape[-1]) for _ in range(2))
    turn = torch.stack(
        [scale * angle.cos(), -scale * angle.sin(), across, scale * angle.sin(), scale * angle.cos(), down],
        dim=1,
    )
    grid = functional.affine_grid(turn.reshape(-1, 2, 3), list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, align_corners=False)


def fold(net: DigitsNet) -> FloatNetwork:
    """The trained network with its batch norms folded, as the quantiser takes it: c1 .. c4, pool, fc."""
    return from_torch(net, (1, 8, 8), "digits")


def layer_weights(network: Network) -> dict[str, npt.NDArray[np.integer]]:
    """The int8 weights of the layers that have any, by name."""
    return {layer.name: layer.weight for layer in network.layers if isinstance(layer, Conv | Linear)}


def run(
    seed: int,
    path: Path | None = None,
    settings: DigitsTraining | None = None,
    console: Console | None = None,
) -> dict[str, Any]:
    """Trains, measures on the held-out images, writes `path` (default: the kept data), shows a table, and
    returns the figures.

    It uses one thread, so that the same seed gives the same file with the same torch. `accuracy_float` is
    that of the dense network before pruning, `accuracy_pruned` that of the pruned network in float, and
    `accuracy_int8` that of `reference`. Raises TatamiError for a seed outside of 0 .. 2**63 - 1 or a path in
    no directory.
    """
    path, settings, console = path or DATA, settings or DigitsTraining(), console or Console()
    if not 0 <= seed < 2**63:
        raise TatamiError(f"seed is {seed}, must be in 0..{2**63 - 1}")
    if not path.parent.is_dir():
        raise TatamiError(f"{path}: no such directory")
    begin = time.perf_counter()
    torch.set_num_threads(1)  # also the fastest for layers this small
    torch.use_deterministic_algorithms(True)
    images, labels, held_images, held_labels = split_digits()
    epochs = settings.dense_epochs + settings.prune_epochs + settings.retrain_epochs
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn(
            "loss {task.fields[loss]:.3f}  sparsity {task.fields[sparsity]:.3f}  accuracy"
            " {task.fields[accuracy]:.3f}"
        ),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("dense", total=epochs, loss=math.nan, sparsity=0.0, accuracy=0.0)

        def report(now: EpochDone) -> None:
            phases = (settings.dense_epochs, settings.dense_epochs + settings.prune_epochs)
            name = ("dense", "prune", "retrain")[sum(now.epoch > end for end in phases)]
            progress.update(
                task,
                completed=now.epoch,
                description=name,
                loss=now.loss,
                sparsity=now.sparsity,
                accuracy=now.accuracy,
            )

        net, dense = train(images, labels, settings, torch.Generator().manual_seed(seed), report)

    pruned = fold(net)
    scales = calibrate(pruned, images)
    network = quantise(pruned, scales)
    inputs = quantise_tensor(held_images, scales[INPUT])
    weights = layer_weights(network)
    figures: dict[str, Any] = {
        "net": "digits",
        "seed": seed,
        "sparsity": round(sparsity_of(weights), 4),
        "accuracy_float": round(accuracy(evaluate_float(dense, held_images)["fc"], held_labels), 4),
        "accuracy_pruned": round(accuracy(evaluate_float(pruned, held_images)["fc"], held_labels), 4),
        "accuracy_int8": round(accuracy(evaluate(network, inputs)["fc"], held_labels), 4),
        "held_out": len(held_labels),
        "weights": sum(weight.size for weight in weights.values()),
        "nonzero": {name: int(np.count_nonzero(weight)) for name, weight in weights.items()},
    }
    how = {
        "settings": asdict(settings),
        "trained_on": len(labels),
        "split_seed": SPLIT_SEED,
        "scales": scales,
        "torch": torch.__version__,
    }
    save(StoredNetwork(network, inputs, held_labels, figures | how), path)
    figures |= {
        "epochs": epochs,
        "file_bytes": path.stat().st_size,
        "seconds": round(time.perf_counter() - begin, 1),
    }
    _show(console, network, figures, path)
    return figures


def _show(console: Console, network: Network, figures: dict[str, Any], path: Path) -> None:
    layers = Table(title=f"digits, seed {figures['seed']}: int8 weights by layer")
    for heading in ("layer", "filters", "weights", "kept", "sparsity", "empty filters"):
        layers.add_column(heading, justify="left" if heading == "layer" else "right")
    for name, weight in layer_weights(network).items():
        kept = int(np.count_nonzero(weight))
        empty = int((~weight.reshape(len(weight), -1).any(axis=1)).sum())
        layers.add_row(
            name, str(len(weight)), str(weight.size), str(kept), f"{1 - kept / weight.size:.1%}", str(empty)
        )
    layers.add_section()
    layers.add_row(
        "all",
        "",
        str(figures["weights"]),
        str(sum(figures["nonzero"].values())),
        f"{figures['sparsity']:.1%}",
        "",
    )
    console.print(layers)
    measured = Table(title=f"accuracy on {figures['held_out']} held-out images")
    for heading in ("dense float", "pruned float", "pruned int8"):
        measured.add_column(heading, justify="right")
    measured.add_row(
        *(f"{figures[name]:.2%}" for name in ("accuracy_float", "accuracy_pruned", "accuracy_int8"))
    )
    console.print(measured)
    console.print(
        f"{path}: {figures['file_bytes']} bytes, {figures['seconds']} s", soft_wrap=True, highlight=False
    )
