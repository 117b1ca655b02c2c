"""The tasks that can be compressed: a trained network, the images that it was trained on, and the images for
measuring.
"""

from __future__ import annotations

import hashlib
import io
import sys
import traceback
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from pymodel.machine.errors import TatamiError
from pymodel.machine.files import write_bytes
from pymodel.machine.names import check_name
from pymodel.machine.places import BUILD
from pymodel.network.from_torch import checked_shape, import_torch
from pymodel.network.integer import Shape
from pymodel.network.load_model import GROUPS
from pymodel.network.plain_module import plain_module
from pymodel.network.scale import Scale
from pymodel.training import train_digits
from pymodel.zoo import cifar, resnet

START_SEED = 1  # of a start that is trained here


Prepare = Callable[[torch.Tensor, torch.Generator | None], torch.Tensor]

TRIED = 2  # images that a task is tried with
WHOLE = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


@dataclass(frozen=True)
class Task:
    """`module` maps float32 [B, *input_shape] to logits [B, classes].

    Images are torch tensors [N, *input_shape] as they are stored, labels int64 [N] in 0..classes - 1.
    `prepare(images, generator)` returns what the module takes. With a generator the images are distorted at
    random, as in training; without one they are not, as in measuring. `keep`: layers whose weights no scheme
    prunes. `start` says where the weights come from, `data` where the images come from. `scales`: of a
    network that was quantised before, those of its tensors, by the names that `import_torch` gives.

    Some inputs are converted: numpy arrays and lists, other precisions, labels of other integer types, a
    frozen module (`plain_module`). Everything else is refused by a `TatamiError` that names field and limit:
    a module that the machine cannot run, sets that are empty or do not fit, images that are not finite, names
    in `keep` that no layer has.
    """

    name: str
    module: nn.Module
    input_shape: Shape
    train_images: torch.Tensor
    train_labels: torch.Tensor
    test_images: torch.Tensor
    test_labels: torch.Tensor
    prepare: Prepare
    keep: tuple[str, ...]
    start: str
    data: str
    scales: Mapping[str, Scale] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_name("a task's name", self.name)
        shape = checked_shape(self.input_shape, self.name)
        module = plain_module(self.module, self.name, train=True)
        imported = import_torch(module, shape, self.name)
        prepare = _Checked(self.name, shape, self.prepare)
        found: dict[str, Any] = {"input_shape": shape, "module": module, "prepare": prepare}
        for part in ("train", "test"):
            where = f"task '{self.name}': {part}"
            images = _images(f"{where}_images", getattr(self, f"{part}_images"), shape)
            found[f"{part}_images"] = images
            given = getattr(self, f"{part}_labels")
            found[f"{part}_labels"] = _class_labels(f"{where}_labels", given, len(images))
        prepare(found["train_images"][:TRIED], torch.Generator().manual_seed(0))
        classes = _classes(self.name, module, prepare(found["test_images"][:TRIED], None))
        for part in ("train_labels", "test_labels"):
            _check_range(f"task '{self.name}': {part}", found[part], classes)
        found["keep"] = _kept(self.name, self.keep, list(imported.weights))
        for line in ("start", "data"):  # of the report
            text = getattr(self, line)
            if not isinstance(text, str) or not text.strip() or len(text.splitlines()) > 1:
                raise TatamiError(f"task '{self.name}': {line} is {text!r}, must be a line of text")
        for name, value in found.items():
            object.__setattr__(self, name, value)


@dataclass(frozen=True)
class _Checked:
    """A task's `prepare`, with its result converted to float32 and checked."""

    name: str
    shape: Shape
    function: Prepare

    def __call__(self, images: torch.Tensor, generator: torch.Generator | None) -> torch.Tensor:
        where = f"task '{self.name}': prepare"
        try:
            found = self.function(images, generator)
        except TatamiError:
            raise
        except Exception as error:  # whatever the user's code raises
            raise TatamiError(f"{where} fails on {len(images)} images: {told(error)}") from None
        found = _tensor(f"{where} of images", found)
        needed = (len(images), *self.shape)
        if tuple(found.shape) != needed:
            raise TatamiError(f"{where} gives shape {tuple(found.shape)}, must give {needed}")
        found = found.float()
        _check_finite(f"{where}, of {len(images)} images", found)
        return found


