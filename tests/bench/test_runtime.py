"""`make bench BENCH=runtime`: what it says of a network that agrees with its file's runtime, and of one that
does not.
"""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from pymodel.bench import runtime as bench
from pymodel.machine.errors import TatamiError
from pymodel.network import runtime
from pymodel.network.integer import Conv, Network
from pymodel.network.load_model import load_model
from pymodel.network.model_file import ModelFile
from tests.network.onnx_models import cnn
from tests.network.tflite_models import small_network
from tests.support import assert_refused


def measured(path: Path, **options: Any) -> tuple[dict[str, Any], str]:
    text = io.StringIO()
    return bench.run(Console(file=text, width=200), path, **options), text.getvalue()


def test_a_quantised_file(tmp_path: Path) -> None:
    path = small_network(tmp_path / "small.tflite")
    images = np.random.default_rng(1).normal(0, 3, (30, 3, 8, 10))
    np.savez(tmp_path / "x.npz", images=images, labels=np.zeros(30, int))
    figures, text = measured(path, data=tmp_path / "x.npz", images=30)
    assert figures["passed"]
    assert set(figures["layers"]) == {"default", "optimised", "reference"}
    assert all(found["steps"] <= 1 for found in figures["layers"].values())
    own, default, *_ = figures["whole"]
    assert default["same class as default"] == 1
    assert own["same class as default"] >= 0.9
    assert own["accuracy"] == pytest.approx(default["accuracy"], abs=0.1)
    assert "net.a.Relu" in text
    assert "this network" in text


def test_a_layer_that_is_wrong_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bias, which moves some values by a step: that layer alone, as the others get the runtime's inputs."""

    def wrong(path: Path) -> ModelFile:
        model = load_model(path)
        assert isinstance(model, ModelFile)
        first, second, *others = model.network.layers
        assert isinstance(second, Conv)
        second = replace(second, requant=replace(second.requant, bias=second.requant.bias + 40))
        network = Network("wrong", model.network.input_shape, (first, second, *others))
        return replace(model, network=network)

    monkeypatch.setattr(bench, "load_model", wrong)
    figures, _ = measured(small_network(tmp_path / "small.tflite"), images=20)
    assert not figures["passed"]
    assert all(found["layer"] == "net.b" for found in figures["layers"].values())


def test_a_float_file(tmp_path: Path) -> None:
    figures, text = measured(cnn(tmp_path / "x.onnx"), images=5)
    assert figures["passed"]
    assert 0 < figures["gap"] < 1e-5
    assert "largest value" in text


def test_bad_input(tmp_path: Path) -> None:
    path = small_network(tmp_path / "small.tflite")
    np.save(tmp_path / "x.npy", np.zeros((2, 3, 8, 10)))
    with pytest.raises(TatamiError, match=r"IMAGES 3 is outside 1..2"):
        measured(path, data=tmp_path / "x.npy", images=3)
    with pytest.raises(TatamiError, match="its runtime is not installed, or there is none for files"):
        measured(tmp_path / "x.npy")
    assert_refused("bench", ["--bench=runtime"], "WEIGHTS is not given: BENCH 'runtime' needs a .tflite or")
    assert_refused(
        "bench", ["--bench=xor", "--images=3"], "IMAGES is given: BENCH 'xor' takes none, only runtime"
    )


def test_a_tensor_of_zeros_has_no_gap_to_itself() -> None:
    """Nothing is divided by its largest value."""
    zeros, ones = np.zeros((1, 2)), np.ones((1, 2))
    assert runtime.float_gaps({"a": zeros, "b": 2 * ones}, {"a": zeros, "b": ones}) == {"a": 0.0, "b": 1.0}
    assert runtime.share_off({0: 3, 1: 1}) == 0.25
