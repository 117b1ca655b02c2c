"""Training under a scheme: the schedule, what is masked, that a run that is taken up ends as one that was not
broken off, and compress.py.
"""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from pymodel.compiler.compile import compile_fitted
from pymodel.machine.config import CONFIGS
from pymodel.machine.errors import RatioError, TatamiError
from pymodel.machine.image import Image
from pymodel.network.float import evaluate_float
from pymodel.network.from_torch import from_torch, import_torch
from pymodel.network.integer import MAX_RESIDUAL, Conv, Linear, Network
from pymodel.network.network_file import load
from pymodel.network.quantise import calibrate, quantise
from pymodel.network.reference import evaluate
from pymodel.network.scale import Scale
from pymodel.packing.pack import digit_count, refill
from pymodel.report.record import read_report
from pymodel.schemes import array_for, get_scheme
from pymodel.schemes import compression as matrix_compression
from pymodel.training import compress, loop, tasks, train_digits
from pymodel.training.compress import Recipe
from pymodel.training.integers import CALIBRATED, input_bytes, quantised
from pymodel.training.loop import StepDone, Trained, train, trainer_of
from pymodel.training.schedule import PRECISIONS, SALIENCIES, Budget
from pymodel.training.start import Start, load_start, measure_start, measured_of
from pymodel.training.tasks import Task, get_task
from pymodel.training.trainer import Trainer, held_back
from pymodel.zoo import resnet
from scripts import compress as command
from scripts import show
from tests.support import called_here

