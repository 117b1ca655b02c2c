"""A `FloatNetwork` as a torch module that can be trained: the inverse of `from_torch`."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import fx, nn
from torch.nn import functional

from pymodel.machine.errors import TatamiError
from pymodel.network import activations
from pymodel.network.activations import Activation, Clamp
from pymodel.network.float import (
    FloatAdd,
    FloatAveragePool,
    FloatComputed,
    FloatConv,
    FloatLayer,
    FloatLinear,
    FloatNetwork,
    FloatPool,
)
from pymodel.network.integer import (
    INPUT,
    NOTHING,
    DepthToSpace,
    Gather,
    MaxPool,
    Shape,
    SpaceToDepth,
    Upsample,
    Window,
)

Tensors = Mapping[str, torch.Tensor]

_CURVES: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    activations.SIGMOID.name: torch.sigmoid,
    activations.TANH.name: torch.tanh,
    activations.HARD_SIGMOID.name: functional.hardsigmoid,
    activations.HARD_SWISH.name: functional.hardswish,
    activations.SILU.name: functional.silu,
    activations.GELU.name: functional.gelu,
    activations.GELU_TANH.name: partial(functional.gelu, approximate="tanh"),
    activations.MISH.name: functional.mish,
}
_WITH_NUMBER: dict[str, Callable[[torch.Tensor, float], torch.Tensor]] = {
    "leaky_relu": functional.leaky_relu,
    "elu": functional.elu,
    "softplus": functional.softplus,
}


def to_torch(network: FloatNetwork) -> tuple[fx.GraphModule, dict[str, str]]:
    """A module that computes the network's last tensor, flat: [B, *input_shape] -> [B, values], float32.

    Its convolutions and fully connected layers are modules, named as the layers are, but for characters that
    no attribute may have: also returns the names by that of the layer. Raises `TatamiError`, naming the
    layer, for what torch lacks.
    """
    made = _Built(network)
    return fx.symbolic_trace(made), made.names


class _Built(nn.Module):
    """Layer by layer; the steps hold modules of this one, so it is traced before it is copied."""

    def __init__(self, network: FloatNetwork) -> None:
        super().__init__()
        self.last = network.layers[-1].name
        self.names: dict[str, str] = {}
        self.steps: list[tuple[str, Callable[[Tensors], torch.Tensor]]] = []
        self.flat: set[str] = set()  # tensors without rows and columns
        shapes = {INPUT: network.input_shape, **network.shapes}
        for layer in network.layers:
            try:
                self.steps.append((layer.name, self._step(layer, shapes)))
            except TatamiError as error:
                raise TatamiError(f"layer '{layer.name}': {error}") from None

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        tensors = {INPUT: images}
        for name, step in self.steps:
            tensors[name] = step(tensors)
        found = tensors[self.last]
        return found if self.last in self.flat else found.flatten(1)

    def _named(self, layer: str, module: nn.Module) -> nn.Module:
        name = re.sub(r"\W", "_", layer)
        while hasattr(self, name):
            name += "_"
        self.names[layer] = name
        self.add_module(name, module)
        return module

    def _step(self, layer: FloatLayer, shapes: Mapping[str, Shape]) -> Callable[[Tensors], torch.Tensor]:
        """What computes the layer's tensor from those before it."""
        if not isinstance(layer, FloatComputed):
            return self._moved(layer, shapes)
        sums, behind = self._sums(layer, shapes), _activation(layer.activation)
        return sums if behind is None else lambda tensors: behind(sums(tensors))

    def _sums(self, layer: FloatComputed, shapes: Mapping[str, Shape]) -> Callable[[Tensors], torch.Tensor]:
        match layer:
            case FloatConv():
                return self._conv(layer, shapes[layer.source][0])
            case FloatLinear():
                return self._linear(layer)
            case FloatPool():
                return lambda tensors: functional.adaptive_avg_pool2d(tensors[layer.source], 1)
            case FloatAveragePool():
                return _average(layer, shapes)
            case FloatAdd():
                return self._add(layer, shapes)

    def _conv(self, layer: FloatConv, channels: int) -> Callable[[Tensors], torch.Tensor]:
        top, left, bottom, right = layer.padding
        even = (top, left) == (bottom, right)
        conv = nn.Conv2d(
            channels, len(layer.weight), layer.window.size, layer.stride, (top, left) if even else 0,
            layer.dilation, layer.groups,
        )  # fmt: skip
        _fill(conv, layer)
        self._named(layer.name, conv)
        residual = layer.residual
        if residual is not None and (
            residual.stride != (1, 1)
            or not np.array_equal(residual.channel, np.arange(len(layer.weight)))
            or residual.source in self.flat
        ):
            raise TatamiError("its residual has a stride or leaves channels out")

        def step(tensors: Tensors) -> torch.Tensor:
            source = tensors[layer.source]
            found = conv(source if even else functional.pad(source, (left, right, top, bottom)))
            return found if residual is None else found + tensors[residual.source]

        return step

    def _linear(self, layer: FloatLinear) -> Callable[[Tensors], torch.Tensor]:
        linear = nn.Linear(layer.weight.shape[1], len(layer.weight))
        _fill(linear, layer)
        self._named(layer.name, linear)
        flat = layer.source in self.flat
        self.flat.add(layer.name)
        return lambda tensors: linear(tensors[layer.source] if flat else tensors[layer.source].flatten(1))

    def _add(self, layer: FloatAdd, shapes: Mapping[str, Shape]) -> Callable[[Tensors], torch.Tensor]:
        plain = bool(np.all(np.abs(layer.weight) == 1)) and not layer.bias.any()
        flat = {source in self.flat for source in layer.sources}
        if len(flat) > 1 or (flat == {True} and not plain):
            raise TatamiError("a sum of numbers of a fully connected layer with factors")
        if flat == {True}:
            self.flat.add(layer.name)
        if plain and len({*layer.weight.flat}) == 1 and layer.weight.flat[0] == 1:
            return lambda tensors: _sum_of([tensors[source] for source in layer.sources])
        # a factor for each channel is a depthwise window of one pixel
        scaled = []
        for number, (source, weight) in enumerate(zip(layer.sources, layer.weight, strict=True)):
            channels = shapes[source][0]
            conv = nn.Conv2d(channels, channels, 1, groups=channels)
            bias = layer.bias if number == 0 else np.zeros(channels)
            _fill(conv, FloatConv("", "", weight[:, None, None, None], bias))
            self._named(layer.name if number == 0 else f"{layer.name}_{number}", conv)
            scaled.append((source, conv))
        return lambda tensors: _sum_of([conv(tensors[source]) for source, conv in scaled])

    def _moved(self, layer: FloatLayer, shapes: Mapping[str, Shape]) -> Callable[[Tensors], torch.Tensor]:
        match layer:
            case MaxPool():
                pads, more = _pool_padding(layer.window, shapes[layer.source], shapes[layer.name])
                return lambda tensors: functional.max_pool2d(
                    tensors[layer.source], layer.size, layer.stride, pads, layer.dilation, more
                )
            case Gather():
                return self._gather(layer, shapes)
            case Upsample():
                return lambda tensors: functional.interpolate(
                    tensors[layer.source], scale_factor=[float(one) for one in layer.scale]
                )
            case DepthToSpace():
                return _blocks(layer, shapes, torch.pixel_shuffle)
            case SpaceToDepth():
                return _blocks(layer, shapes, torch.pixel_unshuffle)
        raise TatamiError(f"a {type(layer).__name__} is not known")

    def _gather(self, layer: Gather, shapes: Mapping[str, Shape]) -> Callable[[Tensors], torch.Tensor]:
        counts = [shapes[source][0] for source in layer.sources]
        first = np.cumsum([0, *counts])
        index = np.where(layer.channel < 0, first[-1], first[layer.origin] + layer.channel)
        whole = np.array_equal(index, np.arange(first[-1]))
        zeros = bool((layer.channel < 0).any())
        name = f"index{len(self.steps)}"
        if not whole:
            self.register_buffer(name, torch.from_numpy(index))

        def step(tensors: Tensors) -> torch.Tensor:
            found = torch.cat([tensors[source] for source in layer.sources], dim=1)
            if zeros:
                found = functional.pad(found, (0, 0, 0, 0, 0, 1))
            return found if whole else found[:, getattr(self, name)]

        return step


