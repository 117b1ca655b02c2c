"""Measure the area of the machine over its sizes, and render docs/ppa.md: `make ppa`. Ends with one line
`PPA {json}`; exit status 0, or 2 for bad input.

What was measured is kept below build/ by content, so that the command continues where it was stopped.
"""

from __future__ import annotations

import json
import time
from concurrent.futures import as_completed
from functools import partial

from rich.table import Table

from pymodel.machine.files import write_json
from pymodel.machine.places import ROOT
from scripts.command import SWITCH, command, console, need, variable, working
from scripts.command import jobs as workers
from tb.flow import ppa, provenance
from tb.flow.processes import processes

PAGE, REPORTS = ROOT / "docs" / "ppa.md", ROOT / "docs" / "results"


@command("ppa")
@variable("ALL", SWITCH, False, "1 measures every machine of the sweep, not a quick selection")
@workers()
def main(all: bool, jobs: int) -> int:
    need("matplotlib", "jinja2", group="pages")
    from pymodel.report.ppa import Area, Areas, render
    from pymodel.report.record import read_reports

    out, begin = console(), time.monotonic()
    chosen = ppa.machines(every=all)
    found: dict[str, Area] = {}
    with processes(jobs) as pool, working(out) as progress:
        under_way = {
            pool.submit(partial(ppa.measure, config, placed=ppa.fits(config, every=all))): config
            for config in chosen
        }
        for done in as_completed(under_way):
            found[under_way[done].name] = done.result()
            progress(f"{len(found)} of {len(chosen)} machines measured")
    machines = tuple(found[config.name] for config in chosen)
    areas = Areas(revision=provenance.rtl_revision(), machines=machines)
    write_json(PAGE.with_suffix(".json"), areas.model_dump())
    render(areas, read_reports(REPORTS), PAGE)
    shown = Table(title="Gate equivalents without memories")
    for heading in ("machine", "PE", "all PEs", "machine, thousands", "flip-flops", "MHz on ECP5"):
        shown.add_column(heading, justify="left" if heading == "machine" else "right")
    for one in machines:
        shown.add_row(
            one.name,
            f"{one.pe:,.0f}",
            f"{one.blocks['pe'].gates / one.gates:.0%}",
            f"{one.gates / 1e3:,.1f}",
            f"{one.flip_flops:,}",
            str(one.ecp5.mhz) if one.ecp5 else "-",
        )
    out.print(shown)
    rows = [
        {
            "machine": one.name,
            "gates": round(one.gates),
            "pe": round(one.pe, 1),
            "flip_flops": one.flip_flops,
            "mhz": one.ecp5.mhz if one.ecp5 else None,
        }
        for one in machines
    ]
    print("PPA", json.dumps({"machines": rows, "wall_s": round(time.monotonic() - begin, 1)}))
    return 0


if __name__ == "__main__":
    main.run()
