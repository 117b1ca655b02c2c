"""From a trained network to an image for the machine, with an account of what it cost and what it kept:

`scripts/compress.py`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from torch import nn

from pymodel.compiler.compile import compile_fitted
from pymodel.cost.counts import image_cost
from pymodel.cost.dense import dense_cost
from pymodel.cost.energy import energy, load_energy
from pymodel.machine.config import DEPTHS, MAX_DEPTH, ArrayConfig
from pymodel.machine.errors import TatamiError
from pymodel.machine.image import Image
from pymodel.machine.model import Machine
from pymodel.machine.slot_rows import check_room, image_tiles, stored_bits, with_decoder
from pymodel.network import network_file
from pymodel.network.accuracy import accuracy_int8
from pymodel.network.float import FloatArray, FloatPool
from pymodel.network.from_torch import from_torch, import_torch
from pymodel.network.integer import INPUT, GlobalPool, Layer, Network
from pymodel.network.quantise import NO_STEPS, calibrate, quantise, quantise_tensor
from pymodel.network.reference import evaluate
from pymodel.packing.pack import refill
from pymodel.report.picture import matrix_picture
from pymodel.schemes import LayerPlan, Scheme, array_for, occupancy
from pymodel.schemes.tight_subword import project
from pymodel.training.identity import MEASURING, identity
from pymodel.training.loop import StepDone, Trained, train
from pymodel.training.schedule import Budget
from pymodel.training.tasks import Task
from pymodel.training.trainer import accuracy

RESIDUAL_LIMIT = 127
KEPT_IMAGES = 100  # test images in network.npz
CALIBRATED = 512  # training images that the scales of the tensors are set by
LOADED_FOR = 100  # images that one load of the memories is shared by, in energies


@dataclass(frozen=True)
class Start:
    """The network before compression: accuracies on the test images; cycles and nJ an image of the dense
    program, and its lanes of weights.

    `of` says what was measured (`pymodel.training.identity`) and for which array. `depths` are those of the
    memories that the dense program needs, or `MAX_DEPTH` where it needs more; `dense_weights` is how many
    weights all layers have.
    """

    of: dict[str, str]
    accuracy_float: Annotated[float, Field(ge=0, le=1)]
    accuracy_int8: Annotated[float, Field(ge=0, le=1)]
    cycles: Annotated[int, Field(gt=0)]
    energy_nj: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    depths: dict[str, Annotated[int, Field(ge=4, le=MAX_DEPTH)]]
    lanes: Annotated[int, Field(gt=0)]
    dense_weights: Annotated[int, Field(gt=0)]

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)

    def machine(self, config: ArrayConfig) -> ArrayConfig:
        """`config` with memories deep enough for the dense program too: energies are compared on
        one machine.
        """
        depths: dict[str, Any] = {
            name: max(getattr(config, name), depth) for name, depth in self.depths.items()
        }
        return replace(config, **depths)

    def save(self, path: Path) -> None:
        draft = path.with_name(f"{path.name}.{os.getpid()}")  # several runs may write it at once
        draft.write_text(json.dumps(asdict(self), indent=1) + "\n")
        draft.replace(path)

    @staticmethod
    def load(path: Path, task: Task, config: ArrayConfig) -> Start:
        """Raises `TatamiError` for a damaged file, and for one of another network, other weights, data or
        array.
        """
        again = "FRESH=1 (--fresh) measures again"
        try:
            start = TypeAdapter(Start).validate_json(path.read_bytes())
        except OSError as error:
            raise TatamiError(f"{path}: cannot be read: {error.strerror}; {again}") from None
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(map(str, first["loc"])) or "content"
            raise TatamiError(f"{path}: not a measured start: {field}: {first['msg']}; {again}") from None
        for name in start.depths:
            if name not in DEPTHS:
                raise TatamiError(f"{path}: depths: '{name}' is none of {', '.join(DEPTHS)}; {again}")
        for name, value in _identity(task, config).items():
            if start.of.get(name) != value:
                there = start.of.get(name, "not said")
                raise TatamiError(f"{path}: {name} is '{there}' there and '{value}' here; {again}")
        return start


def measure_start(task: Task, config: ArrayConfig) -> Start:
    """Measures `task.module` as it is, dense."""
    network, scales = quantised(task, task.module)
    dense = dense_cost(network, config, LOADED_FOR)
    spent = energy(dense.cost, load_energy()).total
    depths = {name: getattr(dense.cost.config, name) for name in DEPTHS}
    return Start(
        of=_identity(task, config),
        accuracy_float=accuracy(task, task.module),
        accuracy_int8=int8_accuracy(task, network, scales),
        cycles=dense.cost.cycles,
        energy_nj=spent,
        depths=depths,
        lanes=dense.lanes,
        dense_weights=_weights(task),
    )


def _identity(task: Task, config: ArrayConfig) -> dict[str, str]:
    return {**identity(task, MEASURING), "config": config.name}


def _weights(task: Task) -> int:
    """Of all layers; of a convolution in groups without the zeros between the blocks."""
    imported = import_torch(task.module, task.input_shape, task.name)
    return sum(
        layer.weight.size // imported.groups[layer.name]
        for layer in imported.network.layers
        if not isinstance(layer, FloatPool)
    )


def compress(
    task: Task,
    scheme: Scheme,
    ratio: float,
    config: ArrayConfig,
    budget: Budget,
    seed: int,
    out: Path,
    start: Start,
    xor: bool = False,
    report: Callable[[StepDone], None] = lambda _: None,
    compiled: bool = False,
    fresh: bool = False,
) -> dict[str, Any]:
    """Compresses a copy of the task's network; writes its files into `out`; returns the report.

    `checkpoint.pt` is the training's, `image.bin` what the machine loads, `network.npz`
    (`pymodel.network.network_file`) the integers, their slots and the first test images, for `make sim
    TEST=network`. `matrix.png` shows one layer before and after permutation and packing. A folder with a
    checkpoint of the same arguments is taken up where it was left, unless `fresh`. One test image runs
    through the array model and must give every byte of the reference. Raises `TatamiError` for bad input.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TatamiError(f"{out}: cannot be made: {error.strerror}") from None
    array = array_for(scheme, config)
    if xor:
        check_room(array)  # before hours of training
    trained = train(task, scheme, ratio, array, budget, seed, out / "checkpoint.pt", report, compiled, fresh)
    network, scales = quantised(task, trained.module, trained.weight_steps)
    network = in_digits(network, trained.plans)
    image = compile_fitted(network, array, plans=trained.plans, scheme=scheme.name, seed=seed)
    mismatches = _run_one(task, network, image, scales[INPUT])
    if mismatches:
        raise TatamiError(
            f"{out}: {mismatches} bytes of the array model differ from the reference: please report this with"
            " the folder"
        )
    image.save(out / "image.bin")
    picture(network, trained.plans, out / "matrix.png", f"{task.name}, {scheme.name} at {ratio:g}x")
    cost = image_cost(image, LOADED_FOR)
    found = {
        "network": task.name,
        "scheme": scheme.name,
        "ratio": ratio,
        "seed": seed,
        "config": config.name,
        "size": array.size,
        "group": array.group,
        "weight_bits": array.weight_bits,
        "start": {
            "weights": task.start,
            "accuracy_float": start.accuracy_float,
            "accuracy_int8": start.accuracy_int8,
        },
        "data": {"name": task.data, "train": len(task.train_labels), "test": len(task.test_labels)},
        "budget": {
            **asdict(budget),
            "steps": trained.steps,
            "seconds": round(trained.seconds, 1),
            "device": device(compiled),
        },
        "accuracy": {"float": accuracy(task, trained.module), "int8": int8_accuracy(task, network, scales)},
        **_sizes(trained),
        "saliency_kept": trained.saliency_kept,
        **trained.figures,
        "bits_per_weight": cost.bits_per_weight(start.dense_weights),
        "image_kbytes": sum(cost.stored_bits.values()) / 8192,
        "stored_bits": cost.stored_bits,
        "cycles": cost.cycles,
        "dense_cycles": start.cycles,
        "bound_cycles": cost.bound_cycles,
        "energy_nj": energy(cost, load_energy(), start.machine(image.config)).total,
        "dense_energy_nj": start.energy_nj,
        "mismatches": mismatches,
        "layers": _layers(trained.plans, image, cost.layers),
    }
    network_file.save(_kept(task, network, scales, trained, found, start), out / "network.npz")
    if xor:
        found["xor_bits_per_weight"] = _xor_bits(image) / start.dense_weights
    return found


