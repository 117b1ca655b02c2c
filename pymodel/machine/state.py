"""The contents of all memories of the machine."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pymodel.machine.config import ArrayConfig
from pymodel.machine.memory import Section, Words, check_section, columns, memories
from pymodel.machine.planes import Placement
from pymodel.machine.program import Layer
from pymodel.machine.slot_rows import Rows, tile_rows

Int8Array = npt.NDArray[np.int8]
Int64Array = npt.NDArray[np.int64]

KEPT_READS = 1 << 22  # pixels, some 50 MB


def ranges(first: Int64Array, count: Int64Array, depth: int) -> Int64Array:
    """All numbers of these ranges that are below `depth`."""
    parts = [np.arange(a, min(a + n, depth)) for a, n in zip(first.tolist(), count.tolist(), strict=True)]
    return np.concatenate([np.zeros(0, dtype=np.int64), *parts])


@dataclass(frozen=True)
class Reads:
    """What the lanes of a pass read for some words of the output, each array [words, lanes, G, T]: the pixel
    `at`, counted through all banks, where it is `read`, and `fill` where it is not. `needed`: it is read, and
    its result is a pixel of the output.
    """

    at: Int64Array
    read: npt.NDArray[np.bool_]
    fill: Int8Array
    needed: npt.NDArray[np.bool_]


class MachineState:
    """All memories of the array. `load` writes them, and forgets what was found of the tables before.

    `memory` has the tables by name, int64 [words, repeat, fields]. `features` int8 [B, G, words * T] are the
    feature banks of a batch. Every image of the batch runs the same program and takes the same cycles. `due`
    [G, words] is the cycle of the run in which a word was last written by a layer with a gap, or -1 if there
    was none. `latest` is the largest of them.
    """

    def __init__(self, config: ArrayConfig, batch: int = 1) -> None:
        self.config = config
        self.batch = batch
        self.specs = memories(config)
        self.memory: dict[str, Words] = {
            name: m.zeros(m.depth) for name, m in self.specs.items() if name != "FEATURE"
        }
        self.features: Int8Array = np.zeros(
            (batch, config.group, config.feature_depth * config.size), dtype=np.int8
        )
        self.due: Int64Array = np.full((config.group, config.feature_depth), -1)
        self.latest = -1
        # what was found since a table was loaded last, for whoever asks again
        self._rows: dict[tuple[int, ...], Rows] = {}  # of tiles, by their word of TILE
        self._writes: dict[Layer, npt.NDArray[np.bool_]] = {}
        self.reads: dict[Hashable, Reads] = {}
        self._kept = 0  # pixels in `reads`

    def load(self, sections: Iterable[Section]) -> None:
        """Writes sections. Sections of FEATURE are written for every image of the batch."""
        for s in sections:
            check_section(self.config, self.specs[s.memory], s, "")
            if s.memory == "FEATURE":
                self.load_feature(s.bank, s.address, columns("FEATURE", s.words).pixel.astype(np.int8)[None])
            else:
                self.memory[s.memory][s.address : s.address + len(s.words)] = s.words
                self._forget()

    def _forget(self) -> None:
        for found in (self._rows, self._writes, self.reads):
            found.clear()
        self._kept = 0

    def keep_reads(self, key: Hashable, reads: Reads) -> None:
        """Keeps what was found until a table is loaded, as far as there is room."""
        if self._kept + reads.at.size <= KEPT_READS:
            self._kept += reads.at.size
            self.reads[key] = reads

    def rows(self, tile: int) -> Rows:
        """The rows of slots of a word of TILE, as they reach the array."""
        key = tuple(self.memory["TILE"][tile, 0].tolist())
        if key not in self._rows:
            self._rows[key] = tile_rows(self.config, self.memory["SLOT"], self.memory["TILE"][tile, 0])
        return self._rows[key]

    def load_feature(self, bank: int, address: int, words: Int8Array) -> None:
        """Writes words [B or 1, words, T] of a feature bank."""
        t = self.config.size
        self.features[:, bank, address * t : (address + words.shape[1]) * t] = words.reshape(
            words.shape[0], -1
        )

    def read_feature(self, bank: int, address: int, words: int) -> Int8Array:
        """Words [B, words, T] of a feature bank."""
        t = self.config.size
        return self.features[:, bank, address * t : (address + words) * t].reshape(self.batch, words, t)

    def load_tensor(self, place: Placement, tensor: Int8Array) -> None:
        """Writes a tensor int8 [B or 1, C, H, W] to its place."""
        for bank, base, words in zip(
            place.bank, place.base, np.moveaxis(place.to_words(tensor), 1, 0), strict=True
        ):
            self.load_feature(bank, base, words)

    def read_tensor(self, place: Placement) -> Int8Array:
        """The words [B, C, words, T] of a tensor, in the form of `Placement.to_words`."""
        planes = [
            self.read_feature(bank, base, place.channel_words)
            for bank, base in zip(place.bank, place.base, strict=True)
        ]
        return np.stack(planes, axis=1)

    def lanes(self, layer: Layer) -> Int64Array:
        """The words of LANE that a LAYER record reads, as far as they are inside the memories."""
        tile = columns("TILE", self.memory["TILE"][layer.tile_range, 0])
        return ranges(tile.lane_base, tile.passes * self.config.size, self.config.lane_depth)

    def writes(self, layer: Layer) -> npt.NDArray[np.bool_]:
        """The words [G, depth] that a LAYER record writes, as far as they are inside their bank. Not to be
        written to.
        """
        if layer not in self._writes:
            mask = np.zeros((self.config.group, self.config.feature_depth), dtype=bool)
            for first in columns("TILE", self.memory["TILE"][layer.tile_range, 0]).filter_base.tolist():
                filters = columns("FILTER", self.memory["FILTER"][first : first + self.config.size, 0])
                for column in np.flatnonzero((filters.write == 1) & (filters.bank < self.config.group)):
                    base = int(filters.base[column])
                    mask[filters.bank[column], base : base + layer.total] = True
            self._writes[layer] = mask
        return self._writes[layer]

    def forget_writes(self) -> None:
        """Marks all words as written. Called before a run."""
        self.due[:], self.latest = -1, -1

    def note_writes(self, bank: Int64Array, address: Int64Array, cycles: Int64Array) -> None:
        """Notes that words of banks [C] from addresses [C] on are written in these cycles [C, words] of the
        run.
        """
        if cycles.size:
            self.due[bank[:, None], address[:, None] + np.arange(cycles.shape[1])] = cycles
            self.latest = max(self.latest, int(cycles.max()))
