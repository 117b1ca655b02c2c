"""psa_writeback: the parameters of a filter as its word starts, and the finished word into its plane.

Model: a dictionary of filters. After a start in cycle n, column c gets its bias in n + 1, its multiplier in n
+ 2, its shift in n + 3, and zero and both clamps in n + 4. Its word is written in n + T + 5, to word base +
out of the filter's bank, and announced the cycle before: then, and in no other cycle, `soon_valid` is high.
The end of a layer is told two cycles before the write of the last column, an error in n + 3.

Corners:

- words without a gap and with gaps
- filters that are not written
- the last word of a bank, and one past it (for a depth that is not a power of two, also base and sum
  separately)
- a bank that does not exist, in a filter that is written and in one that is not
- two errors in one wave
- in a machine with activation tables: every table and none, one past the last and far past it, in a filter
  that is written and in one that is not, and together with a word outside its bank
- the layer's last word; its last column ends the layer whether or not it is written
- reset with words in the pipeline
- in memories of 65,536 words: filters, bases and words next to every power of two
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import cocotb
import numpy as np

from pymodel.machine.config import ArrayConfig
from pymodel.machine.errors import ErrorCode
from pymodel.machine.memory import memories
from tb.common import settings
from tb.common.block import Bench, chance, edgy, landmarks
from tb.common.seeding import numpy_rng
from tb.common.words import config_of, word

WAVES = 120
WAVES_A_TABLE = 30


@dataclass(frozen=True)
class FilterWord:
    """A FILTER word, its fields in their order."""

    bias: int
    multiplier: int
    shift: int
    zero: int
    low: int
    high: int
    write: int
    bank: int
    base: int
    table: int = 0

    def values(self, config: ArrayConfig) -> tuple[int, ...]:
        """Those that the machine has."""
        values = tuple(vars(self).values())
        return values if config.tables else values[:-1]


def random_filter(rng: np.random.Generator, config: ArrayConfig) -> FilterWord:
    bad_bank = config.group < 16 and chance(rng, 0.1)
    return FilterWord(
        bias=edgy(rng, -(2**31), 2**31 - 1),
        multiplier=edgy(rng, 0, 65535),
        shift=edgy(rng, 0, 47),
        zero=edgy(rng, -128, 127),
        low=edgy(rng, -128, 127),
        high=edgy(rng, -128, 127),
        write=int(chance(rng, 0.8)),
        bank=int(rng.integers(config.group, 16)) if bad_bank else int(rng.integers(config.group)),
        base=edgy(rng, 0, (1 << config.base_bits) - 1 if chance(rng, 0.1) else config.feature_depth - 1),
        table=edgy(rng, 0, 15) if config.tables and chance(rng, 0.1) else edgy(rng, 0, config.tables),
    )


class Writeback:
    """The block, its filters, and the expected outputs by cycle."""

    def __init__(self, dut: Any) -> None:
        fields = ("start_column", "start_out", "start_filter_base", "start_layer_last")
        results = ("words", "keeps")
        self.bench = Bench(dut, "rst", "start_valid", *fields, *results, "ld_filter", "ld_addr", "ld_data")
        self.config = config_of(settings.parameters())
        self.t = self.columns = self.config.size
        self.memory = memories(self.config)["FILTER"]
        self.rng = numpy_rng("filters")
        self.filters: dict[int, FilterWord] = {}
        self.parameters: dict[int, dict[str, int]] = {}  # cycle -> what is on the buses
        self.writes: dict[int, tuple[int, int, int, int]] = {}  # cycle -> column, bank, word, table
        self.ends: set[int] = set()
        self.seen = dict.fromkeys(
            (
                "writes",
                "last_words_of_a_bank",
                "not_written",
                "outside",
                "bad_but_not_written",
                "layers",
                "resets",
            ),
            0,
        )
        if self.config.group < 16:
            self.seen["no_such_bank"] = 0
        if self.config.tables:
            self.seen |= {"last_table": 0}
        if 0 < self.config.tables < 15:
            self.seen |= {"no_such_table": 0, "no_table_and_outside": 0}

    async def reset(self) -> None:
        await self.bench.reset(start_valid=0, ld_filter=0)

    async def load(self) -> None:
        """Loads new contents into the filter table."""
        self.filters = {n: random_filter(self.rng, self.config) for n in range(self.config.filter_depth)}
        if self.config.group < 16:
            self.filters[0] = replace(self.filters[0], write=1, bank=15)
        await self.load_filters()

    async def load_filters(self) -> None:
        for address, entry in self.filters.items():
            fields = word(self.memory, entry.values(self.config))
            await self.bench.cycle(rst=0, start_valid=0, ld_filter=1, ld_addr=address, ld_data=fields)

    async def cycle(
        self, column: int | None = None, wave: Mapping[str, int] | None = None, *, reset: bool = False
    ) -> None:
        """One cycle, in which a column may start a word of `wave`."""
        number = self.bench.number + 1
        pins = {} if column is None else {"start_column": column, **(wave or {})}
        words = int.from_bytes(self.rng.bytes(self.t * self.columns), "little")
        keeps = int.from_bytes(self.rng.bytes(self.t * self.columns // 8), "little")
        if number in self.writes:
            pins |= {"words": words, "keeps": keeps}
        await self.bench.cycle(rst=int(reset), start_valid=int(column is not None), ld_filter=0, **pins)
        self.check(words, keeps)
        if reset:
            self.seen["resets"] += bool(self.parameters or self.writes)
            self.parameters.clear()
            self.writes.clear()
            self.ends.clear()
        elif column is not None and wave is not None:
            self.start(column, wave)

    def check(self, words: int, keeps: int) -> None:
        number = self.bench.number
        loads = dict.fromkeys(("bias_load", "multiplier_load", "shift_load", "clamp_load"), 0)
        quiet = {**loads, "err_valid": 0, "table_err_valid": 0}
        self.bench.expect(layer_done=int(number in self.ends), **(quiet | self.parameters.pop(number, {})))
        soon = self.writes.get(number + 1)
        self.bench.expect(
            soon_valid=int(soon is not None), **({} if soon is None else {"soon_bank": soon[1]})
        )
        if number not in self.writes:
            self.bench.expect(wr_valid=0)
            return
        column, bank, address, table = self.writes.pop(number)
        self.bench.expect(wr_valid=1, wr_bank=bank, wr_word=address, wr_data=words >> column * self.t * 8)
        self.bench.expect(wr_table=table, wr_keep=keeps >> column * self.t)
        if self.config.tables:
            self.seen["last_table"] += table == self.config.tables
        self.seen["writes"] += 1
        self.seen["last_words_of_a_bank"] += address == self.config.feature_depth - 1

    def start(self, column: int, wave: Mapping[str, int]) -> None:
        """The effects of a start in the cycle that has just ended."""
        number = self.bench.number
        entry = self.filters[wave["start_filter_base"] + column]
        address = entry.base + wave["start_out"]
        bad_bank, outside = entry.bank >= self.config.group, address >= self.config.feature_depth
        bad = bool(entry.write) and (bad_bank or outside)
        no_table = bool(entry.write) and entry.table > self.config.tables
        strobe = 1 << column
        failure = {"err_valid": 1, "err_code": ErrorCode.FEATURE_WRITE, "err_info": entry.bank} if bad else {}
        if no_table:
            failure |= {"table_err_valid": 1, "table_err_code": ErrorCode.TABLE_RANGE}
            failure |= {"table_err_info": entry.table}
            self.seen["no_such_table"] += 1
            self.seen["no_table_and_outside"] += bad
        self.parameters.setdefault(number + 1, {}).update(bias_load=strobe, bias=entry.bias)
        self.parameters.setdefault(number + 2, {}).update(multiplier_load=strobe, multiplier=entry.multiplier)
        self.parameters.setdefault(number + 3, {}).update(shift_load=strobe, shift=entry.shift, **failure)
        self.parameters.setdefault(number + 4, {}).update(
            clamp_load=strobe, zero=entry.zero, low=entry.low, high=entry.high
        )
        if entry.write and not bad and not no_table:
            self.writes[number + self.t + 5] = (column, entry.bank, address, entry.table)
        if wave["start_layer_last"] and column == self.columns - 1:
            self.ends.add(number + self.t + 3)
            self.seen["layers"] += 1
        self.seen["not_written"] += not entry.write
        self.seen["bad_but_not_written"] += not entry.write and (bad_bank or outside)
        self.seen["outside"] += bool(entry.write) and outside
        if bad_bank:
            self.seen["no_such_bank"] += entry.write

    async def drain(self) -> None:
        for _ in range(self.t + 6):
            await self.cycle()
        assert not self.parameters
        assert not self.writes


@cocotb.test(skip=settings.parameters()["FILTER_DEPTH"] > 1 << 12)  # too many to fill
async def parameters_and_words(dut: Any) -> None:
    block = Writeback(dut)
    rng, config = block.rng, block.config
    await block.reset()
    for number in range(WAVES):
        if number % WAVES_A_TABLE == 0:
            await block.drain()
            await block.load()
        wave = {
            "start_out": edgy(rng, 0, int(rng.choice([1, 3, config.feature_depth - 1]))),
            "start_filter_base": edgy(rng, 0, config.filter_depth - block.columns),
            "start_layer_last": int(chance(rng, 0.3)),
        }
        for column in range(block.columns):
            reset = chance(rng, 0.015)
            await block.cycle(column, wave, reset=reset)
            if reset:
                break
        for _ in range(int(rng.choice([0, 0, 1, block.t, 2 * block.t + 11]))):
            await block.cycle(reset=chance(rng, 0.01))
    await block.drain()
    block.bench.done(**block.seen)


@cocotb.test()
async def every_filter_and_every_word(dut: Any) -> None:
    """Filters, bases and words of a plane next to every power of two, up to the last and past it."""
    block = Writeback(dut)
    rng, config = block.rng, block.config
    await block.reset()
    firsts = [mark for mark in landmarks(config.filter_depth - block.columns) if mark % block.columns == 0]
    marks = landmarks(config.feature_depth - 1)
    for first in firsts:
        for column in range(block.columns):
            entry = replace(random_filter(rng, config), write=1, bank=int(rng.integers(config.group)))
            block.filters[first + column] = replace(entry, base=int(rng.choice(marks)))
    await block.load_filters()
    for out in marks:
        for first in (firsts[-1], int(rng.choice(firsts))):
            # for one of the wave's filters, this is the last word of its bank, or one past it
            near = rng.integers(block.columns, endpoint=False) + first
            base = config.feature_depth - 1 - out + int(chance(rng, 0.3) and out > 0)
            block.filters[int(near)] = replace(block.filters[int(near)], base=base)
            entry = block.filters[int(near)]
            fields = word(block.memory, entry.values(config))
            await block.drain()
            await block.bench.cycle(rst=0, start_valid=0, ld_filter=1, ld_addr=int(near), ld_data=fields)
            wave = {"start_out": out, "start_filter_base": first, "start_layer_last": int(chance(rng, 0.3))}
            for column in range(block.columns):
                await block.cycle(column, wave)
    for first in firsts:
        wave = {"start_out": 0, "start_filter_base": first, "start_layer_last": 0}
        for column in range(block.columns):
            await block.cycle(column, wave)
    await block.drain()
    kinds = ("writes", "last_words_of_a_bank", "outside")
    block.bench.done(**{kind: block.seen[kind] for kind in kinds})
