"""Reports as tables: the same cells for the console and for the page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from rich import box
from rich.table import Table

from pymodel.report.area import pes_at_equal_area
from pymodel.report.curves import DROPS, CurvePoint, Reading, held, points, ratio, read_at
from pymodel.report.record import Report, by_point, by_scheme, read_reports

Cell = Callable[[Sequence[Report]], str]

DASH = "–"
BASELINE = "column_combining"
SUBWORD, WHOLE = "tight_subword", "tight"
DENSE = "dense"
BLOCKS, BOUND = ("tetris", "tetris_pass"), "unstructured"

MEASURES = (
    ("matrix compression", "compression"),
    ("throughput at equal area", "speedup"),
    ("energy efficiency", "energy_gain"),
)


@dataclass(frozen=True)
class Tier:
    """Schemes that prune the same things, and what Chen et al. report of such a scheme for `MEASURES`."""

    name: str
    schemes: tuple[str, ...]
    paper: tuple[str, str, str]


TIERS = (
    # without subwords: DAC 2020, 10.1109/dac18072.2020.9218701; 10.28 / 5.88
    Tier("weights", ("tight_joint", "tight_cycle"), ("1.75", "2.12", "1.57")),
    # with subwords: arXiv 2104.01303; 14.13 / 5.88
    Tier("digits", ("tight_subword", "joint_subword", "cycle_subword"), ("2.40", "2.75", "1.86")),
)


def _percent(value: float) -> str:
    return f"{100 * value:.1f}%"


def _mean(field: str, show: Callable[[float], str]) -> Cell:
    """The mean of a field of the runs; a dash if one of them has none."""

    def cell(runs: Sequence[Report]) -> str:
        values = [getattr(r, field) for r in runs]
        return DASH if None in values else show(fmean(values))

    return cell


def _of(field: str, form: str, unit: float = 1) -> Cell:
    """The mean of a field of the runs, in units."""
    return _mean(field, lambda value: format(value / unit, form))


def _share(field: str) -> Cell:
    return _mean(field, _percent)


def _change(kind: str) -> Cell:
    """Before and after, in percent. For several runs, the mean, with the worst and the best."""

    def cell(runs: Sequence[Report]) -> str:
        after = [100 * getattr(r.accuracy, kind) for r in runs]
        spread = f" ({min(after):.2f} to {max(after):.2f})" if len(runs) > 1 else ""
        before = 100 * getattr(runs[0].start, f"accuracy_{kind}")
        return f"{before:.2f} → {fmean(after):.2f}{spread}"

    return cell


@dataclass(frozen=True)
class Column:
    """`cell` shows the runs of one scheme and ratio, one for each seed."""

    title: str
    cell: Cell
    optional: bool = False  # left out where all its cells are empty
    left: bool = False


COLUMNS = (
    Column("scheme", lambda runs: runs[0].scheme, left=True),
    Column("asked", lambda runs: f"{runs[0].ratio:g}"),
    Column("seeds", lambda runs: ", ".join(f"{r.seed}" for r in runs)),
    Column("matrix compression", _of("matrix_compression", ".2f")),
    Column("parameters pruned", _share("parameters_pruned"), optional=True),
    Column("FLOPs pruned", _share("flops_pruned"), optional=True),
    Column("bits a weight", _of("bits_per_weight", ".2f")),
    Column("with XOR", _of("xor_bits_per_weight", ".2f"), optional=True),
    Column("occupancy", _share("occupancy")),
    Column("saliency kept", _share("saliency_kept")),
    Column("accuracy, float", _change("float")),
    Column("accuracy, int8", _change("int8")),
    Column("cycles", _of("cycles", ",.0f")),
    Column("speed-up", _of("speedup", ".2f")),
    Column("energy, µJ", _of("energy_nj", ".3g", unit=1000)),
    Column("energy gain", _of("energy_gain", ".2f")),
)


def run_rows(reports: Sequence[Report]) -> tuple[list[Column], list[list[str]]]:
    """Columns, and a row for each of `by_point`."""
    found = by_point(reports)
    columns = [c for c in COLUMNS if not c.optional or any(c.cell(runs) != DASH for runs in found)]
    return columns, [[c.cell(runs) for c in columns] for runs in found]


def int8_apart(reports: Sequence[Report]) -> float:
    """How far int8 and float are apart at most in a row of `run_rows`: a fraction of the images."""
    return max(
        abs(fmean(r.accuracy.int8 for r in runs) - fmean(r.accuracy.float for r in runs))
        for runs in by_point(reports)
    )


def reference(reports: Sequence[Report]) -> float:
    """The int8 accuracy that compression is measured against: that of the start, or that of `DENSE` after
    training if it is higher. Reports of one network.
    """
    dense = [r.accuracy.int8 for r in reports if r.scheme == DENSE]
    return max(reports[0].start.accuracy_int8, fmean(dense) if dense else 0.0)


def held_rows(reports: Sequence[Report]) -> list[list[str]]:
    """For each scheme, the compression that it reaches at the `reference` accuracy less each of `DROPS`.

    Reports of one network.
    """
    start = reference(reports)
    return [
        [scheme, *(_read(held(points(runs), start - drop)) for drop in DROPS)]
        for scheme, runs in by_scheme(reports).items()
        if scheme != DENSE
    ]


def tier_rows(reports: Sequence[Report]) -> list[list[str]]:
    """The schemes of each of `TIERS` over `BASELINE` at each of `DROPS`, beside the paper's figures: tier,
    measure, scheme, three ratios, paper. Reports of one network.

    Compression counts bits of weights. Throughput is that of arrays of the same area. After the first tier
    follow the compression of `BOUND` and a dense array without selects. No rows without the baseline, or
    without any of the schemes.
    """
    start = reference(reports)
    schemes = by_scheme(reports)
    if BASELINE not in schemes or not any(name in schemes for tier in TIERS for name in tier.schemes):
        return []
    base = points(schemes[BASELINE], "weight_bits_compression")
    slot = _slot(schemes[BASELINE])

    def row(scheme: str, field: str) -> list[str]:
        curve = points(schemes[scheme], "weight_bits_compression")
        more = pes_at_equal_area(_slot(schemes[scheme]), slot) if field == "speedup" else 1.0
        return [_read(_times(_compare(curve, base, start - drop, field), more)) for drop in DROPS]

    rows = []
    for tier in TIERS:
        for (what, field), paper in zip(MEASURES, tier.paper, strict=True):
            for scheme in tier.schemes:
                if scheme in schemes:
                    rows.append([tier.name, what, scheme, *row(scheme, field), paper])
        if tier is TIERS[0]:
            what, field = MEASURES[0]
            if BOUND in schemes:
                rows.append([tier.name, what, BOUND, *row(BOUND, field), DASH])
            rows += _dense_rows(base, start, pes_at_equal_area((8, 1), slot))
    return rows


def _dense_rows(base: Sequence[CurvePoint], start: float, more: float | None) -> list[list[str]]:
    """A dense array of PEs without a select over the baseline: `more` of them have the area of one of its."""
    found = []
    for (what, field), times in zip(MEASURES[:2], (1.0, more), strict=True):
        at = [held(base, start - drop) for drop in DROPS]
        read = [where if field == "compression" else read_at(base, where, field) for where in at]
        ratios = [_read(_times(ratio(Reading(1.0), one), times)) for one in read]
        found.append([DASH, what, f"{DENSE}, G = 1", *ratios, DASH])
    return found


def _slot(runs: Sequence[Report]) -> tuple[int, int]:
    """The bits and the group of a scheme's slots."""
    return runs[0].weight_bits, runs[0].group


