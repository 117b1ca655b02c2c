// One bank of feature memory: T pixels from any pixel address, every cycle.
//
// Even and odd words lie in two halves, so that a read across two words takes one from each half. Promises: `rd_data` belongs to the
// address of the cycle before, and has each pixel at its place in its word: the pixels before the shift are those of the second word.
// Who takes them one by one begins at the shift and goes round. Reads of later cycles see a written word. The caller must check that
// addresses are in range.

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

localparam ADDR = $clog2(DEPTH);

// places whose pixels come from the odd half
reg [T-1:0] in_odd_reg;

wire [T*8-1:0] even_data, odd_data;

wire [T-1:0] second = ~({T{1'b1}} << rd_shift);

psa_ram #(.WIDTH(T*8), .DEPTH(DEPTH/2)) even_half (
    .clk     (clk),
    .wr_en   (wr_en && !wr_word[0]),
    .wr_addr (wr_word[ADDR-1:1]),
    .wr_data (wr_data),
    .rd_en   (rd_en),
    // behind an odd word comes the even one of the next pair
    .rd_addr (rd_word[ADDR-1:1] + {{ADDR-2{1'b0}}, rd_word[0]}),
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
        in_odd_reg <= second ^ {T{rd_word[0]}};
    end
end

genvar i;

generate
for (i = 0; i < T; i = i + 1) begin : gen_pixel
    assign rd_data[i*8 +: 8] = in_odd_reg[i] ? odd_data[i*8 +: 8] : even_data[i*8 +: 8];
end
endgenerate

endmodule

`resetall
