"""The observations: one class for each group of points.

`tb/coverage/sample.py`, `tb/coverage/operations.py` and `tb/coverage/watch.py` create them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pymodel.network.integer import Pair, Window

# The sequencer's, as rtl/psa_sequencer.v names them.
STATES = ("IDLE", "FETCH", "DECODE", "TILE", "TILE_WAIT", "RUN", "DRAIN", "OUT", "ERROR", "WAIT")
RECORDS = ("LAYER", "OUT", "END", "WAIT", "JUMP")
# What moves a window. A depthwise convolution has a group for each channel.
WINDOWS = ("convolution", "depthwise", "groups", "mean", "maximum")
SIDES = ("top", "left", "bottom", "right")
# How a layer reads a tensor: a window of it, pixel by pixel as Linear does, to add it, or to name its pixels
READERS = ("window", "pixels", "sum", "view")
# Which layer writes words again: the one behind the last reader of what they held, or another
REUSES = ("the next layer", "a later layer")


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

    `size` is T. `passes`: the most of any tile. `lanes`: those with an input. `pad`: only its sign, unless it
    is at an end of its range. `relu`: a filter's low clamp is its zero point.
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
class OperationSeen(Observation):
    """A layer of a network. `kind` is the name of its type. One that only names pixels has `tiles` 0, and
    None as its output's `phase` (rows, columns). `relu`: its low clamp is its zero point; None for one that
    does not requantise. `residual`: its stride, None without one.
    """

    group: ClassVar[str] = "operation"
    kind: str
    tiles: int
    phase: Pair | None
    relu: bool | None
    residual: Pair | None


@dataclass(frozen=True)
class WindowSeen(Observation):
    """A layer that moves a window. `of`: one of `WINDOWS`. `pad`: the value of a pixel outside, only its sign
    unless it is at an end of its range; None where no place of the window lies outside.
    """

    group: ClassVar[str] = "window"
    of: str
    window: Window
    pad: int | None


@dataclass(frozen=True)
class SideSeen(Observation):
    """A side of a window: its kernel and stride in that direction, and how much of its reach the padding
    takes.
    """

    group: ClassVar[str] = "side"
    side: str
    kernel: int
    stride: int
    padding: str


@dataclass(frozen=True)
class GatherSeen(Observation):
    """Channels that were put together: of how many tensors, and whether there are zeros among them."""

    group: ClassVar[str] = "gather"
    tensors: int
    zeros: bool


@dataclass(frozen=True)
class ReaderSeen(Observation):
    """A tensor that only names pixels, by the name of its type, and how a layer reads it: one of
    `READERS`.
    """

    group: ClassVar[str] = "reader"
    view: str
    reader: str


@dataclass(frozen=True)
class ReuseSeen(Observation):
    """Words that two tensors share, and which layer writes them for the later one: one of `REUSES`."""

    group: ClassVar[str] = "reuse"
    by: str


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
