// From memory to the load stream: reads a list of descriptors (docs/formats.md, "Descriptors") and what they name, in bursts, and does
// what they say in their order.
//
// Promises: a burst is asked for only when there is room for all of it, so that the memory never waits. It has at most BURST beats and
// stays in 4 KiB. Descriptors and data of later ones are read while those before are sent: a memory's latency costs once in a list,
// as long as FIFO beats cover it. A START is asked for when the beats before it have been taken. With `stop` no burst is asked for and
// no beat offered that was not offered before. With `flush`, which comes with `stop`, a packet that has begun gets an end, of zeros.
// After an error nothing more is sent.

`resetall
`default_nettype none

`include "psa_registers.vh"
`include "psa_words.vh"

module psa_dma_read #(
    parameter [31:0] STREAM_BITS = 64,
    // most beats of a burst, and beats that are kept or under way; powers of two
    parameter [31:0] BURST       = 64,
    parameter [31:0] FIFO        = 256
) (
    input  wire                   clk,
    // forgets all; only while `quiet`
    input  wire                   rst,

    // a list of `list_count` descriptors, not 0, begins; its address is a multiple of a descriptor
    input  wire                   start,
    input  wire [31:0]            list_address,
    input  wire [15:0]            list_count,
    // all of them are done with
    output wire                   done,

    input  wire                   stop,
    input  wire                   flush,
    // nothing is under way or offered, and no packet is open
    output wire                   quiet,

    // a START, of the program at this word
    output wire                   run_valid,
    output wire [15:0]            run_program,
    input  wire                   run_ready,

    // until `stop`; info: the number of the descriptor
    output wire                   err_valid,
    output wire [7:0]             err_code,
    output wire [15:0]            err_info,

    // id 0 for data, 1 for descriptors
    output wire                   m_axi_arid,
    output wire [31:0]            m_axi_araddr,
    output wire [7:0]             m_axi_arlen,
    output wire [2:0]             m_axi_arsize,
    output wire [1:0]             m_axi_arburst,
    output wire                   m_axi_arvalid,
    input  wire                   m_axi_arready,
    input  wire                   m_axi_rid,
    input  wire [STREAM_BITS-1:0] m_axi_rdata,
    input  wire [1:0]             m_axi_rresp,
    input  wire                   m_axi_rlast,
    input  wire                   m_axi_rvalid,
    output wire                   m_axi_rready,

    output wire [STREAM_BITS-1:0] m_axis_tdata,
    output wire                   m_axis_tvalid,
    input  wire                   m_axis_tready,
    output wire                   m_axis_tlast
);

localparam [31:0] BYTES = STREAM_BITS / 8;
localparam [31:0] SHIFT = $clog2(BYTES);
localparam [31:0] BEATS = 32 - SHIFT;
// beats of 4 KiB
localparam [31:0] PAGE  = 4096 / BYTES;

// a descriptor begins at a beat
localparam [31:0] DESCRIPTOR_BEATS = (`PSA_DESCRIPTOR_BITS + STREAM_BITS - 1) / STREAM_BITS;
localparam [31:0] DESCRIPTOR_SHIFT = $clog2(DESCRIPTOR_BEATS * BYTES);
// descriptors that are kept or under way; those of a burst
localparam [15:0] DESCRIPTORS      = 16'd16, DESCRIPTOR_BURST = 16'd8;
localparam [15:0] DESCRIPTOR_PAGE  = 16'd4096 >> DESCRIPTOR_SHIFT;

localparam [1:0] KIND_LOAD = 2'd0, KIND_START = 2'd1, KIND_ERROR = 2'd2;

// requests: one of descriptors goes before one of data, because it is behind in time

reg         arvalid_reg, arid_reg;
reg [31:0]  araddr_reg;
reg [7:0]   arlen_reg;
// beats of data that are kept or under way; of both kinds, under way; descriptors that are kept or under way
reg [15:0]  kept_reg, away_reg, listed_reg;

// descriptors that have not been asked for, and the next burst of them
reg [31:0]  list_address_reg;
reg [15:0]  list_left_reg;
reg         take_valid_reg;
reg [15:0]  take_reg;

// the next burst of data; there is room for it, as there is from then on
reg         burst_valid_reg, room_reg;
reg [31:0]  burst_address_reg;
reg [15:0]  burst_beats_reg;

// descriptors up to the next multiple of 4 KiB, of those that are left, of those of a burst
wire [15:0] list_room  = DESCRIPTOR_PAGE - ({4'd0, list_address_reg[11:0]} >> DESCRIPTOR_SHIFT);
wire [15:0] list_most  = list_room < DESCRIPTOR_BURST ? list_room : DESCRIPTOR_BURST;
wire [15:0] list_take  = list_left_reg < list_most ? list_left_reg : list_most;
wire [15:0] list_beats = take_reg << (DESCRIPTOR_BEATS - 1);

wire ask_free = (!arvalid_reg || m_axi_arready) && !stop;
wire ask_list = ask_free && take_valid_reg && listed_reg <= DESCRIPTORS - DESCRIPTOR_BURST;
wire ask_data = ask_free && !ask_list && room_reg;

wire [15:0] ask_beats = ask_list ? list_beats : burst_beats_reg;

assign m_axi_arvalid = arvalid_reg;
assign m_axi_arid    = arid_reg;
assign m_axi_araddr  = araddr_reg;
assign m_axi_arlen   = arlen_reg;
assign m_axi_arsize  = SHIFT[2:0];
assign m_axi_arburst = 2'b01;
assign m_axi_rready  = 1'b1;

wire beat_list = m_axi_rvalid && m_axi_rid;
wire beat_data = m_axi_rvalid && !m_axi_rid;
wire beat_bad  = m_axi_rresp[1];

// descriptors: what is wrong with one is seen when it comes, and told when it is its turn

wire                            entry_valid, entry_bad;
wire [`PSA_DESCRIPTOR_BITS-1:0] entry;

