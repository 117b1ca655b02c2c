"""Image after image without a pause: the next input is loaded while the machine computes the one before.

The program is a loop. The host says in the stream, image by image, whether there is another one:

    first:  WAIT   for the planes of an input
            ...    the image's own program
            WAIT   for the word behind it
            JUMP   to the first word, or END: the last word, which comes with every input

A network that is itself loaded piece by piece brings all of its pieces again for each input. If its program
comes in pages, the end of the loop lies behind the first page, where else the program begins that sends every
tensor.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pymodel.machine.errors import TatamiError
from pymodel.machine.image import Image
from pymodel.machine.memory import Hold, Live, Section, Words, columns
from pymodel.machine.program import End, Jump, Layer, Legal, Wait, decode, encode_all
from pymodel.machine.state import MachineState
from pymodel.machine.walk import records_of

BoolArray = npt.NDArray[np.bool_]

LAST_WORD = 1  # packets that the second WAIT is for


class Loop(NamedTuple):
    """`program`: the words of PROGRAM, from word 0 on. `stream`: what must be loaded while it runs.
    `records`: those that run for one input, in order, the last of them JUMP or END.
    """

    program: Words
    stream: list[Live]
    records: list[Legal]


def back_to_back(image: Image, inputs: npt.NDArray[np.int8]) -> Loop:
    """Runs a network on a batch of inputs int8 [N, C, H, W], one behind the other. The program at
    `dump_start` is not there any more.

    Raises `TatamiError` if PROGRAM has not the words, or if the output lies in words of the input.
    """
    where = f"image of '{image.network}'"
    state = MachineState(image.config)
    state.load(image.sections)
    last = 0  # layers that must have passed until no word of the input is used any more
    banks, words = zip(*image.placements["input"].occupied(), strict=True)
    records: list[Legal] = []
    layers = 0
    for _, record in records_of(image, state.memory["PROGRAM"], state.load):
        if not isinstance(record, End):
            records.append(record)
        if isinstance(record, Layer):
            layers += 1
            if touched(state, record)[banks, words].any():
                last = layers
    pages = any(isinstance(item, Section) and item.memory == "PROGRAM" for item in image.run_stream)
    begin: list[Legal] = [Wait(len(image.placements["input"].bank))]
    end: list[Legal] = [Wait(LAST_WORD), End()]
    if pages:  # the first words of both programs are a page apart
        head = image.section("PROGRAM").words
        program = np.concatenate([encode_all(begin), head, encode_all(end)])
        room, of = 2 * image.dump_start, "two pages of it have"
        tail = len(begin) + len(head)
        records = [*begin, *records, Jump(tail), *end]
    else:
        records = [*begin, *records, *end]
        program = encode_all(records)
        room, of = image.config.program_depth, f"config '{image.config.name}' has"
        tail = len(program) - len(end)
    if len(program) > room:
        raise TatamiError(f"{where}: PROGRAM needs {len(program)} words to run back to back, {of} {room}")
    if image.placements["input"].occupied() & image.placements[image.output].occupied():
        raise TatamiError(
            f"{where}: the output lies in words of the input, so the next input cannot come before it is sent"
        )
    pieces = list(_pieces(image, tail))
    return Loop(program, list(_stream(image, inputs, layers, last, pieces, len(program) - 1)), records)


def touched(state: MachineState, layer: Layer) -> BoolArray:
    """The words [G, depth] of FEATURE that a layer reads or writes, and perhaps some more: those of masked
    pixels, too.
    """
    config, memory = state.config, state.memory
    groups = np.unique(columns("LANE", memory["LANE"][state.lanes(layer), 0]).group)
    member = columns("GROUP", memory["GROUP"][groups])
    group, bank = np.nonzero(member.valid == 1)
    base = member.base[group, bank]
    tap, which = np.unique(member.tap[group, bank], return_inverse=True)
    rows = np.unique(layer.tap_row(np.arange(layer.total)))
    offset = columns("TAP", memory["TAP"][np.add.outer(tap, rows), 0]).offset
    first = base + (offset.min(axis=1) // config.size)[which]
    last = base + layer.words + (offset.max(axis=1) // config.size)[which]
    # where ranges begin, and where they have ended
    ends = np.zeros((config.group, config.feature_depth + 1), dtype=np.int64)
    np.add.at(ends, (bank, first.clip(0, config.feature_depth)), 1)
    np.add.at(ends, (bank, (last + 1).clip(0, config.feature_depth)), -1)
    return state.writes(layer) | (ends.cumsum(axis=1)[:, :-1] > 0)


def _pieces(image: Image, tail: int) -> Iterator[tuple[int, Section]]:
    """What an input's run loads, and how many of its own layers must have passed before each. The last page
    of the program leads to word `tail` in place of its END.
    """
    needs = 0
    for item in image.run_stream:
        if isinstance(item, Hold):
            needs += item.layers
        elif item.memory == "PROGRAM":
            ends = [isinstance(decode(word), End) for word in item.words[:, 0]]
            jump = encode_all([Jump(tail)])
            words = np.where(np.array(ends)[:, None, None], jump, item.words)
            # the page before it is left when a layer of this run has passed
            yield max(needs, 1), Section("PROGRAM", item.address, words)
        else:
            yield needs, item


def _stream(
    image: Image,
    inputs: npt.NDArray[np.int8],
    layers: int,
    last: int,
    pieces: list[tuple[int, Section]],
    slot: int,
) -> Iterator[Live]:
    """Of every input its planes, the `pieces` of the network, and the word at `slot` of PROGRAM. `layers`
    pass for each input, `last` of them until the next one may come.
    """
    held = 0  # layers that the HOLDs so far have taken

    def hold(needs: int) -> Iterator[Live]:
        nonlocal held
        if needs > held:
            yield Hold(needs - held)
            held = needs

    for number, tensor in enumerate(inputs):
        before = number * layers  # these have passed when the run before has
        if number:
            yield from hold(before - layers + last)
        yield from image.tensor_sections("input", tensor)
        for needs, section in pieces:
            yield from hold(before + needs)
            yield section
        if number:  # the JUMP of the input before lies in the word until this one's first layer
            yield from hold(before + 1)
        more = number + 1 < len(inputs)
        yield Section("PROGRAM", slot, encode_all([Jump(0) if more else End()]))
