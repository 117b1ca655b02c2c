// Loads before uses: no word of a table is used that was never loaded. (psa_check_reads has the feature banks.) An error ends what is
// checked until the reset.

`resetall
`default_nettype none

`include "psa_words.vh"
`include "psa_places.vh"

module psa_check_loaded #(
    parameter ROWS          = 16,
    parameter COLS          = 16,
    parameter GROUP         = 8,
    parameter PROGRAM_DEPTH = 256,
    parameter TILE_DEPTH    = 128,
    parameter LANE_DEPTH    = 4096,
    parameter GROUP_DEPTH   = 2048,
    parameter TAP_DEPTH     = 1024,
    parameter EDGE_DEPTH    = 128,
    parameter FILTER_DEPTH  = 512,
    parameter XOR_INPUTS    = 0,
    parameter TABLES        = 0
) (
    input wire clk,
    input wire active
);

localparam COLUMN      = $clog2(COLS);
localparam FILTER_ADDR = $clog2(FILTER_DEPTH);
localparam GROUP_ADDR  = $clog2(GROUP_DEPTH);

wire        checked     = active && !`AT_CORE.core_rst && !`AT_TOP.error;
wire        load        = `AT_TOP.ld_valid;
wire [3:0]  destination = `AT_TOP.ld_dest;
wire [15:0] load_word   = `AT_TOP.ld_addr;
wire        issue       = `AT_CORE.issue_valid;

psa_check_word #(.MEMORY("PROGRAM"), .DEPTH(PROGRAM_DEPTH)) program_word (
    .clk(clk), .active(checked), .load(load && destination == `PSA_PROGRAM_DESTINATION), .load_word(load_word),
    .used(`AT_SEQUENCER.program_memory.rd_en && !`AT_SEQUENCER.err_valid), .words({15'd0, `AT_SEQUENCER.pc_reg})
);
psa_check_word #(.MEMORY("TILE"), .DEPTH(TILE_DEPTH)) tile_word (
    .clk(clk), .active(checked), .load(load && destination == `PSA_TILE_DESTINATION), .load_word(load_word),
    .used(`AT_SEQUENCER.take_tile), .words({16'd0, `AT_SEQUENCER.tile_address})
);
psa_check_word #(.MEMORY("LANE"), .DEPTH(LANE_DEPTH)) lane_word (
    .clk(clk), .active(checked), .load(load && destination == `PSA_LANE_DESTINATION), .load_word(load_word),
    .used(issue), .words({16'd0, `AT_SEQUENCER.lane_reg})
);
psa_check_word #(.MEMORY("EDGE"), .DEPTH(EDGE_DEPTH)) edge_word (
    .clk(clk), .active(checked), .load(load && destination == `PSA_EDGE_DESTINATION), .load_word(load_word),
    .used(issue), .words({15'd0, {1'b0, `AT_SEQUENCER.edge_row_reg} + {1'b0, `AT_SEQUENCER.word_reg}})
);
psa_check_word #(.MEMORY("GROUP"), .DEPTH(GROUP_DEPTH)) group_word (
    .clk(clk), .active(checked), .load(load && destination == `PSA_GROUP_DESTINATION), .load_word(load_word),
    .used(`AT_FETCH.stage_valid_reg[1] && !`AT_FETCH.group_bad), .words({{32-GROUP_ADDR{1'b0}}, `AT_FETCH.group})
);
psa_check_word #(.MEMORY("FILTER"), .DEPTH(FILTER_DEPTH)) filter_word (
    .clk(clk), .active(checked), .load(load && destination == `PSA_FILTER_DESTINATION), .load_word(load_word),
    .used(`AT_CORE.start_valid),
    .words({{32-FILTER_ADDR{1'b0}}, `AT_CORE.start_filter_base} + {{32-COLUMN{1'b0}}, `AT_CORE.start_column})
);

// the members of a group, each in its bank

wire [GROUP-1:0]    tap_used;
wire [32*GROUP-1:0] tap_words;

psa_check_word #(.MEMORY("TAP"), .DEPTH(TAP_DEPTH), .PORTS(GROUP)) tap_word (
    .clk(clk), .active(checked), .load(load && destination == `PSA_TAP_DESTINATION), .load_word(load_word),
    .used(tap_used), .words(tap_words)
);

genvar g, p;

generate
for (g = 0; g < GROUP; g = g + 1) begin : gen_bank
    assign tap_used[g]            = `AT_BANK(g).used_4;
    assign tap_words[32*g +: 32]  = {14'd0, `AT_BANK(g).tap_address_4_reg};
end

// an XOR decoder reads words ahead, past the end of a tile
if (XOR_INPUTS == 0) begin : gen_slots
    psa_check_word #(.MEMORY("SLOT"), .DEPTH(LANE_DEPTH)) slot_word (
        .clk(clk), .active(checked), .load(load && destination == `PSA_SLOT_DESTINATION), .load_word(load_word),
        .used(`AT_SLOTS.slot_memory.rd_en), .words({{32-$clog2(LANE_DEPTH){1'b0}}, `AT_SLOTS.slot_memory.rd_addr})
    );
end

if (TABLES != 0) begin : gen_tables
    wire [ROWS-1:0]    used;
    wire [32*ROWS-1:0] values;
    wire [3:0]         index = `AT_CORE.done_table - 4'd1;

    for (p = 0; p < ROWS; p = p + 1) begin : gen_pixel
        assign used[p]            = `AT_CORE.done_valid && `AT_CORE.done_table != 4'd0 && `AT_CORE.done_keep[p];
        assign values[32*p +: 32] = {20'd0, index, `AT_CORE.done_data[p*8 +: 8]};
    end

    psa_check_word #(.MEMORY("ACTIVATION"), .DEPTH(`PSA_TABLE_WORDS * TABLES), .PORTS(ROWS)) activation_word (
        .clk(clk), .active(checked), .load(load && destination == `PSA_ACTIVATION_DESTINATION), .load_word(load_word),
        .used(used), .words(values)
    );
end
endgenerate

endmodule

`resetall
