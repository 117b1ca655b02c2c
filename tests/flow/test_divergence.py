"""A failure says where it begins: the first value inside the machine that differs from the model's, from a
run that is replayed.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pymodel.machine.config import CONFIGS, ArrayConfig
from pymodel.machine.errors import TatamiError
from pymodel.machine.image import Image
from pymodel.machine.memory import columns
from pymodel.machine.model import Machine
from pymodel.zoo.random_network import random_images, random_program
from scripts import replay as replay_script
from tb.common import settings
from tb.common.bugs import load_bugs
from tb.common.settings import Options
from tb.debug import suspect
from tb.debug.divergence import Divergence, first_divergence
from tb.debug.probe import read_samples
from tb.debug.suspect import Ran, Suspect
from tb.flow import failure, hunt, runner
from tb.flow import simulate as simulating
from tb.flow.prepare import Source
from tb.flow.replay import Replay, look_inside, outside, replay
from tb.flow.simulate import Simulated, simulate, simulate_all
from tb.flow.testlist import TESTS
from tests.flow.flipped import Flipped

CONFIG = CONFIGS["4x2"]


@pytest.fixture
def folders() -> Iterator[list[Path]]:
    """Failure folders to remove in the end."""
    made: list[Path] = []
    yield made
    for folder in made:
        shutil.rmtree(folder)


def builds_faster() -> str:
    return "icarus" if shutil.which("iverilog") else "verilator"


def fail(
    sim: str, test: str, seed: int, folders: list[Path], sources: list[Path] | None = None, **options: Any
) -> failure.Failure:
    """A run that must fail, kept. It has the probe, which is idle, so that its build serves a replay, too."""
    outcome = runner.run(
        TESTS[test], sim, CONFIG, seed, options=Options(**options), sources=sources, probe=runner.Probe()
    )
    assert not outcome.passed
    kept = failure.keep(outcome, TESTS[test], sim, CONFIG, seed, options=Options(**options), sources=sources)
    folders.append(kept.folder)
    return kept


def found(replayed: Replay) -> Divergence:
    """The divergence, and the waves around it."""
    assert not replayed.passed
    assert replayed.divergence is not None
    assert replayed.waves is not None
    assert replayed.waves.stat().st_size > 0
    assert f"first divergence: {replayed.divergence.line()}" in replayed.lines()
    return replayed.divergence


def sections_of(failed: failure.Failure) -> tuple[Machine, Image]:
    assert failed.suspect is not None
    assert failed.suspect.image is not None
    return failed.suspect.machine, failed.suspect.image


def place_of(machine: Machine, image: Image, lane: int) -> tuple[str, int, int]:
    """Layer, tile of the layer and pass that a lane belongs to, looked up in the image's own tables."""
    first = columns("TILE", image.section("TILE").words[:, 0]).lane_base
    tile = int(np.flatnonzero(first <= lane)[-1])
    bases = columns("PROGRAM", image.section("PROGRAM").words[: len(image.layers), 0]).tile_base
    layer = int(np.flatnonzero(bases <= tile)[-1])
    return image.layers[layer], tile - int(bases[layer]), (lane - int(first[tile])) // machine.config.size


def test_a_flipped_slot_bit_is_named_to_the_slot(sim: str, flipped: Callable[[str], Flipped]) -> None:
    """Lane, column, filter and pass are those of the slot."""
    failed = flipped(sim).failed
    result = json.loads((failed.folder / "result.json").read_text())
    machine, image = sections_of(failed)
    there = found(flipped(sim).replayed)
    assert there.stage == "partial sum"
    assert (there.layer, there.filter) == (result["flipped_layer"], result["flipped_filter"])
    assert (there.lane, there.column) == (result["flipped_lane"], result["flipped_column"])
    assert there.lane is not None
    assert (there.layer, there.tile, there.pass_number) == place_of(machine, image, there.lane)
    assert there.row == there.lane % CONFIG.size
    assert there.expected != there.seen


