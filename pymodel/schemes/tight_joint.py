"""Joint pruning and packing: the number of lanes is set first, and inputs are grouped so that the slots hold
as much saliency as possible.

Lossless packing of an unstructured mask leaves a third of the slots empty. When two weights of a filter meet
in a group, all filters of the tile get another lane. Here, no lane is added. Every filter keeps its best
weight in every lane, so all slots are full. The search looks for the grouping in which the best weights meet
as rarely as possible. There are three choices, from the outside in:

1. *Tiles*: filters are sorted by the number of their weights that unstructured pruning would keep. So the
   filters of a tile need about the same number of lanes.
2. *Lanes*: a tile with n lanes cannot keep more than the n best weights of each filter. The n-th lane adds
   the sum of the filters' n-th best weights. This sum falls with n. So it is optimal for this bound to give
   out the lanes one by one, each to the tile of any layer where it adds most.
3. *Groups*: each lane has its own group, with at most one input from each bank. Simulated annealing moves an
   input to another lane, or exchanges it with the input of the same bank there. The energy is the saliency
   that all slots hold. An input that is in no lane is pruned in the whole tile.

On a public ResNet-20 at 14x and G = 16 the search ends within half a percent of the bound in (2).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from pymodel.machine.config import ArrayConfig
from pymodel.machine.errors import TatamiError
from pymodel.machine.hot import hot
from pymodel.packing.pack import PackedMatrix, Tile
from pymodel.packing.permute import Array
from pymodel.packing.plan import LayerPlan, LayerWeights, Mask, Scheme, slot_budget
from pymodel.schemes.search import each, hand_out_lanes, residual_lanes, usable_lanes
from pymodel.schemes.unstructured import most_salient

# Temperatures of the first and the last move, in units of the mean saliency of a slot, and moves per input of
# a tile. Tuned on a public ResNet-20 (CIFAR-10) at 14x.
HOT, COLD = 0.1, 0.003
MOVES = 1000
# The most moves of a network: some minutes of both cores. VGG-16 with its fully connected layers would take
# nine times as many.
MOST_MOVES = 1_000_000_000


class TightJoint(Scheme):
    """`moves`: moves of the search for every input of a tile, and fewer where a network would have more than
    `MOST_MOVES`.
    """

    name: ClassVar[str] = "tight_joint"
    summary: ClassVar[str] = "number of lanes set first, then pruned and packed for the most saliency"

    def __init__(self, moves: int = MOVES) -> None:
        if moves < 0:
            raise TatamiError(f"{self.name}: moves is {moves}, must be at least 0")
        self.moves = moves

    def plan(
        self, layers: Sequence[LayerWeights], ratio: float, config: ArrayConfig, rng: np.random.Generator
    ) -> dict[str, LayerPlan]:
        lanes = slot_budget(layers, ratio, config)
        offers = [self.offers(layer) for layer in layers]
        wanted = most_salient(offers, lanes * config.size)
        tiles = {layer.name: sort_into_tiles(wanted[layer.name].sum(axis=1), config.size) for layer in layers}
        shares = self.share_out(offers, tiles, lanes, config)
        seed = int(rng.integers(2**32))
        whole = self.moves * sum(offer.inputs * len(tiles[offer.name]) for offer in offers)
        share = min(1.0, MOST_MOVES / max(1, whole))
        # one tile at a time, because the sizes of the layers differ widely
        jobs = [
            TileJob(
                offer,
                filters,
                int(count),
                config,
                math.floor(share * self.moves * offer.inputs),
                (seed, number, index),
            )
            for number, offer in enumerate(offers)
            for index, (filters, count) in enumerate(zip(tiles[offer.name], shares[offer.name], strict=True))
        ]
        found = iter(each(self.fill, jobs, "packing", [job.moves for job in jobs]))
        return {
            layer.name: LayerPlan.of(
                _join([next(found) for _ in tiles[layer.name]], layer.inputs, config.size)
            )
            for layer in layers
        }

    def offers(self, layer: LayerWeights) -> LayerWeights:
        """What the slots of a layer choose from: its weights."""
        return layer

    def fill(self, job: TileJob) -> tuple[Array, Tile]:
        """The groups of a tile, int64 [lanes, G], and its slots over them, each with the placeholder
        weight 1.
        """
        saliency = job.offer.saliency[job.filters]
        table = search_groups(saliency, job.offer.bank, job)
        value = np.where(table >= 0, saliency[:, table], -1)  # [C, lanes, G]
        select = value.argmax(axis=2).T
        full = value.max(axis=2).T > 0  # a weight that is already zero needs no slot
        return used_members(table, select, full), Tile(
            job.filters, np.arange(job.lanes), np.where(full, select, 0), full.astype(np.int8)
        )

    def share_out(
        self, layers: Sequence[LayerWeights], tiles: dict[str, list[Array]], lanes: int, config: ArrayConfig
    ) -> dict[str, Array]:
        """Lanes of each tile, int64 [tiles] for each layer, `lanes` in all. `layers`: what is offered."""
        del config
        return hand_out_lanes(best_of_filters(layers, tiles), lanes)


class TightPass(TightJoint):
    """Every tile gets whole passes, so that no row of the array is idle. The lanes have less freedom, but the
    same compression takes fewer cycles.

    The residuals of a tile take their lanes from its first pass. The budget counts these as lanes of the
    layer. A tile of a convolution in groups has no lanes that its filters cannot use.
    """

    name: ClassVar[str] = "tight_pass"
    summary: ClassVar[str] = (
        "as tight_joint, but every tile has whole passes, the lanes for its residuals included"
    )

    def share_out(
        self, layers: Sequence[LayerWeights], tiles: dict[str, list[Array]], lanes: int, config: ArrayConfig
    ) -> dict[str, Array]:
        return hand_out_lanes(
            best_of_filters(layers, tiles),
            lanes,
            config.size,
            self.spare(residual_lanes(layers, tiles), config),
            self.cost(layers),
            usable_lanes(layers, tiles, shared=False),
        )

    def spare(self, residuals: dict[str, Array], config: ArrayConfig) -> dict[str, Array]:
        """The lanes of each tile's first pass that are left for its residuals, of those that these need."""
        del config
        return residuals

    def cost(self, layers: Sequence[LayerWeights]) -> dict[str, int] | None:
        """The cost of a lane of each layer; None if all cost the same."""
        del layers
        return None


