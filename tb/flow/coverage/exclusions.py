"""What need not be covered, and why:

`tb/coverage/exclusions.yaml`. An exclusion that matches nothing is an error.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pymodel.machine.errors import TatamiError
from tb.flow import runner
from tb.flow.coverage.code import Place
from tb.flow.coverage.functional import Points

FILE = runner.ROOT / "tb" / "coverage" / "exclusions.yaml"
RULES = ("functional", "line", "branch", "toggle", "expr")
CATEGORIES = ("unreachable", "unsupported", "external")
FIELDS = {"rule", "place", "category", "reason"}


@dataclass(frozen=True)
class Exclusion:
    """`place` is `<point>: <bin>` for functional coverage, `<file>: <source line>` for lines and branches,
    `<file>: <signal>` for toggles.

    `*` in it stands for anything. A branch may end in ` => if` or ` => else` to name one side.
    """

    rule: str
    place: str
    category: str
    reason: str

    def pattern(self) -> re.Pattern[str]:
        return re.compile(".*".join(re.escape(part) for part in self.place.split("*")))


def load(path: Path = FILE) -> list[Exclusion]:
    """Reads and checks the file."""
    try:
        entries = yaml.safe_load(path.read_text()) or []
    except (OSError, yaml.YAMLError) as error:
        raise TatamiError(f"{path}: {error}") from None
    return [_check(path, index, entry) for index, entry in enumerate(entries, 1)]


def _check(path: Path, index: int, entry: Any) -> Exclusion:
    where = f"{path.name}, entry {index}"
    if not isinstance(entry, dict) or entry.keys() - FIELDS:
        raise TatamiError(f"{where}: must have rule, place, category and reason, and nothing else")
    for name in ("rule", "place", "category", "reason"):
        if not str(entry.get(name) or "").strip():
            raise TatamiError(f"{where}: {name} is missing")
    for name, legal in (("rule", RULES), ("category", CATEGORIES)):
        if entry[name] not in legal:
            raise TatamiError(f"{where}: {name} is '{entry[name]}', must be one of {', '.join(legal)}")
    return Exclusion(**{name: str(entry[name]).strip() for name in FIELDS})


def apply(
    exclusions: Iterable[Exclusion],
    points: Points,
    code: dict[str, list[Place]],
    source: Callable[[str, int], str],
) -> None:
    """Marks what is excluded.

    `code` holds the places of each kind, `source` gives a line of a file. What was covered all the same stays
    counted.
    """
    for exclusion in exclusions:
        pattern = exclusion.pattern()
        why = f"{exclusion.category}: {exclusion.reason}"
        matched = 0
        if exclusion.rule == "functional":
            for point in points.values():
                for bin_name, hits in point.hits.items():
                    if pattern.fullmatch(f"{point.name}: {bin_name}"):
                        matched += 1
                        if not hits:
                            point.excluded[bin_name] = why
        else:
            for place in code.get(exclusion.rule, []):
                name = name_of(place, source)
                if pattern.fullmatch(name) or pattern.fullmatch(f"{name} => {place.what}"):
                    matched += 1
                    if not place.covered:
                        place.excluded = why
        if not matched:
            raise TatamiError(
                f"exclusion matches nothing: {exclusion.rule} '{exclusion.place}' ({FILE.name}); remove it"
            )


def name_of(place: Place, source: Callable[[str, int], str]) -> str:
    """What an exclusion's `place` is compared with.

    Line numbers move; the text of a line says what is meant.
    """
    if place.kind in ("toggle", "expr"):
        return f"{place.file}: {place.what}"
    return f"{place.file}: {source(place.file, place.line).strip()}"
