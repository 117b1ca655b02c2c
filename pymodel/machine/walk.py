"""A program in the order in which the machine runs it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice

from pymodel.machine.errors import TatamiError
from pymodel.machine.image import Image
from pymodel.machine.memory import Section, Words
from pymodel.machine.program import End, Jump, Legal, Unknown, Wait, decode


def records_of(
    image: Image, program: Words, load: Callable[[Sequence[Section]], object]
) -> Iterator[tuple[int, Legal]]:
    """The records of the program at `run_start` with their words of PROGRAM, END included. `program`: all of
    PROGRAM, into which `load` writes what a WAIT has brought, among other memories.

    Raises `TatamiError` for a program that the machine would not finish: an unknown opcode, a WAIT for more
    packets than its stream has, a JUMP to which it comes back without a WAIT, no END.
    """
    live = (item for item in image.run_stream if isinstance(item, Section))
    jumped: set[int] = set()  # from these words, since the last WAIT
    pc = image.run_start
    while pc < image.config.program_depth:
        record = decode(program[pc, 0])
        where = f"image of '{image.network}': program word {pc}"
        if isinstance(record, Unknown):
            raise TatamiError(f"{where} has opcode {record.opcode}, must be 1..5")
        if isinstance(record, Wait):
            came = list(islice(live, record.packets))
            if len(came) < record.packets:
                raise TatamiError(f"{where} waits for {record.packets} packets, {len(came)} are left")
            load(came)
            jumped.clear()
        if isinstance(record, Jump):
            if pc in jumped:
                raise TatamiError(f"{where} is a JUMP to which the program comes back without a WAIT")
            jumped.add(pc)
        yield pc, record
        if isinstance(record, End):
            return
        pc = record.target if isinstance(record, Jump) else pc + 1
    raise TatamiError(f"image of '{image.network}': the program has no END")
