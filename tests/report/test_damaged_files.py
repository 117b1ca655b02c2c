"""Damaged files: each is read, or refused in one line; `TATAMI_DAMAGED=2000` makes that many of a kind."""

from __future__ import annotations

import copy
import json
import os
import random
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pymodel.machine.config import CONFIGS
from pymodel.machine.errors import TatamiError
from pymodel.machine.image import Image
from pymodel.machine.model import Machine
from pymodel.report import read_reports
from pymodel.zoo.random_network import random_program
from tb.debug import suspect
from tb.debug.suspect import Suspect

COUNT = int(os.environ.get("TATAMI_DAMAGED", "200"))
CONFIG = CONFIGS["4x2"]
OTHERS: list[Any] = [None, True, -1, 0, 2**70, 1e308, float("nan"), "x", "\udcff", "", [], [[]], {}, {"a": 1}]


def places(value: Any) -> list[tuple[Any, Any]]:
    """(container, key) of all that is below `value`."""
    pairs = enumerate(value) if isinstance(value, list) else value.items() if isinstance(value, dict) else ()
    return [place for key, item in pairs for place in ((value, key), *places(item))]


def damaged_json(content: Any, rng: random.Random) -> bytes:
    """A field removed, added, of another type or grown; or bytes flipped or cut."""
    content = copy.deepcopy(content)
    kind = rng.randrange(5)
    container, key = rng.choice(places(content))
    if kind == 0:
        del container[key]
    elif kind == 1 and isinstance(container, dict):
        container["one_more"] = 1
    elif kind == 2 and isinstance(container[key], int | float):
        container[key] = container[key] * rng.choice([1000, 2**40]) + 1
    else:
        container[key] = copy.deepcopy(rng.choice(OTHERS))
    text = json.dumps(content).encode()
    return damaged_bytes(text, rng) if rng.random() < 0.25 else text


def damaged_bytes(raw: bytes, rng: random.Random) -> bytes:
    if rng.random() < 0.3:
        return raw[: rng.randrange(len(raw))]
    spoiled = bytearray(raw)
    for _ in range(rng.randint(1, 4)):
        spoiled[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
    return bytes(spoiled)


def refusals(make: Callable[[random.Random], None], read: Callable[[], object]) -> int:
    """How many of COUNT damaged files were refused; any error but a `TatamiError` of one line fails."""
    said = []
    for seed in range(COUNT):
        make(random.Random(seed))
        try:
            read()
        except TatamiError as error:
            said.append(str(error))
        except Exception as error:
            raise AssertionError(f"seed {seed}: {type(error).__name__}: {error}") from error
    assert [text for text in said if len(text.splitlines()) != 1] == []
    return len(said)


def test_images(tmp_path: Path) -> None:
    path = tmp_path / "x.tatami"
    random_program(np.random.default_rng(1), CONFIG)[1].save(path)
    raw = path.read_bytes()
    end = 16 + int.from_bytes(raw[8:12], "little")
    header = json.loads(raw[16:end])

    def make(rng: random.Random) -> None:
        if rng.random() < 0.3:
            path.write_bytes(damaged_bytes(raw, rng))
        else:
            text = damaged_json(header, rng)
            path.write_bytes(raw[:8] + struct.pack("<II", len(text), zlib.crc32(text)) + text + raw[end:])

    assert refusals(make, lambda: Image.load(path, CONFIG)) > COUNT // 2
    assert list(tmp_path.iterdir()) == [path]


def test_reports(tmp_path: Path) -> None:
    kept = sorted((Path(__file__).parents[2] / "docs" / "results").glob("*.json"))[0]
    content = json.loads(kept.read_text())
    path = tmp_path / kept.name
    assert refusals(
        lambda rng: void(path.write_bytes(damaged_json(content, rng))), lambda: read_reports(path)
    )
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", [suspect.RECORD, suspect.STATE])
def test_suspects(name: str, tmp_path: Path) -> None:
    suspect.note(Suspect(Machine(CONFIG), 3, 1, 2), None, tmp_path)
    path = tmp_path / suspect.FOLDER / name
    raw = path.read_bytes()

    def make(rng: random.Random) -> None:
        json_file = name == suspect.RECORD
        path.write_bytes(damaged_json(json.loads(raw), rng) if json_file else damaged_bytes(raw, rng))

    assert refusals(make, lambda: suspect.load(tmp_path, CONFIG)) > COUNT // 2


def void(_: object) -> None:
    """Of a call whose result is of no use."""
