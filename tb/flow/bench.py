"""Benchmarks of the testbench: `make bench BENCH=env`."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from pymodel.machine.config import DEFAULT_CONFIG, get_config
from pymodel.machine.errors import TatamiError
from tb.common.clock import PERIOD_NS
from tb.common.settings import Options
from tb.flow import runner
from tb.flow.testlist import get_test

# the same network, images and comparison with the reference
HARNESSES = {"plain": "digits", "env": "env_digits"}
IMAGES = 100
ROUNDS = 3
SEED = 1
TARGET = 0.5  # the environment's speed, the plain harness being 1


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


def measure(harness: str, images: int) -> tuple[float, int]:
    """Seconds and clock cycles of one run. Raises `TatamiError` if it fails."""
    test = get_test(HARNESSES[harness])
    outcome = runner.run(test, "verilator", get_config(DEFAULT_CONFIG), SEED, options=Options(images=images))
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
