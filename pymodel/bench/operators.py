"""The operator tests that the package `onnx` ships, through import, float, int8 and the array model.
`tb/flow/operators.py` takes them on to the RTL. Writes docs/operators.md, a row for each test.

A test is a model of one operator, inputs, and the outputs that they must give. It passes if the imported
network gives them, and if its int8 network, compiled, runs with every byte of every plane as the integer
reference has it. Or it is refused by name. Anything else is wrong.
"""

from __future__ import annotations

import importlib.util
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich import box
from rich.console import Console
from rich.table import Table

from pymodel.compiler.agreement import wrong_bytes
from pymodel.compiler.compile import compile_fitted
from pymodel.machine.config import CONFIGS
from pymodel.machine.errors import TatamiError
from pymodel.machine.places import ROOT
from pymodel.machine.progress import tracked
from pymodel.network.float import evaluate_float
from pymodel.network.from_onnx import OLDEST, from_onnx
from pymodel.network.integer import INPUT, Network
from pymodel.network.model_file import FloatFile, ModelFile
from pymodel.network.quantise import calibrate, quantise, quantise_tensor
from pymodel.network.reference import Int8Array, evaluate

Array = npt.NDArray[Any]

PAGE = ROOT / "docs" / "operators.md"
CONFIG = "4x2"
WEIGHTED = ("Conv", "ConvTranspose", "QLinearConv", "Gemm", "MatMul", "BatchNormalization", "PRelu")
CLOSE = 1e-4  # of the largest value: what a float network may differ by
ENOUGH = 0.9  # of the tests with constant weights pass
IMAGES = 2  # of a test's, at most, on the array model
PASSES, HOST, REFUSED, WRONG = "passes", "left to the host", "refused", "wrong"

# Suites: models of files, and models that the package makes, of these operators.
CONVERTED, MADE = "pytorch-converted", "node"
OPERATORS = (
    "Conv", "QLinearConv", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "Gemm", "MatMul",
    "Relu", "Clip", "LeakyRelu", "HardSigmoid", "HardSwish", "Sigmoid", "Tanh", "Add", "Sub", "Mul", "Concat",
    "Split", "Slice", "Pad", "Resize", "Upsample", "DepthToSpace", "SpaceToDepth", "BatchNormalization",
    "Flatten", "Reshape", "Transpose",
)  # fmt: skip
OUTCOMES = (PASSES, HOST, REFUSED, WRONG)
ALL, PLANAR, WITH_WEIGHTS = "all", "two-dimensional", "two-dimensional, with weights"
SUITES = {
    CONVERTED: "Models that PyTorch wrote, with their weights.",
    MADE: "Models of one operator that the package makes; of Resize, those that take the nearest pixel.",
}
HEAD = """# Operator tests of ONNX

<!-- written by `make bench BENCH=operators` -->

`make bench BENCH=operators` writes this page. The package `onnx` ships tests of operators: a model, its
inputs, and the outputs that they must give. Each test goes through all of Tatami:

1. The model is [imported](from-files.md). In float it gives the test's outputs, to 1e-4 of the largest value.
   A quantised one gives them to one step.
2. It is quantised with the scales of the test's own images, and compiled for an array of 4 x 2.
3. The image runs on the array model, and on the RTL under Verilator, with the first two images. Every byte of
   every plane is that of the integer reference.

What only the host can do, and the order of an output's values, is left to the host. What is refused is
refused when the model is read or compiled, with the reason that the table has.

Where a test has its weights as inputs, they become constants here. Two tensors that are computed are the
channels of one input. A model with several outputs is imported once for each. Models older than opset 9 are
converted to 9 by the package's own converter.

A test is two-dimensional if its input has 2 to 4 dimensions and its window, if it has one, has two. It has
weights if there are any, the same for all images. (A batch norm that is being trained has none yet; a product
with a matrix for each image, or a bias for each image, has none either.)
"""
OF_TENSORS = ("Add", "Sub", "Mul", "Concat")  # take two tensors that are computed


