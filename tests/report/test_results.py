"""`make results`: which runs there are, what is done already, and the page."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
import torch
import yaml

from pymodel.machine.errors import RatioError, TatamiError
from pymodel.machine.files import checked
from pymodel.training import train_digits
from pymodel.training.runs import CompressionRun, PlannedBudget, PlannedRuns, RunsFile, plan, read_runs
from pymodel.training.tasks import TASKS
from scripts import compress, results
from tb.flow import campaign
from tests.flow import calls

ENTRIES: list[dict[str, Any]] = [
    {
        "network": "digits",
        "schemes": ["tight", "tetris"],
        "ratios": [4, 8],
        "seeds": [1, 2],
        "budget": {"epochs": 3, "batch": 32},
    },
    {
        "network": "resnet20",
        "needs": ["weights", "data"],
        "schemes": ["tight"],
        "ratios": [14.13],
        "compile": True,
    },
]


def entries() -> tuple[PlannedRuns, ...]:
    return checked(RunsFile, {"runs": ENTRIES}, "x").runs


def test_a_network_without_its_files_is_left_out() -> None:
    runs, left_out = plan(entries(), {}, None, None)
    names = ["digits-tight-4-1", "digits-tetris-4-1", "digits-tight-8-1", "digits-tetris-8-1"]
    assert [run.name for run in runs] == [*names, *(name[:-1] + "2" for name in names)]
    assert left_out == ["resnet20"]
    assert {(run.budget.epochs, run.budget.batch, run.compiled) for run in runs} == {(3, 32, False)}
    weights, data = {"resnet20": Path("/w.pt")}, Path("/data")
    runs, left_out = plan(entries(), weights, data, 0.5)
    assert left_out == []
    budget = PlannedBudget(epochs=0.5)
    assert runs[-1] == CompressionRun(
        "resnet20", "tight", 14.13, 1, budget, weights["resnet20"], data, compiled=True
    )
    assert {(run.budget.epochs, run.budget.batch) for run in runs[:-1]} == {(0.5, 32)}


def test_a_run_is_a_call_of_compress() -> None:
    """Its options are known there, each by that name."""
    budget = PlannedBudget(epochs=0.5, batch=32, learning_rate=0.1, replans=3, precision="bfloat16")
    run = CompressionRun("resnet20", "tight", 14.13, 2, budget, Path("/"), Path("/"), compiled=True)
    context = compress.main.make_context("compress", list(run.options))
    given = {
        "network": "resnet20",
        "scheme": "tight",
        "ratio": 14.13,
        "seed": 2,
        "epochs": 0.5,
        "batch": 32,
        "learning_rate": 0.1,
        "replans": 3,
        "precision": "bfloat16",
        "weights": Path("/"),
        "data": Path("/"),
        "compiled": True,
    }
    assert {name: context.params[name] for name in given} == given


def test_the_runs_of_the_project_are_legal() -> None:
    for entry in read_runs(results.SCRIPTS / "results.yaml").runs:
        assert entry.network in TASKS
        assert len(entry.ratios) >= (1 if entry.network == "resnet56" else 4)  # whose curves take days


def test_the_long_campaign_trains_all_alike() -> None:
    """Once, in the background, at the lowest priority; the points that decide come first."""
    file = read_runs(results.SCRIPTS / "results-long.yaml")
    assert (file.nice, file.threads) == (19, 1)
    assert len({entry.budget for entry in file.runs}) == 1
    names = list(file.names(Path("nowhere")))
    assert len(set(names)) == len(names)
    deciding = [
        f"resnet20-{scheme}-{ratio}-1"
        for ratio in ("8", "14.13")
        for scheme in (
            "column_combining",
            "tight_joint",
            "tight_cycle",
            "joint_subword",
            "cycle_subword",
            "unstructured",
        )
    ]
    assert set(names[:13]) == {*deciding, "resnet20-dense-1-1"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schemes": ["tight", "magic"]}, "'runs.0.schemes.1' is 'magic': must be one of dense, "),
        ({"schemes": []}, r"'runs.0.schemes' is \[\]: .* at least 1 item"),
        ({"ratios": [4, 0.5]}, "'runs.0.ratios.1' is 0.5: .* greater than or equal to 1"),
        ({"ratios": 4}, "'runs.0.ratios' is 4: "),
        ({"needs": ["luck"]}, "'runs.0.needs.0' is 'luck': input should be 'weights' or 'data'"),
        ({"seeds": [-1]}, "'runs.0.seeds.0' is -1: "),
        ({"epochs": 3}, "field 'runs.0.epochs' is unknown"),
        ({"budget": {"momentum": 1}}, "field 'runs.0.budget.momentum' is unknown"),
        ({"budget": {"epochs": -1}}, r"'runs.0.budget' is .*: budget: epochs is -1.0, must be in 0\.\."),
        ({"network": None}, "'runs.0.network' is None: "),
    ],
)
def test_a_bad_entry_is_named(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = tmp_path / "results.yaml"
    path.write_text(yaml.safe_dump({"runs": [ENTRIES[0] | change]}))
    with pytest.raises(TatamiError, match=f"{path}: (field )?{message}") as caught:
        read_runs(path)
    assert "\n" not in str(caught.value)


def test_bad_input_is_named(tmp_path: Path) -> None:
    for option, message in (
        ("--weights=resnet20.th", "WEIGHTS 'resnet20.th' must be network=path of a state_dict"),
        ("--weights=resnet20=no/such.th", "WEIGHTS 'resnet20=no/such.th' must be"),
        ("--data=nowhere", "DATA 'nowhere': no such file or folder"),
        ("--jobs=0", "JOBS 0 is outside 1..1024"),
        ("--jobs=1.5", "JOBS '1.5' is not an integer"),
        ("--epochs=-1", "epochs is -1.0, must be in 0.."),
        ("--epochs=few", "EPOCHS 'few' is not a number"),
        ("--page=2", "PAGE 2 is outside 0..1"),
        (f"--weights=vgg={__file__}", "WEIGHTS: 'vgg' takes none; those that do: resnet20, resnet56"),
    ):
        with pytest.raises(TatamiError, match=message):
            results.main([option])
    (tmp_path / "w.th").write_bytes(b"")
    text = f"resnet20={tmp_path / 'w.th'},resnet56={tmp_path / 'w.th'}"
    assert results.state_dicts("WEIGHTS", text) == dict.fromkeys(("resnet20", "resnet56"), tmp_path / "w.th")


@pytest.mark.slow
def test_runs_are_done_once_and_rendered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    entry = {"network": "digits", "schemes": ["tight_joint"], "ratios": [8, 1e6], "budget": {"epochs": 0}}
    entry["needs"] = ["weights"]  # else digits would be trained, for half a minute
    torch.save(train_digits.DigitsNet().state_dict(), tmp_path / "digits.pt")
    runs = tmp_path / "results.yaml"
    runs.write_text(yaml.safe_dump({"threads": 1, "runs": [entry]}))  # more wait for each other
    monkeypatch.setattr(results, "SCRIPTS", tmp_path)
    monkeypatch.setattr(results, "WORK", tmp_path / "work")
    page = tmp_path / "docs" / "results.md"
    page.parent.mkdir()
    given = [f"--out={page}", f"--weights=digits={tmp_path / 'digits.pt'}"]
    # the ratio that no lanes are left for is said, and no failure of the command
    assert results.main(given) == 0
    said = capsys.readouterr().out
    assert "digits-tight_joint-1e+06-1: compress: ratio is 1e+06, must be at most" in said
    assert json.loads(said.splitlines()[-1].removeprefix("RESULTS "))["done"] == 1
    text = page.read_text()
    assert "tight_joint" in text
    assert (page.parent / "results" / "digits-16x16.svg").is_file()
    assert list((page.parent / "results").glob("digits--tight_joint--*.png"))
    # again, as on a machine that has the page alone: what is done is not done again, and the page is the same
    shutil.rmtree(tmp_path / "work")
    assert results.main(given) == 0
    assert not (tmp_path / "work" / "results" / "digits-tight_joint-8-1").exists()
    assert page.read_text() == text
    # the page alone, of what is done: not even what failed is tried
    runs.write_text(yaml.safe_dump({"threads": 1, "runs": [{**entry, "ratios": [8, 1e6, 4]}]}))
    capsys.readouterr()
    assert results.main([*given, "--page=1"]) == 0
    said = capsys.readouterr().out
    assert "ratio is" not in said
    assert json.loads(said.splitlines()[-1].removeprefix("RESULTS "))["done"] == 1
    both = "2 runs have no report yet: digits-tight_joint-1e+06-1, digits-tight_joint-4-1."
    assert page.read_text() == text.replace("1 run has no report yet: digits-tight_joint-1e+06-1.", both)
    assert both in page.read_text()


@pytest.mark.parametrize(("child", "status"), [(2, 1), (1, 1), (RatioError.status, 0)])
def test_the_exit_status_is_from_that_of_the_runs_not_their_words(
    child: int,
    status: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    entry = {"network": "digits", "schemes": ["tight"], "ratios": [8], "budget": {"epochs": 0}}
    (tmp_path / "results-long.yaml").write_text(yaml.safe_dump({"nice": 7, "threads": 3, "runs": [entry]}))
    monkeypatch.setattr(results, "SCRIPTS", tmp_path)
    monkeypatch.setattr(results, "compressed", partial(calls.fail_to_train, child))
    page = tmp_path / "results.md"
    page.with_suffix("").mkdir()
    kept = next((results.ROOT / "docs" / "results").glob("digits-*.json"))
    shutil.copy(kept, page.with_suffix(""))
    assert results.main([f"--out={page}", "--campaign=long"]) == status
    assert "digits-tight-8-1: ratio is damaged, nice 7, threads 3\n" in capsys.readouterr().out
    assert "1 run has no report yet: digits-tight-8-1." in page.read_text()


def test_a_training_hears_nothing_of_what_make_was_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is compiled only where that is possible."""
    monkeypatch.setenv("EPOCHS", "0")
    monkeypatch.setenv("OWN", "kept")
    monkeypatch.setattr(campaign, "python_headers", lambda: Path("/nowhere/Python.h"))

    def run(call: list[str], env: dict[str, str], stdout: Any, **_: Any) -> CompletedProcess[str]:
        assert env["OWN"] == "kept"
        assert "EPOCHS" not in env
        assert call[:2] == ["nice", "-n7"]
        assert {"--threads=3", "--epochs=2.0"} < set(call)
        assert "--compile" not in call
        stdout.write("some\nwords\n")
        return CompletedProcess([], 5)

    monkeypatch.setattr(campaign.subprocess, "run", run)
    one = CompressionRun("digits", "tight", 8, 1, PlannedBudget(epochs=2), compiled=True)
    done = campaign.compressed(one, campaign.Way(tmp_path, 3, 7, frozenset({"EPOCHS"})))
    assert done == campaign.Ended(tmp_path / "digits-tight-8-1", "words", 5)


