"""Coverage: the points on the model, the reader of Verilator's file, merging, exclusions, the report and its
exit status.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cocotb_coverage.coverage import coverage_db
from rich.console import Console

from pymodel.compiler.agreement import loaded
from pymodel.compiler.compile import clip_weights, compile_network
from pymodel.machine.config import CONFIGS
from pymodel.machine.errors import ErrorCode, TatamiError
from pymodel.machine.faults import ProgramError
from pymodel.machine.image import Image
from pymodel.machine.live import LiveStream
from pymodel.machine.memory import Section
from pymodel.machine.memory import columns as fields
from pymodel.machine.model import Machine
from pymodel.machine.program import End, Out, Wait, encode_all
from pymodel.machine.runs import ProgramRun
from pymodel.machine.slot_rows import image_rows
from pymodel.network.integer import (
    INPUT,
    Conv,
    Gather,
    Layer,
    Linear,
    MaxPool,
    Network,
    Requant,
    Residual,
    Window,
)
from pymodel.zoo.random_network import random_images, random_program
from scripts import coverage as command
from tb.common import settings
from tb.common.run_clock import LAST_BEAT_SEEN, Mark, RunClock
from tb.common.settings import Settings
from tb.coverage import collect, operations, sample
from tb.coverage.observe import (
    SIDES,
    ColumnSeen,
    GatherSeen,
    LayerSeen,
    Observation,
    OperationSeen,
    ProgramSeen,
    ReaderSeen,
    RequantSeen,
    ReuseSeen,
    SideSeen,
    SlotSeen,
    WindowSeen,
)
from tb.coverage.points import BIAS, POINTS, Coverpoint, Cross, limits, size_class
from tb.coverage.watch import Started
from tb.flow import provenance, runner
from tb.flow.coverage import code, exclusions, functional, rank, report, runs
from tb.flow.coverage.merge import MergedCoverage, merge
from tb.flow.pages import coverage as coverage_pages
from tb.psa_top.operations import networks as every_network

CONFIG = CONFIGS["4x2"]
# observations of a network, whatever the machine that it runs on
OF_NETWORKS = (OperationSeen, WindowSeen, SideSeen, GatherSeen, ReaderSeen)


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Coverage switched on with an empty database, as in a simulation of its own."""
    told = Settings(
        config=CONFIG, parameters={}, sim="verilator", result=str(tmp_path / "result.json"), coverage=True
    )
    monkeypatch.setenv(settings.VARIABLE, told.to_json())
    monkeypatch.setattr(collect, "_databases", [])
    monkeypatch.setattr(collect.atexit, "register", lambda *_: None)
    coverage_db.clear()
    sample.PROGRAMS.clear()
    return tmp_path


def machine_and_image(seed: int) -> tuple[Machine, Image]:
    rng = np.random.default_rng(seed)
    network, image = random_program(rng, CONFIG)
    return loaded(image, random_images(rng, network, 1)), image


# Sampling


def test_observations_agree_with_the_memories() -> None:
    """Each set of observations against a count in plain Python."""
    machine, image = machine_and_image(3)
    run = machine.run(image.run_start)
    seen = sample.observations(machine, image.run_start, run)
    tiles = machine.memory["TILE"][: sum(layer.tiles for layer in run.layers), 0]
    slots, columns = set(), set()
    write = fields("FILTER", machine.memory["FILTER"][:, 0]).write
    rows = image_rows(image)
    for base, passes, first, _ in tiles.tolist():
        for column in range(CONFIG.size):
            weights = 0
            for lane in range(base, base + passes * CONFIG.size):
                weight, select = rows[lane, column].tolist()
                if weight:
                    weights += 1
                    slots.add(
                        SlotSeen(
                            lane % CONFIG.size,
                            select,
                            weight if weight in (-128, 127) else weight // abs(weight),
                        )
                    )
            columns.add(ColumnSeen(weights, passes, bool(write[first + column])))
    assert {s for s in seen if isinstance(s, SlotSeen)} == slots
    assert {s for s in seen if isinstance(s, ColumnSeen)} == columns
    layers = [s for s in seen if isinstance(s, LayerSeen)]
    assert {s.tiles for s in layers} == {layer.tiles for layer in run.layers}
    assert {(s.filters, s.pixels) for s in layers} == {
        (image.placements[n].shape[0], image.placements[n].shape[1] * image.placements[n].shape[2])
        for n in image.layers
    }


