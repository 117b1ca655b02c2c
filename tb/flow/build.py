"""Builds a design for a simulator.

A build is kept under `build/sim/` and used again until its sources, parameters or tools change; a lock lets
parallel workers share it.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import cocotb_tools.config

from pymodel.machine.errors import TatamiError
from pymodel.machine.memory import UNIT_BITS
from pymodel.machine.places import BUILD
from tb.flow.simulators import (
    ICARUS_ARGS,
    ICARUS_LANGUAGE,
    NEUTRAL,
    OPT_FAST,
    OPT_RUNTIME,
    VERILATOR_ARGS,
    check_simulator,
    environment,
    machine_kind,
    quiet_runner,
    tool_id,
    verilator_env,
    verilator_root,
)
from tb.flow.sources import PROBE, checker_sources, headers, include_folders, rtl_sources
from tb.flow.testlist import CHECKED_SYSTEM, CHECKED_TOP

TIMESCALE = ("1ns", "1ns")
BARE_SOURCE = Path(__file__).with_name("bare.cpp")
MAIN = cocotb_tools.config.share_dir / "lib" / "verilator" / "verilator.cpp"
HEADER = "shared.h"
HEADER_MAKEFILE = Path(__file__).with_name("header.mk")
BARE = "bare"  # the program that it becomes
# Lines by which a compiler names an error.
BUILD_ERROR = re.compile(r"%Error|error:|Unknown module type|syntax error")
# An illegal parameter is a module that does not exist. Errors that follow from it may come before it.
ILLEGAL_PARAMETER = re.compile(rf"({BUILD_ERROR.pattern}).*psa_illegal_parameter_")


class BuildError(TatamiError):
    """The design does not build: the first errors of the compiler, and where its log is."""


@contextmanager
def locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, default=str, sort_keys=True).encode()).hexdigest()


def log_lines(log: Path, pattern: re.Pattern[str], limit: int = 5) -> str:
    """The first lines of a log that match, or its last ones if none does."""
    lines = log.read_text(errors="replace").splitlines() if log.is_file() else []
    return "\n".join(([line.strip() for line in lines if pattern.search(line)] or lines[-limit:])[:limit])


def errors_in(log: Path) -> str:
    """The first errors of a compiler, or only those that name an illegal parameter."""
    lines = log_lines(log, ILLEGAL_PARAMETER)
    return lines if ILLEGAL_PARAMETER.search(lines) else log_lines(log, BUILD_ERROR)


@dataclass(frozen=True)
class Build:
    """One build: `top` of `files` with the Verilog `parameters`, and what is built into it.

    Waves of a build with the `probe` are written by the probe itself. `optimise` is for the C++ of the
    design. `bare`: with tb/flow/bare.cpp around it, not cocotb.
    """

    sim: str
    top: str
    parameters: Mapping[str, int]
    files: tuple[Path, ...]
    waves: bool = False
    coverage: bool = False
    probe: bool = False
    optimise: str = OPT_FAST
    bare: bool = False

    @property
    def flags(self) -> dict[str, bool]:
        """What changes the simulator's runtime, too."""
        return {"waves": self.waves, "coverage": self.coverage}

    @property
    def kind(self) -> str:
        """What a message and the folder call it."""
        parts = {
            **self.flags,
            "probe": self.probe,
            "bare": self.bare,
            self.optimise.strip("-"): self.optimise != OPT_FAST,
        }
        return "-".join([self.top, self.sim, *(name for name, on in parts.items() if on)])

    @property
    def directory(self) -> Path:
        return BUILD / "sim" / f"{self.kind}-{digest(dict(self.parameters), self.files, machine_kind())[:8]}"

    def content(self) -> str:
        """A digest of all that it is made from."""
        texts = [file.read_bytes().hex() for file in (*self.files, *headers())]
        if self.bare:
            texts.append(BARE_SOURCE.read_text())
        return digest(tool_id(self.sim), VERILATOR_ARGS, ICARUS_ARGS, self.flags, self.optimise, texts)

    def arguments(self) -> list[str]:
        """Of the compiler."""
        if self.sim == "verilator":
            return [*VERILATOR_ARGS, *(("--coverage",) if self.coverage else ())]
        # cocotb's module that writes the waves is SystemVerilog
        return [arg for arg in ICARUS_ARGS if not (self.waves and arg == ICARUS_LANGUAGE)]

    def variables(self) -> dict[str, str | None]:
        """What the compiler finds in the environment."""
        if self.sim == "verilator":
            flags = verilator_makeflags(self)
            return NEUTRAL | verilator_env() | {"MAKEFLAGS": flags}
        return dict(NEUTRAL)


def build(
    sim: str,
    parameters: Mapping[str, int],
    *,
    top: str = "psa_top",
    sources: Sequence[Path] | None = None,
    waves: bool = False,
    coverage: bool = False,
    probe: bool = False,
    optimise: str = OPT_FAST,
    bare: bool = False,
) -> Path:
    """Build `top` with the Verilog `parameters`, unless it is built already, and return the folder of the
    build.

    `sources` are the files of rtl/psa.f if not given, with those of the checkers where `top` has them. Raises
    `BuildError` with the compiler's message, so also for a parameter that the design refuses. With `probe`,
    `CHECKED_TOP` can write down its inside.
    """
    check_simulator(sim)
    if sim == "verilator" and " " in str(BUILD):
        raise TatamiError(f"BUILD '{BUILD}': Verilator cannot build below a path with spaces")
    files = sources_of(top) if sources is None else list(sources)
    if probe:
        files.append(PROBE)
        # the probe itself writes them; Verilator has to be told, Icarus would write them all
        waves = sim == "verilator"
    wanted = Build(sim, top, parameters, tuple(files), waves, coverage, probe, optimise, bare)
    directory, content = wanted.directory, wanted.content()
    done = directory / "done"
    with locked(directory.with_suffix(".lock")):
        if not (done.is_file() and done.read_text() == content):
            shutil.rmtree(directory, ignore_errors=True)
            directory.mkdir(parents=True)
            compile_into(directory, wanted)
            done.write_text(content)
    return directory


