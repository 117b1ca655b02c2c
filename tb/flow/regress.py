"""A regression: many seeds of many tests, in parallel, each run recorded, failures gathered by what went
wrong.

A regression over N seeds runs each test in the share of them that its entry in `tb/flow/testlist.py` says;
configurations take turns from seed to seed. Every run is one that `make sim` can repeat alone.
"""

from __future__ import annotations

import errno
import fcntl
import fnmatch
import json
import math
import os
import platform
import re
import traceback
import xml.etree.ElementTree as ET
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Self, TextIO

from pydantic import Field

from pymodel.machine.config import ArrayConfig
from pymodel.machine.errors import TatamiError
from pymodel.machine.files import Fields, checked, checked_lines, read_json, write_json
from tb.common.settings import Options
from tb.flow import build, failure, provenance, runner, simulators
from tb.flow.farm.crew import Call, Crew, ended
from tb.flow.farm.worker import Place
from tb.flow.processes import processes
from tb.flow.replay import replay
from tb.flow.testlist import TestSpec

RECORDS = runner.BUILD / "regress"
FOLDER_TIME = "%Y%m%d-%H%M%S-%f"  # names of folders, in UTC
RUNS, JUNIT, SUMMARY, PLAN = "runs.jsonl", "junit.xml", "summary.json", "plan.json"
COMPARED = ("compared_bytes", "compared", "answers")  # in a test's report
SIGNATURE_LINES, SIGNATURE_CHARS = 2, 200
ROOM = 2**20  # bytes; with less, what fails may fail for want of them
FULL = (errno.ENOSPC, errno.EDQUOT)


class DiskFullError(TatamiError):
    """There is no room for what a run, or its record, leaves."""


@dataclass(frozen=True)
class PlannedRun:
    """One run to do."""

    test: TestSpec
    sim: str
    config: ArrayConfig
    seed: int

    @property
    def key(self) -> tuple[str, str, str, int]:
        """Which run it is, as `RunRecord.key`."""
        return (self.test.name, self.sim, self.config.name, self.seed)

    @property
    def replay(self) -> str:
        """The command that repeats it alone."""
        return f"make sim TEST={self.test.name} SIM={self.sim} CONFIG={self.config.name} SEED={self.seed}"

    @property
    def design(self) -> Design:
        """What has to be built for it."""
        parameters = self.config.rtl_parameters() if self.test.parameters is None else self.test.parameters
        return Design(self.sim, self.test.top, tuple(sorted(parameters.items())))


@dataclass(frozen=True)
class Design:
    """One build, shared by all its runs."""

    sim: str
    top: str
    parameters: tuple[tuple[str, int], ...]


class RunRecord(Fields):
    """What came of one run. `signature` is empty for a pass, `failure` too: the folder that is kept of a
    simulation that failed (`tb/flow/failure.py`). `host` did it. `lost`: how it ended where it was tried
    before.
    """

    test: str
    sim: simulators.Simulator
    config: str
    seed: int = Field(ge=0)
    result: Literal["pass", "fail"]
    wall_s: float = Field(ge=0)
    cycles: int | None
    compared_bytes: int = Field(ge=0)
    signature: str
    message: str
    log: str
    replay: str
    failure: str
    measured: dict[str, Any]
    host: str = ""  # lines of earlier versions have none
    lost: list[str] = Field(default_factory=list)

    @property
    def key(self) -> tuple[str, str, str, int]:
        """Which run it is."""
        return (self.test, self.sim, self.config, self.seed)

    def files(self) -> list[Path]:
        """Log and failure folder."""
        return [Path(self.log), *([runner.ROOT / self.failure] if self.failure else [])]

    def moved(self, place: Place) -> Self:
        """The record of a run in another place, whose files are here now."""
        kept = self.failure
        if kept:
            kept = failure.shown(Path(place.here(str(place.root / kept))))
        return self.model_copy(
            update={
                "message": place.here(self.message),
                "log": place.here(self.log),
                "failure": kept,
                "replay": self.replay.replace(self.failure, kept) if kept else self.replay,
            }
        )

    @property
    def passed(self) -> bool:
        return self.result == "pass"

    @property
    def hangs(self) -> bool:
        """Whether the time limit of its test ended it."""
        return runner.OVERDUE in self.message


class RecordLine(RunRecord):
    """A line of runs.jsonl: a record, and what it came from."""

    git: str | None
    tools: dict[str, str]
    branch: str | None = None  # lines of earlier versions have none


