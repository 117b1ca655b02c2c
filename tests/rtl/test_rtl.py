"""The RTL against the model, through the one runner: whole networks, random programs, errors, and a fault
that must be found.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, cast

import pytest

from pymodel.machine.config import CONFIGS, DEFAULT_CONFIG, get_config
from tb.common.settings import Options
from tb.flow import build, runner
from tb.flow.simulators import OPT_ONCE
from tb.flow.testlist import TESTS

CONFIG_NAMES = list(CONFIGS)
RANDOM_SEEDS = {"verilator": range(1, 9), "icarus": range(1, 4)}
LARGE = 16  # rows of an array of which Icarus runs one seed
LARGE_SEED = 2  # its program is short: those of others take half a minute
# Icarus is some thirty times slower than Verilator: it takes fewer images, and finds X.
IMAGES = {"verilator": 20, "icarus": 1}


def run(test: str, sim: str, config: str, seed: int = 1, **options: Any) -> runner.RunResult:
    return runner.run(TESTS[test], sim, CONFIGS[config], seed, options=Options(**options))


def check(outcome: runner.RunResult) -> dict[str, Any]:
    assert outcome.passed, f"{outcome.message}\nlog: {outcome.log}"
    result = outcome.result
    assert result["compared_bytes"] > 0
    assert result["mismatches"] == 0
    assert result["cycles"] == result["predicted_cycles"] > 0
    return result


@pytest.mark.parametrize("config", CONFIG_NAMES)
def test_digits(sim: str, config: str) -> None:
    result = check(run("digits", sim, config, images=IMAGES[sim]))
    assert result["images"] == IMAGES[sim]
    assert result["accuracy"] >= 0.9
    assert result["speedup_over_dense"] > 2
    for row in result["layers"]:
        assert row["bound"] <= row["cycles"] <= 1.05 * row["bound"] + 150, row


def test_digits_dense(sim: str) -> None:
    """The dense baseline takes the cycles that `digits` divides by."""
    result = check(run("digits_dense", sim, DEFAULT_CONFIG, images=IMAGES[sim]))
    assert result["cycles"] == result["dense_cycles"]


@pytest.mark.parametrize("config", CONFIG_NAMES)
@pytest.mark.parametrize("index", range(max(map(len, RANDOM_SEEDS.values()))))
def test_random(sim: str, config: str, index: int) -> None:
    seeds = RANDOM_SEEDS[sim]
    if sim == "icarus" and CONFIGS[config].size == LARGE:
        seeds = range(LARGE_SEED, LARGE_SEED + 1)
    if index >= len(seeds):
        pytest.skip(f"{sim} runs {len(seeds)} seeds here; make sim TEST=random SEED=n runs any")
    check(run("random", sim, config, seeds[index]))


@pytest.mark.parametrize("config", CONFIG_NAMES)
def test_errors(sim: str, config: str) -> None:
    if sim == "icarus" and config != "4x2":
        pytest.skip("Icarus runs the error tests on the smallest configuration: others take minutes")
    if sim == "verilator":
        check(run("errors", sim, config))
        return
    # every word of the banks is written and sent again and again
    shallow = replace(CONFIGS[config], name=f"{config}shallow", feature_depth=256)
    check(runner.run(TESTS["errors"], sim, shallow, seed=1))


@pytest.mark.parametrize("config", ["16x8", "4x2", "8x4w4"])
def test_extremes(sim: str, config: str) -> None:
    check(run("extremes", sim, config))


@pytest.mark.parametrize("config", ["8x4w4", "8x4x"])
def test_operations(config: str) -> None:
    """In slots of digits and behind an XOR decoder; coverage runs it in plain builds."""
    check(run("operations", "verilator", config))


def test_waves(sim: str) -> None:
    """Icarus builds for waves as SystemVerilog, whose keywords are no names any more."""
    outcome = runner.run(TESTS["random"], sim, CONFIGS["4x2"], seed=1, waves=True)
    check(outcome)
    assert outcome.waves is not None
    assert outcome.waves.stat().st_size > 10_000


@pytest.mark.parametrize("config", ["4x2", "8x4x"])
def test_a_flipped_slot_bit_is_found_and_named(sim: str, config: str) -> None:
    """One bit of one slot, wrong in the RTL only: the run fails, and names the layer, the filter
    and a pixel.
    """
    outcome = run("digits", sim, config, seed=7, images=1, flip=True)
    assert not outcome.passed
    assert outcome.result["mismatches"] > 0
    layer, channel = outcome.result["flipped_layer"], outcome.result["flipped_filter"]
    pattern = rf"image 0, layer {layer}, filter {channel}, pixel \(\d+, \d+\): expected -?\d+, seen -?\d+"
    assert re.search(pattern, outcome.message), outcome.message


ILLEGAL = [
    ({"ROWS": 5, "COLS": 5}, "ROWS_must_be_4_8_or_16"),
    ({"ROWS": 4, "COLS": 8}, "COLS_must_equal_ROWS"),
    ({"GROUP": 3}, "GROUP_must_be_1_2_4_8_or_16"),
    ({"FEATURE_DEPTH": 7}, "FEATURE_DEPTH_must_be_even_in_4_to_65536"),
    ({"ACC_WORDS": 0}, "ACC_WORDS_must_be_in_4_to_65536"),
    ({"LANE_DEPTH": 70000}, "LANE_DEPTH_must_be_in_ROWS_to_65536"),
    ({"FILTER_DEPTH": 4}, "FILTER_DEPTH_must_be_in_2_COLS_to_65536"),
    ({"WEIGHT_BITS": 5}, "WEIGHT_BITS_must_be_4_or_8"),
    ({"TABLES": 16}, "TABLES_must_be_in_0_to_15"),
    ({"STREAM_BITS": 96}, "STREAM_BITS_must_be_64_128_or_256"),
    ({"HOP": 3}, "HOP_must_be_1_2_4_8_or_16_and_at_most_COLS"),
    ({"HOP": 16}, "HOP_must_be_1_2_4_8_or_16_and_at_most_COLS"),
    ({"XOR_INPUTS": 9}, "XOR_INPUTS_leave_no_room_for_patches_in_a_row"),
    ({"XOR_HISTORY": 1}, "XOR_HISTORY_must_make_a_window_of_at_most_1024"),
    ({"XOR_SEED": 0}, "XOR_SEED_must_be_in_1_to_2147483647"),
    ({"XOR_INPUTS": 8, "XOR_HISTORY": 128}, "XOR_HISTORY_must_make_a_window_of_at_most_1024"),
]


@pytest.mark.parametrize(("parameters", "name"), ILLEGAL, ids=[name for _, name in ILLEGAL])
def test_an_illegal_parameter_stops_elaboration_by_name(
    sim: str, parameters: dict[str, int], name: str
) -> None:
    with pytest.raises(build.BuildError, match=name):
        build.build(sim, CONFIGS["4x2"].rtl_parameters() | parameters)


@pytest.mark.parametrize(
    ("size", "group", "weight_bits"),
    [(4, 1, 8), (4, 16, 8), (8, 8, 8), (16, 1, 8), (16, 2, 8), (4, 1, 4), (16, 16, 4)],
)
def test_sizes_without_a_name(size: int, group: int, weight_bits: int) -> None:
    """Random programs on legal builds beside the named ones."""
    config = replace(
        CONFIGS["4x2"], name=f"{size}x{group}w{weight_bits}", size=size, group=group, weight_bits=weight_bits
    )
    for seed in (1, 2):
        check(runner.run(TESTS["random"], "verilator", config, seed, optimise=OPT_ONCE))


@pytest.mark.parametrize(("test", "config"), [("random", "8x4"), ("errors", "8x4"), ("errors", "8x4x")])
def test_depths_that_are_no_powers_of_two(test: str, config: str) -> None:
    """Addresses that a memory's address bits can name and the memory does not have. Only here a lane can name
    a group that is none, and meet other errors, those of the slots too.
    """
    depths = {
        "feature_depth": 1002,
        "acc_words": 21,
        "program_depth": 201,
        "tile_depth": 303,
        "lane_depth": 5001,
    }
    depths |= {"group_depth": 1501, "tap_depth": 701, "edge_depth": 91, "filter_depth": 333}
    odd = replace(CONFIGS[config], name=f"{config}odd", **cast(Any, depths))
    check(runner.run(TESTS[test], "verilator", odd, seed=1, optimise=OPT_ONCE))


@pytest.mark.parametrize("test", ["errors", "env_live"])
def test_a_stream_of_256_bits(test: str) -> None:
    """Every word of every memory is one beat."""
    check(runner.run(TESTS[test], "verilator", get_config("4x2s256"), seed=1, optimise=OPT_ONCE))


def test_deep_memories() -> None:
    """Planes and packets of more words than 12 bits count."""
    deep = replace(CONFIGS["4x2"], name="4x2deep", feature_depth=32768, edge_depth=8192)
    check(runner.run(TESTS["extremes"], "verilator", deep, seed=1, optimise=OPT_ONCE))
