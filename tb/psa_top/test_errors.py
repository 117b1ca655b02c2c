"""Bad packets, bad programs, and accesses at the wrong time: the code, the interrupt, nothing written, and a
clean run afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import cocotb
import numpy as np
import numpy.typing as npt
import pytest
from cocotb.triggers import ClockCycles
from cocotb_bus.drivers.amba import AXIProtocolError

from pymodel.compiler.compile import CapacityError, compile_network
from pymodel.machine.config import ArrayConfig
from pymodel.machine.errors import ErrorCode
from pymodel.machine.faults import ProgramError, UndefinedReadError
from pymodel.machine.image import Image
from pymodel.machine.memory import (
    LIVE,
    Beats,
    Packet,
    Section,
    columns,
    from_beats,
    header_beat,
    memories,
    packet,
    to_beats,
)
from pymodel.machine.model import Machine
from pymodel.machine.program import OUT_FIELDS, End, Out, encode_all
from pymodel.machine.registers import REGISTERS, build_values
from pymodel.network.integer import INPUT, Conv, GlobalPool, Network
from pymodel.zoo.random_network import random_images, random_network
from tb.common import settings
from tb.common.seeding import numpy_rng
from tb.coverage.sample import StateTimeline, sample_program
from tb.plain.check import Expected, Outcome, expect, run_image
from tb.plain.host import LOAD_RESET, SOFT_RESET, Host, MachineStoppedError, RegisterError
from tb.psa_top.collisions import APART, OF_SEQUENCER, Tables, collisions

OUTCOME = Outcome()  # of all tests of this module: each is to run the network once more


@dataclass
class LoadedMachine:
    """A machine with a network loaded, and what it must give."""

    host: Host
    image: Image
    expected: Expected
    rng: np.random.Generator

    async def healthy(self) -> None:
        """The network runs and every byte and counter is right."""
        await run_image(self.host, self.image, self.expected, 0, OUTCOME)
        settings.report(
            {
                k: getattr(OUTCOME, k)
                for k in ("images", "compared_bytes", "mismatches", "cycles", "predicted_cycles")
            }
        )
        OUTCOME.check()

    async def stops(self, packets: Iterable[Packet], start: int, wanted: ProgramError) -> None:
        """With these packets loaded the program at `start` ends in the model's error, from which the machine
        recovers.
        """
        await self.host.load(packets)
        await self.host.start(start)
        with pytest.raises(MachineStoppedError):
            await self.host.wait_done()
        seen = await self.host.counters()
        cycles = seen.cycles - seen.stall_cycles - seen.load_wait_cycles
        assert cycles == wanted.cycles, (
            f"{wanted.code.name}: the machine stood still after {cycles} cycles, expected {wanted.cycles}:"
            f" {wanted}"
        )
        await self.recover(wanted.code, wanted.info)

    async def recover(self, code: ErrorCode, info: int | None = None, *, waiting: bool = False) -> None:
        """The machine stands with `code`, shows it everywhere, and comes back by soft reset.

        `waiting`: a packet waits to be let in.
        """
        host = self.host
        fields = REGISTERS["ERROR"].decode(await host.read("ERROR"))
        assert fields["CODE"] == code, f"ERROR.CODE is {fields['CODE']}, expected {code} ({code.name})"
        assert info is None or fields["INFO"] == info, (
            f"{code.name}: ERROR.INFO is {fields['INFO']}, expected {info}"
        )
        assert host.dut.irq.value == 1, f"{code.name}: no interrupt"
        raised = await host.read("IRQ_STATUS")
        assert raised == 2, f"{code.name}: IRQ_STATUS is {raised}, expected 2"
        status = REGISTERS["STATUS"].decode(await host.read("STATUS"))
        assert status == {"BUSY": 0, "LOADING": 0, "ERROR": 1, "SENDING": 0}, (
            f"{code.name}: STATUS is {status}"
        )
        with pytest.raises(MachineStoppedError):
            await host.start(self.image.run_start)
        await host.soft_reset()
        for name in ("STATUS", "ERROR", "IRQ_STATUS"):
            seen = await host.read(name)
            assert seen == 0 or (waiting and name == "STATUS"), (
                f"{code.name}: {name} after a soft reset is {seen:#x}, expected 0"
            )
        assert host.dut.irq.value == 0, f"{code.name}: irq after a soft reset"

    async def features(self) -> dict[int, npt.NDArray[np.int8]]:
        """All words of every feature bank, read by a program of OUT records that takes the place of the
        network's for a moment.
        """
        config = self.image.config
        spec = memories(config)["PROGRAM"]
        words = encode_all([*(Out(bank, 0, config.feature_depth) for bank in range(config.group)), End()])
        run = await self.host.run([packet(spec, Section("PROGRAM", 0, words))])
        await self.host.load(self.packets_of("PROGRAM"))
        return {bank: p.reshape(-1, config.size) for bank, p in enumerate(run.packets)}

    def packets_of(self, memory: str) -> list[Packet]:
        return [
            packet(memories(self.image.config)[memory], s) for s in self.image.sections if s.memory == memory
        ]

    def feature_packet(self, bank: int, address: int, words: int) -> tuple[Beats, npt.NDArray[np.int64]]:
        """Beats of a legal packet of random pixels, and the pixels [words, T]."""
        spec = memories(self.image.config)["FEATURE"]
        pixels = self.rng.integers(-128, 128, (words, self.image.config.size))
        return packet(spec, Section("FEATURE", address, pixels[:, :, None], bank)).beats, pixels


async def bench(dut: Any, fits: Callable[[Image], bool] = lambda _: True) -> LoadedMachine:
    """A small network with at least a convolution, several lanes, and a layer of one phase; `fits` says what
    more the test needs of its image.
    """
    config = settings.config()
    rng = numpy_rng("network")
    while True:
        network = random_network(rng, config)
        with suppress(CapacityError):
            if suitable(network):
                # tests run it again without its input
                image = compile_network(network, config, seed=1, reuse=False)
                if layers_of_one_phase(image) and fits(image):
                    return await loaded(dut, network, image, rng)


async def loaded(dut: Any, network: Network, image: Image, rng: np.random.Generator) -> LoadedMachine:
    """A network in a machine fresh from reset, all feature words known, and all of EDGE, which a plane that
    is too long runs through before it leaves it.
    """
    config = image.config
    host = Host(dut, config, rng)
    await host.reset()
    feature, edge = memories(config)["FEATURE"], memories(config)["EDGE"]
    blank = feature.zeros(config.feature_depth)
    await host.load(packet(feature, Section("FEATURE", 0, blank, bank)) for bank in range(config.group))
    await host.load([packet(edge, Section("EDGE", 0, edge.zeros(config.edge_depth)))])
    await host.load(image.packets())
    return LoadedMachine(host, image, expect(image, network, random_images(rng, network, 1)), rng)


def suitable(network: Network) -> bool:
    """Small, with at least two convolutions of real work."""
    convs = [
        layer for layer in network.layers if isinstance(layer, Conv) and np.count_nonzero(layer.weight) > 8
    ]
    small = sum(int(np.prod(s)) for s in network.shapes.values()) < 4000
    return len(convs) >= 2 and small and not isinstance(network.layers[0], GlobalPool)


def beats_of(*values: int) -> Beats:
    return to_beats(values, settings.config().stream_bits)


@cocotb.test()
async def registers(dut: Any) -> None:
    """Identity, parameters, reset values, and accesses that must be refused."""
    host = Host(dut, settings.config(), numpy_rng())
    await host.reset()
    known = (
        {name: r.reset for name, r in REGISTERS.items() if r.reset is not None}
        | build_values(host.config)
        | {"IRQ_ENABLE": 3}
    )
    for name, value in known.items():
        seen = await host.read(name)
        assert seen == value, f"{name} is {seen:#x} after reset, expected {value:#x}"
    for name, register in REGISTERS.items():
        if not register.writable:
            with pytest.raises(RegisterError):
                await host.write(name, 0xFFFFFFFF)
            assert await host.read(name) == known[name], f"a refused write changed {name}"
    await host.write("PROGRAM_START", 0xFFFFFFFF)
    assert await host.read("PROGRAM_START") == 0xFFFF
    await host.write("IRQ_ENABLE", 0)
    assert await host.read("IRQ_ENABLE") == 0
    used = {r.address for r in REGISTERS.values()}
    for address in range(0, 256, 4):
        if address not in used:
            with pytest.raises(AXIProtocolError):
                await host.axil.read(address)
            with pytest.raises(AXIProtocolError):
                await host.axil.write(address, 0)


@cocotb.test()
async def bad_packets(dut: Any) -> None:
    """Each rule of a load packet broken in turn.

    Feature memory outside the packet keeps every byte, and so do the other memories.
    """
    b = await bench(dut)
    await b.healthy()
    config = b.image.config
    depth, beats_per_word = config.feature_depth, memories(config)["FEATURE"].beats
    bank = int(b.rng.integers(config.group))
    payload = [int(v) for v in b.rng.integers(0, 2**63, 4 * beats_per_word)]
    none = len(memories(config))
    group_beats = packet(
        memories(config)["GROUP"], Section("GROUP", 0, memories(config)["GROUP"].zeros(1))
    ).beats

    cases: list[tuple[str, ErrorCode, int, Beats]] = [
        (
            "the first destination that is none",
            ErrorCode.LOAD_DESTINATION,
            none,
            beats_of(header_beat(none, 0, 1, 0), 1),
        ),
        ("destination 255", ErrorCode.LOAD_DESTINATION, 255, beats_of(header_beat(255, 0, 1, 0), *payload)),
        (
            "a bank too many",
            ErrorCode.LOAD_DESTINATION,
            0,
            beats_of(header_beat(0, config.group, 1, 0), *payload),
        ),
        (
            "a bank where there is none",
            ErrorCode.LOAD_DESTINATION,
            5,
            beats_of(header_beat(5, 1, 1, 0), *from_beats(group_beats[1:])),
        ),
        ("no words", ErrorCode.LOAD_RANGE, 0, beats_of(header_beat(0, bank, 0, 0), *payload)),
        (
            "one word past the end",
            ErrorCode.LOAD_RANGE,
            0,
            beats_of(header_beat(0, bank, 2, depth - 1), *payload[: 2 * beats_per_word]),
        ),
        (
            "far past the end",
            ErrorCode.LOAD_RANGE,
            0,
            beats_of(header_beat(0, bank, 1, 2**32 - 1), *payload[:beats_per_word]),
        ),
        (
            "address beyond 16 bits",
            ErrorCode.LOAD_RANGE,
            0,
            beats_of(header_beat(0, bank, 1, 65536), *payload[:beats_per_word]),
        ),
        ("a header alone", ErrorCode.LOAD_SHORT, 0, beats_of(header_beat(0, bank, 1, 0))),
        ("a bad header alone", ErrorCode.LOAD_DESTINATION, 77, beats_of(header_beat(77, 0, 1, 0))),
    ]
    for memory in memories(config).values():
        words = packet(memory, Section(memory.name, 0, memory.zeros(1))).beats
        if len(words) > 2:  # the word of this memory takes several beats: end it inside
            header = header_beat(memory.destination, 0, 1, memory.depth - 1)
            cases.append(
                (
                    f"part of a {memory.name} word",
                    ErrorCode.LOAD_SHORT,
                    memory.destination,
                    beats_of(header, *from_beats(words[1:-1])),
                )
            )
        end = header_beat(memory.destination, 0, 1, memory.depth)
        cases.append(
            (
                f"{memory.name} past its end",
                ErrorCode.LOAD_RANGE,
                memory.destination,
                beats_of(end, *from_beats(words[1:])),
            )
        )

    before = await b.features()
    for name, code, info, beats in cases:
        cocotb.log.info("bad packet: %s", name)
        with pytest.raises(MachineStoppedError):
            await b.host.load([Packet(beats)])
        await b.recover(code, info)
    after = await b.features()
    for index in range(config.group):
        assert (after[index] == before[index]).all(), (
            f"bank {index} changed in words {np.argwhere(after[index] != before[index])[:, 0]}"
        )
    await b.healthy()


@cocotb.test()
async def short_and_long_packets(dut: Any) -> None:
    """A packet that ends early has written its whole words, one that goes on has written those it named;
    nothing else changes.
    """
    b = await bench(dut)
    config = b.image.config
    per_word = memories(config)["FEATURE"].beats
    for words, sent, code in (
        (5, 3, ErrorCode.LOAD_SHORT),
        (5, 1, ErrorCode.LOAD_SHORT),
        (2, 4, ErrorCode.LOAD_LONG),
    ):
        bank, address = int(b.rng.integers(config.group)), int(b.rng.integers(config.feature_depth - 8))
        before = await b.features()
        beats, pixels = b.feature_packet(bank, address, max(words, sent))
        beats = beats[: 1 + sent * per_word].copy()
        beats[0, 0] = header_beat(0, bank, words, address)
        with pytest.raises(MachineStoppedError):
            await b.host.load([Packet(beats)])
        await b.recover(code, 0)
        want = {index: data.copy() for index, data in before.items()}
        written = min(words, sent)
        want[bank][address : address + written] = pixels[:written]
        after = await b.features()
        for index in range(config.group):
            assert (after[index] == want[index]).all(), (
                f"{code.name}: bank {index}, words {np.argwhere(after[index] != want[index])[:, 0]}"
            )
    await b.healthy()


@cocotb.test()
async def packets_wait_while_an_error_stands(dut: Any) -> None:
    """Packets behind a bad one are kept on the stream, not lost: they are taken after the soft reset."""
    b = await bench(dut)
    bank, address = 0, 0
    beats, pixels = b.feature_packet(bank, address, 2)
    bad = beats_of(header_beat(200, 0, 1, 0), 1, 2, 3)
    sending = cocotb.start_soon(b.host.source.send(bad, beats))
    await ClockCycles(b.host.dut.clk, 100)
    assert not sending.done(), "a packet was taken while an error stood"
    await b.recover(ErrorCode.LOAD_DESTINATION, 200, waiting=True)
    await sending
    await ClockCycles(b.host.dut.clk, 4)
    assert ((await b.features())[bank][address : address + 2] == pixels).all()
    await b.healthy()


@cocotb.test()
async def soft_reset_inside_a_packet(dut: Any) -> None:
    """The rest of a packet that a soft reset has met is dropped, up to and including its last beat."""
    b = await bench(dut)
    before = await b.features()
    beats, pixels = b.feature_packet(0, 4, 6)
    half = 1 + 2 * memories(b.image.config)["FEATURE"].beats
    await b.host.source.send(beats[:half], last=False)
    assert REGISTERS["STATUS"].decode(await b.host.read("STATUS"))["LOADING"] == 1
    with pytest.raises(RegisterError):
        await b.host.start(b.image.run_start)
    await b.host.soft_reset()
    await b.host.source.send(beats[half:])
    await b.host.check_error()
    want = before[0].copy()
    want[4:6] = pixels[:2]
    assert ((await b.features())[0] == want).all()
    await b.healthy()


@cocotb.test()
async def cut_packets_of_the_load_stream(dut: Any) -> None:
    """A soft reset inside a packet, and then other beats than its rest: LOAD_CUT, and nothing of them is
    written. If the host says that it begins anew, its next packet is a packet.
    """
    b = await bench(dut)
    beats, pixels = b.feature_packet(0, 4, 6)
    per_word = memories(b.image.config)["FEATURE"].beats
    half = 1 + 2 * per_word
    bad = beats_of(header_beat(200 | LIVE, 0, 1, 0), 1, 2, 3, 4)
    other, others = b.feature_packet(0, 20, 2)
    cases = {
        "another packet, shorter than the rest": (beats[:half], other[: 1 + per_word], 0),
        "another packet, longer than the rest": (beats[: 1 + 5 * per_word], other, 0),
        "the rest of a packet of unknown length": (bad[:2], bad[2:], LIVE | 200 & 0xF),
    }
    before = (await b.features())[0]
    for name, (begun, follows, info) in cases.items():
        for anew in (False, True):
            cocotb.log.info("cut: %s, anew %s", name, anew)
            await b.host.source.send(begun, last=False)
            await ClockCycles(dut.clk, 4)
            await b.host.soft_reset(anew=anew)
            status = REGISTERS["STATUS"].decode(await b.host.read("STATUS"))
            assert status == {"BUSY": 0, "LOADING": int(not anew), "ERROR": 0, "SENDING": 0}, (
                f"{name}: {status}"
            )
            if anew:
                await b.host.load([Packet(other)])
            else:
                with pytest.raises(MachineStoppedError):
                    await b.host.load([Packet(follows)])
                await b.recover(ErrorCode.LOAD_CUT, info)
    want = before.copy()
    want[4:9] = pixels[:5]
    want[20:22] = others
    assert ((await b.features())[0] == want).all()
    with pytest.raises(RegisterError):
        await b.host.write("CONTROL", LOAD_RESET)
    await b.healthy()


@cocotb.test()
async def cut_packets_of_the_out_stream(dut: Any) -> None:
    """A soft reset while a packet is sent: it ends a few words later, with the words that it had to have. A
    word that waits stays, and START is refused until the end.
    """
    b = await bench(dut)
    config = b.image.config
    bank = int(b.rng.integers(config.group))
    wanted = (await b.features())[bank]
    words = encode_all([Out(bank, 0, config.feature_depth), End()])
    await b.host.load([packet(memories(config)["PROGRAM"], Section("PROGRAM", 0, words))])
    lengths = set()
    for rate, delays in ((1.0, range(12)), (0.2, range(0, 120, 9))):
        b.host.sink.rate = rate
        for delay in delays:
            await b.host.start(0)
            await ClockCycles(dut.clk, delay)
            packets = await b.host.soft_reset()
            assert len(packets) <= 1, f"{len(packets)} packets of one OUT"
            sent = packets[0].reshape(-1, config.size) if packets else np.empty((0, config.size), np.int8)
            assert len(sent) < config.feature_depth, "the packet is cut"
            assert (sent == wanted[: len(sent)]).all(), f"delay {delay}: {len(sent)} words, and wrong ones"
            lengths.add(len(sent))
    assert len(lengths) > 8, f"the packets were cut too much alike: {sorted(lengths)}"
    # a receiver that is not ready at all
    b.host.sink.rate = 0.0
    await ClockCycles(dut.clk, 20)
    await b.host.start(0)
    await ClockCycles(dut.clk, 40)
    await b.host.write("CONTROL", SOFT_RESET)
    for _ in range(3):
        status = REGISTERS["STATUS"].decode(await b.host.read("STATUS"))
        assert status == {"BUSY": 0, "LOADING": 0, "ERROR": 0, "SENDING": 1}, f"STATUS is {status}"
        with pytest.raises(RegisterError):
            await b.host.start(0)
    b.host.sink.rate = 0.9
    (sent,) = await b.host.soft_reset()  # a second one changes nothing
    assert (sent.reshape(-1, config.size) == wanted[: sent.size // config.size]).all()
    await b.host.load(b.packets_of("PROGRAM"))
    await b.healthy()


ENDLESS = ("PROGRAM", "words", 65535)  # memory, field and value of a layer that does not end


def spoil(
    image: Image, memory: str, word: int, field: str, value: int, repeat: int = 0
) -> tuple[Image, list[Packet]]:
    """The image with one field changed, and the packet that changes it in the machine."""
    spec = memories(image.config)[memory]
    section = image.section(memory)
    words = section.words.copy()
    words[word, repeat, spec.index(field)] = value
    changed = tuple(
        Section(memory, section.address, words) if s.memory == memory else s for s in image.sections
    )
    spoiled = Image(**{**vars(image), "sections": changed})
    return spoiled, [packet(spec, Section(memory, word, words[word : word + 1]))]


def without_writes(image: Image) -> Image:
    """The image whose layers compute and write nothing."""
    words = image.section("FILTER").words.copy()
    columns("FILTER", words).write[...] = 0
    return image.with_words(FILTER=words)


def run_model(image: Image) -> tuple[Machine, ProgramError | None]:
    """A model with the image, and the error in which its program ends;

    None if it does not, or if what it would do is not defined.
    """
    return run_sections(image.config, image.sections, image.run_start)


def run_sections(
    config: ArrayConfig, sections: Iterable[Section], start: int
) -> tuple[Machine, ProgramError | None]:
    model = Machine(config)
    model.load(sections)
    with suppress(UndefinedReadError):
        try:
            model.run(start)
        except ProgramError as error:
            return model, error
    return model, None


Case = tuple[str, int, str, int, int]  # memory, word, field, value, repeat: as `spoil` takes them


def first_that_gives(image: Image, code: ErrorCode, cases: Iterable[Case]) -> list[Case]:
    """The first of the cases by which the program ends with that error; none if there is none."""
    for case in cases:
        error = run_model(spoil(image, *case)[0])[1]
        if error is not None and error.code == code:
            return [case]
    return []


def outside_reads(image: Image) -> Iterator[Case]:
    """Members that begin at an end of their bank, which is legal for planes of a single word, and taps that
    reach as far as they can.
    """
    config = image.config
    for group, member in np.argwhere(columns("GROUP", image.section("GROUP").words).valid).tolist():
        for value in (config.feature_depth - 1, 0):
            yield "GROUP", group, "base", value, member
    reach = (1 << config.offset_bits - 1) - 1
    for tap in range(len(image.section("TAP").words)):
        for value in (reach, -reach):
            yield "TAP", tap, "offset", value, 0


def outside_writes(image: Image) -> Iterator[Case]:
    """Planes that begin in the last word of a bank, legal for planes of a single word, and filters of a bank
    that a smaller machine does not have.
    """
    for word in range(len(image.section("FILTER").words)):
        yield "FILTER", word, "base", image.config.feature_depth - 1, 0
        yield "FILTER", word, "bank", 15, 0


@cocotb.test()
async def bad_programs(dut: Any) -> None:
    """Each bound that a program can break, one field at a time.

    RTL and array model stop with the same code and information.
    """
    b = await bench(dut)
    image, config = b.image, b.image.config
    await b.healthy()
    lanes = columns("LANE", image.section("LANE").words[:, 0]).group
    used = columns("GROUP", image.section("GROUP").words[lanes]).valid  # [lanes, members]
    lane, member = (int(i) for i in np.argwhere(used)[0])
    group = int(lanes[lane])
    out = len(image.layers)  # the first OUT record
    # the last tile's first filter: of a short layer it is written when all lanes have been issued
    behind = len(image.section("FILTER").words) - config.size
    cases: list[tuple[str, int, str, int, int]] = [
        ("PROGRAM", 0, "opcode", 0, 0),
        ("PROGRAM", 0, "opcode", 9, 0),
        ("PROGRAM", 0, "words", 0, 0),
        ("PROGRAM", 0, "phases", 0, 0),
        ("PROGRAM", 0, "chunk_words", 0, 0),
        ("PROGRAM", 0, "chunk_words", config.acc_words + 1, 0),
        ("PROGRAM", 0, "tiles", 0, 0),
        ("PROGRAM", 0, "tiles", config.tile_depth + 1, 0),
        ("PROGRAM", 0, "tile_base", config.tile_depth, 0),
        ("PROGRAM", 0, "mode", 2, 0),
        ("PROGRAM", 0, "mode", 255, 0),
        ("PROGRAM", 0, "edge_base", config.edge_depth, 0),
        ("PROGRAM", 0, "edge_base", 65535, 0),
        ("PROGRAM", 0, "tap_base", config.tap_depth, 0),
        (ENDLESS[0], 0, *ENDLESS[1:], 0),
        ("PROGRAM", out, OUT_FIELDS["bank"], config.group, 0),
        ("PROGRAM", out, OUT_FIELDS["base"], config.feature_depth, 0),
        ("PROGRAM", out, OUT_FIELDS["words"], 0, 0),
        ("PROGRAM", out, OUT_FIELDS["words"], 65535, 0),
        ("PROGRAM", out - 1, "gap", 1, 0),  # before an OUT record
        ("TILE", 0, "passes", 0, 0),
        ("TILE", 0, "passes", 65535, 0),
        ("TILE", 0, "passes", 65536 // config.size, 0),  # times T it would wrap 16 bits
        ("TILE", 0, "lane_base", config.lane_depth - config.size + 1, 0),
        ("TILE", 0, "filter_base", config.filter_depth - config.size + 1, 0),
        ("GROUP", group, "base", config.feature_depth - 1, member),
        ("GROUP", group, "base", 0, member),
        *first_that_gives(image, ErrorCode.FEATURE_READ, outside_reads(image)),
        *first_that_gives(image, ErrorCode.FEATURE_WRITE, outside_writes(image)),
        ("FILTER", 0, "base", config.feature_depth - 1, 0),
        ("FILTER", 0, "bank", 15, 0),
        *((("TILE", 0, "slot_base", 65535, 0),) if config.xor_inputs else ()),
        *(
            (("FILTER", word, "table", n, 0) for word in (0, behind) for n in (config.tables + 1, 15))
            if config.tables
            else ()
        ),
    ]
    if len(image.section("TILE").words) > 1:
        cases.append(("TILE", 1, "passes", 0, 0))
    if config.group_depth < 1 << config.group_id_bits:
        last = len(image.section("LANE").words) - 1  # it is found when no lane follows
        cases += [("LANE", n, "group", config.group_depth, 0) for n in (lane, last)]
    stopped = set()
    for memory, word, field, value, repeat in cases:
        # a plane without an end would be read where it has just been written to
        endless = (memory, field, value) == ENDLESS
        whole = without_writes(image) if endless else image
        spoiled, packets = spoil(whole, memory, word, field, value, repeat)
        model, wanted = run_model(spoiled)
        if wanted is None:
            continue  # legal after all for this network or machine, or not defined: nothing to see here
        sample_program(model, image.run_start, wanted)
        stopped.add(wanted.code)
        cocotb.log.info("bad program: %s[%d].%s = %d: %s", memory, word, field, value, wanted)
        filters = [packet(memories(config)["FILTER"], whole.section("FILTER"))] if endless else []
        await b.stops([*filters, *packets], image.run_start, wanted)
        await b.host.load([*b.packets_of(memory), *(b.packets_of("FILTER") if endless else ())])
        await b.healthy()
    needed = {ErrorCode.SLOT_RANGE} if config.xor_inputs else set()
    needed |= {ErrorCode.TABLE_RANGE} if config.tables else set()
    needed |= {
        ErrorCode.PROGRAM_OPCODE,
        ErrorCode.PROGRAM_FIELD,
        ErrorCode.TILE_FIELD,
        ErrorCode.FEATURE_READ,
    }
    if any(place.channel_words > 1 for name, place in image.placements.items() if name != INPUT):
        needed.add(ErrorCode.FEATURE_WRITE)
    assert needed <= stopped, f"never provoked: {needed - stopped}"


@cocotb.test()
async def errors_of_a_layer_behind(dut: Any) -> None:
    """A layer's last word has no place in its bank; by then the next layer is being fetched or runs.

    The error is the first one's.
    """
    b = await bench(dut, lambda image: any(write.begun for write in writes_behind(image)))
    await b.healthy()
    layer = None
    for write in writes_behind(b.image):
        if layer not in (None, write.layer):
            await b.healthy()
        layer = write.layer
        sample_program(write.model, b.image.run_start, write.error)
        await b.stops([write.packet], b.image.run_start, write.error)
        await b.host.load(b.packets_of("FILTER"))
    await b.healthy()


@dataclass(frozen=True)
class WriteBehind:
    """The last word of a layer without a place in its bank: the packet that makes it so, the model that ran
    into it, and whether the next layer had begun by then.
    """

    layer: int
    packet: Packet
    model: Machine
    error: ProgramError
    begun: bool


def writes_behind(image: Image) -> Iterator[WriteBehind]:
    """One of each filter that writes, in the layers that wait for words of another."""
    config = image.config
    program = columns("PROGRAM", image.section("PROGRAM").words[: len(image.layers), 0])
    tiles = columns("TILE", image.section("TILE").words[:, 0])
    filters = columns("FILTER", image.section("FILTER").words[:, 0])
    for layer in np.flatnonzero(program.gap).tolist():
        total = image.placements[image.layers[layer]].channel_words
        first = int(tiles.filter_base[program.tile_base[layer] + program.tiles[layer] - 1])
        if total == 1 and config.group > 15:
            continue  # no number of a bank is too large
        field, value = ("base", config.feature_depth - total + 1) if total > 1 else ("bank", 15)
        for column in np.flatnonzero(filters.write[first : first + config.size]).tolist():
            spoiled, (changed,) = spoil(image, "FILTER", first + column, field, value)
            model, error = run_model(spoiled)
            if error is None:
                continue
            assert error.code == ErrorCode.FEATURE_WRITE
            timeline = StateTimeline.of(model, image.run_start, error)
            yield WriteBehind(layer, changed, model, error, timeline.states.count("FETCH") - 1 > layer)


@cocotb.test()
async def two_errors_in_one_cycle(dut: Any) -> None:
    """Every two kinds of errors that can meet: the one of the higher code is told, as the model has it, and
    a sequencer that finds the other stops for it at once.
    """
    b = await bench(dut)
    config = b.image.config
    specs = memories(config)
    found = collisions(config, b.rng)
    apart = {pair for pair, ways in found.items() if not ways}
    assert apart == APART & found.keys()
    loaded: dict[str, Section] = {}
    wrong = []
    for pair in sorted(found.keys() - apart):
        met = found[pair][int(b.rng.integers(len(found[pair])))]
        both = met.tables(*met.faults)
        model, wanted = run_tables(both)
        assert wanted is not None
        for fault in met.faults:
            alone = run_tables(met.tables(fault))[1]
            assert alone is not None
            assert (alone.code, alone.cycle) == (fault.code, wanted.cycle), f"{pair}: {alone}"
        assert wanted.code == max(fault.code for fault in met.faults), f"{pair}: {wanted}"
        assert wanted.cycles == wanted.cycle + (1 if pair[0] in OF_SEQUENCER else 2), f"{pair}: {wanted}"
        sample_program(model, both.start, wanted)
        sections = {s.memory: s for s in both.sections()}
        changed = [s for s in sections.values() if not same(s, loaded.get(s.memory))]
        loaded = sections
        try:
            await b.stops([packet(specs[s.memory], s) for s in changed], both.start, wanted)
        except AssertionError as error:
            wrong.append(f"{' and '.join(pair)} in one cycle: {error}")
            await b.host.soft_reset()
    assert not wrong, "\n".join(wrong)
    await b.host.load(b.image.packets())
    await b.healthy()


def run_tables(tables: Tables) -> tuple[Machine, ProgramError | None]:
    """As `run_model`."""
    return run_sections(tables.config, tables.sections(), tables.start)


def same(one: Section, other: Section | None) -> bool:
    return other is not None and one.address == other.address and np.array_equal(one.words, other.words)


@cocotb.test()
async def program_without_end(dut: Any) -> None:
    """A program that runs past the last word of its memory."""
    b = await bench(dut)
    config = b.image.config
    spec = memories(config)["PROGRAM"]
    section = Section("PROGRAM", config.program_depth - 1, encode_all([Out(0, 0, 1)]))
    model = Machine(config)
    model.load([section])
    with pytest.raises(ProgramError) as caught:
        model.run(config.program_depth - 1)
    sample_program(model, config.program_depth - 1, caught.value)
    await b.stops([packet(spec, section)], config.program_depth - 1, caught.value)
    await b.healthy()


@cocotb.test()
async def tap_out_of_range(dut: Any) -> None:
    """A member's tap beyond the end of TAP: the row moves to the last word, the tap reaches past it."""
    b = await bench(dut)
    image, config = b.image, b.image.config
    layer = layers_of_one_phase(image)[0]
    spoiled, packets = spoil(image, "PROGRAM", layer, "tap_base", config.tap_depth - 1)
    model, wanted = run_model(spoiled)
    assert wanted is not None
    assert wanted.code == ErrorCode.TAP_RANGE
    sample_program(model, image.run_start, wanted)
    tap = memories(config)["TAP"]
    behind = packet(tap, Section("TAP", config.tap_depth - 1, tap.zeros(1)))
    await b.stops([*packets, behind], image.run_start, wanted)
    await b.host.load(b.packets_of("PROGRAM"))
    await b.healthy()


