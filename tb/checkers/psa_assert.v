// One assertion: `fail` must be low at every clock edge at which `active` is high.
//
// Promises: a violation, or a `fail` that is X, is counted and prints `ASSERT <checker> <what> at <time> ns`, the first SHOWN times.
// The simulation continues. tb/flow/runner.py turns the line into a failure.

`resetall
`default_nettype none

module psa_assert #(
    // the module that checks, and the rule that is broken
    parameter CHECKER = "checker",
    parameter WHAT    = "rule",
    parameter SHOWN   = 5
) (
    input wire clk,
    input wire active,
    input wire fail
);

integer violations;

initial violations = 0;

always @(posedge clk) begin
    if (active === 1'b1 && fail !== 1'b0) begin
        violations <= violations + 1;
        if (violations < SHOWN) begin
            $display("ASSERT %0s %0s at %0d ns", CHECKER, WHAT, $time);
        end
    end
end

endmodule

`resetall
