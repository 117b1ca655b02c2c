"""The Verilog files: of the machine, of its checkers, of the probe."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from pymodel.machine.errors import TatamiError
from pymodel.machine.places import ROOT

FILE_LIST = ROOT / "rtl" / "psa.f"
CHECKERS = ROOT / "tb" / "checkers" / "checkers.f"
LISTS = (FILE_LIST, CHECKERS)
INCLUDES = "+incdir+"  # begins a line that names a folder of headers
PROBE = ROOT / "tb" / "debug" / "psa_probe.v"


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        raise TatamiError(f"{path}: file list not found")
    lines = (line.partition("//")[0].strip() for line in path.read_text().splitlines())
    return [line for line in lines if line]


def file_list(path: Path) -> list[Path]:
    """The files that a list names, in order. Its paths start at the root of the repository."""
    sources = [ROOT / line for line in _lines(path) if not line.startswith(INCLUDES)]
    for source in sources:
        if not source.is_file():
            raise TatamiError(f"{path}: {source.relative_to(ROOT)} not found")
    return sources


def rtl_sources() -> list[Path]:
    """The files of the machine."""
    return file_list(FILE_LIST)


def include_folders(lists: Sequence[Path] = LISTS) -> list[Path]:
    """Where a compiler finds the headers of all files, or of those in `lists`."""
    lines = (line for path in lists for line in _lines(path))
    return [ROOT / line.removeprefix(INCLUDES) for line in lines if line.startswith(INCLUDES)]


def headers(lists: Sequence[Path] = LISTS) -> list[Path]:
    """The headers that all files include, or those in `lists`."""
    return [header for folder in include_folders(lists) for header in sorted(folder.glob("*.vh"))]


def texts(sources: Sequence[Path] | None = None) -> dict[str, str]:
    """By name, the files of the machine or `sources`, and the headers of the machine."""
    files = rtl_sources() if sources is None else sources
    return {path.name: path.read_text() for path in (*files, *headers([FILE_LIST]))}


def verilog(files: Iterable[str]) -> str:
    """The names that yosys has to read of such files: not those of headers."""
    return " ".join(name for name in files if name.endswith(".v"))


def checker_sources() -> list[Path]:
    """The files of its checkers, whose top is `CHECKED_TOP`."""
    return file_list(CHECKERS)
