"""The page of areas: docs/ppa.md and its plots, from what `make ppa` measured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib import style
from matplotlib.figure import Figure

from pymodel.machine.files import Fields, write_text
from pymodel.report.curves import points
from pymodel.report.page import TEMPLATES
from pymodel.report.pareto import LOOKS, SPARE
from pymodel.report.picture import STYLE
from pymodel.report.record import Report, by_network, by_scheme
from pymodel.report.tables import BOUND

SLOT_LABELS = {8: "weight of 8 bits", 4: "digit of 4 bits"}
SHOWN = 8  # blocks that a plot tells apart; the rest is one


class BlockArea(Fields):
    """All blocks of one kind in a machine: gate equivalents, flip-flops, and the most gates one after the
    other in one of them (0 if it has other blocks inside).
    """

    count: int
    gates: float
    flip_flops: int
    levels: int


class EcpArea(Fields):
    """What a machine takes of an ECP5; `path`: where the slowest path begins and ends."""

    luts: int
    flip_flops: int
    dsps: int
    block_rams: int
    mhz: float
    path: tuple[str, str]


class Area(Fields):
    """One machine of the sweep. `memory_bits` by table."""

    name: str
    size: int
    group: int
    weight_bits: int
    xor_inputs: int
    hop: int = 1
    blocks: dict[str, BlockArea]
    memory_bits: dict[str, int]
    ecp5: EcpArea | None = None

    @property
    def gates(self) -> float:
        """Gate equivalents of the machine without its memories."""
        return sum(block.gates for block in self.blocks.values())

    @property
    def flip_flops(self) -> int:
        return sum(block.flip_flops for block in self.blocks.values())

    @property
    def pe(self) -> float:
        """Gate equivalents of one PE: of those that end a hop and those inside, the mean."""
        return self.blocks["pe"].gates / self.blocks["pe"].count


class Areas(Fields):
    """docs/ppa.json. `revision`: the commit of the RTL."""

    revision: str | None
    machines: tuple[Area, ...]


def render(found: Areas, reports: Sequence[Report], out: Path) -> None:
    """Writes the page `out` and its plots, into a folder of the same name. The same files give the same
    bytes.
    """
    folder = out.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    plain = [one for one in found.machines if not one.xor_inputs]
    largest = max(one.size for one in plain)
    _pe_plot([one for one in plain if one.size == largest], folder / "pe.svg")
    _block_plot(found.machines, folder / "blocks.svg")
    plots = _speed_plots([one for one in plain if one.hop == 1], reports, folder)
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    text = environment.get_template("ppa.md.j2").render(
        found=found,
        largest=largest,
        pes=sorted(
            (one for one in plain if one.size == largest),
            key=lambda one: (-one.weight_bits, one.group, one.hop),
        ),
        blocks=_names(found.machines),
        speed=plots,
        folder=folder.name,
    )
    write_text(out, text.rstrip() + "\n")


def _names(machines: Sequence[Area]) -> list[str]:
    """The largest blocks first."""
    names = {name for one in machines for name in one.blocks}
    largest = {name: max(one.blocks[name].gates for one in machines if name in one.blocks) for name in names}
    return sorted(names, key=lambda name: (-largest[name], name))


def _pe_plot(machines: Sequence[Area], path: Path) -> None:
    with style.context(["default", STYLE]):
        figure = Figure(figsize=(5.6, 3.6), layout="constrained")
        axes = figure.add_subplot()
        kinds = sorted({(-one.weight_bits, one.hop) for one in machines})
        for bits, hop in ((-bits, hop) for bits, hop in kinds):
            line = sorted(
                (one.group, one.pe) for one in machines if (one.weight_bits, one.hop) == (bits, hop)
            )
            label = SLOT_LABELS[bits] + (f", hops of {hop} columns" if hop > 1 else "")
            axes.plot([g for g, _ in line], [gates for _, gates in line], marker="o", label=label)
        axes.set_xscale("log", base=2)
        axes.set_xlabel("GROUP: inputs that a select chooses from")
        axes.set_ylabel("gate equivalents of a PE")
        axes.set_ylim(bottom=0)
        axes.legend()
        figure.savefig(path, metadata={"Date": None})


def _block_plot(machines: Sequence[Area], path: Path) -> None:
    names = _names(machines)
    with style.context(["default", STYLE]):
        figure = Figure(figsize=(7.2, 0.8 + 0.35 * len(machines)), layout="constrained")
        axes = figure.add_subplot()
        left = [0.0] * len(machines)
        for part in (*([name] for name in names[:SHOWN]), names[SHOWN:]):
            widths = [
                sum(one.blocks[name].gates for name in part if name in one.blocks) / 1e3 for one in machines
            ]
            axes.barh(
                [one.name for one in machines],
                widths,
                left=left,
                label=part[0] if len(part) == 1 else "others",
            )
            left = [before + width for before, width in zip(left, widths, strict=True)]
        axes.invert_yaxis()
        axes.set_xlabel("thousand gate equivalents, without memories")
        axes.legend(fontsize="small")
        figure.savefig(path, metadata={"Date": None})


def _speed_plots(machines: Sequence[Area], reports: Sequence[Report], folder: Path) -> list[str]:
    """Accuracy over throughput at equal area for each network whose machines are measured; the file names.

    Throughput is the cycles of the dense network over those of the run; the area is that of the whole machine
    without its memories, over the machine of this size without selects.
    """
    known = {(one.size, one.group, one.weight_bits): one.gates for one in machines}
    made = []
    for (network, config), runs in by_network(reports).items():
        curves: dict[str, list[tuple[float, float]]] = {}
        for scheme, of_scheme in by_scheme(runs).items():
            slot, plain = (
                (of_scheme[0].size, g, b) for g, b in ((of_scheme[0].group, of_scheme[0].weight_bits), (1, 8))
            )
            if scheme == BOUND or slot not in known or plain not in known:
                continue
            area = known[slot] / known[plain]
            curves[scheme] = [(point.speedup / area, 100 * point.accuracy) for point in points(of_scheme)]
        if not curves:
            continue
        spare = iter(SPARE * len(curves))
        with style.context(["default", STYLE]):
            figure = Figure(figsize=(7.2, 4.4), layout="constrained")
            axes = figure.add_subplot()
            for scheme, curve in curves.items():
                colour, marker = LOOKS.get(scheme) or next(spare)
                axes.plot(
                    *zip(*curve, strict=True), color=colour, marker=marker, markersize=4.5, label=scheme
                )
            axes.set_xlabel("speed-up over dense, over the area of the machine with G = 1")
            axes.set_ylabel("accuracy, int8, %")
            axes.set_title(f"{network} on {config}")
            axes.legend(fontsize="small")
            made.append(f"{network}-{config}.svg")
            figure.savefig(folder / made[-1], metadata={"Date": None})
    return made
