"""After TETRIS (Ji et al., "TilE-matching the TRemendous Irregular Sparsity", NeurIPS 2018): filters and
inputs are reordered so that small weights share blocks, and whole blocks are pruned.

A block is the T filters of a tile by `block` inputs. A block that is kept takes one lane for each of its
inputs. The bundle of such a lane has only that input, and every filter of the tile has a weight in it. A
pruned block takes no lane.

Two steps alternate until the kept saliency no longer rises. The best result is the plan:

1. *Prune*: for the given order, keep the blocks of all layers with the largest saliency, as many as there are
   lanes for.
2. *Reorder*: for the given kept blocks, exchange the two filters of a layer whose exchange gains most. Repeat
   until no exchange gains anything. Then do the same with the inputs.

With `block` = 1, the default, the order of the inputs does not matter: an input is pruned in a tile or not,
and a lane can take any input. Then the search only decides which filters share a tile.

A pass of the array has T lanes, and a pass that is not full takes as long as a full one. `TetrisPass` prunes
any T inputs of a tile at a time, so that the cycles of a layer are proportional to its density.

In the paper, blocks are the cells of one grid. There is one order of the channels for the whole layer, and
all taps of a channel are in one block. Blocks are ranked by the sum of magnitudes, and each layer has its own
rate. Here, each tile may keep different inputs, an input is one tap of a channel, and blocks are ranked by
saliency over all layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from pymodel.machine.config import ArrayConfig
from pymodel.machine.errors import TatamiError
from pymodel.machine.hot import hot
from pymodel.machine.planes import ceil_div
from pymodel.packing.pack import PackedMatrix, Tile
from pymodel.packing.permute import Array
from pymodel.packing.plan import LayerPlan, LayerWeights, Mask, Scheme, slot_budget
from pymodel.schemes.search import hand_out_lanes, residual_lanes, usable_lanes

ROUNDS = 50  # at most; on a public ResNet-20 (CIFAR-10) it ends after 5 to 9
LEAST = 1e-9  # a gain below this share of the saliency is rounding


class Tetris(Scheme):
    """`block`: inputs of a block, at least 1."""

    name: ClassVar[str] = "tetris"
    summary: ClassVar[str] = (
        "filters reordered so that small weights share blocks, whole blocks pruned (NeurIPS 2018)"
    )

    def __init__(self, block: int = 1) -> None:
        if block < 1:
            raise TatamiError(f"tetris: block is {block}, must be at least 1")
        self.block = block

    def plan(
        self, layers: Sequence[LayerWeights], ratio: float, config: ArrayConfig, rng: np.random.Generator
    ) -> dict[str, LayerPlan]:
        """As `Scheme.plan`. It draws nothing from `rng`."""
        lanes = slot_budget(layers, ratio, config)
        orders = [_Order(layer, config, self.block) for layer in layers]
        most = -1.0
        best: dict[str, PackedMatrix] = {}
        for _ in range(ROUNDS):
            saliency = [order.saliency() for order in orders]
            try:
                kept = self.choose(orders, saliency, lanes)
            except TatamiError:
                if not best:
                    raise
                break  # after the exchanges, a tile has more residuals than room for them
            after = sum(float(every[one].sum()) for every, one in zip(saliency, kept, strict=True))
            if after <= most * (1 + LEAST):
                break
            most, best = (
                after,
                {order.layer.name: order.pack(one) for order, one in zip(orders, kept, strict=True)},
            )
            for order, one in zip(orders, kept, strict=True):
                order.improve(one)
        return {name: LayerPlan.of(packed) for name, packed in best.items()}

    def choose(
        self, orders: Sequence[_Order], saliency: Sequence[npt.NDArray[np.floating]], lanes: int
    ) -> list[Mask]:
        """The blocks of each layer that stay, bool [tiles, blocks], for this `saliency` and at most `lanes`
        lanes in all.
        """
        return most_salient_blocks(saliency, [order.lanes() for order in orders], lanes)


class TetrisPass(Tetris):
    """Every tile gets whole passes, so that a layer's cycles are proportional to its density.

    The residuals of a tile take their lanes from its first pass. The budget counts these as lanes of the
    layer.
    """

    name: ClassVar[str] = "tetris_pass"
    summary: ClassVar[str] = (
        "as tetris, but every tile has whole passes, the lanes for its residuals included"
    )

    def __init__(self) -> None:
        super().__init__()

    def choose(
        self, orders: Sequence[_Order], saliency: Sequence[npt.NDArray[np.floating]], lanes: int
    ) -> list[Mask]:
        layers = [order.layer for order in orders]
        tiles = {order.layer.name: order.tiles() for order in orders}
        worth = {
            order.layer.name: list(-np.sort(-one, axis=1))
            for order, one in zip(orders, saliency, strict=True)
        }
        most = usable_lanes(layers, tiles, shared=True)
        shares = hand_out_lanes(worth, lanes, orders[0].size, residual_lanes(layers, tiles), most=most)
        return [_best(one, shares[order.layer.name]) for order, one in zip(orders, saliency, strict=True)]


def most_salient_blocks(
    saliency: Sequence[npt.NDArray[np.floating]], cost: Sequence[Array], lanes: int
) -> list[Mask]:
    """Which blocks stay, bool [tiles, blocks] for each layer. Blocks are taken in order of `saliency` over
    `cost` (in lanes), as long as lanes are left.

    A block without saliency is never kept.
    """
    worth, price = np.concatenate([s.ravel() for s in saliency]), np.concatenate([c.ravel() for c in cost])
    kept = np.zeros(len(worth), bool)
    for i in np.argsort(-worth / price, kind="stable"):
        if worth[i] > 0 and price[i] <= lanes:
            kept[i] = True
            lanes -= price[i]
    ends = np.cumsum([s.size for s in saliency])
    return [part.reshape(s.shape) for part, s in zip(np.split(kept, ends[:-1]), saliency, strict=True)]


def _best(saliency: npt.NDArray[np.floating], counts: Array) -> Mask:
    """Of each tile so many blocks of the largest saliency, as long as they have some: bool [tiles,
    blocks].
    """
    kept = np.zeros(saliency.shape, bool)
    for mine, worth, count in zip(kept, saliency, counts, strict=True):
        mine[np.argsort(-worth, kind="stable")[:count]] = True
    return kept & (saliency > 0)


class _Order:
    """A layer with the tile of each filter and the block of each input."""

    def __init__(self, layer: LayerWeights, config: ArrayConfig, block: int) -> None:
        self.layer, self.size, self.group = layer, config.size, config.group
        self.tile = np.arange(layer.filters) // config.size
        self.block = np.arange(layer.inputs) // block
        self.blocks = ceil_div(layer.inputs, block)

    def saliency(self) -> npt.NDArray[np.floating]:
        """The saliency of each block, [tiles, blocks]."""
        return self._by_block(self._by_tile())

    def lanes(self) -> Array:
        """The lanes that each block takes if it stays, int64 [tiles, blocks]. This is the number of its
        inputs.
        """
        return np.tile(np.bincount(self.block, minlength=self.blocks), (self.tile.max() + 1, 1))

    def tiles(self) -> list[Array]:
        """The filters of each tile."""
        return [np.flatnonzero(self.tile == t) for t in range(int(self.tile.max()) + 1)]

    def improve(self, kept: Mask) -> None:
        """Exchanges filters, then inputs, so that the blocks `kept` bool [tiles, blocks] hold more
        saliency.
        """
        least = LEAST * float(self.layer.saliency.sum())
        # the saliency of a filter in a tile, [F, tiles], and of an input in a block, [K, blocks]
        _exchange(self._by_block(self.layer.saliency) @ kept.T, self.tile, least)
        if self.blocks < self.layer.inputs:
            _exchange(self._by_tile().T @ kept, self.block, least)

    def pack(self, kept: Mask) -> PackedMatrix:
        """Slots, each with the placeholder weight 1. Every input that some tile keeps has its own group."""
        inputs = kept[:, self.block]  # [tiles, K]
        used = np.flatnonzero(inputs.any(axis=0))
        groups = np.full((len(used), self.group), -1, np.int64)
        groups[np.arange(len(used)), self.layer.bank[used]] = used
        tiles = []
        for filters, mine in zip(self.tiles(), inputs, strict=True):
            lanes = np.flatnonzero(mine[used])
            select = np.repeat(self.layer.bank[used[lanes]][:, None], len(filters), axis=1)
            tiles.append(Tile(filters, lanes, select.astype(np.int64), np.ones(select.shape, np.int8)))
        return PackedMatrix(groups, tuple(tiles), self.size, self.layer.inputs)

    def _by_tile(self) -> npt.NDArray[np.floating]:
        """Saliency of each input in each tile, [tiles, K]."""
        return (self.tile == np.arange(self.tile.max() + 1)[:, None]).astype(np.float64) @ self.layer.saliency

    def _by_block(self, saliency: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
        """[..., K] summed to [..., blocks]."""
        if self.blocks == self.layer.inputs:
            return saliency
        return saliency @ (self.block[:, None] == np.arange(self.blocks)).astype(np.float64)


@hot
def _exchange(worth: Array, place: Array, least: float) -> None:
    """Exchanges two items at a time, always the two that gain most, until no exchange gains more than
    `least`.

    `worth` float [items, places]: what an item is worth in a place. `place` int64 [items] is changed in
    place.
    """
    while True:
        gain, first, second = least, -1, -1
        for i in range(len(place)):
            for j in range(i + 1, len(place)):
                p, q = place[i], place[j]
                change = worth[i, q] + worth[j, p] - worth[i, p] - worth[j, q]
                if change > gain:
                    gain, first, second = change, i, j
        if first < 0:
            return
        place[first], place[second] = place[second], place[first]
