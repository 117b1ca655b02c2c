// Slot validity: a weight never selects an input that its lane's group does not have.

`resetall
`default_nettype none

`include "psa_words.vh"
`include "psa_places.vh"

module psa_check_slots #(
    parameter COLS        = 16,
    parameter GROUP       = 8,
    parameter WEIGHT_BITS = 8
) (
    input wire clk,
    input wire active
);

localparam SELECT_BITS = `PSA_SLOT_SELECT_BITS;
localparam SLOT_BITS   = `PSA_SLOT_ENTRY_BITS;

// A lane's row of slots comes in the cycle in which its bundle is complete. With its error, or after one, a member may be missing.

wire [`PSA_SLOT_ROW_BITS-1:0] row = `AT_CORE.slot_row;
wire [GROUP-1:0]              used;
wire [COLS-1:0]               bad;

genvar g, c;

generate
for (g = 0; g < GROUP; g = g + 1) begin : gen_bank
    reg used_reg;

    // the bank was read in the cycle before
    always @(posedge clk) begin
        used_reg <= `AT_BANK(g).used;
    end

    assign used[g] = used_reg;
end

for (c = 0; c < COLS; c = c + 1) begin : gen_column
    wire                   weight = |row[c*SLOT_BITS + `PSA_SLOT_WEIGHT];
    wire [SELECT_BITS-1:0] select = row[c*SLOT_BITS + `PSA_SLOT_SELECT];

    if (WEIGHT_BITS != 8) begin : gen_digit
        // either position is valid for either digit
        wire unused = &{1'b0, row[c*SLOT_BITS + `PSA_SLOT_POSITION]};
    end
    if (GROUP == 1) begin : gen_dense
        assign bad[c] = weight && !used[0];
        wire unused = &{1'b0, select};
    end else begin : gen_select
        assign bad[c] = weight && !used[select];
    end
end
endgenerate

psa_assert #(.CHECKER("psa_check_slots"), .WHAT("a weight selects a member that is not valid")) members_valid (
    .clk(clk), .active(active && `AT_CORE.slot_row_valid && !`AT_TOP.error && !`AT_FETCH.err_valid), .fail(|bad)
);

endmodule

`resetall
