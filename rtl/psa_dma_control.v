// Registers of the DMA, and what it does to the machine: it begins programs, sees whether they are over, and resets both.
//
// Promises: a list is over when its descriptors are done, no program runs and everything is written. The machine is asked for its STATUS
// again and again while a list lasts, so its error ends the list. The first error is kept until a reset. A reset breaks nothing off that
// is under way: bursts are waited for, packets get an end, and the rest of the out stream is taken. It resets the machine, too.

`resetall
`default_nettype none

`include "psa_words.vh"

module psa_dma_control #(
    parameter [31:0] STREAM_BITS = 64,
    parameter [31:0] WORD_BITS   = 128
) (
    input  wire        clk,
    input  wire        rst,

    // accesses of the host; answered in the same cycle
    input  wire        reg_write,
    input  wire [7:0]  reg_address,
    input  wire [31:0] reg_wdata,
    input  wire [3:0]  reg_wstrb,
    output wire [31:0] reg_rdata,
    output wire        reg_ok,

    output wire        irq,

    // accesses to the machine, each until `own_done`
    output wire        own_valid,
    output wire        own_write,
    output wire [7:0]  own_address,
    output wire [31:0] own_wdata,
    input  wire        own_done,
    input  wire [31:0] own_rdata,
    input  wire        own_refused,

    // a list begins
    output wire        start,
    output wire [31:0] list_address,
    output wire [15:0] list_count,
    output wire [31:0] out_address,
    output wire [31:0] out_size,
    input  wire [31:0] out_used,

    // an error stands or a reset lasts; a reset lasts; the cycle behind it
    output wire        stop,
    output wire        flush,
    output wire        clear,
    input  wire        read_done,
    input  wire        read_quiet,
    input  wire        write_quiet,

    input  wire        run_valid,
    input  wire [15:0] run_program,
    output wire        run_ready,

    input  wire        read_err_valid,
    input  wire [7:0]  read_err_code,
    input  wire [15:0] read_err_info,
    input  wire        write_err_valid,
    input  wire [7:0]  write_err_code,
    input  wire [15:0] write_err_info
);

localparam [31:0] ID      = 32'h54444D41;
localparam [31:0] VERSION = 32'h00010000;
localparam [31:0] SHAPE   = ((WORD_BITS / 8) << 8) | (STREAM_BITS / 8);

localparam SHIFT = $clog2(STREAM_BITS / 8);
// a descriptor begins at a beat
localparam [31:0] DESCRIPTOR_BEATS = (`PSA_DESCRIPTOR_BITS + STREAM_BITS - 1) / STREAM_BITS;
localparam [31:0] DESCRIPTOR_SHIFT = $clog2(DESCRIPTOR_BEATS * STREAM_BITS / 8);

localparam [7:0]
    ADDR_ID         = 8'h00, ADDR_VERSION    = 8'h04, ADDR_SHAPE    = 8'h08, ADDR_CONTROL = 8'h20, ADDR_STATUS = 8'h24, ADDR_ERROR = 8'h28,
    ADDR_IRQ_ENABLE = 8'h2C, ADDR_IRQ_STATUS = 8'h30, ADDR_OUT_SIZE = 8'h34, ADDR_LIST    = 8'h38, ADDR_OUT    = 8'h3C, ADDR_GO    = 8'h40,
    ADDR_OUT_USED   = 8'h44;

// registers of the machine
localparam [7:0] CORE_CONTROL = 8'h20, CORE_STATUS = 8'h24, CORE_ERROR = 8'h28, CORE_PROGRAM_START = 8'h34;

localparam [7:0] ERR_MACHINE = 8'd9, ERR_REFUSED = 8'd10;

localparam [3:0] STATE_IDLE = 4'd0, STATE_LOOK = 4'd1, STATE_PROGRAM = 4'd2, STATE_START = 4'd3, STATE_CODE = 4'd4, STATE_STOPPED = 4'd5,
    STATE_CUT = 4'd6, STATE_FLUSH = 4'd7, STATE_ANEW = 4'd8, STATE_SENT = 4'd9;

reg [3:0]  state_reg, state_next;
// a reset has been asked for; it is over
reg        reset_reg, clear_reg;
reg        start_reg;
reg [1:0]  irq_enable_reg, irq_status_reg;
reg        irq_reg;
reg        error_reg;
reg [7:0]  error_code_reg;
reg [15:0] error_info_reg;
reg [31:0] list_reg, out_reg, size_reg;
reg [15:0] count_reg;

