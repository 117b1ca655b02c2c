"""What the schemes' searches share: many layers at a time, as many weights as fit, and lanes where they hold
most.

The searches release the interpreter lock, so threads are enough.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from pymodel.machine.errors import RatioError, TatamiError
from pymodel.machine.planes import ceil_div
from pymodel.packing.permute import MOVES, Array, Permutation, Table, permute
from pymodel.packing.plan import LayerWeights

TRIAL_MOVES = 100  # of the searches that only measure how well a mask packs
TRIALS = 7
# The full search packs tighter than the trials: so often it is run again with as many more, or fewer, weights
# as its lanes leave room for.
REFINEMENTS = 3

Given = TypeVar("Given")
Found = TypeVar("Found")


def each(function: Callable[[Given], Found], items: Sequence[Given]) -> list[Found]:
    """`function` of every item, in order, as many at a time as there are cores."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(function, items))


def permute_all(
    matrices: Sequence[tuple[Array, Array]],
    size: int,
    group: int,
    table: Table,
    moves: int,
    seed: int,
    slots: Sequence[Array] | None = None,
) -> list[Permutation]:
    """`permute` of matrices [F, K] with their banks [K], and `slots` of each, if a weight may take several.

    Each has a generator of its own, so the result does not hang on the number of cores.
    """

    def one(index: int) -> Permutation:
        weight, bank = matrices[index]
        rng = np.random.default_rng([seed, index])
        return permute(
            weight,
            bank,
            size,
            group,
            table=table,
            rng=rng,
            moves=moves,
            slots=None if slots is None else slots[index],
        )

    return each(one, range(len(matrices)))


def most_that_fit(try_out: Callable[[int, int], tuple[int, Found]], budget: int, high: int) -> Found:
    """The result of `try_out(keep, moves) -> (lanes, result)` for the largest `keep` in 0..`high` found whose
    lanes are within `budget`.

    By bisection with short searches; the full search packs tighter than they say, so it is run again with as
    many more as there is room for. None kept must take no lane.
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
        # comes to 0 in the end, which fits
        keep = math.floor(keep * budget / max(lanes, 1)) - (lanes > budget)
        trials += 1
    return found


def hand_out_lanes(
    worth: dict[str, list[Array]],
    lanes: int,
    step: int = 1,
    spare: dict[str, Array] | None = None,
    cost: dict[str, int] | None = None,
) -> dict[str, Array]:
    """Lanes of each tile, int64 [tiles] for each layer: `step` at a time to where they add most saliency,
    `step` or more for each.

    They are `lanes` in all, less what is no whole `step` and what no tile has a use for. `worth`: what each
    further lane of a tile holds, falling; float, for each tile of a layer. `spare` int [tiles] by layer: of
    the first `step` lanes so many are kept for something else. They are counted, but not in the result.
    `cost` of a lane by layer, if they differ: lanes go to where they add most saliency for it. Raises
    `TatamiError` if there are fewer lanes than the tiles need.
    """
    owners, gains, kept = [], [], []
    for name, tiles in worth.items():
        for index, best in enumerate(tiles):
            others = 0 if spare is None else int(spare[name][index])
            if others >= step:
                raise TatamiError(
                    f"layer '{name}': its residuals need {others} lanes of a tile's first {step}: none is"
                    " left for weights"
                )
            padded = np.zeros(ceil_div(len(best) + others, step) * step)
            padded[others : others + len(best)] = best
            gains.append(padded.reshape(-1, step).sum(axis=1) / (1 if cost is None else cost[name]))
            owners.append(name)
            kept.append(others)
    counts = np.ones(len(owners), np.int64)
    left = lanes // step - len(owners)
    if left < 0:
        raise RatioError(
            f"ratio is too high: {lanes} lanes are too few: {len(owners)} tiles of filters need {step} each"
        )
    rest = np.concatenate([gain[1:] for gain in gains])
    owner = np.repeat(np.arange(len(owners)), [len(gain) - 1 for gain in gains])
    counts += np.bincount(owner[np.argsort(-rest, kind="stable")[:left]], minlength=len(owners))
    shares: dict[str, list[int]] = {name: [] for name in worth}
    for name, count, others in zip(owners, counts, kept, strict=True):
        shares[name].append(int(count) * step - others)
    return {name: np.array(share, np.int64) for name, share in shares.items()}


def residual_lanes(layers: Sequence[LayerWeights], tiles: dict[str, list[Array]]) -> dict[str, Array]:
    """Lanes that the residuals of each tile need, int64 [tiles] for each layer."""
    return {
        layer.name: np.array([layer.residual_lanes(filters) for filters in tiles[layer.name]], np.int64)
        for layer in layers
    }
