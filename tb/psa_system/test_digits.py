"""The digits network with everything in memory: the DMA fetches the network, the images and the starts, and
writes what comes out. Every output plane of every layer and every counter is compared.

Then all images come in one list, as a processor would give them that has them all: each with a START of its
own, and then behind a single START, in live packets that come while the image before runs.
"""

from __future__ import annotations

from typing import Any

import cocotb
import numpy as np

from pymodel.compiler.compile import clip_weights, compile_network
from pymodel.machine.back_to_back import back_to_back
from pymodel.machine.dma import Descriptor, Start
from pymodel.machine.image import Image
from pymodel.machine.memory import live_packets
from pymodel.machine.runs import ProgramRun
from pymodel.network.network_file import accuracy
from pymodel.zoo import digits
from tb.common import settings
from tb.common.seeding import numpy_rng
from tb.plain.check import Expected, Outcome, compare_counters, compare_tensor, expect, output_of, timeout
from tb.plain.dma_host import DmaHost, packet_lengths, split
from tb.plain.host import HostRun

SEED = 0  # of the packing, as in tb/psa_top/test_digits.py
LATENCY = 50  # of the memory, in cycles
LEAST_RATE = 0.9  # of a beat a cycle


@cocotb.test()
async def digits_from_memory(dut: Any) -> None:
    config = settings.config()
    data = digits.load()
    network = clip_weights(data.network, config)
    image = compile_network(network, config, packing="tight", seed=SEED)
    count = settings.images()
    chosen = np.sort(numpy_rng().permutation(len(data.images))[:count])
    expected = expect(image, network, data.images[chosen])

    host = DmaHost(dut, config, latency=LATENCY)
    await host.reset()
    await host.run(host.loads(image.packets()), 0)
    beats, cycles = loaded(dut)
    assert beats == sum(len(packet.beats) for packet in image.packets())
    outcome = Outcome()
    logits, input_cycles = [], 0
    for index in range(count):
        inputs = host.loads(image.tensor_packets("input", expected.tensors["input"][index]))
        run = await send(host, [*inputs, Start(image.run_start)], expected.run)
        input_cycles = loaded(dut)[1]
        again = host.loads(image.dump_packets("input", expected.tensors["input"][index]))
        dump = await send(host, [*again, Start(image.dump_start)], expected.dump)
        compare(image, expected, index, run, dump, outcome)
        logits.append(output_of(image, outcome))
    starts: list[Descriptor] = []
    for pixels in expected.tensors["input"]:
        starts += [*host.loads(image.tensor_packets("input", pixels)), Start(image.run_start)]
    await all_in_one_list(host, starts, image, expected, outcome)
    in_a_row = loaded(dut)[1]
    await all_in_one_list(host, one_start(host, image, expected), image, expected, outcome)
    live = (await host.counters()).cycles
    settings.report(
        {
            "images": outcome.images,
            "compared_bytes": outcome.compared_bytes,
            "mismatches": outcome.mismatches,
            "cycles": outcome.cycles,
            "predicted_cycles": outcome.predicted_cycles,
            "accuracy": accuracy(np.stack(logits), data.labels[chosen]),
            "latency": LATENCY,
            "load_beats": beats,
            "load_cycles": cycles,
            "load_rate": round(beats / cycles, 4),
            "input_cycles": input_cycles,
            "list_cycles": in_a_row,
            "live_cycles": live,
        }
    )
    outcome.check()
    assert beats >= LEAST_RATE * cycles, f"{beats} beats took {cycles} cycles, from DMA_GO on"


def loaded(dut: Any) -> tuple[int, int]:
    """The beats of the last list, and the cycles from its start to the last of them."""
    return int(dut.load_beats.value), int(dut.load_cycles.value)


def sizes_of(run: ProgramRun) -> list[int]:
    """The bytes of each packet that a program sends."""
    return [packet[0].size for packet in run.packets]


async def send(host: DmaHost, descriptors: list[Descriptor], expected: ProgramRun) -> HostRun:
    """Runs a list whose only program is `expected`."""
    sizes = sizes_of(expected)
    out = await host.run(descriptors, sum(packet_lengths(sizes, host.beat)), timeout(expected))
    return HostRun(await host.counters(), split(out, sizes, host.beat))


def compare(
    image: Image, expected: Expected, index: int, run: HostRun, dump: HostRun, outcome: Outcome
) -> None:
    """Compares counters, the output and all planes of an image."""
    compare_counters(run, expected.run, f"image {index}", outcome)
    compare_counters(dump, expected.dump, f"image {index}, dump", outcome)
    outcome.cycles += run.counters.cycles - run.counters.stall_cycles - run.counters.load_wait_cycles
    outcome.predicted_cycles += expected.run.cycles
    outcome.packets = run.packets
    for name in image.placements:
        chosen = [(d.bank, p) for d, p in zip(image.dumps, dump.packets, strict=True) if d.tensor == name]
        sent, banks = [p for _, p in chosen], [b for b, _ in chosen]
        compare_tensor(image, name, sent, expected, index, outcome, banks)
    compare_tensor(
        image, image.output, run.packets, expected, index, outcome, [image.placements[image.output].bank[0]]
    )
    outcome.images += 1


def one_start(host: DmaHost, image: Image, expected: Expected) -> list[Descriptor]:
    """A program that takes image after image, and what comes while it runs."""
    program, stream, _ = back_to_back(image, expected.tensors["input"])
    looped = image.with_words(PROGRAM=program)
    return [*host.loads(looped.packets()), Start(0), *host.loads(live_packets(image.config, stream))]


async def all_in_one_list(
    host: DmaHost, descriptors: list[Descriptor], image: Image, expected: Expected, outcome: Outcome
) -> None:
    """A list that runs all images behind each other. Compares the outputs."""
    count = len(expected.tensors["input"])
    sizes = sizes_of(expected.run) * count
    out = await host.run(descriptors, sum(packet_lengths(sizes, host.beat)), timeout(expected.run) * count)
    bank = image.placements[image.output].bank[0]
    for index, packet in enumerate(split(out, sizes, host.beat)):
        compare_tensor(image, image.output, [packet], expected, index, outcome, [bank])
