"""Benchmarks of the testbench: `make bench BENCH=env` and `BENCH=sim`."""

from __future__ import annotations

import tempfile
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from pymodel.compiler.compile import clip_weights, compile_network
from pymodel.machine.config import DEFAULT_CONFIG, get_config
from pymodel.machine.errors import TatamiError
from pymodel.zoo import digits
from tb.common.clock import PERIOD_NS
from tb.common.settings import Options
from tb.flow import bare, runner
from tb.flow.simulators import OPT_FAST, OPT_LONG
from tb.flow.testlist import CHECKED_TOP, get_test
from tb.plain.check import loaded_model

# the same network, images and comparison with the reference
HARNESSES = {"plain": "digits", "env": "env_digits"}
IMAGES = 100
ROUNDS = 3
SEED = 1
TARGET = 0.5  # the environment's speed, the plain harness being 1; the plain harness's, the bare loop being 1
OPTIMISED = (OPT_FAST, OPT_LONG)
TOPS = {"psa_top": "", CHECKED_TOP: ", checkers"}


@dataclass(frozen=True)
class Timing:
    """The quickest of several runs of a harness:

    `wall_s` from the start of the simulator to its end, of which it needs `start_s` for one image.
    """

    wall_s: float
    start_s: float
    cycles: int  # of the clock

    @property
    def cycles_per_s(self) -> float:
        return self.cycles / self.wall_s

    @property
    def image_s(self) -> float:
        """An image more."""
        return (self.wall_s - self.start_s) / (IMAGES - 1)

    def figures(self) -> dict[str, float]:
        return {
            "wall_s": self.wall_s,
            "cycles_per_s": round(self.cycles_per_s),
            "image_ms": round(1000 * self.image_s, 1),
        }


def env(console: Console) -> dict[str, Any]:
    """A whole network on Verilator through the pyuvm environment and through the plain harness.

    The runs alternate, and of each kind the quickest counts: whatever else the machine does only ever makes
    one slower.
    """
    walls: dict[tuple[str, int], list[float]] = {}
    cycles = {}
    for _ in range(ROUNDS):
        for name in HARNESSES:
            for images in (1, IMAGES):
                wall_s, cycles[name] = measure(name, images)
                walls.setdefault((name, images), []).append(wall_s)
    timings = {
        name: Timing(min(walls[name, IMAGES]), min(walls[name, 1]), cycles[name]) for name in HARNESSES
    }
    plain, pyuvm = timings["plain"], timings["env"]
    ratios = {
        "ratio": round(plain.wall_s / pyuvm.wall_s, 3),
        "ratio_an_image": round(plain.image_s / pyuvm.image_s, 3),
    }
    console.print(table(timings, ratios))
    passed = min(ratios.values()) >= TARGET
    if not passed:
        print(
            f"the environment is {min(ratios.values()):.2f} times as fast as the plain harness, the target is"
            f" {TARGET:g}"
        )
    figures = {name: timing.figures() for name, timing in timings.items()}
    return {
        "bench": "env",
        "passed": passed,
        **ratios,
        **figures,
        "images": IMAGES,
        "rounds": ROUNDS,
        "config": DEFAULT_CONFIG,
    }


def sim(console: Console) -> dict[str, Any]:
    """Clock cycles a second of the digits network on Verilator: in a bare C++ loop, through the plain harness
    and through the pyuvm environment, each with and without checkers around the design, and with the C++ of
    the design compiled at -O1 and -O3.

    The time of an image: without the start, and of several runs the quickest. All do the same with the same
    design; the bare loop takes a few cycles less, because it does not pause between two accesses.
    """
    console.print("[dim]builds eight designs the first time, some minutes")
    rates: dict[str, dict[str, float]] = {}
    for optimise in OPTIMISED:
        for top, shown in TOPS.items():
            found = {"bare": bare_rate(top, optimise), **harness_rates(top, optimise)}
            rates[f"{optimise}{shown}"] = found
            console.print(f"{optimise}{shown}: " + ", ".join(f"{n} {r:,.0f}" for n, r in found.items()))
    rows = Table(
        title=f"digits, {DEFAULT_CONFIG}, Verilator, clock cycles a second; best of {ROUNDS}",
        title_justify="left",
        box=box.SIMPLE_HEAD,
    )
    for name in ("", "bare", *HARNESSES, *(f"{name} / bare" for name in HARNESSES)):
        rows.add_column(name, justify="right" if name else "left")
    for name, found in rates.items():
        shares = (f"{found[one] / found['bare']:.2f}" for one in HARNESSES)
        rows.add_row(name, *(f"{found[one]:,.0f}" for one in ("bare", *HARNESSES)), *shares)
    console.print(rows)
    share = min(found["plain"] / found["bare"] for found in rates.values())
    if share < TARGET:
        print(f"the plain harness is {share:.2f} times as fast as the bare loop, the target is {TARGET:g}")
    return {
        "bench": "sim",
        "passed": share >= TARGET,
        "share": round(share, 3),
        "cycles_per_s": {
            name: {one: round(rate) for one, rate in found.items()} for name, found in rates.items()
        },
        "config": DEFAULT_CONFIG,
        "rounds": ROUNDS,
    }


