"""`make bisect`: the commit that made a failure, in a repository whose commits are known."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from pymodel.machine.config import CONFIGS
from pymodel.machine.errors import TatamiError
from pymodel.machine.places import ROOT
from tb.common.settings import Options
from tb.flow import bisect
from tb.flow.failure import Failure
from tb.flow.testlist import TESTS

RUN = {"TEST": "block_delay", "SIM": "icarus", "SEED": "3"}
DELAY = "rtl/psa_delay.v"
BUG = ("<= in_data;", "<= ~in_data;")


@dataclass(frozen=True)
class Repository:
    """A clone of the project with commits of its own."""

    root: Path

    def git(self, *arguments: str) -> str:
        named = ("-c", "user.name=a", "-c", "user.email=a@b")
        done = subprocess.run(
            ["git", "-C", str(self.root), *named, *arguments], capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    def commit(self, subject: str, change: Callable[[str], str], file: str = DELAY) -> str:
        path = self.root / file
        path.write_text(change(path.read_text()))
        self.git("commit", "-qam", subject)
        return self.git("rev-parse", "HEAD")

    def call(self, script: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", f"scripts.{script}"],
            cwd=self.root,
            env={"PATH": "/usr/bin:/bin", **variables},
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    subprocess.run(["git", "clone", "-q", str(ROOT), str(tmp_path / "clone")], check=True)
    return Repository(tmp_path / "clone")


def failed_at(repository: Repository) -> str:
    """The folder of the failure of the run at the newest commit."""
    done = repository.call("sim", **RUN)
    assert done.returncode == 1, done.stdout + done.stderr
    return str(json.loads(done.stdout.splitlines()[-1].removeprefix("RESULT "))["failure"])


@pytest.mark.icarus
def test_the_commit_that_made_it_is_found(repository: Repository) -> None:
    """Behind it, one at which the run ends in another way tells nothing; what is in the user's files stays
    there.
    """
    repository.commit("nothing", lambda text: text + "\n")
    first = repository.commit("a bug", lambda text: text.replace(*BUG))
    repository.commit("no Verilog", lambda text: text.replace("endmodule", "endmodul"))
    repository.commit("Verilog again", lambda text: text.replace("endmodul\n", "endmodule\n"))
    last = repository.commit("nothing more", lambda text: text + "\n")
    folder = failed_at(repository)
    (repository.root / DELAY).write_text("mine")

    done = repository.call("bisect", FAILURE=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout.splitlines()[-1].removeprefix("BISECT "))
    assert found["suspects"] == [first]
    assert "first commit that fails: " + first[:10] + " a bug" in done.stdout
    verdicts = {step["subject"]: step["verdict"] for step in found["steps"]}
    assert verdicts["a bug"] == verdicts["nothing more"] == "fails"
    assert verdicts["nothing"] == "passes"
    assert verdicts.get("no Verilog", "unlike") == "unlike"
    assert (repository.root / DELAY).read_text() == "mine"
    assert repository.git("rev-parse", "HEAD") == last

    for good, says in (
        ("nonsense", "GOOD 'nonsense' is no commit here"),
        (last, "is not before the failure's commit"),
    ):
        done = repository.call("bisect", FAILURE=folder, GOOD=good)
        assert done.returncode == 2
        assert says in done.stderr
        assert len(done.stderr.splitlines()) == 1


@pytest.mark.icarus
def test_a_failure_that_was_never_committed_is_told(repository: Repository) -> None:
    path = repository.root / DELAY
    path.write_text(path.read_text().replace(*BUG))
    done = repository.call("bisect", FAILURE=failed_at(repository))
    assert done.returncode == 2
    assert "does not come again at its commit" in done.stderr
    assert "files differed from it then: passed" in done.stderr


@pytest.mark.parametrize(
    ("verdicts", "left"),
    [
        ("fffuuupp", (2, 6)),
        ("fp", (0, 1)),
        ("fufufup", (4, 6)),
        ("ffffffffp", (7, 8)),
        ("fupppppp", (0, 2)),
    ],
)
def test_commits_that_say_nothing_are_passed_over(verdicts: str, left: tuple[int, int]) -> None:
    """What is left is between the youngest that passes and the oldest that fails."""

    def verdict(back: int) -> bisect.Verdict:
        names: dict[str, bisect.Verdict] = {"f": "fails", "p": "passes", "u": "unlike"}
        return names[verdicts[back]]

    assert bisect.narrowed(verdict, 0, len(verdicts) - 1) == left


def test_without_a_good_commit_it_goes_back_in_growing_steps() -> None:
    asked: list[int] = []

    def verdict(back: int) -> bisect.Verdict:
        asked.append(back)
        return "passes" if back >= 6 else "unlike" if back == 2 else "fails"

    assert bisect.back_to_a_pass(verdict, 20) == (8, 4)
    assert asked == [1, 2, 4, 8]
    with pytest.raises(TatamiError, match="passes at none of the 4 commits"):
        bisect.back_to_a_pass(verdict, 4)


def test_a_run_that_make_sim_does_not_do_is_refused(tmp_path: Path) -> None:
    run = Failure(
        folder=tmp_path,
        test=TESTS["env_digits"],
        sim="icarus",
        config=CONFIGS["4x2"],
        seed=5,
        options=Options(images=2, fault="lost_packet"),
        top=None,
        parameters=None,
        sources=None,
        message="",
        revision="abc",
        suspect=None,
    )
    assert bisect.asked(run) == {
        "TEST": "env_digits",
        "SIM": "icarus",
        "CONFIG": "4x2",
        "SEED": "5",
        "IMAGES": "2",
        "TATAMI_SETTINGS": '{"fault": "lost_packet"}',
    }
    with pytest.raises(TatamiError, match="field 'parameters' is given"):
        bisect.asked(replace(run, parameters={"ROWS": 4}))
    with pytest.raises(TatamiError, match="a file of WEIGHTS"):
        bisect.asked(replace(run, test=TESTS["network"]))
    with pytest.raises(TatamiError, match="field 'revision': null"):
        bisect.bisect(replace(run, revision=None), None, print)
    for revision in ("abc", "0" * 40 + "+"):
        said = f"^{tmp_path}/failure.json: field 'revision': '{re.escape(revision)}' is no commit here$"
        with pytest.raises(TatamiError, match=said):
            bisect.bisect(replace(run, revision=revision), None, print)
