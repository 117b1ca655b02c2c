// Reads rows of slots of different lengths from the words of the slot memory, in which they lie end to end (docs/formats.md, "Rows of slots").
//
//   cycle 0  the tile's first word         -> slot memory, if the row is the first of its tile
//   cycle 1  that word                     -> `low`, and the row's count
//   cycle 2  two words, where the row begins and its count -> its length, where the next row begins and the count of that
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
localparam POINTER    = $clog2(WIDTH);
localparam PATCHES    = `PSA_ROW_PATCHES;
// lengths that a row may have: with so many patches, or as long as a word
localparam KINDS      = PATCHES + 2;
localparam LATE       = COUNT_BITS * COUNT_BITS;
// a row is shifted to its place by whole steps first
localparam FINE       = 4;
localparam STEP       = 1 << FINE;
localparam NEAR       = WIDTH + STEP - 1;

localparam [COUNT_BITS-1:0] RAW = {COUNT_BITS{1'b1}}, MOST = PATCHES;

reg                ask_valid_reg, ask_first_reg;
reg [15:0]         ask_base_reg;
// the next word to be read
reg [16:0]         ahead_reg;

// The word in which the row of cycle 2 begins, and the one behind it. Not filled: that one is just coming out of the memory, and zeros
// stand for it. Then the row begins its word, so that it needs no other.
reg                take_valid_reg, take_first_reg;
reg [WIDTH-1:0]    low_reg, high_reg;
reg                filled_reg;
reg [16:0]         word_reg;
reg [POINTER-1:0]      at_reg;
reg [COUNT_BITS-1:0]   count_reg;

// cycle 2: only the place of a row and the three bits of its count go round from one row to the next. Where the next row begins, in which
// word, and what its count is, is made for every length that this row may have, while its own count chooses among them.

wire [2*WIDTH+STEP-2:0] words = {{STEP-1{1'b0}}, high_reg, low_reg};
wire [2*WIDTH+STEP-2:0] wide  = words >> {at_reg[POINTER-1:FINE], {FINE{1'b0}}};
wire [NEAR-1:0]         near  = wide[NEAR-1:0];
wire [COUNT_BITS-1:0]   kind  = count_reg == RAW ? MOST + 1'b1 : count_reg > MOST ? MOST : count_reg;

wire [KINDS-1:0]            ends_if, crosses_if;
wire [KINDS*POINTER-1:0]    next_if;
wire [KINDS*COUNT_BITS-1:0] count_if;
// bits of the next count, each of which may be one of the first of the word that the memory gives in this cycle
wire [KINDS*LATE-1:0]       late_if;

genvar k, b, j;

generate
for (k = 0; k < KINDS; k = k + 1) begin : gen_kind
    localparam BITS = k > PATCHES ? WIDTH : ENCODED + k * POSITION;

    // the last place from which the row stays in its word
    localparam [31:0] ROOM = WIDTH - BITS;

    wire [POINTER-1:0] total = at_reg + BITS[POINTER-1:0];
    wire [POINTER-1:0] over  = at_reg - ROOM[POINTER-1:0];

    if (BITS == WIDTH) begin : gen_whole
        assign ends_if[k] = 1'b1;
    end else begin : gen_part
        assign ends_if[k] = {1'b0, at_reg} >= ROOM[POINTER:0];
    end
    assign crosses_if[k] = {1'b0, at_reg} > ROOM[POINTER:0];
    assign next_if[k*POINTER +: POINTER] = ends_if[k] ? over : total;

    wire [STEP+1:0] begun = wide[BITS +: STEP+2] >> at_reg[FINE-1:0];

    assign count_if[k*COUNT_BITS +: COUNT_BITS] = begun[COUNT_BITS-1:0];

    wire unused = &{1'b0, begun[STEP+1:COUNT_BITS]};

    // The memory gives the word behind `high`, or, where that is not filled, behind `low`.
    for (b = 0; b < COUNT_BITS; b = b + 1) begin : gen_bit
        for (j = 0; j < COUNT_BITS; j = j + 1) begin : gen_late
            // this row's place if bit b of the next count is bit j of that word
            localparam [31:0] PLACE = 2*WIDTH + j - b - BITS;

            assign late_if[k*LATE + b*COUNT_BITS + j] =
                filled_reg ? PLACE < WIDTH && at_reg == PLACE[POINTER-1:0] : BITS + b == WIDTH + j;
        end
    end
end
endgenerate

// the row ends its word, or goes on in the next one
reg                  ends, crosses;
reg [POINTER-1:0]    next;
reg [COUNT_BITS-1:0] early_count, next_count;
reg [LATE-1:0]       late;

integer i;

always @* begin
    ends    = 1'b0;
    crosses = 1'b0;
    next    = {POINTER{1'b0}};
    late    = {LATE{1'b0}};

    early_count = {COUNT_BITS{1'b0}};
    for (i = 0; i < KINDS; i = i + 1) begin
        if (kind == i[COUNT_BITS-1:0]) begin
            ends    = ends | ends_if[i];
            crosses = crosses | crosses_if[i];
            next    = next | next_if[i*POINTER +: POINTER];
            late    = late | late_if[i*LATE +: LATE];

            early_count = early_count | count_if[i*COUNT_BITS +: COUNT_BITS];
        end
    end
    // the memory answers late, so that what it gives is taken last
    for (i = 0; i < COUNT_BITS; i = i + 1) begin
        next_count[i] = early_count[i] || |(late[i*COUNT_BITS +: COUNT_BITS] & rd_data[COUNT_BITS-1:0]);
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

reg             near_valid_reg, near_first_reg, crosses_reg, err_valid_reg;
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
        high_reg   <= {WIDTH{1'b0}};
        filled_reg <= 1'b0;
        word_reg   <= {1'b0, ask_base_reg};
    end else begin
        if (left) begin
            low_reg  <= filled_reg ? high_reg : rd_data;
            word_reg <= word_reg + 17'd1;
        end
        if (left == filled_reg) begin
            high_reg <= rd_data;
        end
        filled_reg <= filled_reg || !left;
    end
    if (ask_first_reg || take_valid_reg) begin
        at_reg    <= ask_first_reg ? {POINTER{1'b0}} : next;
        count_reg <= ask_first_reg ? rd_data[COUNT_BITS-1:0] : next_count;
    end

    near_valid_reg <= take_valid_reg;
    near_first_reg <= take_first_reg;
    near_reg       <= near;
    fine_reg       <= at_reg[FINE-1:0];
    near_word_reg  <= word_reg;
    crosses_reg    <= crosses;
    err_valid_reg  <= take_valid_reg && (low_beyond || (high_beyond && crosses));
    err_word_reg   <= low_beyond ? word_reg : word_reg + 17'd1;

    out_valid_reg <= near_valid_reg;
    out_first_reg <= near_first_reg;
    out_row_reg   <= row[WIDTH-1:0];
    out_word_reg  <= near_word_reg + {16'd0, crosses_reg};

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
