"""The functional coverage points.

To add one, add a `Coverpoint`, or a `Cross` of two points of a group, to `POINTS`:
docs/how-to/add-a-coverpoint.md.

A point takes one kind of observation (a class of `tb/coverage/observe.py`, the point's group) and puts it
into a bin. A value that is none of the bins is not counted.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, get_args

from cocotb_coverage.coverage import CoverCross, CoverItem, CoverPoint

from pymodel.machine.config import HALO, XOR_PATCHES, ArrayConfig
from pymodel.machine.errors import ErrorCode
from pymodel.machine.memory import memories
from pymodel.network.integer import KINDS as LAYER_TYPES
from pymodel.network.integer import MAX_KERNEL, Computed, Pair, Requantised, View, Window
from tb.coverage.observe import (
    READERS,
    RECORDS,
    REUSES,
    SIDES,
    STATES,
    WINDOWS,
    ColumnSeen,
    EventSeen,
    GatherSeen,
    HandoverSeen,
    LaneSeen,
    LayerSeen,
    Observation,
    OperationSeen,
    ProgramSeen,
    ReaderSeen,
    ReadSeen,
    RequantSeen,
    ReuseSeen,
    RowSeen,
    SideSeen,
    SlotSeen,
    TapSeen,
    WindowSeen,
)

Bins = tuple[Hashable, ...]
ROOT = "tatami"

FEW = ("0", "1", "many")
COUNT = ("1", "2", "many")
DIGIT = (-8, 7)
WEIGHT, BIAS, MULTIPLIER, SHIFT = (-128, 127), (-(2**31), 2**31 - 1), (0, 2**16 - 1), (0, 47)
BYTE = (-128, 127)
LENGTHS = ("shorter than the reload", "equal to the reload", "longer than the reload")
SIZES = ("1", "below T", "T", "multiple of T", "ragged above T")


@dataclass(frozen=True)
class Coverpoint:
    """`value` puts an observation of the group `of` into a bin.

    If the bins depend on the build, there is one point for each configuration.
    """

    of: type[Observation]
    name: str
    value: Callable[[Any], Hashable]
    bins: Bins | Callable[[ArrayConfig], Bins]


@dataclass(frozen=True)
class Cross:
    """All pairs of the bins of two points of a group."""

    of: type[Observation]
    name: str
    items: tuple[str, ...]
    without: tuple[Bins, ...] = ()


def few(count: int) -> str:
    return FEW[min(count, 2)]


def count(number: int) -> str:
    return COUNT[min(number, 3) - 1] if number else "0"


def size_class(number: int, t: int) -> str:
    """A count compared with T, which is the size of loops, words and tiles."""
    if number in (1, t):
        return "1" if number == 1 else "T"
    if number < t:
        return "below T"
    return "ragged above T" if number % t else "multiple of T"


def select_row(config: ArrayConfig) -> Bins:
    return tuple((select, row) for select in range(config.group) for row in range(config.size))


def live_memories(config: ArrayConfig) -> Bins:
    return tuple(("live packet", how, memory) for how in ("runs", "waits") for memory in memories(config))


def limits(value: int, low: int, high: int) -> str:
    """The position of a value in its range: at an end, or between."""
    if value in (low, high):
        return "lowest" if value == low else "highest"
    return "zero" if value == 0 else "negative" if value < 0 else "positive"


def reach_class(pixels: int) -> Hashable:
    """How far a tap reaches over an edge, where it matters."""
    if pixels <= 4:
        return pixels
    return "more" if pixels < HALO else "farthest"


def activity(state: str) -> str:
    """What the load stream can know about the sequencer's state."""
    return state if state in ("IDLE", "ERROR") else "busy"


def stride_class(stride: Pair | None) -> str:
    if stride is None:
        return "none"
    if stride[0] != stride[1]:
        return STRIDES[2]
    return STRIDES[min(stride[0], 2) - 1]


def dilation_class(window: Window) -> str:
    return DILATIONS[(window.dilation[0] > 1) + 2 * (window.dilation[1] > 1)]


def shape_class(size: Pair) -> str:
    if size[0] != size[1]:
        return "not square"
    return f"{size[0]} x {size[0]}" if size[0] in (1, MAX_KERNEL) else "even" if size[0] % 2 == 0 else "odd"


