"""Networks with memories of their own, on the RTL: what `make sim TEST=network` and `TEST=resnet20` prepare
and run, and what they refuse.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import nn

from pymodel.compiler.compile import CapacityError, compile_cut, compile_network
from pymodel.machine.config import CONFIGS, ArrayConfig
from pymodel.machine.errors import TatamiError
from pymodel.machine.image import Image
from pymodel.machine.memory import Section
from pymodel.network import network_file
from pymodel.network.float import FloatConv, FloatLinear
from pymodel.network.from_torch import from_torch
from pymodel.network.integer import INPUT, Conv, Layer, Network, Requant, Residual, around
from pymodel.network.network_file import StoredNetwork
from pymodel.schemes import array_for, get_scheme
from pymodel.schemes import compression as matrix_compression
from pymodel.training import train_digits, train_systems
from pymodel.training.compress import Recipe, compress
from pymodel.training.one_shot import prune_once
from pymodel.training.schedule import Budget
from pymodel.training.start import measure_start
from pymodel.training.tasks import Task, get_task
from pymodel.zoo import systems
from pymodel.zoo.architectures import ARCHITECTURES
from pymodel.zoo.random_resnet import SHAPE, random_resnet
from pymodel.zoo.resnet import resnet20
from pymodel.zoo.systems import SYSTEMS
from scripts import sim as sim_script
from tb.common.settings import IMAGE_FILE, NETWORK_FILE, Options
from tb.flow import prepare as prepare_module
from tb.flow import runner
from tb.flow.prepare import Source, prepare
from tb.flow.simulate import SEVERAL, Simulated, together
from tb.flow.simulators import optimised_for
from tb.flow.testlist import TESTS
from tests.network.onnx_models import cnn, operators
from tests.network.tflite_models import small_network
from tests.support import assert_refused

SMALL = CONFIGS["8x4"]
DENSE_WEIGHTS = 23504  # of the digits network, before any scheme made other layers of its own
BUDGET = Budget(epochs=0.2, batch=64, learning_rate=0.02, replans=2)


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Task:
    """The digits network, hardly trained."""
    torch.set_num_threads(1)
    settings = replace(train_digits.DigitsTraining(), dense_epochs=1)
    images, labels, _, _ = train_digits.split_digits()
    path = tmp_path_factory.mktemp("start") / "digits.pt"
    torch.save(
        train_digits.train_dense(images, labels, settings, torch.Generator().manual_seed(1)).state_dict(),
        path,
    )
    return get_task("digits", path, None)


def compressed(task: Task, scheme: str, out: Path) -> Path:
    """The network.npz of a scheme."""
    recipe = Recipe(get_scheme(scheme), 1.0 if scheme == "dense" else 2.0, SMALL, BUDGET)
    report = compress(task, recipe, out, measure_start(task, SMALL))
    assert report.bits_per_weight * DENSE_WEIGHTS == pytest.approx(sum(report.stored_bits.values()))
    return out / "network.npz"


def run(name: str, sim: str, config: ArrayConfig, images: int, weights: Path | None) -> runner.RunResult:
    test = TESTS[name]
    assert test.network is not None
    ready = prepare(test.network, config, 1, images, Source(weights))
    optimise = optimised_for(ready.cycles, shared=ready.config in CONFIGS.values())
    options = ready.options | Options(images=images)
    return runner.run(test, sim, ready.config, 1, options=options, optimise=optimise)


@pytest.mark.parametrize("scheme", ["column_combining", "tetris", "penni", "tight_subword", "dense"])
def test_what_was_compressed_runs(scheme: str, task: Task, tmp_path: Path) -> None:
    """Under every kind of scheme, digits in an array of digits without being told: all planes, and the cycles
    of the model.
    """
    found = compressed(task, scheme, tmp_path)
    outcome = run("network", "verilator", SMALL, 3, found)
    assert outcome.passed, outcome.message
    r = outcome.result
    assert (r["images"], r["mismatches"], r["scheme"]) == (3, 0, scheme)
    assert r["cycles"] == r["predicted_cycles"] > 0
    assert r["compared_bytes"] > 1000
    assert r["bits_per_weight"] * DENSE_WEIGHTS == pytest.approx(r["image_kbytes"] * 8192, rel=1e-3)
    data = network_file.load(found)
    assert round(3 * r["accuracy"], 6) in range(4)
    assert len(data.images) == 100
    assert sum(row["cycles"] for row in r["layers"]) < r["cycles"]
    if scheme == "dense":
        # the plan's empty slots take the residual, which a dense image gives lanes of its own
        assert 1 <= r["speedup_over_dense"] < 1.1
        assert 1 <= r["matrix_compression"] < 1.1
    else:
        assert r["speedup_over_dense"] > 1
        assert r["cycles"] * r["speedup_over_dense"] == pytest.approx(r["dense_cycles"], rel=1e-3)


@pytest.mark.icarus
def test_depthwise_convolutions_from_torch_to_the_pins(tmp_path: Path) -> None:
    """A small MobileNet: depthwise, clamps, a table, a shortcut."""
    mobile = get_task("tests/training/small_networks.py:mobilenet", None, None)
    recipe = Recipe(get_scheme("tight_cycle"), 1.25, SMALL, replace(BUDGET, epochs=0.05))
    report = compress(mobile, recipe, tmp_path, measure_start(mobile, SMALL))
    outcome = run("network", "icarus", SMALL, 1, tmp_path / "network.npz")
    assert outcome.passed, outcome.message
    assert outcome.result["mismatches"] == 0
    assert outcome.result["cycles"] == outcome.result["predicted_cycles"] == report.cycles


@pytest.mark.icarus
@pytest.mark.parametrize("scheme", ["tight_subword", "joint_subword"])
def test_a_network_on_icarus(scheme: str, task: Task, tmp_path: Path) -> None:
    outcome = run("network", "icarus", CONFIGS["8x4w4"], 1, compressed(task, scheme, tmp_path))
    assert outcome.passed, outcome.message
    assert outcome.result["mismatches"] == 0
    assert outcome.result["cycles"] == outcome.result["predicted_cycles"] > 0


def test_more_than_256_classes(sim: str, tmp_path: Path) -> None:
    """Labels that need more than 8 bits reach the accuracy that is taken of the RTL's logits."""
    module = nn.Sequential(nn.Flatten(), nn.Linear(4, 300))
    with torch.no_grad():
        module[1].weight.zero_()
        module[1].bias.zero_()[299] = 5
    images, labels = torch.rand(8, 1, 2, 2), torch.full((8,), 299)
    many = Task(
        name="many",
        module=module,
        input_shape=(1, 2, 2),
        train_images=images,
        train_labels=labels,
        test_images=images,
        test_labels=labels,
        prepare=lambda batch, _: batch,
        keep=(),
        start="set by hand",
        data="noise",
    )
    recipe = Recipe(get_scheme("dense"), 1.0, SMALL, replace(BUDGET, epochs=0))
    compress(many, recipe, tmp_path, measure_start(many, SMALL))
    outcome = run("network", sim, SMALL, 2, tmp_path / "network.npz")
    assert outcome.passed, outcome.message
    result = outcome.result
    assert (result["accuracy"], result["mismatches"], result["images"]) == (1.0, 0, 2)


