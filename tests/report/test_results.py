"""`make results`: which runs there are, what is done already, and the page."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
import yaml

from pymodel.machine.errors import RATIO_STATUS, TatamiError
from pymodel.report import render
from pymodel.schemes import SCHEMES
from pymodel.training.schedule import Budget
from pymodel.training.tasks import TASKS
from scripts import results
from scripts.results import Run, files, plan

ENTRIES: list[dict[str, Any]] = [
    {
        "network": "digits",
        "schemes": ["tight", "tetris"],
        "ratios": [4, 8],
        "seeds": [1, 2],
        "epochs": 3,
        "batch": 32,
    },
    {"network": "resnet20", "needs": ["weights", "data"], "schemes": ["tight"], "ratios": [14.13]},
]


def test_a_network_without_its_files_is_left_out() -> None:
    runs, left_out = plan(ENTRIES, {}, None, None)
    names = ["digits-tight-4-1", "digits-tetris-4-1", "digits-tight-8-1", "digits-tetris-8-1"]
    assert [run.name for run in runs] == [*names, *(name[:-1] + "2" for name in names)]
    assert left_out == ["resnet20"]
    assert all(run.options == ("--epochs=3", "--batch=32") for run in runs)
    runs, left_out = plan(ENTRIES, {"resnet20": Path("/w.pt")}, Path("/data"), 0.5)
    assert left_out == []
    assert runs[-1] == Run(
        "resnet20", "tight", 14.13, 1, {"epochs": 0.5}, ("--weights=/w.pt", "--data=/data")
    )
    assert runs[-1].options == ("--epochs=0.5", "--weights=/w.pt", "--data=/data")
    assert runs[0].options == ("--epochs=0.5", "--batch=32")


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
    assert files(f"resnet20={tmp_path / 'w.th'}", str(tmp_path)) == (
        {"resnet20": tmp_path / "w.th"},
        tmp_path,
    )
    for option, message in (
        ("--jobs=0", "JOBS 0 is outside 1..1024"),
        ("--jobs=1.5", "JOBS '1.5' is not an integer"),
        ("--epochs=-1", "epochs is -1.0, must be in 0.."),
        ("--epochs=few", "EPOCHS 'few' is not a number"),
    ):
        with pytest.raises(TatamiError, match=message):
            results.main([option])


@pytest.mark.slow
def test_runs_are_done_once_and_rendered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    entry = {"network": "digits", "schemes": ["tight_joint"], "ratios": [8, 1e6], "epochs": 0}
    (tmp_path / "results.yaml").write_text(yaml.safe_dump([entry]))
    monkeypatch.setattr(results, "RUNS", tmp_path / "results.yaml")
    monkeypatch.setattr(results, "WORK", tmp_path / "work")
    page = tmp_path / "docs" / "results.md"
    page.parent.mkdir()
    # the ratio that no lanes are left for is said, and no failure of the command
    assert results.main([f"--out={page}"]) == 0
    said = capsys.readouterr().out
    assert "digits-tight_joint-1e+06-1: compress: ratio is 1e+06, must be at most" in said
    assert json.loads(said.splitlines()[-1].removeprefix("RESULTS "))["done"] == 1
    text = page.read_text()
    assert "tight_joint" in text
    assert (page.parent / "results" / "digits-16x16.svg").is_file()
    assert list((page.parent / "results").glob("digits--tight_joint--*.png"))
    # again, as on a machine that has the page alone: what is done is not done again, and the page is the same
    shutil.rmtree(tmp_path / "work")
    assert results.main([f"--out={page}"]) == 0
    assert not (tmp_path / "work" / "digits-tight_joint-8-1").exists()
    assert page.read_text() == text
    # the page alone, of what is done: not even what failed is tried
    (tmp_path / "results.yaml").write_text(yaml.safe_dump([{**entry, "ratios": [8, 1e6, 4]}]))
    capsys.readouterr()
    assert results.main([f"--out={page}", "--page=1"]) == 0
    said = capsys.readouterr().out
    assert "ratio is" not in said
    assert json.loads(said.splitlines()[-1].removeprefix("RESULTS "))["done"] == 1
    assert page.read_text() == text


@pytest.mark.parametrize(("child", "status"), [(2, 1), (1, 1), (RATIO_STATUS, 0)])
def test_the_exit_status_is_from_that_of_the_runs_not_their_words(
    child: int, status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = {"network": "digits", "schemes": ["tight"], "ratios": [8], "epochs": 0}
    (tmp_path / "results.yaml").write_text(yaml.safe_dump([entry]))
    monkeypatch.setattr(results, "RUNS", tmp_path / "results.yaml")
    monkeypatch.setattr(results, "WORK", tmp_path / "work")
    said = "compress: what the file says of ratio is damaged\n"
    monkeypatch.setattr(results.subprocess, "run", lambda *_, **__: CompletedProcess([], child, said))
    page = tmp_path / "results.md"
    page.with_suffix("").mkdir()
    kept = next((results.ROOT / "docs" / "results").glob("digits-*.json"))
    shutil.copy(kept, page.with_suffix(""))
    assert results.main([f"--out={page}"]) == status


def test_a_report_of_another_budget_is_no_result(tmp_path: Path) -> None:
    run = Run("digits", "tight", 4, 1, {"epochs": 3, "precision": "bfloat16"})
    assert not run.done(tmp_path)
    (tmp_path / "digits-tight-4-1.json").write_text(
        json.dumps({"budget": {"epochs": 3.0, "precision": "bfloat16", "batch": 32}})
    )
    assert run.done(tmp_path)
    assert not replace(run, budget={"epochs": 2, "precision": "bfloat16"}).done(tmp_path)
    assert not replace(run, budget={"epochs": 3, "precision": "float32"}).done(tmp_path)
    for damaged in ("", "[]", "{}", '{"budget": 3}'):
        (tmp_path / "digits-tight-4-1.json").write_text(damaged)
        with pytest.raises(
            TatamiError,
            match=r"digits-tight-4-1.json: not a report, or damaged; remove it to do its run again",
        ):
            run.done(tmp_path)


def test_the_page_is_what_its_reports_give(tmp_path: Path) -> None:
    page = results.ROOT / "docs" / "results.md"
    render(page.with_suffix(""), tmp_path / page.name, command="make results")
    assert (tmp_path / page.name).read_text() == page.read_text(), (
        "docs/results.md differs from its reports: make results PAGE=1"
    )
