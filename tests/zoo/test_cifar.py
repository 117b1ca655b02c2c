"""CIFAR-10 files: a tiny folder in the real format, damaged ones, and augmentation."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from pymodel.machine.errors import TatamiError
from pymodel.zoo.cifar import BORDER, FOLDER, MEAN, STD, augment, load_test, load_train, normalise

PER_FILE = 3


def write_batch(path: Path, pixels: npt.NDArray[np.uint8], labels: list[int], protocol: int = 2) -> None:
    path.write_bytes(
        pickle.dumps(
            {b"batch_label": path.name.encode(), b"labels": labels, b"data": pixels}, protocol=protocol
        )
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Pixel p of image i of file f (test: 0) is a number that says which it is; labels count up."""
    out = tmp_path / FOLDER
    out.mkdir()
    for f, name in enumerate(("test_batch", *(f"data_batch_{i}" for i in range(1, 6)))):
        pixels = (np.arange(3072) + 7 * np.arange(PER_FILE)[:, None] + 31 * f) % 251
        write_batch(
            out / name, pixels.astype(np.uint8), [(f + i) % 10 for i in range(PER_FILE)], protocol=2 + f % 4
        )
    return out


def test_folder_or_its_parent(folder: Path) -> None:
    for data in (folder, folder.parent):
        images, labels = load_test(data)
        assert images.shape == (PER_FILE, 3, 32, 32)
        assert images.dtype == np.uint8
        assert labels.dtype == np.uint8
        assert labels.tolist() == [0, 1, 2]
    # channel, row, column
    assert images[2, 1, 3, 4] == (1024 + 3 * 32 + 4 + 7 * 2) % 251


def test_training_files_are_in_order(folder: Path) -> None:
    images, labels = load_train(folder)
    assert images.shape == (5 * PER_FILE, 3, 32, 32)
    assert labels.tolist() == [f + i for f in range(1, 6) for i in range(3)]
    assert [int(v) for v in images[::PER_FILE, 0, 0, 0]] == [31 * f for f in range(1, 6)]


def test_missing_files(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(TatamiError, match="nowhere/cifar-10-batches-py: no such folder; give the folder"):
        load_test(tmp_path / "nowhere")
    (folder / "data_batch_3").unlink()
    with pytest.raises(TatamiError, match="data_batch_3: no such file"):
        load_train(folder)
    load_test(folder)


def good(**changed: Any) -> dict[bytes, Any]:
    batch = {b"data": np.zeros((2, 3072), dtype=np.uint8), b"labels": [0, 9]} | {
        name.encode(): value for name, value in changed.items()
    }
    return {name: value for name, value in batch.items() if value is not None}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "test_batch: holds list, must hold a dict"),
        (good(data=None), "test_batch: field 'data' is missing"),
        (good(labels=None), "test_batch: field 'labels' is missing"),
        (good(data=[0]), "field 'data' is list, must be uint8 .images, 3072."),
        (
            good(data=np.zeros((2, 3071), dtype=np.uint8)),
            "field 'data' is uint8 .2, 3071., must be uint8 .images, 3072.",
        ),
        (good(data=np.zeros((2, 3072))), "field 'data' is float64 .2, 3072., must be uint8"),
        (good(data=np.zeros((0, 3072), dtype=np.uint8), labels=[]), "field 'data' is uint8 .0, 3072."),
        (good(labels=[1]), "field 'labels' is a list of 1, must be a list of 2, one label per image"),
        (good(labels=b"ab"), "field 'labels' is bytes, must be a list of 2"),
        (good(labels=[1, 10]), "field 'labels' holds 10 at 1, must be in 0..9"),
        (good(labels=[1, True]), "field 'labels' holds True at 1"),
        (
            good(data=Path("x")),
            "test_batch: not a pickle of arrays, or damaged .it asks for .*Path, only arrays are allowed",
        ),
    ],
)
def test_wrong_content(folder: Path, content: Any, message: str) -> None:
    (folder / "test_batch").write_bytes(pickle.dumps(content, protocol=4))
    with pytest.raises(TatamiError, match=message) as caught:
        load_test(folder)
    assert "\n" not in str(caught.value)


class Runs:
    """A pickle that runs code when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (self.path,)


def test_pickle_runs_nothing(folder: Path, tmp_path: Path) -> None:
    touched = tmp_path / "touched"
    (folder / "test_batch").write_bytes(pickle.dumps(good(data=Runs(touched))))
    with pytest.raises(TatamiError, match="only arrays are allowed"):
        load_test(folder)
    assert not touched.exists()


def test_damaged_bytes(folder: Path) -> None:
    path = folder / "test_batch"
    whole = path.read_bytes()
    for content in (b"", b"not a pickle", whole[:-40], whole[: len(whole) // 2], whole[5:]):
        path.write_bytes(content)
        with pytest.raises(TatamiError, match="test_batch: not a pickle of arrays, or damaged") as caught:
            load_test(folder)
        assert "\n" not in str(caught.value)


def test_normalise() -> None:
    images = np.zeros((2, 3, 4, 5), dtype=np.uint8)
    images[1] = 255
    values = normalise(images)
    assert values.dtype == np.float32
    np.testing.assert_allclose(
        values[0, :, 2, 3], [-m / s for m, s in zip(MEAN, STD, strict=True)], rtol=1e-6
    )
    np.testing.assert_allclose(
        values[1, :, 2, 3], [(1 - m) / s for m, s in zip(MEAN, STD, strict=True)], rtol=1e-6
    )
    with pytest.raises(
        TatamiError, match="images are float32 .2, 3, 4, 5., must be uint8 .batch, 3, rows, columns."
    ):
        normalise(values)  # type: ignore[arg-type]
    with pytest.raises(TatamiError, match="must be uint8"):
        normalise(images[0])


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_augmented_image_is_a_crop_mirrored_or_not(dtype: torch.dtype) -> None:
    images = torch.randint(1, 256, (60, 3, 8, 10), generator=torch.Generator().manual_seed(1)).to(dtype)
    result = augment(images, torch.Generator().manual_seed(2))
    assert result.dtype == dtype
    assert result.shape == images.shape
    padded = torch.nn.functional.pad(images, (BORDER,) * 4)
    seen = set()
    for i, image in enumerate(result):
        for top in range(2 * BORDER + 1):
            for left in range(2 * BORDER + 1):
                crop = padded[i, :, top : top + 8, left : left + 10]
                for flip, expected in ((False, crop), (True, crop.flip(2))):
                    if torch.equal(image, expected):
                        seen.add((i, top, left, flip))
    assert {i for i, *_ in seen} == set(range(60))
    assert {top for _, top, *_ in seen} == {left for _, _, left, _ in seen} == set(range(2 * BORDER + 1))
    assert {flip for *_, flip in seen} == {False, True}


def test_augmentation_follows_its_generator() -> None:
    images = torch.rand(16, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    first, same, other = (augment(images, torch.Generator().manual_seed(seed)) for seed in (5, 5, 6))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
