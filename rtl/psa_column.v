// One column behind the array: its sums over the passes of a tile, and their way to the pixels of a word.
//
// Promises: `psum` belongs to the pixel that `pixel_*` names in the same cycle, as psa_accumulator says. The last pass of a tile gives a
// pixel, which is in the word register four cycles later. The parameters come by buses that all columns share, at the times that
// psa_accumulator and psa_requant say.

`resetall
`default_nettype none

module psa_column #(
    // pixels per word
    parameter T         = 16,
    // pixels of a chunk
    parameter ACC_DEPTH = 256,
    parameter PSUM_BITS = 20
) (
    input  wire                         clk,
    input  wire                         rst,

    // from psa_column_control
    input  wire                         read_valid,
    input  wire [$clog2(ACC_DEPTH)-1:0] read_index,
    input  wire                         pixel_valid,
    input  wire [$clog2(ACC_DEPTH)-1:0] pixel_index,
    input  wire                         pixel_first,
    input  wire                         pixel_last,
    input  wire                         pixel_maximum,
    // the output plane has this pixel
    input  wire                         pixel_keep,

    // from the array
    input  wire signed [PSUM_BITS-1:0]  psum,

    // from psa_writeback
    input  wire                         bias_load,
    input  wire signed [31:0]           bias,
    input  wire                         multiplier_load,
    input  wire [15:0]                  multiplier,
    input  wire                         shift_load,
    input  wire [5:0]                   shift,
    input  wire                         clamp_load,
    input  wire signed [7:0]            zero,
    input  wire signed [7:0]            low,
    input  wire signed [7:0]            high,

    output wire [T*8-1:0]               word,
    output wire [T-1:0]                 word_keep
);

wire               sum_valid;
wire signed [32:0] sum;
reg                keep_reg;

// in parallel with the accumulator's cycle
always @(posedge clk) begin
    keep_reg <= pixel_keep;
end

psa_accumulator #(
    .DEPTH     (ACC_DEPTH),
    .PSUM_BITS (PSUM_BITS)
) accumulator (
    .clk           (clk),
    .rst           (rst),
    .read_valid    (read_valid),
    .read_index    (read_index),
    .pixel_valid   (pixel_valid),
    .pixel_index   (pixel_index),
    .pixel_first   (pixel_first),
    .pixel_last    (pixel_last),
    .pixel_maximum (pixel_maximum),
    .psum          (psum),
    .bias_load     (bias_load),
    .bias          (bias),
    .sum_valid     (sum_valid),
    .sum           (sum)
);

psa_requant #(
    .T (T)
) requant (
    .clk             (clk),
    .rst             (rst),
    .sum_valid       (sum_valid),
    .sum             (sum),
    .sum_keep        (keep_reg),
    .multiplier_load (multiplier_load),
    .multiplier      (multiplier),
    .shift_load      (shift_load),
    .shift           (shift),
    .clamp_load      (clamp_load),
    .zero            (zero),
    .low             (low),
    .high            (high),
    .word            (word),
    .word_keep       (word_keep)
);

endmodule

`resetall
