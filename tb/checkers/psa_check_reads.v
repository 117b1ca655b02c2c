// Reads before writes: no lane uses a pixel of a word whose result is on its way, as it would after too small a gap, nor of a word that
// nothing has written. The out stream sends no word whose result is on its way.
//
// A word is on its way from the lane of row 0 that begins its last pass until it is written; FILTER says where. What counts is what a
// lane uses: not a pixel over an edge, and not one of an output pixel that does not exist. What the words beside a plane hold does not
// matter, so they may be read at any time.

`resetall
`default_nettype none

`include "psa_words.vh"
`include "psa_places.vh"

module psa_check_reads #(
    parameter ROWS          = 16,
    parameter COLS          = 16,
    parameter GROUP         = 8,
    parameter FEATURE_DEPTH = 512,
    parameter FILTER_DEPTH  = 512
) (
    input wire clk,
    input wire active
);

localparam T            = ROWS;
localparam SHIFT        = $clog2(T);
localparam FEATURE_ADDR = $clog2(FEATURE_DEPTH);
localparam FILTER_ADDR  = $clog2(FILTER_DEPTH);
localparam WORDS        = GROUP * FEATURE_DEPTH;

wire reset   = `AT_CORE.core_rst;
wire checked = active && !reset && !`AT_TOP.error;

// results on their way, of each word
reg [3:0] due [0:WORDS-1];
// what was loaded or is a result, whatever was reset since
reg       written [0:WORDS-1];
reg       reset_reg, unannounced_reg, sent_early_reg;

initial reset_reg = 1'b0;

wire announces = `AT_CORE.soon_bundle && `AT_CORE.soon_row == 0 && `AT_CORE.soon_acc_last;

integer c, w;

// below WORDS
/* verilator lint_off UNUSEDSIGNAL */
reg [31:0] at;
/* verilator lint_on UNUSEDSIGNAL */

reg [FILTER_ADDR-1:0] filter_at;

// a word of FILTER: does the column write, and where
reg        filter_write;
reg [3:0]  filter_bank;
reg [31:0] word;

// the words that each bank reads in this cycle, and of those that it read in the last one, which were on their way
wire [32*GROUP-1:0] first, second;
reg  [GROUP-1:0]    first_due_reg, second_due_reg;
reg  [GROUP-1:0]    first_empty_reg, second_empty_reg;

initial begin
    for (w = 0; w < WORDS; w = w + 1) begin
        written[w] = 1'b0;
    end
end

// `due` is read before it is changed, and changed more than once in a cycle
/* verilator lint_off BLKSEQ */
always @(posedge clk) begin
    for (c = 0; c < GROUP; c = c + 1) begin
        first_due_reg[c]  <= due[first[32*c +: 32]] != 4'd0;
        second_due_reg[c] <= due[second[32*c +: 32]] != 4'd0;

        first_empty_reg[c]  <= !written[first[32*c +: 32]];
        second_empty_reg[c] <= !written[second[32*c +: 32]];
    end

    at = {28'd0, `AT_CORE.out_rd_bank} * FEATURE_DEPTH + {{32-FEATURE_ADDR{1'b0}}, `AT_CORE.out_rd_word};
    sent_early_reg <= `AT_CORE.out_rd_en && due[at] != 4'd0;

    at = {28'd0, `AT_FETCH.wr_bank} * FEATURE_DEPTH + {{32-FEATURE_ADDR{1'b0}}, `AT_FETCH.wr_word};
    unannounced_reg <= `AT_FETCH.wr_valid && due[at] == 4'd0;
    if (`AT_FETCH.wr_valid) begin
        due[at]     = due[at] == 4'd0 ? 4'd0 : due[at] - 4'd1;
        written[at] = 1'b1;
    end
    if (`AT_CORE.ld_feature) begin
        at = {28'd0, `AT_TOP.ld_bank} * FEATURE_DEPTH + {16'd0, `AT_TOP.ld_addr};
        if ({28'd0, `AT_TOP.ld_bank} < GROUP && {16'd0, `AT_TOP.ld_addr} < FEATURE_DEPTH) begin
            written[at] = 1'b1;
        end
    end

    if (announces) begin
        for (c = 0; c < COLS; c = c + 1) begin
            filter_at    = `AT_CORE.soon_filter_base + c[FILTER_ADDR-1:0];
            filter_write = `AT_WRITEBACK.filter_memory.mem[filter_at][`PSA_FILTER_WRITE];
            filter_bank  = `AT_WRITEBACK.filter_memory.mem[filter_at][`PSA_FILTER_BANK];
            word         = {{32-FEATURE_ADDR{1'b0}}, `AT_WRITEBACK.filter_memory.mem[filter_at][`PSA_FILTER_BASE]}
                         + {{32-FEATURE_ADDR{1'b0}}, `AT_CORE.soon_out_word};
            // what has no place is an error, and is not written
            if (filter_write && {28'd0, filter_bank} < GROUP && word < FEATURE_DEPTH) begin
                at = {28'd0, filter_bank} * FEATURE_DEPTH + word;
                due[at] = due[at] + 4'd1;
            end
        end
    end

    if (reset === 1'b1 && !reset_reg) begin
        for (w = 0; w < WORDS; w = w + 1) begin
            due[w] = 4'd0;
        end
    end
    reset_reg <= reset === 1'b1;
end
/* verilator lint_on BLKSEQ */

psa_assert #(.CHECKER("psa_check_reads"), .WHAT("a result is written that no lane has announced")) announced (
    .clk(clk), .active(checked), .fail(unannounced_reg)
);
psa_assert #(.CHECKER("psa_check_reads"), .WHAT("a word is sent before its result is written")) sent_in_time (
    .clk(clk), .active(checked), .fail(sent_early_reg)
);

genvar g, p;

generate
for (g = 0; g < GROUP; g = g + 1) begin : gen_bank
    wire [31:0] read = {14'd0, `AT_BANK(g).word_7_reg};
    reg [SHIFT-1:0] shift_reg;
    reg [T-1:0]     outside_reg;
    reg             used_reg;

    assign first[32*g +: 32]  = g * FEATURE_DEPTH + (read < FEATURE_DEPTH ? read : 32'd0);
    assign second[32*g +: 32] = g * FEATURE_DEPTH + (read + 32'd1 < FEATURE_DEPTH ? read + 32'd1 : 32'd0);

    always @(posedge clk) begin
        shift_reg   <= `AT_BANK(g).shift_7_reg;
        outside_reg <= `AT_BANK(g).outside_7_reg;
        used_reg    <= `AT_BANK(g).used;
    end

    wire [T-1:0] early, empty;

    for (p = 0; p < T; p = p + 1) begin : gen_pixel
        wire beyond = {{32-SHIFT{1'b0}}, shift_reg} + p >= T;
        wire uses   = `AT_CORE.soon_keep[p] && !outside_reg[p];

        assign early[p] = uses && (beyond ? second_due_reg[g] : first_due_reg[g]);
        assign empty[p] = uses && (beyond ? second_empty_reg[g] : first_empty_reg[g]);
    end

    psa_assert #(.CHECKER("psa_check_reads"), .WHAT("a lane reads a word before its result is written")) read_in_time (
        .clk(clk), .active(checked && `AT_CORE.soon_bundle && used_reg),
        .fail(|early)
    );
    psa_assert #(.CHECKER("psa_check_reads"), .WHAT("a lane reads a word that nothing has written")) read_something (
        .clk(clk), .active(checked && `AT_CORE.soon_bundle && used_reg),
        .fail(|empty)
    );
end
endgenerate

endmodule

`resetall
