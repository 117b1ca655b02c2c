// Filter table and write-back: gives each column the parameters of its filter as a word starts, and writes the word when it is complete.
//
//   cycle 0      a column's first pixel leaves the array two cycles later (`start_*`)
//   cycle 1      its FILTER word; bias on the bus
//   cycle 2 to 4 multiplier, then shift, then zero and both clamps on the bus
//   cycle T+5    the column's word is complete and is written, or goes to its activation table first
//
// Promises: at most one write a cycle, which `soon_valid` announces a cycle before. A word for an address outside its bank, or for a
// table that does not exist, is reported in cycle 3 and not written. `layer_done` comes two cycles before the last column of a layer's
// last word is written (or would be written, if it has no output): no record reads a bank or ends the program sooner than that.

`resetall
`default_nettype none

`include "psa_registers.vh"
`include "psa_words.vh"

module psa_writeback #(
    // pixels per word
    parameter T             = 16,
    parameter COLS          = 16,
    parameter GROUP         = 8,
    parameter FEATURE_DEPTH = 512,
    parameter FILTER_DEPTH  = 512,
    // activation tables; with any, FILTER names one
    parameter TABLES        = 0
) (
    input  wire                             clk,
    input  wire                             rst,

    input  wire                             start_valid,
    input  wire [$clog2(COLS)-1:0]          start_column,
    input  wire [$clog2(FEATURE_DEPTH)-1:0] start_out,
    input  wire [$clog2(FILTER_DEPTH)-1:0]  start_filter_base,
    input  wire                             start_layer_last,

    // one strobe a column, one bus for all
    output wire [COLS-1:0]                  bias_load,
    output wire [31:0]                      bias,
    output wire [COLS-1:0]                  multiplier_load,
    output wire [15:0]                      multiplier,
    output wire [COLS-1:0]                  shift_load,
    output wire [5:0]                       shift,
    output wire [COLS-1:0]                  clamp_load,
    output wire [7:0]                       zero,
    output wire [7:0]                       low,
    output wire [7:0]                       high,

    input  wire [COLS*T*8-1:0]              words,
    // which of their pixels the plane has
    input  wire [COLS*T-1:0]                keeps,

    output wire                             wr_valid,
    output wire [3:0]                       wr_bank,
    output wire [$clog2(FEATURE_DEPTH)-1:0] wr_word,
    output wire [T*8-1:0]                   wr_data,
    output wire [T-1:0]                     wr_keep,
    output wire [3:0]                       wr_table,

    output wire                             layer_done,

    // a word of this bank is written in the next cycle
    output wire                             soon_valid,
    output wire [3:0]                       soon_bank,

    // load bus, already decoded
    input  wire                             ld_filter,
    input  wire [15:0]                      ld_addr,
    input  wire [`PSA_FILTER_BITS-1:0]      ld_data,

    output wire                             err_valid,
    output wire [7:0]                       err_code,
    output wire [23:0]                      err_info,
    output wire                             table_err_valid,
    output wire [7:0]                       table_err_code,
    output wire [23:0]                      table_err_info
);

localparam FEATURE_ADDR = $clog2(FEATURE_DEPTH);
localparam FILTER_ADDR  = $clog2(FILTER_DEPTH);
localparam COLUMN       = $clog2(COLS);
localparam CLAMP        = `PSA_FILTER_ZERO_BITS + `PSA_FILTER_LOW_BITS + `PSA_FILTER_HIGH_BITS;

wire [`PSA_FILTER_BITS-1:0] filter;
wire [FILTER_ADDR-1:0]      filter_address = start_filter_base + {{FILTER_ADDR-COLUMN{1'b0}}, start_column};

psa_ram #(.WIDTH(`PSA_FILTER_BITS), .DEPTH(FILTER_DEPTH)) filter_memory (
    .clk     (clk),
    .wr_en   (ld_filter),
    .wr_addr (ld_addr[FILTER_ADDR-1:0]),
    .wr_data (ld_data),
    .rd_en   (start_valid),
    .rd_addr (filter_address),
    .rd_data (filter)
);

wire                    filter_write = filter[`PSA_FILTER_WRITE];
wire [3:0]              filter_bank  = filter[`PSA_FILTER_BANK];
wire [FEATURE_ADDR-1:0] filter_base  = filter[`PSA_FILTER_BASE];
wire [3:0]              filter_table;

generate
if (TABLES == 0) begin : gen_no_tables
    assign filter_table = 4'd0;
end else begin : gen_tables
    assign filter_table = filter[`PSA_FILTER_TABLE];
end
endgenerate

// cycle 1

wire                    valid_1;
wire [COLUMN-1:0]       column_1;
wire [FEATURE_ADDR-1:0] out_1;
wire                    layer_last_1;

psa_delay #(.WIDTH(COLUMN + FEATURE_ADDR + 1), .STAGES(1)) delay_1 (
    .clk       (clk),
    .rst       (rst),
    .in_valid  (start_valid),
    .in_data   ({start_column, start_out, start_layer_last}),
    .out_valid (valid_1),
    .out_data  ({column_1, out_1, layer_last_1})
);

// cycles 2 and 3: where the word goes, and whether that exists

wire                    valid_2, place_valid, layer_last_2, layer_last_3, filter_write_2, filter_write_3;
wire [COLUMN-1:0]       column_2, place_column;
wire [FEATURE_ADDR-1:0] filter_base_2, out_2;
wire [FEATURE_ADDR:0]   address;
wire [3:0]              filter_bank_2, filter_table_2, filter_bank_3, filter_table_3;

