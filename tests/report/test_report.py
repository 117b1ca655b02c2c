"""Reports: what is read, what is refused, the comparison against values worked out by hand, and pages that
come out the same.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import BaseModel
from rich.console import Console

from pymodel.machine.config import CONFIGS
from pymodel.machine.errors import TatamiError
from pymodel.machine.files import checked
from pymodel.packing.pack import PackedMatrix, Tile
from pymodel.report import Report, console_table, read_reports, render
from pymodel.report.curves import CurvePoint, Reading, envelope, held, points, ratio, read_at
from pymodel.report.page import picture_name
from pymodel.report.picture import matrix_picture, panels
from pymodel.report.record import by_network, read_report
from pymodel.report.tables import (
    DASH,
    density_rows,
    held_rows,
    int8_apart,
    reference,
    run_rows,
    sparsity_rows,
    subword_rows,
    tier_rows,
    training_lines,
)
from pymodel.schemes import LayerWeights, get_scheme

ROOT = Path(__file__).resolve().parents[2]


def report(scheme: str, asked: float, accuracy: float, **change: Any) -> dict[str, Any]:
    """A whole report; the machine needs 4800 cycles and 200 nJ for the dense network, and the array's
    compression is all speed-up.
    """
    return {
        "network": "resnet20",
        "scheme": scheme,
        "ratio": asked,
        "seed": 1,
        "config": "16x16",
        "size": 16,
        "group": 16,
        "weight_bits": 8,
        "start": {"weights": "resnet20.th", "accuracy_float": 0.93, "accuracy_int8": 0.92},
        "data": {"name": "cifar-10-batches-py (JPEG)", "train": 50000, "test": 10000},
        "budget": {
            "epochs": 1.0,
            "batch": 128,
            "learning_rate": 0.05,
            "momentum": 0.9,
            "weight_decay": 1e-4,
            "replans": 8,
            "pruning": 0.5,
            "saliency": "magnitude",
            "precision": "float32",
            "steps": 391,
            "seconds": 163.2,
            "device": "2 CPU threads",
        },
        "accuracy": {"float": accuracy + 0.01, "int8": accuracy},
        "matrix_compression": asked,
        "density": 1 / asked,
        "occupancy": 0.987,
        "saliency_kept": 0.654,
        "bits_per_weight": 3.21,
        "image_kbytes": 120.5,
        "stored_bits": {"SLOT": 900_000, "LANE": 87_136},
        "cycles": round(4800 / asked),
        "dense_cycles": 4800,
        "bound_cycles": round(4000 / asked),
        "energy_nj": 200 / asked,
        "dense_energy_nj": 200,
        "mismatches": 0,
        "layers": [{**LAYER, "name": "conv1", "kept": None, "slots": None}, {**LAYER, "name": "conv2"}],
        "tools": {"torch": "2.13.0"},
        "revision": "abc123",
        **change,
    }


LAYER = {"weights": 144, "nonzero": 36, "lanes": 3, "kept": 36, "slots": 48, "passes": 1, "cycles": 70}


def parsed(content: dict[str, Any]) -> Report:
    return checked(Report, content, "x")


def write(folder: Path, *contents: dict[str, Any]) -> Path:
    folder.mkdir(exist_ok=True)
    for i, content in enumerate(contents):
        (folder / f"{i:02}.json").write_text(json.dumps(content))
    return folder


# Both hold 0.92 - 0.01 in the middle (in the logarithm) of two points: 4 and 16, 2 and 8
RUNS = (
    report("tight_joint", 4, 0.92),
    report("tight_joint", 16, 0.90),
    report("column_combining", 2, 0.92),
    report("column_combining", 8, 0.90, cycles=800, energy_nj=50.0),
    report("unstructured", 16, 0.915),
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "reports", *RUNS)


def curve(*values: tuple[float, float]) -> list[CurvePoint]:
    """Points of (compression, accuracy); speed-up is the compression less 1, density 0 at 16."""
    return [CurvePoint(c, a, c - 1, 2 * c, 100 / c, 3.0, max(0.0, 1 / c - 1 / 16), 1) for c, a in values]


# Reading a curve


@pytest.mark.parametrize(
    ("values", "accuracy", "value", "mark"),
    [
        (((4, 0.92), (16, 0.88)), 0.90, 8.0, ""),  # half of the way from log 4 to log 16
        (((4, 0.92), (16, 0.88)), 0.91, 4 * 4**0.25, ""),
        (((4, 0.92), (16, 0.88)), 0.92, 4.0, ""),
        (((4, 0.92), (16, 0.88)), 0.88, 16.0, ""),
        (((4, 0.92), (16, 0.88)), 0.93, 4.0, "<"),
        (((4, 0.92), (16, 0.88)), 0.87, 16.0, ">"),
        # the point at 2 is credited with what 4 has
        (((2, 0.90), (4, 0.92), (16, 0.88)), 0.91, 4 * 4**0.25, ""),
        (((2, 0.93), (4, 0.90), (8, 0.92), (32, 0.90)), 0.91, 16.0, ""),  # so is the dip at 4
        # from 0.94 at 2 to the 0.92 that 4 is credited with
        (((2, 0.94), (4, 0.90), (8, 0.92)), 0.93, 2 * 2**0.5, ""),
        (((3, 0.9),), 0.9, 3.0, ""),
        (((3, 0.9),), 0.8, 3.0, ">"),
        (((3, 0.9),), 0.95, 3.0, "<"),
    ],
)
def test_compression_held_at_an_accuracy(values: Any, accuracy: float, value: float, mark: str) -> None:
    found = held(curve(*values), accuracy)
    assert found is not None
    assert found.value == pytest.approx(value)
    assert found.mark == mark


def test_nothing_is_held_by_nothing() -> None:
    assert held([], 0.9) is None
    assert envelope(curve((2, 0.9), (4, 0.93), (8, 0.91))) == [0.93, 0.93, 0.91]


def test_other_values_are_read_at_the_same_place() -> None:
    points_ = curve((4, 0.92), (16, 0.88))
    found = read_at(points_, Reading(8.0), "speedup")
    assert found is not None
    assert found.value == pytest.approx((3 * 15) ** 0.5)
    assert read_at(points_, Reading(16.0, ">"), "speedup") == Reading(15, ">")
    assert read_at(points_, Reading(4.0, "<"), "speedup") == Reading(3, "<")
    assert read_at(points_, Reading(8.0), "density") is None  # its logarithm at 16 would be
    assert read_at(points_, Reading(16.0), "density") == Reading(0)
    assert read_at(points_, None, "speedup") is None


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (Reading(6), Reading(3), Reading(2)),
        (Reading(6, ">"), Reading(3), Reading(2, ">")),
        (Reading(6, "<"), Reading(3), Reading(2, "<")),
        (Reading(6), Reading(3, "<"), Reading(2, ">")),
        (Reading(6), Reading(3, ">"), Reading(2, "<")),
        (Reading(6, ">"), Reading(3, "<"), Reading(2, ">")),
        (Reading(6, "<"), Reading(3, ">"), Reading(2, "<")),
        (Reading(6, ">"), Reading(3, ">"), None),  # it could be anything
        (Reading(6, "<"), Reading(3, "<"), None),
        (None, Reading(3), None),
        (Reading(6), None, None),
    ],
)
def test_a_ratio_keeps_what_is_known_of_its_sides(
    a: Reading | None, b: Reading | None, expected: Reading | None
) -> None:
    assert ratio(a, b) == expected


def test_seeds_are_averaged() -> None:
    """Compression in the logarithm, the rest as it is; a value that one run does not have leaves none."""
    runs = [
        report("tight", 4, 0.90, seed=1, matrix_compression=4.0),
        report("tight", 4, 0.92, seed=2, matrix_compression=9.0, cycles=2400, xor_bits_per_weight=2.5),
        report("tight", 3, 0.93, seed=1, xor_bits_per_weight=2.25),
    ]
    first, second = points([parsed(r) for r in runs])
    assert first.compression == pytest.approx(3)
    assert first.runs == 1
    assert [second.compression, second.accuracy, second.speedup] == pytest.approx([6, 0.91, (4 + 2) / 2])
    assert second.energy_gain == pytest.approx(4)
    assert second.runs == 2
    _, rows = run_rows([parsed(r) for r in runs])
    cells = [
        "98.7%",
        "65.4%",
        "93.00 → 92.00 (91.00 to 93.00)",
        "92.00 → 91.00 (90.00 to 92.00)",
        "1,800",
        "3.00",
        "0.05",
        "4.00",
    ]
    assert rows[0] == ["tight", "4", "1, 2", "6.50", "3.21", DASH, *cells]


def test_int8_and_float_are_compared_row_by_row() -> None:
    """The mean of a row's seeds counts, in either direction."""
    runs = [
        {**report("tight", 4, 0.90, seed=1), "accuracy": {"float": 0.90, "int8": 0.80}},
        {**report("tight", 4, 0.90, seed=2), "accuracy": {"float": 0.90, "int8": 0.96}},
        {**report("tight", 3, 0.93, seed=1), "accuracy": {"float": 0.90, "int8": 0.95}},
    ]
    assert int8_apart([parsed(r) for r in runs]) == pytest.approx(0.05)
    assert int8_apart([parsed(r) for r in runs[:2]]) == pytest.approx(0.02)


