// A valid bit and data, STAGES cycles later. Reset clears the valid bits; data always move, so that it also delays data alone.

`resetall
`default_nettype none

module psa_delay #(
    parameter WIDTH  = 8,
    // at least 1
    parameter STAGES = 1
) (
    input  wire             clk,
    input  wire             rst,

    input  wire             in_valid,
    input  wire [WIDTH-1:0] in_data,

    output wire             out_valid,
    output wire [WIDTH-1:0] out_data
);

reg [STAGES-1:0] valid_reg;
reg [WIDTH-1:0]  data_reg [0:STAGES-1];

assign out_valid = valid_reg[STAGES-1];
assign out_data  = data_reg[STAGES-1];

integer i;

always @(posedge clk) begin
    valid_reg[0] <= in_valid;
    data_reg[0]  <= in_data;
    for (i = 1; i < STAGES; i = i + 1) begin
        valid_reg[i] <= valid_reg[i-1];
        data_reg[i]  <= data_reg[i-1];
    end
    if (rst) begin
        valid_reg <= {STAGES{1'b0}};
    end
end

endmodule

`resetall
