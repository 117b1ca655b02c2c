// Requantisation of one column, and the shift register that turns its pixels into a word.
//
//   clamp((((sum + bias) * multiplier + 2^(shift-1)) >> shift) + zero, low, high)
//
// What is above `high` becomes `high`, whatever `low` is.
//
// Promises: one pixel a cycle, in the word register four cycles after `sum_valid`. All columns share the parameter buses. A parameter
// belongs to the column whose word starts: `bias_load` comes in the cycle before a word's first sum, `multiplier_load` one cycle later
// and `shift_load` two cycles later, each with its value on the bus; zero and the clamps go with the shift.

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
reg [7:0]         pixel_reg;
reg [T*8-1:0]     word_reg;
reg [T-1:0]       word_keep_reg;

assign word      = word_reg;
assign word_keep = word_keep_reg;

// half of the divisor, none for a shift of zero; a shift past every bit of a product leaves nothing
wire               past    = shift_reg > 6'd50;
wire signed [50:0] half    = shift_reg == 6'd0 ? 51'sd0 : 51'sd1 <<< (shift_reg - 6'd1);
wire signed [50:0] product = {product_reg[49], product_reg};
wire signed [50:0] rounded = past ? 51'sd0 : (product + half) >>> shift_reg;
wire signed [51:0] value   = {rounded[50], rounded} + {{44{zero_reg[7]}}, zero_reg};
wire signed [51:0] least   = {{44{low_reg[7]}}, low_reg};
wire signed [51:0] most    = {{44{high_reg[7]}}, high_reg};

always @(posedge clk) begin
    if (bias_load) begin
        bias_reg <= bias;
    end
    if (multiplier_load) begin
        multiplier_reg <= multiplier;
    end
    if (shift_load) begin
        shift_reg <= shift;
        zero_reg  <= zero;
        low_reg   <= low;
        high_reg  <= high;
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
        pixel_reg <= !keep_reg[1] ? 8'd0 : value > most ? high_reg : value < least ? low_reg : value[7:0];
    end
    if (valid_reg[2]) begin
        word_reg      <= {pixel_reg, word_reg[T*8-1:8]};
        word_keep_reg <= {keep_reg[2], word_keep_reg[T-1:1]};
    end

    if (rst) begin
        valid_reg <= 3'd0;
    end
end

endmodule

`resetall