@pytest.mark.parametrize("campaign", ["results", "results-long"])
def test_int8_is_as_good_as_float_in_all_published_rows(campaign: str) -> None:
    for network, runs in by_network(read_reports(ROOT / "docs" / campaign)).items():
        assert int8_apart(runs) <= 0.005, f"{network} in docs/{campaign}"


def test_the_comparison_by_hand(folder: Path) -> None:
    reports = read_reports(folder)
    assert held_rows(reports) == [
        ["column_combining", "4.00", "8.00", ">8.00", ">8.00"],
        ["tight_joint", "8.00", "16.00", ">16.00", ">16.00"],
        ["unstructured", ">16.00", ">16.00", ">16.00", ">16.00"],
    ]
    # speed-up at -1 point: 8, between 4 and 16, for one, and the root of 2 x 6 for the other; at -2 points 16
    # and 6; energy gain the same for one, and from 2 to 4 for the other
    dense = [
        [DASH, "matrix compression", "dense, G = 1", "0.25", "0.13", "<0.13", "<0.13", DASH],
        # 8290 transistors over 4830, over the baseline's speed-up
        [DASH, "throughput at equal area", "dense, G = 1", "0.50", "0.29", "<0.29", "<0.29", DASH],
    ]
    weights = [
        ["weights", "matrix compression", "tight_joint", "2.00", "2.00", DASH, DASH, "1.75"],
        ["weights", "throughput at equal area", "tight_joint", "2.31", "2.67", DASH, DASH, "2.12"],
        ["weights", "energy efficiency", "tight_joint", "2.83", "4.00", DASH, DASH, "1.57"],
    ]
    bound = ["weights", "matrix compression", "unstructured", ">4.00", ">2.00", DASH, DASH, DASH]
    assert tier_rows(reports) == [*weights, bound, *dense]
    assert tier_rows([r for r in reports if r.scheme != "unstructured"]) == [*weights, *dense]
    # digits that do as well in as many slots and cycles: half the bits, in 8290 / 6730 of the PEs
    digits = [
        r.model_copy(update={"scheme": "joint_subword", "weight_bits": 4})
        for r in reports
        if r.scheme == "tight_joint"
    ]
    assert tier_rows([*reports, *digits])[6:] == [
        ["digits", "matrix compression", "joint_subword", "4.00", "4.00", DASH, DASH, "2.40"],
        ["digits", "throughput at equal area", "joint_subword", "2.84", "3.28", DASH, DASH, "2.75"],
        ["digits", "energy efficiency", "joint_subword", "2.83", "4.00", DASH, DASH, "1.86"],
    ]
    # the area of such a PE is not known
    odd = [r.model_copy(update={"group": 3}) for r in digits]
    assert tier_rows([*reports, *odd])[7][3:7] == [DASH, DASH, DASH, DASH]
    assert tier_rows([r for r in reports if r.scheme != "column_combining"]) == []
    assert tier_rows([r for r in reports if r.scheme != "tight_joint"]) == []


