"""`make shrink`: every step gives a network that computes what the larger one did, and the search keeps what
fails in the same way.
"""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pymodel.compiler.compile import compile_network
from pymodel.machine.config import CONFIGS
from pymodel.machine.errors import TatamiError
from pymodel.machine.model import Machine
from pymodel.network.integer import Conv, Weighted
from pymodel.network.reference import evaluate
from pymodel.zoo import digits
from pymodel.zoo.random_network import random_images, random_program
from scripts import shrink as command
from tb.debug.suspect import Ran, Suspect
from tb.flow import failure as kept
from tb.flow import hunt, runner
from tb.flow.failure import Failure
from tb.flow.shrink import search
from tb.flow.shrink.reductions import smaller
from tb.flow.testlist import TESTS

CONFIG = CONFIGS["4x2"]
MESSAGE = "digits_on_the_array: AssertionError: 5 of 9 bytes differ\nlayer c2, filter 1: expected 7, seen 0"


def random_ran(seed: int) -> Ran:
    rng = np.random.default_rng(seed)
    network, _ = random_program(rng, CONFIG)
    return Ran(network, random_images(rng, network, 1)[0], 0.5, 0.1)


@pytest.mark.parametrize("seed", range(6))
def test_every_step_gives_a_network(seed: int) -> None:
    """That the reference computes, on an input of its shape; and no step is done for nothing."""
    ran = random_ran(seed)
    kinds = set()
    for step in smaller(ran):
        network = step.ran.network
        assert step.ran.inputs.shape == network.input_shape
        tensors = evaluate(network, step.ran.inputs[None])
        assert {name: tensor.shape[1:] for name, tensor in tensors.items()} == network.shapes
        assert repr(step.ran) != repr(ran)
        kinds.add(step.what.split()[1])
    assert len(kinds) >= 4


def test_what_is_left_computes_the_same() -> None:
    """Layers off the beginning or the end change nothing of the others. Fewer filters change nothing of those
    left.
    """
    seen = set()
    for seed in range(12):
        ran = random_ran(seed)
        whole = evaluate(ran.network, ran.inputs[None])
        for step in smaller(ran):
            count, kind, _, name = (*step.what.split(maxsplit=3), "", "")[:4]
            if kind == "layers":
                for layer, tensor in evaluate(step.ran.network, step.ran.inputs[None]).items():
                    if layer in whole and layer != "input":
                        np.testing.assert_array_equal(tensor, whole[layer], err_msg=step.what)
                        seen.add(step.what.split()[-1])
            elif kind == "filters" and int(count) == 1:
                found = evaluate(step.ran.network, step.ran.inputs[None])[name][0, 0]
                assert any(np.array_equal(found, plane) for plane in whole[name][0]), step.what
                seen.add("filters")
    assert seen == {"end", "beginning", "filters"}


class Pretended:
    """In place of the RTL: a run fails if a filter other than the first has a weight that is not zero."""

    def __init__(self) -> None:
        self.message = "{} of 9 bytes differ\nlayer c1, filter 3: expected 1, seen 2"
        self.rans: list[Ran] = []
        self.hidden = False
        self.chunk_words, self.longest = 0, 1 << 16  # it shows in chunks of at most that

    def __call__(self, ran: Ran) -> runner.RunResult:
        self.rans.append(ran)
        weights = [layer.weight[1:] for layer in ran.network.layers if isinstance(layer, Weighted)]
        wrong = 0 if self.hidden or self.chunk_words > self.longest else sum(map(np.count_nonzero, weights))
        said = "network_on_the_array: AssertionError: " + self.message.format(wrong)
        return runner.RunResult(
            passed=wrong == 0,
            message=said if wrong else "",
            log=Path("run.log"),
            result={},
            wall_s=0.1,
            waves=None,
        )


@pytest.fixture
def failure(tmp_path: Path) -> Failure:
    """Of the digits network."""
    data = digits.load()
    image = compile_network(data.network, CONFIG)
    ran = Ran(data.network, data.images[0], 0.5, 1.0)
    return Failure(
        folder=tmp_path,
        test=TESTS["digits"],
        sim="verilator",
        config=CONFIG,
        seed=1,
        options=TESTS["digits"].options,
        top=None,
        parameters=None,
        sources=None,
        message=MESSAGE,
        revision=None,
        suspect=Suspect(Machine(CONFIG), 0, 0, 1, image, ran),
    )


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> Pretended:
    """What runs is known by its prepared folder; what is kept is the failure that was given."""
    found, rans = Pretended(), {}
    written = search.prepare.written

    def note(stored, image, plain, below):  # type: ignore[no-untyped-def]
        folder = written(stored, image, plain, below)
        rans[str(folder)] = Ran(stored.network, stored.images[0])
        found.chunk_words = search.layout_of(image)["chunk_words"]
        return folder

    monkeypatch.setattr(search.prepare, "written", note)
    monkeypatch.setattr(runner, "run", lambda *_, options, **__: found(rans[options.network]))
    monkeypatch.setattr(search, "keep", lambda failure, _: failure)
    return found


