"""The headers of the RTL: it has the fields of words and registers where Python has them."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest

from pymodel.machine.config import CONFIGS, ArrayConfig
from pymodel.machine.dma import DESCRIPTOR
from pymodel.machine.memory import HEADER, LAYOUTS, Layout, Memory, Words, memories, pack, slot_row
from pymodel.machine.places import ROOT
from pymodel.machine.registers import DMA_REGISTERS, REGISTERS, Register, RegisterField
from scripts import registers, words
from tb.common.sizes import DEEP, LARGEST_256, MOST_TABLES, ODD, XOR_DIGITS
from tb.flow import build

MOVED = {name: replace(layout, fields=layout.fields[::-1]) for name, layout in LAYOUTS.items()}
DENSE = replace(ODD, name="dense", group=1)
CONFIGURATIONS = (*CONFIGS.values(), ODD, DENSE, DEEP, MOST_TABLES, XOR_DIGITS, LARGEST_256)


def test_the_file_is_what_the_description_gives() -> None:
    assert words.FILE.read_text() == words.render(), (
        "rtl/psa_words.vh differs from pymodel/machine/: run python -m scripts.words"
    )


def simulate(
    folder: Path, source: str, *files: Path, header: str | None = None, table: str | None = None
) -> list[int]:
    """The numbers that a module `t` prints under Icarus, with `header` as rtl/psa_words.vh and `table` as
    rtl/psa_registers.vh.
    """
    (folder / words.FILE.name).write_text(words.render() if header is None else header)
    (folder / registers.HEADER_FILE.name).write_text(registers.render_header() if table is None else table)
    (folder / "t.v").write_text('`include "psa_words.vh"\n' + source)
    paths = map(str, (folder / "t.v", *files))
    run = ["iverilog", "-g2005", "-Wall", "-I", str(folder), "-s", "t", "-o", str(folder / "t"), *paths]
    built = subprocess.run(run, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    done = subprocess.run([folder / "t"], capture_output=True, text=True, check=True)
    return [int(number) for number in done.stdout.split()]


def parameters(config: ArrayConfig) -> str:
    values = config.rtl_parameters() | {"T": config.size}
    return "".join(f"localparam {name} = {value};\n" for name, value in values.items())


def drawn(memory: Memory, rng: np.random.Generator) -> Words:
    """One word with any values in its fields."""
    fields = [rng.integers(f.low, f.high, memory.repeat, endpoint=True) for f in memory.fields]
    return np.stack(fields, axis=1)[None]


def number(memory: Memory, word: Words) -> int:
    return int.from_bytes(memory.encode(word).tobytes(), "little")


class Compared:
    """Verilog that prints numbers, and the numbers that Python has."""

    def __init__(self) -> None:
        self.text: list[str] = []
        self.expected: list[int] = []

    def equal(self, expression: str, value: int) -> None:
        self.text.append(f"$display({expression});")
        self.expected.append(value)

    def field(self, word: str, place: str, value: int, bits: int) -> None:
        self.equal(f"{word}[{place}]", value & (1 << bits) - 1)

    def fields_of(self, memory: Memory, name: str, rng: np.random.Generator) -> None:
        """Every field of every entry of a word, and the sizes of both."""
        word = drawn(memory, rng)
        self.text.append(f"word = {memory.width}'h{number(memory, word):x};")
        for r in range(memory.repeat):
            entry = f"{r} * `PSA_{name}_ENTRY_BITS + " if memory.repeat > 1 else ""
            for i, field in enumerate(memory.fields):
                self.field("word", f"{entry}`PSA_{name}_{field.name.upper()}", int(word[0, r, i]), field.bits)
        for field in memory.fields:
            self.equal(f"`PSA_{name}_{field.name.upper()}_BITS", field.bits)

    def run(self, folder: Path, config: ArrayConfig, header: str | None = None) -> None:
        body = "\n".join(self.text)
        source = f"module t;\n{parameters(config)}reg [8191:0] word;\ninitial begin\n{body}\nend\nendmodule\n"
        assert simulate(folder, source, header=header) == self.expected


@pytest.mark.icarus
@pytest.mark.parametrize("config", CONFIGURATIONS, ids=lambda c: c.name)
def test_both_sides_find_every_field(config: ArrayConfig, tmp_path: Path) -> None:
    """In words with any values, entry by entry; with the sizes of words, and what is beside the memories."""
    rng, both = np.random.default_rng(1), Compared()
    found = memories(config)
    for name, memory in found.items():
        both.fields_of(slot_row(config) if name == "SLOT" else memory, name, rng)
        both.equal(f"`PSA_{name}_DESTINATION", memory.destination)
        both.equal(f"`PSA_{name}_BITS", memory.width)
        both.equal(f"`PSA_{name}_BEATS", memory.beats)
    both.equal("`PSA_SLOT_ROW_BITS", config.row_bits)
    both.equal("`PSA_MEMORIES", len(found))
    both.run(tmp_path, config)


@pytest.mark.icarus
def test_both_sides_find_every_field_of_headers_and_descriptors(tmp_path: Path) -> None:
    rng, both = np.random.default_rng(1), Compared()
    for name, fields in (("HEADER", HEADER), ("DESCRIPTOR", DESCRIPTOR)):
        values = [int(rng.integers(field.high, endpoint=True)) for field in fields]
        both.text.append(f"word = 128'h{pack(fields, *values):x};")
        for field, value in zip(fields, values, strict=True):
            both.field("word", f"`PSA_{name}_{field.name.upper()}", value, field.bits)
        both.equal(f"`PSA_{name}_BITS", sum(field.bits for field in fields))
    both.run(tmp_path, ODD)


@pytest.mark.icarus
@pytest.mark.parametrize("config", [ODD, MOST_TABLES], ids=lambda c: c.name)
@pytest.mark.parametrize("layout", [LAYOUTS["FILTER"], MOVED["FILTER"]], ids=["as it is", "moved"])
def test_a_field_that_moves_in_the_description_moves_in_the_rtl(
    layout: Layout, config: ArrayConfig, tmp_path: Path
) -> None:
    """psa_writeback with a header of FILTER the other way round takes a word in which its fields are so."""
    memory, rng = layout.of(config), np.random.default_rng(1)
    word = drawn(memory, rng)
    of = {field.name: int(word[0, 0, i]) for i, field in enumerate(memory.fields)}
    given = ("T", "COLS", "GROUP", "FEATURE_DEPTH", "FILTER_DEPTH", "TABLES")
    source = f"""module t;
{parameters(config)}
reg clk = 1'b0, ld_filter = 1'b0, start_valid = 1'b0;
wire signed [31:0] bias;
wire [15:0] multiplier;
wire [5:0] shift;
wire signed [7:0] zero, low, high;
psa_writeback #({", ".join(f".{name}({name})" for name in given)}) dut (
    .clk(clk), .rst(1'b0),
    .ld_filter(ld_filter), .ld_addr(16'd0), .ld_data({memory.width}'h{number(memory, word):x}),
    .start_valid(start_valid), .start_column({{$clog2(COLS){{1'b0}}}}),
    .start_filter_base({{$clog2(FILTER_DEPTH){{1'b0}}}}),
    .bias(bias), .multiplier(multiplier), .shift(shift), .zero(zero), .low(low), .high(high)
);
task tick; begin #1 clk = 1'b1; #1 clk = 1'b0; end endtask
initial begin
    ld_filter = 1'b1; tick; ld_filter = 1'b0;
    start_valid = 1'b1; tick; start_valid = 1'b0;
    $display(bias,, dut.filter_write,, dut.filter_bank,, dut.filter_base,, dut.filter_table);
    tick; $display(multiplier);
    tick; $display(shift);
    tick; $display(zero,, low,, high);
end
endmodule
"""
    files = [ROOT / "rtl" / name for name in ("psa_ram.v", "psa_delay.v", "psa_writeback.v")]
    seen = simulate(tmp_path, source, *files, header=words.render({**LAYOUTS, "FILTER": layout}))
    order = ("bias", "write", "bank", "base", "table", "multiplier", "shift", "zero", "low", "high")
    assert seen == [of.get(name, 0) for name in order]


def turned(register: Register) -> Register:
    """The register at another address, its fields the other way round."""
    places, at = {}, 0
    for name, place in reversed(list(register.fields.items())):
        places[name] = RegisterField(at + place.msb - place.lsb, at)
        at = places[name].msb + 1
    return replace(register, address=0xFC - register.address, fields=MappingProxyType(places))


@pytest.mark.icarus
@pytest.mark.parametrize("move", [lambda r: r, turned], ids=["as it is", "moved"])
def test_a_register_that_moves_in_the_table_moves_in_the_rtl(
    move: Callable[[Register], Register], tmp_path: Path
) -> None:
    """psa_regs with a header of other addresses and fields: an error, START refused, a soft reset."""
    table = {name: move(register) for name, register in REGISTERS.items()}
    built = {
        "SHAPE": {"ROWS": 9, "COLS": 6, "GROUP": 5, "WEIGHT_BITS": 4},
        "STATUS": {"BUSY": 0, "LOADING": 1, "ERROR": 1, "SENDING": 1},
        "ERROR": {"CODE": 17, "INFO": 0xABCDEF},
        "IRQ_STATUS": {"DONE": 0, "ERROR": 1},
        "DEPTH0": {"FEATURE_DEPTH": 9, "ACC_WORDS": 4},
    }
    control = table["CONTROL"].fields
    reads = "".join(
        f"araddr = 8'd{table[name].address}; arvalid = 1'b1; tick; arvalid = 1'b0; $display(rdata); tick;\n"
        for name in ("ID", *built)
    )
    writes = "".join(
        f"awaddr = 8'd{table['CONTROL'].address}; wdata = {control[name].put(1)}; wvalid = 1'b1; tick;"
        " wvalid = 1'b0; $display(bresp,, soft_reset); tick;\n"
        for name in ("START", "SOFT_RESET")
    )
    source = f"""module t;
reg clk = 1'b0, rst = 1'b1, arvalid = 1'b0, wvalid = 1'b0, fails = 1'b0;
reg [7:0] araddr, awaddr;
reg [31:0] wdata;
wire [31:0] rdata;
wire [1:0] bresp;
wire soft_reset;
psa_regs #(.ROWS(9), .COLS(6), .GROUP(5), .WEIGHT_BITS(4), .FEATURE_DEPTH(10), .ACC_WORDS(5), .SOURCES(1))
    dut (
    .clk(clk), .rst(rst), .s_axil_araddr(araddr), .s_axil_arvalid(arvalid), .s_axil_rdata(rdata),
    .s_axil_rready(1'b1), .s_axil_awaddr(awaddr), .s_axil_awvalid(wvalid), .s_axil_wvalid(wvalid),
    .s_axil_wdata(wdata), .s_axil_wstrb(4'b1111), .s_axil_bready(1'b1), .s_axil_bresp(bresp),
    .soft_reset(soft_reset), .busy(1'b0), .loading(1'b1), .sending(1'b1), .done(1'b0),
    .err_valid(fails), .err_code(8'd17), .err_info(24'hABCDEF)
);
task tick; begin #1 clk = 1'b1; #1 clk = 1'b0; end endtask
initial begin
    tick; rst = 1'b0; fails = 1'b1; tick; fails = 1'b0; tick;
{reads}{writes}end
endmodule
"""
    header = registers.render_header([*table.values(), *DMA_REGISTERS.values()])
    seen = simulate(tmp_path, source, ROOT / "rtl" / "psa_regs.v", table=header)
    wanted = [sum(table[name].fields[f].put(v) for f, v in fields.items()) for name, fields in built.items()]
    refused, done = [2, 0], [0, 1]
    assert seen == [REGISTERS["ID"].reset, *wanted, *refused, *done]


def test_a_build_is_made_again_when_the_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    header = tmp_path / words.FILE.name
    header.write_text(words.render())
    monkeypatch.setattr(build, "headers", lambda: [header])
    wanted = build.Build("icarus", "psa_top", {}, ())
    before = wanted.content()
    header.write_text(words.render(MOVED))
    assert wanted.content() != before
