"""One-line faults of the RTL, and of what the host sends, each of which must make an assertion of the inside
fire.

`mutate` writes a copy of the sources in which every fault waits behind a number: `mutant` of `psa_checked`
chooses one, 0 none. So one build serves them all.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pymodel.machine.config import CONFIGS
from pymodel.machine.errors import TatamiError

# Depths that are no powers of two: there are addresses that a memory's address bits can name and the memory
# does not have.
CONFIG = replace(
    CONFIGS["4x2"],
    name="odd",
    feature_depth=1002,
    acc_words=21,
    program_depth=201,
    tile_depth=303,
    lane_depth=5001,
    group_depth=1501,
    tap_depth=701,
    edge_depth=91,
    filter_depth=333,
)


@dataclass(frozen=True)
class Fault:
    """In the line of rtl/<module>.v that `line` is found in, the expression `old` that becomes `new`."""

    module: str
    old: str
    new: str
    line: str = ""


@dataclass(frozen=True)
class Spoil:
    """A field that the host should not have written so: in one word of a memory, or in all of them."""

    memory: str
    word: int | None
    field: str
    value: int
    repeat: int = 0


@dataclass(frozen=True)
class Mutant:
    """What is wrong, and the messages that it must provoke. `stimulus` is the way in which the machine is
    used (test_inside.py).

    `packets` are destination, bank and address of packets of one word that are sent before.
    """

    name: str
    provokes: Sequence[str]
    fault: Fault | None = None
    spoils: Sequence[Spoil] = ()
    packets: Sequence[tuple[int, int, int]] = ()
    stimulus: str = "run"
    four_state: bool = False


OUT_OF_RANGE = "is out of range"
DEPTHS = {
    "FEATURE": CONFIG.feature_depth,
    "PROGRAM": CONFIG.program_depth,
    "TILE": CONFIG.tile_depth,
    "LANE": CONFIG.lane_depth,
    "SLOT": CONFIG.lane_depth,
    "GROUP": CONFIG.group_depth,
    "TAP": CONFIG.tap_depth,
    "EDGE": CONFIG.edge_depth,
    "FILTER": CONFIG.filter_depth,
}  # in the order of their destinations
OUT_RECORD = 2  # the network's program has two layers before it


def unchecked(
    names: Sequence[str],
    module: str,
    check: str,
    checked: str,
    spoils: Sequence[Spoil] = (),
    stimulus: str = "run",
) -> Mutant:
    """A bound that is taken for kept, `checked`, without a look, and a program that breaks it."""
    return Mutant(
        f"unchecked: {names[0]}",
        [f"{name} {OUT_OF_RANGE}" for name in names],
        Fault(module, check, checked),
        spoils,
        stimulus=stimulus,
    )


MEMORIES = (
    Mutant(
        "load to a memory that is none",
        [f"load destination {OUT_OF_RANGE}"],
        Fault("psa_load", "header_dest >= DESTINATIONS", "header_dest >= 8'd16"),
        packets=[(len(DEPTHS), 0, 0)],
        stimulus="nothing",
    ),
    Mutant(
        "load to a bank that is none",
        [f"FEATURE load bank {OUT_OF_RANGE}"],
        Fault("psa_load", "{24'd0, header_bank} >= GROUP", "1'b0"),
        packets=[(0, CONFIG.group, 0)],
        stimulus="nothing",
    ),
    Mutant(
        "load past the end of a memory",
        [f"{name} load {OUT_OF_RANGE}" for name in DEPTHS],
        Fault("psa_load", "{1'b0, header_addr} + {17'd0, header_words} > {16'd0, header_depth}", "1'b0"),
        packets=[(destination, 0, depth) for destination, depth in enumerate(DEPTHS.values())],
        stimulus="nothing",
    ),
    unchecked(
        ["PROGRAM read"],
        "psa_sequencer",
        "pc_reg >= PROGRAM_DEPTH",
        "1'b0",
        stimulus="start past the program",
    ),
    unchecked(
        ["TILE read"],
        "psa_sequencer",
        "{1'b0, record_tile_base} + {1'b0, record_tiles} <= TILE_DEPTH",
        "1'b1",
        [Spoil("PROGRAM", 0, "tile_base", CONFIG.tile_depth)],
    ),
    unchecked(
        ["LANE read", "SLOT read"],
        "psa_sequencer",
        "tile_lanes_end <= LANE_DEPTH",
        "1'b1",
        [Spoil("TILE", 0, "lane_base", CONFIG.lane_depth - 1)],
    ),
    unchecked(
        ["FILTER read"],
        "psa_sequencer",
        "{16'd0, tile_filter_base} + ROWS <= FILTER_DEPTH",
        "1'b1",
        [Spoil("TILE", 0, "filter_base", CONFIG.filter_depth - 1)],
    ),
    unchecked(
        ["EDGE read"],
        "psa_sequencer",
        "edge_address < EDGE_DEPTH",
        "1'b1",
        [Spoil("PROGRAM", 0, "edge_base", CONFIG.edge_depth)],
    ),
    unchecked(
        ["TAP row"],
        "psa_sequencer",
        "tap_row_reg < TAP_DEPTH",
        "1'b1",
        [Spoil("PROGRAM", 0, "tap_base", CONFIG.tap_depth)],
    ),
    unchecked(
        ["output word"],
        "psa_sequencer",
        "out_word_reg < FEATURE_DEPTH",
        "1'b1",
        # far more words than a plane has, of results that are not written
        [
            Spoil("PROGRAM", 0, "words", 50),
            Spoil("PROGRAM", 0, "phases", 30),
            Spoil("PROGRAM", 0, "tap_stride", 0),
            Spoil("PROGRAM", 0, "tiles", 1),
            Spoil("TILE", 0, "passes", 1),
            Spoil("FILTER", None, "write", 0),
        ],
    ),
    unchecked(
        ["accumulator word", "accumulator pixel"],
        "psa_sequencer",
        "record_chunk_words <= ACC_WORDS",
        "1'b1",
        [Spoil("PROGRAM", 0, "words", 40), Spoil("PROGRAM", 0, "chunk_words", 40)],
    ),
    unchecked(
        ["GROUP read"],
        "psa_fetch",
        "{1'b0, group} >= GROUP_DEPTH",
        "1'b0",
        [Spoil("LANE", 0, "group", CONFIG.group_depth)],
    ),
    unchecked(
        ["TAP read"],
        "psa_fetch",
        "tap_address >= TAP_DEPTH",
        "1'b0",
        [Spoil("PROGRAM", 0, "tap_base", CONFIG.tap_depth - 1)],
    ),
    unchecked(
        ["FEATURE read", "FEATURE read, second word,"],
        "psa_fetch",
        "word_4_reg < 0 || last_word >= FEATURE_DEPTH",
        "1'b0",
        [Spoil("GROUP", None, "base", CONFIG.feature_depth - 3)],
    ),
    unchecked(
        ["FEATURE write"],
        "psa_writeback",
        "address >= FEATURE_DEPTH",
        "1'b0",
        [Spoil("FILTER", 0, "base", CONFIG.feature_depth - 1)],
    ),
    unchecked(
        ["FEATURE write bank"],
        "psa_writeback",
        "{28'd0, filter_bank} >= GROUP",
        "1'b0",
        [Spoil("FILTER", 0, "bank", CONFIG.group)],
    ),
    unchecked(
        ["OUT end", "OUT read"],
        "psa_sequencer",
        "{1'b0, record_out_base} + {1'b0, record_out_words} <= FEATURE_DEPTH",
        "1'b1",
        # first word and count of an OUT record
        [
            Spoil("PROGRAM", OUT_RECORD, "phases", CONFIG.feature_depth - 1),
            Spoil("PROGRAM", OUT_RECORD, "chunk_words", 10),
        ],
    ),
)

SLOTS = (
    Mutant(
        "a member is lost",
        ["a weight selects a member that is not valid"],
        Fault("psa_fetch", "members[g*MEMBER_BITS]", "members[g*MEMBER_BITS] && g != 0"),
    ),
    Mutant(
        "a slot for a member that its group has not",
        ["a weight selects a member that is not valid"],
        spoils=[Spoil("GROUP", None, "valid", 0, repeat=1)],
    ),
)

TOKENS = (
    Mutant(
        "rows are issued backwards",
        ["lanes are not issued in the order of the rows"],
        Fault("psa_sequencer", "row_reg", "~row_reg", line="assign issue_row"),
    ),
    Mutant(
        "the last row is not issued",
        ["a word has a gap between its lanes"],
        Fault("psa_sequencer", "running && position_ok", "running && position_ok && !word_end"),
    ),
    Mutant(
        "rows change places",
        ["a row's pixels are not one cycle behind those of the row above"],
        Fault("psa_top", "bundle_row == r", "bundle_row == (r ^ 1)"),
    ),
    Mutant(
        "row 0 gets no slots",
        ["`first` reaches a PE whose slot was not loaded for the pass"],
        Fault("psa_slots", "issue_valid && issue_first", "issue_valid && issue_first && |issue_row"),
    ),
    Mutant(
        "slots are loaded for every word",
        ["a slot is replaced before its pass has begun"],
        Fault("psa_slots", "issue_valid && issue_first", "issue_valid"),
    ),
    Mutant(
        "columns are told a cycle early",
        ["a column is not told of the sum that leaves the array"],
        Fault("psa_column_control", "token_valid_reg[ROWS-1+c]", "token_valid_reg[ROWS-2+c]"),
    ),
    Mutant(
        "columns begin two at a time",
        ["two columns begin a word in one cycle"],
        Fault("psa_column_control", "token_reg[ROWS-1+c]", "token_reg[ROWS-1+(c|1)]"),
    ),
    Mutant(
        "write-back is told a cycle late",
        ["write-back is not told of the column that begins a word"],
        Fault("psa_column_control", "token_start_reg[ROWS-2]", "token_start_reg[ROWS-1]"),
    ),
)

WRITES = (
    Mutant(
        "results go on after an error",
        ["a result is written while ERROR stands"],
        Fault("psa_top", "wb_valid && !error", "wb_valid", line="ld_feature || (wb_valid"),
        [Spoil("FILTER", 1, "bank", CONFIG.group)],
    ),
    Mutant(
        "packets are taken after an error",
        ["a word is loaded while ERROR stands"],
        Fault("psa_top", "busy || start || error", "busy || start"),
        packets=[(200, 0, 0), (0, 0, 0)],
        stimulus="nothing",
    ),
    Mutant(
        "packets are taken while a program runs",
        ["a word is loaded while a program runs", "a load and a result in one cycle"],
        Fault("psa_top", "busy || start || error", "start || error"),
        stimulus="load while busy",
    ),
    Mutant(
        "the out stream does not wait for a layer",
        ["the out stream reads a bank while lanes do"],
        Fault("psa_sequencer", "state_next == STATE_OUT", "1'b1", line="out_start_reg <= state_reg"),
        [Spoil("PROGRAM", 0, "chunk_words", 20)],
    ),
)

# that the checkers of the interfaces are connected; every rule of theirs is provoked by test_interfaces.py
WIRING = (
    Mutant(
        "irq is X", ["irq is X"], Fault("psa_regs", "irq_reg", "1'bx", line="assign irq "), four_state=True
    ),
    Mutant(
        "a waiting word changes",
        ["m_axis: payload changed before ready came"],
        Fault("psa_out", "queue_reg[head_reg]", "queue_reg[tail_reg]"),
    ),
    Mutant(
        "tlast on the word before the last",
        ["m_axis: tlast must mark the last beat of a packet and no other"],
        Fault("psa_out", "left_reg == 16'd1", "left_reg == 16'd2"),
    ),
    Mutant(
        "a write is answered for ever",
        ["B: answers no write"],
        Fault("psa_regs", "bvalid_reg", "1'b1", line="assign s_axil_bvalid"),
        stimulus="nothing",
    ),
    Mutant(
        "a read is answered for ever",
        ["R: answers no read"],
        Fault("psa_regs", "rvalid_reg", "1'b1", line="assign s_axil_rvalid"),
        stimulus="nothing",
    ),
    Mutant(
        "the host withdraws a beat",
        ["s_axis: valid fell before ready came"],
        packets=[(200, 0, 0)],
        stimulus="withdraw a beat",
    ),
)

MUTANTS = (Mutant("nothing is wrong", []), *MEMORIES, *SLOTS, *TOKENS, *WRITES, *WIRING)


def mutate(sources: Sequence[Path], folder: Path) -> list[Path]:
    """Copies of `sources` below `folder` with every fault in them, each under the number of its mutant."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    texts = {path.stem: path.read_text() for path in sources}
    faults: dict[tuple[str, str, str], list[tuple[int, str]]] = {}
    for number, mutant in enumerate(MUTANTS):
        if mutant.fault:
            fault = mutant.fault
            faults.setdefault((fault.module, fault.line or fault.old, fault.old), []).append(
                (number, fault.new)
            )
    for (module, line, old), choices in faults.items():
        expression = old
        for number, new in choices:
            expression = f"(psa_checked.mutant == 8'd{number} ? ({new}) : ({expression}))"
        texts[module] = replace_in_line(texts[module], line, old, expression, f"{module}.v")
    texts["psa_checked"] = replace_in_line(
        texts["psa_checked"],
        "reg active_reg;",
        "reg active_reg;",
        "reg active_reg; reg [7:0] mutant; initial mutant = 8'd0;",
        "psa_checked.v",
    )
    # every mutant is to show, not the first five
    texts["psa_assert"] = replace_in_line(
        texts["psa_assert"], "parameter SHOWN", "5", "100000", "psa_assert.v"
    )
    for stem, text in texts.items():
        (folder / f"{stem}.v").write_text(text)
    return [folder / f"{path.stem}.v" for path in sources]


def replace_in_line(text: str, line: str, old: str, new: str, where: str) -> str:
    """`text` with `old` replaced in the one line that holds `line`.

    Raises `TatamiError` if it is not there exactly once.
    """
    lines = text.split("\n")
    found = [i for i, candidate in enumerate(lines) if line in candidate]
    if len(found) != 1 or lines[found[0]].count(old) != 1:
        raise TatamiError(f"{where}: '{old}' is not there once, in one line with '{line}'")
    lines[found[0]] = lines[found[0]].replace(old, new)
    return "\n".join(lines)
