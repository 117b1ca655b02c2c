"""Failure folders: everything about a failed run that it takes to see it again, below build/failures/."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import Field

from pymodel.machine.config import ArrayConfig
from pymodel.machine.errors import TatamiError
from pymodel.machine.files import Fields, checked, read_json, write_json
from pymodel.machine.names import check_name
from tb.common import settings
from tb.common.settings import Options, Parameter
from tb.debug import suspect
from tb.debug.suspect import Suspect
from tb.flow import provenance, runner, simulators
from tb.flow.testlist import TestSpec

FAILURES = runner.BUILD / "failures"
RECORD, PATCH = "failure.json", "worktree.patch"
KEPT = ("run.log", "results.xml", "result.json")  # of the run's own folder


class Record(Fields):
    """failure.json: how to run it again, what was said, and with what tools."""

    test: TestSpec
    sim: simulators.Simulator
    config: ArrayConfig
    seed: int = Field(ge=0, le=runner.MAX_SEED)
    options: Options
    top: str | None
    parameters: dict[Parameter, int] | None
    sources: tuple[str, ...] | None
    message: str
    revision: str | None
    tools: dict[str, str]
    date: str
    replay: str

    def check_names(self) -> None:
        """Raises `TatamiError` for a name that is none: they become names of folders."""
        for field, name in (
            ("test.name", self.test.name),
            ("test.top", self.test.top),
            ("config.name", self.config.name),
            ("top", self.top or self.test.top),
        ):
            check_name(f"field '{field}'", name)


@dataclass(frozen=True)
class Failure:
    """A failed run and how to run it again.

    `top`, `parameters` and `sources` are None where they are the test's own.
    """

    folder: Path
    test: TestSpec
    sim: str
    config: ArrayConfig
    seed: int
    options: Options
    top: str | None
    parameters: Mapping[str, int] | None
    sources: tuple[Path, ...] | None
    message: str
    revision: str | None
    suspect: Suspect | None

    @property
    def command(self) -> str:
        """What replays it."""
        return f"make replay FAILURE={shown(self.folder)}"


def shown(path: Path) -> str:
    """A path as one types it at the root of the repository."""
    return str(path.relative_to(runner.ROOT)) if path.is_relative_to(runner.ROOT) else str(path)


def keep(
    outcome: runner.RunResult,
    test: TestSpec,
    sim: str,
    config: ArrayConfig,
    seed: int,
    *,
    options: Options | None = None,
    top: str | None = None,
    parameters: Mapping[str, int] | None = None,
    sources: Sequence[Path] | None = None,
) -> Failure:
    """Makes the folder of a run that failed; the arguments are those that `runner.run` was called with.

    The options that the user gave in the environment are kept with `options`.
    """
    FAILURES.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{test.name}-{sim}-{config.name}-{seed}-", dir=FAILURES))
    for name in KEPT:
        if (outcome.log.parent / name).is_file():
            shutil.copy(outcome.log.parent / name, folder)
    if (outcome.log.parent / suspect.FOLDER).is_dir():
        shutil.copytree(outcome.log.parent / suspect.FOLDER, folder / suspect.FOLDER)
    record = Record(
        test=test,
        sim=sim,
        config=config,
        seed=seed,
        options=settings.from_user() | (options or Options()),
        top=top,
        parameters=None if parameters is None else dict(parameters),
        sources=None if sources is None else tuple(shown(path) for path in sources),
        message=outcome.message,
        revision=provenance.git_revision(),
        tools=provenance.tool_versions(),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        replay=f"make replay FAILURE={shown(folder)}",
    )
    write_json(folder / RECORD, record.model_dump(mode="json"))
    patch = worktree_patch()
    if patch:
        (folder / PATCH).write_bytes(patch)
    return load(folder)


def with_options(failure: Failure, options: Options) -> Failure:
    """The failure with these options instead of its own."""
    path = failure.folder / RECORD
    record = checked(Record, read_json(path), path)
    write_json(path, record.model_copy(update={"options": options}).model_dump(mode="json"))
    return load(failure.folder)


def worktree_patch() -> bytes:
    """What the files here differ in from the commit, new files included; nothing outside a repository."""

    def git(*arguments: str, index: Path | None = None) -> bytes:
        command = ["git", "-C", str(runner.ROOT), *arguments]
        env = os.environ if index is None else {**os.environ, "GIT_INDEX_FILE": str(index)}
        return subprocess.run(command, env=env, capture_output=True, check=False).stdout

    with tempfile.TemporaryDirectory() as scratch:
        index = Path(scratch) / "index"  # new files are named in a copy: the user's own index stays as it is
        found = runner.ROOT / os.fsdecode(git("rev-parse", "--git-path", "index")).strip()
        if not found.is_file():
            return b""
        shutil.copy(found, index)
        git("add", "--intent-to-add", ".", index=index)
        return git("diff", "--binary", "HEAD", index=index)


def load(folder: Path) -> Failure:
    """The failure in a folder. Raises `TatamiError` in one line if it is none, or damaged."""
    if not folder.is_dir():
        raise TatamiError(f"FAILURE '{folder}' is no folder; failures are kept below {shown(FAILURES)}")
    path = folder / RECORD
    if not path.is_file():
        raise TatamiError(f"FAILURE '{folder}' has no {RECORD}: not the folder of a failure")
    content = read_json(path)
    try:
        record = checked(Record, content, path)
    except TatamiError as error:
        raise TatamiError(f"{error}; was it kept by an earlier version?") from None
    try:
        record.check_names()
    except TatamiError as error:
        raise TatamiError(f"{path}: {error}") from None
    sources = None if record.sources is None else tuple(runner.ROOT / source for source in record.sources)
    for source in sources or ():
        if not source.is_file():
            raise TatamiError(f"{path}: field 'sources': {shown(source)!r} is not there any more")
    return Failure(
        folder=folder.resolve(),
        test=record.test,
        sim=record.sim,
        config=record.config,
        seed=record.seed,
        options=record.options,
        top=record.top,
        parameters=record.parameters,
        sources=sources,
        message=record.message,
        revision=record.revision,
        suspect=suspect.load(folder, record.config),
    )
