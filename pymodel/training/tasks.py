"""What can be compressed: a trained network with the images it was trained on and those it is measured on."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from pymodel.machine.errors import TatamiError
from pymodel.network.integer import Shape
from pymodel.training import train_digits
from pymodel.zoo import cifar, resnet

START_SEED = 1  # of a start that is trained here


@dataclass(frozen=True)
class Task:
    """`module` maps float32 [B, *input_shape] to logits [B, classes].

    Images are torch tensors [N, *input_shape] as they are stored, labels int64 [N]. `prepare(images,
    generator)` gives what the module takes: with a generator distorted at random, as in training, without as
    in measuring. `keep`: layers whose weights no scheme prunes. `start` says where the weights are from,
    `data` where the images are.
    """

    name: str
    module: nn.Module
    input_shape: Shape
    train_images: torch.Tensor
    train_labels: torch.Tensor
    test_images: torch.Tensor
    test_labels: torch.Tensor
    prepare: Callable[[torch.Tensor, torch.Generator | None], torch.Tensor]
    keep: tuple[str, ...]
    start: str
    data: str


def digits(weights: Path | None, data: Path | None) -> Task:
    """scikit-learn's digits and the CNN of `train_digits`; without `weights` it is trained first, dense,
    always the same.
    """
    if data is not None:
        raise TatamiError(f"--data is {data}: network 'digits' brings its own images")
    images, labels, held_images, held_labels = train_digits.split_digits()
    settings = train_digits.Settings()
    if weights is None:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # the fastest for layers this small, by far where cores are shared
        try:
            net = train_digits.train_dense(
                images, labels, settings, torch.Generator().manual_seed(START_SEED)
            )
        finally:
            torch.set_num_threads(threads)
        start = f"trained for {settings.dense_epochs} epochs, seed {START_SEED}"
    else:
        net = train_digits.DigitsNet()
        resnet.load_state(net, weights)
        start = _fingerprint(weights)

    def prepare(batch: torch.Tensor, generator: torch.Generator | None) -> torch.Tensor:
        return batch if generator is None else train_digits.distort(batch, settings, generator)

    return Task(
        "digits",
        net,
        (1, 8, 8),
        torch.from_numpy(images).float(),
        _labels(labels),
        torch.from_numpy(held_images).float(),
        _labels(held_labels),
        prepare,
        ("c1",),
        start,
        f"scikit-learn's digits, {len(labels)} to train on",
    )


def _cifar_resnet(name: str, build: Callable[[], nn.Module], weights: Path | None, data: Path | None) -> Task:
    for option, value in (("--weights", weights), ("--data", data)):
        if value is None:
            raise TatamiError(
                f"network '{name}' needs {option}: a state_dict and the folder 'cifar-10-batches-py'"
            )
    assert weights is not None
    assert data is not None
    net = build()
    resnet.load_state(net, weights)
    (train_images, train_labels), (test_images, test_labels) = cifar.load_train(data), cifar.load_test(data)

    def prepare(batch: torch.Tensor, generator: torch.Generator | None) -> torch.Tensor:
        return torch.from_numpy(
            cifar.normalise((batch if generator is None else cifar.augment(batch, generator)).numpy())
        )

    return Task(
        name,
        net,
        cifar.SHAPE,
        torch.from_numpy(train_images),
        _labels(train_labels),
        torch.from_numpy(test_images),
        _labels(test_labels),
        prepare,
        ("conv1",),
        _fingerprint(weights),
        f"{data.name}, {len(train_labels)} to train on",
    )


def _fingerprint(path: Path) -> str:
    """Name and CRC-32 of a file, so that a run is not taken up with other weights of the same name."""
    return f"{path.name} ({zlib.crc32(path.read_bytes()):08x})"


def _labels(labels: npt.NDArray[np.uint8]) -> torch.Tensor:
    return torch.from_numpy(labels.astype(np.int64))


TASKS: dict[str, Callable[[Path | None, Path | None], Task]] = {
    "digits": digits,
    "resnet20": lambda weights, data: _cifar_resnet("resnet20", resnet.resnet20, weights, data),
    "resnet56": lambda weights, data: _cifar_resnet("resnet56", resnet.resnet56, weights, data),
}


def get_task(name: str, weights: Path | None, data: Path | None) -> Task:
    """The named task, or `file.py:function`, which is called as those of `TASKS` are: any module of layers
    that `from_torch` knows.

    Raises `TatamiError` for an unknown name, for files that are missing or do not fit, and for a function
    that fails or gives no task.
    """
    file, colon, function = name.rpartition(":")
    if colon:
        return _from_file(Path(file), function, weights, data)
    if name not in TASKS:
        raise TatamiError(f"network '{name}' is unknown; valid: {', '.join(TASKS)}, or file.py:function")
    return TASKS[name](weights, data)


def _from_file(path: Path, function: str, weights: Path | None, data: Path | None) -> Task:
    where = f"network '{path}:{function}'"
    if not path.is_file():
        raise TatamiError(f"{where}: no such file")
    module = ModuleType(path.stem)
    try:
        exec(compile(path.read_text(), path, "exec"), vars(module))
    except Exception as error:  # whatever the user's code raises
        raise TatamiError(f"{where}: the file fails: {type(error).__name__}: {error}") from None
    make = getattr(module, function, None)
    if not callable(make):
        raise TatamiError(f"{where}: the file has no function '{function}'")
    try:
        task = make(weights, data)
    except TatamiError:
        raise
    except Exception as error:
        raise TatamiError(f"{where} fails: {type(error).__name__}: {error}") from None
    if not isinstance(task, Task):
        raise TatamiError(f"{where} gives a {type(task).__name__}, must give a pymodel.training.tasks.Task")
    return task
