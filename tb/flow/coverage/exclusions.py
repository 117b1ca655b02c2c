"""What need not be covered, and why:

`tb/coverage/exclusions.yaml`. An exclusion that matches nothing is an error.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Annotated, Literal

from pydantic import StringConstraints

from pymodel.machine.errors import TatamiError
from pymodel.machine.files import Fields, checked_list, read_yaml
from tb.flow import runner
from tb.flow.coverage.code import Place
from tb.flow.coverage.functional import Points

FILE = runner.ROOT / "tb" / "coverage" / "exclusions.yaml"

Said = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class Exclusion(Fields):
    """`place` is `<point>: <bin>` for functional coverage, `<file>: <source line>` for lines and branches,
    `<file>: <signal>` for toggles.

    `*` in it stands for anything. A branch may end in ` => if` or ` => else` to name one side.
    """

    rule: Literal["functional", "line", "branch", "toggle", "expr"]
    place: Said
    category: Literal["unreachable", "unsupported", "external"]
    reason: Said

    def pattern(self) -> re.Pattern[str]:
        return re.compile(".*".join(re.escape(part) for part in self.place.split("*")))


def load(path: Path = FILE) -> list[Exclusion]:
    """The entries of the file. Raises `TatamiError` that names entry, field and limit."""
    return checked_list(Exclusion, read_yaml(path) or [], path)


def apply(
    exclusions: Iterable[Exclusion],
    points: Points,
    code: dict[str, list[Place]],
    source: Callable[[str, int], str],
    unbuilt: Collection[str] = (),
) -> None:
    """Marks what is excluded.

    `code` holds the places of each kind, `source` gives a line of a file. What was covered all the same stays
    counted. An exclusion of a file in `unbuilt`, which no design of the runs has in it, may match nothing.
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
        if not matched and (exclusion.rule == "functional" or exclusion.place.split(":")[0] not in unbuilt):
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
