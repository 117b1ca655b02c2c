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
from pymodel.network.reference import Int8Array, layer_sum, rearranged, requantise
from pymodel.network.scale import Scale

# LiteRT's sets of kernels: what it takes by default, its own without XNNPACK, and its reference kernels.
KERNELS = {
    "default": "BUILTIN",
    "optimised": "BUILTIN_WITHOUT_DEFAULT_DELEGATES",
    "reference": "BUILTIN_REF",
}
DEFAULT = "default"
RUNTIMES = {".tflite": "ai_edge_litert", ".onnx": "onnxruntime", ".pt2": "torch"}


def installed(path: Path) -> bool:
    """Whether the runtime of this kind of file is installed."""
    package = RUNTIMES.get(path.suffix)
    return package is not None and importlib.util.find_spec(package) is not None


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


def run_file(model: ModelFile, images: Int8Array, kernels: str = DEFAULT, keep: bool = True) -> Answer:
    """Images int8 [N, C, H, W], as the network takes them, through the file's own runtime. `kernels`: of
    LiteRT. Without `keep`, only the output is kept. Raises `TatamiError` if the runtime refuses the file.
    """
    if model.path.suffix == ".tflite":
        return run_litert(model, images, kernels, keep)
    given: npt.NDArray[Any] = model.scales[INPUT].real(images)
    if model.input_type != "FLOAT":
        given = images.astype(np.int16) + (128 if model.input_type == "UINT8" else 0)
    found, output = run_onnxruntime(model.path, model.origin, given, keep)
    tensors = {INPUT: images}
    for name, values in found.items():
        if values.dtype.itemsize == 1:  # the others are real numbers, as at the end
            shape = (len(images), *model.network.shapes[name])
            tensors[name] = (
                (values.astype(np.int16) - (128 if values.dtype == np.uint8 else 0))
                .astype(np.int8)
                .reshape(shape)
            )
    return Answer(tensors, output)


def _typed(image: Int8Array, kind: npt.DTypeLike, scale: Scale) -> npt.NDArray[Any]:
    """The values of an int8 image in the type of the file's input."""
    if kind == np.uint8:
        return (image.astype(np.int16) + 128).astype(np.uint8)
    return image if kind == np.int8 else scale.real(image).astype(kind)


def run_float(
    path: Path, origin: Mapping[str, str], images: npt.NDArray[Any], keep: bool = True
) -> tuple[dict[str, npt.NDArray[Any]], npt.NDArray[Any]]:
    """Images [N, channels, rows, columns] through a file of a float network: as `run_onnxruntime`. Of a
    program of torch, the output is the only tensor.
    """
    if path.suffix != ".pt2":
        return run_onnxruntime(path, origin, images, keep)
    output = run_torch(path, images)
    last = [name for name in origin if keep and name != INPUT]
    return dict.fromkeys(last, output), output


def run_torch(path: Path, images: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """What a program of torch.export gives for images [N, channels, rows, columns]: [N, ...]. They run one by
    one, in as many copies as the program's batch has.
    """
    import torch

    program = torch.export.load(str(path))
    (given,) = program.graph_signature.user_inputs
    batch = next(node for node in program.graph.nodes if node.name == given).meta["val"].shape[0]
    run, copies = program.module(), batch if isinstance(batch, int) else 1
    with torch.no_grad():
        each = [run(image.expand(copies, *image.shape))[0] for image in torch.from_numpy(images).float()]
    return torch.stack(each).numpy()


def run_onnxruntime(
    path: Path, origin: Mapping[str, str], images: npt.NDArray[Any], keep: bool = True
) -> tuple[dict[str, npt.NDArray[Any]], npt.NDArray[Any]]:
    """Images [N, channels, rows, columns], in the file's type of numbers, through an ONNX file: the tensors
    that `origin` names, as the file has them and by our names, and the file's output. All are [N, ...].
    Without `keep`, there is only the output. Raises `TatamiError` if onnxruntime refuses the file.
    """
    import onnx
    import onnxruntime

    try:
        model = onnx.load(str(path))
        output, given = model.graph.output[0].name, origin[INPUT]
        inner = [name for name in set(origin.values()) if keep and name not in (given, output)]
        model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in inner)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        run = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
        first = run.get_inputs()[0]
        each = []
        for image in images:
            shaped = image.reshape(*image.shape[: len(first.shape) - 2], -1)
            if len(first.shape) == 4 and first.shape[1] != len(image) == first.shape[3]:
                shaped = image.transpose(1, 2, 0)  # the file has channels last
            found = run.run([output, *inner], {first.name: shaped[None].astype(_KINDS[first.type])})
            each.append([one[0] for one in found])
    except Exception as error:  # of the runtime's own kinds, which it does not export
        raise TatamiError(f"{path}: onnxruntime does not run it: {' '.join(str(error).split())}") from None
    whole = dict(zip([output, *inner], map(np.stack, zip(*each, strict=True)), strict=True))
    return {ours: whole[name] for ours, name in origin.items() if name in whole}, whole[output]


_KINDS = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
}


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


def share_off(steps: Mapping[int, int]) -> float:
    """The share of a layer's values that differ, from its counts by steps."""
    return 1 - steps.get(0, 0) / sum(steps.values())


def float_gaps(
    ours: Mapping[str, npt.NDArray[Any]], theirs: Mapping[str, npt.NDArray[Any]]
) -> dict[str, float]:
    """The largest gap of each tensor of the runtime's, as a part of its largest value, if it has one."""
    gaps = {}
    for name, values in theirs.items():
        largest = float(np.abs(values).max())
        gaps[name] = float(np.abs(values.reshape(ours[name].shape) - ours[name]).max()) / (largest or 1.0)
    return gaps
