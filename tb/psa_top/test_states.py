"""Resets, refused starts and offered packets in every state of the sequencer, and programs and tap tables
that no compiler writes.

The array model gives the expected results: the cycle in which the sequencer is in each state, and the result
of a program that belongs to no network.
"""

from __future__ import annotations

from typing import Any

import cocotb
import numpy as np
import pytest
from cocotb.triggers import ClockCycles, FallingEdge, ReadOnly, RisingEdge, Timer
from cocotb.utils import get_sim_time

from pymodel.compiler.agreement import loaded
from pymodel.machine.config import HALO, XOR_COUNT_BITS
from pymodel.machine.errors import ErrorCode
from pymodel.machine.faults import ProgramError
from pymodel.machine.live import LiveStream
from pymodel.machine.memory import Section, Words, columns, from_beats, memories, packet, slot_row
from pymodel.machine.model import Machine
from pymodel.machine.program import MAXIMUM, SUM, End, Layer, Wait, encode_all
from pymodel.machine.runs import ProgramRun
from pymodel.machine.slot_rows import row_length, slot_words
from tb.common import settings
from tb.common.clock import PERIOD_NS
from tb.common.inside import sequencer
from tb.coverage.observe import STATES
from tb.coverage.sample import StateTimeline, follow_program, sample_program
from tb.debug.suspect import Attempt, copy_of
from tb.plain.check import Outcome, compare_counters
from tb.plain.host import MachineStoppedError, RegisterError
from tb.psa_top.handmade import HandMade
from tb.psa_top.test_errors import OUTCOME, LoadedMachine, bench

# A register write takes some cycles, so it is begun earlier by that number of cycles.
LEAD = 12
MODES = (  # of the layers of hand-made programs, which change in each direction
    (MAXIMUM,),
    (SUM, MAXIMUM, SUM),
    (MAXIMUM, SUM, MAXIMUM, MAXIMUM),
    (SUM, SUM, MAXIMUM),
    (MAXIMUM, SUM),
    (SUM, MAXIMUM, MAXIMUM, SUM),
)


def model(b: LoadedMachine) -> Machine:
    """The array model with the network and its input, in the state in which `bench` leaves the machine after
    `load_input`.
    """
    return loaded(b.image, b.expected.tensors["input"][:1])


async def load_input(b: LoadedMachine) -> None:
    await b.host.load(b.image.tensor_packets("input", b.expected.tensors["input"][0]))


def cycle_in(timeline: StateTimeline, state: str, rng: np.random.Generator) -> int:
    """A cycle in which the sequencer is in a state, far enough after START."""
    cycles = [c for c in range(LEAD, int(timeline.ends[-1])) if timeline.at(c) == state]
    return int(rng.choice(cycles))


