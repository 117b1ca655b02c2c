"""Converts a torch module to a `FloatNetwork`: traced by torch.fx in eval mode, batch norms folded, additions
attached to their convolution. It knows these operations:

- Conv2d: FloatConv; groups become a block-diagonal dense weight.
- BatchNorm2d: folded into the convolution before it.
- ReLU: the flag of the convolution, linear layer or addition before it.
- a + b: FloatResidual of the convolution whose output is added; of two, the one that runs later.
- F.pad(x[:, :, ::2, ::2]): the channels and stride of a FloatResidual (option-A shortcut: He et al., arXiv
  1512.03385, section 3.3).
- mean or average pool: FloatPool, over the whole plane only.
- flatten, view, reshape to [batch, C * H * W]: no layer.
- Linear: FloatLinear.
- Dropout, Identity: nothing.

A layer's name is the path of its module ("layer1.0.conv1"). A pool without a module is named "pool". All
other operations are refused, in one message of one line. Weights that are computed (masks, norms) or shared
by two layers are first made plain (`plain_module`). Torch.fx does not see everything: it misses hooks, and
that `a += b` changes other names of a. So the result is compared with the output of the module on random
images.
"""

from __future__ import annotations

import copy
import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
import torch
from torch import fx, nn
from torch.nn import functional
from torch.nn.utils import parametrize, prune, remove_spectral_norm, remove_weight_norm
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from pymodel.machine.errors import TatamiError
from pymodel.machine.names import check_name
from pymodel.network.activations import RELU
from pymodel.network.float import (
    FloatConv,
    FloatLayer,
    FloatLinear,
    FloatNetwork,
    FloatPool,
    FloatResidual,
    FloatWeighted,
    evaluate_float,
    fold_batch_norm,
)
from pymodel.network.integer import INPUT, IntArray, Shape, around

FloatArray = npt.NDArray[np.float64]

SUPPORTED = (
    "Conv2d, BatchNorm2d after it, ReLU, additions to a convolution's output, [:, :, ::s, ::s] and zero"
    " channels by pad for a shortcut, means over the plane, flatten to [batch, -1], Linear, Dropout, Identity"
)
BATCH = 2  # of the images that the module is traced with: not 1, so that a reshape that mixes images is found
TOLERANCE = 1e-3  # of the largest output: the module may compute in float32


@dataclass(frozen=True)
class Imported:
    """A network and the origin of its weights, by layer name, for layers that have weights.

    `weights` is the path of the weight in `module.named_parameters()`. The layer's weight is that parameter
    [F, C / groups, k, k] times `factors` float64 [F] (from the folded batch norm; ones without it), and zero
    between the blocks of `groups`.
    """

    network: FloatNetwork
    weights: dict[str, str]
    factors: dict[str, FloatArray]
    groups: dict[str, int]


def from_torch(module: nn.Module, input_shape: Shape, name: str) -> FloatNetwork:
    """The module as a network. The module maps [B, *input_shape] to one tensor. `import_torch` also returns
    where its weights come from.

    The module keeps its mode and its parameters. Raises TatamiError, naming the module or function, for
    anything that is not supported.
    """
    return import_torch(module, input_shape, name).network


def checked_shape(shape: Any, name: str) -> Shape:
    """Three positive whole numbers, given as any sequence, as a tuple."""
    try:
        found = tuple(shape)
        whole = tuple(operator.index(n) for n in found)
    except TypeError:
        found, whole = (shape if isinstance(shape, tuple) else (shape,)), ()
    if len(whole) != 3 or min(whole) < 1:
        raise TatamiError(
            f"network '{name}': input shape is {found}, must be three positive numbers"
            " (channels, rows, columns)"
        )
    return whole


