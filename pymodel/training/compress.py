"""From a trained network to an image for the machine, and the report of its costs and its accuracy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from pymodel.compiler.agreement import wrong_bytes
from pymodel.compiler.compile import compile_fitted
from pymodel.compiler.lower import diagonal
from pymodel.cost.counts import LayerCost, image_cost
from pymodel.cost.energy import LOADED_FOR, energy, load_energy
from pymodel.machine.config import ArrayConfig
from pymodel.machine.errors import TatamiError
from pymodel.machine.image import Image
from pymodel.machine.slot_rows import check_room, image_tiles, stored_bits, with_decoder
from pymodel.network import network_file
from pymodel.network.integer import Conv, Network, Weighted
from pymodel.network.scale import Scale
from pymodel.packing.pack import refill
from pymodel.report.picture import matrix_picture
from pymodel.report.record import Accuracy, Before, Data, LayerReport, Report, Spent
from pymodel.schemes import LayerPlan, Scheme, array_for, occupancy
from pymodel.training.integers import input_bytes, int8_accuracy, quantised
from pymodel.training.loop import StepDone, Trained, train
from pymodel.training.schedule import Budget
from pymodel.training.start import Start
from pymodel.training.tasks import Task
from pymodel.training.trainer import accuracy

KEPT_IMAGES = 100  # test images in network.npz

# The fields of the report that network.npz has too.
META = {
    "network",
    "scheme",
    "ratio",
    "seed",
    "size",
    "group",
    "weight_bits",
    "accuracy",
    "matrix_compression",
}


@dataclass(frozen=True)
class Recipe:
    """How to compress a network: the scheme, the ratio, the array and the budget of the training.

    `seed` is for training and planning. With `xor` the report also counts the slots as XOR-encoded. With
    `compiled` the training uses `torch.compile`.
    """

    scheme: Scheme
    ratio: float
    config: ArrayConfig
    budget: Budget
    seed: int = 1
    xor: bool = False
    compiled: bool = False

    @property
    def array(self) -> ArrayConfig:
        """The array with the slots that the scheme needs."""
        return array_for(self.scheme, self.config)


@dataclass(frozen=True)
class Compressed:
    """The result of a recipe: the training, its integer network with the scale of every tensor, and the
    image.
    """

    trained: Trained
    network: Network
    scales: dict[str, Scale]
    image: Image


def compress(
    task: Task,
    recipe: Recipe,
    out: Path,
    start: Start,
    progress: Callable[[StepDone], None] = lambda _: None,
    fresh: bool = False,
) -> Report:
    """Compresses a copy of the task's network, writes its files into `out` and returns the report.

    `checkpoint.pt` is the training's, `image.bin` what the machine loads, `network.npz`
    (`pymodel.network.network_file`) the integers, their slots and the first test images, for `make sim
    TEST=network`. `matrix.png` shows one layer before and after permutation and packing. If the folder has a
    checkpoint of the same arguments, the training continues from it, unless `fresh`. The array model runs one
    test image, and every byte must be that of the reference. Raises `TatamiError` for bad input.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TatamiError(f"{out}: cannot be made: {error.strerror}") from None
    if recipe.xor:
        check_room(recipe.array)  # before hours of training
    trained = train(
        task,
        recipe.scheme,
        recipe.ratio,
        recipe.array,
        recipe.budget,
        recipe.seed,
        out / "checkpoint.pt",
        progress,
        recipe.compiled,
        fresh,
    )
    made = lowered(task, recipe, trained)
    made.image.save(out / "image.bin")
    check(task, made, out)
    report = account(task, recipe, made, start)
    title = f"{task.name}, {recipe.scheme.name} at {recipe.ratio:g}x"
    picture(made.network, trained.plans, out / "matrix.png", title)
    network_file.save(kept(task, made, report, start), out / "network.npz")
    return report


def lowered(task: Task, recipe: Recipe, trained: Trained) -> Compressed:
    """The trained network as integers and as an image."""
    network, scales = quantised(task, trained.module, trained.weight_steps, trained.plans)
    image = compile_fitted(
        network, recipe.array, plans=trained.plans, scheme=recipe.scheme.name, seed=recipe.seed
    )
    return Compressed(trained, network, scales, image)


def check(task: Task, made: Compressed, out: Path) -> None:
    """Runs the image on the array model with the first test image. Raises `TatamiError` if any byte of any
    plane differs from the reference.
    """
    image = made.image
    images = input_bytes(task, task.test_images[:1], made.scales)
    mismatches = sum(wrong_bytes(made.network, image, images).values())
    if mismatches:
        raise TatamiError(
            f"{out}: {mismatches} bytes of the array model differ from the reference: please report this with"
            " the folder"
        )


