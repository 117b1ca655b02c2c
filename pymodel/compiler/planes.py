"""The planes that a layer reads: those of the tensor itself, or of the tensors that it names pixels of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pymodel.compiler.layout import IntArray, Layout, layouts, place_tensors
from pymodel.machine.config import ArrayConfig
from pymodel.machine.errors import TatamiError
from pymodel.machine.planes import Placement
from pymodel.network.integer import (
    Conv,
    DepthToSpace,
    Gather,
    Linear,
    Network,
    SpaceToDepth,
    Upsample,
    View,
)

NOWHERE = -1  # bank and word of a channel of zeros


@dataclass(frozen=True)
class Planes:
    """Where the pixels of a tensor are.

    `bank`, `base`, `kind` int64 [C]: sub-plane i of channel c begins at word `base[c] + offsets[kind[c], i]`
    of bank `bank[c]`. `offsets` int64 [kinds, phases], in the order of `Placement`. `zero` bool [C]: channels
    of zeros, which have the place of another channel.
    """

    name: str
    layout: Layout
    bank: IntArray
    base: IntArray
    kind: IntArray
    offsets: IntArray
    zero: npt.NDArray[np.bool_]

    def address(self, kind: int, y: int, x: int) -> int:
        """Of pixel (y, x), which may lie outside the map, from the first pixel of a channel's base on."""
        layout = self.layout
        (row, p), (column, q) = divmod(y, layout.phase[0]), divmod(x, layout.phase[1])
        words = int(self.offsets[kind, p * layout.phase[1] + q])
        return words * layout.size + row * layout.pitch + column


class Tensors:
    """All tensors of a network: the places of those that are written, and the planes of each. `reuse` as in
    `place_tensors`.
    """

    def __init__(self, network: Network, config: ArrayConfig, reuse: bool = False) -> None:
        self.layouts = layouts(network, config.size)
        self.places = place_tensors(network, config, reuse)
        self.planes: dict[str, Planes] = {}
        for name, place in self.places.items():
            self.planes[name] = _stored(place, self.layouts[name])
        for layer in network.layers:
            if isinstance(layer, View):
                self.planes[layer.name] = _named(layer, self.planes, self.layouts[layer.name], network)


def _stored(place: Placement, layout: Layout) -> Planes:
    """Of a tensor that is written."""
    return Planes(
        place.name,
        layout,
        np.array(place.bank, dtype=np.int64),
        np.array(place.base, dtype=np.int64),
        np.zeros(len(place.bank), dtype=np.int64),
        np.arange(place.phases, dtype=np.int64)[None] * place.words,
        np.zeros(len(place.bank), dtype=bool),
    )


def _named(layer: View, planes: Mapping[str, Planes], layout: Layout, network: Network) -> Planes:
    """Of a tensor whose pixels others have. Sub-plane by sub-plane: which channel of which tensor it is, and
    which sub-plane of it.
    """
    p, q = np.divmod(np.arange(layout.phase[0] * layout.phase[1]), layout.phase[1])
    match layer:
        case Gather():
            parts = [
                _taken(planes[source], np.where(layer.origin == n, layer.channel, -1)[:, None], None)
                for n, source in enumerate(layer.sources)
            ]
            bank, word = (np.max([part[i] for part in parts], axis=0) for i in (0, 1))
        case Upsample():
            source = planes[layer.source]
            sub_plane = p // layer.scale[0] * source.layout.phase[1] + q // layer.scale[1]
            bank, word = _taken(source, np.arange(layout.shape[0])[:, None], sub_plane)
        case DepthToSpace():
            source = planes[layer.source]
            down, across = layer.block
            sub_plane = p // down * source.layout.phase[1] + q // across
            part = p % down * across + q % across
            bank, word = _taken(
                source, np.arange(layout.shape[0])[:, None] * (down * across) + part, sub_plane
            )
        case SpaceToDepth():
            source = planes[layer.source]
            down, across = layer.block
            channel, part = np.divmod(np.arange(layout.shape[0]), down * across)
            i, j = np.divmod(part, across)
            sub_plane = (p * down + i[:, None]) * source.layout.phase[1] + q * across + j[:, None]
            bank, word = _taken(source, channel[:, None], sub_plane)
    if (bank != bank[:, :1]).any():
        c = int(np.flatnonzero((bank != bank[:, :1]).any(axis=1))[0])
        raise TatamiError(
            f"network '{network.name}', layer '{layer.name}': the planes of channel {c} lie in several banks"
        )
    offsets, kind = np.unique(word - word[:, :1], axis=0, return_inverse=True)
    zero = bank[:, 0] == NOWHERE
    place = np.where(zero, np.flatnonzero(~zero)[0], np.arange(len(zero)))
    return Planes(layer.name, layout, bank[place, 0], word[place, 0], kind.reshape(-1)[place], offsets, zero)


def _taken(source: Planes, channel: IntArray, sub_plane: IntArray | None) -> tuple[IntArray, IntArray]:
    """The bank and the first word of sub-planes of channels, [C, phases] each, `NOWHERE` for zeros.
    `channel` [C, 1 or phases], -1 for zeros; `sub_plane` [phases] or [C, phases], all in order if None.
    """
    index = np.arange(source.offsets.shape[1]) if sub_plane is None else sub_plane
    channel, index = np.broadcast_arrays(channel, index)
    nowhere = (channel < 0) | source.zero[channel]
    word = source.base[channel] + source.offsets[source.kind[channel], index]
    return np.where(nowhere, NOWHERE, source.bank[channel]), np.where(nowhere, NOWHERE, word)


def input_banks(network: Network, config: ArrayConfig) -> dict[str, IntArray]:
    """The feature bank of every input of each layer's weights, int64 [K] by layer name: what a scheme needs
    to plan a layer.

    Only the shapes of `network` and the number of banks count: what is planned for the `skeleton` of a float
    network holds for the quantised one, and for memories of any depth.
    """
    planes = Tensors(network, config).planes
    banks = {}
    for layer in network.layers:
        if isinstance(layer, Conv | Linear):
            bank = planes[layer.source].bank
            places = layer.window.size[0] * layer.window.size[1] if isinstance(layer, Conv) else 0
            banks[layer.name] = np.repeat(bank, places or layer.weight.shape[1] // len(bank))
    return banks


def residual_banks(network: Network, config: ArrayConfig) -> dict[str, IntArray]:
    """For each layer with a residual the bank of what every filter adds, int64 [F], -1 for nothing; as
    `input_banks`.
    """
    planes = Tensors(network, config).planes
    found = {}
    for layer in network.layers:
        if isinstance(layer, Conv) and layer.residual is not None:
            bank = planes[layer.residual.source].bank
            found[layer.name] = np.where(layer.residual.channel >= 0, bank[layer.residual.channel], -1)
    return found


def output_words(network: Network, config: ArrayConfig) -> dict[str, int]:
    """Words of the output plane of each layer with weights: a lane takes a cycle for each.

    As `input_banks`.
    """
    places = Tensors(network, config).places
    return {
        layer.name: places[layer.name].channel_words
        for layer in network.layers
        if isinstance(layer, Conv | Linear)
    }
