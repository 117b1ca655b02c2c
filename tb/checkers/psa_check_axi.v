// AXI4: the rules of its five channels, of bursts that count up by whole beats, and no response without a request. `rst` resets both sides.

`resetall
`default_nettype none

module psa_check_axi #(
    parameter [31:0] WIDTH = 64
) (
    input wire               clk,
    input wire               rst,
    input wire               active,

    input wire [0:0]         arid,
    input wire [31:0]        araddr,
    input wire [7:0]         arlen,
    input wire [2:0]         arsize,
    input wire [1:0]         arburst,
    input wire               arvalid,
    input wire               arready,
    input wire [0:0]         rid,
    input wire [WIDTH-1:0]   rdata,
    input wire [1:0]         rresp,
    input wire               rlast,
    input wire               rvalid,
    input wire               rready,
    input wire [0:0]         awid,
    input wire [31:0]        awaddr,
    input wire [7:0]         awlen,
    input wire [2:0]         awsize,
    input wire [1:0]         awburst,
    input wire               awvalid,
    input wire               awready,
    input wire [WIDTH-1:0]   wdata,
    input wire [WIDTH/8-1:0] wstrb,
    input wire               wlast,
    input wire               wvalid,
    input wire               wready,
    input wire [0:0]         bid,
    input wire [1:0]         bresp,
    input wire               bvalid,
    input wire               bready
);

localparam [31:0] SHIFT = $clog2(WIDTH / 8);

// bursts that are counted on their way
localparam AWAY = 64;

wire checked = active && !rst;

psa_check_channel #(.CHECKER("psa_check_axi"), .NAME("AR"), .WIDTH(46)) ar (
    .clk(clk), .rst(rst), .active(active), .valid(arvalid), .ready(arready), .payload({arid, araddr, arlen, arsize, arburst})
);
psa_check_channel #(.CHECKER("psa_check_axi"), .NAME("R"), .WIDTH(WIDTH + 4)) r (
    .clk(clk), .rst(rst), .active(active), .valid(rvalid), .ready(rready), .payload({rid, rdata, rresp, rlast})
);
psa_check_channel #(.CHECKER("psa_check_axi"), .NAME("AW"), .WIDTH(46)) aw (
    .clk(clk), .rst(rst), .active(active), .valid(awvalid), .ready(awready), .payload({awid, awaddr, awlen, awsize, awburst})
);
psa_check_channel #(.CHECKER("psa_check_axi"), .NAME("W"), .WIDTH(WIDTH + WIDTH / 8 + 1)) w (
    .clk(clk), .rst(rst), .active(active), .valid(wvalid), .ready(wready), .payload({wdata, wstrb, wlast})
);
psa_check_channel #(.CHECKER("psa_check_axi"), .NAME("B"), .WIDTH(3)) b (
    .clk(clk), .rst(rst), .active(active), .valid(bvalid), .ready(bready), .payload({bid, bresp})
);

// bursts

function [16:0] burst_end(input [11:0] address, input [7:0] length);
    burst_end = {5'd0, address} + (({9'd0, length} + 17'd1) << SHIFT);
endfunction

function is_plain(input [SHIFT-1:0] address, input [2:0] size, input [1:0] burst);
    is_plain = burst == 2'b01 && size == SHIFT[2:0] && address == {SHIFT{1'b0}};
endfunction

psa_assert #(.CHECKER("psa_check_axi"), .WHAT("AR: a burst crosses 4 KiB")) ar_page (
    .clk(clk), .active(checked && arvalid), .fail(burst_end(araddr[11:0], arlen) > 17'd4096)
);
psa_assert #(.CHECKER("psa_check_axi"), .WHAT("AW: a burst crosses 4 KiB")) aw_page (
    .clk(clk), .active(checked && awvalid), .fail(burst_end(awaddr[11:0], awlen) > 17'd4096)
);
psa_assert #(.CHECKER("psa_check_axi"), .WHAT("AR: a burst does not count up by whole beats")) ar_plain (
    .clk(clk), .active(checked && arvalid), .fail(!is_plain(araddr[SHIFT-1:0], arsize, arburst))
);
psa_assert #(.CHECKER("psa_check_axi"), .WHAT("AW: a burst does not count up by whole beats")) aw_plain (
    .clk(clk), .active(checked && awvalid), .fail(!is_plain(awaddr[SHIFT-1:0], awsize, awburst))
);

// Bursts that are written: their lengths by address and by data, which come in the same order, in any cycles.

reg [7:0]  address_length [0:AWAY-1];
reg [7:0]  data_length [0:AWAY-1];
reg [15:0] addresses_reg, datas_reg, compared_reg, answers_reg;
reg [7:0]  beats_reg;

wire       both     = addresses_reg != compared_reg && datas_reg != compared_reg;
wire [7:0] by_address = address_length[compared_reg[5:0]];
wire [7:0] by_data    = data_length[compared_reg[5:0]];

// Reads: beats to come for each id.

reg [15:0] read0_reg, read1_reg;

wire        ar_taken = arvalid && arready;
wire        r_taken  = rvalid && rready;
wire [15:0] ar_beats = {8'd0, arlen} + 16'd1;

always @(posedge clk) begin
    if (awvalid && awready) begin
        address_length[addresses_reg[5:0]] <= awlen;
        addresses_reg                      <= addresses_reg + 16'd1;
    end
    if (wvalid && wready) begin
        beats_reg <= wlast ? 8'd0 : beats_reg + 8'd1;
        if (wlast) begin
            data_length[datas_reg[5:0]] <= beats_reg;
            datas_reg                   <= datas_reg + 16'd1;
        end
    end
    if (both) begin
        compared_reg <= compared_reg + 16'd1;
    end
    if (bvalid && bready) begin
        answers_reg <= answers_reg + 16'd1;
    end
    read0_reg <= read0_reg + (ar_taken && !arid ? ar_beats : 16'd0) - {15'd0, r_taken && !rid};
    read1_reg <= read1_reg + (ar_taken && arid ? ar_beats : 16'd0) - {15'd0, r_taken && rid};
    if (rst) begin
        addresses_reg <= 16'd0;
        datas_reg     <= 16'd0;
        compared_reg  <= 16'd0;
        answers_reg   <= 16'd0;
        beats_reg     <= 8'd0;
        read0_reg     <= 16'd0;
        read1_reg     <= 16'd0;
    end
end

psa_assert #(.CHECKER("psa_check_axi"), .WHAT("W: the data of a burst are not as long as its address says")) w_length (
    .clk(clk), .active(checked && both), .fail(by_address != by_data)
);
psa_assert #(.CHECKER("psa_check_axi"), .WHAT("W: a burst has no end")) w_end (
    .clk(clk), .active(checked && wvalid), .fail(beats_reg == 8'd255 && !wlast)
);
psa_assert #(.CHECKER("psa_check_axi"), .WHAT("B: answers no write")) b_answers (
    .clk(clk), .active(checked && bvalid), .fail(addresses_reg == answers_reg || datas_reg == answers_reg)
);
psa_assert #(.CHECKER("psa_check_axi"), .WHAT("R: answers no read")) r_answers (
    .clk(clk), .active(checked && rvalid), .fail((rid ? read1_reg : read0_reg) == 16'd0)
);

endmodule

`resetall
