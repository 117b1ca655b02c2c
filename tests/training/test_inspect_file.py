"""`make inspect`: what it says of files, whether all of them is supported or not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pymodel.cost.counts import image_cost
from pymodel.cost.energy import energy, load_energy
from pymodel.machine.config import CONFIGS
from pymodel.machine.image import Image
from pymodel.network import network_file
from pymodel.training.from_file import import_file
from scripts.inspect_file import main
from tb.common.settings import IMAGE_FILE
from tb.flow.prepare import Source, prepare
from tests.network.onnx_models import cnn, written
from tests.network.tflite_models import small_network
from tests.support import assert_refused

CONFIG = CONFIGS["8x4"]


def inspected(capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, dict[str, Any], list[str]]:
    status = main(["--config=8x4", *options])
    *lines, last = capsys.readouterr().out.splitlines()
    return status, json.loads(last.removeprefix("INSPECT ")), lines


def test_a_tflite_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = small_network(tmp_path / "small.tflite")
    status, found, lines = inspected(capsys, f"--weights={path}")
    assert (status, found["supported"], found["refused"]) == (0, True, [])
    rows = {row["layer"]: row for row in found["layers"]}
    assert [row["operation"] for row in found["layers"]] == [
        "Conv 3x3 /2",
        "Conv 3x3, 6 groups",
        "Add",
        "MaxPool 2x2 /2",
        "Linear",
    ]
    first = rows["net.a.Relu"]
    assert (first["output"], first["weights"], first["macs"]) == ("6 x 4 x 5", 162, 162 * 20)
    assert (first["scale"], first["zero"]) == (pytest.approx(0.11), -128)
    assert found["weights"] == 162 + 54 + 180
    assert found["macs"] == 162 * 20 + 54 * 20 + 180
    assert "note: left to the host: SOFTMAX" in lines
    assert any("net.a.Relu" in line and "3,240" in line for line in lines)


@pytest.mark.parametrize(("scheme", "ratio"), [("dense", None), ("tight", 2.0)])
def test_cycles_are_those_of_the_image(
    scheme: str, ratio: float | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The image that `make sim` runs takes a few more, to send its output."""
    path = small_network(tmp_path / "small.tflite")
    options = [f"--scheme={scheme}", f"--ratio={ratio}"] if ratio else []
    _, found, _ = inspected(capsys, f"--weights={path}", *options)
    prepared = prepare("file", CONFIG, 1, 1, Source(path, scheme=scheme, ratio=ratio))
    assert found["scheme"] == scheme
    image = Image.load(Path(prepared.options.network) / IMAGE_FILE, prepared.config)
    assert 0 < image_cost(image).cycles - found["cycles"] < 20
    spent = energy(image_cost(image, 100), load_energy()).total
    assert found["energy_uj"] == pytest.approx(spent / 1e3, rel=0.1)


def test_an_onnx_file_and_a_network_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = cnn(tmp_path / "x.onnx")
    status, found, _ = inspected(capsys, f"--weights={path}")
    assert (status, found["layers"][0]["scale"], found["layers"][0]["in_file"]) == (0, None, "c")
    assert any(note.startswith("the file is float") for note in found["notes"])
    stored = import_file(path, None, CONFIG, 1, 1, "tight", 2.0).stored
    network_file.save(stored, tmp_path / "network.npz")
    status, found, _ = inspected(capsys, f"--weights={tmp_path / 'network.npz'}")
    assert (status, found["scheme"]) == (0, "tight")
    assert found["layers"][0]["scale"] > 0


def test_what_is_not_supported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path / "bad.onnx", "a = LRN<size=3>(x) b = Mul(x, x) y = Add(a, b)")
    status, found, lines = inspected(capsys, f"--weights={path}")
    assert (status, found["supported"], found["layers"]) == (1, False, [])
    assert found["refused"] == [
        {"node": "LRN 'a'", "reason": "not supported"},
        {"node": "Mul 'b'", "reason": "of two tensors is not supported; one must be constant"},
    ]
    assert any("LRN 'a'" in line for line in lines)


def test_what_the_compiler_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A network that is one, but a channel would lie in two banks."""
    body = "a = Relu(x) b = Concat<axis=1>(a, x) c = DepthToSpace<blocksize=2>(b) y = Relu(c)"
    path = written(tmp_path / "bad.onnx", body)
    status, found, _ = inspected(capsys, f"--weights={path}")
    assert (status, found["supported"], len(found["refused"])) == (1, False, 1)
    assert "channel 0 is made of channels of several tensors" in found["refused"][0]["reason"]


def test_bad_input() -> None:
    assert_refused("inspect_file", [], "WEIGHTS is not given")
    assert_refused(
        "inspect_file", ["--weights=README.md", "--scheme=tight"], "RATIO is not given, SCHEME is 'tight'"
    )