def _kept(
    task: Task,
    network: Network,
    scales: dict[str, float],
    trained: Trained,
    found: Mapping[str, Any],
    start: Start,
) -> network_file.Kept:
    images = quantise_tensor(task.prepare(task.test_images[:KEPT_IMAGES], None).numpy(), scales[INPUT])
    meta = {
        name: found[name]
        for name in (
            "network",
            "scheme",
            "ratio",
            "seed",
            "size",
            "group",
            "weight_bits",
            "accuracy",
            "matrix_compression",
        )
    }
    meta |= {
        "scales": scales,
        "dense": {"cycles": start.cycles, "lanes": start.lanes, "weights": start.dense_weights},
    }
    return network_file.Kept(network, images, task.test_labels[:KEPT_IMAGES].numpy(), meta, trained.plans)


def device(compiled: bool) -> str:
    threads = torch.get_num_threads()
    return f"{threads} CPU thread{'s' * (threads > 1)}{', compiled' * compiled}"


def picture(network: Network, plans: dict[str, LayerPlan], path: Path, title: str) -> None:
    """Draws the first planned layer of more than one tile, or the first."""
    packed = {name: plan.packed for name, plan in plans.items() if plan.packed is not None}
    if not packed:
        return
    chosen = next((name for name, p in packed.items() if len(p.tiles) > 1), next(iter(packed)))
    layer = next(layer for layer in network.layers if layer.name == chosen)
    assert not isinstance(layer, GlobalPool)  # it has no weights to plan
    filled = refill(packed[chosen], layer.weight.reshape(len(layer.weight), -1))
    matrix_picture(layer.weight.reshape(len(layer.weight), -1), filled, path, title=f"{title}: {chosen}")


