"""Which commit made a failure: its run, repeated by `make sim` at one commit after the other."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pymodel.machine.errors import TatamiError
from pymodel.machine.files import Fields, read_json
from tb.common import settings
from tb.flow import runner
from tb.flow.failure import RECORD, Failure
from tb.flow.regress import signature

TREE = runner.BUILD / "bisect"
RESULT = "RESULT "

# `passes`; `fails` as the failure does; `unlike`: fails in another way, or cannot run there
Verdict = Literal["passes", "fails", "unlike"]


class Step(Fields):
    """What the run did at one commit."""

    revision: str
    subject: str
    verdict: Verdict
    said: str


@dataclass(frozen=True)
class Bisected:
    """The commits that may have made the failure, oldest first: one, or several where those between say
    nothing about it.
    """

    suspects: tuple[str, ...]
    steps: tuple[Step, ...]


def bisect(failure: Failure, good: str | None, progress: Callable[[str], None]) -> Bisected:
    """Looks between `good`, a commit at which the run passes, and the failure's own. Without `good`, it goes
    back 1, 2, 4, ... commits until the run passes. Merges count as one commit.

    Raises `TatamiError` if the failure does not come again at its own commit, if no earlier commit passes, or
    if its run is not one of `make sim`.
    """
    variables = asked(failure)
    if failure.revision is None:
        raise TatamiError(f"{failure.folder / RECORD}: field 'revision': null, so no commit to begin at")
    own = commit_of(
        failure.revision.rstrip("+"), f"{failure.folder / RECORD}: field 'revision': '{failure.revision}'"
    )
    history = git("rev-list", "--first-parent", own).split()
    wanted = signature(failure.message)
    steps: dict[int, Step] = {}  # by how many commits back

    def verdict(back: int) -> Verdict:
        if back not in steps:
            subject = git("log", "-1", "--format=%s", history[back])
            progress(f"{back} commits back: {subject}")
            found, said = run_at(history[back], variables, wanted)
            steps[back] = Step(revision=history[back], subject=subject, verdict=found, said=said)
        return steps[back].verdict

    passing = place_of(good, history) if good else None
    make_tree()
    if verdict(0) != "fails":
        changed = ", and files differed from it then" if failure.revision.endswith("+") else ""
        raise TatamiError(
            f"the failure does not come again at its commit {history[0][:10]}{changed}: {steps[0].said}"
        )
    bad = 0
    if passing is None:
        passing, bad = back_to_a_pass(verdict, len(history))
    elif verdict(passing) != "passes":
        raise TatamiError(f"GOOD '{good}': the run does not pass there: {steps[passing].said}")
    bad, passing = narrowed(verdict, bad, passing)
    return Bisected(tuple(history[bad:passing][::-1]), tuple(steps[back] for back in sorted(steps)))


def back_to_a_pass(verdict: Callable[[int], Verdict], commits: int) -> tuple[int, int]:
    """How far back the run passes, and the furthest at which it fails before that."""
    bad, back = 0, 1
    while True:
        back = min(back, commits - 1)
        found = verdict(back)
        if found == "passes":
            return back, bad
        if found == "fails":
            bad = back
        if back == commits - 1:
            raise TatamiError(f"the run passes at none of the {commits} commits that were tried back")
        back *= 2


def narrowed(verdict: Callable[[int], Verdict], bad: int, passing: int) -> tuple[int, int]:
    """How far back the run fails and how far it passes, with nothing between that says either."""
    while True:
        between = sorted(range(bad + 1, passing), key=lambda back: abs(2 * back - bad - passing))
        telling = next((back for back in between if verdict(back) != "unlike"), None)
        if telling is None:
            return bad, passing
        if verdict(telling) == "fails":
            bad = telling
        else:
            passing = telling


def asked(failure: Failure) -> dict[str, str]:
    """The variables with which `make sim` does the failure's run. Raises `TatamiError` if it does not."""
    path = failure.folder / RECORD
    for field in ("sources", "parameters", "top"):
        if getattr(failure, field) is not None:
            raise TatamiError(f"{path}: field '{field}' is given: `make sim` alone does not do this run")
    if failure.test.network == "file":
        raise TatamiError(f"{path}: test '{failure.test.name}' ran a file of WEIGHTS, which is not kept")
    options = failure.options.given()
    images = options.pop("images", None)
    options.pop("network", None)  # `make sim` compiles it anew
    return {
        "TEST": failure.test.name,
        "SIM": failure.sim,
        "CONFIG": failure.config.name,
        "SEED": str(failure.seed),
        "IMAGES": "" if images is None else str(images),
        settings.VARIABLE: json.dumps(options) if options else "",
    }


def place_of(good: str, history: list[str]) -> int:
    """How many commits back `good` lies."""
    commit = commit_of(good, f"GOOD '{good}'")
    if commit not in history[1:]:
        raise TatamiError(f"GOOD '{good}' is not before the failure's commit {history[0][:10]}")
    return history.index(commit)


def commit_of(name: str, given: str) -> str:
    """Raises `TatamiError` that begins with `given` if it names none."""
    try:
        return git("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")
    except TatamiError:
        raise TatamiError(f"{given} is no commit here") from None


def make_tree() -> None:
    """A working tree of its own, so that the user's stays as it is. It stays for the next time, with what it
    built.
    """
    if not (TREE / ".git").exists():
        git("worktree", "prune")
        git("worktree", "add", "--quiet", "--detach", "--force", str(TREE))


def run_at(revision: str, variables: dict[str, str], wanted: str) -> tuple[Verdict, str]:
    """What the run does at a commit, and the first line of what it says."""
    git("checkout", "--quiet", "--detach", "--force", revision, at=TREE)
    own = {name: value for name, value in os.environ.items() if name not in ("MAKE_GIVEN", "BUILD")}
    done = subprocess.run(
        [sys.executable, "-m", "scripts.sim"],
        cwd=TREE,
        env={**own, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 0:
        return "passes", "passed"
    said = done.stdout.splitlines()
    if done.returncode != 1 or not said or not said[-1].startswith(RESULT):
        return "unlike", (done.stderr.splitlines() or ["ended without a result"])[-1]
    folder = TREE / json.loads(said[-1].removeprefix(RESULT))["failure"]
    message = str(read_json(folder / RECORD)["message"])
    return ("fails" if signature(message) == wanted else "unlike"), message.splitlines()[0]


def git(*arguments: str, at: Path = runner.ROOT) -> str:
    """What git says. Raises `TatamiError` with its own words if it fails."""
    done = subprocess.run(["git", "-C", str(at), *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise TatamiError(f"git {arguments[0]}: {(done.stderr.splitlines() or ['failed'])[-1]}")
    return done.stdout.strip()


def lines(found: Bisected) -> list[str]:
    """For people."""
    subjects = {step.revision: step.subject for step in found.steps}
    named = [f"{one[:10]} {subjects[one]}" for one in found.suspects]
    if len(named) == 1:
        return [f"first commit that fails: {named[0]}"]
    return ["one of these commits made it; those between fail in another way or do not run:", *named]
