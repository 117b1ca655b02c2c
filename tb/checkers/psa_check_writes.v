// Who writes and who reads: nothing is written while ERROR stands, and each port of a memory has one user at a time.

`resetall
`default_nettype none

module psa_check_writes #(
    parameter GROUP = 8
) (
    input wire clk,
    input wire active
);

wire error = psa_checked.dut.error;
wire reset = psa_checked.dut.core_rst;

// If a packet ends early, its last whole word is written in the first cycle of the error.
reg error_reg;

always @(posedge clk) begin
    error_reg <= error && !reset;
end

wire [GROUP-1:0] lane_reads;

genvar g;

generate
for (g = 0; g < GROUP; g = g + 1) begin : gen_bank
    assign lane_reads[g] = psa_checked.dut.fetch.gen_bank[g].used_4_reg;
end
endgenerate

psa_assert #(.CHECKER("psa_check_writes"), .WHAT("a result is written while ERROR stands")) no_result_after_error (
    .clk(clk), .active(active && error), .fail(psa_checked.dut.fetch.wr_valid && !psa_checked.dut.ld_feature)
);
psa_assert #(.CHECKER("psa_check_writes"), .WHAT("a word is loaded while ERROR stands")) no_load_after_error (
    .clk(clk), .active(active && error && error_reg), .fail(psa_checked.dut.ld_valid)
);
psa_assert #(.CHECKER("psa_check_writes"), .WHAT("a word is loaded while a program runs")) no_load_while_busy (
    .clk(clk), .active(active), .fail(psa_checked.dut.ld_valid && psa_checked.dut.busy)
);
psa_assert #(.CHECKER("psa_check_writes"), .WHAT("a load and a result in one cycle")) one_writer (
    .clk(clk), .active(active), .fail(psa_checked.dut.ld_feature && psa_checked.dut.wb_valid)
);
psa_assert #(.CHECKER("psa_check_writes"), .WHAT("the out stream reads a bank while lanes do")) one_reader (
    .clk(clk), .active(active), .fail(psa_checked.dut.out_rd_en && |lane_reads)
);

endmodule

`resetall
