"""PENNI in torch: the decomposed convolution, and a network whose convolutions are replaced by it
(`pymodel.schemes.penni` explains the method).

Training: `decompose_module`; then in turns `train_part(net, "coefficients")` with `l1(net)` in the loss and
`train_part(net, "basis")`; then both are trained. `plain` makes the network that the array runs.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Collection, Iterator
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from pymodel.machine.errors import TatamiError
from pymodel.schemes.penni import KERNELS, decompose


class Decomposed(nn.Module):
    """A k x k convolution with parameters `basis` [d, k, k], shared by all kernels, `coefficients` [F, C, d]
    and `bias` [F] or None.

    It computes both stages as one convolution with the product of their weights. This is the same function
    and faster to train. `to_plain` gives the two stages.
    """

    def __init__(
        self,
        basis: torch.Tensor,
        coefficients: torch.Tensor,
        bias: torch.Tensor | None,
        stride: int,
        padding: int,
    ) -> None:
        super().__init__()
        self.basis = nn.Parameter(basis.clone())
        self.coefficients = nn.Parameter(coefficients.clone())
        self.bias = None if bias is None else nn.Parameter(bias.clone())
        self.stride, self.padding = stride, padding

    @staticmethod
    def of(conv: nn.Conv2d, kernels: int = KERNELS) -> Decomposed:
        """From the singular value decomposition of `conv`. Raises `TatamiError` for a convolution that is not
        `eligible`.
        """
        if not eligible(conv):
            raise TatamiError(
                f"penni: cannot decompose {conv}: must be k x k with k > 1, without groups and dilation,"
                " equal in both directions"
            )
        basis, coefficients = (
            torch.from_numpy(part).to(conv.weight) for part in decompose(_numbers(conv.weight), kernels)
        )
        bias = None if conv.bias is None else conv.bias.detach()
        return Decomposed(basis, coefficients, bias, conv.stride[0], conv.padding[0])

    @property
    def weight(self) -> torch.Tensor:
        """[F, C, k, k]: the weight of both stages together."""
        return torch.einsum("fcj,jyx->fcyx", self.coefficients, self.basis)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, C, H, W] -> [B, F, H', W']."""
        return functional.conv2d(x, self.weight, self.bias, self.stride, self.padding)

    def to_plain(self, whole: bool = False) -> nn.Sequential:
        """Two separate layers, for `pymodel.network.from_torch`: `basis`, in groups of one channel, and
        `coefficients`, 1 x 1.

        A plane of the basis that no coefficient reads has no weights, because a plan has no slots for it.
        With `whole` it has weights, because the next plan may have slots for it.
        """
        filters, channels, kernels = self.coefficients.shape
        k = self.basis.shape[1]
        first = nn.Conv2d(
            channels, channels * kernels, k, self.stride, self.padding, groups=channels, bias=False
        )
        second = nn.Conv2d(channels * kernels, filters, 1, bias=self.bias is not None)
        with torch.no_grad():
            read = (self.coefficients != 0).any(dim=0).reshape(-1, 1, 1) | whole
            first.weight.copy_((self.basis.repeat(channels, 1, 1) * read)[:, None])
            second.weight.copy_(self.coefficients.reshape(filters, -1, 1, 1))
            if self.bias is not None and second.bias is not None:
                second.bias.copy_(self.bias)
        return nn.Sequential(OrderedDict(basis=first, coefficients=second)).to(self.basis)


def eligible(conv: nn.Module) -> bool:
    """Whether it is a convolution that can be decomposed."""
    return (
        isinstance(conv, nn.Conv2d)
        and conv.kernel_size[0] == conv.kernel_size[1] > 1
        and conv.stride[0] == conv.stride[1]
        and not isinstance(conv.padding, str)
        and conv.padding[0] == conv.padding[1]
        and conv.padding_mode == "zeros"
        and conv.groups == 1
        and tuple(conv.dilation) == (1, 1)
    )


def decompose_module(net: nn.Module, kernels: int = KERNELS, skip: Collection[str] = ()) -> nn.Module:
    """A copy of `net` in which every eligible convolution of more than 1 x 1 is a `Decomposed`, except those
    of the paths in `skip`.

    A convolution of k * k <= `kernels` taps stays as it is. Raises `TatamiError` for a path in `skip` that
    the network does not have.
    """
    found = dict(net.named_modules())
    for path in skip:
        if path not in found:
            raise TatamiError(f"penni: the network has no module '{path}' to skip")
    chosen = [
        path
        for path, part in found.items()
        if path and path not in skip and eligible(part) and part.kernel_size[0] ** 2 > kernels
    ]
    return _replaced(net, {path: Decomposed.of(found[path], kernels) for path in chosen})


def plain(net: nn.Module, whole: bool = False) -> nn.Module:
    """A copy of `net` in which every `Decomposed` x is the two layers x.basis and x.coefficients.

    `whole` as in `Decomposed.to_plain`.
    """
    return _replaced(net, {path: part.to_plain(whole) for path, part in _decomposed(net)})


def train_part(net: nn.Module, part: Literal["basis", "coefficients", "both"]) -> None:
    """Enables the gradient for only this part of every `Decomposed`. All other parameters of the network keep
    their setting.
    """
    for _, one in _decomposed(net):
        one.basis.requires_grad_(part != "coefficients")
        one.coefficients.requires_grad_(part != "basis")


def l1(net: nn.Module) -> torch.Tensor:
    """Sum of the magnitudes of all coefficients, with gradient."""
    return sum((one.coefficients.abs().sum() for _, one in _decomposed(net)), start=torch.zeros(()))


def _decomposed(net: nn.Module) -> Iterator[tuple[str, Decomposed]]:
    for path, part in net.named_modules():
        if isinstance(part, Decomposed):
            yield path, part


def _replaced(net: nn.Module, parts: dict[str, nn.Module]) -> nn.Module:
    if "" in parts:
        return parts[""]
    net = copy.deepcopy(net)
    for path, part in parts.items():
        parent, _, name = path.rpartition(".")
        setattr(net.get_submodule(parent), name, part)
    return net


def _numbers(tensor: torch.Tensor) -> npt.NDArray[np.float64]:
    numbers: npt.NDArray[np.float64] = tensor.detach().cpu().numpy().astype(np.float64)
    return numbers
