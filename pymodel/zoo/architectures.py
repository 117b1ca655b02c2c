"""Architectures that people use, with weights drawn at random: integer networks for `make sim TEST=zoo`.

They are as published, with every batch norm folded into the convolution before it; where none is before it,
as in DenseNet, it is a layer of its own. Sizes of weights and activations are those of a trained network: a
layer's sums are brought to the range of a pixel on images drawn at random (`fitted`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from pymodel.machine.errors import TatamiError
from pymodel.network.integer import (
    INPUT,
    LOWEST,
    NOTHING,
    Add,
    AveragePool,
    Conv,
    Gather,
    GlobalPool,
    IntArray,
    Layer,
    Linear,
    MaxPool,
    Network,
    Requant,
    Requantised,
    Residual,
    Shape,
    Sides,
    Upsample,
    View,
    around,
)
from pymodel.network.quantise import quantise_multiplier
from pymodel.network.reference import Int8Array, layer_sum, rearranged, requantise

SPREAD = 40.0  # steps of a pixel that are one standard deviation of a layer's output
NEAR_ZERO = 24.0  # of a weight: its standard deviation in steps


class Draft:
    """A network as its layers are added. Every method returns the name of the new tensor."""

    def __init__(self, name: str, shape: Shape, rng: np.random.Generator) -> None:
        self.name = name
        self.rng = rng
        self.layers: list[Layer] = []
        self.shapes: dict[str, Shape] = {INPUT: shape}

    def network(self) -> Network:
        return Network(self.name, self.shapes[INPUT], tuple(self.layers))

    def _add(self, layer: Layer) -> str:
        self.layers.append(layer)
        self.shapes[layer.name] = layer.output_shape(f"layer '{layer.name}'", self.shapes)
        return layer.name

    def _requant(self, filters: int, relu: bool) -> Requant:
        return replace(Requant.none(filters), low=0 if relu else LOWEST)

    def _weights(self, *shape: int) -> IntArray:
        drawn = self.rng.normal(0, NEAR_ZERO, shape)  # in place: VGG-16 has a hundred million in one layer
        np.rint(drawn, out=drawn)
        return drawn.clip(-127, 127, out=drawn).astype(np.int8)

    def conv(
        self,
        name: str,
        source: str,
        filters: int,
        side: int = 1,
        stride: int = 1,
        padding: int | None = None,
        groups: int = 1,
        relu: bool = True,
        add: str | None = None,
    ) -> str:
        """A square convolution; `padding` keeps the size if it is not given. `add`: a tensor that is added to
        its sums.
        """
        weight = self._weights(filters, self.shapes[source][0] // groups, side, side)
        residual = None
        if add is not None:
            residual = Residual(add, np.arange(filters), np.ones(filters, np.int64))
        sides = around(side // 2 if padding is None else padding)
        return self._add(
            Conv(
                name,
                source,
                weight,
                self._requant(filters, relu),
                (stride, stride),
                sides,
                residual,
                groups=groups,
            )
        )

    def norm(self, name: str, source: str) -> str:
        """A batch norm and ReLU that stand alone."""
        channels = self.shapes[source][0]
        factor = self.rng.integers(20, 100, (1, channels))
        return self._add(Add(name, (source,), factor, self._requant(channels, relu=True)))

    def maximum(self, name: str, source: str, side: int, stride: int, padding: Sides = NOTHING) -> str:
        return self._add(MaxPool(name, source, (side, side), (stride, stride), padding))

    def average(self, name: str, source: str, side: int, stride: int, padding: Sides = NOTHING) -> str:
        requant = self._requant(self.shapes[source][0], relu=False)
        return self._add(AveragePool(name, source, requant, (side, side), (stride, stride), padding))

    def pool(self, name: str, source: str) -> str:
        return self._add(GlobalPool(name, source, self._requant(self.shapes[source][0], relu=False)))

    def linear(self, name: str, source: str, filters: int, relu: bool = False) -> str:
        weight = self._weights(filters, int(np.prod(self.shapes[source])))
        return self._add(Linear(name, source, weight, self._requant(filters, relu)))

    def concat(self, name: str, *sources: str) -> str:
        return self._add(Gather.concat(name, sources, tuple(self.shapes[one][0] for one in sources)))

    def gather(self, name: str, source: str, channel: IntArray) -> str:
        return self._add(Gather(name, (source,), np.zeros(len(channel), np.int64), channel))

    def upsample(self, name: str, source: str, scale: int) -> str:
        return self._add(Upsample(name, source, (scale, scale)))


def fitted(network: Network, images: Int8Array, rng: np.random.Generator) -> Network:
    """The network with biases and multipliers that bring every sum to the range of a pixel, on images int8
    [B, C, H, W]. A residual weighs as much as the sum that it is added to.
    """
    tensors: dict[str, Int8Array] = {INPUT: images}
    readers = {name: n for n, layer in enumerate(network.layers) for name in layer.reads()}
    layers: list[Layer] = []
    for number, layer in enumerate(network.layers):
        if isinstance(layer, View):
            tensors[layer.name] = rearranged(layer, tensors)
        elif not isinstance(layer, Requantised):
            tensors[layer.name] = layer_sum(layer, tensors).astype(np.int8)
        else:
            if isinstance(layer, Conv) and layer.residual is not None:
                layer = _weighted_residual(layer, layer.residual, tensors)
            total = layer_sum(layer, tensors)
            layer = replace(layer, requant=_requant(layer.requant, total, rng))
            tensors[layer.name] = requantise(total, layer.requant)
        layers.append(layer)
        # a network of 224 x 224 has many planes: those that nobody reads again are not kept
        tensors = {name: values for name, values in tensors.items() if readers.get(name, 0) > number}
    return Network(network.name, network.input_shape, tuple(layers))


def _weighted_residual(layer: Conv, residual: Residual, tensors: Mapping[str, Int8Array]) -> Conv:
    alone = layer_sum(replace(layer, residual=None), tensors)
    spread = max(1.0, float(tensors[residual.source].std()))
    weight = int(np.clip(np.rint(alone.std() / spread), 1, 127))
    return replace(layer, residual=replace(residual, weight=np.full(len(residual.channel), weight)))


def _requant(before: Requant, total: npt.NDArray[np.int64], rng: np.random.Generator) -> Requant:
    filters = total.shape[1]
    spread = max(1.0, float(total.std()))
    real = SPREAD / spread * rng.uniform(0.7, 1.4, filters)
    pairs = np.array([quantise_multiplier(float(one)) for one in np.atleast_1d(real)], dtype=np.int32)
    pairs = pairs.reshape(-1, 2)
    bias = np.rint(rng.normal(0, 0.3 * spread, filters)).astype(np.int32)
    return replace(before, bias=bias, multiplier=pairs[:, 0], shift=pairs[:, 1])


def alexnet(draft: Draft, classes: int) -> None:
    """Krizhevsky, arXiv 1404.5997: AlexNet as one column, without local response normalisation."""
    source = draft.maximum("pool1", draft.conv("conv1", INPUT, 64, 11, 4, 2), 3, 2)
    source = draft.maximum("pool2", draft.conv("conv2", source, 192, 5), 3, 2)
    for number, width in ((3, 384), (4, 256), (5, 256)):
        source = draft.conv(f"conv{number}", source, width, 3)
    _classifier(draft, draft.maximum("pool5", source, 3, 2), classes)


def _classifier(draft: Draft, source: str, classes: int) -> None:
    """The three fully connected layers of AlexNet and VGG-16."""
    wide = draft.linear("fc7", draft.linear("fc6", source, 4096, relu=True), 4096, relu=True)
    draft.linear("classes", wide, classes)


def vgg16(draft: Draft, classes: int) -> None:
    """Simonyan and Zisserman, arXiv 1409.1556: thirteen convolutions and three fully connected layers, or for
    small images one. Without `classes` only the convolutions.
    """
    source = INPUT
    for stage, (count, width) in enumerate(((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)), 1):
        for number in range(1, count + 1):
            source = draft.conv(f"conv{stage}_{number}", source, width, 3)
        source = draft.maximum(f"pool{stage}", source, 2, 2)
    if classes and draft.shapes[source][1:] == (1, 1):
        draft.linear("classes", source, classes)
    elif classes:
        _classifier(draft, source, classes)


def resnet18(draft: Draft, classes: int, small: bool) -> None:
    """He et al., arXiv 1512.03385, with projections as shortcuts. `small`: the beginning for images of
    32 x 32.
    """
    if small:
        source = draft.conv("conv1", INPUT, 64, 3)
    else:
        source = draft.maximum("pool1", draft.conv("conv1", INPUT, 64, 7, 2), 3, 2, around(1))
    for stage, width in enumerate((64, 128, 256, 512), 1):
        for block in range(2):
            name, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            shortcut = source
            if stride == 2:
                shortcut = draft.conv(f"{name}.shortcut", source, width, 1, 2, relu=False)
            first = draft.conv(f"{name}.conv1", source, width, 3, stride)
            source = draft.conv(f"{name}.conv2", first, width, 3, add=shortcut)
    draft.linear("classes", draft.pool("pool", source), classes)


def squeezenet(draft: Draft, classes: int) -> None:
    """SqueezeNet 1.1: Iandola et al., arXiv 1602.07360."""
    source = draft.maximum("pool1", draft.conv("conv1", INPUT, 64, 3, 2, 0), 3, 2)
    for number, (squeeze, expand, pooled) in enumerate(
        (
            (16, 64, False),
            (16, 64, True),
            (32, 128, False),
            (32, 128, True),
            (48, 192, False),
            (48, 192, False),
            (64, 256, False),
            (64, 256, False),
        ),
        2,
    ):
        name = f"fire{number}"
        small = draft.conv(f"{name}.squeeze", source, squeeze)
        one = draft.conv(f"{name}.expand1", small, expand)
        three = draft.conv(f"{name}.expand3", small, expand, 3)
        source = draft.concat(name, one, three)
        if pooled:
            source = draft.maximum(f"pool{number}", source, 3, 2)
    draft.pool("pool", draft.conv("classes", source, classes))


def mobilenet_v1(draft: Draft, classes: int) -> None:
    """Howard et al., arXiv 1704.04861, width 1."""
    source = draft.conv("conv1", INPUT, 32, 3, 2)
    widths = (64, 128, 128, 256, 256, *(512,) * 6, 1024, 1024)
    for number, width in enumerate(widths, 1):
        inputs = draft.shapes[source][0]
        stride = 2 if width > inputs and number > 1 else 1
        depthwise = draft.conv(f"block{number}.depthwise", source, inputs, 3, stride, groups=inputs)
        source = draft.conv(f"block{number}.pointwise", depthwise, width)
    draft.linear("classes", draft.pool("pool", source), classes)


def mobilenet_v2(draft: Draft, classes: int) -> None:
    """Sandler et al., arXiv 1801.04381, width 1."""
    source = draft.conv("conv1", INPUT, 32, 3, 2)
    number = 0
    for factor, width, count, first in (
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    ):
        for block in range(count):
            number += 1
            name, stride, inputs = f"block{number}", first if block == 0 else 1, draft.shapes[source][0]
            wide = draft.conv(f"{name}.expand", source, inputs * factor) if factor > 1 else source
            depthwise = draft.conv(
                f"{name}.depthwise", wide, inputs * factor, 3, stride, groups=inputs * factor
            )
            same = source if stride == 1 and inputs == width else None
            source = draft.conv(f"{name}.project", depthwise, width, relu=False, add=same)
    draft.linear("classes", draft.pool("pool", draft.conv("conv2", source, 1280)), classes)


def shufflenet(draft: Draft, classes: int) -> None:
    """Zhang et al., arXiv 1707.01083, three groups, width 1."""
    groups = 3
    source = draft.maximum("pool1", draft.conv("conv1", INPUT, 24, 3, 2), 3, 2, around(1))
    for stage, (width, count) in enumerate(((240, 3), (480, 7), (960, 3)), 2):
        for block in range(count + 1):
            name, inputs, stride = f"stage{stage}.{block}", draft.shapes[source][0], 2 if block == 0 else 1
            inner = width // 4
            # the first has too few channels for groups
            first = draft.conv(f"{name}.reduce", source, inner, groups=1 if inputs == 24 else groups)
            mixed = draft.gather(f"{name}.shuffle", first, np.arange(inner).reshape(groups, -1).T.reshape(-1))
            depthwise = draft.conv(f"{name}.depthwise", mixed, inner, 3, stride, groups=inner, relu=False)
            if stride == 1:
                source = draft.conv(f"{name}.expand", depthwise, width, groups=groups, add=source)
            else:
                other = draft.average(f"{name}.pool", source, 3, 2, around(1))
                expand = draft.conv(f"{name}.expand", depthwise, width - inputs, groups=groups)
                source = draft.concat(name, other, expand)
    draft.linear("classes", draft.pool("pool", source), classes)


def densenet121(draft: Draft, classes: int) -> None:
    """Huang et al., arXiv 1608.06993: 121 layers, growth 32."""
    source = draft.maximum("pool0", draft.conv("conv0", INPUT, 64, 7, 2), 3, 2, around(1))
    for stage, count in enumerate((6, 12, 24, 16), 1):
        parts = [source]
        for number in range(1, count + 1):
            name = f"dense{stage}.{number}"
            joined = draft.concat(f"{name}.input", *parts) if len(parts) > 1 else source
            narrow = draft.conv(f"{name}.conv1", draft.norm(f"{name}.norm1", joined), 128)
            parts.append(draft.conv(f"{name}.conv2", narrow, 32, 3, relu=False))
        source = draft.norm(f"norm{stage}", draft.concat(f"dense{stage}", *parts))
        if stage < 4:
            half = draft.conv(f"conv{stage}", source, draft.shapes[source][0] // 2, relu=False)
            source = draft.average(f"pool{stage}", half, 2, 2)
    draft.linear("classes", draft.pool("pool", source), classes)


def unet(draft: Draft, classes: int, width: int, depth: int) -> None:
    """Ronneberger et al., arXiv 1505.04597, with padding and nearest upsampling."""
    source, kept = INPUT, []
    for level in range(depth):
        for number in (1, 2):
            source = draft.conv(f"down{level}.conv{number}", source, width << level, 3)
        kept.append(source)
        source = draft.maximum(f"down{level}.pool", source, 2, 2)
    for number in (1, 2):
        source = draft.conv(f"bottom.conv{number}", source, width << depth, 3)
    for level in reversed(range(depth)):
        larger = draft.upsample(f"up{level}.larger", source, 2)
        narrow = draft.conv(f"up{level}.conv0", larger, width << level)
        source = draft.concat(f"up{level}", kept[level], narrow)
        for number in (1, 2):
            source = draft.conv(f"up{level}.conv{number}", source, width << level, 3)
    draft.conv("classes", source, classes, relu=False)


@dataclass(frozen=True)
class Architecture:
    """`build` adds its layers to a draft with an input of `shape`. `ratio`: the matrix compression that it is
    pruned to. `share`: of its tables, what the memories hold; the rest comes while it runs.
    """

    shape: Shape
    build: Callable[[Draft], None]
    summary: str
    ratio: float = 14.0
    share: float = 1.0


LARGE: Shape = (3, 224, 224)
SMALL: Shape = (3, 32, 32)

ARCHITECTURES = {
    "vgg16_32": Architecture(SMALL, lambda d: vgg16(d, 10), "VGG-16 for 32 x 32", 15.0),
    "vgg16_32_cut": Architecture(
        SMALL, lambda d: vgg16(d, 10), "VGG-16 for 32 x 32, in memories for a hundredth", share=0.01
    ),
    "resnet18_32": Architecture(SMALL, lambda d: resnet18(d, 10, small=True), "ResNet-18 for 32 x 32"),
    "unet": Architecture((1, 64, 64), lambda d: unet(d, 2, 16, 3), "a small U-Net, 64 x 64"),
    "vgg16_convs": Architecture(
        LARGE, lambda d: vgg16(d, 0), "the convolutions of VGG-16, in memories for a fiftieth", share=0.02
    ),
    "alexnet": Architecture(
        LARGE, lambda d: alexnet(d, 1000), "AlexNet, in memories for a fiftieth", share=0.02
    ),
    "vgg16": Architecture(LARGE, lambda d: vgg16(d, 1000), "VGG-16, in memories for a fiftieth", share=0.02),
    "resnet18": Architecture(LARGE, lambda d: resnet18(d, 1000, small=False), "ResNet-18"),
    "squeezenet": Architecture(LARGE, lambda d: squeezenet(d, 1000), "SqueezeNet 1.1"),
    "mobilenet_v1": Architecture(LARGE, lambda d: mobilenet_v1(d, 1000), "MobileNetV1 1.0"),
    "mobilenet_v2": Architecture(LARGE, lambda d: mobilenet_v2(d, 1000), "MobileNetV2 1.0"),
    "shufflenet": Architecture(LARGE, lambda d: shufflenet(d, 1000), "ShuffleNet, three groups", 6.0),
    # more lanes than a memory can have
    "densenet121": Architecture(
        LARGE, lambda d: densenet121(d, 1000), "DenseNet-121, in memories for a fiftieth", share=0.02
    ),
}


def architecture(name: str, rng: np.random.Generator) -> Network:
    """The named network, its weights drawn and its sums not yet fitted. Raises `TatamiError` that lists the
    names there are.
    """
    if name not in ARCHITECTURES:
        raise TatamiError(f"architecture {name!r} is unknown; valid: {', '.join(ARCHITECTURES)}")
    draft = Draft(name, ARCHITECTURES[name].shape, rng)
    ARCHITECTURES[name].build(draft)
    return draft.network()
