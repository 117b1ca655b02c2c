"""Many layers at a time: the searches release the interpreter lock, so threads are enough."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from pymodel.permute import Array, Permutation, Table, permute

Given = TypeVar("Given")
Found = TypeVar("Found")


def each(function: Callable[[Given], Found], items: Sequence[Given]) -> list[Found]:
    """`function` of every item, in order, as many at a time as there are cores."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(function, items))


def permute_all(matrices: Sequence[tuple[Array, Array]], size: int, group: int, table: Table, moves: int, seed: int) -> list[Permutation]:
    """`permute` of matrices [F, K] with their banks [K]; each has a generator of its own, so the result does not hang on the number of cores."""

    def one(index: int) -> Permutation:
        weight, bank = matrices[index]
        return permute(weight, bank, size, group, table=table, rng=np.random.default_rng([seed, index]), moves=moves)

    return each(one, range(len(matrices)))