ROOT = Path(__file__).resolve().parents[2]
CONFIG = CONFIGS["8x4"]
BUDGET = Budget(epochs=0.3, batch=64, learning_rate=0.02, replans=3)  # six steps


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def start_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits network, hardly trained."""
    settings = replace(train_digits.DigitsTraining(), dense_epochs=1)
    images, labels, _, _ = train_digits.split_digits()
    net = train_digits.train_dense(images, labels, settings, torch.Generator().manual_seed(1))
    path = tmp_path_factory.mktemp("start") / "digits.pt"
    torch.save(net.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def task(start_file: Path) -> Task:
    return get_task("digits", start_file, None)


def start(**change: Any) -> Start:
    """Of no network: for what takes one, whatever it holds."""
    figures = {"accuracy_float": 0.5, "accuracy_int8": 0.5, "cycles": 1, "energy_nj": 1.0}
    return Start.model_validate({"of": {}, "depths": {}, "lanes": 1, "dense_weights": 1, **figures, **change})


def test_the_ratio_rises_to_the_one_asked_for() -> None:
    ratios = Budget(replans=4, pruning=0.5).ratios(8.0, 400)
    assert list(ratios) == [0, 50, 100, 150]
    assert list(ratios.values()) == sorted(ratios.values())
    assert ratios[150] == 8.0
    # a quarter of the way along the cubic schedule: 1 - (3/4)**3 of the sparsity of 7/8
    assert ratios[0] == pytest.approx(1 / (1 - 7 / 8 * (1 - 0.75**3)))
    assert Budget(replans=8).ratios(8.0, 0) == {0: 8.0}


def test_the_learning_rate_rises_and_falls_to_nothing() -> None:
    rates = [BUDGET.rate(step, 100) for step in range(100)]
    assert rates[0] == pytest.approx(0.2)
    assert max(rates) == 1.0
    assert rates.index(1.0) in (4, 5)
    assert rates[-1] < 0.01
    assert rates[5:] == sorted(rates[5:], reverse=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": -1}, "budget: epochs is -1, must be in 0..10000"),
        ({"epochs": float("nan")}, "budget: epochs is nan"),
        ({"batch": 0}, "budget: batch is 0, must be in 1.."),
        ({"saliency": "luck"}, "budget: saliency is 'luck', must be one of magnitude, taylor"),
        ({"precision": "int8"}, "budget: precision is 'int8', must be one of float32, bfloat16"),
    ],
)
def test_a_bad_budget_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(TatamiError, match=message):
        replace(BUDGET, **change)


@pytest.mark.parametrize("saliency", SALIENCIES)
def test_what_is_pruned_is_zero_and_the_rest_has_learnt(task: Task, saliency: str) -> None:
    seen: list[StepDone] = []
    before = {name: weight.clone() for name, weight in task.module.state_dict().items()}
    trained = train(
        task,
        get_scheme("tight_joint"),
        4.0,
        CONFIG,
        replace(BUDGET, saliency=saliency),
        1,
        report=seen.append,
    )
    assert [now.step for now in seen] == list(range(1, trained.steps + 1))
    assert seen[-1].ratio == 4.0
    assert set(trained.plans) == {"c2", "c3", "c4", "fc"}  # the first layer is left out
    assert matrix_compression(trained.plans) >= 4.0
    weights = dict(trained.module.named_parameters())
    assert trained.weights == sum(plan.mask.size for plan in trained.plans.values())
    for name, plan in trained.plans.items():
        weight = weights[f"{name}.weight"].detach().numpy().reshape(plan.mask.shape)
        assert not weight[~plan.mask].any()
        assert np.count_nonzero(weight) > 0.95 * plan.mask.sum()
        assert not np.array_equal(
            weight[plan.mask], before[f"{name}.weight"].numpy().reshape(plan.mask.shape)[plan.mask]
        )
    # the task's own network is as it was
    assert all(torch.equal(weight, before[name]) for name, weight in task.module.state_dict().items())


def test_a_pruned_weight_may_come_back(task: Task) -> None:
    """Between the plans, the dense copy of a pruned weight goes on learning."""
    trainer = Trainer(task, get_scheme("tight_joint"), 4.0, CONFIG, BUDGET, 1)
    trainer.plan(4.0)
    name = "c3"
    pruned = trainer.masks[name] == 0
    before = trainer.dense[name].detach().clone()
    trainer.learn()
    assert not trainer.seen[name][pruned].any()
    assert (trainer.dense[name].detach() != before)[pruned].float().mean() > 0.5


def test_a_coarser_precision_is_of_the_products_alone(task: Task) -> None:
    exact, coarse = (
        Trainer(task, get_scheme("tight_joint"), 4.0, CONFIG, replace(BUDGET, precision=name), 1)
        for name in PRECISIONS
    )
    inputs = task.prepare(task.train_images[:64], None)
    a, b = (trainer.logits(inputs).detach() for trainer in (exact, coarse))
    assert a.dtype == b.dtype == torch.float32
    assert 0 < (a - b).abs().max() < 0.1 * a.abs().max()
    coarse.learn()
    assert all(
        parameter.dtype == torch.float32
        for parameter in (*coarse.dense.values(), *coarse.module.parameters())
    )


class BrokenOffError(Exception):
    pass


def test_pruned_weights_learn_no_faster_than_those_that_stay() -> None:
    gradient = torch.tensor(
        [[3.0, 4.0, 300.0, -400.0], [3.0, 4.0, 0.3, -0.4], [5.0, 6.0, 7.0, 8.0], [5.0, 6.0, 7.0, 8.0]]
    )
    mask = torch.tensor(
        [[1.0, 1.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]]
    )
    expected = torch.tensor(
        [[3.0, 4.0, 3.0, -4.0], [3.0, 4.0, 0.3, -0.4], [0.0, 0.0, 0.0, 0.0], [5.0, 6.0, 7.0, 8.0]]
    )
    for shape in ((4, 4), (4, 1, 2, 2)):
        torch.testing.assert_close(
            held_back(gradient.reshape(shape), mask.reshape(shape)), expected.reshape(shape)
        )


def test_filters_without_weights_stay_as_they_were(task: Task) -> None:
    """A batch norm behind it would give it gradients out of all proportion."""
    trainer = Trainer(task, get_scheme("tight_joint"), 4.0, CONFIG, replace(BUDGET, weight_decay=0.0), 1)
    trainer.plan(4.0)
    trainer.masks["c3"][::2] = 0
    trainer.apply()
    before = trainer.dense["c3"].detach().clone()
    trainer.learn()
    assert torch.equal(trainer.dense["c3"][::2], before[::2])
    assert not torch.equal(trainer.dense["c3"][1::2], before[1::2])


def test_a_compiled_training_learns_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a network of two convolutions: each takes seconds to compile."""
    torch.manual_seed(1)
    first, second = nn.Conv2d(2, 16, 3), nn.Conv2d(16, 16, 3)
    net = nn.Sequential(first, nn.BatchNorm2d(16), nn.ReLU(), second, nn.Flatten(), nn.Linear(16 * 4, 3))
    images, labels = torch.randn(64, 2, 6, 6), torch.arange(64) % 3
    task = Task(
        "two", net, (2, 6, 6), *(images, labels) * 2, lambda batch, _: batch, ("0",), "random", "noise"
    )
    monkeypatch.setattr(loop, "python_headers", lambda: Path("/nowhere/Python.h"))
    budget, scheme = replace(BUDGET, epochs=2, batch=32), get_scheme("tight_joint")
    with pytest.raises(TatamiError, match=r"compiled training needs Python's headers, /nowhere/Python\.h"):
        train(task, scheme, 2.0, CONFIG, budget, 1, compiled=True)
    monkeypatch.undo()
    if not loop.python_headers().is_file():
        pytest.skip(f"{loop.python_headers()} is missing")
    one, other = (
        train(task, scheme, 2.0, CONFIG, budget, 1, compiled=compiled).module.state_dict()
        for compiled in (False, True)
    )
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=1e-3, atol=1e-3)


