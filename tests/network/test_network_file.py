"""Files of networks: labels of any number of classes, files of before, and damaged ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pymodel.machine.errors import TatamiError
from pymodel.network import network_file
from pymodel.network.integer import INPUT, Linear, Network, Requant
from pymodel.network.network_file import StoredNetwork
from pymodel.zoo import digits, systems


def kept(classes: int, labels: list[int]) -> StoredNetwork:
    ones = np.ones(classes, np.int32)
    layer = Linear("fc", INPUT, np.ones((classes, 4), np.int8), Requant(ones, ones, ones))
    images = np.zeros((len(labels), 1, 2, 2), np.int8)
    return StoredNetwork(Network("net", (1, 2, 2), (layer,)), images, np.array(labels, np.int64), {})


@pytest.mark.parametrize("classes", [2, 256, 257, 300, 40_000, 70_000])
def test_labels_are_as_wide_as_they_need(classes: int, tmp_path: Path) -> None:
    path = tmp_path / "network.npz"
    network_file.save(kept(classes, [0, classes - 1]), path)
    assert network_file.load(path).labels.tolist() == [0, classes - 1]


def test_files_of_before_are_read() -> None:
    """Those with labels of 8 bits, as the zoo has them."""
    for found in (digits.load(), *(systems.load(name) for name in systems.SYSTEMS)):
        assert found.labels.dtype == np.uint8
        assert len(found.labels) == len(found.images)


def test_what_does_not_fit_together_is_refused() -> None:
    good = kept(3, [0, 2])
    for change, message in (
        ({"labels": np.array([0, 3])}, r"network 'net': labels hold 0\.\.3, must be in 0\.\.2"),
        ({"labels": np.array([0, -1])}, r"labels hold -1\.\.0, must be in 0\.\.2"),
        ({"labels": np.array([0])}, r"labels are int64 \(1,\), must be integers \(2,\)"),
        ({"labels": np.array([0.0, 1.0])}, "labels are float64"),
        (
            {"images": good.images[:, :, :1]},
            r"images are int8 \(2, 1, 1, 2\), must be int8 \(images, 1, 2, 2\)",
        ),
        ({"images": good.images.astype(np.int16)}, "images are int16"),
        ({"plans": systems.load("tight").plans}, "plan of '.*', which is no layer with weights"),
    ):
        with pytest.raises(TatamiError, match=message):
            replace(good, **change)
