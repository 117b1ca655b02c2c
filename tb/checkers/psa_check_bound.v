// An address must be below its limit whenever it is used.

`resetall
`default_nettype none

module psa_check_bound #(
    // what the address is for
    parameter        NAME  = "address",
    parameter        WIDTH = 16,
    parameter [31:0] LIMIT = 16
) (
    input wire             clk,
    input wire             active,
    input wire             enable,
    input wire [WIDTH-1:0] address
);

wire [31:0] wide = {{32-WIDTH{1'b0}}, address};

psa_assert #(.CHECKER("psa_check_memories"), .WHAT({NAME, " is out of range"})) in_range (
    .clk(clk), .active(active && enable), .fail(!(wide < LIMIT))
);

endmodule

`resetall
