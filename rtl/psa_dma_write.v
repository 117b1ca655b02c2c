// From the out stream to memory: packets are written one behind the other into a buffer, each from a beat of the memory on, in bursts.
//
// Promises: a burst begins when all of it has come, so that the memory never waits; a packet's last burst is its end. A burst has at most
// BURST beats and stays in 4 KiB. No byte is written that no packet has, or outside of the buffer: a packet that is longer than what is
// left of it is an error. After an error, and with `drop`, what comes is taken and dropped; bursts that are complete are still written.

`resetall
`default_nettype none

`include "psa_registers.vh"

module psa_dma_write #(
    // bits of a word of the out stream, and of a beat of the memory
    parameter [31:0] WORD_BITS   = 128,
    parameter [31:0] STREAM_BITS = 64,
    // most beats of a burst; a power of two
    parameter [31:0] BURST       = 64
) (
    input  wire                     clk,
    // forgets all; only while `quiet`
    input  wire                     rst,

    // a buffer of `size` bytes begins at `address`, both those of beats; only while `quiet`
    input  wire                     start,
    input  wire [31:0]              address,
    input  wire [31:0]              size,
    // bytes that the packets take so far
    output wire [31:0]              used,

    input  wire                     drop,
    // nothing is under way, and no packet is open
    output wire                     quiet,

    // info: the number of the packet, of an error of the memory that of the newest one
    output wire                     err_valid,
    output wire [7:0]               err_code,
    output wire [15:0]              err_info,

    input  wire [WORD_BITS-1:0]     s_axis_tdata,
    input  wire                     s_axis_tvalid,
    output wire                     s_axis_tready,
    input  wire                     s_axis_tlast,

    output wire [31:0]              m_axi_awaddr,
    output wire [7:0]               m_axi_awlen,
    output wire [2:0]               m_axi_awsize,
    output wire [1:0]               m_axi_awburst,
    output wire                     m_axi_awvalid,
    input  wire                     m_axi_awready,
    output wire [STREAM_BITS-1:0]   m_axi_wdata,
    output wire [STREAM_BITS/8-1:0] m_axi_wstrb,
    output wire                     m_axi_wlast,
    output wire                     m_axi_wvalid,
    input  wire                     m_axi_wready,
    input  wire [1:0]               m_axi_bresp,
    input  wire                     m_axi_bvalid,
    output wire                     m_axi_bready
);

localparam [31:0] BYTES = STREAM_BITS / 8;
localparam [31:0] SHIFT = $clog2(BYTES);
localparam [31:0] BEATS = 32 - SHIFT;

// bursts that wait or are under way
localparam [4:0] BURSTS = 5'd16;

// words become beats

reg                   valid_reg, last_reg;
reg [STREAM_BITS-1:0] data_reg;
reg [BYTES-1:0]       strobe_reg;

wire beat_ready;
wire moves = valid_reg && beat_ready;
wire comes = s_axis_tvalid && s_axis_tready;

generate
if (WORD_BITS > STREAM_BITS) begin : gen_split
    // two beats a word
    reg                   more_reg, more_last_reg;
    reg [STREAM_BITS-1:0] more_data_reg;

    assign s_axis_tready = !valid_reg || (beat_ready && !more_reg);

    always @(posedge clk) begin
        if (comes) begin
            valid_reg     <= 1'b1;
            data_reg      <= s_axis_tdata[STREAM_BITS-1:0];
            last_reg      <= 1'b0;
            more_reg      <= 1'b1;
            more_data_reg <= s_axis_tdata[WORD_BITS-1:STREAM_BITS];
            more_last_reg <= s_axis_tlast;
        end else if (moves) begin
            valid_reg <= more_reg;
            data_reg  <= more_data_reg;
            last_reg  <= more_last_reg;
            more_reg  <= 1'b0;
        end
        strobe_reg <= {BYTES{1'b1}};
        if (rst) begin
            valid_reg <= 1'b0;
            more_reg  <= 1'b0;
        end
    end
end else begin : gen_gather
    // words of a beat, and the place of the next in it
    localparam WORDS = STREAM_BITS / WORD_BITS;

    reg [2:0] place_reg;

    wire      full  = {29'd0, place_reg} == WORDS - 1 || s_axis_tlast;
    wire      fresh = place_reg == 3'd0;

    integer i;

    assign s_axis_tready = !valid_reg || beat_ready;

    always @(posedge clk) begin
        if (comes) begin
            valid_reg <= full;
            last_reg  <= s_axis_tlast;
            place_reg <= full ? 3'd0 : place_reg + 3'd1;
            for (i = 0; i < WORDS; i = i + 1) begin
                if (place_reg == i[2:0]) begin
                    data_reg[i*WORD_BITS +: WORD_BITS]       <= s_axis_tdata;
                    strobe_reg[i*WORD_BITS/8 +: WORD_BITS/8] <= {WORD_BITS/8{1'b1}};
                end else if (fresh) begin
                    data_reg[i*WORD_BITS +: WORD_BITS]       <= {WORD_BITS{1'b0}};
                    strobe_reg[i*WORD_BITS/8 +: WORD_BITS/8] <= {WORD_BITS/8{1'b0}};
                end
            end
        end else if (moves) begin
            valid_reg <= 1'b0;
        end
        if (rst) begin
            valid_reg <= 1'b0;
            place_reg <= 3'd0;
        end
    end
end
endgenerate

// beats become bursts

reg             dead_reg;
reg             open_reg;
reg [31:0]      address_reg, burst_address_reg;
reg [BEATS-1:0] left_reg;
reg [8:0]       count_reg;
reg [15:0]      packet_reg;
reg [31:0]      used_reg;
// bursts that are complete, up to their answer
reg [4:0]       pending_reg;

wire queue_room;
wire takes   = !dead_reg && !drop;
wire outside = takes && valid_reg && left_reg == 0;
wire push    = moves && takes && left_reg != 0;

assign beat_ready = !takes || (queue_room && pending_reg != BURSTS);

wire [31:0] next  = address_reg + BYTES;
wire        close = push && (last_reg || count_reg == BURST[8:0] - 9'd1 || next[11:0] == 12'd0 || left_reg == 1);

wire                   data_valid, data_take;
wire [STREAM_BITS-1:0] data;
wire [BYTES-1:0]       strobe;

psa_fifo #(
    .WIDTH (STREAM_BITS + BYTES),
    .DEPTH (2 * BURST)
) beats (
    .clk       (clk),
    .rst       (rst),
    .in_valid  (push),
    .in_ready  (queue_room),
    .in_data   ({strobe_reg, data_reg}),
    .out_valid (data_valid),
    .out_ready (data_take),
    .out_data  ({strobe, data})
);

wire        burst_room, burst_valid, burst_take;
wire [31:0] burst_address;
wire [7:0]  burst_length;

psa_fifo #(
    .WIDTH (40),
    .DEPTH (16)
) bursts (
    .clk       (clk),
    .rst       (rst),
    .in_valid  (close),
    .in_ready  (burst_room),
    .in_data   ({count_reg[7:0], count_reg == 9'd0 ? address_reg : burst_address_reg}),
    .out_valid (burst_valid),
    .out_ready (burst_take),
    .out_data  ({burst_length, burst_address})
);

// no more bursts are pending than there is room for
wire unused = &{1'b0, burst_room, m_axi_bresp[0]};

// bursts leave

reg        awvalid_reg, wvalid_reg;
reg [31:0] awaddr_reg;
reg [7:0]  awlen_reg, left_beats_reg;

wire sent = data_take && m_axi_wlast;

assign burst_take = (!awvalid_reg || m_axi_awready) && (!wvalid_reg || sent);
assign data_take  = m_axi_wvalid && m_axi_wready;

assign m_axi_awvalid = awvalid_reg;
assign m_axi_awaddr  = awaddr_reg;
assign m_axi_awlen   = awlen_reg;
assign m_axi_awsize  = SHIFT[2:0];
assign m_axi_awburst = 2'b01;
assign m_axi_wvalid  = wvalid_reg && data_valid;
assign m_axi_wdata   = data;
assign m_axi_wstrb   = strobe;
assign m_axi_wlast   = left_beats_reg == 8'd0;
assign m_axi_bready  = 1'b1;

wire failed = m_axi_bvalid && m_axi_bresp[1];

assign used      = used_reg;
assign quiet     = pending_reg == 5'd0 && !awvalid_reg && !wvalid_reg && (drop || dead_reg || (!valid_reg && !open_reg));
assign err_valid = !dead_reg && (outside || failed);
assign err_code  = failed ? `PSA_DMA_ERR_OUT_WRITE : `PSA_DMA_ERR_OUT_SIZE;
assign err_info  = packet_reg;

always @(posedge clk) begin
    if (start) begin
        address_reg <= address;
        left_reg    <= size[31:SHIFT];
        packet_reg  <= 16'd0;
        used_reg    <= 32'd0;
    end else if (push) begin
        address_reg <= next;
        left_reg    <= left_reg - 1'b1;
        used_reg    <= used_reg + BYTES;
        packet_reg  <= packet_reg + {15'd0, last_reg};
    end
    if (comes) begin
        open_reg <= !s_axis_tlast;
    end
    if (push) begin
        count_reg <= close ? 9'd0 : count_reg + 9'd1;
        if (count_reg == 9'd0) begin
            burst_address_reg <= address_reg;
        end
    end
    pending_reg <= pending_reg + {4'd0, close} - {4'd0, m_axi_bvalid};
    dead_reg    <= dead_reg || err_valid;

    if (burst_valid && burst_take) begin
        awvalid_reg    <= 1'b1;
        awaddr_reg     <= burst_address;
        awlen_reg      <= burst_length;
        wvalid_reg     <= 1'b1;
        left_beats_reg <= burst_length;
    end else begin
        if (m_axi_awready) begin
            awvalid_reg <= 1'b0;
        end
        if (sent) begin
            wvalid_reg <= 1'b0;
        end
        if (data_take) begin
            left_beats_reg <= left_beats_reg - 8'd1;
        end
    end

    if (rst) begin
        open_reg    <= 1'b0;
        count_reg   <= 9'd0;
        pending_reg <= 5'd0;
        dead_reg    <= 1'b0;
        awvalid_reg <= 1'b0;
        wvalid_reg  <= 1'b0;
        left_reg    <= 0;
        used_reg    <= 32'd0;
        packet_reg  <= 16'd0;
    end
end

endmodule

`resetall
