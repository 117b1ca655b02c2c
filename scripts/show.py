"""What the compression commands show: progress while a network trains, and a table of what became of it."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from pymodel.schemes.penni import BASIS
from pymodel.training.loop import Progressed


def console() -> Console:
    """Tables keep their width in a pipe."""
    return Console(width=None if sys.stdout.isatty() else 140, highlight=False)


@contextmanager
def training_progress(what: str) -> Iterator[Callable[[Progressed], None]]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.3f}  ratio {task.fields[ratio]:.2f}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bar = progress.add_task(what, total=None, loss=math.nan, ratio=1.0)
        yield lambda now: progress.update(
            bar, completed=now.step, total=now.steps, loss=now.loss, ratio=now.ratio
        )


def compressed_table(found: dict[str, Any]) -> None:
    """A report of `pymodel.training.compress.compress`, layer by layer and in all."""
    layers = Table(title=f"{found['network']}, {found['scheme']} at {found['ratio']:g}x: weights by layer")
    for heading in ("layer", "weights", "kept", "slots", "compression", "lanes", "passes", "cycles"):
        layers.add_column(heading, justify="left" if heading == "layer" else "right")
    for row in found["layers"]:
        kept, slots = ("-" if row[name] is None else f"{row[name]:,}" for name in ("kept", "slots"))
        # most of a basis layer's matrix is zero by its making: its size says nothing
        ratio = (
            f"{row['weights'] / row['slots']:.2f}"
            if row["slots"] and not row["name"].endswith(BASIS)
            else "-"
        )
        layers.add_row(
            row["name"],
            f"{row['weights']:,}",
            kept,
            slots,
            ratio,
            f"{row['lanes']:,}",
            f"{row['passes']:,}",
            f"{row['cycles']:,}",
        )
    console().print(layers)
    start, after, budget = found["start"], found["accuracy"], found["budget"]
    table = Table(show_header=False)
    rows = {
        "matrix compression": f"{found['matrix_compression']:.3f}",
        "weights that stay": f"{found['density']:.2%}",
        "slots in use": f"{found['occupancy']:.1%}",
        "saliency kept": f"{found['saliency_kept']:.1%}",
        "bits per weight, everything counted": f"{found['bits_per_weight']:.3f}",
        "accuracy, float": f"{start['accuracy_float']:.2%} -> {after['float']:.2%}",
        "accuracy, int8": f"{start['accuracy_int8']:.2%} -> {after['int8']:.2%}",
        "cycles an image": (
            f"{found['cycles']:,} (dense {found['dense_cycles']:,}:"
            f" {found['dense_cycles'] / found['cycles']:.2f}x)"
        ),
        "energy an image": (
            f"{found['energy_nj'] / 1e3:,.1f} uJ (dense {found['dense_energy_nj'] / 1e3:,.1f} uJ)"
        ),
        "trained": (
            f"{budget['epochs']:g} epochs, {budget['seconds']:,} s, {budget['precision']}, {budget['device']}"
        ),
    }
    for name, value in rows.items():
        table.add_row(name, value)
    console().print(table)
