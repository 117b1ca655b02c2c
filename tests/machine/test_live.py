"""Loading while a program runs, in the array model: what WAIT and HOLD order, and what is refused."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest

from pymodel.compiler.agreement import loaded
from pymodel.compiler.compile import compile_network
from pymodel.machine.back_to_back import back_to_back
from pymodel.machine.config import CONFIGS, ArrayConfig
from pymodel.machine.errors import ErrorCode, TatamiError
from pymodel.machine.faults import EndlessError, LiveUseError, ProgramError, StarvedError
from pymodel.machine.image import Image
from pymodel.machine.live import LiveStream
from pymodel.machine.memory import (
    HOLD,
    LIVE,
    Hold,
    Live,
    Section,
    from_beats,
    hold_packet,
    live_packets,
    memories,
    packet,
    parse_packet,
)
from pymodel.machine.model import Machine, Waiting
from pymodel.machine.program import End, Jump, Layer, Legal, Out, Wait, decode_all, encode_all
from pymodel.machine.runs import ProgramRun
from pymodel.network.integer import Conv, Network, Requant, around
from pymodel.network.reference import evaluate
from pymodel.zoo.random_network import random_images, random_program

ALL = list(CONFIGS.values())
TABLES = ("TILE", "LANE", "SLOT", "GROUP", "TAP", "EDGE", "FILTER")


def chain(config: ArrayConfig, layers: int = 3) -> tuple[Network, np.ndarray, Image]:
    """Convolutions one behind the other, compiled, and an input."""
    rng = np.random.default_rng(7)
    channels = config.group + 1
    convs, source = [], "input"
    for number in range(layers):
        weight = rng.integers(-7, 8, (channels, channels, 3, 3)).astype(np.int8)
        requant = Requant(np.zeros(channels, np.int32), np.full(channels, 2**14), np.full(channels, 21))
        convs.append(Conv(f"c{number}", source, weight, requant, padding=around(1)))
        source = convs[-1].name
    network = Network("chain", (channels, 4, 5), tuple(convs))
    image = compile_network(network, config)
    return network, rng.integers(-128, 128, (1, channels, 4, 5)).astype(np.int8), image


def own_program(image: Image) -> list[Legal]:
    records = decode_all(image.section("PROGRAM").words[image.run_start : image.dump_start])
    return [record for record in records if isinstance(record, Layer | Out | End)]


def run(
    image: Image, inputs: np.ndarray, program: Iterable[Legal], stream: Iterable[Live], without: str = ""
) -> tuple[Machine, ProgramRun]:
    """Runs a program on an image of which one memory is left out."""
    machine = Machine(image.config)
    machine.load(s for s in image.sections if s.memory not in (without, "PROGRAM"))
    machine.load_tensor(image.placements["input"], inputs)
    machine.load([Section("PROGRAM", 0, encode_all(program))])
    return machine, machine.run(stream=stream)


def agrees(machine: Machine, network: Network, image: Image, inputs: np.ndarray) -> None:
    for name, expected in evaluate(network, inputs).items():
        place = image.placements[name]
        np.testing.assert_array_equal(
            machine.read_tensor(place)[0], place.to_words(expected[0]), err_msg=name
        )


@pytest.mark.parametrize("memory", TABLES)
@pytest.mark.parametrize("config", ALL, ids=lambda c: c.name)
def test_every_table_may_come_while_the_program_waits(config: ArrayConfig, memory: str) -> None:
    network, inputs, image = chain(config)
    section, program = image.section(memory), own_program(image)
    machine, found = run(image, inputs, [Wait(1), *program], [section], without=memory)
    agrees(machine, network, image, inputs)
    plain = loaded(image, inputs).run(image.run_start)
    assert found.cycles == plain.cycles + 3
    with pytest.raises(LiveUseError, match=rf"behind 0 layers: word \d+ of {memory} is used while"):
        run(image, inputs, program, [section], without=memory)


@pytest.mark.parametrize("memory", TABLES)
@pytest.mark.parametrize("config", [CONFIGS["4x2"], CONFIGS["8x4x"]], ids=lambda c: c.name)
def test_every_word_that_a_layer_uses_is_watched(config: ArrayConfig, memory: str) -> None:
    """Each word of each table alone: the compiler writes none that no layer uses, but for the empty group."""
    _, inputs, image = chain(config, layers=2)
    section, program = image.section(memory), own_program(image)
    for word in range(memory == "GROUP", len(section.words)):
        with pytest.raises(LiveUseError, match=f"word {word} of {memory} is used"):
            run(image, inputs, program, [Section(memory, word, section.words[word : word + 1])])


@pytest.mark.parametrize("config", ALL, ids=lambda c: c.name)
def test_a_hold_keeps_what_a_layer_still_reads(config: ArrayConfig) -> None:
    """The words of the first layer's tables are cleared behind it, while the others run."""
    network, inputs, image = chain(config)
    program = own_program(image)
    first = program[0]
    assert isinstance(first, Layer)
    specs = memories(config)
    clear: list[Live] = [Section("TILE", first.tile_base, specs["TILE"].zeros(first.tiles))]
    machine, _ = run(image, inputs, program, [Hold(1), *clear])
    agrees(machine, network, image, inputs)
    assert not machine.memory["TILE"][first.tile_range].any()
    others: list[Live] = [Hold(1), Section("SLOT", 0, specs["SLOT"].zeros(config.lane_depth))]
    for wrong in (clear, others):
        with pytest.raises(LiveUseError):
            run(image, inputs, program, wrong)


