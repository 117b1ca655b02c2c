"""Which runs of the last `make coverage` it takes to hit the same bins, lines and branches: `make rank`. Ends
with one line `RANK {json}`.

Exit status 0, 2 for bad input.
"""

from __future__ import annotations

import json

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from scripts.command import Integer, command, console, variable
from tb.flow import runner
from tb.flow.coverage import rank

SHOWN = 20
MOST = 100_000


@command("rank")
@variable(
    "BIN", what="a glob: only show which runs hit what is named so, like '*cp_outs*: 1' or 'psa_fetch.v: 120'"
)
@variable("N", Integer(1, MOST), SHOWN, "bins to show")
def main(bin: str | None, n: int) -> int:
    out, folder = console(), runner.BUILD / "coverage"
    rows = rank.read(folder / rank.FILE)
    if bin:
        found = rank.reaching(rows, bin, rank.read_toggles(folder / rank.TOGGLES))
        for name, runs in found.items():
            print(f"{name}\n  hit by {len(runs)} of {len(rows)} runs: {', '.join(runs)}")
        print(
            "RANK",
            json.dumps({"bins": len(found), "runs": len({one for runs in found.values() for one in runs})}),
        )
        return 0
    ranking = rank.rank(rows)
    show(ranking, n, out)
    path, longer = rank.write_lists(ranking, folder)
    print(f"make coverage RUNS={path}")
    if ranking.more:
        print(f"with {len(ranking.more)} more, all that toggled, too: make coverage RUNS={longer}")
    figures = {
        "runs": ranking.runs,
        "chosen": len(ranking.steps),
        "bins": ranking.bins,
        "alone": sum(len(found) for found in ranking.alone.values()),
        "idle_tests": list(ranking.idle),
        "wall_s": round(sum(row.wall_s for row in rows), 1),
        "chosen_wall_s": round(sum(step.run.wall_s for step in ranking.steps), 1),
        "list": str(path),
        "toggles": ranking.toggles,
        "chosen_for_toggles": len(ranking.steps) + len(ranking.more),
        "list_for_toggles": str(longer),
    }
    print("RANK", json.dumps(figures))
    return 0


def show(ranking: rank.Ranking, count: int, out: Console) -> None:
    table = Table(title="runs that hit all of it", title_justify="left", box=box.SIMPLE_HEAD)
    for name in ("run", "new bins", "percent then", "seconds"):
        table.add_column(name, justify="left" if name == "run" else "right")
    for step in ranking.steps:
        percent = 100 * step.total / ranking.bins
        table.add_row(escape(step.run.run), f"{step.new:,}", f"{percent:.2f}", f"{step.run.wall_s:.1f}")
    out.print(table)
    alone = [(name, run) for run, names in ranking.alone.items() for name in names]
    print(f"{len(alone):,} of {ranking.bins:,} bins are hit by one run alone" + (":" if alone else ""))
    for name, run in alone[:count]:
        print(f"  {name}, by {run}")
    if len(alone) > count:
        print(f"  and {len(alone) - count:,} more; N={len(alone)} shows all")
    print(f"tests that hit nothing of their own: {', '.join(ranking.idle) or 'none'}")


if __name__ == "__main__":
    main.run()
