"""A model file in its own runtime, and our layers held against it, each given what the runtime gave to its
own.

Nothing here knows how a file is imported: only which of the file's tensors a layer computes, and in what
order the file has its values.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pymodel.machine.errors import TatamiError
from pymodel.network.integer import INPUT, Network, Requantised, View
from pymodel.network.model_file import ModelFile
from pymodel.network.quantised import Scale
from pymodel.network.reference import Int8Array, layer_sum, rearranged, requantise

# LiteRT's sets of kernels: what it takes by default, its own without XNNPACK, and its reference kernels.
KERNELS = {
    "default": "BUILTIN",
    "optimised": "BUILTIN_WITHOUT_DEFAULT_DELEGATES",
    "reference": "BUILTIN_REF",
}
DEFAULT = "default"


def installed(path: Path) -> bool:
    """Whether the runtime of this kind of file is installed."""
    return importlib.util.find_spec("ai_edge_litert") is not None and path.suffix == ".tflite"


@dataclass(frozen=True)
class Answer:
    """What a runtime computed: the tensors of the network that it has, int8 [N, C, H, W] by name, and the
    file's own output, [N, ...] as it gives it.
    """

    tensors: Mapping[str, Int8Array]
    output: npt.NDArray[Any]


def run_litert(model: ModelFile, images: Int8Array, kernels: str = DEFAULT, keep: bool = True) -> Answer:
    """Images int8 [N, C, H, W], as the network takes them, through a TensorFlow Lite file. Without `keep`,
    only the output is kept. Raises `TatamiError` if LiteRT refuses the file.
    """
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that all tensors are kept takes memory
        run = Interpreter(
            model_path=str(model.path),
            experimental_preserve_all_tensors=keep,
            experimental_op_resolver_type=OpResolverType[KERNELS[kernels]],
        )
    given, found = run.get_input_details()[0], run.get_output_details()[0]
    try:
        run.allocate_tensors()
        kept: dict[str, list[Int8Array]] = {name: [] for name in model.origin if keep and name != INPUT}
        outputs = []
        for image in images:
            last = image.transpose(1, 2, 0)[None]  # as the file has it: [1, rows, columns, channels]
            typed = _typed(last, given["dtype"], model.scales[INPUT])
            run.set_tensor(given["index"], typed.reshape(given["shape"]))
            run.invoke()
            outputs.append(run.get_tensor(found["index"])[0].copy())
            for name, values in kept.items():
                channels, rows, columns = model.network.shapes[name]
                theirs = run.get_tensor(int(model.origin[name])).reshape(rows, columns, channels)
                values.append(theirs.transpose(2, 0, 1))
    except (RuntimeError, ValueError) as error:
        raise TatamiError(f"{model.path}: LiteRT does not run it: {' '.join(str(error).split())}") from None
    tensors = {INPUT: images} | {name: np.stack(values) for name, values in kept.items()}
    return Answer(tensors, np.stack(outputs))


def _typed(image: Int8Array, kind: npt.DTypeLike, scale: Scale) -> npt.NDArray[Any]:
    """The values of an int8 image in the type of the file's input."""
    if kind == np.uint8:
        return (image.astype(np.int16) + 128).astype(np.uint8)
    return image if kind == np.int8 else scale.real(image).astype(kind)


def layer_differences(network: Network, theirs: Mapping[str, Int8Array]) -> dict[str, dict[int, int]]:
    """How many values of each layer differ by how many steps from the runtime's, ours less theirs, given the
    runtime's own inputs. Layers that the runtime does not have are computed from their inputs and not listed.
    """
    tensors: dict[str, Int8Array] = {INPUT: theirs[INPUT]}
    found = {}
    for layer in network.layers:
        if isinstance(layer, View):
            ours = rearranged(layer, tensors)
        else:
            total = layer_sum(layer, tensors)
            ours = (
                requantise(total, layer.requant) if isinstance(layer, Requantised) else total.astype(np.int8)
            )
        tensors[layer.name] = theirs.get(layer.name, ours)
        if layer.name in theirs:
            steps, counts = np.unique(
                ours.astype(np.int16) - theirs[layer.name].astype(np.int16), return_counts=True
            )
            found[layer.name] = {int(step): int(count) for step, count in zip(steps, counts, strict=True)}
    return found
