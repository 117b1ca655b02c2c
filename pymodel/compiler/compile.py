"""Compiler: an integer network -> the image that runs it.

Lays the tensors out in the feature banks, turns every layer into one matrix over inputs (channel, tap), packs
it, and writes the tables and the program. A network that does not fit is refused with what it needs and what
there is.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np

from pymodel.compiler.layout import IntArray, bank_words, dumps_of, feature_use, guard_words
from pymodel.compiler.lower import Matrix, lower
from pymodel.compiler.planes import Tensors
from pymodel.compiler.streaming import Limit, Linked, link, room_of
from pymodel.compiler.tables import Tables, layers_with_outs, outs, sections
from pymodel.machine.config import DEPTHS, MAX_DEPTH, MIN_DEPTH, ArrayConfig, clog2
from pymodel.machine.errors import TatamiError
from pymodel.machine.image import Image
from pymodel.machine.program import Layer as LayerRecord
from pymodel.machine.progress import tracked
from pymodel.network.integer import INPUT, Computed, Network, Requant, Requantised, View, Weighted
from pymodel.packing.pack import (
    MAX_DIGITS,
    PackedMatrix,
    append,
    check,
    digit_count,
    join,
    no_lanes,
    pack,
    pack_dense,
    refill_blocks,
)
from pymodel.packing.permute import Table, permute
from pymodel.packing.plan import Plans

# Packs one layer without loss: (weights [F, K], bank of each input [K], config, generator) -> packed matrix
Packing = Callable[[IntArray, IntArray, ArrayConfig, np.random.Generator], PackedMatrix]


def max_weight(config: ArrayConfig) -> int:
    """The largest weight of either sign."""
    return 127 if config.weight_bits == 8 else MAX_DIGITS


def clip_weights(network: Network, config: ArrayConfig) -> Network:
    """The network with no weight above what the slots of `config` can hold, which for digits is less than
    127.
    """
    limit = max_weight(config)
    layers = (
        replace(one, weight=np.minimum(one.weight, limit)) if isinstance(one, Weighted) else one
        for one in network.layers
    )
    return Network(network.name, network.input_shape, tuple(layers))


def _tight(
    weight: IntArray, bank: IntArray, config: ArrayConfig, rng: np.random.Generator, table: Table
) -> PackedMatrix:
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


def compile_network(
    network: Network,
    config: ArrayConfig,
    *,
    packing: str | Packing = "tight",
    plans: Plans | None = None,
    scheme: str | None = None,
    seed: int = 0,
    chunk_words: int | None = None,
    reuse: bool | None = None,
    streamed: bool = False,
    limit: Limit | None = None,
) -> Image:
    """Compiles `network` for `config`.

    Every tensor keeps a place of its own, so that all of them can be read afterwards, if the feature memory
    has the words for that. If not, a tensor's words are used again when its last reader has run; the program
    that sends every tensor then runs the layers itself. `reuse` decides that in either way.

    Layers that `plans` names have the slots of their plan (`pymodel.schemes`), the others are packed as
    `packing` says, by name or itself. `scheme` is the name that the image carries, by default that of the
    packing. `chunk_words` is the most words of a chunk, if not all that the accumulators hold: shorter chunks
    are slower and give the same.

    With `streamed`, what the memories other than FEATURE have no room for comes over the load stream while
    the network runs (`pymodel.compiler.streaming`); without, such a network is refused. `limit` says how
    many words of a memory may then be used, if not all.
    """
    pack_layer = _packing(packing)
    needed = activation_tables(network)
    if needed > config.tables:
        raise CapacityError(
            f"network '{network.name}' does not fit: it has {needed} activation tables, config"
            f" '{config.name}' has {config.tables}"
        )
    rng = np.random.default_rng(seed)
    tensors, reuse = _tensors(network, config, reuse)
    places = tensors.places
    tables = Tables(config, min(chunk_words or config.acc_words, config.acc_words))
    layers: dict[str, LayerRecord] = {}
    stats: dict[str, Any] = {"layers": []}
    computed = [layer for layer in network.layers if not isinstance(layer, View)]
    sizes = [layer.weight.size if isinstance(layer, Weighted) else 1 for layer in computed]
    for layer in tracked(computed, "compiling", sizes):
        _check_weights(layer, config)
        matrix = lower(layer, tensors.planes, tensors.layouts[layer.name], max_weight(config))
        plan = (plans or {}).get(layer.name)
        if plan is not None and plan.packed is not None:
            packed = _planned(layer, plan.packed, matrix)
        else:
            # a layer without weights packs the same whatever the packing: no baseline is made worse by it
            packed = _packed(
                matrix, pack_layer if isinstance(layer, Weighted) else PACKINGS["tight"], config, rng
            )
        check(packed, config.size, config.group, matrix.bank, config.weight_bits)
        layers[layer.name] = tables.add_layer(
            requant_of(layer, matrix.filters), matrix, packed, places[layer.name]
        )
        stats["layers"].append(_stats(layer, matrix, packed))

    output = network.layers[-1].name
    dumps = {name: tuple(dumps_of(place)) for name, place in places.items()}
    run = [*layers.values(), *outs(dumps[output])]
    dump = outs(chain(*dumps.values()))
    again = layers_with_outs(dumps[INPUT], ((record, dumps[name]) for name, record in layers.items()))
    if reuse:
        use = feature_use(network, places, config)
        stats["feature"] = {"words": use.words, "bound": use.bound}
        dump = again
    contents = tables.contents()
    room = room_of(config, contents, layers, (run, dump, again), limit)
    words = {"PROGRAM": len(run) + len(dump)} | {name: len(part) for name, part in contents.items()}
    try:
        if streamed and any(count > room[name] for name, count in words.items()):
            linked = link(config, contents, layers, run, (again,) if reuse else (dump, again), room)
            stats["stream"] = linked.stats
        else:
            linked = Linked(
                sections(config, contents, [*run, *dump]), tuple(layers), (0, len(run)), ((), ()), reuse, {}
            )
        return Image(
            config=config,
            network=network.name,
            scheme=scheme or str(packing),
            sections=linked.sections,
            placements=places,
            layers=linked.layers,
            output=output,
            run_start=linked.starts[0],
            dump_start=linked.starts[1],
            dumps=tuple(chain(*dumps.values())),
            reuse=linked.again,
            run_stream=linked.streams[0],
            dump_stream=linked.streams[1],
            stats=stats,
        )
    except TatamiError as error:
        raise CapacityError(f"network '{network.name}' does not fit: {error}") from None


def _packing(packing: str | Packing) -> Packing:
    if not isinstance(packing, str):
        return packing
    if packing not in PACKINGS:
        raise TatamiError(f"packing '{packing}' is unknown; valid: {', '.join(PACKINGS)}")
    return PACKINGS[packing]


def _tensors(network: Network, config: ArrayConfig, reuse: bool | None) -> tuple[Tensors, bool]:
    """Where every tensor lies, if the feature banks have the words for them, and whether words are used again
    for that.
    """
    if network.layers and isinstance(network.layers[-1], View):
        raise TatamiError(
            f"network '{network.name}', layer '{network.layers[-1].name}': the last layer only names pixels"
            " of others, must be one that computes"
        )
    kept = Tensors(network, config)
    words = bank_words(kept.places, guard_words(network, config.size))
    if not reuse and words <= config.feature_depth:
        return kept, False
    need = f"{words} words per bank"
    if reuse is not False:
        found = Tensors(network, config, reuse=True)
        use = feature_use(network, found.places, config)
        if use.words <= config.feature_depth:
            return found, True
        need = (
            f"{use.words} words per bank with words used again (at least {use.bound}; {words} with a place"
            " for every tensor)"
        )
    raise CapacityError(
        f"network '{network.name}' does not fit: FEATURE needs {need}, config '{config.name}' has"
        f" {config.feature_depth}"
    )


def activation_tables(network: Network) -> int:
    """The number of different activation tables that a network needs."""
    requants = (layer.requant for layer in network.layers if isinstance(layer, Requantised))
    return len({q.table.astype(np.int8).tobytes() for q in requants if q.table is not None})


def requant_of(layer: Computed, filters: int) -> Requant:
    """What is done to the layer's sums."""
    return layer.requant if isinstance(layer, Requantised) else Requant.none(filters)


