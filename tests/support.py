"""What tests of several rooms share: an image on the array model, held against the reference; commands and
processes.
"""

from __future__ import annotations

import importlib
import io
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pymodel.compiler.agreement import loaded
from pymodel.compiler.compile import CapacityError, compile_network
from pymodel.compiler.planes import input_banks
from pymodel.machine.config import ArrayConfig
from pymodel.machine.errors import TatamiError
from pymodel.machine.image import Image
from pymodel.machine.model import Machine
from pymodel.machine.places import ROOT
from pymodel.network.integer import INPUT, Network, Weighted
from pymodel.network.reference import evaluate
from pymodel.packing.plan import LayerWeights, Scheme
from pymodel.zoo.random_network import grouped, random_images, random_network
from tb.flow.processes import within

DAMAGED = int(os.environ.get("TATAMI_DAMAGED", "200"))  # files of a kind that tests damage and read


def plane_words(machine: Machine, image: Image, name: str) -> np.ndarray:
    return machine.read_tensor(image.placements[name])


def assert_agrees(network: Network, image: Image, images: np.ndarray, where: str = "") -> None:
    """Every byte of every tensor that is written, run from the image, is the reference's; what the network
    sends and what the program behind it sends.
    """
    machine = loaded(image, images)
    tensors = evaluate(network, images)
    wanted = {name: place.to_words(tensors[name]) for name, place in image.placements.items()}
    sent = machine.run(image.run_start, stream=image.run_stream).packets[0]
    if image.reuse:
        machine.load_tensor(image.placements[INPUT], images)
    dump = machine.run(image.dump_start, stream=image.dump_stream)
    for name, words in image.dumped(dump.packets).items():
        np.testing.assert_array_equal(words, wanted[name], err_msg=f"{where}layer {name}")
    np.testing.assert_array_equal(
        sent.reshape(wanted[image.output].shape), wanted[image.output], err_msg=f"{where}what is sent"
    )


def planned_image(
    network: Network, config: ArrayConfig, scheme: Scheme, ratio: float, rng: np.random.Generator
) -> tuple[Network, Image] | None:
    """The network pruned as the scheme plans it, and its image;

    None if it has too few weights for the ratio or does not fit the machine.
    """
    banks = input_banks(network, config)
    planned = [one for one in network.layers if isinstance(one, Weighted) and not grouped(one)]
    weights = {one.name: one.weight for one in planned}
    layers = [
        LayerWeights.by_magnitude(n, w.reshape(len(w), -1).astype(float), banks[n])
        for n, w in weights.items()
    ]
    try:
        plans = scheme.plan(layers, ratio, config, rng)
        kept = {n: np.where(plans[n].mask.reshape(w.shape), w, 0).astype(np.int8) for n, w in weights.items()}
        layers_kept = tuple(
            replace(one, weight=kept[one.name]) if isinstance(one, Weighted) and one.name in kept else one
            for one in network.layers
        )
        network = Network("pruned", network.input_shape, layers_kept)
        return network, compile_network(network, config, plans=plans, scheme=scheme.name)
    except TatamiError as error:
        if isinstance(error, CapacityError) or str(error).startswith("ratio is"):
            return None
        raise


def check_images(config: ArrayConfig, scheme: Scheme, ratio: float) -> None:
    """Every tensor of some random networks, run from their images, against the reference."""
    seen = 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        planned = planned_image(random_network(rng, config), config, scheme, ratio, rng)
        if planned is None:
            continue
        network, image = planned
        assert_agrees(network, image, random_images(rng, network, 2), f"seed {seed}, ")
        seen += 1
    assert seen >= 10


def state_of(process: int) -> str:
    """The letter of /proc: R, S and D run, T is stopped, Z has ended; empty for one that is gone."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def gone(process: int) -> bool:
    """Whether a process ends within a minute."""
    return within(lambda: state_of(process) in ("", "Z"))


def assert_refused(command: str, options: list[str], message: str) -> None:
    """A command says what is wrong in one line, and ends with exit status 2. It is called here, but the first
    time in a process of its own: that takes a second, most of it for imports.
    """
    call = called_here if command in _SEEN else called_alone
    _SEEN.add(command)
    status, out, err = call(command, options)
    assert (status, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert message in err


_SEEN: set[str] = set()  # commands that were in a process of their own


def called_alone(command: str, options: list[str]) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of a command in a process of its own."""
    call = [sys.executable, "-m", f"scripts.{command}", *options]
    done = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def called_here(command: str, options: list[str]) -> tuple[int, str, str]:
    """The same of one that is called in this process."""
    main = importlib.import_module(f"scripts.{command}").main
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [command, *options])
        patch.chdir(ROOT)
        with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
            main.run()
    assert isinstance(ended.value.code, int)
    return ended.value.code, out.getvalue(), err.getvalue()
