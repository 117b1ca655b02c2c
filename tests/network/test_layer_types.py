"""Each type of layer, from torch through the file and the compiler to the bytes of the machine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from pymodel.compiler.compile import clip_weights, compile_fitted
from pymodel.machine.config import CONFIGS, ArrayConfig
from pymodel.network import network_file
from pymodel.network.from_torch import from_torch
from pymodel.network.integer import INPUT
from pymodel.network.quantise import calibrate, quantise, quantise_tensor
from tests.support import assert_agrees

SHAPE = (3, 9, 10)


def shortcut() -> nn.Module:
    class Shortcut(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3, padding=1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.relu(self.conv(x) + x)

    return Shortcut()


MODULES: dict[str, Callable[[], nn.Module]] = {
    "Conv": lambda: nn.Sequential(nn.Conv2d(3, 5, 3, stride=2, padding=1)),
    "Conv with a residual": shortcut,
    "GlobalPool": lambda: nn.Sequential(nn.Conv2d(3, 6, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1)),
    "Linear": lambda: nn.Sequential(nn.Flatten(), nn.Linear(270, 7)),
}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@pytest.mark.parametrize("module", MODULES.values(), ids=MODULES)
def test_the_machine_gives_every_byte(
    module: Callable[[], nn.Module], config: ArrayConfig, tmp_path: Path
) -> None:
    torch.manual_seed(2)
    network = from_torch(module(), SHAPE, "layers")
    images = torch.randn(4, *SHAPE)
    scales = calibrate(network, images.double().numpy())
    whole = clip_weights(quantise(network, scales), config)
    pixels = quantise_tensor(images.numpy(), scales[INPUT])
    file = tmp_path / "network.npz"
    network_file.save(network_file.StoredNetwork(whole, pixels, np.zeros(0, np.uint8), {}), file)
    assert_agrees(network_file.load(file).network, compile_fitted(whole, config), pixels)


def test_every_type_is_met() -> None:
    met = {
        type(layer).__name__
        for module in MODULES.values()
        for layer in from_torch(module(), SHAPE, "layers").skeleton.layers
    }
    assert met == set(network_file.KINDS)
