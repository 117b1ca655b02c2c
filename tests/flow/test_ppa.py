"""`make ppa`: the area of a machine is the sum of the cells that its blocks need, and the page shows it."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pymodel.machine.config import ArrayConfig
from pymodel.machine.errors import TatamiError
from pymodel.machine.memory import memories, slot_memory
from pymodel.report.ppa import Area, Areas, BlockArea, EcpArea, render
from pymodel.report.record import read_reports
from scripts import ppa as command
from tb.flow import ppa
from tb.flow.sources import rtl_sources, texts

# A machine of two kinds of blocks and a memory. `psa_pe`: a NAND gate and two flip-flops; `psa_top` has an
# inverter of its own.
TOP = """
module psa_top #(parameter ROWS = 4) (input wire clk, input wire a, input wire b, output wire y);
wire [ROWS:0] line;
wire stored;
assign line[0] = a;
genvar i;
generate for (i = 0; i < ROWS; i = i + 1) begin : row
    psa_pe pe (.clk(clk), .a(line[i]), .b(b), .y(line[i + 1]));
end endgenerate
psa_ram #(.WIDTH(1), .DEPTH(64)) ram (
    .clk(clk), .wr_en(a), .wr_addr({6{b}}), .wr_data(a), .rd_en(b), .rd_addr({6{a}}), .rd_data(stored)
);
assign y = ~(line[ROWS] ^ stored);
endmodule
"""
PE = """
module psa_pe (input wire clk, input wire a, input wire b, output reg y);
reg kept;
always @(posedge clk) begin
    kept <= ~(a & b);
    y <= kept;
end
endmodule
"""


FOUR, EIGHT = (ppa.machine(size, 4, 8) for size in (4, 8))


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Its sources; what is measured is kept elsewhere."""
    monkeypatch.setattr(ppa, "BUILD", tmp_path / "build")
    (ram,) = (path for path in rtl_sources() if path.stem == "psa_ram")
    (tmp_path / "psa_top.v").write_text(TOP)
    (tmp_path / "psa_pe.v").write_text(PE)
    return [ram, tmp_path / "psa_top.v", tmp_path / "psa_pe.v"]


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ppa.ArrayConfig, "rtl_parameters", lambda self: {"ROWS": self.size})


