"""Random legal networks with many corner cases, for the tests of the model and the random test of the RTL.

Shapes are drawn from sizes at and next to the machine's own (1, T-1, T, T+1, G, G+1 ...). Weights are drawn
from regular and extreme distributions. So short runs meet empty filters, full ranges, saturation in both
directions and planes of one pixel.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from pymodel.compiler.compile import PACKINGS, CapacityError, clip_weights, compile_network, max_weight
from pymodel.compiler.layout import input_banks, residual_banks
from pymodel.machine.config import ArrayConfig
from pymodel.machine.errors import TatamiError
from pymodel.machine.image import Image
from pymodel.network.integer import (
    INPUT,
    Conv,
    GlobalPool,
    Layer,
    Linear,
    Network,
    Requant,
    Residual,
    Shape,
    Weighted,
)
from pymodel.schemes import LayerPlan, LayerWeights, get_scheme
from pymodel.schemes.penni import BASIS, COEFFICIENTS
from pymodel.schemes.tight_subword import project

MAX_PIXELS = 180
MAX_INPUTS = 400  # of a fully connected layer
MIXED = 0.3  # of the programs
MIX = (
    "dense",
    "unstructured",
    "column_combining",
    "tetris",
    "tight",
    "tight_tile",
    "tight_joint",
    "tight_pass",
    "penni",
)
DIGIT_MIX = ("tight_subword",)  # in an array whose slots hold digits


def random_network(rng: np.random.Generator, config: ArrayConfig) -> Network:
    """A network of one to five layers. It is legal, but it may be too large for the machine's memories."""
    t, g = config.size, config.group
    counts = sorted({1, 2, 3, g, g + 1, t - 1, t, t + 1, 2 * t, 2 * t + 1} - {0})
    sides = sorted({1, 2, 3, 4, 5, 8, t - 1, t, t + 1})

    height = int(rng.choice(sides))
    width = int(rng.choice([s for s in sides if s * height <= MAX_PIXELS]))
    shapes: dict[str, Shape] = {INPUT: (int(rng.choice(counts)), height, width)}
    scale = {INPUT: 1}  # product of the strides since the input
    layers: list[Layer] = []
    source = INPUT
    for i in range(int(rng.integers(1, 5))):
        layer = _random_conv(rng, f"conv{i}", source, int(rng.choice(counts)), shapes, scale)
        layers.append(layer)
        shapes[layer.name] = Network("draft", shapes[INPUT], tuple(layers)).shapes[layer.name]
        scale[layer.name] = scale[source] * layer.stride
        # mostly a chain; sometimes an earlier tensor is read again, if both readers need the same layout
        same = [n for n in shapes if scale[n] == scale[layer.name]]
        source = layer.name if rng.random() < 0.8 else str(rng.choice(same))
    if rng.random() < 0.3:
        layers.append(
            GlobalPool(
                "pool",
                source,
                _random_requant(rng, shapes[source][0], float(np.prod(shapes[source][1:])), 64.0),
            )
        )
        shapes["pool"] = (shapes[source][0], 1, 1)
        source = "pool"
    inputs = int(np.prod(shapes[source]))
    if inputs <= MAX_INPUTS and rng.random() < 0.4:
        weight = _random_weight(rng, (int(rng.choice(counts)), inputs))
        layers.append(Linear("fc", source, weight, _random_requant(rng, len(weight), *_spread(weight))))
    return clip_weights(Network("random", shapes[INPUT], tuple(layers)), config)


def random_program(
    rng: np.random.Generator, config: ArrayConfig, packing: str | None = None
) -> tuple[Network, Image]:
    """A random network that fits the machine, and its image under `packing` (a random one by default), in
    long or short chunks.

    Without `packing`, some networks have a different compression scheme for each layer. The name of their
    scheme is then "mixed".
    """
    while True:
        network = random_network(rng, config)
        chosen, seed = packing or str(rng.choice(list(PACKINGS))), int(rng.integers(2**31))
        # planes are smaller than the accumulators, so without a limit no layer would have a second chunk
        chunk_words = int(rng.choice([1, 2, 3, 5, config.acc_words], p=[0.1, 0.15, 0.15, 0.1, 0.5]))
        aside = np.random.default_rng(seed)
        plans: dict[str, LayerPlan] = {}
        if packing is None and aside.random() < MIXED:
            network, plans = mixed_schemes(network, config, aside)
        scheme = "mixed" if plans else chosen
        try:
            return network, compile_network(
                network,
                config,
                packing=chosen,
                plans=plans,
                scheme=scheme,
                seed=seed,
                chunk_words=chunk_words,
            )
        except CapacityError:
            continue


