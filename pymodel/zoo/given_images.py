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

Labels = npt.NDArray[np.integer]


def load_images(data: Path, shape: Shape) -> tuple[npt.NDArray[Any], Labels]:
    """Images [N, *shape] and labels [N], which may be none, [0].

    A .npy file holds images, a .npz file `images` and perhaps `labels`; channels may come last. Images are
    float (real values), uint8 (real values 0 to 255) or int8 (values of the network's input). A folder is
    that of CIFAR-10: its test images, uint8. Raises `TatamiError` for anything else.
    """
    if data.is_dir():
        images, labels = cifar.load_test(data)
        return _shaped(data, images, shape), labels
    try:
        found = np.load(data, allow_pickle=False)
        if isinstance(found, np.ndarray):
            return _shaped(data, found, shape), np.zeros(0, np.uint8)
        with found as archive:
            if "images" not in archive.files:
                raise TatamiError(f"{data}: field 'images' is missing")
            images = archive["images"]
            labels = archive["labels"] if "labels" in archive.files else np.zeros(0, np.uint8)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        said = " ".join(str(error).split())
        raise TatamiError(f"{data}: is no file of numpy arrays, or damaged ({said})") from None
    if labels.shape not in ((0,), images.shape[:1]) or not np.issubdtype(labels.dtype, np.integer):
        raise TatamiError(f"{data}: labels are {labels.dtype} {labels.shape}, must be integers, one an image")
    return _shaped(data, images, shape), labels


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