def chain(rng: np.random.Generator, layers: int) -> Network:
    """Layers behind each other, every fifth with what the third before it gave."""
    found: list[Layer] = []
    for n in range(layers):
        side = 3 if n % 5 == 2 else 1
        requant = Requant(rng.integers(-999, 999, 4), rng.integers(20000, 40000, 4), np.full(4, 22))
        skip = Residual(f"c{n - 3}", np.arange(4), np.full(4, 90)) if n % 5 == 4 else None
        found.append(
            Conv(
                f"c{n}",
                f"c{n - 1}" if n else INPUT,
                rng.integers(-90, 90, (4, 4, side, side)),
                requant,
                padding=around(side // 2),
                residual=skip,
            )
        )
    return Network("chain", (4, 16, 16), tuple(found))


def test_a_network_that_fits_only_where_words_are_used_again(sim: str, tmp_path: Path) -> None:
    """In the memories of the configuration: the sum of its tensors is more than FEATURE has."""
    rng, config = np.random.default_rng(4), CONFIGS["4x2"]
    network = chain(rng, 18)
    with pytest.raises(CapacityError, match=r"FEATURE needs \d+ words per bank, config '4x2' has 2048"):
        compile_network(network, config, reuse=False)
    images = rng.integers(-128, 128, (2, *network.input_shape)).astype(np.int8)
    network_file.save(StoredNetwork(network, images, np.zeros(0, np.uint8), {}, {}), tmp_path / "network.npz")
    outcome = run("network", sim, config, 2, tmp_path / "network.npz")
    assert outcome.passed, outcome.message
    result = outcome.result
    assert result["reuse"]
    assert result["feature_depth"] == config.feature_depth
    assert result["feature_bound"] <= result["feature_words"] <= config.feature_depth
    assert result["feature_shared_over_bound"] == round(result["feature_words"] / result["feature_bound"], 3)
    assert max(row["words"] for row in result["layers"]) <= config.group * result["feature_words"]
    assert (result["mismatches"], result["images"]) == (0, 2)
    assert result["compared_bytes"] == 2 * (4 * 256 * 19 + 4 * 256)  # of every tensor, and what is sent
    assert result["cycles"] == result["predicted_cycles"]


def test_a_whole_resnet(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """As `make sim TEST=resnet20` does it, random, on the small array, where its image takes memories of its
    own.
    """
    monkeypatch.setattr(sys, "argv", ["sim", "--test=resnet20", "--images=1", "--config=16x16"])
    assert sim_script.main() == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1].removeprefix("RESULT "))
    assert (result["mismatches"], result["images"]) == (0, 1)
    assert result["cycles"] == result["predicted_cycles"]
    assert result["matrix_compression"] >= 14
    assert result["cycles_over_bound"] <= 1.1
    assert 0 < result["speedup_over_compression"] < result["most_speedup_over_compression"]
    assert result["accuracy"] is None  # noise has no labels


