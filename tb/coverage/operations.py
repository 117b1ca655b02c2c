"""Derives observations from the network that an image was made of: the types of its layers and their windows,
which the memories of the machine do not show.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np

from pymodel.compiler.lifetime import lifetimes
from pymodel.machine.image import Image
from pymodel.machine.model import Machine
from pymodel.machine.runs import ProgramRun
from pymodel.network.integer import (
    LOWEST,
    Add,
    AveragePool,
    Conv,
    Gather,
    Layer,
    MaxPool,
    Network,
    Requantised,
    View,
    Windowed,
)
from tb.coverage import collect
from tb.coverage.observe import (
    REUSES,
    SIDES,
    GatherSeen,
    Observation,
    OperationSeen,
    ReaderSeen,
    ReuseSeen,
    SideSeen,
    WindowSeen,
)
from tb.coverage.points import BYTE
from tb.coverage.sample import ends


def sample_network(network: Network, image: Image, run: ProgramRun | None = None) -> None:
    """Counts what is in a network whose `image` a test runs and compares. Does nothing unless coverage was
    requested. `run`: of the image, if there is one already.
    """
    if collect.enabled():
        collect.database(image.config).add(observations(network, image, run))


def observations(network: Network, image: Image, run: ProgramRun | None = None) -> set[Observation]:
    if run is None:
        machine = Machine(image.config)
        machine.load(image.sections)
        run = machine.run(image.run_start, stream=image.run_stream)
    tiles: Counter[str] = Counter()  # of all segments of a layer
    for name, layer_run in zip(image.layers, run.layers, strict=True):
        tiles[name] += layer_run.tiles
    seen: set[Observation] = set()
    for layer in network.layers:
        residual = layer.residual if isinstance(layer, Conv) else None
        seen.add(
            OperationSeen(
                kind=type(layer).__name__,
                tiles=tiles[layer.name],
                phase=None if isinstance(layer, View) else image.placements[layer.name].phase,
                relu=layer.requant.low == layer.requant.zero if isinstance(layer, Requantised) else None,
                residual=residual.stride if residual else None,
            )
        )
        if isinstance(layer, Windowed):
            seen |= window_set(layer, network.shapes[layer.source][0])
        if isinstance(layer, Gather):
            taken = {layer.sources[o] for o in layer.origin[layer.channel >= 0]}
            seen.add(GatherSeen(len(taken), bool((layer.channel < 0).any())))
        seen.update(reader_set(layer, network))
    if image.reuse:
        seen.update(reuse_set(network, image))
    return seen


def reuse_set(network: Network, image: Image) -> Iterator[Observation]:
    """Of every two tensors that share words, which layer writes them for the later one."""
    spans, places = lifetimes(network), image.placements
    words = {name: place.occupied() for name, place in places.items()}
    numbers = [number for number, layer in enumerate(network.layers) if not isinstance(layer, View)]
    for number in numbers:
        name = network.layers[number].name
        for other in places:
            if spans[other].last < number and words[other] & words[name]:
                behind = [one for one in numbers if one > spans[other].last]
                yield ReuseSeen(REUSES[behind[0] != number])


def window_set(layer: Windowed, channels: int) -> set[Observation]:
    window = layer.window
    seen: set[Observation] = set()
    value = None
    if any(window.padding):
        pad = LOWEST if isinstance(layer, MaxPool) else layer.pad
        value = int(ends(np.array(pad), *BYTE))
    seen.add(WindowSeen(window_name(layer, channels), window, value))
    for number, side in enumerate(SIDES):
        axis, padding = number % 2, window.padding[number]
        most = window.reach[axis] - 1
        amount = "none" if padding == 0 else "full" if padding == most else "some"
        seen.add(SideSeen(side, window.size[axis], window.stride[axis], amount))
    return seen


def window_name(layer: Windowed, channels: int) -> str:
    match layer:
        case AveragePool():
            return "mean"
        case MaxPool():
            return "maximum"
        case Conv():
            return (
                "convolution" if layer.groups == 1 else "depthwise" if layer.groups == channels else "groups"
            )


def reader_set(layer: Layer, network: Network) -> Iterator[Observation]:
    """Of the tensors that a layer reads, those that only name pixels."""
    views = {one.name: type(one).__name__ for one in network.layers if isinstance(one, View)}
    for source in layer.reads():
        if source in views:
            yield ReaderSeen(views[source], reader_name(layer, source))


def reader_name(layer: Layer, source: str) -> str:
    if isinstance(layer, View):
        return "view"
    if isinstance(layer, Windowed):
        return "window" if source == layer.source else "sum"
    return "sum" if isinstance(layer, Add) else "pixels"