def test_a_streamed_network_is_seen_while_its_tables_are_there(fresh: Path) -> None:  # noqa: ARG001
    """As the same network in memories that hold all of it. When it has run, other tables are there."""
    rng = np.random.default_rng(0)
    weight, requant = rng.integers(-90, 90, (32, 2, 1, 1)), Requant.none(32)
    network = Network("wide", (2, 4, 4), (Conv("c", INPUT, weight, requant),))
    whole = compile_network(network, CONFIG)
    cut = compile_network(
        network, CONFIG, streamed=True, limit=lambda memory, fewest, _: 256 if memory == "PROGRAM" else fewest
    )
    assert len(cut.layers) > 4
    seen = []
    for image, early in ((whole, True), (cut, True), (cut, False)):
        machine = Machine(CONFIG)
        if early:
            sample.observe(machine)
        machine.load(image.sections)
        run = machine.run(image.run_start, stream=image.run_stream)
        found = sample.observations(machine, image.run_start, run)
        seen.append({one for one in found if isinstance(one, SlotSeen | RequantSeen)})
    assert seen[0] == seen[1] != seen[2]
    assert operations.observations(network, whole) == operations.observations(network, cut)


def test_the_layers_of_a_network_are_seen_as_they_are() -> None:
    """Windows, groups and a residual as the network has them, and what reads a tensor that only names
    pixels.
    """
    same, ones = Requant.none(4), np.ones(4, int)
    tall, point = np.ones((4, 1, 4, 3), int), np.ones((4, 4, 1, 1), int)
    first = Window((4, 3), (2, 1), (3, 0, 1, 1), (1, 2))
    layers: tuple[Layer, ...] = (
        Conv("c", INPUT, tall, same, first.stride, first.padding, dilation=(1, 2), groups=4, pad=-9),
        Gather("g", ("c", "c"), np.array([0, 1, 0, 1]), np.array([3, 0, -1, 2])),
        Conv("d", "c", point, same, residual=Residual("g", np.arange(4), ones)),
        MaxPool("m", "d", (2, 2), (2, 2)),
        Linear("l", "g", np.ones((5, 96), int), replace(Requant.none(5), zero=3, low=3)),
    )
    network = Network("seen", (4, 10, 7), layers)
    seen = operations.observations(network, compile_network(network, CONFIG))
    assert seen == {
        OperationSeen("Conv", 1, (2, 2), False, None),
        OperationSeen("Gather", 0, None, None, None),
        OperationSeen("Conv", 1, (2, 2), False, (1, 1)),
        OperationSeen("MaxPool", 1, (1, 1), None, None),
        OperationSeen("Linear", 2, (1, 1), True, None),
        WindowSeen("depthwise", first, -1),
        WindowSeen("convolution", Window((1, 1)), None),
        WindowSeen("maximum", Window((2, 2), (2, 2)), None),
        SideSeen("top", 4, 2, "full"),
        SideSeen("left", 3, 1, "none"),
        SideSeen("bottom", 4, 2, "some"),
        SideSeen("right", 3, 1, "some"),
        *(SideSeen(side, size, size, "none") for side in SIDES for size in (1, 2)),
        GatherSeen(1, zeros=True),
        ReaderSeen("Gather", "sum"),
        ReaderSeen("Gather", "pixels"),
    }


def test_words_that_are_written_again_are_seen() -> None:
    """By the layer behind their last reader, and by one behind that."""

    def names(layers: int) -> list[str]:
        return [INPUT, *(f"c{n}" for n in range(layers))]

    def chain(layers: int) -> Network:
        point, same = np.ones((2, 2, 1, 1), int), Requant.none(2)
        made = tuple(Conv(name, source, point, same) for source, name in pairwise(names(layers)))
        return Network("chain", (2, 5, 5), made)

    def seen(network: Network, reuse: bool) -> set[Observation]:
        found = operations.observations(network, compile_network(network, CONFIG, reuse=reuse))
        return {one for one in found if isinstance(one, ReuseSeen)}

    assert seen(chain(1), reuse=True) == seen(chain(4), reuse=False) == set()
    # c1 has the words of the input, whose last reader is c0; c2 has those of c0
    assert seen(chain(2), reuse=True) == {ReuseSeen("the next layer")}
    assert seen(chain(4), reuse=True) == {ReuseSeen("the next layer"), ReuseSeen("a later layer")}


