"""Depthwise and grouped convolutions train under every scheme; zeros between their blocks are no weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from pymodel.machine.config import CONFIGS
from pymodel.network import network_file
from pymodel.network.integer import Conv
from pymodel.schemes import SCHEMES, array_for, get_scheme
from pymodel.training.compress import Recipe, compress
from pymodel.training.loop import trainer_of
from pymodel.training.schedule import Budget
from pymodel.training.start import measure_start
from pymodel.training.tasks import Task

CONFIG = CONFIGS["8x4"]
SHAPE = (2, 6, 6)
BUDGET = Budget(epochs=1, batch=16, replans=2)


def task() -> Task:
    torch.manual_seed(1)
    first, depthwise, grouped = (
        nn.Conv2d(2, 8, 3, padding=1),
        nn.Conv2d(8, 8, 3, padding=1, groups=8),
        nn.Conv2d(8, 12, 3, padding=1, groups=4),
    )
    layers = (first, nn.ReLU(), depthwise, nn.BatchNorm2d(8), nn.ReLU(), grouped, nn.ReLU())
    net = nn.Sequential(*layers, nn.Conv2d(12, 8, 1), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 3))
    images, labels = torch.randn(48, *SHAPE), torch.arange(48) % 3
    data = images, labels, images[:8], labels[:8]
    return Task("grouped", net, SHAPE, *data, lambda batch, _: batch, ("0",), "random", "noise")


OWN = {"2": 8 * 9, "5": 12 * 2 * 9, "7": 8 * 12, "10": 3 * 288}


@pytest.mark.parametrize("name", SCHEMES)
def test_they_train(name: str, tmp_path: Path) -> None:
    scheme, mine = get_scheme(name), task()
    ratio = 2.0 if scheme.prunes else 1.0
    start = measure_start(mine, CONFIG)
    found = compress(mine, Recipe(scheme, ratio, CONFIG, BUDGET), tmp_path, start)
    assert found.mismatches == 0
    assert start.dense_weights == 8 * 2 * 9 + sum(OWN.values())
    layers = {layer.name: layer for layer in network_file.load(tmp_path / "network.npz").network.layers}
    for layer_name, shape, groups in (("2", (8, 1, 3, 3), 8), ("5", (12, 2, 3, 3), 4)):
        layer = layers[layer_name]
        assert isinstance(layer, Conv)
        assert (layer.weight.shape, layer.groups) == (shape, groups)
    if scheme.stages == 1:
        assert found.layers is not None
        weights = {row.name: row.kept for row in found.layers if row.kept is not None}
        assert set(weights) == set(OWN)
        assert all(kept <= OWN[layer] for layer, kept in weights.items())
        assert found.density == pytest.approx(sum(weights.values()) / sum(OWN.values()))
    if scheme.prunes:
        assert found.matrix_compression >= ratio
    else:
        assert found.density == 1


def test_a_trainer_says_which_weights_there_are() -> None:
    mine = task()
    for name in ("tight_joint", "tight_subword"):
        scheme = get_scheme(name)
        config = array_for(scheme, CONFIG)
        trainer = trainer_of(scheme)(mine, scheme, 2.0, config, replace(BUDGET, saliency="taylor"), 1)
        trainer.plan(2.0)
        trainer.learn()
        weights, saliencies = trainer.matrices()
        assert {layer: weight.size for layer, weight in weights.items()} == OWN
        for layer, part in trainer.parts().items():
            assert sum(one.weights for one in part.weights) == OWN[layer]
            assert sum(one.saliency.sum() for one in part.weights) == pytest.approx(saliencies[layer].sum())
            plan, mask = trainer.plans[layer], trainer.masks[layer]
            assert plan.mask.shape == weights[layer].shape
            assert mask.shape == trainer.dense[layer].shape
            assert torch.equal(mask.flatten(1) > 0, torch.from_numpy(plan.mask))
