"""`make close`: what the search sees of a program is what the simulation counts, and it finds rare bins."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest

from pymodel.machine.config import CONFIGS
from pymodel.machine.errors import TatamiError
from pymodel.zoo.knobs import Knobs
from pymodel.zoo.random_network import LAYERS, random_network
from scripts import close as command
from scripts import sim as sim_script
from tb.common.settings import Options
from tb.coverage import collect
from tb.coverage.observe import EventSeen
from tb.coverage.points import POINTS
from tb.flow import runner
from tb.flow.coverage import close, functional
from tb.flow.testlist import TESTS

CONFIG = CONFIGS["4x2"]
KNOBS = Knobs(layer="maximum", streamed=1.0)
SEED = 3  # the second image alone saturates


@pytest.mark.icarus
def test_the_simulation_counts_what_the_search_has_seen() -> None:
    """Every bin of every point that programs decide, and no other."""
    outcome = runner.run(
        TESTS["random"], "icarus", CONFIG, SEED, options=Options(coverage=True, knobs=str(KNOBS))
    )
    assert outcome.passed, outcome.message
    counted = functional.read(outcome.log.with_name(collect.FILE))
    points = {close.name_of(point, CONFIG) for point in POINTS if point.of is not EventSeen}
    seen = close.hits(close.observed(KNOBS, SEED, CONFIG), CONFIG, points)
    assert seen.keys() == points
    for name in points:
        assert seen[name] == {b for b, hits in counted[name].hits.items() if hits}, name
    assert sum(map(len, seen.values())) > 100


def test_a_bin_that_plain_programs_hardly_hit_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    """By the knob that bears on it; and the program that is named hits it."""
    name = "operation.cp_kind: DepthToSpace"
    assert command.main([f"--bin={name}", "--config=4x2", "--n=200", "--jobs=1"]) == 0
    out = capsys.readouterr().out
    told = json.loads(out.splitlines()[-1].removeprefix("CLOSE "))
    (hit,) = told["hit"]
    assert hit["bin"] == name
    knobs = f" KNOBS={hit['knobs']}" if hit["knobs"] else ""
    assert f"make sim TEST=random CONFIG=4x2 SEED={hit['seed']}{knobs}" in out
    point, _, wanted = name.partition(": ")
    seen = close.hits(close.observed(Knobs.of(hit["knobs"]), hit["seed"], CONFIG), CONFIG, {point})
    assert wanted in seen[point]


def test_the_search_goes_where_most_is_near(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of programs without a hit, most have the knobs that come near it."""

    def hits_of(knobs: Knobs, seeds: range, _config: object, points: list[str]) -> list[close.Hits]:
        near = 3 if knobs.layer == "add" else 1 if knobs.packing else 0
        return [{points[0]: set("abc"[:near])} for _ in seeds]

    class Now:
        """A pool whose work is done at once."""

        def __enter__(self) -> Now:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def submit(self, work, *arguments):  # type: ignore[no-untyped-def]
            future = close.Future[list[close.Hits]]()
            future.set_result(work(*arguments))
            return future

    monkeypatch.setattr(close, "hits_of", hits_of)
    monkeypatch.setattr(close, "processes", lambda _: Now())
    closed = close.close({"g.cp_x": {"z"}}, CONFIG, 600, 1, lambda _: None)
    assert closed.programs == 600
    assert closed.left == ("g.cp_x: z",)
    assert closed.settings[0].knobs == Knobs(layer="add")
    assert closed.settings[0].programs > 300
    assert min(setting.programs for setting in closed.settings) >= close.BATCH


def test_what_no_program_decides_is_refused() -> None:
    event = next(point for point in POINTS if point.of is EventSeen)
    with pytest.raises(TatamiError, match="is of events on the pins, which no program decides"):
        close.wanted_bins(f"{close.name_of(event, CONFIG)}: *", CONFIG)
    with pytest.raises(TatamiError, match="BIN 'layer.cp_none: 1' matches no bin; one is 'layer.cp_f"):
        close.wanted_bins("layer.cp_none: 1", CONFIG)
    with pytest.raises(TatamiError, match="BIN is not given"):
        command.main([])


def test_a_bin_that_is_not_hit_is_status_1(capsys: pytest.CaptureFixture[str]) -> None:
    name = "layer.cp_pass_length: shorter than the reload"  # unreachable
    assert command.main([f"--bin={name}", "--config=4x2", "--n=5", "--jobs=1"]) == 1
    told = json.loads(capsys.readouterr().out.splitlines()[-1].removeprefix("CLOSE "))
    assert (told["left"], told["programs"], told["hit"]) == ([name], 5, [])


@pytest.mark.parametrize("layer", LAYERS)
def test_a_knob_makes_most_layers_of_a_type(layer: str) -> None:
    plain, turned = Counter[str](), Counter[str]()
    for seed in range(20):
        for counted, knob in ((plain, None), (turned, layer)):
            network = random_network(np.random.default_rng(seed), CONFIG, knob)
            counted.update(type(one).__name__ for one in network.layers[1:])
    (most, count), *_ = (turned - plain).most_common(1)
    assert count > turned.total() / 4, most


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("layr=add", "KNOBS 'layr=add': field 'layr' is unknown; valid: layer, packing, reused, streamed"),
        ("layer=more", "KNOBS 'layer=more': layer 'more' is unknown; valid: conv, average"),
        ("packing=x", "KNOBS 'packing=x': packing 'x' is unknown; valid: "),
        ("reused=2", "KNOBS 'reused=2': field 'reused' is '2': input should be less than or equal to 1"),
        ("streamed", "KNOBS 'streamed' must be knob=value"),
    ],
)
def test_bad_knobs_are_named(text: str, message: str) -> None:
    with pytest.raises(TatamiError, match=message):
        Knobs.of(text)


def test_knobs_are_for_random_programs_alone() -> None:
    assert str(Knobs.of(str(KNOBS))) == str(KNOBS)
    with pytest.raises(TatamiError, match="KNOBS: test 'digits' takes none, only 'random' does"):
        sim_script.main(["--test=digits", "--knobs=reused=1"])
