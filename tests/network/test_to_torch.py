"""Networks of files back in real numbers and in torch, held against what the integers and the float network
give.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from pymodel.machine.errors import TatamiError
from pymodel.network.activations import RELU, SILU, Clamp, leaky_relu
from pymodel.network.dequantise import dequantised
from pymodel.network.float import (
    FloatAdd,
    FloatAveragePool,
    FloatConv,
    FloatLayer,
    FloatLinear,
    FloatNetwork,
    FloatPool,
    FloatResidual,
    blank_layer,
    evaluate_float,
)
from pymodel.network.from_torch import from_torch
from pymodel.network.integer import (
    INPUT,
    DepthToSpace,
    Gather,
    Linear,
    MaxPool,
    Network,
    SpaceToDepth,
    Upsample,
    Window,
    around,
)
from pymodel.network.model_file import ModelFile
from pymodel.network.quantised import RELU6, Draft
from pymodel.network.reference import evaluate
from pymodel.network.scale import Scale
from pymodel.network.to_torch import to_torch

RNG = np.random.default_rng(1)


def conv(name: str, source: str, filters: int, channels: int, k: int = 3, **more: Any) -> FloatConv:
    return FloatConv(
        name, source, RNG.normal(0, 0.3, (filters, channels, k, k)), RNG.normal(0, 1, filters), **more
    )


LAYERS: dict[str, tuple[FloatLayer, ...]] = {
    "convolutions": (
        conv("a.b-c", INPUT, 4, 4, padding=(0, 1, 2, 1), activation=Clamp(low=0.0)),
        conv("forward", "a.b-c", 4, 1, groups=4, padding=around(1), activation=Clamp(-0.5, 0.7)),
        conv("last", "forward", 6, 4, 1, stride=(2, 1), activation=SILU),
    ),
    "a residual": (
        conv("a", INPUT, 4, 4, padding=around(1), activation=leaky_relu(0.2)),
        conv("b", "a", 4, 4, padding=around(1), residual=FloatResidual("a", np.arange(4))),
    ),
    "sums": (
        FloatAdd("a", (INPUT,), RNG.normal(0, 1, (1, 4)), RNG.normal(0, 1, 4), Clamp(low=0.0)),
        FloatAdd("b", ("a", INPUT), np.ones((2, 4)), np.zeros(4)),
        FloatAdd("c", ("b", "a"), np.array([[1.0] * 4, [-1.0] * 4]), np.zeros(4)),
    ),
    "pools and numbers": (
        MaxPool("a", INPUT, (3, 3), (2, 2), (0, 0, 1, 1)),
        FloatAveragePool("b", "a", (3, 3), (1, 1), around(1), inside=True),
        FloatAveragePool("c", "b", (2, 2), (1, 1), (0, 1, 1, 0)),
        FloatLinear("d", "c", RNG.normal(0, 1, (5, 64)), np.ones(5), Clamp(low=0.0)),
        FloatLinear("e", "d", RNG.normal(0, 1, (3, 5)), np.ones(3)),
    ),
    "moved pixels": (
        Gather.concat("a", (INPUT, INPUT), (4, 4)),
        Gather("b", ("a",), np.zeros(4, int), np.array([3, 2, 0, 5])),
        DepthToSpace("c", "b", (2, 2)),
        Upsample("d", "c", (1, 2)),
        SpaceToDepth("e", "d", (1, 2)),
        Gather("f", ("e",), np.zeros(3, int), np.array([1, -1, 0])),
        FloatPool("g", "f"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("layers", LAYERS.values(), ids=LAYERS)
def test_torch_gives_what_the_float_network_gives(layers: tuple[FloatLayer, ...]) -> None:
    """And so does what is imported of the module again."""
    network = FloatNetwork("n", (4, 8, 8), layers)
    module, images = copy.deepcopy(to_torch(network)[0]), RNG.normal(0, 1, (2, 4, 8, 8))
    wanted = evaluate_float(network, images)[layers[-1].name].reshape(2, -1)
    with torch.no_grad():
        found = module(torch.from_numpy(images).float()).numpy()
    np.testing.assert_allclose(found, wanted, atol=1e-4)
    again = from_torch(module, network.input_shape, "again")
    back = evaluate_float(again, images)[again.layers[-1].name].reshape(2, -1)
    np.testing.assert_allclose(back, wanted, atol=1e-4)


def drawn_file(table: npt.NDArray[np.integer] | None = None) -> ModelFile:
    """A quantised network with zero points everywhere, ranges that nothing leaves, and a clamp; `table` is
    its last activation.
    """
    rng = np.random.default_rng(2)
    scale, wide = Scale(0.02, -30), Scale(0.08, 5)
    draft = Draft("n", (4, 8, 8), scale)

    def conv(name: str, source: str, channels: int, given: Scale, clamp: Clamp, groups: int = 1) -> None:
        weight = rng.integers(-127, 128, (4, channels, 3, 3))
        bias = rng.integers(-200, 200, 4)
        draft.conv(
            name, source, weight, np.full(4, 0.002), bias, given, clamp, padding=around(1), groups=groups
        )

    conv("first", INPUT, 4, wide, RELU6)
    conv("second", "first", 1, Scale(0.05, -128), RELU, 4)
    draft.sum("sum", ("second", "first"), Scale(0.15, -70))
    draft.average("mean", "sum", Window((3, 3), (2, 2), around(1)), Scale(0.15, -70), inside=True)
    draft.rescaled("again", "mean", Scale(0.2, 9))
    draft.mean("all", "again", Scale(0.1, 1))
    draft.linear(
        "last", "all", rng.integers(-127, 128, (3, 4)), np.full(3, 0.01), np.arange(3), Scale(0.5, 2)
    )
    network = draft.network("last")
    last = network.layers[-1]
    assert isinstance(last, Linear)
    layers = (*network.layers[:-1], replace(last, requant=replace(last.requant, table=table)))
    network = Network("n", network.input_shape, layers)
    return ModelFile(Path("n.tflite"), network, draft.scales, {"last": "its name"})


def test_integers_are_real_numbers_again() -> None:
    """Layer by layer, given the integers' own inputs: a step and a half for roundings and multipliers."""
    file = drawn_file()
    real = dequantised(file)
    images = RNG.integers(-128, 128, (3, 4, 8, 8)).astype(np.int8)
    tensors = {
        name: file.scales[name].real(values) for name, values in evaluate(file.network, images).items()
    }
    for layer in real.layers:
        step = file.scales[layer.name].step
        if isinstance(layer, FloatAdd) and len(layer.sources) > 1:
            parts = [tensors[s] * w[:, None, None] for s, w in zip(layer.sources, layer.weight, strict=True)]
            found = np.add.reduce(parts)
        else:
            (source,) = blank_layer(layer, real.shapes).reads()
            given = {"sources": (INPUT,)} if isinstance(layer, FloatAdd) else {"source": INPUT}
            alone = FloatNetwork("one", tensors[source].shape[1:], (replace(layer, **given),))
            found = evaluate_float(alone, tensors[source])[layer.name]
        assert np.abs(found - tensors[layer.name]).max() <= 1.5 * step, layer.name
    first, second, summed = real.layers[:3]
    assert isinstance(first, FloatConv)
    assert isinstance(first.activation, Clamp)
    assert (first.activation.low, round(first.activation.high, 1)) == (0, 6.0)
    assert isinstance(second, FloatConv)
    assert second.activation == RELU
    assert isinstance(summed, FloatAdd)
    assert (summed.weight == 1).all()
    assert not summed.bias.any()


def test_a_table_has_no_real_numbers() -> None:
    with pytest.raises(TatamiError, match=r"^n.tflite: 'its name': its activation is a table, of which"):
        dequantised(drawn_file(table=np.arange(-128, 128)))


def test_what_torch_lacks_is_named() -> None:
    layers = (MaxPool("m", INPUT, (4, 4), (1, 1), (0, 0, 3, 3)), FloatPool("p", "m"))
    with pytest.raises(TatamiError, match=r"^layer 'm': its padding is \(0, 0, 3, 3\), which pools of torch"):
        to_torch(FloatNetwork("n", (4, 8, 8), layers))
