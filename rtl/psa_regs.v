// Register file on AXI4-Lite (docs/machine.md, "Registers"), error latch, interrupt and counters.
//
// Promises: one access at a time. No output depends on an input of the same cycle. A refused access answers SLVERR and changes nothing.
// The first error is kept until a soft reset. Counters stop at their largest value.

`resetall
`default_nettype none

module psa_regs #(
    parameter ROWS          = 16,
    parameter COLS          = 16,
    parameter GROUP         = 8,
    parameter WEIGHT_BITS   = 8,
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
    parameter XOR_HISTORY   = 0,
    parameter XOR_SEED      = 1,
    parameter TABLES        = 0,
    parameter STREAM_BITS   = 64,
    // sources of errors; if two come in one cycle, the lowest wins
    parameter SOURCES       = 6
) (
    input  wire                  clk,
    input  wire                  rst,

    input  wire [7:0]            s_axil_awaddr,
    input  wire                  s_axil_awvalid,
    output wire                  s_axil_awready,
    input  wire [31:0]           s_axil_wdata,
    input  wire [3:0]            s_axil_wstrb,
    input  wire                  s_axil_wvalid,
    output wire                  s_axil_wready,
    output wire [1:0]            s_axil_bresp,
    output wire                  s_axil_bvalid,
    input  wire                  s_axil_bready,
    input  wire [7:0]            s_axil_araddr,
    input  wire                  s_axil_arvalid,
    output wire                  s_axil_arready,
    output wire [31:0]           s_axil_rdata,
    output wire [1:0]            s_axil_rresp,
    output wire                  s_axil_rvalid,
    input  wire                  s_axil_rready,

    output wire                  irq,

    // one-cycle pulses
    output wire                  start,
    output wire                  soft_reset,
    // with a soft reset
    output wire                  load_reset,
    output wire [15:0]           program_start,

    input  wire                  busy,
    input  wire                  loading,
    // a word is offered on the out stream
    input  wire                  sending,
    // the program reached END in this cycle
    input  wire                  done,
    output wire                  error,

    input  wire [SOURCES-1:0]    err_valid,
    input  wire [SOURCES*8-1:0]  err_code,
    input  wire [SOURCES*24-1:0] err_info,

    // events to count, one a cycle
    input  wire                  count_group,
    input  wire                  count_stall,
    input  wire                  count_slot_row,
    input  wire                  count_word,
    input  wire                  count_load_wait
);

localparam [31:0] ID      = 32'h5441544D;
localparam [31:0] VERSION = 32'h00010001;

localparam [7:0]
    ADDR_ID            = 8'h00, ADDR_VERSION      = 8'h04, ADDR_SHAPE       = 8'h08, ADDR_DEPTH0       = 8'h0C,
    ADDR_DEPTH1        = 8'h10, ADDR_DEPTH2       = 8'h14, ADDR_DEPTH3      = 8'h18, ADDR_DEPTH4       = 8'h1C,
    ADDR_CONTROL       = 8'h20, ADDR_STATUS       = 8'h24, ADDR_ERROR       = 8'h28, ADDR_IRQ_ENABLE   = 8'h2C,
    ADDR_IRQ_STATUS    = 8'h30, ADDR_PROGRAM_START = 8'h34, ADDR_XOR         = 8'h38, ADDR_XOR_SEED     = 8'h3C,
    ADDR_CYCLES        = 8'h40, ADDR_BUSY_CYCLES  = 8'h44, ADDR_STALL_CYCLES = 8'h48, ADDR_SLOT_ROWS   = 8'h4C,
    ADDR_WORDS         = 8'h50, ADDR_LOAD_WAIT    = 8'h54;

localparam [1:0] RESP_OKAY = 2'b00, RESP_SLVERR = 2'b10;

localparam integer COUNTERS = 6;

// depths are reported less one, so that 65536 fits its 16 bits
function [15:0] less_one(input integer depth);
    integer value;
    begin
        value    = depth - 1;
        less_one = value[15:0];
    end
endfunction

// the load stream is 64 << STREAM bits wide
localparam [31:0] STREAM = $clog2(STREAM_BITS / 64);

localparam [31:0] SHAPE = (WEIGHT_BITS << 24) | (GROUP << 16) | (COLS << 8) | ROWS;

reg        bvalid_reg, rvalid_reg;
reg [1:0]  bresp_reg, rresp_reg;
reg [31:0] rdata_reg;

