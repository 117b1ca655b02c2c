"""Benchmarks of the testbench: `make bench BENCH=env` and `BENCH=sim`."""

from __future__ import annotations

import resource
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
from tb.flow.testlist import CHECKED_TOP, TestSpec, get_test
from tb.plain.check import loaded_model

# the same network, images and comparison with the reference
HARNESSES = {"plain": "digits", "env": "env_digits"}
IMAGES = 100
ROUNDS = 5
SEED = 1
TARGET = 0.5  # the environment's speed, the plain harness being 1; the plain harness's, the bare loop being 1
OPTIMISED = (OPT_FAST, "-O1", OPT_LONG)
TOPS = {"psa_top": "", CHECKED_TOP: ", checkers"}
IDLE = 200  # thousands of cycles of an idle machine
PARTS = {
    name: TestSpec(name, "tb.plain.test_floor", what, options=Options(only=rf"\.{name}$"))
    for name, what in (
        ("clock", "an idle machine, and nothing but its clock"),
        ("wakes", "the same, with a coroutine that wakes in each cycle and reads a pin"),
    )
}


@dataclass(frozen=True)
class Timing:
    """The quickest of several runs of a harness: `cpu_s` seconds of CPU of the simulator, of which it needs
    `start_s` for one image.
    """

    cpu_s: float
    start_s: float
    cycles: int  # of the clock

    @property
    def cycles_per_s(self) -> float:
        return self.cycles / self.cpu_s

    @property
    def image_s(self) -> float:
        """An image more."""
        return (self.cpu_s - self.start_s) / (IMAGES - 1)

    def figures(self) -> dict[str, float]:
        return {
            "cpu_s": round(self.cpu_s, 2),
            "cycles_per_s": round(self.cycles_per_s),
            "image_ms": round(1000 * self.image_s, 1),
        }


def env(console: Console) -> dict[str, Any]:
    """A whole network on Verilator through the pyuvm environment and through the plain harness.

    The runs alternate, and of each kind the quickest counts: whatever else the machine does only ever makes
    one slower.
    """
    times: dict[tuple[str, int], list[float]] = {}
    cycles = {}
    for _ in range(ROUNDS):
        for name in HARNESSES:
            for images in (1, IMAGES):
                cpu_s, cycles[name] = measure(name, images)
                times.setdefault((name, images), []).append(cpu_s)
    timings = {
        name: Timing(min(times[name, IMAGES]), min(times[name, 1]), cycles[name]) for name in HARNESSES
    }
    plain, pyuvm = timings["plain"], timings["env"]
    ratios = {
        "ratio": round(plain.cpu_s / pyuvm.cpu_s, 3),
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
    """Clock cycles a second of CPU of the digits network on Verilator: in a bare C++ loop, through the plain
    harness and through the pyuvm environment, each with and without checkers around the design, and with the
    C++ of the design compiled at -Og, -O1 and -O3. And where a cycle of the plain harness goes.

    The time of an image: without the start, and of several runs the quickest. All do the same with the same
    design; the bare loop takes a few cycles less, because it does not pause between two accesses.
    """
    console.print("[dim]builds twelve designs the first time, some minutes")
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
    parts = {
        optimise: split(rates[f"{optimise}{TOPS[CHECKED_TOP]}"], part_costs(CHECKED_TOP, optimise))
        for optimise in OPTIMISED
    }
    console.print(parts_table(parts))
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
        "parts": parts,
        "config": DEFAULT_CONFIG,
        "rounds": ROUNDS,
    }


def split(rates: dict[str, float], costs: dict[str, float]) -> dict[str, float]:
    """Where a cycle of the plain harness goes, in us of CPU: the design, cocotb's clock, and the rest, which
    is Python and its callbacks. `wakes`: how often a coroutine could wake in a cycle for that. `floor`: the
    share of the bare loop's speed if the rest took nothing.
    """
    cycle, design = 1e6 / rates["plain"], 1e6 / rates["bare"]
    rest = cycle - design - costs["clock"]
    found = {
        "cycle": cycle,
        "design": design,
        **costs,
        "rest": rest,
        "wakes": rest / costs["wake"],
        "share": design / cycle,
        "floor": design / (design + costs["clock"]),
    }
    return {name: round(value, 2) for name, value in found.items()}


