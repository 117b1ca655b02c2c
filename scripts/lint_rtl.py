"""Lint the RTL, with and without its checkers, with Verilator's -Wall, once for each configuration, and with
Icarus if it is installed. Then yosys synthesises it, for any technology and for ECP5.

Part of `make lint`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from pymodel.machine.config import CONFIGS, DEFAULT_CONFIG, ArrayConfig
from scripts.command import command
from tb.flow import runner, simulators, synthesis
from tb.flow.sources import checker_sources, include_folders, rtl_sources
from tb.flow.testlist import CHECKED_SYSTEM, CHECKED_TOP

WAIVERS = "rtl/psa.vlt"
# the machine and its DMA: psa_top is in it
SYSTEM = "psa_system"
# the smallest, with activation tables; the default; one with the XOR decoder
SYNTHESISED = ("4x2t", DEFAULT_CONFIG, "8x4x")


@command("lint")
def main() -> int:
    rtl, checkers = rtl_sources(), checker_sources()
    tops = ((SYSTEM, rtl), (CHECKED_TOP, rtl + checkers), (CHECKED_SYSTEM, rtl + checkers))
    checks = [
        *(partial(synthesised, name) for name in SYNTHESISED),  # first, because they last
        *(partial(linted, top, files, config) for top, files in tops for config in CONFIGS.values()),
    ]
    with simulators.environment(simulators.verilator_env()), ThreadPoolExecutor(os.cpu_count()) as pool:
        found = [line for lines in pool.map(lambda check: check(), checks) for line in lines]
    for line in found:
        print(line, file=sys.stderr)
    if not found:
        print(
            f"RTL lint clean: {len(rtl)} files and {len(checkers)} of checkers, configurations"
            f" {', '.join(CONFIGS)}; synthesised: {', '.join(SYNTHESISED)}"
        )
    return 1 if found else 0


def linted(top: str, files: Sequence[Path], config: ArrayConfig) -> list[str]:
    """What the tools say of `top` in a configuration."""
    sources = [f"-I{folder.relative_to(runner.ROOT)}" for folder in include_folders()]
    sources += [str(path.relative_to(runner.ROOT)) for path in files]
    found = []
    for arguments in commands(top, sources, config):
        done = subprocess.run(arguments, cwd=runner.ROOT, capture_output=True, text=True, check=False)
        output = done.stdout + done.stderr
        if done.returncode or output:
            found.append(f"{arguments[0]}, {top}, configuration {config.name}:\n{output}")
    return found


def commands(top: str, sources: Sequence[str], config: ArrayConfig) -> Iterator[list[str]]:
    parameters = config.rtl_parameters().items()
    # 'd: as wide as its context, like a literal in Verilog
    generics = [f"-G{name}='d{value}" for name, value in parameters]
    language = simulators.VERILATOR_LANGUAGE
    yield [
        "verilator",
        "--lint-only",
        "--quiet",
        "-Wall",
        *language,
        "--top-module",
        top,
        *generics,
        WAIVERS,
        *sources,
    ]
    if not shutil.which("iverilog"):
        return
    generics = [f"-P{top}.{name}={value}" for name, value in parameters]
    # the build that writes waves is SystemVerilog, which has more keywords
    for dialect in ("-g2005", "-g2012"):
        yield ["iverilog", dialect, *simulators.ICARUS_WARNINGS, "-t", "null", "-s", top, *generics, *sources]


def synthesised(name: str) -> list[str]:
    """What does not become what it is meant to be in a configuration."""
    found = synthesis.problems(SYSTEM, CONFIGS[name].rtl_parameters())
    return [f"yosys, {SYSTEM}, configuration {name}: {line}" for line in found]


if __name__ == "__main__":
    main.run()
