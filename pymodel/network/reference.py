"""The independent reference: a network evaluated densely, in exact integers, directly from its definition.

It knows planes, weights and the requantisation of docs/formats.md. It does not know groups, lanes or slots,
so a fault in the packing cannot repeat itself here. Sums are formed by float64 matrix products. Every product
and partial sum is a whole number below 2**53, so no order of addition can round.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from pymodel.machine.errors import TatamiError
from pymodel.network.integer import INPUT, Conv, GlobalPool, Layer, Linear, Network, Requant, Residual

Int8Array = npt.NDArray[np.int8]
Int64Array = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

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
        total = layer_sum(layer, tensors)
        if total.size and (total.min() < INT32_MIN or total.max() > INT32_MAX):
            raise TatamiError(
                f"network '{network.name}', layer '{layer.name}': sum {np.abs(total).max()} leaves the int32"
                " accumulator"
            )
        sums[layer.name] = total
        tensors[layer.name] = requantise(total, layer.requant)
    return tensors, sums


def layer_sum(layer: Layer, tensors: Mapping[str, Int8Array]) -> Int64Array:
    """The sum of a layer before its bias: int64 [B, F, H', W'], from the tensors int8 [B, C, H, W] that it
    reads.
    """
    source = tensors[layer.source]
    match layer:
        case Conv():
            total = convolve(source, layer.weight, layer.stride, layer.padding)
            if layer.residual is not None:
                total += residual_sum(tensors[layer.residual.source], layer.residual)
            return total
        case GlobalPool():
            return source.sum(axis=(2, 3), keepdims=True, dtype=np.int64)
        case Linear():
            flat = source.reshape(len(source), -1, 1, 1)
            return convolve(flat, layer.weight[:, :, None, None], stride=1, padding=0)


def correlate(source: FloatArray, weight: FloatArray, stride: int, padding: int) -> FloatArray:
    """Convolution as torch defines it (no flip), zero padding: float64 [B, C, H, W] x [F, C, k, k] -> float64
    [B, F, H', W'].
    """
    batch, channels, rows, columns = source.shape
    filters, _, k, _ = weight.shape
    out_rows, out_columns = (rows + 2 * padding - k) // stride + 1, (columns + 2 * padding - k) // stride + 1
    padded = np.pad(source, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    total: FloatArray = np.zeros((batch, filters, out_rows * out_columns))
    for dy in range(k):
        for dx in range(k):
            tap = padded[
                :,
                :,
                dy : dy + stride * (out_rows - 1) + 1 : stride,
                dx : dx + stride * (out_columns - 1) + 1 : stride,
            ]
            total += weight[:, :, dy, dx] @ tap.reshape(batch, channels, -1)
    return total.reshape(batch, filters, out_rows, out_columns)


def convolve(source: Int8Array, weight: npt.NDArray[np.integer], stride: int, padding: int) -> Int64Array:
    """`correlate` in exact integers: int8 [B, C, H, W] x [F, C, k, k] -> int64 [B, F, H', W']."""
    return correlate(source.astype(np.float64), weight.astype(np.float64), stride, padding).astype(np.int64)


def residual_sum(source: Int8Array, residual: Residual) -> Int64Array:
    """The values that a residual adds to the sums of each filter: int8 [B, C, H, W] -> int64 [B, F, H',
    W'].
    """
    weight = np.where(residual.channel < 0, 0, residual.weight).astype(np.int64)
    picked = source[:, residual.channel, :: residual.stride, :: residual.stride].astype(np.int64)
    return picked * weight[:, None, None]


def requantise(total: Int64Array, requant: Requant) -> Int8Array:
    """`clamp(((total + bias) * multiplier + 2**(shift-1)) >> shift, low, 127)`: int64 [B, F, H, W] -> int8 of
    that shape.

    `total` and `bias` fit int32 and the multiplier 16 bits, so the product has at most 50 bits and int64
    holds it. No rounding term at shift 0; `low` is 0 with ReLU, -128 without.
    """
    bias, multiplier, shift = (
        np.asarray(part, dtype=np.int64)[:, None, None]
        for part in (requant.bias, requant.multiplier, requant.shift)
    )
    rounding = (np.int64(1) << shift) >> 1
    scaled: Int64Array = ((total + bias) * multiplier + rounding) >> shift
    return scaled.clip(0 if requant.relu else -128, 127).astype(np.int8)
