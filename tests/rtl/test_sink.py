"""The sink of the plain harness finds what is wrong on a stream."""

from __future__ import annotations

import pytest

from pymodel.machine.config import CONFIGS
from tb.common.settings import Options
from tb.flow import runner
from tb.flow.testlist import TestSpec

CHECKERS = runner.ROOT / "tb" / "checkers"
SPEC = TestSpec("sink", "tb.plain.test_sink", "", timeout_s=60, top="psa_check_axis", parameters={"WIDTH": 8})


def run(sim: str, test: str) -> runner.RunResult:
    sources = [CHECKERS / f"{name}.v" for name in ("psa_assert", "psa_check_channel", "psa_check_axis")]
    outcome = runner.run(SPEC, sim, CONFIGS["4x2"], 1, sources=sources, options=Options(only=test))
    assert outcome.passed, f"{outcome.message}\nlog: {outcome.log}"
    return outcome


def test_packets(sim: str) -> None:
    assert run(sim, "packets").result["compared"] > 0


def test_a_rise_that_may_not_come(sim: str) -> None:
    assert run(sim, "a_rise_that_may_not_come|packets").result["compared"] > 0


def test_a_word_that_changes(sim: str) -> None:
    run(sim, "a_word_that_changes")


@pytest.mark.icarus
def test_an_unknown_word() -> None:
    """Verilator knows no X."""
    run("icarus", "an_unknown_word")
