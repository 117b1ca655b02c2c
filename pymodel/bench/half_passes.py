"""`make bench BENCH=half_passes`: the cycles that passes of half the rows would save on a ResNet-20.

A tile takes a whole pass of all pixels of its layer, whatever it holds. If the sum of a column could be
tapped at row T/2, and zero went in there, two tiles of at most T/2 lanes could share a pass. A layer of one
tile has no other tile to share with. The bound of `tight_joint` says how much saliency is kept in how many
cycles either way, of weights and of digits; residuals are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from pymodel.bench.weights import bench_layers
from pymodel.machine.config import CONFIGS, ArrayConfig
from pymodel.machine.errors import TatamiError
from pymodel.machine.planes import ceil_div
from pymodel.packing.permute import Array
from pymodel.schemes import LayerWeights
from pymodel.schemes.tight_joint import best_of_filters, sort_into_tiles
from pymodel.schemes.tight_subword import by_digit
from pymodel.schemes.unstructured import most_salient

PIXELS = {16: 32 * 32, 32: 16 * 16, 64: 8 * 8}  # of a layer of a ResNet-20 on 32 x 32 images, by its filters
KEPT = (0.8, 0.7, 0.6, 0.5, 0.4, 0.35)  # shares of the saliency
WORTH = 1.1  # times the throughput, less what the area costs: from here on it would be built
WANTED = 0.1  # of the weights, by which filters are sorted into tiles


def run(console: Console, weights: Path | None = None) -> dict[str, Any]:
    """Rows of what is pruned, the share of the saliency that is kept, the cycles with whole and with half
    passes, and their ratio. `passed` if the answer of docs/compression.md holds: nowhere worth it.

    Raises `TatamiError` for layers that a ResNet-20 does not have.
    """
    config = CONFIGS["16x16"]
    what, found = bench_layers(weights, config.group)
    layers = []
    for layer in found:
        if layer.filters not in PIXELS:
            known = ", ".join(map(str, PIXELS))
            raise TatamiError(
                f"{what}: layer '{layer.name}' has {layer.filters} filters, must have one of {known}"
            )
        layers.append(replace(layer, words=ceil_div(PIXELS[layer.filters], config.size)))
    rows: list[dict[str, Any]] = []
    for name, offers in (("weights", layers), ("digits", [by_digit(layer) for layer in layers])):
        whole, half = (_curve(offers, config, halves) for halves in (False, True))
        for kept in KEPT:
            cycles = [round(float(np.interp(kept, share, spent))) for spent, share in (whole, half)]
            rows.append(
                {
                    "what": name,
                    "kept": kept,
                    "cycles": cycles[0],
                    "half_cycles": cycles[1],
                    "gain": round(cycles[0] / cycles[1], 3),
                }
            )
    table = Table(title=f"Cycles of the passes that keep a share of the saliency (bound): {what}")
    for heading in ("pruned", "kept", "whole passes", "half passes", "gain"):
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(
            row["what"],
            f"{row['kept']:.0%}",
            f"{row['cycles']:,}",
            f"{row['half_cycles']:,}",
            f"{row['gain']:.3f}",
        )
    console.print(table)
    return {"weights": what, "rows": rows, "passed": all(row["gain"] < WORTH for row in rows)}


def _curve(layers: Sequence[LayerWeights], config: ArrayConfig, halves: bool) -> tuple[Array, Array]:
    """Cycles, and the share of the saliency that they keep, as passes are handed out, those first that add
    most for a cycle.
    """
    masks = most_salient(layers, round(WANTED * sum(layer.weight.size for layer in layers)))
    tiles = {layer.name: sort_into_tiles(masks[layer.name].sum(axis=1), config.size) for layer in layers}
    first_cycles, first_kept = 0, 0.0
    gains: list[tuple[float, int]] = []
    for layer, best in zip(layers, best_of_filters(layers, tiles).values(), strict=True):
        step = config.size // 2 if halves and len(best) > 1 else config.size
        cycles = step * layer.words
        for tile in best:
            passes = np.pad(tile, (0, -len(tile) % step)).reshape(-1, step).sum(axis=1)
            first_cycles, first_kept = first_cycles + cycles, first_kept + float(passes[0])
            gains += [(float(gain), cycles) for gain in passes[1:] if gain > 0]
    gains.sort(key=lambda one: -one[0] / one[1])
    spent = first_cycles + np.cumsum([0, *(cycles for _, cycles in gains)])
    kept = first_kept + np.cumsum([0.0, *(gain for gain, _ in gains)])
    return spent, kept / sum(float(layer.saliency.sum()) for layer in layers)
