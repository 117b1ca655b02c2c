"""The array model against the reference on random networks, its errors, and its traces; the compiler's
limits.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest

from pymodel.compiler.agreement import loaded
from pymodel.compiler.compile import PACKINGS, CapacityError, clip_weights, compile_network
from pymodel.machine.config import CONFIGS, ArrayConfig
from pymodel.machine.errors import ErrorCode, TatamiError
from pymodel.machine.faults import Faults, ProgramError
from pymodel.machine.image import Image
from pymodel.machine.memory import Section, columns
from pymodel.machine.model import Machine
from pymodel.machine.program import MAXIMUM, SUM
from pymodel.network.integer import (
    INPUT,
    KINDS,
    AveragePool,
    Conv,
    Gather,
    MaxPool,
    Network,
    Requant,
    Requantised,
    Residual,
    around,
)
from pymodel.network.reference import evaluate, evaluate_sums
from pymodel.schemes.penni import BASIS
from pymodel.zoo import digits
from pymodel.zoo import random_network as random_network_module
from pymodel.zoo.random_network import MIX, mixed_schemes, random_images, random_network, random_program
from tb.psa_top.handmade import HandMade
from tests.support import assert_agrees

ALL = list(CONFIGS.values())
BATCH = 2


def program(config: ArrayConfig, seed: int, packing: str) -> tuple[Network, np.ndarray, Image]:
    rng = np.random.default_rng(seed)
    network, image = random_program(rng, config, packing)
    return network, random_images(rng, network, BATCH), image


@pytest.mark.parametrize("packing", list(PACKINGS))
@pytest.mark.parametrize("config", ALL, ids=lambda c: c.name)
def test_array_and_reference_agree_on_every_byte(config: ArrayConfig, packing: str) -> None:
    for seed in range(12):
        network, images, image = program(config, seed, packing)
        assert_agrees(network, image, images, f"seed {seed}, ")


@pytest.mark.parametrize("config", ALL, ids=lambda c: c.name)
def test_schemes_mixed_from_layer_to_layer(config: ArrayConfig) -> None:
    """Some random programs have layers under several schemes, and agree on every byte."""
    mixed = seed = 0
    while mixed < 5:
        assert seed < 45, f"{mixed} of {seed}"
        rng = np.random.default_rng(seed)
        network, image = random_program(rng, config)
        seed += 1
        if image.scheme != "mixed":
            continue
        assert_agrees(network, image, random_images(rng, network, BATCH), f"seed {seed - 1}, ")
        mixed += 1


def test_every_scheme_is_mixed_in(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = {*MIX, "digits"}
    made: set[str] = set()
    stages = seed = 0
    while made != wanted or not stages:
        assert seed < 60, wanted ^ made or "no convolution was decomposed"
        rng = np.random.default_rng(seed)
        for name in MIX:
            monkeypatch.setattr(random_network_module, "MIX", (name,))
            network = random_network(rng, CONFIGS["4x2"])
            plans = mixed_schemes(network, CONFIGS["4x2"], rng)[1]
            made |= {name for plan in plans.values() if plan.slots}
            stages += any(layer.endswith(BASIS) and plan.slots for layer, plan in plans.items())
        digits = mixed_schemes(random_network(rng, CONFIGS["8x4w4"]), CONFIGS["8x4w4"], rng)[1]
        made |= {
            "digits"
            for plan in digits.values()
            if plan.slots and plan.packed and plan.packed.tiles[0].position is not None
        }
        seed += 1


def test_random_networks_meet_the_corners() -> None:
    """What the generator is trusted to produce: without these the agreement above says little."""
    wanted = {
        *(kind.__name__ for kind in KINDS),
        "1x1 plane",
        "low",
        "high",
        "T past 16",
        "G past 8",
        "T past 4",
    }
    wanted |= {"pixels past T", "K = 1", "empty filter", "empty layer", "all -128"}
    wanted |= {f"k {k}" for k in (1, 2, 3, 5, 7, 10, 11)} | {f"stride {n}" for n in (1, 2, 3, 4)}
    wanted |= {"residual stride 1", "residual stride 2", "groups 1", "groups C", "groups n"}
    wanted |= {f"dilation {n}" for n in (1, 2, 3)} | {f"own padding {p}" for p in range(1, 11)}
    wanted |= {f"equal padding {p}" for p in range(5)} | {f"pad {sign}" for sign in (-1, 0, 1)}
    wanted |= {f"window {k}" for k in (1, 2, 3, 5)} | {f"pool stride {n}" for n in (1, 2, 3)}
    wanted |= {f"zero {sign}" for sign in (-1, 0, 1)} | {"low True", "low False", "high True", "high False"}
    wanted |= {"sources 1", "sources 2", "zeros True", "zeros False"}
    met: set[str] = set()
    seed = 0
    while not wanted <= met:
        assert seed < 150, wanted - met
        rng = np.random.default_rng(seed)
        for config in ALL:
            network = random_network(rng, config)
            tensors = evaluate(network, random_images(rng, network, 1))
            for layer in network.layers:
                shape = network.shapes[layer.name]
                met |= {
                    type(layer).__name__,
                    "1x1 plane" if shape[1:] == (1, 1) else "plane",
                }
                if isinstance(layer, Requantised):
                    q = layer.requant
                    met |= {
                        f"low {q.low in (-128, q.zero)}",
                        f"high {q.high == 127}",
                        f"zero {(q.zero > 0) - (q.zero < 0)}",
                    }
                met |= {
                    name
                    for name, edge in (("low", -128), ("high", 127))
                    if (tensors[layer.name] == edge).any()
                }
                met |= {
                    f"{side} past {n}"
                    for side, n in (("T", config.size), ("G", config.group))
                    if shape[0] == n + 1
                }
                met |= {"pixels past T"} if (shape[1] * shape[2]) % config.size == 1 else set()
                if isinstance(layer, Conv):
                    met |= {f"k {k}" for k in layer.weight.shape[2:]}
                    met |= {f"stride {n}" for n in layer.stride}
                    met |= {
                        f"{'equal' if len(set(layer.padding)) == 1 else 'own'} padding {max(layer.padding)}",
                        f"groups {1 if layer.groups == 1 else 'C' if layer.weight.shape[1] == 1 else 'n'}",
                        f"pad {(layer.pad > 0) - (layer.pad < 0)}",
                        f"dilation {max(layer.dilation)}",
                    }
                    met |= {"K = 1"} if layer.weight[0].size == 1 else set()
                    met |= (
                        {"empty filter"}
                        if (layer.weight.reshape(len(layer.weight), -1) == 0).all(axis=1).any()
                        else set()
                    )
                    met |= {"empty layer"} if not layer.weight.any() else set()
                    met |= {"all -128"} if (layer.weight[layer.weight != 0] == -128).all() else set()
                    met |= (
                        {f"residual stride {n}" for n in layer.residual.stride} if layer.residual else set()
                    )
                if isinstance(layer, MaxPool | AveragePool):
                    met |= {f"window {k}" for k in layer.size} | {f"pool stride {n}" for n in layer.stride}
                if isinstance(layer, Gather):
                    met |= {f"sources {len(set(layer.sources))}", f"zeros {layer.channel.min() < 0}"}
        seed += 1


def test_partial_sums_of_every_pass_add_up_to_the_sums() -> None:
    """A trace holds the running sum after each row; the last rows of a tile's passes add up to the
    reference's sums. Of a maximum, they are maxima.
    """
    network, images, image = program(CONFIGS["4x2"], 3, "tight")
    machine = loaded(image, images)
    run = machine.run(image.run_start, trace=True)
    _, sums = evaluate_sums(network, images)
    filters = columns("FILTER", image.section("FILTER").words[:, 0])
    tiles = columns("TILE", image.section("TILE").words[:, 0])
    records = columns("PROGRAM", image.section("PROGRAM").words[: len(image.layers)])
    for number, (name, layer) in enumerate(zip(image.layers, run.layers, strict=True)):
        place = image.placements[name]
        join = np.maximum if records.mode[number, 0] == MAXIMUM else np.add
        begin = -128 if join is np.maximum else 0
        total = np.full((BATCH, place.shape[0], place.channel_words * place.size), begin, dtype=np.int64)
        for p in layer.partial_sums:
            first = p.chunk * int(records.chunk_words[number, 0]) * place.size
            n = slice(first, first + p.rows.shape[3])
            first_filter = tiles.filter_base[records.tile_base[number, 0] + p.tile]
            for column, entry in enumerate(range(first_filter, first_filter + image.config.size)):
                if filters.write[entry]:
                    channel = next(
                        c
                        for c in range(place.shape[0])
                        if (place.bank[c], place.base[c]) == (filters.bank[entry], filters.base[entry])
                    )
                    total[:, channel, n] = join(total[:, channel, n], p.rows[-1, :, column])
        seen = total[..., place.addresses()]
        np.testing.assert_array_equal(seen, sums[name], err_msg=name)


def test_seeds_decide_the_image_and_not_the_answer() -> None:
    data = digits.load()
    first, again, other = (compile_network(data.network, CONFIGS["16x8"], seed=s) for s in (1, 1, 2))
    for a, b in zip(first.sections, again.sections, strict=True):
        np.testing.assert_array_equal(a.words, b.words)
    assert any(
        a.words.shape != b.words.shape or (a.words != b.words).any()
        for a, b in zip(first.sections, other.sections, strict=True)
    )
    runs = [loaded(image, data.images[:3]).run().packets for image in (first, other)]
    for a, b in zip(*runs, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("config", ALL, ids=lambda c: c.name)
def test_a_layer_costs_its_passes_and_little_more(config: ArrayConfig) -> None:
    """The bound of the schedule: pixels rounded up to T for every pass, 5% and 150 cycles above it
    at most.
    """
    for packing in ("tight", "dense"):
        image = compile_network(clip_weights(digits.load().network, config), config, packing=packing)
        machine = Machine(config)
        machine.load(image.sections)
        run = machine.run()
        for name, layer in zip(image.layers, run.layers, strict=True):
            _, height, width = image.placements[name].shape
            bound = layer.passes // layer.chunks * -(-height * width // config.size) * config.size
            assert bound <= layer.cycles <= 1.05 * bound + 150, name
        assert run.cycles > sum(layer.cycles for layer in run.layers)


def small_network() -> Network:
    requant = Requant(np.zeros(4, dtype=np.int64), np.full(4, 40000), np.full(4, 24))
    weight = np.arange(-18, 18).reshape(4, 1, 3, 3)
    return Network("small", (1, 6, 6), (Conv("a", INPUT, weight, requant, padding=around(1)),))


@pytest.mark.parametrize(
    ("memory", "word", "field", "value", "code"),
    [
        ("PROGRAM", 0, "opcode", 7, ErrorCode.PROGRAM_OPCODE),
        ("PROGRAM", 0, "words", 0, ErrorCode.PROGRAM_FIELD),
        ("PROGRAM", 0, "chunk_words", 9999, ErrorCode.PROGRAM_FIELD),
        ("PROGRAM", 0, "edge_base", 65535, ErrorCode.PROGRAM_FIELD),
        ("PROGRAM", 0, "tap_base", 65535, ErrorCode.PROGRAM_FIELD),
        ("PROGRAM", 1, "words", 16, ErrorCode.PROGRAM_FIELD),
        ("TILE", 0, "passes", 0, ErrorCode.TILE_FIELD),
        ("TILE", 0, "lane_base", 65535, ErrorCode.TILE_FIELD),
        ("TILE", 0, "filter_base", 65535, ErrorCode.TILE_FIELD),
        ("GROUP", 1, "base", 0, ErrorCode.FEATURE_READ),
        ("FILTER", 0, "base", 511, ErrorCode.FEATURE_WRITE),
        ("FILTER", 0, "bank", 15, ErrorCode.FEATURE_WRITE),
    ],
)
def test_a_broken_program_stops_with_its_code(
    memory: str, word: int, field: str, value: int, code: ErrorCode
) -> None:
    machine = Machine(CONFIGS["16x8"])
    image = compile_network(small_network(), machine.config)
    machine.load(image.sections)
    machine.run()
    words = machine.memory[memory][word : word + 1].copy()
    words[0, 0, machine.specs[memory].index(field)] = value
    machine.load([Section(memory, word, words)])
    with pytest.raises(ProgramError) as caught:
        machine.run()
    assert caught.value.code == code


def test_running_past_the_program_memory_stops() -> None:
    machine = Machine(CONFIGS["16x8"])
    with pytest.raises(ProgramError, match="PROGRAM_RANGE"):
        machine.run(machine.config.program_depth)


def test_what_does_not_fit_is_refused_with_need_and_limit() -> None:
    data = digits.load().network
    for field, low, what in (
        ("feature_depth", 64, "FEATURE needs"),
        ("lane_depth", 64, "LANE needs"),
        ("group_depth", 16, "GROUP needs"),
        ("filter_depth", 32, "FILTER needs"),
        ("program_depth", 4, "PROGRAM needs"),
        ("tap_depth", 8, "TAP needs"),
        ("edge_depth", 4, "EDGE needs"),
        ("tile_depth", 4, "TILE needs"),
    ):
        config = replace(CONFIGS["4x2"], **cast(Any, {field: low}))
        with pytest.raises(
            CapacityError, match=rf"network 'digits' does not fit: .*{what} \d+ words.*config '4x2' has {low}"
        ):
            compile_network(data, config)


def test_unknown_packing_lists_the_valid_ones() -> None:
    with pytest.raises(TatamiError, match=r"packing 'magic' is unknown; valid: tight"):
        compile_network(small_network(), CONFIGS["16x8"], packing="magic")


def test_two_strides_on_one_tensor_that_meet_again_are_refused() -> None:
    """The halves of a fork that use a tensor at different rates cannot share one layout of it."""
    requant = Requant(np.zeros(1, dtype=np.int64), np.ones(1, dtype=np.int64), np.zeros(1, dtype=np.int64))
    one = np.ones((1, 1, 1, 1), dtype=np.int64)
    three = np.ones((1, 1, 3, 3), dtype=np.int64)
    shortcut = Residual("half", np.zeros(1, dtype=np.int64), np.ones(1, dtype=np.int64))
    layers = (
        Conv("half", INPUT, one, requant, stride=(2, 2)),
        Conv("also_half", INPUT, three, requant),
        Conv("meet", "also_half", one, requant, residual=shortcut),
    )
    network = Network("fork", (1, 4, 4), layers)
    with pytest.raises(TatamiError, match="two layouts"):
        compile_network(network, CONFIGS["4x2"])


@pytest.mark.parametrize(
    ("found", "code", "cycles"),
    [
        ([(ErrorCode.FEATURE_WRITE, 5)], ErrorCode.FEATURE_WRITE, 7),
        ([(ErrorCode.PROGRAM_OPCODE, 5)], ErrorCode.PROGRAM_OPCODE, 6),
        ([(ErrorCode.FEATURE_WRITE, 5), (ErrorCode.PROGRAM_OPCODE, 6)], ErrorCode.FEATURE_WRITE, 7),
        # in one cycle the pipeline's is reported, and the sequencer stops for its own
        ([(ErrorCode.FEATURE_WRITE, 5), (ErrorCode.PROGRAM_OPCODE, 5)], ErrorCode.FEATURE_WRITE, 6),
        (
            [(ErrorCode.TILE_FIELD, 5), (ErrorCode.GROUP_RANGE, 5), (ErrorCode.FEATURE_READ, 5)],
            ErrorCode.FEATURE_READ,
            6,
        ),
    ],
)
def test_when_the_machine_stands_still(
    found: list[tuple[ErrorCode, int]], code: ErrorCode, cycles: int
) -> None:
    faults = Faults()
    for each, cycle in found:
        faults.note(each, 0, "", cycle)
    assert faults.first is not None
    assert (faults.first.code, faults.first.cycles) == (code, cycles)


def test_activation_tables_follow_the_clamps_and_take_a_cycle() -> None:
    """Each filter's pixels, looked up; a layer whose end the sequencer waits for takes one cycle more."""
    plain, config = CONFIGS["4x2"], replace(CONFIGS["4x2"], name="tabled", tables=2)
    network, images = small_network(), random_images(np.random.default_rng(1), small_network(), 1)
    results = np.random.default_rng(2).integers(-128, 128, (2, 256))
    planes = {}
    for number in (0, 2):
        image = compile_network(network, config)
        machine = loaded(image, images)
        columns("FILTER", machine.memory["FILTER"]).table[:] = number
        machine.load([Section("ACTIVATION", 0, results.reshape(-1, 1, 1))])
        cycles = machine.run(image.run_start).cycles
        first = image.placements[image.layers[0]]
        planes[number] = first.from_words(machine.read_tensor(first))
    np.testing.assert_array_equal(planes[2], results[1][planes[0]])
    image = compile_network(network, plain)
    records = columns("PROGRAM", image.section("PROGRAM").words[: len(image.layers)])
    waits = np.count_nonzero(records.gap == 0)
    gaps = [
        columns("PROGRAM", compile_network(network, c).section("PROGRAM").words[:, 0]).gap.sum()
        for c in (plain, config)
    ]
    assert cycles == loaded(image, images).run(image.run_start).cycles + waits + gaps[1] - gaps[0]


