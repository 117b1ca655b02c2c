"""The observations: one class for each group of points.

`tb/coverage/sample.py` and `tb/coverage/watch.py` create them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

# The sequencer's, as rtl/psa_sequencer.v names them.
STATES = ("IDLE", "FETCH", "DECODE", "TILE", "TILE_WAIT", "RUN", "DRAIN", "OUT", "ERROR")
RECORDS = ("LAYER", "OUT", "END")


@dataclass(frozen=True)
class Observation:
    """Equal observations of one simulation are counted once."""

    group: ClassVar[str]


@dataclass(frozen=True)
class ProgramSeen(Observation):
    """A program that ran. There is one observation for each pair of consecutive records.

    `error` is (code, state) if the program ended in an error.
    """

    group: ClassVar[str] = "program"
    start: int
    layers: int
    outs: int
    order: tuple[str, str] | None
    error: tuple[str, str] | None = None


@dataclass(frozen=True)
class LayerSeen(Observation):
    """A LAYER record that ran.

    `size` is T. `passes`: the most of any tile. `lanes`: those with an input. `stride`: 0 if it cannot be
    derived. `pad`: only its sign, unless it is at an end of its range.
    """

    group: ClassVar[str] = "layer"
    size: int
    filters: int
    pixels: int
    lanes: int
    words: int
    phases: int
    chunks: int
    tiles: int
    passes: int
    pass_length: str
    last_chunk: str
    chunk_edge: str
    gap: int
    kind: str
    stride: int
    mode: str
    pad: int
    relu: bool
    clipped_low: bool
    clipped_high: bool


@dataclass(frozen=True)
class HandoverSeen(Observation):
    """A layer that begins while another drains: the modes of both."""

    group: ClassVar[str] = "handover"
    before: str
    after: str


@dataclass(frozen=True)
class SlotSeen(Observation):
    """A slot with a weight or a digit. `digit` is "low" or "high", or "" for a whole weight."""

    group: ClassVar[str] = "slot"
    row: int
    select: int
    weight: int
    digit: str = ""


@dataclass(frozen=True)
class RowSeen(Observation):
    """A row of slots as an XOR decoder got it: how many patches, or "as it is", and its place in the words of
    its tile.
    """

    group: ClassVar[str] = "row"
    patches: int | str
    place: str

    @property
    def kind(self) -> str:
        return "as it is" if isinstance(self.patches, str) else "patched" if self.patches else "no patch"


@dataclass(frozen=True)
class LaneSeen(Observation):
    """A lane: its weights, the members of its group, the distinct selects of its slots, and the number of
    lanes of its layer that share its group.
    """

    group: ClassVar[str] = "lane"
    size: int
    group_size: int
    weights: int
    members: int
    selects: int
    sharing: int


@dataclass(frozen=True)
class ColumnSeen(Observation):
    """A column during a tile: the weights of its filter over all passes, and whether its result is
    written.
    """

    group: ClassVar[str] = "column"
    weights: int
    passes: int
    write: bool


@dataclass(frozen=True)
class RequantSeen(Observation):
    """The requantisation of a filter. For values that are not at an end of their range, only the sign is
    kept. `table`: "" where the machine has no activation tables.
    """

    group: ClassVar[str] = "requant"
    bias: int
    multiplier: int
    shift: int
    zero: int
    low: int
    high: int
    table: str


@dataclass(frozen=True)
class TapSeen(Observation):
    """A tap that masks valid pixels of a word: at which edge of the plane, how far the tap reaches over it,
    and how much of the word is masked.
    """

    group: ClassVar[str] = "tap"
    edge: str
    reach: int
    share: str
    phases: int


@dataclass(frozen=True)
class ReadSeen(Observation):
    """A read of T pixels: whether it starts at the start of a word, and whether that word is odd."""

    group: ClassVar[str] = "read"
    aligned: bool
    odd: bool


@dataclass(frozen=True)
class EventSeen(Observation):
    """An event on the pins, with the state of the sequencer in the model, or its place in a packet or a
    pass.
    """

    group: ClassVar[str] = "event"
    kind: str
    state: str = ""
    where: str = ""
