"""Reads CIFAR-10 (A. Krizhevsky, "Learning multiple layers of features from tiny images", 2009) from its
`cifar-10-batches-py` folder.

There are five files of images to train on and one to test on. Each is a pickled dict with b"data", uint8
[10000, 3072] in the order channel, row, column, and b"labels", a list of 0..9. The project does not ship
them. Pickles may run code; here, only arrays and plain values are allowed in them.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pymodel.machine.errors import TatamiError

if TYPE_CHECKING:
    import torch

Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.uint8]

FOLDER = "cifar-10-batches-py"
TRAIN, TEST = tuple(f"data_batch_{i}" for i in range(1, 6)), ("test_batch",)
SHAPE = (3, 32, 32)
CLASSES = 10
# Of red, green and blue in 0..1: those of ImageNet, which github.com/akamaster/pytorch_resnet_cifar10 trained
# with.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
BORDER = 4  # pixels on each side that a random crop may leave (He et al., arXiv 1512.03385, section 4.2)

# What a pickled array is made of: numpy 1 and 2, protocols 2 to 5.
ALLOWED = {
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy.core.numeric", "_frombuffer"),
    ("numpy._core.numeric", "_frombuffer"),
    ("_codecs", "encode"),
}


def load_train(data: Path) -> tuple[Images, Labels]:
    """The images to train on, uint8 [N, 3, 32, 32], and labels uint8 [N], N = 50,000 in the original; errors
    as `load_test`.
    """
    return _load(data, TRAIN)


def load_test(data: Path) -> tuple[Images, Labels]:
    """The images to test on, uint8 [N, 3, 32, 32], and labels uint8 [N], N = 10,000 in the original.

    `data` is the folder `cifar-10-batches-py` or its parent folder. Raises TatamiError, naming file and
    field, if something is missing, damaged or of another shape.
    """
    return _load(data, TEST)


def normalise(images: Images) -> npt.NDArray[np.float32]:
    """uint8 [N, 3, H, W] -> float32 of that shape:

    `(image / 255 - MEAN) / STD`, per channel. Raises TatamiError for another dtype or shape.
    """
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1] != len(MEAN):
        raise TatamiError(
            f"images are {images.dtype} {images.shape}, must be uint8 (batch, {len(MEAN)}, rows, columns)"
        )
    mean, std = (np.array(part, dtype=np.float32)[:, None, None] for part in (MEAN, STD))
    scaled: npt.NDArray[np.float32] = (images.astype(np.float32) / np.float32(255) - mean) / std
    return scaled


def augment(images: torch.Tensor, generator: torch.Generator, border: int = BORDER) -> torch.Tensor:
    """Each image [B, C, H, W] is shifted by up to `border` pixels in each direction, with zeros from outside,
    and may be mirrored. Any dtype.

    A zero is black in uint8 images and the mean colour in normalised ones. All random numbers come from
    `generator`.
    """
    import torch  # only training needs it

    batch, channels, rows, columns = images.shape
    padded = torch.nn.functional.pad(images, (border,) * 4)
    top, left = torch.randint(0, 2 * border + 1, (2, batch, 1), generator=generator)
    flip = torch.randint(0, 2, (batch, 1), generator=generator).bool()
    across = torch.arange(columns).expand(batch, -1)
    row = top + torch.arange(rows)
    column = left + torch.where(flip, columns - 1 - across, across)
    width = columns + 2 * border
    index = (row[:, :, None] * width + column[:, None, :]).reshape(batch, 1, -1).expand(-1, channels, -1)
    return padded.reshape(batch, channels, -1).gather(2, index.to(images.device)).reshape(images.shape)


class _ArrayUnpickler(pickle.Unpickler):
    """Unpickles dicts, lists, numbers, bytes, strings and numpy arrays; refuses any other name."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, only arrays are allowed")
        return super().find_class(module, name)


def _load(data: Path, names: tuple[str, ...]) -> tuple[Images, Labels]:
    folder = data if data.name == FOLDER or (data / names[0]).is_file() else data / FOLDER
    if not folder.is_dir():
        raise TatamiError(
            f"{folder}: no such folder; give the folder '{FOLDER}' of CIFAR-10 or the one that holds it"
        )
    parts = [_read(folder / name) for name in names]
    return np.concatenate([images for images, _ in parts]), np.concatenate([labels for _, labels in parts])


def _read(path: Path) -> tuple[Images, Labels]:
    if not path.is_file():
        raise TatamiError(f"{path}: no such file")
    try:
        with path.open("rb") as file:
            batch = _ArrayUnpickler(file, encoding="bytes").load()
    except Exception as error:  # a damaged pickle may raise anything; it can only call what is allowed above
        reason = " ".join(str(error).split()) or type(error).__name__
        raise TatamiError(f"{path}: not a pickle of arrays, or damaged ({reason})") from None
    if not isinstance(batch, dict):
        raise TatamiError(f"{path}: holds {type(batch).__name__}, must hold a dict")
    for field in (b"data", b"labels"):
        if field not in batch:
            raise TatamiError(f"{path}: field '{field.decode()}' is missing")
    pixels, labels = batch[b"data"], batch[b"labels"]
    inputs = int(np.prod(SHAPE))
    if (
        not isinstance(pixels, np.ndarray)
        or pixels.dtype != np.uint8
        or pixels.ndim != 2
        or pixels.shape[1] != inputs
        or not len(pixels)
    ):
        found = f"{pixels.dtype} {pixels.shape}" if isinstance(pixels, np.ndarray) else type(pixels).__name__
        raise TatamiError(f"{path}: field 'data' is {found}, must be uint8 (images, {inputs})")
    if not isinstance(labels, list) or len(labels) != len(pixels):
        found = f"a list of {len(labels)}" if isinstance(labels, list) else type(labels).__name__
        raise TatamiError(
            f"{path}: field 'labels' is {found}, must be a list of {len(pixels)}, one label per image"
        )
    wrong = next(
        (i for i, label in enumerate(labels) if type(label) is not int or not 0 <= label < CLASSES), None
    )
    if wrong is not None:
        raise TatamiError(
            f"{path}: field 'labels' holds {labels[wrong]!r} at {wrong}, must be in 0..{CLASSES - 1}"
        )
    return pixels.reshape(-1, *SHAPE), np.array(labels, dtype=np.uint8)