@pytest.mark.parametrize("table", [3, 15])
def test_a_table_that_does_not_exist_stops_the_program(table: int) -> None:
    config = replace(CONFIGS["4x2"], name="tabled", tables=2)
    image = compile_network(small_network(), config)
    machine = Machine(config)
    machine.load(image.sections)
    columns("FILTER", machine.memory["FILTER"]).table[0] = table
    with pytest.raises(ProgramError) as caught:
        machine.run()
    assert (caught.value.code, caught.value.info) == (ErrorCode.TABLE_RANGE, table)


def test_a_mode_that_is_none_stops_the_program() -> None:
    machine = Machine(CONFIGS["16x8"])
    machine.load(compile_network(small_network(), machine.config).sections)
    for mode in (2, 255):
        columns("PROGRAM", machine.memory["PROGRAM"]).mode[0] = mode
        with pytest.raises(ProgramError, match="mode is none") as caught:
            machine.run()
        assert (caught.value.code, caught.value.info) == (ErrorCode.PROGRAM_FIELD, 0)


@pytest.mark.parametrize("config", ALL, ids=lambda c: c.name)
def test_hand_made_programs_give_what_the_rules_say(config: ArrayConfig) -> None:
    """Layers of sums and of maxima, with every pad, zero point, clamp, reach and table."""
    for seed, modes in enumerate(((SUM, MAXIMUM, SUM), (MAXIMUM, SUM, MAXIMUM)) * 3):
        rng = np.random.default_rng(seed)
        made = HandMade(config, rng, modes)
        features = rng.integers(-128, 128, (config.group, made.end, config.size)).astype(np.int8)
        machine = Machine(config)
        machine.load(made.sections(features))
        machine.run(made.start)
        for bank, wanted in enumerate(made.planes(features)):
            np.testing.assert_array_equal(machine.read_feature(bank, 0, made.end)[0], wanted)
