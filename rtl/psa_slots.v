// Slot memory and the path from it to the PEs.
//
// Promises: the row of slots of a lane issued in cycle 0 is at `row_*` in cycle 5, one row a cycle, in order. The address waits
// LEAD cycles for the lane's pixels to come through the fetch; a decoder of at most that latency has its place behind the memory.

`resetall
`default_nettype none

module psa_slots #(
    parameter ROWS       = 16,
    parameter LANE_DEPTH = 4096,
    // bits of a row of slots
    parameter ROW_WIDTH  = 176
) (
    input  wire                          clk,
    input  wire                          rst,

    input  wire                          issue_valid,
    input  wire                          issue_first,
    input  wire [$clog2(ROWS)-1:0]       issue_row,
    input  wire [$clog2(LANE_DEPTH)-1:0] issue_lane,

    output wire                          row_valid,
    output wire [$clog2(ROWS)-1:0]       row_index,
    output wire [ROW_WIDTH-1:0]          row_slots,

    // load bus, already decoded
    input  wire                          ld_slot,
    input  wire [15:0]                   ld_addr,
    input  wire [ROW_WIDTH-1:0]          ld_data
);

localparam LANE_ADDR = $clog2(LANE_DEPTH);
localparam ROW_BITS  = $clog2(ROWS);
localparam LEAD      = 4;

wire                 read;
wire [LANE_ADDR-1:0] read_lane;
wire [ROW_BITS-1:0]  read_row;

psa_delay #(.WIDTH(LANE_ADDR + ROW_BITS), .STAGES(LEAD)) lead (
    .clk       (clk),
    .rst       (rst),
    .in_valid  (issue_valid && issue_first),
    .in_data   ({issue_lane, issue_row}),
    .out_valid (read),
    .out_data  ({read_lane, read_row})
);

psa_delay #(.WIDTH(ROW_BITS), .STAGES(1)) read_delay (
    .clk       (clk),
    .rst       (rst),
    .in_valid  (read),
    .in_data   (read_row),
    .out_valid (row_valid),
    .out_data  (row_index)
);

psa_ram #(.WIDTH(ROW_WIDTH), .DEPTH(LANE_DEPTH)) slot_memory (
    .clk     (clk),
    .wr_en   (ld_slot),
    .wr_addr (ld_addr[LANE_ADDR-1:0]),
    .wr_data (ld_data),
    .rd_en   (read),
    .rd_addr (read_lane),
    .rd_data (row_slots)
);

endmodule

`resetall
