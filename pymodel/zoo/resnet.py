"""ResNets for CIFAR-10 with 6n + 2 layers (He et al., arXiv 1512.03385, section 4.2) and option-A shortcuts,
which have no weights:

- input 3x32x32
- conv1 16x32x32
- layer1, n blocks 16x32x32
- layer2, n blocks 32x16x16
- layer3, n blocks 64x8x8
- pool
- linear 10

A block is two 3 x 3 convolutions with batch norm. Its input is added before the second ReLU. If the size
changes, every second pixel of the input is added, with zero channels on both sides. Parameter names are those
of github.com/akamaster/pytorch_resnet_cifar10, whose files `load_state` reads.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from pymodel.machine.errors import TatamiError

WIDTHS = (16, 32, 64)


class BasicBlock(nn.Module):
    """[B, inputs, H, W] -> [B, width, H / stride, W / stride]."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.stride, self.zeros = stride, width - inputs
        self.conv1 = nn.Conv2d(inputs, width, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        branch = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(images)))))
        shortcut = images
        if self.stride != 1 or self.zeros:
            before = self.zeros // 2
            strided = images[:, :, :: self.stride, :: self.stride]
            shortcut = functional.pad(strided, (0, 0, 0, 0, before, self.zeros - before))
        return functional.relu(branch + shortcut)


class ResNet(nn.Module):
    """float32 [B, 3, H, W], normalised, -> logits [B, classes];

    `blocks` per stage, one `width` per stage, stride 2 from the second on.
    """

    def __init__(self, blocks: int, widths: tuple[int, ...] = WIDTHS, classes: int = 10) -> None:
        super().__init__()
        if blocks < 1:
            raise TatamiError(f"ResNet: blocks is {blocks}, must be at least 1")
        if not widths or any(b < a for a, b in zip((1, *widths), widths, strict=False)):
            raise TatamiError(f"ResNet: widths are {widths}, must be positive and must not fall")
        self.conv1 = nn.Conv2d(3, widths[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.stages = [f"layer{i + 1}" for i in range(len(widths))]
        inputs = widths[0]
        for i, width in enumerate(widths):
            stage = []
            for j in range(blocks):
                stage.append(BasicBlock(inputs, width, stride=2 if i and not j else 1))
                inputs = width
            self.add_module(self.stages[i], nn.Sequential(*stage))
        self.linear = nn.Linear(inputs, classes)
        for part in self.modules():
            if isinstance(part, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(part.weight)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        trunk = functional.relu(self.bn1(self.conv1(images)))
        for stage in self.stages:
            trunk = self.get_submodule(stage)(trunk)
        logits: torch.Tensor = self.linear(trunk.mean(dim=(2, 3)))
        return logits


def resnet20() -> ResNet:
    """20 layers, 0.27 million parameters."""
    return ResNet(3)


def resnet56() -> ResNet:
    """56 layers, 0.85 million parameters."""
    return ResNet(9)


def load_state(module: nn.Module, path: Path) -> None:
    """Reads a `state_dict` file into the module. It may be wrapped as {"state_dict": ...}, and its keys may
    begin with "module.".

    Raises TatamiError, naming file and key, for a missing or damaged file, missing or additional keys, shapes
    that do not match and values that are not finite. Then the module is unchanged. Only tensors are unpickled
    (`weights_only`).
    """
    state = read_state(path)
    needed = module.state_dict()
    # Files older than torch 0.4.1 do not count batches; inference does not need the count.
    missing = [key for key in needed if key not in state and not key.endswith(".num_batches_tracked")]
    extra = [key for key in state if key not in needed]
    if missing or extra:
        found = [
            _and_more(keys, what)
            for keys, what in ((missing, "missing"), (extra, "not one of the network's"))
            if keys
        ]
        raise TatamiError(
            f"{path}: {'; '.join(found)}; the network has {len(needed)} keys, the file {len(state)}"
        )
    for key, value in state.items():
        if not isinstance(value, torch.Tensor):
            raise TatamiError(f"{path}: key '{key}' holds {type(value).__name__}, must hold a tensor")
        if value.shape != needed[key].shape:
            raise TatamiError(
                f"{path}: key '{key}' has shape {tuple(value.shape)}, must be {tuple(needed[key].shape)}"
            )
        if value.is_floating_point() != needed[key].is_floating_point() or value.is_complex():
            raise TatamiError(f"{path}: key '{key}' has dtype {value.dtype}, must be {needed[key].dtype}")
        if not torch.isfinite(value).all():
            raise TatamiError(f"{path}: key '{key}' holds a value that is not finite")
        if key.endswith(".running_var") and value.min() < 0:
            raise TatamiError(f"{path}: key '{key}' holds {value.min():g}, must not be negative")
    module.load_state_dict({**needed, **state})


def read_state(path: Path) -> dict[str, Any]:
    """The names and tensors of a `state_dict` file, without wrapping and prefix. Errors as in
    `load_state`.
    """
    if not path.is_file():
        raise TatamiError(f"{path}: no such file")
    try:
        state = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # what a damaged file makes torch raise is not documented
        reason = str(error).split("\n")[0].strip() or type(error).__name__
        raise TatamiError(f"{path}: not a file of torch tensors, or damaged ({reason})") from None
    if isinstance(state, dict) and "state_dict" in state:
        state = state["state_dict"]
    if not isinstance(state, dict) or not state or not all(isinstance(key, str) for key in state):
        raise TatamiError(f"{path}: holds {type(state).__name__}, must hold a state_dict: names and tensors")
    return {key.removeprefix("module."): value for key, value in state.items()}


def _and_more(keys: list[str], what: str) -> str:
    return f"key '{keys[0]}' is {what}{f', and {len(keys) - 1} more' if len(keys) > 1 else ''}"
