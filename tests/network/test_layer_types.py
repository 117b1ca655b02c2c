"""Each type of layer, from the integer network through the file and the compiler to the bytes of the
machine.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pymodel.compiler.compile import clip_weights, compile_fitted
from pymodel.machine.config import CONFIGS, ArrayConfig
from pymodel.machine.errors import TatamiError
from pymodel.network import network_file
from pymodel.network.accuracy import tensors_int8
from pymodel.network.integer import (
    INPUT,
    KINDS,
    Add,
    AveragePool,
    Conv,
    DepthToSpace,
    Gather,
    GlobalPool,
    Layer,
    Linear,
    MaxPool,
    Network,
    Requant,
    Residual,
    SpaceToDepth,
    Upsample,
    around,
)
from pymodel.network.reference import evaluate
from tests.support import assert_agrees

SHAPE = (6, 9, 10)


# what becomes of -128 to 127
SIGMOID = np.rint(255 / (1 + np.exp(-np.arange(-128, 128) / 20)) - 128).astype(np.int64)
LEAKY = np.where(np.arange(-128, 128) < 0, np.arange(-128, 128) // 8, np.arange(-128, 128))


def requant(filters: int, inputs: int, zero: int = 0, low: int = -128, high: int = 127) -> Requant:
    """Brings a sum of so many products near the range of a pixel."""
    shift = 12 + int(np.log2(inputs) / 2)
    ramp = np.arange(filters)
    return Requant(90 * ramp - 500, 40 + ramp, np.full(filters, shift), zero, low, high)


def weight(*shape: int) -> np.ndarray:
    rng = np.random.default_rng(shape)
    return np.where(rng.random(shape) < 0.6, rng.integers(-127, 128, shape), 0)


def conv(
    name: str, source: str, channels: int, filters: int, size: tuple[int, int], **options: object
) -> Conv:
    groups = int(str(options.get("groups", 1)))
    kernel = weight(filters, channels // groups, *size)
    scale = requant(filters, kernel[0].size)
    return Conv(name, source, kernel, scale, **options)  # type: ignore[arg-type]


def last(source: str, channels: int) -> Conv:
    """Reads a tensor with a window, because a network does not end in a layer that only names pixels."""
    return conv("last", source, channels, 5, (3, 3), padding=around(1))


NETWORKS: dict[str, Callable[[], tuple[Layer, ...]]] = {
    "Conv": lambda: (conv("c", INPUT, 6, 5, (3, 3), stride=(2, 2), padding=around(1)),),
    "Conv with a residual": lambda: (
        conv("c", INPUT, 6, 7, (3, 3), padding=around(1)),
        conv(
            "d",
            "c",
            7,
            7,
            (3, 3),
            padding=around(1),
            residual=Residual("c", np.arange(-1, 6), np.full(7, 300)),
        ),
    ),
    "Conv 7 x 7, stride 2, padding as TensorFlow's": lambda: (
        conv("c", INPUT, 6, 5, (7, 7), stride=(2, 2), padding=(2, 2, 3, 3), pad=-128),
    ),
    "Conv 10 x 4": lambda: (
        conv("c", INPUT, 6, 5, (10, 4), stride=(2, 2), padding=(4, 1, 5, 1), pad=83),
        conv("d", "c", 5, 9, (3, 3), padding=around(1)),
    ),
    "Conv 11 x 11, stride 4": lambda: (conv("c", INPUT, 6, 5, (11, 11), stride=(4, 4), padding=around(5)),),
    "Conv with strides 1 and 3, dilated": lambda: (
        conv("c", INPUT, 6, 5, (2, 3), stride=(1, 3), padding=(1, 2, 0, 1), dilation=(3, 2)),
        last("c", 5),
    ),
    "depthwise": lambda: (
        conv("c", INPUT, 6, 6, (3, 3), padding=around(1), groups=6),
        conv("d", "c", 6, 33, (1, 1)),
        conv("e", "d", 33, 33, (3, 3), stride=(2, 2), padding=(0, 0, 1, 1), groups=33),
        conv("f", "e", 33, 66, (3, 3), padding=around(1), groups=33),
    ),
    "groups with a residual": lambda: (
        conv(
            "c",
            INPUT,
            6,
            40,
            (3, 3),
            padding=around(1),
            groups=2,
            residual=Residual(INPUT, np.arange(40) % 7 - 1, np.arange(40) * 7 - 140),
        ),
    ),
    "zero point and clamps": lambda: (
        Conv("c", INPUT, weight(7, 6, 3, 3), requant(7, 54, 30, 30, 90), padding=around(1), pad=-7),
        Conv("d", "c", weight(7, 7, 3, 3), requant(7, 63, -128, -128, 40), padding=around(1), pad=30),
        last("d", 7),
    ),
    "activation tables": lambda: (
        Conv("c", INPUT, weight(7, 6, 3, 3), replace(requant(7, 54), table=SIGMOID), padding=around(1)),
        Add("a", ("c", "c"), weight(2, 7), replace(requant(7, 2), table=LEAKY)),
        Conv("d", "a", weight(9, 7, 2, 2), replace(requant(9, 28, 3), table=SIGMOID), stride=(2, 2)),
        MaxPool("m", "d", (2, 2)),
    ),
    "AveragePool": lambda: (
        AveragePool("a", INPUT, requant(6, 9), (3, 3), (2, 2), around(1), pad=5),
        AveragePool("b", "a", requant(6, 8), (2, 4)),
    ),
    "AveragePool of the pixels inside": lambda: (
        AveragePool("a", INPUT, requant(6, 36), (3, 3), (1, 1), around(1), whole=36),
        AveragePool("b", "a", requant(6, 36), (3, 2), (2, 1), (1, 0, 1, 1), whole=12),
        last("b", 6),
    ),
    "MaxPool 2 x 2": lambda: (MaxPool("m", INPUT, (2, 2), (2, 2)), last("m", 6)),
    "MaxPool 3 x 3, strides and padding": lambda: (
        MaxPool("m", INPUT, (3, 3), (2, 2), (0, 0, 1, 1)),
        MaxPool("n", "m", (3, 2), (1, 1), (1, 0, 1, 1)),
        MaxPool("o", "n", (2, 2), dilation=(2, 1)),
    ),
    "MaxPool of many channels": lambda: (
        conv("c", INPUT, 6, 35, (1, 1)),
        MaxPool("m", "c", (3, 3), (2, 2), around(1)),
    ),
    "GlobalPool": lambda: (conv("c", INPUT, 6, 20, (1, 1)), GlobalPool("p", "c", requant(20, 90))),
    "Linear": lambda: (Linear("l", INPUT, weight(7, 540), requant(7, 540)),),
    "Add": lambda: (
        conv("c", INPUT, 6, 6, (3, 3), padding=around(1)),
        Add("a", (INPUT, "c", INPUT), weight(3, 6) * 5, requant(6, 300, zero=9)),
    ),
    "Add of nothing": lambda: (
        Add("a", (INPUT,), np.zeros((1, 6), int), requant(6, 1)),
        Add("b", ("a", INPUT), np.array([[1] * 6, [0] * 6]), requant(6, 1)),
    ),
    "Gather: of larger pixels and smaller ones": lambda: (
        conv("c", INPUT, 6, 4, (3, 3), stride=(2, 2), padding=(1, 1, 0, 1)),
        Upsample("u", "c", (2, 2)),
        conv("d", INPUT, 6, 5, (2, 1)),
        Gather.concat("g", ("u", "d"), (4, 5)),
        last("g", 9),
        MaxPool("m", "g", (3, 3), (1, 1), around(1)),
        Add("e", ("m", "g"), weight(2, 9), requant(9, 2)),
    ),
    "Gather: concat": lambda: (
        conv("c", INPUT, 6, 9, (3, 3), padding=around(1)),
        Gather.concat("g", ("c", INPUT, "c"), (9, 6, 9)),
        last("g", 24),
    ),
    "Gather: split, shuffle, zeros": lambda: (
        conv("c", INPUT, 6, 9, (3, 3), padding=around(1)),
        Gather("g", ("c", INPUT), np.array([0, 1, 0, 1, 0]), np.array([8, 5, -1, 0, 3])),
        conv("d", "g", 5, 5, (3, 3), padding=around(1), residual=Residual("g", np.arange(5), np.full(5, 99))),
        Add("e", ("g", "d"), weight(2, 5), requant(5, 2)),
        Linear("l", "g", weight(3, 450), requant(3, 450)),
    ),
    "Upsample": lambda: (
        conv("c", INPUT, 6, 4, (3, 3), stride=(2, 2), padding=around(1)),
        Upsample("u", "c", (2, 3)),
        MaxPool("m", "u", (3, 3), (1, 1), around(1)),
    ),
    "DepthToSpace": lambda: (
        conv("c", INPUT, 6, 12, (3, 3), padding=around(1)),
        DepthToSpace("d", "c", (2, 2)),
        conv("e", "d", 3, 4, (5, 5), stride=(2, 1), padding=around(2), pad=7),
    ),
    "SpaceToDepth": lambda: (
        SpaceToDepth("s", INPUT, (3, 2)),
        last("s", 36),
        MaxPool("m", "s", (2, 2)),
        Linear("l", "s", weight(3, 540), requant(3, 540)),
    ),
    "a U-Net": lambda: (
        conv("a", INPUT, 6, 8, (3, 3), padding=around(1)),
        MaxPool("half", "a", (2, 2), (2, 2), (0, 0, 1, 0)),
        conv("b", "half", 8, 17, (3, 3), padding=around(1)),
        Upsample("up", "b", (2, 2)),
        conv("cut", "up", 17, 8, (2, 1)),
        Gather.concat("both", ("a", "cut"), (8, 8)),
        last("both", 16),
    ),
}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@pytest.mark.parametrize("layers", NETWORKS.values(), ids=NETWORKS)
def test_the_machine_gives_every_byte(
    layers: Callable[[], tuple[Layer, ...]], config: ArrayConfig, tmp_path: Path
) -> None:
    whole = clip_weights(Network("layers", SHAPE, layers()), config)
    pixels = np.random.default_rng(1).integers(-128, 128, (2, *SHAPE)).astype(np.int8)
    pixels[1] = np.where(pixels[1] < 0, -128, 127)
    file = tmp_path / "network.npz"
    network_file.save(network_file.StoredNetwork(whole, pixels, np.zeros(0, np.uint8), {}), file)
    again = network_file.load(file).network
    for packing in ("tight", "dense"):
        assert_agrees(again, compile_fitted(whole, config, packing=packing), pixels, f"{packing}, ")


@pytest.mark.parametrize("layers", NETWORKS.values(), ids=NETWORKS)
def test_accuracy_is_measured_on_the_same_bytes(layers: Callable[[], tuple[Layer, ...]]) -> None:
    network = Network("layers", SHAPE, layers())
    images = np.random.default_rng(2).integers(-128, 128, (3, *SHAPE)).astype(np.int8)
    found = tensors_int8(network, images)
    for name, tensor in evaluate(network, images).items():
        np.testing.assert_array_equal(found[name], tensor, err_msg=name)


def test_every_type_is_met() -> None:
    assert {type(layer) for layers in NETWORKS.values() for layer in layers()} == set(KINDS)


REFUSED: dict[str, tuple[Callable[[], tuple[Layer, ...]], str]] = {
    "zeros below a maximum": (
        lambda: (
            Gather("g", (INPUT,), np.zeros(2, int), np.array([-1, 0])),
            MaxPool("m", "g", (2, 2)),
        ),
        "layer 'm': channel 0 of 'g' is of zeros, which needs a padding of zeros",
    ),
    "padding larger than the source": (
        lambda: (conv("c", INPUT, 6, 5, (11, 1), padding=(10, 0, 10, 0), pad=3),),
        "layer 'c': its padding makes the output so much larger",
    ),
    "reach": (
        lambda: (conv("c", INPUT, 6, 5, (3, 1), padding=(18, 0, 0, 0), dilation=(9, 1)),),
        "layer 'c': a tap reaches 18 pixels of a plane over its edge, must be at most 15",
    ),
    "a view at the end": (
        lambda: (Upsample("u", INPUT, (2, 2)),),
        "layer 'u': the last layer only names pixels of others",
    ),
    "several tensors in a block": (
        lambda: (
            conv("c", INPUT, 6, 6, (1, 1)),
            Gather("g", ("c", INPUT), np.array([0, 1, 0, 1]), np.arange(4)),
            DepthToSpace("d", "g", (2, 2)),
            last("d", 1),
        ),
        "layer 'd': channel 0 is made of channels of several tensors",
    ),
    "activation tables": (
        lambda: tuple(
            Add(
                f"a{n}",
                (INPUT,),
                np.ones((1, 6), int),
                replace(requant(6, 1), table=np.roll(np.arange(-128, 128), n)),
            )
            for n in range(16)
        ),
        "tables is 16, must be in 0..15",
    ),
    "two layouts": (
        lambda: (
            MaxPool("m", INPUT, (2, 1), (2, 1), (1, 0, 0, 0)),
            conv("c", INPUT, 6, 6, (5, 1)),
            Add("a", ("m", "c"), np.ones((2, 6), int), requant(6, 2)),
        ),
        "is read at strides that ask for two layouts of it",
    ),
}


@pytest.mark.parametrize(("layers", "said"), REFUSED.values(), ids=REFUSED)
def test_what_no_image_can_hold_is_refused(layers: Callable[[], tuple[Layer, ...]], said: str) -> None:
    with pytest.raises(TatamiError, match=said):
        compile_fitted(Network("layers", SHAPE, layers()), CONFIGS["4x2"])
