"""How long pages take, and how large they are, over a million made-up records: `make bench BENCH=pages`."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from tb.flow import runner
from tb.flow.history import bench as history
from tb.flow.history.database import Database
from tb.flow.pages import build

REGRESSIONS = 50
TARGET_S, TARGET_MB = 20.0, 2.0
SHOWN = 10


def run(console: Console) -> dict[str, Any]:
    """The slowest and the largest pages."""
    runner.BUILD.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="pages-", dir=runner.BUILD) as place:
        database = Database(f"sqlite:///{place}/history.db")
        console.print(f"[dim]makes up {history.RUNS:,} records, a minute")
        history.make_up(database, history.RUNS, np.random.default_rng(1))
        made = build.make(database, REGRESSIONS, Path(place) / "pages")
        summary = made.summary.stat().st_size
    rows = Table(title=f"the slowest of {made.pages} pages", title_justify="left", box=box.SIMPLE_HEAD)
    rows.add_column("page")
    rows.add_column("seconds", justify="right")
    rows.add_column("kB", justify="right")
    for name in sorted(made.seconds, key=lambda name: -made.seconds[name])[:SHOWN]:
        rows.add_row(name, f"{made.seconds[name]:.2f}", f"{made.bytes[name] / 1e3:,.0f}")
    console.print(rows)
    slowest, largest = max(made.seconds.values()), max(made.bytes.values()) / 1e6
    return {
        "bench": "pages",
        "passed": slowest <= TARGET_S and largest <= TARGET_MB,
        "records": history.RUNS,
        "pages": made.pages,
        "seconds": round(sum(made.seconds.values()), 1),
        "slowest_page_s": round(slowest, 2),
        "largest_page": max(made.bytes, key=lambda name: made.bytes[name]),
        "largest_page_mb": round(largest, 2),
        "summary_bytes": summary,
    }