def layers_of_one_phase(image: Image) -> list[int]:
    """The layers that read more than one tap and have one row of them."""
    members = columns("GROUP", image.section("GROUP").words)
    phases = columns("PROGRAM", image.section("PROGRAM").words[: len(image.layers), 0]).phases
    named = np.flatnonzero((members.valid * members.tap).any(axis=1)).tolist()
    return [layer for layer in (layer_of_group(image, group) for group in named) if phases[layer] == 1]


def layer_of_group(image: Image, group: int) -> int:
    """The number of the LAYER record whose lanes name a group."""
    lane = int((columns("LANE", image.section("LANE").words[:, 0]).group == group).argmax())
    tile = int(np.flatnonzero(columns("TILE", image.section("TILE").words[:, 0]).lane_base <= lane)[-1])
    bases = columns("PROGRAM", image.section("PROGRAM").words[: len(image.layers), 0]).tile_base
    return int(np.flatnonzero(bases <= tile)[-1])


@cocotb.test()
async def busy_machine(dut: Any) -> None:
    """START while busy is refused and disturbs nothing; soft reset in the middle of a run leaves a machine
    that runs the same again.
    """
    b = await bench(dut)
    place = b.image.placements["input"]
    inputs = b.image.tensor_packets("input", b.expected.tensors["input"][0])
    assert place.shape[0] == len(inputs)
    await b.host.load(inputs)
    await b.host.start(b.image.run_start)
    with pytest.raises(RegisterError):
        await b.host.start(b.image.run_start)
    await b.host.wait_done()
    await b.host.sink.drained()
    seen = await b.host.counters()
    assert seen.cycles - seen.stall_cycles == b.expected.run.cycles
    b.host.sink.take()
    for _ in range(8):
        await b.host.start(b.image.run_start)
        await ClockCycles(b.host.dut.clk, int(b.rng.integers(1, b.expected.run.cycles)))
        await b.host.soft_reset()
        assert await b.host.read("STATUS") == 0
        await b.healthy()
