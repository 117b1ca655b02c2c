"""Compiler: an integer network -> the image that runs it.

Lays the tensors out in the feature banks, turns every layer into one matrix over inputs (channel, tap), packs it, and writes the
tables and the program. A network that does not fit is refused with what it needs and what there is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from pymodel.config import DEPTHS, HALO, MAX_DEPTH, ArrayConfig, clog2
from pymodel.errors import TatamiError
from pymodel.formats.slot_rows import encode_tile, spread
from pymodel.handover import set_gaps
from pymodel.image import OPCODE_END, OPCODE_LAYER, OPCODE_OUT, PROGRAM_FIELDS, Dump, Image, Section, Words, memories
from pymodel.network import INPUT, Conv, GlobalPool, Layer, Linear, Network
from pymodel.pack import MAX_DIGITS, PackedMatrix, append, check, digit_count, pack, pack_dense, refill
from pymodel.permute import Table, permute
from pymodel.planes import Placement, ceil_div
from pymodel.schemes.base import Plans

IntArray = npt.NDArray[np.int64]

# Packs one layer without loss: (weights [F, K], bank of each input [K], config, generator) -> packed matrix
Packing = Callable[[IntArray, IntArray, ArrayConfig, np.random.Generator], PackedMatrix]


def max_weight(config: ArrayConfig) -> int:
    """The largest weight of either sign."""
    return 127 if config.weight_bits == 8 else MAX_DIGITS


def clip_weights(network: Network, config: ArrayConfig) -> Network:
    """The network with no weight above what the slots of `config` can hold, which for digits is less than 127."""
    limit = max_weight(config)
    layers = (one if isinstance(one, GlobalPool) else replace(one, weight=np.minimum(one.weight, limit)) for one in network.layers)
    return Network(network.name, network.input_shape, tuple(layers))


def _tight(weight: IntArray, bank: IntArray, config: ArrayConfig, rng: np.random.Generator, table: Table) -> PackedMatrix:
    slots = None if config.weight_bits == 8 else digit_count(weight)
    found = permute(weight, bank, config.size, config.group, table=table, rng=rng, slots=slots)
    return pack(weight, bank, found, config.size, config.group, config.weight_bits)


PACKINGS: dict[str, Packing] = {
    "tight": lambda w, b, c, rng: _tight(w, b, c, rng, "layer"),
    "tight_tile": lambda w, b, c, rng: _tight(w, b, c, rng, "tile"),
    "dense": lambda w, b, c, _: pack_dense(w, b, c.size, c.group, c.weight_bits),
}


class CapacityError(TatamiError):
    """The network needs more of a memory than the configuration has."""


@dataclass(frozen=True)
class Tap:
    """Where an input's pixels lie, relative to its plane, for one phase of the output: see TAP in docs/formats.md."""

    offset: int
    dy: int
    dx: int


@dataclass(frozen=True)
class Matrix:
    """A layer as the array sees it: weights int64 [F, K] over K inputs, each T pixels from (bank, base + delta, tap).

    `taps[phase][tap]` for every phase of the output.
    """

    weight: IntArray
    bank: IntArray
    base: IntArray
    tap: IntArray
    taps: list[list[Tap]]


