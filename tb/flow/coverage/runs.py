"""Runs the tests of `tb/coverage/runs.yaml` with coverage on."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable
from concurrent.futures import BrokenExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

from pydantic import Field

from pymodel.machine.config import PARAMETERS, ArrayConfig, get_config
from pymodel.machine.errors import TatamiError
from pymodel.machine.files import Fields, checked_lines, checked_list, read_text, read_yaml, write_text
from tb.common.settings import Options
from tb.flow import build, runner
from tb.flow.farm.crew import Crew, FarmError, ended
from tb.flow.farm.worker import Place
from tb.flow.sources import texts
from tb.flow.testlist import get_test

FILE = runner.ROOT / "tb" / "coverage" / "runs.yaml"
DESIGN = "psa_top"
REPORT, RAN = "coverage", "ran.jsonl"  # a folder below build/, and its file of the runs that there are


class Entry(Fields):
    """An entry of runs.yaml, whose head says what the fields mean."""

    test: str
    configs: tuple[str, ...] = Field(min_length=1)
    seeds: int = Field(ge=1, le=10_000)
    options: Options = Options()
    change: dict[str, int] = Field(default_factory=dict)


@dataclass(frozen=True)
class CoverageRun:
    """A run to make, in the configuration named or one that differs from it. `options` go to the test."""

    test: str
    config: ArrayConfig
    seed: int
    options: Options = field(default_factory=Options)
    changed: bool = False

    def __str__(self) -> str:
        return f"{self.test} {self.config.name}{' changed' if self.changed else ''} seed {self.seed}"


@dataclass(frozen=True)
class Done:
    """A run that passed, its folder, and how long it took."""

    run: CoverageRun
    folder: Path
    wall_s: float


class RanLine(Fields):
    """A line of ran.jsonl: a run, its folder below build/, and a digest of the RTL that it ran on."""

    run: str
    folder: str
    wall_s: float = Field(ge=0)
    rtl: str


def write_ran(done: Iterable[Done]) -> None:
    """Notes which runs there are below build/, for `read_ran` elsewhere."""
    here, rtl = runner.BUILD.resolve(), rtl_digest()
    lines = [
        RanLine(run=str(one.run), folder=str(folder.relative_to(here)), wall_s=one.wall_s, rtl=rtl)
        for one in done
        if (folder := one.folder.resolve()).is_relative_to(here)
    ]
    path = runner.BUILD / REPORT / RAN
    write_text(path, "".join(line.model_dump_json() + "\n" for line in lines))


def read_ran(built: Path) -> list[Done]:
    """The runs of the `make coverage` whose build/ it is. Raises `TatamiError` if there are none, if they are
    of other RTL, or if a file of them is not there.
    """
    path = built / REPORT / RAN
    if not path.is_file():
        raise TatamiError(f"MERGE '{built}': has no {REPORT}/{RAN}; `make coverage` writes it to its build/")
    known, rtl, found = {str(job): job for job in load()}, rtl_digest(), []
    for number, line in enumerate(checked_lines(RanLine, path), 1):
        folder = (built / line.folder).resolve()
        where = f"{path}, line {number}: field"
        if line.rtl != rtl:
            raise TatamiError(f"{where} 'rtl' is {line.rtl}: that RTL is not the one here, {rtl}")
        if line.run not in known:
            raise TatamiError(f"{where} 'run' is '{line.run}', which {FILE.name} does not have")
        if not (folder.is_relative_to(built.resolve()) and folder.is_dir()):
            raise TatamiError(f"{where} 'folder' is '{line.folder}': there is no such folder in {built}")
        found.append(Done(known[line.run], folder, line.wall_s))
    return found


def rtl_digest() -> str:
    return build.digest(texts())


def load(path: Path = FILE, chosen: str = "*") -> list[CoverageRun]:
    """The jobs of the file whose name, like "random 4x2 seed 1", matches one of the globs in `chosen`, which
    has commas between them or is the path of a file with one on each line.

    Raises `TatamiError` for an entry that names no test or configuration, and for a glob that matches none.
    """
    jobs = []
    for number, entry in enumerate(checked_list(Entry, read_yaml(path), path), 1):
        try:
            get_test(entry.test)
            configs = [changed(get_config(name), entry.change) for name in entry.configs]
        except TatamiError as error:
            raise TatamiError(f"{path}, entry {number}: {error}") from None
        jobs += [
            CoverageRun(entry.test, config, seed, entry.options, bool(entry.change))
            for seed in range(1, entry.seeds + 1)
            for config in configs
        ]
    if not jobs:
        raise TatamiError(f"{path}: holds no runs")
    names = [str(job) for job in jobs]
    for name in names:
        if names.count(name) > 1:
            raise TatamiError(f"{path}: two runs have the name '{name}'")
    kept = set[str]()
    for pattern in patterns(chosen):
        matching = fnmatch.filter(names, pattern)
        if not matching:
            raise TatamiError(f"RUNS '{pattern}' matches none of {path.name}, like '{jobs[0]}'")
        kept.update(matching)
    return [job for job in jobs if str(job) in kept]


def patterns(chosen: str) -> list[str]:
    """The globs of RUNS. Raises `TatamiError` for a file without any."""
    if not Path(chosen).is_file():
        return [part.strip() for part in chosen.split(",")]
    found = [line.strip() for line in read_text(Path(chosen)).splitlines() if line.strip()]
    if not found:
        raise TatamiError(f"RUNS '{chosen}': the file names no run")
    return found


def changed(config: ArrayConfig, change: dict[str, int]) -> ArrayConfig:
    """With other values in some fields. Raises `TatamiError` for a field that it does not have."""
    for name in change:
        if name not in PARAMETERS:
            raise TatamiError(f"change: field '{name}' is unknown; valid: {', '.join(PARAMETERS)}")
    return replace(config, **change)  # type: ignore[arg-type]  # none of them is the name


@dataclass(frozen=True)
class Ran:
    """What came of a run: its folder, seconds, and the message of a failure."""

    folder: Path
    wall_s: float
    message: str

    def files(self) -> list[Path]:
        """What it has covered, and its log."""
        return [self.folder]

    def moved(self, place: Place) -> Ran:
        """The same of one that was made in another place, with the paths here."""
        return Ran(Path(place.here(str(self.folder))), self.wall_s, place.here(self.message))


def run_all(
    jobs: list[CoverageRun], crew: Crew, progress: Callable[[str], None]
) -> tuple[list[Done], list[str]]:
    """Has the crew run all jobs; returns those that passed, in the order of `jobs`, and a message for each
    that failed. If the farm is lost, that is one message.

    What a failed run has covered does not count.
    """
    done: dict[CoverageRun, Done] = {}
    failed = []
    waiting = {crew.submit(_run, job): job for job in jobs}
    for number, call in enumerate(ended(waiting), 1):
        job = waiting[call]
        try:
            ran: Ran = call.result()
        except BrokenExecutor as why:
            failed.append(f"{job}: it was given up: {why}")
        except FarmError as why:
            failed.append(f"{len(jobs) - len(done) - len(failed)} runs: {why}")
            break
        else:
            if ran.message:
                failed.append(f"{job}: {ran.message}")
            else:
                done[job] = Done(job, ran.folder, ran.wall_s)
        progress(f"{number} of {len(jobs)} runs: {job}")
    return [done[job] for job in jobs if job in done], failed


def _run(job: CoverageRun) -> Ran:
    options = job.options | Options(coverage=True)
    test = get_test(job.test)
    # the machine without its checkers: only the design is measured
    top = test.top if test.parameters else DESIGN
    outcome = runner.run(test, "verilator", job.config, job.seed, options=options, top=top, coverage=True)
    message = "" if outcome.passed else f"{outcome.message}\nlog: {outcome.log}"
    return Ran(outcome.log.parent, outcome.wall_s, message)
