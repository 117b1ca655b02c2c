// Queue in a memory: words leave in the order in which they came.
//
// Promises: it takes DEPTH words at least, and one more while a word is offered. A word is offered two cycles after it came, at the
// earliest, and stays until it is taken. While both sides are ready, a word passes in each cycle. No output depends on an input of the
// same cycle.

`resetall
`default_nettype none

module psa_fifo #(
    parameter WIDTH = 8,
    // a power of two, at least 2
    parameter DEPTH = 16
) (
    input  wire             clk,
    input  wire             rst,

    input  wire             in_valid,
    output wire             in_ready,
    input  wire [WIDTH-1:0] in_data,

    output wire             out_valid,
    input  wire             out_ready,
    output wire [WIDTH-1:0] out_data
);

localparam ADDR = $clog2(DEPTH);

reg [ADDR-1:0] head_reg, tail_reg;
// words of the memory; the one that is offered has left it
reg [ADDR:0]   count_reg;
reg            out_valid_reg;

wire push = in_valid && in_ready;
// the memory holds what it has read while it is not read again
wire read = count_reg != {(ADDR + 1){1'b0}} && (!out_valid_reg || out_ready);

assign in_ready  = !count_reg[ADDR];
assign out_valid = out_valid_reg;

psa_ram #(
    .WIDTH (WIDTH),
    .DEPTH (DEPTH)
) words (
    .clk     (clk),
    .wr_en   (push),
    .wr_addr (tail_reg),
    .wr_data (in_data),
    .rd_en   (read),
    .rd_addr (head_reg),
    .rd_data (out_data)
);

always @(posedge clk) begin
    if (push) begin
        tail_reg <= tail_reg + 1'b1;
    end
    if (read) begin
        head_reg <= head_reg + 1'b1;
    end
    count_reg     <= count_reg + {{ADDR{1'b0}}, push} - {{ADDR{1'b0}}, read};
    out_valid_reg <= read || (out_valid_reg && !out_ready);

    if (rst) begin
        head_reg      <= {ADDR{1'b0}};
        tail_reg      <= {ADDR{1'b0}};
        count_reg     <= {(ADDR + 1){1'b0}};
        out_valid_reg <= 1'b0;
    end
end

endmodule

`resetall
