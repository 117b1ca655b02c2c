"""A network compiled by tb/flow/prepare.py, with the program loaded once: every output plane of every layer,
every counter, and the cycles of each layer.
"""

from __future__ import annotations

from typing import Any

import cocotb
import numpy as np

from pymodel.compiler.layout import feature_use, place_tensors
from pymodel.cost.counts import fewest_cycles, image_cost
from pymodel.cost.throughput import cycles_back_to_back
from pymodel.machine.image import Image
from pymodel.network import network_file
from pymodel.network.integer import macs_of
from pymodel.network.network_file import StoredNetwork
from pymodel.schemes.penni import BASIS
from tb.common import settings
from tb.common.clock import CLOCK_HZ
from tb.common.seeding import numpy_rng
from tb.plain.check import Expected, Outcome, expect, output_of, prepared, run_image
from tb.plain.host import Host


@cocotb.test()
async def network_on_the_array(dut: Any) -> None:
    config = settings.config()
    data, image = prepared()
    count = settings.images()
    expected = expect(image, data.network, data.images[:count])
    told = settings.get()
    host = Host(dut, config, numpy_rng(), in_rate=told.in_rate, out_rate=told.out_rate)
    await host.reset()
    await host.load(image.packets())
    outcome = Outcome()
    logits = []
    for index in range(count):
        await run_image(host, image, expected, index, outcome)
        logits.append(output_of(image, outcome))
    settings.report(figures(data, image, expected, outcome, np.stack(logits)))
    outcome.check()


def predicted_loads(image: Image, images: int) -> dict[str, int]:
    """What the compiler says of a network that is streamed."""
    if not image.streamed:
        return {}
    stream, bits = image.stats["stream"], str(image.config.stream_bits)
    return {
        "predicted_load_wait": stream["load_wait"][bits] * images,
        # what a stream of each width would make of it
        **{f"load_wait_at_{width}": wait * images for width, wait in stream["load_wait"].items()},
        "segments": stream["segments"],
        "stream_bits": image.config.stream_bits,
        "stream_bytes": stream["bytes"][bits],
    }


def figures(
    data: StoredNetwork,
    image: Image,
    expected: Expected,
    outcome: Outcome,
    logits: np.ndarray[Any, np.dtype[np.int8]],
) -> dict[str, Any]:
    """Figures for the RESULT line. `bound`: slots over the array's size, times the pixels, over all layers.
    `words` of a layer: those of the feature memory, in all banks, that are in use while it runs.

    Totals are compared with the network before compression, in slots of 8 bits. `dense` of a layer is the
    same layer with nothing skipped, in the slots of this build.
    """
    config, dense, cost = image.config, data.meta["dense"], image_cost(image)
    use = feature_use(data.network, image.placements, config)
    loads = image.stats["stream"]["load_waits"][str(config.stream_bits)] if image.streamed else {}
    shared = feature_use(data.network, place_tensors(data.network, config, reuse=True), config)
    rows, weighted = [], []
    for stats, run, base in zip(image.stats["layers"], cost.layers, dense["layers"], strict=True):
        filters, height, width = image.placements[stats["name"]].shape
        # most of a basis layer's matrix is zero by construction, so a dense comparison says nothing
        whole = not stats["name"].endswith(BASIS)
        if stats["weights"]:
            weighted.append((filters, height * width, base["lanes"]))
        rows.append(
            {
                "layer": stats["name"],
                "weights": stats["weights"],
                "lanes": stats["lanes"],
                "segments": image.layers.count(stats["name"]),
                "passes": run.passes,
                "bound": round(stats["lanes"] / config.size * height * width),
                "cycles": run.cycles,
                # for words of the layer before, or until the pipeline is empty
                "waits": run.cycles - run.pass_cycles,
                # for words of its own tables, if the stream never pauses
                "loads": loads.get(stats["name"], 0),
                "dense": base["cycles"],
                "speedup": round(base["cycles"] / run.cycles, 2) if whole else None,
                "compression": round(base["lanes"] / stats["lanes"], 2) if stats["lanes"] and whole else None,
                "words": use.alive[stats["name"]],
            }
        )
    bound = sum(row["bound"] for row in rows)
    cycles = expected.run.cycles
    lanes = sum(row["lanes"] for row in rows if row["weights"])
    compression = dense["lanes"] / lanes
    fewest = fewest_cycles(weighted, lanes, config.size)
    together = cycles_back_to_back(image, cost)
    macs = sum(macs_of(data.network).values())
    return {
        "network": data.network.name,
        "scheme": image.scheme,
        "mega_macs": round(macs / 1e6, 2),
        "weights": sum(row["weights"] for row in rows),
        "lanes": lanes,
        "images": outcome.images,
        "compared_bytes": outcome.compared_bytes,
        "mismatches": outcome.mismatches,
        "cycles": outcome.cycles,
        "predicted_cycles": outcome.predicted_cycles,
        # while the output is sent, the array stands
        "out_cycles": cost.out_cycles * outcome.images,
        "stall_cycles": outcome.stall_cycles,
        # of segments that come while the network runs; the prediction is for a stream that never pauses
        "load_wait_cycles": outcome.load_wait_cycles,
        **predicted_loads(image, outcome.images),
        "dense_cycles": dense["cycles"] * outcome.images,
        "images_per_s": round(CLOCK_HZ * outcome.images / (outcome.cycles + outcome.load_wait_cycles), 1),
        # predicted, like the wait for the load, for a stream that never pauses
        "images_per_s_back_to_back": None if together is None else round(CLOCK_HZ / together, 1),
        "speedup_over_dense": round(dense["cycles"] / cycles, 3),
        "matrix_compression": round(compression, 3),
        "speedup_over_compression": round(dense["cycles"] / cycles / compression, 3),
        # the bound for any other choice of the same number of lanes: a tile takes at least one pass
        "fewest_cycles": round(fewest),
        "most_speedup_over_compression": round(dense["cycles"] / fewest / compression, 3),
        "cycles_over_bound": round(cycles / bound, 3),
        # compared with the same program in the machine without a decoder; the gaps between layers depend on
        # the order of lanes
        "decoder_stall_cycles": outcome.cycles - (data.meta["plain"]["cycles"] + cost.waits) * outcome.images,
        "slot_kbytes": round(image.bits()["SLOT"] / 8192, 2),
        "plain_slot_kbytes": round(data.meta["plain"]["slot_bits"] / 8192, 2),
        "image_kbytes": round(sum(image.bits().values()) / 8192, 2),
        # words of the fullest bank; no layout takes fewer than the bound
        "feature_words": use.words,
        "feature_bound": use.bound,
        # where words are used again when a tensor's last reader has run, as in memories without room for all
        "feature_shared_over_bound": round(shared.words / shared.bound, 3),
        "feature_depth": config.feature_depth,
        "reuse": image.reuse,
        "bits_per_weight": round(cost.bits_per_weight(dense["weights"]), 3),
        "accuracy": network_file.accuracy(logits, data.labels[: outcome.images])
        if len(data.labels)
        else None,
        "layers": rows,
    }
