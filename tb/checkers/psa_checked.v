// psa_top with its checkers: the same ports and parameters, and an ASSERT line for every rule that is broken.
//
// The checkers of the inside use signals of `psa_checked.dut`, which psa_places.vh finds. They only read signals and drive none.

`resetall
`default_nettype none

`include "psa_places.vh"

module psa_checked #(
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
    parameter WEIGHT_BITS   = 8,
    parameter XOR_INPUTS    = 0,
    parameter XOR_HISTORY   = 0,
    parameter XOR_SEED      = 1,
    parameter TABLES        = 0,
    parameter STREAM_BITS   = 64,
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

psa_top #(
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
    .STREAM_BITS   (STREAM_BITS),
    .HOP           (HOP)
) dut (
    .clk            (clk),
    .rst            (rst),
    .s_axil_awaddr  (s_axil_awaddr),
    .s_axil_awvalid (s_axil_awvalid),
    .s_axil_awready (s_axil_awready),
    .s_axil_wdata   (s_axil_wdata),
    .s_axil_wstrb   (s_axil_wstrb),
    .s_axil_wvalid  (s_axil_wvalid),
    .s_axil_wready  (s_axil_wready),
    .s_axil_bresp   (s_axil_bresp),
    .s_axil_bvalid  (s_axil_bvalid),
    .s_axil_bready  (s_axil_bready),
    .s_axil_araddr  (s_axil_araddr),
    .s_axil_arvalid (s_axil_arvalid),
    .s_axil_arready (s_axil_arready),
    .s_axil_rdata   (s_axil_rdata),
    .s_axil_rresp   (s_axil_rresp),
    .s_axil_rvalid  (s_axil_rvalid),
    .s_axil_rready  (s_axil_rready),
    .s_axis_tdata   (s_axis_tdata),
    .s_axis_tvalid  (s_axis_tvalid),
    .s_axis_tready  (s_axis_tready),
    .s_axis_tlast   (s_axis_tlast),
    .m_axis_tdata   (m_axis_tdata),
    .m_axis_tvalid  (m_axis_tvalid),
    .m_axis_tready  (m_axis_tready),
    .m_axis_tlast   (m_axis_tlast),
    .irq            (irq)
);

// Nothing is known before the first reset.
reg active_reg;

initial active_reg = 1'b0;

always @(posedge clk) begin
    if (rst === 1'b1) begin
        active_reg <= 1'b1;
    end
end

// interfaces. A soft reset cuts the packet of the out stream. The host drives the in stream.

psa_check_axil #(.ADDR_WIDTH(8)) axil (
    .clk     (clk),
    .rst     (rst),
    .active  (active_reg),
    .awaddr  (s_axil_awaddr),
    .awvalid (s_axil_awvalid),
    .awready (s_axil_awready),
    .wdata   (s_axil_wdata),
    .wstrb   (s_axil_wstrb),
    .wvalid  (s_axil_wvalid),
    .wready  (s_axil_wready),
    .bresp   (s_axil_bresp),
    .bvalid  (s_axil_bvalid),
    .bready  (s_axil_bready),
    .araddr  (s_axil_araddr),
    .arvalid (s_axil_arvalid),
    .arready (s_axil_arready),
    .rdata   (s_axil_rdata),
    .rresp   (s_axil_rresp),
    .rvalid  (s_axil_rvalid),
    .rready  (s_axil_rready)
);

psa_check_axis #(
    .NAME          ("s_axis"),
    .WIDTH         (STREAM_BITS),
    .RESETS_DRIVER (0),
    .FRAMED        (0)
) s_axis (
    .clk          (clk),
    .rst          (rst),
    .active       (active_reg),
    .cut          (1'b0),
    .tdata        (s_axis_tdata),
    .tvalid       (s_axis_tvalid),
    .tready       (s_axis_tready),
    .tlast        (s_axis_tlast),
    .packet_start (1'b0),
    .packet_beats (16'd0)
);

psa_check_axis #(
    .NAME          ("m_axis"),
    .WIDTH         (ROWS*8),
    .RESETS_DRIVER (1),
    .FRAMED        (1)
) m_axis (
    .clk          (clk),
    .rst          (rst),
    .active       (active_reg),
    .cut          (`AT_TOP.soft_reset),
    .tdata        (m_axis_tdata),
    .tvalid       (m_axis_tvalid),
    .tready       (m_axis_tready),
    .tlast        (m_axis_tlast),
    .packet_start (`AT_CORE.out_start),
    .packet_beats (`AT_CORE.out_words)
);

psa_assert #(.CHECKER("psa_checked"), .WHAT("irq is X")) irq_known (
    .clk(clk), .active(active_reg && !rst), .fail(irq !== 1'b0 && irq !== 1'b1)
);

// the inside

wire running = active_reg && !rst;

psa_check_memories #(
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
    .XOR_INPUTS    (XOR_INPUTS),
    .TABLES        (TABLES)
) memories (
    .clk    (clk),
    .active (running)
);

psa_check_reads #(
    .ROWS          (ROWS),
    .COLS          (COLS),
    .GROUP         (GROUP),
    .FEATURE_DEPTH (FEATURE_DEPTH),
    .FILTER_DEPTH  (FILTER_DEPTH)
) reads (
    .clk    (clk),
    .active (running)
);

psa_check_slots #(.COLS(COLS), .GROUP(GROUP), .WEIGHT_BITS(WEIGHT_BITS)) slots (
    .clk    (clk),
    .active (running)
);

psa_check_tokens #(.ROWS(ROWS), .COLS(COLS), .ACC_WORDS(ACC_WORDS), .HOP(HOP)) tokens (
    .clk    (clk),
    .active (running)
);

psa_check_credits #(.COLS(COLS)) credits (
    .clk    (clk),
    .active (running)
);

psa_check_writes #(.GROUP(GROUP)) writes (
    .clk    (clk),
    .active (running)
);

// for replays (tb/debug/)
`ifdef PSA_PROBE
psa_probe #(.ROWS(ROWS), .COLS(COLS), .GROUP(GROUP), .HOP(HOP)) probe (
    .clk (clk)
);
`endif

endmodule

`resetall
