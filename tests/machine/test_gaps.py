"""Layers that begin before the one before is written: the gap is long enough for every read, and no longer;
counted here pixel by pixel.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from pymodel.compiler.compile import compile_fitted
from pymodel.machine.config import CONFIGS
from pymodel.machine.errors import ErrorCode
from pymodel.machine.faults import EarlyReadError, OwnReadError, ProgramError
from pymodel.machine.gaps import with_gaps
from pymodel.machine.image import Image
from pymodel.machine.memory import columns
from pymodel.machine.model import Machine
from pymodel.machine.program import Layer, decode
from pymodel.zoo import digits
from pymodel.zoo.random_network import random_program


@dataclass
class Access:
    """What one layer reads and writes: {(bank, word): cycles}, each from the issue of its first lane on.

    It issues lanes for `cycles` cycles.
    """

    reads: dict[tuple[int, int], list[int]]
    writes: dict[tuple[int, int], list[int]]
    cycles: int


def access(image: Image, record: Layer) -> Access:
    """docs/machine.md, "Timing": a lane is read 6 cycles after its issue, column c of a word is written 2T +
    13 + c after its first lane's.
    """
    t = image.config.size
    table = {s.memory: s.words for s in image.sections}
    found = Access({}, {}, 0)
    tiles = table["TILE"][record.tile_base : record.tile_base + record.tiles, 0].tolist()
    total = record.words * record.phases
    for first in range(0, total, record.chunk_words):
        for lane_base, passes, filter_base, _ in tiles:
            for number in range(passes):
                for word in range(first, min(total, first + record.chunk_words)):
                    for lane in range(t):
                        _lane(
                            image,
                            table,
                            record,
                            int(columns("LANE", table["LANE"][lane_base + number * t + lane, 0]).group),
                            word,
                            found.cycles + lane,
                            found,
                        )
                    if number == passes - 1:
                        for column in range(t):
                            *_, write, bank, base = table["FILTER"][filter_base + column, 0].tolist()
                            if write:
                                found.writes.setdefault((bank, base + word), []).append(
                                    found.cycles + 2 * t + 13 + column
                                )
                    found.cycles += t
    return found


def _lane(
    image: Image,
    table: dict[str, np.ndarray],
    record: Layer,
    group: int,
    word: int,
    issued: int,
    found: Access,
) -> None:
    t = image.config.size
    phase, inner = divmod(word, record.words)
    edges = table["EDGE"][record.edge_base + phase * record.edge_stride + inner].tolist()
    for bank, (valid, base, tap) in enumerate(table["GROUP"][group].tolist()):
        if not valid:
            continue
        offset, dy, dx = table["TAP"][record.tap_base + phase * record.tap_stride + tap, 0].tolist()
        for pixel, (kept, left, right, top, bottom) in enumerate(edges):
            if kept and -left <= dx <= right and -top <= dy <= bottom:
                at = (base + inner) * t + offset + pixel
                cycles = found.reads.setdefault((bank, at // t), [])
                if not cycles or cycles[-1] != issued + 6:
                    cycles.append(issued + 6)


def too_early(image: Image, gaps: list[int]) -> list[int]:
    """Layers, by number, that read a word before, or in the cycle in which, another one writes it, with these
    gaps.
    """
    t = image.config.size
    written: dict[tuple[int, int], int] = {}
    begin, early = 0, []
    for number, gap in enumerate(gaps):
        record = decode(image.section("PROGRAM").words[number, 0])
        assert isinstance(record, Layer)
        layer = access(image, record)
        if any(begin + min(cycles) <= written.get(place, -1) for place, cycles in layer.reads.items()):
            early.append(number)
        for place, cycles in layer.writes.items():
            written[place] = begin + max(cycles)
        begin += layer.cycles + (gap or 2 * t + 11) + 4
    return early


def gaps_of(image: Image) -> list[int]:
    return columns("PROGRAM", image.section("PROGRAM").words[: len(image.layers), 0]).gap.tolist()


def shortest(image: Image) -> None:
    gaps = gaps_of(image)
    assert gaps[-1] == 0, "an OUT follows the last layer"
    assert not too_early(image, gaps)
    for number, gap in enumerate(gaps[:-1]):
        if gap != 1:
            less = [
                (gap or 2 * image.config.size + 11) - 1 if other == number else each
                for other, each in enumerate(gaps)
            ]
            assert number + 1 in too_early(image, less), (
                f"layer {number} has a gap of {gap}, {less[number]} is enough"
            )


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("name", ["4x2", "8x4"])
@pytest.mark.parametrize("reused", [0.0, 1.0])
def test_every_gap_is_the_least(reused: float, name: str, seed: int) -> None:
    """Also where a word is written, read, and written again by a later layer."""
    _, image = random_program(np.random.default_rng([23, seed]), CONFIGS[name], reused=reused)
    shortest(image)
    assert gaps_of(with_gaps(image)) == gaps_of(image)


def test_the_model_refuses_a_gap_that_is_too_small() -> None:
    image = compile_fitted(digits.load().network, CONFIGS["16x8"])
    number = next(n for n, gap in enumerate(gaps_of(image)) if gap > 1)
    program = image.section("PROGRAM").words.copy()
    columns("PROGRAM", program).gap[number, 0] -= 1
    machine = Machine(image.config)
    machine.load(image.with_words(PROGRAM=program).sections)
    with pytest.raises(
        EarlyReadError, match=r"word \d+ of bank \d+ is read in cycle \d+ and written in cycle \d+"
    ):
        machine.run(image.run_start)


@pytest.mark.parametrize("seed", range(4))
def test_the_model_refuses_a_layer_that_reads_what_it_writes(seed: int) -> None:
    """A filter of each layer is written to where the layer reads."""
    _, image = random_program(np.random.default_rng([23, seed]), CONFIGS["4x2"])
    for number, name in enumerate(image.layers):
        record = decode(image.section("PROGRAM").words[number, 0])
        assert isinstance(record, Layer)
        read = access(image, record).reads
        if not read:
            continue
        tile = columns("TILE", image.section("TILE").words[record.tile_base, 0])
        filters = image.section("FILTER").words.copy()
        entry = columns("FILTER", filters[int(tile.filter_base), 0])
        bank, word = max(read)
        entry.bank[...], entry.base[...] = bank, max(0, word - image.placements[name].channel_words + 1)
        machine = Machine(image.config)
        machine.load(image.with_words(FILTER=filters).sections)
        with pytest.raises(OwnReadError, match=r"word \d+ of bank \d+ is read and written by the same layer"):
            machine.run(image.run_start)


def test_an_error_says_that_the_layer_read_what_it_writes() -> None:
    """The machine stops in the second tile, whatever the first has read; a stimulus must know of it."""
    _, image = random_program(np.random.default_rng([23, 0]), CONFIGS["4x2"])
    program, tiles = (image.section(name).words.copy() for name in ("PROGRAM", "TILE"))
    record = decode(program[0, 0])
    assert isinstance(record, Layer)
    columns("PROGRAM", program[0, 0]).tiles[...] = record.tiles + 1
    columns("TILE", tiles[record.tile_base + record.tiles, 0]).passes[...] = 0
    stopped = image.with_words(PROGRAM=program, TILE=tiles)
    filters = image.section("FILTER").words.copy()
    entry = columns("FILTER", filters[int(columns("TILE", tiles[record.tile_base, 0]).filter_base), 0])
    bank, word = max(access(image, record).reads)
    entry.bank[...], entry.base[...] = (
        bank,
        max(0, word - image.placements[image.layers[0]].channel_words + 1),
    )
    for spoiled, reads_own in ((stopped, False), (stopped.with_words(FILTER=filters), True)):
        machine = Machine(image.config)
        machine.load(spoiled.sections)
        with pytest.raises(ProgramError, match="TILE_FIELD") as caught:
            machine.run(image.run_start)
        assert bool(caught.value.own_read) == reads_own


def test_layers_of_the_digits_network_hardly_wait() -> None:
    image = compile_fitted(digits.load().network, CONFIGS["16x8"])
    shortest(image)
    assert all(gaps_of(image)[:-1]), "none waits for the whole pipeline"


def test_only_a_layer_may_follow_a_gap() -> None:
    _, image = random_program(np.random.default_rng([23, 0]), CONFIGS["4x2"])
    program = image.section("PROGRAM").words.copy()
    last = len(image.layers) - 1
    assert isinstance(decode(program[last, 0]), Layer)
    columns("PROGRAM", program).gap[last, 0] = 5
    machine = Machine(image.config)
    machine.load(image.with_words(PROGRAM=program).sections)
    with pytest.raises(ProgramError, match="only a LAYER may follow") as caught:
        machine.run(image.run_start)
    assert caught.value.code == ErrorCode.PROGRAM_FIELD
    assert caught.value.info == last + 1
