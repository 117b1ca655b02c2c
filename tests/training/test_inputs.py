"""What users bring to be compressed: converted where it is clear what is meant, else refused in one line; and
that what is taken up again is of the same weights, images and options.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from pymodel.machine.config import CONFIGS
from pymodel.machine.errors import TatamiError
from pymodel.network import network_file
from pymodel.network.reference import evaluate
from pymodel.schemes import get_scheme
from pymodel.training import identity, loop
from pymodel.training.compress import Recipe, check, compress, lowered
from pymodel.training.loop import train
from pymodel.training.schedule import Budget
from pymodel.training.start import load_start, measure_start
from pymodel.training.tasks import Task, get_task
from pymodel.training.trainer import Trainer
from tests.support import DAMAGED

CONFIG = CONFIGS["8x4"]
SHAPE = (2, 6, 6)
BUDGET = Budget(epochs=2, batch=16, replans=2)
SCHEME = get_scheme("tight_joint")


def net(seed: int = 1) -> nn.Sequential:
    torch.manual_seed(seed)
    first, second = nn.Conv2d(2, 8, 3, padding=1), nn.Conv2d(8, 8, 3)
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), nn.Flatten(), nn.Linear(8 * 16, 3))


def drawn(images: int = 40) -> torch.Tensor:
    return torch.randn(images, *SHAPE, generator=torch.Generator().manual_seed(3))


def labels(images: int = 40) -> torch.Tensor:
    return torch.arange(images) % 3


def task(**change: Any) -> Task:
    fields: dict[str, Any] = {
        "name": "mine",
        "module": net(),
        "input_shape": SHAPE,
        "train_images": drawn(),
        "train_labels": labels(),
        "test_images": drawn(10),
        "test_labels": labels(10),
        "prepare": lambda batch, _: batch,
        "keep": ("0",),
        "start": "random",
        "data": "noise",
    }
    return Task(**(fields | change))


def spoilt(value: float, *at: tuple[int, ...]) -> torch.Tensor:
    images = drawn()
    for place in at:
        images[place] = value
    return images


def not_a_number(batch: torch.Tensor, _: Any) -> torch.Tensor:
    return batch / 0 * 0


def fails(*_: Any) -> torch.Tensor:
    raise ValueError("not\nthis")


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "not a module": ({"module": 3}, "network 'mine': the module is a int, must be a torch.nn.Module"),
    "name with a slash": ({"name": "../../oops"}, "a task's name is '../../oops', must be 1 to 200 letters"),
    "another name with a slash": ({"name": "timm/mine"}, "a task's name is 'timm/mine'"),
    "shape": ({"input_shape": (2, 6)}, "network 'mine': input shape is .*, must be three positive numbers"),
    "other shape": ({"input_shape": (2, 6, 5)}, "fails on images of shape|images have shape"),
    "nan": (
        {"train_images": spoilt(float("nan"), (3, 0, 0, 0), (39, 0, 0, 0))},
        r"task 'mine': train_images: image 3, pixel \[0, 0, 0\] .* is nan, must be a finite",
    ),
    "infinity": (
        {"test_images": spoilt(float("-inf"), (7, 1, 2, 3))[:10]},
        r"task 'mine': test_images: image 7, pixel \[1, 2, 3\] .* is -inf",
    ),
    "too large for float32": (
        {"train_images": drawn().double() * 1e300},
        r"train_images: image 0, pixel \[0, 0, 0\] .* is -?inf",
    ),
    "prepare gives nan": ({"prepare": not_a_number}, r"task 'mine': prepare, of 2 images: image 0, pixel"),
    "prepare fails": ({"prepare": fails}, "task 'mine': prepare fails on 2 images: ValueError: not"),
    "prepare cuts": (
        {"prepare": lambda b, _: b[:, :1]},
        r"prepare gives shape \(2, 1, 6, 6\), must give \(2, 2",
    ),
    "images of text": (
        {"train_images": "cats"},
        "task 'mine': train_images are a str, must be a torch tensor",
    ),
    "images without channels": (
        {"train_images": drawn()[:, 0]},
        r"train_images have shape \(40, 6, 6\), must be",
    ),
    "complex images": ({"train_images": drawn() * 1j}, "train_images are torch.complex64, must be real"),
    "no training images": (
        {"train_images": drawn(0), "train_labels": labels(0)},
        "train_images are none, must be at least 1",
    ),
    "no test images": ({"test_images": drawn(0), "test_labels": labels(0)}, "test_images are none, must be"),
    "too few labels": (
        {"train_labels": labels(39)},
        r"train_labels have shape \(39,\), must be \(40,\): one for",
    ),
    "one-hot labels": (
        {"test_labels": torch.eye(3)[labels(10)]},
        r"test_labels have shape \(10, 3\), must be",
    ),
    "labels of reals": (
        {"train_labels": labels() / 2},
        "train_labels are torch.float32, must be whole numbers",
    ),
    "label too large": (
        {"train_labels": labels() + (torch.arange(40) == 5)},
        r"task 'mine': train_labels: label 5 is 3, must be in 0\.\.2",
    ),
    "label below 0": ({"test_labels": labels(10) - 1}, r"test_labels: label 0 is -1, must be in 0\.\.2"),
    "keep of no layer": (
        {"keep": ("0", "conv1")},
        "task 'mine': keep names 'conv1', which is no layer with weights; there are: 0, 2, 5",
    ),
    "keep of a layer without weights": ({"keep": ("1",)}, "keep names '1', which is no layer"),
    "keep of all": ({"keep": ("0", "2", "5")}, "keep names all 3 layers, must leave one to compress"),
    "keep is a text": ({"keep": "0"}, "keep is '0', must be names of layers"),
    "planes come out": (
        {"module": net()[:3], "keep": ()},
        r"the module gives shape \(2, 8, 4, 4\) for 2 images",
    ),
    "start is no text": ({"start": None}, "task 'mine': start is None, must be a line of text"),
    "start is blank": ({"start": " "}, "task 'mine': start is ' ', must be a line of text"),
    "data in two lines": ({"data": "a\nb"}, r"task 'mine': data is 'a\\nb', must be a line of text"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_tasks_are_refused_in_one_line(case: str) -> None:
    change, message = REFUSED[case]
    with pytest.raises(TatamiError, match=message) as caught:
        task(**change)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        {"module": net().half()},
        {"module": net().double()},
        {"module": net().requires_grad_(False)},
        {"input_shape": list(SHAPE)},
        {"train_images": drawn().numpy(), "test_images": drawn(10).double().numpy()},
        {"train_images": drawn().tolist(), "train_labels": labels().tolist()},
        {"train_labels": labels().int(), "test_labels": labels(10).numpy().astype(np.uint16)},
        {"train_images": (drawn() * 50 + 128).clamp(0, 255).byte()},
        {"train_images": (drawn() * 50 + 128).numpy().astype(np.uint16)},
        {"prepare": lambda batch, _: batch.double().numpy()},
        {"keep": ["0"]},
    ],
    ids=" ".join,
)
def test_what_is_clearly_meant_is_taken(change: dict[str, Any]) -> None:
    taken = task(**change)
    assert taken.train_labels.dtype == torch.int64
    assert taken.prepare(taken.train_images[:3], None).dtype == torch.float32
    trained = train(taken, SCHEME, 2.0, CONFIG, replace(BUDGET, epochs=1), 1)
    assert set(trained.plans) == {"2", "5"}
    assert taken.module is not change.get("module") or "module" not in change


def test_a_ratio_below_one_is_refused() -> None:
    for ratio in (0, -2, 0.5, float("nan"), float("inf")):
        with pytest.raises(TatamiError, match="ratio is .*, must be at least 1"):
            train(task(), SCHEME, ratio, CONFIG, BUDGET, 1)


def normed() -> nn.Module:
    """A batch norm over planes of one pixel: of one image it has one value a channel."""
    layers = (
        nn.Conv2d(2, 8, 5, stride=2),  # 6 x 6 pixels: one is left
        nn.ReLU(),
        nn.Conv2d(8, 8, 1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(8, 3),
    )
    return nn.Sequential(*layers)


def test_a_last_batch_of_one_image_is_one_of_two() -> None:
    odd = {"train_images": drawn(33), "train_labels": labels(33)}
    trained = train(task(module=normed(), **odd), SCHEME, 2.0, CONFIG, BUDGET, 1)
    assert trained.steps == 6
    for few in (odd | {"train_images": drawn(1), "train_labels": labels(1)}, odd):
        with pytest.raises(TatamiError, match="network 'mine': a batch norm needs more than one value"):
            train(task(module=normed(), **few), SCHEME, 2.0, CONFIG, replace(BUDGET, batch=1), 1)


CHANGED: dict[str, tuple[dict[str, Any], str]] = {
    "weights": ({"module": net(2)}, "digest of the start weights"),
    "a pixel": ({"train_images": spoilt(9.0, (39, 1, 5, 5))}, "digest of the images"),
    "a test pixel": ({"test_images": spoilt(9.0, (9, 1, 5, 5))[:10]}, "digest of the images"),
    "a label": ({"train_labels": (labels() + (torch.arange(40) == 39)) % 3}, "digest of the images"),
    "prepare": ({"prepare": lambda batch, _: batch * 2}, "digest of the images"),
    "distortion": (
        {"prepare": lambda batch, g: batch if g is None else batch + torch.rand(1, generator=g)},
        "digest of the images",
    ),
    "keep": ({"keep": ("5",)}, "digest of the layers"),
    "activation": ({"module": nn.Sequential(*net()[:3], nn.Identity(), *net()[4:])}, "digest of the"),
}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("begun") / "checkpoint.pt"
    train(task(), SCHEME, 2.0, CONFIG, BUDGET, 1, path)
    return path


@pytest.mark.parametrize("case", CHANGED)
def test_a_checkpoint_knows_what_it_is_of(case: str, checkpoint: Path, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(checkpoint.read_bytes())
    change, field = CHANGED[case]
    with pytest.raises(TatamiError, match=f"{path}: {field}.* is .* there and .* here; FRESH=1") as caught:
        train(task(**change), SCHEME, 2.0, CONFIG, BUDGET, 1, path)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == checkpoint.read_bytes()
    steps: list[int] = []
    other = task(**change)
    begun = train(other, SCHEME, 2.0, CONFIG, BUDGET, 1, path, lambda now: steps.append(now.step), fresh=True)
    assert steps == list(range(1, begun.steps + 1))
    anew = train(other, SCHEME, 2.0, CONFIG, BUDGET, 1)
    for name, weight in anew.module.state_dict().items():
        assert torch.equal(weight, begun.module.state_dict()[name])


def test_names_alone_are_not_what_a_checkpoint_is_of(checkpoint: Path) -> None:
    same = task(start="the same, by another name", data="noise again")
    train(same, SCHEME, 2.0, CONFIG, BUDGET, 1, checkpoint, lambda _: pytest.fail("a step was taken"))


def test_another_width_is_said_before_torch_does(checkpoint: Path) -> None:
    torch.manual_seed(1)
    wide = nn.Sequential(
        nn.Conv2d(2, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 9, 3), nn.Flatten(), nn.Linear(9 * 16, 3)
    )
    with pytest.raises(TatamiError, match="digest of the start weights is .* there and .* here"):
        train(task(module=wide), SCHEME, 2.0, CONFIG, BUDGET, 1, checkpoint)


def test_code_is_compared_by_what_it_says(tmp_path: Path) -> None:
    def digest(text: str) -> str:
        (tmp_path / "a.py").write_text(text)
        identity.code_digest.cache_clear()
        return identity.code_digest(("a.py",), tmp_path)

    plain = digest("def f(x):\n    return x + 1\n")
    assert (
        digest('"""Of a file."""\ndef f(x):\n    """Of a function."""\n\n    # why\n    return x + 1\n')
        == plain
    )
    assert digest("def f(x):\n    return x + 2\n") != plain
    identity.code_digest.cache_clear()


def test_other_code_is_not_taken_up(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "code_digest", lambda _: "another")
    with pytest.raises(TatamiError, match="digest of the code is .* there and another here"):
        train(task(), SCHEME, 2.0, CONFIG, BUDGET, 1, checkpoint)


def damage(raw: bytes, rng: np.random.Generator) -> bytes:
    """Bits turned, bytes cut, put in or left out."""
    kind, at = rng.integers(5), int(rng.integers(len(raw)))
    if kind == 0:
        return raw[:at]
    if kind == 1:
        return raw[:at] + bytes([raw[at] ^ 1 << int(rng.integers(8))]) + raw[at + 1 :]
    if kind == 2:
        return raw[:at] + rng.bytes(int(rng.integers(1, 40))) + raw[at:]
    if kind == 3:
        return raw[:at] + raw[at + 1 + int(rng.integers(40)) :] + b"\0"
    return raw[:at] + rng.bytes(64) + raw[at + 64 :]


def test_a_damaged_checkpoint_is_one_line(checkpoint: Path, tmp_path: Path) -> None:
    path, raw, rng = tmp_path / "checkpoint.pt", checkpoint.read_bytes(), np.random.default_rng(1)
    trainer = Trainer(task(), SCHEME, 2.0, CONFIG, BUDGET, 1)
    for _ in range(DAMAGED):
        path.write_bytes(damage(raw, rng))
        with pytest.raises(TatamiError, match="checkpoint.pt: .*FRESH=1") as caught:
            trainer.load(path)
        assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == [path]
    assert trainer.step == 0


def test_a_checkpoint_that_lacks_a_part_is_one_line(checkpoint: Path, tmp_path: Path) -> None:
    """Whole by its checksum, but not what was written here."""
    trainer = Trainer(task(), SCHEME, 2.0, CONFIG, BUDGET, 1)
    trainer.load(checkpoint)
    good = torch.load(checkpoint, weights_only=True)
    path = tmp_path / "checkpoint.pt"
    for part in (*good, None):
        state: Any = [1] if part is None else {name: value for name, value in good.items() if name != part}
        write(path, state)
        with pytest.raises(TatamiError, match="checkpoint.pt: .*FRESH=1") as caught:
            trainer.load(path)
        assert "\n" not in str(caught.value)


def write(path: Path, state: Any) -> None:
    import hashlib

    torch.save(state, path)
    raw = path.read_bytes()
    path.write_bytes(raw + hashlib.sha256(raw).digest())


def test_a_measured_start_knows_what_it_is_of(tmp_path: Path) -> None:
    mine, path = task(), tmp_path / "start.json"
    start = measure_start(mine, CONFIG)
    start.save(path)
    assert load_start(path, mine, CONFIG) == start
    for case, (change, field) in CHANGED.items():
        with pytest.raises(TatamiError, match=f"{path}: {field}.* there and .* here; FRESH=1"):
            load_start(path, task(**change), CONFIG)
        assert case
    raw = path.read_bytes()
    content = json.loads(raw)
    for change, message in (
        ({"one_more": 1}, "field 'one_more' is unknown"),
        ({"cycles": 0}, "field 'cycles' is 0: input should be greater than 0"),
        ({"depths": {"depth": 4}}, "field 'depths' is {'depth': 4}: may name feature_depth, "),
    ):
        path.write_text(json.dumps(content | change))
        with pytest.raises(TatamiError, match=f"{path}: {message}.*; FRESH=1 measures again"):
            load_start(path, mine, CONFIG)
    rng = np.random.default_rng(1)
    for _ in range(300):
        spoilt_file = damage(raw, rng)
        path.write_bytes(spoilt_file)
        said = str(path)
        try:  # a digit that changed may still be a start
            load_start(path, mine, CONFIG)
        except TatamiError as error:
            said = str(error)
        assert "\n" not in said
        assert str(path) in said


def test_an_image_that_computes_something_else_is_refused(tmp_path: Path) -> None:
    mine, recipe = task(), Recipe(SCHEME, 2.0, CONFIG, replace(BUDGET, epochs=0))
    made = lowered(mine, recipe, train(mine, SCHEME, 2.0, CONFIG, recipe.budget, 1))
    check(mine, made, tmp_path)
    slots = made.image.section("SLOT").words
    other = replace(made, image=made.image.with_words(SLOT=np.zeros_like(slots)))
    with pytest.raises(TatamiError, match=f"{tmp_path}: [0-9]+ bytes of the array model differ"):
        check(mine, other, tmp_path)


HELPED = """
from dataclasses import dataclass
from pathlib import Path
import helper_beside_it
HERE = Path(__file__).name

