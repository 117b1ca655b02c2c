// Tatami: permuted-sparse systolic array (docs/machine.md). This is its outside: the parameters and their check, the load stream, the
// credits between it and the program, and the registers. The inside is psa_core.

`resetall
`default_nettype none

`include "psa_words.vh"

module psa_top #(
    // PE rows, PE columns and pixels per memory word: 4, 8 or 16, all the same
    parameter ROWS          = 16,
    parameter COLS          = 16,
    // feature banks, inputs per bundle: 1, 2, 4, 8 or 16
    parameter GROUP         = 8,
    // words per feature bank; even
    parameter FEATURE_DEPTH = 512,
    // T-pixel words that the accumulators of a column hold: the longest chunk
    parameter ACC_WORDS     = 16,
    // words of the other memories; LANE_DEPTH also counts rows of slots
    parameter PROGRAM_DEPTH = 256,
    parameter TILE_DEPTH    = 128,
    parameter LANE_DEPTH    = 4096,
    parameter GROUP_DEPTH   = 2048,
    parameter TAP_DEPTH     = 1024,
    parameter EDGE_DEPTH    = 128,
    parameter FILTER_DEPTH  = 512,
    // bits of a slot's weight: 8, or 4 for digits of weights
    parameter WEIGHT_BITS   = 8,
    // XOR decoder of rows of slots: bits of a stored word (0: no decoder), words of history, seed of its network
    parameter XOR_INPUTS    = 0,
    parameter XOR_HISTORY   = 0,
    parameter XOR_SEED      = 1,
    // activation tables: 0 to 15
    parameter TABLES        = 0,
    // bits of a beat of the load stream: 64, 128 or 256
    parameter STREAM_BITS   = 64,
    // columns of the array that see a bundle in the same cycle: 1, 2, 4, 8 or 16, and at most COLS
    parameter HOP           = 1
) (
    input  wire                   clk,
    // synchronous, active high
    input  wire                   rst,

    input  wire [7:0]             s_axil_awaddr,
    input  wire                   s_axil_awvalid,
    output wire                   s_axil_awready,
    input  wire [31:0]            s_axil_wdata,
    input  wire [3:0]             s_axil_wstrb,
    input  wire                   s_axil_wvalid,
    output wire                   s_axil_wready,
    output wire [1:0]             s_axil_bresp,
    output wire                   s_axil_bvalid,
    input  wire                   s_axil_bready,
    input  wire [7:0]             s_axil_araddr,
    input  wire                   s_axil_arvalid,
    output wire                   s_axil_arready,
    output wire [31:0]            s_axil_rdata,
    output wire [1:0]             s_axil_rresp,
    output wire                   s_axil_rvalid,
    input  wire                   s_axil_rready,

    input  wire [STREAM_BITS-1:0] s_axis_tdata,
    input  wire                   s_axis_tvalid,
    output wire                   s_axis_tready,
    input  wire                   s_axis_tlast,

    output wire [ROWS*8-1:0]      m_axis_tdata,
    output wire                   m_axis_tvalid,
    input  wire                   m_axis_tready,
    output wire                   m_axis_tlast,

    output wire                   irq
);

// A module of this name does not exist, so an illegal parameter ends elaboration in every tool, with a message that names it.
generate
if (ROWS != 4 && ROWS != 8 && ROWS != 16) begin : gen_bad_rows
    psa_illegal_parameter_ROWS_must_be_4_8_or_16 stop ();
end
if (COLS != ROWS) begin : gen_bad_cols
    psa_illegal_parameter_COLS_must_equal_ROWS stop ();
end
if (GROUP != 1 && GROUP != 2 && GROUP != 4 && GROUP != 8 && GROUP != 16) begin : gen_bad_group
    psa_illegal_parameter_GROUP_must_be_1_2_4_8_or_16 stop ();
end
if (FEATURE_DEPTH < 4 || FEATURE_DEPTH > 65536 || FEATURE_DEPTH % 2 != 0) begin : gen_bad_feature_depth
    psa_illegal_parameter_FEATURE_DEPTH_must_be_even_in_4_to_65536 stop ();
end
if (ACC_WORDS < 4 || ACC_WORDS > 65536) begin : gen_bad_acc_words
    psa_illegal_parameter_ACC_WORDS_must_be_in_4_to_65536 stop ();
end
if (PROGRAM_DEPTH < 4 || PROGRAM_DEPTH > 65536) begin : gen_bad_program_depth
    psa_illegal_parameter_PROGRAM_DEPTH_must_be_in_4_to_65536 stop ();
end
if (TILE_DEPTH < 4 || TILE_DEPTH > 65536) begin : gen_bad_tile_depth
    psa_illegal_parameter_TILE_DEPTH_must_be_in_4_to_65536 stop ();
end
if (LANE_DEPTH < ROWS || LANE_DEPTH > 65536) begin : gen_bad_lane_depth
    psa_illegal_parameter_LANE_DEPTH_must_be_in_ROWS_to_65536 stop ();
end
if (GROUP_DEPTH < 4 || GROUP_DEPTH > 65536) begin : gen_bad_group_depth
    psa_illegal_parameter_GROUP_DEPTH_must_be_in_4_to_65536 stop ();
end
if (TAP_DEPTH < 4 || TAP_DEPTH > 65536) begin : gen_bad_tap_depth
    psa_illegal_parameter_TAP_DEPTH_must_be_in_4_to_65536 stop ();
end
if (EDGE_DEPTH < 4 || EDGE_DEPTH > 65536) begin : gen_bad_edge_depth
    psa_illegal_parameter_EDGE_DEPTH_must_be_in_4_to_65536 stop ();
end
if (FILTER_DEPTH < 2*COLS || FILTER_DEPTH > 65536) begin : gen_bad_filter_depth
    psa_illegal_parameter_FILTER_DEPTH_must_be_in_2_COLS_to_65536 stop ();
end
if (WEIGHT_BITS != 4 && WEIGHT_BITS != 8) begin : gen_bad_weight_bits
    psa_illegal_parameter_WEIGHT_BITS_must_be_4_or_8 stop ();
end
if (TABLES < 0 || TABLES > 15) begin : gen_bad_tables
    psa_illegal_parameter_TABLES_must_be_in_0_to_15 stop ();
end
if (STREAM_BITS != 64 && STREAM_BITS != 128 && STREAM_BITS != 256) begin : gen_bad_stream_bits
    psa_illegal_parameter_STREAM_BITS_must_be_64_128_or_256 stop ();
end
if ((HOP != 1 && HOP != 2 && HOP != 4 && HOP != 8 && HOP != 16) || HOP > COLS) begin : gen_bad_hop
    psa_illegal_parameter_HOP_must_be_1_2_4_8_or_16_and_at_most_COLS stop ();
end
endgenerate

localparam T         = ROWS;
// bits of a row of slots
localparam SLOT_ROW  = `PSA_SLOT_ROW_BITS;