def plain_module(module: Any, name: str, train: bool = False) -> nn.Module:
    """The module with plain weights, one for each layer. Returns the module itself if its weights are already
    plain, else a copy.

    Masks of torch.nn.utils.prune, weight and spectral norms and other parametrisations become the weights
    that they compute. If two layers share a weight, each gets its own, because the machine stores one for
    each. Half precision becomes float32. With `train`, double precision does too, and every weight can learn.
    Raises TatamiError, naming the parameter, for any other type.
    """
    if not isinstance(module, nn.Module):
        raise TatamiError(
            f"network '{name}': the module is a {type(module).__name__}, must be a torch.nn.Module"
        )
    kinds = (torch.float32,) if train else (torch.float32, torch.float64)
    tensors = [*module.named_parameters(remove_duplicate=False), *module.named_buffers()]
    for path, tensor in tensors:
        if isinstance(tensor, nn.parameter.UninitializedTensorMixin):
            raise TatamiError(
                f"network '{name}': '{path}' has no shape yet (a lazy module): run it once first"
            )
        if tensor.is_complex() or tensor.is_meta or tensor.is_quantized:
            raise TatamiError(
                f"network '{name}': '{path}' is {tensor.dtype} on {tensor.device}, must hold real numbers"
            )
    tied = [path for path, _ in _repeated(module)]
    made = [
        path for path, part in module.named_modules() if parametrize.is_parametrized(part) or _computed(part)
    ]
    other = any(t.is_floating_point() and t.dtype not in kinds for _, t in tensors)
    learns = not train or all(p.requires_grad for p in module.parameters())
    if not (tied or made or other) and learns:
        return module
    try:
        plain = _copy(module)
        for part in list(plain.modules()):
            _resolve(part)
        for path, parameter in _repeated(plain):
            parent, _, last = path.rpartition(".")
            setattr(plain.get_submodule(parent), last, nn.Parameter(parameter.detach().clone()))
    except Exception as error:  # whatever a parametrisation of the user's own raises
        where = f"'{made[0] or 'the module'}'" if made else "the module"
        raise TatamiError(
            f"network '{name}': {where} cannot be made plain ({_first_line(error)}); remove what computes its"
            " weights"
        ) from None
    plain = plain.float() if train or other else plain
    return plain.requires_grad_() if train else plain