def mixed_schemes(
    network: Network, config: ArrayConfig, rng: np.random.Generator
) -> tuple[Network, dict[str, LayerPlan]]:
    """The network pruned layer by layer, each layer by its own scheme and at its own ratio. Some layers have
    no scheme.

    Under PENNI a convolution becomes two layers. The second keeps its name.
    """
    schemes = {
        layer.name: str(rng.choice(MIX if config.weight_bits == 8 else DIGIT_MIX))
        for layer in network.layers
        if isinstance(layer, Weighted) and rng.random() < 0.8
    }
    layers: list[Layer] = []
    for layer in network.layers:
        if isinstance(layer, Conv) and layer.name in schemes and get_scheme(schemes[layer.name]).stages == 2:
            layers += _decomposed(layer, network.shapes[layer.source][0], config, rng)
        else:
            layers.append(layer)
    network = Network(network.name, network.input_shape, tuple(layers))

    banks, residuals = input_banks(network, config), residual_banks(network, config)
    plans: dict[str, LayerPlan] = {}
    for name, scheme in schemes.items():
        ratio = float(rng.uniform(1, 4)) if get_scheme(scheme).prunes else 1.0
        stages = [
            layer for layer in layers if layer.name in (name + BASIS, name) and isinstance(layer, Weighted)
        ]
        weights = []
        for layer in stages:
            matrix = layer.weight.reshape(len(layer.weight), -1)
            one = replace(
                LayerWeights.by_magnitude(layer.name, matrix, banks[layer.name]),
                residual=residuals.get(layer.name),
            )
            # the second stage has another name for the scheme
            weights.append(
                replace(one, name=name + COEFFICIENTS) if len(stages) == 2 and layer.name == name else one
            )
        with suppress(TatamiError):  # such a small layer cannot be compressed that much
            found = get_scheme(scheme).plan(weights, ratio, config, rng)
            plans |= {layer.name: found[one.name] for layer, one in zip(stages, weights, strict=True)}
    return (
        Network(
            network.name,
            network.input_shape,
            tuple(_pruned(layer, plans.get(layer.name)) for layer in layers),
        ),
        plans,
    )


def _pruned(layer: Layer, plan: LayerPlan | None) -> Layer:
    """The layer with only those weights that have slots in its plan."""
    if plan is None or not isinstance(layer, Weighted):
        return layer
    if plan.packed is not None and plan.packed.digits:
        return replace(layer, weight=project(plan.packed, layer.weight).astype(np.int64))
    return replace(layer, weight=layer.weight * plan.mask.reshape(layer.weight.shape))


def _decomposed(
    layer: Conv, channels: int, config: ArrayConfig, rng: np.random.Generator
) -> tuple[Layer, ...]:
    """Random basis kernels over each channel, and a 1 x 1 convolution in place of `layer`. If that would be
    too large, `layer` itself.
    """
    side = layer.weight.shape[2]
    most = (2 * config.size + 1) // channels
    if side == 1 or most < 1:
        return (layer,)
    kernels = int(rng.integers(1, min(most, 3), endpoint=True))
    basis = np.zeros((channels, kernels, channels, side, side), dtype=np.int64)
    drawn = rng.integers(-max_weight(config), max_weight(config), (kernels, side, side), endpoint=True)
    basis[np.arange(channels), :, np.arange(channels)] = drawn
    planes = channels * kernels
    weight = _random_weight(rng, (len(layer.weight), planes, 1, 1))
    first = Conv(
        layer.name + BASIS,
        layer.source,
        basis.reshape(planes, channels, side, side),
        _random_requant(rng, planes, *_spread(drawn)),
        layer.stride,
        layer.padding,
    )
    requant = _random_requant(rng, len(weight), *_spread(weight))
    return first, Conv(layer.name, first.name, weight, requant, residual=layer.residual)


