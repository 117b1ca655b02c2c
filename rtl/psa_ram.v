// One write port, one read port, both synchronous: read data follow the address by one cycle and hold while rd_en is low.
// Not reset. A word that is read in the cycle that writes it gives anything, so that any memory of any technology will do. The driver of
// an address must check it.

`resetall
`default_nettype none

module psa_ram #(
    parameter WIDTH = 8,
    parameter DEPTH = 16
) (
    input  wire                     clk,

    input  wire                     wr_en,
    input  wire [$clog2(DEPTH)-1:0] wr_addr,
    input  wire [WIDTH-1:0]         wr_data,

    input  wire                     rd_en,
    input  wire [$clog2(DEPTH)-1:0] rd_addr,
    output wire [WIDTH-1:0]         rd_data
);

reg [WIDTH-1:0] mem [0:DEPTH-1];
reg [WIDTH-1:0] rd_data_reg;

assign rd_data = rd_data_reg;

always @(posedge clk) begin
    if (wr_en) begin
        mem[wr_addr] <= wr_data;
    end
    if (rd_en) begin
        rd_data_reg <= wr_en && wr_addr == rd_addr ? {WIDTH{1'bx}} : mem[rd_addr];
    end
end

endmodule

`resetall
