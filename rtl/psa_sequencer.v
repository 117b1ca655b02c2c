// Program sequencer: reads PROGRAM and TILE records and issues one lane a cycle, layer by layer, chunk by chunk, tile by tile, pass by
// pass, word by word (docs/machine.md, "Sequencer").
//
// Promises: while `issue_valid` is high, row r is issued at every T-th cycle, and only an error interrupts a layer. The next record
// begins when the last word of a layer is in memory or, if the layer has a gap, after that number of cycles. Every field of a record is
// checked before it is used: what a record or a tile says by itself as it is loaded, the position of a word while the word before it
// runs. A WAIT goes on when enough live packets have come.

`resetall
`default_nettype none

`include "psa_registers.vh"
`include "psa_words.vh"

module psa_sequencer #(
    parameter ROWS          = 16,
    parameter GROUP         = 8,
    parameter FEATURE_DEPTH = 512,
    parameter ACC_WORDS     = 16,
    parameter PROGRAM_DEPTH = 256,
    parameter TILE_DEPTH    = 128,
    parameter LANE_DEPTH    = 4096,
    parameter TAP_DEPTH     = 1024,
    parameter EDGE_DEPTH    = 128,
    parameter FILTER_DEPTH  = 512
) (
    input  wire                             clk,
    input  wire                             rst,

    input  wire                             start,
    input  wire [15:0]                      program_start,
    // an error anywhere: stop at once and wait for reset
    input  wire                             error,
    output wire                             busy,
    output wire                             done,

    // load bus, already decoded
    input  wire                             ld_program,
    input  wire                             ld_tile,
    input  wire [15:0]                      ld_addr,
    input  wire [`PSA_PROGRAM_BITS-1:0]     ld_data,

    // one lane of one word
    output wire                             issue_valid,
    output wire [$clog2(ROWS)-1:0]          issue_row,
    output wire [$clog2(LANE_DEPTH)-1:0]    issue_lane,
    // first word of a pass: its slots go into the array
    output wire                             issue_first,
    // input word within the sub-plane, and this phase's row of the tap table
    output wire [15:0]                      issue_word,
    output wire [$clog2(TAP_DEPTH)-1:0]     issue_tap_row,
    output wire [$clog2(EDGE_DEPTH)-1:0]    issue_edge,
    // the value of a pixel over an edge; whether the layer takes maxima, not sums
    output wire [7:0]                       issue_pad,
    output wire                             issue_maximum,
    // word of the accumulators; whether this pass is the first or the last of its tile
    output wire [$clog2(ACC_WORDS)-1:0]     issue_acc_word,
    output wire                             issue_acc_first,
    output wire                             issue_acc_last,
    // output word within the plane, and the first FILTER word of the tile
    output wire [$clog2(FEATURE_DEPTH)-1:0] issue_out_word,
    output wire [$clog2(FILTER_DEPTH)-1:0]  issue_filter_base,
    // ... and its rows of slots, where these have addresses of their own
    output wire [15:0]                      issue_slot_base,
    // the last word of the layer
    output wire                             issue_layer_last,
    // its last result is in memory
    input  wire                             layer_done,

    // the record is looked at, which may be an OUT; its packet begins
    output wire                             out_prepare,
    output wire                             out_start,
    output wire [3:0]                       out_bank,
    output wire [15:0]                      out_base,
    output wire [15:0]                      out_words,
    input  wire                             out_done,

    // a LAYER has been left; its last results may still be on their way
    output wire                             layer_passed,
    // a WAIT for so many packets; it goes on, or never can
    output wire                             wait_valid,
    output wire [15:0]                      wait_packets,
    input  wire                             wait_go,
    input  wire                             deadlock,

    output wire                             err_valid,
    output wire [7:0]                       err_code,
    output wire [23:0]                      err_info
);

// words of the memories: those that are loaded without what their checks say already
localparam PROGRAM_BITS = 6 + 1 + `PSA_PROGRAM_BITS - `PSA_PROGRAM_OPCODE_BITS - `PSA_PROGRAM_MODE_BITS;
localparam TILE_BITS    = 1 + `PSA_TILE_BITS - `PSA_TILE_FILTER_BASE_BITS + $clog2(FILTER_DEPTH);
localparam ROW_BITS     = $clog2(ROWS);
localparam LANE_ADDR    = $clog2(LANE_DEPTH);
localparam EDGE_ADDR    = $clog2(EDGE_DEPTH);
localparam TAP_ADDR     = $clog2(TAP_DEPTH);
localparam ACC_ADDR     = $clog2(ACC_WORDS);
localparam FEATURE_ADDR = $clog2(FEATURE_DEPTH);
localparam FILTER_ADDR  = $clog2(FILTER_DEPTH);
localparam PROGRAM_ADDR = $clog2(PROGRAM_DEPTH);
localparam TILE_ADDR    = $clog2(TILE_DEPTH);

localparam [15:0] OPCODE_LAYER = `PSA_OPCODE_LAYER, OPCODE_OUT = `PSA_OPCODE_OUT, OPCODE_END = `PSA_OPCODE_END, OPCODE_WAIT = `PSA_OPCODE_WAIT,
    OPCODE_JUMP = `PSA_OPCODE_JUMP;

localparam [7:0] MODE_MAXIMUM = `PSA_MODE_MAXIMUM;

localparam [3:0]
    STATE_IDLE      = 4'd0,
    STATE_FETCH     = 4'd1,
    STATE_DECODE    = 4'd2,
    STATE_TILE      = 4'd3,
    STATE_TILE_WAIT = 4'd4,
    STATE_RUN       = 4'd5,
    STATE_DRAIN     = 4'd6,
    STATE_OUT       = 4'd7,
    STATE_ERROR     = 4'd8,
    STATE_WAIT      = 4'd9;

reg [3:0]  state_reg, state_next;
reg [16:0] pc_reg, pc_next;

// the current record, from its DECODE on
reg [PROGRAM_BITS-1:0] record_reg;
// the gap of the layer before, and how much of it is left
reg [7:0]              gap_reg, wait_reg;

// A position among the output words of a layer. `edge_row` and `tap_row` are the phase's first words of those tables. At one past a
// memory the layer is stopped, so no register needs to hold it.
reg [15:0] word_reg, phase_reg, chunk_word_reg, edge_row_reg, tap_row_reg, out_word_reg;
// ... and the position of the first word of the chunk, to which every pass returns
reg [15:0] home_word_reg, home_phase_reg, home_edge_row_reg, home_tap_row_reg, home_out_word_reg;

reg [ROW_BITS-1:0]    row_reg;
reg [15:0]            pass_reg, tile_reg;
// the tile that runs
reg [15:0]            lane_reg, passes_reg, slot_base_reg;
reg [FILTER_ADDR-1:0] filter_base_reg;
// the first cycle of an OUT
reg                   out_start_reg;

// What is loaded is checked on its way into the memory, which keeps the outcome: a record that may run has the bit of its kind, and a tile
// one that says that it may.

wire [15:0] loaded_opcode       = ld_data[`PSA_PROGRAM_OPCODE];
wire [15:0] loaded_words        = ld_data[`PSA_PROGRAM_WORDS];
wire [15:0] loaded_phases       = ld_data[`PSA_PROGRAM_PHASES];
wire [15:0] loaded_chunk_words  = ld_data[`PSA_PROGRAM_CHUNK_WORDS];
wire [15:0] loaded_edge_base    = ld_data[`PSA_PROGRAM_EDGE_BASE];
wire [15:0] loaded_edge_stride  = ld_data[`PSA_PROGRAM_EDGE_STRIDE];
wire [15:0] loaded_tap_base     = ld_data[`PSA_PROGRAM_TAP_BASE];
wire [15:0] loaded_tap_stride   = ld_data[`PSA_PROGRAM_TAP_STRIDE];
wire [15:0] loaded_tile_base    = ld_data[`PSA_PROGRAM_TILE_BASE];
wire [15:0] loaded_tiles        = ld_data[`PSA_PROGRAM_TILES];
wire [7:0]  loaded_gap          = ld_data[`PSA_PROGRAM_GAP];
wire [7:0]  loaded_pad          = ld_data[`PSA_PROGRAM_PAD];
wire [7:0]  loaded_mode         = ld_data[`PSA_PROGRAM_MODE];

wire [15:0] loaded_out_bank     = ld_data[`PSA_OUT_BANK];
wire [15:0] loaded_out_base     = ld_data[`PSA_OUT_BASE];
wire [15:0] loaded_out_words    = ld_data[`PSA_OUT_WORDS];

wire [15:0] loaded_packets      = ld_data[`PSA_WAIT_PACKETS];

// The end of a range has one bit more than its memory's depth; a part that has more is too large by itself.
localparam TILE_END    = TILE_ADDR + 1;
localparam FEATURE_END = FEATURE_ADDR + 1;

wire [16:0] loaded_tile_base_17 = {1'b0, loaded_tile_base};
wire [16:0] loaded_tiles_17     = {1'b0, loaded_tiles};
wire [16:0] loaded_out_base_17  = {1'b0, loaded_out_base};
wire [16:0] loaded_out_words_17 = {1'b0, loaded_out_words};
wire [31:0] loaded_tiles_end    = {{32-TILE_END{1'b0}}, loaded_tile_base_17[TILE_END-1:0]} + {{32-TILE_END{1'b0}}, loaded_tiles_17[TILE_END-1:0]};
wire [31:0] loaded_out_end      = {{32-FEATURE_END{1'b0}}, loaded_out_base_17[FEATURE_END-1:0]}
    + {{32-FEATURE_END{1'b0}}, loaded_out_words_17[FEATURE_END-1:0]};

wire loaded_layer_ok = loaded_words != 16'd0 && loaded_phases != 16'd0 && loaded_chunk_words != 16'd0 && loaded_tiles != 16'd0
    && loaded_chunk_words <= ACC_WORDS && loaded_mode <= MODE_MAXIMUM
    && (loaded_tile_base_17 | loaded_tiles_17) >> TILE_END == 17'd0 && loaded_tiles_end <= TILE_DEPTH;

wire loaded_out_ok = {16'd0, loaded_out_bank} < GROUP && loaded_out_words != 16'd0
    && (loaded_out_base_17 | loaded_out_words_17) >> FEATURE_END == 17'd0 && loaded_out_end <= FEATURE_DEPTH;

wire loaded_wait_ok = loaded_packets != 16'd0;

wire [5:0] loaded_kind = {
    loaded_opcode == 16'd0 || loaded_opcode > OPCODE_JUMP,
    loaded_opcode == OPCODE_JUMP,
    loaded_opcode == OPCODE_WAIT && loaded_wait_ok,
    loaded_opcode == OPCODE_END,
    loaded_opcode == OPCODE_OUT && loaded_out_ok,
    loaded_opcode == OPCODE_LAYER && loaded_layer_ok
};

wire [15:0] loaded_lane_base    = ld_data[`PSA_TILE_LANE_BASE];
wire [15:0] loaded_passes       = ld_data[`PSA_TILE_PASSES];
wire [15:0] loaded_filter_base  = ld_data[`PSA_TILE_FILTER_BASE];
wire [15:0] loaded_slot_base    = ld_data[`PSA_TILE_SLOT_BASE];

// of a number of passes with no more bits than LANE_DEPTH
localparam PASS_BITS = LANE_ADDR + 1 - ROW_BITS;

wire [17:0] loaded_lanes_end = {2'd0, loaded_lane_base} + {{18-LANE_ADDR-1{1'b0}}, loaded_passes[PASS_BITS-1:0], {ROW_BITS{1'b0}}};

wire loaded_tile_ok = loaded_passes != 16'd0 && loaded_passes >> PASS_BITS == 16'd0 && {14'd0, loaded_lanes_end} <= LANE_DEPTH
    && {16'd0, loaded_filter_base} <= FILTER_DEPTH - ROWS;

// memories

// The word of the record that FETCH takes is read in the cycle before, in which the state alone says where it lies.
wire [PROGRAM_BITS-1:0] record;
wire [16:0]             pc_ahead = state_reg == STATE_IDLE ? {1'b0, program_start}
    : state_reg == STATE_DECODE ? {1'b0, record_target} : pc_reg + 17'd1;
wire [TILE_BITS-1:0]    tile_record;
reg  [15:0]             tile_ahead_reg;

psa_ram #(.WIDTH(PROGRAM_BITS), .DEPTH(PROGRAM_DEPTH)) program_memory (
    .clk     (clk),
    .wr_en   (ld_program),
    .wr_addr (ld_addr[PROGRAM_ADDR-1:0]),
    .wr_data ({loaded_kind, loaded_mode == MODE_MAXIMUM, loaded_pad, loaded_gap, loaded_tiles, loaded_tile_base, loaded_tap_stride,
               loaded_tap_base, loaded_edge_stride, loaded_edge_base, loaded_chunk_words, loaded_phases, loaded_words}),
    .rd_en   (1'b1),
    .rd_addr (pc_ahead[PROGRAM_ADDR-1:0]),
    .rd_data (record)
);

// The tile after the one that runs is always being read, and the first one from DECODE on: a tile lasts at least T >= 4 cycles, so that
// it is known for a cycle whether the next one may run.
wire [15:0] tile_address = record_tile_base + tile_ahead_reg;

psa_ram #(.WIDTH(TILE_BITS), .DEPTH(TILE_DEPTH)) tile_memory (
    .clk     (clk),
    .wr_en   (ld_tile),
    .wr_addr (ld_addr[TILE_ADDR-1:0]),
    .wr_data ({loaded_tile_ok, loaded_filter_base[FILTER_ADDR-1:0], loaded_slot_base, loaded_passes, loaded_lane_base}),
    .rd_en   (1'b1),
    .rd_addr (tile_address[TILE_ADDR-1:0]),
    .rd_data (tile_record)
);

wire        record_unknown, record_jump, record_wait, record_end, record_out, record_layer, record_maximum;
wire [7:0]  record_pad, record_gap;
wire [15:0] record_tiles, record_tile_base, record_tap_stride, record_tap_base, record_edge_stride, record_edge_base;
wire [15:0] record_chunk_words, record_phases, record_words;

assign {record_unknown, record_jump, record_wait, record_end, record_out, record_layer, record_maximum, record_pad, record_gap,
    record_tiles, record_tile_base, record_tap_stride, record_tap_base, record_edge_stride, record_edge_base, record_chunk_words,
    record_phases, record_words} = record_reg;

// a JUMP has its only field where a LAYER has this one
wire [15:0] record_target = record_words;

wire                   tile_ok;
reg                    tile_ok_reg;
wire [FILTER_ADDR-1:0] tile_filter_base;
wire [15:0]            tile_slot_base, tile_passes, tile_lane_base;

assign {tile_ok, tile_filter_base, tile_slot_base, tile_passes, tile_lane_base} = tile_record;

// After a layer with a gap the pipeline may still be full, so only a layer may follow, if need be behind a WAIT or a JUMP.
wire followed = gap_reg != 8'd0;
wire out_runs = record_out && !followed;
wire end_runs = record_end && !followed;

// the positions of the counters

// the state is RUN
reg  running_reg;
wire running    = running_reg;
wire word_end   = &row_reg;
wire phase_end  = word_reg == record_words - 16'd1;
wire plane_end  = phase_end && phase_reg == record_phases - 16'd1;
wire chunk_end  = plane_end || chunk_word_reg == record_chunk_words - 16'd1;
wire last_pass  = pass_reg == passes_reg - 16'd1;
wire last_tile  = tile_reg == record_tiles - 16'd1;

// What is so at the first row of a word is so at its last: only a register of it decides what comes after the word.
reg phase_end_reg, chunk_end_reg, last_pass_reg, last_of_chunk_reg, last_of_layer_reg;

wire pass_end   = word_end && chunk_end_reg;
wire tile_end   = pass_end && last_pass_reg;
// the last pass of a chunk; all passes before it are followed by one that begins where they began
wire chunk_done = pass_end && last_of_chunk_reg;
wire layer_end  = pass_end && last_of_layer_reg;

wire take_tile  = state_reg == STATE_TILE_WAIT || (running && tile_end && !layer_end);

// Before a layer the position of its first word, then that of the word after this one, unless the pass returns: every position in it was
// good when the chunk began.
wire [16:0] edge_ahead = {1'b0, edge_row_reg} + (!running ? 17'd0 : phase_end_reg ? {1'b0, record_edge_stride} : {1'b0, word_reg})
    + {16'd0, running && !phase_end_reg};
wire [16:0] tap_ahead  = {1'b0, tap_row_reg} + (running && phase_end_reg ? {1'b0, record_tap_stride} : 17'd0);
wire [16:0] out_ahead  = {1'b0, out_word_reg} + {16'd0, running};

reg ahead_ok_reg, position_ok_reg;

// the layer's last result is in memory, or its gap is over
wire drained    = followed ? wait_reg == 8'd1 : layer_done;

reg        err_valid_next;
reg [7:0]  err_code_next;
reg [23:0] err_info_next;

assign err_valid = err_valid_next;
assign err_code  = err_code_next;
assign err_info  = err_info_next;

assign busy = state_reg != STATE_IDLE && state_reg != STATE_ERROR;
assign done = state_reg == STATE_DECODE && end_runs && !error;

assign issue_valid       = running && position_ok_reg;
assign issue_row         = row_reg;
assign issue_lane        = lane_reg[LANE_ADDR-1:0];
assign issue_first       = chunk_word_reg == 16'd0;
assign issue_word        = word_reg;
assign issue_tap_row     = tap_row_reg[TAP_ADDR-1:0];
assign issue_edge        = edge_row_reg[EDGE_ADDR-1:0] + word_reg[EDGE_ADDR-1:0];
assign issue_pad         = record_pad;
assign issue_maximum     = record_maximum;
assign issue_acc_word    = chunk_word_reg[ACC_ADDR-1:0];
assign issue_acc_first   = pass_reg == 16'd0;
assign issue_acc_last    = last_pass;
assign issue_out_word    = out_word_reg[FEATURE_ADDR-1:0];
assign issue_filter_base = filter_base_reg;
assign issue_slot_base   = slot_base_reg;
// only for a layer whose end the sequencer waits for
assign issue_layer_last  = chunk_end && last_pass && last_tile && plane_end && !followed;

assign layer_passed = state_reg == STATE_DRAIN && drained && !error;
assign wait_valid   = state_reg == STATE_WAIT;
assign wait_packets = record_words;

assign out_prepare = state_reg == STATE_DECODE;
assign out_start   = out_start_reg && !error;
// the fields of an OUT record lie where a LAYER has these
assign out_bank    = record_words[3:0];
assign out_base    = record_phases;
assign out_words   = record_chunk_words;

always @* begin
    state_next     = state_reg;
    pc_next        = pc_reg;
    err_valid_next = 1'b0;
    err_code_next  = 8'd0;
    err_info_next  = {7'd0, pc_reg};

    case (state_reg)
        STATE_IDLE: begin
            pc_next = pc_ahead;
            if (start) begin
                state_next = STATE_FETCH;
            end
        end
        STATE_FETCH: begin
            state_next = STATE_DECODE;
            if (pc_reg >= PROGRAM_DEPTH) begin
                state_next     = STATE_ERROR;
                err_valid_next = 1'b1;
                err_code_next  = `PSA_ERR_PROGRAM_RANGE;
            end
        end
        STATE_DECODE: begin
            err_valid_next = !(record_layer || out_runs || end_runs || record_wait || record_jump);
            err_code_next  = record_unknown ? `PSA_ERR_PROGRAM_OPCODE : `PSA_ERR_PROGRAM_FIELD;
            // at most one of these
            (* parallel_case *)
            case (1'b1)
                record_layer: state_next = STATE_TILE;
                out_runs:     state_next = STATE_OUT;
                end_runs:     state_next = STATE_IDLE;
                record_wait:  state_next = STATE_WAIT;
                record_jump:  state_next = STATE_FETCH;
                default:      state_next = STATE_ERROR;
            endcase
            if (record_jump) begin
                pc_next = pc_ahead;
            end
        end
        STATE_TILE: begin
            state_next = STATE_TILE_WAIT;
        end
        STATE_TILE_WAIT: begin
            state_next = tile_ok_reg ? STATE_RUN : STATE_ERROR;
        end
        STATE_RUN: begin
            if (!position_ok_reg) begin
                state_next     = STATE_ERROR;
                err_valid_next = 1'b1;
                err_code_next  = `PSA_ERR_PROGRAM_FIELD;
            end else if (layer_end) begin
                state_next = STATE_DRAIN;
            end else if (tile_end && !tile_ok_reg) begin
                state_next = STATE_ERROR;
            end
        end
        STATE_DRAIN: begin
            if (drained) begin
                state_next = STATE_FETCH;
                pc_next    = pc_reg + 17'd1;
            end
        end
        STATE_OUT: begin
            if (out_done) begin
                state_next = STATE_FETCH;
                pc_next    = pc_reg + 17'd1;
            end
        end
        STATE_WAIT: begin
            if (deadlock) begin
                state_next     = STATE_ERROR;
                err_valid_next = 1'b1;
                err_code_next  = `PSA_ERR_DEADLOCK;
            end
            if (wait_go) begin
                state_next = STATE_FETCH;
                pc_next    = pc_reg + 17'd1;
            end
        end
        default: begin
            state_next = STATE_ERROR;
        end
    endcase

    // no other error is found in such a cycle
    if (take_tile && !tile_ok_reg) begin
        err_valid_next = 1'b1;
        err_code_next  = `PSA_ERR_TILE_FIELD;
        err_info_next  = {8'd0, tile_address};
    end

    if (busy && error) begin
        state_next = STATE_ERROR;
    end
end

always @(posedge clk) begin
    state_reg     <= state_next;
    running_reg   <= state_next == STATE_RUN;
    pc_reg        <= pc_next;
    out_start_reg <= state_reg == STATE_DECODE && out_runs && !error;

    tile_ok_reg   <= tile_ok;

    if (state_reg == STATE_FETCH) begin
        record_reg     <= record;
        tile_ahead_reg <= 16'd0;
    end

    if (state_reg == STATE_IDLE) begin
        gap_reg <= 8'd0;
    end

    phase_end_reg     <= phase_end;
    chunk_end_reg     <= chunk_end;
    last_pass_reg     <= last_pass;
    last_of_chunk_reg <= last_pass && last_tile;
    last_of_layer_reg <= last_pass && last_tile && plane_end;

    ahead_ok_reg <= edge_ahead < EDGE_DEPTH && tap_ahead < TAP_DEPTH && out_ahead < FEATURE_DEPTH;
    if (!running || word_end) begin
        position_ok_reg <= ahead_ok_reg || (running && pass_end && !chunk_done);
    end

    wait_reg <= state_reg == STATE_DRAIN ? wait_reg - 8'd1 : gap_reg;

    if (state_reg == STATE_DECODE) begin
        if (!record_wait && !record_jump) begin
            gap_reg <= record_layer ? record_gap : 8'd0;
        end
        row_reg           <= {ROW_BITS{1'b0}};
        chunk_word_reg    <= 16'd0;
        pass_reg          <= 16'd0;
        tile_reg          <= 16'd0;
        word_reg          <= 16'd0;
        phase_reg         <= 16'd0;
        edge_row_reg      <= record_edge_base;
        tap_row_reg       <= record_tap_base;
        out_word_reg      <= 16'd0;
        home_word_reg     <= 16'd0;
        home_phase_reg    <= 16'd0;
        home_edge_row_reg <= record_edge_base;
        home_tap_row_reg  <= record_tap_base;
        home_out_word_reg <= 16'd0;
    end

    if (running) begin
        row_reg  <= row_reg + 1'b1;
        lane_reg <= lane_reg + 16'd1;

        if (word_end) begin
            // the next word of the plane
            word_reg       <= word_reg + 16'd1;
            out_word_reg   <= out_word_reg + 16'd1;
            chunk_word_reg <= chunk_word_reg + 16'd1;
            if (phase_end_reg) begin
                word_reg     <= 16'd0;
                phase_reg    <= phase_reg + 16'd1;
                edge_row_reg <= edge_row_reg + record_edge_stride;
                tap_row_reg  <= tap_row_reg + record_tap_stride;
            end
            if (!chunk_end_reg) begin
                // the same lanes again
                lane_reg <= lane_reg - {{16-ROW_BITS{1'b0}}, {ROW_BITS{1'b1}}};
            end
        end

        if (pass_end) begin
            chunk_word_reg <= 16'd0;
            pass_reg       <= pass_reg + 16'd1;
            if (!last_of_chunk_reg) begin
                // the next pass starts at the start of the chunk
                word_reg     <= home_word_reg;
                phase_reg    <= home_phase_reg;
                edge_row_reg <= home_edge_row_reg;
                tap_row_reg  <= home_tap_row_reg;
                out_word_reg <= home_out_word_reg;
            end else begin
                home_word_reg     <= phase_end_reg ? 16'd0 : word_reg + 16'd1;
                home_phase_reg    <= phase_end_reg ? phase_reg + 16'd1 : phase_reg;
                home_edge_row_reg <= phase_end_reg ? edge_row_reg + record_edge_stride : edge_row_reg;
                home_tap_row_reg  <= phase_end_reg ? tap_row_reg + record_tap_stride : tap_row_reg;
                home_out_word_reg <= out_word_reg + 16'd1;
            end
        end

        if (tile_end) begin
            pass_reg <= 16'd0;
            tile_reg <= last_of_chunk_reg ? 16'd0 : tile_reg + 16'd1;
        end
    end

    if (take_tile) begin
        lane_reg        <= tile_lane_base;
        passes_reg      <= tile_passes;
        slot_base_reg   <= tile_slot_base;
        filter_base_reg <= tile_filter_base;
        tile_ahead_reg  <= tile_ahead_reg == record_tiles - 16'd1 ? 16'd0 : tile_ahead_reg + 16'd1;
    end

    if (rst) begin
        state_reg     <= STATE_IDLE;
        running_reg   <= 1'b0;
        out_start_reg <= 1'b0;
    end
end

endmodule

`resetall
