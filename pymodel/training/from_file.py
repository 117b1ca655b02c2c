"""A network from a file of another tool, as a test runs it: on images that are given or drawn, pruned by a
scheme if asked for, and held against the file's own runtime.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pymodel.compiler.planning import plan_network, weights_of
from pymodel.machine.config import ArrayConfig
from pymodel.machine.errors import TatamiError
from pymodel.network import runtime
from pymodel.network.float import FloatConv, FloatWeighted, evaluate_float
from pymodel.network.integer import INPUT, Conv, Layer, Network, Shape, Weighted, macs_of
from pymodel.network.load_model import load_model
from pymodel.network.model_file import SKIPPED, FloatFile, ModelFile
from pymodel.network.network_file import StoredNetwork
from pymodel.network.quantise import calibrate, quantise
from pymodel.network.reference import Int8Array, evaluate
from pymodel.network.scale import Scale
from pymodel.packing.plan import LayerPlan
from pymodel.schemes import get_scheme
from pymodel.training.one_shot import prune_once
from pymodel.zoo.given_images import load_images
from pymodel.zoo.random_network import pruned

DENSE = "dense"
CALIBRATED = 64  # images for the scales of a float network
COMPARED = 20  # images for the file's own runtime
# Multiplications that either may take: fewer images of a network so large that it would be minutes.
MOST_MACS = 1 << 35


@dataclass(frozen=True)
class Imported:
    """`stored` is the network with its images; `figures` say how it agrees with the file's own runtime, and
    `notes` are lines for the user.
    """

    stored: StoredNetwork
    figures: Mapping[str, Any]
    notes: tuple[str, ...]


def pruning(scheme: str | None, ratio: float | None) -> tuple[str, float]:
    """What a user gave. With neither, each weight has a slot of its own. Raises `TatamiError` for one without
    the other.
    """
    scheme = scheme or DENSE
    if (ratio is None) != (scheme == DENSE):
        raise TatamiError(f"RATIO is {'not ' if ratio is None else ''}given, SCHEME is '{scheme}'")
    return scheme, ratio or 1.0


def import_file(
    path: Path,
    data: Path | None,
    config: ArrayConfig,
    seed: int,
    images: int,
    scheme: str = DENSE,
    ratio: float = 1.0,
    shape: Shape | None = None,
    skip: str | None = None,
) -> Imported:
    """The network of a .tflite or .onnx file and `images` images: those of `data`, or drawn from `seed`.

    With a scheme other than `dense`, its weights are pruned to `ratio` by magnitude, without training. The
    first layer with weights and depthwise convolutions keep theirs. With a ratio of 1 all layers do, and only
    zeros are left out. A float network is quantised with scales of images of `data` behind those that run, or
    of drawn ones. A network that parts are skipped of is not held against its runtime. Raises `TatamiError`
    as `load_model` and `load_images` do.
    """
    file = load_model(path, shape, skip)
    rng = np.random.default_rng(seed)
    given, labels = (
        (None, np.zeros(0, np.uint8)) if data is None else load_images(data, file.network.input_shape)
    )
    if given is not None and not 0 < images <= len(given):
        raise TatamiError(f"IMAGES {images} is outside 1..{len(given)}: {data} has no more")
    notes = list(file.notes)
    if isinstance(file, FloatFile):
        calibrating = _calibrating(file, given, images, rng, notes)
        model, plans = quantised(file, calibrating, scheme, ratio, config, rng)
    else:
        model, plans = pruned_file(file, scheme, ratio, config, rng)
    scale = model.scales[INPUT]
    count = max(images, _affordable(model.network, COMPARED))
    if given is None:
        pixels = rng.integers(-128, 128, (count, *model.network.input_shape)).astype(np.int8)
        notes.append(f"images are drawn at random, seed {seed}")
    else:
        pixels = _pixels(given[:count], scale)
    meta = {
        "scheme": scheme,
        "ratio": ratio,
        "start": path.name,
        "size": config.size,
        "group": config.group,
        "weight_bits": config.weight_bits,
        "scales": {name: one.step for name, one in model.scales.items()},
        "zero_points": {name: one.zero for name, one in model.scales.items()},
    }
    stored = StoredNetwork(model.network, pixels[:images], labels[:images], meta, plans)
    skipped = any(note.startswith(SKIPPED) for note in file.notes)
    figures = {} if skipped else _agreement(model, file, pixels, exact=ratio == 1)
    if skipped:
        notes.append(f"not held against its runtime, which does not skip {skip}")
    elif not figures:
        notes.append(f"the runtime of {path.suffix} files is not installed: not held against it")
    return Imported(stored, figures, tuple(notes))


def _pixels(images: npt.NDArray[Any], scale: Scale) -> Int8Array:
    if images.dtype == np.int8:
        return images
    return scale.values(images.astype(np.float64))


def _affordable(network: Network, images: int) -> int:
    """So many images, or as many as `MOST_MACS` allow; one at least."""
    return max(1, min(images, MOST_MACS // max(1, sum(macs_of(network).values()))))


def kept_layers(layers: tuple[Any, ...], kinds: Any) -> tuple[str, ...]:
    """Layers that no scheme prunes."""
    weighted = [layer for layer in layers if isinstance(layer, kinds)]
    depthwise = [layer for layer in weighted if isinstance(layer, Conv | FloatConv) and layer.depthwise]
    return tuple(layer.name for layer in (*weighted[:1], *depthwise))


def _calibrating(
    file: FloatFile, given: npt.NDArray[Any] | None, images: int, rng: np.random.Generator, notes: list[str]
) -> npt.NDArray[np.float64]:
    """The images that the scales are taken of: not those that run, if there are others."""
    count = _affordable(file.network.skeleton, CALIBRATED)
    if given is None:
        notes.append(f"scales are those of {count} random images")
        return rng.normal(0, 1, (count, *file.network.input_shape))
    if given.dtype == np.int8:
        raise TatamiError(f"{file.path}: a float network needs images of real values, DATA has int8")
    rest = given[images:][:count]
    if not len(rest):
        notes.append("scales are those of the images that run: there are no others")
        rest = given[:count]
    return rest.astype(np.float64)


def quantised(
    file: FloatFile,
    images: npt.NDArray[np.float64],
    scheme: str,
    ratio: float,
    config: ArrayConfig,
    rng: np.random.Generator,
) -> tuple[ModelFile, dict[str, LayerPlan]]:
    """A float network, pruned by a scheme if `ratio` is not 1, with scales of `images`; and its plans."""
    network, plans = file.network, dict[str, LayerPlan]()
    if ratio != 1:
        keep = kept_layers(network.layers, FloatWeighted)
        network, plans = prune_once(network, get_scheme(scheme), ratio, config, rng, keep)
    scales = calibrate(network, images)
    made = quantise(network, scales)
    found = {name: Scale(scales[name]) for name in (INPUT, *made.shapes)}
    return ModelFile(file.path, made, found, file.origin, file.notes, "FLOAT"), plans


def pruned_file(
    file: ModelFile, scheme: str, ratio: float, config: ArrayConfig, rng: np.random.Generator
) -> tuple[ModelFile, dict[str, LayerPlan]]:
    """A quantised network, pruned by a scheme if `ratio` is not 1, and its plans."""
    if ratio == 1:
        return file, {}
    network = file.network
    keep = kept_layers(network.layers, Weighted)
    plans = plan_network(network, weights_of(network, keep), get_scheme(scheme), ratio, config, rng)
    layers = tuple(_without(layer, plans.get(layer.name), file.scales) for layer in network.layers)
    return replace(file, network=Network(network.name, network.input_shape, layers)), plans


def _without(layer: Layer, plan: LayerPlan | None, scales: Mapping[str, Scale]) -> Layer:
    """The layer without the weights that its plan leaves out. What those gave for zero points is in the bias
    and goes with them.
    """
    fewer = pruned(layer, plan)
    if not isinstance(layer, Weighted) or not isinstance(fewer, Weighted):
        return fewer
    gone = (layer.weight.astype(np.int64) - fewer.weight).reshape(len(layer.weight), -1).sum(axis=1)
    bias = layer.requant.bias + scales[layer.source].zero * gone
    return replace(fewer, requant=replace(fewer.requant, bias=bias.astype(np.int32)))


def _agreement(
    model: ModelFile, file: ModelFile | FloatFile, pixels: Int8Array, exact: bool
) -> dict[str, Any]:
    """How the network agrees with the file in its own runtime, if that is installed: on how many images the
    class is the same. Of a network that is not pruned (`exact`) also, if the file is quantised, the largest
    share of a layer's values that differ, given the runtime's own inputs, and by how many steps at most; if
    it is float, the largest gap of a tensor of the float network, as a part of its largest value.
    """
    if not runtime.installed(model.path):
        return {}
    tensors = evaluate(model.network, pixels)
    ours = tensors[model.network.layers[-1].name].reshape(len(pixels), -1)
    if isinstance(file, FloatFile):
        real = model.scales[INPUT].real(pixels)
        theirs, output = runtime.run_float(file.path, file.origin, real, keep=exact)
        gap = None
        if exact:
            gaps = runtime.float_gaps(evaluate_float(file.network, real), theirs)
            gap = max(gaps.values(), default=None)
        found: dict[str, Any] = {"runtime_gap": gap}
    else:
        answer = runtime.run_file(model, pixels, keep=exact)
        output = answer.output
        found = {}
        if exact:
            counts = runtime.layer_differences(model.network, answer.tensors).values()
            found = {
                "runtime_off": max(map(runtime.share_off, counts)),
                "runtime_steps": max(abs(step) for steps in counts for step in steps),
            }
    flat = output.reshape(len(pixels), -1)
    same = float((flat.argmax(axis=1) == ours.argmax(axis=1)).mean()) if flat.shape[1] > 1 else None
    return {
        "runtime": runtime.RUNTIMES[model.path.suffix],
        "runtime_images": len(pixels),
        "runtime_same_class": same,
        **found,
    }
