// psa_system with the checkers of its interfaces: the same ports and parameters, and an ASSERT line for every rule that is broken. The
// streams and the register port between the DMA and the machine are checked, too.
//
// It counts what a list loads: `load_beats`, in the `load_cycles` from the start of the list to the last of them.

`resetall
`default_nettype none

module psa_checked_system #(
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
    parameter HOP           = 1,
    // DMA: most beats of a burst, a power of two up to 256; beats that are read ahead, a power of two from 16 and BURST on
    parameter BURST         = 64,
    parameter FIFO          = 256
) (
    input  wire                     clk,
    // synchronous, active high
    input  wire                     rst,

    // the machine's registers from 0 on, those of the DMA from 256 on
    input  wire [8:0]               s_axil_awaddr,
    input  wire                     s_axil_awvalid,
    output wire                     s_axil_awready,
    input  wire [31:0]              s_axil_wdata,
    input  wire [3:0]               s_axil_wstrb,
    input  wire                     s_axil_wvalid,
    output wire                     s_axil_wready,
    output wire [1:0]               s_axil_bresp,
    output wire                     s_axil_bvalid,
    input  wire                     s_axil_bready,
    input  wire [8:0]               s_axil_araddr,
    input  wire                     s_axil_arvalid,
    output wire                     s_axil_arready,
    output wire [31:0]              s_axil_rdata,
    output wire [1:0]               s_axil_rresp,
    output wire                     s_axil_rvalid,
    input  wire                     s_axil_rready,

    // the memory
    output wire [0:0]               m_axi_arid,
    output wire [31:0]              m_axi_araddr,
    output wire [7:0]               m_axi_arlen,
    output wire [2:0]               m_axi_arsize,
    output wire [1:0]               m_axi_arburst,
    output wire                     m_axi_arvalid,
    input  wire                     m_axi_arready,
    input  wire [0:0]               m_axi_rid,
    input  wire [STREAM_BITS-1:0]   m_axi_rdata,
    input  wire [1:0]               m_axi_rresp,
    input  wire                     m_axi_rlast,
    input  wire                     m_axi_rvalid,
    output wire                     m_axi_rready,
    output wire [0:0]               m_axi_awid,
    output wire [31:0]              m_axi_awaddr,
    output wire [7:0]               m_axi_awlen,
    output wire [2:0]               m_axi_awsize,
    output wire [1:0]               m_axi_awburst,
    output wire                     m_axi_awvalid,
    input  wire                     m_axi_awready,
    output wire [STREAM_BITS-1:0]   m_axi_wdata,
    output wire [STREAM_BITS/8-1:0] m_axi_wstrb,
    output wire                     m_axi_wlast,
    output wire                     m_axi_wvalid,
    input  wire                     m_axi_wready,
    input  wire [0:0]               m_axi_bid,
    input  wire [1:0]               m_axi_bresp,
    input  wire                     m_axi_bvalid,
    output wire                     m_axi_bready,

    // of the machine or of the DMA
    output wire                     irq
);

psa_system #(
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
    .HOP           (HOP),
    .BURST         (BURST),
    .FIFO          (FIFO)
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
    .m_axi_arid     (m_axi_arid),
    .m_axi_araddr   (m_axi_araddr),
    .m_axi_arlen    (m_axi_arlen),
    .m_axi_arsize   (m_axi_arsize),
    .m_axi_arburst  (m_axi_arburst),
    .m_axi_arvalid  (m_axi_arvalid),
    .m_axi_arready  (m_axi_arready),
    .m_axi_rid      (m_axi_rid),
    .m_axi_rdata    (m_axi_rdata),
    .m_axi_rresp    (m_axi_rresp),
    .m_axi_rlast    (m_axi_rlast),
    .m_axi_rvalid   (m_axi_rvalid),
    .m_axi_rready   (m_axi_rready),
    .m_axi_awid     (m_axi_awid),
    .m_axi_awaddr   (m_axi_awaddr),
    .m_axi_awlen    (m_axi_awlen),
    .m_axi_awsize   (m_axi_awsize),
    .m_axi_awburst  (m_axi_awburst),
    .m_axi_awvalid  (m_axi_awvalid),
    .m_axi_awready  (m_axi_awready),
    .m_axi_wdata    (m_axi_wdata),
    .m_axi_wstrb    (m_axi_wstrb),
    .m_axi_wlast    (m_axi_wlast),
    .m_axi_wvalid   (m_axi_wvalid),
    .m_axi_wready   (m_axi_wready),
    .m_axi_bid      (m_axi_bid),
    .m_axi_bresp    (m_axi_bresp),
    .m_axi_bvalid   (m_axi_bvalid),
    .m_axi_bready   (m_axi_bready),
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

