"""Reads a program that `torch.export` wrote, a .pt2 file: its graph of ATen operators becomes a module that
`from_torch` imports.

Convolutions, fully connected layers and norms become modules again, at the path of their weight; the other
operators become the functions of torch that they come from. What is no such function stays an ATen operator,
and `from_torch` refuses it by its name, with everything else that it refuses.

A program has the size of its batch in it, often 1, where a view or an expansion names all sizes. The first
size of those becomes "the rest", so that images can be told from each other.
"""

from __future__ import annotations

import io
import operator
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional

from pymodel.machine.errors import TatamiError
from pymodel.network.from_torch import checked_shape, from_torch
from pymodel.network.integer import INPUT, Shape
from pymodel.network.model_file import FloatFile, parsed

HOST = ("softmax", "log_softmax", "_softmax", "_log_softmax")  # at the end
END = 1 << 62  # of a slice: to the last one


def from_export(path: Path, name: str, shape: Shape | None = None) -> FloatFile:
    """The network of a file. `shape` (channels, rows, columns) is that of its input, for a file that leaves
    it open. Raises `TatamiError`, one line that begins with the path, for a file that is damaged and for
    everything in it that is not supported.
    """
    program = parsed(path, "program of torch.export", lambda raw: torch.export.load(io.BytesIO(raw)))
    try:
        rebuilt = _Rebuilt(program, shape)
        network = from_torch(rebuilt.module(), rebuilt.shape, name)
    except TatamiError as error:
        said = str(error).removeprefix(f"network '{name}': ")
        raise TatamiError(f"{path}: {said}") from None
    origin = {INPUT: rebuilt.given}
    if not rebuilt.notes:  # else the program's output is what the host makes of it
        origin[network.layers[-1].name] = rebuilt.output
    return FloatFile(path, network, origin, tuple(rebuilt.notes))


