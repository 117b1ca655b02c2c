// Out stream: sends words of one feature bank as a packet.
//
// Promises: valid never waits for ready. Data are stable while stalled. While the receiver is ready, one word is sent each cycle. `done`
// is high in the cycle in which the last word is taken. A soft reset never takes back a word that is offered, and leaves no packet
// without its end: the newest word that has come becomes the last of its packet. A packet of which no word has been offered is
// not sent at all.

`resetall
`default_nettype none

module psa_out #(
    // pixels per word
    parameter T             = 16,
    parameter FEATURE_DEPTH = 512
) (
    input  wire                             clk,
    input  wire                             rst,
    input  wire                             soft_reset,

    // the packet that may begin in the next cycle; none runs
    input  wire                             prepare,
    input  wire [3:0]                       bank,
    input  wire [15:0]                      base,
    // at least 1; base + words is within the bank
    input  wire [15:0]                      words,
    input  wire                             start,
    output wire                             done,

    // data come two cycles after the address
    output wire                             rd_en,
    output wire [3:0]                       rd_bank,
    output wire [$clog2(FEATURE_DEPTH)-1:0] rd_word,
    input  wire [T*8-1:0]                   rd_data,

    output wire [T*8-1:0]                   m_axis_tdata,
    output wire                             m_axis_tvalid,
    input  wire                             m_axis_tready,
    output wire                             m_axis_tlast
);

localparam FEATURE_ADDR = $clog2(FEATURE_DEPTH);

reg [3:0]              bank_reg;
reg [FEATURE_ADDR-1:0] word_reg;
reg [15:0]             left_reg;
// a packet has begun, and words of it are left to read
reg                    more_reg;
// words on their way: of the last cycle, and of the one before, which comes now
reg                    asked_reg, asked_last_reg, read_reg, read_last_reg;

// a small queue covers the latency of the bank
reg [T*8-1:0] queue_reg [0:3];
reg [3:0]     last_reg;
reg [1:0]     head_reg, tail_reg;
reg [2:0]     count_reg;

wire take  = m_axis_tvalid && m_axis_tready;
// a soft reset before the first word is offered
wire none  = soft_reset && count_reg == 3'd0;
wire push  = read_reg && !none;
// Reads run ahead of what is taken. So the newest word is the one that is offered only if nothing is left to read: then it is the last
// already.
wire [1:0] newest = tail_reg - 2'd1;

// the first word is asked for in the cycle of `start`
assign rd_en   = start || (more_reg && count_reg + {2'd0, asked_reg} + {2'd0, read_reg} < 3'd4);
assign rd_bank = bank_reg;
assign rd_word = word_reg;

assign m_axis_tvalid = count_reg != 3'd0;
assign m_axis_tdata  = queue_reg[head_reg];
assign m_axis_tlast  = last_reg[head_reg];

assign done = take && m_axis_tlast;

always @(posedge clk) begin
    asked_reg      <= rd_en;
    asked_last_reg <= left_reg == 16'd1;
    read_reg       <= asked_reg;
    read_last_reg  <= asked_last_reg;

    if (prepare) begin
        bank_reg <= bank;
        word_reg <= base[FEATURE_ADDR-1:0];
        left_reg <= words;
    end else if (rd_en) begin
        word_reg <= word_reg + 1'b1;
        left_reg <= left_reg - 16'd1;
        more_reg <= left_reg != 16'd1;
    end

    if (push) begin
        queue_reg[tail_reg] <= rd_data;
        last_reg[tail_reg]  <= read_last_reg || soft_reset;
        tail_reg            <= tail_reg + 2'd1;
    end else if (soft_reset) begin
        last_reg[newest] <= 1'b1;
    end
    if (take) begin
        head_reg <= head_reg + 2'd1;
    end
    count_reg <= count_reg + {2'd0, push} - {2'd0, take};

    if (rst || soft_reset) begin
        more_reg  <= 1'b0;
        asked_reg <= 1'b0;
        read_reg  <= 1'b0;
    end

    if (rst) begin
        head_reg  <= 2'd0;
        tail_reg  <= 2'd0;
        count_reg <= 3'd0;
    end
end

endmodule

`resetall
