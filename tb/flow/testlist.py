"""The tests that `make sim` knows. To add one, add an entry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import Field

from pymodel.machine.errors import TatamiError
from pymodel.zoo.architectures import ARCHITECTURES
from pymodel.zoo.pruned import ZOO
from pymodel.zoo.systems import SYSTEMS
from tb.common.settings import Options, Parameter
from tb.flow.blocks import BLOCKS, Block

# The whole machine with the checkers of tb/checkers/ around and inside it.
CHECKED_TOP = "psa_checked"
# The machine with its DMA, and checkers on the ports of both.
CHECKED_SYSTEM = "psa_checked_system"


@dataclass(frozen=True)
class TestSpec:
    """One cocotb test module and how it is run.

    `images` and `icarus_images` are the numbers of images by default (None: the test takes no images),
    `max_images` the most there are. `network` names one of tb/flow/prepare.py that is compiled first, and
    decides how deep the memories are. `options` go to the test module; `timeout_s` ends a simulation that
    hangs. A block has a `top` and Verilog `parameters` of its own; the whole machine takes those of the
    configuration that it is run in. A regression over N seeds runs the test in N x `regress` of them, rounded
    up (0: in none), on Icarus in N x `icarus_regress`.
    """

    __test__ = False  # not for pytest to collect

    name: str
    module: Annotated[str, Field(pattern=r"^[\w.]+$")]
    description: str
    images: int | None = None
    icarus_images: int | None = None
    max_images: int | None = None
    options: Options = field(default_factory=Options)
    timeout_s: Annotated[int, Field(ge=1)] = 900
    top: str = CHECKED_TOP
    network: str | None = None
    parameters: Mapping[Parameter, int] | None = None
    regress: float = 0.1
    icarus_regress: float = 0.05

    def share(self, sim: str) -> float:
        """The part of a regression's seeds that runs this test."""
        return self.icarus_regress if sim == "icarus" else self.regress

    def default_images(self, sim: str) -> int | None:
        return self.icarus_images if sim == "icarus" else self.images


# An image of VGG-16 runs twice, ten million cycles each, at some ten thousand a second.
LARGE_S = 3600
SLOW = 0.05  # share of the seeds of tests that go through all of their cases with each


def env_test(
    name: str,
    description: str,
    images: int | None = None,
    icarus_images: int | None = None,
    max_images: int | None = None,
    regress: float = TestSpec.regress,
) -> TestSpec:
    """A test of the pyuvm environment: one of the functions of its module."""
    module = "tb.psa_top.test_env"
    return TestSpec(
        name,
        module,
        description,
        images,
        icarus_images,
        max_images,
        options=Options(only=rf"\.{name}$"),
        regress=regress,
    )


NETWORK_MODULE = "tb.psa_top.test_network"


def system_test(name: str) -> TestSpec:
    """The digits network under one of the published systems."""
    system = SYSTEMS[name]
    stored = ", slots XOR-encoded" if system.xor else ""
    what = (
        f"the digits network under {system.scheme}, {system.ratio:g}x{stored}: every output plane of every"
        " layer"
    )
    return TestSpec(name, NETWORK_MODULE, what, 20, 1, 100, network=name, regress=0, icarus_regress=0)


def back_to_back_test(name: str, network: str, shown: str, images: int) -> TestSpec:
    """A network on image after image."""
    what = f"{shown}, image after image without a pause: every output, and images a second"
    module = "tb.psa_top.test_back_to_back"
    return TestSpec(name, module, what, images, 2, 100, network=network, regress=0, icarus_regress=0)


def zoo_test(name: str) -> TestSpec:
    """A random network of a public architecture."""
    found = ARCHITECTURES[name]
    what = f"{found.summary}, random weights, pruned {found.ratio:g}x: every output plane of every layer"
    network = ZOO + name
    return TestSpec(
        network,
        NETWORK_MODULE,
        what,
        images=1,
        icarus_images=1,
        max_images=4,
        timeout_s=LARGE_S,
        network=network,
        regress=0,
        icarus_regress=0,
    )


