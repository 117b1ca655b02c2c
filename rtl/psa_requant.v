// Requantisation of one column, and the shift register that turns its pixels into a word.
//
//   clamp(((sum * multiplier + 2^(shift-1)) >> shift) + zero, low, high)
//
// What is above `high` becomes `high`, whatever `low` is. The sum has its bias already.
//
// Promises: one pixel a cycle, in the word register three cycles after `sum_valid`. All columns share the parameter buses. A parameter
// belongs to the column whose word starts: `multiplier_load` comes in the cycle before a word's first sum, `shift_load` one and
// `clamp_load` two cycles later, each with its value on the bus; zero and both clamps go with `clamp_load`.

`resetall
`default_nettype none

module psa_requant #(
    // pixels per word
    parameter T = 16
) (
    input  wire               clk,
    input  wire               rst,

    input  wire               sum_valid,
    input  wire signed [32:0] sum,
    // the output plane has this pixel; zero is written otherwise
    input  wire               sum_keep,

    input  wire               multiplier_load,
    input  wire [15:0]        multiplier,
    input  wire               shift_load,
    input  wire [5:0]         shift,
    input  wire               clamp_load,
    input  wire signed [7:0]  zero,
    input  wire signed [7:0]  low,
    input  wire signed [7:0]  high,

    output wire [T*8-1:0]     word,
    // which of its pixels the plane has
    output wire [T-1:0]       word_keep
);

reg [15:0]         multiplier_reg;
reg [5:0]          shift_reg;
reg signed [7:0]   zero_reg, low_reg, high_reg;
// zero less the low clamp, and less the high one less 1: a value without its zero is compared with the clamps while zero is added
reg signed [10:0]  above_low_reg, above_high_reg;

reg [1:0]          valid_reg, keep_reg;
// the products of the lower 17 bits of the sum, and of the upper 16
reg [32:0]         product_low_reg;
reg signed [32:0]  product_high_reg;
reg [12:0]         by_4_reg;
reg [1:0]          left_reg;
reg                sign_reg, outside_reg;
reg [T*8-1:0]      word_reg;
reg [T-1:0]        word_keep_reg;

assign word      = word_reg;
assign word_keep = word_keep_reg;

// The shift, by sixteens, fours and, in the next cycle, ones, of the product and the bit behind it, which at the end says whether to round
// up. A step keeps the bits that later steps can bring into the result. If another one differs from the sign, the result is too far from
// the clamps for any zero point: it becomes the outermost of its sign.
wire signed [49:0] product  = {product_high_reg, 17'd0} + {17'd0, product_low_reg};
wire               sign     = product[49];
wire [56:0]        exact    = {{6{sign}}, product, 1'b0};
wire [24:0]        by_16    = shift_reg[5] ? (shift_reg[4] ? {{22{sign}}, exact[50:48]} : exact[32 +: 25])
                                           : (shift_reg[4] ? exact[16 +: 25] : exact[0 +: 25]);
wire [12:0]        by_4     = shift_reg[3] ? (shift_reg[2] ? by_16[12 +: 13] : by_16[8 +: 13])
                                           : (shift_reg[2] ? by_16[4 +: 13] : by_16[0 +: 13]);
wire               outside  = (shift_reg[5:4] == 2'd0 && exact[40:25] != {16{sign}})
                           || (!shift_reg[5] && exact[50:41] != {10{sign}})
                           || (shift_reg[3:2] == 2'd0 && by_16[16:13] != {4{sign}})
                           || (!shift_reg[3] && by_16[20:17] != {4{sign}})
                           || (shift_reg[3:2] != 2'd3 && by_16[24:21] != {4{sign}});

wire [9:0]         by_1     = by_4_reg[{2'd0, left_reg} +: 10];
wire               beyond   = outside_reg
                           || (left_reg == 2'd0 && by_4_reg[10] != sign_reg)
                           || (!left_reg[1] && by_4_reg[11] != sign_reg)
                           || (left_reg != 2'd3 && by_4_reg[12] != sign_reg);
wire signed [9:0]  shifted  = {sign_reg, beyond ? {9{!sign_reg}} : by_1[9:1]};
wire               half     = by_1[0];

wire [7:0]         value    = shifted[7:0] + zero_reg + {7'd0, half};
wire signed [10:0] to_low   = {shifted[9], shifted} + above_low_reg + {10'd0, half};
wire signed [10:0] to_high  = {shifted[9], shifted} + above_high_reg + {10'd0, half};
wire [7:0]         pixel    = !keep_reg[1] ? 8'd0 : !to_high[10] ? high_reg : to_low[10] ? low_reg : value;

wire unused = &{1'b0, to_low[9:0], to_high[9:0]};

always @(posedge clk) begin
    if (multiplier_load) begin
        multiplier_reg <= multiplier;
    end
    if (shift_load) begin
        shift_reg <= shift;
    end
    if (clamp_load) begin
        zero_reg       <= zero;
        low_reg        <= low;
        high_reg       <= high;
        above_low_reg  <= {{3{zero[7]}}, zero} - {{3{low[7]}}, low};
        above_high_reg <= {{3{zero[7]}}, zero} - {{3{high[7]}}, high} - 11'sd1;
    end

    valid_reg <= {valid_reg[0], sum_valid};
    keep_reg  <= {keep_reg[0], sum_keep};

    product_low_reg  <= sum[16:0] * multiplier_reg;
    product_high_reg <= $signed(sum[32:17]) * $signed({1'b0, multiplier_reg});

    by_4_reg    <= by_4;
    left_reg    <= shift_reg[1:0];
    sign_reg    <= sign;
    outside_reg <= outside;

    if (valid_reg[1]) begin
        word_reg      <= {pixel, word_reg[T*8-1:8]};
        word_keep_reg <= {keep_reg[1], word_keep_reg[T-1:1]};
    end

    if (rst) begin
        valid_reg <= 2'd0;
    end
end

endmodule

`resetall
