// Processing element: its slot selects one pixel of the bundle; a cycle later the PE multiplies it by the weight, and in the cycle after
// that it adds the sum from above.
//
// A slot holds an 8-bit weight, or a 4-bit digit with a bit that says which digit of its weight it is: the low digit, or the digit that
// counts 16 times.
//
// A hop is some columns that see a bundle in the same cycle. The last PE of a hop registers what it passes on; the others pass it on as it
// comes.
//
// Promises: everything moves one step a cycle; a pixel's sum is given three cycles after its bundle has come. A slot that is written
// while the current pass runs takes effect with the pixel that carries `first`, so passes follow each other without a bubble. The slot of
// the next pass may be written from the cycle in which the previous `first` passes here. With a pixel that carries `maximum`, what comes
// from above is a pixel, too, and a slot of a negative weight gives its own in place of it where the sum with its product is negative;
// for a weight of -1 this is the maximum of both. Other slots pass on what comes from above. What comes without `x_valid` changes no
// slot, and its sum may be anything.

`resetall
`default_nettype none

`include "psa_words.vh"

module psa_pe #(
    parameter GROUP       = 8,
    // 8, or 4 with a position bit
    parameter WEIGHT_BITS = 8,
    parameter PSUM_BITS   = 20,
    // 1 in the last column of a hop
    parameter HOP_END     = 1
) (
    input  wire                            clk,
    input  wire                            rst,

    // shadow slot: weight, a digit's position, select; a weight of zero is an empty slot
    input  wire                            slot_load,
    input  wire [`PSA_SLOT_ENTRY_BITS-1:0] slot_data,

    // from the left
    input  wire                            x_valid,
    input  wire                            x_first,
    input  wire                            x_maximum,
    input  wire [GROUP*8-1:0]              x_bundle,
    // to the right
    output wire                            x_out_valid,
    output wire                            x_out_first,
    output wire                            x_out_maximum,
    output wire [GROUP*8-1:0]              x_out_bundle,

    // from above, two cycles after x; and down
    input  wire signed [PSUM_BITS-1:0]     psum,
    output wire signed [PSUM_BITS-1:0]     psum_out
);

localparam SLOT_BITS    = `PSA_SLOT_ENTRY_BITS;
localparam SELECT_BITS  = `PSA_SLOT_SELECT_BITS;
localparam PRODUCT_BITS = WEIGHT_BITS + 8;
localparam TERM_BITS    = 16;

reg [SLOT_BITS-1:0]        shadow_reg, active_reg;
reg                        maximum_reg;
reg signed [PSUM_BITS-1:0] psum_reg;

assign psum_out = psum_reg;

// the cycle in which the bundle comes: the pixel is selected, by the slot that is the active one from the next cycle on

wire signed [7:0] x;
reg signed [7:0]  x_reg;

assign x = x_reg;

generate
if (GROUP == 1) begin : gen_dense
    always @(posedge clk) begin
        x_reg <= x_bundle;
    end
end else begin : gen_select
    wire [SELECT_BITS-1:0] select = x_first ? shadow_reg[`PSA_SLOT_SELECT] : active_reg[`PSA_SLOT_SELECT];

    always @(posedge clk) begin
        x_reg <= x_bundle[select*8 +: 8];
    end
end

if (HOP_END == 0) begin : gen_inside
    wire unused = &{1'b0, rst};

    assign x_out_valid   = x_valid;
    assign x_out_first   = x_first;
    assign x_out_maximum = x_maximum;
    assign x_out_bundle  = x_bundle;
end else begin : gen_end
    reg valid_reg, first_reg;

    assign x_out_valid   = valid_reg;
    assign x_out_first   = first_reg;
    assign x_out_maximum = maximum_reg;

    always @(posedge clk) begin
        valid_reg <= x_valid;
        first_reg <= x_first;
        if (rst) begin
            valid_reg <= 1'b0;
        end
    end

    if (GROUP == 1) begin : gen_pixel
        assign x_out_bundle = x_reg;
    end else begin : gen_bundle
        reg [GROUP*8-1:0] bundle_reg;

        assign x_out_bundle = bundle_reg;

        always @(posedge clk) begin
            bundle_reg <= x_bundle;
        end
    end
end
endgenerate

// the cycle after: the product

wire signed [WEIGHT_BITS-1:0]  weight  = active_reg[`PSA_SLOT_WEIGHT];
wire signed [PRODUCT_BITS-1:0] product = weight * x;
wire [TERM_BITS-1:0]           term;

generate

if (WEIGHT_BITS == 8) begin : gen_weight
    assign term = product;
end else begin : gen_digit
    assign term = active_reg[`PSA_SLOT_POSITION] ? {product, 4'd0} : {{4{product[PRODUCT_BITS-1]}}, product};
end
endgenerate

// the cycle after that: the sum, or the maximum

reg signed [TERM_BITS-1:0] term_reg;
reg signed [7:0]           pixel_reg;
// the weight is negative; the layer takes maxima
reg                        negative_reg, choose_reg;

wire signed [PSUM_BITS-1:0] sum     = psum + {{PSUM_BITS-TERM_BITS{term_reg[TERM_BITS-1]}}, term_reg};
wire                        greater = negative_reg && sum[PSUM_BITS-1];
wire signed [7:0]           maximum = greater ? pixel_reg : psum[7:0];

always @(posedge clk) begin
    if (slot_load) begin
        shadow_reg <= slot_data;
    end
    if (x_valid && x_first) begin
        active_reg <= shadow_reg;
    end
    maximum_reg <= x_maximum;

    term_reg     <= term;
    pixel_reg    <= x;
    negative_reg <= weight[WEIGHT_BITS-1];
    choose_reg   <= maximum_reg;

    psum_reg <= choose_reg ? {{PSUM_BITS-8{maximum[7]}}, maximum} : sum;
end

endmodule

`resetall
