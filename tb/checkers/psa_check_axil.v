// AXI4-Lite: the rules of its five channels, and no response without a request. The slave is reset by `rst`.

`resetall
`default_nettype none

module psa_check_axil #(
    parameter ADDR_WIDTH = 8
) (
    input wire                  clk,
    input wire                  rst,
    input wire                  active,

    input wire [ADDR_WIDTH-1:0] awaddr,
    input wire                  awvalid,
    input wire                  awready,
    input wire [31:0]           wdata,
    input wire [3:0]            wstrb,
    input wire                  wvalid,
    input wire                  wready,
    input wire [1:0]            bresp,
    input wire                  bvalid,
    input wire                  bready,
    input wire [ADDR_WIDTH-1:0] araddr,
    input wire                  arvalid,
    input wire                  arready,
    input wire [31:0]           rdata,
    input wire [1:0]            rresp,
    input wire                  rvalid,
    input wire                  rready
);

wire checked = active && !rst;

psa_check_channel #(.CHECKER("psa_check_axil"), .NAME("AW"), .WIDTH(ADDR_WIDTH), .RESETS_DRIVER(0)) aw (
    .clk(clk), .rst(rst), .active(active), .valid(awvalid), .ready(awready), .payload(awaddr)
);
psa_check_channel #(.CHECKER("psa_check_axil"), .NAME("W"), .WIDTH(36), .RESETS_DRIVER(0)) w (
    .clk(clk), .rst(rst), .active(active), .valid(wvalid), .ready(wready), .payload({wstrb, wdata})
);
psa_check_channel #(.CHECKER("psa_check_axil"), .NAME("B"), .WIDTH(2)) b (
    .clk(clk), .rst(rst), .active(active), .valid(bvalid), .ready(bready), .payload(bresp)
);
psa_check_channel #(.CHECKER("psa_check_axil"), .NAME("AR"), .WIDTH(ADDR_WIDTH), .RESETS_DRIVER(0)) ar (
    .clk(clk), .rst(rst), .active(active), .valid(arvalid), .ready(arready), .payload(araddr)
);
psa_check_channel #(.CHECKER("psa_check_axil"), .NAME("R"), .WIDTH(34)) r (
    .clk(clk), .rst(rst), .active(active), .valid(rvalid), .ready(rready), .payload({rresp, rdata})
);

// requests taken and not yet answered

reg [7:0] aw_open_reg, w_open_reg, ar_open_reg;

always @(posedge clk) begin
    aw_open_reg <= aw_open_reg + {7'd0, awvalid && awready} - {7'd0, bvalid && bready};
    w_open_reg  <= w_open_reg  + {7'd0, wvalid && wready}   - {7'd0, bvalid && bready};
    ar_open_reg <= ar_open_reg + {7'd0, arvalid && arready} - {7'd0, rvalid && rready};
    if (rst) begin
        aw_open_reg <= 8'd0;
        w_open_reg  <= 8'd0;
        ar_open_reg <= 8'd0;
    end
end

psa_assert #(.CHECKER("psa_check_axil"), .WHAT("B: answers no write")) b_answers (
    .clk(clk), .active(checked && bvalid), .fail(aw_open_reg == 8'd0 || w_open_reg == 8'd0)
);
psa_assert #(.CHECKER("psa_check_axil"), .WHAT("R: answers no read")) r_answers (
    .clk(clk), .active(checked && rvalid), .fail(ar_open_reg == 8'd0)
);
// OKAY and SLVERR
psa_assert #(.CHECKER("psa_check_axil"), .WHAT("B: response is neither OKAY nor SLVERR")) b_legal (
    .clk(clk), .active(checked && bvalid), .fail(bresp[0])
);
psa_assert #(.CHECKER("psa_check_axil"), .WHAT("R: response is neither OKAY nor SLVERR")) r_legal (
    .clk(clk), .active(checked && rvalid), .fail(rresp[0])
);

endmodule

`resetall
