// A loop around the design without anything else: no VPI, no Python. It plays a script of what the host does, and is what the harnesses
// are compared with (`make bench BENCH=sim`; tb/flow/bare.py writes the script).
//
// The script, little endian 64-bit words: an operation, then its operands.
//   0 n {beat, last} x n   sends beats, each of STREAM_WORDS words, the lowest bits first
//   1 address data         writes a register
//   2 address              reads a register
//   3                      waits for the interrupt
//   4 n                    lets n cycles pass
//
// Prints: cycles, seconds of CPU, bytes that came on the out stream and their FNV-1a sum.

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <vector>

#include "Vtop.h"
#include "verilated.h"

static Vtop *top;
static uint64_t cycles = 0, out_bytes = 0, out_sum = 14695981039346656037ull;

static void tick() {
    top->clk = 0;
    top->eval();
    if (top->m_axis_tvalid) {
        unsigned char word[WORD_BYTES];
        std::memcpy(word, &top->m_axis_tdata, WORD_BYTES);
        for (unsigned char byte : word) {
            out_sum = (out_sum ^ byte) * 1099511628211ull;
        }
        out_bytes += WORD_BYTES;
    }
    top->clk = 1;
    top->eval();
    ++cycles;
}

static bool ready_seen(CData &ready) {  // as the clock edge of this cycle sees it
    top->clk = 0;
    top->eval();
    return ready;
}

static void send(const uint64_t *beats, uint64_t count) {
    for (uint64_t i = 0; i < count; ++i) {
        top->s_axis_tvalid = 1;
        const uint64_t *beat = beats + i * (STREAM_WORDS + 1);
        std::memcpy(&top->s_axis_tdata, beat, 8 * STREAM_WORDS);  // a number, or an array of 32-bit words
        top->s_axis_tlast = beat[STREAM_WORDS] != 0;
        while (!ready_seen(top->s_axis_tready)) {
            tick();
        }
        tick();
    }
    top->s_axis_tvalid = 0;
}

static void write_register(uint64_t address, uint64_t data) {
    top->s_axil_awaddr = address;
    top->s_axil_wdata = data;
    top->s_axil_wstrb = 15;
    top->s_axil_awvalid = top->s_axil_wvalid = 1;
    while (!ready_seen(top->s_axil_awready)) {
        tick();
    }
    tick();
    top->s_axil_awvalid = top->s_axil_wvalid = 0;
    tick();
}

static void read_register(uint64_t address) {
    top->s_axil_araddr = address;
    top->s_axil_arvalid = 1;
    while (!ready_seen(top->s_axil_arready)) {
        tick();
    }
    tick();
    top->s_axil_arvalid = 0;
    tick();
}

int main(int argc, char **argv) {
    std::FILE *file = argc > 1 ? std::fopen(argv[1], "rb") : nullptr;
    if (!file) {
        std::fprintf(stderr, "usage: bare <script>\n");
        return 2;
    }
    std::vector<uint64_t> script;
    uint64_t word;
    while (std::fread(&word, sizeof word, 1, file) == 1) {
        script.push_back(word);
    }
    std::fclose(file);
    Verilated::randReset(0);
    top = new Vtop;
    top->s_axis_tvalid = top->s_axil_awvalid = top->s_axil_wvalid = top->s_axil_arvalid = 0;
    top->s_axil_bready = top->s_axil_rready = top->m_axis_tready = 1;
    top->rst = 1;
    for (int i = 0; i < 4; ++i) {
        tick();
    }
    top->rst = 0;
    tick();
    cycles = 0;
    const std::clock_t begin = std::clock();
    for (size_t at = 0; at < script.size();) {
        switch (script[at]) {
            case 0:
                send(&script[at + 2], script[at + 1]);
                at += 2 + (STREAM_WORDS + 1) * script[at + 1];
                break;
            case 1:
                write_register(script[at + 1], script[at + 2]);
                at += 3;
                break;
            case 2:
                read_register(script[at + 1]);
                at += 2;
                break;
            case 4:
                for (uint64_t n = 0; n < script[at + 1]; ++n) {
                    tick();
                }
                at += 2;
                break;
            default:
                for (int patience = 0; !top->irq; ++patience) {
                    if (patience == 100000000) {
                        std::fprintf(stderr, "no interrupt\n");
                        return 1;
                    }
                    tick();
                }
                at += 1;
        }
    }
    const double took = double(std::clock() - begin) / CLOCKS_PER_SEC;
    std::printf("%llu %.6f %llu %llu\n", (unsigned long long)cycles, took, (unsigned long long)out_bytes,
                (unsigned long long)out_sum);
    top->final();
    delete top;
    return 0;
}
