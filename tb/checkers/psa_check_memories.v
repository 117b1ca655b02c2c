// Memories: every address that reads or writes one names a word of it, and no word of a table is used that was never loaded.
// (psa_check_reads has the words of the feature banks.)
//
// The addresses are checked before they are cut to the address bits of a memory, so that an address that would wrap is found.

`resetall
`default_nettype none

`include "psa_words.vh"
`include "psa_places.vh"

module psa_check_memories #(
    parameter ROWS          = 16,
    parameter COLS          = 16,
    parameter GROUP         = 8,
    parameter FEATURE_DEPTH = 512,
    parameter ACC_WORDS     = 16,
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

localparam FEATURE_ADDR = $clog2(FEATURE_DEPTH);
localparam FILTER_ADDR  = $clog2(FILTER_DEPTH);
localparam COLUMN       = $clog2(COLS);
localparam ACC_DEPTH    = ACC_WORDS * ROWS;
localparam INDEX        = $clog2(ACC_DEPTH);

// loads

wire        load        = `AT_TOP.ld_valid;
wire [3:0]  destination = `AT_TOP.ld_dest;
wire [15:0] load_word   = `AT_TOP.ld_addr;
// an error ends what is known of a program until the reset
wire        runs_well   = active && !`AT_CORE.core_rst && !`AT_TOP.error;

psa_check_bound #(.NAME("load destination"), .WIDTH(4), .LIMIT(`PSA_MEMORIES)) load_destination (
    .clk(clk), .active(active), .enable(load), .address(destination)
);
psa_check_bound #(.NAME("FEATURE load bank"), .WIDTH(4), .LIMIT(GROUP)) load_bank (
    .clk(clk), .active(active), .enable(load && destination == `PSA_FEATURE_DESTINATION), .address(`AT_TOP.ld_bank)
);
psa_check_bound #(.NAME("FEATURE load"), .WIDTH(16), .LIMIT(FEATURE_DEPTH)) load_feature (
    .clk(clk), .active(active), .enable(load && destination == `PSA_FEATURE_DESTINATION), .address(load_word)
);
psa_check_bound #(.NAME("PROGRAM load"), .WIDTH(16), .LIMIT(PROGRAM_DEPTH)) load_program (
    .clk(clk), .active(active), .enable(load && destination == `PSA_PROGRAM_DESTINATION), .address(load_word)
);
psa_check_bound #(.NAME("TILE load"), .WIDTH(16), .LIMIT(TILE_DEPTH)) load_tile (
    .clk(clk), .active(active), .enable(load && destination == `PSA_TILE_DESTINATION), .address(load_word)
);
psa_check_bound #(.NAME("LANE load"), .WIDTH(16), .LIMIT(LANE_DEPTH)) load_lane (
    .clk(clk), .active(active), .enable(load && destination == `PSA_LANE_DESTINATION), .address(load_word)
);
psa_check_bound #(.NAME("SLOT load"), .WIDTH(16), .LIMIT(LANE_DEPTH)) load_slot (
    .clk(clk), .active(active), .enable(load && destination == `PSA_SLOT_DESTINATION), .address(load_word)
);
psa_check_bound #(.NAME("GROUP load"), .WIDTH(16), .LIMIT(GROUP_DEPTH)) load_group (
    .clk(clk), .active(active), .enable(load && destination == `PSA_GROUP_DESTINATION), .address(load_word)
);
psa_check_bound #(.NAME("TAP load"), .WIDTH(16), .LIMIT(TAP_DEPTH)) load_tap (
    .clk(clk), .active(active), .enable(load && destination == `PSA_TAP_DESTINATION), .address(load_word)
);
psa_check_bound #(.NAME("EDGE load"), .WIDTH(16), .LIMIT(EDGE_DEPTH)) load_edge (
    .clk(clk), .active(active), .enable(load && destination == `PSA_EDGE_DESTINATION), .address(load_word)
);
psa_check_bound #(.NAME("FILTER load"), .WIDTH(16), .LIMIT(FILTER_DEPTH)) load_filter (
    .clk(clk), .active(active), .enable(load && destination == `PSA_FILTER_DESTINATION), .address(load_word)
);

genvar g, c, p;

generate
if (TABLES != 0) begin : gen_tables
    psa_check_bound #(.NAME("ACTIVATION load"), .WIDTH(16), .LIMIT(`PSA_TABLE_WORDS * TABLES)) load_activation (
        .clk(clk), .active(active), .enable(load && destination == `PSA_ACTIVATION_DESTINATION), .address(load_word)
    );
    psa_check_bound #(.NAME("ACTIVATION table"), .WIDTH(4), .LIMIT(TABLES + 1)) activation_table (
        .clk(clk), .active(active), .enable(`AT_CORE.done_valid), .address(`AT_CORE.done_table)
    );

    wire [ROWS-1:0]    looked_up;
    wire [32*ROWS-1:0] values;
    wire [3:0]         index = `AT_CORE.done_table - 4'd1;

    for (p = 0; p < ROWS; p = p + 1) begin : gen_pixel
        assign looked_up[p]       = `AT_CORE.done_valid && `AT_CORE.done_table != 4'd0 && `AT_CORE.done_keep[p];
        assign values[32*p +: 32] = {20'd0, index, `AT_CORE.done_data[p*8 +: 8]};
    end

    psa_check_word #(.MEMORY("ACTIVATION"), .DEPTH(`PSA_TABLE_WORDS * TABLES), .PORTS(ROWS)) activation_word (
        .clk(clk), .active(runs_well), .load(load && destination == `PSA_ACTIVATION_DESTINATION), .load_word(load_word),
        .used(looked_up), .words(values)
    );
end
endgenerate

// program and tiles

// FETCH takes what was read in the cycle before
wire takes_program = `AT_SEQUENCER.state_reg == `AT_SEQUENCER.STATE_FETCH && !`AT_SEQUENCER.err_valid;
wire reads_program = `AT_SEQUENCER.state_next == `AT_SEQUENCER.STATE_FETCH && `AT_SEQUENCER.pc_next < PROGRAM_DEPTH;

psa_check_bound #(.NAME("PROGRAM read"), .WIDTH(17), .LIMIT(PROGRAM_DEPTH)) read_program (
    .clk(clk), .active(active), .enable(takes_program), .address(`AT_SEQUENCER.pc_reg)
);
psa_check_word #(.MEMORY("PROGRAM"), .DEPTH(PROGRAM_DEPTH)) program_word (
    .clk(clk), .active(runs_well), .load(load && destination == `PSA_PROGRAM_DESTINATION), .load_word(load_word),
    .used(reads_program), .words({15'd0, `AT_SEQUENCER.pc_next})
);
psa_check_bound #(.NAME("TILE read"), .WIDTH(16), .LIMIT(TILE_DEPTH)) read_tile (
    .clk(clk), .active(active), .enable(`AT_SEQUENCER.take_tile), .address(`AT_SEQUENCER.tile_address)
);
psa_check_word #(.MEMORY("TILE"), .DEPTH(TILE_DEPTH)) tile_word (
    .clk(clk), .active(runs_well), .load(load && destination == `PSA_TILE_DESTINATION), .load_word(load_word),
    .used(`AT_SEQUENCER.take_tile), .words({16'd0, `AT_SEQUENCER.tile_address})
);

// the reads of a lane. The group number comes out of a memory that has no more bits than the address of GROUP.

wire        issue     = `AT_CORE.issue_valid;
wire [16:0] edge_row  = {1'b0, `AT_SEQUENCER.edge_row_reg} + {1'b0, `AT_SEQUENCER.word_reg};
wire        has_group = `AT_FETCH.stage_valid_reg[2] && !`AT_FETCH.group_bad;

psa_check_bound #(.NAME("LANE read"), .WIDTH(16), .LIMIT(LANE_DEPTH)) read_lane (
    .clk(clk), .active(active), .enable(issue), .address(`AT_SEQUENCER.lane_reg)
);
psa_check_word #(.MEMORY("LANE"), .DEPTH(LANE_DEPTH)) lane_word (
    .clk(clk), .active(runs_well), .load(load && destination == `PSA_LANE_DESTINATION), .load_word(load_word),
    .used(issue), .words({16'd0, `AT_SEQUENCER.lane_reg})
);
psa_check_bound #(.NAME("SLOT read"), .WIDTH($clog2(LANE_DEPTH)), .LIMIT(LANE_DEPTH)) read_slot (
    .clk(clk), .active(active), .enable(`AT_SLOTS.slot_memory.rd_en), .address(`AT_SLOTS.slot_memory.rd_addr)
);
psa_check_bound #(.NAME("EDGE read"), .WIDTH(17), .LIMIT(EDGE_DEPTH)) read_edge (
    .clk(clk), .active(active), .enable(issue), .address(edge_row)
);
psa_check_word #(.MEMORY("EDGE"), .DEPTH(EDGE_DEPTH)) edge_word (
    .clk(clk), .active(runs_well), .load(load && destination == `PSA_EDGE_DESTINATION), .load_word(load_word),
    .used(issue), .words({15'd0, edge_row})
);
psa_check_bound #(.NAME("TAP row"), .WIDTH(16), .LIMIT(TAP_DEPTH)) tap_row (
    .clk(clk), .active(active), .enable(issue), .address(`AT_SEQUENCER.tap_row_reg)
);
psa_check_bound #(.NAME("accumulator word"), .WIDTH(16), .LIMIT(ACC_WORDS)) acc_word (
    .clk(clk), .active(active), .enable(issue), .address(`AT_SEQUENCER.chunk_word_reg)
);
psa_check_bound #(.NAME("output word"), .WIDTH(16), .LIMIT(FEATURE_DEPTH)) out_word (
    .clk(clk), .active(active), .enable(issue), .address(`AT_SEQUENCER.out_word_reg)
);
psa_check_bound #(.NAME("GROUP read"), .WIDTH($clog2(GROUP_DEPTH)), .LIMIT(GROUP_DEPTH)) read_group (
    .clk(clk), .active(active), .enable(has_group), .address(`AT_FETCH.group)
);
psa_check_word #(.MEMORY("GROUP"), .DEPTH(GROUP_DEPTH)) group_word (
    .clk(clk), .active(runs_well), .load(load && destination == `PSA_GROUP_DESTINATION), .load_word(load_word),
    .used(has_group), .words({{32-$clog2(GROUP_DEPTH){1'b0}}, `AT_FETCH.group})
);

// the members of a group, each in its bank
wire [GROUP-1:0]    tap_used;
wire [32*GROUP-1:0] tap_words;

psa_check_word #(.MEMORY("TAP"), .DEPTH(TAP_DEPTH), .PORTS(GROUP)) tap_word (
    .clk(clk), .active(runs_well), .load(load && destination == `PSA_TAP_DESTINATION), .load_word(load_word),
    .used(tap_used), .words(tap_words)
);

generate
for (g = 0; g < GROUP; g = g + 1) begin : gen_bank
    // of what is used
    wire        read      = `AT_BANK(g).used;
    // a read at a negative address is far out of range as an unsigned number
    wire [17:0] read_word = `AT_BANK(g).word_7_reg;
    wire        straddles = |`AT_BANK(g).shift_7_reg;

    assign tap_used[g]           = `AT_BANK(g).used_5;
    assign tap_words[32*g +: 32] = {14'd0, `AT_BANK(g).tap_address_5_reg};

    // checked in the cycle after the read
    psa_check_bound #(.NAME("TAP read"), .WIDTH(18), .LIMIT(TAP_DEPTH)) read_tap (
        .clk(clk), .active(active), .enable(tap_used[g]), .address(tap_words[32*g +: 18])
    );
    psa_check_bound #(.NAME("FEATURE read"), .WIDTH(18), .LIMIT(FEATURE_DEPTH)) read_feature (
        .clk(clk), .active(active), .enable(read), .address(read_word)
    );
    psa_check_bound #(.NAME("FEATURE read, second word,"), .WIDTH(19), .LIMIT(FEATURE_DEPTH)) read_feature_after (
        .clk(clk), .active(active), .enable(read && straddles), .address({1'b0, read_word} + 19'd1)
    );
end

// an XOR decoder reads words ahead, past the end of a tile
if (XOR_INPUTS == 0) begin : gen_slots
    psa_check_word #(.MEMORY("SLOT"), .DEPTH(LANE_DEPTH)) slot_word (
        .clk(clk), .active(runs_well), .load(load && destination == `PSA_SLOT_DESTINATION), .load_word(load_word),
        .used(`AT_SLOTS.slot_memory.rd_en), .words({{32-$clog2(LANE_DEPTH){1'b0}}, `AT_SLOTS.slot_memory.rd_addr})
    );
end

for (c = 0; c < COLS; c = c + 1) begin : gen_column
    psa_check_bound #(.NAME("accumulator pixel"), .WIDTH(INDEX), .LIMIT(ACC_DEPTH)) acc_pixel (
        .clk(clk), .active(active), .enable(`AT_CORE.pixel_valid[c]), .address(`AT_CORE.pixel_index[c*INDEX +: INDEX])
    );
end
endgenerate

// results and the out stream

wire [FILTER_ADDR:0] filter_word = {1'b0, `AT_CORE.start_filter_base} + {{FILTER_ADDR+1-COLUMN{1'b0}}, `AT_CORE.start_column};

psa_check_bound #(.NAME("FILTER read"), .WIDTH(FILTER_ADDR + 1), .LIMIT(FILTER_DEPTH)) read_filter (
    .clk(clk), .active(active), .enable(`AT_CORE.start_valid), .address(filter_word)
);
psa_check_word #(.MEMORY("FILTER"), .DEPTH(FILTER_DEPTH)) filter_known (
    .clk(clk), .active(runs_well), .load(load && destination == `PSA_FILTER_DESTINATION), .load_word(load_word),
    .used(`AT_CORE.start_valid), .words({{31-FILTER_ADDR{1'b0}}, filter_word})
);
// checked where the address is computed; write_bad means that it will not be used
psa_check_bound #(.NAME("FEATURE write"), .WIDTH(FEATURE_ADDR + 1), .LIMIT(FEATURE_DEPTH)) write_feature (
    .clk(clk), .active(active),
    .enable(`AT_WRITEBACK.place_valid && `AT_WRITEBACK.filter_write_3 && !`AT_WRITEBACK.write_bad),
    .address(`AT_WRITEBACK.address)
);
psa_check_bound #(.NAME("FEATURE write bank"), .WIDTH(4), .LIMIT(GROUP)) write_bank (
    .clk(clk), .active(active), .enable(`AT_FETCH.wr_valid), .address(`AT_FETCH.wr_bank)
);
psa_check_bound #(.NAME("OUT end"), .WIDTH(17), .LIMIT(FEATURE_DEPTH + 1)) out_end (
    .clk(clk), .active(active), .enable(`AT_CORE.out_start),
    .address({1'b0, `AT_CORE.out_base} + {1'b0, `AT_CORE.out_words})
);
psa_check_bound #(.NAME("OUT read"), .WIDTH(FEATURE_ADDR), .LIMIT(FEATURE_DEPTH)) read_out (
    .clk(clk), .active(active), .enable(`AT_CORE.out_rd_en), .address(`AT_CORE.out_rd_word)
);

endmodule

`resetall
