// Accumulators of one column: a 32-bit sum, or maximum, for every pixel of a chunk.
//
// Promises: `psum` belongs to the pixel named in the same cycle. The first pass of a tile stores its sums, and later passes add, or
// keep the larger one. The last pass does not store: it gives the finished sum two cycles later. The same pixel comes again after T >= 4
// cycles at the earliest.

`resetall
`default_nettype none

module psa_accumulator #(
    // pixels of a chunk
    parameter DEPTH     = 256,
    parameter PSUM_BITS = 20
) (
    input  wire                        clk,
    input  wire                        rst,

    input  wire                        pixel_valid,
    input  wire [$clog2(DEPTH)-1:0]    pixel_index,
    // this pass is the tile's first, last
    input  wire                        pixel_first,
    input  wire                        pixel_last,
    // ... and takes the maximum of the passes, not their sum
    input  wire                        pixel_maximum,
    input  wire signed [PSUM_BITS-1:0] psum,

    output wire                        sum_valid,
    output wire signed [31:0]          sum
);

localparam ADDR = $clog2(DEPTH);

reg                        valid_reg, first_reg, last_reg, maximum_reg;
reg [ADDR-1:0]             index_reg;
reg signed [PSUM_BITS-1:0] psum_reg;
reg                        sum_valid_reg;
reg signed [31:0]          sum_reg;

wire [31:0]        stored;
wire signed [31:0] added   = {{32-PSUM_BITS{psum_reg[PSUM_BITS-1]}}, psum_reg};
wire signed [31:0] sum_all = (first_reg ? 32'sd0 : $signed(stored)) + added;
wire signed [31:0] largest = !first_reg && $signed(stored) > added ? $signed(stored) : added;
wire signed [31:0] total   = maximum_reg ? largest : sum_all;

assign sum_valid = sum_valid_reg;
assign sum       = sum_reg;

psa_ram #(.WIDTH(32), .DEPTH(DEPTH)) memory (
    .clk     (clk),
    .wr_en   (valid_reg && !last_reg),
    .wr_addr (index_reg),
    .wr_data (total),
    .rd_en   (pixel_valid && !pixel_first),
    .rd_addr (pixel_index),
    .rd_data (stored)
);

always @(posedge clk) begin
    valid_reg     <= pixel_valid;
    first_reg     <= pixel_first;
    last_reg      <= pixel_last;
    maximum_reg   <= pixel_maximum;
    index_reg     <= pixel_index;
    psum_reg      <= psum;
    sum_valid_reg <= valid_reg && last_reg;
    if (valid_reg && last_reg) begin
        sum_reg <= total;
    end

    if (rst) begin
        valid_reg     <= 1'b0;
        sum_valid_reg <= 1'b0;
    end
end

endmodule

`resetall