# What must be said of bugs in one PE, or in one place of another block.
NAMED: dict[str, dict[str, Any]] = {
    "pe_takes_the_wrong_input": {"stage": "partial sum", "row": 2, "column": 1},
    "row_gets_the_wrong_pixel": {"stage": "bundle", "row": 3, "bank": 0},
    "first_pass_adds": {"stage": "accumulator", "pass_number": 0, "column": 0},
    "requant_truncates": {"stage": "result"},
    "last_pass_lost": {},
}
BUGS = {bug.name: bug for bug in load_bugs()}


@pytest.mark.parametrize("name", NAMED)
def test_a_fault_of_the_rtl_is_named(name: str, folders: list[Path]) -> None:
    wanted = NAMED[name]
    failed = fail(builds_faster(), "digits", 1, folders, hunt.planted(BUGS[name]), images=1)
    again, there = look_inside(failed)
    assert not again.passed
    assert there is not None
    assert {key: value for key, value in there.to_json().items() if key in wanted} == wanted
    said = re.search(r"layer (\w+), filter", failed.message)
    assert said
    assert there.layer == said.group(1)  # the first plane that is wrong
    if name == "last_pass_lost":
        _, image = sections_of(failed)
        assert there.lane is not None
        tiles = columns("TILE", image.section("TILE").words[:, 0])
        passes = next(
            int(passes)
            for base, passes in zip(tiles.lane_base, tiles.passes, strict=True)
            if base <= there.lane < base + passes * CONFIG.size
        )
        assert there.pass_number == passes - 1


@pytest.mark.parametrize("seed", [1, 2])
def test_a_fault_behind_the_run_is_not_looked_for_inside(sim: str, seed: int, folders: list[Path]) -> None:
    """Only the out stream is wrong: bundles, sums, accumulators and results of a random program are all
    compared, and all right.
    """
    failed = fail(sim, "random", seed, folders, hunt.planted(BUGS["out_word_flipped"]))
    replayed = replay(failed)
    assert not replayed.passed
    assert replayed.divergence is None
    assert any("no divergence inside the run" in line for line in replayed.lines())


def test_the_run_is_compared_to_its_end(flipped: Callable[[str], Flipped]) -> None:
    """With a model that has the flipped bit, too, nothing differs; with anything left out at the end, that is
    found.
    """
    one = flipped("verilator")
    failed = failure.load(one.failed.folder)  # its model is changed
    assert failed.suspect is not None
    result = json.loads((failed.folder / "result.json").read_text())
    row = failed.suspect.machine.memory["SLOT"][result["flipped_lane"]]
    weight, column = columns("SLOT", row).weight, result["flipped_column"]
    weight[column] += 128 if weight[column] < 0 else -128
    samples = read_samples(one.sampled.log.parent / runner.PROBE_FILE, CONFIG)
    assert first_divergence(failed.suspect, samples) is None
    for cut, count, stage in (
        (samples.writes, 1, "result"),
        # a word's pixels, of which the last layer keeps the first only
        (samples.totals[1], CONFIG.size, "accumulator"),
        (samples.sums[1][3], CONFIG.size, "partial sum"),
        (samples.bundles[0], CONFIG.size, "bundle"),
    ):
        del cut[-count:]
        missing = first_divergence(failed.suspect, samples)
        assert missing is not None
        assert missing.stage == stage
        assert "nothing" in missing.what


def test_x_is_a_difference() -> None:
    sample = read_line_of("s 10 0 x - 3 -4")
    assert [[s.values for s in column] for column in sample.sums[0]] == [[(None,)], [], [(3,)], [(-4,)]]


def read_line_of(line: str) -> Any:
    path = runner.BUILD / "one_line.txt"
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"{line}\n")
    return read_samples(path, CONFIG)


def test_a_run_that_passes_now(sim: str, flipped: Callable[[str], Flipped]) -> None:
    """A failure whose cause is gone: the replay says so, and has no divergence."""
    again = replay(replace(flipped(sim).failed, options=Options(images=1)))
    assert again.passed
    assert again.lines() == ["the failure did not come again: the run passes now"]