psa_check_axil #(.ADDR_WIDTH(9)) axil (
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

psa_check_axil #(.ADDR_WIDTH(8)) machine_axil (
    .clk     (clk),
    .rst     (rst),
    .active  (active_reg),
    .awaddr  (dut.machine_awaddr),
    .awvalid (dut.machine_awvalid),
    .awready (dut.machine_awready),
    .wdata   (dut.machine_wdata),
    .wstrb   (dut.machine_wstrb),
    .wvalid  (dut.machine_wvalid),
    .wready  (dut.machine_wready),
    .bresp   (dut.machine_bresp),
    .bvalid  (dut.machine_bvalid),
    .bready  (dut.machine_bready),
    .araddr  (dut.machine_araddr),
    .arvalid (dut.machine_arvalid),
    .arready (dut.machine_arready),
    .rdata   (dut.machine_rdata),
    .rresp   (dut.machine_rresp),
    .rvalid  (dut.machine_rvalid),
    .rready  (dut.machine_rready)
);

psa_check_axi #(.WIDTH(STREAM_BITS)) axi (
    .clk     (clk),
    .rst     (rst),
    .active  (active_reg),
    .arid    (m_axi_arid),
    .araddr  (m_axi_araddr),
    .arlen   (m_axi_arlen),
    .arsize  (m_axi_arsize),
    .arburst (m_axi_arburst),
    .arvalid (m_axi_arvalid),
    .arready (m_axi_arready),
    .rid     (m_axi_rid),
    .rdata   (m_axi_rdata),
    .rresp   (m_axi_rresp),
    .rlast   (m_axi_rlast),
    .rvalid  (m_axi_rvalid),
    .rready  (m_axi_rready),
    .awid    (m_axi_awid),
    .awaddr  (m_axi_awaddr),
    .awlen   (m_axi_awlen),
    .awsize  (m_axi_awsize),
    .awburst (m_axi_awburst),
    .awvalid (m_axi_awvalid),
    .awready (m_axi_awready),
    .wdata   (m_axi_wdata),
    .wstrb   (m_axi_wstrb),
    .wlast   (m_axi_wlast),
    .wvalid  (m_axi_wvalid),
    .wready  (m_axi_wready),
    .bid     (m_axi_bid),
    .bresp   (m_axi_bresp),
    .bvalid  (m_axi_bvalid),
    .bready  (m_axi_bready)
);

psa_check_axis #(
    .NAME          ("load"),
    .WIDTH         (STREAM_BITS),
    .RESETS_DRIVER (1),
    .FRAMED        (0)
) load (
    .clk          (clk),
    .rst          (rst),
    .active       (active_reg),
    .cut          (1'b0),
    .tdata        (dut.load_tdata),
    .tvalid       (dut.load_tvalid),
    .tready       (dut.load_tready),
    .tlast        (dut.load_tlast),
    .packet_start (1'b0),
    .packet_beats (16'd0)
);

psa_check_axis #(
    .NAME          ("out"),
    .WIDTH         (ROWS*8),
    .RESETS_DRIVER (1),
    .FRAMED        (1)
) out (
    .clk          (clk),
    .rst          (rst),
    .active       (active_reg),
    .cut          (dut.machine.soft_reset),
    .tdata        (dut.out_tdata),
    .tvalid       (dut.out_tvalid),
    .tready       (dut.out_tready),
    .tlast        (dut.out_tlast),
    .packet_start (dut.machine.core.out_start),
    .packet_beats (dut.machine.core.out_words)
);

psa_assert #(.CHECKER("psa_checked_system"), .WHAT("irq is X")) irq_known (
    .clk(clk), .active(active_reg && !rst), .fail(irq !== 1'b0 && irq !== 1'b1)
);

reg [31:0] cycle_reg, load_beats, load_cycles;

wire load_taken = dut.load_tvalid && dut.load_tready;
wire unused     = &{1'b0, load_cycles};

always @(posedge clk) begin
    cycle_reg <= dut.dma.start ? 32'd1 : cycle_reg + 32'd1;
    if (dut.dma.start) begin
        load_beats  <= 32'd0;
        load_cycles <= 32'd0;
    end else if (load_taken) begin
        load_beats  <= load_beats + 32'd1;
        load_cycles <= cycle_reg + 32'd1;
    end
end

endmodule

`resetall
