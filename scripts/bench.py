"""Measure something and print it: `make bench`. Ends with one line `BENCH {json}`.

Exit status 0 if the figures reach their targets, 1 if not, 2 for bad input.
"""

from __future__ import annotations

import importlib
import json
from pathlib import Path

from pymodel.machine.errors import TatamiError
from scripts.command import THERE, Choice, Integer, command, console, variable

# Functions of a console, which print their tables and return their figures, `passed` among them; imported
# when asked for.
BENCHES = {
    "env": ("tb.flow.bench", "env"),
    "sim": ("tb.flow.bench", "sim"),
    "packing": ("pymodel.bench.packing", "run"),
    "joint": ("pymodel.bench.joint", "run"),
    "half_passes": ("pymodel.bench.half_passes", "run"),
    "xor": ("pymodel.bench.xor", "run"),
    "speed": ("pymodel.bench.speed", "run"),
    "windows": ("pymodel.bench.windows", "run"),
    "runtime": ("pymodel.bench.runtime", "run"),
    "operators": ("pymodel.bench.operators", "run"),
    "onnx_zoo": ("tb.flow.onnx_zoo", "run"),
    "pe": ("tb.flow.synthesis", "pe"),
}
# Those that measure on the weights of a file, if one is given, and the one that must be given a file.
WEIGHED = ("packing", "joint", "half_passes", "speed")
FILED = "runtime"
MOST_IMAGES = 10_000


@command("bench")
@variable("BENCH", Choice(BENCHES), what="what to measure")
@variable("WEIGHTS", what=f"a state_dict to measure on ({', '.join(WEIGHED)}); without it, made-up weights")
@variable(
    "DATA", THERE, what=f"images for {FILED}: folder cifar-10-batches-py, .npy or .npz (random without)"
)
@variable("IMAGES", Integer(1, MOST_IMAGES), what=f"how many images {FILED} takes (default: 200)")
def main(bench: str | None, weights: str | None, data: Path | None, images: int | None) -> int:
    if bench is None:
        raise TatamiError(f"BENCH '' is unknown; valid: {', '.join(BENCHES)}")
    known = (*WEIGHED, FILED)
    if weights and bench not in known:
        raise TatamiError(f"WEIGHTS is '{weights}': BENCH '{bench}' takes none, only {', '.join(known)} do")
    for name, given in (("DATA", data), ("IMAGES", images)):
        if given is not None and bench != FILED:
            raise TatamiError(f"{name} is given: BENCH '{bench}' takes none, only {FILED} does")
    if bench == FILED and not weights:
        raise TatamiError(f"WEIGHTS is not given: BENCH '{bench}' needs a .tflite or .onnx file")
    module, function = BENCHES[bench]
    run = getattr(importlib.import_module(module), function)
    more = {name: value for name, value in (("data", data), ("images", images)) if value is not None}
    figures = run(console(), Path(weights), **more) if weights else run(console())
    print("BENCH", json.dumps(figures))
    return 0 if figures["passed"] else 1


if __name__ == "__main__":
    main.run()