// beats of the load stream that the widest word takes: the other memories are never wider than these
localparam MAX_A     = `PSA_PROGRAM_BEATS > `PSA_SLOT_BEATS ? `PSA_PROGRAM_BEATS : `PSA_SLOT_BEATS;
localparam MAX_B     = `PSA_GROUP_BEATS > `PSA_EDGE_BEATS ? `PSA_GROUP_BEATS : `PSA_EDGE_BEATS;
localparam MAX_BEATS = MAX_A > MAX_B ? MAX_A : MAX_B;
localparam LOAD_BITS = MAX_BEATS * STREAM_BITS;

generate
if (XOR_INPUTS < 0 || (XOR_INPUTS > 0 && XOR_INPUTS > SLOT_ROW - COLS - `PSA_ROW_PATCHES * $clog2(SLOT_ROW))) begin : gen_bad_xor_inputs
    psa_illegal_parameter_XOR_INPUTS_leave_no_room_for_patches_in_a_row stop ();
end
if (XOR_HISTORY < 0 || XOR_HISTORY > 1023 || XOR_INPUTS * (XOR_HISTORY + 1) > 1024 || (XOR_INPUTS == 0 && XOR_HISTORY > 0)) begin : gen_bad_xor_history
    psa_illegal_parameter_XOR_HISTORY_must_make_a_window_of_at_most_1024 stop ();
end
if (XOR_SEED < 1) begin : gen_bad_xor_seed
    psa_illegal_parameter_XOR_SEED_must_be_in_1_to_2147483647 stop ();
end
endgenerate

// blocks that report errors: those of the core, and the loader
localparam CORE_SOURCES = 5;
localparam SOURCES      = CORE_SOURCES + 1;

wire        start, soft_reset, load_reset, busy, loading, done, error;
wire [15:0] program_start;

// load stream

wire                 ld_valid;
wire [3:0]           ld_dest, ld_bank;
wire [15:0]          ld_addr;
wire [LOAD_BITS-1:0] ld_data;

wire        soon_valid;
wire [3:0]  soon_bank;
wire        hold_go, hold_taken, blocked, packet_done;
wire [15:0] hold_layers;

wire        load_err_valid;
wire [7:0]  load_err_code;
wire [23:0] load_err_info;

psa_load #(
    .GROUP         (GROUP),
    .FEATURE_DEPTH (FEATURE_DEPTH),
    .PROGRAM_DEPTH (PROGRAM_DEPTH),
    .TILE_DEPTH    (TILE_DEPTH),
    .LANE_DEPTH    (LANE_DEPTH),
    .GROUP_DEPTH   (GROUP_DEPTH),
    .TAP_DEPTH     (TAP_DEPTH),
    .EDGE_DEPTH    (EDGE_DEPTH),
    .FILTER_DEPTH  (FILTER_DEPTH),
    .TABLES        (TABLES),
    .STREAM_BITS   (STREAM_BITS),
    .FEATURE_BEATS (`PSA_FEATURE_BEATS),
    .PROGRAM_BEATS (`PSA_PROGRAM_BEATS),
    .TILE_BEATS    (`PSA_TILE_BEATS),
    .LANE_BEATS    (`PSA_LANE_BEATS),
    .SLOT_BEATS    (`PSA_SLOT_BEATS),
    .GROUP_BEATS   (`PSA_GROUP_BEATS),
    .TAP_BEATS     (`PSA_TAP_BEATS),
    .EDGE_BEATS    (`PSA_EDGE_BEATS),
    .FILTER_BEATS  (`PSA_FILTER_BEATS),
    .MAX_BEATS     (MAX_BEATS)
) load (
    .clk           (clk),
    .rst           (rst),
    .soft_reset    (soft_reset),
    .load_reset    (load_reset),
    .s_axis_tdata  (s_axis_tdata),
    .s_axis_tvalid (s_axis_tvalid),
    .s_axis_tready (s_axis_tready),
    .s_axis_tlast  (s_axis_tlast),
    .hold          (start || error),
    .busy          (busy),
    .soon_valid    (soon_valid),
    .soon_bank     (soon_bank),
    .loading       (loading),
    .ld_valid      (ld_valid),
    .ld_dest       (ld_dest),
    .ld_bank       (ld_bank),
    .ld_addr       (ld_addr),
    .ld_data       (ld_data),
    .hold_layers   (hold_layers),
    .hold_go       (hold_go),
    .hold_taken    (hold_taken),
    .blocked       (blocked),
    .packet_done   (packet_done),
    .err_valid     (load_err_valid),
    .err_code      (load_err_code),
    .err_info      (load_err_info)
);

