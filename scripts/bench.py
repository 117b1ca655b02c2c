"""Measure something and print it: `make bench`. Ends with one line `BENCH {json}`.

Exit status 0 if the figures reach their targets, 1 if not, 2 for bad input.
"""

from __future__ import annotations

import importlib
import json
from pathlib import Path

from pymodel.machine.errors import TatamiError
from scripts.command import Choice, command, console, variable

# Functions of a console, which print their tables and return their figures, `passed` among them; imported
# when asked for.
BENCHES = {
    "env": ("tb.flow.bench", "env"),
    "sim": ("tb.flow.bench", "sim"),
    "packing": ("pymodel.bench.packing", "run"),
    "joint": ("pymodel.bench.joint", "run"),
    "xor": ("pymodel.bench.xor", "run"),
    "speed": ("pymodel.bench.speed", "run"),
    "windows": ("pymodel.bench.windows", "run"),
    "pe": ("tb.flow.synthesis", "pe"),
}
# Those that measure on the weights of a file, if one is given.
WEIGHED = ("packing", "joint", "speed")


@command("bench")
@variable("BENCH", Choice(BENCHES), what="what to measure")
@variable("WEIGHTS", what=f"a state_dict to measure on ({', '.join(WEIGHED)}); without it, made-up weights")
def main(bench: str | None, weights: str | None) -> int:
    if bench is None:
        raise TatamiError(f"BENCH '' is unknown; valid: {', '.join(BENCHES)}")
    if weights and bench not in WEIGHED:
        raise TatamiError(f"WEIGHTS is '{weights}': BENCH '{bench}' takes none, only {', '.join(WEIGHED)} do")
    module, function = BENCHES[bench]
    run = getattr(importlib.import_module(module), function)
    figures = run(console(), Path(weights)) if weights else run(console())
    print("BENCH", json.dumps(figures))
    return 0 if figures["passed"] else 1


if __name__ == "__main__":
    main.run()
