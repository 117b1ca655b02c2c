// Who writes and who reads: no result is written and no packet begins while ERROR stands, only words of live packets are loaded while a
// program runs, and each port of a memory has one user at a time.

`resetall
`default_nettype none

`include "psa_words.vh"
`include "psa_places.vh"

module psa_check_writes #(
    parameter GROUP = 8
) (
    input wire clk,
    input wire active
);

wire error = `AT_TOP.error;
wire reset = `AT_CORE.core_rst;

// If a packet ends early, its last whole word is written in the first cycle of the error. A packet that began while a program ran
// may go on when the program has stopped.
reg error_reg, began_busy_reg, live_reg;

wire header = `AT_LOAD.beat && `AT_LOAD.at_header;

always @(posedge clk) begin
    error_reg <= error && !reset;
    if (header) begin
        began_busy_reg <= `AT_TOP.busy;
        live_reg       <= `AT_LOAD.header_dest[`PSA_HEADER_LIVE];
    end
end

wire [GROUP-1:0] lane_reads;

genvar g;

generate
for (g = 0; g < GROUP; g = g + 1) begin : gen_bank
    assign lane_reads[g] = `AT_BANK(g).used_7_reg;
end
endgenerate

psa_assert #(.CHECKER("psa_check_writes"), .WHAT("a result is written while ERROR stands")) no_result_after_error (
    .clk(clk), .active(active && error), .fail(`AT_FETCH.wr_valid)
);
psa_assert #(.CHECKER("psa_check_writes"), .WHAT("a word is loaded while ERROR stands")) no_load_after_error (
    .clk(clk), .active(active && error && error_reg), .fail(`AT_TOP.ld_valid && !began_busy_reg)
);
psa_assert #(.CHECKER("psa_check_writes"), .WHAT("a word that is not live is loaded while a program runs")) live_while_busy (
    .clk(clk), .active(active && `AT_TOP.busy), .fail(`AT_TOP.ld_valid && !live_reg)
);
psa_assert #(.CHECKER("psa_check_writes"), .WHAT("a load and a result in one bank in one cycle")) one_writer (
    .clk(clk), .active(active && `AT_CORE.ld_feature && `AT_FETCH.wr_valid),
    .fail(`AT_FETCH.ld_bank == `AT_FETCH.wr_bank)
);
psa_assert #(.CHECKER("psa_check_writes"), .WHAT("the out stream reads a bank while lanes do")) one_reader (
    .clk(clk), .active(active), .fail(`AT_CORE.out_rd_en && |lane_reads)
);

endmodule

`resetall