def test_the_search_ends_at_the_smallest(failure: Failure, pretended: Pretended) -> None:
    """One weight of one filter of one layer, and the fewest cycles that a layer can take."""
    found = search.shrink(failure, 500, runner.no_progress)
    last = pretended.rans[-1]
    assert found.runs == len(pretended.rans) < 200
    assert found.after.cycles * 50 < found.before.cycles
    assert found.after.layers == 1
    assert found.after.input_pixels <= 2
    assert found.steps[0] == "in_rate 1"
    (layer,) = last.network.layers
    assert isinstance(layer, Conv)
    assert np.count_nonzero(layer.weight) <= 2


def test_no_more_runs_than_allowed(failure: Failure, pretended: Pretended) -> None:
    found = search.shrink(failure, 5, runner.no_progress)
    assert found.runs == len(pretended.rans) == 5
    assert found.after < found.before


def test_one_run_is_one_run(failure: Failure, pretended: Pretended) -> None:
    """Also where the failure does not come again, and a second layout would be tried."""
    pretended.hidden = True
    with pytest.raises(TatamiError, match="it passes"):
        search.shrink(failure, 1, runner.no_progress)
    assert len(pretended.rans) == 1
    pretended.hidden = False
    found = search.shrink(failure, 1, runner.no_progress)
    assert (found.runs, found.steps) == (1, ())


def test_another_failure_is_not_taken_for_it(failure: Failure, pretended: Pretended) -> None:
    pretended.message = "the machine hangs after {}"
    with pytest.raises(TatamiError, match="when 'digits' runs alone: .*the machine hangs"):
        search.shrink(failure, 5, runner.no_progress)


def test_a_failure_that_hangs_on_the_layout_keeps_it(failure: Failure, pretended: Pretended) -> None:
    """It comes in short chunks only, as the program that failed had them."""
    pretended.longest = 2
    assert failure.suspect is not None
    assert failure.suspect.ran is not None
    with pytest.raises(TatamiError, match="it passes"):
        search.shrink(failure, 5, runner.no_progress)
    image = compile_network(failure.suspect.ran.network, CONFIG, chunk_words=2)
    short = replace(failure, suspect=replace(failure.suspect, image=image))
    found = search.shrink(short, 100, runner.no_progress)
    assert found.after < found.before
    assert pretended.chunk_words <= 2


def test_a_failure_that_comes_from_elsewhere_is_told(failure: Failure, pretended: Pretended) -> None:
    pretended.hidden = True
    with pytest.raises(TatamiError, match="when 'digits' runs alone: it passes"):
        search.shrink(failure, 5, runner.no_progress)


def test_a_failure_without_a_network_is_refused(failure: Failure) -> None:
    assert failure.suspect is not None
    for left in (None, replace(failure.suspect, ran=None)):
        with pytest.raises(TatamiError, match=r"no suspect/network\.npz: only a failure of a run of a"):
            search.shrink(replace(failure, suspect=left), 5, runner.no_progress)
    with pytest.raises(TatamiError, match="FAILURE is not given"):
        command.main([])


@pytest.mark.icarus
def test_a_planted_bug_becomes_a_test(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Which fails on that RTL, passes on the right one, and is replayed like any failure."""
    monkeypatch.setattr(kept, "FAILURES", tmp_path)
    bug = next(bug for bug in hunt.known_bugs() if bug.name == "wrong_select_bit")
    sources = hunt.planted(bug)
    test, options = TESTS["random"], TESTS["random"].options
    outcome = runner.run(test, "icarus", CONFIG, 1, options=options, sources=sources)
    failed = kept.keep(outcome, test, "icarus", CONFIG, 1, options=options, sources=sources)
    assert command.main([f"--failure={failed.folder}", "--n=4"]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1].removeprefix("SHRINK "))
    assert told["ratio"] > 1
    assert told["runs"] == 4

    small = kept.load(Path(told["smallest"]))
    assert small.test.name == "network"
    assert Path(small.options.network) == small.folder / search.NETWORK
    again = runner.run(small.test, "icarus", CONFIG, 1, options=small.options, sources=sources)
    assert search.said_of(again.message) == search.said_of(failed.message)
    (made,) = small.folder.glob("test_*.py")
    spec = importlib.util.spec_from_file_location("made", made)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.test_the_smallest_network()