def test_digits_are_compared_in_bits_of_weights(tmp_path: Path) -> None:
    """A slot of a digit has half the bits: 4 slots fewer are 8 times fewer bits."""
    runs = [
        report("tight", 4, 0.92),
        report("tight", 16, 0.90),
        report("tight_subword", 4, 0.92, weight_bits=4, bits_per_weight=2.0),
    ]
    found = read_reports(
        write(
            tmp_path, *runs, report("tight_subword", 16, 0.90, weight_bits=4, bits_per_weight=1.0, cycles=336)
        )
    )
    assert subword_rows(found) == [
        ["compression, tight_subword", "16.00", "32.00", ">32.00", ">32.00", ""],
        ["compression, tight", "8.00", "16.00", ">16.00", ">16.00", ""],
        ["ratio", "2.00", "2.00", DASH, DASH, "1.3"],
        # at -1 point in the middle of 4 and 16, where the machine takes 1200 cycles and 300 or 336
        ["cycles, tight_subword", "635", "336", "336", "336", ""],
        ["cycles, tight", "600", "300", "300", "300", ""],
        ["bits a weight, tight_subword", "1.41", "1.00", "1.00", "1.00", ""],
        ["bits a weight, tight", "3.21", "3.21", "3.21", "3.21", ""],
    ]
    assert subword_rows([r for r in found if r.scheme == "tight"]) == []
    out = tmp_path / "results.md"
    render(tmp_path, out)
    assert "| ratio | 2.00 | 2.00 | – | – | 1.3 |" in out.read_text()


