// Registers of the DMA, and what it does to the machine: it begins programs, sees whether they are over, and resets both.
//
// Promises: a list is over when its descriptors are done, no program runs and everything is written. The machine is asked for its STATUS
// again and again while a list lasts, so its error ends the list. The first error is kept until a reset. A reset breaks nothing off that
// is under way: bursts are waited for, packets get an end, and the rest of the out stream is taken. It resets the machine, too.

`resetall
`default_nettype none

`include "psa_registers.vh"
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

localparam [31:0] SHAPE = ((WORD_BITS / 8) << `PSA_REG_DMA_SHAPE_WORD) | ((STREAM_BITS / 8) << `PSA_REG_DMA_SHAPE_BEAT);

// what is written into CONTROL of the machine
localparam [31:0] START = 32'd1 << `PSA_REG_CONTROL_START, SOFT_RESET = 32'd1 << `PSA_REG_CONTROL_SOFT_RESET,
    LOAD_RESET = 32'd1 << `PSA_REG_CONTROL_LOAD_RESET;

localparam SHIFT = $clog2(STREAM_BITS / 8);
// a descriptor begins at a beat
localparam [31:0] DESCRIPTOR_BEATS = (`PSA_DESCRIPTOR_BITS + STREAM_BITS - 1) / STREAM_BITS;
localparam [31:0] DESCRIPTOR_SHIFT = $clog2(DESCRIPTOR_BEATS * STREAM_BITS / 8);

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
wire       go     = reg_write && address == `PSA_REG_DMA_GO;
wire       reset  = reg_write && address == `PSA_REG_DMA_CONTROL && reg_wstrb[0] && reg_wdata[`PSA_REG_DMA_CONTROL_RESET];
wire       clears = reg_write && address == `PSA_REG_DMA_IRQ_STATUS && reg_wstrb[0];
// nothing may change under a list
wire       free   = idle && !start_reg && !error_reg && !reset_reg;

reg        write_ok, read_ok;
reg [31:0] read_value;

always @* begin
    case (address)
        `PSA_REG_DMA_CONTROL, `PSA_REG_DMA_IRQ_ENABLE, `PSA_REG_DMA_IRQ_STATUS: write_ok = 1'b1;
        `PSA_REG_DMA_OUT_SIZE, `PSA_REG_DMA_OUT: write_ok = free && all && beat;
        `PSA_REG_DMA_LIST: write_ok = free && all && reg_wdata[DESCRIPTOR_SHIFT-1:0] == {DESCRIPTOR_SHIFT{1'b0}};
        `PSA_REG_DMA_GO:   write_ok = free && all && reg_wdata[31:16] == 16'd0 && reg_wdata[15:0] != 16'd0;
        default:           write_ok = 1'b0;
    endcase

    read_ok    = 1'b1;
    read_value = 32'd0;
    case (address)
        `PSA_REG_DMA_ID:      read_value = `PSA_REG_DMA_ID_RESET;
        `PSA_REG_DMA_VERSION: read_value = `PSA_REG_DMA_VERSION_RESET;
        `PSA_REG_DMA_SHAPE:   read_value = SHAPE;
        `PSA_REG_DMA_CONTROL: read_value = 32'd0;
        `PSA_REG_DMA_STATUS:  begin
            read_value[`PSA_REG_DMA_STATUS_BUSY]  = (!free && !error_reg) || reset_reg;
            read_value[`PSA_REG_DMA_STATUS_ERROR] = error_reg;
        end
        `PSA_REG_DMA_ERROR:      read_value = ({24'd0, error_code_reg} << `PSA_REG_DMA_ERROR_CODE) | ({16'd0, error_info_reg} << `PSA_REG_DMA_ERROR_INFO);
        `PSA_REG_DMA_IRQ_ENABLE: read_value = {30'd0, irq_enable_reg};
        `PSA_REG_DMA_IRQ_STATUS: read_value = {30'd0, irq_status_reg};
        `PSA_REG_DMA_OUT_SIZE:   read_value = size_reg;
        `PSA_REG_DMA_LIST:       read_value = list_reg;
        `PSA_REG_DMA_OUT:        read_value = out_reg;
        `PSA_REG_DMA_GO:         read_value = 32'd0;
        `PSA_REG_DMA_OUT_USED:   read_value = out_used;
        default:                 read_ok    = 1'b0;
    endcase
end

assign reg_ok    = reg_write ? write_ok : read_ok;
assign reg_rdata = read_value;

wire looked  = state_reg == STATE_LOOK && own_done;
wire at_rest = !own_rdata[`PSA_REG_STATUS_BUSY] && !own_rdata[`PSA_REG_STATUS_SENDING];
wire broken  = own_rdata[`PSA_REG_STATUS_ERROR] || own_refused;
wire over    = looked && at_rest && !broken && read_done && write_quiet;

assign own_valid   = state_reg == STATE_LOOK || state_reg == STATE_PROGRAM || state_reg == STATE_START || state_reg == STATE_CODE
    || state_reg == STATE_CUT || state_reg == STATE_ANEW || state_reg == STATE_SENT;
assign own_write   = state_reg == STATE_PROGRAM || state_reg == STATE_START || state_reg == STATE_CUT || state_reg == STATE_ANEW;
assign own_address = state_reg == STATE_PROGRAM ? `PSA_REG_PROGRAM_START
    : state_reg == STATE_CODE ? `PSA_REG_ERROR
    : state_reg == STATE_LOOK || state_reg == STATE_SENT ? `PSA_REG_STATUS : `PSA_REG_CONTROL;
// after the beats that are offered, the load stream begins anew
assign own_wdata   = state_reg == STATE_PROGRAM ? {16'd0, run_program}
    : state_reg == STATE_START ? START
    : state_reg == STATE_CUT ? SOFT_RESET : SOFT_RESET | LOAD_RESET;

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
        err_code  = own_rdata[7:0] != 8'd0 ? `PSA_DMA_ERR_MACHINE : `PSA_DMA_ERR_REFUSED;
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
        default: if (own_done && at_rest && write_quiet) state_next = STATE_IDLE;
    endcase
end

wire [1:0] new_events;

assign new_events[`PSA_REG_DMA_IRQ_STATUS_DONE]  = over && state_next == STATE_IDLE;
assign new_events[`PSA_REG_DMA_IRQ_STATUS_ERROR] = fails;

wire ends = state_reg == STATE_SENT && state_next == STATE_IDLE;

always @(posedge clk) begin
    state_reg <= state_next;
    start_reg <= go && write_ok;
    reset_reg <= (reset_reg || reset) && !ends;
    clear_reg <= ends;

    if (go && write_ok) begin
        count_reg <= reg_wdata[15:0];
    end
    if (reg_write && write_ok && address == `PSA_REG_DMA_LIST)     list_reg <= reg_wdata;
    if (reg_write && write_ok && address == `PSA_REG_DMA_OUT)      out_reg  <= reg_wdata;
    if (reg_write && write_ok && address == `PSA_REG_DMA_OUT_SIZE) size_reg <= reg_wdata;
    if (reg_write && address == `PSA_REG_DMA_IRQ_ENABLE && reg_wstrb[0]) begin
        irq_enable_reg <= reg_wdata[1:0];
    end

    // an event wins over a clear in the same cycle, because it must not be lost
    irq_status_reg <= (irq_status_reg & ~({2{clears}} & reg_wdata[1:0])) | new_events;
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
