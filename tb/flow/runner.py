"""Runs cocotb tests on Verilator and Icarus: the one way in, for `make sim` and for pytest.

Every run gets a directory of its own under `build/run/`.
"""

from __future__ import annotations

import re
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pymodel.machine.config import ArrayConfig
from pymodel.machine.places import BUILD, ROOT
from tb.common import settings
from tb.common.settings import Options, Settings
from tb.flow.build import build, log_lines
from tb.flow.simulators import NEUTRAL, OPT_FAST, OPT_ONCE, environment, quiet_runner
from tb.flow.testlist import TestSpec

PROBE_FILE = "probe.txt"
MAX_SEED = 2**31 - 1

# Lines by which a simulator or checker (tb/checkers/psa_assert.v) names an error. Icarus goes on after $error
# and $fatal as if nothing had happened, and so do both after an ASSERT.
RUN_ERROR = re.compile(r"^(?:ERROR|FATAL): |^ASSERT |%Error")
NOTHING = re.compile(r"(?!)")
OVERDUE = "ended by the time limit"


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


@dataclass(frozen=True)
class Folder:
    """The folder of one run below `build/run/`, and the files in it."""

    path: Path
    waves: Path

    @staticmethod
    def made(test: TestSpec, sim: str, config: ArrayConfig, seed: int, top: str) -> Folder:
        runs = BUILD / "run"
        runs.mkdir(parents=True, exist_ok=True)
        path = Path(tempfile.mkdtemp(prefix=f"{test.name}-{sim}-{config.name}-{seed}-", dir=runs))
        return Folder(path, path / (f"{top}.fst" if sim == "icarus" else f"{top}.vcd"))

    @property
    def log(self) -> Path:
        return self.path / "run.log"

    @property
    def reported(self) -> Path:
        """What the test module reports."""
        return self.path / "result.json"

    @property
    def results(self) -> Path:
        """cocotb's."""
        return self.path / "results.xml"


@dataclass(frozen=True)
class Arguments:
    """Of the simulator and of the design."""

    simulator: list[str]
    plusargs: list[str]


def arguments(sim: str, seed: int, waves: bool, probe: Probe | None, folder: Folder) -> Arguments:
    """Registers that nothing has reset start at random on Verilator, drawn from the seed."""
    if sim == "verilator":
        simulator = ["--trace-file", str(folder.waves)] if waves else []
        plusargs = ["+verilator+rand+reset+2", f"+verilator+seed+{seed % MAX_SEED + 1}"]
    else:
        simulator, plusargs = [], [f"+dumpfile_path={folder.waves}"] if waves else []
    if probe:
        plusargs += probe.plusargs(folder.path / PROBE_FILE, folder.waves)
    return Arguments(simulator, plusargs)


def variables(test: TestSpec, seed: int, told: Settings) -> dict[str, str | None]:
    """What the simulation finds in the environment."""
    return NEUTRAL | {
        settings.VARIABLE: told.to_json(),
        "COCOTB_RANDOM_SEED": str(seed),
        "COCOTB_ANSI_OUTPUT": "0",
        # pytest explains failed asserts of these files; by default it would rewrite every module that is
        # imported, numpy's too: five seconds a run
        "COCOTB_REWRITE_ASSERTION_FILES": str(ROOT / "tb" / "*.py"),
        # what the simulator prints comes in whole lines: Python writes into the same log
        "SIM_CMD_PREFIX": f"timeout --foreground --kill-after=5 {test.timeout_s} stdbuf --output=L",
    }


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
    optimise: str | None = None,
    progress: Callable[[str], None] = no_progress,
) -> RunResult:
    """Build if needed, and run one test in a directory of its own.

    `top` and `parameters` are the test's own if not given, and the parameters those of `config` if it has
    none. A test that fails is told by the result; a design that does not build raises `BuildError`. With
    `probe`, `CHECKED_TOP` shows its inside. A design of other `sources` or with a probe runs once or twice,
    and `optimise` follows if it is not given.
    """
    top = top or test.top
    if parameters is None:
        parameters = config.rtl_parameters() if test.parameters is None else test.parameters
    progress(f"building {top} for {sim}")
    built = build(
        sim,
        parameters,
        top=top,
        sources=sources,
        waves=waves,
        coverage=coverage,
        probe=probe is not None,
        optimise=optimise or (OPT_ONCE if sources or probe else OPT_FAST),
    )
    progress(f"running {test.name} on {sim}")
    folder = Folder.made(test, sim, config, seed, top)
    wanted = settings.from_user() | test.options | (options or Options())
    told = Settings(
        **wanted.given(), config=config, parameters=dict(parameters), sim=sim, result=str(folder.reported)
    )
    given = arguments(sim, seed, waves, probe, folder)
    started = time.monotonic()
    ended = ""
    with environment(variables(test, seed, told)):
        try:
            quiet_runner(sim).test(
                test_module=test.module,
                hdl_toplevel=top,
                hdl_toplevel_lang="verilog",
                build_dir=built,
                test_dir=folder.path,
                test_args=given.simulator,
                plusargs=given.plusargs,
                test_filter=wanted.only or None,
                results_xml=str(folder.results),
                waves=waves or (probe is not None and sim == "icarus"),
                log_file=folder.log,
            )
        except (RuntimeError, SystemExit) as stop:
            ended = str(stop)
    return outcome(test, folder, time.monotonic() - started, ended)


def outcome(test: TestSpec, folder: Folder, wall_s: float, ended: str) -> RunResult:
    """What came of a simulation that took `wall_s`. `ended`: what cocotb's runner said last, if anything."""
    message = "\n".join(part for part in (*said(test, folder, wall_s), failures(folder.results)) if part)
    message = message or ended
    return RunResult(
        passed=not message,
        message=message,
        log=folder.log,
        result=settings.reported(folder.reported) if folder.reported.is_file() else {},
        wall_s=round(wall_s, 2),
        waves=folder.waves if folder.waves.is_file() else None,
    )


def said(test: TestSpec, folder: Folder, wall_s: float) -> list[str]:
    """What the log holds against a run: its first errors, and why there are no results."""
    lines = folder.log.read_text(errors="replace").splitlines()
    found = [line.strip() for line in lines if RUN_ERROR.search(line)][:5]
    if wall_s >= test.timeout_s:
        return [*found, f"{OVERDUE} of {test.timeout_s} s"]
    return found if folder.results.is_file() else [*found, log_lines(folder.log, NOTHING)]
