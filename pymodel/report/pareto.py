"""Accuracy over compression or speed-up, a curve for each scheme."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from matplotlib import style
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from pymodel.report.curves import DROP_NAMES, DROPS, points
from pymodel.report.picture import STYLE
from pymodel.report.record import Report, by_scheme
from pymodel.report.tables import BOUND, DENSE, reference

# A scheme has the same colour and marker in every plot. Other schemes take the spare ones in order of their
# names.
LOOKS = {
    "unstructured": ("0.45", "o"),
    "column_combining": ("tab:orange", "s"),
    "tight": ("tab:green", "^"),
    "tight_tile": ("tab:olive", "v"),
    "tight_joint": ("tab:blue", "D"),
    "tight_pass": ("tab:cyan", "h"),
    "tight_cycle": ("tab:pink", ">"),
    "tight_subword": ("black", "*"),
    "tetris": ("tab:purple", "P"),
    "tetris_pass": ("tab:red", "<"),
    "penni": ("tab:brown", "X"),
}
SPARE = (("gold", "p"), ("navy", "d"), ("lime", "H"), ("maroon", "."))
OVER = {
    "compression": "matrix compression (dense slots over packed slots)",
    "speedup": "speed-up (cycles of the dense network over cycles)",
}
TICKS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)


def pareto(
    reports: Sequence[Report], path: Path, over: Literal["compression", "speedup"] = "compression"
) -> bool:
    """Writes accuracy (int8) over matrix compression or speed-up as SVG, a line for each scheme. `reports`
    are of one network.

    Over speed-up, the bound is left out, because it cannot run on the array. If there is nothing else to
    draw, nothing is written and the result is False.
    """
    curves = {}
    for scheme, runs in by_scheme(reports).items():
        if over != "speedup" or scheme != BOUND:
            curves[scheme] = [(getattr(p, over), 100 * p.accuracy) for p in points(runs)]
    if not curves:
        return False
    values = [x for curve in curves.values() for x, _ in curve]
    left, right = min(values), max(values)
    start = 100 * reference(reports)
    trained = start > 100 * reports[0].start.accuracy_int8
    spare = iter(SPARE * len(reports))
    with style.context(["default", STYLE]):  # whatever the user's own settings are
        figure = Figure(figsize=(7.2, 4.4), layout="constrained")
        axes = figure.add_subplot()
        for scheme, curve in curves.items():
            colour, marker = LOOKS.get(scheme) or next(spare)
            label = f"{scheme} (bound: no array runs it)" if scheme == BOUND else scheme
            axes.plot(
                [x for x, _ in curve],
                [accuracy for _, accuracy in curve],
                color=colour,
                marker=marker,
                markersize=4.5,
                linestyle="--" if scheme == BOUND else "-",
                label=label,
            )
        names = (f"{DENSE if trained else 'start'}, {start:.2f}%", *DROP_NAMES)
        for drop, name in zip((0.0, *DROPS), names, strict=True):
            level = start - 100 * drop
            axes.axhline(
                level, color="0.2", linewidth=1.0 if drop == 0 else 0.6, linestyle="-" if drop == 0 else ":"
            )
            axes.annotate(
                name,
                (1, level),
                xycoords=("axes fraction", "data"),
                xytext=(3, 0),
                textcoords="offset points",
                va="center",
                fontsize=7,
            )
        axes.set_xscale("log")
        axes.set_xlim(left / 1.1, right * 1.1)
        axes.xaxis.set_major_locator(
            FixedLocator([t for t in TICKS if left / 1.1 <= t <= right * 1.1] or [left])
        )
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}x"))
        axes.xaxis.set_minor_locator(NullLocator())
        # collapsed runs would leave too little space for the others
        floor = min(
            start - 100 * max(DROPS) - 2, max(start - 20, min(100 * r.accuracy.int8 for r in reports) - 1)
        )
        axes.set_ylim(floor, max(start, *(100 * r.accuracy.int8 for r in reports)) + 0.7)
        axes.set_xlabel(OVER[over])
        axes.set_ylabel("test accuracy, int8, %")
        axes.set_title(f"{reports[0].network}, {reports[0].config}: {reports[0].data.name}", fontsize=9)
        axes.legend(loc="lower left", fontsize=8)
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})
    return True
