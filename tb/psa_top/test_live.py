"""Programs that are loaded while they run: live packets, HOLDs, WAITs, JUMPs, what is refused, and resets
between them.

The array model gives the expected results, and `HandMade.planes` computes them a second time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import cycle, pairwise, product
from typing import Any

import cocotb
import numpy as np
import numpy.typing as npt
import pytest
from cocotb.triggers import ClockCycles, ReadOnly, RisingEdge
from cocotb.utils import get_sim_time

from pymodel.machine.config import ArrayConfig
from pymodel.machine.errors import ErrorCode
from pymodel.machine.faults import LiveUseError, ProgramError
from pymodel.machine.live import LiveStream
from pymodel.machine.memory import (
    HOLD,
    LIVE,
    Hold,
    Live,
    Packet,
    Section,
    from_beats,
    header_beat,
    hold_packet,
    live_packets,
    memories,
    packet,
    read_header,
)
from pymodel.machine.model import Machine
from pymodel.machine.program import MAXIMUM, SUM, End, Jump, Layer, Legal, Out, Wait, decode, encode_all
from pymodel.machine.runs import ProgramRun
from tb.common import settings
from tb.common.clock import PERIOD_NS
from tb.common.inside import sequencer
from tb.coverage.observe import STATES
from tb.coverage.sample import follow_program, observe, sample_program
from tb.plain.check import Outcome, compare_counters
from tb.plain.host import START, MachineStoppedError, RegisterError
from tb.psa_top.handmade import SOURCE, HandMade, endless
from tb.psa_top.test_errors import OUTCOME, LoadedMachine, beats_of, bench

Int8Array = npt.NDArray[np.int8]

MODES = ((SUM, MAXIMUM), (MAXIMUM, SUM), (SUM, SUM), (MAXIMUM,))
FIRST_WAIT = 4  # cycles from the one in which START is taken to that of a WAIT at the program's first word
VISIBLE = 2  # cycles from the last beat of a live packet to the one in which a WAIT sees it
UNUSED = 100  # words at the end of a bank that no program here writes
SPARE = 4  # words of the feature banks behind everything that a program uses


def plain_packets(config: ArrayConfig, sections: Sequence[Section]) -> list[Packet]:
    return [packet(memories(config)[s.memory], s) for s in sections]


def program(address: int, *records: Legal) -> Section:
    return Section("PROGRAM", address, encode_all(records))


def made_by_hand(b: LoadedMachine, modes: tuple[int, ...]) -> tuple[HandMade, Int8Array]:
    """A hand-made program, and what its banks [G, words, T] hold before it runs."""
    config = b.image.config
    made = HandMade(config, b.rng, modes)
    shape = config.group, made.end, config.size
    return made, b.rng.integers(-128, 128, shape).astype(np.int8)


def model_of(b: LoadedMachine, sections: Sequence[Section]) -> Machine:
    machine = observe(Machine(b.image.config))
    machine.load(b.image.sections)
    machine.load(sections)
    return machine


def bursts(rng: np.random.Generator) -> Iterator[int]:
    """Idle cycles before each beat: some beats without any between long pauses."""
    while True:
        yield int(rng.integers(1, 200))
        yield from [0] * int(rng.integers(1, 40))


def use_stream(b: LoadedMachine, how: str) -> None:
    """Lets the in stream send with every beat at once, seldom, or in bursts."""
    source = b.host.source
    source.rate = 0.1 if how == "slow" else 1.0
    source.__dict__.pop("gaps", None)
    if how == "bursts":
        idle = bursts(b.rng)
        source.gaps = lambda: iter([None] * next(idle))  # type: ignore[method-assign]


async def compare(b: LoadedMachine, machine: Machine, start: int, stream: Sequence[Live], what: str) -> None:
    """Runs a program on both while `stream` is loaded, and compares packets and counters."""
    wanted = machine.run(start, stream=stream)
    sample_program(machine, start, wanted)
    run = await b.host.run((), start, live=live_packets(b.image.config, stream))
    outcome = Outcome()
    compare_counters(run, wanted, what, outcome)
    assert not outcome.messages, outcome.messages
    assert len(run.packets) == len(wanted.packets), f"{what}: {len(run.packets)} packets came"
    for index, (seen, expected) in enumerate(zip(run.packets, wanted.packets, strict=True)):
        differ = np.flatnonzero(seen != expected[0].reshape(-1))
        assert not len(differ), f"{what}: packet {index} differs at bytes {differ[:5]}"
        OUTCOME.compared_bytes += seen.size
    settings.report({"compared_bytes": OUTCOME.compared_bytes})


async def restore(b: LoadedMachine) -> None:
    """The network runs again, with its own tables."""
    use_stream(b, "full")
    await b.host.load(b.image.packets())
    await b.healthy()


@cocotb.test()
async def every_memory(dut: Any) -> None:
    """Each memory in turn comes while the program waits for it, and then all of them in any order; or before,
    while the program sends other words. Before, it holds zeros where the program looks.
    """
    b = await bench(dut)
    config = b.image.config
    streams = cycle(("full", "slow", "bursts"))
    for name, early in product((*memories(config), "all"), (False, True)):
        made, features = made_by_hand(b, MODES[int(b.rng.integers(len(MODES)))])
        sections = made.sections(features)
        fixed = [s for s in sections if name not in (s.memory, "all")]
        live = [s for s in sections if name in (s.memory, "all")]
        live = [live[i] for i in b.rng.permutation(len(live))]
        first: list[Legal] = [Out(0, config.feature_depth - UNUSED, UNUSED)] if early else []
        start = made.start - 2 - len(first)
        prologue = program(start, *first, Wait(len(live)), Jump(made.start))
        blank = [Section(s.memory, s.address, np.zeros_like(s.words), s.bank) for s in live]
        before = [*fixed, *blank, prologue]
        machine = model_of(b, before)
        use_stream(b, "full")
        await b.host.load(plain_packets(config, before))
        use_stream(b, how := "full" if early else next(streams))
        await compare(b, machine, start, live, f"{name} comes live, early {early}, stream {how}")
        wanted = made.planes(features)
        for bank in range(config.group):
            seen = machine.read_feature(bank, 0, made.end)[0]
            assert (seen == wanted[bank]).all(), f"{name}: bank {bank}: the model differs"
    await restore(b)


@cocotb.test()
async def inputs_behind_each_other(dut: Any) -> None:
    """A program that jumps back to its WAIT for every input: HOLDs keep the next one away from the words that
    layers still read. Without them the model refuses.
    """
    b = await bench(dut)
    config = b.image.config
    b.host.sink.rate = 0.7
    for modes, how in zip(MODES, ("full", "full", "bursts", "slow"), strict=True):
        made, features = made_by_hand(b, modes)
        inputs = [b.rng.permutation(features.reshape(-1)).reshape(features.shape) for _ in range(3)]
        sections, stream = endless(made, inputs, holds=True)
        before = [*made.sections(features), *sections]
        use_stream(b, "full")
        await b.host.load(plain_packets(config, before))
        use_stream(b, how)
        machine = model_of(b, before)
        with pytest.raises(LiveUseError):
            model_of(b, before).run(made.start - 2, stream=endless(made, inputs, holds=False)[1])
        await compare(b, machine, made.start - 2, stream, f"modes {modes}, stream {how}")
    await restore(b)


@cocotb.test()
async def words_beside_results(dut: Any) -> None:
    """Words come for every bank while layers write their results to the same banks. Both are right, and the
    layers take no longer.
    """
    b = await bench(dut)
    config = b.image.config
    for modes in MODES * 2:
        made, features = made_by_hand(b, modes)
        before = made.sections(features)
        depth = min(config.feature_depth - made.end, 40)
        values = b.rng.integers(-128, 128, (config.group, depth, config.size))
        cuts = [0, *sorted(b.rng.choice(np.arange(1, depth), 3, replace=False).tolist()), depth]
        stream = [
            Section("FEATURE", made.end + begin, values[bank, begin:end, :, None], bank)
            for bank in b.rng.permutation(config.group).tolist()
            for begin, end in pairwise(cuts)
        ]
        machine = model_of(b, before)
        await b.host.load(plain_packets(config, before))
        await compare(b, machine, made.start, stream, f"modes {modes}")
        seen = await b.features()
        for bank in range(config.group):
            assert (seen[bank][made.end : made.end + depth] == values[bank]).all(), f"bank {bank}"
    await restore(b)


async def wait_for_one(b: LoadedMachine, at: int, delay: int, item: Packet) -> tuple[int, int]:
    """Runs WAIT, END at program word `at`, and begins to send a packet `delay` cycles after START was
    answered. Returns LOAD_WAIT_CYCLES, and what it must be.
    """
    host = b.host
    starting = cocotb.start_soon(host.start(at))
    for _ in range(2):  # PROGRAM_START, then CONTROL, whose answer comes a cycle after it was taken
        await RisingEdge(host.dut.s_axil_bvalid)
    taken = int(get_sim_time("ns")) // PERIOD_NS - 1
    await ClockCycles(host.dut.clk, delay)
    await host.source.send(item.beats)
    came = int(get_sim_time("ns")) // PERIOD_NS - 1  # the edge that ends the last beat's cycle
    await starting
    await host.wait_done()
    seen = await host.counters()
    assert seen.cycles - seen.load_wait_cycles == 5, f"WAIT and END took {seen}"
    return seen.load_wait_cycles, max(0, came + VISIBLE - taken - FIRST_WAIT)


def at_the_end(b: LoadedMachine, words: int) -> Section:
    """Random pixels for the last words of bank 0."""
    config = b.image.config
    return Section(
        "FEATURE", config.feature_depth - words, b.rng.integers(-128, 128, (words, config.size, 1))
    )


def small_program(b: LoadedMachine, *records: Legal) -> Section:
    """A program behind that of the network."""
    return program(len(b.image.section("PROGRAM").words), *records)


@cocotb.test()
async def cycles_of_a_wait(dut: Any) -> None:
    """LOAD_WAIT_CYCLES has every cycle from the first of the WAIT to the one in which its packet is seen,
    whenever it comes. Packets that came before START do not count.
    """
    b = await bench(dut)
    config = b.image.config
    waits = small_program(b, Wait(1), End())
    await b.host.load(plain_packets(config, [waits]))
    spare = Section(
        "FEATURE", config.feature_depth - SPARE, b.rng.integers(-128, 128, (SPARE, config.size, 1))
    )
    (item,) = live_packets(config, [spare])
    waited = set()
    for delay in (*range(12), 100):
        # no program runs: nothing counts, nothing is held
        await b.host.load([item, hold_packet(config, Hold(3))])
        seen, wanted = await wait_for_one(b, waits.address, delay, item)
        assert seen == wanted, f"delay {delay}: LOAD_WAIT_CYCLES is {seen}, expected {wanted}"
        waited.add(wanted)
    assert len(waited) > 6, f"the packets came too much alike: {sorted(waited)}"

    both = small_program(b, Out(0, 0, 8), Wait(1), End())
    machine = model_of(b, [both])
    await b.host.load(plain_packets(config, [both]))
    expected = machine.run(both.address, stream=[spare])
    run = await b.host.run((), both.address, live=[item])
    assert run.counters.load_wait_cycles == 0, f"the packet had come: {run.counters}"
    assert run.counters.cycles - run.counters.stall_cycles == expected.cycles
    seen_words = (await b.features())[0][-SPARE:]
    assert (seen_words == spare.words[:, :, 0]).all(), "words that a live packet brought"
    await restore(b)


async def busy_for_ever(b: LoadedMachine) -> None:
    """A program runs a layer and then waits for more packets than will come."""
    layer = b.image.section("PROGRAM").words[:1].copy()
    layer[0, 0, memories(b.image.config)["PROGRAM"].index("gap")] = 0
    waits = small_program(b, Wait(9), End())
    records = Section("PROGRAM", waits.address, np.concatenate([layer, waits.words]))
    await b.host.load(plain_packets(b.image.config, [records]))
    await b.host.start(waits.address)


@cocotb.test()
async def bad_live_packets(dut: Any) -> None:
    """Each rule of a HOLD and of a live packet broken, while no program runs and while one waits. The words
    that came whole are written, and no others.
    """
    b = await bench(dut)
    config = b.image.config
    depth, none = config.feature_depth, len(memories(config))
    legal = live_packets(
        config, [Section("FEATURE", depth - 2, b.rng.integers(-128, 128, (2, config.size, 1)))]
    )
    words = legal[0].beats
    cases = {
        "HOLD of no layers": (ErrorCode.LOAD_RANGE, HOLD, beats_of(header_beat(HOLD, 0, 0, 0))),
        "HOLD with an address": (ErrorCode.LOAD_RANGE, HOLD, beats_of(header_beat(HOLD, 0, 1, 1))),
        "HOLD with a far address": (ErrorCode.LOAD_RANGE, HOLD, beats_of(header_beat(HOLD, 0, 1, 1 << 31))),
        "HOLD with a bank": (ErrorCode.LOAD_DESTINATION, HOLD, beats_of(header_beat(HOLD, 1, 1, 0))),
        "HOLD that goes on": (ErrorCode.LOAD_LONG, HOLD, beats_of(header_beat(HOLD, 0, 1, 0), 1, 2)),
        "HOLD of no layers that goes on": (
            ErrorCode.LOAD_RANGE,
            HOLD,
            beats_of(header_beat(HOLD, 0, 0, 0), 1),
        ),
        "no memory": (
            ErrorCode.LOAD_DESTINATION,
            none | LIVE,
            beats_of(header_beat(none | LIVE, 0, 1, 0), 1),
        ),
        "destination 14": (ErrorCode.LOAD_DESTINATION, 14 | LIVE, beats_of(header_beat(14 | LIVE, 0, 1, 0))),
        "no bank": (
            ErrorCode.LOAD_DESTINATION,
            LIVE,
            beats_of(header_beat(LIVE, config.group, 1, 0), *from_beats(words[1:])),
        ),
        "no words": (ErrorCode.LOAD_RANGE, LIVE, beats_of(header_beat(LIVE, 0, 0, 0), 1)),
        "past the end": (ErrorCode.LOAD_RANGE, LIVE, beats_of(header_beat(LIVE, 0, 2, depth - 1), 1)),
        "a header alone": (ErrorCode.LOAD_SHORT, LIVE, words[:1]),
        "a word too few": (ErrorCode.LOAD_SHORT, LIVE, words[: 1 + len(words) // 2]),
        "a word too many": (ErrorCode.LOAD_LONG, LIVE, np.concatenate([words, words[1:2]])),
    }
    b.host.source.patience = 2 * b.expected.run.cycles
    for running in (False, True):
        for name, (code, info, beats) in cases.items():
            cocotb.log.info("bad live packet: %s, %s", name, "a program runs" if running else "idle")
            await b.host.load([packet(memories(config)["FEATURE"], blank_end(config))])
            if running:
                await busy_for_ever(b)
            with pytest.raises(MachineStoppedError):
                await b.host.load([Packet(beats)])
            await b.recover(code, info)
            seen = (await b.features())[0][-2:]
            whole = {"a word too few": 1, "a word too many": 2}.get(name, 0)
            wanted = np.zeros_like(seen)
            wanted[:whole] = words[1:].view(np.int8).reshape(2, -1)[:whole, : config.size]
            assert (seen == wanted).all(), f"{name}: {whole} words are to be written"
        await b.healthy()
    plain = beats_of(header_beat(HOLD & ~LIVE, 0, 1, 0))
    with pytest.raises(MachineStoppedError):
        await b.host.load([Packet(plain)])
    await b.recover(ErrorCode.LOAD_DESTINATION, HOLD & ~LIVE)
    await b.healthy()


def blank_end(config: ArrayConfig) -> Section:
    """Zeros for the last two words of bank 0."""
    return Section("FEATURE", config.feature_depth - 2, np.zeros((2, config.size, 1), np.int64))


@cocotb.test()
async def bad_waits_and_jumps(dut: Any) -> None:
    """WAIT for nothing, JUMP out of the memory, OUT and END that follow a gap behind a WAIT or a JUMP: RTL
    and model stop with the same code, information and cycles.
    """
    b = await bench(dut)
    config = b.image.config
    made, features = made_by_hand(b, (SUM,))
    tables = made.sections(features)
    layer = made.program()[0]
    layer[0, memories(config)["PROGRAM"].index("gap")] = 1
    at = made.start - 8  # the hand-made program itself is not run
    behind = Section("PROGRAM", at, layer[None])
    spare = Section("FEATURE", config.feature_depth - 1, np.ones((1, config.size, 1), np.int64))
    cases: dict[str, tuple[list[Section], list[Live], ErrorCode, int]] = {
        "WAIT 0": ([program(at, Wait(0), End())], [], ErrorCode.PROGRAM_FIELD, at),
        "JUMP behind the end": (
            [program(at, Jump(config.program_depth))],
            [],
            ErrorCode.PROGRAM_RANGE,
            config.program_depth,
        ),
        "JUMP far behind the end": ([program(at, Jump(65535))], [], ErrorCode.PROGRAM_RANGE, 65535),
        "gap, WAIT, END": (
            [behind, program(at + 1, Wait(1), End())],
            [spare],
            ErrorCode.PROGRAM_FIELD,
            at + 2,
        ),
        "gap, JUMP, OUT": (
            [behind, program(at + 1, Jump(at + 3)), program(at + 3, Out(0, 0, 1), End())],
            [],
            ErrorCode.PROGRAM_FIELD,
            at + 3,
        ),
        "gap, WAIT 0": ([behind, program(at + 1, Wait(0))], [], ErrorCode.PROGRAM_FIELD, at + 1),
        "gap, JUMP, WAIT, JUMP, END": (
            [behind, program(at + 1, Jump(at + 3)), program(at + 3, Wait(1), Jump(at + 5), End())],
            [spare],
            ErrorCode.PROGRAM_FIELD,
            at + 5,
        ),
    }
    for name, (sections, stream, code, info) in cases.items():
        machine = model_of(b, [*tables, *sections])
        with pytest.raises(ProgramError) as caught:
            machine.run(at, stream=stream)
        assert (caught.value.code, caught.value.info) == (code, info), f"{name}: {caught.value}"
        sample_program(machine, at, caught.value)
        await b.host.load(plain_packets(config, [*tables, *sections]))
        with pytest.raises(MachineStoppedError):
            await b.host.run((), at, live=live_packets(config, stream))
        seen = await b.host.counters()
        cycles = seen.cycles - seen.stall_cycles - seen.load_wait_cycles
        assert cycles == caught.value.cycles, f"{name}: {cycles} cycles, expected {caught.value.cycles}"
        await b.recover(code, info)
    await restore(b)


@cocotb.test()
async def deadlocks(dut: Any) -> None:
    """A WAIT whose packets cannot come: behind a HOLD for a layer that has not run, or behind a packet
    that is not live. What the stream offers is taken after the soft reset.
    """
    b = await bench(dut)
    config = b.image.config
    made, features = made_by_hand(b, (SUM,))
    tables = made.sections(features)
    layer = made.program()[:1]  # its gap is 0
    gapped = layer.copy()
    gapped[0, 0, memories(config)["PROGRAM"].index("gap")] = 1
    at = made.start - 8
    spare = at_the_end(b, 2)
    live, plain = live_packets(config, [spare])[0], plain_packets(config, [spare])[0]
    programs = {
        "at once": ([program(at, Wait(1), End())], 0),
        "behind a layer": ([Section("PROGRAM", at, layer), program(at + 1, Wait(1), End())], 1),
        "behind a gap": ([Section("PROGRAM", at, gapped), program(at + 1, Wait(1), End())], 1),
        "behind another packet": ([program(at, Wait(2), End())], 0),
    }
    for name, (sections, layers) in programs.items():
        for offered in (hold_packet(config, Hold(layers + 1)), plain):
            taken = [live] if "packet" in name else []
            await b.host.load(plain_packets(config, [*tables, *sections, blank_end(config)]))
            machine, ahead = model_of(b, [*tables, *sections]), ProgramRun()
            live_stream = LiveStream(machine, [spare] * len(taken))
            assert next(machine.steps(at, ahead, live_stream)).pc == at + layers
            follow_program(machine, at, ahead)
            await b.host.start(at)
            sending = cocotb.start_soon(
                b.host.source.send(*(p.beats for p in (*taken, offered, live)), patience=100_000)
            )
            with pytest.raises(MachineStoppedError):
                await b.host.wait_done(20_000)
            assert not sending.done(), f"{name}: the stream was taken"
            seen = await b.host.counters()
            if is_hold(offered):
                stream: list[Live] = [*([spare] * len(taken)), Hold(layers + 1), spare]
                machine = model_of(b, [*tables, *sections])
                with pytest.raises(ProgramError) as caught:
                    machine.run(at, stream=stream)
                wanted = caught.value
                assert wanted.code == ErrorCode.DEADLOCK
                sample_program(machine, at, wanted)
                waits = seen.cycles - seen.stall_cycles - seen.load_wait_cycles
                assert waits == wanted.cycles, f"{name}: {waits} cycles less waits, expected {wanted.cycles}"
            await b.recover(ErrorCode.DEADLOCK, at + layers, waiting=True)
            await sending
            await ClockCycles(dut.clk, 4)
            assert ((await b.features())[0][-2:] == spare.words[:, :, 0]).all(), f"{name}: the words behind"
    await restore(b)


def is_hold(offered: Packet) -> bool:
    return read_header(from_beats(offered.beats)[0]).destination == HOLD


@cocotb.test()
async def no_deadlock_while_layers_leave(dut: Any) -> None:
    """A HOLD for a layer that the sequencer has left, but whose words are not all written yet: the WAIT goes
    on when it has passed, and the words that come then are not overwritten by it.
    """
    b = await bench(dut)
    config = b.image.config
    for _ in range(4):
        made, features = made_by_hand(b, (SUM, SUM))
        tables, records = made.sections(features), made.program()  # the first layer has a gap, the other none
        at = made.start - 8
        sections = [
            Section("PROGRAM", at, records[:1]),
            program(at + 1, Wait(config.group)),
            Section("PROGRAM", at + 2, records[1:]),
        ]
        machine = model_of(b, [*tables, *sections])
        second = decode(records[1, 0])
        assert isinstance(second, Layer)
        end = min(np.flatnonzero(machine.writes(second).any(axis=0)).tolist(), default=made.end)
        words = b.rng.integers(-128, 128, (config.group, 1, config.size, 1))
        stream: list[Live] = [Hold(1)]
        for column in range(config.size - 1, config.size - 1 - config.group, -1):
            bank = column % config.group  # the last column's word is the last that is written
            stream.append(Section("FEATURE", end - 1, words[bank], bank))
        await b.host.load(plain_packets(config, [*tables, *sections]))
        await compare(b, machine, at, stream, "a HOLD for a layer with a gap")
        assert (await b.host.counters()).load_wait_cycles > 0
    await restore(b)


@cocotb.test()
async def a_hold_for_a_layer_that_has_passed(dut: Any) -> None:
    """It is taken as soon as any live packet is: in the second cycle of its offer."""
    b = await bench(dut)
    config = b.image.config
    made, features = made_by_hand(b, (SUM,))
    at = made.start - 4
    before = [
        *made.sections(features),
        Section("PROGRAM", at, made.program()[:1]),
        program(at + 1, Wait(1), End()),
    ]
    machine = model_of(b, before)
    stream: list[Live] = [Hold(1), at_the_end(b, 1)]
    wanted = machine.run(at, stream=stream)
    sample_program(machine, at, wanted)
    await b.host.load(plain_packets(config, before))
    await b.host.start(at)
    await ClockCycles(dut.clk, wanted.cycles + 100)
    hold, item = live_packets(config, stream)
    await b.host.source.send(hold.beats, item.beats, patience=2)
    await b.host.wait_done()
    seen = await b.host.counters()
    assert seen.cycles - seen.load_wait_cycles == wanted.cycles
    assert seen.load_wait_cycles > 90
    await restore(b)


@cocotb.test()
async def packets_that_are_not_live(dut: Any) -> None:
    """A packet that is not live waits for the end of a program, and live ones behind it wait with it."""
    b = await bench(dut)
    config = b.image.config
    waits = small_program(b, Wait(1), Out(0, 0, 8), End())
    words = b.rng.integers(-128, 128, (3, config.size, 1))
    live, plain, last = (Section("FEATURE", config.feature_depth - 3 + i, words[i : i + 1]) for i in range(3))
    await b.host.load(plain_packets(config, [waits]))
    stream = [*live_packets(config, [live]), *plain_packets(config, [plain]), *live_packets(config, [last])]
    run = await b.host.run((), waits.address, live=stream)
    assert run.counters.load_wait_cycles > 0
    assert ((await b.features())[0][-3:] == words[:, :, 0]).all()
    await restore(b)


@cocotb.test()
async def records_around_a_wait(dut: Any) -> None:
    """Each record directly behind each other, with packets that come early or late for a WAIT among them."""
    b = await bench(dut)
    config = b.image.config
    made, features = made_by_hand(b, (SUM,))
    layer = decode(made.program()[0, 0])
    assert isinstance(layer, Layer)
    records: dict[str, Legal] = {"LAYER": layer, "OUT": Out(0, 0, 2), "WAIT": Wait(1)}
    at = made.start - 12
    short, long = at_the_end(b, 1), at_the_end(b, 8)
    await b.host.load(plain_packets(config, made.sections(features)))
    for first in (None, "LAYER", "OUT", "WAIT", "JUMP"):
        for second in ("LAYER", "OUT", "END", "WAIT", "JUMP"):
            for early in (False, True):
                names = [name for name in (first, second) if name]
                program_records: list[Legal] = [Out(0, 0, SOURCE)] if early else []
                for name in names:
                    here = at + len(program_records)
                    program_records.append(Jump(here + 1) if name == "JUMP" else records.get(name, End()))
                program_records.append(End())
                waits = names.count("WAIT")
                section = program(at, *program_records)
                machine = model_of(b, [*made.sections(features), section])
                await b.host.load(plain_packets(config, [section]))
                what = f"{names}, packets {'early' if early else 'late'}"
                await compare(b, machine, at, [short if early else long] * waits, what)
    await restore(b)


@cocotb.test()
async def resets(dut: Any) -> None:
    """Both kinds of reset while a WAIT waits, inside a live packet, while a HOLD is offered, and when packets
    have come that no WAIT has taken: nothing is left of the counts.
    """
    b = await bench(dut)
    config, host = b.image.config, b.host
    spare = Section(
        "FEATURE", config.feature_depth - SPARE, b.rng.integers(-128, 128, (SPARE, config.size, 1))
    )
    (item,) = live_packets(config, [spare])
    half = 1 + (len(item.beats) - 1) // 2
    one = small_program(b, Wait(1), End())
    for hard in (False, True):
        for where in ("WAIT", "inside a packet", "HOLD", "packets left"):
            made, features = made_by_hand(b, (SUM, MAXIMUM))
            before = [*made.sections(features), program(made.start - 1, Wait(2))]
            await host.load(plain_packets(config, before))
            if where != "HOLD":
                await host.start(made.start - 1)
            sending = None
            if where == "WAIT":
                await ClockCycles(dut.clk, 10)
                if settings.simulator() == "icarus":
                    await ReadOnly()
                    assert STATES[int(sequencer(dut).state_reg.value)] == "WAIT"
                    await RisingEdge(dut.clk)
            elif where == "inside a packet":
                await host.source.send(item.beats[:half], last=False)
                assert (await host.read("STATUS")) & 3 == 3, "BUSY and LOADING"
                with pytest.raises(RegisterError):
                    await host.write("CONTROL", START)
            elif where == "packets left":
                await host.source.send(item.beats)
            else:
                await host.start(made.start)  # its layers run, and the HOLD is for more of them
                held = hold_packet(config, Hold(3)).beats
                sending = cocotb.start_soon(host.source.send(held, patience=100_000))
                await ClockCycles(dut.clk, 30)
                assert not sending.done()
            if hard:
                host.source.stop()
                host.sink.watch = False
                await host.reset()
            else:
                await host.soft_reset()
                if where == "inside a packet":
                    await host.source.send(item.beats[half:])
            if sending is not None:
                await sending
            for name in ("STATUS", "ERROR", "IRQ_STATUS", "CYCLES", "LOAD_WAIT_CYCLES"):
                assert await host.read(name) == 0, f"{name} after a reset, {where}"
            await host.load(plain_packets(config, [one]))
            seen, wanted = await wait_for_one(b, one.address, 40, item)
            assert seen == wanted > 0, f"{where}: a WAIT waited {seen} cycles, expected {wanted}"
            await restore(b)