def _times(reading: Reading | None, factor: float | None) -> Reading | None:
    return None if reading is None or factor is None else Reading(reading.value * factor, reading.mark)


def subword_rows(reports: Sequence[Report]) -> list[list[str]]:
    """What `SUBWORD` and `WHOLE` reach at each of `DROPS`, counted in bits of weights, and the ratio; then
    the cycles and the stored bits there.

    No rows if one of them is missing.
    """
    start = reference(reports)
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
        for name, curve, where in (
            (SUBWORD, digits, [a for a, _ in read]),
            (WHOLE, whole, [b for _, b in read]),
        ):
            found = [read_at(curve, at, field) for at in where]
            rows.append(
                [f"{title}, {name}", *(DASH if f is None else format(f.value, form) for f in found), ""]
            )
    return rows


def sparsity_rows(reports: Sequence[Report]) -> list[list[str]]:
    """The share of weights that each of `BLOCKS`, and the bound for comparison, leave out at each of `DROPS`.

    No rows without both.
    """
    start = reference(reports)
    schemes = by_scheme(reports)
    blocks = [name for name in BLOCKS if name in schemes]
    if not blocks or BOUND not in schemes:
        return []
    rows = []
    for name in (*blocks, BOUND):
        curve = points(schemes[name])
        densities = [read_at(curve, held(curve, start - drop), "density") for drop in DROPS]
        rows.append([name, *(DASH if d is None else f"{d.mark}{_percent(1 - d.value)}" for d in densities)])
    return rows


