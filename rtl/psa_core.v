// The inside of the machine: the sequencer, and the round that pixels make from the feature banks through fetch, lanes, array, columns and
// write-back into the banks again (docs/machine.md). psa_top says what the parameters are, and checks them.
//
// Promises: no result is written while `error` is high.

`resetall
`default_nettype none

`include "psa_words.vh"

module psa_core #(
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
    parameter WEIGHT_BITS   = 8,
    parameter XOR_INPUTS    = 0,
    parameter XOR_HISTORY   = 0,
    parameter XOR_SEED      = 1,
    parameter TABLES        = 0,
    // bits of the load bus: as many as the widest word has, or more
    parameter LOAD_BITS     = 320,
    parameter HOP           = 1
) (
    input  wire                 clk,
    input  wire                 rst,
    // as `rst`, but a packet of the out stream that has begun is given its end
    input  wire                 soft_reset,

    input  wire                 start,
    input  wire [15:0]          program_start,
    output wire                 busy,
    // the program reached END in this cycle
    output wire                 done,

    // the load bus: a word for a memory
    input  wire                 ld_valid,
    input  wire [3:0]           ld_dest,
    input  wire [3:0]           ld_bank,
    input  wire [15:0]          ld_addr,
    input  wire [LOAD_BITS-1:0] ld_data,
    // a result is written to this bank in the next cycle
    output wire                 soon_valid,
    output wire [3:0]           soon_bank,

    // the program has left a LAYER
    output wire                 layer_passed,
    // it waits for packets, and goes on with `wait_go`; they cannot come
    output wire                 wait_valid,
    output wire [15:0]          wait_packets,
    input  wire                 wait_go,
    input  wire                 deadlock,

    output wire [ROWS*8-1:0]    m_axis_tdata,
    output wire                 m_axis_tvalid,
    input  wire                 m_axis_tready,
    output wire                 m_axis_tlast,

    // of the tables (the lowest bit), the slots, the write-back, the fetch and the sequencer
    output wire [4:0]           err_valid,
    output wire [5*8-1:0]       err_code,
    output wire [5*24-1:0]      err_info,
    // an error stands
    input  wire                 error,

    // events to count, one a cycle
    output wire                 count_group,
    output wire                 count_slot_row,
    output wire                 count_word
);

localparam T            = ROWS;
localparam SLOT_BITS    = `PSA_SLOT_ENTRY_BITS;
localparam PSUM_BITS    = 16 + $clog2(ROWS);
localparam ROW_BITS     = $clog2(ROWS);
localparam FEATURE_ADDR = $clog2(FEATURE_DEPTH);
localparam LANE_ADDR    = $clog2(LANE_DEPTH);
localparam TAP_ADDR     = $clog2(TAP_DEPTH);
localparam EDGE_ADDR    = $clog2(EDGE_DEPTH);
localparam FILTER_ADDR  = $clog2(FILTER_DEPTH);
localparam ACC_ADDR     = $clog2(ACC_WORDS);
localparam ACC_DEPTH    = ACC_WORDS * T;
localparam INDEX        = $clog2(ACC_DEPTH);

// bits of a row of slots, and of a word of their memory
localparam SLOT_ROW     = `PSA_SLOT_ROW_BITS;
localparam SLOT_WORD    = `PSA_SLOT_BITS;

wire core_rst = rst || soft_reset;

