"""The kept digits network: what it promises, damaged files, and a few seconds of training."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from rich.console import Console
from sklearn.datasets import load_digits

from pymodel.machine.errors import TatamiError
from pymodel.network.float import evaluate_float
from pymodel.network.integer import INPUT, Conv, GlobalPool, Linear
from pymodel.network.network_file import StoredNetwork, accuracy, save
from pymodel.network.quantise import quantise_tensor
from pymodel.network.reference import evaluate
from pymodel.packing.prune import sparsity_of
from pymodel.training import TRAINERS
from pymodel.training.train_digits import (
    DigitsNet,
    DigitsTraining,
    fold,
    layer_weights,
    run,
    split_digits,
    train,
)
from pymodel.zoo.digits import DATA, load
from scripts.command import said
from scripts.train import main

Arrays = dict[str, npt.NDArray[Any]]
QUICK = DigitsTraining(dense_epochs=1, prune_epochs=2, retrain_epochs=1, sparsity=0.9)


@pytest.fixture(scope="module")
def digits() -> StoredNetwork:
    return load()


def quiet() -> Console:
    return Console(quiet=True)


def test_kept_network_holds_its_promise(digits: StoredNetwork) -> None:
    logits = evaluate(digits.network, digits.images)["fc"]
    measured = accuracy(logits, digits.labels)
    assert len(digits.images) == 450
    assert measured >= 0.97
    assert measured == pytest.approx(digits.meta["accuracy_int8"], abs=5e-5)
    sparsity = sparsity_of(layer_weights(digits.network))
    assert sparsity >= 0.90
    assert sparsity == pytest.approx(digits.meta["sparsity"], abs=5e-5)
    assert DATA.stat().st_size < 200_000


def test_kept_network_has_the_layers_that_it_must(digits: StoredNetwork) -> None:
    layers = digits.network.layers
    convs = [layer for layer in layers if isinstance(layer, Conv)]
    assert len(convs) >= 3
    assert {layer.stride for layer in convs} == {(1, 1), (2, 2)}
    residuals = [layer.residual for layer in convs if layer.residual is not None]
    assert residuals
    assert all(residual.weight.min() >= 1 and residual.weight.max() <= 127 for residual in residuals)
    assert any(isinstance(layer, GlobalPool) for layer in layers)
    assert isinstance(layers[-1], Linear)


def test_kept_images_are_the_held_out_ones(digits: StoredNetwork) -> None:
    train_images, train_labels, held, labels = split_digits()
    np.testing.assert_array_equal(digits.images, quantise_tensor(held, digits.meta["scales"][INPUT]))
    np.testing.assert_array_equal(digits.labels, labels)
    assert len(train_images) == len(train_labels) == 1797 - 450
    counts = np.bincount(labels, minlength=10) / np.bincount(load_digits().target)
    assert counts.min() > 0.24
    assert counts.max() < 0.26


def test_no_tensor_is_dead_or_pinned(digits: StoredNetwork) -> None:
    for name, values in evaluate(digits.network, digits.images).items():
        assert np.abs(values.astype(int)).max() >= 100, name
        assert (values == 127).mean() < 0.1, name


def contents(path: Path) -> list[tuple[str, bytes]]:
    """What an archive holds, in its order. The bytes around it are not the same in all releases of Python."""
    with zipfile.ZipFile(path) as archive:
        return [(name, archive.read(name)) for name in archive.namelist()]


def test_file_round_trip_is_exact(digits: StoredNetwork, tmp_path: Path) -> None:
    again, more = tmp_path / "again.npz", tmp_path / "more.npz"
    save(digits, again)
    save(digits, more)
    assert again.read_bytes() == more.read_bytes()
    assert contents(again) == contents(DATA)
    loaded = load(again)
    np.testing.assert_array_equal(
        evaluate(loaded.network, loaded.images)["fc"], evaluate(digits.network, digits.images)["fc"]
    )
    assert loaded.meta == digits.meta


def read_arrays() -> Arrays:
    with np.load(DATA) as archive:
        return dict(archive)


def without(name: str) -> Callable[[Arrays], None]:
    def removed(arrays: Arrays) -> None:
        del arrays[name]

    return removed


def change(name: str) -> Callable[[Arrays], None]:
    def changed(arrays: Arrays) -> None:
        arrays[name].flat[0] += 1

    return changed


def reshape(arrays: Arrays) -> None:
    arrays["labels"] = arrays["labels"][None]


def retype(arrays: Arrays) -> None:
    arrays["images"] = arrays["images"].view(np.uint8)


def other_version(arrays: Arrays) -> None:
    header = json.loads(arrays["header"].tobytes())
    header["version"] = 99
    packed = np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)
    arrays["header"] = packed
    arrays["header_crc"] = np.array(
        zlib.crc32(packed.tobytes(), zlib.crc32(repr(packed.shape).encode())), dtype=np.uint32
    )


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (without("header"), "field 'header' is missing"),
        (without("header_crc"), "field 'header_crc' is missing"),
        (without("c3.weight"), "field 'c3.weight' is missing"),
        (without("labels"), "field 'labels' is missing"),
        (change("header"), "field 'header' does not match its checksum"),
        (change("c1.weight"), "field 'c1.weight' does not match its checksum"),
        (change("c4.residual_weight"), "field 'c4.residual_weight' does not match its checksum"),
        (change("images"), "field 'images' does not match its checksum"),
        (reshape, "field 'labels' does not match its checksum"),
        (retype, "field 'images' does not match its checksum"),
        (other_version, "format is tatami-network 99, must be tatami-network 3"),
    ],
)
def test_changed_files_are_refused(damage: Callable[[Arrays], None], message: str, tmp_path: Path) -> None:
    arrays = read_arrays()
    damage(arrays)
    path = tmp_path / "changed.npz"
    np.savez_compressed(path, allow_pickle=False, **arrays)
    with pytest.raises(TatamiError, match=f"changed.npz: {message}"):
        load(path)


def test_cut_files_are_refused(tmp_path: Path) -> None:
    good = DATA.read_bytes()
    path = tmp_path / "cut.npz"
    for size in (0, 1, 100, len(good) // 2, len(good) - 1):
        path.write_bytes(good[:size])
        with pytest.raises(TatamiError, match=r"cut.npz: field '.*' cannot be read"):
            load(path)


def test_files_with_a_changed_byte_are_refused(digits: StoredNetwork, tmp_path: Path) -> None:
    """Or the byte means nothing, as a few of the archive's do: then the content is the same."""
    rng = np.random.default_rng(0)
    good = DATA.read_bytes()
    path = tmp_path / "damaged.npz"
    messages = []
    for position in rng.choice(len(good), 60, replace=False):
        path.write_bytes(
            good[:position] + bytes([good[position] ^ int(rng.integers(1, 256))]) + good[position + 1 :]
        )
        try:
            loaded = load(path)
        except TatamiError as error:
            messages.append(str(error))
        else:
            np.testing.assert_array_equal(loaded.images, digits.images)
    assert len(messages) >= 50
    assert all(message.startswith(f"{path}: field '") for message in messages)


