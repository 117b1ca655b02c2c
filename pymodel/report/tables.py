"""Reports as tables: the same cells for the console and for the page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.table import Table

from pymodel.report.curves import DROPS, Point, Reading, held, points, ratio, read_at
from pymodel.report.reports import Report, by_scheme, read_reports

DASH = "–"
OURS, BASELINE = "tight_joint", "column_combining"
SUBWORD, WHOLE = "tight_subword", "tight"
BLOCKS, BOUND = "tetris", "unstructured"

# What Chen et al. (arXiv 2104.01303) report over column combining: 14.13 / 5.88 compression, throughput, energy efficiency.
TARGETS = (("matrix compression", "2.40"), ("throughput", "2.75"), ("energy efficiency", "1.86"))


def _show(value: float | None, form: str) -> str:
    return DASH if value is None else format(value, form)


def _percent(value: float | None, digits: int = 1) -> str:
    return DASH if value is None else f"{100 * value:.{digits}f}%"


def _change(before: float, after: float) -> str:
    return f"{100 * before:.2f} → {100 * after:.2f}"


@dataclass(frozen=True)
class Column:
    title: str
    cell: Callable[[Report], str]
    optional: bool = False  # left out where all its cells are empty
    left: bool = False


COLUMNS = (
    Column("scheme", lambda r: r.scheme, left=True),
    Column("asked", lambda r: f"{r.ratio:g}"),
    Column("seed", lambda r: f"{r.seed}"),
    Column("matrix compression", lambda r: f"{r.matrix_compression:.2f}"),
    Column("parameters pruned", lambda r: _percent(r.parameters_pruned), optional=True),
    Column("FLOPs pruned", lambda r: _percent(r.flops_pruned), optional=True),
    Column("bits a weight", lambda r: _show(r.bits_per_weight, ".2f")),
    Column("with XOR", lambda r: _show(r.xor_bits_per_weight, ".2f"), optional=True),
    Column("occupancy", lambda r: _percent(r.occupancy)),
    Column("saliency kept", lambda r: _percent(r.saliency_kept)),
    Column("accuracy, float", lambda r: _change(r.start_float, r.accuracy_float)),
    Column("accuracy, int8", lambda r: _change(r.start_int8, r.accuracy_int8)),
    Column("cycles", lambda r: _show(r.cycles, ",.0f")),
    Column("speed-up", lambda r: _show(r.speedup, ".2f")),
    Column("energy, µJ", lambda r: DASH if r.energy_nj is None else f"{r.energy_nj / 1000:.3g}"),
    Column("energy gain", lambda r: _show(r.energy_gain, ".2f")),
)


def run_rows(reports: Sequence[Report]) -> tuple[list[Column], list[list[str]]]:
    """Columns and a row for each report."""
    columns = [c for c in COLUMNS if not c.optional or any(c.cell(r) != DASH for r in reports)]
    return columns, [[c.cell(r) for c in columns] for r in reports]


def held_rows(reports: Sequence[Report]) -> list[list[str]]:
    """For each scheme, the compression that it holds at the start's int8 accuracy less each of `DROPS`. Reports of one network."""
    start = reports[0].start_int8
    return [[scheme, *(_read(held(points(runs), start - drop)) for drop in DROPS)] for scheme, runs in by_scheme(reports).items()]


def target_rows(reports: Sequence[Report]) -> list[list[str]]:
    """`OURS` over `BASELINE` at each of `DROPS`, beside the paper's figure: compression, throughput, energy. Reports of one network.

    Nothing if one of them is missing.
    """
    start = reports[0].start_int8
    schemes = by_scheme(reports)
    if OURS not in schemes or BASELINE not in schemes:
        return []
    ours, base = (points(schemes[name]) for name in (OURS, BASELINE))
    return [
        [name, *(_read(_compare(ours, base, start - drop, field)) for drop in DROPS), target]
        for (name, target), field in zip(TARGETS, ("compression", "speedup", "energy_gain"), strict=True)
    ]


