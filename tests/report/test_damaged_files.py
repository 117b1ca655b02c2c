"""Damaged files: each is read, or refused in one line; `TATAMI_DAMAGED=2000` makes that many of a kind."""

from __future__ import annotations

import copy
import json
import random
import resource
import struct
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from pymodel.compiler.compile import compile_network
from pymodel.machine.config import CONFIGS
from pymodel.machine.errors import TatamiError
from pymodel.machine.image import Image
from pymodel.machine.model import Machine
from pymodel.machine.names import check_name
from pymodel.network import network_file
from pymodel.network.load_model import load_model
from pymodel.report import read_reports
from pymodel.zoo import systems
from pymodel.zoo.random_network import random_program
from tb.common import bugs, settings
from tb.common.settings import Options
from tb.debug import suspect
from tb.debug.suspect import Suspect
from tb.flow import failure, regress, runner
from tb.flow.coverage import exclusions, runs
from tb.flow.sources import rtl_sources
from tb.flow.testlist import TESTS
from tb.flow.testplan import last_results, plan
from tests.network.onnx_models import cnn
from tests.network.tflite_models import small_network
from tests.support import DAMAGED as COUNT

CONFIG = CONFIGS["4x2"]
OTHERS: list[Any] = [None, True, -1, 0, 2**70, 1e308, float("nan"), "x", "\udcff", "", "../x", "a\nb"]
OTHERS += [[], [[]], {}, {"a": 1}]


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


@pytest.mark.parametrize("streamed", [False, True])
def test_images(streamed: bool, tmp_path: Path) -> None:
    path = tmp_path / "x.tatami"
    network, image = random_program(np.random.default_rng(1), CONFIG)
    if streamed:
        image = compile_network(network, CONFIG, streamed=True, limit=lambda _memory, least, _need: least)
        assert image.streamed
    image.save(path)
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


def crc(value: np.ndarray) -> int:
    """As docs/formats.md has it of a network's arrays."""
    return zlib.crc32(np.ascontiguousarray(value).tobytes(), zlib.crc32(repr(value.shape).encode()))


def spoiled(value: np.ndarray, rng: random.Random) -> np.ndarray:
    """An array with another value, shape or type."""
    kind = rng.randrange(4)
    if kind == 0 or not value.size:
        return value[..., None]
    if kind == 1:
        return value[:-1] if value.ndim else value[None]
    if kind == 2:
        return value.astype(rng.choice([np.float32, np.int64, np.bool_]))
    value = value.copy()
    value.flat[rng.randrange(value.size)] = np.array(rng.choice([-128, 127])).astype(value.dtype)
    return value


@pytest.mark.parametrize("system", ["tight", "subword"])
def test_networks(system: str, tmp_path: Path) -> None:
    """Bytes; the header; and arrays, with checksums that fit."""
    path = tmp_path / "network.npz"
    raw = (systems.FOLDER / f"{system}.npz").read_bytes()
    path.write_bytes(raw)
    with np.load(path) as archive:
        arrays = dict(archive)
    del arrays["header_crc"]
    header = json.loads(arrays.pop("header").tobytes())

    def make(rng: random.Random) -> None:
        kind = rng.randrange(3)
        if kind == 0:
            path.write_bytes(damaged_bytes(raw, rng))
            return
        found, told = dict(arrays), copy.deepcopy(header)
        if kind == 1:
            name = rng.choice(list(arrays))
            found[name] = spoiled(arrays[name], rng)
            told["arrays"][name] = {"dtype": str(found[name].dtype), "crc": crc(found[name])}
        packed = np.frombuffer(damaged_json(told, rng) if kind == 2 else json.dumps(told).encode(), np.uint8)
        np.savez(path, allow_pickle=False, header=packed, header_crc=np.uint32(crc(packed)), **found)

    assert refusals(make, lambda: network_file.load(path)) > COUNT // 2
    assert list(tmp_path.iterdir()) == [path]


GROWN = (b"\xff\xff\xff\x7f", b"\xff\xff\xff\xff", b"\0\0\0\x10", b"\0\x10\0\0")  # sizes and offsets


@pytest.mark.parametrize("kind", ["tflite", "onnx"])
@pytest.mark.filterwarnings("error")
def test_files_of_other_tools(kind: str, tmp_path: Path) -> None:
    """They have no checksums, so that a weight may be another."""
    path = tmp_path / f"x.{kind}"
    raw = (small_network if kind == "tflite" else cnn)(path).read_bytes()

    def make(rng: random.Random) -> None:
        if rng.random() < 0.5:
            path.write_bytes(damaged_bytes(raw, rng))
            return
        spoiled = bytearray(raw)
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(raw) - 4)
            spoiled[at : at + 4] = rng.choice(GROWN)
        path.write_bytes(spoiled)

    slowest = 0.0

    def read() -> None:
        nonlocal slowest
        begin = time.process_time()
        try:
            load_model(path)
        finally:
            slowest = max(slowest, time.process_time() - begin)

    before = most_memory()
    assert refusals(make, read) > COUNT // 3
    assert list(tmp_path.iterdir()) == [path]
    assert slowest < 20
    assert most_memory() - before < 2 << 30


