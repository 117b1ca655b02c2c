// Tells every column which pixel, pass and word the sum that leaves the array belongs to.
//
// A word enters here with lane 0's pixels, in the cycle before the first of them enters the array. Promises: the `pixel_*` of column c
// come in the cycle in which the array gives that pixel's sum. Two cycles before, `read_*` names a pixel to whose sum this pass adds. If
// the last pass of a tile completes a word, `start_*` names each column two cycles before its first pixel of that word, so at most one
// column a cycle.

`resetall
`default_nettype none

module psa_column_control #(
    parameter ROWS         = 16,
    parameter COLS         = 16,
    // pixels of a chunk
    parameter ACC_DEPTH    = 256,
    parameter FEATURE_ADDR = 9,
    parameter FILTER_ADDR  = 9
) (
    input  wire                               clk,
    input  wire                               rst,

    input  wire                               word_valid,
    input  wire [$clog2(ACC_DEPTH/ROWS)-1:0]  word_index,
    input  wire [ROWS-1:0]                    word_keep,
    input  wire                               word_first,
    input  wire                               word_last,
    input  wire                               word_maximum,
    input  wire [FEATURE_ADDR-1:0]            word_out,
    input  wire [FILTER_ADDR-1:0]             word_filter_base,
    input  wire                               word_layer_last,

    // one a column
    output wire [COLS-1:0]                    read_valid,
    output wire [COLS*$clog2(ACC_DEPTH)-1:0]  read_index,
    output wire [COLS-1:0]                    pixel_valid,
    output wire [COLS*$clog2(ACC_DEPTH)-1:0]  pixel_index,
    output wire [COLS-1:0]                    pixel_first,
    output wire [COLS-1:0]                    pixel_last,
    output wire [COLS-1:0]                    pixel_maximum,
    output wire [COLS-1:0]                    pixel_keep,

    output wire                               start_valid,
    output wire [$clog2(COLS)-1:0]            start_column,
    output wire [FEATURE_ADDR-1:0]            start_out,
    output wire [FILTER_ADDR-1:0]             start_filter_base,
    output wire                               start_layer_last
);

localparam T      = ROWS;
localparam COUNT  = $clog2(T);
localparam INDEX  = $clog2(ACC_DEPTH);
localparam STAGES = ROWS + COLS + 1;
localparam TOKEN  = INDEX + 4;

// the word whose pixels enter the array

reg                    valid_reg;
reg [COUNT-1:0]        count_reg;
reg [INDEX-COUNT-1:0]  index_reg;
reg [T-1:0]            keep_reg;
reg                    first_reg, last_reg, maximum_reg, layer_last_reg;
reg [FEATURE_ADDR-1:0] out_reg;
reg [FILTER_ADDR-1:0]  filter_base_reg;

always @(posedge clk) begin
    if (word_valid) begin
        valid_reg       <= 1'b1;
        count_reg       <= {COUNT{1'b0}};
        index_reg       <= word_index;
        keep_reg        <= word_keep;
        first_reg       <= word_first;
        last_reg        <= word_last;
        maximum_reg     <= word_maximum;
        out_reg         <= word_out;
        filter_base_reg <= word_filter_base;
        layer_last_reg  <= word_layer_last;
    end else if (valid_reg) begin
        valid_reg <= !(&count_reg);
        count_reg <= count_reg + 1'b1;
    end

    if (rst) begin
        valid_reg <= 1'b0;
    end
end

// The tokens of its pixels: stage s is s+1 cycles after the pixel's entry into row 0. Its sum leaves column c ROWS+2+c cycles after that,
// with stage ROWS+1+c.

reg [STAGES-1:0] token_valid_reg;
reg [STAGES-1:0] token_start_reg;
reg [TOKEN-1:0]  token_reg [0:STAGES-1];

integer s;

always @(posedge clk) begin
    token_valid_reg <= {token_valid_reg[STAGES-2:0], valid_reg};
    token_start_reg <= {token_start_reg[STAGES-2:0], valid_reg && last_reg && count_reg == {COUNT{1'b0}}};
    token_reg[0]    <= {index_reg, count_reg, first_reg, last_reg, maximum_reg, keep_reg[count_reg]};
    for (s = 1; s < STAGES; s = s + 1) begin
        token_reg[s] <= token_reg[s-1];
    end

    if (rst) begin
        token_valid_reg <= {STAGES{1'b0}};
        token_start_reg <= {STAGES{1'b0}};
    end
end

genvar c;

generate
for (c = 0; c < COLS; c = c + 1) begin : gen_column
    assign read_valid[c]                = token_valid_reg[ROWS-1+c] && !token_reg[ROWS-1+c][3];
    assign read_index[c*INDEX +: INDEX] = token_reg[ROWS-1+c][4 +: INDEX];

    assign pixel_valid[c] = token_valid_reg[ROWS+1+c];
    assign {pixel_index[c*INDEX +: INDEX], pixel_first[c], pixel_last[c], pixel_maximum[c], pixel_keep[c]} = token_reg[ROWS+1+c];
end
endgenerate

// The wave of word starts. The registers above still hold this word when its first pixel is three cycles before the exit of column
// 0 (ROWS = T), because the next word comes at least T cycles later.

reg                      start_valid_reg;
reg [$clog2(COLS)-1:0]   start_column_reg;
reg [FEATURE_ADDR-1:0]   start_out_reg;
reg [FILTER_ADDR-1:0]    start_filter_base_reg;
reg                      start_layer_last_reg;

assign start_valid       = start_valid_reg;
assign start_column      = start_column_reg;
assign start_out         = start_out_reg;
assign start_filter_base = start_filter_base_reg;
assign start_layer_last  = start_layer_last_reg;

always @(posedge clk) begin
    if (token_start_reg[ROWS-2]) begin
        start_valid_reg       <= 1'b1;
        start_column_reg      <= {$clog2(COLS){1'b0}};
        start_out_reg         <= out_reg;
        start_filter_base_reg <= filter_base_reg;
        start_layer_last_reg  <= layer_last_reg;
    end else if (start_valid_reg) begin
        start_valid_reg  <= !(&start_column_reg);
        start_column_reg <= start_column_reg + 1'b1;
    end

    if (rst) begin
        start_valid_reg <= 1'b0;
    end
end

endmodule

`resetall