def test_missing_file_says_what_writes_it(tmp_path: Path) -> None:
    with pytest.raises(TatamiError, match="no such file; `make train NET=digits` writes it"):
        load(tmp_path / "none.npz")


def test_a_pickle_is_not_opened(tmp_path: Path) -> None:
    path = tmp_path / "pickle.npz"
    np.savez(path, header=np.array([{"a": 1}], dtype=object))
    with pytest.raises(TatamiError, match="field 'header' cannot be read"):
        load(path)


def test_folded_network_equals_torch() -> None:
    net = DigitsNet()
    generator = torch.Generator().manual_seed(0)
    for norm in (net.n1, net.n2, net.n3, net.n4):
        for part in (norm.weight, norm.bias, norm.running_mean):
            torch.nn.init.normal_(part, generator=generator)
        torch.nn.init.uniform_(norm.running_var, 0.5, 2, generator=generator)
    images = torch.rand((5, 1, 8, 8), generator=generator)
    with torch.no_grad():
        expected = net.eval()(images).numpy()
    np.testing.assert_allclose(
        evaluate_float(fold(net), images.numpy())["fc"][:, :, 0, 0], expected, rtol=1e-4, atol=1e-4
    )


def test_quick_training_gives_a_file_that_the_seed_decides(tmp_path: Path) -> None:
    written = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        figures = run(seed, tmp_path / f"{name}.npz", QUICK, quiet())
        written.append((tmp_path / f"{name}.npz").read_bytes())
        assert figures["sparsity"] >= 0.9
        assert figures["accuracy_int8"] > 0.3  # of ten classes, after four epochs
        assert figures["seed"] == seed
    assert load(tmp_path / "a.npz").meta["settings"]["prune_epochs"] == 2
    assert written[0] == written[1] != written[2]


def test_masks_only_grow() -> None:
    images, labels, _, _ = split_digits()
    seen = []
    settings = replace(QUICK, dense_epochs=0, prune_epochs=3)
    net, _ = train(
        images[:128],
        labels[:128],
        settings,
        torch.Generator().manual_seed(0),
        lambda now: seen.append(now.sparsity),
    )
    assert seen == sorted(seen)
    assert seen[-1] == pytest.approx(0.9, abs=1e-3)
    assert sparsity_of(
        {name: weight.detach().numpy() for name, weight in net.weights().items()}
    ) == pytest.approx(0.9, abs=1e-3)


def test_run_refuses_before_it_trains(tmp_path: Path) -> None:
    with pytest.raises(TatamiError, match="seed is -1"):
        run(-1, tmp_path / "x.npz", QUICK, quiet())
    with pytest.raises(TatamiError, match="no such directory"):
        run(1, tmp_path / "none" / "x.npz", QUICK, quiet())


@pytest.mark.parametrize("net", ["mnist", ""])
def test_unknown_net_lists_the_valid_ones(net: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert said("train", lambda: main(["--net", net])) == 2
    shown = capsys.readouterr()
    assert shown.err == f"train: NET is '{net}', must be one of: {', '.join(TRAINERS)}\n"
    assert shown.out == ""


def test_train_script_ends_with_its_figures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pymodel.training.train_digits.DigitsTraining", lambda: QUICK)
    assert main(["--net", "digits", "--out", str(tmp_path / "x.npz"), "--seed", "3"]) == 0
    tag, figures = capsys.readouterr().out.splitlines()[-1].split(" ", 1)
    assert tag == "TRAIN"
    assert {
        "net",
        "seed",
        "sparsity",
        "accuracy_float",
        "accuracy_pruned",
        "accuracy_int8",
        "seconds",
    } <= set(json.loads(figures))
    assert json.loads(figures)["seed"] == 3