def test_training_without_compression_is_what_schemes_are_measured_against(tmp_path: Path) -> None:
    """Where it gives more than the start had: the start had not been trained on these images."""
    runs = [report("penni", 4, 0.94), report("penni", 8, 0.90)]
    assert reference(read_reports(write(tmp_path / "without", *runs))) == 0.92
    assert reference(read_reports(write(tmp_path / "worse", *runs, report("dense", 1, 0.91)))) == 0.92
    found = read_reports(write(tmp_path / "better", *runs, report("dense", 1, 0.95)))
    assert reference(found) == 0.95
    assert held_rows(found) == [["penni", "4.00", "4.76", "8.00", ">8.00"]]
    render(tmp_path / "better", tmp_path / "results.md")
    page = (tmp_path / "results.md").read_text()
    assert "of `dense`, which is the start trained further without compression (95.00%)." in page
    assert "dense, 95.00%" in (tmp_path / "results" / "resnet20-16x16.svg").read_text()
    render(tmp_path / "worse", tmp_path / "results.md")
    assert "int8 accuracy of the start (92.00%)." in (tmp_path / "results.md").read_text()


def test_what_penni_prunes_is_on_the_page(tmp_path: Path) -> None:
    found = write(
        tmp_path,
        report("penni", 4, 0.92, parameters_pruned=0.913, flops_pruned=0.87),
        report("tight", 4, 0.9),
    )
    out = tmp_path / "results.md"
    render(found, out)
    assert "| parameters pruned | FLOPs pruned |" in out.read_text()
    assert "| 4.00 | 91.3% | 87.0% | 3.21 |" in out.read_text()
    assert "97% of the parameters and 92% of the FLOPs" in out.read_text()
    # neither of those that the target is about is there
    assert "`tight_joint` over" not in out.read_text()


