"""The states of the sequencer in which the resets of a test have come."""

from __future__ import annotations

from collections.abc import Iterable

from pymodel.machine.faults import ProgramError
from pymodel.machine.model import Machine
from pymodel.machine.runs import ProgramRun
from tb.coverage.observe import STATES
from tb.coverage.sample import StateTimeline
from tb.env.predictor import ResetSeen, Subscriber


class ResetStates(Subscriber):
    """Notes the state of the sequencer, according to the model, in which each reset has come.

    `soft` and `hard` have the states in order.
    """

    def __init__(self) -> None:
        self.timeline: StateTimeline | None = None
        self.soft: list[str] = []
        self.hard: list[str] = []

    def program(self, machine: Machine, start: int, outcome: ProgramRun | ProgramError) -> None:
        self.timeline = StateTimeline.of(machine, start, outcome)

    def waits(self, machine: Machine, start: int, run: ProgramRun) -> None:
        self.timeline = StateTimeline.of(machine, start, run)

    def reset(self, reset: ResetSeen) -> None:
        (self.hard if reset.hard else self.soft).append(self.state(reset))

    def state(self, reset: ResetSeen) -> str:
        if reset.offset is None:
            return "ERROR" if reset.stopped else "IDLE"
        if reset.waiting:
            return "WAIT"
        assert self.timeline is not None
        return self.timeline.at(1 + reset.offset)  # a timeline begins a cycle before its program

    def check(self, inside: Iterable[str] | None = None) -> None:
        """Checks that soft resets have met every state of a program without a WAIT, and resets by the pin one
        that is neither IDLE nor ERROR. `inside` are the states of the machine itself at the soft resets, if
        the simulator shows them.
        """
        missing = [state for state in STATES if state not in self.soft and state != "WAIT"]
        assert not missing, f"no soft reset has landed in {', '.join(missing)}"
        assert set(self.hard) - {"IDLE", "ERROR"}, "no reset by the pin has met a program that runs"
        for number, (seen, state) in enumerate(
            zip(inside, self.soft, strict=True) if inside is not None else ()
        ):
            assert seen == state, f"soft reset {number}: the sequencer was in {seen}, the model in {state}"
