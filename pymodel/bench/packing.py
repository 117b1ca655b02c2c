"""`make bench BENCH=packing`: how tight lossless packing is, compared with its bound."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table as Shown

from pymodel.bench.weights import bench_layers
from pymodel.packing.permute import Table, lane_bound, lane_count, natural
from pymodel.packing.prune import global_masks
from pymodel.schemes import LayerWeights
from pymodel.schemes.search import permute_all

SIZE = 16
SPARSITIES = (0.9, 0.95)
GROUPS = (8, 16)
TABLES: tuple[Table, ...] = ("layer", "tile")
TARGETS = {"layer": 0.9, "tile": 0.96}  # of the bound, at G = 16
MOVES = 50_000  # per input: a minute or two, for the last percent; compressing a network uses fewer


def run(console: Console, weights: Path | None = None) -> dict[str, Any]:
    """The rows of `measure`. `passed` if they are as near to their bounds as the targets."""
    what, rows = measure(weights)
    shown = Shown(title=f"Lossless packing, T = {SIZE}: {what}")
    for heading in (
        "sparsity",
        "G",
        "table",
        "1/density",
        "natural order",
        "permuted",
        "bound",
        "of bound",
        "s",
    ):
        shown.add_column(heading, justify="right")
    for row in rows:
        ratios = (
            f"{v:.2f}x" for v in (1 / (1 - row["sparsity"]), row["natural"], row["compression"], row["bound"])
        )
        of_bound = f"{row['compression'] / row['bound']:.1%}"
        shown.add_row(
            f"{row['sparsity']:.0%}", str(row["group"]), row["table"], *ratios, of_bound, f"{row['seconds']}"
        )
    console.print(shown)
    passed = all(
        row["compression"] >= TARGETS[row["table"]] * row["bound"] for row in rows if row["group"] == SIZE
    )
    return {"weights": what, "moves": MOVES, "rows": rows, "passed": passed}


def measure(weights: Path | None = None) -> tuple[str, list[dict[str, Any]]]:
    """Which weights they are, and rows of sparsity, group, table, compression and bound: global magnitude
    pruning, then a long `permute`.

    `bound` is the compression with the lanes that the fullest filter of each tile needs (`lane_bound`).
    `natural` takes inputs and filters in their natural order.
    """
    measured = {group: bench_layers(weights, group) for group in GROUPS}
    rows: list[dict[str, Any]] = []
    with Progress(console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("packing", total=len(SPARSITIES) * len(GROUPS) * len(TABLES))
        for sparsity in SPARSITIES:
            for group in GROUPS:
                what, layers = measured[group]
                masks = global_masks({layer.name: layer.weight for layer in layers}, sparsity)
                plain = {layer.name: natural(masks[layer.name], layer.bank, SIZE, group) for layer in layers}
                for table in TABLES:
                    begin = time.perf_counter()
                    found = permute_all(
                        [(masks[layer.name], layer.bank) for layer in layers],
                        SIZE,
                        group,
                        table,
                        MOVES,
                        seed=1,
                    )
                    seconds = time.perf_counter() - begin
                    lanes = [lane_count(masks[layer.name], p) for layer, p in zip(layers, found, strict=True)]
                    bounds = [
                        lane_bound(masks[layer.name], layer.bank, p.tiles, group).sum()
                        for layer, p in zip(layers, found, strict=True)
                    ]
                    rows.append(
                        {
                            "sparsity": sparsity,
                            "group": group,
                            "table": table,
                            "natural": _compression(
                                layers, [lane_count(masks[name], p) for name, p in plain.items()]
                            ),
                            "compression": _compression(layers, lanes),
                            "bound": _compression(layers, bounds),
                            "seconds": round(seconds, 1),
                        }
                    )
                    progress.advance(bar)
    return what, rows


def _compression(layers: list[LayerWeights], lanes: list[Any]) -> float:
    return round(float(sum(layer.weight.size for layer in layers) / (sum(lanes) * SIZE)), 4)