def test_tetris_is_read_by_density(tmp_path: Path) -> None:
    runs = [
        report("tetris", 4, 0.92, density=0.26, bound_cycles=960),
        report("tetris", 16, 0.90, density=0.07, cycles=384, bound_cycles=240),
    ]
    runs.append(report("tetris_pass", 16, 0.88, density=0.07, cycles=250, bound_cycles=240))
    found = read_reports(
        write(
            tmp_path,
            *runs,
            report("unstructured", 4, 0.92, density=0.25),
            report("unstructured", 16, 0.915, density=0.0625),
        )
    )
    assert sparsity_rows(found) == [
        # at -1 point the root of 26% x 7%
        ["tetris", "86.5%", "93.0%", ">93.0%", ">93.0%"],
        ["tetris_pass", "<93.0%", "<93.0%", ">93.0%", ">93.0%"],
        ["unstructured", ">93.8%", ">93.8%", ">93.8%", ">93.8%"],
    ]
    assert density_rows(found) == [
        ["tetris", "4", "26.0%", "25.0%", "20.0%", "1.25"],
        ["tetris", "16", "7.0%", "8.0%", "5.0%", "1.60"],
        ["tetris_pass", "16", "7.0%", "5.2%", "5.0%", "1.04"],
    ]
    assert sparsity_rows([r for r in found if r.scheme == "tetris"]) == []
    out = tmp_path / "results.md"
    render(tmp_path, out)
    for line in (
        "| tetris | 86.5% | 93.0% | >93.0% | >93.0% |",
        "| tetris | 16 | 7.0% | 8.0% | 5.0% | 1.60 |",
    ):
        assert line in out.read_text()


# Files


def required(model: type[BaseModel], above: str = "") -> list[str]:
    """All fields that a report must have, those within others too, by dotted path."""
    found = []
    for name, field in model.model_fields.items():
        inner = field.annotation
        if field.is_required():
            found.append(f"{above}{name}")
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            found += required(inner, f"{above}{name}.")
    return found


OPTIONAL = ("layers", "revision", "tools")


@pytest.mark.parametrize("field", required(Report))
def test_a_missing_field_is_named(field: str, tmp_path: Path) -> None:
    content = report("tight", 4, 0.9)
    inner, names = content, field.split(".")
    for name in names[:-1]:
        inner = inner[name]
    del inner[names[-1]]
    with pytest.raises(TatamiError, match=rf"00\.json': field '{field}' is missing"):
        read_reports(write(tmp_path, content))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"accuracy": {"float": 0.9, "int8": 91.2}}, r"'accuracy.int8' is 91.2: .* less than or equal to 1"),
        ({"accuracy": {"float": 0.9, "int8": 0.9, "int4": 0.8}}, "field 'accuracy.int4' is unknown"),
        ({"speed": 3}, "field 'speed' is unknown"),
        ({"ratio": 0.5}, "'ratio' is 0.5: .* greater than or equal to 1"),
        ({"ratio": "8"}, "'ratio' is '8': .* a valid number"),
        ({"ratio": True}, "'ratio' is True: .* a valid number"),
        ({"cycles": float("nan")}, "'cycles' is nan: "),
        ({"cycles": 1000.5}, "'cycles' is 1000.5: .* a valid integer"),
        ({"energy_nj": 0}, "'energy_nj' is 0: .* greater than 0"),
        ({"matrix_compression": float("inf")}, "'matrix_compression' is inf: .* finite"),
        ({"network": "../x"}, "'network' is '../x': .* match pattern"),
        ({"network": 3}, "'network' is 3: .* a valid string"),
        ({"revision": "a\nb"}, r"'revision' is 'a\\nb': must be a line of text"),
        ({"tools": "torch"}, "'tools' is 'torch': .* an object"),
        ({"budget": 3}, "'budget' is 3: .* an object"),
        ({"layers": [LAYER]}, "field 'layers.0.name' is missing"),
    ],
)
def test_a_wrong_value_is_named(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(TatamiError, match=message) as error:
        read_reports(write(tmp_path, report("tight", 4, 0.9) | change))
    assert "00.json" in str(error.value)
    assert "\n" not in str(error.value)


def test_reports_of_the_project_are_written_as_they_were_read(tmp_path: Path) -> None:
    paths = list((ROOT / "docs" / "results").glob("*.json"))
    assert len(paths) > 100
    for path in paths:
        read_report(path).save(tmp_path / path.name)
        assert (tmp_path / path.name).read_bytes() == path.read_bytes(), path


def test_what_is_kept_beside_the_page_has_no_layers() -> None:
    whole = parsed(report("tight", 4, 0.9))
    assert whole.layers is not None
    assert [row.slots for row in whole.layers] == [None, 48]
    kept = whole.without_layers().to_json()
    assert kept == {name: value for name, value in whole.to_json().items() if name != "layers"}
    assert parsed(kept) == whole.without_layers()


def test_damaged_and_absent_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TatamiError, match="holds no report"):
        read_reports(tmp_path)
    with pytest.raises(TatamiError, match=r"none\.json': cannot be read"):
        read_reports(tmp_path / "none.json")
    for text in (json.dumps(report("tight", 4, 0.9))[:-9], "\udcff"):
        (tmp_path / "cut.json").write_text(text, errors="surrogateescape")
        with pytest.raises(TatamiError, match=r"cut\.json': is (no JSON|not UTF-8)"):
            read_reports(tmp_path)
    (tmp_path / "cut.json").write_text("[]")
    with pytest.raises(TatamiError, match=r"cut\.json': is \[\]: .* an object"):
        read_reports(tmp_path)