def random_images(rng: np.random.Generator, network: Network, batch: int) -> npt.NDArray[np.int8]:
    """Inputs int8 [batch, C, H, W]: mostly uniform, sometimes all -128 or all 127."""
    images = rng.integers(-128, 128, (batch, *network.input_shape)).astype(np.int8)
    extreme = rng.random(batch) < 0.2
    images[extreme] = rng.choice([-128, 127], (int(extreme.sum()), 1, 1, 1))
    return images


def _random_conv(
    rng: np.random.Generator,
    name: str,
    source: str,
    filters: int,
    shapes: dict[str, Shape],
    scale: dict[str, int],
) -> Conv:
    channels, height, width = shapes[source]
    k = int(rng.choice([1, 3, 3, 5]))
    padding = int(rng.integers(0, k))
    stride = int(rng.choice([1, 1, 2]))
    rows, columns = ((n + 2 * padding - k) // stride + 1 for n in (height, width))
    if rows < 1 or columns < 1 or rows * columns > MAX_PIXELS:
        # the plain form always fits
        k, padding, stride, rows, columns = 1, 0, 1, height, width
    weight = _random_weight(rng, (filters, channels, k, k))
    residual = None
    fitting = [
        (n, r)
        for n, (_, h, w) in shapes.items()
        for r in (1, 2)
        if scale[n] * r == scale[source] * stride and ((h - 1) // r + 1, (w - 1) // r + 1) == (rows, columns)
    ]
    if fitting and rng.random() < 0.6:
        other, r = fitting[int(rng.integers(len(fitting)))]
        channel = rng.integers(-1, shapes[other][0], filters)
        residual = Residual(other, channel, rng.integers(-300, 301, filters), r)
    return Conv(
        name, source, weight, _random_requant(rng, filters, *_spread(weight)), stride, padding, residual
    )


def _random_weight(rng: np.random.Generator, shape: tuple[int, ...]) -> npt.NDArray[np.int64]:
    """Pruned weights, sometimes with whole filters empty. The values are uniform, or all at the end of the
    range.
    """
    kind = rng.random()
    if kind < 0.1:
        value = np.full(shape, -128, dtype=np.int64)
    elif kind < 0.2:
        value = rng.choice(np.array([-128, 127]), shape)
    else:
        value = rng.integers(-128, 128, shape)
    keep = rng.random(shape) < rng.choice([1.0, 0.5, 0.1, 0.03, 0.0], p=[0.15, 0.25, 0.35, 0.2, 0.05])
    keep[rng.random(shape[0]) < 0.1] = False
    pruned: npt.NDArray[np.int64] = np.where(keep, value, 0)
    return pruned


def _spread(weight: npt.NDArray[np.int64]) -> tuple[float, float]:
    """The number of inputs that count, and the size of a weight, for `_random_requant`."""
    per_filter = np.count_nonzero(weight.reshape(len(weight), -1), axis=1)
    return max(1.0, float(per_filter.max())), 74.0


def _random_requant(rng: np.random.Generator, filters: int, inputs: float, weight: float) -> Requant:
    """Brings a random sum near the int8 range. Some filters use a part of the range, others saturate."""
    typical = 74.0 * weight * np.sqrt(inputs)
    real = 50.0 / typical * 2.0 ** rng.uniform(-3, 3, filters)
    shift = np.clip(np.floor(16 - np.log2(real)), 0, 47).astype(np.int64)
    multiplier = np.clip(np.floor(real * 2.0**shift), 0, 65535).astype(np.int64)
    odd = rng.random(filters)
    shift = np.where(odd < 0.03, 0, np.where(odd > 0.97, 47, shift))
    multiplier = np.select(
        [odd < 0.015, np.abs(odd - 0.5) < 0.01, np.abs(odd - 0.6) < 0.01], [1, 0, 65535], multiplier
    )
    bias = np.rint(rng.normal(0, typical, filters)).astype(np.int64)
    bias = np.where(np.abs(odd - 0.7) < 0.02, 0, bias)
    bias = np.where(rng.random(filters) < 0.03, rng.choice(np.array([-(2**31), 2**31 - 1]), filters), bias)
    return Requant(bias, multiplier, shift, relu=bool(rng.random() < 0.5))
