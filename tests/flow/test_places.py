"""Builds in places that are not as here: no command `python`, another one, a folder that is not in ASCII."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tb.flow import runner

COMMAND = (".venv/bin/python", "-m", "scripts.sim", "--test=block_delay")
COPIED = ("pymodel", "rtl", "scripts", "tb", "pyproject.toml")


def checkout(folder: Path) -> Path:
    """A copy of what a simulation needs, with nothing built."""
    for name in COPIED:
        source = runner.ROOT / name
        copy = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, folder / name)
    (folder / ".venv").symlink_to((runner.ROOT / ".venv").resolve())
    return folder


def simulate(folder: Path, path: str) -> None:
    """Builds and runs a block with nothing in the environment but `path`."""
    done = subprocess.run(
        COMMAND,
        cwd=folder,
        env={"HOME": str(Path.home()), "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert '"passed": true' in done.stdout.splitlines()[-1]


@pytest.mark.parametrize("other", [False, True], ids=["no python", "another python"])
def test_the_command_python_is_not_needed(other: bool, tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for command in (c for folder in ("/usr/bin", "/bin") for c in Path(folder).iterdir()):
        if not command.name.startswith("python") and not (tools / command.name).exists():
            (tools / command.name).symlink_to(command)
    if other:
        (tools / "python").write_text("#!/bin/sh\necho another python is called >&2\nexit 1\n")
        (tools / "python").chmod(0o755)
    place = tmp_path / "checkout"
    place.mkdir()
    simulate(checkout(place), str(tools))


def test_a_folder_that_is_not_in_ascii(tmp_path: Path) -> None:
    place = tmp_path / "größe-畳"
    place.mkdir()
    simulate(checkout(place), os.environ["PATH"])