def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        TatamiError, match=r"01\.json': same network, config, scheme, ratio and seed as .*00\.json"
    ):
        read_reports(write(tmp_path / "twice", report("tight", 4, 0.9), report("tight", 4, 0.91)))
    other = report(
        "tight", 8, 0.9, start={"weights": "resnet20.th", "accuracy_float": 0.93, "accuracy_int8": 0.91}
    )
    with pytest.raises(TatamiError, match=r"01\.json': start.accuracy_int8 is 0.91, but 0.92 in .*00\.json"):
        read_reports(write(tmp_path / "start", report("tight", 4, 0.9), other))
    # another network, or another machine, is another table
    apart = write(
        tmp_path / "fine",
        report("tight", 4, 0.9),
        other | {"network": "vgg"},
        report("tight", 4, 0.9, config="8x4"),
    )
    assert len(read_reports(apart)) == 3


def test_what_a_report_may_lack(tmp_path: Path) -> None:
    bare = {key: value for key, value in report("tight", 4, 0.9).items() if key not in OPTIONAL}
    del bare["budget"]["precision"]
    reports = write(tmp_path / "bare", bare)
    lines = training_lines(read_reports(reports))
    assert lines == [
        (
            "all runs: 1 epoch, 391 steps, 128 images a step, learning rate 0.05, 8 plans, on 2 CPU threads;"
            " 163 s"
        )
    ]
    render(reports, tmp_path / "out.md")
    page = (tmp_path / "out.md").read_text()
    for text in ("with XOR", "parameters pruned |", "Revision", "Tools"):
        assert text not in page


def test_the_console_shows_what_a_report_says() -> None:
    found = [parsed(report("tight", 4, 0.9, xor_bits_per_weight=1.75))]
    console = Console(file=StringIO(), width=300)
    console.print(console_table(found))
    row = console.file.getvalue().splitlines()[-2].split("  ")  # type: ignore[attr-defined]
    cells = [
        "resnet20",
        "16x16",
        "tight",
        "4",
        "1",
        "4.00",
        "3.21",
        "1.75",
        "98.7%",
        "65.4%",
        "93.00 → 91.00",
        "92.00 → 90.00",
        "1,200",
        "4.00",
    ]
    assert [cell.strip() for cell in row if cell.strip()] == [*cells, "0.05", "4.00"]


def test_budgets_are_told_apart() -> None:
    longer = report("tight", 8, 0.9)
    longer["budget"] = longer["budget"] | {"epochs": 6.0, "seconds": 900.0}
    second = report("tight_joint", 8, 0.9)
    second["budget"] = second["budget"] | {"seconds": 170.0}
    coarse = report("tight_joint", 4, 0.9)
    coarse["budget"] = coarse["budget"] | {"precision": "bfloat16"}
    lines = training_lines([parsed(r) for r in (report("tight", 4, 0.9), longer, second, coarse)])
    assert lines == [
        (
            "tight 4, tight_joint 8: 1 epoch, 391 steps, 128 images a step, learning rate 0.05, 8 plans,"
            " float32, on 2 CPU threads; 163 to 170 s each"
        ),
        (
            "tight 8: 6 epochs, 391 steps, 128 images a step, learning rate 0.05, 8 plans, float32, on 2 CPU"
            " threads; 900 s"
        ),
        (
            "tight_joint 4: 1 epoch, 391 steps, 128 images a step, learning rate 0.05, 8 plans, bfloat16, on"
            " 2 CPU threads; 163 s"
        ),
    ]