TESTS = {
    t.name: t
    for t in (
        TestSpec(
            "digits",
            "tb.psa_top.test_digits",
            "the trained digits network, packed: every output plane of every layer",
            images=100,
            icarus_images=2,
            max_images=450,
            regress=0.02,
        ),
        TestSpec(
            "digits_dense",
            "tb.psa_top.test_digits",
            "the same network with every weight in a slot of its own, for comparison",
            images=10,
            icarus_images=1,
            max_images=450,
            options=Options(dense=True),
            regress=0.01,
        ),
        TestSpec(
            "digits_dma",
            "tb.psa_system.test_digits",
            "the digits network from memory, by the DMA: every plane, and the rate at which it loads",
            images=20,
            icarus_images=1,
            max_images=450,
            top=CHECKED_SYSTEM,
            regress=0.01,
        ),
        TestSpec(
            "dma_errors",
            "tb.psa_system.test_errors",
            "the machine with its DMA: every error, resets in any cycle, the host's accesses meanwhile",
            top=CHECKED_SYSTEM,
            regress=SLOW,
            icarus_regress=0.01,
        ),
        TestSpec(
            "random",
            "tb.psa_top.test_random",
            "random layers of every kind, drawn from SEED",
            regress=1.0,
            icarus_regress=1.0,
        ),
        TestSpec(
            "errors",
            "tb.psa_top.test_errors",
            "bad packets and programs: error code, interrupt, soft reset, next run",
            regress=SLOW,
        ),
        TestSpec(
            "extremes",
            "tb.psa_top.test_extremes",
            "full-scale sums, and k = 5 with every padding on small planes",
        ),
        TestSpec(
            "operations",
            "tb.psa_top.test_operations",
            "every operation, with windows of every shape, stride, dilation and padding",
            timeout_s=3600,
            regress=SLOW,
            icarus_regress=0.01,
        ),
        env_test("env_random", "pyuvm environment: random programs loaded over each other, random streams"),
        env_test("env_corners", "pyuvm environment: programs at the corners of what the machine can do"),
        env_test(
            "env_streams", "pyuvm environment: backpressure storms and a starved in stream", regress=SLOW
        ),
        env_test(
            "env_busy",
            "pyuvm environment: registers, packets and START while a program runs; masked interrupts",
        ),
        env_test(
            "env_packets",
            "pyuvm environment: every bad packet, START and loads while its error stands",
            regress=SLOW,
        ),
        env_test("env_programs", "pyuvm environment: every bound that a program can break", regress=SLOW),
        env_test(
            "env_resets",
            "pyuvm environment: soft reset in every cycle of a program; both resets everywhere else",
        ),
        env_test(
            "env_live",
            "pyuvm environment: loads while a program runs, deadlocks, bad packets and resets between them",
        ),
        env_test("env_registers", "pyuvm environment: the register model's sequences"),
        env_test("env_metamorphic", "pyuvm environment: images that must give the same planes"),
        env_test(
            "env_digits",
            "pyuvm environment: the trained digits network",
            images=20,
            icarus_images=1,
            max_images=450,
        ),
        TestSpec(
            "resnet20",
            NETWORK_MODULE,
            "a compressed ResNet-20 of WEIGHTS and DATA, or a random one: every output plane of every layer",
            images=10,
            icarus_images=1,
            max_images=10_000,
            network="resnet20",
            regress=0,
            icarus_regress=0,
        ),
        back_to_back_test("digits_back_to_back", "tight", "the digits network", 100),
        back_to_back_test("back_to_back", "resnet20", "the network of resnet20", 10),
        *(system_test(name) for name in SYSTEMS),
        *(zoo_test(name) for name in ARCHITECTURES),
        TestSpec(
            "zoo",
            NETWORK_MODULE,
            "all of zoo_...: each of these, in one table",
            images=1,
            icarus_images=1,
            max_images=4,
            network="zoo",
            regress=0,
            icarus_regress=0,
        ),
        TestSpec(
            "systems",
            NETWORK_MODULE,
            f"{', '.join(SYSTEMS)}: each of these, in one table",
            images=20,
            icarus_images=1,
            max_images=100,
            network="systems",
            regress=0,
            icarus_regress=0,
        ),
        TestSpec(
            "network",
            NETWORK_MODULE,
            "WEIGHTS: a network.npz that `make compress` wrote, or a .tflite or .onnx file",
            images=10,
            icarus_images=1,
            max_images=100,
            timeout_s=LARGE_S,
            network="file",
            regress=0,
            icarus_regress=0,
        ),
        TestSpec(
            "states",
            "tb.psa_top.test_states",
            "resets, starts and packets in every state; hand-made programs and taps",
        ),
        TestSpec(
            "live",
            "tb.psa_top.test_live",
            "loads while a program runs: live packets, HOLD, WAIT, JUMP, deadlocks, resets between them",
        ),
    )
}
DEFAULT_TEST = "digits"


def block_test(block: Block, index: int) -> TestSpec:
    """A block in one of its sizes: `block_pe` in the first, `block_pe_2` in the second, and so on."""
    parameters = block.parameters[index]
    name = f"block_{block.name}" + (f"_{index + 1}" if index else "")
    shown = " ".join(f"{key}={value}" for key, value in parameters.items())
    return TestSpec(
        name,
        block.module,
        f"{block.description} ({shown})",
        timeout_s=120,
        top=block.top,
        parameters=parameters,
        regress=0.01,
    )


BLOCK_TESTS = {
    t.name: t
    for t in (block_test(block, index) for block in BLOCKS.values() for index in range(len(block.parameters)))
}


def get_test(name: str) -> TestSpec:
    """The named test, or a `TatamiError` that lists the names there are."""
    known = TESTS | BLOCK_TESTS
    if name not in known:
        raise TatamiError(
            f"TEST {name!r} is unknown; valid: {', '.join(TESTS)}, block_<name> for {', '.join(BLOCKS)}"
        )
    return known[name]
