"""A layer as one matrix over inputs (channel, tap), and where each input's pixels lie."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pymodel.compiler.layout import IntArray
from pymodel.machine.planes import Placement, ceil_div
from pymodel.network.integer import Conv, GlobalPool, Layer, Linear


@dataclass(frozen=True)
class Tap:
    """Where an input's pixels lie, relative to its plane, for one phase of the output: see TAP in
    docs/formats.md.
    """

    offset: int
    dy: int
    dx: int


@dataclass(frozen=True)
class Matrix:
    """A layer as the array sees it: weights int64 [F, K] over K inputs, each T pixels from (bank, base +
    delta, tap).

    `taps[phase][tap]` for every phase of the output.
    """

    weight: IntArray
    bank: IntArray
    base: IntArray
    tap: IntArray
    taps: list[list[Tap]]


# Lowering


def lower(
    layer: Layer, source: Placement, out: Placement, places: dict[str, Placement], limit: int
) -> Matrix:
    """`limit`: the largest weight that an input of a residual may have."""
    match layer:
        case Conv():
            return _lower_conv(layer, source, out, places, limit)
        case Linear():
            return _lower_pixels(layer.weight.astype(np.int64), source)
        case GlobalPool():
            # each filter sums the pixels of its own channel
            channels, height, width = source.shape
            return _lower_pixels(np.repeat(np.eye(channels, dtype=np.int64), height * width, axis=1), source)


def _lower_pixels(weight: IntArray, source: Placement) -> Matrix:
    """A matrix [F, C * H * W] over single pixels of the source: an input has one pixel, the first of T."""
    channels, height, width = source.shape
    pixels = np.array([source.pixel(y, x) for y in range(height) for x in range(width)], dtype=np.int64)
    delta, tap = pixels // source.size, pixels % source.size
    bank = np.repeat(np.array(source.bank, dtype=np.int64), len(pixels))
    base = (np.array(source.base)[:, None] + delta).reshape(-1)
    return Matrix(weight, bank, base, np.tile(tap, channels), [[Tap(j, 0, 0) for j in range(source.size)]])


def _lower_conv(
    layer: Conv, source: Placement, out: Placement, places: dict[str, Placement], limit: int
) -> Matrix:
    filters, channels, k, _ = layer.weight.shape
    weight = [layer.weight.reshape(filters, -1).astype(np.int64)]
    bank = [np.repeat(np.array(source.bank), k * k)]
    base = [np.repeat(np.array(source.base), k * k)]
    tap = [np.tile(np.arange(k * k), channels)]
    shifts = [
        (source, layer.stride, ky - layer.padding, kx - layer.padding) for ky in range(k) for kx in range(k)
    ]

    if layer.residual is not None:
        r = layer.residual
        place = places[r.source]
        used = sorted({int(c) for c, w in zip(r.channel, r.weight, strict=True) if c >= 0 and w != 0})
        # a weight above the limit takes several slots, each with an input of its own
        pieces = ceil_div(int(np.abs(r.weight).max()), limit)
        for piece in range(pieces):
            rest = np.sign(r.weight) * np.clip(np.abs(r.weight) - piece * limit, 0, limit)
            weight.append(
                np.array([np.where(r.channel == c, rest, 0) for c in used], dtype=np.int64)
                .reshape(-1, filters)
                .T
            )
            bank.append(np.array([place.bank[c] for c in used], dtype=np.int64))
            base.append(np.array([place.base[c] for c in used], dtype=np.int64))
            tap.append(np.full(len(used), len(shifts), dtype=np.int64))
        shifts.append((place, r.stride, 0, 0))

    taps = [
        [_tap(place, stride * qy + dy, stride * qx + dx) for place, stride, dy, dx in shifts]
        for qy in range(out.phase)
        for qx in range(out.phase)
    ]
    return Matrix(
        np.concatenate(weight, axis=1), np.concatenate(bank), np.concatenate(base), np.concatenate(tap), taps
    )


def _tap(place: Placement, y: int, x: int) -> Tap:
    """The tap that reads pixel (y, x) of `place` for the first pixel of an output phase."""
    (dy, py), (dx, px) = divmod(y, place.phase), divmod(x, place.phase)
    sub_plane = (py * place.phase + px) * place.words * place.size
    return Tap(sub_plane + dy * place.pitch + dx, dy, dx)
