"""What a file of a trained network is once it is imported, and what is refused of one."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from pymodel.machine.errors import TatamiError
from pymodel.machine.names import LONGEST
from pymodel.network.float import FloatNetwork
from pymodel.network.integer import Network
from pymodel.network.scale import Scale

Result = TypeVar("Result")
SKIPPABLE = ("LRN",)  # operators that networks do without, at a loss of accuracy
SKIPPED = "skipped"  # the note about one
NOT_SUPPORTED = "not supported"  # an operator
NAMED = 3  # nodes of one kind that a message names


@dataclass(frozen=True)
class ModelFile:
    """An imported network, its values in the file's own scales.

    `scales` has the scale of every tensor of the network. `origin`: the file's name (or number) of the tensor
    that a layer computes, by layer name; a layer that was added has none. `notes`: lines about what is not as
    in the file. `input_type`: what the file takes: INT8, UINT8 (values 128 larger) or FLOAT (real values).
    """

    path: Path
    network: Network
    scales: Mapping[str, Scale]
    origin: Mapping[str, str]
    notes: tuple[str, ...] = ()
    input_type: str = "INT8"


@dataclass(frozen=True)
class FloatFile:
    """An imported network in real numbers; `origin` and `notes` as of a `ModelFile`."""

    path: Path
    network: FloatNetwork
    origin: Mapping[str, str]
    notes: tuple[str, ...] = ()


class RefusedError(TatamiError):
    """Parts of a file are not supported: `nodes` has each one and the reason."""

    def __init__(self, message: str, nodes: tuple[tuple[str, str], ...]) -> None:
        super().__init__(message)
        self.nodes = nodes


@dataclass
class Refusals:
    """What is wrong with a file, collected, so that all of it is said at once."""

    path: Path
    supported: str  # operators
    found: dict[str, list[str]] = field(default_factory=dict)

    def add(self, reason: str, node: str) -> None:
        self.found.setdefault(_line(reason), []).append(_line(node))

    def check(self) -> None:
        """Raises `RefusedError`, one line, if there is anything."""
        if self.found:
            every = tuple((node, reason) for reason, nodes in self.found.items() for node in nodes)
            said = "; ".join(map(self._said, self.found))
            more = f"; supported: {self.supported}" if NOT_SUPPORTED in self.found else ""
            raise RefusedError(f"{self.path}: {said}{more}", every)

    def _said(self, reason: str) -> str:
        nodes = self.found[reason]
        more = f" and {len(nodes) - NAMED} more" if len(nodes) > NAMED else ""
        return f"{', '.join(nodes[:NAMED])}{more}: {reason}"


def _line(text: str) -> str:
    return " ".join(text.split())


def parsed(path: Path, kind: str, parse: Callable[[bytes], Result]) -> Result:
    """What `parse` makes of the bytes of a file; any error is one of a damaged file."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise TatamiError(f"{path}: cannot be read: {error.strerror}") from None
    try:
        return parse(raw)
    except TatamiError as error:
        raise TatamiError(f"{path}: {_line(str(error))}") from None
    except Exception as error:  # the readers of both formats raise anything where bytes are wrong
        said = _line(str(error))[:LONGEST]
        raise TatamiError(f"{path}: is no {kind} file, or damaged ({type(error).__name__}: {said})") from None


def legal_name(text: str, default: str) -> str:
    """A legal name of a layer that looks like `text`: what the file calls a tensor, up to the first ';'."""
    found = re.sub(r"[^A-Za-z0-9_-]+", ".", text.split(";")[0]).strip(".-")
    return found[-LONGEST // 2 :].lstrip(".-") or default
