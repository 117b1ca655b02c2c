"""The architectures of the ONNX model zoo that the package `onnx` ships, whole on the RTL: `make bench
BENCH=onnx_zoo`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from pymodel.machine.config import get_config
from pymodel.machine.errors import TatamiError
from pymodel.network.model_file import SKIPPABLE
from tb.flow import simulators
from tb.flow.prepare import ZOO_SCHEME, Source
from tb.flow.simulate import ZOO_COLUMNS, simulate
from tb.flow.testlist import get_test

CONFIG, SEED, IMAGES = "16x16", 1, 1
RATIO = 14.0
# In groups of few channels, filters have too few weights to leave one in fourteen.
RATIOS = {"light_shufflenet": 6.0}


def files() -> list[Path]:
    """The models, smallest file first. Raises `TatamiError` without the package."""
    try:
        import onnx.backend.test
    except ModuleNotFoundError as error:
        raise TatamiError(f"needs the package '{error.name}'; `make .venv/.onnx` installs it") from None
    folder = Path(onnx.backend.test.__file__).parent / "data" / "light"
    return sorted(folder.glob("*.onnx"), key=lambda path: path.stat().st_size)


def run(console: Console) -> dict[str, Any]:
    """Prunes each network by magnitude and runs it on one random image of 224 x 224 pixels; every plane is
    compared. LRN is skipped.
    """
    rows = []
    for path in files():
        source = Source(
            weights=path, scheme=ZOO_SCHEME, ratio=RATIOS.get(path.stem, RATIO), skip=SKIPPABLE[0]
        )
        done = simulate(
            get_test("network"),
            get_config(CONFIG),
            simulators.SIMULATORS[0],
            SEED,
            IMAGES,
            False,
            source,
            console.print,
        )
        row = {title: done.summary.get(key) for title, key in ZOO_COLUMNS.items()}
        rows.append({"network": path.stem, "passed": done.outcome.passed, "ratio": source.ratio, **row})
        for line in done.failure_lines():
            console.print(line, markup=False)
        console.print(_table(rows))
    return {"passed": all(row["passed"] for row in rows), "networks": rows}


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table(title="networks so far", title_justify="left", box=box.SIMPLE_HEAD)
    for key in rows[0]:
        table.add_column(key, justify="left" if key == "network" else "right")
    for row in rows:
        table.add_row(*(f"{one:,}" if isinstance(one, int | float) else str(one) for one in row.values()))
    return table
