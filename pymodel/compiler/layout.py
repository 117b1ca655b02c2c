"""Where tensors lie: a layout for every tensor, a bank and a word for each of its planes."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from pymodel.machine.config import ArrayConfig
from pymodel.machine.errors import TatamiError
from pymodel.machine.image import Dump
from pymodel.machine.planes import Placement, ceil_div
from pymodel.network.integer import INPUT, Conv, Layer, Network, Weighted

IntArray = npt.NDArray[np.int64]


def input_banks(network: Network, config: ArrayConfig) -> dict[str, IntArray]:
    """The feature bank of every input of each layer's weights, int64 [K] by layer name: what a scheme needs
    to plan a layer.

    Only the shapes of `network` and the number of banks count: what is planned for the `skeleton` of a float
    network holds for the quantised one, and for memories of any depth.
    """
    places = place_tensors(network, config)
    banks = {}
    for layer in network.layers:
        if isinstance(layer, Weighted):
            bank = np.array(places[layer.source].bank, dtype=np.int64)
            banks[layer.name] = np.repeat(bank, layer.weight[0].size // len(bank))
    return banks


def residual_banks(network: Network, config: ArrayConfig) -> dict[str, IntArray]:
    """For each layer with a residual the bank of what every filter adds, int64 [F], -1 for nothing; as
    `input_banks`.
    """
    places = place_tensors(network, config)
    found = {}
    for layer in network.layers:
        if isinstance(layer, Conv) and layer.residual is not None:
            bank = np.array(places[layer.residual.source].bank, dtype=np.int64)
            found[layer.name] = np.where(layer.residual.channel >= 0, bank[layer.residual.channel], -1)
    return found


def output_words(network: Network, config: ArrayConfig) -> dict[str, int]:
    """Words of the output plane of each layer with weights: a lane takes a cycle for each.

    As `input_banks`.
    """
    places = place_tensors(network, config)
    return {
        layer.name: places[layer.name].channel_words
        for layer in network.layers
        if isinstance(layer, Weighted)
    }


# Layout


def _links(network: Network) -> list[tuple[str, str, int]]:
    """(input, output, stride) of every pair of tensors that must share a pitch."""
    return [(source, layer.name, stride) for layer in network.layers for source, stride in layer.strides()]


def _phases(network: Network) -> list[dict[str, int]]:
    """Phase factor of every tensor, by group of linked tensors:

    P(input) = stride * P(output), the smallest of a group is 1.
    """
    near: dict[str, list[tuple[str, float]]] = {name: [] for name in network.shapes}
    for source, out, stride in _links(network):
        near[source].append((out, 1 / stride))
        near[out].append((source, float(stride)))
    found: list[dict[str, int]] = []
    seen: set[str] = set()
    for name in network.shapes:
        if name in seen:
            continue
        factor = {name: 1.0}
        queue = deque([name])
        while queue:
            here = queue.popleft()
            for there, ratio in near[here]:
                value = factor[here] * ratio
                if there not in factor:
                    factor[there] = value
                    queue.append(there)
                elif factor[there] != value:
                    raise TatamiError(
                        f"network '{network.name}': tensor '{there}' is read at strides that ask for two"
                        " layouts of it"
                    )
        smallest = min(factor.values())
        found.append({n: int(v / smallest) for n, v in factor.items()})
        seen |= set(factor)
    return found


def bank_words(network: Network, places: Mapping[str, Placement]) -> int:
    """Words that the fullest bank needs."""
    return max(base + place.channel_words for place in places.values() for base in place.base) + _guard_words(
        network, places.values()
    )


def _guard_words(network: Network, places: Collection[Placement]) -> int:
    """Words of a bank before the first and after the last plane, for reads that straddle an edge and are
    masked.

    They follow the farthest that a layer reaches over an edge; in sub-planes that is no farther.
    """
    reach = max((_reach(layer) for layer in network.layers), default=0)
    return ceil_div(max(reach * p.pitch + reach for p in places), max(p.size for p in places)) + 1


def _reach(layer: Layer) -> int:
    """Pixels that a layer reads past an edge of its source, at most."""
    if not isinstance(layer, Conv):
        return 0
    return max(layer.padding, layer.weight.shape[2] - 1 - layer.padding)


def place_tensors(network: Network, config: ArrayConfig) -> dict[str, Placement]:
    """Gives every tensor its layout and its planes a bank and a word."""
    phase: dict[str, int] = {}
    pitch: dict[str, int] = {}
    for linked in _phases(network):
        widest = max(ceil_div(network.shapes[n][2], p) for n, p in linked.items())
        phase |= linked
        pitch |= dict.fromkeys(linked, widest)
    rows = {name: ceil_div(shape[1], phase[name]) for name, shape in network.shapes.items()}
    # An input has at least the rows that are computed from it. Tensors are in order of execution, so one
    # sweep backwards is enough.
    for source, out, _ in reversed(_links(network)):
        rows[source] = max(rows[source], rows[out])

    output = network.layers[-1].name if network.layers else INPUT
    drafts = {
        name: Placement(name, shape, config.size, phase[name], rows[name], pitch[name], (), ())
        for name, shape in network.shapes.items()
    }
    guard = _guard_words(network, drafts.values())
    places: dict[str, Placement] = {}
    free = [guard] * config.group
    turn = 0
    for name, shape in network.shapes.items():
        draft = drafts[name]
        bank, base = [], []
        for _ in range(shape[0]):
            # the network's output lies in one bank, so that one packet carries it
            b = turn % config.group
            turn += int(name != output)
            bank.append(b)
            base.append(free[b])
            free[b] += draft.channel_words
        places[name] = replace(draft, bank=tuple(bank), base=tuple(base))
    return places


def dumps_of(place: Placement) -> list[Dump]:
    """A packet per bank; the planes of a tensor follow each other in a bank."""
    dumps = []
    for bank in sorted(set(place.bank)):
        bases = [base for b, base in zip(place.bank, place.base, strict=True) if b == bank]
        dumps.append(Dump(place.name, bank, min(bases), len(bases) * place.channel_words))
    return dumps
