"""Every RTL file on its own, in every size of `tb/flow/blocks.py`, on both simulators; and each with a fault
that its test must find.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import cocotb
import pytest

from pymodel.machine.config import CONFIGS, DEFAULT_CONFIG
from tb.common import settings
from tb.common.block import Bench
from tb.common.settings import Settings
from tb.flow import runner
from tb.flow.blocks import BLOCKS
from tb.flow.testlist import BLOCK_TESTS, TestSpec

HAS_ICARUS = shutil.which("iverilog") is not None
SEED = 1


def run(test: TestSpec, sim: str, sources: list[Path] | None = None) -> runner.RunResult:
    return runner.run(test, sim, CONFIGS[DEFAULT_CONFIG], SEED, sources=sources)


def test_every_rtl_file_has_a_block_test() -> None:
    """Only the top has none: it is what `tb/psa_top/` tests."""
    assert {source.stem for source in runner.rtl_sources()} - {"psa_top"} == {
        block.top for block in BLOCKS.values()
    }


@pytest.mark.parametrize("sim", runner.SIMULATORS)
@pytest.mark.parametrize("name", BLOCK_TESTS)
def test_block(sim: str, name: str) -> None:
    if sim == "icarus" and not HAS_ICARUS:
        pytest.skip("iverilog is not installed")
    outcome = run(BLOCK_TESTS[name], sim)
    assert outcome.passed, f"{outcome.message}\nlog: {outcome.log}"
    assert outcome.result["compared"] > 0


# block, text of its RTL file, what a slip would make of it
BROKEN = [
    ("ram", "if (rd_en) begin", "if (1'b1) begin"),
    (
        "ram",
        "rd_data_reg <= mem[rd_addr]",
        "rd_data_reg <= wr_en && wr_addr == rd_addr ? wr_data : mem[rd_addr]",
    ),
    ("delay", "valid_reg <= {STAGES{1'b0}};", "valid_reg[0] <= 1'b0;"),
    ("delay", "data_reg[i]  <= data_reg[i-1];", "if (valid_reg[i-1]) data_reg[i] <= data_reg[i-1];"),
    ("pe", "x_first ? shadow_reg : active_reg", "active_reg"),
    ("pe", "slot[SLOT_BITS-1 -: SELECT_BITS]", "slot[SLOT_BITS-2 -: SELECT_BITS]"),
    ("pe", "wire signed [7:0]              x;", "wire        [7:0]              x;"),
    ("pe", "active_reg <= shadow_reg;", "active_reg <= slot_load ? slot_data : shadow_reg;"),
    ("pe", "valid_reg <= 1'b0;", "first_reg <= 1'b0;"),
    ("pe", "slot[WEIGHT_BITS] ? {product, 4'd0}", "slot[WEIGHT_BITS-1] ? {product, 4'd0}"),
    ("pe", "{{4{product[PRODUCT_BITS-1]}}, product};", "{4'd0, product};"),
    ("array", "row_valid && row_index == r", "row_index == r"),
    ("array", "row_slots[c*SLOT_BITS +: SLOT_BITS]", "row_slots[(COLS-1-c)*SLOT_BITS +: SLOT_BITS]"),
    ("array", "if (r == 0) begin : gen_top", "if (r <= 1) begin : gen_top"),
    ("lane", "valid_reg <= !(&count_reg);", "valid_reg <= 1'b1;"),
    ("lane", "first_reg && count_reg == {COUNT{1'b0}}", "first_reg"),
    ("lane", "count_reg <= {COUNT{1'b0}};", "count_reg <= 1;"),
    ("lane", "valid_reg <= 1'b0;", "first_reg <= 1'b0;"),
    ("accumulator", "valid_reg && !last_reg", "valid_reg"),
    ("accumulator", "sum_valid_reg <= 1'b0;", "sum_reg <= 32'sd0;"),
    ("accumulator", "first_reg ? 32'sd0 : $signed(stored)", "$signed(stored)"),
    ("accumulator", "{{32-PSUM_BITS{psum_reg[PSUM_BITS-1]}}, psum_reg}", "{{32-PSUM_BITS{1'b0}}, psum_reg}"),
    ("accumulator", "rd_addr (pixel_index)", "rd_addr (index_reg)"),
    ("requant", "51'sd1 <<< (shift_reg - 6'd1)", "51'sd1 <<< shift_reg"),
    ("requant", "shift_reg == 6'd0 ? 51'sd0", "shift_reg == 6'd0 ? 51'sd1"),
    ("requant", "$signed({1'b0, multiplier_reg})", "$signed(multiplier_reg)"),
    ("requant", "{sum[31], sum} + {bias_reg[31], bias_reg}", "{sum[31], sum + bias_reg}"),
    ("requant", "keep_reg[1] ? 8'd0", "keep_reg[0] ? 8'd0"),
    ("requant", "rounded > 51'sd127 ? 8'd127 : ", ""),
    ("requant", "valid_reg <= 3'd0;", "keep_reg <= 2'd0;"),
    ("requant", "if (shift_load) begin", "if (multiplier_load) begin"),
    ("feature_bank", "rd_word[0] ? after_word[ADDR-1:1] : rd_word[ADDR-1:1]", "rd_word[ADDR-1:1]"),
    ("feature_bank", "shift_reg <= rd_shift;", "shift_reg <= rd_shift & ~1;"),
    ("feature_bank", "odd_reg ? {even_data, odd_data}", "1'b0 ? {even_data, odd_data}"),
    ("edge_mask", "-4'sd4:  outside = left_under[3*T +: T];", "-4'sd4:  outside = left_under[2*T +: T];"),
    (
        "edge_mask",
        "4'sd1:   outside = outside | bottom_under[0*T +: T];",
        "4'sd1:   outside = bottom_under[0*T +: T];",
    ),
    ("load", "> {16'd0, header_depth}", ">= {16'd0, header_depth}"),
    ("load", "{1'b0, header_addr} +", "{17'd0, header_addr[15:0]} +"),
    ("load", "write_next = word_done;", "write_next = word_done && !s_axis_tlast;"),
    ("load", "state_reg != STATE_HEADER || !hold", "!hold"),
    (
        "regs",
        "({2{wr_clear}} & s_axil_wdata[1:0])) | {err_any && !error_reg, done}",
        "({2{wr_clear}} & s_axil_wdata[1:0]) | {2{done}})",
    ),
    ("regs", "&& !error_reg && !soft_reset_reg", "&& !soft_reset_reg"),
    ("regs", "s_axil_arvalid && !rvalid_reg", "s_axil_arvalid"),
    ("regs", " && !(&count_reg[i])", ""),
    ("regs", "for (s = SOURCES - 1; s >= 0; s = s - 1)", "for (s = 0; s < SOURCES; s = s + 1)"),
    ("sequencer", "record_chunk_words <= ACC_WORDS", "record_chunk_words < ACC_WORDS"),
    ("sequencer", "wire chunk_end  = plane_end ||", "wire chunk_end  ="),
    ("sequencer", "home_tap_row_reg  <= phase_end ?", "home_tap_row_reg  <= 1'b0 ?"),
    ("sequencer", "tile_lanes_end <= LANE_DEPTH", "tile_lanes_end < LANE_DEPTH"),
    ("sequencer", "slot_base_reg   <= tile_slot_base;", "slot_base_reg   <= tile_lane_base;"),
    ("sequencer", "opcode == OPCODE_END && !followed && !error;", "opcode == OPCODE_END && !followed;"),
    ("sequencer", "wait_reg == 8'd1", "wait_reg == 8'd2"),
    ("sequencer", "plane_end && !followed;", "plane_end;"),
    ("sequencer", "!out_ok || followed;", "!out_ok;"),
    ("fetch", "last_word >= FEATURE_DEPTH", "last_word > FEATURE_DEPTH"),
    ("fetch", "word_4_reg < 0 ||", ""),
    ("fetch", "{T{used_5_reg}} & ~outside", "~outside"),
    ("fetch", "edge_word[i*PIXEL_EDGE + 4 +: 3] < d[2:0]", "edge_word[i*PIXEL_EDGE + 4 +: 3] <= d[2:0]"),
    ("slot_stream", "length > left", "length >= left"),
    ("slot_stream", "consumed ? word_reg : word_reg - 17'd1", "word_reg"),
    ("slot_stream", "take_first_reg ? {LENGTH{1'b0}} : left_reg", "left_reg"),
    ("slot_stream", "take_valid_reg && beyond && consumed", "take_valid_reg && beyond"),
    ("slot_stream", "(count > MOST && i == PATCHES)", "1'b0"),
    ("xor_decoder", "in_first ? {HISTORY*INPUTS{1'b0}} : history_reg", "history_reg"),
    ("xor_decoder", "raw ? history : window[HISTORY*INPUTS-1:0]", "window[HISTORY*INPUTS-1:0]"),
    ("xor_decoder", "position > gen_patch[p-1].position", "position >= gen_patch[p-1].position"),
    ("xor_decoder", "position} < ROW", "position} <= ROW"),
    ("xor_decoder", "!raw && count > MOST", "1'b0"),
    ("xor_decoder", "decoded & used", "decoded"),
    ("xor_decoder", "number < NEAR ?", "number <= NEAR ?"),
    ("slots", "STAGES(LATENCY - 1)", "STAGES(LATENCY - 2)"),
    ("slots", "LEAD     = LATENCY - 3", "LEAD     = LATENCY - 2"),
    ("slots", "code_bad ? ERR_SLOT_CODE : ERR_SLOT_RANGE", "range_bad ? ERR_SLOT_RANGE : ERR_SLOT_CODE"),
    ("slots", "issue_valid && issue_first", "issue_valid"),
    ("column_control", "keep_reg[count_reg]", "keep_reg[0]"),
    ("column_control", "valid_reg && last_reg &&", "valid_reg &&"),
    ("writeback", "address >= FEATURE_DEPTH", "address > FEATURE_DEPTH"),
    ("writeback", "&& word_layer_last && &word_column", "&& word_layer_last"),
    ("writeback", "words[word_column*T*8 +: T*8]", "words[0 +: T*8]"),
    ("out", "count_reg + {2'd0, read_reg} < 3'd4", "count_reg < 3'd4"),
    # a bit too few, or a field cut short: memories must be deep to show it
    ("accumulator", ".wr_addr (index_reg)", ".wr_addr (index_reg & 12'hfff)"),
    ("feature_bank", "odd_reg   <= rd_word[0];", "odd_reg   <= rd_word[0] && !(rd_word >> 12);"),
    ("column_control", "index_reg       <= word_index;", "index_reg       <= word_index & 12'hfff;"),
    ("fetch", "{2'd0, word_2};", "{6'd0, word_2[11:0]};"),
    ("fetch", "{2'd0, word_2};", "{3'd0, word_2[14:0]};"),
    ("fetch", "{{24-GROUP_ADDR{1'b0}}, group};", "{{24-GROUP_ADDR{1'b0}}, group} & 24'hfff;"),
    ("writeback", "= start_filter_base +", "= (start_filter_base & 12'hfff) +"),
    ("writeback", "{1'b0, out_1};", "{1'b0, out_1} & 12'hfff;"),
    ("load", "words_reg <= header_words;", "words_reg <= {4'd0, header_words[11:0]};"),
    ("load", "write_addr_reg <= addr_reg;", "write_addr_reg <= addr_reg & 16'hefff;"),
    ("slot_stream", "{1'b0, ask_base} : next;", "{1'b0, ask_base} : next & 17'hffff;"),
    ("slots", "issue_tile_first, issue_slot_base})", "issue_tile_first, issue_slot_base & 16'h0fff})"),
    ("slots", "code_bad ? stored_word : range_word", "16'hffff & (code_bad ? stored_word : range_word)"),
    ("out", "left_reg <= words;", "left_reg <= {4'd0, words[11:0]};"),
    ("out", "left_reg <= words;", "left_reg <= {1'd0, words[14:0]};"),
    ("out", "left_reg == 16'd1;", "left_reg[7:0] == 8'd1;"),
    ("regs", "!(&count_reg[i])", "!(&count_reg[i][30:0])"),
    ("regs", "!(&count_reg[i])", "!(&count_reg[i]) && !(i == 4 && count_reg[i][16])"),
    ("regs", "for (s = SOURCES - 1; s >= 0;", "for (s = SOURCES - 2; s >= 0;"),
    ("sequencer", "err_info_next  = {7'd0, pc_reg};", "err_info_next  = {8'd0, pc_reg[15:0]};"),
    ("sequencer", "word_reg       <= word_reg + 16'd1;", "word_reg       <= (word_reg + 16'd1) & 16'h0fff;"),
    ("sequencer", "16'd0 : tile_reg + 16'd1;", "16'd0 : (tile_reg + 16'd1) & 16'h1fff;"),
    (
        "sequencer",
        "tap_stride_reg    <= record_tap_stride;",
        "tap_stride_reg    <= record_tap_stride & 16'h7fff;",
    ),
    ("out", "done = take && m_axis_tlast", "done = m_axis_tvalid && m_axis_tlast"),
]


def broken_sources(block: str, old: str, new: str) -> list[Path]:
    """The RTL, with one text of one block replaced in a copy under build/."""
    sources = runner.rtl_sources()
    place = next(index for index, source in enumerate(sources) if source.stem == BLOCKS[block].top)
    text = sources[place].read_text()
    assert text.count(old) == 1, f"{sources[place]}: '{old}' occurs {text.count(old)} times"
    copy = runner.BUILD / "broken" / runner.digest(block, old, new)[:8] / sources[place].name
    copy.parent.mkdir(parents=True, exist_ok=True)
    copy.write_text(text.replace(old, new))
    return [*sources[:place], copy, *sources[place + 1 :]]


@pytest.mark.parametrize(("block", "old", "new"), BROKEN, ids=[f"{block}: {new}" for block, _, new in BROKEN])
def test_a_broken_block_is_caught(block: str, old: str, new: str) -> None:
    """By a value that differs from the model's, in any size of the block: not by a build that fails or a
    simulation that hangs.
    """
    sim = "icarus" if HAS_ICARUS else "verilator"
    outcomes = (
        run(test, sim, broken_sources(block, old, new))
        for test in BLOCK_TESTS.values()
        if test.top == BLOCKS[block].top
    )
    assert any(re.search(r"cycle \d+: \w+: expected \w+, seen \w+", outcome.message) for outcome in outcomes)


def test_every_block_has_been_broken() -> None:
    assert {block for block, _, _ in BROKEN} == set(BLOCKS)


def test_a_block_test_that_met_nothing_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither one that compared nothing, nor one that never met a corner that it counts."""
    monkeypatch.setattr(cocotb, "RANDOM_SEED", SEED, raising=False)
    told = Settings(config=CONFIGS[DEFAULT_CONFIG], parameters={}, sim="icarus", result="")
    monkeypatch.setenv(settings.VARIABLE, told.to_json())
    bench = Bench(SimpleNamespace())
    with pytest.raises(AssertionError, match="nothing to count: compared, resets"):
        bench.done(resets=0, words=1)
