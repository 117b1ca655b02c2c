// Lane serialiser: takes T pixels of a bundle at once and gives them to its row one by one.
//
// Promises: the first pixel leaves in the cycle of `load`, as it comes, and the others leave in the next T-1 cycles. A new load may come
// every T cycles without a gap. Lane r is loaded r cycles after lane 0, and this gives the rows the skew of a systolic array. Each bank's
// pixels begin at a place of their own, `load_shift`, and go round: they come as they lie in the words of the bank.

`resetall
`default_nettype none

module psa_lane #(
    parameter T     = 16,
    parameter GROUP = 8
) (
    input  wire                       clk,
    input  wire                       rst,

    input  wire                       load,
    // these pixels begin a pass
    input  wire                       load_first,
    // ... and belong to a layer of maxima
    input  wire                       load_maximum,
    // bank g's first pixel is at place load_shift[g*$clog2(T) +: $clog2(T)]
    input  wire [GROUP*$clog2(T)-1:0] load_shift,
    // place p of bank g at (p*GROUP + g)*8
    input  wire [T*GROUP*8-1:0]       load_data,
    // the first pixel of each bank
    input  wire [GROUP*8-1:0]         load_pixel,

    output wire                       pixel_valid,
    output wire                       pixel_first,
    output wire                       pixel_maximum,
    output wire [GROUP*8-1:0]         pixel_bundle
);

localparam COUNT = $clog2(T);

reg                   valid_reg;
reg                   maximum_reg;
reg [COUNT-1:0]       count_reg;
// the place of each bank's next pixel
reg [GROUP*COUNT-1:0] place_reg;
reg [T*GROUP*8-1:0]   data_reg;

assign pixel_valid   = load || valid_reg;
assign pixel_first   = load && load_first;
assign pixel_maximum = load ? load_maximum : maximum_reg;

genvar g;

generate
for (g = 0; g < GROUP; g = g + 1) begin : gen_bank
    wire [COUNT-1:0] place = place_reg[g*COUNT +: COUNT];

    assign pixel_bundle[g*8 +: 8] = load ? load_pixel[g*8 +: 8] : data_reg[(place*GROUP + g)*8 +: 8];
end
endgenerate

integer b;

always @(posedge clk) begin
    if (load) begin
        valid_reg   <= 1'b1;
        maximum_reg <= load_maximum;
        count_reg   <= {{COUNT-1{1'b0}}, 1'b1};
        data_reg    <= load_data;
    end else if (valid_reg) begin
        valid_reg <= !(&count_reg);
        count_reg <= count_reg + 1'b1;
    end
    for (b = 0; b < GROUP; b = b + 1) begin
        place_reg[b*COUNT +: COUNT] <= (load ? load_shift[b*COUNT +: COUNT] : place_reg[b*COUNT +: COUNT]) + 1'b1;
    end

    if (rst) begin
        valid_reg <= 1'b0;
    end
end

endmodule

`resetall
