// Lane serialiser: takes T pixels of a bundle at once and gives them to its row one by one.
//
// Promises: the first pixel leaves in the cycle after `load`, and the others leave in the next T-1 cycles. A new load may come every T
// cycles without a gap. Lane r is loaded r cycles after lane 0, and this gives the rows the skew of a systolic array.

`resetall
`default_nettype none

module psa_lane #(
    parameter T     = 16,
    parameter GROUP = 8
) (
    input  wire                 clk,
    input  wire                 rst,

    input  wire                 load,
    // these pixels begin a pass
    input  wire                 load_first,
    // ... and belong to a layer of maxima
    input  wire                 load_maximum,
    // pixel i at i*GROUP*8
    input  wire [T*GROUP*8-1:0] load_data,

    output wire                 pixel_valid,
    output wire                 pixel_first,
    output wire                 pixel_maximum,
    output wire [GROUP*8-1:0]   pixel_bundle
);

localparam COUNT = $clog2(T);

reg                 valid_reg;
reg                 first_reg, maximum_reg;
reg [COUNT-1:0]     count_reg;
reg [T*GROUP*8-1:0] data_reg;

assign pixel_valid   = valid_reg;
assign pixel_first   = first_reg && count_reg == {COUNT{1'b0}};
assign pixel_maximum = maximum_reg;
assign pixel_bundle  = data_reg[count_reg*GROUP*8 +: GROUP*8];

always @(posedge clk) begin
    if (load) begin
        valid_reg   <= 1'b1;
        first_reg   <= load_first;
        maximum_reg <= load_maximum;
        count_reg   <= {COUNT{1'b0}};
        data_reg    <= load_data;
    end else if (valid_reg) begin
        valid_reg <= !(&count_reg);
        count_reg <= count_reg + 1'b1;
    end

    if (rst) begin
        valid_reg <= 1'b0;
    end
end

endmodule

`resetall