def test_networks_are_made_that_have_every_operation() -> None:
    """In the smallest and the default array, whatever is drawn: no bin of an operation depends on a seed."""
    points = {p.name: p for p in POINTS if isinstance(p, Coverpoint) and p.of in OF_NETWORKS}
    bins = {name: p.bins for name, p in points.items() if not callable(p.bins)}
    crosses = [p for p in POINTS if isinstance(p, Cross) and p.of in OF_NETWORKS]
    for config, seed in product((CONFIGS["4x2"], CONFIGS["16x8"]), range(2)):
        seen: set[Observation] = set()
        for _, network, packing in every_network(np.random.default_rng(seed), config):
            image = compile_network(clip_weights(network, config), config, packing=packing)
            seen |= operations.observations(network, image)
        for name, point in points.items():
            met = {point.value(s) for s in seen if type(s) is point.of}
            assert {*bins[name]} <= met, f"{config.name}, {name}"
        for cross in crosses:
            values = [points[name].value for name in cross.items]
            found = {tuple(value(s) for value in values) for s in seen if type(s) is cross.of}
            wanted = {*product(*(bins[name] for name in cross.items))} - {*cross.without}
            assert wanted <= found, f"{config.name}, {cross.name}"


def test_the_timeline_has_every_cycle_of_the_run() -> None:
    for seed in range(5):
        machine, image = machine_and_image(seed)
        run = machine.run(image.run_start)
        timeline = sample.StateTimeline.of(machine, image.run_start, run)
        states = [timeline.at(cycle) for cycle in range(run.cycles + 2)]
        assert states[0] == states[-1] == "IDLE"
        assert "IDLE" not in states[1:-1]
        assert states.count("RUN") == run.busy_cycles
        assert states.count("TILE") == len(run.layers)


def test_every_cycle_of_a_layer_has_its_place_in_a_pass() -> None:
    """Against the loops of docs/machine.md, "Sequencer": two whole chunks and a shorter one, three passes of
    all tiles.
    """
    layer = sample.Passes(words=7, chunk_words=3, passes=3, size=4)
    wanted: list[str] = []
    for words in (3, 3, 1):
        for _ in range(3):
            wanted += ["first cycle", *["middle cycle"] * (words * 4 - 2), "last cycle"]
    assert [layer.place(cycle) for cycle in range(layer.cycles)] == wanted


def test_places_of_a_program() -> None:
    """In RUN a place in a pass, between RUN and RUN another, before and after them none.

    A pass loads T rows of slots.
    """
    machine, image = machine_and_image(5)
    run = machine.run(image.run_start)
    assert len(run.layers) > 1
    assert any(layer.chunks > 1 for layer in run.layers)
    timeline = sample.StateTimeline.of(machine, image.run_start, run)
    states = [timeline.at(cycle) for cycle in range(run.cycles + 2)]
    places = [timeline.place(cycle) for cycle in range(run.cycles + 2)]
    first, last = states.index("RUN"), len(states) - states[::-1].index("RUN")
    assert {bool(place) for place in places[:first] + places[last:]} == {False}
    for state, place in zip(states[first:last], places[first:last], strict=True):
        assert (place in ("first cycle", "middle cycle", "last cycle")) == (state == "RUN")
        assert place
    assert places.count("first cycle") == places.count("last cycle") == run.slot_rows // CONFIG.size


def test_a_word_that_waits_holds_the_state(fresh: Path) -> None:  # noqa: ARG001
    machine, image = machine_and_image(3)
    sample.sample_program(machine, image.dump_start, machine.run(image.dump_start))
    timeline = sample.PROGRAMS[image.dump_start]
    sent = timeline.states.index("OUT")
    last = int(timeline.ends[sent]) - 1  # cycle of the first OUT record
    started = Started(image.dump_start, RunClock(100))
    assert started.state(100 + last) == "OUT"
    assert started.state(100 + last + 1) == "FETCH"
    started.clock.stall(90 + last, True)
    started.clock.stall(97 + last, False)
    assert started.state(100 + last + 7) == "OUT"
    assert started.state(100 + last + 8) == "FETCH"
    assert Started(image.run_start, RunClock(100)).state(101) is None


def test_a_wait_holds_the_state(fresh: Path) -> None:  # noqa: ARG001
    """From its first cycle until the second after the last beat of its packet."""
    machine = Machine(CONFIG)
    machine.load([Section("PROGRAM", 0, encode_all([Wait(1), End()]))])
    run = ProgramRun()
    next(machine.steps(0, run, LiveStream(machine)))
    sample.follow_program(machine, 0, run)
    started = Started(0, RunClock(100))
    assert [started.state(cycle) for cycle in range(100, 104)] == ["IDLE", "FETCH", "DECODE", "WAIT"]
    assert started.state(190) == "WAIT"
    started.clock.packet(198)
    machine = Machine(CONFIG)
    machine.load([Section("PROGRAM", 0, encode_all([Wait(1), End()]))])
    spare = Section("FEATURE", 0, np.zeros((1, CONFIG.size, 1), np.int64))
    sample.sample_program(machine, 0, machine.run(0, stream=[spare]))
    assert [started.state(cycle) for cycle in range(199, 204)] == ["WAIT", "WAIT", "FETCH", "DECODE", "IDLE"]


