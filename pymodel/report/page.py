"""The page of results: tables, the Pareto plots of each network, and matrix pictures, from a folder of
reports.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pymodel.machine.errors import TatamiError
from pymodel.machine.files import write_text
from pymodel.report.area import PE_TRANSISTORS
from pymodel.report.curves import DROP_NAMES
from pymodel.report.pareto import pareto
from pymodel.report.record import by_network, by_point, read_reports
from pymodel.report.tables import (
    BASELINE,
    density_rows,
    held_rows,
    int8_apart,
    reference,
    run_rows,
    sparsity_rows,
    subword_rows,
    tier_rows,
    training_lines,
)

TEMPLATES = Path(__file__).parent / "templates"
PICTURES = (".png", ".svg")


def picture_name(network: str, scheme: str, layer: str) -> str:
    """The file name by which `render` finds a matrix picture beside the reports:
    network--scheme--layer.png.
    """
    return f"{network}--{scheme}--{layer}.png"


def plot_names(network: str, config: str) -> tuple[str, str]:
    """The file names of the plots of accuracy over compression and over speed-up."""
    return f"{network}-{config}.svg", f"{network}-{config}-speed.svg"


def render(reports: Path, out: Path, *, command: str | None = None, missing: Sequence[str] = ()) -> None:
    """Renders the folder `reports` as the page `out` (docs/results.md), with its pictures in a folder of the
    same name (docs/results/).

    Pictures beside the reports are shown if they are named as in `picture_name`. They are copied if that
    folder is another one. `command`, which made the reports, is printed, and the runs that have none yet
    (`missing`), which may be all. The same files give the same bytes.
    Raises `TatamiError` as `read_reports` does, for a picture of a network that has no report, and if the
    page cannot be written.
    """
    found = [] if missing and not any(reports.glob("*.json")) else read_reports(reports)
    folder = out.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    plots = {
        key: (folder / accuracy, folder / speed)
        for key in by_network(found)
        for accuracy, speed in (plot_names(*key),)
    }
    pictures = _pictures(
        reports, {r.network for r in found}, {plot.name for pair in plots.values() for plot in pair}
    )
    networks = []
    for (network, config), runs in by_network(found).items():
        plot, speed_plot = plots[network, config]
        pareto(runs, plot)
        has_speed = pareto(runs, speed_plot, "speedup")
        columns, rows = run_rows(runs)
        networks.append(
            {
                "name": network,
                "config": config,
                "first": runs[0],
                "reference": reference(runs),
                "plot": f"{folder.name}/{plot.name}",
                "speed_plot": f"{folder.name}/{speed_plot.name}" if has_speed else None,
                "columns": columns,
                "rows": rows,
                "apart": f"{100 * int8_apart(runs):.2f}",
                "held": held_rows(runs),
                "tiers": tier_rows(runs),
                "subword": subword_rows(runs),
                "sparsity": sparsity_rows(runs),
                "density": density_rows(runs),
                "penni": any(r.parameters_pruned is not None for r in runs),
                "training": training_lines(runs),
                "revisions": _distinct([r.revision for r in runs]),
                "tools": _distinct([r.tools_text for r in runs]),
                "seeds": min(len(point) for point in by_point(runs)),
            }
        )
    shown = []
    for file, (network, scheme, layer) in pictures.items():
        if file.parent != folder:
            shutil.copyfile(file, folder / file.name)
        shown.append(
            {"path": f"{folder.name}/{file.name}", "network": network, "scheme": scheme, "layer": layer}
        )
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,
    )
    page = environment.get_template("results.md.j2").render(
        networks=networks,
        pictures=shown,
        reports=len(found),
        command=command,
        missing=missing,
        pes=PE_TRANSISTORS,
        baseline=BASELINE,
        drops=list(DROP_NAMES),
    )
    write_text(out, re.sub(r"\n{3,}", "\n\n", page).rstrip() + "\n")


def _pictures(reports: Path, networks: set[str], plots: set[str]) -> dict[Path, tuple[str, str, str]]:
    """Matrix pictures beside the reports: (network, scheme, layer) of each.

    `plots` are the names of the page's own.
    """
    found = {}
    for file in sorted(reports.iterdir()) if reports.is_dir() else []:
        if file.suffix not in PICTURES or file.name in plots:
            continue
        parts = file.stem.split("--")
        if len(parts) != 3 or not all(parts):
            raise TatamiError(f"picture '{file}': name must be network--scheme--layer{file.suffix}")
        if parts[0] not in networks:
            raise TatamiError(f"picture '{file}': there is no report of network '{parts[0]}'")
        found[file] = (parts[0], parts[1], parts[2])
    return found


def _distinct(values: Sequence[str | None]) -> list[str]:
    return sorted({v for v in values if v is not None})
