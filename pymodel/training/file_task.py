"""What is trained where a user names a file of another tool: `make compress NETWORK=model.tflite`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import fx, nn

from pymodel.machine.errors import TatamiError
from pymodel.network.activations import Clamp, Curve
from pymodel.network.dequantise import dequantised
from pymodel.network.float import (
    FloatAdd,
    FloatArray,
    FloatComputed,
    FloatConv,
    FloatLayer,
    FloatMean,
    FloatNetwork,
    FloatWeighted,
    evaluate_float,
)
from pymodel.network.from_torch import from_torch
from pymodel.network.integer import INPUT, Shape
from pymodel.network.load_model import GROUPS, load_model
from pymodel.network.model_file import FloatFile, legal_name
from pymodel.network.quantise import one_scale
from pymodel.network.scale import Scale
from pymodel.network.to_torch import to_torch
from pymodel.training.from_file import kept_layers
from pymodel.training.tasks import Task, fingerprint, get_task
from pymodel.zoo import cifar
from pymodel.zoo.given_images import load_sets

MEASURED = 64  # images to train on, that tensors are measured on
COMPARED, SAME = (
    4,
    1e-4,
)  # images that tensors are told by, and how near they must be, as a part of the largest
PEAK = 4.0  # the largest value of a tensor there; behind a batch norm it is about that
INPUT_PEAK = 1.0  # images are not around zero: larger ones would make the first layer learn too fast


def task_of(
    network: str, weights: Path | None, data: Path | None, shape: Shape | None = None, skip: str | None = None
) -> Task:
    """The network of a file of another tool, or what `get_task` gives. Raises `TatamiError` as it and
    `task_of_file` do, for `weights` beside a file, which has its own, and for `shape` and `skip`, which
    `load_model` takes, without one.
    """
    if Path(network).suffix not in GROUPS:
        for name, value in (("SHAPE", shape), ("SKIP", skip)):
            if value is not None:
                raise TatamiError(f"{name} is given: only for a NETWORK that ends in {' or '.join(GROUPS)}")
        return get_task(network, weights, data)
    if weights is not None:
        raise TatamiError(f"WEIGHTS '{weights}': network '{network}' brings its own")
    return task_of_file(Path(network), data, shape, skip)


def task_of_file(path: Path, data: Path | None, shape: Shape | None = None, skip: str | None = None) -> Task:
    """The network of a file, with the images of `data` to train and to test on. The weights of a quantised
    file are back in real numbers. No scheme prunes the first layer with weights, nor depthwise convolutions.

    The network is `balanced` first, and gets batch norms (`with_norms`). Scales of a quantised file go with
    it (`Task.scales`). Raises `TatamiError` without `data`, and as `load_model`, `dequantised`, `to_torch`
    and `load_sets` do.
    """
    if data is None:
        raise TatamiError(
            f"network '{path}' needs DATA to train on; without it, `make sim TEST=network WEIGHTS={path}"
            " SCHEME=... RATIO=...` prunes it"
        )
    file = load_model(path, shape, skip)
    network = file.network if isinstance(file, FloatFile) else dequantised(file)
    (images, labels), (test_images, test_labels) = load_sets(data, network.input_shape)
    network, units = balanced(network, images[:MEASURED].astype(np.float64))
    unit = units[INPUT]
    try:
        module, names = to_torch(network)
    except TatamiError as error:
        raise TatamiError(f"{path}: {error}") from None
    with_norms(module, torch.from_numpy(images[:MEASURED]).float() / unit)
    scales = dict[str, Scale]()
    if not isinstance(file, FloatFile):
        named = same_tensors(module, network, images[:COMPARED].astype(np.float64) / unit)
        scales = {
            mine: Scale(file.scales[own].step / units[own], file.scales[own].zero)
            for mine, own in named.items()
        }
    shifted = data.is_dir()  # pictures of things: a step aside, or mirrored, they are the same things

    def prepare(batch: torch.Tensor, generator: torch.Generator | None) -> torch.Tensor:
        moved = cifar.augment(batch, generator) if shifted and generator is not None else batch
        return moved.float() / unit

    return Task(
        legal_name(path.stem, "network"),
        module,
        network.input_shape,
        torch.from_numpy(images),
        torch.from_numpy(labels.astype(np.int64)),
        torch.from_numpy(test_images),
        torch.from_numpy(test_labels.astype(np.int64)),
        prepare,
        tuple(names[name] for name in kept_layers(network.layers, FloatWeighted)),
        fingerprint(path),
        f"{data.name}, {len(labels)} to train on",
        scales,
    )


def same_tensors(module: nn.Module, network: FloatNetwork, images: FloatArray) -> dict[str, str]:
    """The tensors of a module as `from_torch` names them, each with the tensor of `network`, which the module
    was made of, that has its values on these images. Where an addition has become a residual, there are fewer
    of them.
    """
    theirs = evaluate_float(network, images)
    found = {}
    for name, values in evaluate_float(from_torch(module, network.input_shape, network.name), images).items():
        for own, given in theirs.items():
            near = SAME * float(np.abs(given).max(initial=0))
            if values.shape == given.shape and np.abs(values - given).max(initial=0) <= near:
                found[name] = own
    return found


def with_norms(module: fx.GraphModule, images: torch.Tensor) -> None:
    """Puts a batch norm behind each convolution and fully connected layer but the last, which for now gives
    what it takes: its mean and variance are those of the layer's sums on `images` [B, C, H, W], and so are
    its bias and the square of its factor. In a file the norms are part of their layers; without any, training
    bears only a small learning rate.
    """
    sums: dict[str, torch.Tensor] = {}
    weighted = [name for name, one in module.named_modules() if isinstance(one, nn.Conv2d | nn.Linear)]

    def keep(name: str) -> Callable[[nn.Module, object, torch.Tensor], None]:
        return lambda _module, _inputs, output: sums.update({name: output})

    hooks = [module.get_submodule(name).register_forward_hook(keep(name)) for name in weighted]
    with torch.no_grad():
        module.eval()(images)
    for hook in hooks:
        hook.remove()
    for node in list(module.graph.nodes):
        last = any(user.op == "output" for user in node.users)
        if node.op == "call_module" and node.target in sums and not last:
            name = f"{node.target}_norm"
            module.add_submodule(name, _norm_of(sums[node.target]))
            with module.graph.inserting_after(node):
                norm = module.graph.call_module(name, (node,))
            node.replace_all_uses_with(norm, lambda user, norm=norm: user is not norm)
    module.recompile()


def _norm_of(sums: torch.Tensor) -> nn.Module:
    """A batch norm that gives what it takes, where channels are as in `sums` [B, C, ...]."""
    norm = (nn.BatchNorm1d if sums.ndim == 2 else nn.BatchNorm2d)(sums.shape[1])
    rest = tuple(axis for axis in range(sums.ndim) if axis != 1)
    mean, variance = sums.mean(rest), sums.var(rest, correction=0)
    assert norm.running_mean is not None
    assert norm.running_var is not None  # as it was made
    with torch.no_grad():
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)
        norm.bias.copy_(mean)
        norm.weight.copy_((variance + norm.eps).sqrt())
    return norm


def balanced(network: FloatNetwork, images: FloatArray) -> tuple[FloatNetwork, dict[str, float]]:
    """The same function with every tensor in a unit of its own, so that none of them is larger than `PEAK` on
    these images; and the units by name. Weights of all layers are then of one size, as they are between
    batch norms: in a file, norms are part of their layers.

    Tensors that are added to each other, or share pixels, share a unit. The output keeps its own, and so does
    what a curve is taken of or gives.
    """
    tensors = evaluate_float(network, images)
    together = [set(one) for one in one_scale(network)]
    fixed = {network.layers[-1].name}
    for layer, blank in zip(network.layers, network.skeleton.layers, strict=True):
        residual = layer.residual if isinstance(layer, FloatConv) else None
        if isinstance(layer, FloatAdd | FloatMean):
            together.append({layer.name, *blank.reads()})
        elif residual is not None:
            together.append({layer.name, residual.source})
        if isinstance(layer, FloatComputed) and isinstance(layer.activation, Curve):
            fixed |= {layer.name, *(blank.reads() if isinstance(layer, FloatAdd | FloatMean) else ())}
    unit: dict[str, float] = {}
    for group in _joined([*together, *({name} for name in tensors)]):
        peak = max(float(np.abs(tensors[name]).max(initial=0)) for name in group)
        most = INPUT_PEAK if INPUT in group else PEAK
        unit |= dict.fromkeys(group, 1.0 if group & fixed or not peak else peak / most)
    layers = tuple(_in_units(layer, unit) for layer in network.layers)
    return FloatNetwork(network.name, network.input_shape, layers), unit


def _joined(sets: list[set[str]]) -> list[set[str]]:
    """Sets that have an element in common as one."""
    found: list[set[str]] = []
    for one in sets:
        others = [other for other in found if other & one]
        found = [other for other in found if not other & one]
        found.append(one.union(*others))
    return found


def _in_units(layer: FloatLayer, unit: Mapping[str, float]) -> FloatLayer:
    if not isinstance(layer, FloatComputed):
        return layer
    own, clamp = unit[layer.name], layer.activation
    if isinstance(clamp, Clamp):
        clamp = Clamp(clamp.low / own, clamp.high / own)
    if isinstance(layer, FloatWeighted):
        weight = layer.weight * (unit[layer.source] / own)
        return replace(layer, weight=weight, bias=layer.bias / own, activation=clamp)
    if isinstance(layer, FloatAdd):
        return replace(layer, bias=layer.bias / own, activation=clamp)
    return replace(layer, activation=clamp)