def compile_network(
    network: Network,
    config: ArrayConfig,
    *,
    packing: str = "tight",
    plans: Plans | None = None,
    scheme: str | None = None,
    seed: int = 0,
    chunk_words: int | None = None,
) -> Image:
    """Compiles `network` for `config`. Every tensor keeps a place of its own, so that all of them can be read afterwards.

    Layers that `plans` names have the slots of their plan (`pymodel.schemes`), the others are packed as `packing` says. `scheme` is the name
    that the image carries, by default that of the packing. `chunk_words` is the most words of a chunk, if not all that the accumulators hold:
    shorter chunks are slower and give the same.
    """
    if packing not in PACKINGS:
        raise TatamiError(f"packing '{packing}' is unknown; valid: {', '.join(PACKINGS)}")
    rng = np.random.default_rng(seed)
    places = _place(network, config)
    if _bank_words(places) > config.feature_depth:
        raise CapacityError(
            f"network '{network.name}' does not fit: FEATURE needs {_bank_words(places)} words per bank, "
            f"config '{config.name}' has {config.feature_depth}"
        )
    tables = _Tables(config, min(chunk_words or config.acc_words, config.acc_words))
    stats = []
    for layer in network.layers:
        source, out = places[layer.source], places[layer.name]
        if not isinstance(layer, GlobalPool) and layer.weight.max(initial=0) > max_weight(config):
            text = f"weight holds {layer.weight.max()}, must be at most {max_weight(config)} for slots of {config.weight_bits} bits"
            raise TatamiError(f"layer '{layer.name}': {text}")
        matrix = _lower(layer, source, out, places, max_weight(config))
        plan = (plans or {}).get(layer.name)
        if plan is not None and plan.packed is not None:
            packed = _planned(layer, plan.packed, matrix)
        else:
            # a pooling layer has no weights to compress: it packs the same whatever the packing, so that the baseline is not made worse
            packed = PACKINGS["tight" if isinstance(layer, GlobalPool) else packing](matrix.weight, matrix.bank, config, rng)
        check(packed, config.size, config.group, matrix.bank, config.weight_bits)
        tables.add_layer(layer, matrix, packed, source, out)
        nonzero = int(np.count_nonzero(matrix.weight))
        stats.append({"name": layer.name, "weights": int(_weights(layer)), "nonzero": nonzero, "lanes": packed.lanes})

    last = places[network.layers[-1].name]
    for dump in _dumps(last):
        tables.add_out(dump)
    tables.program.append({"opcode": OPCODE_END})
    dump_start = len(tables.program)
    dumps = tuple(d for place in places.values() for d in _dumps(place))
    for dump in dumps:
        tables.add_out(dump)
    tables.program.append({"opcode": OPCODE_END})

    try:
        return Image(
            config=config,
            network=network.name,
            scheme=scheme or packing,
            sections=tables.sections(),
            placements=places,
            layers=tuple(layer.name for layer in network.layers),
            output=last.name,
            run_start=0,
            dump_start=dump_start,
            dumps=dumps,
            stats={"layers": stats},
        )
    except TatamiError as error:
        raise CapacityError(f"network '{network.name}' does not fit: {error}") from None


def compile_fitted(network: Network, config: ArrayConfig, **options: Any) -> Image:
    """As `compile_network`, for a machine of `config`'s array whose memories are as deep as the network needs, the next power of two.

    No memory is shallower than `config` has it; `acc_words`, which bounds a chunk, stays.
    """
    options = {"chunk_words": config.acc_words} | options
    image = compile_network(network, _deep(config), **options)
    need = {f"{s.memory.lower()}_depth": s.address + len(s.words) for s in image.sections} | {"acc_words": config.acc_words}
    need["lane_depth"] = max(need["lane_depth"], need.pop("slot_depth"))
    need["feature_depth"] = _bank_words(image.placements)
    fitted: dict[str, Any] = {name: max(getattr(config, name), 1 << clog2(words)) for name, words in need.items()}
    return replace(image, config=replace(config, **fitted))


def _deep(config: ArrayConfig) -> ArrayConfig:
    depths: dict[str, Any] = dict.fromkeys(DEPTHS, MAX_DEPTH)
    return replace(config, **depths)


def _planned(layer: Layer, slots: PackedMatrix, matrix: Matrix) -> PackedMatrix:
    """The layer's weights in the slots that its plan has for them, and a residual's inputs behind them."""
    inputs = slots.inputs
    try:
        packed = refill(slots, matrix.weight[:, :inputs])
    except TatamiError as error:
        raise TatamiError(f"layer '{layer.name}': the plan does not fit: {error}") from None
    return append(packed, matrix.weight[:, inputs:], matrix.bank[inputs:])


def input_banks(network: Network, config: ArrayConfig) -> dict[str, IntArray]:
    """The feature bank of every input of each layer's weights, int64 [K] by layer name: what a scheme needs to plan a layer.

    Only the shapes of `network` and the number of banks count: what is planned for the `skeleton` of a float network holds for the quantised
    one, and for memories of any depth.
    """
    places = _place(network, config)
    banks = {}
    for layer in network.layers:
        bank = np.array(places[layer.source].bank, dtype=np.int64)
        _, height, width = network.shapes[layer.source]
        if isinstance(layer, Conv):
            banks[layer.name] = np.repeat(bank, layer.weight.shape[2] * layer.weight.shape[3])
        elif isinstance(layer, Linear):
            banks[layer.name] = np.repeat(bank, height * width)
    return banks


