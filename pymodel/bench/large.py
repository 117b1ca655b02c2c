"""`make bench BENCH=large`: how long the largest network takes without the RTL, and in how much memory."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.table import Table

from pymodel.compiler.agreement import loaded
from pymodel.compiler.compile import compile_cut
from pymodel.machine.config import CONFIGS
from pymodel.machine.image import Image
from pymodel.machine.model import Machine
from pymodel.network.network_file import StoredNetwork
from pymodel.network.reference import evaluate
from pymodel.zoo.architectures import ARCHITECTURES
from pymodel.zoo.pruned import random_architecture

NETWORK = "vgg16"  # at 224 x 224, with its fully connected layers: 138 million weights
SCHEME, RATIO = "tight_cycle", 14.0
COMPILED_S, RUN_S, GIB = 600.0, 300.0, 8.0  # targets, on two cores


def run(console: Console) -> dict[str, Any]:
    """The figures of `measure`. `passed` if each is within its target, and every byte of the output is the
    reference's.
    """
    figures = measure(console)
    seconds, gib = figures["seconds"], figures["gib"]
    shown = Table(title=f"{NETWORK}, {SCHEME} at {RATIO:g}x, without the RTL; at most {gib:.1f} GiB in use")
    shown.add_column("step")
    shown.add_column("s", justify="right")
    for name, spent in seconds.items():
        shown.add_row(name, f"{spent:.1f}")
    console.print(shown)
    compiled, ran = seconds["prune"] + seconds["compile"], seconds["reference"] + seconds["model"]
    passed = figures["same"] and compiled <= COMPILED_S and ran <= RUN_S and gib <= GIB
    return {"bench": "large", "passed": passed, "network": NETWORK, **figures}


def measure(console: Console) -> dict[str, Any]:
    """Seconds to draw, prune, pack and compile `NETWORK`, those of the array model and of the reference for
    one image, the most memory that was in use, in GiB, and whether every byte of the output is the same.
    """
    config = CONFIGS["16x16"]
    seconds: dict[str, float] = {}

    def timed(name: str, step: Callable[[], Any]) -> Any:
        console.print(f"{NETWORK}: {name}")
        begin = time.perf_counter()
        done = step()
        seconds[name] = round(time.perf_counter() - begin, 1)
        return done

    found: StoredNetwork = timed("prune", lambda: random_architecture(NETWORK, SCHEME, RATIO, config, 1, 1))
    share = ARCHITECTURES[NETWORK].share
    options: dict[str, Any] = {"packing": "tight", "plans": found.plans, "scheme": SCHEME}
    image: Image = timed("compile", lambda: compile_cut(found.network, config, share, **options))
    wanted = timed("reference", lambda: evaluate(found.network, found.images))
    machine = timed("model", lambda: _ran(image, found))
    last = found.network.layers[-1].name
    place = image.placements[last]
    same = bool((machine.read_tensor(place) == place.to_words(wanted[last])).all())
    gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"seconds": seconds, "gib": round(gib, 2), "same": same, "cores": os.cpu_count()}


def _ran(image: Image, found: StoredNetwork) -> Machine:
    machine = loaded(image, found.images)
    machine.run(image.run_start, stream=image.run_stream)
    return machine
