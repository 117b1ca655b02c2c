"""Measure something and print it: `make bench`. Ends with one line `BENCH {json}`.

Exit status 0 if the figures reach their targets, 1 if not, 2 for bad input.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from pathlib import Path

from rich.console import Console

from pymodel.machine.errors import TatamiError

# Functions of a console, which print their tables and return their figures, `passed` among them; imported
# when asked for.
BENCHES = {
    "env": ("tb.flow.bench", "env"),
    "packing": ("pymodel.bench.packing", "run"),
    "joint": ("pymodel.bench.joint", "run"),
    "xor": ("pymodel.bench.xor", "run"),
    "speed": ("pymodel.bench.speed", "run"),
}
# Those that measure on the weights of a file, if one is given.
WEIGHED = ("packing", "joint", "speed")


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bench", default="", help=f"one of: {', '.join(BENCHES)}")
    parser.add_argument(
        "--weights",
        default="",
        help=f"a state_dict to measure on ({', '.join(WEIGHED)}); without it, made-up weights",
    )
    given = parser.parse_args(arguments)
    if given.bench not in BENCHES:
        raise TatamiError(f"BENCH '{given.bench}' is unknown; valid: {', '.join(BENCHES)}")
    if given.weights and given.bench not in WEIGHED:
        raise TatamiError(
            f"WEIGHTS is '{given.weights}': BENCH '{given.bench}' takes none, only {', '.join(WEIGHED)} do"
        )
    module, function = BENCHES[given.bench]
    run = getattr(importlib.import_module(module), function)
    console = Console(width=None if sys.stdout.isatty() else 140, highlight=False)
    figures = run(console, Path(given.weights)) if given.weights else run(console)
    print("BENCH", json.dumps(figures))
    return 0 if figures["passed"] else 1


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except TatamiError as error:
        print(f"{Path(__file__).stem}: {error}", file=sys.stderr)
        sys.exit(2)
