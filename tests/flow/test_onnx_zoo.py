"""`make bench BENCH=onnx_zoo`: what it runs, and what it says."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from pymodel.network.load_model import load_model
from tb.flow import onnx_zoo
from tb.flow.testlist import TESTS

pytest.importorskip("onnx")


def test_all_nine_run_and_one_that_fails_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    given = []

    def simulate(*arguments: Any) -> Any:
        source = arguments[6]
        given.append(source)
        passed = source.weights.stem != "light_vgg19"
        summary = {"cycles": 7, "mismatches": 0 if passed else 3}
        return SimpleNamespace(
            summary=summary, outcome=SimpleNamespace(passed=passed), failure_lines=lambda: []
        )

    monkeypatch.setattr(onnx_zoo, "simulate", simulate)
    console = Console(record=True, width=400)
    figures = onnx_zoo.run(console)
    assert len(given) == 9
    assert {source.skip for source in given} == {"LRN"}
    assert not figures["passed"]
    failed = [row["network"] for row in figures["networks"] if not row["passed"]]
    assert failed == ["light_vgg19"]
    assert "light_vgg19" in console.export_text()


@pytest.mark.parametrize("name", ["light_shufflenet", "light_inception_v2"])
def test_means_of_the_pixels_inside_are_imported(name: str) -> None:
    (path,) = [one for one in onnx_zoo.files() if one.stem == name]
    network = load_model(path).network
    assert network.shapes[network.layers[-1].name] == (1000, 1, 1)


def test_a_file_has_the_time_of_the_same_architecture() -> None:
    """VGG-19 as a file takes as long as VGG-16 as drawn here."""
    assert TESTS["network"].timeout_s >= TESTS["zoo_vgg16"].timeout_s
