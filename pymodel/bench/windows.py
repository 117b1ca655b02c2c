"""`make bench BENCH=windows`: what windows of single channels cost, which no other array of its kind fills
itself with: depthwise convolutions, maxima and means.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from pymodel.compiler.compile import compile_fitted
from pymodel.cost.counts import LayerCost, image_cost
from pymodel.cost.dense import dense_cost
from pymodel.machine.config import CONFIGS, ArrayConfig
from pymodel.network.integer import INPUT, AveragePool, Computed, Conv, MaxPool, Network, Requant, around

CHANNELS, SIDE = 64, 32


@dataclass(frozen=True)
class Case:
    """A layer, and its targets: the least share of the multipliers that are busy, the most passes of a
    tile.
    """

    name: str
    layer: Computed
    busy: float = 0.0
    passes: float = np.inf


def cases(config: ArrayConfig) -> list[Case]:
    """Of an array of `config`."""
    requant = Requant.none(CHANNELS)

    def depthwise(side: int, stride: int) -> Conv:
        weight = np.ones((CHANNELS, 1, side, side), np.int8)
        return Conv("x", INPUT, weight, requant, (stride, stride), around(side // 2), groups=CHANNELS)

    full = 9 / config.size  # nine lanes, every column of which has its own channel
    return [
        Case("depthwise 3 x 3", depthwise(3, 1), busy=full),
        Case("depthwise 3 x 3, stride 2", depthwise(3, 2), busy=full),
        Case("depthwise 5 x 5", depthwise(5, 1)),
        Case("maximum 2 x 2, stride 2", MaxPool("x", INPUT, (2, 2), (2, 2)), passes=1),
        Case("maximum 3 x 3, stride 2", MaxPool("x", INPUT, (3, 3), (2, 2), around(1)), passes=1),
        Case("mean 2 x 2, stride 2", AveragePool("x", INPUT, requant, (2, 2), (2, 2)), passes=1),
        Case("mean 3 x 3", AveragePool("x", INPUT, requant, (3, 3), (1, 1), around(1)), passes=1),
    ]


def busy(cost: LayerCost) -> float:
    """Share of the multipliers that have a weight while pixels go by."""
    return cost.macs / cost.steps


def run(console: Console) -> dict[str, Any]:
    """A row for each case: lanes and passes of a tile, cycles, and the share of busy multipliers, beside a
    program that skips nothing: a lane for each channel of a tile and place of the window.
    """
    config = CONFIGS["16x16"]
    rows: list[dict[str, Any]] = []
    passed = True
    for case in cases(config):
        network = Network("windows", (CHANNELS, SIDE, SIDE), (case.layer,))
        (cost,) = image_cost(compile_fitted(network, config)).layers
        (dense,) = dense_cost(network, config).cost.layers
        tiles = CHANNELS / config.size
        row: dict[str, Any] = {
            "layer": case.name,
            "lanes": cost.lanes / tiles,
            "passes": cost.passes / cost.chunks / tiles,
            "cycles": cost.cycles,
            "busy": round(busy(cost), 4),
            "dense_cycles": dense.cycles,
            "dense_busy": round(busy(dense), 4),
        }
        reached = bool(busy(cost) >= case.busy and row["passes"] <= case.passes)
        passed &= reached
        rows.append(row | {"reached": reached})
    shown = Table(
        title=f"Windows of single channels on {config.name}: {CHANNELS} channels of {SIDE} x {SIDE} pixels"
    )
    for heading in ("layer", "lanes a tile", "passes a tile", "cycles", "busy", "dense", "dense busy"):
        shown.add_column(heading, justify="left" if heading == "layer" else "right")
    for row in rows:
        shown.add_row(
            row["layer"],
            f"{row['lanes']:g}",
            f"{row['passes']:g}",
            f"{row['cycles']:,}",
            f"{row['busy']:.2%}",
            f"{row['dense_cycles']:,}",
            f"{row['dense_busy']:.2%}",
        )
    console.print(shown)
    return {"bench": "windows", "rows": rows, "passed": passed}
