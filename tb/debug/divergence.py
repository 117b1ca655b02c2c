"""Finds the first value inside the machine that differs from the model's: its layer, chunk, tile, pass, lane,
column, filter and pixel.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pymodel.machine.faults import ProgramError
from pymodel.machine.image import Image
from pymodel.machine.memory import columns
from pymodel.machine.model import Machine
from pymodel.machine.runs import LayerRun, PassTrace
from tb.debug.probe import Sample, Samples
from tb.debug.suspect import Suspect, copy_of

# The stages at which values are compared, in order, and what lies between each stage and the one before.
STAGES = {
    "bundle": (
        "the bundle that enters the array: memories of groups, taps, edges and features, psa_fetch, psa_lane,"
        " or an earlier layer's result"
    ),
    "partial sum": (
        "the sum below a row of the array; its bundle is right: the slot memory, psa_slots or psa_pe"
    ),
    "accumulator": (
        "the column's sum over the passes; the pass's own sums are right: psa_column_control or"
        " psa_accumulator"
    ),
    "result": "the word that is written; its sums are right: filter memory, psa_requant or psa_writeback",
}


@dataclass(frozen=True)
class Divergence:
    """The first difference between machine and model.

    Fields that do not apply are None. `seen` is None if the machine had X, or nothing at all (`what`).
    """

    stage: str
    what: str
    layer: str
    chunk: int
    tile: int
    pass_number: int
    lane: int | None
    row: int | None
    column: int | None
    filter: int | None
    bank: int | None
    pixel: str
    expected: int | None
    seen: int | None
    time_ns: int

    def line(self) -> str:
        """All fields in one line."""
        places: list[tuple[str, Any]] = [
            ("layer", self.layer),
            ("chunk", self.chunk),
            ("tile", self.tile),
            ("pass", self.pass_number),
        ]
        places += [
            ("lane", self.lane),
            ("row", self.row),
            ("bank", self.bank),
            ("column", self.column),
            ("filter", self.filter),
        ]
        where = ", ".join(f"{name} {value}" for name, value in places if value is not None)
        seen = self.what or f"expected {self.expected}, seen {'X' if self.seen is None else self.seen}"
        return f"{where}, {self.pixel}: {self.stage}: {seen}, at {self.time_ns} ns"

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def first_divergence(suspect: Suspect, samples: Samples) -> Divergence | None:
    """Runs the model and compares pass by pass. None if everything in the samples is right."""
    machine = copy_of(suspect.machine)
    stream = suspect.image.stream_of(suspect.start) if suspect.image is not None else ()
    try:
        layers = machine.run(suspect.start, stream=stream, trace=True).layers
    except ProgramError as error:  # what it did before it stopped
        layers = error.run.layers
    return Comparison(suspect.machine, suspect.image, samples).layers(layers)


class Comparison:
    """The samples, with the number that has already been compared."""

    def __init__(self, machine: Machine, image: Image | None, samples: Samples) -> None:
        self.machine = machine
        self.image = image
        self.samples = samples
        self.size = machine.config.size
        self.pixels = 0  # that have entered the array, per row
        self.words = 0  # that were written

    def layers(self, layers: Sequence[LayerRun]) -> Divergence | None:
        for number, layer in enumerate(layers):
            name = self.layer_name(number, layer, len(layers))
            for trace, last in with_last(layer.partial_sums):
                found = self.one_pass(name, trace) or (self.results(name, layer, trace) if last else None)
                if found:
                    return found
        return None

    def one_pass(self, layer: str, trace: PassTrace) -> Divergence | None:
        """Bundles, then sums row by row, then accumulators, of the pixels that the output has."""
        kept = np.flatnonzero(trace.keep)
        begin, self.pixels = self.pixels, self.pixels + len(trace.keep)
        span = slice(begin, self.pixels)
        if trace.number == 0:
            self.totals = np.zeros(trace.rows.shape[2:], dtype=np.int64)
        sums = trace.rows[-1, 0]
        larger = trace.maximum and trace.number > 0
        self.totals = np.maximum(self.totals, sums) if larger else self.totals + sums
        for row in range(self.size):
            # of the pixels in order, and of a pixel's banks in order
            found = difference(self.samples.bundles[row][span], trace.bundles[0, row].T, kept)
            if found:
                pixel, bank, expected, sample = found
                return self.found("bundle", layer, trace, pixel, expected, sample, row=row, bank=bank)
        for row in range(self.size):
            for column in range(self.size):
                found = difference(
                    self.samples.sums[row][column][span], trace.rows[row, 0, column][:, None], kept
                )
                if found:
                    pixel, _, expected, sample = found
                    return self.found(
                        "partial sum", layer, trace, pixel, expected, sample, row=row, column=column
                    )
        for column in range(self.size):
            found = difference(self.samples.totals[column][span], self.totals[column][:, None], kept)
            if found:
                pixel, _, expected, sample = found
                return self.found("accumulator", layer, trace, pixel, expected, sample, column=column)
        return None

    def results(self, layer: str, run: LayerRun, trace: PassTrace) -> Divergence | None:
        """The results of a tile: for each word, one column after the other."""
        writes = [w for w in run.writes if (w.chunk, w.tile) == (trace.chunk, trace.tile)]
        for index in range(len(trace.words)):
            for write in writes:
                pixels = write.pixels[0, index * self.size : (index + 1) * self.size]
                place = (write.bank, write.base + index)
                sample = self.samples.writes[self.words] if self.words < len(self.samples.writes) else None
                self.words += 1
                first = index * self.size
                if sample is None or sample.values[:2] != place:
                    seen = (
                        "nothing is written"
                        if sample is None
                        else "bank {}, word {} is written".format(*sample.values)
                    )
                    what = f"{seen}, expected bank {place[0]}, word {place[1]}"
                    return self.found(
                        "result", layer, trace, first, None, sample, column=write.column, what=what
                    )
                found = difference(
                    [Sample(sample.time, (v,)) for v in sample.values[2:]], pixels[:, None], range(self.size)
                )
                if found:
                    pixel, _, expected, one = found
                    return self.found(
                        "result", layer, trace, first + pixel, expected, one, column=write.column
                    )
        return None

    def found(
        self,
        stage: str,
        layer: str,
        trace: PassTrace,
        pixel: int,
        expected: int | None,
        sample: Sample | None,
        *,
        row: int | None = None,
        column: int | None = None,
        bank: int | None = None,
        what: str = "",
    ) -> Divergence:
        if sample is None and not what:
            what = f"expected {expected}, and the machine gave nothing any more"
        return Divergence(
            stage=stage,
            what=what,
            layer=layer,
            chunk=trace.chunk,
            tile=trace.tile,
            pass_number=trace.number,
            lane=None if row is None else trace.first_lane + row,
            row=row,
            column=column,
            filter=None if column is None else self.filter_of(layer, trace.first_filter + column),
            bank=bank,
            pixel=self.pixel_name(layer, trace.words[0] * self.size + pixel),
            expected=None if expected is None else int(expected),
            seen=None if sample is None or what else sample.values[0],
            time_ns=self.last_time() if sample is None else sample.time,
        )

    def last_time(self) -> int:
        """The time of the last sample."""
        kinds = (
            *self.samples.bundles,
            *(column for row in self.samples.sums for column in row),
            *self.samples.totals,
            self.samples.writes,
        )
        return max((samples[-1].time for samples in kinds if samples), default=0)

    # names

    def layer_name(self, number: int, layer: LayerRun, layers: int) -> str:
        if self.image is not None and len(self.image.layers) == layers:
            return self.image.layers[number]
        return f"of program word {layer.index}"

    def filter_of(self, layer: str, entry: int) -> int | None:
        """The filter that an entry of FILTER belongs to. None if there is none or it is not known: where a
        network is streamed, the entry holds others before and after.
        """
        if self.image is not None and self.image.streamed:
            return None
        fields = columns("FILTER", self.machine.memory["FILTER"][entry, 0])
        place = self.image.placements.get(layer) if self.image is not None else None
        if place is None or not fields.write:
            return None
        channels = (
            c
            for c in range(place.shape[0])
            if (place.bank[c], place.base[c]) == (int(fields.bank), int(fields.base))
        )
        return next(channels, None)

    def pixel_name(self, layer: str, n: int) -> str:
        """Pixel `n` of the words of an output plane."""
        place = self.image.placements.get(layer) if self.image is not None else None
        if place is not None:
            return place.pixel_name(n)
        return f"pixel {n % self.size} of word {n // self.size}"


def with_last(passes: Sequence[PassTrace]) -> Iterator[tuple[PassTrace, bool]]:
    """Every pass, and whether it is the last of its tile."""
    for trace, after in zip(passes, [*passes[1:], None], strict=True):
        yield trace, after is None or after.number == 0


def difference(
    samples: Sequence[Sample], wanted: npt.NDArray[Any], kept: Sequence[int] | npt.NDArray[np.int64]
) -> tuple[int, int, int, Sample | None] | None:
    """The first of the pixels `kept` that differs from `wanted` [pixels, values]. Returns the pixel, the
    index of the value, the wanted value, and the value that was seen.
    """
    for n in kept:
        if n >= len(samples):
            return int(n), 0, int(wanted[n][0]), None
        for i, (seen, expected) in enumerate(zip(samples[n].values, wanted[n], strict=True)):
            if seen != expected:
                return int(n), i, int(expected), Sample(samples[n].time, (seen,))
    return None