def bare_rate(top: str, optimise: str) -> float:
    """Clock cycles a second of the bare loop. Raises `TatamiError` if it sends anything but the model's
    bytes.
    """
    config, data = get_config(DEFAULT_CONFIG), digits.load()
    image = compile_network(clip_weights(data.network, config), config, seed=SEED)
    inputs = data.images[:IMAGES]
    lines, model = bare.script(image, inputs), loaded_model(image, inputs)
    runs = [model.run(image.run_start), model.run(image.dump_start)]
    expected = bare.byte_sum(p[i].tobytes() for i in range(len(inputs)) for run in runs for p in run.packets)
    best = 0.0
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(ROUNDS):
            found = bare.run(config, top, optimise, lines, Path(folder))
            if found.out_sum != expected:
                raise TatamiError(f"{top}, {optimise}: the bare loop's bytes are not those of the model")
            best = max(best, found.cycles / found.wall_s)
    return best


def harness_rates(top: str, optimise: str) -> dict[str, float]:
    """Clock cycles a second of each harness, from the time that more images take."""
    walls: dict[tuple[str, int], list[tuple[float, int]]] = {}
    for _ in range(ROUNDS):
        for name in HARNESSES:
            for images in (1, IMAGES):
                walls.setdefault((name, images), []).append(measure(name, images, top, optimise))
    rates = {}
    for name in HARNESSES:
        (start_s, start), (wall_s, cycles) = (min(walls[name, images]) for images in (1, IMAGES))
        rates[name] = (cycles - start) / (wall_s - start_s)
    return rates


def measure(harness: str, images: int, top: str | None = None, optimise: str = OPT_FAST) -> tuple[float, int]:
    """Seconds and clock cycles of one run. Raises `TatamiError` if it fails."""
    test = get_test(HARNESSES[harness])
    outcome = runner.run(
        test,
        "verilator",
        get_config(DEFAULT_CONFIG),
        SEED,
        options=Options(images=images),
        top=top,
        optimise=optimise,
    )
    if not outcome.passed:
        raise TatamiError(f"{test.name} failed: {outcome.message.splitlines()[0]}; log: {outcome.log}")
    return outcome.wall_s, clock_cycles(outcome.log.with_name("results.xml"))


def clock_cycles(results: Path) -> int:
    """Of a simulation, from what cocotb writes, in ns."""
    durations = (
        p.attrib["value"]
        for p in ET.parse(results).getroot().iter("property")
        if p.attrib["name"] == "sim_time_duration"
    )
    return round(sum(map(float, durations)) / PERIOD_NS)


def table(timings: dict[str, Timing], ratios: dict[str, float]) -> Table:
    """A column a harness, and how fast the second is beside the first."""
    rows = Table(
        title=f"digits, {IMAGES} images, {DEFAULT_CONFIG}, Verilator; best of {ROUNDS}",
        title_justify="left",
        box=box.SIMPLE_HEAD,
    )
    rows.add_column("")
    for name in (*timings, "env / plain"):
        rows.add_column(name, justify="right")
    each = list(timings.values())
    rows.add_row("wall, s", *(f"{t.wall_s:.2f}" for t in each), f"{ratios['ratio']:.2f} x as fast")
    rows.add_row("of which start and one image, s", *(f"{t.start_s:.2f}" for t in each))
    rows.add_row(
        "an image more, ms",
        *(f"{1000 * t.image_s:.1f}" for t in each),
        f"{ratios['ratio_an_image']:.2f} x as fast",
    )
    rows.add_row("clock cycles", *(f"{t.cycles:,}" for t in each))
    rows.add_row("clock cycles a second", *(f"{t.cycles_per_s:,.0f}" for t in each))
    return rows
