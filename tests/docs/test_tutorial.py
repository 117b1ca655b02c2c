"""The program of the tutorial writes what its commands read."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from pymodel.network.load_model import load_model
from pymodel.network.model_file import FloatFile
from pymodel.training.file_task import task_of

PAGE = Path(__file__).resolve().parents[2] / "docs" / "tutorial.md"


def test_the_network_is_trained_exported_and_read(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    (program,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (tmp_path / "mycnn.py").write_text(program)
    done = subprocess.run(
        [sys.executable, "mycnn.py"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert float(done.stdout.split()[1]) > 0.95
    file = load_model(tmp_path / "mycnn.onnx")
    assert isinstance(file, FloatFile)
    task = task_of(str(tmp_path / "mycnn.onnx"), None, tmp_path / "mycnn.npz")
    assert (len(task.train_labels), len(task.test_labels)) == (1438, 359)
