"""Lint the RTL, with and without its checkers, with Verilator's -Wall, once for each configuration, and with
Icarus if it is installed.

Part of `make lint`.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from pymodel.machine.config import CONFIGS
from pymodel.machine.errors import TatamiError
from tb.flow import runner
from tb.flow.testlist import CHECKED_TOP

WAIVERS = "rtl/psa.vlt"


def main() -> int:
    rtl, checkers = runner.rtl_sources(), runner.checker_sources()
    clean = all([lint("psa_top", rtl), lint(CHECKED_TOP, rtl + checkers)])
    if clean:
        print(
            f"RTL lint clean: {len(rtl)} files and {len(checkers)} of checkers, configurations"
            f" {', '.join(CONFIGS)}"
        )
    return 0 if clean else 1


def lint(top: str, files: Sequence[Path]) -> bool:
    """Whether `top` is clean in every configuration. Prints the warnings."""
    sources = [str(path.relative_to(runner.ROOT)) for path in files]
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
                *runner.VERILATOR_LANGUAGE,
                "--top-module",
                top,
                *generics,
                WAIVERS,
                *sources,
            ]
        ]
        if shutil.which("iverilog"):
            generics = [f"-P{top}.{name}={value}" for name, value in parameters]
            commands.append(
                ["iverilog", "-g2005", *runner.ICARUS_WARNINGS, "-t", "null", "-s", top, *generics, *sources]
            )
        with runner.environment(runner.verilator_env()):
            for command in commands:
                done = subprocess.run(command, cwd=runner.ROOT, capture_output=True, text=True, check=False)
                output = done.stdout + done.stderr
                if done.returncode or output:
                    print(f"{command[0]}, {top}, configuration {config.name}:\n{output}", file=sys.stderr)
                    clean = False
    return clean


if __name__ == "__main__":
    try:
        sys.exit(main())
    except TatamiError as error:
        print(f"lint_rtl: {error}", file=sys.stderr)
        sys.exit(2)