def residual_banks(network: Network, config: ArrayConfig) -> dict[str, IntArray]:
    """For each layer with a residual the bank of what every filter adds, int64 [F], -1 for nothing; as `input_banks`."""
    places = _place(network, config)
    found = {}
    for layer in network.layers:
        if isinstance(layer, Conv) and layer.residual is not None:
            bank = np.array(places[layer.residual.source].bank, dtype=np.int64)
            found[layer.name] = np.where(layer.residual.channel >= 0, bank[layer.residual.channel], -1)
    return found


def output_words(network: Network, config: ArrayConfig) -> dict[str, int]:
    """Words of the output plane of each layer with weights: a lane takes a cycle for each. As `input_banks`."""
    places = _place(network, config)
    return {layer.name: places[layer.name].channel_words for layer in network.layers if not isinstance(layer, GlobalPool)}


def _weights(layer: Layer) -> int:
    return 0 if isinstance(layer, GlobalPool) else layer.weight.size


# Layout


def _links(network: Network) -> list[tuple[str, str, int]]:
    """(input, output, stride) of every pair of tensors that must share a pitch."""
    links = []
    for layer in network.layers:
        if isinstance(layer, Conv):
            links.append((layer.source, layer.name, layer.stride))
            if layer.residual is not None:
                links.append((layer.residual.source, layer.name, layer.residual.stride))
    return links


def _phases(network: Network) -> list[dict[str, int]]:
    """Phase factor of every tensor, by group of linked tensors: P(input) = stride * P(output), the smallest of a group is 1."""
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
                    raise TatamiError(f"network '{network.name}': tensor '{there}' is read at strides that ask for two layouts of it")
        smallest = min(factor.values())
        found.append({n: int(v / smallest) for n, v in factor.items()})
        seen |= set(factor)
    return found


def _place(network: Network, config: ArrayConfig) -> dict[str, Placement]:
    """Gives every tensor its layout and its planes a bank and a word."""
    phase: dict[str, int] = {}
    pitch: dict[str, int] = {}
    for linked in _phases(network):
        widest = max(ceil_div(network.shapes[n][2], p) for n, p in linked.items())
        phase |= linked
        pitch |= dict.fromkeys(linked, widest)
    rows = {name: ceil_div(shape[1], phase[name]) for name, shape in network.shapes.items()}
    # An input has at least the rows that are computed from it. Tensors are in order of execution, so one sweep backwards is enough.
    for source, out, _ in reversed(_links(network)):
        rows[source] = max(rows[source], rows[out])

    output = network.layers[-1].name if network.layers else INPUT
    drafts = {name: Placement(name, shape, config.size, phase[name], rows[name], pitch[name], (), ()) for name, shape in network.shapes.items()}
    guard = _guard_words(drafts.values())
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


def _bank_words(places: Mapping[str, Placement]) -> int:
    """Words that the fullest bank needs."""
    return max(base + place.channel_words for place in places.values() for base in place.base) + _guard_words(places.values())


def _guard_words(places: Collection[Placement]) -> int:
    """Words of a bank before the first and after the last plane, for reads that straddle an edge and are masked."""
    return ceil_div(max(HALO * p.pitch + HALO for p in places), max(p.size for p in places)) + 1


def _dumps(place: Placement) -> list[Dump]:
    """A packet per bank; the planes of a tensor follow each other in a bank."""
    dumps = []
    for bank in sorted(set(place.bank)):
        bases = [base for b, base in zip(place.bank, place.base, strict=True) if b == bank]
        dumps.append(Dump(place.name, bank, min(bases), len(bases) * place.channel_words))
    return dumps


# Lowering


