"""Measure something and print it: `make bench`. Ends with one line `BENCH {json}`.

Exit status 0 if the figures reach their targets, 1 if not, 2 for bad input.
"""

from __future__ import annotations

import importlib
import json
import signal
from pathlib import Path

from pymodel.machine.errors import TatamiError
from scripts.command import THERE, Choice, Integer, command, console, need, variable
from scripts.farm import NEEDED

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
    "large": ("pymodel.bench.large", "run"),
    "windows": ("pymodel.bench.windows", "run"),
    "runtime": ("pymodel.bench.runtime", "run"),
    "operators": ("tb.flow.operators", "run"),
    "onnx_zoo": ("tb.flow.onnx_zoo", "run"),
    "farm": ("tb.flow.overhead", "run"),
    "history": ("tb.flow.history.bench", "run"),
    "pages": ("tb.flow.pages.bench", "run"),
    "shrink": ("tb.flow.shrink.bench", "run"),
    "pe": ("tb.flow.synthesis", "pe"),
    "clock": ("tb.flow.place", "clock"),
}
# Those that measure on the weights of a file, if one is given, and the one that must be given a file.
WEIGHED = ("packing", "joint", "half_passes", "speed")
FILED = "runtime"
PLACED = "clock"
FARMED = "farm"
MOST_IMAGES, MOST_SEEDS = 10_000, 10_000


@command("bench")
@variable("BENCH", Choice(BENCHES), what="what to measure")
@variable("WEIGHTS", what=f"a state_dict to measure on ({', '.join(WEIGHED)}); without it, made-up weights")
@variable(
    "DATA", THERE, what=f"images for {FILED}: folder cifar-10-batches-py, .npy or .npz (random without)"
)
@variable("IMAGES", Integer(1, MOST_IMAGES), what=f"how many images {FILED} takes (default: 200)")
@variable("CONFIG", what=f"the machine whose blocks {PLACED} places (default: blocks of 8 x 8, top of 4 x 4)")
@variable("BLOCK", what=f"a glob of the blocks that {PLACED} places; the whole machine is 'top'")
@variable("N", Integer(1, MOST_SEEDS), what=f"seeds of the regression of {FARMED} (default: 60)")
@variable("TESTS", what=f"globs of the tests of {FARMED} (default: random)")
def main(
    bench: str | None,
    weights: str | None,
    data: Path | None,
    images: int | None,
    config: str | None,
    block: str | None,
    n: int | None,
    tests: str | None,
) -> int:
    if bench is None:
        raise TatamiError(f"BENCH '' is unknown; valid: {', '.join(BENCHES)}")
    known = (*WEIGHED, FILED)
    if weights and bench not in known:
        raise TatamiError(f"WEIGHTS is '{weights}': BENCH '{bench}' takes none, only {', '.join(known)} do")
    special = (
        ("DATA", data, FILED),
        ("IMAGES", images, FILED),
        ("CONFIG", config, PLACED),
        ("BLOCK", block, PLACED),
        ("N", n, FARMED),
        ("TESTS", tests, FARMED),
    )
    for name, given, reader in special:
        if given is not None and bench != reader:
            raise TatamiError(f"{name} is given: BENCH '{bench}' takes none, only {reader} does")
    if bench == FILED and not weights:
        raise TatamiError(f"WEIGHTS is not given: BENCH '{bench}' needs a .tflite or .onnx file")
    module, function = BENCHES[bench]
    if bench == FARMED:
        need(*NEEDED, group="farm")
    run = getattr(importlib.import_module(module), function)
    more = {name.lower(): given for name, given, _ in special if given is not None}
    figures = run(console(), Path(weights), **more) if weights else run(console(), **more)
    print("BENCH", json.dumps(figures))
    return 0 if figures["passed"] else 1


if __name__ == "__main__":
    # the servers of a farm end with it
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    main.run()
