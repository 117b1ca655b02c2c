"""Connects coverage to the pyuvm environment: programs come from the scoreboard's prediction, everything else
from the pins.
"""

from __future__ import annotations

from typing import Any

from pymodel.machine.faults import ProgramError
from pymodel.machine.model import Machine
from pymodel.machine.runs import ProgramRun
from tb.coverage import collect
from tb.coverage.sample import follow_program, sample_program
from tb.coverage.watch import watch
from tb.env.predictor import Subscriber


class CoverageSampler(Subscriber):
    """Samples every program that the scoreboard predicts."""

    def program(self, machine: Machine, start: int, outcome: ProgramRun | ProgramError) -> None:
        sample_program(machine, start, outcome)

    def waits(self, machine: Machine, start: int, run: ProgramRun) -> None:
        follow_program(machine, start, run)


def attach(dut: Any, period_ns: int, subscribers: list[Subscriber]) -> None:
    """Collects coverage in an environment, if it is on. Call it once for each test, before the clock runs."""
    if collect.enabled():
        watch(dut, period_ns, programs_follow=True)
        subscribers.append(CoverageSampler())
