"""Image after image without a pause: the next input is loaded while the machine computes the one before.

The program is a loop. The host says in the stream, image by image, whether there is another one:

    first:  WAIT   for the planes of an input
            LAYER  ... as in the image's own program
            OUT    ...
            WAIT   for the word behind it
            JUMP   to the first word, or END: the last word, which comes with every input

Only the input and that one word are loaded. So a network that is itself loaded piece by piece cannot run so.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from pymodel.machine.errors import TatamiError
from pymodel.machine.image import Image
from pymodel.machine.memory import Hold, Live, Section, Words, columns
from pymodel.machine.program import End, Jump, Layer, Legal, Out, Wait, decode_all, encode_all
from pymodel.machine.state import MachineState

BoolArray = npt.NDArray[np.bool_]

LAST_WORD = 1  # packets that the second WAIT is for


def back_to_back(image: Image, inputs: npt.NDArray[np.int8]) -> tuple[Words, list[Live]]:
    """The words of PROGRAM, from word 0 on, and the live stream that run a network on a batch of inputs
    int8 [N, C, H, W], one behind the other. The program at `dump_start` is not there any more.

    Raises `TatamiError` if PROGRAM has not the words, or if the output lies in words of the input.
    """
    records = list(_own_program(image))
    planes = len(image.placements["input"].bank)
    program: list[Legal] = [Wait(planes), *records, Wait(LAST_WORD), End()]
    if len(program) > image.config.program_depth:
        raise TatamiError(
            f"image of '{image.network}': PROGRAM needs {len(program)} words to run back to back, config"
            f" '{image.config.name}' has {image.config.program_depth}"
        )
    if image.placements["input"].occupied() & image.placements[image.output].occupied():
        raise TatamiError(
            f"image of '{image.network}': the output lies in words of the input, so the next input cannot"
            " come before it is sent"
        )
    layers = [record for record in records if isinstance(record, Layer)]
    return encode_all(program), list(
        _stream(image, inputs, len(layers), last_use(image, layers), len(program) - 1)
    )


def last_use(image: Image, layers: list[Layer]) -> int:
    """How many layers must have passed until no word of the input is used any more."""
    state = MachineState(image.config)
    state.load(image.sections)
    banks, words = zip(*image.placements["input"].occupied(), strict=True)
    used = [number for number, layer in enumerate(layers, 1) if touched(state, layer)[banks, words].any()]
    return max(used, default=0)


def touched(state: MachineState, layer: Layer) -> BoolArray:
    """The words [G, depth] of FEATURE that a layer reads or writes, and perhaps some more: those of masked
    pixels, too.
    """
    config, memory = state.config, state.memory
    mask = state.writes(layer)
    groups = np.unique(columns("LANE", memory["LANE"][state.lanes(layer), 0]).group)
    member = columns("GROUP", memory["GROUP"][groups])
    rows = np.unique(layer.tap_row(np.arange(layer.total)))
    for group, bank in np.argwhere(member.valid == 1).tolist():
        base = int(member.base[group, bank])
        offset = columns("TAP", memory["TAP"][rows + member.tap[group, bank], 0]).offset
        first = base + int(offset.min()) // config.size
        last = base + layer.words + int(offset.max()) // config.size
        mask[bank, max(0, first) : last + 1] = True
    return mask


def _own_program(image: Image) -> Iterator[Layer | Out]:
    """The records of the program at `run_start`, without its END."""
    for record in decode_all(image.section("PROGRAM").words[image.run_start :]):
        if isinstance(record, End):
            return
        if not isinstance(record, Layer | Out):
            raise TatamiError(
                f"image of '{image.network}': its program is loaded piece by piece, so it cannot run back"
                " to back"
            )
        yield record


def _stream(image: Image, inputs: npt.NDArray[np.int8], layers: int, last: int, slot: int) -> Iterator[Live]:
    """Of every input its planes, and the word at `slot` of PROGRAM. `layers` pass for each input, `last` of
    them until the next one may come.
    """
    held = 0  # layers that the HOLDs so far have taken
    for number, tensor in enumerate(inputs):
        if number:
            yield from _hold((number - 1) * layers + last - held)
            held = max(held, (number - 1) * layers + last)
        yield from image.tensor_sections("input", tensor)
        if number:  # the JUMP of the input before lies in the word until this one's first layer
            yield from _hold(number * layers + 1 - held)
            held = number * layers + 1
        more = number + 1 < len(inputs)
        yield Section("PROGRAM", slot, encode_all([Jump(0) if more else End()]))


def _hold(layers: int) -> Iterator[Hold]:
    if layers > 0:
        yield Hold(layers)
