"""Biases that make up for what rounding does to the mean of a channel.

The weights of a filter are rounded once, and all pixels see the same errors. Where the pixels that it reads
have a mean, so has the error of its sums, and the layers behind it see a channel that is too high or too low
everywhere. The bias of the filter takes the mean error away (Nagel et al., arXiv 1906.04721, section 4.2, on
images).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from pymodel.network.activations import Curve
from pymodel.network.float import FloatArray, FloatComputed, FloatNetwork, sums_of
from pymodel.network.integer import INPUT, Layer, Network, Requant, Requantised, View
from pymodel.network.quantise import CALIBRATED_AT_A_TIME, tensors_of_some
from pymodel.network.reference import Int8Array, Int64Array, layer_pixels, layer_sum, rearranged, requantise
from pymodel.network.scale import Scale

LEAST_SHARE = 0.01  # of the pixels that lie between the clamps: with fewer, a bias hardly changes the mean
MOST_VALUES = 2**28  # of all tensors of all images, a byte each
INT32 = np.iinfo(np.int32)


def corrected(
    network: FloatNetwork, made: Network, scales: Mapping[str, Scale], images: FloatArray
) -> Network:
    """`made`, the integers of a float network, with other biases: on these images every channel has about the
    mean that the float network's has.

    The layers are corrected in their order, each with the tensors of those before it. Behind a clamp, only
    the pixels between its bounds follow a bias; the change is larger accordingly, and is made only if the
    mean is nearer after it. Before a curve, the mean is that of the sums. `scales` are those that the network
    was quantised with (those of the sums of curves too). The format of the images is that of
    `evaluate_float`; of a network with large tensors, fewer are taken than are given.
    """
    values = sum(int(np.prod(shape)) for shape in made.shapes.values())
    images = images[: max(1, MOST_VALUES // max(1, values))]
    wanted = _means(network, images)
    tensors: dict[str, Int8Array] = {INPUT: scales[INPUT].values(images)}
    layers: list[Layer] = []
    for real, layer in zip(network.layers, made.layers, strict=True):
        if isinstance(layer, View):
            tensors[layer.name] = rearranged(layer, tensors)
        else:
            total = np.concatenate([layer_sum(layer, part) for part in _parts(tensors, len(images))])
            if isinstance(layer, Requantised):
                assert isinstance(real, FloatComputed)  # as the layer is
                name = sums_of(layer.name) if isinstance(real.activation, Curve) else layer.name
                layer = replace(layer, requant=_nearer(layer.requant, total, wanted[name], scales[name]))
            tensors[layer.name] = layer_pixels(layer, total)
        layers.append(layer)
    return replace(made, layers=tuple(layers))


def _parts(tensors: Mapping[str, Int8Array], images: int) -> Iterator[dict[str, Int8Array]]:
    for first in range(0, images, CALIBRATED_AT_A_TIME):
        yield {name: values[first : first + CALIBRATED_AT_A_TIME] for name, values in tensors.items()}


def _means(network: FloatNetwork, images: FloatArray) -> dict[str, FloatArray]:
    """The mean of each channel of every tensor, [C], and of the sums that a curve is taken of."""
    means: dict[str, FloatArray] = {}
    for tensors in tensors_of_some(network, images):
        for name, values in tensors.items():
            mine = values.mean(axis=(2, 3)).sum(axis=0) / len(images)
            means[name] = means[name] + mine if name in means else mine
    return means


def _nearer(requant: Requant, total: Int64Array, wanted: FloatArray, scale: Scale) -> Requant:
    """The requantisation with biases that bring the mean of each channel nearer to `wanted` [F], in real
    units; `total` [B, F, H, W] are the sums.
    """
    plain, over = replace(requant, table=None), (0, 2, 3)

    def missing(pixels: Int8Array) -> FloatArray:
        """Steps of the output."""
        return wanted / scale.step - (pixels.mean(axis=over) - scale.zero)

    pixels = requantise(total, plain)
    error = missing(pixels)
    share = ((pixels > requant.low) & (pixels < requant.high)).mean(axis=over)
    unit = requant.multiplier / 2.0**requant.shift  # steps of the output in one of the sum
    change = np.where(share >= LEAST_SHARE, error / (unit * np.maximum(share, LEAST_SHARE)), 0)
    bias = np.rint(requant.bias + change).clip(INT32.min, INT32.max).astype(np.int32)
    after = missing(requantise(total, replace(plain, bias=bias)))
    return replace(requant, bias=np.where(np.abs(after) < np.abs(error), bias, requant.bias))
