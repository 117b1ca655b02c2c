"""XOR-encoded weights: what is cared for comes back, from the bytes that are counted, and damage is named."""

from __future__ import annotations

import io
import itertools
import struct
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rich.console import Console

from pymodel.bench import mask_factors
from pymodel.bench import xor as bench
from pymodel.bench.mask_factors import (
    MaskFactors,
    bitmap,
    entropy_bits,
    factorise,
    factors_from_bytes,
    saliency_kept,
)
from pymodel.machine import xor_network
from pymodel.machine.errors import TatamiError
from pymodel.machine.xor_network import (
    XorNetwork,
    XorStream,
    choose_network,
    decode,
    encode,
    encode_best,
    stream_cost,
    stream_from_bytes,
)

Array = np.ndarray[Any, np.dtype[Any]]


def random_bits(seed: int, length: int, density: float) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    return rng.random(length) < 0.5, rng.random(length) < density


def field(data: bytes, bit: int, bits: int) -> int:
    """Bits of a stream as docs/formats.md numbers them."""
    return int.from_bytes(data, "little") >> bit & ((1 << bits) - 1)


def slow_decode(data: bytes) -> list[int]:
    """A decoder written from docs/formats.md alone: header, shift register of words, XOR gates, then the
    patches.
    """
    inputs, outputs, history = struct.unpack_from("<HHH", data)
    gap_bits, seed, length, entries = data[6], *struct.unpack_from("<IQI", data, 8)
    window = inputs * (history + 1)
    taps = [[o] for o in range(outputs)]
    if inputs != outputs:
        taps = [[] for _ in range(outputs)]
        for output, tap in itertools.product(range(outputs), range(7)):
            x = (seed + 7 * output + tap) % 2**32
            x = (x ^ x >> 16) * 0x7FEB352D % 2**32
            x = (x ^ x >> 15) * 0x846CA68B % 2**32
            x ^= x >> 16
            taps[output].append(x * (inputs if tap < 2 else window) >> 32)
    slices = -(-length // outputs)
    words = slices + history if slices else 0
    values = data[24 : 24 + -(-words * inputs // 8)]
    patches = data[24 + len(values) :]
    out = []
    shift = [0] * (history + 1)  # the newest word first
    for word in range(words):
        shift = [field(values, word * inputs, inputs), *shift[:-1]]
        if word >= history:
            out += [sum(shift[tap // inputs] >> tap % inputs & 1 for tap in gate) % 2 for gate in taps]
    out = out[:length]
    position = 0
    for entry in range(entries):
        gap = field(patches, entry * gap_bits, gap_bits)
        position += gap
        if gap != 2**gap_bits - 1:
            out[position] ^= 1
            position += 1
    return out


def rank(matrix: Array) -> int:
    """Rank over GF(2) of a matrix of bits."""
    rows = [int("".join(map(str, row)), 2) for row in matrix.astype(int)]
    found = 0
    while rows:
        pivot = rows.pop()
        if pivot:
            found += 1
            rows = [row ^ pivot if row & (pivot & -pivot) else row for row in rows]
    return found


# The network.


PINNED = [[0, 2, 6, 11, 10, 16, 4], [2, 0, 11, 4, 12, 17, 2], [0, 0, 1, 2, 5, 9, 3], [1, 0, 8, 3, 10, 9, 17]]


def test_network_is_pinned() -> None:
    """Hardware follows from this: it must never change for a seed."""
    network = XorNetwork(inputs=3, outputs=4, seed=3, history=5)
    assert network.taps.tolist() == PINNED
    assert network.window == 18
    assert network.matrix.shape == (4, 18)
    for row, taps in zip(network.matrix, PINNED, strict=True):
        odd = [tap for tap, times in Counter(taps).items() if times % 2]
        assert sorted(odd) == np.flatnonzero(row).tolist()


def test_network_of_full_width_is_wires() -> None:
    assert np.array_equal(XorNetwork(6, 6, seed=99).matrix, np.eye(6))


def test_every_output_depends_on_something() -> None:
    """Taps may come twice and cancel out, never all of them; the first two are of the slice's own word."""
    network = XorNetwork(2, 50, history=2)
    assert network.taps.shape == (50, 7)
    assert (network.matrix.sum(axis=1) % 2 == 1).all()
    assert (network.taps[:, :2] < 2).all()
    assert (network.taps[:, 2:] >= 2).any()
    assert (XorNetwork(40, 50, seed=2).taps != XorNetwork(40, 50, seed=3).taps).any()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ((0, 8, 1, 0), "xor network: inputs is 0, must be in 1..8"),
        ((9, 8, 1, 0), "xor network: inputs is 9, must be in 1..8"),
        ((1, 0, 1, 0), "xor network: outputs is 0, must be in 1..4096"),
        ((1, 5000, 1, 0), "xor network: outputs is 5000, must be in 1..4096"),
        ((4, 8, 0, 0), "xor network: seed is 0, must be in 1..4294967295"),
        ((4, 8, 1, -1), "xor network: history is -1"),
        ((8, 16, 1, 1024), r"xor network: inputs \* .history . 1. is 8200, must be at most 8192"),
        ((8, 8, 1, 1), "xor network: history is 1, must be 0 where inputs equal outputs"),
    ],
)
def test_network_out_of_range(fields: tuple[int, int, int, int], message: str) -> None:
    with pytest.raises(TatamiError, match=message):
        XorNetwork(*fields)


# Values.


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    length=st.integers(0, 400),
    outputs=st.integers(1, 70),
    share=st.floats(0, 1),
    history=st.integers(0, 9),
    density=st.sampled_from([0.0, 0.05, 0.3, 0.7, 1.0]),
)
@example(seed=0, length=0, outputs=8, share=0.5, history=2, density=1.0)
@example(seed=0, length=1, outputs=64, share=0.0, history=0, density=1.0)
# one past a slice, all cared for, one bit stored for 64
@example(seed=0, length=65, outputs=64, share=0.0, history=9, density=1.0)
@example(seed=0, length=128, outputs=64, share=1.0, history=0, density=1.0)
@example(seed=1, length=400, outputs=7, share=0.5, history=9, density=0.6)
# a window of several 64-bit words
@example(seed=1, length=400, outputs=70, share=0.9, history=9, density=0.9)
def test_cared_for_bits_come_back(
    seed: int, length: int, outputs: int, share: float, history: int, density: float
) -> None:
    bits, care = random_bits(seed, length, density)
    inputs = max(1, round(share * outputs))
    network = XorNetwork(inputs, outputs, seed + 1, 0 if inputs == outputs else history)
    stream = encode(bits, care, network)
    decoded = decode(stream)
    assert decoded.shape == (length,)
    assert np.array_equal(decoded[care], bits[care])
    data = stream.to_bytes()
    assert slow_decode(data) == decoded.tolist()
    assert np.array_equal(decode(stream_from_bytes(data)), decoded)
    positions = stream.positions()
    assert care[positions].all()
    assert (np.diff(positions) > 0).all()
    if network.wires:
        assert len(positions) == 0


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    outputs=st.integers(2, 90),
    inputs=st.integers(1, 40),
    history=st.integers(0, 6),
    density=st.sampled_from([0.2, 0.5, 1.0]),
)
def test_as_many_equations_hold_as_the_rank(
    seed: int, outputs: int, inputs: int, history: int, density: float
) -> None:
    """The elimination in a ring against the rank of the whole system, and what is inconsistent is about half
    of the rest.
    """
    network = XorNetwork(min(inputs, outputs - 1), outputs, seed + 1, history)
    slices = 5
    bits, care = random_bits(seed, slices * outputs, density)
    system = np.zeros((slices * outputs, (slices + history) * network.inputs), np.uint8)
    for s, o in itertools.product(range(slices), range(outputs)):
        for tap in network.taps[o]:
            system[
                s * outputs + o, (s + history - tap // network.inputs) * network.inputs + tap % network.inputs
            ] ^= 1
    stream = encode(bits, care, network)
    assert len(stream.positions()) <= care.sum() - rank(system[care])
    if len(stream.positions()):  # the first patch is for an equation that contradicts those before it
        first = int(stream.positions()[0])
        before = care & (np.arange(len(care)) < first)
        upto = care & (np.arange(len(care)) <= first)
        augmented = np.column_stack([system, bits.astype(np.uint8)])
        assert rank(augmented[before]) == rank(system[before])
        assert rank(augmented[upto]) > rank(system[upto])


def test_bits_and_care_of_any_shape_but_the_same() -> None:
    bits, care = random_bits(1, 60, 0.4)
    network = XorNetwork(4, 9, history=3)
    assert (
        encode(bits.reshape(3, 20), care.reshape(3, 20), network).to_bytes()
        == encode(bits, care, network).to_bytes()
    )
    with pytest.raises(TatamiError, match=r"bits have shape .60,., care has .3, 20., must be the same"):
        encode(bits, care.reshape(3, 20), network)


# Patches.


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 5000), st.sets(st.integers(0, 4999), max_size=40))
@example(5000, {4999})
@example(5000, set())
@example(10, set(range(10)))
def test_patches_flip_their_positions_in_order(length: int, wanted: set[int]) -> None:
    positions = np.array(sorted(p for p in wanted if p < length), np.int64)
    network = XorNetwork(1, 16)
    stream = xor_network._finish(network, length, np.zeros(-(-length // 16), np.uint8), positions)
    assert np.array_equal(stream.positions(), positions)
    assert np.array_equal(np.flatnonzero(decode(stream)), positions)
    assert slow_decode(stream.to_bytes()) == decode(stream).tolist()
    gaps = np.diff(positions, prepend=-1) - 1
    assert all(
        stream.entries * stream.gap_bits <= w * sum(int(g) // (2**w - 1) + 1 for g in gaps)
        for w in range(1, 17)
    )


def test_busiest_slice_counts_entries_that_end_in_it() -> None:
    positions = np.array([3, 17, 18, 25, 900])
    stream = xor_network._finish(XorNetwork(1, 16), 1000, np.zeros(63, np.uint8), positions)
    fields = [
        field(stream.patches.tobytes(), i * stream.gap_bits, stream.gap_bits) for i in range(stream.entries)
    ]
    ends, position = [], 0
    for value in fields:
        flip = value != 2**stream.gap_bits - 1
        position += value + flip
        ends.append((position - 1) // 16)
    assert stream.busiest() == max(ends.count(s) for s in ends) >= 3
    none = xor_network._finish(XorNetwork(1, 16), 1000, np.zeros(63, np.uint8), positions[:0])
    assert none.busiest() == 0
    # two that only move on, and a flip
    skips = replace(none, gap_bits=2, entries=3, patches=np.array([0b001111], np.uint8))
    assert (skips.busiest(), skips.positions().tolist()) == (3, [6])


# Damage.


def damaged() -> XorStream:
    bits, care = random_bits(5, 300, 1.0)
    stream = encode(bits, care, XorNetwork(3, 20, history=1))
    assert stream.entries > 20
    return stream


def test_stream_cut_short_anywhere_or_too_long() -> None:
    data = damaged().to_bytes()
    for size in range(len(data)):
        with pytest.raises(TatamiError, match=rf"layer 7: {size} bytes, must be "):
            stream_from_bytes(data[:size], "layer 7")
    with pytest.raises(TatamiError, match=rf"layer 7: {len(data) + 1} bytes, must be {len(data)} "):
        stream_from_bytes(data + b"\0", "layer 7")


def test_count_beyond_the_list() -> None:
    stream = damaged()
    more = replace(stream, entries=stream.entries + 8)
    with pytest.raises(
        TatamiError,
        match=rf"patches are {stream.patches.size} bytes, must be .* .{stream.entries + 8} entries of",
    ):
        decode(more)
    with pytest.raises(TatamiError, match=rf"w: .* bytes, must be .*{stream.entries + 8} patch entries"):
        stream_from_bytes(more.to_bytes(), "w")


def test_patch_outside_the_stream() -> None:
    network = XorNetwork(1, 16)
    stream = xor_network._finish(network, 40, np.zeros(3, np.uint8), np.array([7, 39]))
    with pytest.raises(TatamiError, match=r"layer 7: patch entry 1 reaches bit 39, must be in 0..38"):
        decode(replace(stream, length=39), "layer 7")  # still in the last slice, but past what it holds
    skip = replace(stream, gap_bits=8, entries=2, patches=np.array([7, 255], np.uint8))
    with pytest.raises(TatamiError, match=r"patch entry 1 reaches bit 262, must be in 0..39"):
        decode(skip)


@pytest.mark.parametrize(
    ("at", "value", "message"),
    [
        (0, struct.pack("<H", 21), "w: xor network: inputs is 21, must be in 1..20"),
        (2, struct.pack("<H", 0), "w: xor network: outputs is 0"),
        (4, struct.pack("<H", 60000), "w: xor network: history is 60000"),
        (6, b"\0", "w: gap_bits is 0, must be in 1..16"),
        (6, b"\x11", "w: gap_bits is 17, must be in 1..16"),
        (8, struct.pack("<I", 0), "w: xor network: seed is 0"),
        (12, struct.pack("<Q", 2**60), "w: .* bytes, must be"),
    ],
)
def test_header_out_of_range(at: int, value: bytes, message: str) -> None:
    data = damaged().to_bytes()
    with pytest.raises(TatamiError, match=message):
        stream_from_bytes(data[:at] + value + data[at + len(value) :], "w")


def test_values_of_the_wrong_size() -> None:
    stream = damaged()
    with pytest.raises(TatamiError, match=r"x: values are 5 bytes, must be 6 .16 words of 3 bits."):
        decode(replace(stream, values=stream.values[:-1]), "x")


# Choice of the network, and what it all takes.


@pytest.mark.parametrize("density", [0.0, 0.09, 0.5, 1.0])
def test_best_network(density: float) -> None:
    bits, care = random_bits(3, 200 * 176 + 5, density)
    stream = encode_best(bits, care, 176, window=256)
    assert np.array_equal(decode(stream)[care], bits[care])
    cost = stream_cost(stream, care, 1000, 77)
    assert cost.care_bits == care.sum()
    assert (
        cost.value_bits == 8 * len(stream.to_bytes()) == 8 * (24 + stream.values.size + stream.patches.size)
    )
    assert cost.stored_bits == cost.value_bits + 77 == round(1000 * cost.bits_per_weight)
    assert stream.values.size == -(-stream.words * stream.network.inputs // 8)
    assert cost.patch_bits == 8 * -(-stream.entries * stream.gap_bits // 8)
    if density:
        assert 1 < cost.value_ratio < {0.09: 1.2, 0.5: 1.03, 1.0: 1.011}[density]
    with pytest.raises(TatamiError, match="window is 0, must be in"):
        choose_network(bits, care, 40, window=0)


def test_the_whole_stream_may_ask_for_a_wider_word(monkeypatch: pytest.MonkeyPatch) -> None:
    """More is cared for in what lies between the parts of the sample than in these."""
    monkeypatch.setattr(xor_network, "SAMPLE", 8 * 20 * 40)
    bits, care = random_bits(4, 1000 * 40, 0.25)
    for start in range(0, 1000, 140):
        care[start * 40 : (start + 20) * 40] &= np.random.default_rng(start).random(20 * 40) < 0.2
    seen = choose_network(bits, care, 40, window=64)
    best = encode_best(bits, care, 40, window=64)
    assert best.network.inputs > seen.inputs
    assert len(best.to_bytes()) < len(encode(bits, care, seen).to_bytes())
    assert np.array_equal(decode(best)[care], bits[care])


def test_values_take_little_more_than_what_is_cared_for() -> None:
    bits, care = random_bits(6, 1 << 18, 0.09)
    ratio = stream_cost(encode_best(bits, care, 512), care, care.size).value_ratio
    without = stream_cost(encode_best(bits, care, 512, window=1), care, care.size).value_ratio
    assert 1 < ratio < 1.06 < 1.15 < without


# Index.


def slow_mask(data: bytes) -> Array:
    """The mask from its bytes, as docs/formats.md says it."""
    rows, columns, m, n, rank = struct.unpack_from("<IIBBB", data)
    mask = np.zeros((rows, columns), bool)
    bit = 0
    for i, j in itertools.product(range(0, rows, m), range(0, columns, n)):
        for _ in range(rank):
            column, row = (
                np.array([field(data[12:], bit + b, 1) for b in span], bool)
                for span in (range(m), range(m, m + n))
            )
            bit += m + n
            mask[i : i + m, j : j + n] |= np.outer(column, row)[: rows - i, : columns - j]
    return mask


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    shape=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    tile=st.tuples(st.integers(1, 6), st.integers(1, 20)),
    rank=st.integers(1, 3),
    sparsity=st.sampled_from([0.0, 0.5, 0.91, 0.99]),
)
@example(seed=0, shape=(1, 1), tile=(6, 20), rank=1, sparsity=0.0)
def test_mask_stored_is_the_mask_decoded(
    seed: int, shape: tuple[int, int], tile: tuple[int, int], rank: int, sparsity: float
) -> None:
    weight = np.random.default_rng(seed).standard_normal(shape)
    factors = factorise(weight, sparsity, tile, rank)
    mask = factors.mask()
    data = factors.to_bytes()
    assert np.array_equal(factors_from_bytes(data).mask(), mask)
    assert np.array_equal(slow_mask(data), mask)
    assert mask.sum() <= shape[0] * shape[1] * (1 - sparsity) + 1e-9
    tiles = -(-shape[0] // tile[0]) * -(-shape[1] // tile[1])
    assert len(data) == 12 + -(-tiles * rank * sum(tile) // 8)
    assert 0 <= saliency_kept(weight, mask) <= 1 + 1e-9


@pytest.mark.parametrize("price", [-3, 0, 20, 90])
def test_rectangle_is_the_best_there_is(price: int) -> None:
    """Against all sets of rows and columns."""
    tiles = np.random.default_rng(price + 3).integers(0, 100, (6, 4, 5)).astype(np.int32)
    bits, kept = mask_factors._search(tiles, 1, price)
    total = 0
    for tile, (rectangle,) in zip(tiles, bits, strict=True):
        gain = tile.astype(int) - price
        values = [
            gain[np.ix_(np.array(r, bool), np.array(c, bool))].sum()
            for r in itertools.product([0, 1], repeat=4)
            for c in itertools.product([0, 1], repeat=5)
        ]
        chosen = np.outer(rectangle[:4], rectangle[4:]).astype(bool)
        assert gain[chosen].sum() == max(values)
        total += int(chosen.sum())
    assert kept == total


def test_index_keeps_what_it_says() -> None:
    """Sparsity met from below within a thousandth, and far more saliency than chance; more rank
    keeps more.
    """
    weight = np.random.default_rng(2).standard_normal((256, 256)).astype(np.float32)
    factors = factorise(weight, 0.91)
    mask = factors.mask()
    keep = 256 * 256 - int(np.ceil(0.91 * 256 * 256))
    assert 0.999 * keep <= mask.sum() <= keep
    assert 0.65 < saliency_kept(weight, mask) < 0.7
    assert 8 * len(factors.to_bytes()) / weight.size == pytest.approx(24 / 128, abs=0.002)
    assert saliency_kept(weight, factorise(weight, 0.91, rank=2).mask()) > saliency_kept(weight, mask) + 0.05
    exact = np.zeros(weight.size, bool)
    exact[np.argsort(-np.abs(weight.ravel()))[: mask.sum()]] = True
    assert saliency_kept(weight, exact.reshape(weight.shape)) == pytest.approx(1)
    assert saliency_kept(weight, ~exact.reshape(weight.shape)) < 0.7


def test_sample_finds_the_same_price_as_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = np.random.default_rng(7).standard_normal((160, 160))
    whole = factorise(weight, 0.9, (4, 8)).mask()
    monkeypatch.setattr(mask_factors, "SAMPLE_TILES", 64)
    sampled = factorise(weight, 0.9, (4, 8)).mask()
    keep = 2560
    assert 0.995 * keep <= sampled.sum() <= keep
    assert 0.995 * keep <= whole.sum() <= keep


def test_exact_indexes_for_comparison() -> None:
    mask = np.arange(30).reshape(5, 6) % 4 == 0
    assert np.array_equal(np.unpackbits(bitmap(mask), count=30, bitorder="little"), mask.ravel())
    assert bitmap(mask).size == 4
    assert entropy_bits(np.arange(64) % 2 == 0) == pytest.approx(64)
    assert entropy_bits(np.arange(100) < 9) == pytest.approx(43.6470, abs=1e-3)
    assert entropy_bits(np.ones(9, bool)) == entropy_bits(np.zeros(0, bool)) == 0


def test_index_damage_and_limits() -> None:
    weight = np.random.default_rng(1).standard_normal((9, 17))
    factors = factorise(weight, 0.5)
    data = factors.to_bytes()
    for size in range(len(data)):
        with pytest.raises(TatamiError, match=rf"fc6: {size} bytes, must be"):
            factors_from_bytes(data[:size], "fc6")
    with pytest.raises(TatamiError, match="fc6: rank is 0, must be in 1..8"):
        factors_from_bytes(data[:10] + b"\0" + data[11:], "fc6")
    ones = np.full(factors.factors.size, 255, np.uint8)
    with pytest.raises(TatamiError, match=r"fc6: a rectangle has row 9, must be in 0..8"):
        replace(factors, factors=ones).mask("fc6")
    one = np.zeros_like(ones)
    one[6] = 1 << 1  # tile 2 begins with bit 48; its second row is row 9
    with pytest.raises(TatamiError, match=r"fc6: a rectangle has row 9, must be in 0..8"):
        replace(factors, factors=one).mask("fc6")
    with pytest.raises(TatamiError, match=r"index: a rectangle has column 17, must be in 0..16"):
        MaskFactors(8, 17, 8, 16, 1, ones[:6]).mask()
    with pytest.raises(TatamiError, match=r"index: factors are 11 bytes, must be 12 .4 tiles of rank 1."):
        replace(factors, factors=factors.factors[:-1]).mask()
    with pytest.raises(TatamiError, match="index: tile rows is 13, must be in 1..12"):
        factorise(weight, 0.5, (13, 4))
    with pytest.raises(TatamiError, match="index: weight holds a number that is not finite"):
        factorise(np.array([[1.0, np.nan]]), 0.5)
    with pytest.raises(TatamiError, match=r"index: weight has shape .0, 3., must be"):
        factorise(np.zeros((0, 3)), 0.5)


# The benchmark.


def test_bench_on_a_small_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "SLOT_LAYER", (32, 64))
    out = io.StringIO()
    figures = bench.run(Console(file=out, width=140), shape=(512, 512))
    assert "saliency kept" in out.getvalue()
    assert figures["value_ratio"] == pytest.approx(figures["value_bits"] / figures["care_bits"])
    assert figures["bits_per_weight"] * 512 * 512 == pytest.approx(
        figures["value_bits"] + figures["index_bits"]
    )
    assert figures["magnitude_value_ratio"] < 1.15
    assert figures["bits_per_weight"] < 0.29  # the large layer: below 0.28
    assert 0.91 <= figures["sparsity"] < 0.9102
    assert 0.65 < figures["kept_saliency_ratio"] < 0.7


def test_bench_sees_a_changed_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "decode", lambda stream: ~decode(stream))
    with pytest.raises(TatamiError, match=r"values under the exact mask: \d+ bits came back changed"):
        bench.run(Console(file=io.StringIO()), shape=(64, 64))