class TightCycle(TightPass):
    """The budget counts lanes, but a pass of a layer with many pixels takes many cycles. So passes go where a
    cycle adds most saliency.

    No other choice of passes keeps more saliency (by the bound of best weights) in as few cycles.
    """

    name: ClassVar[str] = "tight_cycle"
    summary: ClassVar[str] = "as tight_pass, but passes go where a cycle keeps most saliency"

    def cost(self, layers: Sequence[LayerWeights]) -> dict[str, int]:
        return {layer.name: layer.words for layer in layers}


@dataclass(frozen=True)
class TileJob:
    """One tile of one layer: what is offered to it, its `filters` int64 [C], the lanes that it has, and the
    moves of its search.
    """

    offer: LayerWeights
    filters: Array
    lanes: int
    config: ArrayConfig
    moves: int
    seed: tuple[int, ...]


def search_groups(saliency: npt.NDArray[np.floating], bank: Array, job: TileJob) -> Array:
    """The groups of a tile, int64 [lanes, G], -1 for none, in which its filters find the most saliency if
    each takes its best input of every lane. `saliency` [C, K], `bank` int64 [K].
    """
    rng = np.random.default_rng(job.seed)
    scaled = np.zeros((len(bank) + 1, job.config.size), np.float32)
    scaled[:-1, : len(saliency)] = saliency.T / (saliency.max(initial=0) or 1)
    table = _first_table(scaled[:-1].max(axis=1), bank, job.lanes, job.config.group, rng)
    _anneal(scaled, bank.astype(np.int64), table, job.moves, HOT, COLD, rng)
    return table


def used_members(table: Array, select: Array, full: Mask) -> Array:
    """`table` [lanes, G] without the inputs that no slot takes: `select` and `full` [lanes, C]."""
    used = (full[:, :, None] & (select[:, :, None] == np.arange(table.shape[1]))).any(axis=1)
    return np.where(used, table, -1)


def _join(found: list[tuple[Array, Tile]], inputs: int, size: int) -> PackedMatrix:
    """Joins tiles with their own groups into one matrix."""
    tiles, first = [], 0
    for table, tile in found:
        tiles.append(replace(tile, lanes=tile.lanes + first))
        first += len(table)
    return PackedMatrix(np.concatenate([table for table, _ in found]), tuple(tiles), size, inputs)


def sort_into_tiles(wanted: Array, size: int) -> list[Array]:
    """Sorts filters by the slots that they want, most first, and puts `size` into each tile.

    `wanted` int [F] -> int64 arrays of filters.
    """
    order = np.argsort(-wanted, kind="stable")
    return [order[i : i + size] for i in range(0, len(order), size)]


def best_of_filters(layers: Sequence[LayerWeights], tiles: dict[str, list[Array]]) -> dict[str, list[Array]]:
    """The saliency that a tile's n-th lane can hold with any groups: the sum of the n-th best weight of each
    of its filters.

    In a convolution in groups, few filters want the same input, and a lane has one of each bank. So n lanes
    hold no more than the n best inputs of each bank do, either. Float [K] for each tile of a layer.
    """
    return {
        layer.name: [
            _best(layer.saliency[filters], None if layer.own is None else layer.bank)
            for filters in tiles[layer.name]
        ]
        for layer in layers
    }