def _repeated(module: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """Parameters that another module already has under another path: all tied weights except the first."""
    first: dict[int, str] = {}
    found = []
    for prefix, part in module.named_modules():
        for last, parameter in part.named_parameters(recurse=False, remove_duplicate=False):
            path = f"{prefix}.{last}" if prefix else last
            if first.setdefault(id(parameter), path) != path:
                found.append((path, parameter))
    return found


def _computed(module: nn.Module) -> bool:
    """Whether hooks of torch compute one of its weights before every call."""
    return any(isinstance(hook, _HOOKS) for hook in module._forward_pre_hooks.values())


def _copy(module: nn.Module) -> nn.Module:
    """A deep copy. It also works if a weight was computed from others; torch refuses to copy such a
    weight.
    """
    computed = {
        id(value): value.detach().clone()
        for part in module.modules()
        for value in vars(part).values()
        if isinstance(value, torch.Tensor)
    }
    return copy.deepcopy(module, computed)


def _resolve(module: nn.Module) -> None:
    """Makes a module's computed weights plain, in place."""
    for hook in list(module._forward_pre_hooks.values()):
        if isinstance(hook, prune.BasePruningMethod):
            prune.remove(module, hook._tensor_name)
        elif isinstance(hook, WeightNorm):
            remove_weight_norm(module, hook.name)
        elif isinstance(hook, SpectralNorm):
            remove_spectral_norm(module, hook.name)
    if parametrize.is_parametrized(module):
        for tensor in list(module.parametrizations):
            parametrize.remove_parametrizations(module, tensor, leave_parametrized=True)


_HOOKS = (prune.BasePruningMethod, WeightNorm, SpectralNorm)


def import_torch(module: nn.Module, input_shape: Shape, name: str) -> Imported:
    """As `from_torch`, with the path of every weight and the factor of every filter."""
    check_name("a network's name", name)
    input_shape = checked_shape(input_shape, name)
    module = plain_module(module, name)
    training = {part: part.training for part in module.modules()}
    module.eval()
    try:
        with torch.no_grad():
            return _Importer(module, input_shape, name).run()
    finally:
        for part, mode in training.items():
            part.training = mode


class _RefusedError(Exception):
    """A node is refused. `kind`: the operation that is not supported. `where`: its place."""

    def __init__(self, text: str, kind: str = "", where: str = "") -> None:
        super().__init__(text)
        self.kind, self.where = kind, where


class _UnknownError(Exception):
    """A node reads the result of a refused node, so nothing can be said about it."""


@dataclass(frozen=True)
class _Value:
    """The result of a node: a layer's tensor, or a strided and padded view of it that waits for an addition.

    `open` says that nothing else reads the tensor, so that the next operation may still become part of its
    layer.
    """

    tensor: str
    open: bool = False
    flat: bool = False
    channel: IntArray | None = None
    stride: int = 1
    unknown: bool = False

    @property
    def is_view(self) -> bool:
        return self.channel is not None or self.stride != 1


class _Recorder(fx.Interpreter):
    """Runs the traced module and keeps the result of every node."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.results: dict[fx.Node, Any] = {}
        self.at: fx.Node | None = None

    def run_node(self, n: fx.Node) -> Any:
        self.at = n
        self.results[n] = super().run_node(n)
        return self.results[n]


class _Importer:
    def __init__(self, module: nn.Module, input_shape: Shape, name: str) -> None:
        self.module, self.input_shape, self.name = module, input_shape, name
        self.layers: dict[str, FloatLayer] = {}  # in order of execution
        self.weights: dict[str, str] = {}
        self.factors: dict[str, FloatArray] = {}
        self.groups: dict[str, int] = {}
        self.values: dict[fx.Node, _Value] = {}
        self.results: dict[fx.Node, Any] = {}
        self.overwritten: dict[str, fx.Node] = {}  # tensors that an operation in place has changed

    def run(self) -> Imported:
        place = next((p for p in self.module.parameters()), torch.zeros(0))
        images = torch.randn(BATCH, *self.input_shape, generator=torch.Generator().manual_seed(0)).to(
            place.device, place.dtype
        )
        graph = self._trace()
        recorder = _Recorder(fx.GraphModule(self.module, graph))
        self.results = recorder.results
        try:
            recorder.run(images.clone())
        except Exception as error:  # whatever the module's own code raises
            where = self._label(recorder.at) if recorder.at is not None else "the module"
            raise TatamiError(
                f"network '{self.name}': {where} fails on images of shape {self.input_shape}:"
                f" {_first_line(error)}"
            ) from None
        refused: list[_RefusedError] = []
        for node in graph.nodes:
            if node.op == "output":
                continue
            try:
                self._step(node)
            except _RefusedError as error:
                refused.append(error)
                self.values[node] = _UNKNOWN
            except _UnknownError:
                self.values[node] = _UNKNOWN
        if refused:
            raise TatamiError(f"network '{self.name}': {_in_one_line(refused)}")
        try:
            output = self._output(next(node for node in graph.nodes if node.op == "output"))
        except _RefusedError as error:
            raise TatamiError(f"network '{self.name}': {error}") from None
        network = FloatNetwork(self.name, self.input_shape, tuple(self.layers.values()))
        self._compare(network, output, images)
        return Imported(network, self.weights, self.factors, self.groups)

    def _trace(self) -> fx.Graph:
        try:
            graph = fx.Tracer().trace(self.module)
        except Exception as error:  # TraceError, and whatever the module's own code does with a proxy
            raise TatamiError(
                f"network '{self.name}': torch.fx cannot trace the module: {_first_line(error)}"
            ) from None
        inputs = [node.name for node in graph.nodes if node.op == "placeholder" and not node.args]
        if len(inputs) != 1:
            raise TatamiError(
                f"network '{self.name}': forward takes {len(inputs)} inputs ({', '.join(inputs)}), must"
                " take 1"
            )
        return graph

    def _step(self, node: fx.Node) -> None:
        result = self.results[node]
        if not isinstance(result, torch.Tensor):
            if _holds_tensor(result):
                self._refuse(node)
            return  # a size, or arithmetic with sizes: its value is in the results
        if node.op == "placeholder":
            self.values[node] = _Value(INPUT)
            return
        handler: Callable[[fx.Node], _Value] | None = None
        if node.op == "call_module":
            called = self.module.get_submodule(node.target)
            handler = next(
                (handler for kind, handler in self._modules().items() if isinstance(called, kind)), None
            )
        elif node.op in ("call_function", "call_method"):
            handler = self._functions().get(node.target)
        if handler is None:
            self._refuse(node)
        value = handler(node)
        if not node.users:
            self._fail(node, "has a result that nothing reads")
        self.values[node] = replace(value, open=value.open and len(node.users) == 1)

    def _modules(self) -> dict[type, Callable[[fx.Node], _Value]]:
        return {
            nn.Conv2d: self._conv,
            nn.BatchNorm2d: self._batch_norm,
            nn.ReLU: lambda node: self._relu(node, self._module(node).inplace),
            nn.AdaptiveAvgPool2d: lambda node: self._adaptive_pool(node, self._module(node).output_size),
            nn.AvgPool2d: self._pool_module,
            nn.Flatten: self._flatten,
            nn.Linear: self._linear,
            nn.Dropout: self._same,
            nn.Dropout2d: self._same,
            nn.Identity: self._same,
        }

    def _functions(self) -> dict[Any, Callable[[fx.Node], _Value]]:
        def relu(node: fx.Node) -> _Value:
            return self._relu(node, bool(self._arguments(node, "input", "inplace").get("inplace", False)))

        def relu_(node: fx.Node) -> _Value:
            return self._relu(node, in_place=True)

        def add_(node: fx.Node) -> _Value:
            return self._add(node, in_place=True)

        def adaptive(node: fx.Node) -> _Value:
            return self._adaptive_pool(node, self._arguments(node, "input", "output_size")["output_size"])

        return {
            **dict.fromkeys((functional.relu, torch.relu, "relu"), relu),
            **dict.fromkeys((torch.relu_, functional.relu_, "relu_"), relu_),
            **dict.fromkeys((operator.add, torch.add, "add"), self._add),
            **dict.fromkeys((operator.iadd, "add_"), add_),
            **dict.fromkeys((torch.mean, "mean"), self._mean),
            **dict.fromkeys((torch.flatten, torch.reshape, "flatten", "view", "reshape"), self._flatten),
            functional.adaptive_avg_pool2d: adaptive,
            functional.avg_pool2d: self._pool_function,
            functional.dropout: self._dropout,
            functional.pad: self._pad,
            operator.getitem: self._slice,
            "contiguous": self._same,
        }

    # --- operations: each takes a node, adds to the layers, returns what the node computes
    # -----------------------------------------

    def _conv(self, node: fx.Node) -> _Value:
        conv = self._module(node)
        k = conv.kernel_size[0]
        if tuple(conv.kernel_size) not in ((1, 1), (3, 3), (5, 5)):
            self._fail(node, f"has kernel size {_sides(conv.kernel_size)}, must be 1 x 1, 3 x 3 or 5 x 5")
        if tuple(conv.stride) not in ((1, 1), (2, 2)):
            self._fail(node, f"has stride {_sides(conv.stride)}, must be 1 or 2 in both directions")
        if tuple(conv.dilation) != (1, 1):
            self._fail(node, f"has dilation {_sides(conv.dilation)}, must be 1")
        padding = (
            {"same": ((k - 1) // 2,) * 2, "valid": (0, 0)}.get(conv.padding)
            if isinstance(conv.padding, str)
            else tuple(conv.padding)
        )
        if padding is None or padding[0] != padding[1] or not 0 <= padding[0] < k:
            self._fail(
                node, f"has padding {_sides(padding)}, must be equal in both directions and in 0..{k - 1}"
            )
        if conv.padding_mode != "zeros":
            self._fail(node, f"has padding mode '{conv.padding_mode}', must be 'zeros'")
        weight = _dense(self._numbers(node, conv, "weight"), conv.groups)
        bias = self._numbers(node, conv, "bias") if conv.bias is not None else np.zeros(len(weight))
        layer = FloatConv(
            self._new_name(node),
            self._plane(node).tensor,
            weight,
            bias,
            tuple(conv.stride),
            around(padding[0]),
        )
        self.groups[layer.name] = conv.groups
        return self._weighted(node, layer)

    def _linear(self, node: fx.Node) -> _Value:
        linear, source = self._module(node), self._read(node)
        if not source.flat:
            self._fail(
                node,
                f"reads '{source.tensor}', which must be flattened to [batch, {linear.in_features}]"
                " before it",
            )
        weight = self._numbers(node, linear, "weight")
        bias = self._numbers(node, linear, "bias") if linear.bias is not None else np.zeros(len(weight))
        layer = FloatLinear(self._new_name(node), source.tensor, weight, bias)
        self.groups[layer.name] = 1
        return replace(self._weighted(node, layer), flat=True)

    def _weighted(self, node: fx.Node, layer: FloatConv | FloatLinear) -> _Value:
        self.layers[layer.name] = layer
        self.weights[layer.name] = f"{node.target}.weight"
        self.factors[layer.name] = np.ones(len(layer.weight))
        return _Value(layer.name, open=True)

    def _batch_norm(self, node: fx.Node) -> _Value:
        norm, value = self._module(node), self._plane(node)
        layer = self.layers.get(value.tensor)
        if not (
            value.open and isinstance(layer, FloatConv) and not layer.activation and layer.residual is None
        ):
            self._fail(
                node,
                f"reads '{value.tensor}', must come directly after a convolution whose output nothing else"
                " reads",
            )
        if norm.running_mean is None:
            self._fail(node, "has no running statistics (track_running_stats is False), must have them")
        mean, variance = (self._numbers(node, norm, part) for part in ("running_mean", "running_var"))
        gamma, beta = (
            (self._numbers(node, norm, part) for part in ("weight", "bias"))
            if norm.affine
            else (np.ones_like(mean), np.zeros_like(mean))
        )
        if (variance + norm.eps <= 0).any():
            self._fail(node, f"has a running_var of {variance.min():g}, must not be negative")
        weight, shift = fold_batch_norm(layer.weight, mean, variance, gamma, beta, norm.eps)
        factor = gamma / np.sqrt(variance + norm.eps)
        self.layers[layer.name] = replace(layer, weight=weight, bias=layer.bias * factor + shift)
        self.factors[layer.name] = self.factors[layer.name] * factor
        return value

    def _relu(self, node: fx.Node, in_place: bool) -> _Value:
        value = self._read(node)
        layer = self.layers.get(value.tensor)
        if not isinstance(layer, FloatWeighted):
            self._fail(
                node, f"reads '{value.tensor}', must come after a convolution, a linear layer or an addition"
            )
        if layer.activation == RELU:
            return value  # no value is negative
        if not value.open:
            also = "; it is in place, so they read its result" if in_place else ""
            self._fail(
                node,
                f"reads '{value.tensor}', which others read too{also}: a layer's output must be read either"
                " before its ReLU or after it",
            )
        self.layers[layer.name] = replace(layer, activation=RELU)
        return value

    def _add(self, node: fx.Node, in_place: bool = False) -> _Value:
        given = self._arguments(node, "input", "other", "alpha")
        if given.get("alpha", 1) != 1:
            self._fail(node, f"has alpha {given['alpha']}, must be 1")
        for part in (given["input"], given["other"]):
            if not isinstance(part, fx.Node):
                self._fail(node, f"adds {part}, must add two tensors")
        first, second = self._value(node, given["input"]), self._value(node, given["other"])
        shapes = [tuple(self.results[given[part]].shape[1:]) for part in ("input", "other")]
        if shapes[0] != shapes[1]:
            self._fail(node, f"adds tensors of shapes {shapes[0]} and {shapes[1]}, must be equal")
        hosts = [value for value in (first, second) if self._takes_residual(value)]
        if not hosts or first.tensor == second.tensor or first.flat or second.flat:
            self._fail(
                node,
                f"adds '{first.tensor}' and '{second.tensor}': one of the two must be the output of a"
                " convolution (with its batch norm, without ReLU) that nothing else reads and that nothing"
                " was added to yet",
            )
        order = list(self.layers)
        host = max(hosts, key=lambda value: order.index(value.tensor))
        other = second if host is first else first
        layer = self.layers[host.tensor]
        assert isinstance(layer, FloatConv)
        channel = np.arange(len(layer.weight), dtype=np.int16) if other.channel is None else other.channel
        if other.tensor in order[order.index(host.tensor) :]:
            del self.layers[host.tensor]  # it runs last now; nothing has read it yet
        self.layers[host.tensor] = replace(
            layer, residual=FloatResidual(other.tensor, channel, (other.stride, other.stride))
        )
        if in_place and other is first:
            self.overwritten[other.tensor] = node
        return replace(host, open=True)

    def _takes_residual(self, value: _Value) -> bool:
        layer = self.layers.get(value.tensor)
        return (
            value.open
            and not value.is_view
            and isinstance(layer, FloatConv)
            and layer.activation is None
            and layer.residual is None
        )

    def _slice(self, node: fx.Node) -> _Value:
        value, index = self._planes(node), self._arguments(node, "input", "index")["index"]
        index = index if isinstance(index, tuple) else (index,)
        at = next((i for i, part in enumerate(index) if part is Ellipsis), None)
        if at is not None:
            index = (*index[:at], *[slice(None)] * (5 - len(index)), *index[at + 1 :])
        index = (*index, *[slice(None)] * (4 - len(index)))
        steps = [
            part.step or 1
            for part in index
            if isinstance(part, slice) and part.start in (None, 0) and part.stop is None
        ]
        if (
            len(steps) != 4
            or steps[:2] != [1, 1]
            or steps[2] != steps[3]
            or value.stride * steps[2] not in (1, 2)
        ):
            self._fail(
                node,
                "takes another part of a tensor than [:, :, ::s, ::s], s = 1 or 2 altogether, which a"
                " shortcut may",
            )
        return replace(value, open=False, stride=value.stride * steps[2])

    def _pad(self, node: fx.Node) -> _Value:
        value, given = self._planes(node), self._arguments(node, "input", "pad", "mode", "value")
        mode, filler = given.get("mode", "constant"), given.get("value")
        if mode != "constant" or filler not in (None, 0):
            self._fail(node, f"pads by mode '{mode}' and value {filler}, must be 'constant' and 0")
        pad = (*given["pad"], *[0] * (6 - len(given["pad"])))
        if len(pad) != 6 or any(pad[:4]) or min(pad) < 0:
            self._fail(
                node,
                f"pads by {tuple(given['pad'])}, must add zero channels only: (0, 0, 0, 0, before, after)",
            )
        channels = self.results[_operand(node)].shape[1]
        channel = np.arange(channels, dtype=np.int16) if value.channel is None else value.channel
        before, after = (np.full(n, -1, dtype=np.int16) for n in pad[4:])
        return replace(value, open=False, channel=np.concatenate([before, channel, after]))

    def _mean(self, node: fx.Node) -> _Value:
        value, given = self._plane(node), self._arguments(node, "input", "dim", "keepdim", "dtype")
        dims = given.get("dim")
        if not isinstance(dims, tuple | list) or sorted(d % 4 for d in dims) != [2, 3]:
            self._fail(node, f"is over dimension {dims}, must be over (2, 3)")
        return replace(self._pool(node, value), flat=not given.get("keepdim", False))

    def _adaptive_pool(self, node: fx.Node, size: Any) -> _Value:
        value = self._plane(node)
        if size not in (1, (1, 1), [1, 1]):
            self._fail(node, f"has output size {_sides(size)}, must be 1")
        return self._pool(node, value)

    def _pool_module(self, node: fx.Node) -> _Value:
        pool = self._module(node)
        return self._whole_plane(node, pool.kernel_size, pool.padding, pool.divisor_override)

    def _pool_function(self, node: fx.Node) -> _Value:
        names = (
            "input",
            "kernel_size",
            "stride",
            "padding",
            "ceil_mode",
            "count_include_pad",
            "divisor_override",
        )
        given = self._arguments(node, *names)
        return self._whole_plane(
            node, given["kernel_size"], given.get("padding", 0), given.get("divisor_override")
        )

    def _whole_plane(self, node: fx.Node, kernel: Any, padding: Any, divisor: Any) -> _Value:
        value = self._plane(node)
        plane = tuple(self.results[_operand(node)].shape[2:])
        if _pair(kernel) != plane or _pair(padding) != (0, 0):
            found = f"kernel size {_sides(kernel)} and padding {_sides(padding)}"
            self._fail(node, f"has {found}, must cover the plane of {_sides(plane)} without padding")
        if divisor is not None:
            self._fail(node, f"has a divisor_override of {divisor}, must have none")
        return self._pool(node, value)

    def _pool(self, node: fx.Node, value: _Value) -> _Value:
        name = self._new_name(node, "pool")
        self.layers[name] = FloatPool(name, value.tensor)
        return _Value(name, open=True)

    def _flatten(self, node: fx.Node) -> _Value:
        value, shape = self._read(node), tuple(self.results[node].shape)
        if shape == tuple(self.results[_operand(node)].shape):
            return value
        needed = (BATCH, int(np.prod(self.results[_operand(node)].shape[1:])))
        if shape != needed:
            self._fail(
                node, f"gives shape {shape} for a batch of {BATCH}, must be [batch, C * H * W], here {needed}"
            )
        return replace(value, flat=True)

    def _dropout(self, node: fx.Node) -> _Value:
        if self._arguments(node, "input", "p", "training", "inplace").get("training", True):
            self._fail(node, "has training = True, must be False in eval mode (training=self.training)")
        return self._same(node)

    def _same(self, node: fx.Node) -> _Value:
        return self._value(node, _operand(node))

    # --- reading, naming, refusing
    # ---------------------------------------------------------------------------------------------------

    def _value(self, node: fx.Node, source: Any) -> _Value:
        """What an operand computes; refuses a tensor that was overwritten since."""
        value = self.values[source]
        if value.unknown:
            raise _UnknownError
        if value.tensor in self.overwritten:
            self._fail(
                node,
                f"reads '{value.tensor}', which {self._label(self.overwritten[value.tensor])} has"
                " overwritten; write a = a + b there",
            )
        return value

    def _read(self, node: fx.Node) -> _Value:
        """The first operand, which must be a whole tensor."""
        value = self._value(node, _operand(node))
        if value.is_view:
            self._fail(
                node,
                f"reads a part or a padded copy of '{value.tensor}', which can only be added to a"
                " convolution's output",
            )
        return value

    def _plane(self, node: fx.Node) -> _Value:
        """The first operand, which must be a whole tensor with planes."""
        return self._planes(node, self._read(node))

    def _planes(self, node: fx.Node, value: _Value | None = None) -> _Value:
        value = value or self._value(node, _operand(node))
        if value.flat:
            self._fail(node, f"reads '{value.tensor}' after it was flattened, needs [batch, C, H, W]")
        return value

    def _arguments(self, node: fx.Node, *names: str) -> dict[str, Any]:
        """Arguments by name, sizes computed, tensors as nodes."""
        plain = fx.node.map_arg(
            (node.args, node.kwargs),
            lambda n: n if isinstance(self.results[n], torch.Tensor) else self.results[n],
        )
        for name in node.kwargs:
            if name not in names:
                self._fail(
                    node, f"has an argument '{name}', which is not supported; supported: {', '.join(names)}"
                )
        return dict(zip(names, plain[0], strict=False)) | dict(plain[1])

    def _module(self, node: fx.Node) -> Any:
        return self.module.get_submodule(node.target)

    def _numbers(self, node: fx.Node, module: nn.Module, part: str) -> FloatArray:
        """A parameter or buffer as float64. Values that are not finite are refused."""
        values: FloatArray = getattr(module, part).detach().cpu().numpy().astype(np.float64)
        bad = np.argwhere(~np.isfinite(values))
        if len(bad):
            self._fail(node, f"has a {part} that is not finite: {values[tuple(bad[0])]} at {bad[0].tolist()}")
        return values

    def _new_name(self, node: fx.Node, name: str = "") -> str:
        """The module's path. For a function, `name`, with a number from the second one on."""
        if node.op == "call_module":
            if node.target in self.layers:
                self._fail(node, "is called twice, must be called once: a layer has weights of its own")
            return str(node.target)
        taken = {path for path, _ in self.module.named_modules()} | set(self.layers)
        return next(n for n in (name, *(f"{name}_{i}" for i in range(1, len(taken) + 2))) if n not in taken)

    def _output(self, node: fx.Node) -> str:
        """The name of the tensor that the module returns."""
        returned = node.args[0]
        if not isinstance(returned, fx.Node) or returned not in self.values:
            raise TatamiError(
                f"network '{self.name}': forward returns {type(self.results[node]).__name__}, must return one"
                " tensor"
            )
        value = self._value(node, returned)
        if value.is_view or value.tensor != next(reversed(self.layers), None):
            raise TatamiError(
                f"network '{self.name}': forward returns '{value.tensor}' or a part of it, must return the"
                " output of its last layer"
            )
        return value.tensor

    def _compare(self, network: FloatNetwork, output: str, images: torch.Tensor) -> None:
        expected = self.module(images.clone()).detach().cpu().numpy().astype(np.float64).reshape(BATCH, -1)
        tensors = evaluate_float(network, images.cpu().numpy().astype(np.float64))
        difference = np.abs(tensors[output].reshape(BATCH, -1) - expected).max()
        # If large terms cancel in an output, it is only as exact as the terms.
        limit = TOLERANCE * max(
            np.abs(expected).max(), 0.01 * max(np.abs(tensor).max() for tensor in tensors.values())
        )
        if not difference <= limit:
            raise TatamiError(
                f"network '{self.name}': the module's output differs by {difference:g} from its traced"
                f" layers', must be within {limit:g}: torch.fx does not see hooks, code that depends on"
                " values, and additions in place to what is read again"
            )

    def _label(self, node: fx.Node) -> str:
        if node.op == "call_module":
            return f"module '{node.target}' ({type(self._module(node)).__name__})"
        stack = list(node.meta.get("nn_module_stack") or ())
        where = f" in module '{stack[-1]}'" if stack and stack[-1] else ""
        if node.op == "get_attr":
            return f"parameter '{node.target}', used directly{where},"
        return (
            f"{'method' if node.op == 'call_method' else 'function'}"
            f" '{re.sub(r'_[0-9]+$', '', node.name)}'{where}"
        )

    def _fail(self, node: fx.Node, text: str) -> NoReturn:
        raise _RefusedError(f"{self._label(node)} {text}")

    def _refuse(self, node: fx.Node) -> NoReturn:
        label = self._label(node)
        kind = type(self._module(node)).__name__ if node.op == "call_module" else ""
        raise _RefusedError(f"{label} is not supported", kind or label, str(node.target) if kind else "")


_UNKNOWN = _Value("", unknown=True)
NAMED = 3  # modules of one kind that a refusal names


def _in_one_line(refused: Sequence[_RefusedError]) -> str:
    """All refusals in one line. Operations that are not supported come last, grouped by kind."""
    kinds: dict[str, list[_RefusedError]] = {}
    for error in refused:
        if error.kind:
            kinds.setdefault(error.kind, []).append(error)
    texts = []
    for kind, errors in kinds.items():
        if len(errors) == 1 or not errors[0].where:
            texts.append(str(errors[0]))
            continue
        named = ", ".join(f"'{error.where}'" for error in errors[:NAMED])
        more = f" and {len(errors) - NAMED} more" if len(errors) > NAMED else ""
        texts.append(f"modules {named}{more} ({kind}) are not supported")
    if texts:
        texts[-1] += f"; supported: {SUPPORTED}"
    return "; ".join([*(str(error) for error in refused if not error.kind), *texts])


def _dense(weight: FloatArray, groups: int) -> FloatArray:
    """[F, C / groups, k, k] as [F, C, k, k], with zeros outside of a filter's own group of channels."""
    filters, channels = weight.shape[:2]
    dense = np.zeros((filters, channels * groups, *weight.shape[2:]))
    for group, rows in enumerate(np.split(np.arange(filters), groups)):
        dense[rows, group * channels : (group + 1) * channels] = weight[rows]
    return dense


def _holds_tensor(value: Any) -> bool:
    return isinstance(value, torch.Tensor) or (
        isinstance(value, tuple | list) and any(_holds_tensor(part) for part in value)
    )


def _operand(node: fx.Node) -> fx.Node:
    """The tensor that a call works on."""
    return node.args[0] if node.args else node.kwargs["input"]


def _pair(value: Any) -> tuple[int, ...]:
    return (value, value) if isinstance(value, int) else tuple(value)


def _sides(value: Any) -> str:
    """3 as "3", (3, 3) as "3 x 3"."""
    return (
        " x ".join(map(str, value))
        if isinstance(value, Sequence) and not isinstance(value, str)
        else str(value)
    )


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