wire idle      = state_reg == STATE_IDLE;
wire resetting = state_reg == STATE_CUT || state_reg == STATE_FLUSH || state_reg == STATE_ANEW || state_reg == STATE_SENT;

assign irq          = irq_reg;
assign start        = start_reg;
assign list_address = list_reg;
assign list_count   = count_reg;
assign out_address  = out_reg;
assign out_size     = size_reg;
assign stop         = error_reg || reset_reg;
assign flush        = resetting;
assign clear        = clear_reg;

// An address within a word is the word's. A register of 32 bits needs all its strobes.

wire [7:0] address = {reg_address[7:2], 2'b00};
wire       unused  = &{1'b0, reg_address[1:0]};
wire       all    = reg_wstrb == 4'b1111;
wire       beat   = reg_wdata[SHIFT-1:0] == {SHIFT{1'b0}};
wire       go     = reg_write && address == ADDR_GO;
wire       reset  = reg_write && address == ADDR_CONTROL && reg_wstrb[0] && reg_wdata[0];
wire       clears = reg_write && address == ADDR_IRQ_STATUS && reg_wstrb[0];
// nothing may change under a list
wire       free   = idle && !start_reg && !error_reg && !reset_reg;

reg        write_ok, read_ok;
reg [31:0] read_value;

always @* begin
    case (address)
        ADDR_CONTROL, ADDR_IRQ_ENABLE, ADDR_IRQ_STATUS: write_ok = 1'b1;
        ADDR_OUT_SIZE, ADDR_OUT: write_ok = free && all && beat;
        ADDR_LIST:               write_ok = free && all && reg_wdata[DESCRIPTOR_SHIFT-1:0] == {DESCRIPTOR_SHIFT{1'b0}};
        ADDR_GO:                 write_ok = free && all && reg_wdata[31:16] == 16'd0 && reg_wdata[15:0] != 16'd0;
        default:                 write_ok = 1'b0;
    endcase

    read_ok    = 1'b1;
    read_value = 32'd0;
    case (address)
        ADDR_ID:         read_value = ID;
        ADDR_VERSION:    read_value = VERSION;
        ADDR_SHAPE:      read_value = SHAPE;
        ADDR_CONTROL:    read_value = 32'd0;
        ADDR_STATUS:     read_value = {30'd0, error_reg, (!free && !error_reg) || reset_reg};
        ADDR_ERROR:      read_value = {8'd0, error_info_reg, error_code_reg};
        ADDR_IRQ_ENABLE: read_value = {30'd0, irq_enable_reg};
        ADDR_IRQ_STATUS: read_value = {30'd0, irq_status_reg};
        ADDR_OUT_SIZE:   read_value = size_reg;
        ADDR_LIST:       read_value = list_reg;
        ADDR_OUT:        read_value = out_reg;
        ADDR_GO:         read_value = 32'd0;
        ADDR_OUT_USED:   read_value = out_used;
        default:         read_ok    = 1'b0;
    endcase
end

assign reg_ok    = reg_write ? write_ok : read_ok;
assign reg_rdata = read_value;

// the machine's STATUS: BUSY, LOADING, ERROR, SENDING

wire looked  = state_reg == STATE_LOOK && own_done;
wire at_rest = !own_rdata[0] && !own_rdata[3];
wire broken  = own_rdata[2] || own_refused;
wire over    = looked && at_rest && !broken && read_done && write_quiet;

assign own_valid   = state_reg == STATE_LOOK || state_reg == STATE_PROGRAM || state_reg == STATE_START || state_reg == STATE_CODE
    || state_reg == STATE_CUT || state_reg == STATE_ANEW || state_reg == STATE_SENT;
assign own_write   = state_reg == STATE_PROGRAM || state_reg == STATE_START || state_reg == STATE_CUT || state_reg == STATE_ANEW;
assign own_address = state_reg == STATE_PROGRAM ? CORE_PROGRAM_START
    : state_reg == STATE_CODE ? CORE_ERROR
    : state_reg == STATE_LOOK || state_reg == STATE_SENT ? CORE_STATUS : CORE_CONTROL;
// START; SOFT_RESET, after the beats that are offered with LOAD_RESET, too
assign own_wdata   = state_reg == STATE_PROGRAM ? {16'd0, run_program}
    : state_reg == STATE_START ? 32'd1
    : state_reg == STATE_CUT ? 32'd2 : 32'd6;

assign run_ready = state_reg == STATE_START && own_done && !own_refused;

reg        err_valid;
reg [7:0]  err_code;
reg [15:0] err_info;

always @* begin
    err_valid = 1'b0;
    err_code  = read_err_code;
    err_info  = read_err_info;
    if (state_reg == STATE_CODE && own_done) begin
        // without an error the machine has refused a START
        err_valid = 1'b1;
        err_code  = own_rdata[7:0] != 8'd0 ? ERR_MACHINE : ERR_REFUSED;
        err_info  = own_rdata[7:0] != 8'd0 ? {8'd0, own_rdata[7:0]} : read_err_info;
    end else if (write_err_valid) begin
        err_valid = 1'b1;
        err_code  = write_err_code;
        err_info  = write_err_info;
    end else if (read_err_valid) begin
        err_valid = 1'b1;
    end
end

// no error counts before a list or in a reset
wire listed = state_reg == STATE_LOOK || state_reg == STATE_PROGRAM || state_reg == STATE_START || state_reg == STATE_CODE;
wire fails  = listed && err_valid && !error_reg && !reset_reg;

always @* begin
    state_next = state_reg;
    case (state_reg)
        STATE_IDLE: begin
            if (reset_reg) begin
                state_next = STATE_CUT;
            end else if (start_reg) begin
                state_next = STATE_LOOK;
            end
        end
        STATE_LOOK: begin
            if (own_done) begin
                state_next = reset_reg ? STATE_CUT
                    : error_reg || fails ? STATE_STOPPED
                    : broken ? STATE_CODE
                    : over ? STATE_IDLE
                    : at_rest && run_valid ? STATE_PROGRAM
                    : STATE_LOOK;
            end
        end
        STATE_PROGRAM, STATE_START, STATE_CODE: begin
            if (own_done) begin
                state_next = reset_reg ? STATE_CUT
                    : error_reg || fails ? STATE_STOPPED
                    : state_reg == STATE_PROGRAM ? STATE_START
                    : own_refused ? STATE_CODE : STATE_LOOK;
            end
        end
        STATE_STOPPED: if (reset_reg) state_next = STATE_CUT;
        STATE_CUT:     if (own_done) state_next = STATE_FLUSH;
        STATE_FLUSH:   if (read_quiet && write_quiet) state_next = STATE_ANEW;
        STATE_ANEW:    if (own_done) state_next = STATE_SENT;
        default:       if (own_done && !own_rdata[0] && !own_rdata[3] && write_quiet) state_next = STATE_IDLE;
    endcase
end

wire ends = state_reg == STATE_SENT && state_next == STATE_IDLE;

always @(posedge clk) begin
    state_reg <= state_next;
    start_reg <= go && write_ok;
    reset_reg <= (reset_reg || reset) && !ends;
    clear_reg <= ends;

    if (go && write_ok) begin
        count_reg <= reg_wdata[15:0];
    end
    if (reg_write && write_ok && address == ADDR_LIST)     list_reg <= reg_wdata;
    if (reg_write && write_ok && address == ADDR_OUT)      out_reg  <= reg_wdata;
    if (reg_write && write_ok && address == ADDR_OUT_SIZE) size_reg <= reg_wdata;
    if (reg_write && address == ADDR_IRQ_ENABLE && reg_wstrb[0]) begin
        irq_enable_reg <= reg_wdata[1:0];
    end

    // an event wins over a clear in the same cycle, because it must not be lost
    irq_status_reg <= (irq_status_reg & ~({2{clears}} & reg_wdata[1:0])) | {fails, over && state_next == STATE_IDLE};
    irq_reg        <= |(irq_status_reg & irq_enable_reg);

    if (fails) begin
        error_reg      <= 1'b1;
        error_code_reg <= err_code;
        error_info_reg <= err_info;
    end

    if (ends || rst) begin
        error_reg      <= 1'b0;
        error_code_reg <= 8'd0;
        error_info_reg <= 16'd0;
        irq_status_reg <= 2'd0;
        irq_reg        <= 1'b0;
    end

    if (rst) begin
        state_reg      <= STATE_IDLE;
        start_reg      <= 1'b0;
        reset_reg      <= 1'b0;
        clear_reg      <= 1'b0;
        irq_enable_reg <= 2'd0;
        list_reg       <= 32'd0;
        out_reg        <= 32'd0;
        size_reg       <= 32'd0;
        count_reg      <= 16'd0;
    end
end

endmodule

`resetall