def subword_rows(reports: Sequence[Report]) -> list[list[str]]:
    """What `SUBWORD` and `WHOLE` hold at each of `DROPS`, counted in bits of weights, and the ratio; then the cycles and the stored bits there.

    Nothing if one of them is missing.
    """
    start = reports[0].start_int8
    schemes = by_scheme(reports)
    if SUBWORD not in schemes or WHOLE not in schemes:
        return []
    digits, whole = (points(schemes[name], "weight_bits_compression") for name in (SUBWORD, WHOLE))
    read = [(held(digits, start - drop), held(whole, start - drop)) for drop in DROPS]
    rows = [
        [f"compression, {SUBWORD}", *(_read(a) for a, _ in read), ""],
        [f"compression, {WHOLE}", *(_read(b) for _, b in read), ""],
        ["ratio", *(_read(ratio(a, b)) for a, b in read), "1.3"],
    ]
    for title, field, form in (("cycles", "cycles", ",.0f"), ("bits a weight", "bits_per_weight", ".2f")):
        for name, curve, where in ((SUBWORD, digits, [a for a, _ in read]), (WHOLE, whole, [b for _, b in read])):
            found = [read_at(curve, at, field) for at in where]
            rows.append([f"{title}, {name}", *(_show(None if f is None else f.value, form) for f in found), ""])
    return rows


def sparsity_rows(reports: Sequence[Report]) -> list[list[str]]:
    """The share of weights that `BLOCKS`, and the bound beside it, leave out at each of `DROPS`. Nothing if one of them is missing."""
    start = reports[0].start_int8
    schemes = by_scheme(reports)
    if BLOCKS not in schemes or BOUND not in schemes:
        return []
    rows = []
    for name in (BLOCKS, BOUND):
        curve = points(schemes[name])
        densities = [read_at(curve, held(curve, start - drop), "density") for drop in DROPS]
        rows.append([name, *(DASH if d is None else f"{d.mark}{_percent(1 - d.value)}" for d in densities)])
    return rows


def density_rows(reports: Sequence[Report]) -> list[list[str]]:
    """For each run of `BLOCKS` its density, its share of the dense network's cycles, and the one over the other: 1 where cycles go by density."""
    rows = []
    for r in by_scheme(reports).get(BLOCKS, []):
        if r.density and r.speedup:
            share = 1 / r.speedup
            rows.append([f"{r.ratio:g}", _percent(r.density), _percent(share), f"{share / r.density:.2f}"])
    return rows


def _compare(ours: Sequence[Point], base: Sequence[Point], accuracy: float, field: str) -> Reading | None:
    a, b = held(ours, accuracy), held(base, accuracy)
    if field != "compression":
        a, b = read_at(ours, a, field), read_at(base, b, field)
    return ratio(a, b)


def _read(reading: Reading | None) -> str:
    return DASH if reading is None else str(reading)


def training_lines(reports: Sequence[Report]) -> list[str]:
    """How the runs of a table were trained: a line for each budget, with the runs that had it and the seconds that they took."""
    budgets: dict[str, list[Report]] = {}
    for r in reports:
        budgets.setdefault(r.budget.text(), []).append(r)
    lines = []
    for text, runs in budgets.items():
        seconds = sorted({round(r.budget.seconds) for r in runs})
        took = " to ".join(str(s) for s in (seconds[0], *seconds[1:][-1:])) + (" s each" if len(runs) > 1 else " s")
        which = "all runs" if len(budgets) == 1 else ", ".join(f"{r.scheme} {r.ratio:g}" for r in runs)
        lines.append(f"{which}: {text}; {took}")
    return lines


def console_table(reports: Path | Sequence[Report]) -> Table:
    """All reports as one table; a path is read by `read_reports`."""
    found = read_reports(reports) if isinstance(reports, Path) else list(reports)
    columns, rows = run_rows(found)
    table = Table(box=box.SIMPLE_HEAD)
    for title in ("network", "config"):
        table.add_column(title)
    for c in columns:
        table.add_column(c.title, justify="left" if c.left else "right")
    for r, row in zip(found, rows, strict=True):
        table.add_row(r.network, r.config, *row)
    return table
