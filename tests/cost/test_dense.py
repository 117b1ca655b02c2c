"""The dense program, counted from shapes: equal to what laying it out gives wherever that can be done."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from pymodel.compiler.compile import CapacityError, clip_weights, compile_fitted
from pymodel.cost import dense
from pymodel.cost.counts import image_cost
from pymodel.cost.dense import dense_cost
from pymodel.cost.energy import energy, load_energy
from pymodel.machine.config import CONFIGS, MAX_DEPTH, ArrayConfig
from pymodel.network.integer import INPUT, Linear, Network, Requant
from pymodel.network.quantise import calibrate, quantise
from pymodel.zoo import digits
from pymodel.zoo.random_network import random_network
from pymodel.zoo.random_resnet import SHAPE, random_resnet


def agrees(network: Network, config: ArrayConfig) -> None:
    image = compile_fitted(network, config, packing="dense")
    laid_out, counted = image_cost(image, 7), dense_cost(network, config, 7)
    assert counted.cost == laid_out
    assert [{**row, "cycles": None} for row in counted.layers] == [
        {**row, "cycles": None} for row in image.stats["layers"]
    ]
    assert [row["cycles"] for row in counted.layers] == [layer.cycles for layer in laid_out.layers]
    table = load_energy()
    assert energy(counted.cost, table) == energy(laid_out, table)


@pytest.mark.parametrize("name", CONFIGS)
def test_of_digits(name: str) -> None:
    agrees(clip_weights(digits.load().network, CONFIGS[name]), CONFIGS[name])


@pytest.mark.parametrize("name", CONFIGS)
def test_of_random_networks(name: str) -> None:
    for seed in range(8):
        config = CONFIGS[name]
        agrees(clip_weights(random_network(np.random.default_rng(seed), config), config), config)


def test_of_resnet20() -> None:
    rng = np.random.default_rng(1)
    network = random_resnet(3, rng)
    quantised = quantise(network, calibrate(network, rng.normal(0, 1, (2, *SHAPE))))
    agrees(quantised, CONFIGS["16x16"])


def perceptron(*sizes: int) -> Network:
    layers, source = [], INPUT
    rng = np.random.default_rng(0)
    for number, (inputs, filters) in enumerate(pairwise(sizes)):
        ones = np.ones(filters, np.int32)
        weight = rng.integers(-100, 100, (filters, inputs)).astype(np.int8)
        layers.append(Linear(f"fc{number}", source, weight, Requant(ones, ones, ones)))
        source = f"fc{number}"
    return Network("perceptron", (sizes[0], 1, 1), tuple(layers))


@pytest.mark.parametrize("name", CONFIGS)
def test_of_many_tiles_and_many_passes(name: str) -> None:
    """More of both than the shortened program has, and chunks of a word."""
    config = CONFIGS[name]
    network = clip_weights(perceptron(15 * config.size + 3, 23 * config.size + 1, 30, 4), config)
    agrees(network, config)
    agrees(network, replace(config, acc_words=4))


@pytest.mark.parametrize("name", ["16x16", "16x8", "8x4x"])
def test_of_what_no_machine_holds(name: str) -> None:
    """A perceptron whose dense program has 67,600 lanes, at 16 rows and at 8."""
    config, inputs, tiles = CONFIGS[name], 1024, 65
    network = perceptron(inputs, tiles * CONFIGS[name].size, 10)
    with pytest.raises(CapacityError):
        compile_fitted(network, config, packing="dense")
    found = dense_cost(network, config)
    lanes = inputs * tiles + tiles * config.size * -(-10 // config.size)
    assert found.lanes == lanes == found.cost.total("lanes")
    assert lanes > MAX_DEPTH
    assert found.cost.config.lane_depth == MAX_DEPTH
    assert found.cost.stored_bits["SLOT"] > lanes * config.size * 8
    assert found.cost.cycles > lanes // config.size * config.size


def test_a_shortened_layer_has_few_lanes() -> None:
    """Of many tiles and passes, those at both ends and one of each other tile: so a network of hundreds of
    layers is counted, too.
    """
    config = CONFIGS["16x16"]
    shortened = dense._Shortened(config)
    tiles = 40
    weight = np.ones((tiles * config.size, 10 * config.size), np.int64)
    shortened(weight, np.zeros(weight.shape[1], np.int64), config, np.random.default_rng(0))
    (part,) = shortened.parts
    assert part.passes == 10 * tiles
    assert part.short_lanes == (2 * shortened.most + tiles - 2) * config.size
