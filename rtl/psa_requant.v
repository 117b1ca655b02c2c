// Requantisation of one column, and the shift register that turns its pixels into a word.
//
//   clamp((((sum + bias) * multiplier + 2^(shift-1)) >> shift) + zero, low, high)
//
// What is above `high` becomes `high`, whatever `low` is.
//
// Promises: one pixel a cycle, in the word register four cycles after `sum_valid`. All columns share the parameter buses. A parameter
// belongs to the column whose word starts: `bias_load` comes in the cycle before a word's first sum, `multiplier_load` one,
// `shift_load` two and `clamp_load` three cycles later, each with its value on the bus; zero and both clamps go with `clamp_load`.

`resetall
`default_nettype none

module psa_requant #(
    // pixels per word
    parameter T = 16
) (
    input  wire               clk,
    input  wire               rst,

    input  wire               sum_valid,
    input  wire signed [31:0] sum,
    // the output plane has this pixel; zero is written otherwise
    input  wire               sum_keep,

    input  wire               bias_load,
    input  wire signed [31:0] bias,
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

reg signed [31:0] bias_reg;
reg [15:0]        multiplier_reg;
reg [5:0]         shift_reg;
reg signed [7:0]  zero_reg, low_reg, high_reg;

reg [2:0]         valid_reg;
reg [2:0]         keep_reg;
reg signed [32:0] biased_reg;
reg signed [49:0] product_reg;
reg signed [9:0]  shifted_reg;
reg               half_reg;
reg [T*8-1:0]     word_reg;
reg [T-1:0]       word_keep_reg;

assign word      = word_reg;
assign word_keep = word_keep_reg;

// The shift, by sixteens, fours and ones, of the product and the bit behind it, which at the end says whether to round up. A step
// keeps the bits that later steps can bring into the result. If another one differs from the sign, the result is too far from the
// clamps for any zero point: it becomes the outermost of its sign.
wire        sign     = product_reg[49];
wire [56:0] exact    = {{6{sign}}, product_reg, 1'b0};
wire [24:0] by_16    = shift_reg[5] ? (shift_reg[4] ? {{22{sign}}, exact[50:48]} : exact[32 +: 25])
                                    : (shift_reg[4] ? exact[16 +: 25] : exact[0 +: 25]);
wire [12:0] by_4     = shift_reg[3] ? (shift_reg[2] ? by_16[12 +: 13] : by_16[8 +: 13])
                                    : (shift_reg[2] ? by_16[4 +: 13] : by_16[0 +: 13]);
wire [9:0]  by_1     = by_4[{2'd0, shift_reg[1:0]} +: 10];
wire        outside  = (shift_reg[5:4] == 2'd0 && exact[40:25] != {16{sign}})
                    || (!shift_reg[5] && exact[50:41] != {10{sign}})
                    || (shift_reg[3:2] == 2'd0 && by_16[16:13] != {4{sign}})
                    || (!shift_reg[3] && by_16[20:17] != {4{sign}})
                    || (shift_reg[3:2] != 2'd3 && by_16[24:21] != {4{sign}})
                    || (shift_reg[1:0] == 2'd0 && by_4[10] != sign)
                    || (!shift_reg[1] && by_4[11] != sign)
                    || (shift_reg[1:0] != 2'd3 && by_4[12] != sign);

wire signed [10:0] value = {shifted_reg[9], shifted_reg} + {{3{zero_reg[7]}}, zero_reg} + {10'd0, half_reg};
wire signed [10:0] least = {{3{low_reg[7]}}, low_reg};
wire signed [10:0] most  = {{3{high_reg[7]}}, high_reg};
wire [7:0]         pixel = !keep_reg[2] ? 8'd0 : value > most ? high_reg : value < least ? low_reg : value[7:0];

always @(posedge clk) begin
    if (bias_load) begin
        bias_reg <= bias;
    end
    if (multiplier_load) begin
        multiplier_reg <= multiplier;
    end
    if (shift_load) begin
        shift_reg <= shift;
    end
    if (clamp_load) begin
        zero_reg <= zero;
        low_reg  <= low;
        high_reg <= high;
    end

    valid_reg <= {valid_reg[1:0], sum_valid};
    keep_reg  <= {keep_reg[1:0], sum_keep};

    if (sum_valid) begin
        biased_reg <= {sum[31], sum} + {bias_reg[31], bias_reg};
    end
    if (valid_reg[0]) begin
        product_reg <= biased_reg * $signed({1'b0, multiplier_reg});
    end
    if (valid_reg[1]) begin
        shifted_reg <= {sign, outside ? {9{!sign}} : by_1[9:1]};
        half_reg    <= by_1[0];
    end
    if (valid_reg[2]) begin
        word_reg      <= {pixel, word_reg[T*8-1:8]};
        word_keep_reg <= {keep_reg[2], word_keep_reg[T-1:1]};
    end

    if (rst) begin
        valid_reg <= 3'd0;
    end
end

endmodule

`resetall
