"""The pyuvm environment on both simulators: its tests pass, and every path of its scoreboard fails when it
must.
"""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from pymodel.compiler.agreement import loaded
from pymodel.compiler.compile import clip_weights, compile_network
from pymodel.machine.config import CONFIGS
from pymodel.machine.errors import ErrorCode, TatamiError
from pymodel.machine.faults import ProgramError
from pymodel.machine.memory import HOLD, LIVE, Section, columns, from_beats, header_beat, memories, packet
from pymodel.machine.model import Machine
from pymodel.machine.program import End, Layer, Legal, Out, Wait, encode_all
from pymodel.machine.registers import REGISTERS
from pymodel.machine.timing import DRAIN_AHEAD, word_stage
from pymodel.zoo.random_network import random_program
from scripts import registers as page
from tb.common.bugs import Bug
from tb.common.loader import Loader
from tb.common.settings import Options
from tb.coverage.observe import STATES
from tb.env import faults, metamorphic
from tb.env.config import BACKPRESSURE, STREAMS, EnvConfig, RegisterKnobs, random_knobs
from tb.env.corners import corner_networks
from tb.env.event_queue import EventQueue
from tb.env.events import Access, Answer, Beat, Event, Level, Offer, Reset, Words
from tb.env.predictor import ResetSeen
from tb.env.progress import Progress
from tb.env.resets import ResetStates
from tb.env.scoreboard import Checker
from tb.flow import hunt, runner
from tb.flow.testlist import TESTS, TestSpec
from tb.plain.host import ERROR, SOFT_RESET, START

CONFIG = CONFIGS["4x2"]
ENV_TESTS = [name for name in TESTS if name.startswith("env_")]
# These clear or send whole banks again and again, which on Icarus would be most of their time.
WHOLE_BANKS = ("env_live", "env_packets", "env_programs")
SHALLOW = replace(CONFIG, name="4x2shallow", feature_depth=256)


def run(test: str, sim: str, seed: int = 1, config: str = "4x2", **options: Any) -> runner.RunResult:
    spec = TESTS[test]
    images = None if spec.images is None else 3 if sim == "verilator" else 1
    array = SHALLOW if sim == "icarus" and test in WHOLE_BANKS else CONFIGS[config]
    return runner.run(spec, sim, array, seed, options=Options(images=images) | Options(**options))


def check(outcome: runner.RunResult) -> dict[str, Any]:
    assert outcome.passed, f"{outcome.message}\nlog: {outcome.log}"
    result = outcome.result
    assert result["answers"] > 0
    assert result["mismatches"] == 0
    assert result["cycles"] == result["predicted_cycles"]
    return result


@pytest.mark.parametrize("test", ENV_TESTS)
def test_environment(sim: str, test: str) -> None:
    result = check(run(test, sim))
    if test == "env_registers":
        assert result["checks"] > 500
        return
    assert result["compared_bytes"] > 0
    assert result["cycles"] > 0
    assert result["edges"] > 0
    if test in ("env_streams", "env_busy"):
        assert result["late_writes"] > 10
        assert result["late_reads"] > 10
    if test in ("env_packets", "env_programs"):
        assert result["errors"] > 20
    if test == "env_metamorphic":
        assert result["planes_compared"] > 0
    if test == "env_digits":
        assert result["accuracy"] >= 0.9


@pytest.mark.parametrize("seed", range(2, 6))
def test_more_random_programs(seed: int) -> None:
    check(run("env_random", "verilator", seed))


@pytest.mark.parametrize("test", ["env_random", "env_programs", "env_resets"])
def test_environment_on_the_default_configuration(test: str) -> None:
    check(run(test, "verilator", config="16x8"))


