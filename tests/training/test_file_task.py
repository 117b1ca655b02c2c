"""`make compress NETWORK=model.tflite`: the network of a file, trained and compressed like any other."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pymodel.machine.config import CONFIGS
from pymodel.machine.errors import TatamiError
from pymodel.network import network_file
from pymodel.network.activations import SILU, Clamp
from pymodel.network.float import (
    FloatAdd,
    FloatConv,
    FloatLayer,
    FloatLinear,
    FloatNetwork,
    FloatPool,
    FloatResidual,
    evaluate_float,
)
from pymodel.network.from_torch import from_torch
from pymodel.network.integer import INPUT
from pymodel.network.load_model import load_model
from pymodel.network.model_file import ModelFile
from pymodel.network.reference import evaluate
from pymodel.network.to_torch import to_torch
from pymodel.schemes import get_scheme
from pymodel.training.compress import Recipe, compress
from pymodel.training.file_task import balanced, task_of, with_norms
from pymodel.training.schedule import Budget
from pymodel.training.start import measure_start
from pymodel.zoo.given_images import load_sets
from tests.network.onnx_models import cnn, drawn, written
from tests.network.tflite_models import small_network
from tests.support import assert_refused

CONFIG = CONFIGS["8x4"]


@pytest.fixture(scope="module")
def tflite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_network(tmp_path_factory.mktemp("tflite") / "small.tflite")


@pytest.fixture(scope="module")
def images(tflite: Path) -> Path:
    """Images that the file itself has put into classes."""
    file = load_model(tflite)
    assert isinstance(file, ModelFile)
    pixels = np.random.default_rng(1).integers(-50, 50, (200, *file.network.input_shape)).astype(np.int8)
    logits = evaluate(file.network, pixels)[file.network.layers[-1].name]
    path = tflite.parent / "images.npz"
    real = file.scales[INPUT].real(pixels).astype(np.float32)
    np.savez(path, images=real, labels=logits.reshape(len(pixels), -1).argmax(axis=1))
    return path


def test_a_quantised_file_is_trained_from_where_it_was(tflite: Path, images: Path, tmp_path: Path) -> None:
    task = task_of(str(tflite), None, images)
    assert (len(task.train_labels), len(task.test_labels)) == (160, 40)
    start = measure_start(task, CONFIG)
    assert start.accuracy_float >= 0.95  # the file's own answers
    assert start.accuracy_int8 >= 0.9
    budget = Budget(epochs=2, batch=16, learning_rate=0.001, replans=2)
    report = compress(task, Recipe(get_scheme("tight_pass"), 2.0, CONFIG, budget), tmp_path, start)
    assert report.matrix_compression >= 1.9
    assert report.accuracy.float >= 0.6  # half of the weights, of classes that are drawn at random
    assert report.scales_kept
    stored = network_file.load(tmp_path / "network.npz")
    # what a host sends is what it sent to the file
    file = load_model(tflite)
    assert isinstance(file, ModelFile)
    np.testing.assert_array_equal(stored.images, file.scales[INPUT].values(task.test_images.numpy()))
    assert stored.meta["zero_points"][INPUT] == file.scales[INPUT].zero == -3


def test_scales_of_a_file_are_those_of_the_same_tensors(tflite: Path, images: Path) -> None:
    task, file = task_of(str(tflite), None, images), load_model(tflite)
    assert isinstance(file, ModelFile)
    # an addition has become the residual of a convolution, which is no tensor of its own any more
    named = {"input": INPUT, "net_a_Relu": "net.a.Relu", "net_b": "net.add", "logits": "logits"}
    assert {name: one.zero for name, one in task.scales.items()} == {
        **{name: file.scales[own].zero for name, own in named.items()},
        "max_pool2d": -128,
    }
    theirs = evaluate(file.network, file.scales[INPUT].values(task.test_images.numpy()))
    inputs = task.prepare(task.test_images, None).double().numpy()
    ours = evaluate_float(from_torch(task.module, task.input_shape, task.name), inputs)
    for name, own in named.items():
        apart = np.abs(task.scales[name].values(ours[name]).astype(int) - theirs[own])
        assert (apart <= 1).mean() > 0.95, name  # sums of this file saturate here and there


def test_a_float_file_is_trained(tmp_path: Path) -> None:
    path, rng = cnn(tmp_path / "m.onnx"), np.random.default_rng(1)
    shape = load_model(path).network.input_shape
    given: dict[str, Any] = {"images": rng.integers(0, 256, (20, *shape)).astype(np.uint8)}
    np.savez(
        tmp_path / "x.npz",
        **given,
        labels=np.zeros(20, int),
        test_images=given["images"][:3],
        test_labels=np.ones(3, int),
    )
    task = task_of(str(path), None, tmp_path / "x.npz")
    assert (len(task.train_labels), len(task.test_labels)) == (20, 3)
    assert float(task.prepare(task.train_images, None).max()) == 1.0


def test_a_file_may_leave_its_shape_open(tmp_path: Path) -> None:
    path = written(
        tmp_path / "open.onnx",
        "a = Conv(x, w) y = Conv(a, u)",
        given="float[N,3,R,C] x",
        w=drawn(4, 3, 6, 6),
        u=drawn(4, 4, 1, 1),
    )
    images = np.random.default_rng(1).normal(0, 1, (10, 3, 6, 6)).astype(np.float32)
    np.savez(tmp_path / "x.npz", images=images, labels=np.zeros(10, int))
    with pytest.raises(TatamiError, match="left open .* give it: SHAPE="):
        task_of(str(path), None, tmp_path / "x.npz")
    assert task_of(str(path), None, tmp_path / "x.npz", (3, 6, 6)).input_shape == (3, 6, 6)
    assert_refused("compress", ["--network=digits", "--shape=3,6,6"], "SHAPE is given: only for a NETWORK")


def test_what_is_refused(tflite: Path, images: Path, tmp_path: Path) -> None:
    with pytest.raises(
        TatamiError, match=r"small.tflite' needs DATA to train on; without it, `make sim TEST"
    ):
        task_of(str(tflite), None, None)
    with pytest.raises(TatamiError, match=r"^WEIGHTS 'w.th': network '.*' brings its own$"):
        task_of(str(tflite), Path("w.th"), images)
    with pytest.raises(
        TatamiError, match=r"network 'resnet' is unknown; valid: .*, model.tflite, model.onnx, model.pt2, or"
    ):
        task_of("resnet", None, None)
    shape = load_model(tflite).network.input_shape
    few, labels = np.zeros((5, *shape)), np.zeros(5, int)
    for wrong, message in (
        ({"images": few}, "has no labels"),
        ({"images": few.astype(np.int8), "labels": labels}, "images are int8, must be real"),
        (
            {"images": few, "labels": labels, "test_images": few[:2], "test_labels": labels[:3]},
            r"labels are int64 \(3,\), must be integers, one an image",
        ),
    ):
        np.savez(tmp_path / "wrong.npz", **wrong)
        with pytest.raises(TatamiError, match=message):
            load_sets(tmp_path / "wrong.npz", shape)


def test_norms_change_no_output_until_they_learn() -> None:
    """Of a network with a residual, an addition with factors, a convolution read twice, a channel that is
    zero, and two fully connected layers.
    """
    rng = np.random.default_rng(5)
    dead, weight = rng.normal(0, 1, (4, 4, 3, 3)), rng.normal(0, 9, (4, 4, 1, 1))
    dead[2] = 0
    layers: tuple[FloatLayer, ...] = (
        FloatConv("a", INPUT, dead, np.zeros(4), padding=(1, 1, 1, 1), activation=Clamp(0.0, math.inf)),
        FloatConv("b", "a", weight, np.ones(4), residual=FloatResidual("a", np.arange(4))),
        FloatAdd("c", ("a", "b"), rng.normal(0, 1, (2, 4)), np.ones(4)),
        FloatPool("d", "c"),
        FloatLinear("e", "d", rng.normal(0, 1, (5, 4)), np.zeros(5)),
        FloatLinear("f", "e", rng.normal(0, 1, (3, 5)), np.zeros(3)),
    )
    images = torch.from_numpy(rng.normal(3, 2, (8, 4, 6, 6))).float()
    module, names = to_torch(FloatNetwork("n", (4, 6, 6), layers))
    before = module(images)
    with_norms(module, images)
    norms = {name for name, _ in module.named_modules() if name.endswith("_norm")}
    assert norms == {f"{names[layer]}_norm" for layer in ("a", "b", "c", "e")} | {"c_1_norm"}
    torch.testing.assert_close(module.eval()(images), before, rtol=1e-4, atol=1e-3)
    # in training the norms take the mean and variance of the batch, which are the same here
    torch.testing.assert_close(module.train()(images), before, rtol=1e-4, atol=1e-3)
    # what is nine times as large after a step comes out as it was
    with torch.no_grad():
        module.get_submodule(names["b"]).weight.mul_(9)
        module.get_submodule(names["b"]).bias.mul_(9)
    torch.testing.assert_close(module.train()(images), before, rtol=1e-4, atol=1e-3)


def test_units_change_no_output() -> None:
    """A network with a residual, an addition, a curve, a clamp and a mean, whose layers differ by 1000."""
    rng = np.random.default_rng(3)
    weights = [rng.normal(0, size, (4, 4, 1, 1)) for size in (100, 0.1, 1)]
    layers: tuple[FloatLayer, ...] = (
        FloatConv("a", INPUT, weights[0], rng.normal(0, 1, 4), activation=Clamp(0.0, 900.0)),
        FloatConv("b", "a", weights[1], np.ones(4), residual=FloatResidual("a", np.arange(4))),
        FloatConv("c", "b", weights[2], np.ones(4), activation=SILU),
        FloatAdd("d", ("c", "c"), np.ones((2, 4)), np.ones(4)),
        FloatPool("e", "d"),
        FloatLinear("f", "e", rng.normal(0, 1, (3, 4)), np.zeros(3)),
    )
    images = rng.normal(0, 30, (5, 4, 6, 6))
    network = FloatNetwork("n", (4, 6, 6), layers)
    found, units = balanced(network, images)
    unit = units[INPUT]
    before, after = evaluate_float(network, images), evaluate_float(found, images / unit)
    np.testing.assert_allclose(after["f"], before["f"], rtol=1e-9)
    assert np.abs(images / unit).max() == pytest.approx(1)
    assert max(np.abs(after[name]).max() for name in ("a", "b")) == pytest.approx(4)
    np.testing.assert_allclose(after["c"], before["c"], rtol=1e-9)  # a curve keeps its unit