wire ld_feature = ld_valid && ld_dest == `PSA_FEATURE_DESTINATION;
wire ld_program = ld_valid && ld_dest == `PSA_PROGRAM_DESTINATION;
wire ld_tile    = ld_valid && ld_dest == `PSA_TILE_DESTINATION;
wire ld_lane    = ld_valid && ld_dest == `PSA_LANE_DESTINATION;
wire ld_slot    = ld_valid && ld_dest == `PSA_SLOT_DESTINATION;
wire ld_group   = ld_valid && ld_dest == `PSA_GROUP_DESTINATION;
wire ld_tap     = ld_valid && ld_dest == `PSA_TAP_DESTINATION;
wire ld_edge    = ld_valid && ld_dest == `PSA_EDGE_DESTINATION;
wire ld_filter  = ld_valid && ld_dest == `PSA_FILTER_DESTINATION;

wire        sequencer_err_valid, fetch_err_valid, slots_err_valid, writeback_err_valid, table_err_valid;
wire [7:0]  sequencer_err_code, fetch_err_code, slots_err_code, writeback_err_code, table_err_code;
wire [23:0] sequencer_err_info, fetch_err_info, slots_err_info, writeback_err_info, table_err_info;

// sequencer

wire                    issue_valid, issue_first, issue_acc_first, issue_acc_last, issue_layer_last, issue_maximum;
wire [ROW_BITS-1:0]     issue_row;
wire [LANE_ADDR-1:0]    issue_lane;
wire [15:0]             issue_word;
wire [TAP_ADDR-1:0]     issue_tap_row;
wire [EDGE_ADDR-1:0]    issue_edge;
wire [7:0]              issue_pad;
wire [ACC_ADDR-1:0]     issue_acc_word;
wire [FEATURE_ADDR-1:0] issue_out_word;
wire [FILTER_ADDR-1:0]  issue_filter_base;
wire [15:0]             issue_slot_base;
wire                    layer_done;

wire        out_prepare, out_start, out_done;
wire [3:0]  out_bank;
wire [15:0] out_base, out_words;

psa_sequencer #(
    .ROWS          (ROWS),
    .GROUP         (GROUP),
    .FEATURE_DEPTH (FEATURE_DEPTH),
    .ACC_WORDS     (ACC_WORDS),
    .PROGRAM_DEPTH (PROGRAM_DEPTH),
    .TILE_DEPTH    (TILE_DEPTH),
    .LANE_DEPTH    (LANE_DEPTH),
    .TAP_DEPTH     (TAP_DEPTH),
    .EDGE_DEPTH    (EDGE_DEPTH),
    .FILTER_DEPTH  (FILTER_DEPTH)
) sequencer (
    .clk               (clk),
    .rst               (core_rst),
    .start             (start),
    .program_start     (program_start),
    .error             (error),
    .busy              (busy),
    .done              (done),
    .ld_program        (ld_program),
    .ld_tile           (ld_tile),
    .ld_addr           (ld_addr),
    .ld_data           (ld_data[`PSA_PROGRAM_BITS-1:0]),
    .issue_valid       (issue_valid),
    .issue_row         (issue_row),
    .issue_lane        (issue_lane),
    .issue_first       (issue_first),
    .issue_word        (issue_word),
    .issue_tap_row     (issue_tap_row),
    .issue_edge        (issue_edge),
    .issue_pad         (issue_pad),
    .issue_maximum     (issue_maximum),
    .issue_acc_word    (issue_acc_word),
    .issue_acc_first   (issue_acc_first),
    .issue_acc_last    (issue_acc_last),
    .issue_out_word    (issue_out_word),
    .issue_filter_base (issue_filter_base),
    .issue_slot_base   (issue_slot_base),
    .issue_layer_last  (issue_layer_last),
    .layer_done        (layer_done),
    .out_prepare       (out_prepare),
    .out_start         (out_start),
    .out_bank          (out_bank),
    .out_base          (out_base),
    .out_words         (out_words),
    .out_done          (out_done),
    .layer_passed      (layer_passed),
    .wait_valid        (wait_valid),
    .wait_packets      (wait_packets),
    .wait_go           (wait_go),
    .deadlock          (deadlock),
    .err_valid         (sequencer_err_valid),
    .err_code          (sequencer_err_code),
    .err_info          (sequencer_err_info)
);

// the fields that go with a lane while its pixels are fetched

