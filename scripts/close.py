"""Aim at a hole of the functional coverage: `make close BIN='group.cp_point: bin' CONFIG=4x2`. It draws
programs of the test `random` until one hits the bin, and says how to run it. Ends with one line
`CLOSE {json}`.

Exit status 0 if every bin is hit, 1 if not, 2 for bad input.
"""

from __future__ import annotations

import json
import time

from rich import box
from rich.table import Table

from pymodel.machine.config import DEFAULT_CONFIG, get_config
from pymodel.machine.errors import TatamiError
from scripts.command import Integer, command, console, variable, working
from scripts.command import jobs as workers
from tb.flow.coverage import close

MOST, MAX = 2000, 1_000_000
SHOWN = 5


@command("close")
@variable("BIN", what="a glob of the bins to hit, like 'layer.cp_tiles: many'; a hole of make coverage")
@variable("CONFIG", default=DEFAULT_CONFIG, what="the array that the programs are drawn for")
@variable("N", Integer(1, MAX), MOST, "the most programs to draw")
@workers()
def main(bin: str | None, config: str, n: int, jobs: int) -> int:
    if not bin:
        raise TatamiError("BIN is not given: a glob of bins, like 'layer.cp_tiles: many'")
    array, out, begin = get_config(config), console(), time.monotonic()
    wanted = close.wanted_bins(bin, array)
    with working(out) as progress:
        closed = close.close(wanted, array, n, jobs, progress)
    table = Table(title=f"{closed.programs:,} programs", title_justify="left", box=box.SIMPLE_HEAD)
    for name in ("knobs", "programs", "bins of these points a program"):
        table.add_column(name, justify="left" if name == "knobs" else "right")
    for setting in [one for one in closed.settings if one.programs][:SHOWN]:
        near = setting.near / setting.programs
        table.add_row(str(setting.knobs) or "none", f"{setting.programs:,}", f"{near:.2f}")
    out.print(table)
    for found in closed.found:
        knobs = f" KNOBS={found.knobs}" if str(found.knobs) else ""
        print(f"{found.bin}\n  make sim TEST=random CONFIG={array.name} SEED={found.seed}{knobs}")
    for name in closed.left:
        print(f"{name}\n  not hit")
    result = {
        "hit": [{"bin": one.bin, "knobs": str(one.knobs), "seed": one.seed} for one in closed.found],
        "left": closed.left,
        "programs": closed.programs,
        "config": array.name,
        "wall_s": round(time.monotonic() - begin, 1),
    }
    print("CLOSE", json.dumps(result))
    return 1 if closed.left else 0


if __name__ == "__main__":
    main.run()