def _packed(matrix: Matrix, packing: Packing, config: ArrayConfig, rng: np.random.Generator) -> PackedMatrix:
    """All blocks of a matrix, packed one by one."""
    parts = [
        packing(b.weight, matrix.bank[b.inputs], config, rng)
        if len(b.inputs)
        else no_lanes(len(b.filters), config.size, config.group, config.weight_bits)
        for b in matrix.blocks
    ]
    filters, inputs = ([getattr(b, name) for b in matrix.blocks] for name in ("filters", "inputs"))
    return join(parts, filters, inputs, len(matrix.bank))


def _check_weights(layer: Computed, config: ArrayConfig) -> None:
    if isinstance(layer, Weighted) and layer.weight.max(initial=0) > max_weight(config):
        raise TatamiError(
            f"layer '{layer.name}': weight holds {layer.weight.max()}, must be at most {max_weight(config)}"
            f" for slots of {config.weight_bits} bits"
        )


def _stats(layer: Computed, matrix: Matrix, packed: PackedMatrix) -> dict[str, Any]:
    return {
        "name": layer.name,
        "weights": layer.weight.size if isinstance(layer, Weighted) else 0,
        "nonzero": matrix.nonzero,
        "lanes": packed.lanes,
    }


def compile_fitted(network: Network, config: ArrayConfig, **options: Any) -> Image:
    """As `compile_network`, for a machine of `config`'s array whose memories are as deep as the network
    needs, the next power of two.

    No memory is shallower than `config` has it; `acc_words`, which bounds a chunk, stays. There are as many
    activation tables as the network needs. Every tensor keeps a place of its own, unless that takes more
    words than a bank can ever have.
    """
    config = replace(config, tables=max(config.tables, activation_tables(network)))
    options = {"chunk_words": config.acc_words} | options
    image = compile_network(network, _deep(config), **options)
    need = {f"{s.memory.lower()}_depth": s.address + len(s.words) for s in image.sections} | {
        "acc_words": config.acc_words
    }
    need["lane_depth"] = max(need["lane_depth"], need.pop("slot_depth"))
    need.pop("activation_depth", None)
    need["feature_depth"] = bank_words(image.placements, guard_words(network, config.size))
    fitted: dict[str, Any] = {
        name: max(getattr(config, name), 1 << clog2(words)) for name, words in need.items()
    }
    return replace(image, config=replace(config, **fitted))


