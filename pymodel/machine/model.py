"""The machine as a program sees it: runs an image the way the hardware does and predicts its cycles exactly.

Unlike `reference`, this follows the packed image: lanes, groups, bundles, slots and passes. It knows nothing
of convolutions.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NoReturn

import numpy as np
import numpy.typing as npt

from pymodel.machine.config import ArrayConfig
from pymodel.machine.errors import ErrorCode, TatamiError
from pymodel.machine.memory import Section, Words, check_section, columns, memories, outside
from pymodel.machine.planes import Placement
from pymodel.machine.program import End, Layer, Out, Unknown, decode
from pymodel.machine.slot_rows import Rows, tile_rows

Int8Array = npt.NDArray[np.int8]
Int64Array = npt.NDArray[np.int64]


class ProgramError(TatamiError):
    """A program broke a bound that the hardware checks.

    `cycle` is the cycle of the run, as CYCLES counts them from 0 and without stalls, in which the hardware
    finds it; `cycles`, how many there are until it stands still; `run` is what the records before did.
    """

    def __init__(self, code: ErrorCode, info: int, what: str, cycle: int) -> None:
        super().__init__(f"{code.name} ({int(code)}), info {info}: {what}")
        self.code = code
        self.info = info
        self.cycle = cycle
        self.cycles = cycle + (1 if code in FOUND_BY_SEQUENCER else 2)
        self.run = ProgramRun()


class EarlyReadError(TatamiError):
    """A layer reads a word that the one before it, which has too small a gap, has yet to write: what it would
    see is not defined.
    """


# Cycles of the sequencer outside STATE_RUN (rtl/psa_sequencer.v). A record takes FETCH and DECODE; a layer
# also reads its first tile and then waits as many cycles as its gap says or, if that is 0, for the pipeline:
# 2T + 11 cycles from the last lane issued to its last word written.
RECORD_CYCLES = 2
TILE_CYCLES = 2
OUT_LATENCY = 3
# Cycles from the issue of a lane to the check of its group, its taps and its reads (rtl/psa_fetch.v), to that
# of its row of slots, whether it is there and whether it is in order (rtl/psa_slots.v), and from the issue of
# a word's first lane to the check of column 0's write, without the T cycles down the array
# (rtl/psa_writeback.v). A read is checked in the cycle in which the bank is read, and sees what was written
# before it.
GROUP_STAGE, TAP_STAGE, READ_STAGE, WRITE_STAGE = 1, 2, 4, 7
SLOT_STAGE = {ErrorCode.SLOT_RANGE: 3, ErrorCode.SLOT_CODE: 4}
# The sequencer stops at once for these; it hears of the others a cycle later.
FOUND_BY_SEQUENCER = (
    ErrorCode.PROGRAM_RANGE,
    ErrorCode.PROGRAM_OPCODE,
    ErrorCode.PROGRAM_FIELD,
    ErrorCode.TILE_FIELD,
)


def drain_cycles(size: int, gap: int = 0) -> int:
    """Cycles from the last lane of a layer with a gap to the next record."""
    return gap or 2 * size + 11


def word_stage(size: int) -> int:
    """Cycles from the issue of a word's first lane to the write of column 0; the other columns follow, one a
    cycle.
    """
    return 2 * size + 11


@dataclass
class LayerRun:
    """Counts of one LAYER record.

    `passes` are over all chunks and tiles, `cycles` the whole record, `clipped_...` pixels at either end.
    """

    index: int
    words: int
    phases: int
    chunks: int
    tiles: int
    passes: int
    run_cycles: int
    cycles: int
    written: int
    partial_sums: list[PassTrace] = field(default_factory=list)
    writes: list[WriteTrace] = field(default_factory=list)
    clipped_low: int = 0
    clipped_high: int = 0


@dataclass
class PassTrace:
    """What one pass put into the accumulators: `rows` int64 [rows, B, C, N] is the sum after each array row,
    for its N pixels.

    `bundles` int8 [B, rows, G, N] went into the rows. The pixels are those of `words` of the output; only
    those that `keep` [N] marks count.
    """

    chunk: int
    tile: int
    number: int
    rows: Int64Array
    bundles: Int8Array
    words: range
    keep: Int64Array
    first_lane: int
    first_filter: int


@dataclass
class WriteTrace:
    """What one column of a tile wrote: `pixels` int8 [B, N] to the words of `bank` from `base` on."""

    chunk: int
    tile: int
    column: int
    bank: int
    base: int
    pixels: Int8Array


@dataclass
class ProgramRun:
    """Result of a program. `packets` are the out stream's, int8 [B, words, T] each."""

    cycles: int = 0
    busy_cycles: int = 0
    slot_rows: int = 0
    words: int = 0
    packets: list[Int8Array] = field(default_factory=list)
    layers: list[LayerRun] = field(default_factory=list)


