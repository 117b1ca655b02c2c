"""Programs of torch.export, held against what torch gives for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from pymodel.machine.config import CONFIGS
from pymodel.machine.errors import TatamiError
from pymodel.network.float import FloatConv, evaluate_float
from pymodel.network.from_export import from_export
from pymodel.network.runtime import run_torch
from pymodel.training.from_file import import_file

SHAPE = (4, 8, 8)


class Net(nn.Module):
    """Most kinds of operators, written as people do."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Sequential(nn.Conv2d(4, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.same = nn.Conv2d(8, 8, 3, padding="same", bias=False, groups=2)
        self.slope = nn.PReLU()
        self.last = nn.Conv2d(8, 8, 3)
        self.up = nn.Upsample(scale_factor=2)
        self.drop = nn.Dropout()
        self.fc = nn.Linear(6, 3)
        self.register_buffer("order", torch.tensor([1, 0, 3, 2, 4, 5, 7, 6]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.layer(x)
        x += functional.hardswish(self.same(x))
        x = functional.max_pool2d(self.slope(x), 2)
        a, b = x.chunk(2, 1)
        x = torch.cat([b, a], 1)
        x = x.view(x.size(0), 2, 4, 4, 4).transpose(1, 2).reshape(x.size(0), 8, 4, 4)  # a shuffle
        x = self.last(functional.pad(x, (1, 1, 1, 1))[:, self.order]).clamp(0, 6)
        x = functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
        x = functional.elu(self.up(x[:, 1:7])) * 2 + 1
        x = self.drop(torch.flatten(functional.adaptive_avg_pool2d(x, 1), 1))
        return functional.softmax(self.fc(x), dim=1)


def saved(module: nn.Module, path: Path, batch: int = 1, **more: Any) -> Path:
    torch.manual_seed(1)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_var = torch.rand(part.num_features) + 0.5
    program = torch.export.export(module.eval(), (torch.randn(batch, *SHAPE),), **more)
    torch.export.save(program, path)
    return path


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(Net(), tmp_path_factory.mktemp("pt2") / "net.pt2")


def test_a_program_gives_what_torch_gives(program: Path) -> None:
    """But for the softmax, which is left to the host."""
    file = from_export(program, "net")
    assert file.notes == ("left to the host: softmax",)
    images = np.random.default_rng(1).normal(0, 1, (3, *SHAPE))
    wanted = run_torch(program, images)
    last = file.network.layers[-1].name
    found = evaluate_float(file.network, images)[last].reshape(3, -1)
    powers = np.exp(found - found.max(axis=1, keepdims=True))
    np.testing.assert_allclose(powers / powers.sum(axis=1, keepdims=True), wanted, atol=1e-5)
    convs = [layer.name for layer in file.network.layers if isinstance(layer, FloatConv)]
    assert convs == ["layer.0", "same", "last"]  # the paths of their weights


def test_a_batch_that_is_open(tmp_path: Path) -> None:
    module = nn.Sequential(
        nn.Conv2d(4, 3, 3), nn.BatchNorm2d(3), nn.LeakyReLU(), nn.Flatten(), nn.Linear(108, 2)
    )
    path = saved(module, tmp_path / "open.pt2", 2, dynamic_shapes=({0: torch.export.Dim("n")},))
    images = np.random.default_rng(1).normal(0, 1, (3, *SHAPE))
    wanted = run_torch(path, images)
    network = from_export(path, "m").network
    found = evaluate_float(network, images)[network.layers[-1].name].reshape(3, -1)
    np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_from_the_file_to_the_images_of_a_run(program: Path, tmp_path: Path) -> None:
    path = saved(nn.Sequential(nn.Conv2d(4, 3, 3), nn.ReLU()), tmp_path / "m.pt2")
    assert import_file(program, None, CONFIGS["4x2t"], 1, 1).figures["runtime_gap"] is None  # a softmax
    found = import_file(path, None, CONFIGS["4x2"], 1, 2)
    assert found.figures["runtime"] == "torch"
    assert found.figures["runtime_gap"] < 1e-5
    assert found.stored.images.shape == (2, *SHAPE)


def test_what_is_refused(tmp_path: Path) -> None:
    class Bad(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.c, self.d = nn.Conv2d(4, 4, 1), nn.ConvTranspose2d(4, 4, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cumsum(self.c(x) * self.c(x), 1) + self.d(x)[:, :, :8, :8]

    path = saved(Bad(), tmp_path / "bad.pt2")
    with pytest.raises(TatamiError) as caught:
        from_export(path, "m")
    said = str(caught.value)
    assert said.startswith(f"{path}: ")
    assert len(said.splitlines()) == 1
    for part in ("'mul'", "cumsum", "conv_transpose2d"):
        assert part in said
    damaged = tmp_path / "damaged.pt2"
    damaged.write_bytes(path.read_bytes()[:900])
    with pytest.raises(TatamiError, match=r"damaged.pt2: is no program of torch.export file, or damaged \("):
        from_export(damaged, "m")
