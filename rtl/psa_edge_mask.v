// Marks those of T pixels that a tap reads over an edge of the plane. Combinational. There is one for each bank; all use one edge word.
//
// Promises: outside is -dx > left || dx > right || -dy > top || dy > bottom. A reach of d to the left is d - 1 with all bits inverted,
// so both directions take one comparison: of d - 1 >= left, or of d > right.

`resetall
`default_nettype none

`include "psa_words.vh"

module psa_edge_mask #(
    parameter T     = 16,
    // bits of a distance
    parameter REACH = `PSA_EDGE_LEFT_BITS
) (
    // pixel i at i*4*REACH: how many pixels there are to its left and right, above and below it
    input  wire [T*4*REACH-1:0]  distances,

    // the tap
    input  wire signed [REACH:0] dx,
    input  wire signed [REACH:0] dy,

    output wire [T-1:0]          outside
);

wire [REACH:0] reach_x = {dx[REACH-1:0] ^ {REACH{dx[REACH]}}, dx[REACH]};
wire [REACH:0] reach_y = {dy[REACH-1:0] ^ {REACH{dy[REACH]}}, dy[REACH]};

genvar i;

generate
for (i = 0; i < T; i = i + 1) begin : gen_pixel
    wire [REACH-1:0] left, right, top, bottom;

    assign {bottom, top, right, left} = distances[i*4*REACH +: 4*REACH];

    assign outside[i] = reach_x > {dx[REACH] ? left : right, 1'b0} || reach_y > {dy[REACH] ? top : bottom, 1'b0};
end
endgenerate

endmodule

`resetall
