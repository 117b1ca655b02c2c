"""The independent reference: a network evaluated densely, in exact integers, directly from its definition.

It knows planes, weights and the requantisation of docs/formats.md. It does not know groups, lanes or slots,
so a fault in the packing cannot repeat itself here. Sums are formed by float64 matrix products. Every product
and partial sum is a whole number below 2**53, so no order of addition can round.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from pymodel.machine.errors import TatamiError
from pymodel.network.integer import (
    INPUT,
    LOWEST,
    Add,
    AveragePool,
    Computed,
    Conv,
    DepthToSpace,
    Gather,
    GlobalPool,
    Linear,
    MaxPool,
    Network,
    Requant,
    Requantised,
    Residual,
    SpaceToDepth,
    Upsample,
    View,
    Window,
)

Int8Array = npt.NDArray[np.int8]
Int64Array = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
Pixel = TypeVar("Pixel", bound=np.generic)

INT32_MIN, INT32_MAX = -(2**31), 2**31 - 1


def evaluate(network: Network, images: Int8Array) -> dict[str, Int8Array]:
    """All tensors of a network for a batch of inputs.

    `images` is int8 [B, C, H, W] with (C, H, W) the network's input shape. Returns name -> int8 [B, C, H, W],
    the input included. Raises TatamiError for a wrong dtype or shape, or a sum that leaves the int32
    accumulator.
    """
    return evaluate_sums(network, images)[0]


def evaluate_sums(network: Network, images: Int8Array) -> tuple[dict[str, Int8Array], dict[str, Int64Array]]:
    """As `evaluate`, but also returns the sums of each layer: (tensors, sums), sums name -> int64 [B, F, H,
    W].

    A sum is the final value of an accumulator: weights times inputs plus the residual, before the bias is
    added.
    """
    if not isinstance(images, np.ndarray) or images.dtype != np.int8:
        raise TatamiError(
            f"network '{network.name}': images are {getattr(images, 'dtype', type(images).__name__)}, must be"
            " int8"
        )
    if images.ndim != 4 or images.shape[1:] != network.input_shape:
        raise TatamiError(
            f"network '{network.name}': images have shape {images.shape}, must be (batch,"
            f" {', '.join(map(str, network.input_shape))})"
        )
    tensors: dict[str, Int8Array] = {INPUT: images}
    sums: dict[str, Int64Array] = {}
    for layer in network.layers:
        if isinstance(layer, View):
            tensors[layer.name] = rearranged(layer, tensors)
            continue
        total = layer_sum(layer, tensors)
        if total.size and (total.min() < INT32_MIN or total.max() > INT32_MAX):
            raise TatamiError(
                f"network '{network.name}', layer '{layer.name}': sum {np.abs(total).max()} leaves the int32"
                " accumulator"
            )
        sums[layer.name] = total
        tensors[layer.name] = layer_pixels(layer, total)
    return tensors, sums


def layer_sum(layer: Computed, tensors: Mapping[str, Int8Array]) -> Int64Array:
    """The sum of a layer before its bias (of a `MaxPool`: the maximum): int64 [B, F, H', W'], from the
    tensors int8 [B, C, H, W] that it reads.
    """
    match layer:
        case Conv():
            source = tensors[layer.source]
            total = convolve(source, layer.weight, layer.window, layer.groups, layer.pad)
            if layer.residual is not None:
                total += residual_sum(tensors[layer.residual.source], layer.residual)
            return total
        case GlobalPool():
            return tensors[layer.source].sum(axis=(2, 3), keepdims=True, dtype=np.int64)
        case Linear():
            source = tensors[layer.source]
            flat = source.reshape(len(source), -1, 1, 1)
            return convolve(flat, layer.weight[:, :, None, None], Window((1, 1)))
        case AveragePool():
            source = tensors[layer.source]
            total = np.add.reduce(list(window_taps(source, layer.window, layer.pad)), dtype=np.int64)
            return total * (layer.whole // inside(source, layer.window)) if layer.whole else total
        case MaxPool():
            taps = list(window_taps(tensors[layer.source], layer.window, LOWEST))
            largest: Int64Array = np.maximum.reduce(taps).astype(np.int64)
            return largest
        case Add():
            factors = layer.weight.astype(np.int64)[:, :, None, None]
            return np.add.reduce(
                [tensors[source] * factor for source, factor in zip(layer.sources, factors, strict=True)]
            )


def layer_pixels(layer: Computed, total: Int64Array) -> Int8Array:
    """The tensor that a layer makes of its sums, int64 [B, F, H, W] -> int8 of that shape."""
    return requantise(total, layer.requant) if isinstance(layer, Requantised) else total.astype(np.int8)


def rearranged(layer: View, tensors: Mapping[str, npt.NDArray[Pixel]]) -> npt.NDArray[Pixel]:
    """The tensor of a layer that only names pixels, of any type: [B, C, H, W]."""
    match layer:
        case Gather():
            channels = [
                tensors[layer.sources[origin]][:, channel]
                if channel >= 0
                else np.zeros_like(tensors[layer.sources[origin]][:, 0])
                for origin, channel in zip(layer.origin, layer.channel, strict=True)
            ]
            return np.stack(channels, axis=1)
        case Upsample():
            rows = np.repeat(tensors[layer.source], layer.scale[0], axis=2)
            return np.repeat(rows, layer.scale[1], axis=3)
        case DepthToSpace():
            batch, channels, height, width = (source := tensors[layer.source]).shape
            down, across = layer.block
            blocks = source.reshape(batch, channels // (down * across), down, across, height, width)
            return blocks.transpose(0, 1, 4, 2, 5, 3).reshape(batch, -1, height * down, width * across)
        case SpaceToDepth():
            batch, channels, height, width = (source := tensors[layer.source]).shape
            down, across = layer.block
            blocks = source.reshape(batch, channels, height // down, down, width // across, across)
            return blocks.transpose(0, 1, 3, 5, 2, 4).reshape(batch, -1, height // down, width // across)


def window_taps(source: npt.NDArray[Pixel], window: Window, pad: float) -> Iterator[npt.NDArray[Pixel]]:
    """For each place of a window, row by row, the pixels there: [B, C, H, W] -> [B, C, H', W']. A pixel
    outside the source is `pad`.
    """
    top, left, bottom, right = window.padding
    padded = np.pad(source, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=pad)
    down, across = window.stride
    rows = (padded.shape[2] - window.reach[0]) // down + 1
    columns = (padded.shape[3] - window.reach[1]) // across + 1
    for y in range(0, window.reach[0], window.dilation[0]):
        for x in range(0, window.reach[1], window.dilation[1]):
            yield padded[
                :, :, y : y + down * (rows - 1) + 1 : down, x : x + across * (columns - 1) + 1 : across
            ]


def inside(source: npt.NDArray[Pixel], window: Window) -> Int64Array:
    """The number of pixels inside the source of each window: [B, C, H, W] -> int64 [1, 1, H', W']."""
    ones = np.ones_like(source[:1, :1], dtype=np.int64)
    return np.add.reduce(list(window_taps(ones, window, 0)))


def correlate(
    source: FloatArray, weight: FloatArray, window: Window, groups: int = 1, pad: float = 0
) -> FloatArray:
    """Convolution as torch defines it (no flip): float64 [B, C, H, W] x [F, C / groups, k, l] -> float64 [B,
    F, H', W']. A pixel outside the source is `pad`.
    """
    batch, filters = len(source), len(weight)
    flat = weight.reshape(groups, filters // groups, weight.shape[1], -1)
    total: FloatArray | None = None
    shape: tuple[int, ...] = ()
    for place, tap in enumerate(window_taps(source, window, pad)):
        shape = tap.shape[2:]
        part = flat[:, :, :, place] @ tap.reshape(batch, groups, weight.shape[1], -1)
        total = part if total is None else total + part
    assert total is not None
    return total.reshape(batch, filters, *shape)


def convolve(
    source: Int8Array, weight: npt.NDArray[np.integer], window: Window, groups: int = 1, pad: int = 0
) -> Int64Array:
    """`correlate` in exact integers: int8 [B, C, H, W] x [F, C / groups, k, l] -> int64 [B, F, H', W']."""
    return correlate(source.astype(np.float64), weight.astype(np.float64), window, groups, pad).astype(
        np.int64
    )


def residual_sum(source: Int8Array, residual: Residual) -> Int64Array:
    """The values that a residual adds to the sums of each filter: int8 [B, C, H, W] -> int64 [B, F, H',
    W'].
    """
    weight = np.where(residual.channel < 0, 0, residual.weight).astype(np.int64)
    down, across = residual.stride
    picked = source[:, residual.channel, ::down, ::across].astype(np.int64)
    return picked * weight[:, None, None]


def requantise(total: Int64Array, requant: Requant) -> Int8Array:
    """`clamp((((total + bias) * multiplier + 2**(shift-1)) >> shift) + zero, low, high)`, and what the table
    has for it, if there is one: int64 [B, F, H, W] -> int8 of that shape.

    `total` and `bias` fit int32 and the multiplier 16 bits, so the product has at most 50 bits and int64
    holds it. No rounding term at shift 0.
    """
    bias, multiplier, shift = (
        np.asarray(part, dtype=np.int64)[:, None, None]
        for part in (requant.bias, requant.multiplier, requant.shift)
    )
    rounding = (np.int64(1) << shift) >> 1
    scaled: Int64Array = (((total + bias) * multiplier + rounding) >> shift) + requant.zero
    clamped = scaled.clip(requant.low, requant.high)
    return (clamped if requant.table is None else requant.table[clamped + 128]).astype(np.int8)
