"""Scales and zero points of a network that was trained, where the file that it comes from had some."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from pymodel.network.float import FloatArray, FloatNetwork
from pymodel.network.integer import HIGHEST, INPUT, LOWEST, Gather
from pymodel.network.quantise import PEAK, one_scale, tensors_of_some
from pymodel.network.scale import Scale

Group = frozenset[str]  # tensors that share a scale
Range = tuple[float, float]


def held_scales(network: FloatNetwork, images: FloatArray, given: Mapping[str, Scale]) -> dict[str, Scale]:
    """The scale of every tensor; those `given` are a start.

    A tensor keeps its scale unless that of its range on the images has a smaller squared error. The range of
    every other image is tried, on the images between, so that values which are seldom seen count for what
    they are; where it is better, the scale is that of the range on all images. So it is for a tensor that is
    given none. Tensors with pixels in common share a scale, of those given the largest. The input keeps its
    own: it is what a host sends. The format of the images is that of `evaluate_float`.
    """
    groups = _groups(network)
    # a channel of zeros is made of the value 0
    zeros = {one.name for one in network.layers if isinstance(one, Gather) and one.channel.min() < 0}
    even = {group for group in groups if group & zeros}
    seen, between = _ranges(network, groups, images[::2]), _ranges(network, groups, images[1::2])
    narrow = {group: _scale(seen[group], group in even) for group in groups}
    whole = {group: _scale((*seen[group], *between[group]), group in even) for group in groups}
    starts = {group: one for group in groups if (one := _start(group, given, group in even)) is not None}
    better = _better(network, images[1::2], starts, narrow)
    kept = {group: start for group, start in starts.items() if INPUT in group or group not in better}
    return {name: scale for group, scale in (whole | kept).items() for name in group}


def _groups(network: FloatNetwork) -> list[Group]:
    together = [frozenset(one) for one in one_scale(network)]
    shared = Group().union(*together)
    return [*together, *(Group({name}) for name in network.shapes if name not in shared)]


def _start(group: Group, given: Mapping[str, Scale], even: bool) -> Scale | None:
    scales = [given[name] for name in sorted(group & set(given)) if not (even and given[name].zero)]
    return max(scales, key=lambda one: one.step, default=None)


def _scale(ends: tuple[float, ...], even: bool) -> Scale:
    """The finest one that has these real numbers, and zero."""
    low, high = min(0.0, *ends), max(0.0, *ends)
    if low == high:
        return Scale(1.0)
    if even:
        return Scale(max(-low, high) / PEAK)
    step = (high - low) / (HIGHEST - LOWEST)
    return Scale(step, round(LOWEST - low / step))


def _ranges(network: FloatNetwork, groups: list[Group], images: FloatArray) -> dict[Group, Range]:
    low, high = dict.fromkeys(groups, 0.0), dict.fromkeys(groups, 0.0)
    for tensors in tensors_of_some(network, images):
        for group in groups:
            low[group] = min(low[group], *(float(tensors[name].min()) for name in group))
            high[group] = max(high[group], *(float(tensors[name].max()) for name in group))
    return {group: (low[group], high[group]) for group in groups}


def _better(
    network: FloatNetwork,
    images: FloatArray,
    starts: Mapping[Group, Scale],
    others: Mapping[Group, Scale],
) -> set[Group]:
    """Where the other scale has a smaller squared error than the start."""
    more = dict.fromkeys(starts, 0.0)
    for tensors in tensors_of_some(network, images):
        for group, start in starts.items():
            for name in group:
                more[group] += _error(start, tensors[name]) - _error(others[group], tensors[name])
    return {group for group, error in more.items() if error > 0}


def _error(scale: Scale, values: FloatArray) -> float:
    return float(np.square(scale.real(scale.values(values)) - values).sum())
