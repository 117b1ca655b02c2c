"""Packets and programs that break a rule. This file says what is broken, and never what the machine must
do.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pymodel.machine.config import XOR_COUNT_BITS, XOR_PATCHES, ArrayConfig
from pymodel.machine.faults import ProgramError, UndefinedReadError
from pymodel.machine.image import Image
from pymodel.machine.memory import (
    HOLD,
    LIVE,
    UNIT_BITS,
    Beats,
    Memory,
    Packet,
    Section,
    columns,
    header_beat,
    memories,
    packet,
    parse_packet,
    to_beats,
)
from pymodel.machine.model import Machine
from pymodel.machine.program import OUT_FIELDS, Jump, Layer, Legal, Out, Wait, decode, encode_all
from pymodel.machine.slot_rows import row_length
from tb.common.words import random_beats


def payload(rng: np.random.Generator, memory: Memory, words: int) -> list[int]:
    """Random beats of `words` words."""
    return random_beats(rng, words * memory.beats, memory.stream_bits)


def bad_packets(rng: np.random.Generator, config: ArrayConfig) -> list[tuple[str, Beats]]:
    """For each memory, packets that break each rule of a load packet: destination, bank, words, address, too
    short, too long, and with good words before the fault.

    The words are random, so only FEATURE words may be written. For the other memories the packets name words
    at the end of a memory, or none.
    """
    cases: list[tuple[str, list[int]]] = []
    specs = memories(config)
    for destination in (len(specs), 15, 16, 127, len(specs) | LIVE, 255):
        cases.append(
            (
                f"destination {destination}",
                [header_beat(destination, 0, 1, 0), *map(int, rng.integers(0, 2**63, 3))],
            )
        )
    cases.append(("a bad header alone", [header_beat(int(rng.integers(len(specs), LIVE)), 0, 1, 0)]))
    cases += [
        ("HOLD of no layers", [header_beat(HOLD, 0, 0, 0)]),
        ("HOLD with a bank", [header_beat(HOLD, int(rng.integers(1, 256)), 1, 0)]),
        ("HOLD with an address", [header_beat(HOLD, 0, 1, int(rng.integers(1, 2**32)))]),
        ("HOLD that goes on", [header_beat(HOLD, 0, 1, 0), *map(int, rng.integers(0, 2**63, 3))]),
    ]
    for memory in specs.values():
        last, one = memory.depth - 1, payload(rng, memory, 1)
        bank = int(rng.integers(memory.banks)) if memory.banks > 1 else 0
        number = memory.destination | LIVE * int(rng.integers(2))
        for wrong in {memory.banks, 255}:
            cases.append((f"{memory.name} bank {wrong}", [header_beat(number, wrong, 1, last), *one]))
        cases.append((f"{memory.name} no words", [header_beat(number, bank, 0, last), *one]))
        for address in (last + 1, 65536, 2**32 - 1):
            cases.append((f"{memory.name} address {address}", [header_beat(number, bank, 1, address), *one]))
        cases.append(
            (f"{memory.name} two words from the last", [header_beat(number, bank, 2, last), *one, *one])
        )
        cases.append((f"{memory.name} words 65535", [header_beat(number, bank, 65535, 1), *one]))
        cases.append((f"{memory.name} a header alone", [header_beat(number, bank, 1, last)]))
        if len(one) > 1:
            cases.append((f"{memory.name} part of a word", [header_beat(number, bank, 1, last), *one[:-1]]))
    feature = specs["FEATURE"]
    for words, sent in ((5, 3), (5, 1), (5, 4), (2, 3), (2, 6), (1, 2)):
        bank, address = int(rng.integers(config.group)), int(rng.integers(config.feature_depth - 8))
        cases.append(
            (f"{sent} of {words} words", [header_beat(0, bank, words, address), *payload(rng, feature, sent)])
        )
    order = rng.permutation(len(cases))
    bits = config.stream_bits
    for _, values in cases:  # what is above a header counts for nothing
        values[0] |= random_beats(rng, 1, bits)[0] >> UNIT_BITS << UNIT_BITS
    beats = [(name, to_beats(values, bits)) for name, values in cases]
    return [beats[i] for i in order]


@dataclass(frozen=True)
class Spoiled:
    """A program with one fault.

    `spoil` are the packets that make the fault, `mend` those that undo it, and `start` is the program word to
    begin at.
    """

    name: str
    spoil: list[Packet]
    mend: list[Packet]
    start: int


def bad_programs(rng: np.random.Generator, image: Image) -> Iterator[Spoiled]:
    """An image with one field changed, for every bound that a program can break, at a random place.

    Some changes break nothing. No change makes a layer read a word that is not written yet, or that it writes
    itself.
    """
    return (case for case in _bad_programs(rng, image) if _defined(image, case))


def _defined(image: Image, case: Spoiled) -> bool:
    machine = Machine(image.config)
    machine.load(image.sections)
    machine.load(parse_packet(image.config, p.beats) for p in case.spoil)
    try:
        machine.run(case.start)
    except UndefinedReadError:
        return False
    except ProgramError as error:
        return not error.own_read
    return True


def _bad_programs(rng: np.random.Generator, image: Image) -> Iterator[Spoiled]:
    config = image.config
    specs = memories(config)
    layers = len(image.layers)
    layer = int(rng.integers(layers))
    record = decode(image.section("PROGRAM").words[layer, 0])
    assert isinstance(record, Layer)
    tile = record.tile_base + int(rng.integers(record.tiles))
    entry = columns("TILE", image.section("TILE").words[tile, 0])
    lane_base, passes, filter_base = int(entry.lane_base), int(entry.passes), int(entry.filter_base)
    lane = lane_base + int(rng.integers(passes * config.size))
    column = int(rng.integers(config.size))

    program = [
        *((layer, "opcode", v) for v in (0, 6, 65535)),
        *((layer, field, 0) for field in ("words", "phases", "chunk_words", "tiles")),
        (layer, "words", 65535),
        (layer, "chunk_words", config.acc_words + 1),
        (layer, "tiles", config.tile_depth + 1),
        *((layer, "mode", v) for v in (2, 128, 255)),
        (layer, "tile_base", config.tile_depth),
        (layer, "tile_base", 65535),
        (layer, "edge_base", config.edge_depth),
        (layer, "edge_base", 65535),
        (layer, "edge_base", config.edge_depth - 1),
        (layer, "tap_base", config.tap_depth),
        (layer, "tap_base", config.tap_depth - 1),
        (layers, OUT_FIELDS["bank"], config.group),
        (layers, OUT_FIELDS["base"], config.feature_depth),
        (layers, OUT_FIELDS["words"], 0),
        (layers, OUT_FIELDS["words"], 65535),
        (layers, "opcode", 7),
        (layers - 1, "gap", int(rng.integers(1, 256))),  # before an OUT record
    ]
    changes = [("PROGRAM", *change, 0) for change in program]
    changes += [
        ("TILE", tile, "passes", 0, 0),
        ("TILE", tile, "passes", 65535, 0),
        ("TILE", tile, "lane_base", config.lane_depth - config.size + 1, 0),
        ("TILE", tile, "filter_base", config.filter_depth - config.size + 1, 0),
        *((("TILE", tile, "slot_base", 65535, 0),) if config.xor_inputs else ()),
        ("FILTER", filter_base + column, "base", config.feature_depth - 1, 0),
        ("FILTER", filter_base + column, "bank", 15, 0),
        *(
            (("FILTER", filter_base + column, "table", v, 0) for v in (config.tables + 1, 15))
            if config.tables
            else ()
        ),
    ]
    most_taps = specs["GROUP"].fields[specs["GROUP"].index("tap")].high
    for group, bank in used_members(image, lane_base, passes):
        changes += [
            ("GROUP", group, "base", config.feature_depth - 1, bank),
            ("GROUP", group, "base", 0, bank),
            ("GROUP", group, "tap", most_taps, bank),
        ]
    if config.group_depth < 1 << config.group_id_bits:
        changes.append(("LANE", lane, "group", config.group_depth, 0))
    for memory, word, field, value, repeat in changes:
        yield Spoiled(
            f"{memory}[{word}].{field} = {value}",
            *changed(specs[memory], image, word, field, value, repeat),
            image.run_start,
        )
    if config.xor_inputs:
        yield from bad_rows(image, tile)

    # the program runs out of memory
    words = encode_all([Out(0, 0, 1)])
    end = config.program_depth - 1
    yield Spoiled("no END", [packet(specs["PROGRAM"], Section("PROGRAM", end, words))], [], end)
    yield Spoiled("a start beyond the program", [], [], 65535)
    last: dict[str, Legal] = {
        "WAIT for no packets": Wait(0),
        "JUMP behind the program": Jump(config.program_depth),
        "JUMP far behind the program": Jump(65535),
    }
    for name, only in last.items():
        yield Spoiled(name, [packet(specs["PROGRAM"], Section("PROGRAM", end, encode_all([only])))], [], end)


def bad_rows(image: Image, tile: int) -> Iterator[Spoiled]:
    """The first row of a tile's slots: with more patches than are legal, with a patch beyond its end, and
    with two in the wrong order.
    """
    config, spec = image.config, memories(image.config)["SLOT"]
    base = int(columns("TILE", image.section("TILE").words[tile, 0]).slot_base)
    words = image.section("SLOT").words[base : base + 1]
    mend = [packet(spec, Section("SLOT", base, words))]
    patches = row_length(config, 0)

    def with_patches(name: str, *positions: int, count: int) -> Spoiled:
        spoiled = words.copy()
        fields = [
            (0, XOR_COUNT_BITS, count),
            *((patches + n * config.patch_bits, config.patch_bits, p) for n, p in enumerate(positions)),
        ]
        for at, bits, value in fields:
            spoiled[0, at : at + bits, 0] = value >> np.arange(bits) & 1
        return Spoiled(
            f"SLOT[{base}]: {name}", [packet(spec, Section("SLOT", base, spoiled))], mend, image.run_start
        )

    yield with_patches("too many patches", count=XOR_PATCHES + 1)
    yield with_patches("far too many patches", count=XOR_PATCHES + 2)
    yield with_patches("patches not in order", 9, 5, count=2)
    yield with_patches("the same patch twice", 5, 9, 9, count=3)
    if config.row_bits < 1 << config.patch_bits:
        yield with_patches("a patch behind the row", 1, 2, 3, config.row_bits, count=4)


def used_members(image: Image, lane_base: int, passes: int) -> list[tuple[int, int]]:
    """The first member (group, bank) that the lanes of a tile use, in a list that may be empty."""
    lanes = columns("LANE", image.section("LANE").words[lane_base : lane_base + passes * image.config.size])
    valid = columns("GROUP", image.section("GROUP").words).valid
    return [(int(g), int(b)) for g in lanes.group[:, 0] for b in np.flatnonzero(valid[g])][:1]


def changed(
    spec: Memory, image: Image, word: int, field: str, value: int, repeat: int
) -> tuple[list[Packet], list[Packet]]:
    """The packet that changes one field in the machine, and the packet that restores it."""
    words = image.section(spec.name).words[word : word + 1]
    spoiled = words.copy()
    spoiled[0, repeat, spec.index(field)] = value
    return [packet(spec, Section(spec.name, word, spoiled))], [packet(spec, Section(spec.name, word, words))]
