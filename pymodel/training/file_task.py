"""What is trained where a user names a file of another tool: `make compress NETWORK=model.tflite`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from pymodel.machine.errors import TatamiError
from pymodel.network.dequantise import dequantised
from pymodel.network.float import FloatConv, FloatLinear, FloatNetwork, FloatWeighted
from pymodel.network.integer import INPUT
from pymodel.network.load_model import GROUPS, load_model
from pymodel.network.model_file import FloatFile, legal_name
from pymodel.network.to_torch import to_torch
from pymodel.training.from_file import kept_layers
from pymodel.training.tasks import Task, fingerprint, get_task
from pymodel.zoo import cifar
from pymodel.zoo.given_images import load_sets


def task_of(network: str, weights: Path | None, data: Path | None) -> Task:
    """The network of a file of another tool, or what `get_task` gives. Raises `TatamiError` as it and
    `task_of_file` do, and for `weights` beside a file, which has its own.
    """
    if Path(network).suffix not in GROUPS:
        return get_task(network, weights, data)
    if weights is not None:
        raise TatamiError(f"WEIGHTS '{weights}': network '{network}' brings its own")
    return task_of_file(Path(network), data)


def task_of_file(path: Path, data: Path | None) -> Task:
    """The network of a file, with the images of `data` to train and to test on. The weights of a quantised
    file are back in real numbers. No scheme prunes the first layer with weights, nor depthwise convolutions.

    Images are brought to -1..1 by one factor, and the layers that read them take it back: their weights are
    then of the size of the others'. Raises `TatamiError` without `data`, and as `load_model`, `dequantised`,
    `to_torch` and `load_sets` do.
    """
    if data is None:
        raise TatamiError(
            f"network '{path}' needs DATA to train on; without it, `make sim TEST=network WEIGHTS={path}"
            " SCHEME=... RATIO=...` prunes it"
        )
    file = load_model(path)
    network = file.network if isinstance(file, FloatFile) else dequantised(file)
    (images, labels), (test_images, test_labels) = load_sets(data, network.input_shape)
    factor = float(np.abs(images.astype(np.float32)).max(initial=0)) or 1.0
    network, factor = _scaled(network, factor)
    try:
        module, names = to_torch(network)
    except TatamiError as error:
        raise TatamiError(f"{path}: {error}") from None
    shifted = data.is_dir()  # pictures of things: a step aside, or mirrored, they are the same things

    def prepare(batch: torch.Tensor, generator: torch.Generator | None) -> torch.Tensor:
        moved = cifar.augment(batch, generator) if shifted and generator is not None else batch
        return moved.float() / factor

    return Task(
        legal_name(path.stem, "network"),
        module,
        network.input_shape,
        torch.from_numpy(images),
        torch.from_numpy(labels.astype(np.int64)),
        torch.from_numpy(test_images),
        torch.from_numpy(test_labels.astype(np.int64)),
        prepare,
        tuple(names[name] for name in kept_layers(network.layers, FloatWeighted)),
        fingerprint(path),
        f"{data.name}, {len(labels)} to train on",
    )


def _scaled(network: FloatNetwork, factor: float) -> tuple[FloatNetwork, float]:
    """The network for an input that is less by `factor`, and the factor: 1 if other layers than those with
    weights read the input.
    """
    readers = [
        layer
        for layer, blank in zip(network.layers, network.skeleton.layers, strict=True)
        if INPUT in blank.reads()
    ]
    if not all(
        isinstance(layer, FloatConv | FloatLinear) and getattr(layer, "residual", None) is None
        for layer in readers
    ):
        return network, 1.0
    layers = tuple(
        replace(layer, weight=layer.weight * factor)
        if isinstance(layer, FloatConv | FloatLinear) and layer.source == INPUT
        else layer
        for layer in network.layers
    )
    return FloatNetwork(network.name, network.input_shape, layers), factor
