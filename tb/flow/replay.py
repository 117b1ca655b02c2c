"""Runs a failure again with the probe and waves on, and says where the machine first differs from
the model.
"""

from __future__ import annotations

import re
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pymodel.machine.files import write_json
from pymodel.machine.registers import COUNTERS, REGISTERS
from tb.debug.divergence import STAGES, Divergence, first_divergence
from tb.debug.probe import read_samples
from tb.flow import runner
from tb.flow.failure import Failure, shown
from tb.flow.testlist import CHECKED_TOP

DIVERGENCE = "divergence.json"
BEFORE_NS, AFTER_NS = 1000, 200  # of waves around a message of a checker, or before the end of a test
ASSERT_TIME = re.compile(r"^ASSERT .* at (\d+) ns", re.MULTILINE)


WATCHED = "what this checker of tb/checkers watches"
# Where to look for what has no place inside a run, by what the failure says: the first that matches, so those
# first that leave least open.
OUTSIDE = (
    (r"^ASSERT psa_check_axi\w+ m_axis", "psa_out"),
    (r"^ASSERT psa_check_axil", "psa_regs"),
    (r"^ASSERT (?!psa_check_axis s_axis)", WATCHED),
    (
        r"in one cycle: .*ERROR\.CODE is ",
        "the order of errors in psa_core, psa_fetch or psa_slots, or psa_regs",
    ),
    (r"ERROR\.CODE is .*LOAD_", "psa_load, which judges packets"),
    (r"ERROR\.CODE is .*\((PROGRAM|TILE)_", "psa_sequencer, which judges programs"),
    (
        r"ERROR\.CODE is .*\((GROUP_RANGE|TAP_RANGE|FEATURE_READ)",
        "psa_fetch, which judges reads",
    ),
    (r"ERROR\.CODE is .*\(FEATURE_WRITE", "psa_writeback, which judges writes"),
    (r"ERROR\.CODE is .*\(SLOT_", "psa_slots, which judges rows of slots"),
    (rf"read of ({'|'.join(COUNTERS)}) gave", "the counters of psa_regs, or what psa_core has them count"),
    (rf"\b({'|'.join(REGISTERS)})\b.* is \w+, expected|read of \w+ gave", "psa_regs"),
    (
        r"\b(?:\w*cycles|slot_rows|words) is \d+, predicted",
        "the counters of psa_regs, or psa_sequencer, which drives them",
    ),
    (r"a packet (begins|was taken)", "psa_load, or psa_top, which holds packets back"),
    (r"packet|m_axis|out stream", "psa_out"),
    (r"\birq\b|interrupt", "psa_regs"),
    # the test itself drives this stream, and takes a packet back when it fails in the middle of one
    (r"^ASSERT ", WATCHED),
)


def outside(message: str) -> str:
    """The block that a failure is about which is not one of sums and results."""
    return next(
        (place for pattern, place in OUTSIDE if re.search(pattern, message, re.MULTILINE)),
        "the out stream, the registers or the test",
    )


@dataclass(frozen=True)
class Replay:
    """What came of it.

    `passed`: the failure did not come again. `divergence` is None where nothing inside was found to differ.
    """

    failure: Failure
    passed: bool
    message: str
    divergence: Divergence | None
    waves: Path | None

    @property
    def place(self) -> str:
        """The blocks in question."""
        return outside(self.message) if self.divergence is None else STAGES[self.divergence.stage]

    def lines(self) -> list[str]:
        """For people, the divergence first."""
        if self.passed:
            return ["the failure did not come again: the run passes now"]
        lines = []
        if self.divergence is not None:
            lines += [f"first divergence: {self.divergence.line()}"]
        elif self.failure.suspect is not None:
            lines += ["no divergence inside the run: all sums and results are the model's"]
        lines += [f"so look at {self.place}"]
        if self.waves is not None:
            lines.append(f"waves around it: {shown(self.waves)}")
        return lines


def replay(failure: Failure, progress: Callable[[str], None] = runner.no_progress) -> Replay:
    """Looks inside of `failure`, and runs it once more for the waves around what was found there, which are
    added to its folder.
    """
    outcome, divergence = look_inside(failure, progress)
    if outcome.passed:
        return Replay(failure, True, "", None, None)
    centre = (
        divergence.time_ns
        if divergence is not None
        else time_of(outcome.message, outcome.log.parent / "results.xml")
    )
    shown = again(
        failure, runner.Probe(waves=runner.Window(max(0, centre - BEFORE_NS), centre + AFTER_NS)), progress
    )
    waves = None
    if shown.waves is not None:
        waves = failure.folder / f"waves{shown.waves.suffix}"
        shutil.move(shown.waves, waves)
    return Replay(failure, False, outcome.message, divergence, waves)


def look_inside(
    failure: Failure, progress: Callable[[str], None] = runner.no_progress
) -> tuple[runner.RunResult, Divergence | None]:
    """Runs `failure` again, probed: what came of it, and where the machine first differs from the model. That
    is added to the failure's folder.
    """
    suspect = failure.suspect
    samples = runner.Window(suspect.begin, suspect.end) if suspect is not None else None
    outcome = again(failure, runner.Probe(samples=samples), progress)
    if outcome.passed or suspect is None or not probed(failure):
        return outcome, None
    progress("comparing with the model")
    seen = read_samples(outcome.log.parent / runner.PROBE_FILE, failure.config)
    divergence = first_divergence(suspect, seen)
    write_json(failure.folder / DIVERGENCE, None if divergence is None else divergence.to_json())
    return outcome, divergence


def probed(failure: Failure) -> bool:
    """Whether the probe can be built into its top; a block is small enough to keep the waves of all
    its time.
    """
    return (failure.top or failure.test.top) == CHECKED_TOP


def again(failure: Failure, probe: runner.Probe, progress: Callable[[str], None]) -> runner.RunResult:
    f = failure
    kept = {
        "options": f.options,
        "top": f.top,
        "parameters": f.parameters,
        "sources": f.sources,
        "progress": progress,
    }
    extra = {"probe": probe} if probed(f) else {"waves": probe.waves is not None}
    return runner.run(f.test, f.sim, f.config, f.seed, **kept, **extra)  # type: ignore[arg-type]


def time_of(message: str, results: Path) -> int:
    """When a run went wrong that no model was compared with: a checker's message, or the end of the test that
    failed; 0 if nobody knows.
    """
    found = ASSERT_TIME.search(message)
    return int(found.group(1)) if found else end_of_failed_test(results)


def end_of_failed_test(results: Path) -> int:
    """Simulated time at which the first test that failed ended; 0 if nobody knows."""
    try:
        cases = list(ET.parse(results).getroot().iter("testcase"))
    except (OSError, ET.ParseError):
        return 0
    for case in cases:
        stop = next((p.get("value") for p in case.iter("property") if p.get("name") == "sim_time_stop"), None)
        if stop is not None and (case.find("failure") is not None or case.find("error") is not None):
            return round(float(stop))
    return 0
