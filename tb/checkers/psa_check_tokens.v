// Token order: rows are issued in turn, pixels and partial sums meet, slots arrive before the pass that needs them, and at most one
// column completes a word in a cycle. An error removes lanes from the flow, so nothing is checked from then until the reset.

`resetall
`default_nettype none

`include "psa_places.vh"

module psa_check_tokens #(
    parameter ROWS      = 16,
    parameter COLS      = 16,
    parameter ACC_WORDS = 16,
    parameter HOP       = 1
) (
    input wire clk,
    input wire active
);

localparam ROW_BITS = $clog2(ROWS);
localparam INDEX    = $clog2(ACC_WORDS * ROWS);

wire reset   = `AT_CORE.core_rst;
wire checked = active && !reset && !`AT_TOP.error;

// rows 0 to T-1, one a cycle

reg [ROW_BITS-1:0] row_reg;

always @(posedge clk) begin
    if (`AT_CORE.issue_valid) begin
        row_reg <= row_reg + 1'b1;
    end
    if (reset) begin
        row_reg <= {ROW_BITS{1'b0}};
    end
end

psa_assert #(.CHECKER("psa_check_tokens"), .WHAT("lanes are not issued in the order of the rows")) rows_in_order (
    .clk(clk), .active(checked && `AT_CORE.issue_valid), .fail(`AT_CORE.issue_row != row_reg)
);
psa_assert #(.CHECKER("psa_check_tokens"), .WHAT("a word has a gap between its lanes")) rows_without_gap (
    .clk(clk), .active(checked && !`AT_CORE.issue_valid), .fail(row_reg != {ROW_BITS{1'b0}})
);

// every row is one cycle behind the row above it

wire [ROWS-1:0] entering = `AT_CORE.x_valid;
wire [ROWS-1:0] opening  = `AT_CORE.x_valid & `AT_CORE.x_first;
// what each row except the first must do in the next cycle
reg  [ROWS-1:1] entering_reg, opening_reg;

always @(posedge clk) begin
    entering_reg <= reset ? {ROWS-1{1'b0}} : entering[ROWS-2:0];
    opening_reg  <= reset ? {ROWS-1{1'b0}} : opening[ROWS-2:0];
end

psa_assert #(.CHECKER("psa_check_tokens"), .WHAT("a row's pixels are not one cycle behind those of the row above")) rows_skewed (
    .clk(clk), .active(checked), .fail(entering[ROWS-1:1] != entering_reg || opening[ROWS-1:1] != opening_reg)
);

// `first` finds the slot of its own pass in the shadow, and no slot is replaced before its `first` has come

wire [ROWS-1:0] stale, lost;

genvar r, c;

generate
for (r = 0; r < ROWS; r = r + 1) begin : gen_row
    wire            load = `AT_CORE.slot_row_valid && `AT_CORE.slot_row_index == r;
    wire [COLS-1:0] first = `AT_ROW(r).valid[COLS-1:0] & `AT_ROW(r).first[COLS-1:0];
    reg  [COLS-1:0] fresh_reg;

    assign stale[r] = |(first & ~fresh_reg);
    assign lost[r]  = load && |(fresh_reg & ~first);

    always @(posedge clk) begin
        fresh_reg <= reset ? {COLS{1'b0}} : load ? {COLS{1'b1}} : fresh_reg & ~first;
    end
end
endgenerate

psa_assert #(.CHECKER("psa_check_tokens"), .WHAT("`first` reaches a PE whose slot was not loaded for the pass")) slots_loaded (
    .clk(clk), .active(checked), .fail(|stale)
);
psa_assert #(.CHECKER("psa_check_tokens"), .WHAT("a slot is replaced before its pass has begun")) slots_kept (
    .clk(clk), .active(checked), .fail(|lost)
);

// the column control, compared with what leaves the array

wire [COLS-1:0]         leaving, starts;
// write-back is told of a word two cycles before its first sum
reg  [1:0]              told_reg;
reg  [$clog2(COLS)-1:0] told_column_reg [0:1];

always @(posedge clk) begin
    told_reg           <= reset ? 2'd0 : {told_reg[0], `AT_CORE.start_valid};
    told_column_reg[0] <= `AT_CORE.start_column;
    told_column_reg[1] <= told_column_reg[0];
end

generate
for (c = 0; c < COLS; c = c + 1) begin : gen_column
    // a sum is complete two cycles after its pixel has passed the end of its hop, and waits for its turn
    localparam      LATE = c - c/HOP + 1;
    reg  [LATE:0]   passed_reg;
    wire [LATE+1:0] passed = {passed_reg, `AT_ROW(ROWS-1).valid[(c/HOP+1)*HOP]};
    wire            unused = passed[LATE+1];

    always @(posedge clk) begin
        passed_reg <= reset ? {LATE+1{1'b0}} : passed[LATE:0];
    end

    assign leaving[c] = passed_reg[LATE];
    assign starts[c]  = `AT_CORE.pixel_valid[c] && `AT_CORE.pixel_last[c]
        && `AT_CORE.pixel_index[c*INDEX +: ROW_BITS] == {ROW_BITS{1'b0}};
end
endgenerate

psa_assert #(.CHECKER("psa_check_tokens"), .WHAT("a column is not told of the sum that leaves the array")) columns_told (
    .clk(clk), .active(checked), .fail(`AT_CORE.pixel_valid != leaving)
);
psa_assert #(.CHECKER("psa_check_tokens"), .WHAT("two columns begin a word in one cycle")) starts_apart (
    .clk(clk), .active(checked), .fail(|(starts & (starts - 1'b1)))
);
psa_assert #(.CHECKER("psa_check_tokens"), .WHAT("write-back is not told of the column that begins a word")) starts_told (
    .clk(clk), .active(checked),
    .fail(told_reg[1] != |starts || (|starts && !starts[told_column_reg[1]]))
);

endmodule

`resetall