def test_saturation_is_counted_at_both_ends() -> None:
    """Clipped pixels of the model against a filter whose bias pushes every pixel out of the range."""
    machine, image = machine_and_image(3)
    filters = machine.memory["FILTER"]
    for bias, low, high in (
        (2**31 - 1, -128, 127),
        (-(2**31), -128, 127),
        (-(2**31), 0, 6),
        (2**31 - 1, 9, 3),
    ):
        clamps = (("zero", 5), ("low", low), ("high", high))
        for name, value in (("bias", bias), ("multiplier", 1), ("shift", 0), *clamps):
            getattr(fields("FILTER", filters), name)[:] = value
        layer = machine.run(image.run_start).layers[0]
        pixels = int(np.prod(image.placements[image.layers[0]].shape))
        assert (layer.clipped_low, layer.clipped_high) == ((0, pixels) if bias > 0 else (pixels, 0))


def test_a_program_is_sampled_into_the_file_of_the_run(fresh: Path) -> None:
    machine, image = machine_and_image(3)
    sample.sample_program(machine, image.run_start, machine.run(image.run_start))
    collect.write(fresh / collect.FILE)
    points = functional.read(fresh / collect.FILE)
    assert points["program.cp_start"].holes == ["a later word"]
    assert any(points["slot.cp_select_x_row.on_4x2"].hits.values())
    # what was seen is counted once in a simulation: the same again adds nothing
    sample.sample_program(machine, image.run_start, machine.run(image.run_start))
    collect.write(fresh / collect.FILE)
    assert functional.read(fresh / collect.FILE) == points


