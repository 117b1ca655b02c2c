"""Reads an ONNX model: a float network, or one that is quantised to 8 bits (QuantizeLinear and
DequantizeLinear, or the operators QLinear...).

A float network becomes a `FloatNetwork`. It is quantised afterwards, as one of torch is. A quantised one
becomes an integer network with the file's own scales, zero points and weights; nothing is quantised again.

The graph is walked once. Whatever depends on constants alone is computed by the package's own reference
evaluator. Operators that only move values (reshape, transpose, slice, ...) move numbers of values; where a
layer reads the result, these must be channels of a tensor in some order, or blocks of pixels as channels.
Batch norms, factors and clamps become part of the layer before. QuantizeLinear gives a layer its scale, and
DequantizeLinear is nothing at all. Softmax at the end is left to the host.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx

from pymodel.machine.errors import TatamiError
from pymodel.network.activations import Curve
from pymodel.network.float import (
    FloatAdd,
    FloatAveragePool,
    FloatComputed,
    FloatConv,
    FloatLayer,
    FloatLinear,
    FloatNetwork,
    FloatPool,
    FloatResidual,
    blank_layer,
)
from pymodel.network.integer import (
    INPUT,
    NOTHING,
    Gather,
    MaxPool,
    Shape,
    View,
)
from pymodel.network.model_file import (
    FloatFile,
    ModelFile,
    Refusals,
    RefusedError,
    parsed,
)
from pymodel.network.onnx_graph import Constant, Value, array_of, parse_model
from pymodel.network.onnx_nodes import SUPPORTED, Nodes, copies
from pymodel.network.quantised import FREE, Draft

OLDEST = 9  # opset
# Types of the input that are read.
_INPUTS = {
    onnx.TensorProto.FLOAT: "FLOAT",
    onnx.TensorProto.DOUBLE: "FLOAT",
    onnx.TensorProto.FLOAT16: "FLOAT",
    onnx.TensorProto.INT8: "INT8",
    onnx.TensorProto.UINT8: "UINT8",
}


def from_onnx(
    path: Path, name: str, shape: Shape | None = None, skip: str | None = None
) -> FloatFile | ModelFile:
    """The network of a file. `shape` (channels, rows, columns) replaces that of its input, for a file that
    leaves it open. `skip`, of `SKIPPABLE`: an operator whose results are taken to be its inputs; notes say
    so.

    Raises `TatamiError`, one line that begins with the path, for a file that is damaged and for everything in
    it that is not supported, all at once, each with its node.
    """
    model = parsed(path, "ONNX", lambda raw: parse_model(raw, path))
    return _Importer(path, model, name, shape, skip).run()


class _Importer(Nodes):
    """The walk, and the network at its end."""

    def run(self) -> FloatFile | ModelFile:
        self.refusals = Refusals(self.path, SUPPORTED)
        graph = self.model.graph
        opset = {one.domain: one.version for one in self.model.opset_import}
        version = opset.get("", opset.get("ai.onnx", 0))
        newest = onnx.defs.onnx_opset_version()
        if not OLDEST <= version <= newest:
            raise TatamiError(f"{self.path}: opset is {version}, must be in {OLDEST}..{newest}")
        try:
            for tensor in graph.initializer:
                self.constants[tensor.name] = Constant(array_of(tensor))
            if graph.sparse_initializer:
                raise TatamiError(f"tensor '{graph.sparse_initializer[0].values.name}' is stored sparse")
            for node in graph.node:
                for name in node.input:
                    self.readers.setdefault(name, []).append(node)
            for one in graph.output:
                self.readers.setdefault(one.name, []).append(None)
            self._begin()
        except TatamiError as error:
            raise TatamiError(f"{self.path}: {error}") from None
        for node in graph.node:
            self.step(node)
        self.refusals.check()
        if len(graph.output) != 1:
            named = ", ".join(f"'{one.name}'" for one in graph.output)
            raise TatamiError(f"{self.path}: it has {len(graph.output)} outputs ({named}), must have 1")
        if graph.output[0].name not in self.values:
            raise TatamiError(f"{self.path}: no node computes '{graph.output[0].name}' from the input")
        try:
            return self._finish(self.values[graph.output[0].name])
        except RefusedError:
            raise
        except TatamiError as error:
            raise TatamiError(f"{self.path}: {' '.join(str(error).split())}") from None

    def _begin(self) -> None:
        """The network's input."""
        inputs = [one for one in self.model.graph.input if one.name not in self.constants]
        if len(inputs) != 1:
            named = ", ".join(f"'{one.name}'" for one in inputs)
            raise TatamiError(f"it has {len(inputs)} inputs ({named}), must have 1")
        name, kind = inputs[0].name, inputs[0].type.tensor_type
        dims = [d.dim_value if d.HasField("dim_value") else 0 for d in kind.shape.dim]
        label = f"input '{name}'"
        if not 2 <= len(dims) <= 4:
            raise TatamiError(
                f"{label} has {len(dims)} dimensions, must have 4: (batch, channels, rows, columns), 2 or 3"
            )
        # TensorFlow's exporters turn the image first
        turned = [
            self._attributes(node).get("perm") for node in self.readers.get(name, []) if node is not None
        ]
        last = len(dims) == 4 and turned and all(perm == [0, 3, 1, 2] for perm in turned)
        order = (3, 1, 2) if last else (1, 2, 3)
        known = [*(dims[n] for n in order if n < len(dims)), 1, 1]
        shape = self.given or (known[0], known[1], known[2])
        if min(shape) < 1:
            raise TatamiError(
                f"{label} has a shape that is left open ({', '.join(str(d or '?') for d in dims)}); give it:"
                " SHAPE=channels,rows,columns"
            )
        self.batch, self.input = dims[0], name
        self.input_type = _INPUTS.get(kind.elem_type, "")
        if not self.input_type:
            raise TatamiError(f"{label} is of type {kind.elem_type}, must be float, int8 or uint8")
        found = Value(INPUT, (1, *shape[: len(dims) - 1]))
        if last:
            self.notes.append("rows, columns, channels become channels, rows, columns at the input")
            numbers = np.arange(math.prod(shape), dtype=np.int32).reshape(1, *shape)
            found = Value(INPUT, (1, shape[1], shape[2], shape[0]), numbers.transpose(0, 2, 3, 1))
        self._note(INPUT, shape)
        self.values[name] = found
        self.origin[INPUT] = name

    # The network

    def _finish(self, value: Value) -> FloatFile | ModelFile:
        if value.host:
            self.notes.append(f"left to the host: {value.host}")
        node = self.model.graph.node[-1]
        if value.pending != NOTHING:
            value = self._padded(value)
            self.origin[value.name] = self.model.graph.output[0].name
        output = value.name
        if value.order is not None and value.order.size == math.prod(self.shapes[output]):
            self.notes.append("left to the host: the order of the output's values")
        elif value.order is not None:
            output = self._plane(node, value)
        quantised = bool(self.scales)
        if not quantised and self.input_type != "FLOAT":
            raise TatamiError(f"its input is {self.input_type} and nothing in it is quantised")
        if output == INPUT or isinstance(self.layers[output], View):
            channels = self.shapes[output][0]
            copy = FloatAdd(
                self._fresh(node, "output"), (output,), np.ones((1, channels)), np.zeros(channels)
            )
            scale = self._scale_of(output)
            output = self._add(copy)
            if not quantised:
                self.origin[output] = self.model.graph.output[0].name
            if scale is not None:
                self.scales[output] = scale
        if quantised:
            return self._integers(output)
        layers, renamed = _attached(self._kept(output))
        self.origin |= {layer: self.origin[added] for added, layer in renamed.items()}
        names = {INPUT, *(layer.name for layer in layers)}
        origin = {name: one for name, one in self.origin.items() if name in names}
        network = FloatNetwork(self.name, self.shapes[INPUT], tuple(layers))
        return FloatFile(self.path, network, origin, tuple(self.notes))

    def _kept(self, output: str) -> list[FloatLayer]:
        """The layers that the output depends on, in order."""
        needed, kept = {output}, []
        for name, layer in reversed(self.layers.items()):
            if name in needed:
                needed.update(blank_layer(layer, self.shapes).reads())
                kept.append(layer)
        return kept[::-1]

    def _integers(self, output: str) -> ModelFile:
        if INPUT not in self.scales:
            raise TatamiError("its input is not quantised, other tensors are: all must be")
        draft = Draft(self.name, self.shapes[INPUT], self.scales[INPUT])
        names = {INPUT: INPUT}  # of tensors, in the network
        layers = self._kept(output)
        self._reads = Counter(one for layer in layers for one in _reads(layer))
        for layer in layers:
            where = f"'{self.origin.get(layer.name, layer.name)}'"
            if isinstance(layer, FloatComputed) and layer.name not in self.scales:
                self.refusals.add("its result is not quantised; all results must be", where)
            if isinstance(layer, FloatConv | FloatLinear) and layer.name not in self.weights:
                self.refusals.add("its weights are not quantised", where)
        self.refusals.check()
        for layer in layers:
            try:
                names[layer.name] = self._integer(draft, layer, names)
            except TatamiError as error:
                raise TatamiError(f"'{self.origin.get(layer.name, layer.name)}': {error}") from None
        network = draft.network(names[output])
        found = {names[name]: tensor for name, tensor in self.origin.items() if name in names}
        kept = {INPUT, *(layer.name for layer in network.layers)}
        return ModelFile(
            self.path,
            network,
            {name: draft.scales[name] for name in (INPUT, *(layer.name for layer in network.layers))},
            {name: tensor for name, tensor in found.items() if name in kept},
            tuple(self.notes),
            self.input_type,
        )

    def _integer(self, draft: Draft, layer: FloatLayer, names: Mapping[str, str]) -> str:
        """The layer in the network's own scales."""
        name, scale = layer.name, self.scales.get(layer.name)
        if isinstance(layer, MaxPool):
            found = draft.maximum(name, names[layer.source], layer.window)
        elif isinstance(layer, Gather) and len(layer.sources) > 1:
            sources = [names[one] for one in layer.sources]
            every = {draft.scales[one] for one in sources}
            if scale is None and len(every) > 1:
                raise TatamiError("tensors of different scales are put together, and the result has none")
            return draft.concat(name, sources, scale or every.pop())
        elif isinstance(layer, Gather):
            found = draft.channels(name, names[layer.sources[0]], layer.channel)
        elif isinstance(layer, View):
            source = names[layer.source]
            found = draft.add(replace(layer, source=source), draft.scales[source])
        else:
            return self._computed(draft, layer, names)
        if scale is None or scale == draft.scales[found]:
            return found
        return draft.rescaled(draft.fresh(f"{name}.scale"), found, scale)

    def _computed(self, draft: Draft, layer: FloatComputed, names: Mapping[str, str]) -> str:
        name, scale, clamp = layer.name, self.scales[layer.name], layer.activation or FREE
        if isinstance(clamp, Curve):
            if not isinstance(layer, FloatAdd) or not copies(layer):
                raise TatamiError(f"{clamp.name} is taken of sums that are not quantised")
            source = names[layer.sources[0]]
            alone = self._reads[layer.sources[0]] == 1
            return draft.looked_up(name, source, clamp, scale, own=alone)
        if isinstance(layer, FloatPool):
            return draft.mean(name, names[layer.source], scale, clamp)
        if isinstance(layer, FloatAveragePool):
            return draft.average(name, names[layer.source], layer.window, scale, clamp, layer.inside)
        if isinstance(layer, FloatAdd):
            sources = [names[one] for one in layer.sources]
            if copies(layer):
                return draft.rescaled(name, sources[0], scale, clamp)
            if len(sources) == 1:
                return draft.scaled(name, sources[0], layer.weight[0], layer.bias, scale, clamp)
            signs = layer.weight[:, 0].astype(int)
            if layer.bias.any() or not np.all(np.abs(layer.weight) == 1):
                raise TatamiError("a sum of tensors with factors or a bias is not supported")
            return draft.sum(name, sources, scale, clamp, [int(one) for one in signs])
        weight, steps = self.weights[name]
        source = names[layer.source]
        bias = np.rint(layer.bias / (draft.scales[source].step * np.where(steps == 0, 1, steps))).astype(
            np.int64
        )
        if isinstance(layer, FloatLinear):
            return draft.linear(name, source, weight, steps, bias, scale, clamp)
        return draft.conv(
            name, source, weight, steps, bias, scale, clamp,
            layer.stride, layer.padding, layer.dilation, layer.groups,
        )  # fmt: skip


