"""Lint the RTL, with and without its checkers, with Verilator's -Wall, once for each configuration, and with
Icarus if it is installed. Then yosys synthesises it, for any technology and for ECP5.

Part of `make lint`.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from pymodel.machine.config import CONFIGS, DEFAULT_CONFIG
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
    clean = all([*(lint(top, files) for top, files in tops), *map(synthesise, SYNTHESISED)])
    if clean:
        print(
            f"RTL lint clean: {len(rtl)} files and {len(checkers)} of checkers, configurations"
            f" {', '.join(CONFIGS)}; synthesised: {', '.join(SYNTHESISED)}"
        )
    return 0 if clean else 1


def lint(top: str, files: Sequence[Path]) -> bool:
    """Whether `top` is clean in every configuration. Prints the warnings."""
    sources = [f"-I{folder.relative_to(runner.ROOT)}" for folder in include_folders()]
    sources += [str(path.relative_to(runner.ROOT)) for path in files]
    clean = True
    for config in CONFIGS.values():
        parameters = config.rtl_parameters().items()
        # 'd: as wide as its context, like a literal in Verilog
        generics = [f"-G{name}='d{value}" for name, value in parameters]
        commands = [
            [
                "verilator",
                "--lint-only",
                "--quiet",
                "-Wall",
                *simulators.VERILATOR_LANGUAGE,
                "--top-module",
                top,
                *generics,
                WAIVERS,
                *sources,
            ]
        ]
        if shutil.which("iverilog"):
            generics = [f"-P{top}.{name}={value}" for name, value in parameters]
            # the build that writes waves is SystemVerilog, which has more keywords
            commands += [
                [
                    "iverilog",
                    language,
                    *simulators.ICARUS_WARNINGS,
                    "-t",
                    "null",
                    "-s",
                    top,
                    *generics,
                    *sources,
                ]
                for language in ("-g2005", "-g2012")
            ]
        with simulators.environment(simulators.verilator_env()):
            for arguments in commands:
                done = subprocess.run(arguments, cwd=runner.ROOT, capture_output=True, text=True, check=False)
                output = done.stdout + done.stderr
                if done.returncode or output:
                    print(f"{arguments[0]}, {top}, configuration {config.name}:\n{output}", file=sys.stderr)
                    clean = False
    return clean


def synthesise(name: str) -> bool:
    """Whether the machine synthesises as it is meant in a configuration. Prints what does not."""
    found = synthesis.problems(SYSTEM, CONFIGS[name].rtl_parameters())
    for line in found:
        print(f"yosys, {SYSTEM}, configuration {name}: {line}", file=sys.stderr)
    return not found


if __name__ == "__main__":
    main.run()
