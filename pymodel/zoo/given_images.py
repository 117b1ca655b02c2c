"""Images that a user gives: a file of numpy, or the folder of CIFAR-10."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pymodel.machine.errors import TatamiError
from pymodel.network.integer import Shape
from pymodel.zoo import cifar

Images = npt.NDArray[Any]
Labels = npt.NDArray[np.integer]
HELD = 5  # every so many images of a set are kept to test on, where nobody said which


def load_sets(data: Path, shape: Shape) -> tuple[tuple[Images, Labels], tuple[Images, Labels]]:
    """(images, labels) to train on and to test on, in the formats of `load_images`, all of real values and
    with labels: the two sets of the folder of CIFAR-10; of a .npz file those named `images` and `labels`, and
    `test_images` and `test_labels`. Without the latter, every fifth image is one to test on.

    Raises `TatamiError` for anything else.
    """
    if data.is_dir():
        sets = [cifar.load_train(data), cifar.load_test(data)]
        train, test = ((_shaped(data, images, shape), labels) for images, labels in sets)
        return train, test
    images, labels = load_images(data, shape)
    if not len(labels):
        raise TatamiError(f"{data}: has no labels; needs `images` and `labels` in a .npz file")
    if images.dtype == np.int8:
        raise TatamiError(f"{data}: images are int8, must be real values to train on: float, or uint8")
    found = _archive(data)
    if "test_images" in found and "test_labels" in found:
        tests, test_labels = _shaped(data, found["test_images"], shape), found["test_labels"]
        _check_labels(data, test_labels, tests)
        if tests.dtype != images.dtype:
            raise TatamiError(
                f"{data}: test_images are {tests.dtype}, images are {images.dtype}: must be alike"
            )
        return (images, labels), (tests, test_labels)
    held = np.arange(len(images)) % HELD == HELD - 1
    return (images[~held], labels[~held]), (images[held], labels[held])


def load_images(data: Path, shape: Shape) -> tuple[npt.NDArray[Any], Labels]:
    """Images [N, *shape] and labels [N], which may be none, [0].

    A .npy file holds images, a .npz file `images` and perhaps `labels`; channels may come last. Images are
    float (real values), uint8 (real values 0 to 255) or int8 (values of the network's input). A folder is
    that of CIFAR-10: its test images, uint8. Raises `TatamiError` for anything else.
    """
    if data.is_dir():
        images, labels = cifar.load_test(data)
        return _shaped(data, images, shape), labels
    found = _archive(data)
    if "images" not in found:
        raise TatamiError(f"{data}: field 'images' is missing")
    images, labels = found["images"], found.get("labels", np.zeros(0, np.uint8))
    if labels.shape != (0,):
        _check_labels(data, labels, images)
    return _shaped(data, images, shape), labels


def _archive(data: Path) -> dict[str, Images]:
    """The arrays of a file by name; that of a .npy file is `images`."""
    try:
        found = np.load(data, allow_pickle=False)
        if isinstance(found, np.ndarray):
            return {"images": found}
        with found as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        said = " ".join(str(error).split())
        raise TatamiError(f"{data}: is no file of numpy arrays, or damaged ({said})") from None


def _check_labels(data: Path, labels: Labels, images: Images) -> None:
    if labels.shape != images.shape[:1] or not np.issubdtype(labels.dtype, np.integer):
        raise TatamiError(f"{data}: labels are {labels.dtype} {labels.shape}, must be integers, one an image")


def _shaped(data: Path, images: npt.NDArray[Any], shape: Shape) -> npt.NDArray[Any]:
    channels, rows, columns = shape
    if images.dtype not in (np.uint8, np.int8) and not np.issubdtype(images.dtype, np.floating):
        raise TatamiError(f"{data}: images are {images.dtype}, must be float, uint8 or int8")
    if images.shape[1:] == shape:
        return images
    if images.shape[1:] == (rows, columns, channels):
        return images.transpose(0, 3, 1, 2)
    if images.ndim == 2 and images.shape[1] == channels * rows * columns:
        return images.reshape(-1, *shape)
    raise TatamiError(
        f"{data}: images have shape {images.shape}, must be (images, {channels}, {rows}, {columns})"
    )
