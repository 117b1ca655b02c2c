"""From a float network to the integers of `pymodel.network.integer`: int8, one scale for each tensor and for
each filter. Weights are symmetric, and so are tensors that are given no zero point.

A scale is the real value of one integer step: `real = scale * (integer - zero)`. A layer has three of
them: `s_in` of the tensor it reads, `s_out` of the tensor it writes, `s_w[f]` of the weights of filter f. Its
sums, bias and residual are in steps of `s_in * s_w[f]`. The multiplier is `s_in * s_w[f] / s_out` (Jacob et
al., arXiv 1712.05877, section 2).

A residual from a tensor of scale s_res enters the sum with the integer weight `s_res / (s_in * s_w[f])`.
`s_w[f]` is enlarged until that is a whole number. This costs a part of one bit in the filter's weights and
makes the residual exact.

The zero point of a tensor goes into the biases of its readers, and is what lies around its planes.

A clamp is one of the output's pixels. A curve is a table: the sums become pixels of a scale of their own,
`s_sum`, and the table has the output's pixel for each of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from pymodel.machine.errors import TatamiError
from pymodel.network.activations import Clamp, Curve
from pymodel.network.float import (
    FloatAdd,
    FloatArray,
    FloatComputed,
    FloatConv,
    FloatMean,
    FloatNetwork,
    FloatResidual,
    FloatWeighted,
    evaluate_float,
    sums_of,
)
from pymodel.network.integer import (
    HIGHEST,
    INPUT,
    LOWEST,
    MAX_RESIDUAL,
    MAX_SHIFT,
    Add,
    AveragePool,
    Conv,
    Gather,
    GlobalPool,
    IntArray,
    Layer,
    MaxPool,
    Network,
    Requant,
    Residual,
    Shape,
    View,
    Weighted,
)
from pymodel.network.scale import Scale, limits
from pymodel.packing.pack import DIGIT_BITS

PEAK = 127  # the largest weight and activation: symmetric, -128 occurs only by saturation
# The least step of a filter, as a part of an output step. A weight that is rounded to 0 because of it would
# change the output by less than a thousandth of a step. And a filter with tiny or no weights still has a
# multiplier and a bias that fit.
FINEST_STEP = 2.0**-24
BIAS_LIMIT = 2**30
ONE_DIGIT = 7 << DIGIT_BITS  # the largest weight that takes one slot of an array for digits, and of any other
CALIBRATED_AT_A_TIME = 32  # images: all tensors of a ResNet-56 under PENNI take about 25 MB for each


def quantise_multiplier(real: float) -> tuple[int, int]:
    """`(multiplier, shift)` with `multiplier / 2**shift` nearest to `real`: multiplier in [2**15, 2**16),
    shift in 0..47.

    The relative error is at most 2**-16. Raises TatamiError if `real` is not a number in about 2**-32 ..
    65535.
    """
    if not (math.isfinite(real) and real > 0):
        raise TatamiError(f"requantisation multiplier is {real}, must be a positive number")
    mantissa, exponent = math.frexp(real)
    multiplier, shift = round(mantissa * 2**16), 16 - exponent
    if multiplier == 2**16:
        multiplier, shift = 2**15, shift - 1
    if not 0 <= shift <= MAX_SHIFT:
        raise TatamiError(
            f"requantisation multiplier is {real:g}, needs a shift of {shift}, must be in 0..{MAX_SHIFT}"
        )
    return multiplier, shift


def quantise_tensor(values: npt.NDArray[np.floating], scale: float) -> npt.NDArray[np.int8]:
    """Real values to int8 steps of `scale`, rounded to nearest, saturated at -128 and 127; any shape."""
    steps: FloatArray = np.rint(np.asarray(values, dtype=np.float64) / scale)
    return steps.clip(-PEAK - 1, PEAK).astype(np.int8)


def calibrate(network: FloatNetwork, images: FloatArray) -> dict[str, float]:
    """The scale of every tensor. The largest magnitude of the tensor on these images becomes 127. Tensors
    whose pixels others have (`one_scale`) share the scale of the largest. The sums that a curve is taken of
    have a scale too, under the name that `sums_of` gives.

    A tensor that is zero throughout gets scale 1. The images have the format of `evaluate_float`. They must
    not be those that accuracy is measured on.
    """
    return scales_of(network, channel_peaks(network, images))


def tensors_of_some(network: FloatNetwork, images: FloatArray) -> Iterator[dict[str, FloatArray]]:
    """All tensors and the sums that a curve is taken of, as `evaluate_float` has them, for a few images after
    the other.
    """
    for first in range(0, len(images), CALIBRATED_AT_A_TIME):
        yield evaluate_float(network, images[first : first + CALIBRATED_AT_A_TIME], sums=True)


def channel_peaks(network: FloatNetwork, images: FloatArray) -> dict[str, FloatArray]:
    """The largest magnitude of each channel of every tensor on these images, [C], and of the sums that a
    curve is taken of.
    """
    peaks: dict[str, FloatArray] = {}
    for tensors in tensors_of_some(network, images):
        for name, values in tensors.items():
            mine = np.abs(values).max(axis=(0, *range(2, values.ndim)), initial=0)
            peaks[name] = np.maximum(peaks[name], mine) if name in peaks else mine
    return peaks


def scales_of(network: FloatNetwork, channels: Mapping[str, FloatArray]) -> dict[str, float]:
    """The scale of every tensor, as `calibrate` has it, of the peaks of its channels."""
    curves = _curves(network)
    peaks = dict.fromkeys((INPUT, *network.shapes, *curves), 0.0)
    peaks |= {name: float(mine.max(initial=0)) for name, mine in channels.items()}
    for name, curve in curves.items():
        peaks[name] = min(peaks[name], curve.reach)
    for together in one_scale(network):
        peaks |= dict.fromkeys(together, max(peaks[name] for name in together))
    return {name: peak / PEAK if peak else 1.0 for name, peak in peaks.items()}


def one_scale(network: FloatNetwork) -> list[set[str]]:
    """Sets of tensors that must have the same scale: a layer that only moves pixels, or takes the largest of
    them, changes none.
    """
    found: list[set[str]] = []
    for layer in network.layers:
        if isinstance(layer, View | MaxPool):
            linked = {layer.name, *layer.reads()}
            found, others = [s for s in found if not s & linked], [s for s in found if s & linked]
            found.append(linked.union(*others))
    return found


NO_STEPS: Mapping[str, FloatArray] = {}
NO_ZEROS: Mapping[str, int] = {}


def quantise(
    network: FloatNetwork,
    scales: Mapping[str, float],
    residual_limit: int = PEAK,
    steps: Mapping[str, FloatArray] = NO_STEPS,
    peaks: Mapping[str, FloatArray] = NO_STEPS,
    zeros: Mapping[str, int] = NO_ZEROS,
) -> Network:
    """The integer network, given the scale of every tensor and of the sums below every curve (`calibrate`),
    and the zero points of those tensors that have one.

    `residual_limit` bounds the integer weight of a residual and of an addition. Up to 127 it takes one slot
    of the array. A larger limit allows finer weights in filters whose weights are all small compared with 1,
    but takes more slots. `steps`, float [F] by layer, are the `s_w` of layers whose weights are already
    multiples of a step. For these layers the residual's integer weight is rounded, and a step is enlarged
    only if that weight would be more than `MAX_RESIDUAL`. A filter without weights has no step to keep: its
    residual is exact, and takes one slot.

    `peaks` are those of `channel_peaks`. By them, a filter with weights so large that its residual is less
    than a step gets the step that costs least: finer, with its largest weights cut off, where these have next
    to nothing to read. Raises TatamiError for a scale that is missing or not positive, for tensors that must
    have one scale and zero point and do not, for channels of zeros where there is a zero point, and for
    numbers that the formats cannot hold.
    """
    for name in (*network.shapes, *_curves(network)):
        if not 0 < scales.get(name, 0) < math.inf:
            raise TatamiError(
                f"network '{network.name}': scale of tensor '{name}' is {scales.get(name)}, must be a"
                " positive number"
            )
    for together in one_scale(network):
        first, *others = sorted(together)
        for name in others:
            if scales[name] != scales[first]:
                raise TatamiError(
                    f"network '{network.name}': scale of tensor '{name}' is {scales[name]:g}, must be that of"
                    f" '{first}', {scales[first]:g}: they have pixels in common"
                )
            if zeros.get(name, 0) != zeros.get(first, 0):
                raise TatamiError(
                    f"network '{network.name}': zero point of tensor '{name}' is {zeros.get(name, 0)}, must"
                    f" be that of '{first}', {zeros.get(first, 0)}: they have pixels in common"
                )
    known = {name: Scale(step, zeros.get(name, 0)) for name, step in scales.items()}
    layers: list[Layer] = []
    for layer, blank in zip(network.layers, network.skeleton.layers, strict=True):
        try:
            if isinstance(layer, FloatWeighted):
                layers.append(
                    _quantise_weights(layer, blank, known, residual_limit, steps.get(layer.name), peaks)
                )
            elif isinstance(layer, FloatMean):
                layers.append(_quantise_mean(layer, blank, network.shapes[layer.source], known))
            elif isinstance(layer, FloatAdd):
                layers.append(_quantise_sum(layer, blank, known, residual_limit))
            elif isinstance(layer, Gather) and known[layer.name].zero and layer.channel.min() < 0:
                raise TatamiError(f"channels of zeros, with zero point {known[layer.name].zero}: must be 0")
            else:
                layers.append(layer)
        except TatamiError as error:
            raise TatamiError(f"network '{network.name}', layer '{layer.name}': {error}") from None
    return Network(network.name, network.input_shape, tuple(layers))


def _curves(network: FloatNetwork) -> dict[str, Curve]:
    """All curves, under the names of the sums that they are taken of."""
    return {
        sums_of(layer.name): layer.activation
        for layer in network.layers
        if isinstance(layer, FloatComputed) and isinstance(layer.activation, Curve)
    }


def _sum_scale(layer: FloatComputed, scales: Mapping[str, Scale]) -> Scale:
    """The scale that the sums of a layer are brought to."""
    return scales[sums_of(layer.name) if isinstance(layer.activation, Curve) else layer.name]


def _quantise_mean(layer: FloatMean, blank: Layer, source: Shape, scales: Mapping[str, Scale]) -> Layer:
    """A layer that is the mean of so many pixels of each channel; `blank` is the integer layer without its
    numbers.
    """
    pixels, zero = layer.pixels(source), scales[layer.source].zero
    step = np.full(source[0], scales[layer.source].step / pixels)
    requant = _requant(layer, np.zeros(source[0]), step, scales, np.full(source[0], pixels * zero))
    if isinstance(blank, AveragePool):
        # pixels outside that do not count have a weight of their own
        return replace(blank, requant=requant, pad=0 if blank.whole else zero)
    assert isinstance(blank, GlobalPool)  # as the layer is
    return replace(blank, requant=requant)


def _quantise_sum(layer: FloatAdd, blank: Layer, scales: Mapping[str, Scale], limit: int) -> Layer:
    """The integer weights of a channel are those up to `limit` whose ratios are nearest to the real ones."""
    real = layer.weight * np.array([scales[source].step for source in layer.sources])[:, None]
    largest = np.abs(real).max(axis=0)
    part = real / np.where(largest > 0, largest, 1)
    peaks = np.arange(limit, limit // 2, -1)  # the finest steps first
    error = np.square(np.rint(part * peaks[:, None, None]) / peaks[:, None, None] - part).sum(axis=1)
    peak = peaks[error.argmin(axis=0)]
    step = np.maximum.reduce(
        [
            largest / peak,
            np.full(len(peak), _sum_scale(layer, scales).step * FINEST_STEP),
            np.abs(layer.bias) / BIAS_LIMIT,
        ]
    )
    assert isinstance(blank, Add)  # as the layer is
    weight = np.rint(real / step).astype(np.int32)
    extra = np.array([scales[source].zero for source in layer.sources]) @ weight
    return replace(blank, weight=weight, requant=_requant(layer, layer.bias, step, scales, extra))


def _quantise_weights(
    layer: FloatWeighted,
    blank: Layer,
    scales: Mapping[str, Scale],
    residual_limit: int,
    given: FloatArray | None,
    peaks: Mapping[str, FloatArray],
) -> Layer:
    s_in, zero = scales[layer.source].step, scales[layer.source].zero
    s_sum = _sum_scale(layer, scales).step
    peak = np.abs(layer.weight.reshape(len(layer.weight), -1)).max(axis=1)
    # the step of a filter without weights says nothing, and may be many steps of the output
    bound = np.zeros(len(peak), bool) if given is None else peak > 0
    free = peak / PEAK if given is None else np.where(bound, given, 0)
    step = np.maximum.reduce(
        [s_in * free, np.full(len(peak), s_sum * FINEST_STEP), np.abs(layer.bias) / BIAS_LIMIT]
    )
    if isinstance(blank, Conv) and isinstance(layer, FloatConv) and layer.residual and blank.residual:
        limit = residual_limit if given is None else min(residual_limit, ONE_DIGIT)
        step, weight = _residual_weight(
            step, layer.residual, scales[layer.residual.source].step, limit, ~bound
        )
        if {layer.source, layer.residual.source} <= set(peaks):
            step, weight = _least_cost(layer, layer.residual, step, weight, scales, peaks)
        residual = Residual(layer.residual.source, layer.residual.channel, weight, blank.residual.stride)
        blank = replace(blank, residual=residual)
    s_w = (step / s_in).reshape(-1, *[1] * (layer.weight.ndim - 1))
    weight = np.rint(layer.weight / s_w).clip(-PEAK, PEAK).astype(np.int8)
    extra: IntArray = zero * weight.reshape(len(weight), -1).sum(axis=1, dtype=np.int64)
    if isinstance(blank, Conv):
        blank = replace(blank, pad=zero)
        if blank.residual is not None:
            extra = extra + scales[blank.residual.source].zero * blank.residual.weight
    requant = _requant(layer, layer.bias, step, scales, extra)
    assert isinstance(blank, Weighted)  # as the layer is
    return replace(blank, weight=weight, requant=requant)


def _residual_weight(
    step: FloatArray, residual: FloatResidual, s_res: float, limit: int, exact: npt.NDArray[np.bool_]
) -> tuple[FloatArray, IntArray]:
    """Enlarges the steps of the filters that have a residual to s_res / whole number. Returns the steps and
    those numbers (0 for none).

    Of filters that are not `exact` [F] the steps stay, and the numbers are the nearest, up to `MAX_RESIDUAL`.
    The steps also stay for a filter with weights so large that s_res is less than a step: its residual
    becomes 0 or 1 steps.
    """
    has = residual.channel >= 0
    step = np.where(has & ~exact, np.maximum(step, s_res / MAX_RESIDUAL), step)
    fine = has & exact & (s_res >= step)
    whole = np.where(fine, np.minimum(np.floor(s_res / step), limit), np.rint(s_res / step))
    return np.where(fine, s_res / np.maximum(whole, 1), step), np.where(has, whole, 0).astype(np.int32)


def _least_cost(
    layer: FloatConv,
    residual: FloatResidual,
    step: FloatArray,
    whole: IntArray,
    scales: Mapping[str, Scale],
    peaks: Mapping[str, FloatArray],
) -> tuple[FloatArray, IntArray]:
    """Steps and integer weights of residuals, finer where a residual is less than a step and that costs more
    than cutting off the filter's weights: by the most that either can change of a sum.
    """
    s_in, s_res = scales[layer.source].step, scales[residual.source].step
    step, whole = step.copy(), whole.copy()
    reads = np.abs(layer.weight).max(axis=(2, 3))  # [F, C of a group]
    groups = len(peaks[layer.source]) // reads.shape[1]
    of_filter = (
        peaks[layer.source].reshape(groups, -1).repeat(len(reads) // groups, axis=0)
    )  # [F, C of a group]
    for f in np.flatnonzero((residual.channel >= 0) & (s_res < step)):
        counts = np.array([whole[f], *(2**n for n in range(7))])
        tried = np.array([step[f], *(s_res / counts[1:])])
        lost = np.abs(1 - counts * tried / s_res) * peaks[residual.source][residual.channel[f]]
        most = PEAK * tried / s_in
        lost = lost + ((reads[f] - most[:, None]).clip(0) * of_filter[f]).sum(axis=1)
        best = int(lost.argmin())
        step[f], whole[f] = tried[best], counts[best]
    return step, whole


def _requant(
    layer: FloatComputed, bias: FloatArray, step: FloatArray, scales: Mapping[str, Scale], extra: IntArray
) -> Requant:
    """`bias` in real units [F], `step` the real value of one step of each filter's sum [F]; `extra` [F]: what
    the zero points of its sources add to the sums.
    """
    out, sums = scales[layer.name], _sum_scale(layer, scales)
    pairs = np.array([quantise_multiplier(float(real)) for real in step / sums.step], dtype=np.int32).reshape(
        -1, 2
    )
    whole = (np.rint(bias / step) - extra).astype(np.int64)
    int32 = np.iinfo(np.int32)
    for f in np.flatnonzero((whole < int32.min) | (whole > int32.max))[:1]:
        raise TatamiError(f"bias {whole[f]} of filter {f} is outside {int32.min}..{int32.max}")
    plain = Requant(whole.astype(np.int32), pairs[:, 0], pairs[:, 1], sums.zero)
    match layer.activation:
        case None:
            return plain
        case Clamp() as clamp:
            low, high = limits(clamp, out)
            return replace(plain, low=low, high=high)
        case Curve() as curve:
            values = sums.real(np.arange(LOWEST, HIGHEST + 1))
            return replace(plain, table=out.values(curve(values)))