# Fault -> the test that meets it, and what the scoreboard must say of it.
BUSY, RANDOM, RESETS = "env_busy", "env_random", "env_resets"
FOUND = {
    "silence": (RANDOM, "no bytes were compared"),
    "lost_packet": (RANDOM, "1 packets of it never came"),
    "extra_packet": (RANDOM, "that was not expected"),
    "flipped_byte": (
        RANDOM,
        r"layer \w+, filter \d+, .+ \(bank \d+, word \d+, pixel \d+\): expected -?\d+, seen -?\d+",
    ),
    "flipped_part": (
        RESETS,
        r"layer \w+, filter \d+, .+ \(bank \d+, word \d+, pixel \d+\): expected -?\d+, seen -?\d+",
    ),
    "short_packet": (RANDOM, r"\d+ bytes came, expected \d+"),
    "endless_packet": (RANDOM, "bytes of a packet without tlast|packets of it never came"),
    "flipped_beat": (
        RANDOM,
        r"layer \w+, filter \d+, .+ \(bank \d+, word \d+, pixel \d+\): expected -?\d+, seen -?\d+",
    ),
    "lost_beat": (RANDOM, "a packet began while an error stands"),
    "beat_while_busy": (RANDOM, "a packet began while a program runs"),
    "beat_in_reset": (RESETS, "a beat was taken in the cycle of a soft reset"),
    "lost_stall": ("env_streams", "read of CYCLES gave"),
    "lost_irq": (RANDOM, "irq did not rise"),
    "late_irq": (RANDOM, r"irq rose, expected to rise in cycle \d+"),
    "extra_irq": (RANDOM, "irq fell, which nothing explains"),
    "refused_write": (RANDOM, "was refused, expected the opposite"),
    "lost_access": (RANDOM, "an answer to a write that the host did not make"),
    "lost_answer": (RANDOM, "left over: 1 answers to writes"),
    **{
        f"read_{name}": (BUSY if name in ("IRQ_ENABLE", "ERROR") else "env_registers", f"read of {name} gave")
        for name in REGISTERS
    },
    faults.UNWRITTEN: (RANDOM, "expected nothing: the word was never written"),
}


def test_every_fault_has_a_test() -> None:
    assert {*faults.FAULTS, *faults.STIMULUS} == {*FOUND, faults.SHORT_RESET, faults.RESTLESS}


SEEDS = {"flipped_beat": 2}  # at 1 it is a bit of a word that the program does not read


@pytest.mark.parametrize("fault", FOUND)
def test_a_fault_is_found_and_named(fault: str) -> None:
    test, message = FOUND[fault]
    outcome = run(test, "verilator", seed=SEEDS.get(fault, 1), fault=fault)
    assert not outcome.passed
    assert_says(outcome, message)


@pytest.mark.icarus
@pytest.mark.parametrize(
    ("fault", "test", "message"),
    [
        (faults.UNWRITTEN, RANDOM, r"m_axis_tdata = X+.* while valid"),
        (faults.SHORT_RESET, RANDOM, r"is X"),
        (faults.RESTLESS, "env_streams", "m_axis_tdata changed while it waited"),
    ],
)
def test_x_and_a_restless_word_are_found(fault: str, test: str, message: str) -> None:
    outcome = run(test, "icarus", fault=fault)
    assert not outcome.passed
    assert_says(outcome, message)


def test_a_machine_that_was_never_reset_is_found(sim: str) -> None:
    assert not run(RANDOM, sim, fault=faults.SHORT_RESET).passed


PLANTED = [bug for bug in hunt.known_bugs() if bug.test in ENV_TESTS]


@pytest.mark.parametrize(
    "bug",
    [
        pytest.param(bug, id=bug.name, marks=[pytest.mark.icarus] if bug.sim == "icarus" else [])
        for bug in PLANTED
    ],
)
def test_a_planted_bug_is_found_and_named(bug: Bug) -> None:
    _, outcome = hunt.first_failure(bug, hunt.planted(bug))
    assert not outcome.passed
    assert not hunt.unsaid(bug.message, outcome.message), outcome.message


def test_a_wrong_image_is_found_by_the_reference(sim: str) -> None:
    """The scoreboard sees the same wrong image as the machine: what finds it is the reference."""
    outcome = run("env_digits", sim, seed=7, flip=True)
    assert not outcome.passed
    assert_says(
        outcome,
        rf"layer {outcome.result['flipped_layer']}, filter {outcome.result['flipped_filter']}, pixel \(\d+,"
        r" \d+\)",
    )


def assert_says(outcome: runner.RunResult, message: str) -> None:
    assert re.search(message, outcome.message), outcome.message


def address(name: str) -> int:
    return REGISTERS[name].address


def written(cycle: int, name: str, value: int) -> list[Event]:
    return [Access(cycle, True, address(name), value, 0xF), Answer(cycle + 1, True, True)]


def runs(*records: Legal) -> list[Event]:
    """The beats of a program, and its start in cycle 30."""
    spec = memories(CONFIG)["PROGRAM"]
    beats = from_beats(packet(spec, Section("PROGRAM", 0, encode_all(records))).beats)
    return [
        *(Beat(10 + i, beat, i == len(beats) - 1) for i, beat in enumerate(beats)),
        *written(30, "CONTROL", START),
    ]


def sends_a_word() -> list[Event]:
    """A program that is one OUT record."""
    return runs(Out(0, 0, 1), End())


def read(cycle: int, name: str, value: int) -> list[Event]:
    return [Access(cycle, False, address(name)), Answer(cycle + 1, False, True, value)]


