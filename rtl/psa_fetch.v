// Group fetch: from a lane number to T pixels of each of its inputs, one lane a cycle.
//
//   cycle 0  lane number         -> LANE memory
//   cycle 1  group number
//   cycle 2  group number        -> GROUP memory
//   cycle 3  G members
//   cycle 4  G members           -> TAP memories (one copy a bank), base + word
//   cycle 5  offsets and reaches, EDGE word
//   cycle 6  pixel addresses, which pixels lie over an edge
//   cycle 7  word and shift      -> feature banks
//   cycle 8  G x T pixels, those over an edge padded
//   cycle 9  `bundle_*`
//
// A memory answers late in its cycle, so what it gives goes into a register before anything is made of it; the banks alone have
// one choice behind them. Pixels are not moved within their word: a bank's are given at their places there, with the place of the first.
//
// Promises: the latency is exactly 9 cycles, and the fetch never stalls; `soon_*` tells of a bundle a cycle before. An address outside
// a memory is reported, a cycle after it is known. What was read of a group, a tap or a bank that does not exist is not used. While the
// pipeline is empty, the out stream may read the banks through `out_rd_*`; the data come two cycles later.

`resetall
`default_nettype none

`include "psa_registers.vh"
`include "psa_words.vh"

module psa_fetch #(
    // pixels per word, lanes per pass
    parameter T             = 16,
    parameter GROUP         = 8,
    parameter FEATURE_DEPTH = 512,
    parameter LANE_DEPTH    = 4096,
    parameter GROUP_DEPTH   = 2048,
    parameter TAP_DEPTH     = 1024,
    parameter EDGE_DEPTH    = 128
) (
    input  wire                             clk,
    input  wire                             rst,

    input  wire                             issue_valid,
    input  wire [$clog2(LANE_DEPTH)-1:0]    issue_lane,
    input  wire [15:0]                      issue_word,
    input  wire [$clog2(TAP_DEPTH)-1:0]     issue_tap_row,
    input  wire [$clog2(EDGE_DEPTH)-1:0]    issue_edge,
    input  wire [7:0]                       issue_pad,

    // cycle 8: a bundle comes in the next cycle; the pixels that the output plane has
    output wire                             soon_valid,
    output wire [T-1:0]                     soon_keep,
    // cycle 9. bundle_data: place p of bank g at (p*GROUP + g)*8. Pixel i of the bank is at place i + its shift, which goes round.
    output wire                             bundle_valid,
    output wire [GROUP*$clog2(T)-1:0]       bundle_shift,
    output wire [T*GROUP*8-1:0]             bundle_data,
    // the first pixel of each bank
    output wire [GROUP*8-1:0]               bundle_first,

    input  wire                             out_rd_en,
    input  wire [3:0]                       out_rd_bank,
    input  wire [$clog2(FEATURE_DEPTH)-1:0] out_rd_word,
    output wire [T*8-1:0]                   out_rd_data,

    // results
    input  wire                             wr_valid,
    input  wire [3:0]                       wr_bank,
    input  wire [$clog2(FEATURE_DEPTH)-1:0] wr_word,
    input  wire [T*8-1:0]                   wr_data,

    // load bus, already decoded
    input  wire                             ld_feature,
    // the bank, never that of a result in the same cycle
    input  wire [3:0]                       ld_bank,
    input  wire                             ld_lane,
    input  wire                             ld_group,
    input  wire                             ld_tap,
    input  wire                             ld_edge,
    input  wire [15:0]                      ld_addr,
    input  wire [`PSA_FEATURE_BITS-1:0]     ld_feature_data,
    input  wire [`PSA_LANE_BITS-1:0]        ld_lane_data,
    input  wire [`PSA_GROUP_BITS-1:0]       ld_group_data,
    input  wire [`PSA_TAP_BITS-1:0]         ld_tap_data,
    input  wire [`PSA_EDGE_BITS-1:0]        ld_edge_data,

    output wire                             err_valid,
    output wire [7:0]                       err_code,
    output wire [23:0]                      err_info
);

localparam FEATURE_ADDR = $clog2(FEATURE_DEPTH);
localparam LANE_ADDR    = $clog2(LANE_DEPTH);
localparam GROUP_ADDR   = $clog2(GROUP_DEPTH);
localparam TAP_ADDR     = $clog2(TAP_DEPTH);
localparam TAP_ID       = `PSA_GROUP_TAP_BITS;
localparam EDGE_ADDR    = $clog2(EDGE_DEPTH);
localparam SHIFT        = $clog2(T);
// base + word: one bit more than the 16-bit word number, then a sign
localparam WORD_BITS    = 18;
localparam PIXEL_BITS   = WORD_BITS + SHIFT;
localparam OFFSET_BITS  = `PSA_TAP_OFFSET_BITS;
// an entry of GROUP, and of EDGE
localparam MEMBER       = `PSA_GROUP_ENTRY_BITS;
localparam PIXEL_EDGE   = `PSA_EDGE_ENTRY_BITS;
// bits of a distance from an edge; a tap's reach has a sign
localparam REACH        = `PSA_EDGE_LEFT_BITS;

// cycle 0 to 2: lane -> group number

wire [GROUP_ADDR-1:0] named_group;
reg  [GROUP_ADDR-1:0] group_reg;
wire [GROUP_ADDR-1:0] group = group_reg;

always @(posedge clk) begin
    group_reg <= named_group;
end

psa_ram #(.WIDTH(`PSA_LANE_BITS), .DEPTH(LANE_DEPTH)) lane_memory (
    .clk     (clk),
    .wr_en   (ld_lane),
    .wr_addr (ld_addr[LANE_ADDR-1:0]),
    .wr_data (ld_lane_data),
    .rd_en   (issue_valid),
    .rd_addr (issue_lane),
    .rd_data (named_group)
);

// Members are valid only if the group number was valid.
wire       group_bad = {1'b0, group} >= GROUP_DEPTH;

reg [9:1] stage_valid_reg;

always @(posedge clk) begin
    stage_valid_reg[2:1] <= {stage_valid_reg[1], issue_valid};
    stage_valid_reg[3] <= stage_valid_reg[2] && !group_bad;
    stage_valid_reg[9:4] <= stage_valid_reg[8:3];
    if (rst) begin
        stage_valid_reg <= 9'd0;
    end
end

assign soon_valid   = stage_valid_reg[8];
assign bundle_valid = stage_valid_reg[9];

wire [15:0]          word_4;
wire [TAP_ADDR-1:0]  tap_row_4;
wire [EDGE_ADDR-1:0] edge_4;
wire [7:0]           pad_7;

psa_delay #(.WIDTH(16 + TAP_ADDR + EDGE_ADDR), .STAGES(4)) delay_word (
    .clk(clk), .rst(rst), .in_valid(1'b0), .in_data({issue_word, issue_tap_row, issue_edge}), .out_valid(),
    .out_data({word_4, tap_row_4, edge_4})
);
psa_delay #(.WIDTH(8), .STAGES(7)) delay_pad (
    .clk(clk), .rst(rst), .in_valid(1'b0), .in_data(issue_pad), .out_valid(), .out_data(pad_7)
);

// cycle 2 to 4: group number -> members

wire [`PSA_GROUP_BITS-1:0] named_members;
reg  [`PSA_GROUP_BITS-1:0] members_reg;

psa_ram #(.WIDTH(`PSA_GROUP_BITS), .DEPTH(GROUP_DEPTH)) group_memory (
    .clk     (clk),
    .wr_en   (ld_group),
    .wr_addr (ld_addr[GROUP_ADDR-1:0]),
    .wr_data (ld_group_data),
    .rd_en   (stage_valid_reg[2]),
    .rd_addr (group),
    .rd_data (named_members)
);

always @(posedge clk) begin
    members_reg <= named_members;
end

// cycle 4 to 6: the edge word, which pixels are kept, and how far each is from the edges

wire [`PSA_EDGE_BITS-1:0] edge_word;

psa_ram #(.WIDTH(`PSA_EDGE_BITS), .DEPTH(EDGE_DEPTH)) edge_memory (
    .clk     (clk),
    .wr_en   (ld_edge),
    .wr_addr (ld_addr[EDGE_ADDR-1:0]),
    .wr_data (ld_edge_data),
    .rd_en   (stage_valid_reg[4]),
    .rd_addr (edge_4),
    .rd_data (edge_word)
);