@dataclass(frozen=True)
class Case:
    """A test: `inputs` by name and `outputs` are those of its model."""

    suite: str
    name: str
    model: Any
    inputs: dict[str, Array]
    outputs: tuple[Array, ...]
    tolerance: tuple[float, float]  # the test's own, relative to each value and absolute

    @property
    def operators(self) -> str:
        """Without what gives constants."""
        return ", ".join(node.op_type for node in self.model.graph.node if node.op_type != "Constant")

    @property
    def first(self) -> Array:
        """The tensor that is computed."""
        return next(iter(self.inputs.values()))

    @property
    def planar(self) -> bool:
        """Whether it is two-dimensional: of maps or lists of values, with windows of rows and columns."""
        kernel = _attributes(self.model).get("kernel_shape", (1, 1))
        return self.first.ndim in (2, 3, 4) and len(kernel) == 2

    @property
    def weighted(self) -> bool:
        """Whether it has weights that are the same for all images."""
        nodes = self.model.graph.node
        if not any(node.op_type in WEIGHTED for node in nodes) or _attributes(self.model).get(
            "training_mode"
        ):
            return False
        place, dims = {"MatMul": (1, 3), "Gemm": (2, 2)}.get(nodes[0].op_type, (len(self.inputs), 0))
        own = list(self.inputs.values())[place : place + 1]
        return not any(one.ndim >= dims and 1 < len(one) == len(self.first) for one in own)

    @property
    def tensors(self) -> bool:
        """Whether it takes more than one tensor that is computed."""
        return len(self.inputs) > 1 and self.model.graph.node[0].op_type in OF_TENSORS


@dataclass(frozen=True)
class Ran:
    """A network that ran on the array model, with its images."""

    network: Network
    images: Int8Array


Wrong = Mapping[int, str]  # what is wrong, by the number of the network
Runs = Callable[[Sequence[Ran]], Wrong]


@dataclass(frozen=True)
class Row:
    case: Case
    outcome: str
    why: str = ""
    ran: tuple[Ran, ...] = ()


def _attributes(model: Any) -> dict[str, Any]:
    """Of all nodes."""
    from onnx import helper

    return {one.name: helper.get_attribute_value(one) for node in model.graph.node for one in node.attribute}


def run(
    console: Console, runs: Runs, page: Path = PAGE, tests: Sequence[Case] | None = None
) -> dict[str, Any]:
    """Runs the tests, all of both suites without `tests`; prints what became of them, and writes `page`.
    `runs` runs the networks of those that pass elsewhere, too.
    """
    if importlib.util.find_spec("onnx") is None:
        raise TatamiError("needs the package 'onnx'; `make .venv/.onnx` installs it")
    given = cases() if tests is None else tests
    with tempfile.TemporaryDirectory() as folder:
        rows = [held(case, Path(folder)) for case in tracked(given, "operator tests", [1] * len(given))]
    rows = _run_elsewhere(rows, runs)
    figures = counted(rows)
    table = Table(title="operator tests of the package onnx", title_justify="left", box=box.SIMPLE_HEAD)
    for name in ("tests", *OUTCOMES):
        table.add_column(name, justify="left" if name == "tests" else "right")
    for name, counts in figures.items():
        table.add_row(name, *(str(counts[one]) for one in OUTCOMES))
    console.print(table)
    for row in rows:
        if row.outcome == WRONG:
            console.print(f"{row.case.suite} {row.case.name}: {row.why}", markup=False)
    page.write_text(rendered(rows, figures))
    console.print(f"written: {page}", markup=False)
    weighted = figures[WITH_WEIGHTS]
    return {
        **figures,
        "passed": not figures[ALL][WRONG] and weighted[PASSES] >= ENOUGH * sum(weighted.values()),
    }


def _run_elsewhere(rows: Sequence[Row], runs: Runs) -> list[Row]:
    """The rows, those whose networks do otherwise there as wrong."""
    passed = [row for row in rows if row.outcome == PASSES]
    wrong = runs([ran for row in passed for ran in row.ran])
    owners = [row for row in passed for _ in row.ran]
    said = {id(owners[number]): why for number, why in wrong.items()}
    return [replace(row, outcome=WRONG, why=said[id(row)]) if id(row) in said else row for row in rows]


def counted(rows: Sequence[Row]) -> dict[str, dict[str, int]]:
    """How many tests of which kind had which outcome."""
    kinds = {
        ALL: list(rows),
        PLANAR: [row for row in rows if row.case.planar],
        WITH_WEIGHTS: [row for row in rows if row.case.planar and row.case.weighted],
    }
    return {
        kind: {one: sum(row.outcome == one for row in some) for one in OUTCOMES}
        for kind, some in kinds.items()
    }


