"""What an image costs, read from its tables alone: cycles, events and energy, without an activation.

The cycles are those of `pymodel.machine.model.Machine`, to the cycle; the events are what the RTL does,
memory by memory (the enables of rtl/psa_fetch.v, psa_feature_bank.v, psa_slots.v, psa_accumulator.v,
psa_writeback.v and psa_sequencer.v). Energy is events times a table of energies per operation
(`energy.yaml`), in the manner of Horowitz (ISSCC 2014): an estimate for comparing images of one machine,
and no more than that.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from itertools import groupby

import numpy as np

from pymodel.machine.config import ArrayConfig
from pymodel.machine.errors import TatamiError
from pymodel.machine.image import Image
from pymodel.machine.memory import MAX_PACKET_WORDS, Memory, Section, Words, beats_of, columns, memories
from pymodel.machine.planes import ceil_div
from pymodel.machine.program import Layer, Out, Wait
from pymodel.machine.slot_rows import tile_rows
from pymodel.machine.timing import OUT_LATENCY, RECORD_CYCLES, TILE_CYCLES, WAIT_CYCLES, drain_cycles
from pymodel.machine.walk import records_of
from pymodel.network.integer import INPUT


@dataclass(frozen=True)
class LayerCost:
    """One layer, for one image: its LAYER record, or all of them if the network is streamed. Counts are
    events of the RTL; a word of a feature bank is T pixels.

    `lanes`: with an input; those that only fill up a pass have none. `slots`: that hold a weight. `pixels`:
    of the output map, `positions`: the same in whole words, which is what the array runs. `passes`: over all
    chunks.

    `cycles`: all of its records. `pass_cycles`: of these, those in which lanes are issued; the rest is the
    pipeline filling and running empty. `bound_cycles`: lanes x pixels / T rounded up, so what is left if
    passes were not filled up and words had no spare pixels.

    `macs`: slots that hold a weight times positions. `steps`: PE by PE, pixels that went by, empty slots
    included. A bank is read for the members of a group that are valid, and always both halves of it: two
    words, aligned or not. TILE is read in every cycle (its read is always enabled).
    """

    name: str
    lanes: int
    slots: int
    pixels: int
    positions: int
    chunks: int
    passes: int
    cycles: int
    pass_cycles: int
    bound_cycles: int
    macs: int
    steps: int
    slot_rows: int
    slots_loaded: int
    bank_reads: int
    bank_writes: int
    accumulator_reads: int
    accumulator_writes: int
    requantised: int
    lane_reads: int
    group_reads: int
    tap_reads: int
    edge_reads: int
    filter_reads: int
    tile_reads: int
    program_reads: int
    activation_reads: int


@dataclass(frozen=True)
class ImageCost:
    """A network on the machine of `config`. All counts are for one image, but for `load_bytes`: loading the
    memories, once for `images` of them. `stream_bytes` are loaded while the network runs.

    `cycles` are from START to END, but for those in which a WAIT waits; `record_cycles` those of each LAYER
    record, `out_cycles` those of all OUT records. `out_words`: words of the out stream.
    `stored_bits` by memory, each word as wide as its memory is, the dump program included. `input_bytes`,
    `load_bytes` and `stream_bytes`: whole beats of the in stream, headers included.
    """

    config: ArrayConfig
    images: int
    layers: tuple[LayerCost, ...]
    cycles: int
    record_cycles: tuple[int, ...]
    records: int
    input_words: int
    out_words: int
    out_cycles: int
    load_bytes: int
    stream_bytes: int
    input_bytes: int
    out_bytes: int
    stored_bits: dict[str, int]

    def total(self, count: str) -> int:
        """Sum of a count of `LayerCost` over all layers."""
        return sum(getattr(layer, count) for layer in self.layers)

    @property
    def pass_cycles(self) -> int:
        return self.total("pass_cycles")

    @property
    def bound_cycles(self) -> int:
        return self.total("bound_cycles")

    @property
    def macs(self) -> int:
        return self.total("macs")

    @property
    def bank_reads(self) -> int:
        """Words read of the feature banks, those for the out stream included: it, too, reads both halves."""
        return self.total("bank_reads") + 2 * self.out_words

    @property
    def bank_writes(self) -> int:
        """Words written into the feature banks, the input's included."""
        return self.total("bank_writes") + self.input_words

    @property
    def waits(self) -> int:
        """Cycles of the layers in which no lane is issued: their records and what comes between one and the
        next.
        """
        return int(self.total("cycles") - self.total("pass_cycles"))

    def bits_per_weight(self, weights: int) -> float:
        """Stored bits of everything that the image holds, per weight of the dense network, which has
        `weights` (infinite if it has none).

        Of the network before compression: the image's own layers may be others (PENNI's, of which there are
        two for one).
        """
        return sum(self.stored_bits.values()) / weights if weights else math.inf


