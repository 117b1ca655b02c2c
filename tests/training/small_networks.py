"""Small networks of the kinds that people use, on scikit-learn's digits:
`make compress NETWORK=tests/training/small_networks.py:mobilenet`.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from pymodel.training import train_digits
from pymodel.training.tasks import Task

SHAPE = (1, 8, 8)
CLASSES = 10


def block(inputs: int, filters: int, side: int = 1, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    """A convolution and its batch norm."""
    conv = nn.Conv2d(inputs, filters, side, stride, side // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(filters)]


class Inverted(nn.Module):
    """Sandler et al., arXiv 1801.04381: expand, depthwise, project, with a shortcut where nothing changes."""

    def __init__(self, inputs: int, filters: int, stride: int, activation: type[nn.Module]) -> None:
        super().__init__()
        wide = 3 * inputs
        self.body = nn.Sequential(
            *block(inputs, wide),
            activation(),
            *block(wide, wide, 3, stride, groups=wide),
            activation(),
            *block(wide, filters),
        )
        self.adds = stride == 1 and inputs == filters

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = x + self.body(x) if self.adds else self.body(x)
        return found


class Shuffled(nn.Module):
    """Ma et al., arXiv 1807.11164: one half of the channels stays, both halves are shuffled."""

    def __init__(self, width: int) -> None:
        super().__init__()
        half = width // 2
        self.branch = nn.Sequential(
            *block(half, half), nn.ReLU(), *block(half, half, 3, groups=half), *block(half, half), nn.ReLU()
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kept, changed = x.chunk(2, dim=1)
        joined = torch.cat([kept, self.branch(changed)], dim=1)
        images, channels, rows, columns = joined.shape
        pairs = joined.view(images, 2, channels // 2, rows, columns).transpose(1, 2)
        return pairs.reshape(images, channels, rows, columns)


class Grouped(nn.Module):
    """Zhang et al., arXiv 1707.01083: convolutions in groups, a shuffle, and a concat with a mean at the
    stride.
    """

    def __init__(self, inputs: int, width: int, groups: int) -> None:
        super().__init__()
        self.reduce = nn.Sequential(*block(inputs, inputs, groups=groups), nn.ReLU())
        self.shuffle = nn.ChannelShuffle(groups)
        self.depthwise = nn.Sequential(*block(inputs, inputs, 3, 2, groups=inputs))
        self.expand = nn.Sequential(*block(inputs, width - inputs, groups=groups))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        branch = self.expand(self.depthwise(self.shuffle(self.reduce(x))))
        return functional.relu(torch.cat([functional.avg_pool2d(x, 3, 2, 1), branch], dim=1))


class UNet(nn.Module):
    """Ronneberger et al., arXiv 1505.04597, with nearest upsampling, a class in place of a map at its end."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.down = nn.Sequential(*block(1, width, 3), nn.ReLU())
        self.bottom = nn.Sequential(*block(width, 2 * width, 3), nn.LeakyReLU(0.1))
        self.larger = nn.Upsample(scale_factor=2)
        self.up = nn.Sequential(*block(3 * width, width, 3), nn.ReLU())
        self.classes = nn.Linear(width, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        down = self.down(x)
        bottom = self.bottom(functional.max_pool2d(down, 2))
        joined = torch.cat([down, self.larger(bottom)], dim=1)
        found: torch.Tensor = self.classes(self.up(joined).mean((2, 3)))
        return found


def on_digits(name: str, net: nn.Module, keep: str, weights: Path | None) -> Task:
    if weights is not None:
        net.load_state_dict(torch.load(weights, weights_only=True))
    images, labels, held_images, held_labels = train_digits.split_digits()
    return Task(
        name,
        net,
        SHAPE,
        torch.from_numpy(images).float(),
        torch.from_numpy(labels).long(),
        torch.from_numpy(held_images).float(),
        torch.from_numpy(held_labels).long(),
        lambda batch, _: batch,
        keep=(keep,),
        start="random" if weights is None else weights.name,
        data="scikit-learn's digits",
    )


def mobilenet(weights: Path | None, data: Path | None) -> Task:
    """Depthwise convolutions, ReLU6 and hard swish, shortcuts."""
    del data
    torch.manual_seed(1)
    net = nn.Sequential(
        *block(1, 16, 3, 2),
        nn.ReLU6(),
        Inverted(16, 16, 1, nn.ReLU6),
        Inverted(16, 24, 2, nn.Hardswish),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(24, CLASSES),
    )
    return on_digits("mobilenet", net, "0", weights)


def shufflenet(weights: Path | None, data: Path | None) -> Task:
    """Both ShuffleNets: groups of 8, 20 and one channels, splits, concats and shuffles."""
    del data
    torch.manual_seed(1)
    net = nn.Sequential(
        *block(1, 16, 3, 2),
        nn.ReLU(),
        Shuffled(16),
        Grouped(16, 56, groups=2),
        Shuffled(56),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(56, CLASSES),
    )
    return on_digits("shufflenet", net, "0", weights)


def unet(weights: Path | None, data: Path | None) -> Task:
    """A maximum, upsampling, and a concat of both levels."""
    del data
    torch.manual_seed(1)
    return on_digits("unet", UNet(8), "down.0", weights)
