"""The architectures have the sizes that their papers and the model zoos give."""

from __future__ import annotations

import numpy as np
import pytest

from pymodel.machine.errors import TatamiError
from pymodel.network.integer import INPUT, Conv, Linear, Requantised, View
from pymodel.network.reference import evaluate
from pymodel.zoo.architectures import ARCHITECTURES, Draft, architecture, fitted

# Millions of weights without biases and batch norms, and of MACs for one image. torchvision's documentation
# has 11.69 and 1.81 thousand for ResNet-18, 1.24 and 0.35 for SqueezeNet 1.1, 3.5 and 0.3 for MobileNetV2,
# 7.98 and 2.83 for DenseNet-121, 61.1 and 0.71 for AlexNet, 138.36 and 15.47 for VGG-16, with biases and
# norms; MobileNetV1 4.2 and 569 and ShuffleNet 137 million MACs are their papers'.
SIZES = {
    "vgg16_32": (14.72, 313),
    "vgg16_32_cut": (14.72, 313),
    "resnet18_32": (11.16, 555),
    "unet": (0.449, 144),
    "vgg16_convs": (14.71, 15346),
    "alexnet": (61.09, 714),
    "vgg16": (138.34, 15470),
    "resnet18": (11.68, 1814),
    "squeezenet": (1.23, 349),
    "mobilenet_v1": (4.21, 569),
    "mobilenet_v2": (3.47, 301),
    "shufflenet": (1.84, 137),
    "densenet121": (7.89, 2834),
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_sizes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Draft, "_weights", lambda _, *shape: np.zeros(shape, np.int8))  # drawn, seconds
    network = architecture(name, np.random.default_rng(0))
    weighted = [layer for layer in network.layers if isinstance(layer, Conv | Linear)]
    weights = sum(layer.weight.size for layer in weighted)
    macs = sum(layer.weight.size * int(np.prod(network.shapes[layer.name][1:])) for layer in weighted)
    assert weights / 1e6 == pytest.approx(SIZES[name][0], rel=0.005)
    assert macs / 1e6 == pytest.approx(SIZES[name][1], rel=0.005)


def test_sums_are_fitted_to_the_range_of_a_pixel() -> None:
    rng = np.random.default_rng(1)
    images = rng.integers(-128, 128, (2, *ARCHITECTURES["unet"].shape)).astype(np.int8)
    network = fitted(architecture("unet", rng), images, rng)
    tensors = evaluate(network, images)
    assert list(tensors) == [INPUT, *(layer.name for layer in network.layers)]
    for layer in network.layers:
        if isinstance(layer, View) or not isinstance(layer, Requantised):
            continue
        values = tensors[layer.name].astype(float)
        assert 10 < values.std() < 60, layer.name
        assert np.mean(np.abs(values) >= 127) < 0.2, layer.name


def test_an_unknown_name_lists_those_there_are() -> None:
    with pytest.raises(
        TatamiError, match="architecture 'lenet' is unknown; valid: vgg16_32, vgg16_32_cut, resn"
    ):
        architecture("lenet", np.random.default_rng(0))