# The page


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_the_page_has_it_all(folder: Path, tmp_path: Path) -> None:
    write(folder, *RUNS)
    weight, packed = planned("tight")
    matrix_picture(weight, packed, folder / picture_name("resnet20", "tight", "conv1"))
    out = tmp_path / "docs" / "results.md"
    render(folder, out, command="make compress")
    page = out.read_text()
    pictures = ["resnet20--tight--conv1.png", "resnet20-16x16-speed.svg", "resnet20-16x16.svg"]
    assert sorted(tree(out.parent)) == ["results.md", *(f"results/{name}" for name in pictures)]
    for text in (
        (
            "| tight_joint | 4 | 1 | 4.00 | 3.21 | 98.7% | 65.4% | 93.00 → 93.00 | 92.00 → 92.00 | 1,200 |"
            " 4.00 | 0.05 | 4.00 |"
        ),
        "| column_combining | 4.00 | 8.00 | >8.00 | >8.00 |",
        "| weights | throughput at equal area | tight_joint | 2.31 | 2.67 | – | – | 2.12 |",
        "](results/resnet20-16x16.svg)",
        "](results/resnet20-16x16-speed.svg)",
        "](results/resnet20--tight--conv1.png)",
        "`make compress`",
        "abc123",
        "torch 2.13.0",
    ):
        assert text in page, text
    # how it was trained, with every table
    assert page.count("163 s each") == 2
    assert "\n\n\n" not in page
    plot = (out.parent / "results" / "resnet20-16x16.svg").read_text()
    for text in (
        "start, 92.00%",
        "−1 point<",
        "−2 points",
        "−5 points",
        "unstructured (bound: no array runs it)",
        "tight_joint",
        "16x",
    ):
        assert text in plot, text
    speed = (out.parent / "results" / "resnet20-16x16-speed.svg").read_text()
    for text in (
        "start, 92.00%",
        "speed-up (cycles of the dense network over cycles)",
        "tight_joint",
        "column_combining",
    ):
        assert text in speed, text
    assert "unstructured" not in speed
    # of all lines the bound's is dashed: there, and in the legend
    assert plot.count("stroke-dasharray: 5.55") == 2


def test_a_picture_must_belong(folder: Path, tmp_path: Path) -> None:
    stray = folder / "conv1.png"
    stray.write_bytes(b"")
    with pytest.raises(TatamiError, match=r"conv1\.png': name must be network--scheme--layer\.png"):
        render(folder, tmp_path / "out.md")
    stray.rename(folder / picture_name("vgg", "tight", "conv1"))
    with pytest.raises(TatamiError, match="there is no report of network 'vgg'"):
        render(folder, tmp_path / "out.md")


def test_the_same_reports_give_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    """... in another process, with other settings of matplotlib and of Python's hashes, and with the files
    written in another order.
    """
    weight, packed = planned("tight_joint")
    for suffix in (".png", ".svg"):
        matrix_picture(
            weight, packed, folder / picture_name("resnet20", "tight_joint", "c").replace(".png", suffix)
        )
    render(folder, tmp_path / "a" / "results.md")
    again = write(tmp_path / "again", *reversed(RUNS))
    (tmp_path / "matplotlibrc").write_text("font.size: 20\nsvg.fonttype: path\nlines.linewidth: 5\n")
    code = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[3])\n"
        "from tests.report.test_report import planned, picture_name, matrix_picture, render\n"
        "folder = Path(sys.argv[1]); weight, packed = planned('tight_joint')\n"
        "name = picture_name('resnet20', 'tight_joint', 'c')\n"
        "[matrix_picture(weight, packed, folder / name.replace('.png', s)) for s in ('.svg', '.png')]\n"
        "render(folder, Path(sys.argv[2]) / 'results.md')"
    )
    environment = os.environ | {"PYTHONHASHSEED": "7", "MATPLOTLIBRC": str(tmp_path / "matplotlibrc")}
    subprocess.run(
        [sys.executable, "-c", code, str(again), str(tmp_path / "b"), str(ROOT)],
        check=True,
        env=environment,
        cwd=ROOT,
    )
    first, second = tree(tmp_path / "a"), tree(tmp_path / "b")
    assert len(first) == 5
    assert first == second


