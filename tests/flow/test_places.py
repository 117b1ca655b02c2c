"""Builds in places that are not as here: no command `python`, another one, a folder that is not in ASCII."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tb.flow import runner

COMMAND = (".venv/bin/python", "-m", "scripts.sim")
COPIED = ("pymodel", "rtl", "scripts", "tb", "pyproject.toml")


def checkout(folder: Path) -> Path:
    """A copy of what a simulation needs, with nothing built."""
    for name in COPIED:
        source = runner.ROOT / name
        copy = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, folder / name)
    (folder / ".venv").symlink_to((runner.ROOT / ".venv").resolve())
    return folder


def tools(folder: Path) -> Path:
    """All commands of the machine but those of Python."""
    folder.mkdir()
    for command in (c for place in ("/usr/bin", "/bin") for c in Path(place).iterdir()):
        if not command.name.startswith("python") and not (folder / command.name).exists():
            (folder / command.name).symlink_to(command)
    return folder


def simulate(test: str, folder: Path, path: Path) -> subprocess.CompletedProcess[str]:
    """Builds and runs a block with nothing in the environment but `path`."""
    return subprocess.run(
        [*COMMAND, f"--test={test}"],
        cwd=folder,
        env={"HOME": str(Path.home()), "PATH": str(path)},
        capture_output=True,
        text=True,
        check=False,
    )


def assert_passed(done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 0, done.stdout + done.stderr
    assert '"passed": true' in done.stdout.splitlines()[-1]


@dataclass(frozen=True)
class First:
    """The first build in a checkout, Verilator's runtime with it: a folder that is not in ASCII, and no
    command `python`.
    """

    folder: Path
    tools: Path
    done: subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> First:
    scratch = tmp_path_factory.mktemp("places")
    place = scratch / "größe-畳"
    place.mkdir()
    commands = tools(scratch / "tools")
    return First(place, commands, simulate("block_delay", checkout(place), commands))


@pytest.mark.parametrize("other", [False, True], ids=["no python", "another python"])
def test_the_command_python_is_not_needed(other: bool, first: First) -> None:
    """Nor is another one called that is there, by the build of a second design."""
    assert not list(first.tools.glob("python*"))
    if not other:
        assert_passed(first.done)
        return
    python = first.tools / "python"
    python.write_text("#!/bin/sh\necho another python is called >&2\nexit 1\n")
    python.chmod(0o755)
    assert_passed(simulate("block_delay_2", first.folder, first.tools))


def test_a_folder_that_is_not_in_ascii(first: First) -> None:
    assert not str(first.folder).isascii()
    assert_passed(first.done)
    assert list(first.folder.glob("build/sim/psa_delay-verilator*/done"))
