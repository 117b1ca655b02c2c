// One AXI4-Lite port for a host, behind it two sets of registers: of the machine, addresses 0 to 255, and of the DMA, from 256 on. The
// DMA itself accesses those of the machine in between.
//
// Promises: one access at a time. Neither the host nor the DMA waits for more than one access of the other. An answer that the host does
// not take keeps only the host's own accesses waiting. No output depends on an input of the same cycle, but those to the registers of
// the DMA.

`resetall
`default_nettype none

module psa_axil_share (
    input  wire        clk,
    input  wire        rst,

    // the host
    input  wire [8:0]  s_axil_awaddr,
    input  wire        s_axil_awvalid,
    output wire        s_axil_awready,
    input  wire [31:0] s_axil_wdata,
    input  wire [3:0]  s_axil_wstrb,
    input  wire        s_axil_wvalid,
    output wire        s_axil_wready,
    output wire [1:0]  s_axil_bresp,
    output wire        s_axil_bvalid,
    input  wire        s_axil_bready,
    input  wire [8:0]  s_axil_araddr,
    input  wire        s_axil_arvalid,
    output wire        s_axil_arready,
    output wire [31:0] s_axil_rdata,
    output wire [1:0]  s_axil_rresp,
    output wire        s_axil_rvalid,
    input  wire        s_axil_rready,

    // the DMA: an access is asked for until it is done, in the cycle of `own_done`
    input  wire        own_valid,
    input  wire        own_write,
    input  wire [7:0]  own_address,
    input  wire [31:0] own_wdata,
    output wire        own_done,
    output wire [31:0] own_rdata,
    output wire        own_refused,

    // the registers of the DMA: answered in the same cycle
    output wire        reg_write,
    output wire        reg_read,
    output wire [7:0]  reg_address,
    output wire [31:0] reg_wdata,
    output wire [3:0]  reg_wstrb,
    input  wire [31:0] reg_rdata,
    input  wire        reg_ok,

    // the machine
    output wire [7:0]  m_axil_awaddr,
    output wire        m_axil_awvalid,
    input  wire        m_axil_awready,
    output wire [31:0] m_axil_wdata,
    output wire [3:0]  m_axil_wstrb,
    output wire        m_axil_wvalid,
    input  wire        m_axil_wready,
    input  wire [1:0]  m_axil_bresp,
    input  wire        m_axil_bvalid,
    output wire        m_axil_bready,
    output wire [7:0]  m_axil_araddr,
    output wire        m_axil_arvalid,
    input  wire        m_axil_arready,
    input  wire [31:0] m_axil_rdata,
    input  wire [1:0]  m_axil_rresp,
    input  wire        m_axil_rvalid,
    output wire        m_axil_rready
);

localparam [1:0] RESP_OKAY = 2'b00, RESP_SLVERR = 2'b10;

localparam [1:0] STATE_IDLE = 2'd0, STATE_WRITE = 2'd1, STATE_READ = 2'd2;

// what the host has asked for
reg        aw_held_reg, w_held_reg, ar_held_reg;
reg [8:0]  awaddr_reg, araddr_reg;
reg [31:0] wdata_reg;
reg [3:0]  wstrb_reg;
// and its answers
reg        bvalid_reg, rvalid_reg;
reg [1:0]  bresp_reg, rresp_reg;
reg [31:0] rdata_reg;

assign s_axil_awready = !aw_held_reg;
assign s_axil_wready  = !w_held_reg;
assign s_axil_arready = !ar_held_reg;
assign s_axil_bvalid  = bvalid_reg;
assign s_axil_bresp   = bresp_reg;
assign s_axil_rvalid  = rvalid_reg;
assign s_axil_rresp   = rresp_reg;
assign s_axil_rdata   = rdata_reg;

// the access to the machine that is on its way, and whose it is
reg [1:0]  state_reg;
reg        own_reg;
reg        awvalid_reg, wvalid_reg, arvalid_reg;
reg [7:0]  address_reg;
reg [31:0] data_reg;
reg [3:0]  strobe_reg;
// the last access was the host's
reg        host_last_reg;
reg        own_done_reg, own_refused_reg;

wire host_writes = aw_held_reg && w_held_reg && !bvalid_reg;
wire host_reads  = ar_held_reg && !rvalid_reg;
// an access is asked for until its `own_done` has been seen
wire own_asks    = own_valid && !own_done_reg;
wire host_turn   = (host_writes || host_reads) && !(own_asks && host_last_reg);

