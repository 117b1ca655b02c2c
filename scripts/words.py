"""Renders rtl/psa_words.vh, which tells the RTL where the fields of words are: `python -m scripts.words`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pymodel.machine.config import COUNT_BITS, XOR_COUNT_BITS, XOR_PATCHES
from pymodel.machine.dma import DESCRIPTOR
from pymodel.machine.files import write_text
from pymodel.machine.memory import HEADER, HOLD, LAYOUTS, LIVE, TABLE_WORDS, Layout, WordField
from pymodel.machine.places import ROOT
from pymodel.machine.program import MAXIMUM, OPCODES, PLACES
from pymodel.machine.sizes import Size, clog2, where
from scripts.command import command

FILE = ROOT / "rtl" / "psa_words.vh"
COLUMN = 29  # of the values
DESTINATION_BITS = clog2(len(LAYOUTS))
Fields = Iterable[tuple[str, Size]]

HEAD = """// Where the fields of words are: of memories, headers of packets and descriptors (docs/formats.md).
//
// Rendered from pymodel/machine/memory.py, program.py and dma.py by `python -m scripts.words`. A test fails
// when they differ.
//
//   PSA_<word>_<field>       where the field is, for a part-select: word[`PSA_FILTER_BIAS]. Of a word of
//                            entries, where it is in one: word[i*`PSA_EDGE_ENTRY_BITS + `PSA_EDGE_LEFT]
//   PSA_<word>_<field>_BITS  bits of the field; 0 where it is not there
//   PSA_<word>_ENTRY_BITS    bits of an entry of the word
//   PSA_<word>_BITS          bits of the word
//   PSA_<word>_BEATS         beats of the load stream that it takes
//   PSA_<word>_DESTINATION   its memory in the header of a packet
//
// An expression is in the parameters of `psa_top`, and T for its rows. A module that uses one has those under
// these names.

`ifndef PSA_WORDS_VH
`define PSA_WORDS_VH
"""

TAIL = """
`endif
"""


def define(name: str, value: Size | int | str) -> str:
    text = value.factor if isinstance(value, Size) else str(value)
    return f"`define PSA_{name:<{COLUMN}} {text}\n"


def fields(word: str, parts: Fields) -> tuple[str, Size]:
    """The macros of a word's fields, and its bits."""
    lines, at = [], Size()
    for name, bits in parts:
        full = f"{word}_{name.upper()}"
        lines += [define(full, f"{at.verilog} +: {bits.verilog}"), define(f"{full}_BITS", bits)]
        at += bits
    return "".join(lines), at


def memory(layout: Layout) -> str:
    """The macros of a memory's word."""
    name = layout.name
    lines, entry = fields(name, ((field.name, field.bits) for field in layout.fields))
    text = (
        f"\n// {name}\n\n"
        + define(f"{name}_DESTINATION", f"{DESTINATION_BITS}'d{layout.destination}")
        + lines
    )
    word: Size | str = entry
    if layout.repeat != Size(1):
        text += define(f"{name}_ENTRY_BITS", entry)
        word = f"({layout.repeat.factor} * `PSA_{name}_ENTRY_BITS)"
    if name == "SLOT":  # a row as the array takes it; a word may be longer
        text += define("SLOT_ROW_BITS", word)
        word = f"(`PSA_SLOT_ROW_BITS + {COUNT_BITS.factor})"
    text += define(f"{name}_BITS", word)
    return text + define(f"{name}_BEATS", f"((`PSA_{name}_BITS + STREAM_BITS - 1) / STREAM_BITS)")


def memories(layouts: Mapping[str, Layout]) -> str:
    """How many there are: their destinations are the numbers below."""
    every = len(layouts)
    return where("TABLES", 0, Size(every - 1), Size(every)).factor


def records() -> str:
    """The macros of the records of a program. A LAYER has the fields of PROGRAM."""
    text = "\n// the records in PROGRAM\n\n"
    text += "".join(define(f"OPCODE_{kind.__name__.upper()}", value) for kind, value in OPCODES.items())
    for kind, places in PLACES.items():
        for name, of_layer in places.items():
            text += define(f"{kind.__name__.upper()}_{name.upper()}", f"`PSA_PROGRAM_{of_layer.upper()}")
    return text + define("MODE_MAXIMUM", MAXIMUM)


def rows() -> str:
    """The macros of a row of slots as a machine with an XOR decoder stores it."""
    text = "\n// a stored row of slots: its count, and the patches that it has at most\n\n"
    return text + define("ROW_COUNT_BITS", XOR_COUNT_BITS) + define("ROW_PATCHES", XOR_PATCHES)


def fixed(word: str, title: str, parts: Iterable[WordField]) -> str:
    """The macros of a word that is the same in every machine."""
    lines, all_bits = fields(word, ((field.name, Size(field.bits)) for field in parts))
    return f"\n// {title}\n\n{lines}{define(f'{word}_BITS', all_bits)}"


def render(layouts: Mapping[str, Layout] = LAYOUTS) -> str:
    """The whole file."""
    header = fixed("HEADER", "the header of a packet", HEADER)
    header += (
        define("HEADER_LIVE", clog2(LIVE)) + define("HOLD", HOLD) + define("MEMORIES", memories(layouts))
    )
    return "".join(
        [
            HEAD,
            *map(memory, layouts.values()),
            define("TABLE_WORDS", TABLE_WORDS),
            records(),
            rows(),
            header,
            fixed("DESCRIPTOR", "a descriptor", DESCRIPTOR),
            TAIL,
        ]
    )


@command("words")
def main() -> int:
    write_text(FILE, render())
    print(f"{FILE} written")
    return 0


if __name__ == "__main__":
    main.run()