@dataclass(frozen=True)
class Bucket:
    """Failures that look alike, and the quickest of them."""

    signature: str
    count: int
    tests: tuple[str, ...]
    example: RunRecord


def plan(
    tests: Iterable[TestSpec], sim: str, configs: Sequence[ArrayConfig], seeds: range
) -> list[PlannedRun]:
    """The runs of a regression, those first that tend to be long: a test with a small share of the seeds is
    one that takes its time.
    """
    jobs = []
    for test in sorted(tests, key=lambda t: t.share(sim)):
        count = math.ceil(test.share(sim) * len(seeds))
        # a block has sizes of its own: the configuration says nothing, and the first stands for all
        turns = list(configs) if test.parameters is None else list(configs[:1])
        # Tests with few seeds begin with different configurations; on Icarus, where a large array takes
        # minutes, with the smallest.
        begin = zlib.crc32(test.name.encode())
        if sim == "icarus":
            begin, turns = 0, sorted(turns, key=lambda c: c.size * c.size * c.group)
        jobs += [
            PlannedRun(test, sim, turns[(begin + index) % len(turns)], seed)
            for index, seed in enumerate(seeds[:count])
        ]
    return jobs


def choose(tests: Mapping[str, TestSpec], pattern: str, sim: str) -> list[TestSpec]:
    """The tests for regressions whose name matches a glob, or one of several with commas between.

    Raises `TatamiError` if there is none.
    """
    able = {name: test for name, test in tests.items() if test.share(sim)}
    chosen = {
        name: test
        for part in pattern.split(",")
        for name, test in able.items()
        if fnmatch.fnmatchcase(name, part.strip())
    }
    if not chosen:
        raise TatamiError(f"TESTS '{pattern}' matches no test for regressions; there are: {', '.join(able)}")
    return list(chosen.values())


def compared(result: Mapping[str, Any]) -> int:
    """Values that a test held against the model: bytes of planes, outputs of a block, or register answers
    where a test sends no planes.
    """
    return int(next((result[name] for name in COMPARED if result.get(name)), 0))


def record(job: PlannedRun, outcome: runner.RunResult, folder: str = "") -> RunRecord:
    """A run that passed but compared nothing has failed. `folder` is what was kept of one that failed."""
    message = outcome.message or ("" if compared(outcome.result) else "nothing was compared")
    return RunRecord(
        test=job.test.name,
        sim=job.sim,
        config=job.config.name,
        seed=job.seed,
        result="fail" if message else "pass",
        wall_s=outcome.wall_s,
        cycles=outcome.result.get("cycles", outcome.result.get("block_cycles")),
        compared_bytes=compared(outcome.result),
        signature=signature(message),
        message=message,
        log=str(outcome.log),
        replay=f"make replay FAILURE={folder}" if folder else job.replay,
        failure=folder,
        measured=outcome.result,
        host=platform.node(),
    )


def broken(job: PlannedRun, message: str) -> RunRecord:
    """A run that did not come about."""
    return record(
        job, runner.RunResult(passed=False, message=message, log=Path(), result={}, wall_s=0.0, waves=None)
    )


FRAME = re.compile(r'File "|Traceback |\^+$')  # how Python shows the way to an exception
NORMALISE = (
    (re.compile(r"(?:/[\w.+-]+){2,}/?"), "<path>"),
    (re.compile(r"\b0x[0-9a-fA-F]+"), "N"),
    (re.compile(r"\b[01XZxz]{4,}\b"), "N"),
    (re.compile(r"(?:(?<!\w)-)?\d+(?:\.\d+)?(?:e[+-]?\d+)?"), "N"),
    (re.compile(r"N(?:[ ,]+N)+"), "N"),
)


def signature(message: str) -> str:
    """What failures of one cause share: the first lines of the message without numbers and paths."""
    lines = [line.strip() for line in message.splitlines()]
    text = " | ".join([line for line in lines if line and not FRAME.match(line)][:SIGNATURE_LINES])
    for pattern, name in NORMALISE:
        text = pattern.sub(name, text)
    return text[:SIGNATURE_CHARS]


def buckets(records: Iterable[RunRecord]) -> list[Bucket]:
    """The failures by signature, the most frequent first."""
    alike: dict[str, list[RunRecord]] = {}
    for item in records:
        if not item.passed:
            alike.setdefault(item.signature, []).append(item)
    found = [
        Bucket(s, len(r), tuple(dict.fromkeys(i.test for i in r)), min(r, key=lambda i: i.wall_s))
        for s, r in alike.items()
    ]
    return sorted(found, key=lambda b: -b.count)