reg        start_reg, soft_reset_reg, load_reset_reg;
reg [15:0] program_start_reg;
reg [1:0]  irq_enable_reg, irq_status_reg;
reg        error_reg;
// of the first cycle with an error, what all sources said; without an error, none of them says anything
reg [SOURCES-1:0]    raised_reg;
reg [SOURCES*8-1:0]  raised_code_reg;
reg [SOURCES*24-1:0] raised_info_reg;
reg [31:0] count_reg [0:COUNTERS-1];
reg        irq_reg;

assign s_axil_bvalid = bvalid_reg;
assign s_axil_bresp  = bresp_reg;
assign s_axil_rvalid = rvalid_reg;
assign s_axil_rresp  = rresp_reg;
assign s_axil_rdata  = rdata_reg;
assign start         = start_reg;
assign soft_reset    = soft_reset_reg;
assign load_reset    = load_reset_reg;
assign program_start = program_start_reg;
assign error         = error_reg;
assign irq           = irq_reg;

// write: done when address and data have both come. What comes first is held. No ready depends on a valid. An address within a word is the
// word's: the strobes say which bytes are written.

reg        address_held_reg, data_held_reg;
reg [7:2]  address_reg;
// no register has more than these
reg [15:0] data_reg;
reg [1:0]  strobe_reg;

assign s_axil_awready = !bvalid_reg && !address_held_reg;
assign s_axil_wready  = !bvalid_reg && !data_held_reg;