// credits between the load stream and the program

wire        layer_passed, wait_valid, wait_go, deadlock;
wire [15:0] wait_packets;

psa_credits #(
    .PIPELINE (2 * T + 15)
) credits (
    .clk          (clk),
    .rst          (rst || soft_reset),
    .start        (start),
    .packet_done  (packet_done),
    .layer_passed (layer_passed),
    .wait_valid   (wait_valid),
    .wait_packets (wait_packets),
    .wait_go      (wait_go),
    .hold_layers  (hold_layers),
    .hold_go      (hold_go),
    .hold_taken   (hold_taken),
    .blocked      (blocked),
    .deadlock     (deadlock)
);

// the inside

wire [CORE_SOURCES-1:0]    core_err_valid;
wire [CORE_SOURCES*8-1:0]  core_err_code;
wire [CORE_SOURCES*24-1:0] core_err_info;
wire                       count_group, count_slot_row, count_word;

psa_core #(
    .ROWS          (ROWS),
    .COLS          (COLS),
    .GROUP         (GROUP),
    .FEATURE_DEPTH (FEATURE_DEPTH),
    .ACC_WORDS     (ACC_WORDS),
    .PROGRAM_DEPTH (PROGRAM_DEPTH),
    .TILE_DEPTH    (TILE_DEPTH),
    .LANE_DEPTH    (LANE_DEPTH),
    .GROUP_DEPTH   (GROUP_DEPTH),
    .TAP_DEPTH     (TAP_DEPTH),
    .EDGE_DEPTH    (EDGE_DEPTH),
    .FILTER_DEPTH  (FILTER_DEPTH),
    .WEIGHT_BITS   (WEIGHT_BITS),
    .XOR_INPUTS    (XOR_INPUTS),
    .XOR_HISTORY   (XOR_HISTORY),
    .XOR_SEED      (XOR_SEED),
    .TABLES        (TABLES),
    .LOAD_BITS     (LOAD_BITS),
    .HOP           (HOP)
) core (
    .clk            (clk),
    .rst            (rst),
    .soft_reset     (soft_reset),
    .start          (start),
    .program_start  (program_start),
    .busy           (busy),
    .done           (done),
    .ld_valid       (ld_valid),
    .ld_dest        (ld_dest),
    .ld_bank        (ld_bank),
    .ld_addr        (ld_addr),
    .ld_data        (ld_data),
    .soon_valid     (soon_valid),
    .soon_bank      (soon_bank),
    .layer_passed   (layer_passed),
    .wait_valid     (wait_valid),
    .wait_packets   (wait_packets),
    .wait_go        (wait_go),
    .deadlock       (deadlock),
    .m_axis_tdata   (m_axis_tdata),
    .m_axis_tvalid  (m_axis_tvalid),
    .m_axis_tready  (m_axis_tready),
    .m_axis_tlast   (m_axis_tlast),
    .err_valid      (core_err_valid),
    .err_code       (core_err_code),
    .err_info       (core_err_info),
    .error          (error),
    .count_group    (count_group),
    .count_slot_row (count_slot_row),
    .count_word     (count_word)
);

