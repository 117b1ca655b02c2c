"""Directed networks at the ends of the number range and of the padding, which random shapes reach too
rarely.
"""

from __future__ import annotations

from typing import Any

import cocotb
import numpy as np

from pymodel.compiler.compile import clip_weights, compile_network
from pymodel.network.integer import (
    INPUT,
    Conv,
    Linear,
    Network,
    Requant,
    around,
)
from tb.common import settings
from tb.common.seeding import numpy_rng
from tb.plain.check import Outcome, expect, run_image
from tb.plain.host import Host

INPUTS = 600  # of full-scale products: the sum is beyond 2**23
LONG = 4100  # words of a plane, more than 12 bits count
OUTCOME = Outcome()  # of all tests


def requant(filters: int, real: float) -> Requant:
    """The same for all filters: sums times about `real`."""
    shift = int(16 - np.ceil(np.log2(real)))
    return Requant(
        np.zeros(filters, dtype=np.int64), np.full(filters, round(real * 2**shift)), np.full(filters, shift)
    )


async def compare(
    dut: Any, network: Network, images: np.ndarray[Any, np.dtype[np.int8]], packing: str
) -> None:
    config = settings.config()
    network = clip_weights(network, config)
    image = compile_network(network, config, packing=packing)
    expected = expect(image, network, images)
    host = Host(dut, config, numpy_rng())
    await host.reset()
    await host.load(image.packets())
    for index in range(len(images)):
        await run_image(host, image, expected, index, OUTCOME)
    settings.report(
        {
            k: getattr(OUTCOME, k)
            for k in ("images", "compared_bytes", "mismatches", "cycles", "predicted_cycles")
        }
    )
    OUTCOME.check()


@cocotb.test()
async def full_scale_sums(dut: Any) -> None:
    """Every product at its largest, with either sign: the partial sum of T rows, and an accumulator that
    grows over many passes.
    """
    filters = settings.config().size + 1
    weight = np.full((filters, INPUTS), -128, dtype=np.int64)
    weight[1::2] = 127
    network = Network(
        "full_scale",
        (INPUTS, 1, 1),
        (Linear("sum", INPUT, weight, requant(filters, 100 / (INPUTS * 2**14))),),
    )
    images = np.full((2, INPUTS, 1, 1), -128, dtype=np.int8)
    images[1] = 127
    await compare(dut, network, images, "tight")


@cocotb.test(skip=settings.config().edge_depth <= LONG)
async def planes_of_many_words(dut: Any) -> None:
    """More words in a plane, and in a packet of the out stream, than 12 bits can count."""
    shape = (1, LONG, settings.config().size)
    weight = np.full((1, 1, 1, 1), 127)
    network = Network("long", shape, (Conv("conv", INPUT, weight, requant(1, 1 / 127)),))
    images = numpy_rng("pixels").integers(-128, 128, (1, *shape)).astype(np.int8)
    await compare(dut, network, images, "tight")


@cocotb.test()
async def widest_padding(dut: Any) -> None:
    """k = 5 with every padding, dense, on a plane smaller than the kernel and on one larger: taps -4..4 over
    each edge.
    """
    rng = numpy_rng("weights")
    for height, width in ((6, 5), (3, 2)):
        for padding in range(2, 5):
            weight = rng.integers(-128, 128, (2, 2, 5, 5))
            network = Network(
                "padding",
                (2, height, width),
                (Conv("conv", INPUT, weight, requant(2, 1e-3), padding=around(padding)),),
            )
            await compare(
                dut, network, rng.integers(-128, 128, (1, 2, height, width)).astype(np.int8), "dense"
            )
