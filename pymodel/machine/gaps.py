"""When a layer may begin: the least `gap` between two layers such that no word is read before it is written.

A layer need not wait until the pipeline is empty. It only needs to wait until the words that it reads are
written. The machine does not check that. But the cycle of every read and write follows from the program, so
the compiler computes the gap (docs/machine.md, "Timing").
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from pymodel.machine.config import ArrayConfig
from pymodel.machine.image import Image
from pymodel.machine.memory import Words, columns, outside
from pymodel.machine.program import Layer, decode_all
from pymodel.machine.timing import READ_STAGE, RECORD_CYCLES, TILE_CYCLES, drain_cycles, word_stage

Place = tuple[int, int]  # bank and word


def with_gaps(image: Image) -> Image:
    """The image with the least gap between the layers of its programs."""
    words = {s.memory: s.words for s in image.sections if s.memory != "FEATURE"}
    return image.with_words(PROGRAM=set_gaps(image.config, words))


def set_gaps(config: ArrayConfig, words: Mapping[str, Words]) -> Words:
    """The words of PROGRAM, with the least gap in every LAYER that is followed by a LAYER.

    `words` are the contents of the memories, from word 0 on.
    """
    program = words["PROGRAM"].copy()
    gaps = columns("PROGRAM", program).gap[:, 0]
    gaps[:] = 0
    records = decode_all(program)
    # the cycle in which each word was last written, counted from the first lane of the first layer
    written: dict[Place, int] = {}
    begin = 0
    for number, record in enumerate(records):
        if not isinstance(record, Layer):
            written, begin = {}, 0
            continue
        layer = _Accesses(config, words, record)
        for place, cycle in layer.late_writes():
            written[place] = max(begin + cycle, written.get(place, 0))
        end = begin + layer.cycles
        following = records[number + 1] if number + 1 < len(records) else None
        if not isinstance(following, Layer):
            continue
        begin = end + RECORD_CYCLES + TILE_CYCLES + 1
        written = {place: cycle for place, cycle in written.items() if cycle >= begin}
        reads = _Accesses(config, words, following).early_reads()
        waits = [
            written[place] + 2 - (begin + cycle + READ_STAGE) for place, cycle in reads if place in written
        ]
        gap = max([1, *waits])
        if gap < drain_cycles(config):
            gaps[number] = gap
            begin += gap - 1
        else:
            written, begin = {}, 0
    return program


class _Accesses:
    """The words that a LAYER record reads and writes, and the cycles. Its first lane is issued in cycle 0."""

    def __init__(self, config: ArrayConfig, words: Mapping[str, Words], record: Layer) -> None:
        self.config, self.words, self.record = config, words, record
        self.tiles = words["TILE"][record.tile_range, 0].tolist()
        self.cycles = record.total * sum(passes for _, passes, *_ in self.tiles) * config.size
        # the longest time from the issue of a word to its last write: no gap need be longer
        self.horizon = word_stage(config) + config.size

    def passes(self) -> Iterator[tuple[range, int, int, int | None]]:
        """For every pass: the words of its chunk, its first cycle, its first lane, and its first filter if it
        is the last pass of a tile (else None).
        """
        cycle = 0
        for chunk in self.record.chunks():
            for lane_base, passes, filter_base, _ in self.tiles:
                for number in range(passes):
                    yield (
                        chunk,
                        cycle,
                        lane_base + number * self.config.size,
                        filter_base if number == passes - 1 else None,
                    )
                    cycle += len(chunk) * self.config.size

    def late_writes(self) -> Iterator[tuple[Place, int]]:
        """The words that are written after the last lane was issued, and the cycles."""
        size = self.config.size
        for chunk, begin, _, filter_base in self.passes():
            if filter_base is None or begin + len(chunk) * size + self.horizon < self.cycles:
                continue
            filters = columns("FILTER", self.words["FILTER"][filter_base : filter_base + size, 0])
            entries = zip(filters.write.tolist(), filters.bank.tolist(), filters.base.tolist(), strict=True)
            for column, (write, bank, base) in enumerate(entries):
                for place, word in enumerate(chunk):
                    cycle = begin + place * size + word_stage(self.config) + column
                    if write and cycle >= self.cycles:
                        yield (bank, base + word), cycle

    def early_reads(self) -> Iterator[tuple[Place, int]]:
        """The words that are read (at least one pixel is used) before all writes of the layer before are
        done, and the cycle of the lane.
        """
        size = self.config.size
        for chunk, begin, lane_base, _ in self.passes():
            if begin >= self.horizon:
                return
            for place, word in enumerate(chunk):
                issued = begin + place * size
                if issued >= self.horizon:
                    break
                for lane, reads in enumerate(self._reads(lane_base, word)):
                    for where in reads:
                        yield where, issued + lane

    def _reads(self, lane_base: int, word: int) -> list[set[Place]]:
        """For each lane of a pass, the words with the pixels that it uses, for one word of the output."""
        size, record = self.config.size, self.record
        inner = word % record.words
        groups = columns("LANE", self.words["LANE"][lane_base : lane_base + size, 0]).group
        member = columns("GROUP", self.words["GROUP"][groups])  # [lanes, G]
        valid = member.valid == 1
        index = np.where(valid, record.tap_row(word) + member.tap, 0)
        tap = columns("TAP", self.words["TAP"][index, 0])
        edges = columns("EDGE", self.words["EDGE"][record.edge_word(word)])
        used = valid[:, :, None] & (edges.valid == 1)
        used &= ~outside(edges, tap.dy[:, :, None], tap.dx[:, :, None])
        pixels = ((member.base + inner) * size + tap.offset)[:, :, None] + np.arange(size)
        found: list[set[Place]] = [set() for _ in range(size)]
        for lane, bank, at in zip(*np.nonzero(used), strict=True):
            found[lane].add((int(bank), int(pixels[lane, bank, at]) // size))
        return found