def test_a_page_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    page = tmp_path / "results.md"
    page.mkdir()
    page.with_suffix("").mkdir()
    kept = next((results.ROOT / "docs" / "results").glob("digits-*.json"))
    shutil.copy(kept, page.with_suffix(""))
    with pytest.raises(TatamiError, match=f"{page}: cannot be written: Is a directory"):
        results.main([f"--out={page}", "--page=1"])


def test_a_report_of_another_budget_is_no_result(tmp_path: Path) -> None:
    run = CompressionRun("resnet20", "tight", 4, 1, PlannedBudget(epochs=2, batch=64, precision="bfloat16"))
    assert not run.done(tmp_path)
    kept = run.report(tmp_path)
    shutil.copy(results.ROOT / "docs" / "results" / kept.name, kept)
    assert run.done(tmp_path)
    assert not replace(run, budget=PlannedBudget(epochs=3, batch=64)).done(tmp_path)
    assert not replace(run, budget=PlannedBudget(epochs=2, precision="float32")).done(tmp_path)
    assert not replace(run, budget=PlannedBudget(epochs=2, distillation=0.5)).done(tmp_path)
    whole = kept.read_text()
    for damaged in ("", "[]", "{}", '{"budget": 3}', whole[:-9], whole.replace("epochs", "epoch")):
        kept.write_text(damaged)
        with pytest.raises(TatamiError, match=f"report '{kept}': .*; remove the file to do its run again"):
            run.done(tmp_path)


@pytest.mark.parametrize("campaign", results.NAMES)
def test_the_page_is_what_its_reports_give(campaign: str, tmp_path: Path) -> None:
    page = results.PAGES / f"{results.NAMES[campaign]}.md"
    results.write_page(campaign, page.with_suffix(""), tmp_path / page.name)
    assert (tmp_path / page.name).read_text() == page.read_text(), (
        f"{page.name} differs from its reports: make results CAMPAIGN={campaign} PAGE=1"
    )
