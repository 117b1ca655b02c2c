"""One layer's matrix before and after permutation and packing, as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from pymodel.machine.errors import TatamiError
from pymodel.packing.pack import PackedMatrix

STYLE: dict[Any, Any] = {
    "svg.hashsalt": "tatami",
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.grid": True,
    "grid.alpha": 0.3,
}

# Of a matrix picture: pixels
WIDTH, HEIGHT = 1152, 256  # that the cells of one panel may take
LEAST_WIDTH, MARGIN, TITLE = 640, 12, 26
MOST_FILTERS = 64
DPI = 100
# outside the matrix; a zero or an empty slot; a weight
CELLS = ListedColormap(["#ffffff", "#dfe6ee", "#1f3a5f"])
EMPTY_SLOT = ListedColormap(["#ffffff", "#f2b880", "#1f3a5f"])


def matrix_picture(weight: npt.NDArray[Any], packed: PackedMatrix, path: Path, *, title: str = "") -> None:
    """Writes a picture of a layer's matrix before and after packing, as PNG or SVG by the suffix of `path`.

    There are three panels at one scale. The first is the mask of `weight` [F, K] after pruning, in its own
    order. The second is the same mask, with the filters in the order of the tiles and, for each tile, the
    inputs in the order of its groups. The third is the slots of `packed`, with columns downwards and lanes to
    the right, tile below tile. If there are more than 64 filters, the first tiles are shown. A matrix that is
    wider than the picture loses columns to fit. Raises `TatamiError` if `weight` and `packed` do not belong
    together, or for another suffix.
    """
    suffix = path.suffix.removeprefix(".")
    if suffix not in ("png", "svg"):
        raise TatamiError(f"picture '{path}': suffix must be .png or .svg")
    if weight.shape != (packed.filters, packed.inputs):
        raise TatamiError(
            f"picture '{path}': weight has shape {weight.shape}, the packed matrix ({packed.filters},"
            f" {packed.inputs})"
        )
    original, permuted, slots = (np.array(panel) for panel in panels(weight, packed))
    shown = len(permuted)
    some = "" if shown == packed.filters else f" (the first {shown} of {packed.filters} filters)"
    density = np.count_nonzero(weight) / weight.size
    heads = [
        f"pruned: {packed.filters} filters x {packed.inputs} inputs, {density:.1%} of the weights",
        f"permuted: filters by tile, inputs by group{some}",
        (
            f"packed: {packed.size} columns x {packed.lanes} lanes in {len(packed.tiles)} tiles,"
            f" {packed.occupancy:.1%} occupied, {packed.compression:.2f}x smaller{some}"
        ),
    ]
    _draw(
        [(original[:MOST_FILTERS], CELLS), (permuted, CELLS), (slots, EMPTY_SLOT)], heads, path, suffix, title
    )


Cells = npt.NDArray[np.uint8]


def panels(weight: npt.NDArray[Any], packed: PackedMatrix) -> tuple[Cells, Cells, Cells]:
    """Cells of the three panels: 0 outside the matrix, 1 for a zero or an empty slot, 2 for a weight.

    The first panel has all F filters. The others have those of the first whole tiles, at most 64 filters but
    at least one tile.
    """
    original = np.where(weight != 0, 2, 1).astype(np.uint8)
    permuted, slots = [], []
    filters = 0
    for tile in packed.tiles:
        if filters and filters + len(tile.filters) > MOST_FILTERS:
            break
        filters += len(tile.filters)
        inputs = packed.groups[np.unique(tile.lanes)].reshape(-1)
        permuted.append(original[tile.filters][:, inputs[inputs >= 0]])
        slots.append(np.where(tile.weight.T != 0, 2, 1).astype(np.uint8))
    return original, _stack(permuted), _stack(slots)


def _stack(parts: Sequence[Cells]) -> Cells:
    """Parts of different widths below each other, padded with 0."""
    width = max(1, *(part.shape[1] for part in parts)) if len(parts) > 1 else max(1, parts[0].shape[1])
    return np.concatenate([np.pad(part, ((0, 0), (0, width - part.shape[1]))) for part in parts])


def _draw(
    parts: Sequence[tuple[Cells, ListedColormap]], heads: Sequence[str], path: Path, suffix: str, title: str
) -> None:
    rows, columns = (max(cells.shape[i] for cells, _ in parts) for i in (0, 1))
    skip = -(-columns // WIDTH)
    parts = [(cells[:, ::skip], colours) for cells, colours in parts]
    scale = max(1, min(WIDTH // -(-columns // skip), HEIGHT // rows))
    heads = [head + (f", 1 column in {skip} drawn" if skip > 1 else "") for head in heads]
    heads[0] = f"{title}: {heads[0]}" if title else heads[0]
    width = max(LEAST_WIDTH, *(cells.shape[1] * scale for cells, _ in parts)) + 2 * MARGIN
    height = sum(cells.shape[0] * scale + TITLE for cells, _ in parts) + MARGIN
    with style.context(["default", STYLE | {"axes.grid": False}]):
        figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI)
        FigureCanvasAgg(figure)
        top = 0
        for (cells, colours), head in zip(parts, heads, strict=True):
            h, w = (n * scale for n in cells.shape)
            top += TITLE
            axes: Axes = figure.add_axes((MARGIN / width, 1 - (top + h) / height, w / width, h / height))
            axes.imshow(cells, cmap=colours, vmin=0, vmax=2, interpolation="nearest", aspect="auto")
            axes.set_axis_off()
            figure.text(MARGIN / width, 1 - (top - 6) / height, head, fontsize=8)
            top += h
        if suffix == "png":
            figure.savefig(path, format="png", metadata={"Software": None}, pil_kwargs={"optimize": True})
        else:
            figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})