def test_nothing_is_sampled_unless_coverage_is_on(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(settings.VARIABLE)
    machine, image = machine_and_image(3)
    sample.sample_program(machine, image.run_start, machine.run(image.run_start))
    sample.sample_event("gap", where="inside a packet")
    assert not collect._databases
    assert not list(fresh.iterdir())


@pytest.mark.parametrize(
    ("memory", "field", "value", "expected"),
    [
        ("PROGRAM", 0, 9, ("PROGRAM_OPCODE", "DECODE")),
        ("PROGRAM", 9, 0, ("PROGRAM_FIELD", "DECODE")),
        ("PROGRAM", 4, 65535, ("PROGRAM_FIELD", "RUN")),
        ("TILE", 1, 0, ("TILE_FIELD", "TILE_WAIT")),
        ("FILTER", 7, 15, ("FEATURE_WRITE", "DRAIN")),
    ],
)
def test_the_state_of_an_error(
    memory: str, field: int, value: int, expected: tuple[str, str], fresh: Path
) -> None:
    machine, image = machine_and_image(3)
    machine.memory[memory][0, 0, field] = value
    with pytest.raises(ProgramError) as caught:
        machine.run(image.run_start)
    timeline = sample.StateTimeline.of(machine, image.run_start, caught.value)
    assert (caught.value.code.name, timeline.at(caught.value.cycle + 1)) == expected
    # the sequencer hears of the pipeline's a cycle later
    stopped = caught.value.cycle + (1 if expected[0] != "FEATURE_WRITE" else 2)
    assert timeline.at(stopped) != "ERROR"
    assert timeline.at(stopped + 1) == timeline.at(10**6) == "ERROR"
    sample.sample_program(machine, image.run_start, caught.value)
    collect.write(fresh / collect.FILE)
    assert functional.read(fresh / collect.FILE)["program.cp_error_x_state"].hits[str(expected)] == 1


def test_a_program_past_the_end_stops_in_fetch() -> None:
    machine = Machine(CONFIG)
    machine.load([Section("PROGRAM", CONFIG.program_depth - 1, encode_all([Out(0, 0, 1)]))])
    with pytest.raises(ProgramError) as caught:
        machine.run(CONFIG.program_depth - 1)
    assert caught.value.code == ErrorCode.PROGRAM_RANGE
    assert sample.StateTimeline.of(machine, CONFIG.program_depth - 1, caught.value).states[-2:] == (
        "FETCH",
        "ERROR",
    )


def test_classes_of_sizes_and_values() -> None:
    sizes = [size_class(n, 4) for n in (1, 3, 4, 5, 8)]
    assert sizes == ["1", "below T", "T", "ragged above T", "multiple of T"]
    low, high = BIAS
    values = np.array([low, low + 1, -1, 0, 1, high - 1, high])
    names = ["lowest", "negative", "negative", "zero", "positive", "positive", "highest"]
    assert [limits(v, low, high) for v in sample.ends(values, low, high).tolist()] == names


def test_points_have_names_of_their_own_and_crosses_name_points() -> None:
    names = [(p.of, p.name) for p in POINTS]
    assert len(names) == len(set(names))
    assert all(name.startswith("cp_") for _, name in names)
    for point in POINTS:
        if isinstance(point, Cross):
            assert {(point.of, item) for item in point.items} <= set(
                names[: names.index((point.of, point.name))]
            )


# Verilator's file

SOURCE = (
    "module small (\n    input wire a\n);\nalways @* begin\n    if (a) x = 1;\n    else x = 2;\nend\nwire"
    " [3:0] bus;\n"
)


def dat(*points: tuple[str, int]) -> str:
    """A coverage.dat as Verilator 5.48 writes it, with the given points: "page line column what span" and
    count.
    """
    lines = ["# SystemC::Coverage-3"]
    for text, count in points:
        page, line, column, what, span = text.split()
        key = f"\1f\2/somewhere/rtl/small.v\1l\2{line}\1n\2{column}"
        key += f"\1t\2{page}\1page\2v_{page}/small__R4\1o\2{what}"
        key += (f"\1S\2{span}" if span != "-" else "") + "\1h\2top.small"
        lines.append(f"C '{key}' {count}")
    return "\n".join(lines) + "\n"


LINES = [("line 4 1 block 4", 9), ("branch 5 5 if 5", 9), ("branch 5 6 else 6", 0)]
TOGGLES = [(f"toggle 8 12 bus[{bit}]:{way} -", int(bit < 1)) for bit in range(4) for way in ("0->1", "1->0")]


def folder(tmp_path: Path, name: str, *points: tuple[str, int]) -> Path:
    run = tmp_path / name
    run.mkdir()
    (run / "coverage.dat").write_text(dat(*points), encoding="latin-1")
    return run


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.v"
    path.write_text(SOURCE)
    return path


def test_a_recorded_file_is_read(tmp_path: Path) -> None:
    hits = code.read(folder(tmp_path, "a", *LINES, *TOGGLES) / "coverage.dat")
    assert hits[code.CodePoint("branch", "small.v", 5, 5, "if", "5")] == 9
    assert [(p.line, p.hits) for p in code.places(hits, "line")] == [(4, 9), (5, 9), (6, 0)]
    assert [(p.what, p.hits) for p in code.places(hits, "branch")] == [("if", 9), ("else", 0)]
    assert sum(p.covered for p in code.places(hits, "toggle")) == 2
    assert not code.places(hits, "line", ["other.v"])


def test_instances_and_configurations_of_a_module_are_one(tmp_path: Path) -> None:
    path = folder(tmp_path, "a", ("line 4 1 block 4", 2)) / "coverage.dat"
    text = path.read_text(encoding="latin-1")
    path.write_text(
        text + text.split("\n")[1].replace("small__R4", "small__R8").replace("top.small", "top.other") + "\n",
        encoding="latin-1",
    )
    assert list(code.read(path).values()) == [4]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda text: text.replace("SystemC", "Other"), "not a coverage file of Verilator"),
        (lambda text: text[: len(text) // 2], r"line \d: not a coverage point"),
        (lambda text: text + "junk\n", r"line 5: not a coverage point"),
    ],
)
def test_a_file_that_is_none_is_refused(tmp_path: Path, spoil: Callable[[str], str], message: str) -> None:
    path = folder(tmp_path, "a", *LINES) / "coverage.dat"
    path.write_text(spoil(path.read_text(encoding="latin-1")), encoding="latin-1")
    with pytest.raises(TatamiError, match=message):
        code.read(path)


def test_merge_adds_up(tmp_path: Path, small: Path) -> None:
    first = folder(tmp_path, "a", ("branch 5 5 if 5", 3), ("branch 5 6 else 6", 0))
    second = folder(tmp_path, "b", ("branch 5 5 if 5", 4), ("branch 5 6 else 6", 1))
    assert merge([first], [], [small]).code_percent("branch") == 50
    both = merge([first, second], [], [small])
    assert [p.hits for p in both.places["branch"]] == [7, 1]
    assert both.code_percent("branch") == 100