def _sum_of(values: list[torch.Tensor]) -> torch.Tensor:
    found = values[0]
    for one in values[1:]:
        found = found + one
    return found


def _fill(module: nn.Conv2d | nn.Linear, layer: FloatConv | FloatLinear) -> None:
    with torch.no_grad():
        module.weight.copy_(torch.from_numpy(layer.weight))
        assert module.bias is not None  # as it was made
        module.bias.copy_(torch.from_numpy(layer.bias))


def _average(layer: FloatAveragePool, shapes: Mapping[str, Shape]) -> Callable[[Tensors], torch.Tensor]:
    if layer.inside:
        pads, more = _pool_padding(layer.window, shapes[layer.source], shapes[layer.name])
        return lambda tensors: functional.avg_pool2d(
            tensors[layer.source], layer.size, layer.stride, pads, more, count_include_pad=False
        )
    top, left, bottom, right = layer.padding
    return lambda tensors: functional.avg_pool2d(
        tensors[layer.source]
        if layer.padding == NOTHING
        else functional.pad(tensors[layer.source], (left, right, top, bottom)),
        layer.size,
        layer.stride,
    )


def _pool_padding(window: Window, source: Shape, out: Shape) -> tuple[tuple[int, int], bool]:
    """The padding before, which torch's pools have behind too, and `ceil_mode`."""
    top, left, *_ = window.padding
    even = replace(window, padding=(top, left, top, left))
    if max(2 * top - window.size[0], 2 * left - window.size[1]) <= 0:
        if even.output("", *source[1:]) == out[1:]:
            return (top, left), False
        found = functional.max_pool2d(
            torch.zeros(1, 1, *source[1:]), window.size, window.stride, (top, left), window.dilation, True
        )
        if tuple(found.shape[2:]) == out[1:]:
            return (top, left), True
    raise TatamiError(f"its padding is {window.padding}, which pools of torch do not have")