def test_a_u_net(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Maxima, upsampling and concat in a network of twenty layers: `make sim TEST=zoo_unet`."""
    monkeypatch.setattr(sys, "argv", ["sim", "--test=zoo_unet", "--config=8x4"])
    assert sim_script.main() == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1].removeprefix("RESULT "))
    assert (result["mismatches"], result["images"]) == (0, 1)
    assert result["cycles"] == result["predicted_cycles"]
    assert result["matrix_compression"] >= 13.9  # the first layer keeps its weights
    assert result["speedup_over_dense"] > 10


def test_a_network_in_memories_for_a_part_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The U-Net in memories for a fiftieth of its tables; the rest comes while it runs, over a stream of 64
    bits and over one of 128.
    """
    monkeypatch.setitem(ARCHITECTURES, "unet", replace(ARCHITECTURES["unet"], share=0.02))
    drawn = prepare_module.random_architecture(
        "unet", prepare_module.ZOO_SCHEME, ARCHITECTURES["unet"].ratio, SMALL, 1, 1
    )
    monkeypatch.setattr(prepare_module, "random_architecture", lambda *_: drawn)  # it is the same for both
    waited = []
    for config in (SMALL, CONFIGS["8x4s128"]):
        outcome = run("zoo_unet", "verilator", config, 1, None)
        assert outcome.passed, outcome.message
        r = outcome.result
        assert (r["images"], r["mismatches"]) == (1, 0)
        assert r["cycles"] == r["predicted_cycles"]
        assert r["segments"] > 2 * len(r["layers"])
        assert r["stream_bits"] == config.stream_bits
        assert r["predicted_load_wait"] == r[f"load_wait_at_{config.stream_bits}"]
        assert r["load_wait_cycles"] >= r["predicted_load_wait"] > 0
        waited.append(r["load_wait_cycles"])
    assert waited[1] < waited[0]
    assert r["load_wait_at_64"] > r["load_wait_at_128"] >= r["load_wait_at_256"]
    with pytest.raises(TatamiError, match="FORMAT xor: the network of 'zoo_unet' is loaded while it runs"):
        prepare("zoo_unet", SMALL, 1, 1, Source(xor=True))


def test_a_network_that_no_memory_holds_is_loaded_while_it_runs(
    sim: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def none(*_: object, **__: object) -> None:
        raise CapacityError("LANE needs too many words")

    monkeypatch.setattr("tb.flow.prepare.compile_network", none)
    monkeypatch.setattr("tb.flow.prepare.compile_fitted", none)
    outcome = run("network", sim, SMALL, 1, small_network(tmp_path / "x.tflite"))
    assert outcome.passed, outcome.message
    assert outcome.result["segments"] >= len(outcome.result["layers"])
    assert (outcome.result["mismatches"], outcome.result["images"]) == (0, 1)
    with pytest.raises(TatamiError, match="FORMAT xor: the network of 'file' is loaded while it runs"):
        prepare("file", SMALL, 1, 1, Source(tmp_path / "x.tflite", xor=True))


def test_image_after_image(sim: str) -> None:
    """Every output, and hardly a cycle between two images."""
    outcome = run("digits_back_to_back", sim, CONFIGS["16x16"], 3, None)
    assert outcome.passed, outcome.message
    r = outcome.result
    assert (r["images"], r["mismatches"], r["compared_bytes"]) == (3, 0, 3 * 160)
    assert r["cycles"] == r["predicted_cycles"] + r["load_wait_cycles"]
    assert r["share"] > 0.97
    # the stream begins some cycles behind START
    assert 0 <= r["load_wait_cycles"] - r["predicted_load_wait"] < 10


@pytest.mark.icarus
def test_a_network_in_pieces_image_after_image(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of its tables come again for each image, and its program in pages."""

    def cut(found: StoredNetwork, config: ArrayConfig, share: float) -> Image:
        image = compile_cut(found.network, config, share / 10)
        assert "PROGRAM" in {item.memory for item in image.run_stream if isinstance(item, Section)}
        return image

    monkeypatch.setattr(prepare_module, "_compiled", cut)
    outcome = run("digits_back_to_back", "icarus", replace(CONFIGS["16x16"], program_depth=80), 3, None)
    assert outcome.passed, outcome.message
    r = outcome.result
    assert (r["images"], r["mismatches"], r["compared_bytes"]) == (3, 0, 3 * 160)
    assert r["cycles"] == r["predicted_cycles"] + r["load_wait_cycles"]
    # planes of the next input wait where the array writes to their bank
    assert 0 <= r["load_wait_cycles"] - r["predicted_load_wait"] < 100


def test_several_networks_make_one_table() -> None:
    """`zoo` has a row for each of its tests."""
    assert SEVERAL["zoo"].tests == tuple(name for name in TESTS if name.startswith("zoo_"))
    summary = dict.fromkeys(SEVERAL["zoo"].columns.values(), 1) | {"sim": "icarus", "seed": 1, "images": 1}
    outcome = runner.RunResult(True, "", Path(), {}, 0.5, None)
    done = [Simulated(outcome, summary | {"test": name}, None, None) for name in SEVERAL["zoo"].tests]
    table = together(done, "zoo")
    assert [row["network"] for row in table["zoo"]] == list(SEVERAL["zoo"].tests)
    assert (table["passed"], table["cycles"]) == (True, len(done))


def test_all_systems_in_one_table(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each kept network has what its scheme is about, runs, and has its row: `make sim TEST=systems`."""
    monkeypatch.setattr(sys, "argv", ["sim", "--test=systems", "--images=3"])
    assert sim_script.main() == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1].removeprefix("RESULT "))
    rows = {row["system"]: row for row in result["systems"]}
    assert list(rows) == list(SYSTEMS)
    assert (result["passed"], result["mismatches"], result["images"]) == (True, 0, 3 * len(SYSTEMS))
    for name, row in rows.items():
        assert row["cycles"] == row["predicted"] > 0, name
        assert (row["mismatches"], row["stalls"]) == (0, 0), name
        assert row["accuracy"] >= 2 / 3, name
        assert row["scheme"] == SYSTEMS[name].scheme
        data = systems.load(name)
        assert data.meta["accuracy"]["int8"] > 0.9, name
        # of all filters: a tile of few has more slots than weights
        assert data.meta["matrix_compression"] >= 0.99 * SYSTEMS[name].ratio
        # the first layer, which no scheme touches, is counted in the run, and a residual's lanes
        assert row["compression"] > (1 if name == "dense" else 0.6 * SYSTEMS[name].ratio) - 1e-9, name
    assert rows["subword"]["config"] == "16x16w4"
    assert rows["xor"]["config"].startswith("16x16x")
    for name, row in rows.items():
        assert row["decoder"] == 0, name
        assert (row["slots_kb"] < 0.8 * row["plain_kb"]) == (name == "xor"), name
    assert {
        name: layer.name
        for name in ("penni",)
        for layer in systems.load(name).network.layers
        if "basis" in layer.name
    }


@pytest.mark.parametrize(("kind", "scheme"), [("tflite", "dense"), ("onnx", "tight"), ("operators", "dense")])
def test_a_file_of_another_tool(
    kind: str,
    scheme: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    """From the file to every plane on the RTL, and held against its runtime: one command."""
    makers = {"tflite": small_network, "onnx": cnn, "operators": operators}
    path = makers[kind](tmp_path / f"x.{'tflite' if kind == 'tflite' else 'onnx'}")
    options = ["--config=8x4", "--images=2", f"--weights={path}", f"--scheme={scheme}"]
    options += [] if scheme == "dense" else ["--ratio=2"]
    monkeypatch.setattr(sys, "argv", ["sim", "--test=network", *options])
    assert sim_script.main() == 0
    *lines, last = capsys.readouterr().out.splitlines()
    result = json.loads(last.removeprefix("RESULT "))
    assert (result["mismatches"], result["images"], result["scheme"]) == (0, 2, scheme)
    assert result["cycles"] == result["predicted_cycles"] > 0
    assert result["runtime_same_class"] >= (0.9 if scheme == "dense" else 0)
    assert "note: images are drawn at random, seed 1" in lines


def test_a_missing_system_says_what_writes_it(tmp_path: Path) -> None:
    with pytest.raises(TatamiError, match=r"dense.npz: no such file; `make train NET=systems` writes it"):
        systems.load("dense", tmp_path)
    with pytest.raises(TatamiError, match="WEIGHTS: test 'dense' takes none"):
        prepare("dense", CONFIGS["16x16"], 1, 1, Source(tmp_path))


def test_systems_are_trained_by_one_command(tmp_path: Path) -> None:
    figures = train_systems.run(1, tmp_path, replace(BUDGET, batch=128, epochs=0.1), Console(quiet=True))
    assert {path.stem for path in tmp_path.iterdir()} == set(SYSTEMS)
    for name, system in SYSTEMS.items():
        assert systems.load(name, tmp_path).meta["scheme"] == system.scheme
        assert figures[name]["matrix_compression"] >= 0.99 * system.ratio
    with pytest.raises(TatamiError, match="no such directory"):
        train_systems.run(1, tmp_path / "none")


def test_the_random_resnet_has_the_layers_of_the_trained_one() -> None:
    ours, theirs = random_resnet(3, np.random.default_rng(1)), from_torch(resnet20(), SHAPE, "resnet20")
    assert ours.shapes == theirs.shapes
    for one, other in zip(ours.layers, theirs.layers, strict=True):
        assert type(one) is type(other)
        if isinstance(one, FloatConv) and isinstance(other, FloatConv):
            assert (one.name, one.source, one.stride, one.padding, one.activation) == (
                other.name,
                other.source,
                other.stride,
                other.padding,
                other.activation,
            )
            assert one.weight.shape == other.weight.shape
            if one.residual is not None and other.residual is not None:
                assert (one.residual.source, one.residual.stride) == (
                    other.residual.source,
                    other.residual.stride,
                )
                np.testing.assert_array_equal(one.residual.channel, other.residual.channel)
            assert (one.residual is None) == (other.residual is None)
        if isinstance(one, FloatLinear) and isinstance(other, FloatLinear):
            assert one.weight.shape == other.weight.shape


def test_one_shot_prunes_what_the_plans_leave_out() -> None:
    network = random_resnet(1, np.random.default_rng(2))
    pruned, plans = prune_once(
        network, get_scheme("tight_pass"), 5.0, CONFIGS["8x4"], np.random.default_rng(0)
    )
    assert matrix_compression(plans) >= 5
    assert "conv1" not in plans
    for before, after in zip(network.layers, pruned.layers, strict=True):
        if isinstance(before, FloatConv) and isinstance(after, FloatConv) and before.name in plans:
            mask = plans[before.name].mask.reshape(before.weight.shape)
            np.testing.assert_array_equal(after.weight, np.where(mask, before.weight, 0))


def test_what_does_not_fit_is_named(task: Task, tmp_path: Path) -> None:
    found = compressed(task, "tight_joint", tmp_path)
    bad: list[tuple[dict[str, Any], str]] = [
        ({"weights": None}, "WEIGHTS is not given: a network.npz that `make compress` wrote, a .tflite or"),
        ({"data": tmp_path}, r"DATA '.*': the network of this test brings its own images"),
        ({"images": 101}, r"IMAGES 101 is outside 1..100"),
        ({"config": CONFIGS["4x2"]}, "CONFIG '4x2' has size 4, the network is planned for 8"),
        (
            {"config": array_for(get_scheme("tight_subword"), SMALL)},
            "CONFIG '8x4w4' has weight_bits 4, the network is planned for 8",
        ),
        ({"name": "resnet20"}, "DATA is not given: a trained ResNet-20 needs both, a random one neither"),
        ({"name": "resnet20", "data": tmp_path}, "cifar-10-batches-py: no such folder"),
        (
            {"weights": tmp_path / "checkpoint.pt"},
            "checkpoint.pt: field 'archive' cannot be read|checkpoint.pt: field 'header' is missing",
        ),
    ]
    for change, message in bad:
        given: dict[str, Any] = {
            "name": "file",
            "config": SMALL,
            "seed": 1,
            "images": 1,
            "weights": found,
            "data": None,
            **change,
        }
        source = Source(given.pop("weights"), given.pop("data"))
        with pytest.raises(TatamiError, match=message):
            prepare(**given, source=source)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--test=digits", "--weights=README.md"], "WEIGHTS: test 'digits' takes none"),
        (["--test=digits", "--format=xor"], "FORMAT: test 'digits' takes none"),
        (["--test=tight", "--format=gzip"], "FORMAT 'gzip' is unknown; valid: plain, xor"),
        (["--test=network", "--weights=no/such.npz"], "WEIGHTS 'no/such.npz': no such file or folder"),
        (["--test=network"], "WEIGHTS is not given"),
        (["--test=digits", "--shape=1,2,3"], "SHAPE: test 'digits' takes none"),
        (["--test=network", "--shape=1,2"], "SHAPE '1,2' must be channels,rows,columns"),
        (["--test=tight", "--ratio=3"], "RATIO is given: only for a WEIGHTS that ends in .tflite or .onnx"),
    ],
)
def test_a_bad_variable_is_one_line_and_status_2(options: list[str], message: str) -> None:
    assert_refused("sim", options, message)


