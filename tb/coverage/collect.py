"""Collects functional coverage in a simulation, and writes it to `coverage.xml` in the folder of the run when
the simulation ends.
"""

from __future__ import annotations

import atexit
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

from cocotb_coverage.coverage import coverage_db, coverage_section

from pymodel.machine.config import ArrayConfig
from tb.common import settings
from tb.coverage.observe import Observation
from tb.coverage.points import POINTS, build

FILE = "coverage.xml"


def enabled() -> bool:
    return settings.coverage()


class Database:
    """All points for a configuration.

    Equal observations count once in a simulation, and take no time when they come again.
    """

    def __init__(self, config: ArrayConfig) -> None:
        # cocotb-coverage decorates a function: one that does nothing, for each group
        groups: dict[type[Observation], list[Callable[..., object]]] = defaultdict(list)
        for point in POINTS:
            groups[point.of].append(build(point, config))
        self._hit = {of: coverage_section(*items)(lambda observation: None) for of, items in groups.items()}  # noqa: ARG005
        self._seen: set[Observation] = set()

    def add(self, observations: Iterable[Observation]) -> None:
        for observation in observations:
            if observation not in self._seen:
                self._seen.add(observation)
                self._hit[type(observation)](observation)


_databases: list[Database] = []


def database(config: ArrayConfig | None = None) -> Database:
    """The database of this simulation, which has one configuration.

    It is written when the simulation ends.
    """
    if not _databases:
        _databases.append(Database(config or settings.config()))
        atexit.register(write, Path(settings.get().result).parent / FILE)
    return _databases[0]


def write(path: Path) -> None:
    coverage_db.export_to_xml(str(path))
