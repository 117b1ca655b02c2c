"""What every command shares: variables of make, options that win over them, one line for each error."""

from __future__ import annotations

import errno
import io
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from rich.console import Console

from pymodel.machine.errors import RatioError, TatamiError
from pymodel.machine.places import BUILD, ROOT
from pymodel.machine.progress import tracked
from scripts.command import Integer, command, said, variable, working
from tb.flow.build import build
from tb.flow.processes import within
from tb.flow.testlist import BLOCK_TESTS
from tests.support import gone, state_of


@command("try")
@variable("SEED", Integer(0, 9), 1)
def chosen(seed: int) -> int:
    return seed


def test_a_variable_an_option_and_neither(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SEED", raising=False)
    assert chosen([]) == 1
    monkeypatch.setenv("SEED", "")
    assert chosen([]) == 1
    monkeypatch.setenv("SEED", "3")
    assert chosen([]) == 3
    assert chosen(["--seed=4"]) == 4


@pytest.mark.parametrize(
    ("text", "said"), [("x", "SEED 'x' is not an integer in 0..9"), ("10", "SEED 10 is outside 0..9")]
)
def test_a_bad_variable_is_named(text: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEED", text)
    with pytest.raises(TatamiError, match=said):
        chosen([])


def test_what_is_being_done_and_how_much_of_it_is_shown_on_a_terminal_only() -> None:
    """Sizes are those of the parts, so three of four is a bar that is three quarters full."""
    for terminal in (True, False):
        out = io.StringIO()
        with working(Console(file=out, force_terminal=terminal, width=80)) as say:
            say("compiling x")
            for _ in tracked("ab", "packing", [3, 1]):
                time.sleep(0.3)  # the line is drawn ten times a second
        shown = out.getvalue()
        assert ("compiling x" in shown) == terminal
        assert ("packing" in shown and "75%" in shown) == terminal


def test_what_make_test_was_given_is_not_for_the_commands_that_tests_call(tmp_path: Path) -> None:
    """JOBS of `make test JOBS=1` is a variable that some commands refuse."""
    one = f"{__file__}::test_a_variable_an_option_and_neither"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-o", f"cache_dir={tmp_path}", one],
        cwd=ROOT,
        env={**os.environ, "MAKE_GIVEN": "JOBS", "JOBS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_a_command_that_a_test_calls_hears_ctrl_c() -> None:
    sleeping = subprocess.Popen(["sleep", "60"])
    sleeping.send_signal(signal.SIGINT)
    assert sleeping.wait(10) == -signal.SIGINT


def test_tests_in_the_background_are_not_deaf_to_it(tmp_path: Path) -> None:
    """A shell has a command that it starts with & ignore ctrl-C."""
    one = f"{__file__}::test_a_command_that_a_test_calls_hears_ctrl_c"
    pytest_ = [sys.executable, "-m", "pytest", "-q", one]
    done = subprocess.run(
        ["sh", "-c", 'trap "" INT; exec "$@"', "sh", *pytest_, "-o", f"cache_dir={tmp_path}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("arguments", [["--sede=1"], ["more"]])
def test_what_it_does_not_take_is_refused(arguments: list[str]) -> None:
    with pytest.raises(TatamiError):
        chosen(arguments)


def test_a_variable_of_make_that_nobody_reads_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAKE_GIVEN", "SEDE")
    with pytest.raises(
        TatamiError, match="SEDE is given, but this is no variable of `make try`: it takes SEED"
    ):
        chosen([])


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (TatamiError("no such thing"), 2, "name: no such thing\n"),
        (RatioError("ratio is 9"), 3, "name: ratio is 9\n"),
        (KeyboardInterrupt(), 130, "name: interrupted\n"),
        (OSError(errno.ENOSPC, "No space left on device"), 2, "name: No space left on device; BUILD="),
        (
            OSError(errno.EROFS, "Read-only file system", "/x/y"),
            2,
            "name: /x/y: Read-only file system; BUILD=",
        ),
    ],
)
def test_last_words(error: BaseException, status: int, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    def body() -> int:
        raise error

    assert said("name", body) == status
    err = capsys.readouterr().err
    assert err.startswith(line)
    assert len(err.splitlines()) == 1


def test_a_fault_of_the_program_keeps_its_traceback() -> None:
    def body() -> int:
        raise OSError(errno.EPROTO, "a fault")

    with pytest.raises(OSError, match="a fault"):
        said("name", body)


def run(arguments: list[str], **variables: str) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own."""
    env = {**os.environ, **variables}
    return subprocess.run(arguments, cwd=ROOT, env=env, capture_output=True, text=True, check=False)


def make(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """`make`, without what a make around the tests would tell it."""
    clean = dict.fromkeys(("MAKEFLAGS", "MFLAGS", "MAKELEVEL"), "")
    return run(["make", *arguments], **{**clean, **variables})


def test_make_hands_its_variables_on_once() -> None:
    """A value with spaces and quotes arrives as it is, and a mis-spelt name is refused."""
    done = make("sim", "TEST=no 'such' test")
    assert done.returncode == 2
    assert "no 'such' test" in done.stderr.splitlines()[0]
    done = make("sim", "SEDE=3")
    assert done.returncode == 2
    assert "SEDE is given, but this is no variable of `make sim`" in done.stderr


@pytest.mark.parametrize(
    ("target", "given", "message"),
    [
        ("compress", "RATIO=x y", "compress: RATIO 'x y' is not a number"),
        ("compress", "JOBS=2", "compress: JOBS is given, but this is no variable of `make compress`"),
        ("results", "WEIGHTS=a b", "results: WEIGHTS 'a b' must be network=path of a state_dict"),
        ("results", "JOBS=0", "results: JOBS 0 is outside 1..1024"),
    ],
)
def test_make_hands_on_what_training_reads(target: str, given: str, message: str) -> None:
    done = make("-o", ".venv/.train", target, given)
    assert done.returncode == 2
    assert done.stderr.splitlines()[0].startswith(message)


@pytest.mark.parametrize(("given", "jobs"), [((), ""), (("JOBS=3",), "3")])
def test_jobs_is_set_by_the_user_alone(given: tuple[str, ...], jobs: str) -> None:
    """Else each command has its own number: `make results` does one run at a time."""
    done = make("--eval=show: ; @echo [$$JOBS]", "show", *given)
    assert done.stdout == f"[{jobs}]\n"


@pytest.mark.parametrize(
    ("weights", "group"),
    [
        ("a network.npz", ""),
        ("a state.pt", "train"),
        ("", ""),
        ("a.b/x.tflite", "tflite"),
        ("x y.onnx", "onnx"),
    ],
)
def test_a_file_needs_what_reads_it(weights: str, group: str) -> None:
    """Only a state_dict needs torch. A space in the path changes nothing."""
    done = make("-n", "-W", "pyproject.toml", "sim", f"WEIGHTS={weights}")
    assert done.returncode == 0
    groups = {name for name in ("train", "tflite", "onnx") if f"packages ({name})" in done.stdout}
    assert groups == ({group} if group else set())


def test_build_puts_elsewhere_what_is_written(tmp_path: Path) -> None:
    code = "from tb.flow import campaign, failure, prepare, regress, runner; from tb.common import bugs\n"
    code += "places = runner.BUILD, campaign.BUILD, failure.FAILURES, prepare.FOLDER\n"
    code += "print(*places, regress.RECORDS, bugs.COPIES, sep='\\n')"
    done = run([sys.executable, "-c", code], BUILD=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert all(Path(line).is_relative_to(tmp_path) for line in done.stdout.splitlines())
    assert len(done.stdout.splitlines()) == 6


def test_a_space_in_build_is_refused_at_once(tmp_path: Path) -> None:
    done = run([sys.executable, "-m", "scripts.sim", "--test=block_delay"], BUILD=str(tmp_path / "a b"))
    assert done.returncode == 2
    assert "Verilator cannot build below a path with spaces" in done.stderr
    assert len(done.stderr.splitlines()) == 1


SLOW_IMPORT = """
import os, subprocess, time
child = subprocess.Popen(["sleep", "600"])
print(os.getpid(), child.pid, flush=True)
time.sleep(600)
"""


@contextmanager
def importing(folder: Path) -> Iterator[tuple[subprocess.Popen[str], int, int]]:
    """A command that is importing its modules, one of which has started a process: the process that was
    called, the one that imports, and the one that it has started.
    """
    (folder / "click.py").write_text(SLOW_IMPORT)
    with subprocess.Popen(
        [sys.executable, "-m", "scripts.sim"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as begun:
        assert begun.stdout is not None
        command, child = map(int, begun.stdout.readline().split())
        yield begun, command, child


def test_ctrl_c_while_a_command_imports_is_one_line(tmp_path: Path) -> None:
    with importing(tmp_path) as (begun, _, child):
        os.killpg(begun.pid, signal.SIGINT)
        _, err = begun.communicate(timeout=60)
    assert (begun.returncode, err) == (130, "sim: interrupted\n")
    assert gone(child)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("killed", ["who was called", "who does the work"])
def test_nothing_outlives_a_command(killed: str, number: signal.Signals, tmp_path: Path) -> None:
    with importing(tmp_path) as (begun, command, child):
        os.kill(begun.pid if killed == "who was called" else command, number)
        assert begun.wait(timeout=60) in (128 + number, -number)
        assert gone(command)
        assert gone(child)


def test_a_command_that_is_stopped_goes_on(tmp_path: Path) -> None:
    """Ctrl-Z and `fg`: the whole group."""
    with importing(tmp_path) as (begun, command, child):
        for number, state in ((signal.SIGTSTP, "T"), (signal.SIGCONT, "S")):
            os.kill(begun.pid, number)
            assert within(lambda: {state_of(each) for each in (begun.pid, command, child)} == {state})  # noqa: B023
        os.kill(begun.pid, signal.SIGINT)
        assert begun.wait(timeout=60) == 130


@pytest.mark.slow
def test_ctrl_c_in_a_build_is_one_line_and_the_next_run_builds_again(tmp_path: Path) -> None:
    """Also what the compiler had begun is not taken for whole."""
    test = BLOCK_TESTS["block_delay"]
    build("verilator", test.parameters or {}, top=test.top)
    for kept in (path for name in ("runtime", "header") for path in (BUILD / "sim").glob(f"{name}-*")):
        shutil.copytree(kept, tmp_path / "sim" / kept.name)  # what every build shares takes ten seconds
    variables = {**os.environ, "BUILD": str(tmp_path)}
    command = [sys.executable, "-m", "scripts.sim", "--test=block_delay"]
    begun = subprocess.Popen(
        command, cwd=ROOT, env=variables, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    until = time.monotonic() + 60
    while not any(tmp_path.glob("sim/*/*.cpp")) and time.monotonic() < until:
        time.sleep(0.05)
    os.killpg(begun.pid, signal.SIGINT)
    _, err = begun.communicate(timeout=60)
    assert begun.returncode == 130, err
    assert err == "sim: interrupted\n"
    assert not any(tmp_path.glob("sim/*/done"))
    done = run(command, BUILD=str(tmp_path))
    assert done.returncode == 0, done.stderr