def _lower(layer: Layer, source: Placement, out: Placement, places: dict[str, Placement], limit: int) -> Matrix:
    """`limit`: the largest weight that an input of a residual may have."""
    if isinstance(layer, Conv):
        return _lower_conv(layer, source, out, places, limit)
    channels, height, width = source.shape
    pixels = np.array([source.pixel(y, x) for y in range(height) for x in range(width)], dtype=np.int64)
    delta, tap = pixels // source.size, pixels % source.size
    if isinstance(layer, Linear):
        weight = layer.weight.astype(np.int64)
    else:
        # each filter sums the pixels of its own channel
        weight = np.repeat(np.eye(channels, dtype=np.int64), len(pixels), axis=1)
    bank = np.repeat(np.array(source.bank, dtype=np.int64), len(pixels))
    base = (np.array(source.base)[:, None] + delta).reshape(-1)
    return Matrix(weight, bank, base, np.tile(tap, channels), [[Tap(j, 0, 0) for j in range(source.size)]])


def _lower_conv(layer: Conv, source: Placement, out: Placement, places: dict[str, Placement], limit: int) -> Matrix:
    filters, channels, k, _ = layer.weight.shape
    weight = [layer.weight.reshape(filters, -1).astype(np.int64)]
    bank = [np.repeat(np.array(source.bank), k * k)]
    base = [np.repeat(np.array(source.base), k * k)]
    tap = [np.tile(np.arange(k * k), channels)]
    shifts = [(source, layer.stride, ky - layer.padding, kx - layer.padding) for ky in range(k) for kx in range(k)]

    if layer.residual is not None:
        r = layer.residual
        place = places[r.source]
        used = sorted({int(c) for c, w in zip(r.channel, r.weight, strict=True) if c >= 0 and w != 0})
        # a weight above the limit takes several slots, each with an input of its own
        pieces = ceil_div(int(np.abs(r.weight).max()), limit)
        for piece in range(pieces):
            rest = np.sign(r.weight) * np.clip(np.abs(r.weight) - piece * limit, 0, limit)
            weight.append(np.array([np.where(r.channel == c, rest, 0) for c in used], dtype=np.int64).reshape(-1, filters).T)
            bank.append(np.array([place.bank[c] for c in used], dtype=np.int64))
            base.append(np.array([place.base[c] for c in used], dtype=np.int64))
            tap.append(np.full(len(used), len(shifts), dtype=np.int64))
        shifts.append((place, r.stride, 0, 0))

    taps = [
        [_tap(place, stride * qy + dy, stride * qx + dx) for place, stride, dy, dx in shifts] for qy in range(out.phase) for qx in range(out.phase)
    ]
    return Matrix(np.concatenate(weight, axis=1), np.concatenate(bank), np.concatenate(base), np.concatenate(tap), taps)


def _tap(place: Placement, y: int, x: int) -> Tap:
    """The tap that reads pixel (y, x) of `place` for the first pixel of an output phase."""
    (dy, py), (dx, px) = divmod(y, place.phase), divmod(x, place.phase)
    sub_plane = (py * place.phase + px) * place.words * place.size
    return Tap(sub_plane + dy * place.pitch + dx, dy, dx)


# Tables