def test_functional_merge_adds_up_and_wants_the_same_bins() -> None:
    total: functional.Points = {}
    functional.add(total, {"g.cp_a": functional.Bins("g.cp_a", {"x": 1, "y": 0})})
    functional.add(
        total,
        {
            "g.cp_a": functional.Bins("g.cp_a", {"x": 2, "y": 0}),
            "g.cp_b": functional.Bins("g.cp_b", {"z": 1}),
        },
    )
    assert total["g.cp_a"].hits == {"x": 3, "y": 0}
    assert functional.percent(total) == 75
    with pytest.raises(TatamiError, match=r"g\.cp_a: two runs differ in its bins"):
        functional.add(total, {"g.cp_a": functional.Bins("g.cp_a", {"x": 1, "w": 0})})


def test_a_folder_without_coverage_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TatamiError, match="no coverage in it"):
        merge([tmp_path], [], [])


# Exclusions


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "exclusions.yaml"
    path.write_text(text)
    return path


GOOD = (
    "{rule: branch, place: 'small.v: if (a) x = 1; => else', category: unreachable, reason: a is tied high}"
)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (GOOD.replace("category: unreachable, ", ""), "entry 1: field 'category' is missing"),
        (
            GOOD.replace("reason: a is tied high", "reason: ''"),
            "entry 1: field 'reason' is '': string should have at least 1",
        ),
        (
            GOOD.replace("unreachable", "tedious"),
            "field 'category' is 'tedious': input should be 'unreachable', 'unsupported' or 'external'",
        ),
        (GOOD.replace("rule: branch", "rule: branches"), "field 'rule' is 'branches'"),
        (
            GOOD.replace("reason:", "why: x, reason:"),
            "field 'why' is unknown; valid: rule, place, category, reason",
        ),
    ],
)
def test_an_exclusion_needs_category_and_reason(tmp_path: Path, entry: str, message: str) -> None:
    with pytest.raises(TatamiError, match=message):
        exclusions.load(written(tmp_path, f"- {entry}\n"))


def test_an_exclusion_takes_out_what_it_names(tmp_path: Path, small: Path) -> None:
    run = folder(tmp_path, "a", *LINES, *TOGGLES)
    found = exclusions.load(
        written(
            tmp_path,
            f"- {GOOD}\n- {{rule: toggle, place: 'small.v: bus[3]*', category: external, reason: unused}}\n",
        )
    )
    coverage = merge([run], found, [small])
    assert coverage.code_percent("branch") == 100
    assert coverage.code_percent("toggle") == pytest.approx(100 * 2 / 6)
    assert coverage.code_percent("line") == pytest.approx(100 * 2 / 3)  # another rule: not touched


@pytest.mark.parametrize(
    "stale",
    [
        GOOD.replace("x = 1", "x = 3"),
        "{rule: functional, place: 'g.cp_no: *', category: unreachable, reason: none}",
    ],
    ids=["code", "point"],
)
def test_a_stale_exclusion_is_an_error(tmp_path: Path, small: Path, stale: str) -> None:
    with pytest.raises(TatamiError, match=r"exclusion matches nothing: .*remove it"):
        merge([folder(tmp_path, "a", *LINES)], exclusions.load(written(tmp_path, f"- {stale}\n")), [small])


def test_an_exclusion_of_a_file_that_no_run_was_built_with_may_stay(tmp_path: Path, small: Path) -> None:
    """Some of the runs may all be of designs without it. A file that is none is an error."""
    (tmp_path / "other.v").write_text("module other;\nendmodule\n")
    found = exclusions.load(written(tmp_path, f"- {GOOD.replace('small.v', 'other.v')}\n"))
    run = folder(tmp_path, "a", *LINES)
    assert merge([run], found, [small, tmp_path / "other.v"]).runs == 1
    with pytest.raises(TatamiError, match="exclusion matches nothing: branch 'other.v"):
        merge([run], found, [small])


def test_an_excluded_bin_is_not_counted() -> None:
    points = {"g.cp_a": functional.Bins("g.cp_a", {"x": 1, "y": 0, "z": 0})}
    exclusions.apply(
        [exclusions.Exclusion(rule="functional", place="g.cp_a: y", category="unreachable", reason="never")],
        points,
        {},
        lambda *_: "",
    )
    assert points["g.cp_a"].holes == ["z"]
    assert points["g.cp_a"].percent == 50


def test_the_project_s_own_files_are_legal() -> None:
    assert all(e.reason for e in exclusions.load())
    assert [str(job) for job in runs.load(chosen="errors 4x2 *")] == ["errors 4x2 seed 1"]
    with pytest.raises(TatamiError, match="RUNS 'no such' matches none"):
        runs.load(chosen="no such")


