// Register file on AXI4-Lite (docs/machine.md, "Registers"), error latch, interrupt and counters.
//
// Promises: one access at a time. No output depends on an input of the same cycle. A refused access answers SLVERR and changes nothing.
// The first error is kept until a soft reset. Counters stop at their largest value.

`resetall
`default_nettype none

`include "psa_registers.vh"

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

localparam [1:0] RESP_OKAY = 2'b00, RESP_SLVERR = 2'b10;

localparam integer COUNTERS = 6;

// depths are reported less one, so that 65536 fits its 16 bits
localparam [31:0] DEPTH0 = ((FEATURE_DEPTH - 1) << `PSA_REG_DEPTH0_FEATURE_DEPTH) | ((ACC_WORDS - 1) << `PSA_REG_DEPTH0_ACC_WORDS);
localparam [31:0] DEPTH1 = ((PROGRAM_DEPTH - 1) << `PSA_REG_DEPTH1_PROGRAM_DEPTH) | ((TILE_DEPTH - 1) << `PSA_REG_DEPTH1_TILE_DEPTH);
localparam [31:0] DEPTH2 = ((LANE_DEPTH - 1) << `PSA_REG_DEPTH2_LANE_DEPTH) | ((GROUP_DEPTH - 1) << `PSA_REG_DEPTH2_GROUP_DEPTH);
localparam [31:0] DEPTH3 = ((TAP_DEPTH - 1) << `PSA_REG_DEPTH3_TAP_DEPTH) | ((EDGE_DEPTH - 1) << `PSA_REG_DEPTH3_EDGE_DEPTH);
// the load stream is 64 << STREAM bits wide
localparam [31:0] DEPTH4 = ((FILTER_DEPTH - 1) << `PSA_REG_DEPTH4_FILTER_DEPTH) | (TABLES << `PSA_REG_DEPTH4_TABLES)
    | ($clog2(STREAM_BITS / 64) << `PSA_REG_DEPTH4_STREAM);
localparam [31:0] XOR    = (XOR_HISTORY << `PSA_REG_XOR_XOR_HISTORY) | (XOR_INPUTS << `PSA_REG_XOR_XOR_INPUTS);

localparam [31:0] SHAPE = (WEIGHT_BITS << `PSA_REG_SHAPE_WEIGHT_BITS) | (GROUP << `PSA_REG_SHAPE_GROUP) | (COLS << `PSA_REG_SHAPE_COLS)
    | (ROWS << `PSA_REG_SHAPE_ROWS);

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

wire wr_control = wr && wr_address == `PSA_REG_CONTROL && wr_strobe[0];
wire wr_start   = wr_control && wr_data[`PSA_REG_CONTROL_START];
wire wr_reset   = wr_control && wr_data[`PSA_REG_CONTROL_SOFT_RESET] && !wr_data[`PSA_REG_CONTROL_START];
wire wr_anew    = wr_data[`PSA_REG_CONTROL_LOAD_RESET];
wire start_ok   = !busy && !start_reg && !loading && !sending && !error_reg && !soft_reset_reg && !wr_data[`PSA_REG_CONTROL_SOFT_RESET] && !wr_anew;
// LOAD_RESET does nothing by itself
wire control_ok = (!wr_start || start_ok) && (!wr_anew || wr_data[`PSA_REG_CONTROL_SOFT_RESET]);
wire wr_clear   = wr && wr_address == `PSA_REG_IRQ_STATUS && wr_strobe[0];

reg wr_ok;

always @* begin
    case (wr_address)
        `PSA_REG_CONTROL:                                                 wr_ok = !wr_control || control_ok;
        `PSA_REG_IRQ_ENABLE, `PSA_REG_IRQ_STATUS, `PSA_REG_PROGRAM_START: wr_ok = 1'b1;
        default:                                                          wr_ok = 1'b0;
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
        `PSA_REG_ID:      rd_value = `PSA_REG_ID_RESET;
        `PSA_REG_VERSION: rd_value = `PSA_REG_VERSION_RESET;
        `PSA_REG_SHAPE:   rd_value = SHAPE;
        `PSA_REG_DEPTH0:  rd_value = DEPTH0;
        `PSA_REG_DEPTH1:  rd_value = DEPTH1;
        `PSA_REG_DEPTH2:  rd_value = DEPTH2;
        `PSA_REG_DEPTH3:  rd_value = DEPTH3;
        `PSA_REG_DEPTH4:  rd_value = DEPTH4;
        `PSA_REG_CONTROL: rd_value = 32'd0;
        `PSA_REG_STATUS:  begin
            rd_value[`PSA_REG_STATUS_BUSY]    = busy || start_reg;
            rd_value[`PSA_REG_STATUS_LOADING] = loading;
            rd_value[`PSA_REG_STATUS_ERROR]   = error_reg;
            rd_value[`PSA_REG_STATUS_SENDING] = sending && !busy;
        end
        `PSA_REG_ERROR:            rd_value = ({24'd0, error_code} << `PSA_REG_ERROR_CODE) | ({8'd0, error_info} << `PSA_REG_ERROR_INFO);
        `PSA_REG_IRQ_ENABLE:       rd_value = {30'd0, irq_enable_reg};
        `PSA_REG_IRQ_STATUS:       rd_value = {30'd0, irq_status_reg};
        `PSA_REG_PROGRAM_START:    rd_value = {16'd0, program_start_reg};
        `PSA_REG_XOR:              rd_value = XOR;
        `PSA_REG_XOR_SEED:         rd_value = XOR_SEED;
        `PSA_REG_CYCLES:           rd_value = count_reg[0];
        `PSA_REG_BUSY_CYCLES:      rd_value = count_reg[1];
        `PSA_REG_STALL_CYCLES:     rd_value = count_reg[2];
        `PSA_REG_SLOT_ROWS:        rd_value = count_reg[3];
        `PSA_REG_WORDS:            rd_value = count_reg[4];
        `PSA_REG_LOAD_WAIT_CYCLES: rd_value = count_reg[5];
        default:                   rd_ok    = 1'b0;
    endcase
end

wire [1:0] new_events;

assign new_events[`PSA_REG_IRQ_STATUS_DONE]  = done;
assign new_events[`PSA_REG_IRQ_STATUS_ERROR] = err_any && !error_reg;

// They come from far: they are in IRQ_STATUS a cycle later.
reg [1:0] events_reg;

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
    load_reset_reg <= wr_reset && wr_anew;

    if (wr && wr_address == `PSA_REG_IRQ_ENABLE && wr_strobe[0]) begin
        irq_enable_reg <= wr_data[1:0];
    end
    if (wr && wr_address == `PSA_REG_PROGRAM_START) begin
        if (wr_strobe[0]) program_start_reg[7:0]  <= wr_data[7:0];
        if (wr_strobe[1]) program_start_reg[15:8] <= wr_data[15:8];
    end

    // an event wins over a clear in the same cycle, because it must not be lost
    irq_status_reg <= (irq_status_reg & ~({2{wr_clear}} & wr_data[1:0])) | events_reg;
    events_reg     <= new_events;
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
        events_reg     <= 2'd0;
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
