"""The cases that make the assertions of the inside fire: bugs of tb/bugs.yaml, and wrong actions of the host.

`mutate` writes a copy of the sources that contains every bug. `mutant` of `psa_checked` enables one of them
by its number; 0 enables none. So one build serves all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pymodel.machine.config import CONFIGS
from pymodel.machine.memory import TABLE_WORDS
from pymodel.machine.program import OPCODE_WAIT
from tb.common.bugs import Bug, Edit, load_bugs, plant

# Depths that are not powers of two: the address bits of a memory can name addresses that the memory does not
# have.
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
    tables=2,
)


@dataclass(frozen=True)
class Spoil:
    """A field with a value that the host should not have written, in one word of a memory or in all of
    them. `added`: the value is added to what the field has.
    """

    memory: str
    word: int | None
    field: str
    value: int
    repeat: int = 0
    added: bool = False


@dataclass(frozen=True)
class Stimulus:
    """How the machine is used (test_inside.py has the values of `use`), and what the host does wrong.

    `packets` are destination, bank and address of packets of one word that are sent before. `tight`: of the
    network whose second layer waits for a word of the first.
    """

    use: str = "run"
    spoils: Sequence[Spoil] = ()
    packets: Sequence[tuple[int, int, int]] = ()
    tight: bool = False


@dataclass(frozen=True)
class Mutant:
    """A case: a bug in the machine or none, its stimulus, and the messages that it must cause."""

    name: str
    provokes: Sequence[str] = ()
    stimulus: Stimulus = Stimulus()
    bug: Bug | None = None


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
    "ACTIVATION": TABLE_WORDS * CONFIG.tables,
}  # in the order of their destinations
NEVER = "a word of {} is used that was never loaded"
OUT_RECORD = 2  # the network's program has two layers before it
HELD_PACKETS = 2  # that come behind a HOLD each


def spoiled(*spoils: Spoil) -> Stimulus:
    """A run of a program that breaks a bound."""
    return Stimulus(spoils=spoils)


# The program waits for the packets that come behind its layers, and sends nothing.
HELD = Stimulus(
    "live behind HOLDs",
    [
        Spoil("PROGRAM", OUT_RECORD, "opcode", OPCODE_WAIT),
        Spoil("PROGRAM", OUT_RECORD, "words", HELD_PACKETS),
    ],
)

# By the name of the bug that they reveal. The other bugs show in a normal run of the network.
STIMULI = {
    "load_to_no_memory": Stimulus("nothing", packets=[(len(DEPTHS), 0, 0)]),
    "load_to_no_bank": Stimulus("nothing", packets=[(0, CONFIG.group, 0)]),
    "load_past_the_end": Stimulus(
        "nothing", packets=[(destination, 0, depth) for destination, depth in enumerate(DEPTHS.values())]
    ),
    "unchecked_program_read": Stimulus("start past the program"),
    "unchecked_tile_read": spoiled(Spoil("PROGRAM", 0, "tile_base", CONFIG.tile_depth)),
    "unchecked_lane_read": spoiled(Spoil("TILE", 0, "lane_base", CONFIG.lane_depth - 1)),
    "unchecked_filter_read": spoiled(Spoil("TILE", 0, "filter_base", CONFIG.filter_depth - 1)),
    "unchecked_edge_read": spoiled(Spoil("PROGRAM", 0, "edge_base", CONFIG.edge_depth)),
    "unchecked_tap_row": spoiled(Spoil("PROGRAM", 0, "tap_base", CONFIG.tap_depth)),
    # far more words than a plane has; their results are not written
    "unchecked_output_word": spoiled(
        Spoil("PROGRAM", 0, "words", 50),
        Spoil("PROGRAM", 0, "phases", 30),
        Spoil("PROGRAM", 0, "tap_stride", 0),
        Spoil("PROGRAM", 0, "tiles", 1),
        Spoil("TILE", 0, "passes", 1),
        Spoil("FILTER", None, "write", 0),
    ),
    "unchecked_accumulator_word": spoiled(
        Spoil("PROGRAM", 0, "words", 40), Spoil("PROGRAM", 0, "chunk_words", 40)
    ),
    "unchecked_group_read": spoiled(Spoil("LANE", 0, "group", CONFIG.group_depth)),
    "unchecked_tap_read": spoiled(Spoil("PROGRAM", 0, "tap_base", CONFIG.tap_depth - 1)),
    "unchecked_feature_read": spoiled(Spoil("GROUP", None, "base", CONFIG.feature_depth - 3)),
    "unchecked_feature_write": spoiled(Spoil("FILTER", 0, "base", CONFIG.feature_depth - 1)),
    "unchecked_feature_write_bank": spoiled(Spoil("FILTER", 0, "bank", CONFIG.group)),
    "unchecked_activation_table": spoiled(Spoil("FILTER", 0, "table", CONFIG.tables + 1)),
    # first word and count of an OUT record
    "unchecked_out_end": spoiled(
        Spoil("PROGRAM", OUT_RECORD, "phases", CONFIG.feature_depth - 1),
        Spoil("PROGRAM", OUT_RECORD, "chunk_words", 10),
    ),
    "results_after_an_error": spoiled(Spoil("FILTER", 1, "bank", CONFIG.group)),
    "packets_after_an_error": Stimulus("nothing", packets=[(200, 0, 0), (0, 0, 0)]),
    "packets_while_busy": Stimulus("load while busy"),
    "loads_meet_results": Stimulus("live while busy"),
    "tables_announce_no_word": Stimulus("live while busy"),
    "holds_not_waited_for": HELD,
    "layers_counted_at_once": HELD,
    "packets_not_waited_for": HELD,
    "out_before_the_layer_ends": spoiled(Spoil("PROGRAM", 0, "chunk_words", 20)),
    "gap_one_short": Stimulus(tight=True),
    "write_answered_for_ever": Stimulus("nothing"),
    "read_answered_for_ever": Stimulus("nothing"),
}

SOUND = Mutant("nothing is wrong")
# Other ways to use the machine, in which nothing is wrong.
USES = (
    Mutant("live packets beside results", stimulus=Stimulus("live while busy")),
    Mutant("a packet that is not live while a program runs", stimulus=Stimulus("load while busy")),
    Mutant("live packets behind HOLDs", stimulus=HELD),
    Mutant("a gap that just suffices", stimulus=Stimulus(tight=True)),
)
# Wrong actions of the host alone.
HOST = (
    Mutant(
        "a slot for a member that its group has not",
        ["a weight selects a member that is not valid"],
        Stimulus(spoils=[Spoil("GROUP", None, "valid", 0, repeat=1)]),
    ),
    Mutant(
        "a gap that is a cycle too small",
        ["a lane reads a word before its result is written"],
        Stimulus(spoils=[Spoil("PROGRAM", 0, "gap", -1, added=True)], tight=True),
    ),
    # words within the memories that no packet has brought
    *(
        Mutant(f"a word of {memory} that was not loaded", [NEVER.format(memory)], stimulus)
        for memory, stimulus in {
            "PROGRAM": Stimulus("start at the last word"),
            "TILE": spoiled(Spoil("PROGRAM", 0, "tile_base", CONFIG.tile_depth - 20)),
            "LANE": spoiled(Spoil("TILE", 0, "lane_base", CONFIG.lane_depth - 100)),
            "SLOT": Stimulus(
                spoils=[Spoil("TILE", 0, "lane_base", CONFIG.lane_depth - 200)],
                packets=[
                    (list(DEPTHS).index("LANE"), 0, CONFIG.lane_depth - 200 + lane) for lane in range(50)
                ],
            ),
            "GROUP": spoiled(Spoil("LANE", 0, "group", CONFIG.group_depth - 1)),
            "TAP": spoiled(Spoil("PROGRAM", 0, "tap_base", CONFIG.tap_depth - 50)),
            "EDGE": spoiled(Spoil("PROGRAM", 0, "edge_base", CONFIG.edge_depth - 20)),
            "FILTER": spoiled(Spoil("TILE", 0, "filter_base", CONFIG.filter_depth - 20)),
            "ACTIVATION": spoiled(Spoil("FILTER", None, "table", 1)),
        }.items()
    ),
    Mutant(
        "planes that nothing has written",
        ["a lane reads a word that nothing has written"],
        spoiled(Spoil("GROUP", None, "base", CONFIG.feature_depth // 3)),
    ),
    Mutant(
        "the host withdraws a beat",
        ["s_axis: valid fell before ready came"],
        Stimulus("withdraw a beat", packets=[(200, 0, 0)]),
    ),
)
BUGS = [bug for bug in load_bugs() if bug.checker]
MUTANTS = (
    SOUND,
    *USES,
    *(Mutant(bug.name, bug.message, STIMULI.get(bug.name, Stimulus()), bug) for bug in BUGS),
    *HOST,
)


def mutate(sources: Sequence[Path], folder: Path, changed: Sequence[Bug] = ()) -> list[Path]:
    """`sources` with the bug of every mutant, under its number. The bugs in `changed` replace those of the
    registry with the same name. Edited files are copied to `folder`.
    """
    by_name = {bug.name: bug for bug in (*BUGS, *changed)}
    choices: dict[Edit, list[str]] = {}  # for each original text in the sources: the texts of the bugs
    for number, mutant in enumerate(MUTANTS):
        if mutant.name in by_name:
            edit = by_name[mutant.name].edit
            chosen = f"psa_checked.mutant == 8'd{number} ? ({edit.new}) : "
            choices.setdefault(replace(edit, new=edit.old), []).append(chosen)
    checkers = "tb/checkers"
    instruments = (
        Edit(
            f"{checkers}/psa_checked.v",
            "reg active_reg;",
            "reg active_reg; reg [7:0] mutant; initial mutant = 8'd0;",
        ),
        # every mutant must show, not only the first five
        Edit(f"{checkers}/psa_assert.v", "5", "100000", line="parameter SHOWN"),
    )
    edits = [replace(edit, new=f"({''.join(chosen)}({edit.old}))") for edit, chosen in choices.items()]
    return plant([*edits, *instruments], sources, folder)
