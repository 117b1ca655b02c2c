"""Integer layers from the scales and zero points of a network that is quantised already.

A tensor's value q stands for the real number `step * (q - zero)`. A layer's sum is in steps of its input
times those of its weights. So the input's zero point goes into the bias, and it is what lies around a plane.
No weight and no activation is rounded again. Only multipliers are: to the 16 bits that the machine has.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from pymodel.machine.errors import TatamiError
from pymodel.network.activations import Clamp
from pymodel.network.integer import (
    HIGHEST,
    INPUT,
    LOWEST,
    MAX_KERNEL,
    MAX_RESIDUAL,
    MAX_SHIFT,
    NOTHING,
    TABLE,
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
    Pair,
    Requant,
    Requantised,
    Shape,
    Sides,
    View,
    Window,
)
from pymodel.network.quantise import quantise_multiplier
from pymodel.network.scale import Scale, limits

FloatArray = npt.NDArray[np.float64]

SLOT = 127  # the largest weight of one slot
LEAST_MULTIPLIER = 2.0 ** (15 - MAX_SHIFT)  # with all 16 bits
# The weights of a sum of tensors are whole numbers in about the ratio of their scales. This is what that may
# change the largest sum by, in steps of the output.
SUM_ERROR = 2.0**-8
INT32 = 2**31
MOST_CHANNELS, MOST_PIXELS = 1 << 16, 1 << 26  # of a tensor; more is taken for a damaged file

FREE, RELU6 = Clamp(), Clamp(0.0, 6.0)


def multipliers(real: FloatArray) -> tuple[IntArray, IntArray]:
    """Multipliers and shifts [F] of the real numbers [F]. One so small that the machine has no shift for its
    16 bits gets fewer of them: it moves a sum of 32 bits by half a step at most.
    """
    pairs = [
        (round(one * 2**MAX_SHIFT), MAX_SHIFT)
        if 0 <= one < LEAST_MULTIPLIER
        else quantise_multiplier(float(one))
        for one in real
    ]
    both = np.array(pairs, dtype=np.int32).reshape(-1, 2)
    return both[:, 0], both[:, 1]


def mean_multiplier(pixels: int) -> tuple[int, int]:
    """The multiplier and shift of 1 / `pixels`. An even number of pixels has means just between two values.
    TensorFlow Lite rounds those away from zero, the machine upwards: with a multiplier a little above the
    real one it does as TensorFlow Lite.
    """
    multiplier, shift = quantise_multiplier(1 / pixels)
    if pixels % 2 == 0 and multiplier * pixels <= 2**shift:
        multiplier += 1
    return multiplier, shift


def sum_weights(steps: Sequence[float], output: float) -> tuple[IntArray, float]:
    """Whole numbers in the ratio of `steps`, and the real value of one of them. They are the smallest, in
    slots, that change no sum by more than `SUM_ERROR` steps of `output`; if there are none, the best.
    """
    given = np.array(steps)
    largest = np.arange(1, MAX_RESIDUAL + 1)
    unit = given.max() / largest
    whole = np.rint(given[:, None] / unit)
    error = np.abs(given[:, None] - whole * unit).max(axis=0) * (TABLE - 1) / output
    for slots in range(SLOT, MAX_RESIDUAL + 1, SLOT):
        best = int(error[:slots].argmin())
        if error[best] <= SUM_ERROR:
            break
    else:
        best = int(error.argmin())
    return whole[:, best].astype(np.int64), float(unit[best])


class Draft:
    """A quantised network as its layers are added. Every method that adds one returns the name of its tensor;
    it raises `TatamiError` for a layer that the machine cannot have.
    """

    def __init__(self, name: str, shape: Shape, scale: Scale) -> None:
        self.name = name
        self.layers: list[Layer] = []
        self.shapes: dict[str, Shape] = {}
        self.scales: dict[str, Scale] = {}
        self._note(INPUT, shape, scale)

    def _note(self, name: str, shape: Shape, scale: Scale) -> None:
        if shape[0] > MOST_CHANNELS or math.prod(shape) > MOST_PIXELS:
            raise TatamiError(
                f"a tensor of {' x '.join(map(str, shape))} has more than {MOST_CHANNELS} channels or"
                f" {MOST_PIXELS} values"
            )
        self.shapes[name], self.scales[name] = shape, scale

    def add(self, layer: Layer, scale: Scale) -> str:
        """Any layer, whose output has `scale`."""
        try:
            shape = layer.output_shape("", self.shapes)
        except TatamiError as error:
            raise TatamiError(str(error).removeprefix(": ")) from None
        self._note(layer.name, shape, scale)
        self.layers.append(layer)
        return layer.name

    def fresh(self, name: str) -> str:
        """`name`, or with a number if a tensor has it already."""
        number, found = 1, name
        while found in self.shapes:
            number += 1
            found = f"{name}_{number}"
        return found

    def network(self, output: str) -> Network:
        """The layers that `output` depends on. A copy is added if it only names pixels, or is the input."""
        if output == INPUT or any(isinstance(one, View) for one in self.layers if one.name == output):
            output = self.rescaled(self.fresh("output"), output, self.scales[output])
        needed = {output}
        kept: list[Layer] = []
        for layer in reversed(self.layers):
            if layer.name in needed:
                needed.update(layer.reads())
                kept.append(layer)
        return Network(self.name, self.shapes[INPUT], tuple(reversed(kept)))

    def conv(
        self,
        name: str,
        source: str,
        weight: IntArray,
        steps: FloatArray,
        bias: IntArray,
        scale: Scale,
        clamp: Clamp = FREE,
        stride: Pair = (1, 1),
        padding: Sides = NOTHING,
        dilation: Pair = (1, 1),
        groups: int = 1,
    ) -> str:
        """Weights int8 [F, C / groups, k, l] of `steps` [F]; bias [F] in steps of the input times `steps`."""
        given = self.scales[source]
        requant = self._weighted(weight, steps, bias, given, scale, clamp)
        layer = Conv(
            name, source, weight, requant, stride, padding, dilation=dilation, groups=groups, pad=given.zero
        )
        return self.add(layer, scale)

    def linear(
        self,
        name: str,
        source: str,
        weight: IntArray,
        steps: FloatArray,
        bias: IntArray,
        scale: Scale,
        clamp: Clamp = FREE,
    ) -> str:
        """Weights int8 [F, C * H * W]."""
        requant = self._weighted(weight, steps, bias, self.scales[source], scale, clamp)
        return self.add(Linear(name, source, weight, requant), scale)

    def _weighted(
        self, weight: IntArray, steps: FloatArray, bias: IntArray, given: Scale, scale: Scale, clamp: Clamp
    ) -> Requant:
        if not np.isfinite(steps).all() or (steps < 0).any():
            raise TatamiError("a scale of its weights is no positive number")
        sums = weight.reshape(len(weight), -1).sum(axis=1, dtype=np.int64)
        folded = bias.astype(np.int64) - given.zero * sums
        return self._requant(folded, given.step * steps / scale.step, scale, clamp)

    def _requant(self, bias: IntArray, real: FloatArray, scale: Scale, clamp: Clamp) -> Requant:
        if bias.size and (bias.min() < -INT32 or bias.max() >= INT32):
            raise TatamiError(
                f"with the input's zero point, a bias is {bias[np.abs(bias).argmax()]}: no int32"
            )
        multiplier, shift = multipliers(real)
        return Requant(bias.astype(np.int32), multiplier, shift, scale.zero, *limits(clamp, scale))

    def sum(
        self,
        name: str,
        sources: Sequence[str],
        scale: Scale,
        clamp: Clamp = FREE,
        signs: Sequence[int] | None = None,
    ) -> str:
        """Tensors of one shape and of any scales, added, or with a sign of -1 taken off."""
        whole, unit = sum_weights([self.scales[one].step for one in sources], scale.step)
        if signs is not None:
            whole = whole * np.array(signs)
        channels = self.shapes[sources[0]][0]
        zeros = sum(int(w) * self.scales[one].zero for w, one in zip(whole, sources, strict=True))
        requant = self._requant(np.full(channels, -zeros), np.full(channels, unit / scale.step), scale, clamp)
        weight = np.repeat(whole[:, None], channels, axis=1)
        return self.add(Add(name, tuple(sources), weight, requant), scale)

    def scaled(
        self,
        name: str,
        source: str,
        factor: FloatArray,
        offset: FloatArray,
        scale: Scale,
        clamp: Clamp = FREE,
    ) -> str:
        """Each channel times the real `factor` [C], and the real `offset` [C] added."""
        given = self.scales[source]
        # the largest weight of a slot, so that the offset is rounded to a small part of a step
        whole = SLOT * np.sign(factor).astype(np.int64)
        unit = np.where(factor == 0, scale.step, given.step * np.abs(factor)) / SLOT
        bias = np.rint(offset / unit).astype(np.int64) - given.zero * whole
        requant = self._requant(bias, unit / scale.step, scale, clamp)
        return self.add(Add(name, (source,), whole[None], requant), scale)

    def rescaled(self, name: str, source: str, scale: Scale, clamp: Clamp = FREE) -> str:
        """The same real values in another scale, or clamped."""
        if scale == self.scales[source]:  # no rounding at all
            channels = self.shapes[source][0]
            low, high = limits(clamp, scale)
            requant = replace(Requant.none(channels), low=low, high=high)
            return self.add(Add(name, (source,), np.ones((1, channels), np.int64), requant), scale)
        return self.sum(name, (source,), scale, clamp)

    def mean(self, name: str, source: str, scale: Scale, clamp: Clamp = FREE) -> str:
        """Over all pixels of a channel."""
        _, rows, columns = self.shapes[source]
        requant = self._mean(source, rows * columns, scale, clamp)
        return self.add(GlobalPool(name, source, requant), scale)

    def average(
        self, name: str, source: str, window: Window, scale: Scale, clamp: Clamp = FREE, inside: bool = False
    ) -> str:
        """Over a window; pixels outside the source count as zero points, or with `inside` not at all."""
        _, rows, columns = self.shapes[source]
        if window.size == (rows, columns) and window.padding == NOTHING:
            return self.mean(name, source, scale, clamp)
        whole = window.whole(f"'{name}'", rows, columns) if inside else 0
        requant = self._mean(source, whole or math.prod(window.size), scale, clamp)
        pad = 0 if inside else self.scales[source].zero
        layer = AveragePool(name, source, requant, window.size, window.stride, window.padding, pad, whole)
        return self.add(layer, scale)

    def _mean(self, source: str, pixels: int, scale: Scale, clamp: Clamp) -> Requant:
        channels, given = self.shapes[source][0], self.scales[source]
        if given == scale:
            multiplier, shift = mean_multiplier(pixels)
            every = np.full(channels, 1, np.int32)
            return Requant(0 * every, multiplier * every, shift * every, 0, *limits(clamp, scale))
        bias = np.full(channels, -given.zero * pixels)
        return self._requant(bias, np.full(channels, given.step / scale.step / pixels), scale, clamp)

    def maximum(self, name: str, source: str, window: Window, clamp: Clamp = FREE) -> str:
        scale = self.scales[source]
        layer = MaxPool(name, source, window.size, window.stride, window.padding, window.dilation)
        return self.clamped(self.add(layer, scale), clamp)

    def clamped(self, source: str, clamp: Clamp) -> str:
        """The tensor itself where the clamp changes no value, else a layer more."""
        scale = self.scales[source]
        if limits(clamp, scale) == limits(FREE, scale):
            return source
        return self.rescaled(self.fresh(f"{source}.clamp"), source, scale, clamp)

    def concat(self, name: str, sources: Sequence[str], scale: Scale) -> str:
        """Behind each other as channels; those of other scales are brought to `scale` first."""
        same = [
            one if self.scales[one] == scale else self.rescaled(self.fresh(f"{name}.{number}"), one, scale)
            for number, one in enumerate(sources)
        ]
        return self.add(Gather.concat(name, tuple(same), tuple(self.shapes[one][0] for one in same)), scale)

    def channels(self, name: str, source: str, channel: IntArray) -> str:
        """Some channels of a tensor, in any order; -1 for one of zeros."""
        if (channel < 0).any() and self.scales[source].zero:
            raise TatamiError(
                f"channels of zeros, with zero point {self.scales[source].zero}: must be 0 for that"
            )
        return self.add(Gather(name, (source,), np.zeros_like(channel), channel), self.scales[source])

    def padded(self, name: str, source: str, padding: Sides) -> str:
        """The tensor with zero points around it: a window with a single weight, since a layer has as many
        pixels more than its source as its padding is wide.
        """
        channels, (top, left, bottom, right) = self.shapes[source][0], padding
        rows, columns = top + bottom + 1, left + right + 1
        if max(rows, columns) > MAX_KERNEL:
            raise TatamiError(
                f"padding {padding} is wider than {MAX_KERNEL - 1} pixels on two sides together"
            )
        weight = np.zeros((channels, 1, rows, columns), np.int8)
        weight[:, 0, bottom, right] = 1
        scale = self.scales[source]
        layer = Conv(
            name,
            source,
            weight,
            Requant.none(channels),
            padding=(rows - 1, columns - 1) * 2,
            groups=channels,
            pad=scale.zero,
        )
        return self.add(layer, scale)

    def looked_up(
        self, name: str, source: str, function: Callable[[FloatArray], FloatArray], scale: Scale, own: bool
    ) -> str:
        """A function of each real value, as a table. With `own`, nothing else reads the source, and the table
        becomes part of the layer that computes it.
        """
        given = self.scales[source]
        table = scale.values(function(given.real(np.arange(LOWEST, HIGHEST + 1)))).astype(np.int32)
        last = self.layers[-1] if self.layers else None
        if own and isinstance(last, Requantised) and last.name == source and last.requant.table is None:
            self.layers[-1] = replace(last, requant=replace(last.requant, table=table))
            self.scales[source] = scale
            return source
        channels = self.shapes[source][0]
        requant = replace(Requant.none(channels), table=table)
        return self.add(Add(name, (source,), np.ones((1, channels), np.int64), requant), scale)