PART = Words(10, bytes(4), False)


@pytest.mark.parametrize(
    ("events", "message"),
    [
        ([Access(10, False, address("STATUS"))], "left over: 1 answers to reads"),
        ([Access(10, True, address("STATUS"))], "left over: 1 answers to writes"),
        (
            [*written(10, "IRQ_ENABLE", ERROR), Beat(20, header_beat(9, 0, 1, 0), True)],
            "left over: 1 edges of irq",
        ),
        (sends_a_word(), "left over: 1 runs"),
        (sends_a_word(), "left over: 1 packets of the out stream"),
        ([PART], "left over: 4 bytes of a packet without tlast"),
        ([Beat(10, header_beat(0, 0, 1, 0), False)], "left over: 1 packets of the in stream without tlast"),
        ([PART, *written(12, "CONTROL", SOFT_RESET)], "4 bytes of a packet that was not expected"),
        ([PART, Reset(12, True)], "4 bytes of a packet that was not expected"),
    ],
)
def test_what_is_left_over_is_a_complaint(events: list[Event], message: str) -> None:
    checker = Checker(EnvConfig(None, CONFIG, four_state=False, seed=1))
    for event in (Reset(1, True), Reset(5, False), *events):
        checker.take(event)
    checker.finish(events[-1].cycle + 4)
    assert any(each.endswith(message) for each in checker.messages), checker.messages
    assert checker.verdict(())


LIVE_WORD, HOLD_ONE = header_beat(LIVE, 0, 1, 0), header_beat(HOLD, 0, 1, 0)


@pytest.mark.parametrize(
    ("events", "message"),
    [
        ([Beat(40, HOLD_ONE, True)], "cycle 40: a HOLD for 1 layers was taken when 0 had passed since"),
        ([Beat(31, LIVE_WORD, False)], "cycle 31: a packet began while a program runs"),
        ([Beat(40, header_beat(0, 0, 1, 0), False)], "cycle 40: a packet began while a program runs"),
        ([Offer(40, LIVE_WORD)], "cycle 40: a live packet has to wait while a program runs"),
        ([Offer(40, header_beat(0, 0, 1, 0))], "irq did not rise"),  # a deadlock
        ([Offer(40, HOLD_ONE)], "irq did not rise"),
        ([Beat(40, LIVE_WORD, False), Beat(41, 0, True)], "irq did not rise"),  # the WAIT goes on to its END
    ],
)
def test_what_a_waiting_program_must_not_do_is_a_complaint(events: list[Event], message: str) -> None:
    checker = Checker(EnvConfig(None, CONFIG, four_state=False, seed=1))
    before = [Reset(1, True), Reset(5, False), *written(7, "IRQ_ENABLE", 3), *runs(Wait(1), End())]
    for event in (*before, *events, Access(60, False, address("STATUS"))):
        checker.take(event)
    assert any(message in each for each in checker.messages), checker.messages


@pytest.mark.parametrize("offered", [header_beat(0, 0, 1, 0), HOLD_ONE])
def test_a_deadlock_is_predicted(offered: int) -> None:
    """The WAIT begins four cycles after START. The error shows a cycle after both wait for each other,
    and the interrupt two cycles later.
    """
    for cycle in (20, 34, 35, 50):
        checker = Checker(EnvConfig(None, CONFIG, four_state=False, seed=1))
        events = [Reset(1, True), Reset(5, False), *written(7, "IRQ_ENABLE", 3), *runs(Wait(1), End())]
        shows = max(cycle, 34) + 1
        events += [
            Offer(max(cycle, 31), offered),
            Level(shows + 2, True),
            *read(shows + 3, "ERROR", ErrorCode.DEADLOCK),
            *read(shows + 5, "CYCLES", shows - 32),
            *read(shows + 7, "LOAD_WAIT_CYCLES", shows - 34),
        ]
        for event in sorted(events, key=lambda each: each.cycle):
            checker.take(event)
        assert not checker.messages


def test_an_unknown_fault_is_refused() -> None:
    with pytest.raises(TatamiError, match="option 'fault': 'nonsense' is unknown"):
        faults.find("nonsense")


def run_at_pins(sim: str, test: str, seed: int = 1) -> dict[str, Any]:
    """A test of tb/env/test_monitors.py, at the pins of a checker."""
    spec = TestSpec("monitors", "tb.env.test_monitors", "", timeout_s=60, top="psa_check_axil", parameters={})
    sources = [
        runner.ROOT / "tb" / "checkers" / f"{name}.v"
        for name in ("psa_assert", "psa_check_channel", "psa_check_axil")
    ]
    outcome = runner.run(spec, sim, CONFIG, seed, sources=sources, options=Options(only=test))
    assert outcome.passed, f"{outcome.message}\nlog: {outcome.log}"
    return outcome.result