@pytest.mark.parametrize("config", ALL, ids=lambda c: c.name)
def test_an_input_that_comes_late_and_one_that_comes_too_early(config: ArrayConfig) -> None:
    network, inputs, image = chain(config)
    program = own_program(image)
    planes: list[Live] = [*image.tensor_sections("input", inputs[0])]
    empty = np.zeros_like(inputs)
    machine, _ = run(image, empty, [Wait(len(planes)), *program], planes)
    agrees(machine, network, image, inputs)
    for missing in range(len(planes)):
        with pytest.raises(LiveUseError, match="of bank .* is read while a live packet may be writing it"):
            run(image, empty, [*([Wait(missing)] if missing else []), *program], planes)
    output = image.placements["c2"]
    late = Section("FEATURE", output.base[0], memories(config)["FEATURE"].zeros(1), output.bank[0])
    with pytest.raises(LiveUseError, match=f"word {output.base[0]} of bank {output.bank[0]} of FEATURE"):
        run(image, inputs, program, [late])  # a layer writes it, and an OUT sends it
    with pytest.raises(LiveUseError, match=f"word {output.base[0]} of bank {output.bank[0]} of FEATURE"):
        run(image, inputs, program, [Hold(3), late])
    run(image, inputs, [*program[:-1], Wait(1), End()], [Hold(3), Section("FEATURE", 0, late.words[:0])])


def test_a_program_that_comes_piece_by_piece() -> None:
    """In a PROGRAM whose words are used again: the JUMP comes back to words that a HOLD kept until then."""
    network, inputs, image = chain(CONFIGS["8x4"])
    layers = [r for r in own_program(image) if isinstance(r, Layer)]
    outs = [r for r in own_program(image) if isinstance(r, Out)]
    program: list[Legal] = [layers[0], layers[1], Wait(1), Jump(0)]
    rest: list[Live] = [Hold(2), Section("PROGRAM", 0, encode_all([layers[2], Jump(5)]))]
    behind = Section("PROGRAM", 5, encode_all([*outs, End()]))
    machine = Machine(image.config)
    machine.load([*(s for s in image.sections if s.memory != "PROGRAM"), behind])
    machine.load_tensor(image.placements["input"], inputs)
    machine.load([Section("PROGRAM", 0, encode_all(program))])
    found = machine.run(stream=rest)
    agrees(machine, network, image, inputs)
    assert [layer.index for layer in found.layers] == [0, 1, 0]
    machine.load([Section("PROGRAM", 0, encode_all(program))])
    with pytest.raises(LiveUseError, match="behind 0 layers: word 0 of PROGRAM"):
        machine.run(stream=rest[1:])


def test_deadlock_starved_and_endless() -> None:
    _, inputs, image = chain(CONFIGS["4x2"])
    program, tile = own_program(image), image.section("TILE")
    with pytest.raises(
        ProgramError, match=r"DEADLOCK \(16\), info 0: WAIT for 1 packets behind a HOLD"
    ) as stop:
        run(image, inputs, [Wait(1), *program], [Hold(1), tile])
    assert (stop.value.code, stop.value.info) == (ErrorCode.DEADLOCK, 0)
    with pytest.raises(
        ProgramError, match=r"DEADLOCK \(16\), info 2"
    ):  # one layer has passed, two are needed
        run(image, inputs, [Wait(1), program[0], Wait(1), *program], [tile, Hold(2), tile])
    with pytest.raises(StarvedError, match="the WAIT at program word 0 needs 2 packets"):
        run(image, inputs, [Wait(2), *program], [tile])
    with pytest.raises(EndlessError, match="comes back to the JUMP at word 1 without a WAIT"):
        run(image, inputs, [program[0], Jump(0)], [])
    with pytest.raises(ProgramError, match=r"PROGRAM_FIELD \(7\), info 0: WAIT for no packets"):
        run(image, inputs, [Wait(0), *program], [tile])
    with pytest.raises(ProgramError, match=r"PROGRAM_RANGE \(5\), info 60000"):
        run(image, inputs, [Jump(60000)], [])


def test_only_layers_follow_a_gap_even_behind_a_wait() -> None:
    _, inputs, image = chain(CONFIGS["4x2"])
    program, tile = own_program(image), image.section("TILE")
    first = program[0]
    assert isinstance(first, Layer)
    assert first.gap > 0
    run(
        image,
        inputs,
        [Wait(1), first, Wait(1), Jump(4), *program[1:]],
        [tile, Hold(1), Section("TILE", 0, tile.words[:0])],
    )
    for end in (End(), Out(0, 0, 1)):
        with pytest.raises(ProgramError, match="PROGRAM_FIELD .7., info 3: only a LAYER may follow"):
            run(image, inputs, [first, Wait(1), Jump(3), end], [Section("TILE", 0, tile.words[:0])])