// `soon_*`: in the cycle before the bundle
wire                      soon_bundle, bundle_valid;
wire [GROUP*ROW_BITS-1:0] bundle_shift;
wire [T*GROUP*8-1:0]      bundle_data;
wire [GROUP*8-1:0]        bundle_pixel;
wire [T-1:0]              soon_keep;
wire [ROW_BITS-1:0]       soon_row;
wire                      soon_first, soon_maximum, soon_acc_first, soon_acc_last, soon_layer_last;
wire [ACC_ADDR-1:0]       soon_acc_word;
wire [FEATURE_ADDR-1:0]   soon_out_word;
wire [FILTER_ADDR-1:0]    soon_filter_base;
reg  [ROW_BITS-1:0]       bundle_row_reg;
reg                       bundle_first_reg, bundle_maximum_reg;

psa_delay #(.WIDTH(ROW_BITS + 5 + ACC_ADDR + FEATURE_ADDR + FILTER_ADDR), .STAGES(8)) fetch_delay (
    .clk       (clk),
    .rst       (core_rst),
    .in_valid  (1'b0),
    .in_data   ({issue_row, issue_first, issue_maximum, issue_acc_first, issue_acc_last, issue_layer_last, issue_acc_word,
                 issue_out_word, issue_filter_base}),
    .out_valid (),
    .out_data  ({soon_row, soon_first, soon_maximum, soon_acc_first, soon_acc_last, soon_layer_last, soon_acc_word, soon_out_word,
                 soon_filter_base})
);

always @(posedge clk) begin
    bundle_row_reg     <= soon_row;
    bundle_first_reg   <= soon_first;
    bundle_maximum_reg <= soon_maximum;
end

// fetch

wire                    out_rd_en;
wire [3:0]              out_rd_bank;
wire [FEATURE_ADDR-1:0] out_rd_word;
wire [T*8-1:0]          out_rd_data;

wire                    wb_valid;
wire [3:0]              wb_bank;
wire [FEATURE_ADDR-1:0] wb_word;
wire [T*8-1:0]          wb_data;

