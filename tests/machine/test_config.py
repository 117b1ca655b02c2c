"""Configurations: the named ones are legal, the rest is refused by name."""

from __future__ import annotations

from dataclasses import replace

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
        ("stream_bits", 96),
        ("stream_bits", 512),
        ("hop", 3),
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
    for name in ("8x4s", "8x4s96", "huges128", "8x4s128s128"):
        with pytest.raises(TatamiError, match=rf"CONFIG '{name}' is unknown; .*; s128 or s256 behind a name"):
            get_config(name)


def test_a_name_with_a_width_has_a_wider_stream() -> None:
    for name, bits in (("16x16s256", 256), ("4x2ts128", 128)):
        config = get_config(name)
        assert config.name == name
        assert config == replace(CONFIGS[name.removesuffix(f"s{bits}")], name=name, stream_bits=bits)
    assert get_config("8x4s128") is CONFIGS["8x4s128"]
    assert CONFIGS["8x4s128"] == replace(CONFIGS["8x4"], name="8x4s128", stream_bits=128)


def test_a_name_with_hops_has_them() -> None:
    assert get_config("16x16h4") == replace(CONFIGS["16x16"], name="16x16h4", hop=4)
    assert get_config("8x4s256h2") == replace(CONFIGS["8x4"], name="8x4s256h2", stream_bits=256, hop=2)
    assert get_config("4x2th4") == replace(CONFIGS["4x2t"], name="4x2th4", hop=4)
    with pytest.raises(TatamiError, match="config '4x2h8': hop is 8, must be at most 4, the columns"):
        get_config("4x2h8")
    for name in ("8x4h", "8x4h3", "8x4h2s128", "8x4h1"):
        with pytest.raises(TatamiError, match=rf"CONFIG '{name}' is unknown; .*; h2, h4, h8 or h16 behind"):
            get_config(name)


def test_the_page_of_parameters_is_the_table() -> None:
    assert parameters.FILE.read_text() == parameters.render(), (
        "docs/parameters.md differs from pymodel/machine/config.py: run python -m scripts.parameters"
    )
