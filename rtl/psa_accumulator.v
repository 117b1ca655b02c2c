// Accumulators of one column: a 32-bit sum, or maximum, for every pixel of a chunk.
//
// Promises: `psum` belongs to the pixel named in the same cycle. The first pass of a tile stores its sums, and later passes add, or
// keep the larger one. The last pass does not store: it gives the finished sum a cycle later. A pixel of a later pass is also named by
// `read_*` two cycles before, so that what is stored of it lies in a register when its sum comes. The same pixel comes again after
// T >= 4 cycles at the earliest: a sum may be written a cycle after it was made, in the cycle before it can be read again.

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

    output wire                        sum_valid,
    output wire signed [31:0]          sum
);

reg signed [31:0] stored_reg;
reg               sum_valid_reg, store_reg;
reg signed [31:0] sum_reg;

reg [$clog2(DEPTH)-1:0] index_reg;

wire [31:0]        stored;
wire signed [31:0] added   = {{32-PSUM_BITS{psum[PSUM_BITS-1]}}, psum};
wire signed [31:0] sum_all = (pixel_first ? 32'sd0 : stored_reg) + added;
wire signed [31:0] largest = !pixel_first && stored_reg > added ? stored_reg : added;
wire signed [31:0] total   = pixel_maximum ? largest : sum_all;

assign sum_valid = sum_valid_reg;
assign sum       = sum_reg;

psa_ram #(.WIDTH(32), .DEPTH(DEPTH)) memory (
    .clk     (clk),
    .wr_en   (store_reg),
    .wr_addr (index_reg),
    .wr_data (sum_reg),
    .rd_en   (read_valid),
    .rd_addr (read_index),
    .rd_data (stored)
);

always @(posedge clk) begin
    stored_reg    <= stored;
    sum_valid_reg <= pixel_valid && pixel_last;
    store_reg     <= pixel_valid && !pixel_last;
    index_reg     <= pixel_index;
    sum_reg       <= total;

    if (rst) begin
        sum_valid_reg <= 1'b0;
        store_reg     <= 1'b0;
    end
end

endmodule

`resetall
