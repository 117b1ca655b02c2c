"""Writes pages from templates into a folder, with one style sheet and one script for all of them."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from tb.flow.pages import trend

TEMPLATES = Path(__file__).with_name("templates")
STYLE, SCRIPT = "style.css", "pages.js"
GIT = 8  # characters of a commit
INDEX = "index.html"


@dataclass(frozen=True)
class Section:
    """An entry at the head of every page."""

    file: str
    title: str


@dataclass
class Site:
    """Pages below a folder, which is made. `sections` are at the head of each. `seconds`: of each page so
    far, the time from the one before until it was written.
    """

    folder: Path
    sections: Sequence[Section]
    seconds: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._last = time.monotonic()
        self.folder.mkdir(parents=True, exist_ok=True)
        for name in (STYLE, SCRIPT):
            shutil.copyfile(TEMPLATES / name, self.folder / name)
        self.environment = Environment(
            loader=FileSystemLoader(TEMPLATES),
            autoescape=lambda name: name is None or name.endswith(".html"),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self.environment.filters.update(
            commit=commit, when=when, number=number, counted=counted, percent=percent
        )
        self.environment.globals.update(trend=trend.drawn)

    def has(self, file: str) -> bool:
        return any(section.file == file for section in self.sections)

    def write(self, file: str, template: str, **values: Any) -> Path:
        """A page; `section` among the values is the file of the section that it belongs to."""
        values = {"section": file, **values}
        path = self.folder / file
        page = self.environment.get_template(template).render(sections=self.sections, file=file, **values)
        path.write_text(page, encoding="utf-8")
        now = time.monotonic()
        self.seconds[file], self._last = now - self._last, now
        return path

    def add(self, source: Path, name: str = "") -> str:
        """Copies a picture, under its own name or another; returns that."""
        name = name or source.name
        shutil.copyfile(source, self.folder / name)
        return name


def commit(git: str | None) -> str:
    """As short as one types it."""
    return git[:GIT] + ("+" if git.endswith("+") else "") if git else "none"


def when(moment: datetime) -> str:
    """To the minute, in UTC."""
    return f"{moment:%Y-%m-%d %H:%M}"


def number(value: float | None, digits: int = 0) -> str:
    return "" if value is None else f"{value:,.{digits}f}"


def counted(value: int, name: str) -> str:
    """So many of something: 1 run, 2 runs."""
    return f"{value:,} {name}{'' if value == 1 else 's'}"


def percent(value: float) -> str:
    """Rounded down, so that 100 means all."""
    return f"{int(10 * value) / 10:.1f}"
