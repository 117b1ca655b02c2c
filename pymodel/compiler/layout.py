"""Where tensors lie: a layout for every tensor, a bank and a word for each of its planes.

A tensor of a layer that only names pixels (`View`) has a layout and no place: its planes are those of the
tensors that it names (`pymodel.compiler.planes`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate

import numpy as np
import numpy.typing as npt

from pymodel.compiler.lifetime import BEFORE, Extent, Span, first_fit, lifetimes
from pymodel.machine.config import ArrayConfig
from pymodel.machine.errors import TatamiError
from pymodel.machine.image import Dump
from pymodel.machine.planes import Placement, ceil_div
from pymodel.network.integer import (
    INPUT,
    DepthToSpace,
    Gather,
    Layer,
    Network,
    Pair,
    Ratio,
    View,
    Windowed,
)

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Layout:
    """How a tensor lies, as in `Placement`, without where."""

    shape: tuple[int, int, int]
    size: int
    phase: Pair
    rows: int
    pitch: int

    @property
    def words(self) -> int:
        """Words of one sub-plane."""
        return ceil_div(self.rows * self.pitch, self.size)

    def sub_plane_size(self, p: int, q: int) -> Pair:
        """Rows and columns that sub-plane (p, q) has of the map."""
        return ceil_div(self.shape[1] - p, self.phase[0]), ceil_div(self.shape[2] - q, self.phase[1])


def _links(network: Network) -> list[tuple[str, str, Ratio]]:
    """(input, output, rows and columns of the input for one of the output) of every pair of tensors that must
    share a pitch.
    """
    return [(source, layer.name, ratio) for layer in network.layers for source, ratio in layer.ratios()]


def _phases(network: Network) -> list[dict[str, Pair]]:
    """Phase factors of every tensor, by group of linked tensors:

    P(input) = ratio * P(output) in each direction, the smallest of a group that makes all of them whole.
    """
    near: dict[str, list[tuple[str, Ratio]]] = {name: [] for name in network.shapes}
    for source, out, (down, across) in _links(network):
        near[source].append((out, (1 / down, 1 / across)))
        near[out].append((source, (down, across)))
    found: list[dict[str, Pair]] = []
    seen: set[str] = set()
    for name in network.shapes:
        if name in seen:
            continue
        factor = {name: (Fraction(1), Fraction(1))}
        queue = deque([name])
        while queue:
            here = queue.popleft()
            for there, ratio in near[here]:
                value = (factor[here][0] * ratio[0], factor[here][1] * ratio[1])
                if there not in factor:
                    factor[there] = value
                    queue.append(there)
                elif factor[there] != value:
                    raise TatamiError(
                        f"network '{network.name}': tensor '{there}' is read at strides that ask for two"
                        " layouts of it"
                    )
        down, across = (_whole([value[axis] for value in factor.values()]) for axis in (0, 1))
        found.append({n: (int(v[0] * down), int(v[1] * across)) for n, v in factor.items()})
        seen |= set(factor)
    return found


def _whole(values: Collection[Fraction]) -> Fraction:
    """The least number that makes each of these whole when it is multiplied by it."""
    return Fraction(
        int(np.lcm.reduce([value.denominator for value in values])),
        int(np.gcd.reduce([value.numerator for value in values])),
    )


def layouts(network: Network, size: int) -> dict[str, Layout]:
    """The layout of every tensor for words of `size` pixels."""
    phase: dict[str, Pair] = {}
    pitch: dict[str, int] = {}
    for linked in _phases(network):
        widest = max(ceil_div(network.shapes[n][2], p[1]) for n, p in linked.items())
        phase |= linked
        pitch |= dict.fromkeys(linked, widest)
    rows = {name: ceil_div(shape[1], phase[name][0]) for name, shape in network.shapes.items()}
    links = _links(network)
    # An input has at least the rows that are computed from it, so that a word of the output is a word of the
    # input, and tensors that share planes have the same rows.
    views = {layer.name for layer in network.layers if isinstance(layer, View)}
    changed = True
    while changed:
        changed = False
        for source, out, _ in links:
            most = max(rows[source], rows[out])
            for name in (source, out) if out in views else (source,):
                changed |= rows[name] < most
                rows[name] = most
    return {
        name: Layout(shape, size, phase[name], rows[name], pitch[name])
        for name, shape in network.shapes.items()
    }


def bank_words(places: Mapping[str, Placement], guard: int) -> int:
    """Words that the fullest bank needs, `guard` words behind the last plane included."""
    return guard + max(base + place.channel_words for place in places.values() for base in place.base)


@dataclass(frozen=True)
class FeatureUse:
    """How much of the feature memory a network uses. `words`: of the fullest bank. `bound`: no layout takes
    fewer. `alive`: the words of all banks that are in use while a layer runs.
    """

    words: int
    bound: int
    alive: dict[str, int]


def feature_use(network: Network, places: Mapping[str, Placement], config: ArrayConfig) -> FeatureUse:
    """How much of the feature memory the network uses where its tensors lie as in `places`.

    The bound: the most words that are in use at once, spread evenly over the banks, and the guard words.
    """
    spans, guard = lifetimes(network), guard_words(network, config.size)
    words = {name: place.shape[0] * place.channel_words for name, place in places.items()}

    def in_use(layer: int) -> int:
        return sum(words[name] for name, span in spans.items() if span.has(layer))

    most = max(in_use(number) for number in range(BEFORE, len(network.layers) + 1))
    alive = {layer.name: in_use(n) for n, layer in enumerate(network.layers) if layer.name in places}
    return FeatureUse(bank_words(places, guard), ceil_div(most, config.group) + 2 * guard, alive)


def guard_words(network: Network, size: int) -> int:
    """Words of a bank before the first and after the last plane, for reads that straddle an edge and are
    masked.
    """
    found = layouts(network, size)
    farthest = [_reach(layer, found) for layer in network.layers]
    return ceil_div(max(farthest, default=0), size) + 1


def _reach(layer: Layer, found: Mapping[str, Layout]) -> int:
    """The most pixels by which a tap of a layer reads before or behind a plane."""
    if not isinstance(layer, Windowed):
        return 0
    window, source = layer.window, found[layer.source]
    pixels = []
    for axis in (0, 1):
        before, behind = window.padding[axis], window.reach[axis] - 1 - window.padding[axis]
        pixels.append(max(ceil_div(before, source.phase[axis]), ceil_div(behind, source.phase[axis])))
    return pixels[0] * source.pitch + pixels[1]


def place_tensors(network: Network, config: ArrayConfig, reuse: bool = False) -> dict[str, Placement]:
    """Gives every tensor that is not a `View` its layout, and its planes a bank and a word. With `reuse` a
    tensor's words are free for others when its last reader has run; else they are its own to the end.

    The banks are the same either way. The planes that a tensor has in a bank lie behind each other.
    """
    found = layouts(network, config.size)
    banks = _banks(network, config)
    words = {name: found[name].phase[0] * found[name].phase[1] * found[name].words for name in banks}
    spans = lifetimes(network) if reuse else dict.fromkeys(banks, Span(BEFORE, len(network.layers)))
    guard = guard_words(network, config.size)
    begin: dict[str, dict[int, int]] = {name: {} for name in banks}
    for bank in range(config.group):
        there = [name for name in banks if bank in banks[name]]
        blocks = [Extent(spans[name], banks[name].count(bank) * words[name]) for name in there]
        firsts = first_fit(blocks) if reuse else [0, *accumulate(block.words for block in blocks)]
        for name, first in zip(there, firsts, strict=False):
            begin[name][bank] = guard + first
    places: dict[str, Placement] = {}
    for name, bank_of in banks.items():
        base = []
        for bank in bank_of:
            base.append(begin[name][bank])
            begin[name][bank] += words[name]
        layout = found[name]
        places[name] = Placement(
            name,
            layout.shape,
            config.size,
            layout.phase,
            layout.rows,
            layout.pitch,
            bank_of,
            tuple(base),
        )
    return places


def _banks(network: Network, config: ArrayConfig) -> dict[str, tuple[int, ...]]:
    """The bank of every channel of each tensor that is not a `View`."""
    views = {layer.name for layer in network.layers if isinstance(layer, View)}
    output = network.layers[-1].name if network.layers else INPUT
    together = _together(network)
    banks: dict[str, tuple[int, ...]] = {}
    turn = 0
    for name, shape in network.shapes.items():
        if name in views:
            continue
        bank = []
        chosen: dict[int, int] = {}
        for channel in range(shape[0]):
            block = together.get((name, channel), -1)
            if block in chosen:
                b = chosen[block]
            else:
                # the network's output lies in one bank, so that one packet carries it
                b = turn % config.group
                turn += int(name != output)
                if block >= 0:
                    chosen[block] = b
            bank.append(b)
        banks[name] = tuple(bank)
    return banks


def _together(network: Network) -> dict[tuple[str, int], int]:
    """Channels (tensor, channel) that must lie in one bank because `DepthToSpace` makes one channel of them:
    each with a number that they share.
    """
    owner: dict[tuple[str, int], int] = {}
    origins: dict[str, list[tuple[str, int] | None]] = {}
    for name, shape in network.shapes.items():
        origins[name] = [(name, channel) for channel in range(shape[0])]
    for layer in network.layers:
        match layer:
            case Gather():
                origins[layer.name] = [
                    origins[layer.sources[o]][c] if c >= 0 else None
                    for o, c in zip(layer.origin, layer.channel, strict=True)
                ]
            case DepthToSpace():
                many = layer.block[0] * layer.block[1]
                source = origins[layer.source]
                for first in range(0, len(source), many):
                    block = [unit for unit in source[first : first + many] if unit is not None]
                    if len(block) < many or len({unit[0] for unit in block}) > 1:
                        raise TatamiError(
                            f"network '{network.name}', layer '{layer.name}': channel"
                            f" {first // many} is made of channels of several tensors, must be of one"
                        )
                    number = min((owner[unit] for unit in block if unit in owner), default=len(owner))
                    owner |= dict.fromkeys(block, number)
                origins[layer.name] = source[::many]
            case _:
                if isinstance(layer, View):
                    source = origins[layer.reads()[0]]
                    many = network.shapes[layer.name][0] // len(source)
                    origins[layer.name] = [unit for unit in source for _ in range(many)]
    return owner


def dumps_of(place: Placement) -> list[Dump]:
    """A packet per bank; the planes of a tensor follow each other in a bank."""
    dumps = []
    for bank in sorted(set(place.bank)):
        bases = [base for b, base in zip(place.bank, place.base, strict=True) if b == bank]
        dumps.append(Dump(place.name, bank, min(bases), len(bases) * place.channel_words))
    return dumps
