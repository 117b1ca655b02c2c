"""The machine with its DMA, and everything that can go wrong between them: each error has its code, and after
a reset of the DMA a whole list is right.

Resets come in any cycle of a list that loads a network, runs it and writes what it sends, with bursts and
packets under way on both sides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import cocotb
from cocotb.triggers import ClockCycles

from pymodel.compiler.compile import clip_weights, compile_network
from pymodel.machine.dma import Descriptor, Load, Start
from pymodel.machine.errors import DmaErrorCode, ErrorCode
from pymodel.machine.image import Image
from pymodel.machine.memory import header_beat, to_beats
from pymodel.machine.registers import DMA_REGISTERS
from pymodel.zoo import digits
from tb.common import settings
from tb.common.seeding import numpy_rng
from tb.plain.check import Expected, expect
from tb.plain.dma_host import DmaError, DmaHost

SEED = 0  # of the packing, as in tb/psa_top/test_digits.py
LATENCIES = (0, 20)
RESETS = 12
SENT = 1 << 12  # bytes of a buffer that is large enough


class Rig:
    """A network in memory, a list that loads and runs it, and what that must send."""

    def __init__(self, host: DmaHost, image: Image, expected: Expected) -> None:
        self.host = host
        loads = host.loads(image.packets())
        inputs = host.loads(image.tensor_packets("input", expected.tensors["input"][0]))
        self.list: list[Descriptor] = [*loads, *inputs, Start(image.run_start)]
        self.sent = b"".join(packet[0].tobytes() for packet in expected.run.packets)
        self.checked = 0

    async def whole(self) -> None:
        """The list, whose result must be right."""
        assert await self.host.run(self.list, len(self.sent)) == self.sent
        self.checked += len(self.sent)

    async def fails(self, descriptors: Sequence[Descriptor], code: DmaErrorCode, info: int) -> None:
        """A list that must fail so. Then a reset, and the list that is right."""
        host = self.host
        used = host.used
        out = await host.buffer(SENT)
        await host.go(host.put_list(descriptors), len(descriptors), out)
        seen = None
        try:
            await host.wait()
        except DmaError as error:
            seen = error.code, error.info
        assert seen == (code, info), f"DMA error {seen}, expected {code!r}, info {info}"
        host.memory.bad.clear()
        await host.dma_reset()
        host.used = used
        await self.whole()


def rig(dut: Any, config: Any, latency: int) -> Rig:
    data = digits.load()
    network = clip_weights(data.network, config)
    image = compile_network(network, config, packing="tight", seed=SEED)
    return Rig(DmaHost(dut, config, latency=latency), image, expect(image, network, data.images[:1]))


@cocotb.test()
@cocotb.parametrize(latency=LATENCIES)
async def every_error(dut: Any, latency: int) -> None:
    config = settings.config()
    rng = numpy_rng("errors")
    made = rig(dut, config, latency)
    host, whole = made.host, made.list
    await host.reset()
    await made.whole()
    beat = host.beat
    bad = host.room(beat)
    largest = max((one for one in whole if isinstance(one, Load)), key=lambda one: one.length)
    at = whole.index(largest)
    # the memory answers with an error: in a packet, at its first beat, at its last
    for place in (0, beat * int(rng.integers(1, largest.length // beat - 1)), largest.length - beat):
        host.memory.bad = [range(largest.address + place, largest.address + place + beat)]
        await made.fails(whole, DmaErrorCode.DATA_READ, at)
    # packets and programs that the machine refuses
    unknown = to_beats([header_beat(77, 0, 1, 0), 0], config.stream_bits).tobytes()
    refused: list[Descriptor] = [Load(host.put(unknown), len(unknown)), *whole]
    await made.fails(refused, DmaErrorCode.MACHINE, ErrorCode.LOAD_DESTINATION)
    short: list[Descriptor] = [replace(largest, length=largest.length - beat), Start(0)]
    await made.fails(short, DmaErrorCode.MACHINE, ErrorCode.LOAD_SHORT)
    nowhere = [Start(config.program_depth)] if config.program_depth < 1 << 16 else [Start(0xFFFF)]
    await made.fails([*whole, *nowhere], DmaErrorCode.MACHINE, ErrorCode.PROGRAM_RANGE)
    # a list that ends inside a packet, or starts there
    inside = replace(largest, length=beat, last=False)
    await made.fails([*whole, inside], DmaErrorCode.LIST_PACKET, len(whole))
    await made.fails([inside, Start(0)], DmaErrorCode.LIST_PACKET, 1)
    # descriptors
    await made.fails([*whole, Load(bad + 1, beat)], DmaErrorCode.LIST_ADDRESS, len(whole))
    await made.fails([Load(bad, 0)], DmaErrorCode.LIST_LENGTH, 0)
    # what is sent
    host.out_size = -1
    await host.write("DMA_OUT_SIZE", 0)
    host.out_size = SENT
    await made.fails(whole, DmaErrorCode.OUT_SIZE, 0)
    host.memory.bad = [range(host.used, host.used + SENT)]
    await made.fails(whole, DmaErrorCode.OUT_WRITE, 1)
    settings.report({"compared_bytes": made.checked, "latency": latency})


@cocotb.test()
async def a_reset_in_any_cycle(dut: Any) -> None:
    rng = numpy_rng("resets")
    made = rig(dut, settings.config(), 30)
    host = made.host
    await host.reset()
    await made.whole()
    load = int(dut.load_cycles.value)
    used = host.used
    lasting = 0
    for _ in range(RESETS):
        # in the load, or in the run and what it sends
        cycles = int(rng.integers(0, load) if rng.random() < 0.5 else rng.integers(load, load + 1000))
        out = await host.buffer(SENT)
        await host.go(host.put_list(made.list), len(made.list), out)
        await ClockCycles(dut.clk, cycles)
        lasting += dut.irq.value == 0
        await host.dma_reset()
        host.used = used
        await made.whole()
    assert lasting
    settings.report({"compared_bytes": made.checked, "resets": RESETS, "resets_of_a_list": lasting})


@cocotb.test()
async def accesses_of_the_host_meanwhile(dut: Any) -> None:
    """Registers of both while a list lasts, and those that a list has for itself."""
    made = rig(dut, settings.config(), 10)
    host = made.host
    await host.reset()
    out = await host.buffer(SENT)
    await host.go(host.put_list(made.list), len(made.list), out)
    shape, reads = await host.read("SHAPE"), 0
    while dut.irq.value == 0:
        assert await host.read("SHAPE") == shape
        assert await host.read("DMA_ID") == DMA_REGISTERS["DMA_ID"].reset
        reads += 2
    await host.wait()
    assert host.memory.read(out, len(made.sent)) == made.sent
    settings.report({"register_reads": reads})