def _tensor(where: str, values: Any) -> torch.Tensor:
    """A tensor, an array or nested lists as real numbers on the CPU; half and double precision as float32."""
    if not isinstance(values, torch.Tensor):
        try:
            array = np.asarray(values)
            if array.dtype.kind == "u" and array.itemsize > 1:  # torch knows few operations for these
                array = array.astype(np.int64)
            values = torch.from_numpy(np.array(array))
        except (TypeError, ValueError):
            raise TatamiError(
                f"{where} are a {type(values).__name__}, must be a torch tensor or an array of numbers"
            ) from None
    found: torch.Tensor = values.detach().cpu()
    if found.is_complex():
        raise TatamiError(f"{where} are {found.dtype}, must be real numbers")
    return found.float() if found.is_floating_point() else found


def _images(where: str, images: Any, shape: Shape) -> torch.Tensor:
    found = _tensor(where, images)
    if found.ndim != 4 or tuple(found.shape[1:]) != shape:
        text = ", ".join(map(str, shape))
        raise TatamiError(f"{where} have shape {tuple(found.shape)}, must be (images, {text})")
    if not len(found):
        raise TatamiError(f"{where} are none, must be at least 1")
    _check_finite(where, found)
    return found


def _check_finite(where: str, images: torch.Tensor) -> None:
    """Raises `TatamiError` that names the first pixel that is not finite, for images [N, C, H, W]."""
    if torch.isfinite(images).all():
        return
    image, *pixel = torch.nonzero(~torch.isfinite(images))[0].tolist()
    raise TatamiError(
        f"{where}: image {image}, pixel {pixel} (channel, row, column) is {images[image, *pixel].item()},"
        " must be a finite number"
    )


def _class_labels(where: str, labels: Any, images: int) -> torch.Tensor:
    found = _tensor(where, labels)
    if tuple(found.shape) != (images,):
        raise TatamiError(f"{where} have shape {tuple(found.shape)}, must be ({images},): one for each image")
    if found.dtype not in WHOLE:
        raise TatamiError(f"{where} are {found.dtype}, must be whole numbers")
    return found.to(torch.int64)


def _check_range(where: str, labels: torch.Tensor, classes: int) -> None:
    bad = torch.nonzero((labels < 0) | (labels >= classes))
    if len(bad):
        at = int(bad[0])
        raise TatamiError(f"{where}: label {at} is {int(labels[at])}, must be in 0..{classes - 1}")


def _classes(name: str, module: nn.Module, images: torch.Tensor) -> int:
    """Classes of the module's logits for `images` float32 [N, C, H, W]."""
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        with torch.no_grad():
            shape = tuple(module(images).shape)
    finally:
        for part, mode in modes.items():
            part.training = mode
    if len(shape) != 2 or shape[0] != len(images):
        raise TatamiError(
            f"task '{name}': the module gives shape {shape} for {len(images)} images, must give"
            f" ({len(images)}, classes): no planes, and an image's logits for each image"
        )
    return shape[1]


def _kept(name: str, keep: Any, layers: list[str]) -> tuple[str, ...]:
    if isinstance(keep, str) or not all(isinstance(layer, str) for layer in keep):
        raise TatamiError(f"task '{name}': keep is {keep!r}, must be names of layers")
    kept = tuple(keep)
    unknown = [layer for layer in kept if layer not in layers]
    if unknown:
        raise TatamiError(
            f"task '{name}': keep names '{unknown[0]}', which is no layer with weights; there are:"
            f" {', '.join(layers)}"
        )
    if set(layers) <= set(kept):
        raise TatamiError(f"task '{name}': keep names all {len(layers)} layers, must leave one to compress")
    return kept


