// The machine with its DMA (docs/dma.md): one AXI4-Lite port for the registers of both, and one AXI4 port to memory.

`resetall
`default_nettype none

module psa_system #(
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

localparam WORD_BITS = ROWS * 8;

wire [7:0]             machine_awaddr, machine_araddr;
wire                   machine_awvalid, machine_awready, machine_wvalid, machine_wready, machine_bvalid, machine_bready;
wire                   machine_arvalid, machine_arready, machine_rvalid, machine_rready;
wire                   load_tvalid, load_tready, load_tlast, out_tvalid, out_tready, out_tlast;
wire [31:0]            machine_wdata, machine_rdata;
wire [3:0]             machine_wstrb;
wire [1:0]             machine_bresp, machine_rresp;
wire [STREAM_BITS-1:0] load_tdata;
wire [WORD_BITS-1:0]   out_tdata;
wire                   machine_irq, dma_irq;

assign irq = machine_irq || dma_irq;

psa_dma #(
    .WORD_BITS   (WORD_BITS),
    .STREAM_BITS (STREAM_BITS),
    .BURST       (BURST),
    .FIFO        (FIFO)
) dma (
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
    .m_axil_awaddr  (machine_awaddr),
    .m_axil_awvalid (machine_awvalid),
    .m_axil_awready (machine_awready),
    .m_axil_wdata   (machine_wdata),
    .m_axil_wstrb   (machine_wstrb),
    .m_axil_wvalid  (machine_wvalid),
    .m_axil_wready  (machine_wready),
    .m_axil_bresp   (machine_bresp),
    .m_axil_bvalid  (machine_bvalid),
    .m_axil_bready  (machine_bready),
    .m_axil_araddr  (machine_araddr),
    .m_axil_arvalid (machine_arvalid),
    .m_axil_arready (machine_arready),
    .m_axil_rdata   (machine_rdata),
    .m_axil_rresp   (machine_rresp),
    .m_axil_rvalid  (machine_rvalid),
    .m_axil_rready  (machine_rready),
    .m_axis_tdata   (load_tdata),
    .m_axis_tvalid  (load_tvalid),
    .m_axis_tready  (load_tready),
    .m_axis_tlast   (load_tlast),
    .s_axis_tdata   (out_tdata),
    .s_axis_tvalid  (out_tvalid),
    .s_axis_tready  (out_tready),
    .s_axis_tlast   (out_tlast),
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
    .irq            (dma_irq)
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
) machine (
    .clk            (clk),
    .rst            (rst),
    .s_axil_awaddr  (machine_awaddr),
    .s_axil_awvalid (machine_awvalid),
    .s_axil_awready (machine_awready),
    .s_axil_wdata   (machine_wdata),
    .s_axil_wstrb   (machine_wstrb),
    .s_axil_wvalid  (machine_wvalid),
    .s_axil_wready  (machine_wready),
    .s_axil_bresp   (machine_bresp),
    .s_axil_bvalid  (machine_bvalid),
    .s_axil_bready  (machine_bready),
    .s_axil_araddr  (machine_araddr),
    .s_axil_arvalid (machine_arvalid),
    .s_axil_arready (machine_arready),
    .s_axil_rdata   (machine_rdata),
    .s_axil_rresp   (machine_rresp),
    .s_axil_rvalid  (machine_rvalid),
    .s_axil_rready  (machine_rready),
    .s_axis_tdata   (load_tdata),
    .s_axis_tvalid  (load_tvalid),
    .s_axis_tready  (load_tready),
    .s_axis_tlast   (load_tlast),
    .m_axis_tdata   (out_tdata),
    .m_axis_tvalid  (out_tvalid),
    .m_axis_tready  (out_tready),
    .m_axis_tlast   (out_tlast),
    .irq            (machine_irq)
);

endmodule

`resetall