def build_design(design: Design) -> str:
    """Builds; gives the reason if that fails. Runs in a process of the pool."""
    try:
        build.build(design.sim, dict(design.parameters), top=design.top)
    except TatamiError as error:
        _need_room()
        return str(error)
    return ""


def run_job(job: PlannedRun) -> RunRecord:
    """Does one run, and keeps what it takes to see it again if it fails.

    In a process of the pool: the runner changes the environment. Raises `DiskFullError` instead of a failure
    that may come of that.
    """
    options = Options(images=job.test.default_images(job.sim))
    try:
        outcome = runner.run(job.test, job.sim, job.config, job.seed, options=options)
        kept = ""
        if not outcome.passed:
            _need_room()
            failed = failure.keep(outcome, job.test, job.sim, job.config, job.seed, options=options)
            kept = failure.shown(failed.folder)
        return record(job, outcome, kept)
    except DiskFullError:
        raise
    except TatamiError as error:
        _need_room()
        return broken(job, str(error))
    except Exception as error:  # one run must not end the others
        if isinstance(error, OSError) and error.errno in FULL:
            raise _full(runner.BUILD) from None
        _need_room()
        return broken(
            job, f"the runner failed: {traceback.format_exc().splitlines()[-1]}\n{traceback.format_exc()}"
        )


def _need_room() -> None:
    """Raises `DiskFullError` where runs leave their files."""
    found = os.statvfs(runner.BUILD)
    if found.f_bavail * found.f_frsize < ROOM:
        raise _full(runner.BUILD)


def _full(place: Path) -> DiskFullError:
    return DiskFullError(f"{place} on {platform.node()}: no space left on device")


def execute(jobs: Sequence[PlannedRun], crew: Crew) -> Iterator[RunRecord | Design]:
    """Builds each design once, then has the crew do all runs.

    Yields each design when it is built, then the records as they come.
    """
    building = {
        crew.submit(build_design, design): design for design in dict.fromkeys(job.design for job in jobs)
    }
    reasons: dict[Design, str] = {}
    for done in ended(building):
        try:
            reasons[building[done]] = done.result()
        except BrokenExecutor as why:
            reasons[building[done]] = f"the build was killed: {why}"
        yield building[done]
    waiting: dict[Call, PlannedRun] = {}
    for job in jobs:
        if reasons[job.design]:
            yield broken(job, reasons[job.design])
        else:
            waiting[crew.submit(run_job, job)] = job
    for finished in ended(waiting):
        yield came_of(waiting[finished], finished)


def came_of(job: PlannedRun, call: Call) -> RunRecord:
    """The record of a run that a crew has done: of its own machine, and with the hands that it has lost."""
    try:
        found: RunRecord = call.result()
    except BrokenExecutor:
        found = broken(job, f"it has killed the process that did it {len(call.lost)} times")
    found = found.model_copy(update={"lost": call.lost})
    if call.tools is None:
        return found
    return RecordLine(**{**found.model_dump(), **provenance.origin(), "tools": call.tools})


def look_inside(found: Sequence[Bucket], workers: int) -> Iterator[tuple[Bucket, list[str]]]:
    """Replays the example of each bucket that has a folder, for the first divergence and the waves around it;
    yields what each replay says.

    A run that its time limit ended is left alone: it would hang twice more.
    """
    with processes(workers) as pool:
        waiting = {
            pool.submit(replay_folder, Path(b.example.failure)): b
            for b in found
            if b.example.failure and not b.example.hangs
        }
        for done in as_completed(waiting):
            try:
                yield waiting[done], done.result()
            except BrokenProcessPool:
                yield waiting[done], ["the process that replayed it was killed"]


def replay_folder(folder: Path) -> list[str]:
    """In a process of the pool."""
    try:
        return replay(failure.load(runner.ROOT / folder)).lines()
    except TatamiError as error:
        return [str(error)]


class Plan(Fields):
    """plan.json: what a regression was to run."""

    tests: str
    sim: simulators.Simulator
    config: str | None
    first: int = Field(ge=0, le=runner.MAX_SEED)
    seeds: int = Field(ge=1)
    git: str | None