def account(task: Task, recipe: Recipe, made: Compressed, start: Start) -> Report:
    """The report of a network that was compressed and checked."""
    trained, image, array = made.trained, made.image, recipe.array
    size, cost = sizes(trained), image_cost(image, LOADED_FOR)
    figures: dict[str, Any] = trained.figures
    return Report(
        network=task.name,
        scheme=recipe.scheme.name,
        ratio=recipe.ratio,
        seed=recipe.seed,
        config=recipe.config.name,
        size=array.size,
        group=array.group,
        weight_bits=array.weight_bits,
        start=Before(
            weights=task.start, accuracy_float=start.accuracy_float, accuracy_int8=start.accuracy_int8
        ),
        data=Data(name=task.data, train=len(task.train_labels), test=len(task.test_labels)),
        budget=Spent(
            **asdict(recipe.budget),
            steps=trained.steps,
            seconds=round(trained.seconds, 1),
            device=device(recipe.compiled),
        ),
        accuracy=Accuracy(
            float=accuracy(task, trained.module), int8=int8_accuracy(task, made.network, made.scales)
        ),
        matrix_compression=size.matrix_compression,
        density=size.density,
        occupancy=size.occupancy,
        saliency_kept=trained.saliency_kept,
        **figures,
        bits_per_weight=cost.bits_per_weight(start.dense_weights),
        image_kbytes=sum(cost.stored_bits.values()) / 8192,
        stored_bits=cost.stored_bits,
        cycles=cost.cycles,
        dense_cycles=start.cycles,
        bound_cycles=cost.bound_cycles,
        energy_nj=energy(cost, load_energy(), start.machine(image.config)).total,
        dense_energy_nj=start.energy_nj,
        mismatches=0,  # `check` raises otherwise
        layers=layer_reports(trained.plans, image, cost.layers),
        xor_bits_per_weight=xor_bits(image) / start.dense_weights if recipe.xor else None,
        scales_kept=scales_kept(task, made.scales) if task.scales else None,
    )


def scales_kept(task: Task, scales: Mapping[str, Scale]) -> int:
    """How many tensors still have the scale that they had when the network was quantised before."""
    return sum(scales.get(name) == one for name, one in task.scales.items())


def device(compiled: bool) -> str:
    """The device that trains, for the report."""
    threads = torch.get_num_threads()
    text = "1 CPU thread" if threads == 1 else f"{threads} CPU threads"
    return f"{text}, compiled" if compiled else text


class Sizes(NamedTuple):
    """Sizes of all layers that have a plan. `density` is the share of their weights that stays."""

    matrix_compression: float
    density: float
    occupancy: float


def sizes(trained: Trained) -> Sizes:
    slots = sum(plan.slots for plan in trained.plans.values())
    stay = sum(int(plan.mask.sum()) for plan in trained.plans.values())
    compression = trained.weights / slots if slots else trained.weights
    return Sizes(compression, stay / trained.weights, occupancy(trained.plans))


def layer_reports(
    plans: Mapping[str, LayerPlan], image: Image, costs: tuple[LayerCost, ...]
) -> tuple[LayerReport, ...]:
    """One report for each layer of the image."""
    found = []
    for stats, cost in zip(image.stats["layers"], costs, strict=True):
        plan = plans.get(stats["name"])
        found.append(
            LayerReport(
                **stats,
                kept=None if plan is None else int(plan.mask.sum()),
                slots=None if plan is None else plan.slots,
                passes=cost.passes,
                cycles=cost.cycles,
            )
        )
    return tuple(found)


def xor_bits(image: Image) -> int:
    """Stored bits of the image in a machine with the XOR decoder that suits it best."""
    tiles, plain = image_tiles(image), image.bits()
    return sum(plain.values()) - plain["SLOT"] + stored_bits(with_decoder(image.config, tiles), tiles)


def kept(task: Task, made: Compressed, report: Report, start: Start) -> network_file.StoredNetwork:
    """The content of network.npz."""
    images = input_bytes(task, task.test_images[:KEPT_IMAGES], made.scales)
    meta: dict[str, Any] = report.model_dump(include=META)
    meta["scales"] = {name: one.step for name, one in made.scales.items()}
    meta["zero_points"] = {name: one.zero for name, one in made.scales.items()}
    meta["dense"] = {"cycles": start.cycles, "lanes": start.lanes, "weights": start.dense_weights}
    labels = task.test_labels[:KEPT_IMAGES].numpy()
    return network_file.StoredNetwork(made.network, images, labels, meta, made.trained.plans)


def picture(network: Network, plans: Mapping[str, LayerPlan], path: Path, title: str) -> None:
    """Draws the first planned layer that has more than one tile, or else the first planned layer."""
    packed = {name: plan.packed for name, plan in plans.items() if plan.packed is not None}
    if not packed:
        return
    chosen = next((name for name, p in packed.items() if len(p.tiles) > 1), next(iter(packed)))
    layer = next(layer for layer in network.layers if layer.name == chosen)
    assert isinstance(layer, Weighted)  # only these are planned
    groups = layer.groups if isinstance(layer, Conv) else 1
    filters = len(layer.weight)
    (whole,) = diagonal(layer.weight.reshape(groups, filters // groups, -1), filters)
    matrix_picture(whole.weight, refill(packed[chosen], whole.weight), path, title=f"{title}: {chosen}")
