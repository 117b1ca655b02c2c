"""`make bench BENCH=speed`: the time to permute and pack, from one layer to a network of the size of
VGG-16.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from pymodel.bench.weights import RESNET20, bench_layers, layers_of, made_up
from pymodel.machine.config import CONFIGS
from pymodel.packing.pack import pack
from pymodel.packing.permute import MOVES
from pymodel.packing.prune import global_masks
from pymodel.schemes import LayerWeights, compression, get_scheme
from pymodel.schemes.search import permute_all

SPARSITY = 0.9
JOINT = "ResNet-20"  # where tight_joint is timed too: on VGG-16 it takes minutes
SECONDS = {"ResNet-20": 5.0, "VGG-16's convolutions": 120.0}  # targets, for `tight` on two cores
WIDTHS = (32, 64, 128, 256, 512)  # filters and channels of one 3 x 3 convolution
# Filters and channels of VGG-16's convolutions (Simonyan and Zisserman, arXiv 1409.1556, configuration D):
# 14.7 million weights
VGG16 = (
    (64, 3),
    (64, 64),
    (128, 64),
    (128, 128),
    (256, 128),
    *((256, 256),) * 2,
    (512, 256),
    *((512, 512),) * 5,
)


def run(console: Console, weights: Path | None = None) -> dict[str, Any]:
    """The rows of `measure`. `passed` if `tight` is as fast everywhere as its target."""
    what, rows = measure(weights)
    shown = Table(
        title=(
            f"Permuting and packing; tight: {SPARSITY:.0%} pruned, {MOVES} moves an input; tight_joint: to"
            f" 10x ({what})"
        )
    )
    for heading in ("matrix", "scheme", "weights", "s", "us a weight", "compression"):
        shown.add_column(heading, justify="left" if heading in ("matrix", "scheme") else "right")
    for row in rows:
        each = 1e6 * row["seconds"] / row["weights"]
        shown.add_row(
            row["case"],
            row["scheme"],
            f"{row['weights']:,}",
            f"{row['seconds']:.2f}",
            f"{each:.2f}",
            f"{row['compression']:.2f}x",
        )
    console.print(shown)
    passed = all(
        row["seconds"] <= SECONDS.get(row["case"], math.inf) for row in rows if row["scheme"] == "tight"
    )
    return {"rows": rows, "moves": MOVES, "cores": os.cpu_count(), "passed": passed}


def measure(weights: Path | None = None) -> tuple[str, list[dict[str, Any]]]:
    """Which weights they are, and rows of weights and seconds, for the search of `tight` (one table a layer)
    with its own number of moves, and for `tight_joint` on ResNet-20.
    """
    rng = np.random.default_rng(0)
    config = CONFIGS["16x16"]
    what, layers = bench_layers(weights, config.group)
    cases: list[tuple[str, list[LayerWeights]]] = [
        (f"{n} x {9 * n}", layers_of({"conv": made_up(rng, n, n)}, config.group)) for n in WIDTHS
    ]
    cases.append((JOINT, layers))
    cases.append(
        (
            "VGG-16's convolutions",
            layers_of({f"conv{i}": made_up(rng, *shape) for i, shape in enumerate(VGG16)}, config.group),
        )
    )
    # numba compiles, or reads what it compiled
    _tight(layers_of({"conv": made_up(rng, *RESNET20[0])}, config.group))
    rows: list[dict[str, Any]] = []
    with Progress(console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("speed", total=len(cases) + 1)
        for name, case in cases:
            for scheme in ("tight", "tight_joint") if name == JOINT else ("tight",):
                begin = time.perf_counter()
                if scheme == "tight":
                    ratio = _tight(case)
                else:
                    ratio = compression(get_scheme(scheme).plan(case, 10.0, config, rng))
                seconds = time.perf_counter() - begin
                size = sum(layer.weight.size for layer in case)
                rows.append(
                    {
                        "case": name,
                        "scheme": scheme,
                        "weights": size,
                        "seconds": round(seconds, 2),
                        "compression": round(ratio, 3),
                    }
                )
                progress.advance(bar)
    return what, rows


def _tight(layers: Sequence[LayerWeights]) -> float:
    """Prunes, permutes and packs; returns the matrix compression."""
    config = CONFIGS["16x16"]
    masks = global_masks({layer.name: layer.weight for layer in layers}, SPARSITY)
    found = permute_all(
        [(masks[layer.name], layer.bank) for layer in layers],
        config.size,
        config.group,
        "layer",
        MOVES,
        seed=1,
    )
    packed = [
        pack(masks[layer.name].astype(np.int8), layer.bank, permutation, config.size, config.group)
        for layer, permutation in zip(layers, found, strict=True)
    ]
    return sum(layer.weight.size for layer in layers) / sum(p.slots for p in packed)
