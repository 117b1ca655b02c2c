"""`make bench`: its figures, its last line and its exit status."""

from __future__ import annotations

import json

import pytest

from pymodel.machine.config import CONFIGS
from scripts import bench as command
from tb.flow import bench, runner
from tb.flow.simulators import OPT_LONG
from tb.flow.testlist import TESTS
from tests.support import assert_refused

# seconds of start-up, and of each image
ENV_SLOW = {"plain": (4.0, 0.05), "env": (4.0, 0.12)}
ENV_QUICK = {"plain": (4.0, 0.05), "env": (4.0, 0.08)}


def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], costs: dict[str, tuple[float, float]]
) -> tuple[int, dict[str, object]]:
    """The command with made-up times, the first round of which is disturbed."""
    calls: list[tuple[str, int]] = []

    def measured(harness: str, images: int) -> tuple[float, int]:
        calls.append((harness, images))
        start, image = costs[harness]
        return start + image * images + (3.0 if len(calls) <= 4 else 0.0), 1000 * images

    monkeypatch.setattr(bench, "measure", measured)
    status = command.main(["--bench=env"])
    assert len(set(calls[:4])) == 4, "the harnesses take turns"
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("BENCH ")
    return status, json.loads(last.removeprefix("BENCH "))


def test_the_quickest_of_the_rounds_counts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    status, figures = run(monkeypatch, capsys, ENV_QUICK)
    assert (status, figures["passed"]) == (0, True)
    assert figures["ratio"] == pytest.approx(9 / 12)
    assert figures["ratio_an_image"] == pytest.approx(0.05 / 0.08)
    assert figures["plain"] == {"cpu_s": 9.0, "cycles_per_s": round(100_000 / 9), "image_ms": 50.0}


def test_an_environment_that_only_starts_quickly_is_too_slow(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    status, figures = run(monkeypatch, capsys, ENV_SLOW)
    assert float(str(figures["ratio"])) > bench.TARGET > float(str(figures["ratio_an_image"]))
    assert (status, figures["passed"]) == (1, False)


def test_cycles_of_a_run() -> None:
    """Of the clock, those of the machine's counters among them."""
    outcome = runner.run(TESTS["random"], "verilator", CONFIGS["4x2"], seed=1)
    assert bench.clock_cycles(outcome.log.with_name("results.xml")) > outcome.result["cycles"] > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "BENCH '' is unknown; valid: env, sim, packing, joint, half_passes, xor"),
        (["--bench=nonsense"], "BENCH 'nonsense' is unknown"),
        (
            ["--bench=xor", "--weights=w.pt"],
            "WEIGHTS is 'w.pt': BENCH 'xor' takes none, only packing, joint, half_passes, speed, runtime do",
        ),
        (["--bench=joint", "--weights=no/such.pt"], "no/such.pt: no such file"),
    ],
)
def test_a_bad_variable_is_one_line_and_status_2(options: list[str], message: str) -> None:
    assert_refused("bench", options, message)


@pytest.mark.parametrize(("image_s", "passed"), [(0.018, True), (0.022, False)])
def test_the_harness_beside_a_bare_loop(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], image_s: float, passed: bool
) -> None:
    """A design that is compiled to run faster has to run faster in the harness, too."""
    asked: set[tuple[str, str, str]] = set()

    def measured(harness: str, images: int, top: str, optimise: str) -> tuple[float, int]:
        asked.add((harness, top, optimise))
        faster = 2.0 if optimise == OPT_LONG else 1.0
        return 4.0 + image_s * images / faster, 1000 * images

    monkeypatch.setattr(bench, "measure", measured)
    monkeypatch.setattr(bench, "bare_rate", lambda _, optimise: 2e5 if optimise == OPT_LONG else 1e5)
    monkeypatch.setattr(bench, "part_costs", lambda *_: {"clock": 2.0, "wake": 4.0})
    status = command.main(["--bench=sim"])
    out = capsys.readouterr().out
    figures = json.loads(out.splitlines()[-1].removeprefix("BENCH "))
    assert (status, figures["passed"]) == (0 if passed else 1, passed)
    assert figures["share"] == pytest.approx(1000 / image_s / 1e5, abs=1e-3)
    assert figures["cycles_per_s"]["-O3, checkers"]["plain"] == round(2000 / image_s)
    parts = figures["parts"]["-O1"]
    assert parts["cycle"] == pytest.approx(1000 * image_s)
    assert parts["rest"] == pytest.approx(1000 * image_s - 10 - 2)
    assert parts["wakes"] == pytest.approx(parts["rest"] / 4)
    assert parts["floor"] == pytest.approx(10 / 12, abs=0.01)
    assert asked == {
        (one, top, optimise) for one in bench.HARNESSES for top in bench.TOPS for optimise in bench.OPTIMISED
    }
    assert ("the target is 0.5" in out) is not passed
