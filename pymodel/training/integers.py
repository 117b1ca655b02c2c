"""A task's module as the integer network that the machine runs, and the accuracy of that network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from pymodel.network.accuracy import accuracy_int8
from pymodel.network.bias_correction import corrected
from pymodel.network.float import FloatArray
from pymodel.network.from_torch import from_torch
from pymodel.network.integer import INPUT, Layer, Network, Weighted
from pymodel.network.quantise import NO_STEPS, channel_peaks, quantise, scales_of
from pymodel.network.ranges import held_scales
from pymodel.network.scale import Scale
from pymodel.schemes import LayerPlan
from pymodel.schemes.tight_subword import project
from pymodel.training.tasks import Task

RESIDUAL_LIMIT = 127
CALIBRATED = 512  # training images that the scales of the tensors are set by
EVALUATED = 1000  # images at a time
NO_PLANS: Mapping[str, LayerPlan] = {}


def quantised(
    task: Task,
    module: nn.Module,
    steps: Mapping[str, FloatArray] = NO_STEPS,
    plans: Mapping[str, LayerPlan] = NO_PLANS,
) -> tuple[Network, dict[str, Scale]]:
    """A module of the task as an int8 network, and the scale of every tensor. `steps` as in `quantise`.

    All scales have zero points: behind a ReLU, all 256 values are used. If the task comes from a network that
    was quantised before, its scales are a start (`held_scales`). Weights of layers whose plans have digits
    are rounded to values that the slots hold, and the biases make up for all rounding of weights.
    """
    network = from_torch(module, task.input_shape, task.name)
    images = task.prepare(task.train_images[:CALIBRATED], None).double().numpy()
    peaks = channel_peaks(network, images)
    scales = {name: Scale(step) for name, step in scales_of(network, peaks).items()}
    scales |= held_scales(network, images, task.scales)
    whole = {name: one.step for name, one in scales.items()}
    zeros = {name: one.zero for name, one in scales.items()}
    made = quantise(network, whole, RESIDUAL_LIMIT, steps, peaks, zeros)
    return corrected(network, in_digits(made, plans), scales, images), scales


def in_digits(network: Network, plans: Mapping[str, LayerPlan]) -> Network:
    """The network with the weights of digit layers rounded to values that their slots can hold.

    Filters that have the step that they were trained with do not change.
    """

    def fitted(layer: Layer) -> Layer:
        packed = plans[layer.name].packed if layer.name in plans else None
        if packed is None or not packed.digits or not isinstance(layer, Weighted):
            return layer
        return replace(layer, weight=project(packed, layer.weight))

    return replace(network, layers=tuple(fitted(layer) for layer in network.layers))


def input_bytes(task: Task, images: torch.Tensor, scales: Mapping[str, Scale]) -> npt.NDArray[np.int8]:
    """Images [N, C, H, W] of the task as the integer network takes them."""
    return scales[INPUT].values(task.prepare(images, None).numpy())


def int8_accuracy(task: Task, network: Network, scales: Mapping[str, Scale]) -> float:
    """Accuracy of the int8 network on the test images."""
    images = [input_bytes(task, part, scales) for part in task.test_images.split(EVALUATED)]
    return accuracy_int8(network, np.concatenate(images), task.test_labels.numpy())