@pytest.mark.parametrize("test", ["halves_of_a_write", "answers_that_wait"])
def test_the_register_monitor(sim: str, test: str) -> None:
    assert run_at_pins(sim, test)["compared"] > 0


def test_the_seed_of_a_run_decides_what_is_drawn(sim: str) -> None:
    """By numpy and by Python's own generator."""
    first, again, other = (run_at_pins(sim, "seeds", seed) for seed in (1, 1, 2))
    assert first == again
    assert all(first[name] != other[name] for name in ("numpy", "random"))


def test_the_seed_is_a_knob() -> None:
    one, same, two = (
        EnvConfig(None, CONFIG, four_state=False, seed=seed).rng("a").integers(2**32) for seed in (1, 1, 2)
    )
    assert one == same != two


def test_random_knobs_come_to_every_profile() -> None:
    drawn = []
    for seed in range(200):
        config = EnvConfig(None, CONFIG, four_state=False, seed=seed)
        drawn.append((*random_knobs(config, config.rng("knobs")), config.registers))
    streams, pressures, answers, registers = (set(column) for column in zip(*drawn, strict=True))
    assert streams == set(STREAMS)
    assert pressures == answers == set(BACKPRESSURE)
    for knob in ("address_delay", "data_delay", "idle", "answers"):
        values = {getattr(each, knob) for each in registers}
        assert len(values) == 4
        assert getattr(RegisterKnobs(), knob) in values


def test_progress_ends_where_the_model_does() -> None:
    """And every counter gets there one by one, the model's counts of the layers before being reached at their
    ends.
    """
    rng = np.random.default_rng(5)
    for _ in range(5):
        _, image = random_program(rng, CONFIG)
        machine = Machine(CONFIG)
        machine.load(image.sections)
        run = machine.run(image.run_start)
        progress = Progress(machine)
        progress.follow(run.records, run.cycles, run.cycles)
        whole = {"BUSY_CYCLES": run.busy_cycles, "SLOT_ROWS": run.slot_rows, "WORDS": run.words}
        assert progress.counts(run.cycles) == whole
        assert progress.counts(0) == dict.fromkeys(whole, 0)
        end = 0
        records = [ran.record for ran in run.records if isinstance(ran.record, Layer)]
        for number, (layer, record) in enumerate(zip(run.layers, records, strict=True), 1):
            end += layer.cycles
            done = run.layers[:number]
            assert progress.counts(end)["BUSY_CYCLES"] == sum(each.run_cycles for each in done)
            # some of its words are written while the next layer runs, or the last while its record is read
            late = word_stage(CONFIG) if record.gap else DRAIN_AHEAD
            written = sum(each.written for each in done)
            assert written - progress.counts(end)["WORDS"] in range(1 + late)
        steps = [progress.counts(cycle) for cycle in range(run.cycles + 1)]
        assert all(
            0 <= after[name] - before[name] <= 1 for before, after in pairwise(steps) for name in whole
        )


def test_a_state_without_a_soft_reset_is_named() -> None:
    rng = np.random.default_rng(1)
    _, image = random_program(rng, CONFIG)
    machine = Machine(CONFIG)
    machine.load(image.sections)
    run = machine.run(image.run_start)
    states = ResetStates()
    states.program(machine, image.run_start, run)
    for cycle in range(run.cycles):
        states.reset(ResetSeen(False, cycle, run, image.run_start, False, False))
    states.reset(ResetSeen(True, None, None, 0, False, True))  # not a soft one
    with pytest.raises(AssertionError, match="no soft reset has landed in IDLE, ERROR$"):
        states.check()
    states.reset(ResetSeen(False, None, None, 0, False, True))
    states.reset(ResetSeen(False, None, None, 0, False, False))
    with pytest.raises(AssertionError, match="no reset by the pin has met a program that runs"):
        states.check()
    states.reset(ResetSeen(True, 5, run, image.run_start, False, False))
    states.check()
    assert set(states.soft) == set(STATES) - {"WAIT"}
    states.check(states.soft)
    with pytest.raises(AssertionError, match=r"soft reset 1: the sequencer was in IDLE, the model in DECODE"):
        states.check(["IDLE" if number == 1 else state for number, state in enumerate(states.soft)])


def test_registers_page_is_not_stale() -> None:
    for file, text in ((page.FILE, page.render()), (page.HEADER_FILE, page.render_header())):
        assert file.read_text() == text, (
            f"{file} differs from the tables of registers and errors: run python -m scripts.registers"
        )


