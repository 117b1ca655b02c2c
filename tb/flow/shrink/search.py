"""The smallest network that still makes a failure.

A failure of a run of a network leaves that network and its input in its folder (`tb/debug/suspect.py`). Here
the network runs alone, by the test `network`, and is made smaller step by step for as long as the failure has
the same signature.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pymodel.compiler.compile import compile_network
from pymodel.cost.counts import image_cost
from pymodel.machine.errors import TatamiError
from pymodel.machine.files import write_text
from pymodel.machine.image import Image
from pymodel.machine.memory import columns
from pymodel.network.network_file import StoredNetwork
from tb.common.settings import Options
from tb.debug import suspect
from tb.debug.suspect import Ran
from tb.flow import failure as kept
from tb.flow import prepare, runner
from tb.flow.failure import Failure
from tb.flow.regress import signature
from tb.flow.shrink.reductions import smaller
from tb.flow.testlist import TESTS

TEST = TESTS["network"]
NETWORK = "network"  # the folder of the network, inside that of the failure
TEST_NAME = re.compile(r"^\w+: (?=\w+: )")  # before the exception's
MOST_RUNS = 150
PATIENCE_S, PATIENCE = 30, 5  # a run that takes longer than this, and so many times the first, hangs


@dataclass(frozen=True)
class Size:
    """How large a network is: what the search makes less, the first first."""

    cycles: int
    layers: int
    weights: int
    input_pixels: int
    pauses: int  # streams that make some

    def __lt__(self, other: Size) -> bool:
        return tuple(vars(self).values()) < tuple(vars(other).values())


TEMPLATE = '''"""Made by `make shrink`, of a failure that said: {signature}"""

from pathlib import Path

from pymodel.machine.config import ArrayConfig
from tb.common.settings import Options
from tb.flow import runner
from tb.flow.testlist import TESTS

CONFIG = {config}


def test_the_smallest_network() -> None:
    folder = Path(__file__).with_name("{network}")
    told = Options(images=1, network=str(folder), in_rate={in_rate}, out_rate={out_rate})
    outcome = runner.run(TESTS["network"], "{sim}", CONFIG, {seed}, options=told)
    assert outcome.passed, outcome.message
'''


@dataclass(frozen=True)
class Tried:
    """A network, compiled, and the run that it made."""

    ran: Ran
    image: Image
    folder: Path
    outcome: runner.RunResult

    @property
    def size(self) -> Size:
        return size_of(self.ran, self.image)


@dataclass(frozen=True)
class Shrunk:
    """`before` and `after`: the sizes; `steps`: what was taken away, in order; `runs`: simulations done."""

    failure: Failure
    before: Size
    after: Size
    steps: tuple[str, ...]
    runs: int


def size_of(ran: Ran, image: Image) -> Size:
    weights = sum(row["weights"] for row in image.stats["layers"])
    pauses = (ran.in_rate < 1) + (ran.out_rate < 1)
    return Size(image_cost(image).cycles, len(ran.network.layers), weights, ran.inputs.size, pauses)


def shrink(failure: Failure, most: int, progress: Callable[[str], None]) -> Shrunk:
    """Searches with at most `most` simulations, and keeps the failure of the smallest network found as a
    folder of its own.

    Raises `TatamiError` if the failure left no network, or does not come again when that runs alone.
    """
    ran = None if failure.suspect is None else failure.suspect.ran
    if ran is None or failure.suspect is None or failure.suspect.image is None:
        raise TatamiError(
            f"{failure.folder}: no {suspect.FOLDER}/{suspect.NETWORK}: only a failure of a run of a"
            " network can be made smaller"
        )
    wanted = said_of(failure.message)

    def like(outcome: runner.RunResult) -> bool:
        return not outcome.passed and said_of(outcome.message) == wanted

    with tempfile.TemporaryDirectory() as scratch:
        trial = Trial(failure, Path(scratch))
        progress(f"{ran.network.name} alone")
        best = trial.run(ran)
        if (best is None or not like(best.outcome)) and trial.runs < most:
            # the failure may hang on how the program that ran was laid out
            trial.layout = layout_of(failure.suspect.image)
            best = trial.run(ran)
        if best is None:
            raise TatamiError(f"'{ran.network.name}' does not fit config '{failure.config.name}' alone")
        if not like(best.outcome):
            said = "it passes" if best.outcome.passed else best.outcome.message.splitlines()[0]
            raise TatamiError(f"the failure does not come again when '{ran.network.name}' runs alone: {said}")
        trial.patience_s = max(PATIENCE_S, round(PATIENCE * best.outcome.wall_s))
        # in the run that failed it may have been packed in another way
        before, steps, going = size_of(ran, failure.suspect.image), [], True
        while going and trial.runs < most:
            going = False
            for step in smaller(best.ran):
                progress(f"{trial.runs} runs, {best.size.cycles:,} cycles; {step.what}")
                tried = trial.run(step.ran, less_than=best.size)
                if tried is not None and like(tried.outcome):
                    best, going = tried, True
                    steps.append(step.what)
                    break
                if trial.runs >= most:
                    break
        return Shrunk(keep(failure, best), before, best.size, tuple(steps), trial.runs)


def layout_of(image: Image) -> dict[str, Any]:
    """What makes a program of the same layout: short chunks, words that are used again."""
    records = columns("PROGRAM", image.section("PROGRAM").words[: len(image.layers), 0])
    return {"chunk_words": int(records.chunk_words.max()), "reuse": image.reuse}


def said_of(message: str) -> str:
    """The signature of a failure without the name of the test, which is another one here."""
    return signature(TEST_NAME.sub("", message))


class Trial:
    """Runs of networks alone, on the RTL of a failure. `runs`: how many there were. `patience_s`: the time
    limit of one. `layout`: what the compiler is told of how programs are laid out.
    """

    def __init__(self, failure: Failure, scratch: Path) -> None:
        self.failure, self.scratch = failure, scratch
        self.runs, self.patience_s = 0, TEST.timeout_s
        self.layout: dict[str, Any] = {}

    def run(self, ran: Ran, less_than: Size | None = None) -> Tried | None:
        """None if the network does not fit the machine, or is not smaller than that."""
        f = self.failure
        plain = replace(f.config, xor_inputs=0, xor_history=0)
        try:
            image = without = compile_network(ran.network, f.config, seed=f.seed, **self.layout)
            if f.config.xor_inputs:
                without = compile_network(ran.network, plain, seed=f.seed, **self.layout)
        except TatamiError:
            return None
        if less_than is not None and not size_of(ran, image) < less_than:
            return None
        stored = StoredNetwork(ran.network, ran.inputs[None], np.zeros(0, np.uint8), {})
        folder = prepare.written(stored, image, without, self.scratch)
        self.runs += 1
        outcome = runner.run(
            replace(TEST, timeout_s=self.patience_s),
            f.sim,
            f.config,
            f.seed,
            options=options(ran, folder),
            top=f.top,
            parameters=f.parameters,
            sources=f.sources,
        )
        return Tried(ran, image, folder, outcome)


def options(ran: Ran, folder: Path) -> Options:
    return Options(images=1, network=str(folder), in_rate=ran.in_rate, out_rate=ran.out_rate)


def keep(failure: Failure, best: Tried) -> Failure:
    """The failure folder of the smallest network, which holds the network and a test of it."""
    f = failure
    found = kept.keep(
        best.outcome,
        TEST,
        f.sim,
        f.config,
        f.seed,
        options=options(best.ran, best.folder),
        top=f.top,
        parameters=f.parameters,
        sources=f.sources,
    )
    shutil.copytree(best.folder, found.folder / NETWORK)
    told = options(best.ran, found.folder / NETWORK)
    write_text(found.folder / f"test_{found.folder.name.replace('-', '_')}.py", as_test(found, best.ran))
    return kept.with_options(found, told)


def as_test(failure: Failure, ran: Ran) -> str:
    """A test that passes when what makes the failure is mended. It stands beside the network's folder."""
    return TEMPLATE.format(
        signature=signature(failure.message),
        sim=failure.sim,
        seed=failure.seed,
        config=f"ArrayConfig(name={failure.config.name!r}, **{failure.config.fingerprint()!r})",
        network=NETWORK,
        in_rate=ran.in_rate,
        out_rate=ran.out_rate,
    )