# Matrix pictures


def planned(scheme: str) -> tuple[np.ndarray, PackedMatrix]:
    """A pruned matrix of 20 filters and its slots, by a scheme, for the 16 x 8 machine."""
    rng = np.random.default_rng(3)
    weight = rng.normal(size=(20, 72))
    plan = get_scheme(scheme).plan(
        [LayerWeights.by_magnitude("a", weight, np.arange(72) // 9)], 4, CONFIGS["16x8"], rng
    )["a"]
    assert plan.packed is not None
    return np.where(plan.mask, weight, 0), plan.packed


def test_panels_by_hand() -> None:
    """Two tiles (filters 2 and 0; filter 1) over two groups, (0, 3) and (-, 1); input 2 is used nowhere,
    filter 0 leaves a slot empty.
    """
    weight = np.array([[5, 0, 0, 0], [0, 7, 0, 0], [0, 8, 0, 9]])
    groups = np.array([[0, 3], [-1, 1]])
    first = Tile(
        np.array([2, 0]),
        np.array([0, 1]),
        np.array([[1, 0], [1, 0]]),
        np.array([[9, 5], [8, 0]], dtype=np.int8),
    )
    second = Tile(np.array([1]), np.array([1]), np.array([[1]]), np.array([[7]], dtype=np.int8))
    original, permuted, slots = panels(weight, PackedMatrix(groups, (first, second), 4, 4))
    np.testing.assert_array_equal(original, [[2, 1, 1, 1], [1, 2, 1, 1], [1, 2, 1, 2]])
    # inputs 0, 3, 1 for the first tile, 1 for the second
    np.testing.assert_array_equal(permuted, [[1, 2, 2], [2, 1, 1], [2, 0, 0]])
    np.testing.assert_array_equal(slots, [[2, 2], [2, 1], [2, 0]])


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_a_picture_is_small(suffix: str, tmp_path: Path) -> None:
    """Of a large layer too: 128 filters, 1152 inputs, a tenth of the weights."""
    rng = np.random.default_rng(5)
    weight = rng.integers(1, 100, (128, 1152)) * (rng.random((128, 1152)) < 0.1)
    bank = np.arange(1152) // 9 % 8
    plan = get_scheme("dense").plan([LayerWeights.by_magnitude("a", weight, bank)], 1, CONFIGS["16x8"], rng)[
        "a"
    ]
    assert plan.packed is not None
    path = tmp_path / f"a{suffix}"
    matrix_picture(np.where(plan.mask, weight, 0), plan.packed, path, title="conv")
    assert 2_000 < path.stat().st_size < 100_000
    small = tmp_path / f"b{suffix}"
    matrix_picture(*planned("tight"), small)
    assert 2_000 < small.stat().st_size < 100_000
    if suffix == ".png":
        assert path.read_bytes().startswith(b"\x89PNG")


def test_a_picture_of_two_things_is_refused(tmp_path: Path) -> None:
    weight, packed = planned("tight")
    with pytest.raises(TatamiError, match=r"weight has shape \(19, 72\), the packed matrix \(20, 72\)"):
        matrix_picture(weight[1:], packed, tmp_path / "a.png")
    with pytest.raises(TatamiError, match=r"suffix must be \.png or \.svg"):
        matrix_picture(weight, packed, tmp_path / "a.jpg")