@dataclass
class Width:
    value: "int" = 3

def mine(weights, data):
    import helper_beside_it
    return helper_beside_it.give(HERE, Width())

def fails(weights, data):
    return helper_beside_it.fail()

def leaves(weights, data):
    raise SystemExit(3)
"""
HELPER = """
def give(here, width):
    raise LookupError(f"{here} {width}")

def fail():
    raise ValueError(
        "not today"
    )
"""


def test_a_users_file_is_loaded_as_a_script(tmp_path: Path) -> None:
    (tmp_path / "helper_beside_it.py").write_text(HELPER)
    file = tmp_path / "json.py"  # hides no module of that name
    file.write_text(HELPED)
    for function, message in (
        (
            "mine",
            r"json.py:mine' fails at .*/helper_beside_it.py, line 3: LookupError: json.py Width\(value=3\)",
        ),
        ("fails", r"json.py:fails' fails at .*/helper_beside_it.py, line \d: ValueError: not today"),
        ("leaves", r"json.py:leaves' fails at .*/json.py, line 19: SystemExit: 3"),
    ):
        with pytest.raises(TatamiError, match=message) as caught:
            get_task(f"{file}:{function}", None, None)
        assert "\n" not in str(caught.value)
    assert sys.modules["json"].__file__ != str(file)
    for text, message in (
        ("x = 1\nraise ValueError('no\\nway')", r"the file fails at .*/json.py, line 2: ValueError: no$"),
        ("x = 1\n  y = 2", r"the file fails at .*/json.py, line 2: IndentationError: "),
        ("import no_such_module", r"the file fails at .*/json.py, line 1: ModuleNotFoundError"),
        ("import sys; sys.exit(0)", r"the file fails at .*/json.py, line 1: SystemExit"),
    ):
        file.write_text(text)
        with pytest.raises(TatamiError, match=message) as caught:
            get_task(f"{file}:mine", None, None)
        assert "\n" not in str(caught.value)


def test_more_than_256_classes(tmp_path: Path) -> None:
    """Their labels are in the file of the network as they were: what the RTL's accuracy is taken by."""
    module = nn.Sequential(nn.Flatten(), nn.Linear(4, 300))
    with torch.no_grad():
        module[1].weight.zero_()
        module[1].bias.zero_()[299] = 5
    images, all_299 = torch.rand(20, 1, 2, 2), torch.full((20,), 299)
    fields = {"train_images": images, "train_labels": all_299, "test_images": images, "test_labels": all_299}
    many = task(module=module, input_shape=(1, 2, 2), keep=(), **fields)
    start = measure_start(many, CONFIG)
    budget = replace(BUDGET, epochs=0)
    found = compress(many, Recipe(get_scheme("dense"), 1.0, CONFIG, budget), tmp_path, start)
    assert (start.accuracy_int8, found.accuracy.int8) == (1.0, 1.0)
    kept = network_file.load(tmp_path / "network.npz")
    assert kept.labels.tolist() == [299] * 20
    logits = evaluate(kept.network, kept.images)[kept.network.layers[-1].name]
    assert network_file.accuracy(logits, kept.labels) == 1.0