def test_a_run_list_names_tests_and_configurations(tmp_path: Path) -> None:
    path = tmp_path / "runs.yaml"
    for text, message in (
        ("- {test: random, seeds: 1}", "runs.yaml, entry 1: field 'configs' is missing"),
        ("- {test: no_such, configs: [4x2], seeds: 1}", "runs.yaml, entry 1: TEST 'no_such' is unknown"),
        ("- {test: random, configs: [5x5], seeds: 1}", "CONFIG '5x5' is unknown"),
        ("- {test: random, configs: [4x2], seeds: 0}", "field 'seeds' is 0"),
        (
            "- {test: random, configs: [4x2], seeds: 1, options: {image: 1}}",
            "field 'options.image' is unknown",
        ),
        (
            "- {test: random, configs: [4x2], seeds: 1, change: {depth: 4}}",
            "change: field 'depth' is unknown",
        ),
        (
            "- {test: random, configs: [4x2], seeds: 1, change: {lane_depth: 3}}",
            "lane_depth is 3, must be in",
        ),
        ("[]", "runs.yaml: holds no runs"),
    ):
        path.write_text(text)
        with pytest.raises(TatamiError, match=message):
            runs.load(path)


# Report


def test_every_hole_is_named(tmp_path: Path, small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    coverage = merge([folder(tmp_path, "a", *LINES, *TOGGLES)], [], [small])
    coverage.points = {
        "g.cp_never": functional.Bins("g.cp_never", {"x": 0, "y": 0}),
        "g.cp_half": functional.Bins("g.cp_half", {"x": 0, "y": 2}),
    }
    report.show(coverage, Console(width=120))
    text = capsys.readouterr().out
    for hole in (
        "functional  g.cp_never: never sampled",
        "functional  g.cp_half: x",
        "line        small.v:6: else x = 2;",
        "branch      small.v:5: if (a) x = 1; => else",
        "toggle      small.v:8: bus[3:1]:0->1",
    ):
        assert hole in text, text
    points = report.write_points(coverage, tmp_path / "html", whole=True)
    shown = report.write_shown(coverage, [small], tmp_path / "html", points, 0)
    assert coverage_pages.load(tmp_path / "html") == (shown, [])
    index = coverage_pages.alone(shown, [], tmp_path / "html")
    assert "g.cp_never: never sampled" in index.read_text()
    page = (tmp_path / "html" / "source-small.v.html").read_text()
    assert re.search(r'class="hole" id="l6"', page)
    assert re.search(r'class="partial" id="l5".*branch: else', page)
    assert re.search(r'class="covered" id="l4"', page)


def exit_status(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, small: Path, *points: tuple[str, int]
) -> int:
    """What the command says about one run with all functional points hit and the given code points."""
    run = folder(tmp_path, "run", *points)
    bins = '<bin0 bin="x" hits="1" abs_name="top.tatami.g.cp_a.bin0"/>'
    (run / collect.FILE).write_text(f'<top abs_name="top"><a abs_name="top.tatami.g.cp_a">{bins}</a></top>')
    monkeypatch.setattr(command, "rtl_sources", lambda: [small])
    monkeypatch.setattr(command.runner, "BUILD", tmp_path)
    monkeypatch.setattr(command.exclusions, "load", list)
    return command.main([str(run)])


def test_exit_status_and_last_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    full = [(text, 1) for text, _ in (*LINES, *TOGGLES)]
    assert exit_status(monkeypatch, tmp_path, small, *full) == 0
    written = json.loads((tmp_path / "coverage" / report.POINTS_FILE).read_text())
    assert written["points"] == {"g.cp_a": {"hit": 1, "bins": 1}}
    assert not written["whole"]  # a folder was given
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == 'COVERAGE {"functional": 100.0, "line": 100.0, "branch": 100.0, "toggle": 100.0}'


def test_the_revision_is_that_of_the_start(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, small: Path
) -> None:
    """A commit while the runs go on is not what has run."""
    commit = ["before"]
    monkeypatch.setattr(provenance, "_first_line", lambda *words: commit[0] if "HEAD" in words else "")
    merged = command.merge_all

    def slowly(*given: Any) -> MergedCoverage:
        commit[0] = "after"
        return merged(*given)

    monkeypatch.setattr(command, "merge_all", slowly)
    cached = (provenance.git_revision, provenance.git_branch, provenance.tool_versions)
    for each in cached:
        each.cache_clear()
    try:
        exit_status(monkeypatch, tmp_path, small, *[(text, 1) for text, _ in LINES])
        written = json.loads((tmp_path / "coverage" / report.POINTS_FILE).read_text())
    finally:
        for each in cached:
            each.cache_clear()
    assert written["git"] == "before"


def test_a_missed_target_is_said_and_is_exit_status_1(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_status(monkeypatch, tmp_path, small, *[(text, 1) for text, _ in LINES], *TOGGLES) == 1
    assert "toggle coverage is 25.00%, the target is 90%" in capsys.readouterr().out


def test_runs_of_another_machine_count_and_are_not_done_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each toggles half of the bits: together they have all of them, and it is known which has what."""
    random, live = runs.load(chosen="random 4x2 seed 1, live 4x2 *")
    monkeypatch.setattr(command.exclusions, "load", list)
    monkeypatch.setattr(command, "rtl_sources", lambda: [small])
    halves = [[(text, int(n % 2 == half)) for n, (text, _) in enumerate(TOGGLES)] for half in (0, 1)]
    lines = [(text, 1) for text, _ in LINES]
    there, here = tmp_path / "there", tmp_path / "here"
    for built in (there, here):
        (built / "coverage").mkdir(parents=True)
    monkeypatch.setattr(runner, "BUILD", there)
    runs.write_ran([runs.Done(random, folder(there, "a", *lines, *halves[0]), 2.0)])
    monkeypatch.setattr(runner, "BUILD", here)
    done_here: list[runs.CoverageRun] = []

    def carry_out(jobs: list[runs.CoverageRun], *_: object) -> tuple[list[runs.Done], list[str]]:
        done_here.extend(jobs)
        return [runs.Done(job, folder(here, "b", *lines, *halves[1]), 1.0) for job in jobs], []

    monkeypatch.setattr(command, "carry_out", carry_out)
    given = ["--runs=random 4x2 seed 1,live 4x2 *", f"--merge={there}"]
    monkeypatch.setenv("HISTORY", f"sqlite:///{tmp_path}/history.db")
    assert command.main(given) == 1  # there is no functional coverage
    assert done_here == [live]
    last = capsys.readouterr().out.splitlines()[-1]
    assert '"toggle": 100.0' in last
    rows = {row.run: row for row in rank.read(here / "coverage" / rank.FILE)}
    assert rows.keys() == {str(random), str(live)}
    assert not rows[str(random)].toggled() & rows[str(live)].toggled()
    assert [one.run for one in runs.read_ran(here)] == [live]
    # what is there already, too: nothing is done
    assert command.main([*given[:1], f"--merge={there},{here}"]) == 1
    assert done_here == [live]

    with pytest.raises(TatamiError, match=f"^MERGE '{tmp_path}': has no coverage/ran.jsonl"):
        command.main([f"--merge={tmp_path}"])
    ran = there / "coverage" / runs.RAN
    good = json.loads(ran.read_text())
    for field, value in {"rtl": "0", "run": "random 9x9 seed 1", "folder": "../here/b"}.items():
        ran.write_text(json.dumps({**good, field: value}) + "\n")
        with pytest.raises(TatamiError, match=f"^{ran}, line 1: field '{field}' is "):
            command.main(given)


def test_figures_round_down() -> None:
    coverage = merge([], [], [])
    coverage.places["line"] = [code.Place("line", "a.v", n, "", int(n > 0)) for n in range(100_000)]
    assert report.figures(coverage)["line"] == 99.99


def test_a_program_of_end_alone_has_no_layers() -> None:
    machine = Machine(CONFIG)
    machine.load([Section("PROGRAM", 0, encode_all([End()]))])
    assert sample.observations(machine, 0, machine.run(0)) == {ProgramSeen(0, 0, 0, ("START", "END"))}


def test_every_excluded_signal_is_in_its_file() -> None:
    """Else `make coverage` says so, after half an hour."""
    for one in exclusions.load():
        if one.rule == "toggle":
            file, _, signal = one.place.partition(": ")
            (name,) = re.findall(r"^(?:gen_\w+\[[^]]*\]\.)*(\w+)", signal)
            assert re.search(rf"\b{name}\b", (runner.ROOT / "rtl" / file).read_text()), one.place


def test_a_run_clock_leaves_out_what_waited() -> None:
    """Also a word that waits on in the cycle in which another was taken, and a WAIT whose packet is late."""
    clock = RunClock(10)
    for cycle, waiting in ((20, True), (25, False), (25, True), (30, False), (40, True), (43, False)):
        clock.stall(cycle, waiting)
    assert clock.stalls == [(20, 30), (40, 43)]
    assert clock.stalled(100) == 13
    assert clock.model(100) == 100 - 10 - 13
    clock.marks.append(Mark(50, packets=1))  # 13 cycles later, in cycle 73
    clock.packet(80)
    clock.follow(100)
    assert clock.reached == [80 + LAST_BEAT_SEEN]
    assert clock.waited(100) == 80 + LAST_BEAT_SEEN - 73
    assert clock.clock(60, 100) == 10 + 60 + 13 + clock.waited(100)