async def start_and_wait(b: LoadedMachine, cycle: int) -> int:
    """Starts the network and returns `cycle` cycles after START was taken. Returns that time in ns."""
    host = b.host
    starting = cocotb.start_soon(host.start(b.image.run_start))
    for _ in range(2):  # PROGRAM_START, then CONTROL
        await RisingEdge(host.dut.s_axil_bvalid)
    taken = int(get_sim_time("ns"))
    await starting
    await ClockCycles(host.dut.clk, cycle - (int(get_sim_time("ns")) - taken) // PERIOD_NS)
    return taken


async def write_latency(b: LoadedMachine) -> int:
    """Cycles from the call of a register write to its answer."""
    called = int(get_sim_time("ns"))
    writing = cocotb.start_soon(b.host.write("IRQ_ENABLE", 3))
    await RisingEdge(b.host.dut.s_axil_bvalid)
    answered = int(get_sim_time("ns"))
    await writing
    return (answered - called) // PERIOD_NS


async def fail(b: LoadedMachine) -> None:
    """Runs into an illegal opcode, so that the sequencer is in ERROR. The PROGRAM word after the network's is
    overwritten for that.
    """
    spec, at = memories(b.image.config)["PROGRAM"], len(b.image.section("PROGRAM").words)
    words = spec.zeros(1)
    section = Section("PROGRAM", at, words)
    machine = model(b)
    machine.load([section])
    with pytest.raises(ProgramError) as caught:
        machine.run(at)
    sample_program(machine, at, caught.value)
    await b.host.load([packet(spec, section)])
    await b.host.start(at)
    with pytest.raises(MachineStoppedError):
        await b.host.wait_done()


async def wait_for_ever(b: LoadedMachine) -> None:
    """Starts a program that waits for a packet that never comes, in the PROGRAM word after the network's."""
    at = len(b.image.section("PROGRAM").words)
    section = Section("PROGRAM", at, encode_all([Wait(1)]))
    machine, run = model(b), ProgramRun()
    machine.load([section])
    assert next(machine.steps(at, run, LiveStream(machine))).pc == at
    follow_program(machine, at, run)
    await b.host.load([packet(memories(b.image.config)["PROGRAM"], section)])
    await b.host.start(at)
    await ClockCycles(b.host.dut.clk, LEAD)


async def check_state(dut: Any, state: str) -> None:
    """Checks that the sequencer is in the state of the model. Only Icarus shows the inside."""
    if settings.simulator() == "icarus":
        await ReadOnly()
        seen = STATES[int(sequencer(dut).state_reg.value)]
        assert seen == state, f"the sequencer is in {seen}, the model in {state}"


@cocotb.test()
async def reset_in_every_state(dut: Any) -> None:
    """Soft reset by CONTROL and hard reset by the pin, in each state. Afterwards nothing is left of the run,
    and the network runs as usual.
    """
    b = await bench(dut)
    timeline = StateTimeline.of(model(b), b.image.run_start, b.expected.run)
    await b.healthy()
    latency = await write_latency(b)
    for hard in (False, True):
        for state in STATES:
            await load_input(b)
            if state == "ERROR":
                await fail(b)
            elif state == "WAIT":
                await wait_for_ever(b)
            elif state != "IDLE":
                cycle = cycle_in(timeline, state, b.rng)
                await start_and_wait(b, cycle if hard else cycle - latency)
            if hard:
                cocotb.start_soon(check_state(dut, state))
                b.host.sink.watch = False
                dut.rst.value = 1
                await b.host.reset()
            else:
                await b.host.soft_reset()
            for name in ("STATUS", "ERROR", "IRQ_STATUS", "CYCLES", "WORDS"):
                assert await b.host.read(name) == 0, (
                    f"{name} after a {'hard' if hard else 'soft'} reset in {state}"
                )
            await b.healthy()


@cocotb.test()
async def start_in_every_state(dut: Any) -> None:
    """START while a program runs or an error stands is refused, and does not change the run."""
    b = await bench(dut)
    timeline = StateTimeline.of(model(b), b.image.run_start, b.expected.run)
    latency = await write_latency(b)
    for state in ("RUN", "DRAIN", "OUT"):
        await load_input(b)
        await start_and_wait(b, cycle_in(timeline, state, b.rng) - latency)
        with pytest.raises(RegisterError):
            await b.host.write("CONTROL", 1)
        await finish(b)
    await fail(b)
    with pytest.raises(RegisterError):
        await b.host.write("CONTROL", 1)
    await b.host.soft_reset()
    await b.healthy()


@cocotb.test()
async def packets_wait_while_a_program_runs(dut: Any) -> None:
    """A packet that is offered while a program runs is taken afterwards. It does not change the run, and it
    is not lost.
    """
    b = await bench(dut)
    timeline = StateTimeline.of(model(b), b.image.run_start, b.expected.run)
    b.host.source.patience = 2 * b.expected.run.cycles
    for state in ("RUN", "OUT"):
        await load_input(b)
        beats, pixels = b.feature_packet(0, 0, 2)
        await start_and_wait(b, cycle_in(timeline, state, b.rng) - 1)  # the source drives at the next edge
        sending = cocotb.start_soon(b.host.source.send(beats))
        await finish(b)
        await sending
        await ClockCycles(dut.clk, 4)
        assert ((await b.features())[0][:2] == pixels).all()
    await b.healthy()


@cocotb.test()
async def a_packet_in_the_cycle_of_start(dut: Any) -> None:
    """A header that is offered in the same cycle in which START takes effect waits for the end of the run."""
    b = await bench(dut)
    source = b.host.source
    source.patience = 2 * b.expected.run.cycles
    await load_input(b)
    beats, pixels = b.feature_packet(0, 0, 2)
    starting = cocotb.start_soon(b.host.start(b.image.run_start))
    for _ in range(2):  # PROGRAM_START, then CONTROL, which is answered in the cycle of START
        await RisingEdge(dut.s_axil_bvalid)
    source.valid.value, source.data.value, source.last.value = 1, from_beats(beats)[0], 0
    await RisingEdge(dut.clk)
    assert source.ready.value == 0, "a packet begins in the cycle of START"
    sending = cocotb.start_soon(source.send(beats))
    await starting
    await finish(b)
    await sending
    await ClockCycles(dut.clk, 4)
    assert ((await b.features())[0][:2] == pixels).all()
    await b.healthy()


async def finish(b: LoadedMachine) -> None:
    """Waits for the end of the network's run, and compares what it sent and counted."""
    await b.host.wait_done()
    await b.host.sink.drained()
    seen = await b.host.counters()
    assert seen.cycles - seen.stall_cycles == b.expected.run.cycles
    for sent, wanted in zip(b.host.sink.take(), b.expected.run.packets, strict=True):
        assert sent == wanted[0].tobytes()


async def compare(b: LoadedMachine, machine: Machine, start: int, what: str) -> None:
    """Runs a program on both, and compares packets and counters."""
    before = copy_of(machine)
    wanted = machine.run(start)
    sample_program(machine, start, wanted)
    with Attempt(lambda: before, start, b.image) as attempt:
        run = await b.host.run((), start)
        attempt.ended()
        outcome = Outcome()
        compare_counters(run, wanted, what, outcome)
        assert not outcome.messages, outcome.messages
        assert len(run.packets) == len(wanted.packets), (
            f"{what}: {len(run.packets)} packets came, expected {len(wanted.packets)}"
        )
        for index, (seen, expected) in enumerate(zip(run.packets, wanted.packets, strict=True)):
            differ = np.flatnonzero(seen != expected[0].reshape(-1))
            assert not len(differ), f"{what}: packet {index} differs at bytes {differ[:5]}"
            OUTCOME.compared_bytes += seen.size
    settings.report({"compared_bytes": OUTCOME.compared_bytes})


@cocotb.test()
async def records_in_any_order(dut: Any) -> None:
    """Programs that no compiler writes.

    END alone, OUT before and between layers with words that wait, a layer with no OUT after it.
    """
    b = await bench(dut)
    b.host.sink.rate = 0.5
    await load_input(b)
    machine = model(b)
    spec, records = memories(b.image.config)["PROGRAM"], b.image.section("PROGRAM").words
    layer, out = records[0].copy(), records[len(b.image.layers)]
    layer[0, spec.index("gap")] = 0
    first = layer.copy()  # the same layer again does not read what this one writes
    first[0, spec.index("gap")] = 1
    end = encode_all([End()])[0]
    for program in (
        [end],
        [layer, end],
        [out, layer, out, out, layer, end],
        [layer, layer, out, end],
        [first, layer, out, end],
    ):
        section = Section("PROGRAM", len(records), np.stack(program))
        machine.load([section])
        await b.host.load([packet(spec, section)])
        await compare(b, machine, len(records), f"opcodes {[int(record[0, 0]) for record in program]}")
    await compare(b, machine, b.image.dump_start, "all tensors after them")


@cocotb.test()
async def taps_of_every_reach(dut: Any) -> None:
    """Taps that reach up to sixteen pixels over every edge. A convolution's own taps never reach that far.

    Each reaches at least as far as before in the same direction. If less were masked than by the compiler, a
    layer might read words that it writes itself, and such a program is not defined (docs/machine.md,
    "Invariants").
    """
    b = await bench(dut)
    await load_input(b)
    machine = model(b)
    spec, words = memories(b.image.config)["TAP"], b.image.section("TAP").words
    for turn in range(6):
        changed = words.copy()
        for reach in (columns("TAP", changed).dy, columns("TAP", changed).dx):
            away = np.where(reach == 0, b.rng.choice((-1, 1), reach.shape), np.sign(reach))
            farthest = np.where(away < 0, HALO + 1, HALO)
            reach[:] = away * b.rng.integers(np.abs(reach), farthest + 1)
        section = Section("TAP", 0, changed)
        machine.load([section])
        await b.host.load([packet(spec, section)])
        await compare(b, machine, b.image.run_start, f"taps {turn}")
        await compare(b, machine, b.image.dump_start, f"taps {turn}, all tensors")


@cocotb.test()
async def layers_of_sums_and_of_maxima(dut: Any) -> None:
    """Hand-made programs whose layers follow each other after one cycle: any pad, zero point and clamps, taps
    of every reach, several chunks, tiles and passes, weights of every kind. The planes are those of a
    computation that knows nothing of the model.
    """
    b = await bench(dut)
    config = b.image.config
    for modes in MODES * 2:
        made = HandMade(config, b.rng, modes)
        features = b.rng.integers(-128, 128, (config.group, made.end, config.size)).astype(np.int8)
        sections = made.sections(features)
        machine = model(b)
        machine.load(sections)
        wanted = made.planes(features)
        await b.host.load(packet(memories(config)[s.memory], s) for s in sections)
        await compare(b, machine, made.start, f"layers of modes {modes}")
        for bank in range(config.group):
            seen = machine.read_feature(bank, 0, made.end)[0]
            assert (seen == wanted[bank]).all(), f"modes {modes}, bank {bank}: the model differs"
    await b.host.load(b.image.packets())
    await b.healthy()


@cocotb.test()
async def errors_of_the_last_lane(dut: Any) -> None:
    """A layer of one word whose last lane is bad. The sequencer has issued everything when the error is
    found.
    """
    b = await bench(dut)
    config, specs = b.image.config, memories(b.image.config)
    t, program = config.size, len(b.image.section("PROGRAM").words)
    last = {name: specs[name].depth - 1 for name in ("TILE", "GROUP", "TAP", "FILTER")}
    lane, first_filter = config.lane_depth - t, config.filter_depth - t

    rows = slot_words(config, slot_row(config).zeros(t))

    def sections(
        group: int, tap: int, base: int, bank: int, slot_base: int = lane, slots: Words = rows
    ) -> list[Section]:
        """One pass of one tile. All lanes are empty except the last, which names `group`, and every filter
        writes to `bank`.
        """
        words = {name: specs[name].zeros(1) for name in ("PROGRAM", "TILE", "GROUP", "TAP")}
        layer = Layer(1, 1, 1, 0, 0, tap_base=last["TAP"], tap_stride=0, tile_base=last["TILE"], tiles=1)
        words["PROGRAM"][0, 0] = layer.encode()
        words["TILE"][0, 0] = (lane, 1, first_filter, slot_base)
        words["GROUP"][0, 0] = (1, base, tap)
        columns("TAP", words["TAP"]).offset[0] = 1  # the read begins a pixel after the word
        lanes, filters = specs["LANE"].zeros(t), specs["FILTER"].zeros(t)
        lanes[-1] = group
        columns("FILTER", filters).write[:], columns("FILTER", filters).bank[:] = 1, bank
        at = {"PROGRAM": program} | last
        return [
            *(Section(name, at[name], word) for name, word in words.items()),
            Section("LANE", lane, lanes),
            Section("SLOT", slot_base, slots),
            Section("FILTER", first_filter, filters),
        ]

    cases = {
        ErrorCode.TAP_RANGE: sections(last["GROUP"], 1, 0, 0),
        ErrorCode.FEATURE_READ: sections(last["GROUP"], 0, config.feature_depth - 1, 0),
        ErrorCode.FEATURE_WRITE: sections(0, 0, 0, 15),
    }
    if config.group_depth < 1 << config.group_id_bits:
        cases[ErrorCode.GROUP_RANGE] = sections(config.group_depth, 0, 0, 0)
    if config.group > 15:
        del cases[ErrorCode.FEATURE_WRITE]  # every bank that a filter can name is there
    if config.xor_inputs:
        # the last row begins with an illegal count of patches, and it needs a word that the memory does not
        # have
        broken = rows.copy()
        broken.reshape(-1)[(t - 1) * row_length(config, 0) + np.arange(XOR_COUNT_BITS)] = (1, 0, 1)
        cases[ErrorCode.SLOT_CODE] = sections(0, 0, 0, 0, slots=broken)
        cases[ErrorCode.SLOT_RANGE] = sections(0, 0, 0, 0, config.lane_depth - len(rows) + 1, rows[:-1])
    for code, spoilt in cases.items():
        machine = model(b)
        machine.load(spoilt)
        with pytest.raises(ProgramError) as caught:
            machine.run(program)
        assert caught.value.code == code
        sample_program(machine, program, caught.value)
        await b.host.load(packet(specs[s.memory], s) for s in spoilt)
        await b.host.start(program)
        with pytest.raises(MachineStoppedError):
            await b.host.wait_done()
        await b.recover(code, caught.value.info)
    await b.host.load(b.image.packets())
    await b.healthy()


INPUTS = (
    *("rst", "s_axil_awaddr", "s_axil_awvalid", "s_axil_wdata", "s_axil_wstrb", "s_axil_wvalid"),
    *("s_axil_bready", "s_axil_araddr", "s_axil_arvalid", "s_axil_rready"),
    *("s_axis_tdata", "s_axis_tvalid", "s_axis_tlast", "m_axis_tready"),
)
OUTPUTS = (
    *("s_axil_awready", "s_axil_wready", "s_axil_bresp", "s_axil_bvalid", "s_axil_arready", "s_axil_rdata"),
    *("s_axil_rresp", "s_axil_rvalid", "irq", "s_axis_tready"),
    *("m_axis_tdata", "m_axis_tvalid", "m_axis_tlast"),
)


@cocotb.test()
async def outputs_change_at_clock_edges_only(dut: Any) -> None:
    """Whatever an input does between two edges, no output follows it: not while packets are loaded, nor while
    a program runs and none, a live one or another one is offered.
    """
    b = await bench(dut)
    inputs = {name: getattr(dut, name) for name in INPUTS}
    outputs = {name: getattr(dut, name) for name in OUTPUTS}
    tried = dict.fromkeys(INPUTS, 0)

    def seen() -> dict[str, str]:
        return {name: str(pin.value) for name, pin in outputs.items()}

    async def between_edges() -> None:
        falls, moment = FallingEdge(dut.clk), Timer(1, "ns")
        while True:
            await falls
            name = str(b.rng.choice(INPUTS))
            pin, before = inputs[name], seen()
            driven = pin.value
            other = "".join(map(str, b.rng.integers(2, size=len(pin)).tolist()))
            pin.value = int(other, 2) ^ (other == str(driven))
            await moment
            after = seen()
            pin.value = driven
            tried[name] += 1
            followed = [f"{out}: {was} -> {after[out]}" for out, was in before.items() if after[out] != was]
            assert not followed, f"between two clock edges, {name} moved {', '.join(followed)}"

    probing = cocotb.start_soon(between_edges())
    b.host.source.patience = 2 * b.expected.run.cycles
    spec = memories(b.image.config)["FEATURE"]
    spare = Section("FEATURE", spec.depth - 1, spec.zeros(1))  # a word that the network does not use
    while min(tried.values()) < 20:
        for live in (False, True):
            await load_input(b)
            await b.host.start(b.image.run_start)
            sending = cocotb.start_soon(b.host.source.send(packet(spec, spare, live=live).beats))
            await finish(b)
            await sending
        await b.healthy()
    probing.cancel()
    await b.healthy()
    settings.report({"tried_between_edges": sum(tried.values())})