psa_fetch #(
    .T             (T),
    .GROUP         (GROUP),
    .FEATURE_DEPTH (FEATURE_DEPTH),
    .LANE_DEPTH    (LANE_DEPTH),
    .GROUP_DEPTH   (GROUP_DEPTH),
    .TAP_DEPTH     (TAP_DEPTH),
    .EDGE_DEPTH    (EDGE_DEPTH)
) fetch (
    .clk             (clk),
    .rst             (core_rst),
    .issue_valid     (issue_valid),
    .issue_lane      (issue_lane),
    .issue_word      (issue_word),
    .issue_tap_row   (issue_tap_row),
    .issue_edge      (issue_edge),
    .issue_pad       (issue_pad),
    .soon_valid      (soon_bundle),
    .soon_keep       (soon_keep),
    .bundle_valid    (bundle_valid),
    .bundle_shift    (bundle_shift),
    .bundle_data     (bundle_data),
    .bundle_first    (bundle_pixel),
    .out_rd_en       (out_rd_en),
    .out_rd_bank     (out_rd_bank),
    .out_rd_word     (out_rd_word),
    .out_rd_data     (out_rd_data),
    // results stop at the first error
    .wr_valid        (wb_valid && !error),
    .wr_bank         (wb_bank),
    .wr_word         (wb_word),
    .wr_data         (wb_data),
    .ld_feature      (ld_feature),
    .ld_bank         (ld_bank),
    .ld_lane         (ld_lane),
    .ld_group        (ld_group),
    .ld_tap          (ld_tap),
    .ld_edge         (ld_edge),
    .ld_addr         (ld_addr),
    .ld_feature_data (ld_data[`PSA_FEATURE_BITS-1:0]),
    .ld_lane_data    (ld_data[`PSA_LANE_BITS-1:0]),
    .ld_group_data   (ld_data[`PSA_GROUP_BITS-1:0]),
    .ld_tap_data     (ld_data[`PSA_TAP_BITS-1:0]),
    .ld_edge_data    (ld_data[`PSA_EDGE_BITS-1:0]),
    .err_valid       (fetch_err_valid),
    .err_code        (fetch_err_code),
    .err_info        (fetch_err_info)
);

// slots

wire                slot_row_valid;
wire [ROW_BITS-1:0] slot_row_index;
wire [SLOT_ROW-1:0] slot_row;

psa_slots #(
    .ROWS        (ROWS),
    .LANE_DEPTH  (LANE_DEPTH),
    .SLOT_BITS   (SLOT_BITS),
    .ROW_WIDTH   (SLOT_ROW),
    .WORD_WIDTH  (SLOT_WORD),
    .XOR_INPUTS  (XOR_INPUTS),
    .XOR_HISTORY (XOR_HISTORY),
    .XOR_SEED    (XOR_SEED)
) slots (
    .clk              (clk),
    .rst              (core_rst),
    .issue_valid      (issue_valid),
    .issue_first      (issue_first),
    .issue_tile_first (issue_first && issue_acc_first && issue_row == {ROW_BITS{1'b0}}),
    .issue_row        (issue_row),
    .issue_lane       (issue_lane),
    .issue_slot_base  (issue_slot_base),
    .row_valid        (slot_row_valid),
    .row_index        (slot_row_index),
    .row_slots        (slot_row),
    .ld_slot          (ld_slot),
    .ld_addr          (ld_addr),
    .ld_data          (ld_data[SLOT_WORD-1:0]),
    .err_valid        (slots_err_valid),
    .err_code         (slots_err_code),
    .err_info         (slots_err_info)
);

// lanes and array

wire [ROWS-1:0]           x_valid, x_first, x_maximum;
wire [ROWS*GROUP*8-1:0]   x_bundle;
wire [COLS*PSUM_BITS-1:0] psum;

genvar r, c;

generate
for (r = 0; r < ROWS; r = r + 1) begin : gen_lane
    psa_lane #(
        .T     (T),
        .GROUP (GROUP)
    ) lane (
        .clk           (clk),
        .rst           (core_rst),
        .load          (bundle_valid && bundle_row_reg == r),
        .load_first    (bundle_first_reg),
        .load_maximum  (bundle_maximum_reg),
        .load_shift    (bundle_shift),
        .load_data     (bundle_data),
        .load_pixel    (bundle_pixel),
        .pixel_valid   (x_valid[r]),
        .pixel_first   (x_first[r]),
        .pixel_maximum (x_maximum[r]),
        .pixel_bundle  (x_bundle[r*GROUP*8 +: GROUP*8])
    );
end
endgenerate

psa_array #(
    .ROWS        (ROWS),
    .COLS        (COLS),
    .GROUP       (GROUP),
    .WEIGHT_BITS (WEIGHT_BITS),
    .SLOT_BITS   (SLOT_BITS),
    .PSUM_BITS   (PSUM_BITS),
    .HOP         (HOP)
) pe_array (
    .clk       (clk),
    .rst       (core_rst),
    .row_valid (slot_row_valid),
    .row_index (slot_row_index),
    .row_slots (slot_row),
    .x_valid   (x_valid),
    .x_first   (x_first),
    .x_maximum (x_maximum),
    .x_bundle  (x_bundle),
    .psum      (psum)
);

// columns

wire [COLS-1:0]         read_valid, pixel_valid, pixel_first, pixel_last, pixel_maximum, pixel_keep;
wire [COLS*INDEX-1:0]   read_index, pixel_index;
wire                    start_valid, start_layer_last;
wire [$clog2(COLS)-1:0] start_column;
wire [FEATURE_ADDR-1:0] start_out;
wire [FILTER_ADDR-1:0]  start_filter_base;

psa_column_control #(
    .ROWS         (ROWS),
    .COLS         (COLS),
    .ACC_DEPTH    (ACC_DEPTH),
    .FEATURE_ADDR (FEATURE_ADDR),
    .FILTER_ADDR  (FILTER_ADDR)
) column_control (
    .clk               (clk),
    .rst               (core_rst),
    .word_valid        (soon_bundle && soon_row == {ROW_BITS{1'b0}}),
    .word_index        (soon_acc_word),
    .word_keep         (soon_keep),
    .word_first        (soon_acc_first),
    .word_last         (soon_acc_last),
    .word_maximum      (soon_maximum),
    .word_out          (soon_out_word),
    .word_filter_base  (soon_filter_base),
    .word_layer_last   (soon_layer_last),
    .read_valid        (read_valid),
    .read_index        (read_index),
    .pixel_valid       (pixel_valid),
    .pixel_index       (pixel_index),
    .pixel_first       (pixel_first),
    .pixel_last        (pixel_last),
    .pixel_maximum     (pixel_maximum),
    .pixel_keep        (pixel_keep),
    .start_valid       (start_valid),
    .start_column      (start_column),
    .start_out         (start_out),
    .start_filter_base (start_filter_base),
    .start_layer_last  (start_layer_last)
);

wire [COLS-1:0]     bias_load, multiplier_load, shift_load, clamp_load;
wire [31:0]         bias;
wire [15:0]         multiplier;
wire [5:0]          shift;
wire [7:0]          zero, low, high;
wire [COLS*T*8-1:0] column_words;
wire [COLS*T-1:0]   column_keeps;

generate
for (c = 0; c < COLS; c = c + 1) begin : gen_column
    psa_column #(
        .T         (T),
        .ACC_DEPTH (ACC_DEPTH),
        .PSUM_BITS (PSUM_BITS)
    ) column (
        .clk             (clk),
        .rst             (core_rst),
        .read_valid      (read_valid[c]),
        .read_index      (read_index[c*INDEX +: INDEX]),
        .pixel_valid     (pixel_valid[c]),
        .pixel_index     (pixel_index[c*INDEX +: INDEX]),
        .pixel_first     (pixel_first[c]),
        .pixel_last      (pixel_last[c]),
        .pixel_maximum   (pixel_maximum[c]),
        .pixel_keep      (pixel_keep[c]),
        .psum            (psum[c*PSUM_BITS +: PSUM_BITS]),
        .bias_load       (bias_load[c]),
        .bias            (bias),
        .multiplier_load (multiplier_load[c]),
        .multiplier      (multiplier),
        .shift_load      (shift_load[c]),
        .shift           (shift),
        .clamp_load      (clamp_load[c]),
        .zero            (zero),
        .low             (low),
        .high            (high),
        .word            (column_words[c*T*8 +: T*8]),
        .word_keep       (column_keeps[c*T +: T])
    );
end
endgenerate

// a word on its way to its plane: past the activation tables, if there are any

wire                    done_valid, done_layer_done;
wire [3:0]              done_bank, done_table;
wire [FEATURE_ADDR-1:0] done_word;
wire [T*8-1:0]          done_data;
wire [T-1:0]            done_keep;
wire                    word_soon_valid;
wire [3:0]              word_soon_bank;

psa_writeback #(
    .T             (T),
    .COLS          (COLS),
    .GROUP         (GROUP),
    .FEATURE_DEPTH (FEATURE_DEPTH),
    .FILTER_DEPTH  (FILTER_DEPTH),
    .TABLES        (TABLES)
) writeback (
    .clk               (clk),
    .rst               (core_rst),
    .start_valid       (start_valid),
    .start_column      (start_column),
    .start_out         (start_out),
    .start_filter_base (start_filter_base),
    .start_layer_last  (start_layer_last),
    .bias_load         (bias_load),
    .bias              (bias),
    .multiplier_load   (multiplier_load),
    .multiplier        (multiplier),
    .shift_load        (shift_load),
    .shift             (shift),
    .clamp_load        (clamp_load),
    .zero              (zero),
    .low               (low),
    .high              (high),
    .words             (column_words),
    .keeps             (column_keeps),
    .wr_valid          (done_valid),
    .wr_bank           (done_bank),
    .wr_word           (done_word),
    .wr_data           (done_data),
    .wr_keep           (done_keep),
    .wr_table          (done_table),
    .layer_done        (done_layer_done),
    .soon_valid        (word_soon_valid),
    .soon_bank         (word_soon_bank),
    .ld_filter         (ld_filter),
    .ld_addr           (ld_addr),
    .ld_data           (ld_data[`PSA_FILTER_BITS-1:0]),
    .err_valid         (writeback_err_valid),
    .err_code          (writeback_err_code),
    .err_info          (writeback_err_info),
    .table_err_valid   (table_err_valid),
    .table_err_code    (table_err_code),
    .table_err_info    (table_err_info)
);