def sources_of(top: str) -> list[Path]:
    """The files of the machine, and of the checkers where they are around it."""
    return rtl_sources() + (checker_sources() if top in (CHECKED_TOP, CHECKED_SYSTEM) else [])


def compile_into(directory: Path, wanted: Build) -> None:
    """Raises `BuildError` with the compiler's message."""
    log = directory / "build.log"
    if wanted.bare:
        compile_bare(directory, wanted, log)
        return
    with environment(wanted.variables()):
        try:
            quiet_runner(wanted.sim).build(
                sources=wanted.files,
                includes=include_folders(),
                hdl_toplevel=wanted.top,
                parameters=wanted.parameters,
                defines={"PSA_PROBE": 1} if wanted.probe else {},
                build_args=wanted.arguments(),
                build_dir=directory,
                timescale=TIMESCALE,
                waves=wanted.waves,
                always=True,
                log_file=log,
            )
        except RuntimeError:
            raise BuildError(f"{wanted.kind} does not build:\n{errors_in(log)}\nlog: {log}") from None
    if wanted.sim == "verilator":
        if runtime_cache(wanted.flags).is_dir():
            keep_header(directory, wanted)
        else:
            keep_runtime(directory, wanted.flags)


def compile_bare(directory: Path, wanted: Build, log: Path) -> None:
    """The design with the C++ loop around it. Raises `BuildError` with the compiler's message."""
    command = [
        "verilator",
        *("--cc", "--exe", "--build", "--prefix", "Vtop", "-Mdir", str(directory), "-o", BARE),
        *("--top-module", wanted.top),
        *wanted.arguments(),
        *(f"-I{folder}" for folder in include_folders()),
        *(f"-G{name}={value}" for name, value in wanted.parameters.items()),
        *("-CFLAGS", f"-DWORD_BYTES={wanted.parameters['ROWS']}"),
        *("-CFLAGS", f"-DSTREAM_WORDS={wanted.parameters['STREAM_BITS'] // UNIT_BITS}"),
        *map(str, (*wanted.files, BARE_SOURCE)),
    ]
    with environment(wanted.variables()), log.open("w") as output:
        done = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        raise BuildError(f"{wanted.kind} does not build:\n{errors_in(log)}\nlog: {log}")


def runtime_cache(flags: Mapping[str, bool]) -> Path:
    return BUILD / "sim" / f"runtime-{digest(tool_id('verilator'), flags)[:8]}"


def header_cache(wanted: Build) -> Path:
    return BUILD / "sim" / f"header-{digest(tool_id('verilator'), wanted.flags, wanted.optimise)[:8]}"


def verilator_makeflags(wanted: Build) -> str:
    """Variables for the makefile that Verilator writes."""
    values = {
        # all C++ in one file: half the time for a small design, and no more for a large one
        "VM_PARALLEL_BUILDS": "0",
        "OPT_FAST": wanted.optimise,
        "OPT_GLOBAL": OPT_RUNTIME,
        # by default it calls `python`, which may be another one, or none
        "PYTHON3": sys.executable,
        # it writes letters that are not ASCII in octal, and then finds no such folder
        "VERILATOR_ROOT": str(verilator_root()),
    }
    runtime, header = runtime_cache(wanted.flags), header_cache(wanted)
    # link the objects of an earlier build instead of compiling the runtime again
    if runtime.is_dir():
        values |= {"VM_GLOBAL_FAST": "", "USER_LDLIBS": f"{runtime}/*.o"}
    if header.is_dir() and not wanted.bare:
        # cocotb's main becomes a part of the design's file: each file that is compiled instantiates the
        # templates of the headers again
        values["VM_USER_CLASSES"] = ""
        values["OPT"] = f"-include{header / HEADER}\\ -Winvalid-pch\\ -include{MAIN}"
    return " ".join(f"{name}={value}" for name, value in values.items())


def keep_runtime(directory: Path, flags: Mapping[str, bool]) -> None:
    """Keep the objects of Verilator's runtime, which are the same for every design and take ten seconds to
    compile.
    """
    cache = runtime_cache(flags)
    with becoming(cache) as fresh:
        for compiled in directory.glob("verilated*.o"):
            shutil.copy(compiled, fresh)


def keep_header(directory: Path, wanted: Build) -> None:
    """Keep the headers of Verilator's runtime compiled: reading them takes most of the time of a small build.
    The makefile of a build says with which flags.
    """
    cache = header_cache(wanted)
    if cache.is_dir():
        return
    with becoming(cache) as fresh, environment(wanted.variables()):
        (fresh / HEADER).write_text('#include "verilated.h"\n#include "verilated_vpi.h"\n')
        subprocess.run(
            ["make", "-C", directory, "-f", HEADER_MAKEFILE, fresh / f"{HEADER}.gch"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,  # the next builds read the headers themselves
        )


@contextmanager
def becoming(folder: Path) -> Iterator[Path]:
    """A new folder that becomes `folder`, whole or not at all; another worker may be first."""
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        fresh = Path(scratch) / folder.name
        fresh.mkdir()
        yield fresh
        with suppress(OSError):
            fresh.rename(folder)
