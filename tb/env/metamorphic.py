"""Second images that must give the same planes as the first. They use symmetries of the machine, so no model
is needed to decide what is right.

Every function derives an image from a compiled image in which every tensor has a place of its own.
`Image.placements` always says where the planes lie.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from pymodel.machine.gaps import with_gaps
from pymodel.machine.image import Image
from pymodel.machine.memory import Words, columns
from pymodel.machine.program import Layer, Out, decode, decode_all
from pymodel.machine.slot_rows import image_rows, store_rows


def permuted_banks(image: Image, rng: np.random.Generator) -> Image:
    """Every plane moves from its bank to another one, with all planes of a bank together. Members, selects
    and filters are changed to match.
    """
    size = image.config.group
    shifted = (np.arange(size) + rng.integers(1, max(2, size))) % size  # every plane changes its bank
    order = rng.permutation(size)
    to = np.empty(size, np.int64)
    to[order] = order[shifted]
    group = image.section("GROUP").words
    moved = group.copy()
    moved[:, to] = group
    filters, program = (image.section(name).words.copy() for name in ("FILTER", "PROGRAM"))
    slots = image_rows(image).copy()
    slot, entry = columns("SLOT", slots), columns("FILTER", filters)
    used, written = slot.weight != 0, entry.write == 1
    slot.select[used] = to[slot.select[used]]
    entry.bank[written] = to[entry.bank[written]]
    for number, record in enumerate(decode_all(program)):
        if isinstance(record, Out):
            program[number, 0] = replace(record, bank=int(to[record.bank])).encode()
    places = {
        name: replace(p, bank=tuple(int(to[b]) for b in p.bank)) for name, p in image.placements.items()
    }
    dumps = tuple(replace(d, bank=int(to[d.bank])) for d in image.dumps)
    tiles, stored = store_rows(image.config, image.section("TILE").words, slots)
    words = {"GROUP": moved, "TILE": tiles, "SLOT": stored, "FILTER": filters, "PROGRAM": program}
    return replace(image.with_words(**words), placements=places, dumps=dumps)


def permuted_channels(image: Image, rng: np.random.Generator) -> Image:
    """The input channels of a bank exchange places within it, and the groups get new numbers. Members and
    lanes are changed to match.
    """
    place = image.placements["input"]
    base = np.array(place.base)
    group = image.section("GROUP").words.copy()
    for bank in set(place.bank):
        channels = np.flatnonzero(np.array(place.bank) == bank)
        was = base[channels].copy()
        before = columns("GROUP", image.section("GROUP").words[:, bank]).base
        base[channels] = was[rng.permutation(len(channels))]
        for old, new in zip(was, base[channels], strict=True):
            inside = (before >= old) & (before < old + place.channel_words)
            columns("GROUP", group[:, bank]).base[inside] += new - old
    # group g becomes order[g]; the empty one stays
    order = np.concatenate([[0], 1 + rng.permutation(len(group) - 1)])
    renumbered = np.zeros_like(group)
    renumbered[order] = group
    lanes = order[image.section("LANE").words]
    places = image.placements | {"input": replace(place, base=tuple(int(b) for b in base))}
    return replace(image.with_words(GROUP=renumbered, LANE=lanes), placements=places)


def split_passes(image: Image, rng: np.random.Generator) -> Image:
    """Every tile gets one more pass. Its lanes are distributed over the passes at random, with empty lanes in
    between.
    """
    t = image.config.size
    tiles, lanes, slots = image.section("TILE").words, image.section("LANE").words, image_rows(image)
    new_tiles = tiles.copy()
    new_lanes: list[Words] = []
    new_slots: list[Words] = []
    for number, (lane_base, passes, _, _) in enumerate(tiles[:, 0].tolist()):
        where = rng.permutation((passes + 1) * t)[: passes * t]
        strewn_lanes = np.zeros(((passes + 1) * t, *lanes.shape[1:]), np.int64)
        strewn_slots = np.zeros(((passes + 1) * t, *slots.shape[1:]), np.int64)
        strewn_lanes[where] = lanes[lane_base : lane_base + passes * t]
        strewn_slots[where] = slots[lane_base : lane_base + passes * t]
        tile = columns("TILE", new_tiles[number, 0])
        tile.lane_base[...], tile.passes[...] = sum(map(len, new_lanes)), passes + 1
        new_lanes.append(strewn_lanes)
        new_slots.append(strewn_slots)
    new_tiles, stored = store_rows(image.config, new_tiles, np.concatenate(new_slots))
    return with_gaps(image.with_words(TILE=new_tiles, LANE=np.concatenate(new_lanes), SLOT=stored))


def split_tiles(image: Image, rng: np.random.Generator) -> Image:
    """Every tile becomes two, each with some of its filters in other columns. Both run over all its lanes.

    The order of the tiles also changes.
    """
    t = image.config.size
    program = image.section("PROGRAM").words.copy()
    tiles, lanes, filters = (image.section(name).words for name in ("TILE", "LANE", "FILTER"))
    slots = image_rows(image)
    made: dict[str, list[Words]] = {name: [] for name in ("TILE", "LANE", "SLOT", "FILTER")}

    def length(name: str) -> int:
        return sum(map(len, made[name]))

    for word in program[:, 0]:
        record = decode(word)
        if not isinstance(record, Layer):
            continue
        halves = []
        for lane_base, passes, filter_base, _ in tiles[record.tile_range, 0].tolist():
            first = rng.random(t) < 0.5
            halves += [
                (slice(lane_base, lane_base + passes * t), filter_base, np.flatnonzero(first)),
                (slice(lane_base, lane_base + passes * t), filter_base, np.flatnonzero(~first)),
            ]
        word[:] = replace(record, tile_base=length("TILE"), tiles=len(halves)).encode()
        for index in rng.permutation(len(halves)):
            rows, filter_base, columns = halves[index]
            to = rng.permutation(t)[: len(columns)]
            half_slots = np.zeros_like(slots[rows])
            half_slots[:, to] = slots[rows][:, columns]
            half_filters = np.zeros_like(filters[filter_base : filter_base + t])
            half_filters[to] = filters[filter_base + columns]
            tile = np.array([[[length("LANE"), len(half_slots) // t, length("FILTER"), 0]]], np.int64)
            for name, words in zip(made, (tile, lanes[rows], half_slots, half_filters), strict=True):
                made[name].append(words)
    words = {name: np.concatenate(parts) for name, parts in made.items()}
    words["TILE"], words["SLOT"] = store_rows(image.config, words["TILE"], words["SLOT"])
    return with_gaps(image.with_words(PROGRAM=program, **words))


def planes(image: Image, packets: list[bytes]) -> dict[str, npt.NDArray[np.int8]]:
    """The tensors int8 [C, H, W] in the packets of the dump program."""
    words = [np.frombuffer(data, np.int8).reshape(-1, image.config.size) for data in packets]
    return {name: image.placements[name].from_words(found) for name, found in image.dumped(words).items()}
