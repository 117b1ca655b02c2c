"""RTL bugs that the tests must catch: the list in `bugs.yaml`, and how one is put into a copy of the RTL and
looked for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from pymodel.machine.config import get_config
from pymodel.machine.errors import TatamiError
from tb.common.settings import Options
from tb.flow import failure, runner
from tb.flow.replay import outside, replay
from tb.flow.testlist import CHECKED_TOP, get_test

BUGS_FILE = runner.ROOT / "tb" / "bugs.yaml"
COPIES = runner.BUILD / "bugs"


@dataclass(frozen=True)
class Bug:
    """One row of bugs.yaml; its head says what the fields mean."""

    name: str
    what: str
    file: str
    old: str
    new: str
    test: str
    message: str
    config: str = "4x2"
    sim: str = "verilator"
    seeds: int = 1
    divergence: str = ""


@dataclass(frozen=True)
class Verdict:
    """`caught`: the test failed and said the right thing.

    `seen` is what it said, or why the bug is not caught.
    """

    bug: Bug
    caught: bool
    seed: int
    seen: str
    log: str
    wall_s: float


def load_bugs(path: Path = BUGS_FILE) -> list[Bug]:
    """The rows of bugs.yaml. Raises `TatamiError` naming the row and the field that is wrong."""
    try:
        rows = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise TatamiError(f"{path}: {' '.join(str(error).split())}") from None
    if not isinstance(rows, list) or not rows:
        raise TatamiError(f"{path}: holds no list of bugs")
    bugs = [parse_bug(path, row) for row in rows]
    twice = {bug.name for bug in bugs if sum(b.name == bug.name for b in bugs) > 1}
    if twice:
        raise TatamiError(f"{path}: named twice: {', '.join(sorted(twice))}")
    return bugs


def parse_bug(path: Path, row: Mapping[str, Any]) -> Bug:
    where = f"{path}: bug '{row.get('name')}'"
    known = {f.name: f for f in fields(Bug)}
    for name in row:
        if name not in known:
            raise TatamiError(f"{where}: field '{name}' is unknown; valid: {', '.join(known)}")
    try:
        bug = Bug(**row)
        re.compile(bug.message), re.compile(bug.divergence)
    except (TypeError, re.error) as error:
        raise TatamiError(f"{where}: {error}") from None
    if "\n" in bug.old + bug.new:
        raise TatamiError(f"{where}: more than one line")
    get_test(bug.test), get_config(bug.config)
    planted(bug)
    return bug


def planted(bug: Bug) -> str:
    """The bug's file with the bug in it. Raises `TatamiError` unless its old text is there exactly once."""
    file = runner.ROOT / bug.file
    if file not in runner.rtl_sources():
        raise TatamiError(
            f"bug '{bug.name}': {bug.file} is not in {runner.FILE_LIST.relative_to(runner.ROOT)}"
        )
    text = file.read_text()
    if text.count(bug.old) != 1:
        raise TatamiError(
            f"bug '{bug.name}': its old text occurs {text.count(bug.old)} times in {bug.file}: {bug.old}"
        )
    return text.replace(bug.old, bug.new)


def copy_rtl(bug: Bug) -> list[Path]:
    """All RTL files copied to a folder of the bug's own, with the bug in them; then what else the test's top
    needs.
    """
    folder = COPIES / bug.name
    folder.mkdir(parents=True, exist_ok=True)
    copies = []
    for source in runner.rtl_sources():
        text = planted(bug) if source == runner.ROOT / bug.file else source.read_text()
        copies.append(folder / source.name)
        copies[-1].write_text(text)
    return copies + (runner.checker_sources() if get_test(bug.test).top == CHECKED_TOP else [])


def options(bug: Bug) -> Options:
    return Options() if get_test(bug.test).images is None else Options(images=1)


def run_test(bug: Bug, seed: int, sources: list[Path] | None) -> runner.RunResult:
    return runner.run(
        get_test(bug.test), bug.sim, get_config(bug.config), seed, options=options(bug), sources=sources
    )


def where(bug: Bug, seed: int, outcome: runner.RunResult, sources: list[Path]) -> str:
    """What a replay of the failure names: the place inside the machine where the bug has a `divergence`, else
    the block.
    """
    if not bug.divergence:
        return outside(outcome.message)
    kept = failure.keep(
        outcome,
        get_test(bug.test),
        bug.sim,
        get_config(bug.config),
        seed,
        options=options(bug),
        sources=sources,
    )
    found = replay(kept).divergence
    return "no divergence inside" if found is None else found.line()


def hunt(bug: Bug) -> Verdict:
    """Runs the bug's test on the RTL with the bug, seed after seed until it fails; then on the RTL without,
    where it must pass.

    What the failure says must be what the bug's row asks for; its replay must name the bug's `divergence`, or
    else the block of the bug's file.
    """
    try:
        sources = copy_rtl(bug)
        for seed in range(1, bug.seeds + 1):
            outcome = run_test(bug, seed, sources)
            if not outcome.passed:
                break
        else:
            return Verdict(
                bug,
                False,
                seed,
                f"not caught: {bug.test} passes at seeds 1 to {bug.seeds}",
                str(outcome.log),
                outcome.wall_s,
            )
        said = re.search(bug.message, outcome.message)
        if not said:
            return Verdict(
                bug,
                False,
                seed,
                f"failed, but does not say /{bug.message}/: {outcome.message}",
                str(outcome.log),
                outcome.wall_s,
            )
        place, asked = where(bug, seed, outcome, sources), bug.divergence or Path(bug.file).stem
        if not re.search(asked, place):
            return Verdict(
                bug,
                False,
                seed,
                f"the replay does not name /{asked}/: {place}",
                str(outcome.log),
                outcome.wall_s,
            )
        clean = run_test(bug, seed, None)
    except TatamiError as error:
        return Verdict(bug, False, 0, str(error), "", 0.0)
    if not clean.passed:
        return Verdict(
            bug, False, seed, f"fails without the bug, too: {clean.message}", str(clean.log), clean.wall_s
        )
    seen = place if bug.divergence else f"{said.group().splitlines()[-1]}: {place}"
    return Verdict(bug, True, seed, seen, str(outcome.log), outcome.wall_s)
