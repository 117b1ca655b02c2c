"""`make bench BENCH=joint`: the saliency that joint pruning and packing keeps, compared with unstructured
pruning and lossless packing at the same size.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from pymodel.bench.weights import bench_layers
from pymodel.machine.config import CONFIGS
from pymodel.packing.plan import slot_budget
from pymodel.schemes import LayerPlan, LayerWeights, compression, get_scheme, occupancy, saliency_kept
from pymodel.schemes.search import hand_out_lanes
from pymodel.schemes.tight_joint import best_of_filters, lane_limit, sort_into_tiles
from pymodel.schemes.unstructured import most_salient

RATIOS = (4.0, 10.0, 14.13, 20.0)
GROUPS = (8, 16)
SALIENCY, OCCUPANCY = 0.95, 0.98  # targets, at G = 16 from 10x on


def run(console: Console, weights: Path | None = None) -> dict[str, Any]:
    """Rows of ratio, group, saliency_fraction and occupancy, for magnitude saliency.

    `saliency_fraction`: what `tight_joint` keeps, over what unstructured pruning keeps if each layer has as
    many weights as `tight_joint` has slots in it. `bound`: the same for its number of lanes with any groups.
    `tight_fraction`: the same for `tight_tile`, packed without loss to the same ratio.
    """
    measured = {group: bench_layers(weights, group) for group in GROUPS}
    rows: list[dict[str, Any]] = []
    with Progress(console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("joint", total=len(RATIOS) * len(GROUPS))
        for group in GROUPS:
            config = replace(CONFIGS["16x16"], group=group)
            what, layers = measured[group]
            for ratio in RATIOS:
                begin = time.perf_counter()
                plans = get_scheme("tight_joint").plan(layers, ratio, config, np.random.default_rng(1))
                seconds = time.perf_counter() - begin
                lossless = get_scheme("tight_tile").plan(layers, ratio, config, np.random.default_rng(1))
                lanes = slot_budget(layers, ratio, config)
                wanted = most_salient(layers, lanes * config.size)
                tiles = {
                    layer.name: sort_into_tiles(wanted[layer.name].sum(axis=1), config.size)
                    for layer in layers
                }
                best = best_of_filters(layers, tiles)
                limit = lane_limit(best, hand_out_lanes(best, lanes)) / sum(
                    layer.saliency.sum() for layer in layers
                )
                free = _unstructured(layers, plans)
                rows.append(
                    {
                        "ratio": ratio,
                        "group": group,
                        "compression": round(compression(plans), 3),
                        "saliency_fraction": round(saliency_kept(layers, plans) / free, 4),
                        "bound": round(float(limit) / free, 4),
                        "tight_fraction": round(
                            saliency_kept(layers, lossless) / _unstructured(layers, lossless), 4
                        ),
                        "saliency_kept": round(saliency_kept(layers, plans), 4),
                        "occupancy": round(occupancy(plans), 4),
                        "tight_occupancy": round(occupancy(lossless), 4),
                        "seconds": round(seconds, 1),
                    }
                )
                progress.advance(bar)
    shown = Table(
        title=f"Saliency kept, as a share of unstructured pruning's with the same slots in each layer: {what}"
    )
    for heading in (
        "ratio",
        "G",
        "compression",
        "tight_joint",
        "its bound",
        "tight_tile",
        "slots in use",
        "tight_tile's",
        "s",
    ):
        shown.add_column(heading, justify="right")
    for row in rows:
        shares = (
            f"{row[name]:.1%}"
            for name in ("saliency_fraction", "bound", "tight_fraction", "occupancy", "tight_occupancy")
        )
        shown.add_row(
            f"{row['ratio']:g}x",
            str(row["group"]),
            f"{row['compression']:.2f}x",
            *shares,
            f"{row['seconds']}",
        )
    console.print(shown)
    aimed_at = [row for row in rows if row["group"] == 16 and row["ratio"] >= 10]
    passed = all(row["saliency_fraction"] >= SALIENCY and row["occupancy"] >= OCCUPANCY for row in aimed_at)
    return {"weights": what, "rows": rows, "passed": passed}


def _unstructured(layers: Sequence[LayerWeights], plans: dict[str, LayerPlan]) -> float:
    """Saliency that is kept if each layer keeps as many weights as its plan has slots, wherever they are."""
    kept = sum(
        -float(np.sort(-layer.saliency, axis=None)[: plans[layer.name].slots].sum()) for layer in layers
    )
    return kept / sum(float(layer.saliency.sum()) for layer in layers)
