"""What the load stream brings while a program runs: live packets, and HOLDs between them.

The machine takes a live packet as soon as the HOLDs before it let it, and a program knows that it has come
only behind the WAIT that takes it. So between these two moments nobody knows what its words hold.
`LiveStream` refuses a program that uses such a word (docs/machine.md, "Loading while a program runs").
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from pymodel.machine.errors import ErrorCode
from pymodel.machine.faults import Faults, LiveUseError
from pymodel.machine.memory import TABLE_WORDS, Hold, Live, Section, columns, tables_of
from pymodel.machine.program import Layer, Out, Wait
from pymodel.machine.state import MachineState, ranges

BoolArray = npt.NDArray[np.bool_]


class LiveStream:
    """The live packets of one run, in the order of the stream.

    `needs` counts the layers that all HOLDs up to a place of the stream have taken. `taken` items are in the
    memories because a WAIT took them, items from there up to `early` may be.
    """

    def __init__(self, state: MachineState, items: Iterable[Live] = ()) -> None:
        self.state = state
        self.items = list(items)
        self.passed = 0  # layers since START
        self.taken = self.early = 0
        self.needs = self.early_needs = 0
        self.unsure: dict[str, npt.NDArray[np.int64]] = {}

    def wait(self, pc: int, wait: Wait, faults: Faults) -> bool:
        """Takes the packets of a WAIT. Returns whether the stream had as many; if not, nothing is taken.

        Raises `ProgramError` if a HOLD in front of them waits for layers behind the WAIT.
        """
        end = self._place_of(wait.packets)
        holds = sum(item.layers for item in self.items[self.taken : end] if isinstance(item, Hold))
        if self.needs + holds > self.passed:
            what = f"WAIT for {wait.packets} packets behind a HOLD for layers that have not run"
            faults.refuse(ErrorCode.DEADLOCK, pc, what, 2)
        if self._packets(end) < wait.packets:
            return False
        while self.taken < end:
            self._take()
        return True

    def rest(self) -> None:
        """Takes everything that is left. When no program runs, nothing is held."""
        while self.taken < len(self.items):
            self._take()

    def use(self, record: Layer | Out) -> None:
        """Called before a record runs. Raises `LiveUseError` if a word that it uses may be written meanwhile.

        The pixels that a layer reads are not checked here, but where they are read: masked ones do not count.
        """
        self._look_ahead()
        if not self.unsure:
            return
        if isinstance(record, Out):
            self._check("FEATURE", np.arange(record.base, record.base + record.words), record.bank)
            return
        self._check_tables(record)
        unsure = self.unsure.get("FEATURE")
        if unsure is not None:
            for bank, word in np.argwhere(self.state.writes(record) & (unsure > 0))[:1].tolist():
                raise self._refused("FEATURE", word, bank)

    def fetch(self, pc: int) -> None:
        """Called before a word of PROGRAM is read. Raises as `use` does."""
        self._look_ahead()
        if "PROGRAM" in self.unsure and pc < self.state.config.program_depth:
            self._check("PROGRAM", np.array([pc]))

    def pixels(self) -> BoolArray | None:
        """The words [G, depth] of FEATURE that a layer must not read now. None if there are none."""
        unsure = self.unsure.get("FEATURE")
        return None if unsure is None or not unsure.any() else unsure > 0

    def _check_tables(self, layer: Layer) -> None:
        memory, size = self.state.memory, self.state.config.size
        self._check("TILE", np.arange(layer.tile_base, layer.tile_base + layer.tiles))
        tile = columns("TILE", memory["TILE"][layer.tile_range, 0])
        lanes = self.state.lanes(layer)
        self._check("LANE", lanes)
        self._check("SLOT", _slots(self.state, layer) if self.state.config.xor_inputs else lanes)
        filters = ranges(tile.filter_base, np.full_like(tile.filter_base, size), len(memory["FILTER"]))
        self._check("FILTER", filters)
        words = np.arange(layer.total)
        self._check("EDGE", np.unique(layer.edge_word(words)))
        groups = np.unique(columns("LANE", memory["LANE"][lanes, 0]).group)
        groups = groups[groups < len(memory["GROUP"])]
        self._check("GROUP", groups)
        member = columns("GROUP", memory["GROUP"][groups])
        taps = np.unique(member.tap[member.valid == 1])
        self._check("TAP", np.unique(np.add.outer(np.unique(layer.tap_row(words)), taps)))
        if "ACTIVATION" in self.unsure:
            first = TABLE_WORDS * tables_of(memory["FILTER"][filters, 0])
            self._check("ACTIVATION", np.add.outer(first, np.arange(TABLE_WORDS)).reshape(-1))

    def _check(self, memory: str, words: npt.NDArray[np.int64], bank: int = 0) -> None:
        unsure = self.unsure.get(memory)
        if unsure is None:
            return
        words = words[words < unsure.shape[1]]
        for word in words[unsure[bank, words] > 0][:1].tolist():
            raise self._refused(memory, word, bank)

    def _refused(self, memory: str, word: int, bank: int) -> LiveUseError:
        of = f" of bank {bank}" if memory == "FEATURE" else ""
        return LiveUseError(
            f"behind {self.passed} layers: word {word}{of} of {memory} is used while a live packet may be"
            " writing it: a WAIT or a HOLD is missing"
        )

    def _look_ahead(self) -> None:
        """Marks what the stream may write before one more layer has passed."""
        while self.early < len(self.items):
            item = self.items[self.early]
            if isinstance(item, Hold):
                if self.early_needs + item.layers > self.passed:
                    return
                self.early_needs += item.layers
            else:
                self._mark(item, 1)
            self.early += 1

    def _mark(self, section: Section, change: int) -> None:
        spec = self.state.specs[section.memory]
        unsure = self.unsure.setdefault(section.memory, np.zeros((spec.banks, spec.depth), dtype=np.int64))
        unsure[section.bank, section.address : section.address + len(section.words)] += change

    def _take(self) -> None:
        item = self.items[self.taken]
        if isinstance(item, Hold):
            self.needs += item.layers
            if self.early == self.taken:
                self.early_needs = self.needs
        else:
            if self.early > self.taken:
                self._mark(item, -1)
            self.state.load([item])
        self.taken += 1
        self.early = max(self.early, self.taken)

    def _place_of(self, packets: int) -> int:
        """The place behind so many more packets, or the end of the stream."""
        left = packets
        for place in range(self.taken, len(self.items)):
            left -= isinstance(self.items[place], Section)
            if left == 0:
                return place + 1
        return len(self.items)

    def _packets(self, end: int) -> int:
        return sum(isinstance(item, Section) for item in self.items[self.taken : end])


def _slots(state: MachineState, layer: Layer) -> npt.NDArray[np.int64]:
    """The words of SLOT that a layer uses in a machine with an XOR decoder: from the first of each tile up to
    the one in which its last row ends.
    """
    parts = []
    for tile in range(layer.tile_base, min(layer.tile_base + layer.tiles, state.config.tile_depth)):
        base = int(columns("TILE", state.memory["TILE"][tile, 0]).slot_base)
        bits = int(state.rows(tile).ends.max(initial=0))
        parts.append(np.arange(base, base - (-bits // state.config.slot_word_bits)))
    return np.concatenate(parts)
