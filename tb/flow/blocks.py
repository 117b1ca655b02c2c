"""The blocks and the sizes in which each is tested. To add one: its entry here, and its test in
`tb/psa_<name>/test_<name>.py`.

`tests/rtl/test_blocks.py` runs all of them on both simulators; `make sim TEST=block_<name>` runs one.
"""

from __future__ import annotations

from dataclasses import dataclass

from pymodel.machine.config import ArrayConfig
from pymodel.machine.memory import memories
from pymodel.machine.slot_rows import row_length
from tb.common.sizes import (
    DEEP,
    EVEN,
    LARGEST,
    LARGEST_128,
    LARGEST_256,
    MOST_TABLES,
    ODD,
    ONE_TABLE,
    TABLED,
    XOR,
    XOR_DEEP,
    XOR_DIGITS,
    XOR_SHORT,
    Parameters,
    machine_parameters,
)


@dataclass(frozen=True)
class Block:
    """An RTL file tested on its own, once in each set of Verilog `parameters`."""

    name: str
    description: str
    parameters: tuple[Parameters, ...]

    @property
    def top(self) -> str:
        """Its Verilog module, and its folder in tb/."""
        return f"psa_{self.name}"

    @property
    def module(self) -> str:
        """The cocotb tests."""
        return f"tb.{self.top}.test_{self.name}"


def array_parameters(size: int, group: int, weight_bits: int = 8, hop: int = 1) -> Parameters:
    """Of whatever holds PEs: the widths follow from the shape and from what a slot holds, 8-bit weights or
    4-bit digits.
    """
    config = ArrayConfig("array", size=size, group=group, weight_bits=weight_bits)
    widths = {"WEIGHT_BITS": weight_bits, "SLOT_BITS": config.slot_bits, "PSUM_BITS": config.psum_bits}
    return {"ROWS": size, "COLS": size, "GROUP": group, **widths, "HOP": hop}


def pe_parameters(size: int, group: int, weight_bits: int = 8, hop_end: bool = True) -> Parameters:
    """Of a PE in an array of that shape, in the last column of a hop or in another."""
    shape = array_parameters(size, group, weight_bits)
    widths = {name: shape[name] for name in ("GROUP", "WEIGHT_BITS", "PSUM_BITS")}
    return {**widths, "HOP_END": int(hop_end)}


XOR_NETWORK = ("XOR_INPUTS", "XOR_HISTORY", "XOR_SEED")


def stream_parameters(config: ArrayConfig) -> Parameters:
    """Of what finds the rows of `config` in its slot memory."""
    return {
        "DEPTH": config.lane_depth,
        "WIDTH": config.slot_word_bits,
        "ENCODED": row_length(config, 0),
        "POSITION": config.patch_bits,
    }


def decoder_parameters(config: ArrayConfig) -> Parameters:
    """Of the XOR decoder of `config`."""
    return {
        "COLS": config.size,
        "SLOT_BITS": config.slot_bits,
        "WIDTH": config.slot_word_bits,
        "INPUTS": config.xor_inputs,
        "HISTORY": config.xor_history,
        "SEED": config.xor_seed,
        "POSITION": config.patch_bits,
    }


def parameters_in(configs: tuple[ArrayConfig, ...], *names: str) -> tuple[Parameters, ...]:
    """The named parameters in each of the configurations."""
    return tuple({name: machine_parameters(config)[name] for name in names} for config in configs)


MEMORIES = tuple(memories(ODD))
DEPTHS = (
    "FEATURE_DEPTH",
    "PROGRAM_DEPTH",
    "TILE_DEPTH",
    "LANE_DEPTH",
    "GROUP_DEPTH",
    "TAP_DEPTH",
    "EDGE_DEPTH",
    "FILTER_DEPTH",
)
READ_BY_FETCH = (
    "FEATURE_DEPTH",
    "LANE_DEPTH",
    "GROUP_DEPTH",
    "TAP_DEPTH",
    "EDGE_DEPTH",
)
READ_BY_SEQUENCER = (
    "FEATURE_DEPTH",
    "ACC_WORDS",
    "PROGRAM_DEPTH",
    "TILE_DEPTH",
    "LANE_DEPTH",
    "TAP_DEPTH",
    "EDGE_DEPTH",
    "FILTER_DEPTH",
)