def test_a_network_whose_dense_program_does_not_fit(tmp_path: Path) -> None:
    """It has 69,632 lanes in tiles of 4, more than can be numbered; what is packed has a twentieth."""
    torch.manual_seed(1)
    module = nn.Sequential(nn.Flatten(), nn.Linear(1024, 272), nn.ReLU(), nn.Linear(272, 3))
    images = torch.randn(6, 4, 16, 16)
    fields = {
        "train_images": images,
        "train_labels": labels(6),
        "test_images": images,
        "test_labels": labels(6),
    }
    large = task(module=module, input_shape=(4, 16, 16), keep=("3",), **fields)
    config, budget = CONFIGS["4x2"], replace(BUDGET, epochs=0)
    start = measure_start(large, config)
    assert start.lanes == 1024 * 68 + 272
    found = compress(large, Recipe(get_scheme("column_combining"), 20, config, budget), tmp_path, start)
    assert found.mismatches == 0
    assert found.dense_cycles > 10 * found.cycles
    assert found.dense_energy_nj > found.energy_nj


def test_what_cannot_be_written_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "SAVED_EVERY", 0.0)
    (tmp_path / f"checkpoint.pt.{os.getpid()}.part").mkdir()
    with pytest.raises(TatamiError, match="checkpoint.pt: cannot be written: Is a directory"):
        train(task(), SCHEME, 2.0, CONFIG, BUDGET, 1, tmp_path / "checkpoint.pt")
