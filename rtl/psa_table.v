// Activation tables: the last step of a word on its way into its plane, one cycle. Each of its pixels is looked up in a table, or none is.
//
// Promises: a word is given one cycle after it comes. There is a copy of the tables for each pixel of a word; all are loaded at once. A
// pixel that the plane does not have is zero, whatever the table has. The caller must check the number of the table.

`resetall
`default_nettype none

`include "psa_words.vh"

module psa_table #(
    // pixels per word
    parameter T            = 16,
    // 1 to 15
    parameter TABLES       = 1,
    parameter FEATURE_ADDR = 9
) (
    input  wire                    clk,
    input  wire                    rst,

    input  wire                    in_valid,
    input  wire [3:0]              in_bank,
    input  wire [FEATURE_ADDR-1:0] in_word,
    input  wire [T*8-1:0]          in_data,
    // the pixels that the plane has; the others are zero
    input  wire [T-1:0]            in_keep,
    // 0 for no table
    input  wire [3:0]              in_table,
    input  wire                    in_layer_done,

    output wire                    out_valid,
    output wire [3:0]              out_bank,
    output wire [FEATURE_ADDR-1:0] out_word,
    output wire [T*8-1:0]          out_data,
    output wire                    out_layer_done,

    // load bus, already decoded
    input  wire                    ld_activation,
    input  wire [15:0]             ld_addr,
    input  wire [7:0]              ld_data
);

localparam DEPTH = `PSA_TABLE_WORDS * TABLES;
localparam ADDR  = $clog2(DEPTH);

reg                    valid_reg, layer_done_reg, used_reg;
reg [3:0]              bank_reg;
reg [FEATURE_ADDR-1:0] word_reg;
reg [T*8-1:0]          data_reg;
reg [T-1:0]            keep_reg;

assign out_valid      = valid_reg;
assign out_bank       = bank_reg;
assign out_word       = word_reg;
assign out_layer_done = layer_done_reg;

wire       used        = in_valid && in_table != 4'd0;
wire [3:0] table_index = in_table - 4'd1;

genvar p;

generate
for (p = 0; p < T; p = p + 1) begin : gen_pixel
    wire [11:0] address = {table_index, in_data[p*8 +: 8]};
    wire [7:0]  found;

    psa_ram #(.WIDTH(8), .DEPTH(DEPTH)) activation_memory (
        .clk     (clk),
        .wr_en   (ld_activation),
        .wr_addr (ld_addr[ADDR-1:0]),
        .wr_data (ld_data),
        .rd_en   (used),
        .rd_addr (address[ADDR-1:0]),
        .rd_data (found)
    );

    assign out_data[p*8 +: 8] = !used_reg ? data_reg[p*8 +: 8] : keep_reg[p] ? found : 8'd0;
end
endgenerate

always @(posedge clk) begin
    valid_reg      <= in_valid;
    layer_done_reg <= in_layer_done;
    used_reg       <= used;
    bank_reg       <= in_bank;
    word_reg       <= in_word;
    data_reg       <= in_data;
    keep_reg       <= in_keep;

    if (rst) begin
        valid_reg      <= 1'b0;
        layer_done_reg <= 1'b0;
    end
end

endmodule

`resetall
