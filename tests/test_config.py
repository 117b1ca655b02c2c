"""Configurations: the named ones are legal, the rest is refused by name."""

from __future__ import annotations

import pytest

from pymodel.config import CONFIGS, ArrayConfig, get_config
from pymodel.errors import TatamiError


def test_named_configurations_cover_the_sizes() -> None:
    assert {(c.size, c.group) for c in CONFIGS.values()} >= {(4, 2), (8, 4), (16, 8), (16, 16)}


@pytest.mark.parametrize(
    ("field", "value"),
    [("size", 5), ("group", 3), ("weight_bits", 7), ("feature_depth", 3), ("feature_depth", 7), ("acc_words", 70000), ("tap_depth", 0)],
)
def test_illegal_sizes_are_refused_by_name(field: str, value: int) -> None:
    with pytest.raises(TatamiError, match=rf"config 'odd': {field} is {value}"):
        ArrayConfig("odd", **{field: value})


def test_unknown_name_lists_the_valid_ones() -> None:
    with pytest.raises(TatamiError, match=r"CONFIG 'huge' is unknown; valid: 16x8, 16x16, 8x4, 4x2"):
        get_config("huge")
