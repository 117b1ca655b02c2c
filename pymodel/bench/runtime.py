"""`make bench BENCH=runtime WEIGHTS=model.tflite`: a file's network held against the file's own runtime.

Layer by layer, each given the runtime's own inputs: how many values differ by how many steps. And whole: for
how many images the class is the same, and the accuracy of both, if DATA has labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich import box
from rich.console import Console
from rich.table import Table

from pymodel.machine.errors import TatamiError
from pymodel.network import runtime
from pymodel.network.float import evaluate_float
from pymodel.network.integer import INPUT
from pymodel.network.load_model import load_model
from pymodel.network.model_file import FloatFile, ModelFile
from pymodel.network.network_file import accuracy
from pymodel.network.reference import Int8Array, evaluate
from pymodel.zoo.given_images import load_images

LAYERED, BATCH = 20, 50  # images: for the layers, and at a time
MOST_OFF = 0.005  # share of a layer's values that may be off, by one step
MOST_GAP = 1e-4  # of a float tensor, as a part of its largest value

Counts = Mapping[str, Mapping[int, int]]


def run(console: Console, weights: Path, data: Path | None = None, images: int = 200) -> dict[str, Any]:
    """Prints the tables of a .tflite or .onnx file, on `images` images of `data` or drawn ones."""
    if not runtime.installed(weights):
        raise TatamiError(f"{weights}: its runtime is not installed, or there is none for files of this kind")
    file = load_model(weights)
    shape = file.network.input_shape
    given, labels = (None, np.zeros(0, np.uint8)) if data is None else load_images(data, shape)
    if given is not None and images > len(given):
        raise TatamiError(f"IMAGES {images} is outside 1..{len(given)}: {data} has no more")
    head = {"file": weights.name, "images": images, "data": "drawn" if data is None else data.name}
    rng = np.random.default_rng(1)
    if isinstance(file, FloatFile):
        real = rng.normal(0, 1, (images, *shape)) if given is None else given[:images].astype(np.float64)
        return {**head, **_floats(console, file, real)}
    if given is None:
        pixels = rng.integers(-128, 128, (images, *shape)).astype(np.int8)
    elif given.dtype == np.int8:
        pixels = given[:images]
    else:
        pixels = file.scales[INPUT].values(given[:images].astype(np.float64))
    return {**head, **_integers(console, file, pixels, labels[:images])}


def _floats(console: Console, file: FloatFile, images: npt.NDArray[np.float64]) -> dict[str, Any]:
    theirs, _ = runtime.run_float(file.path, file.origin, images)
    ours = evaluate_float(file.network, images)
    table = Table(title="largest gap of each tensor", title_justify="left", box=box.SIMPLE_HEAD)
    for name in ("layer", "largest value", "gap"):
        table.add_column(name, justify="left" if name == "layer" else "right")
    gaps = runtime.float_gaps(ours, theirs)
    for name, gap in gaps.items():
        table.add_row(name, f"{np.abs(theirs[name]).max():.4g}", f"{gap:.2g}")
    console.print(table)
    worst = max(gaps.values())
    return {"gap": worst, "passed": worst <= MOST_GAP}


def _integers(
    console: Console, model: ModelFile, pixels: Int8Array, labels: npt.NDArray[np.integer]
) -> dict[str, Any]:
    kernels = tuple(runtime.KERNELS) if model.path.suffix == ".tflite" else (runtime.DEFAULT,)
    layers: dict[str, Counts] = {}
    outputs = {}
    for name in kernels:
        answer = runtime.run_file(model, pixels[:LAYERED], name)
        layers[name] = runtime.layer_differences(model.network, answer.tensors)
        outputs[name] = runtime.run_file(model, pixels, name, keep=False).output.reshape(len(pixels), -1)
    _show_layers(console, layers)
    last = model.network.layers[-1].name
    ours = np.concatenate(
        [
            evaluate(model.network, pixels[first : first + BATCH])[last].reshape(
                -1, *outputs[kernels[0]].shape[1:]
            )
            for first in range(0, len(pixels), BATCH)
        ]
    )
    figures = {name: _worst(counts) for name, counts in layers.items()}
    rows = []
    for name, output in (("this network", ours), *outputs.items()):
        row: dict[str, Any] = {"kernels": name}
        for other, theirs in outputs.items():
            row[f"same class as {other}"] = float((output.argmax(axis=1) == theirs.argmax(axis=1)).mean())
        if len(labels):
            row["accuracy"] = accuracy(output, labels)
        rows.append(row)
    table = Table(title="whole networks", title_justify="left", box=box.SIMPLE_HEAD)
    for key in rows[0]:
        table.add_column(key, justify="left" if key == "kernels" else "right")
    for row in rows:
        table.add_row(*[one if isinstance(one, str) else f"{one:.4f}" for one in row.values()])
    console.print(table)
    default = figures[kernels[0]]
    return {
        "layers": figures,
        "whole": rows,
        "passed": default["off"] <= MOST_OFF and default["steps"] <= 1,
    }


def _show_layers(console: Console, layers: Mapping[str, Counts]) -> None:
    """The histogram of each layer, of each set of kernels."""
    table = Table(
        title="values that differ by so many steps, this network less the runtime's, given its inputs",
        title_justify="left",
        box=box.SIMPLE_HEAD,
    )
    columns = [
        (name, step)
        for name, counts in layers.items()
        for step in sorted({step for steps in counts.values() for step in steps if step})
    ]
    for title in ("layer", "values", *(f"{name} {step:+d}" for name, step in columns)):
        table.add_column(title, justify="left" if title == "layer" else "right")
    first = next(iter(layers.values()))
    for layer, steps in first.items():
        found = (layers[name][layer].get(step, 0) for name, step in columns)
        table.add_row(layer, f"{sum(steps.values()):,}", *(f"{count:,}" for count in found))
    console.print(table)


def _worst(counts: Counts) -> dict[str, Any]:
    """The largest share of a layer's values that are off, the layer, and the most steps."""
    shares = {name: runtime.share_off(steps) for name, steps in counts.items()}
    name = max(shares, key=lambda one: shares[one])
    return {
        "off": round(shares[name], 6),
        "layer": name,
        "steps": max(abs(step) for steps in counts.values() for step in steps),
    }
