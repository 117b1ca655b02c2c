// Load stream: turns packets into memory writes (docs/formats.md, "Load packets"). Header and memory words each begin at a beat, so a
// beat holds bits of one word, whatever the width of the stream.
//
// Promises: a word is written only when all its beats have come and its packet's header was legal. After an error, the rest of the
// packet is taken and dropped. While a program runs or an error stands, the stream waits, but only at the start of a packet; while a
// program runs, a live packet waits for one cycle, and a HOLD until enough layers have passed. A soft reset inside a packet drops the
// rest of it, and reports what may have been another packet: if the rest has not the length that the header says, or if that is not
// known. With `load_reset`, the next beat is a header. No word goes to a feature bank in a cycle in which the array writes that bank.
// Ready depends on no input of the stream in the same cycle.

`resetall
`default_nettype none

`include "psa_registers.vh"
`include "psa_words.vh"

module psa_load #(
    parameter [31:0] GROUP         = 8,
    // depth of each memory in words
    parameter [31:0] FEATURE_DEPTH = 512,
    parameter [31:0] PROGRAM_DEPTH = 256,
    parameter [31:0] TILE_DEPTH    = 128,
    parameter [31:0] LANE_DEPTH    = 4096,
    parameter [31:0] GROUP_DEPTH   = 2048,
    parameter [31:0] TAP_DEPTH     = 512,
    parameter [31:0] EDGE_DEPTH    = 64,
    parameter [31:0] FILTER_DEPTH  = 512,
    // activation tables; without any there is no memory for them
    parameter [31:0] TABLES        = 0,
    // bits of a beat
    parameter [31:0] STREAM_BITS   = 64,
    // beats that a word of each memory takes
    parameter [31:0] FEATURE_BEATS = 2,
    parameter [31:0] PROGRAM_BEATS = 3,
    parameter [31:0] TILE_BEATS    = 1,
    parameter [31:0] LANE_BEATS    = 1,
    parameter [31:0] SLOT_BEATS    = 3,
    parameter [31:0] GROUP_BEATS   = 2,
    parameter [31:0] TAP_BEATS     = 1,
    parameter [31:0] EDGE_BEATS    = 4,
    parameter [31:0] FILTER_BEATS  = 2,
    // the largest of them
    parameter [31:0] MAX_BEATS     = 4
) (
    input  wire                             clk,
    input  wire                             rst,
    input  wire                             soft_reset,
    // in the cycle of a soft reset: the host begins its stream anew, too
    input  wire                             load_reset,

    input  wire [STREAM_BITS-1:0]           s_axis_tdata,
    input  wire                             s_axis_tvalid,
    output wire                             s_axis_tready,
    input  wire                             s_axis_tlast,

    // no packet may begin
    input  wire                             hold,
    // a program runs: only a live packet may begin
    input  wire                             busy,
    // the array writes a word of this bank in the next cycle
    input  wire                             soon_valid,
    input  wire [3:0]                       soon_bank,
    // inside a packet, or entering one in this cycle
    output wire                             loading,

    // one memory word; valid for one cycle
    output wire                             ld_valid,
    output wire [3:0]                       ld_dest,
    output wire [3:0]                       ld_bank,
    output wire [15:0]                      ld_addr,
    output wire [MAX_BEATS*STREAM_BITS-1:0] ld_data,

    // the layers of a HOLD that is offered while a program runs; it may be taken; it is taken in this cycle
    output wire [15:0]                      hold_layers,
    input  wire                             hold_go,
    output wire                             hold_taken,
    // a packet is offered that may not begin
    output wire                             blocked,
    // the last word of a live packet is written
    output wire                             packet_done,

    output wire                             err_valid,
    output wire [7:0]                       err_code,
    output wire [23:0]                      err_info
);

// dropped: DROP, what follows an error; CUT, what follows a soft reset
localparam [1:0] STATE_HEADER = 2'd0, STATE_PAYLOAD = 2'd1, STATE_DROP = 2'd2, STATE_CUT = 2'd3;