wire idle       = state_reg == STATE_IDLE;
// a write comes before a read
wire grant_host = idle && host_turn;
wire grant_own  = idle && !host_turn && own_asks;
wire host_own   = host_writes ? awaddr_reg[8] : araddr_reg[8];

assign reg_write   = grant_host && host_writes && host_own;
assign reg_read    = grant_host && !host_writes && host_own;
assign reg_address = host_writes ? awaddr_reg[7:0] : araddr_reg[7:0];
assign reg_wdata   = wdata_reg;
assign reg_wstrb   = wstrb_reg;

assign m_axil_awvalid = awvalid_reg;
assign m_axil_awaddr  = address_reg;
assign m_axil_wvalid  = wvalid_reg;
assign m_axil_wdata   = data_reg;
assign m_axil_wstrb   = strobe_reg;
assign m_axil_bready  = state_reg == STATE_WRITE;
assign m_axil_arvalid = arvalid_reg;
assign m_axil_araddr  = address_reg;
assign m_axil_rready  = state_reg == STATE_READ;

wire written = state_reg == STATE_WRITE && m_axil_bvalid;
wire read    = state_reg == STATE_READ && m_axil_rvalid;

assign own_done    = own_done_reg;
assign own_rdata   = data_reg;
assign own_refused = own_refused_reg;

wire grant_write = grant_own ? own_write : host_writes;
wire to_machine  = grant_own || (grant_host && !host_own);

always @(posedge clk) begin
    own_done_reg <= 1'b0;

    if (s_axil_awvalid && s_axil_awready) begin
        aw_held_reg <= 1'b1;
        awaddr_reg  <= s_axil_awaddr;
    end
    if (s_axil_wvalid && s_axil_wready) begin
        w_held_reg <= 1'b1;
        wdata_reg  <= s_axil_wdata;
        wstrb_reg  <= s_axil_wstrb;
    end
    if (s_axil_arvalid && s_axil_arready) begin
        ar_held_reg <= 1'b1;
        araddr_reg  <= s_axil_araddr;
    end
    if (s_axil_bready) begin
        bvalid_reg <= 1'b0;
    end
    if (s_axil_rready) begin
        rvalid_reg <= 1'b0;
    end

    if (reg_write || (written && !own_reg)) begin
        aw_held_reg <= 1'b0;
        w_held_reg  <= 1'b0;
        bvalid_reg  <= 1'b1;
        bresp_reg   <= !reg_write ? m_axil_bresp : reg_ok ? RESP_OKAY : RESP_SLVERR;
    end
    if (reg_read || (read && !own_reg)) begin
        ar_held_reg <= 1'b0;
        rvalid_reg  <= 1'b1;
        rresp_reg   <= !reg_read ? m_axil_rresp : reg_ok ? RESP_OKAY : RESP_SLVERR;
        rdata_reg   <= reg_read ? reg_rdata : m_axil_rdata;
    end

    if (to_machine) begin
        state_reg   <= grant_write ? STATE_WRITE : STATE_READ;
        own_reg     <= grant_own;
        awvalid_reg <= grant_write;
        wvalid_reg  <= grant_write;
        arvalid_reg <= !grant_write;
        address_reg <= grant_own ? own_address : reg_address;
        data_reg    <= grant_own ? own_wdata : wdata_reg;
        strobe_reg  <= grant_own ? 4'b1111 : wstrb_reg;
    end else begin
        if (m_axil_awready) awvalid_reg <= 1'b0;
        if (m_axil_wready)  wvalid_reg  <= 1'b0;
        if (m_axil_arready) arvalid_reg <= 1'b0;
    end
    if (grant_host || grant_own) begin
        host_last_reg <= grant_host;
    end

    if (written || read) begin
        state_reg       <= STATE_IDLE;
        own_done_reg    <= own_reg;
        own_refused_reg <= written ? m_axil_bresp[1] : m_axil_rresp[1];
        data_reg        <= m_axil_rdata;
    end

    if (rst) begin
        state_reg     <= STATE_IDLE;
        aw_held_reg   <= 1'b0;
        w_held_reg    <= 1'b0;
        ar_held_reg   <= 1'b0;
        bvalid_reg    <= 1'b0;
        rvalid_reg    <= 1'b0;
        awvalid_reg   <= 1'b0;
        wvalid_reg    <= 1'b0;
        arvalid_reg   <= 1'b0;
        own_done_reg  <= 1'b0;
        host_last_reg <= 1'b0;
    end
end

endmodule

`resetall