class _Rebuilt:
    """A program's graph as one of modules and functions."""

    def __init__(self, program: Any, shape: Shape | None) -> None:
        self.program, self.notes = program, list[str]()
        signature = program.graph_signature
        if len(signature.user_inputs) != 1 or len(signature.user_outputs) != 1:
            raise TatamiError(
                f"it has {len(signature.user_inputs)} inputs and {len(signature.user_outputs)} outputs, must"
                " have 1 of each"
            )
        (self.given,), (self.output,) = signature.user_inputs, signature.user_outputs
        self.stored = {  # by placeholder
            **signature.inputs_to_parameters,
            **signature.inputs_to_buffers,
            **signature.inputs_to_lifted_tensor_constants,
        }
        nodes = {node.name: node for node in program.graph.nodes}
        value = nodes[self.given].meta["val"]
        if not isinstance(value, torch.Tensor) or value.ndim != 4:
            raise TatamiError(
                f"input '{self.given}' has {getattr(value, 'ndim', 0)} dimensions, must have 4: (batch,"
                " channels, rows, columns)"
            )
        known = [int(n) if isinstance(n, int) else 0 for n in value.shape]
        self.batch = known[0]  # 0: open
        if shape is None and 0 in known[1:]:
            said = ", ".join(str(n or "?") for n in known)
            raise TatamiError(
                f"input '{self.given}' has a shape that is left open ({said}); give it:"
                " SHAPE=channels,rows,columns"
            )
        self.shape = checked_shape(shape or known[1:], self.given)
        self.graph = fx.Graph()
        self.made: dict[fx.Node, Any] = {}  # what a node of the program became
        self.parts: dict[str, Any] = {}  # modules and tensors, by path

    def module(self) -> fx.GraphModule:
        for node in self.program.graph.nodes:
            if node.op == "placeholder":
                if node.name == self.given:
                    self.made[node] = self.graph.placeholder(node.name)
            elif node.op == "output":
                self.graph.output(fx.map_arg(node.args[0][0], self._made))
            elif node.op == "call_function":
                self.made[node] = self._call(node)
            else:
                raise TatamiError(f"'{node.name}' is a {node.op}, must be an operator")
        return fx.GraphModule(self.parts, self.graph)

    def _made(self, node: fx.Node) -> Any:
        """A node of the new graph. One of a stored tensor is made when it is first read."""
        if node not in self.made:
            path = self.stored[node.name].replace(".", "_")
            self.parts[path] = self._tensor(node)
            self.made[node] = self.graph.get_attr(path)
        return self.made[node]

    def _tensor(self, node: Any) -> torch.Tensor | None:
        """A stored tensor that an operator is given, None for none."""
        if node is None:
            return None
        if not isinstance(node, fx.Node) or node.name not in self.stored:
            raise TatamiError(f"'{node}' is a weight that is computed, must be stored")
        path = self.stored[node.name]
        found = self.program.state_dict.get(path, self.program.constants.get(path))
        if not isinstance(found, torch.Tensor):
            raise TatamiError(f"tensor '{path}' is not there")
        return found.detach()

    def _call(self, node: fx.Node) -> Any:
        target: Any = node.target
        name = getattr(getattr(target, "overloadpacket", target), "__name__", str(target))
        given = _arguments(node)
        make = _MADE.get(name)
        if make is not None:
            return make(self, node, given)
        if name in HOST and all(user.op == "output" for user in node.users):
            self.notes.append(f"left to the host: {name.strip('_')}")
            return self._made(node.args[0])
        args, keywords = fx.map_arg((node.args, dict(node.kwargs)), self._made)
        function = next((getattr(room, name) for room in (functional, torch) if hasattr(room, name)), None)
        if not isinstance(target, torch._ops.OpOverload):  # of Python's own: an element of several results
            function = target
        elif function is None and hasattr(torch.Tensor, name):
            return self.graph.call_method(name, args, keywords)
        return self.graph.call_function(function or target, args, keywords)

    # Operators that are not called as the function of their name

    def _weighted(self, node: fx.Node, module: nn.Module, *places: tuple[str, Any]) -> Any:
        """`module` with the stored tensors `places`, at the path of the first."""
        for name, stored in places:
            tensor = self._tensor(stored)
            if tensor is None:
                continue
            kind = nn.Parameter if isinstance(getattr(module, name, None), nn.Parameter) else lambda one: one
            setattr(module, name, kind(tensor))
        first = next(stored for _, stored in places if stored is not None)
        whole = self.stored[first.name]
        path = whole.rpartition(".")[0] or whole
        self.parts[path] = module
        return self.graph.call_module(path, (self._made(node.args[0]),))

    def _conv(self, node: fx.Node, given: dict[str, Any]) -> Any:
        weight = self._tensor(given["weight"])
        if weight is None or weight.ndim != 4 or given.get("transposed"):
            raise TatamiError(f"'{node.name}' is transposed, or its weight has not four dimensions")
        groups = given.get("groups", 1)
        module = nn.Conv2d(
            weight.shape[1] * groups,
            len(weight),
            tuple(weight.shape[2:]),
            _sizes(given.get("stride", 1)),
            given["padding"] if isinstance(given.get("padding"), str) else _sizes(given.get("padding", 0)),
            _sizes(given.get("dilation", 1)),
            groups,
            bias=given.get("bias") is not None,
        )
        return self._weighted(node, module, ("weight", given["weight"]), ("bias", given.get("bias")))

    def _linear(self, node: fx.Node, given: dict[str, Any]) -> Any:
        weight = self._tensor(given["weight"])
        assert weight is not None  # the schema of the operator
        module = nn.Linear(weight.shape[1], len(weight), bias=given.get("bias") is not None)
        return self._weighted(node, module, ("weight", given["weight"]), ("bias", given.get("bias")))

    def _batch_norm(self, node: fx.Node, given: dict[str, Any]) -> Any:
        if given.get("training"):
            raise TatamiError(f"'{node.name}' is a batch norm in training: export the module in eval mode")
        mean = self._tensor(given["running_mean"])
        if mean is None:
            raise TatamiError(f"'{node.name}' is a batch norm without running statistics")
        kind = nn.BatchNorm1d if node.args[0].meta["val"].ndim == 2 else nn.BatchNorm2d
        module = kind(len(mean), eps=given["eps"], affine=given.get("weight") is not None)
        return self._weighted(
            node,
            module.eval(),
            *((name, given.get(name)) for name in ("weight", "bias", "running_mean", "running_var")),
        )

    def _prelu(self, node: fx.Node, given: dict[str, Any]) -> Any:
        weight = self._tensor(given["weight"])
        assert weight is not None  # the schema of the operator
        return self._weighted(node, nn.PReLU(weight.numel()), ("weight", given["weight"]))

    def _same(self, node: fx.Node, given: dict[str, Any]) -> Any:  # noqa: ARG002
        return self._made(node.args[0])

    def _sized(self, node: fx.Node, given: dict[str, Any]) -> Any:  # noqa: ARG002
        """A view or an expansion, whose sizes the program has, the first of them the batch."""
        source, sizes = node.args[0], list(node.meta["val"].shape)
        before = source.meta["val"].shape
        if all(isinstance(n, int) for n in sizes[1:]) and (not self.batch or sizes[0] == before[0]):
            sizes[0] = -1
        else:
            sizes = fx.map_arg(node.args[1], self._made)
        name = "expand" if "expand" in str(node.target) else "reshape"
        return self.graph.call_method(name, (self._made(source), *sizes))

    def _slice(self, node: fx.Node, given: dict[str, Any]) -> Any:
        start, end = given.get("start"), given.get("end")
        part = slice(start, None if end is None or end > END else end, given.get("step", 1))
        return self._picked(node, given.get("dim", 0), part)

    def _select(self, node: fx.Node, given: dict[str, Any]) -> Any:
        return self._picked(node, given["dim"], given["index"])

    def _picked(self, node: fx.Node, dim: int, part: Any) -> Any:
        source: Any = node.args[0]
        before = (slice(None),) * (dim % source.meta["val"].ndim)
        return self.graph.call_function(operator.getitem, (self._made(source), (*before, part)))

    def _index(self, node: fx.Node, given: dict[str, Any]) -> Any:
        places = tuple(slice(None) if one is None else self._made(one) for one in given["indices"])
        return self.graph.call_function(operator.getitem, (self._made(node.args[0]), places))

    def _upsample(self, node: fx.Node, given: dict[str, Any]) -> Any:
        scale = given.get("scale_factors")
        return self.graph.call_function(
            functional.interpolate,
            (self._made(node.args[0]),),
            {"scale_factor": scale} if scale else {"size": given.get("output_size")},
        )

    def _elu(self, node: fx.Node, given: dict[str, Any]) -> Any:
        if given.get("scale", 1) != 1 or given.get("input_scale", 1) != 1:
            raise TatamiError(f"'{node.name}' is an elu with scales, must have none")
        return self.graph.call_function(functional.elu, (self._made(node.args[0]), given.get("alpha", 1.0)))

    def _pad(self, node: fx.Node, given: dict[str, Any]) -> Any:
        padding = ("constant", given.get("value", 0))
        return self.graph.call_function(functional.pad, (self._made(node.args[0]), given["pad"], *padding))

    def _split(self, node: fx.Node, given: dict[str, Any]) -> Any:
        sizes = given["split_sizes"], given.get("dim", 0)
        return self.graph.call_function(torch.split, (self._made(node.args[0]), *sizes))