// registers

psa_regs #(
    .ROWS          (ROWS),
    .COLS          (COLS),
    .GROUP         (GROUP),
    .WEIGHT_BITS   (WEIGHT_BITS),
    .FEATURE_DEPTH (FEATURE_DEPTH),
    .ACC_WORDS     (ACC_WORDS),
    .PROGRAM_DEPTH (PROGRAM_DEPTH),
    .TILE_DEPTH    (TILE_DEPTH),
    .LANE_DEPTH    (LANE_DEPTH),
    .GROUP_DEPTH   (GROUP_DEPTH),
    .TAP_DEPTH     (TAP_DEPTH),
    .EDGE_DEPTH    (EDGE_DEPTH),
    .FILTER_DEPTH  (FILTER_DEPTH),
    .XOR_INPUTS    (XOR_INPUTS),
    .XOR_HISTORY   (XOR_HISTORY),
    .XOR_SEED      (XOR_SEED),
    .TABLES        (TABLES),
    .STREAM_BITS   (STREAM_BITS),
    .SOURCES       (SOURCES)
) regs (
    .clk             (clk),
    .rst             (rst),
    .s_axil_awaddr   (s_axil_awaddr),
    .s_axil_awvalid  (s_axil_awvalid),
    .s_axil_awready  (s_axil_awready),
    .s_axil_wdata    (s_axil_wdata),
    .s_axil_wstrb    (s_axil_wstrb),
    .s_axil_wvalid   (s_axil_wvalid),
    .s_axil_wready   (s_axil_wready),
    .s_axil_bresp    (s_axil_bresp),
    .s_axil_bvalid   (s_axil_bvalid),
    .s_axil_bready   (s_axil_bready),
    .s_axil_araddr   (s_axil_araddr),
    .s_axil_arvalid  (s_axil_arvalid),
    .s_axil_arready  (s_axil_arready),
    .s_axil_rdata    (s_axil_rdata),
    .s_axil_rresp    (s_axil_rresp),
    .s_axil_rvalid   (s_axil_rvalid),
    .s_axil_rready   (s_axil_rready),
    .irq             (irq),
    .start           (start),
    .soft_reset      (soft_reset),
    .load_reset      (load_reset),
    .program_start   (program_start),
    .busy            (busy),
    .loading         (loading),
    .sending         (m_axis_tvalid),
    .done            (done),
    .error           (error),
    // of two in a cycle the lower bit is reported
    .err_valid       ({core_err_valid, load_err_valid}),
    .err_code        ({core_err_code, load_err_code}),
    .err_info        ({core_err_info, load_err_info}),
    .count_group     (count_group),
    .count_stall     (m_axis_tvalid && !m_axis_tready),
    .count_slot_row  (count_slot_row),
    .count_word      (count_word),
    .count_load_wait (wait_valid && !wait_go)
);

endmodule

`resetall