def test_plain_figures_are_those_of_the_machine_without_a_decoder(task: Task, tmp_path: Path) -> None:
    found = Source(compressed(task, "tight_joint", tmp_path))
    plain, decoded = (
        network_file.load(Path(prepare("file", CONFIGS[c], 1, 2, found).options.network) / NETWORK_FILE)
        for c in ("8x4", "8x4x")
    )
    assert plain.meta["plain"] == decoded.meta["plain"]
    assert plain.meta["dense"] == decoded.meta["dense"]


def test_the_same_network_is_prepared_once(task: Task, tmp_path: Path) -> None:
    found = compressed(task, "tight_joint", tmp_path)
    first, second = (prepare("file", SMALL, 1, 2, Source(found)) for _ in range(2))
    assert first == second
    assert (Path(first.options.network) / IMAGE_FILE).is_file()


def test_a_network_that_brings_few_images_runs_these(task: Task, tmp_path: Path) -> None:
    """Without IMAGES; a number that is asked for is refused."""
    found = compressed(task, "dense", tmp_path)
    brought = len(network_file.load(found).images)
    assert prepare("file", SMALL, 1, brought + 1, Source(found, exact=False)).options.images == brought
    with pytest.raises(TatamiError, match=rf"IMAGES {brought + 1} is outside 1\.\.{brought}"):
        prepare("file", SMALL, 1, brought + 1, Source(found))


def test_a_network_without_images_is_refused(task: Task, tmp_path: Path) -> None:
    kept = network_file.load(compressed(task, "dense", tmp_path))
    network_file.save(replace(kept, images=kept.images[:0], labels=kept.labels[:0]), tmp_path / "none.npz")
    for exact in (True, False):
        with pytest.raises(TatamiError, match="network 'digits' brings no images, must bring at least 1"):
            prepare("file", SMALL, 1, 10, Source(tmp_path / "none.npz", exact=exact))
