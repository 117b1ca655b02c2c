"""Rows of slots as a machine with an XOR decoder stores them: what is encoded comes back, and what is damaged
is named.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pymodel.compiler.compile import compile_network
from pymodel.machine.config import CONFIGS, XOR_PATCHES, ArrayConfig
from pymodel.machine.errors import ErrorCode, TatamiError
from pymodel.machine.faults import ProgramError
from pymodel.machine.image import Image
from pymodel.machine.memory import columns, slot_row
from pymodel.machine.model import Machine
from pymodel.machine.slot_rows import (
    RAW,
    decode_tile,
    encode_tile,
    image_rows,
    image_tiles,
    row_length,
    spread,
    store_rows,
    stored_bits,
    with_decoder,
)
from pymodel.zoo.random_network import random_program

IntArray = npt.NDArray[np.int64]

XOR = CONFIGS["8x4x"]
WIDE = ArrayConfig("wide", xor_inputs=96, xor_history=3, xor_seed=7)
DIGITS = ArrayConfig("digits", size=8, group=16, weight_bits=4, xor_inputs=30)
SMALL = ArrayConfig("small", size=4, group=2, xor_inputs=8, xor_history=12)


def random_rows(rng: np.random.Generator, config: ArrayConfig, rows: int, density: float) -> IntArray:
    """Rows of slots int64 [rows, T, fields]; a slot without a weight is all zeros."""
    memory = slot_row(config)
    found = memory.zeros(rows)
    for place, field in enumerate(memory.fields):
        found[:, :, place] = rng.integers(field.low, field.high, found.shape[:2], endpoint=True)
    found[(rng.random(found.shape[:2]) >= density) | (columns("SLOT", found).weight == 0)] = 0
    return found


@settings(max_examples=80, deadline=None)
@given(
    config=st.sampled_from([XOR, WIDE, DIGITS, SMALL]),
    seed=st.integers(0, 2**31),
    passes=st.integers(1, 4),
    density=st.sampled_from([0.0, 0.1, 0.4, 0.5, 0.6, 0.9, 1.0]),
)
@example(config=SMALL, seed=0, passes=1, density=1.0)
@example(config=WIDE, seed=0, passes=4, density=0.0)
def test_any_rows_come_back(config: ArrayConfig, seed: int, passes: int, density: float) -> None:
    rng = np.random.default_rng(seed)
    rows = random_rows(rng, config, passes * config.size, density)
    words = encode_tile(config, rows)
    # whatever lies behind it
    behind = rng.integers(0, 2, (3, config.slot_word_bits, 1))
    found = decode_tile(config, np.concatenate([words, behind]), len(rows))
    assert found.fault is None
    assert np.array_equal(found.rows, rows)
    # nothing is longer than it says, and never longer than plain rows
    lengths = np.diff(found.ends, prepend=0)
    assert [row_length(config, int(p)) for p in found.patches] == lengths.tolist()
    assert lengths.max() <= config.slot_word_bits
    assert len(words) == -(-int(lengths.sum()) // config.slot_word_bits)


def test_every_kind_of_row_is_met() -> None:
    rows = random_rows(np.random.default_rng(1), XOR, 400, 0.52)
    patches = decode_tile(XOR, encode_tile(XOR, rows), 400).patches
    assert set(patches.tolist()) == {*range(XOR_PATCHES + 1), RAW}


def test_an_order_that_takes_fewer_bits() -> None:
    rng = np.random.default_rng(2)
    bits = dict.fromkeys(("drawn", "spread"), 0)
    for _ in range(10):
        rows = random_rows(rng, XOR, 32, 0.5)
        order = spread(XOR, rows)
        assert sorted(order.tolist()) == list(range(32))
        for name, some in (("drawn", rows), ("spread", rows[order])):
            bits[name] += int(decode_tile(XOR, encode_tile(XOR, some), 32).ends[-1])
    assert bits["spread"] < 0.98 * bits["drawn"]


# Damage


def damaged(words: IntArray, *fields: tuple[int, int, int]) -> IntArray:
    """The words with (bit, width, value) written into them."""
    changed = words.copy()
    flat = changed.reshape(-1)
    for at, bits, value in fields:
        flat[at : at + bits] = value >> np.arange(bits) & 1
    return changed


PATCHES_AT = row_length(XOR, 0)
DAMAGE = [
    ([(0, 3, 5)], "row 0 of slots: 5 patches, must be at most 4 or 7"),
    ([(0, 3, 6)], "row 0 of slots: 6 patches, must be at most 4 or 7"),
    ([(0, 3, 1), (PATCHES_AT, 7, 80)], "row 0 of slots: patch 0 is at 80, must be in 0..79"),
    (
        [(0, 3, 2), (PATCHES_AT, 7, 9), (PATCHES_AT + 7, 7, 9)],
        "row 0 of slots: patch 1 is at 9, must be in 10..79",
    ),
    (
        [(0, 3, 2), (PATCHES_AT, 7, 9), (PATCHES_AT + 7, 7, 3)],
        "row 0 of slots: patch 1 is at 3, must be in 10..79",
    ),
]


@pytest.mark.parametrize(("fields", "message"), DAMAGE, ids=[message for _, message in DAMAGE])
def test_a_damaged_row_is_named(fields: list[tuple[int, int, int]], message: str) -> None:
    words = damaged(encode_tile(XOR, random_rows(np.random.default_rng(3), XOR, 8, 0.2)), *fields)
    fault = decode_tile(XOR, words, 8).fault
    assert fault is not None
    assert (fault.code, fault.row, fault.word, fault.what) == (ErrorCode.SLOT_CODE, 0, 0, message)


def test_rows_beyond_the_memory() -> None:
    rows = random_rows(np.random.default_rng(4), XOR, 8, 0.2)
    words = encode_tile(XOR, rows)
    found = decode_tile(XOR, words[:-1], 8)
    assert found.fault is not None
    assert (found.fault.code, found.fault.word) == (ErrorCode.SLOT_RANGE, len(words) - 1)
    assert np.array_equal(found.rows[: found.fault.row], rows[: found.fault.row])
    assert not found.rows[found.fault.row :].any()
    # a row that is wrong before is found first
    broken = decode_tile(XOR, damaged(words[:-1], (0, 3, 5)), 8).fault
    assert broken is not None
    assert (broken.code, broken.row) == (ErrorCode.SLOT_CODE, 0)


def machine_with(image: Image) -> Machine:
    machine = Machine(image.config)
    machine.load(image.sections)
    return machine


def test_the_machine_stops_at_a_bad_row() -> None:
    _, image = random_program(np.random.default_rng(5), XOR)
    run = machine_with(image).run(image.run_start)
    slot, tile = image.section("SLOT").words, image.section("TILE").words.copy()
    slot_base = columns("TILE", tile).slot_base[:, 0]
    base = int(slot_base[0])
    bad = image.with_words(
        SLOT=np.concatenate([slot[:base], damaged(slot[base : base + 1], (0, 3, 5)), slot[base + 1 :]])
    )
    with pytest.raises(
        ProgramError, match=re.escape(f"SLOT_CODE (14), info {base}: tile 0, row 0 of slots")
    ) as caught:
        machine_with(bad).run(image.run_start)
    assert caught.value.cycle < run.cycles
    slot_base[0] = 65535
    with pytest.raises(
        ProgramError,
        match=re.escape("SLOT_RANGE (13), info 65535: tile 0, row 0 of slots ends beyond the memory"),
    ):
        machine_with(image.with_words(TILE=tile)).run(image.run_start)


# Images


def test_an_image_is_the_same_with_and_without(tmp_path: Path) -> None:
    """The same rows, lane by lane of a tile in some order, in as many cycles but for the gaps, which go by
    the order of the lanes.
    """
    network, _ = random_program(np.random.default_rng(6), XOR)
    image, plain = (
        compile_network(network, config, seed=6)
        for config in (XOR, replace(XOR, name="plain", xor_inputs=0, xor_history=0))
    )
    runs = [machine_with(one).run(one.run_start) for one in (image, plain)]
    assert [layer.run_cycles for layer in runs[0].layers] == [layer.run_cycles for layer in runs[1].layers]
    for stored, rows in zip(image_tiles(image), image_tiles(plain), strict=True):
        assert sorted(map(bytes, stored)) == sorted(map(bytes, rows))
    assert image.bits()["SLOT"] < plain.bits()["SLOT"]
    tiles, slot = store_rows(XOR, image.section("TILE").words, image_rows(image))
    assert np.array_equal(tiles, image.section("TILE").words)
    assert np.array_equal(slot, image.section("SLOT").words)
    image.save(tmp_path / "image")
    assert np.array_equal(image_rows(Image.load(tmp_path / "image", XOR)), image_rows(image))


@pytest.mark.parametrize(("density", "most"), [(0.1, 0.35), (0.5, 0.75), (1.0, 1.05)])
def test_the_decoder_that_suits(density: float, most: float) -> None:
    config: Any = ArrayConfig("array")
    tiles = [random_rows(np.random.default_rng(n), config, 32, density) for n in range(3)]
    found = with_decoder(config, tiles)
    assert found.name == f"arrayx{found.xor_inputs}"
    share = stored_bits(found, tiles) / stored_bits(config, tiles)
    assert share < most
    for inputs in (8, 40, 72, 104):
        assert stored_bits(replace(found, xor_inputs=inputs, xor_history=2), tiles) >= 0.99 * stored_bits(
            found, tiles
        )


def test_an_array_whose_rows_are_too_short() -> None:
    short = ArrayConfig("short", size=4, group=2, weight_bits=4)
    with pytest.raises(
        TatamiError, match="config 'short': rows of 24 bits leave no room for patches: no XOR decoder fits"
    ):
        with_decoder(short, [])