@pytest.fixture(scope="module")
def whole(task: Task) -> Trained:
    """A training that nothing breaks off."""
    return train(task, get_scheme("tight_joint"), 4.0, CONFIG, replace(BUDGET, saliency="taylor"), 1)


# between two plans, and after the last one, of the second step
@pytest.mark.parametrize("broken_off", [2, 3, 6])
def test_a_run_that_is_taken_up_ends_as_one_that_was_not(
    broken_off: int, whole: Trained, task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "SAVED_EVERY", 0.0)
    scheme, path = get_scheme("tight_joint"), tmp_path / "checkpoint.pt"
    budget = replace(BUDGET, saliency="taylor")

    def stop(now: StepDone) -> None:
        if now.step == broken_off:
            raise BrokenOffError

    with pytest.raises(BrokenOffError):
        train(task, scheme, 4.0, CONFIG, budget, 1, path, stop)
    steps: list[int] = []
    again = train(task, scheme, 4.0, CONFIG, budget, 1, path, lambda now: steps.append(now.step))
    assert steps[0] == broken_off  # the step itself was not saved any more
    for name, weight in whole.module.state_dict().items():
        assert torch.equal(weight, again.module.state_dict()[name]), name
    assert all(np.array_equal(plan.mask, again.plans[name].mask) for name, plan in whole.plans.items())
    # and one that is done is not done again
    done = train(task, scheme, 4.0, CONFIG, budget, 1, path, lambda _: pytest.fail("a step was taken"))
    assert all(
        torch.equal(weight, done.module.state_dict()[name])
        for name, weight in whole.module.state_dict().items()
    )
    with pytest.raises(
        TatamiError, match=r"checkpoint.pt: ratio is 4.0 there and 5.0 here; FRESH=1 starts anew"
    ):
        train(task, scheme, 5.0, CONFIG, budget, 1, path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(TatamiError, match=r"checkpoint.pt: not a checkpoint, or damaged"):
        train(task, scheme, 4.0, CONFIG, budget, 1, path)


def test_a_network_that_diverges_is_said_so(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Trainer, "loss", lambda *_: torch.tensor(float("nan")))
    with pytest.raises(
        TatamiError, match=r"network 'digits', step 0: loss is nan; learning_rate 0.02 is too large for it"
    ):
        train(task, get_scheme("tight_joint"), 2.0, CONFIG, BUDGET, 1)


def test_no_training_still_prunes(task: Task) -> None:
    trained = train(task, get_scheme("column_combining"), 2.0, CONFIG, replace(BUDGET, epochs=0), 1)
    assert matrix_compression(trained.plans) >= 2.0
    for name, plan in trained.plans.items():
        assert (
            not trained.module.get_parameter(f"{name}.weight")
            .detach()
            .numpy()
            .reshape(plan.mask.shape)[~plan.mask]
            .any()
        )


def test_schemes_are_told_what_a_lane_costs_and_what_residuals_take() -> None:
    """Of every layer that is planned, as the compiler has it: on a network with strides and residuals."""
    net = resnet.ResNet(1)
    images, labels = torch.zeros(8, 3, 32, 32), torch.zeros(8, dtype=torch.long)
    cifar = Task(
        "small",
        net,
        (3, 32, 32),
        images,
        labels,
        images,
        labels,
        lambda batch, _: batch,
        keep=("conv1",),
        start="random",
        data="none",
    )
    trainer = trainer_of(get_scheme("tight_cycle"))(cifar, get_scheme("tight_cycle"), 4.0, CONFIG, BUDGET, 1)
    layers = {name: part.weights[0] for name, part in trainer.parts().items()}
    words = {
        "layer1.0.conv1": 128,
        "layer1.0.conv2": 128,
        "layer2.0.conv1": 32,
        "layer2.0.conv2": 32,
        "layer3.0.conv1": 8,
        "layer3.0.conv2": 8,
    }
    assert {name: one.words for name, one in layers.items()} == {**words, "linear": 1}
    for name, one in layers.items():
        assert (one.residual is not None) == name.endswith("conv2")
    assert layers["layer2.0.conv2"].residual_lanes(np.arange(8, 24)) > 1


def test_density_is_the_share_of_weights_that_stay(task: Task) -> None:
    trained = train(task, get_scheme("tight_tile"), 3.0, CONFIG, replace(BUDGET, epochs=0), 1)
    masks = [plan.mask for plan in trained.plans.values()]
    found = compress.sizes(trained)
    assert found.density == pytest.approx(
        sum(mask.sum() for mask in masks) / sum(mask.size for mask in masks)
    )
    assert found.density * trained.weights < sum(plan.slots for plan in trained.plans.values())


def test_penni_trains_basis_and_coefficients_in_turns(task: Task) -> None:
    """Four turns, each of an eighth of the steps, the l1 penalty in those of the coefficients alone; then
    both learn, without.
    """
    trainer = trainer_of(get_scheme("penni"))(
        task, get_scheme("penni"), 4.0, CONFIG, replace(BUDGET, replans=4, epochs=0.8), 1
    )
    both = ("c3.basis", "c3.coefficients")
    trainer.plan(2.0)
    assert trainer.steps >= 16
    for step in range(trainer.steps):
        before = {
            name: value.detach().clone()
            for name, value in trainer.module.named_parameters()
            if name.startswith("c3.")
        }
        inputs, labels = task.prepare(task.train_images[:8], None), task.train_labels[:8]
        penalty = (
            trainer.loss(inputs, labels) - functional.cross_entropy(trainer.logits(inputs), labels)
        ).item()
        magnitudes = sum(
            float(value.detach().abs().sum())
            for name, value in trainer.module.named_parameters()
            if name.endswith(".coefficients")
        )
        trainer.learn()
        now = dict(trainer.module.named_parameters())
        expected = (
            both if step * 2 >= trainer.steps else both[:1] if step * 8 // trainer.steps % 2 else both[1:]
        )
        assert tuple(name for name, value in before.items() if not torch.equal(value, now[name])) == expected
        assert penalty == pytest.approx(
            1e-4 * magnitudes if expected == ("c3.coefficients",) else 0, rel=1e-2, abs=1e-6
        )


def test_penni_ends_as_a_plain_network_of_two_stages(task: Task) -> None:
    trained = train(task, get_scheme("penni"), 3.0, CONFIG, BUDGET, 1)
    assert {"c3.basis", "c3.coefficients", "fc"} <= set(trained.plans)
    assert trained.weights == 16 * 32 * 9 + 2 * 32 * 32 * 9 + 320  # of the network before: c2, c3, c4 and fc
    assert sum(plan.slots for plan in trained.plans.values()) * 3.0 <= trained.weights
    weight = trained.module.get_parameter("c3.coefficients.weight").detach().numpy().reshape(32, -1)
    assert not weight[~trained.plans["c3.coefficients"].mask].any()
    layers = dict(trained.module.named_modules())
    pixels: dict[str, int] = {}
    hooks = [
        part.register_forward_hook(lambda _, __, out, name=name: pixels.update({name: out[0, 0].numel()}))
        for name, part in layers.items()
    ]
    with torch.no_grad():
        trained.module(task.prepare(task.test_images[:1], None))
    for hook in hooks:
        hook.remove()
    first, last = (int((trained.module.get_parameter(f"{name}.weight") != 0).sum()) for name in ("c1", "fc"))
    parameters, operations = first + last, first * pixels["c1"] + last
    all_operations = first * pixels["c1"] + 320
    for name, weights in (("c2", 16 * 32 * 9), ("c3", 32 * 32 * 9), ("c4", 32 * 32 * 9)):
        used = (
            trained.module.get_parameter(f"{name}.coefficients.weight").detach().numpy().reshape(32, -1, 5)
            != 0
        )
        live = np.count_nonzero(used.any(axis=(0, 2))) * np.count_nonzero(used.any(axis=(0, 1)))
        parameters += 5 * 9 + int(np.count_nonzero(used))
        operations += int(live * 9 + np.count_nonzero(used)) * pixels[f"{name}.coefficients"]
        all_operations += weights * pixels[f"{name}.coefficients"]
    assert trained.figures["parameters_pruned"] == pytest.approx(
        1 - parameters / (first + trained.weights), abs=1e-12
    )
    assert trained.figures["flops_pruned"] == pytest.approx(1 - operations / all_operations, abs=1e-12)
    assert 0 < trained.figures["flops_pruned"] < trained.figures["parameters_pruned"] < 1
    network, _ = quantised(task, trained.module)
    assert "c3.basis" in network.shapes


def test_a_plane_that_was_pruned_may_come_back(task: Task) -> None:
    """At a ratio that leaves many planes unread: the next plan sees the whole basis, and the integers fit the
    slots of the last.
    """
    trainer = trainer_of(get_scheme("penni"))(task, get_scheme("penni"), 12.0, CONFIG, BUDGET, 1)
    trainer.plan(12.0)
    unread = {
        name: int((~plan.mask.any(axis=1)).sum())
        for name, plan in trainer.plans.items()
        if name.endswith(".basis")
    }
    assert all(count > 0 for count in unread.values())
    trainer.plan(2.0)
    assert sum(
        (~plan.mask.any(axis=1)).sum() for name, plan in trainer.plans.items() if name in unread
    ) < sum(unread.values())
    trained = train(task, get_scheme("penni"), 12.0, CONFIG, BUDGET, 1)
    network, _ = quantised(task, trained.module)
    compile_fitted(network, CONFIG, plans=trained.plans)


def test_digits_are_what_the_network_learns_with(task: Task) -> None:
    """Every weight is a whole number of steps that its digit slots hold, pruned digits learn on, and the
    quantiser takes the same steps.
    """
    scheme = get_scheme("tight_subword")
    config = array_for(scheme, CONFIG)
    trainer = trainer_of(scheme)(task, scheme, 1.2, config, BUDGET, 1)
    trainer.plan(1.2)
    before = {name: weight.detach().clone() for name, weight in trainer.dense.items()}
    trainer.learn()
    assert all((trainer.dense[name].detach() != before[name]).float().mean() > 0.5 for name in before)
    trained = train(task, scheme, 1.2, config, BUDGET, 1)
    assert matrix_compression(trained.plans) >= 1.2
    network, _ = quantised(task, trained.module, trained.weight_steps)
    weights = {
        layer.name: layer.weight.reshape(len(layer.weight), -1).astype(int)
        for layer in network.layers
        if isinstance(layer, Conv | Linear)
    }
    seen = 0
    for name, plan in trained.plans.items():
        assert plan.packed is not None
        exact = (
            trained.module.get_parameter(f"{name}.weight").detach().double().numpy().reshape(plan.mask.shape)
        )
        factor = np.abs(import_torch(trained.module, task.input_shape, "digits").factors[name])
        steps = exact / (trained.weight_steps[name] / factor)[:, None]
        assert np.abs(steps - np.rint(steps)).max() < 1e-3
        refill(plan.packed, weights[name])  # raises if a digit has no slot
        np.testing.assert_array_equal(np.abs(weights[name]), np.abs(np.rint(steps)))
        seen += int((digit_count(weights[name]) == 2).sum())
    assert seen > 0  # both digits
    assert max(np.abs(weight).max() for weight in weights.values()) <= 119


@pytest.mark.parametrize("share", [1e-7, 3e-3])
def test_a_filter_that_adds_next_to_nothing_to_its_residual(share: float, task: Task, tmp_path: Path) -> None:
    """Its step would make the residual's integer weight larger than any: it gets a coarser one, and its
    digits still have their slots.
    """
    module = copy.deepcopy(task.module)
    with torch.no_grad():
        module.n4.weight[:5] *= share
    scheme = get_scheme("tight_subword")
    config = array_for(scheme, CONFIG)
    small = replace(task, module=module)
    recipe = Recipe(scheme, 2.0, CONFIG, replace(BUDGET, epochs=0))
    found = compress.compress(small, recipe, tmp_path, start())
    assert found.mismatches == 0
    network = load(tmp_path / "network.npz").network
    joined = next(layer for layer in network.layers if isinstance(layer, Conv) and layer.residual is not None)
    assert joined.residual is not None
    assert (np.abs(joined.residual.weight)[:5] == MAX_RESIDUAL).all()
    # what was trained with its own step is as it was
    trained = train(small, scheme, 2.0, config, replace(BUDGET, epochs=0), 1)
    before, _ = quantised(small, trained.module, trained.weight_steps)
    for layer, after in zip(before.layers, network.layers, strict=True):
        if isinstance(layer, Conv | Linear):
            assert isinstance(after, Conv | Linear)
            kept = slice(5 if layer.name == joined.name else 0, None)
            np.testing.assert_array_equal(after.weight[kept], layer.weight[kept])


def test_the_integers_of_a_training_are_near_its_float_network(task: Task) -> None:
    """The pixels behind a ReLU use all values of a byte, and the biases make up for the rounding of weights:
    the scores of images that neither has seen are nearer than with symmetric scales alone.
    """
    trained = train(task, get_scheme("tight"), 12.0, CONFIG, BUDGET, 1)
    made, scales = quantised(task, trained.module, trained.weight_steps, trained.plans)
    assert all(scales[name].zero == -128 for name in ("c1", "c2", "c3", "c4", "pool"))
    real = from_torch(trained.module, task.input_shape, task.name)
    images = task.prepare(task.train_images[:CALIBRATED], None).double().numpy()
    even = {name: Scale(step) for name, step in calibrate(real, images).items()}
    plain = quantise(real, calibrate(real, images))

    def errors(network: Network, scales: dict[str, Scale], images: torch.Tensor) -> np.ndarray:
        wanted = evaluate_float(real, task.prepare(images, None).double().numpy())["fc"]
        got = evaluate(network, input_bytes(task, images, scales))["fc"]
        return (scales["fc"].real(got) - wanted) / scales["fc"].step

    seen = task.train_images[:CALIBRATED]
    assert np.abs(errors(made, scales, seen).mean(axis=0)).max() < 0.2
    assert (
        np.square(errors(made, scales, task.test_images)).mean()
        < 0.5
        * np.square(errors(plain, even, task.test_images)).mean()
        * (even["fc"].step / scales["fc"].step) ** 2
    )


def test_distillation_draws_towards_the_start(task: Task) -> None:
    """The loss of the start network itself is the cross entropy's part alone; and away from it, a step by the
    divergence alone brings the logits nearer, whatever the labels say.
    """
    scheme = get_scheme("tight_joint")
    inputs, labels = task.prepare(task.train_images[:64], None), torch.zeros(64, dtype=torch.int64)

    def trainer(part: float) -> Trainer:
        made = Trainer(task, scheme, 4.0, CONFIG, replace(BUDGET, distillation=part), 1)
        made.module.eval()
        return made

    plain, half, whole = (trainer(part).loss(inputs, labels).item() for part in (0.0, 0.5, 1.0))
    assert plain > 1
    assert half == pytest.approx(plain / 2)
    assert whole == pytest.approx(0, abs=1e-6)
    pruned = trainer(1.0)
    pruned.plan(2.0)
    before = pruned.loss(inputs, labels)
    assert before > 0.01
    before.backward()
    with torch.no_grad():
        for weight in pruned.module.parameters():
            if weight.grad is not None:
                weight -= 1e-3 * weight.grad
    assert pruned.loss(inputs, labels) < before
    with pytest.raises(TatamiError, match=r"budget: distillation is 1.5, must be in 0..1"):
        Budget(distillation=1.5)


def test_a_training_of_digits_is_taken_up(
    task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "SAVED_EVERY", 0.0)
    scheme, path = get_scheme("tight_subword"), tmp_path / "checkpoint.pt"
    config = array_for(scheme, CONFIG)
    whole = train(task, scheme, 3.0, config, BUDGET, 1)

    def stop(now: StepDone) -> None:
        if now.step == 3:
            raise BrokenOffError

    with pytest.raises(BrokenOffError):
        train(task, scheme, 3.0, config, BUDGET, 1, path, stop)
    again = train(task, scheme, 3.0, config, BUDGET, 1, path)
    for name, weight in whole.module.state_dict().items():
        assert torch.equal(weight, again.module.state_dict()[name]), name


def test_the_start_of_digits_is_trained_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And again if what was kept of it is damaged or cannot be kept."""
    trained = []

    def train_dense(*_: Any) -> train_digits.DigitsNet:
        trained.append(train_digits.DigitsNet())
        return trained[-1].eval()

    monkeypatch.setattr(tasks.train_digits, "train_dense", train_dense)
    monkeypatch.setattr(tasks, "BUILD", tmp_path / "build")
    for times, damaged in ((1, False), (1, True), (2, False), (2, False)):
        module = get_task("digits", None, None).module
        assert len(trained) == times
        assert not module.training
        for name, weight in trained[-1].state_dict().items():
            assert torch.equal(module.state_dict()[name], weight)
        (kept,) = (tmp_path / "build" / "cache").iterdir()
        if damaged:
            kept.write_bytes(kept.read_bytes()[:-100])
    (tmp_path / "file").touch()
    monkeypatch.setattr(tasks, "BUILD", tmp_path / "file")
    get_task("digits", None, None)
    assert len(trained) == 3


def test_a_file_of_the_same_name_is_not_the_same_start(task: Task, start_file: Path, tmp_path: Path) -> None:
    path = tmp_path / start_file.name
    torch.save(
        {
            name: value * 1.5 if value.is_floating_point() else value
            for name, value in task.module.state_dict().items()
        },
        path,
    )
    other = get_task("digits", path, None)
    train(task, get_scheme("tight_joint"), 4.0, CONFIG, BUDGET, 1, tmp_path / "checkpoint.pt")
    with pytest.raises(
        TatamiError,
        match=r"checkpoint.pt: digest of the start weights is [0-9a-f]{16} there and [0-9a-f]{16} here",
    ):
        train(other, get_scheme("tight_joint"), 4.0, CONFIG, BUDGET, 1, tmp_path / "checkpoint.pt")


def test_energies_are_taken_on_a_machine_that_can_run_both() -> None:
    machine = start(depths={"lane_depth": 65536, "group_depth": 4}).machine(CONFIG)
    assert (machine.lane_depth, machine.group_depth) == (65536, CONFIG.group_depth)


def test_rows_too_short_for_a_decoder_are_refused_before_the_training(task: Task, tmp_path: Path) -> None:
    measured = measure_start(task, CONFIGS["4x2"])
    recipe = Recipe(get_scheme("tight_subword"), 2, CONFIGS["4x2"], Budget(1), xor=True)
    with pytest.raises(TatamiError, match="config '4x2w4': rows of 24 bits leave no room for patches"):
        compress.compress(task, recipe, tmp_path, measured)
    assert not (tmp_path / "checkpoint.pt").exists()


# The command


def run_command(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    call = [sys.executable, "-m", "scripts.compress", *arguments]
    env = {**os.environ, **variables}
    return subprocess.run(call, cwd=ROOT, env=env, capture_output=True, text=True, check=False)


def test_compress_writes_image_checkpoint_and_report(
    task: Task,
    start_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    variables = {"RATIO": "4", "WEIGHTS": str(start_file), "CONFIG": "8x4", "EPOCHS": "0.2", "FORMAT": "xor"}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    options = [f"--out={tmp_path}", f"--start={tmp_path / 'start.json'}", "--threads=1"]
    assert command.main(options) == 0
    report = read_report(tmp_path / "report.json")
    said = json.loads(capsys.readouterr().out.splitlines()[-1].removeprefix("COMPRESS "))
    assert said == report.without_layers().to_json()
    assert report.matrix_compression >= 4
    assert report.mismatches == 0
    assert report.cycles < report.dense_cycles
    assert report.energy_nj < report.dense_energy_nj
    # full slots have no don't-cares: there is nothing to gain, but little to lose
    assert report.xor_bits_per_weight is not None
    assert 0 < report.xor_bits_per_weight < 1.1 * report.bits_per_weight
    assert report.layers is not None
    assert sum(row.slots or 0 for row in report.layers) * report.matrix_compression == pytest.approx(
        sum(row.weights for row in report.layers if row.slots)
    )
    assert report.tools is not None
    assert report.tools["torch"] == torch.__version__
    measured = load_start(tmp_path / "start.json", task, CONFIG)
    assert report.start.accuracy_int8 == measured.accuracy_int8
    image = Image.load(tmp_path / "image.bin", fitted(tmp_path / "image.bin"))
    assert image.scheme == "tight_joint"
    assert (tmp_path / "matrix.png").stat().st_size > 1000
    with pytest.raises(TatamiError, match=r"start.json: config is '8x4' there and '16x16' here"):
        load_start(tmp_path / "start.json", task, CONFIGS["16x16"])
    # another ratio goes on from nothing, and all is measured again, if that is asked for
    monkeypatch.setenv("RATIO", "3")
    with pytest.raises(
        TatamiError, match=r"checkpoint.pt: ratio is 4.0 there and 3.0 here; FRESH=1 starts anew"
    ):
        command.main(options)
    assert capsys.readouterr().out == ""
    monkeypatch.setenv("FRESH", "1")
    assert command.main(options) == 0
    assert "measuring the network as it is" in capsys.readouterr().out
    assert read_report(tmp_path / "report.json").ratio == 3


def test_a_log_says_how_far_a_training_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A line at once, and then not before a minute is over."""
    now = 100.0
    monkeypatch.setattr(show.time, "monotonic", lambda: now)
    with show.training_progress("digits") as done:
        for step, at in ((1, 100.0), (2, 159.0), (3, 161.0)):
            now = at
            done(StepDone(step, 9, 0.5, 2.0))
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("step")]
    assert said == ["step 1 of 9, loss 0.500, ratio 2.00", "step 3 of 9, loss 0.500, ratio 2.00"]