wire        address_taken = s_axil_awvalid && s_axil_awready;
wire        data_taken    = s_axil_wvalid && s_axil_wready;
wire        wr            = (address_taken || address_held_reg) && (data_taken || data_held_reg);
wire [7:0]  wr_address    = {address_held_reg ? address_reg : s_axil_awaddr[7:2], 2'b00};
wire [15:0] wr_data       = data_held_reg ? data_reg : s_axil_wdata[15:0];
wire [1:0]  wr_strobe     = data_held_reg ? strobe_reg : s_axil_wstrb[1:0];

wire wr_control = wr && wr_address == ADDR_CONTROL && wr_strobe[0];
wire wr_start   = wr_control && wr_data[0];
wire wr_reset   = wr_control && wr_data[1] && !wr_data[0];
wire start_ok   = !busy && !start_reg && !loading && !sending && !error_reg && !soft_reset_reg && wr_data[2:1] == 2'd0;
// LOAD_RESET does nothing by itself
wire control_ok = (!wr_start || start_ok) && (!wr_data[2] || wr_data[1]);
wire wr_clear   = wr && wr_address == ADDR_IRQ_STATUS && wr_strobe[0];

reg wr_ok;

always @* begin
    case (wr_address)
        ADDR_CONTROL:                                        wr_ok = !wr_control || control_ok;
        ADDR_IRQ_ENABLE, ADDR_IRQ_STATUS, ADDR_PROGRAM_START: wr_ok = 1'b1;
        default:                                             wr_ok = 1'b0;
    endcase
end

// Errors: the sources are far from here, so all are kept, and which of them counts is chosen when it is read.

wire       err_any = |err_valid;
reg [7:0]  error_code;
reg [23:0] error_info;

integer s;

always @* begin
    error_code = 8'd0;
    error_info = 24'd0;
    for (s = SOURCES - 1; s >= 0; s = s - 1) begin
        if (raised_reg[s]) begin
            error_code = raised_code_reg[s*8 +: 8];
            error_info = raised_info_reg[s*24 +: 24];
        end
    end
end

// read

assign s_axil_arready = !rvalid_reg;

wire rd = s_axil_arvalid && s_axil_arready;

wire unused = &{1'b0, s_axil_awaddr[1:0], s_axil_araddr[1:0]};

reg        rd_ok;
reg [31:0] rd_value;

always @* begin
    rd_ok    = 1'b1;
    rd_value = 32'd0;
    case ({s_axil_araddr[7:2], 2'b00})
        ADDR_ID:            rd_value = ID;
        ADDR_VERSION:       rd_value = VERSION;
        ADDR_SHAPE:         rd_value = SHAPE;
        ADDR_DEPTH0:        rd_value = {less_one(ACC_WORDS), less_one(FEATURE_DEPTH)};
        ADDR_DEPTH1:        rd_value = {less_one(TILE_DEPTH), less_one(PROGRAM_DEPTH)};
        ADDR_DEPTH2:        rd_value = {less_one(GROUP_DEPTH), less_one(LANE_DEPTH)};
        ADDR_DEPTH3:        rd_value = {less_one(EDGE_DEPTH), less_one(TAP_DEPTH)};
        ADDR_DEPTH4:        rd_value = (STREAM << 20) | (TABLES << 16) | {16'd0, less_one(FILTER_DEPTH)};
        ADDR_CONTROL:       rd_value = 32'd0;
        ADDR_STATUS:        rd_value = {28'd0, sending && !busy, error_reg, loading, busy || start_reg};
        ADDR_ERROR:         rd_value = {error_info, error_code};
        ADDR_IRQ_ENABLE:    rd_value = {30'd0, irq_enable_reg};
        ADDR_IRQ_STATUS:    rd_value = {30'd0, irq_status_reg};
        ADDR_PROGRAM_START: rd_value = {16'd0, program_start_reg};
        ADDR_XOR:           rd_value = (XOR_HISTORY << 16) | XOR_INPUTS;
        ADDR_XOR_SEED:      rd_value = XOR_SEED;
        ADDR_CYCLES:        rd_value = count_reg[0];
        ADDR_BUSY_CYCLES:   rd_value = count_reg[1];
        ADDR_STALL_CYCLES:  rd_value = count_reg[2];
        ADDR_SLOT_ROWS:     rd_value = count_reg[3];
        ADDR_WORDS:         rd_value = count_reg[4];
        ADDR_LOAD_WAIT:     rd_value = count_reg[5];
        default:            rd_ok    = 1'b0;
    endcase
end

wire [COUNTERS-1:0] count_event = {count_load_wait, count_word, count_slot_row, count_stall, count_group, 1'b1};

integer i;

always @(posedge clk) begin
    if (wr) begin
        bvalid_reg <= 1'b1;
        bresp_reg  <= wr_ok ? RESP_OKAY : RESP_SLVERR;
    end else if (s_axil_bready) begin
        bvalid_reg <= 1'b0;
    end

    address_held_reg <= !wr && (address_held_reg || address_taken);
    data_held_reg    <= !wr && (data_held_reg || data_taken);
    if (address_taken) begin
        address_reg <= s_axil_awaddr[7:2];
    end
    if (data_taken) begin
        data_reg   <= s_axil_wdata[15:0];
        strobe_reg <= s_axil_wstrb[1:0];
    end

    if (rd) begin
        rvalid_reg <= 1'b1;
        rresp_reg  <= rd_ok ? RESP_OKAY : RESP_SLVERR;
        rdata_reg  <= rd_value;
    end else if (s_axil_rready) begin
        rvalid_reg <= 1'b0;
    end

    start_reg      <= wr_start && start_ok;
    soft_reset_reg <= wr_reset;
    load_reset_reg <= wr_reset && wr_data[2];

    if (wr && wr_address == ADDR_IRQ_ENABLE && wr_strobe[0]) begin
        irq_enable_reg <= wr_data[1:0];
    end
    if (wr && wr_address == ADDR_PROGRAM_START) begin
        if (wr_strobe[0]) program_start_reg[7:0]  <= wr_data[7:0];
        if (wr_strobe[1]) program_start_reg[15:8] <= wr_data[15:8];
    end

    // an event wins over a clear in the same cycle, because it must not be lost
    irq_status_reg <= (irq_status_reg & ~({2{wr_clear}} & wr_data[1:0])) | {err_any && !error_reg, done};
    irq_reg        <= |(irq_status_reg & irq_enable_reg);

    if (!error_reg) begin
        error_reg       <= err_any;
        raised_reg      <= err_valid;
        raised_code_reg <= err_code;
        raised_info_reg <= err_info;
    end

    for (i = 0; i < COUNTERS; i = i + 1) begin
        if (start_reg) begin
            count_reg[i] <= 32'd0;
        end else if (busy && count_event[i] && !(&count_reg[i])) begin
            count_reg[i] <= count_reg[i] + 32'd1;
        end
    end

    if (soft_reset_reg || rst) begin
        error_reg      <= 1'b0;
        raised_reg     <= {SOURCES{1'b0}};
        irq_status_reg <= 2'd0;
        irq_reg        <= 1'b0;
        for (i = 0; i < COUNTERS; i = i + 1) begin
            count_reg[i] <= 32'd0;
        end
    end

    if (rst) begin
        bvalid_reg        <= 1'b0;
        rvalid_reg        <= 1'b0;
        address_held_reg  <= 1'b0;
        data_held_reg     <= 1'b0;
        start_reg         <= 1'b0;
        soft_reset_reg    <= 1'b0;
        load_reset_reg    <= 1'b0;
        irq_enable_reg    <= 2'd0;
        program_start_reg <= 16'd0;
    end
end

endmodule

`resetall
