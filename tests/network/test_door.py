"""What comes in from users as a module or a name: converted where it is clear what is meant, else refused in
one line.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm

from pymodel.machine.config import CONFIGS
from pymodel.machine.errors import TatamiError
from pymodel.machine.image import Image
from pymodel.machine.names import LONGEST, check_name
from pymodel.network.float import FloatWeighted, evaluate_float
from pymodel.network.from_torch import from_torch, import_torch
from pymodel.network.integer import INPUT, GlobalPool, Network, Requant
from pymodel.network.plain_module import plain_module

SHAPE = (2, 5, 5)


def net(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    layers = (nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4, 3))
    return nn.Sequential(*layers)


def masked() -> nn.Module:
    found = net()
    prune.l1_unstructured(found[2], "weight", amount=0.5)
    prune.random_unstructured(found[5], "bias", amount=1)
    return found


def tied() -> nn.Module:
    found = nn.Sequential(*net()[:2], nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1))
    found[3].weight = found[2].weight
    return found


def normed(norm: Callable[[nn.Module], nn.Module]) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        found = net()
        found[2] = norm(found[2])
        return found.train()

    return make


COMPUTED: dict[str, Callable[[], nn.Module]] = {
    "prune": masked,
    "tied": tied,
    "weight norm": normed(weight_norm),
    "spectral norm": normed(spectral_norm),
    "parametrised weight norm": normed(parametrizations.weight_norm),
    "parametrised spectral norm": normed(parametrizations.spectral_norm),
}


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated")
@pytest.mark.parametrize("case", COMPUTED)
def test_computed_weights_become_plain(case: str) -> None:
    module = COMPUTED[case]()
    names = set(module.state_dict())
    images = torch.randn(3, *SHAPE)
    module.eval()
    with torch.no_grad():
        expected = module(images).numpy()
    plain = plain_module(module, "net", train=True)
    imported = import_torch(plain, SHAPE, "net")
    parameters = dict(plain.named_parameters())
    for layer in imported.network.layers:
        assert isinstance(layer, FloatWeighted)
        own = parameters[imported.weights[layer.name]]  # a parameter of its own, that can learn
        assert own.requires_grad
        np.testing.assert_allclose(layer.weight, own.detach().numpy(), rtol=1e-6)
    assert len({id(parameters[path]) for path in imported.weights.values()}) == len(imported.weights)
    network = imported.network
    found = evaluate_float(network, images.double().numpy())[network.layers[-1].name]
    np.testing.assert_allclose(found.reshape(expected.shape), expected, rtol=1e-4, atol=1e-5)
    assert set(module.state_dict()) == names  # the user's own module is as it was
    copy.deepcopy(plain)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_taken(kind: torch.dtype) -> None:
    module = net().to(kind)
    assert len(from_torch(module, SHAPE, "net").layers) == 3
    plain = plain_module(module, "net", train=True)
    assert {p.dtype for p in plain.parameters()} == {torch.float32}
    assert {p.dtype for p in module.parameters()} == {kind}


def test_a_frozen_module_can_learn_and_the_users_stays_frozen() -> None:
    module = net().requires_grad_(False)
    assert all(p.requires_grad for p in plain_module(module, "net", train=True).parameters())
    assert not any(p.requires_grad for p in module.parameters())


def test_a_plain_module_is_not_copied() -> None:
    module = net()
    assert plain_module(module, "net", train=True) is module


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (7, "network 'net': the module is a int, must be a torch.nn.Module"),
        (net().state_dict(), "network 'net': the module is a OrderedDict, must be"),
        (nn.Sequential(nn.LazyConv2d(4, 3)), r"network 'net': '0.weight' has no shape yet \(a lazy module\)"),
        (nn.Sequential(nn.Conv2d(2, 4, 3, device="meta")), r"'0.weight' is torch.float32 on meta"),
    ],
)
def test_what_is_no_module_of_numbers_is_refused(module: Any, message: str) -> None:
    with pytest.raises(TatamiError, match=message) as caught:
        from_torch(module, SHAPE, "net")
    assert "\n" not in str(caught.value)


def test_a_shape_may_be_any_sequence_of_three() -> None:
    for shape in (list(SHAPE), torch.Size(SHAPE), np.array(SHAPE)):
        assert from_torch(net(), shape, "net").input_shape == SHAPE  # type: ignore[arg-type]
    for shape in (5, (2, 5), (2, 5, -5), "abc", None, (2.5, 5, 5)):
        with pytest.raises(TatamiError, match="network 'net': input shape is .*, must be three positive"):
            from_torch(net(), shape, "net")  # type: ignore[arg-type]


def test_all_that_is_not_supported_is_in_one_line() -> None:
    module = nn.Sequential(
        nn.Conv2d(2, 4, 13, padding=6),
        nn.Softmax(dim=1),
        nn.InstanceNorm2d(4),
        nn.Conv2d(4, 4, 3, stride=5, padding=2),
        *(nn.Softmax(dim=1) for _ in range(4)),
        nn.Upsample(scale_factor=2, mode="bilinear"),
        nn.MaxPool2d(12, stride=1, padding=6),
        nn.LPPool2d(2, 1),
        nn.Flatten(),
        nn.Linear(100, 3),
    )
    with pytest.raises(TatamiError) as caught:
        from_torch(module, SHAPE, "net")
    text = str(caught.value)
    assert "\n" not in text
    for part in (
        "module '0' (Conv2d): kernel is 13 x 13, must be in 1..11",
        "module '3' (Conv2d): stride is 5 x 5, must be in 1..4",
        "modules '1', '4', '5' and 2 more (Softmax) are not supported",
        "module '2' (InstanceNorm2d) is not supported",
        "module '8' (Upsample) has mode 'bilinear', must be 'nearest'",
        "module '9' (MaxPool2d): kernel is 12 x 12, must be in 1..11",
        "module '10' (LPPool2d) is not supported; supported: Conv2d",
    ):
        assert part in text
    assert text.count("supported: ") == 1


BAD_NAMES = [
    "../../oops",
    "timm/mine",
    "..",
    ".",
    "a..b",
    "",
    "-rf",
    ".hidden",
    "a b",
    "a\n",
    "ü",
    "a\\b",
    "x" * 999,
]


@pytest.mark.parametrize("name", [*BAD_NAMES, 7, None])
def test_names_are_checked_where_they_come_in(name: Any) -> None:
    with pytest.raises(TatamiError, match="the name is .*, must be 1 to 200 letters, digits") as caught:
        check_name("the name", name)
    assert "\n" not in str(caught.value)
    pool = GlobalPool("pool", INPUT, Requant(*(np.ones(2, np.int32),) * 3))
    with pytest.raises(TatamiError, match="a network's name is"):
        Network(name, SHAPE, (pool,))
    with pytest.raises(TatamiError, match="network 'net': a layer's name is"):
        Network("net", SHAPE, (GlobalPool(name, INPUT, pool.requant),))
    with pytest.raises(TatamiError, match="a network's name is"):
        from_torch(net(), SHAPE, name)
    for part in ("network", "scheme", "output"):
        fields: dict[str, Any] = {"network": "n", "scheme": "s", "output": "o"} | {part: name}
        with pytest.raises(TatamiError, match="image.*name is"):
            Image(
                CONFIGS["8x4"],
                sections=(),
                placements={},
                layers=(),
                run_start=0,
                dump_start=0,
                dumps=(),
                **fields,
            )


def test_names_in_use_are_names() -> None:
    for name in ("digits", "layer1.0.conv1", "resnet20", "my-net_2", "0", "x" * LONGEST):
        assert check_name("the name", name) == name
