"""Accuracy of an integer network over a whole test set. It computes the same bits as `reference.evaluate` in
a tenth of the time.

Convolutions run in torch. They use float32 if every sum of products is below 2**24 in magnitude for any input
(128 * sum of |weight|), so that no order of addition can round. Otherwise they use float64 (below 2**53, as
in `reference`). Torch asks oneDNN for direct convolution. A convolution that transforms its operands
(Winograd) would round, so the first images of every call are compared with `reference.evaluate`. If other
programs share the cores, `torch.set_num_threads(1)` is faster, because threads that wait for each other lose
most of their time.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from pymodel.machine.errors import TatamiError
from pymodel.network.integer import (
    INPUT,
    Conv,
    IntArray,
    Linear,
    Network,
    Requant,
    Requantised,
    Residual,
    View,
    Window,
)
from pymodel.network.network_file import accuracy
from pymodel.network.reference import INT32_MAX, INT32_MIN, evaluate, layer_sum, rearranged

Int8Array = npt.NDArray[np.int8]

PEAK = 128  # of an int8 magnitude
FLOAT32_WHOLE = 2**24  # float32 holds every whole number up to here
COMPARED = 2  # images of each call


def accuracy_int8(
    network: Network, images: Int8Array, labels: npt.NDArray[np.integer], batch: int = 100
) -> float:
    """Share of images for which the largest output of the last layer (the first of equal ones) is the label:
    images int8 [N, C, H, W], labels [N].

    Raises TatamiError as `logits_int8` does, and unless there is one label per image.
    """
    if not len(images) or labels.shape != (len(images),):
        raise TatamiError(
            f"network '{network.name}': labels have shape {labels.shape}, must be ({len(images)},), at"
            " least one"
        )
    return accuracy(logits_int8(network, images, batch), labels)


def logits_int8(network: Network, images: Int8Array, batch: int = 100) -> Int8Array:
    """The last layer's output for images int8 [N, C, H, W], `batch` at a time: int8 [N, F, H', W'].

    Raises TatamiError as `reference.evaluate` does, and if the result for the first images differs from it.
    """
    if batch < 1:
        raise TatamiError(f"batch is {batch}, must be at least 1")
    expected = evaluate(network, images[:COMPARED])  # checks dtype and shape as well
    last = network.layers[-1].name
    found = [tensors_int8(network, images[:COMPARED])]
    for name, values in expected.items():
        if not np.array_equal(values, found[0][name]):
            raise TatamiError(
                f"network '{network.name}', layer '{name}': torch's convolution is not exact on this machine;"
                " use reference.evaluate"
            )
    rest = [
        tensors_int8(network, images[start : start + batch], keep=(last,))[last]
        for start in range(COMPARED, len(images), batch)
    ]
    return np.concatenate([found[0][last], *rest])


def tensors_int8(
    network: Network, images: Int8Array, keep: tuple[str, ...] | None = None
) -> dict[str, Int8Array]:
    """All tensors of one batch, or those named in `keep`: as `reference.evaluate`, name -> int8 [B,
    C, H, W].
    """
    tensors = {INPUT: torch.from_numpy(images).float()}
    with torch.no_grad(), torch.backends.nnpack.flags(enabled=False):  # NNPACK has Winograd
        for layer in network.layers:
            match layer:
                case Linear():
                    source = tensors[layer.source]
                    flat = source.reshape(len(source), -1, 1, 1)
                    total, bound = _convolve(flat, layer.weight[:, :, None, None], Window((1, 1)))
                case Conv():
                    source = tensors[layer.source]
                    total, bound = _convolve(source, layer.weight, layer.window, layer.groups, layer.pad)
                    if layer.residual is not None:
                        total += _residual(tensors[layer.residual.source], layer.residual)
                        bound += PEAK * int(np.abs(layer.residual.weight.astype(np.int64)).max())
                case _:  # few operations: another method would gain nothing
                    read = {name: tensors[name].to(torch.int8).numpy() for name in layer.reads()}
                    if isinstance(layer, View):
                        tensors[layer.name] = torch.from_numpy(rearranged(layer, read)).float()
                        continue
                    total, bound = torch.from_numpy(layer_sum(layer, read)).double(), INT32_MAX + 1
            # Most layers cannot overflow the accumulator, whatever their input.
            if bound > INT32_MAX and total.numel() and (total.min() < INT32_MIN or total.max() > INT32_MAX):
                raise TatamiError(
                    f"network '{network.name}', layer '{layer.name}': sum {int(total.abs().max())} leaves the"
                    " int32 accumulator"
                )
            tensors[layer.name] = (
                _requantise(total, layer.requant) if isinstance(layer, Requantised) else total.float()
            )
    return {
        name: values.to(torch.int8).numpy()
        for name, values in tensors.items()
        if keep is None or name in keep
    }


def _convolve(
    source: torch.Tensor, weight: IntArray, window: Window, groups: int = 1, pad: int = 0
) -> tuple[torch.Tensor, int]:
    """Exact sums as float64 [B, F, H', W'], and a bound of their magnitude: float32 [B, C, H, W] x [F, C /
    groups, k, l].
    """
    top, left, bottom, right = window.padding
    bound = PEAK * int(np.abs(weight.astype(np.int64)).reshape(len(weight), -1).sum(axis=1).max())
    kind = torch.float32 if bound < FLOAT32_WHOLE else torch.float64
    total = functional.conv2d(
        functional.pad(source.to(kind), (left, right, top, bottom), value=pad),
        torch.from_numpy(weight.astype(np.float64)).to(kind),
        stride=window.stride,
        dilation=window.dilation,
        groups=groups,
    )
    return total.double(), bound


def _residual(source: torch.Tensor, residual: Residual) -> torch.Tensor:
    weight = torch.from_numpy(np.where(residual.channel < 0, 0, residual.weight).astype(np.float64))
    down, across = residual.stride
    strided = source[:, :, ::down, ::across]
    return strided[:, torch.from_numpy(residual.channel.clip(0).astype(np.int64))] * weight[:, None, None]


def _requantise(total: torch.Tensor, requant: Requant) -> torch.Tensor:
    """As `reference.requantise`: whole numbers in float64 [B, F, H, W] -> whole numbers in float32.
    Overwrites `total`.

    The product has at most 50 bits and float64 holds 53. A power of two scales without rounding.
    """
    bias, multiplier, shift = (
        np.asarray(part, dtype=np.int64) for part in (requant.bias, requant.multiplier, requant.shift)
    )
    rounding = (np.int64(1) << shift) >> 1
    total += _column(bias)
    total *= _column(multiplier)
    total += _column(rounding)
    total *= _column(2.0**-shift)
    clamped = total.floor_().add_(requant.zero).clamp_(requant.low, requant.high)
    if requant.table is not None:
        clamped = torch.from_numpy(requant.table.astype(np.int64))[clamped.long() + 128]
    return clamped.float()


def _column(values: npt.NDArray[np.generic]) -> torch.Tensor:
    return torch.from_numpy(values.astype(np.float64))[:, None, None]
