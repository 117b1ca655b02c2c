"""Reads the functional coverage of runs (`coverage.xml`, as cocotb-coverage writes it) and adds it up."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import dataclass, field
from pathlib import Path

from pymodel.machine.errors import TatamiError


@dataclass
class Bins:
    """A point: how many different observations each bin has seen, summed over the runs, and why a bin without
    any need not have one.
    """

    name: str
    hits: dict[str, int]
    excluded: dict[str, str] = field(default_factory=dict)

    @property
    def counted(self) -> list[str]:
        return [b for b in self.hits if b not in self.excluded]

    @property
    def holes(self) -> list[str]:
        return [b for b in self.counted if not self.hits[b]]

    @property
    def sampled(self) -> bool:
        return any(self.hits.values())

    @property
    def percent(self) -> float:
        counted = self.counted
        return 100 * (len(counted) - len(self.holes)) / len(counted) if counted else 100.0


Points = dict[str, Bins]


def read(path: Path) -> Points:
    """The points of one run, by name: `<group>.cp_...`."""
    try:
        root = ET.parse(path).getroot()
    except (OSError, ET.ParseError) as error:
        raise TatamiError(f"{path}: {error}") from None
    points: Points = {}
    for element in root.iter():
        bins = [child for child in element if "bin" in child.attrib]
        if bins:
            name = element.attrib["abs_name"].split(".", 2)[2]  # without "top.tatami."
            points[name] = Bins(name, {b.attrib["bin"]: int(b.attrib["hits"]) for b in bins})
    if not points:
        raise TatamiError(f"{path}: no coverage points in it")
    return points


def add(total: Points, more: Points) -> None:
    """Adds a run to others.

    A point must have the same bins in both: they come from one version of the points.
    """
    for name, point in more.items():
        known = total.setdefault(name, Bins(name, dict.fromkeys(point.hits, 0)))
        if known.hits.keys() != point.hits.keys():
            raise TatamiError(
                f"point {name}: two runs differ in its bins; they are of two versions of"
                " tb/coverage/points.py"
            )
        for bin_name, count in point.hits.items():
            known.hits[bin_name] += count


def percent(points: Points) -> float:
    """The mean over the points, so that a point with many bins does not outweigh the others."""
    return sum(p.percent for p in points.values()) / len(points) if points else 0.0
