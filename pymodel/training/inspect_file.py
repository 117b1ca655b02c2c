"""What a file's network is, layer by layer, and what it takes on an array: compiled, but not run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pymodel.compiler.compile import compile_fitted
from pymodel.cost.counts import image_cost
from pymodel.cost.dense import dense_cost
from pymodel.cost.energy import LOADED_FOR, energy, load_energy
from pymodel.machine.config import ArrayConfig
from pymodel.machine.errors import TatamiError
from pymodel.network import network_file
from pymodel.network.integer import Layer, Network, Shape, View, Weighted, macs_of
from pymodel.network.load_model import GROUPS, load_model
from pymodel.network.model_file import FloatFile, RefusedError
from pymodel.network.scale import Scale
from pymodel.packing.plan import LayerPlan
from pymodel.training.from_file import DENSE, pruned_file, quantised

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Inspection:
    """`layers`: a row each. `refused`: a row of node and reason for each part that is not supported; then
    there are no layers. `totals` are of all layers, and `notes` are lines for the user.
    """

    layers: Rows
    refused: Rows
    totals: dict[str, Any]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Found:
    network: Network
    scales: Mapping[str, Scale]
    origin: Mapping[str, str]
    plans: Mapping[str, LayerPlan]
    scheme: str
    notes: tuple[str, ...]


def inspect_file(
    path: Path,
    config: ArrayConfig,
    scheme: str = DENSE,
    ratio: float = 1.0,
    shape: Shape | None = None,
    skip: str | None = None,
) -> Inspection:
    """The network of a .tflite, .onnx or .npz file on the array of `config`, with memories that are deep
    enough. With a scheme, weights of the first two are pruned by magnitude; a .npz file has its own.

    Raises `TatamiError` for a file that cannot be read; what is not supported in one is in the result.
    """
    head = {"file": path.name, "config": config.name}
    try:
        found = _found(path, config, scheme, ratio, shape, skip)
    except RefusedError as error:
        rows = [{"node": node, "reason": reason} for node, reason in error.nodes]
        return Inspection([], rows, {**head, "supported": False, "refused": len(rows)})
    try:
        rows, nanojoules = _costs(found, config)
    except TatamiError as error:  # of the compiler, which names the layer
        reason = " ".join(str(error).split())
        refused = [{"node": found.network.name, "reason": reason}]
        return Inspection([], refused, {**head, "supported": False, "refused": 1}, found.notes)
    costs = {row["name"]: row for row in rows}
    layers = [_row(layer, found, costs.get(layer.name, {})) for layer in found.network.layers]
    sums = {key: sum(row[key] or 0 for row in layers) for key in ("weights", "macs", "lanes", "cycles")}
    totals: dict[str, Any] = {
        **head,
        "supported": True,
        "network": found.network.name,
        "scheme": found.scheme,
        "input": _shown(found.network.input_shape),
        "layers": len(layers),
        **sums,
    }
    each = sums["macs"] / max(1, sums["cycles"])
    totals |= {"macs_a_cycle": round(each, 2), "utilisation": round(each / config.size**2, 4)}
    totals["energy_uj"] = round(nanojoules / 1e3, 2)
    return Inspection(layers, [], totals, found.notes)


def _found(
    path: Path, config: ArrayConfig, scheme: str, ratio: float, shape: Shape | None, skip: str | None
) -> _Found:
    if path.suffix not in GROUPS:
        if scheme != DENSE or shape is not None or skip:
            raise TatamiError(f"{path}: SCHEME, SHAPE and SKIP are only for {' and '.join(GROUPS)} files")
        stored = network_file.load(path)
        scales = {
            name: Scale(step, stored.meta.get("zero_points", {}).get(name, 0))
            for name, step in stored.meta.get("scales", {}).items()
        }
        own = str(stored.meta.get("scheme", "tight"))
        return _Found(stored.network, scales, {}, stored.plans, own, ())
    file = load_model(path, shape, skip)
    rng = np.random.default_rng(1)
    if not isinstance(file, FloatFile):
        model, plans = pruned_file(file, scheme, ratio, config, rng)
        return _Found(model.network, model.scales, model.origin, plans, scheme, model.notes)
    image = rng.normal(0, 1, (1, *file.network.input_shape))
    model, plans = quantised(file, image, scheme, ratio, config, rng)
    notes = (*file.notes, "the file is float: scales come with the images that it is quantised on")
    return _Found(model.network, {}, file.origin, plans, scheme, notes)


def _costs(found: _Found, config: ArrayConfig) -> tuple[Rows, float]:
    """A row of name, nonzero weights, lanes and cycles for each layer that computes; and the nJ of an image,
    with one load of the memories for `LOADED_FOR` images.
    """
    if found.scheme == DENSE and not found.plans:
        dense = dense_cost(found.network, config, LOADED_FOR)
        return dense.layers, energy(dense.cost, load_energy()).total
    image = compile_fitted(found.network, config, plans=found.plans, scheme=found.scheme)
    whole = image_cost(image, LOADED_FOR)
    rows = [
        {**stats, "cycles": cost.cycles}
        for stats, cost in zip(image.stats["layers"], whole.layers, strict=True)
    ]
    return rows, energy(whole, load_energy()).total


def _row(layer: Layer, found: _Found, cost: Mapping[str, Any]) -> dict[str, Any]:
    shape = found.network.shapes[layer.name]
    weighted = isinstance(layer, Weighted)
    scale = found.scales.get(layer.name)
    return {
        "layer": layer.name,
        "operation": _operation(layer),
        "output": _shown(shape),
        "weights": layer.weight.size if isinstance(layer, Weighted) else None,
        "nonzero": cost.get("nonzero") if weighted else None,
        "macs": macs_of(found.network).get(layer.name),
        "scale": None if scale is None else scale.step,
        "zero": None if scale is None else scale.zero,
        "lanes": cost.get("lanes"),
        "cycles": 0 if isinstance(layer, View) else cost.get("cycles"),
        "in_file": found.origin.get(layer.name),
    }


def _operation(layer: Layer) -> str:
    """The type of a layer with its window and groups."""
    said = type(layer).__name__
    window = getattr(layer, "window", None)
    if window is not None:
        said += f" {window.size[0]}x{window.size[1]}"
        if window.stride != (1, 1):
            said += f" /{window.stride[0]}" + (f"x{window.stride[1]}" if len(set(window.stride)) > 1 else "")
        if window.dilation != (1, 1):
            said += f" dilation {window.dilation[0]}x{window.dilation[1]}"
    groups = getattr(layer, "groups", 1)
    return said + (f", {groups} groups" if groups > 1 else "")


def _shown(shape: Shape) -> str:
    return " x ".join(map(str, shape))