def most_memory() -> int:
    """The most bytes that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


@pytest.mark.parametrize("name", [suspect.RECORD, suspect.STATE])
def test_suspects(name: str, tmp_path: Path) -> None:
    suspect.note(Suspect(Machine(CONFIG), 3, 1, 2), tmp_path)
    path = tmp_path / suspect.FOLDER / name
    raw = path.read_bytes()

    def make(rng: random.Random) -> None:
        json_file = name == suspect.RECORD
        path.write_bytes(damaged_json(json.loads(raw), rng) if json_file else damaged_bytes(raw, rng))

    assert refusals(make, lambda: suspect.load(tmp_path, CONFIG)) > COUNT // 2


def test_failures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What can be replayed names no folder outside of those that a run makes."""
    monkeypatch.setattr(failure, "FAILURES", tmp_path)
    run = tmp_path / "run"
    suspect.note(Suspect(Machine(CONFIG), 3, 1, 2), run)
    outcome = runner.RunResult(
        passed=False, message="wrong", log=run / "run.log", result={}, wall_s=1.0, waves=None
    )
    kept = failure.keep(
        outcome,
        TESTS["digits"],
        "verilator",
        CONFIG,
        7,
        options=Options(images=1, flip=True),
        parameters=CONFIG.rtl_parameters(),
        sources=rtl_sources(),
    )
    path = kept.folder / failure.RECORD
    content = json.loads(path.read_text())

    def read() -> None:
        found = failure.load(kept.folder)
        for name in (found.test.name, found.sim, found.config.name, found.top or found.test.top):
            check_name("part of a run's folder", name)

    assert refusals(lambda rng: void(path.write_bytes(damaged_json(content, rng))), read) > COUNT // 3
    assert sorted(each.name for each in tmp_path.iterdir()) == sorted(["run", kept.folder.name])


def record(seed: int) -> dict[str, Any]:
    outcome = runner.RunResult(
        passed=True, message="", log=Path("run.log"), result={"compared": 3}, wall_s=1.0, waves=None
    )
    made = regress.record(regress.PlannedRun(TESTS["random"], "verilator", CONFIG, seed), outcome)
    return {**made.model_dump(), "git": "c0ffee", "tools": {"python": "3.11"}}


def lines(rows: list[Any], rng: random.Random) -> bytes:
    """A file of a JSON a line, one of them damaged."""
    texts = [json.dumps(row).encode() for row in rows]
    at = rng.randrange(len(rows))
    texts[at] = damaged_json(rows[at], rng)
    return b"\n".join(texts) + b"\n"


def test_records_of_a_regression(tmp_path: Path) -> None:
    folder = tmp_path / "20261125-010000-000000"
    folder.mkdir()
    path, rows = folder / regress.RUNS, [record(seed) for seed in range(3)]
    assert refusals(
        lambda rng: void(path.write_bytes(lines(rows, rng))),
        lambda: last_results.results_of_regression(folder),
    )
    assert list(folder.iterdir()) == [path]


def test_last_results(tmp_path: Path) -> None:
    path = tmp_path / "testplan.jsonl"
    rows = [json.loads(line) for line in last_results.FILE.read_text().splitlines()[::40]]
    assert {"test" in row for row in rows} == {True, False}
    assert refusals(lambda rng: void(path.write_bytes(lines(rows, rng))), lambda: last_results.read(path))
    assert list(tmp_path.iterdir()) == [path]


POINTS = {
    "when": "2026-11-25T03:00:00",
    "git": None,
    "whole": True,
    "figures": {"line": 99.5},
    "points": {"slot.cp_words.on_4x2": {"hit": 1, "bins": 2}},
}
REPORTED = {"images": 1, "accuracy": 0.5, "scheme": "tight", "layers": [{"layer": "c1", "speedup": None}]}


@pytest.mark.parametrize(
    ("content", "read"),
    [(POINTS, last_results.results_of_coverage), (REPORTED, settings.reported)],
    ids=["merged coverage", "a simulation's result"],
)
def test_results(content: Any, read: Callable[[Path], object], tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    assert refusals(lambda rng: void(path.write_bytes(damaged_json(content, rng))), lambda: read(path))
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("source", "read"),
    [
        (bugs.BUGS_FILE, bugs.load_bugs),
        (plan.PLAN, plan.load_plan),
        (runs.FILE, runs.load),
        (exclusions.FILE, exclusions.load),
    ],
    ids=["bugs", "testplan", "coverage runs", "exclusions"],
)
def test_yaml(source: Path, read: Callable[[Path], object], tmp_path: Path) -> None:
    """The first entry of each file, which JSON can say, too, and its text. Of several bugs all faults are
    said, each in a line.
    """
    path, content = tmp_path / source.name, yaml.safe_load(source.read_text())[:1]
    text = yaml.safe_dump(content).encode()

    def make(rng: random.Random) -> None:
        path.write_bytes(damaged_bytes(text, rng) if rng.random() < 0.3 else damaged_json(content, rng))

    assert refusals(make, lambda: read(path))
    assert list(tmp_path.iterdir()) == [path]


def void(_: object) -> None:
    """Of a call whose result is of no use."""
