"""Every operation with every kind of window, network after network without a reset; every byte and counter
compared.
"""

from __future__ import annotations

from typing import Any

import cocotb
import numpy as np

from pymodel.compiler.compile import clip_weights, compile_network
from tb.common import settings
from tb.common.seeding import numpy_rng
from tb.plain.check import Outcome, expect, run_image
from tb.plain.host import Host
from tb.psa_top.operations import networks


@cocotb.test()
async def every_operation(dut: Any) -> None:
    config, rng = settings.config(), numpy_rng()
    host = Host(dut, config, rng)
    await host.reset()
    outcome = Outcome()
    operations = 0
    for note, drawn, packing in networks(rng, config):
        network = clip_weights(drawn, config)
        # planes are smaller than the accumulators, so without a limit no layer would have a second chunk
        chunk = int(rng.choice([1, 2, 3, 5, config.acc_words]))
        cocotb.log.info("%s, packed %s, chunks of %d words", note, packing, chunk)
        image = compile_network(network, config, packing=packing, chunk_words=chunk)
        images = rng.integers(-128, 128, (1, *network.input_shape)).astype(np.int8)
        expected = expect(image, network, images)
        await host.load(image.packets())
        await run_image(host, image, expected, 0, outcome)
        operations += len(network.layers)
    settings.report(
        {
            "images": outcome.images,
            "operations": operations,
            "compared_bytes": outcome.compared_bytes,
            "mismatches": outcome.mismatches,
            "cycles": outcome.cycles,
            "predicted_cycles": outcome.predicted_cycles,
        }
    )
    outcome.check()
