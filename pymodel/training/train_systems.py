"""Trains the digits network under every scheme that `make sim TEST=systems` runs on the RTL:
`make train NET=systems`.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from pymodel.machine.config import CONFIGS
from pymodel.machine.errors import TatamiError
from pymodel.schemes import get_scheme
from pymodel.training.compress import Recipe, compress
from pymodel.training.schedule import Budget
from pymodel.training.start import measure_start
from pymodel.training.tasks import get_task
from pymodel.zoo.systems import CONFIG, FOLDER, SYSTEMS

BUDGET = Budget(epochs=60, batch=32, learning_rate=0.05)


def run(
    seed: int, path: Path | None = None, budget: Budget = BUDGET, console: Console | None = None
) -> dict[str, Any]:
    """Trains all from the same dense start with the same budget on one thread. Writes NAME.npz into the
    folder `path` (default: the kept data).

    Returns the measurements of each system's network. Raises `TatamiError` for a folder that does not exist.
    """
    folder = path or FOLDER
    if not folder.is_dir():
        raise TatamiError(f"{folder}: no such directory")
    begin = time.perf_counter()
    torch.set_num_threads(1)
    task, config = get_task("digits", None, None), CONFIGS[CONFIG]
    start = measure_start(task, config)
    figures: dict[str, Any] = {"net": "systems", "seed": seed}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("systems", total=len(SYSTEMS))
        for name, system in SYSTEMS.items():
            progress.update(bar, description=name)
            recipe = Recipe(get_scheme(system.scheme), system.ratio, config, budget, seed)
            with tempfile.TemporaryDirectory() as scratch:
                found = compress(task, recipe, Path(scratch), start)
                shutil.copyfile(Path(scratch) / "network.npz", folder / f"{name}.npz")
            figures[name] = {
                "accuracy_int8": found.accuracy.int8,
                "matrix_compression": round(found.matrix_compression, 3),
            }
            progress.advance(bar)
    return figures | {"seconds": round(time.perf_counter() - begin, 1)}