def compile_cut(network: Network, config: ArrayConfig, share: float, **options: Any) -> Image:
    """As `compile_fitted`, but the memories other than FEATURE and PROGRAM have only this share of the words
    that the network needs, and at least room for the largest tile and for the tables of the largest layer.
    The rest comes over the load stream.
    """
    config = replace(config, tables=max(config.tables, activation_tables(network)))
    words = {"PROGRAM": config.program_depth}

    def limit(memory: str, least: int, need: int) -> int:
        return words.setdefault(memory, max(least, math.ceil(share * need)))

    options = {"chunk_words": config.acc_words} | options
    image = compile_network(network, _deep(config), streamed=True, limit=limit, **options)
    words["LANE"] = max(words["LANE"], words.pop("SLOT"), config.size)
    words["FILTER"] = max(words["FILTER"], 2 * config.size)
    words.pop("ACTIVATION", None)
    fitted: dict[str, Any] = {f"{name.lower()}_depth": max(MIN_DEPTH, count) for name, count in words.items()}
    feature = bank_words(image.placements, guard_words(network, config.size))
    fitted["feature_depth"] = 1 << clog2(feature)
    # again: the beats of a word, and with them the figures of the stream, depend on the depths
    return compile_network(network, replace(config, **fitted), streamed=True, **options)


def _deep(config: ArrayConfig) -> ArrayConfig:
    depths: dict[str, Any] = dict.fromkeys(DEPTHS, MAX_DEPTH)
    return replace(config, **depths)


def _planned(layer: Computed, slots: PackedMatrix, matrix: Matrix) -> PackedMatrix:
    """The layer's weights in the slots that its plan has for them, and a residual's inputs behind them."""
    inputs = slots.inputs
    try:
        packed = refill_blocks(slots, [block.before(inputs) for block in matrix.blocks])
    except TatamiError as error:
        raise TatamiError(f"layer '{layer.name}': the plan does not fit: {error}") from None
    return append(packed, matrix.columns(inputs, len(matrix.bank)), matrix.bank[inputs:])