BLOCKS = {
    b.name: b
    for b in (
        Block(
            "ram", "memory", ({"WIDTH": 8, "DEPTH": 16}, {"WIDTH": 1, "DEPTH": 2}, {"WIDTH": 37, "DEPTH": 21})
        ),
        Block(
            "delay",
            "delay line",
            ({"WIDTH": 8, "STAGES": 1}, {"WIDTH": 1, "STAGES": 2}, {"WIDTH": 37, "STAGES": 7}),
        ),
        Block(
            "pe",
            "processing element",
            tuple(
                pe_parameters(*shape)
                for shape in ((16, 8), (4, 1), (8, 16, 8, False), (4, 1, 8, False), (8, 4, 4, False))
            ),
        ),
        Block(
            "array",
            "array of PEs",
            tuple(
                array_parameters(*shape)
                for shape in ((4, 2), (4, 1, 8, 4), (8, 16, 8, 2), (16, 8), (4, 4, 4, 2))
            ),
        ),
        Block(
            "lane", "lane serialiser", ({"T": 4, "GROUP": 2}, {"T": 8, "GROUP": 16}, {"T": 16, "GROUP": 1})
        ),
        Block(
            "accumulator",
            "accumulators of a column",
            (
                {"DEPTH": 16, "PSUM_BITS": 18},
                {"DEPTH": 37, "PSUM_BITS": 20},
                {"DEPTH": 262144, "PSUM_BITS": 18},
            ),
        ),
        Block("requant", "requantisation of a column", ({"T": 4}, {"T": 8}, {"T": 16})),
        Block(
            "feature_bank",
            "feature bank",
            ({"T": 4, "DEPTH": 4}, {"T": 8, "DEPTH": 22}, {"T": 16, "DEPTH": 64}, {"T": 4, "DEPTH": 65536}),
        ),
        Block("edge_mask", "edge mask", ({"T": 4}, {"T": 8}, {"T": 16})),
        Block(
            "load",
            "load stream: what each packet writes, and every error",
            parameters_in(
                (ODD, LARGEST, LARGEST_128, LARGEST_256),
                "GROUP",
                *DEPTHS,
                "TABLES",
                "STREAM_BITS",
                *(f"{name}_BEATS" for name in MEMORIES),
                "MAX_BEATS",
            ),
        ),
        Block(
            "credits",
            "credits: what WAIT and HOLD take, and the deadlock of both",
            ({"PIPELINE": 23}, {"PIPELINE": 31}, {"PIPELINE": 47}),
        ),
        Block(
            "regs",
            "registers: access, events, interrupt, counters, on any AXI4-Lite timing",
            parameters_in(
                (ODD, LARGEST, LARGEST_256),
                "ROWS",
                "COLS",
                "GROUP",
                "ACC_WORDS",
                *DEPTHS,
                "TABLES",
                "STREAM_BITS",
            ),
        ),
        Block(
            "sequencer",
            "sequencer: every cycle of programs, right and wrong",
            parameters_in((ODD, EVEN, DEEP), "ROWS", "GROUP", *READ_BY_SEQUENCER),
        ),
        Block(
            "fetch",
            "group fetch: planes, padding, bounds",
            parameters_in((ODD, EVEN, DEEP), "T", "GROUP", *READ_BY_FETCH),
        ),
        Block(
            "slot_stream",
            "rows of slots of any length out of the words of their memory",
            tuple(stream_parameters(config) for config in (XOR, XOR_SHORT, XOR_DEEP)),
        ),
        Block(
            "xor_decoder",
            "XOR decoder: every row, and what breaks its format",
            tuple(decoder_parameters(c) for c in (XOR, XOR_SHORT, XOR_DIGITS)),
        ),
        Block(
            "slots",
            "slot memory: a row eight cycles after its issue, encoded or not",
            parameters_in(
                (ODD, EVEN, XOR, XOR_DIGITS, DEEP, XOR_DEEP),
                "ROWS",
                "LANE_DEPTH",
                "SLOT_BITS",
                "ROW_WIDTH",
                "WORD_WIDTH",
                *XOR_NETWORK,
            ),
        ),
        Block(
            "column_control",
            "column control: the cycle of every token and start",
            parameters_in((ODD, EVEN, DEEP), "ROWS", "COLS", "ACC_DEPTH", "FEATURE_ADDR", "FILTER_ADDR"),
        ),
        Block(
            "column",
            "column: from the sums of the passes to a word",
            parameters_in((ODD, EVEN), "T", "ACC_DEPTH", "PSUM_BITS"),
        ),
        Block(
            "writeback",
            "write-back: parameters of each filter, words and bounds",
            parameters_in(
                (ODD, EVEN, DEEP, TABLED, MOST_TABLES),
                "T",
                "COLS",
                "GROUP",
                "FEATURE_DEPTH",
                "FILTER_DEPTH",
                "TABLES",
            ),
        ),
        Block(
            "table",
            "activation tables: every value in every table, a cycle later",
            parameters_in((TABLED, ONE_TABLE, MOST_TABLES), "T", "TABLES", "FEATURE_ADDR"),
        ),
        Block(
            "out",
            "out stream: packets under backpressure",
            parameters_in((ODD, EVEN, LARGEST), "T", "FEATURE_DEPTH"),
        ),
        Block(
            "fifo",
            "queue",
            ({"WIDTH": 8, "DEPTH": 16}, {"WIDTH": 1, "DEPTH": 2}, {"WIDTH": 65, "DEPTH": 256}),
        ),
        Block("axil_share", "DMA, register port: accesses of the host and of the DMA itself", ({},)),
        Block(
            "dma_control",
            "DMA, registers, the course of a list, errors and resets",
            (
                {"STREAM_BITS": 64, "WORD_BITS": 128},
                {"STREAM_BITS": 256, "WORD_BITS": 32},
            ),
        ),
        Block(
            "dma_read",
            "DMA, memory to load stream: every beat and start, bursts, 4 KiB, bad lists, errors, resets",
            (
                {"STREAM_BITS": 64, "BURST": 8, "FIFO": 16},
                {"STREAM_BITS": 64, "BURST": 64, "FIFO": 256},
                {"STREAM_BITS": 128, "BURST": 256, "FIFO": 256},
                {"STREAM_BITS": 256, "BURST": 16, "FIFO": 256},
                {"STREAM_BITS": 64, "BURST": 1, "FIFO": 16},
            ),
        ),
        Block(
            "dma_write",
            "DMA, out stream to memory: every byte, bursts, 4 KiB, errors, resets",
            (
                {"WORD_BITS": 32, "STREAM_BITS": 64, "BURST": 8},
                {"WORD_BITS": 128, "STREAM_BITS": 64, "BURST": 64},
                {"WORD_BITS": 32, "STREAM_BITS": 256, "BURST": 16},
                {"WORD_BITS": 128, "STREAM_BITS": 128, "BURST": 256},
                {"WORD_BITS": 64, "STREAM_BITS": 64, "BURST": 1},
            ),
        ),
        Block(
            "dma",
            "DMA between AxiRam and a machine: lists, errors, resets",
            (
                {"WORD_BITS": 128, "STREAM_BITS": 64, "BURST": 16, "FIFO": 64},
                {"WORD_BITS": 32, "STREAM_BITS": 256, "BURST": 8, "FIFO": 16},
                {"WORD_BITS": 64, "STREAM_BITS": 128, "BURST": 64, "FIFO": 256},
            ),
        ),
    )
}
