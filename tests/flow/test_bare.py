"""The bare C++ loop that the harnesses are compared with: it sends what the model sends."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pymodel.compiler.compile import clip_weights, compile_cut, compile_network
from pymodel.cost.counts import image_cost
from pymodel.machine.config import CONFIGS, ArrayConfig, get_config
from pymodel.machine.image import Image
from pymodel.zoo import digits
from tb.flow import bare
from tb.flow.prepare import clock_cycles
from tb.flow.simulators import LONG_CYCLES, OPT_FAST, OPT_LONG, OPT_ONCE, SHORT_CYCLES, optimised_for
from tb.plain.check import loaded_model

IMAGES = 2


def digits_image(config: ArrayConfig) -> tuple[Image, np.ndarray]:
    data = digits.load()
    network = clip_weights(data.network, config)
    return compile_network(network, config, seed=1), data.images[:IMAGES]


@pytest.mark.parametrize("config", [CONFIGS["4x2"], get_config("4x2s256")], ids=lambda c: c.name)
def test_the_loop_sends_what_the_model_sends(config: ArrayConfig, tmp_path: Path) -> None:
    image, inputs = digits_image(config)
    model = loaded_model(image, inputs)
    runs = [model.run(image.run_start), model.run(image.dump_start)]
    packets = [p[i].tobytes() for i in range(IMAGES) for run in runs for p in run.packets]
    found = bare.run(config, "psa_top", OPT_ONCE, bare.script(image, inputs), tmp_path)
    assert found.out_bytes == sum(map(len, packets))
    assert found.out_sum == bare.byte_sum(packets)
    assert found.cycles > IMAGES * sum(run.cycles for run in runs)
    other = bare.run(config, "psa_top", OPT_ONCE, bare.script(image, inputs[::-1]), tmp_path)
    assert other.out_sum != found.out_sum


def test_long_runs_are_compiled_to_run_faster_and_short_ones_to_begin_sooner() -> None:
    assert optimised_for(SHORT_CYCLES - 1, shared=False) == OPT_ONCE
    assert optimised_for(SHORT_CYCLES - 1, shared=True) == OPT_FAST
    assert optimised_for(SHORT_CYCLES, shared=False) == OPT_FAST
    assert optimised_for(LONG_CYCLES - 1, shared=False) == OPT_FAST
    assert optimised_for(LONG_CYCLES, shared=True) == OPT_LONG


def test_a_run_is_as_long_as_all_that_it_simulates() -> None:
    """The second program counts, which sends every tensor, and what is loaded; of a network that is loaded
    while it runs, also the waits, and the layers that the second program runs again.
    """
    image, inputs = digits_image(CONFIGS["4x2"])
    model = loaded_model(image, inputs[:1])
    runs = sum(model.run(start).cycles for start in (image.run_start, image.dump_start))
    beats = sum(len(p.beats) for p in (*image.packets(), *image.tensor_packets("input", inputs[0])))
    assert clock_cycles(image, 1) == runs + beats
    assert clock_cycles(image, 3) - clock_cycles(image, 2) == runs + beats - image_beats(image)

    data = digits.load()
    network = clip_weights(data.network, CONFIGS["4x2"])
    cut = compile_cut(network, CONFIGS["4x2"], 0.1, reuse=True)
    alone = image_cost(cut).cycles
    waits = cut.stats["stream"]["load_wait"]["64"]
    assert waits > 0
    assert clock_cycles(cut, 2) - clock_cycles(cut, 1) > 2 * (alone + waits)


def image_beats(image: Image) -> int:
    return sum(len(p.beats) for p in image.packets())
