"""The machine with its DMA, on both simulators."""

from __future__ import annotations

import pytest

from pymodel.machine.config import CONFIGS, DEFAULT_CONFIG, get_config
from tb.common.bugs import Bug
from tb.common.settings import Options
from tb.flow import build, hunt, runner
from tb.flow.simulators import OPT_FAST, OPT_ONCE
from tb.flow.testlist import CHECKED_SYSTEM, TESTS

IMAGES = {"verilator": 3, "icarus": 1}
LEAST_RATE = 0.9
LONGER = (DEFAULT_CONFIG, "4x2s256")  # arrays that run errors and resets, too


# T of 16, 4 and 8; beats of 64, 128 and 256 bits
@pytest.mark.parametrize("config", [DEFAULT_CONFIG, "4x2", "8x4s128", "4x2s256"])
def test_digits_from_memory(sim: str, config: str) -> None:
    count = IMAGES[sim]
    outcome = runner.run(
        TESTS["digits_dma"],
        sim,
        get_config(config),
        1,
        options=Options(images=count),
        optimise=OPT_FAST if config in LONGER else OPT_ONCE,
    )
    assert outcome.passed, f"{outcome.message}\nlog: {outcome.log}"
    result = outcome.result
    assert (result["images"], result["mismatches"]) == (count, 0)
    assert result["cycles"] == result["predicted_cycles"] > 0
    assert result["load_rate"] >= LEAST_RATE
    # an input of a list comes as soon as the program before has ended
    assert result["list_cycles"] < result["input_cycles"] + count * (result["cycles"] / count + 60)


@pytest.mark.slow
@pytest.mark.parametrize("config", LONGER)
def test_errors_and_resets(config: str) -> None:
    outcome = runner.run(TESTS["dma_errors"], "verilator", get_config(config), 1)
    assert outcome.passed, f"{outcome.message}\nlog: {outcome.log}"
    assert outcome.result["resets_of_a_list"] > 0


@pytest.mark.parametrize(("parameters", "names"), [({"BURST": 48}, "BURST"), ({"FIFO": 32}, "FIFO")])
def test_an_illegal_parameter_is_named(sim: str, parameters: dict[str, int], names: str) -> None:
    with pytest.raises(build.BuildError, match=f"psa_illegal_parameter_{names}"):
        build.build(sim, CONFIGS["4x2"].rtl_parameters() | parameters, top=CHECKED_SYSTEM)


PLANTED = [bug for bug in hunt.known_bugs() if bug.test in ("digits_dma", "dma_errors")]


@pytest.mark.icarus
@pytest.mark.parametrize("bug", PLANTED, ids=[bug.name for bug in PLANTED])
def test_a_planted_bug_is_found_and_named(bug: Bug) -> None:
    _, outcome = hunt.first_failure(bug, hunt.planted(bug))
    assert not outcome.passed
    assert not hunt.unsaid(bug.message, outcome.message), outcome.message