psa_delay #(.WIDTH(COLUMN + 2*FEATURE_ADDR + 10), .STAGES(1)) delay_found (
    .clk       (clk),
    .rst       (rst),
    .in_valid  (valid_1),
    .in_data   ({layer_last_1, column_1, filter_base, out_1, filter_table, filter_bank, filter_write}),
    .out_valid (valid_2),
    .out_data  ({layer_last_2, column_2, filter_base_2, out_2, filter_table_2, filter_bank_2, filter_write_2})
);

psa_delay #(.WIDTH(COLUMN + FEATURE_ADDR + 11), .STAGES(1)) delay_place (
    .clk       (clk),
    .rst       (rst),
    .in_valid  (valid_2),
    .in_data   ({layer_last_2, column_2, {1'b0, filter_base_2} + {1'b0, out_2}, filter_table_2, filter_bank_2, filter_write_2}),
    .out_valid (place_valid),
    .out_data  ({layer_last_3, place_column, address, filter_table_3, filter_bank_3, filter_write_3})
);

wire write_bad = address >= FEATURE_DEPTH || {28'd0, filter_bank_3} >= GROUP;
wire table_bad = {28'd0, filter_table_3} > TABLES;

assign err_valid = place_valid && filter_write_3 && write_bad;
assign err_code  = `PSA_ERR_FEATURE_WRITE;
assign err_info  = {20'd0, filter_bank_3};

assign table_err_valid = place_valid && filter_write_3 && table_bad;
assign table_err_code  = `PSA_ERR_TABLE_RANGE;
assign table_err_info  = {20'd0, filter_table_3};

// cycles 2 to 4

wire              valid_3, valid_4;
wire [COLUMN-1:0] column_3, column_4;
wire [CLAMP-1:0]  clamp_2, clamp_3;
wire [5:0]        shift_2;

psa_delay #(.WIDTH(`PSA_FILTER_MULTIPLIER_BITS + `PSA_FILTER_SHIFT_BITS + CLAMP), .STAGES(1)) delay_2 (
    .clk       (clk),
    .rst       (rst),
    .in_valid  (1'b0),
    .in_data   ({filter[`PSA_FILTER_HIGH], filter[`PSA_FILTER_LOW], filter[`PSA_FILTER_ZERO], filter[`PSA_FILTER_SHIFT],
                 filter[`PSA_FILTER_MULTIPLIER]}),
    .out_valid (),
    .out_data  ({clamp_2, shift_2, multiplier})
);

psa_delay #(.WIDTH(COLUMN + `PSA_FILTER_SHIFT_BITS + CLAMP), .STAGES(1)) delay_3 (
    .clk       (clk),
    .rst       (rst),
    .in_valid  (valid_2),
    .in_data   ({column_2, clamp_2, shift_2}),
    .out_valid (valid_3),
    .out_data  ({column_3, clamp_3, shift})
);

psa_delay #(.WIDTH(COLUMN + CLAMP), .STAGES(1)) delay_4 (
    .clk       (clk),
    .rst       (rst),
    .in_valid  (valid_3),
    .in_data   ({column_3, clamp_3}),
    .out_valid (valid_4),
    .out_data  ({column_4, high, low, zero})
);

assign bias = filter[`PSA_FILTER_BIAS];

genvar c;

generate
for (c = 0; c < COLS; c = c + 1) begin : gen_column
    localparam [COLUMN-1:0] SELF = c;

    assign bias_load[c]       = valid_1 && column_1 == SELF;
    assign multiplier_load[c] = valid_2 && column_2 == SELF;
    assign shift_load[c]      = valid_3 && column_3 == SELF;
    assign clamp_load[c]      = valid_4 && column_4 == SELF;
end
endgenerate

// cycle T+5

localparam WORD = COLUMN + FEATURE_ADDR + 10;

wire              word_valid, word_write, early_valid, done_valid;
wire [COLUMN-1:0] word_column;
wire [WORD-1:0]   done_data;
wire [WORD-2:0]   early_data;

psa_delay #(.WIDTH(WORD), .STAGES(T)) delay_done (
    .clk       (clk),
    .rst       (rst),
    .in_valid  (place_valid),
    .in_data   ({layer_last_3, place_column, address[FEATURE_ADDR-1:0], filter_table_3,
                 filter_bank_3, filter_write_3 && !write_bad && !table_bad}),
    .out_valid (done_valid),
    .out_data  (done_data)
);

assign layer_done = done_valid && &done_data[WORD-1 -: COLUMN + 1];

psa_delay #(.WIDTH(WORD - 1), .STAGES(1)) delay_early (
    .clk       (clk),
    .rst       (rst),
    .in_valid  (done_valid),
    .in_data   (done_data[WORD-2:0]),
    .out_valid (early_valid),
    .out_data  (early_data)
);

assign soon_valid = early_valid && early_data[0];
assign soon_bank  = early_data[1 +: 4];

psa_delay #(.WIDTH(WORD - 1), .STAGES(1)) delay_write (
    .clk       (clk),
    .rst       (rst),
    .in_valid  (early_valid),
    .in_data   (early_data),
    .out_valid (word_valid),
    .out_data  ({word_column, wr_word, wr_table, wr_bank, word_write})
);

assign wr_valid = word_valid && word_write;
assign wr_data  = words[word_column*T*8 +: T*8];
assign wr_keep  = keeps[word_column*T +: T];

endmodule

`resetall
