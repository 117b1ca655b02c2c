"""Reads what a page shows of a wave file (VCD or FST): the signals around a divergence, for some cycles."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pywellen

from pymodel.machine.errors import TatamiError
from tb.common.inside import ACCUMULATOR, FETCH, LANE, PE, REQUANT, WRITEBACK
from tb.debug.divergence import Divergence

BEFORE, AFTER = 12, 4  # clock cycles that are shown
MOST = 24  # signals
CLOCK = "clk"
# Of psa_assert: it counts up when its rule is broken.
COUNT, FAIL, ACTIVE = "violations", "fail", "active"
PICOSECONDS = {"fs": 1e-3, "ps": 1.0, "ns": 1e3, "us": 1e6, "ms": 1e9, "s": 1e12}

# What is shown of each stage, below `dut`. Letters: s a signed number, u an unsigned one, h hexadecimal.
WATCHED: Mapping[str, tuple[tuple[str, str], ...]] = {
    "bundle": (
        (
            FETCH,
            "issue_valid:u issue_lane:u issue_word:u issue_tap_row:u issue_edge:u members_reg:h bank_data:h",
        ),
        (LANE, "load:u load_first:u load_data:h pixel_valid:u pixel_first:u pixel_bundle:h"),
    ),
    "partial sum": (
        (PE, "slot_load:u slot_data:h x_valid:u x_first:u x_maximum:u x_bundle:h"),
        (PE, "active_reg:h weight:s x:s product:s term_reg:s psum:s psum_out:s"),
    ),
    "accumulator": (
        (ACCUMULATOR, "read_valid:u read_index:u pixel_valid:u pixel_index:u pixel_first:u pixel_last:u"),
        (ACCUMULATOR, "pixel_maximum:u psum:s stored:s total:s bias_reg:s sum_valid:u sum:s"),
    ),
    "result": (
        (
            REQUANT,
            "sum_valid:u sum:s multiplier_reg:u shift_reg:u zero_reg:s low_reg:s",
        ),
        (REQUANT, "high_reg:s pixel:s word:h"),
        (WRITEBACK, "word_valid:u word_column:u wr_valid:u wr_bank:u wr_word:u wr_data:h wr_keep:u"),
    ),
}


@dataclass(frozen=True)
class Signal:
    """`changes`: times in ns and the value from then on, as text; None where it is not known (X or Z)."""

    scope: str
    name: str
    bits: int
    changes: tuple[tuple[float, str | None], ...]


@dataclass(frozen=True)
class Excerpt:
    """Signals from `begin` to `end` and the clock's period, in ns. `mark`: the time that it is about."""

    signals: tuple[Signal, ...]
    begin: float
    end: float
    period: float
    mark: float | None


def read(path: Path, divergence: Divergence | None, time_ns: float | None = None) -> Excerpt:
    """The cycles around a divergence. Without one, those around `time_ns` of the checker whose rule is broken
    then; else of what the top of the design has, the last cycles if there is no time.

    Raises `TatamiError` for a file that is none, and for one without a clock.
    """
    try:
        waves = pywellen.Waveform(str(path))
        variables = {variable.full_name: variable for variable in waves.all_vars()}
    except (RuntimeError, OSError, ValueError) as error:
        raise TatamiError(f"{path}: cannot be read as waves: {str(error).splitlines()[0]}") from None
    scale = float(waves.timescale.factor) * PICOSECONDS[str(waves.timescale.unit)] / 1e3
    clock = next((name for name in variables if name.rpartition(".")[2] == CLOCK), None)
    edges = [] if clock is None else [time * scale for time, value in variables[clock].signal if value == 1]
    if clock is None or len(edges) < 2:
        raise TatamiError(f"{path}: has no cycle of a signal {CLOCK}")
    period = (edges[-1] - edges[0]) / (len(edges) - 1)
    mark = float(divergence.time_ns) if divergence else time_ns
    if mark is None or not edges[0] <= mark <= edges[-1] + period:
        mark, end = None, edges[-1] + period
    else:
        end = min(mark + AFTER * period, edges[-1] + period)
    begin = max(edges[0], end - (BEFORE + AFTER) * period)
    if divergence:
        chosen = wanted(divergence, variables)
    elif rule := broken(variables, mark, scale):
        names = [f"{rule}.{name}" for name in (FAIL, ACTIVE)] + within(rule.rpartition(".")[0], variables)
        chosen = [(name, "h") for name in names if name in variables]
    else:
        chosen = [(name, "h") for name in within(clock.rpartition(".")[0], variables)]
    chosen = [(clock, "u"), *(one for one in chosen if one[0].rpartition(".")[2] != CLOCK)]
    signals = tuple(
        _signal(name, letter, variables[name], scale, begin, end) for name, letter in chosen[:MOST]
    )
    return Excerpt(signals, begin, end, period, mark)


def wanted(divergence: Divergence, names: Iterable[str]) -> list[tuple[str, str]]:
    """The signals of its stage, by their full names, with their letters; those that the waves have."""
    places = {name: getattr(divergence, name) for name in ("row", "column")}
    by_end = {name.partition(".dut.")[2]: name for name in names if ".dut." in name}
    found = []
    for scope, members in WATCHED[divergence.stage]:
        for member in members.split():
            name, _, letter = member.partition(":")
            end = f"{scope.format(**places)}.{name}"
            if end in by_end:
                found.append((by_end[end], letter))
    return found


def broken(variables: Mapping[str, pywellen.Var], mark: float | None, scale: float) -> str:
    """The scope of the assertion that counts a violation at this time; empty if there is none."""
    for name, variable in variables.items():
        scope, _, leaf = name.rpartition(".")
        if leaf == COUNT and any(value and time * scale == mark for time, value in variable.signal):
            return scope
    return ""


def within(scope: str, names: Iterable[str]) -> list[str]:
    """The signals of a scope; parameters, which have names in capitals, are left out."""
    beside = [name for name in names if name.rpartition(".")[0] == scope]
    return [name for name in beside if not re.fullmatch(r"[A-Z0-9_]+", name.rpartition(".")[2])]


def _signal(name: str, letter: str, variable: pywellen.Var, scale: float, begin: float, end: float) -> Signal:
    bits = variable.bitwidth or 1
    changes: list[tuple[float, str | None]] = []
    for time, value in variable.signal:
        at, text = time * scale, shown(value, bits, letter)
        if at >= end:
            break
        if at <= begin:
            changes = [(begin, text)]
        elif not changes or changes[-1][1] != text:
            changes.append((at, text))
    scope, _, leaf = name.rpartition(".")
    return Signal(scope, leaf, bits, tuple(changes))


def shown(value: object, bits: int, letter: str) -> str | None:
    """A value as text; None for one that has an X or a Z."""
    if not isinstance(value, int):
        return None if isinstance(value, str) and re.search("[xzuXZU]", value) else str(value)
    if bits == 1 or letter == "u":
        return str(value)
    if letter == "s":
        return str(value - (1 << bits) if value >> (bits - 1) & 1 else value)
    return f"{value:0{-(-bits // 4)}x}"