class _Tables:
    """The growing contents of the memories."""

    def __init__(self, config: ArrayConfig, chunk_words: int) -> None:
        self.config = config
        self.chunk_words = chunk_words
        self.program: list[dict[str, int]] = []
        self.tile: list[list[int]] = []
        self.lane: list[int] = []
        self.slot: list[IntArray] = []
        self.group: list[IntArray] = [np.zeros((config.group, 3), dtype=np.int64)]
        self.tap: list[list[int]] = []
        self.edge: list[IntArray] = []
        self.filter: list[list[int]] = []
        self._edges_seen: dict[bytes, int] = {}
        self._taps_seen: dict[tuple[tuple[int, ...], ...], int] = {}

    def add_layer(self, layer: Layer, matrix: Matrix, packed: PackedMatrix, source: Placement, out: Placement) -> None:
        t = self.config.size
        groups = self._add_groups(matrix, packed)
        edge_base, edge_stride = self._add_edges(source, out)
        tap_base, tap_stride = self._add_taps(matrix.taps)
        tile_base = len(self.tile)
        for tile in packed.tiles:
            passes = max(1, ceil_div(len(tile.lanes), t))
            lanes = np.zeros(passes * t, np.int64)  # group 0 is empty: it feeds the lanes that fill up a pass
            lanes[: len(tile.lanes)] = groups + tile.lanes
            slot = [tile.weight, tile.select] if tile.position is None else [tile.weight, tile.position, tile.select]
            slots = np.zeros((passes * t, t, len(slot)), dtype=np.int64)
            slots[: len(tile.lanes), : len(tile.filters)] = np.stack(slot, axis=2)
            slot_base = 0
            if self.config.xor_inputs:
                order = spread(self.config, slots)
                lanes, slots, slot_base = lanes[order], encode_tile(self.config, slots[order]), sum(map(len, self.slot))
            self.tile.append([len(self.lane), passes, len(self.filter), slot_base])
            self.lane += lanes.tolist()
            self.slot.append(slots)
            for f in tile.filters:
                q = layer.requant
                place = [out.bank[f], out.base[f]]
                self.filter.append([int(q.bias[f]), int(q.multiplier[f]), int(q.shift[f]), int(q.relu), 1, *place])
            self.filter += [[0] * 7] * (t - len(tile.filters))

        total = out.words * out.phase**2
        chunks = ceil_div(total, self.chunk_words)
        fields = (OPCODE_LAYER, out.words, out.phase**2, ceil_div(total, chunks), edge_base, edge_stride, tap_base, tap_stride)
        self.program.append(dict(zip(PROGRAM_FIELDS, (*fields, tile_base, len(packed.tiles), 0), strict=True)))

    def add_out(self, dump: Dump) -> None:
        self.program.append(dict(zip(PROGRAM_FIELDS, (OPCODE_OUT, dump.bank, dump.base, dump.words), strict=False)))

    def _add_groups(self, matrix: Matrix, packed: PackedMatrix) -> int:
        """Appends the layer's groups; returns the number of the first."""
        first = len(self.group)
        for members in packed.groups:
            words = np.zeros((self.config.group, 3), dtype=np.int64)
            for k in members[members >= 0]:
                words[matrix.bank[k]] = (1, matrix.base[k], matrix.tap[k])
            self.group.append(words)
        return first

    def _add_taps(self, taps: list[list[Tap]]) -> tuple[int, int]:
        """Appends the tap rows unless they are there already; returns (base, stride)."""
        rows = [[t.offset, t.dy, t.dx] for phase in taps for t in phase]
        key = tuple(tuple(row) for row in rows)
        if key not in self._taps_seen:
            self._taps_seen[key] = len(self.tap)
            self.tap += rows
        return self._taps_seen[key], len(taps[0])

    def _add_edges(self, source: Placement, out: Placement) -> tuple[int, int]:
        """Appends the edge words of the output's phases unless they are there already; returns (base, stride)."""
        _, height, width = out.shape
        n = np.arange(out.words * out.size)
        y, x = n // out.pitch, n % out.pitch
        phases = []
        for qy in range(out.phase):
            for qx in range(out.phase):
                valid = (y < ceil_div(height - qy, out.phase)) & (x < ceil_div(width - qx, out.phase))
                near = [np.clip(v, 0, HALO) for v in (x, out.pitch - 1 - x, y, source.rows - 1 - y)]
                phases.append(np.stack([valid.astype(np.int64), *near], axis=1).reshape(out.words, out.size, 5))
        stride = out.words
        if all((p == phases[0]).all() for p in phases):
            phases, stride = phases[:1], 0
        block = np.concatenate(phases)
        key = block.tobytes()
        if key not in self._edges_seen:
            self._edges_seen[key] = sum(len(e) for e in self.edge)
            self.edge.append(block)
        return self._edges_seen[key], stride

    def sections(self) -> tuple[Section, ...]:
        specs = memories(self.config)

        def flat(rows: list[list[int]]) -> Words:
            return np.array(rows, dtype=np.int64)[:, None, :]

        program = flat([[record.get(name, 0) for name in PROGRAM_FIELDS] for record in self.program])
        contents = {
            "PROGRAM": program,
            "TILE": flat(self.tile),
            "LANE": flat([[g] for g in self.lane]),
            "SLOT": np.concatenate(self.slot),
            "GROUP": np.stack(self.group),
            "TAP": flat(self.tap),
            "EDGE": np.concatenate(self.edge),
            "FILTER": flat(self.filter),
        }
        contents["PROGRAM"] = set_gaps(self.config, contents)
        return tuple(Section(name, 0, words) for name, words in contents.items() if name in specs)
