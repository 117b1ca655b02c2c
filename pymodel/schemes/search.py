"""Functions that the searches of the schemes share: work on many layers in parallel, find the largest number
of weights that fits, and share out lanes.

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
from pymodel.machine.progress import tracked
from pymodel.packing.permute import MOVES, Array, Permutation, Table, permute
from pymodel.packing.plan import LayerWeights

TRIAL_MOVES = 100  # of the searches that only test how well a mask packs
TRIALS = 7
# How often the full search is run again. It packs tighter than the trials, so each time it gets more weights
# if its lanes leave room, or fewer if they are too many.
REFINEMENTS = 3

Given = TypeVar("Given")
Found = TypeVar("Found")


def each(
    function: Callable[[Given], Found], items: Sequence[Given], what: str, sizes: Sequence[int]
) -> list[Found]:
    """Calls `function` for every item and returns the results in order. Runs as many in parallel as there are
    cores. `what` it does is tracked; `sizes` says how much each item counts.
    """
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(tracked(pool.map(function, items), what, sizes))


def permute_all(
    matrices: Sequence[tuple[Array, Array]],
    size: int,
    group: int,
    table: Table,
    moves: int,
    seed: int,
    slots: Sequence[Array] | None = None,
) -> list[Permutation]:
    """`permute` for matrices [F, K] with their banks [K], and with the `slots` of each if a weight may take
    several.

    Each matrix has its own generator, so the result does not depend on the number of cores.
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

    return each(one, range(len(matrices)), "permuting", [weight.size for weight, _ in matrices])


def most_that_fit(try_out: Callable[[int, int], tuple[int, Found]], budget: int, high: int) -> Found:
    """The result of `try_out(keep, moves) -> (lanes, result)` for the largest `keep` in 0..`high` found whose
    lanes are within `budget`.

    It is found by bisection with short searches. The full search packs tighter than these, so it is run again
    with as many more weights as there is room for. With `keep` 0, `try_out` must take no lane.
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
        # reaches 0 in the end, which fits
        keep = math.floor(keep * budget / max(lanes, 1)) - (lanes > budget)
        trials += 1
    return found


def hand_out_lanes(
    worth: dict[str, list[Array]],
    lanes: int,
    step: int = 1,
    spare: dict[str, Array] | None = None,
    cost: dict[str, int] | None = None,
    most: dict[str, Array] | None = None,
) -> dict[str, Array]:
    """The number of lanes of each tile, int64 [tiles] for each layer. They are given out `step` at a time,
    each time to the tile where they add most saliency. Each tile gets `step` or more.

    The sum is `lanes`, less a remainder that is not a whole `step`, and less lanes that no tile can use.
    `worth`: what each further lane of a tile holds, falling; float, for each tile of a layer. `spare` int
    [tiles] by layer: how many of the first `step` lanes are kept for something else. They are counted, but
    they are not in the result. `cost`: the cost of a lane of each layer, if it differs. Then lanes go where
    they add most saliency for their cost. `most` int [tiles] by layer: the lanes that a tile can use, where
    that is known. Its last `step` is then no larger than that, and the lanes that are left go elsewhere.
    Raises `TatamiError` if there are fewer lanes than the tiles need.
    """
    owners, gains, kept, sizes = [], [], [], []
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
            size = np.full(len(padded) // step, step)
            if most is not None and name in most:
                whole = others + max(1, int(most[name][index]))
                size = np.minimum(size, (whole - step * np.arange(len(size))).clip(0))
            gain = padded.reshape(-1, step).sum(axis=1) / (1 if cost is None else cost[name])
            gains.append(gain[size > 0])
            sizes.append(size[size > 0])
            owners.append(name)
            kept.append(others)
    first = np.array([size[0] for size in sizes])
    left = lanes - int(first.sum())
    if left < 0:
        need = (
            f"{step} each"
            if (first == step).all()
            else f"{first.sum()}, {step} each or all that they can use"
        )
        raise RatioError(
            f"ratio is too high: {lanes} lanes are too few: {len(owners)} tiles of filters need {need}"
        )
    order = np.argsort(-np.concatenate([gain[1:] for gain in gains]), kind="stable")
    rest = np.concatenate([size[1:] for size in sizes])[order]
    owner = np.repeat(np.arange(len(owners)), [len(gain) - 1 for gain in gains])[order]
    taken = np.cumsum(rest) <= left
    given = first + np.bincount(owner[taken], rest[taken], minlength=len(owners)).astype(np.int64)
    shares: dict[str, list[int]] = {name: [] for name in worth}
    for name, count, others in zip(owners, given, kept, strict=True):
        shares[name].append(int(count) - others)
    return {name: np.array(share, np.int64) for name, share in shares.items()}


def residual_lanes(layers: Sequence[LayerWeights], tiles: dict[str, list[Array]]) -> dict[str, Array]:
    """Lanes that the residuals of each tile need, int64 [tiles] for each layer."""
    return {
        layer.name: np.array([layer.residual_lanes(filters) for filters in tiles[layer.name]], np.int64)
        for layer in layers
    }


def usable_lanes(
    layers: Sequence[LayerWeights], tiles: dict[str, list[Array]], shared: bool
) -> dict[str, Array]:
    """The lanes that each tile of a convolution in groups can use, int64 [tiles] by layer. A lane takes one
    weight of a filter and one input of a bank, or if filters cannot have different inputs in it (`shared`),
    one input.
    """
    found = {}
    for layer in layers:
        if layer.own is None:
            continue
        counts = []
        for filters in tiles[layer.name]:
            own = layer.own[filters]
            inputs = own.any(axis=0)
            most = max(own.sum(axis=1).max(), np.bincount(layer.bank[inputs]).max(initial=0))
            counts.append(inputs.sum() if shared else most)
        found[layer.name] = np.array(counts, np.int64)
    return found
