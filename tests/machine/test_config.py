"""Configurations: the named ones are legal, the rest is refused by name."""

from __future__ import annotations

import pytest

from pymodel.machine.config import CONFIGS, ArrayConfig, get_config
from pymodel.machine.errors import TatamiError
from scripts import parameters


def test_named_configurations_cover_the_sizes() -> None:
    assert {(c.size, c.group) for c in CONFIGS.values()} >= {(4, 2), (8, 4), (16, 8), (16, 16)}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("size", 5),
        ("group", 3),
        ("weight_bits", 7),
        ("feature_depth", 3),
        ("feature_depth", 7),
        ("acc_words", 70000),
        ("tap_depth", 0),
        ("lane_depth", 8),
        ("filter_depth", 31),
    ],
)
def test_illegal_sizes_are_refused_by_name(field: str, value: int) -> None:
    with pytest.raises(TatamiError, match=rf"config 'odd': {field} is {value}"):
        ArrayConfig("odd", **{field: value})


@pytest.mark.parametrize(
    ("field", "value", "limit"),
    [
        ("xor_inputs", -1, "0..128"),
        ("xor_inputs", 129, "0..128"),
        ("xor_history", 1, "0..0"),
        ("xor_seed", 0, "1..2147483647"),
    ],
)
def test_an_xor_decoder_that_cannot_be_is_refused(field: str, value: int, limit: str) -> None:
    with pytest.raises(TatamiError, match=rf"config 'odd': {field} is {value}, must be in {limit}"):
        ArrayConfig("odd", **{field: value})
    with pytest.raises(TatamiError, match="config 'odd': xor_history is 8, must be in 0..7"):
        ArrayConfig("odd", xor_inputs=128, xor_history=8)


def test_unknown_name_lists_the_valid_ones() -> None:
    with pytest.raises(TatamiError, match=r"CONFIG 'huge' is unknown; valid: 16x8, 16x16, 8x4, 4x2"):
        get_config("huge")


def test_the_page_of_parameters_is_the_table() -> None:
    assert parameters.FILE.read_text() == parameters.render(), (
        "docs/parameters.md differs from pymodel/machine/config.py: run python -m scripts.parameters"
    )
