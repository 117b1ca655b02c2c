"""Planted bugs: the registry `tb/bugs.yaml`, and the code that puts its bugs into a copy of the RTL."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from pymodel.machine.errors import TatamiError
from pymodel.machine.files import Fields, checked, read_yaml
from pymodel.machine.places import BUILD, ROOT

BUGS_FILE = ROOT / "tb" / "bugs.yaml"
COPIES = BUILD / "bugs"

# the message of a block test for a value that differs from the model; not a build that fails or a hang
BLOCK_DIFFERS = r"cycle \d+: \w+: expected \w+, seen \w+"


def _compiles(pattern: str) -> str:
    try:
        return re.compile(pattern).pattern
    except re.error as error:
        raise ValueError(f"'{pattern}' is no regular expression: {error}") from None


Expression = Annotated[str, AfterValidator(_compiles)]


@dataclass(frozen=True)
class Edit:
    """Replaces the text `old` of a file by `new`. The text must occur exactly once: in the file, or in the
    only line that contains `line`.
    """

    file: str
    old: str
    new: str
    line: str = ""

    def applied(self, text: str) -> str:
        """`text` with the edit. Raises `TatamiError` unless `old` occurs exactly once."""
        lines = [found for found in text.split("\n") if self.line in found] if self.line else [text]
        if len(lines) != 1:
            raise TatamiError(f"line '{self.line}' occurs {len(lines)} times in {self.file}")
        if lines[0].count(self.old) != 1:
            where = f"line '{self.line}' of {self.file}" if self.line else self.file
            raise TatamiError(f"old text occurs {lines[0].count(self.old)} times in {where}: {self.old}")
        return text.replace(lines[0], lines[0].replace(self.old, self.new))


class Bug(Fields):
    """One entry of bugs.yaml. The head of that file explains the fields."""

    name: str = Field(pattern=r"^[a-z0-9_]+$")
    what: str = Field(min_length=1)
    file: str
    old: str = Field(min_length=1)
    new: str
    line: str = ""
    test: str = ""
    block: str = ""
    size: int = Field(default=1, ge=1)
    checker: str = ""
    message: tuple[Expression, ...] = ()
    config: str = "4x2"
    sim: Literal["", "verilator", "icarus"] = ""
    seeds: int = Field(default=1, ge=1)
    divergence: Expression = ""
    place: Expression = ""

    @field_validator("message", mode="before")
    @classmethod
    def _one_or_more(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value

    @model_validator(mode="after")
    def _fits_together(self) -> Bug:
        if sum(map(bool, (self.test, self.block, self.checker))) != 1:
            raise ValueError("must have one of test, block and checker")
        if not self.message and not self.block:
            raise ValueError("message is missing")
        if not self.test:
            for name in ("config", "seeds", "divergence", "place"):
                if name in self.model_fields_set:
                    raise ValueError(f"{name} goes with test only")
        if not self.block and "size" in self.model_fields_set:
            raise ValueError("size goes with block only")
        if self.old.count("\n") != self.new.count("\n"):
            raise ValueError("old and new differ in their number of lines: more than one line may change")
        return self

    @property
    def hunter(self) -> str:
        """The test or checker that must find it."""
        return self.test or self.checker or f"block_{self.block}"

    @property
    def edit(self) -> Edit:
        return Edit(self.file, self.old, self.new, self.line)


def load_bugs(path: Path = BUGS_FILE) -> list[Bug]:
    """The entries of bugs.yaml. Raises a `TatamiError` that names each wrong entry and its field."""
    rows = read_yaml(path)
    if not isinstance(rows, list) or not rows:
        raise TatamiError(f"{path}: holds no list of bugs")
    bugs, errors = [], []
    for number, row in enumerate(rows, 1):
        try:
            bugs.append(checked(Bug, row, named(row, number)))
        except TatamiError as error:
            errors.append(str(error))
    names = [bug.name for bug in bugs]
    twice = sorted({name for name in names if names.count(name) > 1})
    refuse(path, errors + [f"named twice: {', '.join(twice)}" for _ in twice[:1]])
    return bugs


def named(row: Any, number: int) -> str:
    name = row.get("name") if isinstance(row, dict) else None
    return f"bug '{name}'" if isinstance(name, str) and name.isidentifier() else f"bug {number}"


def refuse(path: Path, errors: Sequence[str]) -> None:
    """Raises `TatamiError` with all of `errors`, if there are any: a single one in one line, several as a
    list.
    """
    if len(errors) == 1:
        raise TatamiError(f"{path}: {errors[0]}")
    if errors:
        raise TatamiError("\n  ".join((f"{path}: {len(errors)} errors", *errors)))


def plant(edits: Sequence[Edit], sources: Sequence[Path], folder: Path) -> list[Path]:
    """`sources`, in which each edited file is replaced by a copy in `folder`.

    Raises `TatamiError` for an edit of a file that is not in `sources`, or whose old text does not occur
    exactly once.
    """
    texts: dict[Path, str] = {}
    for edit in edits:
        source = ROOT / edit.file
        if source not in sources:
            raise TatamiError(f"{edit.file} is not in the file list")
        texts[source] = edit.applied(texts[source] if source in texts else source.read_text())
    folder.mkdir(parents=True, exist_ok=True)
    for source, text in texts.items():
        # whole or not at all: another process may build the same
        handle, draft = tempfile.mkstemp(dir=folder)
        with os.fdopen(handle, "w") as file:
            file.write(text)
        Path(draft).replace(folder / source.name)
    return [folder / source.name if source in texts else source for source in sources]
