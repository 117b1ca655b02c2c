// DMA beside the machine (docs/dma.md): lists of descriptors in memory become the load stream and starts of programs, and the out stream
// goes to memory. A host writes three registers for a list. Its accesses to the machine's registers go through here, too.
//
// Promises: what its parts promise. The load stream and the register port are the machine's alone: nothing else drives them.

`resetall
`default_nettype none

module psa_dma #(
    // bits of a word of the out stream: 32, 64 or 128
    parameter WORD_BITS   = 128,
    // bits of a beat, of the load stream and of the memory: 64, 128 or 256
    parameter STREAM_BITS = 64,
    // most beats of a burst: a power of two, at most 256
    parameter BURST       = 64,
    // beats that are read ahead: a power of two, at least 16 and BURST
    parameter FIFO        = 256
) (
    input  wire                     clk,
    // synchronous, active high
    input  wire                     rst,

    // the host: the machine's registers from 0 on, those of the DMA from 256 on
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

    // the machine
    output wire [7:0]               m_axil_awaddr,
    output wire                     m_axil_awvalid,
    input  wire                     m_axil_awready,
    output wire [31:0]              m_axil_wdata,
    output wire [3:0]               m_axil_wstrb,
    output wire                     m_axil_wvalid,
    input  wire                     m_axil_wready,
    input  wire [1:0]               m_axil_bresp,
    input  wire                     m_axil_bvalid,
    output wire                     m_axil_bready,
    output wire [7:0]               m_axil_araddr,
    output wire                     m_axil_arvalid,
    input  wire                     m_axil_arready,
    input  wire [31:0]              m_axil_rdata,
    input  wire [1:0]               m_axil_rresp,
    input  wire                     m_axil_rvalid,
    output wire                     m_axil_rready,

    output wire [STREAM_BITS-1:0]   m_axis_tdata,
    output wire                     m_axis_tvalid,
    input  wire                     m_axis_tready,
    output wire                     m_axis_tlast,

    input  wire [WORD_BITS-1:0]     s_axis_tdata,
    input  wire                     s_axis_tvalid,
    output wire                     s_axis_tready,
    input  wire                     s_axis_tlast,

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

    output wire                     irq
);

// A module of this name does not exist, so an illegal parameter ends elaboration in every tool, with a message that names it.
generate
if (BURST < 1 || BURST > 256 || (BURST & (BURST - 1)) != 0) begin : gen_bad_burst
    psa_illegal_parameter_BURST_must_be_a_power_of_two_up_to_256 stop ();
end
if (FIFO < 16 || FIFO < BURST || FIFO > 4096 || (FIFO & (FIFO - 1)) != 0) begin : gen_bad_fifo
    psa_illegal_parameter_FIFO_must_be_a_power_of_two_from_16_and_BURST_to_4096 stop ();
end
endgenerate

// the host's accesses, and the DMA's own to the machine

wire        own_valid, own_write, own_done, own_refused;
wire [7:0]  own_address;
wire [31:0] own_wdata, own_rdata;
wire        reg_write, reg_read, reg_ok;
wire [7:0]  reg_address;
wire [31:0] reg_wdata, reg_rdata;
wire [3:0]  reg_wstrb;

psa_axil_share share (
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
    .own_valid      (own_valid),
    .own_write      (own_write),
    .own_address    (own_address),
    .own_wdata      (own_wdata),
    .own_done       (own_done),
    .own_rdata      (own_rdata),
    .own_refused    (own_refused),
    .reg_write      (reg_write),
    .reg_read       (reg_read),
    .reg_address    (reg_address),
    .reg_wdata      (reg_wdata),
    .reg_wstrb      (reg_wstrb),
    .reg_rdata      (reg_rdata),
    .reg_ok         (reg_ok),
    .m_axil_awaddr  (m_axil_awaddr),
    .m_axil_awvalid (m_axil_awvalid),
    .m_axil_awready (m_axil_awready),
    .m_axil_wdata   (m_axil_wdata),
    .m_axil_wstrb   (m_axil_wstrb),
    .m_axil_wvalid  (m_axil_wvalid),
    .m_axil_wready  (m_axil_wready),
    .m_axil_bresp   (m_axil_bresp),
    .m_axil_bvalid  (m_axil_bvalid),
    .m_axil_bready  (m_axil_bready),
    .m_axil_araddr  (m_axil_araddr),
    .m_axil_arvalid (m_axil_arvalid),
    .m_axil_arready (m_axil_arready),
    .m_axil_rdata   (m_axil_rdata),
    .m_axil_rresp   (m_axil_rresp),
    .m_axil_rvalid  (m_axil_rvalid),
    .m_axil_rready  (m_axil_rready)
);

// registers, and the course of a list

