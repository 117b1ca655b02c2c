"""`make bench BENCH=operators`: what it makes of a test that passes, of one that is refused, and of one that
the importer has wrong; and the page that it writes.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator
from rich.console import Console

from pymodel.bench import operators
from pymodel.bench.operators import (
    HOST,
    MADE,
    PASSES,
    PLANAR,
    REFUSED,
    WITH_WEIGHTS,
    WRONG,
    Case,
    Ran,
    held,
    run,
)
from pymodel.compiler.compile import compile_fitted, compile_network
from pymodel.machine.config import ArrayConfig
from pymodel.machine.image import Image
from pymodel.machine.places import ROOT
from pymodel.network import onnx_nodes
from pymodel.network.integer import Conv, Network
from tb.flow import operators as on_the_rtl
from tests.network.onnx_models import drawn, written


def case(folder: Path, body: str, given: str = "float[2,4,6,8] x", **inputs: np.ndarray) -> Case:
    """A test whose outputs the package's own evaluator computes."""
    model = onnx.load(written(folder / "case.onnx", body, given=given))
    rng = np.random.default_rng(1)
    shape = [one.dim_value for one in model.graph.input[0].type.tensor_type.shape.dim]
    inputs = {"x": rng.normal(0, 1, shape).astype(np.float32), **inputs}
    outputs = ReferenceEvaluator(model).run(None, inputs)
    return Case(MADE, "test", model, inputs, tuple(outputs), (1e-3, 1e-7))


W = ", float[4,4,2,2] w"


@pytest.mark.parametrize(
    ("body", "outcome", "why"),
    [
        ("y = Conv<pads=[1,0,0,1]>(x, w)", PASSES, ""),
        ("y = DepthToSpace<blocksize=2>(x)", PASSES, ""),
        ("y = ConvTranspose<strides=[2,3], pads=[1,0,0,2]>(x, w)", PASSES, ""),
        ("y = Sigmoid(x)", PASSES, ""),
        ("y = Softmax(x)", HOST, "Softmax"),
        ("y = LRN<size=3>(x)", REFUSED, "LRN 'y': not supported"),
    ],
)
def test_a_test(body: str, outcome: str, why: str, tmp_path: Path) -> None:
    weight = {"w": drawn(4, 4, 2, 2)} if "w)" in body else {}
    row = held(case(tmp_path, body, "float[2,4,6,8] x" + W * len(weight), **weight), tmp_path)
    assert (row.outcome, row.why) == (outcome, why)


def test_two_tensors_are_one_input(tmp_path: Path) -> None:
    other = np.random.default_rng(2).normal(0, 1, (2, 4, 6, 8)).astype(np.float32)
    given = "float[2,4,6,8] x, float[2,4,6,8] z"
    assert held(case(tmp_path, "y = Sub(x, z)", given, z=other), tmp_path).outcome == PASSES


def test_an_importer_that_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    test = case(tmp_path, 'y = DepthToSpace<blocksize=2, mode="CRD">(x)', "float[1,8,2,3] x")
    assert held(test, tmp_path).outcome == PASSES
    handlers = onnx_nodes._HANDLERS
    real = handlers["DepthToSpace"]
    monkeypatch.setitem(
        handlers,
        "DepthToSpace",
        lambda self, node, attributes: real(self, node, {**attributes, "mode": "DCR"}),
    )
    row = held(test, tmp_path)
    assert row.outcome == WRONG
    assert "float values are" in row.why


def test_an_array_that_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The image of another network than the reference has: the second layer clamps."""

    def compiled(network: Network, config: ArrayConfig) -> Image:
        first, second = network.layers
        assert isinstance(second, Conv)
        return compile_fitted(Network("x", network.input_shape, (first, _clamped(second))), config)

    monkeypatch.setattr(operators, "compile_fitted", compiled)
    test = case(
        tmp_path, "a = Conv(x, w) y = Conv(a, u)", "float[2,4,6,8] x" + W + ", float[2,4,1,1] u",
        w=drawn(4, 4, 2, 2), u=drawn(2, 4, 1, 1),
    )  # fmt: skip
    row = held(test, tmp_path)
    assert row.outcome == WRONG
    assert row.why.endswith("bytes of the array model differ, first of 'y'")


def _clamped(layer: Conv) -> Conv:
    return replace(layer, requant=replace(layer.requant, high=20))


def test_the_page(tmp_path: Path) -> None:
    tests = [
        case(tmp_path, "y = Conv(x, w)", "float[2,4,6,8] x" + W, w=drawn(4, 4, 2, 2)),
        case(tmp_path, "y = LRN<size=3>(x)"),
    ]
    given = list[Ran]()

    def runs(ran: Sequence[Ran]) -> dict[int, str]:
        given.extend(ran)
        return {}

    figures = run(Console(file=io.StringIO()), runs, tmp_path / "page.md", tests)
    assert [one.images.shape for one in given] == [(2, 4, 6, 8)]
    assert figures["passed"]
    assert figures[PLANAR] == {PASSES: 1, HOST: 0, REFUSED: 1, WRONG: 0}
    assert figures[WITH_WEIGHTS] == {PASSES: 1, HOST: 0, REFUSED: 0, WRONG: 0}
    page = (tmp_path / "page.md").read_text()
    assert "| test | Conv | 2 x 4 x 6 x 8 float32 | passes |" in page
    assert "| test | LRN | 2 x 4 x 6 x 8 float32 | refused: LRN 'y': not supported |" in page
    figures = run(Console(file=io.StringIO()), lambda _: {0: "a byte"}, tmp_path / "page.md", tests)
    assert not figures["passed"]
    assert "| test | Conv | 2 x 4 x 6 x 8 float32 | wrong: a byte |" in (tmp_path / "page.md").read_text()


def test_networks_run_on_the_rtl_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The image of the second is that of another network."""
    rows = [
        held(case(tmp_path, body, "float[2,4,6,8] x" + W, w=drawn(4, 4, 2, 2)), tmp_path)
        for body in ("y = Conv(x, w)", "y = Conv<strides=[2,2]>(x, w)", "y = Conv<pads=[1,1,0,0]>(x, w)")
    ]
    ran = [one for row in rows for one in row.ran]
    second = ran[1].network.layers[0]
    assert isinstance(second, Conv)

    def compiled(network: Network, config: ArrayConfig) -> Image:
        layers = (_clamped(second),) if network is ran[1].network else network.layers
        return compile_network(Network("x", network.input_shape, layers), config)

    monkeypatch.setattr(on_the_rtl, "compile_network", compiled)
    wrong = on_the_rtl.on_rtl(ran)
    assert list(wrong) == [1]
    assert "bytes differ" in wrong[1]


def test_the_page_that_is_kept_has_nothing_wrong() -> None:
    page = (ROOT / "docs" / "operators.md").read_text()
    assert "| wrong: " not in page
    assert page.count("| passes |") + page.count("| passes: ") > 100