def test_steps_stop_where_packets_are_missing() -> None:
    """As the environment uses it: packets come one by one."""
    network, inputs, image = chain(CONFIGS["4x2"])
    machine = loaded(image, inputs)
    sections = [image.section("TILE"), image.section("SLOT")]
    machine.load([Section("PROGRAM", 0, encode_all([Wait(2), *own_program(image)]))])
    live, found = LiveStream(machine), ProgramRun()
    steps = machine.steps(0, found, live)
    assert next(steps) == Waiting(0, Wait(2), 2)
    live.items.append(sections[0])
    assert next(steps) == Waiting(0, Wait(2), 2)
    live.items.append(sections[1])
    assert next(steps, None) is None
    agrees(machine, network, image, inputs)


def test_packets_of_a_live_stream() -> None:
    config = CONFIGS["8x4"]
    section = Section("TILE", 3, np.arange(8).reshape(2, 1, 4))
    ordinary, live = (packet(memories(config)["TILE"], section, live=on) for on in (False, True))
    (opens,), (opens_live,) = (from_beats(p.beats[:1]) for p in (ordinary, live))
    assert opens_live == opens | LIVE
    np.testing.assert_array_equal(parse_packet(config, live.beats).words, section.words)
    assert hold_packet(config, Hold(513)).beats.tolist() == [[HOLD | 513 << 16]]
    both = live_packets(config, [Hold(65535), section])
    assert [from_beats(p.beats)[0] for p in both] == [HOLD | 65535 << 16, opens_live]
    for layers in (0, 65536):
        with pytest.raises(TatamiError, match=rf"HOLD: layers is {layers}, must be in 1\.\.65535"):
            live_packets(config, [Hold(layers)])
    long = Section("TILE", 0, np.zeros((65536, 1, 4), np.int64))
    with pytest.raises(TatamiError, match="live packet of TILE: words is 65536, must be at most 65535"):
        live_packets(config, [long])


@pytest.mark.parametrize("config", ALL, ids=lambda c: c.name)
def test_images_back_to_back(config: ArrayConfig) -> None:
    """Every output of a batch, and not a cycle more than the loop's own records take."""
    ran = 0
    for seed in range(8):
        rng = np.random.default_rng(seed)
        network, image = random_program(rng, config, reused=0.5)
        inputs = random_images(rng, network, 3)
        of_input, of_output = (image.placements[name].occupied() for name in ("input", image.output))
        if of_input & of_output:
            with pytest.raises(TatamiError, match="the output lies in words of the input"):
                back_to_back(image, inputs)
            continue
        if image.dump_start + 3 > config.program_depth:
            continue
        program, stream, _ = back_to_back(image, inputs)
        machine = Machine(config)
        machine.load([*(s for s in image.sections if s.memory != "PROGRAM"), Section("PROGRAM", 0, program)])
        found = machine.run(stream=stream)
        alone = [loaded(image, one[None]).run(image.run_start) for one in inputs]
        seen = [p.tobytes() for p in found.packets]
        assert seen == [p.tobytes() for run in alone for p in run.packets]
        # two WAITs and a JUMP for each input, and END only once
        assert found.cycles == sum(run.cycles for run in alone) + 3 * 6
        ran += 1
    assert ran >= 5


def test_what_cannot_run_back_to_back() -> None:
    _, inputs, image = chain(CONFIGS["8x4"])
    program = back_to_back(image, inputs).program
    alone = image.with_words(PROGRAM=image.section("PROGRAM").words[: image.dump_start])
    back_to_back(replace(alone, config=replace(image.config, program_depth=len(program))), inputs)
    shallow = replace(alone, config=replace(image.config, program_depth=len(program) - 1))
    with pytest.raises(TatamiError, match=f"PROGRAM needs {len(program)} words to run back to back"):
        back_to_back(shallow, inputs)
    endless = image.with_words(PROGRAM=encode_all([Wait(1), *own_program(image)]))
    with pytest.raises(TatamiError, match="program word 0 waits for 1 packets, 0 are left"):
        back_to_back(endless, inputs)


def test_an_input_that_comes_a_layer_too_early_is_refused() -> None:
    _, inputs, image = chain(CONFIGS["8x4"])
    program, stream, _ = back_to_back(image, np.repeat(inputs, 2, axis=0))
    early = [Hold(item.layers - 1) if isinstance(item, Hold) else item for item in stream]
    machine = Machine(image.config)
    machine.load([*(s for s in image.sections if s.memory != "PROGRAM"), Section("PROGRAM", 0, program)])
    machine.run(stream=stream)
    with pytest.raises((LiveUseError, ProgramError)):
        machine.run(stream=[item for item in early if not isinstance(item, Hold) or item.layers])
