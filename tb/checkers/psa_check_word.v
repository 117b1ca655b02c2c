// A word of a memory must have been written before it is used. What a memory holds survives a reset, and so does what is known of it.

`resetall
`default_nettype none

module psa_check_word #(
    parameter MEMORY = "memory",
    parameter DEPTH  = 16,
    // words that may be used in a cycle
    parameter PORTS  = 1
) (
    input wire                clk,
    input wire                active,

    input wire                load,
    input wire [15:0]         load_word,

    input wire [PORTS-1:0]    used,
    input wire [32*PORTS-1:0] words
);

localparam ADDR = $clog2(DEPTH);

reg     loaded [0:DEPTH-1];
integer w;

initial begin
    for (w = 0; w < DEPTH; w = w + 1) begin
        loaded[w] = 1'b0;
    end
end

always @(posedge clk) begin
    if (load && {16'd0, load_word} < DEPTH) begin
        loaded[load_word[ADDR-1:0]] <= 1'b1;
    end
end

wire [PORTS-1:0] unknown;

genvar p;

generate
for (p = 0; p < PORTS; p = p + 1) begin : gen_port
    wire [31:0] word = words[32*p +: 32];

    // psa_check_bound says that a word does not exist
    assign unknown[p] = used[p] && word < DEPTH && !loaded[word[ADDR-1:0]];
end
endgenerate

psa_assert #(.CHECKER("psa_check_memories"), .WHAT({"a word of ", MEMORY, " is used that was never loaded"})) known (
    .clk(clk), .active(active), .fail(|unknown)
);

endmodule

`resetall
