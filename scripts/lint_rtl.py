"""Lint the RTL with Verilator's -Wall, once for each configuration, and with Icarus where it is installed. Part of `make lint`."""

from __future__ import annotations

import shutil
import subprocess
import sys

from pymodel.config import CONFIGS
from pymodel.errors import TatamiError
from tb import runner

TOP = "psa_top"
WAIVERS = "rtl/psa.vlt"


def main() -> int:
    sources = [str(path.relative_to(runner.ROOT)) for path in runner.rtl_sources()]
    clean = True
    for config in CONFIGS.values():
        parameters = config.rtl_parameters().items()
        generics = [f"-G{name}='d{value}" for name, value in parameters]  # 'd: as wide as its context, like a literal in Verilog
        commands = [["verilator", "--lint-only", "--quiet", "-Wall", *runner.VERILATOR_LANGUAGE, "--top-module", TOP, *generics, WAIVERS, *sources]]
        if shutil.which("iverilog"):
            generics = [f"-P{TOP}.{name}={value}" for name, value in parameters]
            commands.append(["iverilog", "-g2005", *runner.ICARUS_WARNINGS, "-t", "null", "-s", TOP, *generics, *sources])
        with runner.environment(runner.verilator_env()):
            for command in commands:
                done = subprocess.run(command, cwd=runner.ROOT, capture_output=True, text=True, check=False)
                output = done.stdout + done.stderr
                if done.returncode or output:
                    print(f"{command[0]}, configuration {config.name}:\n{output}", file=sys.stderr)
                    clean = False
    if clean:
        print(f"RTL lint clean: {len(sources)} files, configurations {', '.join(CONFIGS)}")
    return 0 if clean else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except TatamiError as error:
        print(f"lint_rtl: {error}", file=sys.stderr)
        sys.exit(2)