def quantised(
    task: Task, module: nn.Module, steps: Mapping[str, FloatArray] = NO_STEPS
) -> tuple[Network, dict[str, float]]:
    """A module of the task as an int8 network, and the scale of every tensor. `steps` as in `quantise`."""
    network = from_torch(module, task.input_shape, task.name)
    scales = calibrate(network, task.prepare(task.train_images[:CALIBRATED], None).double().numpy())
    return quantise(network, scales, RESIDUAL_LIMIT, steps), scales


def in_digits(network: Network, plans: Mapping[str, LayerPlan]) -> Network:
    """The weights of layers of digits as their slots can hold them.

    Filters that have the step that they were trained with stay as they are.
    """

    def fitted(layer: Layer) -> Layer:
        packed = plans[layer.name].packed if layer.name in plans else None
        if packed is None or not packed.digits or isinstance(layer, GlobalPool):
            return layer
        return replace(layer, weight=project(packed, layer.weight))

    return replace(network, layers=tuple(fitted(layer) for layer in network.layers))


def int8_accuracy(task: Task, network: Network, scales: dict[str, float]) -> float:
    """Accuracy of the int8 network on the test images."""
    images = np.concatenate(
        [
            quantise_tensor(task.prepare(part, None).numpy(), scales[INPUT])
            for part in task.test_images.split(1000)
        ]
    )
    return accuracy_int8(network, images, task.test_labels.numpy())


def _run_one(task: Task, network: Network, image: Image, scale: float) -> int:
    """Bytes of all planes in which the array model, running `image` on the first test image, differs from the
    reference.
    """
    images = quantise_tensor(task.prepare(task.test_images[:1], None).numpy(), scale)
    machine = Machine(image.config, 1)
    machine.load(image.sections)
    machine.load_tensor(image.placements[INPUT], images)
    machine.run(image.run_start)
    places = image.placements
    return sum(
        int((machine.read_tensor(places[name]) != places[name].to_words(tensor)).sum())
        for name, tensor in evaluate(network, images).items()
    )


def _sizes(trained: Trained) -> dict[str, float]:
    """Of the layers that have a plan, against their weights before. `density`: the weights that stay."""
    slots, kept = (
        sum(count)
        for count in zip(
            *((plan.slots, int(plan.mask.sum())) for plan in trained.plans.values()), strict=True
        )
    )
    return {
        "matrix_compression": trained.weights / slots if slots else trained.weights,
        "density": kept / trained.weights,
        "occupancy": occupancy(trained.plans),
    }


def _layers(plans: dict[str, LayerPlan], image: Image, costs: tuple[Any, ...]) -> list[dict[str, Any]]:
    """A row for each layer of the image; `slots` None where nothing was planned."""
    rows = []
    for stats, cost in zip(image.stats["layers"], costs, strict=True):
        plan = plans.get(stats["name"])
        left = int(plan.mask.sum()) if plan else None
        rows.append(
            {
                **stats,
                "kept": left,
                "slots": plan.slots if plan else None,
                "passes": cost.passes,
                "cycles": cost.cycles,
            }
        )
    return rows


def _xor_bits(image: Image) -> int:
    """Stored bits of the image in a machine with the XOR decoder that suits it best."""
    tiles = image_tiles(image)
    return (
        sum(image.bits().values())
        - image.bits()["SLOT"]
        + stored_bits(with_decoder(image.config, tiles), tiles)
    )
