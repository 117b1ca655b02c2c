"""The checkers of tb/checkers/: each assertion is made to fire, by illegal traffic or by a fault put into a
copy of the RTL.
"""

from __future__ import annotations

import re

from pymodel.machine.config import CONFIGS
from tb.checkers.mutants import NEVER
from tb.common.settings import Options
from tb.flow import hunt, runner
from tb.flow.testlist import TestSpec

INTERFACES = runner.ROOT / "tb" / "checkers"


def hold_against_cases(outcome: runner.RunResult, prefix: str = "") -> set[str]:
    """Every case has provoked its messages and nothing else where `prefix` says so; the run has failed, by
    its ASSERT lines alone.

    Returns the messages.
    """
    log = outcome.log.read_text()
    torn = re.findall(r"^(?!ASSERT )\S.* at \d+ ns$", log, re.MULTILINE)
    assert not torn, f"Python's lines have come into those of the simulator: {torn}"
    cases = outcome.result["cases"]
    missing = {}
    for case in cases:
        seen = {what.removeprefix(prefix) for _, what in hunt.asserted(log, case)}
        if not case["provokes"]:
            assert not seen, f"{case['case']}: {seen}"
        elif set(case["provokes"]) - seen:
            missing[case["case"]] = (set(case["provokes"]) - seen, seen)
    assert not missing, "\n".join(
        f"{name}: not provoked: {want}; seen: {seen}" for name, (want, seen) in missing.items()
    )
    assert not outcome.passed
    assert all(line.startswith("ASSERT ") for line in outcome.message.splitlines()), outcome.message
    return {what for case in cases for what in case["provokes"]}


def run_checker(sim: str, checker: str, test: str, parameters: dict[str, int]) -> runner.RunResult:
    """The test of one interface checker, with the checker as the design under test."""
    spec = TestSpec(
        checker, "tb.checkers.test_interfaces", "", timeout_s=60, top=checker, parameters=parameters
    )
    sources = [INTERFACES / f"{name}.v" for name in ("psa_assert", "psa_check_channel", checker)]
    return runner.run(spec, sim, CONFIGS["4x2"], 1, sources=sources, options=Options(only=test))


def test_every_rule_of_a_stream(sim: str) -> None:
    outcome = run_checker(sim, "psa_check_axis", "stream", {"WIDTH": 8, "FRAMED": 1})
    provoked = hold_against_cases(outcome, "axis: ")
    if sim == "icarus":  # Verilator knows no X
        assert provoked == set(messages("psa_check_channel", "psa_check_axis"))


def test_every_rule_of_axi_lite(sim: str) -> None:
    outcome = run_checker(sim, "psa_check_axil", "lite", {})
    provoked = hold_against_cases(outcome)
    if sim == "icarus":
        channels = {
            f"{name}: {rule}"
            for name in ("AW", "W", "B", "AR", "R")
            for rule in messages("psa_check_channel")
        }
        # by the host, which rst does not reset
        requests = {f"{name}: valid in the cycle after reset" for name in ("AW", "W", "AR")}
        assert provoked == channels - requests | set(messages("psa_check_axil"))


def test_every_rule_of_axi4(sim: str) -> None:
    outcome = run_checker(sim, "psa_check_axi", "bursts", {"WIDTH": 64})
    provoked = hold_against_cases(outcome)
    if sim == "icarus":
        channels = {
            f"{name}: {rule}"
            for name in ("AW", "W", "B", "AR", "R")
            for rule in messages("psa_check_channel")
        }
        assert provoked == channels | set(messages("psa_check_axi"))


def test_every_assertion_of_the_inside(sim: str) -> None:
    """One build with every mutant, one run that chooses them in turn."""
    provoked = hold_against_cases(hunt.run_inside(sim))
    bounds = [
        f"{name} is out of range" for name in messages("psa_check_memories", pattern=r'\.NAME\("([^"]+)"\)')
    ]
    memories = messages("psa_check_memories", pattern=r'\.MEMORY\("([^"]+)"\)')
    checkers = (
        "psa_check_reads",
        "psa_check_slots",
        "psa_check_tokens",
        "psa_check_credits",
        "psa_check_writes",
    )
    inside = {*bounds, *(NEVER.format(memory) for memory in memories), *messages(*checkers)}
    if sim == "icarus":
        inside |= set(messages("psa_checked"))
    assert inside <= provoked, f"no mutant provokes: {inside - provoked}"


def messages(*modules: str, pattern: str = r'\.WHAT\((?:\{NAME, ": )?"?([^"]+)"') -> list[str]:
    """What the assertions of some checkers say, read from their sources; a stream's or channel's name, which
    comes before, left out.
    """
    found = [
        what for module in modules for what in re.findall(pattern, (INTERFACES / f"{module}.v").read_text())
    ]
    assert found, modules
    return found