def _arguments(node: fx.Node) -> dict[str, Any]:
    """The arguments by the names of the operator's schema."""
    schema = getattr(node.target, "_schema", None)
    names = [one.name for one in schema.arguments] if schema is not None else []
    return {**dict(zip(names, node.args, strict=False)), **node.kwargs}


def _sizes(value: Any) -> Any:
    """One number, or a pair; the program has lists."""
    return tuple(value) * (2 if len(value) == 1 else 1) if isinstance(value, list | tuple) else value


_MADE: dict[str, Callable[[_Rebuilt, fx.Node, dict[str, Any]], Any]] = {
    **dict.fromkeys(("conv2d", "convolution"), _Rebuilt._conv),
    "linear": _Rebuilt._linear,
    "batch_norm": _Rebuilt._batch_norm,
    "prelu": _Rebuilt._prelu,
    **dict.fromkeys(
        ("dropout", "feature_dropout", "alias", "clone", "detach", "contiguous", "_to_copy", "to"),
        _Rebuilt._same,
    ),
    **dict.fromkeys(("view", "reshape", "_unsafe_view", "expand"), _Rebuilt._sized),
    "slice": _Rebuilt._slice,
    "select": _Rebuilt._select,
    "index": _Rebuilt._index,
    "upsample_nearest2d": _Rebuilt._upsample,
    "elu": _Rebuilt._elu,
    "constant_pad_nd": _Rebuilt._pad,
    "split_with_sizes": _Rebuilt._split,
}
