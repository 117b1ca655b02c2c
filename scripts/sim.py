"""Run one test on the RTL: `make sim`.

Ends with one line `RESULT {json}`; exit status 0 if the test passed, 1 if not, 2 for bad input.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import click
from rich.console import Console

from pymodel.machine.config import CONFIGS, DEFAULT_CONFIG, get_config
from pymodel.machine.errors import TatamiError
from pymodel.machine.slot_rows import FORMATS
from pymodel.network.integer import Shape
from pymodel.network.model_file import SKIPPABLE
from pymodel.schemes import SCHEMES
from pymodel.zoo.knobs import Knobs
from scripts.command import (
    NUMBER,
    SHAPE,
    SWITCH,
    THERE,
    Choice,
    Integer,
    Kind,
    command,
    console,
    integer,
    simulator,
    variable,
    working,
)
from scripts.command import jobs as workers
from scripts.show import rows_table, summary_table
from tb.flow import prepare, runner, simulators
from tb.flow.blocks import BLOCKS
from tb.flow.simulate import SEVERAL, is_table, simulate, simulate_all, together
from tb.flow.testlist import DEFAULT_TEST, TESTS, TestSpec, get_test

RANDOM = "random"
NETWORK_CONFIG = "16x16"  # of tests with networks of their own
WIDTH = 160


@command("sim")
@click.option("--list", "listed", is_flag=True, help="list the tests, configurations and simulators")
@variable("TEST", default=DEFAULT_TEST, what="one of --list")
@variable("SIM", Choice(simulators.SIMULATORS), simulators.SIMULATORS[0], "the simulator")
@variable("CONFIG", what=f"array, rows x group (default {DEFAULT_CONFIG}; for a network {NETWORK_CONFIG})")
@variable("SEED", Integer(0, runner.MAX_SEED), 1, "seed of all random numbers")
@variable("IMAGES", what="number of images to run")
@variable("WAVES", SWITCH, False, "1 keeps a wave file")
@variable("WEIGHTS", THERE, what="network.npz, .tflite, .onnx, .pt2 or state_dict, for tests of a network")
@variable(
    "DATA", THERE, what="images: folder cifar-10-batches-py; for .tflite, .onnx and .pt2 also .npy, .npz"
)
@variable("SCHEME", Choice(SCHEMES), what="prunes a network of such a file (default: none)")
@variable("RATIO", NUMBER, what="the matrix compression that SCHEME prunes to")
@variable("SHAPE", SHAPE, what="of the input of such a file that leaves it open")
@variable("SKIP", Choice(SKIPPABLE), what="an operator of a .onnx file to do without")
@variable("FORMAT", Choice(FORMATS), what="storage format of the rows of slots (default: the test's own)")
@variable(
    "KNOBS",
    Kind("knob=value,...", lambda _, text: Knobs.of(text)),
    what="what TEST=random has more of: layer, packing, reused, streamed",
)
@workers(what="at a time, of a test that is several")
def main(
    listed: bool,
    test: str,
    sim: str,
    config: str | None,
    seed: int,
    images: str | None,
    waves: bool,
    weights: Path | None,
    data: Path | None,
    scheme: str | None,
    ratio: float | None,
    shape: Shape | None,
    skip: str | None,
    format: str | None,
    knobs: Knobs | None,
    jobs: int,
) -> int:
    on = console(WIDTH)
    if listed:
        show_list(on)
        return 0
    spec = get_test(test)
    array = get_config(config or (DEFAULT_CONFIG if spec.network is None else NETWORK_CONFIG))
    count = image_count(spec, sim, images)
    for name, given in (
        ("WEIGHTS", weights),
        ("DATA", data),
        ("SCHEME", scheme),
        ("RATIO", ratio),
        ("SHAPE", shape),
        ("SKIP", skip),
        ("FORMAT", format),
    ):
        if given is not None and spec.network is None:
            raise TatamiError(f"{name}: test '{spec.name}' takes none")
    if knobs is not None and spec.name != RANDOM:
        raise TatamiError(f"KNOBS: test '{spec.name}' takes none, only '{RANDOM}' does")
    simulator(sim)
    source = prepare.Source(weights, data, format == "xor", bool(images), scheme, ratio, shape, skip)
    several = SEVERAL.get(spec.name)
    with working(on) as progress:
        tests = [TESTS[name] for name in several.tests] if several else [spec]
        one = partial(
            simulate,
            config=array,
            sim=sim,
            seed=seed,
            images=count,
            waves=waves,
            source=source,
            knobs=str(knobs or ""),
        )
        done = simulate_all(one, tests, jobs, progress)
    summary = together(done, spec.name) if several else done[0].summary
    for name, rows in (summary if several else done[0].outcome.result).items():
        if is_table(rows):
            on.print(rows_table(name, rows))
    on.print(summary_table({name: value for name, value in summary.items() if not is_table(value)}))
    for each in done:
        for note in each.notes:
            print(f"note: {note}")
        for line in each.failure_lines():
            print(line)
        if each.outcome.waves:
            print(f"waves: {each.outcome.waves}")
    print("RESULT", json.dumps(summary))
    return 0 if summary["passed"] else 1


def image_count(test: TestSpec, sim: str, given: str | None) -> int | None:
    """IMAGES, or the test's own number; None for a test that takes no images."""
    default = test.default_images(sim)
    if not given:
        return default
    if default is None or test.max_images is None:
        raise TatamiError(f"IMAGES: test '{test.name}' takes no images")
    return integer("IMAGES", given, 1, test.max_images)


def show_list(on: Console) -> None:
    rows = [
        {"TEST": t.name, "IMAGES": t.images, "on icarus": t.icarus_images, "what": t.description}
        for t in TESTS.values()
    ]
    on.print(rows_table("tests", rows))
    blocks = [
        {"TEST": f"block_{b.name}", "sizes": len(b.parameters), "what": b.description}
        for b in BLOCKS.values()
    ]
    on.print(
        rows_table("blocks, each in its own sizes: block_pe is the first, block_pe_2 the second", blocks)
    )
    configs = [
        {"CONFIG": c.name, "array": f"{c.size} x {c.size}", "group": c.group, "lanes": c.lane_depth}
        for c in CONFIGS.values()
    ]
    on.print(rows_table("configurations", configs))
    schemes = [{"SCHEME": scheme.name, "what": scheme.summary} for scheme in SCHEMES.values()]
    on.print(rows_table("compression schemes, for make compress", schemes))
    print("simulators:", ", ".join(simulators.SIMULATORS))


if __name__ == "__main__":
    main.run()
