"""The image: bit layout, load packets, and a file that is refused when anything about it is wrong."""

from __future__ import annotations

import json
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pymodel.compiler.compile import compile_network
from pymodel.machine.config import CONFIGS, STREAMS, ArrayConfig
from pymodel.machine.errors import TatamiError
from pymodel.machine.image import Image
from pymodel.machine.memory import (
    Hold,
    Memory,
    Section,
    from_beats,
    header_beat,
    hold_packet,
    memories,
    packet,
    parse_packet,
    to_beats,
)
from pymodel.zoo import digits

ALL = list(CONFIGS.values())


def random_words(memory: Memory, rng: np.random.Generator, count: int) -> np.ndarray:
    words = memory.zeros(count)
    for i, field in enumerate(memory.fields):
        words[:, :, i] = rng.integers(field.low, field.high, (count, memory.repeat), endpoint=True)
    return words


@pytest.mark.parametrize("config", ALL, ids=lambda c: c.name)
def test_every_memory_word_survives_bytes_and_packets(config: ArrayConfig) -> None:
    rng = np.random.default_rng(1)
    for memory in memories(config).values():
        words = random_words(memory, rng, 7)
        words[0], words[1] = (
            [[f.low for f in memory.fields]] * memory.repeat,
            [[f.high for f in memory.fields]] * memory.repeat,
        )
        data = memory.encode(words)
        assert data.shape == (7, -(-memory.width // 8))
        np.testing.assert_array_equal(memory.decode(data), words)
        address = memory.depth - 7
        beats = packet(memory, Section(memory.name, address, words, memory.banks - 1)).beats
        assert from_beats(beats)[0] == header_beat(memory.destination, memory.banks - 1, 7, address)
        assert len(beats) == 1 + 7 * -(-memory.width // config.stream_bits)
        back = parse_packet(config, beats)
        assert (back.memory, back.address, back.bank) == (memory.name, address, memory.banks - 1)
        np.testing.assert_array_equal(back.words, words)


@pytest.mark.parametrize("bits", STREAMS)
def test_beats_are_the_documented_ones(bits: int) -> None:
    """Header and words each begin at a beat, least significant bits first."""
    config = replace(CONFIGS["16x8"], stream_bits=bits)
    rng = np.random.default_rng(bits)
    for name in ("LANE", "SLOT", "EDGE"):  # 11, 176 and 272 bits
        spec = memories(config)[name]
        words = random_words(spec, rng, 3)
        wanted = [header_beat(spec.destination, 0, 3, 5)]
        for row in spec.encode(words):
            value = int.from_bytes(row.tobytes(), "little")
            wanted += [value >> low & (1 << bits) - 1 for low in range(0, spec.width, bits)]
        beats = packet(spec, Section(name, 5, words)).beats
        assert beats.nbytes == len(wanted) * bits // 8
        assert from_beats(beats) == wanted
        np.testing.assert_array_equal(to_beats(wanted, bits), beats)
    assert from_beats(hold_packet(config, Hold(3)).beats) == [header_beat(0x8F, 0, 3, 0)]


def test_layout_is_the_documented_one() -> None:
    """Fields of a few words, placed by hand as docs/formats.md says."""
    spec = memories(CONFIGS["16x8"])
    slot = spec["SLOT"].zeros(1)
    slot[0, 0], slot[0, 15] = (-1, 5), (3, 7)
    value = int.from_bytes(spec["SLOT"].encode(slot).tobytes(), "little")
    assert value == (0xFF | 5 << 8) | (3 | 7 << 8) << 15 * 11
    group = spec["GROUP"].zeros(1)
    group[0, 2] = (1, 300, 9)
    assert (
        int.from_bytes(spec["GROUP"].encode(group).tobytes(), "little") == (1 | 300 << 1 | 9 << 10) << 2 * 18
    )
    filt = spec["FILTER"].zeros(1)
    filt[0, 0] = (-2, 40000, 33, -3, -128, 6, 1, 7, 511)
    clamps = 0xFD << 54 | 0x80 << 62 | 6 << 70
    want = 0xFFFFFFFE | 40000 << 32 | 33 << 48 | clamps | 1 << 78 | 7 << 79 | 511 << 83
    assert int.from_bytes(spec["FILTER"].encode(filt).tobytes(), "little") == want
    tap = spec["TAP"].zeros(1)
    tap[0, 0] = (-1, -4, 4)
    assert int.from_bytes(spec["TAP"].encode(tap).tobytes(), "little") == 0x3FFF | 0x1C << 14 | 0x4 << 19
    edge = spec["EDGE"].zeros(1)
    edge[0, 1] = (1, 4, 3, 2, 15)
    assert (
        int.from_bytes(spec["EDGE"].encode(edge).tobytes(), "little")
        == (1 | 4 << 1 | 3 << 5 | 2 << 9 | 15 << 13) << 17
    )


@pytest.mark.parametrize("config", ALL, ids=lambda c: c.name)
def test_a_value_too_large_for_its_field_is_refused_by_name(config: ArrayConfig) -> None:
    for memory in memories(config).values():
        for i, field in enumerate(memory.fields):
            for value in (field.low - 1, field.high + 1):
                words = memory.zeros(3)
                words[2, memory.repeat - 1, i] = value
                with pytest.raises(
                    TatamiError, match=rf"{memory.name}, word 2: {field.name} is {value}, must be in"
                ):
                    memory.encode(words)


@pytest.fixture(scope="module")
def image() -> Image:
    return compile_network(digits.load().network, CONFIGS["16x8"])


def test_file_round_trip(image: Image, tmp_path: Path) -> None:
    path = tmp_path / "digits.tatami"
    image.save(path)
    back = Image.load(path, image.config)
    for a, b in zip(image.sections, back.sections, strict=True):
        assert (a.memory, a.address, a.bank) == (b.memory, b.address, b.bank)
        np.testing.assert_array_equal(a.words, b.words)
    for name in (
        "network",
        "scheme",
        "placements",
        "layers",
        "output",
        "run_start",
        "dump_start",
        "dumps",
        "stats",
    ):
        assert getattr(back, name) == getattr(image, name), name


def test_a_file_is_for_every_width_of_the_load_stream(image: Image, tmp_path: Path) -> None:
    path = tmp_path / "digits.tatami"
    image.save(path)
    for bits in STREAMS:
        wide = replace(image.config, stream_bits=bits)
        back = Image.load(path, wide)
        assert back.config == wide
        again = tmp_path / "again"
        back.save(again)
        assert again.read_bytes() == path.read_bytes()
        for mine, one in zip(back.packets(), image.packets(), strict=True):
            section, other = parse_packet(wide, mine.beats), parse_packet(image.config, one.beats)
            np.testing.assert_array_equal(section.words, other.words)


def refused(path: Path, config: ArrayConfig, what: str) -> None:
    with pytest.raises(TatamiError, match=what) as caught:
        Image.load(path, config)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_damaged_files_are_refused_with_file_and_field(image: Image, tmp_path: Path) -> None:
    path = tmp_path / "digits.tatami"
    image.save(path)
    whole = path.read_bytes()
    rng = np.random.default_rng(2)
    for cut in (0, 5, 15, 16, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        refused(path, image.config, "magic|cut short")
    path.write_bytes(whole + b"x")
    refused(path, image.config, "follow the last section")
    path.write_bytes(b"PNG" + whole[3:])
    refused(path, image.config, "magic")
    path.write_bytes(whole)
    for position in rng.integers(0, len(whole), 60):
        spoiled = bytearray(whole)
        spoiled[position] ^= 1 << int(rng.integers(8))
        path.write_bytes(bytes(spoiled))
        refused(path, image.config, "magic|version|checksum|cut short|header")
    refused(tmp_path / "missing", image.config, "cannot be read")


def test_a_file_of_another_version_is_refused_by_its_number(image: Image, tmp_path: Path) -> None:
    path = tmp_path / "digits.tatami"
    image.save(path)
    raw = path.read_bytes()
    for version in (1, 3):
        path.write_bytes(raw[:7] + bytes([version]) + raw[8:])
        refused(path, image.config, f"format version is {version}, must be 2")


def test_a_file_for_another_configuration_is_refused(image: Image, tmp_path: Path) -> None:
    path = tmp_path / "digits.tatami"
    image.save(path)
    refused(path, CONFIGS["8x4"], "config field size is 16, the machine '8x4' has 8")


def test_a_file_from_before_there_was_a_decoder_is_of_a_machine_without(image: Image, tmp_path: Path) -> None:
    path = tmp_path / "digits.tatami"
    image.save(path)
    raw = path.read_bytes()
    length = int.from_bytes(raw[8:12], "little")
    header = json.loads(raw[16 : 16 + length])
    for field in ("xor_inputs", "xor_history", "xor_seed"):
        del header["config"][field]
    text = json.dumps(header).encode()
    path.write_bytes(raw[:8] + struct.pack("<II", len(text), zlib.crc32(text)) + text + raw[16 + length :])
    np.testing.assert_array_equal(
        Image.load(path, image.config).section("SLOT").words, image.section("SLOT").words
    )
    refused(
        path, replace(image.config, xor_inputs=8), "config field xor_inputs is 0, the machine '16x8' has 8"
    )


def test_a_section_that_does_not_fit_is_refused(image: Image) -> None:
    config = image.config
    long = Section("TILE", config.tile_depth - 1, memories(config)["TILE"].zeros(2))
    with pytest.raises(
        TatamiError, match=f"TILE needs {config.tile_depth + 1} words, config '16x8' has {config.tile_depth}"
    ):
        Image(**{**vars(image), "sections": (*image.sections, long)})
