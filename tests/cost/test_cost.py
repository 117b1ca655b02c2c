"""The cost model against the array model that runs the image, against counts made by hand, and its energy
table.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from pymodel.compiler.compile import clip_weights, compile_network
from pymodel.cost.counts import ImageCost, fewest_cycles, image_cost
from pymodel.cost.energy import ENERGY_TABLE, ENTRIES, EnergyTable, energy, layer_energy, load_energy
from pymodel.cost.throughput import clocked_images, cycles_back_to_back
from pymodel.machine.config import CONFIGS, ArrayConfig
from pymodel.machine.errors import TatamiError
from pymodel.machine.image import Image
from pymodel.machine.memory import columns, live_packets
from pymodel.machine.model import Machine
from pymodel.machine.program import Wait, encode_all
from pymodel.machine.runs import ProgramRun
from pymodel.machine.slot_rows import image_rows
from pymodel.machine.timing import RECORD_CYCLES
from pymodel.network.integer import INPUT, Conv, GlobalPool, Network, Requant
from pymodel.zoo import digits
from pymodel.zoo.random_network import random_program

ALL = list(CONFIGS.values())
SEEDS = 12


def test_images_in_a_row_take_the_records_of_the_loop_more() -> None:
    """The digits network hides the load of an input: two WAITs and a JUMP, and no END."""
    image = compile_network(digits.load().network, CONFIGS["16x8"])
    cost = image_cost(image)
    assert cycles_back_to_back(image, cost) == cost.cycles + 3 + 3 + 2 - 2
    long = clocked_images(image, cost, 5)
    assert long.cycles - clocked_images(image, cost, 4).cycles == cycles_back_to_back(image, cost)


def test_images_in_a_row_wait_for_an_input_that_is_read_to_the_end() -> None:
    network = Network("pool", (16, 8, 8), (GlobalPool("pool", INPUT, Requant.none(16)),))
    image = compile_network(network, CONFIGS["16x8"])
    cost = image_cost(image)
    # 2T + 14 cycles until the layer has passed; a HOLD; the last word of the loop, with its header four
    # beats; of each channel a header and four words of two beats. Each header waits for a cycle.
    assert cycles_back_to_back(image, cost) == cost.layers[0].cycles + 46 + 2 + 5 + 16 * (2 + 4 * 2)


def test_a_network_that_cannot_run_in_a_row_has_no_figure() -> None:
    image = compile_network(digits.load().network, CONFIGS["16x8"])
    pieces = image.with_words(PROGRAM=np.concatenate([encode_all([Wait(1)]), image.section("PROGRAM").words]))
    assert cycles_back_to_back(pieces, image_cost(image)) is None


def run(image: Image, *, trace: bool = False) -> tuple[Machine, ProgramRun]:
    machine = Machine(image.config)
    machine.load(image.sections)
    return machine, machine.run(image.run_start, trace=trace)


def counted(image: Image, machine: Machine, run: ProgramRun) -> list[Counter[str]]:
    """Events of every layer, counted lane by lane along the passes that the array model did."""
    t = machine.config.size
    rows = image_rows(image)
    found = []
    for layer in run.layers:
        # passes are in order, the last one stays
        last = Counter({(p.chunk, p.tile): p.number for p in layer.partial_sums})
        events: Counter[str] = Counter()
        for p in layer.partial_sums:
            lanes = slice(p.first_lane, p.first_lane + t)
            for _ in p.words:
                for group in columns("LANE", machine.memory["LANE"][lanes, 0]).group:
                    members = int(columns("GROUP", machine.memory["GROUP"][group]).valid.sum())
                    events += Counter(
                        lane_reads=1, group_reads=1, edge_reads=1, tap_reads=members, bank_reads=2 * members
                    )
            events["macs"] += int(np.count_nonzero(columns("SLOT", rows[lanes]).weight)) * len(p.words) * t
            events["steps"] += t * t * len(p.words) * t
            events["slot_rows"] += t
            for pixels in [len(p.words) * t] * t:  # column by column
                events["accumulator_reads"] += 0 if p.number == 0 else pixels
                events["accumulator_writes"] += 0 if p.number == last[p.chunk, p.tile] else pixels
                events["requantised"] += pixels if p.number == last[p.chunk, p.tile] else 0
                events["filter_reads"] += len(p.words) if p.number == last[p.chunk, p.tile] else 0
        found.append(events)
    return found


@pytest.mark.parametrize("config", ALL, ids=lambda c: c.name)
def test_cycles_are_those_of_the_array_model(config: ArrayConfig) -> None:
    chunked = 0
    for seed in range(SEEDS):
        _, image = random_program(np.random.default_rng(seed), config)
        cost = image_cost(image)
        _, done = run(image)
        assert cost.cycles == done.cycles, seed
        assert cost.pass_cycles == done.busy_cycles, seed
        assert cost.total("slot_rows") == done.slot_rows, seed
        assert cost.total("bank_writes") == done.words, seed
        assert cost.out_words == sum(len(packet[0]) for packet in done.packets)
        assert cost.record_cycles == tuple(layer.cycles for layer in done.layers)
        assert cost.out_cycles == done.cycles - sum(layer.cycles for layer in done.layers) - RECORD_CYCLES
        for layer, ran in zip(cost.layers, done.layers, strict=True):
            assert (layer.cycles, layer.passes, layer.chunks) == (ran.cycles, ran.passes, ran.chunks), (
                seed,
                layer.name,
            )
            chunked += layer.chunks > 1
    assert chunked, "no layer had a second chunk"


@pytest.mark.parametrize("config", ALL, ids=lambda c: c.name)
def test_events_are_those_of_the_passes(config: ArrayConfig) -> None:
    for seed in range(SEEDS // 3):
        _, image = random_program(np.random.default_rng(seed), config)
        cost = image_cost(image)
        for layer, events in zip(cost.layers, counted(image, *run(image, trace=True)), strict=True):
            for name in ("macs", "bank_reads", "accumulator_reads", "filter_reads", *events):
                assert getattr(layer, name) == events[name], (seed, layer.name, name)


def one_pixel_more(filters: int = 5) -> Network:
    """A 1 x 1 convolution of three channels over 3 x 3 pixels: for T = 4, two tiles of filters and a word of
    which one pixel counts.
    """
    weight = np.arange(1, 3 * filters + 1).reshape(filters, 3, 1, 1)
    weight[0, 1] = 0
    requant = Requant(np.zeros(filters, dtype=np.int64), np.full(filters, 40000), np.full(filters, 24))
    return Network("small", (3, 3, 3), (Conv("a", INPUT, weight, requant),))


def test_looked_up_pixels_are_counted_and_take_energy() -> None:
    """T = 4: 3 words of 4 pixels of each of 5 filters."""
    plain = one_pixel_more()
    (layer,) = plain.layers
    assert isinstance(layer, Conv)
    looked_up = replace(layer, requant=replace(layer.requant, table=np.arange(-128, 128)))
    network = Network("table", plain.input_shape, (looked_up,))
    costs = [image_cost(compile_network(one, CONFIGS["4x2t"])) for one in (plain, network)]
    assert [cost.layers[0].activation_reads for cost in costs] == [0, 5 * 3 * 4]
    without, found = (energy(cost, load_energy()) for cost in costs)
    assert found.tables > without.tables


def test_counts_by_hand() -> None:
    """T = 4, dense: 2 tiles of 3 lanes, a pass each; 9 pixels in 3 words of each plane."""
    image = compile_network(one_pixel_more(), CONFIGS["4x2"], packing="dense")
    cost = image_cost(image)
    (layer,) = cost.layers
    assert (layer.lanes, layer.slots, layer.pixels, layer.positions, layer.passes) == (6, 14, 9, 12, 2)
    assert layer.pass_cycles == 2 * 3 * 4
    assert layer.cycles == 4 + 24 + 2 * 4 + 12
    assert layer.bound_cycles == math.ceil(6 * 9 / 4)
    assert (layer.macs, layer.steps, layer.slots_loaded) == (14 * 12, 2 * 16 * 12, 2 * 16)
    # a lane has one member: 6 lanes x 3 words x both halves; 5 filters x 3 words
    assert (layer.bank_reads, layer.tap_reads, layer.bank_writes) == (36, 18, 15)
    assert (layer.lane_reads, layer.group_reads, layer.edge_reads) == (24, 24, 24)
    assert (layer.accumulator_reads, layer.accumulator_writes, layer.requantised) == (0, 0, 2 * 12 * 4)
    assert (layer.filter_reads, layer.tile_reads) == (2 * 3 * 4, layer.cycles)
    # the output's 5 planes of 3 words lie in one bank: one packet of 15 words
    assert cost.out_words == 15
    assert cost.cycles == layer.cycles + (5 + 15) + 2
    assert cost.records == 3
    assert cost.bank_reads == 36 + 30
    assert cost.bank_writes == 15 + 9
    assert cost.out_bytes == 15 * 4
    # a packet for each of 3 channels: header and 3 words of 32 bits, a beat each
    assert cost.input_bytes == 3 * (1 + 3) * 8
    assert cost.bits_per_weight(15) == sum(image.bits().values()) / 15


def test_load_bytes_are_those_of_the_packets() -> None:
    for packing in ("dense", "tight"):
        image = compile_network(digits.load().network, CONFIGS["8x4"], packing=packing)
        assert image_cost(image).load_bytes == sum(p.beats.nbytes for p in image.packets())
    place = image.placements[INPUT]
    packets = image.tensor_packets(INPUT, np.zeros(place.shape, dtype=np.int8))
    assert image_cost(image).input_bytes == sum(p.beats.nbytes for p in packets)


def test_bounds_are_below_what_a_layer_takes() -> None:
    for config in ALL:
        cost = image_cost(compile_network(clip_weights(digits.load().network, config), config))
        for layer in cost.layers:
            assert layer.bound_cycles <= layer.pass_cycles < layer.cycles, (config.name, layer.name)


@pytest.mark.parametrize(
    ("memory", "field", "value", "message"),
    [
        ("PROGRAM", 0, 9, "program word 0 has opcode 9, must be 1..5"),
        ("PROGRAM", 1, 0, "layer 'a': words is 0, must be at least 1"),
        ("PROGRAM", 9, 60000, "tiles end at 60000, config '4x2' has 512"),
        ("TILE", 1, 0, "tile 0: 0 passes from lane 0"),
        ("TILE", 0, 65000, "tile 0: 1 passes from lane 65000"),
        ("LANE", 0, 2047, None),
    ],
)
def test_a_program_that_would_not_finish_is_refused(
    memory: str, field: int, value: int, message: str | None
) -> None:
    image = compile_network(one_pixel_more(), CONFIGS["4x2"], packing="dense")
    sections = []
    for s in image.sections:
        words = s.words.copy()
        if s.memory == memory:
            words[0, 0, field] = value
        sections.append(replace(s, words=words))
    broken = replace(image, sections=tuple(sections))
    if message is None:  # an empty group is legal: it costs the members that it lacks
        assert image_cost(broken).layers[0].bank_reads == 36 - 2 * 3
        return
    with pytest.raises(TatamiError, match=message):
        image_cost(broken)
    with pytest.raises(TatamiError, match="images is 0, must be at least 1"):
        image_cost(image, images=0)


# Energy


@pytest.fixture(scope="module")
def cost() -> ImageCost:
    return image_cost(compile_network(digits.load().network, CONFIGS["16x8"]), images=100)


def only(entry: str, table: EnergyTable) -> EnergyTable:
    return replace(table, pj={name: value if name == entry else 0.0 for name, value in table.pj.items()})


def test_parts_add_up(cost: ImageCost) -> None:
    table = load_energy()
    whole = energy(cost, table)
    assert whole.total == pytest.approx(sum(whole.parts().values()))
    assert min(whole.parts().values()) > 0
    # ... entry by entry (each is linear in its energy)
    for part, value in whole.parts().items():
        assert value == pytest.approx(
            sum(energy(cost, only(entry, table)).parts()[part] for entry in ENTRIES)
        ), part
    # ... and layer by layer, but for what lies outside of the layers
    layers = [layer_energy(layer, cost.config, table) for layer in cost.layers]
    for part in ("mac", "array", "requantise", "slots", "accumulators"):
        assert getattr(whole, part) == pytest.approx(sum(getattr(layer, part) for layer in layers)), part
    word = 16 * 8 * table.sram(256 * 16 * 8) / 1e3
    assert whole.banks == pytest.approx(
        sum(layer.banks for layer in layers) + word * (2 * cost.out_words + cost.input_words)
    )


def test_each_entry_by_hand(cost: ImageCost) -> None:
    """Each entry alone, at 1 pJ for one event or bit, gives its events: in nJ, a thousand to the nJ."""
    bare = load_energy()
    total = cost.total

    def parts(entry: str) -> dict[str, float]:
        found = energy(cost, only(entry, replace(bare, pj=dict.fromkeys(ENTRIES, 1.0)))).parts()
        return {part: round(value * 1000, 6) for part, value in found.items() if value}

    assert parts("multiply_int8") == {"mac": total("macs")}
    assert parts("multiply_int32") == {"requantise": total("requantised")}
    assert parts("add") == {
        "mac": 20 * total("macs") + 32 * total("accumulator_reads"),
        "requantise": 64 * total("requantised"),
    }
    assert parts("register") == {"array": (64 + 20 + 2) * total("steps") + 2 * 11 * total("slots_loaded")}
    # hops of four columns: a fourth of the bundles, and sums wait in 96 registers beside 256 PEs
    hopped = replace(cost, config=replace(cost.config, hop=4))
    own = only("register", replace(bare, pj=dict.fromkeys(ENTRIES, 1.0)))
    assert energy(hopped, own).array * 1000 == pytest.approx(
        ((64 + 2) / 4 + 20 + 20 * 96 / 256) * total("steps") + 2 * 11 * total("slots_loaded")
    )
    stream = cost.load_bytes / 100 + cost.input_bytes + cost.out_bytes
    assert parts("dram") == {"streams": pytest.approx(8 * stream)}
    # accumulators (1 KB) and the halves of the banks (4 KB) are small memories, slots (4096 words of 176
    # bits, 88 KB) a larger one
    small = parts("sram_8k")
    assert small["banks"] == 128 * (cost.bank_reads + cost.bank_writes)
    assert small["accumulators"] == 32 * (total("accumulator_reads") + total("accumulator_writes"))
    assert "slots" not in small
    # so are all tables but GROUP (2048 words of 144 bits, 36 KB); each record is read once, TILE in every
    # cycle of the run
    words = (
        11 * total("lane_reads")
        + 24 * total("tap_reads")
        + 272 * total("edge_reads")
        + 92 * total("filter_reads")
    )
    assert small["tables"] == pytest.approx(words + 64 * cost.cycles + 184 * cost.records)
    larger, middle = parts("sram_1m"), parts("sram_32k")
    for part, kbytes, bits in (
        ("slots", 88, 176 * total("slot_rows")),
        ("tables", 36, 144 * total("group_reads")),
    ):
        share = (math.sqrt(kbytes) - math.sqrt(32)) / (math.sqrt(1024) - math.sqrt(32))
        assert larger.pop(part) == pytest.approx(bits * share)
        assert middle[part] == pytest.approx(bits * (1 - share))
    assert not larger


def test_a_doubled_entry_doubles_its_part(cost: ImageCost, tmp_path: Path) -> None:
    before = energy(cost, load_energy()).parts()
    for entry, doubled in (
        ("dram", {"streams"}),
        ("register", {"array"}),
        ("sram_8k", {"banks", "accumulators"}),
    ):
        content = yaml.safe_load(ENERGY_TABLE.read_text())
        content["entries"][entry]["pj"] *= 2
        path = tmp_path / f"{entry}.yaml"
        path.write_text(yaml.safe_dump(content))
        after = energy(cost, load_energy(path)).parts()
        for part in ("mac", "array", "requantise", "slots", "banks", "accumulators", "streams"):
            assert after[part] == pytest.approx(before[part] * (2 if part in doubled else 1)), (entry, part)


def test_the_load_is_shared_and_the_machine_counts(cost: ImageCost) -> None:
    table = load_energy()
    once = energy(replace(cost, images=1), table)
    assert once.streams - energy(cost, table).streams == pytest.approx(
        0.99 * cost.load_bytes * 8 * 1300 / 64 / 1e3
    )
    larger = energy(cost, table, replace(cost.config, lane_depth=65536))
    assert larger.slots / energy(cost, table).slots == pytest.approx(100 / (64 * table.sram(4096 * 176)))
    assert larger.banks == energy(cost, table).banks


def test_the_table_names_its_sources() -> None:
    table = load_energy()
    assert set(table.pj) == set(ENTRIES)
    assert table.pj["add"] == pytest.approx(0.1 / 32)
    assert table.sram(8 * 8192) == pytest.approx(10 / 64)
    assert table.sram(1) == table.sram(8 * 8192)
    assert table.sram(2**40) == pytest.approx(100 / 64)
    sources = [entry["source"] for entry in yaml.safe_load(ENERGY_TABLE.read_text())["entries"].values()]
    assert all("ISSCC 2014" in source or "ISCA 2014" in source for source in sources)


def test_no_sharing_out_of_lanes_beats_the_fewest_cycles() -> None:
    """All ways to give two layers lanes, tile by tile, on an array of 4: one has the fewest cycles that whole
    passes allow.
    """
    layers, size = [(4, 64, 9), (8, 4, 20)], 4  # one tile, and two of at most ten lanes each

    def cycles(*tiles: int) -> int:
        return sum(
            max(1, -(-lanes // size)) * pixels for lanes, pixels in zip(tiles, (64, 4, 4), strict=True)
        )

    for lanes in range(1, 30):
        ways = [cycles(a, b, lanes - a - b) for a in range(10) for b in range(11) if 0 <= lanes - a - b <= 10]
        fewest = fewest_cycles(layers, lanes, size)
        assert fewest <= min(ways)
        assert min(ways) - fewest < 64  # less than a pass is lost to part-filled ones
    assert fewest_cycles(layers, 12, size) == 64 + 8
    assert fewest_cycles(layers, 14, size) == 64 + 8 + 2 * 4 / 4
    assert fewest_cycles(layers, 29, size) == 64 + 8 + 12 + 5 * 16


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("entries"), "field 'entries' is missing"),
        (lambda c: c.pop("technology"), "field 'technology' is missing"),
        (lambda c: c.update(node=45), "field 'node' is unknown"),
        (lambda c: c["entries"].pop("dram"), "field 'entries.dram' is missing"),
        (lambda c: c["entries"].update(flash={}), "field 'entries.flash' is unknown"),
        (lambda c: c["entries"]["add"].update(pj=-1), r"'entries.add.pj' is -1: .* or equal to 0"),
        (lambda c: c["entries"]["add"].update(pj=2e6), r"'entries.add.pj' is 2000000.0: .* to 1000000"),
        (lambda c: c["entries"]["add"].update(pj=float("nan")), "'entries.add.pj' is nan: .* finite"),
        (lambda c: c["entries"]["add"].update(pj="0.1 pJ"), "'entries.add.pj' is '0.1 pJ'"),
        (lambda c: c["entries"]["add"].update(pJ=0.1), "field 'entries.add.pJ' is unknown"),
        (
            lambda c: c["entries"]["add"].update(unit="operation"),
            "'entries.add.unit' is 'operation': input should be 'bit', '32 bits' or '64 bits'",
        ),
        (
            lambda c: c["entries"]["multiply_int8"].update(unit="bit"),
            "'entries.multiply_int8.unit' is 'bit': input should be 'operation'",
        ),
        (lambda c: c["entries"]["add"].update(source=" "), "'entries.add.source' is ' ': must be a line"),
    ],
)
def test_a_bad_table_is_refused_in_one_line(change: Any, message: str, tmp_path: Path) -> None:
    content = yaml.safe_load(ENERGY_TABLE.read_text())
    change(content)
    path = tmp_path / "table.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(TatamiError, match=message) as error:
        load_energy(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_is_no_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TatamiError, match=r"none\.yaml': cannot be read"):
        load_energy(tmp_path / "none.yaml")
    path = tmp_path / "broken.yaml"
    for text in ("entries: [", "- 1", ""):
        path.write_text(text)
        with pytest.raises(TatamiError, match=r"broken\.yaml': is (no YAML|\[1\]|None)") as error:
            load_energy(path)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("config", ALL, ids=lambda c: c.name)
def test_a_streamed_network_costs_what_the_whole_one_does(config: ArrayConfig) -> None:
    """The same events, but for those of the records; and the cycles are those of the array model."""
    streamed = 0
    for seed in range(8):
        _, image = random_program(np.random.default_rng([3, seed]), config, "tight", streamed=1.0)
        _, whole = random_program(np.random.default_rng([3, seed]), config, "tight")
        cost, plain = image_cost(image), image_cost(whole)
        machine = Machine(config)
        machine.load(image.sections)
        model = machine.run(image.run_start, stream=image.run_stream)
        assert cost.cycles == model.cycles
        assert [layer.name for layer in cost.layers] == list(whole.layers)
        for one, other in zip(cost.layers, plain.layers, strict=True):
            segments = image.layers.count(one.name)
            longer = one.cycles - other.cycles
            assert (
                replace(
                    other,
                    cycles=one.cycles,
                    tile_reads=other.tile_reads + longer,
                    program_reads=segments,
                )
                == one
            )
        assert cost.stream_bytes == sum(p.beats.nbytes for p in live_packets(image.config, image.run_stream))
        assert cost.out_words == plain.out_words
        streamed += image.streamed
    assert streamed >= 4


def test_a_program_that_waits_for_more_than_its_stream_has_is_refused() -> None:
    _, image = random_program(np.random.default_rng([3, 1]), CONFIGS["4x2"], streamed=1.0)
    assert image.streamed
    short = replace(image, run_stream=image.run_stream[:-1])
    with pytest.raises(TatamiError, match=r"program word \d+ waits for \d+ packets, \d+ are left"):
        image_cost(short)
