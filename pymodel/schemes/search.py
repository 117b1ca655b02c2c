"""What the schemes' searches share: many layers at a time, and as many weights as fit.

The searches release the interpreter lock, so threads are enough.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from pymodel.permute import MOVES, Array, Permutation, Table, permute

TRIAL_MOVES = 100  # of the searches that only measure how well a mask packs
TRIALS = 7
# The full search packs tighter than the trials: so often it is run again with as many more, or fewer, weights as its lanes leave room for.
REFINEMENTS = 3

Given = TypeVar("Given")
Found = TypeVar("Found")


def each(function: Callable[[Given], Found], items: Sequence[Given]) -> list[Found]:
    """`function` of every item, in order, as many at a time as there are cores."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(function, items))


def permute_all(
    matrices: Sequence[tuple[Array, Array]], size: int, group: int, table: Table, moves: int, seed: int, slots: Sequence[Array] | None = None
) -> list[Permutation]:
    """`permute` of matrices [F, K] with their banks [K], and `slots` of each, if a weight may take several.

    Each has a generator of its own, so the result does not hang on the number of cores.
    """

    def one(index: int) -> Permutation:
        weight, bank = matrices[index]
        rng = np.random.default_rng([seed, index])
        return permute(weight, bank, size, group, table=table, rng=rng, moves=moves, slots=None if slots is None else slots[index])

    return each(one, range(len(matrices)))


def most_that_fit(try_out: Callable[[int, int], tuple[int, Found]], budget: int, high: int) -> Found:
    """The result of `try_out(keep, moves) -> (lanes, result)` for the largest `keep` in 0..`high` found whose lanes are within `budget`.

    By bisection with short searches; the full search packs tighter than they say, so it is run again with as many more as there is room for.
    None kept must take no lane.
    """
    low = 0
    for _ in range(TRIALS):
        middle = (low + high) // 2
        low, high = (middle, high) if try_out(middle, TRIAL_MOVES)[0] <= budget else (low, middle)
    keep, best, trials = low, -1, 0
    while best < 0 or trials <= REFINEMENTS:
        lanes, result = try_out(keep, MOVES)
        if lanes <= budget and keep > best:
            best, found = keep, result
        keep = math.floor(keep * budget / max(lanes, 1)) - (lanes > budget)  # comes to 0 in the end, which fits
        trials += 1
    return found