class Machine:
    """All memories of the array.

    Feature memory is a batch: every image of it runs the same program, and costs the same cycles.
    """

    def __init__(self, config: ArrayConfig, batch: int = 1) -> None:
        self.config = config
        self.batch = batch
        self.specs = memories(config)
        self.memory: dict[str, Words] = {
            name: m.zeros(m.depth) for name, m in self.specs.items() if name != "FEATURE"
        }
        t = config.size
        self._rows: dict[tuple[int, ...], Rows] = {}  # of tiles whose slots were decoded since the last load
        self.features: Int8Array = np.zeros((batch, config.group, config.feature_depth * t), dtype=np.int8)
        # the cycle of the run in which a word was last written by a layer with a gap, and the latest of these
        self._due: Int64Array = np.full((config.group, config.feature_depth), -1)
        self._latest = -1

    def load(self, sections: Iterable[Section]) -> None:
        """Writes sections; those of FEATURE go to every image of the batch."""
        for s in sections:
            check_section(self.config, self.specs[s.memory], s, "")
            if s.memory == "FEATURE":
                self.load_feature(s.bank, s.address, columns("FEATURE", s.words).pixel.astype(np.int8)[None])
            else:
                self.memory[s.memory][s.address : s.address + len(s.words)] = s.words
                self._rows.clear()

    def rows(self, tile: int) -> Rows:
        """The rows of slots of a word of TILE, as they reach the array."""
        key = tuple(self.memory["TILE"][tile, 0].tolist())
        if key not in self._rows:
            self._rows[key] = tile_rows(self.config, self.memory["SLOT"], self.memory["TILE"][tile, 0])
        return self._rows[key]

    def load_feature(self, bank: int, address: int, words: Int8Array) -> None:
        """Writes words [B or 1, words, T] of a feature bank."""
        t = self.config.size
        self.features[:, bank, address * t : (address + words.shape[1]) * t] = words.reshape(
            words.shape[0], -1
        )

    def read_feature(self, bank: int, address: int, words: int) -> Int8Array:
        """Words [B, words, T] of a feature bank."""
        t = self.config.size
        return self.features[:, bank, address * t : (address + words) * t].reshape(self.batch, words, t)

    def load_tensor(self, place: Placement, tensor: Int8Array) -> None:
        """Writes a tensor int8 [B or 1, C, H, W] where it lies."""
        for bank, base, words in zip(
            place.bank, place.base, np.moveaxis(place.to_words(tensor), 1, 0), strict=True
        ):
            self.load_feature(bank, base, words)

    def read_tensor(self, place: Placement) -> Int8Array:
        """The words [B, C, words, T] of a tensor, as `Placement.to_words` has them."""
        planes = [
            self.read_feature(bank, base, place.channel_words)
            for bank, base in zip(place.bank, place.base, strict=True)
        ]
        return np.stack(planes, axis=1)

    def run(self, start: int = 0, *, trace: bool = False) -> ProgramRun:
        """Runs from a program address to END. Raises `ProgramError` where the hardware would stop,
        `EarlyReadError` for too small a gap.

        With `trace`, keeps the bundles and the partial sums of every pass after each row of the array, and
        what was written.
        """
        run = ProgramRun()
        self._due[:], self._latest = -1, -1
        try:
            self._program(start, run, trace)
        except ProgramError as error:
            error.run = run
            raise
        return run

    def followed(self, record: int) -> bool:
        """Whether the next record begins before all results of a LAYER, a word of PROGRAM, are in memory."""
        found = decode(self.memory["PROGRAM"][record, 0])
        return isinstance(found, Layer) and found.gap > 0

    def _program(self, start: int, run: ProgramRun, trace: bool) -> None:
        pc = start
        program = self.memory["PROGRAM"]
        faults = _Faults()
        followed = False
        while True:
            faults.begin = run.cycles
            run.cycles += RECORD_CYCLES
            if pc >= self.config.program_depth:
                faults.refuse(
                    ErrorCode.PROGRAM_RANGE,
                    pc,
                    f"program word {pc}, the memory has {self.config.program_depth}",
                    0,
                )
            record = decode(program[pc, 0])
            if isinstance(record, Unknown):
                faults.refuse(ErrorCode.PROGRAM_OPCODE, pc, f"opcode {record.opcode}", 1)
            if followed and not isinstance(record, Layer):
                faults.refuse(ErrorCode.PROGRAM_FIELD, pc, "only a LAYER may follow a LAYER with a gap", 1)
            match record:
                case End():
                    return
                case Layer():
                    self._layer(pc, record, run, faults, trace)
                    followed = record.gap > 0
                case Out():
                    self._out(pc, record, run, faults)
            pc += 1

    def _out(self, pc: int, out: Out, run: ProgramRun, faults: _Faults) -> None:
        cfg = self.config
        if out.bank >= cfg.group or out.words == 0 or out.base + out.words > cfg.feature_depth:
            what = f"OUT of {out.words} words from word {out.base} of bank {out.bank}"
            faults.refuse(ErrorCode.PROGRAM_FIELD, pc, what, 1)
        run.packets.append(self.read_feature(out.bank, out.base, out.words).copy())
        run.cycles += out.words + OUT_LATENCY

    def _layer(self, pc: int, layer: Layer, run: ProgramRun, faults: _Faults, trace: bool) -> None:
        cfg = self.config
        t = cfg.size
        if 0 in (layer.words, layer.phases, layer.chunk_words, layer.tiles):
            faults.refuse(ErrorCode.PROGRAM_FIELD, pc, f"a count is zero in {layer}", 1)
        if layer.chunk_words > cfg.acc_words or layer.tile_base + layer.tiles > cfg.tile_depth:
            faults.refuse(ErrorCode.PROGRAM_FIELD, pc, f"chunk_words or tiles too large in {layer}", 1)
        chunks = -(-layer.total // layer.chunk_words)
        counts = LayerRun(pc, layer.words, layer.phases, chunks, layer.tiles, 0, 0, 0, 0)
        # words of a layer must not be seen by the layer itself before they are written, nor after: it reads
        # its input only
        written = self.features.copy()
        faults.begin = run.cycles + TILE_CYCLES
        for chunk, words in enumerate(layer.chunks()):
            for tile in range(layer.tiles):
                self._tile(pc, layer, chunk, tile, words, written, counts, faults, trace)
        faults.stop(counts.run_cycles + layer.gap if layer.gap else None)
        self.features = written
        counts.cycles = RECORD_CYCLES + TILE_CYCLES + counts.run_cycles + drain_cycles(t, layer.gap)
        run.cycles += counts.cycles - RECORD_CYCLES
        run.busy_cycles += counts.run_cycles
        run.slot_rows += counts.passes * t
        run.words += counts.written
        run.layers.append(counts)

    def _tile(
        self,
        pc: int,
        layer: Layer,
        chunk: int,
        tile: int,
        words: range,
        written: Int8Array,
        counts: LayerRun,
        faults: _Faults,
        trace: bool,
    ) -> None:
        """One tile of one chunk: all its passes, then requantisation and write-back."""
        cfg = self.config
        t = cfg.size
        begin = counts.run_cycles  # of the tile, in cycles of the layer's running
        lane_base, passes, filter_base, slot_base = (
            int(v) for v in self.memory["TILE"][layer.tile_base + tile, 0]
        )
        if passes == 0 or lane_base + passes * t > cfg.lane_depth or filter_base + t > cfg.filter_depth:
            what = f"tile {tile}: {passes} passes from lane {lane_base}, filters from {filter_base}"
            faults.note(ErrorCode.TILE_FIELD, layer.tile_base + tile, what, begin - 1)
            faults.stop()
        chunk_words = len(words)
        words = self._legal(pc, layer, words, begin, faults)
        cut = len(words) < chunk_words

        stored = self.rows(layer.tile_base + tile)
        keep = np.concatenate([columns("EDGE", self.memory["EDGE"][layer.edge_word(f)]).valid for f in words])
        acc = np.zeros((self.batch, t, len(words) * t), dtype=np.int64)
        for number in range(passes):
            if number:
                faults.stop(None if cut else begin + number * len(words) * t)
            lanes = slice(lane_base + number * t, lane_base + (number + 1) * t)
            bundles = self._fetch(
                layer,
                columns("LANE", self.memory["LANE"][lanes, 0]).group,
                words,
                begin + number * len(words) * t,
                faults,
            )
            slots = stored.rows[number * t : (number + 1) * t]
            if stored.fault is not None and stored.fault.row // t == number:
                fault, at = stored.fault, begin + number * len(words) * t + stored.fault.row % t
                faults.note(
                    fault.code,
                    slot_base + fault.word,
                    f"tile {tile}, {fault.what}",
                    at + SLOT_STAGE[fault.code],
                )
            slot = columns("SLOT", slots)
            weight = slot.weight
            if cfg.position_bits:  # digits
                weight = weight << cfg.weight_bits * slot.position
            # [rows, C, G]: a slot is a row of zeros with its weight at the input it selects
            matrix = (slot.select[:, :, None] == np.arange(cfg.group)) * weight[:, :, None]
            flat = bundles.transpose(1, 2, 0, 3).reshape(t * cfg.group, -1)
            if trace:
                products = np.einsum("rcg,brgn->rbcn", matrix, bundles.astype(np.int64))
                rows = np.cumsum(products, axis=0)
                counts.partial_sums.append(
                    PassTrace(chunk, tile, number, rows, bundles, words, keep, lanes.start, filter_base)
                )
            # exact in single precision: 16 products below 2**14 + 1 sum up to less than 2**24
            sums = matrix.transpose(1, 0, 2).reshape(t, -1).astype(np.float32) @ flat.astype(np.float32)
            acc += sums.reshape(t, self.batch, -1).transpose(1, 0, 2).astype(np.int64)
        counts.passes += passes
        counts.run_cycles += passes * len(words) * t

        bias, multiplier, shift, relu, write, banks, bases = self.memory["FILTER"][
            filter_base : filter_base + t, 0
        ].T[:, :, None]
        low = np.where(relu == 1, 0, -128)
        full = ((acc + bias) * multiplier + ((1 << shift) >> 1)) >> shift
        value = np.clip(full, low, 127) * keep
        clipped_low, clipped_high = (
            np.count_nonzero(over & (keep == 1), axis=(0, 2)) for over in (full < low, full > 127)
        )
        for column in np.flatnonzero(write):
            bank, base = int(banks[column, 0]), int(bases[column, 0])
            if bank >= cfg.group or base + words[-1] >= cfg.feature_depth:
                i = 0 if bank >= cfg.group else max(0, cfg.feature_depth - base - words[0])
                issued = begin + ((passes - 1) * len(words) + i) * t
                faults.note(
                    ErrorCode.FEATURE_WRITE,
                    bank,
                    f"word {base + words[i]} of bank {bank}",
                    issued + t + int(column) + WRITE_STAGE,
                )
                continue
            counts.clipped_low += int(clipped_low[column])
            counts.clipped_high += int(clipped_high[column])
            written[:, bank, (base + words[0]) * t : (base + words[-1] + 1) * t] = value[:, column]
            counts.written += len(words)
            if layer.gap:
                last_pass = faults.begin + begin + (passes - 1) * len(words) * t
                due = last_pass + np.arange(len(words)) * t + word_stage(t) + int(column)
                self._due[bank, base + words[0] : base + words[-1] + 1] = due
                self._latest = max(self._latest, int(due[-1]))
            if trace:
                counts.writes.append(
                    WriteTrace(
                        chunk, tile, int(column), bank, base + words[0], value[:, column].astype(np.int8)
                    )
                )
        # in the last one the sequencer takes the next tile
        faults.stop(None if cut else counts.run_cycles - 1)

    def _legal(self, pc: int, layer: Layer, words: range, begin: int, faults: _Faults) -> range:
        """The words of a chunk up to the first whose addresses in EDGE, TAP or the banks do not exist: there
        the sequencer stops.
        """
        cfg = self.config
        for i, f in enumerate(words):
            edge, tap_row = layer.edge_word(f), layer.tap_row(f)
            if edge >= cfg.edge_depth or tap_row >= cfg.tap_depth or f >= cfg.feature_depth:
                faults.note(
                    ErrorCode.PROGRAM_FIELD,
                    pc,
                    f"word {f}: edge word {edge}, tap row {tap_row}",
                    begin + i * cfg.size,
                )
                if i == 0:  # nothing of this tile runs
                    faults.stop()
                return words[:i]
        return words

    def _fetch(
        self, layer: Layer, groups: Int64Array, words: range, begin: int, faults: _Faults
    ) -> Int8Array:
        """Bundles [B, lanes, G, N] of the lanes that name `groups`, for the pixels of `words`; zero where
        masked, not valid or refused.
        """
        cfg = self.config
        t = cfg.size
        known = groups < cfg.group_depth
        valid, base, tap = np.moveaxis(self.memory["GROUP"][np.where(known, groups, 0)], 2, 0)
        valid = valid * known[:, None]
        bundles = np.zeros((self.batch, len(groups), cfg.group, len(words) * t), dtype=np.int8)
        banks = np.arange(cfg.group)[None, :, None]
        for lane in np.flatnonzero(~known)[:1]:
            what = f"group {groups[lane]}, the memory has {cfg.group_depth}"
            faults.note(ErrorCode.GROUP_RANGE, int(groups[lane]), what, begin + int(lane) + GROUP_STAGE)
        for i, f in enumerate(words):
            w = f % layer.words
            index = np.where(valid == 1, layer.tap_row(f) + tap, 0)
            for lane, bank in np.argwhere(index >= cfg.tap_depth)[:1]:
                what = f"tap {index[lane, bank]}, the memory has {cfg.tap_depth}"
                faults.note(
                    ErrorCode.TAP_RANGE, int(index[lane, bank]), what, begin + i * t + int(lane) + TAP_STAGE
                )
            read = (valid == 1) & (index < cfg.tap_depth)
            offset, dy, dx = np.moveaxis(self.memory["TAP"][np.where(read, index, 0), 0], 2, 0)
            first = np.where(read, (base + w) * t + offset, 0)
            no_word = (first < 0) | (first + t > cfg.feature_depth * t)
            for lane, bank in np.argwhere(no_word)[:1]:
                what = f"lane {lane} reads pixel {first[lane, bank]} of bank {bank}"
                faults.note(ErrorCode.FEATURE_READ, int(bank), what, begin + i * t + int(lane) + READ_STAGE)
            pixels = np.where(no_word, 0, first)[:, :, None] + np.arange(t)
            edges = columns("EDGE", self.memory["EDGE"][layer.edge_word(f)])
            inside = (valid[:, :, None] == 1) & ~outside(edges, dy[:, :, None], dx[:, :, None])
            bundles[..., i * t : (i + 1) * t] = self.features[:, banks, pixels] * inside
            cycles = faults.begin + begin + i * t + np.arange(len(groups)) + READ_STAGE
            if cycles[0] <= self._latest:
                early = (self._due[banks, pixels // t] >= cycles[:, None, None]) & inside & (edges.valid == 1)
                for lane, bank, pixel in np.argwhere(early)[:1]:
                    at = pixels[lane, bank, pixel] // t
                    raise EarlyReadError(
                        f"word {f} of a layer, lane {lane}: word {at} of bank {bank} is read in cycle"
                        f" {cycles[lane]} and written in cycle {self._due[bank, at]}; the layer before needs"
                        " a larger gap"
                    )
        return bundles


class _Faults:
    """Broken bounds, of which the hardware reports the one that it finds first.

    Cycles count from `begin`, a cycle of the run.
    """

    def __init__(self) -> None:
        self.begin = 0
        self.first: ProgramError | None = None

    def refuse(self, code: ErrorCode, info: int, what: str, cycle: int) -> NoReturn:
        """Raises this bound, found broken in a cycle, or one that was found before."""
        self.note(code, info, what, cycle)
        assert self.first is not None
        raise self.first

    def note(self, code: ErrorCode, info: int, what: str, cycle: int) -> None:
        """A bound that is found broken in a cycle. Of two in one cycle the higher code wins, as in
        rtl/psa_top.v and rtl/psa_slots.v; a sequencer that finds one of them stops for it, whichever is
        reported.
        """
        error = ProgramError(code, info, what, self.begin + cycle)
        if self.first is not None and error.cycle == self.first.cycle:
            error.cycles = self.first.cycles = min(error.cycles, self.first.cycles)
        if self.first is None or (error.cycle, -error.code) < (self.first.cycle, -self.first.code):
            self.first = error

    def stop(self, before: int | None = None) -> None:
        """Raises what was found before a cycle, or at all: nothing that is issued from then on can be found
        earlier.
        """
        if self.first is not None and (before is None or self.first.cycle < self.begin + before):
            raise self.first
