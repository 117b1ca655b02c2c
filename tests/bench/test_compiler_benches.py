"""The benches of the compiler, cut short: their rows, their last line, and that a missed target is exit
status 1.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from pymodel.bench import half_passes, joint, large, packing, speed, weights, windows, xor
from pymodel.machine.config import CONFIGS
from pymodel.machine.errors import TatamiError
from scripts import bench as command


def last_line(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1].removeprefix("BENCH "))
    return found


def measured_once(monkeypatch: pytest.MonkeyPatch, bench: ModuleType, figures: object) -> None:
    """What it has measured is judged again, by other targets."""
    monkeypatch.setattr(bench, "measure", lambda *_: figures)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A state_dict of three convolutions, of which the first is left out."""
    rng = np.random.default_rng(1)
    shapes = {"conv1": (16, 3), "conv2": (16, 16), "conv3": (32, 16)}
    state = {
        f"module.{name}.weight": torch.from_numpy(weights.made_up(rng, *shape))
        for name, shape in shapes.items()
    }
    path = tmp_path / "small.pt"
    torch.save({"state_dict": {**state, "module.bn1.weight": torch.ones(16)}}, path)
    return path


def test_packing(file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "MOVES", 300)
    status = command.main(["--bench=packing", f"--weights={file}"])
    figures = last_line(capsys)
    assert figures["weights"] == "small.pt, all convolutions but 'conv1.weight'"
    assert [(row["sparsity"], row["group"], row["table"]) for row in figures["rows"]] == [
        (s, g, t) for s in (0.9, 0.95) for g in (8, 16) for t in ("layer", "tile")
    ]
    for row in figures["rows"]:
        assert 1 < row["natural"] <= row["compression"] <= row["bound"] < 1 / (1 - row["sparsity"])
    assert status == (0 if figures["passed"] else 1)
    measured_once(monkeypatch, packing, (figures["weights"], figures["rows"]))
    monkeypatch.setattr(packing, "TARGETS", {"layer": 1.01, "tile": 1.01})
    assert command.main(["--bench=packing", f"--weights={file}"]) == 1


def test_windows(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert command.main(["--bench=windows"]) == 0
    rows = {row["layer"]: row for row in last_line(capsys)["rows"]}
    assert (rows["depthwise 3 x 3"]["busy"], rows["depthwise 3 x 3"]["dense_busy"]) == (9 / 16, 1 / 16)
    assert (rows["maximum 2 x 2, stride 2"]["lanes"], rows["maximum 3 x 3, stride 2"]["passes"]) == (4, 1)
    # fewer banks than columns: a lane has half of the channels of a tile
    monkeypatch.setattr(windows, "CONFIGS", {"16x16": CONFIGS["16x8"]})
    assert command.main(["--bench=windows"]) == 1
    rows = {row["layer"]: row for row in last_line(capsys)["rows"]}
    assert rows["depthwise 3 x 3"]["busy"] == round(9 / 32, 4)
    assert not rows["depthwise 3 x 3"]["reached"]


def test_joint(file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joint, "RATIOS", (4.0, 10.0))
    assert command.main(["--bench=joint", f"--weights={file}"]) in (0, 1)
    figures = last_line(capsys)
    rows = figures["rows"]
    assert [(row["scheme"], row["group"], row["ratio"]) for row in rows] == list(
        itertools.product(("tight_joint", "joint_subword"), (8, 16), (4.0, 10.0))
    )
    for row in rows:
        assert row["compression"] >= row["ratio"]
        assert 0 < row["tight_fraction"] < row["saliency_fraction"] <= row["bound"] <= 1
        assert row["occupancy"] == 1 > row["tight_occupancy"]
    measured_once(monkeypatch, joint, (figures["weights"], rows))
    monkeypatch.setattr(joint, "SALIENCY", 1.01)
    assert command.main(["--bench=joint", f"--weights={file}"]) == 1


def test_half_passes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two layers with a pass each, of one tile and of two, whose filters have eight weights: the tiles of the
    second share a pass.
    """

    def weight(filters: int) -> torch.Tensor:
        part = torch.ones(filters, 16, 3, 3)
        part[:, 8:] = 0
        part[:, :, 1:] = part[:, :, :, 1:] = 0
        return part

    path = tmp_path / "two.pt"
    torch.save({"first": torch.ones(16, 3, 3, 3), "one": weight(16), "two": weight(32)}, path)
    monkeypatch.setattr(half_passes, "KEPT", (1.0,))
    assert command.main(["--bench=half_passes", f"--weights={path}"]) == 1
    rows = last_line(capsys)["rows"]
    assert [row["what"] for row in rows] == ["weights", "digits"]
    assert [rows[0][name] for name in ("cycles", "half_cycles", "gain")] == [1536, 1280, 1.2]
    monkeypatch.setattr(half_passes, "WORTH", 2.0)
    assert command.main(["--bench=half_passes", f"--weights={path}"]) == 0
    torch.save({"first": torch.ones(16, 3, 3, 3), "wide": torch.ones(48, 16, 3, 3)}, path)
    with pytest.raises(TatamiError, match="layer 'wide' has 48 filters, must have one of 16, 32, 64"):
        command.main(["--bench=half_passes", f"--weights={path}"])


def test_large(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(large, "NETWORK", "unet")
    assert command.main(["--bench=large"]) == 0
    figures = last_line(capsys)
    assert list(figures["seconds"]) == ["prune", "compile", "reference", "model"]
    assert figures["same"]
    measured_once(monkeypatch, large, {name: figures[name] for name in ("seconds", "gib", "same", "cores")})
    for limit in ("COMPILED_S", "RUN_S", "GIB"):
        with monkeypatch.context() as patch:
            patch.setattr(large, limit, 0.0)
            assert command.main(["--bench=large"]) == 1


def test_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "WIDTHS", (16, 32))
    monkeypatch.setattr(speed, "VGG16", ((32, 16), (32, 32)))
    figures = speed.run(Console(quiet=True))
    assert [(row["case"], row["scheme"]) for row in figures["rows"]] == [
        ("16 x 144", "tight"),
        ("32 x 288", "tight"),
        ("ResNet-20", "tight"),
        ("ResNet-20", "tight_joint"),
        ("VGG-16's convolutions", "tight"),
    ]
    assert all(
        row["weights"] > 0 and row["seconds"] >= 0 and row["compression"] > 1 for row in figures["rows"]
    )
    measured_once(monkeypatch, speed, ("", figures["rows"]))
    monkeypatch.setattr(speed, "SECONDS", {"ResNet-20": 0.0})
    assert not speed.run(Console(quiet=True))["passed"]


def test_xor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xor, "SLOT_LAYER", (16, 144))
    figures = xor.run(Console(quiet=True), shape=(512, 256))
    assert figures["bits_per_weight"] == pytest.approx(
        (figures["value_bits"] + figures["index_bits"]) / (512 * 256)
    )
    assert figures["value_ratio"] == pytest.approx(figures["value_bits"] / figures["care_bits"])
    assert figures["passed"] == (figures["value_ratio"] <= 1.15 and figures["bits_per_weight"] <= 0.28)
    monkeypatch.setattr(xor, "BITS_PER_WEIGHT", 0.1)
    assert not xor.run(Console(quiet=True), shape=(128, 64))["passed"]


def test_a_file_without_convolutions_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "linear.pt"
    torch.save({"fc.weight": torch.ones(3, 4)}, path)
    with pytest.raises(TatamiError, match=r"linear.pt: holds 0 convolution weights, must hold at least 2"):
        command.main(["--bench=joint", f"--weights={path}"])
