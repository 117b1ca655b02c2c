"""How a program ends that breaks a bound: the errors, and which of several bounds is reported."""

from __future__ import annotations

from typing import NoReturn

from pymodel.machine.errors import ErrorCode, TatamiError
from pymodel.machine.runs import ProgramRun
from pymodel.machine.timing import FOUND_BY_SEQUENCER


class ProgramError(TatamiError):
    """A program broke a bound that the hardware checks.

    `cycle` is the cycle of the run, as CYCLES counts them from 0 and without stalls, in which the hardware
    finds it; `cycles`, how many there are until it stands still; `run` is what the records before did.
    """

    def __init__(self, code: ErrorCode, info: int, what: str, cycle: int) -> None:
        super().__init__(f"{code.name} ({int(code)}), info {info}: {what}")
        self.code = code
        self.info = info
        self.cycle = cycle
        self.cycles = cycle + (1 if code in FOUND_BY_SEQUENCER else 2)
        self.run = ProgramRun()


class EarlyReadError(TatamiError):
    """A layer reads a word that the one before it, which has too small a gap, has yet to write: what it would
    see is not defined.
    """


class Faults:
    """Broken bounds, of which the hardware reports the one that it finds first.

    Cycles count from `begin`, a cycle of the run.
    """

    def __init__(self) -> None:
        self.begin = 0
        self.first: ProgramError | None = None

    def refuse(self, code: ErrorCode, info: int, what: str, cycle: int) -> NoReturn:
        """Raises this bound, found broken in a cycle, or one that was found before."""
        self.note(code, info, what, cycle)
        assert self.first is not None
        raise self.first

    def note(self, code: ErrorCode, info: int, what: str, cycle: int) -> None:
        """A bound that is found broken in a cycle. Of two in one cycle the higher code wins, as in
        rtl/psa_top.v and rtl/psa_slots.v; a sequencer that finds one of them stops for it, whichever is
        reported.
        """
        error = ProgramError(code, info, what, self.begin + cycle)
        if self.first is not None and error.cycle == self.first.cycle:
            error.cycles = self.first.cycles = min(error.cycles, self.first.cycles)
        if self.first is None or (error.cycle, -error.code) < (self.first.cycle, -self.first.code):
            self.first = error

    def stop(self, before: int | None = None) -> None:
        """Raises what was found before a cycle, or at all: nothing that is issued from then on can be found
        earlier.
        """
        if self.first is not None and (before is None or self.first.cycle < self.begin + before):
            raise self.first
