"""The trained digits network on held-out images: every output plane of every layer, every counter.

With the option `dense` each weight has its own slot: the baseline on the same RTL. With `flip` one bit of one
slot is wrong in the image that the RTL gets, and the test must fail.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cocotb
import numpy as np

from pymodel.compiler.compile import clip_weights, compile_network
from pymodel.machine.image import Image
from pymodel.machine.memory import columns
from pymodel.machine.model import Machine
from pymodel.machine.planes import ceil_div
from pymodel.machine.slot_rows import image_rows, store_rows
from pymodel.network.network_file import accuracy
from pymodel.zoo import digits
from tb.common import settings
from tb.common.seeding import numpy_rng
from tb.plain.check import Expected, Outcome, expect, output_of, run_image
from tb.plain.host import Host

SEED = 0  # of the packing: the seed of the test must not change the measured figures


@cocotb.test()
async def digits_on_the_array(dut: Any) -> None:
    config = settings.config()
    data = digits.load()
    network = clip_weights(data.network, config)
    dense = compile_network(network, config, packing="dense", seed=SEED)
    packed = compile_network(network, config, packing="tight", seed=SEED)
    # written to a file and read again; the file stays in the run's folder
    path = Path("digits.tatami").resolve()
    (dense if settings.get().dense else packed).save(path)
    image = Image.load(path, config)
    rng = numpy_rng()
    count = settings.images()
    chosen = np.sort(rng.permutation(len(data.images))[:count])
    expected = expect(image, network, data.images[chosen])

    host = Host(dut, config, rng)
    await host.reset()
    loaded, flipped = flip_slot(image, rng) if settings.get().flip else (image, {})
    await host.load(loaded.packets())
    outcome = Outcome()
    logits = []
    for index in range(count):
        await run_image(host, image, expected, index, outcome)
        logits.append(output_of(image, outcome))
    settings.report(
        {
            "images": outcome.images,
            "compared_bytes": outcome.compared_bytes,
            "mismatches": outcome.mismatches,
            "cycles": outcome.cycles,
            "predicted_cycles": outcome.predicted_cycles,
            **ratios(image, dense, packed, count),
            "accuracy": accuracy(np.stack(logits), data.labels[chosen]),
            "layers": layer_rows(image, dense, expected),
            **flipped,
        }
    )
    outcome.check()


def cycles_of(image: Image) -> int:
    """Cycles of one image, by the array model."""
    machine = Machine(image.config)
    machine.load(image.sections)
    return machine.run(image.run_start).cycles


def ratios(image: Image, dense: Image, packed: Image, count: int) -> dict[str, float | int]:
    """Dense and packed compared on the same RTL.

    `digits_dense` shows that the machine takes the number of cycles predicted for dense.
    """
    dense_cycles, packed_cycles = cycles_of(dense), cycles_of(packed)
    return {
        "dense_cycles": dense_cycles * count,
        "speedup_over_dense": round(dense_cycles / packed_cycles, 3),
        "matrix_compression": round(lanes(dense) / lanes(packed), 3),
        "image_kbytes": round(sum(image.bits().values()) / 8000, 2),
    }


def lanes(image: Image) -> int:
    """Lanes of the layers that have weights."""
    return sum(row["lanes"] for row in image.stats["layers"] if row["weights"])


def layer_rows(image: Image, dense: Image, expected: Expected) -> list[dict[str, Any]]:
    """A row for each layer.

    `bound` is the sum over passes of the output's pixels rounded up to T. No schedule of these lanes is
    faster.
    """
    t = image.config.size
    machine = Machine(dense.config)
    machine.load(dense.sections)
    rows = []
    for stats, run, base in zip(
        image.stats["layers"], expected.run.layers, machine.run(dense.run_start).layers, strict=True
    ):
        _, height, width = image.placements[stats["name"]].shape
        bound = run.passes // run.chunks * ceil_div(height * width, t) * t
        rows.append(
            {
                "layer": stats["name"],
                "weights": stats["weights"],
                "nonzero": stats["nonzero"],
                "lanes": stats["lanes"],
                "passes": run.passes,
                "bound": bound,
                "cycles": run.cycles,
                "dense": base.cycles,
                "speedup": round(base.cycles / run.cycles, 2),
            }
        )
    return rows


def flip_slot(image: Image, rng: np.random.Generator) -> tuple[Image, dict[str, Any]]:
    """The image with the top bit of one used slot's weight flipped, and the place of that slot."""
    slots, tiles = image_rows(image), columns("TILE", image.section("TILE").words[:, 0])
    lane, column = rng.choice(np.argwhere(columns("SLOT", slots).weight != 0))
    tile = int(np.flatnonzero(tiles.lane_base <= lane)[-1])
    layers = columns("PROGRAM", image.section("PROGRAM").words[: len(image.layers), 0])
    layer = image.layers[int(np.flatnonzero(layers.tile_base <= tile)[-1])]
    entry = columns("FILTER", image.section("FILTER").words[tiles.filter_base[tile] + column, 0])
    bank, base = int(entry.bank), int(entry.base)
    place = image.placements[layer]
    flipped_filter = next(c for c in range(place.shape[0]) if (place.bank[c], place.base[c]) == (bank, base))
    changed = slots.copy()
    top = 1 << image.config.weight_bits - 1
    weight = columns("SLOT", changed).weight
    weight[lane, column] += top if weight[lane, column] < 0 else -top
    tiles_of_them, stored = store_rows(image.config, image.section("TILE").words, changed)
    where = {
        "flipped_layer": layer,
        "flipped_filter": int(flipped_filter),
        "flipped_lane": int(lane),
        "flipped_column": int(column),
    }
    return image.with_words(TILE=tiles_of_them, SLOT=stored), where
