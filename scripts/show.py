"""The output of commands: tables of results, progress while a network trains, and its result."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich import box
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from pymodel.machine.progress import shown_by
from pymodel.report.record import Report
from pymodel.schemes.penni import BASIS
from scripts.command import console

if TYPE_CHECKING:  # it needs torch
    from pymodel.training.loop import StepDone

SAID_EVERY = 60.0  # seconds


def text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def rows_table(title: str, rows: list[dict[str, Any]]) -> Table:
    """Any list of flat dicts: a column for each key, numbers to the right."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for key in dict.fromkeys(key for row in rows for key in row):
        table.add_column(
            key,
            justify="right" if all(isinstance(row.get(key), int | float | None) for row in rows) else "left",
        )
    for row in rows:
        table.add_row(*[text(row.get(str(column.header))) for column in table.columns])
    return table


def summary_table(summary: dict[str, Any]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for key, value in summary.items():
        if value is not None:
            table.add_row(key, str(value) if key == "seed" else text(value))
    return table


@contextmanager
def training_progress(what: str) -> Iterator[Callable[[StepDone], None]]:
    """A progress bar; in a file, a line every minute."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.3f}  ratio {task.fields[ratio]:.2f}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console(stderr=True)) as progress:
        bar = progress.add_task(what, total=None, loss=math.nan, ratio=1.0)

        def count(doing: str, done: int, whole: int) -> None:
            part = f", {doing} {done / whole:.0%}" if done < whole else ""
            progress.update(bar, description=what + part)

        with shown_by(count):
            said = -math.inf

            def done(now: StepDone) -> None:
                nonlocal said
                progress.update(bar, completed=now.step, total=now.steps, loss=now.loss, ratio=now.ratio)
                if not progress.console.is_terminal and time.monotonic() - said > SAID_EVERY:
                    said = time.monotonic()
                    print(
                        f"step {now.step} of {now.steps}, loss {now.loss:.3f}, ratio {now.ratio:.2f}",
                        flush=True,
                    )

            yield done


def show_report(found: Report) -> None:
    """Prints the report of a compression, layer by layer and in total."""
    console().print(layers_table(found))
    before, spent = found.start, found.budget
    table = Table(show_header=False)
    rows = {
        "matrix compression": f"{found.matrix_compression:.3f}",
        "weights that stay": f"{found.density:.2%}",
        "slots in use": f"{found.occupancy:.1%}",
        "saliency kept": f"{found.saliency_kept:.1%}",
        "bits per weight, everything counted": f"{found.bits_per_weight:.3f}",
        "accuracy, float": f"{before.accuracy_float:.2%} -> {found.accuracy.float:.2%}",
        "accuracy, int8": f"{before.accuracy_int8:.2%} -> {found.accuracy.int8:.2%}",
        "cycles an image": f"{found.cycles:,} (dense {found.dense_cycles:,}: {found.speedup:.2f}x)",
        "energy an image": (f"{found.energy_nj / 1e3:,.1f} uJ (dense {found.dense_energy_nj / 1e3:,.1f} uJ)"),
        "trained": f"{spent.epochs:g} epochs, {spent.seconds:,} s, {spent.precision}, {spent.device}",
    }
    if found.scales_kept is not None:
        rows["tensors that keep the scale of the file"] = str(found.scales_kept)
    for name, value in rows.items():
        table.add_row(name, value)
    console().print(table)


def layers_table(found: Report) -> Table:
    """A row for each layer of the image."""
    table = Table(title=f"{found.network}, {found.scheme} at {found.ratio:g}x: weights by layer")
    for heading in ("layer", "weights", "kept", "slots", "compression", "lanes", "passes", "cycles"):
        table.add_column(heading, justify="left" if heading == "layer" else "right")
    for row in found.layers or ():
        compression = None
        # most of a basis layer's matrix is zero by construction, so its size says nothing
        if row.slots and not row.name.endswith(BASIS):
            compression = f"{row.weights / row.slots:.2f}"
        cells = (row.weights, row.kept, row.slots, compression, row.lanes, row.passes, row.cycles)
        table.add_row(row.name, *(text(cell) for cell in cells))
    return table