wire        start, stop, flush, clear;
wire [31:0] list_address, out_address, out_size, out_used;
wire [15:0] list_count;
wire        read_done, read_quiet, write_quiet;
wire        run_valid, run_ready;
wire [15:0] run_program;
wire        read_err_valid, write_err_valid;
wire [7:0]  read_err_code, write_err_code;
wire [15:0] read_err_info, write_err_info;

psa_dma_control #(
    .STREAM_BITS (STREAM_BITS),
    .WORD_BITS   (WORD_BITS)
) control (
    .clk             (clk),
    .rst             (rst),
    .reg_write       (reg_write),
    .reg_address     (reg_address),
    .reg_wdata       (reg_wdata),
    .reg_wstrb       (reg_wstrb),
    .reg_rdata       (reg_rdata),
    .reg_ok          (reg_ok),
    .irq             (irq),
    .own_valid       (own_valid),
    .own_write       (own_write),
    .own_address     (own_address),
    .own_wdata       (own_wdata),
    .own_done        (own_done),
    .own_rdata       (own_rdata),
    .own_refused     (own_refused),
    .start           (start),
    .list_address    (list_address),
    .list_count      (list_count),
    .out_address     (out_address),
    .out_size        (out_size),
    .out_used        (out_used),
    .stop            (stop),
    .flush           (flush),
    .clear           (clear),
    .read_done       (read_done),
    .read_quiet      (read_quiet),
    .write_quiet     (write_quiet),
    .run_valid       (run_valid),
    .run_program     (run_program),
    .run_ready       (run_ready),
    .read_err_valid  (read_err_valid),
    .read_err_code   (read_err_code),
    .read_err_info   (read_err_info),
    .write_err_valid (write_err_valid),
    .write_err_code  (write_err_code),
    .write_err_info  (write_err_info)
);

// memory to load stream

psa_dma_read #(
    .STREAM_BITS (STREAM_BITS),
    .BURST       (BURST),
    .FIFO        (FIFO)
) read (
    .clk           (clk),
    .rst           (rst || clear),
    .start         (start),
    .list_address  (list_address),
    .list_count    (list_count),
    .done          (read_done),
    .stop          (stop),
    .flush         (flush),
    .quiet         (read_quiet),
    .run_valid     (run_valid),
    .run_program   (run_program),
    .run_ready     (run_ready),
    .err_valid     (read_err_valid),
    .err_code      (read_err_code),
    .err_info      (read_err_info),
    .m_axi_arid    (m_axi_arid),
    .m_axi_araddr  (m_axi_araddr),
    .m_axi_arlen   (m_axi_arlen),
    .m_axi_arsize  (m_axi_arsize),
    .m_axi_arburst (m_axi_arburst),
    .m_axi_arvalid (m_axi_arvalid),
    .m_axi_arready (m_axi_arready),
    .m_axi_rid     (m_axi_rid),
    .m_axi_rdata   (m_axi_rdata),
    .m_axi_rresp   (m_axi_rresp),
    .m_axi_rlast   (m_axi_rlast),
    .m_axi_rvalid  (m_axi_rvalid),
    .m_axi_rready  (m_axi_rready),
    .m_axis_tdata  (m_axis_tdata),
    .m_axis_tvalid (m_axis_tvalid),
    .m_axis_tready (m_axis_tready),
    .m_axis_tlast  (m_axis_tlast)
);

// out stream to memory; all its bursts have the same id

assign m_axi_awid = 1'b0;

wire unused = &{1'b0, reg_read, m_axi_bid};

psa_dma_write #(
    .WORD_BITS   (WORD_BITS),
    .STREAM_BITS (STREAM_BITS),
    .BURST       (BURST)
) write (
    .clk           (clk),
    .rst           (rst || clear),
    .start         (start),
    .address       (out_address),
    .size          (out_size),
    .used          (out_used),
    .drop          (flush),
    .quiet         (write_quiet),
    .err_valid     (write_err_valid),
    .err_code      (write_err_code),
    .err_info      (write_err_info),
    .s_axis_tdata  (s_axis_tdata),
    .s_axis_tvalid (s_axis_tvalid),
    .s_axis_tready (s_axis_tready),
    .s_axis_tlast  (s_axis_tlast),
    .m_axi_awaddr  (m_axi_awaddr),
    .m_axi_awlen   (m_axi_awlen),
    .m_axi_awsize  (m_axi_awsize),
    .m_axi_awburst (m_axi_awburst),
    .m_axi_awvalid (m_axi_awvalid),
    .m_axi_awready (m_axi_awready),
    .m_axi_wdata   (m_axi_wdata),
    .m_axi_wstrb   (m_axi_wstrb),
    .m_axi_wlast   (m_axi_wlast),
    .m_axi_wvalid  (m_axi_wvalid),
    .m_axi_wready  (m_axi_wready),
    .m_axi_bresp   (m_axi_bresp),
    .m_axi_bvalid  (m_axi_bvalid),
    .m_axi_bready  (m_axi_bready)
);

endmodule

`resetall
