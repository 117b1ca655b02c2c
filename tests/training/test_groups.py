"""Networks with depthwise and grouped convolutions, concats, shuffles, maxima and upsampling are compressed
under every scheme, from the torch module to an image that the array model runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from pymodel.machine.config import CONFIGS
from pymodel.network import network_file
from pymodel.network.integer import Conv, Gather, MaxPool, Requantised, Upsample
from pymodel.schemes import SCHEMES, array_for, get_scheme
from pymodel.training.compress import Recipe, compress
from pymodel.training.loop import trainer_of
from pymodel.training.schedule import Budget
from pymodel.training.start import Start, measure_start
from pymodel.training.tasks import Task, get_task

NETWORKS = Path(__file__).with_name("small_networks.py")
CONFIG = CONFIGS["8x4"]
BUDGET = Budget(epochs=0.1, batch=32, replans=2)
RATIO = 1.25  # more, and whole passes in each tile are too many for layers as small as these
# A scheme of each kind, for the networks that not all of them are tried with.
SOME = ("dense", "column_combining", "tetris_pass", "penni", "tight_subword", "tight_cycle")


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@cache
def task(name: str) -> tuple[Task, Start]:
    found = get_task(f"{NETWORKS}:{name}", None, None)
    return found, measure_start(found, CONFIG)


def sizes(mine: Task) -> dict[str, int]:
    """Weights of each layer that a scheme plans."""
    weights = {name.removesuffix(".weight"): p for name, p in mine.module.named_parameters() if p.ndim > 1}
    return {name: weight.numel() for name, weight in weights.items() if name not in mine.keep}


@pytest.mark.parametrize(
    ("name", "scheme"),
    [
        *(("mobilenet", name) for name in SCHEMES),
        *((net, name) for net in ("shufflenet", "unet") for name in SOME),
    ],
)
def test_they_are_compressed(name: str, scheme: str, tmp_path: Path) -> None:
    (mine, start), chosen = task(name), get_scheme(scheme)
    ratio = RATIO if chosen.prunes else 1.0
    found = compress(mine, Recipe(chosen, ratio, CONFIG, BUDGET), tmp_path, start)
    assert found.mismatches == 0
    own = sizes(mine)
    parameters = dict(mine.module.named_parameters())
    assert start.dense_weights == sum(own.values()) + parameters[f"{mine.keep[0]}.weight"].numel()
    if chosen.stages == 1:
        assert found.layers is not None
        kept = {row.name: row.kept for row in found.layers if row.kept is not None}
        assert set(kept) == set(own)
        assert all(count <= own[layer] for layer, count in kept.items())
        assert found.density == pytest.approx(sum(kept.values()) / sum(own.values()))
    assert found.matrix_compression >= ratio if chosen.prunes else found.density == 1
    layers = network_file.load(tmp_path / "network.npz").network.layers
    for layer in layers:
        parameter = parameters.get(f"{layer.name}.weight")
        if isinstance(layer, Conv) and parameter is not None:
            assert layer.weight.shape == parameter.shape
    kinds = {type(layer) for layer in layers}
    depthwise = [one for one in layers if isinstance(one, Conv) and one.groups == len(one.weight)]
    tables = [one for one in layers if isinstance(one, Requantised) and one.requant.table is not None]
    if name == "mobilenet":
        assert len(depthwise) == len(tables) == 2
    elif name == "shufflenet":
        assert len(depthwise) == 3
        assert Gather in kinds
    else:
        assert {Gather, MaxPool, Upsample} <= kinds
        assert len(tables) == 1


@pytest.mark.parametrize("scheme", ["column_combining", "tight", "tight_joint", "tight_cycle"])
def test_lanes_are_filled_across_a_concat(scheme: str) -> None:
    """`up.0` reads 8 channels of one tensor and 16 of another; a lane has inputs of both."""
    mine, _ = task("unet")
    trainer = trainer_of(get_scheme(scheme))(mine, get_scheme(scheme), 4.0, CONFIG, BUDGET, 1)
    trainer.plan(4.0)
    packed = trainer.plans["up.0"].packed
    assert packed is not None
    channel = packed.groups // 9
    first = ((packed.groups >= 0) & (channel < 8)).any(axis=1)
    second = ((packed.groups >= 0) & (channel >= 8)).any(axis=1)
    assert (first & second).mean() > 0.2


def test_a_trainer_says_which_weights_there_are() -> None:
    mine, _ = task("shufflenet")
    for name in ("tight_joint", "tight_subword"):
        scheme = get_scheme(name)
        config = array_for(scheme, CONFIG)
        trainer = trainer_of(scheme)(mine, scheme, RATIO, config, replace(BUDGET, saliency="taylor"), 1)
        trainer.plan(RATIO)
        trainer.learn()
        weights, saliencies = trainer.matrices()
        assert {layer: weight.size for layer, weight in weights.items()} == sizes(mine)
        for layer, part in trainer.parts().items():
            dense = trainer.dense[layer].detach().double().flatten(1).numpy()
            for whole, parts in (
                (dense, [one.weight for one in part.weights]),
                (saliencies[layer], [one.saliency for one in part.weights]),
            ):
                own = [slice(None) if one.own is None else one.own for one in part.weights]
                held = [values[places].reshape(-1) for values, places in zip(parts, own, strict=True)]
                np.testing.assert_array_equal(np.concatenate(held), whole.reshape(-1))
            assert sum(one.weights for one in part.weights) == dense.size
            plan, mask = trainer.plans[layer], trainer.masks[layer]
            assert plan.mask.shape == weights[layer].shape
            assert mask.shape == trainer.dense[layer].shape
            assert torch.equal(mask.flatten(1) > 0, torch.from_numpy(plan.mask))
