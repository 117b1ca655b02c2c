// Slot memory and the path from it to the PEs.
//
// Promises: the row of slots of a lane issued in cycle 0 is at `row_*` in cycle 8, one row a cycle, in order. The lane's pixels come
// in the next. In a build with an XOR decoder (XOR_INPUTS > 0), rows are read one after the other from the first
// word of their tile, and decoded. The decoder uses those of the eight cycles that the memory does not need, so rows come as early.

`resetall
`default_nettype none

`include "psa_registers.vh"

module psa_slots #(
    parameter ROWS        = 16,
    parameter LANE_DEPTH  = 4096,
    parameter SLOT_BITS   = 11,
    // bits of a row of slots, and of a word of the memory
    parameter ROW_WIDTH   = 176,
    parameter WORD_WIDTH  = ROW_WIDTH,
    // the XOR decoder: its network's words, history and seed; 0 for no decoder
    parameter XOR_INPUTS  = 0,
    parameter XOR_HISTORY = 0,
    parameter XOR_SEED    = 1
) (
    input  wire                          clk,
    input  wire                          rst,

    input  wire                          issue_valid,
    // first word of a pass, and of the first pass of a tile, whose rows begin at the word `issue_slot_base`
    input  wire                          issue_first,
    input  wire                          issue_tile_first,
    input  wire [$clog2(ROWS)-1:0]       issue_row,
    input  wire [$clog2(LANE_DEPTH)-1:0] issue_lane,
    input  wire [15:0]                   issue_slot_base,

    output wire                          row_valid,
    output wire [$clog2(ROWS)-1:0]       row_index,
    output wire [ROW_WIDTH-1:0]          row_slots,

    // load bus, already decoded
    input  wire                          ld_slot,
    input  wire [15:0]                   ld_addr,
    input  wire [WORD_WIDTH-1:0]         ld_data,

    output wire                          err_valid,
    output wire [7:0]                    err_code,
    output wire [23:0]                   err_info
);

localparam LANE_ADDR = $clog2(LANE_DEPTH);
localparam ROW_BITS  = $clog2(ROWS);
localparam LATENCY   = 8;
// from the request of a row to the decoded one
localparam DECODING  = 5;

wire                  ask = issue_valid && issue_first;
wire                  rd_en;
wire [LANE_ADDR-1:0]  rd_addr;
wire [WORD_WIDTH-1:0] rd_data;

psa_delay #(.WIDTH(ROW_BITS), .STAGES(LATENCY)) row_delay (
    .clk       (clk),
    .rst       (rst),
    .in_valid  (ask),
    .in_data   (issue_row),
    .out_valid (row_valid),
    .out_data  (row_index)
);

psa_ram #(.WIDTH(WORD_WIDTH), .DEPTH(LANE_DEPTH)) slot_memory (
    .clk     (clk),
    .wr_en   (ld_slot),
    .wr_addr (ld_addr[LANE_ADDR-1:0]),
    .wr_data (ld_data),
    .rd_en   (rd_en),
    .rd_addr (rd_addr),
    .rd_data (rd_data)
);

generate
if (XOR_INPUTS == 0) begin : gen_plain
    reg [ROW_WIDTH-1:0] row_slots_reg;

    // the memory answers late in its cycle
    always @(posedge clk) begin
        row_slots_reg <= rd_data;
    end

    psa_delay #(.WIDTH(LANE_ADDR), .STAGES(LATENCY - 2)) lead (
        .clk       (clk),
        .rst       (rst),
        .in_valid  (ask),
        .in_data   (issue_lane),
        .out_valid (rd_en),
        .out_data  (rd_addr)
    );

    assign row_slots = row_slots_reg;
    assign err_valid = 1'b0;
    assign err_code  = 8'd0;
    assign err_info  = 24'd0;

    wire unused = &{1'b0, issue_tile_first, issue_slot_base, `PSA_ERR_SLOT_RANGE, `PSA_ERR_SLOT_CODE, DECODING[0], SLOT_BITS[0], XOR_HISTORY[0], XOR_SEED[0]};
end else begin : gen_xor
    localparam POSITION = $clog2(ROW_WIDTH);

    wire                  stored_valid, stored_first, range_bad, code_bad;
    wire                  stream_ask, stream_first;
    wire [15:0]           stream_base;
    wire [WORD_WIDTH-1:0] stored_row;
    wire [16:0]           stored_word, range_word;

    psa_delay #(.WIDTH(17), .STAGES(LATENCY - DECODING)) lead (
        .clk       (clk),
        .rst       (rst),
        .in_valid  (ask),
        .in_data   ({issue_tile_first, issue_slot_base}),
        .out_valid (stream_ask),
        .out_data  ({stream_first, stream_base})
    );

    psa_slot_stream #(
        .DEPTH    (LANE_DEPTH),
        .WIDTH    (WORD_WIDTH),
        .ENCODED  (WORD_WIDTH - ROW_WIDTH + ROWS + XOR_INPUTS),
        .POSITION (POSITION)
    ) stream (
        .clk       (clk),
        .rst       (rst),
        .ask_valid (stream_ask),
        .ask_first (stream_first),
        .ask_base  (stream_base),
        .rd_en     (rd_en),
        .rd_addr   (rd_addr),
        .rd_data   (rd_data),
        .out_valid (stored_valid),
        .out_first (stored_first),
        .out_row   (stored_row),
        .out_word  (stored_word),
        .err_valid (range_bad),
        .err_word  (range_word)
    );

    wire decoded_valid;

    psa_xor_decoder #(
        .COLS      (ROWS),
        .SLOT_BITS (SLOT_BITS),
        .WIDTH     (WORD_WIDTH),
        .INPUTS    (XOR_INPUTS),
        .HISTORY   (XOR_HISTORY),
        .SEED      (XOR_SEED),
        .POSITION  (POSITION)
    ) decoder (
        .clk       (clk),
        .rst       (rst),
        .in_valid  (stored_valid),
        .in_first  (stored_first),
        .in_row    (stored_row),
        .out_valid (decoded_valid),
        .out_slots (row_slots),
        .err_valid (code_bad)
    );

    // of an earlier row
    assign err_valid = code_bad || range_bad;
    assign err_code  = code_bad ? `PSA_ERR_SLOT_CODE : `PSA_ERR_SLOT_RANGE;
    assign err_info  = {7'd0, code_bad ? stored_word : range_word};

    wire unused = &{1'b0, issue_lane, decoded_valid};
end
endgenerate

endmodule

`resetall