def _best(saliency: npt.NDArray[np.floating], bank: Array | None) -> Array:
    """What each further lane of a tile adds at most, of saliencies [C, K] and, if they count, banks [K]."""
    best: Array = -np.sort(-saliency, axis=1).sum(axis=0)
    if bank is None:
        return best
    worth = saliency.sum(axis=0)
    inputs = np.zeros(len(best))
    for one in np.unique(bank):
        mine = -np.sort(-worth[bank == one])
        inputs[: len(mine)] += mine
    return np.diff(np.minimum(np.cumsum(best), np.cumsum(inputs)), prepend=0).clip(0)


def lane_limit(best: dict[str, list[Array]], shares: dict[str, Array]) -> float:
    """The most saliency that the lanes in `shares` can hold: the first values of `best_of_filters` of each
    tile, as many as the tile has lanes.
    """
    return sum(
        float(tile[:count].sum())
        for name, tiles in best.items()
        for tile, count in zip(tiles, shares[name], strict=True)
    )


def _first_table(worth: Array, bank: Array, lanes: int, group: int, rng: np.random.Generator) -> Array:
    """A first table int64 [lanes, G]. For each bank it has the inputs with the largest `worth` [K], at most
    one in each lane, in random lanes.
    """
    table = np.full((lanes, group), -1, np.int64)
    for b in range(group):
        inputs = np.flatnonzero(bank == b)
        inputs = inputs[np.argsort(-worth[inputs], kind="stable")][:lanes]
        table[rng.permutation(lanes)[: len(inputs)], b] = inputs
    return table


# The two loops over the filters of a tile are written without a branch, and over rows, so that they become
# vector instructions.


@hot
def _survey(saliency: Array, members: Array, top: Array, second: Array, holder: Array) -> None:
    """Notes for every filter the largest and the second largest saliency in a lane, and the bank that holds
    the largest (-1: none). `members` [G] are the lane's inputs; the others are the lane's rows, [C].
    """
    for f in range(len(top)):
        top[f] = 0
        second[f] = 0
        holder[f] = -1
    for b in range(len(members)):
        if members[b] < 0:
            continue
        row = saliency[members[b]]
        for f in range(len(top)):
            value, most, next_most, bank = row[f], top[f], second[f], holder[f]
            more = value > most
            lower = value if value > next_most else next_most
            top[f] = value if more else most
            second[f] = most if more else lower
            holder[f] = b if more else bank


@hot
def _change(new: Array, bank: int, top: Array, second: Array, holder: Array) -> Any:
    """The gain of the filters if `bank` gives the lane an input of saliency `new` [C] instead of its present
    input. The others are the lane's rows, [C].
    """
    gain = np.float32(0)
    for f in range(len(top)):
        others = second[f] if holder[f] == bank else top[f]
        gain += (others if others > new[f] else new[f]) - top[f]
    return gain


@hot
def _anneal(
    saliency: Array, bank: Array, table: Array, moves: int, hot: float, cold: float, rng: Any
) -> None:
    """Simulated annealing of one tile's `table` int64 [lanes, G], in place.

    `saliency` float32 [K + 1, C]: row K is zero and stands for no input. At the last temperature hardly any
    move to a worse state is accepted, so the last state is the result.
    """
    lanes, group = table.shape
    none = saliency.shape[0] - 1
    top = np.zeros((lanes, saliency.shape[1]), np.float32)
    second = np.zeros_like(top)
    holder = np.zeros(top.shape, np.int32)
    lane_of = np.full(none + 1, -1, np.int64)
    for lane in range(lanes):
        _survey(saliency, table[lane], top[lane], second[lane], holder[lane])
        for b in range(group):
            if table[lane, b] >= 0:
                lane_of[table[lane, b]] = lane
    slots = lanes * saliency.shape[1]
    temperature = hot * top.sum() / slots
    if temperature <= 0:
        return
    cooling = (cold / hot) ** (1.0 / max(moves, 1))
    for _ in range(moves):
        temperature *= cooling
        a = rng.integers(0, none)
        q = rng.integers(0, lanes)
        p = lane_of[a]
        if p == q:
            continue
        b = bank[a]
        k = table[q, b]
        gain = _change(saliency[a], b, top[q], second[q], holder[q])
        if p >= 0:
            gain += _change(saliency[k if k >= 0 else none], b, top[p], second[p], holder[p])
        if gain < 0 and rng.random() >= np.exp(gain / temperature):
            continue
        table[q, b] = a
        lane_of[a] = q
        _survey(saliency, table[q], top[q], second[q], holder[q])
        if k >= 0:
            lane_of[k] = p
        if p >= 0:
            table[p, b] = k
            _survey(saliency, table[p], top[p], second[p], holder[p])
