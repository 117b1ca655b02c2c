"""Networks that are a step smaller than a given one, for the search for the smallest that still fails
(`search.py`).

A reduction leaves the rest as it is. What it makes may be no network, or compute something else: the search
tries it and sees.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from pymodel.machine.errors import TatamiError
from pymodel.network.integer import (
    INPUT,
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
    Residual,
    Weighted,
)
from pymodel.network.reference import evaluate
from tb.debug.suspect import Ran

Int8Array = npt.NDArray[np.int8]

PARTS = (1, 2, 4, 8)  # a reduction takes away all but one, a half, a quarter, an eighth at a time


@dataclass(frozen=True)
class Smaller:
    """A network a step smaller, and what the step was, in words."""

    what: str
    ran: Ran


def smaller(ran: Ran) -> Iterator[Smaller]:
    """All steps from here, the boldest of each kind first."""
    for kind in (_rates, _ends, _beginnings, _bypasses, _pixels, _channels, _filters, _taps, _weights):
        for what, make in kind(ran):
            with suppress(TatamiError):  # no network any more
                yield Smaller(what, make())


Step = tuple[str, Callable[[], Ran]]


def _rates(ran: Ran) -> Iterator[Step]:
    """Streams without pauses."""
    if ran.in_rate < 1:
        yield "in_rate 1", partial(replace, ran, in_rate=1.0)
    if ran.out_rate < 1:
        yield "out_rate 1", partial(replace, ran, out_rate=1.0)


def _ends(ran: Ran) -> Iterator[Step]:
    """Without the last layers."""
    layers = ran.network.layers
    for count in _shares(len(layers)):
        yield f"{count} layers off the end", partial(_of, ran, layers[: len(layers) - count])


def _beginnings(ran: Ran) -> Iterator[Step]:
    """Without the first layers: what they make is the input, where the rest reads nothing else of before."""
    network = ran.network
    for count in _shares(len(network.layers)):
        last, rest = network.layers[count - 1], network.layers[count:]
        inside = {last.name, *(layer.name for layer in rest)}
        if all(source in inside for layer in rest for source in layer.reads()):
            yield f"{count} layers off the beginning", partial(_after, ran, last, rest)


def _after(ran: Ran, last: Layer, rest: tuple[Layer, ...]) -> Ran:
    made = evaluate(ran.network, ran.inputs[None])[last.name][0]
    return _of(ran, tuple(_reading(layer, {last.name: INPUT}) for layer in rest), made)


def _bypasses(ran: Ran) -> Iterator[Step]:
    """Without one layer, whose readers read its first source; and without a residual."""
    network = ran.network
    for at, layer in enumerate(network.layers[:-1]):
        if network.shapes[layer.name] == network.shapes[layer.reads()[0]]:
            instead = {layer.name: layer.reads()[0]}
            rest = tuple(_reading(one, instead) for one in network.layers[at + 1 :])
            yield f"without {layer.name}", partial(_of, ran, (*network.layers[:at], *rest))
    for at, layer in enumerate(network.layers):
        if isinstance(layer, Conv) and layer.residual is not None:
            alone = replace(layer, residual=None)
            yield f"{layer.name} without its residual", partial(_of, ran, _put(ran, at, alone))


def _pixels(ran: Ran) -> Iterator[Step]:
    """Fewer rows or columns of the input."""
    for axis, name in ((1, "rows"), (2, "columns")):
        pixels = ran.inputs.shape[axis]
        for count in _shares(pixels):
            left = ran.inputs.take(range(pixels - count), axis=axis)
            yield f"{count} {name} less", partial(_of, ran, ran.network.layers, left)


def _channels(ran: Ran) -> Iterator[Step]:
    """Fewer channels of the input."""
    for left in _left(len(ran.inputs)):
        yield f"{len(left)} channels of the input", partial(_fewer_channels, ran, left)


def _fewer_channels(ran: Ran, left: IntArray) -> Ran:
    return _of(ran, _with_channels(ran.network, INPUT, left), ran.inputs[left])


def _filters(ran: Ran) -> Iterator[Step]:
    """Fewer filters of a layer, and so fewer channels for its readers."""
    for at, layer in enumerate(ran.network.layers):
        if isinstance(layer, Linear) or (isinstance(layer, Conv) and layer.groups == 1):
            for left in _left(len(layer.weight)):
                yield f"{len(left)} filters of {layer.name}", partial(_fewer_filters, ran, at, layer, left)


def _fewer_filters(ran: Ran, at: int, layer: Conv | Linear, left: IntArray) -> Ran:
    rest = _with_channels(ran.network, layer.name, left)[at + 1 :]
    return _of(ran, (*ran.network.layers[:at], _with_filters(layer, left), *rest))


def _taps(ran: Ran) -> Iterator[Step]:
    """A convolution of the middle pixel of its kernel alone, without padding."""
    for at, layer in enumerate(ran.network.layers):
        if isinstance(layer, Conv) and layer.weight.shape[2:] != (1, 1):
            rows, columns = (size // 2 for size in layer.weight.shape[2:])
            weight = layer.weight[:, :, rows : rows + 1, columns : columns + 1]
            one = replace(layer, weight=weight, padding=(0, 0, 0, 0))
            yield f"one tap of {layer.name}", partial(_of, ran, _put(ran, at, one))


def _weights(ran: Ran) -> Iterator[Step]:
    """Fewer weights that are not zero."""
    for at, layer in enumerate(ran.network.layers):
        if not isinstance(layer, Weighted):
            continue
        there = np.flatnonzero(layer.weight)
        for kept in _left(len(there)):
            weight = np.zeros_like(layer.weight)
            weight.flat[there[kept]] = layer.weight.flat[there[kept]]
            fewer = replace(layer, weight=weight)
            yield f"{len(kept)} weights of {layer.name}", partial(_of, ran, _put(ran, at, fewer))


def _put(ran: Ran, at: int, layer: Layer) -> tuple[Layer, ...]:
    """The layers with another one in this place."""
    return (*ran.network.layers[:at], layer, *ran.network.layers[at + 1 :])


def _of(ran: Ran, layers: tuple[Layer, ...], inputs: Int8Array | None = None) -> Ran:
    """Raises `TatamiError` if it is no network."""
    inputs = ran.inputs if inputs is None else inputs
    if not layers or not inputs.size:
        raise TatamiError("nothing is left")
    channels, rows, columns = inputs.shape
    return replace(ran, network=Network(ran.network.name, (channels, rows, columns), layers), inputs=inputs)


def _shares(count: int) -> list[int]:
    """How many of so many to take away, most first: all but one, a half, a quarter, an eighth, one."""
    found = {count - 1 if part == 1 else count // part for part in PARTS} | {1}
    return sorted((share for share in found if 0 < share < count), reverse=True)


def _left(count: int) -> Iterator[IntArray]:
    """What may be left of so many: one of two, four or eight parts, then all but one of them."""
    for part in PARTS[1:]:
        edges = np.unique(np.linspace(0, count, part + 1).astype(int))
        if len(edges) <= 2:
            return
        parts = [np.arange(*edge) for edge in pairwise(edges)]
        if part == PARTS[1]:
            yield from parts
            continue
        yield from (np.concatenate(parts[:i] + parts[i + 1 :]) for i in range(len(parts)))


def _reading(layer: Layer, instead: dict[str, str]) -> Layer:
    """The layer, reading other tensors."""
    if isinstance(layer, Add | Gather):
        return replace(layer, sources=tuple(instead.get(name, name) for name in layer.sources))
    changed = replace(layer, source=instead.get(layer.source, layer.source))
    if isinstance(changed, Conv) and changed.residual is not None:
        source = changed.residual.source
        residual = replace(changed.residual, source=instead.get(source, source))
        return replace(changed, residual=residual)
    return changed


def _with_filters(layer: Conv | Linear, left: IntArray) -> Conv | Linear:
    """The layer with these of its filters."""
    if isinstance(layer, Conv):
        return _conv_with_filters(layer, left)
    return replace(layer, weight=layer.weight[left], requant=_of_filters(layer.requant, left))


def _conv_with_filters(layer: Conv, left: IntArray) -> Conv:
    residual = layer.residual
    if residual is not None:
        residual = replace(residual, channel=residual.channel[left], weight=residual.weight[left])
    requant = _of_filters(layer.requant, left)
    return replace(layer, weight=layer.weight[left], requant=requant, residual=residual)


def _of_filters(requant: Requant, left: IntArray) -> Requant:
    return replace(
        requant, bias=requant.bias[left], multiplier=requant.multiplier[left], shift=requant.shift[left]
    )


def _with_channels(network: Network, name: str, left: IntArray) -> tuple[Layer, ...]:
    """The layers, of which those that read tensor `name` read these of its channels. Raises `TatamiError` for
    a reader that cannot.
    """
    narrow, layers = {name: left}, []
    for layer in network.layers:
        cut: Layer = layer
        if isinstance(cut, Conv) and cut.residual is not None and cut.residual.source in narrow:
            cut = replace(cut, residual=_with_places(cut.residual, narrow[cut.residual.source]))
        if isinstance(cut, Add | Gather):
            if narrow.keys() & {*cut.sources}:
                raise TatamiError(f"'{cut.name}' takes channels of several tensors")
        elif cut.source in narrow:
            kept = narrow[cut.source]
            if isinstance(cut, Conv) and cut.groups == 1:
                cut = replace(cut, weight=cut.weight[:, kept])
            elif isinstance(cut, Linear):
                channels = network.shapes[cut.source][0]
                weight = cut.weight.reshape(len(cut.weight), channels, -1)[:, kept]
                cut = replace(cut, weight=weight.reshape(len(weight), -1))
            elif isinstance(cut, Conv) and cut.depthwise and len(cut.weight) == cut.groups:
                cut = replace(_conv_with_filters(cut, kept), groups=len(kept))
                narrow[cut.name] = kept
            elif isinstance(cut, GlobalPool | AveragePool):
                cut = replace(cut, requant=_of_filters(cut.requant, kept))
                narrow[cut.name] = kept
            elif isinstance(cut, MaxPool):
                narrow[cut.name] = kept
            else:
                raise TatamiError(f"'{cut.name}' has channels in an order of its own")
        layers.append(cut)
    return tuple(layers)


def _with_places(residual: Residual, left: IntArray) -> Residual:
    """A residual whose source has only these of its channels."""
    places = {int(channel): place for place, channel in enumerate(left)}
    return replace(residual, channel=np.array([places.get(int(c), -1) for c in residual.channel]))
