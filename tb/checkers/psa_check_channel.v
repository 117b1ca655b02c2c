// The rules of one valid/ready channel: a waiting transfer is not withdrawn and does not change, and no X is offered.

`resetall
`default_nettype none

module psa_check_channel #(
    parameter CHECKER       = "psa_check_channel",
    // name of the channel
    parameter NAME          = "channel",
    // bits of the payload
    parameter WIDTH         = 8,
    // `rst` resets the side that drives valid
    parameter RESETS_DRIVER = 1
) (
    input wire             clk,
    input wire             rst,
    // `rst` has been seen: before it, nothing is known
    input wire             active,

    input wire             valid,
    input wire             ready,
    input wire [WIDTH-1:0] payload
);

reg             reset_reg, waiting_reg;
reg [WIDTH-1:0] payload_reg;

wire checked = active && !rst;

always @(posedge clk) begin
    reset_reg   <= rst;
    waiting_reg <= checked && valid === 1'b1 && ready !== 1'b1;
    payload_reg <= payload;
end

psa_assert #(.CHECKER(CHECKER), .WHAT({NAME, ": valid is X"})) valid_known (
    .clk(clk), .active(checked), .fail(valid !== 1'b0 && valid !== 1'b1)
);
psa_assert #(.CHECKER(CHECKER), .WHAT({NAME, ": ready is X while valid"})) ready_known (
    .clk(clk), .active(checked && valid), .fail(ready !== 1'b0 && ready !== 1'b1)
);
psa_assert #(.CHECKER(CHECKER), .WHAT({NAME, ": payload holds X while valid"})) payload_known (
    .clk(clk), .active(checked && valid), .fail((^payload) !== 1'b0 && (^payload) !== 1'b1)
);
psa_assert #(.CHECKER(CHECKER), .WHAT({NAME, ": valid fell before ready came"})) valid_stays (
    .clk(clk), .active(checked && waiting_reg), .fail(valid === 1'b0)
);
psa_assert #(.CHECKER(CHECKER), .WHAT({NAME, ": payload changed before ready came"})) payload_stays (
    .clk(clk), .active(checked && waiting_reg && valid), .fail(payload !== payload_reg)
);
psa_assert #(.CHECKER(CHECKER), .WHAT({NAME, ": valid in the cycle after reset"})) quiet_after_reset (
    .clk(clk), .active(checked && reset_reg && RESETS_DRIVER != 0), .fail(valid !== 1'b0)
);

endmodule

`resetall