def test_compress_offers_digits(start_file: Path, tmp_path: Path) -> None:
    options = [
        "--scheme=tight_subword",
        "--ratio=3",
        f"--weights={start_file}",
        "--config=8x4",
        "--epochs=0.2",
        "--threads=1",
        "--format=xor",
    ]
    assert command.main([*options, f"--out={tmp_path}"]) == 0
    report = read_report(tmp_path / "report.json")
    assert (report.config, report.weight_bits, report.mismatches) == ("8x4", 4, 0)
    assert report.matrix_compression >= 3
    assert 0 < report.occupancy <= 1
    assert report.xor_bits_per_weight
    assert fitted(tmp_path / "image.bin").weight_bits == 4


def fitted(path: Path) -> Any:
    """The configuration that an image was made for."""
    raw = path.read_bytes()
    header = json.loads(raw[16 : 16 + int.from_bytes(raw[8:12], "little")])
    return replace(CONFIG, **header["config"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--scheme=magic"], "scheme 'magic' is unknown; valid: dense"),
        (["--network=lenet"], "network 'lenet' is unknown; valid: digits"),
        (["--network=resnet20"], "network 'resnet20' needs WEIGHTS, a state_dict, and DATA, the folder"),
        (["--weights=no/such.pt"], "WEIGHTS 'no/such.pt': no such file"),
        (["--data=docs"], "DATA '.*/docs': network 'digits' brings its own images"),
        (["--epochs=-3"], "budget: epochs is -3.0, must be in 0..10000"),
        (["--epochs=few"], "EPOCHS 'few' is not a number"),
        (["--seed=-1"], "SEED -1 is outside 0..2147483647"),
        (["--config=99x9"], "CONFIG '99x9' is unknown"),
        (["--format=dense"], "FORMAT 'dense' is unknown; valid: plain, xor"),
        (["--fresh=yes"], "FRESH 'yes' is not an integer in 0..1"),
        (["--threads=0"], "--threads 0 is outside 1..1024"),
        (["--precision=int8"], "--precision 'int8' is unknown; valid: float32, bfloat16"),
        (["digits"], "unexpected extra argument"),
    ],
)
def test_bad_input_is_named(arguments: list[str], message: str) -> None:
    with pytest.raises(TatamiError, match=message):
        command.main(arguments)