def density_rows(reports: Sequence[Report]) -> list[list[str]]:
    """For each ratio of `BLOCKS`: density, share of the dense cycles, the same share for the lanes alone
    (`bound_cycles`: lanes x pixels / T), and the cycles over these. The last is 1 if cycles are proportional
    to what is left of each layer.
    """
    schemes = by_scheme(reports)
    rows = []
    for runs in by_point([r for name in BLOCKS for r in schemes.get(name, [])]):
        cycles, dense, bound, density = (
            fmean(getattr(r, field) for r in runs)
            for field in ("cycles", "dense_cycles", "bound_cycles", "density")
        )
        if bound:
            rows.append(
                [
                    runs[0].scheme,
                    f"{runs[0].ratio:g}",
                    _percent(density),
                    _percent(cycles / dense),
                    _percent(bound / dense),
                    f"{cycles / bound:.2f}",
                ]
            )
    return rows


def _compare(
    ours: Sequence[CurvePoint], base: Sequence[CurvePoint], accuracy: float, field: str
) -> Reading | None:
    a, b = held(ours, accuracy), held(base, accuracy)
    if field != "compression":
        a, b = read_at(ours, a, field), read_at(base, b, field)
    return ratio(a, b)


def _read(reading: Reading | None) -> str:
    return DASH if reading is None else str(reading)


def training_lines(reports: Sequence[Report]) -> list[str]:
    """How the runs of a table were trained: a line for each budget, with the runs that had it and the seconds
    that they took.
    """
    budgets: dict[str, list[Report]] = {}
    for r in reports:
        budgets.setdefault(r.budget.text(), []).append(r)
    lines = []
    for text, runs in budgets.items():
        seconds = sorted({round(r.budget.seconds) for r in runs})
        took = " to ".join(str(s) for s in (seconds[0], *seconds[1:][-1:])) + (
            " s each" if len(runs) > 1 else " s"
        )
        which = (
            "all runs"
            if len(budgets) == 1
            else ", ".join(dict.fromkeys(f"{r.scheme} {r.ratio:g}" for r in runs))
        )
        lines.append(f"{which}: {text}; {took}")
    return lines


def console_table(reports: Path | Sequence[Report]) -> Table:
    """All reports in one table; a path is read by `read_reports`."""
    found = read_reports(reports) if isinstance(reports, Path) else list(reports)
    columns, rows = run_rows(found)
    table = Table(box=box.SIMPLE_HEAD)
    for title in ("network", "config"):
        table.add_column(title)
    for c in columns:
        table.add_column(c.title, justify="left" if c.left else "right")
    for runs, row in zip(by_point(found), rows, strict=True):
        table.add_row(runs[0].network, runs[0].config, *row)
    return table