// the bit of a destination that says that a packet is live; with it, the destination that is no memory
localparam        LIVE             = `PSA_HEADER_LIVE;
localparam [7:0]  HOLD             = `PSA_HOLD;
localparam [31:0] ACTIVATION_DEPTH = `PSA_TABLE_WORDS * TABLES;

reg [1:0]                       state_reg, state_next;
reg [3:0]                       dest_reg, bank_reg;
reg [15:0]                      addr_reg, words_reg;
reg [3:0]                       beat_reg;
reg [MAX_BEATS*STREAM_BITS-1:0] data_reg;
reg                             write_reg, write_next;
// bit LIVE of the header; the packet began while a program ran, so a WAIT may take it; its last word is written
reg                             live_reg, counts_reg, done_reg;
// of a packet that was cut, the rest is counted: it had no error before
reg                             counted_reg;
reg [15:0]                      write_addr_reg;

// the header is the lowest bits of the first beat
wire [7:0]  header_dest  = s_axis_tdata[`PSA_HEADER_DESTINATION];
wire [7:0]  header_bank  = s_axis_tdata[`PSA_HEADER_BANK];
wire [15:0] header_words = s_axis_tdata[`PSA_HEADER_WORDS];
wire [31:0] header_addr  = s_axis_tdata[`PSA_HEADER_ADDRESS];

reg [16:0] header_depth;
reg [3:0]  beats;

always @* begin
    case (header_dest[3:0])
        `PSA_FEATURE_DESTINATION: header_depth = FEATURE_DEPTH[16:0];
        `PSA_PROGRAM_DESTINATION: header_depth = PROGRAM_DEPTH[16:0];
        `PSA_TILE_DESTINATION:    header_depth = TILE_DEPTH[16:0];
        `PSA_LANE_DESTINATION:    header_depth = LANE_DEPTH[16:0];
        `PSA_SLOT_DESTINATION:    header_depth = LANE_DEPTH[16:0];
        `PSA_GROUP_DESTINATION:   header_depth = GROUP_DEPTH[16:0];
        `PSA_TAP_DESTINATION:     header_depth = TAP_DEPTH[16:0];
        `PSA_EDGE_DESTINATION:    header_depth = EDGE_DEPTH[16:0];
        `PSA_FILTER_DESTINATION:  header_depth = FILTER_DEPTH[16:0];
        default:                  header_depth = ACTIVATION_DEPTH[16:0];
    endcase

    case (dest_reg)
        `PSA_FEATURE_DESTINATION: beats = FEATURE_BEATS[3:0];
        `PSA_PROGRAM_DESTINATION: beats = PROGRAM_BEATS[3:0];
        `PSA_TILE_DESTINATION:    beats = TILE_BEATS[3:0];
        `PSA_LANE_DESTINATION:    beats = LANE_BEATS[3:0];
        `PSA_SLOT_DESTINATION:    beats = SLOT_BEATS[3:0];
        `PSA_GROUP_DESTINATION:   beats = GROUP_BEATS[3:0];
        `PSA_TAP_DESTINATION:     beats = TAP_BEATS[3:0];
        `PSA_EDGE_DESTINATION:    beats = EDGE_BEATS[3:0];
        `PSA_FILTER_DESTINATION:  beats = FILTER_BEATS[3:0];
        default:                  beats = 4'd1;
    endcase
end

wire       header_hold   = header_dest == HOLD;
wire [7:0] header_memory = {1'b0, header_dest[6:0]};

// no memory is deeper than 65,536 words
wire [16:0] header_end = {1'b0, header_addr[15:0]} + {1'b0, header_words};

wire bad_dest  = header_hold ? header_bank != 8'd0
    : header_memory >= `PSA_MEMORIES || (header_memory == {4'd0, `PSA_FEATURE_DESTINATION} ? {24'd0, header_bank} >= GROUP : header_bank != 8'd0);
wire bad_range = header_words == 16'd0 || header_addr[31:16] != 16'd0
    || (header_hold ? header_addr[15:0] != 16'd0 : header_end > header_depth);

wire word_done   = beat_reg == beats - 4'd1;
wire last_word   = word_done && words_reg == 16'd1;

wire at_header = state_reg == STATE_HEADER;

// a HOLD without an error, for short
wire hold_good  = header_bank == 8'd0 && header_words != 16'd0 && header_addr == 32'd0;
wire hold_valid = s_axis_tvalid && header_hold && hold_good;

assign hold_layers = header_words;

// While a program runs, which packet is offered decides. That is a register, so that ready depends on no input: a packet begins in the
// cycle after the one that finds that it may.
wire may_go    = s_axis_tvalid && header_dest[LIVE] && (!hold_valid || hold_go);
reg  go_reg;
wire may_begin = !hold && (!busy || go_reg);
// the last beat of a word that would be written together with the array's
wire collides  = state_reg == STATE_PAYLOAD && dest_reg == `PSA_FEATURE_DESTINATION && word_done && soon_valid && soon_bank == bank_reg;

// A beat never moves in the cycle of a soft reset, so that the state alone says whether a packet is in flight.
assign s_axis_tready = !soft_reset && (at_header ? may_begin : !collides);
wire   beat = s_axis_tvalid && s_axis_tready;

// what may go has waited for a cycle, and is still what it was
reg    hold_reg;

assign hold_taken = hold_reg && at_header && busy && s_axis_tvalid && !soft_reset && may_begin;
assign blocked    = at_header && s_axis_tvalid && (hold || (busy && !may_go));

assign loading     = !at_header || (s_axis_tvalid && !soft_reset && may_begin);
assign packet_done = done_reg;

reg       err_valid_next;
reg [7:0] err_code_next;

assign err_valid = err_valid_next;
assign err_code  = err_code_next;
assign err_info  = {16'd0, at_header ? header_dest : {live_reg, 3'd0, dest_reg}};

always @* begin
    state_next     = state_reg;
    write_next     = 1'b0;
    err_valid_next = 1'b0;
    err_code_next  = 8'd0;

    if (soft_reset) begin
        if (load_reset) begin
            state_next = STATE_HEADER;
        end else if (state_reg != STATE_HEADER) begin
            state_next = STATE_CUT;
        end
    end else if (beat) begin
        case (state_reg)
            STATE_HEADER: begin
                if (bad_dest) begin
                    err_valid_next = 1'b1;
                    err_code_next  = `PSA_ERR_LOAD_DESTINATION;
                end else if (bad_range) begin
                    err_valid_next = 1'b1;
                    err_code_next  = `PSA_ERR_LOAD_RANGE;
                end else if (s_axis_tlast && !header_hold) begin
                    err_valid_next = 1'b1;
                    err_code_next  = `PSA_ERR_LOAD_SHORT;
                end else if (!s_axis_tlast && header_hold) begin
                    err_valid_next = 1'b1;
                    err_code_next  = `PSA_ERR_LOAD_LONG;
                end
                if (!s_axis_tlast) begin
                    state_next = err_valid_next ? STATE_DROP : STATE_PAYLOAD;
                end
            end
            STATE_PAYLOAD: begin
                write_next = word_done;
                if (s_axis_tlast && !last_word) begin
                    err_valid_next = 1'b1;
                    err_code_next  = `PSA_ERR_LOAD_SHORT;
                end else if (last_word && !s_axis_tlast) begin
                    err_valid_next = 1'b1;
                    err_code_next  = `PSA_ERR_LOAD_LONG;
                end
                if (s_axis_tlast) begin
                    state_next = STATE_HEADER;
                end else if (last_word) begin
                    state_next = STATE_DROP;
                end
            end
            STATE_CUT: begin
                if (s_axis_tlast != (counted_reg && last_word)) begin
                    err_valid_next = 1'b1;
                    err_code_next  = `PSA_ERR_LOAD_CUT;
                end
                if (s_axis_tlast) begin
                    state_next = STATE_HEADER;
                end else if (err_valid_next) begin
                    state_next = STATE_DROP;
                end
            end
            default: begin
                if (s_axis_tlast) begin
                    state_next = STATE_HEADER;
                end
            end
        endcase
    end
end

integer i;

always @(posedge clk) begin
    state_reg <= state_next;
    write_reg <= write_next;
    if (soft_reset && state_reg != STATE_CUT) begin
        counted_reg <= state_reg == STATE_PAYLOAD;
    end
    go_reg    <= at_header && busy && !hold && !soft_reset && may_go && !beat;
    hold_reg  <= hold_valid;
    done_reg  <= write_next && last_word && counts_reg;

    // until a beat is taken, its place may hold anything
    for (i = 0; i < MAX_BEATS; i = i + 1) begin
        if (!at_header && beat_reg == i[3:0]) begin
            data_reg[i*STREAM_BITS +: STREAM_BITS] <= s_axis_tdata;
        end
    end

    if (beat && at_header) begin
        counts_reg <= busy;
        live_reg   <= header_dest[LIVE];
        dest_reg   <= header_dest[3:0];
        bank_reg   <= header_bank[3:0];
        words_reg  <= header_words;
        addr_reg   <= header_addr[15:0];
        beat_reg   <= 4'd0;
    end else if (beat && !at_header) begin
        write_addr_reg <= addr_reg;
        if (word_done) begin
            beat_reg  <= 4'd0;
            words_reg <= words_reg - 16'd1;
            addr_reg  <= addr_reg + 16'd1;
        end else begin
            beat_reg <= beat_reg + 4'd1;
        end
    end

    if (rst) begin
        state_reg <= STATE_HEADER;
        write_reg <= 1'b0;
        go_reg    <= 1'b0;
        done_reg  <= 1'b0;
    end
end

assign ld_valid = write_reg;
assign ld_dest  = dest_reg;
assign ld_bank  = bank_reg;
assign ld_addr  = write_addr_reg;
assign ld_data  = data_reg;

endmodule

`resetall