generate
if (DESCRIPTOR_BEATS == 2) begin : gen_two_beats
    reg        half_reg, low_bad_reg;
    reg [63:0] low_reg;

    assign entry_valid = beat_list && half_reg;
    assign entry_bad   = low_bad_reg || beat_bad;
    assign entry       = {m_axi_rdata[63:0], low_reg};

    always @(posedge clk) begin
        if (beat_list) begin
            half_reg    <= !half_reg;
            low_bad_reg <= beat_bad;
            low_reg     <= m_axi_rdata[63:0];
        end
        if (rst) begin
            half_reg <= 1'b0;
        end
    end
end else begin : gen_one_beat
    assign entry_valid = beat_list;
    assign entry_bad   = beat_bad;
    assign entry       = m_axi_rdata[`PSA_DESCRIPTOR_BITS-1:0];
end
endgenerate

wire [31:0] entry_address = entry[`PSA_DESCRIPTOR_ADDRESS];
wire [31:0] entry_length  = entry[`PSA_DESCRIPTOR_LENGTH];
wire        entry_last    = entry[`PSA_DESCRIPTOR_LAST];
wire        entry_start   = entry[`PSA_DESCRIPTOR_START];
wire [32:0] entry_end     = {1'b0, entry_address} + {1'b0, entry_length};

reg [7:0] entry_code;

always @* begin
    if (entry_bad) begin
        entry_code = `PSA_DMA_ERR_LIST_READ;
    end else if (|entry[`PSA_DESCRIPTOR_UNUSED] || (entry_start && entry_last)) begin
        entry_code = `PSA_DMA_ERR_LIST_FLAGS;
    end else if (|entry[`PSA_DESCRIPTOR_ADDRESS_HIGH] || (entry_start ? entry_address[31:16] != 16'd0 : entry_address[SHIFT-1:0] != {SHIFT{1'b0}})) begin
        entry_code = `PSA_DMA_ERR_LIST_ADDRESS;
    end else if (entry_start) begin
        entry_code = entry_length == 32'd0 ? `PSA_DMA_ERR_NONE : `PSA_DMA_ERR_LIST_LENGTH;
    end else begin
        // the end of a buffer may be that of the addresses
        entry_code = entry_length == 32'd0 || entry_length[SHIFT-1:0] != {SHIFT{1'b0}} || entry_end > 33'h1_0000_0000 ? `PSA_DMA_ERR_LIST_LENGTH
            : `PSA_DMA_ERR_NONE;
    end
end

wire             listed_valid, listed_take, listed_room;
wire [BEATS+41:0] listed;
wire [7:0]       listed_code    = listed[7:0];
wire             listed_last    = listed[8];
wire             listed_start   = listed[9];
wire [31:0]      listed_address = listed[41:10];
wire [BEATS-1:0]  listed_beats   = listed[BEATS+41:42];

psa_fifo #(
    .WIDTH (BEATS + 42),
    .DEPTH (16)
) list (
    .clk       (clk),
    .rst       (rst),
    .in_valid  (entry_valid),
    .in_ready  (listed_room),
    .in_data   ({entry_length[31:SHIFT], entry_address, entry_start, entry_last, entry_code}),
    .out_valid (listed_valid),
    .out_ready (listed_take),
    .out_data  (listed)
);

// a descriptor begins: its data are asked for burst by burst, and it is noted for the other side

reg             load_reg, wrong_reg;
reg [31:0]      load_address_reg;
reg [BEATS-1:0] load_beats_reg;
// the most beats that its next burst may have; a burst has just been cut off
reg             most_valid_reg, cut_reg;
reg [15:0]      most_reg;

wire        noted_room, noted_valid, noted_take;
wire [1:0]  listed_kind = listed_code != `PSA_DMA_ERR_NONE ? KIND_ERROR : listed_start ? KIND_START : KIND_LOAD;
// beats, or a program, or what is wrong
wire [31:0] listed_value = listed_code != `PSA_DMA_ERR_NONE ? {24'd0, listed_code}
    : listed_start ? listed_address : {{SHIFT{1'b0}}, listed_beats};

assign listed_take = noted_room && !load_reg && !wrong_reg;

wire       begins    = listed_valid && listed_take;
// beats up to the next multiple of 4 KiB
wire [15:0] page_room = PAGE[15:0] - ({4'd0, load_address_reg[11:0]} >> SHIFT);
wire [15:0] page_most = page_room < BURST[15:0] ? page_room : BURST[15:0];
wire [15:0] page_take = load_beats_reg < {{(BEATS - 16){1'b0}}, most_reg} ? load_beats_reg[15:0] : most_reg;
wire        cut       = most_valid_reg && !burst_valid_reg;

wire [34:0] noted;

psa_fifo #(
    .WIDTH (35),
    .DEPTH (16)
) order (
    .clk       (clk),
    .rst       (rst),
    .in_valid  (begins),
    .in_ready  (noted_room),
    .in_data   ({listed_value, listed_last, listed_kind}),
    .out_valid (noted_valid),
    .out_ready (noted_take),
    .out_data  (noted)
);

// the other side: beats leave for the stream

wire                   data_room, data_valid, data_take;
wire [STREAM_BITS-1:0] data;

psa_fifo #(
    .WIDTH (STREAM_BITS),
    .DEPTH (FIFO)
) beats (
    .clk       (clk),
    .rst       (rst),
    .in_valid  (beat_data),
    .in_ready  (data_room),
    .in_data   (m_axi_rdata),
    .out_valid (data_valid),
    .out_ready (data_take),
    .out_data  (data)
);

// Nothing is sent behind the first beat that is bad. Beats are counted up to it, so that none waits for what the memory of the queue says.
reg        bad_reg;
reg [15:0] queued_reg, good_reg;

wire       data_bad = bad_reg && good_reg == 16'd0;

// there is room for all that is asked for; the last beat of a burst is known by counting
wire unused = &{1'b0, listed_room, data_room, m_axi_rlast, m_axi_rresp[0]};

reg                   now_reg, now_last_reg;
reg [1:0]             now_kind_reg;
reg [31:0]            now_value_reg;
// its number, and those that have not been done
reg [15:0]            number_reg, undone_reg;
reg                   valid_reg, last_reg;
reg [STREAM_BITS-1:0] data_reg;
// of a packet some beats have left, but not the last
reg                   open_reg;

wire free   = !valid_reg || m_axis_tready;
wire loads  = now_reg && now_kind_reg == KIND_LOAD;
wire move   = loads && data_valid && !data_bad && free && !stop;
wire ends   = move && now_value_reg == 32'd1;
wire starts = now_reg && now_kind_reg == KIND_START && !valid_reg;
wire over   = ends || (run_valid && run_ready);

assign data_take  = move;
assign noted_take = (!now_reg || over) && !stop;

assign run_valid   = starts && !open_reg && !stop;
assign run_program = now_value_reg[15:0];

assign done  = undone_reg == 16'd0 && !valid_reg;
assign quiet = !arvalid_reg && away_reg == 16'd0 && !valid_reg && !open_reg;

wire err_list   = now_reg && now_kind_reg == KIND_ERROR;
wire err_data   = loads && data_bad;
// a START, or the end of the list, inside a packet
wire err_packet = open_reg && (starts || done);

assign err_valid = !stop && (err_list || err_data || err_packet);
assign err_code  = err_list ? now_value_reg[7:0] : err_data ? `PSA_DMA_ERR_DATA_READ : `PSA_DMA_ERR_LIST_PACKET;
assign err_info  = number_reg;

assign m_axis_tvalid = valid_reg;
assign m_axis_tdata  = data_reg;
assign m_axis_tlast  = last_reg;

always @(posedge clk) begin
    // requests
    if (ask_list || ask_data) begin
        arvalid_reg <= 1'b1;
        arid_reg    <= ask_list;
        araddr_reg  <= ask_list ? list_address_reg : burst_address_reg;
        arlen_reg   <= ask_beats[7:0] - 8'd1;
    end else if (m_axi_arready) begin
        arvalid_reg <= 1'b0;
    end
    away_reg   <= away_reg + (ask_list || ask_data ? ask_beats : 16'd0) - {15'd0, m_axi_rvalid};
    kept_reg   <= kept_reg + (ask_data ? burst_beats_reg : 16'd0) - {15'd0, data_take};
    listed_reg <= listed_reg + (ask_list ? take_reg : 16'd0) - {15'd0, begins};

    queued_reg <= queued_reg + {15'd0, beat_data} - {15'd0, data_take};
    if (beat_data && beat_bad && !bad_reg) begin
        bad_reg  <= 1'b1;
        good_reg <= queued_reg - {15'd0, data_take};
    end else if (data_take) begin
        good_reg <= good_reg - 16'd1;
    end

    if (start) begin
        list_address_reg <= list_address;
        list_left_reg    <= list_count;
    end else if (ask_list) begin
        list_address_reg <= list_address_reg + ({16'd0, take_reg} << DESCRIPTOR_SHIFT);
        list_left_reg    <= list_left_reg - take_reg;
    end
    take_valid_reg <= list_left_reg != 16'd0 && !ask_list;
    take_reg       <= list_take;

    if (begins) begin
        load_reg         <= listed_kind == KIND_LOAD;
        wrong_reg        <= listed_kind == KIND_ERROR;
        load_address_reg <= listed_address;
        load_beats_reg   <= listed_beats;
    end else if (cut_reg) begin
        load_reg         <= load_beats_reg != {{(BEATS - 16){1'b0}}, burst_beats_reg};
        load_address_reg <= load_address_reg + ({16'd0, burst_beats_reg} << SHIFT);
        load_beats_reg   <= load_beats_reg - {{(BEATS - 16){1'b0}}, burst_beats_reg};
    end
    cut_reg        <= cut;
    most_valid_reg <= load_reg && !cut && !cut_reg;
    most_reg       <= page_most;
    room_reg       <= burst_valid_reg && !ask_data && kept_reg + burst_beats_reg <= FIFO[15:0];
    if (cut) begin
        burst_valid_reg   <= 1'b1;
        burst_address_reg <= load_address_reg;
        burst_beats_reg   <= page_take;
    end else if (ask_data) begin
        burst_valid_reg <= 1'b0;
    end

    // the stream
    if (noted_take) begin
        now_reg       <= noted_valid;
        now_kind_reg  <= noted[1:0];
        now_last_reg  <= noted[2];
        now_value_reg <= noted[34:3];
    end else if (move) begin
        now_value_reg <= now_value_reg - 32'd1;
    end

    if (move) begin
        valid_reg <= 1'b1;
        data_reg  <= data;
        last_reg  <= ends && now_last_reg;
        open_reg  <= !(ends && now_last_reg);
    end else if (flush && open_reg && !valid_reg) begin
        valid_reg <= 1'b1;
        data_reg  <= {STREAM_BITS{1'b0}};
        last_reg  <= 1'b1;
        open_reg  <= 1'b0;
    end else if (m_axis_tready) begin
        valid_reg <= 1'b0;
    end

    if (start) begin
        undone_reg <= list_count;
        number_reg <= 16'd0;
    end else if (over) begin
        undone_reg <= undone_reg - 16'd1;
        number_reg <= undone_reg == 16'd1 ? number_reg : number_reg + 16'd1;
    end

    if (rst) begin
        arvalid_reg     <= 1'b0;
        kept_reg        <= 16'd0;
        away_reg        <= 16'd0;
        listed_reg      <= 16'd0;
        queued_reg      <= 16'd0;
        bad_reg         <= 1'b0;
        list_left_reg   <= 16'd0;
        burst_valid_reg <= 1'b0;
        take_valid_reg  <= 1'b0;
        most_valid_reg  <= 1'b0;
        cut_reg         <= 1'b0;
        room_reg        <= 1'b0;
        load_reg        <= 1'b0;
        wrong_reg       <= 1'b0;
        now_reg         <= 1'b0;
        valid_reg       <= 1'b0;
        open_reg        <= 1'b0;
        undone_reg      <= 16'd0;
        number_reg      <= 16'd0;
    end
end

endmodule

`resetall
