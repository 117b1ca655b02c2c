"""Runs an image on the machine and compares every plane and counter with the reference and the array
model.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pymodel.compiler.agreement import loaded
from pymodel.machine.image import Image
from pymodel.machine.memory import live_packets
from pymodel.machine.model import Machine
from pymodel.machine.runs import ProgramRun
from pymodel.network import network_file
from pymodel.network.integer import Network
from pymodel.network.network_file import StoredNetwork
from pymodel.network.reference import evaluate
from tb.common import settings
from tb.common.settings import IMAGE_FILE, NETWORK_FILE
from tb.coverage.operations import sample_network
from tb.coverage.sample import observe, sample_program
from tb.debug.suspect import Attempt, Ran
from tb.plain.host import Host, HostRun

Int8Array = npt.NDArray[np.int8]

SHOWN = 5  # mismatches in a message


@dataclass(frozen=True)
class Expected:
    """The expected results of a batch.

    `tensors` int8 [B, C, H, W] of `network` come from the reference, `run` and `dump` from the array model.
    """

    network: Network
    tensors: Mapping[str, Int8Array]
    run: ProgramRun
    dump: ProgramRun
    _sent: dict[tuple[str, int], tuple[list[int], Int8Array]] = field(default_factory=dict)

    def sent(self, image: Image, name: str, bank: int) -> tuple[list[int], Int8Array]:
        """The channels of a tensor that a bank holds, and their bytes int8 [B, channels, bytes]. Kept: each
        image of the batch is compared with them.
        """
        if (name, bank) not in self._sent:
            place = image.placements[name]
            channels = [c for c, b in enumerate(place.bank) if b == bank]
            words = place.to_words(self.tensors[name])[:, channels]
            self._sent[name, bank] = channels, words.reshape(len(words), len(channels), -1)
        return self._sent[name, bank]


@dataclass
class Outcome:
    """What was compared, over all images so far. `packets` are those of the last run."""

    images: int = 0
    compared_bytes: int = 0
    mismatches: int = 0
    cycles: int = 0
    predicted_cycles: int = 0
    stall_cycles: int = 0
    load_wait_cycles: int = 0
    messages: list[str] = field(default_factory=list)
    packets: list[Int8Array] = field(default_factory=list)

    def check(self) -> None:
        """Fails if anything differed, or if nothing was compared."""
        if self.messages:
            raise AssertionError(
                "\n".join([f"{self.mismatches} of {self.compared_bytes} bytes differ", *self.messages])
            )
        if self.compared_bytes == 0:
            raise AssertionError("nothing was compared")


def expect(image: Image, network: Network, images: Int8Array) -> Expected:
    """The results of both models for a batch int8 [B, C, H, W]."""
    machine = loaded_model(image, images)
    run = machine.run(image.run_start, stream=image.run_stream)
    sample_program(machine, image.run_start, run)
    if image.reuse:
        machine.load_tensor(image.placements["input"], images)
    dump = machine.run(image.dump_start, stream=image.dump_stream)
    sample_program(machine, image.dump_start, dump)
    sample_network(network, image, run)
    return Expected(network, evaluate(network, images), run, dump)


def loaded_model(image: Image, images: Int8Array) -> Machine:
    """`loaded`, and its layers are observed as they run."""
    return observe(loaded(image, images))


async def run_image(host: Host, image: Image, expected: Expected, index: int, outcome: Outcome) -> None:
    """Image `index` of the batch: runs the network, then the program that sends all tensors, and compares
    both.

    If anything differs, the data for a replay are noted (tb/debug/).
    """
    inputs = expected.tensors["input"][index]
    before = len(outcome.messages)
    ran = Ran(expected.network, inputs, host.source.rate, host.sink.rate)
    with Attempt(lambda: loaded_model(image, inputs[None]), image.run_start, image, ran) as attempt:
        live = live_packets(image.config, image.run_stream)
        packets, patience = image.tensor_packets("input", inputs), timeout(expected.run)
        run = await host.run(packets, image.run_start, patience, live)
        attempt.ended()
        compare_counters(run, expected.run, f"image {index}", outcome)
        outcome.cycles += run.counters.cycles - run.counters.stall_cycles - run.counters.load_wait_cycles
        outcome.predicted_cycles += expected.run.cycles
        outcome.stall_cycles += run.counters.stall_cycles
        outcome.load_wait_cycles += run.counters.load_wait_cycles
        outcome.packets = run.packets
        await send_and_compare(host, image, expected, index, outcome)
        # last, so that the first message names the first layer that is wrong
        banks = [image.placements[image.output].bank[0]]
        compare_tensor(image, image.output, run.packets, expected, index, outcome, banks)
        outcome.images += 1
        attempt.differs = len(outcome.messages) > before


async def send_and_compare(
    host: Host, image: Image, expected: Expected, index: int, outcome: Outcome
) -> None:
    """Runs the program that sends all tensors, and compares them.

    If it runs the layers itself, it is the run to replay where one of its tensors is wrong.
    """
    inputs = expected.tensors["input"][index]
    before = len(outcome.messages)
    ran = Ran(expected.network, inputs, host.source.rate, host.sink.rate)
    again = Attempt(lambda: loaded_model(image, inputs[None]), image.dump_start, image, ran)
    with again if image.reuse else nullcontext():
        live = live_packets(image.config, image.dump_stream)
        packets, patience = image.dump_packets("input", inputs), timeout(expected.dump)
        dump = await host.run(packets, image.dump_start, patience, live)
        again.ended()
        compare_counters(dump, expected.dump, f"image {index}, dump", outcome)
        assert len(dump.packets) == len(image.dumps), (
            f"image {index}: the dump sent {len(dump.packets)} packets, expected {len(image.dumps)}"
        )
        for name in image.placements:
            chosen = [(d.bank, p) for d, p in zip(image.dumps, dump.packets, strict=True) if d.tensor == name]
            sent, banks = [p for _, p in chosen], [b for b, _ in chosen]
            compare_tensor(image, name, sent, expected, index, outcome, banks)
        again.differs = len(outcome.messages) > before


def prepared() -> tuple[StoredNetwork, Image]:
    """The network that was compiled for this simulation before it began (tb/flow/prepare.py)."""
    folder = Path(settings.get().network)
    image = Image.load(folder / IMAGE_FILE, settings.config())
    return network_file.load(folder / NETWORK_FILE), image


def timeout(run: ProgramRun) -> int:
    """The cycles after which a run that has not ended hangs: it may wait for both streams."""
    return 1_000_000 + 10 * run.cycles


def compare_counters(run: HostRun, model: ProgramRun, where: str, outcome: Outcome) -> None:
    """Compares every counter. Both streams delay a run by exactly the cycles that their counters have."""
    seen = run.counters
    delays = seen.stall_cycles + seen.load_wait_cycles
    for name, value, expected in (
        ("cycles less stall_cycles and load_wait_cycles", seen.cycles - delays, model.cycles),
        ("busy_cycles", seen.busy_cycles, model.busy_cycles),
        ("slot_rows", seen.slot_rows, model.slot_rows),
        ("words", seen.words, model.words),
    ):
        if value != expected:
            outcome.messages.append(f"{where}: {name} is {value}, predicted {expected}")


def compare_tensor(
    image: Image,
    name: str,
    packets: list[Int8Array],
    expected: Expected,
    index: int,
    outcome: Outcome,
    banks: list[int],
) -> None:
    """Compares the packets that carry a tensor, one for each bank, with the reference: every byte, including
    bytes that are not pixels of the map.
    """
    place = image.placements[name]
    for bank, packet in zip(banks, packets, strict=True):
        channels, words = expected.sent(image, name, bank)
        want = words[index]
        assert packet.size == want.size, (
            f"image {index}, layer {name}, bank {bank}: {packet.size} bytes came, expected {want.size}"
        )
        seen = packet.reshape(want.shape)
        outcome.compared_bytes += want.size
        if packet.tobytes() == want.tobytes():  # a few bytes: sooner than a comparison by numpy
            continue
        differ = np.argwhere(seen != want)
        outcome.mismatches += len(differ)
        for row, n in differ[: max(0, SHOWN - len(outcome.messages))]:
            outcome.messages.append(
                f"image {index}, layer {name}, filter {channels[row]}, {place.pixel_name(int(n))}:"
                f" expected {want[row, n]}, seen"
                f" {seen[row, n]}{verdict(image, expected, index, bank, name, channels[row], int(n))}"
            )


def verdict(
    image: Image, expected: Expected, index: int, bank: int, tensor: str, channel: int, n: int
) -> str:
    """Whether the array model, which runs the image itself, agrees with the reference. If it does not, the
    fault is in the image.
    """
    place = image.placements[tensor]
    packets = (
        p
        for d, p in zip(image.dumps, expected.dump.packets, strict=True)
        if d.tensor == tensor and d.bank == bank
    )
    flat = next(packets)[index].reshape(-1)
    first = min(b for c, b in enumerate(place.base) if place.bank[c] == bank)
    modelled = flat[(place.base[channel] - first) * place.size + n]
    pixel = place.to_words(expected.tensors[tensor][index])[channel].reshape(-1)[n]
    return "" if modelled == pixel else f" (the array model has {modelled}: the image is wrong, not the RTL)"


def output_of(image: Image, outcome: Outcome) -> Int8Array:
    """The logits that the machine sent, int8 [classes]."""
    place = image.placements[image.output]
    return place.from_words(
        outcome.packets[0].reshape(place.shape[0], place.channel_words, place.size)
    ).reshape(-1)
