"""The tests that `make sim` knows. To add one, add an entry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pymodel.errors import TatamiError


@dataclass(frozen=True)
class TestSpec:
    """One cocotb test module and how it is run.

    `images` and `icarus_images` are the numbers of images by default (None: the test takes no images), `max_images` the most there are.
    `env` goes to the test module; `timeout_s` ends a simulation that hangs.
    """

    __test__ = False  # not for pytest to collect

    name: str
    module: str
    description: str
    images: int | None = None
    icarus_images: int | None = None
    max_images: int | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    timeout_s: int = 900

    def default_images(self, sim: str) -> int | None:
        return self.icarus_images if sim == "icarus" else self.images


TESTS = {
    t.name: t
    for t in (
        TestSpec(
            "digits",
            "tb.accelerator.test_digits",
            "the trained digits network, packed: every output plane of every layer",
            images=100,
            icarus_images=2,
            max_images=450,
        ),
        TestSpec(
            "digits_dense",
            "tb.accelerator.test_digits",
            "the same network with every weight in a slot of its own, for comparison",
            images=10,
            icarus_images=1,
            max_images=450,
            env={"TATAMI_MODE": "dense"},
        ),
        TestSpec("random", "tb.accelerator.test_random", "random layers of every kind, drawn from SEED"),
        TestSpec("errors", "tb.accelerator.test_errors", "bad packets and programs: error code, interrupt, soft reset, next run"),
    )
}
DEFAULT_TEST = "digits"


def get_test(name: str) -> TestSpec:
    """The named test, or a `TatamiError` that lists the names there are."""
    if name not in TESTS:
        raise TatamiError(f"TEST '{name}' is unknown; valid: {', '.join(TESTS)}")
    return TESTS[name]
