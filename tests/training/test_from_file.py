"""Files of other tools as `make sim TEST=network` prepares them: their images, their pruning, and how they
agree with their own runtimes.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pymodel.machine.config import CONFIGS
from pymodel.machine.errors import TatamiError
from pymodel.network.integer import INPUT, Conv, Linear
from pymodel.network.load_model import load_model
from pymodel.network.model_file import ModelFile
from pymodel.network.reference import evaluate
from pymodel.training import from_file
from pymodel.training.from_file import import_file
from pymodel.zoo.given_images import load_images
from tests.network.onnx_models import cnn, written
from tests.network.tflite_models import small_network

CONFIG = CONFIGS["4x2"]


@pytest.fixture(scope="module")
def tflite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_network(tmp_path_factory.mktemp("tflite") / "small.tflite")


@pytest.fixture(scope="module")
def floats(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cnn(tmp_path_factory.mktemp("onnx") / "a float network.onnx")


def test_a_quantised_file(tflite: Path) -> None:
    found = import_file(tflite, None, CONFIG, 1, 3)
    assert found.stored.images.shape == (3, 3, 8, 10)
    assert found.stored.network.name == "small"
    assert found.stored.meta["zero_points"][INPUT] == -3
    assert found.notes == ("left to the host: SOFTMAX", "images are drawn at random, seed 1")
    figures = found.figures
    assert (figures["runtime"], figures["runtime_images"]) == ("ai_edge_litert", 20)
    assert (figures["runtime_steps"], figures["runtime_off"] <= 0.01) == (1, True)
    assert figures["runtime_same_class"] >= 0.95


def test_a_float_file(floats: Path, tmp_path: Path) -> None:
    found = import_file(floats, None, CONFIG, 1, 2)
    assert found.stored.network.name == "a.float.network"
    assert found.figures["runtime_gap"] < 1e-5
    assert found.figures["runtime_same_class"] >= 0.8
    assert "scales are those of 64 random images" in found.notes
    images = np.random.default_rng(1).normal(0, 3, (9, 4, 6, 8))
    np.save(tmp_path / "x.npy", images)
    given = import_file(floats, tmp_path / "x.npy", CONFIG, 1, 2)
    # calibrated on the seven that do not run
    assert given.stored.meta["scales"][INPUT] == pytest.approx(np.abs(images[2:]).max() / 127)
    assert given.notes == ("left to the host: Softmax",)


def test_what_is_skipped_is_not_held_against_the_runtime(tmp_path: Path) -> None:
    path = written(tmp_path / "x.onnx", "a = Relu(x) b = LRN<size=3>(a) y = GlobalAveragePool(b)")
    found = import_file(path, None, CONFIG, 1, 2, skip="LRN")
    assert found.figures == {}
    assert found.notes[0] == "skipped: LRN 'b'"
    assert found.notes[-1] == "not held against its runtime, which does not skip LRN"


def test_pruned_weights_take_their_zero_points_with_them(tflite: Path) -> None:
    """A pruned layer gives what it gives where the weights are zero from the beginning."""
    whole, found = load_model(tflite), import_file(tflite, None, CONFIG, 1, 2, "tight", 2.0)
    assert isinstance(whole, ModelFile)
    assert set(found.stored.plans) == {"logits"}  # neither the first layer nor the depthwise one
    before, after = whole.network.layers[-1], found.stored.network.layers[-1]
    assert isinstance(before, Linear)
    assert isinstance(after, Linear)
    mask = found.stored.plans["logits"].mask
    assert 0 < mask.mean() < 0.8
    np.testing.assert_array_equal(after.weight, before.weight * mask)
    pixels = evaluate(whole.network, found.stored.images)[before.source].reshape(2, -1).astype(np.int64)
    zero = whole.scales[before.source].zero
    assert zero
    own = before.requant.bias + zero * before.weight.sum(axis=1, dtype=np.int64)  # as in the file
    sums = (pixels - zero) @ after.weight.T.astype(np.int64) + own
    np.testing.assert_array_equal(pixels @ after.weight.T.astype(np.int64) + after.requant.bias, sums)
    assert set(found.figures) == {"runtime", "runtime_images", "runtime_same_class"}


@pytest.mark.parametrize("kind", ["tflite", "onnx"])
def test_a_ratio_of_1_prunes_nothing(kind: str, tflite: Path, floats: Path) -> None:
    path = tflite if kind == "tflite" else floats
    dense, packed = (import_file(path, None, CONFIG, 1, 1, scheme) for scheme in ("dense", "tight"))
    assert not packed.stored.plans
    assert packed.stored.meta["scheme"] == "tight"
    for one, other in zip(dense.stored.network.layers, packed.stored.network.layers, strict=True):
        if isinstance(one, Conv | Linear) and isinstance(other, Conv | Linear):
            np.testing.assert_array_equal(one.weight, other.weight)
    assert packed.figures == dense.figures


def test_a_float_file_is_pruned(floats: Path) -> None:
    found = import_file(floats, None, CONFIG, 1, 2, "tight", 2.0)
    assert found.stored.plans
    first = found.stored.network.layers[0]
    assert isinstance(first, Conv)
    assert first.name not in found.stored.plans
    for layer in found.stored.network.layers:
        if isinstance(layer, Conv | Linear) and layer.name in found.stored.plans:
            mask = found.stored.plans[layer.name].mask
            assert not layer.weight.reshape(mask.shape)[~mask].any()


def test_without_the_runtime(tflite: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pymodel.network.runtime.installed", lambda _: False)
    found = import_file(tflite, None, CONFIG, 1, 1)
    assert not found.figures
    assert found.notes[-1] == "the runtime of .tflite files is not installed: not held against it"


def test_without_the_package(tflite: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pymodel.network.from_tflite", None)
    with pytest.raises(TatamiError, match=r"needs the package '.*'; `make .venv/.tflite` installs it"):
        load_model(tflite)


SHAPE = (3, 4, 5)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (np.zeros((2, 3, 4, 5), np.uint8), np.uint8),
        (np.zeros((2, 4, 5, 3), np.float32), np.float32),
        (np.zeros((2, 60), np.int8), np.int8),
    ],
)
def test_images(content: np.ndarray, kind: type, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", content)
    images, labels = load_images(tmp_path / "x.npy", SHAPE)
    assert (images.shape, images.dtype.type, len(labels)) == ((2, *SHAPE), kind, 0)
    np.savez(tmp_path / "x.npz", images=content, labels=[4, 5])
    assert load_images(tmp_path / "x.npz", SHAPE)[1].tolist() == [4, 5]


def test_images_with_channels_last_are_turned(tmp_path: Path) -> None:
    content = np.arange(60, dtype=np.uint8).reshape(1, 4, 5, 3)
    np.save(tmp_path / "x.npy", content)
    np.testing.assert_array_equal(load_images(tmp_path / "x.npy", SHAPE)[0], content.transpose(0, 3, 1, 2))


def test_real_values_become_those_of_the_input(tflite: Path, tmp_path: Path) -> None:
    content = np.full((1, 3, 8, 10), 2, np.uint8)
    np.save(tmp_path / "x.npy", content)
    found = import_file(tflite, tmp_path / "x.npy", CONFIG, 1, 1)
    assert np.unique(found.stored.images).tolist() == [37]  # 2 / 0.05 - 3
    np.save(tmp_path / "x.npy", content.astype(np.int8))
    assert np.unique(import_file(tflite, tmp_path / "x.npy", CONFIG, 1, 1).stored.images).tolist() == [2]


def test_the_folder_of_cifar_10(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    batch = {b"data": np.full((2, 3072), 7, np.uint8), b"labels": [1, 2]}
    (folder / "test_batch").write_bytes(pickle.dumps(batch))
    images, labels = load_images(folder, (3, 32, 32))
    assert (images.shape, labels.tolist()) == ((2, 3, 32, 32), [1, 2])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"images": np.zeros((2, 3, 4, 6), np.uint8)}, r"images have shape \(2, 3, 4, 6\), must be"),
        ({"images": np.zeros((2, 3, 4, 5), np.int32)}, "images are int32, must be float, uint8 or int8"),
        ({"pixels": np.zeros(2)}, "field 'images' is missing"),
        ({"images": np.zeros((2, *SHAPE), np.int8), "labels": np.zeros(3, int)}, r"labels are int64 \(3,\)"),
    ],
)
def test_what_is_refused_of_images(content: dict[str, Any], message: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", **content)
    with pytest.raises(TatamiError, match=message):
        load_images(tmp_path / "x.npz", SHAPE)


def test_a_file_that_holds_no_arrays(tmp_path: Path) -> None:
    (tmp_path / "x.npz").write_bytes(b"PK\3\4 no zip")
    with pytest.raises(TatamiError, match=r"x.npz: is no file of numpy arrays, or damaged"):
        load_images(tmp_path / "x.npz", SHAPE)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"path": Path("x.pb")}, r"x.pb: must end in .tflite or .onnx"),
        ({"path": Path("none.onnx")}, "none.onnx: no such file"),
        ({"images": 3}, r"IMAGES 3 is outside 1..2: .*x.npy has no more"),
        ({"path": None}, "a float network needs images of real values, DATA has int8"),
    ],
)
def test_what_is_refused(
    change: dict[str, Any], message: str, floats: Path, tflite: Path, tmp_path: Path
) -> None:
    given: dict[str, Any] = {"path": tflite, "images": 1, **change}
    path = given["path"] or floats
    np.save(
        tmp_path / "x.npy",
        np.zeros((2, *(load_model(path).network.input_shape if path.exists() else SHAPE)), np.int8),
    )
    with pytest.raises(TatamiError, match=message):
        import_file(path, tmp_path / "x.npy", CONFIG, 1, given["images"])


def test_a_large_network_takes_fewer_images(floats: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(from_file, "MOST_MACS", 0)
    found = import_file(floats, None, CONFIG, 1, 2)
    assert "scales are those of 1 random images" in found.notes
    assert found.figures["runtime_images"] == 2  # those that run