@pytest.mark.parametrize(
    ("message", "block"),
    [
        ("LOAD_SHORT: IRQ_STATUS is 3, expected 2", "psa_regs"),
        ("ERROR.CODE is 1, expected 2 (LOAD_RANGE)", "psa_load"),
        ("ERROR.CODE is 1, expected 8 (TILE_FIELD)", "psa_sequencer"),
        ("ERROR.CODE is 7, expected 10 (TAP_RANGE)", "psa_fetch"),
        ("ERROR.CODE is 11, expected 12 (FEATURE_WRITE)", "psa_writeback"),
        ("ERROR.CODE is 12, expected 13 (SLOT_RANGE)", "psa_slots"),
        ("TAP_RANGE and SLOT_RANGE in one cycle: ERROR.CODE is 10, expected 13 (SLOT_RANGE)", "psa_core"),
        ("read of WORDS gave 0x3, expected 0x4", "the counters of psa_regs"),
        ("a packet begins in the cycle of START", "psa_load"),
        ("image 0: cycles less stall_cycles and load_wait_cycles is 3742, predicted 3743", "psa_regs"),
        (
            (
                "ASSERT psa_check_axis m_axis: tlast must mark the last beat of a packet and no other at"
                " 70070 ns"
            ),
            "psa_out",
        ),
        ("52 words of a packet without m_axis_tlast", "psa_out"),
        ("ASSERT psa_check_memories FEATURE read is out of range at 21340 ns", "this checker"),
        ("LOAD_SHORT: IRQ_STATUS is 3, expected 2\nLOAD_LONG: 4 bytes of a packet are left", "psa_regs"),
        ("ASSERT psa_check_axis s_axis: valid fell before ready came at 939 ns", "this checker"),
        (
            (
                "ASSERT psa_check_axis s_axis: valid fell before ready came at 939 ns\n"
                "LOAD_CUT: STATUS after a soft reset is 0x4, expected 0"
            ),
            "psa_regs",
        ),
        ("something else", "the test"),
    ],
)
def test_a_failure_outside_the_run_names_a_block(message: str, block: str) -> None:
    assert block in outside(message)


def test_new_files_are_in_the_patch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What git does not track yet can be the cause, too; the user's index stays as it is."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", tmp_path, *arguments], check=True, capture_output=True, text=True
        ).stdout

    monkeypatch.setattr(runner, "ROOT", tmp_path)
    assert failure.worktree_patch() == b""  # no repository
    git("init", "--quiet")
    (tmp_path / "old.v").write_text("wire a;\n")
    git("add", ".")
    git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "-m", "first")
    assert failure.worktree_patch() == b""
    (tmp_path / "new.v").write_text("wire b;\n")
    (tmp_path / "old.v").write_text("wire c;\n")
    before = git("status", "--porcelain")
    patch = failure.worktree_patch().decode()
    assert "+wire b;" in patch
    assert "+wire c;" in patch
    assert git("status", "--porcelain") == before


# the command line


def test_make_sim_says_it_by_itself(flipped: Callable[[str], Flipped]) -> None:
    """A failing `make sim` prints the first divergence, the waves and the command that replays it, what the
    shell has set included.
    """
    out, result = flipped("verilator").printed, flipped("verilator").result
    folder = runner.ROOT / result["failure"]
    assert f"replay: make replay FAILURE={result['failure']}" in out
    assert any(line.startswith("first divergence: layer") for line in out)
    assert (folder / "waves.vcd").is_file()
    assert failure.load(folder).options == Options(images=1, flip=True)


def one_of(sim: str) -> Callable[..., Simulated]:
    return partial(simulate, config=CONFIG, sim=sim, seed=7, images=1, waves=False, source=Source())


