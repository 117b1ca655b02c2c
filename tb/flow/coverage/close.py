"""Aims at a bin of the functional coverage: draws programs of the test `random` until one hits it.

A program is drawn as in the simulation, and what it hits is observed in the array model, so that no
simulator runs. Turned knobs make programs that have more of something (`pymodel.zoo.knobs`). The search
begins with each of them alone, and goes on with those whose programs hit most bins of the same points.
"""

from __future__ import annotations

import fnmatch
import itertools
import math
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field

from pymodel.compiler.agreement import loaded
from pymodel.compiler.compile import PACKINGS
from pymodel.machine.config import ArrayConfig
from pymodel.machine.errors import TatamiError
from pymodel.network.integer import INPUT
from pymodel.zoo.knobs import Knobs
from pymodel.zoo.random_network import LAYERS, random_images
from tb.common.seeding import generator, seed_in_run
from tb.coverage import operations, sample
from tb.coverage.observe import EventSeen, Observation
from tb.coverage.points import POINTS, ROOT, Coverpoint, Cross, path
from tb.flow.processes import processes
from tb.psa_top.test_random import IMAGES

TEST = "tb.psa_top.test_random.every_byte_and_counter"
BATCH = 4  # programs that are drawn at once with the same knobs
CURIOSITY = 0.5  # how much a setting that was tried little counts for what it may be good for

Hits = dict[str, set[str]]  # by point, the bins; both as `tb/coverage/exclusions.yaml` names them


@dataclass
class Setting:
    """Knobs, how many programs were drawn with them, and how many bins of the wanted points these hit."""

    knobs: Knobs
    programs: int = 0
    near: int = 0

    def promise(self, all_programs: int) -> float:
        """Bins a program, and something for what is not known yet (UCB1, Auer et al. 2002)."""
        if not self.programs:
            return math.inf
        return self.near / self.programs + CURIOSITY * math.sqrt(math.log(all_programs) / self.programs)


@dataclass(frozen=True)
class Found:
    """A run of the test `random` that hits a bin."""

    bin: str
    knobs: Knobs
    seed: int


@dataclass(frozen=True)
class Closed:
    """`settings`: those that were tried, the most promising first; `left`: bins that no program hit."""

    found: tuple[Found, ...]
    left: tuple[str, ...]
    programs: int
    settings: tuple[Setting, ...] = field(default=())


def every_setting() -> list[Knobs]:
    """No knob turned, and each in each way."""
    return [
        Knobs(),
        *(Knobs(layer=name) for name in LAYERS),
        *(Knobs(packing=name) for name in PACKINGS),
        *(Knobs(reused=share) for share in (0.0, 1.0)),
        *(Knobs(streamed=share) for share in (0.0, 1.0)),
    ]


def wanted_bins(pattern: str, config: ArrayConfig) -> dict[str, set[str]]:
    """The bins whose name matches a glob, by point. Raises `TatamiError` if none does, or if they are of
    events on the pins, which programs do not decide.
    """
    found: dict[str, set[str]] = {}
    events = False
    for point in POINTS:
        name = name_of(point, config)
        bins = {b for b in bins_of(point, config) if fnmatch.fnmatchcase(f"{name}: {b}", pattern)}
        if bins and point.of is EventSeen:
            events = True
        elif bins:
            found[name] = bins
    if not found:
        if events:
            raise TatamiError(f"BIN '{pattern}' is of events on the pins, which no program decides")
        example = name_of(POINTS[0], config), next(iter(bins_of(POINTS[0], config)))
        raise TatamiError(f"BIN '{pattern}' matches no bin; one is '{example[0]}: {example[1]}'")
    return found


def close(
    wanted: dict[str, set[str]], config: ArrayConfig, most: int, workers: int, progress: Callable[[str], None]
) -> Closed:
    """Draws at most `most` programs, `workers` batches at a time."""
    settings = [Setting(knobs) for knobs in every_setting()]
    left = {(point, name) for point, names in wanted.items() for name in names}
    found: list[Found] = []
    programs, running = 0, dict[Future[list[Hits]], tuple[Setting, range]]()
    with processes(workers) as pool:
        while left and (programs < most or running):
            while programs < most and len(running) < workers:
                best = max(settings, key=lambda setting: setting.promise(max(programs, 2)))
                seeds = range(best.programs + 1, best.programs + 1 + min(BATCH, most - programs))
                best.programs += len(seeds)
                programs += len(seeds)
                running[pool.submit(hits_of, best.knobs, seeds, config, sorted(wanted))] = best, seeds
            for done in wait(running, return_when=FIRST_COMPLETED).done:
                setting, seeds = running.pop(done)
                for seed, hits in zip(seeds, done.result(), strict=True):
                    setting.near += sum(map(len, hits.values()))
                    for point, name in sorted(left):
                        if name in hits.get(point, ()):
                            found.append(Found(f"{point}: {name}", setting.knobs, seed))
                            left.remove((point, name))
            progress(f"{programs} programs drawn, {len(left)} bins left")
    settings.sort(key=lambda setting: -setting.near / max(1, setting.programs))
    names = tuple(sorted(f"{point}: {name}" for point, name in left))
    return Closed(tuple(found), names, programs, tuple(settings))


def hits_of(knobs: Knobs, seeds: Sequence[int], config: ArrayConfig, points: Collection[str]) -> list[Hits]:
    """What the program of each seed hits of these points."""
    return [hits(observed(knobs, seed, config), config, points) for seed in seeds]


def observed(knobs: Knobs, seed: int, config: ArrayConfig) -> set[Observation]:
    """All that coverage sees of the program that the test `random` runs with a seed."""
    rng = generator(seed_in_run(seed, TEST), "network")
    network, image = knobs.program(rng, config)
    images = random_images(rng, network, IMAGES)
    machine = loaded(image, images)
    machine.observer = sample.layer_observations
    run = machine.run(image.run_start, stream=image.run_stream)
    seen = sample.observations(machine, image.run_start, run)
    if image.reuse:
        machine.load_tensor(image.placements[INPUT], images)
    dump = machine.run(image.dump_start, stream=image.dump_stream)
    seen |= sample.observations(machine, image.dump_start, dump)
    return seen | operations.observations(network, image, run)


def hits(seen: Collection[Observation], config: ArrayConfig, points: Collection[str]) -> Hits:
    """The bins that observations are put into."""
    found: Hits = {}
    for point in POINTS:
        name = name_of(point, config)
        if name in points:
            value, bins = reader(point), set(bins_of(point, config))
            found[name] = {str(value(one)) for one in seen if isinstance(one, point.of)} & bins
    return found


def reader(point: Coverpoint | Cross) -> Callable[[Observation], object]:
    """What tells the bin of an observation."""
    if isinstance(point, Coverpoint):
        return point.value
    values = [part.value for part in parts(point)]
    return lambda observation: tuple(value(observation) for value in values)


def bins_of(point: Coverpoint | Cross, config: ArrayConfig) -> Iterator[str]:
    if isinstance(point, Coverpoint):
        yield from map(str, point.bins(config) if callable(point.bins) else point.bins)
        return
    each = [part.bins(config) if callable(part.bins) else part.bins for part in parts(point)]
    yield from (str(pair) for pair in itertools.product(*each) if pair not in point.without)


def parts(cross: Cross) -> list[Coverpoint]:
    known = {point.name: point for point in POINTS if point.of is cross.of and isinstance(point, Coverpoint)}
    return [known[name] for name in cross.items]


def name_of(point: Coverpoint | Cross, config: ArrayConfig) -> str:
    """`<group>.cp_...`."""
    return path(point, config).removeprefix(f"{ROOT}.")
