"""Records of a program: what a word of PROGRAM says, and back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pymodel.machine.config import CONFIGS, ArrayConfig
from pymodel.machine.errors import ErrorCode
from pymodel.machine.faults import ProgramError
from pymodel.machine.memory import Section, columns, memories
from pymodel.machine.model import Machine
from pymodel.machine.program import (
    OUT_FIELDS,
    End,
    Jump,
    Layer,
    Legal,
    Out,
    Record,
    Unknown,
    Wait,
    decode,
    encode_all,
)

CONFIG = CONFIGS["4x2"]
LAYER = Layer(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, -11, 1)


@pytest.mark.parametrize(
    ("record", "row"),
    [
        (LAYER, [1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, -11, 1]),
        (Out(bank=1, base=2, words=3), [2, 1, 2, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        (End(), [3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        (Wait(7), [4, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        (Jump(8), [5, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
    ],
)
def test_a_record_is_its_word_and_back(record: Legal, row: list[int]) -> None:
    assert record.encode().tolist() == row
    assert decode(row) == record


@pytest.mark.parametrize("opcode", [0, 6, 65535])
def test_a_word_that_is_no_record(opcode: int) -> None:
    found: Record = decode([opcode, *range(1, 13)])
    assert found == Unknown(opcode)


def test_fields_by_name_are_those_of_the_records() -> None:
    words = encode_all([LAYER, Out(bank=7, base=8, words=9)])
    program = columns("PROGRAM", words)
    assert {name: int(getattr(program, name)[0, 0]) for name in vars(LAYER)} == vars(LAYER)
    assert {name: int(getattr(program, OUT_FIELDS[name])[1, 0]) for name in OUT_FIELDS} == vars(Out(7, 8, 9))
    program.gap[0] = 11
    assert decode(words[0, 0]) == replace(LAYER, gap=11)
    with pytest.raises(AttributeError, match="no field 'phase', there are opcode, words, phases"):
        _ = program.phase


@pytest.mark.parametrize("config", CONFIGS.values(), ids=lambda c: c.name)
def test_every_field_of_every_memory_has_its_column(config: ArrayConfig) -> None:
    for name, memory in memories(config).items():
        if name == "SLOT":  # of rows, not of the words that a decoder reads
            continue
        words = memory.zeros(1)
        words[0, 0] = np.arange(len(memory.fields))
        found = columns(name, words)
        assert [int(getattr(found, f.name)[0, 0]) for f in memory.fields] == list(range(len(memory.fields)))


def test_a_layer_of_more_words_than_there_are_stops_at_once() -> None:
    """Its chunks are billions: none may be made before it is needed."""
    tile = memories(CONFIG)["TILE"].zeros(1)
    columns("TILE", tile).passes[:] = 1
    layer = Layer(65535, 65535, 1, 0, 0, 0, 0, 0, 1)
    machine = Machine(replace(CONFIG, edge_depth=4))
    machine.load([Section("PROGRAM", 0, encode_all([layer, End()])), Section("TILE", 0, tile)])
    with pytest.raises(ProgramError) as caught:
        machine.run()
    assert caught.value.code == ErrorCode.PROGRAM_FIELD
