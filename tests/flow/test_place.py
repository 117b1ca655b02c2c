"""Placement: the clock, the size and the limiting path that it finds."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from pymodel.machine.config import CONFIGS
from pymodel.machine.errors import TatamiError
from scripts import bench
from tb.flow import place
from tb.flow.sources import rtl_sources
from tests.support import assert_refused

# a sum of WIDTH bits, with as many flip-flops
ADDER = """module adder #(
    parameter WIDTH = 8
) (
    input  wire                    clk,
    input  wire [WIDTH-1:0]        a,
    // with a comment, and a comma
    input  wire signed [WIDTH-1:0] b,
    output wire [WIDTH-1:0]        sum
);
reg [WIDTH-1:0] sum_reg;
assign sum = sum_reg;
always @(posedge clk) sum_reg <= a + b + sum_reg;
endmodule
"""


@pytest.fixture
def adder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    monkeypatch.setattr(place, "BUILD", tmp_path / "build")
    source = tmp_path / "adder.v"
    source.write_text(ADDER)
    return [source]


def test_size_clock_and_path(adder: list[Path]) -> None:
    short, long = (place.place("adder", {"WIDTH": width}, adder) for width in (8, 64))
    assert (short.flip_flops, long.flip_flops) == (8, 64)
    assert (short.dsps, short.block_rams) == (0, 0)
    assert short.luts < long.luts
    assert 500 > short.mhz > long.mhz > 50
    assert short.levels < long.levels, "a longer carry"
    assert (long.path[0], long.path[-1]) in {("a", "sum_reg"), ("b", "sum_reg"), ("sum_reg", "sum_reg")}


def test_a_design_is_placed_once(adder: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    first = place.place("adder", {}, adder)
    monkeypatch.setattr(place, "NEXTPNR", Path("/nowhere/nextpnr"))
    assert place.place("adder", {}, adder) == first
    adder[0].write_text(ADDER.replace("a + b", "a - b"))
    with pytest.raises(TatamiError, match="/nowhere/nextpnr not found"):
        place.place("adder", {}, adder)


def test_what_cannot_be_placed_is_one_line(adder: list[Path]) -> None:
    with pytest.raises(TatamiError, match="adder has no parameter DEPTH; it has: WIDTH"):
        place.place("adder", {"DEPTH": 8}, adder)
    with pytest.raises(TatamiError, match="no module other with a header"):
        place.place("other", {}, adder)
    adder[0].write_text(ADDER.replace("a + b", "missing(a)"))
    with pytest.raises(TatamiError, match="Can't resolve function name .*missing"):
        place.place("adder", {}, adder)


@pytest.mark.parametrize("name", CONFIGS)
def test_every_block_has_its_parameters(name: str) -> None:
    """All but memories, queues and delay lines, which are parts of others, and what has blocks in it."""
    names = {path.stem.removeprefix("psa_") for path in rtl_sources()}
    assert names - set(place.block_parameters(CONFIGS[name])) == {
        *("ram", "delay", "fifo"),
        *("top", "core", "array", "column", "system"),
    }


def test_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def placed(top: str, parameters: dict[str, int]) -> place.Placed:
        asked.append((top, parameters))
        mhz = 99.9 if top == "psa_lane" else 100.0
        return place.Placed(
            luts=1, flip_flops=2, dsps=0, block_rams=0, mhz=mhz, levels=3, path=("a_reg", "b_reg")
        )

    monkeypatch.setattr(place, "place", placed)
    figures = place.clock(Console(quiet=True), block="la*")
    assert asked == [("psa_lane", {"T": 8, "GROUP": 8})]
    assert not figures["passed"]
    assert place.clock(Console(quiet=True), "16x8", "top")["passed"]
    assert asked[-1] == ("psa_top", CONFIGS["16x8"].rtl_parameters())
    with pytest.raises(TatamiError, match=r"BLOCK 'nonsense' matches no block; there are: .*, pe, .*, top"):
        place.clock(Console(quiet=True), block="nonsense")


@pytest.mark.parametrize("option", ["--config=8x4", "--block=pe"])
def test_only_this_bench_takes_blocks(option: str) -> None:
    name = option[2:].partition("=")[0].upper()
    assert_refused(
        "bench", ["--bench=windows", option], f"{name} is given: BENCH 'windows' takes none, only clock"
    )


def test_the_command_passes_on_what_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def clock(_: Console, **given: str) -> dict[str, bool]:
        asked.append(given)
        return {"passed": True}

    monkeypatch.setattr(place, "clock", clock)
    assert bench.main(["--bench=clock", "--config=8x4", "--block=p*"]) == 0
    assert asked == [{"config": "8x4", "block": "p*"}]