class Journal:
    """The folder of one regression: plan.json, a line in runs.jsonl as each run ends, then junit.xml and
    summary.json. One command at a time writes to it.
    """

    def __init__(self, folder: Path, records: Sequence[RecordLine] = ()) -> None:
        self.folder = folder
        self.records: list[RunRecord] = list(records)
        self.origin = provenance.origin()
        self._lines = _locked(folder / RUNS)

    @staticmethod
    def begun(plan: Plan) -> Journal:
        """A fresh one. Stopped early, it has a record of no runs."""
        folder = new_folder(RECORDS)
        write_json(folder / PLAN, plan.model_dump())
        return Journal(folder)

    @staticmethod
    def resumed(folder: Path) -> Journal:
        """One that was stopped. A line that was cut short is of a run that is to be done again."""
        with _locked(folder / RUNS) as lines:
            whole, newline, cut = lines.read().rpartition("\n")
            if cut:
                lines.truncate(len((whole + newline).encode()))
        return Journal(folder, read_records(folder))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._lines.close()

    def add(self, item: RunRecord) -> None:
        """Raises `DiskFullError`; its line may be cut short then, as that of a run that did not end."""
        try:
            self._lines.write(json.dumps({**self.origin, **item.model_dump()}) + "\n")
            self._lines.flush()
        except OSError as error:
            if error.errno not in FULL:
                raise
            raise _full(self.folder) from None
        self.records.append(item)

    def close(self, summary: Mapping[str, Any]) -> None:
        """Writes what needs all records."""
        fields = set(RunRecord.model_fields)
        found = [{**vars(b), "example": b.example.model_dump(include=fields)} for b in buckets(self.records)]
        write_json(self.folder / SUMMARY, {**summary, **self.origin, "buckets": found})
        write_junit(self.folder / JUNIT, self.records, self.origin)


def _locked(path: Path) -> TextIO:
    """A file of lines, to read and to add to. Raises `TatamiError` if another command has it."""
    file = path.open("a+", encoding="utf-8")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise TatamiError(f"{path}: another make regress writes it") from None
    file.seek(0)
    return file


def read_plan(folder: Path) -> Plan:
    """Of a regression that is to go on. Raises `TatamiError` if it cannot."""
    if not (folder / PLAN).is_file() or not (folder / RUNS).is_file():
        raise TatamiError(f"RESUME '{folder}': has no {PLAN} and {RUNS}: not the folder of a regression")
    plan = checked(Plan, read_json(folder / PLAN), folder / PLAN)
    here = provenance.git_revision()
    if plan.git != here:
        raise TatamiError(f"RESUME '{folder}': is of commit {plan.git}, and the checkout is at {here}")
    return plan


def new_folder(parent: Path) -> Path:
    """A fresh folder whose name is the time: names sort as the regressions were started."""
    parent.mkdir(parents=True, exist_ok=True)
    while True:
        folder = parent / datetime.now(UTC).strftime(FOLDER_TIME)
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder


def read_records(folder: Path) -> list[RecordLine]:
    """The lines of a regression's runs.jsonl. Raises `TatamiError` that names a line that is none."""
    return checked_lines(RecordLine, folder / RUNS)


def write_junit(path: Path, records: Iterable[RunRecord], origin: Mapping[str, Any]) -> None:
    """One test suite a simulator, for whatever reads JUnit's XML."""
    root = ET.Element("testsuites")
    suites: dict[str, list[RunRecord]] = {}
    for item in records:
        suites.setdefault(item.sim, []).append(item)
    for sim, items in suites.items():
        failed = sum(not i.passed for i in items)
        suite = ET.SubElement(
            root, "testsuite", name=sim, tests=str(len(items)), failures=str(failed), errors="0", skipped="0"
        )
        suite.set("time", f"{sum(i.wall_s for i in items):.2f}")
        properties = ET.SubElement(suite, "properties")
        for name, value in {"git": origin["git"], **origin["tools"]}.items():
            ET.SubElement(properties, "property", name=name, value=str(value))
        for item in items:
            name = f"{item.test}[{item.config}-{item.seed}]"
            case = ET.SubElement(
                suite, "testcase", classname=f"{sim}.{item.test}", name=name, time=f"{item.wall_s:.2f}"
            )
            if not item.passed:
                text = printable(f"{item.message}\nlog: {item.log}\n{item.replay}")
                ET.SubElement(case, "failure", message=printable(item.signature), type="failure").text = text
    ET.indent(root)
    ET.ElementTree(root).write(path, encoding="utf-8", xml_declaration=True)


def printable(text: str) -> str:
    """Without the control characters that XML cannot hold."""
    return re.sub(r"[^\t\n\r\x20-\ufffd\U00010000-\U0010ffff]", "?", text)
