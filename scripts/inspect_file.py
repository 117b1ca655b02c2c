"""Show a file's network layer by layer, and what is not supported in it: `make inspect`.

Nothing is run. Ends with one line `INSPECT {json}`; exit status 0 if all of it is supported, 1 if not, 2 for
bad input.
"""

from __future__ import annotations

import json
from pathlib import Path

from pymodel.machine.config import get_config
from pymodel.machine.errors import TatamiError
from pymodel.network.integer import Shape
from pymodel.network.model_file import SKIPPABLE
from pymodel.schemes import SCHEMES, array_for, get_scheme
from pymodel.training.from_file import pruning
from pymodel.training.inspect_file import inspect_file
from scripts.command import NUMBER, SHAPE, THERE, Choice, command, console, variable, working
from scripts.show import rows_table, summary_table

WIDTH = 180


@command("inspect")
@variable("WEIGHTS", THERE, what="a .tflite, .onnx, .pt2 or network.npz file")
@variable("CONFIG", default="16x16", what="array, rows x group")
@variable("SCHEME", Choice(SCHEMES), what="prunes the network (default: each weight in a slot of its own)")
@variable("RATIO", NUMBER, what="the matrix compression that SCHEME prunes to")
@variable("SHAPE", SHAPE, what="of an input that the file leaves open")
@variable("SKIP", Choice(SKIPPABLE), what="an operator of a .onnx file to do without")
def main(
    weights: Path | None,
    config: str,
    scheme: str | None,
    ratio: float | None,
    shape: Shape | None,
    skip: str | None,
) -> int:
    if weights is None:
        raise TatamiError("WEIGHTS is not given: a .tflite, .onnx, .pt2 or network.npz file")
    scheme, to = pruning(scheme, ratio)
    on = console(WIDTH)
    array = array_for(get_scheme(scheme), get_config(config))
    with working(on) as progress:
        progress(f"compiling {weights.name}")
        found = inspect_file(weights, array, scheme, to, shape, skip)
    for title, rows in (("layers", found.layers), ("not supported", found.refused)):
        if rows:
            on.print(rows_table(title, rows))
    on.print(summary_table(found.totals))
    for note in found.notes:
        print(f"note: {note}")
    result = {**found.totals, "layers": found.layers, "refused": found.refused, "notes": found.notes}
    print("INSPECT", json.dumps(result))
    return 0 if found.totals["supported"] else 1


if __name__ == "__main__":
    main.run()
