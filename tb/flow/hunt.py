"""Hunts the planted bugs of `tb/bugs.yaml`: each in a copy of the RTL, where its hunter has to find it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from pymodel.machine.config import CONFIGS, DEFAULT_CONFIG, get_config
from pymodel.machine.errors import TatamiError
from tb.checkers import mutants
from tb.common.bugs import BLOCK_DIFFERS, BUGS_FILE, COPIES, Bug, load_bugs, plant, refuse
from tb.common.settings import Options
from tb.flow import build, failure, runner, simulators
from tb.flow.blocks import BLOCKS
from tb.flow.farm.worker import Place
from tb.flow.replay import look_inside, outside
from tb.flow.sources import FILE_LIST, checker_sources, rtl_sources
from tb.flow.testlist import BLOCK_TESTS, CHECKED_TOP, TESTS, TestSpec

# All checkers' bugs in one build, chosen in turn by one run.
INSIDE = TestSpec("mutants", "tb.checkers.test_inside", "", timeout_s=300, top=CHECKED_TOP)
ASSERT = re.compile(r"^ASSERT (\w+) (.*) at (\d+) ns$", re.MULTILINE)


@dataclass(frozen=True)
class Verdict:
    """`caught`: the hunter failed and said the right thing.

    `seen` is what it said, or why the bug is not caught.
    """

    bug: Bug
    caught: bool
    seed: int
    seen: str
    log: str = ""

    def files(self) -> list[Path]:
        """Its log."""
        return [Path(self.log)] if self.log else []

    def moved(self, place: Place) -> Verdict:
        """The same of one that was made in another place, with the paths here."""
        return replace(self, seen=place.here(self.seen), log=place.here(self.log))


def known_bugs(path: Path = BUGS_FILE) -> list[Bug]:
    """The bugs of bugs.yaml, each of which fits the RTL and the tests. Raises `TatamiError` with all that do
    not.
    """
    bugs = load_bugs(path)
    refuse(path, [f"bug '{bug.name}': {why}" for bug in bugs for why in misfits(bug)])
    return bugs


def misfits(bug: Bug) -> Iterator[str]:
    """Why a bug cannot be planted or hunted."""
    file = runner.ROOT / bug.file
    if file in rtl_sources():
        try:
            bug.edit.applied(file.read_text())
        except TatamiError as error:
            yield str(error)
    else:
        yield f"{bug.file} is not in {FILE_LIST.relative_to(runner.ROOT)}"
    if bug.test and bug.test not in TESTS:
        yield f"test {bug.test!r} is unknown; valid: {', '.join(TESTS)}"
    if bug.block and bug.block not in BLOCKS:
        yield f"block {bug.block!r} is unknown; valid: {', '.join(BLOCKS)}"
    elif bug.block and bug.size > len(block_tests(bug.block)):
        yield f"size is {bug.size}, must be in 1..{len(block_tests(bug.block))} for block {bug.block!r}"
    checkers = [source.stem for source in checker_sources()]
    if bug.checker and bug.checker not in checkers:
        yield f"checker {bug.checker!r} is unknown; valid: {', '.join(checkers)}"
    if bug.config not in CONFIGS:
        yield f"config {bug.config!r} is unknown; valid: {', '.join(CONFIGS)}"


def simulator(bug: Bug) -> str:
    """Verilator where the entry does not say; for a block Icarus, which has no build to wait for, where it is
    installed.
    """
    return bug.sim or ("icarus" if bug.block and shutil.which("iverilog") else "verilator")


def hunts(bugs: Sequence[Bug]) -> list[list[Bug]]:
    """The bugs in the groups that are hunted at once: those of the checkers in one run for each simulator."""
    inside = [[bug for bug in bugs if bug.checker and simulator(bug) == sim] for sim in simulators.SIMULATORS]
    return [[bug] for bug in bugs if not bug.checker] + [group for group in inside if group]


def hunt(group: Sequence[Bug]) -> list[Verdict]:
    """A verdict on each bug of one group of `hunts`: its hunter fails on the RTL with the bug, says what the
    entry asks for, and passes on the RTL without.
    """
    try:
        if group[0].checker:
            return hunt_inside(group)
        return [(hunt_by_test if bug.test else hunt_by_block)(bug) for bug in group]
    except TatamiError as error:
        return [Verdict(bug, False, 0, str(error)) for bug in group]


# by a system test


def planted(bug: Bug) -> list[Path]:
    """The sources of the bug's test, with the bug. The folder is that of the edit: another process may try a
    changed one.
    """
    sources = build.sources_of(TESTS[bug.test].top) if bug.test else rtl_sources()
    folder = COPIES / f"{bug.name}-{build.digest(repr(bug.edit))[:8]}"
    return plant([bug.edit], sources, folder)


def options(bug: Bug) -> Options:
    return Options() if TESTS[bug.test].images is None else Options(images=1)


def run_test(bug: Bug, seed: int, sources: list[Path] | None) -> runner.RunResult:
    return runner.run(
        TESTS[bug.test],
        simulator(bug),
        get_config(bug.config),
        seed,
        options=options(bug),
        sources=sources,
    )


def first_failure(bug: Bug, sources: list[Path]) -> tuple[int, runner.RunResult]:
    """The bug's test at seeds 1 and up until it fails and says what it must, or to the last; the seed and
    what came of it.
    """
    for seed in range(1, bug.seeds + 1):
        outcome = run_test(bug, seed, sources)
        if not outcome.passed and not unsaid(bug.message, outcome.message):
            break
    return seed, outcome


def unsaid(patterns: Sequence[str], message: str) -> str:
    """The first of the patterns that `message` does not match, if any."""
    return next((pattern for pattern in patterns if not re.search(pattern, message)), "")


def where(bug: Bug, seed: int, outcome: runner.RunResult, sources: list[Path]) -> str:
    """What a look inside the failure names: the place in the machine where the bug has a `divergence`, else
    the block.
    """
    if not bug.divergence:
        return outside(outcome.message)
    kept = failure.keep(
        outcome,
        TESTS[bug.test],
        simulator(bug),
        get_config(bug.config),
        seed,
        options=options(bug),
        sources=sources,
    )
    _, found = look_inside(kept)
    return "no divergence inside" if found is None else found.line()


def hunt_by_test(bug: Bug) -> Verdict:
    """The replay, too, must name the bug: its `divergence`, else its `place`, else the block of its file."""
    sources = planted(bug)
    seed, outcome = first_failure(bug, sources)

    def not_caught(why: str, run: runner.RunResult = outcome) -> Verdict:
        return Verdict(bug, False, seed, why, str(run.log))

    if outcome.passed:
        return not_caught(f"not caught: {bug.test} passes at seeds 1 to {bug.seeds}")
    missing = unsaid(bug.message, outcome.message)
    if missing:
        return not_caught(f"failed, but does not say /{missing}/: {outcome.message}")
    place, asked = where(bug, seed, outcome, sources), bug.divergence or bug.place or Path(bug.file).stem
    if not re.search(asked, place):
        return not_caught(f"the replay does not name /{asked}/: {place}")
    clean = run_test(bug, seed, None)
    if not clean.passed:
        return not_caught(f"fails without the bug, too: {clean.message}", clean)
    said = re.search(bug.message[0], outcome.message)
    assert said
    seen = place if bug.divergence else f"{said.group().splitlines()[-1]}: {place}"
    return Verdict(bug, True, seed, seen, str(outcome.log))


# by a block test


def run_block(
    test: TestSpec, sim: str, sources: list[Path] | None = None, *, brief: bool = False
) -> runner.RunResult:
    """A block test. With `brief`, what comes behind its first cocotb test that fails does not run."""
    config, options = CONFIGS[DEFAULT_CONFIG], Options(brief=brief)
    return runner.run(test, sim, config, 1, sources=sources, options=options, optimise=simulators.OPT_ONCE)


@cache
def without_bugs(name: str, sim: str) -> runner.RunResult:
    """Of a block test. Kept: many bugs share it."""
    return run_block(BLOCK_TESTS[name], sim)


def block_tests(block: str) -> list[TestSpec]:
    """Of the sizes of a block, in order."""
    return [test for test in BLOCK_TESTS.values() if test.top == BLOCKS[block].top]


def hunt_by_block(bug: Bug, *, clean_too: bool = True) -> Verdict:
    """In the bug's size of the block, by a value that is not the model's. `clean_too`: without the bug the
    test must pass, which tests/rtl/test_blocks.py sees for itself.
    """
    sim, sources = simulator(bug), planted(bug)
    test = block_tests(bug.block)[bug.size - 1]
    patterns = bug.message or (BLOCK_DIFFERS,)
    outcome = run_block(test, sim, sources, brief=True)
    missing = unsaid(patterns, outcome.message)
    if missing:  # a later test may say it
        outcome = run_block(test, sim, sources)
        missing = unsaid(patterns, outcome.message)
    if outcome.passed or missing:
        why = f"{test.name} does not say /{missing or patterns[0]}/: {outcome.message or 'passes'}"
        return Verdict(bug, False, 1, why, str(outcome.log))
    clean = without_bugs(test.name, sim) if clean_too else None
    if clean is not None and not clean.passed:
        return Verdict(bug, False, 1, f"fails without the bug, too: {clean.message}", str(clean.log))
    found = re.search(patterns[0], outcome.message)
    assert found
    return Verdict(bug, True, 1, f"{test.name}: {found.group()}", str(outcome.log))


# by the checkers


def asserted(log: str, case: dict[str, Any]) -> set[tuple[str, str]]:
    """Checker and message of each ASSERT line in the time of one case of `INSIDE`."""
    return {
        (checker, what)
        for checker, what, time in ASSERT.findall(log)
        if case["begin"] <= int(time) <= case["end"]
    }


def run_inside(sim: str, bugs: Sequence[Bug] = ()) -> runner.RunResult:
    """`INSIDE` with all bugs in one build: `bugs` as they are given, the others as in the registry. If there
    are `bugs`, it has their cases alone, and the one without a bug.
    """
    sources = rtl_sources() + checker_sources()
    changed = [bug for bug in bugs if bug not in mutants.BUGS]
    folder = COPIES / f"checkers-{build.digest([repr(bug.edit) for bug in changed])[:8]}"
    mutated = mutants.mutate(sources, folder, changed)
    cases = (mutants.SOUND.name, *(bug.name for bug in bugs)) if bugs else ()
    return runner.run(INSIDE, sim, mutants.CONFIG, 1, sources=mutated, options=Options(cases=cases))


def hunt_inside(bugs: Sequence[Bug]) -> list[Verdict]:
    """One run for all of `bugs`; the machine without a bug must say nothing."""
    outcome = run_inside(simulator(bugs[0]), bugs)
    log = outcome.log.read_text()
    cases = {case["case"]: case for case in outcome.result.get("cases", ())}
    if mutants.SOUND.name not in cases:
        return [Verdict(bug, False, 1, outcome.message, str(outcome.log)) for bug in bugs]
    clean = asserted(log, cases[mutants.SOUND.name])
    verdicts = []
    for bug in bugs:
        seen = asserted(log, cases[bug.name])
        missing = [what for what in bug.message if (bug.checker, what) not in seen]
        if clean:
            why = f"says something without the bug, too: {sorted(clean)}"
        elif missing:
            why = f"{bug.checker} does not say '{missing[0]}', but {sorted(seen)}"
        else:
            why = f"ASSERT {bug.checker} {bug.message[0]}"
        verdicts.append(Verdict(bug, not clean and not missing, 1, why, str(outcome.log)))
    return verdicts
