"""`make bench BENCH=joint`: the saliency that joint pruning and packing keeps, compared with unstructured
pruning and lossless packing at the same size.
"""

from __future__ import annotations

import itertools
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
from pymodel.machine.config import CONFIGS, ArrayConfig
from pymodel.packing.pack import DIGIT_BITS
from pymodel.packing.plan import slot_budget
from pymodel.schemes import (
    LayerPlan,
    LayerWeights,
    array_for,
    compression,
    get_scheme,
    occupancy,
    saliency_kept,
)
from pymodel.schemes.search import hand_out_lanes
from pymodel.schemes.tight_joint import TightJoint, best_of_filters, lane_limit, sort_into_tiles
from pymodel.schemes.tight_subword import digit_saliency_kept
from pymodel.schemes.unstructured import most_salient

PAIRS = {"tight_joint": "tight_tile", "joint_subword": "tight_subword"}  # joint and lossless, of one kind
RATIOS = (4.0, 10.0, 14.13, 20.0)
GROUPS = (8, 16)
SALIENCY, OCCUPANCY = 0.95, 0.98  # targets, at G = 16 from 10x on


def run(console: Console, weights: Path | None = None) -> dict[str, Any]:
    """The rows of `measure`. `passed` if the joint schemes reach their targets."""
    what, rows = measure(weights)
    for scheme, lossless in PAIRS.items():
        console.print(_table(scheme, lossless, what, [row for row in rows if row["scheme"] == scheme]))
    aimed_at = [row for row in rows if row["group"] == 16 and row["ratio"] >= 10]
    passed = all(row["saliency_fraction"] >= SALIENCY and row["occupancy"] >= OCCUPANCY for row in aimed_at)
    return {"weights": what, "rows": rows, "passed": passed}


def measure(weights: Path | None = None) -> tuple[str, list[dict[str, Any]]]:
    """Which weights they are, and rows of scheme, ratio, group, saliency_fraction and occupancy, for
    magnitude saliency: of weights `tight_joint`, of 4-bit digits `joint_subword`.

    `saliency_fraction`: what the scheme keeps, over what unstructured pruning keeps if each layer has as many
    weights (digits) as the scheme has slots in it. `bound`: the same for its number of lanes with any groups.
    `tight_fraction`: the same for `tight_tile` (`tight_subword`), packed without loss to the same ratio.
    """
    measured = {group: bench_layers(weights, group) for group in GROUPS}
    cases = list(itertools.product(PAIRS.items(), GROUPS, RATIOS))
    rows: list[dict[str, Any]] = []
    with Progress(console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("joint", total=len(cases))
        for (scheme, lossless), group, ratio in cases:
            config = array_for(get_scheme(scheme), replace(CONFIGS["16x16"], group=group))
            rows.append({"scheme": scheme, **_measure(scheme, lossless, measured[group][1], ratio, config)})
            progress.advance(bar)
    return measured[GROUPS[0]][0], rows


def _measure(
    scheme: str, lossless: str, layers: Sequence[LayerWeights], ratio: float, config: ArrayConfig
) -> dict[str, Any]:
    joint = get_scheme(scheme)
    assert isinstance(joint, TightJoint)
    begin = time.perf_counter()
    plans = joint.plan(layers, ratio, config, np.random.default_rng(1))
    seconds = time.perf_counter() - begin
    others = get_scheme(lossless).plan(layers, ratio, config, np.random.default_rng(1))
    lanes = slot_budget(layers, ratio, config)
    offers = [joint.offers(layer) for layer in layers]
    wanted = most_salient(offers, lanes * config.size)
    tiles = {layer.name: sort_into_tiles(wanted[layer.name].sum(axis=1), config.size) for layer in layers}
    best = best_of_filters(offers, tiles)
    limit = lane_limit(best, hand_out_lanes(best, lanes)) / sum(layer.saliency.sum() for layer in layers)
    kept = digit_saliency_kept if joint.slot_bits == DIGIT_BITS else saliency_kept
    free = _unstructured(offers, plans)
    return {
        "ratio": ratio,
        "group": config.group,
        "compression": round(compression(plans), 3),
        "saliency_fraction": round(kept(layers, plans) / free, 4),
        "bound": round(float(limit) / free, 4),
        "tight_fraction": round(kept(layers, others) / _unstructured(offers, others), 4),
        "saliency_kept": round(kept(layers, plans), 4),
        "occupancy": round(occupancy(plans), 4),
        "tight_occupancy": round(occupancy(others), 4),
        "seconds": round(seconds, 1),
    }


def _table(scheme: str, lossless: str, what: str, rows: Sequence[dict[str, Any]]) -> Table:
    shown = Table(
        title=f"Saliency kept, as a share of unstructured pruning's with the same slots in each layer: {what}"
    )
    headings = (
        "ratio",
        "G",
        "compression",
        scheme,
        "its bound",
        lossless,
        "slots in use",
        f"{lossless}'s",
        "s",
    )
    for heading in headings:
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
    return shown


def _unstructured(layers: Sequence[LayerWeights], plans: dict[str, LayerPlan]) -> float:
    """Saliency that is kept if each layer keeps as many weights, or digits, as its plan has slots, wherever
    they are.
    """
    kept = sum(
        -float(np.sort(-layer.saliency, axis=None)[: plans[layer.name].slots].sum()) for layer in layers
    )
    return kept / sum(float(layer.saliency.sum()) for layer in layers)
