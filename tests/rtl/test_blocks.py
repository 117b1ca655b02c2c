"""Every RTL file on its own, in every size of `tb/flow/blocks.py`, on both simulators; and each with the
bugs of `tb/bugs.yaml` that its test must find.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import cocotb
import pytest

from pymodel.machine.config import CONFIGS, DEFAULT_CONFIG
from tb.common import settings
from tb.common.block import Bench
from tb.common.bugs import Bug, plant
from tb.common.settings import Settings
from tb.flow import hunt
from tb.flow.bench import clock_cycles
from tb.flow.blocks import BLOCKS
from tb.flow.sources import rtl_sources
from tb.flow.testlist import BLOCK_TESTS

SEED = 1
BROKEN = [bug for bug in hunt.known_bugs() if bug.block]


def test_every_rtl_file_has_a_block_test() -> None:
    """Only the tops and the core have none: they are what `tb/psa_top/` and `tb/psa_system/` test."""
    tops = {"psa_top", "psa_core", "psa_system"}
    assert {source.stem for source in rtl_sources()} - tops == {block.top for block in BLOCKS.values()}


@pytest.mark.parametrize("name", BLOCK_TESTS)
def test_block(sim: str, name: str) -> None:
    outcome = hunt.run_block(BLOCK_TESTS[name], sim)
    assert outcome.passed, f"{outcome.message}\nlog: {outcome.log}"
    assert outcome.result["compared"] > 0


@pytest.mark.parametrize("bug", BROKEN, ids=[bug.name for bug in BROKEN])
def test_a_broken_block_is_caught(bug: Bug) -> None:
    """By a value that differs from the model's, in the size that the bug names: not by a build that fails or
    a simulation that hangs.
    """
    verdict = hunt.hunt_by_block(bug, clean_too=False)  # test_block is that
    assert verdict.caught, verdict.seen


def test_every_block_has_been_broken() -> None:
    assert {bug.block for bug in BROKEN} == set(BLOCKS)


def test_a_block_test_that_met_nothing_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither one that compared nothing, nor one that never met a corner that it counts."""
    monkeypatch.setattr(cocotb, "RANDOM_SEED", SEED, raising=False)
    told = Settings(config=CONFIGS[DEFAULT_CONFIG], parameters={}, sim="icarus", result="")
    monkeypatch.setenv(settings.VARIABLE, told.to_json())
    bench = Bench(SimpleNamespace())
    with pytest.raises(AssertionError, match="nothing to count: compared, resets"):
        bench.done(resets=0, words=1)


@pytest.mark.icarus
def test_a_brief_run_ends_with_its_first_failure(tmp_path: Path) -> None:
    """What comes behind it would only tell it again."""
    bug = next(bug for bug in BROKEN if bug.name == "regs_last_source_unheard")
    name = next(iter(hunt.block_tests(bug.block))).name
    cycles = []
    for brief in (False, True):
        sources = plant([bug.edit], rtl_sources(), tmp_path / str(brief))
        outcome = hunt.run_block(BLOCK_TESTS[name], "icarus", sources, brief=brief)
        assert not outcome.passed
        cycles.append(clock_cycles(outcome.log.with_name("results.xml")))
    assert cycles[1] < cycles[0]
