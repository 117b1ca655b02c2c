"""Runs one LAYER record as the hardware runs it: fetch, slots, passes, requantisation, write-back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pymodel.machine.errors import ErrorCode
from pymodel.machine.faults import EarlyReadError, Faults, LiveUseError, OwnReadError, ProgramError
from pymodel.machine.memory import TABLE_WORDS, columns, outside
from pymodel.machine.program import MAXIMUM, Layer
from pymodel.machine.runs import LayerRun, PassTrace, WriteTrace
from pymodel.machine.slot_rows import Rows
from pymodel.machine.state import MachineState, Reads
from pymodel.machine.timing import (
    GROUP_STAGE,
    OUTSIDE_STAGE,
    READ_STAGE,
    RECORD_CYCLES,
    SLOT_STAGE,
    TAP_STAGE,
    TILE_CYCLES,
    WRITE_STAGE,
    drain_cycles,
    word_stage,
)

Int8Array = npt.NDArray[np.int8]
Int64Array = npt.NDArray[np.int64]

LOWEST = -128  # a maximum begins with it
READS_AT_ONCE = 1 << 16  # pixels


@dataclass(frozen=True)
class _Tile:
    """A tile in one chunk: its word of TILE, and `words`, the words of the output that it runs for.

    `begin`: the cycle of the layer in which its first lane is issued. `cut`: the chunk has more words than
    these, and the first of the others has an address that does not exist.
    """

    chunk: int
    number: int
    lane_base: int
    passes: int
    filter_base: int
    slot_base: int
    words: range
    begin: int
    cut: bool
    size: int

    def pass_begin(self, number: int) -> int:
        """The cycle of the layer in which the first lane of a pass is issued."""
        return self.begin + number * len(self.words) * self.size

    def lanes(self, number: int) -> slice:
        """The words of LANE that a pass reads."""
        first = self.lane_base + number * self.size
        return slice(first, first + self.size)


class _Place(NamedTuple):
    """A read: the number of its word of the output among those at hand, its lane, and the word `at` of
    `bank`.
    """

    word: int
    lane: int
    bank: int
    at: int

    def of(self, words: range) -> str:
        return f"word {words[self.word]} of a layer, lane {self.lane}: word {self.at} of bank {self.bank}"


class LayerExecution:
    """Runs the LAYER at word `pc` of PROGRAM on the memories `state`.

    `faults` counts its cycles from the first issue of a lane. With `trace`, `counts` keeps the sums of every
    pass and the pixels that every column writes. `unsure` [G, depth] are words of FEATURE that a live packet
    may be writing.
    """

    def __init__(
        self,
        state: MachineState,
        pc: int,
        layer: Layer,
        faults: Faults,
        trace: bool,
        unsure: npt.NDArray[np.bool_] | None = None,
    ) -> None:
        self.state = state
        self.unsure = unsure
        self.config = state.config
        self.pc = pc
        self.layer = layer
        self.faults = faults
        self.trace = trace
        # A layer reads only its input. Its own writes must not be visible before it ends.
        self.written = state.features.copy()
        self.own = state.writes(layer)
        self.own_read = ""  # the first read of a word of these
        chunks = -(-layer.total // layer.chunk_words)
        self.counts = LayerRun(pc, layer.words, layer.phases, chunks, layer.tiles, 0, 0, 0, 0)

    def run(self) -> LayerRun:
        """Runs all chunks and tiles, and then puts the written words into the memories.

        Raises `OwnReadError` if the layer reads a word that it writes, unless the program ends in an error,
        which is the same whatever was read.
        """
        layer, counts = self.layer, self.counts
        try:
            for chunk, words in enumerate(layer.chunks()):
                for number in range(layer.tiles):
                    self._run_tile(self._tile(chunk, number, words))
            self.faults.stop(counts.run_cycles + layer.gap if layer.gap else None)
        except ProgramError as error:
            error.own_read = self.own_read
            raise
        if self.own_read and self.faults.first is None:
            raise OwnReadError(self.own_read)
        self.state.features = self.written
        drain = drain_cycles(self.config, layer.gap)
        counts.cycles = RECORD_CYCLES + TILE_CYCLES + counts.run_cycles + drain
        return counts

    def _tile(self, chunk: int, number: int, words: range) -> _Tile:
        """Reads and checks a tile, and the addresses of its words."""
        cfg, begin = self.config, self.counts.run_cycles
        index = self.layer.tile_base + number
        word = columns("TILE", self.state.memory["TILE"][index, 0])
        lane_base, passes, filter_base = int(word.lane_base), int(word.passes), int(word.filter_base)
        if (
            passes == 0
            or lane_base + passes * cfg.size > cfg.lane_depth
            or filter_base + cfg.size > cfg.filter_depth
        ):
            what = f"tile {number}: {passes} passes from lane {lane_base}, filters from {filter_base}"
            self.faults.note(ErrorCode.TILE_FIELD, index, what, begin - 1)
            self.faults.stop()
        legal = self._legal(words, begin)
        return _Tile(
            chunk=chunk,
            number=number,
            lane_base=lane_base,
            passes=passes,
            filter_base=filter_base,
            slot_base=int(word.slot_base),
            words=legal,
            begin=begin,
            cut=len(legal) < len(words),
            size=cfg.size,
        )

    def _legal(self, words: range, begin: int) -> range:
        """The words of a chunk up to the first word whose address in EDGE, TAP or the banks does not exist.
        The sequencer stops there.
        """
        cfg, layer = self.config, self.layer
        for i, f in enumerate(words):
            edge, tap_row = layer.edge_word(f), layer.tap_row(f)
            if edge >= cfg.edge_depth or tap_row >= cfg.tap_depth or f >= cfg.feature_depth:
                what = f"word {f}: edge word {edge}, tap row {tap_row}"
                self.faults.note(ErrorCode.PROGRAM_FIELD, self.pc, what, begin + i * cfg.size)
                if i == 0:  # nothing of this tile runs
                    self.faults.stop()
                return words[:i]
        return words

    def _run_tile(self, tile: _Tile) -> None:
        """All passes of a tile, then requantisation and write-back."""
        edges = self.state.memory["EDGE"]
        keep = np.concatenate([columns("EDGE", edges[self.layer.edge_word(f)]).valid for f in tile.words])
        stored = self.state.rows(self.layer.tile_base + tile.number)
        sums = np.zeros((self.state.batch, tile.size, len(tile.words) * tile.size), dtype=np.int64)
        for number in range(tile.passes):
            if number:
                self.faults.stop(None if tile.cut else tile.pass_begin(number))
            found = self._pass(tile, number, stored, keep)
            sums = np.maximum(sums, found) if self.layer.mode == MAXIMUM and number else sums + found
        self.counts.passes += tile.passes
        self.counts.run_cycles += tile.passes * len(tile.words) * tile.size
        self._write_back(tile, sums, keep)
        # in its last pass the sequencer reads the next tile
        self.faults.stop(None if tile.cut else self.counts.run_cycles - 1)

    def _pass(self, tile: _Tile, number: int, stored: Rows, keep: Int64Array) -> Int64Array:
        """The sums that a pass adds to the accumulators, or the maxima with which it updates them: int64
        [B, C, N] for the N pixels of the tile's words.
        """
        t, group = tile.size, self.config.group
        bundles = self._fetch(tile, number)
        self._note_row(tile, number, stored)
        slot = columns("SLOT", stored.rows[number * t : (number + 1) * t])
        weight = slot.weight
        if self.config.position_bits:  # digits
            weight = weight << self.config.weight_bits * slot.position
        if self.layer.mode == MAXIMUM:
            maxima = self._maxima(weight, slot.select, bundles)
            if self.trace:
                self._trace_pass(tile, number, maxima, bundles, keep)
            return maxima[-1]
        # [rows, C, G]: a slot is a row of zeros with its weight at the input it selects
        matrix = (slot.select[:, :, None] == np.arange(group)) * weight[:, :, None]
        if self.trace:
            products = np.einsum("rcg,brgn->rbcn", matrix, bundles.astype(np.int64))
            self._trace_pass(tile, number, np.cumsum(products, axis=0), bundles, keep)
        # Exact in single precision: 16 products below 2**14 + 1 sum up to less than 2**24. Word by word:
        # products of many words would be divided among threads, which takes longer than the sums.
        words = bundles.reshape(self.state.batch, t * group, -1, t).transpose(0, 2, 1, 3).astype(np.float32)
        sums = matrix.transpose(1, 0, 2).reshape(t, -1).astype(np.float32) @ words  # [B, words, C, T]
        return sums.transpose(0, 2, 1, 3).reshape(self.state.batch, t, -1).astype(np.int64)

    def _note_row(self, tile: _Tile, number: int, stored: Rows) -> None:
        """Notes the first fault, if any, in the stored rows of slots of a pass."""
        fault = stored.fault
        if fault is not None and fault.row // tile.size == number:
            cycle = tile.pass_begin(number) + fault.row % tile.size + SLOT_STAGE[fault.code]
            what = f"tile {tile.number}, {fault.what}"
            self.faults.note(fault.code, tile.slot_base + fault.word, what, cycle)

    def _maxima(self, weight: Int64Array, select: Int64Array, bundles: Int8Array) -> Int64Array:
        """The maxima after each row of the array, int64 [rows, B, C, N]; `weight` and `select` are [rows, C].

        As a PE does it: a negative weight gives the input where maximum + weight x input is negative.
        """
        value = np.full((self.state.batch, weight.shape[1], bundles.shape[3]), LOWEST, dtype=np.int64)
        found = []
        for row in range(len(weight)):
            x = bundles[:, row, select[row]].astype(np.int64)
            of_row = weight[row][:, None]
            value = np.where((of_row < 0) & (value + of_row * x < 0), x, value)
            found.append(value)
        return np.stack(found)

    def _trace_pass(
        self, tile: _Tile, number: int, rows: Int64Array, bundles: Int8Array, keep: Int64Array
    ) -> None:
        self.counts.partial_sums.append(
            PassTrace(
                chunk=tile.chunk,
                tile=tile.number,
                number=number,
                rows=rows,
                bundles=bundles,
                words=tile.words,
                keep=keep,
                first_lane=tile.lanes(number).start,
                first_filter=tile.filter_base,
                maximum=self.layer.mode == MAXIMUM,
            )
        )

    def _fetch(self, tile: _Tile, number: int) -> Int8Array:
        """Bundles [B, lanes, G, N] of the lanes of a pass, for the pixels of the tile's words; `pad` where
        masked, zero where not valid or refused.
        """
        cfg, t, batch = self.config, tile.size, self.state.batch
        features = self.state.features.reshape(batch, -1)
        at_once = max(1, READS_AT_ONCE // (t * t * cfg.group))
        blocks = [tile.words[n : n + at_once] for n in range(0, len(tile.words), at_once)]
        parts = []
        for words in blocks:
            issued = tile.pass_begin(number) + (words[0] - tile.words[0]) * t
            reads = self._reads(tile.lanes(number), words, issued)
            self._check_early(words, reads, issued)
            self._check_live(words, reads)
            pixels = np.where(reads.read, features[:, reads.at], reads.fill)
            parts.append(pixels.transpose(0, 2, 3, 1, 4).reshape(batch, t, cfg.group, -1))
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=3)

    def _reads(self, lanes: slice, words: range, issued: int) -> Reads:
        """What these lanes read for some words of the output, the first of which is `issued` in this cycle of
        the layer. Kept for the next run, if nothing is wrong with it: whoever asks again is told the same.
        """
        key = self.layer, lanes.start, words
        if key in self.state.reads:
            return self.state.reads[key]
        cfg, t, memory = self.config, self.config.size, self.state.memory
        word = np.array(words)
        groups = columns("LANE", memory["LANE"][lanes, 0]).group
        known = groups < cfg.group_depth
        member = columns("GROUP", memory["GROUP"][np.where(known, groups, 0)])
        valid = (member.valid == 1) & known[:, None]
        for lane in np.flatnonzero(~known)[:1]:
            what = f"group {groups[lane]}, the memory has {cfg.group_depth}"
            self.faults.note(ErrorCode.GROUP_RANGE, int(groups[lane]), what, issued + int(lane) + GROUP_STAGE)
        # [words, lanes, G]
        index = np.where(valid, self.layer.tap_row(word)[:, None, None] + member.tap, 0)
        read = valid & (index < cfg.tap_depth)
        tap = columns("TAP", memory["TAP"][np.where(read, index, 0), 0])
        first = (member.base + (word % self.layer.words)[:, None, None]) * t + tap.offset
        first = np.where(read, first, 0)
        no_word = (first < 0) | (first + t > cfg.feature_depth * t)
        # [words, lanes, G, T]
        edges = columns("EDGE", memory["EDGE"][self.layer.edge_word(word)][:, None, None])
        masked = outside(edges, tap.dy[..., None], tap.dx[..., None])
        used = (read & ~no_word)[..., None]
        bank = np.arange(cfg.group)[:, None] * (cfg.feature_depth * t)
        reads = Reads(
            at=bank + np.where(no_word, 0, first)[..., None] + np.arange(t),
            read=used & ~masked,
            fill=np.where(used & masked, self.layer.pad, 0).astype(np.int8),
            needed=used & ~masked & (edges.valid == 1),
        )
        self._note_taps(index, issued)
        self._note_reads(first, no_word, issued)
        self._note_own(words, reads)
        if known.all() and read.sum() == valid.sum() * len(words) and not no_word.any() and not self.own_read:
            self.state.keep_reads(key, reads)
        return reads

    def _note_taps(self, index: Int64Array, issued: int) -> None:
        """Notes the first lane, if any, that has a member whose tap `index` [words, lanes, G] does not
        exist.
        """
        for word, lane, bank in np.argwhere(index >= self.config.tap_depth)[:1].tolist():
            number = int(index[word, lane, bank])
            what = f"tap {number}, the memory has {self.config.tap_depth}"
            cycle = issued + word * self.config.size + lane + TAP_STAGE
            self.faults.note(ErrorCode.TAP_RANGE, number, what, cycle)

    def _note_reads(self, first: Int64Array, no_word: npt.NDArray[np.bool_], issued: int) -> None:
        """Notes the first lane, if any, that has a member whose pixels, from `first` [words, lanes, G] on, do
        not exist.
        """
        for word, lane, bank in np.argwhere(no_word)[:1].tolist():
            what = f"lane {lane} reads pixel {first[word, lane, bank]} of bank {bank}"
            cycle = issued + word * self.config.size + lane + OUTSIDE_STAGE
            self.faults.note(ErrorCode.FEATURE_READ, bank, what, cycle)

    def _check_early(self, words: range, reads: Reads, issued: int) -> None:
        """Raises `EarlyReadError` if a pixel that is needed has not been written yet by the layers before."""
        t, state = self.config.size, self.state
        begin = self.faults.begin + issued + READ_STAGE
        soon = min(len(words), -(-(state.latest - begin + 1) // t))  # so many words could come too early
        if soon <= 0:
            return
        cycles = begin + np.add.outer(np.arange(soon) * t, np.arange(t))  # [words, lanes]
        due = state.due.reshape(-1)[reads.at[:soon] // t]
        for where in np.argwhere((due >= cycles[:, :, None, None]) & reads.needed[:soon]).tolist():
            word, lane = where[:2]
            bank, at = divmod(int(reads.at[tuple(where)]) // t, self.config.feature_depth)
            if self.own[bank, at]:
                continue
            raise EarlyReadError(
                f"{_Place(word, lane, bank, at).of(words)} is read in cycle {cycles[word, lane]} and written"
                f" in cycle {state.due[bank, at]}; the layer before needs a larger gap"
            )

    def _note_own(self, words: range, reads: Reads) -> None:
        """Notes the first pixel, if any, that is needed and lies in a word that the layer writes."""
        for place in self._first_in(self.own, reads):
            self.own_read = self.own_read or f"{place.of(words)} is read and written by the same layer"

    def _check_live(self, words: range, reads: Reads) -> None:
        """Raises `LiveUseError` if a pixel that is needed lies in a word that a live packet may be
        writing.
        """
        if self.unsure is None:
            return
        for place in self._first_in(self.unsure, reads):
            what = "is read while a live packet may be writing it: a WAIT or a HOLD is missing"
            raise LiveUseError(f"{place.of(words)} {what}")

    def _first_in(self, marked: npt.NDArray[np.bool_], reads: Reads) -> Iterator[_Place]:
        """The first pixel, if any, that is needed and lies in a word that is `marked` [G, depth]."""
        at = reads.at // self.config.size
        for where in np.argwhere(marked.reshape(-1)[at] & reads.needed)[:1].tolist():
            bank, word = divmod(int(at[tuple(where)]), self.config.feature_depth)
            yield _Place(where[0], where[1], bank, word)

    def _write_back(self, tile: _Tile, sums: Int64Array, keep: Int64Array) -> None:
        """Requantises the sums [B, C, N] and writes the columns that have an output."""
        t, words, counts = tile.size, tile.words, self.counts
        # [C, 1], to go with sums [B, C, N]
        filters = columns("FILTER", self.state.memory["FILTER"][tile.filter_base : tile.filter_base + t])
        rounding = (1 << filters.shift) >> 1
        scaled = ((sums + filters.bias) * filters.multiplier + rounding) >> filters.shift
        full = scaled + filters.zero
        above = full > filters.high
        below = (full < filters.low) & ~above
        value = np.where(above, filters.high, np.where(below, filters.low, full))
        if self.config.tables:
            value = self._looked_up(filters.table, value)
        value = value * keep
        clipped_low, clipped_high = (
            np.count_nonzero(over & (keep == 1), axis=(0, 2)) for over in (below, above)
        )
        bank, base = filters.bank[:, 0], filters.base[:, 0]
        table = filters.table[:, 0] if self.config.tables else np.zeros_like(bank)
        there = [
            column
            for column in np.flatnonzero(filters.write).tolist()
            if not self._left_out(tile, column, int(bank[column]), int(base[column]), int(table[column]))
        ]
        counts.clipped_low += int(clipped_low[there].sum())
        counts.clipped_high += int(clipped_high[there].sum())
        counts.written += len(words) * len(there)
        bank, first = bank[there], base[there] + words[0]
        pixels = value[:, there].astype(np.int8)
        at = (bank * self.config.feature_depth + first)[:, None] * t + np.arange(len(words) * t)
        self.written.reshape(self.state.batch, -1)[:, at] = pixels
        if self.layer.gap:
            last_pass = self.faults.begin + tile.pass_begin(tile.passes - 1) + word_stage(self.config)
            cycles = last_pass + np.add.outer(there, np.arange(len(words)) * t)
            self.state.note_writes(bank, first, cycles)
        if self.trace:
            counts.writes += [
                WriteTrace(tile.chunk, tile.number, column, int(bank[n]), int(first[n]), pixels[:, n])
                for n, column in enumerate(there)
            ]

    def _left_out(self, tile: _Tile, column: int, bank: int, base: int, table: int) -> bool:
        """Whether a column that is to be written cannot be. What is wrong is noted."""
        unknown = self._no_table(tile, column, table)
        return self._refused(tile, column, bank, base) or unknown

    def _looked_up(self, table: Int64Array, value: Int64Array) -> Int64Array:
        """Pixels [B, C, N] after the activation table [C, 1] of their column, if it has one."""
        results = columns("ACTIVATION", self.state.memory["ACTIVATION"][:, 0]).value
        known = (table > 0) & (table <= self.config.tables)
        index = np.where(known, (table - 1) * TABLE_WORDS, 0) + (value & (TABLE_WORDS - 1))
        return np.where(known, results[index], value)

    def _no_table(self, tile: _Tile, column: int, table: int) -> bool:
        """Whether a column's activation table does not exist. Its first word is noted."""
        if table <= self.config.tables:
            return False
        issued = tile.pass_begin(tile.passes - 1)
        what = f"activation table {table}, the machine has {self.config.tables}"
        self.faults.note(ErrorCode.TABLE_RANGE, table, what, issued + tile.size + column + WRITE_STAGE)
        return True

    def _refused(self, tile: _Tile, column: int, bank: int, base: int) -> bool:
        """Whether some of a column's words, from `base` of `bank` on, do not exist. The first of them is
        noted.
        """
        cfg, words = self.config, tile.words
        if bank < cfg.group and base + words[-1] < cfg.feature_depth:
            return False
        i = 0 if bank >= cfg.group else max(0, cfg.feature_depth - base - words[0])
        issued = tile.pass_begin(tile.passes - 1) + i * cfg.size
        what = f"word {base + words[i]} of bank {bank}"
        self.faults.note(ErrorCode.FEATURE_WRITE, bank, what, issued + cfg.size + column + WRITE_STAGE)
        return True