def image_cost(image: Image, images: int = 1) -> ImageCost:
    """The cost of an image's program, with its load shared by `images` inputs.

    Raises `TatamiError` for a program that the machine would not finish: an unknown opcode, a count of zero,
    a table that it leaves, a WAIT for more packets than its stream has.
    """
    if images < 1:
        raise TatamiError(f"images is {images}, must be at least 1")
    config = image.config
    table = _contents(image)
    layers: list[LayerCost] = []
    records = out_words = out_cycles = cycles = 0
    for pc, record in records_of(image, table["PROGRAM"], partial(_load, table)):
        records += 1
        cycles += RECORD_CYCLES
        match record:
            case Layer():
                if len(layers) == len(image.layers):
                    raise TatamiError(
                        f"image of '{image.network}': program word {pc} is a LAYER, the image names only"
                        f" {len(layers)}"
                    )
                layers.append(_layer_cost(image, image.layers[len(layers)], record, table))
                cycles += layers[-1].cycles - RECORD_CYCLES
            case Out():
                out_words += record.words
                out_cycles += RECORD_CYCLES + record.words + OUT_LATENCY
                cycles += record.words + OUT_LATENCY
            case Wait():
                cycles += WAIT_CYCLES
    place, specs = image.placements[INPUT], memories(config)
    input_words = place.shape[0] * place.channel_words
    return ImageCost(
        config=config,
        images=images,
        layers=tuple(
            _joined(list(parts), config.size) for _, parts in groupby(layers, key=lambda layer: layer.name)
        ),
        cycles=cycles,
        record_cycles=tuple(layer.cycles for layer in layers),
        records=records,
        input_words=input_words,
        out_words=out_words,
        out_cycles=out_cycles,
        load_bytes=sum(section_bytes(len(s.words), specs[s.memory]) for s in image.sections),
        stream_bytes=beats_of(config, image.run_stream) * config.stream_bits // 8,
        input_bytes=place.shape[0] * section_bytes(place.channel_words, specs["FEATURE"]),
        out_bytes=out_words * config.size,
        stored_bits=image.bits(),
    )


def _contents(image: Image) -> dict[str, Words]:
    """All tables as the machine has them once the image is loaded."""
    specs = memories(image.config)
    table = {name: spec.zeros(spec.depth) for name, spec in specs.items() if name != "FEATURE"}
    _load(table, image.sections)
    return table


def _load(table: dict[str, Words], sections: Iterable[Section]) -> None:
    for s in sections:
        if s.memory in table:
            table[s.memory][s.address : s.address + len(s.words)] = s.words


def _joined(parts: Sequence[LayerCost], size: int) -> LayerCost:
    """The cost of a layer whose tiles are run by several records: each writes other planes of one map."""
    if len(parts) == 1:
        return parts[0]
    counts = {f.name for f in fields(LayerCost)} - {"name", "pixels", "positions", "chunks"}
    sums = {name: sum(getattr(part, name) for part in parts) for name in counts}
    whole = replace(parts[0], **sums)
    return replace(whole, bound_cycles=ceil_div(whole.lanes * whole.pixels, size))


def section_bytes(words: int, memory: Memory) -> int:
    """Bytes of the load packets that bring so many words."""
    return (ceil_div(words, MAX_PACKET_WORDS) + words * memory.beats) * memory.stream_bits // 8


@dataclass
class _Tiles:
    """Sums over the tiles of a layer: lanes with an input, slots that hold a weight, passes, valid members of
    the lanes' groups, filters that are written and, of these, looked up in an activation table.
    """

    lanes: int = 0
    slots: int = 0
    passes: int = 0
    members: int = 0
    written: int = 0
    looked_up: int = 0