def kernel_class(pixels: int) -> Hashable:
    return pixels if pixels <= 3 else LENGTH[3] if pixels <= 7 else LENGTH[4]


def phase_class(phase: int) -> Hashable:
    return phase if phase in PHASES else "more"


def phases_class(phases: int) -> Hashable:
    return phases if phases in ALL_PHASES else "another"


def all_but(some: object) -> tuple[str, ...]:
    """The names of all types of layers but those of the union `some`."""
    return tuple(kind.__name__ for kind in LAYER_TYPES if kind not in get_args(some))


KINDS = tuple(kind.__name__ for kind in LAYER_TYPES)
VIEWS = tuple(kind.__name__ for kind in get_args(View))
STRIDES = ("1", "larger", "different in rows and columns")
SHAPES = ("1 x 1", "odd", "even", f"{MAX_KERNEL} x {MAX_KERNEL}", "not square")
DILATIONS = ("none", "rows", "columns", "both")
LENGTH = (1, 2, 3, "4 to 7", "8 to 11")  # of a kernel
AMOUNTS = ("none", "some", "full")  # of padding
PHASES = (1, 2, 3, 4, "more")  # of a tensor, in a direction
ALL_PHASES = (1, 2, 3, 4, 16, "another")
WORDS = ("first word", "middle word", "last word", "only word")
PIPELINE = tuple(c.name for c in ErrorCode if ErrorCode.GROUP_RANGE <= c < ErrorCode.DEADLOCK)
# A program error, and the states of the sequencer in which it can be found. Lanes are in the pipeline while
# the sequencer runs or drains.
ERROR_STATES: Bins = (
    ("PROGRAM_RANGE", "FETCH"),
    ("PROGRAM_OPCODE", "DECODE"),
    ("PROGRAM_FIELD", "DECODE"),
    ("PROGRAM_FIELD", "RUN"),
    ("TILE_FIELD", "TILE_WAIT"),
    ("TILE_FIELD", "RUN"),
    *((code, state) for code in PIPELINE for state in ("RUN", "DRAIN")),
    ("FEATURE_WRITE", "HANDOVER"),  # the next layer is being fetched
    ("DEADLOCK", "WAIT"),
)
LOAD_CUT = ErrorCode.LOAD_CUT.name  # behind a soft reset, and nowhere else
LOAD_ERRORS = tuple(c.name for c in ErrorCode if c.name.startswith("LOAD") and c.name != LOAD_CUT)
LOAD_STATES = ("HEADER", "PAYLOAD", "DROP")  # the loader's, as rtl/psa_load.v names them
ACTIVITIES = ("IDLE", "busy", "ERROR")
# Only the two streams can wait. Between the sequencer and the banks nothing waits (docs/machine.md,
# "Invariants").
STALLS = ("packet waits", "packet starves", "word waits")
WAITS = ("WAIT went on", "WAIT waited")
BEFORE_WAIT = ("START", *(record for record in RECORDS if record != "END"))
ENDS = ("lowest", "negative", "positive", "highest")
ALL = ("lowest", "negative", "zero", "positive", "highest")
MODES = ("sum", "maximum")
ROW_KINDS = ("no patch", "patched", "as it is")
PASS_PLACES = ("first cycle", "middle cycle", "last cycle", "between layers")

