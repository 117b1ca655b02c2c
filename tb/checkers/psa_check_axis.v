// AXI4-Stream: the rules of its channel and, where the lengths of packets are known, their framing.

`resetall
`default_nettype none

module psa_check_axis #(
    parameter NAME          = "axis",
    parameter WIDTH         = 64,
    parameter RESETS_DRIVER = 1,
    // every packet is announced by `packet_start`
    parameter FRAMED        = 0,
    // beats of a packet that may still come when it is cut, the one that is offered among them
    parameter CUT_BEATS     = 4
) (
    input wire             clk,
    input wire             rst,
    input wire             active,
    // The packet ends early, with tlast, and without a pause before that. If no beat is offered in this cycle, none comes.
    input wire             cut,

    input wire [WIDTH-1:0] tdata,
    input wire             tvalid,
    input wire             tready,
    input wire             tlast,

    // a packet of `packet_beats` begins in a later cycle
    input wire             packet_start,
    input wire [15:0]      packet_beats
);

psa_check_channel #(
    .CHECKER       ("psa_check_axis"),
    .NAME          (NAME),
    .WIDTH         (WIDTH + 1),
    .RESETS_DRIVER (RESETS_DRIVER)
) channel (
    .clk      (clk),
    .rst      (rst),
    .active   (active),
    .valid    (tvalid),
    .ready    (tready),
    .payload  ({tlast, tdata})
);

generate
if (FRAMED) begin : gen_framing
    reg [15:0] left_reg;
    reg        cut_reg;

    wire checked = active && !rst;
    wire taken   = tvalid && tready && left_reg != 16'd0;

    wire [15:0] limit = cut && left_reg > CUT_BEATS[15:0] ? CUT_BEATS[15:0] : left_reg;

    always @(posedge clk) begin
        if (packet_start) begin
            left_reg <= packet_beats;
        end else begin
            left_reg <= limit - {15'd0, taken};
        end
        cut_reg <= (cut_reg || cut) && left_reg != 16'd0;
        if (rst || (cut && !tvalid) || (taken && tlast)) begin
            left_reg <= 16'd0;
            cut_reg  <= 1'b0;
        end
    end

    psa_assert #(.CHECKER("psa_check_axis"), .WHAT({NAME, ": a packet begins inside another"})) packets_apart (
        .clk(clk), .active(checked && packet_start), .fail(left_reg != 16'd0)
    );
    psa_assert #(.CHECKER("psa_check_axis"), .WHAT({NAME, ": a beat outside a packet"})) beats_inside (
        .clk(clk), .active(checked && tvalid), .fail(left_reg == 16'd0)
    );
    psa_assert #(.CHECKER("psa_check_axis"), .WHAT({NAME, ": tlast must mark the last beat of a packet and no other"})) last_marked (
        .clk(clk), .active(checked && tvalid && left_reg != 16'd0), .fail(cut_reg ? left_reg == 16'd1 && tlast !== 1'b1 : tlast !== (left_reg == 16'd1))
    );
    psa_assert #(.CHECKER("psa_check_axis"), .WHAT({NAME, ": a packet that was cut has no end"})) cut_ends (
        .clk(clk), .active(checked && cut_reg), .fail(!tvalid)
    );
end else begin : gen_no_framing
    wire unused = &{1'b0, cut, packet_start, packet_beats};
end
endgenerate

endmodule

`resetall
