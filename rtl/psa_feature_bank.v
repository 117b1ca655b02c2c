// One bank of feature memory: T pixels from any pixel address, every cycle.
//
// Even and odd words lie in two halves, so that a read across two words takes one from each half. Promises: `rd_data` belongs to the
// address of the cycle before. Reads of later cycles see a written word. The caller must check that addresses are in range.

`resetall
`default_nettype none

module psa_feature_bank #(
    // pixels per word
    parameter T     = 16,
    // words
    parameter DEPTH = 512
) (
    input  wire                     clk,

    input  wire                     wr_en,
    input  wire [$clog2(DEPTH)-1:0] wr_word,
    input  wire [T*8-1:0]           wr_data,

    input  wire                     rd_en,
    input  wire [$clog2(DEPTH)-1:0] rd_word,
    // first pixel within the word
    input  wire [$clog2(T)-1:0]     rd_shift,
    output wire [T*8-1:0]           rd_data
);

localparam ADDR  = $clog2(DEPTH);
localparam SHIFT = $clog2(T);

reg             odd_reg;
reg [SHIFT-1:0] shift_reg;

wire [T*8-1:0] even_data, odd_data;

wire [ADDR-1:0] after_word = rd_word + 1'b1;

psa_ram #(.WIDTH(T*8), .DEPTH(DEPTH/2)) even_half (
    .clk     (clk),
    .wr_en   (wr_en && !wr_word[0]),
    .wr_addr (wr_word[ADDR-1:1]),
    .wr_data (wr_data),
    .rd_en   (rd_en),
    .rd_addr (rd_word[0] ? after_word[ADDR-1:1] : rd_word[ADDR-1:1]),
    .rd_data (even_data)
);

psa_ram #(.WIDTH(T*8), .DEPTH(DEPTH/2)) odd_half (
    .clk     (clk),
    .wr_en   (wr_en && wr_word[0]),
    .wr_addr (wr_word[ADDR-1:1]),
    .wr_data (wr_data),
    .rd_en   (rd_en),
    .rd_addr (rd_word[ADDR-1:1]),
    .rd_data (odd_data)
);

always @(posedge clk) begin
    if (rd_en) begin
        odd_reg   <= rd_word[0];
        shift_reg <= rd_shift;
    end
end

// Pixels before the shift are those of the second word. So a pixel comes from either half, by its place in a word, and then all go
// round by the shift: half as many ways as a choice of T from 2T pixels.
wire [T-1:0] second = ~({T{1'b1}} << shift_reg);
wire [T-1:0] in_odd = second ^ {T{odd_reg}};

genvar i, k;

generate
for (k = 0; k <= SHIFT; k = k + 1) begin : gen_turn
    wire [T*8-1:0] data;

    if (k == 0) begin : gen_halves
        for (i = 0; i < T; i = i + 1) begin : gen_pixel
            assign data[i*8 +: 8] = in_odd[i] ? odd_data[i*8 +: 8] : even_data[i*8 +: 8];
        end
    end else begin : gen_round
        localparam BITS = 8 << (k - 1);
        wire [T*8-1:0] source = gen_turn[k-1].data;

        assign data = shift_reg[k-1] ? {source[0 +: BITS], source[T*8-1:BITS]} : source;
    end
end
endgenerate

assign rd_data = gen_turn[SHIFT].data;

endmodule

`resetall
