// Records values inside the machine during a given run. Only for `make replay`, which defines PSA_PROBE.
//
// +probe=<path> with +probe_from=<ns> +probe_to=<ns>: one line a value, each with its time in ns:
//
//   x <time> <row> <pixel of each bank>        a bundle enters a row of the array
//   s <time> <row> <sum or - of each column>   partial sums leave the PEs of a row
//   a <time> <column> <sum>                    a column's sum over the passes so far
//   w <time> <bank> <word> <pixels>            a result is written
//
// +waves=<path> with +waves_from=<ns> +waves_to=<ns>: waves of everything; the simulation ends with them.

`resetall
`default_nettype none

`include "psa_places.vh"

module psa_probe #(
    parameter ROWS  = 16,
    parameter COLS  = 16,
    parameter GROUP = 8,
    parameter HOP   = 1
) (
    input wire clk
);

localparam T         = ROWS;
localparam PSUM_BITS = 16 + $clog2(ROWS);
localparam PATH_BITS = 8 * 4096;

integer             file;
reg                 sample, waves, dumping;
reg [PATH_BITS-1:0] file_path, waves_path;
reg [63:0]          probe_from, probe_to, waves_from, waves_to;

initial begin
    sample     = 1'b0;
    dumping    = 1'b0;
    file       = 0;
    probe_from = 64'd0;
    probe_to   = 64'd0;
    waves_from = 64'd0;
    waves_to   = 64'd0;
    if ($value$plusargs("probe=%s", file_path) && $value$plusargs("probe_from=%d", probe_from) && $value$plusargs("probe_to=%d", probe_to)) begin
        file = $fopen(file_path, "w");
    end
    waves = $value$plusargs("waves=%s", waves_path) && $value$plusargs("waves_from=%d", waves_from) && $value$plusargs("waves_to=%d", waves_to);
end

// half a cycle before the edge that is recorded
always @(negedge clk) begin
    sample <= file != 0 && $time >= probe_from && $time <= probe_to;
    if (waves && !dumping && $time >= waves_from) begin
        dumping <= 1'b1;
        $dumpfile(waves_path);
        $dumpvars(0, psa_checked);
    end
    if (dumping && $time > waves_to) begin
        $dumpflush;
        $finish;
    end
end

genvar r, c;

generate
for (r = 0; r < ROWS; r = r + 1) begin : gen_row
    integer                    g, k;
    reg signed [7:0]           pixel;
    reg signed [PSUM_BITS-1:0] sum;
    // the PEs whose bundle the end of their hop passed on in the cycle before; those whose sums are given, a cycle later
    reg [COLS-1:0]             passed_reg, given_reg;

    always @(posedge clk) begin
        for (k = 0; k < COLS; k = k + 1) begin
            passed_reg[k] <= !`AT_CORE.core_rst && `AT_ROW(r).valid[(k/HOP+1)*HOP];
        end
        given_reg <= `AT_CORE.core_rst ? {COLS{1'b0}} : passed_reg;
        if (sample && `AT_CORE.x_valid[r] === 1'b1) begin
            $fwrite(file, "x %0d %0d", $time, r);
            for (g = 0; g < GROUP; g = g + 1) begin
                pixel = `AT_CORE.x_bundle[(r*GROUP + g)*8 +: 8];
                $fwrite(file, " %0d", pixel);
            end
            $fwrite(file, "\n");
        end
        if (sample && given_reg != 0) begin
            $fwrite(file, "s %0d %0d", $time, r);
            for (k = 0; k < COLS; k = k + 1) begin
                if (given_reg[k]) begin
                    sum = `AT_ROW(r).sums[k*PSUM_BITS +: PSUM_BITS];
                    $fwrite(file, " %0d", sum);
                end else begin
                    $fwrite(file, " -");
                end
            end
            $fwrite(file, "\n");
        end
    end
end

for (c = 0; c < COLS; c = c + 1) begin : gen_column
    always @(posedge clk) begin
        if (sample && `AT_CORE.pixel_valid[c] === 1'b1) begin
            $fwrite(file, "a %0d %0d %0d\n", $time, c, `AT_COLUMN(c).accumulator.total);
        end
    end
end
endgenerate

integer          p;
reg signed [7:0] result;

always @(posedge clk) begin
    if (sample && `AT_FETCH.wr_valid === 1'b1 && !`AT_CORE.ld_feature) begin
        $fwrite(file, "w %0d %0d %0d", $time, `AT_FETCH.wr_bank, `AT_FETCH.wr_word);
        for (p = 0; p < T; p = p + 1) begin
            result = `AT_FETCH.wr_data[p*8 +: 8];
            $fwrite(file, " %0d", result);
        end
        $fwrite(file, "\n");
    end
end

endmodule

`resetall