def _blocks(
    layer: DepthToSpace | SpaceToDepth, shapes: Mapping[str, Shape], shuffle: Callable[..., torch.Tensor]
) -> Callable[[Tensors], torch.Tensor]:
    (down, across), (channels, rows, columns) = layer.block, shapes[layer.source]
    if down == across:
        return lambda tensors: shuffle(tensors[layer.source], down)
    if isinstance(layer, DepthToSpace):
        split = (-1, channels // (down * across), down, across, rows, columns)
        order: tuple[int, ...] = (0, 1, 4, 2, 5, 3)
    else:
        split = (-1, channels, rows // down, down, columns // across, across)
        order = (0, 1, 3, 5, 2, 4)
    return lambda tensors: (
        tensors[layer.source].reshape(split).permute(order).reshape(-1, *shapes[layer.name])
    )


def _activation(activation: Activation | None) -> Callable[[torch.Tensor], torch.Tensor] | None:
    match activation:
        case None:
            return None
        case Clamp(low, high):
            if (low, high) == (0, math.inf):
                return functional.relu
            bounds: dict[str, Any] = {"min": low, "max": high}
            kept = {name: bound for name, bound in bounds.items() if not math.isinf(bound)}
            return (lambda values: torch.clamp(values, **kept)) if kept else None
        case _:
            said = re.fullmatch(r"(\w+)\(([^,)]+)\)", activation.name)
            if activation.name in _CURVES:
                return _CURVES[activation.name]
            if said and said[1] in _WITH_NUMBER:
                function, number = _WITH_NUMBER[said[1]], float(said[2])
                return lambda values: function(values, number)
            raise TatamiError(f"its activation {activation.name} is none of torch's")
