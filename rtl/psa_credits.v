// Credits between the load stream and the program: a WAIT takes packets that have come, a HOLD takes layers that have passed
// (docs/machine.md, "Loading while a program runs").
//
// Promises: a layer counts for HOLD only when its last read and its last write are over, PIPELINE cycles after the sequencer has left
// it. Counts stop at 65535 instead of wrapping. `deadlock` is high while the program waits for a packet that the stream cannot bring.

`resetall
`default_nettype none

module psa_credits #(
    // cycles from the sequencer's end of a layer with a gap to the last word written, or more
    parameter PIPELINE = 47
) (
    input  wire        clk,
    input  wire        rst,
    // a program begins: nothing has come, nothing has passed
    input  wire        start,

    // the last word of a live packet is written
    input  wire        packet_done,
    // the sequencer has left a LAYER
    input  wire        layer_passed,

    // the program waits for packets; while `wait_go` is high too, it takes them and goes on
    input  wire        wait_valid,
    input  wire [15:0] wait_packets,
    output wire        wait_go,

    // a HOLD for so many layers may be taken while `hold_go` is high, and is taken in this cycle
    input  wire [15:0] hold_layers,
    output wire        hold_go,
    input  wire        hold_taken,

    // the stream offers what it may not take now; a HOLD that may be taken is not blocked
    input  wire        blocked,
    output wire        deadlock
);

localparam [15:0] MOST = 16'hFFFF;

reg [15:0] packets_reg, layers_reg;
// layers that have been left but not counted yet: a layer lasts more than T cycles, so they are few
reg [3:0]  leaving_reg;

wire layer_counted;

psa_delay #(.WIDTH(1), .STAGES(PIPELINE)) pipeline (
    .clk       (clk),
    .rst       (rst || start),
    .in_valid  (layer_passed),
    .in_data   (1'b0),
    .out_valid (layer_counted),
    .out_data  ()
);

assign wait_go = packets_reg >= wait_packets;
assign hold_go = layers_reg >= hold_layers;

wire wait_taken = wait_valid && wait_go;

assign deadlock = wait_valid && !wait_go && blocked && leaving_reg == 4'd0 && !packet_done;

// who takes takes at least 1, so that a count at its end has room for what comes in the same cycle
wire packet_counts = packet_done && (wait_taken || packets_reg != MOST);
wire layer_counts  = layer_counted && (hold_taken || layers_reg != MOST);

always @(posedge clk) begin
    packets_reg <= packets_reg - (wait_taken ? wait_packets : 16'd0) + {15'd0, packet_counts};
    layers_reg  <= layers_reg - (hold_taken ? hold_layers : 16'd0) + {15'd0, layer_counts};
    leaving_reg <= leaving_reg + {3'd0, layer_passed} - {3'd0, layer_counted};

    if (rst || start) begin
        packets_reg <= 16'd0;
        layers_reg  <= 16'd0;
        leaving_reg <= 4'd0;
    end
end

endmodule

`resetall
