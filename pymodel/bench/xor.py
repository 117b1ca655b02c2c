"""The storage of XOR-encoded weights with a low-rank index: a 9216 x 4096 layer of 1-bit weights, 91% pruned
(AlexNet's first FC layer).

Kwon et al. (CVPR 2020) report 0.28 bit a weight for AlexNet's FC layers. Here the weights are drawn from a
Gaussian, so only the format is measured. The bits per weight are comparable; the accuracy of a trained
network is not measured. Everything is decoded from its bytes and compared. The figures are 8 times the bytes.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import numpy.typing as npt
from rich import box
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from pymodel.bench.mask_factors import bitmap, entropy_bits, factorise, factors_from_bytes, saliency_kept
from pymodel.machine.config import MAX_DEPTH, ArrayConfig
from pymodel.machine.errors import TatamiError
from pymodel.machine.memory import columns, slot_row
from pymodel.machine.slot_rows import decode_tile, encode_tile, stored_bits, with_decoder
from pymodel.machine.xor_network import (
    XorCost,
    XorStream,
    decode,
    encode_best,
    stream_cost,
    stream_from_bytes,
)
from pymodel.packing.pack import pack
from pymodel.packing.permute import permute
from pymodel.packing.prune import layer_masks

SHAPE = (9216, 4096)
SPARSITY = 0.91
VALUE_RATIO, BITS_PER_WEIGHT = 1.15, 0.28  # targets, at most
OUTPUTS = 512  # bits of a slice
# with the rectangles of the index, slices are less even than with independent weights; a larger window
# compensates for that
WINDOW = 768
SLOT_LAYER, SLOT_SIZE, SLOT_GROUP, SLOT_MOVES = (256, 1152), 16, 8, 300  # a packed int8 layer


def run(console: Console, shape: tuple[int, int] = SHAPE, seed: int = 1) -> dict[str, Any]:
    """Encodes the layer, decodes and compares it, prints a table and returns the figures.

    Names without a prefix are for the factorised mask, `magnitude_...` for exact magnitude pruning with the
    same values, and `slot_...` for the rows of slots of a packed layer. `value_bits` includes the patches.
    Raises `TatamiError` if anything differs after decoding.
    """
    started = time.monotonic()
    rng = np.random.default_rng(seed)
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("drawing weights", total=6)

        def step(name: str) -> None:
            progress.update(task, advance=1, description=name)

        weight = rng.standard_normal(shape, np.float32)
        sign = weight < 0
        step("exact magnitude pruning, values")
        exact = layer_masks({"layer": weight}, SPARSITY)["layer"]
        exact_seconds = -time.monotonic()
        exact_stream = encode_best(sign, exact, OUTPUTS, window=WINDOW)
        exact_seconds += time.monotonic()
        _check("values under the exact mask", exact_stream, sign, exact)
        exact_cost = stream_cost(exact_stream, exact, weight.size, 8 * bitmap(exact).size)
        step("the same without history")
        part = (slice(0, max(1, shape[0] // 8)), slice(None))
        plain_cost = stream_cost(
            encode_best(sign[part], exact[part], OUTPUTS, window=1), exact[part], exact[part].size
        )
        step("index: factorised mask")
        index_seconds = -time.monotonic()
        factors = factorise(weight, SPARSITY)
        index_seconds += time.monotonic()
        mask = factors_from_bytes(factors.to_bytes()).mask()
        step("values under the factorised mask")
        seconds = -time.monotonic()
        stream = encode_best(sign, mask, OUTPUTS, window=WINDOW)
        seconds += time.monotonic()
        _check("values under the factorised mask", stream, sign, mask)
        cost = stream_cost(stream, mask, weight.size, 8 * len(factors.to_bytes()))
        kept = saliency_kept(weight, mask)
        step("slot rows of a packed layer")
        slots = _slots(rng)

    figures: dict[str, Any] = {
        "shape": list(shape),
        "sparsity": 1 - np.count_nonzero(mask) / mask.size,
        "care_bits": cost.care_bits,
        "value_bits": cost.value_bits,
        "patch_bits": cost.patch_bits,
        "index_bits": cost.index_bits,
        "bits_per_weight": cost.bits_per_weight,
        "value_ratio": cost.value_ratio,
        "kept_saliency_ratio": kept,
        "index_tile": [factors.tile_rows, factors.tile_columns],
        "index_rank": factors.rank,
        "network": [stream.network.inputs, stream.network.outputs, stream.network.history],
        "patches_in_a_slice": stream.busiest(),
        "index_seconds": index_seconds,
        "encode_seconds": seconds,
        "magnitude_care_bits": exact_cost.care_bits,
        "magnitude_value_bits": exact_cost.value_bits,
        "magnitude_patch_bits": exact_cost.patch_bits,
        "magnitude_value_ratio": exact_cost.value_ratio,
        "magnitude_value_ratio_no_history": plain_cost.value_ratio,
        "magnitude_encode_seconds": exact_seconds,
        "magnitude_bitmap_bits_per_weight": exact_cost.bits_per_weight,
        "magnitude_entropy_bits_per_weight": (exact_cost.value_bits + entropy_bits(exact)) / weight.size,
        **slots,
        "seconds": time.monotonic() - started,
        "passed": cost.value_ratio <= VALUE_RATIO and cost.bits_per_weight <= BITS_PER_WEIGHT,
    }
    console.print(_table(figures, cost, exact_cost))
    return figures


def _check(what: str, stream: XorStream, bits: npt.NDArray[np.bool_], care: npt.NDArray[np.bool_]) -> None:
    wrong = (decode(stream_from_bytes(stream.to_bytes())).reshape(bits.shape) != bits) & care
    if wrong.any():
        raise TatamiError(
            f"{what}: {np.count_nonzero(wrong)} bits came back changed, the first is {np.argwhere(wrong)[0]}"
        )


def _slots(rng: np.random.Generator) -> dict[str, float]:
    """The rows of slots of a packed random layer, in the machine with the decoder that suits them best: bits
    a slot, with all bits counted.
    """
    config = ArrayConfig("array", size=SLOT_SIZE, group=SLOT_GROUP, lane_depth=MAX_DEPTH)
    weight = np.where(rng.random(SLOT_LAYER) < 1 - SPARSITY, rng.integers(-128, 128, SLOT_LAYER), 0).astype(
        np.int8
    )
    bank = np.arange(SLOT_LAYER[1]) % SLOT_GROUP
    packed = pack(
        weight,
        bank,
        permute(weight, bank, SLOT_SIZE, SLOT_GROUP, rng=rng, moves=SLOT_MOVES),
        SLOT_SIZE,
        SLOT_GROUP,
    )
    tiles = []
    for tile in packed.tiles:
        rows = slot_row(config).zeros(len(tile.lanes))
        rows[:, : len(tile.filters)] = np.stack([tile.weight, tile.select], axis=2)
        rows[columns("SLOT", rows).weight == 0] = 0
        tiles.append(rows)
    found = with_decoder(config, tiles)
    for rows in tiles:
        if not np.array_equal(decode_tile(found, encode_tile(found, rows), len(rows)).rows, rows):
            raise TatamiError("rows of slots: a tile came back changed")
    slots = packed.lanes * SLOT_SIZE
    return {
        "slot_bits": config.slot_bits,
        "slot_stored_bits": stored_bits(found, tiles) / slots,
        "slot_used": packed.nonzeros / slots,
        "slot_inputs": found.xor_inputs,
        "slot_history": found.xor_history,
    }


def _table(figures: dict[str, Any], cost: XorCost, exact: XorCost) -> Table:
    weights = cost.weights
    title = (
        f"{figures['shape'][0]} x {figures['shape'][1]}, 1-bit weights, {figures['sparsity']:.2%} pruned;"
        " bits per weight"
    )
    table = Table(box=box.SIMPLE, title=title)
    for column in ("index", "mask"):
        table.add_column(column, no_wrap=True)
    for column in ("index", "values", "of these patches", "all", "values / cared for", "saliency kept"):
        table.add_column(column, justify="right")

    def row(name: str, mask: str, index: float, values: XorCost, kept: float) -> None:
        numbers = (
            index / weights,
            values.value_bits / weights,
            values.patch_bits / weights,
            (index + values.value_bits) / weights,
        )
        table.add_row(name, mask, *(f"{n:.4f}" for n in numbers), f"{values.value_ratio:.4f}", f"{kept:.3f}")

    down, across = figures["index_tile"]
    row(
        f"{down} x {across} tiles, rank {figures['index_rank']}",
        "factorised",
        cost.index_bits,
        cost,
        figures["kept_saliency_ratio"],
    )
    row("bitmap", "largest weights", exact.index_bits, exact, 1.0)
    row(
        "entropy, a bound",
        "largest weights",
        figures["magnitude_entropy_bits_per_weight"] * weights - exact.value_bits,
        exact,
        1.0,
    )
    filters, inputs = SLOT_LAYER
    table.caption = (
        "Values of the largest weights without history (one word a slice, as published):"
        f" {figures['magnitude_value_ratio_no_history']:.3f} of those cared for.\nSlots of a packed {filters}"
        f" x {inputs} int8 layer, {figures['slot_used']:.0%} used: {figures['slot_bits']} bits plain,"
        f" {figures['slot_stored_bits']:.2f} stored, with words of {figures['slot_inputs']} bits and"
        f" {figures['slot_history']} before.\nIndex {figures['index_seconds']:.0f} s, values"
        f" {figures['encode_seconds']:.0f} s, all {figures['seconds']:.0f} s."
    )
    return table
