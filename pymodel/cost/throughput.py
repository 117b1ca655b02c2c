"""How many cycles lie between two images that follow each other without a pause."""

from __future__ import annotations

import numpy as np

from pymodel.cost.counts import ImageCost
from pymodel.machine.back_to_back import back_to_back
from pymodel.machine.errors import TatamiError
from pymodel.machine.image import Image
from pymodel.machine.load_clock import Clocked, clocked
from pymodel.machine.program import Layer
from pymodel.network.integer import INPUT


def cycles_back_to_back(image: Image, cost: ImageCost) -> int | None:
    """Cycles from one image to the next in a long row of them, if the stream brings a beat in every cycle.
    None if the network cannot run so: see `back_to_back`. `cost`: of the same image.
    """
    try:
        return clocked_images(image, cost, 3).cycles - clocked_images(image, cost, 2).cycles
    except TatamiError:
        return None


def clocked_images(image: Image, cost: ImageCost, images: int) -> Clocked:
    """The cycles of so many images back to back. Raises `TatamiError` as `back_to_back` does."""
    shape = image.placements[INPUT].shape
    loop = back_to_back(image, np.zeros((images, *shape), np.int8))
    layers = iter(cost.record_cycles)
    timed = [(record, next(layers) if isinstance(record, Layer) else 0) for record in loop.records]
    return clocked(image.config, timed * images, loop.stream)