MINE = """
import torch
from torch import nn
from pymodel.training.tasks import Task

def mine(weights, data):
    torch.manual_seed(1)
    first, second = nn.Conv2d(2, 12, 3, padding=1), nn.Conv2d(12, 12, 3)
    net = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), nn.Flatten(), nn.Linear(12 * 16, 3))
    images, labels = torch.randn(64, 2, 6, 6), torch.arange(64) % 3
    data = images, labels, images, labels
    return Task("mine", net, (2, 6, 6), *data, lambda batch, _: batch, ("0",), "random", "noise")

def fails(weights, data):
    raise ValueError("not today")

def other(weights, data):
    return 7
"""


def test_any_module_can_be_compressed(tmp_path: Path) -> None:
    file = tmp_path / "net.py"
    file.write_text(MINE)
    assert (
        command.main(
            [
                f"--network={file}:mine",
                "--scheme=tight_joint",
                "--ratio=3",
                "--config=8x4",
                "--epochs=2",
                "--threads=1",
                f"--out={tmp_path}",
            ]
        )
        == 0
    )
    report = read_report(tmp_path / "report.json")
    assert (report.network, report.mismatches, report.xor_bits_per_weight) == ("mine", 0, None)
    assert report.matrix_compression >= 3
    for function, message in (
        ("fails", r"net.py:fails' fails at .*net.py, line 15: ValueError: not today"),
        ("other", r"net.py:other' gives a int, must give a pymodel.training.tasks.Task"),
        ("none", r"net.py:none': the file has no function 'none'"),
    ):
        with pytest.raises(TatamiError, match=message):
            get_task(f"{file}:{function}", None, None)
    file.write_text("this is no Python")
    with pytest.raises(TatamiError, match=r"net.py:mine': the file fails at .*net.py, line 1: SyntaxError"):
        get_task(f"{file}:mine", None, None)
    with pytest.raises(TatamiError, match=r"network 'nowhere.py:mine': no such file"):
        get_task("nowhere.py:mine", None, None)


