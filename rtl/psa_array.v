// ROWS x COLS PEs. Bundles move right, a hop of columns a cycle, and partial sums move down, one row a cycle. A sum begins with 0, a
// maximum with -128. With hops of more than one column, the sums of a hop are complete in the same cycle. They are delayed, so that they
// leave one column after the other all the same.
//
// Promises: pixel n of a pass enters row r at cycle t + n + r and its sum leaves column c at cycle t + n + ROWS + 2 + c. A row of slots at `row_*`
// is in that row's shadow slots from the next cycle on.

`resetall
`default_nettype none

module psa_array #(
    parameter ROWS        = 16,
    parameter COLS        = 16,
    parameter GROUP       = 8,
    parameter WEIGHT_BITS = 8,
    parameter SLOT_BITS   = 11,
    parameter PSUM_BITS   = 20,
    // columns that see a bundle in the same cycle
    parameter HOP         = 1
) (
    input  wire                                        clk,
    input  wire                                        rst,

    input  wire                                        row_valid,
    input  wire [$clog2(ROWS)-1:0]                     row_index,
    input  wire [COLS*SLOT_BITS-1:0]                   row_slots,

    // one a row
    input  wire [ROWS-1:0]                             x_valid,
    input  wire [ROWS-1:0]                             x_first,
    input  wire [ROWS-1:0]                             x_maximum,
    input  wire [ROWS*GROUP*8-1:0]                     x_bundle,

    // one a column
    output wire [COLS*PSUM_BITS-1:0]                   psum
);

genvar r, c;

generate
for (r = 0; r < ROWS; r = r + 1) begin : gen_row
    wire [COLS:0]             valid;
    wire [COLS:0]             first;
    wire [COLS:0]             maximum;
    wire [GROUP*8-1:0]        bundle [0:COLS];
    wire [COLS*PSUM_BITS-1:0] sums;
    wire                      slot_load = row_valid && row_index == r;

    assign valid[0]   = x_valid[r];
    assign first[0]   = x_first[r];
    assign maximum[0] = x_maximum[r];
    assign bundle[0]  = x_bundle[r*GROUP*8 +: GROUP*8];

    for (c = 0; c < COLS; c = c + 1) begin : gen_col
        wire [PSUM_BITS-1:0] above;

        if (r == 0) begin : gen_top
            // with the sums, two cycles behind the pixels: a cycle after the end of the hop has passed it on
            reg lowest_reg;

            always @(posedge clk) begin
                lowest_reg <= maximum[(c/HOP+1)*HOP];
            end

            assign above = {{PSUM_BITS-7{lowest_reg}}, 7'd0};
        end else begin : gen_below
            assign above = gen_row[r-1].sums[c*PSUM_BITS +: PSUM_BITS];
        end

        psa_pe #(
            .GROUP       (GROUP),
            .WEIGHT_BITS (WEIGHT_BITS),
            .PSUM_BITS   (PSUM_BITS),
            .HOP_END     ((c + 1) % HOP == 0)
        ) pe (
            .clk           (clk),
            .rst           (rst),
            .slot_load     (slot_load),
            .slot_data     (row_slots[c*SLOT_BITS +: SLOT_BITS]),
            .x_valid       (valid[c]),
            .x_first       (first[c]),
            .x_maximum     (maximum[c]),
            .x_bundle      (bundle[c]),
            .x_out_valid   (valid[c+1]),
            .x_out_first   (first[c+1]),
            .x_out_maximum (maximum[c+1]),
            .x_out_bundle  (bundle[c+1]),
            .psum          (above),
            .psum_out      (sums[c*PSUM_BITS +: PSUM_BITS])
        );
    end
end

for (c = 0; c < COLS; c = c + 1) begin : gen_late
    wire [PSUM_BITS-1:0] sum = gen_row[ROWS-1].sums[c*PSUM_BITS +: PSUM_BITS];

    if (HOP == 1 || c == 0) begin : gen_none
        assign psum[c*PSUM_BITS +: PSUM_BITS] = sum;
    end else begin : gen_delay
        psa_delay #(.WIDTH(PSUM_BITS), .STAGES(c - c/HOP)) late (
            .clk       (clk),
            .rst       (rst),
            .in_valid  (1'b0),
            .in_data   (sum),
            .out_valid (),
            .out_data  (psum[c*PSUM_BITS +: PSUM_BITS])
        );
    end
end
endgenerate

endmodule

`resetall
