"""Random programs: layers of every kind, every scheme, some with words that are used again or that come while
the program runs, streams with gaps and backpressure; every byte and counter compared.
"""

from __future__ import annotations

from typing import Any

import cocotb

from pymodel.zoo.knobs import Knobs
from pymodel.zoo.random_network import random_images
from tb.common import settings
from tb.common.seeding import numpy_rng
from tb.plain.check import Outcome, expect, run_image
from tb.plain.host import Host

IMAGES = 2


@cocotb.test()
async def every_byte_and_counter(dut: Any) -> None:
    config = settings.config()
    rng = numpy_rng("network")
    network, image = Knobs.of(settings.get().knobs).program(rng, config)
    expected = expect(image, network, random_images(rng, network, IMAGES))
    knobs = numpy_rng("streams")
    rates = [float(knobs.choice([1.0, 1.0, 0.5, 0.1])) for _ in range(2)]
    host = Host(dut, config, knobs, in_rate=rates[0], out_rate=rates[1])
    cocotb.log.info(
        "%s, scheme %s, %s, %d live packets, stream rates %s",
        [type(layer).__name__ for layer in network.layers],
        image.scheme,
        "words used again" if image.reuse else "a place for every tensor",
        len(image.run_stream),
        rates,
    )
    await host.reset()
    await host.load(image.packets())
    outcome = Outcome()
    for index in range(IMAGES):
        await run_image(host, image, expected, index, outcome)
    settings.report(
        {
            "images": outcome.images,
            "compared_bytes": outcome.compared_bytes,
            "mismatches": outcome.mismatches,
            "cycles": outcome.cycles,
            "predicted_cycles": outcome.predicted_cycles,
            "scheme": image.scheme,
            "reuse": image.reuse,
            "streamed": image.streamed,
            "layers": [
                {
                    "layer": name,
                    "shape": "x".join(map(str, network.shapes[name])),
                    "passes": run.passes,
                    "cycles": run.cycles,
                }
                for name, run in zip(image.layers, expected.run.layers, strict=True)
            ],
        }
    )
    outcome.check()
