// Reads rows of slots of different lengths from the words of the slot memory, in which they lie end to end (docs/formats.md, "Rows of slots").
//
// Promises: a row that is requested in cycle 0 is at `out_*` in cycle 2. One row a cycle, whatever the lengths: a row is never longer than
// a word, so it needs at most one word that the rows before it have not used. The first row of a tile begins a word.

`resetall
`default_nettype none

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
    // a cycle later
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

localparam COUNT_BITS = 3;
localparam LENGTH     = $clog2(WIDTH + 1);
localparam PATCHES    = 4;

localparam [COUNT_BITS-1:0] RAW = {COUNT_BITS{1'b1}}, MOST = PATCHES;

// The row that is taken in this cycle. The word that it may need has been read, and the rest of the word before is kept.
reg              take_valid_reg, take_first_reg;
reg [16:0]       word_reg;
reg [WIDTH-1:0]  hold_reg;
reg [LENGTH-1:0] left_reg;
reg [16:0]       next_reg;

wire              beyond = {15'd0, word_reg} >= DEPTH;
wire [WIDTH-1:0]  word   = beyond ? {WIDTH{1'b0}} : rd_data;
wire [LENGTH-1:0] left   = take_first_reg ? {LENGTH{1'b0}} : left_reg;
wire [WIDTH-1:0]  hold   = take_first_reg ? {WIDTH{1'b0}} : hold_reg;

wire [2*WIDTH-1:0]    bits  = {{WIDTH{1'b0}}, hold} | ({{WIDTH{1'b0}}, word} << left);
wire [COUNT_BITS-1:0] count = bits[COUNT_BITS-1:0];

reg [LENGTH-1:0] length;

integer i;

always @* begin
    length = ENCODED[LENGTH-1:0];
    for (i = 1; i <= PATCHES; i = i + 1) begin
        if (count == i[COUNT_BITS-1:0] || (count > MOST && i == PATCHES)) begin
            length = ENCODED[LENGTH-1:0] + i[LENGTH-1:0] * POSITION[LENGTH-1:0];
        end
    end
    if (count == RAW) begin
        length = WIDTH[LENGTH-1:0];
    end
end

wire                 consumed = length > left;
wire [2*WIDTH-1:0]   rest     = (consumed ? bits : {{WIDTH{1'b0}}, hold}) >> length;
wire [16:0]          next     = take_valid_reg ? word_reg + {16'd0, consumed} : next_reg;
wire [16:0]          ask_word = ask_first ? {1'b0, ask_base} : next;

assign rd_en   = ask_valid && {15'd0, ask_word} < DEPTH;
assign rd_addr = ask_word[$clog2(DEPTH)-1:0];

assign err_valid = take_valid_reg && beyond && consumed;
assign err_word  = word_reg;

reg             out_valid_reg, out_first_reg;
reg [WIDTH-1:0] out_row_reg;
reg [16:0]      out_word_reg;

assign out_valid = out_valid_reg;
assign out_first = out_first_reg;
assign out_row   = out_row_reg;
assign out_word  = out_word_reg;

always @(posedge clk) begin
    take_valid_reg <= ask_valid;
    take_first_reg <= ask_first;
    word_reg       <= ask_word;
    next_reg       <= next;

    if (take_valid_reg) begin
        hold_reg <= rest[WIDTH-1:0];
        left_reg <= consumed ? left + WIDTH[LENGTH-1:0] - length : left - length;
    end

    out_valid_reg <= take_valid_reg;
    out_first_reg <= take_first_reg;
    out_row_reg   <= bits[WIDTH-1:0];
    out_word_reg  <= consumed ? word_reg : word_reg - 17'd1;

    if (rst) begin
        take_valid_reg <= 1'b0;
        out_valid_reg  <= 1'b0;
    end
end

endmodule

`resetall