@pytest.mark.usefixtures("settings")
def test_gates_and_flip_flops_are_counted_by_block(tiny: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    found = ppa.measure(FOUR, placed=False, sources=tiny)
    assert set(found.blocks) == {"pe", "top"}
    pe = found.blocks["pe"]
    assert (pe.count, pe.flip_flops) == (4, 8)
    assert pe.gates == pytest.approx(4 * (1 + 2 * 4.522 / 0.798), abs=0.1)
    assert (pe.levels, found.blocks["top"].levels) == (1, 0)
    assert found.blocks["top"].gates == pytest.approx(1.596 / 0.798)  # one XNOR
    assert found.memory_bits == {"top": 64}
    assert found.pe == pytest.approx(pe.gates / 4)
    assert found.flip_flops == 8
    # eight rows are another machine, the same again is not measured again
    assert ppa.measure(EIGHT, placed=False, sources=tiny).blocks["pe"].count == 8
    monkeypatch.setattr(ppa, "yosys_in", None)
    assert ppa.measure(FOUR, placed=False, sources=tiny) == found


@pytest.mark.parametrize("config", [FOUR, ppa.machine(8, 2, 4, 16)], ids=["4x4", "8x2w4x"])
def test_the_bits_of_memories_are_those_of_the_rtl(config: ArrayConfig) -> None:
    """As wide and deep as a program sees them. Each bank has a TAP table of its own, and sums of 32 bits. The
    sequencer keeps what it needs of checked records, in fewer bits.
    """
    found = ppa.memory_bits(config, texts())
    tables = {name: memory.depth * memory.width for name, memory in memories(config).items()}
    slots = slot_memory(config)
    for name in ("PROGRAM", "TILE"):
        assert 0.8 * tables[name] < found.pop(name) < tables.pop(name)
    assert found == tables | {
        "SLOT": slots.depth * slots.width,
        "TAP": config.group * tables["TAP"],
        "FEATURE": config.group * config.feature_depth * config.size * 8,
        "sums": config.size * config.acc_words * config.size * 32,
    }


@pytest.mark.usefixtures("settings")
def test_what_does_not_synthesise_is_one_line(tiny: list[Path]) -> None:
    tiny[1].write_text(TOP.replace("psa_pe pe", "psa_nothing pe"))
    with pytest.raises(TatamiError, match="psa_top of '4x4': yosys: ERROR: .*psa_nothing"):
        ppa.measure(FOUR, placed=False, sources=tiny)


def test_the_sweep_has_every_machine_once() -> None:
    every = [config.name for config in ppa.machines(every=True)]
    assert len(every) == len(set(every)) >= 3 * 5 * 2
    assert {config.name for config in ppa.machines(every=False)} <= set(every)
    assert {"16x16w4", "16x8x", "4x1", "16x16h16", "8x8h4"} <= set(every)


def area(size: int, group: int, bits: int, gates: float, hop: int = 1) -> Area:
    return Area(
        name=f"{size}x{group}w{bits}" + (f"h{hop}" if hop > 1 else ""),
        size=size,
        hop=hop,
        group=group,
        weight_bits=bits,
        xor_inputs=0,
        blocks={
            "pe": BlockArea(count=size**2, gates=gates * size**2, flip_flops=30 * size**2, levels=9),
            "fetch": BlockArea(count=1, gates=1000.0, flip_flops=100, levels=20),
        },
        memory_bits={"SLOT": 2048},
        ecp5=EcpArea(luts=5, flip_flops=4, dsps=3, block_rams=2, mhz=99.5, path=("a", "b"))
        if group == 1
        else None,
    )


def test_the_page(tmp_path: Path) -> None:
    machines = tuple(area(16, group, bits, 300.0 * bits + 10 * group) for bits in (8, 4) for group in (1, 16))
    machines += (area(16, 16, 8, 2440.0, hop=4),)
    out = tmp_path / "ppa.md"
    reports = read_reports(command.REPORTS)
    render(Areas(revision="abc", machines=machines), reports, out)
    text = out.read_text()
    assert "| 8 bits | 16 | 1 | 2,560 | 30 | 9 | 1.06 |\n| 8 bits | 16 | 4 | 2,440 | 30 | 9 | 1.01 |" in text
    assert "| **all** | 618.0 | 656.4 | 310.8 | 349.2 | 625.6 |" in text
    assert "| 16x1w8 | 5 | 4 | 3 | 2 | 99.5 | `a` to `b` |" in text
    assert sorted(path.name for path in (tmp_path / "ppa").iterdir()) == [
        "blocks.svg",
        "digits-16x16.svg",
        "pe.svg",
        "resnet20-16x16.svg",
        "resnet56-16x16.svg",
    ]
    first = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    render(Areas(revision="abc", machines=machines), reports, out)
    assert first == {path: path.read_bytes() for path in tmp_path.rglob("*.*")}


def test_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "PAGE", tmp_path / "ppa.md")

    def measured(config: ArrayConfig, *, placed: bool) -> Area:
        assert placed == (config.size == 4)
        return area(config.size, config.group, config.weight_bits, 9.0)

    monkeypatch.setattr(ppa, "measure", measured)
    monkeypatch.setattr(command, "processes", ThreadPoolExecutor)
    assert command.main(["--jobs=1"]) == 0
    figures = json.loads(capsys.readouterr().out.splitlines()[-1].removeprefix("PPA "))
    assert [row["machine"] for row in figures["machines"]] == [f"{s}x{g}w{b}" for s, g, b, _, _ in ppa.QUICK]
    assert (tmp_path / "ppa.json").is_file()
