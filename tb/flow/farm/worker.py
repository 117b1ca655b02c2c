"""What runs on a worker of a Dask scheduler: calls, in a process of their own.

A simulation changes the environment of its process, and may take it down. So the worker itself only hands on:
it stays in touch with its scheduler while a run goes on, and when it ends its process and the simulators end.
What a call leaves in files is sent back, unless the worker writes where the coordinator reads.
"""

from __future__ import annotations

import os
import platform
import zlib
from collections.abc import Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, Self, runtime_checkable

from pymodel.machine.errors import TatamiError
from pymodel.machine.places import BUILD, ROOT
from tb.common import settings
from tb.flow import build, provenance
from tb.flow.processes import fresh, kill_all

TOKENS = "farm"  # folder below BUILD
SOURCES = ("pymodel", "rtl", "scripts", "tb")
KINDS = {".py", ".v", ".vh", ".vlt", ".f", ".yaml", ".cpp", ".mk"}
HANDED_ON = (settings.VARIABLE,)  # variables of the environment that a run reads


@dataclass(frozen=True)
class Place:
    """The checkout of a machine, and the folder below which it writes."""

    root: Path = ROOT
    build: Path = BUILD

    def here(self, text: str) -> str:
        """A text in which paths below that machine's `build` become those below the one here."""
        return text.replace(str(self.build), str(BUILD))


@runtime_checkable
class Travels(Protocol):
    """A result that names files."""

    def files(self) -> Iterable[Path]:
        """The files and folders that belong to it, below BUILD."""
        ...

    def moved(self, place: Place) -> Self:
        """The same with the paths here, of one that was made there."""
        ...


@dataclass(frozen=True)
class Introduction:
    """What a worker is. `shared`: it writes where the coordinator reads."""

    host: str
    place: Place
    shared: bool
    checkout: str
    tools: dict[str, str]


@dataclass(frozen=True)
class Returned:
    """What a call returned, and the files that go with it, by their path below BUILD, compressed; none if
    they are `at_home`.
    """

    value: Any
    files: dict[str, bytes] = field(default_factory=dict)
    at_home: bool = False

    def here(self, place: Place) -> Any:
        """The value, once its files are below BUILD here."""
        if self.at_home:
            return self.value
        for name, content in self.files.items():
            path = (BUILD / name).resolve()
            if not path.is_relative_to(BUILD.resolve()):
                raise TatamiError(f"a worker sends file '{name}', which is not below {BUILD}")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(zlib.decompress(content))
        moved = [each.moved(place) if isinstance(each, Travels) else each for each in _each(self.value)]
        return moved if isinstance(self.value, list) else moved[0]


def checkout() -> str:
    """A digest of the files that decide what a run does."""
    files = sorted(
        path
        for name in SOURCES
        for path in (ROOT / name).rglob("*")
        if path.suffix in KINDS and path.is_file()
    )
    return build.digest([(str(path.relative_to(ROOT)), path.read_bytes().hex()) for path in files])


def token(name: str) -> Path:
    """A file by which a worker knows that it writes where the coordinator reads."""
    return BUILD / TOKENS / name


# on the worker

_pool: ProcessPoolExecutor | None = None


def introduce(name: str) -> Introduction:
    """Of this worker. `name` is the coordinator's token."""
    path = token(name)
    shared = path.is_file() and path.read_text() == name
    return Introduction(platform.node(), Place(), shared, checkout(), provenance.tool_versions())


def do(function: Any, arguments: tuple[Any, ...], variables: Mapping[str, str], shared: bool) -> Returned:
    """Has a call done in the worker's own process. Raises `BrokenProcessPool` if that is killed."""
    global _pool  # noqa: PLW0603
    for attempt in (1, 2):
        if _pool is None:
            _pool = fresh(1)
        try:
            doing = _pool.submit(_call, function, arguments, variables, shared)
            break
        except BrokenProcessPool:  # it was killed while it had nothing to do
            _pool = None
            if attempt == 2:
                raise
    try:
        return doing.result()
    except BrokenProcessPool:
        _pool = None
        raise


def abandon() -> None:
    """Ends the call under way."""
    kill_all()


def _call(function: Any, arguments: tuple[Any, ...], variables: Mapping[str, str], shared: bool) -> Returned:
    for name in HANDED_ON:
        os.environ.pop(name, None)
    os.environ.update(variables)
    value = function(*arguments)
    if shared:
        return Returned(value, at_home=True)
    made = (path for each in _each(value) if isinstance(each, Travels) for path in _all(each.files()))
    return Returned(value, {str(path.relative_to(BUILD)): _packed(path) for path in made})


def _each(value: Any) -> list[Any]:
    """A call may return a list of results."""
    return value if isinstance(value, list) else [value]


def _all(paths: Iterable[Path]) -> Iterable[Path]:
    for path in paths:
        if not path.is_relative_to(BUILD) or not path.exists():  # a log of what did not come about
            continue
        yield from (p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]


def _packed(path: Path) -> bytes:
    return zlib.compress(path.read_bytes(), 1)
