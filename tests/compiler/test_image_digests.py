"""Images of the same network, seed and options stay the same bytes, and take the same cycles.

Every scheme on every configuration's array, networks as `make sim TEST=random` draws them, and the networks
of the published systems, held against `tests/compiler/data/image_digests.json`. Weights and saliencies are
whole numbers, so that no machine rounds them in another way. A change that is meant to change images writes
the file anew, and its commit says why: `.venv/bin/python -m tests.compiler.test_image_digests`.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pymodel.compiler.compile import clip_weights, compile_fitted, compile_network
from pymodel.compiler.planes import input_banks, output_words, residual_banks
from pymodel.machine.config import CONFIGS, DEFAULT_CONFIG, ArrayConfig
from pymodel.machine.image import Image
from pymodel.machine.model import Machine
from pymodel.network.integer import (
    INPUT,
    Conv,
    GlobalPool,
    Layer,
    Linear,
    Network,
    Requant,
    Residual,
    Weighted,
    around,
)
from pymodel.schemes import SCHEMES, LayerWeights, array_for, get_scheme
from pymodel.schemes.penni import BASIS, COEFFICIENTS
from pymodel.schemes.tight_subword import project
from pymodel.zoo import digits, systems
from pymodel.zoo.random_network import random_program

FILE = Path(__file__).parent / "data" / "image_digests.json"
SEEDS = 6
RATIO = 2.0


def requant(filters: int) -> Requant:
    ramp = np.arange(filters, dtype=np.int64)
    return Requant(100 * ramp - 500, 20_000 + 37 * ramp, np.full(filters, 22), low=-128 if filters % 2 else 0)


def convolution(
    rng: np.random.Generator, name: str, source: str, shape: tuple[int, ...], **options: Any
) -> Conv:
    return Conv(name, source, rng.integers(-127, 128, shape), requant(shape[0]), **options)


def network(rng: np.random.Generator, stages: bool) -> Network:
    """A small ResNet with every kind of layer; with `stages`, its second convolution in PENNI's two."""
    layers: list[Layer] = [convolution(rng, "first", INPUT, (17, 3, 3, 3), padding=around(1))]
    if stages:
        basis = np.zeros((17, 2, 17, 3, 3), dtype=np.int64)
        basis[np.arange(17), :, np.arange(17)] = rng.integers(-127, 128, (2, 3, 3))
        planes = Conv(
            f"second{BASIS}",
            "first",
            basis.reshape(34, 17, 3, 3),
            requant(34),
            stride=(2, 2),
            padding=around(1),
        )
        layers += [planes, convolution(rng, "second", planes.name, (16, 34, 1, 1))]
    else:
        layers.append(convolution(rng, "second", "first", (16, 17, 3, 3), stride=(2, 2), padding=around(1)))
    channel = rng.integers(-1, 16, 16)
    layers.append(
        convolution(
            rng,
            "third",
            "second",
            (16, 16, 3, 3),
            padding=around(1),
            residual=Residual("second", channel, rng.integers(-300, 301, 16)),
        )
    )
    layers.append(GlobalPool("pool", "third", requant(16)))
    layers.append(Linear("fc", "pool", rng.integers(-127, 128, (10, 16)), requant(10)))
    return Network("digested", (3, 9, 7), tuple(layers))


def of_scheme(scheme: str, config: ArrayConfig) -> Image:
    """The image of the small ResNet under a scheme, in memories as deep as it needs."""
    rng = np.random.default_rng(7)
    array = array_for(get_scheme(scheme), config)
    whole = clip_weights(network(rng, get_scheme(scheme).stages == 2), array)
    banks, residuals, words = (
        input_banks(whole, array),
        residual_banks(whole, array),
        output_words(whole, array),
    )
    staged = {layer.name.removesuffix(BASIS) for layer in whole.layers if layer.name.endswith(BASIS)}
    weights = {}
    for layer in whole.layers:
        if isinstance(layer, Weighted):
            matrix = layer.weight.reshape(len(layer.weight), -1)
            called = layer.name + COEFFICIENTS if layer.name in staged else layer.name
            saliency = np.square(matrix, dtype=np.float64)
            weights[layer.name] = LayerWeights(
                called, matrix, banks[layer.name], saliency, residuals.get(layer.name), words[layer.name]
            )
    found = get_scheme(scheme).plan(
        list(weights.values()), RATIO if get_scheme(scheme).prunes else 1.0, array, rng
    )
    plans = {name: found[one.name] for name, one in weights.items()}

    def pruned(layer: Layer) -> Layer:
        if not isinstance(layer, Weighted):
            return layer
        plan = plans[layer.name]
        if plan.packed is not None and plan.packed.digits:
            return replace(layer, weight=project(plan.packed, layer.weight).astype(np.int64))
        return replace(layer, weight=layer.weight * plan.mask.reshape(layer.weight.shape))

    left = Network(whole.name, whole.input_shape, tuple(map(pruned, whole.layers)))
    return compile_fitted(left, array, plans=plans, scheme=scheme, seed=3)


def of_system(name: str) -> Image:
    kept = systems.load(name)
    config = array_for(get_scheme(systems.SYSTEMS[name].scheme), CONFIGS[systems.CONFIG])
    return compile_fitted(kept.network, config, plans=kept.plans, scheme=name)


def of_digits() -> Image:
    """The image of `make sim`, whose cycles the README has."""
    config = CONFIGS[DEFAULT_CONFIG]
    return compile_network(clip_weights(digits.load().network, config), config)


def drawn(seed: int, config: ArrayConfig) -> Image:
    return random_program(np.random.default_rng(seed), config)[1]


def cases() -> Iterator[tuple[str, Callable[[], Image]]]:
    for config in CONFIGS.values():
        if config.stream_bits != ArrayConfig.stream_bits:
            continue  # the file is the same for every width
        for scheme in SCHEMES:
            yield f"{scheme} on {config.name}", partial(of_scheme, scheme, config)
        for seed in range(SEEDS):
            yield f"random {seed} on {config.name}", partial(drawn, seed, config)
    yield "digits on 16x8", of_digits
    for name in systems.SYSTEMS:
        yield f"system {name}", partial(of_system, name)


CASES = dict(cases())


def digest(image: Image) -> str:
    """SHA-256 of the image's file, and the cycles of a run."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "image"
        image.save(path)
        content = hashlib.sha256(path.read_bytes()).hexdigest()
    machine = Machine(image.config)
    machine.load(image.sections)
    return f"{content} {machine.run(image.run_start).cycles}"


@pytest.mark.parametrize("case", CASES)
def test_image_is_the_same_as_ever(case: str) -> None:
    assert digest(CASES[case]()) == json.loads(FILE.read_text())[case]


def test_every_digest_has_its_case() -> None:
    assert list(json.loads(FILE.read_text())) == list(CASES)


if __name__ == "__main__":
    FILE.write_text(json.dumps({case: digest(make()) for case, make in CASES.items()}, indent=1) + "\n")
