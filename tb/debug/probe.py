"""Reads the file that psa_probe.v wrote: bundles, partial sums, accumulators and results of a run, each with
its time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from pymodel.machine.config import ArrayConfig
from pymodel.machine.errors import TatamiError

# A value is None where the simulator had X.
Value = int | None


@dataclass(frozen=True)
class Sample:
    """Values that were seen in one cycle at `time` in ns."""

    time: int
    values: tuple[Value, ...]


@dataclass
class Samples:
    """All samples, in order of time.

    `bundles`: for each row, one value for each bank. `sums`: for each row and column. `totals`: for each
    column.
    """

    bundles: list[list[Sample]]
    sums: list[list[list[Sample]]]
    totals: list[list[Sample]]
    writes: list[Sample] = field(default_factory=list)  # bank, word, then the pixels


def read_samples(path: Path, config: ArrayConfig) -> Samples:
    """The file that a run with probes left.

    Raises `TatamiError` if there is no file, or for a line that is not valid.
    """
    t = config.size
    samples = Samples(
        [[] for _ in range(t)], [[[] for _ in range(t)] for _ in range(t)], [[] for _ in range(t)]
    )
    try:
        lines = path.read_text().splitlines()
    except OSError as error:
        raise TatamiError(f"{path}: cannot be read: {error.strerror}") from None
    for number, line in enumerate(lines, start=1):
        try:
            kind, time, *rest = line.split()
            read_line(samples, kind, int(time), rest)
        except (ValueError, IndexError):
            if number < len(lines):  # a simulation that was ended may leave half a line
                raise TatamiError(f"{path}: line {number} makes no sense: {line}") from None
    return samples


def read_line(samples: Samples, kind: str, time: int, rest: list[str]) -> None:
    if kind == "x":
        samples.bundles[int(rest[0])].append(Sample(time, tuple(value_of(v) for v in rest[1:])))
    elif kind == "s":
        row = samples.sums[int(rest[0])]
        for column, seen in enumerate(rest[1:]):
            if seen != "-":
                row[column].append(Sample(time, (value_of(seen),)))
    elif kind == "a":
        samples.totals[int(rest[0])].append(Sample(time, (value_of(rest[1]),)))
    elif kind == "w":
        samples.writes.append(Sample(time, tuple(value_of(v) for v in rest)))
    else:
        raise ValueError(kind)


def value_of(text: str) -> Value:
    return None if text.lower() in ("x", "z") else int(text)