reg [T*4*REACH-1:0] distances_reg;
reg [T-1:0]         keep_6_reg, keep_7_reg, keep_8_reg;

assign soon_keep = keep_8_reg;

integer i;

always @(posedge clk) begin
    for (i = 0; i < T; i = i + 1) begin
        keep_6_reg[i] <= edge_word[i*PIXEL_EDGE + `PSA_EDGE_VALID];
        distances_reg[i*4*REACH +: 4*REACH] <= {edge_word[i*PIXEL_EDGE + `PSA_EDGE_BOTTOM], edge_word[i*PIXEL_EDGE + `PSA_EDGE_TOP],
            edge_word[i*PIXEL_EDGE + `PSA_EDGE_RIGHT], edge_word[i*PIXEL_EDGE + `PSA_EDGE_LEFT]};
    end
    keep_7_reg <= keep_6_reg;
    keep_8_reg <= keep_7_reg;
end

// one pipeline a bank from cycle 4 on

wire [GROUP-1:0]     tap_bad, read_bad;
wire [GROUP*18-1:0]  tap_addresses;
wire [GROUP*T*8-1:0] bank_data;

genvar g, p;

generate
for (g = 0; g < GROUP; g = g + 1) begin : gen_bank
    wire                    member_valid = members_reg[g*MEMBER + `PSA_GROUP_VALID];
    wire [FEATURE_ADDR-1:0] member_base  = members_reg[g*MEMBER + `PSA_GROUP_BASE];
    wire [TAP_ID-1:0]       member_tap   = members_reg[g*MEMBER + `PSA_GROUP_TAP];

    // cycle 4
    wire [17:0] tap_address = {{18-TAP_ADDR{1'b0}}, tap_row_4} + {{18-TAP_ID{1'b0}}, member_tap};

    wire [`PSA_TAP_BITS-1:0] tap;

    psa_ram #(.WIDTH(`PSA_TAP_BITS), .DEPTH(TAP_DEPTH)) tap_memory (
        .clk     (clk),
        .wr_en   (ld_tap),
        .wr_addr (ld_addr[TAP_ADDR-1:0]),
        .wr_data (ld_tap_data),
        .rd_en   (stage_valid_reg[4]),
        .rd_addr (tap_address[TAP_ADDR-1:0]),
        .rd_data (tap)
    );

    reg                 named_5_reg;
    reg [17:0]          tap_address_5_reg;
    reg [WORD_BITS-1:0] word_5_reg;

    always @(posedge clk) begin
        named_5_reg       <= stage_valid_reg[4] && member_valid;
        tap_address_5_reg <= tap_address;
        word_5_reg        <= {{WORD_BITS-FEATURE_ADDR{1'b0}}, member_base} + {2'd0, word_4};
        if (rst) begin
            named_5_reg <= 1'b0;
        end
    end

    // cycle 5
    wire tap_out = tap_address_5_reg >= TAP_DEPTH;
    wire used_5  = named_5_reg && !tap_out;

    assign tap_bad[g] = named_5_reg && tap_out;
    assign tap_addresses[g*18 +: 18] = tap_address_5_reg;

    reg                          used_6_reg;
    reg [WORD_BITS-1:0]          word_6_reg;
    reg signed [OFFSET_BITS-1:0] offset_6_reg;
    reg signed [REACH:0]         dy_6_reg, dx_6_reg;

    always @(posedge clk) begin
        used_6_reg   <= used_5;
        word_6_reg   <= word_5_reg;
        offset_6_reg <= tap[`PSA_TAP_OFFSET];
        dy_6_reg     <= tap[`PSA_TAP_DY];
        dx_6_reg     <= tap[`PSA_TAP_DX];
        if (rst) begin
            used_6_reg <= 1'b0;
        end
    end

    // cycle 6
    wire signed [PIXEL_BITS-1:0] pixel = $signed({word_6_reg, {SHIFT{1'b0}}})
        + {{PIXEL_BITS-OFFSET_BITS{offset_6_reg[OFFSET_BITS-1]}}, offset_6_reg};
    wire [T-1:0] outside;

    psa_edge_mask #(.T(T), .REACH(REACH)) edge_mask (
        .distances (distances_reg),
        .dx        (dx_6_reg),
        .dy        (dy_6_reg),
        .outside   (outside)
    );

    reg                 used_7_reg;
    reg [WORD_BITS-1:0] word_7_reg;
    reg [SHIFT-1:0]     shift_7_reg;
    reg [T-1:0]         outside_7_reg;

    always @(posedge clk) begin
        used_7_reg    <= used_6_reg;
        word_7_reg    <= pixel[PIXEL_BITS-1:SHIFT];
        shift_7_reg   <= pixel[SHIFT-1:0];
        outside_7_reg <= outside;
        if (rst) begin
            used_7_reg <= 1'b0;
        end
    end

    // cycle 7: a shifted read also takes the next word. Before the bank is far behind it, as a number without a sign.
    wire word_out = word_7_reg >= FEATURE_DEPTH || (word_7_reg == FEATURE_DEPTH - 1 && shift_7_reg != {SHIFT{1'b0}});

    assign read_bad[g] = used_7_reg && word_out;

    wire [T*8-1:0] rd_data;

    wire wr_here = wr_valid && wr_bank == g;
    wire ld_here = ld_feature && ld_bank == g;

    psa_feature_bank #(.T(T), .DEPTH(FEATURE_DEPTH)) bank (
        .clk      (clk),
        .wr_en    (wr_here || ld_here),
        .wr_word  (ld_here ? ld_addr[FEATURE_ADDR-1:0] : wr_word),
        .wr_data  (ld_here ? ld_feature_data : wr_data),
        .rd_en    (used_7_reg || out_rd_en),
        .rd_word  (used_7_reg ? word_7_reg[FEATURE_ADDR-1:0] : out_rd_word),
        .rd_shift (used_7_reg ? shift_7_reg : {SHIFT{1'b0}}),
        .rd_data  (rd_data)
    );

    // Which places the pixels over an edge have, and what stands there. A member that is not used gives zeros, over an edge too.
    wire [2*T-1:0] round = {outside_7_reg, outside_7_reg} << shift_7_reg;
    wire           used  = used_7_reg && !word_out;

    reg [SHIFT-1:0] shift_8_reg, shift_9_reg;
    reg [T-1:0]     filled_8_reg;
    reg [7:0]       fill_8_reg;
    reg [T*8-1:0]   data_9_reg;

    // cycle 8
    wire [T*8-1:0] padded;

    always @(posedge clk) begin
        shift_8_reg  <= shift_7_reg;
        // the out stream takes the word as it is
        filled_8_reg <= used ? round[2*T-1:T] : {T{!out_rd_en}};
        fill_8_reg   <= used ? pad_7 : 8'd0;
        shift_9_reg  <= shift_8_reg;
        data_9_reg   <= padded;
    end

    wire unused = &{1'b0, round[T-1:0]};

    for (p = 0; p < T; p = p + 1) begin : gen_place
        assign padded[p*8 +: 8] = filled_8_reg[p] ? fill_8_reg : rd_data[p*8 +: 8];

        // cycle 9
        assign bundle_data[(p*GROUP + g)*8 +: 8] = data_9_reg[p*8 +: 8];
    end

    assign bank_data[g*T*8 +: T*8]        = data_9_reg;
    assign bundle_shift[g*SHIFT +: SHIFT] = shift_9_reg;
    assign bundle_first[g*8 +: 8]         = data_9_reg[shift_9_reg*8 +: 8];
end
endgenerate

// reads of the banks by the out stream

reg [3:0] out_bank_8_reg, out_bank_9_reg;

always @(posedge clk) begin
    out_bank_8_reg <= out_rd_bank;
    out_bank_9_reg <= out_bank_8_reg;
end

assign out_rd_data = bank_data[out_bank_9_reg*T*8 +: T*8];

// Errors. Each stage keeps the first of its banks; a cycle later the last stage comes first, because it has the older lane.

reg        group_bad_reg, tap_bad_reg, read_bad_reg;
reg [23:0] bad_group_reg, bad_tap_reg, bad_bank_reg;

integer b;

always @(posedge clk) begin
    group_bad_reg <= stage_valid_reg[2] && group_bad;
    bad_group_reg <= {{24-GROUP_ADDR{1'b0}}, group};
    tap_bad_reg   <= |tap_bad;
    read_bad_reg  <= |read_bad;
    for (b = GROUP - 1; b >= 0; b = b - 1) begin
        if (tap_bad[b]) begin
            bad_tap_reg <= {6'd0, tap_addresses[b*18 +: 18]};
        end
        if (read_bad[b]) begin
            bad_bank_reg <= b[23:0];
        end
    end
    if (rst) begin
        group_bad_reg <= 1'b0;
        tap_bad_reg   <= 1'b0;
        read_bad_reg  <= 1'b0;
    end
end

assign err_valid = read_bad_reg || tap_bad_reg || group_bad_reg;
assign err_code  = read_bad_reg ? `PSA_ERR_FEATURE_READ : tap_bad_reg ? `PSA_ERR_TAP_RANGE : `PSA_ERR_GROUP_RANGE;
assign err_info  = read_bad_reg ? bad_bank_reg : tap_bad_reg ? bad_tap_reg : bad_group_reg;

endmodule

`resetall
