// Accumulators of one column: a 32-bit sum, or maximum, for every pixel of a chunk.
//
// Promises: `psum` belongs to the pixel named in the same cycle. The first pass of a tile stores its sums, and later passes add, or
// keep the larger one. The last pass does not store: it gives the finished sum, with the bias, a cycle later. A pixel of a later pass is
// also named by `read_*` two cycles before, so that what is stored of it lies in a register when its sum comes. The same pixel comes again
// after T >= 4 cycles at the earliest: a sum may be written a cycle after it was made, in the cycle before it can be read again. What is
// to become a maximum is a pixel. `bias_load` comes in the cycle before a word's first sum.

`resetall
`default_nettype none

module psa_accumulator #(
    // pixels of a chunk
    parameter DEPTH     = 256,
    parameter PSUM_BITS = 20
) (
    input  wire                        clk,
    input  wire                        rst,

    input  wire                        read_valid,
    input  wire [$clog2(DEPTH)-1:0]    read_index,

    input  wire                        pixel_valid,
    input  wire [$clog2(DEPTH)-1:0]    pixel_index,
    // this pass is the tile's first, last
    input  wire                        pixel_first,
    input  wire                        pixel_last,
    // ... and takes the maximum of the passes, not their sum
    input  wire                        pixel_maximum,
    input  wire signed [PSUM_BITS-1:0] psum,

    input  wire                        bias_load,
    input  wire signed [31:0]          bias,

    output wire                        sum_valid,
    output wire signed [32:0]          sum
);

reg signed [31:0] stored_reg, bias_reg;
reg               sum_valid_reg, store_reg;
reg signed [32:0] sum_reg;

reg [$clog2(DEPTH)-1:0] index_reg;

wire [31:0]        stored;
// In place of a pixel the larger one that is stored; of sums both count.
wire [8:0]         above   = {psum[7], psum[7:0]} - {stored_reg[7], stored_reg[7:0]};
wire               larger  = pixel_maximum && !pixel_first && above[8];
wire signed [32:0] added   = larger ? {{25{stored_reg[7]}}, stored_reg[7:0]} : {{33-PSUM_BITS{psum[PSUM_BITS-1]}}, psum};
wire signed [32:0] kept    = pixel_maximum || pixel_first ? 33'sd0 : {stored_reg[31], stored_reg};
wire signed [32:0] total   = kept + added;

wire unused = &{1'b0, above[7:0]};

assign sum_valid = sum_valid_reg;
assign sum       = sum_reg;

psa_ram #(.WIDTH(32), .DEPTH(DEPTH)) memory (
    .clk     (clk),
    .wr_en   (store_reg),
    .wr_addr (index_reg),
    .wr_data (sum_reg[31:0]),
    .rd_en   (read_valid),
    .rd_addr (read_index),
    .rd_data (stored)
);

always @(posedge clk) begin
    stored_reg    <= stored;
    sum_valid_reg <= pixel_valid && pixel_last;
    store_reg     <= pixel_valid && !pixel_last;
    index_reg     <= pixel_index;
    sum_reg       <= total + (pixel_last ? {bias_reg[31], bias_reg} : 33'sd0);

    if (bias_load) begin
        bias_reg <= bias;
    end

    if (rst) begin
        sum_valid_reg <= 1'b0;
        store_reg     <= 1'b0;
    end
end

endmodule

`resetall
