"""The pages of what compression reaches and of what the machine costs, from the reports that are kept."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pymodel.machine.errors import TatamiError
from pymodel.machine.files import checked, read_json
from pymodel.report.page import plot_names
from pymodel.report.ppa import Areas
from pymodel.report.record import by_network, read_reports
from pymodel.report.tables import run_rows
from tb.flow.pages.site import Site

RESULTS, PPA = "results.html", "ppa.html"


@dataclass(frozen=True)
class Network:
    """The reports of a network on an array: head and rows of their table, and their plots by file name."""

    name: str
    config: str
    columns: list[str]
    rows: list[list[str]]
    plots: list[str]


def write_results(site: Site, folder: Path) -> None:
    """From the reports in a folder, and the plots of their page beside them."""
    networks = []
    for (name, config), reports in by_network(read_reports(folder)).items():
        columns, rows = run_rows(reports)
        files = [folder / plot for plot in plot_names(name, config)]
        plots = [site.add(path) for path in files if path.is_file()]
        networks.append(Network(name, config, [column.title for column in columns], rows, plots))
    site.write(RESULTS, "results.html", networks=networks)


def write_ppa(site: Site, path: Path) -> None:
    """From what `make ppa` measured, and the plots of its page beside it."""
    found = checked(Areas, read_json(path), path)
    if not found.machines:
        raise TatamiError(f"{path}: field 'machines' is empty")
    blocks = sorted(
        {name for one in found.machines for name in one.blocks},
        key=lambda name: -max(one.blocks[name].gates for one in found.machines if name in one.blocks),
    )
    # results may have plots of the same names
    plots = [site.add(plot, f"ppa-{plot.name}") for plot in sorted(path.with_suffix("").glob("*.svg"))]
    site.write(PPA, "ppa.html", found=found, blocks=blocks, plots=plots)
