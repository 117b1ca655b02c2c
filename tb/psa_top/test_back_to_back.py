"""A network on image after image without a pause: the next input is loaded while the machine computes. Every
output is compared with the reference, and the cycles with the prediction.
"""

from __future__ import annotations

from typing import Any

import cocotb
import numpy as np

from pymodel.cost.counts import image_cost
from pymodel.cost.throughput import clocked_images
from pymodel.machine.back_to_back import back_to_back
from pymodel.machine.image import Image
from pymodel.machine.load_clock import Clocked
from pymodel.machine.memory import live_packets
from pymodel.machine.model import Machine
from pymodel.machine.runs import ProgramRun
from pymodel.network.reference import evaluate
from tb.common import settings
from tb.common.clock import CLOCK_HZ
from tb.common.seeding import numpy_rng
from tb.coverage.sample import observe, sample_program
from tb.plain.check import Outcome, compare_counters, loaded_model, prepared
from tb.plain.host import Host, HostRun


@cocotb.test()
async def image_after_image(dut: Any) -> None:
    config = settings.config()
    data, image = prepared()
    inputs = data.images[: settings.images()]
    program, stream, _ = back_to_back(image, inputs)
    looped = image.with_words(PROGRAM=program)
    alone = loaded_model(image, inputs[:1]).run(image.run_start, stream=image.run_stream).cycles
    if image.streamed:
        alone += image.stats["stream"]["load_wait"][str(config.stream_bits)]

    model = observe(Machine(config))
    model.load(looped.sections)
    predicted = model.run(stream=stream)
    sample_program(model, 0, predicted)

    host = Host(dut, config, numpy_rng())
    await host.reset()
    patience = 1_000_000 + 4 * predicted.cycles
    seen = await host.run(looped.packets(), timeout_cycles=patience, live=live_packets(config, stream))
    outcome = Outcome(images=len(inputs))
    compare_counters(seen, predicted, f"{len(inputs)} images", outcome)
    compare_outputs(image, seen, evaluate(data.network, inputs)[image.output], outcome)
    expected = clocked_images(image, image_cost(image), len(inputs))
    settings.report(figures(image, seen, predicted, alone, expected, outcome))
    outcome.check()


def compare_outputs(
    image: Image, seen: HostRun, expected: np.ndarray[Any, np.dtype[np.int8]], outcome: Outcome
) -> None:
    """Compares the packets of every image, one for each bank of the output, with the reference int8
    [N, C, H, W].
    """
    place = image.placements[image.output]
    banks = sorted({*place.bank})
    want = [
        place.to_words(one)[[c for c in range(place.shape[0]) if place.bank[c] == bank]].tobytes()
        for one in expected
        for bank in banks
    ]
    assert len(seen.packets) == len(want), f"{len(seen.packets)} packets came, expected {len(want)}"
    for number, (packet, right) in enumerate(zip(seen.packets, want, strict=True)):
        differ = int(np.count_nonzero(packet.reshape(-1) != np.frombuffer(right, np.int8)))
        outcome.compared_bytes += len(right)
        outcome.mismatches += differ
        if differ:
            index, bank = divmod(number, len(banks))
            outcome.messages.append(f"image {index}, output in bank {banks[bank]}: {differ} bytes differ")


def figures(
    image: Image,
    seen: HostRun,
    predicted: ProgramRun,
    alone: int,
    expected: Clocked,
    outcome: Outcome,
) -> dict[str, Any]:
    """Figures for the RESULT line. `share`: images a second, of what the run of one image alone allows.
    `expected` and `alone`, cycles of one image: of a stream that brings a beat in every cycle.
    """
    cycles = seen.counters.cycles
    return {
        "network": image.network,
        "scheme": image.scheme,
        "images": outcome.images,
        "compared_bytes": outcome.compared_bytes,
        "mismatches": outcome.mismatches,
        "cycles": cycles,
        "predicted_cycles": predicted.cycles,
        "stall_cycles": seen.counters.stall_cycles,
        "load_wait_cycles": seen.counters.load_wait_cycles,
        "predicted_load_wait": expected.waited,
        "cycles_alone": alone,
        "images_per_s_alone": round(CLOCK_HZ / alone, 1),
        "images_per_s": round(CLOCK_HZ * outcome.images / cycles, 1),
        "share": round(alone * outcome.images / cycles, 4),
    }