def parts_table(parts: dict[str, dict[str, float]]) -> Table:
    rows = Table(
        title=f"a cycle of the plain harness with checkers, us of CPU; {DEFAULT_CONFIG}",
        title_justify="left",
        box=box.SIMPLE_HEAD,
    )
    columns = {
        "": None,
        "cycle": "cycle",
        "design": "design",
        "cocotb's clock": "clock",
        "rest": "rest",
        "a wake": "wake",
        "wakes a cycle": "wakes",
        "of bare": "share",
        "without the rest": "floor",
    }
    for title in columns:
        rows.add_column(title, justify="right" if title else "left")
    for name, found in parts.items():
        rows.add_row(name, *(f"{found[key]:.2f}" for key in columns.values() if key))
    return rows


def part_costs(top: str, optimise: str) -> dict[str, float]:
    """What cocotb's clock adds to a cycle of an idle machine, and what a coroutine does that wakes in it, in
    us of CPU.
    """
    bare_s: list[float] = []
    times: dict[tuple[str, int], list[tuple[float, int]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(ROUNDS):
            cycles = 1000 * IDLE
            found = bare.run(get_config(DEFAULT_CONFIG), top, optimise, bare.idle(cycles), Path(folder))
            bare_s.append(found.cpu_s / cycles)
            for name, test in PARTS.items():
                for images in (1, IDLE):
                    cpu_s, cycles = timed(test, images, top, optimise)
                    times.setdefault((name, images), []).append((cpu_s, cycles))
    idle = min(bare_s)
    clock, wakes = (per_cycle(times[name, 1], times[name, IDLE]) for name in PARTS)
    return {"clock": 1e6 * (clock - idle), "wake": 1e6 * (wakes - clock)}


def per_cycle(start: list[tuple[float, int]], whole: list[tuple[float, int]]) -> float:
    """Seconds of CPU of a cycle: of the quickest run of each."""
    (start_s, few), (whole_s, many) = min(start), min(whole)
    return (whole_s - start_s) / (many - few)


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
            best = max(best, found.cycles / found.cpu_s)
    return best


def harness_rates(top: str, optimise: str) -> dict[str, float]:
    """Clock cycles a second of each harness, from the time that more images take."""
    times: dict[tuple[str, int], list[tuple[float, int]]] = {}
    for _ in range(ROUNDS):
        for name in HARNESSES:
            for images in (1, IMAGES):
                times.setdefault((name, images), []).append(measure(name, images, top, optimise))
    return {name: 1 / per_cycle(times[name, 1], times[name, IMAGES]) for name in HARNESSES}


def measure(harness: str, images: int, top: str | None = None, optimise: str = OPT_FAST) -> tuple[float, int]:
    """Seconds of CPU and clock cycles of a run of a harness. Raises `TatamiError` if it fails."""
    return timed(get_test(HARNESSES[harness]), images, top, optimise)


def timed(test: TestSpec, images: int, top: str | None, optimise: str) -> tuple[float, int]:
    """As `measure`. The first run of a design counts its build, too."""
    before = cpu_of_children()
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
    return cpu_of_children() - before, clock_cycles(outcome.log.with_name("results.xml"))


def cpu_of_children() -> float:
    """Seconds of CPU of all processes that have ended: other work on the computer does not count."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


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
    rows.add_row("CPU, s", *(f"{t.cpu_s:.2f}" for t in each), f"{ratios['ratio']:.2f} x as fast")
    rows.add_row("of which start and one image, s", *(f"{t.start_s:.2f}" for t in each))
    rows.add_row(
        "an image more, ms",
        *(f"{1000 * t.image_s:.1f}" for t in each),
        f"{ratios['ratio_an_image']:.2f} x as fast",
    )
    rows.add_row("clock cycles", *(f"{t.cycles:,}" for t in each))
    rows.add_row("clock cycles a second", *(f"{t.cycles_per_s:,.0f}" for t in each))
    return rows
