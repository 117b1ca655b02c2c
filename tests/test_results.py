"""`make results`: which runs there are, what is done already, and the page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from pymodel.errors import TatamiError
from pymodel.schemes import SCHEMES
from pymodel.tasks import TASKS
from pymodel.training import Budget
from scripts import results
from scripts.results import Run, files, plan

ENTRIES: list[dict[str, Any]] = [
    {"network": "digits", "schemes": ["tight", "tetris"], "ratios": [4, 8], "epochs": 3, "batch": 32},
    {"network": "resnet20", "needs": ["weights", "data"], "schemes": ["tight"], "ratios": [14.13]},
]


def test_a_network_without_its_files_is_left_out() -> None:
    runs, left_out = plan(ENTRIES, {}, None, None)
    assert [(run.network, run.scheme, run.ratio) for run in runs] == [
        ("digits", "tight", 4),
        ("digits", "tetris", 4),
        ("digits", "tight", 8),
        ("digits", "tetris", 8),
    ]
    assert left_out == ["resnet20"]
    assert all(run.arguments == ("--epochs=3", "--batch=32") for run in runs)
    runs, left_out = plan(ENTRIES, {"resnet20": Path("/w.pt")}, Path("/data"), 0.5)
    assert left_out == []
    assert runs[-1] == Run("resnet20", "tight", 14.13, ("--epochs=0.5", "--weights=/w.pt", "--data=/data"))
    assert runs[0].arguments == ("--epochs=0.5", "--batch=32")


def test_the_runs_of_the_project_are_legal() -> None:
    for entry in yaml.safe_load(results.RUNS.read_text()):
        assert entry["network"] in TASKS
        assert set(entry["schemes"]) <= set(SCHEMES)
        assert len(entry["ratios"]) >= (1 if entry["network"] == "resnet56" else 4)  # whose curves take days
        Budget(**{name: entry[name] for name in results.BUDGET if name in entry})


def test_bad_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(TatamiError, match=r"WEIGHTS: 'resnet20.th' must be network=path of a state_dict"):
        files("resnet20.th", "")
    with pytest.raises(TatamiError, match=r"WEIGHTS: 'resnet20=no/such.th' must be"):
        files("resnet20=no/such.th", "")
    with pytest.raises(TatamiError, match=r"DATA is 'nowhere': no such folder"):
        files("", "nowhere")
    (tmp_path / "w.th").write_bytes(b"")
    assert files(f"resnet20={tmp_path / 'w.th'}", str(tmp_path)) == ({"resnet20": tmp_path / "w.th"}, tmp_path)
    for option, message in (
        ("--jobs=0", "JOBS 0 is outside 1..1024"),
        ("--jobs=1.5", "JOBS '1.5' is not an integer"),
        ("--epochs=-1", "epochs is -1.0, must be in 0.."),
        ("--epochs=few", "EPOCHS 'few' is not a number"),
    ):
        with pytest.raises(TatamiError, match=message):
            results.main([option])


@pytest.mark.slow
def test_runs_are_done_once_and_rendered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    entry = {"network": "digits", "schemes": ["tight_joint"], "ratios": [8, 1e6], "epochs": 0}
    (tmp_path / "results.yaml").write_text(yaml.safe_dump([entry]))
    monkeypatch.setattr(results, "RUNS", tmp_path / "results.yaml")
    monkeypatch.setattr(results, "KEPT", tmp_path / "kept")
    page = tmp_path / "docs" / "results.md"
    page.parent.mkdir()
    # the ratio that no lanes are left for is said, and no failure of the command
    assert results.main([f"--out={page}"]) == 0
    said = capsys.readouterr().out
    assert "digits-tight_joint-1e+06: compress: ratio is 1e+06, must be at most" in said
    assert json.loads(said.splitlines()[-1].removeprefix("RESULTS "))["done"] == 1
    text = page.read_text()
    assert "tight_joint" in text
    assert (page.parent / "results" / "digits-16x16.svg").is_file()
    assert list((page.parent / "results").glob("digits--tight_joint--*.png"))
    # again: what is done is not done again, and the page is the same
    before = (tmp_path / "kept" / "runs" / "digits-tight_joint-8" / "log.txt").stat().st_mtime_ns
    assert results.main([f"--out={page}"]) == 0
    assert (tmp_path / "kept" / "runs" / "digits-tight_joint-8" / "log.txt").stat().st_mtime_ns == before
    assert page.read_text() == text
    # the page alone, of what is done: not even what failed is tried
    (tmp_path / "results.yaml").write_text(yaml.safe_dump([{**entry, "ratios": [8, 1e6, 4]}]))
    capsys.readouterr()
    assert results.main([f"--out={page}", "--page=1"]) == 0
    said = capsys.readouterr().out
    assert "ratio is" not in said
    assert json.loads(said.splitlines()[-1].removeprefix("RESULTS "))["done"] == 1
    assert page.read_text() == text
