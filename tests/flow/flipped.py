"""A run that fails, at which several tests look: a bit of a slot is wrong in the machine's memory only."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any

import pytest

from scripts import sim as sim_script
from tb.common import settings
from tb.flow import failure, runner
from tb.flow import replay as replaying
from tb.flow import simulate as simulating
from tb.flow.replay import Replay, replay


@dataclass(frozen=True)
class Flipped:
    """Such a run, kept, and its replay; the run of the replay with the samples; what `make sim` printed."""

    failed: failure.Failure
    replayed: Replay
    sampled: runner.RunResult
    printed: list[str]

    @property
    def result(self) -> dict[str, Any]:
        """Of `make sim`."""
        found: dict[str, Any] = json.loads(self.printed[-1].removeprefix("RESULT "))
        return found


def make_sim(sim: str) -> Flipped:
    """`make sim` of such a run, with the bit from the user's environment."""
    replays: list[Replay] = []
    probed: list[runner.RunResult] = []

    def replay_noted(failed: failure.Failure, progress: Callable[[str], None]) -> Replay:
        replays.append(replay(failed, progress))
        return replays[-1]

    def again_noted(*given: Any) -> runner.RunResult:
        probed.append(again(*given))
        return probed[-1]

    again, said = replaying.again, io.StringIO()
    options = [f"--sim={sim}", "--test=digits", "--config=4x2", "--seed=7", "--images=1"]
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(said):
        patch.setenv(settings.VARIABLE, '{"flip": true}')
        patch.setattr(sys, "argv", ["sim", *options])
        patch.setattr(simulating, "replay", replay_noted)
        patch.setattr(replaying, "again", again_noted)
        assert sim_script.main() == 1
    (replayed,), sampled = replays, probed[0]
    return Flipped(replayed.failure, replayed, sampled, said.getvalue().splitlines())
