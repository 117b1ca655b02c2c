"""Every program and every command of the tutorial, in their order."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pymodel.machine.places import BUILD, ROOT
from tests.network.tflite_models import small_network

PAGE = ROOT / "docs" / "tutorial.md"
# Tests install nothing: what is installed is taken as it is.
STAMPS = [f".venv/.{name}" for name in ("made", "base", "train", "onnx", "tflite")]
INSTALLED = [part for stamp in STAMPS for part in ("-o", stamp)]


def steps() -> list[tuple[str, str]]:
    """The blocks of the page: (name of the file, its text), or ('', a command)."""
    found: list[tuple[str, str]] = []
    before = ""
    for text, kind, body in re.findall(r"(.*?)```(\w*)\n(.*?)```", PAGE.read_text(), re.DOTALL):
        if kind == "python":
            before = re.findall(r"[Ss]ave (?:this|it) as `([\w.]+)`", text)[-1]
            found.append((before, body))
        else:
            found += [("", line) for line in body.replace("\\\n", " ").splitlines() if line.strip()]
    return found


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder of links to all that the project's own has, so that programs and results lie here. Simulators
    are built where those of all tests are.
    """
    folder = tmp_path / "project"
    folder.mkdir()
    for one in ROOT.iterdir():
        if one.name not in (".git", ".venv", "build"):
            (folder / one.name).symlink_to(one)
    (folder / ".venv").symlink_to(sys.prefix)
    (BUILD / "sim").mkdir(parents=True, exist_ok=True)
    (folder / "build").mkdir()
    (folder / "build" / "sim").symlink_to(BUILD / "sim")
    return folder


def said(command: str, folder: Path) -> dict[str, Any]:
    """Runs a command; the JSON of its last line, or nothing."""
    words = shlex.split(command)
    words[1:1] = INSTALLED if words[0] == "make" else []
    clean = dict.fromkeys(("MAKEFLAGS", "MFLAGS", "MAKELEVEL"), "")
    env = {**os.environ, **clean, "BUILD": str(folder / "build"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    title, _, rest = done.stdout.splitlines()[-1].partition(" ") if done.stdout else ("", "", "")
    return json.loads(rest) if title.isupper() and rest.startswith("{") else {}


def test_the_tutorial(project: Path) -> None:
    pytest.importorskip("onnxruntime")
    # the published file is not the project's to have: a small one under its name
    small_network(project / "vww_96_int8.tflite")
    results = {}
    for name, text in steps():
        if name:
            (project / name).write_text(text)
        else:
            results[text] = said(text, project)
    inspected, simulated, (own, mobilenet) = (
        [out for command, out in results.items() if command.startswith(f"make {kind} ")]
        for kind in ("inspect", "sim", "compress")
    )
    assert [one["supported"] for one in inspected] == [True] * 3
    assert [(one["passed"], one["mismatches"]) for one in simulated] == [(True, 0)] * 5
    first, quantised = simulated[0], simulated[2]
    assert first["runtime_gap"] < 1e-4
    assert first["accuracy"] > 0.9
    assert quantised["runtime_off"] <= 0.005
    assert quantised["runtime_steps"] <= 1
    for report in (own, mobilenet):
        assert report["accuracy"]["int8"] > report["start"]["accuracy_int8"] - 0.05
    assert "scales_kept" not in own
    assert mobilenet["scales_kept"] >= 1
