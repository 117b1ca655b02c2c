"""Errors of a program that breaks a bound, and the rule that decides which of several broken bounds is
reported.
"""

from __future__ import annotations

from typing import NoReturn

from pymodel.machine.errors import ErrorCode, TatamiError
from pymodel.machine.runs import ProgramRun
from pymodel.machine.timing import FOUND_BY_SEQUENCER


class ProgramError(TatamiError):
    """A program broke a bound that the hardware checks.

    `cycle` is the cycle of the run in which the hardware finds it, counted like CYCLES from 0 and without
    stalls. `cycles` is the number of cycles until the machine stands still; that in which a DEADLOCK is found
    is not one of them, but of LOAD_WAIT_CYCLES. `run` has the results of the records before. `own_read` says
    which word the layer reads that it writes itself, if there is one: the error is the same whatever it read.
    """

    def __init__(self, code: ErrorCode, info: int, what: str, cycle: int) -> None:
        super().__init__(f"{code.name} ({int(code)}), info {info}: {what}")
        self.code = code
        self.info = info
        self.cycle = cycle
        self.cycles = cycle + (1 if code in FOUND_BY_SEQUENCER else 2) - (code == ErrorCode.DEADLOCK)
        self.run = ProgramRun()
        self.own_read = ""


class UndefinedReadError(TatamiError):
    """A layer reads a word whose value is not defined (docs/machine.md, "Invariants")."""


class EarlyReadError(UndefinedReadError):
    """A layer reads a word that the layer before it has not written yet, because the gap between them is too
    small.
    """


class OwnReadError(UndefinedReadError):
    """A layer reads a word that it writes itself."""


class LiveUseError(UndefinedReadError):
    """A program uses a word that a live packet may be writing."""


class StarvedError(TatamiError):
    """A WAIT asks for more packets than the live stream has. The machine would wait for ever."""


class EndlessError(TatamiError):
    """A program jumps in a circle without a WAIT. The machine would never come to an end."""


class Faults:
    """Broken bounds. The hardware reports the one that it finds first.

    Cycles count from `begin`, a cycle of the run.
    """

    def __init__(self) -> None:
        self.begin = 0
        self.first: ProgramError | None = None

    def refuse(self, code: ErrorCode, info: int, what: str, cycle: int) -> NoReturn:
        """Raises the error for this bound, which is found broken in `cycle`, or for a bound that was found
        earlier.
        """
        self.note(code, info, what, cycle)
        assert self.first is not None
        raise self.first

    def note(self, code: ErrorCode, info: int, what: str, cycle: int) -> None:
        """Notes a bound that is found broken in `cycle`. Of two in one cycle the higher code wins, as in
        rtl/psa_core.v and rtl/psa_slots.v. If the sequencer finds one of them, it stops for it, whichever of
        them is reported.
        """
        error = ProgramError(code, info, what, self.begin + cycle)
        if self.first is not None and error.cycle == self.first.cycle:
            error.cycles = self.first.cycles = min(error.cycles, self.first.cycles)
        if self.first is None or (error.cycle, -error.code) < (self.first.cycle, -self.first.code):
            self.first = error

    def stop(self, before: int | None = None) -> None:
        """Raises the first error that was found before the cycle `before`, or the first of all if that is
        None. What is issued from that cycle on cannot be found broken earlier.
        """
        if self.first is not None and (before is None or self.first.cycle < self.begin + before):
            raise self.first
