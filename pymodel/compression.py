"""From a trained network to an image for the machine, with an account of what it cost and what it kept: `scripts/compress.py`."""

from __future__ import annotations

import copy
import json
import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pymodel.array import Machine
from pymodel.compile import compile_fitted
from pymodel.config import ArrayConfig
from pymodel.cost import energy, image_cost, load_energy
from pymodel.errors import TatamiError
from pymodel.formats.xor import encode_slots
from pymodel.image import Image
from pymodel.network import INPUT, Network
from pymodel.networks.accuracy import accuracy_int8
from pymodel.networks.from_torch import from_torch
from pymodel.pack import PackedMatrix, Tile
from pymodel.quantise import calibrate, quantise, quantise_tensor
from pymodel.reference import evaluate
from pymodel.schemes import LayerPlan, Scheme, compression, occupancy
from pymodel.tasks import Task
from pymodel.training import Budget, Progressed, accuracy, train

CALIBRATED = 512  # training images that the scales of the tensors are set by


@dataclass(frozen=True)
class Start:
    """The network before compression: accuracies on the test images, and cycles and nJ an image of the dense program."""

    accuracy_float: float
    accuracy_int8: float
    cycles: int
    energy_nj: float


def measure_start(task: Task, config: ArrayConfig) -> Start:
    """Measures `task.module` as it is, dense."""
    network, scales = quantised(task)
    image = compile_fitted(network, config, packing="dense")
    cost = image_cost(image)
    return Start(accuracy(task), int8_accuracy(task, network, scales), cost.cycles, energy(cost, load_energy()).total)


def compress(
    task: Task,
    scheme: Scheme,
    ratio: float,
    config: ArrayConfig,
    budget: Budget,
    seed: int,
    out: Path,
    start: Start | None = None,
    xor: bool = False,
    report: Callable[[Progressed], None] = lambda _: None,
) -> dict[str, Any]:
    """Compresses a copy of the task's network; writes `checkpoint.pt`, `image.bin` and, last, `report.json` into `out`; returns the report.

    A folder with a checkpoint of the same arguments is taken up where it was left. One test image runs through the array model and must give
    every byte of the reference, or it is an error of the project's own. Raises `TatamiError` for bad input.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TatamiError(f"{out}: cannot be made: {error.strerror}") from None
    start = start or measure_start(task, config)
    own = Task(**{**vars(task), "module": copy.deepcopy(task.module)})
    trained = train(own, scheme, ratio, config, budget, seed, out / "checkpoint.pt", report)
    network, scales = quantised(own)
    image = compile_fitted(network, config, plans=trained.plans, scheme=scheme.name, seed=seed)
    mismatches = _run_one(own, network, image, scales[INPUT])
    if mismatches:
        raise TatamiError(f"{out}: {mismatches} bytes of the array model differ from the reference: please report this with the folder")
    image.save(out / "image.bin")
    cost = image_cost(image)
    found = {
        "network": task.name,
        "scheme": scheme.name,
        "ratio": ratio,
        "seed": seed,
        "config": config.name,
        "size": config.size,
        "group": config.group,
        "start": {"weights": task.start, "accuracy_float": start.accuracy_float, "accuracy_int8": start.accuracy_int8},
        "data": {"name": task.data, "train": len(task.train_labels), "test": len(task.test_labels)},
        "budget": {**asdict(budget), "steps": trained.steps, "seconds": round(trained.seconds, 1), "device": device()},
        "accuracy": {"float": accuracy(own), "int8": int8_accuracy(own, network, scales)},
        **_sizes(trained.plans),
        "saliency_kept": trained.saliency_kept,
        "bits_per_weight": cost.bits_per_weight,
        "image_kbytes": sum(cost.stored_bits.values()) / 8192,
        "stored_bits": cost.stored_bits,
        "cycles": cost.cycles,
        "dense_cycles": start.cycles,
        "bound_cycles": cost.bound_cycles,
        "energy_nj": energy(cost, load_energy()).total,
        "dense_energy_nj": start.energy_nj,
        "mismatches": mismatches,
        "layers": _layers(trained.plans, image, cost.layers),
        "tools": {"torch": torch.__version__, "numpy": np.__version__, "python": platform.python_version()},
    }
    if xor:
        found["xor_bits_per_weight"] = _xor_bits(image) / cost.weights
    (out / "report.json").write_text(json.dumps(found, indent=1) + "\n")
    return found


def device() -> str:
    return f"{torch.get_num_threads()} CPU threads"


def quantised(task: Task) -> tuple[Network, dict[str, float]]:
    """The module as an int8 network, and the scale of every tensor."""
    network = from_torch(task.module, task.input_shape, task.name)
    scales = calibrate(network, task.prepare(task.train_images[:CALIBRATED], None).double().numpy())
    return quantise(network, scales), scales


def int8_accuracy(task: Task, network: Network, scales: dict[str, float]) -> float:
    """Accuracy of the int8 network on the test images."""
    images = np.concatenate([quantise_tensor(task.prepare(part, None).numpy(), scales[INPUT]) for part in task.test_images.split(1000)])
    return accuracy_int8(network, images, task.test_labels.numpy())


def _run_one(task: Task, network: Network, image: Image, scale: float) -> int:
    """Bytes of all planes in which the array model, running `image` on the first test image, differs from the reference."""
    images = quantise_tensor(task.prepare(task.test_images[:1], None).numpy(), scale)
    machine = Machine(image.config, 1)
    machine.load(image.sections)
    words = image.placements[INPUT].to_words(images)
    for bank, base, plane in zip(image.placements[INPUT].bank, image.placements[INPUT].base, np.moveaxis(words, 1, 0), strict=True):
        machine.load_feature(bank, base, plane)
    machine.run(image.run_start)
    wrong = 0
    for name, tensor in evaluate(network, images).items():
        place = image.placements[name]
        seen = np.stack([machine.read_feature(bank, base, place.channel_words) for bank, base in zip(place.bank, place.base, strict=True)], axis=1)
        wrong += int((seen != place.to_words(tensor)).sum())
    return wrong


def _sizes(plans: dict[str, LayerPlan]) -> dict[str, float]:
    """Of the layers that have a plan. `density`: the weights that stay."""
    weights = sum(plan.mask.size for plan in plans.values())
    return {
        "matrix_compression": compression(plans),
        "density": sum(int(plan.mask.sum()) for plan in plans.values()) / weights,
        "occupancy": occupancy(plans),
    }


def _layers(plans: dict[str, LayerPlan], image: Image, costs: tuple[Any, ...]) -> list[dict[str, Any]]:
    """A row for each layer of the image; `slots` None where nothing was planned."""
    rows = []
    for stats, cost in zip(image.stats["layers"], costs, strict=True):
        plan = plans.get(stats["name"])
        kept = int(plan.mask.sum()) if plan else None
        rows.append({**stats, "kept": kept, "slots": plan.slots if plan else None, "passes": cost.passes, "cycles": cost.cycles})
    return rows


def _xor_bits(image: Image) -> int:
    """Stored bits of the image with its slots in the format of `pymodel.formats.xor`."""
    slots = image.section("SLOT").words
    weight, select = slots[:, :, 0].astype(np.int8), np.where(slots[:, :, 0] != 0, slots[:, :, 1], 0)
    rows = Tile(np.arange(image.config.size), np.zeros(len(slots), np.int64), select, weight)
    packed = PackedMatrix(np.full((1, image.config.group), -1), (rows,), image.config.size, 0)
    stored = encode_slots(packed, image.config.select_bits, image.config.weight_bits).cost.stored_bits
    return sum(image.bits().values()) - image.bits()["SLOT"] + stored
