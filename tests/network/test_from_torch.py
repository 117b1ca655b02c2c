"""Torch modules as networks, public ResNets and their files, and the fast integer evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn
from torch.nn import functional

from pymodel.compiler.compile import compile_fitted
from pymodel.machine.config import CONFIGS
from pymodel.machine.errors import TatamiError
from pymodel.network.accuracy import FLOAT32_WHOLE, accuracy_int8, logits_int8, tensors_int8
from pymodel.network.activations import RELU
from pymodel.network.float import (
    FloatAdd,
    FloatConv,
    FloatLinear,
    FloatWeighted,
    evaluate_float,
    fold_batch_norm,
)
from pymodel.network.from_torch import from_torch, import_torch
from pymodel.network.integer import INPUT, Conv, GlobalPool, Linear, Network, Requant, View, around
from pymodel.network.quantise import calibrate, quantise, quantise_tensor
from pymodel.network.reference import evaluate
from pymodel.network.torch_activations import MODULES
from pymodel.training.train_digits import DigitsNet, fold
from pymodel.zoo.digits import load
from pymodel.zoo.random_network import random_images, random_network
from pymodel.zoo.resnet import ResNet, load_state, resnet20, resnet56
from tests.support import assert_agrees

M = TypeVar("M", bound=nn.Module)
Forward = Callable[[Any, torch.Tensor], Any]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Faster for layers this small, and the tests of other modules may run beside these."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def randomised(module: M, seed: int = 0) -> M:
    """The module with batch norms that do something, in eval mode."""
    generator = torch.Generator().manual_seed(seed)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d) and part.running_mean is not None:
            size = part.running_mean.shape
            part.running_mean.copy_(torch.randn(size, generator=generator) * 0.1)
            part.running_var.copy_(torch.rand(size, generator=generator) + 0.5)
            if part.affine:
                part.weight.data.copy_(torch.rand(size, generator=generator) * 2 - 0.5)
                part.bias.data.copy_(torch.randn(size, generator=generator) * 0.1)
    return module.eval()


def agrees(module: nn.Module, shape: tuple[int, int, int]) -> list[Any]:
    """Asserts that the network computes what the module does in float64; returns its layers."""
    network = from_torch(module, shape, "net")
    images = torch.randn(3, *shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    with torch.no_grad():
        expected = module.double()(images).numpy().reshape(3, -1)
    last = evaluate_float(network, images.numpy())[network.layers[-1].name]
    assert np.abs(expected).max() > 1e-3
    np.testing.assert_allclose(last.reshape(3, -1), expected, rtol=1e-9, atol=1e-12)
    return list(network.layers)


class Net(nn.Module):
    """Modules by name, and a forward of the test's own."""

    def __init__(self, run: Forward, **parts: nn.Module) -> None:
        super().__init__()
        torch.manual_seed(0)
        for name, part in parts.items():
            self.add_module(name, part)
        self.run = run

    def forward(self, images: torch.Tensor) -> Any:
        return self.run(self, images)