def rendered(rows: Sequence[Row], figures: Mapping[str, Mapping[str, int]]) -> str:
    """The page."""
    lines = [HEAD, "| tests | " + " | ".join(OUTCOMES) + " |", "|---|" + "---|" * len(OUTCOMES)]
    lines += [
        f"| {kind} | " + " | ".join(str(counts[one]) for one in OUTCOMES) + " |"
        for kind, counts in figures.items()
    ]
    for suite, said in SUITES.items():
        some = [row for row in rows if row.case.suite == suite]
        lines += [
            "",
            f"## {suite}",
            "",
            said,
            "",
            "| test | operators | input | outcome |",
            "|---|---|---|---|",
        ]
        for row in some:
            shape = " x ".join(map(str, row.case.first.shape))
            outcome = f"{row.outcome}: {row.why}" if row.why else row.outcome
            lines.append(
                f"| {row.case.name} | {row.case.operators} | {shape} {row.case.first.dtype} |"
                f" {outcome.replace('|', '/')} |"
            )
    return "\n".join(lines) + "\n"


def cases() -> list[Case]:
    """All of both suites."""
    from onnx import load, load_tensor, numpy_helper
    from onnx.backend.test.case import node
    from onnx.backend.test.loader import load_model_tests

    found = []
    for test in sorted(load_model_tests(kind=CONVERTED), key=lambda one: one.name):
        folder = Path(test.model_dir)
        model = load(folder / "model.onnx")
        kept = {one.name for one in model.graph.initializer}
        names = [one.name for one in model.graph.input if one.name not in kept]
        given, wanted = (
            [
                numpy_helper.to_array(load_tensor(folder / "test_data_set_0" / f"{kind}_{n}.pb"))
                for n in range(count)
            ]
            for kind, count in (("input", len(names)), ("output", len(model.graph.output)))
        )
        found.append(
            Case(
                CONVERTED,
                test.name,
                model,
                dict(zip(names, given, strict=True)),
                tuple(wanted),
                (test.rtol, test.atol),
            )
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of arithmetic in the package's own tests
        made = node.collect_testcases()
    for test in made:
        graph = test.model.graph
        if len(graph.node) != 1 or graph.node[0].op_type not in OPERATORS:
            continue  # of another operator, or an operator written as others
        if (
            graph.node[0].op_type == "Resize"
            and _attributes(test.model).get("mode", b"nearest") != b"nearest"
        ):
            continue
        given, wanted = test.data_sets[0]
        names = [one.name for one in graph.input]
        found.append(
            Case(
                MADE,
                test.name,
                test.model,
                dict(zip(names, given, strict=True)),
                tuple(wanted),
                (test.rtol, test.atol),
            )
        )
    return found


def held(case: Case, folder: Path) -> Row:
    """What becomes of a test. Files are written to `folder`."""
    said, ran = [], list[Ran]()
    for number in range(len(case.outputs)):
        try:
            said.append(_output_held(case, number, folder, ran))
        except TatamiError as error:
            text = " ".join(str(error).split())
            return Row(case, REFUSED, text.removeprefix(f"{folder / FILE}: ").split("; supported: ")[0])
        except Exception as error:  # a fault of the importer, whatever it is
            return Row(case, WRONG, f"{type(error).__name__}: {' '.join(str(error).split())}")
    return Row(case, *next((one for one in said if one[0] != PASSES), said[0]), tuple(ran))


FILE = "test.onnx"
SAME = "tatami.same"  # what makes the network compute an output that it would leave to the host


def _output_held(case: Case, number: int, folder: Path, ran: list[Ran]) -> tuple[str, str]:
    """Outcome and reason of one output of a test: each becomes a network, one more of `ran`."""
    path, wanted = folder / FILE, case.outputs[number]
    model, images = _alone(case, number)
    path.write_bytes(model.SerializeToString())
    file = from_onnx(path, "test")
    left = [one.removeprefix(f"{HOST}: ") for one in file.notes if one.startswith(HOST)]
    if left:
        try:
            path.write_bytes(_computed(model).SerializeToString())
            file = from_onnx(path, "test")
        except TatamiError:
            return HOST, ", ".join(left)
    if isinstance(file, ModelFile):
        return _integers_held(file, images, wanted, ran)
    return _floats_held(file, images, wanted, case.tolerance, ran)


def _floats_held(
    file: FloatFile, images: Array, wanted: Array, tolerance: tuple[float, float], ran: list[Ran]
) -> tuple[str, str]:
    real = images.reshape(len(images), *file.network.input_shape).astype(np.float64)
    last = file.network.layers[-1].name
    found = evaluate_float(file.network, real)[last]
    if found.size != wanted.size:
        return WRONG, f"{found.size} values, must be {wanted.size}"
    gap, largest = np.abs(found.reshape(wanted.shape) - wanted), np.abs(wanted).max(initial=0)
    relative, absolute = tolerance
    exact = gap.max(initial=0) <= CLOSE * largest
    if not exact and not np.all(gap <= absolute + relative * np.abs(wanted)):
        return WRONG, f"float values are {gap.max():.3g} off, the largest is {largest:.3g}"
    scales = calibrate(file.network, real)
    pixels = quantise_tensor(real[:IMAGES], scales[INPUT])
    outcome, why = _runs(Ran(quantise(file.network, scales), pixels), ran)
    if outcome == PASSES and not exact:
        why = f"to the test's own tolerance, {relative:g} of each value: its outputs have four digits"
    return outcome, why


def _integers_held(file: ModelFile, images: Array, wanted: Array, ran: list[Ran]) -> tuple[str, str]:
    less = 128 if images.dtype == np.uint8 else 0
    pixels = (images.astype(np.int16) - less).astype(np.int8).reshape(len(images), *file.network.input_shape)
    found = evaluate(file.network, pixels)[file.network.layers[-1].name].astype(np.int16) + less
    steps = int(np.abs(found.reshape(wanted.shape) - wanted.astype(np.int16)).max(initial=0))
    if steps > 1:
        return WRONG, f"int8 values are {steps} steps off"
    return _runs(Ran(file.network, pixels[:IMAGES]), ran)


def _runs(one: Ran, ran: list[Ran]) -> tuple[str, str]:
    """On the array model, against the reference."""
    ran.append(one)
    wrong = wrong_bytes(one.network, compile_fitted(one.network, CONFIGS[CONFIG]), one.images)
    if wrong:
        return WRONG, f"{sum(wrong.values())} bytes of the array model differ, first of '{next(iter(wrong))}'"
    return PASSES, ""


def _alone(case: Case, number: int) -> tuple[Any, Array]:
    """The test's model with one input and one output, and the input's values.

    Other inputs become constants. Of two tensors that are computed, of the same shape but for their channels,
    one input is made, which the model splits again.
    """
    from onnx import ModelProto, helper, numpy_helper, version_converter

    model = ModelProto()
    model.CopyFrom(case.model)
    if max(one.version for one in model.opset_import if not one.domain) < OLDEST:
        model = version_converter.convert_version(model, OLDEST)
    graph = model.graph
    names, arrays = list(case.inputs), list(case.inputs.values())
    output = graph.output[number]
    del graph.output[:]
    graph.output.append(output)
    shapes = {(*one.shape[:1], *one.shape[2:]) for one in arrays}
    whole = arrays[0]
    constant = list(zip(names[1:], arrays[1:], strict=True))
    if case.tensors and whole.ndim > 1 and len(shapes) == 1:
        whole, constant = np.concatenate(arrays, axis=1), []
        sizes = numpy_helper.from_array(np.array([one.shape[1] for one in arrays]), f"{SAME}.sizes")
        graph.initializer.append(sizes)
        split = helper.make_node("Split", [SAME, sizes.name], names, axis=1)
        graph.node.insert(0, split)
        names[0] = SAME
    for name, values in constant:
        graph.initializer.append(numpy_helper.from_array(values, name))
    kind = helper.np_dtype_to_tensor_dtype(whole.dtype)
    kept = [one for one in graph.input if one.name not in case.inputs]
    del graph.input[:]
    graph.input.extend([helper.make_tensor_value_info(names[0], kind, whole.shape), *kept])
    return model, whole


def _computed(model: Any) -> Any:
    """The model with its output times 1."""
    from onnx import ModelProto, numpy_helper

    found = ModelProto()
    found.CopyFrom(model)
    graph = found.graph
    graph.initializer.append(numpy_helper.from_array(np.float32(1), f"{SAME}.one"))
    node = graph.node.add(op_type="Mul", input=[graph.output[0].name, f"{SAME}.one"], output=[SAME])
    del node
    graph.output[0].name = SAME
    return found
