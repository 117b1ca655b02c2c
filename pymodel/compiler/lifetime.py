"""Lifetimes of tensors, and places in a feature bank for blocks of words that need not last to the end.

The words of a tensor are free when its last reader has run. The layer behind that reader may write them, even
if it begins after a gap of one cycle, before the reader's results are written:

- Read, then written: a lane reads the banks 7 cycles after its issue. A layer writes its first word 2T + 14
  cycles after it has issued its first lane, which is later than the last lane of every layer before.
- Written, then read: a layer reads only tensors that live. The last write of such a word is that of the
  tensor, however often the word was written before. `pymodel.machine.gaps` computes the gap from the last
  write of each word, and the array model refuses a read that comes before it.
- Written twice: the columns write a word 2T + 14 to 3T + 13 cycles after the issue of its first lane. The
  next layer issues its first lane at least T + 5 cycles after the first lane of the last word. So writes come
  in the order of the layers.
- Read and written by one layer: a layer's output never has the words of what it reads, since these live until
  it has run. The array model refuses a layer that reads what it writes.
- OUT and END wait until every word is written, and a packet that the host loads waits for END.

Pixels over an edge of a plane, which are masked, may be those of any tensor, written or not.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pymodel.network.integer import INPUT, Network, View

BEFORE = -1  # the host loads the input before layer 0


@dataclass(frozen=True, order=True)
class Span:
    """From layer `first`, which writes a tensor, to layer `last`, its last reader. A layer's number is its
    place in the network.
    """

    first: int
    last: int

    def meets(self, other: Span) -> bool:
        return self.first <= other.last and other.first <= self.last

    def has(self, layer: int) -> bool:
        return self.first <= layer <= self.last


def lifetimes(network: Network) -> dict[str, Span]:
    """The lifetime of every tensor that is written. A layer reads a tensor itself or by way of layers that
    only name its pixels. The output lives on behind the last layer.
    """
    owners: dict[str, frozenset[str]] = {INPUT: frozenset((INPUT,))}  # those whose pixels a tensor has
    first, last = {INPUT: BEFORE}, {INPUT: BEFORE}
    for number, layer in enumerate(network.layers):
        read = frozenset[str]().union(*(owners[source] for source in layer.reads()))
        if isinstance(layer, View):
            owners[layer.name] = read
            continue
        owners[layer.name] = frozenset((layer.name,))
        first[layer.name] = number
        last |= dict.fromkeys((*read, layer.name), number)
    output = network.layers[-1].name if network.layers else INPUT
    last |= dict.fromkeys(owners[output], len(network.layers))
    return {name: Span(begin, last[name]) for name, begin in first.items()}


@dataclass(frozen=True)
class Extent:
    """Words of a bank that belong together, and when they are used."""

    span: Span
    words: int


def first_fit(blocks: Sequence[Extent]) -> list[int]:
    """The first word of each block, counted from 0: the lowest place where no block lies that is used at the
    same time.

    Blocks are placed in the order in which they come, or the largest first; the better of the two, the first
    of equals. Neither takes more words than all blocks one behind the other.
    """
    in_order = range(len(blocks))
    by_size = sorted(in_order, key=lambda n: -blocks[n].words)
    return min((_placed(blocks, order) for order in (in_order, by_size)), key=lambda at: height(blocks, at))


def height(blocks: Sequence[Extent], at: Sequence[int]) -> int:
    """Words up to the end of the last block, if they begin `at` these words."""
    return max((first + block.words for first, block in zip(at, blocks, strict=True)), default=0)


def _placed(blocks: Sequence[Extent], order: Iterable[int]) -> list[int]:
    at = [0] * len(blocks)
    placed: list[tuple[int, int]] = []  # first word and number of each block, by the first word
    for number in order:
        block, word = blocks[number], 0
        for begin, other in placed:
            if not blocks[other].span.meets(block.span):
                continue
            if begin - word >= block.words:
                break
            word = max(word, begin + blocks[other].words)
        at[number] = word
        insort(placed, (word, number))
    return at