generate
if (TABLES == 0) begin : gen_no_tables
    assign wb_valid   = done_valid;
    assign wb_bank    = done_bank;
    assign wb_word    = done_word;
    assign wb_data    = done_data;
    assign layer_done = done_layer_done;
    assign soon_valid = word_soon_valid;
    assign soon_bank  = word_soon_bank;

    wire unused = &{1'b0, done_keep, done_table};
end else begin : gen_tables
    // the table takes the cycle by which a word is announced
    assign soon_valid = done_valid;
    assign soon_bank  = done_bank;

    wire unused = &{1'b0, word_soon_valid, word_soon_bank};

    psa_table #(
        .T            (T),
        .TABLES       (TABLES),
        .FEATURE_ADDR (FEATURE_ADDR)
    ) tables (
        .clk            (clk),
        .rst            (core_rst),
        .in_valid       (done_valid),
        .in_bank        (done_bank),
        .in_word        (done_word),
        .in_data        (done_data),
        .in_keep        (done_keep),
        .in_table       (done_table),
        .in_layer_done  (done_layer_done),
        .out_valid      (wb_valid),
        .out_bank       (wb_bank),
        .out_word       (wb_word),
        .out_data       (wb_data),
        .out_layer_done (layer_done),
        .ld_activation  (ld_valid && ld_dest == `PSA_ACTIVATION_DESTINATION),
        .ld_addr        (ld_addr),
        .ld_data        (ld_data[`PSA_ACTIVATION_BITS-1:0])
    );