def test_timeline_orders_by_cycle_and_kind() -> None:
    taken: list[Any] = []
    timeline = EventQueue(taken.append)
    access, level, late = Access(5, False, 0), Level(5, True), Level(9, False)
    for event in (access, Reset(4, True), level, late):
        timeline.post(event)
    assert taken == [Reset(4, True), level, access]
    timeline.flush()
    assert taken[-1] == late


def test_loader_keeps_the_whole_words_of_a_short_packet() -> None:
    loader = Loader(CONFIG)
    assert loader.beat(0 | 0 << 8 | 3 << 16 | 7 << 32, False) == ErrorCode.NONE
    assert loader.beat(0x04030201, False) == ErrorCode.NONE
    assert loader.beat(0x08070605, True) == ErrorCode.LOAD_SHORT
    assert loader.section is not None
    assert loader.section.address == 7
    assert loader.section.words[:, :, 0].tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]
    assert not loader.inside


def test_loader_drops_the_rest_of_a_packet_for_no_memory() -> None:
    """Cut by a soft reset, its length is unknown: its own rest is an error, and nothing is written."""
    loader = Loader(CONFIG)
    assert loader.beat(header_beat(200 | LIVE, 0, 1, 0), False) == ErrorCode.LOAD_DESTINATION
    assert loader.beat(1, False) == ErrorCode.NONE
    loader.soft_reset()
    assert loader.beat(2, False) == ErrorCode.NONE
    assert loader.beat(3, True) == ErrorCode.LOAD_CUT
    assert loader.section is None
    assert loader.packet is not None
    assert (loader.packet.written, loader.packet.code) == (0, ErrorCode.LOAD_CUT)


def test_loader_takes_wide_beats() -> None:
    """What is above a header or a word counts for nothing."""
    loader = Loader(replace(CONFIG, stream_bits=256))
    above = 0xA5 << 240
    assert loader.beat(header_beat(0, 1, 2, 7) | above, False) == ErrorCode.NONE
    assert loader.beat(0x04030201 | above, False) == ErrorCode.NONE
    assert loader.beat(0x08070605 | above, True) == ErrorCode.NONE
    assert loader.section is not None
    assert (loader.section.address, loader.section.bank) == (7, 1)
    assert loader.section.words[:, :, 0].tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]
    assert loader.beat(header_beat(HOLD, 0, 3, 0) | above, True) == ErrorCode.NONE
    assert loader.hold


@pytest.mark.parametrize(
    "derive",
    [
        metamorphic.permuted_banks,
        metamorphic.permuted_channels,
        metamorphic.split_passes,
        metamorphic.split_tiles,
    ],
)
def test_second_images_differ_and_give_the_same_planes(derive: Any) -> None:
    """In the model: the derivations are right, and none of them gives the first image back."""
    rng = np.random.default_rng(3)
    changed = 0
    for _ in range(5):
        network, image = random_program(rng, CONFIG)
        second = derive(image, rng)
        tensor = rng.integers(-128, 128, network.input_shape).astype(np.int8)
        results = [planes_of(each, tensor) for each in (image, second)]
        changed += any(
            a.words.shape != b.words.shape or (a.words != b.words).any()
            for a, b in zip(image.sections, second.sections, strict=True)
        )
        for name in image.placements:
            assert (results[0][name] == results[1][name]).all(), name
    assert changed >= 4


def planes_of(image: Any, tensor: Any) -> dict[str, Any]:
    machine = loaded(image, tensor[None])
    machine.run(image.run_start)
    return metamorphic.planes(image, [p[0].tobytes() for p in machine.run(image.dump_start).packets])


def test_corner_networks_fit_every_configuration() -> None:
    for config in CONFIGS.values():
        for _, network in corner_networks(np.random.default_rng(1), config):
            compile_network(clip_weights(network, config), config)


def test_of_two_errors_the_earlier_is_raised() -> None:
    """The model tells the cycle of an error, and a later lane's error does not hide an earlier tile's."""
    rng = np.random.default_rng(1)
    _, image = random_program(rng, CONFIG, "tight")
    machine = Machine(CONFIG)
    machine.load(image.sections)
    length = machine.run(image.run_start).cycles
    columns("PROGRAM", machine.memory["PROGRAM"]).opcode[len(image.layers)] = 9
    with pytest.raises(ProgramError) as caught:
        machine.run(image.run_start)
    assert caught.value.code == ErrorCode.PROGRAM_OPCODE
    assert len(caught.value.run.layers) == len(image.layers)
    assert caught.value.run.cycles - 1 == caught.value.cycle < length