POINTS: tuple[Coverpoint | Cross, ...] = (
    # the shape of a layer: filters, pixels and lanes against the size of the array
    Coverpoint(LayerSeen, "cp_filters", lambda s: size_class(s.filters, s.size), SIZES),
    Coverpoint(LayerSeen, "cp_pixels", lambda s: size_class(s.pixels, s.size), SIZES),
    Coverpoint(
        LayerSeen, "cp_lanes", lambda s: "0" if s.lanes == 0 else size_class(s.lanes, s.size), ("0", *SIZES)
    ),
    Cross(LayerSeen, "cp_filters_x_pixels", ("cp_filters", "cp_pixels")),
    Cross(LayerSeen, "cp_filters_x_lanes", ("cp_filters", "cp_lanes")),
    # how the sequencer divides it
    Coverpoint(LayerSeen, "cp_words", lambda s: count(s.words), COUNT),
    Coverpoint(LayerSeen, "cp_phases", lambda s: phases_class(s.phases), ALL_PHASES),
    Coverpoint(LayerSeen, "cp_chunks", lambda s: count(s.chunks), COUNT),
    Coverpoint(LayerSeen, "cp_tiles", lambda s: count(s.tiles), COUNT),
    Coverpoint(LayerSeen, "cp_passes", lambda s: count(s.passes), COUNT),
    Coverpoint(LayerSeen, "cp_pass_length", lambda s: s.pass_length, LENGTHS),
    Coverpoint(
        LayerSeen,
        "cp_gap",
        lambda s: "none" if s.gap == 0 else "one cycle" if s.gap == 1 else "more",
        ("none", "one cycle", "more"),
    ),
    Cross(LayerSeen, "cp_gap_x_tiles", ("cp_gap", "cp_tiles")),
    Cross(LayerSeen, "cp_gap_x_passes", ("cp_gap", "cp_passes")),
    Coverpoint(LayerSeen, "cp_last_chunk", lambda s: s.last_chunk, ("whole", "shorter", "one word")),
    Coverpoint(LayerSeen, "cp_chunk_edge", lambda s: s.chunk_edge, ("at a phase edge", "inside a phase")),
    Cross(LayerSeen, "cp_chunks_x_tiles", ("cp_chunks", "cp_tiles")),
    Cross(LayerSeen, "cp_chunks_x_passes", ("cp_chunks", "cp_passes")),
    Cross(LayerSeen, "cp_tiles_x_passes", ("cp_tiles", "cp_passes")),
    Cross(LayerSeen, "cp_phases_x_passes", ("cp_phases", "cp_passes")),
    # what it computes
    Coverpoint(LayerSeen, "cp_mode", lambda s: s.mode, MODES),
    Cross(LayerSeen, "cp_mode_x_passes", ("cp_mode", "cp_passes")),
    Cross(LayerSeen, "cp_mode_x_chunks", ("cp_mode", "cp_chunks")),
    Coverpoint(LayerSeen, "cp_pad", lambda s: limits(s.pad, *BYTE), ALL),
    Cross(LayerSeen, "cp_mode_x_pad", ("cp_mode", "cp_pad")),
    Coverpoint(
        HandoverSeen,
        "cp_mode_change",
        lambda s: (s.before, s.after),
        tuple((before, after) for before in MODES for after in MODES),
    ),
    Coverpoint(LayerSeen, "cp_relu", lambda s: s.relu, (False, True)),
    Coverpoint(LayerSeen, "cp_saturation_low", lambda s: s.clipped_low, (False, True)),
    Coverpoint(LayerSeen, "cp_saturation_high", lambda s: s.clipped_high, (False, True)),
    Cross(LayerSeen, "cp_saturation_low_x_relu", ("cp_saturation_low", "cp_relu")),
    Cross(LayerSeen, "cp_saturation_high_x_relu", ("cp_saturation_high", "cp_relu")),
    # the network's layers
    Coverpoint(OperationSeen, "cp_kind", lambda s: s.kind, KINDS),
    Coverpoint(OperationSeen, "cp_kind_relu", lambda s: s.relu, (False, True)),
    Cross(
        OperationSeen,
        "cp_kind_x_relu",
        ("cp_kind", "cp_kind_relu"),
        without=tuple((kind, relu) for kind in all_but(Requantised) for relu in (False, True)),
    ),
    Coverpoint(OperationSeen, "cp_kind_tiles", lambda s: count(s.tiles), COUNT),
    Cross(
        OperationSeen,
        "cp_kind_x_tiles",
        ("cp_kind", "cp_kind_tiles"),
        without=tuple((kind, tiles) for kind in all_but(Computed) for tiles in COUNT),
    ),
    Coverpoint(OperationSeen, "cp_residual", lambda s: stride_class(s.residual), ("none", *STRIDES)),
    Coverpoint(OperationSeen, "cp_phase_rows", lambda s: s.phase and phase_class(s.phase[0]), PHASES),
    Coverpoint(OperationSeen, "cp_phase_columns", lambda s: s.phase and phase_class(s.phase[1]), PHASES),
    Coverpoint(OperationSeen, "cp_phase_pair", lambda s: stride_class(s.phase), STRIDES),
    # their windows
    Coverpoint(WindowSeen, "cp_window", lambda s: s.of, WINDOWS),
    Coverpoint(WindowSeen, "cp_window_shape", lambda s: shape_class(s.window.size), SHAPES),
    Coverpoint(WindowSeen, "cp_window_stride", lambda s: stride_class(s.window.stride), STRIDES),
    Coverpoint(WindowSeen, "cp_window_dilation", lambda s: dilation_class(s.window), DILATIONS),
    Coverpoint(WindowSeen, "cp_window_pad", lambda s: "" if s.pad is None else limits(s.pad, *BYTE), ALL),
    Cross(WindowSeen, "cp_window_x_shape", ("cp_window", "cp_window_shape")),
    Cross(WindowSeen, "cp_window_x_stride", ("cp_window", "cp_window_stride")),
    Cross(
        WindowSeen,
        "cp_window_x_shape_x_stride",
        ("cp_window", "cp_window_shape", "cp_window_stride"),
    ),
    Cross(
        WindowSeen,
        "cp_window_x_dilation",
        ("cp_window", "cp_window_dilation"),
        without=tuple(("mean", apart) for apart in DILATIONS[1:]),
    ),
    Cross(
        WindowSeen,
        "cp_window_x_pad",
        ("cp_window", "cp_window_pad"),
        without=tuple(("maximum", value) for value in ALL[1:]),
    ),
    Coverpoint(SideSeen, "cp_kernel", lambda s: kernel_class(s.kernel), LENGTH),
    Coverpoint(SideSeen, "cp_stride", lambda s: s.stride, (1, 2, 3, 4)),
    Coverpoint(SideSeen, "cp_side", lambda s: s.side, SIDES),
    Coverpoint(SideSeen, "cp_padding", lambda s: s.padding, AMOUNTS),
    Cross(SideSeen, "cp_side_x_padding", ("cp_side", "cp_padding")),
    Cross(SideSeen, "cp_kernel_x_stride", ("cp_kernel", "cp_stride")),
    # a kernel of one pixel has no padding
    Cross(
        SideSeen,
        "cp_kernel_x_stride_x_side_x_padding",
        ("cp_kernel", "cp_stride", "cp_side", "cp_padding"),
        without=tuple(
            (1, stride, side, amount) for stride in range(1, 5) for side in SIDES for amount in AMOUNTS[1:]
        ),
    ),
    # layers that only name pixels
    Coverpoint(GatherSeen, "cp_gather_tensors", lambda s: count(s.tensors), COUNT),
    Coverpoint(GatherSeen, "cp_gather_zeros", lambda s: s.zeros, (False, True)),
    Cross(GatherSeen, "cp_gather_tensors_x_zeros", ("cp_gather_tensors", "cp_gather_zeros")),
    Coverpoint(ReaderSeen, "cp_view", lambda s: s.view, VIEWS),
    Coverpoint(ReaderSeen, "cp_reader", lambda s: s.reader, READERS),
    Cross(ReaderSeen, "cp_view_x_reader", ("cp_view", "cp_reader")),
    # lifetimes that meet
    Coverpoint(ReuseSeen, "cp_reuse", lambda s: s.by, REUSES),
    # slots
    Coverpoint(SlotSeen, "cp_select_x_row", lambda s: (s.select, s.row), select_row),
    Coverpoint(SlotSeen, "cp_weight", lambda s: "" if s.digit else limits(s.weight, *WEIGHT), ENDS),
    Coverpoint(
        SlotSeen,
        "cp_digit",
        lambda s: (s.digit, limits(s.weight, *DIGIT)),
        tuple((d, e) for d in ("low", "high") for e in ENDS),
    ),
    # rows of slots where there is an XOR decoder
    Coverpoint(RowSeen, "cp_row_patches", lambda s: s.patches, (*range(XOR_PATCHES + 1), "as it is")),
    Coverpoint(RowSeen, "cp_row_kind", lambda s: s.kind, ROW_KINDS),
    Coverpoint(
        RowSeen, "cp_row_place", lambda s: s.place, ("first of its tile", "inside a word", "into a new word")
    ),
    # a row that is stored as it is takes a whole word
    Cross(
        RowSeen,
        "cp_row_kind_x_place",
        ("cp_row_kind", "cp_row_place"),
        without=(("as it is", "inside a word"),),
    ),
    # lanes and groups
    Coverpoint(
        LaneSeen, "cp_lane_weights", lambda s: "all" if s.weights == s.size else few(s.weights), (*FEW, "all")
    ),
    Coverpoint(
        LaneSeen,
        "cp_lane_members",
        lambda s: "all" if s.members == s.group_size else few(s.members),
        (*FEW, "all"),
    ),
    Coverpoint(LaneSeen, "cp_lane_selects", lambda s: few(s.selects), FEW),
    Coverpoint(LaneSeen, "cp_lanes_per_group", lambda s: count(s.sharing), COUNT),
    # columns and filters
    Coverpoint(ColumnSeen, "cp_filter_weights", lambda s: few(s.weights), FEW),
    Coverpoint(ColumnSeen, "cp_filter_passes", lambda s: count(s.passes), COUNT),
    Coverpoint(ColumnSeen, "cp_filter_write", lambda s: s.write, (False, True)),
    Cross(ColumnSeen, "cp_filter_weights_x_passes", ("cp_filter_weights", "cp_filter_passes")),
    Coverpoint(
        RequantSeen,
        "cp_bias",
        lambda s: limits(s.bias, *BIAS),
        ALL,
    ),
    Coverpoint(
        RequantSeen,
        "cp_multiplier",
        lambda s: limits(s.multiplier, *MULTIPLIER),
        ("lowest", "positive", "highest"),
    ),
    Coverpoint(RequantSeen, "cp_shift", lambda s: limits(s.shift, *SHIFT), ("lowest", "positive", "highest")),
    Coverpoint(RequantSeen, "cp_zero", lambda s: limits(s.zero, *BYTE), ALL),
    Coverpoint(RequantSeen, "cp_low", lambda s: limits(s.low, *BYTE), ALL),
    Coverpoint(RequantSeen, "cp_high", lambda s: limits(s.high, *BYTE), ALL),
    Coverpoint(RequantSeen, "cp_table", lambda s: s.table, ("none", "first", "another", "last")),
    # taps at the edges of the plane: by which edge a pixel is masked, and how far the tap reaches
    Coverpoint(
        TapSeen,
        "cp_mask",
        lambda s: (s.edge, reach_class(s.reach)),
        tuple((e, r) for e in ("left", "right", "top", "bottom") for r in (1, 2, 3, 4, "more", "farthest")),
    ),
    Coverpoint(TapSeen, "cp_mask_phases", lambda s: phases_class(s.phases), ALL_PHASES),
    Coverpoint(TapSeen, "cp_mask_edge", lambda s: s.edge, ("left", "right", "top", "bottom", "corner")),
    Coverpoint(TapSeen, "cp_mask_word", lambda s: s.share, ("some pixels", "all pixels")),
    Cross(TapSeen, "cp_mask_edge_x_phases", ("cp_mask_edge", "cp_mask_phases")),
    Cross(TapSeen, "cp_mask_edge_x_word", ("cp_mask_edge", "cp_mask_word")),
    # reads of T pixels: from one word, or from two words in the two half banks, in either order
    Coverpoint(ReadSeen, "cp_read_aligned", lambda s: s.aligned, (False, True)),
    Coverpoint(ReadSeen, "cp_read_word", lambda s: "odd" if s.odd else "even", ("even", "odd")),
    Cross(ReadSeen, "cp_read_aligned_x_word", ("cp_read_aligned", "cp_read_word")),
    # programs
    Coverpoint(ProgramSeen, "cp_layers", lambda s: few(s.layers), FEW),
    Coverpoint(ProgramSeen, "cp_outs", lambda s: few(s.outs), FEW),
    Coverpoint(
        ProgramSeen,
        "cp_start",
        lambda s: "word 0" if s.start == 0 else "a later word",
        ("word 0", "a later word"),
    ),
    Coverpoint(
        ProgramSeen,
        "cp_record_order",
        lambda s: s.order,
        tuple((a, b) for a in ("START", *RECORDS) if a != "END" for b in RECORDS),
    ),
    Coverpoint(ProgramSeen, "cp_error_x_state", lambda s: s.error, ERROR_STATES),
    # events on the pins, with the state of the sequencer in the model
    Coverpoint(
        EventSeen,
        "cp_reset_x_state",
        lambda s: (s.kind, s.state),
        tuple((k, s) for k in ("soft_reset", "hard_reset") for s in STATES),
    ),
    Coverpoint(
        EventSeen,
        "cp_load_error",
        lambda s: (s.kind, s.where),
        (*((e, w) for e in LOAD_ERRORS for w in LOAD_STATES), (LOAD_CUT, "CUT")),
    ),
    Coverpoint(
        EventSeen,
        "cp_load_error_x_state",
        lambda s: (s.kind, activity(s.state)),
        (*((e, a) for e in LOAD_ERRORS for a in ACTIVITIES), (LOAD_CUT, "IDLE")),
    ),
    Coverpoint(
        EventSeen,
        "cp_start_refused",
        lambda s: (s.kind, s.state),
        tuple(("start_refused", s) for s in ("RUN", "DRAIN", "OUT", "ERROR")),
    ),
    Coverpoint(
        EventSeen,
        "cp_packet_offered",
        lambda s: (s.kind, s.state),
        tuple(("packet", s) for s in ("IDLE", "RUN", "OUT")),
    ),
    Coverpoint(
        EventSeen,
        "cp_in_gap",
        lambda s: (s.kind, s.where),
        (("gap", "inside a packet"), ("gap", "between packets")),
    ),
    # loads while a program runs
    Coverpoint(
        EventSeen,
        "cp_wait_x_before",
        lambda s: (s.kind, s.state),
        # a packet takes longer than the two cycles from START to a WAIT that is the first record
        tuple((k, r) for k in WAITS for r in BEFORE_WAIT if (k, r) != ("WAIT went on", "START")),
    ),
    Coverpoint(
        EventSeen,
        "cp_wait_x_after",
        lambda s: (s.kind, s.where),
        tuple((k, r) for k in WAITS for r in RECORDS),
    ),
    Coverpoint(EventSeen, "cp_hold", lambda s: (s.kind, s.where), (("HOLD", "blocked"), ("HOLD", "at once"))),
    Coverpoint(
        EventSeen,
        "cp_live_memory",
        lambda s: (s.kind, s.state, s.where),
        live_memories,
    ),
    Coverpoint(EventSeen, "cp_beat_held", lambda s: (s.kind, s.where), (("beat held", "beside a result"),)),
    Coverpoint(
        EventSeen,
        "cp_held_in_a_wait",
        lambda s: (s.kind, s.where),
        (("held in a WAIT", "HOLD"), ("held in a WAIT", "not live")),
    ),
    Coverpoint(EventSeen, "cp_out_stall", lambda s: (s.kind, s.where), tuple(("stall", w) for w in WORDS)),
    Coverpoint(
        EventSeen,
        "cp_stall_x_pass_edge",
        lambda s: (s.kind, s.where),
        tuple((k, w) for k in STALLS for w in PASS_PLACES),
    ),
)


def path(point: Coverpoint | Cross, config: ArrayConfig | None = None) -> str:
    """`tatami.<group>.cp_...`, with `.on_<configuration>` added if there is one point for each
    configuration.
    """
    base = f"{ROOT}.{point.of.group}.{point.name}"
    return (
        f"{base}.on_{config.name}"
        if config and isinstance(point, Coverpoint) and callable(point.bins)
        else base
    )


def build(point: Coverpoint | Cross, config: ArrayConfig) -> CoverItem:
    """The point as an object of cocotb-coverage."""
    if isinstance(point, Cross):
        return CoverCross(
            path(point),
            items=[f"{ROOT}.{point.of.group}.{item}" for item in point.items],
            ign_bins=list(point.without),
        )
    bins = point.bins(config) if callable(point.bins) else point.bins
    return CoverPoint(path(point, config), xf=point.value, bins=list(bins))
