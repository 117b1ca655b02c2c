"""The Verilog files: of the machine, of its checkers, of the probe."""

from __future__ import annotations

from pathlib import Path

from pymodel.machine.errors import TatamiError
from pymodel.machine.places import ROOT

FILE_LIST = ROOT / "rtl" / "psa.f"
CHECKERS = ROOT / "tb" / "checkers" / "checkers.f"
PROBE = ROOT / "tb" / "debug" / "psa_probe.v"


def file_list(path: Path) -> list[Path]:
    """The files that a list names, in order. Its paths start at the root of the repository."""
    if not path.is_file():
        raise TatamiError(f"{path}: file list not found")
    lines = (line.partition("//")[0].strip() for line in path.read_text().splitlines())
    sources = [ROOT / line for line in lines if line]
    for source in sources:
        if not source.is_file():
            raise TatamiError(f"{path}: {source.relative_to(ROOT)} not found")
    return sources


def rtl_sources() -> list[Path]:
    """The files of the machine."""
    return file_list(FILE_LIST)


def checker_sources() -> list[Path]:
    """The files of its checkers, whose top is `CHECKED_TOP`."""
    return file_list(CHECKERS)
