// Credits, counted again at both ends: a HOLD is taken only when the results of its layers are in memory, and a WAIT goes on only when
// the last words of its packets are.

`resetall
`default_nettype none

`include "psa_words.vh"
`include "psa_places.vh"

module psa_check_credits #(
    parameter COLS = 16
) (
    input wire clk,
    input wire active
);

localparam [7:0] HOLD = `PSA_HOLD;

wire reset   = `AT_CORE.core_rst || `AT_TOP.start;
wire checked = active && !reset && !`AT_TOP.error;

// layers. Every word of a last pass becomes a word of each column, written or not.

wire word_begins = `AT_CORE.issue_valid && `AT_CORE.issue_row == 0 && `AT_CORE.issue_acc_last;
wire layer_ends  = `AT_CORE.issue_valid && `AT_SEQUENCER.layer_end;

reg [15:0] begun_reg, ended_reg;
// layers whose last words are on their way, the oldest first, and how many words have ended when they have
reg [15:0] ends_reg [0:15];
reg [3:0]  oldest_reg, free_reg;
reg [15:0] layers_reg;

wire [15:0] missing      = ends_reg[oldest_reg] - ended_reg;
wire        layer_passes = oldest_reg != free_reg && (missing == 16'd0 || missing[15]);
wire        hold_taken   = `AT_TOP.hold_taken;
wire [15:0] hold_layers  = `AT_TOP.hold_layers;

// packets

wire header = `AT_LOAD.beat && `AT_LOAD.at_header;
wire last   = `AT_LOAD.beat && !`AT_LOAD.at_header && `AT_TOP.s_axis_tlast;

reg        counts_reg, written_reg;
reg [15:0] packets_reg;

wire        wait_goes    = `AT_TOP.wait_valid && `AT_TOP.wait_go;
wire [15:0] wait_packets = `AT_TOP.wait_packets;

always @(posedge clk) begin
    begun_reg  <= begun_reg + (word_begins ? COLS[15:0] : 16'd0);
    ended_reg  <= ended_reg + {15'd0, `AT_WRITEBACK.word_valid};
    oldest_reg <= oldest_reg + {3'd0, layer_passes};
    layers_reg <= layers_reg + {15'd0, layer_passes} - (hold_taken ? hold_layers : 16'd0);
    if (layer_ends) begin
        ends_reg[free_reg] <= begun_reg;
        free_reg           <= free_reg + 4'd1;
    end

    if (header) begin
        counts_reg <= `AT_TOP.busy && `AT_TOP.s_axis_tdata[`PSA_HEADER_DESTINATION] != HOLD;
    end
    written_reg <= last && counts_reg;
    packets_reg <= packets_reg + {15'd0, written_reg} - (wait_goes ? wait_packets : 16'd0);

    if (reset) begin
        begun_reg   <= 16'd0;
        ended_reg   <= 16'd0;
        oldest_reg  <= 4'd0;
        free_reg    <= 4'd0;
        layers_reg  <= 16'd0;
        written_reg <= 1'b0;
        packets_reg <= 16'd0;
    end
end

psa_assert #(.CHECKER("psa_check_credits"), .WHAT("a HOLD is taken before as many layers have passed")) hold_waits (
    .clk(clk), .active(checked && hold_taken), .fail(hold_layers > layers_reg)
);
psa_assert #(.CHECKER("psa_check_credits"), .WHAT("a WAIT goes on before as many packets are written")) wait_waits (
    .clk(clk), .active(checked && wait_goes), .fail(wait_packets > packets_reg)
);

endmodule

`resetall