def _reads(layer: FloatLayer) -> tuple[str, ...]:
    """The tensors that a layer without a residual reads."""
    return layer.sources if isinstance(layer, FloatAdd | Gather) else (layer.source,)


def _attached(layers: Sequence[FloatLayer]) -> tuple[list[FloatLayer], dict[str, str]]:
    """Sums of two tensors become residuals of the convolution that gives one of them, if nothing else reads
    it: they then take no layer of their own. Returns the layers, and which one a sum became.
    """
    found = {layer.name: layer for layer in layers}
    readers = Counter(one for layer in layers for one in _reads(layer))
    number = {layer.name: n for n, layer in enumerate(layers)}
    renamed: dict[str, str] = {}
    for layer in layers:
        if not isinstance(layer, FloatAdd) or len(set(layer.sources)) != 2 or not np.all(layer.weight == 1):
            continue
        # of two, the one that runs later: the other is there by then
        last, other = sorted(
            (renamed.get(one, one) for one in layer.sources), key=lambda one: number.get(one, -1)
        )[::-1]
        conv = found.get(last)
        if (
            not isinstance(conv, FloatConv)
            or conv.residual is not None
            or conv.activation is not None
            or readers[last] != 1
        ):
            continue
        residual = FloatResidual(other, np.arange(len(conv.bias)))
        found[last] = replace(
            conv, residual=residual, bias=conv.bias + layer.bias, activation=layer.activation
        )
        renamed[layer.name] = last
        readers[last] = readers[layer.name]
        del found[layer.name]
    return [_reading(layer, renamed) for layer in found.values()], renamed


def _reading(layer: FloatLayer, renamed: Mapping[str, str]) -> FloatLayer:
    """The layer, with other names of the tensors that it reads."""
    if isinstance(layer, FloatAdd | Gather):
        return replace(layer, sources=tuple(renamed.get(one, one) for one in layer.sources))
    changed = replace(layer, source=renamed.get(layer.source, layer.source))
    if isinstance(changed, FloatConv) and changed.residual is not None:
        other = changed.residual.source
        return replace(changed, residual=replace(changed.residual, source=renamed.get(other, other)))
    return changed
