"""Measure something and print it: `make bench`. Ends with one line `BENCH {json}`.

Exit status 0 if the figures reach their targets, 1 if not, 2 for bad input.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from pymodel.errors import TatamiError
from tb import bench

# Each prints its tables and returns its figures, `passed` among them.
BENCHES: dict[str, Callable[[Console], dict[str, Any]]] = {
    "env": bench.env,
}


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bench", default="", help=f"one of: {', '.join(BENCHES)}")
    name = parser.parse_args(arguments).bench
    if name not in BENCHES:
        raise TatamiError(f"BENCH '{name}' is unknown; valid: {', '.join(BENCHES)}")
    figures = BENCHES[name](Console(width=None if sys.stdout.isatty() else 140, highlight=False))
    print("BENCH", json.dumps(figures))
    return 0 if figures["passed"] else 1


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except TatamiError as error:
        print(f"{Path(__file__).stem}: {error}", file=sys.stderr)
        sys.exit(2)