end
endgenerate

// out stream

psa_out #(
    .T             (T),
    .FEATURE_DEPTH (FEATURE_DEPTH)
) out (
    .clk           (clk),
    .rst           (rst),
    .soft_reset    (soft_reset),
    .prepare       (out_prepare),
    .start         (out_start),
    .bank          (out_bank),
    .base          (out_base),
    .words         (out_words),
    .done          (out_done),
    .rd_en         (out_rd_en),
    .rd_bank       (out_rd_bank),
    .rd_word       (out_rd_word),
    .rd_data       (out_rd_data),
    .m_axis_tdata  (m_axis_tdata),
    .m_axis_tvalid (m_axis_tvalid),
    .m_axis_tready (m_axis_tready),
    .m_axis_tlast  (m_axis_tlast)
);

// errors, and events to count

assign err_valid = {sequencer_err_valid, fetch_err_valid, writeback_err_valid, slots_err_valid, table_err_valid};
assign err_code  = {sequencer_err_code, fetch_err_code, writeback_err_code, slots_err_code, table_err_code};
assign err_info  = {sequencer_err_info, fetch_err_info, writeback_err_info, slots_err_info, table_err_info};

assign count_group    = issue_valid;
assign count_slot_row = slot_row_valid;
assign count_word     = wb_valid && !error;

endmodule

`resetall