def _layer_cost(image: Image, name: str, record: Layer, table: dict[str, Words]) -> LayerCost:
    t = image.config.size
    where = f"image of '{image.network}', layer '{name}'"
    for count in ("words", "phases", "chunk_words", "tiles"):
        if getattr(record, count) == 0:
            raise TatamiError(f"{where}: {count} is 0, must be at least 1")
    found = _count_tiles(image.config, record, table, where)
    words = record.total
    chunks = ceil_div(words, record.chunk_words)
    pass_cycles = found.passes * words * t
    _, height, width = image.placements[name].shape
    pixels, positions = height * width, words * t
    cycles = RECORD_CYCLES + TILE_CYCLES + pass_cycles + drain_cycles(image.config, record.gap)
    # the first pass of a tile does not read its sums, the last one does not write them
    partial_sums = (found.passes - record.tiles) * positions * t
    return LayerCost(
        name=name,
        lanes=found.lanes,
        slots=found.slots,
        pixels=pixels,
        positions=positions,
        chunks=chunks,
        passes=found.passes * chunks,
        cycles=cycles,
        pass_cycles=pass_cycles,
        bound_cycles=ceil_div(found.lanes * pixels, t),
        macs=found.slots * positions,
        steps=pass_cycles * t * t,
        slot_rows=found.passes * chunks * t,
        slots_loaded=found.passes * chunks * t * t,
        bank_reads=2 * found.members * words,
        bank_writes=found.written * words,
        accumulator_reads=partial_sums,
        accumulator_writes=partial_sums,
        requantised=record.tiles * positions * t,
        lane_reads=pass_cycles,
        group_reads=pass_cycles,
        tap_reads=found.members * words,
        edge_reads=pass_cycles,
        filter_reads=record.tiles * words * t,
        tile_reads=cycles,
        program_reads=1,
        activation_reads=found.looked_up * words * t,
    )


def _count_tiles(config: ArrayConfig, record: Layer, table: dict[str, Words], where: str) -> _Tiles:
    """Raises `TatamiError`, which begins with `where`, for a table that a tile leaves."""
    end = record.tile_base + record.tiles
    if end > config.tile_depth:
        raise TatamiError(f"{where}: tiles end at {end}, config '{config.name}' has {config.tile_depth}")
    found = _Tiles()
    for number, word in enumerate(table["TILE"][record.tile_base : end]):
        rows, filters = _tile_rows(config, word, f"{where}, tile {number}")
        groups = columns("LANE", table["LANE"][rows, 0]).group
        if groups.max() >= config.group_depth:
            raise TatamiError(
                f"{where}, tile {number}: group {groups.max()}, config '{config.name}' has"
                f" {config.group_depth}"
            )
        valid = columns("GROUP", table["GROUP"][groups]).valid.sum(axis=1)
        stored = tile_rows(config, table["SLOT"], word[0])
        found.lanes += int(np.count_nonzero(valid))
        found.slots += int(np.count_nonzero(columns("SLOT", stored.rows).weight))
        found.passes += len(groups) // config.size
        found.members += int(valid.sum())
        entries = columns("FILTER", table["FILTER"][filters])
        found.written += int(np.count_nonzero(entries.write))
        if config.tables:
            found.looked_up += int(np.count_nonzero(entries.write * entries.table))
    return found


def _tile_rows(config: ArrayConfig, word: Words, where: str) -> tuple[slice, slice]:
    """The words of LANE and of FILTER that a word of TILE names."""
    tile = columns("TILE", word[0])
    lane_base, passes, filter_base = int(tile.lane_base), int(tile.passes), int(tile.filter_base)
    lanes = slice(lane_base, lane_base + passes * config.size)
    filters = slice(filter_base, filter_base + config.size)
    if passes == 0 or lanes.stop > config.lane_depth or filters.stop > config.filter_depth:
        raise TatamiError(f"{where}: {passes} passes from lane {lane_base}, filters from {filter_base}")
    return lanes, filters


def fewest_cycles(layers: Sequence[tuple[int, int, int]], lanes: int, size: int) -> float:
    """Cycles of passes that no program with so many lanes goes below, however they are shared out among the
    layers.

    A layer is (filters, pixels, lanes where nothing is skipped). Every tile takes a pass, whether its T lanes
    are used or not; of the lanes beyond these each takes pixels / T cycles, so the fewest if they lie in the
    layers of few pixels. Array of `size` x `size`.
    """
    firsts = [min(most, ceil_div(filters, size) * size) for filters, _, most in layers]
    cycles = float(sum(ceil_div(filters, size) * pixels for filters, pixels, _ in layers))
    left = max(0, lanes - sum(firsts))
    for (_, pixels, most), first in sorted(zip(layers, firsts, strict=True), key=lambda item: item[0][1]):
        more = min(left, most - first)
        cycles += more * pixels / size
        left -= more
    return cycles
