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

localparam ADDR = $clog2(DEPTH);

reg                  odd_reg;
reg [$clog2(T)-1:0]  shift_reg;

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

wire [2*T*8-1:0] both = odd_reg ? {even_data, odd_data} : {odd_data, even_data};

assign rd_data = both[shift_reg*8 +: T*8];

endmodule

`resetall