def conv(inputs: int, filters: int, k: int = 3, **options: Any) -> nn.Conv2d:
    return nn.Conv2d(
        inputs, filters, k, padding=options.pop("padding", k // 2), bias=options.pop("bias", False), **options
    )


# --- networks that are taken
# ---------------------------------------------------------------------------------------------------------


def test_digits_net_is_what_folding_by_hand_gives() -> None:
    net = randomised(DigitsNet())
    layers = dict(zip(("c1", "c2", "c3", "c4", "pool", "fc"), fold(net).layers, strict=True))
    assert [layer.name for layer in layers.values()] == list(layers)
    assert [layer.source for layer in layers.values() if not isinstance(layer, View | FloatAdd)] == [
        INPUT,
        "c1",
        "c2",
        "c3",
        "c4",
        "pool",
    ]
    for i in range(1, 5):
        c, n, layer = getattr(net, f"c{i}"), getattr(net, f"n{i}"), layers[f"c{i}"]
        kernel, mean, variance, gamma, beta = (
            part.detach().numpy().astype(np.float64)
            for part in (c.weight, n.running_mean, n.running_var, n.weight, n.bias)
        )
        weight, bias = fold_batch_norm(kernel, mean, variance, gamma, beta, n.eps)
        assert isinstance(layer, FloatConv)
        np.testing.assert_array_equal(layer.weight, weight)
        np.testing.assert_array_equal(layer.bias, bias)
        assert (layer.stride, layer.padding, layer.activation) == (
            (2, 2) if i == 2 else (1, 1),
            around(1),
            RELU,
        )
        assert (layer.residual is not None) == (i == 4)
    assert layers["c4"].residual.source == "c2"  # type: ignore[union-attr]
    assert layers["c4"].residual.channel.tolist() == list(range(32))  # type: ignore[union-attr]
    assert layers["c4"].residual.channel.dtype == np.int16  # type: ignore[union-attr]  # as in the kept file
    assert isinstance(layers["fc"], FloatLinear)
    assert layers["fc"].activation is None
    np.testing.assert_array_equal(layers["fc"].weight, net.fc.weight.detach().numpy())


def test_resnet_folds_with_its_shortcuts() -> None:
    net = randomised(ResNet(1, (4, 8, 12), classes=5))
    layers = {layer.name: layer for layer in agrees(net, (3, 12, 12))}
    assert list(layers) == [
        "conv1",
        *(f"layer{i}.0.conv{j}" for i in (1, 2, 3) for j in (1, 2)),
        "pool",
        "linear",
    ]
    shortcuts = {
        name: layer.residual
        for name, layer in layers.items()
        if isinstance(layer, FloatConv) and layer.residual is not None
    }
    assert {name: (r.source, r.stride) for name, r in shortcuts.items()} == {
        "layer1.0.conv2": ("conv1", (1, 1)),
        "layer2.0.conv2": ("layer1.0.conv2", (2, 2)),
        "layer3.0.conv2": ("layer2.0.conv2", (2, 2)),
    }
    assert shortcuts["layer2.0.conv2"].channel.tolist() == [-1, -1, 0, 1, 2, 3, -1, -1]
    assert all(layer.activation == RELU for layer in layers.values() if isinstance(layer, FloatConv))


def test_weights_are_found_again() -> None:
    net = randomised(ResNet(1, (4, 8), classes=5))
    imported = import_torch(net, (3, 8, 8), "net")
    parameters = dict(net.named_parameters())
    weighted = [layer for layer in imported.network.layers if isinstance(layer, FloatWeighted)]
    assert list(imported.weights) == [layer.name for layer in weighted]
    for layer in weighted:
        assert imported.weights[layer.name] == f"{layer.name}.weight"
        weight = parameters[imported.weights[layer.name]].detach().numpy()
        factor = imported.factors[layer.name].reshape(-1, *[1] * (weight.ndim - 1))
        np.testing.assert_allclose(weight * factor, layer.weight, rtol=1e-12)
    assert (imported.factors["linear"] == 1).all()
    assert imported.factors["conv1"].std() > 0.1


def test_module_keeps_mode_and_numbers() -> None:
    net = randomised(ResNet(1, (4,), classes=2)).train()
    net.bn1.eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    state = torch.get_rng_state()
    agrees_not = import_torch(net, (3, 8, 8), "net")
    assert agrees_not.network.layers
    assert net.training
    assert net.layer1.training
    assert not net.bn1.training
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


def test_groups_hold_their_own_weights_alone() -> None:
    # PENNI's basis convolution: every channel with its own kernels, then a 1 x 1 (arXiv 2005.07133)
    net = nn.Sequential(
        conv(4, 8, groups=4), conv(8, 6, k=1, groups=2, bias=True), nn.BatchNorm2d(6), nn.ReLU()
    )
    layers = agrees(randomised(net), (4, 5, 5))
    assert [layer.weight.shape for layer in layers] == [(8, 1, 3, 3), (6, 4, 1, 1)]
    assert [layer.groups for layer in layers] == [4, 2]
    imported = import_torch(net, (4, 5, 5), "net")
    assert imported.weights == {"0": "0.weight", "1": "1.weight"}


def projection(net: Any, x: torch.Tensor) -> torch.Tensor:
    first = functional.relu(net.c1(x))
    return functional.relu(net.n2(net.c2(first)) + net.ns(net.short(first)))


def test_projection_shortcut_is_a_layer_that_takes_the_sum() -> None:
    parts = {
        "c1": conv(3, 4),
        "c2": conv(4, 8, stride=2),
        "n2": nn.BatchNorm2d(8),
        "short": conv(4, 8, k=1, stride=2),
        "ns": nn.BatchNorm2d(8),
    }
    layers = agrees(randomised(Net(projection, **parts)), (3, 9, 9))
    assert [layer.name for layer in layers] == ["c1", "c2", "short"]
    assert (layers[1].activation, layers[1].residual) == (None, None)
    assert (layers[2].source, layers[2].residual.source, layers[2].activation) == ("c1", "c2", RELU)


def test_convolution_moves_behind_what_is_added_to_it() -> None:
    def run(net: Any, x: torch.Tensor) -> torch.Tensor:
        return net.b1(net.c1(x)) + functional.relu(net.c2(x))

    layers = agrees(randomised(Net(run, c1=conv(3, 4), b1=nn.BatchNorm2d(4), c2=conv(3, 4))), (3, 6, 6))
    assert [layer.name for layer in layers] == ["c2", "c1"]
    assert layers[1].residual.source == "c2"


def run(body: Forward, **parts: nn.Module) -> Callable[[], nn.Module]:
    return lambda: Net(body, **parts or {"c": conv(3, 3), "d": conv(3, 3)})


def option_a_then_pad(net: Any, x: torch.Tensor) -> torch.Tensor:
    return net.c2(net.relu(net.c1(x))) + functional.pad(x, (0, 0, 0, 0, 1, 0))[..., ::2, ::2]


def in_place(net: Any, x: torch.Tensor) -> torch.Tensor:
    x = net.relu(net.c1(x))
    out = net.c2(x)
    out += x
    return out.relu_().mean([-2, -1])


def whole_plane(net: Any, x: torch.Tensor) -> torch.Tensor:
    x = functional.relu(net.c1(x))
    x = functional.avg_pool2d(x, x.size()[3])
    return net.fc(x.view(x.size(0), -1))


def shuffled(net: Any, x: torch.Tensor) -> torch.Tensor:
    y = net.c(x)
    n, c, h, w = y.shape
    y = y.view(n, 2, c // 2, h, w).transpose(1, 2).contiguous()
    return net.d(y.view(n, c, h, w).relu_())


def upsampled(net: Any, x: torch.Tensor) -> torch.Tensor:
    small = net.d(functional.max_pool2d(net.c(x), 2)).relu()
    return net.e(torch.cat([x, net.up(small)], 1))


def blocks(x: torch.Tensor) -> torch.Tensor:
    """torch's pixel shuffle by 2, by hand."""
    n, c, h, w = x.shape
    return x.reshape(n, c // 4, 2, 2, h, w).permute(0, 1, 4, 2, 5, 3).reshape(n, c // 4, 2 * h, 2 * w)


def slopes(module: nn.PReLU) -> nn.PReLU:
    with torch.no_grad():
        module.weight[1] = 0.5
    return module


FORMS: dict[str, tuple[Callable[[], nn.Module], list[str]]] = {
    "modules": (
        lambda: nn.Sequential(
            conv(3, 4, k=5),
            nn.BatchNorm2d(4),
            nn.ReLU(inplace=True),
            nn.Dropout(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(4, 6),
            nn.ReLU(),
            nn.Dropout(),
            nn.Identity(),
            nn.Linear(6, 2),
        ),
        ["0", "4", "6", "10"],
    ),
    "average pool module": (
        lambda: nn.Sequential(
            conv(3, 4, padding=2), nn.ReLU(), nn.AvgPool2d(10), nn.Flatten(), nn.Linear(4, 2)
        ),
        ["0", "2", "4"],
    ),
    "mean of the pixels inside": (
        lambda: nn.Sequential(
            conv(3, 4),
            nn.AvgPool2d(3, 1, padding=1, count_include_pad=False),
            nn.AvgPool2d(3, 2, ceil_mode=True),
        ),
        ["0", "1", "2"],
    ),
    "pool of the input": (
        lambda: nn.Sequential(nn.AdaptiveAvgPool2d((1, 1)), nn.Flatten(), nn.Linear(3, 2)),
        ["0", "2"],
    ),
    "linear over planes": (
        lambda: nn.Sequential(conv(3, 2, stride=2), nn.Flatten(), nn.ReLU(), nn.Linear(32, 2)),
        ["0", "3"],
    ),
    "no batch norm parameters": (
        lambda: nn.Sequential(conv(3, 4, padding="same"), nn.BatchNorm2d(4, affine=False)),
        ["0"],
    ),
    "two batch norms": (
        lambda: nn.Sequential(conv(3, 4, bias=True), nn.BatchNorm2d(4), nn.BatchNorm2d(4)),
        ["0"],
    ),
    "size of a plane": (lambda: Net(whole_plane, c1=conv(3, 4), fc=nn.Linear(4, 2)), ["c1", "pool", "fc"]),
    "in place": (
        lambda: Net(in_place, c1=conv(3, 4), c2=conv(4, 4), relu=nn.ReLU(inplace=True)),
        ["c1", "c2", "pool"],
    ),
    "pad before slice": (
        lambda: Net(option_a_then_pad, c1=conv(3, 4, stride=2), c2=conv(4, 4), relu=nn.ReLU()),
        ["c1", "c2"],
    ),
    "functions": (
        lambda: Net(
            lambda net, x: torch.flatten(
                functional.adaptive_avg_pool2d(torch.relu(torch.add(net.c1(x), x)), 1), 1
            ).reshape(-1, 3),
            c1=conv(3, 3),
        ),
        ["c1", "pool"],
    ),
    "two pools": (
        lambda: Net(lambda net, x: net.c1(x.mean((2, 3), keepdim=True)).mean(dim=(3, 2)), c1=conv(3, 3, k=1)),
        ["pool", "c1", "pool_1"],
    ),
    "dropout function": (
        lambda: Net(lambda net, x: net.c1(functional.dropout(x, training=net.training)), c1=conv(3, 3)),
        ["c1"],
    ),
    "relu twice": (lambda: Net(lambda net, x: (net.c1(x).relu()).relu(), c1=conv(3, 3)), ["c1"]),
    "shared relu": (
        lambda: Net(
            lambda net, x: net.r(net.c2(net.r(net.c1(x)))), c1=conv(3, 3), c2=conv(3, 3), r=nn.ReLU()
        ),
        ["c1", "c2"],
    ),
    "pools": (
        lambda: nn.Sequential(
            nn.MaxPool2d(3, 1, 1),
            conv(3, 4),
            nn.MaxPool2d((3, 2), (2, 1), ceil_mode=True),
            nn.ReLU(),
            nn.AvgPool2d(3, 2, 1),
            nn.AvgPool2d((1, 2), stride=1),
            nn.AdaptiveAvgPool2d((2, None)),
        ),
        ["0", "1", "2", "4", "5", "6"],
    ),
    "pool functions": (
        run(
            lambda net, x: net.d(
                functional.avg_pool2d(functional.max_pool2d(net.c(x), 2, dilation=2, stride=1), (2, 3))
            )
        ),
        ["c", "max_pool2d", "avg_pool2d", "d"],
    ),
    "the largest of what is clamped": (
        lambda: nn.Sequential(conv(3, 4), nn.MaxPool2d(2), nn.ReLU6(), nn.Hardtanh(1, 3)),
        ["0", "1"],
    ),
    "windows": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 4, (1, 7), stride=(1, 3), padding=(0, 6)),
            nn.Conv2d(4, 4, 2, padding="same", dilation=(1, 3)),
            nn.Conv2d(4, 6, 3, dilation=2, padding=2, groups=2),
            nn.Conv2d(6, 6, 3, stride=4, padding=1, groups=6),
        ),
        ["0", "1", "2", "3"],
    ),
    "zeros around": (
        lambda: nn.Sequential(
            nn.ZeroPad2d((1, 0, 2, 1)), conv(3, 4, padding=0), nn.ConstantPad2d(1, 0.0), nn.AvgPool2d(3, 2)
        ),
        ["1", "3"],
    ),
    "activations": (
        lambda: nn.Sequential(
            *(layer for kind in MODULES for layer in (conv(3, 3), kind())), conv(3, 3), nn.PReLU(), nn.ReLU6()
        ),
        [str(2 * n) for n in range(len(MODULES) + 1)] + [f"{2 * len(MODULES) + 2}"],
    ),
    "activation functions": (
        run(
            lambda net, x: functional.hardswish(
                functional.leaky_relu(functional.gelu(net.c(x), approximate="tanh").clamp(-1, max=2), 0.2)
                .sigmoid()
                .clamp(max=0.6)
            )
        ),
        ["c", "clamp", "leaky_relu", "sigmoid", "clamp_1", "hardswish"],
    ),
    "activations of what others read": (
        run(lambda net, x: (lambda y: net.d(y.relu()) + y)(net.c(x.sigmoid()))),
        ["sigmoid", "c", "relu", "d"],
    ),
    "norms that stand alone": (
        lambda: nn.Sequential(
            nn.BatchNorm2d(3), nn.ReLU(), conv(3, 4), nn.ReLU(), nn.BatchNorm2d(4), nn.BatchNorm2d(4)
        ),
        ["0", "2", "4"],
    ),
    "norm of a vector": (
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(192, 4), nn.BatchNorm1d(4), nn.ReLU()),
        ["1"],
    ),
    "any sums": (
        run(
            lambda net, x: (
                torch.sub(net.c(x).relu() + net.d(x).relu(), x, alpha=2) * 0.5
                + (lambda y: y + y)(net.e(x) / 3 - 1)
                + (2 - x)
            ),
            c=conv(3, 3),
            d=conv(3, 3),
            e=conv(3, 3),
        ),
        ["c", "d", "add", "sub", "e", "add_1", "add_2", "sub_1", "add_3"],
    ),
    "sum of vectors": (run(lambda net, x: net.c(x).flatten(1) + x.flatten(1)), ["c", "add"]),
    "concat and split": (
        run(
            lambda net, x: net.e(
                torch.cat([net.c(x).chunk(3, 1)[1], x[:, 1:], net.d(x).split([1, 2], 1)[1]], 1)
            ),
            c=conv(3, 3),
            d=conv(3, 3),
            e=conv(5, 2),
        ),
        ["c", "d", "cat", "e"],
    ),
    "shuffle": (
        lambda: nn.Sequential(conv(3, 6), nn.ChannelShuffle(2), conv(6, 6, groups=3)),
        ["0", "1", "2"],
    ),
    "shuffle by hand": (run(shuffled, c=conv(3, 6), d=conv(6, 6, groups=3)), ["c", "view", "relu_", "d"]),
    "upsampling and concat": (
        run(upsampled, c=conv(3, 4), up=nn.Upsample(scale_factor=2), d=conv(4, 4), e=conv(7, 2)),
        ["c", "max_pool2d", "d", "up", "cat", "e"],
    ),
    "upsampling by function": (
        run(lambda net, x: net.c(functional.interpolate(x, scale_factor=(2, 1)))),
        ["interpolate", "c"],
    ),
    "pixel shuffles": (
        lambda: nn.Sequential(nn.PixelUnshuffle(2), conv(12, 8), nn.PixelShuffle(2), conv(2, 2)),
        ["0", "1", "2", "3"],
    ),
    "pixel shuffle by hand, of channels in another order": (
        run(
            lambda net, x: net.d((lambda y: blocks(y) + blocks(y.flip(1)))(net.c(x))),
            c=conv(3, 8),
            d=conv(2, 2),
        ),
        ["c", "reshape", "reshape_1.order", "reshape_1", "add", "d"],
    ),
    "strides without a window": (
        run(
            lambda net, x: net.c(x[:, :, ::2, 1::2]) + net.d(x.flip(1)[:, ::1, ::2, ::2]),
            c=conv(3, 3),
            d=conv(3, 3),
        ),
        ["getitem.0", "getitem", "c", "getitem_1", "d"],
    ),
    "a part of the channels is returned": (
        run(lambda net, x: net.c(x).chunk(3, 1)[0]),
        ["c", "getitem", "output"],
    ),
    "heads of one pixel": (
        run(
            lambda net, x: net.e(torch.cat([net.c(x).mean((2, 3)), x.mean((2, 3))], 1)),
            c=conv(3, 3),
            d=conv(3, 3),
            e=nn.Linear(6, 2),
        ),
        ["c", "pool", "pool_1", "cat", "e"],
    ),
    "flattened concat": (
        run(lambda net, x: net.e(torch.cat([net.c(x), x], 1).flatten(1)), c=conv(3, 3), e=nn.Linear(384, 2)),
        ["c", "cat", "e"],
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_form_of_writing(form: str) -> None:
    make, names = FORMS[form]
    assert [layer.name for layer in agrees(randomised(make()), (3, 8, 8))] == names


@pytest.mark.parametrize("form", list(FORMS)[list(FORMS).index("pools") :])
def test_every_form_is_close_in_int8_and_runs_on_the_machine(form: str) -> None:
    network = from_torch(randomised(FORMS[form][0]()), (3, 8, 8), "net")
    images = torch.randn(12, 3, 8, 8, generator=torch.Generator().manual_seed(3)).double().numpy()
    scales = calibrate(network, images)
    quantised = quantise(network, scales)
    pixels, last = quantise_tensor(images, scales[INPUT]), network.layers[-1].name
    exact = evaluate_float(network, images)[last]
    error = evaluate(quantised, pixels)[last] * scales[last] - exact
    assert np.abs(error).mean() < 0.1 * exact.std()
    assert_agrees(quantised, compile_fitted(quantised, CONFIGS["8x4"]), pixels[:1])


# --- networks that are refused
# -------------------------------------------------------------------------------------------------------


def poisoned(module: nn.Module, path: str, value: float) -> nn.Module:
    with torch.no_grad():
        module.get_parameter(path).view(-1)[4] = value
    return module


def hooked() -> nn.Module:
    net = nn.Sequential(conv(3, 4))
    net[0].register_forward_hook(lambda _module, _inputs, output: output * 2)
    return net


def negative_variance() -> nn.Module:
    net = nn.Sequential(conv(3, 4), nn.BatchNorm2d(4))
    net[1].running_var[2] = -1
    return net


def stale(net: Any, x: torch.Tensor) -> torch.Tensor:
    first = net.c(x)
    kept = first
    first += net.d(x).relu()  # c hosts the sum, nothing is lost ...
    return first + kept  # ... but for this reader


def overwritten(net: Any, x: torch.Tensor) -> torch.Tensor:
    first = net.c(x).relu()
    kept = first
    first = first.add_(net.d(first))
    return net.e(first) + kept


def overwritten_unseen(net: Any, x: torch.Tensor) -> torch.Tensor:
    first = net.c(x).relu()
    kept = first
    first += net.d(first)  # torch.fx takes this for first = first + ...
    return net.e(first) + kept


def ignored_in_place(net: Any, x: torch.Tensor) -> torch.Tensor:
    first = net.c(x)
    first.relu_()
    return net.d(first)


REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "parameter": (
        run(lambda net, x: net.c(x) * net.c.weight.sum()),
        r"parameter 'c.weight', used directly, is not supported",
    ),
    "transposed": (
        lambda: nn.Sequential(nn.ConvTranspose2d(3, 4, 3)),
        r"module '0' \(ConvTranspose2d\) is not supported",
    ),
    "padding": (
        lambda: nn.Sequential(conv(3, 4, padding=3)),
        r": padding at the top is 3, must be in 0..2",
    ),
    "padding mode": (
        lambda: nn.Sequential(conv(3, 4, padding_mode="reflect")),
        r"has padding mode 'reflect', must be 'zeros'",
    ),
    "nan": (
        lambda: poisoned(nn.Sequential(conv(3, 4)), "0.weight", np.nan),
        r"module '0' \(Conv2d\) has a weight that is not finite: nan at \[0, 0, 1, 1\]",
    ),
    "inf bias": (
        lambda: poisoned(nn.Sequential(conv(3, 6, bias=True)), "0.bias", -np.inf),
        r"has a bias that is not finite: -inf at \[4\]",
    ),
    "nan norm": (
        lambda: poisoned(nn.Sequential(conv(3, 6), nn.BatchNorm2d(6)), "1.weight", np.nan),
        r"module '1' \(BatchNorm2d\) has a weight that is n",
    ),
    "negative variance": (
        negative_variance,
        r"module '1' \(BatchNorm2d\) has a running_var of -1, must not be negative",
    ),
    "no statistics": (
        lambda: nn.Sequential(conv(3, 4), nn.BatchNorm2d(4, track_running_stats=False)),
        r"has no running statistics \(track_running_stats",
    ),
    "norm of a shared tensor": (
        run(lambda net, x: net.n(net.c(x)) + net.c(x), c=conv(3, 3), n=nn.BatchNorm2d(3)),
        r"module 'c' \(Conv2d\) is called twice",
    ),
    "broadcast": (
        run(lambda net, x: net.c(x) + x.mean((2, 3), keepdim=True)),
        r"adds tensors of shapes \(3, 8, 8\) and \(3, 1, 1\), must be equal",
    ),
    "stale sum": (run(stale), r"the module's output differs by"),
    "overwritten": (
        run(overwritten, c=conv(3, 3), d=conv(3, 3), e=conv(3, 3)),
        r"function 'add' reads 'c', which method 'add_' has overwritten; write a = a \+ b there",
    ),
    "overwritten unseen": (
        run(overwritten_unseen, c=conv(3, 3), d=conv(3, 3), e=conv(3, 3)),
        r"the module's output differs by [0-9.]+ from its traced layers', .*, and additions in place",
    ),
    "ignored in place": (
        run(ignored_in_place),
        r"method 'relu_' reads 'c', which others read too; it is in place, so they read its result",
    ),
    "unused": (
        run(lambda net, x: (net.d(x), net.c(x))[1]),
        r"module 'd' \(Conv2d\) has a result that nothing reads",
    ),
    "part of a tensor": (
        run(lambda net, x: net.c(x[:, :, 1:])),
        r"function 'getitem' gives pixels of 'input' that no layer of the machine moves there",
    ),
    "pad with ones": (
        run(lambda net, x: net.c(x) + functional.pad(x, (0,) * 6, value=1)),
        r"function 'pad' pads by mode 'constant' and value 1, must",
    ),
    "divisor": (
        lambda: nn.Sequential(conv(3, 4), nn.AvgPool2d(8, divisor_override=3)),
        r"has a divisor_override of 3, must have none",
    ),
    "mean of rows": (
        run(lambda net, x: net.c(x).mean(2)),
        r"method 'mean' is over dimension 2, must be over \(2, 3\)",
    ),
    "flatten rows": (
        run(lambda net, x: net.c(x).flatten(2)),
        r"method 'flatten' gives shape \(2, 3, 64\) for a batch of 2, must be \[batch, C, H",
    ),
    "mixing images": (
        run(lambda net, x: net.c(x).reshape(1, -1)),
        r"method 'reshape' gives shape \(1, 384\) for a batch of 2",
    ),
    "linear of rows": (
        lambda: nn.Sequential(nn.Linear(8, 4)),
        r"module '0' \(Linear\) reads 'input', which must be flattened to \[batch, 8\] before",
    ),
    "convolution of a vector": (
        run(lambda net, x: net.c(x).flatten(1).relu().mean((0, 1))),
        r"method 'mean' is over dimension \(0, 1\), must be over \(2, 3\)",
    ),
    "dropout": (
        run(lambda net, x: functional.dropout(net.c(x))),
        r"function 'dropout' has training = True, must be False in eval mode",
    ),
    "two outputs": (
        run(lambda net, x: (net.c(x), net.d(x))),
        r"forward returns tuple, must return one tensor",
    ),
    "no layer": (nn.Identity, r"forward computes nothing of its input"),
    "control flow": (
        run(lambda net, x: net.c(x) if x.sum() > 0 else x),
        r"torch.fx cannot trace the module: symbolically traced variables",
    ),
    "two inputs": (lambda: nn.Bilinear(3, 3, 2), r"forward takes 2 inputs \(input1, input2\), must take 1"),
    "wrong channels": (
        lambda: nn.Sequential(conv(5, 4)),
        r"module '0' \(Conv2d\) fails on images of shape \(3, 8, 8\): .*to have 5 channels",
    ),
    "hook": (
        hooked,
        (
            r"the module's output differs by [0-9.]+ from its traced layers', must be within [0-9.e-]+:"
            r" torch.fx does not see hooks"
        ),
    ),
    "argument": (
        run(lambda net, x: torch.mean(net.c(x), axis=(2, 3))),
        r"function 'mean' has an argument 'axis', which is not supported",
    ),
    "kernel 13": (
        lambda: nn.Sequential(nn.Conv2d(3, 4, 13, padding=6)),
        r"module '0' \(Conv2d\): kernel is 13 x 13, must be in 1..11",
    ),
    "stride 5": (
        lambda: nn.Sequential(conv(3, 4, stride=(1, 5))),
        r"module '0' \(Conv2d\): stride is 1 x 5, must be in 1..4",
    ),
    "dilation 12": (
        lambda: nn.Sequential(conv(3, 4, dilation=12, padding=12)),
        r"module '0' \(Conv2d\): dilation is 12 x 12, must be in 1..11",
    ),
    "softmax": (
        lambda: nn.Sequential(conv(3, 4), nn.Softmax(dim=1)),
        r"module '1' \(Softmax\) is not supported; supported: Conv2d, Linear",
    ),
    "function in a module": (
        lambda: nn.Sequential(Net(lambda net, x: net.c(x).exp(), c=conv(3, 3))),
        r"method 'exp' in module '0' is not supported",
    ),
    "bilinear": (
        lambda: nn.Sequential(nn.Upsample(scale_factor=2, mode="bilinear")),
        r"module '0' \(Upsample\) has mode 'bilinear', must be 'nearest'",
    ),
    "bilinear function": (
        run(lambda net, x: net.c(functional.interpolate(x, scale_factor=2, mode="bicubic"))),
        r"function 'interpolate' has mode 'bicubic', must be 'nearest'",
    ),
    "upsampled by five": (
        lambda: nn.Sequential(nn.Upsample(scale_factor=5), conv(3, 4)),
        r"module '0' \(Upsample\) gives pixels of 'input' that no layer of the machine moves",
    ),
    "upsampled by a half more": (
        lambda: nn.Sequential(nn.Upsample(size=12), conv(3, 4)),
        r"module '0' \(Upsample\) gives pixels of 'input' that no layer of the machine moves",
    ),
    "maximum with zeros around": (
        lambda: nn.Sequential(conv(3, 4), nn.ZeroPad2d(1), nn.MaxPool2d(3)),
        r"module '2' \(MaxPool2d\) reads a copy of '0' with zeros around it, must read the tensor itself",
    ),
    "sum with zeros around": (
        run(lambda net, x: net.c(x) + functional.pad(net.d(x).relu()[:, :, ::2, ::2], (2,) * 4)),
        r"function 'add' reads a copy of 'pad' with zeros around it, which only windows over planes may",
    ),
    "indices": (
        lambda: nn.Sequential(nn.MaxPool2d(2, return_indices=True)),
        r"module '0' \(MaxPool2d\) has return_indices = True, must be False",
    ),
    "uneven mean of many": (
        lambda: nn.Sequential(nn.AvgPool2d(7, 1, padding=3, count_include_pad=False)),
        r"\(AvgPool2d\).*: its windows have 4, 5, 6, 7 rows .* the mean needs weights up to 11025, must",
    ),
    "mean over the edge": (
        lambda: nn.Sequential(nn.AvgPool2d(3, 2, padding=1, ceil_mode=True)),
        r"module '0' \(AvgPool2d\) has ceil_mode, padding that counts, and windows that reach over it",
    ),
    "pool to 3 x 3": (
        lambda: nn.Sequential(conv(3, 4), nn.AdaptiveAvgPool2d(3)),
        r"module '1' \(AdaptiveAvgPool2d\) has output size 3, must divide its plane of 8 x 8 or be 1",
    ),
    "slopes": (
        lambda: nn.Sequential(conv(3, 4), slopes(nn.PReLU(4))),
        r"module '1' \(PReLU\) has 4 slopes, must have one for all channels",
    ),
    "product": (
        run(lambda net, x: net.c(x) * net.d(x).sigmoid()),
        r"function 'mul' multiplies two tensors, must multiply by a number",
    ),
    "quotient": (
        run(lambda net, x: 1 / net.c(x)),
        r"function 'truediv' divides by a tensor, must divide by a number",
    ),
    "number in a tensor": (
        run(lambda net, x: net.c(x) + torch.ones(3, 1, 1)),
        r"parameter '_tensor_constant0', used directly, is not supported",
    ),
    "pixels in another order": (
        run(lambda net, x: net.e(net.c(x).permute(0, 2, 3, 1).flatten(1)), c=conv(3, 3), e=nn.Linear(192, 2)),
        r"method 'permute' gives pixels of 'c' that no layer of the machine moves there",
    ),
    "turned": (
        run(lambda net, x: net.d(net.c(x).flip(3))),
        r"method 'flip' gives pixels of 'c' that no layer of the machine moves there",
    ),
    "other borders": (
        run(lambda net, x: net.c(functional.pad(x, (1,) * 4, mode="reflect"))),
        r"function 'pad' pads by mode 'reflect' and value None, must be 'constant' and 0",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusal_names_the_module(case: str) -> None:
    make, message = REFUSED[case]
    module = make()
    with pytest.raises(TatamiError, match=message) as caught:
        from_torch(module, (3, 8, 8), "net")
    assert str(caught.value).startswith("network 'net': ")
    assert "\n" not in str(caught.value)
    assert module.training


@pytest.mark.parametrize("shape", [(3, 8), (3, 0, 8), (3.0, 8, 8)])
def test_input_shape_is_checked(shape: Any) -> None:
    with pytest.raises(
        TatamiError, match=r"network 'net': input shape is \(.*\), must be three positive numbers"
    ):
        from_torch(nn.Sequential(conv(3, 4)), shape, "net")


# --- ResNets and their files
# ---------------------------------------------------------------------------------------------------------


def test_sizes_of_the_paper() -> None:
    # table 6 of arXiv 1512.03385: 0.27 M and 0.85 M parameters
    for net, layers, parameters in ((resnet20(), 20, 269_722), (resnet56(), 56, 853_018)):
        assert sum(isinstance(part, nn.Conv2d | nn.Linear) for part in net.modules()) == layers
        assert sum(p.numel() for p in net.parameters()) == parameters
    assert "layer3.8.bn2.running_var" in resnet56().state_dict()


def test_resnet_parameters() -> None:
    with pytest.raises(TatamiError, match="ResNet: blocks is 0, must be at least 1"):
        ResNet(0)
    with pytest.raises(TatamiError, match=r"ResNet: widths are \(8, 4\), must be positive and must not fall"):
        ResNet(1, (8, 4))


def tiny() -> ResNet:
    torch.manual_seed(1)
    return randomised(ResNet(1, (2, 4), classes=3))


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("counts", [False, True])
def test_state_comes_back(tmp_path: Path, prefix: str, wrapped: bool, counts: bool) -> None:
    source, target = tiny(), ResNet(1, (2, 4), classes=3)
    state: dict[str, Any] = {
        prefix + name: value
        for name, value in source.state_dict().items()
        if counts or "num_batches" not in name
    }
    torch.save({"state_dict": state, "best_prec1": 91.7} if wrapped else state, tmp_path / "w.th")
    load_state(target, tmp_path / "w.th")
    for name, value in source.state_dict().items():
        assert torch.equal(target.state_dict()[name], value), name


STATES: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "missing": (
        lambda s: {k: v for k, v in s.items() if k != "bn1.bias"},
        r"key 'bn1.bias' is missing; the network has 32 k",
    ),
    "missing many": (
        lambda s: {k: v for k, v in s.items() if "layer1" not in k},
        r"key 'layer1.0.conv1.weight' is missing, and 9 more; ",
    ),
    "extra": (
        lambda s: s | {"layer9.weight": torch.zeros(1)},
        r"key 'layer9.weight' is not one of the network's; the network has 32 keys, the file 33",
    ),
    "renamed": (
        lambda s: {k.replace("linear", "fc"): v for k, v in s.items()},
        (
            r"key 'linear.weight' is missing, and 1 more; key 'fc.weight' is not one of the network's, and 1"
            r" more"
        ),
    ),
    "shape": (
        lambda s: s | {"linear.weight": torch.zeros(3, 5)},
        r"key 'linear.weight' has shape \(3, 5\), must be \(3, 4\)",
    ),
    "type": (
        lambda s: s | {"linear.bias": [0.0, 0.0, 0.0]},
        r"key 'linear.bias' holds list, must hold a tensor",
    ),
    "dtype": (
        lambda s: s | {"linear.bias": torch.zeros(3, dtype=torch.int32)},
        r"key 'linear.bias' has dtype torch.int32, must be torch.float32",
    ),
    "nan": (
        lambda s: s | {"conv1.weight": s["conv1.weight"] * np.nan},
        r"key 'conv1.weight' holds a value that is not finite",
    ),
    "variance": (
        lambda s: s | {"bn1.running_var": torch.tensor([1.0, -2.0])},
        r"key 'bn1.running_var' holds -2, must not be negative",
    ),
    "no dict": (lambda s: list(s.values()), r"holds list, must hold a state_dict"),
    "empty": (lambda _: {}, r"holds dict, must hold a state_dict"),
    "module": (lambda _: tiny(), r"not a file of torch tensors, or damaged"),
}


@pytest.mark.parametrize("case", STATES)
def test_wrong_state_is_named(tmp_path: Path, case: str) -> None:
    change, message = STATES[case]
    path, net = tmp_path / "w.pt", tiny()
    torch.save(change(net.state_dict()), path)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with pytest.raises(TatamiError, match=message) as caught:
        load_state(net, path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_damaged_state_file(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    with pytest.raises(TatamiError, match=r"w.pt: no such file"):
        load_state(tiny(), path)
    torch.save(tiny().state_dict(), path)
    whole = path.read_bytes()
    for content in (b"", b"hello", whole[: len(whole) // 2], whole[100:]):
        path.write_bytes(content)
        with pytest.raises(TatamiError, match=r"w.pt: not a file of torch tensors, or damaged") as caught:
            load_state(tiny(), path)
        assert "\n" not in str(caught.value)


# --- integers
# --------------------------------------------------------------------------------------------------


def test_quantised_resnet_is_close() -> None:
    net = randomised(ResNet(1, (8, 16), classes=10))
    network = from_torch(net, (3, 16, 16), "net")
    images = torch.randn(64, 3, 16, 16, generator=torch.Generator().manual_seed(2)).double().numpy()
    scales = calibrate(network, images[:48])
    exact = evaluate_float(network, images[48:])["linear"]
    steps = logits_int8(quantise(network, scales), quantise_tensor(images[48:], scales[INPUT]), batch=5)
    error = steps * scales["linear"] - exact
    assert error.std() < 0.05 * exact.std()


@pytest.mark.parametrize("config", ["4x2", "16x8"])
def test_fast_tensors_are_the_reference_s(config: str) -> None:
    compared = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        network = random_network(rng, CONFIGS[config])
        images = random_images(rng, network, 3)
        fast = tensors_int8(network, images)
        for name, values in evaluate(network, images).items():
            np.testing.assert_array_equal(fast[name], values, err_msg=f"seed {seed}, {name}", strict=True)
            compared += 1
    assert compared > 100


def wide(value: int, inputs: int, requant: Requant | None = None) -> Network:
    """One 5 x 5 convolution whose sums are near or beyond what float32 holds exactly."""
    rng = np.random.default_rng(0)
    weight = np.full((2, inputs, 5, 5), value)
    weight[1] -= rng.integers(0, 2, weight[1].shape)
    shift = np.array([0, 0])
    plain = Requant(bias=np.array([0, 0]), multiplier=np.array([1, 1]), shift=shift)
    return Network("wide", (inputs, 5, 5), (Conv("c", INPUT, weight, requant or plain),))


def test_sums_that_float32_cannot_hold() -> None:
    network = wide(126, 64)
    rng = np.random.default_rng(1)
    images = np.full((3, 64, 5, 5), 127, dtype=np.int8) - rng.integers(0, 2, (3, 64, 5, 5)).astype(np.int8)
    sums = (images.astype(np.int64).reshape(3, 1, -1) * network.layers[0].weight.reshape(2, -1)).sum(axis=2)  # type: ignore[union-attr]
    assert (sums > FLOAT32_WHOLE).all()
    assert (sums % 2 == 1).any()  # float32 has even numbers only up there
    # the bias brings the sums into the range of int8: any step that was lost shows
    requant = Requant(-sums[0].astype(np.int64), np.array([1, 1]), np.array([0, 0]))
    network = wide(126, 64, requant)
    expected = evaluate(network, images)["c"]
    np.testing.assert_array_equal(tensors_int8(network, images)["c"], expected)
    assert (expected[0] == 0).all()


def test_overflow_is_refused_as_by_the_reference() -> None:
    weight = np.full((1, 140_000), 127)
    network = Network(
        "large", (140_000, 1, 1), (Linear("fc", INPUT, weight, Requant(*np.zeros((3, 1), dtype=np.int64))),)
    )
    images = np.full((1, 140_000, 1, 1), -128, dtype=np.int8)
    messages = []
    for function in (evaluate, tensors_int8):
        with pytest.raises(
            TatamiError, match="network 'large', layer 'fc': sum 2275840000 leaves the int32 accumulator"
        ) as caught:
            function(network, images)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    # the same layer with small inputs stays inside
    np.testing.assert_array_equal(
        tensors_int8(network, images // 64)["fc"], evaluate(network, images // 64)["fc"]
    )


def test_accuracy_is_that_of_the_kept_network() -> None:
    digits = load()
    for batch in (1000, 64):
        assert accuracy_int8(digits.network, digits.images, digits.labels, batch) == pytest.approx(
            digits.meta["accuracy_int8"], abs=5e-5
        )
    expected = evaluate(digits.network, digits.images)["fc"]
    for count, batch in ((450, 7), (1, 1), (2, 1), (3, 1), (5, 2), (10, 8)):
        np.testing.assert_array_equal(
            logits_int8(digits.network, digits.images[:count], batch), expected[:count], strict=True
        )


def test_accuracy_refuses_what_does_not_fit() -> None:
    digits = load()
    with pytest.raises(TatamiError, match=r"labels have shape \(449,\), must be \(450,\)"):
        accuracy_int8(digits.network, digits.images, digits.labels[1:])
    with pytest.raises(TatamiError, match="at least one"):
        accuracy_int8(digits.network, digits.images[:0], digits.labels[:0])
    with pytest.raises(TatamiError, match="batch is 0, must be at least 1"):
        logits_int8(digits.network, digits.images, 0)
    with pytest.raises(TatamiError, match="images are float64, must be int8"):
        logits_int8(digits.network, digits.images.astype(np.float64))
    with pytest.raises(TatamiError, match=r"images have shape \(.*, 8, 8\), must be \(batch, 1, 8, 8\)"):
        logits_int8(digits.network, digits.images[:, 0])


def test_inexact_convolution_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    digits = load()
    exact = functional.conv2d

    def rounding(source: torch.Tensor, weight: torch.Tensor, **options: Any) -> torch.Tensor:
        return exact(source, weight, **options) * (1 - 2**-10)

    monkeypatch.setattr(functional, "conv2d", rounding)
    with pytest.raises(
        TatamiError, match="network 'digits', layer 'c1': torch's convolution is not exact on this machine"
    ):
        logits_int8(digits.network, digits.images)


def test_pool_and_shift_zero_in_integers() -> None:
    requant = Requant(np.array([3, -5]), np.array([1, 65535]), np.array([0, 47]))
    network = Network("pool", (2, 3, 3), (GlobalPool("pool", INPUT, requant),))
    images: npt.NDArray[np.int8] = np.random.default_rng(0).integers(-128, 128, (9, 2, 3, 3)).astype(np.int8)
    np.testing.assert_array_equal(tensors_int8(network, images)["pool"], evaluate(network, images)["pool"])
