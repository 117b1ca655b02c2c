// Reads rows of slots of different lengths from the words of the slot memory, in which they lie end to end (docs/formats.md, "Rows of slots").
//
//   cycle 0  the tile's first word         -> slot memory, if the row is the first of its tile
//   cycle 1  that word                     -> `low`
//   cycle 2  two words and where the row begins -> its length, and where the next row begins
//   cycle 3  words shifted by whole steps  -> the row
//   cycle 4  `out_*`
//
// Promises: a row that is requested in cycle 0 is at `out_*` in cycle 4, and its error in cycle 3. One row a cycle, whatever the lengths: a
// row is never longer than a word, so it lies in at most two, and the words are read ahead. The first row of a tile begins a word.

`resetall
`default_nettype none

`include "psa_words.vh"

module psa_slot_stream #(
    parameter [31:0] DEPTH    = 4096,
    // bits of a memory word, and of the longest row
    parameter        WIDTH    = 179,
    // bits of a row without patches, and of a patch
    parameter        ENCODED  = 123,
    parameter        POSITION = 8
) (
    input  wire                     clk,
    input  wire                     rst,

    input  wire                     ask_valid,
    // the first row of a tile, in the word `ask_base`
    input  wire                     ask_first,
    input  wire [15:0]              ask_base,

    output wire                     rd_en,
    output wire [$clog2(DEPTH)-1:0] rd_addr,
    // a cycle later; holds while `rd_en` is low
    input  wire [WIDTH-1:0]         rd_data,

    output wire                     out_valid,
    output wire                     out_first,
    // the row's bits; bits after its end have any value
    output wire [WIDTH-1:0]         out_row,
    // the word in which it ends
    output wire [16:0]              out_word,

    // a row ends beyond the memory
    output wire                     err_valid,
    output wire [16:0]              err_word
);

localparam COUNT_BITS = `PSA_ROW_COUNT_BITS;
localparam LENGTH     = $clog2(WIDTH + 1);
localparam POINTER    = $clog2(WIDTH);
localparam PATCHES    = `PSA_ROW_PATCHES;
// lengths that a row may have: with so many patches, or as long as a word
localparam KINDS      = PATCHES + 2;
// a row is shifted to its place by whole steps first
localparam FINE       = 4;
localparam STEP       = 1 << FINE;
localparam NEAR       = WIDTH + STEP - 1;

localparam [COUNT_BITS-1:0] RAW = {COUNT_BITS{1'b1}}, MOST = PATCHES;

reg                ask_valid_reg, ask_first_reg;
reg [15:0]         ask_base_reg;
// the next word to be read
reg [16:0]         ahead_reg;

// The word in which the row of cycle 2 begins, and the one behind it. Not filled: that one is just coming out of the memory. Then the row
// begins its word, so that it needs no other.
reg                take_valid_reg, take_first_reg;
reg [WIDTH-1:0]    low_reg, high_reg;
reg                filled_reg;
reg [16:0]         word_reg;
reg [POINTER-1:0]  at_reg;

// cycle 2: the row's count. Only its three bits are on the way from one row's place to the next one's; where the next row begins, and in
// which word, is known by then for every length.

wire [2*WIDTH+STEP-2:0] words = {{STEP-1{1'b0}}, high_reg, low_reg};
wire [2*WIDTH+STEP-2:0] wide  = words >> {at_reg[POINTER-1:FINE], {FINE{1'b0}}};
wire [NEAR-1:0]         near  = wide[NEAR-1:0];
wire [STEP+1:0]         begun = near[STEP+1:0] >> at_reg[FINE-1:0];
wire [COUNT_BITS-1:0]   count = begun[COUNT_BITS-1:0];
wire [COUNT_BITS-1:0]   kind  = count == RAW ? MOST + 1'b1 : count > MOST ? MOST : count;

wire [KINDS-1:0]         ends_if, crosses_if;
wire [KINDS*POINTER-1:0] next_if;

genvar k;

generate
for (k = 0; k < KINDS; k = k + 1) begin : gen_kind
    localparam BITS = k > PATCHES ? WIDTH : ENCODED + k * POSITION;

    wire [LENGTH:0] total = {{LENGTH+1-POINTER{1'b0}}, at_reg} + BITS[LENGTH:0];
    wire [LENGTH:0] over  = total - WIDTH[LENGTH:0];

    assign ends_if[k]    = total >= WIDTH[LENGTH:0];
    assign crosses_if[k] = total > WIDTH[LENGTH:0];
    assign next_if[k*POINTER +: POINTER] = ends_if[k] ? over[POINTER-1:0] : total[POINTER-1:0];
end
endgenerate

// the row ends its word, or goes on in the next one
reg               ends, crosses;
reg [POINTER-1:0] next;

integer i;

always @* begin
    ends    = 1'b0;
    crosses = 1'b0;
    next    = {POINTER{1'b0}};
    for (i = 0; i < KINDS; i = i + 1) begin
        if (kind == i[COUNT_BITS-1:0]) begin
            ends    = ends | ends_if[i];
            crosses = crosses | crosses_if[i];
            next    = next | next_if[i*POINTER +: POINTER];
        end
    end
end

wire low_beyond  = {15'd0, word_reg} >= DEPTH;
wire high_beyond = {15'd0, word_reg} >= DEPTH - 1;

// Words are read ahead: while one that has been read is not used, no other is.

wire        left  = take_valid_reg && ends;
wire        used  = ask_first_reg || left || !filled_reg;
wire        start = ask_valid && ask_first;
wire [16:0] read  = start ? {1'b0, ask_base} : ahead_reg;

assign rd_en   = (start || used) && {15'd0, read} < DEPTH;
assign rd_addr = read[$clog2(DEPTH)-1:0];

// cycle 3

reg             near_valid_reg, near_first_reg, err_valid_reg;
reg [NEAR-1:0]  near_reg;
reg [FINE-1:0]  fine_reg;
reg [16:0]      near_word_reg, err_word_reg;

assign err_valid = err_valid_reg;
assign err_word  = err_word_reg;

// cycle 4

reg             out_valid_reg, out_first_reg;
reg [WIDTH-1:0] out_row_reg;
reg [16:0]      out_word_reg;

wire [NEAR-1:0] row = near_reg >> fine_reg;

assign out_valid = out_valid_reg;
assign out_first = out_first_reg;
assign out_row   = out_row_reg;
assign out_word  = out_word_reg;

always @(posedge clk) begin
    ask_valid_reg <= ask_valid;
    ask_first_reg <= start;
    ask_base_reg  <= ask_base;
    if (start || used) begin
        ahead_reg <= read + 17'd1;
    end

    take_valid_reg <= ask_valid_reg;
    take_first_reg <= ask_first_reg;
    if (ask_first_reg) begin
        low_reg    <= rd_data;
        filled_reg <= 1'b0;
        word_reg   <= {1'b0, ask_base_reg};
    end else begin
        if (left) begin
            low_reg  <= filled_reg ? high_reg : rd_data;
            word_reg <= word_reg + 17'd1;
        end
        if (left || !filled_reg) begin
            high_reg <= rd_data;
        end
        filled_reg <= filled_reg || !left;
    end
    if (ask_first_reg || take_valid_reg) begin
        at_reg <= ask_first_reg ? {POINTER{1'b0}} : next;
    end

    near_valid_reg <= take_valid_reg;
    near_first_reg <= take_first_reg;
    near_reg       <= near;
    fine_reg       <= at_reg[FINE-1:0];
    near_word_reg  <= word_reg + {16'd0, crosses};
    err_valid_reg  <= take_valid_reg && (low_beyond || (high_beyond && crosses));
    err_word_reg   <= low_beyond ? word_reg : word_reg + 17'd1;

    out_valid_reg <= near_valid_reg;
    out_first_reg <= near_first_reg;
    out_row_reg   <= row[WIDTH-1:0];
    out_word_reg  <= near_word_reg;

    if (rst) begin
        ask_valid_reg  <= 1'b0;
        ask_first_reg  <= 1'b0;
        take_valid_reg <= 1'b0;
        // nothing is read before it is asked for
        filled_reg     <= 1'b1;
        near_valid_reg <= 1'b0;
        err_valid_reg  <= 1'b0;
        out_valid_reg  <= 1'b0;
    end
end

endmodule

`resetall
