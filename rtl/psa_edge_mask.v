// Marks those of T pixels that a tap reads over an edge of the plane. Combinational. There is one for each bank; all use one edge word.

`resetall
`default_nettype none

module psa_edge_mask #(
    parameter T = 16
) (
    // bit (d-1)*T + i: pixel i has fewer than d columns to its left or right, or rows above or below it
    input  wire [4*T-1:0]    left_under,
    input  wire [4*T-1:0]    right_under,
    input  wire [4*T-1:0]    top_under,
    input  wire [4*T-1:0]    bottom_under,

    // the tap: -4..4
    input  wire signed [3:0] dx,
    input  wire signed [3:0] dy,

    output reg  [T-1:0]      outside
);

always @* begin
    case (dx)
        -4'sd4:  outside = left_under[3*T +: T];
        -4'sd3:  outside = left_under[2*T +: T];
        -4'sd2:  outside = left_under[1*T +: T];
        -4'sd1:  outside = left_under[0*T +: T];
        4'sd1:   outside = right_under[0*T +: T];
        4'sd2:   outside = right_under[1*T +: T];
        4'sd3:   outside = right_under[2*T +: T];
        4'sd4:   outside = right_under[3*T +: T];
        default: outside = {T{1'b0}};
    endcase
    case (dy)
        -4'sd4:  outside = outside | top_under[3*T +: T];
        -4'sd3:  outside = outside | top_under[2*T +: T];
        -4'sd2:  outside = outside | top_under[1*T +: T];
        -4'sd1:  outside = outside | top_under[0*T +: T];
        4'sd1:   outside = outside | bottom_under[0*T +: T];
        4'sd2:   outside = outside | bottom_under[1*T +: T];
        4'sd3:   outside = outside | bottom_under[2*T +: T];
        4'sd4:   outside = outside | bottom_under[3*T +: T];
        default: outside = outside;
    endcase
end

endmodule

`resetall