def told(error: BaseException) -> str:
    """An exception of a user's code in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def digits(weights: Path | None, data: Path | None) -> Task:
    """scikit-learn's digits and the CNN of `train_digits`. Without `weights` it is trained first, dense,
    always with the same result, which is kept.
    """
    if data is not None:
        raise TatamiError(f"DATA '{data}': network 'digits' brings its own images")
    images, labels, held_images, held_labels = train_digits.split_digits()
    settings = train_digits.DigitsTraining()
    if weights is None:
        net = _trained_digits(images, labels, settings)
        start = f"trained for {settings.dense_epochs} epochs, seed {START_SEED}"
    else:
        net = train_digits.DigitsNet()
        resnet.load_state(net, weights)
        start = fingerprint(weights)

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


def _trained_digits(
    images: npt.NDArray[np.float64], labels: npt.NDArray[np.uint8], settings: train_digits.DigitsTraining
) -> train_digits.DigitsNet:
    """The network that `train_dense` gives, from a file if the same code has trained it before."""
    made_by = [Path(train_digits.__file__).read_bytes(), f"{torch.__version__} {START_SEED}".encode()]
    kept = BUILD / "cache" / f"digits-{hashlib.sha256(b''.join(made_by)).hexdigest()[:16]}.pt"
    net = train_digits.DigitsNet()
    with suppress(TatamiError):  # no file, or a damaged one
        resnet.load_state(net, kept)
        return net.eval()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the fastest for such small layers, by far if cores are shared
    try:
        net = train_digits.train_dense(images, labels, settings, torch.Generator().manual_seed(START_SEED))
    finally:
        torch.set_num_threads(threads)
    content = io.BytesIO()
    torch.save(net.state_dict(), content)
    with suppress(OSError, TatamiError):  # then it is trained again
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(kept, content.getvalue())
    return net


def _cifar_resnet(name: str, build: Callable[[], nn.Module], weights: Path | None, data: Path | None) -> Task:
    if weights is None or data is None:
        raise TatamiError(
            f"network '{name}' needs WEIGHTS, a state_dict, and DATA, the folder 'cifar-10-batches-py'"
        )
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
        fingerprint(weights),
        f"{data.name}, {len(train_labels)} to train on",
    )


def fingerprint(path: Path) -> str:
    """Name and CRC-32 of a file, so that a run is not continued with other weights of the same name."""
    return f"{path.name} ({zlib.crc32(path.read_bytes()):08x})"


def _labels(labels: npt.NDArray[np.uint8]) -> torch.Tensor:
    return torch.from_numpy(labels.astype(np.int64))


TASKS: dict[str, Callable[[Path | None, Path | None], Task]] = {
    "digits": digits,
    "resnet20": lambda weights, data: _cifar_resnet("resnet20", resnet.resnet20, weights, data),
    "resnet56": lambda weights, data: _cifar_resnet("resnet56", resnet.resnet56, weights, data),
}


def get_task(name: str, weights: Path | None, data: Path | None) -> Task:
    """The named task, or the result of `file.py:function`, which is called like those of `TASKS`. It may have
    any module of layers that `from_torch` knows.

    Raises `TatamiError` for an unknown name, for files that are missing or do not fit, and for a function
    that fails or returns no task.
    """
    file, colon, function = name.rpartition(":")
    if colon:
        return _from_file(Path(file), function, weights, data)
    if name not in TASKS:
        kinds = ", ".join(f"model{suffix}" for suffix in GROUPS)
        raise TatamiError(
            f"network '{name}' is unknown; valid: {', '.join(TASKS)}, {kinds}, or file.py:function"
        )
    return TASKS[name](weights, data)


def _from_file(path: Path, function: str, weights: Path | None, data: Path | None) -> Task:
    where = f"network '{path}:{function}'"
    module = load_script(path, where)
    make = getattr(module, function, None)
    if not callable(make):
        raise TatamiError(f"{where}: the file has no function '{function}'")
    try:
        task = make(weights, data)
    except TatamiError:
        raise
    except (Exception, SystemExit) as error:
        raise TatamiError(f"{where} fails{_line_of(error, path)}: {told(error)}") from None
    if not isinstance(task, Task):
        raise TatamiError(f"{where} gives a {type(task).__name__}, must give a pymodel.training.tasks.Task")
    return task


def load_script(path: Path, where: str) -> ModuleType:
    """The file's module, loaded as Python loads a script: its folder is first in `sys.path`, the module is in
    `sys.modules`, and `__file__` is set.

    Raises `TatamiError`, beginning with `where`, with file and line of what fails in it.
    """
    if not path.is_file():
        raise TatamiError(f"{where}: no such file")
    path = path.resolve()
    module = ModuleType(f"{SCRIPT}{path.stem}")
    module.__file__ = str(path)
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    sys.modules[module.__name__] = module
    try:
        exec(compile(path.read_bytes(), str(path), "exec"), vars(module))
    except (Exception, SystemExit) as error:  # whatever the user's code raises
        del sys.modules[module.__name__]
        text = error.msg if isinstance(error, SyntaxError) else told(error)
        kind = f"{type(error).__name__}: " if isinstance(error, SyntaxError) else ""
        raise TatamiError(f"{where}: the file fails{_line_of(error, path)}: {kind}{text}") from None
    return module


SCRIPT = "script_"  # prefix of the module's name, so that it hides no module of the same name


def _line_of(error: BaseException, path: Path) -> str:
    """The last place in the user's own code, in the script or in a file of its folder, that an error passed,
    as " at file, line n".
    """
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        return f" at {error.filename}, line {error.lineno}"
    folder = str(path.resolve().parent)
    frames = [f for f in traceback.extract_tb(error.__traceback__) if str(Path(f.filename).parent) == folder]
    return f" at {frames[-1].filename}, line {frames[-1].lineno}" if frames else ""
