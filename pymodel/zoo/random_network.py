"""Random legal networks with many corner cases, for the tests of the model and the random test of the RTL.

Shapes are drawn from sizes at and next to the machine's own (1, T-1, T, T+1, G, G+1 ...). Weights are drawn
from regular and extreme distributions. So short runs meet empty filters, full ranges, saturation in both
directions and planes of one pixel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from pymodel.compiler.compile import PACKINGS, CapacityError, clip_weights, compile_network, max_weight
from pymodel.compiler.planes import input_banks, residual_banks
from pymodel.machine.config import MAX_DEPTH, ArrayConfig
from pymodel.machine.errors import TatamiError
from pymodel.machine.image import Image
from pymodel.network.integer import (
    HIGHEST,
    INPUT,
    LOWEST,
    TABLE,
    Add,
    AveragePool,
    Conv,
    DepthToSpace,
    Gather,
    GlobalPool,
    Layer,
    Linear,
    MaxPool,
    Network,
    Pair,
    Ratio,
    Requant,
    Requantised,
    Residual,
    Shape,
    SpaceToDepth,
    Upsample,
    View,
    Weighted,
    Window,
)
from pymodel.schemes import LayerPlan, LayerWeights, get_scheme
from pymodel.schemes.penni import BASIS, COEFFICIENTS
from pymodel.schemes.tight_subword import project

MAX_PIXELS = 180
MAX_INPUTS = 400  # of a fully connected layer
MAX_WINDOW = 800  # inputs of a filter of a convolution
MIXED, REUSED, STREAMED = 0.3, 0.3, 0.25  # of the programs
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
OFTEN = 0.8  # how often a layer is of the type that is asked for


@dataclass
class _Draft:
    """A network as it grows. `scale`: the rows and columns of the input for one of a tensor; tensors that are
    joined must have the same.
    """

    rng: np.random.Generator
    counts: list[int]  # of channels
    shapes: dict[str, Shape]
    scale: dict[str, Ratio]
    layers: list[Layer] = field(default_factory=list)
    zeros: set[str] = field(default_factory=set)  # tensors with channels of zeros

    def add(self, layer: Layer) -> str:
        """Appends a layer; returns the name of its tensor."""
        self.layers.append(layer)
        self.shapes = Network("draft", self.shapes[INPUT], tuple(self.layers)).shapes
        for source, (down, across) in layer.ratios()[:1]:
            self.scale[layer.name] = (self.scale[source][0] * down, self.scale[source][1] * across)
        if isinstance(layer, View) and (
            self.zeros & set(layer.reads()) or (isinstance(layer, Gather) and layer.channel.min() < 0)
        ):
            self.zeros.add(layer.name)
        return layer.name

    def pick(self, values: Sequence[Any]) -> Any:
        return values[int(self.rng.integers(len(values)))]

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def fitting(self, shape: Shape | None, size: Pair, scale: Ratio) -> list[str]:
        """Tensors of a scale that have so many pixels and, if given, this shape."""
        return [
            name
            for name, found in self.shapes.items()
            if name in self.scale
            and self.scale[name] == scale
            and found[1:] == size
            and shape in (None, found)
        ]


def random_network(rng: np.random.Generator, config: ArrayConfig, layer: str | None = None) -> Network:
    """A network of one to six layers and perhaps a head. It is legal, but it may be too large for the
    machine's memories. `layer`: one of `LAYERS`, the type of most of its layers.
    """
    t, g = config.size, config.group
    counts = sorted({1, 2, 3, g, g + 1, t - 1, t, t + 1, 2 * t, 2 * t + 1} - {0})
    sides = sorted({1, 2, 3, 4, 5, 8, t - 1, t, t + 1})
    height = int(rng.choice(sides))
    width = int(rng.choice([s for s in sides if s * height <= MAX_PIXELS]))
    shape = (int(rng.choice(counts)), height, width)
    draft = _Draft(rng, counts, {INPUT: shape}, {INPUT: (Fraction(1), Fraction(1))})
    source = INPUT
    for i in range(int(rng.integers(1, 7))):
        kind = _random_conv if i == 0 or draft.chance(0.55) else draft.pick(KINDS)
        if i and layer is not None and draft.chance(OFTEN):
            kind = LAYERS[layer]
        name = draft.add(kind(draft, f"layer{i}", source))
        # mostly a chain; sometimes an earlier tensor is read again
        source = name if draft.chance(0.8) else draft.pick(list(draft.scale))
    if isinstance(draft.layers[-1], View):  # the last layer has to compute
        source = draft.add(_random_conv(draft, "last", draft.layers[-1].name))
    if draft.chance(0.3):
        pixels = float(np.prod(draft.shapes[source][1:]))
        requant = _random_requant(rng, draft.shapes[source][0], pixels, 64.0)
        source = draft.add(GlobalPool("pool", source, requant))
    inputs = int(np.prod(draft.shapes[source]))
    if inputs <= MAX_INPUTS and draft.chance(0.4):
        weight = _random_weight(rng, (int(rng.choice(counts)), inputs))
        draft.add(Linear("fc", source, weight, _random_requant(rng, len(weight), *_spread(weight))))
    layers = tuple(_activated(rng, draft.layers, config.tables))
    return clip_weights(Network("random", shape, layers), config)


def _activated(rng: np.random.Generator, layers: Sequence[Layer], tables: int) -> Iterator[Layer]:
    """The layers, some of them with one of so many activation tables."""
    drawn = [rng.integers(LOWEST, HIGHEST + 1, TABLE) for _ in range(tables)]
    for layer in layers:
        if drawn and isinstance(layer, Requantised) and rng.random() < 0.4:
            table = drawn[int(rng.integers(tables))]
            yield replace(layer, requant=replace(layer.requant, table=table))
        else:
            yield layer


def random_program(
    rng: np.random.Generator,
    config: ArrayConfig,
    packing: str | None = None,
    reused: float = 0.0,
    streamed: float = 0.0,
    layer: str | None = None,
) -> tuple[Network, Image]:
    """A random network that fits the machine, and its image under `packing` (a random one by default), in
    long or short chunks.

    Without `packing`, some networks have a different compression scheme for each layer. The name of their
    scheme is then "mixed". `reused`: the share of networks whose tensors use words again. `streamed`: the
    share of networks that use a part of the memories only, so that the rest comes over the load stream.
    `layer`: as for `random_network`.
    """
    while True:
        network = random_network(rng, config, layer)
        chosen, seed = packing or str(rng.choice(list(PACKINGS))), int(rng.integers(2**31))
        # planes are smaller than the accumulators, so without a limit no layer would have a second chunk
        chunk_words = int(rng.choice([1, 2, 3, 5, config.acc_words], p=[0.1, 0.15, 0.15, 0.1, 0.5]))
        aside = np.random.default_rng(seed)
        plans: dict[str, LayerPlan] = {}
        if packing is None and aside.random() < MIXED:
            network, plans = mixed_schemes(network, config, aside)
        scheme = "mixed" if plans else chosen
        options: dict[str, Any] = {
            "packing": chosen,
            "plans": plans,
            "scheme": scheme,
            "seed": seed,
            "chunk_words": chunk_words,
            "reuse": bool(np.random.default_rng([seed, 1]).random() < reused),
        }
        try:
            image = compile_network(network, config, **options)
        except CapacityError:
            continue
        # only what runs whole is streamed: the networks are the same, whatever the share
        if np.random.default_rng([seed, 2]).random() < streamed:
            with suppress(CapacityError):
                image = compile_network(
                    network, config, **options, streamed=True, limit=partial(random_room, seed)
                )
        return network, image


def random_room(seed: int, memory: str, least: int, need: int) -> int:
    """The words of a memory that a streamed network may use: just enough, some or all. Of PROGRAM, which has
    more records when layers are cut, some more.
    """
    rng = np.random.default_rng([seed, *memory.encode()])
    kind = rng.random()
    if memory == "PROGRAM":
        return least + int(rng.integers(80)) if kind < 0.3 else MAX_DEPTH
    if kind < 0.25:
        return least
    return need if kind < 0.5 else int(rng.integers(least, need + 1))


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
        if isinstance(layer, Weighted) and not grouped(layer) and rng.random() < 0.8
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
            tuple(pruned(layer, plans.get(layer.name)) for layer in layers),
        ),
        plans,
    )


def pruned(layer: Layer, plan: LayerPlan | None) -> Layer:
    """The layer with only those weights that have slots in its plan."""
    if plan is None or not isinstance(layer, Weighted):
        return layer
    if plan.packed is not None and plan.packed.digits:
        return replace(layer, weight=project(plan.packed, layer.weight).astype(np.int64))
    return replace(layer, weight=layer.weight * plan.mask.reshape(layer.weight.shape))


def grouped(layer: Layer) -> bool:
    """Whether it is a convolution in groups."""
    return isinstance(layer, Conv) and layer.groups > 1


def _decomposed(
    layer: Conv, channels: int, config: ArrayConfig, rng: np.random.Generator
) -> tuple[Layer, ...]:
    """Random basis kernels over each channel, and a 1 x 1 convolution in place of `layer`. If that would be
    too large, `layer` itself.
    """
    side, across = layer.weight.shape[2:]
    most = (2 * config.size + 1) // channels
    if side * across == 1 or most < 1:
        return (layer,)
    kernels = int(rng.integers(1, min(most, 3), endpoint=True))
    basis = np.zeros((channels, kernels, channels, side, across), dtype=np.int64)
    drawn = rng.integers(-max_weight(config), max_weight(config), (kernels, side, across), endpoint=True)
    basis[np.arange(channels), :, np.arange(channels)] = drawn
    planes = channels * kernels
    weight = _random_weight(rng, (len(layer.weight), planes, 1, 1))
    first = Conv(
        layer.name + BASIS,
        layer.source,
        basis.reshape(planes, channels, side, across),
        _random_requant(rng, planes, *_spread(drawn)),
        layer.stride,
        layer.padding,
        dilation=layer.dilation,
        pad=layer.pad,
    )
    requant = _random_requant(rng, len(weight), *_spread(weight))
    return first, Conv(layer.name, first.name, weight, requant, residual=layer.residual)


def random_images(rng: np.random.Generator, network: Network, batch: int) -> npt.NDArray[np.int8]:
    """Inputs int8 [batch, C, H, W]: mostly uniform, sometimes all -128 or all 127."""
    images = rng.integers(-128, 128, (batch, *network.input_shape)).astype(np.int8)
    extreme = rng.random(batch) < 0.2
    images[extreme] = rng.choice([-128, 127], (int(extreme.sum()), 1, 1, 1))
    return images


def _random_window(draft: _Draft, source: str, zeros: bool) -> Window:
    """A window that fits a tensor and gives no more than `MAX_PIXELS`. Without `zeros` as padding, no place
    of it lies outside on both sides.
    """
    rng, (_, *size) = draft.rng, draft.shapes[source]
    square = draft.chance(0.6)
    k = draft.pick((1, 2, 3, 3, 3, 5, 7, 11))
    # a small plane has few words left at a large stride, and then no second chunk
    stride = draft.pick((1, 1, 1, 1, 2, 2, 2, 3, 4) if min(size) > 4 else (1, 1, 1, 1, 2, 2, 3))
    kernel = (k, k) if square else (k, draft.pick((1, 2, 3, 4, 10)))
    steps = (stride, stride) if square else (stride, draft.pick((1, 2)))
    apart = (
        (draft.pick((1, 2, 3)), draft.pick((1, 2, 3))) if max(kernel) <= 3 and draft.chance(0.3) else (1, 1)
    )
    reach = Window(kernel, (1, 1), (0,) * 4, apart).reach
    top, left, bottom, right = (int(rng.integers(0, reach[axis])) for axis in (0, 1, 0, 1))
    if square and draft.chance(0.5):
        bottom, right = top, left
    if not zeros:
        bottom, right = min(bottom, reach[0] - 1 - top), min(right, reach[1] - 1 - left)
    window = Window(kernel, steps, (top, left, bottom, right), apart)
    try:
        rows, columns = window.output("", size[0], size[1])
    except TatamiError:
        return Window((1, 1))  # always fits
    return window if rows * columns <= MAX_PIXELS else Window((1, 1))


def _random_conv(draft: _Draft, name: str, source: str) -> Conv:
    rng, channels = draft.rng, draft.shapes[source][0]
    pad = int(rng.integers(-128, 128)) if draft.chance(0.2) and source not in draft.zeros else 0
    window = _random_window(draft, source, zeros=pad == 0)
    groups = draft.pick([n for n in range(1, channels + 1) if channels % n == 0]) if draft.chance(0.3) else 1
    each = int(rng.choice([1, 1, 2])) if groups > 1 else 0
    filters = groups * each or int(rng.choice(draft.counts))
    places = window.size[0] * window.size[1]
    if channels // groups * places > MAX_WINDOW:
        window, places = Window((1, 1)), 1
    weight = _random_weight(rng, (filters, channels // groups, *window.size))
    residual = None
    scale = (draft.scale[source][0] * window.stride[0], draft.scale[source][1] * window.stride[1])
    out = window.output("", *draft.shapes[source][1:])
    added = [
        (other, (r, c))
        for r in (1, 2)
        for c in (1, 2)
        for other, (_, h, w) in draft.shapes.items()
        if other in draft.scale
        and (draft.scale[other][0] * r, draft.scale[other][1] * c) == scale
        and ((h - 1) // r + 1, (w - 1) // c + 1) == out
    ]
    if added and draft.chance(0.5):
        other, steps = draft.pick(added)
        channel = rng.integers(-1, draft.shapes[other][0], filters)
        residual = Residual(other, channel, rng.integers(-300, 301, filters), steps)
    requant = _random_requant(rng, filters, *_spread(weight))
    return Conv(
        name, source, weight, requant, window.stride, window.padding, residual, window.dilation, groups, pad
    )


def _random_average(draft: _Draft, name: str, source: str) -> AveragePool:
    pad = int(draft.rng.integers(-128, 128)) if draft.chance(0.3) and source not in draft.zeros else 0
    window = replace(_random_window(draft, source, zeros=pad == 0), dilation=(1, 1))
    try:
        window.output("", *draft.shapes[source][1:])
    except TatamiError:
        window = Window((1, 1))
    requant = _random_requant(draft.rng, draft.shapes[source][0], float(np.prod(window.size)), 1.0)
    return AveragePool(name, source, requant, window.size, window.stride, window.padding, pad)


def _random_maximum(draft: _Draft, name: str, source: str) -> Layer:
    if source in draft.zeros:
        return _random_conv(draft, name, source)
    window = _random_window(draft, source, zeros=False)
    return MaxPool(name, source, window.size, window.stride, window.padding, window.dilation)


def _random_add(draft: _Draft, name: str, source: str) -> Add:
    shape = draft.shapes[source]
    others = draft.fitting(shape, shape[1:], draft.scale[source])
    sources = (source, *(draft.pick(others) for _ in range(int(draft.rng.integers(0, 3)))))
    weight = draft.rng.integers(-300, 301, (len(sources), shape[0]))
    weight[draft.rng.random(weight.shape) < 0.1] = 0
    return Add(name, sources, weight, _random_requant(draft.rng, shape[0], len(sources), 150.0))


def _random_gather(draft: _Draft, name: str, source: str) -> Gather:
    """Some channels of some tensors, in any order; sometimes zeros."""
    rng, size = draft.rng, draft.shapes[source][1:]
    others = draft.fitting(None, size, draft.scale[source])
    sources = (source, *(draft.pick(others) for _ in range(int(rng.integers(0, 3)))))
    if draft.chance(0.5):
        whole = Gather.concat(name, sources, tuple(draft.shapes[one][0] for one in sources))
        return (
            whole
            if len(whole.channel) <= 3 * max(draft.counts)
            else Gather.concat(name, sources[:1], draft.shapes[source][:1])
        )
    origin = rng.integers(0, len(sources), int(rng.choice(draft.counts)))
    channel = np.array([int(rng.integers(draft.shapes[sources[o]][0])) for o in origin])
    channel[1:][rng.random(len(channel) - 1) < 0.1] = -1
    return Gather(name, sources, origin, channel)


def _random_upsample(draft: _Draft, name: str, source: str) -> View:
    scale = (draft.pick((1, 2, 3)), draft.pick((1, 2)))
    _, height, width = draft.shapes[source]
    if height * scale[0] * width * scale[1] > MAX_PIXELS:
        return _random_gather(draft, name, source)
    return Upsample(name, source, scale)


def _random_depth_to_space(draft: _Draft, name: str, source: str) -> View:
    block = draft.pick(((2, 2), (1, 2), (3, 1)))
    channels, height, width = draft.shapes[source]
    computed = source == INPUT or not any(
        one.name == source and isinstance(one, View) for one in draft.layers
    )
    if not computed or channels % (block[0] * block[1]) or channels * height * width > MAX_PIXELS * 3:
        return _random_gather(draft, name, source)
    return DepthToSpace(name, source, block)


def _random_space_to_depth(draft: _Draft, name: str, source: str) -> View:
    block = draft.pick(((2, 2), (1, 2), (3, 1)))
    channels, height, width = draft.shapes[source]
    if height % block[0] or width % block[1] or channels * block[0] * block[1] > 3 * max(draft.counts):
        return _random_gather(draft, name, source)
    return SpaceToDepth(name, source, block)


# what a layer behind a first convolution may be
KINDS: tuple[Callable[[_Draft, str, str], Layer], ...] = (
    _random_average,
    _random_maximum,
    _random_maximum,
    _random_add,
    _random_gather,
    _random_gather,
    _random_upsample,
    _random_depth_to_space,
    _random_space_to_depth,
)
LAYERS: dict[str, Callable[[_Draft, str, str], Layer]] = {
    kind.__name__.removeprefix("_random_"): kind for kind in (_random_conv, *KINDS)
}


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
    zero = int(rng.integers(-128, 128)) if rng.random() < 0.2 else 0
    low, high = (zero if rng.random() < 0.5 else LOWEST), HIGHEST
    if rng.random() < 0.2:
        low, high = sorted(int(v) for v in rng.integers(LOWEST, HIGHEST + 1, 2))
    return Requant(bias, multiplier, shift, zero, low, high)