def test_tests_side_by_side_say_it_too(folders: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """What failed comes whole out of the processes in which the tests of a table run, in the order of the
    tests.
    """
    monkeypatch.setenv(settings.VARIABLE, '{"flip": true}')
    tests = [TESTS["digits"], TESTS["random"]]
    failed, passed = simulate_all(one_of("verilator"), tests, 2, runner.no_progress)
    assert failed.failed is not None
    assert failed.replayed is not None
    folders.append(failed.failed.folder)
    found(failed.replayed)
    assert any(line.startswith("replay: make replay FAILURE=") for line in failed.failure_lines())
    assert (passed.summary["test"], passed.outcome.passed) == ("random", True)


def test_a_process_that_is_killed_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    class Pool(Executor):
        def submit(self, *_: Any, **__: Any) -> Future[Any]:
            future: Future[Any] = Future()
            future.set_exception(BrokenProcessPool())
            return future

    monkeypatch.setattr(simulating, "processes", lambda _: nullcontext(Pool()))
    with pytest.raises(TatamiError, match="JOBS 2: a process that ran one of the tests was killed"):
        simulate_all(one_of("verilator"), [TESTS["digits"], TESTS["digits_dense"]], 2, runner.no_progress)


def test_make_replay(flipped: Callable[[str], Flipped], capsys: pytest.CaptureFixture[str]) -> None:
    failed = flipped("verilator").failed
    record = json.loads((failed.folder / failure.RECORD).read_text())
    assert record["replay"] == f"make replay FAILURE={failed.folder.relative_to(runner.ROOT)}"
    assert {"revision", "tools", "config", "seed", "sim"} <= set(record)
    assert (failed.folder / suspect.FOLDER / suspect.NETWORK).is_file()
    assert replay_script.main(["--failure", str(failed.folder)]) == 1
    out = capsys.readouterr().out.splitlines()
    assert any(line.startswith("first divergence: layer") for line in out)
    assert any(line.startswith("waves around it: build/failures/") for line in out)
    result = json.loads(out[-1].removeprefix("REPLAY "))
    assert result["reproduced"]
    assert result["divergence"]["stage"] == "partial sum"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("none", "is no folder"),
        ("empty", "has no failure.json"),
        ("no json", "failure.json: is no JSON"),
        ("no object", "failure.json: is []: input should be an object"),
        ("no seed", "field 'seed' is missing"),
        ("bad config", "size is 5, must be one of"),
        ("bad source", "field 'sources': 'nowhere.v' is not there any more"),
        ("bad state", "state.npz"),
        ("bad image", "image.tatami': magic is"),
        ("no start", "suspect.json: field 'start'"),
    ],
)
def test_a_folder_that_is_no_failure(damage: str, message: str, tmp_path: Path) -> None:
    """One clear line, as `TatamiError`; the command line turns it into exit status 2."""
    folder = tmp_path / "failure"
    if damage != "none":
        folder.mkdir()
    if damage not in ("none", "empty"):
        rng = np.random.default_rng(1)
        network, image = random_program(rng, CONFIG)
        spec = {"name": "random", "module": "tb.psa_top.test_random", "description": "", "options": {}}
        record: dict[str, Any] = {
            "test": spec,
            "sim": "verilator",
            "config": vars_of(CONFIG),
            "seed": 1,
            "options": {},
        }
        record |= {"top": None, "parameters": None, "sources": None, "message": ""}
        record |= {"revision": None, "tools": {}, "date": "", "replay": ""}
        ran = Ran(network, random_images(rng, network, 1)[0], out_rate=0.5)
        suspect.note(Suspect(Machine(CONFIG), 0, 1, 2, image, ran), folder)
        place = folder / suspect.FOLDER
        if damage == "no seed":
            del record["seed"]
        elif damage == "bad config":
            record["config"]["size"] = 5
        elif damage == "bad source":
            record["sources"] = ["nowhere.v"]
        elif damage == "bad state":
            (place / suspect.STATE).write_bytes(b"PK")
        elif damage == "bad image":
            (place / suspect.IMAGE).write_bytes(b"not an image at all")
        elif damage == "no start":
            (place / suspect.RECORD).write_text('{"begin": 1, "end": 2}')
        text = {"no json": "{", "no object": "[]"}.get(damage, json.dumps(record))
        (folder / failure.RECORD).write_text(text)
    with pytest.raises(TatamiError) as caught:
        failure.load(folder)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def vars_of(config: ArrayConfig) -> dict[str, Any]:
    return {"name": config.name, **config.fingerprint()}


def test_a_failure_must_be_named() -> None:
    with pytest.raises(TatamiError, match="FAILURE is not given"):
        replay_script.main([])


def test_only_the_first_run_that_goes_wrong_is_noted(tmp_path: Path) -> None:
    for start in (3, 4):
        suspect.note(Suspect(Machine(CONFIG), start, 1, 2), tmp_path)
    noted = suspect.load(tmp_path, CONFIG)
    assert noted is not None
    assert (noted.start, noted.image) == (3, None)