def test_bad_input_is_one_line_and_status_2() -> None:
    done = run_command(SCHEME="magic")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("compress: scheme 'magic' is unknown")
    assert done.stderr.count("\n") == 1


def test_without_torch_one_line_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)  # as if it was not installed
    with pytest.raises(TatamiError, match=r"this needs the package 'torch'; `make .venv/.train` installs it"):
        command.main([])


def test_torch_is_imported_when_it_is_needed() -> None:
    """And scikit-learn: `make inspect` and `make sim` of a .tflite file install neither."""
    code = "import sys; from scripts import compress, inspect_file, results, sim\n"
    code += "print(not {'torch', 'sklearn'}.isdisjoint(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "False\n"), done.stderr


def test_a_missing_data_folder_and_an_unreachable_ratio_are_named(
    task: Task, start_file: Path, tmp_path: Path
) -> None:
    weights = tmp_path / "resnet20.pt"
    torch.save(resnet.resnet20().state_dict(), weights)
    with pytest.raises(TatamiError, match=r"cifar-10-batches-py: no such folder"):
        command.main(["--network=resnet20", f"--weights={weights}", f"--data={tmp_path}"])
    start(of=measured_of(task, CONFIG)).save(tmp_path / "start.json")
    options = [
        f"--weights={start_file}",
        "--config=8x4",
        f"--start={tmp_path / 'start.json'}",
        f"--out={tmp_path}",
    ]
    status, _, err = called_here("compress", ["--ratio=5000", "--epochs=0", *options])
    assert status == RatioError.status == 3
    assert err.splitlines()[-1].startswith("compress: ratio is 5000, must be at most")
