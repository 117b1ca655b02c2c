// XOR decoder: from the stored bits of a row to its slots (docs/formats.md, "Rows of slots").
//
// A fixed network of XOR gates expands the row's word, together with the words of HISTORY rows before it, into the bits of the slots.
// Patches flip the bits that came out wrong, and valid bits set empty slots to zero. Promises: one row a cycle, whatever its content. A
// row in cycle 0 is at `out_slots` in cycle 1. A row that breaks the format is reported in the cycle in which it comes.

`resetall
`default_nettype none

`include "psa_words.vh"

module psa_xor_decoder #(
    parameter        COLS      = 16,
    parameter        SLOT_BITS = 11,
    // bits of a row as stored, at most: COUNT_BITS + COLS * SLOT_BITS
    parameter        WIDTH     = 179,
    // shape of the network: bits of a word, words before its own that a row is made from, and what its wires are drawn from
    parameter [31:0] INPUTS    = 104,
    parameter [31:0] HISTORY   = 3,
    parameter [31:0] SEED      = 1,
    // bits of a patch
    parameter        POSITION  = 8
) (
    input  wire                      clk,
    input  wire                      rst,

    input  wire                      in_valid,
    // the first row of a tile: no row is before it
    input  wire                      in_first,
    input  wire [WIDTH-1:0]          in_row,

    output wire                      out_valid,
    output wire [COLS*SLOT_BITS-1:0] out_slots,

    output wire                      err_valid
);

localparam COUNT_BITS = `PSA_ROW_COUNT_BITS;
localparam PATCHES    = `PSA_ROW_PATCHES;
localparam ROW        = COLS * SLOT_BITS;
localparam WINDOW     = INPUTS * (HISTORY + 1);
localparam TAPS       = 7;
localparam NEAR       = 2;

localparam [COUNT_BITS-1:0] RAW = {COUNT_BITS{1'b1}}, MOST = PATCHES;

// where the parts of an encoded row begin
localparam VALID_AT = COUNT_BITS;
localparam WORD_AT  = VALID_AT + COLS;
localparam PATCH_AT = WORD_AT + INPUTS;

wire [COUNT_BITS-1:0] count = in_row[COUNT_BITS-1:0];
wire                  raw   = count == RAW;
wire [COLS-1:0]       valid = in_row[VALID_AT +: COLS];
wire [INPUTS-1:0]     word  = in_row[WORD_AT +: INPUTS];

// window bit i is bit i % INPUTS of the word i / INPUTS rows ago

wire [WINDOW-1:0] window;

generate
if (HISTORY == 0) begin : gen_no_history
    assign window = word;
    wire unused = in_first;
end else begin : gen_history
    reg  [HISTORY*INPUTS-1:0] history_reg;
    wire [HISTORY*INPUTS-1:0] history = in_first ? {HISTORY*INPUTS{1'b0}} : history_reg;

    assign window = {history, word};

    always @(posedge clk) begin
        if (in_valid) begin
            history_reg <= raw ? history : window[HISTORY*INPUTS-1:0];
        end
    end
end
endgenerate

// Tap t of an output, and the mask of all its taps. The first NEAR taps use the row's own word. A tap that is drawn twice cancels out. The
// number of taps is odd, so at least one remains.

function [31:0] tap(input [31:0] output_number, input [31:0] number);
    reg [31:0] x;
    reg [63:0] scaled;
    begin
        x      = SEED + output_number * 32'd7 + number;
        x      = (x ^ (x >> 16)) * 32'h7FEB352D;
        x      = (x ^ (x >> 15)) * 32'h846CA68B;
        x      = x ^ (x >> 16);
        scaled = {32'd0, x} * {32'd0, number < NEAR ? INPUTS : WINDOW[31:0]};
        tap    = scaled[63:32];
    end
endfunction

function [WINDOW-1:0] taps(input [31:0] output_number);
    integer i;
    begin
        taps = {WINDOW{1'b0}};
        for (i = 0; i < TAPS; i = i + 1) begin
            taps = taps ^ ({{WINDOW-1{1'b0}}, 1'b1} << tap(output_number, i));
        end
    end
endfunction

wire [ROW-1:0] expanded;

genvar o;

generate
for (o = 0; o < ROW; o = o + 1) begin : gen_output
    localparam [WINDOW-1:0] MASK = taps(o);

    assign expanded[o] = ^(window & MASK);
end
endgenerate

// patches, in ascending order

wire [PATCHES-1:0] patch_bad;
wire [ROW-1:0]     flips [0:PATCHES];

assign flips[0] = {ROW{1'b0}};

genvar p;

generate
for (p = 0; p < PATCHES; p = p + 1) begin : gen_patch
    wire [POSITION-1:0] position = in_row[PATCH_AT + p*POSITION +: POSITION];
    wire                there    = !raw && count > p;
    wire                in_order;

    if (p == 0) begin : gen_first
        assign in_order = 1'b1;
    end else begin : gen_next
        assign in_order = position > gen_patch[p-1].position;
    end

    assign patch_bad[p] = there && !({{32-POSITION{1'b0}}, position} < ROW && in_order);
    assign flips[p+1]   = flips[p] ^ (there ? {{ROW-1{1'b0}}, 1'b1} << position : {ROW{1'b0}});
end
endgenerate

assign err_valid = in_valid && ((!raw && count > MOST) || |patch_bad);

wire [ROW-1:0] decoded = expanded ^ flips[PATCHES];
wire [ROW-1:0] used;

genvar c;

generate
for (c = 0; c < COLS; c = c + 1) begin : gen_column
    assign used[c*SLOT_BITS +: SLOT_BITS] = {SLOT_BITS{valid[c]}};
end
endgenerate

reg           out_valid_reg;
reg [ROW-1:0] out_slots_reg;

assign out_valid = out_valid_reg;
assign out_slots = out_slots_reg;

always @(posedge clk) begin
    out_valid_reg <= in_valid;
    out_slots_reg <= raw ? in_row[COUNT_BITS +: ROW] : decoded & used;

    if (rst) begin
        out_valid_reg <= 1'b0;
    end
end

endmodule

`resetall
